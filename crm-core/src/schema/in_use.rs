//! [`DefinitionInUse`]: what stands against a change of a tenant's field.

use std::fmt;

use serde::Serialize;

use crate::EntityRef;

/// Records, or other definitions, stand against a change of a tenant's field. Nothing was written.
///
/// It names records and no values, which may be personal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DefinitionInUse {
    /// The object that has the field.
    pub object: String,
    /// The API name of the field.
    pub field: String,
    /// What records would have to be like, and which are not.
    pub failed: Vec<FailedCheck>,
    /// What else names the field.
    pub used_by: Vec<FieldUse>,
}

/// Records that are not as a changed definition wants them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailedCheck {
    /// What they would have to be like: `has_value`, `unique` (the first record with a value is not
    /// listed), `valid`, or `empty`.
    pub check: &'static str,
    /// How many are not.
    pub count: u64,
    /// The first of them by id: at most 100.
    pub records: Vec<EntityRef>,
}

/// A record that names a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct FieldUse {
    /// The record, such as a formula field or a scoring rule.
    pub record: EntityRef,
    /// Its field in which the name stands.
    pub at: String,
}

impl fmt::Display for DefinitionInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the field `{}` of {} cannot change like that",
            self.field, self.object
        )?;
        for failed in &self.failed {
            write!(
                f,
                "; mend the {} records that are not `{}`",
                failed.count, failed.check
            )?;
        }
        if !self.used_by.is_empty() {
            write!(f, "; change the {} that name it first", self.used_by.len())?;
        }
        Ok(())
    }
}

impl std::error::Error for DefinitionInUse {}

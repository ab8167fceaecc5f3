//! [`SafeChanges`]: definitions change only where records and other definitions allow it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use crm_core::engine::{CommitHook, UnitOfWork};
use crm_core::error::{Error, Result};
use crm_core::schema::{DefinitionInUse, Entity as _, FailedCheck, FieldUse, Row};
use crm_core::value::TextValue as _;
use crm_core::{Id, Record};

use crate::checks::{Looks, failures, look_for_values};
use crate::tenant::Defined;
use crate::uses::{in_definitions, object_of};
use crate::{Check, CustomField, CustomFieldOption, CustomFieldRule, Definition, FieldChange};

/// Checks every commit that changes fields or options, whichever way they were written: as they are
/// when everything is staged, so that a commit may mend what stands against it.
#[derive(Debug)]
pub(crate) struct SafeChanges;

/// What a commit does to a field.
#[derive(Default)]
struct Touched {
    field: Written,
    /// Whether a value may be none any more because of what options become.
    loses_options: bool,
}

/// Whether a commit writes a field, and what it was before.
#[derive(Default)]
enum Written {
    /// Not at all: only its options.
    #[default]
    No,
    /// It is new.
    New,
    /// It was this.
    From {
        before: Arc<Record<CustomField>>,
        is_purged: bool,
    },
}

#[async_trait]
impl CommitHook for SafeChanges {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let touched = touched(work);
        if touched.is_empty() {
            return Ok(());
        }
        let defined = Defined::load(work).await?;
        for (id, touched) in touched {
            check(work, &defined, id, &touched).await?;
        }
        Ok(())
    }
}

fn touched(work: &UnitOfWork) -> BTreeMap<Id<CustomField>, Touched> {
    let mut all: BTreeMap<Id<CustomField>, Touched> = BTreeMap::new();
    for change in work.staged() {
        if change.object() == CustomField::schema() {
            let before = change.before().cloned().and_then(Record::from_row);
            let entry = all.entry(Id::new(change.id())).or_default();
            entry.field = before.map_or(Written::New, |before| Written::From {
                before,
                is_purged: change.after().is_none(),
            });
        } else if change.object() == CustomFieldOption::schema() {
            let option = |row: Option<&Row>| {
                let row = row.filter(|row| !row.is_deleted())?;
                Record::<CustomFieldOption>::from_row(row.clone())
            };
            let (before, after) = (option(change.before()), option(change.after()));
            if let Some(before) = before {
                let loses = after.is_none_or(|after| narrows_control(&before, &after));
                all.entry(before.field_id).or_default().loses_options |= loses;
            }
        }
    }
    all
}

/// Whether an option may no longer be chosen under a value under which it could.
fn narrows_control(before: &CustomFieldOption, after: &CustomFieldOption) -> bool {
    let (old, new) = (&before.controlling_values, &after.controlling_values);
    !new.is_empty() && (old.is_empty() || old.iter().any(|value| !new.contains(value)))
}

async fn check(
    work: &mut UnitOfWork,
    defined: &Defined,
    id: Id<CustomField>,
    touched: &Touched,
) -> Result<()> {
    let Some(definition) = defined.definition(id) else {
        let Written::From { before, is_purged } = &touched.field else {
            return Ok(());
        };
        if *is_purged {
            return no_values(work, before).await;
        }
        if before.deleted_at.is_none() {
            let uses = in_definitions(work, id, before, defined).await?;
            refuse(
                before,
                Vec::new(),
                uses.into_iter().filter(is_computed).collect(),
            )?;
        }
        return Ok(());
    };
    let checks = checks(touched, &definition);
    let Some(object) = object_of(work, &definition.field).filter(|_| !checks.is_empty()) else {
        return Ok(());
    };
    let controlling = definition.field.controlling_field_id;
    let controlling = controlling.and_then(|id| defined.definition(id));
    let looks = Looks {
        object: &object,
        definition: &definition,
        controlling: controlling.as_ref(),
    };
    let looks = looks.of(work, &checks).await?;
    let failed = failures(work, &looks).await?;
    refuse(&definition.field, failed, Vec::new())?;
    for look in looks {
        work.guard(look);
    }
    Ok(())
}

/// What records are to be checked for.
fn checks(touched: &Touched, definition: &Definition) -> Vec<Check> {
    let field = &definition.field;
    let mut checks = match &touched.field {
        Written::No => Vec::new(),
        Written::From { before, .. } if before.deleted_at.is_none() => {
            let mut checks = FieldChange::between(before, field).checks().to_vec();
            let is_controlled = field.controlling_field_id.is_some()
                && before.controlling_field_id != field.controlling_field_id;
            if is_controlled && !checks.contains(&Check::Valid) {
                checks.push(Check::Valid);
            }
            checks
        }
        written => {
            let mut checks = Vec::new();
            if field.needs_value() {
                checks.push(Check::HasValue);
            }
            if field.is_unique {
                checks.push(Check::Unique);
            }
            // Values of a deleted field were not written meanwhile. Of a new one there may be some
            // from the time when the object had no definitions.
            if matches!(written, Written::New) && !field.field_type.is_computed() {
                checks.push(Check::Valid);
            }
            checks
        }
    };
    if touched.loses_options && !checks.contains(&Check::Valid) {
        checks.push(Check::Valid);
    }
    checks
}

/// A definition is removed for good once no record has a value: then its name is free.
async fn no_values(work: &UnitOfWork, field: &CustomField) -> Result<()> {
    let Some(object) = object_of(work, field) else {
        return Ok(());
    };
    let look = look_for_values(&object, field);
    let failed = failures(work, look.as_slice()).await?;
    refuse(field, failed, Vec::new())
}

/// Whether it computes or judges by the field, which it cannot do without.
pub(crate) fn is_computed(by: &FieldUse) -> bool {
    let object = by.record.object.as_str();
    object == CustomFieldRule::schema().name()
        || object == CustomField::schema().name() && by.at == CustomField::FIELD_TYPE.name()
}

pub(crate) fn refuse(
    field: &CustomField,
    failed: Vec<FailedCheck>,
    used_by: Vec<FieldUse>,
) -> Result<()> {
    if failed.is_empty() && used_by.is_empty() {
        return Ok(());
    }
    Err(Error::DefinitionInUse(Box::new(DefinitionInUse {
        object: field.object.as_str().to_owned(),
        field: field.api_name.as_str().to_owned(),
        failed,
        used_by,
    })))
}

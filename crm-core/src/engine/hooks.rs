//! Where rules and other crates take part in writing.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use super::UnitOfWork;
use crate::error::{Error, Faults, Result};
use crate::record::Record;
use crate::schema::{Entity, Row};

/// Takes part in every commit, after all changes are staged and before they are written.
///
/// The engine runs its hooks in a fixed order: custom fields, roll-ups, automation, and the audit
/// recorder last, so that it sees everything; behind it are only hooks that keep
/// [derived rows](super::EngineBuilder::derived_hook), of which no trail tells.
#[async_trait]
pub trait CommitHook: Debug + Send + Sync + 'static {
    /// Looks at the staged changes and may add to them, or refuse the commit with an error.
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()>;

    /// Whether the hook takes part in the erasure of a person too, which empties records and does
    /// nothing else. Hooks that keep rows in step with records do; what acts on what people do, or
    /// brings records in step that are emptied one after the other, does not.
    fn follows_erasure(&self) -> bool {
        true
    }

    /// What to tell a caller whose commit the storage refused because of a duplicate among rows that
    /// this hook staged: callers know nothing of such rows. `None` where they are another's.
    async fn explain_duplicate(
        &self,
        _work: &UnitOfWork,
        _object: &str,
        _fields: &[String],
    ) -> Option<Error> {
        None
    }
}

/// A rule over the records of one object that needs other records: it runs for every single write,
/// whichever way it comes, before the change is staged.
#[async_trait]
pub trait WriteRule: Debug + Send + Sync + 'static {
    /// The name of the object.
    fn object(&self) -> &'static str;

    /// Completes the record, adds faults, or refuses the write with an error.
    async fn before_write(&self, _work: &mut UnitOfWork, _write: &mut Write) -> Result<()> {
        Ok(())
    }

    /// Judges the record as it will be written, with the tenant's own fields in their stored form and
    /// formulas computed: adds faults, or refuses the write with an error. It runs after all rules
    /// completed the record.
    async fn judge(&self, _work: &mut UnitOfWork, _write: &mut Write) -> Result<()> {
        Ok(())
    }

    /// Works out what follows from the record as it is, whatever was written.
    ///
    /// A record that is given values back which it had before (a merge is undone) has those, and not
    /// what [`before_write`](Self::before_write) would make of them today. What hangs on fields that
    /// were not given back, or on other records, would then tell of a state that is past: a rule that
    /// keeps such a field works it out here.
    async fn settle(&self, _work: &mut UnitOfWork, _write: &mut Write) -> Result<()> {
        Ok(())
    }
}

/// What a write is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// What a caller, an import or a rule wants.
    Usual,
    /// The engine puts things in order: it moves deals away from a stage that is deleted, or undoes a
    /// merge. Rules that only guard a way, such as the gates of stages, do not apply. It belongs to
    /// the single write, so nothing that a caller does in the same unit of work comes under it.
    Upkeep,
    /// Like [`Upkeep`](Self::Upkeep), and the record was written since it had the values that it gets
    /// back: it is not as it was, so the gates of stages ask it whether it may be where it was.
    UpkeepInPart,
    /// Values follow from others, such as those of formulas. Like [`Upkeep`](Self::Upkeep), but a way
    /// through a gate is none of them: hosts call it too.
    Follows,
    /// The amount of a deal follows its lines, which are known to come to it.
    Lines,
}

/// A write on its way into a unit of work.
#[derive(Debug)]
pub struct Write {
    pub(super) purpose: Purpose,
    pub(super) before: Option<Row>,
    pub(super) after: Row,
    pub(super) faults: Faults,
}

impl Write {
    /// The record as it was, unless it is new.
    #[must_use]
    pub fn before<E: Entity>(&self) -> Option<&Record<E>> {
        self.before
            .as_deref()
            .and_then(|row| (row as &dyn Any).downcast_ref())
    }

    /// The record as it shall be.
    #[must_use]
    pub fn after<E: Entity>(&self) -> Option<&Record<E>> {
        (&*self.after as &dyn Any).downcast_ref()
    }

    /// Changes the record as it shall be.
    pub fn edit<E: Entity>(&mut self, change: impl FnOnce(&mut E)) {
        if let Some(record) = self.after::<E>() {
            let mut record = record.clone();
            change(&mut record.data);
            self.after = Arc::new(record);
        }
    }

    /// Whether the record is new.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.before.is_none()
    }

    /// Whether the engine puts things in order with this write.
    pub(crate) fn is_upkeep(&self) -> bool {
        !matches!(self.purpose, Purpose::Usual | Purpose::Lines)
    }

    /// Whether the record gets values back that it had, beside others that it had not then.
    pub(crate) fn is_in_part(&self) -> bool {
        self.purpose == Purpose::UpkeepInPart
    }

    /// Whether the record may go wherever the engine puts it.
    pub(crate) fn passes_gates(&self) -> bool {
        self.purpose == Purpose::Upkeep
    }

    /// Whether the amount of a deal follows its lines with this write.
    pub(crate) fn follows_lines(&self) -> bool {
        self.purpose == Purpose::Lines
    }

    /// Whether this write deletes the record.
    #[must_use]
    pub fn deletes(&self) -> bool {
        self.after.is_deleted()
    }

    /// Where the rule puts the faults it finds, so that all are told together.
    pub const fn faults(&mut self) -> &mut Faults {
        &mut self.faults
    }
}

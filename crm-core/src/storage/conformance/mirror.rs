//! The naive model of a tenant: a map of rows, and what a commit to it must answer.
//!
//! The rules of the port are written here once more, over the Rust types and without the schema.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Outcome;
use super::harness::record;
use super::objects::{Part, Specimen};
use crate::Id;
use crate::schema::{Entity, ObjectRef, Row};
use crate::storage::{Change, Committed, Expectation, StorageError, Unreferenced};

pub(super) type Rows = BTreeMap<Uuid, Row>;

/// What must be stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) specimens: Rows,
    pub(super) parts: Rows,
}

/// What a commit may answer, in the words of [`StorageError`].
pub(super) type Answer = String;

pub(super) fn answer_of(came: &Result<Committed, StorageError>) -> Answer {
    match came {
        Ok(_) => "ok".into(),
        Err(StorageError::Conflict { .. }) => "conflict".into(),
        Err(StorageError::Duplicate { object, fields }) => {
            format!("duplicate {object} {}", fields.join("+"))
        }
        Err(StorageError::Reference { object, field }) => format!("reference {object} {field}"),
        Err(StorageError::Referenced { object, by, field }) => {
            format!("referenced {object} {by} {field}")
        }
        Err(other) => format!("{other:?}"),
    }
}

impl Model {
    pub(super) fn rows(&self, object: &ObjectRef) -> &Rows {
        if object == Specimen::schema() {
            &self.specimens
        } else {
            &self.parts
        }
    }

    fn rows_mut(&mut self, object: &ObjectRef) -> &mut Rows {
        if object == Specimen::schema() {
            &mut self.specimens
        } else {
            &mut self.parts
        }
    }

    pub(super) fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            let rows = self.rows_mut(change.object());
            match change.after() {
                Some(after) => rows.insert(after.id(), after.clone()),
                None => rows.remove(&change.id()),
            };
        }
    }

    /// Everything that a commit may answer.
    pub(super) fn answers(
        &self,
        changes: &[Change],
        expects: &[Expectation],
        unreferenced: &[Unreferenced],
    ) -> Outcome<BTreeSet<Answer>> {
        let mut answers = BTreeSet::new();
        let at = |object: &ObjectRef, id: Uuid| self.rows(object).get(&id).map(|row| row.version());
        let stale = changes.iter().any(|change| {
            change
                .before()
                .is_some_and(|before| at(change.object(), change.id()) != Some(before.version()))
        });
        let failed = expects
            .iter()
            .any(|expected| at(&expected.object, expected.id) != Some(expected.version));
        if stale || failed {
            answers.insert("conflict".into());
            return Ok(answers);
        }
        let mut after = self.clone();
        after.apply(changes);
        for change in changes {
            let object = change.object().name();
            if change.before().is_none() && at(change.object(), change.id()).is_some() {
                answers.insert(format!("duplicate {object} id"));
            }
            match change.after() {
                Some(row) if change.object() == Specimen::schema() => {
                    after.specimen_faults(change.before(), row, &mut answers)?;
                }
                Some(row) => after.part_faults(change.before(), row, &mut answers)?,
                None => after.left_behind(change, &mut answers)?,
            }
        }
        for wanted in unreferenced {
            if after.is_referred_to(wanted.id)? {
                answers.insert("conflict".into());
            }
        }
        if answers.is_empty() {
            answers.insert("ok".into());
        }
        Ok(answers)
    }

    fn is_live(&self, specimen: Uuid) -> bool {
        self.specimens
            .get(&specimen)
            .is_some_and(|row| !row.is_deleted())
    }

    fn specimen_faults(
        &self,
        before: Option<&Row>,
        row: &Row,
        answers: &mut BTreeSet<Answer>,
    ) -> Outcome {
        let own = record::<Specimen>(row)?;
        for other in self
            .specimens
            .values()
            .filter(|other| other.id() != row.id())
        {
            let theirs = record::<Specimen>(other)?;
            let folded = |code: &Option<String>| code.as_ref().map(|code| code.to_lowercase());
            let live = !row.is_deleted() && !other.is_deleted();
            if live && own.code.is_some() && folded(&own.code) == folded(&theirs.code) {
                answers.insert("duplicate specimen code".into());
            }
            if own.serial.is_some() && own.serial == theirs.serial {
                answers.insert("duplicate specimen serial".into());
            }
        }
        let old = before
            .map(record::<Specimen>)
            .transpose()?
            .and_then(|old| old.parent_id);
        let counts = is_checked(before, row, old == own.parent_id);
        if let (Some(parent), true) = (own.parent_id, counts)
            && !self.is_live(parent.uuid())
        {
            answers.insert("reference specimen parent_id".into());
        }
        Ok(())
    }

    fn part_faults(
        &self,
        before: Option<&Row>,
        row: &Row,
        answers: &mut BTreeSet<Answer>,
    ) -> Outcome {
        let own = record::<Part>(row)?;
        for other in self.parts.values().filter(|other| other.id() != row.id()) {
            let theirs = record::<Part>(other)?;
            let live = !row.is_deleted() && !other.is_deleted();
            let same = own.specimen_id == theirs.specimen_id && own.place == theirs.place;
            if live && own.place.is_some() && same {
                answers.insert("duplicate part specimen_id+place".into());
            }
        }
        let old = before.map(record::<Part>).transpose()?;
        let same = old
            .as_ref()
            .is_some_and(|old| old.specimen_id == own.specimen_id);
        if is_checked(before, row, same) && !self.is_live(own.specimen_id.uuid()) {
            answers.insert("reference part specimen_id".into());
        }
        let same = old.is_some_and(|old| old.copy_of_id == own.copy_of_id);
        if let Some(copy_of) = own.copy_of_id
            && is_checked(before, row, same)
            && !self.is_live(copy_of.uuid())
        {
            answers.insert("reference part copy_of_id".into());
        }
        Ok(())
    }

    /// Whether a row that is not deleted refers to a specimen.
    fn is_referred_to(&self, specimen: Uuid) -> Outcome<bool> {
        let id = Some(Id::new(specimen));
        for row in self.specimens.values().filter(|row| !row.is_deleted()) {
            if record::<Specimen>(row)?.parent_id == id {
                return Ok(true);
            }
        }
        for row in self.parts.values().filter(|row| !row.is_deleted()) {
            let part = record::<Part>(row)?;
            if Some(part.specimen_id) == id || part.copy_of_id == id || part.owner_id == id {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Who refers to a row that is removed.
    fn left_behind(&self, change: &Change, answers: &mut BTreeSet<Answer>) -> Outcome {
        if change.object() != Specimen::schema() {
            return Ok(());
        }
        let id = Id::new(change.id());
        for row in self.specimens.values() {
            if record::<Specimen>(row)?.parent_id == Some(id) {
                answers.insert("referenced specimen specimen parent_id".into());
            }
        }
        for row in self.parts.values() {
            let part = record::<Part>(row)?;
            if part.specimen_id == id {
                answers.insert("referenced specimen part specimen_id".into());
            }
            if part.copy_of_id == Some(id) {
                answers.insert("referenced specimen part copy_of_id".into());
            }
        }
        Ok(())
    }
}

/// Whether a reference must lead to a live row: of live rows that are new, restored or have
/// changed it.
fn is_checked(before: Option<&Row>, after: &Row, same: bool) -> bool {
    let restored = before.is_some_and(|before| before.is_deleted());
    !after.is_deleted() && (before.is_none() || restored || !same)
}

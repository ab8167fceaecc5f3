//! Defects in what is sealed of rows.

use std::sync::Arc;

use chrono::DateTime;
use uuid::Uuid;

use super::check::Checks;
use super::store::{Stored, anywhere, owner, pause, sibling};
use super::{BrokenStorage, Defect};
use crate::schema::{Dynamic, Meta, Row};
use crate::storage::{Change, ChangeSet, Scope, StorageError, resealed};

/// The row with its values alone.
pub(super) fn without_sealed(row: &Row) -> Row {
    if row.sealed().is_none() {
        return row.clone();
    }
    let values = row.values();
    let typed = row.object().build(row.meta(), values.clone());
    typed.unwrap_or_else(|_| Arc::new(Dynamic::new(row.object().clone(), row.meta(), values)))
}

/// The row with other sealed bytes.
fn with_sealed(row: &Row, sealed: &[u8]) -> Row {
    let made = Dynamic::new(row.object().clone(), row.meta(), row.values());
    Arc::new(made.with_sealed(sealed))
}

impl BrokenStorage {
    /// The row as the defect lets it be stored; `old` is the stored one.
    pub(super) fn distorted_seal(&self, change: &Change, old: Option<&Row>, row: Row) -> Row {
        let was = old.and_then(|old| old.sealed());
        let is_update = change.before().is_some();
        match self.defect {
            Defect::KeepsSealed if is_update && row.sealed().is_none() => {
                was.map_or(row.clone(), |sealed| with_sealed(&row, sealed))
            }
            Defect::SealsOnInsert if is_update => match was {
                Some(sealed) => with_sealed(&row, sealed),
                None => without_sealed(&row),
            },
            Defect::UpdatesByDifference => self.by_difference(change, old, &row),
            _ => row,
        }
    }

    /// The stored row with the values in which the update says that it differs.
    fn by_difference(&self, change: &Change, old: Option<&Row>, row: &Row) -> Row {
        let (Some(before), Some(old)) = (change.before(), old) else {
            return row.clone();
        };
        let differing = row.differing(&**before);
        let mut values = old.values();
        for (place, value) in values.iter_mut().enumerate() {
            let index = place + crate::schema::SYSTEM_FIELDS;
            if differing.contains(index) {
                *value = row.value(index).into_owned();
            }
        }
        let sealed = row.sealed().map(<[u8]>::to_vec);
        let built = row.object().build_sealed(row.meta(), values, sealed);
        built.unwrap_or_else(|_| row.clone())
    }

    /// The stored row that one is taken for.
    fn stored_for(&self, stored: &Stored, scope: &Scope, row: &Row) -> Option<Row> {
        let (object, id) = (row.object(), row.id());
        let own = stored.now.find(scope, object.name(), id);
        match self.defect {
            Defect::ResealsForeign => own.or_else(|| anywhere(&stored.now, object, id)),
            Defect::ResealsSiblings => sibling(&stored.now, scope, object, id).or(own),
            Defect::ResealsInsert => own.or_else(|| Some(row.clone())),
            _ => own,
        }
    }

    /// What the row becomes.
    fn resealed_as(&self, before: &Row, row: &Row) -> Result<Option<Row>, StorageError> {
        let after = match self.defect {
            Defect::ResealsEverything => Some(row.clone()),
            Defect::ResealsBytesOnly => match row.sealed() {
                Some(sealed) => Some(with_sealed(before, sealed)),
                None => Some(without_sealed(before)),
            },
            _ => resealed(before, row)?,
        };
        Ok(after.map(|after| match self.defect {
            Defect::ResealsRaiseVersions => after.with_meta(Meta {
                version: after.version() + 1,
                ..after.meta()
            }),
            _ => after,
        }))
    }

    /// Seals rows anew, as the defect has it.
    pub(super) fn reseal_rows(&self, scope: &Scope, rows: &[Row]) -> Result<usize, StorageError> {
        if scope.tenant().is_none() {
            return Ok(0);
        }
        let mut state = self.state();
        let mut changes = Vec::new();
        for row in rows {
            let Some(before) = self.stored_for(&state, scope, row) else {
                continue;
            };
            let is_stale = before.version() != row.version();
            if is_stale && !self.has(Defect::ResealsAnyVersion) {
                continue;
            }
            if let Some(after) = self.resealed_as(&before, row)? {
                changes.push(Change::Update { before, after });
            }
        }
        if self.has(Defect::ResealsWithoutLock) {
            drop(state);
            pause();
            state = self.state();
        }
        let at = DateTime::UNIX_EPOCH;
        let all = ChangeSet::new(Uuid::nil(), at, changes, Vec::new());
        if self.has(Defect::ResealsUntilBad) {
            for change in &all.changes {
                let one = ChangeSet::new(Uuid::nil(), at, vec![change.clone()], Vec::new());
                self.checker(&state.now, scope, &one).run(Checks::UNIQUE)?;
                self.reseal_row(&mut state, scope, change);
            }
            return Ok(all.changes.len());
        }
        if !self.has(Defect::ResealsUnchecked) {
            self.checker(&state.now, scope, &all).run(Checks::UNIQUE)?;
        }
        for change in &all.changes {
            self.reseal_row(&mut state, scope, change);
            if self.has(Defect::ResealsOneByOne) {
                drop(state);
                pause();
                state = self.state();
            }
        }
        Ok(match self.defect {
            Defect::ResealsCountAll => rows.len(),
            _ => all.changes.len(),
        })
    }

    fn reseal_row(&self, state: &mut Stored, scope: &Scope, change: &Change) {
        let Some(after) = change.after() else {
            return;
        };
        let whose = match self.defect {
            Defect::ResealsForeign => owner(&state.now, scope, after.object(), after.id()),
            _ => *scope,
        };
        if self.has(Defect::ResealsSiblings) {
            for object in super::super::instances() {
                let twin = state.now.find(scope, object.name(), after.id());
                if let (Some(twin), Some(sealed)) = (twin, after.sealed()) {
                    state.now.put(scope, with_sealed(&twin, sealed));
                }
            }
        }
        state.now.put(&whose, after.clone());
        if self.has(Defect::ResealsMoveEntries) {
            state.now.move_to_end(&whose, after);
        }
        state.before = state.now.clone();
    }
}

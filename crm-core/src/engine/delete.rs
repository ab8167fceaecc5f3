//! Deleting, restoring and purging, and what they do to records that refer to the one concerned.

use std::cmp::Reverse;
use std::collections::HashSet;

use uuid::Uuid;

use super::UnitOfWork;
use super::work::{forbidden, not_found};
use crate::error::{Error, Faults, FieldError, Result, RuleViolation};
use crate::merging::{ensure_not_merged, keys_of};
use crate::query::{Condition, Query};
use crate::schema::{
    Lifecycle, Link, Meta, ObjectRef, ObjectScope, OnDelete, Row, Value, ValueRef,
};
use crate::storage::{Change, ChangeSet, Unreferenced};

/// What is said about a write that empties a reference, as the record that it led to is deleted.
pub(crate) const BY_DELETION: &str = "by deletion";

impl UnitOfWork {
    /// Deletes a record so that it can be restored.
    pub(crate) async fn delete(&mut self, object: &ObjectRef, id: Uuid) -> Result<()> {
        let row = self.live_row(object, id).await?;
        let mark = self.mark();
        let result = self.delete_row(row).await;
        self.settle(mark, result)
    }

    pub(crate) async fn delete_row(&mut self, row: Row) -> Result<()> {
        // Parts of each other: the deletion of this record is under way.
        let going = (row.object().name().to_owned(), row.id());
        if !self.going.insert(going.clone()) {
            return Ok(());
        }
        let deleted = self.delete_with_parts(row).await;
        self.going.remove(&going);
        deleted
    }

    async fn delete_with_parts(&mut self, row: Row) -> Result<()> {
        let object = row.object().clone();
        for link in self.links_to(&object).await? {
            if link.object.lifecycle() != Lifecycle::Full {
                // Logs stay as they are until the record is purged.
                continue;
            }
            for other in self.linked(&link, row.id(), false).await? {
                match link.on_delete {
                    OnDelete::Restrict => return Err(referenced(&object, &link)),
                    OnDelete::Cascade => Box::pin(self.delete_row(other)).await?,
                    OnDelete::SetNull => match emptied(self, &other, &link)? {
                        Some(after) => Box::pin(self.stage_emptied(other, after)).await?,
                        None => Box::pin(self.delete_row(other)).await?,
                    },
                }
            }
        }
        // The cascade may have come back to this record by another way.
        let row = self.live_row(&object, row.id()).await?;
        let meta = Meta {
            deleted_at: Some(self.now()),
            ..self.next_meta(&row)
        };
        let after = row.with_meta(meta);
        Box::pin(self.stage(Some(row), after, Faults::default())).await?;
        Ok(())
    }

    /// Stages a record that lost what it referred to, and says so to the rules of records that nobody
    /// else may change.
    async fn stage_emptied(&mut self, row: Row, after: Row) -> Result<()> {
        let id = row.id();
        let said = self.take_note(id);
        self.set_note(id, Some(BY_DELETION));
        let staged = self.stage(Some(row), after, Faults::default()).await;
        self.set_note(id, said.as_deref());
        staged.map(|_| ())
    }

    /// Brings a deleted record back, and the records that were deleted with it.
    pub(crate) async fn restore(&mut self, object: &ObjectRef, id: Uuid) -> Result<Row> {
        let row = match self.row(object, id).await? {
            Some(row) if row.is_deleted() => row,
            _ => return Err(not_found(object, id)),
        };
        ensure_not_merged(self, object, id).await?;
        let mark = self.mark();
        let result = self.restore_row(row).await;
        self.settle(mark, result)
    }

    pub(crate) async fn restore_row(&mut self, row: Row) -> Result<Row> {
        let object = row.object().clone();
        let deleted_at = row.meta().deleted_at;
        let meta = Meta {
            deleted_at: None,
            ..self.next_meta(&row)
        };
        let after = row.with_meta(meta);
        let restored = Box::pin(self.stage(Some(row), after, Faults::default())).await?;
        for link in self.links_to(&object).await? {
            if link.on_delete == OnDelete::Restrict || link.object.lifecycle() != Lifecycle::Full {
                continue;
            }
            let others = self.linked(&link, restored.id(), true).await?;
            let others = others.into_iter();
            let others = others.filter(|other| other.meta().deleted_at == deleted_at);
            let mut others: Vec<_> = others
                .map(|row| (live_keys(&row, link.field), row))
                .collect();
            // Two that lead on to records that became one meanwhile say the same: one comes back, and
            // that is the one that counts where only one does.
            others.sort_by_key(|(keys, _)| Reverse(keys.len()));
            let mut said = HashSet::new();
            for (keys, other) in others {
                if keys.iter().any(|key| said.contains(key)) {
                    continue;
                }
                said.extend(keys);
                Box::pin(self.restore_row(other)).await?;
            }
        }
        Ok(restored)
    }

    /// Removes a deleted record for good.
    pub(crate) async fn purge(&mut self, object: &ObjectRef, id: Uuid) -> Result<()> {
        if object.lifecycle() != Lifecycle::Full || object.scope() == ObjectScope::Platform {
            return Err(forbidden("such records are not removed one by one"));
        }
        let row = self
            .row(object, id)
            .await?
            .ok_or_else(|| not_found(object, id))?;
        if !row.is_deleted() {
            return Err(RuleViolation::new(
                "not_deleted",
                "G-16",
                "delete the record before it is removed for good",
            )
            .into());
        }
        let mark = self.mark();
        let result = self.purge_row(row).await;
        self.settle(mark, result)
    }

    async fn purge_row(&mut self, row: Row) -> Result<()> {
        let going = (row.object().name().to_owned(), row.id());
        if !self.going.insert(going.clone()) {
            return Ok(());
        }
        let purged = self.purge_with_parts(row).await;
        self.going.remove(&going);
        purged
    }

    async fn purge_with_parts(&mut self, row: Row) -> Result<()> {
        let object = row.object().clone();
        for link in self.links_to(&object).await? {
            let leading = match link.custom() {
                Some(_) => self.led_by_custom(&link, &[row.id()], None).await?,
                None => {
                    let all = Query::new(&link.object, link.to(&[row.id()]));
                    self.select(&all).await?
                }
            };
            for other in leading {
                match link.on_delete {
                    OnDelete::Restrict => return Err(referenced(&object, &link)),
                    OnDelete::Cascade => Box::pin(self.purge_row(other)).await?,
                    OnDelete::SetNull => match emptied(self, &other, &link)? {
                        Some(after) => Box::pin(self.stage_emptied(other, after)).await?,
                        None => Box::pin(self.purge_row(other)).await?,
                    },
                }
            }
        }
        self.remove(&row);
        Ok(())
    }

    /// What nothing may refer to any more when the commit is written: each record that it deletes.
    ///
    /// Whatever refers to it was found and dealt with above; a record that appeared since was not,
    /// and makes the commit a conflict. Logs stay as they are.
    pub(super) async fn unreferenced(&self) -> Result<Vec<Unreferenced>> {
        let is_live = |row: Option<&Row>| row.is_some_and(|row| !row.is_deleted());
        let mut unreferenced = Vec::new();
        for change in self.staged() {
            let is_kept = change.after().is_some_and(|row| row.is_deleted());
            let is_derived = change.object().lifecycle() == Lifecycle::Derived;
            if !is_kept || !is_live(change.before()) || is_derived {
                continue;
            }
            unreferenced.extend(self.led_to_by_none(change.id()));
            for link in self.links_to(change.object()).await? {
                if link.object.lifecycle() == Lifecycle::Full && link.custom().is_none() {
                    unreferenced.push(Unreferenced {
                        object: link.object,
                        field: link.field,
                        id: change.id(),
                    });
                }
            }
        }
        Ok(unreferenced)
    }

    pub(crate) async fn links_to(&self, object: &ObjectRef) -> Result<Vec<Link>> {
        Ok(self.registry().await?.links_to(object.name()))
    }

    /// The live, or the deleted, rows that lead to a record.
    async fn linked(&self, link: &Link, id: Uuid, deleted: bool) -> Result<Vec<Row>> {
        if link.custom().is_some() {
            return self.led_by_custom(link, &[id], Some(deleted)).await;
        }
        let state = if deleted {
            Condition::Not(Box::new(Condition::not_deleted()))
        } else {
            Condition::not_deleted()
        };
        let condition = link.to(&[id]).and(state);
        self.select(&Query::new(&link.object, condition)).await
    }
}

/// What a row says in the unique keys over one of its fields, once it is live.
fn live_keys(row: &Row, field: usize) -> Vec<(String, usize, String)> {
    let live = row.with_meta(Meta {
        deleted_at: None,
        ..row.meta()
    });
    keys_of(&*live, Some(&[field])).collect()
}

/// The references to deleted records that the change set itself leaves behind, such as one that was
/// emptied by the deletion and then written again: no other attempt at the commit would fare better.
pub(super) fn kept_references(changes: &ChangeSet) -> Vec<FieldError> {
    let mut kept = Vec::new();
    for after in changes.changes.iter().filter_map(Change::after) {
        if after.is_deleted() {
            continue;
        }
        for wanted in &changes.unreferenced {
            let refers = after.value(wanted.field) == ValueRef::Uuid(wanted.id);
            if refers && wanted.object == *after.object() {
                kept.push(FieldError::missing_record(
                    wanted.object.field_name(wanted.field),
                ));
            }
        }
    }
    kept
}

/// The deletion is refused because of a reference.
fn referenced(object: &ObjectRef, by: &Link) -> Error {
    Error::Reference {
        object: object.name().to_owned(),
        by: by.object.name().to_owned(),
        field: by.object.path_at(by.field),
    }
}

/// The row without its reference; `None` where its own rules do not allow it without, as an
/// activity needs a record that it belongs to.
fn emptied(work: &UnitOfWork, row: &Row, link: &Link) -> Result<Option<Row>> {
    let mut values = row.values();
    for place in link.fields() {
        link.object.lay(&mut values, place, Value::Null);
    }
    let after = match row.with_values(work.next_meta(row), values) {
        Ok(after) => after,
        Err(_) => return Ok(None),
    };
    let mut faults = Faults::default();
    after.check(&mut faults);
    Ok(faults.is_empty().then_some(after))
}

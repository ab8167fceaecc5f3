//! Entries of logs that are moved out of the way, or removed, when they are old.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use crm_core::query::{Comparison, Condition, FieldAt, Query};
use crm_core::schema::{Entity as _, Lifecycle, Meta, ObjectRef, Row, Value, system};
use crm_core::storage::{DroppedEntries, FeedPosition, StorageError};
use crm_core::{Actor, Record, Stamp};

use crate::MemoryStorage;
use crate::table::{Feed, Table};

/// How many rows are moved at once: others write in between.
const BATCH: usize = 1_000;

impl MemoryStorage {
    /// Moves the entries of a log that were made before a moment, of all tenants, to another log with
    /// the same fields, as they are: audit events to their archive (C-070, C-106). Gives their number.
    ///
    /// Give the beginning of a month, so that the same is moved as in a database, where whole months
    /// are. Every entry is in one of the two at each moment, and keeps its place in the feed.
    /// Calling it again moves nothing more.
    ///
    /// ```
    /// use crm_core::schema::{FieldSchema, FieldType, ObjectSchema};
    /// use crm_storage_memory::MemoryStorage;
    ///
    /// let log = ObjectSchema::builder("call", "calls")
    ///     .log()
    ///     .field(FieldSchema::new("number", FieldType::text(20)))
    ///     .build();
    /// let archive = log.copied_as("archived_call", "calls_archive", "A call of long ago.");
    /// let storage = MemoryStorage::new();
    /// let moved = storage.move_entries(&log, &archive, "2026-01-01T00:00:00Z".parse().unwrap())?;
    /// assert_eq!(moved, 0);
    /// # Ok::<(), crm_core::storage::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] where an entry does not fit, and for objects that are no logs.
    pub fn move_entries(
        &self,
        from: &ObjectRef,
        to: &ObjectRef,
        before: DateTime<Utc>,
    ) -> Result<u64, StorageError> {
        check(from)?;
        check(to)?;
        self.take(from, Some(to), before)
    }

    /// Removes the entries of a log, such as the archive, that were made before a moment, of all
    /// tenants, for good. Gives their number. Of a log that is followed, [`DroppedEntries`] tell that
    /// they are gone.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] for an object that is no log.
    pub fn drop_entries(
        &self,
        object: &ObjectRef,
        before: DateTime<Utc>,
    ) -> Result<u64, StorageError> {
        check(object)?;
        self.take(object, None, before)
    }

    fn take(
        &self,
        from: &ObjectRef,
        to: Option<&ObjectRef>,
        before: DateTime<Utc>,
    ) -> Result<u64, StorageError> {
        let old = Condition::Compare {
            field: FieldAt::new(system::CREATED_AT),
            op: Comparison::Lt,
            value: Value::Timestamp(before),
        };
        let query = Query::new(from, old).limit(BATCH);
        let mut taken: u64 = 0;
        for tenant in self.spaces.tenant_ids() {
            loop {
                let count = self.spaces.write(tenant, false, |mut writer| {
                    let here = writer.ensure(from);
                    let there = to.map(|to| (to, writer.ensure(to)));
                    let is_lost = to.is_none() && from.is_fed();
                    let told = is_lost.then(|| writer.ensure(DroppedEntries::schema()));
                    let rows = writer.view().select(&query);
                    let feed = writer.view().at(here).and_then(Table::feed);
                    let mut edits = Vec::with_capacity(2 * rows.len() + 1);
                    let mut lost = None;
                    for row in &rows {
                        let id = row.id();
                        let commit = feed.and_then(|feed: &Feed| feed.commit_of(id));
                        let position = FeedPosition::new(commit.unwrap_or_default(), id);
                        lost = lost.max(Some(position));
                        edits.push((here, id, None, commit));
                        if let Some((to, place)) = there {
                            edits.push((place, id, Some(moved(row, to)?), commit));
                        }
                    }
                    let count = rows.len();
                    if let Some((place, until)) = told.zip(lost) {
                        let row = dropped(from, until, &rows, before);
                        edits.push((place, row.id(), Some(row), None));
                    }
                    writer.publish_at(edits.into_iter());
                    Ok::<usize, StorageError>(count)
                })?;
                taken = taken.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                if count < BATCH {
                    break;
                }
            }
        }
        Ok(taken)
    }
}

fn moved(row: &Row, to: &ObjectRef) -> Result<Row, StorageError> {
    let sealed = row.sealed().map(<[u8]>::to_vec);
    let built = to.build_sealed(row.meta(), row.values(), sealed);
    built.map_err(|_| corrupt(to))
}

/// What tells of entries that are dropped, the last one of them by its position.
fn dropped(object: &ObjectRef, until: FeedPosition, rows: &[Row], now: DateTime<Utc>) -> Row {
    let last_at = rows.iter().map(|row| row.meta().created.at).max();
    let entry = DroppedEntries::new(
        object.name(),
        until.to_string(),
        i64::try_from(rows.len()).unwrap_or(i64::MAX),
        last_at.unwrap_or(now),
    );
    let by = Actor::System;
    Arc::new(Record::new(
        Meta::first(until.id(), Stamp { at: now, by }),
        entry,
    ))
}

fn check(object: &ObjectRef) -> Result<(), StorageError> {
    match object.lifecycle() {
        Lifecycle::Log => Ok(()),
        _ => Err(corrupt(object)),
    }
}

fn corrupt(object: &ObjectRef) -> StorageError {
    StorageError::Corrupt {
        object: object.name().to_owned(),
        fields: Vec::new(),
    }
}

//! [`Harness`]: the storage under test; [`Bench`]: one fresh tenant of it, with what cases need.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::expect::expect_same;
use super::objects::registry;
use super::runtime::{Spawner, join_all, on_threads};
use super::{BoxFuture, Failure, Outcome, ensure_eq};
use crate::Id;
use crate::query::{Condition, Filter, Query};
use crate::record::{Actor, Record, Stamp};
use crate::schema::{Entity, Meta, ObjectRef, Row, Value};
use crate::storage::{
    Change, ChangeSet, Committed, Expectation, Guard, Scope, Storage, StorageError, Unreferenced,
};
use crate::tenancy::Tenant;

/// The storage under test, and how to run workers beside each other.
#[derive(Clone)]
pub struct Harness {
    storage: Arc<dyn Storage>,
    spawner: Spawner,
    patience: Duration,
}

impl Harness {
    /// A harness that gives each worker a thread of its own, for storages that need no runtime.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            storage,
            spawner: on_threads(),
            patience: Duration::from_secs(60),
        }
    }

    /// Lets `spawn` start the workers, for storages whose futures need a runtime:
    ///
    /// ```ignore
    /// let harness = Harness::new(storage).spawn_with(|worker| drop(tokio::spawn(worker)));
    /// ```
    #[must_use]
    pub fn spawn_with(
        mut self,
        spawn: impl Fn(BoxFuture<'static, ()>) + Send + Sync + 'static,
    ) -> Self {
        self.spawner = Arc::new(spawn);
        self
    }

    /// How long a case waits for entries of a feed before it takes them for lost; a minute if
    /// nothing is said. A server that others use too may hold a feed up for a while.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// A tenant that nobody has used.
    pub(super) fn bench(&self) -> Bench {
        let tenant = Id::new(new_id());
        Bench {
            harness: self.clone(),
            tenant,
            scope: Scope::Tenant(tenant),
        }
    }
}

impl fmt::Debug for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness")
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}

/// One fresh tenant.
#[derive(Clone, Debug)]
pub(super) struct Bench {
    harness: Harness,
    pub(super) tenant: Id<Tenant>,
    pub(super) scope: Scope,
}

impl Bench {
    pub(super) fn storage(&self) -> &dyn Storage {
        &*self.harness.storage
    }

    /// How long to wait for what a storage may give a moment later.
    pub(super) const fn patience(&self) -> Duration {
        self.harness.patience
    }

    /// Runs all workers at the same time.
    pub(super) async fn workers<T: Send + 'static>(
        &self,
        workers: Vec<BoxFuture<'static, Outcome<T>>>,
    ) -> Outcome<Vec<T>> {
        join_all(&self.harness.spawner, workers)
            .await?
            .into_iter()
            .collect()
    }

    pub(super) async fn commit(&self, changes: Vec<Change>) -> Result<Committed, StorageError> {
        self.commit_expecting(changes, Vec::new()).await
    }

    pub(super) async fn commit_expecting(
        &self,
        changes: Vec<Change>,
        expects: Vec<Expectation>,
    ) -> Result<Committed, StorageError> {
        self.commit_all(changes, expects, Vec::new()).await
    }

    /// A commit that leaves nothing behind which refers to these rows.
    pub(super) async fn commit_leaving(
        &self,
        changes: Vec<Change>,
        unreferenced: Vec<Unreferenced>,
    ) -> Result<Committed, StorageError> {
        self.commit_all(changes, Vec::new(), unreferenced).await
    }

    pub(super) async fn commit_guarded(
        &self,
        changes: Vec<Change>,
        guard: impl Guard + 'static,
    ) -> Result<Committed, StorageError> {
        let changes = ChangeSet::new(new_id(), now(), changes, Vec::new());
        let changes = changes.with_guards(vec![Arc::new(guard)]);
        let changes = changes.with_objects(super::instances());
        self.storage().commit(&self.scope, &changes).await
    }

    pub(super) async fn commit_all(
        &self,
        changes: Vec<Change>,
        expects: Vec<Expectation>,
        unreferenced: Vec<Unreferenced>,
    ) -> Result<Committed, StorageError> {
        let changes = ChangeSet::new(new_id(), now(), changes, expects);
        let changes = changes.with_unreferenced(unreferenced);
        let changes = changes.with_objects(super::instances());
        self.storage().commit(&self.scope, &changes).await
    }

    /// A commit that must succeed and say how many rows it wrote.
    pub(super) async fn apply(&self, changes: Vec<Change>) -> Outcome {
        let count = changes.len();
        let committed = self.commit(changes).await?;
        ensure_eq!(
            committed.rows,
            count,
            "the number of rows that a commit wrote"
        );
        Ok(())
    }

    pub(super) async fn insert(&self, rows: impl IntoIterator<Item = Row> + Send) -> Outcome {
        let changes = rows.into_iter().map(insertion).collect();
        self.apply(changes).await
    }

    pub(super) async fn get(&self, object: &ObjectRef, ids: &[Uuid]) -> Outcome<Vec<Row>> {
        Ok(self.storage().get(&self.scope, object, ids).await?)
    }

    /// The row with this id, which must be there.
    pub(super) async fn row(&self, object: &ObjectRef, id: Uuid) -> Outcome<Row> {
        let mut rows = self.get(object, &[id]).await?;
        match (rows.pop(), rows.len()) {
            (Some(row), 0) => Ok(row),
            (_, more) => Err(Failure::new(format!(
                "expected one {} by its id; {} came",
                object.name(),
                if more == 0 { "none" } else { "several" }
            ))),
        }
    }

    /// The stored row that has the id of `row`.
    pub(super) async fn again(&self, row: &Row) -> Outcome<Row> {
        self.row(row.object(), row.id()).await
    }

    pub(super) async fn select(&self, query: &Query) -> Outcome<Vec<Row>> {
        Ok(self.storage().select(&self.scope, query).await?)
    }

    /// Every row of an object, by id.
    pub(super) async fn all(&self, object: &ObjectRef) -> Outcome<Vec<Row>> {
        self.select(&Query::new(object, Condition::all())).await
    }

    /// The ids of the rows that fulfil a filter, by id.
    pub(super) async fn find(&self, object: &ObjectRef, filter: &Filter) -> Outcome<Vec<Uuid>> {
        let condition = Condition::bind(filter, object, &registry())?;
        Ok(ids(&self.select(&Query::new(object, condition)).await?))
    }

    /// Checks that the stored row is exactly this one.
    pub(super) async fn expect_stored(&self, row: &Row) -> Outcome {
        let stored = self.again(row).await?;
        expect_same(&stored, row, "the stored row")
    }

    /// Checks that the row is not there.
    pub(super) async fn expect_gone(&self, row: &Row) -> Outcome {
        let found = self.get(row.object(), &[row.id()]).await?;
        ensure_eq!(
            found.len(),
            0,
            "how many rows are left of a {}",
            row.object().name()
        );
        Ok(())
    }

    /// All rows of the suite's objects of the tenant, to compare before and after.
    pub(super) async fn everything(&self) -> Outcome<Vec<Row>> {
        let mut rows = Vec::new();
        for object in super::objects().into_iter().chain(super::instances()) {
            rows.extend(self.all(&object).await?);
        }
        Ok(rows)
    }
}

/// A new id; ids made later are greater. No two runs make the same, so that they may share one
/// database.
pub(super) fn new_id() -> Uuid {
    static RUN: OnceLock<u64> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // The keys of a `RandomState` are the one source of randomness in the standard library.
    let run = RUN.get_or_init(|| RandomState::new().hash_one(0_u8)) & 0xFFFF_FFFF_FFFF;
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    let bits = u128::from(run) << 80 | 0x7 << 76 | 0x2 << 62 | u128::from(count);
    Uuid::from_u128(bits)
}

/// A moment; moments asked for later are later.
pub(super) fn now() -> DateTime<Utc> {
    static TICKS: AtomicU64 = AtomicU64::new(0);
    let ticks = TICKS.fetch_add(1, Ordering::Relaxed);
    moment(1_768_467_600) + TimeDelta::microseconds(i64::try_from(ticks).unwrap_or_default())
}

/// So many seconds after 1970.
pub(super) fn moment(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

/// A moment from its text form.
pub(super) fn at(text: &str) -> Outcome<DateTime<Utc>> {
    text.parse()
        .map_err(|_| Failure::new(format!("the suite holds a moment that is none: {text}")))
}

/// A day from its text form.
pub(super) fn day(text: &str) -> Outcome<NaiveDate> {
    text.parse()
        .map_err(|_| Failure::new(format!("the suite holds a day that is none: {text}")))
}

/// A decimal from its text form.
pub(super) fn dec(text: &str) -> Outcome<Decimal> {
    Decimal::from_str_exact(text)
        .map_err(|_| Failure::new(format!("the suite holds a decimal that is none: {text}")))
}

/// Now, by the system.
pub(super) fn stamp() -> Stamp {
    Stamp {
        at: now(),
        by: Actor::System,
    }
}

/// The first version of a row with a new id.
pub(super) fn row<E: Entity>(data: E) -> Row {
    row_with(new_id(), data)
}

/// The first version of a row.
pub(super) fn row_with<E: Entity>(id: Uuid, data: E) -> Row {
    Arc::new(Record::new(Meta::first(id, stamp()), data))
}

/// The typed record behind a row.
pub(super) fn record<E: Entity>(row: &Row) -> Outcome<Arc<Record<E>>> {
    Record::from_row(row.clone()).ok_or_else(|| {
        Failure::new(format!(
            "expected rows of `{}` to be records of its Rust type, as `ObjectRef::build` makes them",
            E::schema().name()
        ))
    })
}

/// The next version of a row.
pub(super) fn next<E: Entity>(row: &Row, change: impl FnOnce(&mut E)) -> Outcome<Row> {
    let mut data = record::<E>(row)?.data.clone();
    change(&mut data);
    Ok(Arc::new(Record::new(row.meta().next(stamp()), data)))
}

pub(super) fn insertion(row: Row) -> Change {
    Change::Insert { row }
}

/// The update of a row.
pub(super) fn update<E: Entity>(before: &Row, change: impl FnOnce(&mut E)) -> Outcome<Change> {
    Ok(replacement(before, next(before, change)?))
}

pub(super) fn replacement(before: &Row, after: Row) -> Change {
    Change::Update {
        before: before.clone(),
        after,
    }
}

/// The row as deleted, which keeps it in storage.
pub(super) fn deleted(row: &Row) -> Row {
    let stamp = stamp();
    row.with_meta(Meta {
        deleted_at: Some(stamp.at),
        ..row.meta().next(stamp)
    })
}

/// The row as restored.
pub(super) fn restored(row: &Row) -> Row {
    row.with_meta(Meta {
        deleted_at: None,
        ..row.meta().next(stamp())
    })
}

/// The row as archived.
pub(super) fn archived(row: &Row) -> Row {
    let stamp = stamp();
    row.with_meta(Meta {
        archived_at: Some(stamp.at),
        ..row.meta().next(stamp)
    })
}

pub(super) fn deletion(row: &Row) -> Change {
    replacement(row, deleted(row))
}

/// The removal of a row for good.
pub(super) fn purge(row: &Row) -> Change {
    Change::Delete {
        before: row.clone(),
    }
}

pub(super) fn expectation(row: &Row) -> Expectation {
    Expectation {
        object: row.object().clone(),
        id: row.id(),
        version: row.version(),
    }
}

/// That no row of `object` refers to the row with this id by `field`.
pub(super) fn unreferenced(object: &ObjectRef, field: &str, id: Uuid) -> Outcome<Unreferenced> {
    Ok(Unreferenced {
        object: object.clone(),
        field: place(object, field)?,
        id,
    })
}

pub(super) fn ids(rows: &[Row]) -> Vec<Uuid> {
    rows.iter().map(|row| row.id()).collect()
}

/// The place of a field that the suite's objects have.
pub(super) fn place(object: &ObjectRef, field: &str) -> Outcome<usize> {
    object
        .field_index(field)
        .ok_or_else(|| Failure::new(format!("the suite names a field that is none: {field}")))
}

/// A filter that compares a field with a value.
pub(super) fn compare(
    field: &str,
    op: crate::query::Comparison,
    value: impl Into<Value>,
) -> Filter {
    Filter::Compare {
        field: field.to_owned().into(),
        op,
        value: value.into(),
    }
}

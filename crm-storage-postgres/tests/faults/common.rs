//! Rows, changes and storages, and what other sessions do to them.

use std::error::Error as _;
use std::hash::{BuildHasher as _, RandomState};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use crm_core::query::{AggregateQuery, Condition, Filter, Query, SortKey};
use crm_core::schema::{Entity, Meta, Registry, Row, system};
use crm_core::storage::conformance::{self, Chore, Part, Specimen};
use crm_core::storage::{Change, ChangeSet, Claim, Expectation, Scope, Storage as _, StorageError};
use crm_core::{Actor, Id, Record, Stamp};
use crm_storage_postgres::{Fault, PostgresFault, PostgresStorage, PostgresStorageBuilder};
use crm_test_postgres::Database;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// The longest that anything is waited for before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn new_id() -> Uuid {
    static RUN: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0_u8));
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    Uuid::from_u128(u128::from(*RUN >> 16) << 80 | 0x7 << 76 | 0x2 << 62 | u128::from(count))
}

pub(crate) fn now() -> DateTime<Utc> {
    static TICKS: AtomicU64 = AtomicU64::new(0);
    let ticks = i64::try_from(TICKS.fetch_add(1, Ordering::Relaxed)).unwrap();
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::microseconds(ticks)
}

pub(crate) fn stamp() -> Stamp {
    Stamp {
        at: now(),
        by: Actor::System,
    }
}

pub(crate) fn row<E: Entity>(data: E) -> Row {
    Arc::new(Record::new(Meta::first(new_id(), stamp()), data))
}

pub(crate) fn next<E: Entity>(row: &Row, change: impl FnOnce(&mut E)) -> Row {
    let mut data = Record::<E>::from_row(row.clone()).unwrap().data.clone();
    change(&mut data);
    Arc::new(Record::new(row.meta().next(stamp()), data))
}

pub(crate) fn insert(row: &Row) -> Change {
    Change::Insert { row: row.clone() }
}

pub(crate) fn update<E: Entity>(before: &Row, change: impl FnOnce(&mut E)) -> Change {
    Change::Update {
        before: before.clone(),
        after: next(before, change),
    }
}

pub(crate) fn remove(row: &Row) -> Change {
    Change::Delete {
        before: row.clone(),
    }
}

pub(crate) fn expectation(row: &Row) -> Expectation {
    Expectation {
        object: row.object().clone(),
        id: row.id(),
        version: row.version(),
    }
}

pub(crate) fn changes(changes: impl Into<Vec<Change>>) -> ChangeSet {
    ChangeSet::new(new_id(), now(), changes.into(), Vec::new())
}

pub(crate) fn new_scope() -> Scope {
    Scope::Tenant(Id::new(new_id()))
}

pub(crate) fn everything() -> Query {
    Query::new(Specimen::schema(), Condition::all())
}

pub(crate) fn registry() -> Registry {
    let registry = Registry::default();
    for object in conformance::objects() {
        registry.add(&object);
    }
    registry
}

/// A claim of chores without a worker.
pub(crate) fn claim() -> Claim {
    let object = Chore::schema();
    let place = |name: &str| object.field_index(name).unwrap();
    let free = Filter::And(vec![
        Filter::eq("queue", "mail"),
        Filter::Null {
            field: "worker".into(),
            is_null: true,
        },
    ]);
    Claim::new(
        object.clone(),
        Condition::bind(&free, object, &registry()).unwrap(),
        vec![SortKey {
            index: system::ID,
            descending: false,
        }],
        1,
        vec![(place("worker"), "w".into())],
        stamp(),
    )
}

pub(crate) fn builder() -> PostgresStorageBuilder {
    conformance::objects()
        .iter()
        .fold(PostgresStorage::builder(), |builder, object| {
            builder.named_object(object)
        })
}

pub(crate) async fn shared() -> Database {
    Database::shared("faults", &conformance::objects())
        .await
        .expect("the tests need PostgreSQL")
}

/// A database that only one test uses, and may change: with specimens, parts and chores.
pub(crate) fn fresh() -> Database {
    let objects = [Specimen::schema(), Part::schema(), Chore::schema()].map(Clone::clone);
    Database::fresh(&objects).expect("the tests need PostgreSQL")
}

pub(crate) fn options(url: &str) -> PgConnectOptions {
    // In plain text, so that the relay can read it.
    PgConnectOptions::from_str(url)
        .unwrap()
        .ssl_mode(PgSslMode::Disable)
}

pub(crate) fn pool_of(options: PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(false)
        .acquire_timeout(PATIENCE)
        .connect_lazy_with(options)
}

pub(crate) async fn storage_on(database: &Database) -> PostgresStorage {
    builder().build(pool_of(options(database.application_url()), 4))
}

/// Runs SQL of a test: constants and names that the test made.
pub(crate) async fn execute(connection: &mut PgConnection, sql: &str) {
    #[allow(
        clippy::disallowed_types,
        reason = "DDL and locks of tests, made of constants"
    )]
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

/// Holds the lock of a row until the connection is told otherwise.
pub(crate) async fn lock(connection: &mut PgConnection, row: &Row) {
    execute(connection, "BEGIN").await;
    lock_too(connection, row).await;
}

pub(crate) async fn lock_too(connection: &mut PgConnection, row: &Row) {
    let (table, id) = (row.object().table(), row.id());
    let sql = format!("SELECT FROM crm.{table} WHERE id = '{id}' FOR UPDATE");
    execute(connection, &sql).await;
}

/// Waits until `count` sessions of an application wait for a lock, and gives their processes.
pub(crate) async fn waiting(owner: &mut PgConnection, application: &str, count: usize) -> Vec<i32> {
    let look = async {
        loop {
            // A transaction sees one picture of the sessions unless it is told to look again.
            let _: () = sqlx::query_scalar("SELECT pg_stat_clear_snapshot()::text")
                .fetch_one(&mut *owner)
                .await
                .map(|_: String| ())
                .unwrap();
            let found: Vec<i32> = sqlx::query_scalar(
                "SELECT pid FROM pg_stat_activity \
                 WHERE application_name = $1 AND wait_event_type = 'Lock'",
            )
            .bind(application)
            .fetch_all(&mut *owner)
            .await
            .unwrap();
            if found.len() >= count {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, look)
        .await
        .expect("somebody waits for the lock")
}

pub(crate) async fn terminate(owner: &mut PgConnection, processes: &[i32]) {
    for process in processes {
        let done: bool = sqlx::query_scalar("SELECT pg_terminate_backend($1, 10000)")
            .bind(process)
            .fetch_one(&mut *owner)
            .await
            .unwrap();
        assert!(done);
    }
}

/// The row as it is stored.
pub(crate) async fn stored(storage: &PostgresStorage, scope: &Scope, row: &Row) -> Row {
    let mut found = storage.get(scope, row.object(), &[row.id()]).await.unwrap();
    found.pop().expect("the row is there")
}

pub(crate) async fn count(storage: &PostgresStorage, scope: &Scope, object: &Query) -> usize {
    storage.select(scope, object).await.unwrap().len()
}

/// Checks what a fault comes to.
#[track_caller]
pub(crate) fn assert_fault(error: &StorageError, fault: Fault, code: &str) {
    let source = error
        .source()
        .unwrap_or_else(|| panic!("{error:?} has no source"));
    let found = source
        .downcast_ref::<PostgresFault>()
        .unwrap_or_else(|| panic!("{source:?} is no PostgresFault"));
    assert_eq!((found.fault(), found.code()), (fault, code), "{found}");
    assert_eq!(error.is_retryable(), fault.is_retryable());
    assert_eq!(
        matches!(error, StorageError::Unavailable(_)),
        fault.is_retryable(),
        "{error:?}"
    );
}

/// Calls every method once and gives the errors of those that failed.
pub(crate) async fn call_all(
    storage: &PostgresStorage,
    scope: &Scope,
) -> Vec<(&'static str, StorageError)> {
    let one = changes([insert(&row(Specimen::new("one")))]);
    let sum = AggregateQuery::count(Specimen::schema(), Condition::all());
    let mut errors = Vec::new();
    let outcomes = [
        (
            "get",
            storage
                .get(scope, Specimen::schema(), &[new_id()])
                .await
                .err(),
        ),
        ("select", storage.select(scope, &everything()).await.err()),
        ("aggregate", storage.aggregate(scope, &sum).await.err()),
        ("commit", storage.commit(scope, &one).await.err()),
        ("claim", storage.claim(scope, &claim()).await.err()),
    ];
    for (call, error) in outcomes {
        errors.extend(error.map(|error| (call, error)));
    }
    errors
}

//! What goes wrong on the way to PostgreSQL and in it: each fault comes back as its error, none
//! tells a value, what can be sent again is sent again and applied once, and every call is one
//! round trip.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use std::error::Error as StdError;
use std::hash::{BuildHasher as _, RandomState};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use crm_core::query::{AggregateQuery, Condition, Filter, Query, SortKey};
use crm_core::schema::{Entity, Meta, Registry, Row, system};
use crm_core::storage::conformance::{self, Chore, Laboratory, Part, Reading, Specimen};
use crm_core::storage::{Change, ChangeSet, Claim, Expectation, Scope, Storage as _, StorageError};
use crm_core::{Actor, Engine, Id, Record, Stamp};
use crm_storage_postgres::{Fault, PostgresFault, PostgresStorage, PostgresStorageBuilder};
use crm_test_postgres::{Database, Server};
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{PgConnection, PgPool};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use uuid::Uuid;

/// The longest that anything is waited for before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

// Rows, changes and storages.

fn new_id() -> Uuid {
    static RUN: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0_u8));
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    Uuid::from_u128(u128::from(*RUN >> 16) << 80 | 0x7 << 76 | 0x2 << 62 | u128::from(count))
}

fn now() -> DateTime<Utc> {
    static TICKS: AtomicU64 = AtomicU64::new(0);
    let ticks = i64::try_from(TICKS.fetch_add(1, Ordering::Relaxed)).unwrap();
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::microseconds(ticks)
}

fn stamp() -> Stamp {
    Stamp {
        at: now(),
        by: Actor::System,
    }
}

fn row<E: Entity>(data: E) -> Row {
    Arc::new(Record::new(Meta::first(new_id(), stamp()), data))
}

fn next<E: Entity>(row: &Row, change: impl FnOnce(&mut E)) -> Row {
    let mut data = Record::<E>::from_row(row.clone()).unwrap().data.clone();
    change(&mut data);
    Arc::new(Record::new(row.meta().next(stamp()), data))
}

fn insert(row: &Row) -> Change {
    Change::Insert { row: row.clone() }
}

fn update<E: Entity>(before: &Row, change: impl FnOnce(&mut E)) -> Change {
    Change::Update {
        before: before.clone(),
        after: next(before, change),
    }
}

fn remove(row: &Row) -> Change {
    Change::Delete {
        before: row.clone(),
    }
}

fn expectation(row: &Row) -> Expectation {
    Expectation {
        object: row.object().clone(),
        id: row.id(),
        version: row.version(),
    }
}

fn changes(changes: impl Into<Vec<Change>>) -> ChangeSet {
    ChangeSet::new(new_id(), now(), changes.into(), Vec::new())
}

fn new_scope() -> Scope {
    Scope::Tenant(Id::new(new_id()))
}

fn everything() -> Query {
    Query::new(Specimen::schema(), Condition::all())
}

fn registry() -> Registry {
    let registry = Registry::default();
    for object in conformance::objects() {
        registry.add(&object);
    }
    registry
}

/// A claim of chores without a worker.
fn claim() -> Claim {
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

fn builder() -> PostgresStorageBuilder {
    conformance::objects()
        .iter()
        .fold(PostgresStorage::builder(), |builder, object| {
            builder.named_object(object)
        })
}

async fn shared() -> Database {
    Database::shared("faults", &conformance::objects())
        .await
        .expect("the tests need PostgreSQL")
}

/// A database that only one test uses, and may change: with specimens, parts and chores.
fn fresh() -> Database {
    let objects = [Specimen::schema(), Part::schema(), Chore::schema()].map(Clone::clone);
    Database::fresh(&objects).expect("the tests need PostgreSQL")
}

fn options(url: &str) -> PgConnectOptions {
    // In plain text, so that the relay can read it.
    PgConnectOptions::from_str(url)
        .unwrap()
        .ssl_mode(PgSslMode::Disable)
}

fn pool_of(options: PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(false)
        .acquire_timeout(PATIENCE)
        .connect_lazy_with(options)
}

async fn storage_on(database: &Database) -> PostgresStorage {
    builder().build(pool_of(options(database.application_url()), 4))
}

/// Runs SQL of a test: constants and names that the test made.
async fn execute(connection: &mut PgConnection, sql: &str) {
    #[allow(
        clippy::disallowed_types,
        reason = "DDL and locks of tests, made of constants"
    )]
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

/// Holds the lock of a row until the connection is told otherwise.
async fn lock(connection: &mut PgConnection, row: &Row) {
    execute(connection, "BEGIN").await;
    lock_too(connection, row).await;
}

async fn lock_too(connection: &mut PgConnection, row: &Row) {
    let (table, id) = (row.object().table(), row.id());
    let sql = format!("SELECT FROM crm.{table} WHERE id = '{id}' FOR UPDATE");
    execute(connection, &sql).await;
}

/// Waits until `count` sessions of an application wait for a lock, and gives their processes.
async fn waiting(owner: &mut PgConnection, application: &str, count: usize) -> Vec<i32> {
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

async fn terminate(owner: &mut PgConnection, processes: &[i32]) {
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
async fn stored(storage: &PostgresStorage, scope: &Scope, row: &Row) -> Row {
    let mut found = storage.get(scope, row.object(), &[row.id()]).await.unwrap();
    found.pop().expect("the row is there")
}

async fn count(storage: &PostgresStorage, scope: &Scope, object: &Query) -> usize {
    storage.select(scope, object).await.unwrap().len()
}

/// Checks what a fault comes to.
#[track_caller]
fn assert_fault(error: &StorageError, fault: Fault, code: &str) {
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
async fn call_all(storage: &PostgresStorage, scope: &Scope) -> Vec<(&'static str, StorageError)> {
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

// The way to the server.

#[tokio::test]
async fn a_server_that_is_not_there_is_not_available() {
    // A port that nobody listens at: it was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let pool = PgPoolOptions::new()
        .acquire_timeout(Duration::from_millis(200))
        .connect_lazy_with(options(&format!("postgres://nobody@127.0.0.1:{port}/x")));
    let storage = builder().build(pool);
    let errors = call_all(&storage, &new_scope()).await;
    assert_eq!(errors.len(), 5);
    for (_, error) in &errors {
        assert_fault(error, Fault::Connection, "");
    }
}

/// The server was restarted, or crashed, while the connections lay in the pool.
#[tokio::test]
async fn connections_that_went_stale_in_the_pool_are_not_noticed() {
    const CONNECTIONS: u32 = 5;
    let server = Server::start(&[
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
    ])
    .expect("the tests need PostgreSQL");
    let database = Database::on(&server, "stale", &conformance::objects())
        .await
        .unwrap();
    let pool = pool_of(options(database.application_url()), CONNECTIONS);
    let storage = builder().build(pool.clone());
    let scope = new_scope();
    let known = row(Specimen::new("known"));
    let chore = row(Chore::new("mail"));
    storage
        .commit(&scope, &changes([insert(&known), insert(&chore)]))
        .await
        .unwrap();
    for (round, call) in ["get", "select", "aggregate", "commit", "update", "claim"]
        .into_iter()
        .enumerate()
    {
        // All of the pool's connections are open and idle.
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            open.push(pool.acquire().await.unwrap());
        }
        drop(open);
        let idle = async {
            while pool.num_idle() < CONNECTIONS as usize {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, idle).await.unwrap();
        if round % 2 == 0 {
            server.kill().unwrap();
            server.start_again().unwrap();
        } else {
            server.restart().unwrap();
        }
        match call {
            "get" => assert_eq!(stored(&storage, &scope, &known).await.version(), 1),
            "select" => assert_eq!(count(&storage, &scope, &everything()).await, 1),
            "aggregate" => {
                let sum = AggregateQuery::count(Specimen::schema(), Condition::all());
                storage.aggregate(&scope, &sum).await.unwrap();
            }
            "commit" => {
                let one = changes([insert(&row(Specimen::new("new")))]);
                storage.commit(&scope, &one).await.unwrap();
                assert_eq!(count(&storage, &scope, &everything()).await, 2);
            }
            "update" => {
                let one = changes([update(&known, |known: &mut Specimen| known.quantity = 2)]);
                storage.commit(&scope, &one).await.unwrap();
                assert_eq!(stored(&storage, &scope, &known).await.version(), 2);
            }
            _ => assert_eq!(storage.claim(&scope, &claim()).await.unwrap().len(), 1),
        }
    }
}

#[tokio::test]
async fn a_read_whose_connection_is_ended_is_sent_again() {
    let database = fresh();
    let mut owner = database.owner().await.unwrap();
    let mut holder = database.owner().await.unwrap();
    let options = options(database.application_url()).application_name("read-ended");
    let storage = builder().build(pool_of(options, 2));
    let scope = new_scope();
    let known = row(Specimen::new("known"));
    storage
        .commit(&scope, &changes([insert(&known)]))
        .await
        .unwrap();
    execute(
        &mut holder,
        "BEGIN; LOCK TABLE crm.specimens IN ACCESS EXCLUSIVE MODE",
    )
    .await;
    let read = tokio::spawn({
        let (storage, known) = (storage.clone(), known.clone());
        async move { storage.get(&scope, known.object(), &[known.id()]).await }
    });
    let readers = waiting(&mut owner, "read-ended", 1).await;
    terminate(&mut owner, &readers).await;
    execute(&mut holder, "ROLLBACK").await;
    assert_eq!(read.await.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn a_commit_whose_connection_is_ended_is_applied_once() {
    let database = shared().await;
    let mut owner = database.owner().await.unwrap();
    let mut holder = database.owner().await.unwrap();
    let application = format!("commit-ended-{}", new_id());
    let options = options(database.application_url()).application_name(&application);
    let storage = builder().build(pool_of(options, 2));
    let scope = new_scope();
    let known = row(Specimen::new("known"));
    storage
        .commit(&scope, &changes([insert(&known)]))
        .await
        .unwrap();
    lock(&mut holder, &known).await;
    let made = row(Reading::new(now()));
    let both = changes([
        update(&known, |known: &mut Specimen| known.quantity += 1),
        insert(&made),
    ]);
    let commit = tokio::spawn({
        let storage = storage.clone();
        async move { storage.commit(&scope, &both).await }
    });
    let writers = waiting(&mut owner, &application, 1).await;
    terminate(&mut owner, &writers).await;
    execute(&mut holder, "ROLLBACK").await;
    assert_eq!(commit.await.unwrap().unwrap().rows, 2);
    let known = stored(&storage, &scope, &known).await;
    assert_eq!(known.version(), 2);
    assert_eq!(Record::<Specimen>::from_row(known).unwrap().quantity, 1);
    stored(&storage, &scope, &made).await;
    let readings = Query::new(Reading::schema(), Condition::all());
    assert_eq!(count(&storage, &scope, &readings).await, 1);
}

// Answers that are lost.

/// How a commit whose answer was lost shall end.
#[derive(Debug)]
enum Lost {
    /// It was applied, and nobody did anything since.
    Applied,
    /// It was applied, and somebody changed the row since.
    Overtaken,
    /// The same, without an entry of a log that would tell.
    Unknown,
}

/// The server commits, and the connection breaks before the answer is there.
#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_neither_doubled_nor_denied() {
    let database = shared().await;
    let relay = Relay::start(database.application_url()).await;
    let far = builder().build(pool_of(relay.options(database.application_url()), 1));
    let near = storage_on(&database).await;
    for expected in [Lost::Applied, Lost::Overtaken, Lost::Unknown] {
        let scope = new_scope();
        let known = row(Specimen::new("known"));
        let (made, entry) = (row(Chore::new("mail")), row(Reading::new(now())));
        near.commit(&scope, &changes([insert(&known)]))
            .await
            .unwrap();
        let change = update(&known, |known: &mut Specimen| known.quantity += 1);
        let commit = match expected {
            Lost::Unknown => changes([change]),
            _ => changes([change, insert(&made), insert(&entry)]),
        };
        // The connection is there, so that what is lost is the answer to the commit.
        stored(&far, &scope, &known).await;
        relay.lose_next_answer();
        let sent = tokio::spawn({
            let far = far.clone();
            async move { far.commit(&scope, &commit).await }
        });
        relay.wait_for_loss().await;
        let mut known = stored(&near, &scope, &known).await;
        assert_eq!(known.version(), 2, "the server applied it");
        if !matches!(expected, Lost::Applied) {
            let more = update(&known, |known: &mut Specimen| known.quantity += 10);
            near.commit(&scope, &changes([more])).await.unwrap();
        }
        relay.go_on();
        let outcome = sent.await.unwrap();
        known = stored(&near, &scope, &known).await;
        let quantity = Record::<Specimen>::from_row(known.clone())
            .unwrap()
            .quantity;
        match expected {
            Lost::Applied => {
                assert_eq!(outcome.unwrap().rows, 3);
                assert_eq!((known.version(), quantity), (2, 1));
            }
            Lost::Overtaken => {
                assert_eq!(outcome.unwrap().rows, 3);
                assert_eq!((known.version(), quantity), (3, 11));
            }
            // A conflict would say that nothing was written, and the caller would do it again.
            Lost::Unknown => {
                assert_fault(&outcome.unwrap_err(), Fault::OutcomeUnknown, "");
                assert_eq!((known.version(), quantity), (3, 11));
            }
        }
    }
}

/// A commit that would have been refused is refused, also when it takes two attempts.
#[tokio::test]
async fn a_refusal_whose_answer_is_lost_is_a_refusal() {
    let database = shared().await;
    let relay = Relay::start(database.application_url()).await;
    let far = builder().build(pool_of(relay.options(database.application_url()), 1));
    let scope = new_scope();
    let numbered = |name: &str| Specimen {
        serial: Some(1),
        ..Specimen::new(name)
    };
    let known = row(numbered("known"));
    far.commit(&scope, &changes([insert(&known)]))
        .await
        .unwrap();
    let stale = update(&known, |known: &mut Specimen| known.quantity = 5);
    let fresh = update(&known, |known: &mut Specimen| known.quantity = 1);
    far.commit(&scope, &changes([fresh])).await.unwrap();
    for (change, code) in [
        (insert(&row(numbered("other"))), "duplicate"),
        (stale, "conflict"),
    ] {
        relay.lose_next_answer();
        let commit = changes([change]);
        let (outcome, ()) = tokio::join!(far.commit(&scope, &commit), async {
            relay.wait_for_loss().await;
            relay.go_on();
        });
        match outcome.unwrap_err() {
            StorageError::Duplicate { .. } => assert_eq!(code, "duplicate"),
            StorageError::Conflict { .. } => assert_eq!(code, "conflict"),
            other => panic!("{other:?}"),
        }
    }
}

// Other transactions.

#[tokio::test]
async fn a_statement_that_takes_too_long_is_not_available() {
    let database = shared().await;
    let mut holder = database.owner().await.unwrap();
    let timeout = Duration::from_millis(150);
    let by_pool = builder()
        .statement_timeout(timeout)
        .build(pool_of(options(database.application_url()), 1));
    let by_url = builder()
        .statement_timeout(timeout)
        .connect(database.application_url())
        .await
        .unwrap();
    for storage in [by_pool, by_url] {
        let scope = new_scope();
        let known = row(Specimen::new("known"));
        storage
            .commit(&scope, &changes([insert(&known)]))
            .await
            .unwrap();
        lock(&mut holder, &known).await;
        let change = update(&known, |known: &mut Specimen| known.quantity = 1);
        let error = storage
            .commit(&scope, &changes([change]))
            .await
            .unwrap_err();
        assert_fault(&error, Fault::StatementTimeout, "57014");
        execute(&mut holder, "ROLLBACK").await;
        assert_eq!(stored(&storage, &scope, &known).await.version(), 1);
    }
}

#[tokio::test]
async fn a_read_that_takes_too_long_is_not_available() {
    let database = fresh();
    let mut holder = database.owner().await.unwrap();
    let storage = builder()
        .statement_timeout(Duration::from_millis(150))
        .build(pool_of(options(database.application_url()), 1));
    execute(
        &mut holder,
        "BEGIN; LOCK TABLE crm.specimens IN ACCESS EXCLUSIVE MODE",
    )
    .await;
    let error = storage
        .select(&new_scope(), &everything())
        .await
        .unwrap_err();
    assert_fault(&error, Fault::StatementTimeout, "57014");
}

#[tokio::test]
async fn a_lock_that_is_not_to_be_had_in_time_is_not_available() {
    let database = shared().await;
    let mut holder = database.owner().await.unwrap();
    let options = options(database.application_url()).options([("lock_timeout", "150")]);
    let storage = builder().build(pool_of(options, 1));
    let scope = new_scope();
    let known = row(Specimen::new("known"));
    storage
        .commit(&scope, &changes([insert(&known)]))
        .await
        .unwrap();
    lock(&mut holder, &known).await;
    let change = update(&known, |known: &mut Specimen| known.quantity = 1);
    let error = storage
        .commit(&scope, &changes([change]))
        .await
        .unwrap_err();
    assert_fault(&error, Fault::LockTimeout, "55P03");
}

/// The commit is the one that PostgreSQL ends, and is sent again.
#[tokio::test]
async fn the_victim_of_a_deadlock_is_sent_again() {
    let database = shared().await;
    let mut owner = database.owner().await.unwrap();
    let mut holder = database.owner().await.unwrap();
    let application = format!("victim-{}", new_id());
    let options = options(database.application_url()).application_name(&application);
    let storage = builder().build(pool_of(options, 1));
    let scope = new_scope();
    let (specimen, chore) = (row(Specimen::new("first")), row(Chore::new("mail")));
    storage
        .commit(&scope, &changes([insert(&specimen), insert(&chore)]))
        .await
        .unwrap();
    // The other one never finds out: the commit does, after a second.
    execute(&mut holder, "SET deadlock_timeout = '10min'").await;
    lock(&mut holder, &chore).await;
    let commit = tokio::spawn({
        let storage = storage.clone();
        let both = changes([
            update(&specimen, |specimen: &mut Specimen| specimen.quantity = 1),
            update(&chore, |chore: &mut Chore| chore.urgency = 1),
        ]);
        async move { storage.commit(&scope, &both).await }
    });
    waiting(&mut owner, &application, 1).await;
    lock_too(&mut holder, &specimen).await;
    // Now the commit waits again, for both.
    waiting(&mut owner, &application, 1).await;
    execute(&mut holder, "ROLLBACK").await;
    assert_eq!(commit.await.unwrap().unwrap().rows, 2);
    assert_eq!(stored(&storage, &scope, &specimen).await.version(), 2);
    assert_eq!(stored(&storage, &scope, &chore).await.version(), 2);
}

/// Two commits change two rows in opposite orders: one is first, the other meets its versions.
#[tokio::test]
async fn two_commits_in_opposite_orders_end_as_if_one_came_first() {
    let database = shared().await;
    let mut owner = database.owner().await.unwrap();
    let mut holder = database.owner().await.unwrap();
    let application = format!("opposite-{}", new_id());
    let options = options(database.application_url()).application_name(&application);
    let storage = builder().build(pool_of(options, 2));
    let scope = new_scope();
    let (specimen, chore) = (row(Specimen::new("first")), row(Chore::new("mail")));
    // Each commit waits for its part between the two.
    let parts = [1, 2].map(|place| {
        row(Part {
            place: Some(place),
            ..Part::new(Id::new(specimen.id()))
        })
    });
    let all = [&specimen, &chore, &parts[0], &parts[1]].map(insert);
    storage.commit(&scope, &changes(all)).await.unwrap();
    lock(&mut holder, &parts[0]).await;
    lock_too(&mut holder, &parts[1]).await;
    let middle = |place: usize| update(&parts[place], |part: &mut Part| part.quantity = 1);
    let name = |specimen: &mut Specimen| specimen.quantity = 1;
    let rank = |chore: &mut Chore| chore.urgency = 1;
    let commits = [
        [update(&specimen, name), middle(0), update(&chore, rank)],
        [update(&chore, rank), middle(1), update(&specimen, name)],
    ];
    let commits = commits.map(|commit| {
        let (storage, commit) = (storage.clone(), changes(commit));
        tokio::spawn(async move { storage.commit(&scope, &commit).await })
    });
    waiting(&mut owner, &application, 2).await;
    execute(&mut holder, "ROLLBACK").await;
    let mut applied = 0;
    for commit in commits {
        match commit.await.unwrap() {
            Ok(_) => applied += 1,
            Err(StorageError::Conflict { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(applied, 1);
    for row in [&specimen, &chore] {
        assert_eq!(stored(&storage, &scope, row).await.version(), 2);
    }
}

/// Where the host made stricter isolation the default, the answers stay those of the port.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_stricter_isolation_writers_win_or_conflict() {
    const WRITERS: i64 = 6;
    const UPDATES: i64 = 20;
    for level in ["serializable", "repeatable read"] {
        let database = fresh();
        let mut owner = database.owner().await.unwrap();
        let name = database.owner_url().rsplit('/').next().unwrap().to_owned();
        let sql =
            format!("ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{level}'");
        execute(&mut owner, &sql).await;
        let pool = pool_of(options(database.application_url()), 6);
        let in_force: String = sqlx::query_scalar("SHOW transaction_isolation")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(in_force, level);
        let storage = builder().build(pool);
        let scope = new_scope();
        let counter = row(Specimen::new("counter"));
        storage
            .commit(&scope, &changes([insert(&counter)]))
            .await
            .unwrap();
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let (storage, counter) = (storage.clone(), counter.clone());
                tokio::spawn(async move {
                    let mut made = 0;
                    while made < UPDATES {
                        let counter = stored(&storage, &scope, &counter).await;
                        let commit = changes([
                            update(&counter, |counter: &mut Specimen| counter.quantity += 1),
                            insert(&row(Chore::new("mail"))),
                        ]);
                        match storage.commit(&scope, &commit).await {
                            Ok(_) => made += 1,
                            Err(StorageError::Conflict { .. }) => {}
                            Err(other) => panic!("{level}: {other:?}: {:?}", other.source()),
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let counter = stored(&storage, &scope, &counter).await;
        assert_eq!(counter.version(), 1 + WRITERS * UPDATES);
        let chores = Query::new(Chore::schema(), Condition::all());
        let made = count(&storage, &scope, &chores).await;
        assert_eq!(i64::try_from(made).unwrap(), WRITERS * UPDATES);
    }
}

// The server's state.

#[tokio::test]
async fn a_server_that_takes_no_writes_is_not_available_for_them() {
    let database = fresh();
    let mut owner = database.owner().await.unwrap();
    let name = database.owner_url().rsplit('/').next().unwrap().to_owned();
    let sql = format!("ALTER DATABASE \"{name}\" SET default_transaction_read_only = on");
    execute(&mut owner, &sql).await;
    let storage = storage_on(&database).await;
    let errors = call_all(&storage, &new_scope()).await;
    let calls: Vec<_> = errors.iter().map(|(call, _)| *call).collect();
    assert_eq!(calls, ["commit", "claim"], "reads work");
    for (_, error) in &errors {
        assert_fault(error, Fault::ReadOnly, "25006");
    }
}

/// The file of a table is the one that is always full.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_not_available_until_there_is_room() {
    let server = Server::start(&[]).expect("the tests need PostgreSQL");
    let database = Database::on(&server, "full", &conformance::objects())
        .await
        .unwrap();
    let mut owner = database.owner().await.unwrap();
    let path: String = sqlx::query_scalar("SELECT pg_relation_filepath('crm.chores')")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    let file = server.data_directory().unwrap().join(path);
    let aside = file.with_extension("aside");
    std::fs::rename(&file, &aside).unwrap();
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();

    let storage = storage_on(&database).await;
    let scope = new_scope();
    let chore = row(Chore::new("mail"));
    let specimen = row(Specimen::new("with a chore"));
    let both = changes([insert(&specimen), insert(&chore)]);
    let error = storage.commit(&scope, &both).await.unwrap_err();
    assert_fault(&error, Fault::ResourcesExhausted, "53100");
    assert_eq!(count(&storage, &scope, &everything()).await, 0);

    // There is room again; new connections, for the old ones hold the file.
    std::fs::rename(&aside, &file).unwrap();
    let storage = storage_on(&database).await;
    storage.commit(&scope, &both).await.unwrap();
    stored(&storage, &scope, &chore).await;
}

#[tokio::test]
async fn a_server_with_too_many_connections_is_not_available_until_one_is_free() {
    let database = fresh();
    let mut owner = database.owner().await.unwrap();
    let name = database.owner_url().rsplit('/').next().unwrap().to_owned();
    execute(
        &mut owner,
        &format!("ALTER DATABASE \"{name}\" CONNECTION LIMIT 1"),
    )
    .await;
    let refused = database.application().await.err();
    // The owner's session counts, too.
    let refused = refused.expect("there is no room for the application");
    let code = refused.downcast_ref::<sqlx::Error>().unwrap();
    let code = code
        .as_database_error()
        .unwrap()
        .code()
        .unwrap()
        .into_owned();
    assert_eq!(code, "53300");
    let pool = PgPoolOptions::new()
        .test_before_acquire(false)
        .acquire_timeout(Duration::from_millis(300))
        .connect_lazy_with(options(database.application_url()));
    let storage = builder().build(pool);
    let scope = new_scope();
    // The pool waits for room as long as it may.
    for (_, error) in call_all(&storage, &scope).await {
        assert_fault(&error, Fault::Connection, "");
    }
    execute(
        &mut owner,
        &format!("ALTER DATABASE \"{name}\" CONNECTION LIMIT -1"),
    )
    .await;
    assert_eq!(count(&storage, &scope, &everything()).await, 0);
}

#[tokio::test]
async fn missing_tables_say_that_the_migrations_have_not_run() {
    let database = shared().await;
    let storage = builder()
        .schema("elsewhere")
        .build(pool_of(options(database.application_url()), 1));
    let errors = call_all(&storage, &new_scope()).await;
    assert_eq!(errors.len(), 5);
    for (_, error) in &errors {
        assert_fault(error, Fault::NotMigrated, "42P01");
    }
    // A table of a later migration, a column, a function.
    for (undo, code) in [
        ("ALTER TABLE crm.specimens DROP COLUMN token", "42703"),
        ("DROP FUNCTION crm.refuse", "42883"),
    ] {
        let database = fresh();
        execute(&mut database.owner().await.unwrap(), undo).await;
        let storage = storage_on(&database).await;
        let one = changes([insert(&row(Specimen::new("one")))]);
        let error = storage.commit(&new_scope(), &one).await.unwrap_err();
        assert_fault(&error, Fault::NotMigrated, code);
    }
}

#[tokio::test]
async fn a_missing_privilege_says_so() {
    let database = fresh();
    let mut owner = database.owner().await.unwrap();
    execute(
        &mut owner,
        "REVOKE ALL ON crm.specimens, crm.chores FROM crm_app",
    )
    .await;
    let storage = storage_on(&database).await;
    let errors = call_all(&storage, &new_scope()).await;
    assert_eq!(errors.len(), 5);
    for (_, error) in &errors {
        assert_fault(error, Fault::NotPermitted, "42501");
    }
}

// What the server's constraints say.

/// Every unique key of the suite's objects: two rows that have it in common, and its fields.
fn twins() -> Vec<([Row; 2], &'static str, Vec<&'static str>)> {
    let pair = |one: Specimen, two: Specimen, fields: &[&'static str]| {
        ([row(one), row(two)], "specimen", fields.to_vec())
    };
    let coded = |code: &str| Specimen {
        code: Some(code.into()),
        ..Specimen::new("coded")
    };
    let numbered = Specimen {
        serial: Some(7),
        ..Specimen::new("numbered")
    };
    let placed = Specimen {
        shelf: Some("North".into()),
        slot: Some(3),
        ..Specimen::new("placed")
    };
    let default = Specimen {
        room: Some("Hall".into()),
        is_default: true,
        ..Specimen::new("default")
    };
    vec![
        pair(coded("Abc"), coded("aBC"), &["code"]),
        pair(numbered.clone(), numbered, &["serial"]),
        pair(placed.clone(), placed, &["shelf", "slot"]),
        pair(default.clone(), default, &["room"]),
    ]
}

async fn assert_constraints_are_named(storage: &PostgresStorage) {
    for ([one, two], object, fields) in twins() {
        let scope = new_scope();
        storage
            .commit(&scope, &changes([insert(&one)]))
            .await
            .unwrap();
        for commit in [
            changes([insert(&two)]),
            // Of several rows, and beside others.
            changes([
                insert(&row(Specimen::new("x"))),
                insert(&two),
                insert(&row(Chore::new("q"))),
            ]),
        ] {
            match storage.commit(&scope, &commit).await {
                Err(StorageError::Duplicate {
                    object: found,
                    fields: names,
                }) => {
                    assert_eq!(found, object);
                    assert_eq!(names, fields);
                }
                other => panic!("{fields:?}: {other:?}"),
            }
        }
    }
    // Ids, also those of logs and of the platform.
    let scope = new_scope();
    let laboratory = {
        let meta = Meta::first(scope.tenant().unwrap().uuid(), stamp());
        let subdomain = format!("lab-{}", scope.tenant().unwrap().uuid().simple());
        let data = Laboratory {
            subdomain: Some(subdomain.parse().unwrap()),
            ..Laboratory::new("Lab")
        };
        let row: Row = Arc::new(Record::new(meta, data));
        row
    };
    let specimen = row(Specimen::new("first"));
    for row in [&specimen, &row(Reading::new(now())), &laboratory] {
        storage
            .commit(&scope, &changes([insert(row)]))
            .await
            .unwrap();
        match storage.commit(&scope, &changes([insert(row)])).await {
            Err(StorageError::Duplicate { object, fields }) => {
                assert_eq!(
                    (&*object, &*fields),
                    (row.object().name(), &["id".to_owned()][..])
                );
            }
            other => panic!("{other:?}"),
        }
    }
    // A unique value that all tenants share.
    let other = new_scope();
    let meta = Meta::first(other.tenant().unwrap().uuid(), stamp());
    let data = Record::<Laboratory>::from_row(laboratory)
        .unwrap()
        .data
        .clone();
    let twin: Row = Arc::new(Record::new(meta, data));
    match storage.commit(&other, &changes([insert(&twin)])).await {
        Err(StorageError::Duplicate { object, fields }) => {
            assert_eq!(
                (&*object, &*fields),
                ("laboratory", &["subdomain".to_owned()][..])
            );
        }
        other => panic!("{other:?}"),
    }
    // References into nothing, and rows that others refer to.
    let part = row(Part::new(Id::new(new_id())));
    match storage.commit(&scope, &changes([insert(&part)])).await {
        Err(StorageError::Reference { object, field }) => {
            assert_eq!((&*object, &*field), ("part", "specimen_id"));
        }
        other => panic!("{other:?}"),
    }
    let part = row(Part {
        copy_of_id: Some(Id::new(specimen.id())),
        ..Part::new(Id::new(specimen.id()))
    });
    let owner = row(Specimen::new("another"));
    let part = next(&part, |part: &mut Part| {
        part.specimen_id = Id::new(owner.id());
    });
    let part = part.with_meta(Meta::first(part.id(), stamp()));
    storage
        .commit(&scope, &changes([insert(&owner), insert(&part)]))
        .await
        .unwrap();
    for (target, name) in [(&specimen, "copy_of_id"), (&owner, "specimen_id")] {
        match storage.commit(&scope, &changes([remove(target)])).await {
            Err(StorageError::Referenced { object, by, field }) => {
                assert_eq!((&*object, &*by, &*field), ("specimen", "part", name));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn refusals_name_objects_and_fields() {
    assert_constraints_are_named(&storage_on(&shared().await).await).await;
}

/// A table that is distributed over machines adds a number to the names of its constraints.
#[tokio::test]
async fn refusals_name_objects_and_fields_also_of_distributed_tables() {
    let server = Server::start(&[]).expect("the tests need PostgreSQL");
    let database = Database::on(&server, "distributed", &conformance::objects())
        .await
        .unwrap();
    let mut owner = database.owner().await.unwrap();
    execute(
        &mut owner,
        "DO $do$ DECLARE r record; BEGIN
             FOR r IN SELECT c.relname FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
                      WHERE c.relnamespace = 'crm'::regnamespace AND i.indisunique
                        AND c.relname NOT LIKE '\\_migrations%' AND c.relkind = 'i' LOOP
                 EXECUTE format('ALTER INDEX crm.%I RENAME TO %I', r.relname, r.relname || '_102008');
             END LOOP;
             FOR r IN SELECT conrelid::regclass AS place, conname FROM pg_constraint
                      WHERE connamespace = 'crm'::regnamespace AND contype = 'f' LOOP
                 EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I',
                                r.place, r.conname, r.conname || '_102009');
             END LOOP;
         END $do$",
    )
    .await;
    assert_constraints_are_named(&storage_on(&database).await).await;
}

// What errors must not tell.

/// What every text of the rows contains.
const MARKER: &str = "Zebedee";

/// A specimen with the marker wherever a text can be.
fn marked() -> Specimen {
    Specimen {
        code: Some(format!("{MARKER}-code")),
        serial: Some(4_711_081_547),
        shelf: Some(format!("{MARKER} shelf")),
        slot: Some(1),
        room: Some(format!("{MARKER} room")),
        is_default: true,
        notes: Some(format!("{MARKER}\nnotes")),
        origin: Some(format!("{MARKER} origin")),
        email: Some(format!("{MARKER}@museum.example").parse().unwrap()),
        homepage: Some(format!("https://museum.example/{MARKER}").parse().unwrap()),
        tags: vec![MARKER.to_owned()],
        labels: Some(vec![MARKER.to_owned()]),
        details: Some(json!({ MARKER: MARKER })),
        extra: json!({ MARKER: MARKER }),
        secret: Some(format!("{MARKER} secret")),
        ..Specimen::new(format!("{MARKER} name"))
    }
}

#[track_caller]
fn assert_tells_nothing(error: &StorageError) {
    let mut chain: Option<&dyn StdError> = Some(error);
    while let Some(link) = chain {
        for text in [link.to_string(), format!("{link:?}"), format!("{link:#?}")] {
            let lower = text.to_lowercase();
            assert!(!lower.contains(&MARKER.to_lowercase()), "{text}");
            assert!(!lower.contains("4711081547"), "{text}");
        }
        chain = link.source();
    }
}

#[tokio::test]
async fn errors_never_tell_a_value() {
    let database = fresh();
    let mut owner = database.owner().await.unwrap();
    let storage = storage_on(&database).await;
    let mut told = Vec::new();
    let mut note = |what: &str, outcome: Result<(), StorageError>| {
        let error = outcome.expect_err(what);
        assert_tells_nothing(&error);
        told.push(what.to_owned());
        error
    };
    let scope = new_scope();
    let known = row(marked());
    storage
        .commit(&scope, &changes([insert(&known)]))
        .await
        .unwrap();
    let commit = async |list: Vec<Change>| storage.commit(&scope, &changes(list)).await.map(|_| ());
    let read = async || storage.select(&scope, &everything()).await.map(|_| ());

    note("a duplicate", commit(vec![insert(&row(marked()))]).await);
    note("the same id", commit(vec![insert(&known)]).await);
    let orphan = row(Specimen {
        parent_id: Some(Id::new(new_id())),
        code: None,
        serial: None,
        slot: None,
        room: None,
        ..marked()
    });
    note("a reference", commit(vec![insert(&orphan)]).await);
    let stale = update(&known, |known: &mut Specimen| known.quantity = 1);
    commit(vec![update(&known, |known: &mut Specimen| {
        known.quantity = 2;
    })])
    .await
    .unwrap();
    note("a conflict", commit(vec![stale]).await);
    let plain = || {
        row(Specimen {
            code: None,
            serial: None,
            slot: None,
            room: None,
            ..marked()
        })
    };
    let part = row(Part::new(Id::new(known.id())));
    commit(vec![insert(&part)]).await.unwrap();
    let known = stored(&storage, &scope, &known).await;
    note("a referenced row", commit(vec![remove(&known)]).await);

    // A database that is stricter than the schema, or not as the schema says.
    for (what, sql, undo, expected) in [
        (
            "a check",
            "ALTER TABLE crm.specimens ADD CONSTRAINT strict CHECK (name = '') NOT VALID",
            "ALTER TABLE crm.specimens DROP CONSTRAINT strict",
            (Fault::Constraint, "23514"),
        ),
        (
            "a missing value",
            "ALTER TABLE crm.specimens ADD COLUMN wanted text; \
             ALTER TABLE crm.specimens ADD CONSTRAINT there CHECK (wanted IS NOT NULL) NOT VALID",
            "ALTER TABLE crm.specimens DROP COLUMN wanted",
            (Fault::Constraint, "23514"),
        ),
        (
            "a value that is too long",
            "ALTER TABLE crm.specimens ALTER COLUMN secret TYPE varchar(3) USING 'x'",
            "ALTER TABLE crm.specimens ALTER COLUMN secret TYPE varchar(100)",
            (Fault::Constraint, "22001"),
        ),
        (
            "a function that fails",
            "CREATE FUNCTION crm.fail() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'no %', NEW USING DETAIL = NEW::text, HINT = NEW::text, \
             TABLE = 'specimens'; END $$; \
             CREATE TRIGGER fail BEFORE INSERT ON crm.specimens FOR EACH ROW \
             EXECUTE FUNCTION crm.fail()",
            "DROP TRIGGER fail ON crm.specimens",
            (Fault::Other, "P0001"),
        ),
        (
            "a text that is no number",
            "CREATE OR REPLACE FUNCTION crm.fail() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN NEW.quantity = NEW.name::bigint; RETURN NEW; END $$; \
             CREATE TRIGGER fail BEFORE INSERT ON crm.specimens FOR EACH ROW \
             EXECUTE FUNCTION crm.fail()",
            "DROP TRIGGER fail ON crm.specimens",
            (Fault::Constraint, "22P02"),
        ),
        (
            "row-level security",
            "CREATE POLICY nothing ON crm.specimens AS RESTRICTIVE FOR INSERT WITH CHECK (false)",
            "DROP POLICY nothing ON crm.specimens",
            (Fault::NotPermitted, "42501"),
        ),
    ] {
        execute(&mut owner, sql).await;
        for rows in [
            vec![insert(&plain())],
            vec![insert(&plain()), insert(&plain())],
        ] {
            let error = note(what, commit(rows).await);
            assert_fault(&error, expected.0, expected.1);
        }
        execute(&mut owner, undo).await;
    }

    // Stored values that do not fit the schema.
    execute(
        &mut owner,
        "ALTER TABLE crm.specimens DROP CONSTRAINT specimens_state_check; \
         ALTER TABLE crm.specimens ALTER COLUMN state TYPE text; \
         UPDATE crm.specimens SET state = 'Zebedee', email = 'Zebedee', homepage = 'Zebedee'",
    )
    .await;
    let error = note("a stored row that does not fit", read().await);
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error:?}");
    execute(
        &mut owner,
        "ALTER TABLE crm.specimens ALTER COLUMN quantity TYPE text USING 'Zebedee'",
    )
    .await;
    note("a column of another type", read().await);
    // A filter's value.
    let named = Filter::And(vec![
        Filter::eq("name", MARKER),
        Filter::eq("quantity", 4_711_081_547_i64),
    ]);
    let condition = Condition::bind(&named, Specimen::schema(), &registry()).unwrap();
    let query = Query::new(Specimen::schema(), condition);
    let filtered = storage.select(&scope, &query).await.map(|_| ());
    note("a filter over a column of another type", filtered);
    execute(
        &mut owner,
        "ALTER TABLE crm.specimens ALTER COLUMN origin TYPE date USING '2001-01-01'",
    )
    .await;
    note(
        "a value of another type",
        commit(vec![insert(&plain())]).await,
    );
    execute(&mut owner, "DROP TABLE crm.specimens CASCADE").await;
    note("a missing table", commit(vec![insert(&plain())]).await);
    note("a missing table", read().await);
    assert!(told.len() > 15, "{told:?}");
}

// Round trips.

/// Stands between client and server, counts what is asked, and loses an answer when told to.
struct Relay {
    port: u16,
    shared: Arc<Watch>,
}

#[derive(Default)]
struct Watch {
    /// The kinds of the messages of each request, which the server answers at its end.
    requests: Mutex<Vec<String>>,
    lose: AtomicBool,
    lost: Notify,
    go_on: Notify,
}

impl Relay {
    async fn start(url: &str) -> Self {
        let target = options(url);
        let address = format!("{}:{}", target.get_host(), target.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Watch::default());
        tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let server = TcpStream::connect(&address).await.unwrap();
                    tokio::spawn(relay(client, server, shared.clone()));
                }
            }
        });
        Self { port, shared }
    }

    fn options(&self, url: &str) -> PgConnectOptions {
        options(url).host("127.0.0.1").port(self.port)
    }

    fn lose_next_answer(&self) {
        self.shared.lose.store(true, Ordering::SeqCst);
    }

    async fn wait_for_loss(&self) {
        tokio::time::timeout(PATIENCE, self.shared.lost.notified())
            .await
            .expect("something is sent");
    }

    fn go_on(&self) {
        self.shared.go_on.notify_one();
    }

    /// The requests since this was last asked, without the pool's own test of a connection that
    /// is given back, which nobody waits for.
    fn requests(&self) -> Vec<String> {
        let mut requests = std::mem::take(&mut *self.shared.requests.lock().unwrap());
        requests.retain(|request| request != "S");
        requests
    }
}

async fn relay(client: TcpStream, server: TcpStream, shared: Arc<Watch>) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // Set by a request whose answer shall be lost.
    let losing = Arc::new(AtomicBool::new(false));
    let asks = tokio::spawn({
        let (shared, losing) = (shared.clone(), losing.clone());
        async move {
            let mut request = String::new();
            let mut is_startup = true;
            loop {
                let mut head = [0; 5];
                let head = if is_startup {
                    &mut head[1..]
                } else {
                    &mut head[..]
                };
                if from_client.read_exact(head).await.is_err() {
                    break;
                }
                let kind = (!is_startup).then(|| char::from(head[0]));
                let length = u32::from_be_bytes(head[head.len() - 4..].try_into().unwrap());
                let mut body = vec![0; length as usize - 4];
                if from_client.read_exact(&mut body).await.is_err() {
                    break;
                }
                is_startup = false;
                request.extend(kind);
                // Here the client begins to wait.
                if let Some('S' | 'Q' | 'H') = kind {
                    if request.contains('E') && shared.lose.swap(false, Ordering::SeqCst) {
                        losing.store(true, Ordering::SeqCst);
                    }
                    shared
                        .requests
                        .lock()
                        .unwrap()
                        .push(std::mem::take(&mut request));
                }
                let sent = async {
                    to_server.write_all(head).await?;
                    to_server.write_all(&body).await
                };
                if sent.await.is_err() {
                    break;
                }
            }
        }
    });
    loop {
        let mut head = [0; 5];
        if from_server.read_exact(&mut head).await.is_err() {
            break;
        }
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        let mut body = vec![0; length as usize - 4];
        if from_server.read_exact(&mut body).await.is_err() {
            break;
        }
        if losing.load(Ordering::SeqCst) {
            // The server has done its work: the transaction is over.
            if head[0] == b'Z' {
                shared.lost.notify_one();
                shared.go_on.notified().await;
                break;
            }
            continue;
        }
        let sent = async {
            to_client.write_all(&head).await?;
            to_client.write_all(&body).await
        };
        if sent.await.is_err() {
            break;
        }
    }
    // Both ends close.
    asks.abort();
}

/// What is asked when a call is made for the second time.
async fn requests_of<F>(relay: &Relay, mut call: impl FnMut() -> F) -> Vec<String>
where
    F: Future<Output = ()>,
{
    // The statement is prepared on the connection.
    call().await;
    relay.requests();
    call().await;
    relay.requests()
}

#[tokio::test]
async fn every_call_is_one_round_trip() {
    let database = shared().await;
    let relay = Relay::start(database.application_url()).await;
    let storage = builder().build(pool_of(relay.options(database.application_url()), 1));
    let scope = new_scope();
    let engine = Engine::builder(storage.clone())
        .object::<Specimen>()
        .object::<crm_audit::AuditEvent>()
        .hook(crm_audit::Recorder)
        .build();
    let session = engine.session(scope.tenant().unwrap(), Actor::System);
    let (storage, session, scope) = (&storage, &session, &scope);
    let anchor = row(Specimen::new("anchor"));
    let chores = [1, 2].map(|_| insert(&row(Chore::new("mail"))));
    storage
        .commit(scope, &changes([insert(&anchor)]))
        .await
        .unwrap();
    storage.commit(scope, &changes(chores)).await.unwrap();
    let id = Id::<Specimen>::new(anchor.id());
    let mut seen = Vec::new();

    let get = async || drop(stored(storage, scope, &anchor).await);
    seen.push(("get", requests_of(&relay, get).await));
    let select = async || drop(storage.select(scope, &everything()).await.unwrap());
    seen.push(("select", requests_of(&relay, select).await));
    let sum = AggregateQuery::count(Specimen::schema(), Condition::all());
    let aggregate = async || drop(storage.aggregate(scope, &sum).await.unwrap());
    seen.push(("aggregate", requests_of(&relay, aggregate).await));
    let take = async || assert_eq!(storage.claim(scope, &claim()).await.unwrap().len(), 1);
    seen.push(("claim", requests_of(&relay, take).await));

    // With audit events: what an engine sends.
    let create = async || {
        let mut work = session.begin();
        work.records::<Specimen>()
            .create(Specimen::new("new"))
            .await
            .unwrap();
        let changes = work.prepare().await.unwrap();
        assert_eq!(changes.changes.len(), 2, "the record and its event");
        storage.commit(scope, &changes).await.unwrap();
    };
    seen.push(("create", requests_of(&relay, create).await));
    let change = async || {
        let mut work = session.begin();
        let grow = |specimen: &mut Specimen| specimen.quantity += 1;
        work.records::<Specimen>().update(id, grow).await.unwrap();
        let changes = work.prepare().await.unwrap();
        assert_eq!(changes.changes.len(), 2, "the record and its event");
        relay.requests();
        storage.commit(scope, &changes).await.unwrap();
    };
    seen.push(("update", requests_of(&relay, change).await));
    let rely = async || {
        let anchor = stored(storage, scope, &anchor).await;
        relay.requests();
        let commit = ChangeSet::new(
            new_id(),
            now(),
            vec![
                insert(&row(Chore::new("mail"))),
                insert(&row(Reading::new(now()))),
            ],
            vec![expectation(&anchor)],
        );
        storage.commit(scope, &commit).await.unwrap();
    };
    seen.push(("expectation", requests_of(&relay, rely).await));
    let refer = async || {
        let part = row(Part::new(id));
        storage
            .commit(scope, &changes([insert(&part)]))
            .await
            .unwrap();
    };
    seen.push(("reference", requests_of(&relay, refer).await));
    let many = async || {
        let rows: Vec<Change> = (0..20).map(|_| insert(&row(Specimen::new("x")))).collect();
        storage.commit(scope, &changes(rows)).await.unwrap();
    };
    seen.push(("twenty rows", requests_of(&relay, many).await));
    // The engine's own way, with what it reads before.
    let through = async || {
        let mut specimens = session.records::<Specimen>();
        drop(
            specimens
                .create(Specimen::new("by the engine"))
                .await
                .unwrap(),
        );
    };
    seen.push(("create by the engine", requests_of(&relay, through).await));

    for (call, requests) in seen {
        // Bind, execute, close the portal, and the end of the request.
        assert_eq!(requests, ["BECS"], "{call}");
    }
}

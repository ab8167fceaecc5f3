//! Connections that are not there, go stale, are ended, or break before the answer.

use std::time::Duration;

use crm_core::Record;
use crm_core::query::{AggregateQuery, Condition, Query};
use crm_core::schema::Entity as _;
use crm_core::storage::conformance::{self, Chore, Reading, Specimen};
use crm_core::storage::{Storage as _, StorageError};
use crm_storage_postgres::Fault;
use crm_test_postgres::{Database, Server};
use sqlx::postgres::PgPoolOptions;

use crate::common::{
    PATIENCE, assert_fault, builder, call_all, changes, claim, count, everything, execute, fresh,
    insert, lock, new_id, new_scope, now, options, pool_of, row, shared, storage_on, stored,
    terminate, update, waiting,
};
use crate::relay::Relay;

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

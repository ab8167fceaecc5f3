//! a legal hold that is set while the commit of a retention run ends, behind its look at the holds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what went wrong by stopping"
)]

use std::sync::Arc;

use crm_engine::PostgresStorage;
use crm_engine::engine::ManualClock;
use crm_engine::prelude::*;
use crm_engine::privacy::{DeletionMethod, LegalHold, RetentionPolicy};
use crm_test_postgres::Database;
use sqlx::{PgConnection, PgPool};

/// What a commit that removes something waits for when it ends, behind all that the engine looks at.
const WAIT_AT_THE_END: &str = "\
    CREATE FUNCTION public.wait_at_the_end() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$; \
    CREATE CONSTRAINT TRIGGER wait_at_the_end AFTER INSERT ON crm.deletion_logs \
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.wait_at_the_end()";

/// The transactions of this database that wait: at the end, and for each other.
async fn waiting(owner: &mut PgConnection) -> (i64, i64) {
    sqlx::query_as(
        "SELECT count(*) FILTER (WHERE wait_event = 'advisory'), \
         count(*) FILTER (WHERE wait_event IN ('transactionid', 'tuple')) \
         FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    .fetch_one(owner)
    .await
    .unwrap()
}

async fn holds(owner: &mut PgConnection) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM crm.legal_holds");
    count.fetch_one(owner).await.unwrap()
}

async fn pool(database: &Database) -> PgPool {
    database.pool(6).await.unwrap()
}

#[tokio::test]
async fn a_hold_does_not_fall_into_the_end_of_a_run() {
    let database = Database::fresh(&[]).expect("the tests need PostgreSQL");
    let clock = Arc::new(ManualClock::new("2020-01-01T00:00:00Z".parse().unwrap()));
    let crm = Crm::builder(PostgresStorage::new(pool(&database).await))
        .clock(clock.clone())
        .build();
    let home = crm
        .onboard(Onboarding::new("Acme", "acme", "ada@acme.example"))
        .await
        .unwrap();
    let session = crm.session(home.tenant, Actor::User(home.admin));
    let contact = Contact::named("Ada", "Lovelace");
    let contact = session.contacts().create(contact).await.unwrap().id;
    let policy = RetentionPolicy::new("contacts", "contact", DeletionMethod::SoftDelete, 1);
    let policy = session
        .retention_policies()
        .create(policy)
        .await
        .unwrap()
        .id;
    clock.set("2022-01-01T00:00:00Z".parse().unwrap());

    let mut owner = database.owner().await.unwrap();
    sqlx::raw_sql(WAIT_AT_THE_END)
        .execute(&mut owner)
        .await
        .unwrap();
    sqlx::raw_sql("SELECT pg_advisory_lock(4711)")
        .execute(&mut owner)
        .await
        .unwrap();
    let running = session.clone();
    let run = tokio::spawn(async move { running.retention().run(policy, &()).await });
    while waiting(&mut owner).await.0 == 0 {
        assert!(!run.is_finished(), "the run did not get to its end");
        tokio::task::yield_now().await;
    }
    // All is decided and written, and nothing is committed.
    let holding = session.clone();
    let hold = LegalHold {
        record_id: Some(contact.uuid()),
        ..LegalHold::new("lawsuit", "contact")
    };
    let hold = tokio::spawn(async move { holding.legal_holds().create(hold).await });
    while waiting(&mut owner).await.1 == 0 {
        assert!(
            !hold.is_finished(),
            "the hold was set before the run was over"
        );
        tokio::task::yield_now().await;
    }
    assert_eq!(holds(&mut owner).await, 0);
    sqlx::raw_sql("SELECT pg_advisory_unlock(4711)")
        .execute(&mut owner)
        .await
        .unwrap();

    // The hold comes behind the run, and so do all that look at it.
    let done = run.await.unwrap().unwrap();
    assert_eq!((done.done, done.refused), (1, 0));
    hold.await.unwrap().unwrap();
    assert!(session.contacts().get(contact).await.is_err());
    let again = session.retention().run(policy, &()).await.unwrap();
    assert_eq!((again.done, again.refused), (0, 0));
}

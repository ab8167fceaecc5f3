//! Other transactions: timeouts, locks, deadlocks and isolation levels.

use std::error::Error as _;
use std::time::Duration;

use crm_core::Id;
use crm_core::query::{Condition, Query};
use crm_core::schema::Entity as _;
use crm_core::storage::conformance::{Chore, Part, Specimen};
use crm_core::storage::{Storage as _, StorageError};
use crm_storage_postgres::Fault;

use crate::common::{
    assert_fault, builder, changes, count, everything, execute, fresh, insert, lock, lock_too,
    new_id, new_scope, options, pool_of, row, shared, stored, update, waiting,
};

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
    lock(&mut holder, &specimen).await;
    let commit = tokio::spawn({
        let storage = storage.clone();
        let both = changes([
            update(&specimen, |specimen: &mut Specimen| specimen.quantity = 1),
            update(&chore, |chore: &mut Chore| chore.urgency = 1),
        ]);
        async move { storage.commit(&scope, &both).await }
    });
    waiting(&mut owner, &application, 1).await;
    lock_too(&mut holder, &chore).await;
    // Now the commit waits again, for both.
    waiting(&mut owner, &application, 1).await;
    execute(&mut holder, "ROLLBACK").await;
    assert_eq!(commit.await.unwrap().unwrap().rows, 2);
    assert_eq!(stored(&storage, &scope, &specimen).await.version(), 2);
    assert_eq!(stored(&storage, &scope, &chore).await.version(), 2);
}

/// Commits lock rows in one order, whatever was written first: so while one waits for a row, those
/// behind it are free, and nobody waits for another in a circle.
#[tokio::test]
async fn rows_are_locked_in_one_order() {
    let database = shared().await;
    let mut owner = database.owner().await.unwrap();
    let mut holder = database.owner().await.unwrap();
    let application = format!("order-{}", new_id());
    let options = options(database.application_url()).application_name(&application);
    let storage = builder().build(pool_of(options, 1));
    let scope = new_scope();
    let count = |specimen: &mut Specimen| specimen.quantity = 1;
    let rank = |chore: &mut Chore| chore.urgency = 1;
    // The first of several rows of an object, and that of the first of several objects.
    for is_mixed in [false, true] {
        let mut specimens: Vec<_> = (0..3).map(|_| row(Specimen::new("one"))).collect();
        specimens.sort_by_key(|row| row.id());
        let chore = row(Chore::new("mail"));
        // They lie in another order than that of their ids.
        let all: Vec<_> = specimens.iter().rev().chain([&chore]).map(insert).collect();
        storage.commit(&scope, &changes(all)).await.unwrap();
        let backwards = specimens.iter().rev().map(|row| update(row, count));
        let others = is_mixed.then(|| update(&chore, rank));
        let commit: Vec<_> = backwards.chain(others).collect();
        let (held, behind) = match is_mixed {
            true => (&chore, &specimens[0]),
            false => (&specimens[0], &specimens[2]),
        };
        lock(&mut holder, held).await;
        let rows = commit.len();
        let commit = tokio::spawn({
            let (storage, commit) = (storage.clone(), changes(commit));
            async move { storage.commit(&scope, &commit).await }
        });
        waiting(&mut owner, &application, 1).await;
        // It would be refused at once.
        execute(&mut holder, "SET LOCAL lock_timeout = '1ms'").await;
        lock_too(&mut holder, behind).await;
        execute(&mut holder, "ROLLBACK").await;
        assert_eq!(commit.await.unwrap().unwrap().rows, rows);
    }
}

/// Where others are in the way again and again, the call is one that decides anew.
#[tokio::test]
async fn a_commit_that_always_loses_is_a_conflict() {
    let database = fresh();
    let mut owner = database.owner().await.unwrap();
    let storage = builder().build(pool_of(options(database.application_url()), 1));
    let scope = new_scope();
    let known = row(Specimen::new("known"));
    let insertion = changes([insert(&known)]);
    storage.commit(&scope, &insertion).await.unwrap();
    for code in ["40P01", "40001"] {
        let lose = format!(
            "CREATE OR REPLACE FUNCTION crm.lose() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN RAISE EXCEPTION USING ERRCODE = ''{code}''; END'; \
             CREATE OR REPLACE TRIGGER lose BEFORE UPDATE ON crm.specimens \
             FOR EACH ROW EXECUTE FUNCTION crm.lose()"
        );
        execute(&mut owner, &lose).await;
        let change = update(&known, |known: &mut Specimen| known.quantity = 1);
        let refused = storage.commit(&scope, &changes([change])).await;
        let conflict = StorageError::Conflict {
            object: "specimen".to_owned(),
            id: known.id(),
        };
        assert_eq!(
            format!("{:?}", refused.unwrap_err()),
            format!("{conflict:?}")
        );
        assert_eq!(stored(&storage, &scope, &known).await.version(), 1);
    }
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

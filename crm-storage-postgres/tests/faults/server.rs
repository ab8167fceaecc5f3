//! The server's state: read only, full, without connections, tables or privileges.

use std::time::Duration;

use crm_core::storage::Storage as _;
use crm_core::storage::conformance::{self, Chore, Specimen};
use crm_storage_postgres::Fault;
use crm_test_postgres::{Database, Server};
use sqlx::postgres::PgPoolOptions;

use crate::common::{
    assert_fault, builder, call_all, changes, count, everything, execute, fresh, insert, new_scope,
    options, pool_of, row, shared, storage_on, stored,
};

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

/// A column gets another type while connections keep plans that were made before: reads and claims
/// go on.
#[tokio::test]
async fn plans_that_a_migration_made_stale_are_made_anew() {
    let database = fresh();
    let mut owner = database.owner().await.unwrap();
    let storage = storage_on(&database).await;
    let scope = new_scope();
    let chore = row(Chore::new("mail"));
    let specimen = row(Specimen::new("longer"));
    let both = changes([insert(&specimen), insert(&chore)]);
    storage.commit(&scope, &both).await.unwrap();
    for wider in ["varchar(500)", "text"] {
        for _ in 0..2 {
            stored(&storage, &scope, &specimen).await;
            assert_eq!(count(&storage, &scope, &everything()).await, 1);
        }
        let sql =
            format!("ALTER TABLE crm.specimens ALTER COLUMN origin TYPE {wider} COLLATE \"C\"");
        execute(&mut owner, &sql).await;
        stored(&storage, &scope, &specimen).await;
        assert_eq!(count(&storage, &scope, &everything()).await, 1);
    }
}

/// A row on its way to the default partition while its month gets one of its own is refused by the
/// server, and sent again here.
#[tokio::test]
async fn a_row_whose_partition_was_made_meanwhile_is_sent_again() {
    let database = fresh();
    let mut owner = database.owner().await.unwrap();
    // What the server says of a partition's bounds: a failed check without the name of one.
    execute(
        &mut owner,
        "CREATE SEQUENCE public.attempts; \
         CREATE FUNCTION public.once() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
         IF nextval('public.attempts') = 1 THEN \
         RAISE EXCEPTION 'violates partition constraint' USING ERRCODE = '23514'; END IF; \
         RETURN NEW; END $$; \
         CREATE TRIGGER once BEFORE INSERT ON crm.chores FOR EACH ROW EXECUTE FUNCTION public.once()",
    )
    .await;
    let storage = storage_on(&database).await;
    let chore = row(Chore::new("mail"));
    storage
        .commit(&new_scope(), &changes([insert(&chore)]))
        .await
        .unwrap();
    let attempts: i64 = sqlx::query_scalar("SELECT last_value FROM public.attempts")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(attempts, 2);
}

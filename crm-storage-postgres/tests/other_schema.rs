//! The storage in a schema and with a role of the host's own names.

#![allow(
    clippy::expect_used,
    clippy::disallowed_types,
    reason = "helpers of tests; DDL is made of constants and the schema"
)]

use std::sync::Arc;

use crm_core::storage::conformance::{self, Harness};
use crm_storage_postgres::{PostgresStorage, ddl, drift, lint, objects};
use crm_test_postgres::Database;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};

const SCHEMA: &str = "Sales & \"co\"";
const ROLE: &str = "other schema's app";

/// The groups of the suite that between them send every kind of statement.
const GROUPS: &[&str] = &[
    "crud",
    "unique",
    "references",
    "filters",
    "claims",
    "tenancy",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_storage_works_in_a_schema_of_any_name() {
    let database = Database::fresh(&[]).expect("the tests need PostgreSQL");
    let owner = PgPool::connect(database.owner_url())
        .await
        .expect("the owner's pool");
    let login: PgConnectOptions = database.owner_url().parse().expect("a URL");
    let login = login.username(ROLE).password("other");
    let pool = PgPoolOptions::new()
        .test_before_acquire(false)
        .connect_lazy_with(login);
    let storage = conformance::objects()
        .iter()
        .fold(
            PostgresStorage::builder()
                .schema(SCHEMA)
                .application_role(ROLE),
            |builder, object| builder.named_object(object),
        )
        .build(pool);
    storage
        .migrations()
        .run(&owner)
        .await
        .expect("the migrations run");
    let tables = ddl(SCHEMA, ROLE, &conformance::objects()).expect("tables");
    let statements = format!("{tables}; ALTER ROLE \"{ROLE}\" LOGIN PASSWORD 'other'");
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(&owner)
        .await
        .expect("the tables are made");

    let storage = Arc::new(storage);
    let cases = conformance::cases();
    let cases = cases.iter().filter(|case| GROUPS.contains(&case.group));
    let mut count = 0;
    for case in cases {
        let harness = Harness::new(storage.clone()).spawn_with(|worker| drop(tokio::spawn(worker)));
        let outcome = case.run(harness).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        count += 1;
    }
    assert!(count > 50, "only {count} cases");

    let mut connection = owner.acquire().await.expect("a connection");
    let mut all = objects();
    all.extend(conformance::objects());
    let found = drift(&mut connection, SCHEMA, &all)
        .await
        .expect("a comparison");
    assert!(found.is_empty(), "{found:?}");
    let found = lint(&mut connection, SCHEMA).await.expect("a look");
    assert!(found.is_empty(), "{found:?}");
}

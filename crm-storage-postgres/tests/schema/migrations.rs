//! The migrations: run, rolled back, under other names and by other owners.

use chrono::NaiveDate;
use crm_storage_postgres::{Migrations, SchemaError, drift, ensure_partitions, lint, objects};
use crm_test_postgres::Server;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::common::{ACME, Database, count, event, run, strings};
use crate::drift::drifts;

#[tokio::test]
async fn migrations_run_once_however_often_and_from_wherever_they_are_run() {
    let database = Database::new("runs").await;
    let migrations = Migrations::new();
    let runs = (0..4).map(|_| {
        let (migrations, pool) = (migrations.clone(), database.pool.clone());
        tokio::spawn(async move { migrations.run(&pool).await })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.unwrap().unwrap();
    }
    migrations.run(&database.pool).await.unwrap();
    let mut connection = database.connection().await;
    let applied = count(&mut connection, "SELECT count(*) FROM crm._migrations").await;
    assert_eq!(
        applied,
        migrations.migrator().unwrap().iter().count() as i64 / 2
    );
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn an_exported_migrator_runs_on_its_own() {
    let database = Database::new("exported").await;
    let migrator = Migrations::new().migrator().unwrap();
    migrator.run(&database.pool).await.unwrap();
    Migrations::new().run(&database.pool).await.unwrap();
    database.drop().await;
}

#[tokio::test]
async fn a_rollback_leaves_nothing_behind_and_a_new_run_brings_it_back() {
    let database = Database::migrated("rollback").await;
    let migrations = Migrations::new();
    let left = "SELECT relname::text FROM pg_class WHERE relnamespace = 'crm'::regnamespace \
                AND relkind IN ('r', 'p') AND relname <> '_migrations' \
                UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'crm'::regnamespace \
                UNION ALL SELECT 'rights of ' || e.grantee::regrole FROM pg_namespace, \
                LATERAL aclexplode(nspacl) AS e WHERE nspname = 'crm' AND e.grantee <> nspowner";
    let mut connection = database.connection().await;
    assert!(strings(&mut connection, left).await.len() > 20);
    for partitions in [0, 2] {
        let day = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
        ensure_partitions(&mut connection, "crm", day, partitions)
            .await
            .unwrap();
        if partitions == 0 {
            migrations.rollback(&database.pool).await.unwrap();
        } else {
            migrations.rollback_to(&database.pool, 0).await.unwrap();
        }
        assert_eq!(strings(&mut connection, left).await, Vec::<String>::new());
        migrations.rollback(&database.pool).await.unwrap();
        migrations.run(&database.pool).await.unwrap();
    }
    assert_eq!(drifts(&mut connection).await, []);
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn a_rollback_of_what_never_ran_does_nothing() {
    let database = Database::new("never").await;
    Migrations::new().rollback(&database.pool).await.unwrap();
    Migrations::new()
        .rollback_to(&database.pool, 0)
        .await
        .unwrap();
    database.drop().await;
}

#[tokio::test]
async fn a_rollback_is_refused_while_a_hosts_table_depends_on_ours() {
    let database = Database::migrated("depends").await;
    let mut connection = database.connection().await;
    run(
        &mut connection,
        "CREATE TABLE host (tenant_id uuid, contact_id uuid, \
         FOREIGN KEY (tenant_id, contact_id) REFERENCES crm.contacts (tenant_id, id))",
    )
    .await;
    let refused = Migrations::new().rollback(&database.pool).await;
    assert!(
        matches!(refused, Err(SchemaError::Migration(_))),
        "{refused:?}"
    );
    assert_eq!(drifts(&mut connection).await, []);
    // The lock of the failed run is gone.
    Migrations::new().run(&database.pool).await.unwrap();
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn other_names_are_names_whatever_is_in_them() {
    let database = Database::new("names").await;
    for (schema, role) in [
        ("Sales CRM", "Sales App"),
        ("it's \"quoted\"; DROP", "o'neill \"crm_app\" -- \\"),
        ("crm_app", "crm"),
        ("{schema}", "\\'crm\\'"),
        (
            "ein_sehr_langer_name_für_ein_schema_das_niemand_so_nennen_wird",
            "crm_other",
        ),
    ] {
        let role = &format!("{role} {}", std::process::id());
        let migrations = Migrations::new().schema(schema).application_role(role);
        migrations.run(&database.pool).await.unwrap();
        migrations.run(&database.pool).await.unwrap();
        let mut connection = database.connection().await;
        let found = drift(&mut connection, schema, &objects()).await.unwrap();
        assert_eq!(found, [], "{schema}");
        let found = lint(&mut connection, schema).await.unwrap();
        assert_eq!(found, Vec::<String>::new(), "{schema}");
        let day = NaiveDate::from_ymd_opt(2026, 1, 31).unwrap();
        let made = ensure_partitions(&mut connection, schema, day, 1)
            .await
            .unwrap();
        let months = [
            "api_calls_2026_01",
            "audit_events_2026_01",
            "auth_events_2026_01",
        ];
        assert_eq!(made, months);
        let rights: bool = sqlx::query_scalar(
            "SELECT bool_and(has_table_privilege($2, c.oid, 'SELECT, INSERT')) \
             FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND relkind IN ('r', 'p') AND NOT relispartition \
             AND relname <> '_migrations'",
        )
        .bind(schema)
        .bind(role)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
        assert!(rights);
        let found: Vec<(Uuid, f32)> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT f.id, f.rank FROM (SELECT set_config('crm.tenant_id', $1::text, true)) AS s, \
             LATERAL \"{}\".search($1, 'contacts', 'ada', 10) AS f",
            schema.replace('"', "\"\"")
        )))
        .bind(ACME)
        .fetch_all(&mut *connection)
        .await
        .unwrap();
        assert_eq!(found, []);
        migrations.rollback(&database.pool).await.unwrap();
        let search_role: Option<String> = sqlx::query_scalar(
            "SELECT rolname::text FROM pg_roles WHERE rolname LIKE left($1, 20) || '%\\_search'",
        )
        .bind(schema)
        .fetch_optional(&mut *connection)
        .await
        .unwrap();
        let roles = [Some(role.clone()), search_role.filter(|_| schema != "crm")];
        for role in roles.into_iter().flatten() {
            let role = role.replace('"', "\"\"");
            run(
                &mut connection,
                &format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\""),
            )
            .await;
        }
    }
    database.drop().await;
}

#[test]
fn names_that_postgresql_would_change_are_refused() {
    let long = "x".repeat(64);
    for (schema, role) in [
        ("", "crm_app"),
        ("crm", ""),
        (long.as_str(), "crm_app"),
        ("pg_crm", "crm_app"),
        ("crm", "public"),
        ("crm", "crm_search"),
        ("a$function$b", "crm_app"),
        ("crm", "nul\0"),
    ] {
        let refused = Migrations::new()
            .schema(schema)
            .application_role(role)
            .migrator();
        assert!(
            matches!(refused, Err(SchemaError::Name { .. })),
            "{schema} {role}"
        );
    }
}

/// A role that may make schemas and roles, and nothing else: what a managed server gives.
#[tokio::test]
async fn the_owner_need_not_be_a_superuser() {
    let server = Server::shared().unwrap();
    let mut maintenance = PgConnection::connect(server.url()).await.unwrap();
    let owner = format!("crm_owner_{}", std::process::id());
    let schema = format!("crm_owned_{}", std::process::id());
    let role = format!("{schema}_app");
    run(&mut maintenance, &format!("CREATE ROLE {owner} CREATEROLE")).await;
    let database = Database::with("owner", "C", Some(&owner)).await;
    let migrations = Migrations::new().schema(&schema).application_role(&role);
    migrations.run(&database.pool).await.unwrap();
    migrations.run(&database.pool).await.unwrap();

    let mut connection = database.connection().await;
    assert_eq!(
        drift(&mut connection, &schema, &objects()).await.unwrap(),
        []
    );
    assert_eq!(
        lint(&mut connection, &schema).await.unwrap(),
        Vec::<String>::new()
    );
    let owners = strings(
        &mut connection,
        &format!(
            "SELECT proowner::regrole::text FROM pg_proc \
             WHERE pronamespace = '{schema}'::regnamespace AND prosecdef"
        ),
    )
    .await;
    assert_eq!(
        owners,
        vec![format!("{schema}_search"); 3],
        "the functions that search, and the one that takes entries out of logs"
    );

    // Not even the owner sees rows without a tenant, and yet none is lost from the partition.
    let inserted = event(ACME, 1, "2026-01-31 23:59:59+00").replace("crm.", &format!("{schema}."));
    let mut transaction = connection.begin().await.unwrap();
    run(
        &mut transaction,
        &format!("SELECT set_config('crm.tenant_id', '{ACME}', true); {inserted}"),
    )
    .await;
    transaction.commit().await.unwrap();
    let all = format!("SELECT count(*) FROM {schema}.audit_events");
    assert_eq!(count(&mut connection, &all).await, 0);
    let day = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
    ensure_partitions(&mut connection, &schema, day, 1)
        .await
        .unwrap();
    let mut own = connection.begin().await.unwrap();
    run(
        &mut own,
        &format!("SELECT set_config('crm.tenant_id', '{ACME}', true)"),
    )
    .await;
    assert_eq!(count(&mut own, &all).await, 1);
    own.rollback().await.unwrap();
    assert_eq!(
        drift(&mut connection, &schema, &objects()).await.unwrap(),
        []
    );

    migrations.rollback(&database.pool).await.unwrap();
    drop(connection);
    database.drop().await;
    run(
        &mut maintenance,
        &format!("DROP ROLE {role}, {schema}_search"),
    )
    .await;
    run(&mut maintenance, &format!("DROP ROLE {owner}")).await;
}

/// Somebody else may make the schema and the roles, and the owner then needs no right but its own.
#[tokio::test]
async fn the_schema_and_the_roles_may_be_there_before() {
    let server = Server::shared().unwrap();
    let mut maintenance = PgConnection::connect(server.url()).await.unwrap();
    let owner = format!("crm_plain_{}", std::process::id());
    let schema = format!("crm_given_{}", std::process::id());
    run(
        &mut maintenance,
        &format!(
            "CREATE ROLE {owner}; CREATE ROLE {schema}_app; CREATE ROLE {schema}_search; \
             GRANT {schema}_search TO {owner}"
        ),
    )
    .await;
    let database = Database::with("given", "C", Some(&owner)).await;
    let mut given = PgConnection::connect(&server.url_of(&database.name, None))
        .await
        .unwrap();
    run(
        &mut given,
        &format!(
            "REVOKE CREATE ON DATABASE {} FROM {owner}; CREATE SCHEMA {schema} AUTHORIZATION {owner}",
            database.name
        ),
    )
    .await;
    let migrations = Migrations::new()
        .schema(&schema)
        .application_role(format!("{schema}_app"));
    migrations.run(&database.pool).await.unwrap();
    migrations.run(&database.pool).await.unwrap();
    let found = drift(&mut given, &schema, &objects()).await.unwrap();
    assert_eq!(found, []);
    let found = lint(&mut given, &schema).await.unwrap();
    assert_eq!(found, Vec::<String>::new());
    migrations.rollback(&database.pool).await.unwrap();
    given.close().await.unwrap();
    database.drop().await;
    run(
        &mut maintenance,
        &format!("DROP ROLE {schema}_app, {schema}_search, {owner}"),
    )
    .await;
}

//! The schema in a real database: migrations, row-level security, functions, partitions, drift.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails says where"
)]
#![allow(
    clippy::disallowed_types,
    reason = "tests send SQL that they put together from constants and the schema"
)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use chrono::NaiveDate;
use crm_core::Engine;
use crm_core::schema::{FieldSchema, FieldType, ObjectRef, ObjectSchema, OnDelete, StorageKind};
use crm_storage_postgres::{
    Drift, Migrations, PostgresStorage, SchemaError, ddl, drift, ensure_partitions, lint, objects,
};
use crm_test_postgres::Server;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use uuid::Uuid;

/// An empty database of a test's own.
struct Database {
    name: String,
    pool: PgPool,
}

impl Database {
    async fn new(label: &str) -> Self {
        Self::with(label, "C", None).await
    }

    /// `owner` is a role that all connections take on.
    async fn with(label: &str, locale: &str, owner: Option<&str>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "crm_schema_{label}_{}_{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let server = Server::shared().unwrap();
        let mut maintenance = PgConnection::connect(server.url()).await.unwrap();
        run(&mut maintenance, &format!("DROP DATABASE IF EXISTS {name}")).await;
        run(
            &mut maintenance,
            &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE '{locale}'"),
        )
        .await;
        let set_role = match owner {
            Some(owner) => {
                run(
                    &mut maintenance,
                    &format!("GRANT CREATE ON DATABASE {name} TO {owner}"),
                )
                .await;
                format!("SET ROLE {owner}")
            }
            None => String::from("RESET ROLE"),
        };
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .after_connect(move |connection, _| {
                let set_role = set_role.clone();
                Box::pin(async move {
                    sqlx::raw_sql(AssertSqlSafe(set_role))
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .connect(&server.url_of(&name, None))
            .await
            .unwrap();
        Self { name, pool }
    }

    async fn migrated(label: &str) -> Self {
        let database = Self::new(label).await;
        Migrations::new().run(&database.pool).await.unwrap();
        database
    }

    async fn connection(&self) -> sqlx::pool::PoolConnection<sqlx::Postgres> {
        self.pool.acquire().await.unwrap()
    }

    async fn drop(self) {
        self.pool.close().await;
        let server = Server::shared().unwrap();
        let mut maintenance = PgConnection::connect(server.url()).await.unwrap();
        run(
            &mut maintenance,
            &format!("DROP DATABASE {} (FORCE)", self.name),
        )
        .await;
    }
}

async fn run(connection: &mut PgConnection, sql: &str) {
    if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
    {
        panic!("{error}: {sql}");
    }
}

/// The code with which the server refuses a statement; none if it does not.
async fn refusal(connection: &mut PgConnection, sql: &str) -> Option<String> {
    let mut savepoint = connection.begin().await.unwrap();
    let error = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut *savepoint)
        .await
        .err()?;
    savepoint.rollback().await.unwrap();
    let code = error.as_database_error().and_then(|error| error.code());
    Some(code.expect("an error of the server").into_owned())
}

async fn strings(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_all(connection)
        .await
        .unwrap_or_else(|error| panic!("{error}: {sql}"))
}

async fn count(connection: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(connection)
        .await
        .unwrap_or_else(|error| panic!("{error}: {sql}"))
}

/// From here to the end of the transaction, all is done by the application for this tenant.
async fn become_application(connection: &mut PgConnection, tenant: Option<Uuid>) {
    run(connection, "SET LOCAL ROLE crm_app").await;
    let tenant = tenant.map(|tenant| tenant.to_string()).unwrap_or_default();
    run(
        connection,
        &format!("SELECT set_config('crm.tenant_id', '{tenant}', true)"),
    )
    .await;
}

fn object(name: &str) -> ObjectRef {
    let objects = objects();
    objects.into_iter().find(|o| o.name() == name).unwrap()
}

/// An INSERT with the least that a row needs; `with` are columns and what they get, as SQL.
fn insert(object: &ObjectRef, tenant: Uuid, with: &[(&str, &str)]) -> String {
    let mut columns = vec!["tenant_id".to_owned()];
    let mut values = vec![format!("'{tenant}'")];
    for field in object.fields() {
        let given = with.iter().find(|(column, _)| *column == field.name);
        let value = match (given, &field.field_type) {
            (Some((_, value)), _) => (*value).to_owned(),
            (None, _) if !field.required => continue,
            (None, FieldType::Picklist { options }) => format!("'{}'", options[0]),
            (None, FieldType::Integer { min, .. }) => (*min).max(0).to_string(),
            (None, _) => match field.storage_kind() {
                StorageKind::Text => "'x'".to_owned(),
                StorageKind::Integer | StorageKind::Decimal => "0".to_owned(),
                StorageKind::Boolean => "false".to_owned(),
                StorageKind::Date | StorageKind::Timestamp => "'2026-01-15 12:00+00'".to_owned(),
                StorageKind::Uuid => format!("'{}'", Uuid::from_u128(7)),
                StorageKind::List | StorageKind::Json => "'{}'".to_owned(),
            },
        };
        columns.push(field.name.to_string());
        values.push(value);
    }
    for (column, value) in with
        .iter()
        .filter(|(column, _)| column.ends_with("_folded"))
    {
        columns.push((*column).to_owned());
        values.push((*value).to_owned());
    }
    format!(
        "INSERT INTO crm.{} (\"{}\") VALUES ({});",
        object.table(),
        columns.join("\", \""),
        values.join(", ")
    )
}

fn contact(tenant: Uuid, id: u128, with: &[(&str, &str)]) -> String {
    let id = format!("'{}'", Uuid::from_u128(id));
    let mut all = vec![("id", id.as_str())];
    all.extend(with);
    insert(&object("contact"), tenant, &all)
}

fn event(tenant: Uuid, id: u128, created_at: &str) -> String {
    let id = format!("'{}'", Uuid::from_u128(id));
    let created_at = format!("'{created_at}'");
    insert(
        &object("audit_event"),
        tenant,
        &[("id", &id), ("created_at", &created_at)],
    )
}

const ACME: Uuid = Uuid::from_u128(0xacce);
const GLOBEX: Uuid = Uuid::from_u128(0x910b);

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
        assert_eq!(made, ["audit_events_2026_01"]);
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
        [format!("{schema}_search"), format!("{schema}_search")]
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

async fn drifts(connection: &mut PgConnection) -> Vec<Drift> {
    drift(connection, "crm", &objects()).await.unwrap()
}

/// What differs, as `(table, what)`.
async fn differing(connection: &mut PgConnection) -> BTreeSet<(String, String)> {
    let drifts = drifts(connection).await;
    drifts.into_iter().map(|d| (d.table, d.what)).collect()
}

#[tokio::test]
async fn a_migrated_database_is_what_the_schemas_say() {
    let database = Database::migrated("drift").await;
    let mut connection = database.connection().await;
    assert_eq!(drifts(&mut connection).await, []);
    assert_eq!(
        lint(&mut connection, "crm").await.unwrap(),
        Vec::<String>::new()
    );
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn every_change_by_hand_is_found() {
    let database = Database::migrated("changes").await;
    let mut connection = database.connection().await;
    let tables = "c.relnamespace = 'crm'::regnamespace AND c.relkind IN ('r', 'p') \
                  AND c.relname <> '_migrations' AND NOT c.relispartition";
    // Each makes one statement for each part of the catalog, and names the part. The parts of one
    // list do not depend on each other, so one look shows whether each of them is found.
    let constraints = "pg_class AS c JOIN pg_constraint AS k ON k.conrelid = c.oid";
    let columns = "pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0";
    let indexes = "pg_class AS c JOIN pg_index AS x ON x.indrelid = c.oid \
                   JOIN pg_class AS i ON i.oid = x.indexrelid";
    let policies = "pg_class AS c JOIN pg_policy AS p ON p.polrelid = c.oid";
    let alter = |change: &str| format!("'ALTER TABLE ' || c.oid::regclass || ' {change}");
    let exact = [
        (
            constraints,
            format!("{} || quote_ident(k.conname)", alter("DROP CONSTRAINT '")),
            "'constraint ' || k.conname",
            "k.contype IN ('c', 'f')",
        ),
        (
            constraints,
            format!(
                "{} || quote_ident(k.conname) || ', ADD CONSTRAINT ' || quote_ident(k.conname) || ' CHECK (true)'",
                alter("DROP CONSTRAINT '")
            ),
            "'constraint ' || k.conname",
            "k.contype = 'c'",
        ),
        (
            constraints,
            format!(
                "{} || quote_ident(k.conname) || ', ADD CONSTRAINT ' || quote_ident(k.conname) || ' ' || \
                 pg_get_constraintdef(k.oid) || ' NOT VALID'",
                alter("DROP CONSTRAINT '")
            ),
            "'constraint ' || k.conname",
            // No foreign key of a partitioned table can wait to be validated.
            "k.contype IN ('c', 'f') AND c.relkind = 'r'",
        ),
        (
            constraints,
            format!("{} || quote_ident(k.conname) || ' DEFERRABLE'", alter("ALTER CONSTRAINT '")),
            "'constraint ' || k.conname",
            "k.contype = 'f'",
        ),
        (
            constraints,
            format!(
                "{} || quote_ident(k.conname) || ', ADD CONSTRAINT ' || quote_ident(k.conname) || ' ' || \
                 pg_get_constraintdef(k.oid) || ' ON DELETE CASCADE'",
                alter("DROP CONSTRAINT '")
            ),
            "'constraint ' || k.conname",
            "k.contype = 'f'",
        ),
        (
            indexes,
            "'DROP INDEX ' || i.oid::regclass".to_owned(),
            "'index ' || i.relname",
            "NOT x.indisprimary",
        ),
        (
            indexes,
            "'DROP INDEX ' || i.oid::regclass || '; CREATE INDEX ' || quote_ident(i.relname) || ' ON ' || \
             c.oid::regclass || ' (tenant_id)'"
                .to_owned(),
            "'index ' || i.relname",
            "NOT x.indisprimary AND c.relname <> 'tenants'",
        ),
        (
            indexes,
            "'DROP INDEX ' || i.oid::regclass || '; ' || pg_get_indexdef(i.oid) || \
             CASE WHEN x.indpred IS NULL THEN ' WHERE ' ELSE ' AND ' END || (SELECT quote_ident(f.attname) FROM pg_attribute AS f WHERE f.attrelid = c.oid AND f.attnum = 1) || ' IS NOT NULL'"
                .to_owned(),
            "'index ' || i.relname",
            "NOT x.indisprimary",
        ),
        (
            columns,
            format!(
                "{} || quote_ident(a.attname) || CASE WHEN a.attnotnull THEN ' DROP' ELSE ' SET' END || ' NOT NULL'",
                alter("ALTER COLUMN '")
            ),
            "'column ' || a.attname",
            "NOT EXISTS (SELECT FROM pg_index AS x WHERE x.indrelid = c.oid AND x.indisprimary \
             AND a.attnum = ANY (x.indkey))",
        ),
        (
            columns,
            format!(
                "{} || quote_ident(a.attname) || ' SET DEFAULT NULL::' || format_type(a.atttypid, NULL) || ' || NULL'",
                alter("ALTER COLUMN '")
            ),
            "'column ' || a.attname",
            "a.attgenerated = '' AND a.atttypid = 'varchar'::regtype",
        ),
        (
            "pg_class AS c",
            alter("ADD COLUMN extra integer'"),
            "'column extra'",
            "true",
        ),
        (
            policies,
            "'DROP POLICY ' || quote_ident(p.polname) || ' ON ' || c.oid::regclass".to_owned(),
            "'policy ' || p.polname",
            "true",
        ),
        (
            policies,
            "'ALTER POLICY ' || quote_ident(p.polname) || ' ON ' || c.oid::regclass || ' USING (1 = 1)'".to_owned(),
            "'policy ' || p.polname",
            "true",
        ),
        (
            policies,
            "'ALTER POLICY ' || quote_ident(p.polname) || ' ON ' || c.oid::regclass || ' WITH CHECK (true)'".to_owned(),
            "'policy ' || p.polname",
            "p.polcmd = '*'",
        ),
        (
            policies,
            "'ALTER POLICY ' || quote_ident(p.polname) || ' ON ' || c.oid::regclass || ' TO pg_monitor'".to_owned(),
            "'policy ' || p.polname",
            "true",
        ),
        (
            "pg_class AS c",
            "'CREATE POLICY more ON ' || c.oid::regclass || ' USING (true)'".to_owned(),
            "'policy more'",
            "true",
        ),
        (
            "pg_class AS c",
            alter("DISABLE ROW LEVEL SECURITY'"),
            "'row-level security'",
            "true",
        ),
        (
            "pg_class AS c",
            alter("NO FORCE ROW LEVEL SECURITY'"),
            "'row-level security'",
            "true",
        ),
        (
            "pg_class AS c",
            "'GRANT SELECT ON ' || c.oid::regclass || ' TO PUBLIC'".to_owned(),
            "'rights PUBLIC'",
            "true",
        ),
        (
            "pg_class AS c",
            "'REVOKE ALL ON ' || c.oid::regclass || ' FROM crm_search'".to_owned(),
            "'rights crm_search'",
            "EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polname = 'search')",
        ),
        (
            "pg_class AS c",
            "'CREATE TRIGGER t BEFORE UPDATE ON ' || c.oid::regclass || \
             ' FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()'"
                .to_owned(),
            "'trigger t'",
            "true",
        ),
        (
            "pg_class AS c",
            "'CREATE RULE r AS ON UPDATE TO ' || c.oid::regclass || ' DO INSTEAD NOTHING'".to_owned(),
            "'rule r'",
            "true",
        ),
        (
            "pg_class AS c",
            "'DROP TABLE ' || c.oid::regclass || ' CASCADE'".to_owned(),
            "'table'",
            // Nothing refers to these.
            "c.relname IN ('activities', 'audit_events', 'team_members', 'tenants')",
        ),
    ];
    let mut parts = 0;
    for (from, statement, what, condition) in exact {
        parts += found_exactly(
            &mut connection,
            &format!(
                "SELECT ({statement})::text, c.relname::text, {what} FROM {from} \
                 WHERE {tables} AND ({condition})"
            )
            .replace("a.attnum > 0", "a.attnum > 0 AND NOT a.attisdropped"),
            true,
        )
        .await;
    }
    // These take others with them, or have them written in another way.
    for (from, statement, what, condition) in [
        (
            columns,
            format!(
                "{} || quote_ident(a.attname) || ' CASCADE'",
                alter("DROP COLUMN IF EXISTS '")
            ),
            "'column ' || a.attname",
            "a.attname <> 'created_at' OR c.relkind = 'r'",
        ),
        (
            constraints,
            format!(
                "{} || quote_ident(k.conname) || ' CASCADE'",
                alter("DROP CONSTRAINT '")
            ),
            "'constraint ' || k.conname",
            "k.contype = 'p'",
        ),
        (
            columns,
            format!(
                "{} || quote_ident(a.attname) || ' DROP EXPRESSION'",
                alter("ALTER COLUMN '")
            ),
            "'column ' || a.attname",
            "a.attgenerated <> ''",
        ),
        (
            columns,
            format!(
                "{} || quote_ident(a.attname) || ' TYPE varchar(9999) COLLATE \"C\"'",
                alter("ALTER COLUMN '")
            ),
            "'column ' || a.attname",
            // The type of what another column is generated from can't be changed.
            "a.atttypid = 'varchar'::regtype AND NOT EXISTS (SELECT FROM pg_depend AS d \
             WHERE d.refobjid = c.oid AND d.refobjsubid = a.attnum AND d.classid = 'pg_attrdef'::regclass)",
        ),
        (
            columns,
            format!(
                "{} || quote_ident(a.attname) || ' TYPE ' || format_type(a.atttypid, a.atttypmod) || ' COLLATE \"POSIX\"'",
                alter("ALTER COLUMN '")
            ),
            "'column ' || a.attname",
            "a.attcollation <> 0 AND NOT EXISTS (SELECT FROM pg_depend AS d \
             WHERE d.refobjid = c.oid AND d.refobjsubid = a.attnum AND d.classid = 'pg_attrdef'::regclass)",
        ),
    ] {
        parts += found_exactly(
            &mut connection,
            &format!(
                "SELECT ({statement})::text, c.relname::text, {what} FROM {from} \
                 WHERE {tables} AND NOT coalesce((to_jsonb(a) ->> 'attisdropped')::boolean, false) AND ({condition})"
            )
            .replace(
                "to_jsonb(a)",
                if from == columns { "to_jsonb(a)" } else { "'{}'::jsonb" },
            ),
            false,
        )
        .await;
    }
    for (statement, table, what) in [
        (
            "DROP TABLE crm.audit_events_default",
            "audit_events",
            "default partition audit_events_default",
        ),
        (
            "ALTER TABLE crm.audit_events_default NO FORCE ROW LEVEL SECURITY",
            "audit_events",
            "open partition audit_events_default",
        ),
        (
            "GRANT SELECT ON crm.audit_events_default TO crm_app",
            "audit_events",
            "open partition audit_events_default",
        ),
        ("DROP FUNCTION crm.tagged", "tagged()", "function"),
        (
            "ALTER FUNCTION crm.search SECURITY INVOKER",
            "search()",
            "function",
        ),
        (
            "CREATE OR REPLACE FUNCTION crm.fold_case(text) RETURNS text LANGUAGE sql IMMUTABLE \
             PARALLEL SAFE AS 'SELECT lower($1)'",
            "fold_case()",
            "function",
        ),
        ("ALTER TABLE crm.contacts SET UNLOGGED", "contacts", "table"),
    ] {
        let mut transaction = connection.begin().await.unwrap();
        if statement.ends_with("UNLOGGED") {
            // What is logged can't refer to what is not.
            run(
                &mut transaction,
                "ALTER TABLE crm.activities DROP CONSTRAINT activities_contact_id_fkey; \
                 ALTER TABLE crm.deals DROP CONSTRAINT deals_contact_id_fkey; \
                 ALTER TABLE crm.leads DROP CONSTRAINT leads_converted_contact_id_fkey",
            )
            .await;
        }
        run(&mut transaction, statement).await;
        let found = differing(&mut transaction).await;
        assert!(
            found.iter().any(|(t, w)| t == table && w.starts_with(what)),
            "{statement}: {found:?}"
        );
        transaction.rollback().await.unwrap();
        parts += 1;
    }
    println!("{parts} changes found");
    assert!(parts > 2_000, "{parts}");
    assert_eq!(drifts(&mut connection).await, []);
    drop(connection);
    database.drop().await;
}

/// Runs the statements that `list` makes in a transaction, and looks that each part that they name
/// is found to differ, and nothing else if `exactly`. Returns how many there were.
async fn found_exactly(connection: &mut PgConnection, list: &str, exactly: bool) -> usize {
    let changes: Vec<(String, String, String)> = sqlx::query_as(AssertSqlSafe(list.to_owned()))
        .fetch_all(&mut *connection)
        .await
        .unwrap_or_else(|error| panic!("{error}: {list}"));
    assert!(!changes.is_empty(), "{list}");
    let mut transaction = connection.begin().await.unwrap();
    let mut expected = BTreeSet::new();
    for (statement, table, what) in &changes {
        run(&mut transaction, statement).await;
        expected.insert((table.clone(), what.clone()));
    }
    let found = differing(&mut transaction).await;
    let missed: Vec<_> = expected.difference(&found).collect();
    assert!(missed.is_empty(), "{list}: not found: {missed:?}");
    let more: Vec<_> = found.difference(&expected).collect();
    assert!(more.is_empty() || !exactly, "{list}: also found: {more:?}");
    transaction.rollback().await.unwrap();
    changes.len()
}

#[tokio::test]
async fn the_lint_finds_what_can_not_be_distributed() {
    let database = Database::migrated("lint").await;
    let mut connection = database.connection().await;
    for (statement, finding) in [
        (
            "ALTER TABLE crm.contacts DROP CONSTRAINT contacts_pkey CASCADE; \
             ALTER TABLE crm.contacts ADD PRIMARY KEY (id, tenant_id)",
            "1: the unique index crm.contacts_pkey does not lead with the tenant",
        ),
        (
            "CREATE UNIQUE INDEX u ON crm.contacts (email)",
            "1: the unique index crm.u",
        ),
        (
            "CREATE TABLE crm.host (id int PRIMARY KEY)",
            "row-level security of host",
        ),
        (
            "CREATE TABLE crm.host (tenant_id text PRIMARY KEY)",
            "1: host.tenant_id",
        ),
        (
            "CREATE TABLE crm.host (tenant_id uuid NOT NULL)",
            "1: host has no primary key",
        ),
        (
            "CREATE TABLE crm.host (tenant_id uuid PRIMARY KEY, t uuid REFERENCES crm.tenants (id))",
            "1: the foreign key host_t_fkey of host leaves the tenant",
        ),
        (
            "CREATE TABLE crm.host (tenant_id uuid PRIMARY KEY, c uuid, \
             FOREIGN KEY (tenant_id, c) REFERENCES crm.contacts ON DELETE SET NULL (c))",
            "2: the foreign key host_tenant_id_c_fkey of host changes rows",
        ),
        (
            "CREATE TABLE crm.host (tenant_id uuid PRIMARY KEY, c uuid, \
             FOREIGN KEY (tenant_id, c) REFERENCES crm.contacts DEFERRABLE)",
            "2: the constraint host_tenant_id_c_fkey of host can be deferred",
        ),
        (
            "CREATE TRIGGER t BEFORE UPDATE ON crm.deals FOR EACH ROW \
             EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "2: deals has the trigger t",
        ),
        (
            "CREATE TABLE crm.audit_events_2026_01 PARTITION OF crm.audit_events \
             FOR VALUES FROM ('2026-01-01') TO ('2026-02-01') PARTITION BY HASH (tenant_id)",
            "2: the partition audit_events_2026_01 is partitioned itself",
        ),
        (
            "CREATE MATERIALIZED VIEW crm.m AS SELECT 1",
            "2: m is a materialized view",
        ),
        (
            "ALTER TABLE crm.deals ADD COLUMN n serial",
            "2: deals.n counts by itself",
        ),
        (
            "ALTER TABLE crm.deals ADD COLUMN n serial",
            "2: deals_n_seq is a sequence",
        ),
        (
            "ALTER TABLE crm.deals ADD COLUMN n bigint GENERATED ALWAYS AS IDENTITY",
            "2: deals.n counts by itself",
        ),
        (
            "ALTER TABLE crm.deals ALTER COLUMN created_at SET DEFAULT now()",
            "3: deals.created_at takes time or chance from the database",
        ),
        (
            "ALTER TABLE crm.deals ALTER COLUMN created_at SET DEFAULT CURRENT_TIMESTAMP",
            "3: deals.created_at takes time or chance from the database",
        ),
        (
            "ALTER TABLE crm.deals ALTER COLUMN id SET DEFAULT gen_random_uuid()",
            "3: deals.id takes time or chance from the database",
        ),
        (
            "CREATE FUNCTION crm.f() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
            "3: f() takes time or chance from the database",
        ),
        (
            "CREATE FUNCTION crm.f() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_lock(1)'",
            "5: f() takes a lock of the session",
        ),
        (
            "CREATE FUNCTION crm.f() RETURNS text LANGUAGE sql AS $$SELECT set_config('a.b', 'c', false)$$",
            "7: f() changes the session",
        ),
        (
            "CREATE FUNCTION crm.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "everybody may call f()",
        ),
        (
            "CREATE FUNCTION crm.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
            "f() runs with the rights of ",
        ),
        (
            "ALTER TABLE crm.deals NO FORCE ROW LEVEL SECURITY",
            "row-level security of deals",
        ),
        (
            "DROP POLICY tenant_isolation ON crm.users; DROP POLICY search ON crm.users",
            "users has no policy",
        ),
        (
            "GRANT SELECT ON crm.deals TO PUBLIC",
            "everybody has rights on deals",
        ),
        (
            "GRANT SELECT ON crm.audit_events_default TO crm_app",
            "others than the owner have rights on the partition audit_events_default",
        ),
        (
            "GRANT DELETE ON crm.audit_events TO crm_app",
            "crm_app may delete audit_events",
        ),
        (
            "ALTER ROLE crm_app BYPASSRLS",
            "row-level security does not hold for crm_app",
        ),
        (
            "ALTER FUNCTION crm.search OWNER TO CURRENT_USER",
            "search() runs with the rights of ",
        ),
    ] {
        let mut transaction = connection.begin().await.unwrap();
        run(&mut transaction, statement).await;
        let found = lint(&mut transaction, "crm").await.unwrap();
        assert!(
            found.iter().any(|f| f.starts_with(finding)),
            "{statement}: {found:?}"
        );
        transaction.rollback().await.unwrap();
    }
    // What is forbidden may be spoken of.
    let mut transaction = connection.begin().await.unwrap();
    run(
        &mut transaction,
        "CREATE FUNCTION crm.f() RETURNS int LANGUAGE plpgsql AS \
         $$BEGIN -- not now()\n RETURN 1; /* nor random() */ END$$; \
         REVOKE ALL ON FUNCTION crm.f FROM PUBLIC",
    )
    .await;
    assert_eq!(
        lint(&mut transaction, "crm").await.unwrap(),
        Vec::<String>::new()
    );
    transaction.rollback().await.unwrap();
    drop(connection);
    database.drop().await;
}

/// C-129: every reference can be followed backwards by an index.
#[tokio::test]
async fn every_foreign_key_has_an_index() {
    let database = Database::migrated("references").await;
    let mut connection = database.connection().await;
    let without = strings(
        &mut connection,
        "SELECT k.conname::text FROM pg_constraint AS k \
         WHERE k.connamespace = 'crm'::regnamespace AND k.contype = 'f' AND NOT EXISTS ( \
             SELECT FROM pg_index AS x WHERE x.indrelid = k.conrelid AND x.indpred IS NULL \
             AND x.indkey[0] = k.conkey[1] AND x.indkey[1] = k.conkey[2])",
    )
    .await;
    assert_eq!(without, Vec::<String>::new());
    drop(connection);
    database.drop().await;
}

fn project() -> ObjectRef {
    let reference = |object: &'static str| FieldType::Reference {
        object: object.into(),
        on_delete: OnDelete::Restrict,
    };
    let field = FieldSchema::new;
    ObjectSchema::builder("project", "projects")
        .field(FieldSchema {
            required: true,
            searchable: true,
            ..field("title", FieldType::text(100))
        })
        .field(field("contact_id", reference("contact")))
        .field(field("tenant", reference("tenant")))
        .field(field("part_of", reference("project")))
        .field(field(
            "order",
            FieldType::Integer {
                min: i64::MIN,
                max: 10,
            },
        ))
        .field(field("labels", FieldType::List))
        .field(field("transaction_id", FieldType::text(10)))
        .field(field(
            "it's \"odd\"",
            FieldType::Picklist {
                options: vec!["a'b", "c\\d"].into(),
            },
        ))
        .unique(&["title"], true)
        .build()
}

#[tokio::test]
async fn the_ddl_of_a_hosts_object_runs_as_it_is() {
    let database = Database::migrated("host").await;
    let mut connection = database.connection().await;
    let text = ddl("crm", "crm_app", &[project()]).unwrap();
    run(&mut connection, &text).await;
    let found = drift(&mut connection, "crm", &[project()]).await.unwrap();
    assert_eq!(found, []);
    assert_eq!(drifts(&mut connection).await, []);
    let found = lint(&mut connection, "crm").await.unwrap();
    assert_eq!(
        found,
        ["1: the foreign key projects_tenant_fkey of projects leaves the tenant"]
    );
    run(&mut connection, "DROP TABLE crm.projects").await;
    let found = drift(&mut connection, "crm", &[project()]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].what.as_str(), &found[0].found), ("table", &None));
    drop(connection);
    database.drop().await;
}

#[test]
fn names_that_are_taken_are_refused() {
    let with = |name: &'static str| {
        let field = FieldSchema::new(name, FieldType::text(10));
        ObjectSchema::builder("project", "projects").field(field)
    };
    for name in [
        "tenant_id",
        "search_vector",
        "ctid",
        "xmin",
        "id",
        "",
        "nul\0",
    ] {
        let refused = ddl("crm", "crm_app", &[with(name).build()]);
        assert!(
            matches!(refused, Err(SchemaError::Reserved { .. })),
            "{name}: {refused:?}"
        );
    }
    let long = ObjectSchema::builder("long", "x".repeat(64)).build();
    assert!(matches!(
        ddl("crm", "crm_app", &[long]),
        Err(SchemaError::Reserved { .. })
    ));
    let partition = ObjectSchema::builder("events", "audit_events_2026_01").build();
    assert!(matches!(
        ddl("crm", "crm_app", &[partition]),
        Err(SchemaError::Reserved { .. })
    ));
    let migrations = ObjectSchema::builder("m", "_migrations").build();
    assert!(matches!(
        ddl("crm", "crm_app", &[migrations]),
        Err(SchemaError::Duplicate { .. })
    ));

    // The folded column of `email` is called like another.
    let folded = with("email_folded")
        .field(FieldSchema::new("email", FieldType::Email))
        .build();
    assert!(matches!(
        ddl("crm", "crm_app", &[folded]),
        Err(SchemaError::Reserved { .. })
    ));
    let twice = with("a").build();
    let refused = ddl("crm", "crm_app", &[twice.clone(), twice]);
    assert!(matches!(refused, Err(SchemaError::Duplicate { .. })));
    let same_index = with("a")
        .field(FieldSchema::new("b", FieldType::text(9)))
        .field(FieldSchema::new("a_b", FieldType::text(9)))
        .index(&["a", "b"])
        .index(&["a_b"])
        .build();
    let refused = ddl("crm", "crm_app", &[same_index]);
    assert!(matches!(refused, Err(SchemaError::Duplicate { .. })));
    for target in ["nobody", "audit_event"] {
        let refers = FieldType::Reference {
            object: target.into(),
            on_delete: OnDelete::Restrict,
        };
        let object = with("a").field(FieldSchema::new("b", refers)).build();
        let refused = ddl("crm", "crm_app", &[object]);
        assert!(
            matches!(refused, Err(SchemaError::Reference { .. })),
            "{target}"
        );
    }
}

/// All objects that an engine knows from the start have a table.
#[tokio::test]
async fn every_object_of_the_engine_is_there() {
    let pool = PgPool::connect_lazy("postgres://nobody@127.0.0.1/none").unwrap();
    let engine = Engine::builder(PostgresStorage::new(pool)).build();
    for (name, object) in &*engine.registry().objects() {
        assert!(objects().contains(object), "{name}");
    }
    let listed: BTreeSet<String> = objects().iter().map(|o| o.name().to_owned()).collect();
    assert_eq!(listed.len(), objects().len());
    // Each comes after those that it refers to, but for circles within one object.
    let mut before = BTreeSet::new();
    for object in objects() {
        for field in object.references() {
            let (target, _) = object.fields()[*field].reference().unwrap();
            assert!(
                target == object.name() || before.contains(target),
                "{target}"
            );
        }
        before.insert(object.name().to_owned());
    }
}

#[tokio::test]
async fn rows_are_seen_and_written_by_their_tenant_only() {
    let database = Database::migrated("tenants").await;
    let mut connection = database.connection().await;
    let mut work = connection.begin().await.unwrap();
    run(&mut work, &contact(ACME, 1, &[])).await;
    run(&mut work, &contact(GLOBEX, 2, &[])).await;
    run(&mut work, &event(ACME, 3, "2026-01-01")).await;
    for (id, name) in [(ACME, "acme"), (GLOBEX, "globex")] {
        let tenant = insert(
            &object("tenant"),
            id,
            &[
                ("id", &format!("'{id}'")),
                ("subdomain", &format!("'{name}'")),
                ("subdomain_folded", &format!("'{name}'")),
            ],
        )
        .replace("(\"tenant_id\", ", "(")
        .replace(&format!("VALUES ('{id}', "), "VALUES (");
        run(&mut work, &tenant).await;
    }
    let tables = [
        "tenants",
        "tenant_configurations",
        "users",
        "teams",
        "team_members",
        "accounts",
        "contacts",
        "leads",
        "pipelines",
        "pipeline_stages",
        "deals",
        "deal_stage_history",
        "activities",
        "audit_events",
    ];
    assert_eq!(tables.len(), objects().len());

    // No tenant: no rows, no error, and nothing can be written. The setting may never have been made.
    let mut none = work.begin().await.unwrap();
    run(&mut none, "SET LOCAL ROLE crm_app").await;
    for table in tables {
        assert_eq!(
            count(&mut none, &format!("SELECT count(*) FROM crm.{table}")).await,
            0,
            "{table}"
        );
    }
    become_application(&mut none, None).await;
    for table in tables {
        assert_eq!(
            count(&mut none, &format!("SELECT count(*) FROM crm.{table}")).await,
            0,
            "{table}"
        );
    }
    let refused = refusal(&mut none, &contact(ACME, 4, &[])).await;
    assert_eq!(refused.as_deref(), Some("42501"));
    // The platform sees the tenants, and nothing of theirs.
    run(&mut none, "SET LOCAL crm.platform = 'on'").await;
    assert_eq!(
        count(&mut none, "SELECT count(*) FROM crm.tenants").await,
        2
    );
    assert_eq!(
        count(&mut none, "SELECT count(*) FROM crm.contacts").await,
        0
    );
    // It changes none of them.
    for change in [
        "UPDATE crm.tenants SET name = 'x'",
        "DELETE FROM crm.tenants",
    ] {
        let done = sqlx::query(AssertSqlSafe(change)).execute(&mut *none).await;
        assert_eq!(done.unwrap().rows_affected(), 0, "{change}");
    }
    none.rollback().await.unwrap();

    let mut acme = work.begin().await.unwrap();
    become_application(&mut acme, Some(ACME)).await;
    let ids = strings(&mut acme, "SELECT id::text FROM crm.contacts").await;
    assert_eq!(ids, [Uuid::from_u128(1).to_string()]);
    assert_eq!(
        count(&mut acme, "SELECT count(*) FROM crm.tenants").await,
        1
    );
    run(&mut acme, "UPDATE crm.tenants SET name = 'Acme'").await;
    run(&mut acme, &contact(ACME, 5, &[])).await;
    for refused in [
        contact(GLOBEX, 6, &[]),
        format!("UPDATE crm.contacts SET tenant_id = '{GLOBEX}'"),
    ] {
        assert_eq!(
            refusal(&mut acme, &refused).await.as_deref(),
            Some("42501"),
            "{refused}"
        );
    }
    let changed = sqlx::query("UPDATE crm.contacts SET version = 9 WHERE tenant_id = $1")
        .bind(GLOBEX)
        .execute(&mut *acme)
        .await
        .unwrap();
    assert_eq!(changed.rows_affected(), 0);
    // A reference can't leave the tenant either.
    let owner = format!("'{}'", Uuid::from_u128(2));
    let refused = insert(&object("activity"), ACME, &[("contact_id", &owner)]);
    assert_eq!(refusal(&mut acme, &refused).await.as_deref(), Some("23503"));

    // What happened stays.
    assert_eq!(
        count(&mut acme, "SELECT count(*) FROM crm.audit_events").await,
        1
    );
    run(&mut acme, &event(ACME, 7, "2026-01-02")).await;
    for refused in [
        "UPDATE crm.audit_events SET record_version = 2",
        "DELETE FROM crm.audit_events",
        "TRUNCATE crm.audit_events",
        "SELECT * FROM crm.audit_events_default",
        "DELETE FROM crm.audit_events_default",
        "ALTER TABLE crm.contacts DISABLE ROW LEVEL SECURITY",
        "DROP TABLE crm.contacts",
        "CREATE TABLE crm.mine (id int)",
        "SELECT * FROM crm._migrations",
    ] {
        assert_eq!(
            refusal(&mut acme, refused).await.as_deref(),
            Some("42501"),
            "{refused}"
        );
    }
    acme.rollback().await.unwrap();
    work.rollback().await.unwrap();
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn an_event_knows_the_transaction_that_wrote_it() {
    let database = Database::migrated("feed").await;
    let mut connection = database.connection().await;
    let mut work = connection.begin().await.unwrap();
    become_application(&mut work, Some(ACME)).await;
    run(&mut work, &event(ACME, 1, "2026-01-01")).await;
    let same = "SELECT count(*) FROM crm.audit_events WHERE transaction_id = pg_current_xact_id()";
    assert_eq!(count(&mut work, same).await, 1);
    work.commit().await.unwrap();
    drop(connection);
    database.drop().await;
}

async fn found(connection: &mut PgConnection, query: &str) -> Vec<u128> {
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM crm.search($1, 'contacts', $2, 10)")
        .bind(ACME)
        .bind(query)
        .fetch_all(connection)
        .await
        .unwrap_or_else(|error| panic!("{error}: {query}"));
    ids.iter().map(Uuid::as_u128).collect()
}

/// C-135: words, their beginnings, accents; whatever is typed.
#[tokio::test]
async fn the_search_finds_the_tenants_own_live_records() {
    for locale in ["C", "C.UTF-8"] {
        let database = Database::with("search", locale, None).await;
        Migrations::new().run(&database.pool).await.unwrap();
        let mut connection = database.connection().await;
        let mut work = connection.begin().await.unwrap();
        for row in [
            contact(
                ACME,
                1,
                &[
                    ("first_name", "'Will'"),
                    ("last_name", "'Smith'"),
                    ("email", "'will@acme.example'"),
                ],
            ),
            contact(
                ACME,
                2,
                &[
                    ("first_name", "'ÉLODIE'"),
                    ("last_name", "'Müller-Lüdenscheidt'"),
                    ("company", "'Will Ltd'"),
                ],
            ),
            contact(
                ACME,
                3,
                &[("last_name", "'Willow'"), ("deleted_at", "'2026-01-01'")],
            ),
            contact(
                GLOBEX,
                4,
                &[("first_name", "'Will'"), ("last_name", "'Smith'")],
            ),
            contact(
                ACME,
                5,
                &[
                    ("last_name", "'O''Neill'"),
                    ("description", "'called on Monday; Straße 5 \\ wants more'"),
                ],
            ),
        ] {
            run(&mut work, &row).await;
        }
        become_application(&mut work, Some(ACME)).await;
        for (query, expected) in [
            ("will", vec![1, 2]),
            ("Will", vec![1, 2]),
            ("WIL", vec![1, 2]),
            ("smi wil", vec![1]),
            ("will@acme", vec![1]),
            ("will@acme.exam", vec![1]),
            ("will@acme.example", vec![1]),
            ("will smith jones", vec![]),
            ("elodie", vec![2]),
            ("Élodie", vec![2]),
            ("élo", vec![2]),
            ("muller", vec![2]),
            ("müller-lü", vec![2]),
            ("MÜLLER", vec![2]),
            ("o'neill", vec![5]),
            ("o'ne", vec![5]),
            ("straße", vec![5]),
            ("monday \\", vec![5]),
            ("", vec![]),
            ("   ", vec![]),
            ("' & | ! <-> :* ( ) \\", vec![]),
            ("will' | 'smith", vec![1]),
            ("will:*", vec![1, 2]),
            ("!will", vec![1, 2]),
            ("%", vec![]),
            ("_", vec![]),
            ("\u{1f600}", vec![]),
        ] {
            assert_eq!(
                found(&mut work, query).await,
                expected,
                "{query:?} in {locale}"
            );
        }
        // Nothing that is typed is an error.
        for query in [
            "'''",
            "\\",
            "a\\",
            "\\'",
            "(((",
            "a b c d e f g h i j k l m n o p q r s t",
        ] {
            found(&mut work, query).await;
        }
        for letter in ["x", "ﷺ", "é ", "' "] {
            found(&mut work, &letter.repeat(10_000)).await;
        }
        // A first name weighs more than a company.
        let ranks: Vec<f32> =
            sqlx::query_scalar("SELECT rank FROM crm.search($1, 'contacts', 'will', 10)")
                .bind(ACME)
                .fetch_all(&mut *work)
                .await
                .unwrap();
        assert!(ranks[0] > ranks[1], "{ranks:?}");
        for (most, expected) in [(1, 1), (0, 0), (-1, 0)] {
            let rows = count(
                &mut work,
                &format!("SELECT count(*) FROM crm.search('{ACME}', 'contacts', 'will', {most})"),
            )
            .await;
            assert_eq!(rows, expected);
        }
        work.rollback().await.unwrap();
        drop(connection);
        database.drop().await;
    }
}

/// C-138.
#[tokio::test]
async fn tags_are_found_by_any_and_by_all() {
    let database = Database::migrated("tags").await;
    let mut connection = database.connection().await;
    let mut work = connection.begin().await.unwrap();
    for (tenant, id, tags) in [
        (ACME, 1, "'{vip,new}'"),
        (ACME, 2, "'{new}'"),
        (ACME, 3, "'{}'"),
        (GLOBEX, 4, "'{vip,new}'"),
    ] {
        run(&mut work, &contact(tenant, id, &[("tags", tags)])).await;
    }
    become_application(&mut work, Some(ACME)).await;
    for (tags, all, expected) in [
        (vec!["vip", "new"], true, vec![1]),
        (vec!["vip", "new"], false, vec![1, 2]),
        (vec!["vip"], false, vec![1]),
        (vec!["VIP"], false, vec![]),
        (vec!["a\"b'c\\"], false, vec![]),
        (vec![], true, vec![1, 2, 3]),
        (vec![], false, vec![]),
    ] {
        let mut ids: Vec<Uuid> =
            sqlx::query_scalar("SELECT unnest(crm.tagged($1, 'contacts', 'tags', $2, $3, 1000))")
                .bind(ACME)
                .bind(&tags)
                .bind(all)
                .fetch_all(&mut *work)
                .await
                .unwrap();
        ids.sort();
        let ids: Vec<u128> = ids.iter().map(Uuid::as_u128).collect();
        assert_eq!(ids, expected, "{tags:?} {all}");
    }
    work.rollback().await.unwrap();
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn the_search_functions_refuse_other_tenants_tables_and_roles() {
    let database = Database::migrated("refuse").await;
    let mut connection = database.connection().await;
    run(
        &mut connection,
        "CREATE TABLE public.contacts (tenant_id uuid, id uuid, search_vector tsvector, tags text[])",
    )
    .await;
    let mut work = connection.begin().await.unwrap();
    become_application(&mut work, Some(ACME)).await;
    let other = GLOBEX.to_string();
    let own = ACME.to_string();
    for (statement, code) in [
        (
            format!("SELECT * FROM crm.search('{other}', 'contacts', 'a', 9)"),
            "42501",
        ),
        (
            "SELECT * FROM crm.search(NULL, 'contacts', 'a', 9)".to_owned(),
            "42501",
        ),
        (
            format!("SELECT * FROM crm.tagged('{other}', 'contacts', 'tags', '{{a}}', true, 1000)"),
            "42501",
        ),
        (
            "SELECT * FROM crm.tagged(NULL, 'contacts', 'tags', '{a}', true, 1000)".to_owned(),
            "42501",
        ),
        (
            format!("SELECT * FROM crm.search('{own}', 'audit_events', 'a', 9)"),
            "42P01",
        ),
        (
            format!("SELECT * FROM crm.search('{own}', 'pg_class', 'a', 9)"),
            "42P01",
        ),
        (
            format!("SELECT * FROM crm.search('{own}', 'contacts; DROP TABLE x', 'a', 9)"),
            "42P01",
        ),
        (
            format!("SELECT * FROM crm.search('{own}', NULL, 'a', 9)"),
            "42P01",
        ),
        (
            format!("SELECT * FROM crm.tagged('{own}', 'contacts', 'email', '{{a}}', true, 1000)"),
            "42703",
        ),
        (
            format!(
                "SELECT * FROM crm.tagged('{own}', 'contacts', 'tags || x', '{{a}}', true, 1000)"
            ),
            "42703",
        ),
        (
            format!("SELECT * FROM crm.tagged('{own}', 'pg_class', 'relacl', '{{a}}', true, 1000)"),
            "42703",
        ),
    ] {
        assert_eq!(
            refusal(&mut work, &statement).await.as_deref(),
            Some(code),
            "{statement}"
        );
    }
    // Without a tenant there is nobody to search for.
    become_application(&mut work, None).await;
    let statement = format!("SELECT * FROM crm.search('{own}', 'contacts', 'a', 9)");
    assert_eq!(
        refusal(&mut work, &statement).await.as_deref(),
        Some("42501")
    );
    run(&mut work, "SET LOCAL ROLE pg_monitor").await;
    let statement = format!("SELECT * FROM crm.search('{own}', 'contacts', 'a', 9)");
    assert_eq!(
        refusal(&mut work, &statement).await.as_deref(),
        Some("42501")
    );
    // The role of the functions reads what a search needs, and nothing else.
    run(&mut work, "SET LOCAL ROLE crm_search").await;
    run(&mut work, "SELECT id, tags FROM crm.contacts").await;
    for statement in [
        "SELECT email FROM crm.contacts",
        "SELECT * FROM crm.audit_events",
        "SELECT * FROM crm.tenants",
        "DELETE FROM crm.contacts",
    ] {
        assert_eq!(
            refusal(&mut work, statement).await.as_deref(),
            Some("42501"),
            "{statement}"
        );
    }
    work.rollback().await.unwrap();
    drop(connection);
    database.drop().await;
}

/// Operators that are not leakproof can't use an index for the application, and do for the search
/// functions: what they are there for.
#[tokio::test]
async fn the_search_functions_use_the_inverted_indexes() {
    let database = Database::migrated("plans").await;
    let mut connection = database.connection().await;
    let mut work = connection.begin().await.unwrap();
    let row = contact(
        ACME,
        1,
        &[
            ("id", "x"),
            ("first_name", "'Ada' || n"),
            ("tags", "ARRAY['t' || n]"),
        ],
    )
    .replace(&format!("'{}'", Uuid::from_u128(1)), "gen_random_uuid()")
    .replace(
        &format!("VALUES ('{ACME}'"),
        &format!("SELECT '{ACME}'::uuid"),
    )
    .replace(");", " FROM generate_series(1, 20000) AS n;");
    run(&mut work, &row).await;
    run(&mut work, "ANALYZE crm.contacts").await;
    for (condition, index) in [
        (
            "search_vector @@ '''ada77'':*'::tsquery",
            "contacts_search_vector_idx",
        ),
        ("tags @> '{t5}'", "contacts_tags_idx"),
    ] {
        let explain = format!(
            "EXPLAIN SELECT id FROM crm.contacts WHERE tenant_id = '{ACME}' AND {condition}"
        );
        for (role, expected) in [("crm_app", false), ("crm_search", true)] {
            become_application(&mut work, Some(ACME)).await;
            run(&mut work, &format!("SET LOCAL ROLE {role}")).await;
            let plan = strings(&mut work, &explain).await.join("\n");
            assert_eq!(plan.contains(index), expected, "{role}: {plan}");
        }
    }
    work.rollback().await.unwrap();
    drop(connection);
    database.drop().await;
}

/// What the library folds and what the database folds must be the same.
#[tokio::test]
async fn case_is_folded_as_the_library_folds_it() {
    for locale in ["C", "C.UTF-8"] {
        let database = Database::with("fold", locale, None).await;
        Migrations::new().run(&database.pool).await.unwrap();
        let mut connection = database.connection().await;
        let letters = ('\u{1}'..=char::MAX)
            .filter(|letter| letter.is_alphabetic() || (*letter as u32) < 0x3000);
        let scalars = ('\u{1}'..=char::MAX).map(String::from);
        let contexts = letters.flat_map(|c| {
            [
                format!("{c}Σ"),
                format!("A{c}Σ"),
                format!("AΣ{c}"),
                format!("AΣ{c}A"),
                format!("É{c}É"),
                format!("İ{c}I"),
            ]
        });
        let words = [
            "",
            "ΑΣ",
            "ΑΣΑ",
            "Σ",
            "ΣΑΣ",
            "ΑΣ.",
            "ΑΣ Α",
            "Α.Σ",
            "ΑΣ'Α",
            "ΑΣ\u{301}",
            "ΑΣ\u{301}Α",
            "İ",
            "Iİ",
            "DİYARBAKIR",
            "STRASSE",
            "Straße",
            "ẞ",
            "ǅ",
            "ΌΣΟΣ",
            "Å",
            "K",
            "Ω",
            "\u{130}\u{307}",
            "I\u{307}",
            "ᾼ",
            "Ⅷ",
            "Ⓐ",
            "Ａ",
            "𐐀",
            "ᲀ",
            "Ა",
            "Ꭰ",
            "Ɤ",
        ]
        .map(String::from);
        let mut differing = Vec::new();
        let all: Vec<String> = scalars.chain(contexts).chain(words).collect();
        for texts in all.chunks(200_000) {
            let folded: Vec<String> = texts.iter().map(|text| text.to_lowercase()).collect();
            let wrong: Vec<(String, String, String)> = sqlx::query_as(
                "SELECT text, crm.fold_case(text), folded FROM unnest($1::text[], $2::text[]) AS t(text, folded) \
                 WHERE crm.fold_case(text) COLLATE \"C\" <> folded",
            )
            .bind(texts)
            .bind(&folded)
            .fetch_all(&mut *connection)
            .await
            .unwrap();
            // Which sigma ends a word depends on its neighbours, and servers may not know the letters
            // that are younger than they are.
            let old = |text: &str| {
                text.chars()
                    .all(|c| matches!(c as u32, 0..=0x294 | 0x296..=0x52F | 0x1F00..=0x206F))
            };
            differing.extend(wrong.into_iter().filter(|(text, here, folded)| {
                old(text) || here.replace('ς', "σ") != folded.replace('ς', "σ")
            }));
        }
        println!(
            "{} texts, {} differ in {locale}",
            all.len(),
            differing.len()
        );
        assert_eq!(differing, [], "{locale}");
        let null: Option<String> = sqlx::query_scalar("SELECT crm.fold_case(NULL)")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        assert_eq!(null, None);
        drop(connection);
        database.drop().await;
    }
}

/// C-093, C-153.
#[tokio::test]
async fn partitions_are_made_ahead_and_take_their_events_over() {
    let database = Database::migrated("partitions").await;
    let mut connection = database.connection().await;
    let day = |year, month, day| NaiveDate::from_ymd_opt(year, month, day).unwrap();
    let times = [
        "2025-12-31 23:59:59.999999+00",
        "2026-01-01 00:00:00+00",
        "2026-01-31 23:59:59.999999+00",
        "2026-02-01 00:00:00+00",
        "2026-02-28 23:30:00-02",
        "1999-01-01 00:00:00+00",
    ];
    for (number, time) in times.iter().enumerate() {
        run(&mut connection, &event(ACME, number as u128, time)).await;
    }
    let before = strings(
        &mut connection,
        "SELECT e::text FROM crm.audit_events AS e ORDER BY 1",
    )
    .await;
    // Bounds are in UTC, whatever the session's zone.
    run(&mut connection, "SET TimeZone = 'Pacific/Auckland'").await;
    let made = ensure_partitions(&mut connection, "crm", day(2025, 12, 17), 4)
        .await
        .unwrap();
    assert_eq!(
        made,
        [
            "audit_events_2025_12",
            "audit_events_2026_01",
            "audit_events_2026_02",
            "audit_events_2026_03"
        ]
    );
    let made = ensure_partitions(&mut connection, "crm", day(2026, 1, 31), 3)
        .await
        .unwrap();
    assert_eq!(made, Vec::<String>::new());
    let made = ensure_partitions(&mut connection, "crm", day(2026, 2, 28), 3)
        .await
        .unwrap();
    assert_eq!(made, ["audit_events_2026_04"]);
    run(&mut connection, "SET TimeZone = 'UTC'").await;

    let after = strings(
        &mut connection,
        "SELECT e::text FROM crm.audit_events AS e ORDER BY 1",
    )
    .await;
    assert_eq!(before, after);
    let places = strings(
        &mut connection,
        "SELECT tableoid::regclass::text || ' ' || count(*) FROM crm.audit_events GROUP BY tableoid ORDER BY 1",
    )
    .await;
    assert_eq!(
        places,
        [
            "crm.audit_events_2025_12 1",
            "crm.audit_events_2026_01 2",
            "crm.audit_events_2026_02 1",
            "crm.audit_events_2026_03 1",
            "crm.audit_events_default 1",
        ]
    );
    let bounds = strings(
        &mut connection,
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'audit_events_2026_02'",
    )
    .await;
    assert_eq!(
        bounds,
        ["FOR VALUES FROM ('2026-02-01 00:00:00+00') TO ('2026-03-01 00:00:00+00')"]
    );
    // Written through the table, an event finds its month; the transaction that wrote it stays known.
    run(
        &mut connection,
        &event(GLOBEX, 99, "2026-04-30 23:59:59+00"),
    )
    .await;
    let unknown = "SELECT count(*) FROM crm.audit_events WHERE transaction_id IS NULL";
    assert_eq!(count(&mut connection, unknown).await, 0);
    assert_eq!(drifts(&mut connection).await, []);
    assert_eq!(
        lint(&mut connection, "crm").await.unwrap(),
        Vec::<String>::new()
    );

    // As the application, through the table only, and only what is its own.
    let mut work = connection.begin().await.unwrap();
    become_application(&mut work, Some(GLOBEX)).await;
    assert_eq!(
        count(&mut work, "SELECT count(*) FROM crm.audit_events").await,
        1
    );
    let refused = refusal(&mut work, "SELECT * FROM crm.audit_events_2026_04").await;
    assert_eq!(refused.as_deref(), Some("42501"));
    work.rollback().await.unwrap();

    // In a transaction of the caller's, and none at all.
    let mut work = connection.begin().await.unwrap();
    let made = ensure_partitions(&mut work, "crm", day(2027, 12, 1), 2)
        .await
        .unwrap();
    assert_eq!(made.len(), 2);
    work.rollback().await.unwrap();
    let made = ensure_partitions(&mut connection, "crm", day(2027, 12, 1), 0)
        .await
        .unwrap();
    assert_eq!(made, Vec::<String>::new());
    let refused = ensure_partitions(&mut connection, "crm", day(9999, 12, 1), 1).await;
    assert!(matches!(refused, Err(SchemaError::Partition { .. })));
    let refused = ensure_partitions(&mut connection, "nowhere", day(2026, 1, 1), 1).await;
    assert!(matches!(refused, Err(SchemaError::Partition { .. })));
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn partitions_can_be_made_from_several_places_while_events_are_written() {
    let database = Database::migrated("busy").await;
    let day = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
    let writers = (0..3_u128).map(|writer| {
        let pool = database.pool.clone();
        tokio::spawn(async move {
            let mut written = 0_i64;
            for number in 0..100 {
                let time = format!("2026-{:02}-10", number % 6 + 1);
                let sql = event(ACME, writer * 1_000 + number, &time);
                // A row that was on its way to the default partition while its month got its own
                // is refused, and is written again.
                loop {
                    match sqlx::raw_sql(AssertSqlSafe(sql.clone()))
                        .execute(&pool)
                        .await
                    {
                        Ok(_) => break,
                        Err(error) => assert!(
                            error.to_string().contains("violates partition constraint"),
                            "{error}"
                        ),
                    }
                }
                written += 1;
            }
            written
        })
    });
    let writers: Vec<_> = writers.collect();
    let makers = (0..3).map(|_| {
        let pool = database.pool.clone();
        tokio::spawn(async move {
            let mut connection = pool.acquire().await.unwrap();
            ensure_partitions(&mut connection, "crm", day, 6)
                .await
                .unwrap()
                .len()
        })
    });
    let mut made = 0;
    for maker in makers.collect::<Vec<_>>() {
        made += maker.await.unwrap();
    }
    assert_eq!(made, 6);
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    let mut connection = database.connection().await;
    assert_eq!(
        count(&mut connection, "SELECT count(*) FROM crm.audit_events").await,
        written
    );
    let left = "SELECT count(*) FROM crm.audit_events_default";
    assert_eq!(count(&mut connection, left).await, 0);
    drop(connection);
    database.drop().await;
}

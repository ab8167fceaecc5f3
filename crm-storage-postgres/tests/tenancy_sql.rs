//! Tenancy by attack in SQL: whoever has the application's connection and forgets the tenant, or
//! names another one, gets nothing. Row-level security alone must hold; no statement here names the
//! tenant the way that the storage does.
//!
//! The tables are those of the catalog, so that a new one is attacked as well.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails says where"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use chrono::NaiveDate;
use crm_core::Id;
use crm_core::query::{AggregateQuery, Condition, Query};
use crm_core::schema::{ObjectScope, system};
use crm_core::storage::{Scope, Storage as _, conformance};
use crm_storage_postgres::{PostgresStorage, ensure_partitions, objects};
use crm_test_postgres::Database;
use serde_json::{Map, Value as Json, json};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

/// SQLSTATE of what a role may not do, and of a row that a policy refuses.
const DENIED: &str = "42501";
/// SQLSTATE of a reference that leads nowhere.
const FOREIGN_KEY: &str = "23503";
/// SQLSTATE of a text that is no UUID.
const NOT_A_UUID: &str = "22P02";

#[allow(
    clippy::disallowed_types,
    reason = "statements of tests, made of constants and the catalog"
)]
fn trusted(text: impl Into<String>) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(text.into())
}

/// What the server says: how many rows were touched, or the SQLSTATE.
type Answer = Result<u64, String>;

fn state(error: &sqlx::Error) -> String {
    error
        .as_database_error()
        .and_then(|error| error.code())
        .map_or_else(|| error.to_string(), |code| code.into_owned())
}

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(trusted(sql))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn set(connection: &mut PgConnection, setting: &str, value: &str, is_local: bool) {
    sqlx::query("SELECT set_config($1, $2, $3)")
        .bind(setting)
        .bind(value)
        .bind(is_local)
        .execute(connection)
        .await
        .expect("a setting");
}

/// A column of a table, and what it needs.
#[derive(Debug)]
struct Column {
    name: String,
    kind: String,
    required: bool,
    options: Option<String>,
    /// The table that it refers to.
    target: Option<String>,
}

/// A table as the catalog tells it.
#[derive(Debug)]
struct Table {
    name: String,
    columns: Vec<Column>,
}

impl Table {
    /// All tables with rows of tenants, and that of the tenants.
    async fn all(owner: &mut PgConnection) -> Result<Vec<Self>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT c.relname::text AS name, a.attname::text AS column, \
                 format_type(a.atttypid, NULL) AS kind, a.attnotnull AS required, \
                 (SELECT pg_get_constraintdef(k.oid) FROM pg_constraint AS k WHERE k.conrelid = c.oid \
                  AND k.contype = 'c' AND k.conkey = ARRAY[a.attnum] LIMIT 1) AS options, \
                 (SELECT t.relname::text FROM pg_constraint AS k JOIN pg_class AS t ON t.oid = k.confrelid \
                  WHERE k.conrelid = c.oid AND k.contype = 'f' \
                  AND k.conkey[cardinality(k.conkey)] = a.attnum LIMIT 1) AS target \
             FROM pg_class AS c \
             JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             WHERE c.relnamespace = 'crm'::regnamespace AND c.relkind IN ('r', 'p') \
                 AND NOT c.relispartition AND c.relname <> '_migrations' AND a.attgenerated = '' \
                 AND a.attname <> 'transaction_id' \
             ORDER BY c.relname, a.attnum",
        )
        .fetch_all(owner)
        .await?;
        let mut tables: BTreeMap<String, Vec<Column>> = BTreeMap::new();
        for row in rows {
            tables.entry(row.get("name")).or_default().push(Column {
                name: row.get("column"),
                kind: row.get("kind"),
                required: row.get("required"),
                options: row.get("options"),
                target: row.get("target"),
            });
        }
        Ok(tables
            .into_iter()
            .map(|(name, columns)| Self { name, columns })
            .collect())
    }

    /// The column that tells whose a row is.
    fn whose(&self) -> &'static str {
        let has = self.columns.iter().any(|column| column.name == "tenant_id");
        if has { "tenant_id" } else { "id" }
    }

    fn insert(&self) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| format!("\"{}\"", column.name))
            .collect();
        let columns = columns.join(", ");
        format!(
            "INSERT INTO crm.\"{0}\" ({columns}) \
             SELECT {columns} FROM jsonb_populate_record(NULL::crm.\"{0}\", $1)",
            self.name
        )
    }

    /// A row with a value wherever one is needed, that refers to `others` wherever it can.
    fn row(&self, tenant: Uuid, id: Uuid, others: &BTreeMap<String, Uuid>) -> Json {
        let is_tenants = self.whose() == "id";
        let mut row = Map::new();
        for column in &self.columns {
            let value = match (column.name.as_str(), &column.target) {
                ("tenant_id", _) => json!(tenant),
                ("id", _) => json!(if is_tenants { tenant } else { id }),
                (_, Some(target)) if *target == self.name => json!(id),
                (_, Some(target)) => json!(others.get(target)),
                _ if !column.required => Json::Null,
                _ => value(column, id),
            };
            row.insert(column.name.clone(), value);
        }
        Json::Object(row)
    }
}

/// A value that the column's type and CHECK take.
fn value(column: &Column, id: Uuid) -> Json {
    let option = column
        .options
        .as_deref()
        .filter(|check| check.contains("ANY"))
        .and_then(|check| check.split('\'').nth(1));
    match (column.kind.as_str(), option) {
        (_, Some(option)) => json!(option),
        ("uuid", _) => json!(id),
        ("boolean", _) => json!(false),
        ("bigint" | "numeric" | "double precision", _) => json!(least(column)),
        ("date" | "timestamp with time zone", _) => json!("2026-01-31"),
        ("jsonb", _) => json!({}),
        ("text[]", _) => json!([]),
        // One that no other row has, and short.
        _ => {
            let text = id.simple().to_string();
            json!(text[text.len() - 2..])
        }
    }
}

/// The least number from 1 that the column's CHECK takes.
fn least(column: &Column) -> i64 {
    let check = column.options.as_deref().unwrap_or_default();
    let bound = check.split(">= ").nth(1).unwrap_or_default();
    let bound = bound.trim_start_matches(['(', '\'']);
    let digits: String = bound.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(1).max(1)
}

/// A tenant with one row in every table.
#[derive(Clone)]
struct Tenant {
    id: Uuid,
    rows: BTreeMap<String, Uuid>,
}

impl Tenant {
    async fn new(owner: &mut PgConnection, tables: &[Table]) -> Self {
        let id = new_id(owner).await;
        let mut rows = BTreeMap::new();
        while rows.len() < tables.len() {
            let before = rows.len();
            for table in tables {
                let is_ready = table
                    .columns
                    .iter()
                    .filter_map(|column| column.target.as_ref())
                    .all(|target| *target == table.name || rows.contains_key(target));
                if rows.contains_key(&table.name) || !is_ready {
                    continue;
                }
                let of_row = if table.whose() == "id" {
                    id
                } else {
                    new_id(owner).await
                };
                let mut row = table.row(id, of_row, &rows);
                for column in &table.columns {
                    // Of all tenants, only one has it.
                    if column.name.starts_with("subdomain") {
                        row[&column.name] = json!(id.simple().to_string());
                    }
                }
                sqlx::query(trusted(table.insert()))
                    .bind(&row)
                    .execute(&mut *owner)
                    .await
                    .unwrap_or_else(|error| panic!("a row of {}: {error}: {row}", table.name));
                rows.insert(table.name.clone(), of_row);
            }
            assert!(
                rows.len() > before,
                "tables that refer to each other in a circle"
            );
        }
        Self { id, rows }
    }
}

async fn new_id(connection: &mut PgConnection) -> Uuid {
    sqlx::query_scalar("SELECT gen_random_uuid()")
        .fetch_one(connection)
        .await
        .expect("an id")
}

/// Two tenants, and a connection of the application's, of which nothing is committed.
struct Scene {
    database: Database,
    owner: PgConnection,
    application: PgConnection,
    tables: Vec<Table>,
    victim: Tenant,
    attacker: Tenant,
}

impl Scene {
    async fn new() -> Self {
        Self::open().await.expect("the tests need PostgreSQL")
    }

    async fn open() -> Result<Self, Box<dyn Error + Send + Sync>> {
        let database = Database::shared("tenancy_sql", &conformance::objects()).await?;
        let mut owner = database.owner().await?;
        let tables = Table::all(&mut owner).await?;
        let victim = Tenant::new(&mut owner, &tables).await;
        let attacker = Tenant::new(&mut owner, &tables).await;
        let mut application = database.application().await?;
        run(&mut application, "BEGIN").await;
        Ok(Self {
            application,
            database,
            owner,
            tables,
            victim,
            attacker,
        })
    }

    /// What the application gets for a statement.
    async fn attempt(&mut self, sql: &str, row: Option<&Json>) -> Answer {
        run(&mut self.application, "SAVEPOINT before").await;
        let mut query = sqlx::query(trusted(sql));
        if let Some(row) = row {
            query = query.bind(row);
        }
        let answer = query.execute(&mut self.application).await;
        run(&mut self.application, "ROLLBACK TO SAVEPOINT before").await;
        answer
            .map(|done| done.rows_affected())
            .map_err(|error| state(&error))
    }

    /// What the application gets for a statement under a setting.
    async fn attempt_as(&mut self, tenant: &str, sql: &str, row: Option<&Json>) -> Answer {
        set(&mut self.application, "crm.tenant_id", tenant, true).await;
        self.attempt(sql, row).await
    }

    /// Everything that both tenants have, as the superuser sees it.
    async fn picture(&mut self) -> BTreeMap<String, Vec<String>> {
        let mut picture = BTreeMap::new();
        for table in &self.tables {
            let rows = sqlx::query_scalar(trusted(format!(
                "SELECT t::text FROM crm.\"{}\" AS t WHERE \"{}\" IN ($1, $2) ORDER BY 1",
                table.name,
                table.whose()
            )))
            .bind(self.victim.id)
            .bind(self.attacker.id)
            .fetch_all(&mut self.owner)
            .await
            .expect("the rows");
            picture.insert(table.name.clone(), rows);
        }
        picture
    }

    /// A new row of `of` for a table.
    async fn fresh(&mut self, table: usize, of: &Tenant) -> Json {
        let id = new_id(&mut self.owner).await;
        self.tables[table].row(of.id, id, &of.rows)
    }
}

/// Entries of the log are only read and added.
fn is_log(table: &str) -> bool {
    ["audit_events", "audit_events_archive", "audit_seals"].contains(&table)
}

/// What may be answered to a change that must touch no row.
fn untouched(table: &str) -> Answer {
    if is_log(table) {
        Err(DENIED.to_owned())
    } else {
        Ok(0)
    }
}

#[tokio::test]
async fn every_table_of_the_catalog_is_attacked() {
    let scene = Scene::new().await;
    let names: BTreeSet<&str> = scene
        .tables
        .iter()
        .map(|table| table.name.as_str())
        .collect();
    for object in objects().iter().chain(&conformance::objects()) {
        assert!(names.contains(object.table()), "{}", object.table());
    }
    for tenant in [&scene.victim, &scene.attacker] {
        assert_eq!(tenant.rows.len(), scene.tables.len());
    }
}

#[tokio::test]
async fn every_table_has_row_level_security_that_binds_its_owner_too() {
    let mut scene = Scene::new().await;
    let open: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class AS c WHERE c.relnamespace = 'crm'::regnamespace \
         AND c.relkind IN ('r', 'p') AND c.relname <> '_migrations' \
         AND NOT (c.relrowsecurity AND c.relforcerowsecurity)",
    )
    .fetch_all(&mut scene.owner)
    .await
    .unwrap();
    assert_eq!(open, Vec::<String>::new());
}

#[tokio::test]
async fn without_a_tenant_there_are_no_rows() {
    let mut scene = Scene::new().await;
    let before = scene.picture().await;
    // Never set, and set to nothing, as it is after the transaction that set it.
    for is_set in [false, true] {
        if is_set {
            set(&mut scene.application, "crm.tenant_id", "", true).await;
        }
        for index in 0..scene.tables.len() {
            let name = scene.tables[index].name.clone();
            let select = format!("SELECT FROM crm.\"{name}\"");
            assert_eq!(scene.attempt(&select, None).await, Ok(0), "{select}");
            let whose = scene.tables[index].whose();
            let update = format!("UPDATE crm.\"{name}\" SET \"{whose}\" = \"{whose}\"");
            assert_eq!(
                scene.attempt(&update, None).await,
                untouched(&name),
                "{update}"
            );
            let delete = format!("DELETE FROM crm.\"{name}\"");
            assert_eq!(
                scene.attempt(&delete, None).await,
                untouched(&name),
                "{delete}"
            );
            let of = scene.victim.clone();
            let row = scene.fresh(index, &of).await;
            let insert = scene.tables[index].insert();
            assert_eq!(
                scene.attempt(&insert, Some(&row)).await,
                Err(DENIED.to_owned()),
                "{insert}"
            );
        }
    }
    assert_eq!(scene.picture().await, before);
}

#[tokio::test]
async fn what_is_no_tenant_is_an_error() {
    let mut scene = Scene::new().await;
    for garbage in [
        "garbage",
        " ",
        "0",
        "00000000-0000-0000-0000-00000000000g",
        "' OR true --",
    ] {
        for index in 0..scene.tables.len() {
            let select = format!("SELECT FROM crm.\"{}\"", scene.tables[index].name);
            let answer = scene.attempt_as(garbage, &select, None).await;
            assert_eq!(
                answer,
                Err(NOT_A_UUID.to_owned()),
                "{select} as {garbage:?}"
            );
        }
    }
    // A tenant that is not there has nothing.
    let nobody = new_id(&mut scene.owner).await.to_string();
    for index in 0..scene.tables.len() {
        let select = format!("SELECT FROM crm.\"{}\"", scene.tables[index].name);
        assert_eq!(
            scene.attempt_as(&nobody, &select, None).await,
            Ok(0),
            "{select}"
        );
    }
}

#[tokio::test]
async fn another_tenants_rows_are_not_there() {
    let mut scene = Scene::new().await;
    let before = scene.picture().await;
    let attacker = scene.attacker.id.to_string();
    let victim = scene.victim.id;
    for index in 0..scene.tables.len() {
        let (name, whose) = (
            scene.tables[index].name.clone(),
            scene.tables[index].whose(),
        );
        let theirs = format!("\"{whose}\" = '{victim}'");
        for (sql, expected) in [
            (format!("SELECT FROM crm.\"{name}\""), Ok(1)),
            (format!("SELECT FROM crm.\"{name}\" WHERE {theirs}"), Ok(0)),
            (
                format!("SELECT FROM crm.\"{name}\" WHERE {theirs} OR true"),
                Ok(1),
            ),
            (
                format!("UPDATE crm.\"{name}\" SET \"{whose}\" = \"{whose}\" WHERE {theirs}"),
                untouched(&name),
            ),
            (
                format!("DELETE FROM crm.\"{name}\" WHERE {theirs}"),
                untouched(&name),
            ),
            (
                format!("SELECT FROM crm.\"{name}\" WHERE {theirs} FOR SHARE"),
                // It takes the right to change some column.
                if name == "audit_seals" {
                    Err(DENIED.to_owned())
                } else {
                    Ok(0)
                },
            ),
            // A row of one's own is not given away, nor is a row taken over.
            (
                format!("UPDATE crm.\"{name}\" SET \"{whose}\" = '{victim}'"),
                Err(DENIED.to_owned()),
            ),
        ] {
            assert_eq!(
                scene.attempt_as(&attacker, &sql, None).await,
                expected,
                "{sql}"
            );
        }
        let of = scene.victim.clone();
        let mut row = scene.fresh(index, &of).await;
        let insert = scene.tables[index].insert();
        let answer = scene.attempt_as(&attacker, &insert, Some(&row)).await;
        assert_eq!(answer, Err(DENIED.to_owned()), "{insert}");
        if whose == "id" || is_log(&name) {
            continue;
        }
        // Not by way of the key of a row that is there, either.
        row["id"] = json!(scene.victim.rows[&name]);
        for action in ["NOTHING", "UPDATE SET tenant_id = EXCLUDED.tenant_id"] {
            let insert = format!("{insert} ON CONFLICT ON CONSTRAINT \"{name}_pkey\" DO {action}");
            let answer = scene.attempt_as(&attacker, &insert, Some(&row)).await;
            assert_eq!(answer, Err(DENIED.to_owned()), "{insert}");
        }
    }
    assert_eq!(scene.picture().await, before);
}

#[tokio::test]
async fn a_reference_does_not_leave_the_tenant() {
    let mut scene = Scene::new().await;
    let attacker = scene.attacker.id.to_string();
    let mut count = 0;
    for index in 0..scene.tables.len() {
        let references: Vec<(String, String)> = scene.tables[index]
            .columns
            .iter()
            .filter_map(|column| Some((column.name.clone(), column.target.clone()?)))
            .collect();
        for (column, target) in references {
            let of = scene.attacker.clone();
            let mut row = scene.fresh(index, &of).await;
            row[&column] = json!(scene.victim.rows[&target]);
            let insert = scene.tables[index].insert();
            let answer = scene.attempt_as(&attacker, &insert, Some(&row)).await;
            // Keys that are unique are looked at first; then the row is one that is there.
            let is_refused =
                answer == Err(FOREIGN_KEY.to_owned()) || answer == Err("23505".to_owned());
            assert!(
                is_refused,
                "{column} of {}: {answer:?}",
                scene.tables[index].name
            );
            let name = &scene.tables[index].name;
            let update = format!(
                "UPDATE crm.\"{name}\" SET \"{column}\" = '{}'",
                scene.victim.rows[&target]
            );
            let answer = scene.attempt_as(&attacker, &update, None).await;
            assert_eq!(answer, Err(FOREIGN_KEY.to_owned()), "{update}");
            count += 1;
        }
    }
    assert!(count >= 25, "{count} references");
}

#[tokio::test]
async fn the_tenant_is_forgotten_with_the_transaction() {
    let mut scene = Scene::new().await;
    let attacker = scene.attacker.id.to_string();
    let victim = Scope::Tenant(Id::new(scene.victim.id));
    for end in ["COMMIT", "ROLLBACK"] {
        assert_eq!(
            scene
                .attempt_as(&attacker, "SELECT FROM crm.users", None)
                .await,
            Ok(1)
        );
        run(&mut scene.application, end).await;
        run(&mut scene.application, "BEGIN").await;
        assert_eq!(
            scene.attempt("SELECT FROM crm.users", None).await,
            Ok(0),
            "{end}"
        );
    }
    // Nor does the storage leave it in the connection that it gives back.
    let pool = scene.database.pool(1).await.unwrap();
    let storage = PostgresStorage::new(pool.clone());
    for object in objects() {
        let count = AggregateQuery::count(&object, Condition::all());
        let groups = storage.aggregate(&victim, &count).await.unwrap();
        // A template has no records of its own.
        let own = u64::from(!object.is_template());
        assert_eq!(groups[0].count(0), own, "{}", object.name());
        storage.aggregate(&Scope::Platform, &count).await.unwrap();
        for table in ["tenants", object.table()] {
            let left: i64 =
                sqlx::query_scalar(trusted(format!("SELECT count(*) FROM crm.\"{table}\"")))
                    .fetch_one(&pool)
                    .await
                    .unwrap();
            assert_eq!(left, 0, "{table} after {}", object.name());
        }
    }
}

#[tokio::test]
async fn the_port_gives_nothing_of_another_tenant() {
    let scene = Scene::new().await;
    let storage = PostgresStorage::new(scene.database.pool(2).await.unwrap());
    let attacker = Scope::Tenant(Id::new(scene.attacker.id));
    for object in objects() {
        let id = scene.victim.rows[object.table()];
        for scope in [attacker, Scope::Platform] {
            if scope == Scope::Platform && object.scope() != ObjectScope::Tenant {
                continue;
            }
            let rows = storage.get(&scope, &object, &[id]).await.unwrap();
            assert!(rows.is_empty(), "{} by id", object.name());
            let by_id = Condition::equals(system::ID, id.into());
            let query = Query::new(&object, by_id.clone());
            let rows = storage.select(&scope, &query).await.unwrap();
            assert!(rows.is_empty(), "{} by a query", object.name());
            let count = AggregateQuery::count(&object, by_id);
            let groups = storage.aggregate(&scope, &count).await.unwrap();
            assert_eq!(groups[0].count(0), 0, "the count of {}", object.name());
        }
    }
}

#[tokio::test]
async fn partitions_have_no_door_of_their_own() {
    let mut scene = Scene::new().await;
    let day = NaiveDate::from_ymd_opt(2031, 5, 1).unwrap();
    ensure_partitions(&mut scene.owner, "crm", day, 2)
        .await
        .unwrap();
    let partitions: Vec<(String, String)> = sqlx::query_as(
        "SELECT c.relname::text, p.relname::text FROM pg_class AS c \
         JOIN pg_inherits AS i ON i.inhrelid = c.oid JOIN pg_class AS p ON p.oid = i.inhparent \
         WHERE c.relnamespace = 'crm'::regnamespace AND c.relkind IN ('r', 'p') AND c.relispartition",
    )
    .fetch_all(&mut scene.owner)
    .await
    .unwrap();
    assert!(partitions.len() >= 3 * 3, "{partitions:?}");
    let attacker = scene.attacker.id.to_string();
    for (partition, log) in partitions {
        for sql in [
            format!("SELECT FROM crm.\"{partition}\""),
            format!("INSERT INTO crm.\"{partition}\" SELECT * FROM crm.\"{log}\""),
            format!("UPDATE crm.\"{partition}\" SET version = 2"),
            format!("DELETE FROM crm.\"{partition}\""),
            format!("TRUNCATE crm.\"{partition}\""),
            format!("ALTER TABLE crm.\"{log}\" DETACH PARTITION crm.\"{partition}\""),
        ] {
            let answer = scene.attempt_as(&attacker, &sql, None).await;
            assert_eq!(answer, Err(DENIED.to_owned()), "{sql}");
        }
    }
}

#[tokio::test]
async fn what_happened_stays_as_it_was_written() {
    let mut scene = Scene::new().await;
    let attacker = scene.attacker.id.to_string();
    for sql in [
        "UPDATE crm.audit_events SET record_version = 2, changes = '[]'",
        "DELETE FROM crm.audit_events",
        "TRUNCATE crm.audit_events",
        "INSERT INTO crm.audit_events SELECT * FROM crm.audit_events \
         ON CONFLICT (tenant_id, created_at, id) DO UPDATE SET object = 'x'",
        "MERGE INTO crm.audit_events AS t USING crm.audit_events AS s ON t.id = s.id \
         WHEN MATCHED THEN DELETE",
    ] {
        let answer = scene.attempt_as(&attacker, sql, None).await;
        assert_eq!(answer, Err(DENIED.to_owned()), "{sql}");
    }
}

#[tokio::test]
async fn the_application_has_no_power_over_the_schema() {
    let mut scene = Scene::new().await;
    let attacker = scene.attacker.id.to_string();
    let superuser: String = sqlx::query_scalar("SELECT current_user::text")
        .fetch_one(&mut scene.owner)
        .await
        .unwrap();
    let mut statements = vec![
        "CREATE TABLE crm.mine (id uuid)".to_owned(),
        "CREATE VIEW crm.mine AS SELECT 1".to_owned(),
        "CREATE FUNCTION crm.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'".to_owned(),
        "CREATE OR REPLACE FUNCTION crm.refuse(code text, detail text) RETURNS boolean \
         LANGUAGE sql AS 'SELECT true'"
            .to_owned(),
        "ALTER FUNCTION crm.search SECURITY INVOKER".to_owned(),
        "DROP SCHEMA crm CASCADE".to_owned(),
        "ALTER SCHEMA crm RENAME TO mine".to_owned(),
        "SET ROLE crm_search".to_owned(),
        format!("SET ROLE \"{superuser}\""),
        format!("SET SESSION AUTHORIZATION \"{superuser}\""),
        "ALTER ROLE crm_app BYPASSRLS".to_owned(),
        "GRANT crm_search TO crm_app".to_owned(),
        "SELECT FROM crm._migrations".to_owned(),
        "DELETE FROM crm._migrations".to_owned(),
        "SET session_replication_role = replica".to_owned(),
    ];
    for table in &scene.tables {
        let table = format!("crm.\"{}\"", table.name);
        statements.extend([
            format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"),
            format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"),
            format!("ALTER POLICY tenant_isolation ON {table} USING (true)"),
            format!("CREATE POLICY mine ON {table} USING (true)"),
            format!("DROP POLICY tenant_isolation ON {table}"),
            format!("ALTER TABLE {table} ADD COLUMN mine int"),
            format!("ALTER TABLE {table} DISABLE TRIGGER ALL"),
            format!("ALTER TABLE {table} OWNER TO crm_app"),
            format!("CREATE INDEX ON {table} (version)"),
            format!("CREATE TRIGGER mine BEFORE INSERT ON {table} EXECUTE FUNCTION suppress_redundant_updates_trigger()"),
            format!("CREATE RULE mine AS ON INSERT TO {table} DO NOTHING"),
            format!("TRUNCATE {table}"),
            format!("DROP TABLE {table} CASCADE"),
        ]);
    }
    for sql in statements {
        let answer = scene.attempt_as(&attacker, &sql, None).await;
        assert_eq!(answer, Err(DENIED.to_owned()), "{sql}");
    }
    // Row-level security that is switched off makes a query fail, not see more.
    set(&mut scene.application, "row_security", "off", true).await;
    let answer = scene
        .attempt_as(&attacker, "SELECT FROM crm.users", None)
        .await;
    assert_eq!(answer, Err(DENIED.to_owned()));
}

#[tokio::test]
async fn the_platform_reads_tenants_and_nothing_else() {
    let mut scene = Scene::new().await;
    let before = scene.picture().await;
    set(&mut scene.application, "crm.platform", "on", true).await;
    for index in 0..scene.tables.len() {
        let (name, whose) = (
            scene.tables[index].name.clone(),
            scene.tables[index].whose(),
        );
        let theirs = format!("\"{whose}\" = '{}'", scene.victim.id);
        let seen = u64::from(whose == "id");
        let select = format!("SELECT FROM crm.\"{name}\" WHERE {theirs}");
        assert_eq!(scene.attempt(&select, None).await, Ok(seen), "{select}");
        for sql in [
            format!("UPDATE crm.\"{name}\" SET \"{whose}\" = \"{whose}\" WHERE {theirs}"),
            format!("DELETE FROM crm.\"{name}\" WHERE {theirs}"),
            format!("SELECT FROM crm.\"{name}\" WHERE {theirs} FOR UPDATE"),
        ] {
            let answer = scene.attempt(&sql, None).await;
            assert!(
                answer == Ok(0) || answer == Err(DENIED.to_owned()),
                "{sql}: {answer:?}"
            );
        }
        let of = scene.victim.clone();
        let row = scene.fresh(index, &of).await;
        let insert = scene.tables[index].insert();
        assert_eq!(
            scene.attempt(&insert, Some(&row)).await,
            Err(DENIED.to_owned()),
            "{insert}"
        );
    }
    // Any other word does not make it the platform.
    for word in ["", "off", "true", "1", "ON", "on "] {
        set(&mut scene.application, "crm.platform", word, true).await;
        assert_eq!(
            scene.attempt("SELECT FROM crm.tenants", None).await,
            Ok(0),
            "{word:?}"
        );
    }
    assert_eq!(scene.picture().await, before);
}

#[tokio::test]
async fn functions_with_more_rights_serve_the_own_tenant_only() {
    let mut scene = Scene::new().await;
    let attacker = scene.attacker.id.to_string();
    let (own, theirs) = (scene.attacker.id, scene.victim.id);
    let public: Vec<String> = sqlx::query_scalar(
        "SELECT p.proname::text FROM pg_proc AS p WHERE p.pronamespace = 'crm'::regnamespace \
         AND has_function_privilege('public', p.oid, 'EXECUTE')",
    )
    .fetch_all(&mut scene.owner)
    .await
    .unwrap();
    assert_eq!(public, Vec::<String>::new());
    let loose: Vec<String> = sqlx::query_scalar(
        "SELECT p.proname::text FROM pg_proc AS p WHERE p.pronamespace = 'crm'::regnamespace \
         AND p.prosecdef AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)",
    )
    .fetch_all(&mut scene.owner)
    .await
    .unwrap();
    assert_eq!(loose, Vec::<String>::new());

    let denied = Err(DENIED.to_owned());
    for (setting, tenant, expected) in [
        (attacker.as_str(), format!("'{own}'"), Ok(())),
        (attacker.as_str(), format!("'{theirs}'"), denied.clone()),
        (attacker.as_str(), "NULL".to_owned(), denied.clone()),
        ("", format!("'{theirs}'"), denied.clone()),
        ("", "NULL".to_owned(), denied.clone()),
    ] {
        for call in [
            format!("SELECT FROM crm.search({tenant}, 'contacts', 'a', 10)"),
            format!("SELECT FROM crm.tagged({tenant}, 'contacts', 'tags', '{{}}', true, 1000)"),
        ] {
            let answer = scene.attempt_as(setting, &call, None).await.map(|_| ());
            assert_eq!(answer, expected, "{call} as {setting:?}");
        }
    }
    for table in [
        "pg_authid",
        "pg_catalog.pg_authid",
        "_migrations",
        "crm.contacts",
        "contacts\"; DROP TABLE crm.contacts; --",
        "contacts AS t, crm.users",
        "Contacts",
        "audit_events_default",
        "",
    ] {
        let table = table.replace('\'', "''");
        for call in [
            format!("SELECT FROM crm.search('{own}', '{table}', 'a', 10)"),
            format!("SELECT FROM crm.tagged('{own}', '{table}', 'tags', '{{}}', true, 1000)"),
        ] {
            let answer = scene.attempt_as(&attacker, &call, None).await;
            let code = answer.expect_err("a refusal");
            assert!(code == "42P01" || code == "42703", "{call}: {code}");
        }
    }
    for column in [
        "email",
        "tenant_id",
        "tags, t.email",
        "tags\" && $2 OR true --",
        "",
    ] {
        let call =
            format!("SELECT FROM crm.tagged('{own}', 'contacts', '{column}', '{{}}', true, 1000)");
        let answer = scene.attempt_as(&attacker, &call, None).await;
        assert_eq!(answer, Err("42703".to_owned()), "{call}");
    }
}

#[tokio::test]
async fn functions_with_more_rights_are_not_led_astray() {
    let mut scene = Scene::new().await;
    let (own, theirs) = (scene.attacker.id, scene.victim.id);
    set(
        &mut scene.application,
        "crm.tenant_id",
        &own.to_string(),
        true,
    )
    .await;
    // Names that a careless function would take for those of the catalog or of the schema.
    for sql in [
        "CREATE TEMPORARY TABLE contacts AS SELECT id, tenant_id, tags, search_vector, deleted_at FROM crm.contacts",
        "CREATE TEMPORARY TABLE pg_class AS SELECT * FROM pg_catalog.pg_class",
        "CREATE TEMPORARY TABLE pg_attribute AS SELECT attrelid, attname, atttypid FROM pg_catalog.pg_attribute",
    ] {
        run(&mut scene.application, sql).await;
    }
    let shadow = format!(
        "CREATE FUNCTION pg_temp.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT '{theirs}' $$; \
         CREATE FUNCTION pg_temp.search_text(text) RETURNS text LANGUAGE sql AS $$ SELECT 'shadow' $$; \
         CREATE FUNCTION pg_temp.ts_rank(tsvector, tsquery) RETURNS real LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'as %', current_user; END $$; \
         CREATE FUNCTION pg_temp.both(anyarray, anyarray) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$; \
         CREATE OPERATOR pg_temp.&& (LEFTARG = anyarray, RIGHTARG = anyarray, FUNCTION = pg_temp.both); \
         SET LOCAL search_path = pg_temp, crm, pg_catalog"
    );
    run(&mut scene.application, &shadow).await;
    for (call, expected) in [
        (
            format!("SELECT FROM crm.search('{theirs}', 'contacts', 'a', 10)"),
            Err(DENIED.to_owned()),
        ),
        (
            format!("SELECT FROM crm.tagged('{theirs}', 'contacts', 'tags', '{{x}}', false, 1000)"),
            Err(DENIED.to_owned()),
        ),
        (
            format!(
                "SELECT FROM unnest(crm.tagged('{own}', 'contacts', 'tags', '{{x}}', false, 1000))"
            ),
            Ok(0),
        ),
        (
            format!("SELECT FROM crm.search('{own}', 'contacts', 'nothingofthekind', 10)"),
            Ok(0),
        ),
    ] {
        assert_eq!(scene.attempt(&call, None).await, expected, "{call}");
    }
    // The rows are those of the table, not of its shadow.
    let call =
        format!("SELECT FROM unnest(crm.tagged('{own}', 'contacts', 'tags', '{{}}', true, 1000))");
    run(&mut scene.application, "DELETE FROM pg_temp.contacts").await;
    assert_eq!(scene.attempt(&call, None).await, Ok(1));
}

#[tokio::test]
async fn a_refusal_only_refuses() {
    let mut scene = Scene::new().await;
    let before = scene.picture().await;
    let attacker = scene.attacker.id.to_string();
    for (code, expected) in [
        ("conflict", "42704"),
        ("CRM01", "CRM01"),
        ("P0001", "P0001"),
        ("'; DROP TABLE crm.contacts; --", "42704"),
    ] {
        let code = code.replace('\'', "''");
        let call = format!("SELECT crm.refuse('{code}', 'x')");
        let answer = scene.attempt_as(&attacker, &call, None).await;
        assert_eq!(answer, Err(expected.to_owned()), "{call}");
    }
    assert_eq!(scene.picture().await, before);
}

#[tokio::test]
async fn an_owner_who_is_no_superuser_is_bound_too() {
    // A database of its own: nobody else waits for the locks.
    let database = Database::shared("tenancy_owner", &[])
        .await
        .expect("the tests need PostgreSQL");
    let mut owner = database.owner().await.unwrap();
    let tables = Table::all(&mut owner).await.unwrap();
    run(&mut owner, "BEGIN").await;
    let victim = Tenant::new(&mut owner, &tables).await;
    let other = Tenant::new(&mut owner, &tables).await;
    let role = format!("crm_test_owner_{}", std::process::id());
    run(
        &mut owner,
        &format!("CREATE ROLE {role}; GRANT USAGE, CREATE ON SCHEMA crm TO {role}"),
    )
    .await;
    for table in &tables {
        run(
            &mut owner,
            &format!("ALTER TABLE crm.\"{}\" OWNER TO {role}", table.name),
        )
        .await;
    }
    run(&mut owner, &format!("SET LOCAL ROLE {role}")).await;
    for (setting, seen) in [(String::new(), 0), (victim.id.to_string(), 1)] {
        set(&mut owner, "crm.tenant_id", &setting, true).await;
        for table in &tables {
            let name = &table.name;
            let count: i64 =
                sqlx::query_scalar(trusted(format!("SELECT count(*) FROM crm.\"{name}\"")))
                    .fetch_one(&mut owner)
                    .await
                    .unwrap();
            assert_eq!(count, seen, "{name}");
            let delete = format!(
                "DELETE FROM crm.\"{name}\" WHERE \"{}\" = '{}'",
                table.whose(),
                other.id
            );
            let done = sqlx::query(trusted(delete))
                .execute(&mut owner)
                .await
                .unwrap();
            assert_eq!(done.rows_affected(), 0, "{name}");
        }
    }
    run(&mut owner, "ROLLBACK").await;
}

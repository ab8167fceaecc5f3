//! What differs between the database and the schemas is found.

use std::collections::BTreeSet;

use crm_storage_postgres::{Drift, drift, lint, objects};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::common::{Database, run};

pub(crate) async fn drifts(connection: &mut PgConnection) -> Vec<Drift> {
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
            "NOT EXISTS (SELECT FROM pg_constraint AS k \
             WHERE k.confrelid = c.oid AND k.conrelid <> c.oid)",
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
                "DO $$ DECLARE k record; BEGIN \
                 FOR k IN SELECT conrelid::regclass AS t, conname FROM pg_constraint \
                 WHERE contype = 'f' AND confrelid = 'crm.contacts'::regclass LOOP \
                 EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', k.t, k.conname); \
                 END LOOP; END $$",
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

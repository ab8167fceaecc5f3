//! Whether a database is what the schemas say: [`drift`] compares, [`lint`] looks for what must not
//! be there at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crm_core::schema::ObjectRef;
use sqlx::{Acquire as _, PgConnection};

use crate::ddl::{Ddl, Names, SchemaError, create_role, trusted};
use crate::layout::{Table, literal, quoted};
use crate::migrate::objects;

/// Reads the catalog.
const CATALOG: &str = include_str!("catalog.sql");

/// One difference between a database and the schemas.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drift {
    /// The table, or the function with `()` behind its name.
    pub table: String,
    /// What part of it: `column email`, `row-level security`; `table` for the whole.
    pub what: String,
    /// How the schemas say it; none where they know of no such part.
    pub expected: Option<String>,
    /// How the database has it; none where it is missing.
    pub found: Option<String>,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, what, .. } = self;
        match (&self.expected, &self.found) {
            (Some(expected), Some(found)) => {
                write!(f, "{table}: {what} is `{found}` and should be `{expected}`")
            }
            (Some(expected), None) => write!(f, "{table}: {what} is missing: `{expected}`"),
            (None, Some(found)) => write!(f, "{table}: {what} should not be there: `{found}`"),
            (None, None) => write!(f, "{table}: {what}"),
        }
    }
}

/// Where the tables of `objects` in the database differ from what the objects say: columns with
/// type, length, collation and generation, nullability, CHECKs, keys, references, indexes, row-level
/// security, policies, triggers; and where the engine's functions differ from those of this
/// version. Empty if all is as it should be.
///
/// For a host's own tests, and for a look at a database that somebody changed by hand. It makes the
/// tables once more beside the real ones, in a transaction that it rolls back, so it needs a
/// connection that may make schemas; nothing of the real tables is locked or changed.
///
/// # Errors
/// The database's; objects of which no DDL can be written.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// let mut connection = pool.acquire().await?;
/// let objects = crm_storage_postgres::objects();
/// for difference in crm_storage_postgres::drift(&mut connection, "crm", &objects).await? {
///     println!("{difference}");
/// }
/// # Ok(())
/// # }
/// ```
pub async fn drift(
    connection: &mut PgConnection,
    schema: &str,
    objects: &[ObjectRef],
) -> Result<Vec<Drift>, SchemaError> {
    let mut transaction = connection.begin().await?;
    let (expected, found) = both(&mut transaction, schema, objects).await?;
    transaction.rollback().await?;
    Ok(compared(&expected, found))
}

/// The parts of the tables: their definition by table, kind and name.
type Parts = BTreeMap<(String, String, String), String>;

/// The parts that are expected, and those that are there.
async fn both(
    connection: &mut PgConnection,
    schema: &str,
    of: &[ObjectRef],
) -> Result<(Parts, Parts), SchemaError> {
    // What is not in the way of names is printed with its schema.
    sqlx::query("SET LOCAL search_path = pg_catalog")
        .execute(&mut *connection)
        .await?;
    let (scratch, me, printed): (String, String, String) = sqlx::query_as(
        "SELECT 'crm_drift_' || pg_backend_pid(), current_user::text, quote_ident($1)",
    )
    .bind(schema)
    .fetch_one(&mut *connection)
    .await?;
    let real = Names {
        schema: schema.to_owned(),
        application_role: me.clone(),
    };
    let names = Names {
        schema: scratch.clone(),
        application_role: me,
    };
    let search_role = real.search_role();

    // References may lead to any object of the engine.
    let mut all = objects();
    all.retain(|object| !of.contains(object));
    all.extend(of.iter().cloned());
    let ddl = Ddl::new(&names, &all)?.with_search_role(search_role.clone());
    let text = format!(
        "CREATE SCHEMA {};\n{}{}{}",
        quoted(&scratch),
        create_role(&search_role),
        ddl.functions(),
        ddl.tables()
    );
    sqlx::raw_sql(trusted(text))
        .execute(&mut *connection)
        .await?;

    let tables: Vec<String> = of
        .iter()
        .map(|object| Table::of(schema, object).name.clone())
        .collect();
    let functions = ddl.function_names();
    let found = parts(connection, schema, &tables, &functions, &search_role).await?;
    let expected = parts(connection, &scratch, &tables, &functions, &search_role).await?;
    let expected = expected
        .into_iter()
        .map(|(key, definition)| {
            let definition = definition
                .replace(&quoted(&scratch), &quoted(schema))
                .replace(literal(&scratch).trim_start(), literal(schema).trim_start())
                .replace(&format!("{scratch}."), &format!("{printed}."));
            (key, definition)
        })
        .collect();
    Ok((expected, found))
}

async fn parts(
    connection: &mut PgConnection,
    schema: &str,
    tables: &[String],
    functions: &[String],
    search_role: &str,
) -> Result<Parts, sqlx::Error> {
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(CATALOG)
        .bind(schema)
        .bind(tables)
        .bind(functions)
        .bind(search_role)
        .fetch_all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(table, kind, name, definition)| ((table, kind, name), definition))
        .collect())
}

fn compared(expected: &Parts, mut found: Parts) -> Vec<Drift> {
    let mut drifts = Vec::new();
    // A missing table is missing once, not part by part.
    let missing: BTreeSet<&String> = expected
        .keys()
        .filter(|key| key.1 == "table" && !found.contains_key(*key))
        .map(|(table, ..)| table)
        .collect();
    for (key, definition) in expected {
        let (table, kind, name) = key;
        let other = found.remove(key);
        if other.as_ref() == Some(definition) || (missing.contains(table) && kind != "table") {
            continue;
        }
        drifts.push(Drift {
            table: table.clone(),
            what: format!("{kind} {name}").trim_end().to_owned(),
            expected: Some(definition.clone()),
            found: other,
        });
    }
    for ((table, kind, name), definition) in found {
        drifts.push(Drift {
            table,
            what: format!("{kind} {name}").trim_end().to_owned(),
            expected: None,
            found: Some(definition),
        });
    }
    drifts.sort_by(|a, b| (&a.table, &a.what).cmp(&(&b.table, &b.what)));
    drifts
}

/// What of the schema would not run on several machines by tenant, or leaves a door open: the
/// catalog's half of the rules for distribution, and of those for row-level security. Each finding
/// is a sentence; empty if all is well.
///
/// It looks at everything in the schema, a host's own tables too.
///
/// # Errors
/// The database's.
pub async fn lint(connection: &mut PgConnection, schema: &str) -> Result<Vec<String>, SchemaError> {
    let mut transaction = connection.begin().await?;
    sqlx::query("SET LOCAL search_path = pg_catalog")
        .execute(&mut *transaction)
        .await?;
    let findings = sqlx::query_scalar(include_str!("lint.sql"))
        .bind(schema)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.rollback().await?;
    Ok(findings)
}

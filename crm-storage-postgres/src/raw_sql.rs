//! Triggers that record what SQL does to the core tables past the library.

use std::fmt::Write as _;

use crm_core::schema::{ObjectRef, Privacy};

use crate::ddl::{Names, SchemaError};
use crate::layout::{Table, literal, quoted};
use crate::migrate::objects;

/// The objects whose tables are watched (C-111 to C-115).
const WATCHED: [&str; 5] = ["account", "contact", "lead", "deal", "activity"];

/// The functions of the triggers.
const FUNCTIONS: &str = include_str!("raw_sql.sql");

/// The functions that are triggers.
const TRIGGERS: [&str; 2] = ["version_raw_change", "record_raw_change"];

/// The functions that they call, with what they take.
const HELPERS: [&str; 2] = ["mask_members(jsonb)", "is_sensitive_name(text)"];

/// The DDL of triggers that leave an audit event where SQL changes accounts, contacts, leads, deals or
/// activities past the library (C-101, C-107 to C-115): for databases that other programs or people
/// write to. Optional; put it into a migration of the host that runs after those of the engine. It may
/// run again, after an update of the library for example.
///
/// An event of such a change has the actor `system` and the endpoint `sql`; the record gets its next
/// version, so that a write of the library that was decided before is a conflict, and what one
/// transaction does has one commit id. Writes of the library leave the events that they always do: its
/// statements say, for themselves only, that they are recorded, which costs nothing without the
/// triggers.
///
/// What they are not: a guard against those who own the tables, who can disable triggers, nor a check
/// of rules. Nothing that follows from a change, such as a deal's amount from its lines, follows from
/// such a one (C-107 to C-109): the next write of the library, or the engine's own repair runs, put it
/// in order. What the engine keeps about a record is not theirs to change either: version and stamps of
/// the last change follow, and an update of `id`, `tenant_id` or of who made it when is refused. `TRUNCATE` and `COPY` with triggers off are not seen. Who may write to the tables must be
/// allowed to insert audit events, and the tenant's setting applies, else the change is refused.
///
/// # Errors
/// A name that PostgreSQL would not take.
///
/// ```
/// let ddl = crm_storage_postgres::raw_sql_triggers("crm")?;
/// assert!(ddl.contains(r#"AFTER INSERT OR UPDATE OR DELETE ON "crm"."contacts""#));
/// # Ok::<(), crm_storage_postgres::SchemaError>(())
/// ```
pub fn raw_sql_triggers(schema: &str) -> Result<String, SchemaError> {
    let names = Names::new(schema, "crm_app")?;
    let schema = quoted(&names.schema);
    let mut text = FUNCTIONS.replace("{schema}", &schema);
    for name in TRIGGERS {
        let _ = writeln!(text, "REVOKE ALL ON FUNCTION {schema}.{name} FROM PUBLIC;");
    }
    for table in watched(&names.schema) {
        let object = &table.object;
        let own = object.own_fields();
        let told = list(own.iter().map(|field| &*field.name));
        let secret = own.iter();
        let secret = secret.filter(|field| field.privacy == Privacy::Sensitive);
        let secret = list(secret.map(|field| &*field.name));
        let _ = write!(
            text,
            "CREATE OR REPLACE TRIGGER version_raw_change BEFORE UPDATE ON {table}\n    \
             FOR EACH ROW EXECUTE FUNCTION {schema}.version_raw_change({told});\n\
             CREATE OR REPLACE TRIGGER record_raw_change AFTER INSERT OR UPDATE OR DELETE ON {table}\n    \
             FOR EACH ROW EXECUTE FUNCTION {schema}.record_raw_change({object}, {told}, {secret});\n",
            table = table.sql,
            object = literal(object.name()).trim_start(),
        );
    }
    Ok(text)
}

/// The DDL that takes the triggers of [`raw_sql_triggers`] away again.
///
/// # Errors
/// A name that PostgreSQL would not take.
pub fn drop_raw_sql_triggers(schema: &str) -> Result<String, SchemaError> {
    let names = Names::new(schema, "crm_app")?;
    let mut text = String::new();
    for table in watched(&names.schema) {
        for name in TRIGGERS {
            let _ = writeln!(text, "DROP TRIGGER IF EXISTS {name} ON {};", table.sql);
        }
    }
    for name in TRIGGERS.into_iter().chain(HELPERS) {
        let schema = quoted(&names.schema);
        let _ = writeln!(text, "DROP FUNCTION IF EXISTS {schema}.{name};");
    }
    Ok(text)
}

fn watched(schema: &str) -> Vec<Table> {
    let is_watched = |object: &ObjectRef| WATCHED.contains(&object.name());
    let objects = objects().into_iter().filter(is_watched);
    objects.map(|object| Table::of(schema, &object)).collect()
}

/// Names as an array of texts in a literal.
fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.map(quoted).collect();
    literal(&format!("{{{}}}", names.join(",")))
        .trim_start()
        .to_owned()
}

//! Triggers that refuse personal values in the clear, of tenants whose values are encrypted.

use std::fmt::Write as _;

use crm_core::schema::{ObjectRef, Privacy, StorageKind, search_texts, typed_values};

use crate::ddl::{Names, SchemaError};
use crate::layout::{Column, Holds, SEALED, TENANT, TRAIL, Table, literal, quoted};
use crate::migrate::objects;
use crate::sql::write::UNENCRYPTED;

/// The function of the triggers.
const FUNCTION: &str = include_str!("encryption.sql");

/// The name of the function, and of its triggers.
const NAME: &str = "refuse_unencrypted";

/// The table of the tenants' keys, which seals nothing itself.
const KEYS: &str = "data_keys";

/// The DDL of triggers that refuse rows with personal values in the clear, of tenants that have keys
/// (C-110): for databases that other programs or people write to, and against a program of the host's
/// that was started without its keys. Optional; put it into a migration of the host that runs after
/// those of the engine, and once more after an update of the library.
///
/// `objects` are those whose tables get the trigger: the engine's ([`objects`](crate::objects)) and
/// the host's own; those without personal or sensitive fields need none. `plain` are the fields that the
/// host leaves in the clear, by object and field.
///
/// What they look at is whether a row that holds anything in such a field has sealed values: rows of
/// tenants without keys pass, and so do rows without personal values. A refusal has the SQLSTATE
/// `CRM06`, and is [`Fault::Unencrypted`](crate::Fault::Unencrypted) where the storage meets it. Who may
/// write to the tables must be allowed to read the keys' table, whose rows are encrypted themselves.
///
/// What they are not: a guard against those who own the tables, nor a look into what is sealed, nor at
/// single values of a row that is. Changes that [`raw_sql_triggers`](crate::raw_sql_triggers) record
/// leave events that are not sealed; they repeat what stood in the tables, which is sealed there.
///
/// # Errors
/// A name that PostgreSQL would not take.
///
/// ```
/// let objects = crm_storage_postgres::objects();
/// let ddl = crm_storage_postgres::encryption_triggers("crm", &objects, &[])?;
/// assert!(ddl.contains(r#"BEFORE INSERT OR UPDATE ON "crm"."contacts""#));
/// # Ok::<(), crm_storage_postgres::SchemaError>(())
/// ```
pub fn encryption_triggers(
    schema: &str,
    objects: &[ObjectRef],
    plain: &[(&str, &str)],
) -> Result<String, SchemaError> {
    let names = Names::new(schema, "crm_app")?;
    let schema = quoted(&names.schema);
    let mut text = FUNCTION
        .replace("{schema}", &schema)
        .replace("{keys}", &quoted(KEYS))
        .replace("{code}", UNENCRYPTED);
    let _ = writeln!(text, "REVOKE ALL ON FUNCTION {schema}.{NAME} FROM PUBLIC;");
    for table in watched(&names.schema, objects) {
        let values = values_in_the_clear(&table, plain);
        if values.is_empty() {
            continue;
        }
        let _ = write!(
            text,
            "CREATE OR REPLACE TRIGGER {NAME} BEFORE INSERT OR UPDATE ON {table}\n    \
             FOR EACH ROW WHEN (NEW.{sealed} IS NULL{beside} AND ({values}))\n    \
             EXECUTE FUNCTION {schema}.{NAME}({tenant}, {object});\n",
            table = table.sql,
            sealed = quoted(SEALED),
            beside = beside(&table),
            values = values.join(" OR "),
            tenant = if table.has_tenant() {
                literal(TENANT)
            } else {
                literal("id")
            },
            object = literal(table.object.name()),
        );
    }
    Ok(text)
}

/// The DDL that takes the triggers of [`encryption_triggers`] away again.
///
/// # Errors
/// A name that PostgreSQL would not take.
pub fn drop_encryption_triggers(
    schema: &str,
    objects: &[ObjectRef],
) -> Result<String, SchemaError> {
    let names = Names::new(schema, "crm_app")?;
    let mut text = String::new();
    for table in watched(&names.schema, objects) {
        let _ = writeln!(text, "DROP TRIGGER IF EXISTS {NAME} ON {};", table.sql);
    }
    let schema = quoted(&names.schema);
    let _ = writeln!(text, "DROP FUNCTION IF EXISTS {schema}.{NAME};");
    Ok(text)
}

/// The tables with values to seal.
fn watched(schema: &str, objects: &[ObjectRef]) -> Vec<Table> {
    let tables = objects.iter().map(|object| Table::of(schema, object));
    tables
        .filter(|table| table.sealed().is_some() && table.name != KEYS)
        .collect()
}

/// That a row holds something in one of its personal columns, for each of them.
fn values_in_the_clear(table: &Table, plain: &[(&str, &str)]) -> Vec<String> {
    let holds = |column: &Column| {
        let is_plain = plain
            .iter()
            .any(|(object, field)| *object == table.object.origin() && *field == column.name);
        if column.holds != Holds::Value || !table.is_personal(column) || is_plain {
            return None;
        }
        let value = format!("NEW.{}", column.sql);
        Some(match column.kind {
            StorageKind::Text => format!("{value} <> ''"),
            StorageKind::List => format!("{value} <> '{{}}'"),
            StorageKind::Json => format!("{value} NOT IN ('{{}}', '[]', 'null')"),
            _ => format!("{value} IS NOT NULL"),
        })
    };
    table.columns.iter().filter_map(holds).collect()
}

/// Which of the table's rows need no sealed values, whatever they hold.
fn beside(table: &Table) -> String {
    let object = table.object.name();
    if table.name == TRAIL {
        // What triggers tell of a change was in the tables before.
        return " AND pg_trigger_depth() = 0".to_owned();
    }
    if object != typed_values::OBJECT && object != search_texts::OBJECT {
        return String::new();
    }
    // What follows from a document in the clear is in the clear.
    let clear: Vec<String> = objects()
        .iter()
        .filter(|object| {
            let document = object.custom_document();
            let field = document.and_then(|place| object.fields().get(place));
            field.is_some_and(|field| field.privacy == Privacy::Public)
        })
        .map(|object| literal(object.name()))
        .collect();
    if clear.is_empty() {
        return String::new();
    }
    let of = quoted(typed_values::OF);
    format!(" AND NEW.{of} NOT IN ({})", clear.join(", "))
}

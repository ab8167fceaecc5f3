//! Triggers that refuse personal values in the clear, of tenants whose values are encrypted.

use std::fmt::Write as _;

use crm_core::schema::{ObjectRef, Privacy, StorageKind, search_texts, typed_values};

use crate::ddl::{Names, SchemaError};
use crate::layout::{Column, SEALED, TENANT, TRAIL, Table, literal, quoted};
use crate::migrate::objects;
use crate::sql::write::UNENCRYPTED;

/// The function of the triggers.
const FUNCTION: &str = include_str!("encryption.sql");

/// The name of the function, and of its triggers.
const NAME: &str = "refuse_unencrypted";

/// The table of the tenants' keys, which seals nothing itself.
pub(crate) const KEYS: &str = "data_keys";

/// What may stand for a text that is sealed: a token of it. No text of a person's looks so.
const TOKEN: &str = "^~[a-z2-7]{15,26}$";

/// What may stand for a document of custom fields that is sealed: a token for each name and text, or
/// nothing but that a value is there.
const TOKENS: &str = concat!(
    "^[{](\"~[a-z2-7]{26}\": (\"~[a-z2-7]{26}\"|[{][}])",
    "(, \"~[a-z2-7]{26}\": (\"~[a-z2-7]{26}\"|[{][}]))*)?[}]$"
);

/// The DDL of triggers that refuse rows with personal values in the clear, of tenants that have keys
/// (C-110): for databases that other programs or people write to, and against a program of the host's
/// that was started without its keys. Optional; put it into a migration of the host that runs after
/// those of the engine, and once more after an update of the library.
///
/// `objects` are those whose tables get the trigger: the engine's ([`objects`](crate::objects)) and
/// the host's own; those without personal or sensitive fields need none. `plain` are the fields that the
/// host leaves in the clear, by object and field.
///
/// What they look at is whether a row that holds anything in such a field has sealed values, and whether
/// one that has them holds nothing in such a field but what stands for a sealed value there: a token,
/// which is `~` and 15 to 26 characters of Base32 in lower case, an empty list or document, or a
/// document of tokens. Rows of tenants without keys pass, and so do rows without personal values. A
/// refusal has the SQLSTATE
/// `CRM06`, and is [`Fault::Unencrypted`](crate::Fault::Unencrypted) where the storage meets it. Who may
/// write to the tables must be allowed to read the keys' table, whose rows are encrypted themselves.
///
/// What they are not: a guard against those who own the tables, nor a look into what is sealed. Rows
/// with a field that is encrypted from now on, as it was plain before, pass after the next
/// `encrypt_tenant`. Changes that [`raw_sql_triggers`](crate::raw_sql_triggers) record
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
        let encrypted = encrypted(&table, plain);
        if encrypted.is_empty() {
            continue;
        }
        let any = |of: fn(&Table, &Column) -> String| {
            let conditions = encrypted.iter().map(|column| of(&table, column));
            conditions.collect::<Vec<_>>().join(" OR ")
        };
        let _ = write!(
            text,
            "CREATE OR REPLACE TRIGGER {NAME} BEFORE INSERT OR UPDATE ON {table}\n    \
             FOR EACH ROW WHEN ((NEW.{sealed} IS NULL{beside} AND ({values}))\n    \
             OR (NEW.{sealed} IS NOT NULL AND ({left})))\n    \
             EXECUTE FUNCTION {schema}.{NAME}({tenant}, {object});\n",
            table = table.sql,
            sealed = quoted(SEALED),
            beside = beside(&table),
            values = any(holds_anything),
            left = any(holds_more_than_stands_in),
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

/// The columns whose values are sealed, with those derived from them.
fn encrypted<'t>(table: &'t Table, plain: &[(&str, &str)]) -> Vec<&'t Column> {
    let is_plain = |column: &Column| {
        let name = table.object.field_name(column.field);
        let mut plain = plain.iter();
        plain.any(|(object, field)| *object == table.object.origin() && *field == name)
    };
    let columns = table.columns.iter();
    columns
        .filter(|column| table.is_personal(column) && !is_plain(column))
        .collect()
}

/// That a row holds something in a column.
fn holds_anything(_: &Table, column: &Column) -> String {
    let value = format!("NEW.{}", column.sql);
    match column.kind {
        StorageKind::Text => format!("{value} <> ''"),
        StorageKind::List => format!("{value} <> '{{}}'"),
        StorageKind::Json => format!("{value} NOT IN ('{{}}', '[]', 'null')"),
        _ => format!("{value} IS NOT NULL"),
    }
}

/// That a row that is sealed holds something in a column that does not stand for what is sealed.
fn holds_more_than_stands_in(table: &Table, column: &Column) -> String {
    let value = format!("NEW.{}", column.sql);
    let anything = holds_anything(table, column);
    match column.kind {
        StorageKind::Text => format!("{anything} AND {value} !~ {}", literal(TOKEN)),
        StorageKind::Json if table.object.custom_document() == Some(column.field) => {
            format!("{anything} AND {value}::text !~ {}", literal(TOKENS))
        }
        _ => anything,
    }
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

//! How values are bound and read.

use chrono::{DateTime, NaiveDate, Utc};
use crm_core::schema::{StorageKind, ValueRef};
use rust_decimal::Decimal;
use sqlx::types::Json;
use uuid::Uuid;

use super::Statement;

/// Binds one value with the type of its kind.
pub(super) fn argument(
    statement: &mut Statement,
    kind: StorageKind,
    value: &ValueRef<'_>,
) -> String {
    match (kind, value) {
        (_, ValueRef::Text(text)) => statement.argument(*text),
        (_, ValueRef::Boolean(value)) => statement.argument(*value),
        (_, ValueRef::Integer(number)) => statement.argument(*number),
        (_, ValueRef::Decimal(number)) => statement.argument(*number),
        (_, ValueRef::Date(day)) => statement.argument(*day),
        (_, ValueRef::Timestamp(at)) => statement.argument(*at),
        (_, ValueRef::Uuid(id)) => statement.argument(*id),
        (_, ValueRef::List(entries)) => statement.argument(*entries),
        (_, ValueRef::Json(json)) => statement.argument(Json(&**json)),
        (StorageKind::Text, ValueRef::Null) => statement.argument(None::<&str>),
        (StorageKind::Boolean, ValueRef::Null) => statement.argument(None::<bool>),
        (StorageKind::Integer, ValueRef::Null) => statement.argument(None::<i64>),
        (StorageKind::Decimal, ValueRef::Null) => statement.argument(None::<Decimal>),
        (StorageKind::Date, ValueRef::Null) => statement.argument(None::<NaiveDate>),
        (StorageKind::Timestamp, ValueRef::Null) => statement.argument(None::<DateTime<Utc>>),
        (StorageKind::Uuid, ValueRef::Null) => statement.argument(None::<Uuid>),
        (StorageKind::List, ValueRef::Null) => statement.argument(None::<Vec<String>>),
        (StorageKind::Json, ValueRef::Null) => statement.argument(None::<Json<()>>),
    }
}

/// Binds a column of values as an array; what comes back unnests to the column's type.
pub(super) fn array<'v>(
    statement: &mut Statement,
    kind: StorageKind,
    values: impl Iterator<Item = ValueRef<'v>>,
) -> String {
    macro_rules! collect {
        ($type:ty, $pattern:pat => $value:expr) => {{
            let values: Vec<Option<$type>> = values
                .map(|value| match value {
                    $pattern => Some($value),
                    _ => None,
                })
                .collect();
            statement.argument(values)
        }};
    }
    match kind {
        StorageKind::Text => collect!(&str, ValueRef::Text(text) => text),
        StorageKind::Boolean => collect!(bool, ValueRef::Boolean(value) => value),
        StorageKind::Integer => collect!(i64, ValueRef::Integer(number) => number),
        StorageKind::Decimal => collect!(Decimal, ValueRef::Decimal(number) => number),
        StorageKind::Date => collect!(NaiveDate, ValueRef::Date(day) => day),
        StorageKind::Timestamp => collect!(DateTime<Utc>, ValueRef::Timestamp(at) => at),
        StorageKind::Uuid => collect!(Uuid, ValueRef::Uuid(id) => id),
        // Arrays of arrays must be rectangular: each list travels as the text of an array.
        StorageKind::List => collect!(String, ValueRef::List(entries) => array_text(entries)),
        StorageKind::Json => {
            collect!(Json<serde_json::Value>, ValueRef::Json(json) => Json(json.into_owned()))
        }
    }
}

/// The text form of an array of texts.
fn array_text(entries: &[String]) -> String {
    let mut text = String::from("{");
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push('"');
        for character in entry.chars() {
            if matches!(character, '"' | '\\') {
                text.push('\\');
            }
            text.push(character);
        }
        text.push('"');
    }
    text.push('}');
    text
}

//! How values are bound and read.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, Utc};
use crm_core::schema::{StorageKind, ValueRef};
use rust_decimal::Decimal;
use serde_json::Value as Document;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo};
use sqlx::types::Json;
use sqlx::{Encode, Postgres, Type};
use uuid::Uuid;

use super::Statement;

/// Binds one value with the type of its kind.
pub(super) fn add(statement: &mut Statement, kind: StorageKind, value: &ValueRef<'_>) {
    match (kind, value) {
        (_, ValueRef::Text(text)) => statement.add(*text),
        (_, ValueRef::Boolean(value)) => statement.add(*value),
        (_, ValueRef::Integer(number)) => statement.add(*number),
        (_, ValueRef::Decimal(number)) => statement.add(*number),
        (_, ValueRef::Date(day)) => statement.add(*day),
        (_, ValueRef::Timestamp(at)) => statement.add(*at),
        (_, ValueRef::Uuid(id)) => statement.add(*id),
        (_, ValueRef::List(entries)) => statement.add(*entries),
        (_, ValueRef::Json(json)) => statement.add(Jsonb(Cow::Borrowed(&**json))),
        (StorageKind::Text, ValueRef::Null) => statement.add(None::<&str>),
        (StorageKind::Boolean, ValueRef::Null) => statement.add(None::<bool>),
        (StorageKind::Integer, ValueRef::Null) => statement.add(None::<i64>),
        (StorageKind::Decimal, ValueRef::Null) => statement.add(None::<Decimal>),
        (StorageKind::Date, ValueRef::Null) => statement.add(None::<NaiveDate>),
        (StorageKind::Timestamp, ValueRef::Null) => statement.add(None::<DateTime<Utc>>),
        (StorageKind::Uuid, ValueRef::Null) => statement.add(None::<Uuid>),
        (StorageKind::List, ValueRef::Null) => statement.add(None::<Vec<String>>),
        (StorageKind::Json, ValueRef::Null) => statement.add(None::<Json<()>>),
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
            collect!(Jsonb<'_>, ValueRef::Json(json) => Jsonb(json))
        }
    }
}

/// A document as it is sent.
///
/// The server keeps a number as its digits: `1e17` would come back as `100000000000000000`, which is
/// a whole number and no longer equal. What is no whole number in the document is sent with a
/// decimal, and keeps it.
struct Jsonb<'v>(Cow<'v, Document>);

impl Type<Postgres> for Jsonb<'_> {
    fn type_info() -> PgTypeInfo {
        <Json<Document> as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for Jsonb<'_> {
    fn array_type_info() -> PgTypeInfo {
        <Json<Document> as PgHasArrayType>::array_type_info()
    }
}

impl Encode<'_, Postgres> for Jsonb<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        // The version of the form.
        buffer.push(1);
        write_document(buffer, &self.0)?;
        Ok(IsNull::No)
    }
}

fn write_document(buffer: &mut Vec<u8>, document: &Document) -> serde_json::Result<()> {
    match document {
        Document::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            // From 2^64 on, whole numbers are read as what they were.
            Some(whole) if whole.fract() == 0.0 && whole.abs() < 18_446_744_073_709_551_616.0 => {
                buffer.extend(format!("{whole:.1}").into_bytes());
            }
            _ => serde_json::to_writer(buffer, number)?,
        },
        Document::Array(items) => {
            buffer.push(b'[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    buffer.push(b',');
                }
                write_document(buffer, item)?;
            }
            buffer.push(b']');
        }
        Document::Object(members) => {
            buffer.push(b'{');
            for (place, (name, member)) in members.iter().enumerate() {
                if place > 0 {
                    buffer.push(b',');
                }
                serde_json::to_writer(&mut *buffer, name)?;
                buffer.push(b':');
                write_document(buffer, member)?;
            }
            buffer.push(b'}');
        }
        Document::Null | Document::Bool(_) | Document::String(_) => {
            serde_json::to_writer(buffer, document)?;
        }
    }
    Ok(())
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

/// The floating-point number that is nearest to a decimal: of two numbers, the greater one is never
/// rounded to the lesser.
pub(super) fn rounded(number: Decimal) -> f64 {
    // By the text form, which is rounded correctly; the conversion of the crate is not.
    number.to_string().parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_documents_stay_of_their_kind() {
        let document = serde_json::json!(
            {"a\"": [1e16, -1e17, 1.0, 0.1, 1e300, 5e-324, u64::MAX, i64::MIN], "b": [null, true, {}]}
        );
        let mut buffer = PgArgumentBuffer::default();
        let _ = Jsonb(Cow::Borrowed(&document)).encode(&mut buffer).unwrap();
        let text = str::from_utf8(&buffer[1..]).unwrap();
        assert!(
            text.starts_with(r#"{"a\"":[10000000000000000.0,-100000000000000000.0,1.0,0.1,"#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Document>(text).unwrap(), document);
    }
}

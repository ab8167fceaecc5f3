//! How composite and JSON-shaped value types become fields.

use std::borrow::Cow;

use super::{
    FieldGroup, FieldList, FieldOf, FieldReader, FieldSchema, FieldSet, FieldType, Value, ValueRef,
};
use crate::error::codes;
use crate::value::{PhoneNumber, Totals, ValueError};

/// What is put behind the name of a phone field to name its canonical form.
pub(crate) const E164_SUFFIX: &str = "_e164";

/// Two fields: the text as entered, and behind it the canonical form, which the engine derives.
/// Taken in with the name of the field as prefix: `#[field(flatten, prefix = "phone")]`.
impl FieldGroup for PhoneNumber {
    const COUNT: usize = 2;

    fn describe(fields: &mut FieldList) {
        fields.push(FieldSchema {
            required: true,
            ..FieldSchema::new("", FieldType::Phone)
        });
        fields.push(FieldSchema {
            read_only: true,
            help: Cow::Borrowed("The number in its canonical form (E.164), where it is known."),
            ..FieldSchema::new(E164_SUFFIX, FieldType::text(16))
        });
    }

    fn value(&self, index: usize) -> ValueRef<'_> {
        match index {
            0 => ValueRef::Text(self.raw()),
            1 => self.e164().map_or(ValueRef::Null, ValueRef::Text),
            _ => ValueRef::Null,
        }
    }

    fn read(reader: &mut FieldReader<'_>) -> Option<Self> {
        let raw: Option<String> = reader.field();
        let e164: Option<Option<String>> = reader.field();
        let (raw, e164) = (raw?, e164?);
        // Without a canonical form the text was just entered, or has none: deriving finds out.
        match e164 {
            None => Some(Self::parse(&raw).unwrap_or_else(|_| Self::from_stored(raw, None))),
            known => Some(Self::from_stored(raw, known)),
        }
    }

    fn normalize(&mut self) {}

    fn differing(&self, other: &Self, start: usize, set: &mut FieldSet) {
        if self.raw() != other.raw() {
            set.insert(start);
        }
        if self.e164() != other.e164() {
            set.insert(start + 1);
        }
    }
}

impl PhoneNumber {
    /// The text as entered, for filters.
    pub const RAW: FieldOf<Self, String> = FieldOf::new("");
    /// The canonical form, for filters.
    pub const E164: FieldOf<Self, String> = FieldOf::new(E164_SUFFIX);
}

/// Makes a type that serde reads and writes the value of a field that holds a JSON document.
macro_rules! document_value {
    ($type:ty) => {
        impl $crate::schema::FieldValue for $type {
            type Operand = Self;

            fn field_type() -> $crate::schema::FieldType {
                $crate::schema::FieldType::Json
            }

            fn value(&self) -> $crate::schema::ValueRef<'_> {
                let document = ::serde_json::to_value(self).unwrap_or_default();
                $crate::schema::ValueRef::Json(::std::borrow::Cow::Owned(document))
            }

            fn from_value(value: $crate::schema::Value) -> Result<Self, $crate::value::ValueError> {
                $crate::schema::from_json(value)
            }
        }
    };
}

pub(crate) use document_value;

// Sums per currency.
document_value!(Totals);

/// Reads a typed value from the JSON document that a field holds.
///
/// # Errors
/// If the document is not of the type.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, ValueError> {
    let document = match value {
        Value::Json(document) => document,
        other => other.to_json(),
    };
    serde_json::from_value(document)
        .map_err(|_| ValueError::new(codes::WRONG_TYPE, "the document has another form"))
}

//! The value of one field, owned ([`Value`]) or borrowed from a record ([`ValueRef`]).

use std::borrow::Cow;
use std::cmp::Ordering;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use rust_decimal::Decimal;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use uuid::Uuid;

/// The value of one field of any record: what filters compare, audit events keep and backends bind.
///
/// Typed Rust values (an [`EmailAddress`](crate::value::EmailAddress), an enum, an
/// [`Id`](crate::Id)) become one of these few kinds at the border of storage; the kind of a field
/// follows from its [`FieldType`](crate::schema::FieldType).
///
/// ```
/// use crm_core::schema::Value;
///
/// assert_eq!(Value::from("Globex").as_ref().as_text(), Some("Globex"));
/// assert!(Value::Null.is_null());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// An exact decimal number; equal numbers of different scale are equal.
    Decimal(Decimal),
    /// A text, also that of e-mail addresses, URLs, codes and picklist options.
    Text(String),
    /// A calendar day.
    Date(NaiveDate),
    /// A moment in UTC, to the microsecond.
    Timestamp(DateTime<Utc>),
    /// An id, also a reference to another record.
    Uuid(Uuid),
    /// A list of texts, such as tags.
    List(Vec<String>),
    /// A JSON document.
    Json(serde_json::Value),
}

/// A [`Value`] borrowed from the record that holds it.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// No value.
    Null,
    /// See [`Value::Boolean`].
    Boolean(bool),
    /// See [`Value::Integer`].
    Integer(i64),
    /// See [`Value::Decimal`].
    Decimal(Decimal),
    /// See [`Value::Text`].
    Text(&'a str),
    /// See [`Value::Date`].
    Date(NaiveDate),
    /// See [`Value::Timestamp`].
    Timestamp(DateTime<Utc>),
    /// See [`Value::Uuid`].
    Uuid(Uuid),
    /// See [`Value::List`].
    List(&'a [String]),
    /// See [`Value::Json`]; owned where the record keeps the document in a typed form.
    Json(Cow<'a, serde_json::Value>),
}

impl Value {
    /// Whether there is no value.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Borrows the value.
    #[must_use]
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Boolean(value) => ValueRef::Boolean(*value),
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Decimal(value) => ValueRef::Decimal(*value),
            Self::Text(value) => ValueRef::Text(value),
            Self::Date(value) => ValueRef::Date(*value),
            Self::Timestamp(value) => ValueRef::Timestamp(*value),
            Self::Uuid(value) => ValueRef::Uuid(*value),
            Self::List(value) => ValueRef::List(value),
            Self::Json(value) => ValueRef::Json(Cow::Borrowed(value)),
        }
    }

    /// The JSON form: decimals, dates, moments and ids are texts.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        self.as_ref().to_json()
    }

    /// The value that a JSON document says on its own, without knowing the field: numbers become
    /// integers or decimals, texts stay texts. [`FieldType::coerce`](crate::schema::FieldType::coerce)
    /// makes it the kind that a field wants.
    #[must_use]
    pub fn from_json(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Boolean(value),
            serde_json::Value::String(value) => Self::Text(value),
            serde_json::Value::Number(number) => {
                if let Some(whole) = number.as_i64() {
                    Self::Integer(whole)
                } else if let Some(decimal) = decimal_from_number(&number) {
                    Self::Decimal(decimal)
                } else {
                    Self::Json(serde_json::Value::Number(number))
                }
            }
            other => Self::Json(other),
        }
    }
}

/// A JSON number as an exact decimal; `None` where it has more digits than a decimal holds.
fn decimal_from_number(number: &serde_json::Number) -> Option<Decimal> {
    let text = number.to_string();
    Decimal::from_str_exact(&text)
        .ok()
        .or_else(|| Decimal::from_scientific(&text).ok())
}

impl<'a> ValueRef<'a> {
    /// Whether there is no value.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text, where the value is one.
    #[must_use]
    pub const fn as_text(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The id, where the value is one.
    #[must_use]
    pub const fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Self::Uuid(id) => Some(*id),
            _ => None,
        }
    }

    /// The number, where the value is a decimal or a whole number.
    #[must_use]
    pub fn as_decimal(&self) -> Option<Decimal> {
        match self {
            Self::Decimal(number) => Some(*number),
            Self::Integer(number) => Some(Decimal::from(*number)),
            _ => None,
        }
    }

    /// An owned copy.
    #[must_use]
    pub fn into_owned(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Boolean(value) => Value::Boolean(value),
            Self::Integer(value) => Value::Integer(value),
            Self::Decimal(value) => Value::Decimal(value),
            Self::Text(value) => Value::Text(value.to_owned()),
            Self::Date(value) => Value::Date(value),
            Self::Timestamp(value) => Value::Timestamp(value),
            Self::Uuid(value) => Value::Uuid(value),
            Self::List(value) => Value::List(value.to_vec()),
            Self::Json(value) => Value::Json(value.into_owned()),
        }
    }

    /// The JSON form; see [`Value::to_json`].
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Null => Json::Null,
            Self::Boolean(value) => Json::Bool(*value),
            Self::Integer(value) => Json::from(*value),
            Self::Decimal(value) => Json::String(value.normalize().to_string()),
            Self::Text(value) => Json::String((*value).to_owned()),
            Self::Date(value) => Json::String(value.to_string()),
            Self::Timestamp(value) => Json::String(format_timestamp(*value)),
            Self::Uuid(value) => Json::String(value.to_string()),
            Self::List(values) => Json::Array(
                values
                    .iter()
                    .map(|value| Json::String(value.clone()))
                    .collect(),
            ),
            Self::Json(value) => value.as_ref().clone(),
        }
    }

    /// The order of two values of one field: numbers, days and moments by size, texts by their
    /// UTF-8 bytes, false before true, and no value after every value. Lists and JSON documents
    /// have no order of their own and compare as equal.
    #[must_use]
    pub fn sort_order(&self, other: &ValueRef<'_>) -> Ordering {
        match (self, other) {
            (Self::Null, ValueRef::Null) => Ordering::Equal,
            (Self::Null, _) => Ordering::Greater,
            (_, ValueRef::Null) => Ordering::Less,
            (Self::Boolean(a), ValueRef::Boolean(b)) => a.cmp(b),
            (Self::Integer(a), ValueRef::Integer(b)) => a.cmp(b),
            (Self::Decimal(a), ValueRef::Decimal(b)) => a.cmp(b),
            (Self::Decimal(a), ValueRef::Integer(b)) => a.cmp(&Decimal::from(*b)),
            (Self::Integer(a), ValueRef::Decimal(b)) => Decimal::from(*a).cmp(b),
            (Self::Text(a), ValueRef::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Self::Date(a), ValueRef::Date(b)) => a.cmp(b),
            (Self::Timestamp(a), ValueRef::Timestamp(b)) => a.cmp(b),
            (Self::Uuid(a), ValueRef::Uuid(b)) => a.cmp(b),
            _ => Ordering::Equal,
        }
    }
}

/// The one text form of a moment: RFC 3339 in UTC with microseconds.
#[must_use]
fn format_timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_ref().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_json::Value::deserialize(deserializer).map(Self::from_json)
    }
}

impl Serialize for ValueRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Decimal(value) => serializer.collect_str(&value.normalize()),
            Self::Date(value) => serializer.collect_str(value),
            Self::Timestamp(value) => serializer.serialize_str(&format_timestamp(*value)),
            Self::Uuid(value) => serializer.collect_str(value),
            Self::List(values) => values.serialize(serializer),
            Self::Json(value) => value.serialize(serializer),
        }
    }
}

macro_rules! value_from {
    ($($from:ty => |$value:ident| $make:expr;)*) => {$(
        impl From<$from> for Value {
            fn from($value: $from) -> Self { $make }
        }
    )*};
}

value_from! {
    bool => |value| Self::Boolean(value);
    i64 => |value| Self::Integer(value);
    i32 => |value| Self::Integer(value.into());
    u32 => |value| Self::Integer(value.into());
    Decimal => |value| Self::Decimal(value);
    &str => |value| Self::Text(value.to_owned());
    String => |value| Self::Text(value);
    NaiveDate => |value| Self::Date(value);
    DateTime<Utc> => |value| Self::Timestamp(value);
    Uuid => |value| Self::Uuid(value);
    Vec<String> => |value| Self::List(value);
    serde_json::Value => |value| Self::Json(value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_value_sorts_after_every_value() {
        assert_eq!(
            ValueRef::Null.sort_order(&ValueRef::Integer(i64::MAX)),
            Ordering::Greater
        );
        assert_eq!(
            ValueRef::Text("z").sort_order(&ValueRef::Null),
            Ordering::Less
        );
    }

    #[test]
    fn numbers_in_json_keep_their_digits() {
        let json: serde_json::Value = serde_json::from_str("[1, 1.25, 1e2, null]").unwrap();
        let values: Vec<Value> = json
            .as_array()
            .unwrap()
            .iter()
            .cloned()
            .map(Value::from_json)
            .collect();
        assert_eq!(values[0], Value::Integer(1));
        assert_eq!(values[1], Value::Decimal("1.25".parse().unwrap()));
        assert_eq!(values[2], Value::Decimal(Decimal::from(100)));
        assert_eq!(values[3], Value::Null);
    }

    proptest! {
        #[test]
        fn order_is_total_and_antisymmetric(a: i64, b: i64, c in ".*", d in ".*") {
            prop_assert_eq!(
                ValueRef::Integer(a).sort_order(&ValueRef::Integer(b)),
                ValueRef::Integer(b).sort_order(&ValueRef::Integer(a)).reverse()
            );
            prop_assert_eq!(
                ValueRef::Text(&c).sort_order(&ValueRef::Text(&d)),
                c.as_bytes().cmp(d.as_bytes())
            );
        }
    }
}

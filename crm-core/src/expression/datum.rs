//! [`Type`]: what a part of an expression may be, and [`Datum`]: what it is for one record.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::Value as Json;
use uuid::Uuid;

use super::fault::Problem;
use crate::schema::{FieldType, Value, ValueRef};
use crate::value::Money;

/// The type of a part of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Type {
    /// A text: also e-mail addresses, URLs, codes and picklist options.
    Text,
    /// An exact decimal number.
    Number,
    /// True or false.
    Boolean,
    /// A calendar day.
    Date,
    /// A moment in UTC.
    DateTime,
    /// An amount with its currency.
    Money,
    /// A list of texts.
    List,
    /// The id of a record.
    Id,
}

impl Type {
    /// The type of a field's values; none for a document, whose members have types of their own.
    ///
    /// An amount of money is a [`Number`](Self::Number) here: only the scope knows whether the
    /// field with its currency is there.
    #[must_use]
    pub const fn of(field_type: &FieldType) -> Option<Self> {
        use crate::schema::StorageKind;
        Some(match field_type.storage_kind() {
            StorageKind::Text => Self::Text,
            StorageKind::Integer | StorageKind::Decimal => Self::Number,
            StorageKind::Boolean => Self::Boolean,
            StorageKind::Date => Self::Date,
            StorageKind::Timestamp => Self::DateTime,
            StorageKind::Uuid => Self::Id,
            StorageKind::List => Self::List,
            StorageKind::Json => return None,
        })
    }

    /// The name in messages and in the list of functions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Money => "money",
            Self::List => "list",
            Self::Id => "id",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The value of a part of an expression for one record; texts and lists may be borrowed from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Datum<'a> {
    /// No value.
    #[default]
    Null,
    /// See [`Type::Boolean`].
    Boolean(bool),
    /// See [`Type::Number`].
    Number(Decimal),
    /// See [`Type::Text`].
    Text(Cow<'a, str>),
    /// See [`Type::Date`].
    Date(NaiveDate),
    /// See [`Type::DateTime`].
    DateTime(DateTime<Utc>),
    /// See [`Type::Money`].
    Money(Money),
    /// See [`Type::List`].
    List(Cow<'a, [String]>),
    /// See [`Type::Id`].
    Id(Uuid),
}

impl<'a> Datum<'a> {
    /// The type; none where there is no value.
    #[must_use]
    pub const fn value_type(&self) -> Option<Type> {
        Some(match self {
            Self::Null => return None,
            Self::Boolean(_) => Type::Boolean,
            Self::Number(_) => Type::Number,
            Self::Text(_) => Type::Text,
            Self::Date(_) => Type::Date,
            Self::DateTime(_) => Type::DateTime,
            Self::Money(_) => Type::Money,
            Self::List(_) => Type::List,
            Self::Id(_) => Type::Id,
        })
    }

    /// Whether there is no value.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The same value, borrowed.
    #[inline]
    pub(super) fn borrowed(&self) -> Datum<'_> {
        match self {
            Self::Null => Datum::Null,
            Self::Boolean(value) => Datum::Boolean(*value),
            Self::Number(value) => Datum::Number(*value),
            Self::Text(value) => Datum::Text(Cow::Borrowed(value)),
            Self::Date(value) => Datum::Date(*value),
            Self::DateTime(value) => Datum::DateTime(*value),
            Self::Money(value) => Datum::Money(*value),
            Self::List(value) => Datum::List(Cow::Borrowed(value)),
            Self::Id(value) => Datum::Id(*value),
        }
    }

    /// An owned copy.
    #[must_use]
    pub fn into_owned(self) -> Datum<'static> {
        match self {
            Self::Null => Datum::Null,
            Self::Boolean(value) => Datum::Boolean(value),
            Self::Number(value) => Datum::Number(value),
            Self::Text(value) => Datum::Text(Cow::Owned(value.into_owned())),
            Self::Date(value) => Datum::Date(value),
            Self::DateTime(value) => Datum::DateTime(value),
            Self::Money(value) => Datum::Money(value),
            Self::List(value) => Datum::List(Cow::Owned(value.into_owned())),
            Self::Id(value) => Datum::Id(value),
        }
    }

    /// The value as a field stores it: of money the amount, as its currency is in another field.
    ///
    /// ```
    /// use crm_core::expression::Datum;
    /// use crm_core::schema::Value;
    ///
    /// let price = Datum::Money("12.50 EUR".parse()?);
    /// assert_eq!(price.into_value(), Value::Decimal("12.5".parse().unwrap()));
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn into_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Boolean(value) => Value::Boolean(value),
            Self::Number(value) => Value::Decimal(value),
            Self::Text(value) => Value::Text(value.into_owned()),
            Self::Date(value) => Value::Date(value),
            Self::DateTime(value) => Value::Timestamp(value),
            Self::Money(value) => Value::Decimal(value.amount()),
            Self::List(value) => Value::List(value.into_owned()),
            Self::Id(value) => Value::Uuid(value),
        }
    }

    /// The value of a field as a value of `value_type`; null where it is not one.
    ///
    /// A member of a document is read from the form in which it is stored: decimals as texts or
    /// numbers, days as `2026-01-31`, moments as in RFC 3339. Money is not read here, as its currency
    /// is in another field.
    #[inline]
    #[must_use]
    pub fn from_value(value: ValueRef<'a>, value_type: Type) -> Self {
        match (value, value_type) {
            (ValueRef::Integer(value), Type::Number) => Self::Number(Decimal::from(value)),
            (ValueRef::Decimal(value), Type::Number) => Self::Number(value),
            (ValueRef::Text(value), Type::Text) => Self::Text(Cow::Borrowed(value)),
            (ValueRef::Boolean(value), Type::Boolean) => Self::Boolean(value),
            (ValueRef::Date(value), Type::Date) => Self::Date(value),
            (ValueRef::Timestamp(value), Type::DateTime) => Self::DateTime(value),
            (ValueRef::Uuid(value), Type::Id) => Self::Id(value),
            (ValueRef::List(value), Type::List) => Self::List(Cow::Borrowed(value)),
            (ValueRef::Json(Cow::Borrowed(json)), _) => Self::from_json(json, value_type),
            (ValueRef::Json(Cow::Owned(json)), _) => {
                Datum::from_json(&json, value_type).into_owned()
            }
            _ => Self::Null,
        }
    }

    /// A member of a document as a value of `value_type`; see [`from_value`](Self::from_value).
    #[must_use]
    pub fn from_json(json: &'a Json, value_type: Type) -> Self {
        let read = match (json, value_type) {
            (Json::String(text), Type::Text) => Some(Self::Text(Cow::Borrowed(text))),
            (Json::Bool(value), Type::Boolean) => Some(Self::Boolean(*value)),
            (Json::String(text), Type::Number) => {
                Decimal::from_str_exact(text).ok().map(Self::Number)
            }
            (Json::Number(_), Type::Number) => match Value::from_json(json.clone()) {
                Value::Integer(value) => Some(Self::Number(Decimal::from(value))),
                Value::Decimal(value) => Some(Self::Number(value)),
                _ => None,
            },
            (Json::String(text), Type::Date) => text.parse().ok().map(Self::Date),
            (Json::String(text), Type::DateTime) => DateTime::parse_from_rfc3339(text)
                .ok()
                .map(|at| Self::DateTime(at.to_utc())),
            (Json::String(text), Type::Id) => Uuid::parse_str(text).ok().map(Self::Id),
            (Json::Array(entries), Type::List) => entries
                .iter()
                .map(|entry| entry.as_str().map(str::to_owned))
                .collect::<Option<Vec<String>>>()
                .map(|list| Self::List(Cow::Owned(list))),
            _ => None,
        };
        read.unwrap_or_default()
    }

    /// The truth, where the value has one.
    ///
    /// # Errors
    /// If the value is of another type.
    pub(super) fn truth(&self) -> Result<Option<bool>, Problem> {
        match self {
            Self::Boolean(value) => Ok(Some(*value)),
            Self::Null => Ok(None),
            _ => Err(Problem::WrongType),
        }
    }
}

impl From<bool> for Datum<'_> {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<Decimal> for Datum<'_> {
    fn from(value: Decimal) -> Self {
        Self::Number(value)
    }
}

impl<'a> From<&'a str> for Datum<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Cow::Borrowed(value))
    }
}

impl From<String> for Datum<'_> {
    fn from(value: String) -> Self {
        Self::Text(Cow::Owned(value))
    }
}

impl From<NaiveDate> for Datum<'_> {
    fn from(value: NaiveDate) -> Self {
        Self::Date(value)
    }
}

impl From<DateTime<Utc>> for Datum<'_> {
    fn from(value: DateTime<Utc>) -> Self {
        Self::DateTime(value)
    }
}

impl From<Money> for Datum<'_> {
    fn from(value: Money) -> Self {
        Self::Money(value)
    }
}

//! How a value from outside becomes one that a field stores, and what is wrong with it if it does
//! not.

use std::borrow::Cow;

use chrono::{DateTime, Datelike, NaiveDate, SubsecRound, Utc};
use rust_decimal::Decimal;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use uuid::Uuid;

use super::field::{JSON_BYTES, LIST_ENTRIES, LIST_ENTRY_LENGTH};
use super::{FieldType, StorageKind, Value, ValueRef};
use crate::error::{FieldError, codes};
use crate::value::{
    ApiName, Color, Country, Currency, DomainName, EmailAddress, HttpUrl, LanguageTag, Percent,
    PhoneNumber, Score, Subdomain, TextValue, TimeZone, ValueError,
};
/// A fault of a value whose field is not yet known.
#[derive(Debug)]
pub struct Fault(FieldError);

impl Fault {
    fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self(FieldError::new("", code, message))
    }

    fn with(self, name: &'static str, value: impl Into<Value>) -> Self {
        Self(self.0.with(name, value))
    }

    /// The fault as that of the field at `path`.
    #[must_use]
    pub fn at(self, path: &str) -> FieldError {
        FieldError {
            path: path.to_owned(),
            ..self.0
        }
    }
}

impl From<ValueError> for Fault {
    fn from(error: ValueError) -> Self {
        Self::new(error.code(), error.message().to_owned())
    }
}

impl FieldType {
    /// Turns a value as it came in (from JSON, a CSV cell, a filter) into the kind and form that a
    /// field of this type stores: texts are trimmed and put into Unicode's NFC, a text becomes a
    /// date, a whole number becomes a decimal. A blank text is no value.
    ///
    /// ```
    /// use crm_core::schema::{FieldType, Value};
    ///
    /// let value = FieldType::decimal().coerce(Value::from("12.50")).expect("a number");
    /// assert_eq!(value, Value::Decimal("12.5".parse().unwrap()));
    /// assert!(FieldType::Date.coerce(Value::from("tomorrow")).is_err());
    /// ```
    ///
    /// # Errors
    /// What is wrong with the value, as a stable code and a message that does not repeat it.
    pub fn coerce(&self, value: Value) -> Result<Value, Fault> {
        if value.is_null() {
            return Ok(Value::Null);
        }
        let value = match self.storage_kind() {
            StorageKind::Text => match value {
                Value::Text(text) => self.coerce_text(text)?,
                _ => return Err(wrong_type("a text")),
            },
            StorageKind::Integer => match value {
                Value::Integer(number) => Value::Integer(number),
                Value::Decimal(number) if number.is_integer() => {
                    Value::Integer(i64::try_from(number).map_err(|_| out_of_range())?)
                }
                Value::Text(text) => Value::Integer(
                    text.trim()
                        .parse()
                        .map_err(|_| wrong_type("a whole number"))?,
                ),
                _ => return Err(wrong_type("a whole number")),
            },
            StorageKind::Decimal => {
                let number = match value {
                    Value::Decimal(number) => number,
                    Value::Integer(number) => Decimal::from(number),
                    Value::Text(text) => Decimal::from_str_exact(text.trim())
                        .map_err(|_| wrong_type("a decimal number"))?,
                    _ => return Err(wrong_type("a decimal number")),
                };
                if *self == Self::Percent {
                    Percent::new(number)?;
                }
                Value::Decimal(number.normalize())
            }
            StorageKind::Boolean => match value {
                Value::Boolean(value) => Value::Boolean(value),
                _ => return Err(wrong_type("true or false")),
            },
            StorageKind::Date => match value {
                Value::Date(date) => Value::Date(date),
                Value::Text(text) => Value::Date(
                    NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d")
                        .map_err(|_| wrong_type("a date such as 2026-01-31"))?,
                ),
                _ => return Err(wrong_type("a date such as 2026-01-31")),
            },
            StorageKind::Timestamp => match value {
                Value::Timestamp(at) => Value::Timestamp(at.trunc_subsecs(6)),
                Value::Text(text) => {
                    let at = DateTime::parse_from_rfc3339(text.trim())
                        .map_err(|_| wrong_type("a moment such as 2026-01-31T09:30:00Z"))?;
                    Value::Timestamp(at.with_timezone(&Utc).trunc_subsecs(6))
                }
                _ => return Err(wrong_type("a moment such as 2026-01-31T09:30:00Z")),
            },
            StorageKind::Uuid => match value {
                Value::Uuid(id) => Value::Uuid(id),
                Value::Text(text) => {
                    Value::Uuid(Uuid::try_parse(text.trim()).map_err(|_| wrong_type("a UUID"))?)
                }
                _ => return Err(wrong_type("a UUID")),
            },
            StorageKind::List => Value::List(coerce_list(value)?),
            StorageKind::Json => Value::Json(with_plain_numbers(match value {
                Value::Json(json) => json,
                // A number of a document stays a number.
                Value::Decimal(number) => serde_json::from_str(&number.to_string())
                    .unwrap_or_else(|_| number.to_string().into()),
                other => other.to_json(),
            })),
        };
        self.check(&value.as_ref())?;
        Ok(value)
    }

    /// The one form of a text of this type.
    fn coerce_text(&self, text: String) -> Result<Value, Fault> {
        fn parsed<T: TextValue>(text: &str) -> Result<Value, Fault> {
            Ok(Value::Text(T::parse(text)?.as_str().to_owned()))
        }
        match self {
            Self::Text { .. } => {
                let mut text = text;
                normalize_text(&mut text);
                Ok(if text.is_empty() {
                    Value::Null
                } else {
                    Value::Text(text)
                })
            }
            Self::Email => parsed::<EmailAddress>(&text),
            Self::Phone => Ok(Value::Text(PhoneNumber::typed(&text)?.to_owned())),
            Self::Url { .. } => parsed::<HttpUrl>(&text),
            Self::Currency => parsed::<Currency>(&text),
            Self::Country => parsed::<Country>(&text),
            Self::Language => parsed::<LanguageTag>(&text),
            Self::TimeZone => parsed::<TimeZone>(&text),
            Self::Color => parsed::<Color>(&text),
            Self::ApiName => parsed::<ApiName>(&text),
            Self::Subdomain => parsed::<Subdomain>(&text),
            Self::Domain => parsed::<DomainName>(&text),
            Self::Picklist { options } => {
                let text = text.trim();
                if options.contains(&text) {
                    Ok(Value::Text(text.to_owned()))
                } else {
                    Err(
                        Fault::new(codes::NOT_AN_OPTION, "must be one of the field's options")
                            .with(
                                "options",
                                options.iter().map(ToString::to_string).collect::<Vec<_>>(),
                            ),
                    )
                }
            }
            _ => Ok(Value::Text(text)),
        }
    }

    /// Checks lengths and ranges of a value that already has the type's kind and form.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn check(&self, value: &ValueRef<'_>) -> Result<(), Fault> {
        match (self, value) {
            (
                Self::Text {
                    max_length,
                    multiline,
                },
                ValueRef::Text(text),
            ) => {
                check_length(text, *max_length)?;
                if !multiline && text.contains(['\n', '\r']) {
                    return Err(Fault::new(codes::LINE_BREAK, "must be one line"));
                }
                Ok(())
            }
            (Self::Url { max_length }, ValueRef::Text(text)) => check_length(text, *max_length),
            (Self::Integer { min, max }, ValueRef::Integer(number)) => {
                if number < min || number > max {
                    return Err(out_of_range().with("min", *min).with("max", *max));
                }
                Ok(())
            }
            (Self::Score, ValueRef::Integer(number)) => {
                Score::new(*number)?;
                Ok(())
            }
            (
                Self::Decimal {
                    precision,
                    scale,
                    min,
                    max,
                    ..
                },
                ValueRef::Decimal(number),
            ) => check_decimal(*number, *precision, *scale, *min, *max),
            (Self::Date, ValueRef::Date(date)) => check_year(date.year()),
            (Self::Timestamp, ValueRef::Timestamp(at)) => check_year(at.year()),
            (Self::List, ValueRef::List(entries)) => check_list(entries),
            (Self::Json, ValueRef::Json(json)) => check_json(json),
            _ => Ok(()),
        }
    }
}

fn wrong_type(wanted: &'static str) -> Fault {
    Fault::new(codes::WRONG_TYPE, format!("must be {wanted}")).with("wanted", wanted)
}

fn out_of_range() -> Fault {
    Fault::new(codes::OUT_OF_RANGE, "is out of range")
}

fn check_length(text: &str, max_length: u32) -> Result<(), Fault> {
    // A text of no more bytes than characters allowed needs no counting.
    if text.len() > max_length as usize && text.chars().count() > max_length as usize {
        return Err(Fault::new(
            codes::TOO_LONG,
            format!("must have at most {max_length} characters"),
        )
        .with("max", max_length));
    }
    if text.contains('\0') {
        return Err(Fault::new(
            codes::NUL_CHARACTER,
            "must not contain the NUL character",
        ));
    }
    Ok(())
}

fn check_decimal(
    number: Decimal,
    precision: u32,
    scale: u32,
    min: Option<Decimal>,
    max: Option<Decimal>,
) -> Result<(), Fault> {
    if number.scale() > scale && number.normalize().scale() > scale {
        return Err(Fault::new(
            codes::TOO_MANY_DECIMALS,
            format!("must have at most {scale} decimals"),
        )
        .with("max", scale));
    }
    let whole_digits = precision.saturating_sub(scale);
    let limit = 10_i128.checked_pow(whole_digits).unwrap_or(i128::MAX);
    let whole = number.trunc().mantissa().unsigned_abs() / 10_u128.pow(number.trunc().scale());
    let too_large = whole >= limit.unsigned_abs();
    let outside = min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max);
    if too_large || outside {
        let mut fault = out_of_range();
        if let Some(min) = min {
            fault = fault.with("min", min);
        }
        if let Some(max) = max {
            fault = fault.with("max", max);
        }
        return Err(fault);
    }
    Ok(())
}

fn check_year(year: i32) -> Result<(), Fault> {
    if (1..=9999).contains(&year) {
        Ok(())
    } else {
        Err(out_of_range())
    }
}

fn check_list(entries: &[String]) -> Result<(), Fault> {
    if entries.len() > LIST_ENTRIES {
        return Err(Fault::new(
            codes::TOO_MANY,
            format!("must have at most {LIST_ENTRIES} entries"),
        ));
    }
    for entry in entries {
        if entry.is_empty() {
            return Err(Fault::new(codes::BLANK, "an entry must not be blank"));
        }
        check_length(entry, LIST_ENTRY_LENGTH as u32)?;
    }
    Ok(())
}

/// The document with every number in the form that also comes back from a backend that keeps
/// numbers as decimals: a whole number that fits one is an integer once its floating-point form
/// would need an exponent, and there is no negative zero.
fn with_plain_numbers(mut json: serde_json::Value) -> serde_json::Value {
    fn visit(json: &mut serde_json::Value) {
        match json {
            serde_json::Value::Number(number) => {
                if let Some(plain) = plain_number(number) {
                    *number = plain;
                }
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(visit),
            serde_json::Value::Object(members) => members.values_mut().for_each(visit),
            _ => {}
        }
    }
    visit(&mut json);
    json
}

fn plain_number(number: &serde_json::Number) -> Option<serde_json::Number> {
    /// From here on, floating-point numbers are written with an exponent.
    const EXPONENT: f64 = 1e16;
    if !number.is_f64() {
        return None;
    }
    let float = number.as_f64()?;
    if float == 0.0 && float.is_sign_negative() {
        return serde_json::Number::from_f64(0.0);
    }
    if float.abs() < EXPONENT || float.fract() != 0.0 {
        return None;
    }
    let whole = rust_decimal::prelude::FromPrimitive::from_f64(float)
        .map(|decimal: Decimal| decimal.trunc())?;
    i64::try_from(whole)
        .map(Into::into)
        .or_else(|_| u64::try_from(whole).map(Into::into))
        .ok()
}

fn check_json(json: &serde_json::Value) -> Result<(), Fault> {
    fn has_nul(json: &serde_json::Value) -> bool {
        match json {
            serde_json::Value::String(text) => text.contains('\0'),
            serde_json::Value::Array(items) => items.iter().any(has_nul),
            serde_json::Value::Object(members) => members
                .iter()
                .any(|(name, member)| name.contains('\0') || has_nul(member)),
            _ => false,
        }
    }
    if has_nul(json) {
        return Err(Fault::new(
            codes::NUL_CHARACTER,
            "must not contain the NUL character",
        ));
    }
    // A document that is small however it is written needs no writing.
    if most_bytes(json) > JSON_BYTES && json.to_string().len() > JSON_BYTES {
        return Err(
            Fault::new(codes::TOO_LONG, "the document is too large").with("max", JSON_BYTES as i64)
        );
    }
    Ok(())
}

/// As many bytes as the text form of a document may have: every byte of a text may need six.
fn most_bytes(json: &serde_json::Value) -> usize {
    let text = |text: &str| 6 * text.len() + 2;
    match json {
        serde_json::Value::Null | serde_json::Value::Bool(_) => 5,
        serde_json::Value::Number(number) if number.is_i64() || number.is_u64() => 20,
        serde_json::Value::Number(number) => number.to_string().len(),
        serde_json::Value::String(value) => text(value),
        serde_json::Value::Array(items) => {
            2 + items.iter().map(|item| most_bytes(item) + 1).sum::<usize>()
        }
        serde_json::Value::Object(members) => {
            let member = |(name, member): (&String, _)| text(name) + most_bytes(member) + 2;
            2 + members.iter().map(member).sum::<usize>()
        }
    }
}

fn coerce_list(value: Value) -> Result<Vec<String>, Fault> {
    let mut entries = match value {
        Value::List(entries) => entries,
        Value::Json(serde_json::Value::Array(items)) => items
            .into_iter()
            .map(|item| match item {
                serde_json::Value::String(text) => Ok(text),
                _ => Err(wrong_type("a list of texts")),
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(wrong_type("a list of texts")),
    };
    normalize_list(&mut entries);
    Ok(entries)
}

/// Trims a text and puts it into Unicode's NFC.
pub(crate) fn normalize_text(text: &mut String) {
    let trimmed = text.trim();
    if trimmed.len() != text.len() {
        *text = trimmed.to_owned();
    }
    if !text.is_ascii() && is_nfc_quick(text.chars()) != IsNormalized::Yes {
        *text = text.nfc().collect();
    }
}

/// Normalises the entries of a list and drops doubles, keeping the order and the case (G-5).
pub(crate) fn normalize_list(entries: &mut Vec<String>) {
    for entry in entries.iter_mut() {
        normalize_text(entry);
    }
    let mut index = 0;
    while index < entries.len() {
        let (before, rest) = entries.split_at(index);
        if rest.first().is_some_and(|entry| before.contains(entry)) {
            entries.remove(index);
        } else {
            index += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(result: Result<Value, Fault>) -> &'static str {
        result.unwrap_err().at("field").code
    }

    #[test]
    fn no_document_is_longer_than_thought() {
        let text = "\u{1}\u{1f}\"\\\n\u{7f}\u{e9}";
        let numbers = serde_json::json!([i64::MIN, u64::MAX, f64::MIN, f64::MIN_POSITIVE, -0.1]);
        let flags = serde_json::json!([null, true, false, [], {}, ""]);
        let whole = serde_json::json!({ text: { text: [text, text] }, "n": numbers, "f": flags });
        for json in [&serde_json::json!(text), &numbers, &flags, &whole] {
            assert!(most_bytes(json) >= json.to_string().len(), "{json}");
        }
    }

    #[test]
    fn wrong_kinds_are_refused_with_what_is_wanted() {
        assert_eq!(
            code(FieldType::text(10).coerce(Value::Integer(1))),
            codes::WRONG_TYPE
        );
        assert_eq!(
            code(FieldType::Boolean.coerce(Value::from("yes"))),
            codes::WRONG_TYPE
        );
        assert_eq!(
            code(FieldType::List.coerce(Value::from("a"))),
            codes::WRONG_TYPE
        );
        assert_eq!(
            code(FieldType::Uuid.coerce(Value::from("a"))),
            codes::WRONG_TYPE
        );
    }

    #[test]
    fn lengths_count_characters_not_bytes() {
        assert!(FieldType::text(3).coerce(Value::from("äöü")).is_ok());
        assert_eq!(
            code(FieldType::text(3).coerce(Value::from("äöüß"))),
            codes::TOO_LONG
        );
    }

    #[test]
    fn nul_and_line_breaks_are_refused() {
        assert_eq!(
            code(FieldType::text(9).coerce(Value::from("a\0b"))),
            codes::NUL_CHARACTER
        );
        assert_eq!(
            code(FieldType::text(9).coerce(Value::from("a\nb"))),
            codes::LINE_BREAK
        );
        assert!(FieldType::multiline().coerce(Value::from("a\nb")).is_ok());
        let json = serde_json::json!({"a": ["b\u{0}"]});
        assert_eq!(
            code(FieldType::Json.coerce(Value::Json(json))),
            codes::NUL_CHARACTER
        );
    }

    #[test]
    fn decimals_keep_to_precision_and_scale() {
        let field = FieldType::Decimal {
            precision: 5,
            scale: 2,
            min: Some(Decimal::ZERO),
            max: None,
            currency_field: None,
        };
        assert!(field.coerce(Value::from("999.99")).is_ok());
        assert!(field.coerce(Value::from("1.500")).is_ok());
        assert_eq!(code(field.coerce(Value::from("1000"))), codes::OUT_OF_RANGE);
        assert_eq!(
            code(field.coerce(Value::from("1.005"))),
            codes::TOO_MANY_DECIMALS
        );
        assert_eq!(code(field.coerce(Value::from("-1"))), codes::OUT_OF_RANGE);
    }

    #[test]
    fn numbers_of_documents_stay_numbers() {
        for document in [serde_json::json!(1.5), serde_json::json!(u64::MAX)] {
            let value = FieldType::Json
                .coerce(Value::from_json(document.clone()))
                .unwrap();
            assert_eq!(value, Value::Json(document));
        }
    }

    #[test]
    fn blank_text_is_no_value() {
        assert_eq!(
            FieldType::text(9).coerce(Value::from(" \t ")).unwrap(),
            Value::Null
        );
    }

    proptest! {
        #[test]
        fn coercing_twice_changes_nothing(text in ".{0,40}") {
            for field in [FieldType::text(20), FieldType::multiline(), FieldType::Email, FieldType::Json] {
                if let Ok(once) = field.coerce(Value::from(text.as_str())) {
                    let twice = field.coerce(once.clone()).unwrap();
                    prop_assert_eq!(once, twice);
                }
            }
        }

        #[test]
        fn lists_lose_doubles_and_keep_order(entries in prop::collection::vec("[a-c]{1,2}", 0..20)) {
            let mut list = entries.clone();
            normalize_list(&mut list);
            for (index, entry) in list.iter().enumerate() {
                prop_assert!(!list[..index].contains(entry));
                prop_assert!(entries.contains(entry));
            }
        }
    }
}

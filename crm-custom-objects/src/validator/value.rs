//! [`ValueCheck`]: what one value of a custom field has to be, compiled.

use std::borrow::Cow;

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, Timelike, Utc};
use crm_core::error::{FieldError, codes};
use crm_core::schema::{FieldType, Value, ValueRef};
use regex::Regex;
use rust_decimal::Decimal;
use rustc_hash::FxHashMap;
use serde_json::Value as Json;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use uuid::Uuid;

use crate::field_type::MAX_SELECTIONS;
use crate::{CustomFieldOption, CustomFieldType, TextLimits, json_schema, pattern};

/// The code of a text with fewer characters than its field allows.
pub(crate) const TOO_SHORT: &str = "too_short";
/// The code of a text that does not match the pattern of its field.
pub(crate) const NO_MATCH: &str = "pattern_mismatch";
/// The code of a document that does not fit the JSON Schema of its field.
pub(crate) const UNFIT: &str = "invalid_document";

/// The most bytes of the text form of a document in a field.
const DOCUMENT_BYTES: usize = 65_536;
/// How deep a document in a field may be.
const DOCUMENT_DEPTH: usize = 32;
/// The most faults that are told of one document.
const FAULTS: usize = 20;

/// The first and the last year of days and moments.
const YEARS: std::ops::RangeInclusive<i32> = 1900..=2100;

/// The form in which a value is stored.
#[derive(Debug, PartialEq)]
pub(super) enum Form {
    /// As it is.
    Same,
    /// Not at all: it says nothing.
    Absent,
    /// Another one.
    Other(Json),
}

/// The stored form of a value, and what is wrong with it.
pub(super) type Taken = (Form, Vec<FieldError>);

/// What one value has to be.
#[derive(Debug)]
pub(super) enum ValueCheck {
    Text {
        limits: FieldType,
        min_length: usize,
        pattern: Option<Regex>,
    },
    Integer(FieldType),
    Decimal {
        limits: FieldType,
        is_limited: bool,
    },
    Boolean,
    Date,
    Timestamp,
    /// E-mail addresses, telephone numbers and addresses of the web, as the engine reads them.
    Value(FieldType),
    One(Options),
    Several(Options),
    Uuid,
    File,
    Document(Option<Box<jsonschema::Validator>>),
    Computed,
}

/// The options of a picklist by what is stored.
#[derive(Debug, Default)]
pub(super) struct Options(FxHashMap<Box<str>, Choice>);

/// One option.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) is_active: bool,
    /// The values of the controlling field under which it may be chosen; any if there are none.
    pub(super) controlling: Box<[Box<str>]>,
}

impl Options {
    fn new(options: &[CustomFieldOption]) -> Self {
        let choice = |option: &CustomFieldOption| {
            let controlling = option.controlling_values.iter();
            let choice = Choice {
                is_active: option.is_active,
                controlling: controlling.map(|value| value.as_str().into()).collect(),
            };
            (option.value.as_str().into(), choice)
        };
        Self(options.iter().map(choice).collect())
    }

    pub(super) fn get(&self, value: &str) -> Option<&Choice> {
        self.0.get(value)
    }

    fn allows(&self, value: &str) -> bool {
        self.get(value).is_some_and(|choice| choice.is_active)
    }
}

fn fault(code: &'static str, message: impl Into<Cow<'static, str>>) -> FieldError {
    FieldError::new("", code, message)
}

fn wrong_type(wanted: &'static str) -> FieldError {
    fault(codes::WRONG_TYPE, format!("must be {wanted}")).with("wanted", wanted)
}

fn not_an_option() -> FieldError {
    fault(
        codes::NOT_AN_OPTION,
        "must be one of the field's active options",
    )
}

fn refused(form: Form, error: FieldError) -> Taken {
    (form, vec![error])
}

const fn accepted(form: Form) -> Taken {
    (form, Vec::new())
}

/// A text without white space around it, in Unicode's NFC.
pub(super) fn normal_text(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        Cow::Borrowed(text)
    } else {
        // What is composed may begin or end with white space that was hidden before.
        let composed: String = text.nfc().collect();
        Cow::Owned(composed.trim().to_owned())
    }
}

/// What is left of a text: nothing, itself, or another one.
fn text_form(given: &str, normal: &str) -> Form {
    if normal.is_empty() {
        Form::Absent
    } else if given == normal {
        Form::Same
    } else {
        Form::Other(Json::String(normal.to_owned()))
    }
}

impl ValueCheck {
    /// Compiles the rules of a type.
    ///
    /// # Errors
    /// What is wrong with the definition, at paths below `field_type`.
    pub(super) fn new(
        field_type: &CustomFieldType,
        options: &[CustomFieldOption],
    ) -> Result<Self, FieldError> {
        let text = |limits: &TextLimits| -> Result<Self, FieldError> {
            let pattern = limits.pattern.as_deref().map(pattern::compile).transpose();
            Ok(Self::Text {
                limits: field_type.field_type(false),
                min_length: limits.min_length.unwrap_or(0) as usize,
                pattern: pattern.map_err(|message| {
                    FieldError::new("field_type.pattern", pattern::INVALID, message)
                })?,
            })
        };
        Ok(match field_type {
            CustomFieldType::Text(limits) | CustomFieldType::Textarea(limits) => text(limits)?,
            CustomFieldType::Number(_) => Self::Integer(field_type.field_type(false)),
            CustomFieldType::Decimal(_) | CustomFieldType::Currency { .. } => {
                let limits = field_type.decimal_limits();
                Self::Decimal {
                    limits: field_type.field_type(false),
                    is_limited: limits.min.is_some() || limits.max.is_some(),
                }
            }
            CustomFieldType::Percent(limits) => Self::Decimal {
                limits: FieldType::Decimal {
                    precision: 5,
                    scale: 2,
                    min: Some(limits.min.unwrap_or(Decimal::ZERO)),
                    max: Some(limits.max.unwrap_or(Decimal::ONE_HUNDRED)),
                    currency_field: None,
                },
                is_limited: true,
            },
            CustomFieldType::Boolean => Self::Boolean,
            CustomFieldType::Date => Self::Date,
            CustomFieldType::Datetime => Self::Timestamp,
            CustomFieldType::Email | CustomFieldType::Url | CustomFieldType::Phone => {
                Self::Value(field_type.field_type(false))
            }
            CustomFieldType::Picklist => Self::One(Options::new(options)),
            CustomFieldType::Multipicklist => Self::Several(Options::new(options)),
            CustomFieldType::Lookup { .. } | CustomFieldType::MasterDetail { .. } => Self::Uuid,
            CustomFieldType::Formula { .. } | CustomFieldType::RollUp(_) => Self::Computed,
            CustomFieldType::File => Self::File,
            CustomFieldType::Json { schema } => {
                let schema = schema.as_ref().map(json_schema::own).transpose();
                Self::Document(
                    schema
                        .map_err(|fault| FieldError {
                            path: "field_type.schema".to_owned(),
                            ..fault
                        })?
                        .map(Box::new),
                )
            }
        })
    }

    /// The options, where the field has some.
    pub(super) const fn options(&self) -> Option<&Options> {
        match self {
            Self::One(options) | Self::Several(options) => Some(options),
            _ => None,
        }
    }

    /// The stored form of a value other than `null`, and what is wrong with it. `old` is what the
    /// record has: selections that it has already may stay.
    pub(super) fn take(&self, value: &Json, old: Option<&Json>) -> Taken {
        match self {
            Self::Text {
                limits,
                min_length,
                pattern,
            } => {
                let Json::String(given) = value else {
                    return refused(Form::Same, wrong_type("a text"));
                };
                take_text(given, limits, *min_length, pattern.as_ref())
            }
            Self::Integer(limits) => take_integer(value, limits),
            Self::Decimal { limits, is_limited } => take_decimal(value, limits, *is_limited),
            Self::Boolean => take_boolean(value),
            Self::Date => take_date(value),
            Self::Timestamp => take_timestamp(value),
            Self::Value(field_type) => take_value(value, field_type),
            Self::One(options) => {
                let Json::String(given) = value else {
                    return refused(Form::Same, wrong_type("a text"));
                };
                let normal = normal_text(given);
                let form = text_form(given, &normal);
                if form == Form::Absent || options.allows(&normal) {
                    accepted(form)
                } else {
                    refused(form, not_an_option())
                }
            }
            Self::Several(options) => take_several(value, options, old),
            Self::Uuid => take_uuid(value),
            Self::File => take_file(value),
            Self::Document(schema) => take_document(value, schema.as_deref()),
            Self::Computed => accepted(Form::Same),
        }
    }
}

fn take_text(given: &str, limits: &FieldType, min_length: usize, pattern: Option<&Regex>) -> Taken {
    let normal = normal_text(given);
    let form = text_form(given, &normal);
    if form == Form::Absent {
        return accepted(form);
    }
    let mut faults = Vec::new();
    if let Err(error) = limits.check(&ValueRef::Text(&normal)) {
        faults.push(error.at(""));
    }
    if min_length > 1 && normal.chars().count() < min_length {
        let message = format!("must have at least {min_length} characters");
        let least = i64::try_from(min_length).unwrap_or(i64::MAX);
        faults.push(fault(TOO_SHORT, message).with("min", least));
    }
    if pattern.is_some_and(|pattern| !pattern.is_match(&normal)) {
        faults.push(fault(NO_MATCH, "must match the pattern of the field"));
    }
    (form, faults)
}

fn take_integer(value: &Json, limits: &FieldType) -> Taken {
    let number = match value {
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Some(whole),
            None => match Value::from_json(value.clone()) {
                Value::Decimal(number) if number.is_integer() => i64::try_from(number).ok(),
                _ => None,
            },
        },
        Json::String(text) if text.trim().is_empty() => return accepted(Form::Absent),
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let Some(number) = number else {
        return refused(Form::Same, wrong_type("a whole number"));
    };
    let form = if value.as_i64().is_some() {
        Form::Same
    } else {
        Form::Other(Json::Number(number.into()))
    };
    match limits.check(&ValueRef::Integer(number)) {
        Ok(()) => accepted(form),
        Err(error) => refused(form, error.at("")),
    }
}

/// Whether a text is a decimal number in its stored form, with at most 13 digits before the point
/// and two behind it.
fn is_plain_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let whole_is_plain = (1..=13).contains(&whole.len())
        && all_digits(whole)
        && (whole == "0" || !whole.starts_with('0'));
    let fraction_is_plain = fraction.is_none_or(|fraction| {
        (1..=2).contains(&fraction.len()) && all_digits(fraction) && !fraction.ends_with('0')
    });
    whole_is_plain && fraction_is_plain && text != "-0"
}

fn take_decimal(value: &Json, limits: &FieldType, is_limited: bool) -> Taken {
    let number = match value {
        Json::String(text) if !is_limited && is_plain_decimal(text) => {
            return accepted(Form::Same);
        }
        Json::String(text) if text.trim().is_empty() => return accepted(Form::Absent),
        Json::String(text) => Decimal::from_str_exact(text.trim()).ok(),
        Json::Number(_) => match Value::from_json(value.clone()) {
            Value::Integer(number) => Some(Decimal::from(number)),
            Value::Decimal(number) => Some(number),
            _ => None,
        },
        _ => None,
    };
    let Some(number) = number else {
        return refused(Form::Same, wrong_type("a decimal number"));
    };
    let number = number.normalize();
    let form = match value {
        Json::String(text) if is_plain_decimal(text) => Form::Same,
        _ => {
            let normal = Json::String(number.to_string());
            if normal == *value {
                Form::Same
            } else {
                Form::Other(normal)
            }
        }
    };
    match limits.check(&ValueRef::Decimal(number)) {
        Ok(()) => accepted(form),
        Err(error) => refused(form, error.at("")),
    }
}

/// true, false, 1 and 0, also as texts.
fn take_boolean(value: &Json) -> Taken {
    let read = match value {
        Json::Bool(_) => return accepted(Form::Same),
        Json::Number(number) if number.as_f64() == Some(1.0) => Some(true),
        Json::Number(number) if number.as_f64() == Some(0.0) => Some(false),
        Json::String(text) => match text.trim() {
            "" => return accepted(Form::Absent),
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    };
    match read {
        Some(read) => accepted(Form::Other(Json::Bool(read))),
        None => refused(Form::Same, wrong_type("true or false")),
    }
}

fn out_of_years() -> FieldError {
    fault(
        codes::OUT_OF_RANGE,
        "must be between 1900-01-01 and 2100-12-31",
    )
}

fn number_of(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u32::from(digit))
    })
}

/// A day in its stored form.
fn plain_date(text: &str) -> Option<NaiveDate> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text.as_bytes() else {
        return None;
    };
    let year = number_of(&[*y1, *y2, *y3, *y4])?;
    NaiveDate::from_ymd_opt(
        i32::try_from(year).ok()?,
        number_of(&[*m1, *m2])?,
        number_of(&[*d1, *d2])?,
    )
}

fn take_date(value: &Json) -> Taken {
    const WANTED: &str = "a date such as 2026-01-31";
    let Json::String(text) = value else {
        return refused(Form::Same, wrong_type(WANTED));
    };
    let (form, date) = match plain_date(text) {
        Some(date) => (Form::Same, date),
        None if text.trim().is_empty() => return accepted(Form::Absent),
        None => match NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d") {
            Ok(date) => (Form::Other(Json::String(date.to_string())), date),
            Err(_) => return refused(Form::Same, wrong_type(WANTED)),
        },
    };
    if YEARS.contains(&date.year()) {
        accepted(form)
    } else {
        refused(form, out_of_years())
    }
}

/// Whether a text is a moment in its stored form: in UTC, with microseconds.
fn is_plain_timestamp(text: &str) -> Option<NaiveDate> {
    let (date, time) = (text.get(..10)?, text.as_bytes().get(10..)?);
    let date = plain_date(date)?;
    let [
        b'T',
        h1,
        h2,
        b':',
        m1,
        m2,
        b':',
        s1,
        s2,
        b'.',
        fraction @ ..,
        b'Z',
    ] = time
    else {
        return None;
    };
    let is_time = fraction.len() == 6
        && number_of(&[*h1, *h2])? < 24
        && number_of(&[*m1, *m2])? < 60
        && number_of(&[*s1, *s2])? < 60
        && number_of(fraction).is_some();
    is_time.then_some(date)
}

fn take_timestamp(value: &Json) -> Taken {
    const WANTED: &str = "a moment such as 2026-01-31T09:30:00Z";
    let Json::String(text) = value else {
        return refused(Form::Same, wrong_type(WANTED));
    };
    let (form, year) = match is_plain_timestamp(text) {
        Some(date) => (Form::Same, date.year()),
        None if text.trim().is_empty() => return accepted(Form::Absent),
        None => match DateTime::parse_from_rfc3339(text.trim()) {
            // A leap second has no place on the scale that moments are compared on.
            Ok(at) if at.nanosecond() < 1_000_000_000 => {
                let at = at.with_timezone(&Utc);
                let text = at.to_rfc3339_opts(SecondsFormat::Micros, true);
                (Form::Other(Json::String(text)), at.year())
            }
            _ => return refused(Form::Same, wrong_type(WANTED)),
        },
    };
    if YEARS.contains(&year) {
        accepted(form)
    } else {
        refused(form, out_of_years())
    }
}

fn take_value(value: &Json, field_type: &FieldType) -> Taken {
    let Json::String(given) = value else {
        return refused(Form::Same, wrong_type("a text"));
    };
    let trimmed = given.trim();
    if trimmed.is_empty() {
        return accepted(Form::Absent);
    }
    match field_type.coerce(Value::from(trimmed)) {
        Ok(Value::Text(normal)) if normal == *given => accepted(Form::Same),
        Ok(normal) => accepted(Form::Other(normal.to_json())),
        Err(error) => refused(text_form(given, trimmed), error.at("")),
    }
}

/// at most ten different options. What the record has chosen already may stay.
fn take_several(value: &Json, options: &Options, old: Option<&Json>) -> Taken {
    let Json::Array(entries) = value else {
        return refused(Form::Same, wrong_type("a list of texts"));
    };
    let old = old.and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let mut kept: Vec<Cow<'_, Json>> = Vec::with_capacity(entries.len().min(2 * MAX_SELECTIONS));
    let mut changed = false;
    let mut unknown = false;
    let mut mistyped = false;
    for entry in entries {
        let entry = match entry {
            Json::String(given) => {
                let normal = normal_text(given);
                let entry = if normal == *given {
                    Cow::Borrowed(entry)
                } else {
                    changed = true;
                    Cow::Owned(Json::String(normal.into_owned()))
                };
                let is_known = entry.as_str().is_some_and(|value| options.allows(value));
                unknown |= !is_known && !old.contains(&entry);
                entry
            }
            other => {
                mistyped = true;
                Cow::Borrowed(other)
            }
        };
        // A list with more entries than there can be is refused below: its doubles do not matter.
        if kept.len() <= 2 * MAX_SELECTIONS && kept.contains(&entry) {
            changed = true;
        } else {
            kept.push(entry);
        }
    }
    let mut faults = Vec::new();
    if mistyped {
        faults.push(wrong_type("a list of texts"));
    }
    if unknown {
        faults.push(not_an_option());
    }
    if kept.len() > MAX_SELECTIONS {
        let message = format!("must have at most {MAX_SELECTIONS} entries");
        let most = i64::try_from(MAX_SELECTIONS).unwrap_or(i64::MAX);
        faults.push(fault(codes::TOO_MANY, message).with("max", most));
    }
    let form = if kept.is_empty() {
        Form::Absent
    } else if changed {
        Form::Other(Json::Array(kept.into_iter().map(Cow::into_owned).collect()))
    } else {
        Form::Same
    };
    (form, faults)
}

fn take_uuid(value: &Json) -> Taken {
    let Json::String(given) = value else {
        return refused(Form::Same, wrong_type("a UUID"));
    };
    if given.trim().is_empty() {
        return accepted(Form::Absent);
    }
    match Uuid::try_parse(given.trim()) {
        Ok(id) => {
            let mut buffer = Uuid::encode_buffer();
            let normal = id.hyphenated().encode_lower(&mut buffer);
            accepted(text_form(given, normal))
        }
        Err(_) => refused(Form::Same, wrong_type("a UUID")),
    }
}

/// What is wrong with the size of a document.
pub(crate) fn document_fault(value: &Json) -> Option<FieldError> {
    if depth_exceeds(value, DOCUMENT_DEPTH) {
        let message = format!("must be at most {DOCUMENT_DEPTH} levels deep");
        return Some(fault(codes::TOO_LONG, message));
    }
    if let Err(error) = FieldType::Json.check(&ValueRef::Json(Cow::Borrowed(value))) {
        return Some(error.at(""));
    }
    (value.to_string().len() > DOCUMENT_BYTES).then(|| {
        let message = format!("must have at most {DOCUMENT_BYTES} bytes");
        fault(codes::TOO_LONG, message)
    })
}

/// Whether a document has more than so many levels.
pub(crate) fn depth_exceeds(value: &Json, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else {
        return true;
    };
    match value {
        Json::Array(items) => items.iter().any(|item| depth_exceeds(item, below)),
        Json::Object(members) => members.values().any(|member| depth_exceeds(member, below)),
        _ => false,
    }
}

fn document_form(value: &Json) -> Form {
    match FieldType::Json.coerce(Value::Json(value.clone())) {
        Ok(Value::Json(normal)) if normal != *value => Form::Other(normal),
        _ => Form::Same,
    }
}

fn take_document(value: &Json, schema: Option<&jsonschema::Validator>) -> Taken {
    if let Some(error) = document_fault(value) {
        return refused(Form::Same, error);
    }
    let form = document_form(value);
    let normal = match &form {
        Form::Other(normal) => normal,
        _ => value,
    };
    let Some(schema) = schema.filter(|schema| !schema.is_valid(normal)) else {
        return accepted(form);
    };
    let faults = schema.iter_errors(normal).take(FAULTS).map(|error| {
        let place = error.instance_path().to_string().replace('/', ".");
        let message = "must fit the JSON Schema of the field";
        FieldError::new(place, UNFIT, message)
    });
    let mut faults: Vec<_> = faults.collect();
    if faults.is_empty() {
        faults.push(fault(UNFIT, "must fit the JSON Schema of the field"));
    }
    (form, faults)
}

fn take_file(value: &Json) -> Taken {
    const MESSAGE: &str = "must be a JSON object with a `name` of 1 to 255 characters";
    if let Some(error) = document_fault(value) {
        return refused(Form::Same, error);
    }
    let name = value.as_object().and_then(|members| members.get("name"));
    let name_fits = name
        .and_then(Json::as_str)
        .is_some_and(|name| (1..=255).contains(&name.chars().count()));
    let form = document_form(value);
    if name_fits {
        accepted(form)
    } else {
        refused(form, fault(codes::WRONG_TYPE, MESSAGE))
    }
}

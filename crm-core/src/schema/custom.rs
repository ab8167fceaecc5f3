//! What tenants add to the description of objects at run time: their own fields
//! ([`CustomFields`]), and objects of their own that share a table ([`Template`]).

use std::any::Any;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, Utc};
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};
use serde_json::Value as Json;
use uuid::Uuid;

use super::{AnyRecord, FieldSchema, ObjectRef, StorageKind, ValueRef};
use crate::error::Faults;
use crate::query::fold_case;
use crate::value::Currency;

/// The field whose document holds the values of custom fields, on every object that may have them.
pub const CUSTOM_FIELDS: &str = "custom_fields";

/// A field that a tenant added to an object. Its values are members of the record's document
/// `custom_fields`, in the form of [`Value::to_json`](super::Value::to_json).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CustomFieldSchema {
    /// The definition.
    pub id: Uuid,
    /// The name under which values stand in documents. It never changes.
    pub key: Box<str>,
    /// Names that the field had before; they lead to it as its name does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub former_names: Vec<Box<str>>,
    /// What a field is: `name` is the one in filters and JSON, `read_only` says that the value is
    /// computed, `indexed` that the field is served by typed rows, which are complete.
    #[serde(flatten)]
    pub field: FieldSchema,
    /// Whether no two live records have the same value.
    pub unique: bool,
    /// The options of a picklist, inactive ones too, in the order to show them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Box<str>>,
    /// The one currency of its values, which then are amounts of money in expressions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// Whether the field is in use. Values of one that is not stay as they are.
    pub active: bool,
    /// Whether the text search covers the values of all records, where the field is `searchable`; else
    /// it is sure to cover those of records written since it became so.
    pub search_complete: bool,
}

/// Checks the documents with custom values: compiled from definitions, pure, and quick.
pub trait CheckCustomFields: fmt::Debug + Send + Sync {
    /// Checks a record that is about to be written and adds every fault, with paths such as
    /// `custom_fields.region`. Gives the document to store instead of the one that the record has,
    /// where it differs: values in their one stored form, defaults, computed values.
    fn check(&self, write: &CustomWrite<'_>, faults: &mut Faults) -> Option<Json>;

    /// Itself, for whoever compiled the definitions and knows more of them.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}

/// A record with custom values on its way into a unit of work.
#[derive(Debug)]
pub struct CustomWrite<'w> {
    /// The record as it was, unless it is new.
    pub before: Option<&'w dyn AnyRecord>,
    /// The record as it shall be.
    pub after: &'w dyn AnyRecord,
    /// The place of the document in the schema.
    pub document: usize,
    /// The time of the unit of work.
    pub now: DateTime<Utc>,
    /// Whether the engine writes, which may set computed fields.
    pub by_engine: bool,
}

/// The fields that a tenant added to an object. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CustomFields(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fields: Vec<CustomFieldSchema>,
    by_name: HashMap<Box<str>, usize>,
    check: Arc<dyn CheckCustomFields>,
}

impl CustomFields {
    /// The fields with what checks them. Of several with one name the first counts; names come
    /// before keys and former names.
    #[must_use]
    pub fn new(fields: Vec<CustomFieldSchema>, check: Arc<dyn CheckCustomFields>) -> Self {
        let mut by_name: HashMap<Box<str>, usize> = HashMap::new();
        for (place, custom) in fields.iter().enumerate() {
            by_name
                .entry(custom.field.name.as_ref().into())
                .or_insert(place);
        }
        for (place, custom) in fields.iter().enumerate() {
            for name in custom.former_names.iter().chain([&custom.key]) {
                by_name.entry(name.clone()).or_insert(place);
            }
        }
        Self(Arc::new(Inner {
            fields,
            by_name,
            check,
        }))
    }

    /// The fields, in the order to show them.
    #[must_use]
    pub fn fields(&self) -> &[CustomFieldSchema] {
        &self.0.fields
    }

    /// The field of this name, former name or key.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&CustomFieldSchema> {
        self.0.fields.get(self.position(name)?)
    }

    /// The position of the field of this name, former name or key.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.0.by_name.get(name).copied()
    }

    /// What checks documents.
    #[must_use]
    pub fn check(&self) -> &dyn CheckCustomFields {
        &*self.0.check
    }
}

impl Serialize for CustomFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.fields().serialize(serializer)
    }
}

/// Where the records of an object lie that a tenant defined: among those of a template, told apart
/// by one field. Two descriptions with the same id are of the same records, whatever their names.
#[derive(Clone, Debug)]
pub struct Template {
    /// The object whose table holds the records, and whose fields they have.
    pub object: ObjectRef,
    /// The field that tells the objects of one template apart, by its place in the schema.
    pub field: usize,
    /// Its value in the records of this object: the definition's id.
    pub id: Uuid,
}

/// Reads a custom value from its form in a document; one that is not of the kind, or not in the one
/// stored form of its kind, is no value. Backends that compare in documents have to agree with this
/// to the letter:
///
/// - decimals are texts, or numbers, of at most 28 digits;
/// - days are `YYYY-MM-DD` from the year 1 to 9999, moments `YYYY-MM-DDThh:mm:ss.ffffffZ` in the same
///   years, ids UUIDs with hyphens in lower case;
/// - of a list, entries that are no texts do not count.
pub(crate) fn custom_value<R>(
    json: &Json,
    kind: StorageKind,
    answer: impl FnOnce(ValueRef<'_>) -> R,
) -> R {
    let list: Vec<String>;
    let value = match (kind, json) {
        (StorageKind::Text, Json::String(text)) => ValueRef::Text(text),
        (StorageKind::Integer, Json::Number(number)) => {
            number.as_i64().map_or(ValueRef::Null, ValueRef::Integer)
        }
        (StorageKind::Decimal, Json::String(text)) => {
            decimal(text).map_or(ValueRef::Null, ValueRef::Decimal)
        }
        (StorageKind::Decimal, Json::Number(number)) => {
            let text = match number.as_f64().filter(|_| number.is_f64()) {
                // Without an exponent.
                Some(number) => number.to_string(),
                None => number.to_string(),
            };
            decimal(&text).map_or(ValueRef::Null, ValueRef::Decimal)
        }
        (StorageKind::Boolean, Json::Bool(value)) => ValueRef::Boolean(*value),
        (StorageKind::Date, Json::String(text)) => day(text).map_or(ValueRef::Null, ValueRef::Date),
        (StorageKind::Timestamp, Json::String(text)) => {
            moment(text).map_or(ValueRef::Null, ValueRef::Timestamp)
        }
        (StorageKind::Uuid, Json::String(text)) => {
            let is_canonical = text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase());
            let id = Uuid::try_parse(text).ok().filter(|_| is_canonical);
            id.map_or(ValueRef::Null, ValueRef::Uuid)
        }
        (StorageKind::List, Json::Array(entries)) => {
            let texts = entries.iter().filter_map(Json::as_str);
            list = texts.map(ToOwned::to_owned).collect();
            ValueRef::List(&list)
        }
        (StorageKind::Json, json) if !json.is_null() => ValueRef::Json(Cow::Borrowed(json)),
        _ => ValueRef::Null,
    };
    answer(value)
}

/// The most digits of a custom decimal: as many as every decimal of that length can be held with.
const DIGITS: usize = 28;

fn decimal(text: &str) -> Option<Decimal> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (unsigned, ""),
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = !whole.is_empty() && is_digits(whole) && is_digits(fraction);
    if !is_number || whole.len() + fraction.len() > DIGITS {
        return None;
    }
    Decimal::from_str_exact(text).ok()
}

/// Whether a text has the form of `pattern`, in which `0` stands for any digit.
fn has_form(text: &str, pattern: &str) -> bool {
    text.len() == pattern.len()
        && text
            .bytes()
            .zip(pattern.bytes())
            .all(|(own, wanted)| match wanted {
                b'0' => own.is_ascii_digit(),
                wanted => own == wanted,
            })
}

fn day(text: &str) -> Option<NaiveDate> {
    if !has_form(text, "0000-00-00") {
        return None;
    }
    text.parse().ok().filter(|day: &NaiveDate| day.year() > 0)
}

fn moment(text: &str) -> Option<DateTime<Utc>> {
    if !has_form(text, "0000-00-00T00:00:00.000000Z") {
        return None;
    }
    let at = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    // A second `60` is another moment's.
    (at.year() > 0 && text.get(17..19) != Some("60")).then_some(at)
}

/// The names of the object that holds the typed values of indexed custom fields, one record for each
/// value (C-038, C-164), and of its fields by which they are found. Backends that cannot look into
/// documents by an index narrow a search down by it; the document decides.
pub mod typed_values {
    /// The object.
    pub const OBJECT: &str = "custom_value";
    /// The name of the object that the record is of.
    pub const OF: &str = "object";
    /// The definition of the custom field.
    pub const FIELD: &str = "field_id";
    /// The record.
    pub const RECORD: &str = "record_id";
    /// The value where it is [`TypedValue::Text`](super::TypedValue::Text).
    pub const TEXT: &str = "text_value";
    /// The value where it is [`TypedValue::Number`](super::TypedValue::Number).
    pub const NUMBER: &str = "number_value";
    /// The record that the value leads to, where the field is a reference.
    pub const TARGET: &str = "target_id";
}

/// The names of the object that holds what a text search finds of records beside their own text
/// fields, one record for each of them, and of its fields. Backends that search by an index look there
/// too; the record decides.
pub mod search_texts {
    use super::super::ObjectSchema;

    /// The object.
    pub const OBJECT: &str = "custom_text";
    /// The object of the record: see [`key`].
    pub const RECORD_OBJECT: &str = "object";
    /// The record.
    pub const RECORD: &str = "record_id";
    /// All words that the record is found by.
    pub const WORDS: &str = "words";

    /// How an object is called there: by its name; one that a tenant defined by its definition.
    #[must_use]
    pub fn key(object: &ObjectSchema) -> String {
        match object.template() {
            Some(template) => template.id.to_string(),
            None => object.name().to_owned(),
        }
    }
}

/// A custom value in the form by which an index finds it. Of two values of a field that are equal, so
/// are these; of two that are ordered, numbers come in the same order, or are equal.
#[derive(Clone, PartialEq)]
pub enum TypedValue {
    /// A text with its case folded, cut to [`TypedValue::CHARACTERS`]; an id; `true` or `false`.
    Text(String),
    /// A number with at most ten decimals, in the range that the field takes; of a day or moment, the
    /// microseconds since 1970.
    Number(Decimal),
}

impl TypedValue {
    /// How many characters of a text are kept.
    pub const CHARACTERS: usize = 255;
    /// How many decimals of a number are kept.
    pub const DECIMALS: u32 = 10;
    /// What is greater in amount is held as this.
    const MOST: Decimal = Decimal::from_parts(2_808_348_671, 232_830_643, 0, false, 0);

    /// The form of a value of a custom field; `None` for kinds that are not indexed.
    ///
    /// ```
    /// use crm_core::schema::{TypedValue, ValueRef};
    ///
    /// let typed = TypedValue::of(&ValueRef::Text("Straße ÉTÉ"));
    /// assert!(typed == Some(TypedValue::Text("straße été".to_owned())));
    /// ```
    #[must_use]
    pub fn of(value: &ValueRef<'_>) -> Option<Self> {
        let micros = |at: DateTime<Utc>| Self::Number(at.timestamp_micros().into());
        Some(match value {
            ValueRef::Text(text) => Self::Text(Self::cut(&fold_case(text))),
            ValueRef::Boolean(value) => Self::Text(value.to_string()),
            ValueRef::Uuid(id) => Self::Text(id.to_string()),
            ValueRef::Integer(number) => Self::number((*number).into()),
            ValueRef::Decimal(number) => Self::number(*number),
            ValueRef::Date(day) => micros(day.and_time(NaiveTime::MIN).and_utc()),
            ValueRef::Timestamp(at) => micros(*at),
            ValueRef::Null | ValueRef::List(_) | ValueRef::Json(_) => return None,
        })
    }

    /// As much of a text as is kept.
    #[must_use]
    pub fn cut(folded: &str) -> String {
        folded.chars().take(Self::CHARACTERS).collect()
    }

    fn number(number: Decimal) -> Self {
        let number = number.clamp(-Self::MOST, Self::MOST);
        Self::Number(number.round_dp(Self::DECIMALS))
    }
}

/// Values may be personal.
impl fmt::Debug for TypedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(..)",
            Self::Number(_) => "Number(..)",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::schema::Value;

    fn read(json: Json, kind: StorageKind) -> Value {
        custom_value(&json, kind, |value| value.into_owned())
    }

    #[test]
    fn only_the_stored_form_is_a_value() {
        use StorageKind::{Date, Decimal as Number, Integer, List, Timestamp, Uuid as Id};
        let id = "0190b1a0-0000-7000-8000-00000000000a";
        for (json, kind) in [
            (json!("2026-2-1"), Date),
            (json!("2026-02-30"), Date),
            (json!("0000-01-01"), Date),
            (json!("+12026-01-01"), Date),
            (json!("2026-02-01 "), Date),
            (json!("2026-01-01T00:00:00Z"), Timestamp),
            (json!("2026-01-01T00:00:00.000000+00:00"), Timestamp),
            (json!("2026-01-01T23:59:60.000000Z"), Timestamp),
            (json!("2026-01-01t00:00:00.000000z"), Timestamp),
            (json!("1_000"), Number),
            (json!("+1"), Number),
            (json!("1."), Number),
            (json!(".5"), Number),
            (json!("1e3"), Number),
            (json!("12345678901234567890123456789"), Number),
            (json!(1e300), Number),
            (json!(true), Number),
            (json!(1.0), Integer),
            (json!("1"), Integer),
            (json!(u64::MAX), Integer),
            (json!(id.to_uppercase()), Id),
            (json!(id.replace('-', "")), Id),
            (json!("a"), List),
        ] {
            assert_eq!(read(json.clone(), kind), Value::Null, "{json} as {kind:?}");
        }
        assert_eq!(
            read(json!("1.50"), Number),
            Value::Decimal(Decimal::new(15, 1))
        );
        assert_eq!(
            read(json!(1e-7), Number),
            Value::Decimal(Decimal::new(1, 7))
        );
        assert_eq!(
            read(json!(["a", 1, "b"]), List),
            Value::List(vec!["a".into(), "b".into()])
        );
    }

    proptest! {
        /// What a value is stored as is read as that value.
        #[test]
        fn the_stored_form_is_read(
            days in 0..3_652_058_i32,
            micros in -62_135_596_800_000_000_i64..253_402_300_799_999_999,
            mantissa: i64,
            scale in 0_u32..18,
            id: u128,
        ) {
            let values = [
                (Value::from(NaiveDate::from_num_days_from_ce_opt(days + 1).unwrap()), StorageKind::Date),
                (Value::from(DateTime::from_timestamp_micros(micros).unwrap()), StorageKind::Timestamp),
                (Value::Decimal(Decimal::new(mantissa, scale)), StorageKind::Decimal),
                (Value::Integer(mantissa), StorageKind::Integer),
                (Value::Uuid(Uuid::from_u128(id)), StorageKind::Uuid),
            ];
            for (value, kind) in values {
                prop_assert_eq!(read(value.to_json(), kind), value);
            }
        }

        /// The numbers of the index are in the order of the values.
        #[test]
        fn typed_numbers_keep_the_order(a: i64, b: i64, scale in 0_u32..28, other in 0_u32..28) {
            let (a, b) = (Decimal::new(a, scale), Decimal::new(b, other));
            let typed = |number| match TypedValue::of(&ValueRef::Decimal(number)) {
                Some(TypedValue::Number(number)) => number,
                _ => Decimal::ZERO,
            };
            prop_assert!(typed(a).cmp(&typed(b)) == a.cmp(&b) || typed(a) == typed(b));
        }
    }
}

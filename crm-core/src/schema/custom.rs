//! What tenants add to the description of objects at run time: their own fields
//! ([`CustomFields`]), and objects of their own that share a table ([`Template`]).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};
use serde_json::Value as Json;
use uuid::Uuid;

use super::{AnyRecord, FieldSchema, ObjectRef, StorageKind, Value, ValueRef};
use crate::error::Faults;

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
    /// Whether the field is in use. Values of one that is not stay as they are.
    pub active: bool,
}

/// Checks the documents with custom values: compiled from definitions, pure, and quick.
pub trait CheckCustomFields: fmt::Debug + Send + Sync {
    /// Checks a record that is about to be written and adds every fault, with paths such as
    /// `custom_fields.region`. Gives the document to store instead of the one that the record has,
    /// where it differs: values in their one stored form, defaults, computed values.
    fn check(&self, write: &CustomWrite<'_>, faults: &mut Faults) -> Option<Json>;
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
        self.0.fields.get(*self.0.by_name.get(name)?)
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

/// Reads a custom value from its form in a document; one that is not of the kind is no value.
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
            Decimal::from_str_exact(text).map_or(ValueRef::Null, ValueRef::Decimal)
        }
        (StorageKind::Decimal, Json::Number(_)) => Value::from_json(json.clone())
            .as_ref()
            .as_decimal()
            .map_or(ValueRef::Null, ValueRef::Decimal),
        (StorageKind::Boolean, Json::Bool(value)) => ValueRef::Boolean(*value),
        (StorageKind::Date, Json::String(text)) => {
            text.parse().map_or(ValueRef::Null, ValueRef::Date)
        }
        (StorageKind::Timestamp, Json::String(text)) => DateTime::parse_from_rfc3339(text)
            .map_or(ValueRef::Null, |at| ValueRef::Timestamp(at.to_utc())),
        (StorageKind::Uuid, Json::String(text)) => {
            Uuid::try_parse(text).map_or(ValueRef::Null, ValueRef::Uuid)
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

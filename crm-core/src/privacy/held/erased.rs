//! What becomes of a record when the person that it tells of is erased (R-056): pure.
//!
//! ```text
//! name          "Erased"                     one-line text        empty, or "[erased]" where required
//! e-mail        erased-<id>@erased.invalid   text of many lines   "[erased]"
//! tags          none                         telephone, address   empty
//! custom values of the person: the marker    of others: what is no free text and not personal
//! refusals      all of them                  numbers, days, picklists, references: as they are
//! ```
//!
//! A text whose type refuses the placeholder, such as the rule of a recurrence, is no free text and
//! stays.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::Tie;
use crate::EntityRef;
use crate::error::Faults;
use crate::query::fold_case;
use crate::schema::{
    FieldGroup, FieldList, FieldSchema, FieldType, MergeRule, ObjectRef, Privacy, Row,
    SYSTEM_FIELDS, StorageKind, Value, ValueRef,
};
use crate::value::PersonName;

/// What stands for a text that was erased and cannot be empty.
pub const PLACEHOLDER: &str = "[erased]";

/// What stands for each part of the name of a person that was erased (R-056).
const NAME: &str = "Erased";

/// The one custom value of a person that was erased (R-056).
const MARKER: &str = "anonymized";

/// How often a record is put together without what its type refuses.
const ATTEMPTS: usize = 8;

/// How a record is emptied.
#[derive(Debug)]
pub struct Blank<'b> {
    /// What ties the record to the person.
    pub tie: Tie,
    /// The person's e-mail addresses, in lower case.
    pub addresses: &'b BTreeSet<String>,
    /// The records that are the person.
    pub persons: &'b [EntityRef],
}

/// A record without what it told of the person.
#[derive(Debug)]
pub struct Erased {
    /// The record as it shall be; the same version.
    pub row: Row,
    /// How many values went: 0 if there were none.
    pub values: usize,
    /// The fields whose values are not kept, in the record as in its history: a path such as
    /// `email` or `custom_fields.hobby` is one of them or below one of them.
    paths: BTreeSet<String>,
}

impl Erased {
    /// Whether the history of a field is erased too: `custom_fields.hobby` is if all of
    /// `custom_fields` are, and so is a change of all of them at once if one of them is.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        let (whole, is_member) = match path.split_once('.') {
            Some((whole, _)) => (whole, true),
            None => (path, false),
        };
        let is_inside = |known: &String| {
            let inner = known.strip_prefix(whole);
            inner.is_some_and(|inner| inner.starts_with('.'))
        };
        self.paths.contains(path)
            || self.paths.contains(whole)
            || !is_member && self.paths.iter().any(is_inside)
    }
}

/// Empties a record by its description, with the fields that the tenant added; `is_object` tells
/// names of objects, which are no free text.
#[must_use]
pub fn erased(
    object: &ObjectRef,
    row: &Row,
    blank: &Blank<'_>,
    is_object: &dyn Fn(&str) -> bool,
) -> Erased {
    let was = row.values();
    let mut values = was.clone();
    let mut paths = BTreeSet::new();
    let names = names(object, blank.tie);
    for (index, field) in object.fields().iter().enumerate() {
        let place = index.checked_sub(SYSTEM_FIELDS);
        let Some(slot) = place.and_then(|place| values.get_mut(place)) else {
            continue;
        };
        let one = One {
            object,
            index,
            field,
            id: row.id(),
            is_name: names.contains(&*field.name),
            is_custom: object.custom_document() == Some(index),
        };
        if let Some(new) = one.erased(slot, blank, is_object, &mut paths) {
            *slot = new;
        }
    }
    let row = built(object, row, &was, values, &mut paths);
    let differing = row
        .values()
        .iter()
        .zip(&was)
        .filter(|(is, was)| is != was)
        .count();
    Erased {
        row,
        values: differing,
        paths,
    }
}

/// Whether the history of a record that is no more is erased at a path, by the description of its
/// object alone.
#[must_use]
pub fn covers(object: &ObjectRef, tie: Tie, path: &str) -> bool {
    let (name, member) = match path.split_once('.') {
        Some((name, member)) => (name, Some(member)),
        None => (path, None),
    };
    let Some((index, field)) = object
        .field_index(name)
        .and_then(|index| Some((index, object.fields().get(index)?)))
    else {
        return true;
    };
    if field.system || is_reference(field) {
        return false;
    }
    let one = One {
        object,
        index,
        field,
        id: Uuid::nil(),
        is_name: false,
        is_custom: object.custom_document() == Some(index),
    };
    match member.filter(|_| one.is_custom && tie != Tie::Person) {
        Some(member) => one.custom_field(member).is_none_or(is_free_custom),
        None => field.privacy != Privacy::Public || one.is_free(),
    }
}

/// The record with these values, without those that its type refuses: they are no free text.
fn built(
    object: &ObjectRef,
    row: &Row,
    was: &[Value],
    mut values: Vec<Value>,
    paths: &mut BTreeSet<String>,
) -> Row {
    let place_of = |path: &str| {
        let name = path.split_once('.').map_or(path, |(name, _)| name);
        object.field_index(name)?.checked_sub(SYSTEM_FIELDS)
    };
    for _ in 0..ATTEMPTS {
        let mut faults = Faults::default();
        let built = match row.with_values(row.meta(), values.clone()) {
            Ok(built) => {
                built.check(&mut faults);
                if faults.is_empty() {
                    return built;
                }
                Some(built)
            }
            Err(refused) => {
                faults = refused;
                None
            }
        };
        let mut is_mended = false;
        let told = faults.into_result().err();
        let paths_of: Vec<String> = told
            .map(|told| {
                told.errors()
                    .iter()
                    .map(|fault| fault.path.clone())
                    .collect()
            })
            .unwrap_or_default();
        for path in paths_of {
            let Some(place) = place_of(&path) else {
                continue;
            };
            let (Some(slot), Some(before)) = (values.get_mut(place), was.get(place)) else {
                continue;
            };
            let is_text = object
                .placed(place + SYSTEM_FIELDS)
                .is_some_and(|field| matches!(field.field_type, FieldType::Text { .. }));
            if slot.is_null() && !before.is_null() && is_text {
                // The record cannot do without.
                *slot = Value::Text(PLACEHOLDER.to_owned());
                is_mended = true;
            } else if built.is_none() && slot != before {
                slot.clone_from(before);
                paths.remove(object.field_name(place + SYSTEM_FIELDS));
                is_mended = true;
            }
        }
        if !is_mended {
            // What is wrong was wrong before, or only between fields: the values themselves fit.
            return built.unwrap_or_else(|| row.clone());
        }
    }
    row.clone()
}

/// The fields with the parts of the person's name.
fn names(object: &ObjectRef, tie: Tie) -> BTreeSet<String> {
    if tie != Tie::Person {
        return BTreeSet::new();
    }
    let mut fields = FieldList::default();
    PersonName::describe(&mut fields);
    let names = fields.since(0).iter().map(|field| field.name.to_string());
    names.filter(|name| object.field(name).is_some()).collect()
}

/// One field of a record.
struct One<'o> {
    object: &'o ObjectRef,
    index: usize,
    field: &'o FieldSchema,
    id: Uuid,
    is_name: bool,
    is_custom: bool,
}

impl One<'_> {
    /// The value that stands for the erased one, where it is erased.
    fn erased(
        &self,
        was: &Value,
        blank: &Blank<'_>,
        is_object: &dyn Fn(&str) -> bool,
        paths: &mut BTreeSet<String>,
    ) -> Option<Value> {
        let field = self.field;
        let is_personal = field.privacy != Privacy::Public;
        if self.is_custom && blank.tie == Tie::Address {
            return self.custom_addresses(was, blank.addresses, paths);
        }
        let is_erased = match blank.tie {
            Tie::Person if field.merge == MergeRule::Any => {
                // What is left of the person is never approached again (R-026).
                return (field.storage_kind() == StorageKind::Boolean)
                    .then_some(Value::Boolean(true));
            }
            Tie::Person | Tie::Part | Tie::About | Tie::Trace => is_personal || self.is_free(),
            Tie::Quote => match was {
                Value::Json(json)
                    if is_personal && quotes(json, blank.addresses, blank.persons) =>
                {
                    paths.insert(field.name.to_string());
                    let scrubbed =
                        scrubbed(json, &|text| says_any(text, blank.addresses, blank.persons));
                    return Some(Value::Json(scrubbed));
                }
                _ => false,
            },
            Tie::Address => {
                field.field_type == FieldType::Email
                    && is_address_of(&was.as_ref(), blank.addresses)
            }
        };
        if !is_erased || is_reference(field) {
            return None;
        }
        if let Value::Text(text) = was
            && !is_personal
            && is_object(text)
        {
            return None;
        }
        if self.is_custom && blank.tie != Tie::Trace {
            return self.custom(was, blank.tie, paths);
        }
        paths.insert(field.name.to_string());
        if was.is_null() {
            return None;
        }
        Some(self.stand_in(was, is_personal))
    }

    /// Whether a field that is not marked as personal may still tell of a person: people write into
    /// it, and whatever they like.
    fn is_free(&self) -> bool {
        let links = self.object.record_links();
        let is_name_of_link = links.iter().any(|link| link.object == self.index);
        let is_text = matches!(
            self.field.field_type,
            FieldType::Text { .. }
                | FieldType::Email
                | FieldType::Phone
                | FieldType::Url { .. }
                | FieldType::List
                | FieldType::Json
        );
        is_text && !self.field.read_only && !is_name_of_link
    }

    fn stand_in(&self, was: &Value, is_personal: bool) -> Value {
        let field = self.field;
        match (&field.field_type, was) {
            _ if self.is_name => Value::Text(NAME.to_owned()),
            (FieldType::Email, _) => Value::Text(self.address()),
            (
                FieldType::Text {
                    multiline: true, ..
                },
                _,
            ) => self.placeholder(),
            (FieldType::List, _) => Value::List(Vec::new()),
            (FieldType::Json, Value::Json(json)) if !is_personal => {
                Value::Json(scrubbed(json, &|text| !is_structure(text)))
            }
            _ if !field.required => Value::Null,
            (FieldType::Text { .. }, _) => self.placeholder(),
            (FieldType::Json, Value::Json(Json::Array(_))) => Value::Json(json!([])),
            (FieldType::Json, _) => Value::Json(json!({})),
            _ => match &field.default {
                Value::Null => was.clone(),
                default => default.clone(),
            },
        }
    }

    /// What stands for an e-mail address.
    fn address(&self) -> String {
        format!("erased-{}@erased.invalid", self.id)
    }

    /// A text that is told apart from those of other records, where records are told apart by it.
    fn placeholder(&self) -> Value {
        let mut keys = self.object.unique_keys().iter();
        let is_key = keys.any(|key| key.fields.contains(&self.index));
        let text = match is_key {
            true => format!("erased {}", self.id),
            false => PLACEHOLDER.to_owned(),
        };
        let most = self.field.field_type.max_length().unwrap_or(u32::MAX);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        // The end of an id is its random part.
        let excess = text.chars().count().saturating_sub(most);
        Value::Text(text.chars().skip(excess).collect())
    }

    /// The document of custom values: of the person only the marker, of others what is neither free
    /// text nor personal.
    fn custom(&self, was: &Value, tie: Tie, paths: &mut BTreeSet<String>) -> Option<Value> {
        let Value::Json(Json::Object(members)) = was else {
            return None;
        };
        if tie == Tie::Person {
            paths.insert(self.field.name.to_string());
            let kept = members.iter().filter(|(key, _)| self.is_kept(key));
            let mut kept: Map<String, Json> = kept
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            if kept.len() < members.len() {
                kept.insert(MARKER.to_owned(), Json::Bool(true));
            }
            return Some(Value::Json(Json::Object(kept)));
        }
        let mut kept = Map::new();
        for (key, value) in members {
            let field = self.custom_field(key);
            let is_free = field.is_none_or(is_free_custom);
            if !is_free || self.is_kept(key) {
                kept.insert(key.clone(), value.clone());
            }
            if is_free {
                paths.insert(format!("{}.{key}", self.field.name));
            }
        }
        // What such a document once held, under whatever key, went the same way.
        for custom in self.object.custom_fields() {
            if is_free_custom(&custom.field) {
                paths.insert(format!("{}.{}", self.field.name, custom.key));
            }
        }
        Some(Value::Json(Json::Object(kept)))
    }

    /// The document of custom values without the person's e-mail addresses.
    fn custom_addresses(
        &self,
        was: &Value,
        addresses: &BTreeSet<String>,
        paths: &mut BTreeSet<String>,
    ) -> Option<Value> {
        let Value::Json(Json::Object(members)) = was else {
            return None;
        };
        let mut left = members.clone();
        for (key, value) in &mut left {
            let field = self.custom_field(key);
            let is_address = field.is_some_and(|field| field.field_type == FieldType::Email)
                && value
                    .as_str()
                    .is_some_and(|text| addresses.contains(&fold_case(text)));
            if is_address {
                paths.insert(format!("{}.{key}", self.field.name));
                *value = Json::String(self.address());
            }
        }
        (left != *members).then_some(Value::Json(Json::Object(left)))
    }

    fn custom_field(&self, key: &str) -> Option<&FieldSchema> {
        let mut fields = self.object.custom_fields().iter();
        let custom = fields.find(|custom| *custom.key == *key)?;
        Some(&custom.field)
    }

    /// Whether a custom value of the person stays: references, and what follows from other values,
    /// which is computed anew from what is left of them.
    fn is_kept(&self, key: &str) -> bool {
        let field = self.custom_field(key);
        field.is_some_and(|field| is_reference(field) || field.read_only)
    }
}

/// Whether a custom value may tell of a person.
fn is_free_custom(field: &FieldSchema) -> bool {
    let is_closed = matches!(
        field.field_type,
        FieldType::Picklist { .. } | FieldType::Reference { .. }
    );
    let kind = field.storage_kind();
    let is_text = matches!(
        kind,
        StorageKind::Text | StorageKind::List | StorageKind::Json
    );
    !is_reference(field) && (field.privacy != Privacy::Public || is_text && !is_closed)
}

fn is_reference(field: &FieldSchema) -> bool {
    field.reference().is_some() || field.record_of.is_some()
}

/// Whether a value is one of the person's addresses.
#[must_use]
pub fn is_address_of(value: &ValueRef<'_>, addresses: &BTreeSet<String>) -> bool {
    value
        .as_text()
        .is_some_and(|text| addresses.contains(&fold_case(text)))
}

/// Whether a document names the person, by address or id.
#[must_use]
pub fn quotes(json: &Json, addresses: &BTreeSet<String>, persons: &[EntityRef]) -> bool {
    match json {
        Json::String(text) => says_any(text, addresses, persons),
        Json::Array(items) => items.iter().any(|item| quotes(item, addresses, persons)),
        Json::Object(members) => members.iter().any(|(name, member)| {
            says_any(name, addresses, persons) || quotes(member, addresses, persons)
        }),
        _ => false,
    }
}

fn says_any(text: &str, addresses: &BTreeSet<String>, persons: &[EntityRef]) -> bool {
    let text = fold_case(text);
    addresses.iter().any(|address| text.contains(address))
        || persons
            .iter()
            .any(|person| text.contains(&person.id.to_string()))
}

/// A document in which the texts that are meant are replaced, also as names of members.
fn scrubbed(json: &Json, is_meant: &dyn Fn(&str) -> bool) -> Json {
    match json {
        Json::String(text) if is_meant(text) => Json::String(PLACEHOLDER.to_owned()),
        Json::Array(items) => items.iter().map(|item| scrubbed(item, is_meant)).collect(),
        Json::Object(members) => {
            let members = members
                .iter()
                .map(|(name, member)| (name.clone(), scrubbed(member, is_meant)));
            Json::Object(members.collect())
        }
        other => other.clone(),
    }
}

/// Whether a text in a document is a day, a moment, a number or an id, and so tells of nobody.
fn is_structure(text: &str) -> bool {
    text.parse::<NaiveDate>().is_ok()
        || text.parse::<NaiveDateTime>().is_ok()
        || DateTime::parse_from_rfc3339(text).is_ok()
        || text.parse::<rust_decimal::Decimal>().is_ok()
        || Uuid::try_parse(text).is_ok()
}

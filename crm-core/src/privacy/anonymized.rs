//! What a record is without what its description marks as personal: pure.
//!
//! ```text
//! parts of a person's name   "Anonymized"       custom values of the person   references and formulas stay
//! what may be empty          empty              lists, documents              empty
//! required e-mail            anonymized-<id>@anonymized.invalid
//! other required text        "[anonymized]"     other required values         as they are
//! ```

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::error::Faults;
use crate::schema::{
    FieldGroup as _, FieldList, FieldSchema, FieldType, ObjectRef, Privacy, Row, SYSTEM_FIELDS,
    StorageKind, Value,
};
use crate::value::PersonName;

/// What stands for each part of a person's name.
const NAME: &str = "Anonymized";

/// What stands for a text that must not be empty.
const PLACEHOLDER: &str = "[anonymized]";

/// How often values that rules between fields refuse are put back.
const ATTEMPTS: usize = 8;

/// The values of a record that go, or are replaced, where nothing that its description marks as
/// personal or sensitive may stay: by the places of their fields. None where nothing personal is
/// left, so doing it again changes nothing.
///
/// References stay, since they tell of other records; so does what the rules between the record's
/// fields do not let go.
///
/// ```
/// # use std::sync::Arc;
/// # use crm_core::{Actor, Record, Stamp, schema::{Entity, Meta, Row, Value}};
/// use crm_core::contacts::Contact;
/// use crm_core::privacy::anonymized;
///
/// # let stamp = Stamp { at: chrono::DateTime::UNIX_EPOCH, by: Actor::System };
/// let ada = Contact { job_title: Some("Analyst".into()), ..Contact::named("Ada", "Lovelace") };
/// let row: Row = Arc::new(Record::new(Meta::first(uuid::Uuid::nil(), stamp), ada));
/// let changed = anonymized(Contact::schema(), &row);
/// let first_name = Contact::schema().field_index("first_name").unwrap();
/// assert!(changed.contains(&(first_name, Value::Text("Anonymized".into()))));
/// ```
#[must_use]
pub fn anonymized(object: &ObjectRef, row: &Row) -> Vec<(usize, Value)> {
    let was = row.values();
    let mut values = was.clone();
    let names = names(object);
    for (index, field) in object.fields().iter().enumerate() {
        let place = index.checked_sub(SYSTEM_FIELDS);
        let Some(slot) = place.and_then(|place| values.get_mut(place)) else {
            continue;
        };
        let is_personal = field.privacy != Privacy::Public;
        if !is_personal || slot.is_null() || is_link(field) {
            continue;
        }
        *slot = if names.contains(&*field.name) {
            Value::Text(NAME.to_owned())
        } else if object.custom_document() == Some(index) {
            without_custom(object, slot)
        } else {
            stand_in(object, index, field, row.id(), slot)
        };
    }
    // What is derived from a value that went goes too.
    for place in 1..values.len() {
        let source_went = values.get(place - 1) != was.get(place - 1);
        if object.is_derived(place + SYSTEM_FIELDS)
            && source_went
            && let Some(derived) = values.get_mut(place)
        {
            *derived = Value::Null;
        }
    }
    put_back(object, row, &was, &mut values);
    let changed = values.into_iter().zip(&was).enumerate();
    changed
        .filter(|(_, (new, was))| new != *was)
        .map(|(place, (new, _))| (place + SYSTEM_FIELDS, new))
        .collect()
}

/// Whether events of a record that was anonymised must not tell of a field either, such as `email` or
/// `custom_fields.nickname`: what [`anonymized`] takes away, and what the field had before. What a rule
/// between fields keeps in the record stays in its events too.
///
/// ```
/// # use std::sync::Arc;
/// # use crm_core::{Actor, Record, Stamp, schema::{Entity, Meta, Row}};
/// use crm_core::contacts::Contact;
/// use crm_core::privacy::is_anonymized;
///
/// # let stamp = Stamp { at: chrono::DateTime::UNIX_EPOCH, by: Actor::System };
/// # let row = |contact| -> Row { Arc::new(Record::new(Meta::first(uuid::Uuid::nil(), stamp), contact)) };
/// let before = row(Contact::named("Ada", "Lovelace"));
/// let after = row(Contact::named("Anonymized", "Anonymized"));
/// assert!(is_anonymized(&before, &after, "first_name"));
/// assert!(is_anonymized(&before, &after, "job_title"));
/// assert!(!is_anonymized(&before, &after, "account_id"));
/// ```
#[must_use]
pub fn is_anonymized(before: &Row, after: &Row, field: &str) -> bool {
    let object = after.object();
    let (name, member) = match field.split_once('.') {
        Some((name, member)) => (name, Some(member)),
        None => (field, None),
    };
    let Some(index) = object.field_index(name) else {
        // What a field was that is no more, nobody knows any more.
        return true;
    };
    let is_personal = |index: usize| {
        let field = object.fields().get(index);
        field.is_some_and(|field| {
            !field.system && field.privacy != Privacy::Public && !is_link(field)
        })
    };
    let follows = object.is_derived(index) && index.checked_sub(1).is_some_and(is_personal);
    if !is_personal(index) && !follows {
        return false;
    }
    if object.custom_document() == Some(index) {
        return member.is_none_or(|member| !stays(object, member));
    }
    let left = after.value(index);
    left.is_null() || left != before.value(index)
}

/// Puts values back that the rules between the record's fields do not let go.
fn put_back(object: &ObjectRef, row: &Row, was: &[Value], values: &mut [Value]) {
    for _ in 0..ATTEMPTS {
        let mut faults = Faults::default();
        match row.with_values(row.meta(), values.to_vec()) {
            Ok(built) => built.check(&mut faults),
            Err(refused) => faults = refused,
        }
        let Err(refused) = faults.into_result() else {
            return;
        };
        let mut is_mended = false;
        for fault in refused.errors() {
            let name = fault.path.split('.').next().unwrap_or_default();
            let place = object
                .field_index(name)
                .and_then(|index| index.checked_sub(SYSTEM_FIELDS));
            let slots = place.and_then(|place| Some((values.get_mut(place)?, was.get(place)?)));
            if let Some((slot, before)) = slots
                && slot != before
            {
                slot.clone_from(before);
                is_mended = true;
            }
        }
        if !is_mended {
            return;
        }
    }
    values.clone_from_slice(was);
}

/// The fields with the parts of a person's name, where the object is of persons.
fn names(object: &ObjectRef) -> BTreeSet<String> {
    let mut fields = FieldList::default();
    PersonName::describe(&mut fields);
    let names = fields.since(0).iter().map(|field| field.name.to_string());
    names.filter(|name| object.field(name).is_some()).collect()
}

fn is_link(field: &FieldSchema) -> bool {
    field.reference().is_some() || field.record_of.is_some()
}

/// The document of custom values without any but links and what follows from other values.
fn without_custom(object: &ObjectRef, was: &Value) -> Value {
    let Value::Json(Json::Object(members)) = was else {
        return was.clone();
    };
    let kept = members.iter().filter(|(key, _)| stays(object, key));
    let kept = kept.map(|(key, value)| (key.clone(), value.clone()));
    Value::Json(Json::Object(kept.collect()))
}

/// Whether a custom value is a link, or follows from other values.
fn stays(object: &ObjectRef, key: &str) -> bool {
    let mut fields = object.custom_fields().iter();
    let own = fields.find(|custom| *custom.key == *key);
    own.is_some_and(|custom| is_link(&custom.field) || custom.field.read_only)
}

fn stand_in(object: &ObjectRef, index: usize, field: &FieldSchema, id: Uuid, was: &Value) -> Value {
    match (&field.field_type, field.storage_kind()) {
        _ if !field.default.is_null() => field.default.clone(),
        (_, StorageKind::List) => Value::List(Vec::new()),
        _ if !field.required => Value::Null,
        (FieldType::Email, _) => Value::Text(format!("anonymized-{id}@anonymized.invalid")),
        (FieldType::Text { max_length, .. }, _) => {
            let mut keys = object.unique_keys().iter();
            let is_key = keys.any(|key| key.fields.contains(&index));
            let text = match is_key {
                // Told apart from the texts of other records, by the end of the id: its random part.
                true => format!("{PLACEHOLDER} {id}"),
                false => PLACEHOLDER.to_owned(),
            };
            let most = usize::try_from(*max_length).unwrap_or(usize::MAX);
            let excess = text.chars().count().saturating_sub(most);
            Value::Text(text.chars().skip(excess).collect())
        }
        (FieldType::Json, _) => match was {
            Value::Json(Json::Array(_)) => Value::Json(Json::Array(Vec::new())),
            _ => Value::Json(Json::Object(Map::new())),
        },
        _ => was.clone(),
    }
}

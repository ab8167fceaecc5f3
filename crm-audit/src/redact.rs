//! [`redact`]: the one way in which an event changes.

use std::borrow::Cow;

use crm_core::Record;
use crm_core::engine::UnitOfWork;
use crm_core::error::Result;
use crm_core::schema::{Entity as _, FieldGroup, FieldValue as _, Privacy, SYSTEM_FIELDS, Value};
use serde_json::{Value as Json, json};

use crate::archive::{event_of, stored_row};
use crate::event::{AuditEvent, Changes, FieldChange, Redaction};
use crate::mask::{ERASED, MASK};
use crate::seal::commitment::{Nonce, Side, path};

/// Erases values from an event for good: the old and new values of the changed fields that `fields`
/// says yes to, such as `email` or `custom_fields.nickname`, and what is known of the caller (address,
/// user agent, session).
///
/// In the place of a value stands `{"erased": "<commitment>"}`, which says nothing about it: the salt
/// that the commitment was made with is erased too. So a [seal](crate::seal) over the event still
/// holds. What says nothing, an empty or masked value, stays; so does which fields changed, when and
/// by whom. Doing it again does nothing more, and more fields may be erased later.
///
/// The change is staged in `work` and leaves no event of its own: whoever erases says so, without
/// personal data. Events from the archive, as [`AuditTrail`](crate::AuditTrail) gives them, are
/// redacted in the archive.
///
/// # Errors
/// [`Error::Forbidden`](crm_core::error::Error::Forbidden) never for an event of the trail; the
/// commit is a conflict if somebody else redacted the event meanwhile.
#[doc(hidden)]
pub fn redact(
    work: &mut UnitOfWork,
    event: &Record<AuditEvent>,
    fields: impl Fn(&str) -> bool,
) -> Result<()> {
    redact_values(work, event, |_, change| fields(&change.field))
}

/// Like [`redact`], value by value.
pub(crate) fn redact_values(
    work: &mut UnitOfWork,
    event: &Record<AuditEvent>,
    is_meant: impl Fn(Side, &FieldChange) -> bool,
) -> Result<()> {
    let Some(stored) = stored_row(event) else {
        return Ok(());
    };
    let staged = work.staged().iter().rev();
    let mut staged = staged.filter(|change| change.id() == stored.id());
    let staged = staged.find(|change| change.object() == stored.object());
    let current = staged.and_then(|change| change.after().cloned());
    let current = current.and_then(event_of);
    let data = current.as_ref().map_or(&event.data, |staged| &staged.data);
    match redacted(data, &is_meant) {
        Some(values) => work.redact_entry(&stored, values),
        None => Ok(()),
    }
}

/// Whether a value of an event is not there any more because it was erased.
///
/// ```
/// use crm_core::schema::Value;
///
/// let left = serde_json::json!({"erased": "9f86d081884c7d659a2feaa0c55ad015"});
/// assert!(crm_audit::is_erased(&Value::Json(left)));
/// assert!(!crm_audit::is_erased(&Value::from("erased")));
/// ```
#[must_use]
pub fn is_erased(value: &Value) -> bool {
    commitment_of(value).is_some()
}

/// What stands for an erased value.
pub(crate) fn commitment_of(value: &Value) -> Option<&str> {
    let Value::Json(Json::Object(members)) = value else {
        return None;
    };
    let told = members.get(ERASED).filter(|_| members.len() == 1);
    told.and_then(Json::as_str)
}

/// What the fields of the event are once it is redacted; `None` where they are as they shall be.
fn redacted(
    event: &AuditEvent,
    is_meant: &impl Fn(Side, &FieldChange) -> bool,
) -> Option<Vec<(usize, Value)>> {
    let before = event.redaction.as_ref();
    let mut left = before.cloned().unwrap_or_default();
    let mut is_changed = before.is_none();
    let mut side = |side: Side, change: &FieldChange| {
        let value = side.of(change)?;
        let path = path(side, &change.field);
        let nonce = match before {
            None => Nonce::of(event.salt, &path),
            // Without a salt of its own it was erased before.
            Some(before) => match before.salts.get(&path).and_then(|hex| Nonce::parse(hex)) {
                Some(nonce) => nonce,
                None => return Some(value.clone()),
            },
        };
        if !is_meant(side, change) || says_nothing(value) {
            left.salts.insert(path, nonce.to_hex());
            return Some(value.clone());
        }
        is_changed = true;
        left.salts.remove(&path);
        Some(Value::Json(json!({ ERASED: nonce.commit(value) })))
    };
    let changes: Vec<FieldChange> = event
        .changes
        .iter()
        .map(|change| FieldChange {
            field: Cow::clone(&change.field),
            old: side(Side::Old, change),
            new: side(Side::New, change),
        })
        .collect();
    let mut values = Vec::new();
    for (place, field) in personal() {
        if let Some(value) = value_at(event, place) {
            is_changed = true;
            let commitment = Nonce::of(event.salt, field).commit(&value);
            left.fields.entry(field.to_owned()).or_insert(commitment);
            values.push((place, Value::Null));
        }
    }
    if !is_changed {
        return None;
    }
    let changes = Changes::from(changes).value().into_owned();
    let place = |name: &str| AuditEvent::schema().field_index(name);
    values.extend(place(&AuditEvent::CHANGES.name()).map(|place| (place, changes)));
    let left = Redaction::value(&left).into_owned();
    values.extend(place(&AuditEvent::REDACTION.name()).map(|place| (place, left)));
    Some(values)
}

/// The fields about persons that an event has one value in, by their places: all but the changes and
/// what is left of redactions. The salt is one of them.
pub(crate) fn personal() -> impl Iterator<Item = (usize, &'static str)> {
    let fields = AuditEvent::schema().fields().iter().enumerate();
    fields
        .filter(|(_, field)| {
            field.privacy != Privacy::Public
                && field.name != AuditEvent::CHANGES.name()
                && field.name != AuditEvent::REDACTION.name()
        })
        .map(|(place, field)| (place, &*field.name))
}

/// The value of a field of the event, if it has one.
pub(crate) fn value_at(event: &AuditEvent, place: usize) -> Option<Value> {
    let own = place.checked_sub(SYSTEM_FIELDS)?;
    let value = FieldGroup::value(event, own).into_owned();
    Some(value).filter(|value| !value.is_null())
}

/// Whether nothing is lost that could tell of anybody.
fn says_nothing(value: &Value) -> bool {
    value.is_null() || *value == Value::Text(MASK.to_owned())
}

/// The row of an event for tests.
#[cfg(test)]
pub(crate) fn laid(
    event: &Record<AuditEvent>,
    values: Vec<(usize, Value)>,
) -> crm_core::schema::Row {
    let row: crm_core::schema::Row = std::sync::Arc::new(event.clone());
    let mut all = row.values();
    for (place, value) in values {
        all[place - SYSTEM_FIELDS] = value;
    }
    row.with_values(row.meta().next(event.created), all)
        .unwrap()
}

/// Redacts an event that lies in no storage.
#[cfg(test)]
pub(crate) fn redacted_event(
    event: &Record<AuditEvent>,
    fields: impl Fn(&str) -> bool,
) -> std::sync::Arc<Record<AuditEvent>> {
    match redacted(&event.data, &|_: Side, change: &FieldChange| {
        fields(&change.field)
    }) {
        Some(values) => Record::from_row(laid(event, values)).unwrap(),
        None => std::sync::Arc::new(event.clone()),
    }
}

//! [`Version`]: a record as it was, built from its events.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use crm_core::Record;
use crm_core::error::{Error, Result, RuleViolation};
use crm_core::schema::{
    Entity, FieldSchema, FieldType, Meta, ObjectRef, Row, SYSTEM_FIELDS, StorageKind, Value, system,
};
use crm_core::storage::StorageError;
use serde_json::Value as Json;

use crate::event::{AuditEvent, AuditKind};
use crate::mask::{MASK, tell_lost, verbatim};
use crate::redact::is_erased;

/// A record as it was at one version.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Version<E> {
    /// The record.
    pub record: Arc<Record<E>>,
    /// The fields whose value the trail does not keep, which are empty in the record, and members of
    /// documents of which it does not, which are [`MASK`](crate::MASK).
    pub masked: Vec<String>,
}

/// A record of an object without a Rust type as it was at one version.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RowVersion {
    /// The record.
    pub row: Row,
    /// The fields whose value the trail does not keep, which are empty in the record, and members of
    /// documents of which it does not, which are [`MASK`](crate::MASK).
    pub masked: Vec<String>,
}

/// Builds the versions of a record from its events, one after the other: what was read is let go.
pub(crate) struct Rebuilding<'o> {
    object: &'o ObjectRef,
    state: Option<State>,
    /// Whether an event tells of the record that does not come behind its creation.
    is_cut: bool,
}

impl<'o> Rebuilding<'o> {
    pub(crate) const fn new(object: &'o ObjectRef) -> Self {
        Self {
            object,
            state: None,
            is_cut: false,
        }
    }

    /// Takes the next event in, the first one first.
    pub(crate) fn add(&mut self, event: &Record<AuditEvent>) {
        match (&mut self.state, event.event) {
            (None, AuditKind::Create) => {
                let mut created = State {
                    meta: Meta::first(event.record_id, event.created),
                    values: empty(self.object),
                    masked: Vec::new(),
                };
                created.apply(self.object, event);
                self.state = Some(created);
            }
            (_, AuditKind::Read) => {}
            (None, _) => self.is_cut = true,
            (Some(_), AuditKind::Purge) => self.state = None,
            (Some(state), _) => {
                state.meta = Meta {
                    version: event.record_version,
                    ..state.meta.next(event.created)
                };
                match event.event {
                    AuditKind::Delete => {
                        // A deletion has all that the record then was.
                        state.meta.deleted_at = Some(event.created.at);
                        state.values = empty(self.object);
                        state.masked.clear();
                    }
                    AuditKind::Restore => state.meta.deleted_at = None,
                    _ => {}
                }
                state.apply(self.object, event);
            }
        }
    }

    /// Whether no event told anything of the record.
    pub(crate) const fn is_empty(&self) -> bool {
        self.state.is_none() && !self.is_cut
    }

    /// Whether the events that were told begin in the middle.
    pub(crate) const fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The record as the events told so far say, if that is its version `version`.
    pub(crate) fn row(&self, version: i64) -> Result<Option<RowVersion>> {
        let Some(state) = self.state.as_ref() else {
            return Ok(None);
        };
        if state.meta.version != version {
            return Ok(None);
        }
        let row = self.object.build(state.meta, state.values.clone());
        Ok(Some(RowVersion {
            row: row.map_err(|_| corrupt(self.object))?,
            masked: state.masked.clone(),
        }))
    }
}

/// A version of a record with a Rust type.
pub(crate) fn typed<E: Entity>(version: RowVersion) -> Result<Version<E>> {
    let RowVersion { row, masked } = version;
    let record = Record::from_row(row).ok_or_else(|| corrupt(E::schema()))?;
    Ok(Version { record, masked })
}

/// That a version cannot be built, as the trail begins behind it.
pub(crate) fn cut() -> Error {
    let message = "the events that this version is built from were dropped from the archive, or were \
                   never recorded: only what is told later can be read";
    RuleViolation::new("version_dropped", "C-070", message).into()
}

fn corrupt(object: &ObjectRef) -> Error {
    Error::Storage(StorageError::Corrupt {
        object: object.name().to_owned(),
        fields: vec!["audit trail".to_owned()],
    })
}

struct State {
    meta: Meta,
    values: Vec<Value>,
    masked: Vec<String>,
}

/// The values of a record before its creation: what an event leaves out is empty.
fn empty(object: &ObjectRef) -> Vec<Value> {
    object
        .own_fields()
        .iter()
        .map(|field| match field.storage_kind() {
            StorageKind::List => Value::List(Vec::new()),
            StorageKind::Json if field.required => {
                Value::Json(Json::Object(serde_json::Map::new()))
            }
            _ => Value::Null,
        })
        .collect()
}

impl State {
    fn apply(&mut self, object: &ObjectRef, event: &AuditEvent) {
        for change in &event.changes {
            let told = match event.event {
                // What changed in the commit that deleted it has both.
                AuditKind::Delete => change.new.as_ref().or(change.old.as_ref()),
                _ => change.new.as_ref(),
            };
            let Some(new) = told else { continue };
            let moment = match object.field_index(&change.field) {
                Some(system::ARCHIVED_AT) => Some(&mut self.meta.archived_at),
                Some(system::DELETED_AT) => Some(&mut self.meta.deleted_at),
                _ => None,
            };
            if let Some(moment) = moment {
                *moment = moment_of(new);
                continue;
            }
            if lay(object, &mut self.values, &change.field, new) {
                let path = &*change.field;
                let is_inside = |masked: &String| {
                    let rest = masked.strip_prefix(path);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                };
                self.masked.retain(|masked| !is_inside(masked));
                tell_lost(new, path, &mut self.masked);
            }
        }
    }
}

/// The moment that an event tells of.
pub(crate) fn moment_of(value: &Value) -> Option<DateTime<Utc>> {
    match FieldType::Timestamp.coerce(value.clone()) {
        Ok(Value::Timestamp(at)) => Some(at),
        _ => None,
    }
}

/// Lays what an event tells of a field, or of a member of a document, over the values of a record,
/// those of the system left out. Whether there is such a field.
pub(crate) fn lay(object: &ObjectRef, values: &mut [Value], path: &str, told: &Value) -> bool {
    let (name, member) = match path.split_once('.') {
        Some((name, member)) => (name, Some(member)),
        None => (path, None),
    };
    let index = object.field_index(name);
    let field = index.and_then(|index| object.fields().get(index));
    let slot = index
        .and_then(|index| index.checked_sub(SYSTEM_FIELDS))
        .and_then(|place| values.get_mut(place));
    let (Some(field), Some(slot)) = (field, slot) else {
        return false;
    };
    match member {
        Some(member) => set_member(slot, member, told),
        None if is_lost(told) => *slot = missing(field),
        None => *slot = value_of(field, verbatim(told.clone())),
    }
    true
}

fn set_member(slot: &mut Value, member: &str, told: &Value) {
    let Value::Json(Json::Object(members)) = slot else {
        return;
    };
    let value = match is_lost(told) {
        true => Value::Text(MASK.to_owned()),
        false => verbatim(told.clone()),
    };
    match value.to_json() {
        Json::Null => members.remove(member),
        json => members.insert(member.to_owned(), json),
    };
}

/// Whether nothing is left of a value but that there was one.
fn is_lost(told: &Value) -> bool {
    is_erased(told) || matches!(told, Value::Text(text) if text == MASK)
}

/// What a record is built with where the trail does not keep the value: none, if it may do without.
fn missing(field: &FieldSchema) -> Value {
    match &field.default {
        _ if !field.required => Value::Null,
        Value::Null => Value::Text(MASK.to_owned()),
        default => default.clone(),
    }
}

/// The value in the kind of its field: documents only know the kinds of JSON.
fn value_of(field: &FieldSchema, value: Value) -> Value {
    match (field.storage_kind(), &value) {
        // What was stored once is taken as it is, also where the rules have become stricter.
        (StorageKind::Text, Value::Text(_)) | (StorageKind::Json, Value::Json(_)) => value,
        (_, Value::Json(Json::Number(_))) => {
            let number = Value::from_json(value.to_json());
            field.field_type.coerce(number).unwrap_or(Value::Null)
        }
        _ => field.field_type.coerce(value).unwrap_or(Value::Null),
    }
}

//! [`Version`]: a record as it was, built from its events.

use std::sync::Arc;

use crm_core::Record;
use crm_core::error::{Error, Result};
use crm_core::schema::{
    Entity, FieldSchema, FieldType, Meta, ObjectRef, Row, SYSTEM_FIELDS, StorageKind, Value, system,
};
use crm_core::storage::StorageError;
use serde_json::Value as Json;

use crate::event::{AuditEvent, AuditKind};
use crate::mask::MASK;

/// A record as it was at one version.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Version<E> {
    /// The record.
    pub record: Arc<Record<E>>,
    /// The fields whose value the trail does not keep: they are empty in the record.
    pub masked: Vec<String>,
}

/// A record of an object without a Rust type as it was at one version.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RowVersion {
    /// The record.
    pub row: Row,
    /// The fields whose value the trail does not keep: they are empty in the record.
    pub masked: Vec<String>,
}

/// Builds a version from the events of a record, the first one first.
pub(crate) fn rebuild<E: Entity>(
    events: &[Arc<Record<AuditEvent>>],
    version: i64,
) -> Result<Option<Version<E>>> {
    let Some(RowVersion { row, masked }) = rebuild_row(E::schema(), events, version)? else {
        return Ok(None);
    };
    let record = Record::from_row(row).ok_or_else(|| corrupt(E::schema()))?;
    Ok(Some(Version { record, masked }))
}

/// Builds a version of a record of whatever object.
pub(crate) fn rebuild_row(
    object: &ObjectRef,
    events: &[Arc<Record<AuditEvent>>],
    version: i64,
) -> Result<Option<RowVersion>> {
    let mut state: Option<State> = None;
    for event in events {
        if event.record_version > version {
            break;
        }
        match (&mut state, event.event) {
            (None, AuditKind::Create) => {
                let mut created = State {
                    meta: Meta::first(event.record_id, event.created),
                    values: empty(object),
                    masked: Vec::new(),
                };
                created.apply(object, event);
                state = Some(created);
            }
            (_, AuditKind::Purge) => state = None,
            (_, AuditKind::Read) => {}
            (Some(state), _) => {
                state.meta = Meta {
                    version: event.record_version,
                    ..state.meta.next(event.created)
                };
                match event.event {
                    AuditKind::Delete => {
                        // A deletion has all that the record then was, as old values.
                        state.meta.deleted_at = Some(event.created.at);
                        state.values = empty(object);
                        state.masked.clear();
                    }
                    AuditKind::Restore => state.meta.deleted_at = None,
                    _ => {}
                }
                state.apply(object, event);
            }
            (None, _) => {}
        }
    }
    let Some(State {
        meta,
        values,
        masked,
    }) = state.filter(|state| state.meta.version == version)
    else {
        return Ok(None);
    };
    let row = object.build(meta, values).map_err(|_| corrupt(object))?;
    Ok(Some(RowVersion { row, masked }))
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
    fn apply(&mut self, schema: &ObjectRef, event: &AuditEvent) {
        for change in &event.changes {
            let told = match event.event {
                AuditKind::Delete => &change.old,
                _ => &change.new,
            };
            let Some(new) = told else { continue };
            let (name, member) = match change.field.split_once('.') {
                Some((name, member)) => (name, Some(member)),
                None => (&*change.field, None),
            };
            let Some(index) = schema.field_index(name) else {
                continue;
            };
            let moment = match index {
                system::ARCHIVED_AT => Some(&mut self.meta.archived_at),
                system::DELETED_AT => Some(&mut self.meta.deleted_at),
                _ => None,
            };
            if let Some(moment) = moment {
                *moment = match FieldType::Timestamp.coerce(new.clone()) {
                    Ok(Value::Timestamp(at)) => Some(at),
                    _ => None,
                };
                continue;
            }
            let Some(field) = schema.fields().get(index) else {
                continue;
            };
            let Some(slot) = index
                .checked_sub(SYSTEM_FIELDS)
                .and_then(|place| self.values.get_mut(place))
            else {
                continue;
            };
            self.masked.retain(|masked| *masked != change.field);
            if *new == Value::Text(MASK.to_owned()) {
                self.masked.push(change.field.to_string());
            }
            match member {
                Some(member) => set_member(slot, member, new),
                None => *slot = value_of(field, new),
            }
        }
    }
}

fn set_member(slot: &mut Value, member: &str, new: &Value) {
    let Value::Json(Json::Object(members)) = slot else {
        return;
    };
    match new {
        Value::Null => {
            members.remove(member);
        }
        // A fraction that was read back from a storage: in a document it is a number, not a text.
        Value::Decimal(number) => {
            let number = serde_json::from_str(&number.to_string());
            members.insert(member.to_owned(), number.unwrap_or_else(|_| new.to_json()));
        }
        _ => {
            members.insert(member.to_owned(), new.to_json());
        }
    }
}

/// The value in the kind of its field: documents only know the kinds of JSON.
fn value_of(field: &FieldSchema, value: &Value) -> Value {
    match (field.storage_kind(), value) {
        // A record is not built without a value that it must have.
        (_, Value::Text(text)) if text == MASK && field.required => match &field.default {
            Value::Null => value.clone(),
            default => default.clone(),
        },
        (_, Value::Text(text)) if text == MASK => Value::Null,
        // What was stored once is taken as it is, also where the rules have become stricter.
        (StorageKind::Text, Value::Text(_)) | (StorageKind::Json, Value::Json(_)) => value.clone(),
        _ => field
            .field_type
            .coerce(value.clone())
            .unwrap_or(Value::Null),
    }
}

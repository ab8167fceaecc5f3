//! One record as a line, and back.

use chrono::{DateTime, SubsecRound, Utc};
use crm_core::error::{Faults, FieldError, ValidationError, codes};
use crm_core::schema::{
    FieldSchema, Meta, ObjectRef, ObjectScope, Privacy, Row, SYSTEM_FIELDS, StorageKind, Value,
};
use crm_core::{Actor, Stamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::identity::Move;

/// One record.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordLine {
    pub(super) object: String,
    pub(super) id: Uuid,
    pub(super) meta: MetaLine,
    pub(super) values: Map<String, Json>,
}

/// What the system keeps about a record.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetaLine {
    version: i64,
    created: Stamp,
    updated: Stamp,
    archived_at: Option<DateTime<Utc>>,
    deleted_at: Option<DateTime<Utc>>,
}

/// Whether the field is in a file at all.
pub(super) fn is_carried(field: &FieldSchema) -> bool {
    field.privacy != Privacy::Sensitive
}

impl RecordLine {
    /// The line of a record, without secrets.
    pub(super) fn of(row: &Row) -> Self {
        let object = row.object();
        let meta = row.meta();
        let fields = object.fields().iter().enumerate().skip(SYSTEM_FIELDS);
        Self {
            object: object.name().to_owned(),
            id: meta.id,
            meta: MetaLine {
                version: meta.version,
                created: meta.created,
                updated: meta.updated,
                archived_at: meta.archived_at,
                deleted_at: meta.deleted_at,
            },
            values: fields
                .filter(|(_, field)| is_carried(field))
                .map(|(index, field)| (field.name.to_string(), row.value(index).to_json()))
                .collect(),
        }
    }

    /// The record as a row of the new tenant: every id another one, every value checked against the
    /// schema. `keeps` tells of fields whose ids stay.
    pub(super) fn build(
        self,
        object: &ObjectRef,
        ids: &Move,
        keeps: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Row, ValidationError> {
        let mut faults = Faults::default();
        let mut values = object.defaults();
        for (name, json) in self.values {
            let index = object.field_index(&name);
            let field = index.and_then(|index| object.fields().get(index));
            let slot = index
                .and_then(|index| index.checked_sub(SYSTEM_FIELDS))
                .and_then(|place| values.get_mut(place));
            let (Some(field), Some(slot)) = (field, slot) else {
                faults.add(name, codes::UNKNOWN_FIELD, "there is no such field");
                continue;
            };
            if !is_carried(field) {
                faults.add(name, codes::READ_ONLY, "secrets are not imported");
                continue;
            }
            let value = match json {
                Json::Null => Value::Null,
                json if field.storage_kind() == StorageKind::Json => Value::Json(json),
                json => Value::from_json(json),
            };
            match field.field_type.coerce(value) {
                Ok(value) if keeps(object.name(), &name) => *slot = value,
                Ok(value) => *slot = moved(value, ids),
                Err(fault) => faults.push(fault.at(&name)),
            }
        }
        for (field, value) in object.own_fields().iter().zip(&values) {
            if field.required && value.is_null() && is_carried(field) {
                faults.add(&*field.name, codes::REQUIRED, "a value is required");
            }
        }
        if self.meta.version < 1 {
            faults.add("version", codes::OUT_OF_RANGE, "must be at least 1");
        }
        if object.scope() == ObjectScope::Platform && self.id != ids.from {
            faults.add("id", codes::NOT_FOUND, "is not the tenant of the file");
        }
        faults.into_result()?;
        let meta = Meta {
            id: ids.id(self.id),
            version: self.meta.version,
            created: stamp(self.meta.created, ids),
            updated: stamp(self.meta.updated, ids),
            archived_at: self.meta.archived_at.map(|at| at.trunc_subsecs(6)),
            deleted_at: self.meta.deleted_at.map(|at| at.trunc_subsecs(6)),
        };
        let row = object.build(meta, values).map_err(|faults| {
            let unreadable = || {
                let message = "could not be read";
                FieldError::new(object.name(), codes::WRONG_TYPE, message).into()
            };
            faults.into_result().err().unwrap_or_else(unreadable)
        })?;
        let mut faults = Faults::default();
        row.check(&mut faults);
        faults.into_result()?;
        Ok(row)
    }
}

fn stamp(stamp: Stamp, ids: &Move) -> Stamp {
    let id = stamp.by.id().map(|id| ids.id(id));
    Stamp {
        at: stamp.at.trunc_subsecs(6),
        by: Actor::from_parts(stamp.by.kind(), id).unwrap_or(stamp.by),
    }
}

/// The value with the ids in it replaced.
fn moved(value: Value, ids: &Move) -> Value {
    match value {
        Value::Uuid(id) => Value::Uuid(ids.id(id)),
        Value::Json(json) => Value::Json(ids.json(json)),
        other => other,
    }
}

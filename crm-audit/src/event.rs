//! [`AuditEvent`]: what happened to one record in one commit.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use crm_core::error::codes;
use crm_core::schema::{Entity, FieldType, FieldValue, Picklist, Value, ValueRef};
use crm_core::value::ValueError;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

/// What happened to one record in one commit. When and by whom is told by the record's `created`.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "audit_event",
    table = "audit_events",
    log,
    fed,
    monthly,
    index(record_id, record_version),
    index(created_by_id, created_at),
    index(commit_id)
)]
pub struct AuditEvent {
    /// The commit.
    #[field(required)]
    pub commit_id: Uuid,
    /// What kind of event it is.
    #[field(required)]
    pub event: AuditKind,
    /// What it belongs to.
    #[field(required)]
    pub category: AuditCategory,
    /// The object.
    #[field(required, max_len = 100)]
    pub object: String,
    /// The record.
    #[field(required)]
    pub record_id: Uuid,
    /// The version that the record has after the event.
    #[field(required, min = 1)]
    pub record_version: i64,
    /// What changed, old and new.
    #[field(personal)]
    pub changes: Changes,
    /// The user's session at the host.
    #[field(max_len = 255, personal)]
    pub session_id: Option<String>,
    /// The address of the caller.
    #[field(max_len = 45, personal)]
    pub ip: Option<String>,
    /// What the caller's program says it is.
    #[field(max_len = 1000, personal)]
    pub user_agent: Option<String>,
    /// The host's endpoint.
    #[field(max_len = 500)]
    pub endpoint: Option<String>,
    /// The host's id of the request.
    pub request_id: Option<Uuid>,
    /// What the event's values are salted with where only proof of them is kept (see
    /// [`seal`](crate::seal)); gone once the event is redacted.
    #[field(personal)]
    pub salt: Option<Uuid>,
    /// What proves, once the event is redacted, that nothing else was changed in it.
    #[field(personal)]
    pub redaction: Option<Redaction>,
}

/// What is left in an event for the proof that only values were erased from it (see
/// [`erase`](crate::PrivacyService::erase)): commitments to what it said of the request, and salts of the values
/// that stay.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redaction {
    /// For each side of a change that is still there, its own salt.
    pub(crate) salts: BTreeMap<String, String>,
    /// For each field of the event that was emptied, the commitment to its value.
    pub(crate) fields: BTreeMap<String, String>,
}

/// Without the salts.
impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redaction").finish_non_exhaustive()
    }
}

impl FieldValue for Redaction {
    type Operand = Self;

    fn field_type() -> FieldType {
        FieldType::Json
    }

    fn value(&self) -> ValueRef<'_> {
        let json = serde_json::to_value(self).unwrap_or_default();
        ValueRef::Json(Cow::Owned(json))
    }

    fn from_value(value: Value) -> Result<Self, ValueError> {
        let wrong = || ValueError::new(codes::WRONG_TYPE, "the document has another form");
        let Value::Json(json) = value else {
            return Err(wrong());
        };
        serde_json::from_value(json).map_err(|_| wrong())
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum AuditKind {
    /// A record was created: every filled field has a new value.
    Create,
    /// A record was changed: every changed field has its old and its new value.
    Update,
    /// A record was deleted: every filled field has its old value, and those that changed before in the
    /// same commit also the one with which the record was deleted.
    Delete,
    /// A deleted record came back, which `deleted_at` is among the changes for, or a record was given
    /// back values of an earlier version (C-061): every changed field has its old and its new value.
    Restore,
    /// A deleted record was removed for good: every filled field has its old value.
    Purge,
    /// A record was emptied, as the person that it tells of was erased or the time to keep it was over:
    /// every emptied field has its new value, and a mask for the old one.
    Erase,
    /// A record was read where that is told, as by a person's access to what is held: no field
    /// changed, and the version is the one that was read.
    Read,
}

/// What an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum AuditCategory {
    /// Records changed.
    DataChange,
    /// Settings changed: tenants, configurations, pipelines, stages.
    Configuration,
    /// Who may do what changed: users, teams and their members.
    Authorization,
    /// Records were read that the tenant wants to know the readers of.
    DataAccess,
}

/// What changed in one field.
///
/// Secrets are masked ([`MASK`](crate::MASK)), and in the place of an erased value stands a document
/// with nothing but `erased` (see [`is_erased`](crate::is_erased)). What a record really has that looks
/// like one of them stands in a document with nothing but `verbatim`: `{"verbatim": "***"}`.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldChange {
    /// The field, such as `email`, or a member of a JSON field, such as `custom_fields.region`.
    pub field: Cow<'static, str>,
    /// The old value; none where a record was created.
    pub old: Option<Value>,
    /// The new value; none where a record was deleted.
    pub new: Option<Value>,
}

/// The changed fields of one event, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes(Vec<FieldChange>);

impl Changes {
    /// The changed fields.
    pub fn iter(&self) -> std::slice::Iter<'_, FieldChange> {
        self.0.iter()
    }

    /// The change of one field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&FieldChange> {
        self.0.iter().find(|change| change.field == name)
    }

    /// The names of the changed fields.
    #[must_use]
    pub fn fields(&self) -> Vec<&str> {
        self.0.iter().map(|change| &*change.field).collect()
    }

    /// How many fields changed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no field changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `{"email": {"old": .., "new": ..}, ..}`
    #[must_use]
    pub fn to_json(&self) -> Json {
        let members = self.0.iter().map(|change| {
            let mut sides = Map::new();
            if let Some(old) = &change.old {
                sides.insert("old".to_owned(), old.to_json());
            }
            if let Some(new) = &change.new {
                sides.insert("new".to_owned(), new.to_json());
            }
            (change.field.to_string(), Json::Object(sides))
        });
        Json::Object(members.collect())
    }
}

impl From<Vec<FieldChange>> for Changes {
    fn from(mut changes: Vec<FieldChange>) -> Self {
        // Documents come back from backends in orders of their own.
        changes.sort_unstable_by(|a, b| a.field.cmp(&b.field));
        Self(changes)
    }
}

impl<'a> IntoIterator for &'a Changes {
    type Item = &'a FieldChange;
    type IntoIter = std::slice::Iter<'a, FieldChange>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A side of a change as it is stored. A fraction stays the number that it is in the document: as a
/// decimal it would become a text when it is written again.
fn side(json: Json) -> Value {
    match json {
        Json::Number(number) if !number.is_i64() => Value::Json(Json::Number(number)),
        other => Value::from_json(other),
    }
}

/// Held as a document; the values' kinds are those that JSON has, until the schema gives them back.
impl FieldValue for Changes {
    type Operand = Self;

    fn field_type() -> FieldType {
        FieldType::Json
    }

    fn value(&self) -> ValueRef<'_> {
        ValueRef::Json(Cow::Owned(self.to_json()))
    }

    fn from_value(value: Value) -> Result<Self, ValueError> {
        let Value::Json(Json::Object(members)) = value else {
            return Err(ValueError::new(
                codes::WRONG_TYPE,
                "the document has another form",
            ));
        };
        let changes = members.into_iter().map(|(field, sides)| {
            let Json::Object(mut sides) = sides else {
                return Err(ValueError::new(
                    codes::WRONG_TYPE,
                    "the document has another form",
                ));
            };
            Ok(FieldChange {
                field: Cow::Owned(field),
                old: sides.remove("old").map(side),
                new: sides.remove("new").map(side),
            })
        });
        changes.collect::<Result<Vec<_>, _>>().map(Self::from)
    }
}

//! What a trail tells in words: [`VersionEntry`], [`ReadableChange`] and [`FieldVersion`].

use std::fmt;

use chrono::{DateTime, Utc};
use crm_core::schema::{ObjectRef, Value};
use crm_core::{Actor, Record};
use serde::Serialize;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::event::{AuditEvent, AuditKind, FieldChange};
use crate::mask::{MASK, unwrapped, verbatim};

/// One version of a record, as a list of versions shows it.
#[derive(Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct VersionEntry {
    /// The number of the version, from 1.
    pub version: i64,
    /// What made it.
    pub kind: AuditKind,
    /// When.
    pub at: DateTime<Utc>,
    /// By whom.
    pub by: Actor,
    /// The commit, whose other changes
    /// [`of_commit`](crate::AuditTrail::of_commit) tells.
    pub commit_id: Uuid,
    /// What changed against the version before.
    pub changes: Vec<ReadableChange>,
}

/// Does not show the values: they may be personal.
impl fmt::Debug for VersionEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionEntry")
            .field("version", &self.version)
            .field("kind", &self.kind)
            .field("at", &self.at)
            .field("by", &self.by)
            .field("commit_id", &self.commit_id)
            .field("changes", &self.changes)
            .finish()
    }
}

impl VersionEntry {
    pub(crate) fn of(object: Option<&ObjectRef>, event: &Record<AuditEvent>) -> Self {
        let changes = event.changes.iter();
        let changes = changes.map(|change| ReadableChange::of(object, change));
        Self {
            version: event.record_version,
            kind: event.event,
            at: event.created.at,
            by: event.created.by,
            commit_id: event.commit_id,
            changes: changes.collect(),
        }
    }
}

/// What changed in one field, as a person reads it: `Job title: Analyst → Countess`.
///
/// ```
/// # use crm_core::{Session, Result, Id, contacts::Contact};
/// # use crm_audit::AuditExt;
/// # async fn example(session: &Session, id: Id<Contact>) -> Result<()> {
/// for change in session.audit().diff(id, 1, 3).await? {
///     println!("{change}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReadableChange {
    /// The field, such as `job_title`, or a member of a document, such as `custom_fields.region`.
    pub field: String,
    /// Its name as people read it; that of a custom field is what the tenant calls it.
    pub label: String,
    /// The old value; none where the record had none.
    pub old: Option<Value>,
    /// The new value; none where the record has none.
    pub new: Option<Value>,
    /// Whether the field is sensitive, so that the trail keeps that it changed and not its values
    /// (R-063).
    pub masked: bool,
}

impl ReadableChange {
    pub(crate) fn of(object: Option<&ObjectRef>, change: &FieldChange) -> Self {
        let is_mask = |side: &Option<Value>| is_mask(side.as_ref());
        let side = |side: &Option<Value>| {
            let value = side.clone().filter(|value| !value.is_null());
            value.map(verbatim)
        };
        Self {
            field: change.field.to_string(),
            label: label_of(object, &change.field),
            old: side(&change.old),
            new: side(&change.new),
            masked: is_mask(&change.old) || is_mask(&change.new),
        }
    }

    /// The old value as text; `-` where there was none.
    #[must_use]
    pub fn old_text(&self) -> String {
        text_of(self.old.as_ref())
    }

    /// The new value as text; `-` where there is none.
    #[must_use]
    pub fn new_text(&self) -> String {
        text_of(self.new.as_ref())
    }
}

impl fmt::Display for ReadableChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} → {}",
            self.label,
            self.old_text(),
            self.new_text()
        )
    }
}

/// Does not show the values: they may be personal.
impl fmt::Debug for ReadableChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadableChange")
            .field("field", &self.field)
            .field("masked", &self.masked)
            .finish_non_exhaustive()
    }
}

/// One change of one field of a record (C-058).
#[derive(Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FieldVersion {
    /// The version of the record that has the new value.
    pub version: i64,
    /// What changed it.
    pub kind: AuditKind,
    /// When.
    pub at: DateTime<Utc>,
    /// By whom.
    pub by: Actor,
    /// The commit.
    pub commit_id: Uuid,
    /// Old and new.
    pub change: ReadableChange,
}

/// Does not show the values: they may be personal.
impl fmt::Debug for FieldVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FieldVersion")
            .field("version", &self.version)
            .field("kind", &self.kind)
            .field("at", &self.at)
            .field("by", &self.by)
            .field("change", &self.change)
            .finish_non_exhaustive()
    }
}

impl FieldVersion {
    /// What an event tells of a field, if anything; of a member of a document also where the event
    /// tells of the whole document.
    pub(crate) fn of(
        object: Option<&ObjectRef>,
        event: &Record<AuditEvent>,
        path: &str,
    ) -> Option<Self> {
        let change = match (event.changes.field(path), path.split_once('.')) {
            (Some(change), _) => change.clone(),
            (None, Some((document, member))) => {
                let whole = event.changes.field(document)?;
                let side = |side: &Option<Value>| match side {
                    Some(Value::Json(Json::Object(members))) => {
                        let document = unwrapped(members.clone());
                        let document = document.unwrap_or_else(Json::Object);
                        document.get(member).cloned().map(Value::from_json)
                    }
                    Some(value) if is_mask(Some(value)) => Some(value.clone()),
                    _ => None,
                };
                let (old, new) = (side(&whole.old), side(&whole.new));
                if old == new {
                    return None;
                }
                FieldChange {
                    field: path.to_owned().into(),
                    old,
                    new,
                }
            }
            (None, None) => return None,
        };
        Some(Self {
            version: event.record_version,
            kind: event.event,
            at: event.created.at,
            by: event.created.by,
            commit_id: event.commit_id,
            change: ReadableChange::of(object, &change),
        })
    }
}

/// How often an actor did something to the records of an object (C-104).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ActivityCount {
    /// The object.
    pub object: String,
    /// What was done.
    pub kind: AuditKind,
    /// To how many versions of records.
    pub count: u64,
    /// When it was first done in the window.
    pub first_at: Option<DateTime<Utc>>,
    /// When it was last done in the window.
    pub last_at: Option<DateTime<Utc>>,
}

/// The field that a name stands for, as events name it: the name and former names of a custom field
/// lead to its key. A name that no field has any more stays as it is.
pub(crate) fn path_of(object: Option<&ObjectRef>, name: &str) -> String {
    let Some(object) = object else {
        return name.to_owned();
    };
    let document = object.custom_document();
    let document = document.map(|document| object.field_name(document));
    let custom = match (name.split_once('.'), document) {
        (Some((given, member)), Some(document)) if given == document => object.custom_field(member),
        (None, _) if object.field_index(name).is_none() => object.custom_field(name),
        _ => None,
    };
    match (custom, document) {
        (Some(custom), Some(document)) => format!("{document}.{}", custom.key),
        _ => name.to_owned(),
    }
}

/// The name of a field as people read it.
pub(crate) fn label_of(object: Option<&ObjectRef>, path: &str) -> String {
    let Some(object) = object else {
        return path.to_owned();
    };
    if let Some((name, member)) = path.split_once('.') {
        let document = object.field_index(name);
        if document != object.custom_document() {
            let of = object.field(name).map(|field| field.label());
            return format!("{} ({member})", of.as_deref().unwrap_or(name));
        }
        let custom = object.custom_field(member);
        return custom.map_or_else(|| member.to_owned(), |custom| custom.field.label());
    }
    match object.field(path) {
        Some(field) => field.label(),
        None => path.to_owned(),
    }
}

pub(crate) fn is_mask(value: Option<&Value>) -> bool {
    matches!(value, Some(Value::Text(text)) if text == MASK)
}

fn text_of(value: Option<&Value>) -> String {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return "-".to_owned();
    };
    match value {
        Value::Boolean(true) => "yes".to_owned(),
        Value::Boolean(false) => "no".to_owned(),
        Value::List(entries) => entries.join(", "),
        other => match other.to_json() {
            serde_json::Value::String(text) => text,
            serde_json::Value::Array(items) => {
                let items = items.iter().map(|item| match item {
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                });
                items.collect::<Vec<_>>().join(", ")
            }
            json => json.to_string(),
        },
    }
}

//! [`Recorder`]: turns the changes of a commit into events.

use std::borrow::Cow;

use async_trait::async_trait;
use crm_core::engine::{CommitHook, StagedChange, UnitOfWork};
use crm_core::error::Result;
use crm_core::schema::{
    FieldSchema, Lifecycle, ObjectRef, Privacy, Row, StorageKind, Value, ValueRef, system,
};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::event::{AuditCategory, AuditEvent, AuditKind, Changes, FieldChange};
use crate::mask::{MASK, is_sensitive_name, recorded};
use crate::privacy::forget_anonymized;
use crate::removal;

/// Turns each change of a commit into one [`AuditEvent`] (R-062 to R-065). Add it to the engine as
/// the last hook.
///
/// Entries of logs, such as the stage history of deals and the events themselves, have no events.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recorder;

#[async_trait]
impl CommitHook for Recorder {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        forget_anonymized(work).await?;
        let mut events = Vec::with_capacity(work.staged().len());
        for change in work.staged() {
            if change.object().lifecycle() == Lifecycle::Full {
                events.extend(event_of(work, change));
            }
        }
        for event in events {
            work.append(event).await?;
        }
        removal::tell(work).await
    }
}

fn event_of(work: &UnitOfWork, change: &StagedChange) -> Option<AuditEvent> {
    let (before, after) = (change.before(), change.after());
    let (kind, changes, version) = match (before, after) {
        (None, Some(after)) => (AuditKind::Create, created(after), after.version()),
        (Some(before), None) => (
            AuditKind::Purge,
            filled(before, Side::Old).into(),
            before.version() + 1,
        ),
        (Some(before), Some(after)) => match (before.is_deleted(), after.is_deleted()) {
            (false, true) => (AuditKind::Delete, deleted(before, after), after.version()),
            (true, false) => (
                AuditKind::Restore,
                changes_between(before, after),
                after.version(),
            ),
            _ if work.is_erased(change.id()) || work.is_anonymization(change.id()) => (
                AuditKind::Erase,
                without_old(&changes_between(before, after)),
                after.version(),
            ),
            _ => {
                let kind = match work.is_given_back(change.id()) {
                    true => AuditKind::Restore,
                    false => AuditKind::Update,
                };
                (kind, changes_between(before, after), after.version())
            }
        },
        (None, None) => return None,
    };
    let mut event = event(work, change.object(), change.id(), kind, version);
    event.changes = changes;
    Some(event)
}

/// An event of a unit of work that tells of no change yet.
pub(crate) fn event(
    work: &UnitOfWork,
    object: &ObjectRef,
    id: Uuid,
    kind: AuditKind,
    version: i64,
) -> AuditEvent {
    let commit = work.commit_stamp();
    let mut event = AuditEvent::new(
        commit.id,
        kind,
        category(object),
        object.name(),
        id,
        version,
    );
    event.salt = Some(work.session().engine().ids().secret(commit.at));
    if let Some(context) = work.session().context() {
        event.session_id = shortened(context.session_id.as_deref(), 255);
        event.ip = context.ip.map(|ip| ip.to_string());
        event.user_agent = shortened(context.user_agent.as_deref(), 1_000);
        event.endpoint = shortened(context.endpoint.as_deref(), 500);
        event.request_id = context.request_id;
    }
    event
}

/// The changes of a record that was emptied, without what went.
fn without_old(changes: &Changes) -> Changes {
    let masked = |old: &Value| match old {
        Value::Null => Value::Null,
        _ => Value::Text(MASK.to_owned()),
    };
    let changes = changes.iter().map(|change| FieldChange {
        field: change.field.clone(),
        old: change.old.as_ref().map(masked),
        new: change.new.clone(),
    });
    changes.collect::<Vec<_>>().into()
}

/// What the request says of itself must never stop a write: too long texts are cut, what cannot be
/// stored is left out.
pub(crate) fn shortened(text: Option<&str>, max: usize) -> Option<String> {
    let text: String = text?
        .chars()
        .filter(|letter| !letter.is_control())
        .take(max)
        .collect();
    Some(text).filter(|text| !text.trim().is_empty())
}

fn category(object: &ObjectRef) -> AuditCategory {
    match object.name() {
        "tenant"
        | "tenant_configuration"
        | "pipeline"
        | "pipeline_stage"
        | "pipeline_automation_rule"
        | "territory"
        | "webhook_subscription"
        | "retention_policy"
        | "legal_hold"
        | "processing_activity" => AuditCategory::Configuration,
        "user" | "team" | "team_member" => AuditCategory::Authorization,
        _ => AuditCategory::DataChange,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Old,
    New,
}

/// What a new record is filled with. One that was archived or deleted again in the unit of work
/// that made it says so too.
fn created(after: &Row) -> Changes {
    let mut changes = filled(after, Side::New);
    for index in [system::ARCHIVED_AT, system::DELETED_AT] {
        let value = after.value(index);
        if let Some(field) = after
            .object()
            .fields()
            .get(index)
            .filter(|_| !value.is_null())
        {
            let new = Some(value.into_owned());
            changes.push(FieldChange {
                field: field.name.clone(),
                old: None,
                new,
            });
        }
    }
    changes.into()
}

/// What a record was filled with when it was deleted (R-064). What changed before in the same unit of
/// work has what it was before as its old value, and what it was when it was deleted as its new one.
fn deleted(before: &Row, after: &Row) -> Changes {
    let mut changes = filled(after, Side::Old);
    for index in after.differing(&**before).iter() {
        let Some(field) = after.object().fields().get(index) else {
            continue;
        };
        if index == system::DELETED_AT {
            continue;
        }
        changes.retain(|change| change.field != field.name);
        changes.push(FieldChange {
            field: field.name.clone(),
            old: Some(kept(field, before.value(index))),
            new: Some(kept(field, after.value(index))),
        });
    }
    changes.into()
}

/// Every filled field of a record, as its old or new values.
fn filled(row: &Row, side: Side) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    for (index, field) in row.object().fields().iter().enumerate() {
        if field.system {
            continue;
        }
        let value = row.value(index);
        let is_empty = match &value {
            ValueRef::Null => true,
            ValueRef::List(entries) => entries.is_empty(),
            ValueRef::Json(json) => matches!(&**json, Json::Object(members) if members.is_empty()),
            _ => false,
        };
        if is_empty {
            continue;
        }
        let value = Some(kept(field, value));
        let (old, new) = if side == Side::Old {
            (value, None)
        } else {
            (None, value)
        };
        changes.push(FieldChange {
            field: field.name.clone(),
            old,
            new,
        });
    }
    changes
}

/// Every field in which two versions of a record differ, JSON objects member by member, as the trail
/// keeps it: see [`FieldChange`].
///
/// ```
/// # use std::sync::Arc;
/// # use crm_core::{Actor, Record, Stamp, accounts::Account, schema::{Meta, Row}};
/// let stamp = Stamp { at: "2026-01-31T09:00:00Z".parse().unwrap(), by: Actor::System };
/// let meta = Meta::first(uuid::Uuid::from_u128(1), stamp);
/// let before: Row = Arc::new(Record::new(meta, Account::new("Globex")));
/// let after: Row = Arc::new(Record::new(meta.next(stamp), Account::new("Initech")));
/// assert_eq!(crm_audit::changes_between(&before, &after).fields(), ["name"]);
/// ```
#[must_use]
pub fn changes_between(before: &Row, after: &Row) -> Changes {
    let set = after.differing(&**before);
    let fields = after.object().fields();
    let mut changes = Vec::with_capacity(set.len());
    for index in set.iter() {
        let Some(field) = fields.get(index) else {
            continue;
        };
        // A deletion is told by the kind of the event. That a deleted record came back is told here,
        // since one that is given back an earlier version has an event of the same kind.
        if index == system::DELETED_AT && !before.is_deleted() {
            continue;
        }
        let (old, new) = (before.value(index), after.value(index));
        match (&old, &new) {
            (ValueRef::Json(was), ValueRef::Json(is))
                if field.privacy != Privacy::Sensitive
                    && was.is_object()
                    && is.is_object()
                    && field.storage_kind() == StorageKind::Json =>
            {
                members(field, was, is, &mut changes);
            }
            _ => changes.push(FieldChange {
                field: field.name.clone(),
                old: Some(kept(field, old)),
                new: Some(kept(field, new)),
            }),
        }
    }
    changes.into()
}

fn members(field: &FieldSchema, was: &Json, is: &Json, changes: &mut Vec<FieldChange>) {
    let (Json::Object(was), Json::Object(is)) = (was, is) else {
        return;
    };
    let mut names: Vec<&String> = was.keys().chain(is.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (old, new) = (was.get(name), is.get(name));
        if old == new {
            continue;
        }
        let side = |value: Option<&Json>| {
            let value = value.cloned().unwrap_or_default();
            let value = if is_sensitive_name(name) && !value.is_null() {
                Value::Text(MASK.to_owned())
            } else {
                recorded(Value::Json(value))
            };
            match value {
                // A fraction stays a number of the document: as a decimal it would become a text.
                Value::Json(Json::Number(number)) if !number.is_i64() => {
                    Value::Json(Json::Number(number))
                }
                Value::Json(json) => Value::from_json(json),
                other => other,
            }
        };
        changes.push(FieldChange {
            field: Cow::Owned(format!("{}.{name}", field.name)),
            old: Some(side(old)),
            new: Some(side(new)),
        });
    }
}

/// The value as the trail keeps it.
fn kept(field: &FieldSchema, value: ValueRef<'_>) -> Value {
    if value.is_null() {
        return Value::Null;
    }
    if field.privacy == Privacy::Sensitive || is_sensitive_name(&field.name) {
        return Value::Text(MASK.to_owned());
    }
    recorded(value.into_owned())
}

//! What is held about a person, for that person to read: Article 15 of the GDPR.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;

use chrono::{DateTime, SecondsFormat, Utc};
use crm_core::error::Result;
use crm_core::privacy::held::{Held, HeldAbout, Tie, covers};
use crm_core::schema::{
    AnyRecord, FieldSchema, FieldType, Lifecycle, ObjectRef, Privacy, Row, Value, ValueRef,
};
use crm_core::{EntityRef, Record, Session, UnitOfWork};
use serde::Serialize;
use serde_json::Value as Json;
use uuid::Uuid;

use super::html;
use super::trail;
use crate::event::{AuditEvent, AuditKind, FieldChange};
use crate::mask::{MASK, verbatim};
use crate::recorder::event;
use crate::seal::commitment::Side;

/// The name of the form, in its JSON.
const FORMAT: &str = "crm.access_export";

/// The version of the form: it rises when a member changes its meaning or goes.
const VERSION: u32 = 1;

/// How many records are read at once.
const BATCH: usize = 500;

/// Everything that is held about a person, grouped by object, with the labels of the schema. Members
/// may be added to its JSON; one that changes its meaning raises `version`.
#[derive(Clone, Serialize)]
#[non_exhaustive]
pub struct AccessExport {
    /// `crm.access_export`.
    pub format: &'static str,
    /// The version of the form.
    pub version: u32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Whom it was asked for.
    pub subject: EntityRef,
    /// The records that are this person, the subject first.
    pub persons: Vec<EntityRef>,
    /// The records, by object, those of the person first.
    pub groups: Vec<HeldGroup>,
}

/// The records of one object.
#[derive(Clone, Serialize)]
#[non_exhaustive]
pub struct HeldGroup {
    /// The object's name, such as `contact`.
    pub object: String,
    /// The name as people read it.
    pub label: String,
    /// What the object is, in a sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub help: String,
    /// The records.
    pub records: Vec<HeldRecord>,
}

/// One record.
#[derive(Clone, Serialize)]
#[non_exhaustive]
pub struct HeldRecord {
    /// The record's id.
    pub id: Uuid,
    /// Why it is held to be about the person.
    pub why: Why,
    /// When it was created; none of one that is no more.
    pub created_at: Option<DateTime<Utc>>,
    /// When it was changed last.
    pub updated_at: Option<DateTime<Utc>>,
    /// When it was deleted; it is kept until it is removed for good.
    pub deleted_at: Option<DateTime<Utc>>,
    /// Every filled field.
    pub fields: Vec<HeldField>,
    /// What the trail keeps of it, the first event first.
    pub history: Vec<HistoryEntry>,
}

/// Why a record is held to be about a person.
#[derive(Clone, Serialize)]
#[non_exhaustive]
pub struct Why {
    /// The tie in a stable text form: `person`, `part`, `about`, `trace`, `quote` or `address`.
    pub code: &'static str,
    /// The field by which it was found, such as `contact_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The same in a sentence.
    pub text: &'static str,
}

/// A filled field.
#[derive(Clone, Serialize)]
#[non_exhaustive]
pub struct HeldField {
    /// The field's name; `custom_fields.hobby` is one that the tenant added.
    pub name: String,
    /// The name as people read it.
    pub label: String,
    /// Whether it is marked as about a person.
    pub personal: bool,
    /// The value: days and moments as ISO 8601 has them, `***` for a secret.
    pub value: Json,
}

/// What happened to a record once.
#[derive(Clone, Serialize)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// When.
    pub at: DateTime<Utc>,
    /// What, such as `update`.
    pub event: String,
    /// The kind of who did it, such as `user`: who it was is somebody else's data.
    pub by: &'static str,
    /// What changed.
    pub changes: Vec<HistoryChange>,
}

/// What changed in one field.
#[derive(Clone, Serialize)]
#[non_exhaustive]
pub struct HistoryChange {
    /// The field's name.
    pub name: String,
    /// The name as people read it.
    pub label: String,
    /// The value before.
    #[serde(skip_serializing_if = "Json::is_null")]
    pub old: Json,
    /// The value after.
    #[serde(skip_serializing_if = "Json::is_null")]
    pub new: Json,
}

impl AccessExport {
    /// The export as one JSON object.
    ///
    /// ```
    /// # use crm_core::{Session, Result, Id, contacts::Contact};
    /// # use crm_audit::PrivacyExt;
    /// # async fn example(session: &Session, ada: Id<Contact>) -> Result<()> {
    /// let json = session.privacy().access_export(ada).await?.to_json();
    /// assert_eq!(json["format"], "crm.access_export");
    /// assert_eq!(json["groups"][0]["object"], "contact");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn to_json(&self) -> Json {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The export as one page of HTML that needs nothing else: no script, no picture, nothing to
    /// load.
    #[must_use]
    pub fn to_html(&self) -> String {
        html::page(self)
    }

    /// How many records there are.
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.groups.iter().map(|group| group.records.len()).sum()
    }
}

/// Counts only: the values are somebody's.
impl fmt::Debug for AccessExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessExport")
            .field("version", &self.version)
            .field("subject", &self.subject)
            .field("records", &self.record_count())
            .finish_non_exhaustive()
    }
}

macro_rules! debug_without_values {
    ($($name:ident),*) => {$(
        /// Without the values.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}

debug_without_values!(
    HeldGroup,
    HeldRecord,
    Why,
    HeldField,
    HistoryEntry,
    HistoryChange
);

/// Puts everything together that is held about a person, and tells the trail that it was read.
pub(super) async fn export(session: &Session, subject: &EntityRef) -> Result<AccessExport> {
    let mut work = session.begin();
    let found = trail::find(&work, subject).await?;
    let held = &found.held;
    let mut groups: Vec<(Tie, HeldGroup)> = Vec::new();
    let mut read = Vec::new();
    // The ties in their order, the objects in theirs within: as the search gives them.
    let mut rest = held.records.as_slice();
    while let Some(first) = rest.first() {
        let same = |one: &Held| one.object.name() == first.object.name() && one.tie == first.tie;
        let count = rest.iter().take_while(|one| same(one)).count();
        let (run, more) = rest.split_at(count.max(1));
        rest = more;
        let mut records = Vec::new();
        for batch in run.chunks(BATCH) {
            records.extend(batch_of(&work, held, batch, &mut read).await?);
        }
        groups.push((first.tie, group(&first.object, records)));
    }
    let registry = work.registry().await?;
    for record in &found.gone {
        let Some(object) = registry.any_object(&record.object) else {
            continue;
        };
        let tie = match held.persons.contains(record) {
            true => Tie::Person,
            false => Tie::Part,
        };
        let history = history(&work, held, &object, &[(record.id, tie)]).await?;
        let records: Vec<HeldRecord> = history
            .into_iter()
            .map(|(id, history)| HeldRecord {
                id,
                why: why(tie, None),
                created_at: None,
                updated_at: None,
                deleted_at: None,
                fields: Vec::new(),
                history,
            })
            .collect();
        if !records.is_empty() {
            groups.push((tie, group(&object, records)));
        }
    }
    for (record, former) in &found.former {
        let row = work.row(&former.object, record.id).await?;
        let mut history = Vec::new();
        trail::each(&work, trail::of(&record.object, &[record.id]), |page| {
            for event in page {
                let tells = |side, change: &FieldChange| {
                    former.tells(held, row.as_ref(), event, side, change)
                };
                history.extend(entry_of(&former.object, event, tells));
            }
            ControlFlow::Continue(())
        })
        .await?;
        history.sort_by_key(|entry| entry.at);
        let record = HeldRecord {
            id: record.id,
            why: why(Tie::Trace, Some(former.by.clone())),
            created_at: None,
            updated_at: None,
            deleted_at: None,
            fields: Vec::new(),
            history,
        };
        if !record.history.is_empty() {
            groups.push((Tie::Trace, group(&former.object, vec![record])));
        }
    }
    for row in &read {
        let entry = event(
            &work,
            row.object(),
            row.id(),
            AuditKind::Read,
            row.version(),
        );
        work.append_entry(entry)?;
    }
    let created_at = work.now();
    let held = found.held;
    work.commit().await?;
    Ok(AccessExport {
        format: FORMAT,
        version: VERSION,
        created_at,
        subject: subject.clone(),
        persons: held.persons,
        groups: joined(groups),
    })
}

fn group(object: &ObjectRef, records: Vec<HeldRecord>) -> HeldGroup {
    HeldGroup {
        object: object.name().to_owned(),
        label: object.label(),
        help: object.help().to_owned(),
        records,
    }
}

/// One group for each object, at the place of its closest tie.
fn joined(mut groups: Vec<(Tie, HeldGroup)>) -> Vec<HeldGroup> {
    groups.sort_by_key(|(tie, _)| *tie);
    let mut all: Vec<HeldGroup> = Vec::new();
    for (_, group) in groups {
        match all.iter_mut().find(|known| known.object == group.object) {
            Some(known) => known.records.extend(group.records),
            None => all.push(group),
        }
    }
    all
}

fn why(tie: Tie, field: Option<String>) -> Why {
    Why {
        code: tie.code(),
        field,
        text: tie.explanation(),
    }
}

/// Some records of one object.
async fn batch_of(
    work: &UnitOfWork,
    held: &HeldAbout,
    batch: &[Held],
    read: &mut Vec<Row>,
) -> Result<Vec<HeldRecord>> {
    let Some(first) = batch.first() else {
        return Ok(Vec::new());
    };
    let object = &first.object;
    let ids: Vec<Uuid> = batch.iter().map(|one| one.id).collect();
    let rows = work.rows(object, &ids).await?;
    let mut histories = match object.lifecycle() {
        Lifecycle::Full => {
            let of: Vec<(Uuid, Tie)> = batch.iter().map(|one| (one.id, one.tie)).collect();
            history(work, held, object, &of).await?
        }
        _ => BTreeMap::new(),
    };
    let mut records = Vec::new();
    for row in rows {
        let Some(one) = batch.iter().find(|one| one.id == row.id()) else {
            continue;
        };
        let meta = row.meta();
        records.push(HeldRecord {
            id: one.id,
            why: why(one.tie, one.by.clone()),
            created_at: Some(meta.created.at),
            updated_at: Some(meta.updated.at),
            deleted_at: meta.deleted_at,
            fields: fields(object, &*row, one),
            history: histories.remove(&one.id).unwrap_or_default(),
        });
        if one.tie == Tie::Person {
            read.push(row);
        }
    }
    Ok(records)
}

/// The filled fields of a record that are about the person, as far as its tie goes.
fn fields(object: &ObjectRef, row: &dyn AnyRecord, one: &Held) -> Vec<HeldField> {
    let mut fields = Vec::new();
    let document = object.custom_document();
    for (index, field) in object.fields().iter().enumerate() {
        let is_close = one.tie <= Tie::About;
        let is_found = one.by.as_deref() == Some(&*field.name);
        let is_trace = one.tie == Tie::Trace && field.privacy != Privacy::Public;
        let is_custom = Some(index) == document && object.custom().is_some();
        if let Some(by) = one
            .by
            .as_deref()
            .filter(|_| is_custom && !is_close && !is_trace)
        {
            // Of what the tenant added, only what it was found by.
            let custom = custom_fields(object, row, index).into_iter();
            fields.extend(custom.filter(|field| field.name == by));
            continue;
        }
        if field.system || !(is_close || is_found || is_trace) {
            continue;
        }
        if is_custom {
            fields.extend(custom_fields(object, row, index));
            continue;
        }
        let value = row.value(index);
        if !is_empty(&value) {
            fields.push(held_field(
                field,
                field.name.to_string(),
                value.into_owned(),
            ));
        }
    }
    fields
}

/// The custom values of a record under the names of their definitions; those without one too.
fn custom_fields(object: &ObjectRef, row: &dyn AnyRecord, document: usize) -> Vec<HeldField> {
    let Value::Json(Json::Object(mut members)) = row.value(document).into_owned() else {
        return Vec::new();
    };
    let mut fields = Vec::new();
    let path = object.field_name(document);
    for custom in object.custom_fields() {
        let value = members.remove(&*custom.key).unwrap_or_default();
        if !value.is_null() {
            let name = format!("{path}.{}", custom.field.name);
            fields.push(held_field(&custom.field, name, Value::Json(value)));
        }
    }
    for (name, value) in members {
        let field = FieldSchema::new(name.clone(), FieldType::Json);
        fields.push(held_field(
            &field,
            format!("{path}.{name}"),
            Value::Json(value),
        ));
    }
    fields
}

fn held_field(field: &FieldSchema, name: String, value: Value) -> HeldField {
    // What is the person's own is told, by whatever name; the trail has no such values.
    let value = match field.privacy == Privacy::Sensitive {
        true => Json::String(MASK.to_owned()),
        false => value.to_json(),
    };
    HeldField {
        name,
        label: field.label(),
        personal: field.privacy != Privacy::Public,
        value,
    }
}

fn is_empty(value: &ValueRef<'_>) -> bool {
    match value {
        ValueRef::Null => true,
        ValueRef::List(entries) => entries.is_empty(),
        ValueRef::Json(json) => match &**json {
            Json::Object(members) => members.is_empty(),
            Json::Array(items) => items.is_empty(),
            other => other.is_null(),
        },
        _ => false,
    }
}

/// What the trail keeps of records that is about the person.
async fn history(
    work: &UnitOfWork,
    held: &HeldAbout,
    object: &ObjectRef,
    records: &[(Uuid, Tie)],
) -> Result<BTreeMap<Uuid, Vec<HistoryEntry>>> {
    let ids: Vec<Uuid> = records.iter().map(|(id, _)| *id).collect();
    let ties: BTreeMap<Uuid, Tie> = records.iter().copied().collect();
    let mut histories: BTreeMap<Uuid, Vec<(i64, HistoryEntry)>> = BTreeMap::new();
    trail::each(work, trail::of(object.name(), &ids), |page| {
        for event in page {
            let tie = ties.get(&event.record_id).copied().unwrap_or(Tie::Trace);
            let entry = HistoryEntry {
                at: event.created.at,
                event: event.event.to_string(),
                by: event.created.by.kind(),
                changes: changes(held, object, tie, event),
            };
            let of_record = histories.entry(event.record_id).or_default();
            of_record.push((event.record_version, entry));
        }
        ControlFlow::Continue(())
    })
    .await?;
    let in_order = |(id, mut entries): (Uuid, Vec<(i64, HistoryEntry)>)| {
        entries.sort_by_key(|(version, entry)| (*version, entry.at));
        (id, entries.into_iter().map(|(_, entry)| entry).collect())
    };
    Ok(histories.into_iter().map(in_order).collect())
}

fn changes(
    held: &HeldAbout,
    object: &ObjectRef,
    tie: Tie,
    event: &AuditEvent,
) -> Vec<HistoryChange> {
    let json = |value: &Option<Value>| {
        let value = value.clone().map(verbatim);
        value.as_ref().map(Value::to_json).unwrap_or_default()
    };
    let is_about = |old: &Json, new: &Json| {
        let quotes = |json| crm_core::privacy::held::quotes(json, &held.addresses, &held.persons);
        quotes(old) || quotes(new)
    };
    let mut changes = Vec::new();
    for change in &event.changes {
        let (old, new) = (json(&change.old), json(&change.new));
        let is_told = match tie {
            Tie::Person | Tie::Part | Tie::About => true,
            Tie::Trace => covers(object, tie, &change.field),
            Tie::Quote | Tie::Address => is_about(&old, &new),
        };
        if is_told {
            changes.push(HistoryChange {
                name: change.field.to_string(),
                label: label(object, &change.field),
                old,
                new,
            });
        }
    }
    changes
}

/// What an event tells of values that are the person's; nothing where there are none.
fn entry_of(
    object: &ObjectRef,
    event: &Record<AuditEvent>,
    tells: impl Fn(Side, &FieldChange) -> bool,
) -> Option<HistoryEntry> {
    let told = |side: Side, change: &FieldChange| {
        let value = side.of(change).filter(|_| tells(side, change));
        let value = value.cloned().map(verbatim);
        value.as_ref().map(Value::to_json).unwrap_or_default()
    };
    let mut changes = Vec::new();
    for change in &event.changes {
        let (old, new) = (told(Side::Old, change), told(Side::New, change));
        if !old.is_null() || !new.is_null() {
            changes.push(HistoryChange {
                name: change.field.to_string(),
                label: label(object, &change.field),
                old,
                new,
            });
        }
    }
    (!changes.is_empty()).then(|| HistoryEntry {
        at: event.created.at,
        event: event.event.to_string(),
        by: event.created.by.kind(),
        changes,
    })
}

/// The name of a changed field as people read it.
fn label(object: &ObjectRef, path: &str) -> String {
    let (name, member) = match path.split_once('.') {
        Some((name, member)) => (name, Some(member)),
        None => (path, None),
    };
    let custom = member.and_then(|member| object.custom_field(member));
    match (custom, member) {
        (Some(custom), _) => custom.field.label(),
        (None, Some(member)) => member.to_owned(),
        (None, None) => match object.field(name) {
            Some(field) => field.label(),
            None => name.to_owned(),
        },
    }
}

/// A moment as people and machines read it.
pub(super) fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

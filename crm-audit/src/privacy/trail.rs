//! What only the audit trail knows of a person.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use crm_core::engine::UnitOfWork;
use crm_core::error::{Error, Result};
use crm_core::identity::User;
use crm_core::privacy::held::{
    AddressPlace, Clues, Held, HeldAbout, Tie, covers, held_about, is_address_of, is_person,
    persons,
};
use crm_core::query::{Condition, FieldAt, Query};
use crm_core::schema::{
    Entity, FieldSchema, FieldType, Lifecycle, ObjectRef, OnDelete, Row, Value, ValueRef,
};
use crm_core::{EntityRef, Record};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::archive;
use crate::event::{AuditEvent, AuditKind, FieldChange};
use crate::seal::commitment::Side;
use crate::streams::AuthEvent;

/// How many events are looked at, and changed, at once.
pub(super) const PAGE: usize = 500;

/// Everything about a person, with what the trail adds.
pub(super) struct Found {
    pub(super) held: HeldAbout,
    /// Records about the person that were removed for good: only their events are left.
    pub(super) gone: BTreeSet<EntityRef>,
    /// Records that were about the person once, and are about somebody else now.
    pub(super) former: BTreeMap<EntityRef, Former>,
}

/// How far the events of a record tell of a person whom the record tells of no more.
pub(super) struct Former {
    pub(super) object: ObjectRef,
    /// The version in which it was led away from the person, or lost the address.
    pub(super) until: i64,
    /// The field that led to the person or held the address.
    pub(super) by: String,
    /// Whether all texts of former versions are about the person, and not the address alone.
    pub(super) is_whole: bool,
    addresses: AddressPaths,
}

impl Former {
    /// Whether a value that an event tells was about the person. What the record holds still is not
    /// taken from its history: it is the other's.
    pub(super) fn tells(
        &self,
        held: &HeldAbout,
        current: Option<&Row>,
        event: &AuditEvent,
        side: Side,
        change: &FieldChange,
    ) -> bool {
        let Some(value) = side.of(change) else {
            return false;
        };
        let is_before = match side {
            Side::Old => event.record_version <= self.until,
            Side::New => event.record_version < self.until,
        };
        let has_address = || {
            let texts = self.addresses.texts(&change.field, value);
            texts.iter().any(|text| is_one_of(text, &held.addresses))
        };
        let is_about = match self.is_whole {
            true => covers(&self.object, Tie::About, &change.field),
            false => has_address(),
        };
        is_before && is_about && !self.holds(current, &change.field, value)
    }

    /// Whether a record holds a value still: of a document all that may tell of anybody.
    fn holds(&self, current: Option<&Row>, path: &str, value: &Value) -> bool {
        let (name, member) = match path.split_once('.') {
            Some((name, member)) => (name, Some(member)),
            None => (path, None),
        };
        let now = current
            .map(|row| row.get(name).to_json())
            .unwrap_or_default();
        let was = value.to_json();
        match (member, &was, &now) {
            (Some(member), was, now) => now.get(member).unwrap_or(&Json::Null) == was,
            (None, Json::Object(was), Json::Object(now)) if name == self.addresses.document => {
                let mut members = was.iter();
                members.all(|(key, value)| {
                    let is_kept = now.get(key) == Some(value);
                    is_kept || !covers(&self.object, Tie::About, &format!("{name}.{key}"))
                })
            }
            (None, was, now) => was == now,
        }
    }
}

fn is_one_of(address: &str, addresses: &BTreeSet<String>) -> bool {
    is_address_of(&ValueRef::Text(address), addresses)
}

/// Finds everything about a person.
///
/// # Errors
/// [`Error::NotFound`] where there is neither a record nor an event of it.
pub(super) async fn find(work: &UnitOfWork, subject: &EntityRef) -> Result<Found> {
    let persons = persons(work, subject).await?;
    let mut clues = Clues {
        except: archive::places()
            .map(|place| place.name().to_owned())
            .to_vec(),
        places: vec![sign_ins()],
        ..Clues::default()
    };
    let mut is_known = false;
    let mut ends = BTreeSet::new();
    for person in &persons {
        let addresses = address_paths(work, &person.object).await?;
        each(work, of(&person.object, &[person.id]), |page| {
            is_known |= !page.is_empty();
            for event in page {
                if matches!(event.event, AuditKind::Delete | AuditKind::Purge) {
                    ends.insert(event.commit_id);
                }
                for change in &event.changes {
                    let values = [&change.old, &change.new].into_iter().flatten();
                    for text in values.flat_map(|value| addresses.texts(&change.field, value)) {
                        if text.contains('@') {
                            clues.add_address(text);
                        }
                    }
                }
            }
            ControlFlow::Continue(())
        })
        .await?;
    }
    for commit in ends {
        each(work, equals("commit_id", Value::Uuid(commit)), |page| {
            for event in page {
                if persons.iter().any(|person| lost(event, person)) {
                    clues.about.push(record_of(event));
                }
            }
            ControlFlow::Continue(())
        })
        .await?;
    }
    let held = held_about(work, persons, &clues).await?;
    if !is_known && held.records.is_empty() {
        return Err(Error::NotFound {
            object: subject.object.clone(),
            id: subject.id,
        });
    }
    let gone = gone(work, &held).await?;
    let former = former(work, &held, &gone).await?;
    Ok(Found { held, gone, former })
}

/// Where somebody who is no user tried to sign in.
fn sign_ins() -> AddressPlace {
    let object = AuthEvent::schema();
    let place = |name: &str| object.field_index(name).unwrap_or(usize::MAX);
    AddressPlace {
        object: object.clone(),
        field: place(&AuthEvent::LOGIN.name()),
        among: Condition::Null {
            field: FieldAt::new(place(&AuthEvent::USER_ID.name())),
            is_null: true,
        },
    }
}

/// The records that were led away from the person, or had an address of the person, and are about
/// nobody of these now. All changes of objects that may lead to a person are looked at: which values
/// they replaced is in no index.
async fn former(
    work: &UnitOfWork,
    held: &HeldAbout,
    gone: &BTreeSet<EntityRef>,
) -> Result<BTreeMap<EntityRef, Former>> {
    let registry = work.registry().await?;
    let mut objects = BTreeMap::new();
    for (name, object) in registry.all_objects().iter() {
        let object = registry.described(object);
        let addresses = AddressPaths::of(&object);
        let leads = object.references().iter().any(|index| {
            let target = object.fields().get(*index).and_then(FieldSchema::reference);
            target.is_some_and(|(target, _)| is_person(target))
        });
        let leads = leads
            || !object.record_links().is_empty()
            || object
                .custom_references()
                .any(|(_, target, _)| is_person(target));
        let is_looked_into = object.lifecycle() == Lifecycle::Full
            && !object.is_template()
            && name != User::schema().name();
        if is_looked_into && (leads || !addresses.is_empty()) {
            objects.insert(name.clone(), object);
        }
    }
    let known: BTreeSet<EntityRef> = held.records.iter().map(Held::record).collect();
    let persons: BTreeSet<Uuid> = held.persons.iter().map(|person| person.id).collect();
    let of_objects = Condition::In {
        field: field("object"),
        values: objects.keys().cloned().map(Value::Text).collect(),
    };
    let kinds = [AuditKind::Update, AuditKind::Restore].map(|kind| Value::Text(kind.to_string()));
    let changed = Condition::In {
        field: field("event"),
        values: kinds.to_vec(),
    };
    let mut former: BTreeMap<EntityRef, Former> = BTreeMap::new();
    each(work, of_objects.and(changed), |page| {
        for event in page {
            let record = record_of(event);
            let Some(object) = objects.get(&event.object) else {
                continue;
            };
            if known.contains(&record) || gone.contains(&record) {
                continue;
            }
            let addresses = AddressPaths::of(object);
            for change in &event.changes {
                let Some(old) = &change.old else { continue };
                let leads = id_in(Some(old)).is_some_and(|id| persons.contains(&id));
                let texts = addresses.texts(&change.field, old);
                let is_address = texts.iter().any(|text| is_one_of(text, &held.addresses));
                if !leads && !is_address {
                    continue;
                }
                let is_whole = !is_person(object.name())
                    && (leads || object.template().is_some() || is_part(object));
                let one = former.entry(record.clone()).or_insert_with(|| Former {
                    object: object.clone(),
                    until: event.record_version,
                    by: change.field.to_string(),
                    is_whole,
                    addresses: AddressPaths::of(object),
                });
                one.until = one.until.max(event.record_version);
                one.is_whole |= is_whole;
            }
        }
        ControlFlow::Continue(())
    })
    .await?;
    Ok(former)
}

/// Whether records of an object belong to another one, as participants do to their activity.
fn is_part(object: &ObjectRef) -> bool {
    object.references().iter().any(|index| {
        let field = object.fields().get(*index);
        let on_delete = field.and_then(|field| Some(field.reference()?.1));
        on_delete == Some(OnDelete::Cascade) && field.is_some_and(|field| field.required)
    })
}

/// The records about a person that were removed for good, the person's own among them: those whose
/// last event leads to a record about the person, or to one of these.
async fn gone(work: &UnitOfWork, held: &HeldAbout) -> Result<BTreeSet<EntityRef>> {
    let registry = work.registry().await?;
    let there: BTreeSet<EntityRef> = held.records.iter().map(Held::record).collect();
    let is_close = |one: &&Held| one.tie <= Tie::About;
    let close = held.records.iter().filter(is_close).map(|one| one.id);
    let persons = held.persons.iter().map(|person| person.id);
    let mut about: BTreeSet<Uuid> = close.chain(persons).collect();
    let mut gone: BTreeSet<EntityRef> = held.persons.iter().cloned().collect();
    loop {
        let before = gone.len();
        let purge = Value::Text(AuditKind::Purge.to_string());
        each(work, equals("event", purge), |page| {
            for event in page {
                let object = registry.any_object(&event.object);
                let is_about = event.changes.iter().any(|change| {
                    let old = change.old.as_ref();
                    id_in(old).is_some_and(|id| about.contains(&id))
                        || old.is_some_and(|old| is_address_of(&old.as_ref(), &held.addresses))
                });
                if is_about
                    && !is_person(&event.object)
                    && !names_somebody_else(event, object.as_ref(), held)
                {
                    gone.insert(record_of(event));
                    about.insert(event.record_id);
                }
            }
            ControlFlow::Continue(())
        })
        .await?;
        if gone.len() == before {
            break;
        }
    }
    gone.retain(|record| !there.contains(record));
    Ok(gone)
}

/// The id that a value of an event is: documents keep it as a text.
fn id_in(value: Option<&Value>) -> Option<Uuid> {
    match value? {
        Value::Uuid(id) => Some(*id),
        Value::Text(text) => Uuid::try_parse(text).ok(),
        _ => None,
    }
}

/// Whether a record that is no more was tied to another person, as a guest is.
fn names_somebody_else(event: &AuditEvent, object: Option<&ObjectRef>, held: &HeldAbout) -> bool {
    let Some(object) = object else { return false };
    let (mut names_another, mut has_address, mut is_internal) = (false, false, false);
    for change in &event.changes {
        let (Some(field), Some(old)) = (object.field(&change.field), &change.old) else {
            continue;
        };
        if let Some((target, _)) = field.reference()
            && let Some(id) = id_in(Some(old))
        {
            let is_same = |one: &EntityRef| one.id == id && one.object == target;
            names_another |= is_person(target) && !held.persons.iter().any(is_same);
            is_internal |= target == User::schema().name();
        }
        let is_another = !is_address_of(&old.as_ref(), &held.addresses);
        has_address |= field.field_type == FieldType::Email && !old.is_null() && is_another;
    }
    names_another || has_address && !is_internal
}

fn record_of(event: &AuditEvent) -> EntityRef {
    EntityRef::new(&*event.object, event.record_id)
}

/// Whether a record lost its reference to a person.
fn lost(event: &AuditEvent, person: &EntityRef) -> bool {
    let mut changes = event.changes.iter();
    event.record_id != person.id
        && changes.any(|change| id_in(change.old.as_ref()) == Some(person.id))
}

/// Where an object holds e-mail addresses: paths as events tell them.
#[derive(Default)]
pub(super) struct AddressPaths {
    own: BTreeSet<String>,
    /// The document with the tenant's own fields, and its members that hold addresses.
    document: String,
    members: BTreeSet<String>,
}

impl AddressPaths {
    pub(super) fn of(object: &ObjectRef) -> Self {
        let is_address = |field: &FieldSchema| field.field_type == FieldType::Email;
        let own = object.fields().iter().filter(|field| is_address(field));
        let custom = object.custom_fields().iter();
        let custom = custom.filter(|custom| is_address(&custom.field));
        let document = object.custom_document();
        Self {
            own: own.map(|field| field.name.to_string()).collect(),
            document: document.map_or_else(String::new, |at| object.field_name(at).to_owned()),
            members: custom.map(|custom| custom.key.to_string()).collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.members.is_empty()
    }

    /// The addresses in a value that an event tells at a path: of a field, or of all that the tenant
    /// added at once.
    pub(super) fn texts<'v>(&self, path: &str, value: &'v Value) -> Vec<&'v str> {
        let member = path.split_once('.');
        let is_member =
            member.is_some_and(|(name, key)| name == self.document && self.members.contains(key));
        match value {
            Value::Text(text) if is_member || self.own.contains(path) => vec![text],
            Value::Json(Json::String(text)) if is_member => vec![text],
            Value::Json(Json::Object(members)) if path == self.document => {
                let held = members
                    .iter()
                    .filter(|(key, _)| self.members.contains(*key));
                held.filter_map(|(_, value)| value.as_str()).collect()
            }
            _ => Vec::new(),
        }
    }
}

async fn address_paths(work: &UnitOfWork, object: &str) -> Result<AddressPaths> {
    let registry = work.registry().await?;
    let object = registry.any_object(object);
    let object = object.map(|object| registry.described(&object));
    Ok(object.as_ref().map(AddressPaths::of).unwrap_or_default())
}

fn field(name: &str) -> FieldAt {
    let index = AuditEvent::schema().field_index(name);
    FieldAt::new(index.unwrap_or(usize::MAX))
}

fn equals(name: &str, value: Value) -> Condition {
    Condition::In {
        field: field(name),
        values: vec![value],
    }
}

/// The events of records of one object.
pub(super) fn of(object: &str, ids: &[Uuid]) -> Condition {
    let records = Condition::In {
        field: field("record_id"),
        values: ids.iter().copied().map(Value::Uuid).collect(),
    };
    records.and(equals("object", Value::Text(object.to_owned())))
}

/// One page of events, archived ones too, by id, behind the one with the id `after`.
pub(super) async fn page(
    work: &UnitOfWork,
    condition: Condition,
    after: Option<Uuid>,
) -> Result<Vec<Arc<Record<AuditEvent>>>> {
    let mut events = Vec::new();
    for place in archive::places() {
        let mut query = Query::new(place, condition.clone()).limit(PAGE);
        query.after = after.map(|id| vec![Value::Uuid(id)]);
        let rows = work.select(&query).await?.into_iter();
        events.extend(rows.filter_map(archive::event_of));
    }
    events.sort_unstable_by_key(|event| event.id);
    events.truncate(PAGE);
    Ok(events)
}

/// Hands over events in pages, until it is told to stop.
pub(super) async fn each(
    work: &UnitOfWork,
    condition: Condition,
    mut take: impl FnMut(&[Arc<Record<AuditEvent>>]) -> ControlFlow<()> + Send,
) -> Result<()> {
    let mut after = None;
    loop {
        let events = page(work, condition.clone(), after).await?;
        after = events.last().map(|event| event.id.uuid());
        if take(&events).is_break() || events.len() < PAGE {
            return Ok(());
        }
    }
}

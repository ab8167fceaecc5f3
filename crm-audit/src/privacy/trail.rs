//! What only the audit trail knows of a person.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use crm_core::engine::UnitOfWork;
use crm_core::error::{Error, Result};
use crm_core::identity::User;
use crm_core::privacy::held::{
    Clues, Held, HeldAbout, Tie, held_about, is_address_of, is_person, persons,
};
use crm_core::query::{Condition, FieldAt, Query};
use crm_core::schema::{Entity, FieldType, ObjectRef, Value};
use crm_core::{EntityRef, Record};
use uuid::Uuid;

use crate::archive;
use crate::event::{AuditEvent, AuditKind};

/// How many events are looked at, and changed, at once.
pub(super) const PAGE: usize = 500;

/// Everything about a person, with what the trail adds.
pub(super) struct Found {
    pub(super) held: HeldAbout,
    /// Records about the person that were removed for good: only their events are left.
    pub(super) gone: BTreeSet<EntityRef>,
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
        ..Clues::default()
    };
    let mut is_known = false;
    let mut ends = BTreeSet::new();
    for person in &persons {
        let addresses = address_fields(work, &person.object).await?;
        each(work, of(&person.object, &[person.id]), |page| {
            is_known |= !page.is_empty();
            for event in page {
                if matches!(event.event, AuditKind::Delete | AuditKind::Purge) {
                    ends.insert(event.commit_id);
                }
                let changes = event.changes.iter();
                for change in changes.filter(|change| addresses.contains(&*change.field)) {
                    let texts = [&change.old, &change.new];
                    let texts = texts.into_iter().flatten();
                    for text in
                        texts.filter_map(|value| value.as_ref().as_text().map(str::to_owned))
                    {
                        if text.contains('@') {
                            clues.add_address(&text);
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
    Ok(Found { held, gone })
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

/// The fields of an object that hold e-mail addresses.
async fn address_fields(work: &UnitOfWork, object: &str) -> Result<BTreeSet<String>> {
    let object = work.registry().await?.any_object(object);
    let fields = object.iter().flat_map(|object| object.fields());
    let addresses = fields.filter(|field| field.field_type == FieldType::Email);
    Ok(addresses.map(|field| field.name.to_string()).collect())
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

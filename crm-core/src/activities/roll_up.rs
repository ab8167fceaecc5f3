//! What linked records know of their activities: when something was last done, and what is next.
//!
//! | field | is |
//! |---|---|
//! | `last_activity_at` | the latest completion of an activity |
//! | `next_activity_at` | the earliest [moment](Activity::moment) of an open activity, also when that is past; archived ones are out of the way |
//! | `last_contacted_at` | the latest completion of a call, an e-mail or a meeting |
//!
//! Only an activity's own links count: an activity with a contact is none with the contact's
//! account, unless it is linked to that too. Which of the fields an object has is told by its schema:
//! records of custom objects have the first two, and those of a host's object may. They change with the
//! activity, in its commit, as ordinary changes of the linked record: its
//! version rises and its audit trail tells of it.
//!
//! A commit that counts something in could go unnoticed by another that at the same time works the
//! value out anew, because the latest activity was deleted. So each record with activities has an
//! [`ActivityRollUp`], which every commit that changes what counts writes: of two at the same time,
//! one is a conflict and runs again. It holds the values too, so the record itself is only read
//! when they change.

mod rebuild;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::lists::is_open;
use super::{Activity, ActivityLinks, ActivityStatus, ActivityType};
use crate::EntityRef;
use crate::engine::{Records, UnitOfWork, in_work};
use crate::error::{Error, Result};
use crate::query::{Condition, Query, SortKey, Where, WhereExt};
use crate::record::Record;
use crate::schema::{AnyRecord, Entity, FieldOf, ObjectRef, Registry, Row, Value};

pub use rebuild::RollUpsRebuilt;

/// The kinds of activity by which a person is contacted.
const CONTACTS: [ActivityType; 3] = [
    ActivityType::Call,
    ActivityType::Email,
    ActivityType::Meeting,
];

/// What is known of the activities of one record, whose id it has. The engine keeps it.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "activity_roll_up", table = "activity_roll_ups", derived)]
pub struct ActivityRollUp {
    /// The object of the record.
    #[field(required, max_len = 100)]
    pub object: String,
    /// When something was last done.
    pub last_activity_at: Option<DateTime<Utc>>,
    /// When something is planned next.
    pub next_activity_at: Option<DateTime<Utc>>,
    /// When the person was last contacted.
    pub last_contacted_at: Option<DateTime<Utc>>,
}

/// What one activity, or several, say of the records that they are linked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contribution {
    /// The latest completion.
    pub last: Option<DateTime<Utc>>,
    /// The earliest moment that is planned.
    pub next: Option<DateTime<Utc>>,
    /// The latest completion of what contacts a person.
    pub contacted: Option<DateTime<Utc>>,
}

impl Contribution {
    /// What an activity says.
    #[must_use]
    pub fn of(activity: &Record<Activity>) -> Self {
        if activity.deleted_at.is_some() {
            return Self::default();
        }
        let last = activity
            .completed_at
            .filter(|_| activity.status == ActivityStatus::Completed);
        let is_planned = !activity.status.is_finished() && activity.archived_at.is_none();
        Self {
            last,
            next: activity.moment().filter(|_| is_planned),
            contacted: last.filter(|_| CONTACTS.contains(&activity.activity_type)),
        }
    }

    /// What two say together.
    ///
    /// ```
    /// use crm_core::activities::roll_up::Contribution;
    ///
    /// let at = |text: &str| Some(text.parse().unwrap());
    /// let one = Contribution { last: at("2026-01-01T00:00:00Z"), ..Contribution::default() };
    /// let two = Contribution { last: at("2026-02-01T00:00:00Z"), ..Contribution::default() };
    /// assert_eq!(one.and(two).last, two.last);
    /// ```
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            last: self.last.max(other.last),
            next: earlier(self.next, other.next),
            contacted: self.contacted.max(other.contacted),
        }
    }
}

/// The earlier of two moments, where there is one.
fn earlier(one: Option<DateTime<Utc>>, other: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What a commit changes for one record: what is no more, and what is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Difference {
    removed: Contribution,
    added: Contribution,
    /// Nothing of what was known holds any more.
    is_unknown: bool,
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It is this.
    Known(Option<DateTime<Utc>>),
    /// The value itself was taken away: only the activities can tell.
    Lost,
}

/// What becomes of the greatest value, or with `rank` turned around of the least.
fn follow(
    stored: Option<DateTime<Utc>>,
    removed: Option<DateTime<Utc>>,
    added: Option<DateTime<Utc>>,
    wins: impl Fn(DateTime<Utc>, DateTime<Utc>) -> bool,
) -> Next {
    let is_lost = match (stored, removed) {
        (Some(stored), Some(removed)) => !wins(stored, removed),
        _ => false,
    };
    match (stored, added) {
        (Some(stored), Some(added)) if added == stored || wins(added, stored) => {
            Next::Known(Some(added))
        }
        (None, added) => Next::Known(added),
        (Some(_), _) if is_lost => Next::Lost,
        (stored, _) => Next::Known(stored),
    }
}

/// Whether records of an object know of their activities.
fn keeps(object: &ObjectRef) -> bool {
    let name = ActivityRollUp::NEXT_ACTIVITY_AT.name();
    let wanted = ActivityRollUp::schema().field(&name);
    ActivityLinks::objects().any(|linked| linked == object)
        || object
            .field(&name)
            .zip(wanted)
            .is_some_and(|(own, wanted)| own.read_only && own.field_type == wanted.field_type)
}

/// Brings what linked records know of their activities in step with the changes of the commit.
pub(super) async fn follow_activities(work: &mut UnitOfWork) -> Result<()> {
    let registry = work.registry().await?;
    let Differences { linked, purged } = differences(work, &registry);
    if !purged.is_empty() {
        for row in work.rows(ActivityRollUp::schema(), &purged).await? {
            work.remove(&row);
        }
    }
    if linked.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = linked.keys().map(|(_, id)| *id).collect();
    let mut known: BTreeMap<Uuid, Row> = work
        .rows(ActivityRollUp::schema(), &ids)
        .await?
        .into_iter()
        .map(|row| (row.id(), row))
        .collect();
    let mut outdated: BTreeMap<String, Vec<(Uuid, Contribution)>> = BTreeMap::new();
    for ((name, id), (object, difference)) in linked {
        let before = known.remove(&id);
        let stored = before
            .clone()
            .and_then(Record::<ActivityRollUp>::from_row)
            .map(|record| values(&record))
            .unwrap_or_default();
        let values = if difference.is_unknown {
            from_scratch(work, &object, id).await?
        } else {
            after(work, &object, id, stored, difference).await?
        };
        if before.is_none() {
            work.contend("activity_roll_up", &["id"]);
        }
        let is_new = values != stored || difference.is_unknown;
        work.keep_derived(id, before, entry(object.name(), values));
        if is_new {
            outdated.entry(name).or_default().push((id, values));
        }
    }
    for (name, records) in outdated {
        let Some(object) = registry.any_object(&name) else {
            continue;
        };
        let ids: Vec<Uuid> = records.iter().map(|(id, _)| *id).collect();
        let rows = work.rows(&object, &ids).await?;
        let mut values: BTreeMap<Uuid, Contribution> = records.into_iter().collect();
        for row in rows {
            if let Some(values) = values.remove(&row.id())
                && !row.is_deleted()
            {
                write(work, row, values).await?;
            }
        }
    }
    Ok(())
}

type Linked = BTreeMap<(String, Uuid), (ObjectRef, Difference)>;

/// What a commit means for the records that activities are linked to.
#[derive(Default)]
struct Differences {
    /// Those whose activities change and that are not deleted.
    linked: Linked,
    /// Those that are removed for good.
    purged: Vec<Uuid>,
}

/// What the staged changes mean for each linked record.
fn differences(work: &UnitOfWork, registry: &Registry) -> Differences {
    let mut all = Differences::default();
    let mut gone = BTreeSet::new();
    for change in work.staged() {
        let object = change.object();
        if object == Activity::schema() {
            let before = change.before().cloned().and_then(Record::from_row);
            let after = change.after().cloned().and_then(Record::from_row);
            count(
                &mut all.linked,
                registry,
                before.as_deref(),
                after.as_deref(),
            );
            continue;
        }
        let was_deleted = change.before().is_some_and(|row| row.is_deleted());
        let is_gone = change.after().is_none_or(|row| row.is_deleted());
        // Most records neither come nor go back.
        if !(was_deleted || is_gone) || !keeps(object) {
            continue;
        }
        let key = (object.name().to_owned(), change.id());
        if change.after().is_none() {
            all.purged.push(change.id());
        }
        if is_gone {
            gone.insert(key);
        } else {
            // What happened to its activities while it was deleted was not written down.
            let entry = all.linked.entry(key);
            let entry = entry.or_insert_with(|| (object.clone(), Difference::default()));
            entry.1.is_unknown = true;
        }
    }
    all.linked.retain(|key, _| !gone.contains(key));
    all
}

/// Counts what one activity says after a change and no more says.
fn count(
    all: &mut Linked,
    registry: &Registry,
    before: Option<&Record<Activity>>,
    after: Option<&Record<Activity>>,
) {
    let said = before.map(Contribution::of).unwrap_or_default();
    let says = after.map(Contribution::of).unwrap_or_default();
    let links = |activity: Option<&Record<Activity>>| -> Vec<(ObjectRef, Uuid)> {
        let Some(activity) = activity else {
            return Vec::new();
        };
        let own = activity.links.records();
        let own = own.map(|(object, id)| (object.clone(), id));
        let related = activity.links.related().and_then(|related| {
            let object = registry.any_object(&related.object)?;
            keeps(&object).then_some((object, related.id))
        });
        own.chain(related).collect()
    };
    let (linked, links) = (links(before), links(after));
    let nothing = Contribution::default();
    let mut add = |object: &ObjectRef, id: Uuid, removed, added| {
        if removed == added {
            return;
        }
        let key = (object.name().to_owned(), id);
        let entry = all.entry(key);
        let (_, difference) = entry.or_insert_with(|| (object.clone(), Difference::default()));
        difference.removed = difference.removed.and(removed);
        difference.added = difference.added.and(added);
    };
    for link in &linked {
        let stays = if links.contains(link) { says } else { nothing };
        add(&link.0, link.1, said, stays);
    }
    for link in links.iter().filter(|link| !linked.contains(link)) {
        add(&link.0, link.1, nothing, says);
    }
}

/// The values after a difference; asks for the activities only where a value was taken away.
async fn after(
    work: &UnitOfWork,
    object: &ObjectRef,
    id: Uuid,
    stored: Contribution,
    difference: Difference,
) -> Result<Contribution> {
    let Difference { removed, added, .. } = difference;
    let later = |one: DateTime<Utc>, other: DateTime<Utc>| one > other;
    let earlier = |one: DateTime<Utc>, other: DateTime<Utc>| one < other;
    Ok(Contribution {
        last: match follow(stored.last, removed.last, added.last, later) {
            Next::Known(value) => value,
            Next::Lost => last(work, object, id, None).await?,
        },
        next: match follow(stored.next, removed.next, added.next, earlier) {
            Next::Known(value) => value,
            Next::Lost => next(work, object, id).await?,
        },
        contacted: match follow(stored.contacted, removed.contacted, added.contacted, later) {
            Next::Known(value) => value,
            Next::Lost => last(work, object, id, Some(contacts())).await?,
        },
    })
}

/// What the activities of a record say.
async fn from_scratch(work: &UnitOfWork, object: &ObjectRef, id: Uuid) -> Result<Contribution> {
    Ok(Contribution {
        last: last(work, object, id, None).await?,
        next: next(work, object, id).await?,
        contacted: last(work, object, id, Some(contacts())).await?,
    })
}

fn contacts() -> Where<Activity> {
    Activity::ACTIVITY_TYPE.one_of(CONTACTS)
}

async fn last(
    work: &UnitOfWork,
    object: &ObjectRef,
    id: Uuid,
    kind: Option<Where<Activity>>,
) -> Result<Option<DateTime<Utc>>> {
    let completed = Activity::STATUS.eq(ActivityStatus::Completed);
    let filter = match kind {
        Some(kind) => completed.and(kind),
        None => completed,
    };
    let found = first(
        work,
        object,
        id,
        (filter, true),
        Activity::COMPLETED_AT,
        true,
    )
    .await?;
    Ok(found.and_then(|activity| activity.completed_at))
}

async fn next(work: &UnitOfWork, object: &ObjectRef, id: Uuid) -> Result<Option<DateTime<Utc>>> {
    let begins = is_open().and(Activity::SCHEDULED_AT.is_not_null());
    let is_due = is_open()
        .and(Activity::SCHEDULED_AT.is_null())
        .and(Activity::DUE_DATE.is_not_null());
    let begins = first(
        work,
        object,
        id,
        (begins, false),
        Activity::SCHEDULED_AT,
        false,
    )
    .await?;
    let is_due = first(work, object, id, (is_due, false), Activity::DUE_DATE, false).await?;
    let moment = |activity: Option<Arc<Record<Activity>>>| activity.and_then(|it| it.moment());
    Ok(earlier(moment(begins), moment(is_due)))
}

/// The first activity of a record, by a field, that fulfils a filter; the flag beside it takes
/// archived ones in.
async fn first(
    work: &UnitOfWork,
    object: &ObjectRef,
    id: Uuid,
    (filter, archived): (Where<Activity>, bool),
    by: FieldOf<Activity, DateTime<Utc>>,
    descending: bool,
) -> Result<Option<Arc<Record<Activity>>>> {
    let linked = Activity::of_record(EntityRef::new(object.name(), id));
    let schema = Activity::schema();
    let registry = &*work.registry().await?;
    let filter = linked.and(filter).into_filter();
    let mut condition = Condition::not_deleted().and(Condition::bind(&filter, schema, registry)?);
    if !archived {
        condition = condition.and(Condition::not_archived());
    }
    let sort = schema.field_index(&by.name());
    let sort = sort.map(|index| SortKey { index, descending });
    let query = Query::new(schema, condition)
        .sort(sort.into_iter().collect())
        .limit(1);
    Ok(work.select(&query).await?.pop().and_then(Record::from_row))
}

fn entry(object: &str, values: Contribution) -> ActivityRollUp {
    ActivityRollUp {
        last_activity_at: values.last,
        next_activity_at: values.next,
        last_contacted_at: values.contacted,
        ..ActivityRollUp::new(object)
    }
}

fn values(roll_up: &ActivityRollUp) -> Contribution {
    Contribution {
        last: roll_up.last_activity_at,
        next: roll_up.next_activity_at,
        contacted: roll_up.last_contacted_at,
    }
}

/// Writes the values into those fields of a record that its object has. True if one differed.
async fn write(work: &mut UnitOfWork, row: Row, values: Contribution) -> Result<bool> {
    let object = row.object().clone();
    let known = entry(object.name(), values);
    let stamp = work.stamp();
    let known = Record::new(crate::schema::Meta::first(row.id(), stamp), known);
    let mut changed = Vec::new();
    for field in ActivityRollUp::schema().own_fields() {
        let Some(index) = object.field_index(&field.name) else {
            continue;
        };
        let is_roll_up = object
            .fields()
            .get(index)
            .is_some_and(|own| own.read_only && own.field_type == field.field_type);
        let value: Value = (&known as &dyn AnyRecord).get(&field.name).into_owned();
        if is_roll_up && row.value(index) != value.as_ref() {
            changed.push((index, value));
        }
    }
    if changed.is_empty() {
        return Ok(false);
    }
    work.set_row_values(&row, changed).await?;
    Ok(true)
}

impl Records<'_, Activity> {
    /// Works out anew what a record knows of its activities, and mends it where it is wrong, as it
    /// may be after rows were written past the engine. True if it was.
    ///
    /// ```
    /// # use crm_core::{Id, Session, error::Result, accounts::Account};
    /// # async fn example(session: &Session, globex: Id<Account>) -> Result<()> {
    /// let was_wrong = session.activities().recompute(globex).await?;
    /// assert!(!was_wrong);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`], also for a record that knows nothing of its activities.
    pub async fn recompute(&mut self, record: impl Into<EntityRef>) -> Result<bool> {
        let record = record.into();
        in_work!(self.workspace, |work| {
            let id = record.id;
            let missing = || Error::NotFound {
                object: record.object.to_string(),
                id,
            };
            let registry = &*work.registry().await?;
            let object = registry.object(&record.object).ok_or_else(missing)?;
            if !keeps(&object) {
                return Err(missing());
            }
            let row = work.row(&object, id).await?.filter(|row| !row.is_deleted());
            let row = row.ok_or_else(missing)?;
            let before = work.row(ActivityRollUp::schema(), id).await?;
            let stored = before
                .clone()
                .and_then(Record::<ActivityRollUp>::from_row)
                .map(|record| values(&record))
                .unwrap_or_default();
            let known = from_scratch(work, &object, id).await?;
            let differs = write(work, row, known).await?;
            if before.is_none() && known == stored {
                return Ok(differs);
            }
            if before.is_none() {
                work.contend("activity_roll_up", &["id"]);
            }
            work.keep_derived(id, before, entry(object.name(), known));
            Ok(differs || known != stored)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(hour: u8) -> DateTime<Utc> {
        DateTime::from_timestamp(i64::from(hour) * 3_600, 0).unwrap()
    }

    proptest! {
        /// Whatever is taken away and added, a value that is known is the greatest of what is left.
        #[test]
        fn known_values_are_right(
            kept in prop::collection::vec(0_u8..8, 0..4),
            removed in prop::collection::vec(0_u8..8, 0..3),
            added in prop::collection::vec(0_u8..8, 0..3),
        ) {
            let greatest = |all: &[&Vec<u8>]| all.iter().copied().flatten().max().map(|hour| at(*hour));
            let stored = greatest(&[&kept, &removed]);
            let expected = greatest(&[&kept, &added]);
            let wins = |one: DateTime<Utc>, other: DateTime<Utc>| one > other;
            match follow(stored, greatest(&[&removed]), greatest(&[&added]), wins) {
                Next::Known(value) => prop_assert_eq!(value, expected),
                Next::Lost => prop_assert!(greatest(&[&removed]) == stored),
            }
        }
    }
}

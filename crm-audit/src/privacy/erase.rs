//! The erasure of a person, in commits of bounded size.
//!
//! ```text
//! pass: find ─► records about the person, batch by batch: their events, then themselves
//!            ─► events of records that are no more
//!            ─► last the person: events, then the records and the entry of the deletion log
//!       again until nothing is left: what followed from the first pass, or was written meanwhile
//! ```
//!
//! A batch is decided by rows as they were before their events were looked at, and is a conflict, and
//! decided again, if one of them changed since: so no event slips through between the two. The
//! person's own records are what everything else is found by, so they are the last to go.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use crm_core::engine::{Progress, UnitOfWork};
use crm_core::error::{Error, Result};
use crm_core::privacy::held::{
    Blank, Erased, Held, HeldAbout, Tie, covers, erased, is_address_of, quotes,
};
use crm_core::privacy::{DeletionLog, DeletionMethod, DeletionReason};
use crm_core::query::{Condition, Query};
use crm_core::schema::{Entity, Lifecycle, ObjectRef, Registry, Row, Value};
use crm_core::{EntityRef, Session};
use uuid::Uuid;

use super::trail::{self, Found};
use crate::event::{AuditEvent, AuditKind, FieldChange};
use crate::mask::MASK;
use crate::redact::{is_erased, redact};

/// How many records are emptied in one commit.
const BATCH: usize = 100;

/// How often a batch is decided again, as somebody changed a record of it.
const RETRIES: usize = 32;

/// How often everything is looked through: once, once more to see that nothing is left, and more
/// where values followed from others.
const PASSES: usize = 6;

/// Why a person is erased, and what must stay.
#[derive(Clone, Debug, Default)]
pub struct Erasure {
    /// Why.
    pub reason: DeletionReason,
    /// The law, contract or file number that it rests on; never anything about the person.
    pub legal_reference: Option<String>,
    /// Objects whose records stay as they are, with their history, as a law demands that they are
    /// kept: Article 17 (3) (b) of the GDPR. The person's own records never do.
    pub retained: BTreeSet<String>,
}

impl Erasure {
    /// An erasure for a reason.
    #[must_use]
    pub fn new(reason: DeletionReason) -> Self {
        Self {
            reason,
            ..Self::default()
        }
    }

    /// The same, resting on a law, contract or file number.
    #[must_use]
    pub fn by(mut self, legal_reference: impl Into<String>) -> Self {
        self.legal_reference = Some(legal_reference.into());
        self
    }

    /// The same, without the records of an object that a law demands to keep.
    #[must_use]
    pub fn retaining(mut self, object: impl Into<String>) -> Self {
        self.retained.insert(object.into());
        self
    }
}

/// What an erasure did.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct ErasureReport {
    /// The records that were the person, the one that was named first.
    pub persons: Vec<EntityRef>,
    /// How many records of each object were emptied.
    pub records: BTreeMap<String, u64>,
    /// How many values of records went.
    pub values: u64,
    /// How many events of the audit trail lost values.
    pub events: u64,
    /// Records that stay because a law demands it.
    pub retained: Vec<EntityRef>,
    /// Contacts and leads that had the same e-mail address and were merged with none of these: they
    /// may be the same person.
    pub perhaps: Vec<EntityRef>,
    /// Whether all is done: not if it was stopped, or if somebody kept writing about the person.
    pub is_complete: bool,
}

impl ErasureReport {
    /// How many records were emptied.
    #[must_use]
    pub fn record_count(&self) -> u64 {
        self.records.values().sum()
    }
}

/// Names and counts only; ids tell of nobody.
impl fmt::Debug for ErasureReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErasureReport")
            .field("records", &self.records)
            .field("values", &self.values)
            .field("events", &self.events)
            .field("is_complete", &self.is_complete)
            .finish_non_exhaustive()
    }
}

/// Erases a person.
pub(super) async fn erase(
    session: &Session,
    subject: &EntityRef,
    erasure: &Erasure,
    progress: &impl Progress,
) -> Result<ErasureReport> {
    let mut run = Run {
        session,
        subject,
        erasure,
        report: ErasureReport::default(),
        done: 0,
        is_told: false,
    };
    for _ in 0..PASSES {
        let before = (run.report.values, run.report.events);
        let found = trail::find(&session.begin(), subject).await?;
        if run.report.persons.is_empty() {
            run.report.persons.clone_from(&found.held.persons);
            run.report.perhaps.clone_from(&found.held.perhaps);
        }
        if run.pass(&found, progress).await?.is_break() {
            return Ok(run.report);
        }
        if (run.report.values, run.report.events) == before {
            run.report.is_complete = true;
            break;
        }
    }
    Ok(run.report)
}

struct Run<'r> {
    session: &'r Session,
    subject: &'r EntityRef,
    erasure: &'r Erasure,
    report: ErasureReport,
    done: u64,
    /// Whether the entry of the deletion log is written.
    is_told: bool,
}

/// A record that is emptied.
struct Emptied {
    held: Held,
    before: Row,
    erased: Erased,
}

impl Run<'_> {
    async fn pass(&mut self, found: &Found, progress: &impl Progress) -> Result<ControlFlow<()>> {
        let held = &found.held;
        let is_person = |one: &&Held| one.tie == Tie::Person;
        let is_retained = |one: &&Held| self.erasure.retained.contains(one.object.name());
        let persons: Vec<Held> = held.records.iter().filter(is_person).cloned().collect();
        let others = held.records.iter().filter(|one| !is_person(one));
        let (retained, others): (Vec<&Held>, Vec<&Held>) = others.partition(is_retained);
        self.report.retained = retained.iter().map(|one| one.record()).collect();
        let total = u64::try_from(others.len() + persons.len()).ok();
        // Rows of one object lie together: one read for each batch.
        let mut others: Vec<Held> = others.into_iter().cloned().collect();
        others.sort_by(|a, b| (a.object.name(), a.id).cmp(&(b.object.name(), b.id)));
        let mut done = 0;
        for batch in others.chunks(BATCH) {
            self.batch(held, batch, false).await?;
            done += batch.len();
            self.done = u64::try_from(done).unwrap_or(u64::MAX);
            if progress.report(self.done, total).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.forget_gone(found).await?;
        self.batch(held, &persons, true).await?;
        let all = total.unwrap_or(u64::MAX);
        Ok(progress.report(all, total))
    }

    /// Empties some records: first their events, then themselves, in one commit.
    async fn batch(&mut self, held: &HeldAbout, batch: &[Held], is_last: bool) -> Result<()> {
        for attempt in 0.. {
            let mut work = self.session.begin();
            let emptied = read(&work, held, batch).await?;
            let events = self.forget_events(held, &emptied).await?;
            let mut values = 0;
            let mut records: BTreeMap<String, u64> = BTreeMap::new();
            for one in emptied.into_iter().filter(|one| one.erased.values > 0) {
                values += one.erased.values as u64;
                *records
                    .entry(one.held.object.name().to_owned())
                    .or_default() += 1;
                work.erase_row(one.before, &one.erased.row);
            }
            self.report.events += events;
            if is_last {
                let all: u64 = records.values().sum();
                self.tell(&mut work, values, all).await?;
            }
            match work.commit().await {
                Err(Error::Conflict { .. }) if attempt < RETRIES => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    self.is_told |= is_last;
                    self.report.values += values;
                    for (object, count) in records {
                        *self.report.records.entry(object).or_default() += count;
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Adds the entry of the deletion log, once for each run that erased anything.
    async fn tell(&self, work: &mut UnitOfWork, values: u64, records: u64) -> Result<()> {
        let values = self.report.values + self.report.events + values;
        if self.is_told || values == 0 && is_logged(work, self.subject).await? {
            return Ok(());
        }
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let mut entry = DeletionLog::new(
            &*self.subject.object,
            self.subject.id,
            DeletionMethod::Anonymize,
            self.erasure.reason,
            count(self.report.record_count() + records),
            count(values),
        );
        entry
            .legal_reference
            .clone_from(&self.erasure.legal_reference);
        work.append_entry(entry)
    }

    /// Erases values from the events of records.
    async fn forget_events(&self, held: &HeldAbout, emptied: &[Emptied]) -> Result<u64> {
        let mut by_object: BTreeMap<&str, BTreeMap<Uuid, &Emptied>> = BTreeMap::new();
        for one in emptied {
            if one.held.object.lifecycle() == Lifecycle::Full {
                let of_object = by_object.entry(one.held.object.name()).or_default();
                of_object.insert(one.held.id, one);
            }
        }
        let mut count = 0;
        for (object, records) in by_object {
            let ids: Vec<Uuid> = records.keys().copied().collect();
            let is_meant = |id: Uuid, change: &FieldChange| {
                records.get(&id).is_some_and(|one| meant(held, one, change))
            };
            count += self.forget(trail::of(object, &ids), &is_meant).await?;
        }
        Ok(count)
    }

    /// Erases values from the events of records that are no more.
    async fn forget_gone(&mut self, found: &Found) -> Result<()> {
        let registry = self.session.registry().await?;
        for record in &found.gone {
            if self.erasure.retained.contains(&record.object) {
                continue;
            }
            let object = registry.any_object(&record.object);
            let tie = match found.held.persons.contains(record) {
                true => Tie::Person,
                false => Tie::Part,
            };
            let is_meant = |_: Uuid, change: &FieldChange| {
                let covered = |object: &ObjectRef| covers(object, tie, &change.field);
                object.as_ref().is_none_or(covered)
            };
            let events = trail::of(&record.object, &[record.id]);
            self.report.events += self.forget(events, &is_meant).await?;
        }
        Ok(())
    }

    /// Erases values from events, page by page, each a commit of its own.
    async fn forget(
        &self,
        events: Condition,
        is_meant: &(dyn Fn(Uuid, &FieldChange) -> bool + Sync),
    ) -> Result<u64> {
        let (mut after, mut count, mut conflicts) = (None, 0, 0);
        loop {
            let mut work = self.session.begin();
            let page = trail::page(&work, events.clone(), after).await?;
            let mut redacted = 0;
            for event in &page {
                if !tells(event, &|change| is_meant(event.record_id, change)) {
                    continue;
                }
                let fields: BTreeSet<&str> = event
                    .changes
                    .iter()
                    .filter(|change| is_meant(event.record_id, change))
                    .map(|change| &*change.field)
                    .collect();
                redact(&mut work, event, |field| fields.contains(field))?;
                redacted += 1;
            }
            match work.commit().await {
                // Somebody else erases too: what is left of the page is seen again.
                Err(Error::Conflict { .. }) if conflicts < RETRIES => {
                    conflicts += 1;
                    continue;
                }
                Err(error) => return Err(error),
                Ok(_) => count += redacted,
            }
            after = page.last().map(|event| event.id.uuid());
            if page.len() < trail::PAGE {
                return Ok(count);
            }
        }
    }
}

/// Whether the values of a change are about the person.
fn meant(held: &HeldAbout, one: &Emptied, change: &FieldChange) -> bool {
    let values = || [&change.old, &change.new].into_iter().flatten();
    match one.held.tie {
        Tie::Address => values().any(|value| is_address_of(&value.as_ref(), &held.addresses)),
        Tie::Quote => {
            values().any(|value| quotes(&value.to_json(), &held.addresses, &held.persons))
        }
        _ => one.erased.covers(&change.field),
    }
}

/// Reads records and empties them.
async fn read(work: &UnitOfWork, held: &HeldAbout, batch: &[Held]) -> Result<Vec<Emptied>> {
    let registry: Arc<Registry> = work.registry().await?;
    let is_object = |name: &str| registry.any_object(name).is_some();
    let mut ids: BTreeMap<&str, (&ObjectRef, Vec<Uuid>)> = BTreeMap::new();
    for one in batch {
        let of_object = ids.entry(one.object.name());
        of_object
            .or_insert_with(|| (&one.object, Vec::new()))
            .1
            .push(one.id);
    }
    let mut rows: BTreeMap<(&str, Uuid), Row> = BTreeMap::new();
    for (name, (object, ids)) in ids {
        let found = work.rows(object, &ids).await?;
        rows.extend(found.into_iter().map(|row| ((name, row.id()), row)));
    }
    let mut emptied = Vec::new();
    for one in batch {
        let Some(before) = rows.remove(&(one.object.name(), one.id)) else {
            continue;
        };
        let blank = Blank {
            tie: one.tie,
            addresses: &held.addresses,
            persons: &held.persons,
        };
        let erased = erased(&one.object, &before, &blank, &is_object);
        emptied.push(Emptied {
            held: one.clone(),
            before,
            erased,
        });
    }
    Ok(emptied)
}

/// Whether the deletion log tells that the subject was erased. That it was anonymised because its time
/// was over is something else: what other records tell of it is there still.
async fn is_logged(work: &UnitOfWork, subject: &EntityRef) -> Result<bool> {
    let log = DeletionLog::schema();
    let index = log.field_index("record_id").unwrap_or(usize::MAX);
    let of_subject = Condition::equals(index, Value::Uuid(subject.id));
    let rows = work.select(&Query::new(log, of_subject)).await?;
    let anonymized = Value::Text(DeletionMethod::Anonymize.to_string());
    let overdue = Value::Text(DeletionReason::RetentionEnded.to_string());
    Ok(rows.iter().any(|row| {
        row.get("object").as_text() == Some(&subject.object)
            && row.get("method").into_owned() == anonymized
            && row.get("reason").into_owned() != overdue
    }))
}

/// Whether there is anything to erase at the fields that `fields` says yes to.
pub(super) fn tells(event: &AuditEvent, fields: &dyn Fn(&FieldChange) -> bool) -> bool {
    let says = |value: Option<&Value>| {
        value.is_some_and(|value| {
            !value.is_null() && *value != Value::Text(MASK.to_owned()) && !is_erased(value)
        })
    };
    event.changes.iter().any(|change| {
        // What stands for an erased value is none; values that follow from others may still tell.
        let is_left = event.event != AuditKind::Erase || change.field.contains('.');
        is_left && fields(change) && (says(change.old.as_ref()) || says(change.new.as_ref()))
    })
}

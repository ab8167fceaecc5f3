//! The erasure of a person, in commits of bounded size.
//!
//! ```text
//! pass: find ─► records about the person, batch by batch: their events, then themselves
//!            ─► events of records that are no more, or no more about the person
//!            ─► last the person: events, then the records and the entry of the deletion log
//!       again until nothing is left: what followed from the first pass, or was written meanwhile
//! ```
//!
//! A batch is decided by rows as they were before their events were looked at, and is a conflict, and
//! decided again, if one of them changed since: so no event slips through between the two. The
//! person's own records are what everything else is found by, so they are the last to go.
//!
//! Legal holds are looked at before anything goes, and again in each commit, which is a conflict where
//! another one is set meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use crm_core::engine::{Progress, UnitOfWork};
use crm_core::error::{Error, Result, RuleViolation};
use crm_core::privacy::held::{
    Blank, Erased, Held, HeldAbout, Tie, covers, erased, is_address_of, quotes,
};
use crm_core::privacy::retention::StandingHolds;
use crm_core::privacy::{DeletionLog, DeletionMethod, DeletionReason, LegalHold};
use crm_core::query::{Condition, Query};
use crm_core::schema::{Entity, Lifecycle, ObjectRef, Registry, Row, Value};
use crm_core::{EntityRef, Id, Session};
use uuid::Uuid;

use super::trail::{self, Found};
use crate::event::{AuditEvent, AuditKind, FieldChange};
use crate::mask::MASK;
use crate::redact::{is_erased, redact_values};
use crate::seal::commitment::Side;

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
            run.ensure_free(&found).await?;
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

/// Whatever an erasure is about to take from, told by the legal holds that keep it.
pub(super) type KeptBy<'k> = dyn Fn(&StandingHolds) -> BTreeSet<Id<LegalHold>> + Sync + 'k;

/// Which values of which events go.
pub(super) type Meant<'m> = dyn Fn(&AuditEvent, Side, &FieldChange) -> bool + Sync + 'm;

/// R-059: refuses what a legal hold keeps.
fn refuse(holds: &BTreeSet<Id<LegalHold>>) -> Result<()> {
    if holds.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = holds.iter().map(ToString::to_string).collect();
    let message = format!(
        "legal holds keep records about the person: {}; lift them, or retain their objects",
        ids.join(", ")
    );
    Err(RuleViolation::new("legal_hold", "R-059", message).into())
}

/// Refuses what a legal hold keeps, now and until the commit.
async fn ensure_not_held(work: &mut UnitOfWork, kept_by: &KeptBy<'_>) -> Result<()> {
    let holds = StandingHolds::load(work).await?;
    refuse(&kept_by(&holds))?;
    holds.rely_on(work).await?;
    Ok(())
}

impl Run<'_> {
    /// Refuses the erasure, before anything goes, where a legal hold keeps any of it.
    async fn ensure_free(&self, found: &Found) -> Result<()> {
        let work = self.session.begin();
        let holds = StandingHolds::load(&work).await?;
        let mut held = BTreeSet::new();
        let retained = &self.erasure.retained;
        let is_meant = |object: &str, is_person: bool| {
            holds.concern(object) && (is_person || !retained.contains(object))
        };
        let mut ids: BTreeMap<&str, (&ObjectRef, Vec<Uuid>)> = BTreeMap::new();
        for one in &found.held.records {
            if !is_meant(one.object.name(), one.tie == Tie::Person) {
                continue;
            }
            let of_object = ids.entry(one.object.name());
            let (_, ids) = of_object.or_insert_with(|| (&one.object, Vec::new()));
            ids.push(one.id);
        }
        for (object, ids) in ids.into_values() {
            for batch in ids.chunks(BATCH) {
                for row in work.rows(object, batch).await? {
                    held.extend(holds.of_row(&row));
                }
            }
        }
        for record in found
            .gone
            .iter()
            .filter(|gone| is_meant(&gone.object, false))
        {
            held.extend(holds.of_record(record));
        }
        let former = found.former.iter();
        for (record, former) in former.filter(|(former, _)| is_meant(&former.object, false)) {
            match work.row(&former.object, record.id).await? {
                Some(row) => held.extend(holds.of_row(&row)),
                None => held.extend(holds.of_record(record)),
            }
        }
        refuse(&held)
    }

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
            let kept_by = |holds: &StandingHolds| {
                let rows = emptied.iter().map(|one| &one.before);
                rows.flat_map(|row| holds.of_row(row)).collect()
            };
            ensure_not_held(&mut work, &kept_by).await?;
            let events = self.forget_events(held, &emptied, &kept_by).await?;
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
    async fn forget_events(
        &self,
        held: &HeldAbout,
        emptied: &[Emptied],
        kept_by: &KeptBy<'_>,
    ) -> Result<u64> {
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
            let is_meant = |event: &AuditEvent, _: Side, change: &FieldChange| {
                let one = records.get(&event.record_id);
                one.is_some_and(|one| meant(held, one, change))
            };
            let events = trail::of(object, &ids);
            count += forget(self.session, events, &is_meant, kept_by).await?;
        }
        Ok(count)
    }

    /// Erases values from the events of records that are no more, or no more about the person.
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
            let is_meant = |_: &AuditEvent, _: Side, change: &FieldChange| {
                let covered = |object: &ObjectRef| covers(object, tie, &change.field);
                object.as_ref().is_none_or(covered)
            };
            let events = trail::of(&record.object, &[record.id]);
            let kept_by = |holds: &StandingHolds| holds.of_record(record).collect();
            self.report.events += forget(self.session, events, &is_meant, &kept_by).await?;
        }
        for (record, former) in &found.former {
            if self.erasure.retained.contains(&record.object) {
                continue;
            }
            let work = self.session.begin();
            let row = work.row(&former.object, record.id).await?;
            let is_meant = |event: &AuditEvent, side: Side, change: &FieldChange| {
                former.tells(&found.held, row.as_ref(), event, side, change)
            };
            let kept_by = |holds: &StandingHolds| match &row {
                Some(row) => holds.of_row(row).collect(),
                None => holds.of_record(record).collect(),
            };
            let events = trail::of(&record.object, &[record.id]);
            self.report.events += forget(self.session, events, &is_meant, &kept_by).await?;
        }
        Ok(())
    }
}

/// Erases values from events, page by page, each a commit of its own.
pub(super) async fn forget(
    session: &Session,
    events: Condition,
    is_meant: &Meant<'_>,
    kept_by: &KeptBy<'_>,
) -> Result<u64> {
    let (mut after, mut count, mut conflicts) = (None, 0, 0);
    loop {
        let mut work = session.begin();
        let page = trail::page(&work, events.clone(), after).await?;
        let mut redacted = 0;
        for event in &page {
            let is_meant = |side, change: &FieldChange| is_meant(event, side, change);
            if !tells(event, &is_meant) {
                continue;
            }
            redact_values(&mut work, event, is_meant)?;
            redacted += 1;
        }
        if redacted > 0 {
            ensure_not_held(&mut work, kept_by).await?;
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

/// Whether the values of a change are about the person.
fn meant(held: &HeldAbout, one: &Emptied, change: &FieldChange) -> bool {
    let values = || [&change.old, &change.new].into_iter().flatten();
    match one.held.tie {
        Tie::Address => {
            let document = one.held.object.custom_document();
            let document = document.map(|at| one.held.object.field_name(at));
            values().any(|value| match value {
                Value::Json(json) if document == Some(&*change.field) => {
                    quotes(json, &held.addresses, &[])
                }
                value => is_address_of(&value.as_ref(), &held.addresses),
            })
        }
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

/// Whether there is anything to erase among the values that `is_meant` says yes to.
pub(super) fn tells(event: &AuditEvent, is_meant: &dyn Fn(Side, &FieldChange) -> bool) -> bool {
    let says = |side: Side, change: &FieldChange| {
        side.of(change).is_some_and(|value| {
            !value.is_null() && *value != Value::Text(MASK.to_owned()) && !is_erased(value)
        }) && is_meant(side, change)
    };
    event.changes.iter().any(|change| {
        // What stands for an erased value is none; values that follow from others may still tell.
        let is_left = event.event != AuditKind::Erase || change.field.contains('.');
        is_left && (says(Side::Old, change) || says(Side::New, change))
    })
}

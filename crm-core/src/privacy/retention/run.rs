//! [`Retention`]: what policies would do, and doing it.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::months::PolicyMonth;
use super::plan::{Holds, Plan, bind};
use super::{RetentionPolicy, default_policies};
use crate::Id;
use crate::engine::workspace::Settle;
use crate::engine::{Progress, Session, StagedChange, UnitOfWork, Workspace, in_work};
use crate::error::{Error, Faults, Result};
use crate::privacy::{DeletionLog, DeletionMethod, DeletionReason, anonymized};
use crate::query::{AggregateQuery, Condition, FieldAt, Query};
use crate::record::Record;
use crate::schema::{Entity, Lifecycle, ObjectRef, Row, Value, ValueRef, system};

/// How many records are looked at, and written in one commit.
const AT_ONCE: usize = 200;
/// How many entries of a log go in one commit.
const ENTRIES_AT_ONCE: usize = 500;
/// How many records and refusals a report names.
const NAMED: usize = 20;
/// How many changes a dry run keeps at hand before it forgets them.
const KEPT: usize = 2_000;
/// What is told of a record that a legal hold keeps.
const HELD: &str = "legal_hold";

/// How a policy is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Upkeep {
    /// [`Retention::run`] does it record by record, through all rules and with audit events.
    Records,
    /// [`Retention::run`] removes entries of a log, some hundred at once.
    Log,
    /// [`Retention::run`] moves the tenant's entries of whole months of a log to its archive, or removes
    /// them, some hundred at once: those of the months that ended before [`PolicyRun::cutoff`]. The month
    /// of the cutoff stays.
    Months,
}

/// What a policy did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PolicyRun {
    /// The policy.
    pub policy: Id<RetentionPolicy>,
    /// Its name.
    pub name: String,
    /// The object.
    pub object: String,
    /// What becomes of records.
    pub method: DeletionMethod,
    /// How it is carried out.
    pub upkeep: Upkeep,
    /// Before when the basis of a record is whose time is over.
    pub cutoff: DateTime<Utc>,
    /// How many records, or entries of a log, it concerned.
    pub done: u64,
    /// How many records went, those that go with others included.
    pub records: u64,
    /// How many values went.
    pub values: u64,
    /// How many records were due and stay, as something stands against it.
    pub refused: u64,
    /// The first records concerned.
    pub first: Vec<Uuid>,
    /// The first records that stay.
    pub refusals: Vec<Refused>,
    /// The months of a log that were due, the oldest first, for [`Upkeep::Months`].
    pub months: Vec<PolicyMonth>,
    /// Whether the run was stopped before its end.
    pub is_stopped: bool,
}

/// A record that is due and stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Refused {
    /// The record.
    pub id: Uuid,
    /// Why: `legal_hold`, or the [code](Error::code) of the error, such as `referenced`.
    pub code: &'static str,
}

impl PolicyRun {
    fn new(policy: &Record<RetentionPolicy>, upkeep: Upkeep, cutoff: DateTime<Utc>) -> Self {
        Self {
            policy: policy.id,
            name: policy.name.clone(),
            object: policy.object.clone(),
            method: policy.method,
            upkeep,
            cutoff,
            done: 0,
            records: 0,
            values: 0,
            refused: 0,
            first: Vec::new(),
            refusals: Vec::new(),
            months: Vec::new(),
            is_stopped: false,
        }
    }

    /// Adds up what became of months.
    pub(super) fn add_months(&mut self) {
        self.done = self.months.iter().map(|month| month.entries).sum();
        self.records = self.done;
        self.refused = self.months.iter().map(|month| month.held).sum();
    }

    fn add(&mut self, batch: Batch) {
        for (id, outcome) in batch.outcomes {
            match outcome {
                Outcome::Done { records, values } => {
                    self.done += 1;
                    self.records += records;
                    self.values += values;
                    if self.first.len() < NAMED {
                        self.first.push(id);
                    }
                }
                Outcome::Refused(code) => {
                    self.refused += 1;
                    if self.refusals.len() < NAMED {
                        self.refusals.push(Refused { id, code });
                    }
                }
                Outcome::Nothing => {}
            }
        }
    }
}

/// What came of one record.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Done {
        records: u64,
        values: u64,
    },
    Refused(&'static str),
    /// It went with another one, or has nothing to take away.
    Nothing,
}

#[derive(Debug, Default)]
struct Batch {
    outcomes: Vec<(Uuid, Outcome)>,
}

impl Settle for Batch {}

/// The retention policies of a tenant, and their runs.
///
/// ```
/// # use crm_core::{Session, error::Result};
/// # async fn example(session: &Session) -> Result<()> {
/// session.retention().install_defaults().await?;
/// for expected in session.retention().dry_run_all().await? {
///     println!("{}: {} of {}", expected.name, expected.done, expected.object);
/// }
/// for done in session.retention().run_all(&()).await? {
///     println!("{}: {} records, {} refused", done.name, done.records, done.refused);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Retention<'a> {
    pub(super) session: &'a Session,
}

impl<'a> Retention<'a> {
    pub(crate) const fn new(session: &'a Session) -> Self {
        Self { session }
    }

    /// Makes those of the [default policies](default_policies) that the tenant has none of by their
    /// name, and returns them.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn install_defaults(&self) -> Result<Vec<Arc<Record<RetentionPolicy>>>> {
        let mut workspace = Workspace::Session(self.session);
        in_work!(workspace, |work| {
            work.contend("retention_policy", &["name"]);
            let known = work.find_all::<RetentionPolicy>(crate::query::Where::all(), Vec::new());
            let known: HashSet<String> = known
                .await?
                .iter()
                .map(|policy| policy.name.to_lowercase())
                .collect();
            let registry = work.registry().await?;
            let mut made = Vec::new();
            for policy in default_policies() {
                let is_known = known.contains(&policy.name.to_lowercase());
                // An engine without a recorder has no event log.
                if !is_known && registry.object(&policy.object).is_some() {
                    made.push(work.create(policy).await?);
                }
            }
            Ok(made)
        })
    }

    /// What a policy would do if it ran now, also one that is not active. Writes nothing.
    ///
    /// It goes through what [`run`](Self::run) goes through and drops it, so a record that something
    /// stands against is told as refused; only what hooks of a commit refuse shows in a run alone.
    /// Of more than 2,000 changes it forgets the first ones: a record that could only go since one of
    /// these went is then told as refused.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Validation`] for a policy that no longer fits the schema.
    pub async fn dry_run(&self, policy: Id<RetentionPolicy>) -> Result<PolicyRun> {
        let policy = self.policy(policy).await?;
        self.simulate(&policy).await
    }

    /// What each active policy would do if it alone ran now, in the order of their names.
    ///
    /// # Errors
    /// Those of the storage; a policy that no longer fits the schema.
    pub async fn dry_run_all(&self) -> Result<Vec<PolicyRun>> {
        let mut runs = Vec::new();
        for policy in self.active().await? {
            runs.push(self.simulate(&policy).await?);
        }
        Ok(runs)
    }

    /// Does what a policy says, also one that is not active, now (C-082).
    ///
    /// Some hundred records are one commit, with an entry of the deletion log for each, so a run that
    /// is stopped or fails has done its work up to there; run again it does the rest. It needs the
    /// memory of some hundred records. A record that something stands against stays and is told; the
    /// others go. Of entries of a log, the deletion log tells how many went in each commit, under the
    /// id of the policy.
    ///
    /// Months of a log ([`Upkeep::Months`]) are those of the session's tenant: entries of others stay
    /// where they are, though the database keeps them together. A month that tells of a record under
    /// legal hold is archived, and not deleted. Events that seals prove go with the others; the trail
    /// then tells that they went, and seals over them still hold. Deliver what consumers of the feed are
    /// to see before it is that old: what is removed is not delivered. The empty months, and those that no
    /// tenant wants to keep, are dropped by the maintenance of the storage.
    ///
    /// What [`DeletionMethod::Anonymize`] takes away is gone from the versions of the record as well,
    /// where a recorder keeps them: its events say that it was erased, and seals over them still hold.
    /// Other records may tell of the person still: to forget a person altogether, erase the person.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Validation`] for a policy that no longer fits the schema.
    pub async fn run(
        &self,
        policy: Id<RetentionPolicy>,
        progress: &dyn Progress,
    ) -> Result<PolicyRun> {
        let policy = self.policy(policy).await?;
        self.carry_out(&policy, progress).await
    }

    /// Runs each active policy, in the order of their names, until the progress stops one.
    ///
    /// # Errors
    /// Those of the storage; a policy that no longer fits the schema.
    pub async fn run_all(&self, progress: &dyn Progress) -> Result<Vec<PolicyRun>> {
        let mut runs: Vec<PolicyRun> = Vec::new();
        for policy in self.active().await? {
            if runs.last().is_some_and(|run| run.is_stopped) {
                break;
            }
            runs.push(self.carry_out(&policy, progress).await?);
        }
        Ok(runs)
    }

    async fn policy(&self, id: Id<RetentionPolicy>) -> Result<Arc<Record<RetentionPolicy>>> {
        self.session.begin().get(id).await
    }

    async fn active(&self) -> Result<Vec<Arc<Record<RetentionPolicy>>>> {
        let work = self.session.begin();
        let active = RetentionPolicy::IS_ACTIVE.eq(true);
        let mut policies = work.find_all(active, Vec::new()).await?;
        policies.retain(|policy| policy.archived_at.is_none());
        policies.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Ok(policies)
    }

    async fn plan(&self, policy: &Record<RetentionPolicy>) -> Result<(Plan, PolicyRun)> {
        let now = self.session.engine().clock().now();
        let registry = self.session.registry().await?;
        let plan = bind(policy, &registry, now).map_err(|found| {
            let mut faults = Faults::default();
            found.into_iter().for_each(|fault| faults.push(fault));
            let refused = faults.into_result().err();
            refused.map_or_else(|| gone(policy), Error::from)
        })?;
        let run = PolicyRun::new(policy, plan.upkeep, policy.cutoff(now));
        Ok((plan, run))
    }

    /// How many records are due, those that are held included.
    async fn count(&self, plan: &Plan) -> Result<u64> {
        let query = AggregateQuery::count(&plan.object, plan.due.clone());
        let groups = Workspace::Session(self.session).aggregate(&query).await?;
        Ok(groups.first().map_or(0, |group| group.count(0)))
    }

    async fn simulate(&self, policy: &Record<RetentionPolicy>) -> Result<PolicyRun> {
        let (plan, mut run) = self.plan(policy).await?;
        if plan.upkeep != Upkeep::Records {
            if plan.upkeep == Upkeep::Months {
                return self.simulate_months(policy, &plan, run).await;
            }
            run.done = self.count(&plan).await?;
            run.records = run.done;
            let query = Query::new(&plan.object, plan.due.clone()).limit(NAMED);
            let rows = self.session.begin().select(&query).await?;
            run.first = rows.iter().map(|row| row.id()).collect();
            return Ok(run);
        }
        let mut work = self.session.begin();
        let holds = Holds::load(&work).await?;
        let mut gone: HashSet<Uuid> = HashSet::new();
        let mut after = None;
        loop {
            let rows = due(&work, &plan, after).await?;
            let is_last = rows.len() < AT_ONCE;
            after = rows.last().map(|row| row.id());
            let mut batch = Batch::default();
            for row in rows {
                let id = row.id();
                if !gone.contains(&id) {
                    let outcome = apply(&mut work, &plan, policy.method, &holds, row).await?;
                    batch.outcomes.push((id, outcome));
                }
            }
            run.add(batch);
            if is_last {
                return Ok(run);
            }
            if work.staged().len() > KEPT {
                let own = work
                    .staged()
                    .iter()
                    .filter(|change| *change.object() == plan.object);
                gone.extend(
                    own.filter(|change| takes_away(change))
                        .map(StagedChange::id),
                );
                work = self.session.begin();
            }
        }
    }

    async fn carry_out(
        &self,
        policy: &Record<RetentionPolicy>,
        progress: &dyn Progress,
    ) -> Result<PolicyRun> {
        let (plan, mut run) = self.plan(policy).await?;
        if plan.upkeep == Upkeep::Months {
            return self.take_months(policy, &plan, run, progress).await;
        }
        let total = self.count(&plan).await?;
        match plan.upkeep {
            Upkeep::Log => {
                return self
                    .remove_entries(policy, &plan, run, total, progress)
                    .await;
            }
            Upkeep::Records | Upkeep::Months => {}
        }
        let mut seen = 0;
        let mut after = None;
        loop {
            let work = self.session.begin();
            let rows = due(&work, &plan, after).await?;
            let is_last = rows.len() < AT_ONCE;
            after = rows.last().map(|row| row.id());
            let ids: Vec<Uuid> = rows.iter().map(|row| row.id()).collect();
            drop(rows);
            seen += ids.len() as u64;
            run.add(self.batch(policy, &plan, &ids).await?);
            let answer = progress.report(seen, Some(total.max(seen)));
            if is_last {
                return Ok(run);
            }
            if answer == ControlFlow::Break(()) {
                run.is_stopped = true;
                return Ok(run);
            }
        }
    }

    /// Does some records in one commit, or one by one where that is refused.
    async fn batch(
        &self,
        policy: &Record<RetentionPolicy>,
        plan: &Plan,
        ids: &[Uuid],
    ) -> Result<Batch> {
        if ids.is_empty() {
            return Ok(Batch::default());
        }
        match self.commit(policy, plan, ids).await {
            Err(error) if is_refusal(&error) => {}
            done => return done,
        }
        let mut batch = Batch::default();
        for id in ids {
            match self.commit(policy, plan, &[*id]).await {
                Ok(one) => batch.outcomes.extend(one.outcomes),
                Err(error) if is_refusal(&error) => {
                    batch.outcomes.push((*id, Outcome::Refused(error.code())));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(batch)
    }

    async fn commit(
        &self,
        policy: &Record<RetentionPolicy>,
        plan: &Plan,
        ids: &[Uuid],
    ) -> Result<Batch> {
        let mut workspace = Workspace::Session(self.session);
        in_work!(workspace, |work| {
            let holds = Holds::load(work).await?;
            holds.rely_on(work).await?;
            let wanted = Condition::In {
                field: FieldAt::new(system::ID),
                values: ids.iter().map(|id| Value::Uuid(*id)).collect(),
            };
            let query = Query::new(&plan.object, wanted.and(plan.due.clone()));
            let mut batch = Batch::default();
            for row in work.select(&query).await? {
                let id = row.id();
                let outcome = apply(work, plan, policy.method, &holds, row).await?;
                if let Outcome::Done { records, values } = outcome {
                    work.append_entry(entry(policy, id, records, values))?;
                }
                batch.outcomes.push((id, outcome));
            }
            Ok(batch)
        })
    }

    async fn remove_entries(
        &self,
        policy: &Record<RetentionPolicy>,
        plan: &Plan,
        mut run: PolicyRun,
        total: u64,
        progress: &dyn Progress,
    ) -> Result<PolicyRun> {
        let query = Query::new(&plan.object, plan.due.clone()).limit(ENTRIES_AT_ONCE);
        loop {
            let mut workspace = Workspace::Session(self.session);
            let removed: Result<Batch> = in_work!(workspace, |work| {
                let rows = work.select(&query).await?;
                let mut batch = Batch::default();
                for row in &rows {
                    let (records, values) = (1, filled(row));
                    batch
                        .outcomes
                        .push((row.id(), Outcome::Done { records, values }));
                    work.remove(row);
                }
                if !rows.is_empty() {
                    let values = rows.iter().map(filled).sum();
                    work.append_entry(entry(policy, policy.id.uuid(), rows.len() as u64, values))?;
                }
                Ok(batch)
            });
            let removed = removed?;
            let is_last = removed.outcomes.len() < ENTRIES_AT_ONCE;
            run.add(removed);
            let answer = progress.report(run.done, Some(total.max(run.done)));
            if is_last {
                return Ok(run);
            }
            if answer == ControlFlow::Break(()) {
                run.is_stopped = true;
                return Ok(run);
            }
        }
    }
}

/// The next records that are due, by id.
async fn due(work: &UnitOfWork, plan: &Plan, after: Option<Uuid>) -> Result<Vec<Row>> {
    let mut query = Query::new(&plan.object, plan.due.clone()).limit(AT_ONCE);
    query.after = after.map(|id| vec![Value::Uuid(id)]);
    work.select(&query).await
}

/// Does to one record what the policy says, or nothing.
async fn apply(
    work: &mut UnitOfWork,
    plan: &Plan,
    method: DeletionMethod,
    holds: &Holds,
    row: Row,
) -> Result<Outcome> {
    let id = row.id();
    if holds.hold(&row) {
        return Ok(Outcome::Refused(HELD));
    }
    // It may have gone with one before it.
    let Some(row) = work.row(&plan.object, id).await? else {
        return Ok(Outcome::Nothing);
    };
    if row.is_deleted() && method != DeletionMethod::HardDelete {
        return Ok(Outcome::Nothing);
    }
    let before = work.staged().len();
    let savepoint = work.savepoint();
    let outcome = match stage(work, &plan.object, method, row).await {
        Ok(outcome) => outcome,
        Err(error) => {
            work.roll_back(savepoint);
            return match is_refusal(&error) {
                true => Ok(Outcome::Refused(error.code())),
                false => Err(error),
            };
        }
    };
    let new = work.staged().get(before..).unwrap_or_default();
    let is_held = new
        .iter()
        .any(|change| change.before().is_some_and(|row| holds.hold(row)));
    if is_held {
        work.roll_back(savepoint);
        return Ok(Outcome::Refused(HELD));
    }
    let outcome = match (method, outcome) {
        (DeletionMethod::SoftDelete | DeletionMethod::HardDelete, Outcome::Done { .. }) => {
            let went = new.iter().filter(|change| takes_away(change));
            let went = went.filter(|change| change.object().lifecycle() == Lifecycle::Full);
            let (mut records, mut values) = (0, 0);
            for before in went.filter_map(StagedChange::before) {
                records += 1;
                if method == DeletionMethod::HardDelete {
                    values += filled(before);
                }
            }
            Outcome::Done { records, values }
        }
        (_, outcome) => outcome,
    };
    work.release(savepoint);
    Ok(outcome)
}

async fn stage(
    work: &mut UnitOfWork,
    object: &ObjectRef,
    method: DeletionMethod,
    row: Row,
) -> Result<Outcome> {
    let id = row.id();
    let values = match method {
        DeletionMethod::Archive => {
            work.object(object.name()).await?.archive(id).await?;
            0
        }
        DeletionMethod::SoftDelete => {
            work.delete(object, id).await?;
            0
        }
        DeletionMethod::HardDelete => {
            if !row.is_deleted() {
                work.delete(object, id).await?;
            }
            work.purge(object, id).await?;
            0
        }
        DeletionMethod::Anonymize => {
            let changed = anonymized(object, &row);
            if changed.is_empty() {
                return Ok(Outcome::Nothing);
            }
            let count = changed.len() as u64;
            work.keep_values(&row, changed).await?;
            work.anonymize(id);
            count
        }
    };
    Ok(Outcome::Done { records: 1, values })
}

/// Whether a change deletes a record or removes it.
fn takes_away(change: &StagedChange) -> bool {
    let was_live = change.before().is_some_and(|row| !row.is_deleted());
    match change.after() {
        None => true,
        Some(after) => was_live && after.is_deleted(),
    }
}

/// How many fields of a record have a value.
pub(super) fn filled(row: &Row) -> u64 {
    let fields = row.object().fields().iter().enumerate();
    let is_filled = |index: usize| match row.value(index) {
        ValueRef::Null => false,
        ValueRef::List(entries) => !entries.is_empty(),
        ValueRef::Json(json) => json.as_object().is_none_or(|members| !members.is_empty()),
        _ => true,
    };
    fields
        .filter(|(index, field)| !field.system && is_filled(*index))
        .count() as u64
}

pub(super) fn entry(
    policy: &Record<RetentionPolicy>,
    id: Uuid,
    records: u64,
    values: u64,
) -> DeletionLog {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut entry = DeletionLog::new(
        policy.object.clone(),
        id,
        policy.method,
        DeletionReason::RetentionEnded,
        count(records),
        count(values),
    );
    let reference = policy.legal_reference.clone();
    entry.legal_reference = reference.or_else(|| Some(policy.name.clone()));
    entry
}

/// Whether an error tells of the record, and not of the storage or another writer.
const fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::Validation(_)
            | Error::Duplicate { .. }
            | Error::DuplicateFound(_)
            | Error::AlreadyConverted(_)
            | Error::ConversionInUse(_)
            | Error::Reference { .. }
            | Error::DefinitionInUse(_)
            | Error::Rule(_)
            | Error::Forbidden { .. }
    )
}

fn gone(policy: &Record<RetentionPolicy>) -> Error {
    Error::NotFound {
        object: RetentionPolicy::schema().name().to_owned(),
        id: policy.id.uuid(),
    }
}

//! Rules that wait for time to pass: once for each deal and occasion, however many workers there are.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use uuid::Uuid;

use super::compile::{ActiveRule, ActiveRules};
use super::run::{Cause, entry, execute, failed, is_refusal};
use super::{Automation, AutomationExecution, AutomationRule, ExecutionOutcome, TimeBasis};
use crate::Id;
use crate::deals::{Deal, DealStatus};
use crate::engine::{Progress, Settle, UnitOfWork, Workspace, in_work};
use crate::error::{Error, Result};
use crate::query::{Condition, Query, Where, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, Value};
use crate::tenancy::today;

/// How many deals are read at once, and for how many a rule runs in one commit.
const AT_ONCE: usize = 200;

/// What a run of the rules that are based on time came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimedRun {
    /// How many deals were due for a rule, those for which it had run before included.
    pub due: u64,
    /// How many times a rule ran.
    pub executed: u64,
    /// How many times an action was refused.
    pub failed: u64,
    /// Whether the run was stopped before its end.
    pub is_stopped: bool,
}

/// Some deals that were due for a rule.
#[derive(Default)]
struct Batch {
    due: u64,
    executed: u64,
    failed: u64,
    /// The last deal that was looked at.
    last: Option<Uuid>,
    /// Whether no more may follow.
    is_last: bool,
}

impl Settle for Batch {}

impl Automation<'_> {
    /// Runs the rules that are based on time, in their order, for the deals that are due: call it
    /// every hour or so, from as many workers as you like. A rule runs once for each deal and occasion
    /// ([`TimeBasis`]), also if its actions fail; what an occasion is told by is unique in the log of
    /// executions, so of two workers one finds that the other was faster.
    ///
    /// Some hundred deals are one commit, so a run that is stopped or fails has done its work up to
    /// there; run again it does the rest. Where what is done for one deal is refused as a whole, as by
    /// a rule that says so ([`OnFailure::Refuse`](super::OnFailure::Refuse)), that is written down as
    /// a failure for this deal, and the others go on. Deals that are archived are left alone. What the actions
    /// change sets other rules off as any change does. Each run reads the deals that are due, of which
    /// it needs the memory of some hundred. A tenant that was moved without its logs begins anew.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// # async fn example(session: &Session) -> Result<()> {
    /// let run = session.automation().run_time_based(&()).await?;
    /// println!("{} rules ran, {} failed", run.executed, run.failed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn run_time_based(&self, progress: &dyn Progress) -> Result<TimedRun> {
        let rules = self.session.begin().remembered::<ActiveRules>().await?;
        let mut done = TimedRun::default();
        for rule in &rules.timed {
            let id = rule.id();
            let mut after = None;
            // How many deals are still tried one by one, as all at once were refused.
            let mut singly = 0_usize;
            loop {
                let limit = if singly > 0 { 1 } else { AT_ONCE };
                let batch = match self.commit_batch(id, after, limit).await {
                    Err(error) if is_refusal(&error) && limit > 1 => {
                        singly = AT_ONCE;
                        continue;
                    }
                    Err(error) if is_refusal(&error) => {
                        Box::pin(self.commit_failure(id, after, &error)).await?
                    }
                    other => other?,
                };
                singly = singly.saturating_sub(1);
                done.due += batch.due;
                done.executed += batch.executed;
                done.failed += batch.failed;
                if progress.report(done.due, None) == ControlFlow::Break(()) {
                    done.is_stopped = true;
                    return Ok(done);
                }
                if batch.is_last {
                    break;
                }
                after = batch.last;
            }
        }
        Ok(done)
    }

    async fn commit_batch(
        &self,
        id: Id<AutomationRule>,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<Batch> {
        let mut workspace = Workspace::Session(self.session);
        in_work!(workspace, |work| {
            run_batch(work, id, after, limit).await
        })
    }

    async fn commit_failure(
        &self,
        id: Id<AutomationRule>,
        after: Option<Uuid>,
        error: &Error,
    ) -> Result<Batch> {
        let mut workspace = Workspace::Session(self.session);
        in_work!(workspace, |work| {
            write_down(work, id, after, error).await
        })
    }
}

/// Runs a rule for the next deals behind an id that are due.
async fn run_batch(
    work: &mut UnitOfWork,
    id: Id<AutomationRule>,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Batch> {
    let mut batch = Batch {
        is_last: true,
        ..Batch::default()
    };
    // After a conflict the rule may be another one, or none.
    let rules = work.remembered::<ActiveRules>().await?;
    let Some(rule) = rules.timed.iter().find(|rule| rule.id() == id) else {
        return Ok(batch);
    };
    let read = due_deals(work, rule, after, limit).await?;
    batch.last = read.last().map(|deal| deal.id.uuid());
    batch.is_last = read.len() < limit;
    let due = rule.fitting(work, read).await?;
    batch.due = due.len() as u64;
    let due: Vec<(Arc<Record<Deal>>, String)> = due
        .into_iter()
        .filter_map(|deal| {
            let occasion = occasion(&rule.record, &deal)?;
            Some((deal, occasion))
        })
        .collect();
    let known = known_occasions(work, id, &due).await?;
    for (deal, occasion) in due {
        if known.contains(&(deal.id, occasion.clone())) {
            continue;
        }
        work.contend("automation_execution", &["rule_id", "deal_id", "occasion"]);
        // It is due as it was read, and is not read again.
        work.rely_on_row(deal.clone());
        let cause = Cause {
            step: 0,
            occasion: Some(occasion),
        };
        match execute(work, rule, deal.id, cause).await? {
            ExecutionOutcome::Executed => batch.executed += 1,
            ExecutionOutcome::Failed | ExecutionOutcome::Stopped => batch.failed += 1,
        }
    }
    Ok(batch)
}

/// Writes down that what a rule does was refused for the next deal behind an id that is due, so that
/// it does not keep the rule from others.
async fn write_down(
    work: &mut UnitOfWork,
    id: Id<AutomationRule>,
    after: Option<Uuid>,
    error: &Error,
) -> Result<Batch> {
    let mut batch = Batch {
        is_last: true,
        ..Batch::default()
    };
    let rules = work.remembered::<ActiveRules>().await?;
    let Some(rule) = rules.timed.iter().find(|rule| rule.id() == id) else {
        return Ok(batch);
    };
    let read = due_deals(work, rule, after, 1).await?;
    batch.last = read.last().map(|deal| deal.id.uuid());
    batch.is_last = read.is_empty();
    let Some(deal) = rule.fitting(work, read).await?.pop() else {
        return Ok(batch);
    };
    batch.due = 1;
    let deal_id = deal.id;
    if let Some(occasion) = occasion(&rule.record, &deal) {
        let due = [(deal, occasion)];
        if known_occasions(work, id, &due).await?.is_empty() {
            let [(_, occasion)] = due;
            work.contend("automation_execution", &["rule_id", "deal_id", "occasion"]);
            let cause = Cause {
                step: 0,
                occasion: Some(occasion),
            };
            let refused = entry(work, &rule.record, deal_id, ExecutionOutcome::Failed, cause);
            work.append_entry(failed(refused, error))?;
            batch.failed = 1;
        }
    }
    Ok(batch)
}

/// The next deals behind an id that are due for a rule, by id. Its condition that is an expression is
/// not asked.
async fn due_deals(
    work: &UnitOfWork,
    rule: &ActiveRule,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Vec<Arc<Record<Deal>>>> {
    let Some(due) = due(&rule.record, work.now(), today(work).await?) else {
        return Ok(Vec::new());
    };
    let registry = &*work.registry().await?;
    let due = Condition::bind(&due.into_filter(), Deal::schema(), registry)?;
    let condition = Condition::not_deleted()
        .and(Condition::not_archived())
        .and(due)
        .and(rule.conditions.clone());
    let mut query = Query::new(Deal::schema(), condition).limit(limit);
    query.after = after.map(|id| vec![Value::Uuid(id)]);
    let rows = work.select(&query).await?;
    Ok(rows.into_iter().filter_map(Record::from_row).collect())
}

/// For which of the occasions a rule ran before.
async fn known_occasions(
    work: &UnitOfWork,
    rule: Id<AutomationRule>,
    due: &[(Arc<Record<Deal>>, String)],
) -> Result<HashSet<(Id<Deal>, String)>> {
    if due.is_empty() {
        return Ok(HashSet::new());
    }
    let deals = due.iter().map(|(deal, _)| deal.id);
    let texts: HashSet<String> = due.iter().map(|(_, text)| text.clone()).collect();
    let known = AutomationExecution::RULE_ID
        .eq(rule)
        .and(AutomationExecution::DEAL_ID.one_of(deals))
        .and(AutomationExecution::OCCASION.one_of(texts));
    let known = work.find_all(known, Vec::new()).await?;
    let known = known.iter();
    let known = known.filter_map(|one| Some((one.deal_id, one.occasion.clone()?)));
    Ok(known.collect())
}

/// Which deals are due for a rule; none where the days lead out of the calendar.
fn due(rule: &AutomationRule, now: DateTime<Utc>, today: NaiveDate) -> Option<Where<Deal>> {
    let basis = rule.time_basis?;
    let days = TimeDelta::try_days(i64::from(rule.after_days?))?;
    let since = now.checked_sub_signed(days)?;
    let is_due = match basis {
        TimeBasis::InStage => Deal::STAGE_ENTERED_AT.le(since),
        TimeBasis::WithoutActivity => {
            let never = Deal::LAST_ACTIVITY_AT
                .is_null()
                .and(Deal::CREATED_AT.le(since));
            Deal::LAST_ACTIVITY_AT.le(since).or(never)
        }
        TimeBasis::BeforeClose => {
            Deal::EXPECTED_CLOSE_DATE.between(today, today.checked_add_signed(days)?)
        }
        TimeBasis::AfterClose => Deal::ACTUAL_CLOSE_DATE.le(today.checked_sub_signed(days)?),
        TimeBasis::AfterCreation => Deal::CREATED_AT.le(since),
    };
    let is_due = match rule.pipeline_id {
        Some(pipeline) => is_due.and(Deal::PIPELINE_ID.eq(pipeline)),
        None => is_due,
    };
    Some(match (rule.stage_id, basis) {
        (Some(stage), _) => is_due.and(Deal::STAGE_ID.eq(stage)),
        (None, TimeBasis::AfterClose) => is_due.and(Deal::STATUS.ne(DealStatus::Open)),
        (None, _) => is_due.and(Deal::STATUS.eq(DealStatus::Open)),
    })
}

/// What tells one occasion of a deal from another.
fn occasion(rule: &AutomationRule, deal: &Record<Deal>) -> Option<String> {
    let moment = |at: Option<DateTime<Utc>>| at.map(|at| at.timestamp_micros().to_string());
    let basis = rule.time_basis?;
    let when = match basis {
        TimeBasis::InStage => moment(deal.stage_entered_at)?,
        TimeBasis::WithoutActivity => moment(deal.last_activity_at.or(Some(deal.created.at)))?,
        TimeBasis::BeforeClose => deal.expected_close_date?.to_string(),
        TimeBasis::AfterClose => deal.actual_close_date?.to_string(),
        TimeBasis::AfterCreation => moment(Some(deal.created.at))?,
    };
    Some(format!("{basis} {when}"))
}

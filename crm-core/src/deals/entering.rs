//! The gates of stages (R-044) at work: for every write that brings a deal into a stage, and for those
//! who want to know before.

use std::sync::Arc;

use async_trait::async_trait;

use super::gates::{Entry, Left, unfulfilled};
use super::rules::{Moment, entered};
use super::{ApprovalStatus, Deal, Obstacle, StageApproval, history_of};
use crate::Id;
use crate::engine::{
    Answer, Around, CommitHook, Records, Requirement, UnitOfWork, Write, WriteRule,
};
use crate::error::{Faults, Result};
use crate::pipelines::{PipelineStage, Step, Way, Ways};
use crate::query::WhereExt;
use crate::record::Record;
use crate::schema::{AnyRecord, Entity, Row};

/// R-044: no deal enters a stage whose gates it does not meet. It judges the deal as it will be
/// written.
#[derive(Debug)]
pub(crate) struct StageGates;

#[async_trait]
impl WriteRule for StageGates {
    fn object(&self) -> &'static str {
        "deal"
    }

    async fn judge(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Deal>() else {
            return Ok(());
        };
        if write.deletes() || write.passes_gates() {
            return Ok(());
        }
        let before = write.before::<Deal>();
        let enters = before.is_none_or(|before| before.stage_id != after.stage_id);
        // It was in the stage before, but not as it is now.
        let returns = enters && write.is_in_part();
        // The engine's own hooks work out what nobody else writes.
        let is_worked_out = || work.is_in_hooks() && !changes_what_users_write(before, after);
        if !enters && (write.is_upkeep() || !entered_here(work, after) || is_worked_out()) {
            return Ok(());
        }
        let (after, before) = (after.clone(), before.cloned());
        let ways = Ways::with(work, after.pipeline_id, after.stage_id).await?;
        let way = ways.way(after.pipeline_id);
        let step = way.and_then(|way| Some((way, way.step(after.stage_id?)?)));
        let Some((way, to)) = step else {
            // Told already: the stage is none of the pipeline.
            return Ok(());
        };
        let left = match before.as_ref().filter(|_| enters) {
            Some(before) => left_by(work, &ways, way, before).await?,
            None => None,
        };
        if let Some(left) = left {
            work.rely_on(left.stage);
        }
        // Nobody can have approved of a deal that is not there yet.
        let approvals = match before {
            Some(_) => approvals_for(work, &after, to).await?,
            None => Vec::new(),
        };
        let approvals: Vec<_> = approvals
            .into_iter()
            .filter(|approval| match approval.status {
                ApprovalStatus::Approved => true,
                // This very entry used it up.
                // It let the deal in before, with the amount that it has again.
                ApprovalStatus::Used if returns => true,
                // This very entry used it up.
                ApprovalStatus::Used => {
                    let schema = StageApproval::schema();
                    !enters && work.place(schema, approval.id.uuid()).is_some()
                }
                _ => false,
            })
            .collect();
        let at_hand: Vec<_> = approvals.iter().map(|approval| &approval.data).collect();
        let known = before.as_ref().filter(|_| !enters);
        let deals = std::iter::once(&after).chain(known).cloned().collect();
        let (deals, answers, around) = asked(work, to, deals).await?;
        around.rely(work);
        let mut entries = deals.iter().zip(answers).map(|(deal, answer)| Entry {
            deal,
            to,
            way,
            left,
            answer,
            approvals: &at_hand,
            now: work.now(),
        });
        let entry = entries.next();
        let mut found = match &entry {
            Some(entry) if enters && !returns => entry.obstacles(),
            Some(entry) => entry.state(),
            None => Vec::new(),
        };
        if let Some(known) = entries.next() {
            // What the deal lacked when upkeep brought it here, it may go on lacking.
            let known = known.state();
            found.retain(|obstacle| !known.contains(obstacle));
        }
        if !found.is_empty() {
            for obstacle in found {
                write.faults().push(obstacle.fault());
            }
            return Ok(());
        }
        if to.condition.asked().is_some_and(Requirement::looks_around) {
            work.let_in.insert((after.id.uuid(), to.stage.id.uuid()));
        }
        let mut fitting = approvals.into_iter().filter(|it| it.is_for(&after));
        let is_used =
            |approval: &Arc<Record<StageApproval>>| approval.status == ApprovalStatus::Used;
        if enters
            && to.stage.approval.is_some()
            && let Some(approval) = fitting.next()
            && !(is_used(&approval) || fitting.any(|other| is_used(&other)))
        {
            let now = work.now();
            let used = |approval: &mut StageApproval| {
                approval.status = ApprovalStatus::Used;
                approval.used_at = Some(now);
            };
            work.update_record(approval, &used).await?;
        }
        Ok(())
    }
}

/// R-044: asks the conditions of stages once more where they look at other records, which the same unit
/// of work may have changed behind the move. It runs before all that follows from the commit, such as
/// figures that count the deal where it now is.
#[derive(Debug)]
pub(crate) struct EntryConditions;

#[async_trait]
impl CommitHook for EntryConditions {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let mut faults = Faults::default();
        for (id, stage) in work.let_in.clone() {
            let id = Id::<Deal>::new(id);
            let Some(deal) = work.lookup(id).await? else {
                continue;
            };
            let is_there = deal.stage_id.map(Id::uuid) == Some(stage) && entered_here(work, &deal);
            if !is_there {
                continue;
            }
            let ways = Ways::with(work, deal.pipeline_id, deal.stage_id).await?;
            let Some(to) = deal.stage_id.and_then(|stage| ways.step(stage)) else {
                continue;
            };
            let (_, answers, around) = asked(work, to, vec![(*deal).clone()]).await?;
            around.rely(work);
            let answer = answers.into_iter().next().flatten();
            if let Some(obstacle) = unfulfilled(to, answer) {
                faults.push(obstacle.fault());
            }
        }
        faults.into_result()?;
        Ok(())
    }
}

/// Whether the deal came into its stage in this very unit of work: then it is not to lose, before the
/// commit, what let it in. A unit of work gives nothing that its commit does not show.
fn entered_here(work: &UnitOfWork, after: &Record<Deal>) -> bool {
    let Some(change) = work.place(Deal::schema(), after.id.uuid()) else {
        return false;
    };
    let stored = change.before().cloned().and_then(Record::<Deal>::from_row);
    let place = |deal: &Deal| (deal.stage_id, deal.stage_entered_at);
    stored.is_none_or(|stored| place(&stored) != place(after))
}

/// Whether a write changes a field that users write too.
fn changes_what_users_write(before: Option<&Record<Deal>>, after: &Record<Deal>) -> bool {
    let fields = Deal::schema().fields();
    let by_users = |index: usize| {
        let field = fields.get(index);
        field.is_some_and(|field| !field.system && !field.read_only)
    };
    before.is_none_or(|before| AnyRecord::differing(after, before).iter().any(by_users))
}

/// The stage that a deal leaves.
async fn left_by<'a>(
    work: &UnitOfWork,
    ways: &'a Ways,
    way: &'a Way,
    before: &Record<Deal>,
) -> Result<Option<Left<'a>>> {
    let Some(step) = before.stage_id.and_then(|left| ways.step(left)) else {
        return Ok(None);
    };
    let stage = &step.stage;
    let mut closed_from = None;
    if stage.is_closed() && way.pipeline.stage_order_enforced {
        let history = history_of(work, before.id).await?;
        let mut steps = history.iter().rev().filter_map(|step| step.from_stage_id);
        let open = steps.find_map(|from| {
            let from = way.step(from)?;
            (!from.stage.is_closed()).then_some(&from.stage.data)
        });
        closed_from = open;
    }
    Ok(Some(Left {
        stage,
        since: before.stage_entered_at.unwrap_or(before.created.at),
        closed_from,
    }))
}

/// The approvals of a deal for a stage, where it needs one.
async fn approvals_for(
    work: &UnitOfWork,
    deal: &Record<Deal>,
    to: &Step,
) -> Result<Vec<Arc<Record<StageApproval>>>> {
    if to.stage.approval.is_none() {
        return Ok(Vec::new());
    }
    let wanted = StageApproval::DEAL_ID
        .eq(deal.id)
        .and(StageApproval::STAGE_ID.eq(to.stage.id));
    work.find_all(wanted, Vec::new()).await
}

/// A stage of the pipeline that a deal is in, and what stands in its way there.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StageOption {
    /// The stage.
    pub stage: Arc<Record<PipelineStage>>,
    /// Whether the deal is in it.
    pub is_current: bool,
    /// Everything that stands in the way; nothing, if the deal may go there or is there.
    pub obstacles: Vec<Obstacle>,
}

impl StageOption {
    /// Whether a move there would be let through.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        !self.is_current && self.obstacles.is_empty()
    }
}

impl Records<'_, Deal> {
    /// Everything that stands between a deal and a stage (R-044), without moving it; nothing, if the
    /// move would be let through or the deal is there.
    ///
    /// ```
    /// # use crm_core::{Session, Id, deals::{Deal, Obstacle}, error::Result, pipelines::PipelineStage};
    /// # async fn example(session: &Session, deal: Id<Deal>, stage: Id<PipelineStage>) -> Result<()> {
    /// for obstacle in session.deals().check_move(deal, stage).await? {
    ///     match obstacle {
    ///         Obstacle::Missing { field } => println!("fill {field}"),
    ///         Obstacle::TooEarly { until } => println!("wait until {until}"),
    ///         other => println!("{}", other.fault()),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn check_move(
        &self,
        deal: Id<Deal>,
        stage: Id<PipelineStage>,
    ) -> Result<Vec<Obstacle>> {
        let mut begun = None;
        let work = self.workspace.reading(&mut begun);
        let deal = work.get(deal).await?;
        let ways = Ways::with(work, deal.pipeline_id, Some(stage)).await?;
        let Some(to) = ways.step(stage) else {
            work.get(stage).await?;
            return Ok(vec![Obstacle::OtherPipeline]);
        };
        Ok(options(work, &ways, &deal, &[to]).await?.remove(0))
    }

    /// All stages of the pipeline that a deal is in, in their order, each with what stands in the way
    /// (R-044): for a board that shows where a deal may go.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn allowed_stages(&self, deal: Id<Deal>) -> Result<Vec<StageOption>> {
        let mut begun = None;
        let work = self.workspace.reading(&mut begun);
        let deal = work.get(deal).await?;
        let ways = Ways::with(work, deal.pipeline_id, deal.stage_id).await?;
        let Some(way) = ways.way(deal.pipeline_id) else {
            return Ok(Vec::new());
        };
        let steps: Vec<&Step> = way.stages.iter().collect();
        let obstacles = options(work, &ways, &deal, &steps).await?;
        let options = steps.iter().zip(obstacles);
        Ok(options
            .map(|(step, obstacles)| StageOption {
                stage: step.stage.clone(),
                is_current: deal.stage_id == Some(step.stage.id),
                obstacles,
            })
            .collect())
    }
}

/// What stands between a deal and each of some stages.
async fn options(
    work: &UnitOfWork,
    ways: &Ways,
    deal: &Record<Deal>,
    steps: &[&Step],
) -> Result<Vec<Vec<Obstacle>>> {
    let Some(way) = ways.way(deal.pipeline_id) else {
        return Ok(vec![vec![Obstacle::OtherPipeline]; steps.len()]);
    };
    let left = left_by(work, ways, way, deal).await?;
    let needs_approval = steps.iter().any(|step| step.stage.approval.is_some());
    let approvals = if needs_approval {
        let approved = StageApproval::DEAL_ID
            .eq(deal.id)
            .and(StageApproval::STATUS.eq(ApprovalStatus::Approved));
        work.find_all(approved, Vec::new()).await?
    } else {
        Vec::new()
    };
    let mode = way.pipeline.probability_calculation;
    let moment = Moment::of(work).await?;
    let mut judged = Vec::with_capacity(steps.len());
    for to in steps {
        let stage = &to.stage;
        if stage.pipeline_id != deal.pipeline_id {
            judged.push(vec![Obstacle::OtherPipeline]);
            continue;
        }
        if deal.stage_id == Some(stage.id) {
            judged.push(Vec::new());
            continue;
        }
        let own = approvals.iter().filter(|it| it.stage_id == stage.id);
        let own: Vec<_> = own.map(|approval| &approval.data).collect();
        let after = entered(deal, stage, mode, moment);
        let (deals, answers, _) = asked(work, to, vec![after]).await?;
        let entry = deals.iter().zip(answers).next();
        let entry = entry.map(|(deal, answer)| Entry {
            deal,
            to,
            way,
            left,
            answer,
            approvals: &own,
            now: work.now(),
        });
        judged.push(entry.map(|entry| entry.obstacles()).unwrap_or_default());
    }
    Ok(judged)
}

/// Deals before a stage with the computed values that the stage looks at, what its condition comes to
/// for each, and the other records that this rests on.
async fn asked(
    work: &UnitOfWork,
    to: &Step,
    deals: Vec<Record<Deal>>,
) -> Result<(Vec<Arc<Record<Deal>>>, Vec<Option<Answer>>, Around)> {
    let deals: Vec<Arc<Record<Deal>>> = deals.into_iter().map(Arc::new).collect();
    let condition = to.condition.asked();
    if condition.is_none() && to.computed.is_empty() {
        let answers = vec![None; deals.len()];
        return Ok((deals, answers, Around::default()));
    }
    let rows: Vec<Row> = deals.into_iter().map(|deal| deal as Row).collect();
    let rows = work.completed(rows, &to.computed).await?;
    let (answers, around) = match condition {
        Some(condition) => {
            let (answers, around) = condition.ask(work, &rows).await?;
            (answers.into_iter().map(Some).collect(), around)
        }
        None => (vec![None; rows.len()], Around::default()),
    };
    let deals = rows.into_iter().filter_map(Record::from_row).collect();
    Ok((deals, answers, around))
}

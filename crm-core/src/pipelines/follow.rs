//! R-045: the probabilities of deals follow their stage and how the pipeline reckons.
//!
//! Few deals follow in the very commit that changes the figure. Many do not fit into one commit: such
//! a change is refused in a unit of work and through a merge patch, and the services here write the
//! figure first and then let the deals follow, some hundreds in a commit.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Pipeline, PipelineStage, ProbabilityCalculation, stages_of};
use crate::Id;
use crate::deals::{Deal, DealStageChange, DealStatus, WinTally, win_probability};
use crate::engine::{Progress, Purpose, Records, Settle, UnitOfWork, Workspace, in_work};
use crate::error::{Error, Result, RuleViolation};
use crate::query::{Cursor, Find, Where, WhereExt};
use crate::record::Record;
use crate::schema::Access;
use crate::value::Percent;

/// How many deals are read, and written in one commit.
pub(super) const AT_ONCE: usize = 500;

/// The most deals that follow in the commit that changes the figure.
const IN_ONE_COMMIT: usize = 1_000;

/// The code of the refusal of a change that more deals would follow.
const TOO_MANY: &str = "too_many_deals";

/// How the deals of a stage reckon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reckoning {
    stage: Id<PipelineStage>,
    /// What counts for a deal without a probability of its own.
    counts: Percent,
    /// Whether a deal's own probability counts before that.
    own_counts: bool,
    /// What nearly all deals of a closed stage say themselves.
    certain: Option<Percent>,
}

impl Reckoning {
    pub(super) fn of(mode: ProbabilityCalculation, stage: &Record<PipelineStage>) -> Self {
        let based = win_probability(ProbabilityCalculation::StageBased, stage, None);
        Self {
            stage: stage.id,
            counts: win_probability(mode, stage, None),
            own_counts: mode == ProbabilityCalculation::Manual,
            certain: stage.is_closed().then_some(based),
        }
    }

    /// The deals that follow a new figure of their stage.
    pub(super) fn by_figure(&self) -> Where<Deal> {
        let differs = Deal::STAGE_ID
            .eq(self.stage)
            .and(Deal::WIN_PROBABILITY.ne(self.counts));
        if self.own_counts {
            differs.and(Deal::PROBABILITY.is_null())
        } else {
            differs
        }
    }

    /// The deals that may have to follow a new mode of their pipeline: also those whose own
    /// probability counts now.
    pub(super) fn by_mode(&self) -> Where<Deal> {
        if !self.own_counts {
            return self.by_figure();
        }
        let own = Deal::STAGE_ID
            .eq(self.stage)
            .and(Deal::PROBABILITY.is_not_null());
        let own = match self.certain {
            Some(certain) => own.and(Deal::PROBABILITY.ne(certain)),
            None => own,
        };
        self.by_figure().or(own)
    }

    /// The probability that counts for a deal.
    fn right(&self, deal: &Deal) -> Percent {
        let own = deal.probability.filter(|_| self.own_counts);
        own.unwrap_or(self.counts)
    }
}

/// Writes what counts for deals that were just read; gives how many changed.
async fn set(
    work: &mut UnitOfWork,
    reckoning: &Reckoning,
    deals: Vec<Arc<Record<Deal>>>,
) -> Result<u64> {
    let mut changed = 0;
    for deal in deals {
        let right = reckoning.right(&deal);
        if deal.win_probability != right {
            changed += 1;
            work.update_record(deal, &|deal: &mut Deal| deal.win_probability = right)
                .await?;
        }
    }
    Ok(changed)
}

/// Lets the deals that fulfil a filter follow in this commit.
///
/// # Errors
/// [`RuleViolation`] `too_many_deals`.
pub(super) async fn at_once(
    work: &mut UnitOfWork,
    reckonings: Vec<(Reckoning, Where<Deal>)>,
) -> Result<()> {
    let mut room = IN_ONE_COMMIT;
    for (reckoning, concerned) in reckonings {
        let deals = work.find_first(concerned, room + 1).await?;
        room = room.checked_sub(deals.len()).ok_or_else(|| {
            RuleViolation::new(
                TOO_MANY,
                "R-045",
                "more than 1000 deals would follow; change it with `pipelines().update_stage` or \
                 `set_probability_mode` on a session, where they follow in steps",
            )
        })?;
        set(work, &reckoning, deals).await?;
    }
    Ok(())
}

/// Whether a change was refused only because too many deals would follow at once.
fn needs_steps(error: &Error) -> bool {
    matches!(error, Error::Rule(violation) if violation.code == TOO_MANY)
}

/// What [`refresh_probabilities`](Records::refresh_probabilities) came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefreshedProbabilities {
    /// How many decided deals were counted.
    pub decided: u64,
    /// How many open stages have a figure now; the others have too few decided deals.
    pub stages: u64,
    /// How many deals got another probability.
    pub followed: u64,
    /// Whether the run was stopped before its end.
    pub is_stopped: bool,
}

/// Some deals that followed.
struct Step {
    seen: u64,
    followed: u64,
    next: Option<Cursor>,
}

impl Settle for Step {}

/// A page of the deals of a stage, archived ones too, in the order of an index.
fn page(filter: Where<Deal>, after: Option<Cursor>) -> Find<Deal> {
    let find = Find::from(filter)
        .sort(Deal::STAGE_ENTERED_AT.asc())
        .with_archived()
        .limit(AT_ONCE);
    match after {
        Some(after) => find.after(after),
        None => find,
    }
}

/// Lets the next deals of a stage follow.
async fn follow_some(
    work: &mut UnitOfWork,
    stage: Id<PipelineStage>,
    after: Option<Cursor>,
) -> Result<Step> {
    let Some(stage) = work.lookup(stage).await? else {
        return Ok(Step {
            seen: 0,
            followed: 0,
            next: None,
        });
    };
    let pipeline = work.get(stage.pipeline_id).await?;
    work.rely_on(&*stage);
    work.rely_on(&*pipeline);
    let reckoning = Reckoning::of(pipeline.probability_calculation, &stage);
    let find = page(reckoning.by_mode(), after);
    let page = work.records::<Deal>().find(find).await?;
    let seen = page.items.len() as u64;
    let followed = set(work, &reckoning, page.items).await?;
    Ok(Step {
        seen,
        followed,
        next: page.next,
    })
}

impl Records<'_, Pipeline> {
    /// Changes a stage. The deals of the stage follow a new probability (R-045): up to 1000 in the
    /// same commit; if they are more, on a session in steps behind it, in a unit of work not at all.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Validation`], [`Error::Rule`] if the outcome of a stage with
    /// deals would change, or if too many deals would follow in one commit.
    pub async fn update_stage(
        &mut self,
        stage: Id<PipelineStage>,
        change: impl Fn(&mut PipelineStage) + Send + Sync,
    ) -> Result<Arc<Record<PipelineStage>>> {
        let reckons_anew = AtomicBool::new(false);
        let change = |stage: &mut PipelineStage| {
            let before = stage.default_probability;
            change(stage);
            reckons_anew.store(before != stage.default_probability, Ordering::Relaxed);
        };
        let changed = change_for(&mut self.workspace, Purpose::Usual, stage, &change).await;
        let changed = match changed {
            Err(error) if needs_steps(&error) && self.is_session() => {
                change_for(&mut self.workspace, Purpose::Upkeep, stage, &change).await?
            }
            other => other?,
        };
        if self.is_session() && reckons_anew.load(Ordering::Relaxed) {
            // Also deals that entered a moment before the change was written.
            self.follow(stage, &mut RefreshedProbabilities::default(), &())
                .await?;
        }
        Ok(changed)
    }

    /// Says where the probabilities of a pipeline's deals come from (R-045), and lets them follow:
    /// many of them in steps, so that a run that is stopped goes on when it is called again.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result};
    /// # use crm_core::pipelines::{Pipeline, ProbabilityCalculation};
    /// # async fn example(session: &Session, pipeline: Id<Pipeline>) -> Result<()> {
    /// let automatic = ProbabilityCalculation::Automatic;
    /// session.pipelines().set_probability_mode(pipeline, automatic, &()).await?;
    /// let run = session.pipelines().refresh_probabilities(pipeline, &()).await?;
    /// println!("{} stages have a figure, {} deals followed", run.stages, run.followed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Rule`] in a unit of work if too many deals would follow.
    pub async fn set_probability_mode(
        &mut self,
        pipeline: Id<Pipeline>,
        mode: ProbabilityCalculation,
        progress: &dyn Progress,
    ) -> Result<Arc<Record<Pipeline>>> {
        let change = |pipeline: &mut Pipeline| pipeline.probability_calculation = mode;
        let changed = change_for(&mut self.workspace, Purpose::Usual, pipeline, &change).await;
        let changed = match changed {
            Err(error) if needs_steps(&error) && self.is_session() => {
                change_for(&mut self.workspace, Purpose::Upkeep, pipeline, &change).await?
            }
            other => other?,
        };
        if self.is_session() {
            // Also what an earlier run, stopped in between, has left, and deals that entered a moment
            // before the change was written.
            self.follow_all(pipeline, &mut RefreshedProbabilities::default(), progress)
                .await?;
        }
        Ok(changed)
    }

    /// Counts the decided deals of a pipeline anew and gives each open stage its
    /// [`historic_probability`](PipelineStage::historic_probability): the share of won deals among
    /// those that ever entered it. Where the pipeline reckons so
    /// ([`ProbabilityCalculation::Automatic`], R-045), its deals follow. Call it from time to time,
    /// such as every night.
    ///
    /// It reads the decided deals with their history some hundreds at a time, and deals follow some
    /// hundreds in a commit. A run that is stopped while it counts changes nothing; one that is
    /// stopped later is finished by the next.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Forbidden`] in a unit of work, which is one commit.
    pub async fn refresh_probabilities(
        &mut self,
        pipeline: Id<Pipeline>,
        progress: &dyn Progress,
    ) -> Result<RefreshedProbabilities> {
        if !self.is_session() {
            return Err(Error::Forbidden {
                reason: "`refresh_probabilities` runs over many commits: call it on a session"
                    .into(),
            });
        }
        let mut run = RefreshedProbabilities::default();
        let Some(tally) = self.count_decided(pipeline, &mut run, progress).await? else {
            return Ok(run);
        };
        let figures: Result<usize> = in_work!(self.workspace, |work| {
            work.get(pipeline).await?;
            let mut figures = 0;
            for stage in stages_of(work, pipeline).await? {
                let share = tally.share(stage.id).filter(|_| !stage.is_closed());
                figures += usize::from(share.is_some());
                let sample = (!stage.is_closed()).then(|| tally.decided(stage.id));
                let sample = sample.map(|sample| i64::try_from(sample).unwrap_or(i64::MAX));
                work.keep_in_order(stage, &|stage: &mut PipelineStage| {
                    stage.historic_probability = share;
                    stage.historic_sample = sample;
                })
                .await?;
            }
            Ok(figures)
        });
        run.stages = figures? as u64;
        self.follow_all(pipeline, &mut run, progress).await?;
        Ok(run)
    }

    fn is_session(&self) -> bool {
        matches!(self.workspace, Workspace::Session(_))
    }

    /// Counts the decided deals of a pipeline; `None` if it was stopped.
    async fn count_decided(
        &self,
        pipeline: Id<Pipeline>,
        run: &mut RefreshedProbabilities,
        progress: &dyn Progress,
    ) -> Result<Option<WinTally>> {
        let work = self.workspace.session().begin();
        work.get(pipeline).await?;
        let mut tally = WinTally::default();
        for stage in stages_of(&work, pipeline).await? {
            if !stage.is_closed() {
                continue;
            }
            let mut after = None;
            loop {
                let decided = Deal::STAGE_ID
                    .eq(stage.id)
                    .and(Deal::STATUS.ne(DealStatus::Open));
                let page = self.workspace.find(page(decided, after)).await?;
                count(&work, &mut tally, stage.is_won(), &page.items).await?;
                run.decided = tally.deals();
                if progress.report(run.decided, None) == ControlFlow::Break(()) {
                    run.is_stopped = true;
                    return Ok(None);
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(Some(tally))
    }

    /// Lets the deals of all stages follow.
    async fn follow_all(
        &mut self,
        pipeline: Id<Pipeline>,
        run: &mut RefreshedProbabilities,
        progress: &dyn Progress,
    ) -> Result<()> {
        for stage in stages_of(&self.workspace.session().begin(), pipeline).await? {
            self.follow(stage.id, run, progress).await?;
            if run.is_stopped {
                break;
            }
        }
        Ok(())
    }

    /// Lets the deals of a stage follow, some hundreds in a commit.
    async fn follow(
        &mut self,
        stage: Id<PipelineStage>,
        run: &mut RefreshedProbabilities,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut after = None;
        loop {
            let step: Result<Step> = in_work!(self.workspace, |work| {
                follow_some(work, stage, after.clone()).await
            });
            let step = step?;
            run.followed += step.followed;
            if step.seen > 0 {
                let answer = progress.report(run.decided + run.followed, None);
                run.is_stopped = answer == ControlFlow::Break(());
            }
            after = step.next;
            if after.is_none() || run.is_stopped {
                return Ok(());
            }
        }
    }
}

/// Changes a record as its caller may, for a purpose.
async fn change_for<E: crate::schema::Entity>(
    workspace: &mut Workspace<'_>,
    purpose: Purpose,
    id: Id<E>,
    change: &(impl Fn(&mut E) + Send + Sync),
) -> Result<Arc<Record<E>>> {
    in_work!(workspace, |work| {
        work.change_for(purpose, Access::User, id, None, change)
            .await
    })
}

/// Adds decided deals to the tally, by the stages that their history tells.
async fn count(
    work: &UnitOfWork,
    tally: &mut WinTally,
    is_won: bool,
    deals: &[Arc<Record<Deal>>],
) -> Result<()> {
    if deals.is_empty() {
        return Ok(());
    }
    let ids = deals.iter().map(|deal| deal.id);
    let mut history = work
        .find_all(DealStageChange::DEAL_ID.one_of(ids), Vec::new())
        .await?;
    history.sort_by_key(|step| step.deal_id);
    for deal in deals {
        let from = history.partition_point(|step| step.deal_id < deal.id);
        let own = history.iter().skip(from);
        let own = own.take_while(|step| step.deal_id == deal.id);
        tally.add(is_won, own.map(|step| step.to_stage_id));
    }
    Ok(())
}

//! What a stage makes of the deals in it, whichever way they are written.

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};

use super::{Deal, DealStageChange, DealStatus, win_probability};
use crate::engine::{UnitOfWork, Write, WriteRule};
use crate::error::{Faults, FieldError, Result, codes};
use crate::pipelines::{PipelineStage, ProbabilityCalculation, StageType, Ways};
use crate::record::Record;
use crate::tenancy::today;
use crate::value::Percent;

/// What a stage makes of a deal that enters it.
///
/// ```
/// use chrono::NaiveDate;
/// use crm_core::deals::{DealStatus, Outcome};
/// use crm_core::pipelines::StageType;
///
/// let today = NaiveDate::from_ymd_opt(2026, 3, 31).unwrap();
/// let outcome = Outcome::of(StageType::ClosedWon, today, None);
/// assert_eq!(outcome.status, DealStatus::Won);
/// assert_eq!(outcome.actual_close_date, Some(today));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The status (R-082).
    pub status: DealStatus,
    /// The close date (R-038).
    pub actual_close_date: Option<NaiveDate>,
    /// The probability that the deal is given; `None` leaves it to the deal or the stage.
    pub probability: Option<Percent>,
}

impl Outcome {
    /// The outcome of a stage, closed on `given` or, if nothing is given, today.
    #[must_use]
    pub fn of(stage: StageType, today: NaiveDate, given: Option<NaiveDate>) -> Self {
        let closed = |status, probability| Self {
            status,
            actual_close_date: given.or(Some(today)),
            probability: Some(probability),
        };
        match stage {
            StageType::Open => Self {
                status: DealStatus::Open,
                actual_close_date: None,
                probability: None,
            },
            StageType::ClosedWon => closed(DealStatus::Won, Percent::HUNDRED),
            StageType::ClosedLost => closed(DealStatus::Lost, Percent::ZERO),
        }
    }
}

/// R-038: a close date exactly when the deal is closed.
pub(super) fn check_deal(deal: &Deal, faults: &mut Faults) {
    match (deal.is_closed(), deal.actual_close_date) {
        (true, None) => {
            faults.add(
                "actual_close_date",
                codes::REQUIRED,
                "a closed deal has a close date",
            );
        }
        (false, Some(_)) => {
            faults.add(
                "actual_close_date",
                codes::INCONSISTENT,
                "an open deal has no close date; move it to a closed stage",
            );
        }
        _ => {}
    }
}

/// R-037 to R-039, R-042, R-045, R-082. Whether a deal may enter its stage is judged by
/// [`StageGates`](super::StageGates), after all other rules have completed the deal.
#[derive(Debug)]
pub(crate) struct DealRules;

#[async_trait]
impl WriteRule for DealRules {
    fn object(&self) -> &'static str {
        "deal"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(mut after) = write.after::<Deal>().cloned() else {
            return Ok(());
        };
        if write.deletes() {
            return Ok(());
        }
        let before = write.before::<Deal>().cloned();
        // A deal that stays where it is, with the same probability, needs no look at its stage.
        let stays = before.as_ref().is_some_and(|before| {
            before.stage_id == after.stage_id
                && before.pipeline_id == after.pipeline_id
                && before.probability == after.probability
                && before.deleted_at.is_none()
        });
        if stays {
            return Ok(());
        }
        let ways = Ways::with(work, after.pipeline_id, after.stage_id).await?;
        let way = ways.way(after.pipeline_id);
        let moved_pipeline = before
            .as_ref()
            .is_some_and(|before| before.pipeline_id != after.pipeline_id);
        let same_stage = before
            .as_ref()
            .is_some_and(|before| before.stage_id == after.stage_id);
        if after.data.stage_id.is_none() || (moved_pipeline && same_stage) {
            // R-039.
            let first = way.and_then(|way| way.open().next());
            after.data.stage_id = first.map(|stage| stage.id);
        }
        let Some(stage_id) = after.stage_id else {
            if way.is_none() {
                write
                    .faults()
                    .push(FieldError::missing_record("pipeline_id"));
            } else {
                write.faults().add(
                    "stage_id",
                    codes::REQUIRED,
                    "the pipeline has no open stage",
                );
            }
            return Ok(());
        };
        let Some(step) = ways.step(stage_id) else {
            write.faults().push(FieldError::missing_record("stage_id"));
            return Ok(());
        };
        let stage = &step.stage;
        // R-039.
        let Some(way) = way.filter(|_| stage.pipeline_id == after.pipeline_id) else {
            write.faults().add(
                "stage_id",
                codes::INCONSISTENT,
                "must be a stage of the deal's pipeline",
            );
            return Ok(());
        };
        // What the stage and the pipeline say must still be so when this is written.
        work.rely_on(&**stage);
        work.rely_on(&*way.pipeline);
        let enters = before
            .as_ref()
            .is_none_or(|before| before.stage_id != Some(stage_id));
        if enters && !stage.is_active {
            write
                .faults()
                .add("stage_id", codes::INCONSISTENT, "the stage is not in use");
        }
        let mode = way.pipeline.probability_calculation;
        let moment = Moment::of(work).await?;
        let known = before.as_ref().map(|before| &before.data);
        if enters {
            enter(&mut after.data, known, stage, moment);
        } else if before.as_ref().is_some_and(|was| was.deleted_at.is_some())
            && status_in(stage) != after.status
        {
            // R-082: the outcome of the stage changed while the deal was deleted.
            let since = after.stage_entered_at;
            enter(&mut after.data, known, stage, moment);
            after.data.stage_entered_at = since;
        }
        after.data.win_probability = win_probability(mode, stage, after.probability);
        let faulty = !write.faults().is_empty();
        if enters && !faulty {
            record_step(work, &ways, before.as_ref(), &after, stage)?;
        }
        let settled = after.data;
        write.edit::<Deal>(|deal| *deal = settled);
        Ok(())
    }

    /// R-038, R-045, R-082: what the stage says of a deal that is in it.
    async fn settle(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Deal>().filter(|_| !write.deletes()) else {
            return Ok(());
        };
        let mut deal = after.data.clone();
        let ways = Ways::with(work, deal.pipeline_id, deal.stage_id).await?;
        let way = ways.way(deal.pipeline_id);
        let step = deal.stage_id.and_then(|stage| ways.step(stage));
        let (Some(way), Some(step)) = (way, step) else {
            return Ok(());
        };
        work.rely_on(&*step.stage);
        work.rely_on(&*way.pipeline);
        let moment = Moment::of(work).await?;
        let enters = write.before::<Deal>().is_some_and(|before| {
            before.stage_id != deal.stage_id && before.stage_entered_at == deal.stage_entered_at
        });
        if enters {
            deal.stage_entered_at = Some(moment.now);
        }
        let outcome = Outcome::of(step.stage.stage_type, moment.today, deal.actual_close_date);
        deal.status = outcome.status;
        deal.actual_close_date = outcome.actual_close_date;
        let mode = way.pipeline.probability_calculation;
        deal.win_probability = win_probability(mode, &step.stage, deal.probability);
        write.edit::<Deal>(|own| *own = deal);
        Ok(())
    }
}

/// The deal as it would be, had it entered a stage of its pipeline now.
pub(super) fn entered(
    deal: &Record<Deal>,
    stage: &Record<PipelineStage>,
    mode: ProbabilityCalculation,
    moment: Moment,
) -> Record<Deal> {
    let mut after = deal.clone();
    after.data.stage_id = Some(stage.id);
    enter(&mut after.data, Some(&deal.data), stage, moment);
    after.data.win_probability = win_probability(mode, stage, after.probability);
    after
}

/// When a deal enters a stage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    now: DateTime<Utc>,
    /// Which day that is where the tenant is: a deal that is won in New York on the evening of the
    /// last day of a quarter is one of that quarter.
    today: NaiveDate,
}

impl Moment {
    /// Now.
    pub(super) async fn of(work: &UnitOfWork) -> Result<Self> {
        let (now, today) = (work.now(), today(work).await?);
        Ok(Self { now, today })
    }
}

/// The status of the deals in a stage.
const fn status_in(stage: &PipelineStage) -> DealStatus {
    match stage.stage_type {
        StageType::Open => DealStatus::Open,
        StageType::ClosedWon => DealStatus::Won,
        StageType::ClosedLost => DealStatus::Lost,
    }
}

/// Gives a deal what the stage that it enters makes of it.
fn enter(deal: &mut Deal, before: Option<&Deal>, stage: &PipelineStage, moment: Moment) {
    let was_closed = before.is_some_and(Deal::is_closed);
    // A date from an earlier closing is not one for this closing.
    let given = deal
        .actual_close_date
        .filter(|date| !was_closed || before.and_then(|b| b.actual_close_date) != Some(*date));
    let given = match (was_closed, stage.is_closed()) {
        (true, true) => deal.actual_close_date,
        _ => given,
    };
    let outcome = Outcome::of(stage.stage_type, moment.today, given);
    deal.status = outcome.status;
    deal.actual_close_date = outcome.actual_close_date;
    if outcome.probability.is_some() {
        deal.probability = outcome.probability;
    } else if was_closed {
        // Reopened: what closing set is taken back.
        deal.probability = None;
        deal.close_reason = None;
    }
    deal.stage_entered_at = Some(moment.now);
}

/// R-042.
fn record_step(
    work: &mut UnitOfWork,
    ways: &Ways,
    before: Option<&Record<Deal>>,
    after: &Record<Deal>,
    stage: &Record<PipelineStage>,
) -> Result<()> {
    let note = work.take_note(after.id.uuid());
    let mut step = DealStageChange::new(
        after.id,
        stage.id,
        stage.name.as_str(),
        after.win_probability,
    );
    step.note = note;
    if let Some(before) = before {
        step.from_stage_id = before.stage_id;
        step.from_probability = Some(before.win_probability);
        step.seconds_in_stage = before
            .stage_entered_at
            .map(|entered| (work.now() - entered).num_seconds().max(0));
        let left = before.stage_id.and_then(|left| ways.step(left));
        step.from_stage = left.map(|left| left.stage.name.clone());
    }
    work.append_entry(step)
}

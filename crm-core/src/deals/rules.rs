//! What keeps a deal right, whichever way it is written.

use async_trait::async_trait;
use chrono::NaiveDate;

use super::{Deal, DealStageChange, DealStatus};
use crate::engine::{UnitOfWork, Write, WriteRule};
use crate::error::{Faults, Result, codes};
use crate::pipelines::{Pipeline, PipelineStage, StageType, stages_of};
use crate::record::Record;
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

/// R-037 to R-039, R-042, R-082.
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
        let moved_pipeline = before
            .as_ref()
            .is_some_and(|before| before.pipeline_id != after.pipeline_id);
        let same_stage = before
            .as_ref()
            .is_some_and(|before| before.stage_id == after.stage_id);
        if after.data.stage_id.is_none() || (moved_pipeline && same_stage) {
            after.data.stage_id = first_stage(work, &after).await?;
        }
        let Some(stage_id) = after.stage_id else {
            if work.lookup(after.pipeline_id).await?.is_none() {
                write
                    .faults()
                    .push(crate::error::FieldError::missing_record("pipeline_id"));
            } else {
                write.faults().add(
                    "stage_id",
                    codes::REQUIRED,
                    "the pipeline has no open stage",
                );
            }
            return Ok(());
        };
        let Some(stage) = work.lookup(stage_id).await? else {
            write
                .faults()
                .push(crate::error::FieldError::missing_record("stage_id"));
            return Ok(());
        };
        // R-039.
        if stage.pipeline_id != after.pipeline_id {
            write.faults().add(
                "stage_id",
                codes::INCONSISTENT,
                "must be a stage of the deal's pipeline",
            );
            return Ok(());
        }
        // What the stage says must still be so when this is written.
        work.rely_on(&*stage);
        let enters = before
            .as_ref()
            .is_none_or(|before| before.stage_id != Some(stage_id));
        if enters && !stage.is_active {
            write
                .faults()
                .add("stage_id", codes::INCONSISTENT, "the stage is not in use");
            return Ok(());
        }
        settle(&mut after, before.as_ref(), &stage, work, enters);
        let faulty = !write.faults().is_empty();
        if enters && !faulty {
            record_step(work, before.as_ref(), &after, &stage).await?;
        }
        let settled = after.data;
        write.edit::<Deal>(|deal| *deal = settled);
        Ok(())
    }
}

/// Gives the deal what its stage makes of it.
fn settle(
    after: &mut Record<Deal>,
    before: Option<&Record<Deal>>,
    stage: &PipelineStage,
    work: &UnitOfWork,
    enters: bool,
) {
    let now = work.now();
    let deal = &mut after.data;
    if enters {
        let was_closed = before.is_some_and(|before| before.is_closed());
        // A date from an earlier closing is not one for this closing.
        let given = deal
            .actual_close_date
            .filter(|date| !was_closed || before.and_then(|b| b.actual_close_date) != Some(*date));
        let given = match (was_closed, stage.is_closed()) {
            (true, true) => deal.actual_close_date,
            _ => given,
        };
        let outcome = Outcome::of(stage.stage_type, now.date_naive(), given);
        deal.status = outcome.status;
        deal.actual_close_date = outcome.actual_close_date;
        if outcome.probability.is_some() {
            deal.probability = outcome.probability;
        } else if was_closed {
            // Reopened: what closing set is taken back.
            deal.probability = None;
            deal.close_reason = None;
        }
        deal.stage_entered_at = Some(now);
    }
    deal.win_probability = deal.probability.unwrap_or(stage.default_probability);
}

/// R-042.
async fn record_step(
    work: &mut UnitOfWork,
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
        if let Some(left) = before.stage_id {
            step.from_stage = work.lookup(left).await?.map(|stage| stage.name.clone());
        }
    }
    work.append_entry(step)
}

/// The first open stage in use of the deal's pipeline.
async fn first_stage(work: &UnitOfWork, deal: &Deal) -> Result<Option<crate::Id<PipelineStage>>> {
    let pipeline: crate::Id<Pipeline> = deal.pipeline_id;
    let stages = stages_of(work, pipeline).await?;
    Ok(stages
        .iter()
        .find(|stage| !stage.is_closed() && stage.is_active)
        .map(|stage| stage.id))
}

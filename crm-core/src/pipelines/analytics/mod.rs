//! What the history of deals tells of a pipeline (C-023), for any period and as of any past moment.
//!
//! Everything here is worked out from the [states](crate::deals::states) of deals: they have the
//! stage, amount, owner and outcome of every deal at every moment, so that a report as of a past
//! moment takes the states that were known then and no others. (The moves that a deal made within
//! one commit are only in its [history](crate::deals::DealStageChange).)
//!
//! | what | how |
//! |---|---|
//! | [`report`](Records::report) | funnel, conversion, time in stages, wins and losses, cycle, velocity of a period |
//! | [`cohorts`](Records::cohorts) | what became of the deals of each month, month after month |
//! | [`stage_summary`](Records::stage_summary) | number, sum and weighted sum by stage, owner, month and currency (C-121) |
//! | [`record_day`](Records::record_day), [`record_until`](Records::record_until) | the figures of a day, written down for each stage |
//!
//! Whether a deal went on or back is told by the order that the stages had when it moved, so that a new
//! order, or a stage that is taken out, changes nothing that was told before. Names of stages, and the
//! order in which a report lists them, are those of now.
//!
//! Only states that begin or end in the period are read, in batches, and the deals that were there
//! before it are counted by the storage. Money is told for each currency on its own (R-085).

mod cohorts;
mod durations;
mod flow;
mod read;
mod record;
mod summary;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate, Utc};

pub use cohorts::{Cohort, CohortPoint};
pub use durations::Durations;
pub use flow::{Fates, Outcomes, StageFigures, Tally};
pub use record::{DaysRecorded, MetricType, PipelineMetric};
pub use summary::StageSummary;
pub use view::PipelineView;

use flow::{Flow, Window};
use view::behind;

use super::{Pipeline, PipelineStage, StageType};
use crate::Id;
use crate::activities::start_of_day;
use crate::engine::Records;
use crate::error::{Error, FieldError, Result, codes};
use crate::record::Record;
use crate::schema::Entity;
use crate::value::{Currency, Percent, TimeZone};

/// What happened in a pipeline in a period.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineReport {
    /// When the period begins.
    pub start: DateTime<Utc>,
    /// When the next one begins.
    pub end: DateTime<Utc>,
    /// What was known at this moment.
    pub as_of: DateTime<Utc>,
    /// The stages, in their order. One that is deleted is among them if deals were in it.
    pub stages: Vec<StageReport>,
    /// What was won and lost, by the currency that a deal had.
    pub outcomes: BTreeMap<Currency, Outcomes>,
    /// How long the deals that were won took from creation to closing, in all currencies.
    pub won_cycle: Durations,
    /// How long those that were lost took.
    pub lost_cycle: Durations,
}

impl PipelineReport {
    /// How many deals were won.
    #[must_use]
    pub fn won(&self) -> u64 {
        self.outcomes.values().map(|outcomes| outcomes.won).sum()
    }

    /// How many deals were lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.outcomes.values().map(|outcomes| outcomes.lost).sum()
    }

    /// Of the deals decided in the period, how many were won; none if none was decided.
    #[must_use]
    pub fn win_rate(&self) -> Option<Percent> {
        flow::share(self.won().into(), (self.won() + self.lost()).into())
    }

    /// The figures of a stage.
    #[must_use]
    pub fn stage(&self, stage: Id<PipelineStage>) -> Option<&StageReport> {
        self.stages.iter().find(|report| report.stage == stage)
    }
}

/// One stage in a report.
#[derive(Clone, Debug, PartialEq)]
pub struct StageReport {
    /// The stage.
    pub stage: Id<PipelineStage>,
    /// Its name now; none if the stage is removed for good.
    pub name: Option<String>,
    /// What a deal in it is.
    pub stage_type: Option<StageType>,
    /// What happened.
    pub figures: StageFigures,
}

impl Records<'_, Pipeline> {
    /// What happened in a pipeline from one day until before another: how many deals entered each
    /// stage and what became of them, how long they were in it, what was won and lost, how long
    /// that took, and how fast money comes in.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, pipelines::Pipeline};
    /// use chrono::NaiveDate;
    /// use crm_core::pipelines::analytics::PipelineView;
    /// # async fn example(session: &Session, pipeline: Id<Pipeline>) -> Result<()> {
    /// let day = |month| NaiveDate::from_ymd_opt(2026, month, 1).unwrap();
    /// let view = PipelineView::of(pipeline);
    /// let quarter = session.pipelines().report(&view, day(1), day(4)).await?;
    /// for stage in &quarter.stages {
    ///     println!("{:?}: {} entered", stage.name, stage.figures.entered.deals);
    ///     println!("{:?} went on", stage.figures.conversion());
    /// }
    /// for (currency, outcomes) in &quarter.outcomes {
    ///     println!("{:?} {currency} a day", outcomes.velocity());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such pipeline; [`Error::Validation`] if the period ends
    /// before it begins; [`Error::Query`] for a filter that does not fit.
    pub async fn report(
        &self,
        view: &PipelineView,
        from: NaiveDate,
        until: NaiveDate,
    ) -> Result<PipelineReport> {
        calendar_day("from", from)?;
        calendar_day("until", until)?;
        if until < from {
            return Err(FieldError::new(
                "until",
                codes::OUT_OF_RANGE,
                "the period must not end before it begins",
            )
            .into());
        }
        self.known_pipeline(view.pipeline).await?;
        let zone = self.zone(view.time_zone).await?;
        let as_of = view.as_of.unwrap_or_else(|| self.moment());
        let window = Window {
            start: start_of_day(from, zone),
            end: start_of_day(until, zone),
            known: behind(as_of),
        };
        let stages = self.all_stages(view.pipeline).await?;
        let flow = self.flow(view, window, &stages).await?;
        let outcomes = flow.outcomes;
        let (won_cycle, lost_cycle) = (flow.won_cycle, flow.lost_cycle);
        Ok(PipelineReport {
            start: window.start,
            end: window.end,
            as_of,
            stages: arrange(flow.stages, &stages),
            outcomes,
            won_cycle,
            lost_cycle,
        })
    }

    /// The flow of deals in a window.
    async fn flow(
        &self,
        view: &PipelineView,
        window: Window,
        stages: &[Arc<Record<PipelineStage>>],
    ) -> Result<Flow> {
        let places: HashMap<_, _> = stages
            .iter()
            .map(|stage| (stage.id, stage.stage_order))
            .collect();
        let mut flow = Flow::new(window, places);
        let start = window.start.min(window.known);
        for (stage, currency, is_open, deals) in self.counts_before(view, start).await? {
            flow.begin(stage, currency, is_open, deals);
        }
        let end = window.end.min(window.known).max(start);
        for (stage, _, _, deals) in self.counts_before(view, end).await? {
            flow.end(stage, deals);
        }
        let touched = read::touched(view, window.start, window.known);
        self.each_deal(&touched, &mut |states| flow.add(states))
            .await?;
        Ok(flow)
    }

    /// There is such a pipeline.
    async fn known_pipeline(&self, pipeline: Id<Pipeline>) -> Result<Arc<Record<Pipeline>>> {
        let row = self.workspace.row(Pipeline::schema(), pipeline.uuid());
        let found = row.await?.filter(|row| !row.is_deleted());
        found
            .and_then(Record::from_row)
            .ok_or_else(|| Error::NotFound {
                object: Pipeline::schema().name().to_owned(),
                id: pipeline.uuid(),
            })
    }

    /// The time zone of a report.
    async fn zone(&self, given: Option<TimeZone>) -> Result<TimeZone> {
        match given {
            Some(zone) => Ok(zone),
            None => self.tenant_zone().await,
        }
    }
}

/// A day that calendars of every time zone reach.
fn calendar_day(field: &'static str, day: NaiveDate) -> Result<()> {
    if (1..=9_998).contains(&day.year()) {
        return Ok(());
    }
    let message = "name a day of the years 1 to 9998";
    Err(FieldError::new(field, codes::OUT_OF_RANGE, message).into())
}

/// The stages with their figures, in their order; deleted ones only if deals were in them.
fn arrange(
    mut figures: BTreeMap<Id<PipelineStage>, StageFigures>,
    stages: &[Arc<Record<PipelineStage>>],
) -> Vec<StageReport> {
    let mut reports: Vec<StageReport> = stages
        .iter()
        .filter_map(|stage| {
            let found = figures.remove(&stage.id);
            if found.is_none() && stage.deleted_at.is_some() {
                return None;
            }
            Some(StageReport {
                stage: stage.id,
                name: Some(stage.name.clone()),
                stage_type: Some(stage.stage_type),
                figures: found.unwrap_or_default(),
            })
        })
        .collect();
    reports.extend(figures.into_iter().map(|(stage, figures)| StageReport {
        stage,
        name: None,
        stage_type: None,
        figures,
    }));
    reports
}

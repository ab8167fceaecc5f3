//! [`PipelineMetric`]: the figures of a day, written down once for each stage.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, Utc};
use rust_decimal::Decimal;

use super::flow::Window;
use super::read::key;
use super::{PipelineView, StageReport, arrange, calendar_day};
use crate::Id;
use crate::activities::{local_date, start_of_day};
use crate::deals::DealState;
use crate::engine::{Progress, Records, UnitOfWork, in_work};
use crate::error::{FieldError, Result, codes};
use crate::pipelines::{Pipeline, PipelineStage};
use crate::query::{Aggregate, Condition, Query, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, FieldValue, Picklist, Row};
use crate::value::{Currency, Percent, TimeZone};

/// One figure of one stage on one day, in the tenant's time zone. The engine writes it (C-023).
///
/// Money is that of deals in the currency of the pipeline (R-085); counts are of all deals.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "pipeline_metric",
    table = "pipeline_analytics",
    derived,
    unique(pipeline_id, stage_id, metric_date, metric_type; live),
    index(metric_date, pipeline_id)
)]
pub struct PipelineMetric {
    /// The pipeline (R-384).
    #[field(required, references = "pipeline", on_delete = "cascade")]
    pub pipeline_id: Id<Pipeline>,
    /// The stage. It is named without being a reference, so that the day stays told when the stage
    /// goes.
    #[field(required)]
    pub stage_id: Id<PipelineStage>,
    /// The day (R-384).
    #[field(required)]
    pub metric_date: NaiveDate,
    /// What is told (R-163).
    #[field(required)]
    pub metric_type: MetricType,
    /// The figure: a number of deals, a percentage, or money a day (R-384).
    #[field(required, precision = 20, scale = 2)]
    pub metric_value: Decimal,
    /// How many deals it is about.
    #[field(min = 0)]
    pub deal_count: i64,
    /// What they were worth together.
    #[field(currency = "currency")]
    pub total_value: Decimal,
    /// The currency of money in this row.
    pub currency: Currency,
    /// Of the deals that moved away on that day, how many went on: from 0 to 100 (R-162).
    pub conversion_rate: Option<Percent>,
    /// How long the deals that moved away on that day had been in the stage on average, in seconds.
    #[field(min = 0)]
    pub average_seconds_in_stage: Option<i64>,
}

/// What a figure tells (R-163).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Picklist)]
pub enum MetricType {
    /// How many deals entered the stage.
    DealsEntered,
    /// How many left it, whichever way.
    DealsExited,
    /// How many were won from it.
    DealsWon,
    /// How many were lost from it.
    DealsLost,
    /// The velocity of sales from it, in money a day; zero if nothing was won from it.
    Velocity,
    /// Of the deals that moved away, how many went on, in percent; zero if none moved.
    Conversion,
}

/// What a recording of days did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DaysRecorded {
    /// How many days were recorded.
    pub days: u64,
    /// How many figures were new or are corrected.
    pub written: u64,
    /// Whether it was stopped before the end.
    pub stopped: bool,
}

/// The six figures of a stage on a day.
fn metrics(
    pipeline: &Record<Pipeline>,
    day: NaiveDate,
    report: &StageReport,
) -> Vec<PipelineMetric> {
    let figures = &report.figures;
    let currency = pipeline.currency;
    let outcomes = figures.outcomes.get(&currency);
    let passed_on = figures.passed_on();
    let moved = figures.flow.left() - figures.flow.elsewhere;
    let amount = |tally: &super::Tally| tally.amounts.get(currency).amount();
    let tally =
        |kind, tally: &super::Tally| (kind, Decimal::from(tally.deals), tally.deals, amount(tally));
    let velocity = outcomes.and_then(super::Outcomes::velocity);
    let won = outcomes.map_or(0, |outcomes| outcomes.won);
    let won_amount = outcomes.map_or(Decimal::ZERO, |outcomes| outcomes.won_amount);
    let conversion = passed_on.map_or(Decimal::ZERO, |percent| percent.value());
    let told = [
        tally(MetricType::DealsEntered, &figures.entered),
        tally(MetricType::DealsExited, &figures.exited),
        tally(MetricType::DealsWon, &figures.won),
        tally(MetricType::DealsLost, &figures.lost),
        (
            MetricType::Velocity,
            velocity.unwrap_or_default(),
            won,
            won_amount,
        ),
        (MetricType::Conversion, conversion, moved, Decimal::ZERO),
    ];
    told.into_iter()
        .map(|(kind, value, deals, worth)| {
            let mut metric = PipelineMetric::new(pipeline.id, report.stage, day, kind, value);
            metric.deal_count = i64::try_from(deals).unwrap_or(i64::MAX);
            metric.total_value = worth;
            metric.currency = currency;
            metric.conversion_rate = passed_on;
            metric.average_seconds_in_stage = figures.time.average();
            metric
        })
        .collect()
}

impl Records<'_, Pipeline> {
    /// Writes down the figures of a day for each stage of each pipeline: how many deals entered and
    /// left, were won and lost, the velocity and the conversion. A day that is recorded already is
    /// worked out again: what is right stays, what deals removed for good took away is corrected.
    /// Each pipeline is a commit of its own.
    ///
    /// Days are the tenant's. They are told as they were known at their end.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// # use chrono::NaiveDate;
    /// # async fn example(session: &Session, yesterday: NaiveDate) -> Result<()> {
    /// let done = session.pipelines().record_day(yesterday, &()).await?;
    /// println!("{} figures written", done.written);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Validation`](crate::Error::Validation) if the day is not over.
    pub async fn record_day(
        &mut self,
        day: NaiveDate,
        progress: &dyn Progress,
    ) -> Result<DaysRecorded> {
        let zone = self.tenant_zone().await?;
        let mut done = DaysRecorded::default();
        let pipelines = self.live_pipelines().await?;
        self.record(day, zone, &pipelines, progress, &mut done)
            .await?;
        Ok(done)
    }

    /// Records every day up to and with `last` that is not recorded yet, of each pipeline from the
    /// first one of which anything is known; for a job that runs once a day, and may miss some. It
    /// may be stopped between two days, and does the rest when it is run again, that of a day of
    /// which only some pipelines were recorded too.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// # use chrono::NaiveDate;
    /// # async fn example(session: &Session, yesterday: NaiveDate) -> Result<()> {
    /// let done = session.pipelines().record_until(yesterday, &()).await?;
    /// println!("{} days were missing", done.days);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Like [`record_day`](Self::record_day).
    pub async fn record_until(
        &mut self,
        last: NaiveDate,
        progress: &dyn Progress,
    ) -> Result<DaysRecorded> {
        let mut done = DaysRecorded::default();
        let zone = self.tenant_zone().await?;
        self.ensure_over(last, zone)?;
        let firsts = self.first_days(zone).await?;
        let Some(first) = firsts.values().min().copied() else {
            return Ok(done);
        };
        let recorded = self.recorded_days(first, last).await?;
        let pipelines = self.live_pipelines().await?;
        let missing = |day: NaiveDate| -> Vec<Arc<Record<Pipeline>>> {
            let begun = |pipeline: &Id<Pipeline>| firsts.get(pipeline).is_some_and(|at| *at <= day);
            let missing = pipelines
                .iter()
                .filter(|pipeline| begun(&pipeline.id) && !recorded.contains(&(day, pipeline.id)));
            missing.cloned().collect()
        };
        let days = first.iter_days().take_while(|day| *day <= last);
        let days: Vec<NaiveDate> = days.filter(|day| !missing(*day).is_empty()).collect();
        let total = Some(days.len() as u64);
        for day in days {
            self.record(day, zone, &missing(day), &(), &mut done)
                .await?;
            if progress.report(done.days, total).is_break() {
                done.stopped = Some(done.days) != total;
                break;
            }
        }
        Ok(done)
    }

    async fn record(
        &mut self,
        day: NaiveDate,
        zone: TimeZone,
        pipelines: &[Arc<Record<Pipeline>>],
        progress: &dyn Progress,
        done: &mut DaysRecorded,
    ) -> Result<()> {
        let window = self.ensure_over(day, zone)?;
        let total = pipelines.len() as u64;
        for (number, pipeline) in (1..).zip(pipelines) {
            let stages = self.all_stages(pipeline.id).await?;
            let view = PipelineView::of(pipeline.id);
            let flow = self.flow(&view, window, &stages).await?;
            let wanted: Vec<PipelineMetric> = arrange(flow.stages, &stages)
                .iter()
                .flat_map(|report| metrics(pipeline, day, report))
                .collect();
            let written: Result<usize> = in_work!(self.workspace, |work| {
                keep(work, pipeline.id, day, &wanted).await
            });
            done.written += written? as u64;
            if progress.report(number, Some(total)).is_break() && number < total {
                done.stopped = true;
                return Ok(());
            }
        }
        done.days += 1;
        Ok(())
    }

    /// The day as a window, which must be over.
    fn ensure_over(&self, day: NaiveDate, zone: TimeZone) -> Result<Window> {
        calendar_day("day", day)?;
        let next = day.checked_add_days(Days::new(1)).unwrap_or(day);
        let (start, end) = (start_of_day(day, zone), start_of_day(next, zone));
        if end > self.moment() {
            return Err(FieldError::new(
                "day",
                codes::OUT_OF_RANGE,
                "a day is recorded when it is over",
            )
            .into());
        }
        Ok(Window {
            start,
            end,
            known: end,
        })
    }

    /// The pipelines that are not deleted.
    async fn live_pipelines(&self) -> Result<Vec<Arc<Record<Pipeline>>>> {
        let live = Query::new(Pipeline::schema(), Condition::not_deleted());
        let pipelines = self.workspace.select(&live).await?.into_iter();
        Ok(pipelines.filter_map(Record::from_row).collect())
    }

    /// The first day of which a state of a deal is known, for each pipeline.
    async fn first_days(&self, zone: TimeZone) -> Result<BTreeMap<Id<Pipeline>, NaiveDate>> {
        let registry = &*self.workspace.registry().await?;
        let first = Aggregate::<DealState>::new()
            .group_by(DealState::PIPELINE_ID)
            .min(DealState::VALID_FROM);
        let query = first.bind(DealState::schema(), registry)?;
        let groups = self.workspace.aggregate(&query).await?;
        let firsts = groups.iter().filter_map(|group| {
            let first = group.measures.first().cloned()?;
            let first = Option::<DateTime<Utc>>::from_value(first).ok()??;
            Some((key(group, 0)?, local_date(first, zone)))
        });
        Ok(firsts.collect())
    }

    /// The days of which figures are recorded, each with the pipeline.
    async fn recorded_days(
        &self,
        first: NaiveDate,
        last: NaiveDate,
    ) -> Result<HashSet<(NaiveDate, Id<Pipeline>)>> {
        let registry = &*self.workspace.registry().await?;
        let days = Aggregate::<PipelineMetric>::new()
            .filter(PipelineMetric::METRIC_DATE.between(first, last))
            .group_by(PipelineMetric::METRIC_DATE)
            .group_by(PipelineMetric::PIPELINE_ID)
            .count();
        let query = days.bind(PipelineMetric::schema(), registry)?;
        let groups = self.workspace.aggregate(&query).await?;
        let recorded = |group| Some((key(group, 0)?, key(group, 1)?));
        Ok(groups.iter().filter_map(recorded).collect())
    }
}

/// Makes the figures of a pipeline on a day these; tells how many were not.
async fn keep(
    work: &mut UnitOfWork,
    pipeline: Id<Pipeline>,
    day: NaiveDate,
    wanted: &[PipelineMetric],
) -> Result<usize> {
    let on_day = PipelineMetric::METRIC_DATE
        .eq(day)
        .and(PipelineMetric::PIPELINE_ID.eq(pipeline));
    let stored = work.find_all::<PipelineMetric>(on_day, Vec::new()).await?;
    let mut stored: HashMap<_, _> = stored
        .into_iter()
        .map(|metric| ((metric.stage_id, metric.metric_type), metric))
        .collect();
    let mut written = 0;
    for metric in wanted {
        match stored.remove(&(metric.stage_id, metric.metric_type)) {
            Some(known) if known.data == *metric => continue,
            Some(known) => {
                let id = known.id.uuid();
                let before: Row = known;
                work.keep_derived(id, Some(before), metric.clone());
            }
            None => {
                // Whoever is faster records the day; the other call runs again and finds it so.
                work.contend(
                    "pipeline_metric",
                    &["pipeline_id", "stage_id", "metric_date", "metric_type"],
                );
                work.append_entry(metric.clone())?;
            }
        }
        written += 1;
    }
    // Of a stage that is gone nothing is told any more, once its deals are removed for good.
    for gone in stored.into_values() {
        let gone: Row = gone;
        work.remove(&gone);
        written += 1;
    }
    Ok(written)
}

//! What the engine itself makes of the deals: funnel and sales cycle by the analytics of the pipeline,
//! the forecast, what lies in the open stages, and how values and cycles are spread.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};
use crm_engine::forecasts::Forecast;
use crm_engine::pipelines::analytics::{Durations, PipelineReport, PipelineView};
use crm_engine::prelude::*;
use crm_engine::query::{Group, MAX_LIMIT};
use crm_engine::schema::ValueRef;
use crm_engine::value::Totals;
use rust_decimal::Decimal;
use serde::Serialize;

use super::figures::{SECONDS_A_DAY, plain_number};
use super::import::{Imported, all};

#[derive(Debug, Serialize)]
pub(crate) struct Analytics {
    /// The stages in their order.
    pub(crate) funnel: Vec<FunnelStage>,
    pub(crate) cycle: Cycle,
    pub(crate) forecast: ForecastFigures,
    /// What was won in each quarter, by the forecasts of the quarters.
    pub(crate) forecast_by_quarter: BTreeMap<String, ForecastFigures>,
    pub(crate) forecast_by_month: BTreeMap<String, ForecastFigures>,
    /// Each team with those below it: a region has what its managers have.
    pub(crate) forecast_by_team: BTreeMap<String, ForecastFigures>,
    pub(crate) open_pipeline: OpenPipeline,
    /// What the accounts themselves keep of their deals.
    pub(crate) account_statistics: BTreeMap<String, AccountStatistics>,
    #[serde(serialize_with = "plain_number_or_none")]
    pub(crate) median_won_value: Option<Decimal>,
    pub(crate) min_max_won_value: Option<[Amount; 2]>,
    #[serde(serialize_with = "plain_number_or_none")]
    pub(crate) median_cycle_days_won: Option<Decimal>,
    pub(crate) min_max_cycle_days_won: Option<[Amount; 2]>,
}

/// A number that JSON shows like one.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Amount(#[serde(serialize_with = "plain_number")] pub(crate) Decimal);

fn plain_number_or_none<S: serde::Serializer>(
    number: &Option<Decimal>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    number.map(Amount).serialize(serializer)
}

/// What became of the deals that entered a stage.
#[derive(Debug, Serialize)]
pub(crate) struct FunnelStage {
    pub(crate) stage: String,
    pub(crate) entered: u64,
    pub(crate) advanced: u64,
    pub(crate) won: u64,
    pub(crate) lost: u64,
    pub(crate) still: u64,
    /// How many of a hundred went on to the next stage, or were won.
    pub(crate) conversion: Option<String>,
}

/// How long deals took until they were decided.
#[derive(Debug, Serialize)]
pub(crate) struct Cycle {
    pub(crate) won_days_avg: Option<String>,
    pub(crate) won_days_median: Option<String>,
    pub(crate) lost_days_avg: Option<String>,
    pub(crate) lost_days_median: Option<String>,
}

/// What is won, and what open deals may bring.
#[derive(Debug, Serialize)]
pub(crate) struct ForecastFigures {
    pub(crate) closed_deals: u64,
    pub(crate) closed: Amount,
    pub(crate) best_case_deals: u64,
    pub(crate) best_case: Amount,
    pub(crate) pipeline_deals: u64,
    pub(crate) pipeline: Amount,
    /// What is won, and what is open times its probability.
    pub(crate) expected: Amount,
}

impl ForecastFigures {
    fn of(forecast: &Forecast) -> Result<Self> {
        let dollars = |totals: &Totals| Amount(totals.get(Currency::USD).amount());
        let best_case = forecast.of(ForecastCategory::BestCase);
        let pipeline = forecast.of(ForecastCategory::Pipeline);
        Ok(Self {
            closed_deals: forecast.of(ForecastCategory::Closed).deals,
            closed: dollars(&forecast.closed()),
            best_case_deals: best_case.deals,
            best_case: dollars(&best_case.amount),
            pipeline_deals: pipeline.deals,
            pipeline: dollars(&pipeline.amount),
            expected: dollars(&forecast.expected()?),
        })
    }
}

/// The figures that an account keeps of its deals.
#[derive(Debug, Serialize)]
pub(crate) struct AccountStatistics {
    pub(crate) deals: u32,
    pub(crate) won: u32,
    pub(crate) won_value_sum: Amount,
}

/// What lies in the open stages at the end of a day.
#[derive(Debug, Serialize)]
pub(crate) struct OpenPipeline {
    pub(crate) as_of: NaiveDate,
    pub(crate) prospecting: u64,
    pub(crate) engaging: u64,
    /// How many days those deals have been engaged together.
    pub(crate) engaging_age_days_sum: i64,
    #[serde(serialize_with = "plain_number")]
    pub(crate) engaging_list_value_sum: Decimal,
    /// How many of them rot: nobody has worked on them for ninety days.
    pub(crate) engaging_open_90d_or_more: u64,
}

impl Analytics {
    pub(crate) async fn of(imported: &Imported) -> Result<Self> {
        let Imported {
            session, stages, ..
        } = imported;
        let (first, last) = (*imported.days.start(), *imported.days.end());
        let view = PipelineView {
            time_zone: Some(TimeZone::UTC),
            ..PipelineView::of(stages.pipeline)
        };
        let after = last.checked_add_days(Days::new(1)).unwrap_or(last);
        let report = session.pipelines().report(&view, first, after).await?;

        let all_deals = ForecastQuery::default();
        let forecasts = session.forecasts();
        let by = |kind| forecasts.by_period(&all_deals, kind, first, last);

        let won = Aggregate::new()
            .filter(Deal::STATUS.eq(DealStatus::Won))
            .group_by(Deal::AMOUNT)
            .count();
        let values = Spread::of(&session.deals().aggregate(won).await?);
        let won = Aggregate::new()
            .filter(DealStageChange::TO_STAGE_ID.eq(stages.won))
            .group_by(DealStageChange::SECONDS_IN_STAGE)
            .count();
        let history = session.records::<DealStageChange>();
        let cycles = Spread::of(&history.aggregate(won).await?);
        let days = |seconds: Decimal| seconds / Decimal::from(SECONDS_A_DAY);
        Ok(Self {
            funnel: funnel(&report),
            cycle: Cycle {
                won_days_avg: average(&report.won_cycle),
                won_days_median: median(&report.won_cycle),
                lost_days_avg: average(&report.lost_cycle),
                lost_days_median: median(&report.lost_cycle),
            },
            forecast: ForecastFigures::of(&forecasts.forecast(&all_deals).await?)?,
            forecast_by_quarter: by_name(&by(PeriodKind::Quarter).await?)?,
            forecast_by_month: by_name(&by(PeriodKind::Month).await?)?,
            forecast_by_team: forecast_by_team(session).await?,
            open_pipeline: OpenPipeline::of(imported, &view, last).await?,
            account_statistics: account_statistics(session).await?,
            median_won_value: values.median(),
            min_max_won_value: values.ends().map(|ends| ends.map(Amount)),
            median_cycle_days_won: cycles.median().map(days),
            min_max_cycle_days_won: cycles.ends().map(|ends| ends.map(days).map(Amount)),
        })
    }
}

fn funnel(report: &PipelineReport) -> Vec<FunnelStage> {
    let stages = report.stages.iter();
    let stage = stages.map(|stage| {
        let (figures, fates) = (&stage.figures, stage.figures.funnel);
        // Behind a closed stage there is none to go on to.
        let is_open = stage.stage_type == Some(StageType::Open);
        let conversion = figures.conversion().filter(|_| is_open);
        FunnelStage {
            stage: stage.name.clone().unwrap_or_default(),
            entered: figures.entered.deals,
            advanced: fates.advanced,
            won: fates.won,
            lost: fates.lost,
            still: fates.still,
            conversion: conversion.map(|percent| percent.to_string()),
        }
    });
    stage.collect()
}

/// The average in days, to four decimals.
fn average(cycle: &Durations) -> Option<String> {
    cycle.average_days().map(|days| days.to_string())
}

/// The median in days.
fn median(cycle: &Durations) -> Option<String> {
    let days = Decimal::from(cycle.median()?).checked_div(Decimal::from(SECONDS_A_DAY))?;
    Some(days.normalize().to_string())
}

/// Forecasts by the names of their periods.
fn by_name(forecasts: &[Forecast]) -> Result<BTreeMap<String, ForecastFigures>> {
    let mut named = BTreeMap::new();
    for forecast in forecasts {
        if let Some(period) = forecast.period {
            named.insert(period.to_string(), ForecastFigures::of(forecast)?);
        }
    }
    Ok(named)
}

async fn forecast_by_team(session: &Session) -> Result<BTreeMap<String, ForecastFigures>> {
    let teams = all(session, Find::<Team>::new()).await?;
    let mut named = BTreeMap::new();
    for slice in session
        .forecasts()
        .by_team(&ForecastQuery::default())
        .await?
    {
        let team = teams.iter().find(|team| Some(team.id) == slice.of);
        if let Some(team) = team {
            let figures = ForecastFigures::of(&slice.forecast.computed)?;
            named.insert(team.name.clone(), figures);
        }
    }
    Ok(named)
}

async fn account_statistics(session: &Session) -> Result<BTreeMap<String, AccountStatistics>> {
    let accounts = all(session, Find::<Account>::new()).await?;
    let kept = accounts.iter().map(|account| {
        let stats = &account.deal_stats;
        let figures = AccountStatistics {
            deals: stats.deal_count,
            won: stats.won_deal_count,
            won_value_sum: Amount(stats.won_deal_value.get(Currency::USD).amount()),
        };
        (account.name.clone(), figures)
    });
    Ok(kept.collect())
}

impl OpenPipeline {
    async fn of(imported: &Imported, view: &PipelineView, as_of: NaiveDate) -> Result<Self> {
        let Imported {
            session, stages, ..
        } = imported;
        let mut open = Self {
            as_of,
            prospecting: 0,
            engaging: 0,
            engaging_age_days_sum: 0,
            engaging_list_value_sum: Decimal::ZERO,
            engaging_open_90d_or_more: 0,
        };
        for part in session.pipelines().stage_summary(view).await? {
            if part.stage == stages.prospecting {
                open.prospecting += part.deals;
            } else if part.stage == stages.engaging {
                open.engaging += part.deals;
                open.engaging_list_value_sum += part.amount;
            }
        }
        let by_day = Aggregate::new()
            .filter(Deal::STAGE_ID.eq(stages.engaging))
            .group_by_calendar(Deal::STAGE_ENTERED_AT, CalendarUnit::Day, TimeZone::UTC)
            .count();
        for group in session.deals().aggregate(by_day).await? {
            if let ValueRef::Date(day) = group.key(0) {
                let deals = i64::try_from(group.count(0)).unwrap_or(i64::MAX);
                open.engaging_age_days_sum += (as_of - day).num_days() * deals;
            }
        }
        let mut rotting = Find::new().limit(MAX_LIMIT);
        loop {
            let page = session.deals().rotting(rotting.clone()).await?;
            open.engaging_open_90d_or_more += page.items.len() as u64;
            match page.next {
                Some(next) => rotting = rotting.after(next),
                None => return Ok(open),
            }
        }
    }
}

/// How often each number is there.
#[derive(Debug)]
struct Spread(BTreeMap<Decimal, u64>);

impl Spread {
    /// From groups by the number, each with its count.
    fn of(groups: &[Group]) -> Self {
        let number = |group: &Group| Some((group.key(0).as_decimal()?, group.count(0)));
        Self(groups.iter().filter_map(number).collect())
    }

    fn ends(&self) -> Option<[Decimal; 2]> {
        Some([*self.0.keys().next()?, *self.0.keys().next_back()?])
    }

    /// The number in the middle, of an even count between the two there.
    fn median(&self) -> Option<Decimal> {
        let last = self.0.values().sum::<u64>().checked_sub(1)?;
        let [low, high] = [last / 2, last.div_ceil(2)].map(|place| self.at(place));
        Some((low? + high?) / Decimal::TWO)
    }

    /// The number at a place in their order.
    fn at(&self, place: u64) -> Option<Decimal> {
        let mut before = 0;
        self.0.iter().find_map(|(number, count)| {
            before += count;
            (before > place).then_some(*number)
        })
    }
}

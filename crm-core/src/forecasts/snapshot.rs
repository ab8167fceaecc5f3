//! [`DealForecast`]: what was forecast of a deal on a day, kept as it was.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::Serialize;
use uuid::Uuid;

use super::amounts::fold;
use super::query::open_in;
use super::service::{aggregate, session_of};
use super::{Forecast, ForecastCategory, ForecastQuery, Forecasts, Period, PeriodKind};
use crate::Id;
use crate::deals::{Deal, DealStatus};
use crate::engine::{Progress, Settle, UnitOfWork, in_work};
use crate::error::{Faults, Result, RuleViolation, codes};
use crate::identity::{Team, User};
use crate::pipelines::Pipeline;
use crate::query::{Aggregate, AggregateQuery, Condition, Filter, Query, Where, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, Value, ValueRef};
use crate::tenancy::{fiscal_year, today};
use crate::value::{Currency, Percent};

/// How many deals are read at once, and for how many one commit is made.
const BATCH: usize = 500;

/// What was forecast of a deal on a day: one for each deal, kind of period and day (R-301).
///
/// [Snapshots](Forecasts::snapshot) write them, and who [says more](Forecasts::record) about a
/// deal; they are never changed. Users, teams and pipelines are named by id without being
/// references: what is deleted since was there then.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "deal_forecast",
    table = "deal_forecasts",
    log,
    unique(deal_id, period, forecast_date),
    index(period, period_start, forecast_date),
    check = check_forecast
)]
pub struct DealForecast {
    /// The deal (R-519).
    #[field(required, references = "deal", on_delete = "cascade")]
    pub deal_id: Id<Deal>,
    /// How long the period is (R-111).
    #[field(required)]
    pub period: PeriodKind,
    /// The first day of the period in which the deal was to close.
    #[field(required)]
    pub period_start: NaiveDate,
    /// The day of the forecast.
    #[field(required)]
    pub forecast_date: NaiveDate,
    /// What the deal was worth; zero if it had no amount (R-369).
    #[field(required, currency = "currency")]
    pub amount: Decimal,
    /// The currency of the amount.
    #[field(required)]
    pub currency: Currency,
    /// How probable it was that it would be won.
    #[field(required)]
    pub probability: Percent,
    /// The forecast category that counted; an open one (R-109).
    #[field(default = ForecastCategory::Pipeline)]
    pub category: ForecastCategory,
    /// How much the forecast is to be trusted, from 0 to 100 (R-110, R-452).
    #[field(max = 100, default = 50_u32)]
    pub confidence_level: u32,
    /// When the deal would probably close.
    pub close_date: Option<NaiveDate>,
    /// The user who owned the deal.
    pub owner_id: Option<Id<User>>,
    /// The team that worked on it.
    pub team_id: Option<Id<Team>>,
    /// The pipeline that it took.
    pub pipeline_id: Option<Id<Pipeline>>,
    /// What was said about it.
    #[field(multiline)]
    pub notes: Option<String>,
}

impl DealForecast {
    /// What is forecast of a deal on a day.
    fn of(deal: &Record<Deal>, period: &Period, day: NaiveDate) -> Self {
        Self {
            category: deal.counting_category,
            close_date: deal.expected_close_date,
            owner_id: deal.owner_id,
            team_id: deal.team_id,
            pipeline_id: Some(deal.pipeline_id),
            ..Self::new(
                deal.id,
                period.kind(),
                period.start(),
                day,
                deal.amount.unwrap_or_default(),
                deal.currency,
                deal.win_probability,
            )
        }
    }
}

fn check_forecast(forecast: &DealForecast, faults: &mut Faults) {
    if !forecast.category.is_open() {
        faults.add(
            DealForecast::CATEGORY.name(),
            codes::INCONSISTENT,
            "only deals in an open category are forecast",
        );
    }
}

/// What a snapshot came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// How many deals are forecast for the period.
    pub deals: u64,
    /// For how many of them there was no forecast of the day yet.
    pub taken: u64,
    /// Whether it was stopped before its end.
    pub is_stopped: bool,
}

/// What the snapshots of a day come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DatedForecast {
    /// The day.
    pub date: NaiveDate,
    /// What was forecast on it.
    pub forecast: Forecast,
}

/// Some deals, kept.
struct Batch {
    read: usize,
    taken: usize,
    last: Option<Uuid>,
}

impl Settle for Batch {}
impl Settle for DealForecast {}

/// The open deals that a snapshot keeps.
fn forecast_deals(period: &Period) -> Where<Deal> {
    open_in(Some(*period)).and(Deal::COUNTING_CATEGORY.ne(ForecastCategory::Omitted))
}

/// Keeps the forecast of today for the next deals behind an id that have none yet.
async fn next_batch(
    work: &mut UnitOfWork,
    period: &Period,
    deals: &Condition,
    after: Option<Uuid>,
) -> Result<Batch> {
    let mut query = Query::new(Deal::schema(), deals.clone()).limit(BATCH);
    query.after = after.map(|id| vec![Value::Uuid(id)]);
    let rows = work.select(&query).await?;
    let deals: Vec<Arc<Record<Deal>>> = rows.into_iter().filter_map(Record::from_row).collect();
    let today = today(work).await?;
    let known = kept(work, &deals, period.kind(), today).await?;
    // Two snapshots at the same time: the slower one finds what the other kept.
    work.contend("deal_forecast", &["deal_id", "period", "forecast_date"]);
    let mut taken = 0;
    for deal in deals.iter().filter(|deal| !known.contains(&deal.id)) {
        work.append_entry(DealForecast::of(deal, period, today))?;
        taken += 1;
    }
    Ok(Batch {
        read: deals.len(),
        taken,
        last: deals.last().map(|deal| deal.id.uuid()),
    })
}

/// Those of the deals of which there is a forecast of a day.
async fn kept(
    work: &UnitOfWork,
    deals: &[Arc<Record<Deal>>],
    kind: PeriodKind,
    day: NaiveDate,
) -> Result<HashSet<Id<Deal>>> {
    if deals.is_empty() {
        return Ok(HashSet::new());
    }
    let known = DealForecast::DEAL_ID
        .one_of(deals.iter().map(|deal| deal.id))
        .and(DealForecast::PERIOD.eq(kind))
        .and(DealForecast::FORECAST_DATE.eq(day));
    let known = work.find_all(known, Vec::new()).await?;
    Ok(known.iter().map(|forecast| forecast.deal_id).collect())
}

impl Forecasts<'_> {
    /// Keeps what is forecast today of every open deal that is expected to close in a period, so
    /// that [`trend`](Self::trend) tells how the forecast grew. Deals that are left out of
    /// forecasts are left out here too.
    ///
    /// Some hundred deals are one commit, so a run that is stopped or fails has done its work up to
    /// there; run again on the same day it does the rest, and keeps nothing twice. It needs the
    /// memory of some hundred deals.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// use crm_core::forecasts::PeriodKind;
    /// # async fn example(session: &Session) -> Result<()> {
    /// let quarter = session.forecasts().current_period(PeriodKind::Quarter).await?;
    /// let done = session.forecasts().snapshot(&quarter, &()).await?;
    /// println!("{} of {} deals are new today", done.taken, done.deals);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Forbidden`](crate::Error::Forbidden) in a unit of work, which is one commit.
    pub async fn snapshot(&mut self, period: &Period, progress: &dyn Progress) -> Result<Snapshot> {
        let session = session_of(&self.workspace, "snapshot")?;
        let registry = &*session.registry().await?;
        let filter = forecast_deals(period).into_filter();
        let deals = Condition::bind(&filter, Deal::schema(), registry)?;
        let deals = Condition::not_deleted().and(deals);
        let count = AggregateQuery::count(Deal::schema(), deals.clone());
        let groups = self.workspace.aggregate(&count).await?;
        let total = groups.first().map_or(0, |group| group.count(0));
        let mut done = Snapshot::default();
        let mut after = None;
        loop {
            let batch: Result<Batch> = in_work!(self.workspace, |work| {
                next_batch(work, period, &deals, after).await
            });
            let batch = batch?;
            done.deals += batch.read as u64;
            done.taken += batch.taken as u64;
            let answer = progress.report(done.deals, Some(total.max(done.deals)));
            if batch.read < BATCH {
                return Ok(done);
            }
            if answer == ControlFlow::Break(()) {
                done.is_stopped = true;
                return Ok(done);
            }
            after = batch.last;
        }
    }

    /// Keeps what is forecast of one open deal today, with how much it is to be trusted and a note;
    /// the [snapshots](Self::snapshot) of the day leave it as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound);
    /// [`Error::Rule`](crate::Error::Rule) `not_forecast` for a deal that is closed, omitted or
    /// without an expected close date; [`Error::Duplicate`](crate::Error::Duplicate) if there is a
    /// forecast of the day already; [`Error::Validation`](crate::Error::Validation) for a
    /// confidence above 100 (R-110).
    pub async fn record(
        &mut self,
        deal: Id<Deal>,
        kind: PeriodKind,
        confidence_level: u32,
        notes: Option<&str>,
    ) -> Result<DealForecast> {
        in_work!(self.workspace, |work| {
            let deal = work.get(deal).await?;
            work.rely_on(&*deal);
            let counts = deal.status == DealStatus::Open && deal.counting_category.is_open();
            let Some(closes) = deal.expected_close_date.filter(|_| counts) else {
                return Err(RuleViolation::new(
                    "not_forecast",
                    "C-014",
                    "only open deals that are not omitted and have an expected close date are \
                     forecast",
                )
                .into());
            };
            let period = fiscal_year(work).await?.period(kind, closes);
            let today = today(work).await?;
            let forecast = DealForecast {
                confidence_level,
                notes: notes.map(str::to_owned),
                ..DealForecast::of(&deal, &period, today)
            };
            work.append_entry(forecast.clone())?;
            Ok(forecast)
        })
    }

    /// What was forecast for a period on each day of which there are snapshots, the first day
    /// first. Owners, teams and pipelines are those of the day of the snapshot; the tree of teams,
    /// the territories of accounts and what the filter looks at are as they are now.
    ///
    /// # Errors
    /// [`Error::Query`](crate::Error::Query) for a filter that does not fit deals.
    pub async fn trend(
        &self,
        period: &Period,
        query: &ForecastQuery,
    ) -> Result<Vec<DatedForecast>> {
        let now = ForecastQuery {
            owner: None,
            team: None,
            pipeline: None,
            period: None,
            ..query.clone()
        };
        let mut filters = vec![
            DealForecast::PERIOD.eq(period.kind()).into_filter(),
            DealForecast::PERIOD_START.eq(period.start()).into_filter(),
        ];
        let owner = query.owner.map(|owner| DealForecast::OWNER_ID.eq(owner));
        let pipeline = query.pipeline.map(|id| DealForecast::PIPELINE_ID.eq(id));
        filters.extend(owner.into_iter().chain(pipeline).map(Where::into_filter));
        if let Some(team) = query.team {
            let teams = self.teams_within(team).await?.into_iter();
            let some = teams.map(|some| DealForecast::TEAM_ID.one_of(some).into_filter());
            filters.push(Filter::Or(some.collect()));
        }
        let of_deals = now.scope();
        if !of_deals.is_empty() {
            filters.push(Filter::Has {
                field: DealForecast::DEAL_ID.name(),
                filter: Box::new(Filter::And(of_deals)),
            });
        }
        let by_day = Aggregate::<DealForecast>::new()
            .filter_by_name(Filter::And(filters))
            .group_by(DealForecast::FORECAST_DATE)
            .group_by(DealForecast::CATEGORY)
            .group_by(DealForecast::CURRENCY)
            .count()
            .sum(DealForecast::AMOUNT)
            .weighted_sum(DealForecast::AMOUNT, DealForecast::PROBABILITY);
        let groups = aggregate(&self.workspace, &by_day).await?;
        let days: BTreeMap<Option<NaiveDate>, Forecast> =
            fold(&groups, 1, Some(*period), |group| {
                Ok(match group.key(0) {
                    ValueRef::Date(day) => Some(day),
                    _ => None,
                })
            })?;
        let dated = |(date, forecast): (Option<NaiveDate>, Forecast)| {
            Some(DatedForecast {
                date: date?,
                forecast,
            })
        };
        Ok(days.into_iter().filter_map(dated).collect())
    }
}

//! The forecast as it was at a past moment, and what came of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rust_decimal::{Decimal, RoundingStrategy};
use serde::Serialize;
use uuid::Uuid;

use super::amounts::fold;
use super::query::{open_in, won_in};
use super::service::{aggregate, session_of};
use super::{Forecast, ForecastCategory, ForecastQuery, Forecasts, Period};
use crate::Id;
use crate::deals::{Deal, DealState, DealStatus};
use crate::engine::{Progress, Workspace};
use crate::error::Result;
use crate::query::{Aggregate, Condition, Filter, Query, Where, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, Picklist, Row, Value};
use crate::value::{Currency, Money, Totals, ValueError};

/// How many deals are compared at once.
const BATCH: usize = 500;

/// The decimals of an accuracy.
const DECIMALS: u32 = 4;

/// What became of a deal that was forecast for a period, or how one came that was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Picklist)]
pub enum DealOutcome {
    /// It was won before, in the same period, and still is.
    #[default]
    Closed,
    /// It was won in the period.
    Won,
    /// It was lost.
    Lost,
    /// It is open, or was won, but not in the period: its date was moved, or taken away.
    Slipped,
    /// It is still open and expected in the period.
    Open,
    /// It is deleted, archived while open, or nothing of whose forecast it was any more.
    Gone,
    /// It was not forecast for the period, but was won in it, or is expected in it now.
    New,
}

/// A deal at a moment, as far as its outcome depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct View {
    status: DealStatus,
    /// The date by which it counts: expected while it is open, actual once it is closed.
    date: Option<chrono::NaiveDate>,
    is_archived: bool,
}

impl View {
    fn now(deal: &Record<Deal>) -> Self {
        Self {
            status: deal.status,
            date: match deal.status {
                DealStatus::Open => deal.expected_close_date,
                DealStatus::Won | DealStatus::Lost => deal.actual_close_date,
            },
            is_archived: deal.archived_at.is_some(),
        }
    }

    fn is_in(&self, period: Option<Period>) -> bool {
        period.is_none_or(|period| self.date.is_some_and(|date| period.contains(date)))
    }

    /// What became of a deal that was forecast, which is like this now, or is not there any more.
    fn outcome(was_closed: bool, now: Option<Self>, period: Option<Period>) -> DealOutcome {
        let Some(now) = now else {
            return DealOutcome::Gone;
        };
        match now.status {
            DealStatus::Lost => DealOutcome::Lost,
            DealStatus::Open if now.is_archived => DealOutcome::Gone,
            DealStatus::Won if now.is_in(period) && was_closed => DealOutcome::Closed,
            DealStatus::Won if now.is_in(period) => DealOutcome::Won,
            DealStatus::Open if now.is_in(period) => DealOutcome::Open,
            DealStatus::Open | DealStatus::Won => DealOutcome::Slipped,
        }
    }
}

/// The deals with one outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutcomeTotals {
    /// How many they are.
    pub deals: u64,
    /// What they were worth when they were forecast; nothing for new ones.
    pub then: Totals,
    /// What they are worth now; nothing for those that are gone.
    pub now: Totals,
}

/// What was won of the deals that were in one category.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CategoryResult {
    /// How many deals were in the category.
    pub deals: u64,
    /// What they were worth then.
    pub then: Totals,
    /// How many of them were won in the period.
    pub won_deals: u64,
    /// What those are worth now.
    pub won: Totals,
}

/// One deal, then and now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ComparedDeal {
    /// The deal.
    pub deal: Id<Deal>,
    /// What became of it.
    pub outcome: DealOutcome,
    /// The category in which it was forecast; none for new ones.
    pub category: Option<ForecastCategory>,
    /// What it was worth then, if it was forecast and had an amount.
    pub then: Option<Money>,
    /// What it is worth now, if it is there and has an amount.
    pub now: Option<Money>,
}

/// A forecast of a past moment, compared with what came.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The moment of the forecast.
    pub at: DateTime<Utc>,
    /// The forecast as it was at that moment.
    pub then: Forecast,
    /// The forecast as it is now; its closed deals are what was won.
    pub now: Forecast,
    /// What came of the deals of each category of that forecast.
    pub categories: BTreeMap<ForecastCategory, CategoryResult>,
    /// The deals by what became of them: each deal of the forecast of then, omitted ones excepted,
    /// and each new one counts once.
    pub outcomes: BTreeMap<DealOutcome, OutcomeTotals>,
    /// The first deals of each outcome, as many as were asked for.
    pub deals: Vec<ComparedDeal>,
    /// Whether it was stopped before its end; what is told of outcomes then is a part.
    pub is_stopped: bool,
}

impl Comparison {
    /// Which part of what was forecast in a currency, counting what was at least as sure as a
    /// category, is won now: 1 is exactly what was forecast, more than that was cautious. Four
    /// decimals, half to even; none where nothing was forecast.
    ///
    /// # Errors
    /// [`Error::Validation`](crate::Error::Validation) `out_of_range` if a sum becomes too great.
    pub fn accuracy(
        &self,
        category: ForecastCategory,
        currency: Currency,
    ) -> Result<Option<Decimal>> {
        let forecast = self.then.at_least(category)?.amount.get(currency).amount();
        let won = self.now.closed().get(currency).amount();
        let part = won.checked_div(forecast);
        let strategy = RoundingStrategy::MidpointNearestEven;
        Ok(part.map(|part| part.round_dp_with_strategy(DECIMALS, strategy).normalize()))
    }

    /// Counts a deal in.
    fn add(&mut self, deal: ComparedDeal, listed: usize) -> Result<(), ValueError> {
        let totals = self.outcomes.entry(deal.outcome).or_default();
        let is_listed = totals.deals < listed as u64;
        totals.deals += 1;
        add(&mut totals.then, deal.then)?;
        add(&mut totals.now, deal.now)?;
        if let Some(category) = deal.category {
            let result = self.categories.entry(category).or_default();
            result.deals += 1;
            add(&mut result.then, deal.then)?;
            if matches!(deal.outcome, DealOutcome::Won | DealOutcome::Closed) {
                result.won_deals += 1;
                add(&mut result.won, deal.now)?;
            }
        }
        if is_listed {
            self.deals.push(deal);
        }
        Ok(())
    }
}

fn add(totals: &mut Totals, money: Option<Money>) -> Result<(), ValueError> {
    money.map_or(Ok(()), |money| totals.add(&money))
}

/// States in which deals are forecast for a period: the same as [`open_in`] and [`won_in`] say of
/// deals.
fn forecast_in(period: Option<Period>) -> Where<DealState> {
    let mut open = DealState::STATUS
        .eq(DealStatus::Open)
        .and(DealState::IS_COUNTED.eq(true));
    let mut won = DealState::STATUS.eq(DealStatus::Won);
    if let Some(period) = period {
        let (start, end) = (period.start(), period.end());
        open = open.and(DealState::EXPECTED_CLOSE_DATE.between(start, end));
        won = won.and(DealState::ACTUAL_CLOSE_DATE.between(start, end));
    }
    open.or(won)
}

/// The next rows behind an id.
async fn page(
    workspace: &Workspace<'_>,
    condition: &Condition,
    object: &crate::schema::ObjectRef,
    after: Option<Uuid>,
) -> Result<Vec<Row>> {
    let mut query = Query::new(object, condition.clone()).limit(BATCH);
    query.after = after.map(|id| vec![Value::Uuid(id)]);
    workspace.select(&query).await
}

impl Forecasts<'_> {
    /// What the forecast was at a past moment, from what every deal was then: its amount, category,
    /// dates, owner, team and pipeline. The tree of teams, the territories of accounts and what the
    /// filter looks at are as they are now.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// use crm_core::forecasts::ForecastQuery;
    /// # async fn example(session: &Session) -> Result<()> {
    /// let quarter = session.forecasts().named_period("FY2026-Q2").await?;
    /// let query = ForecastQuery::of(quarter);
    /// let when_it_began = "2026-04-01T00:00:00Z".parse().unwrap();
    /// let then = session.forecasts().as_of(&query, when_it_began).await?;
    /// println!("{:?}", then.categories);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Like [`forecast`](Self::forecast).
    pub async fn as_of(&self, query: &ForecastQuery, at: DateTime<Utc>) -> Result<Forecast> {
        let states = Aggregate::<DealState>::new()
            .filter_by_name(self.states(query, at).await?)
            .group_by(DealState::COUNTING_CATEGORY)
            .group_by(DealState::CURRENCY)
            .group_by(DealState::LOCKED_CURRENCY)
            .group_by(DealState::LOCKED_RATE)
            .group_by(DealState::LOCKED_RATE_DATE)
            .count()
            .sum(DealState::AMOUNT)
            .weighted_sum(DealState::AMOUNT, DealState::WIN_PROBABILITY)
            .sum(DealState::LOCKED_AMOUNT)
            .weighted_sum(DealState::LOCKED_AMOUNT, DealState::WIN_PROBABILITY);
        let groups = aggregate(&self.workspace, &states).await?;
        let mut all = fold(&groups, 0, query.period, |_| Ok(()))?;
        Ok(all
            .remove(&())
            .unwrap_or_else(|| Forecast::empty(query.period)))
    }

    /// Which states of deals made the forecast at a moment.
    async fn states(&self, query: &ForecastQuery, at: DateTime<Utc>) -> Result<Filter> {
        let mut filters = vec![
            DealState::as_of(at).into_filter(),
            forecast_in(query.period).into_filter(),
        ];
        let owner = query.owner.map(|owner| DealState::OWNER_ID.eq(owner));
        let pipeline = query.pipeline.map(|id| DealState::PIPELINE_ID.eq(id));
        filters.extend(owner.into_iter().chain(pipeline).map(Where::into_filter));
        if let Some(team) = query.team {
            let teams = self.teams_within(team).await?.into_iter();
            let some = teams.map(|some| DealState::TEAM_ID.one_of(some).into_filter());
            filters.push(Filter::Or(some.collect()));
        }
        let as_now = ForecastQuery {
            territory: query.territory,
            filter: query.filter.clone(),
            ..ForecastQuery::default()
        };
        let as_now = as_now.scope();
        if !as_now.is_empty() {
            filters.push(Filter::Has {
                field: DealState::DEAL_ID.name(),
                filter: Box::new(Filter::And(as_now)),
            });
        }
        Ok(Filter::And(filters))
    }

    /// Compares the forecast of a past moment with what came: per category what was forecast and
    /// what of it was won, and which deals were won, were lost, slipped or came new. `listed` is how
    /// many deals of each outcome are named; they are counted all.
    ///
    /// The forecasts are aggregates; the deals are walked in parts of some hundred, in bounded
    /// memory, so that each is counted as it was then and as it is now. Nothing is written.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// use crm_core::forecasts::{DealOutcome, ForecastCategory, ForecastQuery};
    /// use crm_core::value::Currency;
    /// # async fn example(session: &Session) -> Result<()> {
    /// let quarter = session.forecasts().named_period("FY2026-Q2").await?;
    /// let when_it_began = "2026-04-01T00:00:00Z".parse().unwrap();
    /// let query = ForecastQuery::of(quarter);
    /// let came = session.forecasts().compare(&query, when_it_began, 20, &()).await?;
    /// let accuracy = came.accuracy(ForecastCategory::Commit, Currency::EUR)?;
    /// for slipped in came.deals.iter().filter(|deal| deal.outcome == DealOutcome::Slipped) {
    ///     println!("{} was to bring {:?}", slipped.deal, slipped.then);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Like [`forecast`](Self::forecast); [`Error::Forbidden`](crate::Error::Forbidden) in a unit of
    /// work, whose changes have no history yet.
    pub async fn compare(
        &self,
        query: &ForecastQuery,
        at: DateTime<Utc>,
        listed: usize,
        progress: &dyn Progress,
    ) -> Result<Comparison> {
        let session = session_of(&self.workspace, "compare")?;
        let registry = &*session.registry().await?;
        let mut compared = Comparison {
            at,
            then: self.as_of(query, at).await?,
            now: self.forecast(query).await?,
            categories: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            deals: Vec::new(),
            is_stopped: false,
        };
        let states = self.states(query, at).await?;
        let states = Condition::bind(&states, DealState::schema(), registry)?;
        let scope = Filter::And(query.scope());
        let scope = Condition::bind(&scope, Deal::schema(), registry)?;
        let mut done = 0;
        let mut after = None;
        loop {
            let rows = page(&self.workspace, &states, DealState::schema(), after).await?;
            let count = rows.len();
            after = rows.last().map(|row| row.id());
            self.compare_states(rows, &scope, query.period, listed, &mut compared)
                .await?;
            done += count as u64;
            if self.goes_on(count, done, progress, &mut compared) {
                continue;
            }
            break;
        }
        if compared.is_stopped {
            return Ok(compared);
        }
        let counts = open_in(query.period)
            .and(Deal::COUNTING_CATEGORY.ne(ForecastCategory::Omitted))
            .or(won_in(query.period));
        let counts = Condition::bind(&counts.into_filter(), Deal::schema(), registry)?;
        let deals = Condition::not_deleted().and(scope).and(counts);
        after = None;
        loop {
            let rows = page(&self.workspace, &deals, Deal::schema(), after).await?;
            let count = rows.len();
            after = rows.last().map(|row| row.id());
            self.add_new(rows, &states, listed, &mut compared).await?;
            done += count as u64;
            if !self.goes_on(count, done, progress, &mut compared) {
                return Ok(compared);
            }
        }
    }

    /// Reports, and tells whether there are more rows to compare.
    fn goes_on(
        &self,
        read: usize,
        done: u64,
        progress: &dyn Progress,
        compared: &mut Comparison,
    ) -> bool {
        let is_last = read < BATCH;
        let stops = progress.report(done, None).is_break();
        compared.is_stopped = stops && !is_last;
        !is_last && !stops
    }

    /// What became of deals that were forecast.
    async fn compare_states(
        &self,
        states: Vec<Row>,
        scope: &Condition,
        period: Option<Period>,
        listed: usize,
        compared: &mut Comparison,
    ) -> Result<()> {
        let states = states.into_iter().filter_map(Record::<DealState>::from_row);
        let states: Vec<Arc<Record<DealState>>> = states
            .filter(|state| state.counting_category != ForecastCategory::Omitted)
            .collect();
        if states.is_empty() {
            return Ok(());
        }
        let ids = Deal::ID.one_of(states.iter().map(|state| state.deal_id));
        let registry = &*self.workspace.registry().await?;
        let ids = Condition::bind(&ids.into_filter(), Deal::schema(), registry)?;
        let live = Condition::not_deleted().and(ids).and(scope.clone());
        let rows = self
            .workspace
            .select(&Query::new(Deal::schema(), live))
            .await?;
        let deals: HashMap<Id<Deal>, Arc<Record<Deal>>> = rows
            .into_iter()
            .filter_map(Record::<Deal>::from_row)
            .map(|deal| (deal.id, deal))
            .collect();
        for state in states {
            let deal = deals.get(&state.deal_id);
            let was_closed = state.status == DealStatus::Won;
            let now = deal.map(|deal| View::now(deal));
            let outcome = View::outcome(was_closed, now, period);
            let worth = deal.filter(|_| outcome != DealOutcome::Gone);
            let one = ComparedDeal {
                deal: state.deal_id,
                outcome,
                category: Some(state.counting_category),
                then: state
                    .amount
                    .map(|amount| Money::new(amount, state.currency)),
                now: worth.and_then(|deal| deal.money()),
            };
            compared.add(one, listed)?;
        }
        Ok(())
    }

    /// Those of the deals that were not forecast.
    async fn add_new(
        &self,
        deals: Vec<Row>,
        states: &Condition,
        listed: usize,
        compared: &mut Comparison,
    ) -> Result<()> {
        let deals = deals.into_iter().filter_map(Record::<Deal>::from_row);
        let deals: Vec<Arc<Record<Deal>>> = deals.collect();
        if deals.is_empty() {
            return Ok(());
        }
        let of_deals = DealState::DEAL_ID
            .one_of(deals.iter().map(|deal| deal.id))
            .and(DealState::COUNTING_CATEGORY.ne(ForecastCategory::Omitted));
        let registry = &*self.workspace.registry().await?;
        let of_deals = Condition::bind(&of_deals.into_filter(), DealState::schema(), registry)?;
        let query = Query::new(DealState::schema(), states.clone().and(of_deals));
        let known = self.workspace.select(&query).await?;
        let known = known.into_iter().filter_map(Record::<DealState>::from_row);
        let known: HashSet<Id<Deal>> = known.map(|state| state.deal_id).collect();
        for deal in deals.iter().filter(|deal| !known.contains(&deal.id)) {
            let one = ComparedDeal {
                deal: deal.id,
                outcome: DealOutcome::New,
                category: None,
                then: None,
                now: deal.money(),
            };
            compared.add(one, listed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecasts::FiscalYear;

    #[test]
    fn what_became_of_a_deal_is_told_by_its_status_and_date() {
        use DealOutcome::{Closed, Gone, Lost, Open, Slipped, Won};
        let period = FiscalYear::CALENDAR.named("FY2026-Q2").unwrap();
        let now = |status, date: Option<&str>| View {
            status,
            date: date.map(|date| date.parse().unwrap()),
            is_archived: false,
        };
        let inside = Some("2026-06-30");
        let outside = Some("2026-07-01");
        let cases = [
            (now(DealStatus::Won, inside), Won, Closed),
            (now(DealStatus::Won, outside), Slipped, Slipped),
            (now(DealStatus::Lost, inside), Lost, Lost),
            (now(DealStatus::Lost, outside), Lost, Lost),
            (now(DealStatus::Open, inside), Open, Open),
            (now(DealStatus::Open, outside), Slipped, Slipped),
            (now(DealStatus::Open, None), Slipped, Slipped),
        ];
        for (view, open_then, closed_then) in cases {
            let outcome = |was_closed| View::outcome(was_closed, Some(view), Some(period));
            assert_eq!(
                (outcome(false), outcome(true)),
                (open_then, closed_then),
                "{view:?}"
            );
        }
        let archived = |status| View {
            is_archived: true,
            ..now(status, inside)
        };
        let outcome = |now| View::outcome(false, now, Some(period));
        assert_eq!(outcome(Some(archived(DealStatus::Open))), Gone);
        assert_eq!(outcome(Some(archived(DealStatus::Won))), Won);
        assert_eq!(outcome(None), Gone);
        // Of all times nothing slips.
        let undated = View::outcome(false, Some(now(DealStatus::Open, None)), None);
        assert_eq!(undated, Open);
    }
}

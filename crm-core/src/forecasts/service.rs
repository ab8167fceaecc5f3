//! [`Forecasts`]: what sessions and units of work can ask and say about forecasts.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::NaiveDate;
use serde::Serialize;
use uuid::Uuid;

use super::adjustment::{AdjustedForecast, ForecastAdjustment};
use super::amounts::{fold, roll_up};
use super::query::{measured, open_in, won_in};
use super::rules::{AT_ONCE, check_stage, give_category, lagging_deals};
use super::{
    FiscalYear, Forecast, ForecastCategory, ForecastQuery, ForecastSubject, Period, PeriodKind,
};
use crate::Id;
use crate::accounts::Account;
use crate::deals::Deal;
use crate::engine::{Progress, Session, Workspace, in_work};
use crate::error::{Error, FieldError, Result, codes};
use crate::identity::{Team, User};
use crate::pipelines::{Pipeline, PipelineStage};
use crate::query::{Aggregate, CalendarUnit, Filter, Group, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, ValueRef};
use crate::tenancy::{fiscal_year, today};
use crate::territories::Territory;
use crate::value::TimeZone;

/// The most periods that are forecast at once.
const MOST_PERIODS: usize = 240;

/// Forecasts of sales (C-014): see the [module](super).
///
/// ```
/// # use crm_core::{Id, Session, error::Result, identity::Team};
/// use crm_core::forecasts::{ForecastCategory, ForecastQuery, PeriodKind};
/// # async fn example(session: &Session, sales: Id<Team>) -> Result<()> {
/// let quarter = session.forecasts().current_period(PeriodKind::Quarter).await?;
/// let query = ForecastQuery { team: Some(sales), ..ForecastQuery::of(quarter) };
/// let forecast = session.forecasts().forecast(&query).await?;
/// println!(
///     "{quarter}: {} won, {} committed, {} expected",
///     forecast.closed(),
///     forecast.at_least(ForecastCategory::Commit)?.amount,
///     forecast.expected()?,
/// );
/// for slice in session.forecasts().by_owner(&query).await? {
///     println!("{:?}: {}", slice.of, slice.forecast.computed.closed());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Forecasts<'a> {
    pub(super) workspace: Workspace<'a>,
}

/// The part of a forecast that is one owner's, one team's, or the like.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(bound = "")]
pub struct Slice<T> {
    /// Whose part; none for deals that have no such.
    pub of: Option<Id<T>>,
    /// The part. Adjustments are laid beside it where the whole is not narrowed otherwise.
    pub forecast: AdjustedForecast,
}

/// What came of the change of a stage's category.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Categorized {
    /// How many deals were changed one part after the other.
    pub deals: u64,
    /// Whether it was stopped before its end.
    pub is_stopped: bool,
}

/// The groups that answer a request.
pub(super) async fn aggregate<E: Entity>(
    workspace: &Workspace<'_>,
    request: &Aggregate<E>,
) -> Result<Vec<Group>> {
    let registry = &*workspace.session().registry().await?;
    let query = request.bind(E::schema(), registry)?;
    workspace.aggregate(&query).await
}

/// The session, for runs over many commits.
pub(super) fn session_of<'w>(
    workspace: &'w Workspace<'_>,
    operation: &'static str,
) -> Result<&'w Session> {
    match workspace {
        Workspace::Session(session) => Ok(session),
        Workspace::Unit(_) => Err(Error::Forbidden {
            reason: format!("`{operation}` runs over many commits: call it on a session").into(),
        }),
    }
}

/// The key of a group as an id.
pub(super) fn id_of(group: &Group, place: usize) -> Option<Uuid> {
    group.key(place).as_uuid()
}

impl<'a> Forecasts<'a> {
    pub(crate) const fn new(workspace: Workspace<'a>) -> Self {
        Self { workspace }
    }

    /// The fiscal year of the tenant.
    ///
    /// # Errors
    /// Those of [`Configurations::fiscal_year`](crate::tenancy::Configurations::fiscal_year).
    pub async fn fiscal_year(&self) -> Result<FiscalYear> {
        match &self.workspace {
            Workspace::Session(session) => fiscal_year(&session.begin()).await,
            Workspace::Unit(work) => fiscal_year(work).await,
        }
    }

    /// The period of the tenant that a day is in.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn period(&self, kind: PeriodKind, day: NaiveDate) -> Result<Period> {
        Ok(self.fiscal_year().await?.period(kind, day))
    }

    /// The period of the tenant that today is in, by the clocks of the tenant.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn current_period(&self, kind: PeriodKind) -> Result<Period> {
        self.period(kind, self.today().await?).await
    }

    /// The period of the tenant with a name: `FY2027`, `FY2027-Q1`, `2026-04`.
    ///
    /// # Errors
    /// [`Error::Validation`] `invalid_period`.
    pub async fn named_period(&self, name: &str) -> Result<Period> {
        let named = self.fiscal_year().await?.named(name);
        named.map_err(|error| {
            FieldError::new("period", error.code(), error.message().to_owned()).into()
        })
    }

    /// Which day it is where the tenant is.
    pub(super) async fn today(&self) -> Result<NaiveDate> {
        today(self.workspace.reading(&mut None)).await
    }

    /// What sales are forecast, by category: counted, added up per currency and weighted, in one
    /// query however many deals there are.
    ///
    /// # Errors
    /// [`Error::Query`] for a filter that does not fit deals; [`Error::Validation`] `out_of_range`
    /// if a sum becomes too great.
    pub async fn forecast(&self, query: &ForecastQuery) -> Result<Forecast> {
        let groups = aggregate(&self.workspace, &measured(query.deals())).await?;
        let mut all = fold(&groups, 0, query.period, |_| Ok(()))?;
        Ok(all
            .remove(&())
            .unwrap_or_else(|| Forecast::empty(query.period)))
    }

    /// A forecast with what owner and manager made of it: where the query is of exactly one user,
    /// team or territory, and of one period. Any other forecast nobody adjusts.
    ///
    /// # Errors
    /// Like [`forecast`](Self::forecast).
    pub async fn adjusted(&self, query: &ForecastQuery) -> Result<AdjustedForecast> {
        let computed = self.forecast(query).await?;
        let adjustments = match (query.subject(), query.period) {
            (Some(subject), Some(period)) => self.adjustments(Some(subject), period).await?,
            _ => Vec::new(),
        };
        AdjustedForecast::new(computed, adjustments)
    }

    /// The forecasts of the owners of the deals, each with its adjustments where the query names
    /// neither team nor territory, pipeline or filter.
    ///
    /// # Errors
    /// Like [`forecast`](Self::forecast).
    pub async fn by_owner(&self, query: &ForecastQuery) -> Result<Vec<Slice<User>>> {
        let by_owner = measured(query.deals().group_by(Deal::OWNER_ID));
        let groups = aggregate(&self.workspace, &by_owner).await?;
        let forecasts = fold(&groups, 1, query.period, |group| Ok(id_of(group, 0)))?;
        let is_whole = ForecastQuery {
            owner: None,
            period: None,
            ..query.clone()
        } == ForecastQuery::default();
        let wanted = query.owner;
        let subject = |own: &ForecastSubject| {
            let user = own
                .user_id
                .filter(|user| wanted.is_none_or(|one| one == *user));
            user.map(Id::uuid)
        };
        let period = query.period.filter(|_| is_whole);
        self.slices(forecasts, period, query.period, subject).await
    }

    /// The forecasts of the teams, each with all teams below it, and of the deals of no team; each
    /// with its adjustments where the query names neither owner nor territory, pipeline or filter.
    /// With a team in the query, of that team and those below it. Two queries, however many teams
    /// there are.
    ///
    /// # Errors
    /// Like [`forecast`](Self::forecast).
    pub async fn by_team(&self, query: &ForecastQuery) -> Result<Vec<Slice<Team>>> {
        let by_team = measured(query.deals().group_by(Deal::TEAM_ID));
        let groups = aggregate(&self.workspace, &by_team).await?;
        let mut own = fold(&groups, 1, query.period, |group| Ok(id_of(group, 0)))?;
        let without = own.remove(&None);
        let own = own.into_iter().filter_map(|(id, one)| Some((id?, one)));
        let parents = self.team_parents(query.team).await?;
        let sums = roll_up(own.collect(), &parents, query.period)?;
        let mut forecasts: BTreeMap<Option<Uuid>, Forecast> =
            sums.into_iter().map(|(id, one)| (Some(id), one)).collect();
        forecasts.extend(without.map(|one| (None, one)));
        let is_whole = ForecastQuery {
            team: None,
            period: None,
            ..query.clone()
        } == ForecastQuery::default();
        let subject = |own: &ForecastSubject| {
            let team = own.team_id.map(Id::uuid);
            team.filter(|team| parents.contains_key(team))
        };
        let period = query.period.filter(|_| is_whole);
        self.slices(forecasts, period, query.period, subject).await
    }

    /// The teams, or one and those below it, each with the one above it.
    pub(super) async fn team_parents(
        &self,
        top: Option<Id<Team>>,
    ) -> Result<BTreeMap<Uuid, Option<Uuid>>> {
        let wanted = match top {
            Some(top) => Team::ID.within(top),
            None => Team::ID.is_not_null(),
        };
        let teams: Vec<Arc<Record<Team>>> = self.workspace.find_all(wanted).await?;
        let parent = |team: &Arc<Record<Team>>| (team.id.uuid(), team.parent_team_id.map(Id::uuid));
        Ok(teams.iter().map(parent).collect())
    }

    /// A team and those below it, as many at once as a filter takes.
    pub(super) async fn teams_within(&self, top: Id<Team>) -> Result<Vec<Vec<Id<Team>>>> {
        let teams = self.team_parents(Some(top)).await?;
        let teams: Vec<Id<Team>> = teams.into_keys().map(Id::new).collect();
        let some = teams.chunks(Filter::MAX_VALUES);
        Ok(some.map(<[Id<Team>]>::to_vec).collect())
    }

    /// The forecasts of the pipelines that have deals.
    ///
    /// # Errors
    /// Like [`forecast`](Self::forecast).
    pub async fn by_pipeline(&self, query: &ForecastQuery) -> Result<Vec<Slice<Pipeline>>> {
        let by_pipeline = measured(query.deals().group_by(Deal::PIPELINE_ID));
        let groups = aggregate(&self.workspace, &by_pipeline).await?;
        let forecasts = fold(&groups, 1, query.period, |group| Ok(id_of(group, 0)))?;
        self.slices(forecasts, None, query.period, |_| None).await
    }

    /// The forecasts of the territories at the top of the tree, or of the parts of the territory in
    /// the query, each with all below it; then of the deals of that territory itself, or of no
    /// territory. So the parts add up to the whole. One query for each part.
    ///
    /// Each has its adjustments where the query names neither owner nor team, pipeline or filter.
    ///
    /// # Errors
    /// Like [`forecast`](Self::forecast).
    pub async fn by_territory(&self, query: &ForecastQuery) -> Result<Vec<Slice<Territory>>> {
        let parts = match query.territory {
            Some(above) => Territory::PARENT_TERRITORY_ID.eq(above),
            None => Territory::PARENT_TERRITORY_ID.is_null(),
        };
        let parts: Vec<Arc<Record<Territory>>> = self.workspace.find_all(parts).await?;
        let mut forecasts = BTreeMap::new();
        for part in &parts {
            let within = ForecastQuery {
                territory: Some(part.id),
                ..query.clone()
            };
            let forecast = self.forecast(&within).await?;
            forecasts.insert(Some(part.id.uuid()), forecast);
        }
        let rest = match query.territory {
            Some(above) => Deal::ACCOUNT_ID.has(Account::TERRITORY_ID.eq(above)),
            None => Deal::ACCOUNT_ID
                .has(Account::TERRITORY_ID.is_not_null())
                .negate(),
        };
        let rest = measured(query.deals().filter(rest));
        let groups = aggregate(&self.workspace, &rest).await?;
        let mut rest = fold(&groups, 0, query.period, |_| Ok(()))?;
        if let Some(rest) = rest.remove(&()) {
            forecasts.insert(query.territory.map(Id::uuid), rest);
        }
        let is_whole = ForecastQuery {
            territory: None,
            period: None,
            ..query.clone()
        } == ForecastQuery::default();
        let subject = |own: &ForecastSubject| {
            let id = own.territory_id?;
            parts.iter().any(|part| part.id == id).then(|| id.uuid())
        };
        let period = query.period.filter(|_| is_whole);
        self.slices(forecasts, period, query.period, subject).await
    }

    /// The forecasts of the periods of a kind from the one that `from` is in to the one that `to`
    /// is in, those without deals included; the period of the query is not looked at. Two queries,
    /// however many periods and deals there are.
    ///
    /// # Errors
    /// Like [`forecast`](Self::forecast); [`Error::Validation`] `out_of_range` for more than 240
    /// periods.
    pub async fn by_period(
        &self,
        query: &ForecastQuery,
        kind: PeriodKind,
        from: NaiveDate,
        to: NaiveDate,
    ) -> Result<Vec<Forecast>> {
        let year = self.fiscal_year().await?;
        let mut forecasts = Vec::new();
        let mut next = Some(year.period(kind, from));
        while let Some(period) = next.filter(|period| period.start() <= to) {
            if forecasts.len() == MOST_PERIODS {
                return Err(FieldError::new(
                    "to",
                    codes::OUT_OF_RANGE,
                    "ask for at most 240 periods at once",
                )
                .into());
            }
            forecasts.push(Forecast::empty(Some(period)));
            next = period.next();
        }
        let ends = forecasts.first().zip(forecasts.last());
        let ends = ends.and_then(|(first, last)| first.period.zip(last.period));
        let Some((first, last)) = ends else {
            return Ok(forecasts);
        };
        // Every period is made of months of the calendar.
        let (start, end) = (first.start(), last.end());
        let open = open_in(None).and(Deal::EXPECTED_CLOSE_DATE.between(start, end));
        let won = won_in(None).and(Deal::ACTUAL_CLOSE_DATE.between(start, end));
        for (closing, date) in [
            (open, Deal::EXPECTED_CLOSE_DATE),
            (won, Deal::ACTUAL_CLOSE_DATE),
        ] {
            let deals = query.over(closing.into_filter());
            let monthly = deals.group_by_calendar(date, CalendarUnit::Month, TimeZone::UTC);
            let groups = aggregate(&self.workspace, &measured(monthly)).await?;
            let months = fold(&groups, 1, None, |group| {
                Ok(match group.key(0) {
                    ValueRef::Date(day) => Some(year.period(kind, day)),
                    _ => None,
                })
            })?;
            for (period, month) in months {
                let of_period = forecasts.iter_mut().find(|one| one.period == period);
                if let Some(forecast) = of_period {
                    forecast.merge(&month)?;
                }
            }
        }
        Ok(forecasts)
    }

    /// Lays the adjustments of a period beside forecasts; `subject` tells which part an adjustment
    /// is of. A part that has adjustments but no deals is there too.
    async fn slices<T: Entity>(
        &self,
        mut forecasts: BTreeMap<Option<Uuid>, Forecast>,
        adjusted_in: Option<Period>,
        period: Option<Period>,
        subject: impl Fn(&ForecastSubject) -> Option<Uuid>,
    ) -> Result<Vec<Slice<T>>> {
        let mut adjustments: BTreeMap<Uuid, Vec<Arc<Record<ForecastAdjustment>>>> = BTreeMap::new();
        if let Some(period) = adjusted_in {
            for one in self.adjustments(None, period).await? {
                if let Some(id) = subject(&one.subject) {
                    let empty = || Forecast::empty(Some(period));
                    forecasts.entry(Some(id)).or_insert_with(empty);
                    adjustments.entry(id).or_default().push(one);
                }
            }
        }
        let mut slices = Vec::with_capacity(forecasts.len());
        for (of, mut forecast) in forecasts {
            forecast.period = period;
            let own = of.and_then(|id| adjustments.remove(&id));
            slices.push(Slice {
                of: of.map(Id::new),
                forecast: AdjustedForecast::new(forecast, own.unwrap_or_default())?,
            });
        }
        Ok(slices)
    }

    /// The adjustments of a period, of one subject or of all.
    async fn adjustments(
        &self,
        subject: Option<ForecastSubject>,
        period: Period,
    ) -> Result<Vec<Arc<Record<ForecastAdjustment>>>> {
        let mut wanted = ForecastAdjustment::PERIOD
            .eq(period.kind())
            .and(ForecastAdjustment::PERIOD_START.eq(period.start()))
            .and(ForecastAdjustment::ARCHIVED_AT.is_null());
        if let Some(of) = subject.and_then(|subject| subject.of(ForecastAdjustment::SUBJECT)) {
            wanted = wanted.and(of);
        }
        self.workspace.find_all(wanted).await
    }

    /// Adjusts a forecast: changes the adjustment of the same subject, period, category, currency
    /// and kind, or adds one. It is withdrawn by deleting it.
    ///
    /// # Errors
    /// [`Error::Validation`]; [`Error::Rule`] `not_own_forecast` for a user who adjusts the forecast
    /// of another one as its owner, `own_forecast` for one who adjusts the own one as a manager.
    pub async fn adjust(
        &mut self,
        adjustment: ForecastAdjustment,
    ) -> Result<Arc<Record<ForecastAdjustment>>> {
        in_work!(self.workspace, |work| {
            // Two who adjust for the first time: the slower one changes the other's.
            work.contend_any(ForecastAdjustment::schema().name());
            let same = adjustment
                .subject
                .of(ForecastAdjustment::SUBJECT)
                .map(|of| {
                    of.and(ForecastAdjustment::PERIOD.eq(adjustment.period))
                        .and(ForecastAdjustment::PERIOD_START.eq(adjustment.period_start))
                        .and(ForecastAdjustment::CATEGORY.eq(adjustment.category))
                        .and(ForecastAdjustment::CURRENCY.eq(adjustment.currency))
                        .and(ForecastAdjustment::KIND.eq(adjustment.kind))
                });
            let known = match same {
                Some(same) => work.find_all(same, Vec::new()).await?.pop(),
                None => None,
            };
            match known {
                Some(known) => {
                    let change = |known: &mut ForecastAdjustment| *known = adjustment.clone();
                    work.update_record(known, &change).await
                }
                None => work.create(adjustment.clone()).await,
            }
        })
    }

    /// Changes the forecast category of a stage that may have any number of deals. Its open deals
    /// that have no category of their own follow, some hundred in a commit, and the stage with the
    /// last of them; where there are few, an ordinary change of the stage does the same.
    ///
    /// A run that is stopped or fails leaves the stage as it was, with the deals done so far in the
    /// new category; run again it does the rest.
    ///
    /// ```
    /// # use crm_core::{Id, Session, error::Result, pipelines::PipelineStage};
    /// use crm_core::forecasts::ForecastCategory;
    /// # async fn example(session: &Session, negotiation: Id<PipelineStage>) -> Result<()> {
    /// let commit = Some(ForecastCategory::Commit);
    /// session.forecasts().categorize_stage(negotiation, commit, &()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Validation`] for a category that does not fit the type of the
    /// stage; [`Error::Forbidden`] in a unit of work, which is one commit.
    pub async fn categorize_stage(
        &mut self,
        stage: Id<PipelineStage>,
        category: Option<ForecastCategory>,
        progress: &dyn Progress,
    ) -> Result<Categorized> {
        let session = session_of(&self.workspace, "categorize_stage")?;
        let known = session.records::<PipelineStage>().get(stage).await?;
        check_stage(known.stage_type, category)?;
        let counts = ForecastCategory::of_stage(known.stage_type, category);
        let mut done = Categorized::default();
        if !self
            .give_in_parts(stage, counts, &mut done, progress)
            .await?
        {
            return Ok(done);
        }
        let changed: Result<Arc<Record<PipelineStage>>> = in_work!(self.workspace, |work| {
            work.update(stage, &|stage: &mut PipelineStage| {
                stage.forecast_category = category;
            })
            .await
        });
        changed?;
        // Those that came into the stage just before it changed.
        self.give_in_parts(stage, counts, &mut done, progress)
            .await?;
        Ok(done)
    }

    /// Gives a category to the deals of a stage that are not in it yet; whether that was done to the
    /// end.
    async fn give_in_parts(
        &mut self,
        stage: Id<PipelineStage>,
        category: ForecastCategory,
        done: &mut Categorized,
        progress: &dyn Progress,
    ) -> Result<bool> {
        loop {
            let given: Result<usize> = in_work!(self.workspace, |work| {
                let deals = lagging_deals(work, stage, category, AT_ONCE).await?;
                let count = deals.len();
                give_category(work, deals, category).await?;
                Ok(count)
            });
            let given = given?;
            done.deals += given as u64;
            let answer = progress.report(done.deals, None);
            if given < AT_ONCE {
                return Ok(true);
            }
            if answer.is_break() {
                done.is_stopped = true;
                return Ok(false);
            }
        }
    }
}

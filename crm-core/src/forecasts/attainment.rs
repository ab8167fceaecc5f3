//! Quotas are set, and compared with what was won.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::amounts::{fold, roll_up};
use super::query::{measured, won_in};
use super::service::{aggregate, id_of};
use super::{
    Attainment, CategoryForecast, Forecast, ForecastCategory, ForecastQuery, ForecastSubject,
    Forecasts, Period, Quota,
};
use crate::Id;
use crate::currencies::ExchangeRates;
use crate::deals::Deal;
use crate::engine::in_work;
use crate::error::Result;
use crate::query::WhereExt;
use crate::record::Record;
use crate::territories::Territory;

/// What was won in a period, by whom.
#[derive(Default)]
struct Won {
    users: BTreeMap<Uuid, Forecast>,
    teams: BTreeMap<Uuid, Forecast>,
    territories: BTreeMap<Uuid, Forecast>,
}

impl Won {
    fn of(&self, subject: &ForecastSubject) -> CategoryForecast {
        let user = subject.user_id.and_then(|id| self.users.get(&id.uuid()));
        let team = || subject.team_id.and_then(|id| self.teams.get(&id.uuid()));
        let territory = || {
            let id = subject.territory_id?;
            self.territories.get(&id.uuid())
        };
        let won = user.or_else(team).or_else(territory);
        won.map(|won| won.of(ForecastCategory::Closed))
            .unwrap_or_default()
    }
}

impl Forecasts<'_> {
    /// Sets a quota: changes the one of the same subject, period and currency, or adds one. It is
    /// taken back by deleting it.
    ///
    /// ```
    /// # use crm_core::{Id, Session, error::Result, identity::User};
    /// use crm_core::forecasts::{ForecastSubject, PeriodKind, Quota};
    /// # async fn example(session: &Session, ada: Id<User>) -> Result<()> {
    /// let quarter = session.forecasts().current_period(PeriodKind::Quarter).await?;
    /// let ada = ForecastSubject::user(ada);
    /// let quota = Quota::of(ada, &quarter, "250000 EUR".parse()?);
    /// session.forecasts().set_quota(quota).await?;
    /// for one in session.forecasts().attainment(ada, &quarter, None).await? {
    ///     println!("{} of {}, ahead by {}", one.closed, one.quota, one.pace.ahead);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Validation`](crate::Error::Validation) for a quota of nobody or of several, of zero
    /// or less, or of no period of the tenant's fiscal year.
    pub async fn set_quota(&mut self, quota: Quota) -> Result<Arc<Record<Quota>>> {
        in_work!(self.workspace, |work| {
            // Two who set it for the first time: the slower one changes the other's.
            work.contend("quota", &["user_id", "period", "period_start", "currency"]);
            work.contend("quota", &["team_id", "period", "period_start", "currency"]);
            work.contend(
                "quota",
                &["territory_id", "period", "period_start", "currency"],
            );
            let same = quota.subject.of(Quota::SUBJECT).map(|of| {
                of.and(Quota::PERIOD.eq(quota.period))
                    .and(Quota::PERIOD_START.eq(quota.period_start))
                    .and(Quota::CURRENCY.eq(quota.currency))
            });
            let known = match same {
                Some(same) => work.find_all(same, Vec::new()).await?.pop(),
                None => None,
            };
            match known {
                Some(known) => {
                    let change = |known: &mut Quota| *known = quota.clone();
                    work.update_record(known, &change).await
                }
                None => work.create(quota.clone()).await,
            }
        })
    }

    /// How much of the quotas of a user, a team or a territory is done, one for each currency that
    /// has a quota. What was won in other currencies counts only with `rates`: by the rate into the
    /// currency of the quota that a deal keeps since it was closed, else by the rates of today or of
    /// the last day of the period, whichever comes first.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) `missing_rate`, naming pair and day.
    pub async fn attainment(
        &self,
        subject: ForecastSubject,
        period: &Period,
        rates: Option<&ExchangeRates>,
    ) -> Result<Vec<Attainment>> {
        self.compare_quotas(Some(subject), period, rates).await
    }

    /// How much of each quota of a period is done, whoever has it: a query for users and teams
    /// together, and one for each territory that has a quota.
    ///
    /// # Errors
    /// Like [`attainment`](Self::attainment).
    pub async fn attainments(
        &self,
        period: &Period,
        rates: Option<&ExchangeRates>,
    ) -> Result<Vec<Attainment>> {
        self.compare_quotas(None, period, rates).await
    }

    async fn compare_quotas(
        &self,
        subject: Option<ForecastSubject>,
        period: &Period,
        rates: Option<&ExchangeRates>,
    ) -> Result<Vec<Attainment>> {
        let mut wanted = Quota::PERIOD
            .eq(period.kind())
            .and(Quota::PERIOD_START.eq(period.start()))
            .and(Quota::ARCHIVED_AT.is_null());
        if let Some(subject) = subject {
            let Some(of) = subject.of(Quota::SUBJECT) else {
                return Ok(Vec::new());
            };
            wanted = wanted.and(of);
        }
        let quotas: Vec<Arc<Record<Quota>>> = self.workspace.find_all(wanted).await?;
        if quotas.is_empty() {
            return Ok(Vec::new());
        }
        let won = self.won(&quotas, subject, period).await?;
        let today = self.today().await?;
        let on = today.min(period.end());
        let mut attainments = Vec::with_capacity(quotas.len());
        for quota in quotas {
            let closed = won.of(&quota.subject);
            let converted = rates
                .map(|rates| closed.amount_in(rates, quota.currency, on))
                .transpose()?;
            let counts = match &converted {
                Some(converted) => converted.total,
                None => closed.amount.get(quota.currency),
            };
            attainments.push(Attainment::new(
                quota.id, &quota, *period, counts, converted, today,
            )?);
        }
        Ok(attainments)
    }

    /// What those who have quotas won in a period.
    async fn won(
        &self,
        quotas: &[Arc<Record<Quota>>],
        subject: Option<ForecastSubject>,
        period: &Period,
    ) -> Result<Won> {
        let mut won = Won::default();
        let has = |wanted: fn(&ForecastSubject) -> bool| {
            quotas.iter().any(|quota| wanted(&quota.subject))
        };
        let has_teams = has(|one| one.team_id.is_some());
        if has_teams || has(|one| one.user_id.is_some()) {
            let scope = subject.unwrap_or_default();
            let deals = ForecastQuery::of_subject(scope, *period)
                .over(won_in(Some(*period)).into_filter())
                .group_by(Deal::OWNER_ID)
                .group_by(Deal::TEAM_ID);
            let groups = aggregate(&self.workspace, &measured(deals)).await?;
            let parts = fold(&groups, 2, Some(*period), |group| {
                Ok((id_of(group, 0), id_of(group, 1)))
            })?;
            let mut teams: BTreeMap<Uuid, Forecast> = BTreeMap::new();
            for ((owner, team), part) in parts {
                if let Some(owner) = owner {
                    won.users.entry(owner).or_default().merge(&part)?;
                }
                if let Some(team) = team {
                    teams.entry(team).or_default().merge(&part)?;
                }
            }
            if has_teams {
                let parents = self.team_parents(scope.team_id).await?;
                won.teams = roll_up(teams, &parents, Some(*period))?;
            }
        }
        let territories = quotas.iter().filter_map(|quota| quota.subject.territory_id);
        for territory in territories {
            if won.territories.contains_key(&territory.uuid()) {
                continue;
            }
            let forecast = self.won_within(territory, period).await?;
            won.territories.insert(territory.uuid(), forecast);
        }
        Ok(won)
    }

    async fn won_within(&self, territory: Id<Territory>, period: &Period) -> Result<Forecast> {
        let query = ForecastQuery::of_subject(ForecastSubject::territory(territory), *period);
        let deals = query.over(won_in(Some(*period)).into_filter());
        let groups = aggregate(&self.workspace, &measured(deals)).await?;
        let mut all = fold(&groups, 0, Some(*period), |_| Ok(()))?;
        Ok(all.remove(&()).unwrap_or_default())
    }
}

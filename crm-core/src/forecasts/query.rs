//! [`ForecastQuery`]: which deals a forecast is of.

use super::{ForecastSubject, Period};
use crate::Id;
use crate::accounts::Account;
use crate::deals::{Deal, DealStatus, by_rate};
use crate::identity::{Team, User};
use crate::pipelines::Pipeline;
use crate::query::{Aggregate, Criteria, Filter, Where, WhereExt};
use crate::territories::Territory;

/// Which deals a forecast is of; those that fulfil everything that is said.
///
/// ```
/// use chrono::NaiveDate;
/// use crm_core::forecasts::{FiscalYear, ForecastQuery, PeriodKind};
/// use crm_core::query::Filter;
///
/// let day = NaiveDate::from_ymd_opt(2026, 5, 20).unwrap();
/// let quarter = FiscalYear::CALENDAR.period(PeriodKind::Quarter, day);
/// let renewals = ForecastQuery {
///     filter: Some(Filter::eq("custom_fields.segment", "enterprise").into()),
///     ..ForecastQuery::of(quarter)
/// };
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForecastQuery {
    /// The period in which they close: open deals by their expected close date, won ones by the
    /// date on which they were closed. Without a period deals of all times, undated ones included.
    pub period: Option<Period>,
    /// Who owns them.
    pub owner: Option<Id<User>>,
    /// The team that works on them, or one below it.
    pub team: Option<Id<Team>>,
    /// The territory of their account, or one below it.
    pub territory: Option<Id<Territory>>,
    /// The pipeline that they take.
    pub pipeline: Option<Id<Pipeline>>,
    /// What else they fulfil: a filter over deals, custom fields and related records included.
    pub filter: Option<Criteria>,
}

impl ForecastQuery {
    /// Every deal that closes in a period.
    #[must_use]
    pub fn of(period: Period) -> Self {
        Self {
            period: Some(period),
            ..Self::default()
        }
    }

    /// The deals of a user, a team or a territory that close in a period.
    #[must_use]
    pub fn of_subject(subject: ForecastSubject, period: Period) -> Self {
        Self {
            owner: subject.user_id,
            team: subject.team_id,
            territory: subject.territory_id,
            ..Self::of(period)
        }
    }

    /// Whose forecast it is, where it is exactly the one of a user, a team or a territory: what
    /// adjustments are made of.
    #[must_use]
    pub fn subject(&self) -> Option<ForecastSubject> {
        let subject = ForecastSubject {
            user_id: self.owner,
            team_id: self.team,
            territory_id: self.territory,
        };
        let is_narrower = self.pipeline.is_some() || self.filter.is_some();
        (subject.is_one() && !is_narrower).then_some(subject)
    }

    /// Whose deals, whenever they close.
    pub(super) fn scope(&self) -> Vec<Filter> {
        let typed: [Option<Where<Deal>>; 4] = [
            self.owner.map(|owner| Deal::OWNER_ID.eq(owner)),
            self.team.map(|team| Deal::TEAM_ID.within(team)),
            self.territory
                .map(|territory| Deal::ACCOUNT_ID.has(Account::TERRITORY_ID.within(territory))),
            self.pipeline.map(|pipeline| Deal::PIPELINE_ID.eq(pipeline)),
        ];
        let typed = typed.into_iter().flatten().map(Where::into_filter);
        typed
            .chain(self.filter.iter().map(|own| own.0.clone()))
            .collect()
    }

    /// The deals that count, over which sums are made.
    pub(super) fn deals(&self) -> Aggregate<Deal> {
        let counts = open_in(self.period).or(won_in(self.period)).into_filter();
        self.over(counts)
    }

    /// Deals that fulfil a condition besides whose they are.
    pub(super) fn over(&self, counts: Filter) -> Aggregate<Deal> {
        let mut all = vec![counts];
        all.extend(self.scope());
        // Which of the archived ones count is said by the condition.
        Aggregate::new()
            .with_archived()
            .filter_by_name(Filter::And(all))
    }
}

/// Open deals that are expected to close in a period. Archived ones are out of the way.
pub(super) fn open_in(period: Option<Period>) -> Where<Deal> {
    let open = Deal::STATUS
        .eq(DealStatus::Open)
        .and(Deal::ARCHIVED_AT.is_null());
    match period {
        Some(period) => open.and(Deal::EXPECTED_CLOSE_DATE.between(period.start(), period.end())),
        None => open,
    }
}

/// Deals that were won in a period, archived ones too: what was sold stays sold.
pub(super) fn won_in(period: Option<Period>) -> Where<Deal> {
    let won = Deal::STATUS.eq(DealStatus::Won);
    match period {
        Some(period) => won.and(Deal::ACTUAL_CLOSE_DATE.between(period.start(), period.end())),
        None => won,
    }
}

/// The deals of each category, currency and rate, as [`fold`](super::amounts::fold) reads them.
pub(super) fn measured(aggregate: Aggregate<Deal>) -> Aggregate<Deal> {
    by_rate(aggregate.group_by(Deal::COUNTING_CATEGORY))
        .count()
        .sum(Deal::AMOUNT)
        .weighted_sum(Deal::AMOUNT, Deal::WIN_PROBABILITY)
        .sum(Deal::LOCKED_AMOUNT)
        .weighted_sum(Deal::LOCKED_AMOUNT, Deal::WIN_PROBABILITY)
}

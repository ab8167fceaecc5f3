//! [`ForecastAdjustment`]: what owners and managers make of a computed forecast.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::Serialize;

use super::{Forecast, ForecastCategory, ForecastSubject, PeriodKind};
use crate::Id;
use crate::engine::{UnitOfWork, Write, WriteRule};
use crate::error::{Faults, Result, RuleViolation, codes};
use crate::identity::User;
use crate::record::{Actor, Record};
use crate::schema::{Entity, Picklist};
use crate::tenancy::fiscal_year;
use crate::value::{Currency, Money, Totals, ValueError};

/// What an owner or a manager makes of one category of a forecast, in one period and currency.
///
/// It stands beside the computed amount, which it never changes, and it is of its subject alone: an
/// adjustment of a member changes nothing in the forecast of the team.
///
/// ```
/// use crm_core::forecasts::{
///     AdjustmentKind, FiscalYear, ForecastAdjustment, ForecastCategory, ForecastSubject,
/// };
/// use crm_core::value::Currency;
///
/// # let ada = crm_core::Id::new(uuid::Uuid::from_u128(1));
/// let quarter = FiscalYear::CALENDAR.named("FY2026-Q2")?;
/// let adjustment = ForecastAdjustment {
///     subject: ForecastSubject::user(ada),
///     ..ForecastAdjustment::new(
///         quarter.kind(),
///         quarter.start(),
///         ForecastCategory::Commit,
///         AdjustmentKind::Manager,
///         Currency::EUR,
///         80_000,
///         "the tender of the city will slip",
///     )
/// };
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "forecast_adjustment",
    table = "forecast_adjustments",
    unique(user_id, period, period_start, category, currency, kind; live),
    unique(team_id, period, period_start, category, currency, kind; live),
    unique(territory_id, period, period_start, category, currency, kind; live),
    index(period, period_start),
    check = check_adjustment
)]
pub struct ForecastAdjustment {
    /// Whose forecast it is.
    #[field(flatten)]
    pub subject: ForecastSubject,
    /// How long the period is.
    #[field(required)]
    pub period: PeriodKind,
    /// The first day of the period.
    #[field(required)]
    pub period_start: NaiveDate,
    /// The category; of an open one, since what is closed is known.
    #[field(required)]
    pub category: ForecastCategory,
    /// Who adjusts it.
    #[field(required)]
    pub kind: AdjustmentKind,
    /// The currency.
    #[field(required)]
    pub currency: Currency,
    /// The amount that takes the place of the computed one, or that is added to it.
    #[field(required, currency = "currency")]
    pub amount: Decimal,
    /// What the amount does.
    pub effect: AdjustmentEffect,
    /// Why.
    #[field(required, multiline)]
    pub note: String,
}

/// Who adjusts a forecast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Picklist)]
pub enum AdjustmentKind {
    /// Whose forecast it is.
    #[default]
    Owner,
    /// Who answers for it above: starts from what the owner made of it.
    Manager,
}

/// What the amount of an adjustment does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum AdjustmentEffect {
    /// It takes the place of the amount, whatever that becomes.
    #[default]
    Replace,
    /// It is added to the amount, which does not fall below zero by it.
    Add,
}

impl AdjustmentEffect {
    /// The amount after an adjustment.
    ///
    /// ```
    /// use crm_core::forecasts::AdjustmentEffect;
    /// use rust_decimal::Decimal;
    ///
    /// let (ten, four) = (Decimal::TEN, Decimal::from(4));
    /// assert_eq!(AdjustmentEffect::Replace.apply(ten, four), Some(four));
    /// assert_eq!(AdjustmentEffect::Add.apply(four, -ten), Some(Decimal::ZERO));
    /// assert_eq!(AdjustmentEffect::Add.apply(Decimal::MAX, ten), None);
    /// ```
    #[must_use]
    pub fn apply(self, before: Decimal, amount: Decimal) -> Option<Decimal> {
        match self {
            Self::Replace => Some(amount),
            Self::Add => Some(before.checked_add(amount)?.max(Decimal::ZERO)),
        }
    }
}

fn check_adjustment(adjustment: &ForecastAdjustment, faults: &mut Faults) {
    adjustment.subject.check(faults);
    if !adjustment.category.is_open() {
        faults.add(
            ForecastAdjustment::CATEGORY.name(),
            codes::INCONSISTENT,
            "only open categories are adjusted",
        );
    }
    if adjustment.effect == AdjustmentEffect::Replace && adjustment.amount < Decimal::ZERO {
        faults.add(
            ForecastAdjustment::AMOUNT.name(),
            codes::OUT_OF_RANGE,
            "must not be negative, unless it is added",
        );
    }
}

/// Adds a fault unless `start` is the first day of a period of the tenant's fiscal year.
pub(super) async fn check_period(
    work: &UnitOfWork,
    write: &mut Write,
    kind: PeriodKind,
    start: NaiveDate,
    field: &str,
) -> Result<()> {
    let year = fiscal_year(work).await?;
    if year.period(kind, start).start() != start {
        write.faults().add(
            field,
            codes::INCONSISTENT,
            "must be the first day of a period of the tenant's fiscal year",
        );
    }
    Ok(())
}

/// C-014: adjustments are of periods of the tenant, and who says to be the owner is.
#[derive(Debug)]
pub(crate) struct AdjustmentRules;

#[async_trait]
impl WriteRule for AdjustmentRules {
    fn object(&self) -> &'static str {
        "forecast_adjustment"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<ForecastAdjustment>() else {
            return Ok(());
        };
        if write.deletes() {
            return Ok(());
        }
        let (kind, start) = (after.period, after.period_start);
        let before = write.before::<ForecastAdjustment>();
        let actor = work.session().actor();
        let is_said = before.is_none_or(|before| {
            let elsewhere = ForecastAdjustment {
                subject: after.subject,
                ..before.data.clone()
            };
            // Whoever merges two users says nothing about their forecasts.
            let is_own = before.subject.user_id.map(Actor::User) == Some(actor);
            elsewhere != after.data || (is_own && before.subject != after.subject)
        });
        if is_said {
            check_author(actor, after.subject.user_id, after.kind)?;
        }
        if before.is_none_or(|before| (before.period, before.period_start) != (kind, start)) {
            let field = ForecastAdjustment::PERIOD_START.name();
            check_period(work, write, kind, start, &field).await?;
        }
        Ok(())
    }
}

/// A user adjusts the own forecast as its owner, and that of others as their manager. Jobs of the
/// host, imports and the like say what somebody decided.
fn check_author(
    actor: Actor,
    subject: Option<Id<User>>,
    kind: AdjustmentKind,
) -> Result<(), RuleViolation> {
    let (Actor::User(actor), Some(subject)) = (actor, subject) else {
        return Ok(());
    };
    match (kind, actor == subject) {
        (AdjustmentKind::Owner, false) => Err(RuleViolation::new(
            "not_own_forecast",
            "C-014",
            "only the owner of a forecast adjusts it as its owner; adjust it as a manager",
        )),
        (AdjustmentKind::Manager, true) => Err(RuleViolation::new(
            "own_forecast",
            "C-014",
            "nobody is the manager of the own forecast; adjust it as its owner",
        )),
        _ => Ok(()),
    }
}

/// A forecast with what owner and manager made of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdjustedForecast {
    /// What the deals come to.
    pub computed: Forecast,
    /// The amounts after the owner's adjustments; the computed ones where there are none.
    pub owner_adjusted: BTreeMap<ForecastCategory, Totals>,
    /// The amounts after the manager's adjustments; those of the owner where there are none.
    pub manager_adjusted: BTreeMap<ForecastCategory, Totals>,
    /// The adjustments, with their notes.
    pub adjustments: Vec<AppliedAdjustment>,
}

/// An adjustment beside the forecast that it adjusts.
#[derive(Clone, PartialEq, Serialize)]
pub struct AppliedAdjustment {
    /// The adjustment.
    pub id: Id<ForecastAdjustment>,
    /// The category.
    pub category: ForecastCategory,
    /// Who adjusted it.
    pub kind: AdjustmentKind,
    /// What the amount does.
    pub effect: AdjustmentEffect,
    /// The amount.
    pub amount: Money,
    /// Why.
    pub note: String,
    /// By whom it was written last.
    pub by: Actor,
    /// When.
    pub at: DateTime<Utc>,
}

/// Does not show the note.
impl std::fmt::Debug for AppliedAdjustment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppliedAdjustment")
            .field("id", &self.id)
            .field("category", &self.category)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl AdjustedForecast {
    /// Lays adjustments of the same subject and period beside a forecast: those of the owner first.
    pub(super) fn new(
        computed: Forecast,
        mut adjustments: Vec<Arc<Record<ForecastAdjustment>>>,
    ) -> Result<Self> {
        adjustments.sort_by_key(|one| (one.kind, one.category, one.id));
        let amounts = computed.categories.iter();
        let mut owner_adjusted: BTreeMap<ForecastCategory, Totals> = amounts
            .map(|(category, one)| (*category, one.amount.clone()))
            .collect();
        for one in of_kind(&adjustments, AdjustmentKind::Owner) {
            adjust(&mut owner_adjusted, one)?;
        }
        let mut manager_adjusted = owner_adjusted.clone();
        for one in of_kind(&adjustments, AdjustmentKind::Manager) {
            adjust(&mut manager_adjusted, one)?;
        }
        let applied = adjustments.iter().map(|one| AppliedAdjustment {
            id: one.id,
            category: one.category,
            kind: one.kind,
            effect: one.effect,
            amount: Money::new(one.amount, one.currency),
            note: one.note.clone(),
            by: one.updated.by,
            at: one.updated.at,
        });
        Ok(Self {
            computed,
            owner_adjusted,
            manager_adjusted,
            adjustments: applied.collect(),
        })
    }
}

fn of_kind(
    all: &[Arc<Record<ForecastAdjustment>>],
    kind: AdjustmentKind,
) -> impl Iterator<Item = &ForecastAdjustment> {
    let all = all.iter().map(|one| &one.data);
    all.filter(move |one| one.kind == kind)
}

fn adjust(
    amounts: &mut BTreeMap<ForecastCategory, Totals>,
    adjustment: &ForecastAdjustment,
) -> Result<(), ValueError> {
    let totals = amounts.entry(adjustment.category).or_default();
    let before = totals.get(adjustment.currency).amount();
    let after = adjustment.effect.apply(before, adjustment.amount);
    let after = after
        .ok_or_else(|| ValueError::new(codes::OUT_OF_RANGE, "the adjusted amount is too great"))?;
    let others = totals.iter();
    let others = others.filter(|money| money.currency() != adjustment.currency);
    *totals = Totals::of(others.chain([Money::new(after, adjustment.currency)]))?;
    Ok(())
}

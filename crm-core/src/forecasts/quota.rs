//! [`Quota`]: what a user, a team or a territory shall sell, and how much of it is done.

use async_trait::async_trait;
use chrono::NaiveDate;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::Serialize;

use super::adjustment::check_period;
use super::{ForecastSubject, Period, PeriodKind};
use crate::Id;
use crate::currencies::ConvertedTotals;
use crate::engine::{UnitOfWork, Write, WriteRule};
use crate::error::{Faults, Result, codes};
use crate::schema::Entity;
use crate::value::{Currency, Money, ValueError};

/// The decimals of what is attained.
const DECIMALS: u32 = 4;

/// What a user, a team or a territory shall sell in a period.
///
/// The quota of a team stands on its own: it is not the sum of its members' quotas, which together
/// are often more, so that the team reaches its quota though not everybody does.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "quota",
    table = "quotas",
    unique(user_id, period, period_start, currency; live),
    unique(team_id, period, period_start, currency; live),
    unique(territory_id, period, period_start, currency; live),
    index(period, period_start),
    check = check_quota
)]
pub struct Quota {
    /// Whose quota it is.
    #[field(flatten)]
    pub subject: ForecastSubject,
    /// How long the period is.
    #[field(required)]
    pub period: PeriodKind,
    /// The first day of the period.
    #[field(required)]
    pub period_start: NaiveDate,
    /// The currency; deals in other currencies do not count, unless they are converted.
    #[field(required)]
    pub currency: Currency,
    /// The amount, more than zero.
    #[field(required, currency = "currency", min = 0)]
    pub amount: Decimal,
    /// Notes.
    #[field(multiline)]
    pub note: Option<String>,
}

impl Quota {
    /// A quota of a user, a team or a territory.
    ///
    /// ```
    /// use crm_core::forecasts::{FiscalYear, ForecastSubject, Quota};
    ///
    /// # let ada = crm_core::Id::new(uuid::Uuid::from_u128(1));
    /// let quarter = FiscalYear::CALENDAR.named("FY2026-Q2")?;
    /// let quota = Quota::of(ForecastSubject::user(ada), &quarter, "250000 EUR".parse()?);
    /// assert_eq!(quota.period_start, quarter.start());
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn of(subject: ForecastSubject, period: &Period, amount: Money) -> Self {
        Self {
            subject,
            ..Self::new(
                period.kind(),
                period.start(),
                amount.currency(),
                amount.amount(),
            )
        }
    }

    /// The amount with its currency.
    #[must_use]
    pub fn money(&self) -> Money {
        Money::new(self.amount, self.currency)
    }
}

fn check_quota(quota: &Quota, faults: &mut Faults) {
    quota.subject.check(faults);
    if quota.amount.is_zero() {
        faults.add(
            Quota::AMOUNT.name(),
            codes::OUT_OF_RANGE,
            "must be more than zero",
        );
    }
}

/// C-014: quotas are of periods of the tenant's fiscal year.
#[derive(Debug)]
pub(crate) struct QuotaRules;

#[async_trait]
impl WriteRule for QuotaRules {
    fn object(&self) -> &'static str {
        "quota"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Quota>() else {
            return Ok(());
        };
        let (kind, start) = (after.period, after.period_start);
        let before = write.before::<Quota>();
        let is_new = before.is_none_or(|own| (own.period, own.period_start) != (kind, start));
        if is_new && !write.deletes() {
            let field = Quota::PERIOD_START.name();
            check_period(work, write, kind, start, &field).await?;
        }
        Ok(())
    }
}

/// How much of a quota is done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attainment {
    /// The quota.
    pub quota_id: Id<Quota>,
    /// Whose it is.
    pub subject: ForecastSubject,
    /// The period.
    pub period: Period,
    /// What shall be sold.
    pub quota: Money,
    /// What was won in the period, in the currency of the quota.
    pub closed: Money,
    /// How that was converted, where rates were given: each part names its rate.
    pub converted: Option<ConvertedTotals>,
    /// Which part of the quota was won: 1 is all of it. Four decimals, half to even.
    pub attained: Decimal,
    /// What is missing; zero once the quota is reached.
    pub gap: Money,
    /// Whether that is as much as the time that went by would have it.
    pub pace: Pace,
}

/// Where a quota would be if it were reached in even steps, day by day.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pace {
    /// Which part of the period is over, from 0 to 1, today included.
    pub elapsed: Decimal,
    /// What should be closed by now.
    pub expected: Money,
    /// What is closed beyond that; negative for who is behind.
    pub ahead: Money,
    /// What will be closed at the end if it goes on so; none before the period begins.
    pub projected: Option<Money>,
}

impl Attainment {
    /// Compares what was won with a quota on a day.
    ///
    /// # Errors
    /// `out_of_range` if an amount becomes too great.
    pub(super) fn new(
        quota_id: Id<Quota>,
        quota: &Quota,
        period: Period,
        closed: Money,
        converted: Option<ConvertedTotals>,
        today: NaiveDate,
    ) -> Result<Self, ValueError> {
        let wanted = quota.money();
        let attained = divided(closed.amount(), wanted.amount());
        let gap = wanted.checked_sub(&closed)?.amount().max(Decimal::ZERO);
        let elapsed = period.elapsed(today);
        let expected = wanted.checked_mul(elapsed)?.rounded();
        let projected = (!elapsed.is_zero())
            .then(|| closed.amount().checked_div(elapsed))
            .flatten()
            .map(|amount| Money::new(amount, wanted.currency()).rounded());
        Ok(Self {
            quota_id,
            subject: quota.subject,
            period,
            quota: wanted,
            closed,
            converted,
            attained: attained.ok_or_else(|| {
                ValueError::new(
                    codes::OUT_OF_RANGE,
                    "the quota is too small to compare with",
                )
            })?,
            gap: Money::new(gap, wanted.currency()),
            pace: Pace {
                elapsed,
                expected,
                ahead: closed.checked_sub(&expected)?,
                projected,
            },
        })
    }
}

fn divided(part: Decimal, whole: Decimal) -> Option<Decimal> {
    let part = part.checked_div(whole)?;
    let strategy = RoundingStrategy::MidpointNearestEven;
    Some(part.round_dp_with_strategy(DECIMALS, strategy).normalize())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::forecasts::FiscalYear;

    fn attainment(quota: &str, closed: &str, today: &str) -> Attainment {
        let period = FiscalYear::CALENDAR.named("2026-04").unwrap();
        let subject = ForecastSubject::user(Id::new(Uuid::from_u128(1)));
        let quota = Quota::of(subject, &period, quota.parse().unwrap());
        let closed = closed.parse().unwrap();
        let id = Id::new(Uuid::from_u128(2));
        let today = today.parse().unwrap();
        Attainment::new(id, &quota, period, closed, None, today).unwrap()
    }

    #[test]
    fn a_quota_is_compared_with_what_was_won() {
        let half = attainment("100000 EUR", "60000 EUR", "2026-04-15");
        assert_eq!(half.attained.to_string(), "0.6");
        assert_eq!(half.gap.to_string(), "40000.00 EUR");
        assert_eq!(half.pace.elapsed.to_string(), "0.5");
        assert_eq!(half.pace.expected.to_string(), "50000.00 EUR");
        assert_eq!(half.pace.ahead.to_string(), "10000.00 EUR");
        assert_eq!(half.pace.projected.unwrap().to_string(), "120000.00 EUR");
        let third = attainment("300 EUR", "100 EUR", "2026-04-30");
        assert_eq!(third.attained.to_string(), "0.3333");
        assert_eq!(third.pace.ahead.to_string(), "-200.00 EUR");
        assert_eq!(third.pace.projected.unwrap().to_string(), "100.00 EUR");
        let more = attainment("100 EUR", "250 EUR", "2026-05-01");
        assert_eq!(
            (more.attained.to_string().as_str(), more.gap.amount()),
            ("2.5", Decimal::ZERO)
        );
        let before = attainment("100 EUR", "0 EUR", "2026-03-31");
        assert_eq!(before.pace.projected, None);
        assert_eq!(before.pace.expected.amount(), Decimal::ZERO);
    }

    proptest! {
        /// What is missing and what was won make the quota, or nothing is missing.
        #[test]
        fn the_gap_is_what_is_missing(quota in 1_u32.., closed in 0_u32.., day in 1_u32..=30) {
            let (wanted, won) = (format!("{quota} EUR"), format!("{closed} EUR"));
            let today = format!("2026-04-{day:02}");
            let one = attainment(&wanted, &won, &today);
            if closed >= quota {
                prop_assert!(one.gap.amount().is_zero() && one.attained >= Decimal::ONE);
            } else {
                prop_assert_eq!(one.gap.checked_add(&one.closed).unwrap(), one.quota);
                prop_assert!(one.attained <= Decimal::ONE);
            }
            prop_assert_eq!(one.pace.ahead.checked_add(&one.pace.expected).unwrap(), one.closed);
        }
    }
}

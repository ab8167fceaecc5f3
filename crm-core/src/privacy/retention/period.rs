//! [`Period`]: so many days, months or years.

use chrono::{DateTime, Days, Months, Utc};
use serde::Serialize;

use crate::schema::Picklist;

/// What a period is counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum PeriodUnit {
    /// Days of 24 hours.
    Days,
    /// Calendar months.
    Months,
    /// Calendar years.
    #[default]
    Years,
}

/// So many days, months or years.
///
/// ```
/// use crm_core::privacy::Period;
///
/// let now = "2026-03-31T12:00:00Z".parse().unwrap();
/// assert_eq!(Period::months(1).before(now).to_rfc3339(), "2026-02-28T12:00:00+00:00");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Period {
    /// How many, from 1 to 36,500.
    pub count: i32,
    /// Of what.
    pub unit: PeriodUnit,
}

impl Period {
    /// Days of 24 hours.
    #[must_use]
    pub const fn days(count: i32) -> Self {
        let unit = PeriodUnit::Days;
        Self { count, unit }
    }

    /// Calendar months.
    #[must_use]
    pub const fn months(count: i32) -> Self {
        let unit = PeriodUnit::Months;
        Self { count, unit }
    }

    /// Calendar years.
    #[must_use]
    pub const fn years(count: i32) -> Self {
        let unit = PeriodUnit::Years;
        Self { count, unit }
    }

    /// The moment that is so long before another one, in UTC: the last day of a month that has no
    /// such day. The beginning of the calendar where it reaches further back.
    #[must_use]
    pub fn before(self, moment: DateTime<Utc>) -> DateTime<Utc> {
        let count = u32::try_from(self.count).unwrap_or_default();
        let before = match self.unit {
            PeriodUnit::Days => moment.checked_sub_days(Days::new(count.into())),
            PeriodUnit::Months => moment.checked_sub_months(Months::new(count)),
            PeriodUnit::Years => count
                .checked_mul(12)
                .and_then(|months| moment.checked_sub_months(Months::new(months))),
        };
        // Also what no storage could hold: nothing is so old.
        let first = DateTime::from_timestamp(-62_135_596_800, 0).unwrap_or(DateTime::UNIX_EPOCH);
        before.map_or(first, |before| before.max(first))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// R-058: a longer period never ends earlier, whatever the moment.
        #[test]
        fn longer_periods_reach_further_back(
            seconds in 0_i64..4_000_000_000,
            count in 1_i32..36_500,
            more in 0_i32..100,
        ) {
            let moment = DateTime::from_timestamp(seconds, 0).unwrap();
            for unit in PeriodUnit::ALL {
                let period = Period { count, unit: *unit };
                let longer = Period { count: count + more, unit: *unit };
                prop_assert!(period.before(moment) < moment);
                prop_assert!(longer.before(moment) <= period.before(moment));
            }
        }
    }

    #[test]
    fn a_leap_day_ends_on_the_last_of_february() {
        let leap: DateTime<Utc> = "2028-02-29T00:00:00Z".parse().unwrap();
        let before = Period::years(7).before(leap);
        assert_eq!(before.to_rfc3339(), "2021-02-28T00:00:00+00:00");
    }
}

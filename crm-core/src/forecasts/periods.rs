//! Months, quarters and years in which sales are forecast, by the tenant's fiscal year.
//!
//! ```text
//! a fiscal year from April                      named after the year in which it ends
//! 2026-04 05 06 │ 07 08 09 │ 10 11 12 │ 2027-01 02 03
//! FY2027-Q1     │ FY2027-Q2│ FY2027-Q3│ FY2027-Q4        = FY2027
//! ```
//!
//! Months are those of the calendar, whenever the fiscal year begins.

use std::fmt;

use chrono::{Datelike, NaiveDate};
use rust_decimal::Decimal;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use crate::error::codes;
use crate::schema::Picklist;
use crate::value::ValueError;

/// How long a period is (R-111).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Picklist)]
pub enum PeriodKind {
    /// A month of the calendar.
    #[default]
    #[option("monthly")]
    Month,
    /// A quarter of the fiscal year.
    #[option("quarterly")]
    Quarter,
    /// A fiscal year.
    #[option("yearly")]
    Year,
}

impl PeriodKind {
    const fn months(self) -> i64 {
        match self {
            Self::Month => 1,
            Self::Quarter => 3,
            Self::Year => 12,
        }
    }
}

/// In which month the fiscal year of a tenant begins, on its first day. As JSON the number of the
/// month, from 1 to 12.
///
/// ```
/// use chrono::NaiveDate;
/// use crm_core::forecasts::{FiscalYear, PeriodKind};
///
/// let april = FiscalYear::from_month(4)?;
/// let day = NaiveDate::from_ymd_opt(2027, 2, 14).unwrap();
/// let quarter = april.period(PeriodKind::Quarter, day);
/// assert_eq!(quarter.to_string(), "FY2027-Q4");
/// assert_eq!((quarter.start().to_string(), quarter.end().to_string()),
///     ("2027-01-01".into(), "2027-03-31".into()));
/// assert_eq!(april.named("FY2027-Q4")?, quarter);
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct FiscalYear {
    first_month: u8,
}

impl FiscalYear {
    /// The year of the calendar.
    pub const CALENDAR: Self = Self { first_month: 1 };

    /// A fiscal year that begins in a month, from 1 to 12.
    ///
    /// # Errors
    /// `out_of_range` for any other number.
    pub fn from_month(first_month: u8) -> Result<Self, ValueError> {
        if (1..=12).contains(&first_month) {
            Ok(Self { first_month })
        } else {
            Err(ValueError::new(
                codes::OUT_OF_RANGE,
                "give the month in which the fiscal year begins, from 1 to 12",
            ))
        }
    }

    /// The month in which it begins, from 1 to 12.
    #[must_use]
    pub const fn first_month(self) -> u8 {
        self.first_month
    }

    /// The period that a day is in. Periods at the ends of what a date can say are cut off there.
    #[must_use]
    pub fn period(self, kind: PeriodKind, day: NaiveDate) -> Period {
        self.period_at(kind, month_index(day))
    }

    /// The period with a name: `FY2027`, `FY2027-Q1`, `2026-04`.
    ///
    /// # Errors
    /// `invalid_period` for a text that is no name of a period.
    pub fn named(self, name: &str) -> Result<Period, ValueError> {
        let invalid = || {
            ValueError::new(
                "invalid_period",
                "write a period as FY2027, FY2027-Q1 or 2026-04",
            )
        };
        let number = |text: &str, digits: usize| -> Option<i64> {
            let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| is_number)
        };
        let (kind, index) = match name.strip_prefix("FY") {
            Some(rest) => {
                let (year, quarter) = match rest.split_once("-Q") {
                    Some((year, quarter)) => (year, Some(quarter)),
                    None => (rest, None),
                };
                let year = number(year, 4).ok_or_else(invalid)?;
                // The last month of the year that is named has the number of the month before the
                // first one.
                let first = year * 12 + self.month0() - if self.month0() == 0 { 0 } else { 12 };
                match quarter {
                    None => (PeriodKind::Year, first),
                    Some(quarter) => {
                        let quarter = number(quarter, 1).filter(|one| (1..=4).contains(one));
                        let quarter = quarter.ok_or_else(invalid)?;
                        (PeriodKind::Quarter, first + (quarter - 1) * 3)
                    }
                }
            }
            None => {
                let (year, month) = name.split_once('-').ok_or_else(invalid)?;
                let month = number(month, 2).filter(|one| (1..=12).contains(one));
                let (year, month) = number(year, 4).zip(month).ok_or_else(invalid)?;
                (PeriodKind::Month, year * 12 + month - 1)
            }
        };
        Ok(self.period_at(kind, index))
    }

    /// The first month, counted from 0.
    fn month0(self) -> i64 {
        i64::from(self.first_month) - 1
    }

    fn period_at(self, kind: PeriodKind, index: i64) -> Period {
        let first = index - (index - self.month0()).rem_euclid(kind.months());
        let behind = first_day(first + kind.months());
        Period {
            kind,
            fiscal_year: self,
            start: first_day(first).unwrap_or(NaiveDate::MIN),
            end: behind
                .and_then(|day| day.pred_opt())
                .unwrap_or(NaiveDate::MAX),
        }
    }
}

impl Default for FiscalYear {
    fn default() -> Self {
        Self::CALENDAR
    }
}

impl TryFrom<u8> for FiscalYear {
    type Error = ValueError;

    fn try_from(first_month: u8) -> Result<Self, ValueError> {
        Self::from_month(first_month)
    }
}

impl From<FiscalYear> for u8 {
    fn from(year: FiscalYear) -> Self {
        year.first_month
    }
}

/// The months from the beginning of the year 0 of the calendar.
fn month_index(day: NaiveDate) -> i64 {
    i64::from(day.year()) * 12 + i64::from(day.month0())
}

fn first_day(index: i64) -> Option<NaiveDate> {
    let year = i32::try_from(index.div_euclid(12)).ok()?;
    let month = u32::try_from(index.rem_euclid(12)).ok()?;
    NaiveDate::from_ymd_opt(year, month + 1, 1)
}

/// A month, a quarter or a year of a tenant's calendar, both of its ends included.
///
/// As text and in JSON it has a name: `FY2027` for a year, `FY2027-Q1` for a quarter, `2026-04` for
/// a month. A fiscal year is named after the calendar year in which it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    start: NaiveDate,
    end: NaiveDate,
    kind: PeriodKind,
    fiscal_year: FiscalYear,
}

impl Period {
    /// How long it is.
    #[must_use]
    pub const fn kind(&self) -> PeriodKind {
        self.kind
    }

    /// The fiscal year by which it is cut.
    #[must_use]
    pub const fn fiscal_year(&self) -> FiscalYear {
        self.fiscal_year
    }

    /// Its first day.
    #[must_use]
    pub const fn start(&self) -> NaiveDate {
        self.start
    }

    /// Its last day.
    #[must_use]
    pub const fn end(&self) -> NaiveDate {
        self.end
    }

    /// Whether a day is in it.
    #[must_use]
    pub fn contains(&self, day: NaiveDate) -> bool {
        self.start <= day && day <= self.end
    }

    /// The period behind it; none at the end of all dates.
    #[must_use]
    pub fn next(&self) -> Option<Self> {
        let day = self.end.succ_opt()?;
        Some(self.fiscal_year.period(self.kind, day))
    }

    /// The period before it; none at the beginning of all dates.
    #[must_use]
    pub fn previous(&self) -> Option<Self> {
        let day = self.start.pred_opt()?;
        Some(self.fiscal_year.period(self.kind, day))
    }

    /// How many days it has.
    #[must_use]
    pub fn days(&self) -> i64 {
        (self.end - self.start).num_days() + 1
    }

    /// Which part of it is over at the end of a day, from 0 to 1.
    ///
    /// ```
    /// use chrono::NaiveDate;
    /// use crm_core::forecasts::{FiscalYear, PeriodKind};
    ///
    /// let day = |day| NaiveDate::from_ymd_opt(2026, 4, day).unwrap();
    /// let april = FiscalYear::CALENDAR.period(PeriodKind::Month, day(1));
    /// assert_eq!(april.elapsed(day(15)).to_string(), "0.5");
    /// assert_eq!(april.elapsed(day(30)).to_string(), "1");
    /// ```
    #[must_use]
    pub fn elapsed(&self, day: NaiveDate) -> Decimal {
        if day < self.start {
            return Decimal::ZERO;
        }
        if day >= self.end {
            return Decimal::ONE;
        }
        let over = Decimal::from((day - self.start).num_days() + 1);
        // A period has a day at least.
        over.checked_div(Decimal::from(self.days()))
            .unwrap_or_default()
            .normalize()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = month_index(self.start);
        if self.kind == PeriodKind::Month {
            let (year, month) = (first.div_euclid(12), first.rem_euclid(12) + 1);
            return write!(f, "{year:04}-{month:02}");
        }
        let into_year = (first - self.fiscal_year.month0()).rem_euclid(12);
        let year = (first - into_year + 11).div_euclid(12);
        match self.kind {
            PeriodKind::Quarter => write!(f, "FY{year:04}-Q{}", into_year / 3 + 1),
            _ => write!(f, "FY{year:04}"),
        }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parts = serializer.serialize_struct("Period", 4)?;
        parts.serialize_field("name", &self.to_string())?;
        parts.serialize_field("kind", &self.kind)?;
        parts.serialize_field("start", &self.start)?;
        parts.serialize_field("end", &self.end)?;
        parts.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn years() -> impl Strategy<Value = FiscalYear> {
        (1_u8..=12).prop_map(|month| FiscalYear::from_month(month).unwrap())
    }

    fn kinds() -> impl Strategy<Value = PeriodKind> {
        proptest::sample::select(PeriodKind::ALL)
    }

    /// Any date at all, and more often one that people use.
    fn days() -> impl Strategy<Value = NaiveDate> {
        let from = NaiveDate::MIN.num_days_from_ce();
        let to = NaiveDate::MAX.num_days_from_ce();
        let any = prop_oneof![from..=to, 693_000..=740_000, Just(from), Just(to)];
        any.prop_map(|number| NaiveDate::from_num_days_from_ce_opt(number).unwrap())
    }

    #[test]
    fn periods_have_the_names_of_their_fiscal_year() {
        let cases = [
            (
                1,
                PeriodKind::Year,
                "2026-12-31",
                "FY2026",
                "2026-01-01",
                "2026-12-31",
            ),
            (
                1,
                PeriodKind::Quarter,
                "2026-05-20",
                "FY2026-Q2",
                "2026-04-01",
                "2026-06-30",
            ),
            (
                4,
                PeriodKind::Year,
                "2026-04-01",
                "FY2027",
                "2026-04-01",
                "2027-03-31",
            ),
            (
                4,
                PeriodKind::Year,
                "2026-03-31",
                "FY2026",
                "2025-04-01",
                "2026-03-31",
            ),
            (
                4,
                PeriodKind::Quarter,
                "2026-04-01",
                "FY2027-Q1",
                "2026-04-01",
                "2026-06-30",
            ),
            (
                4,
                PeriodKind::Quarter,
                "2027-03-31",
                "FY2027-Q4",
                "2027-01-01",
                "2027-03-31",
            ),
            (
                2,
                PeriodKind::Quarter,
                "2024-02-29",
                "FY2025-Q1",
                "2024-02-01",
                "2024-04-30",
            ),
            (
                12,
                PeriodKind::Year,
                "2025-12-01",
                "FY2026",
                "2025-12-01",
                "2026-11-30",
            ),
            (
                10,
                PeriodKind::Month,
                "2024-02-10",
                "2024-02",
                "2024-02-01",
                "2024-02-29",
            ),
        ];
        for (month, kind, on, name, start, end) in cases {
            let year = FiscalYear::from_month(month).unwrap();
            let period = year.period(kind, day(on));
            assert_eq!(period.to_string(), name);
            assert_eq!(
                (period.start(), period.end()),
                (day(start), day(end)),
                "{name}"
            );
            assert_eq!(year.named(name).unwrap(), period);
        }
        let json = serde_json::to_value(FiscalYear::CALENDAR.named("FY2026-Q2").unwrap()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "name": "FY2026-Q2", "kind": "quarterly", "start": "2026-04-01", "end": "2026-06-30"
            })
        );
    }

    #[test]
    fn what_is_no_period_is_refused() {
        for name in [
            "",
            "FY",
            "FY26",
            "FY2026-Q0",
            "FY2026-Q5",
            "FY2026-Q",
            "FY2026-Q+1",
            "2026",
            "2026-13",
            "2026-00",
            "2026-1",
            "-026-01",
            "FY+026",
            "FY2026-03",
            "fy2026",
        ] {
            let error = FiscalYear::CALENDAR.named(name).unwrap_err();
            assert_eq!(error.code(), "invalid_period", "{name}");
        }
        for month in [0, 13, 255] {
            assert_eq!(
                FiscalYear::from_month(month).unwrap_err().code(),
                "out_of_range"
            );
        }
        assert!(serde_json::from_str::<FiscalYear>("13").is_err());
        assert_eq!(serde_json::to_string(&FiscalYear::CALENDAR).unwrap(), "1");
    }

    proptest! {
        /// Every day is in exactly one period of a kind, and periods follow each other without gap.
        #[test]
        fn periods_part_all_days(year in years(), kind in kinds(), day in days(), other in days()) {
            let period = year.period(kind, day);
            prop_assert!(period.contains(day));
            prop_assert!(period.start() <= period.end());
            prop_assert_eq!(year.period(kind, period.start()), period);
            prop_assert_eq!(year.period(kind, period.end()), period);
            let of_other = year.period(kind, other);
            prop_assert_eq!(of_other == period, period.contains(other));
            if let Some(next) = period.next() {
                prop_assert_eq!(Some(next.start()), period.end().succ_opt());
                prop_assert_eq!(next.previous(), Some(period));
            }
        }

        /// A month is in one quarter, a quarter in one year.
        #[test]
        fn periods_nest(year in years(), day in days()) {
            let of = |kind| year.period(kind, day);
            let [month, quarter, whole] = [PeriodKind::Month, PeriodKind::Quarter, PeriodKind::Year].map(of);
            prop_assert!(quarter.contains(month.start()) && quarter.contains(month.end()));
            prop_assert!(whole.contains(quarter.start()) && whole.contains(quarter.end()));
        }

        #[test]
        fn names_are_read_back(year in years(), kind in kinds(), number in 800_i32..3_600_000) {
            let day = NaiveDate::from_num_days_from_ce_opt(number).unwrap();
            let period = year.period(kind, day);
            prop_assert_eq!(year.named(&period.to_string()).unwrap(), period);
        }

        #[test]
        fn no_name_panics(year in years(), name in "\\PC{0,12}|FY[0-9]{4}(-Q[0-9])?|[0-9]{4}-[0-9]{2}") {
            let _ = year.named(&name);
        }

        #[test]
        fn what_is_over_grows_from_nothing_to_all(year in years(), kind in kinds(), day in days()) {
            let period = year.period(kind, day);
            let over = period.elapsed(day);
            prop_assert!(over > Decimal::ZERO && over <= Decimal::ONE);
            if let Some(next) = day.succ_opt() {
                prop_assert!(period.elapsed(next) >= over);
            }
            if let Some(before) = period.start().pred_opt() {
                prop_assert_eq!(period.elapsed(before), Decimal::ZERO);
            }
        }
    }
}

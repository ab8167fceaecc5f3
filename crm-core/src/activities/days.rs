//! Days as people live them: where a day of the calendar begins in a time zone, also on the days
//! when clocks are put forward or back.

use chrono::{
    DateTime, Datelike, Days, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta,
    TimeZone as _, Utc, Weekday,
};

use crate::value::TimeZone;

/// The first hour of a working day.
const OPENS: u32 = 9;
/// The hour in which no work is done any more.
const CLOSES: u32 = 17;
/// How far the local time of any place is from UTC at most, in seconds; Samoa once left out a day.
const FARTHEST: i64 = 50 * 3_600;

/// The day of the calendar at a moment in a time zone.
///
/// ```
/// use crm_core::activities::local_date;
/// use crm_core::value::{TextValue, TimeZone};
///
/// let late = "2026-03-01T23:30:00Z".parse().unwrap();
/// let berlin = TimeZone::parse("Europe/Berlin").unwrap();
/// assert_eq!(local_date(late, berlin).to_string(), "2026-03-02");
/// ```
#[must_use]
pub fn local_date(at: DateTime<Utc>, zone: TimeZone) -> NaiveDate {
    at.with_timezone(&zone.tz()).date_naive()
}

/// The moment at which a day of the calendar begins in a time zone.
///
/// That is midnight; where clocks are put forward at midnight, the moment at which they are, and
/// where midnight comes twice, the first one. A day that a place left out begins and ends at the
/// same moment.
///
/// ```
/// use chrono::NaiveDate;
/// use crm_core::activities::start_of_day;
/// use crm_core::value::{TextValue, TimeZone};
///
/// // In Beirut clocks go from 0:00 to 1:00 on the last Sunday of March.
/// let beirut = TimeZone::parse("Asia/Beirut").unwrap();
/// let day = NaiveDate::from_ymd_opt(2025, 3, 30).unwrap();
/// assert_eq!(start_of_day(day, beirut).to_string(), "2025-03-29 22:00:00 UTC");
/// ```
#[must_use]
pub fn start_of_day(day: NaiveDate, zone: TimeZone) -> DateTime<Utc> {
    local_moment(day.and_time(NaiveTime::MIN), zone)
}

/// The first moment at which clocks show this time or, where they never do, a later one.
fn local_moment(local: NaiveDateTime, zone: TimeZone) -> DateTime<Utc> {
    match zone.tz().from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => at.with_timezone(&Utc),
        LocalResult::None => after_gap(local, zone),
    }
}

/// The moment at which clocks are put forward over a local time, by halving the time around it.
fn after_gap(local: NaiveDateTime, zone: TimeZone) -> DateTime<Utc> {
    let base = local.and_utc();
    let shows = |seconds: i64| {
        let at = base.checked_add_signed(TimeDelta::seconds(seconds));
        at.is_none_or(|at| at.with_timezone(&zone.tz()).naive_local() >= local)
    };
    // Not yet at the one, already at the other.
    let (mut before, mut after) = (-FARTHEST, FARTHEST);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if shows(middle) {
            after = middle;
        } else {
            before = middle;
        }
    }
    base.checked_add_signed(TimeDelta::seconds(after))
        .unwrap_or(base)
}

/// The midnight in UTC by which a day of the calendar is kept.
pub(super) fn whole_day(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

/// Whether a day of the calendar is over everywhere on earth.
pub(super) fn is_over_everywhere(day: NaiveDate, now: DateTime<Utc>) -> bool {
    // The last place to end a day is twelve hours behind UTC.
    let last = now.checked_sub_signed(TimeDelta::hours(12)).unwrap_or(now);
    day < last.date_naive()
}

/// The moment that so many working hours later is: from Monday to Friday, from 9 to 17 o'clock in a
/// time zone. A moment outside of them counts as the next one inside.
///
/// ```
/// use crm_core::activities::add_business_hours;
/// use crm_core::value::TimeZone;
///
/// // From Friday at four o'clock, four hours later is Monday at noon.
/// let friday = "2026-03-06T16:00:00Z".parse().unwrap();
/// let due = add_business_hours(friday, 4, TimeZone::UTC);
/// assert_eq!(due.to_string(), "2026-03-09 12:00:00 UTC");
/// ```
#[must_use]
pub fn add_business_hours(from: DateTime<Utc>, hours: u32, zone: TimeZone) -> DateTime<Utc> {
    let local = from.with_timezone(&zone.tz()).naive_local();
    let hour = |day: NaiveDate, hour: u32| {
        let time = NaiveTime::from_hms_opt(hour, 0, 0).unwrap_or(NaiveTime::MIN);
        day.and_time(time)
    };
    let mut day = local.date();
    let mut at = local.max(hour(day, OPENS));
    if is_weekend(day) || at > hour(day, CLOSES) {
        day = next_working_day(day);
        at = hour(day, OPENS);
    }
    let per_day = CLOSES - OPENS;
    // Whole weeks at once, so that a long time is not walked through day by day. The last one is
    // walked, for a time that ends with a day to end on that day.
    let weeks = u64::from(hours.saturating_sub(1) / (per_day * 5));
    if let Some(later) = day.checked_add_days(Days::new(weeks * 7)) {
        at = later.and_time(at.time());
        day = later;
    }
    let walked = i64::from(hours) - i64::from(per_day * 5) * i64::try_from(weeks).unwrap_or(0);
    let mut left = TimeDelta::hours(walked);
    loop {
        let rest = hour(day, CLOSES) - at;
        if left <= rest {
            return local_moment(at.checked_add_signed(left).unwrap_or(at), zone);
        }
        left -= rest;
        day = next_working_day(day);
        at = hour(day, OPENS);
    }
}

fn is_weekend(day: NaiveDate) -> bool {
    matches!(day.weekday(), Weekday::Sat | Weekday::Sun)
}

fn next_working_day(day: NaiveDate) -> NaiveDate {
    let mut next = day;
    loop {
        let Some(later) = next.checked_add_days(Days::new(1)) else {
            return next;
        };
        next = later;
        if !is_weekend(next) {
            return next;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::TextValue;

    /// Zones that put clocks forward or back at midnight, over it, by half an hour, or left out a
    /// whole day.
    const ZONES: &[&str] = &[
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Sao_Paulo",
        "America/Havana",
        "America/St_Johns",
        "America/Asuncion",
        "Asia/Beirut",
        "Asia/Kathmandu",
        "Africa/Cairo",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Kwajalein",
        "Pacific/Chatham",
    ];

    fn days() -> impl Strategy<Value = NaiveDate> {
        (0_u64..25_000).prop_map(|days| {
            let first = NaiveDate::from_ymd_opt(1971, 1, 1).unwrap();
            first.checked_add_days(Days::new(days)).unwrap()
        })
    }

    fn zones() -> impl Strategy<Value = TimeZone> {
        prop::sample::select(ZONES).prop_map(|name| TimeZone::parse(name).unwrap())
    }

    /// What every border must fulfil: clocks show the day from it on, and did not before.
    fn check_border(day: NaiveDate, zone: TimeZone) {
        let start = start_of_day(day, zone);
        let just_before = start - TimeDelta::seconds(1);
        assert!(local_date(start, zone) >= day, "{day} in {zone}");
        assert!(local_date(just_before, zone) < day, "{day} in {zone}");
        let next = start_of_day(day.succ_opt().unwrap(), zone);
        let hours = (next - start).num_minutes();
        let left_out = local_date(start, zone) > day;
        assert!(
            if left_out {
                hours == 0
            } else {
                (22 * 60..=26 * 60).contains(&hours)
            },
            "{day} in {zone} has {hours} minutes"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn days_follow_each_other(day in days(), zone in zones()) {
            check_border(day, zone);
        }

        #[test]
        fn a_moment_lies_in_its_day(seconds in 31_536_000_i64..2_200_000_000, zone in zones()) {
            let at = DateTime::from_timestamp(seconds, 0).unwrap();
            let day = local_date(at, zone);
            prop_assert!(start_of_day(day, zone) <= at);
            // Where clocks go back over midnight, the last minutes come a second time.
            let next = start_of_day(day.succ_opt().unwrap(), zone);
            prop_assert!(at < next + TimeDelta::hours(1));
        }

        #[test]
        fn business_hours_add_up(
            day in days(), minute in 0_i64..1_440, first in 0_u32..200, second in 0_u32..200,
        ) {
            let from = whole_day(day) + TimeDelta::minutes(minute);
            let utc = TimeZone::UTC;
            let at_once = add_business_hours(from, first + second, utc);
            let in_steps = add_business_hours(add_business_hours(from, first, utc), second, utc);
            prop_assert_eq!(at_once, in_steps);
            prop_assert!(!is_weekend(at_once.date_naive()));
            prop_assert!(at_once >= from);
        }
    }

    /// Every border of the days on which clocks change, in all zones, over many years.
    #[test]
    fn gaps_and_folds() {
        for name in ZONES {
            let zone = TimeZone::parse(name).unwrap();
            let mut day = NaiveDate::from_ymd_opt(1986, 1, 1).unwrap();
            while day.year() < 2030 {
                check_border(day, zone);
                day = day.succ_opt().unwrap();
            }
        }
    }

    #[test]
    fn samoa_left_out_a_day() {
        let apia = TimeZone::parse("Pacific/Apia").unwrap();
        let day = NaiveDate::from_ymd_opt(2011, 12, 30).unwrap();
        let start = start_of_day(day, apia);
        assert_eq!(start, start_of_day(day.succ_opt().unwrap(), apia));
        assert_eq!(start.to_string(), "2011-12-30 10:00:00 UTC");
    }

    #[test]
    fn whole_days_end_last_in_the_west() {
        let day = NaiveDate::from_ymd_opt(2026, 3, 1).unwrap();
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert!(!is_over_everywhere(day, at("2026-03-02T11:59:59Z")));
        assert!(is_over_everywhere(day, at("2026-03-02T12:00:00Z")));
    }
}

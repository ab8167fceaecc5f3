//! [`Schedule`]: when a series occurs.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};

use chrono::{
    DateTime, Datelike, NaiveDateTime, NaiveTime, SecondsFormat, TimeDelta, TimeZone as _, Utc,
};
use chrono_tz::Tz;
use serde_json::Value as Json;

use super::recurrence::{Recurrence, Until};
use crate::error::codes;
use crate::schema::{FieldType, FieldValue, Value, ValueRef};
use crate::value::text_value::text_conversions;
use crate::value::{TextValue, TimeZone, ValueError};

/// How many steps of a rule are looked at, whatever the window: 500 years of days.
const STEPS: u32 = 200_000;

/// How many moments a list of excluded or added ones may have.
const MOST_MOMENTS: usize = 1_000;

/// A date and time as clock and calendar at a place show it, without a time zone: to the second,
/// from the year 1900 to 2999, as JSCalendar (RFC 8984) writes it.
///
/// ```
/// use crm_core::activities::LocalDateTime;
/// use crm_core::value::TextValue;
///
/// let at = LocalDateTime::parse("2027-03-28T02:30")?;
/// assert_eq!(at.as_str(), "2027-03-28T02:30:00");
/// assert_eq!(LocalDateTime::parse("28.3.2027").unwrap_err().code(), "invalid_local_time");
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalDateTime(String);

const LOCAL: &str = "%Y-%m-%dT%H:%M:%S";

impl LocalDateTime {
    /// The time for `chrono`; fractions of a second are not kept.
    ///
    /// # Errors
    /// If the year is not from 1900 to 2999.
    pub fn new(at: NaiveDateTime) -> Result<Self, ValueError> {
        if !(1900..3000).contains(&at.year()) {
            return Err(ValueError::new(
                "invalid_local_time",
                "use a year from 1900 to 2999",
            ));
        }
        Ok(Self(at.format(LOCAL).to_string()))
    }

    /// The time for `chrono`; `None` only for a stored text that is no time.
    #[must_use]
    pub fn naive(&self) -> Option<NaiveDateTime> {
        NaiveDateTime::parse_from_str(&self.0, LOCAL).ok()
    }
}

impl TextValue for LocalDateTime {
    fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        NaiveDateTime::parse_from_str(text, LOCAL)
            .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M"))
            .map_err(|_| {
                ValueError::new(
                    "invalid_local_time",
                    "write a local time as 2027-03-28T02:30:00, without a time zone",
                )
            })
            .and_then(Self::new)
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    fn from_stored(text: String) -> Result<Self, ValueError> {
        Ok(Self(text))
    }
}

text_conversions!(LocalDateTime, shown);

impl FieldValue for LocalDateTime {
    type Operand = Self;

    fn field_type() -> FieldType {
        FieldType::text(19)
    }

    fn value(&self) -> ValueRef<'_> {
        ValueRef::Text(&self.0)
    }

    fn from_value(value: Value) -> Result<Self, ValueError> {
        match value {
            Value::Text(text) => Self::parse(&text),
            _ => Err(ValueError::new(
                codes::WRONG_TYPE,
                "write a local time as a text",
            )),
        }
    }
}

/// A set of moments, such as those at which a series does not occur: at most 1,000, to the second.
///
/// ```
/// use crm_core::activities::Moments;
/// use chrono::DateTime;
///
/// let moments = Moments::from_iter(DateTime::from_timestamp(1_800_000_000, 0));
/// assert_eq!(serde_json::Value::from(&moments).to_string(), r#"["2027-01-15T08:00:00Z"]"#);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moments(BTreeSet<DateTime<Utc>>);

impl Moments {
    /// Whether a moment is among them.
    #[must_use]
    pub fn contains(&self, at: DateTime<Utc>) -> bool {
        self.0.contains(&at)
    }

    /// Adds one.
    pub fn insert(&mut self, at: DateTime<Utc>) {
        self.0.insert(whole_seconds(at));
    }

    /// The moments in order.
    pub fn iter(&self) -> impl Iterator<Item = DateTime<Utc>> + '_ {
        self.0.iter().copied()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there are more than a record holds.
    pub(crate) fn are_too_many(&self) -> bool {
        self.len() > MOST_MOMENTS
    }
}

impl FromIterator<DateTime<Utc>> for Moments {
    fn from_iter<I: IntoIterator<Item = DateTime<Utc>>>(moments: I) -> Self {
        Self(moments.into_iter().map(whole_seconds).collect())
    }
}

impl From<&Moments> for Json {
    fn from(moments: &Moments) -> Self {
        let text = |at: DateTime<Utc>| Self::String(at.to_rfc3339_opts(SecondsFormat::Secs, true));
        Self::Array(moments.iter().map(text).collect())
    }
}

impl FieldValue for Moments {
    type Operand = Self;

    fn field_type() -> FieldType {
        FieldType::Json
    }

    fn value(&self) -> ValueRef<'_> {
        ValueRef::Json(std::borrow::Cow::Owned(Json::from(self)))
    }

    fn from_value(value: Value) -> Result<Self, ValueError> {
        let refused = || ValueError::new(codes::WRONG_TYPE, "give a list of times in UTC");
        let Value::Json(Json::Array(items)) = value else {
            return Err(refused());
        };
        let moment = |item: &Json| {
            let at = DateTime::parse_from_rfc3339(item.as_str()?).ok()?;
            Some(at.to_utc())
        };
        let moments: Option<Self> = items
            .iter()
            .map(moment)
            .collect::<Option<Vec<_>>>()
            .map(Self::from_iter);
        moments.ok_or_else(refused)
    }
}

fn whole_seconds(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp(at.timestamp(), 0).unwrap_or(at)
}

/// When a series occurs: a pure value that is expanded into moments.
///
/// - A series with times occurs by the clock of its time zone, also across changes of daylight
///   saving. A time that the clock leaves out is meant with the offset before the change, and one
///   that it shows twice is the first of the two (RFC 5545, section 3.3.5): 02:30 on the night when
///   the clock goes from 02:00 to 03:00 is 03:30. A calendar day that a zone leaves out altogether,
///   as Samoa did on 30 December 2011, has no occurrence.
/// - A series of whole days occurs by the calendar: each occurrence is midnight UTC of its day,
///   which stands for the day wherever one is.
/// - `COUNT` counts excluded occurrences too. An occurrence before the start does not exist; one at
///   the same moment as another is one. The start itself is an occurrence only if the rule says so.
///
/// ```
/// use chrono::{TimeZone, Utc};
/// use crm_core::activities::{LocalDateTime, Moments, Recurrence, Schedule};
/// use crm_core::value::{TextValue, TimeZone as Zone};
///
/// let rule = Recurrence::parse("FREQ=WEEKLY;BYDAY=SU;COUNT=2")?;
/// let schedule = Schedule {
///     starts_at: &LocalDateTime::parse("2027-03-21T09:00")?,
///     time_zone: Zone::parse("Europe/Berlin")?,
///     is_all_day: false,
///     recurrence: &rule,
///     excluded: &Moments::default(),
///     added: &Moments::default(),
/// };
/// let year = Utc.with_ymd_and_hms(2027, 1, 1, 0, 0, 0).unwrap()
///     ..Utc.with_ymd_and_hms(2028, 1, 1, 0, 0, 0).unwrap();
/// let hours: Vec<_> = schedule.occurrences(&year, 10).starts.iter()
///     .map(|at| at.format("%d %H:%M").to_string()).collect();
/// assert_eq!(hours, ["21 08:00", "28 07:00"]); // nine o'clock in Berlin, both
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Schedule<'a> {
    /// When the first occurrence may be, by the clock of the time zone.
    pub starts_at: &'a LocalDateTime,
    /// Whose clock; of no concern to a series of whole days.
    pub time_zone: TimeZone,
    /// Whether each occurrence takes a whole day.
    pub is_all_day: bool,
    /// The rule.
    pub recurrence: &'a Recurrence,
    /// Moments at which the series does not occur although the rule says so (`EXDATE`).
    pub excluded: &'a Moments,
    /// Moments at which it occurs besides the rule (`RDATE`).
    pub added: &'a Moments,
}

/// The occurrences of a [`Schedule`] in a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occurrences {
    /// When they begin, in order.
    pub starts: Vec<DateTime<Utc>>,
    /// Whether these are all; `false` if the limit was reached.
    pub complete: bool,
}

/// From when to when a schedule occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) first: DateTime<Utc>,
    /// `None` if there is no end.
    pub(crate) last: Option<DateTime<Utc>>,
}

impl Schedule<'_> {
    /// The occurrences that begin in a window, which its end is not part of: the first `limit` of
    /// them. Takes time in proportion to the occurrences from the start to the window's end, of
    /// which at most 200,000 are looked at.
    #[must_use]
    pub fn occurrences(&self, window: &Range<DateTime<Utc>>, limit: usize) -> Occurrences {
        // Around a change of the clock, occurrences may come out of order by some hours.
        let after = window.end.checked_add_signed(TimeDelta::days(1));
        let mut starts: BTreeSet<DateTime<Utc>> = BTreeSet::new();
        let mut complete = self.walk(|at| {
            if window.contains(&at) && !self.excluded.contains(at) {
                starts.insert(at);
            }
            let enough = starts.len() > limit.saturating_add(MOST_OUT_OF_ORDER);
            if enough || after.is_some_and(|after| at >= after) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        starts.extend(self.added_ones().filter(|at| window.contains(at)));
        complete &= starts.len() <= limit;
        Occurrences {
            starts: starts.into_iter().take(limit).collect(),
            complete,
        }
    }

    /// Whether the series occurs at this very moment.
    #[must_use]
    pub fn occurs_at(&self, at: DateTime<Utc>) -> bool {
        let window = at..at + TimeDelta::seconds(1);
        self.occurrences(&window, 1).starts.first() == Some(&at)
    }

    /// From when to when the series occurs; `None` if it never does.
    pub(crate) fn bounds(&self) -> Option<Bounds> {
        let endless = self.recurrence.is_endless();
        let mut first: Option<DateTime<Utc>> = self.added_ones().next();
        let mut last = self.added_ones().next_back();
        let mut seen = 0_usize;
        let ended = self.walk(|at| {
            if !self.excluded.contains(at) {
                first = Some(first.map_or(at, |first| first.min(at)));
                last = Some(last.map_or(at, |last| last.max(at)));
                seen += 1;
            }
            if endless && seen > MOST_OUT_OF_ORDER {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        Some(Bounds {
            first: first?,
            last: last.filter(|_| ended && !endless),
        })
    }

    /// How many occurrences of the rule, excluded ones included, are before a moment.
    pub(crate) fn count_before(&self, before: DateTime<Utc>) -> u32 {
        let mut count = 0;
        let after = before + TimeDelta::days(1);
        self.walk(|at| {
            count += u32::from(at < before);
            if at < after {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        count
    }

    /// The first occurrence of the rule at or after a moment, by the clock: where a series that
    /// goes on from there begins. Excluded ones count; added ones do not.
    #[must_use]
    pub fn local_from(&self, from: DateTime<Utc>) -> Option<NaiveDateTime> {
        let mut found = None;
        self.walk_local(|local, at| {
            if at >= from {
                found = Some(local);
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        found
    }

    /// A local time of the series as a moment; `None` on a day that the zone left out.
    #[must_use]
    pub fn moment(&self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        if self.is_all_day {
            Some(local.date().and_time(NaiveTime::MIN).and_utc())
        } else {
            moment(local, self.time_zone.tz())
        }
    }

    fn added_ones(&self) -> impl DoubleEndedIterator<Item = DateTime<Utc>> + '_ {
        self.added
            .0
            .iter()
            .copied()
            .filter(|at| !self.excluded.contains(*at))
    }

    /// Walks over the occurrences of the rule, excluded ones included, and tells whether it came
    /// to their end or was stopped by `visit`, not by the bound on steps.
    fn walk(&self, mut visit: impl FnMut(DateTime<Utc>) -> ControlFlow<()>) -> bool {
        self.walk_local(|_, at| visit(at))
    }

    fn walk_local(
        &self,
        mut visit: impl FnMut(NaiveDateTime, DateTime<Utc>) -> ControlFlow<()>,
    ) -> bool {
        let (Some(start), Ok(parts)) = (self.starts_at.naive(), self.recurrence.parts()) else {
            return true;
        };
        let Some(first) = self.moment(start) else {
            return true;
        };
        let mut left = parts.count;
        let mut steps = 0;
        for local in parts.walk(start) {
            steps += 1;
            if steps > STEPS {
                return false;
            }
            let Some(at) = self.moment(local) else {
                continue;
            };
            if at < first {
                continue;
            }
            let is_over = parts.until.is_some_and(|until| match until {
                Until::Day(day) => local.date() > day,
                Until::Moment(until) if self.is_all_day => local.date() > until.date_naive(),
                Until::Moment(until) => at > until,
            });
            if is_over || visit(local, at).is_break() {
                return true;
            }
            if let Some(left) = &mut left {
                *left -= 1;
                if *left == 0 {
                    return true;
                }
            }
        }
        true
    }
}

/// How many occurrences of a day may come out of order where the clock leaves out an hour.
const MOST_OUT_OF_ORDER: usize = 24;

/// A local time as a moment: RFC 5545, section 3.3.5.
pub(crate) fn moment(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    let found = zone.from_local_datetime(&local);
    if let Some(at) = found.earliest() {
        return Some(at.to_utc());
    }
    // The clock leaves this time out: the offset before the gap holds. Gaps of daylight saving are
    // at most some hours long.
    (1..=3).find_map(|hours| {
        let back = TimeDelta::hours(hours);
        let before = zone
            .from_local_datetime(&local.checked_sub_signed(back)?)
            .earliest()?;
        Some(before.to_utc() + back)
    })
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;
    use proptest::prelude::*;

    use super::*;

    const ZONES: [&str; 5] = [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kolkata",
        "Pacific/Apia",
    ];

    fn utc(text: &str) -> DateTime<Utc> {
        NaiveDateTime::parse_from_str(text, LOCAL)
            .unwrap()
            .and_utc()
    }

    /// The moments of a rule in a zone, or of whole days, from 2000 to 2100.
    fn moments(rule: &str, start: &str, zone: Option<&str>) -> Vec<String> {
        let schedule = Schedule {
            starts_at: &LocalDateTime::parse(start).unwrap(),
            time_zone: zone.map_or(TimeZone::UTC, |zone| TimeZone::parse(zone).unwrap()),
            is_all_day: zone.is_none(),
            recurrence: &Recurrence::parse(rule).unwrap(),
            excluded: &Moments::default(),
            added: &Moments::default(),
        };
        let window = utc("2000-01-01T00:00:00")..utc("2100-01-01T00:00:00");
        let found = schedule.occurrences(&window, 50);
        found
            .starts
            .iter()
            .map(|at| at.format(LOCAL).to_string())
            .collect()
    }

    /// RFC 5545, section 3.3.5: a time that the clock leaves out, one that it shows twice.
    #[test]
    fn gaps_and_folds_of_the_clock() {
        assert_eq!(
            moments(
                "FREQ=DAILY;COUNT=3",
                "2027-03-27T02:30",
                Some("Europe/Berlin")
            ),
            [
                "2027-03-27T01:30:00",
                "2027-03-28T01:30:00",
                "2027-03-29T00:30:00"
            ]
        );
        assert_eq!(
            moments(
                "FREQ=DAILY;COUNT=3",
                "2027-10-30T02:30",
                Some("Europe/Berlin")
            ),
            [
                "2027-10-30T00:30:00",
                "2027-10-31T00:30:00",
                "2027-11-01T01:30:00"
            ]
        );
        // The clock of Havana goes from 24:00 to 01:00: midnight itself is left out.
        assert_eq!(
            moments(
                "FREQ=DAILY;COUNT=2",
                "2026-03-07T00:00",
                Some("America/Havana")
            ),
            ["2026-03-07T05:00:00", "2026-03-08T05:00:00"]
        );
        // Half an hour at Lord Howe Island.
        assert_eq!(
            moments(
                "FREQ=DAILY;COUNT=2",
                "2026-10-03T02:15",
                Some("Australia/Lord_Howe")
            ),
            ["2026-10-02T15:45:00", "2026-10-03T15:45:00"]
        );
    }

    #[test]
    fn a_day_that_a_zone_left_out_has_no_occurrence() {
        assert_eq!(
            moments(
                "FREQ=DAILY;COUNT=2",
                "2011-12-29T09:00",
                Some("Pacific/Apia")
            ),
            ["2011-12-29T19:00:00", "2011-12-30T19:00:00"]
        );
    }

    #[test]
    fn whole_days_go_by_the_calendar() {
        assert_eq!(
            moments("FREQ=DAILY;UNTIL=20270329", "2027-03-27T00:00", None),
            [
                "2027-03-27T00:00:00",
                "2027-03-28T00:00:00",
                "2027-03-29T00:00:00"
            ]
        );
    }

    #[test]
    fn an_end_counts_in_whole_at_the_place_or_to_the_second_in_utc() {
        let berlin = Some("Europe/Berlin");
        let two = moments("FREQ=DAILY;UNTIL=20270102", "2027-01-01T23:30", berlin);
        assert_eq!(two, ["2027-01-01T22:30:00", "2027-01-02T22:30:00"]);
        let two = moments(
            "FREQ=DAILY;UNTIL=20270102T223000Z",
            "2027-01-01T23:30",
            berlin,
        );
        assert_eq!(two.len(), 2);
        let one = moments(
            "FREQ=DAILY;UNTIL=20270102T222959Z",
            "2027-01-01T23:30",
            berlin,
        );
        assert_eq!(one.len(), 1);
    }

    #[test]
    fn rules_that_never_occur_are_found_out() {
        let never = [
            "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
            "FREQ=DAILY;UNTIL=20260101",
        ];
        for rule in never {
            assert!(moments(rule, "2027-01-01T09:00", Some("Europe/Berlin")).is_empty());
            let schedule = Schedule {
                starts_at: &LocalDateTime::parse("2027-01-01T09:00").unwrap(),
                time_zone: TimeZone::UTC,
                is_all_day: false,
                recurrence: &Recurrence::parse(rule).unwrap(),
                excluded: &Moments::default(),
                added: &Moments::default(),
            };
            assert_eq!(schedule.bounds(), None);
        }
    }

    fn rules() -> impl Strategy<Value = String> {
        let end = prop_oneof![
            Just(String::new()),
            (1_u32..40).prop_map(|count| format!(";COUNT={count}")),
            (2024_i32..2030, 1_u32..13)
                .prop_map(|(year, month)| { format!(";UNTIL={year}{month:02}15T093000Z") }),
        ];
        let days =
            proptest::sample::subsequence(vec!["MO", "TU", "WE", "TH", "FR", "SA", "SU"], 1..4);
        let nth = proptest::sample::select(vec!["1MO", "2SU", "-1FR", "-1SU", "3WE", "-2TU"]);
        let month_days =
            proptest::sample::subsequence(vec!["1", "15", "28", "29", "31", "-1", "-3"], 1..3);
        let position = proptest::sample::select(vec!["1", "-1", "2", "1,-1"]);
        let body = prop_oneof![
            Just("FREQ=DAILY".to_owned()),
            days.clone()
                .prop_map(|days| format!("FREQ=DAILY;BYDAY={}", days.join(","))),
            days.clone()
                .prop_map(|days| format!("FREQ=WEEKLY;BYDAY={}", days.join(","))),
            days.clone()
                .prop_map(|days| format!("FREQ=WEEKLY;WKST=SU;BYDAY={}", days.join(","))),
            nth.clone()
                .prop_map(|nth| format!("FREQ=MONTHLY;BYDAY={nth}")),
            month_days
                .clone()
                .prop_map(|days| format!("FREQ=MONTHLY;BYMONTHDAY={}", days.join(","))),
            (days.clone(), position).prop_map(|(days, at)| format!(
                "FREQ=MONTHLY;BYDAY={};BYSETPOS={at}",
                days.join(",")
            )),
            (nth, 1_u32..13)
                .prop_map(|(nth, month)| format!("FREQ=YEARLY;BYMONTH={month};BYDAY={nth}")),
            month_days
                .prop_map(|days| format!("FREQ=YEARLY;BYMONTH=3,10;BYMONTHDAY={}", days.join(","))),
            (1_i32..54, days).prop_map(|(week, days)| {
                format!("FREQ=YEARLY;BYWEEKNO={week};BYDAY={}", days.join(","))
            }),
        ];
        (body, 1_u32..5, end)
            .prop_map(|(body, interval, end)| format!("{body};INTERVAL={interval}{end}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_500))]

        /// The expansion is that of the crate `rrule` in the zone, also across changes of the clock.
        #[test]
        fn equals_the_rrule_crate(
            rule in rules(),
            zone in proptest::sample::select(ZONES.to_vec()),
            start in (2009_i32..2024, 1_u32..366, 0_u32..24, proptest::sample::select(vec![0_u32, 15, 30])),
            from in 0_i64..3_000,
            days in 1_i64..800,
            excluded in proptest::collection::btree_set(0_usize..30, 0..4),
            added in 0_i64..100,
        ) {
            let (year, day, hour, minute) = start;
            let date = NaiveDate::from_yo_opt(year, day).unwrap();
            let local = date.and_hms_opt(hour, minute, 0).unwrap();
            let tz: Tz = zone.parse().unwrap();
            // The crate is given the start as a moment: one that the clock shows once.
            let Some(begin) = rrule::Tz::Tz(tz).from_local_datetime(&local).single() else {
                return Ok(());
            };
            let Ok(recurrence) = Recurrence::parse(&rule) else {
                return Ok(());
            };
            let Ok(theirs) = format!("DTSTART;TZID={zone}:{}\nRRULE:{rule}", local.format("%Y%m%dT%H%M%S"))
                .parse::<rrule::RRuleSet>()
            else {
                return Ok(());
            };
            let window_start = begin.to_utc() + TimeDelta::days(from);
            let window = window_start..window_start + TimeDelta::days(days);
            let all = theirs.clone().all(400).dates;
            let excluded: Moments = excluded
                .into_iter()
                .filter_map(|place| all.get(place))
                .map(DateTime::to_utc)
                .collect();
            let added = Moments::from_iter([window_start + TimeDelta::hours(7 * added)]);
            let zone = |at: DateTime<Utc>| at.with_timezone(&rrule::Tz::Tz(tz));
            let theirs = theirs
                .set_exdates(excluded.iter().map(zone).collect())
                .set_rdates(added.iter().map(zone).collect())
                .after(zone(window.start))
                .before(zone(window.end - TimeDelta::seconds(1)));
            let mut theirs: Vec<DateTime<Utc>> =
                theirs.all(u16::MAX).dates.iter().map(DateTime::to_utc).collect();
            theirs.dedup();
            let ours = Schedule {
                starts_at: &LocalDateTime::new(local).unwrap(),
                time_zone: tz.into(),
                is_all_day: false,
                recurrence: &recurrence,
                excluded: &excluded,
                added: &added,
            };
            // Where the clock leaves out midnight itself, or shows it twice, the crate leaves out
            // the day: the standard does not (see `gaps_and_folds_of_the_clock`). The day before
            // counts too, since Apia left out a whole one.
            let since = begin.to_utc()..window.end;
            let is_odd = |day: NaiveDate| {
                let midnight = day.and_hms_opt(0, 0, 0).unwrap();
                tz.from_local_datetime(&midnight).single().is_none()
            };
            let has_odd_midnight = |at: &DateTime<Utc>| {
                let day = at.with_timezone(&tz).date_naive();
                is_odd(day) || is_odd(day.pred_opt().unwrap())
            };
            if ours.occurrences(&since, 100_000).starts.iter().any(has_odd_midnight) {
                return Ok(());
            }
            let found = ours.occurrences(&window, 100_000);
            prop_assert!(found.complete);
            prop_assert_eq!(&found.starts, &theirs);
            // Each of them is found alone, and a limit takes the first ones.
            for at in found.starts.iter().take(3) {
                prop_assert!(ours.occurs_at(*at));
            }
            let few = ours.occurrences(&window, 2);
            prop_assert_eq!(few.complete, found.starts.len() <= 2);
            prop_assert_eq!(&few.starts[..], &found.starts[..found.starts.len().min(2)]);
        }

        /// A series that is split goes on where it ended.
        #[test]
        fn a_split_loses_nothing(rule in rules(), place in 1_usize..20, year in 2015_i32..2025) {
            let Ok(recurrence) = Recurrence::parse(&rule) else {
                return Ok(());
            };
            let local = NaiveDate::from_yo_opt(year, 60).unwrap().and_hms_opt(2, 30, 0).unwrap();
            let starts_at = LocalDateTime::new(local).unwrap();
            let none = Moments::default();
            let whole = Schedule {
                starts_at: &starts_at,
                time_zone: TimeZone::parse("Europe/Berlin").unwrap(),
                is_all_day: false,
                recurrence: &recurrence,
                excluded: &none,
                added: &none,
            };
            let window = utc("2000-01-01T00:00:00")..utc("2100-01-01T00:00:00");
            let all = whole.occurrences(&window, 60).starts;
            let Some(at) = all.get(place).copied() else {
                return Ok(());
            };
            let ending = recurrence.ending(at - TimeDelta::seconds(1), false);
            let first = Schedule { recurrence: &ending, ..whole };
            let going_on = match recurrence.count() {
                Some(count) => recurrence.with_count(count - whole.count_before(at)),
                None => recurrence.clone(),
            };
            let starts_at = LocalDateTime::new(whole.local_from(at).unwrap()).unwrap();
            let second = Schedule { recurrence: &going_on, starts_at: &starts_at, ..whole };
            let mut both = first.occurrences(&window, 60).starts;
            prop_assert_eq!(both.len(), place);
            both.extend(second.occurrences(&window, 60 - place).starts);
            prop_assert_eq!(both, all);
        }
    }
}

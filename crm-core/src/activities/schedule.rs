//! [`Schedule`]: when a series occurs.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};

use chrono::{DateTime, Datelike, NaiveDateTime, NaiveTime, SecondsFormat, TimeDelta, TimeZone as _, Utc};
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
            _ => Err(ValueError::new(codes::WRONG_TYPE, "write a local time as a text")),
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
        let moments: Option<Self> = items.iter().map(moment).collect::<Option<Vec<_>>>().map(Self::from_iter);
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
    /// goes on from there begins.
    pub(crate) fn local_from(&self, from: DateTime<Utc>) -> Option<NaiveDateTime> {
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
        self.added.0.iter().copied().filter(|at| !self.excluded.contains(*at))
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
        let before = zone.from_local_datetime(&local.checked_sub_signed(back)?).earliest()?;
        Some(before.to_utc() + back)
    })
}

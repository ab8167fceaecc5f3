//! [`Recurrence`]: a recurrence rule of RFC 5545, checked and in one normal form.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::str::FromStr;

use chrono::{DateTime, Month, NaiveDate, NaiveDateTime, Utc, Weekday};
use rrule::{Frequency, NWeekday, RRule, Unvalidated};

use crate::error::codes;
use crate::schema::{FieldType, FieldValue, Value, ValueRef};
use crate::value::text_value::text_conversions;
use crate::value::{TextValue, ValueError};

/// How often a day a rule may occur: what a rule with `BYHOUR` and `BYMINUTE` multiplies to.
const MOST_A_DAY: usize = 24;

/// How often something is repeated: the text of an `RRULE` of RFC 5545, section 3.3.10, such as
/// `FREQ=WEEKLY;BYDAY=MO,WE`.
///
/// The text is kept in one normal form: upper case, parts in one order, lists sorted, parts that say
/// the default left out. `FREQ` is `DAILY`, `WEEKLY`, `MONTHLY` or `YEARLY`; finer ones are refused,
/// as are rules that occur more than 24 times a day: an activity several times a day says so by
/// `BYHOUR`. `UNTIL` is a date, which then counts in whole, or a time in UTC.
///
/// Whether a rule ever occurs depends on when it begins, and is checked there: see
/// [`Schedule`](super::Schedule).
///
/// ```
/// use crm_core::activities::Recurrence;
/// use crm_core::value::TextValue;
///
/// let rule = Recurrence::parse("rrule:interval=1;byday=we,mo;freq=weekly")?;
/// assert_eq!(rule.as_str(), "FREQ=WEEKLY;BYDAY=MO,WE");
/// assert_eq!(Recurrence::parse("FREQ=SECONDLY").unwrap_err().code(), "invalid_recurrence");
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Recurrence(String);

/// Until when a rule goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// To the end of a day at the place.
    Day(NaiveDate),
    /// To a moment, which itself counts.
    Moment(DateTime<Utc>),
}

/// The parts of a rule.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    frequency: Frequency,
    pub(crate) until: Option<Until>,
    pub(crate) count: Option<u32>,
    interval: u16,
    week_start: Weekday,
    by_month: Vec<u8>,
    by_week_no: Vec<i8>,
    by_year_day: Vec<i16>,
    by_month_day: Vec<i8>,
    by_day: Vec<NWeekday>,
    by_hour: Vec<u8>,
    by_minute: Vec<u8>,
    by_second: Vec<u8>,
    by_set_pos: Vec<i32>,
}

impl Recurrence {
    /// The greatest number of characters of a rule.
    pub const MAX_LENGTH: u32 = 500;

    /// The last number of occurrences that the rule may have, if it says so by `COUNT`; excluded
    /// ones count too.
    #[must_use]
    pub fn count(&self) -> Option<u32> {
        self.parts().ok()?.count
    }

    /// Whether the rule goes on for ever.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        self.parts()
            .is_ok_and(|parts| parts.count.is_none() && parts.until.is_none())
    }

    /// The same rule ending with the last occurrence not after `last`, however it ended before.
    #[must_use]
    pub fn ending(&self, last: DateTime<Utc>, is_all_day: bool) -> Self {
        self.changed(|parts| {
            parts.count = None;
            parts.until = Some(if is_all_day {
                Until::Day(last.date_naive())
            } else {
                Until::Moment(last)
            });
        })
    }

    /// The same rule with so many occurrences, however it ended before.
    #[must_use]
    pub fn with_count(&self, count: u32) -> Self {
        self.changed(|parts| {
            parts.until = None;
            parts.count = Some(count.max(1));
        })
    }

    fn changed(&self, change: impl FnOnce(&mut Parts)) -> Self {
        match self.parts() {
            Ok(mut parts) => {
                change(&mut parts);
                Self(parts.text())
            }
            Err(_) => self.clone(),
        }
    }

    /// The parts of the rule, read again from its text.
    pub(crate) fn parts(&self) -> Result<Parts, ValueError> {
        Parts::parse(&self.0)
    }
}

impl TextValue for Recurrence {
    fn parse(text: &str) -> Result<Self, ValueError> {
        Parts::parse(text).map(|parts| Self(parts.text()))
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    fn from_stored(text: String) -> Result<Self, ValueError> {
        Ok(Self(text))
    }
}

text_conversions!(Recurrence, shown);

impl FieldValue for Recurrence {
    type Operand = Self;

    fn field_type() -> FieldType {
        FieldType::text(Self::MAX_LENGTH)
    }

    fn value(&self) -> ValueRef<'_> {
        ValueRef::Text(&self.0)
    }

    /// Takes any text: what is no rule is a fault of the record that has it, told with the others.
    fn from_value(value: Value) -> Result<Self, ValueError> {
        match value {
            Value::Text(text) => Ok(Self::parse(&text).unwrap_or(Self(text))),
            _ => Err(ValueError::new(codes::WRONG_TYPE, "write a rule as a text")),
        }
    }
}

fn refused(message: &'static str) -> ValueError {
    ValueError::new("invalid_recurrence", message)
}

impl Parts {
    fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        if text.len() > usize::try_from(Recurrence::MAX_LENGTH).unwrap_or(usize::MAX) {
            return Err(ValueError::new(codes::TOO_LONG, "use a shorter rule"));
        }
        let upper = text.to_ascii_uppercase();
        let upper = upper.strip_prefix("RRULE:").unwrap_or(&upper);
        let mut given: HashMap<&str, &str> = HashMap::new();
        for part in upper.split(';').filter(|part| !part.trim().is_empty()) {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| refused("write each part of the rule as NAME=VALUE"))?;
            if given.insert(name.trim(), value.trim()).is_some() {
                return Err(refused("give each part of the rule once"));
            }
        }
        let mut take = |name: &str| given.remove(name);
        let frequency = match take("FREQ") {
            Some("DAILY") => Frequency::Daily,
            Some("WEEKLY") => Frequency::Weekly,
            Some("MONTHLY") => Frequency::Monthly,
            Some("YEARLY") => Frequency::Yearly,
            _ => return Err(refused("FREQ is DAILY, WEEKLY, MONTHLY or YEARLY")),
        };
        let parts = Self {
            frequency,
            until: take("UNTIL").map(until).transpose()?,
            count: take("COUNT").map(number).transpose()?,
            interval: take("INTERVAL").map_or(Ok(1), number)?,
            week_start: take("WKST").map_or(Ok(Weekday::Mon), weekday)?,
            by_month: numbers(take("BYMONTH"), 1, 12)?,
            by_week_no: numbers(take("BYWEEKNO"), -53, 53)?,
            by_year_day: numbers(take("BYYEARDAY"), -366, 366)?,
            by_month_day: numbers(take("BYMONTHDAY"), -31, 31)?,
            by_day: weekdays(take("BYDAY"))?,
            by_hour: numbers(take("BYHOUR"), 0, 23)?,
            by_minute: numbers(take("BYMINUTE"), 0, 59)?,
            by_second: numbers(take("BYSECOND"), 0, 59)?,
            by_set_pos: numbers(take("BYSETPOS"), -366, 366)?,
        };
        if !given.is_empty() {
            return Err(refused("the rule has a part that RFC 5545 does not know"));
        }
        parts.check()?;
        Ok(parts)
    }

    fn check(&self) -> Result<(), ValueError> {
        if self.count.is_some() && self.until.is_some() {
            return Err(refused("a rule has either COUNT or UNTIL"));
        }
        if self.count == Some(0) || self.interval == 0 {
            return Err(refused("COUNT and INTERVAL are at least 1"));
        }
        let signed = |zero: bool| {
            if zero {
                return Err(refused("days, weeks and positions are not counted from 0"));
            }
            Ok(())
        };
        signed(self.by_week_no.contains(&0) || self.by_year_day.contains(&0))?;
        signed(self.by_month_day.contains(&0) || self.by_set_pos.contains(&0))?;
        let nth = self
            .by_day
            .iter()
            .any(|day| matches!(day, NWeekday::Nth(..)));
        let every = self
            .by_day
            .iter()
            .any(|day| matches!(day, NWeekday::Every(_)));
        let in_period = match self.frequency {
            Frequency::Monthly => true,
            Frequency::Yearly => self.by_week_no.is_empty(),
            _ => false,
        };
        if nth && (every || !in_period) {
            return Err(refused(
                "numbered weekdays such as 1MO go with MONTHLY or YEARLY, and not together with \
                 plain ones",
            ));
        }
        let times =
            self.by_hour.len().max(1) * self.by_minute.len().max(1) * self.by_second.len().max(1);
        if times > MOST_A_DAY {
            return Err(refused("an activity recurs at most 24 times a day"));
        }
        // What RFC 5545 forbids beyond that, the crate knows; the start does not matter for it.
        let start = rrule_time(NaiveDateTime::default());
        match self.rule().validate(start) {
            Ok(_) => Ok(()),
            Err(_) => Err(refused(
                "the parts of the rule do not go together, or a number is out of range",
            )),
        }
    }

    /// The rule for the crate, without its end: that is decided where the time zone is known.
    fn rule(&self) -> RRule<Unvalidated> {
        let months: Vec<Month> = self
            .by_month
            .iter()
            .filter_map(|month| Month::try_from(*month).ok())
            .collect();
        RRule::new(self.frequency)
            .interval(self.interval)
            .week_start(self.week_start)
            .by_month(&months)
            .by_week_no(self.by_week_no.clone())
            .by_year_day(self.by_year_day.clone())
            .by_month_day(self.by_month_day.clone())
            .by_weekday(self.by_day.clone())
            .by_hour(self.by_hour.clone())
            .by_minute(self.by_minute.clone())
            .by_second(self.by_second.clone())
            .by_set_pos(self.by_set_pos.clone())
    }

    /// The times of the clock at which the rule occurs from `start` on, in order and without end as
    /// far as the crate looks (until the year 10,000, or 100,000 periods without an occurrence).
    pub(crate) fn walk(&self, start: NaiveDateTime) -> impl Iterator<Item = NaiveDateTime> + use<> {
        let start = rrule_time(start);
        let rules = self.rule().validate(start).ok();
        let set = rules
            .into_iter()
            .fold(rrule::RRuleSet::new(start), rrule::RRuleSet::rrule)
            .limit();
        let steps = (&set).into_iter();
        steps.map(|at| at.naive_utc())
    }

    /// The normal form.
    fn text(&self) -> String {
        let mut text = format!("FREQ={}", self.frequency);
        let mut add = |name: &str, value: String| {
            if !value.is_empty() {
                // Writing to a string does not fail.
                let _ = write!(text, ";{name}={value}");
            }
        };
        let unless = |default: bool, value: String| if default { String::new() } else { value };
        add(
            "UNTIL",
            match self.until {
                None => String::new(),
                Some(Until::Day(day)) => day.format("%Y%m%d").to_string(),
                Some(Until::Moment(at)) => at.format("%Y%m%dT%H%M%SZ").to_string(),
            },
        );
        add(
            "COUNT",
            self.count
                .map_or_else(String::new, |count| count.to_string()),
        );
        add(
            "INTERVAL",
            unless(self.interval == 1, self.interval.to_string()),
        );
        add("BYMONTH", joined(&self.by_month));
        add("BYWEEKNO", joined(&self.by_week_no));
        add("BYYEARDAY", joined(&self.by_year_day));
        add("BYMONTHDAY", joined(&self.by_month_day));
        let days: Vec<String> = self.by_day.iter().map(day_text).collect();
        add("BYDAY", days.join(","));
        add("BYHOUR", joined(&self.by_hour));
        add("BYMINUTE", joined(&self.by_minute));
        add("BYSECOND", joined(&self.by_second));
        add("BYSETPOS", joined(&self.by_set_pos));
        let monday = self.week_start == Weekday::Mon;
        add("WKST", unless(monday, short(self.week_start).to_owned()));
        text
    }
}

/// A time of the clock as the crate takes it: as if the place had no time zone.
fn rrule_time(at: NaiveDateTime) -> DateTime<rrule::Tz> {
    at.and_utc().with_timezone(&rrule::Tz::UTC)
}

fn joined<T: ToString>(values: &[T]) -> String {
    let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
    texts.join(",")
}

fn number<T: FromStr>(text: &str) -> Result<T, ValueError> {
    // `parse` alone would take a sign.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused("COUNT and INTERVAL are whole numbers"));
    }
    text.parse()
        .map_err(|_| refused("COUNT or INTERVAL is too great"))
}

fn numbers<T: TryFrom<i32> + Ord>(
    text: Option<&str>,
    least: i32,
    greatest: i32,
) -> Result<Vec<T>, ValueError> {
    let mut numbers = Vec::new();
    for item in text.into_iter().flat_map(|text| text.split(',')) {
        let number = item.trim().parse::<i32>().ok();
        let number = number.filter(|number| (least..=greatest).contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        numbers.push(number.ok_or_else(|| refused("a number of the rule is out of range"))?);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

fn weekday(text: &str) -> Result<Weekday, ValueError> {
    let days = [
        Weekday::Mon,
        Weekday::Tue,
        Weekday::Wed,
        Weekday::Thu,
        Weekday::Fri,
        Weekday::Sat,
        Weekday::Sun,
    ];
    days.into_iter()
        .find(|day| short(*day) == text)
        .ok_or_else(|| refused("weekdays are MO, TU, WE, TH, FR, SA and SU"))
}

const fn short(day: Weekday) -> &'static str {
    match day {
        Weekday::Mon => "MO",
        Weekday::Tue => "TU",
        Weekday::Wed => "WE",
        Weekday::Thu => "TH",
        Weekday::Fri => "FR",
        Weekday::Sat => "SA",
        Weekday::Sun => "SU",
    }
}

fn weekdays(text: Option<&str>) -> Result<Vec<NWeekday>, ValueError> {
    let mut days = Vec::new();
    for item in text.into_iter().flat_map(|text| text.split(',')) {
        let item = item.trim();
        let split = item.len().checked_sub(2);
        let (nth, day) = split
            .and_then(|split| item.split_at_checked(split))
            .ok_or_else(|| refused("weekdays are MO, TU, WE, TH, FR, SA and SU"))?;
        let day = weekday(day)?;
        days.push(match nth {
            "" => NWeekday::Every(day),
            nth => match nth.parse() {
                Ok(nth @ (-53..=-1 | 1..=53)) => NWeekday::Nth(nth, day),
                _ => {
                    return Err(refused(
                        "the number before a weekday is from 1 to 53, or negative",
                    ));
                }
            },
        });
    }
    days.sort_unstable();
    days.dedup();
    Ok(days)
}

fn day_text(day: &NWeekday) -> String {
    match day {
        NWeekday::Every(day) => short(*day).to_owned(),
        NWeekday::Nth(nth, day) => format!("{nth}{}", short(*day)),
    }
}

fn until(text: &str) -> Result<Until, ValueError> {
    if text.len() == 8
        && let Ok(day) = NaiveDate::parse_from_str(text, "%Y%m%d")
    {
        return Ok(Until::Day(day));
    }
    text.strip_suffix('Z')
        .and_then(|text| NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%S").ok())
        .map(|at| Until::Moment(at.and_utc()))
        .ok_or_else(|| refused("write UNTIL as a date, 20261231, or in UTC, 20261231T120000Z"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_have_one_form() {
        let cases = [
            ("FREQ=DAILY", "FREQ=DAILY"),
            ("rrule:wkst=mo;freq=daily;interval=01", "FREQ=DAILY"),
            (
                "FREQ=MONTHLY;BYDAY=-1FR,1MO;COUNT=3",
                "FREQ=MONTHLY;COUNT=3;BYDAY=-1FR,1MO",
            ),
            (
                "FREQ=WEEKLY;BYDAY=SU,MO,MO;WKST=SU;UNTIL=20270101",
                "FREQ=WEEKLY;UNTIL=20270101;BYDAY=MO,SU;WKST=SU",
            ),
            (
                "FREQ=YEARLY;BYMONTH=12,3;UNTIL=20270101T080000Z;",
                "FREQ=YEARLY;UNTIL=20270101T080000Z;BYMONTH=3,12",
            ),
        ];
        for (text, form) in cases {
            let rule = Recurrence::parse(text).unwrap();
            assert_eq!(rule.as_str(), form);
            assert_eq!(Recurrence::parse(form).unwrap(), rule);
        }
    }

    #[test]
    fn hostile_and_wrong_rules_are_refused() {
        let long = format!("FREQ=DAILY;BYMONTHDAY={}", "1,".repeat(500));
        let refused = [
            "",
            "FREQ",
            "FREQ=SECONDLY",
            "FREQ=MINUTELY;INTERVAL=1",
            "FREQ=HOURLY",
            "FREQ=DAILY;FREQ=DAILY",
            "FREQ=DAILY;COUNT=0",
            "FREQ=DAILY;COUNT=-1",
            "FREQ=DAILY;COUNT=99999999999",
            "FREQ=DAILY;INTERVAL=0",
            "FREQ=DAILY;INTERVAL=65536",
            "FREQ=DAILY;COUNT=2;UNTIL=20270101",
            "FREQ=DAILY;UNTIL=20270101T000000",
            "FREQ=DAILY;UNTIL=20270231",
            "FREQ=DAILY;BYHOUR=0,1,2,3,4;BYMINUTE=0,10,20,30,40",
            "FREQ=DAILY;BYSECOND=60",
            "FREQ=WEEKLY;BYDAY=1MO",
            "FREQ=WEEKLY;BYMONTHDAY=1",
            "FREQ=MONTHLY;BYDAY=MO,1TU",
            "FREQ=MONTHLY;BYDAY=9MO",
            "FREQ=MONTHLY;BYDAY=é",
            "FREQ=MONTHLY;BYDAY=M",
            "FREQ=MONTHLY;BYMONTHDAY=0",
            "FREQ=MONTHLY;BYSETPOS=0",
            "FREQ=MONTHLY;BYSETPOS=1;X=2",
            "FREQ=YEARLY;BYEASTER=1",
            long.as_str(),
        ];
        for text in refused {
            assert!(Recurrence::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ends_are_exchanged() {
        let rule = Recurrence::parse("FREQ=DAILY;COUNT=9;BYHOUR=8,9").unwrap();
        assert_eq!(rule.count(), Some(9));
        assert!(!rule.is_endless());
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let ending = rule.ending(at, false);
        assert_eq!(
            ending.as_str(),
            "FREQ=DAILY;UNTIL=20270115T080000Z;BYHOUR=8,9"
        );
        let ending = rule.ending(at, true);
        assert_eq!(ending.as_str(), "FREQ=DAILY;UNTIL=20270115;BYHOUR=8,9");
        assert_eq!(
            ending.with_count(4).as_str(),
            "FREQ=DAILY;COUNT=4;BYHOUR=8,9"
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in "(FREQ=(DAILY|MONTHLY);)?[A-Z0-9=;,éÖ+-]{0,40}") {
            if let Ok(rule) = Recurrence::parse(&text) {
                prop_assert_eq!(Recurrence::parse(rule.as_str()).unwrap(), rule);
            }
        }
    }
}

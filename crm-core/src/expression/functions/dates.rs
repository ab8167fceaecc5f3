//! Functions over days and moments. Every day and moment is in the years 1 to 9999.

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;

use super::Arguments;
use super::numbers::quotient;
use crate::expression::datum::Datum;
use crate::expression::fault::Problem;

type Given<'a> = Result<Datum<'a>, Problem>;

fn in_range(year: i32) -> Result<(), Problem> {
    if (1..=9999).contains(&year) {
        Ok(())
    } else {
        Err(Problem::OutOfRange)
    }
}

fn in_years(date: NaiveDate) -> Result<NaiveDate, Problem> {
    in_range(date.year()).map(|()| date)
}

fn in_years_at(at: DateTime<Utc>) -> Result<DateTime<Utc>, Problem> {
    in_range(at.year()).map(|()| at)
}

/// The time on the clocks of a place.
fn local(at: DateTime<Utc>, zone: Tz) -> Result<NaiveDateTime, Problem> {
    Ok(in_years_at(at)?.with_timezone(&zone).naive_local())
}

/// So many days later.
pub(in crate::expression) fn later(date: NaiveDate, days: i64) -> Result<NaiveDate, Problem> {
    let days = TimeDelta::try_days(days).ok_or(Problem::OutOfRange)?;
    let date = date.checked_add_signed(days).ok_or(Problem::OutOfRange)?;
    in_years(date)
}

/// So many months later, on the last day of the month where it has no such day.
fn months_later(date: NaiveDate, months: i64) -> Result<NaiveDate, Problem> {
    let count = u32::try_from(months.unsigned_abs()).map_err(|_| Problem::OutOfRange)?;
    let months = if months < 0 {
        date.checked_sub_months(Months::new(count))
    } else {
        date.checked_add_months(Months::new(count))
    };
    in_years(months.ok_or(Problem::OutOfRange)?)
}

pub(super) fn today<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    Ok(Datum::Date(arguments.context.today))
}

pub(super) fn now<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    Ok(Datum::DateTime(arguments.context.now))
}

pub(super) fn date<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let date = match arguments.get(0) {
        Datum::Text(text) => {
            let date = NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d");
            in_years(date.map_err(|_| Problem::NotADate)?)?
        }
        Datum::DateTime(at) => local(*at, arguments.zone(1)?)?.date(),
        _ => return Err(Problem::WrongType),
    };
    Ok(Datum::Date(date))
}

pub(super) fn datetime<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let at = DateTime::parse_from_rfc3339(arguments.text(0)?.trim());
    let at = at.map_err(|_| Problem::NotADate)?.to_utc();
    in_years_at(at).map(Datum::DateTime)
}

/// A part of the day, or of the day that the moment falls on.
fn part_of_day<'a>(
    arguments: &Arguments<'_, 'a>,
    part: impl FnOnce(NaiveDate) -> i64,
) -> Given<'a> {
    let date = match arguments.get(0) {
        Datum::Date(date) => *date,
        Datum::DateTime(at) => local(*at, arguments.zone(1)?)?.date(),
        _ => return Err(Problem::WrongType),
    };
    Ok(Datum::Number(Decimal::from(part(date))))
}

pub(super) fn year<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    part_of_day(arguments, |date| date.year().into())
}

pub(super) fn quarter<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    part_of_day(arguments, |date| (date.month0() / 3 + 1).into())
}

pub(super) fn month<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    part_of_day(arguments, |date| date.month().into())
}

pub(super) fn day<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    part_of_day(arguments, |date| date.day().into())
}

pub(super) fn weekday<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    part_of_day(arguments, |date| date.weekday().number_from_monday().into())
}

pub(super) fn hour<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let local = local(arguments.moment(0)?, arguments.zone(1)?)?;
    Ok(Datum::Number(local.hour().into()))
}

pub(super) fn minute<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let local = local(arguments.moment(0)?, arguments.zone(1)?)?;
    Ok(Datum::Number(local.minute().into()))
}

pub(super) fn add_days<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let days = arguments.whole(1)?;
    match arguments.get(0) {
        Datum::Date(date) => later(*date, days).map(Datum::Date),
        Datum::DateTime(at) => {
            let days = TimeDelta::try_days(days).ok_or(Problem::OutOfRange)?;
            moment_later(*at, days)
        }
        _ => Err(Problem::WrongType),
    }
}

fn moment_later<'a>(at: DateTime<Utc>, time: TimeDelta) -> Given<'a> {
    let at = at.checked_add_signed(time).ok_or(Problem::OutOfRange)?;
    in_years_at(at).map(Datum::DateTime)
}

pub(super) fn add_hours<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let hours = TimeDelta::try_hours(arguments.whole(1)?).ok_or(Problem::OutOfRange)?;
    moment_later(arguments.moment(0)?, hours)
}

pub(super) fn add_months<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    months_later(arguments.date(0)?, arguments.whole(1)?).map(Datum::Date)
}

pub(super) fn days_between<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let days = days(arguments.date(0)?, arguments.date(1)?);
    Ok(Datum::Number(days))
}

/// The days from one day to another.
pub(in crate::expression) fn days(from: NaiveDate, to: NaiveDate) -> Decimal {
    to.signed_duration_since(from).num_days().into()
}

pub(super) fn months_between<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let (from, to) = (arguments.date(0)?, arguments.date(1)?);
    let (from, to) = (in_years(from)?, in_years(to)?);
    let count = |date: NaiveDate| i64::from(date.year()) * 12 + i64::from(date.month());
    let mut months = count(to) - count(from);
    // In the last month the day may not yet be reached.
    let reached = months_later(from, months)?;
    if from <= to && reached > to {
        months -= 1;
    } else if from > to && reached < to {
        months += 1;
    }
    Ok(Datum::Number(months.into()))
}

pub(super) fn hours_between<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let (from, to) = (arguments.moment(0)?, arguments.moment(1)?);
    let milliseconds = to.signed_duration_since(from).num_milliseconds();
    quotient(milliseconds.into(), Decimal::from(3_600_000)).map(Datum::Number)
}

pub(super) fn start_of_month<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let date = arguments.date(0)?.with_day(1);
    date.map(Datum::Date).ok_or(Problem::OutOfRange)
}

pub(super) fn end_of_month<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let first = arguments.date(0)?.with_day(1).ok_or(Problem::OutOfRange)?;
    let next = first.checked_add_months(Months::new(1));
    let last = next.and_then(|next| next.pred_opt());
    last.map(Datum::Date).ok_or(Problem::OutOfRange)
}

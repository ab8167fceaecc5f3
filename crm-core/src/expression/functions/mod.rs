//! The functions of the language: one table, by which calls are checked and evaluated, and from
//! which the list in the docs is made.

mod dates;
mod numbers;
mod texts;

pub(super) use dates::{days, later as dates_later};
pub(super) use numbers::{quotient, remainder};

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::datum::{Datum, Type};
use super::evaluate::Context;
use super::fault::Problem;
use super::{MAX_STEPS, MAX_TEXT_BYTES};
use crate::value::{TextValue, TimeZone};

/// What a function takes at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The name, for the list of functions and for messages.
    pub name: &'static str,
    /// The types that are taken.
    pub types: &'static [Type],
}

/// Of which type the result of a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Returns {
    /// Always of this type.
    Type(Type),
    /// Of that of the first argument.
    First,
    /// Of that of all arguments, which must be of one type; for `if` and `case` of that of what
    /// they give.
    Common,
}

/// A function of the language.
pub struct Function {
    /// The name, in lower case.
    pub name: &'static str,
    /// What it takes.
    pub parameters: &'static [Parameter],
    /// How many of the last arguments may be left out.
    pub optional: usize,
    /// How many of the last parameters may be given again and again.
    pub repeats: usize,
    /// Of which type the result is.
    pub returns: Returns,
    /// What it does, in one line.
    pub help: &'static str,
    /// A call and what it gives.
    pub example: (&'static str, &'static str),
    pub(super) how: How,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.signature())
    }
}

impl Function {
    /// The call as it is written, with the types: `left(text: text, count: number) -> text`.
    #[must_use]
    pub fn signature(&self) -> String {
        let first_optional = self.parameters.len() - self.optional.min(self.parameters.len());
        let parameters = self.parameters.iter().enumerate();
        let mut parameters: Vec<String> = parameters
            .map(|(place, parameter)| {
                let mark = if place >= first_optional { "?" } else { "" };
                format!("{}{mark}: {}", parameter.name, one_of(parameter.types))
            })
            .collect();
        if self.repeats > 0 {
            parameters.push("...".to_owned());
        }
        let returns = match self.returns {
            Returns::Type(returned) => returned.name(),
            Returns::First | Returns::Common => "same",
        };
        format!("{}({}) -> {returns}", self.name, parameters.join(", "))
    }

    /// The parameter that takes the argument at a place.
    pub(super) fn parameter(&self, place: usize) -> Option<&Parameter> {
        let count = self.parameters.len();
        match place.checked_sub(count) {
            Some(beyond) if self.repeats > 0 => self
                .parameters
                .get(count - self.repeats + beyond % self.repeats),
            _ => self.parameters.get(place),
        }
    }

    /// The least and the greatest number of arguments; no greatest where the last ones repeat.
    pub(super) fn counts(&self) -> (usize, Option<usize>) {
        let count = self.parameters.len();
        let greatest = (self.repeats == 0).then_some(count);
        (count - self.optional.min(count), greatest)
    }
}

/// Types as a message names them.
pub(super) fn one_of(types: &[Type]) -> String {
    if types.len() == ANY.len() {
        return "any".to_owned();
    }
    let names: Vec<&str> = types.iter().map(|known| known.name()).collect();
    names.join(" or ")
}

/// How a function is evaluated.
#[derive(Clone, Copy)]
pub(super) enum How {
    /// A null among the arguments makes the result null.
    Strict(Call),
    /// Sees nulls.
    Lenient(Call),
    /// Reads the clock of the context.
    Clock(Call),
    If,
    Case,
    Coalesce,
    IsBlank,
}

/// Computes a function.
pub(super) type Call = for<'s, 'a> fn(&mut Arguments<'s, 'a>) -> Result<Datum<'a>, Problem>;

/// How many steps an evaluation may still take.
#[derive(Debug)]
pub(super) struct Budget(Cell<u32>);

impl Budget {
    /// One step for each part of an expression is taken at once.
    pub(super) fn new(parts: usize) -> Self {
        let parts = u32::try_from(parts).unwrap_or(u32::MAX);
        Self(Cell::new(MAX_STEPS.saturating_sub(parts)))
    }

    #[inline]
    pub(super) fn spend(&self, steps: u32) -> Result<(), Problem> {
        let left = self.0.get().checked_sub(steps);
        self.0.set(left.ok_or(Problem::TooManySteps)?);
        Ok(())
    }
}

/// A text that is being made, within its limits: one step for each 64 bytes.
pub(super) struct Making<'b> {
    text: String,
    budget: &'b Budget,
}

impl<'b> Making<'b> {
    pub(super) const fn new(budget: &'b Budget) -> Self {
        let text = String::new();
        Self { text, budget }
    }

    pub(super) fn push(&mut self, more: &str) -> Result<(), Problem> {
        if self.text.len() + more.len() > MAX_TEXT_BYTES {
            return Err(Problem::TextTooLong);
        }
        self.text.push_str(more);
        Ok(())
    }

    pub(super) fn done<'a>(self) -> Result<Datum<'a>, Problem> {
        let steps = u32::try_from(self.text.len() / 64).unwrap_or(u32::MAX);
        self.budget.spend(steps)?;
        Ok(Datum::from(self.text))
    }
}

/// The arguments of a call.
pub(super) struct Arguments<'s, 'a> {
    pub(super) values: &'s mut [Datum<'a>],
    pub(super) context: &'s Context,
    pub(super) budget: &'s Budget,
}

impl<'a> Arguments<'_, 'a> {
    fn get(&self, place: usize) -> &Datum<'a> {
        self.values.get(place).unwrap_or(&Datum::Null)
    }

    fn take(&mut self, place: usize) -> Datum<'a> {
        self.values
            .get_mut(place)
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn is_given(&self, place: usize) -> bool {
        place < self.values.len()
    }

    fn text(&self, place: usize) -> Result<&str, Problem> {
        match self.get(place) {
            Datum::Text(text) => Ok(text),
            _ => Err(Problem::WrongType),
        }
    }

    fn taken_text(&mut self, place: usize) -> Result<Cow<'a, str>, Problem> {
        match self.take(place) {
            Datum::Text(text) => Ok(text),
            _ => Err(Problem::WrongType),
        }
    }

    fn number(&self, place: usize) -> Result<Decimal, Problem> {
        match self.get(place) {
            Datum::Number(number) => Ok(*number),
            _ => Err(Problem::WrongType),
        }
    }

    fn whole(&self, place: usize) -> Result<i64, Problem> {
        whole(self.number(place)?)
    }

    fn date(&self, place: usize) -> Result<NaiveDate, Problem> {
        match self.get(place) {
            Datum::Date(date) => Ok(*date),
            _ => Err(Problem::WrongType),
        }
    }

    fn moment(&self, place: usize) -> Result<DateTime<Utc>, Problem> {
        match self.get(place) {
            Datum::DateTime(at) => Ok(*at),
            _ => Err(Problem::WrongType),
        }
    }

    /// The time zone at a place, or that of the context.
    fn zone(&self, place: usize) -> Result<Tz, Problem> {
        if !self.is_given(place) {
            return Ok(self.context.zone.tz());
        }
        zone(self.text(place)?).map(|zone| zone.tz())
    }
}

/// A whole number of 64 bits.
pub(super) fn whole(number: Decimal) -> Result<i64, Problem> {
    if !number.fract().is_zero() {
        return Err(Problem::NotWhole);
    }
    number.to_i64().ok_or(Problem::OutOfRange)
}

fn zone(text: &str) -> Result<TimeZone, Problem> {
    TimeZone::parse(text).map_err(|_| Problem::UnknownTimeZone)
}

/// What is wrong with a constant argument that a parameter takes, as far as the type does not say.
pub(super) fn check_constant(parameter: &Parameter, argument: &Datum<'_>) -> Result<(), Problem> {
    match argument {
        Datum::Text(text) if parameter.name == ZONE.name => zone(text).map(|_| ()),
        Datum::Text(text) if parameter.name == CURRENCY.name => {
            numbers::currency_of(text).map(|_| ())
        }
        _ => Ok(()),
    }
}

/// The function of a name in lower case.
pub(super) fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

const fn parameter(name: &'static str, types: &'static [Type]) -> Parameter {
    Parameter { name, types }
}

const ANY: &[Type] = &[
    Type::Text,
    Type::Number,
    Type::Boolean,
    Type::Date,
    Type::DateTime,
    Type::Money,
    Type::List,
    Type::Id,
];
const AMOUNT: &[Type] = &[Type::Number, Type::Money];
const ORDERED: &[Type] = &[Type::Number, Type::Money, Type::Date, Type::DateTime];
const TEXT: Parameter = parameter("text", &[Type::Text]);
const PART: Parameter = parameter("part", &[Type::Text]);
const COUNT: Parameter = parameter("count", &[Type::Number]);
const VALUE: Parameter = parameter("value", AMOUNT);
const ONE_OF: Parameter = parameter("value", ORDERED);
const DATE: Parameter = parameter("date", &[Type::Date]);
const DAY: Parameter = parameter("date", &[Type::Date, Type::DateTime]);
const MOMENT: Parameter = parameter("moment", &[Type::DateTime]);
const ZONE: Parameter = parameter("zone", &[Type::Text]);
const FROM: Parameter = parameter("from", &[Type::Date]);
const TO: Parameter = parameter("to", &[Type::Date]);
const CURRENCY: Parameter = parameter("currency", &[Type::Text]);
const MONEY: Parameter = parameter("money", &[Type::Money]);
const CONDITION: Parameter = parameter("condition", &[Type::Boolean]);
const ANYTHING: Parameter = parameter("value", ANY);

const fn new(
    name: &'static str,
    parameters: &'static [Parameter],
    returns: Returns,
    how: How,
    help: &'static str,
    example: (&'static str, &'static str),
) -> Function {
    Function {
        name,
        parameters,
        optional: 0,
        repeats: 0,
        returns,
        help,
        example,
        how,
    }
}

impl Function {
    const fn optional(self, optional: usize) -> Self {
        Self { optional, ..self }
    }

    const fn repeating(self, repeats: usize) -> Self {
        Self { repeats, ..self }
    }
}

use How::{Clock, Lenient, Strict};

const OF_TEXT: Returns = Returns::Type(Type::Text);
const OF_NUMBER: Returns = Returns::Type(Type::Number);
const OF_BOOLEAN: Returns = Returns::Type(Type::Boolean);
const OF_DATE: Returns = Returns::Type(Type::Date);

/// All functions, by what they are about.
#[rustfmt::skip]
pub static FUNCTIONS: &[Function] = &[
    // Conditions.
    new("if", &[CONDITION, ANYTHING, ANYTHING], Returns::Common, How::If,
        "the second argument where the condition is true, else the third or null",
        (r#"if(2 > 1, "more", "less")"#, r#""more""#)).optional(1),
    new("case", &[CONDITION, ANYTHING], Returns::Common, How::Case,
        "what stands behind the first condition that is true, else the last argument that stands alone or null",
        (r#"case(1 > 2, "a", 2 > 1, "b", "c")"#, r#""b""#)).repeating(2),
    new("coalesce", &[ANYTHING, ANYTHING], Returns::Common, How::Coalesce,
        "the first argument that is not null", ("coalesce(null, 3)", "3")).repeating(1),
    new("is_blank", &[ANYTHING], OF_BOOLEAN, How::IsBlank,
        "whether the value is null, a text of white space or an empty list", (r#"is_blank(" ")"#, "true")),
    // Texts.
    new("upper", &[TEXT], OF_TEXT, Strict(texts::upper),
        "the text in upper case", (r#"upper("Globex")"#, r#""GLOBEX""#)),
    new("lower", &[TEXT], OF_TEXT, Strict(texts::lower),
        "the text in lower case", (r#"lower("Globex")"#, r#""globex""#)),
    new("trim", &[TEXT], OF_TEXT, Strict(texts::trim),
        "the text without white space at its ends", (r#"trim("  Ada ")"#, r#""Ada""#)),
    new("length", &[TEXT], OF_NUMBER, Strict(texts::length),
        "the number of characters", (r#"length("Zürich")"#, "6")),
    new("left", &[TEXT, COUNT], OF_TEXT, Strict(texts::left),
        "the first characters", (r#"left("Globex", 3)"#, r#""Glo""#)),
    new("right", &[TEXT, COUNT], OF_TEXT, Strict(texts::right),
        "the last characters", (r#"right("Globex", 2)"#, r#""ex""#)),
    new("substring", &[TEXT, parameter("start", &[Type::Number]), COUNT], OF_TEXT, Strict(texts::substring),
        "characters from a start, the first being 1", (r#"substring("Globex", 2, 3)"#, r#""lob""#)).optional(1),
    new("contains", &[parameter("value", &[Type::Text, Type::List]), PART], OF_BOOLEAN, Strict(texts::contains),
        "whether a text has the part in it, or a list the entry", (r#"contains("Globex", "lob")"#, "true")),
    new("starts_with", &[TEXT, PART], OF_BOOLEAN, Strict(texts::starts_with),
        "whether the text begins with the part", (r#"starts_with("Globex", "Glo")"#, "true")),
    new("ends_with", &[TEXT, PART], OF_BOOLEAN, Strict(texts::ends_with),
        "whether the text ends with the part", (r#"ends_with("Globex", "Glo")"#, "false")),
    new("replace", &[TEXT, PART, parameter("by", &[Type::Text])], OF_TEXT, Strict(texts::replace),
        "the text with another part in every place of a part", (r#"replace("a-b-c", "-", "+")"#, r#""a+b+c""#)),
    new("concat", &[TEXT, TEXT], OF_TEXT, Lenient(texts::concat),
        "the texts one behind the other, without those that are null", (r#"concat("Ada", null, "!")"#, r#""Ada!""#)).optional(1).repeating(1),
    new("join", &[parameter("separator", &[Type::Text]), parameter("part", &[Type::Text, Type::List])], OF_TEXT, Lenient(texts::join),
        "the texts and entries of lists with a separator between them, without those that are null",
        (r#"join(", ", "Bern", null, "Basel")"#, r#""Bern, Basel""#)).repeating(1),
    new("count", &[parameter("list", &[Type::List])], OF_NUMBER, Strict(texts::count),
        "the number of entries of a list", ("count(labels)", "2")),
    new("text", &[parameter("value", &[Type::Text, Type::Number, Type::Boolean, Type::Date, Type::DateTime, Type::Money, Type::Id])],
        OF_TEXT, Strict(texts::text), "the value as a text", ("text(12.50)", r#""12.5""#)),
    new("id", &[TEXT], Returns::Type(Type::Id), Strict(texts::id),
        "the id that a text names, to compare references with",
        (r#"text(id("01890a5d-ac96-774b-bcce-b302099a8057"))"#, r#""01890a5d-ac96-774b-bcce-b302099a8057""#)),
    // Numbers.
    new("number", &[TEXT], OF_NUMBER, Strict(numbers::number),
        "the number that a text says", (r#"number("12.50")"#, "12.5")),
    new("abs", &[VALUE], Returns::First, Strict(numbers::abs),
        "the number or amount without its sign", ("abs(-3)", "3")),
    new("round", &[VALUE, parameter("digits", &[Type::Number])], Returns::First, Strict(numbers::round),
        "rounded to 0 to 28 digits behind the point (0 if left out), halves away from zero", ("round(-2.345, 2)", "-2.35")).optional(1),
    new("floor", &[VALUE], Returns::First, Strict(numbers::floor),
        "the greatest whole number that is not greater", ("floor(-2.5)", "-3")),
    new("ceil", &[VALUE], Returns::First, Strict(numbers::ceil),
        "the least whole number that is not less", ("ceil(2.1)", "3")),
    new("min", &[ONE_OF, ONE_OF], Returns::Common, Strict(numbers::min),
        "the least", ("min(3, 1, 2)", "1")).repeating(1),
    new("max", &[ONE_OF, ONE_OF], Returns::Common, Strict(numbers::max),
        "the greatest", (r#"max(date("2026-01-31"), date("2026-02-01"))"#, r#"date("2026-02-01")"#)).repeating(1),
    new("mod", &[parameter("number", &[Type::Number]), parameter("divisor", &[Type::Number])], OF_NUMBER, Strict(numbers::modulo),
        "what a division leaves, with the sign of the first number, as `%`", ("mod(-7, 3)", "-1")),
    new("power", &[parameter("base", &[Type::Number]), parameter("exponent", &[Type::Number])], OF_NUMBER, Strict(numbers::power),
        "the number to the power of a whole number from -64 to 64", ("power(2, 10)", "1024")),
    // Money.
    new("money", &[parameter("amount", &[Type::Number]), CURRENCY], Returns::Type(Type::Money), Strict(numbers::money),
        "an amount in a currency", (r#"text(money(12.5, "EUR"))"#, r#""12.50 EUR""#)),
    new("amount", &[MONEY], OF_NUMBER, Strict(numbers::amount),
        "the number of an amount", (r#"amount(money(12.5, "EUR"))"#, "12.5")),
    new("currency", &[MONEY], OF_TEXT, Strict(numbers::currency),
        "the currency of an amount", (r#"currency(money(12.5, "EUR"))"#, r#""EUR""#)),
    // Dates and moments.
    new("today", &[], OF_DATE, Clock(dates::today),
        "the day of the evaluation, in the tenant's time zone", ("today()", r#"date("2026-03-31")"#)),
    new("now", &[], Returns::Type(Type::DateTime), Clock(dates::now),
        "the moment of the evaluation", ("now()", r#"datetime("2026-03-31T22:30:00+02:00")"#)),
    new("date", &[parameter("value", &[Type::Text, Type::DateTime]), ZONE], OF_DATE, Strict(dates::date),
        "the day that a text names, or that a moment falls on in a time zone (the tenant's if left out)",
        (r#"date(datetime("2026-01-31T23:30:00Z"), "Europe/Berlin")"#, r#"date("2026-02-01")"#)).optional(1),
    new("datetime", &[TEXT], Returns::Type(Type::DateTime), Strict(dates::datetime),
        "the moment that a text names", (r#"hour(datetime("2026-01-31T12:00:00Z"), "UTC")"#, "12")),
    new("year", &[DAY, ZONE], OF_NUMBER, Strict(dates::year),
        "the year, from 1 to 9999", (r#"year(date("2026-01-31"))"#, "2026")).optional(1),
    new("quarter", &[DAY, ZONE], OF_NUMBER, Strict(dates::quarter),
        "the quarter of the year, from 1 to 4", (r#"quarter(date("2026-05-31"))"#, "2")).optional(1),
    new("month", &[DAY, ZONE], OF_NUMBER, Strict(dates::month),
        "the month, from 1 to 12", (r#"month(date("2026-01-31"))"#, "1")).optional(1),
    new("day", &[DAY, ZONE], OF_NUMBER, Strict(dates::day),
        "the day of the month, from 1", (r#"day(date("2026-01-31"))"#, "31")).optional(1),
    new("weekday", &[DAY, ZONE], OF_NUMBER, Strict(dates::weekday),
        "the day of the week, from 1 for Monday to 7 (ISO 8601)", (r#"weekday(date("2026-01-31"))"#, "6")).optional(1),
    new("hour", &[MOMENT, ZONE], OF_NUMBER, Strict(dates::hour),
        "the hour of the day, from 0 to 23", (r#"hour(datetime("2026-01-31T12:05:00Z"), "Asia/Tokyo")"#, "21")).optional(1),
    new("minute", &[MOMENT, ZONE], OF_NUMBER, Strict(dates::minute),
        "the minute of the hour, from 0 to 59", (r#"minute(datetime("2026-01-31T12:05:00Z"))"#, "5")).optional(1),
    new("add_days", &[DAY, parameter("days", &[Type::Number])], Returns::First, Strict(dates::add_days),
        "so many whole days later, or earlier if negative", (r#"add_days(date("2026-01-31"), 1)"#, r#"date("2026-02-01")"#)),
    new("add_months", &[DATE, parameter("months", &[Type::Number])], OF_DATE, Strict(dates::add_months),
        "so many months later or earlier; the last of the month where it has no such day",
        (r#"add_months(date("2026-01-31"), 1)"#, r#"date("2026-02-28")"#)),
    new("add_hours", &[MOMENT, parameter("hours", &[Type::Number])], Returns::Type(Type::DateTime), Strict(dates::add_hours),
        "so many whole hours later, or earlier if negative",
        (r#"add_hours(datetime("2026-01-31T23:00:00Z"), 2)"#, r#"datetime("2026-02-01T01:00:00Z")"#)),
    new("days_between", &[FROM, TO], OF_NUMBER, Strict(dates::days_between),
        "the days from one day to another, negative if that is earlier",
        (r#"days_between(date("2026-01-31"), date("2026-03-01"))"#, "29")),
    new("months_between", &[FROM, TO], OF_NUMBER, Strict(dates::months_between),
        "the full months from one day to another: as many as `add_months` can add and not pass it",
        (r#"months_between(date("2026-01-31"), date("2026-03-30"))"#, "1")),
    new("hours_between", &[parameter("from", &[Type::DateTime]), parameter("to", &[Type::DateTime])], OF_NUMBER, Strict(dates::hours_between),
        "the hours from one moment to another, to the millisecond, negative if that is earlier",
        (r#"hours_between(datetime("2026-01-31T12:00:00Z"), datetime("2026-01-31T13:30:00Z"))"#, "1.5")),
    new("start_of_month", &[DATE], OF_DATE, Strict(dates::start_of_month),
        "the first day of the month", (r#"start_of_month(date("2026-02-14"))"#, r#"date("2026-02-01")"#)),
    new("end_of_month", &[DATE], OF_DATE, Strict(dates::end_of_month),
        "the last day of the month", (r#"end_of_month(date("2026-02-14"))"#, r#"date("2026-02-28")"#)),
];

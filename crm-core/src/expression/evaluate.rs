//! What an expression is worth for one record.

use std::cmp::Ordering;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;

use super::datum::Datum;
use super::fault::{EvaluationError, Problem, Span};
use super::functions::{
    Arguments, Budget, Call, Making, dates_later, days, quotient, remainder, whole,
};
use super::scope::{Dependency, Values};
use super::tree::Operator;
use crate::activities::local_date;
use crate::query::fold_case;
use crate::value::{Money, TimeZone};

/// What an evaluation rests on besides the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The moment that `now()` gives.
    pub now: DateTime<Utc>,
    /// The day that `today()` gives.
    pub today: NaiveDate,
    /// Where the days of moments begin, unless an expression names another time zone.
    pub zone: TimeZone,
}

impl Context {
    /// An evaluation at a moment, whose day is the one in a time zone.
    ///
    /// ```
    /// use chrono::{DateTime, Datelike};
    /// use crm_core::expression::Context;
    /// use crm_core::value::{TextValue, TimeZone};
    ///
    /// let now: DateTime<chrono::Utc> = "2026-01-31T23:30:00Z".parse()?;
    /// assert_eq!(Context::at(now, TimeZone::parse("Europe/Berlin")?).today.day(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn at(now: DateTime<Utc>, zone: TimeZone) -> Self {
        Self {
            now,
            today: local_date(now, zone),
            zone,
        }
    }
}

/// A part of an expression whose type is known.
#[derive(Clone)]
pub(super) enum Code {
    Constant(Datum<'static>),
    /// By its place among the dependencies.
    Field(usize),
    Negate(Box<Code>, Span),
    Not(Box<Code>, Span),
    And(Box<[Code; 2]>, Span),
    Or(Box<[Code; 2]>, Span),
    Compare {
        operator: Operator,
        ignore_case: bool,
        operands: Box<[Code; 2]>,
        span: Span,
    },
    Compute(Operator, Box<[Code; 2]>, Span),
    IsNull {
        value: Box<Code>,
        is_null: bool,
    },
    In {
        value: Box<Code>,
        among: Box<[Code]>,
        is_in: bool,
        ignore_case: bool,
        span: Span,
    },
    InList {
        operands: Box<[Code; 2]>,
        is_in: bool,
        span: Span,
    },
    /// The first value whose condition is true, or the last one.
    Case {
        branches: Box<[[Code; 2]]>,
        otherwise: Box<Code>,
        span: Span,
    },
    Coalesce(Box<[Code]>),
    IsBlank(Box<Code>),
    Call {
        call: Call,
        is_strict: bool,
        arguments: Box<[Code]>,
        span: Span,
    },
}

/// One evaluation.
pub(super) struct Evaluation<'a, V: ?Sized> {
    pub(super) dependencies: &'a [Dependency],
    pub(super) values: &'a V,
    pub(super) context: &'a Context,
    pub(super) budget: Budget,
}

type Evaluated<'a> = Result<Datum<'a>, EvaluationError>;

impl<'a, V: Values + ?Sized> Evaluation<'a, V> {
    pub(super) fn of(&self, code: &'a Code) -> Evaluated<'a> {
        match code {
            Code::Constant(value) => Ok(value.borrowed()),
            Code::Field(place) => Ok(self
                .dependencies
                .get(*place)
                .map_or(Datum::Null, |field| self.values.value(field))),
            Code::And(operands, span) => self.connected(operands, *span, false),
            Code::Or(operands, span) => self.connected(operands, *span, true),
            Code::Compare {
                operator,
                ignore_case,
                operands,
                span,
            } => {
                let [left, right] = &**operands;
                let (left, right) = (self.of(left)?, self.of(right)?);
                compared(*operator, &left, &right, *ignore_case).map_err(at(*span))
            }
            Code::Compute(operator, operands, span) => {
                let [left, right] = &**operands;
                let (left, right) = (self.of(left)?, self.of(right)?);
                computed(*operator, left, right, &self.budget).map_err(at(*span))
            }
            Code::Not(value, span) => {
                let truth = self.of(value)?.truth().map_err(at(*span))?;
                Ok(truth.map_or(Datum::Null, |truth| Datum::Boolean(!truth)))
            }
            Code::Negate(value, span) => negated(self.of(value)?).map_err(at(*span)),
            Code::IsNull { value, is_null } => {
                Ok(Datum::Boolean(self.of(value)?.is_null() == *is_null))
            }
            Code::In {
                value,
                among,
                is_in,
                ignore_case,
                span,
            } => self.is_among(value, among, *is_in, *ignore_case, *span),
            Code::InList {
                operands,
                is_in,
                span,
            } => {
                let [value, list] = &**operands;
                match (self.of(value)?, self.of(list)?) {
                    (Datum::Null, _) | (_, Datum::Null) => Ok(Datum::Null),
                    (Datum::Text(value), Datum::List(list)) => {
                        let found = list.iter().any(|entry| *entry == *value);
                        Ok(Datum::Boolean(found == *is_in))
                    }
                    _ => Err(at(*span)(Problem::WrongType)),
                }
            }
            Code::Case {
                branches,
                otherwise,
                span,
            } => {
                for [condition, value] in branches {
                    if self.of(condition)?.truth().map_err(at(*span))? == Some(true) {
                        return self.of(value);
                    }
                }
                self.of(otherwise)
            }
            Code::Coalesce(values) => {
                for value in values {
                    let value = self.of(value)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Ok(Datum::Null)
            }
            Code::IsBlank(value) => Ok(Datum::Boolean(match self.of(value)? {
                Datum::Null => true,
                Datum::Text(text) => text.trim().is_empty(),
                Datum::List(list) => list.is_empty(),
                _ => false,
            })),
            Code::Call {
                call,
                is_strict,
                arguments,
                span,
            } => self.called(*call, *is_strict, arguments, *span),
        }
    }

    /// `and` and `or` as in SQL: one operand may decide alone, also where the other one is null.
    fn connected(&self, operands: &'a [Code; 2], span: Span, deciding: bool) -> Evaluated<'a> {
        let [left, right] = operands;
        let left = self.of(left)?.truth().map_err(at(span))?;
        if left == Some(deciding) {
            return Ok(Datum::Boolean(deciding));
        }
        let right = self.of(right)?.truth().map_err(at(span))?;
        if right == Some(deciding) {
            return Ok(Datum::Boolean(deciding));
        }
        Ok(match (left, right) {
            (Some(_), Some(_)) => Datum::Boolean(!deciding),
            _ => Datum::Null,
        })
    }

    fn is_among(
        &self,
        value: &'a Code,
        among: &'a [Code],
        is_in: bool,
        ignore_case: bool,
        span: Span,
    ) -> Evaluated<'a> {
        let value = self.of(value)?;
        if value.is_null() {
            return Ok(Datum::Null);
        }
        let mut is_unknown = false;
        for other in among {
            let other = self.of(other)?;
            if other.is_null() {
                is_unknown = true;
            } else if is_same(&value, &other, ignore_case).map_err(at(span))? {
                return Ok(Datum::Boolean(is_in));
            }
        }
        if is_unknown {
            return Ok(Datum::Null);
        }
        Ok(Datum::Boolean(!is_in))
    }

    fn called(
        &self,
        call: Call,
        is_strict: bool,
        arguments: &'a [Code],
        span: Span,
    ) -> Evaluated<'a> {
        let mut few: [Datum<'a>; 3] = [Datum::Null, Datum::Null, Datum::Null];
        let mut many = Vec::new();
        let values = match few.get_mut(..arguments.len()) {
            Some(few) => few,
            None => {
                many.resize(arguments.len(), Datum::Null);
                &mut many
            }
        };
        let mut has_null = false;
        for (value, argument) in values.iter_mut().zip(arguments) {
            *value = self.of(argument)?;
            has_null |= value.is_null();
        }
        if is_strict && has_null {
            return Ok(Datum::Null);
        }
        call(&mut Arguments {
            values,
            context: self.context,
            budget: &self.budget,
        })
        .map_err(at(span))
    }
}

/// Makes a problem the error of a part.
fn at(span: Span) -> impl Fn(Problem) -> EvaluationError {
    move |problem| EvaluationError { problem, span }
}

/// The order of two values of one type that are not null.
pub(super) fn order(left: &Datum<'_>, right: &Datum<'_>) -> Result<Ordering, Problem> {
    Ok(match (left, right) {
        (Datum::Number(left), Datum::Number(right)) => left.cmp(right),
        (Datum::Text(left), Datum::Text(right)) => left.as_bytes().cmp(right.as_bytes()),
        (Datum::Date(left), Datum::Date(right)) => left.cmp(right),
        (Datum::DateTime(left), Datum::DateTime(right)) => left.cmp(right),
        (Datum::Boolean(left), Datum::Boolean(right)) => left.cmp(right),
        (Datum::Id(left), Datum::Id(right)) => left.cmp(right),
        (Datum::Money(left), Datum::Money(right)) => {
            // R-085: amounts of two currencies have no order.
            if left.currency() != right.currency() {
                return Err(Problem::CurrencyMismatch);
            }
            left.amount().cmp(&right.amount())
        }
        _ => return Err(Problem::WrongType),
    })
}

fn is_same(left: &Datum<'_>, right: &Datum<'_>, ignore_case: bool) -> Result<bool, Problem> {
    match (left, right) {
        (Datum::Text(left), Datum::Text(right)) if ignore_case => {
            Ok(if left.is_ascii() && right.is_ascii() {
                left.eq_ignore_ascii_case(right)
            } else {
                fold_case(left) == fold_case(right)
            })
        }
        (Datum::Text(left), Datum::Text(right)) => Ok(left == right),
        _ => Ok(order(left, right)? == Ordering::Equal),
    }
}

#[inline]
fn compared<'a>(
    operator: Operator,
    left: &Datum<'_>,
    right: &Datum<'_>,
    ignore_case: bool,
) -> Result<Datum<'a>, Problem> {
    if left.is_null() || right.is_null() {
        return Ok(Datum::Null);
    }
    let answer = match operator {
        Operator::Equal => is_same(left, right, ignore_case)?,
        Operator::NotEqual => !is_same(left, right, ignore_case)?,
        Operator::Less => order(left, right)?.is_lt(),
        Operator::AtMost => order(left, right)?.is_le(),
        Operator::Greater => order(left, right)?.is_gt(),
        Operator::AtLeast => order(left, right)?.is_ge(),
        _ => return Err(Problem::WrongType),
    };
    Ok(Datum::Boolean(answer))
}

fn negated(value: Datum<'_>) -> Result<Datum<'_>, Problem> {
    match value {
        Datum::Null => Ok(Datum::Null),
        Datum::Number(number) => Ok(Datum::Number(-number)),
        Datum::Money(money) => Ok(Datum::Money(Money::new(-money.amount(), money.currency()))),
        _ => Err(Problem::WrongType),
    }
}

fn number_of(operator: Operator, left: Decimal, right: Decimal) -> Result<Decimal, Problem> {
    match operator {
        Operator::Add => left.checked_add(right).ok_or(Problem::Overflow),
        Operator::Subtract => left.checked_sub(right).ok_or(Problem::Overflow),
        Operator::Multiply => left.checked_mul(right).ok_or(Problem::Overflow),
        Operator::Divide => quotient(left, right),
        Operator::Remainder => remainder(left, right),
        _ => Err(Problem::WrongType),
    }
}

fn computed<'a>(
    operator: Operator,
    left: Datum<'a>,
    right: Datum<'a>,
    budget: &Budget,
) -> Result<Datum<'a>, Problem> {
    match (operator, left, right) {
        (_, Datum::Null, _) | (_, _, Datum::Null) => Ok(Datum::Null),
        (_, Datum::Number(left), Datum::Number(right)) => {
            number_of(operator, left, right).map(Datum::Number)
        }
        (Operator::Join, Datum::Text(left), Datum::Text(right)) => {
            let mut made = Making::new(budget);
            made.push(&left)?;
            made.push(&right)?;
            made.done()
        }
        (
            Operator::Add | Operator::Subtract | Operator::Divide,
            Datum::Money(left),
            Datum::Money(right),
        ) => {
            // R-085
            if left.currency() != right.currency() {
                return Err(Problem::CurrencyMismatch);
            }
            let number = number_of(operator, left.amount(), right.amount())?;
            Ok(match operator {
                // How many times one amount is the other.
                Operator::Divide => Datum::Number(number),
                _ => Datum::Money(Money::new(number, left.currency())),
            })
        }
        (Operator::Multiply | Operator::Divide, Datum::Money(money), Datum::Number(by)) => {
            let number = number_of(operator, money.amount(), by)?;
            Ok(Datum::Money(Money::new(number, money.currency())))
        }
        (Operator::Multiply, Datum::Number(by), Datum::Money(money)) => {
            let number = number_of(operator, money.amount(), by)?;
            Ok(Datum::Money(Money::new(number, money.currency())))
        }
        (Operator::Add, Datum::Date(date), Datum::Number(days)) => {
            dates_later(date, whole(days)?).map(Datum::Date)
        }
        (Operator::Subtract, Datum::Date(date), Datum::Number(days)) => {
            dates_later(date, whole(-days)?).map(Datum::Date)
        }
        (Operator::Subtract, Datum::Date(to), Datum::Date(from)) => {
            Ok(Datum::Number(days(from, to)))
        }
        _ => Err(Problem::WrongType),
    }
}

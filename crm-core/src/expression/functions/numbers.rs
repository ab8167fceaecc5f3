//! Functions over numbers and amounts of money.

use std::cmp::Ordering;

use rust_decimal::{Decimal, RoundingStrategy};

use super::Arguments;
use crate::expression::MAX_EXPONENT;
use crate::expression::datum::Datum;
use crate::expression::evaluate::order;
use crate::expression::fault::Problem;
use crate::value::{Currency, Money, TextValue};

type Given<'a> = Result<Datum<'a>, Problem>;

/// Computes with the number of a number or amount, whose currency stays.
fn with_number<'a>(
    arguments: &Arguments<'_, 'a>,
    compute: impl FnOnce(Decimal) -> Decimal,
) -> Given<'a> {
    match arguments.get(0) {
        Datum::Number(number) => Ok(Datum::Number(compute(*number))),
        Datum::Money(money) => {
            let amount = compute(money.amount());
            Ok(Datum::Money(Money::new(amount, money.currency())))
        }
        _ => Err(Problem::WrongType),
    }
}

pub(super) fn currency_of(text: &str) -> Result<Currency, Problem> {
    Currency::parse(text).map_err(|_| Problem::UnknownCurrency)
}

pub(super) fn number<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let text = arguments.text(0)?.trim();
    // Digits, a sign and a point: not the underscores that the library would take.
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.'));
    match Decimal::from_str_exact(text) {
        Ok(number) if is_plain => Ok(Datum::Number(number)),
        _ => Err(Problem::NotANumber),
    }
}

pub(super) fn abs<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    with_number(arguments, |number| number.abs())
}

pub(super) fn round<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let digits = match arguments.is_given(1) {
        true => u32::try_from(arguments.whole(1)?).map_err(|_| Problem::OutOfRange)?,
        false => 0,
    };
    if digits > Decimal::MAX_SCALE {
        return Err(Problem::OutOfRange);
    }
    let strategy = RoundingStrategy::MidpointAwayFromZero;
    with_number(arguments, |number| {
        number.round_dp_with_strategy(digits, strategy)
    })
}

pub(super) fn floor<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    with_number(arguments, |number| number.floor())
}

pub(super) fn ceil<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    with_number(arguments, |number| number.ceil())
}

fn best<'a>(arguments: &mut Arguments<'_, 'a>, wanted: Ordering) -> Given<'a> {
    let mut best = arguments.take(0);
    for value in arguments.values.iter_mut().skip(1) {
        if order(value, &best)? == wanted {
            best = std::mem::take(value);
        }
    }
    Ok(best)
}

pub(super) fn min<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    best(arguments, Ordering::Less)
}

pub(super) fn max<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    best(arguments, Ordering::Greater)
}

/// What a division leaves.
pub(in crate::expression) fn remainder(left: Decimal, right: Decimal) -> Result<Decimal, Problem> {
    if right.is_zero() {
        return Err(Problem::DivisionByZero);
    }
    left.checked_rem(right).ok_or(Problem::Overflow)
}

/// A quotient, to the 28 digits that a decimal holds.
pub(in crate::expression) fn quotient(left: Decimal, right: Decimal) -> Result<Decimal, Problem> {
    if right.is_zero() {
        return Err(Problem::DivisionByZero);
    }
    left.checked_div(right).ok_or(Problem::Overflow)
}

pub(super) fn modulo<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    remainder(arguments.number(0)?, arguments.number(1)?).map(Datum::Number)
}

pub(super) fn power<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let (base, exponent) = (arguments.number(0)?, arguments.whole(1)?);
    if exponent.unsigned_abs() > MAX_EXPONENT {
        return Err(Problem::OutOfRange);
    }
    let mut product = Decimal::ONE;
    for _ in 0..exponent.unsigned_abs() {
        product = product.checked_mul(base).ok_or(Problem::Overflow)?;
    }
    if exponent < 0 {
        product = quotient(Decimal::ONE, product)?;
    }
    Ok(Datum::Number(product))
}

pub(super) fn money<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let currency = currency_of(arguments.text(1)?)?;
    let amount = arguments.number(0)?;
    Ok(Datum::Money(Money::new(amount, currency)))
}

pub(super) fn amount<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    match arguments.get(0) {
        Datum::Money(money) => Ok(Datum::Number(money.amount())),
        _ => Err(Problem::WrongType),
    }
}

pub(super) fn currency<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    match arguments.get(0) {
        Datum::Money(money) => Ok(Datum::from(money.currency().code())),
        _ => Err(Problem::WrongType),
    }
}

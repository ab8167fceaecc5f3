//! What a line comes to, and what lines come to together: arithmetic over values, exact until it is
//! rounded once.

use rust_decimal::Decimal;

use crate::schema::{FieldType, ValueRef};
use crate::value::{Currency, Money, Percent};

/// How far a deal's amount may be from the sum of its lines: R-040.
pub(super) const TOLERANCE: Decimal = Decimal::from_parts(1, 0, 0, false, 2);

/// What is taken off a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discount {
    /// Nothing.
    #[default]
    None,
    /// A part of quantity × price.
    Percent(Percent),
    /// An amount in the currency of the deal.
    Amount(Decimal),
    /// First the part of quantity × price, then the amount.
    PercentThenAmount(Percent, Decimal),
}

/// Why lines have no total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TotalFault {
    /// A number has more digits than an amount holds: fifteen in front of the point.
    #[error("the total has too many digits")]
    Overflow,
    /// More is taken off than there is.
    #[error("the discount is greater than quantity times price")]
    Negative,
}

/// The total of a line (R-041): quantity × price, less the percentage of quantity × price, less the
/// amount, rounded once to the minor units of the currency, halves to the even neighbour.
///
/// A currency without minor units, such as gold, is rounded to the four decimals of an amount.
///
/// ```
/// use crm_core::deals::{Discount, TotalFault, line_total};
/// use crm_core::value::{Currency, Percent};
/// use rust_decimal::Decimal;
///
/// let price = Decimal::new(99_955, 3); // 99.955
/// let both = Discount::PercentThenAmount(Percent::from_whole(10)?, 20.into());
/// // 3 × 99.955 = 299.865; less 29.9865, less 20: 249.8785
/// let total = line_total(3.into(), price, both, Currency::EUR)?;
/// assert_eq!(total, Decimal::new(24_988, 2));
/// assert_eq!(line_total(3.into(), price, both, Currency::JPY)?, 250.into());
///
/// let too_much = line_total(1.into(), price, Discount::Amount(100.into()), Currency::EUR);
/// assert_eq!(too_much, Err(TotalFault::Negative));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`TotalFault`].
pub fn line_total(
    quantity: Decimal,
    unit_price: Decimal,
    discount: Discount,
    currency: Currency,
) -> Result<Decimal, TotalFault> {
    let gross = quantity.checked_mul(unit_price).and_then(fitting);
    // Fifteen digits and eight decimals, so that what follows is exact.
    let gross = gross.ok_or(TotalFault::Overflow)?;
    let (percent, amount) = match discount {
        Discount::None => (Percent::ZERO, Decimal::ZERO),
        Discount::Percent(percent) => (percent, Decimal::ZERO),
        Discount::Amount(amount) => (Percent::ZERO, amount),
        Discount::PercentThenAmount(percent, amount) => (percent, amount),
    };
    let net = gross
        .checked_sub(percent.of(gross))
        .and_then(|left| left.checked_sub(amount))
        .ok_or(TotalFault::Overflow)?;
    if net.is_sign_negative() && !net.is_zero() {
        return Err(TotalFault::Negative);
    }
    let total = match currency.minor_units() {
        Some(_) => Money::new(net, currency).rounded().amount(),
        None => net.round_dp(4),
    };
    fitting(total.normalize()).ok_or(TotalFault::Overflow)
}

/// The exact sum of the totals of lines.
///
/// # Errors
/// [`TotalFault::Overflow`].
pub fn sum_of_lines(totals: impl IntoIterator<Item = Decimal>) -> Result<Decimal, TotalFault> {
    let mut sum = Decimal::ZERO;
    for total in totals {
        let next = sum.checked_add(total).and_then(fitting);
        sum = next.ok_or(TotalFault::Overflow)?;
    }
    Ok(sum)
}

/// The number, if an amount has room for what stands in front of its point.
fn fitting(number: Decimal) -> Option<Decimal> {
    let whole = ValueRef::Decimal(number.trunc());
    FieldType::decimal().check(&whole).ok().map(|()| number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::TextValue;

    fn number(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn percent(text: &str) -> Percent {
        text.parse().unwrap()
    }

    fn total(quantity: &str, price: &str, discount: Discount, currency: &str) -> String {
        let currency = Currency::parse(currency).unwrap();
        match line_total(number(quantity), number(price), discount, currency) {
            Ok(total) => total.to_string(),
            Err(fault) => format!("{fault:?}"),
        }
    }

    /// R-041.
    #[test]
    fn a_line_is_rounded_once_to_the_minor_units_of_its_currency() {
        let none = Discount::None;
        let cases = [
            ("3", "0.3333", none, "EUR", "1"),
            ("1", "0.125", none, "EUR", "0.12"),
            ("1", "0.135", none, "EUR", "0.14"),
            ("3", "99.5", none, "JPY", "298"),
            ("1", "1.2345", none, "KWD", "1.234"),
            ("1", "1.2345", none, "CLF", "1.2345"),
            ("0.3", "0.0001", none, "XAU", "0"),
            (
                "2.5",
                "10",
                Discount::Percent(percent("33.33")),
                "EUR",
                "16.67",
            ),
            ("2", "10", Discount::Amount(number("0.005")), "EUR", "20"),
            (
                "1",
                "100",
                Discount::PercentThenAmount(percent("50"), number("50")),
                "EUR",
                "0",
            ),
            (
                "1",
                "100",
                Discount::PercentThenAmount(percent("50"), number("50.0001")),
                "EUR",
                "Negative",
            ),
            ("1", "100", Discount::Percent(percent("100")), "EUR", "0"),
            ("100000000000", "10000", none, "EUR", "Overflow"),
            (
                "99999999999",
                "999999999999999",
                Discount::Percent(percent("100")),
                "EUR",
                "Overflow",
            ),
            ("1", "999999999999999.9999", none, "EUR", "Overflow"),
        ];
        for (quantity, price, discount, currency, wanted) in cases {
            let found = total(quantity, price, discount, currency);
            assert_eq!(found, wanted, "{quantity} x {price} {currency}");
        }
    }

    #[test]
    fn a_sum_is_exact_or_refused() {
        let cents = vec![number("0.01"); 1_000];
        assert_eq!(sum_of_lines(cents), Ok(number("10")));
        assert_eq!(sum_of_lines([]), Ok(Decimal::ZERO));
        let most = number("999999999999999");
        assert_eq!(sum_of_lines([most]), Ok(most));
        assert_eq!(
            sum_of_lines([most, Decimal::ONE]),
            Err(TotalFault::Overflow)
        );
    }

    #[test]
    fn the_tolerance_is_one_hundredth() {
        assert_eq!(TOLERANCE, number("0.01"));
    }

    fn any_decimal() -> impl Strategy<Value = Decimal> {
        (any::<i128>(), 0..=28_u32, 0..=96_u32).prop_map(|(mantissa, scale, cut)| {
            Decimal::try_from_i128_with_scale((mantissa >> 32) >> cut.min(95), scale).unwrap()
        })
    }

    fn any_discount() -> impl Strategy<Value = Discount> {
        let percent =
            (0..=10_000_i64).prop_map(|part| Percent::new(Decimal::new(part, 2)).unwrap());
        prop_oneof![
            Just(Discount::None),
            percent.clone().prop_map(Discount::Percent),
            any_decimal().prop_map(Discount::Amount),
            (percent, any_decimal())
                .prop_map(|(percent, amount)| Discount::PercentThenAmount(percent, amount)),
        ]
    }

    fn currencies() -> impl Strategy<Value = Currency> {
        proptest::sample::select(vec!["EUR", "JPY", "KWD", "CLF", "XAU"])
            .prop_map(|code| Currency::parse(code).unwrap())
    }

    proptest! {
        /// R-041: no input makes it panic, and a total is one that can be stored.
        #[test]
        fn extremes_are_faults(
            quantity in any_decimal(),
            price in any_decimal(),
            discount in any_discount(),
            currency in currencies(),
        ) {
            if let Ok(total) = line_total(quantity, price, discount, currency) {
                prop_assert!(total >= Decimal::ZERO);
                prop_assert!(total.scale() <= currency.minor_units().unwrap_or(4));
                prop_assert!(FieldType::decimal().check(&ValueRef::Decimal(total)).is_ok());
            }
        }

        /// R-041, with whole numbers: the total is less than half a minor unit off the exact one.
        #[test]
        fn a_total_is_the_formula_rounded(
            quantity in 1..=1_000_000_i128,
            price in 0..=10_000_000_000_i128,
            part in 0..=10_000_i128,
            amount in 0..=1_000_000_i128,
            currency in currencies(),
        ) {
            // Quantity with two decimals, price with four, percentage with two, amount with four.
            let decimal = |mantissa, scale| Decimal::from_i128_with_scale(mantissa, scale);
            let discount = Discount::PercentThenAmount(
                Percent::new(decimal(part, 2)).unwrap(),
                decimal(amount, 4),
            );
            let total = line_total(decimal(quantity, 2), decimal(price, 4), discount, currency);
            // In units of ten to the minus ten.
            let exact = quantity * price * (10_000 - part) - amount * 1_000_000;
            match total {
                Ok(total) => {
                    let digits = currency.minor_units().unwrap_or(4);
                    let unit = 10_i128.pow(10 - digits);
                    let scaled = total * Decimal::from(10_000_000_000_i64);
                    let found = scaled.mantissa()
                        / 10_i128.pow(scaled.scale());
                    prop_assert!((found - exact).abs() * 2 <= unit, "{found} and {exact}");
                }
                Err(fault) => {
                    prop_assert_eq!(fault, TotalFault::Negative);
                    prop_assert!(exact < 0);
                }
            }
        }

        /// Sums do not depend on the order of the lines.
        #[test]
        fn the_order_of_lines_does_not_matter(
            mut totals in proptest::collection::vec(0..=1_000_000_i64, 0..20),
        ) {
            let sum = |totals: &[i64]| {
                sum_of_lines(totals.iter().map(|cents| Decimal::new(*cents, 2))).unwrap()
            };
            let before = sum(&totals);
            totals.reverse();
            prop_assert_eq!(sum(&totals), before);
            let cents: i64 = totals.iter().sum();
            prop_assert_eq!(before, Decimal::new(cents, 2));
        }
    }
}

//! [`ExchangeRates`]: which rate counts on a day, and what an amount is worth by it.

use std::collections::{BTreeMap, HashMap};

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::Serialize;

use super::ExchangeRate;
use crate::error::{Error, FieldError, RuleViolation, codes};
use crate::value::{Currency, Money, Totals, ValueError};

/// The most decimals of a rate that is worked out from others: what is left of the widest
/// `Decimal` beside fourteen digits in front of the point.
const DECIMALS: u32 = 14;

/// The exchange rates of a tenant, with answers to which one counts on a day; see the
/// [module](super).
///
/// ```
/// use crm_core::currencies::{ExchangeRate, ExchangeRates, Via};
/// use crm_core::value::{Currency, Money};
/// use rust_decimal::Decimal;
///
/// let day = |text: &str| text.parse().unwrap();
/// let rate = |to, on, rate| ExchangeRate::new(Currency::EUR, to, day(on), rate);
/// let rates = [
///     rate(Currency::USD, "2026-01-01", Decimal::new(125, 2)),
///     rate(Currency::USD, "2026-03-01", Decimal::new(150, 2)),
///     rate(Currency::JPY, "2026-01-01", Decimal::from(160)),
/// ];
/// let rates = ExchangeRates::new(Currency::EUR, &rates);
///
/// let price = Money::new(100.into(), Currency::EUR);
/// let in_february = rates.convert(price, Currency::USD, day("2026-02-28"))?;
/// assert_eq!(in_february.money.to_string(), "125.00 USD");
///
/// // There is no rate from dollars to yen, so both are reckoned in euros.
/// let price = Money::new(100.into(), Currency::USD);
/// let yen = rates.convert(price, Currency::JPY, day("2026-02-28"))?;
/// assert_eq!(yen.money.to_string(), "12800 JPY");
/// assert_eq!(yen.via, Via::Base(Currency::EUR));
///
/// assert!(rates.convert(price, Currency::CHF, day("2026-02-28")).is_err());
/// # Ok::<(), crm_core::currencies::ConversionError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeRates {
    base: Currency,
    rates: HashMap<(Currency, Currency), BTreeMap<NaiveDate, Decimal>>,
}

/// A rate that counts on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// The currency of which there is one unit.
    pub from: Currency,
    /// The currency in which that unit is worth the rate.
    pub to: Currency,
    /// How many units; at most fourteen decimals, greater than zero.
    pub rate: Decimal,
    /// Since when it holds; of two legs the older day. For one currency the day asked for.
    pub date: NaiveDate,
    /// How it was found.
    pub via: Via,
}

/// How a rate was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// Both currencies are the same.
    Same,
    /// It was set for this pair.
    Direct,
    /// It was set for the opposite direction, and turned around.
    Inverse,
    /// By way of the tenant's base currency.
    Base(Currency),
    /// It was kept with deals when they closed; see
    /// [`Deal::locked_rate`](crate::deals::Deal::locked_rate).
    Locked,
}

/// An amount in another currency, and the rate that it was converted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Converted {
    /// What was converted.
    pub from: Money,
    /// What it is worth, in whole minor units; an amount that stays in its currency is as it was.
    pub money: Money,
    /// The rate: `money` is `from` times this, rounded once.
    pub rate: Decimal,
    /// Since when the rate holds.
    pub rate_date: NaiveDate,
    /// How the rate was found.
    pub via: Via,
}

/// Sums of several currencies told in one, each part with its rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConvertedTotals {
    /// The exact sum of the converted parts.
    pub total: Money,
    /// The sum of each currency, in the order of the codes, converted and rounded once.
    pub parts: Vec<Converted>,
}

/// There is no rate between two currencies on a day, not by way of the base currency either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("there is no exchange rate from {from} to {to} on {on}; set one")]
pub struct MissingRate {
    /// The currency to convert from.
    pub from: Currency,
    /// The currency to convert to.
    pub to: Currency,
    /// The day.
    pub on: NaiveDate,
}

/// Why an amount was not converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConversionError {
    /// There is no rate.
    #[error(transparent)]
    MissingRate(#[from] MissingRate),
    /// The result, or the rate between the two currencies, has more digits than a number holds.
    #[error("the amount in {to} has too many digits")]
    OutOfRange {
        /// The currency to convert to.
        to: Currency,
    },
}

impl From<MissingRate> for Error {
    fn from(missing: MissingRate) -> Self {
        RuleViolation::new("missing_rate", "R-085", missing.to_string()).into()
    }
}

impl From<ConversionError> for Error {
    fn from(error: ConversionError) -> Self {
        match error {
            ConversionError::MissingRate(missing) => missing.into(),
            ConversionError::OutOfRange { .. } => {
                FieldError::new("amount", codes::OUT_OF_RANGE, error.to_string()).into()
            }
        }
    }
}

/// A rate between two currencies before it is rounded.
#[derive(Clone, Copy)]
struct Leg {
    rate: Decimal,
    date: NaiveDate,
    via: Via,
}

impl ExchangeRates {
    /// Rates of a tenant that reckons in `base`. Of several for one pair and day the last counts;
    /// what is not greater than zero is no rate.
    pub fn new<'r>(base: Currency, rates: impl IntoIterator<Item = &'r ExchangeRate>) -> Self {
        let mut known: HashMap<_, BTreeMap<_, _>> = HashMap::new();
        for rate in rates {
            if rate.rate > Decimal::ZERO && rate.from_currency != rate.to_currency {
                known
                    .entry((rate.from_currency, rate.to_currency))
                    .or_default()
                    .insert(rate.effective_date, rate.rate);
            }
        }
        Self { base, rates: known }
    }

    /// The currency in which the tenant reckons.
    #[must_use]
    pub const fn base(&self) -> Currency {
        self.base
    }

    /// The rate that counts on a day.
    ///
    /// # Errors
    /// [`ConversionError::MissingRate`]; [`ConversionError::OutOfRange`] if two legs make a rate of
    /// more digits than a number holds.
    pub fn rate(
        &self,
        from: Currency,
        to: Currency,
        on: NaiveDate,
    ) -> Result<Rate, ConversionError> {
        let out_of_range = ConversionError::OutOfRange { to };
        let leg = match self.leg(from, to, on) {
            Some(leg) => leg,
            None => {
                let by_base = self
                    .leg(from, self.base, on)
                    .zip(self.leg(self.base, to, on));
                let (first, second) = by_base.ok_or(MissingRate { from, to, on })?;
                let rate = first.rate.checked_mul(second.rate);
                Leg {
                    rate: rate.ok_or(out_of_range.clone())?,
                    date: first.date.min(second.date),
                    via: Via::Base(self.base),
                }
            }
        };
        let rate = leg.rate.round_dp(DECIMALS).normalize();
        if rate.is_zero() {
            return Err(out_of_range);
        }
        Ok(Rate {
            from,
            to,
            rate,
            date: leg.date,
            via: leg.via,
        })
    }

    /// The rate of a pair, in this direction or the other.
    fn leg(&self, from: Currency, to: Currency, on: NaiveDate) -> Option<Leg> {
        if from == to {
            return Some(Leg {
                rate: Decimal::ONE,
                date: on,
                via: Via::Same,
            });
        }
        let newest = |from, to| {
            let (date, rate) = self.rates.get(&(from, to))?.range(..=on).next_back()?;
            Some((*date, *rate))
        };
        if let Some((date, rate)) = newest(from, to) {
            let via = Via::Direct;
            return Some(Leg { rate, date, via });
        }
        let (date, rate) = newest(to, from)?;
        Some(Leg {
            rate: Decimal::ONE.checked_div(rate)?,
            date,
            via: Via::Inverse,
        })
    }

    /// An amount in another currency on a day, in whole minor units.
    ///
    /// # Errors
    /// [`ConversionError`].
    pub fn convert(
        &self,
        money: Money,
        to: Currency,
        on: NaiveDate,
    ) -> Result<Converted, ConversionError> {
        let rate = self.rate(money.currency(), to, on)?;
        rate.apply(money)
    }
}

impl Rate {
    /// An amount of the currency that the rate is from, converted with it.
    ///
    /// # Errors
    /// [`ConversionError::OutOfRange`].
    pub fn apply(&self, money: Money) -> Result<Converted, ConversionError> {
        let to = self.to;
        let amount = money.amount().checked_mul(self.rate);
        let amount = amount.ok_or(ConversionError::OutOfRange { to })?;
        let worth = match self.via {
            // What is not converted is not rounded either.
            Via::Same => money,
            _ => Money::new(amount, to).rounded(),
        };
        Ok(Converted {
            from: money,
            money: worth,
            rate: self.rate,
            rate_date: self.date,
            via: self.via,
        })
    }
}

impl ConvertedTotals {
    /// The sum of converted parts, all in the currency `to`.
    pub(crate) fn of(to: Currency, parts: Vec<Converted>) -> Result<Self, ConversionError> {
        let mut total = Money::new(Decimal::ZERO, to);
        for part in &parts {
            let sum = total.checked_add(&part.money);
            total = sum.map_err(|_: ValueError| ConversionError::OutOfRange { to })?;
        }
        Ok(Self { total, parts })
    }
}

impl Totals {
    /// The sums in one currency, by the rates that count on a day. Each sum is converted and rounded
    /// once, and names its rate (R-085).
    ///
    /// # Errors
    /// [`ConversionError`], for the first currency at fault.
    ///
    /// ```
    /// use crm_core::currencies::{ExchangeRate, ExchangeRates};
    /// use crm_core::value::{Currency, Money, Totals};
    /// use rust_decimal::Decimal;
    ///
    /// let day = "2026-01-01".parse().unwrap();
    /// let rate = ExchangeRate::new(Currency::EUR, Currency::USD, day, Decimal::new(125, 2));
    /// let rates = ExchangeRates::new(Currency::USD, [&rate]);
    /// let amount = |number: i64, currency| Money::new(number.into(), currency);
    /// let totals = Totals::of([amount(10, Currency::USD), amount(4, Currency::EUR)])?;
    ///
    /// let converted = totals.converted(&rates, Currency::USD, day)?;
    /// assert_eq!(converted.total.to_string(), "15.00 USD");
    /// assert_eq!(converted.parts[0].rate, Decimal::new(125, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn converted(
        &self,
        rates: &ExchangeRates,
        to: Currency,
        on: NaiveDate,
    ) -> Result<ConvertedTotals, ConversionError> {
        let parts = self.iter().map(|money| rates.convert(money, to, on));
        ConvertedTotals::of(to, parts.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::TextValue;

    const USD: Currency = Currency::USD;
    const EUR: Currency = Currency::EUR;
    const GBP: Currency = Currency::GBP;
    const JPY: Currency = Currency::JPY;
    const CHF: Currency = Currency::CHF;

    fn day(number: u64) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 1, 1).unwrap() + chrono::Days::new(number)
    }

    fn rate(from: Currency, to: Currency, on: u64, rate: &str) -> ExchangeRate {
        ExchangeRate::new(from, to, day(on), rate.parse::<Decimal>().unwrap())
    }

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    #[test]
    fn the_newest_on_or_before_the_day_counts() {
        let rates = [
            rate(EUR, USD, 10, "1.1"),
            rate(EUR, USD, 20, "1.2"),
            rate(EUR, USD, 20, "1.25"),
        ];
        let rates = ExchangeRates::new(USD, &rates);
        let at = |on| rates.rate(EUR, USD, day(on)).map(|rate| rate.rate);
        assert!(matches!(
            at(9),
            Err(ConversionError::MissingRate(missing))
                if missing == MissingRate { from: EUR, to: USD, on: day(9) }
        ));
        for (on, wanted) in [(10, "1.1"), (19, "1.1"), (20, "1.25"), (4_000, "1.25")] {
            assert_eq!(at(on).unwrap().to_string(), wanted, "day {on}");
        }
        assert_eq!(rates.rate(EUR, USD, day(25)).unwrap().date, day(20));
    }

    #[test]
    fn the_other_direction_counts_where_there_is_no_rate_in_this_one() {
        let rates = [rate(EUR, USD, 0, "1.25"), rate(USD, EUR, 10, "0.5")];
        let rates = ExchangeRates::new(JPY, &rates);
        let early = rates.convert(money("125 USD"), EUR, day(5)).unwrap();
        assert_eq!((early.money, early.via), (money("100 EUR"), Via::Inverse));
        let late = rates.convert(money("125 USD"), EUR, day(10)).unwrap();
        assert_eq!((late.money, late.via), (money("62.50 EUR"), Via::Direct));
        // A newer rate of the other direction does not replace one of this.
        let direct = rates.convert(money("100 EUR"), USD, day(10)).unwrap();
        assert_eq!(direct.via, Via::Direct);
        assert_eq!(direct.rate_date, day(0));
    }

    #[test]
    fn two_currencies_meet_in_the_base_currency_only() {
        let rates = [
            rate(USD, EUR, 3, "0.8"),
            rate(USD, JPY, 7, "150"),
            rate(GBP, CHF, 0, "1.1"),
        ];
        let by = |base| ExchangeRates::new(base, &rates);
        let yen = by(USD).convert(money("8 EUR"), JPY, day(9)).unwrap();
        assert_eq!(yen.money, money("1500 JPY"));
        assert_eq!(yen.via, Via::Base(USD));
        assert_eq!(yen.rate_date, day(3), "the older of both legs");
        assert!(by(CHF).convert(money("8 EUR"), JPY, day(9)).is_err());
        // One leg is not enough, nor are two that do not meet.
        assert!(by(USD).rate(EUR, CHF, day(9)).is_err());
        assert!(by(USD).rate(EUR, JPY, day(6)).is_err());
    }

    #[test]
    fn what_is_not_converted_stays_as_it_is() {
        let rates = ExchangeRates::new(USD, []);
        let same = rates.convert(money("1.2345 EUR"), EUR, day(0)).unwrap();
        assert_eq!(same.money, money("1.2345 EUR"));
        assert_eq!((same.rate, same.via), (Decimal::ONE, Via::Same));
    }

    #[test]
    fn results_are_rounded_once_to_minor_units() {
        let kuwait = Currency::parse("KWD").unwrap();
        let rates = [
            rate(USD, JPY, 0, "150.5"),
            rate(USD, kuwait, 0, "0.3071234567"),
        ];
        let rates = ExchangeRates::new(USD, &rates);
        let yen = rates.convert(money("1 USD"), JPY, day(0)).unwrap();
        assert_eq!(yen.money.to_string(), "150 JPY");
        let dinars = rates.convert(money("10 USD"), kuwait, day(0)).unwrap();
        assert_eq!(dinars.money.to_string(), "3.071 KWD");
    }

    #[test]
    fn a_missing_rate_names_the_pair_and_the_day() {
        let totals = Totals::of([money("1 USD"), money("1 EUR")]).unwrap();
        let error = totals.converted(&ExchangeRates::new(USD, []), USD, day(0));
        let error = Error::from(error.unwrap_err());
        assert_eq!(error.code(), "missing_rate");
        assert!(error.to_string().contains("from EUR to USD on 2026-01-01"));
    }

    fn currencies() -> impl Strategy<Value = Currency> {
        proptest::sample::select(vec![USD, EUR, GBP, JPY, CHF])
    }

    /// Any rate that can be stored: up to twelve digits in front of the point, ten behind it.
    fn any_rate() -> impl Strategy<Value = ExchangeRate> {
        (
            currencies(),
            currencies(),
            0..40_u64,
            1..=9_999_999_999_i64,
            0..=10_u32,
        )
            .prop_map(|(from, to, on, mantissa, scale)| {
                ExchangeRate::new(from, to, day(on), Decimal::new(mantissa, scale))
            })
    }

    fn any_amount() -> impl Strategy<Value = Decimal> {
        (any::<i128>(), 0..=28_u32).prop_map(|(mantissa, scale)| {
            Decimal::try_from_i128_with_scale(mantissa >> 32, scale).unwrap()
        })
    }

    proptest! {
        /// R-085: whatever is asked, the answer is an amount in the currency asked for, the rate
        /// times the amount, or a typed refusal.
        #[test]
        fn converting_never_panics_and_names_the_rate(
            rates in proptest::collection::vec(any_rate(), 0..12),
            base in currencies(),
            from in currencies(),
            to in currencies(),
            on in 0..50_u64,
            amount in any_amount(),
        ) {
            let rates = ExchangeRates::new(base, &rates);
            let asked = Money::new(amount, from);
            if let Ok(converted) = rates.convert(asked, to, day(on)) {
                prop_assert_eq!(converted.money.currency(), to);
                prop_assert!(converted.rate > Decimal::ZERO);
                prop_assert!(converted.rate_date <= day(on));
                if from != to {
                    let exact = amount.checked_mul(converted.rate).unwrap();
                    prop_assert_eq!(converted.money, Money::new(exact, to).rounded());
                }
            }
        }

        /// A rate in the other direction is the inverse, as exactly as fourteen decimals are.
        #[test]
        fn there_and_back_is_the_same(mantissa in 1_000..=9_999_999_i64, cents in 0..=1_000_000_i64) {
            let rate = ExchangeRate::new(EUR, USD, day(0), Decimal::new(mantissa, 4));
            let rates = ExchangeRates::new(USD, [&rate]);
            let amount = Money::new(Decimal::new(cents, 2), EUR);
            let there = rates.convert(amount, USD, day(0)).unwrap();
            let back = rates.convert(there.money, EUR, day(0)).unwrap();
            // Half a cent of a dollar, in euros, and half a cent.
            let limit = Decimal::new(5, 3) * back.rate + Decimal::new(5, 3) + Decimal::new(1, 6);
            prop_assert!((back.money.amount() - amount.amount()).abs() <= limit);
        }

        /// The total is the exact sum of its parts, and no part is left out.
        #[test]
        fn totals_equal_their_parts(
            amounts in proptest::collection::vec((currencies(), -1_000_000..1_000_000_i64), 0..8),
        ) {
            let rates = [
                rate(USD, EUR, 0, "0.9123456789"),
                rate(JPY, USD, 0, "0.0067"),
                rate(USD, GBP, 0, "0.79"),
                rate(CHF, USD, 0, "1.13"),
            ];
            let rates = ExchangeRates::new(USD, &rates);
            let amounts = amounts.into_iter().map(|(currency, number)| Money::new(Decimal::new(number, 2), currency));
            let totals = Totals::of(amounts).unwrap();
            let converted = totals.converted(&rates, EUR, day(3)).unwrap();
            prop_assert_eq!(converted.parts.len(), totals.len());
            let sum: Decimal = converted.parts.iter().map(|part| part.money.amount()).sum();
            prop_assert_eq!(converted.total, Money::new(sum, EUR));
            for (part, money) in converted.parts.iter().zip(totals.iter()) {
                prop_assert_eq!(part.from, money);
            }
        }
    }
}

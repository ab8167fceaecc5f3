//! Amounts of money, which never add across currencies.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::decimal::{JsonDecimal, parse_decimal};
use super::{Currency, TextValue, ValueError};

/// An amount in a currency.
///
/// There is no `+`: [`checked_add`](Self::checked_add) refuses two currencies, and [`Totals`] sums
/// each on its own. Nothing is rounded but by [`rounded`](Self::rounded). Amounts may be negative;
/// whether a field allows that is a rule of the field. Equal amounts are equal whatever zeros they
/// end in.
///
/// Text is `12.50 EUR`, JSON `{"amount":"12.50","currency":"EUR"}`; both show at least the decimals
/// of the currency. JSON may also give the amount as a number.
///
/// ```
/// use crm_core::value::{Currency, Money};
/// use rust_decimal::Decimal;
///
/// let licence = Money::new(Decimal::new(1_250, 2), Currency::EUR);
/// let support = Money::new(Decimal::from(3), Currency::EUR);
/// assert_eq!(licence.checked_add(&support)?.to_string(), "15.50 EUR");
///
/// let dollars = Money::new(Decimal::from(3), Currency::USD);
/// assert_eq!(licence.checked_add(&dollars).unwrap_err().code(), "currency_mismatch");
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Money {
    amount: Decimal,
    currency: Currency,
}

impl Money {
    /// An amount in a currency, kept as it is given.
    ///
    /// ```
    /// use crm_core::value::{Currency, Money};
    /// use rust_decimal::Decimal;
    ///
    /// assert_eq!(Money::new(Decimal::from(500), Currency::JPY).to_string(), "500 JPY");
    /// ```
    #[must_use]
    pub fn new(amount: Decimal, currency: Currency) -> Self {
        Self { amount, currency }
    }

    /// The amount.
    ///
    /// ```
    /// use crm_core::value::{Currency, Money};
    /// use rust_decimal::Decimal;
    ///
    /// assert_eq!(Money::new(Decimal::ONE, Currency::USD).amount(), Decimal::ONE);
    /// ```
    #[must_use]
    pub fn amount(&self) -> Decimal {
        self.amount
    }

    /// The currency.
    ///
    /// ```
    /// use crm_core::value::{Currency, Money};
    /// use rust_decimal::Decimal;
    ///
    /// assert_eq!(Money::new(Decimal::ONE, Currency::USD).currency(), Currency::USD);
    /// ```
    #[must_use]
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// Whether the amount is below zero.
    ///
    /// ```
    /// use crm_core::value::{Currency, Money};
    /// use rust_decimal::Decimal;
    ///
    /// assert!(Money::new(Decimal::NEGATIVE_ONE, Currency::USD).is_negative());
    /// assert!(!Money::new(Decimal::ZERO, Currency::USD).is_negative());
    /// ```
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.amount < Decimal::ZERO
    }

    /// The sum of two amounts in one currency.
    ///
    /// # Errors
    ///
    /// `currency_mismatch` for two currencies, `out_of_range` for a sum too great for a `Decimal`.
    ///
    /// ```
    /// use crm_core::value::Money;
    ///
    /// let sum = "1.25 EUR".parse::<Money>()?.checked_add(&"2 EUR".parse()?)?;
    /// assert_eq!(sum.to_string(), "3.25 EUR");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    // R-085
    pub fn checked_add(&self, other: &Self) -> Result<Self, ValueError> {
        self.require_same_currency(other)?;
        let sum = self
            .amount
            .checked_add(other.amount)
            .ok_or_else(out_of_range)?;
        Ok(Self::new(sum, self.currency))
    }

    /// The difference of two amounts in one currency.
    ///
    /// # Errors
    ///
    /// `currency_mismatch` for two currencies, `out_of_range` for a difference too great for a
    /// `Decimal`.
    ///
    /// ```
    /// use crm_core::value::Money;
    ///
    /// let left = "1.25 EUR".parse::<Money>()?.checked_sub(&"2 EUR".parse()?)?;
    /// assert_eq!(left.to_string(), "-0.75 EUR");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    // R-085
    pub fn checked_sub(&self, other: &Self) -> Result<Self, ValueError> {
        self.require_same_currency(other)?;
        let difference = self
            .amount
            .checked_sub(other.amount)
            .ok_or_else(out_of_range)?;
        Ok(Self::new(difference, self.currency))
    }

    /// The amount times a number, such as a quantity; not rounded.
    ///
    /// # Errors
    ///
    /// `out_of_range` for a product too great for a `Decimal`.
    ///
    /// ```
    /// use crm_core::value::Money;
    /// use rust_decimal::Decimal;
    ///
    /// let line = "9.99 USD".parse::<Money>()?.checked_mul(Decimal::from(3))?;
    /// assert_eq!(line.to_string(), "29.97 USD");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    pub fn checked_mul(&self, factor: Decimal) -> Result<Self, ValueError> {
        let product = self.amount.checked_mul(factor).ok_or_else(out_of_range)?;
        Ok(Self::new(product, self.currency))
    }

    /// The amount in whole minor units of its currency, halves to the even neighbour.
    ///
    /// A currency without minor units, such as gold, is left alone.
    ///
    /// ```
    /// use crm_core::value::Money;
    ///
    /// assert_eq!("0.125 EUR".parse::<Money>()?.rounded().to_string(), "0.12 EUR");
    /// assert_eq!("0.135 EUR".parse::<Money>()?.rounded().to_string(), "0.14 EUR");
    /// assert_eq!("99.5 JPY".parse::<Money>()?.rounded().to_string(), "100 JPY");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn rounded(&self) -> Self {
        let Some(decimals) = self.currency.minor_units() else {
            return *self;
        };
        let strategy = RoundingStrategy::MidpointNearestEven;
        Self::new(
            self.amount.round_dp_with_strategy(decimals, strategy),
            self.currency,
        )
    }

    fn require_same_currency(&self, other: &Self) -> Result<(), ValueError> {
        if self.currency == other.currency {
            return Ok(());
        }
        Err(ValueError::new(
            "currency_mismatch",
            "convert the amounts to one currency first",
        ))
    }

    /// The amount as it is shown: no zeros beyond the decimals of the currency, none missing.
    fn shown_amount(&self) -> Decimal {
        let mut amount = self.amount.normalize();
        let decimals = self.currency.minor_units().unwrap_or(0);
        if amount.scale() < decimals {
            amount.rescale(decimals);
        }
        amount
    }
}

fn out_of_range() -> ValueError {
    ValueError::new("out_of_range", "keep the amount below 28 digits")
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.shown_amount(), self.currency)
    }
}

impl FromStr for Money {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (amount, currency) = text.trim().rsplit_once(' ').ok_or_else(|| {
            ValueError::wrong_type("write an amount and a currency, such as 12.50 EUR")
        })?;
        Ok(Self::new(
            parse_decimal(amount)?,
            Currency::parse(currency)?,
        ))
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parts = serializer.serialize_struct("Money", 2)?;
        parts.serialize_field("amount", &self.shown_amount())?;
        parts.serialize_field("currency", &self.currency)?;
        parts.end()
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "Money", deny_unknown_fields)]
        struct Parts {
            amount: JsonDecimal,
            currency: Currency,
        }

        let Parts {
            amount: JsonDecimal(amount),
            currency,
        } = Parts::deserialize(deserializer)?;
        Ok(Self::new(amount, currency))
    }
}

/// Sums of money, each currency on its own.
///
/// A currency appears once an amount of it was added, even if the sum is zero. In JSON
/// `{"EUR":"12.50","USD":"7.00"}`, in the order of the codes.
///
/// ```
/// use crm_core::value::{Currency, Money, Totals};
///
/// let mut totals = Totals::new();
/// for amount in ["10 EUR", "5 USD", "2.50 EUR"] {
///     totals.add(&amount.parse::<Money>()?)?;
/// }
/// assert_eq!(totals.get(Currency::EUR).to_string(), "12.50 EUR");
/// assert_eq!(totals.get(Currency::CHF).to_string(), "0.00 CHF");
/// assert_eq!(totals.to_string(), "12.50 EUR, 5.00 USD");
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals(BTreeMap<Currency, Decimal>);

impl Totals {
    /// No sums yet.
    ///
    /// ```
    /// use crm_core::value::Totals;
    ///
    /// assert!(Totals::new().is_empty());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The sums of many amounts.
    ///
    /// # Errors
    ///
    /// `out_of_range` when a sum becomes too great for a `Decimal`.
    ///
    /// ```
    /// use crm_core::value::{Currency, Money, Totals};
    /// use rust_decimal::Decimal;
    ///
    /// let dollars = |amount| Money::new(amount, Currency::USD);
    /// let totals = Totals::of([dollars(Decimal::ONE), dollars(Decimal::TEN)])?;
    /// assert_eq!(totals.to_string(), "11.00 USD");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    pub fn of(amounts: impl IntoIterator<Item = Money>) -> Result<Self, ValueError> {
        let mut totals = Self::new();
        for money in amounts {
            totals.add(&money)?;
        }
        Ok(totals)
    }

    /// Adds an amount to the sum of its currency.
    ///
    /// # Errors
    ///
    /// `out_of_range` when the sum becomes too great for a `Decimal`; it then stays as it was.
    ///
    /// ```
    /// use crm_core::value::{Money, Totals};
    ///
    /// let mut totals = Totals::new();
    /// totals.add(&"3 CHF".parse::<Money>()?)?;
    /// assert_eq!(totals.to_string(), "3.00 CHF");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    pub fn add(&mut self, money: &Money) -> Result<(), ValueError> {
        let sum = self.0.get(&money.currency).copied().unwrap_or_default();
        let sum = sum.checked_add(money.amount).ok_or_else(out_of_range)?;
        self.0.insert(money.currency, sum);
        Ok(())
    }

    /// Adds all sums of another collection.
    ///
    /// # Errors
    ///
    /// `out_of_range` when a sum becomes too great for a `Decimal`; nothing is added then.
    ///
    /// ```
    /// use crm_core::value::{Money, Totals};
    ///
    /// let mut january = Totals::of(["1 EUR".parse::<Money>()?])?;
    /// january.merge(&Totals::of(["2 EUR".parse::<Money>()?, "4 USD".parse()?])?)?;
    /// assert_eq!(january.to_string(), "3.00 EUR, 4.00 USD");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    pub fn merge(&mut self, other: &Self) -> Result<(), ValueError> {
        let mut merged = self.clone();
        for money in other.iter() {
            merged.add(&money)?;
        }
        *self = merged;
        Ok(())
    }

    /// The sum in a currency, zero if there is none.
    ///
    /// ```
    /// use crm_core::value::{Currency, Totals};
    ///
    /// assert_eq!(Totals::new().get(Currency::JPY).to_string(), "0 JPY");
    /// ```
    #[must_use]
    pub fn get(&self, currency: Currency) -> Money {
        Money::new(self.0.get(&currency).copied().unwrap_or_default(), currency)
    }

    /// The sums, in the order of the currency codes.
    ///
    /// ```
    /// use crm_core::value::{Money, Totals};
    ///
    /// let totals = Totals::of(["4 USD".parse::<Money>()?, "2 EUR".parse()?])?;
    /// let shown: Vec<String> = totals.iter().map(|money| money.to_string()).collect();
    /// assert_eq!(shown, ["2.00 EUR", "4.00 USD"]);
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Money> {
        self.0
            .iter()
            .map(|(currency, amount)| Money::new(*amount, *currency))
    }

    /// How many currencies there are.
    ///
    /// ```
    /// use crm_core::value::Totals;
    ///
    /// assert_eq!(Totals::new().len(), 0);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was added.
    ///
    /// ```
    /// use crm_core::value::Totals;
    ///
    /// assert!(Totals::new().is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, money) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{money}")?;
        }
        Ok(())
    }
}

impl Serialize for Totals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for money in self.iter() {
            map.serialize_entry(&money.currency, &money.shown_amount())?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Totals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let sums = BTreeMap::<Currency, JsonDecimal>::deserialize(deserializer)?;
        Ok(Self(
            sums.into_iter()
                .map(|(currency, sum)| (currency, sum.0))
                .collect(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::text_value::laws::{any_text, hash_of};

    fn currencies() -> impl Strategy<Value = Currency> {
        proptest::sample::select(vec!["USD", "EUR", "JPY", "BHD", "CLF", "XAU"])
            .prop_map(|code| Currency::parse(code).unwrap())
    }

    fn amounts() -> impl Strategy<Value = Money> {
        (any::<i64>(), 0u32..=6, currencies()).prop_map(|(mantissa, scale, currency)| {
            Money::new(Decimal::new(mantissa, scale), currency)
        })
    }

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    /// R-085.
    #[test]
    fn currencies_never_mix() {
        let (euro, dollar) = (money("1 EUR"), money("1 USD"));
        assert_eq!(
            euro.checked_add(&dollar).unwrap_err().code(),
            "currency_mismatch"
        );
        assert_eq!(
            euro.checked_sub(&dollar).unwrap_err().code(),
            "currency_mismatch"
        );
        assert_ne!(euro, dollar);
    }

    #[test]
    fn overflow_is_an_error() {
        let most = Money::new(Decimal::MAX, Currency::USD);
        let least = Money::new(Decimal::MIN, Currency::USD);
        assert_eq!(
            most.checked_add(&money("1 USD")).unwrap_err().code(),
            "out_of_range"
        );
        assert_eq!(
            least.checked_sub(&money("1 USD")).unwrap_err().code(),
            "out_of_range"
        );
        assert_eq!(
            most.checked_mul(Decimal::TWO).unwrap_err().code(),
            "out_of_range"
        );
        let mut totals = Totals::of([most, money("1 EUR")]).unwrap();
        let before = totals.clone();
        assert_eq!(
            totals.add(&money("1 USD")).unwrap_err().code(),
            "out_of_range"
        );
        assert!(
            totals
                .merge(&Totals::of([money("5 EUR"), money("1 USD")]).unwrap())
                .is_err()
        );
        assert_eq!(totals, before);
    }

    #[test]
    fn text_shows_the_decimals_of_the_currency() {
        let cases = [
            ("12.5 eur", "12.50 EUR"),
            ("12.500 EUR", "12.50 EUR"),
            ("12.505 EUR", "12.505 EUR"),
            ("-3 BHD", "-3.000 BHD"),
            ("500.0 JPY", "500 JPY"),
            ("1.50 XAU", "1.5 XAU"),
            ("-0.00 USD", "0.00 USD"),
        ];
        for (text, shown) in cases {
            assert_eq!(money(text).to_string(), shown);
        }
        for (text, code) in [
            ("", "wrong_type"),
            ("12.50", "wrong_type"),
            ("EUR", "wrong_type"),
            ("x EUR", "wrong_type"),
            ("12.50EUR", "wrong_type"),
            ("12.50 EURO", "invalid_currency"),
        ] {
            assert_eq!(text.parse::<Money>().unwrap_err().code(), code, "{text}");
        }
    }

    #[test]
    fn halves_round_to_the_even_neighbour() {
        let cases = [
            ("0.125 EUR", "0.12 EUR"),
            ("0.135 EUR", "0.14 EUR"),
            ("-0.125 EUR", "-0.12 EUR"),
            ("0.5 JPY", "0 JPY"),
            ("1.0005 BHD", "1.000 BHD"),
            ("0.12345 XAU", "0.12345 XAU"),
        ];
        for (exact, rounded) in cases {
            assert_eq!(money(exact).rounded(), money(rounded));
        }
    }

    #[test]
    fn json_names_amount_and_currency() {
        let json = r#"{"amount":"12.50","currency":"EUR"}"#;
        assert_eq!(serde_json::to_string(&money("12.5 EUR")).unwrap(), json);
        for json in [json, r#"{"currency":"EUR","amount":12.5}"#] {
            assert_eq!(
                serde_json::from_str::<Money>(json).unwrap(),
                money("12.5 EUR")
            );
        }
        for json in [
            r#"{"amount":"12.50"}"#,
            r#"{"amount":"x","currency":"EUR"}"#,
            r#"{"amount":"1","currency":"EURO"}"#,
            r#"{"amount":"1","currency":"EUR","note":""}"#,
            r#""12.50 EUR""#,
        ] {
            assert!(serde_json::from_str::<Money>(json).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any_text()) {
            let _ = text.parse::<Money>();
        }

        #[test]
        fn round_trips(money in amounts()) {
            prop_assert_eq!(money.to_string().parse::<Money>().unwrap(), money);
            let json = serde_json::to_string(&money).unwrap();
            prop_assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), money);
        }

        #[test]
        fn equal_amounts_hash_and_print_equal(money in amounts(), zeros in 0u32..4) {
            let mut amount = money.amount();
            amount.rescale(amount.scale() + zeros);
            let padded = Money::new(amount, money.currency());
            prop_assert_eq!(padded, money);
            prop_assert_eq!(hash_of(&padded), hash_of(&money));
            prop_assert_eq!(padded.to_string(), money.to_string());
        }

        #[test]
        fn adding_and_taking_away_cancel(a in amounts(), b in any::<i32>()) {
            let b = Money::new(Decimal::from(b), a.currency());
            prop_assert_eq!(a.checked_add(&b).unwrap().checked_sub(&b).unwrap(), a);
        }

        #[test]
        fn rounding_moves_at_most_half_a_unit(money in amounts()) {
            let rounded = money.rounded();
            prop_assert_eq!(rounded.rounded(), rounded);
            let Some(decimals) = money.currency().minor_units() else {
                prop_assert_eq!(rounded, money);
                return Ok(());
            };
            prop_assert!(rounded.amount().scale() <= decimals);
            let distance = (rounded.amount() - money.amount()).abs();
            prop_assert!(distance <= Decimal::new(5, decimals + 1));
        }

        /// R-085.
        #[test]
        fn totals_are_the_sums_of_each_currency(
            amounts in proptest::collection::vec(amounts(), 0..20),
        ) {
            let totals = Totals::of(amounts.iter().copied()).unwrap();
            for sum in totals.iter() {
                let of_currency = amounts.iter().filter(|m| m.currency() == sum.currency());
                let expected: Decimal = of_currency.map(Money::amount).sum();
                prop_assert_eq!(sum.amount(), expected);
            }
            let json = serde_json::to_string(&totals).unwrap();
            prop_assert_eq!(serde_json::from_str::<Totals>(&json).unwrap(), totals);
        }
    }
}

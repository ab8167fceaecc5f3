//! Percentages.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ValueError;
use super::decimal::{JsonDecimal, parse_decimal};

/// A percentage from 0 to 100 with at most two decimals: a probability, a discount, a quota.
///
/// A third decimal is refused with `too_many_decimals`, not rounded: whoever sends 33.335 must
/// decide what is meant. Zeros at the end don't count as decimals, and equal percentages print
/// equal.
///
/// Text is `12.5%`, read with or without the sign. In JSON it is a text without the sign, `"12.5"`,
/// read from a text or a number.
///
/// ```
/// use crm_core::value::Percent;
/// use rust_decimal::Decimal;
///
/// let probability: Percent = "12.50".parse()?;
/// assert_eq!(probability.to_string(), "12.5%");
/// assert_eq!(probability.of(Decimal::from(2_000)), Decimal::from(250));
/// assert_eq!("12.345".parse::<Percent>().unwrap_err().code(), "too_many_decimals");
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Percent(Decimal);

impl Percent {
    /// Nothing.
    pub const ZERO: Self = Self(Decimal::ZERO);
    /// All.
    pub const HUNDRED: Self = Self(Decimal::ONE_HUNDRED);

    /// A percentage from 0 to 100 with at most two decimals.
    ///
    /// # Errors
    ///
    /// `out_of_range` below 0 and above 100, `too_many_decimals` beyond two.
    ///
    /// ```
    /// use crm_core::value::Percent;
    /// use rust_decimal::Decimal;
    ///
    /// assert!(Percent::new(Decimal::new(9_999, 2)).is_ok());
    /// assert_eq!(Percent::new(Decimal::from(101)).unwrap_err().code(), "out_of_range");
    /// ```
    // R-037, R-067
    pub fn new(value: Decimal) -> Result<Self, ValueError> {
        if value < Decimal::ZERO || value > Decimal::ONE_HUNDRED {
            return Err(ValueError::new(
                "out_of_range",
                "give a number from 0 to 100",
            ));
        }
        let value = value.normalize();
        if value.scale() > 2 {
            return Err(ValueError::new(
                "too_many_decimals",
                "use at most two decimals",
            ));
        }
        Ok(Self(value))
    }

    /// A percentage without decimals.
    ///
    /// # Errors
    ///
    /// `out_of_range` above 100.
    ///
    /// ```
    /// use crm_core::value::Percent;
    ///
    /// assert_eq!(Percent::from_whole(75)?.to_string(), "75%");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    pub fn from_whole(value: u8) -> Result<Self, ValueError> {
        Self::new(Decimal::from(value))
    }

    /// The number: 12.5 for 12.5%.
    ///
    /// ```
    /// use crm_core::value::Percent;
    /// use rust_decimal::Decimal;
    ///
    /// assert_eq!(Percent::from_whole(75)?.value(), Decimal::from(75));
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn value(&self) -> Decimal {
        self.0
    }

    /// This part of an amount, exactly: nothing is rounded to the decimals of a currency.
    ///
    /// Only a result that needs more than the 28 digits of a `Decimal` loses its last ones.
    ///
    /// ```
    /// use crm_core::value::Percent;
    /// use rust_decimal::Decimal;
    ///
    /// let tenth_of_a_percent: Percent = "0.1".parse()?;
    /// assert_eq!(tenth_of_a_percent.of(Decimal::new(999, 2)).to_string(), "0.00999");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn of(&self, amount: Decimal) -> Decimal {
        // The fraction is at most 1, so the product never leaves the range of a decimal, as
        // multiplying by the percentage and dividing by 100 could.
        let fraction = Decimal::from_i128_with_scale(self.0.mantissa(), self.0.scale() + 2);
        amount.saturating_mul(fraction).normalize()
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl FromStr for Percent {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        Self::new(parse_decimal(text.strip_suffix('%').unwrap_or(text))?)
    }
}

impl TryFrom<Decimal> for Percent {
    type Error = ValueError;

    fn try_from(value: Decimal) -> Result<Self, ValueError> {
        Self::new(value)
    }
}

impl From<Percent> for Decimal {
    fn from(percent: Percent) -> Self {
        percent.0
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let JsonDecimal(value) = JsonDecimal::deserialize(deserializer)?;
        Self::new(value).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::text_value::laws::{any_text, hash_of};

    fn percents() -> impl Strategy<Value = Percent> {
        (0i64..=10_000).prop_map(|hundredths| Percent::new(Decimal::new(hundredths, 2)).unwrap())
    }

    /// R-037, R-067, G-15.
    #[test]
    fn the_limits_belong_to_the_range() {
        assert_eq!("0".parse::<Percent>().unwrap(), Percent::ZERO);
        assert_eq!(" 100 % ".parse::<Percent>().unwrap(), Percent::HUNDRED);
        for text in ["-0.01", "100.01", "100.001", "1000", "-5%"] {
            assert_eq!(
                text.parse::<Percent>().unwrap_err().code(),
                "out_of_range",
                "{text}"
            );
        }
        for text in ["", "%", "half", "5%%", "1e1"] {
            assert_eq!(
                text.parse::<Percent>().unwrap_err().code(),
                "wrong_type",
                "{text}"
            );
        }
    }

    #[test]
    fn zeros_at_the_end_are_no_decimals() {
        for text in ["12.5", "12.50", "12.5000%"] {
            let percent: Percent = text.parse().unwrap();
            assert_eq!(percent.to_string(), "12.5%");
            assert_eq!(serde_json::to_string(&percent).unwrap(), "\"12.5\"");
        }
        assert_eq!("-0.00".parse::<Percent>().unwrap().to_string(), "0%");
        assert_eq!("100.00".parse::<Percent>().unwrap().to_string(), "100%");
    }

    #[test]
    fn json_may_be_a_text_or_a_number() {
        for json in ["\"12.5\"", "12.5", "12.50"] {
            assert_eq!(
                serde_json::from_str::<Percent>(json).unwrap().to_string(),
                "12.5%"
            );
        }
        for json in ["101", "-1", "1.234", "\"x\"", "null", "[]"] {
            assert!(serde_json::from_str::<Percent>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_part_of_the_greatest_amount_does_not_overflow() {
        assert_eq!(Percent::HUNDRED.of(Decimal::MAX), Decimal::MAX);
        assert_eq!(Percent::HUNDRED.of(Decimal::MIN), Decimal::MIN);
        assert!(Percent::from_whole(50).unwrap().of(Decimal::MAX) < Decimal::MAX);
    }

    proptest! {
        #[test]
        fn never_panics(text in any_text()) {
            let _ = text.parse::<Percent>();
        }

        #[test]
        fn round_trips(percent in percents()) {
            prop_assert_eq!(percent.to_string().parse::<Percent>().unwrap(), percent);
            let json = serde_json::to_string(&percent).unwrap();
            prop_assert_eq!(serde_json::from_str::<Percent>(&json).unwrap(), percent);
        }

        #[test]
        fn equal_percents_print_and_hash_equal(hundredths in 0i64..=10_000, zeros in 0u32..10) {
            let percent = Percent::new(Decimal::new(hundredths, 2)).unwrap();
            let mut padded = Decimal::new(hundredths, 2);
            padded.rescale(2 + zeros);
            let padded = Percent::new(padded).unwrap();
            prop_assert_eq!(percent, padded);
            prop_assert_eq!(hash_of(&percent), hash_of(&padded));
            prop_assert_eq!(percent.to_string(), padded.to_string());
        }

        #[test]
        fn a_part_and_the_rest_are_the_whole(percent in percents(), cents in any::<i64>()) {
            let amount = Decimal::new(cents, 2);
            let rest = Percent::new(Decimal::ONE_HUNDRED - percent.value()).unwrap();
            prop_assert_eq!(percent.of(amount) + rest.of(amount), amount);
        }
    }
}

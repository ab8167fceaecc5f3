//! Reading decimal numbers, for the types that hold one.

use std::fmt;

use rust_decimal::Decimal;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use super::ValueError;

/// Reads plain decimal notation: an optional sign, digits, at most one point.
///
/// Nothing is rounded: a number with more digits than a `Decimal` holds is refused.
pub(super) fn parse_decimal(text: &str) -> Result<Decimal, ValueError> {
    let text = text.trim();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let is_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || whole.len() + fraction.len() == 0 {
        return Err(not_a_number());
    }
    Decimal::from_str_exact(text).map_err(|error| match error {
        rust_decimal::Error::Underflow => {
            ValueError::new("too_many_decimals", "give a number of at most 28 digits")
        }
        _ => ValueError::new("out_of_range", "give a number of at most 28 digits"),
    })
}

fn not_a_number() -> ValueError {
    ValueError::wrong_type("write a number with digits and a point, such as 12.5")
}

/// A decimal in JSON: a text, so that nothing is lost, or a number.
///
/// JSON numbers with a fraction pass through binary floating point, which holds 15 digits.
pub(super) struct JsonDecimal(pub(super) Decimal);

impl<'de> Deserialize<'de> for JsonDecimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(DecimalVisitor)
        } else {
            deserializer.deserialize_str(DecimalVisitor)
        }
    }
}

struct DecimalVisitor;

impl Visitor<'_> for DecimalVisitor {
    type Value = JsonDecimal;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decimal number, as a text or a number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<JsonDecimal, E> {
        parse_decimal(text).map(JsonDecimal).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<JsonDecimal, E> {
        Ok(JsonDecimal(Decimal::from(number)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<JsonDecimal, E> {
        Ok(JsonDecimal(Decimal::from(number)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<JsonDecimal, E> {
        Decimal::try_from(number)
            .map(JsonDecimal)
            .map_err(|_| E::custom(not_a_number()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::text_value::laws::any_text;

    fn code(text: &str) -> &'static str {
        parse_decimal(text).unwrap_err().code()
    }

    #[test]
    fn reads_plain_notation_only() {
        assert_eq!(parse_decimal(" -12.50 ").unwrap().to_string(), "-12.50");
        assert_eq!(parse_decimal("+3").unwrap(), Decimal::from(3));
        assert_eq!(parse_decimal(".5").unwrap(), Decimal::new(5, 1));
        assert_eq!(parse_decimal("5.").unwrap(), Decimal::from(5));
        for text in [
            "", ".", "-", "1e3", "1_000", "1,5", "1.2.3", "--1", "twelve", "١٢", "NaN",
        ] {
            assert_eq!(code(text), "wrong_type", "{text}");
        }
    }

    #[test]
    fn never_rounds() {
        assert_eq!(code(&"9".repeat(30)), "out_of_range");
        assert_eq!(code(&format!("-{}", "9".repeat(40))), "out_of_range");
        assert_eq!(code(&format!("0.{}1", "0".repeat(40))), "too_many_decimals");
    }

    #[test]
    fn json_numbers_and_texts_agree() {
        for json in ["\"0.3\"", "0.3"] {
            let JsonDecimal(value) = serde_json::from_str(json).unwrap();
            assert_eq!(value, Decimal::new(3, 1));
        }
        assert!(serde_json::from_str::<JsonDecimal>("1e300").is_err());
        assert!(serde_json::from_str::<JsonDecimal>("true").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in any_text()) {
            let _ = parse_decimal(&text);
        }

        #[test]
        fn what_is_printed_reads_back(mantissa in any::<i64>(), scale in 0u32..=28) {
            let value = Decimal::new(mantissa, scale);
            prop_assert_eq!(parse_decimal(&value.to_string()).unwrap(), value);
        }

        #[test]
        fn never_panics_on_digits(text in "[-+.0-9]{0,50}") {
            let _ = parse_decimal(&text);
        }
    }
}

//! Currencies.

use std::cmp::Ordering;

use iso_currency::Currency as Iso;

use super::text_value::text_conversions;
use super::{TextValue, ValueError};

/// A currency of ISO 4217, by its three-letter code.
///
/// Input may be in lower case. 183 codes are known. They differ from the 179 of a list that ISO's
/// maintenance agency published in these: `HRK`, `SLL` and `ZWL` are known though withdrawn, so
/// that old deals keep their currency, `XAD` and `XCG` because they are newer; `ANG`, which `XCG`
/// replaced, is not known. All 178 in common have the same number of decimals.
///
/// ```
/// use crm_core::value::{Currency, TextValue};
///
/// let yen = Currency::parse("JPY")?;
/// assert_eq!(yen, Currency::JPY);
/// assert_eq!(yen.minor_units(), Some(0));
/// assert_eq!(Currency::default(), Currency::USD);
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency(Iso);

impl Currency {
    /// The dollar of the United States.
    pub const USD: Self = Self(Iso::USD);
    /// The euro.
    pub const EUR: Self = Self(Iso::EUR);
    /// The pound sterling.
    pub const GBP: Self = Self(Iso::GBP);
    /// The Japanese yen.
    pub const JPY: Self = Self(Iso::JPY);
    /// The Swiss franc.
    pub const CHF: Self = Self(Iso::CHF);

    /// The three-letter code, in upper case.
    ///
    /// ```
    /// use crm_core::value::Currency;
    ///
    /// assert_eq!(Currency::CHF.code(), "CHF");
    /// ```
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code()
    }

    /// How many decimals an amount has: 2 for euros and cents, 0 for yen, 3 for Bahraini dinars.
    ///
    /// `None` where there is no such thing, as for gold (`XAU`).
    ///
    /// ```
    /// use crm_core::value::{Currency, TextValue};
    ///
    /// assert_eq!(Currency::EUR.minor_units(), Some(2));
    /// assert_eq!(Currency::parse("BHD")?.minor_units(), Some(3));
    /// assert_eq!(Currency::parse("XAU")?.minor_units(), None);
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn minor_units(&self) -> Option<u32> {
        self.0.exponent().map(u32::from)
    }

    /// The name in English.
    ///
    /// ```
    /// use crm_core::value::Currency;
    ///
    /// assert_eq!(Currency::USD.name(), "United States dollar");
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The sign that people write, `€` or `$`; `¤` where there is none.
    ///
    /// Many currencies share a sign, so print the code where it must be clear which one is meant.
    ///
    /// ```
    /// use crm_core::value::Currency;
    ///
    /// assert_eq!(Currency::GBP.symbol(), "£");
    /// ```
    #[must_use]
    pub fn symbol(&self) -> String {
        self.0.symbol().symbol
    }
}

impl Default for Currency {
    fn default() -> Self {
        Self::USD
    }
}

impl TextValue for Currency {
    // R-037, R-098, R-240
    fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        let found = match text.len() {
            3 => Iso::from_code(text).or_else(|| Iso::from_code(&text.to_ascii_uppercase())),
            _ => None,
        };
        found.map(Self).ok_or_else(|| {
            ValueError::new(
                "invalid_currency",
                "use a three-letter ISO 4217 code such as EUR",
            )
        })
    }

    fn as_str(&self) -> &str {
        self.code()
    }
}

impl PartialOrd for Currency {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Currency {
    fn cmp(&self, other: &Self) -> Ordering {
        self.code().cmp(other.code())
    }
}

text_conversions!(Currency, shown);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::text_value::laws;

    /// R-037, R-098, R-240.
    #[test]
    fn only_codes_of_the_list() {
        for text in ["USD", "eur", " Gbp ", "XAU"] {
            assert!(Currency::parse(text).is_ok(), "{text}");
        }
        for text in ["", "US", "USDX", "AAA", "$", "€", "840", "U D"] {
            assert_eq!(
                Currency::parse(text).unwrap_err().code(),
                "invalid_currency",
                "{text}"
            );
        }
    }

    #[test]
    fn every_code_round_trips() {
        let letters = || b'A'..=b'Z';
        let mut known = 0;
        for a in letters() {
            for b in letters() {
                for c in letters() {
                    let code = String::from_utf8(vec![a, b, c]).unwrap();
                    if laws::holds_for::<Currency>(&code) {
                        known += 1;
                        assert!(laws::holds_for::<Currency>(&code.to_lowercase()));
                    }
                }
            }
        }
        assert_eq!(known, 183);
    }

    #[test]
    fn currencies_sort_by_code() {
        let mut currencies = ["XCG", "USD", "ARS", "AMD"].map(|c| Currency::parse(c).unwrap());
        currencies.sort();
        assert_eq!(currencies.map(|c| c.code()), ["AMD", "ARS", "USD", "XCG"]);
    }

    proptest! {
        #[test]
        fn never_panics(text in laws::any_text()) {
            laws::holds_for::<Currency>(&text);
        }

        #[test]
        fn short_texts_never_panic(text in "[a-zA-Zé€]{0,3}") {
            laws::holds_for::<Currency>(&text);
        }
    }
}

//! Colours of pipeline stages, tags and brands.

use super::text_value::text_conversions;
use super::{TextValue, ValueError};

/// A colour, `#RRGGBB`, kept in lower case.
///
/// ```
/// use crm_core::value::{Color, TextValue};
///
/// assert_eq!(Color::parse("#FF8000")?.as_str(), "#ff8000");
/// assert_eq!(Color::default().as_str(), "#007bff");
/// assert!(Color::parse("#fff").is_err());
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Color(String);

impl Color {
    /// The colour of a stage that was given none, as text.
    ///
    /// ```
    /// use crm_core::value::{Color, TextValue};
    ///
    /// assert_eq!(Color::default().as_str(), Color::DEFAULT);
    /// ```
    pub const DEFAULT: &'static str = "#007bff";
}

impl Default for Color {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl TextValue for Color {
    // R-155
    fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        match text.strip_prefix('#') {
            Some(digits) if digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Ok(Self(text.to_ascii_lowercase()))
            }
            _ => Err(ValueError::new(
                "invalid_color",
                "write a colour as # and six hexadecimal digits, such as #007bff",
            )),
        }
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    fn from_stored(text: String) -> Result<Self, ValueError> {
        Ok(Self(text))
    }
}

text_conversions!(Color, shown);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::text_value::laws;

    /// R-155.
    #[test]
    fn is_a_hash_and_six_hexadecimal_digits() {
        assert_eq!(Color::parse(" #AbCdEf ").unwrap().as_str(), "#abcdef");
        for text in [
            "",
            "#",
            "007bff",
            "#007bf",
            "#007bff0",
            "#00 bff",
            "#00７bff",
            "##07bff",
        ] {
            assert_eq!(
                Color::parse(text).unwrap_err().code(),
                "invalid_color",
                "{text}"
            );
        }
    }

    #[test]
    fn the_default_is_a_color() {
        assert_eq!(Color::parse(Color::DEFAULT).unwrap(), Color::default());
    }

    proptest! {
        #[test]
        fn never_panics(text in laws::any_text()) {
            laws::holds_for::<Color>(&text);
        }

        #[test]
        fn round_trips(text in "#[0-9a-fA-F]{6}") {
            prop_assert!(laws::holds_for::<Color>(&text));
        }
    }
}

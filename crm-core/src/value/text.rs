//! Text that has something in it.

use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::text_value::text_conversions;
use super::{TextValue, ValueError};

/// A text with at least one visible character: trimmed, in Unicode normalization form C, without
/// NUL.
///
/// White space, control characters and characters without width, alone, do not count as visible.
/// There is no limit of length here; the field that holds the text sets one.
///
/// ```
/// use crm_core::value::{NonBlankText, TextValue};
///
/// // An e and a combining accent become one character.
/// let name = NonBlankText::parse("  Rene\u{301} Dupont ")?;
/// assert_eq!(name.as_str(), "René Dupont");
/// assert_eq!(NonBlankText::parse(" \t ").unwrap_err().code(), "blank");
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NonBlankText(String);

impl TextValue for NonBlankText {
    fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        if text.contains('\0') {
            return Err(ValueError::new("nul_character", "remove the NUL character"));
        }
        if text.chars().all(is_invisible) {
            return Err(ValueError::new(
                "blank",
                "write at least one visible character",
            ));
        }
        // `is_nfc` is a scan; normalising copies character by character.
        Ok(Self(if is_nfc(text) {
            text.to_owned()
        } else {
            text.nfc().collect()
        }))
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    fn from_stored(text: String) -> Result<Self, ValueError> {
        Ok(Self(text))
    }
}

/// White space, control characters, and the formatting characters that take no room.
fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}')
}

text_conversions!(NonBlankText, shown);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::text_value::laws;

    #[test]
    fn something_must_be_visible() {
        for text in [
            "",
            " ",
            "\u{a0}\u{2003}",
            "\u{200b}",
            "\u{feff}\u{ad}",
            "\u{1}\u{7f}",
        ] {
            assert_eq!(
                NonBlankText::parse(text).unwrap_err().code(),
                "blank",
                "{text:?}"
            );
        }
        assert_eq!(
            NonBlankText::parse("\u{200b}a").unwrap().as_str(),
            "\u{200b}a"
        );
    }

    #[test]
    fn nul_is_refused() {
        for text in ["a\0b", "\0"] {
            assert_eq!(
                NonBlankText::parse(text).unwrap_err().code(),
                "nul_character"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in laws::any_text()) {
            laws::holds_for::<NonBlankText>(&text);
        }

        #[test]
        fn round_trips(text in "[a-zé\u{301}\u{327}가-힣 ]{0,20}[a-z]") {
            prop_assert!(laws::holds_for::<NonBlankText>(&text));
        }

        #[test]
        fn is_normalised_and_trimmed(text in laws::any_text()) {
            if let Ok(value) = NonBlankText::parse(&text) {
                prop_assert!(is_nfc(value.as_str()));
                prop_assert_eq!(value.as_str().trim(), value.as_str());
                prop_assert!(!value.as_str().is_empty());
            }
        }
    }
}

//! Why an input is not a value.

use std::borrow::Cow;

/// Why a text or number is not a value of its type.
///
/// The [`code`](Self::code) is stable, for programs and translations; the
/// [`message`](Self::message) is English, for people. Neither ever contains the faulty input, which
/// may be personal data.
///
/// | code | meaning |
/// |---|---|
/// | `invalid_email`, `invalid_phone`, `invalid_url`, `invalid_color` | the text does not have the form of the type |
/// | `invalid_api_name`, `invalid_subdomain`, `invalid_domain` | likewise, for names |
/// | `invalid_currency`, `invalid_country`, `invalid_language`, `invalid_time_zone` | not in the list that the type is drawn from |
/// | `blank`, `nul_character` | a text without anything to read, or with the character that text columns cannot hold |
/// | `too_long` | more characters than the type allows |
/// | `out_of_range`, `too_many_decimals` | a number outside the limits of its type, or finer than they allow |
/// | `currency_mismatch` | two amounts of different currencies |
/// | `wrong_type` | a number where a text belongs, or a text that is no number |
///
/// ```
/// use crm_core::value::{EmailAddress, TextValue};
///
/// let error = EmailAddress::parse("jane.example.com").unwrap_err();
/// assert_eq!(error.code(), "invalid_email");
/// assert!(!error.to_string().contains("jane"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ValueError {
    code: &'static str,
    message: Cow<'static, str>,
}

impl ValueError {
    /// An error with a stable snake-case code and a message that says what to do.
    ///
    /// The message must not repeat the input.
    ///
    /// ```
    /// use crm_core::value::ValueError;
    ///
    /// let error = ValueError::new("out_of_range", "give a number from 1 to 5");
    /// assert_eq!(error.to_string(), "give a number from 1 to 5");
    /// ```
    pub fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The stable name of the fault, such as `invalid_email`.
    ///
    /// ```
    /// use crm_core::value::{Color, TextValue};
    ///
    /// assert_eq!(Color::parse("blue").unwrap_err().code(), "invalid_color");
    /// ```
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What to do about it, in English and in lower case.
    ///
    /// ```
    /// use crm_core::value::{Color, TextValue};
    ///
    /// let error = Color::parse("blue").unwrap_err();
    /// assert!(error.message().starts_with("write a colour as # and six hexadecimal digits"));
    /// ```
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// A value of the wrong kind, such as a number where a text belongs.
    pub(super) fn wrong_type(message: &'static str) -> Self {
        Self::new("wrong_type", message)
    }
}

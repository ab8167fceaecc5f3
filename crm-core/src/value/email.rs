//! E-mail addresses.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use email_address::Options;

use super::names::{international_to_ascii, is_domain_name};
use super::text_value::text_conversions;
use super::{TextValue, ValueError};

/// An e-mail address, such as `jane.doe@example.com`.
///
/// Kept as it was typed, without the white space around it. Compared without regard to case, so
/// that `Jane@Example.com` is not a second person. It is personal data: `Debug` does not show it.
///
/// # What is accepted
///
/// What people have and mail servers take: a local part of words joined by dots, at most 64
/// characters, then `@`, then a domain name of at least two labels; at most 254 bytes in all. A
/// domain with letters outside ASCII is turned into its ASCII form, the one change to what was
/// typed; a local part with such letters is refused, since few servers can deliver to it.
///
/// The standards allow more. The published *isemail* suite gives each of 164 addresses a diagnosis.
/// Against what a mail server must take by RFC 5321 (`VALID`, `DNSWARN` and `RFC5321` in the suite,
/// 38 addresses), 41 verdicts differ here:
///
/// | diagnosis | count | here | why |
/// |---|---|---|---|
/// | `VALID` | 1 of 14 | refused | `test@io`: a domain of one label is a typing mistake |
/// | `RFC5321_TLD` | 1 of 1 | refused | likewise |
/// | `RFC5321_TLDNUMERIC` | 2 of 2 | refused | an IP address, not a domain name |
/// | `RFC5321_QUOTEDSTRING` | 6 of 6 | refused | `"jane"@..` is mostly a leftover of quotes in a file, and would give one mailbox two spellings |
/// | `RFC5321_ADDRESSLITERAL` | 7 of 7 | refused | `jane@[192.0.2.1]` is for machines |
/// | `CFWS_FWS`, `DEPREC_FWS` | 8 of 9 | accepted | white space and line ends around the address are trimmed |
/// | `ERR_FWS_CRLF_END`, `ERR_FWS_CRLF_X2` | 12 of 12 | accepted | likewise |
/// | `ERR_CR_NO_LF`, `ERR_EXPECTING_ATEXT` | 4 of 17 | accepted | likewise |
///
/// So 45 of the 164 are accepted: the 21 that are valid and not of one label, and 24 that are the
/// same once trimmed. Comments, escapes and white space within the address are refused with all
/// their diagnoses.
///
/// ```
/// use crm_core::value::{EmailAddress, TextValue};
///
/// let typed = EmailAddress::parse(" Jane.Doe@Example.com ")?;
/// assert_eq!(typed.as_str(), "Jane.Doe@Example.com");
/// assert_eq!(typed, EmailAddress::parse("jane.doe@example.com")?);
/// assert_eq!(format!("{typed:?}"), "EmailAddress(<redacted>)");
///
/// let international = EmailAddress::parse("info@bücher.example")?;
/// assert_eq!(international.domain(), "xn--bcher-kva.example");
///
/// for refused in ["jane", "jane@localhost", "jane@[192.0.2.1]", "Jane <jane@example.com>"] {
///     assert_eq!(EmailAddress::parse(refused).unwrap_err().code(), "invalid_email");
/// }
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone)]
pub struct EmailAddress(String);

impl EmailAddress {
    /// The greatest number of bytes.
    ///
    /// ```
    /// use crm_core::value::{EmailAddress, TextValue};
    ///
    /// let long = format!("jane@{}.example", "a.".repeat(EmailAddress::MAX_LENGTH));
    /// assert_eq!(EmailAddress::parse(&long).unwrap_err().code(), "too_long");
    /// ```
    pub const MAX_LENGTH: usize = 254;

    /// The whole address in lower case: the form in which addresses are compared and unique.
    ///
    /// ```
    /// use crm_core::value::{EmailAddress, TextValue};
    ///
    /// let address = EmailAddress::parse("Jane.Doe@Example.com")?;
    /// assert_eq!(address.normalized(), "jane.doe@example.com");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn normalized(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// What stands before the `@`.
    ///
    /// ```
    /// use crm_core::value::{EmailAddress, TextValue};
    ///
    /// assert_eq!(EmailAddress::parse("jane+crm@example.com")?.local_part(), "jane+crm");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn local_part(&self) -> &str {
        self.0
            .rsplit_once('@')
            .map_or(self.0.as_str(), |(local_part, _)| local_part)
    }

    /// What stands after the `@`.
    ///
    /// ```
    /// use crm_core::value::{EmailAddress, TextValue};
    ///
    /// assert_eq!(EmailAddress::parse("jane+crm@example.com")?.domain(), "example.com");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    /// An address in ASCII, if it is one.
    fn checked(address: &str) -> Result<Self, ValueError> {
        const OPTIONS: Options = Options {
            minimum_sub_domains: 2,
            allow_domain_literal: false,
            allow_display_text: false,
        };

        if address.len() > Self::MAX_LENGTH {
            return Err(ValueError::new("too_long", "use at most 254 characters"));
        }
        // The crate holds more to be a domain name than the domain name system does, and takes
        // quoted local parts and those outside ASCII.
        let (_, domain) = address.rsplit_once('@').ok_or_else(invalid)?;
        if !address.is_ascii() || address.starts_with('"') || !is_domain_name(domain) {
            return Err(invalid());
        }
        match email_address::EmailAddress::parse_with_options(address, OPTIONS) {
            Ok(address) => Ok(Self(address.into())),
            Err(_) => Err(invalid()),
        }
    }

    fn lower_case_bytes(&self) -> impl Iterator<Item = u8> {
        self.0.bytes().map(|b| b.to_ascii_lowercase())
    }
}

fn invalid() -> ValueError {
    ValueError::new(
        "invalid_email",
        "write an e-mail address such as name@example.com",
    )
}

impl TextValue for EmailAddress {
    // R-089, G-10
    fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        match text.rsplit_once('@') {
            Some((local_part, domain)) if !domain.is_ascii() && text.len() <= Self::MAX_LENGTH => {
                let domain = international_to_ascii(domain).ok_or_else(invalid)?;
                Self::checked(&format!("{local_part}@{domain}"))
            }
            _ => Self::checked(text),
        }
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    fn from_stored(text: String) -> Result<Self, ValueError> {
        Ok(Self(text))
    }
}

// R-088: addresses are compared without regard to case.

impl PartialEq for EmailAddress {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for EmailAddress {}

impl PartialOrd for EmailAddress {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EmailAddress {
    fn cmp(&self, other: &Self) -> Ordering {
        self.lower_case_bytes().cmp(other.lower_case_bytes())
    }
}

impl Hash for EmailAddress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.lower_case_bytes() {
            state.write_u8(byte);
        }
        // No byte of a text is 0xff: it ends the address, as in the standard library's `str`.
        state.write_u8(0xff);
    }
}

text_conversions!(EmailAddress, redacted);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::text_value::laws;

    fn address(text: &str) -> EmailAddress {
        EmailAddress::parse(text).unwrap()
    }

    /// R-089, G-10: whatever the pattern of the sources means to accept.
    #[test]
    fn everyday_addresses_are_accepted() {
        for text in [
            "jane@example.com",
            "jane.doe+news@mail.example.co.uk",
            "o'brien@example.ie",
            "JANE_DOE%x-1@EXAMPLE.COM",
            "1@2.example",
            "jane@xn--bcher-kva.example",
            "jane@例え.jp",
            "  jane@example.com\r\n",
        ] {
            assert!(EmailAddress::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn the_rest_is_refused() {
        for text in [
            "",
            "@",
            "jane",
            "jane@",
            "@example.com",
            "jane@example",
            "jane@@example.com",
            "jane@doe@example.com",
            ".jane@example.com",
            "jane.@example.com",
            "jane..doe@example.com",
            "jane doe@example.com",
            "\"jane\"@example.com",
            "jane@-example.com",
            "jane@exam_ple.com",
            "jane@example.com.",
            "jane@example..com",
            "jane@192.0.2.1",
            "jane@[192.0.2.1]",
            "jane@example.com, joe@example.com",
            "Jane <jane@example.com>",
            "<jane@example.com>",
            "mailto:jane@example.com",
            "jane(work)@example.com",
            "jürgen@example.com",
            "jane\0@example.com",
            "jane@exa\u{200b}mple.com\u{7f}",
            "jane@bü%2echer.de",
        ] {
            assert_eq!(
                EmailAddress::parse(text).unwrap_err().code(),
                "invalid_email",
                "{text:?}"
            );
        }
    }

    #[test]
    fn lengths_end_at_64_and_254() {
        let local_part = "a".repeat(64);
        assert!(EmailAddress::parse(&format!("{local_part}@example.com")).is_ok());
        assert!(EmailAddress::parse(&format!("{local_part}a@example.com")).is_err());

        let of_length = |length: usize| {
            let labels = format!("{0}.{0}.", "b".repeat(62));
            let rest = length - local_part.len() - 1 - labels.len();
            format!("{local_part}@{labels}{}.de", "c".repeat(rest - 3))
        };
        assert!(EmailAddress::parse(&of_length(254)).is_ok());
        assert_eq!(
            EmailAddress::parse(&of_length(255)).unwrap_err().code(),
            "too_long"
        );
    }

    /// R-088.
    #[test]
    fn case_does_not_distinguish() {
        let (typed, lower) = (address("Jane@Example.COM"), address("jane@example.com"));
        assert_eq!(typed, lower);
        assert!(typed.cmp(&lower).is_eq());
        assert_eq!(laws::hash_of(&typed), laws::hash_of(&lower));
        assert_eq!(typed.as_str(), "Jane@Example.COM");
        assert!(address("b@example.com") > address("A@example.com"));
    }

    #[test]
    fn debug_and_errors_show_nothing_of_the_address() {
        assert_eq!(
            format!("{:?}", Some(address("jane@example.com"))),
            "Some(EmailAddress(<redacted>))"
        );
        let error = EmailAddress::parse("jane@example").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("jane"));
    }

    proptest! {
        #[test]
        fn never_panics(text in laws::any_text()) {
            laws::holds_for::<EmailAddress>(&text);
            laws::holds_for::<EmailAddress>(&format!("jane@{text}.com"));
            laws::holds_for::<EmailAddress>(&format!("{text}@example.com"));
        }

        #[test]
        fn punctuation_never_panics(text in "[a-zA-Z0-9.@\"\\\\<>()\\[\\] \u{e4}-]{0,30}") {
            laws::holds_for::<EmailAddress>(&text);
        }

        #[test]
        fn round_trips(
            local_part in "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,20}([.][a-zA-Z0-9]{1,9}){0,3}",
            domain in "([a-zA-Z0-9]{1,9}[.]){1,4}[a-zA-Z]{2,6}",
        ) {
            let text = format!("{local_part}@{domain}");
            prop_assert!(laws::holds_for::<EmailAddress>(&text), "{}", text);
        }

        /// R-088.
        #[test]
        fn the_normalized_form_is_the_identity(
            a in "[aAbB]{1,2}@[xX][.]([dD][eE])",
            b in "[aAbB]{1,2}@[xX][.]([dD][eE])",
        ) {
            let (a, b) = (address(&a), address(&b));
            prop_assert_eq!(a == b, a.normalized() == b.normalized());
            prop_assert_eq!(a.cmp(&b), a.normalized().cmp(&b.normalized()));
            if a == b {
                prop_assert_eq!(laws::hash_of(&a), laws::hash_of(&b));
            }
        }
    }
}

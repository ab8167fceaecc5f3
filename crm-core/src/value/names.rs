//! Names that machines read: API names of custom objects, subdomains, domain names.

use ::url::Host;

use super::text_value::text_conversions;
use super::{TextValue, ValueError};

/// The name by which programs know a custom object or field: a lower-case letter, then lower-case
/// letters, digits and underscores, at most 100 characters.
///
/// ```
/// use crm_core::value::{ApiName, TextValue};
///
/// assert_eq!(ApiName::parse("renewal_date")?.as_str(), "renewal_date");
/// assert!(ApiName::parse("Renewal Date").is_err());
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApiName(String);

impl ApiName {
    /// The greatest number of characters.
    ///
    /// ```
    /// use crm_core::value::{ApiName, TextValue};
    ///
    /// assert!(ApiName::parse(&"a".repeat(ApiName::MAX_LENGTH)).is_ok());
    /// ```
    pub const MAX_LENGTH: usize = 100;
}

impl TextValue for ApiName {
    // R-191
    fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase());
        let is_word = text
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if !(starts_well && is_word) {
            return Err(ValueError::new(
                "invalid_api_name",
                "start with a lower-case letter and go on with lower-case letters, digits or _",
            ));
        }
        if text.len() > Self::MAX_LENGTH {
            return Err(ValueError::new("too_long", "use at most 100 characters"));
        }
        Ok(Self(text.to_owned()))
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    fn from_stored(text: String) -> Result<Self, ValueError> {
        Ok(Self(text))
    }
}

text_conversions!(ApiName, shown);

/// The first label of the address under which a tenant is reached: `acme` in `acme.crm.example`.
///
/// Two to 63 letters, digits and hyphens, neither first nor last a hyphen. Lower case; input is
/// lower-cased, since host names ignore case. 63 is where a label of the domain name system ends.
///
/// ```
/// use crm_core::value::{Subdomain, TextValue};
///
/// assert_eq!(Subdomain::parse("Acme-2")?.as_str(), "acme-2");
/// assert!(Subdomain::parse("a").is_err());
/// assert!(Subdomain::parse("acme.eu").is_err());
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subdomain(String);

impl TextValue for Subdomain {
    // R-244, B-49
    fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        if text.len() >= 2 && is_dns_label(text) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(ValueError::new(
                "invalid_subdomain",
                "use 2 to 63 letters, digits and hyphens, with no hyphen first or last",
            ))
        }
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    fn from_stored(text: String) -> Result<Self, ValueError> {
        Ok(Self(text))
    }
}

text_conversions!(Subdomain, shown);

/// A full domain name, such as `crm.example.com`: lower case, in the ASCII form.
///
/// At least two labels of 1 to 63 letters, digits and hyphens, no hyphen first or last in a label,
/// 253 characters in all, the last label not a number (that would be an IP address). A name with
/// other letters is turned into its ASCII form. A dot at the end, the root of the domain name
/// system, is refused.
///
/// ```
/// use crm_core::value::{DomainName, TextValue};
///
/// assert_eq!(DomainName::parse("CRM.Example.com")?.as_str(), "crm.example.com");
/// assert_eq!(DomainName::parse("bücher.example")?.as_str(), "xn--bcher-kva.example");
/// assert!(DomainName::parse("localhost").is_err());
/// assert!(DomainName::parse("192.0.2.1").is_err());
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainName(String);

impl TextValue for DomainName {
    // R-241
    fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        let name = if text.is_ascii() {
            Some(text.to_ascii_lowercase())
        } else {
            international_to_ascii(text)
        };
        name.filter(|name| is_domain_name(name))
            .map(Self)
            .ok_or_else(|| {
                ValueError::new(
                    "invalid_domain",
                    "write a full domain name such as crm.example.com",
                )
            })
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    fn from_stored(text: String) -> Result<Self, ValueError> {
        Ok(Self(text))
    }
}

text_conversions!(DomainName, shown);

/// One label of a domain name, in either case.
fn is_dns_label(text: &str) -> bool {
    text.len() <= 63
        && !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// An ASCII domain name of at least two labels, in either case, that is not an IP address.
pub(super) fn is_domain_name(text: &str) -> bool {
    let Some((_, last)) = text.rsplit_once('.') else {
        return false;
    };
    text.len() <= 253
        && text.split('.').all(is_dns_label)
        && !last.bytes().all(|b| b.is_ascii_digit())
}

/// The ASCII form of a domain name with letters outside ASCII, if it has one.
pub(super) fn international_to_ascii(text: &str) -> Option<String> {
    // The parser of hosts undoes percent-encoding, which has no place in a bare domain name.
    if text.contains('%') {
        return None;
    }
    match Host::parse(text) {
        Ok(Host::Domain(name)) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::text_value::laws;

    /// R-191.
    #[test]
    fn api_names_follow_the_pattern() {
        for text in ["a", "a1", "invoice", "renewal_date_2", " padded "] {
            assert!(ApiName::parse(text).is_ok(), "{text}");
        }
        for text in ["", "_a", "1a", "A", "a-b", "a b", "é", "aé", "a\0"] {
            assert_eq!(
                ApiName::parse(text).unwrap_err().code(),
                "invalid_api_name",
                "{text}"
            );
        }
        assert!(ApiName::parse(&"a".repeat(100)).is_ok());
        assert_eq!(
            ApiName::parse(&"a".repeat(101)).unwrap_err().code(),
            "too_long"
        );
    }

    /// R-244, B-49.
    #[test]
    fn subdomains_are_labels_of_two_to_63() {
        for text in ["ab", "a1", "0-0", "ACME", "xn--bcher-kva"] {
            assert!(Subdomain::parse(text).is_ok(), "{text}");
        }
        for text in ["", "a", "-a", "a-", "a_b", "a.b", "a b", "äb"] {
            assert_eq!(
                Subdomain::parse(text).unwrap_err().code(),
                "invalid_subdomain",
                "{text}"
            );
        }
        assert!(Subdomain::parse(&"a".repeat(63)).is_ok());
        assert!(Subdomain::parse(&"a".repeat(64)).is_err());
    }

    /// R-241.
    #[test]
    fn domains_obey_the_domain_name_system() {
        for text in [
            "a.b",
            "example.com",
            "a-b.example",
            "1.example",
            "EXAMPLE.co-uk",
            "例え.jp",
        ] {
            assert!(DomainName::parse(text).is_ok(), "{text}");
        }
        let refused = [
            "",
            ".",
            "example",
            "example.",
            ".example",
            "a..b",
            "-a.b",
            "a-.b",
            "a.b-",
            "a_b.c",
            "10.0.0.1",
            "a.1",
            "a b.c",
            "a.b/c",
            "a.b:80",
            "a@b.c",
            "１.２.３.４",
            "bü%2echer.de",
        ];
        for text in refused {
            assert_eq!(
                DomainName::parse(text).unwrap_err().code(),
                "invalid_domain",
                "{text}"
            );
        }
        let label = "a".repeat(63);
        assert!(DomainName::parse(&format!("{label}.b")).is_ok());
        assert!(DomainName::parse(&format!("{label}a.b")).is_err());
        let long = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        assert_eq!(long.len(), 253);
        assert!(DomainName::parse(&long).is_ok());
        assert!(DomainName::parse(&format!("{long}b")).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in laws::any_text()) {
            laws::holds_for::<ApiName>(&text);
            laws::holds_for::<Subdomain>(&text);
            laws::holds_for::<DomainName>(&text);
        }

        #[test]
        fn api_names_round_trip(text in "[a-z][a-z0-9_]{0,99}") {
            prop_assert!(laws::holds_for::<ApiName>(&text));
        }

        #[test]
        fn subdomains_round_trip(text in "[a-zA-Z0-9][a-zA-Z0-9-]{0,61}[a-zA-Z0-9]") {
            prop_assert!(laws::holds_for::<Subdomain>(&text));
        }

        #[test]
        fn domains_round_trip(text in "([a-zA-Z0-9]([a-z0-9-]{0,5}[a-z0-9])?[.]){1,4}[a-z]{2,6}") {
            prop_assert!(laws::holds_for::<DomainName>(&text));
        }

        #[test]
        fn international_domains_stay_lawful(text in "([a-zäöüß例え가]{1,8}[.。]){1,3}[a-zé]{2,6}") {
            laws::holds_for::<DomainName>(&text);
        }
    }
}

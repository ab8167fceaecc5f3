//! [`Boundaries`]: countries and postal codes.

use serde::{Deserialize, Serialize};

use crate::accounts::Account;
use crate::error::{Faults, codes};
use crate::schema::document_value;
use crate::value::{Address, Country};

/// The most areas of one territory, and the most postal codes of one area.
const MOST: usize = 1_000;
/// The longest postal code.
const LENGTH: usize = 20;

/// Where the accounts, and the leads, are that a territory takes: in one of these areas. In JSON:
///
/// ```
/// use crm_core::territories::Boundaries;
///
/// let boundaries: Boundaries = serde_json::from_value(serde_json::json!([
///     {"country": "AT"},
///     {"country": "CH", "postal_codes": [{"prefix": "80"}, {"from": "8100", "to": "8199"}]},
/// ]))?;
/// assert_eq!(boundaries.0.len(), 2);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundaries(pub Vec<Area>);

/// A country, or the part of it that has some postal codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Area {
    /// The country.
    pub country: Country,
    /// The postal codes; the whole country where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub postal_codes: Vec<PostalCodes>,
}

/// Postal codes. Only letters and digits count, and their case does not: `SW1A 1AA` begins with
/// `sw1a`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum PostalCodes {
    /// All that begin with this.
    Prefix {
        /// The beginning.
        prefix: String,
    },
    /// All from one to another one of the same length, both included. Longer codes count by their
    /// beginning: `90210-1234` is between `90000` and `90299`.
    Range {
        /// The first.
        from: String,
        /// The last.
        to: String,
    },
}

impl Area {
    /// A whole country.
    #[must_use]
    pub const fn of(country: Country) -> Self {
        Self {
            country,
            postal_codes: Vec::new(),
        }
    }

    /// Only the postal codes that begin with `prefix`, besides those given before.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.postal_codes.push(PostalCodes::Prefix {
            prefix: prefix.into(),
        });
        self
    }

    /// Only the postal codes between two, both included, besides those given before.
    #[must_use]
    pub fn with_range(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.postal_codes.push(PostalCodes::Range {
            from: from.into(),
            to: to.into(),
        });
        self
    }
}

/// Letters in upper case and digits: what counts of a postal code.
fn significant(code: &str) -> String {
    let counts = code.chars().filter(|c| c.is_alphanumeric());
    counts.flat_map(char::to_uppercase).collect()
}

impl PostalCodes {
    fn take(&self, code: &str) -> bool {
        match self {
            Self::Prefix { prefix } => code.starts_with(&significant(prefix)),
            Self::Range { from, to } => {
                let (from, to) = (significant(from), significant(to));
                // Bounds of the same length compare by their characters, in order.
                code.get(..from.len())
                    .is_some_and(|start| *from <= *start && *start <= *to)
            }
        }
    }

    /// What is wrong, if anything.
    fn fault(&self) -> Option<(&'static str, &'static str)> {
        let texts: &[&String] = match self {
            Self::Prefix { prefix } => &[prefix],
            Self::Range { from, to } => &[from, to],
        };
        if texts.iter().any(|text| significant(text).is_empty()) {
            return Some((codes::BLANK, "has a postal code without letters and digits"));
        }
        if texts.iter().any(|text| text.chars().count() > LENGTH) {
            return Some((
                codes::TOO_LONG,
                "has a postal code of more than 20 characters",
            ));
        }
        if let Self::Range { from, to } = self {
            let (from, to) = (significant(from), significant(to));
            if from.len() != to.len() || from > to {
                return Some((
                    codes::INCONSISTENT,
                    "has a range of postal codes that are not of one length, the lesser first",
                ));
            }
        }
        None
    }
}

impl Boundaries {
    /// Whether a place is within the boundaries.
    pub(super) fn take(&self, place: &Place) -> bool {
        let Some(country) = place.country else {
            return false;
        };
        self.0
            .iter()
            .filter(|area| area.country == country)
            .any(|area| {
                area.postal_codes.is_empty()
                    || place
                        .postal_code
                        .as_ref()
                        .is_some_and(|code| area.postal_codes.iter().any(|codes| codes.take(code)))
            })
    }

    /// Adds what is wrong with them.
    pub(super) fn check(&self, path: &str, faults: &mut Faults) {
        if self.0.is_empty() {
            faults.add(
                path,
                codes::BLANK,
                "must have an area, or be empty altogether",
            );
        }
        let too_many =
            self.0.len() > MOST || self.0.iter().any(|area| area.postal_codes.len() > MOST);
        if too_many {
            faults.add(
                path,
                codes::TOO_MANY,
                format!("has more than {MOST} areas, or postal codes in one of them"),
            );
        }
        let all = self.0.iter().flat_map(|area| &area.postal_codes);
        for (code, message) in all.filter_map(PostalCodes::fault) {
            faults.add(path, code, message);
        }
    }
}

document_value!(Boundaries);

/// Where something is, as far as boundaries look at it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    country: Option<Country>,
    postal_code: Option<String>,
}

impl Place {
    /// The first of some addresses that names a country.
    pub(crate) fn of<'a>(addresses: impl IntoIterator<Item = &'a Option<Address>>) -> Self {
        let mut named = addresses.into_iter().flatten();
        let address = named.find(|address| address.country.is_some());
        address.map_or_else(Self::default, |address| Self {
            country: address.country,
            postal_code: address.postal_code.as_deref().map(significant),
        })
    }

    /// An account is where its invoices go, or where its goods go if that names no country.
    pub(super) fn of_account(account: &Account) -> Self {
        Self::of([&account.billing_address, &account.shipping_address])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::TextValue;

    fn takes(area: Area, code: Option<&str>) -> bool {
        let address = Address {
            country: Some(Country::parse("GB").unwrap()),
            postal_code: code.map(str::to_owned),
            ..Address::default()
        };
        let account = Account {
            billing_address: Some(address),
            ..Account::new("Globex")
        };
        Boundaries(vec![area]).take(&Place::of_account(&account))
    }

    fn area(country: &str) -> Area {
        Area::of(Country::parse(country).unwrap())
    }

    #[test]
    fn postal_codes_count_by_letters_and_digits() {
        assert!(takes(area("GB"), None));
        assert!(!takes(area("CH"), None));
        for code in ["SW1A 1AA", "sw1a1aa", "SW1A-1AA"] {
            assert!(takes(area("GB").with_prefix("sw 1a"), Some(code)), "{code}");
        }
        assert!(!takes(area("GB").with_prefix("SW2"), Some("SW1A 1AA")));
        assert!(!takes(area("GB").with_prefix("SW2"), None));
        let range = || area("GB").with_range("90000", "90-299");
        for (code, inside) in [
            ("90000", true),
            ("90210-1234", true),
            ("90299", true),
            ("90300", false),
            ("8999", false),
            ("902", false),
            ("ä0210", false),
        ] {
            assert_eq!(takes(range(), Some(code)), inside, "{code}");
        }
    }

    #[test]
    fn an_account_is_where_its_invoices_go_or_else_its_goods() {
        let address = |country: Option<&str>| {
            Some(Address {
                country: country.map(|code| Country::parse(code).unwrap()),
                ..Address::default()
            })
        };
        let mut account = Account::new("Globex");
        assert_eq!(Place::of_account(&account), Place::default());
        account.shipping_address = address(Some("CH"));
        assert_eq!(
            Place::of_account(&account).country.map(|c| c.alpha2()),
            Some("CH")
        );
        account.billing_address = address(None);
        assert_eq!(
            Place::of_account(&account).country.map(|c| c.alpha2()),
            Some("CH")
        );
        account.billing_address = address(Some("AT"));
        assert_eq!(
            Place::of_account(&account).country.map(|c| c.alpha2()),
            Some("AT")
        );
    }

    #[test]
    fn faulty_boundaries_are_told() {
        let codes = |boundaries: Boundaries| -> Vec<&'static str> {
            let mut faults = Faults::default();
            boundaries.check("boundaries", &mut faults);
            let errors = faults.into_result().err().map(|error| error.into_errors());
            errors
                .into_iter()
                .flatten()
                .map(|error| error.code)
                .collect()
        };
        assert_eq!(codes(Boundaries::default()), [codes::BLANK]);
        let one = |area| codes(Boundaries(vec![area]));
        assert!(one(area("CH").with_prefix("80").with_range("8100", "8199")).is_empty());
        assert_eq!(one(area("CH").with_prefix(" - ")), [codes::BLANK]);
        assert_eq!(
            one(area("CH").with_prefix("8".repeat(21))),
            [codes::TOO_LONG]
        );
        assert_eq!(one(area("CH").with_range("9", "10")), [codes::INCONSISTENT]);
        assert_eq!(
            one(area("CH").with_range("20", "10")),
            [codes::INCONSISTENT]
        );
        let many = Boundaries(vec![area("CH"); MOST + 1]);
        assert_eq!(codes(many), [codes::TOO_MANY]);
    }
}

//! [`PersonName`] and [`Address`]: groups of fields that several objects have.

use serde::{Deserialize, Serialize};

use super::Country;
use crate::schema::FieldGroup;

/// A person's name. Either part may be missing: some people have one name.
///
/// ```
/// use crm_core::value::PersonName;
///
/// let ada = PersonName::new("Ada", "Lovelace");
/// assert_eq!(ada.full_name().as_deref(), Some("Ada Lovelace"));
/// assert_eq!(PersonName::split("Mary Ann Smith"), PersonName::new("Mary", "Ann Smith"));
/// ```
#[derive(Clone, PartialEq, Eq, FieldGroup, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PersonName {
    /// Given name.
    #[field(max_len = 100, personal, searchable)]
    pub first_name: Option<String>,
    /// Family name.
    #[field(max_len = 100, personal, searchable, indexed)]
    pub last_name: Option<String>,
}

impl PersonName {
    /// A name of two parts.
    #[must_use]
    pub fn new(first: impl Into<String>, last: impl Into<String>) -> Self {
        Self {
            first_name: Some(first.into()),
            last_name: Some(last.into()),
        }
    }

    /// A name written as one text: the first word is the given name, all others are the family
    /// name. A single word is a given name.
    #[must_use]
    pub fn split(text: &str) -> Self {
        let text = text.trim();
        let part = |part: &str| (!part.is_empty()).then(|| part.to_owned());
        match text.split_once(char::is_whitespace) {
            Some((first, last)) => Self {
                first_name: part(first),
                last_name: part(last.trim()),
            },
            None => Self {
                first_name: part(text),
                last_name: None,
            },
        }
    }

    /// R-020: given name, a space, family name; or the one that is there; else none.
    #[must_use]
    pub fn full_name(&self) -> Option<String> {
        match (filled(&self.first_name), filled(&self.last_name)) {
            (Some(first), Some(last)) => Some(format!("{first} {last}")),
            (one, other) => one.or(other).map(str::to_owned),
        }
    }

    /// How many of the two parts are there.
    #[must_use]
    pub fn parts(&self) -> usize {
        [&self.first_name, &self.last_name]
            .into_iter()
            .filter(|part| filled(part).is_some())
            .count()
    }
}

fn filled(part: &Option<String>) -> Option<&str> {
    part.as_deref()
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

/// A postal address.
///
/// ```
/// use crm_core::value::Address;
///
/// let address = Address {
///     street: Some("1 Main Street".into()),
///     city: Some("Springfield".into()),
///     country: Some("US".parse().unwrap()),
///     ..Address::default()
/// };
/// assert_eq!(address.lines(), ["1 Main Street", "Springfield", "United States of America"]);
/// ```
#[derive(Clone, PartialEq, Eq, FieldGroup, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Address {
    /// Street, house number and what else stands above the city.
    #[field(multiline, max_len = 500)]
    pub street: Option<String>,
    /// City.
    #[field(max_len = 100)]
    pub city: Option<String>,
    /// State, province or region.
    #[field(max_len = 100)]
    pub region: Option<String>,
    /// Postal code.
    #[field(max_len = 20)]
    pub postal_code: Option<String>,
    /// Country.
    pub country: Option<Country>,
}

impl Address {
    /// The filled parts, from the street to the country's name.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let parts = [&self.street, &self.postal_code, &self.city, &self.region];
        let mut lines: Vec<String> = parts
            .into_iter()
            .filter_map(|part| filled(part).map(str::to_owned))
            .collect();
        lines.extend(self.country.map(|country| country.name().to_owned()));
        lines
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// R-020.
        #[test]
        fn full_name_is_the_parts_that_are_there(first in "[A-Za-z]{0,8}", last in "[A-Za-z]{0,8}") {
            let name = PersonName::new(first.clone(), last.clone());
            let wanted = [first, last].into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>();
            prop_assert_eq!(name.parts(), wanted.len());
            let joined = (!wanted.is_empty()).then(|| wanted.join(" "));
            prop_assert_eq!(name.full_name(), joined);
        }

        #[test]
        fn names_and_addresses_survive_json(text in ".{0,20}", some: bool) {
            let text = some.then_some(text);
            let name = PersonName { first_name: text.clone(), last_name: None };
            let json = serde_json::to_string(&name).unwrap();
            prop_assert_eq!(serde_json::from_str::<PersonName>(&json).unwrap(), name);
            let address = Address {
                street: text.clone(),
                postal_code: text,
                country: some.then(|| "DE".parse().unwrap()),
                ..Address::default()
            };
            let json = serde_json::to_string(&address).unwrap();
            prop_assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
        }

        #[test]
        fn splitting_keeps_every_word(text in "[a-z]{1,5}( [a-z]{1,5}){0,3}") {
            prop_assert_eq!(PersonName::split(&text).full_name(), Some(text));
        }
    }
}

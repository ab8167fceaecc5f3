//! Telephone numbers.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, Region};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::text_value::deserialize_text;
use super::{Country, TextValue, ValueError};

/// A telephone number: what was typed and, where it can be told, the number in E.164 form.
///
/// E.164 is the form in which a number is unique and can be dialled from anywhere: `+`, country
/// code, number, digits only. It is known when what was typed names a number that exists in the
/// numbering plan of its country: with `+` and country code, or, through
/// [`parse_in`](Self::parse_in), the way people write it at home. Anything else that looks like a
/// number is kept as typed, without E.164, rather than lost: a local number whose area isn't known,
/// or a plan newer than the ones known here.
///
/// Two numbers with an E.164 form are equal when it is the same, however they were typed; two
/// without are equal when they were typed the same; one with and one without are different. It is
/// personal data: `Debug` does not show it.
///
/// # What is accepted
///
/// An optional `+`, then 7 to 20 digits, spaces, hyphens, dots and round brackets, with at least
/// three digits among them. Dots are how New Caledonia and much of Europe group digits. Letters
/// (`800 FLOWERS`), extensions (`ext. 12`) and other signs are refused: an extension belongs in a
/// field of its own, where it doesn't hide that two numbers are the same.
///
/// Numbering plans change every few weeks; the ones known here are those of libphonenumber 9.0.42.
/// Of 3,075 numbers with the published results of its Python port (plans of 9.0.43), read in the
/// region that each comes with, this becomes:
///
/// | | of 2,869 valid | of 206 others |
/// |---|---|---|
/// | the same E.164 form | 2,754 | |
/// | kept without E.164 form | 5 | 171 |
/// | another E.164 form | 0 | 0 |
/// | refused: letters, which includes `ext`, `x` and `tel:` | 56 | 16 |
/// | refused: other signs, such as `#`, `,`, `;`, `/`, `~`, `*` or a second plus | 12 | 10 |
/// | refused: fewer than 7 characters, numbers of small islands and short codes | 42 | 9 |
///
/// The five are numbers of Kosovo in national form: ISO 3166-1 has no code for it, so that it can't
/// be the country they are read in. With `+383` they are known. No result differs because of the
/// version of the plans.
///
/// ```
/// use crm_core::value::{Country, PhoneNumber, TextValue};
///
/// let typed = PhoneNumber::parse("+49 (30) 901820")?;
/// assert_eq!(typed.raw(), "+49 (30) 901820");
/// assert_eq!(typed.e164(), Some("+4930901820"));
///
/// let germany = Country::parse("DE")?;
/// assert_eq!(PhoneNumber::parse_in("030 901820", germany)?, typed);
/// assert_eq!(PhoneNumber::parse("030 901820")?.e164(), None);
/// assert_eq!(PhoneNumber::parse("call me").unwrap_err().code(), "invalid_phone");
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
///
/// In JSON a number is the text as typed if that is enough to tell its E.164 form, else both:
///
/// ```
/// use crm_core::value::{Country, PhoneNumber, TextValue};
///
/// let abroad = PhoneNumber::parse("+49 30 901820")?;
/// assert_eq!(serde_json::to_string(&abroad)?, r#""+49 30 901820""#);
///
/// let home = PhoneNumber::parse_in("030 901820", Country::parse("DE")?)?;
/// let json = r#"{"raw":"030 901820","e164":"+4930901820"}"#;
/// assert_eq!(serde_json::to_string(&home)?, json);
/// assert_eq!(serde_json::from_str::<PhoneNumber>(json)?, home);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct PhoneNumber {
    raw: String,
    e164: Option<String>,
}

impl PhoneNumber {
    /// Reads a number that carries its country code, or keeps it as typed.
    ///
    /// # Errors
    ///
    /// `invalid_phone` when the text does not look like a number.
    ///
    /// ```
    /// use crm_core::value::PhoneNumber;
    ///
    /// assert_eq!(PhoneNumber::parse("+1 650-253-0000")?.e164(), Some("+16502530000"));
    /// assert_eq!(PhoneNumber::parse("650-253-0000")?.e164(), None);
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    pub fn parse(raw: &str) -> Result<Self, ValueError> {
        let raw = looks_like_a_number(raw)?;
        Ok(Self {
            raw: raw.to_owned(),
            e164: e164_of_international(raw),
        })
    }

    /// The text, trimmed, if [`parse`](Self::parse) would read it; no numbering plan is looked at.
    pub(crate) fn typed(raw: &str) -> Result<&str, ValueError> {
        looks_like_a_number(raw)
    }

    /// Reads a number as people in a country write it, with or without country code.
    ///
    /// # Errors
    ///
    /// `invalid_phone` when the text does not look like a number.
    ///
    /// ```
    /// use crm_core::value::{Country, PhoneNumber, TextValue};
    ///
    /// let usa = Country::parse("US")?;
    /// assert_eq!(PhoneNumber::parse_in("(650) 253-0000", usa)?.e164(), Some("+16502530000"));
    /// assert_eq!(PhoneNumber::parse_in("+49 30 901820", usa)?.e164(), Some("+4930901820"));
    /// // Seven digits: the area is missing.
    /// assert_eq!(PhoneNumber::parse_in("253-0000", usa)?.e164(), None);
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    pub fn parse_in(raw: &str, country: Country) -> Result<Self, ValueError> {
        let raw = looks_like_a_number(raw)?;
        let region = Region::from_code(country.alpha2()).ok();
        Ok(Self {
            raw: raw.to_owned(),
            e164: e164_of(raw, region),
        })
    }

    /// Takes back the two parts of a number that was stored, without looking at them again.
    ///
    /// ```
    /// use crm_core::value::PhoneNumber;
    ///
    /// let number = PhoneNumber::from_stored("030 901820".into(), Some("+4930901820".into()));
    /// assert_eq!(number, PhoneNumber::parse("+49 30 901820")?);
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn from_stored(raw: String, e164: Option<String>) -> Self {
        Self { raw, e164 }
    }

    /// What was typed, without the white space around it.
    ///
    /// ```
    /// use crm_core::value::PhoneNumber;
    ///
    /// assert_eq!(PhoneNumber::parse(" +1 (650) 253-0000 ")?.raw(), "+1 (650) 253-0000");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The number in E.164 form, if what was typed is a number of a known numbering plan.
    ///
    /// ```
    /// use crm_core::value::PhoneNumber;
    ///
    /// assert_eq!(PhoneNumber::parse("+1 (650) 253-0000")?.e164(), Some("+16502530000"));
    /// assert_eq!(PhoneNumber::parse("+1 (650) 253-000")?.e164(), None);
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn e164(&self) -> Option<&str> {
        self.e164.as_deref()
    }

    /// The country whose number this is, if its E.164 form is known and belongs to one.
    ///
    /// International services (`+800`) and regions that ISO 3166-1 doesn't list, such as Kosovo,
    /// have none.
    ///
    /// ```
    /// use crm_core::value::{Country, PhoneNumber, TextValue};
    ///
    /// assert_eq!(PhoneNumber::parse("+64 3 331 6005")?.region(), Some(Country::parse("NZ")?));
    /// assert_eq!(PhoneNumber::parse("+800 1234 5678")?.region(), None);
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn region(&self) -> Option<Country> {
        let number = PHONE_NUMBER_UTIL.parse(self.e164.as_deref()?, None).ok()?;
        let region = PHONE_NUMBER_UTIL.get_region_for_number(&number)?;
        Country::parse(region.as_region_str().as_str()).ok()
    }

    /// What tells two numbers apart: the E.164 form, or else what was typed.
    fn identity(&self) -> (bool, &str) {
        match &self.e164 {
            Some(e164) => (true, e164),
            None => (false, &self.raw),
        }
    }
}

/// The text, trimmed, if it has the form of a number.
// R-022; R-067 allows 50 characters, which 21 never reach
fn looks_like_a_number(text: &str) -> Result<&str, ValueError> {
    let text = text.trim();
    let body = text.strip_prefix('+').unwrap_or(text);
    let is_allowed = |b: u8| b.is_ascii_digit() || matches!(b, b' ' | b'-' | b'.' | b'(' | b')');
    let digits = body.bytes().filter(u8::is_ascii_digit).count();
    if (7..=20).contains(&body.len()) && body.bytes().all(is_allowed) && digits >= 3 {
        Ok(text)
    } else {
        Err(invalid())
    }
}

fn invalid() -> ValueError {
    ValueError::new(
        "invalid_phone",
        "write a telephone number of 7 to 20 digits, spaces, hyphens, dots and brackets, \
         such as +1 650-253-0000",
    )
}

/// The E.164 form of a number that carries its country code.
fn e164_of_international(text: &str) -> Option<String> {
    // Without the plus the library would refuse, but load its numbering plans first.
    if text.starts_with('+') {
        e164_of(text, None)
    } else {
        None
    }
}

/// The E.164 form of a number that exists in its numbering plan.
fn e164_of(text: &str, region: Option<Region>) -> Option<String> {
    let number = PHONE_NUMBER_UTIL.parse(text, region).ok()?;
    let is_valid = PHONE_NUMBER_UTIL.is_valid_number(&number);
    is_valid.then(|| {
        PHONE_NUMBER_UTIL
            .format(&number, PhoneNumberFormat::E164)
            .into_owned()
    })
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.raw)
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhoneNumber(<redacted>)")
    }
}

impl FromStr for PhoneNumber {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for PhoneNumber {
    type Error = ValueError;

    fn try_from(text: &str) -> Result<Self, ValueError> {
        Self::parse(text)
    }
}

impl PartialEq for PhoneNumber {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for PhoneNumber {}

impl PartialOrd for PhoneNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PhoneNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        self.identity().cmp(&other.identity())
    }
}

impl Hash for PhoneNumber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl Serialize for PhoneNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.e164 {
            Some(e164) if e164_of_international(&self.raw).as_ref() != Some(e164) => {
                let mut parts = serializer.serialize_struct("PhoneNumber", 2)?;
                parts.serialize_field("raw", &self.raw)?;
                parts.serialize_field("e164", e164)?;
                parts.end()
            }
            _ => serializer.serialize_str(&self.raw),
        }
    }
}

impl<'de> Deserialize<'de> for PhoneNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PhoneVisitor)
    }
}

/// The JSON form with both parts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    raw: PlainText,
    e164: Option<PlainText>,
}

impl Parts {
    fn into_number(self) -> Result<PhoneNumber, ValueError> {
        let number = PhoneNumber::parse(&self.raw.0)?;
        let Some(PlainText(e164)) = self.e164 else {
            return Ok(number);
        };
        let is_canonical = e164_of_international(&e164).as_ref() == Some(&e164);
        let agrees = match &number.e164 {
            Some(own) => *own == e164,
            None => end_alike(&number.raw, &e164),
        };
        if is_canonical && agrees {
            Ok(PhoneNumber {
                e164: Some(e164),
                ..number
            })
        } else {
            Err(ValueError::new(
                "invalid_phone",
                "give the E.164 form of the number as typed",
            ))
        }
    }
}

/// Whether the last four digits agree. What is dialled before them depends on where one stands, so
/// that no more can be asked without knowing the country in which the number was typed.
fn end_alike(raw: &str, e164: &str) -> bool {
    let ending = |text: &str| -> Vec<u8> {
        text.bytes()
            .rev()
            .filter(u8::is_ascii_digit)
            .take(4)
            .collect()
    };
    ending(raw) == ending(e164)
}

/// A text without rules of its own, read with errors that do not repeat what was there instead.
#[derive(Clone, PartialEq)]
struct PlainText(String);

impl TextValue for PlainText {
    fn parse(text: &str) -> Result<Self, ValueError> {
        Ok(Self(text.to_owned()))
    }

    fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for PlainText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_text(deserializer)
    }
}

struct PhoneVisitor;

impl PhoneVisitor {
    fn refuse<E: Error>() -> Result<PhoneNumber, E> {
        Err(E::custom(ValueError::wrong_type(
            "write a telephone number as a text",
        )))
    }
}

impl<'de> Visitor<'de> for PhoneVisitor {
    type Value = PhoneNumber;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a telephone number as a text, or its parts `raw` and `e164`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PhoneNumber, E> {
        PhoneNumber::parse(text).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PhoneNumber, A::Error> {
        let parts = Parts::deserialize(MapAccessDeserializer::new(map))?;
        parts.into_number().map_err(A::Error::custom)
    }

    // A number typed without quotes is still personal data: the errors of these must not repeat it.

    fn visit_i64<E: Error>(self, _: i64) -> Result<PhoneNumber, E> {
        Self::refuse()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<PhoneNumber, E> {
        Self::refuse()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<PhoneNumber, E> {
        Self::refuse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::text_value::laws::{any_text, hash_of};

    fn country(code: &str) -> Country {
        Country::parse(code).unwrap()
    }

    fn json_round_trip(number: &PhoneNumber) -> PhoneNumber {
        serde_json::from_str(&serde_json::to_string(number).unwrap()).unwrap()
    }

    /// R-022.
    #[test]
    fn the_form_is_digits_and_grouping() {
        for text in [
            "1234567",
            "+1234567",
            "12345678901234567890",
            "+12345678901234567890",
            "(030) 90-18.20",
            " 030 901820 ",
        ] {
            assert!(PhoneNumber::parse(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "123456",
            "+123456",
            "123456789012345678901",
            "++1234567",
            "1234567+",
            "030/901820",
            "800 FLOWERS",
            "030 901820 x12",
            "٠٣٠٩٠١٨٢٠",
            "-------",
            "( - ) 12",
            "030\t901820",
        ] {
            assert_eq!(
                PhoneNumber::parse(text).unwrap_err().code(),
                "invalid_phone",
                "{text}"
            );
        }
    }

    /// R-223, A-56, G-13.
    #[test]
    fn international_numbers_are_normalised() {
        let number = PhoneNumber::parse("+44 (0)20 8765 4321").unwrap();
        assert_eq!(number.e164(), Some("+442087654321"));
        assert_eq!(number.raw(), "+44 (0)20 8765 4321");
        assert_eq!(number.region(), Some(country("GB")));
        for text in ["+44 1", "+999 123 4567", "+1 253 0000"] {
            assert_eq!(
                PhoneNumber::parse(&format!("{text}      0"))
                    .unwrap()
                    .e164(),
                None
            );
        }
    }

    #[test]
    fn a_country_supplies_what_is_missing() {
        let number = PhoneNumber::parse_in("020 8765 4321", country("GB")).unwrap();
        assert_eq!(number.e164(), Some("+442087654321"));
        let from_usa = PhoneNumber::parse_in("011 44 20 8765 4321", country("US")).unwrap();
        assert_eq!(from_usa, number);
        assert_eq!(json_round_trip(&from_usa), number);
        // Antarctica has no numbering plan.
        assert_eq!(
            PhoneNumber::parse_in("020 8765 4321", country("AQ"))
                .unwrap()
                .e164(),
            None
        );
        assert_eq!(
            PhoneNumber::parse_in("+442087654321", country("AQ")).unwrap(),
            number
        );
    }

    #[test]
    fn equality_goes_by_e164_then_by_what_was_typed() {
        let parse = |text| PhoneNumber::parse(text).unwrap();
        assert_eq!(parse("+1 650-253-0000"), parse("+1 (650) 253 0000"));
        assert_eq!(
            hash_of(&parse("+1 650-253-0000")),
            hash_of(&parse("+1 (650) 253 0000"))
        );
        assert_ne!(parse("650-253-0000"), parse("(650) 253 0000"));
        assert_eq!(parse("650-253-0000"), parse(" 650-253-0000"));
        let placed = PhoneNumber::parse_in("650-253-0000", country("US")).unwrap();
        assert_ne!(parse("650-253-0000"), placed);
    }

    #[test]
    fn debug_and_errors_show_nothing_of_the_number() {
        let number = PhoneNumber::parse("+1 650-253-0000").unwrap();
        assert_eq!(format!("{number:?}"), "PhoneNumber(<redacted>)");
        for json in [
            "16502530000",
            "-16502530000",
            "1650253.5",
            r#""1650253x""#,
            r#"{"raw":16502530000}"#,
            r#"{"raw":"1650253","e164":1650}"#,
            r#"{"raw":"1650253","e164":"+1650"}"#,
            "[1650]",
        ] {
            let error = serde_json::from_str::<PhoneNumber>(json)
                .unwrap_err()
                .to_string();
            assert!(!error.contains("1650"), "{error}");
        }
    }

    #[test]
    fn json_parts_must_agree() {
        let read = |json| serde_json::from_str::<PhoneNumber>(json);
        let number = read(r#"{"raw":"(650) 253-0000","e164":"+16502530000"}"#).unwrap();
        assert_eq!(number.e164(), Some("+16502530000"));
        assert_eq!(
            read(r#"{"raw":"+1 650 253 0000"}"#).unwrap().e164(),
            Some("+16502530000")
        );
        assert_eq!(
            read(r#"{"raw":"650 253 0000","e164":null}"#)
                .unwrap()
                .e164(),
            None
        );
        for json in [
            r#"{"raw":"(650) 253-0000","e164":"+1 650 253 0000"}"#,
            r#"{"raw":"(650) 253-0000","e164":"+16502530001"}"#,
            r#"{"raw":"(650) 253-0000","e164":"+999"}"#,
            r#"{"raw":"(650) 253-0000","e164":"16502530000"}"#,
            r#"{"raw":"+49 30 900000","e164":"+16502530000"}"#,
            r#"{"raw":"call","e164":"+16502530000"}"#,
            r#"{"raw":"+1 650 253 0000","note":""}"#,
            r#"{"e164":"+16502530000"}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any_text()) {
            let _ = PhoneNumber::parse(&text);
            let _ = PhoneNumber::parse_in(&text, country("DE"));
        }

        #[test]
        fn what_looks_like_a_number_never_panics(
            text in "[+]?[-0-9 .()]{7,20}",
            home in proptest::sample::select(Country::all().collect::<Vec<_>>()),
        ) {
            for number in [PhoneNumber::parse(&text), PhoneNumber::parse_in(&text, home)] {
                let Ok(number) = number else { continue };
                prop_assert_eq!(number.raw(), text.trim());
                let _ = number.region();
                let copy = json_round_trip(&number);
                prop_assert_eq!(&copy, &number);
                prop_assert_eq!(copy.raw(), number.raw());
                prop_assert_eq!(copy.e164(), number.e164());
                let stored = PhoneNumber::from_stored(
                    number.raw().to_owned(),
                    number.e164().map(str::to_owned),
                );
                prop_assert_eq!(hash_of(&stored), hash_of(&number));
                prop_assert_eq!(stored, number);
            }
        }

        /// R-223.
        #[test]
        fn e164_reads_back_as_itself(
            digits in "[2-9][0-9]{6,9}",
            home in proptest::sample::select(Country::all().collect::<Vec<_>>()),
        ) {
            let number = PhoneNumber::parse_in(&digits, home).unwrap();
            if let Some(e164) = number.e164() {
                prop_assert!(e164.starts_with('+'));
                prop_assert!(e164[1..].bytes().all(|b| b.is_ascii_digit()));
                if let Ok(again) = PhoneNumber::parse(e164) {
                    prop_assert_eq!(again.e164(), Some(e164));
                }
            }
        }
    }
}

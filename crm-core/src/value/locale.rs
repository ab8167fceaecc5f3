//! Where and in what language people are: country, language, time zone.

use std::cmp::Ordering;

use chrono_tz::Tz;
use isocountry::CountryCode;
use unic_langid::LanguageIdentifier;

use super::text_value::text_conversions;
use super::{TextValue, ValueError};

/// A country or territory of ISO 3166-1, by its two-letter code.
///
/// Input may be in lower case. Codes that ISO leaves to its users, such as `XK`, are not in the
/// list.
///
/// ```
/// use crm_core::value::{Country, TextValue};
///
/// let country = Country::parse("de")?;
/// assert_eq!(country.alpha2(), "DE");
/// assert_eq!(country.name(), "Germany");
/// assert_eq!(Country::parse("Germany").unwrap_err().code(), "invalid_country");
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Country(CountryCode);

impl Country {
    /// The two-letter code, in upper case.
    ///
    /// ```
    /// use crm_core::value::{Country, TextValue};
    ///
    /// assert_eq!(Country::parse("NZ")?.alpha2(), "NZ");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn alpha2(&self) -> &'static str {
        self.0.alpha2()
    }

    /// The short name in English, as ISO writes it.
    ///
    /// ```
    /// use crm_core::value::{Country, TextValue};
    ///
    /// assert_eq!(Country::parse("NZ")?.name(), "New Zealand");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Every country, in the order of the codes.
    ///
    /// ```
    /// use crm_core::value::Country;
    ///
    /// assert_eq!(Country::all().next().map(|country| country.name()), Some("Andorra"));
    /// assert_eq!(Country::all().count(), 249);
    /// ```
    pub fn all() -> impl Iterator<Item = Self> {
        CountryCode::iter_alpha2().copied().map(Self)
    }

    fn find(code: &str) -> Option<Self> {
        // The crate's own look-up compares with one code after the other.
        let codes = CountryCode::as_array_alpha2();
        let index = codes
            .binary_search_by(|country| country.alpha2().cmp(code))
            .ok()?;
        codes.get(index).copied().map(Self)
    }
}

impl TextValue for Country {
    // R-239
    fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        let found = match text.len() {
            2 => Self::find(text).or_else(|| Self::find(&text.to_ascii_uppercase())),
            _ => None,
        };
        found.ok_or_else(|| {
            ValueError::new(
                "invalid_country",
                "use a two-letter ISO 3166-1 code such as DE",
            )
        })
    }

    fn as_str(&self) -> &str {
        self.alpha2()
    }
}

impl PartialOrd for Country {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Country {
    fn cmp(&self, other: &Self) -> Ordering {
        self.alpha2().cmp(other.alpha2())
    }
}

text_conversions!(Country, shown);

/// A language as BCP 47 names it, such as `en-US`, `de` or `zh-Hant-TW`, in canonical form.
///
/// A language of two or three letters, then optionally script, region and variants, at most 35
/// characters. Input may use underscores and any case. Extensions (`-u-`), private use (`-x-`) and
/// the longer language subtags, of which none is registered, are refused; otherwise a plain word
/// such as `english` would pass.
///
/// ```
/// use crm_core::value::{LanguageTag, TextValue};
///
/// assert_eq!(LanguageTag::parse("PT_br")?.as_str(), "pt-BR");
/// assert_eq!(LanguageTag::default().as_str(), "en-US");
/// assert_eq!(LanguageTag::parse("english").unwrap_err().code(), "invalid_language");
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LanguageTag(String);

impl LanguageTag {
    /// The greatest number of characters.
    ///
    /// ```
    /// use crm_core::value::{LanguageTag, TextValue};
    ///
    /// let long = "de-Latn-CH-1901-variant1-variant2-variant3";
    /// assert!(long.len() > LanguageTag::MAX_LENGTH);
    /// assert_eq!(LanguageTag::parse(long).unwrap_err().code(), "too_long");
    /// ```
    pub const MAX_LENGTH: usize = 35;
}

impl Default for LanguageTag {
    fn default() -> Self {
        Self("en-US".to_owned())
    }
}

impl TextValue for LanguageTag {
    fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        if text.chars().nth(Self::MAX_LENGTH).is_some() {
            return Err(ValueError::new("too_long", "use at most 35 characters"));
        }
        text.parse::<LanguageIdentifier>()
            .ok()
            .filter(|tag| tag.language.as_str().len() <= 3)
            .map(|tag| Self(tag.to_string()))
            .ok_or_else(|| {
                ValueError::new("invalid_language", "use a language tag such as en-US or de")
            })
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    fn from_stored(text: String) -> Result<Self, ValueError> {
        Ok(Self(text))
    }
}

text_conversions!(LanguageTag, shown);

/// A time zone of the IANA database, such as `Europe/Berlin`.
///
/// ```
/// use crm_core::value::{TextValue, TimeZone};
///
/// assert_eq!(TimeZone::parse("Europe/Berlin")?.tz(), chrono_tz::Europe::Berlin);
/// assert_eq!(TimeZone::default(), TimeZone::UTC);
/// assert_eq!(TimeZone::parse("Berlin").unwrap_err().code(), "invalid_time_zone");
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeZone(Tz);

impl TimeZone {
    /// Coordinated universal time, the zone of whoever chose none.
    ///
    /// ```
    /// use crm_core::value::TimeZone;
    ///
    /// assert_eq!(TimeZone::UTC.to_string(), "UTC");
    /// ```
    pub const UTC: Self = Self(Tz::UTC);

    /// The zone as `chrono` uses it, to turn a time of the clock into a time of the place.
    ///
    /// ```
    /// use crm_core::value::{TextValue, TimeZone};
    ///
    /// assert_eq!(TimeZone::parse("Asia/Tokyo")?.tz().name(), "Asia/Tokyo");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn tz(&self) -> Tz {
        self.0
    }
}

impl Default for TimeZone {
    fn default() -> Self {
        Self::UTC
    }
}

impl From<Tz> for TimeZone {
    fn from(tz: Tz) -> Self {
        Self(tz)
    }
}

impl TextValue for TimeZone {
    fn parse(text: &str) -> Result<Self, ValueError> {
        text.trim().parse().map(Self).map_err(|_| {
            ValueError::new(
                "invalid_time_zone",
                "use a time zone name such as Europe/Berlin",
            )
        })
    }

    fn as_str(&self) -> &str {
        self.0.name()
    }
}

impl PartialOrd for TimeZone {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TimeZone {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

text_conversions!(TimeZone, shown);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::text_value::laws;

    /// R-239.
    #[test]
    fn every_country_is_found_by_its_code() {
        for country in Country::all() {
            assert!(laws::holds_for::<Country>(country.alpha2()), "{country}");
            assert!(
                laws::holds_for::<Country>(&country.alpha2().to_lowercase()),
                "{country}"
            );
            assert!(!country.name().is_empty());
        }
        for text in ["", "D", "DEU", "XK", "ZZ", "É", "d e", "276"] {
            assert_eq!(
                Country::parse(text).unwrap_err().code(),
                "invalid_country",
                "{text}"
            );
        }
    }

    #[test]
    fn language_tags_become_canonical() {
        let cases = [
            ("EN-us", "en-US"),
            ("de", "de"),
            ("zh_hant_tw", "zh-Hant-TW"),
            ("es-419", "es-419"),
            ("sl-ROZAJ-biske", "sl-biske-rozaj"),
            ("gsw-CH", "gsw-CH"),
        ];
        for (text, canonical) in cases {
            assert_eq!(LanguageTag::parse(text).unwrap().as_str(), canonical);
        }
        let refused = [
            "",
            "e",
            "english",
            "en-",
            "-en",
            "en us",
            "de-u-co-phonebk",
            "x-own",
            "en-é",
        ];
        for text in refused {
            assert_eq!(
                LanguageTag::parse(text).unwrap_err().code(),
                "invalid_language",
                "{text}"
            );
        }
        assert_eq!(
            LanguageTag::parse(&"de-".repeat(20)).unwrap_err().code(),
            "too_long"
        );
    }

    #[test]
    fn the_default_language_is_a_tag() {
        assert!(laws::holds_for::<LanguageTag>(
            LanguageTag::default().as_str()
        ));
    }

    #[test]
    fn every_time_zone_round_trips() {
        for tz in chrono_tz::TZ_VARIANTS {
            assert!(laws::holds_for::<TimeZone>(tz.name()), "{tz}");
        }
        for text in ["", "Berlin", "europe/berlin", "+02:00", "Europe/Nowhere"] {
            assert_eq!(
                TimeZone::parse(text).unwrap_err().code(),
                "invalid_time_zone",
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in laws::any_text()) {
            laws::holds_for::<Country>(&text);
            laws::holds_for::<LanguageTag>(&text);
            laws::holds_for::<TimeZone>(&text);
        }

        #[test]
        fn two_letters_never_panic(text in "[a-zA-Zé]{1,3}") {
            laws::holds_for::<Country>(&text);
        }

        #[test]
        fn language_tags_round_trip(
            language in "[a-zA-Z]{2,3}([-_][a-z]{4})?",
            region in "([-_]([a-zA-Z]{2}|[0-9]{3}))?([-_][a-z0-9]{5,8}){0,2}",
        ) {
            let text = format!("{language}{region}");
            prop_assert!(laws::holds_for::<LanguageTag>(&text), "{}", text);
        }
    }
}

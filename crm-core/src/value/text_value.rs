//! What the types with one text form have in common.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{Error, Visitor};

use super::ValueError;

/// A value whose stored and JSON form is one text.
///
/// Every such type also has `Display`, `FromStr`, `TryFrom<&str>`, `TryFrom<String>`, `AsRef<str>`,
/// `Into<String>`, `Serialize` (as the text) and `Deserialize` (through [`parse`](Self::parse)).
///
/// ```
/// use crm_core::value::{Subdomain, TextValue};
///
/// let subdomain = Subdomain::parse("  Acme ")?;
/// assert_eq!(subdomain.as_str(), "acme");
/// assert_eq!(serde_json::to_string(&subdomain)?, r#""acme""#);
/// assert_eq!("ACME".parse::<Subdomain>()?, subdomain);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait TextValue: Sized + Clone + PartialEq + Send + Sync + 'static {
    /// Reads untrusted text, ignoring white space around it.
    ///
    /// # Errors
    ///
    /// When the text is not a value of this type.
    ///
    /// ```
    /// use crm_core::value::{Currency, TextValue};
    ///
    /// assert_eq!(Currency::parse(" EUR ")?, Currency::EUR);
    /// assert_eq!(Currency::parse("euro").unwrap_err().code(), "invalid_currency");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    fn parse(text: &str) -> Result<Self, ValueError>;

    /// The text, in the form in which it is stored and written to JSON.
    ///
    /// ```
    /// use crm_core::value::{Color, TextValue};
    ///
    /// assert_eq!(Color::parse("#FF8000")?.as_str(), "#ff8000");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    fn as_str(&self) -> &str;

    /// Takes back a text that came from [`as_str`](Self::as_str) and was stored.
    ///
    /// Cheap: a type that keeps its text believes it without looking again, so that a rule made
    /// stricter later does not make old records unreadable. A type that is drawn from a list, such
    /// as a currency, looks it up.
    ///
    /// # Errors
    ///
    /// When a type drawn from a list doesn't know the text.
    ///
    /// ```
    /// use crm_core::value::{EmailAddress, TextValue};
    ///
    /// let address = EmailAddress::parse("jane@example.com")?;
    /// let stored = String::from(address.clone());
    /// assert_eq!(EmailAddress::from_stored(stored)?, address);
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    fn from_stored(text: String) -> Result<Self, ValueError> {
        Self::parse(&text)
    }
}

/// Implements the conversions of a [`TextValue`]. The second argument says what `Debug` shows:
/// `shown` the text, `redacted` nothing of it.
macro_rules! text_conversions {
    ($type:ident, shown) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($type))
                    .field(&self.as_str())
                    .finish()
            }
        }
        text_conversions!($type);
    };
    ($type:ident, redacted) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($type), "(<redacted>)"))
            }
        }
        text_conversions!($type);
    };
    ($type:ident) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::value::ValueError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }

        impl TryFrom<&str> for $type {
            type Error = $crate::value::ValueError;

            fn try_from(text: &str) -> Result<Self, Self::Error> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = $crate::value::ValueError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                Self::from(value.as_str())
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::value::text_value::deserialize_text(deserializer)
            }
        }
    };
}

pub(crate) use text_conversions;

/// Reads a text value, with errors that do not repeat what was there instead.
pub(crate) fn deserialize_text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: TextValue,
    D: Deserializer<'de>,
{
    let visitor = TextVisitor(PhantomData);
    // Asked for a text, a JSON reader that finds a number quotes the number in its error. Asked for
    // anything, it hands the number to the visitor, which keeps it to itself.
    if deserializer.is_human_readable() {
        deserializer.deserialize_any(visitor)
    } else {
        deserializer.deserialize_str(visitor)
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<T> TextVisitor<T> {
    fn refuse<E: Error>() -> Result<T, E> {
        Err(E::custom(ValueError::wrong_type(
            "write this value as a text",
        )))
    }
}

impl<T: TextValue> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::parse(text).map_err(E::custom)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<T, E> {
        Self::refuse()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<T, E> {
        Self::refuse()
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<T, E> {
        Self::refuse()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<T, E> {
        Self::refuse()
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<T, E> {
        Self::refuse()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<T, E> {
        Self::refuse()
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<T, E> {
        Self::refuse()
    }
}

/// What must hold for every text value, for the property tests beside each type.
#[cfg(test)]
pub(super) mod laws {
    use std::fmt::{Debug, Display};
    use std::hash::{DefaultHasher, Hash, Hasher};

    use proptest::prelude::*;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::TextValue;

    /// Any Unicode text, control characters included.
    pub(crate) fn any_text() -> impl Strategy<Value = String> {
        proptest::collection::vec(any::<char>(), 0..60).prop_map(String::from_iter)
    }

    pub(crate) fn hash_of<T: Hash>(value: &T) -> u64 {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        hasher.finish()
    }

    /// Whatever `text` parses to survives printing, JSON and storage unchanged. True when it
    /// parsed.
    pub(crate) fn holds_for<T>(text: &str) -> bool
    where
        T: TextValue + Display + Debug + Eq + Ord + Hash + Serialize + DeserializeOwned,
    {
        let Ok(value) = T::parse(text) else {
            return false;
        };
        let json = serde_json::to_string(&value).unwrap();
        let copies = [
            T::parse(value.as_str()).unwrap(),
            T::parse(&value.to_string()).unwrap(),
            T::from_stored(value.as_str().to_owned()).unwrap(),
            serde_json::from_str(&json).unwrap(),
        ];
        for copy in copies {
            assert_eq!(copy.as_str(), value.as_str());
            assert_eq!(copy, value);
            assert!(copy.cmp(&value).is_eq());
            assert_eq!(hash_of(&copy), hash_of(&value));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::value::{Currency, EmailAddress, TimeZone};

    #[test]
    fn json_errors_do_not_repeat_the_input() {
        for json in [
            "4930123456",
            "-4930123456",
            "4930.5",
            "\"4930123456\"",
            "[4930]",
            "true",
        ] {
            let error = serde_json::from_str::<EmailAddress>(json)
                .unwrap_err()
                .to_string();
            assert!(!error.contains("4930"), "{error}");
        }
    }

    #[test]
    fn a_number_is_the_wrong_type() {
        let error = serde_json::from_str::<EmailAddress>("5")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("write this value as a text"), "{error}");
    }

    #[test]
    fn text_values_pad_like_text() {
        assert_eq!(
            format!("[{:>5}|{:<5}]", Currency::USD, TimeZone::UTC),
            "[  USD|UTC  ]"
        );
    }
}

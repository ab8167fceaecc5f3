//! Commitments: what proves a value without telling it.
//!
//! Every value that may have to be erased from an event stands in its sealed form as
//! `SHA-256(nonce, value)`, where the nonce follows from the event's salt and the value's place. Who
//! has the salt can check each value; once salt and value are gone, the commitment that is left says
//! nothing about it, because 122 random bits went into it.

use std::fmt::Write as _;

use crm_core::schema::Value;
use serde_json::{Map, Value as Json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::event::FieldChange;

/// The greatest whole number that RFC 8785 writes exactly.
const EXACT: u64 = 1 << 53;

/// The only member of what stands for a whole number that would be rounded.
const WHOLE: &str = "whole";

/// A side of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Old,
    New,
}

impl Side {
    /// The name of the side in the document of changes.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }

    /// The value on this side.
    pub(crate) const fn of(self, change: &FieldChange) -> Option<&Value> {
        match self {
            Self::Old => change.old.as_ref(),
            Self::New => change.new.as_ref(),
        }
    }
}

/// The place of a value among the changes. No field of an event has a name with a colon.
pub(crate) fn path(side: Side, field: &str) -> String {
    format!("{}:{field}", side.name())
}

/// What one value is salted with.
#[derive(Clone, Copy)]
pub(crate) struct Nonce([u8; 32]);

impl Nonce {
    /// The nonce of a place in an event.
    pub(crate) fn of(salt: Option<Uuid>, path: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"crm-audit nonce\0");
        hash.update(salt.unwrap_or_default().as_bytes());
        hash.update(path.as_bytes());
        Self(hash.finalize().into())
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }

    pub(crate) fn to_hex(self) -> String {
        hex(&self.0)
    }

    /// The commitment to a value as it stands in the document of changes: a number is another value than
    /// a text with its digits.
    pub(crate) fn commit(self, value: &Value) -> String {
        let mut hash = Sha256::new();
        hash.update(b"crm-audit value\0");
        hash.update(self.0);
        hash.update(canonical(value.to_json()));
        hex(&hash.finalize())
    }
}

/// The canonical form of a document (RFC 8785). Whole numbers that it would round stand as texts in a
/// document of their own, and a document that looks like one of those stands in another one.
pub(crate) fn canonical(json: Json) -> Vec<u8> {
    let json = exact(json);
    serde_json_canonicalizer::to_vec(&json).unwrap_or_else(|_| json.to_string().into_bytes())
}

fn exact(json: Json) -> Json {
    match json {
        Json::Number(number) => {
            let size = number.as_u64().or(number.as_i64().map(i64::unsigned_abs));
            match size {
                Some(size) if size > EXACT => {
                    let whole = Json::String(number.to_string());
                    Json::Object(Map::from_iter([(WHOLE.to_owned(), whole)]))
                }
                _ => Json::Number(number),
            }
        }
        Json::Array(items) => Json::Array(items.into_iter().map(exact).collect()),
        Json::Object(members) => {
            let is_alike = members.len() == 1 && members.contains_key(WHOLE);
            let members = members.into_iter();
            let members = Json::Object(members.map(|(name, json)| (name, exact(json))).collect());
            match is_alike {
                true => Json::Object(Map::from_iter([(WHOLE.to_owned(), members)])),
                false => members,
            }
        }
        other => other,
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Thirty-two bytes from lower-case hexadecimal digits.
pub(crate) fn from_hex(text: &str) -> Option<[u8; 32]> {
    let is_hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 64 || !text.bytes().all(is_hex) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use crm_core::schema::FieldValue as _;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::event::Changes;

    #[test]
    fn numbers_that_would_be_rounded_stay_apart() {
        let text = |json| String::from_utf8(canonical(json)).unwrap();
        assert_eq!(
            text(json!({"b": 1.0, "a": [2, "x"]})),
            r#"{"a":[2,"x"],"b":1}"#
        );
        let great = 9_007_199_254_740_993_i64;
        assert_ne!(canonical(json!(great)), canonical(json!(great - 1)));
        assert_ne!(canonical(json!(-great)), canonical(json!(1 - great)));
        assert_ne!(canonical(json!(great)), canonical(json!(great.to_string())));
        assert_ne!(canonical(json!(u64::MAX)), canonical(json!(u64::MAX - 1)));
    }

    #[test]
    fn a_fraction_is_the_same_before_and_after_a_storage() {
        let nonce = Nonce::of(None, "new:budget");
        let written = FieldChange {
            field: "custom_fields.budget".into(),
            old: Some(Value::Decimal("1.5".parse().unwrap())),
            new: Some(Value::Json(json!(1.5))),
        };
        let stored = Changes::from(vec![written.clone()]);
        let read = Changes::from_value(stored.value().into_owned()).unwrap();
        let read = read.field("custom_fields.budget").unwrap();
        for side in [Side::Old, Side::New] {
            let (written, read) = (side.of(&written).unwrap(), side.of(read).unwrap());
            assert_eq!(nonce.commit(written), nonce.commit(read));
        }
    }

    #[test]
    fn values_of_another_kind_have_another_commitment() {
        let nonce = Nonce::of(None, "new:budget");
        let great = 9_007_199_254_740_993_i64;
        let values = [
            json!(1.5),
            json!("1.5"),
            json!(["1.5"]),
            json!([1.5]),
            json!(great),
            json!(great.to_string()),
            json!({"whole": great.to_string()}),
            json!({"whole": great}),
            json!({"whole": {"whole": great.to_string()}}),
            json!({"whole": {"whole": great}}),
            json!({"whole": null}),
            json!(true),
            json!("true"),
            json!(null),
            json!("null"),
        ];
        let commitments = values.map(|json| nonce.commit(&Value::Json(json)));
        let distinct: std::collections::HashSet<&String> = commitments.iter().collect();
        assert_eq!(distinct.len(), commitments.len());
    }

    proptest! {
        #[test]
        fn hexadecimal_digits_come_back(bytes: [u8; 32]) {
            prop_assert_eq!(from_hex(&hex(&bytes)), Some(bytes));
        }

        #[test]
        fn a_commitment_hangs_on_salt_place_and_value(
            salts: [u128; 2], places in ["[a-c]{1,2}", "[a-c]{1,2}"], values in ["[x-z]{0,2}", "[x-z]{0,2}"],
        ) {
            let of = |n: usize| {
                let salt = Some(Uuid::from_u128(salts[n]));
                Nonce::of(salt, &places[n]).commit(&Value::from(values[n].as_str()))
            };
            let is_same = salts[0] == salts[1] && places[0] == places[1] && values[0] == values[1];
            prop_assert_eq!(of(0) == of(1), is_same);
        }
    }
}

//! [`Key`]: values as bytes that sort like the values.
//!
//! Each value begins with a tag; what follows needs no length, because no encoded value is the
//! beginning of another. So values can be written one behind the other, and the bytes of several
//! compare like the values do, one after the other.
//!
//! ```text
//! owner_id                    created_at                            id
//! 50 0193…16 bytes            40 seconds, 6 bytes  nanos, 4 bytes   0193…16 bytes, without a tag
//! ```
//!
//! | value | tag | bytes |
//! |---|---|---|
//! | boolean | 10, 11 | none |
//! | text | 20 | UTF-8; 00 and 01 become 01 01 and 01 02; then 00 |
//! | date | 30 | days, 4 bytes, sign flipped |
//! | moment | 40 | seconds, 6 bytes, sign flipped; nanoseconds, 4 bytes |
//! | id | 50 | 16 bytes |
//! | number | 80 ± length | its floor in as few bytes as possible; then seven decimals at a time, each time 01 and 3 bytes; then 00 |
//! | list, JSON | E0 | none, because they all sort alike |
//! | no value | F0 | none |
//!
//! Numbers are exact: a decimal keeps all its 28 digits, and an integer sorts among decimals.

use std::borrow::Borrow;

use chrono::Datelike;
use crm_core::query::fold_case;
use crm_core::schema::ValueRef;
use rust_decimal::Decimal;
use smallvec::SmallVec;
use uuid::Uuid;

mod tag {
    pub(super) const FALSE: u8 = 0x10;
    pub(super) const TRUE: u8 = 0x11;
    pub(super) const TEXT: u8 = 0x20;
    pub(super) const DATE: u8 = 0x30;
    pub(super) const TIMESTAMP: u8 = 0x40;
    pub(super) const UUID: u8 = 0x50;
    /// Of zero; longer numbers are farther away from it.
    pub(super) const NUMBER: u8 = 0x80;
    pub(super) const OPAQUE: u8 = 0xE0;
    pub(super) const NULL: u8 = 0xF0;
}

/// Ends a text and the decimals of a number; less than whatever may stand in its place.
const END: u8 = 0;
/// Stands in front of more decimals, and of the bytes of a text that mean something else.
const MORE: u8 = 1;
/// How many decimals are written at once.
const GROUP_DIGITS: u32 = 7;

/// Values as bytes that sort like the values; short ones live where the key does.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(SmallVec<[u8; Key::INLINE]>);

impl Key {
    /// Holds an id, a moment and a row's id, with a flag.
    const INLINE: usize = 48;

    /// Adds a value in the order of [`ValueRef::sort_order`].
    pub(crate) fn push(&mut self, value: &ValueRef<'_>) {
        match value {
            ValueRef::Null => self.0.push(tag::NULL),
            ValueRef::Boolean(false) => self.0.push(tag::FALSE),
            ValueRef::Boolean(true) => self.0.push(tag::TRUE),
            ValueRef::Integer(number) => {
                self.push_whole(i128::from(*number));
                self.0.push(END);
            }
            ValueRef::Decimal(number) => self.push_decimal(*number),
            ValueRef::Text(text) => self.push_text(text),
            ValueRef::Date(day) => {
                self.0.push(tag::DATE);
                let days = day.num_days_from_ce().wrapping_sub(i32::MIN);
                self.0.extend_from_slice(&days.to_be_bytes());
            }
            ValueRef::Timestamp(at) => {
                self.0.push(tag::TIMESTAMP);
                // A moment's years fit into 44 bits of seconds.
                let [_, _, seconds @ ..] = at.timestamp().wrapping_add(1 << 47).to_be_bytes();
                self.0.extend_from_slice(&seconds);
                self.0
                    .extend_from_slice(&at.timestamp_subsec_nanos().to_be_bytes());
            }
            ValueRef::Uuid(id) => {
                self.0.push(tag::UUID);
                self.push_id(*id);
            }
            ValueRef::List(_) | ValueRef::Json(_) => self.0.push(tag::OPAQUE),
        }
    }

    /// Adds a value so that only equal values have equal bytes, also lists and documents, which
    /// have no order.
    pub(crate) fn push_exact(&mut self, value: &ValueRef<'_>) {
        match value {
            ValueRef::List(entries) => {
                self.0.push(tag::OPAQUE);
                for entry in *entries {
                    self.push_text(entry);
                }
                self.0.push(END);
            }
            ValueRef::Json(document) => {
                self.0.push(tag::OPAQUE);
                self.push_text(&document.to_string());
            }
            value => self.push(value),
        }
    }

    /// Adds a text whose case does not matter.
    pub(crate) fn push_folded(&mut self, text: &str) {
        let folded = text
            .bytes()
            .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
        if folded {
            self.push_text(text);
        } else {
            self.push_text(&fold_case(text));
        }
    }

    /// Adds a row's id, which is the last part of a key.
    pub(crate) fn push_id(&mut self, id: Uuid) {
        self.0.extend_from_slice(id.as_bytes());
    }

    /// Adds the beginning of "no value": the end of all values.
    pub(crate) fn push_null(&mut self) {
        self.0.push(tag::NULL);
    }

    /// The least key that is greater than all that begin with this one; `None` where there is none
    /// because this one is empty.
    pub(crate) fn successor(mut self) -> Option<Self> {
        while let Some(last) = self.0.pop() {
            if last < u8::MAX {
                self.0.push(last + 1);
                return Some(self);
            }
        }
        None
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn push_text(&mut self, text: &str) {
        self.0.push(tag::TEXT);
        if text.bytes().all(|byte| byte > MORE) {
            self.0.extend_from_slice(text.as_bytes());
        } else {
            for byte in text.bytes() {
                if byte <= MORE {
                    self.0.extend_from_slice(&[MORE, byte + 1]);
                } else {
                    self.0.push(byte);
                }
            }
        }
        self.0.push(END);
    }

    fn push_decimal(&mut self, number: Decimal) {
        let unit = 10_i128.pow(number.scale());
        self.push_whole(number.mantissa().div_euclid(unit));
        let mut rest = number.mantissa().rem_euclid(unit);
        let mut digits = number.scale();
        while rest != 0 {
            // The next seven decimals, filled up with zeros.
            let missing = GROUP_DIGITS.saturating_sub(digits);
            digits = digits.saturating_sub(GROUP_DIGITS);
            let unit = 10_i128.pow(digits);
            let group = rest / unit * 10_i128.pow(missing);
            rest %= unit;
            // Below 10,000,000, which three bytes hold.
            let [.., a, b, c] = group.to_be_bytes();
            self.0.extend_from_slice(&[MORE, a, b, c]);
        }
        self.0.push(END);
    }

    /// Adds a whole number of at most 97 bits.
    fn push_whole(&mut self, number: i128) {
        // One's complement: numbers below zero become as short as those above.
        let size = if number < 0 { !number } else { number };
        let bytes = size.to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let significant = bytes.get(zeros..).unwrap_or_default();
        // At most 13 bytes, so that the tags stay clear of the others.
        let length = u8::try_from(significant.len()).unwrap_or(u8::MAX);
        if number < 0 {
            self.0.push((tag::NUMBER - 1).wrapping_sub(length));
            self.0.extend(significant.iter().map(|byte| !byte));
        } else {
            self.0.push(tag::NUMBER.wrapping_add(length));
            self.0.extend_from_slice(significant);
        }
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        Self(SmallVec::from_slice(&self.0))
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use chrono::{DateTime, NaiveDate};
    use crm_core::schema::Value;
    use proptest::prelude::*;

    use super::*;

    fn key(values: &[Value]) -> Key {
        let mut key = Key::default();
        for value in values {
            key.push(&value.as_ref());
        }
        key
    }

    fn order(a: &[Value], b: &[Value]) -> Ordering {
        a.iter()
            .zip(b)
            .map(|(a, b)| a.as_ref().sort_order(&b.as_ref()))
            .find(|order| *order != Ordering::Equal)
            .unwrap_or(Ordering::Equal)
    }

    fn decimal() -> impl Strategy<Value = Decimal> {
        let limit = (1_i128 << 96) - 1;
        prop_oneof![
            (-limit..=limit, 0_u32..=28).prop_map(|(m, s)| Decimal::from_i128_with_scale(m, s)),
            (-2_000_i128..2_000, 0_u32..=9).prop_map(|(m, s)| Decimal::from_i128_with_scale(m, s)),
        ]
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-c]{0,3}", "[\u{0}-\u{3}a]{0,4}", "\\PC{0,8}"]
    }

    /// Two values of the same kind, or none.
    fn pair() -> impl Strategy<Value = (Value, Value)> {
        fn both(
            one: impl Strategy<Value = Value> + Clone + 'static,
        ) -> impl Strategy<Value = (Value, Value)> {
            let one = prop_oneof![9 => one, 1 => Just(Value::Null)].boxed();
            (one.clone(), one)
        }
        let moment = (
            -8_000_000_000_000_i64..8_000_000_000_000,
            0_u32..2_000_000_000,
        )
            .prop_map(|(seconds, nanos)| {
                DateTime::from_timestamp(seconds, nanos).map_or(Value::Null, Value::from)
            });
        prop_oneof![
            both(any::<bool>().prop_map(Value::from)),
            both(any::<i64>().prop_map(Value::from)),
            both((-300_i64..300).prop_map(Value::from)),
            both(decimal().prop_map(Value::from).boxed()),
            both(
                prop_oneof![
                    (-300_i64..300).prop_map(Value::from),
                    any::<i64>().prop_map(Value::from),
                    decimal().prop_map(Value::from)
                ]
                .boxed()
            ),
            both(text().prop_map(Value::from).boxed()),
            both((0_i32..1_000_000).prop_map(|days| {
                NaiveDate::from_num_days_from_ce_opt(days - 500_000)
                    .map_or(Value::Null, Value::from)
            })),
            both(moment.boxed()),
            both(any::<u128>().prop_map(|id| Value::from(Uuid::from_u128(id)))),
            both(
                prop::collection::vec("[a-b]", 0..3)
                    .prop_map(Value::from)
                    .boxed()
            ),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn bytes_sort_like_values(pairs in prop::collection::vec(pair(), 1..4)) {
            let (a, b): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            prop_assert_eq!(key(&a).cmp(&key(&b)), order(&a, &b), "{:?} {:?}", a, b);
        }

        #[test]
        fn a_successor_is_behind_all_that_begin_alike(
            start in prop::collection::vec(any::<u8>(), 1..6),
            more in prop::collection::vec(any::<u8>(), 0..6),
        ) {
            prop_assume!(start.first() != Some(&u8::MAX));
            let key = Key(SmallVec::from_slice(&start));
            let next = key.clone().successor().unwrap();
            let longer = Key(start.iter().chain(&more).copied().collect());
            prop_assert!(key <= longer && longer < next);
        }

        #[test]
        fn exact_keys_tell_lists_apart(
            a in prop::collection::vec(text(), 0..3),
            b in prop::collection::vec(text(), 0..3),
        ) {
            let exact = |list: &Vec<String>| {
                let mut key = Key::default();
                key.push_exact(&ValueRef::List(list));
                key
            };
            prop_assert_eq!(exact(&a) == exact(&b), a == b);
        }

        #[test]
        fn folded_keys_ignore_case(a in "[a-cA-CßÉéΣσ]{0,3}", b in "[a-cA-CßÉéΣσ]{0,3}") {
            let folded = |text: &str| {
                let mut key = Key::default();
                key.push_folded(text);
                key
            };
            prop_assert_eq!(folded(&a) == folded(&b), fold_case(&a) == fold_case(&b));
        }
    }

    #[test]
    fn equal_decimals_of_different_scale_are_one_key() {
        let one: Decimal = "1.5".parse().unwrap();
        let other: Decimal = "1.5000".parse().unwrap();
        assert_eq!(key(&[one.into()]), key(&[other.into()]));
    }

    #[test]
    fn the_usual_page_needs_no_allocation() {
        let mut key = key(&[
            Value::Uuid(Uuid::from_u128(7)),
            Value::Timestamp(DateTime::from_timestamp_nanos(1_700_000_000_123_456_789)),
            Value::Integer(55),
        ]);
        key.push_id(Uuid::from_u128(8));
        assert!(!key.0.spilled());
    }
}

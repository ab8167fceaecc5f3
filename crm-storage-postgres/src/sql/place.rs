//! Where a value to compare with lies among the values that a column can hold.

use chrono::{NaiveDate, SubsecRound as _};
use crm_core::schema::{StorageKind, ValueRef};
use rust_decimal::Decimal;
use serde_json::Value as Json;

/// Where a value lies among the values that a column can hold.
///
/// A value to compare with may be one that no column holds, or that cannot even be sent: a fraction
/// for a whole number, a text with the NUL character, a day before PostgreSQL's first.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place<'v> {
    /// It is this value.
    At(ValueRef<'v>),
    /// It lies between this value and the next greater one.
    Behind(ValueRef<'v>),
    /// It is less than all of them.
    BeforeAll,
    /// It is greater than all of them.
    AfterAll,
    /// It is of a kind that has no order: all of them count as equal to it.
    Unordered,
    /// It is of another kind: not to be compared.
    Elsewhere,
}

impl<'v> Place<'v> {
    /// The place of `value`, which is not null, in a column of `kind`.
    pub(super) fn of(kind: StorageKind, value: ValueRef<'v>) -> Self {
        match (kind, value) {
            (StorageKind::Text, ValueRef::Text(text)) => match text.find('\0') {
                // Nothing that is stored has a NUL, and NUL is the least character: all that is
                // greater than the part in front of it is greater than the whole.
                Some(end) => Self::Behind(ValueRef::Text(text.get(..end).unwrap_or_default())),
                None => Self::At(ValueRef::Text(text)),
            },
            (StorageKind::Integer, ValueRef::Decimal(number)) => Self::of_fraction(number),
            (StorageKind::Decimal, ValueRef::Integer(number)) => {
                Self::At(ValueRef::Decimal(Decimal::from(number)))
            }
            (StorageKind::Date, ValueRef::Date(day)) if Some(day) < first_day() => Self::BeforeAll,
            (StorageKind::Timestamp, ValueRef::Timestamp(at)) => {
                let whole = at.trunc_subsecs(6);
                if Some(at.date_naive()) < first_day() {
                    Self::BeforeAll
                } else if whole == at {
                    Self::At(ValueRef::Timestamp(at))
                } else {
                    Self::Behind(ValueRef::Timestamp(whole))
                }
            }
            (StorageKind::List, ValueRef::List(_)) => Self::Unordered,
            (StorageKind::Json, ValueRef::Json(json)) if has_nul(&json) => Self::Elsewhere,
            (StorageKind::Integer, value @ ValueRef::Integer(_))
            | (StorageKind::Decimal, value @ ValueRef::Decimal(_))
            | (StorageKind::Boolean, value @ ValueRef::Boolean(_))
            | (StorageKind::Date, value @ ValueRef::Date(_))
            | (StorageKind::Uuid, value @ ValueRef::Uuid(_))
            | (StorageKind::Json, value @ ValueRef::Json(_)) => Self::At(value),
            _ => Self::Elsewhere,
        }
    }

    /// The place of a decimal number among the whole numbers.
    fn of_fraction(number: Decimal) -> Self {
        let floor = number.floor();
        match i64::try_from(floor) {
            Ok(whole) if floor == number => Self::At(ValueRef::Integer(whole)),
            Ok(whole) => Self::Behind(ValueRef::Integer(whole)),
            Err(_) if number.is_sign_negative() => Self::BeforeAll,
            Err(_) => Self::AfterAll,
        }
    }
}

/// The first day that PostgreSQL knows, and that of its first moment.
fn first_day() -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(-4713, 11, 24)
}

fn has_nul(json: &Json) -> bool {
    match json {
        Json::String(text) => text.contains('\0'),
        Json::Array(items) => items.iter().any(has_nul),
        Json::Object(members) => members
            .iter()
            .any(|(name, member)| name.contains('\0') || has_nul(member)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_with_nul_has_a_place(stored in "[a-c\u{1}]{0,4}", value in "[a-c\u{0}]{0,4}") {
            match Place::of(StorageKind::Text, ValueRef::Text(&value)) {
                Place::At(_) => prop_assert!(!value.contains('\0')),
                Place::Behind(ValueRef::Text(floor)) => {
                    prop_assert_ne!(&stored, &value);
                    prop_assert_eq!(stored.as_str() <= floor, stored < value);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn a_fraction_has_a_place(stored: i64, mantissa: i64, scale in 0_u32..20) {
            let value = Decimal::new(mantissa, scale);
            let own = Decimal::from(stored);
            match Place::of(StorageKind::Integer, ValueRef::Decimal(value)) {
                Place::At(ValueRef::Integer(whole)) => prop_assert_eq!(Decimal::from(whole), value),
                Place::Behind(ValueRef::Integer(floor)) => {
                    prop_assert_ne!(own, value);
                    prop_assert_eq!(stored <= floor, own < value);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}

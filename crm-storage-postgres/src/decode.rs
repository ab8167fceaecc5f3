//! Rows as the server sends them, read into records: by place, from the binary form.

use chrono::{DateTime, NaiveDate, Utc};
use crm_core::schema::{Meta, Row, SYSTEM_FIELDS, StorageKind, Value, system};
use crm_core::storage::StorageError;
use crm_core::{Actor, Stamp};
use rust_decimal::Decimal;
use sqlx::Row as _;
use sqlx::postgres::{PgRow, PgValueFormat};
use uuid::Uuid;

use crate::layout::Table;

/// The days from the first of the year 1 to 2000-01-01, the first counted as 1.
const DAYS_TO_2000: i32 = 730_120;
/// The microseconds from 1970 to 2000.
const MICROS_TO_2000: i64 = 946_684_800_000_000;
/// The greatest whole number with which a [`Decimal`] is written.
const GREATEST: u128 = (1 << 96) - 1;

/// Reads [`Layout::read_columns`](crate::layout::Layout::read_columns) from the column `first` on.
///
/// # Errors
/// [`StorageError::Corrupt`] names the fields whose value does not fit the schema.
pub(crate) fn row(table: &Table, row: &PgRow, first: usize) -> Result<Row, StorageError> {
    let corrupt = |fields: Vec<String>| StorageError::Corrupt {
        object: table.object.name().to_owned(),
        fields,
    };
    let columns = table.field_columns();
    let own = columns.get(SYSTEM_FIELDS..).unwrap_or_default();
    let mut faulty = Vec::new();
    let mut values = Vec::with_capacity(own.len());
    for (place, column) in own.iter().enumerate() {
        match value(column.kind, row, first + SYSTEM_FIELDS + place) {
            Ok(value) => values.push(value),
            Err(_) => faulty.push(column.name.clone()),
        }
    }
    let mut sealed = None;
    if let Some(name) = table.sealed() {
        match cell(row, first + columns.len()) {
            Ok(bytes) => sealed = bytes.map(<[u8]>::to_vec),
            Err(_) => faulty.push(name.to_owned()),
        }
    }
    match meta(row, first) {
        Ok(meta) if faulty.is_empty() => {
            let built = table.object.build_sealed(meta, values, sealed);
            built.map_err(|faults| {
                let faults = faults.into_result().err().into_iter();
                let faults = faults.flat_map(crm_core::error::ValidationError::into_errors);
                corrupt(faults.map(|fault| fault.path).collect())
            })
        }
        Ok(_) => Err(corrupt(faulty)),
        Err(place) => {
            faulty.insert(0, table.object.field_name(place).to_owned());
            Err(corrupt(faulty))
        }
    }
}

/// Reads the system's fields; what does not fit is told by its place.
fn meta(row: &PgRow, first: usize) -> Result<Meta, usize> {
    let cell = |place: usize| cell(row, first + place).map_err(|_| place);
    let moment = |place: usize| match cell(place)? {
        Some(bytes) => timestamp(bytes).map(Some).ok_or(place),
        None => Ok(None),
    };
    let stamp = |at: usize, by: usize, id: usize| {
        let actor_id = match cell(id)? {
            Some(bytes) => Some(Uuid::from_slice(bytes).map_err(|_| id)?),
            None => None,
        };
        let kind = cell(by)?.and_then(|bytes| str::from_utf8(bytes).ok());
        Ok::<_, usize>(Stamp {
            at: moment(at)?.ok_or(at)?,
            by: kind
                .and_then(|kind| Actor::from_parts(kind, actor_id))
                .ok_or(by)?,
        })
    };
    Ok(Meta {
        id: cell(system::ID)?
            .and_then(|bytes| Uuid::from_slice(bytes).ok())
            .ok_or(system::ID)?,
        version: cell(system::VERSION)?
            .and_then(integer)
            .ok_or(system::VERSION)?,
        created: stamp(
            system::CREATED_AT,
            system::CREATED_BY,
            system::CREATED_BY_ID,
        )?,
        updated: stamp(
            system::UPDATED_AT,
            system::UPDATED_BY,
            system::UPDATED_BY_ID,
        )?,
        archived_at: moment(system::ARCHIVED_AT)?,
        deleted_at: moment(system::DELETED_AT)?,
    })
}

/// Reads one column as a value of `kind`, null included.
///
/// # Errors
/// A value that is not of the kind, or not within the kind's limits.
pub(crate) fn value(kind: StorageKind, row: &PgRow, column: usize) -> Result<Value, sqlx::Error> {
    match cell(row, column)? {
        None => Ok(Value::Null),
        Some(bytes) => parse(kind, bytes).ok_or_else(|| malformed(column)),
    }
}

/// Reads a column of the type `numeric` as a sum: rounded where it has more digits than a decimal
/// holds, zero where there is none; `None` where it is greater than the greatest decimal.
///
/// # Errors
/// A column that is not there or not binary.
pub(crate) fn sum(row: &PgRow, column: usize) -> Result<Option<Decimal>, sqlx::Error> {
    Ok(match cell(row, column)? {
        None => Some(Decimal::ZERO),
        Some(bytes) => Digits::read(bytes).and_then(Digits::rounded),
    })
}

/// A value that was sent cannot be read. The value is not repeated.
#[derive(Debug, thiserror::Error)]
#[error("the value is not of the expected type")]
struct Malformed;

fn malformed(column: usize) -> sqlx::Error {
    sqlx::Error::ColumnDecode {
        index: column.to_string(),
        source: Box::new(Malformed),
    }
}

/// The bytes of a column; `None` for null.
fn cell(row: &PgRow, column: usize) -> Result<Option<&[u8]>, sqlx::Error> {
    let value = row.try_get_raw(column)?;
    if value.format() != PgValueFormat::Binary {
        return Err(malformed(column));
    }
    // The only error is that of a null.
    Ok(value.as_bytes().ok())
}

fn parse(kind: StorageKind, bytes: &[u8]) -> Option<Value> {
    Some(match kind {
        StorageKind::Text => Value::Text(str::from_utf8(bytes).ok()?.to_owned()),
        StorageKind::Integer => Value::Integer(integer(bytes)?),
        StorageKind::Decimal => Value::Decimal(Digits::read(bytes)?.exact()?),
        StorageKind::Boolean => match bytes {
            [0] => Value::Boolean(false),
            [1] => Value::Boolean(true),
            _ => return None,
        },
        StorageKind::Date => {
            let days = i32::from_be_bytes(bytes.try_into().ok()?);
            let days = days.checked_add(DAYS_TO_2000)?;
            Value::Date(NaiveDate::from_num_days_from_ce_opt(days)?)
        }
        StorageKind::Timestamp => Value::Timestamp(timestamp(bytes)?),
        StorageKind::Uuid => Value::Uuid(Uuid::from_slice(bytes).ok()?),
        StorageKind::List => Value::List(list(bytes)?),
        StorageKind::Json => match bytes {
            // The version of the form.
            [1, json @ ..] => Value::Json(serde_json::from_slice(json).ok()?),
            _ => return None,
        },
    })
}

fn integer(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.try_into().ok()?))
}

fn timestamp(bytes: &[u8]) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(integer(bytes)?.checked_add(MICROS_TO_2000)?)
}

fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(i32::from_be_bytes(*head))
}

fn take_u16(bytes: &mut &[u8]) -> Option<u16> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u16::from_be_bytes(*head))
}

/// Reads an array of texts in one dimension, without nulls.
fn list(mut bytes: &[u8]) -> Option<Vec<String>> {
    let dimensions = take_i32(&mut bytes)?;
    let _has_nulls = take_i32(&mut bytes)?;
    let _element_type = take_i32(&mut bytes)?;
    if dimensions == 0 {
        return Some(Vec::new());
    }
    if dimensions != 1 {
        return None;
    }
    let count = usize::try_from(take_i32(&mut bytes)?).ok()?;
    let _first_index = take_i32(&mut bytes)?;
    // Every entry has at least its length.
    let mut entries = Vec::with_capacity(count.min(bytes.len() / 4));
    for _ in 0..count {
        let length = usize::try_from(take_i32(&mut bytes)?).ok()?;
        let (entry, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        entries.push(str::from_utf8(entry).ok()?.to_owned());
    }
    Some(entries)
}

/// The digits of a `numeric`: `whole` / 10^`scale`, and perhaps more.
#[derive(Clone, Copy, Debug)]
struct Digits {
    is_negative: bool,
    whole: u128,
    /// Negative for zeros behind the digits.
    scale: i32,
    /// Whether digits that are not zero were left out behind the others: these are more than any
    /// decimal holds.
    has_more: bool,
}

impl Digits {
    /// From this on a whole number has more digits than a decimal holds, and is not read further.
    const ENOUGH: u128 = 10_u128.pow(34);

    /// Reads the form in which the server sends it: groups of four digits, of which the first
    /// counts 10,000^weight. `None` for what is no finite number.
    fn read(mut bytes: &[u8]) -> Option<Self> {
        let count = take_u16(&mut bytes)?;
        let weight = i32::from(take_u16(&mut bytes)?.cast_signed());
        let is_negative = match take_u16(&mut bytes)? {
            0x0000 => false,
            0x4000 => true,
            _ => return None,
        };
        let _decimals_to_show = take_u16(&mut bytes)?;
        if bytes.len() != usize::from(count) * 2 {
            return None;
        }
        let mut digits = Self {
            is_negative,
            whole: 0,
            scale: -4 * (weight + 1),
            has_more: false,
        };
        while let Some(group) = take_u16(&mut bytes) {
            if group > 9_999 {
                return None;
            }
            if digits.whole < Self::ENOUGH {
                digits.whole = digits.whole * 10_000 + u128::from(group);
                digits.scale += 4;
            } else {
                digits.has_more |= group != 0;
            }
        }
        Some(digits.trimmed())
    }

    /// Without zeros at the end of the decimals.
    fn trimmed(mut self) -> Self {
        if self.whole == 0 {
            self.scale = 0;
        }
        while self.scale > 0 && self.whole.is_multiple_of(10) && !self.has_more {
            self.whole /= 10;
            self.scale -= 1;
        }
        self
    }

    /// The number, if a decimal can be it.
    fn exact(mut self) -> Option<Decimal> {
        if self.has_more {
            return None;
        }
        while self.scale < 0 {
            self.whole = self.whole.checked_mul(10)?;
            self.scale += 1;
        }
        if self.whole > GREATEST {
            return None;
        }
        let whole = i128::try_from(self.whole).ok()?;
        let whole = if self.is_negative { -whole } else { whole };
        Decimal::try_from_i128_with_scale(whole, u32::try_from(self.scale).ok()?).ok()
    }

    /// The decimal next to the number, half to even; `None` where it is greater than any.
    fn rounded(mut self) -> Option<Decimal> {
        let max_scale = i32::try_from(Decimal::MAX_SCALE).ok()?;
        let (mut whole, mut scale) = (self.whole, self.scale);
        let mut below = 0;
        let mut is_inexact = self.has_more;
        while scale > 0 && (whole > GREATEST || scale > max_scale) {
            is_inexact |= below != 0;
            below = whole % 10;
            whole /= 10;
            scale -= 1;
        }
        let is_up = below > 5 || below == 5 && (is_inexact || !whole.is_multiple_of(2));
        if is_up {
            whole += 1;
        }
        if whole > GREATEST && scale > 0 {
            // 2^96 ends in 6.
            whole = whole / 10 + 1;
            scale -= 1;
        }
        (self.whole, self.scale, self.has_more) = (whole, scale, false);
        self.trimmed().exact()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sqlx::postgres::PgArgumentBuffer;
    use sqlx::types::Json;
    use sqlx::{Encode, Postgres};

    use super::*;

    fn encoded<'q, T: Encode<'q, Postgres>>(value: T) -> Vec<u8> {
        let mut buffer = PgArgumentBuffer::default();
        let _ = value.encode(&mut buffer).unwrap();
        buffer.to_vec()
    }

    /// The form in which the server sends a number: groups of digits from 10,000^weight down.
    fn numeric(is_negative: bool, weight: i16, groups: &[u16]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((groups.len() as u16).to_be_bytes());
        bytes.extend(weight.to_be_bytes());
        bytes.extend(if is_negative { [0x40, 0] } else { [0, 0] });
        bytes.extend([0, 4]);
        for group in groups {
            bytes.extend(group.to_be_bytes());
        }
        bytes
    }

    fn exact(bytes: &[u8]) -> Option<String> {
        Some(Digits::read(bytes)?.exact()?.to_string())
    }

    fn rounded(bytes: &[u8]) -> Option<String> {
        Some(Digits::read(bytes)?.rounded()?.to_string())
    }

    #[test]
    fn numbers_are_exact_and_normal() {
        assert_eq!(exact(&numeric(false, 0, &[])).unwrap(), "0");
        assert_eq!(exact(&numeric(false, 1, &[1])).unwrap(), "10000");
        assert_eq!(exact(&numeric(true, 0, &[12, 3400])).unwrap(), "-12.34");
        assert_eq!(exact(&numeric(false, -2, &[1])).unwrap(), "0.00000001");
        assert_eq!(
            exact(&numeric(
                false,
                7,
                &[7, 9228, 1625, 1426, 4337, 5935, 4395, 335]
            ))
            .unwrap(),
            Decimal::MAX.to_string()
        );
        let more = numeric(false, 7, &[7, 9228, 1625, 1426, 4337, 5935, 4395, 336]);
        assert_eq!(exact(&more), None);
        assert_eq!(exact(&numeric(false, i16::MAX, &[1])), None);
        assert_eq!(exact(&numeric(false, i16::MIN, &[1])), None);
        // Not a number, and infinity.
        assert_eq!(exact(&[0, 0, 0, 0, 0xC0, 0, 0, 0]), None);
        assert_eq!(exact(&[0, 0, 0, 0, 0xD0, 0, 0, 0]), None);
    }

    #[test]
    fn sums_are_rounded_where_a_decimal_has_too_few_digits() {
        // 28 digits in front of the point leave one decimal, half to even.
        let whole = [1234, 5678, 9012, 3456, 7890, 1234, 5678];
        let with = |more: &[u16]| numeric(true, 6, &[&whole[..], more].concat());
        let text = "-1234567890123456789012345678";
        assert_eq!(rounded(&with(&[4500])).unwrap(), format!("{text}.4"));
        assert_eq!(rounded(&with(&[4500, 1])).unwrap(), format!("{text}.5"));
        assert_eq!(
            rounded(&with(&[4500, 0, 0, 0, 1])).unwrap(),
            format!("{text}.5")
        );
        assert_eq!(rounded(&with(&[5500])).unwrap(), format!("{text}.6"));
        assert_eq!(exact(&with(&[4500])), None);
        let greatest = [7, 9228, 1625, 1426, 4337, 5935, 4395, 335];
        let with = |more: u16| numeric(false, 7, &[&greatest[..], &[more]].concat());
        assert_eq!(rounded(&with(4999)).unwrap(), Decimal::MAX.to_string());
        assert_eq!(rounded(&with(5000)), None);
        assert_eq!(
            rounded(&numeric(false, 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0])),
            None
        );
    }

    #[test]
    fn damaged_bytes_are_told() {
        for kind in [
            StorageKind::Integer,
            StorageKind::Decimal,
            StorageKind::Boolean,
            StorageKind::Date,
            StorageKind::Timestamp,
            StorageKind::Uuid,
            StorageKind::List,
            StorageKind::Json,
        ] {
            assert_eq!(parse(kind, &[9]), None, "{kind:?}");
            assert_eq!(parse(kind, &[]), None, "{kind:?}");
        }
        assert_eq!(parse(StorageKind::Text, &[0xFF]), None);
        // What PostgreSQL calls infinity.
        assert_eq!(parse(StorageKind::Date, &i32::MAX.to_be_bytes()), None);
        assert_eq!(parse(StorageKind::Timestamp, &i64::MAX.to_be_bytes()), None);
        assert_eq!(parse(StorageKind::Timestamp, &i64::MIN.to_be_bytes()), None);
    }

    proptest! {
        #[test]
        fn decimals_come_back(mantissa: i128, scale in 0_u32..=28) {
            let mantissa = mantissa % (1 << 96);
            let number = Decimal::from_i128_with_scale(mantissa, scale);
            let read = Digits::read(&encoded(number)).unwrap();
            let exact = read.exact().unwrap();
            prop_assert_eq!(exact, number);
            prop_assert_eq!(exact.scale(), number.normalize().scale());
            prop_assert_eq!(read.rounded(), Some(number));
        }

        #[test]
        fn sums_are_those_of_the_text(
            is_negative: bool,
            first in 1_u16..10_000,
            others in prop::collection::vec(0_u16..10_000, 0..14),
            last in 1_u16..10_000,
            weight in -3_i16..7,
        ) {
            let groups: Vec<u16> = [first].into_iter().chain(others).chain([last]).collect();
            let mut text = if is_negative { "-".to_owned() } else { String::new() };
            if weight < 0 {
                text.push_str("0.");
                text.push_str(&"0000".repeat((-1 - weight) as usize));
            }
            for place in 0..groups.len().max((weight + 1).max(0) as usize) {
                if weight >= 0 && place == weight as usize + 1 {
                    text.push('.');
                }
                text.push_str(&format!("{:04}", groups.get(place).copied().unwrap_or(0)));
            }
            let read = Digits::read(&numeric(is_negative, weight, &groups)).unwrap();
            if let Ok(exact) = Decimal::from_str_exact(&text) {
                prop_assert_eq!(read.exact(), Some(exact));
                prop_assert_eq!(read.rounded(), Some(exact));
            }
        }

        #[test]
        fn days_moments_and_numbers_come_back(days in -719_162_i32..2_932_897, micros in -62_135_596_800_000_000_i64..253_402_300_800_000_000, number: i64, id: u128) {
            let day = NaiveDate::from_num_days_from_ce_opt(days + 719_163).unwrap();
            prop_assert_eq!(parse(StorageKind::Date, &encoded(day)), Some(day.into()));
            let at = DateTime::from_timestamp_micros(micros).unwrap();
            prop_assert_eq!(parse(StorageKind::Timestamp, &encoded(at)), Some(at.into()));
            prop_assert_eq!(parse(StorageKind::Integer, &encoded(number)), Some(number.into()));
            let id = Uuid::from_u128(id);
            prop_assert_eq!(parse(StorageKind::Uuid, &encoded(id)), Some(id.into()));
            prop_assert_eq!(parse(StorageKind::Boolean, &encoded(true)), Some(true.into()));
        }

        #[test]
        fn texts_lists_and_documents_come_back(
            text in ".{0,20}",
            entries in prop::collection::vec(".{0,6}", 0..5),
        ) {
            prop_assert_eq!(
                parse(StorageKind::Text, &encoded(text.as_str())),
                Some(text.as_str().into())
            );
            prop_assert_eq!(
                parse(StorageKind::List, &encoded(entries.clone())),
                Some(entries.clone().into())
            );
            let json = serde_json::json!({ text: entries, "n": 1.5 });
            prop_assert_eq!(
                parse(StorageKind::Json, &encoded(Json(&json))),
                Some(Value::Json(json))
            );
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = list(&bytes);
            let _ = Digits::read(&bytes).map(|digits| (digits.exact(), digits.rounded()));
        }
    }
}

//! What a backend is asked for, and what it answers.

use rust_decimal::Decimal;
use serde::Serialize;

use super::CalendarUnit;
use crate::query::Condition;
use crate::schema::{AnyRecord, ObjectRef, Value, ValueRef};
use crate::value::TimeZone;

/// What a backend answers: the measures over each group of the rows that fulfil `condition`.
///
/// Groups come in the order of their keys. Without groupings there is exactly one group, also over
/// no rows; with groupings only groups with rows come back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AggregateQuery {
    /// The object.
    pub object: ObjectRef,
    /// Which rows.
    pub condition: Condition,
    /// What to compute.
    pub measures: Vec<Measure>,
    /// What makes a group.
    pub groups: Vec<Grouping>,
    /// Whether the answer may come from a copy that lags a little behind.
    pub stale: bool,
}

impl AggregateQuery {
    /// Counts the rows that fulfil `condition`.
    #[must_use]
    pub fn count(object: &ObjectRef, condition: Condition) -> Self {
        Self {
            object: object.clone(),
            condition,
            measures: vec![Measure::Count],
            groups: Vec::new(),
            stale: false,
        }
    }
}

/// What to compute over a group; fields by their place in the schema, custom fields as
/// [`ObjectSchema::custom_at`](crate::schema::ObjectSchema::custom_at) counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Measure {
    /// The number of rows, an integer.
    Count,
    /// The sum of a number, a decimal; zero over no values.
    Sum(usize),
    /// The sum divided by the number of values, to six decimals half to even; null over no values.
    Average(usize),
    /// The least value; null over no values.
    Min(usize),
    /// The greatest value; null over no values.
    Max(usize),
    /// The sum of amount × percent ÷ 100, a decimal; zero over no values.
    WeightedSum {
        /// The amount.
        amount: usize,
        /// The percentage.
        percent: usize,
    },
}

/// What makes a group; fields by their place in the schema, custom fields as
/// [`ObjectSchema::custom_at`](crate::schema::ObjectSchema::custom_at) counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Grouping {
    /// The value of a field.
    Field(usize),
    /// Each entry of a list: a row is in as many groups as it has entries, of several lists in one
    /// for each combination. A row without entries is in no group.
    Entry(usize),
    /// The calendar unit that a date or moment falls into; the key is the unit's first day.
    Calendar {
        /// The field.
        index: usize,
        /// The unit.
        unit: CalendarUnit,
        /// Where the days of moments begin.
        time_zone: TimeZone,
    },
}

impl Grouping {
    /// The groups that a row is in.
    pub(super) fn keys(&self, object: &ObjectRef, row: &dyn AnyRecord) -> Vec<Value> {
        match self {
            Self::Field(index) => vec![object.read(row, *index, |value| value.into_owned())],
            Self::Entry(index) => object.read(row, *index, |value| match value {
                ValueRef::List(entries) => {
                    let entries = entries.iter();
                    entries.map(|entry| Value::Text(entry.clone())).collect()
                }
                _ => Vec::new(),
            }),
            Self::Calendar {
                index,
                unit,
                time_zone,
            } => {
                let day = object.read(row, *index, |value| match value {
                    ValueRef::Date(day) => Some(day),
                    ValueRef::Timestamp(at) => Some(at.with_timezone(&time_zone.tz()).date_naive()),
                    _ => None,
                });
                vec![day.map_or(Value::Null, |day| Value::Date(unit.start_of(day)))]
            }
        }
    }
}

/// One group of an aggregate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// What the records of the group have in common, one value for each grouping.
    pub keys: Vec<Value>,
    /// What was computed, one value for each measure.
    pub measures: Vec<Value>,
}

impl Group {
    /// The key of the grouping at `index`; null past the end.
    #[must_use]
    pub fn key(&self, index: usize) -> ValueRef<'_> {
        self.keys.get(index).map_or(ValueRef::Null, Value::as_ref)
    }

    /// The measure at `index` as a number; `None` where there is none.
    #[must_use]
    pub fn number(&self, index: usize) -> Option<Decimal> {
        self.measures.get(index)?.as_ref().as_decimal()
    }

    /// The measure at `index` as a count; zero where it is none.
    #[must_use]
    pub fn count(&self, index: usize) -> u64 {
        match self.measures.get(index) {
            Some(Value::Integer(count)) => u64::try_from(*count).unwrap_or_default(),
            _ => 0,
        }
    }
}

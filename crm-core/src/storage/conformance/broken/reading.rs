//! Defects in orders, positions and aggregates.

use std::cmp::Ordering;

use chrono::{Days, SubsecRound};
use rust_decimal::{Decimal, RoundingStrategy};

use super::writing::float;
use super::{BrokenStorage, Defect};
use crate::query::{
    AggregateQuery, CalendarUnit, Group, Grouping, Measure, NoRelated, Query, QueryError, SortKey,
    fold_case,
};
use crate::schema::{AnyRecord, Row, SYSTEM_FIELDS, Value, ValueRef, system};
use crate::storage::{StorageError, scan_aggregate};
use crate::value::TimeZone;

impl BrokenStorage {
    pub(super) fn order(&self, query: &Query, a: &dyn AnyRecord, b: &dyn AnyRecord) -> Ordering {
        let first = query.sort.first().copied();
        for (place, key) in query.sort.iter().enumerate() {
            if self.has(Defect::NoTieBreak) && key.index == system::ID && place > 0 {
                break;
            }
            if self.has(Defect::SortsByOneKey) && place > 0 && key.index != system::ID {
                continue;
            }
            let descending = match (self.defect, first) {
                (Defect::OneDirection, Some(first)) => first.descending,
                _ => key.descending,
            };
            if self.has(Defect::SortsOwnFieldsOnly) && query.object.custom_at(key.index).is_some() {
                continue;
            }
            let read = |row| {
                query
                    .object
                    .read(row, key.index, |value| value.into_owned())
            };
            let (a, b) = (read(a), read(b));
            let (a, b) = (a.as_ref(), b.as_ref());
            let order = match (self.defect, &a, &b) {
                (Defect::SortsWithoutCase, ValueRef::Text(a), ValueRef::Text(b)) => {
                    fold_case(a).cmp(&fold_case(b))
                }
                (Defect::NullsFirst, a, b) if a.is_null() != b.is_null() => {
                    return if a.is_null() {
                        Ordering::Less
                    } else {
                        Ordering::Greater
                    };
                }
                (Defect::NullsAlwaysLast, a, b) if a.is_null() != b.is_null() => {
                    return if a.is_null() {
                        Ordering::Greater
                    } else {
                        Ordering::Less
                    };
                }
                _ => a.sort_order(&b),
            };
            if order != Ordering::Equal {
                return if descending { order.reverse() } else { order };
            }
        }
        Ordering::Equal
    }

    pub(super) fn is_after(&self, query: &Query, row: &dyn AnyRecord) -> bool {
        let Some(position) = &query.after else {
            return true;
        };
        let first = query.sort.first().copied();
        for (place, (key, at)) in query.sort.iter().zip(position).enumerate() {
            let own = query
                .object
                .read(row, key.index, |value| value.into_owned());
            let is_custom = query.object.custom_at(key.index).is_some();
            let own = match (self.defect, is_custom) {
                (Defect::PositionInOwnFieldsOnly, true) => ValueRef::Null,
                _ => own.as_ref(),
            };
            if self.has(Defect::PositionLosesNulls) && (own.is_null() || at.is_null()) {
                return false;
            }
            let order = match (self.defect, &own, at) {
                (Defect::PositionAsFloat, ValueRef::Decimal(own), Value::Decimal(at)) => {
                    float(*own).cmp(&float(at.round_dp(3)))
                }
                (
                    Defect::PositionInMilliseconds,
                    ValueRef::Timestamp(own),
                    Value::Timestamp(at),
                ) => own.trunc_subsecs(3).cmp(&at.trunc_subsecs(3)),
                _ => own.sort_order(&at.as_ref()),
            };
            let descending = match (self.defect, first) {
                (Defect::PositionInOneDirection, Some(SortKey { descending, .. })) => descending,
                _ => key.descending,
            };
            if order != Ordering::Equal {
                return (order == Ordering::Greater) != descending;
            }
            if self.has(Defect::PositionDropsTies) && place == 0 {
                return false;
            }
        }
        self.has(Defect::PositionInclusive)
    }

    /// The groups of rows that already fulfil the condition.
    pub(super) fn groups(
        &self,
        query: &AggregateQuery,
        rows: Vec<Row>,
    ) -> Result<Vec<Group>, StorageError> {
        let mut asked = query.clone();
        asked.condition = crate::query::Condition::all();
        for group in &mut asked.groups {
            if let Grouping::Calendar { time_zone, .. } = group {
                *time_zone = self.zone(*time_zone);
            }
        }
        let rows: Vec<Row> = rows
            .into_iter()
            .map(|row| self.grouped_as(query, row))
            .collect();
        let mut groups = match scan_aggregate(&asked, rows.clone(), &NoRelated) {
            Err(StorageError::Query(QueryError::Overflow { .. }))
                if self.has(Defect::HidesOverflow) =>
            {
                let measures = vec![Value::Decimal(Decimal::MAX); query.measures.len()];
                return Ok(vec![Group {
                    keys: Vec::new(),
                    measures,
                }]);
            }
            other => other?,
        };
        for group in &mut groups {
            for (measure, value) in query.measures.iter().zip(&mut group.measures) {
                self.distort_measure(measure, value, &rows, query.groups.is_empty());
            }
            for (grouping, key) in query.groups.iter().zip(&mut group.keys) {
                if let (
                    Defect::WeeksFromSunday,
                    Grouping::Calendar {
                        unit: CalendarUnit::Week,
                        ..
                    },
                    Value::Date(day),
                ) = (self.defect, grouping, key)
                {
                    *day = day.checked_sub_days(Days::new(1)).unwrap_or(*day);
                }
            }
        }
        match self.defect {
            Defect::NothingHasNoGroup if rows.is_empty() => groups.clear(),
            Defect::NullKeysFirst => groups.sort_by_key(|group| !group.key(0).is_null()),
            Defect::NullKeysMissing if !query.groups.is_empty() => {
                groups.retain(|group| !group.keys.iter().any(Value::is_null));
            }
            _ => {}
        }
        Ok(groups)
    }

    fn zone(&self, zone: TimeZone) -> TimeZone {
        match self.defect {
            Defect::DaysInUtc => TimeZone::UTC,
            // The zone that has the winter's offset of Berlin all year.
            Defect::DaysWithoutSummerTime if zone != TimeZone::UTC => {
                "Africa/Algiers".parse().unwrap_or(zone)
            }
            _ => zone,
        }
    }

    /// The row as it counts for groups.
    fn grouped_as(&self, query: &AggregateQuery, row: Row) -> Row {
        let mut values = row.values();
        if let (Defect::ComputesOwnFieldsOnly, Some(place)) =
            (self.defect, query.object.custom_document())
            && let Some(document) = values.get_mut(place - SYSTEM_FIELDS)
        {
            *document = Value::Null;
        }
        for group in &query.groups {
            let (Grouping::Field(index) | Grouping::Entry(index)) = group else {
                continue;
            };
            let place = index.checked_sub(SYSTEM_FIELDS);
            match (self.defect, place.and_then(|place| values.get_mut(place))) {
                (Defect::GroupsWithoutCase, Some(Value::Text(text))) => *text = fold_case(text),
                (Defect::GroupsByFirstEntry, Some(Value::List(entries))) => entries.truncate(1),
                _ => {}
            }
        }
        row.with_values(row.meta(), values).unwrap_or(row)
    }

    fn distort_measure(&self, measure: &Measure, value: &mut Value, rows: &[Row], whole: bool) {
        match (self.defect, measure) {
            (Defect::SumOfNothingIsNull, Measure::Sum(_))
                if *value == Value::Decimal(Decimal::ZERO) =>
            {
                *value = Value::Null;
            }
            (Defect::SumsFloats, Measure::Sum(_)) => {
                if let Value::Decimal(sum) = value {
                    *sum = float(*sum);
                }
            }
            (
                Defect::AverageUnrounded | Defect::AverageHalfUp | Defect::AverageOverAll,
                Measure::Average(index),
            ) if whole => {
                let numbers: Vec<Decimal> = rows
                    .iter()
                    .filter_map(|row| row.value(*index).as_decimal())
                    .collect();
                let over_all = self.has(Defect::AverageOverAll);
                let count = if over_all { rows.len() } else { numbers.len() };
                let sum: Decimal = numbers.into_iter().sum();
                let Some(exact) = sum.checked_div(Decimal::from(count)) else {
                    return;
                };
                *value = Value::Decimal(match self.defect {
                    Defect::AverageUnrounded => exact,
                    Defect::AverageHalfUp => {
                        exact.round_dp_with_strategy(6, RoundingStrategy::MidpointAwayFromZero)
                    }
                    _ => exact.round_dp(6),
                });
            }
            _ => {}
        }
    }
}

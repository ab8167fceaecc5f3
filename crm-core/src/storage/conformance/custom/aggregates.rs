//! Groups by custom fields, and sums over them.

use std::cmp::Ordering;

use rust_decimal::Decimal;

use super::super::aggregates::expect_groups;
use super::super::oracle::order;
use super::super::{Harness, Outcome};
use super::world;
use crate::query::{AggregateQuery, CalendarUnit, Condition, Grouping, Measure};
use crate::schema::{StorageKind, Value};

/// The groups of rows by a key: how many, and what else is computed over their numbers.
fn grouped(keys: Vec<Value>) -> Vec<(Vec<Value>, Vec<Value>)> {
    let mut keys = keys;
    keys.sort_by(|a, b| order(&a.as_ref(), &b.as_ref()));
    let mut groups: Vec<(Value, i64)> = Vec::new();
    for key in keys {
        match groups.last_mut() {
            Some((last, count)) if order(&last.as_ref(), &key.as_ref()) == Ordering::Equal => {
                *count += 1;
            }
            _ => groups.push((key, 1)),
        }
    }
    let groups = groups.into_iter();
    groups
        .map(|(key, count)| (vec![key], vec![Value::Integer(count)]))
        .collect()
}

pub(in crate::storage::conformance) async fn aggregates_custom_groups(h: &Harness) -> Outcome {
    let world = world(h).await?;
    let by = |grouping| {
        let mut query = AggregateQuery::count(&world.object, Condition::all());
        query.groups = vec![grouping];
        query
    };
    for field in &world.fields {
        let index = world.place(field.name)?;
        let values = world.values(field);
        if field.is_sortable() {
            let what = format!("groups by `{}`", field.name);
            let query = by(Grouping::Field(index));
            expect_groups(&world.bench, &query, grouped(values.clone()), &what).await?;
        }
        if field.kind() == StorageKind::List {
            let entries = values.iter().flat_map(|value| match value {
                Value::List(entries) => entries.clone(),
                _ => Vec::new(),
            });
            let expected = grouped(entries.map(Value::Text).collect());
            let query = by(Grouping::Entry(index));
            expect_groups(&world.bench, &query, expected, "groups by entries").await?;
        }
        // The years of the far past and future are told differently by calendars of zones.
        let zones = match field.kind() {
            StorageKind::Date | StorageKind::Timestamp => ["UTC", "Europe/Prague"],
            _ => continue,
        };
        for zone in zones {
            let time_zone: crate::value::TimeZone = zone.parse()?;
            for unit in [CalendarUnit::Day, CalendarUnit::Month, CalendarUnit::Year] {
                let days = values.iter().map(|value| match value {
                    Value::Date(day) => Value::Date(unit.start_of(*day)),
                    Value::Timestamp(at) => {
                        let local = at.with_timezone(&time_zone.tz());
                        Value::Date(unit.start_of(local.date_naive()))
                    }
                    _ => Value::Null,
                });
                let expected = grouped(days.collect());
                let query = by(Grouping::Calendar {
                    index,
                    unit,
                    time_zone,
                });
                let what = format!("groups by the {unit:?} of `{}` in {zone}", field.name);
                expect_groups(&world.bench, &query, expected, &what).await?;
            }
        }
    }
    Ok(())
}

pub(in crate::storage::conformance) async fn aggregates_custom_numbers(h: &Harness) -> Outcome {
    let world = world(h).await?;
    let decimals = |values: &[Value]| -> Vec<Option<Decimal>> {
        values
            .iter()
            .map(|value| value.as_ref().as_decimal())
            .collect()
    };
    let mut by_name = Vec::new();
    for field in world.fields.iter().filter(|field| field.is_sortable()) {
        let index = world.place(field.name)?;
        let values = world.values(field);
        let mut present: Vec<&Value> = values.iter().filter(|value| !value.is_null()).collect();
        present.sort_by(|a, b| order(&a.as_ref(), &b.as_ref()));
        let mut measures = vec![Measure::Min(index), Measure::Max(index)];
        let end = |value: Option<&&Value>| value.map_or(Value::Null, |value| (*value).clone());
        let mut expected = vec![end(present.first()), end(present.last())];
        if matches!(field.kind(), StorageKind::Integer | StorageKind::Decimal) {
            let numbers: Vec<Decimal> = decimals(&values).into_iter().flatten().collect();
            let sum: Decimal = numbers.iter().sum();
            let average = sum.checked_div(Decimal::from(numbers.len()));
            let average = average.unwrap_or_default().round_dp(6);
            measures.extend([Measure::Sum(index), Measure::Average(index)]);
            expected.extend([Value::Decimal(sum), Value::Decimal(average)]);
        }
        let mut query = AggregateQuery::count(&world.object, Condition::all());
        query.measures = measures;
        let what = format!("what is computed over `{}`", field.name);
        expect_groups(&world.bench, &query, vec![(Vec::new(), expected)], &what).await?;
        by_name.push((field.name, decimals(&values)));
    }
    let of = |name: &str| -> Vec<Option<Decimal>> {
        let found = by_name.iter().find(|(own, _)| *own == name);
        found.map(|(_, values)| values.clone()).unwrap_or_default()
    };
    let weighted: Decimal = of("c_number")
        .into_iter()
        .zip(of("c_share"))
        .filter_map(|(amount, share)| Some(amount? * share? / Decimal::ONE_HUNDRED))
        .sum();
    let mut query = AggregateQuery::count(&world.object, Condition::all());
    query.measures = vec![Measure::WeightedSum {
        amount: world.place("c_number")?,
        percent: world.place("c_share")?,
    }];
    let expected = vec![(Vec::new(), vec![Value::Decimal(weighted)])];
    expect_groups(&world.bench, &query, expected, "the weighted sum").await
}

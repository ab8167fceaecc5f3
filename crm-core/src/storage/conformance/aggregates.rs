//! Counts, sums and the like, with amounts that binary fractions and careless rounding get wrong.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde_json::json;

use super::fixtures::{bare, worth};
use super::harness::{Bench, at, day, dec, deletion, insertion, place, purge, row, update};
use super::objects::{Specimen, State};
use super::{Harness, Outcome, ensure, ensure_eq};
use crate::query::{
    AggregateQuery, CalendarUnit, Comparison, Condition, Filter, Group, Grouping, Measure,
    QueryError,
};
use crate::schema::{Entity, Row, Value};
use crate::storage::StorageError;
use crate::value::TimeZone;

fn field(name: &str) -> Outcome<usize> {
    place(Specimen::schema(), name)
}

fn query(measures: Vec<Measure>, groups: Vec<Grouping>) -> AggregateQuery {
    let mut query = AggregateQuery::count(Specimen::schema(), Condition::all());
    query.measures = measures;
    query.groups = groups;
    query
}

async fn aggregate(bench: &Bench, query: &AggregateQuery) -> Outcome<Vec<Group>> {
    Ok(bench.storage().aggregate(&bench.scope, query).await?)
}

/// The measures over all rows.
async fn totals(bench: &Bench, measures: Vec<Measure>) -> Outcome<Vec<Value>> {
    let groups = aggregate(bench, &query(measures, Vec::new())).await?;
    match <[Group; 1]>::try_from(groups) {
        Ok([group]) if group.keys.is_empty() => Ok(group.measures),
        Ok([group]) => Err(super::Failure::new(format!(
            "expected no keys; {:?} came",
            group.keys
        ))),
        Err(groups) => Err(super::Failure::new(format!(
            "expected exactly one group without groupings; {} came",
            groups.len()
        ))),
    }
}

/// Checks keys and measures of all groups, in order.
async fn expect_groups(
    bench: &Bench,
    query: &AggregateQuery,
    expected: Vec<(Vec<Value>, Vec<Value>)>,
    what: &str,
) -> Outcome {
    let came: Vec<(Vec<Value>, Vec<Value>)> = aggregate(bench, query)
        .await?
        .into_iter()
        .map(|group| (group.keys, group.measures))
        .collect();
    ensure_eq!(came, expected, "{what}");
    Ok(())
}

fn count(number: i64) -> Value {
    Value::Integer(number)
}

fn decimal(text: &str) -> Outcome<Value> {
    Ok(Value::Decimal(dec(text)?))
}

pub(super) async fn aggregates_over_nothing(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (amount, share) = (field("amount")?, field("share")?);
    let measures = vec![
        Measure::Count,
        Measure::Sum(amount),
        Measure::Average(amount),
        Measure::Min(amount),
        Measure::Max(amount),
        Measure::WeightedSum {
            amount,
            percent: share,
        },
    ];
    let zero = Value::Decimal(Decimal::ZERO);
    let nothing = vec![
        count(0),
        zero.clone(),
        Value::Null,
        Value::Null,
        Value::Null,
        zero.clone(),
    ];
    ensure_eq!(
        totals(&bench, measures.clone()).await?,
        nothing,
        "measures over no rows"
    );
    // Rows without a value count, and that is all.
    bench
        .insert([worth("a", None), worth("b", None)].map(row))
        .await?;
    let valueless = vec![
        count(2),
        zero.clone(),
        Value::Null,
        Value::Null,
        Value::Null,
        zero,
    ];
    ensure_eq!(
        totals(&bench, measures.clone()).await?,
        valueless,
        "measures over no values"
    );
    // With groupings there are no groups without rows.
    let mut none = query(measures, vec![Grouping::Field(field("state")?)]);
    none.condition = Condition::Or(Vec::new());
    expect_groups(&bench, &none, Vec::new(), "groups of no rows").await
}

pub(super) async fn aggregates_sums(h: &Harness) -> Outcome {
    let bench = h.bench();
    let valued = |amount: &str, balance: Option<i64>, share: Option<&str>| -> Outcome<Row> {
        let share = share.map(str::parse).transpose()?;
        Ok(row(Specimen {
            balance,
            share,
            ..worth("Valued", dec(amount)?)
        }))
    };
    bench
        .insert([
            valued("0.1", Some(i64::MAX), Some("10"))?,
            valued("0.2", Some(i64::MAX), Some("33.33"))?,
            valued("1000000.0001", Some(-1), None)?,
            valued("-0.3", None, Some("0"))?,
            row(Specimen {
                share: Some("50".parse()?),
                ..worth("No amount", None)
            }),
        ])
        .await?;
    let (amount, balance, share) = (field("amount")?, field("balance")?, field("share")?);
    let came = totals(
        &bench,
        vec![
            Measure::Sum(amount),
            Measure::Sum(balance),
            Measure::Sum(field("quantity")?),
            Measure::Sum(share),
            Measure::WeightedSum {
                amount,
                percent: share,
            },
            Measure::Count,
        ],
    )
    .await?;
    let expected = vec![
        decimal("1000000.0001")?,
        // Beyond 64 bits.
        decimal("18446744073709551613")?,
        decimal("0")?,
        decimal("93.33")?,
        // 0.1 × 10 % + 0.2 × 33.33 % - 0.3 × 0 %, without rounding.
        decimal("0.07666")?,
        count(5),
    ];
    ensure_eq!(came, expected, "sums");
    // A weighted sum of integers.
    let balance_by_share = Measure::WeightedSum {
        amount: balance,
        percent: share,
    };
    let came = totals(&bench, vec![balance_by_share]).await?;
    ensure_eq!(
        came,
        [decimal("3996487103569174357.1731")?],
        "a weighted sum of whole numbers"
    );
    Ok(())
}

pub(super) async fn aggregates_averages(h: &Harness) -> Outcome {
    for (rates, expected) in [
        (&["1", "2"][..], "1.5"),
        (&["1", "1", "2"], "1.333333"),
        (&["2", "2", "1"], "1.666667"),
        // Half to even at the sixth decimal.
        (&["0.0000005"], "0"),
        (&["0.0000015"], "0.000002"),
        (&["0.0000025"], "0.000002"),
        (&["-0.0000015"], "-0.000002"),
        (&["-0.0000025"], "-0.000002"),
        (&["0.00000251"], "0.000003"),
        (&["0.000001", "0.000002"], "0.000002"),
        (&["0.000002", "0.000003"], "0.000002"),
        (&["99999999.99999999"], "100000000"),
        (&["-5", "5"], "0"),
    ] {
        let bench = h.bench();
        for rate in rates {
            let rate = Some(dec(rate)?);
            bench
                .insert([row(Specimen {
                    rate,
                    ..bare("Rated")
                })])
                .await?;
        }
        // Rows without a value neither add nor divide.
        bench.insert([row(bare("Unrated"))]).await?;
        let came = totals(&bench, vec![Measure::Average(field("rate")?)]).await?;
        ensure_eq!(came, [decimal(expected)?], "the average of {rates:?}");
    }
    let bench = h.bench();
    let balance = |balance: i64| {
        row(Specimen {
            balance: Some(balance),
            ..bare("Balanced")
        })
    };
    bench.insert([balance(1), balance(2), balance(4)]).await?;
    let came = totals(&bench, vec![Measure::Average(field("balance")?)]).await?;
    ensure_eq!(came, [decimal("2.333333")?], "an average of whole numbers");
    Ok(())
}

pub(super) async fn aggregates_least_and_greatest(h: &Harness) -> Outcome {
    let (bench, rows) = super::filters::populated(h).await?;
    for (index, schema) in Specimen::schema().fields().iter().enumerate() {
        if !schema.is_sortable() {
            continue;
        }
        let mut least = Value::Null;
        let mut greatest = Value::Null;
        for row in &rows {
            let value = row.value(index);
            if value.is_null() {
                continue;
            }
            if least.is_null() || super::oracle::order(&value, &least.as_ref()).is_lt() {
                least = value.clone().into_owned();
            }
            if greatest.is_null() || super::oracle::order(&value, &greatest.as_ref()).is_gt() {
                greatest = value.into_owned();
            }
        }
        let came = totals(&bench, vec![Measure::Min(index), Measure::Max(index)]).await?;
        ensure_eq!(
            came,
            [least, greatest],
            "the least and greatest `{}`",
            schema.name
        );
    }
    Ok(())
}

pub(super) async fn aggregates_with_a_filter(h: &Harness) -> Outcome {
    let bench = h.bench();
    let rows = [
        worth("a", dec("1")?),
        worth("b", dec("2")?),
        worth("c", dec("4")?),
    ]
    .map(row);
    bench.insert(rows.clone()).await?;
    let amount = field("amount")?;
    let measures = || vec![Measure::Count, Measure::Sum(amount)];
    let filter = super::harness::compare("amount", Comparison::Ge, 2_i64);
    let mut some = query(measures(), Vec::new());
    some.condition = Condition::bind(&filter, Specimen::schema(), &super::objects::registry())?;
    let expected = vec![(Vec::new(), vec![count(2), decimal("6")?])];
    expect_groups(&bench, &some, expected, "totals with a filter").await?;
    // What is written is counted: after an update, a deletion and a removal.
    let [a, b, c] = &rows;
    bench
        .apply(vec![
            update::<Specimen>(a, |data| data.amount = Some(Decimal::from(10)))?,
            deletion(b),
            purge(c),
            insertion(row(worth("d", dec("0.5")?))),
        ])
        .await?;
    let came = totals(&bench, measures()).await?;
    ensure_eq!(came, [count(3), decimal("12.5")?], "totals after a commit");
    let mut live = query(measures(), Vec::new());
    live.condition = Condition::not_deleted();
    let expected = vec![(Vec::new(), vec![count(2), decimal("10.5")?])];
    expect_groups(&bench, &live, expected, "totals of live rows").await
}

pub(super) async fn aggregates_by_field(h: &Harness) -> Outcome {
    let bench = h.bench();
    let mut rows = Vec::new();
    for (origin, level, amount) in [
        (Some("north"), Some(2), Some("1.10")),
        (Some("North"), Some(1), Some("2.20")),
        (None, Some(2), Some("3.30")),
        (Some("north"), None, None),
        (Some("Änd"), Some(1), Some("-1")),
        (None, None, Some("1.1000")),
    ] {
        let amount = amount.map(dec).transpose()?;
        rows.push(row(Specimen {
            origin: origin.map(Into::into),
            level,
            ..worth("G", amount)
        }));
    }
    bench.insert(rows).await?;
    let text = |text: &str| Value::from(text);
    let amount = field("amount")?;
    let by = |name: &str| -> Outcome<AggregateQuery> {
        Ok(query(
            vec![Measure::Count, Measure::Sum(amount), Measure::Max(amount)],
            vec![Grouping::Field(field(name)?)],
        ))
    };
    // In the order of the keys, which are told apart as they are written; no value last.
    let expected = vec![
        (
            vec![text("North")],
            vec![count(1), decimal("2.2")?, decimal("2.2")?],
        ),
        (
            vec![text("north")],
            vec![count(2), decimal("1.1")?, decimal("1.1")?],
        ),
        (
            vec![text("Änd")],
            vec![count(1), decimal("-1")?, decimal("-1")?],
        ),
        (
            vec![Value::Null],
            vec![count(2), decimal("4.4")?, decimal("3.3")?],
        ),
    ];
    expect_groups(&bench, &by("origin")?, expected, "groups by a text").await?;
    // Equal numbers are one group, however many zeros they were written with.
    let mut by_amount = by("amount")?;
    by_amount.measures = vec![Measure::Count];
    let expected = vec![
        (vec![decimal("-1")?], vec![count(1)]),
        (vec![decimal("1.1")?], vec![count(2)]),
        (vec![decimal("2.2")?], vec![count(1)]),
        (vec![decimal("3.3")?], vec![count(1)]),
        (vec![Value::Null], vec![count(1)]),
    ];
    expect_groups(&bench, &by_amount, expected, "groups by a decimal").await?;
    // Without measures the groups are the distinct keys.
    let mut keys = by("level")?;
    keys.measures.clear();
    let expected = vec![
        (vec![count(1)], vec![]),
        (vec![count(2)], vec![]),
        (vec![Value::Null], vec![]),
    ];
    expect_groups(&bench, &keys, expected, "groups without measures").await
}

pub(super) async fn aggregates_by_every_kind(h: &Harness) -> Outcome {
    let (bench, rows) = super::filters::populated(h).await?;
    for (index, schema) in Specimen::schema().fields().iter().enumerate() {
        if !schema.is_sortable() {
            continue;
        }
        let mut values: Vec<Value> = rows
            .iter()
            .map(|row| row.value(index).into_owned())
            .collect();
        values.sort_by(|a, b| super::oracle::order(&a.as_ref(), &b.as_ref()));
        let mut expected: Vec<(Vec<Value>, Vec<Value>)> = Vec::new();
        for value in values {
            match expected.last_mut() {
                Some((keys, measures)) if keys.first() == Some(&value) => {
                    if let Some(Value::Integer(count)) = measures.first_mut() {
                        *count += 1;
                    }
                }
                _ => expected.push((vec![value], vec![count(1)])),
            }
        }
        let query = query(vec![Measure::Count], vec![Grouping::Field(index)]);
        expect_groups(
            &bench,
            &query,
            expected,
            &format!("groups by `{}`", schema.name),
        )
        .await?;
    }
    Ok(())
}

pub(super) async fn aggregates_by_several_fields(h: &Harness) -> Outcome {
    let bench = h.bench();
    let mut rows = Vec::new();
    for (state, genuine, amount) in [
        (State::Lost, Some(true), "1"),
        (State::Found, None, "2"),
        (State::Lost, None, "4"),
        (State::Found, Some(false), "8"),
        (State::Lost, Some(true), "16"),
        (State::Found, Some(true), "32"),
    ] {
        let base = worth("G", dec(amount)?);
        rows.push(row(Specimen {
            state,
            is_genuine: genuine,
            ..base
        }));
    }
    bench.insert(rows).await?;
    let groups = vec![
        Grouping::Field(field("state")?),
        Grouping::Field(field("is_genuine")?),
    ];
    let query = query(vec![Measure::Sum(field("amount")?)], groups);
    let key = |state: State, genuine: Option<bool>| {
        vec![
            state.as_str().into(),
            genuine.map_or(Value::Null, Value::from),
        ]
    };
    let expected = vec![
        (key(State::Found, Some(false)), vec![decimal("8")?]),
        (key(State::Found, Some(true)), vec![decimal("32")?]),
        (key(State::Found, None), vec![decimal("2")?]),
        (key(State::Lost, Some(true)), vec![decimal("17")?]),
        (key(State::Lost, None), vec![decimal("4")?]),
    ];
    expect_groups(&bench, &query, expected, "groups by two fields").await
}

async fn expect_calendar(
    bench: &Bench,
    name: &str,
    unit: CalendarUnit,
    zone: &str,
    expected: &[(&str, i64)],
) -> Outcome {
    let time_zone: TimeZone = zone.parse()?;
    let groups = vec![Grouping::Calendar {
        index: field(name)?,
        unit,
        time_zone,
    }];
    let mut wanted = Vec::new();
    for (start, number) in expected {
        let key = if start.is_empty() {
            Value::Null
        } else {
            Value::Date(day(start)?)
        };
        wanted.push((vec![key], vec![count(*number)]));
    }
    let what = format!("`{name}` by {unit:?} in {zone}");
    expect_groups(bench, &query(vec![Measure::Count], groups), wanted, &what).await
}

pub(super) async fn aggregates_by_day_of_a_zone(h: &Harness) -> Outcome {
    let bench = h.bench();
    let mut rows = vec![row(bare("Never seen"))];
    for moment in [
        // The last and first moments of days in Berlin, before and after summer time begins.
        "2026-03-28T22:59:59.999999Z",
        "2026-03-28T23:00:00Z",
        "2026-03-29T00:59:59Z",
        "2026-03-29T01:00:00Z",
        "2026-03-29T21:59:59.999999Z",
        "2026-03-29T22:00:00Z",
        // The hour that Berlin has twice.
        "2026-10-24T22:00:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-25T22:59:59.999999Z",
        "2026-10-25T23:00:00Z",
    ] {
        rows.push(row(Specimen {
            seen_at: Some(at(moment)?),
            ..bare("Seen")
        }));
    }
    bench.insert(rows).await?;
    let day = CalendarUnit::Day;
    let berlin = [
        ("2026-03-28", 1),
        ("2026-03-29", 4),
        ("2026-03-30", 1),
        ("2026-10-25", 4),
        ("2026-10-26", 1),
        ("", 1),
    ];
    expect_calendar(&bench, "seen_at", day, "Europe/Berlin", &berlin).await?;
    let utc = [
        ("2026-03-28", 2),
        ("2026-03-29", 4),
        ("2026-10-24", 1),
        ("2026-10-25", 4),
        ("", 1),
    ];
    expect_calendar(&bench, "seen_at", day, "UTC", &utc).await?;
    // Half an hour and three quarters off the full hour, and the other side of the world.
    let kathmandu = [
        ("2026-03-29", 4),
        ("2026-03-30", 2),
        ("2026-10-25", 3),
        ("2026-10-26", 2),
        ("", 1),
    ];
    expect_calendar(&bench, "seen_at", day, "Asia/Kathmandu", &kathmandu).await?;
    let pago_pago = [
        ("2026-03-28", 4),
        ("2026-03-29", 2),
        ("2026-10-24", 3),
        ("2026-10-25", 2),
        ("", 1),
    ];
    expect_calendar(&bench, "seen_at", day, "Pacific/Pago_Pago", &pago_pago).await
}

pub(super) async fn aggregates_by_calendar_units(h: &Harness) -> Outcome {
    let bench = h.bench();
    let mut rows = Vec::new();
    for made_on in [
        "2024-02-29",
        "2025-12-28",
        "2025-12-29",
        "2026-01-01",
        "2026-01-04",
        "2026-01-05",
        "2026-03-31",
        "2026-04-01",
    ] {
        rows.push(row(Specimen {
            made_on: Some(day(made_on)?),
            ..bare("Made")
        }));
    }
    rows.push(row(bare("Of unknown age")));
    bench.insert(rows).await?;
    let checks: [(CalendarUnit, &[(&str, i64)]); 4] = [
        // Weeks begin on Monday, also across the turn of a year.
        (
            CalendarUnit::Week,
            &[
                ("2024-02-26", 1),
                ("2025-12-22", 1),
                ("2025-12-29", 3),
                ("2026-01-05", 1),
                ("2026-03-30", 2),
                ("", 1),
            ],
        ),
        (
            CalendarUnit::Month,
            &[
                ("2024-02-01", 1),
                ("2025-12-01", 2),
                ("2026-01-01", 3),
                ("2026-03-01", 1),
                ("2026-04-01", 1),
                ("", 1),
            ],
        ),
        (
            CalendarUnit::Quarter,
            &[
                ("2024-01-01", 1),
                ("2025-10-01", 2),
                ("2026-01-01", 4),
                ("2026-04-01", 1),
                ("", 1),
            ],
        ),
        (
            CalendarUnit::Year,
            &[
                ("2024-01-01", 1),
                ("2025-01-01", 2),
                ("2026-01-01", 5),
                ("", 1),
            ],
        ),
    ];
    for (unit, expected) in checks {
        // A day is a day wherever one is.
        for zone in ["UTC", "Pacific/Kiritimati", "America/New_York"] {
            expect_calendar(&bench, "made_on", unit, zone, expected).await?;
        }
    }
    // Two groupings: by state, then by year.
    let year = Grouping::Calendar {
        index: field("made_on")?,
        unit: CalendarUnit::Year,
        time_zone: TimeZone::UTC,
    };
    let state = Grouping::Field(field("state")?);
    let key = |day: Option<NaiveDate>| vec!["found".into(), day.map_or(Value::Null, Value::from)];
    let expected = vec![
        (key(Some(day("2024-01-01")?)), vec![count(1)]),
        (key(Some(day("2025-01-01")?)), vec![count(2)]),
        (key(Some(day("2026-01-01")?)), vec![count(5)]),
        (key(None), vec![count(1)]),
    ];
    let both = query(vec![Measure::Count], vec![state, year]);
    expect_groups(&bench, &both, expected, "by state and year").await
}

pub(super) async fn aggregates_moments_by_unit_of_a_zone(h: &Harness) -> Outcome {
    let bench = h.bench();
    // New Year in Auckland, thirteen hours before Greenwich.
    for moment in [
        "2025-12-31T10:59:59.999999Z",
        "2025-12-31T11:00:00Z",
        "2026-01-01T00:00:00Z",
    ] {
        let seen_at = Some(at(moment)?);
        bench
            .insert([row(Specimen {
                seen_at,
                ..bare("Seen")
            })])
            .await?;
    }
    let auckland = "Pacific/Auckland";
    let checks = [
        (
            CalendarUnit::Year,
            auckland,
            [("2025-01-01", 1), ("2026-01-01", 2)],
        ),
        (
            CalendarUnit::Quarter,
            auckland,
            [("2025-10-01", 1), ("2026-01-01", 2)],
        ),
        (
            CalendarUnit::Month,
            auckland,
            [("2025-12-01", 1), ("2026-01-01", 2)],
        ),
        (
            CalendarUnit::Month,
            "UTC",
            [("2025-12-01", 2), ("2026-01-01", 1)],
        ),
    ];
    for (unit, zone, expected) in checks {
        expect_calendar(&bench, "seen_at", unit, zone, &expected).await?;
    }
    let week = CalendarUnit::Week;
    expect_calendar(&bench, "seen_at", week, auckland, &[("2025-12-29", 3)]).await
}

pub(super) async fn aggregates_over_related_rows(h: &Harness) -> Outcome {
    let bench = h.bench();
    let parent = row(Specimen {
        details: Some(json!({"hall": 1})),
        ..bare("Parent")
    });
    let child = |amount: &str| -> Outcome<Row> {
        let parent_id = Some(crate::Id::new(parent.id()));
        Ok(row(Specimen {
            parent_id,
            ..worth("Child", dec(amount)?)
        }))
    };
    bench
        .insert([
            parent.clone(),
            child("1")?,
            child("2")?,
            row(worth("Stray", dec("4")?)),
        ])
        .await?;
    let filter = Filter::Has {
        field: "parent_id".into(),
        filter: Box::new(super::harness::compare(
            "details.hall",
            Comparison::Eq,
            1_i64,
        )),
    };
    let mut related = query(
        vec![Measure::Sum(field("amount")?)],
        vec![Grouping::Field(field("parent_id")?)],
    );
    related.condition = Condition::bind(&filter, Specimen::schema(), &super::objects::registry())?;
    let key: Vec<Value> = vec![parent.id().into()];
    let expected = vec![(key, vec![decimal("3")?])];
    expect_groups(
        &bench,
        &related,
        expected,
        "a sum over rows with a related one",
    )
    .await
}

pub(super) async fn aggregates_too_large(h: &Harness) -> Outcome {
    let bench = h.bench();
    let widest = Some(dec("9999999999999999999999999999")?);
    bench
        .insert((0..12).map(|_| {
            row(Specimen {
                wide: widest,
                ..bare("Wide")
            })
        }))
        .await?;
    let sum = query(vec![Measure::Sum(field("wide")?)], Vec::new());
    match bench.storage().aggregate(&bench.scope, &sum).await {
        Err(StorageError::Query(QueryError::Overflow { field })) => {
            ensure!(
                field == "wide",
                "expected the overflow to name `wide`; it names `{field}`"
            );
            Ok(())
        }
        other => Err(super::Failure::new(format!(
            "expected an overflow for a sum of more digits than a decimal holds; {other:?} came"
        ))),
    }
}

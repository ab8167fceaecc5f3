//! Counts, sums and the like, with amounts that binary fractions and careless rounding get wrong.

use rust_decimal::Decimal;
use serde_json::json;

use super::fixtures::{bare, worth};
use super::harness::{Bench, dec, deletion, insertion, place, purge, row, update};
use super::objects::Specimen;
use super::{Harness, Outcome, ensure, ensure_eq};
use crate::query::{
    AggregateQuery, Comparison, Condition, Filter, Group, Grouping, Measure, QueryError,
};
use crate::schema::{Entity, Row, Value};
use crate::storage::StorageError;

pub(super) fn field(name: &str) -> Outcome<usize> {
    place(Specimen::schema(), name)
}

pub(super) fn query(measures: Vec<Measure>, groups: Vec<Grouping>) -> AggregateQuery {
    let mut query = AggregateQuery::count(Specimen::schema(), Condition::all());
    query.measures = measures;
    query.groups = groups;
    query
}

async fn aggregate(bench: &Bench, query: &AggregateQuery) -> Outcome<Vec<Group>> {
    Ok(bench.storage().aggregate(&bench.scope, query).await?)
}

/// The measures over all rows.
pub(super) async fn totals(bench: &Bench, measures: Vec<Measure>) -> Outcome<Vec<Value>> {
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
pub(super) async fn expect_groups(
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

pub(super) fn count(number: i64) -> Value {
    Value::Integer(number)
}

pub(super) fn decimal(text: &str) -> Outcome<Value> {
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

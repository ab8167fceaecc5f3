//! Aggregates by the values of fields: which rows are one group, and in which order groups come.

use super::aggregates::{count, decimal, expect_groups, field, query};
use super::fixtures::worth;
use super::harness::{dec, row};
use super::objects::{Specimen, State};
use super::{Harness, Outcome};
use crate::query::{AggregateQuery, Condition, Filter, Grouping, ListMatch, Measure};
use crate::schema::{Entity, Registry, Value};

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

pub(super) async fn aggregates_by_entries_of_lists(h: &Harness) -> Outcome {
    let bench = h.bench();
    let mut rows = Vec::new();
    for (tags, labels, amount) in [
        (vec!["b", "a"], Some(vec!["x"]), "1"),
        (vec!["a"], None, "2"),
        (vec![], Some(vec!["x", "y"]), "4"),
        (vec!["A", "ä"], Some(vec![]), "8"),
        (vec!["b", "c", "a"], Some(vec!["y", "x"]), "16"),
    ] {
        let owned = |texts: Vec<&str>| texts.into_iter().map(Into::into).collect::<Vec<String>>();
        rows.push(row(Specimen {
            tags: owned(tags),
            labels: labels.map(owned),
            ..worth("G", dec(amount)?)
        }));
    }
    bench.insert(rows).await?;
    let text = |text: &str| Value::from(text);
    let measures = vec![Measure::Count, Measure::Sum(field("amount")?)];
    let tags = Grouping::Entry(field("tags")?);
    let by_tag = query(measures.clone(), vec![tags]);
    // A row is in the group of each of its entries; one without entries is in none.
    let expected = vec![
        (vec![text("A")], vec![count(1), decimal("8")?]),
        (vec![text("a")], vec![count(3), decimal("19")?]),
        (vec![text("b")], vec![count(2), decimal("17")?]),
        (vec![text("c")], vec![count(1), decimal("16")?]),
        (vec![text("ä")], vec![count(1), decimal("8")?]),
    ];
    expect_groups(&bench, &by_tag, expected, "groups by the entries of a list").await?;
    // Only of the rows that fulfil the condition, also where that is about the list itself.
    let mut tagged = by_tag.clone();
    let registry = Registry::default();
    let a = Filter::List {
        field: "tags".into(),
        op: ListMatch::Any,
        values: vec!["c".into(), "A".into()],
    };
    tagged.condition = Condition::bind(&a, Specimen::schema(), &registry)?;
    let expected = ["A", "a", "b", "c", "ä"].map(|tag| (vec![text(tag)], vec![count(1)]));
    tagged.measures = vec![Measure::Count];
    expect_groups(
        &bench,
        &tagged,
        expected.to_vec(),
        "groups by the entries of some",
    )
    .await?;
    // An empty list and a missing one are alike; of two lists each combination is a group.
    let labels = Grouping::Entry(field("labels")?);
    let both = query(vec![Measure::Count], vec![labels, tags]);
    let expected = [("x", "a", 2), ("x", "b", 2), ("x", "c", 1)]
        .into_iter()
        .chain([("y", "a", 1), ("y", "b", 1), ("y", "c", 1)])
        .map(|(label, tag, rows)| (vec![text(label), text(tag)], vec![count(rows)]))
        .collect();
    expect_groups(
        &bench,
        &both,
        expected,
        "groups by the entries of two lists",
    )
    .await
}

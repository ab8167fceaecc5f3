//! Filters over members of documents, over related rows, and joined by and, or and not.

use uuid::Uuid;

use super::filters::{expect_found, populated};
use super::fixtures::bare;
use super::harness::{archived, compare, deletion, ids, new_id, place, replacement, row, row_with};
use super::objects::{Part, Specimen, State};
use super::oracle::{compares, ids_where, text_matches};
use super::{Harness, Outcome, ensure_eq};
use crate::Id;
use crate::query::{Comparison, Filter, TextMatch};
use crate::schema::{Entity, Row, Value, ValueRef};

fn not(filter: Filter) -> Filter {
    Filter::Not(Box::new(filter))
}

fn is_null(field: &'static str) -> Filter {
    Filter::Null {
        field: field.into(),
        is_null: true,
    }
}

fn has(field: &'static str, filter: Filter) -> Filter {
    Filter::Has {
        field: field.into(),
        filter: Box::new(filter),
    }
}

/// The member of the document in `details`; null where there is none.
fn member(row: &Row, name: &str) -> serde_json::Value {
    match row.get("details") {
        ValueRef::Json(document) => document
            .as_object()
            .and_then(|object| object.get(name))
            .cloned()
            .unwrap_or_default(),
        _ => serde_json::Value::Null,
    }
}

/// Whether a member fulfils a comparison: only with a value of its own kind, where all numbers are
/// one kind. A value of another kind is another value, and so is a list or an inner document.
fn member_compares(own: &serde_json::Value, op: Comparison, with: &Value) -> bool {
    use serde_json::Value as Json;
    let decimal = |number: &serde_json::Number| number.to_string().parse().ok();
    let pair = match (own, with) {
        (Json::String(own), Value::Text(with)) => {
            Some((Value::Text(own.clone()), Value::Text(with.clone())))
        }
        (Json::Bool(own), Value::Boolean(with)) => {
            Some((Value::Boolean(*own), Value::Boolean(*with)))
        }
        (Json::Number(own), Value::Integer(with)) => {
            decimal(own).map(|own| (Value::Decimal(own), Value::Decimal((*with).into())))
        }
        (Json::Number(own), Value::Decimal(with)) => {
            decimal(own).map(|own| (Value::Decimal(own), Value::Decimal(*with)))
        }
        _ => None,
    };
    match pair {
        Some((own, with)) => compares("", &own.as_ref(), op, &with),
        None => matches!(op, Comparison::Ne),
    }
}

pub(super) async fn filters_members(h: &Harness) -> Outcome {
    let (bench, rows) = populated(h).await?;
    let values: Vec<Value> = vec![
        "North".into(),
        "north".into(),
        "5".into(),
        "true".into(),
        5_i64.into(),
        (-1_i64).into(),
        super::harness::dec("4.5")?.into(),
        super::harness::dec("5.00")?.into(),
        true.into(),
        false.into(),
        "it's".into(),
    ];
    for name in ["region", "rating", "ok", "absent", "a.b"] {
        let field = format!("details.{name}");
        for value in &values {
            for op in [
                Comparison::Eq,
                Comparison::Ne,
                Comparison::Lt,
                Comparison::Le,
                Comparison::Gt,
                Comparison::Ge,
            ] {
                let expected =
                    ids_where(&rows, |row| member_compares(&member(row, name), op, value));
                expect_found(&bench, &compare(&field, op, value.clone()), &expected).await?;
            }
        }
        let any = Filter::In {
            field: field.clone().into(),
            values: values.clone(),
        };
        let expected = ids_where(&rows, |row| {
            let own = member(row, name);
            values
                .iter()
                .any(|value| member_compares(&own, Comparison::Eq, value))
        });
        expect_found(&bench, &any, &expected).await?;
        for is_null in [true, false] {
            let filter = Filter::Null {
                field: field.clone().into(),
                is_null,
            };
            let expected = ids_where(&rows, |row| member(row, name).is_null() == is_null);
            expect_found(&bench, &filter, &expected).await?;
        }
        for needle in ["no", "NOR", "ñan", "%_", "5"] {
            for op in [TextMatch::StartsWith, TextMatch::Contains] {
                let filter = Filter::Text {
                    field: field.clone().into(),
                    op,
                    text: needle.into(),
                };
                let expected = ids_where(&rows, |row| {
                    let own = member(row, name);
                    own.as_str()
                        .is_some_and(|text| text_matches(&ValueRef::Text(text), op, needle))
                });
                expect_found(&bench, &filter, &expected).await?;
            }
        }
    }
    Ok(())
}

pub(super) async fn filters_member_days(h: &Harness) -> Outcome {
    // Days and moments stand in documents as texts, which sort as they do.
    let (bench, rows) = populated(h).await?;
    let last = super::harness::day("2026-01-31")?;
    for op in [Comparison::Eq, Comparison::Le, Comparison::Gt] {
        let text = Value::from(last.to_string());
        let expected = ids_where(&rows, |row| member_compares(&member(row, "due"), op, &text));
        expect_found(&bench, &compare("details.due", op, last), &expected).await?;
    }
    Ok(())
}

pub(super) async fn filters_and_or(h: &Harness) -> Outcome {
    let (bench, rows) = populated(h).await?;
    let none = Filter::Or(Vec::new());
    expect_found(&bench, &Filter::all(), &ids(&rows)).await?;
    expect_found(&bench, &none, &[]).await?;
    expect_found(&bench, &not(Filter::all()), &[]).await?;
    expect_found(&bench, &not(none.clone()), &ids(&rows)).await?;
    expect_found(&bench, &Filter::And(vec![Filter::all(), none.clone()]), &[]).await?;
    expect_found(&bench, &Filter::Or(vec![Filter::all(), none]), &ids(&rows)).await?;

    let genuine = |row: &Row| row.get("is_genuine") == ValueRef::Boolean(true);
    let low = |row: &Row| matches!(row.get("level"), ValueRef::Integer(level) if level < 3);
    let on_loan = |row: &Row| row.get("state") == ValueRef::Text("on_loan");
    let a = compare("is_genuine", Comparison::Eq, true);
    let b = compare("level", Comparison::Lt, 3_i64);
    let c = compare("state", Comparison::Eq, State::OnLoan.as_str());
    let and = |all: &[&Filter]| Filter::And(all.iter().map(|one| (*one).clone()).collect());
    let or = |all: &[&Filter]| Filter::Or(all.iter().map(|one| (*one).clone()).collect());
    let expected = ids_where(&rows, |row| genuine(row) && low(row));
    expect_found(&bench, &and(&[&a, &b]), &expected).await?;
    let expected = ids_where(&rows, |row| genuine(row) || low(row) || on_loan(row));
    expect_found(&bench, &or(&[&a, &b, &c]), &expected).await?;
    // What binds stronger is said by the nesting alone.
    let expected = ids_where(&rows, |row| genuine(row) && (low(row) || on_loan(row)));
    expect_found(&bench, &and(&[&a, &or(&[&b, &c])]), &expected).await?;
    let expected = ids_where(&rows, |row| (genuine(row) && low(row)) || on_loan(row));
    expect_found(&bench, &or(&[&and(&[&a, &b]), &c]), &expected).await?;
    let expected = ids_where(&rows, |row| {
        let both = genuine(row) && low(row);
        !both && !on_loan(row)
    });
    expect_found(&bench, &and(&[&not(and(&[&a, &b])), &not(c)]), &expected).await
}

pub(super) async fn filters_not(h: &Harness) -> Outcome {
    // Plain negation, also where there is no value: whatever is not found is found by the opposite.
    let (bench, rows) = populated(h).await?;
    let all = ids(&rows);
    let text = |op, text: &str| Filter::Text {
        field: "origin".into(),
        op,
        text: text.into(),
    };
    let filters = [
        compare("amount", Comparison::Gt, 5_i64),
        compare("amount", Comparison::Le, 5_i64),
        compare("level", Comparison::Eq, 3_i64),
        compare("level", Comparison::Ne, 3_i64),
        compare("is_genuine", Comparison::Eq, true),
        compare("email", Comparison::Ne, "ada@museum.example"),
        compare("seen_at", Comparison::Lt, super::harness::moment(0)),
        compare("details.rating", Comparison::Ge, 4_i64),
        Filter::In {
            field: "currency".into(),
            values: vec!["EUR".into(), "USD".into()],
        },
        Filter::Between {
            field: "balance".into(),
            from: 0_i64.into(),
            to: 50_i64.into(),
        },
        text(TextMatch::StartsWith, "a"),
        text(TextMatch::Contains, "nn"),
        Filter::List {
            field: "labels".into(),
            op: crate::query::ListMatch::All,
            values: vec!["red".into()],
        },
        is_null("country"),
        has("parent_id", Filter::all()),
        Filter::Or(vec![
            compare("level", Comparison::Lt, 0_i64),
            compare("amount", Comparison::Lt, 0_i64),
        ]),
    ];
    for filter in filters {
        let found = bench.find(Specimen::schema(), &filter).await?;
        let rest: Vec<Uuid> = all
            .iter()
            .copied()
            .filter(|id| !found.contains(id))
            .collect();
        expect_found(&bench, &not(filter.clone()), &rest).await?;
        expect_found(&bench, &not(not(filter.clone())), &found).await?;
        let both = Filter::And(vec![filter.clone(), not(filter.clone())]);
        expect_found(&bench, &both, &[]).await?;
        let either = Filter::Or(vec![filter.clone(), not(filter)]);
        expect_found(&bench, &either, &all).await?;
    }
    let place = place(Specimen::schema(), "amount")?;
    let expected = ids_where(&rows, |row| {
        !compares(
            "amount",
            &row.value(place),
            Comparison::Gt,
            &Value::Decimal(5.into()),
        )
    });
    let filter = not(compare("amount", Comparison::Gt, 5_i64));
    expect_found(&bench, &filter, &expected).await
}

pub(super) async fn filters_deep(h: &Harness) -> Outcome {
    let (bench, rows) = populated(h).await?;
    let mut filter = compare("is_genuine", Comparison::Eq, true);
    for depth in 2..=Filter::MAX_DEPTH {
        filter = match depth % 3 {
            0 => Filter::And(vec![filter, Filter::all()]),
            1 => Filter::Or(vec![Filter::Or(Vec::new()), filter]),
            _ => not(filter),
        };
    }
    // Turned around at the depths 2, 5, 8 and 11.
    let expected = ids_where(&rows, |row| {
        row.get("is_genuine") == ValueRef::Boolean(true)
    });
    expect_found(&bench, &filter, &expected).await?;
    let many = Filter::Or(
        (0..Filter::MAX_CONDITIONS as i64 - 1)
            .map(|n| compare("quantity", Comparison::Eq, n))
            .collect(),
    );
    let expected = ids_where(
        &rows,
        |row| matches!(row.get("quantity"), ValueRef::Integer(n) if (0..199).contains(&n)),
    );
    expect_found(&bench, &many, &expected).await
}

pub(super) async fn filters_has(h: &Harness) -> Outcome {
    let bench = h.bench();
    let named = |name: &str, state| {
        row(Specimen {
            state,
            ..bare(name)
        })
    };
    let lost = named("Lost one", State::Lost);
    let found = named("Found one", State::Found);
    let hidden = named("Lost and deleted", State::Lost);
    let away = named("Lost and archived", State::Lost);
    bench
        .insert([lost.clone(), found.clone(), hidden.clone(), away.clone()])
        .await?;
    let id = |row: &Row| Id::<Specimen>::new(row.id());
    let part = |of: &Row, copy_of: Option<&Row>| -> Row {
        row(Part {
            copy_of_id: copy_of.map(id),
            ..Part::new(id(of))
        })
    };
    let of_lost = part(&lost, None);
    let of_found = part(&found, Some(&lost));
    let of_hidden = part(&hidden, Some(&hidden));
    let of_away = part(&away, Some(&found));
    let parts = [
        of_lost.clone(),
        of_found.clone(),
        of_hidden.clone(),
        of_away.clone(),
    ];
    bench.insert(parts.clone()).await?;
    bench
        .apply(vec![deletion(&hidden), replacement(&away, archived(&away))])
        .await?;

    let lost_one = || compare("state", Comparison::Eq, "lost");
    // A deleted target fulfils nothing, an archived one does.
    let checks: [(Filter, Vec<&Row>); 8] = [
        (has("specimen_id", lost_one()), vec![&of_lost, &of_away]),
        (
            has("specimen_id", Filter::all()),
            vec![&of_lost, &of_found, &of_away],
        ),
        (has("specimen_id", Filter::Or(Vec::new())), vec![]),
        (has("specimen_id", not(lost_one())), vec![&of_found]),
        (
            not(has("specimen_id", lost_one())),
            vec![&of_found, &of_hidden],
        ),
        // A reference without a value leads nowhere.
        (has("copy_of_id", lost_one()), vec![&of_found]),
        (
            not(has("copy_of_id", lost_one())),
            vec![&of_lost, &of_hidden, &of_away],
        ),
        (
            has("specimen_id", is_null("amount")),
            vec![&of_lost, &of_found, &of_away],
        ),
    ];
    for (filter, expected) in checks {
        let expected: Vec<Uuid> = expected.into_iter().map(|row| row.id()).collect();
        let came = bench.find(Part::schema(), &filter).await?;
        ensure_eq!(
            came,
            expected,
            "the ids of the parts that fulfil {filter:?}"
        );
    }
    Ok(())
}

pub(super) async fn filters_has_nested(h: &Harness) -> Outcome {
    let bench = h.bench();
    let root = row(Specimen {
        origin: Some("Root".into()),
        ..bare("Root")
    });
    let parent = row(Specimen {
        parent_id: Some(Id::new(root.id())),
        ..bare("Parent")
    });
    let child = row(Specimen {
        parent_id: Some(Id::new(parent.id())),
        ..bare("Child")
    });
    let own_id = new_id();
    let own = row_with(
        own_id,
        Specimen {
            parent_id: Some(Id::new(own_id)),
            origin: Some("Root".into()),
            ..bare("Own")
        },
    );
    let part = row(Part::new(Id::<Specimen>::new(child.id())));
    bench
        .insert([
            root.clone(),
            parent.clone(),
            child.clone(),
            own.clone(),
            part.clone(),
        ])
        .await?;
    let is_root = || compare("origin", Comparison::Eq, "Root");
    expect_found(
        &bench,
        &has("parent_id", is_root()),
        &[parent.id(), own.id()],
    )
    .await?;
    let twice = has("parent_id", has("parent_id", is_root()));
    expect_found(&bench, &twice, &[child.id(), own.id()]).await?;
    let both = Filter::And(vec![
        twice.clone(),
        compare("name", Comparison::Eq, "Child"),
    ]);
    expect_found(&bench, &both, &[child.id()]).await?;
    let thrice = has("specimen_id", twice);
    let came = bench.find(Part::schema(), &thrice).await?;
    ensure_eq!(
        came,
        [part.id()],
        "the parts whose specimen's parent's parent is the root"
    );
    // The same field means another row at each level.
    let named = |name| compare("name", Comparison::Eq, name);
    let chain = Filter::And(vec![
        named("Child"),
        has(
            "parent_id",
            Filter::And(vec![named("Parent"), has("parent_id", named("Root"))]),
        ),
    ]);
    expect_found(&bench, &chain, &[child.id()]).await
}

//! Filters on single fields: every operator over every kind of field, with and without a value.

use rust_decimal::Decimal;
use uuid::Uuid;

use super::harness::{Bench, compare, deletion, ids, new_id, place, row};
use super::objects::Specimen;
use super::oracle::{TEXTS, compares, ids_where, population, text_matches};
use super::{Harness, Outcome, ensure_eq};
use crate::query::{Comparison, Condition, Filter, ListMatch, Query, TextMatch};
use crate::schema::{Entity, FieldSchema, FieldType, Row, StorageKind, Value, ValueRef};

const ALL: [Comparison; 6] = [
    Comparison::Eq,
    Comparison::Ne,
    Comparison::Lt,
    Comparison::Le,
    Comparison::Gt,
    Comparison::Ge,
];

/// A tenant with [`population`] stored.
pub(super) async fn populated(h: &Harness) -> Outcome<(Bench, Vec<Row>)> {
    let bench = h.bench();
    let rows = population()?;
    bench.insert(rows.clone()).await?;
    Ok((bench, rows))
}

/// Checks a filter against the rows that must be found.
pub(super) async fn expect_found(bench: &Bench, filter: &Filter, expected: &[Uuid]) -> Outcome {
    let found = bench.find(Specimen::schema(), filter).await?;
    ensure_eq!(
        found,
        expected,
        "the ids of the rows that fulfil {filter:?}"
    );
    Ok(())
}

/// The values of the population in a field, and some that no row has.
fn operands(field: &FieldSchema, rows: &[Row]) -> Outcome<Vec<Value>> {
    let place = place(Specimen::schema(), &field.name)?;
    let mut values: Vec<Value> = Vec::new();
    for row in rows {
        let value = row.value(place).into_owned();
        if !value.is_null() && !values.contains(&value) {
            values.push(value);
        }
    }
    let more: Vec<Value> = match &field.field_type {
        FieldType::Text { .. } => ["b", "Zz", "\u{10FFFF}", "ANNA'", "x\" OR 1=1 --"]
            .into_iter()
            .map(Value::from)
            .chain([Value::from("y".repeat(40_000))])
            .collect(),
        // Beyond what the column may hold, yet something to compare with.
        FieldType::Integer { .. } | FieldType::Score => {
            [i64::MIN, -3_000_000_000, 3, 3_000_000_000, i64::MAX]
                .map(Value::from)
                .into()
        }
        FieldType::Decimal { .. } | FieldType::Percent => [
            Decimal::new(5, 9),
            Decimal::new(1_050_000, 5),
            Decimal::new(-1, 3),
            Decimal::MAX,
            Decimal::MIN,
        ]
        .map(Value::from)
        .into(),
        FieldType::Uuid => vec![Value::Uuid(new_id())],
        _ => Vec::new(),
    };
    values.extend(more);
    Ok(values)
}

async fn compare_kind(h: &Harness, kind: StorageKind, ops: &[Comparison]) -> Outcome {
    let (bench, rows) = populated(h).await?;
    for field in Specimen::schema()
        .fields()
        .iter()
        .filter(|field| field.storage_kind() == kind)
    {
        let place = place(Specimen::schema(), &field.name)?;
        for value in operands(field, &rows)? {
            for op in ops {
                let filter = compare(&field.name, *op, value.clone());
                let expected = ids_where(&rows, |row| {
                    compares(&field.name, &row.value(place), *op, &value)
                });
                expect_found(&bench, &filter, &expected).await?;
            }
        }
    }
    Ok(())
}

pub(super) async fn filters_compare_texts(h: &Harness) -> Outcome {
    compare_kind(h, StorageKind::Text, &ALL).await
}

pub(super) async fn filters_compare_integers(h: &Harness) -> Outcome {
    compare_kind(h, StorageKind::Integer, &ALL).await
}

pub(super) async fn filters_compare_decimals(h: &Harness) -> Outcome {
    compare_kind(h, StorageKind::Decimal, &ALL).await
}

pub(super) async fn filters_compare_booleans(h: &Harness) -> Outcome {
    compare_kind(h, StorageKind::Boolean, &[Comparison::Eq, Comparison::Ne]).await
}

pub(super) async fn filters_compare_days(h: &Harness) -> Outcome {
    compare_kind(h, StorageKind::Date, &ALL).await
}

pub(super) async fn filters_compare_moments(h: &Harness) -> Outcome {
    compare_kind(h, StorageKind::Timestamp, &ALL).await
}

pub(super) async fn filters_compare_ids(h: &Harness) -> Outcome {
    compare_kind(h, StorageKind::Uuid, &ALL).await
}

pub(super) async fn filters_ignore_case(h: &Harness) -> Outcome {
    let (bench, rows) = populated(h).await?;
    for (field, value) in [
        ("code", "ALPHA"),
        ("code", "beta"),
        ("code", "ÜBER"),
        ("code", "οδος"),
        ("email", "ADA@MUSEUM.EXAMPLE"),
        ("email", "Bob@museum.example"),
        ("subdomain", "ACME"),
        ("domain", "Beta.Example"),
        // These fields do not ignore it.
        ("name", "ANNA"),
        ("origin", "anna"),
        ("secret", "s3cret"),
    ] {
        let place = place(Specimen::schema(), field)?;
        let value = Value::from(value);
        for op in [Comparison::Eq, Comparison::Ne] {
            let expected = ids_where(&rows, |row| compares(field, &row.value(place), op, &value));
            expect_found(&bench, &compare(field, op, value.clone()), &expected).await?;
        }
        let any = Filter::In {
            field: field.into(),
            values: vec![value.clone()],
        };
        let expected = ids_where(&rows, |row| {
            compares(field, &row.value(place), Comparison::Eq, &value)
        });
        expect_found(&bench, &any, &expected).await?;
    }
    Ok(())
}

pub(super) async fn filters_decimals_of_other_scale(h: &Harness) -> Outcome {
    let bench = h.bench();
    let priced = |mantissa, scale| {
        row(Specimen {
            price: Decimal::new(mantissa, scale),
            ..super::fixtures::bare("Priced")
        })
    };
    let rows = [
        priced(15, 1),
        priced(1_500, 3),
        priced(2, 0),
        priced(20_000, 4),
    ];
    bench.insert(rows.clone()).await?;
    for (mantissa, scale, expected) in [
        (15, 1, [0, 1]),
        (15_000, 4, [0, 1]),
        (2, 0, [2, 3]),
        (200, 2, [2, 3]),
    ] {
        let wanted: Vec<Uuid> = rows
            .iter()
            .enumerate()
            .filter(|(at, _)| expected.contains(at))
            .map(|(_, row)| row.id())
            .collect();
        let value = Decimal::new(mantissa, scale);
        expect_found(&bench, &compare("price", Comparison::Eq, value), &wanted).await?;
        let any = Filter::In {
            field: "price".into(),
            values: vec![Value::from(value)],
        };
        expect_found(&bench, &any, &wanted).await?;
    }
    Ok(())
}

pub(super) async fn filters_null(h: &Harness) -> Outcome {
    let (bench, mut rows) = populated(h).await?;
    // A list and a document without entries are values.
    let hidden = rows.remove(0);
    bench.apply(vec![deletion(&hidden)]).await?;
    rows.push(bench.again(&hidden).await?);
    for field in Specimen::schema().fields() {
        let place = place(Specimen::schema(), &field.name)?;
        for is_null in [true, false] {
            let filter = Filter::Null {
                field: field.name.clone(),
                is_null,
            };
            let expected = ids_where(&rows, |row| (row.value(place) == ValueRef::Null) == is_null);
            expect_found(&bench, &filter, &expected).await?;
        }
    }
    Ok(())
}

pub(super) async fn filters_in(h: &Harness) -> Outcome {
    let (bench, rows) = populated(h).await?;
    for field in Specimen::schema().fields() {
        if matches!(field.storage_kind(), StorageKind::List | StorageKind::Json) {
            continue;
        }
        let place = place(Specimen::schema(), &field.name)?;
        let all = operands(field, &rows)?;
        for step in 1..4 {
            let values: Vec<Value> = all.iter().step_by(step).cloned().collect();
            let expected = ids_where(&rows, |row| {
                values
                    .iter()
                    .any(|value| compares(&field.name, &row.value(place), Comparison::Eq, value))
            });
            let filter = Filter::In {
                field: field.name.clone(),
                values,
            };
            expect_found(&bench, &filter, &expected).await?;
        }
        let none = Filter::In {
            field: field.name.clone(),
            values: Vec::new(),
        };
        expect_found(&bench, &none, &[]).await?;
        // No value is in no list, and so fulfils the opposite.
        expect_found(&bench, &Filter::Not(Box::new(none)), &ids(&rows)).await?;
    }
    Ok(())
}

pub(super) async fn filters_in_many_values(h: &Harness) -> Outcome {
    let (bench, rows) = populated(h).await?;
    let mut values: Vec<Value> = (0..Filter::MAX_VALUES - 2)
        .map(|_| new_id().into())
        .collect();
    let ends: Vec<&Row> = rows.first().into_iter().chain(rows.last()).collect();
    values.insert(
        0,
        ends.first().map(|row| row.id()).unwrap_or_default().into(),
    );
    values.push(ends.last().map(|row| row.id()).unwrap_or_default().into());
    let expected: Vec<Uuid> = ends.iter().map(|row| row.id()).collect();
    expect_found(
        &bench,
        &Filter::In {
            field: "id".into(),
            values,
        },
        &expected,
    )
    .await?;
    let numbers = (0..1_000_i64).map(Value::from).collect();
    let place = place(Specimen::schema(), "quantity")?;
    let expected = ids_where(
        &rows,
        |row| matches!(row.value(place), ValueRef::Integer(n) if (0..1_000).contains(&n)),
    );
    expect_found(
        &bench,
        &Filter::In {
            field: "quantity".into(),
            values: numbers,
        },
        &expected,
    )
    .await
}

pub(super) async fn filters_between(h: &Harness) -> Outcome {
    let (bench, rows) = populated(h).await?;
    for name in [
        "quantity", "balance", "amount", "made_on", "seen_at", "origin", "version",
    ] {
        let place = place(Specimen::schema(), name)?;
        let field = Specimen::schema().field(name);
        let values = field
            .map(|field| operands(field, &rows))
            .transpose()?
            .unwrap_or_default();
        for from in values.iter().step_by(2) {
            for to in values.iter().step_by(3) {
                let filter = Filter::Between {
                    field: name.into(),
                    from: from.clone(),
                    to: to.clone(),
                };
                let expected = ids_where(&rows, |row| {
                    let own = row.value(place);
                    compares(name, &own, Comparison::Ge, from)
                        && compares(name, &own, Comparison::Le, to)
                });
                expect_found(&bench, &filter, &expected).await?;
            }
        }
    }
    Ok(())
}

async fn search(h: &Harness, needles: &[&str]) -> Outcome {
    let (bench, rows) = populated(h).await?;
    let texts = Specimen::schema()
        .fields()
        .iter()
        .filter(|field| field.storage_kind() == StorageKind::Text);
    for field in texts {
        let place = place(Specimen::schema(), &field.name)?;
        for needle in needles {
            for op in [TextMatch::StartsWith, TextMatch::Contains] {
                let filter = Filter::Text {
                    field: field.name.clone(),
                    op,
                    text: (*needle).to_owned(),
                };
                let expected = ids_where(&rows, |row| text_matches(&row.value(place), op, needle));
                expect_found(&bench, &filter, &expected).await?;
            }
        }
    }
    Ok(())
}

pub(super) async fn filters_text(h: &Harness) -> Outcome {
    // The empty text begins every text, and is in none that is missing.
    search(
        h,
        &[
            "",
            "ann",
            "ANN",
            "Anna",
            "nna",
            "ä",
            "ÄN",
            "z",
            "museum.EXAMPLE",
            "absent",
        ],
    )
    .await
}

pub(super) async fn filters_text_wildcards(h: &Harness) -> Outcome {
    search(
        h,
        &[
            "%", "_", "50%", "5_", "a%a", "\\", "k\\s", "'", "\n", ".", "*", "[a-z]", "^a",
        ],
    )
    .await
}

pub(super) async fn filters_text_beyond_ascii(h: &Harness) -> Outcome {
    let special = [
        "οδο",
        "ΟΔΟΣ",
        "ος",
        "ΟΣ",
        "i\u{307}",
        "İ",
        "\u{1F995}",
        "ΔΟ",
    ];
    search(h, &special).await?;
    search(h, TEXTS).await
}

pub(super) async fn filters_lists(h: &Harness) -> Outcome {
    let (bench, rows) = populated(h).await?;
    for name in ["tags", "labels"] {
        let place = place(Specimen::schema(), name)?;
        for wanted in [
            &[][..],
            &["red"],
            &["Blue"],
            &["blue"],
            &["red", "Blue"],
            &["Blue", "red", "red"],
            &["green", "absent"],
            &["absent"],
            &["a,b"],
            &["a", "b"],
            &["red", "green", "Blue"],
        ] {
            let values: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            let has = |row: &Row, entry: &str| match row.value(place) {
                ValueRef::List(entries) => entries.iter().any(|own| own == entry),
                _ => false,
            };
            let any = Filter::List {
                field: name.into(),
                op: ListMatch::Any,
                values: values.clone(),
            };
            let expected = ids_where(&rows, |row| wanted.iter().any(|entry| has(row, entry)));
            expect_found(&bench, &any, &expected).await?;
            // Every list has all of nothing; no list has not.
            let all = Filter::List {
                field: name.into(),
                op: ListMatch::All,
                values,
            };
            let expected = ids_where(&rows, |row| {
                !row.value(place).is_null() && wanted.iter().all(|entry| has(row, entry))
            });
            expect_found(&bench, &all, &expected).await?;
        }
    }
    Ok(())
}

pub(super) async fn filters_limit(h: &Harness) -> Outcome {
    let (bench, rows) = populated(h).await?;
    let all = ids(&rows);
    for limit in [1, 2, all.len() - 1, all.len(), all.len() + 1, usize::MAX] {
        let query = Query::new(Specimen::schema(), Condition::all()).limit(limit);
        let found = ids(&bench.select(&query).await?);
        let expected: Vec<Uuid> = all.iter().copied().take(limit).collect();
        ensure_eq!(found, expected, "the first {limit} rows");
    }
    Ok(())
}

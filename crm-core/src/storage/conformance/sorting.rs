//! Order, and walks through it by position, page by page.

use std::cmp::Ordering;

use rust_decimal::Decimal;
use uuid::Uuid;

use super::expect::expect_same_rows;
use super::filters::populated;
use super::fixtures::{bare, worth};
use super::harness::{Bench, at, dec, ids, insertion, place, purge, row, update};
use super::objects::{Specimen, State};
use super::oracle::order;
use super::{Harness, Outcome, ensure, ensure_eq};
use crate::query::{Condition, Query, SortKey};
use crate::schema::{Entity, Row, StorageKind, Value, system};

/// Sort keys from field names, with `-` in front for descending. The id is not added.
fn keys(fields: &[&str]) -> Outcome<Vec<SortKey>> {
    fields
        .iter()
        .map(|field| {
            let (name, descending) = match field.strip_prefix('-') {
                Some(name) => (name, true),
                None => (*field, false),
            };
            Ok(SortKey {
                index: place(Specimen::schema(), name)?,
                descending,
            })
        })
        .collect()
}

fn sorted(sort: &[SortKey], mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| compare_by(sort, a, b));
    rows
}

fn compare_by(sort: &[SortKey], a: &Row, b: &Row) -> Ordering {
    for key in sort {
        let order = order(&a.value(key.index), &b.value(key.index));
        let order = if key.descending {
            order.reverse()
        } else {
            order
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

fn query(sort: &[SortKey]) -> Query {
    Query::new(Specimen::schema(), Condition::all()).sort(sort.to_vec())
}

/// The sort values of a row: its place in the order.
fn position(sort: &[SortKey], row: &Row) -> Vec<Value> {
    sort.iter()
        .map(|key| row.value(key.index).into_owned())
        .collect()
}

async fn expect_order(bench: &Bench, sort: &[SortKey], rows: &[Row]) -> Outcome {
    let query = query(sort);
    let expected = sorted(&query.sort, rows.to_vec());
    expect_same_rows(
        &bench.select(&query).await?,
        &expected,
        &format!("sorted by {sort:?}"),
    )
}

/// Walks through the whole order with pages of a size.
async fn walk(bench: &Bench, sort: &[SortKey], size: usize) -> Outcome<Vec<Row>> {
    let mut query = query(sort).limit(size);
    let mut walked: Vec<Row> = Vec::new();
    loop {
        let page = bench.select(&query).await?;
        ensure!(
            page.len() <= size,
            "expected at most {size} rows; {} came",
            page.len()
        );
        let ended = page.len() < size;
        walked.extend(page);
        ensure!(walked.len() < 10_000, "expected the walk to end");
        match walked.last() {
            Some(last) if !ended => query.after = Some(position(&query.sort, last)),
            _ => return Ok(walked),
        }
    }
}

async fn expect_walks(bench: &Bench, sort: &[SortKey], rows: &[Row]) -> Outcome {
    let expected = sorted(&query(sort).sort, rows.to_vec());
    for size in 1..=7 {
        let walked = walk(bench, sort, size).await?;
        let what = format!("a walk sorted by {sort:?} with pages of {size}");
        expect_same_rows(&walked, &expected, &what)?;
    }
    Ok(())
}

pub(super) async fn sorting_every_field(h: &Harness) -> Outcome {
    let (bench, rows) = populated(h).await?;
    for (index, field) in Specimen::schema().fields().iter().enumerate() {
        if matches!(field.storage_kind(), StorageKind::List | StorageKind::Json) {
            continue;
        }
        for descending in [false, true] {
            expect_order(&bench, &[SortKey { index, descending }], &rows).await?;
        }
    }
    Ok(())
}

pub(super) async fn sorting_nulls_are_greatest(h: &Harness) -> Outcome {
    let bench = h.bench();
    let rows = [
        worth("none", None),
        worth("most", dec("999999999999999.9999")?),
        worth("least", dec("-1")?),
        worth("none again", None),
    ]
    .map(row);
    bench.insert(rows.clone()).await?;
    for (sort, expected) in [
        ("amount", ["least", "most", "none", "none again"]),
        // Ties go the same way as the last key.
        ("-amount", ["none again", "none", "most", "least"]),
    ] {
        let found = bench.select(&query(&keys(&[sort])?)).await?;
        let names: Vec<_> = found
            .iter()
            .map(|row| row.get("name").into_owned())
            .collect();
        ensure_eq!(
            names,
            expected.map(Value::from),
            "the names sorted by `{sort}`"
        );
    }
    Ok(())
}

pub(super) async fn sorting_texts_by_bytes(h: &Harness) -> Outcome {
    let bench = h.bench();
    let names = [
        "a b",
        "A",
        "_",
        "Z",
        "ab",
        "a",
        "a-b",
        "ä",
        "\u{1F995}",
        "\u{FFFD}",
        "Ab",
        "~",
        "a_b",
        "z",
        "aa",
        "1",
        "10",
        "9",
    ];
    let rows: Vec<Row> = names.iter().map(|name| row(bare(name))).collect();
    bench.insert(rows.clone()).await?;
    let found = bench.select(&query(&keys(&["name"])?)).await?;
    let came: Vec<_> = found
        .iter()
        .map(|row| row.get("name").into_owned())
        .collect();
    let mut expected = names.to_vec();
    expected.sort_unstable_by_key(|name| name.as_bytes().to_vec());
    let expected: Vec<Value> = expected.into_iter().map(Value::from).collect();
    ensure_eq!(came, expected, "names sorted by their bytes");
    Ok(())
}

pub(super) async fn sorting_several_keys(h: &Harness) -> Outcome {
    let (bench, rows) = populated(h).await?;
    for sort in [
        &["state", "rank"][..],
        &["state", "-rank"],
        &["-state", "rank"],
        &["is_genuine", "-level", "made_on"],
        &["-is_genuine", "level", "-made_on", "name"],
        &["currency", "-amount", "-id"],
        &["-currency", "amount", "id"],
        &["id"],
        &["-id"],
    ] {
        expect_order(&bench, &keys(sort)?, &rows).await?;
    }
    Ok(())
}

pub(super) async fn sorting_ties_by_id(h: &Harness) -> Outcome {
    let bench = h.bench();
    let mut rows: Vec<Row> = (0..40).map(|_| row(bare("The same"))).collect();
    super::random::Random::new(40).shuffle(&mut rows);
    // Inserted in another order than that of their ids, in several commits.
    for some in rows.chunks(9) {
        bench.insert(some.to_vec()).await?;
    }
    for sort in [
        &["name"][..],
        &["-name"],
        &["amount"],
        &["-amount", "state"],
        &["state", "-id"],
    ] {
        expect_order(&bench, &keys(sort)?, &rows).await?;
        expect_walks(&bench, &keys(sort)?, &rows).await?;
    }
    Ok(())
}

pub(super) async fn sorting_walk_every_field(h: &Harness) -> Outcome {
    let (bench, rows) = populated(h).await?;
    for (index, field) in Specimen::schema().fields().iter().enumerate() {
        if matches!(field.storage_kind(), StorageKind::List | StorageKind::Json) {
            continue;
        }
        for descending in [false, true] {
            let sort = [SortKey { index, descending }];
            let expected = sorted(&query(&sort).sort, rows.clone());
            let walked = walk(&bench, &sort, 4).await?;
            let what = format!(
                "a walk sorted by `{}`, descending: {descending}",
                field.name
            );
            expect_same_rows(&walked, &expected, &what)?;
        }
    }
    Ok(())
}

pub(super) async fn sorting_walk_page_sizes(h: &Harness) -> Outcome {
    let (bench, rows) = populated(h).await?;
    for sort in [
        &["id"][..],
        &["-id"],
        &["amount"],
        &["-amount"],
        &["state", "-rank"],
        &["-is_genuine", "level", "-made_on"],
        &["currency", "-seen_at", "-id"],
    ] {
        expect_walks(&bench, &keys(sort)?, &rows).await?;
    }
    Ok(())
}

pub(super) async fn sorting_walk_back(h: &Harness) -> Outcome {
    // A page in front of a position is a page behind it in the turned order.
    let (bench, rows) = populated(h).await?;
    for sort in [
        &["amount"][..],
        &["state", "-rank", "id"],
        &["-level", "made_on", "-id"],
    ] {
        let there = query(&keys(sort)?).sort;
        let back: Vec<SortKey> = there
            .iter()
            .map(|key| SortKey {
                descending: !key.descending,
                ..*key
            })
            .collect();
        let expected = sorted(&there, rows.clone());
        for (index, row) in expected.iter().enumerate() {
            let mut query = query(&back).limit(3);
            query.after = Some(position(&back, row));
            let mut came = ids(&bench.select(&query).await?);
            came.reverse();
            let front: Vec<Uuid> = expected.iter().take(index).map(|row| row.id()).collect();
            let front = front
                .get(front.len().saturating_sub(3)..)
                .unwrap_or_default();
            ensure_eq!(
                came,
                front,
                "the three rows in front of row {index} by {sort:?}"
            );
        }
    }
    Ok(())
}

pub(super) async fn sorting_walk_with_a_filter(h: &Harness) -> Outcome {
    let (bench, rows) = populated(h).await?;
    let state = place(Specimen::schema(), "state")?;
    let expected: Vec<Row> = rows
        .iter()
        .filter(|row| row.value(state) != Value::from("lost").as_ref())
        .cloned()
        .collect();
    let sort = keys(&["-balance", "name"])?;
    let expected = sorted(&query(&sort).sort, expected);
    let mut query = query(&sort).limit(2);
    query.condition = Condition::Not(Box::new(Condition::equals(
        state,
        State::Lost.as_str().into(),
    )));
    let mut walked: Vec<Row> = Vec::new();
    while walked.len() < rows.len() {
        let page = bench.select(&query).await?;
        let Some(last) = page.last() else { break };
        query.after = Some(position(&query.sort, last));
        walked.extend(page);
    }
    expect_same_rows(&walked, &expected, "a walk with a filter")
}

pub(super) async fn sorting_walk_while_rows_change(h: &Harness) -> Outcome {
    for direction in ["level", "-level"] {
        let bench = h.bench();
        let sort = query(&keys(&[direction, "name"])?).sort;
        let leveled = |level: i32| {
            row(Specimen {
                level: Some(level),
                ..bare("Leveled")
            })
        };
        let mut rows: Vec<Row> = (0..10).map(|n| leveled(n * 10)).collect();
        bench.insert(rows.clone()).await?;
        let mut query = query(&sort).limit(3);
        let mut seen: Vec<Uuid> = Vec::new();
        let mut expected_rest = sorted(&sort, rows.clone());
        for page in 0..10 {
            let came = bench.select(&query).await?;
            let expected: Vec<Row> = expected_rest.iter().take(3).cloned().collect();
            expect_same_rows(&came, &expected, &format!("page {page} by `{direction}`"))?;
            let Some(last) = came.last().cloned() else {
                break;
            };
            seen.extend(ids(&came));
            query.after = Some(position(&sort, &last));
            // Rows come in front of the position, behind it and at its very value; the row that it
            // stands on goes, and so does the next one; another one moves behind all.
            let level = match last.get("level") {
                crate::schema::ValueRef::Integer(level) => i32::try_from(level).unwrap_or_default(),
                _ => 0,
            };
            let added = if page < 3 {
                vec![leveled(level - 1), leveled(level + 1), leveled(level)]
            } else {
                Vec::new()
            };
            bench
                .apply(added.iter().cloned().map(insertion).collect())
                .await?;
            rows.extend(added);
            let behind = |row: &&Row| compare_by(&sort, row, &last) == Ordering::Greater;
            let ordered = sorted(&sort, rows.clone());
            let next = ordered.iter().find(behind).cloned();
            let gone: Vec<Row> = [Some(last.clone()), next].into_iter().flatten().collect();
            bench.apply(gone.iter().map(purge).collect()).await?;
            rows.retain(|row| !ids(&gone).contains(&row.id()));
            if let Some(first) = sorted(&sort, rows.clone()).first().cloned()
                && page == 1
            {
                let far = if direction == "level" { 1_000 } else { -1_000 };
                bench
                    .apply(vec![update::<Specimen>(&first, |data| {
                        data.level = Some(far);
                    })?])
                    .await?;
                rows.retain(|row| row.id() != first.id());
                rows.push(bench.again(&first).await?);
                seen.retain(|id| *id != first.id());
            }
            expected_rest = sorted(&sort, rows.clone())
                .into_iter()
                .filter(|row| behind(&row))
                .collect();
            let doubles = expected_rest.iter().any(|row| seen.contains(&row.id()));
            ensure!(
                !doubles,
                "expected the suite's own walk to be free of doubles"
            );
        }
        ensure!(
            expected_rest.is_empty(),
            "expected the walk by `{direction}` to end"
        );
    }
    Ok(())
}

pub(super) async fn sorting_positions_between_rows(h: &Harness) -> Outcome {
    // A position need not be that of a row: the row may be gone.
    let bench = h.bench();
    let valued = |amount: Option<Decimal>, seen_at| -> Row {
        row(Specimen {
            amount,
            seen_at,
            ..bare("Valued")
        })
    };
    let base = at("2026-03-29T00:59:59.999999Z")?;
    let micro = chrono::TimeDelta::microseconds(1);
    let mut rows = Vec::new();
    for (amount, moment) in [
        (Some(dec("2.5")?), Some(base)),
        (Some(dec("2.5001")?), Some(base + micro)),
        (Some(dec("10")?), Some(base + micro * 2)),
        (Some(dec("-3")?), Some(base - micro)),
        (None, None),
        (Some(dec("2.50")?), None),
        (None, Some(base)),
    ] {
        rows.push(valued(amount, moment));
    }
    bench.insert(rows.clone()).await?;
    let ids_at_ends = [
        Uuid::nil(),
        Uuid::max(),
        rows.first().map(|r| r.id()).unwrap_or_default(),
    ];
    let amounts = [
        "2.5", "2.500", "2.50005", "9", "10.0000", "-3.0", "-1000", "1000",
    ];
    let mut values = vec![("amount", Value::Null), ("seen_at", Value::Null)];
    for amount in amounts {
        values.push(("amount", dec(amount)?.into()));
    }
    for steps in -2..4 {
        values.push(("seen_at", (base + micro * steps).into()));
    }
    for (field, value) in &values {
        for descending in [false, true] {
            for id_descending in [false, true] {
                for id in ids_at_ends {
                    let index = place(Specimen::schema(), field)?;
                    let sort = vec![
                        SortKey { index, descending },
                        SortKey {
                            index: system::ID,
                            descending: id_descending,
                        },
                    ];
                    let mut query = query(&sort);
                    query.after = Some(vec![value.clone(), id.into()]);
                    let behind = |row: &Row| {
                        let turned = |order: Ordering, turn: bool| {
                            if turn { order.reverse() } else { order }
                        };
                        turned(order(&row.value(index), &value.as_ref()), descending).then(turned(
                            row.id().as_bytes().cmp(id.as_bytes()),
                            id_descending,
                        )) == Ordering::Greater
                    };
                    let expected: Vec<Row> = sorted(&sort, rows.clone())
                        .into_iter()
                        .filter(behind)
                        .collect();
                    let what = format!("the rows behind {value:?} and {id} by {sort:?}");
                    expect_same_rows(&bench.select(&query).await?, &expected, &what)?;
                }
            }
        }
    }
    Ok(())
}

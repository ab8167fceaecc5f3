//! Sorting by custom fields, alone and together with others.

use std::cmp::Ordering;

use uuid::Uuid;

use super::super::expect::expect_same_rows;
use super::super::harness::ids;
use super::super::oracle::order;
use super::super::{Failure, Harness, Outcome, ensure, ensure_eq};
use super::world;
use crate::query::{Condition, Query, SortKey};
use crate::schema::{Row, Value};

/// Sorts the rows by the values of a field, as far as `descending` says; ties by id.
fn sorted(rows: &[Row], values: &[Value], descending: bool) -> Vec<Row> {
    let mut both: Vec<(&Row, &Value)> = rows.iter().zip(values).collect();
    both.sort_by(|(a, own), (b, other)| {
        let by_value = order(&own.as_ref(), &other.as_ref());
        let order = by_value.then(a.id().cmp(&b.id()));
        if descending { order.reverse() } else { order }
    });
    both.into_iter().map(|(row, _)| row.clone()).collect()
}

pub(in crate::storage::conformance) async fn sorting_custom_fields(h: &Harness) -> Outcome {
    let world = world(h).await?;
    for field in world.fields.iter().filter(|field| field.is_sortable()) {
        let index = world.place(field.name)?;
        let values = world.values(field);
        for descending in [false, true] {
            let expected = sorted(&world.rows, &values, descending);
            let sort = vec![SortKey { index, descending }];
            for size in [1, 3, 100] {
                let mut query = Query::new(&world.object, Condition::all())
                    .sort(sort.clone())
                    .limit(size);
                let mut walked: Vec<Row> = Vec::new();
                loop {
                    let page = world.bench.select(&query).await?;
                    let ended = page.len() < size;
                    walked.extend(page);
                    ensure!(walked.len() < 1_000, "expected the walk to end");
                    let Some(last) = walked.last().filter(|_| !ended) else {
                        break;
                    };
                    let position = query.sort.iter();
                    let position = position.map(|key| {
                        let value = |value: crate::schema::ValueRef<'_>| value.into_owned();
                        world.object.read(&**last, key.index, value)
                    });
                    query.after = Some(position.collect());
                }
                let what = format!("a walk by `{}` with pages of {size}", field.name);
                expect_same_rows(&walked, &expected, &what)?;
            }
        }
    }
    Ok(())
}

pub(in crate::storage::conformance) async fn sorting_custom_fields_together(
    h: &Harness,
) -> Outcome {
    let world = world(h).await?;
    let by_name = |name: &str| -> Outcome<(usize, Vec<Value>)> {
        let field = world.fields.iter().find(|field| field.name == name);
        let field = field.ok_or_else(|| Failure::new("a field"))?;
        Ok((world.place(name)?, world.values(field)))
    };
    let (flag, flags) = by_name("c_flag")?;
    let (day, days) = by_name("c_day")?;
    for directions in [(false, false), (true, true), (true, false), (false, true)] {
        let mut expected: Vec<usize> = (0..world.rows.len()).collect();
        let value = |values: &[Value], number: usize| -> Value {
            values.get(number).cloned().unwrap_or_default()
        };
        let id = |number: usize| world.rows.get(number).map(Row::as_ref).map(|row| row.id());
        let turned = |order: Ordering, turn: bool| if turn { order.reverse() } else { order };
        expected.sort_by(|a, b| {
            let by_flag = order(&value(&flags, *a).as_ref(), &value(&flags, *b).as_ref());
            let by_day = order(&value(&days, *a).as_ref(), &value(&days, *b).as_ref());
            turned(by_flag, directions.0)
                .then(turned(by_day, directions.1))
                .then(turned(id(*a).cmp(&id(*b)), directions.1))
        });
        let expected: Vec<Option<Uuid>> = expected.into_iter().map(id).collect();
        let sort = vec![
            SortKey {
                index: flag,
                descending: directions.0,
            },
            SortKey {
                index: day,
                descending: directions.1,
            },
        ];
        let mut query = Query::new(&world.object, Condition::all()).sort(sort);
        query.limit = 2;
        let mut walked = Vec::new();
        loop {
            let page = world.bench.select(&query).await?;
            walked.extend(ids(&page).into_iter().map(Some));
            let Some(last) = page.last().filter(|_| page.len() == 2) else {
                break;
            };
            ensure!(walked.len() < 1_000, "expected the walk to end");
            let position = query.sort.iter();
            let position = position.map(|key| {
                let value = |value: crate::schema::ValueRef<'_>| value.into_owned();
                world.object.read(&**last, key.index, value)
            });
            query.after = Some(position.collect());
        }
        ensure_eq!(
            walked,
            expected,
            "a walk by two custom fields, {directions:?}"
        );
    }
    Ok(())
}

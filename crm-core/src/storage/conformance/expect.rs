//! What cases expect of rows, of what a condition takes, and of refused commits.

use super::harness::{Bench, ids, place};
use super::objects::Specimen;
use super::{Failure, Outcome, ensure_eq};
use crate::query::{AggregateQuery, Condition, Measure, Query, SortKey};
use crate::schema::{Entity, ObjectRef, Row};
use crate::storage::{Committed, StorageError};

/// Checks that two rows have the same system and own values, and the same sealed ones.
#[track_caller]
pub(super) fn expect_same(came: &Row, expected: &Row, what: &str) -> Outcome {
    if came.object() != expected.object() {
        return Err(Failure::differs(
            format_args!("{what}: the object"),
            &expected.object().name(),
            &came.object().name(),
        ));
    }
    for (index, field) in expected.object().fields().iter().enumerate() {
        let (came, expected) = (came.value(index), expected.value(index));
        // The kind counts too: null is not an empty list.
        if came != expected {
            let what = format_args!("{what}: the field `{}`", field.name);
            return Err(Failure::differs(what, &expected, &came));
        }
    }
    if came.sealed() != expected.sealed() {
        return Err(Failure::differs(
            format_args!("{what}: what is sealed of it"),
            &expected.sealed(),
            &came.sealed(),
        ));
    }
    Ok(())
}

/// Checks that two lists of rows are the same.
#[track_caller]
pub(super) fn expect_same_rows(came: &[Row], expected: &[Row], what: &str) -> Outcome {
    if ids(came) != ids(expected) {
        return Err(Failure::differs(
            format_args!("{what}: the ids"),
            &ids(expected),
            &ids(came),
        ));
    }
    for (came, expected) in came.iter().zip(expected) {
        expect_same(came, expected, what)?;
    }
    Ok(())
}

fn answer(came: &Result<Committed, StorageError>) -> String {
    match came {
        Ok(committed) => format!("{committed:?}"),
        Err(error) => format!("{error:?}"),
    }
}

#[track_caller]
fn other_answer(expected: &str, came: &Result<Committed, StorageError>, what: &str) -> Failure {
    Failure::new(format!(
        "{what}\n  expected: {expected}\n  came:     {}",
        answer(came)
    ))
}

/// Checks that a commit was refused because `row` is not at its version.
#[track_caller]
pub(super) fn expect_conflict(
    came: &Result<Committed, StorageError>,
    row: &Row,
    what: &str,
) -> Outcome {
    match came {
        Err(StorageError::Conflict { object, id })
            if object == row.object().name() && *id == row.id() =>
        {
            Ok(())
        }
        _ => {
            let expected = format!(
                "Conflict {{ object: {:?}, id: {} }}",
                row.object().name(),
                row.id()
            );
            Err(other_answer(&expected, came, what))
        }
    }
}

/// Checks that a commit was refused because of a unique key.
#[track_caller]
pub(super) fn expect_duplicate(
    came: &Result<Committed, StorageError>,
    wanted: &ObjectRef,
    names: &[&str],
    what: &str,
) -> Outcome {
    match came {
        Err(StorageError::Duplicate { object, fields })
            if object == wanted.name() && *fields == names =>
        {
            Ok(())
        }
        _ => {
            let expected = format!(
                "Duplicate {{ object: {:?}, fields: {names:?} }}",
                wanted.name()
            );
            Err(other_answer(&expected, came, what))
        }
    }
}

/// Checks that a commit was refused because a reference leads nowhere.
#[track_caller]
pub(super) fn expect_reference(
    came: &Result<Committed, StorageError>,
    wanted: &ObjectRef,
    name: &str,
    what: &str,
) -> Outcome {
    match came {
        Err(StorageError::Reference { object, field })
            if object == wanted.name() && field == name =>
        {
            Ok(())
        }
        _ => {
            let expected = format!(
                "Reference {{ object: {:?}, field: {name:?} }}",
                wanted.name()
            );
            Err(other_answer(&expected, came, what))
        }
    }
}

/// Checks that a removal was refused because a row still refers to the removed one.
#[track_caller]
pub(super) fn expect_referenced(
    came: &Result<Committed, StorageError>,
    removed: &ObjectRef,
    referring: &ObjectRef,
    name: &str,
    what: &str,
) -> Outcome {
    match came {
        Err(StorageError::Referenced { object, by, field })
            if object == removed.name() && by == referring.name() && field == name =>
        {
            Ok(())
        }
        _ => {
            let expected = format!(
                "Referenced {{ object: {:?}, by: {:?}, field: {name:?} }}",
                removed.name(),
                referring.name()
            );
            Err(other_answer(&expected, came, what))
        }
    }
}

/// The condition takes these specimens: page by page by their names in both directions, counted, and
/// with the sum of their quantities.
pub(super) async fn expect_in_pages_and_sums(
    bench: &Bench,
    condition: &Condition,
    mut expected: Vec<Row>,
    of: &str,
) -> Outcome {
    for descending in [false, true] {
        let name = SortKey {
            index: place(Specimen::schema(), "name")?,
            descending,
        };
        let mut query = Query::new(Specimen::schema(), condition.clone())
            .sort(vec![name])
            .limit(7);
        expected.sort_by(|a, b| query.order(&**a, &**b));
        let mut walked = Vec::new();
        loop {
            let page = bench.select(&query).await?;
            walked.extend(ids(&page));
            let Some(last) = page.last().filter(|_| page.len() == 7) else {
                break;
            };
            let position = query
                .sort
                .iter()
                .map(|key| last.value(key.index).into_owned());
            query.after = Some(position.collect());
        }
        ensure_eq!(walked, ids(&expected), "the pages of {of}");
    }
    let mut sum = AggregateQuery::count(Specimen::schema(), condition.clone());
    sum.measures
        .push(Measure::Sum(place(Specimen::schema(), "quantity")?));
    let groups = bench.storage().aggregate(&bench.scope, &sum).await?;
    let total: i64 = expected
        .iter()
        .filter_map(|row| row.get("quantity").as_decimal())
        .filter_map(|number| i64::try_from(number).ok())
        .sum();
    let came = groups
        .first()
        .map(|group| (group.count(0), group.number(1)));
    ensure_eq!(
        came,
        Some((expected.len() as u64, Some(total.into()))),
        "the count and sum of {of}"
    );
    Ok(())
}

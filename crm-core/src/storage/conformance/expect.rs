//! What cases expect of rows and of refused commits.

use super::harness::ids;
use super::{Failure, Outcome};
use crate::schema::{ObjectRef, Row};
use crate::storage::{Committed, StorageError};

/// Checks that two rows have the same system and own values.
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

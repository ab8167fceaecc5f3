//! A commit holds only against the versions that it was decided on.

use super::expect::{expect_conflict, expect_duplicate, expect_same_rows};
use super::fixtures::bare;
use super::harness::{
    Bench, deletion, expectation, insertion, new_id, purge, row, row_with, stamp, update,
};
use super::objects::{Chore, Part, Specimen};
use super::{Harness, Outcome, ensure, ensure_eq};
use crate::Id;
use crate::schema::{Entity, Row};
use crate::storage::{Change, Expectation};

/// A specimen at version 2 and what it was at version 1.
async fn changed_specimen(bench: &Bench) -> Outcome<(Row, Row)> {
    let first = row(bare("First"));
    bench.insert([first.clone()]).await?;
    bench
        .apply(vec![update::<Specimen>(&first, |data| {
            data.name = "Second".into();
        })?])
        .await?;
    let second = bench.again(&first).await?;
    ensure_eq!(second.version(), 2, "the version after one update");
    Ok((first, second))
}

/// Checks that the changes conflict at `row` and leave nothing behind.
async fn expect_refused(bench: &Bench, changes: Vec<Change>, row: &Row, what: &str) -> Outcome {
    let before = bench.everything().await?;
    expect_conflict(&bench.commit(changes).await, row, what)?;
    expect_same_rows(
        &bench.everything().await?,
        &before,
        "the rows after a refused commit",
    )
}

pub(super) async fn versions_stale_update(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (first, second) = changed_specimen(&bench).await?;
    let stale = update::<Specimen>(&first, |data| data.name = "Too late".into())?;
    expect_refused(
        &bench,
        vec![stale.clone()],
        &first,
        "an update of version 1 of 2",
    )
    .await?;

    // Nothing of the other changes either, on whichever side of the stale one they stand.
    let other = row(bare("Other"));
    let with = || insertion(row(Chore::new("beside")));
    expect_refused(
        &bench,
        vec![with(), stale.clone()],
        &first,
        "stale after fresh",
    )
    .await?;
    expect_refused(&bench, vec![stale, with()], &first, "stale before fresh").await?;
    bench.expect_gone(&other).await?;
    bench.expect_stored(&second).await
}

pub(super) async fn versions_stale_delete(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (first, second) = changed_specimen(&bench).await?;
    expect_refused(
        &bench,
        vec![purge(&first)],
        &first,
        "a removal of version 1 of 2",
    )
    .await?;
    expect_refused(
        &bench,
        vec![deletion(&first)],
        &first,
        "a deletion of version 1 of 2",
    )
    .await?;
    bench.apply(vec![purge(&second)]).await
}

pub(super) async fn versions_from_the_future(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (_, second) = changed_specimen(&bench).await?;
    let third = second.with_meta(second.meta().next(stamp()));
    let fourth = update::<Specimen>(&third, |data| data.name = "Fourth".into())?;
    expect_refused(
        &bench,
        vec![fourth],
        &third,
        "an update of a version that is not yet",
    )
    .await?;
    expect_refused(
        &bench,
        vec![purge(&third)],
        &third,
        "a removal of such a version",
    )
    .await
}

pub(super) async fn versions_missing_row(h: &Harness) -> Outcome {
    let bench = h.bench();
    let never = row(bare("Never stored"));
    let change = || update::<Specimen>(&never, |data| data.quantity = 1);
    expect_refused(
        &bench,
        vec![change()?],
        &never,
        "an update of a row that never was",
    )
    .await?;
    expect_refused(
        &bench,
        vec![purge(&never)],
        &never,
        "a removal of a row that never was",
    )
    .await?;

    let gone = row(bare("Gone"));
    bench.insert([gone.clone()]).await?;
    bench.apply(vec![purge(&gone)]).await?;
    let late = update::<Specimen>(&gone, |data| data.name = "Late".into())?;
    expect_refused(&bench, vec![late], &gone, "an update of a removed row").await?;
    expect_refused(&bench, vec![purge(&gone)], &gone, "a second removal").await
}

pub(super) async fn versions_double_update(h: &Harness) -> Outcome {
    let bench = h.bench();
    let first = row(bare("First"));
    bench.insert([first.clone()]).await?;
    let change = update::<Specimen>(&first, |data| data.name = "Once".into())?;
    bench.apply(vec![change.clone()]).await?;
    // The very same commit again.
    expect_refused(
        &bench,
        vec![change],
        &first,
        "the same update a second time",
    )
    .await?;
    ensure_eq!(
        bench.again(&first).await?.version(),
        2,
        "the version after one update"
    );
    Ok(())
}

pub(super) async fn versions_expectation_holds(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (_, second) = changed_specimen(&bench).await?;
    let other = row(Chore::new("relied on"));
    bench.insert([other.clone()]).await?;
    let added = row(bare("Added"));
    bench
        .commit_expecting(
            vec![insertion(added.clone())],
            vec![expectation(&second), expectation(&other)],
        )
        .await?;
    bench.expect_stored(&added).await?;
    // What is relied on is not written.
    bench.expect_stored(&second).await?;
    bench.expect_stored(&other).await?;
    // A row may be relied on and changed by the same commit.
    let third = update::<Specimen>(&second, |data| data.name = "Third".into())?;
    bench
        .commit_expecting(vec![third], vec![expectation(&second)])
        .await?;
    ensure_eq!(
        bench.again(&second).await?.version(),
        3,
        "the version after the second update"
    );
    Ok(())
}

pub(super) async fn versions_expectation_fails(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (first, second) = changed_specimen(&bench).await?;
    let added = row(bare("Added"));
    let removed = row(bare("Removed"));
    bench.insert([removed.clone()]).await?;
    bench.apply(vec![purge(&removed)]).await?;
    let ahead = Expectation {
        version: 3,
        ..expectation(&second)
    };
    let never = row(bare("Never stored"));
    for (expected, at, what) in [
        (
            expectation(&first),
            &first,
            "an expected version that is past",
        ),
        (ahead, &second, "an expected version that is to come"),
        (
            expectation(&removed),
            &removed,
            "an expected row that was removed",
        ),
        (
            expectation(&never),
            &never,
            "an expected row that never was",
        ),
    ] {
        let came = bench
            .commit_expecting(
                vec![insertion(added.clone())],
                vec![expectation(&second), expected],
            )
            .await;
        expect_conflict(&came, at, what)?;
        bench.expect_gone(&added).await?;
    }
    // The version of another object's row with the same id does not count.
    let twin = row_with(second.id(), Chore::new("twin"));
    bench.insert([twin.clone()]).await?;
    let wrong = Expectation {
        object: Part::schema().clone(),
        ..expectation(&twin)
    };
    let came = bench
        .commit_expecting(vec![insertion(added.clone())], vec![wrong])
        .await;
    ensure!(
        came.is_err(),
        "expected a conflict for an expectation of another object"
    );
    bench.expect_gone(&added).await
}

pub(super) async fn versions_expectation_alone(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (first, second) = changed_specimen(&bench).await?;
    let committed = bench
        .commit_expecting(Vec::new(), vec![expectation(&second)])
        .await?;
    ensure_eq!(
        committed.rows,
        0,
        "the rows written by a commit without changes"
    );
    let came = bench
        .commit_expecting(Vec::new(), vec![expectation(&first)])
        .await;
    expect_conflict(
        &came,
        &first,
        "a failed expectation in a commit without changes",
    )
}

pub(super) async fn versions_duplicate_id(h: &Harness) -> Outcome {
    let bench = h.bench();
    let object = Specimen::schema();
    let first = row(bare("First"));
    bench.insert([first.clone()]).await?;
    let again = row_with(first.id(), bare("Again"));
    let beside = row(bare("Beside"));
    for changes in [
        vec![insertion(again.clone())],
        vec![insertion(beside.clone()), insertion(again.clone())],
        vec![insertion(again.clone()), insertion(beside.clone())],
    ] {
        let came = bench.commit(changes).await;
        expect_duplicate(&came, object, &["id"], "an insert of an id that is there")?;
        bench.expect_stored(&first).await?;
        bench.expect_gone(&beside).await?;
    }
    // A deleted row still has its id.
    bench.apply(vec![deletion(&first)]).await?;
    let came = bench.commit(vec![insertion(again)]).await;
    expect_duplicate(
        &came,
        object,
        &["id"],
        "an insert of the id of a deleted row",
    )
}

pub(super) async fn versions_conflict_comes_first(h: &Harness) -> Outcome {
    // Whoever reads something stale must be told so, and not of what follows from it: a conflict
    // is repeated, a duplicate is shown to a user.
    let bench = h.bench();
    let (first, _) = changed_specimen(&bench).await?;
    let holder = row(Specimen {
        code: Some("A".into()),
        ..bare("Holder")
    });
    bench.insert([holder.clone()]).await?;
    let stale = || update::<Specimen>(&first, |data| data.name = "Too late".into());
    let same_code = row(Specimen {
        code: Some("a".into()),
        ..bare("Same code")
    });
    let dangling = row(Part::new(Id::<Specimen>::new(new_id())));
    for bad in [insertion(same_code), insertion(dangling)] {
        for changes in [vec![bad.clone(), stale()?], vec![stale()?, bad.clone()]] {
            expect_conflict(
                &bench.commit(changes).await,
                &first,
                "a conflict and another fault",
            )?;
        }
        let came = bench
            .commit_expecting(vec![bad], vec![expectation(&first)])
            .await;
        expect_conflict(&came, &first, "a failed expectation and another fault")?;
    }
    Ok(())
}

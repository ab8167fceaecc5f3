//! A commit is applied whole or not at all, and nobody ever sees a part of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::expect::expect_same_rows;
use super::fixtures::bare;
use super::harness::{
    Bench, deletion, expectation, ids, insertion, new_id, next, place, purge, record, replacement,
    row, row_with, update,
};
use super::objects::{Chore, Part, Specimen};
use super::runtime::yield_now;
use super::{BoxFuture, Harness, Outcome, ensure, ensure_eq};
use crate::Id;
use crate::query::{AggregateQuery, Condition, Measure};
use crate::schema::{Entity, Row};
use crate::storage::{Change, StorageError};

/// What a commit of good changes needs, and what makes one of them bad.
struct Ground {
    bench: Bench,
    /// Rows at version 2 that good changes update and remove.
    rows: Vec<Row>,
    /// The first of them at version 1.
    stale: Row,
    /// A specimen that a part refers to.
    target: Row,
    /// A specimen with a code.
    coded: Row,
}

async fn ground(h: &Harness) -> Outcome<Ground> {
    let bench = h.bench();
    let rows: Vec<Row> = (0..3).map(|n| row(bare(&format!("Row {n}")))).collect();
    let target = row(bare("Target"));
    let coded = row(Specimen {
        code: Some("taken".into()),
        ..bare("Coded")
    });
    let part = row(Part::new(Id::<Specimen>::new(target.id())));
    bench
        .insert([&rows[..], &[target.clone(), coded.clone(), part]].concat())
        .await?;
    let mut changed = Vec::new();
    for row in &rows {
        let after = next::<Specimen>(row, |data| data.quantity = 1)?;
        bench.apply(vec![replacement(row, after.clone())]).await?;
        changed.push(after);
    }
    let stale = rows.first().cloned().unwrap_or_else(|| target.clone());
    Ok(Ground {
        bench,
        rows: changed,
        stale,
        target,
        coded,
    })
}

impl Ground {
    /// Changes of every sort, all of them good.
    fn good(&self) -> Outcome<Vec<Change>> {
        let specimen = row(bare("Inserted"));
        let mut changes = vec![
            insertion(row(Part::new(Id::<Specimen>::new(specimen.id())))),
            insertion(specimen),
            insertion(row(Chore::new("mail"))),
        ];
        let mut rows = self.rows.iter().skip(1);
        if let Some(changed) = rows.next() {
            changes.push(update::<Specimen>(changed, |data| data.quantity = 2)?);
        }
        changes.extend(rows.next().map(purge));
        Ok(changes)
    }

    /// One change of each sort of badness.
    fn bad(&self) -> Outcome<Vec<(&'static str, Change)>> {
        let never = row(bare("Never stored"));
        Ok(vec![
            (
                "a stale update",
                update::<Specimen>(&self.stale, |data| data.quantity = 9)?,
            ),
            ("a stale removal", purge(&self.stale)),
            (
                "an update of nothing",
                update::<Specimen>(&never, |data| data.quantity = 9)?,
            ),
            ("a removal of nothing", purge(&never)),
            (
                "an id that is there",
                insertion(row_with(self.coded.id(), bare("Again"))),
            ),
            (
                "a unique value that is there",
                insertion(row(Specimen {
                    code: Some("TAKEN".into()),
                    ..bare("Second")
                })),
            ),
            (
                "an update to a unique value that is there",
                update::<Specimen>(&self.target, |data| data.code = Some("Taken".into()))?,
            ),
            (
                "a reference to nothing",
                insertion(row(Part::new(Id::<Specimen>::new(new_id())))),
            ),
            (
                "an update to a reference to nothing",
                update::<Specimen>(&self.coded, |data| data.parent_id = Some(Id::new(new_id())))?,
            ),
            ("a removal of what is referred to", purge(&self.target)),
        ])
    }
}

pub(super) async fn atomicity_one_bad_change(h: &Harness) -> Outcome {
    let ground = ground(h).await?;
    let bench = &ground.bench;
    let before = bench.everything().await?;
    let positions = ground.good()?.len();
    for position in 0..=positions {
        for (what, bad) in ground.bad()? {
            let mut changes = ground.good()?;
            changes.insert(position, bad);
            let came = bench.commit(changes).await;
            ensure!(
                came.is_err(),
                "expected {what} at place {position} to be refused"
            );
            let what = format!("the rows after {what} at place {position}");
            expect_same_rows(&bench.everything().await?, &before, &what)?;
        }
    }
    // The same changes without a bad one are fine.
    bench.apply(ground.good()?).await?;
    let after = bench.everything().await?;
    ensure!(
        ids(&after) != ids(&before),
        "expected the good changes to be applied"
    );
    Ok(())
}

pub(super) async fn atomicity_failed_expectation(h: &Harness) -> Outcome {
    let ground = ground(h).await?;
    let bench = &ground.bench;
    let before = bench.everything().await?;
    let good: Vec<_> = ground.rows.iter().map(expectation).collect();
    for position in 0..=good.len() {
        let mut expects = good.clone();
        expects.insert(position, expectation(&ground.stale));
        let came = bench.commit_expecting(ground.good()?, expects).await;
        ensure!(
            came.is_err(),
            "expected a stale expectation at place {position} to be refused"
        );
        let what = format!("the rows after a failed expectation at place {position}");
        expect_same_rows(&bench.everything().await?, &before, &what)?;
    }
    bench.commit_expecting(ground.good()?, good).await?;
    Ok(())
}

pub(super) async fn atomicity_large_commit(h: &Harness) -> Outcome {
    let bench = h.bench();
    let first = row(Specimen {
        serial: Some(0),
        ..bare("First")
    });
    bench.insert([first.clone()]).await?;
    let mut rows: Vec<Row> = (1..=500)
        .map(|n| {
            row(Specimen {
                serial: Some(n),
                ..bare("One of many")
            })
        })
        .collect();
    rows.push(row(Specimen {
        serial: Some(0),
        ..bare("One too many")
    }));
    let came = bench
        .commit(rows.into_iter().map(insertion).collect())
        .await;
    ensure!(
        matches!(came, Err(StorageError::Duplicate { .. })),
        "expected a duplicate at the end of a large commit; {came:?} came"
    );
    expect_same_rows(&bench.everything().await?, &[first], "the rows after it")
}

pub(super) async fn atomicity_read_your_writes(h: &Harness) -> Outcome {
    // Every later read, by whatever method, sees all of a commit.
    let bench = h.bench();
    let (object, quantity) = (Specimen::schema(), place(Specimen::schema(), "quantity")?);
    let mut current = row(bare("Watched"));
    bench.insert([current.clone()]).await?;
    for n in 1..=50_i64 {
        let after = next::<Specimen>(&current, |data| data.quantity = n)?;
        bench
            .apply(vec![replacement(&current, after.clone())])
            .await?;
        bench.expect_stored(&after).await?;
        let by_value = Condition::equals(quantity, n.into());
        let found = bench
            .select(&crate::query::Query::new(object, by_value))
            .await?;
        ensure_eq!(found.len(), 1, "rows with the value that was just written");
        let by_old = Condition::equals(quantity, (n - 1).into());
        let count = AggregateQuery::count(object, by_old);
        let groups = bench.storage().aggregate(&bench.scope, &count).await?;
        let left = groups.first().map(|group| group.count(0));
        ensure_eq!(left, Some(0), "rows with the value that was just replaced");
        current = after;
    }
    Ok(())
}

/// How often the writer of the next cases commits.
const ROUNDS: i64 = 120;

/// Tells readers that the writer has ended, however it did.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Moves quantities between rows, which always sum up to the same.
async fn write_pairs(bench: Bench, mut rows: Vec<Row>, ended: Ended) -> Outcome<usize> {
    for round in 1..=ROUNDS {
        let mut changes = Vec::new();
        let mut after = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let by = if index % 2 == 0 { round } else { -round };
            let next = next::<Specimen>(row, |data| data.quantity += by)?;
            changes.push(replacement(row, next.clone()));
            after.push(next);
        }
        bench.apply(changes).await?;
        rows = after;
    }
    drop(ended);
    Ok(0)
}

/// Reads until the writer is done; counts the reads.
async fn read_pairs(bench: Bench, done: Arc<AtomicBool>) -> Outcome<usize> {
    let quantity = place(Specimen::schema(), "quantity")?;
    let mut sum = AggregateQuery::count(Specimen::schema(), Condition::all());
    sum.measures = vec![Measure::Sum(quantity)];
    let mut reads = 0;
    while !done.load(Ordering::SeqCst) {
        reads += 1;
        yield_now().await;
        let rows = bench.all(Specimen::schema()).await?;
        let mut total = 0;
        let mut versions: Vec<i64> = Vec::new();
        for row in &rows {
            total += record::<Specimen>(row)?.quantity;
            versions.push(row.version());
        }
        ensure_eq!(rows.len(), 6, "how many rows a reader sees beside a writer");
        ensure_eq!(total, 0, "the sum that a reader sees beside a writer");
        let first = versions.first().copied();
        let torn = versions.iter().any(|version| Some(*version) != first);
        ensure!(
            !torn,
            "expected a reader to see one commit; it sees versions {versions:?}"
        );
        let by_id = bench.get(Specimen::schema(), &ids(&rows)).await?;
        let same = by_id
            .iter()
            .all(|row| Some(row.version()) == by_id.first().map(|row| row.version()));
        ensure!(same, "expected `get` to see one commit");
        let groups = bench.storage().aggregate(&bench.scope, &sum).await?;
        let total = groups.first().and_then(|group| group.number(0));
        ensure_eq!(
            total,
            Some(0.into()),
            "the sum that an aggregate sees beside a writer"
        );
    }
    Ok(reads)
}

pub(super) async fn atomicity_readers_beside_a_writer(h: &Harness) -> Outcome {
    let bench = h.bench();
    let rows: Vec<Row> = (0..6).map(|n| row(bare(&format!("Pair {n}")))).collect();
    bench.insert(rows.clone()).await?;
    let done = Arc::new(AtomicBool::new(false));
    let mut workers: Vec<BoxFuture<'static, Outcome<usize>>> = vec![Box::pin(write_pairs(
        bench.clone(),
        rows,
        Ended(done.clone()),
    ))];
    for _ in 0..3 {
        workers.push(Box::pin(read_pairs(bench.clone(), done.clone())));
    }
    bench.workers(workers).await?;
    let versions: Vec<i64> = bench
        .all(Specimen::schema())
        .await?
        .iter()
        .map(|row| row.version())
        .collect();
    ensure_eq!(
        versions,
        [ROUNDS + 1; 6],
        "the versions after {ROUNDS} commits"
    );
    Ok(())
}

pub(super) async fn atomicity_failures_leave_the_store_usable(h: &Harness) -> Outcome {
    let bench = h.bench();
    let kept = row(Specimen {
        code: Some("kept".into()),
        ..bare("Kept")
    });
    bench.insert([kept.clone()]).await?;
    for _ in 0..20 {
        let bad = row(Specimen {
            code: Some("KEPT".into()),
            ..bare("Bad")
        });
        ensure!(
            bench.commit(vec![insertion(bad)]).await.is_err(),
            "expected a duplicate"
        );
        let fine = row(bare("Fine"));
        bench.insert([fine.clone()]).await?;
        bench.apply(vec![deletion(&fine)]).await?;
        let hidden = bench.again(&fine).await?;
        bench.apply(vec![purge(&hidden)]).await?;
    }
    expect_same_rows(
        &bench.everything().await?,
        &[kept],
        "the rows after many failures",
    )
}

//! Many workers at once: no write is lost, and no rule is broken by two that cannot see each other.

use super::deletions::no_references_to;
use super::fixtures::bare;
use super::harness::{
    Bench, deletion, expectation, insertion, next, place, purge, record, replacement, row,
    row_with, update,
};
use super::objects::{Chore, Part, Specimen};
use super::runtime::yield_now;
use super::{BoxFuture, Failure, Harness, Outcome, ensure, ensure_eq};
use crate::Id;
use crate::query::{Condition, Query};
use crate::schema::{Entity, Row, Value};
use crate::storage::{Change, Committed, StorageError, Unreferenced};

type Worker<T> = BoxFuture<'static, Outcome<T>>;

/// What became of a commit that another may get in the way of.
fn unless_conflict(came: Result<Committed, StorageError>) -> Outcome<bool> {
    match came {
        Ok(_) => Ok(true),
        Err(StorageError::Conflict { .. }) => Ok(false),
        Err(error) if error.is_retryable() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Repeats a decision until no conflict gets in its way.
async fn increment(bench: &Bench, rows: &[Row], by: i64) -> Outcome<usize> {
    for attempt in 1..=2_000 {
        let mut changes = Vec::new();
        for row in rows {
            let stored = bench.again(row).await?;
            changes.push(update::<Specimen>(&stored, |data| data.quantity += by)?);
        }
        yield_now().await;
        if unless_conflict(bench.commit(changes).await)? {
            return Ok(attempt);
        }
    }
    Err(Failure::new(
        "expected one of 2,000 attempts to be free of conflicts",
    ))
}

pub(super) async fn concurrency_increments(h: &Harness) -> Outcome {
    let bench = h.bench();
    let counter = row(bare("Counter"));
    bench.insert([counter.clone()]).await?;
    let (workers, times) = (8_i64, 25_i64);
    let tasks = (0..workers)
        .map(|_| -> Worker<()> {
            let (bench, counter) = (bench.clone(), counter.clone());
            Box::pin(async move {
                for _ in 0..times {
                    increment(&bench, std::slice::from_ref(&counter), 1).await?;
                }
                Ok(())
            })
        })
        .collect();
    bench.workers(tasks).await?;
    let stored = record::<Specimen>(&bench.again(&counter).await?)?;
    ensure_eq!(
        stored.quantity,
        workers * times,
        "the sum of all increments"
    );
    ensure_eq!(
        stored.version,
        workers * times + 1,
        "the version after all increments"
    );
    Ok(())
}

pub(super) async fn concurrency_one_of_many_wins(h: &Harness) -> Outcome {
    let bench = h.bench();
    for round in 0..20 {
        let contested = row(bare("Contested"));
        bench.insert([contested.clone()]).await?;
        let tasks = (0..6)
            .map(|worker| -> Worker<Option<i64>> {
                let (bench, contested) = (bench.clone(), contested.clone());
                Box::pin(async move {
                    let change = update::<Specimen>(&contested, |data| data.quantity = worker)?;
                    Ok(unless_conflict(bench.commit(vec![change]).await)?.then_some(worker))
                })
            })
            .collect();
        let winners: Vec<i64> = bench.workers(tasks).await?.into_iter().flatten().collect();
        let stored = record::<Specimen>(&bench.again(&contested).await?)?;
        ensure_eq!(
            winners,
            [stored.quantity],
            "who won round {round}, and whose value is stored"
        );
        ensure_eq!(stored.version, 2, "the version after round {round}");
    }
    Ok(())
}

pub(super) async fn concurrency_write_skew(h: &Harness) -> Outcome {
    // Two guards: each may go only while the other stays, and says so by an expectation.
    let bench = h.bench();
    for round in 0..40 {
        let guards = [row(bare("Guard")), row(bare("Guard"))];
        bench.insert(guards.clone()).await?;
        let tasks = (0..2_usize)
            .map(|own| -> Worker<bool> {
                let mut pair = guards.to_vec();
                pair.rotate_left(own);
                let bench = bench.clone();
                Box::pin(async move {
                    let [own, other] = <[Row; 2]>::try_from(pair)
                        .map_err(|_| Failure::new("expected two guards"))?;
                    let stays = bench.again(&other).await?;
                    if record::<Specimen>(&stays)?.quantity != 0 {
                        return Ok(false);
                    }
                    yield_now().await;
                    let goes = update::<Specimen>(&own, |data| data.quantity = 1)?;
                    let came = bench
                        .commit_expecting(vec![goes], vec![expectation(&stays)])
                        .await;
                    unless_conflict(came)
                })
            })
            .collect();
        let gone = bench
            .workers(tasks)
            .await?
            .into_iter()
            .filter(|gone| *gone)
            .count();
        ensure!(
            gone <= 1,
            "expected at most one guard to go in round {round}; both did"
        );
    }
    Ok(())
}

pub(super) async fn concurrency_same_unique_value(h: &Harness) -> Outcome {
    let bench = h.bench();
    for round in 0..30 {
        let tasks = (0..4)
            .map(|_| -> Worker<bool> {
                let bench = bench.clone();
                let code = Some(format!("round-{round}"));
                Box::pin(async move {
                    let new = row(Specimen {
                        code,
                        ..bare("Racer")
                    });
                    match bench.commit(vec![insertion(new)]).await {
                        Ok(_) => Ok(true),
                        Err(StorageError::Duplicate { fields, .. }) if fields == ["code"] => {
                            Ok(false)
                        }
                        Err(error) => Err(error.into()),
                    }
                })
            })
            .collect();
        let winners = bench
            .workers(tasks)
            .await?
            .into_iter()
            .filter(|won| *won)
            .count();
        ensure_eq!(
            winners,
            1,
            "how many of four equal rows were stored in round {round}"
        );
    }
    ensure_eq!(
        bench.all(Specimen::schema()).await?.len(),
        30,
        "the rows after 30 rounds"
    );
    Ok(())
}

pub(super) async fn concurrency_same_id(h: &Harness) -> Outcome {
    let bench = h.bench();
    for round in 0..20 {
        let id = super::harness::new_id();
        let tasks = (0..4)
            .map(|worker| -> Worker<Option<i32>> {
                let bench = bench.clone();
                Box::pin(async move {
                    let chore = Chore {
                        urgency: worker,
                        ..Chore::new("race")
                    };
                    match bench.commit(vec![insertion(row_with(id, chore))]).await {
                        Ok(_) => Ok(Some(worker)),
                        Err(StorageError::Duplicate { fields, .. }) if fields == ["id"] => Ok(None),
                        Err(error) => Err(error.into()),
                    }
                })
            })
            .collect();
        let winners: Vec<i32> = bench.workers(tasks).await?.into_iter().flatten().collect();
        let stored = record::<Chore>(&bench.row(Chore::schema(), id).await?)?;
        ensure_eq!(
            winners,
            [stored.urgency],
            "who inserted the id in round {round}"
        );
    }
    Ok(())
}

pub(super) async fn concurrency_reference_and_removal(h: &Harness) -> Outcome {
    // One worker refers to a row while another removes it: never do both succeed.
    let bench = h.bench();
    for round in 0..40 {
        let target = row(bare("Target"));
        bench.insert([target.clone()]).await?;
        let part = row(Part::new(Id::<Specimen>::new(target.id())));
        let attempt = |change: Change| -> Worker<bool> {
            let bench = bench.clone();
            Box::pin(async move {
                match bench.commit(vec![change]).await {
                    Ok(_) => Ok(true),
                    Err(StorageError::Reference { .. } | StorageError::Referenced { .. }) => {
                        Ok(false)
                    }
                    Err(error) => Err(error.into()),
                }
            })
        };
        let tasks = vec![attempt(insertion(part.clone())), attempt(purge(&target))];
        let succeeded = bench.workers(tasks).await?;
        let won = succeeded.iter().filter(|won| **won).count();
        ensure_eq!(
            won,
            1,
            "how many of a reference and a removal succeeded in round {round}"
        );
        let targets = bench.get(target.object(), &[target.id()]).await?.len();
        let parts = bench.get(part.object(), &[part.id()]).await?.len();
        ensure_eq!(parts, targets, "parts and targets left after round {round}");
    }
    Ok(())
}

pub(super) async fn concurrency_reference_and_deletion(h: &Harness) -> Outcome {
    // The same, where the row is kept: never do both succeed.
    let bench = h.bench();
    for round in 0..40 {
        let (target, other) = (row(bare("Target")), row(bare("Other")));
        let moved = row(Part::new(Id::<Specimen>::new(other.id())));
        bench.insert([target.clone(), other, moved.clone()]).await?;
        // A reference comes with a new row, or a row is pointed there.
        let refers = if round % 2 == 0 {
            insertion(row(Part::new(Id::<Specimen>::new(target.id()))))
        } else {
            update::<Part>(&moved, |data| data.specimen_id = Id::new(target.id()))?
        };
        let asked = no_references_to(target.id())?;
        let attempt = |change: Change, asked: Vec<Unreferenced>| -> Worker<bool> {
            let bench = bench.clone();
            Box::pin(async move {
                match bench.commit_leaving(vec![change], asked).await {
                    Err(StorageError::Reference { .. }) => Ok(false),
                    came => unless_conflict(came),
                }
            })
        };
        let tasks = vec![
            attempt(refers, Vec::new()),
            attempt(deletion(&target), asked),
        ];
        let succeeded = bench.workers(tasks).await?;
        ensure!(
            succeeded.iter().filter(|won| **won).count() <= 1,
            "expected a reference or a deletion to succeed in round {round}; both did"
        );
        let is_deleted = bench.again(&target).await?.is_deleted();
        let left = live_parts_of(&bench, &target).await?.len();
        ensure!(
            !is_deleted || left == 0,
            "expected no live part to refer to a deleted row after round {round}; {left} do"
        );
    }
    Ok(())
}

/// The parts that refer to a specimen and are not deleted.
async fn live_parts_of(bench: &Bench, specimen: &Row) -> Outcome<Vec<Row>> {
    let field = place(Part::schema(), "specimen_id")?;
    let refers = Condition::equals(field, Value::Uuid(specimen.id()));
    let query = Query::new(Part::schema(), refers.and(Condition::not_deleted()));
    bench.select(&query).await
}

/// Deletes a specimen with whatever refers to it, as often as others come in between.
async fn delete_family(bench: &Bench, target: &Row) -> Outcome {
    for _ in 1..=2_000 {
        let stored = bench.again(target).await?;
        let mut changes = vec![deletion(&stored)];
        changes.extend(live_parts_of(bench, target).await?.iter().map(deletion));
        yield_now().await;
        let came = bench
            .commit_leaving(changes, no_references_to(target.id())?)
            .await;
        if unless_conflict(came)? {
            return Ok(());
        }
    }
    Err(Failure::new(
        "expected one of 2,000 attempts at a deletion to be free of conflicts",
    ))
}

/// Inserts parts of a specimen until it is deleted.
async fn insert_parts(bench: &Bench, target: &Row, most: usize) -> Outcome<Vec<Row>> {
    let mut inserted = Vec::new();
    while inserted.len() < most {
        let part = row(Part::new(Id::<Specimen>::new(target.id())));
        match bench.commit(vec![insertion(part.clone())]).await {
            Ok(_) => inserted.push(part),
            Err(StorageError::Reference { .. }) => break,
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error.into()),
        }
        yield_now().await;
    }
    Ok(inserted)
}

pub(super) async fn concurrency_references_and_deletions(h: &Harness) -> Outcome {
    // Many refer to rows that are deleted meanwhile with all that refers to them.
    let bench = h.bench();
    for round in 0..12 {
        let targets = [row(bare("Target")), row(bare("Target"))];
        bench.insert(targets.clone()).await?;
        let mut tasks: Vec<Worker<Vec<Row>>> = Vec::new();
        for target in &targets {
            for _ in 0..3 {
                let (bench, target) = (bench.clone(), target.clone());
                tasks.push(Box::pin(
                    async move { insert_parts(&bench, &target, 12).await },
                ));
            }
            let (bench, target) = (bench.clone(), target.clone());
            tasks.push(Box::pin(async move {
                delete_family(&bench, &target).await?;
                Ok(Vec::new())
            }));
        }
        let inserted = bench.workers(tasks).await?.concat();
        for target in &targets {
            let stored = bench.again(target).await?;
            ensure!(
                stored.is_deleted(),
                "expected the targets of round {round} to be deleted"
            );
            let left = live_parts_of(&bench, target).await?.len();
            ensure_eq!(
                left,
                0,
                "how many live parts refer to a deleted row after round {round}"
            );
        }
        // What was inserted was deleted by the way, and not lost.
        for part in &inserted {
            let stored = bench.again(part).await?;
            ensure!(
                stored.is_deleted() && stored.version() == 2,
                "expected each part of round {round} to be deleted once"
            );
        }
    }
    Ok(())
}

pub(super) async fn concurrency_crossing_orders(h: &Harness) -> Outcome {
    // Commits that name the same rows in opposite orders must not block each other for good.
    let bench = h.bench();
    let rows: Vec<Row> = (0..4)
        .map(|n| row(bare(&format!("Crossing {n}"))))
        .collect();
    bench.insert(rows.clone()).await?;
    let (workers, times) = (4_usize, 15_i64);
    let tasks = (0..workers)
        .map(|worker| -> Worker<()> {
            let mut rows = rows.clone();
            rows.rotate_left(worker);
            if worker % 2 == 1 {
                rows.reverse();
            }
            let bench = bench.clone();
            Box::pin(async move {
                for _ in 0..times {
                    increment(&bench, &rows, 1).await?;
                }
                Ok(())
            })
        })
        .collect();
    bench.workers(tasks).await?;
    for row in &rows {
        let stored = record::<Specimen>(&bench.again(row).await?)?;
        let expected = workers as i64 * times;
        ensure_eq!(
            stored.quantity,
            expected,
            "the sum of increments in crossing orders"
        );
    }
    Ok(())
}

pub(super) async fn concurrency_rows_apart(h: &Harness) -> Outcome {
    // Workers on different rows, in one tenant and in several, never get in each other's way.
    let tasks = (0..6)
        .map(|worker| {
            let bench = h.bench();
            (bench, worker)
        })
        .flat_map(|(bench, worker)| {
            let shared = bench.clone();
            [bench, shared].map(|bench| -> Worker<()> {
                Box::pin(async move {
                    let mut own = row(Specimen {
                        quantity: worker,
                        ..bare("Own")
                    });
                    bench.insert([own.clone()]).await?;
                    for _ in 0..20 {
                        let after = next::<Specimen>(&own, |data| data.quantity += 1)?;
                        bench.apply(vec![replacement(&own, after.clone())]).await?;
                        own = after;
                    }
                    bench.expect_stored(&own).await
                })
            })
        })
        .collect();
    h.bench().workers(tasks).await?;
    Ok(())
}

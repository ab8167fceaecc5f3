//! Claims: workers take rows so that no two get the same.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::expect::{expect_conflict, expect_same, expect_same_rows};
use super::harness::{Bench, ids, moment, now, place, row, stamp, update};
use super::objects::{Chore, Specimen, registry};
use super::runtime::yield_now;
use super::{BoxFuture, Harness, Outcome, ensure, ensure_eq};
use crate::Id;
use crate::query::{Comparison, Condition, Filter, SortKey};
use crate::record::{Actor, Record, Stamp};
use crate::schema::{Entity, Row, Value, system};
use crate::storage::Claim;

/// The chores of a queue that are due and free at a moment.
fn due(queue: &str, now: DateTime<Utc>) -> Outcome<Condition> {
    let field = |name: &str, op, value: Value| super::harness::compare(name, op, value);
    let filter = Filter::And(vec![
        field("queue", Comparison::Eq, queue.into()),
        field("run_at", Comparison::Le, now.into()),
        Filter::Or(vec![
            Filter::Null {
                field: "claimed_until".into(),
                is_null: true,
            },
            field("claimed_until", Comparison::Lt, now.into()),
        ]),
    ]);
    Ok(Condition::bind(&filter, Chore::schema(), &registry())?)
}

/// The most urgent first, then the longest due.
fn first() -> Outcome<Vec<SortKey>> {
    let key = |name: &str, descending| -> Outcome<SortKey> {
        Ok(SortKey {
            index: place(Chore::schema(), name)?,
            descending,
        })
    };
    Ok(vec![
        key("urgency", true)?,
        key("run_at", false)?,
        SortKey {
            index: system::ID,
            descending: false,
        },
    ])
}

fn claim(now: DateTime<Utc>, worker: &str, limit: usize, stamp: Stamp) -> Outcome<Claim> {
    let assign = vec![
        (
            place(Chore::schema(), "claimed_until")?,
            (now + TimeDelta::minutes(5)).into(),
        ),
        (place(Chore::schema(), "worker")?, worker.into()),
    ];
    Ok(Claim::new(
        Chore::schema().clone(),
        due("mail", now)?,
        first()?,
        limit,
        assign,
        stamp,
    ))
}

async fn take(bench: &Bench, claim: &Claim) -> Outcome<Vec<Row>> {
    Ok(bench.storage().claim(&bench.scope, claim).await?)
}

fn chore(urgency: i32, run_at: i64) -> Row {
    row(Chore {
        urgency,
        run_at: Some(moment(run_at)),
        ..Chore::new("mail")
    })
}

pub(super) async fn claims_in_order(h: &Harness) -> Outcome {
    let bench = h.bench();
    let now = moment(1_000);
    let rows = [
        chore(1, 500),
        chore(2, 900),
        chore(2, 100),
        chore(3, 1_001),
        chore(1, 400),
    ];
    let [one, two, three, not_due, five] = &rows;
    let other_queue = row(Chore {
        run_at: Some(moment(1)),
        urgency: 9,
        ..Chore::new("print")
    });
    let never = row(Chore {
        urgency: 9,
        ..Chore::new("mail")
    });
    bench.insert(rows.clone()).await?;
    bench.insert([other_queue.clone(), never.clone()]).await?;
    // Up to so many, the first ones first.
    let came = take(&bench, &claim(now, "a", 3, stamp())?).await?;
    ensure_eq!(
        ids(&came),
        ids(&[three.clone(), two.clone(), five.clone()]),
        "the first three"
    );
    let came = take(&bench, &claim(now, "b", 3, stamp())?).await?;
    ensure_eq!(ids(&came), ids(std::slice::from_ref(one)), "the rest");
    // Nothing left.
    ensure_eq!(
        take(&bench, &claim(now, "c", 3, stamp())?).await?.len(),
        0,
        "rows once all are taken"
    );
    for row in [not_due, &other_queue, &never] {
        bench.expect_stored(row).await?;
    }
    // Free again once the time is over; the last one is due by then too.
    let later = now + TimeDelta::minutes(6);
    let came = take(&bench, &claim(later, "d", 10, stamp())?).await?;
    let all = [not_due, three, two, five, one].map(Row::clone);
    ensure_eq!(
        ids(&came),
        ids(&all),
        "all rows, once the claims have run out"
    );
    Ok(())
}

pub(super) async fn claims_write_rows(h: &Harness) -> Outcome {
    let bench = h.bench();
    let now = moment(1_000);
    let before = row(Chore {
        run_at: Some(moment(1)),
        urgency: 4,
        ..Chore::new("mail")
    });
    bench.insert([before.clone()]).await?;
    let stamp = Stamp {
        at: super::harness::now(),
        by: Actor::User(Id::new(super::harness::new_id())),
    };
    let claimed = take(&bench, &claim(now, "worker", 1, stamp)?).await?;
    let expected: Row = std::sync::Arc::new(Record::new(
        before.meta().next(stamp),
        Chore {
            run_at: Some(moment(1)),
            urgency: 4,
            worker: Some("worker".into()),
            claimed_until: Some(now + TimeDelta::minutes(5)),
            ..Chore::new("mail")
        },
    ));
    // Returned as they are now, with the next version and the claim's stamp; and so stored.
    expect_same_rows(
        &claimed,
        std::slice::from_ref(&expected),
        "the claimed rows",
    )?;
    for row in &claimed {
        super::harness::record::<Chore>(row)?;
    }
    bench.expect_stored(&expected).await?;
    // Whoever read the row before the claim is told.
    let late = update::<Chore>(&before, |data| data.urgency = 9)?;
    expect_conflict(
        &bench.commit(vec![late]).await,
        &before,
        "an update of a claimed row",
    )?;
    // The worker goes on with the row as it got it.
    let done = update::<Chore>(&expected, |data| data.run_at = None)?;
    bench.apply(vec![done]).await
}

pub(super) async fn claims_empty(h: &Harness) -> Outcome {
    let bench = h.bench();
    let now = moment(1_000);
    ensure_eq!(
        take(&bench, &claim(now, "a", 5, stamp())?).await?.len(),
        0,
        "rows of no chores"
    );
    let kept = chore(1, 10);
    bench.insert([kept.clone()]).await?;
    let mut none = claim(now, "a", 5, stamp())?;
    none.condition = Condition::Or(Vec::new());
    ensure_eq!(
        take(&bench, &none).await?.len(),
        0,
        "rows that fulfil nothing"
    );
    ensure_eq!(
        take(&bench, &claim(now, "a", 0, stamp())?).await?.len(),
        0,
        "no rows at most"
    );
    bench.expect_stored(&kept).await
}

pub(super) async fn claims_assign_nothing_else(h: &Harness) -> Outcome {
    // Over an object with many fields, all but the assigned ones stay.
    let bench = h.bench();
    let rows = super::oracle::population()?;
    bench.insert(rows.clone()).await?;
    let object = Specimen::schema();
    let (secret, labels, amount) = (
        place(object, "secret")?,
        place(object, "labels")?,
        place(object, "amount")?,
    );
    let at = stamp();
    let assign = vec![
        (secret, Value::from("claimed")),
        (labels, Value::List(vec!["claimed".into()])),
        (amount, Value::Null),
    ];
    let id = SortKey {
        index: system::ID,
        descending: false,
    };
    let free = Condition::Not(Box::new(Condition::equals(secret, "claimed".into())));
    let claim = Claim::new(object.clone(), free, vec![id], 1_000, assign, at);
    let claimed = take(&bench, &claim).await?;
    ensure_eq!(claimed.len(), rows.len(), "how many rows were claimed");
    for (came, before) in claimed.iter().zip(&rows) {
        let expected = claim.apply(before)?;
        expect_same(came, &expected, "a claimed row")?;
        bench.expect_stored(&expected).await?;
    }
    ensure_eq!(
        take(&bench, &claim).await?.len(),
        0,
        "rows to claim a second time"
    );
    Ok(())
}

pub(super) async fn claims_by_many_workers(h: &Harness) -> Outcome {
    let bench = h.bench();
    let total = 120;
    let rows: Vec<Row> = (0..total).map(|n| chore(0, n)).collect();
    bench.insert(rows.clone()).await?;
    let tasks = (0..6)
        .map(|worker: usize| -> BoxFuture<'static, Outcome<Vec<Uuid>>> {
            let bench = bench.clone();
            Box::pin(async move {
                let mut taken: Vec<Uuid> = Vec::new();
                let mut idle = 0;
                // A claim beside others may get fewer rows than there are, even none.
                while idle < 50 {
                    let name = format!("worker {worker}");
                    let claim = claim(moment(1_000), &name, worker % 3 + 1, stamp())?;
                    let came = take(&bench, &claim).await?;
                    ensure!(
                        came.len() <= claim.limit,
                        "expected at most {} rows",
                        claim.limit
                    );
                    idle = if came.is_empty() { idle + 1 } else { 0 };
                    taken.extend(ids(&came));
                    ensure!(
                        taken.len() <= 500,
                        "expected no worker to get more rows than there are"
                    );
                    yield_now().await;
                }
                Ok(taken)
            })
        })
        .collect();
    let mut taken: Vec<Uuid> = bench.workers(tasks).await?.into_iter().flatten().collect();
    let count = taken.len();
    taken.sort_unstable();
    taken.dedup();
    ensure_eq!(
        taken.len(),
        count,
        "different rows among those that workers got"
    );
    // A worker may stop early while others hold the rows; a last one takes what is left.
    let claim = claim(moment(1_000), "last", 1_000, stamp())?;
    taken.extend(ids(&take(&bench, &claim).await?));
    taken.sort_unstable();
    ensure_eq!(taken, ids(&rows), "the rows that all workers got together");
    for row in bench.all(Chore::schema()).await? {
        ensure_eq!(
            row.version(),
            2,
            "the version of a row that was claimed once"
        );
    }
    Ok(())
}

pub(super) async fn claims_beside_updates(h: &Harness) -> Outcome {
    // A claim is a write like others: an editor and a worker cannot both win with one version.
    let bench = h.bench();
    for round in 0..30 {
        let contested = chore(0, round);
        bench.insert([contested.clone()]).await?;
        let (editor, before) = (bench.clone(), contested.clone());
        let edit: BoxFuture<'static, Outcome<bool>> = Box::pin(async move {
            let change = update::<Chore>(&before, |data| data.queue = "edited".into())?;
            Ok(editor.commit(vec![change]).await.is_ok())
        });
        let worker = bench.clone();
        let work: BoxFuture<'static, Outcome<bool>> = Box::pin(async move {
            let claim = claim(moment(1_000), "worker", 10, stamp())?;
            Ok(!take(&worker, &claim).await?.is_empty())
        });
        let won = bench
            .workers(vec![edit, work])
            .await?
            .into_iter()
            .filter(|won| *won)
            .count();
        let stored = bench.again(&contested).await?;
        ensure_eq!(
            won,
            1,
            "how many of an editor and a worker won round {round}"
        );
        ensure_eq!(stored.version(), 2, "the version after round {round}");
        ensure!(
            stored.meta().updated.at <= now(),
            "expected the stamp of the winner"
        );
    }
    Ok(())
}

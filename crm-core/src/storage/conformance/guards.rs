//! Guards: what no row may be like when a commit is written.

use super::expect::expect_conflict;
use super::fixtures::bare;
use super::harness::{Bench, deletion, insertion, row, update};
use super::objects::{Chore, Specimen};
use super::{Harness, Outcome, ensure};
use crate::query::{Condition, Query};
use crate::schema::{AnyRecord, Entity, Row};
use crate::storage::{Change, GUARD_PAGE, Guard, Judge};

/// No live specimen has this name.
#[derive(Debug)]
struct NoneCalled(&'static str);

impl Guard for NoneCalled {
    fn query(&self) -> Query {
        Query::new(Specimen::schema(), Condition::not_deleted())
    }

    fn judge(&self) -> Judge {
        let name = self.0;
        Box::new(move |row: &dyn AnyRecord| row.get("name").as_text() == Some(name))
    }
}

async fn refused(bench: &Bench, changes: Vec<Change>, bad: &Row, what: &str) -> Outcome {
    let came = bench.commit_guarded(changes, NoneCalled("Bad")).await;
    expect_conflict(&came, bad, what)
}

async fn accepted(bench: &Bench, changes: Vec<Change>, what: &str) -> Outcome {
    let came = bench.commit_guarded(changes, NoneCalled("Bad")).await;
    ensure!(came.is_ok(), "{what} was refused: {came:?}");
    Ok(())
}

pub(super) async fn guards_of_stored_rows(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (good, bad) = (row(bare("Good")), row(bare("Bad")));
    bench.insert([good.clone(), bad.clone()]).await?;
    let beside = row(Chore::new("Beside"));
    let change = || vec![insertion(beside.clone())];
    refused(&bench, change(), &bad, "a commit beside a guarded row").await?;
    bench.expect_gone(&beside).await?;
    // What another tenant has does not count.
    accepted(&h.bench(), change(), "a commit of another tenant").await?;
    bench.apply(vec![deletion(&bad)]).await?;
    accepted(&bench, change(), "a commit beside a deleted row").await?;
    bench.expect_stored(&beside).await
}

pub(super) async fn guards_of_changed_rows(h: &Harness) -> Outcome {
    let bench = h.bench();
    let good = row(bare("Good"));
    bench.insert([good.clone()]).await?;
    let bad = row(bare("Bad"));
    let what = "an insertion of a guarded row";
    refused(&bench, vec![insertion(bad.clone())], &bad, what).await?;
    bench.expect_gone(&bad).await?;
    let worse = update::<Specimen>(&good, |data| data.name = "Bad".into())?;
    refused(&bench, vec![worse], &good, "a change to a guarded row").await?;
    bench.expect_stored(&good).await?;

    bench.insert([bad.clone()]).await?;
    let mend = update::<Specimen>(&bad, |data| data.name = "Mended".into())?;
    accepted(&bench, vec![mend], "a change that mends").await
}

pub(super) async fn guards_of_many_rows(h: &Harness) -> Outcome {
    let bench = h.bench();
    let mut rows: Vec<Row> = (0..GUARD_PAGE + 2).map(|_| row(bare("Good"))).collect();
    rows.sort_by_key(|row| row.id());
    bench.insert(rows.clone()).await?;
    accepted(&bench, vec![insertion(row(bare("One more")))], "a commit").await?;
    let Some(last) = rows.last() else {
        return Ok(());
    };
    let worse = update::<Specimen>(last, |data| data.name = "Bad".into())?;
    bench.apply(vec![worse]).await?;
    let change = vec![insertion(row(Chore::new("Beside")))];
    refused(&bench, change, last, "a commit beside a row far behind").await
}

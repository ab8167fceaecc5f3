//! Entries that are taken out of logs by months: moved to an archive, or removed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::expect::{expect_conflict, expect_same, expect_same_rows};
use super::harness::{Bench, at, ids, insertion, new_id, now, row};
use super::objects::{Alarm, Chore, archived_alarms};
use super::runtime::yield_now;
use super::{Failure, Harness, Outcome, ensure_eq};
use crate::record::{Actor, Record, Stamp};
use crate::schema::{Dynamic, Entity, Meta, ObjectRef, Row};
use crate::storage::{Change, ChangeSet, Committed, FeedPosition, FeedQuery, StorageError, Taking};

/// How long a case lets others run before it asks again.
const PAUSE: Duration = Duration::from_millis(1);

/// An alarm of a moment.
fn alarm(code: &str, moment: &str) -> Outcome<Row> {
    let stamp = Stamp {
        at: at(moment)?,
        by: Actor::System,
    };
    let meta = Meta::first(new_id(), stamp);
    Ok(Arc::new(Record::new(meta, Alarm::new(code))))
}

/// The same with sealed bytes.
fn sealed(row: &Row, bytes: &[u8]) -> Row {
    let made = Dynamic::new(row.object().clone(), row.meta(), row.values());
    Arc::new(made.with_sealed(bytes))
}

fn january() -> Outcome<DateTime<Utc>> {
    at("2026-01-01T00:00:00Z")
}

/// Takes entries of January out of a log, beside other changes.
async fn take(
    bench: &Bench,
    from: &ObjectRef,
    to: Option<&ObjectRef>,
    ids: Vec<Uuid>,
    changes: Vec<Change>,
) -> Outcome<Result<Committed, StorageError>> {
    let taking = Taking::new(from.clone(), to.cloned(), january()?, ids);
    let changes = ChangeSet::new(new_id(), now(), changes, Vec::new()).with_taken(vec![taking]);
    Ok(bench.storage().commit(&bench.scope, &changes).await)
}

/// The entries of a log in the order of its feed, once so many are there.
async fn feed(
    bench: &Bench,
    object: &ObjectRef,
    count: usize,
) -> Outcome<Vec<(FeedPosition, Uuid)>> {
    let begun = Instant::now();
    let query = FeedQuery::new(object, None, 1_000);
    loop {
        let page = bench.storage().feed(&bench.scope, &query).await?;
        if page.entries.len() == count {
            let entries = page.entries.iter();
            return Ok(entries.map(|(place, row)| (*place, row.id())).collect());
        }
        if begun.elapsed() > bench.patience() {
            return Err(Failure::new(format!(
                "expected {count} entries of `{}` in its feed; {} came",
                object.name(),
                page.entries.len()
            )));
        }
        std::thread::sleep(PAUSE);
        yield_now().await;
    }
}

pub(super) async fn months_are_moved(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (log, archive) = (Alarm::schema(), archived_alarms());
    let first = alarm("first", "2026-01-01T00:00:00Z")?;
    let second = alarm("second", "2026-01-31T23:59:59.999999Z")?;
    let third = alarm("third", "2026-02-01T00:00:00Z")?;
    for one in [&first, &second, &third] {
        bench.insert([one.clone()]).await?;
    }
    let before = feed(&bench, log, 3).await?;
    let moved = vec![first.id(), second.id()];
    take(&bench, log, Some(archive), moved.clone(), Vec::new()).await??;
    expect_same_rows(
        &bench.all(log).await?,
        std::slice::from_ref(&third),
        "what is left",
    )?;
    for one in [&first, &second] {
        let there = bench.row(archive, one.id()).await?;
        expect_same(&there, &Taking::moved(archive, one)?, "what was moved")?;
    }
    // What comes later is behind what was moved.
    let later = alarm("later", "2026-01-15T00:00:00Z")?;
    bench.insert([later.clone()]).await?;
    let mut after = feed(&bench, archive, 2).await?;
    let own = feed(&bench, log, 2).await?;
    after.extend(own.into_iter().filter(|(_, id)| *id != later.id()));
    after.sort_unstable();
    ensure_eq!(after, before, "the places of entries in the two feeds");
    // And out of the archive for good.
    take(&bench, archive, None, moved, Vec::new()).await??;
    ensure_eq!(
        bench.all(archive).await?.len(),
        0,
        "what is left in the archive"
    );
    Ok(())
}

pub(super) async fn sealed_entries_are_moved(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (log, archive) = (Alarm::schema(), archived_alarms());
    let one = sealed(&alarm("one", "2026-01-10T00:00:00Z")?, b"secret");
    bench.insert([one.clone()]).await?;
    take(&bench, log, Some(archive), vec![one.id()], Vec::new()).await??;
    let there = bench.row(archive, one.id()).await?;
    expect_same(&there, &Taking::moved(archive, &one)?, "what was moved")
}

pub(super) async fn months_are_removed(h: &Harness) -> Outcome {
    let bench = h.bench();
    let log = Alarm::schema();
    let mut all = Vec::new();
    for day in 1..=9 {
        all.push(alarm("one", &format!("2026-01-0{day}T12:00:00Z"))?);
    }
    bench.insert(all.clone()).await?;
    let gone: Vec<Uuid> = all.iter().step_by(2).map(|row| row.id()).collect();
    let chore = row(Chore::new("tells of it"));
    let told = vec![insertion(chore.clone())];
    take(&bench, log, None, gone.clone(), told).await??;
    bench.expect_stored(&chore).await?;
    all.retain(|row| !gone.contains(&row.id()));
    all.sort_by_key(|row| row.id());
    expect_same_rows(&bench.all(log).await?, &all, "what is left")?;
    let left = feed(&bench, log, all.len()).await?;
    let mut left: Vec<Uuid> = left.into_iter().map(|(_, id)| id).collect();
    left.sort_unstable();
    ensure_eq!(left, ids(&all), "what is left in the feed");
    Ok(())
}

pub(super) async fn months_are_taken_whole_or_not(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (log, archive) = (Alarm::schema(), archived_alarms());
    let one = alarm("one", "2026-01-10T00:00:00Z")?;
    let next = alarm("next", "2026-02-01T00:00:00Z")?;
    let before = alarm("before", "2025-12-31T23:59:59.999999Z")?;
    bench
        .insert([one.clone(), next.clone(), before.clone()])
        .await?;
    let unknown = alarm("unknown", "2026-01-11T00:00:00Z")?;
    for wrong in [&unknown, &next, &before] {
        for to in [None, Some(archive)] {
            let chore = row(Chore::new("not written"));
            let told = vec![insertion(chore.clone())];
            let done = take(&bench, log, to, vec![one.id(), wrong.id()], told).await?;
            expect_conflict(&done, wrong, "an entry that cannot be taken")?;
            bench.expect_gone(&chore).await?;
            ensure_eq!(bench.all(log).await?.len(), 3, "what is left in the log");
            ensure_eq!(bench.all(archive).await?.len(), 0, "what is in the archive");
        }
    }
    take(&bench, log, None, vec![one.id()], Vec::new()).await??;
    let again = take(&bench, log, None, vec![one.id()], Vec::new()).await?;
    expect_conflict(&again, &one, "an entry that is gone")
}

pub(super) async fn months_of_one_tenant(h: &Harness) -> Outcome {
    let (bench, other) = (h.bench(), h.bench());
    let (log, archive) = (Alarm::schema(), archived_alarms());
    let own = alarm("own", "2026-01-10T00:00:00Z")?;
    bench.insert([own.clone()]).await?;
    for to in [None, Some(archive)] {
        let done = take(&other, log, to, vec![own.id()], Vec::new()).await?;
        expect_conflict(&done, &own, "an entry of another tenant")?;
        bench.expect_stored(&own).await?;
    }
    Ok(())
}

//! Feeds: a log in the order of its commits, whole, whoever writes meanwhile.
//!
//! An entry is in the feed once its commit is settled. A backend that looks at what is still running
//! may give it a moment after the commit, so the cases ask until all is there.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::harness::{Bench, moment, new_id, place, purge, row, row_with};
use super::objects::{Chore, Laboratory, Reading};
use super::runtime::yield_now;
use super::{BoxFuture, Failure, Harness, Outcome, ensure, ensure_eq};
use crate::query::{Comparison, Condition, FieldAt, Query, SortKey};
use crate::schema::{Entity, Row, Value};
use crate::storage::{FeedPage, FeedPosition, FeedQuery, Scope, Snapshot, StorageError};

/// How long a case lets others run before it asks again.
const PAUSE: Duration = Duration::from_millis(1);
/// More entries than any case has.
const ALL: usize = 10_000;

fn reading(celsius: i64) -> Row {
    reading_with(new_id(), celsius)
}

fn reading_with(id: Uuid, celsius: i64) -> Row {
    row_with(
        id,
        Reading {
            celsius: Some(celsius.into()),
            ..Reading::new(moment(celsius))
        },
    )
}

fn query(after: Option<FeedPosition>, limit: usize) -> FeedQuery {
    FeedQuery::new(Reading::schema(), after, limit)
}

/// Readings of at least so many degrees.
fn warm(celsius: i64) -> Outcome<Condition> {
    let field = FieldAt::at_place(Reading::schema(), place(Reading::schema(), "celsius")?);
    Ok(Condition::Compare {
        field: field.ok_or_else(|| Failure::new("the suite names a field that is none"))?,
        op: Comparison::Ge,
        value: Value::Decimal(celsius.into()),
    })
}

async fn page(bench: &Bench, query: &FeedQuery) -> Outcome<FeedPage> {
    let page = bench.storage().feed(&bench.scope, query).await?;
    ensure!(
        page.entries.len() <= query.limit,
        "expected at most {} entries; {} came",
        query.limit,
        page.entries.len()
    );
    let mut last = query.after.unwrap_or_default();
    for (position, entry) in &page.entries {
        ensure!(
            *position > last,
            "expected every position to be behind the one before"
        );
        ensure_eq!(position.id(), entry.id(), "the entry of a position");
        last = *position;
    }
    ensure!(
        page.until >= last,
        "expected a page to end behind its entries"
    );
    Ok(page)
}

/// What comes behind a position, once there are `count` entries, page by page.
async fn walk(
    bench: &Bench,
    from: &FeedQuery,
    count: usize,
) -> Outcome<(Vec<(FeedPosition, Row)>, FeedPosition)> {
    let mut entries = Vec::new();
    let mut query = from.clone();
    let begin = Instant::now();
    loop {
        let page = page(bench, &query).await?;
        let is_full = page.entries.len() == query.limit;
        entries.extend(page.entries);
        query.after = Some(page.until);
        if entries.len() >= count && !is_full {
            return Ok((entries, page.until));
        }
        if begin.elapsed() > bench.patience() {
            return Err(Failure::new(format!(
                "expected {count} entries in the feed; {} came",
                entries.len()
            )));
        }
        if !is_full {
            std::thread::sleep(PAUSE);
            yield_now().await;
        }
    }
}

fn ids(entries: &[(FeedPosition, Row)]) -> Vec<Uuid> {
    entries.iter().map(|(_, entry)| entry.id()).collect()
}

/// Ten commits of one to three entries each, whose ids and times go down from commit to commit.
async fn ten_commits(bench: &Bench) -> Outcome<Vec<Uuid>> {
    let mut made: Vec<Uuid> = (0..20).map(|_| new_id()).collect();
    let mut ids = Vec::new();
    for number in 0..10_usize {
        let at = made.len().saturating_sub(number % 3 + 1);
        let commit = made.split_off(at);
        // Within a commit the ids count, not the order in which rows are handed over.
        let rows = commit.iter().rev();
        let celsius = |place: usize| i64::try_from(100 - number * 3 - place).unwrap_or_default();
        let rows = rows
            .enumerate()
            .map(|(place, id)| reading_with(*id, celsius(place)));
        bench.insert(rows.collect::<Vec<_>>()).await?;
        ids.extend(commit);
    }
    Ok(ids)
}

pub(super) async fn feed_in_order_of_commits(h: &Harness) -> Outcome {
    let bench = h.bench();
    let expected = ten_commits(&bench).await?;
    let (all, _) = walk(&bench, &query(None, ALL), expected.len()).await?;
    ensure_eq!(ids(&all), expected, "the feed in the order of commits");
    for limit in [1, 2, 3, 7, expected.len()] {
        let (paged, _) = walk(&bench, &query(None, limit), expected.len()).await?;
        ensure_eq!(
            paged
                .iter()
                .map(|(position, _)| *position)
                .collect::<Vec<_>>(),
            all.iter()
                .map(|(position, _)| *position)
                .collect::<Vec<_>>(),
            "the positions in pages of {limit}"
        );
    }
    for (position, entry) in &all {
        super::expect::expect_same(&bench.again(entry).await?, entry, "an entry of the feed")?;
        let text = position.to_string();
        ensure_eq!(
            text.parse().ok(),
            Some(*position),
            "a position as text and back"
        );
    }
    Ok(())
}

pub(super) async fn feed_goes_on_where_it_was(h: &Harness) -> Outcome {
    let bench = h.bench();
    let empty = page(&bench, &query(None, 5)).await?;
    ensure_eq!(empty.entries.len(), 0, "entries of an empty log");
    let mut expected = ten_commits(&bench).await?;
    let (first, until) = walk(&bench, &query(Some(empty.until), ALL), expected.len()).await?;
    ensure_eq!(ids(&first), expected, "what came since the log was empty");
    let nothing = page(&bench, &query(Some(until), ALL)).await?;
    ensure_eq!(nothing.entries.len(), 0, "entries behind the end");
    let none = page(&bench, &query(first.first().map(|(at, _)| *at), 0)).await?;
    ensure_eq!(none.entries.len(), 0, "no entries at most");
    ensure!(
        none.until <= first.first().map_or(until, |(at, _)| *at),
        "expected it to stay"
    );
    let later = reading(1);
    bench.insert([later.clone()]).await?;
    let (since, _) = walk(&bench, &query(Some(until), ALL), 1).await?;
    ensure_eq!(ids(&since), vec![later.id()], "what came since");
    // From any entry on come those behind it.
    expected.push(later.id());
    for (place, (position, _)) in first.iter().enumerate() {
        let rest = expected.get(place + 1..).unwrap_or_default();
        let (behind, _) = walk(&bench, &query(Some(*position), ALL), rest.len()).await?;
        ensure_eq!(
            ids(&behind),
            rest.to_vec(),
            "what comes behind entry {place}"
        );
    }
    Ok(())
}

pub(super) async fn feed_of_some_entries(h: &Harness) -> Outcome {
    let bench = h.bench();
    let rows: Vec<Row> = (0..12).map(reading).collect();
    for row in &rows {
        bench.insert([row.clone()]).await?;
    }
    let expected: Vec<Uuid> = rows.iter().skip(8).map(|row| row.id()).collect();
    for limit in [1, 3, ALL] {
        let some = query(None, limit).filter(warm(8)?);
        let (found, until) = walk(&bench, &some, expected.len()).await?;
        ensure_eq!(ids(&found), expected, "the entries that fulfil a condition");
        let last = found.last().map(|(at, _)| *at).unwrap_or_default();
        ensure!(
            until > last,
            "expected a page that is not full to reach behind its entries"
        );
    }
    // Where no entry fulfils it, a reader gets on all the same.
    let (_, end) = walk(&bench, &query(None, ALL), rows.len()).await?;
    let hot = page(&bench, &query(None, ALL).filter(warm(99)?)).await?;
    ensure_eq!(hot.entries.len(), 0, "entries that fulfil nothing");
    ensure!(
        hot.until >= end,
        "expected a reader to get on past entries that it does not want"
    );
    Ok(())
}

pub(super) async fn feed_of_one_tenant(h: &Harness) -> Outcome {
    let (own, other) = (h.bench(), h.bench());
    let mine = reading(1);
    let (before, after) = (reading(2), reading(3));
    other.insert([before.clone()]).await?;
    own.insert([mine.clone()]).await?;
    other.insert([after.clone()]).await?;
    let (feed, _) = walk(&own, &query(None, ALL), 1).await?;
    ensure_eq!(ids(&feed), vec![mine.id()], "the feed of a tenant");
    let (feed, _) = walk(&other, &query(None, ALL), 2).await?;
    ensure_eq!(
        ids(&feed),
        vec![before.id(), after.id()],
        "the feed of another"
    );
    let platform = own
        .storage()
        .feed(&Scope::Platform, &query(None, ALL))
        .await?;
    ensure_eq!(platform.entries.len(), 0, "entries that the platform sees");
    Ok(())
}

pub(super) async fn feed_refusals(h: &Harness) -> Outcome {
    let bench = h.bench();
    bench.insert([row(Chore::new("mail")), reading(1)]).await?;
    for object in [Chore::schema(), Laboratory::schema()] {
        let refused = bench
            .storage()
            .feed(&bench.scope, &FeedQuery::new(object, None, 10))
            .await;
        ensure!(
            matches!(refused, Err(StorageError::Query(_))),
            "expected a {} to have no feed",
            object.name()
        );
    }
    // A position that was never given out is of another database.
    let ahead = FeedPosition::before(u64::MAX / 2);
    let refused = bench
        .storage()
        .feed(&bench.scope, &query(Some(ahead), 10))
        .await;
    ensure!(
        matches!(refused, Err(StorageError::Query(_))),
        "expected a position behind the end to be refused"
    );
    Ok(())
}

pub(super) async fn feed_after_removals(h: &Harness) -> Outcome {
    let bench = h.bench();
    let rows: Vec<Row> = (0..6).map(reading).collect();
    for row in &rows {
        bench.insert([row.clone()]).await?;
    }
    let (before, until) = walk(&bench, &query(None, ALL), rows.len()).await?;
    let gone: Vec<&Row> = rows.iter().step_by(2).collect();
    bench
        .apply(gone.iter().map(|row| purge(row)).collect())
        .await?;
    let (after, _) = walk(&bench, &query(None, ALL), 3).await?;
    let kept: Vec<(FeedPosition, Uuid)> = before
        .iter()
        .filter(|(_, entry)| gone.iter().all(|row| row.id() != entry.id()))
        .map(|(position, entry)| (*position, entry.id()))
        .collect();
    let after: Vec<(FeedPosition, Uuid)> =
        after.iter().map(|(at, entry)| (*at, entry.id())).collect();
    ensure_eq!(after, kept, "the positions of what is left");
    let later = reading(7);
    bench.insert([later.clone()]).await?;
    let (since, _) = walk(&bench, &query(Some(until), ALL), 1).await?;
    ensure_eq!(ids(&since), vec![later.id()], "what came since");
    Ok(())
}

pub(super) async fn feed_beside_many_writers(h: &Harness) -> Outcome {
    const WRITERS: i64 = 6;
    const COMMITS: i64 = 20;
    let bench = h.bench();
    let total = usize::try_from(WRITERS * COMMITS).unwrap_or_default() * 2;
    let mut tasks: Vec<BoxFuture<'static, Outcome<Vec<Uuid>>>> = Vec::new();
    for writer in 0..WRITERS {
        let bench = bench.clone();
        tasks.push(Box::pin(async move {
            let mut made = Vec::new();
            for number in 0..COMMITS {
                let rows = [reading(writer), reading(writer)];
                made.extend(rows.iter().map(|row| row.id()));
                bench.insert(rows).await?;
                for _ in 0..(writer * 7 + number * 3) % 5 {
                    yield_now().await;
                }
            }
            Ok(made)
        }));
    }
    for limit in [3, 50] {
        let reader = bench.clone();
        tasks.push(Box::pin(async move {
            let (seen, _) = walk(&reader, &query(None, limit), total).await?;
            Ok(ids(&seen))
        }));
    }
    let mut came = bench.workers(tasks).await?;
    let readers = came.split_off(usize::try_from(WRITERS).unwrap_or_default());
    let (all, _) = walk(&bench, &query(None, ALL), total).await?;
    let all = ids(&all);
    ensure_eq!(all.len(), total, "how many entries there are");
    for seen in readers {
        ensure_eq!(seen, all, "what a reader saw beside writers");
    }
    // What one writes after the other comes after the other.
    for made in came {
        let own: Vec<Uuid> = all.iter().filter(|id| made.contains(id)).copied().collect();
        ensure_eq!(own, made, "the entries of one writer");
    }
    Ok(())
}

/// What a query over the readings finds, the greatest first, page by page.
async fn pages(bench: &Bench, snapshot: &Snapshot, limit: usize) -> Outcome<Vec<Vec<Uuid>>> {
    let celsius = place(Reading::schema(), "celsius")?;
    let sort = vec![SortKey {
        index: celsius,
        descending: true,
    }];
    let mut query = Query::new(Reading::schema(), Condition::all())
        .sort(sort)
        .limit(limit)
        .at(snapshot.clone());
    let mut pages = Vec::new();
    loop {
        let rows = bench.storage().select(&bench.scope, &query).await?;
        let is_full = rows.len() == limit;
        query.after = rows.last().map(|row| {
            let keys = query.sort.iter();
            keys.map(|key| row.value(key.index).into_owned()).collect()
        });
        pages.push(rows.iter().map(|row| row.id()).collect());
        if !is_full {
            return Ok(pages);
        }
    }
}

/// What of the log is there now.
async fn snapshot(bench: &Bench) -> Outcome<Snapshot> {
    let nothing = query(None, 1).filter(Condition::Or(Vec::new()));
    Ok(page(bench, &nothing).await?.snapshot)
}

pub(super) async fn feed_snapshots_stay(h: &Harness) -> Outcome {
    let bench = h.bench();
    let none = snapshot(&bench).await?;
    let first = [reading(10), reading(30), reading(50)];
    bench.insert(first.clone()).await?;
    let some = snapshot(&bench).await?;
    let second = [reading(20), reading(40), reading(60)];
    bench.insert(second.clone()).await?;
    let all = snapshot(&bench).await?;
    let id = |row: &Row| row.id();
    let mut every: Vec<Uuid> = first.iter().chain(&second).map(id).collect();
    let [a, b, c] = first.map(|row| row.id());
    let [d, e, f] = second.map(|row| row.id());
    for (snapshot, expected) in [
        (&none, Vec::new()),
        (&some, vec![c, b, a]),
        (&all, vec![f, c, e, b, d, a]),
    ] {
        for limit in [1, 2, 10] {
            let found = pages(&bench, snapshot, limit).await?.concat();
            ensure_eq!(found, expected, "a snapshot in pages of {limit}");
        }
        let kept = Snapshot::of_text(snapshot.as_str());
        let found = pages(&bench, &kept, 10).await?.concat();
        ensure_eq!(found, expected, "a snapshot that was kept as text");
    }
    every.sort_unstable();
    let mut now: Vec<Uuid> = pages(&bench, &snapshot(&bench).await?, 10).await?.concat();
    now.sort_unstable();
    ensure_eq!(now, every, "what is there now");
    Ok(())
}

pub(super) async fn feed_snapshots_beside_many_writers(h: &Harness) -> Outcome {
    const WRITERS: i64 = 6;
    const COMMITS: i64 = 15;
    let bench = h.bench();
    let mut tasks: Vec<BoxFuture<'static, Outcome<()>>> = Vec::new();
    for writer in 0..WRITERS {
        let bench = bench.clone();
        tasks.push(Box::pin(async move {
            for number in 0..COMMITS {
                // All over the order, not at its end.
                let row = reading((number * 37 + writer * 11) % 100);
                bench.insert([row.clone()]).await?;
                let now = snapshot(&bench).await?;
                let own = pages(&bench, &now, 1_000).await?.concat();
                ensure!(
                    own.contains(&row.id()),
                    "expected a snapshot to have what its reader wrote before"
                );
                yield_now().await;
            }
            Ok(())
        }));
    }
    for limit in [3, 20] {
        let bench = bench.clone();
        tasks.push(Box::pin(async move {
            for _ in 0..10 {
                let then = snapshot(&bench).await?;
                let once = pages(&bench, &then, limit).await?;
                yield_now().await;
                let again = pages(&bench, &then, limit).await?;
                ensure_eq!(once, again, "the pages of a snapshot, read twice");
            }
            Ok(())
        }));
    }
    bench.workers(tasks).await?;
    let total = usize::try_from(WRITERS * COMMITS).unwrap_or_default();
    let all = pages(&bench, &snapshot(&bench).await?, 7).await?.concat();
    ensure_eq!(all.len(), total, "how many entries there are");
    Ok(())
}

pub(super) async fn feed_snapshot_refusals(h: &Harness) -> Outcome {
    let bench = h.bench();
    bench.insert([reading(1)]).await?;
    let now = snapshot(&bench).await?;
    let of_chores = Query::new(Chore::schema(), Condition::all()).at(now);
    ensure!(
        matches!(
            bench.storage().select(&bench.scope, &of_chores).await,
            Err(StorageError::Query(_))
        ),
        "expected no snapshot of what has no feed"
    );
    for wrong in ["", "now", "1:2", "9:1:", "-1:2:3", "1:5:7", "1:2:3;"] {
        let query = Query::new(Reading::schema(), Condition::all()).at(Snapshot::of_text(wrong));
        ensure!(
            matches!(
                bench.storage().select(&bench.scope, &query).await,
                Err(StorageError::Query(_))
            ),
            "expected {wrong:?} to be no snapshot"
        );
    }
    Ok(())
}

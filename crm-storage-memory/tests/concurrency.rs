//! Many threads at once: nothing is lost, nothing is seen half.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expects"
)]

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{commit, get, insert, integer, next, row, stamp, tenant, text, update};
use crm_core::query::{AggregateQuery, Condition, Measure};
use crm_core::schema::{FieldSchema, FieldType, ObjectRef, ObjectSchema, Row, Value};
use crm_core::storage::{Claim, Storage, StorageError};
use crm_storage_memory::MemoryStorage;
use uuid::Uuid;

fn counter() -> ObjectRef {
    ObjectSchema::builder("counter", "counters")
        .field(integer("count"))
        .index(&["count"])
        .build()
}

fn number(row: &Row) -> i64 {
    match row.get("count").into_owned() {
        Value::Integer(number) => number,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sixteen_writers_of_one_row_lose_nothing() {
    const WRITERS: usize = 16;
    const TIMES: usize = 100;
    let storage = MemoryStorage::new();
    let (scope, counter) = (tenant(1), counter());
    commit(
        &storage,
        &scope,
        vec![insert(&row(&counter, 1, vec![0_i64.into()]))],
    )
    .unwrap();
    thread::scope(|threads| {
        for _ in 0..WRITERS {
            threads.spawn(|| {
                for _ in 0..TIMES {
                    loop {
                        let before = get(&storage, &scope, &counter, 1).unwrap();
                        let after = next(&before, vec![(number(&before) + 1).into()]);
                        match commit(&storage, &scope, vec![update(&before, &after)]) {
                            Ok(_) => break,
                            Err(StorageError::Conflict { .. }) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                }
            });
        }
    });
    let end = get(&storage, &scope, &counter, 1).unwrap();
    assert_eq!(number(&end), (WRITERS * TIMES) as i64);
    assert_eq!(end.version(), 1 + (WRITERS * TIMES) as i64);
}

/// Commits of two rows, large or small, of two objects, one of which may be the platform's: a
/// reader who sees one half sees the other.
#[test]
fn readers_see_all_of_a_commit_or_nothing() {
    let left = counter();
    let right = ObjectSchema::builder("other", "others")
        .field(integer("count"))
        .build();
    for rows in [1_u128, 40, 500] {
        let storage = MemoryStorage::new();
        let scope = tenant(1);
        let both = |number: i64| -> Vec<Row> {
            let of = |object: &ObjectRef| {
                (0..rows)
                    .map(|id| row(object, id, vec![number.into()]))
                    .collect::<Vec<_>>()
            };
            of(&left).into_iter().chain(of(&right)).collect()
        };
        let mut current = both(0);
        commit(&storage, &scope, current.iter().map(insert).collect()).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    let ends = |object: &ObjectRef| {
                        let field = object.field_index("count").unwrap();
                        let mut query = AggregateQuery::count(object, Condition::all());
                        query.measures = vec![Measure::Min(field), Measure::Max(field)];
                        let groups = pollster::block_on(storage.aggregate(&scope, &query)).unwrap();
                        (groups[0].number(0), groups[0].number(1))
                    };
                    let mut last = None;
                    while !done.load(Ordering::Acquire) {
                        let ((low, high), (_, other)) = (ends(&left), ends(&right));
                        assert_eq!(low, high, "half a commit");
                        // Read later, so at least as new.
                        assert!(other >= high, "the other half is missing");
                        assert!(low >= last, "back in time");
                        last = low;
                    }
                });
            }
            for number in 1..=60 {
                let after: Vec<Row> = current
                    .iter()
                    .map(|row| next(row, vec![i64::into(number)]))
                    .collect();
                let changes = current
                    .iter()
                    .zip(&after)
                    .map(|(a, b)| update(a, b))
                    .collect();
                commit(&storage, &scope, changes).unwrap();
                current = after;
            }
            done.store(true, Ordering::Release);
        });
    }
}

#[test]
fn concurrent_claims_are_disjoint_and_complete() {
    const JOBS: u128 = 600;
    let storage = MemoryStorage::new();
    let scope = tenant(1);
    let job = ObjectSchema::builder("job", "jobs")
        .field(text("kind"))
        .field(FieldSchema {
            indexed: true,
            ..FieldSchema::new("taken", FieldType::Boolean)
        })
        .build();
    let rows: Vec<Row> = (0..JOBS)
        .map(|id| row(&job, id, vec!["mail".into(), false.into()]))
        .collect();
    commit(&storage, &scope, rows.iter().map(insert).collect()).unwrap();
    let taken = job.field_index("taken").unwrap();
    let claimed: Vec<Vec<Uuid>> = thread::scope(|threads| {
        let workers: Vec<_> = (0..8)
            .map(|_| {
                threads.spawn(|| {
                    let mut own = Vec::new();
                    loop {
                        let claim = Claim::new(
                            job.clone(),
                            Condition::equals(taken, false.into()),
                            Vec::new(),
                            7,
                            vec![(taken, true.into())],
                            stamp(1),
                        );
                        let rows = pollster::block_on(storage.claim(&scope, &claim)).unwrap();
                        if rows.is_empty() {
                            return own;
                        }
                        assert!(rows.iter().all(|row| row.version() == 2));
                        own.extend(rows.iter().map(|row| row.id()));
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .collect()
    });
    let all: Vec<Uuid> = claimed.into_iter().flatten().collect();
    assert_eq!(all.len(), JOBS as usize);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), JOBS as usize);
}

/// Onboarding of many tenants at once, all of whom want one name.
#[test]
fn one_of_many_tenants_gets_a_name() {
    let storage = MemoryStorage::new();
    let company = ObjectSchema::builder("company", "companies")
        .platform()
        .field(text("slug"))
        .unique(&["slug"], true)
        .build();
    let counter = counter();
    let winners: usize = thread::scope(|threads| {
        let (storage, company, counter) = (&storage, &company, &counter);
        let all: Vec<_> = (1..=32_u128)
            .map(|id| {
                threads.spawn(move || {
                    let own = row(company, id, vec!["acme".into()]);
                    let first = row(counter, 1, vec![0_i64.into()]);
                    let changes = vec![insert(&first), insert(&own)];
                    usize::from(commit(storage, &tenant(id), changes).is_ok())
                })
            })
            .collect();
        all.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(winners, 1);
    let with_rows = (1..=32)
        .filter(|id| get(&storage, &tenant(*id), &counter, 1).is_some())
        .count();
    assert_eq!(with_rows, 1);
}

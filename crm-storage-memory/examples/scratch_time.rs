//! x
#![allow(warnings, clippy::all)]
use chrono::*;
use crm_core::query::*;
use crm_core::schema::*;
use crm_core::storage::*;
use crm_core::*;
use crm_storage_memory::MemoryStorage;
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

/// c
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "contact",
    table = "contacts",
    unique(email, ignore_case, live),
    index(owner_id, created_at),
    index(status, created_at)
)]
pub struct Contact {
    /// a
    pub first_name: Option<String>,
    /// a
    pub last_name: Option<String>,
    /// a
    pub email: Option<value::EmailAddress>,
    /// a
    #[field(references = "account")]
    pub account_id: Option<Uuid>,
    /// a
    #[field(references = "user")]
    pub owner_id: Option<Uuid>,
    /// a
    #[field(references = "contact")]
    pub reports_to_id: Option<Uuid>,
    /// a
    pub status: Option<String>,
    /// a
    #[field(indexed)]
    pub score: Option<i32>,
    /// a
    #[field(indexed)]
    pub phone: Option<String>,
    /// a
    pub tags: Vec<String>,
    /// a
    pub f0: Option<String>,
    /// a
    pub f1: Option<String>,
    /// a
    pub f2: Option<String>,
    /// a
    pub f3: Option<String>,
    /// a
    pub f4: Option<String>,
    /// a
    pub f5: Option<String>,
    /// a
    pub f6: Option<String>,
    /// a
    pub f7: Option<String>,
    /// a
    pub f8: Option<String>,
    /// a
    pub f9: Option<String>,
    /// a
    pub f10: Option<String>,
    /// a
    pub f11: Option<String>,
    /// a
    pub f12: Option<String>,
    /// a
    pub f13: Option<String>,
    /// a
    pub f14: Option<String>,
    /// a
    pub f15: Option<String>,
    /// a
    pub f16: Option<String>,
    /// a
    pub f17: Option<String>,
    /// a
    pub f18: Option<String>,
    /// a
    pub f19: Option<String>,
    /// a
    pub f20: Option<String>,
    /// a
    pub f21: Option<String>,
    /// a
    pub f22: Option<String>,
    /// a
    pub f23: Option<String>,
    /// a
    pub f24: Option<String>,
    /// a
    pub f25: Option<String>,
    /// a
    pub f26: Option<String>,
    /// a
    pub f27: Option<String>,
    /// a
    pub f28: Option<String>,
    /// a
    pub f29: Option<String>,
    /// a
    pub f30: Option<String>,
    /// a
    pub f31: Option<String>,
    /// a
    pub f32: Option<String>,
    /// a
    pub f33: Option<String>,
    /// a
    pub f34: Option<String>,
}
/// e
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "event", table = "events", log, index(object_name, record_id))]
pub struct Event {
    /// a
    pub object_name: Option<String>,
    /// a
    pub record_id: Option<Uuid>,
    /// a
    pub commit_id: Option<Uuid>,
    /// a
    pub changes: Option<String>,
}
/// a
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "account", table = "accounts")]
pub struct Account {
    /// a
    pub name: Option<String>,
}
/// a
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "user", table = "users")]
pub struct User {
    /// a
    pub name: Option<String>,
}

fn uid(ms: u64, n: u64) -> Uuid {
    let mut x = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 31;
    x = x.wrapping_mul(0xD6E8FEB86659FD93);
    x ^= x >> 32;
    Uuid::from_u128(
        ((ms as u128) << 80) | (0x7 << 76) | (0x2u128 << 62) | (x as u128 & 0x3fff_ffff_ffff_ffff),
    )
}
fn main() {
    let storage = MemoryStorage::new();
    let scope = Scope::Tenant(Id::new(Uuid::from_u128(1)));
    let base = DateTime::from_timestamp(1_768_000_000, 0).unwrap();
    let stamp = |n: u64| Stamp {
        at: base + TimeDelta::milliseconds(n as i64),
        by: Actor::System,
    };
    let b = |f: std::pin::Pin<
        Box<dyn Future<Output = Result<Committed, StorageError>> + Send + '_>,
    >| pollster::block_on(f).unwrap();
    let mut ch = vec![];
    let users: Vec<Uuid> = (0..20).map(|n| uid(1, n)).collect();
    let accounts: Vec<Uuid> = (0..500).map(|n| uid(2, n)).collect();
    for u in &users {
        ch.push(Change::Insert {
            row: Arc::new(Record::new(Meta::first(*u, stamp(0)), User { name: None })),
        });
    }
    for u in &accounts {
        ch.push(Change::Insert {
            row: Arc::new(Record::new(
                Meta::first(*u, stamp(0)),
                Account { name: None },
            )),
        });
    }
    // other tables
    for i in 0..15 {
        let o = ObjectSchema::builder(format!("other{i}"), format!("others{i}")).build();
        ch.push(Change::Insert {
            row: o.build(Meta::first(uid(3, i), stamp(0)), vec![]).unwrap(),
        });
    }
    b(storage.commit(&scope, &ChangeSet::new(Uuid::nil(), base, ch, vec![])));
    let contact = |n: u64| -> Row {
        Arc::new(Record::new(
            Meta::first(uid(1000 + n, n), stamp(n)),
            Contact {
                first_name: Some(format!("First{n}")),
                last_name: Some(format!("Last{n}")),
                email: Some(format!("person{n}@example.org").parse().unwrap()),
                account_id: Some(accounts[(n * 7 % 500) as usize]),
                owner_id: Some(users[(n * 3 % 20) as usize]),
                reports_to_id: None,
                status: Some("active".into()),
                score: Some((n % 100) as i32),
                phone: Some(format!("+49 30 {n}")),
                tags: vec![],
                f0: Some("value".into()),
                f1: None,
                f2: None,
                f3: Some("value".into()),
                f4: None,
                f5: None,
                f6: Some("value".into()),
                f7: None,
                f8: None,
                f9: Some("value".into()),
                f10: None,
                f11: None,
                f12: Some("value".into()),
                f13: None,
                f14: None,
                f15: Some("value".into()),
                f16: None,
                f17: None,
                f18: Some("value".into()),
                f19: None,
                f20: None,
                f21: Some("value".into()),
                f22: None,
                f23: None,
                f24: Some("value".into()),
                f25: None,
                f26: None,
                f27: Some("value".into()),
                f28: None,
                f29: None,
                f30: Some("value".into()),
                f31: None,
                f32: None,
                f33: Some("value".into()),
                f34: None,
            },
        ))
    };
    let event = |n: u64, of: &Row| -> Row {
        Arc::new(Record::new(
            Meta::first(uid(1000 + n, n + 5_000_000), stamp(n)),
            Event {
                object_name: Some("contact".into()),
                record_id: Some(of.id()),
                commit_id: Some(uid(1000 + n, 9)),
                changes: Some("xxxxxxxxxxxxxxxxxxxxxx".into()),
            },
        ))
    };
    println!(
        "indexes contact {} unique {} event {} sizes {}",
        Contact::schema().indexes().len(),
        Contact::schema().unique_keys().len(),
        Event::schema().indexes().len(),
        std::mem::size_of::<Record<Contact>>()
    );
    let sets: Vec<ChangeSet> = (0..60_000u64)
        .map(|n| {
            let c = contact(n);
            let e = event(n, &c);
            ChangeSet::new(
                Uuid::nil(),
                base,
                vec![Change::Insert { row: c }, Change::Insert { row: e }],
                vec![],
            )
        })
        .collect();
    for s in &sets[..10_000] {
        b(storage.commit(&scope, s));
    }
    let t = Instant::now();
    for s in &sets[10_000..20_000] {
        b(storage.commit(&scope, s));
    }
    println!(
        "create contact+event at 10k..20k: {:?}",
        t.elapsed() / 10_000
    );
    let (ow, ca) = (
        Contact::schema().field_index("owner_id").unwrap(),
        system::CREATED_AT,
    );
    let q = Query::new(
        Contact::schema(),
        Condition::And(vec![
            Condition::not_deleted(),
            Condition::not_archived(),
            Condition::equals(ow, Value::Uuid(users[3])),
        ]),
    )
    .sort(vec![SortKey {
        index: ca,
        descending: true,
    }])
    .limit(51);
    if std::env::args().nth(1).as_deref() == Some("page") {
        for _ in 0..3_000_000 {
            std::hint::black_box(pollster::block_on(storage.select(&scope, &q)).unwrap());
        }
        return;
    }
    if std::env::args().nth(1).as_deref() == Some("create") {
        for s in &sets[20_000..60_000] {
            b(storage.commit(&scope, s));
        }
        return;
    }
    for round in 0..3 {
        let t = Instant::now();
        for _ in 0..20_000 {
            std::hint::black_box(pollster::block_on(storage.select(&scope, &q)).unwrap());
        }
        println!("page 51 newest by owner: {:?}", t.elapsed() / 20_000);
        let mut q2 = q.clone();
        let rows = pollster::block_on(storage.select(&scope, &q.clone().limit(700))).unwrap();
        let last = rows.last().unwrap();
        q2.after = Some(
            q2.sort
                .iter()
                .map(|k| last.value(k.index).into_owned())
                .collect(),
        );
        let t = Instant::now();
        for _ in 0..20_000 {
            std::hint::black_box(pollster::block_on(storage.select(&scope, &q2)).unwrap());
        }
        println!("page behind row 700: {:?}", t.elapsed() / 20_000);
        let ids: Vec<Uuid> = (0..20_000).map(|n| sets[n].changes[0].id()).collect();
        let t = Instant::now();
        for id in &ids {
            std::hint::black_box(
                pollster::block_on(storage.get(
                    &scope,
                    Contact::schema(),
                    std::slice::from_ref(id),
                ))
                .unwrap(),
            );
        }
        println!("get sequential: {:?}", t.elapsed() / 20_000);
        let t = Instant::now();
        for n in 0..20_000u64 {
            std::hint::black_box(
                pollster::block_on(storage.get(
                    &scope,
                    Contact::schema(),
                    &ids[(n * 7919 % 20_000) as usize..][..1],
                ))
                .unwrap(),
            );
        }
        println!("get scattered: {:?}", t.elapsed() / 20_000);
        let t = Instant::now();
        for n in 0..200_000u64 {
            std::hint::black_box(
                pollster::block_on(storage.get(&scope, Contact::schema(), &ids[5..][..1])).unwrap(),
            );
        }
        println!("get the same: {:?}", t.elapsed() / 200_000);
        let t = Instant::now();
        for n in 0..200_000u64 {
            std::hint::black_box(
                pollster::block_on(storage.get(&scope, Contact::schema(), &[])).unwrap(),
            );
        }
        println!("get nothing: {:?}", t.elapsed() / 200_000);
    }
    // update
    let mut current: Vec<Row> = (0..10_000)
        .map(|n| sets[n].changes[0].after().unwrap().clone())
        .collect();
    let mut k = 100_000u64;
    for round in 0..2 {
        let upd: Vec<ChangeSet> = current
            .iter_mut()
            .map(|r| {
                k += 1;
                let rec = Record::<Contact>::from_row(r.clone()).unwrap();
                let mut d = rec.data.clone();
                d.f3 = Some(format!("changed {round}"));
                d.score = Some((k % 90) as i32);
                let after: Row = Arc::new(Record::new(r.meta().next(stamp(k)), d));
                let before = std::mem::replace(r, after.clone());
                let e = event(k, &after);
                ChangeSet::new(
                    Uuid::nil(),
                    base,
                    vec![Change::Update { before, after }, Change::Insert { row: e }],
                    vec![],
                )
            })
            .collect();
        let t = Instant::now();
        for s in &upd {
            b(storage.commit(&scope, s));
        }
        println!("update contact+event: {:?}", t.elapsed() / 10_000);
    }
    // unique lookup
    let em = Contact::schema().field_index("email").unwrap();
    let q = Query::new(
        Contact::schema(),
        Condition::And(vec![
            Condition::not_deleted(),
            Condition::Compare {
                field: FieldAt {
                    index: em,
                    member: None,
                    ignore_case: true,
                },
                op: Comparison::Eq,
                value: Value::from("person777@example.org"),
            },
        ]),
    )
    .limit(2);
    let t = Instant::now();
    for _ in 0..50_000 {
        std::hint::black_box(pollster::block_on(storage.select(&scope, &q)).unwrap());
    }
    println!("by email: {:?}", t.elapsed() / 50_000);
    // count by status
    let st = Contact::schema().field_index("status").unwrap();
    let mut q = AggregateQuery::count(
        Contact::schema(),
        Condition::And(vec![Condition::not_deleted(), Condition::not_archived()]),
    );
    q.groups.push(Grouping::Field(st));
    let t = Instant::now();
    for _ in 0..20 {
        std::hint::black_box(pollster::block_on(storage.aggregate(&scope, &q)).unwrap());
    }
    println!("count 20k by status: {:?}", t.elapsed() / 20);
    // bulk
    let all: Vec<Change> = sets[20_000..40_000]
        .iter()
        .flat_map(|s| s.changes.clone())
        .collect();
    let bulk = ChangeSet::new(Uuid::nil(), base, all, vec![]);
    let t = Instant::now();
    b(storage.commit(&scope, &bulk));
    println!(
        "bulk 20k contacts + events, each: {:?}",
        t.elapsed() / 20_000
    );
    let stop = std::sync::atomic::AtomicBool::new(false);
    let q = Query::new(
        Contact::schema(),
        Condition::And(vec![
            Condition::not_deleted(),
            Condition::not_archived(),
            Condition::equals(ow, Value::Uuid(users[3])),
        ]),
    )
    .sort(vec![SortKey {
        index: ca,
        descending: true,
    }])
    .limit(51);
    std::thread::scope(|t| {
        t.spawn(|| {
            let mut n = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                std::hint::black_box(pollster::block_on(storage.select(&scope, &q)).unwrap());
                n += 1;
            }
            println!("  reads meanwhile {n}");
        });
        let t = Instant::now();
        for s in &sets[40_000..60_000] {
            b(storage.commit(&scope, s));
        }
        println!("create with a busy reader: {:?}", t.elapsed() / 20_000);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

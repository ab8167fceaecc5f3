//! The property of the feed: beside 16 writers with random delays, and consumers that stop in the
//! middle, every event is done exactly once, in commit order.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use crm_engine::audit::{FeedEvent, FeedPolicy};
use crm_engine::prelude::*;
use proptest::prelude::*;
use uuid::Uuid;

use super::{MOST_ASKED, Office, drain};
use crate::common;

const WRITERS: u64 = 16;
const STEPS: u64 = 6;
const WORKERS: u64 = 3;

/// Numbers that follow from a seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((mixed ^ (mixed >> 27)) >> 16) % below
    }

    /// A delay of random length.
    async fn delay(&mut self) {
        for _ in 0..self.next(40) {
            tokio::task::yield_now().await;
        }
    }
}

/// What a consumer did, each event once: what it remembers is the key.
#[derive(Default)]
struct Done {
    keys: HashSet<Uuid>,
    events: Vec<FeedEvent>,
    /// How many came more than once.
    again: usize,
}

impl Done {
    fn one(&mut self, event: &FeedEvent) {
        if self.keys.insert(event.idempotency_key()) {
            self.events.push(event.clone());
        } else {
            self.again += 1;
        }
    }
}

async fn write(session: Session, shared: Id<Account>, writer: u64, seed: u64) {
    let mut chance = Chance(seed ^ (writer << 32));
    let mut own = None;
    for step in 0..STEPS {
        chance.delay().await;
        match (chance.next(4), own) {
            (0, Some(id)) => {
                let rename = move |account: &mut Account| account.name = format!("{writer} {step}");
                session.accounts().update(id, rename).await.unwrap();
            }
            // All writers change one record: they conflict, and follow from each other.
            (1, _) => {
                let employ = |account: &mut Account| {
                    account.employee_count = Some(account.employee_count.unwrap_or(0) + 1);
                };
                session.accounts().update(shared, employ).await.unwrap();
            }
            // Several records in one commit.
            (2, _) => {
                let mut work = session.begin();
                for number in 0..chance.next(5) + 1 {
                    let name = format!("{writer} {step} {number}");
                    work.accounts().create(Account::new(name)).await.unwrap();
                    chance.delay().await;
                }
                work.commit().await.unwrap();
            }
            _ => {
                let account = Account::new(format!("{writer} {step}"));
                own = Some(session.accounts().create(account).await.unwrap().id);
            }
        }
    }
}

/// One worker of the consumer. It stops in the middle of a batch at random, and another one, of
/// another token, begins in its place.
async fn consume(office: Arc<Office>, done: Arc<Mutex<Done>>, open: Arc<AtomicUsize>, seed: u64) {
    let mut chance = Chance(seed);
    'crashed: for _ in 0..MOST_ASKED {
        let feed = office
            .session
            .audit()
            .feed("index")
            .lease(TimeDelta::minutes(1));
        loop {
            let limit = usize::try_from(chance.next(9) + 1).unwrap();
            let Some(batch) = feed.next(limit).await.unwrap() else {
                if open.load(Ordering::SeqCst) == 0 && is_all_done(&office, &done).await {
                    return;
                }
                // Somebody may hold a lease and be gone.
                if chance.next(4) == 0 {
                    office.pass(TimeDelta::seconds(20));
                }
                common::pause().await;
                continue 'crashed;
            };
            for event in &batch.events {
                if chance.next(12) == 0 {
                    continue 'crashed;
                }
                done.lock().unwrap().one(event);
                chance.delay().await;
            }
            match feed.acknowledge(batch.until).await {
                Ok(()) => {}
                Err(Error::Rule(lost)) => assert_eq!(lost.code, "claim_lost"),
                Err(error) => panic!("{error}"),
            }
        }
    }
    panic!("events were lost");
}

async fn is_all_done(office: &Office, done: &Mutex<Done>) -> bool {
    let events = office.events().await;
    done.lock().unwrap().events.len() >= events
}

async fn run(seed: u64) {
    let office = Arc::new(Office::open().await);
    let shared = office.account("Shared").await;
    let done = Arc::new(Mutex::new(Done::default()));
    let open = Arc::new(AtomicUsize::new(1));
    let consumers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (office, done, open) = (office.clone(), done.clone(), open.clone());
            tokio::spawn(consume(office, done, open, seed.wrapping_mul(31) + worker))
        })
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(office.session.clone(), shared, writer, seed)))
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    open.store(0, Ordering::SeqCst);
    for consumer in consumers {
        consumer.await.unwrap();
    }

    let done = Arc::into_inner(done).unwrap().into_inner().unwrap();
    let all = office.events().await;
    assert_eq!(done.events.len(), all, "each event exactly once");
    // In the order of the feed, which another consumer sees the same way.
    assert!(
        done.events
            .windows(2)
            .all(|pair| pair[0].position < pair[1].position)
    );
    let feed = office
        .session
        .audit()
        .feed("other")
        .policy(FeedPolicy::INTERNAL);
    let again = drain(&feed, all).await;
    let keys = |events: &[FeedEvent]| -> Vec<Uuid> {
        events.iter().map(FeedEvent::idempotency_key).collect()
    };
    assert_eq!(keys(&done.events), keys(&again));
    // What follows from a change comes behind it, and a commit stays together.
    let mut versions: BTreeMap<Uuid, i64> = BTreeMap::new();
    let mut commits = Vec::new();
    for event in &done.events {
        let version = versions.entry(event.event.record_id).or_default();
        *version += 1;
        assert_eq!(
            event.event.record_version, *version,
            "an event came out of order"
        );
        commits.push(event.event.commit_id);
    }
    commits.dedup();
    let distinct: HashSet<Uuid> = commits.iter().copied().collect();
    assert_eq!(commits.len(), distinct.len(), "a commit was torn apart");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(common::cases(4)))]

    #[test]
    fn every_event_is_done_once_and_in_order(seed: u64) {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(run(seed));
    }
}

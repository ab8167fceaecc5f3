//! Scans of stored records, and what they read.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use crm_engine::duplicates::{CompiledRule, DuplicatePair, MatchRule, ScanCursor};
use crm_engine::prelude::*;
use crm_engine::query::{AggregateQuery, Group, Query};
use crm_engine::schema::{ObjectRef, Row};
use crm_engine::storage::{
    ChangeSet, Claim, Committed, FeedPage, FeedQuery, Scope, Storage, StorageError,
};
use uuid::Uuid;

use super::{backend, by_phone, contact, like_names, rule, session, tenant};

async fn scan(
    session: &Session,
    from: Option<ScanCursor>,
    most: usize,
) -> (Vec<DuplicatePair>, Option<ScanCursor>) {
    let mut pairs = Vec::new();
    let scan = session
        .duplicates()
        .scan("contact", from, &(), &mut |pair| {
            pairs.push(pair);
            if pairs.len() < most {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
        .await
        .unwrap();
    assert_eq!(scan.pairs, pairs.len() as u64);
    assert!(scan.cut.is_empty() && scan.building.is_empty());
    (pairs, scan.next)
}

/// A scan finds what comparing all pairs would, each pair once, also in several runs.
#[tokio::test]
async fn a_scan_finds_every_pair_once() {
    let session = session().await;
    rule(&session, "contact", DuplicateMode::Warn, like_names()).await;
    rule(&session, "contact", DuplicateMode::Warn, by_phone()).await;
    let mut records = Vec::new();
    for (place, (first, last)) in [
        ("Ada", "Lovelace"),
        ("Ada", "Lovelase"),
        ("Adda", "Lovelace"),
        ("Grace", "Hopper"),
        ("Grace", "Hoper"),
        ("Grayce", "Hopper"),
        ("Mary", "Smith"),
        ("Marie", "Smyth"),
        ("Alan", "Turing"),
        ("Allan", "Turing"),
    ]
    .into_iter()
    .enumerate()
    {
        let number = format!("+49 30 90182{}", place % 6);
        records.push(contact(first, last, Some(&number)));
    }
    let records = session.contacts().create_all(records).await.unwrap();
    let rules: Vec<CompiledRule> = [like_names(), by_phone()]
        .iter()
        .enumerate()
        .map(|(place, rule)| {
            let rule = MatchRule::from_json(rule).unwrap();
            CompiledRule::new(&rule, Uuid::from_u128(place as u128), Contact::schema()).unwrap()
        })
        .collect();
    let mut wanted = BTreeSet::new();
    for (place, a) in records.iter().enumerate() {
        for b in &records[place + 1..] {
            let matches = |rule: &CompiledRule| {
                let (a, b) = (rule.prepare(&**a), rule.prepare(&**b));
                let (keys, others) = (rule.keys(&a), rule.keys(&b));
                keys.iter().any(|key| others.contains(key)) && rule.score(&a, &b).is_some()
            };
            if rules.iter().any(matches) {
                wanted.insert((a.id.uuid(), b.id.uuid()));
            }
        }
    }
    let found = |pairs: &[DuplicatePair]| -> Vec<(Uuid, Uuid)> {
        pairs
            .iter()
            .map(|pair| (pair.first.id, pair.second.id))
            .collect()
    };
    let (pairs, next) = scan(&session, None, usize::MAX).await;
    assert!(next.is_none() && wanted.len() > 6);
    assert_eq!(pairs.len(), wanted.len(), "a pair twice");
    assert_eq!(found(&pairs).into_iter().collect::<BTreeSet<_>>(), wanted);

    let mut parts = Vec::new();
    let mut from = None;
    loop {
        let (pairs, next) = scan(&session, from, 1).await;
        parts.extend(found(&pairs));
        let Some(next) = next else { break };
        let text = serde_json::to_string(&next).unwrap();
        from = Some(serde_json::from_str(&text).unwrap());
    }
    assert_eq!(parts.len(), wanted.len());
    assert_eq!(parts.into_iter().collect::<BTreeSet<_>>(), wanted);
}

/// A storage that counts what it is asked, and the most rows it gave at once.
#[derive(Debug)]
struct Counting {
    storage: Arc<dyn Storage>,
    reads: AtomicUsize,
    most: AtomicUsize,
}

impl Counting {
    fn told(&self, rows: Vec<Row>) -> Vec<Row> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.most.fetch_max(rows.len(), Ordering::Relaxed);
        rows
    }
}

#[async_trait]
impl Storage for Counting {
    async fn get(
        &self,
        scope: &Scope,
        object: &ObjectRef,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, StorageError> {
        Ok(self.told(self.storage.get(scope, object, ids).await?))
    }

    async fn select(&self, scope: &Scope, query: &Query) -> Result<Vec<Row>, StorageError> {
        Ok(self.told(self.storage.select(scope, query).await?))
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        query: &AggregateQuery,
    ) -> Result<Vec<Group>, StorageError> {
        self.storage.aggregate(scope, query).await
    }

    async fn commit(&self, scope: &Scope, changes: &ChangeSet) -> Result<Committed, StorageError> {
        self.storage.commit(scope, changes).await
    }

    async fn claim(&self, scope: &Scope, claim: &Claim) -> Result<Vec<Row>, StorageError> {
        self.storage.claim(scope, claim).await
    }

    async fn feed(&self, scope: &Scope, query: &FeedQuery) -> Result<FeedPage, StorageError> {
        self.storage.feed(scope, query).await
    }

    async fn reseal(&self, scope: &Scope, rows: &[Row]) -> Result<usize, StorageError> {
        self.storage.reseal(scope, rows).await
    }
}

/// A check is one lookup of keys and one of records; a scan walks pages; a block that is too large is
/// told; a write of a tenant without rules reads nothing for them.
#[tokio::test]
async fn reads_are_few_and_bounded() {
    let storage = Arc::new(Counting {
        storage: backend::storage(&[]),
        reads: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
    });
    let session = tenant(&Crm::builder(storage.clone()).build(), "acme").await;
    let read = || storage.reads.swap(0, Ordering::Relaxed);
    session
        .contacts()
        .create(contact("A", "B", None))
        .await
        .unwrap();
    read();
    session
        .contacts()
        .create(contact("A", "B", None))
        .await
        .unwrap();
    assert_eq!(read(), 0, "no rule, no read");

    rule(&session, "contact", DuplicateMode::Warn, like_names()).await;
    let people: Vec<Contact> = (0..1_200)
        .map(|place| {
            contact(
                &format!("{}x", (b'a' + place as u8 % 26) as char),
                "Same",
                None,
            )
        })
        .collect();
    for part in people.chunks(600) {
        session.contacts().create_all(part.to_vec()).await.unwrap();
    }
    session
        .duplicates()
        .check(&contact("Ada", "Other", None))
        .await
        .unwrap();
    read();
    session
        .contacts()
        .create(contact("Ada", "Lovelace", None))
        .await
        .unwrap();
    assert_eq!(read(), 0, "a rule that warns costs no read");
    let check = session
        .duplicates()
        .check(&contact("Ada", "Lovelace", None))
        .await
        .unwrap();
    assert_eq!((read(), check.matches.len()), (2, 1));
    let check = session
        .duplicates()
        .check(&contact("Ax", "Same", None))
        .await
        .unwrap();
    assert!(!check.is_complete(), "1,200 share the key");

    storage.most.store(0, Ordering::Relaxed);
    read();
    let mut pairs = BTreeSet::new();
    let scan = session
        .duplicates()
        .scan("contact", None, &(), &mut |pair| {
            assert!(
                pairs.insert((pair.first.id, pair.second.id)),
                "a pair twice"
            );
            ControlFlow::Continue(())
        })
        .await
        .unwrap();
    assert!(storage.most.load(Ordering::Relaxed) <= 1_000);
    assert!(read() <= 2 * (scan.keys as usize / 1_000 + 1));
    assert_eq!(scan.cut.len(), 1);
    assert_eq!(scan.cut[0].records, 1_200);
    // 500 are compared with all: less than all pairs, and each only once.
    assert!(scan.compared < 1_200 * 1_199 / 2 && scan.pairs > 10_000);
}

//! Scans of stored records, and what they read.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crm_engine::duplicates::{CompiledRule, DuplicatePair, MatchRule, ScanCursor};
use crm_engine::prelude::*;
use uuid::Uuid;

use super::{by_phone, contact, like_names, rule, session, tenant};
use crate::common::storage::{Calls, Watched};

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

/// A check is one lookup of keys and one of records; a scan walks pages; a block that is too large is
/// told; a write of a tenant without rules reads nothing for them.
#[tokio::test]
async fn reads_are_few_and_bounded() {
    let storage = Watched::new(Calls::default());
    let session = tenant(&Crm::builder(storage.clone()).build(), "acme").await;
    // The rows that each read gave since the last time.
    let rows = || -> Vec<usize> {
        let reads = storage.watch.take().into_iter();
        let reads = reads.filter(|call| ["get", "select"].contains(&call.kind));
        reads.map(|call| call.rows).collect()
    };
    let read = || rows().len();
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
    let read = rows();
    assert!(read.iter().all(|rows| *rows <= 1_000));
    assert!(read.len() <= 2 * (scan.keys as usize / 1_000 + 1));
    assert_eq!(scan.cut.len(), 1);
    assert_eq!(scan.cut[0].records, 1_200);
    // 500 are compared with all: less than all pairs, and each only once.
    assert!(scan.compared < 1_200 * 1_199 / 2 && scan.pairs > 10_000);
}

//! Seals are a chain: who makes it, in which parts, and whose signatures it bears.

use crm_engine::audit::seal::{Ed25519Signer, Ed25519Verifier, SealProblem};
use crm_engine::audit::{AuditSeal, Sealing, Verification};
use crm_engine::prelude::*;
use uuid::Uuid;

use super::{World, problems};

#[tokio::test]
async fn seals_are_a_chain_and_hold_while_nothing_changes() {
    let world = World::new().await;
    world.contact("Lovelace").await;
    let first = world.seal().await.unwrap();
    assert_eq!(first.number, 1);
    assert_eq!(
        world.seal().await.unwrap(),
        first,
        "nothing new, no new seal"
    );
    world.contact("Byron").await;
    let second = world.seal().await.unwrap();
    assert_eq!(second.number, 2);
    world.contact("unsealed").await;
    let report = world.verify().await;
    assert!(report.is_intact(), "{report:?}");
    assert_eq!((report.seals, report.erased), (2, 0));
    let unsealed = 2;
    assert_eq!(report.intact, world.events().await.len() as u64 - unsealed);

    // A range, and what was kept outside.
    let audit = world.session.audit();
    let part = Verification::new().seals(2, 2).head(Some(second.clone()));
    let report = audit.verify(part).await.unwrap();
    assert_eq!((report.seals, report.intact, report.found), (1, 2, 0));
    let mut other = second.clone();
    other.hash = first.hash.clone();
    let report = audit
        .verify(Verification::new().head(Some(other)))
        .await
        .unwrap();
    assert_eq!(problems(&report), [(None, SealProblem::HeadDiffers)]);
    let ahead = crm_engine::audit::seal::SealHead {
        number: 3,
        hash: second.hash,
    };
    let report = audit
        .verify(Verification::new().head(Some(ahead)))
        .await
        .unwrap();
    assert_eq!(problems(&report), [(None, SealProblem::SealMissing)]);
}

#[tokio::test]
async fn many_events_are_sealed_in_parts() {
    let world = World::new().await;
    let mut work = world.session.begin();
    for number in 0..1_100 {
        let account = Account::new(format!("Account {number}"));
        work.accounts().create(account).await.unwrap();
    }
    work.commit().await.unwrap();
    let head = world.seal().await.unwrap();
    assert_eq!(head.number, 2);
    let report = world.verify().await;
    assert!(report.is_intact() && report.intact > 1_100, "{report:?}");
    let stop = |_: u64, _: Option<u64>| std::ops::ControlFlow::Break(());
    let stopped = Verification::new().progress(&stop);
    let report = world.session.audit().verify(stopped).await.unwrap();
    assert!(report.stopped && report.seals == 1);
}

#[tokio::test]
async fn signatures_are_of_keys_that_are_trusted() {
    let world = World::new().await;
    world.contact("Lovelace").await;
    let audit = world.session.audit();
    let old = Ed25519Signer::new("2025", &[1; 32]);
    world.settle().await;
    audit.seal(Sealing::new().signed_by(&old)).await.unwrap();
    world.contact("Byron").await;
    let new = Ed25519Signer::new("2026", &[2; 32]);
    world.settle().await;
    audit.seal(Sealing::new().signed_by(&new)).await.unwrap();
    let keys = Ed25519Verifier::new()
        .key("2025", old.public_key())
        .unwrap();
    let both = keys.clone().key("2026", new.public_key()).unwrap();
    let report = audit
        .verify(Verification::new().signed(&both))
        .await
        .unwrap();
    assert!(report.is_intact(), "{report:?}");
    let report = audit
        .verify(Verification::new().signed(&keys))
        .await
        .unwrap();
    assert_eq!(problems(&report), [(None, SealProblem::SignatureWrong)]);
    world.contact("Babbage").await;
    world.seal().await;
    let report = audit
        .verify(Verification::new().signed(&both))
        .await
        .unwrap();
    assert_eq!(problems(&report), [(None, SealProblem::Unsigned)]);
}

#[tokio::test]
async fn two_who_seal_at_once_make_one_chain() {
    let world = World::new().await;
    for name in ["Lovelace", "Byron", "Babbage"] {
        world.contact(name).await;
        world.settle().await;
        let audit = world.session.audit();
        let seals = futures::future::join_all((0..4).map(|_| audit.seal(Sealing::new()))).await;
        for result in seals {
            match result {
                Ok(_) | Err(crm_engine::Error::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    let report = world.verify().await;
    assert!(report.is_intact(), "{report:?}");
    assert_eq!(report.intact, world.events().await.len() as u64);
}

#[tokio::test]
async fn a_seal_and_its_events_are_their_tenants() {
    let world = World::new().await;
    world.contact("Lovelace").await;
    world.seal().await;
    let other = crm_engine::Id::new(Uuid::from_u128(99));
    let stranger = world.session.engine().session(other, Actor::System);
    let report = stranger.audit().verify(Verification::new()).await.unwrap();
    assert_eq!((report.seals, report.intact), (0, 0));
    assert_eq!(stranger.audit().seal(Sealing::new()).await.unwrap(), None);
    let seals = stranger
        .records::<AuditSeal>()
        .find(Find::new())
        .await
        .unwrap();
    assert!(seals.items.is_empty());
}

//! Everything of deals at once: gates, approvals, automation,
//! lines, people, competitors, figures, states, locked rates, merges. Whatever is written in whatever
//! order, what hangs together agrees after every commit, and a refused commit leaves nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod cases;
mod costs;
mod world;

use crate::common;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crm_engine::Crm;
use crm_engine::engine::ManualClock;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use world::{Edit, Op, STEPS, What, World};

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        3 => prop::option::weighted(0.8, 0..3_usize).prop_map(What::Contact),
        1 => prop::option::weighted(0.8, 0..2_usize).prop_map(What::Account),
        2 => prop::option::weighted(0.8, 0..500_i64).prop_map(What::Amount),
        1 => (0..2_usize).prop_map(What::Currency),
        6 => (0..STEPS.len()).prop_map(What::Next),
        1 => prop::option::weighted(0.8, 0..3_usize).prop_map(What::Competitor),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    let deal = || 0..3_usize;
    let contact = || 0..3_usize;
    prop_oneof![
        2 => (prop::option::of(contact()), prop::option::of(0..500_i64), any::<bool>(), 0..STEPS.len())
            .prop_map(|(contact, amount, owned, step)| Edit::Create { contact, amount, owned, step }),
        8 => (deal(), what()).prop_map(|(deal, what)| Edit::Set(deal, what)),
        8 => (deal(), 0..7_usize).prop_map(|(deal, stage)| Edit::Go(deal, stage)),
        5 => deal().prop_map(Edit::Next),
        1 => deal().prop_map(Edit::Win),
        2 => (deal(), any::<bool>()).prop_map(|(deal, reason)| Edit::Lose(deal, reason)),
        2 => deal().prop_map(Edit::Reopen),
        3 => (deal(), 1..300_i64).prop_map(|(deal, price)| Edit::AddLine(deal, price)),
        1 => deal().prop_map(Edit::DropLine),
        1 => (deal(), 1..300_i64).prop_map(|(deal, price)| Edit::PriceLine(deal, price)),
        2 => (deal(), contact()).prop_map(|(deal, who)| Edit::AddPerson(deal, who)),
        2 => (deal(), contact()).prop_map(|(deal, who)| Edit::DropPerson(deal, who)),
        2 => (deal(), contact()).prop_map(|(deal, who)| Edit::Promote(deal, who)),
        2 => (deal(), 0..3_usize, any::<bool>())
            .prop_map(|(deal, name, main)| Edit::Compete(deal, name, main)),
        1 => deal().prop_map(Edit::DropCompetitor),
        3 => (deal(), 3..5_usize).prop_map(|(deal, stage)| Edit::Approve(deal, stage)),
        1 => deal().prop_map(Edit::Archive),
        1 => deal().prop_map(Edit::Delete),
        1 => deal().prop_map(Edit::Restore),
        1 => contact().prop_map(Edit::DeleteContact),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let two = || (0..4_usize, 0..4_usize);
    prop_oneof![
        14 => prop::collection::vec(edit(), 1..5).prop_map(Op::Unit),
        1 => two().prop_map(|(one, other)| Op::MergeContacts(one, other)),
        1 => two().prop_map(|(one, other)| Op::MergeAccounts(one, other)),
        1 => two().prop_map(|(one, other)| Op::MergeDeals(one, other)),
        1 => Just(Op::UndoMerge),
        1 => (0..4_usize).prop_map(Op::RestoreContact),
        1 => Just(Op::DeleteStage),
    ]
}

/// All the invariants, after every step of random sequences.
#[test]
fn what_hangs_together_agrees_after_every_commit() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let clock = Arc::new(ManualClock::new("2026-03-02T09:00:00Z".parse().unwrap()));
    let crm = {
        let _entered = runtime.enter();
        Crm::builder(common::backend::storage(&[]))
            .clock(clock.clone())
            .build()
    };
    let number = AtomicUsize::new(0);
    let written = AtomicUsize::new(0);
    let usual = if std::env::var_os("CRM_TEST_STORAGE").is_some() {
        12
    } else {
        150
    };
    let cases = common::cases(usual);
    let config = Config {
        cases,
        max_shrink_iters: 256,
        failure_persistence: None,
        ..Config::default()
    };
    let sequences = prop::collection::vec(op(), 5..30);
    let result = TestRunner::new(config).run(&sequences, |ops| {
        let name = format!("t{}", number.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(async {
            let mut world = World::new(&crm, clock.clone(), &name).await;
            for op in ops {
                if world.step(&op).await? {
                    written.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        })
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    assert!(
        written.into_inner() > 5 * cases as usize,
        "few steps were written"
    );
}

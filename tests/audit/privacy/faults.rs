//! An erasure that is cut off at any point is finished by another.

use crate::common::storage::{Call, Faulty, Mode, Watched};

use crm_engine::audit::Erasure;
use crm_engine::prelude::*;
use crm_engine::{Crm, MemoryStorage};

use super::{ADDRESS, ada};
use crate::common::{rows_of, tenant};

/// Erases with a fault at one call, then again without; whether the fault was met.
async fn cut_off_at(call: usize, mode: Mode) -> bool {
    let is_meant = match mode {
        Mode::Before => |_: &Call<'_>| true,
        Mode::LostAnswer => |call: &Call<'_>| call.is_commit(),
    };
    let storage = Watched::over(MemoryStorage::new(), Faulty::new(mode, is_meant));
    let crm = Crm::builder(storage.clone()).build();
    let (acme, session) = tenant(&crm, "acme").await;
    let ada = ada(&session, acme.pipeline).await;
    storage.watch.fail_after(call);
    let first = session
        .privacy()
        .erase(ada.contact, Erasure::default())
        .await;
    let was_met = storage.watch.was_met();
    assert_eq!(first.is_err(), was_met, "call {call}");
    let second = session
        .privacy()
        .erase(ada.contact, Erasure::default())
        .await
        .unwrap();
    assert!(second.is_complete, "call {call}");
    for object in session.engine().registry().objects().keys() {
        for row in rows_of(&session, object).await {
            let text = serde_json::to_string(&row.to_json()).unwrap();
            let is_left = ["Ada", ADDRESS, "442079460018"]
                .iter()
                .any(|one| text.contains(one));
            assert!(!is_left, "call {call}: {object}: {text}");
        }
    }
    assert!(
        !rows_of(&session, "deletion_log").await.is_empty(),
        "call {call}"
    );
    was_met
}

/// C-081: fail call n for every n, then run again.
#[tokio::test]
async fn an_erasure_is_finished_wherever_it_was_cut_off() {
    let mut commits = 0;
    while cut_off_at(commits, Mode::LostAnswer).await {
        commits += 1;
    }
    assert!(commits > 5, "{commits}");
    let mut calls = 0;
    while cut_off_at(calls, Mode::Before).await {
        calls += 1;
    }
    assert!(calls > 50, "{calls}");
}

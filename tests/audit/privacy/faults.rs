//! An erasure that is cut off at any point is finished by another.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use crm_engine::audit::Erasure;
use crm_engine::prelude::*;
use crm_engine::query::{AggregateQuery, Group, Query};
use crm_engine::schema::{ObjectRef, Row};
use crm_engine::storage::{
    ChangeSet, Claim, Committed, FeedPage, FeedQuery, Scope, Storage, StorageError,
};
use crm_engine::{Crm, MemoryStorage};
use uuid::Uuid;

use super::{ADDRESS, ada};
use crate::common::{rows_of, tenant};

/// What is not counted down from.
const NEVER: usize = usize::MAX;

/// Fails one call, by how many come before it; of a commit only the answer may be lost.
#[derive(Debug)]
struct Faulty {
    inner: MemoryStorage,
    left: Arc<AtomicUsize>,
    loses_answers: bool,
}

impl Faulty {
    fn fails(&self) -> bool {
        let down = |left| match left {
            NEVER | 0 => None,
            left => Some(left - 1),
        };
        let before = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, down);
        before == Err(0) && self.left.swap(NEVER, Ordering::SeqCst) == 0
    }

    fn call(&self) -> Result<(), StorageError> {
        match !self.loses_answers && self.fails() {
            true => Err(unavailable()),
            false => Ok(()),
        }
    }
}

fn unavailable() -> StorageError {
    StorageError::Unavailable(Box::new(io::Error::other("the line is dead")))
}

#[async_trait]
impl Storage for Faulty {
    async fn get(
        &self,
        scope: &Scope,
        object: &ObjectRef,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, StorageError> {
        self.call()?;
        self.inner.get(scope, object, ids).await
    }

    async fn select(&self, scope: &Scope, query: &Query) -> Result<Vec<Row>, StorageError> {
        self.call()?;
        self.inner.select(scope, query).await
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        query: &AggregateQuery,
    ) -> Result<Vec<Group>, StorageError> {
        self.call()?;
        self.inner.aggregate(scope, query).await
    }

    async fn commit(&self, scope: &Scope, changes: &ChangeSet) -> Result<Committed, StorageError> {
        self.call()?;
        let committed = self.inner.commit(scope, changes).await?;
        match self.loses_answers && self.fails() {
            true => Err(unavailable()),
            false => Ok(committed),
        }
    }

    async fn claim(&self, scope: &Scope, claim: &Claim) -> Result<Vec<Row>, StorageError> {
        self.call()?;
        self.inner.claim(scope, claim).await
    }

    async fn feed(&self, scope: &Scope, query: &FeedQuery) -> Result<FeedPage, StorageError> {
        self.call()?;
        self.inner.feed(scope, query).await
    }

    async fn reseal(&self, scope: &Scope, rows: &[Row]) -> Result<usize, StorageError> {
        self.call()?;
        self.inner.reseal(scope, rows).await
    }
}

/// Erases with a fault at one call, then again without; whether the fault was met.
async fn cut_off_at(call: usize, loses_answers: bool) -> bool {
    let left = Arc::new(AtomicUsize::new(NEVER));
    let storage = Faulty {
        inner: MemoryStorage::new(),
        left: left.clone(),
        loses_answers,
    };
    let crm = Crm::builder(storage).build();
    let (acme, session) = tenant(&crm, "acme").await;
    let ada = ada(&session, acme.pipeline).await;
    left.store(call, Ordering::SeqCst);
    let first = session
        .privacy()
        .erase(ada.contact, Erasure::default())
        .await;
    let was_met = left.swap(NEVER, Ordering::SeqCst) == NEVER;
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
    while cut_off_at(commits, true).await {
        commits += 1;
    }
    assert!(commits > 5, "{commits}");
    let mut calls = 0;
    while cut_off_at(calls, false).await {
        calls += 1;
    }
    assert!(calls > 50, "{calls}");
}

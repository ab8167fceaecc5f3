//! The change feed and its first consumer: every event in commit order, once for each consumer,
//! whoever writes, stops or comes late; and webhooks, which are signed, tried again and never sent to
//! an address inside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod consumers;
mod exactly_once;
mod webhooks;

use crate::common;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use crm_engine::audit::{Feed, FeedBatch};
use crm_engine::engine::ManualClock;
use crm_engine::prelude::*;

/// How often a feed is asked before its events count as lost. On PostgreSQL other transactions of
/// the server may hold it up for a moment.
const MOST_ASKED: usize = 60_000;

struct Office {
    crm: Crm,
    clock: Arc<ManualClock>,
    session: Session,
}

impl Office {
    async fn open() -> Self {
        let start: DateTime<Utc> = "2026-03-02T09:00:00Z".parse().unwrap();
        let clock = Arc::new(ManualClock::new(start));
        let crm = Crm::builder(common::backend::storage(&[]))
            .clock(clock.clone())
            .build();
        let (_, session) = common::tenant(&crm, "acme").await;
        Self {
            crm,
            clock,
            session,
        }
    }

    fn pass(&self, time: TimeDelta) {
        self.clock.advance(time);
    }

    async fn account(&self, name: &str) -> Id<Account> {
        let account = self.session.accounts().create(Account::new(name)).await;
        account.unwrap().id
    }

    /// How many events the tenant has.
    async fn events(&self) -> usize {
        let count = self
            .session
            .records::<AuditEvent>()
            .count(Find::new())
            .await;
        usize::try_from(count.unwrap()).unwrap()
    }
}

/// What comes next, once there is something.
async fn next(feed: &Feed<'_>, limit: usize) -> FeedBatch {
    for _ in 0..MOST_ASKED {
        if let Some(batch) = feed.next(limit).await.unwrap() {
            return batch;
        }
        common::pause().await;
    }
    panic!("nothing came from the feed");
}

/// Reads and acknowledges until so many events came.
async fn drain(feed: &Feed<'_>, count: usize) -> Vec<crm_engine::audit::FeedEvent> {
    let mut events = Vec::new();
    while events.len() < count {
        let mut batch = next(feed, 7).await;
        events.append(&mut batch.events);
        feed.acknowledge(batch.until).await.unwrap();
    }
    events
}

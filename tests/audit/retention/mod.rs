//! C-059, C-060: auth events and API calls. C-063, C-065, C-066, C-082, C-105, R-055 to R-061: what
//! is kept for how long, what went, and what a tenant answers for. Reads of sensitive objects are told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test says what went wrong by stopping"
)]

mod anonymized;
mod holds;
mod months;
mod policies;
mod properties;
mod report;
mod streams;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use crm_engine::engine::ManualClock;
use crm_engine::prelude::*;
use crm_engine::privacy::{DeletionLog, RetentionPolicy};

use crate::common::backend;

fn moment(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A CRM whose time stands still until it is set.
fn timed(at: &str) -> (Crm, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(moment(at)));
    let crm = Crm::builder(backend::storage(&[]))
        .clock(clock.clone())
        .build();
    (crm, clock)
}

async fn policy(session: &Session, policy: RetentionPolicy) -> Id<RetentionPolicy> {
    session
        .retention_policies()
        .create(policy)
        .await
        .unwrap()
        .id
}

async fn log(session: &Session) -> Vec<Arc<Record<DeletionLog>>> {
    let find = Find::<DeletionLog>::new().limit(1_000);
    session
        .records::<DeletionLog>()
        .find(find)
        .await
        .unwrap()
        .items
}

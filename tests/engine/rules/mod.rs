//! Every rule between records, by the way a host would meet it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod accounts;
mod contacts;
mod deals;
mod people;
mod pipelines;
mod records;
mod tenants;

use std::sync::Arc;

use crm_engine::engine::ManualClock;
use crm_engine::prelude::*;

use crate::common::backend;

struct World {
    crm: Crm,
    session: Session,
    clock: Arc<ManualClock>,
    onboarded: crm_engine::tenancy::Onboarded,
}

async fn world() -> World {
    let clock = Arc::new(ManualClock::new("2026-01-31T09:00:00Z".parse().unwrap()));
    let crm = Crm::builder(backend::storage(&[]))
        .clock(clock.clone())
        .build();
    let onboarded = crm
        .onboard(Onboarding::new("Acme", "acme", "ada@acme.example"))
        .await
        .unwrap();
    let session = crm.session(onboarded.tenant, Actor::User(onboarded.admin));
    World {
        crm,
        session,
        clock,
        onboarded,
    }
}

impl World {
    /// A deal in the first stage of the default pipeline.
    async fn deal(&self) -> Arc<Record<Deal>> {
        let deal = Deal::new("Rollout", self.onboarded.pipeline);
        self.session.deals().create(deal).await.unwrap()
    }

    /// What a change of a deal is refused for.
    async fn refused(&self, deal: Id<Deal>, change: impl Fn(&mut Deal) + Send + Sync) -> Error {
        self.session.deals().update(deal, change).await.unwrap_err()
    }
}

fn faults(error: &Error) -> Vec<(&str, &str)> {
    error
        .field_errors()
        .iter()
        .map(|error| (error.path.as_str(), error.code))
        .collect()
}

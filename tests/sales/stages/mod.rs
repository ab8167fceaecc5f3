//! C-009 to C-012, R-042, R-044, R-045: the gates of stages, approvals, probabilities in all three
//! modes, times in stages and deals that rot.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod approvals;
mod conditions;
mod gates;
mod probabilities;
mod property;
mod times;

use crate::common;
use std::sync::Arc;

use crm_engine::engine::ManualClock;
use crm_engine::prelude::*;
use crm_engine::tenancy::Onboarded;

/// A tenant with the default pipeline, and time that only moves by hand.
pub(crate) struct World {
    pub(crate) crm: Crm,
    pub(crate) session: Session,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) onboarded: Onboarded,
}

/// The places of the default pipeline.
pub(crate) const PROSPECTING: usize = 0;
pub(crate) const QUALIFICATION: usize = 1;
pub(crate) const PROPOSAL: usize = 2;
pub(crate) const NEGOTIATION: usize = 3;
pub(crate) const WON: usize = 4;
pub(crate) const LOST: usize = 5;

pub(crate) async fn world() -> World {
    let clock = Arc::new(ManualClock::new("2026-01-05T09:00:00Z".parse().unwrap()));
    let crm = Crm::builder(common::backend::storage(&[]))
        .clock(clock.clone())
        .build();
    let (onboarded, session) = common::tenant(&crm, "acme").await;
    World {
        crm,
        session,
        clock,
        onboarded,
    }
}

impl World {
    pub(crate) fn stage(&self, place: usize) -> Id<PipelineStage> {
        self.onboarded.stages[place]
    }

    /// Changes a stage of the default pipeline.
    pub(crate) async fn set(
        &self,
        place: usize,
        change: impl Fn(&mut PipelineStage) + Send + Sync,
    ) {
        let stage = self.stage(place);
        self.session
            .pipelines()
            .update_stage(stage, change)
            .await
            .unwrap();
    }

    pub(crate) async fn keep_order(&self) {
        self.session
            .pipelines()
            .update(self.onboarded.pipeline, |pipeline| {
                pipeline.stage_order_enforced = true;
            })
            .await
            .unwrap();
    }

    pub(crate) fn deal(&self) -> Deal {
        Deal::new("Rollout", self.onboarded.pipeline)
    }

    /// A deal in the first stage.
    pub(crate) async fn new_deal(&self) -> Id<Deal> {
        self.session.deals().create(self.deal()).await.unwrap().id
    }

    pub(crate) async fn move_to(&self, deal: Id<Deal>, place: usize) -> Result<Arc<Record<Deal>>> {
        self.session.deals().move_to(deal, self.stage(place)).await
    }

    /// A session of another user.
    pub(crate) async fn user(&self, name: &str) -> (Id<User>, Session) {
        let email: EmailAddress = format!("{name}@acme.example").parse().unwrap();
        let user = self
            .session
            .users()
            .create(User::new(email))
            .await
            .unwrap()
            .id;
        let session = self.crm.session(self.onboarded.tenant, Actor::User(user));
        (user, session)
    }
}

pub(crate) fn percent(whole: u8) -> Percent {
    Percent::from_whole(whole).unwrap()
}

/// The faulty fields with their codes.
pub(crate) fn faults(error: &Error) -> Vec<(&str, &str)> {
    let errors = error.field_errors().iter();
    errors
        .map(|error| (error.path.as_str(), error.code))
        .collect()
}

//! Activities as a host meets them: how they proceed, who takes part, what they are made from,
//! which list they are on, and what linked records know of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod life_cycle;
mod lists;
mod participants;
mod roll_ups;
mod templates;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use crm_engine::engine::ManualClock;
use crm_engine::prelude::*;

use crate::common::backend;

pub(crate) struct World {
    pub(crate) crm: Crm,
    pub(crate) session: Session,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) owner: Id<User>,
    pub(crate) pipeline: Id<Pipeline>,
    pub(crate) account: Id<Account>,
}

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(crate) async fn world() -> World {
    let clock = Arc::new(ManualClock::new(at("2026-03-02T09:00:00Z")));
    let crm = Crm::builder(backend::storage(&[]))
        .clock(clock.clone())
        .build();
    let onboarding = Onboarding::new("Acme", "acme", "ada@acme.example");
    let acme = crm.onboard(onboarding).await.unwrap();
    let session = crm.session(acme.tenant, Actor::User(acme.admin));
    let account = session.accounts().create(Account::new("Globex")).await;
    World {
        crm,
        session,
        clock,
        owner: acme.admin,
        pipeline: acme.pipeline,
        account: account.unwrap().id,
    }
}

impl World {
    pub(crate) fn activity(&self, kind: ActivityType, subject: &str) -> Activity {
        Activity::new(kind, subject, self.account, self.owner)
    }

    pub(crate) async fn create(&self, activity: Activity) -> Arc<Record<Activity>> {
        self.session.activities().create(activity).await.unwrap()
    }

    pub(crate) async fn contact(&self, first: &str) -> Id<Contact> {
        let contact = Contact::named(first, "Scorpio");
        self.session.contacts().create(contact).await.unwrap().id
    }

    pub(crate) async fn user(&self, email: &str, zone: &str) -> Id<User> {
        let user = User {
            timezone: TimeZone::parse(zone).unwrap(),
            ..User::new(email.parse::<EmailAddress>().unwrap())
        };
        self.session.users().create(user).await.unwrap().id
    }
}

pub(crate) fn faults(error: &Error) -> Vec<(&str, &str)> {
    let faults = error.field_errors().iter();
    faults
        .map(|fault| (fault.path.as_str(), fault.code))
        .collect()
}

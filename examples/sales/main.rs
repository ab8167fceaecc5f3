//! A quarter of sales: a campaign brings leads, leads become deals, deals pass the gates of their
//! stages and are won or lost, and the forecast is compared with what came.
//!
//! `cargo run --example sales` keeps everything in memory, `-- --postgres URL` in a database. The clock
//! is moved by hand, so that a quarter takes a moment.

mod deals;
mod leads;
mod report;
#[path = "../shared/story.rs"]
mod story;

use std::sync::Arc;

use chrono::{NaiveDate, TimeDelta};
use crm_engine::engine::{Clock, ManualClock};
use crm_engine::prelude::*;
use crm_engine::tenancy::Onboarded;

use story::{BoxError, open};

/// What all chapters need.
struct World {
    clock: Arc<ManualClock>,
    session: Session,
    acme: Onboarded,
    reps: Vec<Arc<Record<User>>>,
}

impl World {
    fn name_of(&self, user: Option<Id<User>>) -> &str {
        let rep = self.reps.iter().find(|rep| Some(rep.id) == user);
        let name = rep.and_then(|rep| rep.name.first_name.as_deref());
        name.unwrap_or("nobody")
    }

    /// The stage at this place of the pipeline, from 0.
    fn stage(&self, place: usize) -> Result<Id<PipelineStage>, BoxError> {
        let stage = self.acme.stages.get(place).copied();
        Ok(stage.ok_or("the pipeline has fewer stages")?)
    }

    /// So many days after today.
    fn day(&self, after: i64) -> NaiveDate {
        (self.clock.now() + TimeDelta::days(after)).date_naive()
    }

    fn days_pass(&self, days: i64) {
        self.clock.advance(TimeDelta::days(days));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let clock = Arc::new(ManualClock::new("2026-01-05T09:00:00Z".parse()?));
    let (crm, subdomain) = open("sales", clock.clone()).await?;
    let acme = crm
        .onboard(Onboarding::new("Acme", &subdomain, "ada@acme.example"))
        .await?;
    let session = crm.session(acme.tenant, Actor::User(acme.admin));
    let mut reps = Vec::new();
    for (name, capacity) in [("Bob", 2), ("Cleo", 1)] {
        let rep = User {
            name: PersonName::new(name, "Acme"),
            lead_capacity: Some(capacity),
            ..User::new(EmailAddress::parse(&format!("{name}@acme.example"))?)
        };
        reps.push(session.users().create(rep).await?);
    }
    let world = World {
        clock,
        session,
        acme,
        reps,
    };

    let best = leads::arrive(&world).await?;
    let deal = leads::convert(&world, best).await?;
    deals::fill(&world, deal).await?;
    deals::pass_gates(&world, deal).await?;
    let other = deals::add_others(&world).await?;
    let before = world.clock.now();
    world.days_pass(28);
    deals::close(&world, deal, other).await?;
    report::print(&world, before).await
}

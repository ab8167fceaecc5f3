//! A record through time: who changed what, what it was last week, what a version or a whole commit
//! looked like before, and back again; at last somebody tampers with the log, and it shows.
//!
//! `cargo run --example time_travel` keeps everything in memory, `-- --postgres URL` in a database. The
//! clock is moved by hand, so that a week takes a moment.

mod back;
mod past;
mod seals;
#[path = "../shared/story.rs"]
mod story;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use crm_engine::engine::{Clock, ManualClock, RequestContext};
use crm_engine::prelude::*;
use rust_decimal::Decimal;
use serde_json::json;

use story::{BoxError, open};

/// What all chapters need.
struct World {
    clock: Arc<ManualClock>,
    session: Session,
    account: Id<Account>,
    deal: Id<Deal>,
    /// Before the takeover changed everything.
    before: DateTime<Utc>,
    /// The commit that did.
    takeover: uuid::Uuid,
}

impl World {
    fn days_pass(&self, days: i64) {
        self.clock.advance(TimeDelta::days(days));
    }
}

/// An account with a deal, and the day on which somebody changed all of it.
async fn history(crm: &Crm, subdomain: &str, clock: Arc<ManualClock>) -> Result<World, BoxError> {
    let acme = crm
        .onboard(Onboarding::new("Acme", subdomain, "ada@acme.example"))
        .await?;
    let session = crm
        .session(acme.tenant, Actor::User(acme.admin))
        .with_context(RequestContext {
            ip: Some([203, 0, 113, 7].into()),
            endpoint: Some("POST /accounts".into()),
            ..RequestContext::default()
        });
    let globex = Account {
        industry: Some("nuclear power".into()),
        custom_fields: json!({"region": "north", "segment": "a"}),
        ..Account::new("Globex")
    };
    let account = session.accounts().create(globex).await?.id;
    let rollout = Deal {
        account_id: Some(account),
        amount: Some(Decimal::from(12_000)),
        ..Deal::new("Rollout", acme.pipeline)
    };
    let deal = session.deals().create(rollout).await?.id;
    clock.advance(TimeDelta::days(7));
    let patch = json!({"annual_revenue": "2500000", "tags": ["key account"]});
    let patch = patch.as_object().ok_or("a patch is an object")?;
    let version = session.accounts().get(account).await?.version;
    session.accounts().merge(account, version, patch).await?;
    let before = clock.now();
    clock.advance(TimeDelta::days(7));

    // Somebody took the wrong account for one that was taken over.
    let mut work = session.begin();
    work.accounts()
        .update(account, |account| {
            account.name = "Initech".into();
            account.industry = Some("software".into());
            account.custom_fields = json!({"region": "south", "segment": "b"});
        })
        .await?;
    work.deals()
        .update(deal, |deal| deal.amount = Some(Decimal::from(1)))
        .await?;
    let owner = Account::new("Initech Holding");
    let owner = work.accounts().create(owner).await?.id;
    work.accounts()
        .update(account, |account| account.parent_account_id = Some(owner))
        .await?;
    let takeover = work.commit().await?.id;
    Ok(World {
        clock,
        session,
        account,
        deal,
        before,
        takeover,
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let clock = Arc::new(ManualClock::new("2026-01-05T09:00:00Z".parse()?));
    let (crm, subdomain) = open("time_travel", clock.clone()).await?;
    let world = history(&crm, &subdomain, clock).await?;

    past::trail(&world).await?;
    past::as_of(&world).await?;
    past::differences(&world).await?;
    past::summary(&world).await?;

    back::one_field(&world).await?;
    back::a_commit(&world).await?;
    back::a_version(&world).await?;

    seals::tampered_with(&world).await?;
    Ok(())
}

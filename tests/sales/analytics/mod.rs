//! C-023, C-121, R-162, R-163, R-311, R-384: what deals were at any moment, and what that tells of
//! pipelines.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod figures;
mod naive;
mod states;

use crate::common;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use crm_engine::engine::{Clock, ManualClock};
use crm_engine::prelude::*;
use crm_engine::schema::Row;
use crm_engine::tenancy::Onboarded;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A CRM whose clock the test sets.
struct Office {
    crm: Crm,
    clock: Arc<ManualClock>,
    tenants: AtomicUsize,
}

/// A tenant of it.
struct World {
    session: Session,
    onboarded: Onboarded,
    clock: Arc<ManualClock>,
}

impl Office {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(at("2026-01-01T00:00:00Z")));
        let crm = Crm::builder(common::backend::storage(&[]))
            .clock(clock.clone())
            .build();
        Self {
            crm,
            clock,
            tenants: AtomicUsize::new(0),
        }
    }

    async fn tenant(&self) -> World {
        self.clock.set(at("2026-01-01T00:00:00Z"));
        let number = self.tenants.fetch_add(1, Ordering::Relaxed);
        let (onboarded, session) = common::tenant(&self.crm, &format!("office-{number}")).await;
        World {
            session,
            onboarded,
            clock: self.clock.clone(),
        }
    }
}

impl World {
    async fn new() -> Self {
        Office::new().tenant().await
    }

    fn set(&self, text: &str) {
        self.clock.set(at(text));
    }

    fn stage(&self, place: usize) -> Id<PipelineStage> {
        self.onboarded.stages[place]
    }

    /// A deal in a stage of the default pipeline.
    async fn deal(&self, stage: usize, amount: i64) -> Id<Deal> {
        let deal = Deal {
            stage_id: Some(self.stage(stage)),
            amount: Some(amount.into()),
            owner_id: Some(self.onboarded.admin),
            ..Deal::new("Rollout", self.onboarded.pipeline)
        };
        self.session.deals().create(deal).await.unwrap().id
    }

    async fn move_to(&self, deal: Id<Deal>, stage: usize) {
        let stage = self.stage(stage);
        self.session.deals().move_to(deal, stage).await.unwrap();
    }

    async fn rows(&self, object: &str) -> Vec<Row> {
        common::rows_of(&self.session, object).await
    }

    /// The deals that are not deleted.
    async fn live_deals(&self) -> Vec<Arc<Record<Deal>>> {
        let rows = self.rows("deal").await.into_iter();
        rows.filter(|row| !row.is_deleted())
            .filter_map(Record::from_row)
            .collect()
    }
}

/// One step of a random history: what is done, with which deal, and how many hours later.
type Step = (u8, usize, usize, i64);

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = (
        0..14_u8,
        0..6_usize,
        0..6_usize,
        prop::sample::select(vec![0, 0, 1, 5, 24, 60]),
    );
    prop::collection::vec(step, 1..most)
}

/// Steps that make no sense now are refused, but for no other reason.
fn expect<T>(outcome: Result<T>) {
    if let Err(error) = outcome {
        assert!(
            ["not_found", "not_deleted"].contains(&error.code()),
            "{error:?}"
        );
    }
}

/// Does one step.
async fn take(world: &World, deals: &mut Vec<Id<Deal>>, second: Id<User>, step: Step) {
    let (what, which, arg, hours) = step;
    world.clock.advance(TimeDelta::hours(hours));
    let session = &world.session;
    let known = deals.get(which).copied();
    match (what, known) {
        (0..=1, _) | (_, None) => {
            if deals.len() < 6 {
                deals.push(world.deal(arg, 100 * (arg as i64 + 1)).await);
            }
        }
        (2..=6, Some(deal)) => {
            expect(session.deals().move_to(deal, world.stage(arg)).await);
        }
        (7, Some(deal)) => {
            let change = |deal: &mut Deal| {
                deal.amount = (arg > 0).then_some((arg as i64 * 70).into());
                deal.currency = Currency::parse(["USD", "EUR"][arg % 2]).unwrap();
            };
            expect(session.deals().update(deal, change).await);
        }
        (8, Some(deal)) => {
            let owner = [None, Some(second), Some(world.onboarded.admin)][arg % 3];
            let change = |deal: &mut Deal| deal.owner_id = owner;
            expect(session.deals().update(deal, change).await);
        }
        (9, Some(deal)) => {
            expect(session.deals().archive(deal).await);
        }
        (10, Some(deal)) => {
            expect(session.deals().unarchive(deal).await);
        }
        (11, Some(deal)) => {
            expect(session.deals().delete(deal).await);
        }
        (12, Some(deal)) => {
            expect(session.deals().restore(deal).await);
        }
        (_, Some(deal)) => {
            if arg == 0 {
                expect(session.deals().purge(deal).await);
            } else {
                // Something that no state tells.
                let name = format!("Rollout {arg}");
                let change = |deal: &mut Deal| deal.name = name.clone();
                expect(session.deals().update(deal, change).await);
            }
        }
    }
}

/// A second user of the tenant.
async fn second_user(world: &World) -> Id<User> {
    let user = User::new(EmailAddress::parse("grace@acme.example").unwrap());
    world.session.users().create(user).await.unwrap().id
}

/// Runs a property over random histories, each in a tenant of its own.
fn for_random_histories<P, F>(cases: u32, most: usize, property: P)
where
    P: Fn(World, Vec<Step>) -> F,
    F: Future<Output = Result<(), TestCaseError>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let office = runtime.block_on(async { Office::new() });
    let mut runner = TestRunner::new(Config {
        cases: common::cases(cases),
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&steps(most), |steps| {
        runtime.block_on(async { property(office.tenant().await, steps).await })
    });
    outcome.unwrap();
}

//! Many callers at the same time: nothing is lost, no rule is broken between two of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod common;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use common::{assert_trail_tells_every_record, tenant};
use crm_engine::engine::{IdGenerator, SequentialIds};
use crm_engine::prelude::*;
use tokio::sync::Barrier;
use uuid::Uuid;

/// How often a race is run.
const ROUNDS: usize = 50;

/// Runs futures at the same time, each as a task of its own, all begun at one moment.
async fn race<T, F>(calls: Vec<F>) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let barrier = Arc::new(Barrier::new(calls.len()));
    let tasks: Vec<_> = calls
        .into_iter()
        .map(|call| {
            let barrier = barrier.clone();
            tokio::spawn(async move {
                barrier.wait().await;
                call.await
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

/// an update that lost a race runs again on what the winner wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_updates_of_one_record_lose_nothing() {
    const TASKS: i32 = 16;
    const UPDATES: i32 = 25;
    let (_, session) = tenant(&common::crm(), "acme").await;
    let counter = Account {
        employee_count: Some(0),
        ..Account::new("Counter")
    };
    let id = session.accounts().create(counter).await.unwrap().id;
    let calls = (0..TASKS)
        .map(|_| {
            let session = session.clone();
            async move {
                for _ in 0..UPDATES {
                    let add = |account: &mut Account| {
                        account.employee_count = account.employee_count.map(|count| count + 1);
                    };
                    session.accounts().update(id, add).await.unwrap();
                }
            }
        })
        .collect();
    race(calls).await;
    let counter = session.accounts().get(id).await.unwrap();
    assert_eq!(counter.employee_count, Some(TASKS * UPDATES));
    assert_eq!(counter.version, i64::from(TASKS * UPDATES) + 1);
    assert_trail_tells_every_record(&session).await;
}

/// a change that names the version it saw is a conflict for everybody but one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_changes_to_one_version_one_is_made() {
    let (_, session) = tenant(&common::crm(), "acme").await;
    for round in 0..ROUNDS {
        let id = session
            .accounts()
            .create(Account::new("Contested"))
            .await
            .unwrap()
            .id;
        let calls = (0..4)
            .map(|_| {
                let session = session.clone();
                async move {
                    let count = i32::try_from(round).unwrap();
                    let change = |account: &mut Account| account.employee_count = Some(count);
                    session.accounts().update_version(id, 1, change).await
                }
            })
            .collect();
        let outcomes = race(calls).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for error in outcomes.into_iter().filter_map(Result::err) {
            assert_eq!(error.code(), "conflict");
            assert!(error.is_retryable());
        }
    }
}

/// changes that only together close a cycle of accounts are not all made.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_two_changes_close_a_cycle_of_accounts() {
    let (_, session) = tenant(&common::crm(), "acme").await;
    for size in [2, 3] {
        for _ in 0..ROUNDS {
            let accounts = vec![Account::new("Ring"); size];
            let ring: Vec<_> = session
                .accounts()
                .create_all(accounts)
                .await
                .unwrap()
                .iter()
                .map(|account| account.id)
                .collect();
            let calls = (0..size)
                .map(|place| {
                    let session = session.clone();
                    let (child, parent) = (ring[place], ring[(place + 1) % size]);
                    async move { session.accounts().set_parent(child, Some(parent)).await }
                })
                .collect();
            let outcomes = race(calls).await;
            let errors: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
            assert_eq!(
                errors.len(),
                1,
                "exactly one of {size} changes fails: {errors:?}"
            );
            assert_eq!(errors[0].code(), "cycle");
            for account in &ring {
                assert!(session.accounts().ancestors(*account).await.unwrap().len() < size);
            }
        }
    }
}

/// the same holds of managers and of teams.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_two_changes_close_a_cycle_of_managers_or_teams() {
    let (_, session) = tenant(&common::crm(), "acme").await;
    for round in 0..ROUNDS {
        let email = |who: &str| EmailAddress::parse(&format!("{who}{round}@acme.example")).unwrap();
        let ada = session
            .users()
            .create(User::new(email("ada")))
            .await
            .unwrap()
            .id;
        let bob = session
            .users()
            .create(User::new(email("bob")))
            .await
            .unwrap()
            .id;
        let calls = [(ada, bob), (bob, ada)]
            .map(|(user, manager)| {
                let session = session.clone();
                async move {
                    let change = |user: &mut User| user.manager_id = Some(manager);
                    session.users().update(user, change).await.map(|_| ())
                }
            })
            .into();
        assert_one_cycle(&race(calls).await);

        let east = session
            .teams()
            .create(Team::new(format!("East {round}")))
            .await
            .unwrap()
            .id;
        let west = session
            .teams()
            .create(Team::new(format!("West {round}")))
            .await
            .unwrap()
            .id;
        let calls = [(east, west), (west, east)]
            .map(|(team, parent)| {
                let session = session.clone();
                async move {
                    let change = |team: &mut Team| team.parent_team_id = Some(parent);
                    session.teams().update(team, change).await.map(|_| ())
                }
            })
            .into();
        assert_one_cycle(&race(calls).await);
    }
}

fn assert_one_cycle(outcomes: &[Result<()>]) {
    let codes: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().err())
        .map(Error::code)
        .collect();
    assert_eq!(codes, ["cycle"]);
}

/// a tenant has one default pipeline, however many are made the default at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn there_is_one_default_pipeline_after_a_race() {
    let (_, session) = tenant(&common::crm(), "acme").await;
    let mut pipelines = Vec::new();
    for name in ["North", "South", "West"] {
        pipelines.push(
            session
                .pipelines()
                .create(Pipeline::new(name))
                .await
                .unwrap()
                .id,
        );
    }
    for _ in 0..ROUNDS {
        let calls = pipelines
            .iter()
            .map(|id| {
                let (session, id) = (session.clone(), *id);
                async move { session.pipelines().set_default(id).await }
            })
            .collect();
        for outcome in race(calls).await {
            if let Err(error) = outcome {
                assert_eq!(error.code(), "conflict");
            }
        }
        let defaults = session
            .pipelines()
            .find(Pipeline::IS_DEFAULT.eq(true))
            .await
            .unwrap()
            .items;
        assert_eq!(defaults.len(), 1);
        assert!(pipelines.contains(&defaults[0].id));
    }
    assert_trail_tells_every_record(&session).await;
}

/// the same when new pipelines say of themselves that they are the default.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn new_default_pipelines_leave_one_default() {
    let (_, session) = tenant(&common::crm(), "acme").await;
    for round in 0..ROUNDS {
        let calls = ["North", "South"]
            .map(|name| {
                let session = session.clone();
                let name = format!("{name} {round}");
                async move {
                    let pipeline = Pipeline {
                        is_default: true,
                        ..Pipeline::new(name)
                    };
                    session.pipelines().create(pipeline).await
                }
            })
            .into();
        for outcome in race(calls).await {
            outcome.unwrap();
        }
        assert_eq!(
            session
                .pipelines()
                .count(Pipeline::IS_DEFAULT.eq(true))
                .await
                .unwrap(),
            1
        );
    }
}

/// of contacts with the same e-mail address, in whatever case, one is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_contacts_with_one_address_one_is_made() {
    let (_, session) = tenant(&common::crm(), "acme").await;
    for round in 0..ROUNDS {
        let calls = ["hank", "HANK", "Hank"]
            .map(|name| {
                let session = session.clone();
                let email = EmailAddress::parse(&format!("{name}{round}@globex.example")).unwrap();
                async move {
                    let contact = Contact {
                        email: Some(email),
                        ..Contact::named("Hank", name)
                    };
                    session.contacts().create(contact).await
                }
            })
            .into();
        let outcomes = race(calls).await;
        let codes: Vec<_> = outcomes
            .iter()
            .filter_map(|outcome| outcome.as_ref().err())
            .map(Error::code)
            .collect();
        assert_eq!(codes, ["duplicate"; 2]);
    }
    assert_eq!(
        session.contacts().count(Find::new()).await.unwrap(),
        ROUNDS as u64
    );
    assert_trail_tells_every_record(&session).await;
}

/// stages that are added at the same time get places of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stages_added_at_once_get_different_places() {
    let (acme, session) = tenant(&common::crm(), "acme").await;
    let pipeline = acme.pipeline;
    let calls = (0..12)
        .map(|number| {
            let session = session.clone();
            async move {
                let stage = PipelineStage::new(pipeline, format!("Added {number}"), 1_u32);
                session
                    .pipelines()
                    .add_stage(stage)
                    .await
                    .unwrap()
                    .stage_order
            }
        })
        .collect();
    let orders: BTreeSet<u32> = race(calls).await.into_iter().collect();
    assert_eq!(orders.len(), 12);
    let stages = session.pipelines().stages(pipeline).await.unwrap();
    let orders: Vec<_> = stages.iter().map(|stage| stage.stage_order).collect();
    assert_eq!(orders, (1..=18).collect::<Vec<u32>>());
}

/// a user is in a team once, however often added at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_user_added_twice_at_once_is_one_member() {
    let (acme, session) = tenant(&common::crm(), "acme").await;
    for round in 0..ROUNDS {
        let team = session
            .teams()
            .create(Team::new(format!("Team {round}")))
            .await
            .unwrap()
            .id;
        let calls = [TeamRole::Lead, TeamRole::Admin, TeamRole::Member]
            .map(|role| {
                let (session, user) = (session.clone(), acme.admin);
                async move {
                    session
                        .teams()
                        .add_member(team, user, role)
                        .await
                        .unwrap()
                        .id
                }
            })
            .into();
        let members: BTreeSet<_> = race(calls).await.into_iter().collect();
        assert_eq!(members.len(), 1);
        assert_eq!(session.teams().members(team).await.unwrap().len(), 1);
    }
}

/// Makes ids and keeps them, so that a test finds what was begun under any of them.
#[derive(Debug)]
struct KeptIds {
    ids: SequentialIds,
    made: Mutex<Vec<Uuid>>,
}

impl Default for KeptIds {
    fn default() -> Self {
        Self {
            ids: SequentialIds::new(9),
            made: Mutex::default(),
        }
    }
}

impl IdGenerator for KeptIds {
    fn next(&self, now: DateTime<Utc>) -> Uuid {
        let id = self.ids.next(now);
        self.made.lock().unwrap().push(id);
        id
    }
}

/// of tenants with one subdomain one comes in, whole; of the others nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_tenants_with_one_subdomain_one_comes_in() {
    for _ in 0..ROUNDS {
        let ids = Arc::new(KeptIds::default());
        let crm = Crm::builder(common::backend::storage(&[]))
            .ids(ids.clone())
            .build();
        let calls = ["acme", "ACME", "Acme"]
            .map(|subdomain| {
                let crm = crm.clone();
                async move {
                    crm.onboard(Onboarding::new(subdomain, subdomain, "ada@acme.example"))
                        .await
                }
            })
            .into();
        let mut winner = None;
        for outcome in race(calls).await {
            match outcome {
                Ok(onboarded) => assert!(winner.replace(onboarded).is_none(), "two came in"),
                Err(error) => assert_eq!(error.code(), "duplicate"),
            }
        }
        let winner = winner.unwrap();
        let tenant = crm.tenant_by_subdomain("acme").await.unwrap();
        assert_eq!(tenant.id, winner.tenant);
        let made = ids.made.lock().unwrap().clone();
        for id in made {
            let session = crm.session(Id::new(id), Actor::System);
            let rows: usize = common::picture(&session).await.values().map(Vec::len).sum();
            if id == winner.tenant.uuid() {
                assert_trail_tells_every_record(&session).await;
                assert_eq!(
                    rows, 24,
                    "tenant, user, pipeline, 6 stages, 3 settings, 12 events"
                );
            } else {
                assert_eq!(rows, 0, "half a tenant is left");
            }
        }
    }
}

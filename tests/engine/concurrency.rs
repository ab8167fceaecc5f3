//! Many callers at the same time: nothing is lost, no rule is broken between two of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::{assert_trail_tells_every_record, race, tenant};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use crm_engine::engine::{CommitHook, IdGenerator, SequentialIds, StagedChange};
use crm_engine::prelude::*;
use uuid::Uuid;

/// How often a race is run.
const ROUNDS: usize = 50;

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
    let ids = Arc::new(KeptIds::default());
    let crm = Crm::builder(common::backend::storage(&[]))
        .ids(ids.clone())
        .build();
    for round in 0..ROUNDS / 5 {
        let calls = ["acme", "ACME", "Acme"]
            .map(|name| {
                let (crm, subdomain) = (crm.clone(), format!("{name}-{round}"));
                async move {
                    crm.onboard(Onboarding::new(name, &subdomain, "ada@acme.example"))
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
        let subdomain = format!("acme-{round}");
        let tenant = crm.tenant_by_subdomain(&subdomain).await.unwrap();
        assert_eq!(tenant.id, winner.tenant);
        let session = crm.session(winner.tenant, Actor::System);
        let mut picture = common::picture(&session).await;
        picture.retain(|_, rows| !rows.is_empty());
        let rows: usize = picture.values().map(Vec::len).sum();
        assert_eq!(
            rows, 24,
            "tenant, user, pipeline, 6 stages, 3 settings, 12 events"
        );
        assert_trail_tells_every_record(&session).await;
        let made = std::mem::take(&mut *ids.made.lock().unwrap());
        for id in made {
            if id == winner.tenant.uuid() {
                continue;
            }
            let session = crm.session(Id::new(id), Actor::System);
            for object in picture.keys() {
                let rows = common::rows_of(&session, object).await;
                assert_eq!(rows.len(), 0, "half a tenant is left");
            }
        }
    }
}

/// Checks that no record that is not deleted refers to one that is, or to none.
async fn assert_no_reference_to_a_deleted_record(session: &Session) {
    let mut live = BTreeSet::new();
    let mut references = Vec::new();
    for object in common::writable_objects(session) {
        for row in common::rows_of(session, object.name()).await {
            if row.is_deleted() {
                continue;
            }
            live.insert((object.name().to_owned(), row.id()));
            for index in object.references() {
                let field = &object.fields()[*index];
                let target = field.reference().unwrap().0.to_owned();
                if let Some(id) = row.value(*index).as_uuid() {
                    let from = format!("{} {}.{}", object.name(), row.id(), field.name);
                    references.push((from, (target, id)));
                }
            }
        }
    }
    for (from, target) in references {
        assert!(
            live.contains(&target),
            "{from} leads to a deleted {target:?}"
        );
    }
}

/// Says that a call did its work, or that it came too late for the record that it refers to.
fn came_in_time(outcome: Result<()>) -> bool {
    match outcome {
        Ok(()) => true,
        Err(Error::Validation(error)) => {
            let codes: Vec<_> = error.errors().iter().map(|error| error.code).collect();
            assert_eq!(codes, ["not_found"], "{error}");
            false
        }
        Err(error) => panic!("neither done nor refused for the deleted record: {error:?}"),
    }
}

/// contacts, deals and activities that appear while their account is deleted are as
/// those that were there before, or are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_refers_to_an_account_that_was_deleted_meanwhile() {
    let (acme, session) = tenant(&common::crm(), "acme").await;
    let (admin, pipeline) = (acme.admin, acme.pipeline);
    for round in 0..ROUNDS {
        let account = session.accounts().create(Account::new("Globex")).await;
        let account = account.unwrap().id;
        let there = Contact {
            account_id: Some(account),
            ..Contact::named("Ada", "Lovelace")
        };
        let there = session.contacts().create(there).await.unwrap().id;
        let moved = Contact::named("Grace", "Hopper");
        let moved = session.contacts().create(moved).await.unwrap().id;
        let hidden = Contact {
            account_id: Some(account),
            ..Contact::named("Hank", "Scorpio")
        };
        let hidden = session.contacts().create(hidden).await.unwrap().id;
        session.contacts().delete(hidden).await.unwrap();
        let calls = (0..7)
            .map(|call| {
                let session = session.clone();
                async move {
                    match call {
                        0 => session.accounts().delete(account).await,
                        1 => {
                            let contact = Contact {
                                account_id: Some(account),
                                ..Contact::named("Lin", "Chen")
                            };
                            session.contacts().create(contact).await.map(drop)
                        }
                        2 => {
                            let deal = Deal {
                                account_id: Some(account),
                                ..Deal::new("Rollout", pipeline)
                            };
                            session.deals().create(deal).await.map(drop)
                        }
                        3 => {
                            let call = Activity::new(ActivityType::Call, "Ask", account, admin);
                            session.activities().create(call).await.map(drop)
                        }
                        4 => {
                            let change = |own: &mut Contact| own.account_id = Some(account);
                            session.contacts().update(moved, change).await.map(drop)
                        }
                        5 => session.contacts().restore(hidden).await.map(drop),
                        _ => {
                            let child = Account {
                                parent_account_id: Some(account),
                                ..Account::new("Globex Labs")
                            };
                            session.accounts().create(child).await.map(drop)
                        }
                    }
                }
            })
            .collect();
        let mut outcomes = race(calls).await.into_iter();
        outcomes.next().unwrap().unwrap();
        for outcome in outcomes {
            came_in_time(outcome);
        }
        assert_eq!(
            session.contacts().get(there).await.unwrap().account_id,
            None
        );
        if round % 10 == 9 {
            assert_no_reference_to_a_deleted_record(&session).await;
        }
    }
    assert_no_reference_to_a_deleted_record(&session).await;
    assert_trail_tells_every_record(&session).await;
}

/// of a team that is deleted and a user who is added to it, no membership is left; a user
/// who is given an activity meanwhile stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_refers_to_a_team_or_user_that_was_deleted_meanwhile() {
    let (acme, session) = tenant(&common::crm(), "acme").await;
    let account = session.accounts().create(Account::new("Globex")).await;
    let account = account.unwrap().id;
    for round in 0..ROUNDS {
        let team = Team::new(format!("Team {round}"));
        let team = session.teams().create(team).await.unwrap().id;
        let email = format!("u{round}@acme.example");
        let user = User::new(EmailAddress::parse(&email).unwrap());
        let user = session.users().create(user).await.unwrap().id;
        let calls = (0..4)
            .map(|call| {
                let (session, admin) = (session.clone(), acme.admin);
                async move {
                    let role = TeamRole::Member;
                    match call {
                        0 => session.teams().delete(team).await,
                        1 => session.users().delete(user).await,
                        2 => {
                            let member = session.teams().add_member(team, admin, role).await;
                            member.map(drop)
                        }
                        _ => {
                            let call = Activity::new(ActivityType::Call, "Ask", account, user);
                            session.activities().create(call).await.map(drop)
                        }
                    }
                }
            })
            .collect();
        let outcomes = race(calls).await;
        let [team_gone, user_gone, member, activity] = <[_; 4]>::try_from(outcomes).unwrap();
        team_gone.unwrap();
        came_in_time(member);
        let user_stays = came_in_time(activity);
        match user_gone {
            Ok(()) => assert!(
                !user_stays,
                "round {round}: the owner of an activity is gone"
            ),
            Err(error) => {
                assert_eq!(error.code(), "referenced");
                assert!(user_stays, "round {round}: nothing holds the user");
            }
        }
        assert!(session.teams().members(team).await.unwrap().is_empty());
    }
    assert_no_reference_to_a_deleted_record(&session).await;
    assert_trail_tells_every_record(&session).await;
}

/// What appears while something is deleted.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    /// A contact of the deleted account.
    Contact,
    /// An activity that belongs to nothing but the deleted account.
    ActivityOfAccount(Id<User>),
    /// A membership in the deleted team.
    Member(Id<User>),
    /// An activity of the deleted user.
    ActivityOfUser(Id<Account>),
}

/// Lets something appear between the decision about a deletion and its commit.
#[derive(Debug)]
struct Meanwhile {
    arrival: Mutex<Option<Arrival>>,
    /// How often it appears.
    times: AtomicUsize,
}

impl Meanwhile {
    fn crm(retries: u32) -> (Crm, Arc<Self>) {
        let own = Arc::new(Self {
            arrival: Mutex::new(None),
            times: AtomicUsize::new(0),
        });
        let crm = Crm::builder(common::backend::storage(&[]))
            .hook(Interrupter(own.clone()))
            .retries(retries)
            .build();
        (crm, own)
    }

    fn expect(&self, arrival: Arrival, times: usize) {
        *self.arrival.lock().unwrap() = Some(arrival);
        self.times.store(times, Ordering::SeqCst);
    }
}

/// The hook of [`Meanwhile`].
#[derive(Debug)]
struct Interrupter(Arc<Meanwhile>);

#[async_trait]
impl CommitHook for Interrupter {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let is_deletion = |change: &&StagedChange| {
            let is_live = change.before().is_some_and(|row| !row.is_deleted());
            is_live && change.after().is_some_and(|row| row.is_deleted())
        };
        let Some(deleted) = work
            .staged()
            .iter()
            .rfind(is_deletion)
            .map(StagedChange::id)
        else {
            return Ok(());
        };
        let arrival = *self.0.arrival.lock().unwrap();
        let down = |times: usize| times.checked_sub(1);
        let comes = self
            .0
            .times
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, down);
        let (Some(arrival), Ok(_)) = (arrival, comes) else {
            return Ok(());
        };
        let session = work.session().clone();
        let call = |links: Id<Account>, user| Activity::new(ActivityType::Call, "Ask", links, user);
        match arrival {
            Arrival::Contact => {
                let contact = Contact {
                    account_id: Some(Id::new(deleted)),
                    ..Contact::named("Hank", "Scorpio")
                };
                session.contacts().create(contact).await?;
            }
            Arrival::ActivityOfAccount(user) => {
                let call = call(Id::new(deleted), user);
                session.activities().create(call).await?;
            }
            Arrival::Member(user) => {
                let (team, role) = (Id::new(deleted), TeamRole::Member);
                session.teams().add_member(team, user, role).await?;
            }
            Arrival::ActivityOfUser(account) => {
                let call = call(account, Id::new(deleted));
                session.activities().create(call).await?;
            }
        }
        Ok(())
    }
}

/// a deletion runs again when something appears that refers to what it deletes, and
/// treats that like the rest: it loses the reference, goes too, or forbids the deletion.
#[tokio::test]
async fn a_deletion_runs_again_for_what_appears_meanwhile() {
    let (crm, meanwhile) = Meanwhile::crm(3);
    let (acme, session) = tenant(&crm, "acme").await;
    let account = session.accounts().create(Account::new("Globex")).await;
    let account = account.unwrap().id;

    meanwhile.expect(Arrival::Contact, 2);
    session.accounts().delete(account).await.unwrap();
    let contacts = session.contacts().find(Find::new()).await.unwrap().items;
    assert_eq!(contacts.len(), 2);
    for contact in &contacts {
        assert_eq!((contact.account_id, contact.version), (None, 2));
    }

    let account = session.accounts().create(Account::new("Initech")).await;
    let account = account.unwrap().id;
    meanwhile.expect(Arrival::ActivityOfAccount(acme.admin), 1);
    session.accounts().delete(account).await.unwrap();
    assert_eq!(session.activities().count(Find::new()).await.unwrap(), 0);
    let all = Find::new().with_deleted();
    assert_eq!(session.activities().count(all).await.unwrap(), 1);

    let team = session.teams().create(Team::new("Field")).await.unwrap().id;
    meanwhile.expect(Arrival::Member(acme.admin), 1);
    session.teams().delete(team).await.unwrap();
    assert!(session.teams().members(team).await.unwrap().is_empty());

    let account = session.accounts().create(Account::new("Umbrella")).await;
    let account = account.unwrap().id;
    let user = User::new(EmailAddress::parse("bob@acme.example").unwrap());
    let user = session.users().create(user).await.unwrap().id;
    meanwhile.expect(Arrival::ActivityOfUser(account), 1);
    let error = session.users().delete(user).await.unwrap_err();
    assert_eq!(error.code(), "referenced");
    assert_eq!(session.users().get(user).await.unwrap().version, 1);

    assert_no_reference_to_a_deleted_record(&session).await;
    assert_trail_tells_every_record(&session).await;
}

/// a deletion that never gets its turn is a conflict, and nothing of it is written.
#[tokio::test]
async fn a_deletion_gives_up_when_something_always_appears() {
    let (crm, meanwhile) = Meanwhile::crm(3);
    let (_, session) = tenant(&crm, "acme").await;
    let account = session.accounts().create(Account::new("Globex")).await;
    let account = account.unwrap().id;
    meanwhile.expect(Arrival::Contact, usize::MAX);
    let error = session.accounts().delete(account).await.unwrap_err();
    assert_eq!(error.code(), "conflict");
    assert!(error.is_retryable());
    assert_eq!(session.accounts().get(account).await.unwrap().version, 1);
    let contacts = session.contacts().find(Find::new()).await.unwrap().items;
    assert_eq!(contacts.len(), 4, "one for each attempt");
    for contact in &contacts {
        assert_eq!((contact.account_id, contact.version), (Some(account), 1));
    }
    assert_trail_tells_every_record(&session).await;
}

/// a unit of work of the host does not run again by itself: it is told.
#[tokio::test]
async fn a_unit_of_work_that_deletes_is_told_of_what_appeared() {
    let (_, session) = tenant(&common::crm(), "acme").await;
    let account = session.accounts().create(Account::new("Globex")).await;
    let account = account.unwrap().id;
    let contact = || Contact {
        account_id: Some(account),
        ..Contact::named("Hank", "Scorpio")
    };
    let (mut first, mut second) = (session.begin(), session.begin());
    for work in [&mut first, &mut second] {
        work.accounts()
            .create(Account::new("Beside"))
            .await
            .unwrap();
        work.accounts().delete(account).await.unwrap();
    }
    let late = session.contacts().create(contact()).await.unwrap().id;
    let Error::Conflict { object, id } = first.commit().await.unwrap_err() else {
        panic!("the deletion went past a new contact");
    };
    assert_eq!((object.as_str(), id), ("account", account.uuid()));
    assert_eq!(session.accounts().count(Find::new()).await.unwrap(), 1);
    // One that came and went again is in nobody's way.
    session.contacts().delete(late).await.unwrap();
    second.commit().await.unwrap();
    assert_eq!(session.accounts().count(Find::new()).await.unwrap(), 1);
    assert_no_reference_to_a_deleted_record(&session).await;

    // What a unit of work takes back is no deletion.
    let mut work = session.begin();
    let beside = session.accounts().find(Find::new()).await.unwrap().items;
    work.accounts().delete(beside[0].id).await.unwrap();
    work.accounts().restore(beside[0].id).await.unwrap();
    let contact = Contact {
        account_id: Some(beside[0].id),
        ..contact()
    };
    session.contacts().create(contact).await.unwrap();
    work.commit().await.unwrap();
    assert_trail_tells_every_record(&session).await;
}

/// A unit of work that writes a reference again that its own deletion emptied is at fault
/// itself, and no repetition mends it.
#[tokio::test]
async fn a_unit_of_work_does_not_refer_to_what_it_deletes() {
    let (_, session) = tenant(&common::crm(), "acme").await;
    let account = session.accounts().create(Account::new("Globex")).await;
    let account = account.unwrap().id;
    let contact = Contact {
        account_id: Some(account),
        ..Contact::named("Hank", "Scorpio")
    };
    let contact = session.contacts().create(contact).await.unwrap().id;
    let mut work = session.begin();
    work.accounts().delete(account).await.unwrap();
    let again = |own: &mut Contact| own.account_id = Some(account);
    work.contacts().update(contact, again).await.unwrap();
    let Error::Validation(error) = work.commit().await.unwrap_err() else {
        panic!("a contact refers to a deleted account");
    };
    let faults: Vec<_> = error
        .errors()
        .iter()
        .map(|error| (error.path.as_str(), error.code))
        .collect();
    assert_eq!(faults, [("account_id", "not_found")]);
    assert!(session.accounts().get(account).await.is_ok());
    assert_no_reference_to_a_deleted_record(&session).await;
}

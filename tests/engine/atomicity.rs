//! The storage fails at every call in turn, before it did anything or after it did everything:
//! what is stored is then exactly what it was before the call of the host, or after it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use crate::common::storage::{Call, Faulty, Mode, Watch, Watched};
use std::sync::Arc;

use crate::common::{Picture, assert_trail_tells_every_record, picture};
use async_trait::async_trait;
use crm_engine::MemoryStorage;
use crm_engine::engine::{IdGenerator, ManualClock, SequentialIds};
use crm_engine::prelude::*;
use crm_engine::schema::Row;
use crm_engine::storage::{Scope, Storage, StorageError};
use crm_engine::tenancy::Onboarded;
use serde_json::json;

/// The steps of the scenario; each is one commit.
const STEPS: usize = 18;

/// What the steps hand on to each other.
#[derive(Default)]
struct Made {
    acme: Option<Onboarded>,
    account: Option<Id<Account>>,
    child: Option<Id<Account>>,
    contact: Option<Id<Contact>>,
    deal: Option<Id<Deal>>,
    activity: Option<Id<Activity>>,
    team: Option<Id<Team>>,
    stage: Option<Id<PipelineStage>>,
    pipeline: Option<Id<Pipeline>>,
}

impl Made {
    async fn step(&mut self, crm: &Crm, number: usize) -> Result<()> {
        if number == 0 {
            let onboarding = Onboarding::new("Acme", "acme", "ada@acme.example");
            self.acme = Some(crm.onboard(onboarding).await?);
            return Ok(());
        }
        let acme = self.acme.clone().unwrap();
        let session = crm.session(acme.tenant, Actor::User(acme.admin));
        match number {
            1 => {
                let mut work = session.begin();
                let account = work.accounts().create(Account::new("Globex")).await?;
                let child = Account {
                    parent_account_id: Some(account.id),
                    ..Account::new("Globex Labs")
                };
                let child = work.accounts().create(child).await?;
                let contact = Contact {
                    account_id: Some(account.id),
                    ..Contact::named("Hank", "Scorpio")
                };
                let contact = work.contacts().create(contact).await?;
                work.commit().await?;
                self.account = Some(account.id);
                self.child = Some(child.id);
                self.contact = Some(contact.id);
            }
            2 => {
                let deal = Deal {
                    account_id: self.account,
                    contact_id: self.contact,
                    amount: Some(12_000.into()),
                    ..Deal::new("Rollout", acme.pipeline)
                };
                self.deal = Some(session.deals().create(deal).await?.id);
            }
            3 => {
                let deal = self.deal.unwrap();
                let call = Activity::new(ActivityType::Call, "Ask", deal, acme.admin);
                self.activity = Some(session.activities().schedule(call).await?.id);
            }
            4 => {
                session
                    .deals()
                    .move_to(self.deal.unwrap(), acme.stages[2])
                    .await?;
            }
            5 => {
                let stage = acme.stages[2];
                let change = |stage: &mut PipelineStage| {
                    stage.default_probability = Percent::from_whole(60).unwrap_or_default();
                };
                session.pipelines().update_stage(stage, change).await?;
            }
            6 => {
                let stage = PipelineStage::new(acme.pipeline, "Legal", 1_u32);
                self.stage = Some(session.pipelines().add_stage(stage).await?.id);
            }
            7 => {
                session
                    .deals()
                    .move_with_note(self.deal.unwrap(), self.stage.unwrap(), "x")
                    .await?;
            }
            8 => {
                let target = Some(acme.stages[1]);
                session
                    .pipelines()
                    .delete_stage(self.stage.unwrap(), target)
                    .await?;
            }
            9 => {
                let mut order = acme.stages.clone();
                order.reverse();
                session
                    .pipelines()
                    .reorder_stages(acme.pipeline, &order)
                    .await?;
            }
            10 => {
                let pipeline = Pipeline {
                    is_default: true,
                    ..Pipeline::new("Second")
                };
                self.pipeline = Some(session.pipelines().create(pipeline).await?.id);
            }
            11 => {
                session.deals().win(self.deal.unwrap()).await?;
            }
            12 => {
                let team = session.teams().create(Team::new("Field")).await?;
                self.team = Some(team.id);
                session
                    .teams()
                    .add_member(team.id, acme.admin, TeamRole::Lead)
                    .await?;
            }
            13 => session.teams().delete(self.team.unwrap()).await?,
            14 => session.accounts().delete(self.account.unwrap()).await?,
            15 => {
                session.accounts().restore(self.account.unwrap()).await?;
                session
                    .accounts()
                    .set_parent(self.child.unwrap(), self.account)
                    .await?;
            }
            16 => {
                session
                    .configurations()
                    .set(ConfigCategory::General, "greeting", &json!("hello"))
                    .await?;
            }
            17 => {
                session.deals().delete(self.deal.unwrap()).await?;
                session.deals().purge(self.deal.unwrap()).await?;
            }
            _ => panic!("there is no step {number}"),
        }
        Ok(())
    }
}

/// A CRM whose every run is the same: the clock stands still and ids count up.
fn crm_over(storage: impl Storage) -> Crm {
    let clock = ManualClock::new("2026-01-31T09:00:00Z".parse().unwrap());
    Crm::builder(storage)
        .clock(Arc::new(clock))
        .ids(Arc::new(SequentialIds::new(7)))
        .object::<common::Property>()
        .build()
}

/// The tenant that the scenario makes: ids are predictable.
fn session_of_acme(storage: &MemoryStorage) -> Session {
    let crm = crm_over(storage.clone());
    let tenant = SequentialIds::new(7).next(crm.clock().now());
    crm.session(Id::new(tenant), Actor::System)
}

/// The commits of the scenario without a fault: a picture before the first and after each.
async fn commits_without_faults() -> Vec<Picture> {
    /// Takes a picture after each commit.
    #[derive(Debug)]
    struct Pictures(MemoryStorage, tokio::sync::mpsc::UnboundedSender<Picture>);

    #[async_trait]
    impl Watch for Pictures {
        async fn ends(
            &self,
            _: &Scope,
            call: Call<'_>,
            _: &[Row],
        ) -> std::result::Result<(), StorageError> {
            if call.is_commit() {
                let picture = picture(&session_of_acme(&self.0)).await;
                self.1.send(picture).unwrap();
            }
            Ok(())
        }
    }

    let storage = MemoryStorage::new();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let mut pictures = vec![picture(&session_of_acme(&storage)).await];
    let crm = crm_over(Watched::over(storage.clone(), Pictures(storage, sender)));
    let mut made = Made::default();
    for number in 0..STEPS {
        made.step(&crm, number)
            .await
            .expect("the scenario passes without faults");
        while let Ok(picture) = receiver.try_recv() {
            pictures.push(picture);
        }
    }
    pictures
}

/// Runs the scenario with one failing call after the other until it passes.
async fn fail_every_call(mode: Mode) {
    let wanted = commits_without_faults().await;
    for fails in 0..10_000 {
        let storage = MemoryStorage::new();
        let faulty = Watched::over(storage.clone(), Faulty::new(mode, |_| true));
        faulty.watch.fail_after(fails);
        let crm = crm_over(faulty.clone());
        let mut made = Made::default();
        let mut outcome = Ok(());
        for number in 0..STEPS {
            outcome = made.step(&crm, number).await;
            if outcome.is_err() {
                break;
            }
        }
        let session = session_of_acme(&storage);
        let stored = picture(&session).await;
        assert_trail_tells_every_record(&session).await;
        match outcome {
            Ok(()) => {
                assert!(!faulty.watch.was_met(), "a failed call was not noticed");
                assert_eq!(Some(&stored), wanted.last());
                assert!(fails > 60, "the scenario makes only {fails} calls");
                return;
            }
            Err(error) => {
                assert_eq!(error.code(), "storage", "call {fails}");
                assert!(error.is_retryable(), "call {fails}");
                let whole = wanted.contains(&stored);
                assert!(
                    whole,
                    "{mode:?}: after call {fails} failed, a part of a commit is stored"
                );
            }
        }
    }
    panic!("the scenario never passes");
}

/// C-057, R-074: a commit that fails leaves nothing, neither records nor events.
#[tokio::test]
async fn a_call_that_fails_leaves_no_part_of_a_commit() {
    fail_every_call(Mode::Before).await;
}

/// C-057, R-074: a commit whose answer is lost is there with every record and every event.
#[tokio::test]
async fn a_call_whose_answer_is_lost_leaves_whole_commits() {
    fail_every_call(Mode::LostAnswer).await;
}

/// C-057: a unit of work that is dropped, or fails, writes nothing.
#[tokio::test]
async fn a_unit_of_work_without_commit_writes_nothing() {
    let crm = common::crm();
    let acme = common::populate(&crm, "acme").await;
    let before = picture(&acme.session).await;

    let mut work = acme.session.begin();
    work.accounts()
        .create(Account::new("Dropped"))
        .await
        .unwrap();
    work.deals().win(acme.deal).await.unwrap();
    work.contacts().delete(acme.contact).await.unwrap();
    drop(work);
    assert!(before == picture(&acme.session).await);

    let mut work = acme.session.begin();
    work.accounts()
        .create(Account::new("Refused"))
        .await
        .unwrap();
    let hank = acme.session.contacts().get(acme.contact).await.unwrap();
    let twin = Contact {
        email: hank.email.clone(),
        ..Contact::named("Hank", "Twin")
    };
    work.contacts().create(twin).await.unwrap();
    assert_eq!(work.commit().await.unwrap_err().code(), "duplicate");
    assert!(before == picture(&acme.session).await);
}

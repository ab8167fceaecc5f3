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
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{Picture, assert_trail_tells_every_record, picture};
use async_trait::async_trait;
use crm_engine::MemoryStorage;
use crm_engine::engine::{IdGenerator, ManualClock, SequentialIds};
use crm_engine::prelude::*;
use crm_engine::query::{AggregateQuery, Group, Query};
use crm_engine::schema::{ObjectRef, Row};
use crm_engine::storage::{
    ChangeSet, Claim, Committed, FeedPage, FeedQuery, Scope, Storage, StorageError,
};
use crm_engine::tenancy::Onboarded;
use serde_json::json;
use uuid::Uuid;

/// When the storage fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Before the call does anything.
    Before,
    /// After the call did everything: only its answer is lost.
    LostAnswer,
}

/// Fails one call, by its number, and passes all others on.
#[derive(Debug)]
struct Faulty {
    inner: MemoryStorage,
    mode: Mode,
    fails: usize,
    calls: Arc<AtomicUsize>,
}

impl Faulty {
    fn begins(&self) -> (bool, Result<(), StorageError>) {
        let fails = self.calls.fetch_add(1, Ordering::SeqCst) == self.fails;
        (
            fails,
            if fails && self.mode == Mode::Before {
                Err(unavailable())
            } else {
                Ok(())
            },
        )
    }

    fn ends<T>(fails: bool, outcome: Result<T, StorageError>) -> Result<T, StorageError> {
        if fails { Err(unavailable()) } else { outcome }
    }
}

fn unavailable() -> StorageError {
    StorageError::Unavailable(Box::new(io::Error::other("the line is dead")))
}

#[async_trait]
impl Storage for Faulty {
    async fn get(
        &self,
        scope: &Scope,
        object: &ObjectRef,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, StorageError> {
        let (fails, begun) = self.begins();
        begun?;
        Self::ends(fails, self.inner.get(scope, object, ids).await)
    }

    async fn select(&self, scope: &Scope, query: &Query) -> Result<Vec<Row>, StorageError> {
        let (fails, begun) = self.begins();
        begun?;
        Self::ends(fails, self.inner.select(scope, query).await)
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        query: &AggregateQuery,
    ) -> Result<Vec<Group>, StorageError> {
        let (fails, begun) = self.begins();
        begun?;
        Self::ends(fails, self.inner.aggregate(scope, query).await)
    }

    async fn commit(&self, scope: &Scope, changes: &ChangeSet) -> Result<Committed, StorageError> {
        let (fails, begun) = self.begins();
        begun?;
        Self::ends(fails, self.inner.commit(scope, changes).await)
    }

    async fn claim(&self, scope: &Scope, claim: &Claim) -> Result<Vec<Row>, StorageError> {
        let (fails, begun) = self.begins();
        begun?;
        Self::ends(fails, self.inner.claim(scope, claim).await)
    }

    async fn feed(&self, scope: &Scope, query: &FeedQuery) -> Result<FeedPage, StorageError> {
        let (fails, begun) = self.begins();
        begun?;
        Self::ends(fails, self.inner.feed(scope, query).await)
    }

    async fn reseal(&self, scope: &Scope, rows: &[Row]) -> Result<usize, StorageError> {
        let (fails, begun) = self.begins();
        begun?;
        Self::ends(fails, self.inner.reseal(scope, rows).await)
    }
}

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
    struct Watched(MemoryStorage, tokio::sync::mpsc::UnboundedSender<Picture>);

    #[async_trait]
    impl Storage for Watched {
        async fn get(
            &self,
            scope: &Scope,
            object: &ObjectRef,
            ids: &[Uuid],
        ) -> Result<Vec<Row>, StorageError> {
            self.0.get(scope, object, ids).await
        }

        async fn select(&self, scope: &Scope, query: &Query) -> Result<Vec<Row>, StorageError> {
            self.0.select(scope, query).await
        }

        async fn aggregate(
            &self,
            scope: &Scope,
            query: &AggregateQuery,
        ) -> Result<Vec<Group>, StorageError> {
            self.0.aggregate(scope, query).await
        }

        async fn commit(
            &self,
            scope: &Scope,
            changes: &ChangeSet,
        ) -> Result<Committed, StorageError> {
            let committed = self.0.commit(scope, changes).await?;
            self.1
                .send(picture(&session_of_acme(&self.0)).await)
                .unwrap();
            Ok(committed)
        }

        async fn claim(&self, scope: &Scope, claim: &Claim) -> Result<Vec<Row>, StorageError> {
            self.0.claim(scope, claim).await
        }

        async fn feed(&self, scope: &Scope, query: &FeedQuery) -> Result<FeedPage, StorageError> {
            self.0.feed(scope, query).await
        }

        async fn reseal(&self, scope: &Scope, rows: &[Row]) -> Result<usize, StorageError> {
            self.0.reseal(scope, rows).await
        }
    }

    let storage = MemoryStorage::new();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let mut pictures = vec![picture(&session_of_acme(&storage)).await];
    let crm = crm_over(Watched(storage, sender));
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
        let calls = Arc::new(AtomicUsize::new(0));
        let faulty = Faulty {
            inner: storage.clone(),
            mode,
            fails,
            calls: calls.clone(),
        };
        let crm = crm_over(faulty);
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
                assert!(
                    calls.load(Ordering::SeqCst) <= fails,
                    "a failed call was not noticed"
                );
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

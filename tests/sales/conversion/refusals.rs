//! What is refused, and conversions that fail or race.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use crm_engine::engine::{Write, WriteRule};
use crm_engine::error::RuleViolation;
use crm_engine::leads::{ConversionDeal, ConversionPlan};
use crm_engine::prelude::*;
use uuid::Uuid;

use super::{bill, email, faults, lead, scene, state};
use crate::common::{backend, rows_of, tenant};

/// a lead is converted once; who tries again is told what it became.
#[tokio::test]
async fn converting_twice_names_the_records() {
    let (_, session) = scene().await;
    let id = lead(&session, bill()).await;
    let plan = ConversionPlan::with_deal("Rollout");
    let done = session.leads().convert(id, plan.clone()).await.unwrap();
    let error = session.leads().convert(id, plan).await.unwrap_err();
    assert_eq!(error.code(), "already_converted");
    let Error::AlreadyConverted(before) = error else {
        panic!("{error}")
    };
    assert_eq!(before.lead, id);
    assert_eq!(before.contact, Some(done.contact));
    assert_eq!((before.account, before.deal), (done.account, done.deal));
}

/// C-006, R-033: who may be converted, and that every fault of all records is told at once.
#[tokio::test]
async fn what_is_refused_is_told_at_once() {
    let (_, session) = scene().await;
    for status in [
        LeadStatus::Disqualified,
        LeadStatus::Lost,
        LeadStatus::Archived,
    ] {
        let id = lead(
            &session,
            Lead {
                status,
                email: None,
                ..bill()
            },
        )
        .await;
        let error = session
            .leads()
            .convert(id, ConversionPlan::new())
            .await
            .unwrap_err();
        assert_eq!(error.code(), "not_convertible", "{status}");
    }
    let nobody = Lead {
        company: Some("Initech".into()),
        ..Lead::default()
    };
    let id = lead(&session, nobody).await;
    let before = state(&session).await;
    let ghost = Uuid::from_u128(7);
    let plan = ConversionPlan::with_deal(ConversionDeal {
        amount: Some((-5).into()),
        ..ConversionDeal::new("")
    });
    let error = session.leads().convert(id, plan.clone()).await.unwrap_err();
    let told = faults(&error);
    for fault in [
        ("contact.first_name", "required"),
        ("contact.last_name", "required"),
        ("deal.amount", "out_of_range"),
    ] {
        assert!(told.contains(&fault), "{fault:?} in {told:?}");
    }
    assert!(
        told.iter().any(|(path, _)| *path == "deal.name"),
        "{told:?}"
    );
    let plan = ConversionPlan::new()
        .into_contact(Id::new(ghost))
        .into_account(Id::new(ghost));
    let error = session.leads().convert(id, plan).await.unwrap_err();
    assert_eq!(
        faults(&error),
        [("contact_id", "not_found"), ("account_id", "not_found")]
    );
    assert_eq!(state(&session).await, before, "nothing is written");
}

/// Refuses deals while it is switched on.
#[derive(Debug)]
struct NoDeals(Arc<AtomicBool>);

#[async_trait]
impl WriteRule for NoDeals {
    fn object(&self) -> &'static str {
        "lead"
    }

    async fn before_write(&self, _work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let converts = write
            .after::<Lead>()
            .is_some_and(|lead| lead.conversion.is_some());
        if converts && self.0.load(Ordering::SeqCst) {
            return Err(RuleViolation::new("closed", "house rule", "not today").into());
        }
        Ok(())
    }
}

/// C-006: a conversion that fails at its end leaves nothing, in a unit of work neither.
#[tokio::test]
async fn a_conversion_that_fails_leaves_nothing() {
    let closed = Arc::new(AtomicBool::new(true));
    let crm = Crm::builder(backend::storage(&[]))
        .rule(NoDeals(closed.clone()))
        .build();
    let (acme, session) = tenant(&crm, "acme").await;
    let id = lead(&session, bill()).await;
    let call = Activity::new(ActivityType::Call, "Call", id, acme.admin);
    session.activities().create(call).await.unwrap();
    let before = state(&session).await;
    let plan = ConversionPlan::with_deal("Rollout");
    let error = session.leads().convert(id, plan.clone()).await.unwrap_err();
    assert_eq!(error.code(), "closed");
    assert_eq!(state(&session).await, before);
    assert_eq!(rows_of(&session, "lead_conversion").await.len(), 0);

    let mut work = session.begin();
    work.accounts().create(Account::new("Kept")).await.unwrap();
    assert!(work.leads().convert(id, plan.clone()).await.is_err());
    assert_eq!(
        work.staged()
            .iter()
            .filter(|change| change.after().is_some())
            .count(),
        1
    );
    work.commit().await.unwrap();
    let after = state(&session).await;
    assert_eq!(after.len(), before.len() + 1);

    closed.store(false, Ordering::SeqCst);
    let mut work = session.begin();
    let done = work.leads().convert(id, plan).await.unwrap();
    work.deals().win(done.deal.unwrap()).await.unwrap();
    work.commit().await.unwrap();
    let deal = session.deals().get(done.deal.unwrap()).await.unwrap();
    assert_eq!(deal.status, DealStatus::Won);
}

/// of several conversions at the same time exactly one is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_conversions_at_the_same_time_one_wins() {
    let (_, session) = scene().await;
    for round in 0..5 {
        let address = format!("bill{round}@initech.example");
        let id = lead(
            &session,
            Lead {
                email: email(&address),
                ..bill()
            },
        )
        .await;
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let session = session.clone();
                tokio::spawn(async move {
                    let plan = ConversionPlan::with_deal("Rollout");
                    session.leads().convert(id, plan).await
                })
            })
            .collect();
        let mut won = Vec::new();
        let mut told = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Ok(done) => won.push(done),
                Err(Error::AlreadyConverted(before)) => told.push(before),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((won.len(), told.len()), (1, 3));
        assert!(
            told.iter()
                .all(|before| before.contact == Some(won[0].contact))
        );
        let contacts = session
            .contacts()
            .count(Contact::EMAIL.eq(email(&address).unwrap()))
            .await;
        assert_eq!(contacts.unwrap(), 1);
        assert_eq!(session.deals().count(Find::new()).await.unwrap(), round + 1);
    }
}

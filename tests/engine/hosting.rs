//! What a host can hang into the engine: rules, hooks, clock and ids.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::common::backend;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use crm_engine::engine::{CommitHook, ManualClock, SequentialIds, Write, WriteRule};
use crm_engine::error::{Faults, RuleViolation, codes};
use crm_engine::prelude::*;
use crm_engine::tenancy::Onboarded;

/// A tenant, and a session of its first user.
async fn acme(crm: &Crm) -> (Onboarded, Session) {
    let acme = crm
        .onboard(Onboarding::new("Acme", "acme", "ada@acme.example"))
        .await
        .unwrap();
    let session = crm.session(acme.tenant, Actor::User(acme.admin));
    (acme, session)
}

/// A rule of the host: competitors are not accepted as accounts.
#[derive(Debug)]
struct NoCompetitors;

#[async_trait]
impl WriteRule for NoCompetitors {
    fn object(&self) -> &'static str {
        "account"
    }

    async fn before_write(&self, _work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        if write
            .after::<Account>()
            .is_some_and(|a| a.account_type == AccountType::Competitor)
        {
            let faults: &mut Faults = write.faults();
            faults.add("account_type", codes::NOT_AN_OPTION, "is not accepted here");
        }
        Ok(())
    }
}

/// A hook of the host: counts commits, refuses large ones.
#[derive(Debug)]
struct Counter(Arc<AtomicUsize>);

#[async_trait]
impl CommitHook for Counter {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        if work.staged().len() > 10 {
            return Err(RuleViolation::new("too_much", "house rule", "ten changes at most").into());
        }
        Ok(())
    }
}

#[tokio::test]
async fn hosts_add_rules_and_hooks() {
    let commits = Arc::new(AtomicUsize::new(0));
    let crm = Crm::builder(backend::storage(&[]))
        .rule(NoCompetitors)
        .hook(Counter(commits.clone()))
        .retries(3)
        .build();
    // Onboarding makes eleven records: too much for this house.
    let onboarding = Onboarding::new("Acme", "acme", "ada@acme.example");
    assert_eq!(
        crm.onboard(onboarding).await.unwrap_err().code(),
        "too_much"
    );
    assert_eq!(
        crm.tenant_by_subdomain("acme").await.unwrap_err().code(),
        "not_found"
    );
    assert_eq!(commits.load(Ordering::SeqCst), 1);

    let tenant = Id::new(uuid::Uuid::from_u128(1));
    let session = crm.session(tenant, Actor::System);
    let competitor = Account {
        account_type: AccountType::Competitor,
        ..Account::new("")
    };
    let error = session.accounts().create(competitor).await.unwrap_err();
    let codes: Vec<_> = error
        .field_errors()
        .iter()
        .map(|e| e.path.as_str())
        .collect();
    assert_eq!(
        codes,
        ["account_type", "name"],
        "all faults are told together"
    );
}

/// The same run twice makes the same ids, times and events.
#[tokio::test]
async fn runs_are_repeatable() {
    async fn run() -> String {
        let clock = ManualClock::new("2026-01-31T09:00:00.123456Z".parse().unwrap());
        let crm = Crm::builder(backend::storage(&[]))
            .clock(Arc::new(clock))
            .ids(Arc::new(SequentialIds::new(1)))
            .build();
        let (acme, session) = acme(&crm).await;
        let deal = session
            .deals()
            .create(Deal::new("Rollout", acme.pipeline))
            .await
            .unwrap();
        session.deals().win(deal.id).await.unwrap();
        let events = session.audit().find(Find::new().limit(100)).await.unwrap();
        serde_json::to_string(
            &events
                .items
                .iter()
                .map(|e| (**e).clone())
                .collect::<Vec<_>>(),
        )
        .unwrap()
    }
    assert_eq!(run().await, run().await);
}

/// What a caller sees of personal data in logs: nothing.
#[tokio::test]
async fn debug_output_and_errors_hold_no_personal_data() {
    let crm = Crm::builder(backend::storage(&[])).build();
    let (_, session) = acme(&crm).await;
    let contact = Contact {
        email: Some("hank@globex.example".parse().unwrap()),
        phone: Some("+49 30 123456".parse().unwrap()),
        job_title: Some("Supervillain".into()),
        ..Contact::named("Hank", "Scorpio")
    };
    let record = session.contacts().create(contact.clone()).await.unwrap();
    let duplicate = session
        .contacts()
        .create(contact.clone())
        .await
        .unwrap_err();
    let find = Find::from(Contact::JOB_TITLE.eq("Supervillain"));
    let page = session
        .contacts()
        .find(find.clone().limit(1))
        .await
        .unwrap();
    let events = session.audit().trail(record.id).await.unwrap();
    let work = session.begin();
    let all = format!(
        "{contact:?} {record:?} {duplicate:?} {duplicate} {find:?} {page:?} {events:?} {work:?}"
    );
    for secret in ["Hank", "Scorpio", "hank@", "123456", "Supervillain"] {
        assert!(!all.contains(secret), "{secret} shows in: {all}");
    }
    drop(work);
}

/// What rules stage goes with the write that they belong to: a refused one leaves nothing in a unit
/// of work that goes on.
#[tokio::test]
async fn a_refused_write_leaves_nothing_of_what_rules_staged() {
    let crm = Crm::builder(backend::storage(&[])).build();
    let (acme, session) = acme(&crm).await;
    // Few changes are searched, many are indexed.
    for others in [1, 12] {
        let mut work = session.begin();
        for number in 0..others {
            let account = Account::new(format!("Globex {others} {number}"));
            work.accounts().create(account).await.unwrap();
        }
        let kept = work
            .deals()
            .create(Deal::new("Rollout", acme.pipeline))
            .await
            .unwrap();
        let too_long = Deal::new("x".repeat(300), acme.pipeline);
        work.deals().create(too_long).await.unwrap_err();
        let too_much = rust_decimal::Decimal::MAX;
        work.deals()
            .update(kept.id, |deal| {
                deal.stage_id = Some(acme.stages[1]);
                deal.amount = Some(too_much);
            })
            .await
            .unwrap_err();
        work.accounts()
            .create(Account::new(format!("Initech {others}")))
            .await
            .unwrap();
        work.commit().await.unwrap();

        let kept = session.deals().get(kept.id).await.unwrap();
        assert_eq!(kept.stage_id, Some(acme.stages[0]));
        let history = session.deals().history(kept.id).await.unwrap();
        assert_eq!(history.len(), 1);
        let all = session.records::<DealStageChange>();
        let entries = all.count(Find::new()).await.unwrap();
        assert_eq!(entries, if others == 1 { 1 } else { 2 });
    }
}

/// a record that was read is changed without being read again, unless it changed meanwhile.
#[tokio::test]
async fn a_record_is_changed_as_it_was_read() {
    let crm = Crm::builder(backend::storage(&[])).build();
    let (_, session) = acme(&crm).await;
    let read = session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap();
    let rename = |name: &'static str| move |account: &mut Account| account.name = name.to_owned();
    let renamed = session
        .accounts()
        .update_record(&read, rename("Globex AG"))
        .await
        .unwrap();
    assert_eq!((renamed.version, &*renamed.name), (2, "Globex AG"));

    // From the old version: a conflict, and nothing is written.
    let error = session
        .accounts()
        .update_record(&read, rename("Initech"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");

    // In a unit of work, what was staged before counts.
    let mut work = session.begin();
    let staged = work
        .accounts()
        .update_record(&renamed, rename("Globex SE"))
        .await
        .unwrap();
    let error = work.accounts().update_record(&renamed, rename("x")).await;
    assert!(matches!(error, Err(Error::Conflict { .. })));
    work.accounts()
        .update_record(&staged, rename("Globex SA"))
        .await
        .unwrap();
    work.commit().await.unwrap();
    let now = session.accounts().get(read.id).await.unwrap();
    assert_eq!((now.version, &*now.name), (3, "Globex SA"));

    // Another tenant's record is not there.
    let other = crm
        .onboard(Onboarding::new("Other", "other", "eve@other.example"))
        .await
        .unwrap();
    let other = crm.session(other.tenant, Actor::User(other.admin));
    let error = other
        .accounts()
        .update_record(&now, rename("mine"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");

    session.accounts().delete(read.id).await.unwrap();
    let error = session
        .accounts()
        .update_record(&now, rename("gone"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

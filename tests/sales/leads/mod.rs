//! Leads: their life cycle, who gets them, and the campaigns that brought
//! them (C-208).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod assignment;
mod campaigns;
mod life_cycle;
mod races;

use crate::common;
use std::future::Future;
use std::sync::Arc;

use crm_engine::prelude::*;
use crm_engine::tenancy::Onboarded;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

pub(crate) async fn session() -> Session {
    common::tenant(&common::crm(), "acme").await.1
}

/// A lead that is only a company.
pub(crate) fn company(name: &str) -> Lead {
    Lead {
        company: Some(name.into()),
        ..Lead::default()
    }
}

/// A lead, as stored.
pub(crate) async fn lead(session: &Session, lead: Lead) -> Arc<Record<Lead>> {
    session.leads().create(lead).await.unwrap()
}

/// A user with a capacity.
pub(crate) async fn user(session: &Session, name: &str, capacity: Option<u32>) -> Id<User> {
    let email = EmailAddress::parse(&format!("{name}@acme.example")).unwrap();
    let user = User {
        lead_capacity: capacity,
        ..User::new(email)
    };
    session.users().create(user).await.unwrap().id
}

/// Runs cases one after the other, each in a tenant of its own of the same CRM.
pub(crate) fn cases<T, R>(
    count: u32,
    crm: impl FnOnce() -> Crm,
    strategy: impl Strategy<Value = T>,
    run: impl Fn(Onboarded, Session, T) -> R,
) where
    T: std::fmt::Debug,
    R: Future<Output = Result<(), TestCaseError>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let crm = runtime.block_on(async { crm() });
    let number = std::sync::atomic::AtomicUsize::new(0);
    let mut runner = TestRunner::new(Config {
        cases: common::cases(count),
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&strategy, |case| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        runtime.block_on(async {
            let (onboarded, session) = common::tenant(&crm, &format!("case-{number}")).await;
            run(onboarded, session, case).await
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

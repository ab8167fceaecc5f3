//! Legal holds that are set while a run is under way.

use std::sync::Arc;

use crm_engine::engine::{CommitHook, ManualClock, UnitOfWork};
use crm_engine::prelude::*;
use crm_engine::privacy::{DeletionMethod, LegalHold, RetentionPolicy};
use crm_engine::query::Criteria;
use uuid::Uuid;

use super::{moment, policy};
use crate::common::{backend, tenant};

/// Sets a hold while the first commit of a run is under way.
#[derive(Clone, Debug, Default)]
struct HoldsMeanwhile {
    held: Arc<std::sync::Mutex<Option<LegalHold>>>,
}

#[async_trait::async_trait]
impl CommitHook for HoldsMeanwhile {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let goes = |change: &crm_engine::engine::StagedChange| {
            change.object().name() == "contact"
                && change.after().is_none_or(|after| after.is_deleted())
        };
        if !work.staged().iter().any(goes) {
            return Ok(());
        }
        let hold = self.held.lock().unwrap().take();
        if let Some(hold) = hold {
            work.session().legal_holds().create(hold).await?;
        }
        Ok(())
    }
}

/// a hold that is set while a run is deciding keeps what it holds.
#[tokio::test]
async fn a_hold_set_meanwhile_is_kept() {
    let later = HoldsMeanwhile::default();
    let clock = Arc::new(ManualClock::new(moment("2020-01-01T00:00:00Z")));
    let crm = Crm::builder(backend::storage(&[]))
        .clock(clock.clone())
        .hook(later.clone())
        .build();
    let (_, session) = tenant(&crm, "acme").await;
    let mut ids = Vec::new();
    for name in ["Ada", "Bob", "Cleo", "Dora"] {
        let contact = Contact {
            job_title: Some(name.into()),
            ..Contact::named(name, "Example")
        };
        ids.push(session.contacts().create(contact).await.unwrap().id);
    }
    clock.set(moment("2022-01-01T00:00:00Z"));
    let of_one = LegalHold {
        record_id: Some(ids[1].uuid()),
        ..LegalHold::new("lawsuit", "contact")
    };
    let of_some = LegalHold {
        criteria: Some(Criteria::from(Contact::JOB_TITLE.eq("Cleo"))),
        ..LegalHold::new("audit", "contact")
    };
    let first = policy(
        &session,
        RetentionPolicy::new("contacts", "contact", DeletionMethod::SoftDelete, 1),
    )
    .await;
    *later.held.lock().unwrap() = Some(of_one);
    let done = session.retention().run(first, &()).await.unwrap();
    let went = [ids[0].uuid(), ids[2].uuid(), ids[3].uuid()];
    assert_eq!(done.first, went);
    assert_eq!(done.refusals[0].id, ids[1].uuid());
    let held = session.contacts().get(ids[1]).await.unwrap();
    assert!(held.deleted_at.is_none());
    // The same where records go for good, and the hold names none.
    let second = policy(
        &session,
        RetentionPolicy::new("gone", "contact", DeletionMethod::HardDelete, 1),
    )
    .await;
    *later.held.lock().unwrap() = Some(of_some);
    let done = session.retention().run(second, &()).await.unwrap();
    assert_eq!(done.first, [ids[0].uuid(), ids[3].uuid()]);
    let refused: Vec<Uuid> = done.refusals.iter().map(|one| one.id).collect();
    assert_eq!(refused, [ids[1].uuid(), ids[2].uuid()]);
}

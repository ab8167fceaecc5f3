//! What legal holds keep from an erasure (R-059, Article 17 (3) (e) of the GDPR).

use std::sync::{Arc, Mutex};

use crm_engine::Crm;
use crm_engine::audit::Erasure;
use crm_engine::engine::{CommitHook, UnitOfWork};
use crm_engine::prelude::*;
use crm_engine::privacy::LegalHold;
use crm_engine::query::Criteria;

use super::ada;
use crate::common::{backend, crm, rows_of, tenant};

async fn set(session: &Session, hold: LegalHold) -> Id<LegalHold> {
    session.legal_holds().create(hold).await.unwrap().id
}

/// Every value and event that is stored of contacts, deals and activities.
async fn state(session: &Session) -> Vec<String> {
    let mut state = Vec::new();
    for object in ["contact", "deal", "activity", "consent", "audit_event"] {
        for row in rows_of(session, object).await {
            state.push(serde_json::to_string(&row.to_json()).unwrap());
        }
    }
    state
}

/// A hold on the person, or on what tells of the person, refuses the erasure by name, and nothing is
/// touched; lifted, or with its object left out, the erasure goes on.
#[tokio::test]
async fn what_is_held_is_not_erased() {
    let crm = crm();
    let (acme, session) = tenant(&crm, "acme").await;
    let ada = ada(&session, acme.pipeline).await;
    let of_ada = LegalHold {
        record_id: Some(ada.contact.uuid()),
        ..LegalHold::new("lawsuit", "contact")
    };
    let of_ada = set(&session, of_ada).await;
    let of_deals = LegalHold {
        criteria: Some(Criteria::from(Deal::AMOUNT.ge(100))),
        ..LegalHold::new("tax audit", "deal")
    };
    let of_deals = set(&session, of_deals).await;
    // Those of others, and those that hold no more, are in nobody's way.
    let other = LegalHold {
        record_id: Some(acme.admin.uuid()),
        ..LegalHold::new("another lawsuit", "contact")
    };
    set(&session, other).await;
    let over = LegalHold {
        record_id: Some(ada.call.uuid()),
        is_active: false,
        ..LegalHold::new("former lawsuit", "activity")
    };
    set(&session, over).await;

    let before = state(&session).await;
    let refused = async |erasure: Erasure| {
        let refused = session.privacy().erase(ada.contact, erasure).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), "legal_hold");
        refused.to_string()
    };
    let told = refused(Erasure::default()).await;
    assert!(told.contains(&of_ada.to_string()), "{told}");
    assert!(told.contains(&of_deals.to_string()), "{told}");
    assert!(!told.contains("lawsuit") && !told.contains("Ada"), "{told}");
    // The person's own records are never retained.
    let told = refused(Erasure::default().retaining("deal").retaining("contact")).await;
    assert!(told.contains(&of_ada.to_string()) && !told.contains(&of_deals.to_string()));
    assert_eq!(state(&session).await, before);
    assert!(rows_of(&session, "deletion_log").await.is_empty());

    session
        .legal_holds()
        .update(of_ada, |hold| hold.is_active = false)
        .await
        .unwrap();
    refused(Erasure::default()).await;
    let erasure = Erasure::default().retaining("deal");
    let report = session.privacy().erase(ada.contact, erasure).await;
    let report = report.unwrap();
    assert!(report.is_complete);
    assert_eq!(report.retained, [EntityRef::from(ada.deal)]);
    let deal = session.deals().get(ada.deal).await.unwrap();
    assert_eq!(deal.name, "Engine for Ada");
    session
        .legal_holds()
        .update(of_deals, |hold| hold.is_active = false)
        .await
        .unwrap();
    let privacy = session.privacy();
    let report = privacy.erase(ada.contact, Erasure::default()).await;
    assert!(report.unwrap().is_complete);
    let deal = session.deals().get(ada.deal).await.unwrap();
    assert_eq!(deal.name, "[erased]");
}

/// Sets a hold while the commit that empties the person is under way.
#[derive(Clone, Debug, Default)]
struct HoldsMeanwhile(Arc<Mutex<Option<LegalHold>>>);

#[async_trait::async_trait]
impl CommitHook for HoldsMeanwhile {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let mut staged = work.staged().iter();
        if !staged.any(|change| change.object().name() == "contact" && work.is_erasure()) {
            return Ok(());
        }
        let hold = self.0.lock().unwrap().take();
        if let Some(hold) = hold {
            work.session().legal_holds().create(hold).await?;
        }
        Ok(())
    }
}

/// A hold that is set while the erasure is under way keeps what it holds.
#[tokio::test]
async fn a_hold_set_meanwhile_ends_an_erasure() {
    let later = HoldsMeanwhile::default();
    let crm = Crm::builder(backend::storage(&[]))
        .hook(later.clone())
        .build();
    let (acme, session) = tenant(&crm, "acme").await;
    let ada = ada(&session, acme.pipeline).await;
    let hold = LegalHold {
        record_id: Some(ada.contact.uuid()),
        ..LegalHold::new("lawsuit", "contact")
    };
    *later.0.lock().unwrap() = Some(hold);
    let refused = session
        .privacy()
        .erase(ada.contact, Erasure::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "legal_hold");
    let kept = session.contacts().get(ada.contact).await.unwrap();
    assert_eq!(kept.name.last_name.as_deref(), Some("Lovelace"));
}

//! C-064, R-026: what a person allowed and withdrew goes with the person through conversion and merges.

use chrono::{DateTime, Utc};
use crm_engine::leads::ConversionPlan;
use crm_engine::prelude::*;
use crm_engine::privacy::{Consent, ConsentEvidence, ConsentSubject, Grant, Withdrawal};
use crm_engine::value::ApiName;

use super::{bill, consent, lead, merge, scene, state};

fn purpose() -> ApiName {
    "marketing_email".parse().unwrap()
}

fn day(text: &str) -> DateTime<Utc> {
    format!("{text}T00:00:00Z").parse().unwrap()
}

/// A consent of former times, which is over where it is said when.
async fn former(
    session: &Session,
    of: impl Into<ConsentSubject>,
    granted: &str,
    expires: Option<&str>,
) -> Id<Consent> {
    let grant = Grant {
        granted_at: Some(day(granted)),
        expires_at: expires.map(day),
        ..Grant::new(purpose(), ConsentEvidence::default())
    };
    session.consents().grant(of, grant).await.unwrap().id
}

async fn contact(session: &Session, last: &str) -> Id<Contact> {
    let contact = Contact::named("Bill", last);
    session.contacts().create(contact).await.unwrap().id
}

async fn holds(session: &Session, of: impl Into<ConsentSubject>) -> bool {
    let consents = session.consents();
    consents.has_consent(of, &purpose()).await.unwrap()
}

async fn counts(session: &Session, id: Id<Consent>) -> bool {
    session.consents().get(id).await.unwrap().is_active
}

async fn withdraw(session: &Session, of: impl Into<ConsentSubject>) -> Result<Id<Consent>, Error> {
    let withdrawal = Withdrawal::default();
    let mut consents = session.consents();
    let withdrawn = consents.withdraw(of, &purpose(), withdrawal).await?;
    Ok(withdrawn.id)
}

/// A consent of the contact that is over, or older, gives way to that of the lead, and is back when the
/// conversion is undone.
#[tokio::test]
async fn a_consent_that_is_over_gives_way_in_a_conversion() {
    for expires in [Some("2025-01-01"), None] {
        let (_, session) = scene().await;
        let id = lead(&session, bill()).await;
        let bill = contact(&session, "Lumbergh").await;
        let old = former(&session, bill, "2024-01-01", expires).await;
        let fresh = former(&session, id, "2026-01-01", None).await;
        let before = state(&session).await;
        let plan = ConversionPlan::new().into_contact(bill);
        session.leads().convert(id, plan).await.unwrap();
        assert!(holds(&session, bill).await);
        assert!(counts(&session, fresh).await && !counts(&session, old).await);
        session.leads().undo_conversion(id).await.unwrap();
        assert!(state(&session).await == before, "undone, all is as it was");
    }
}

/// One that holds is not given up for a later one that is over.
#[tokio::test]
async fn a_consent_that_holds_counts() {
    let (_, session) = scene().await;
    let id = lead(&session, bill()).await;
    let bill = contact(&session, "Lumbergh").await;
    let own = former(&session, bill, "2024-01-01", None).await;
    let over = former(&session, id, "2025-01-01", Some("2025-06-01")).await;
    let plan = ConversionPlan::new().into_contact(bill);
    session.leads().convert(id, plan).await.unwrap();
    assert!(holds(&session, bill).await);
    assert!(counts(&session, own).await && !counts(&session, over).await);
}

/// The same in a merge of several, and in its undoing.
#[tokio::test]
async fn a_consent_that_is_over_gives_way_in_a_merge() {
    let (_, session) = scene().await;
    let survivor = contact(&session, "Lumbergh").await;
    let second = contact(&session, "Lumberg").await;
    let third = contact(&session, "Lumburgh").await;
    let old = former(&session, survivor, "2024-01-01", Some("2025-01-01")).await;
    let less_old = former(&session, second, "2024-06-01", Some("2025-06-01")).await;
    let fresh = former(&session, third, "2026-01-01", None).await;
    let before = state(&session).await;
    let merged = session
        .contacts()
        .merge_into(survivor, &[second, third], &Default::default(), None)
        .await
        .unwrap();
    assert!(holds(&session, survivor).await);
    let mut counting = Vec::new();
    for id in [old, less_old, fresh] {
        let stored = session.consents().get(id).await.unwrap();
        assert_eq!(stored.contact_id, Some(survivor));
        counting.push(stored.is_active);
    }
    assert_eq!(counting, [false, false, true]);
    for merge in merged.merges.into_iter().rev() {
        session.merges().undo(merge).await.unwrap();
    }
    let mut after = state(&session).await;
    after.retain(|(object, _), _| object != "merge");
    assert!(after == before, "a merge and its undoing change nothing");

    // What was given since the merge goes on counting.
    let merge = merge(&session, survivor, third).await;
    let again = consent(&session, survivor).await;
    session.merges().undo(merge).await.unwrap();
    assert!(counts(&session, again).await && !counts(&session, old).await);
    assert!(!counts(&session, fresh).await);
    assert!(holds(&session, survivor).await && !holds(&session, third).await);

    let plan = ConversionPlan::new().into_contact(third);
    let id = lead(&session, bill()).await;
    former(&session, id, "2026-02-01", None).await;
    session.leads().convert(id, plan).await.unwrap();
    let again = consent(&session, third).await;
    session.leads().undo_conversion(id).await.unwrap();
    assert!(counts(&session, again).await && holds(&session, third).await);
}

/// a link that was sent to the lead, or to the contact that was merged away, withdraws what the
/// person allowed, and who asks by it is answered for the person.
#[tokio::test]
async fn a_withdrawal_by_a_former_id_reaches_the_person() {
    let (_, session) = scene().await;
    let id = lead(&session, bill()).await;
    let given = consent(&session, id).await;
    let mut leads = session.leads();
    let converted = leads.convert(id, ConversionPlan::new()).await;
    let first = converted.unwrap().contact;
    let survivor = contact(&session, "Lumbergh").await;
    merge(&session, survivor, first).await;
    let nobody = contact(&session, "Nobody").await;
    assert!(!holds(&session, nobody).await);
    assert_eq!(
        withdraw(&session, nobody).await.unwrap_err().code(),
        "not_found"
    );
    assert!(holds(&session, id).await && holds(&session, first).await);
    assert!(holds(&session, survivor).await);
    let history = session.consents().history(id, Find::new()).await.unwrap();
    assert_eq!(history.items.len(), 1);

    assert_eq!(withdraw(&session, first).await.unwrap(), given);
    for of in [ConsentSubject::from(id), first.into(), survivor.into()] {
        assert!(!holds(&session, of).await, "{of:?}");
    }
    // Given again by the lead's id it is the person's, and withdrawn by it.
    let again = consent(&session, id).await;
    let stored = session.consents().get(again).await.unwrap();
    assert_eq!((stored.contact_id, stored.lead_id), (Some(survivor), None));
    assert_eq!(withdraw(&session, id).await.unwrap(), again);
    assert!(!holds(&session, survivor).await);

    // In one commit with what made it so.
    let mut work = session.begin();
    let of_lead = work.leads().create(bill()).await.unwrap().id;
    let grant = Grant::new(purpose(), ConsentEvidence::default());
    work.consents().grant(of_lead, grant).await.unwrap();
    let plan = ConversionPlan::new().into_contact(survivor);
    work.leads().convert(of_lead, plan).await.unwrap();
    assert!(
        work.consents()
            .has_consent(of_lead, &purpose())
            .await
            .unwrap()
    );
    work.consents()
        .withdraw(of_lead, &purpose(), Withdrawal::default())
        .await
        .unwrap();
    work.commit().await.unwrap();
    assert!(!holds(&session, survivor).await);
}

//! Conversions that are undone.

use crm_engine::leads::{ConversionInUse, ConversionPlan, UndoObstacleReason};
use crm_engine::prelude::*;

use super::{bill, lead, merge, scene, state};
use crate::common;

async fn in_use(session: &Session, id: Id<Lead>) -> Box<ConversionInUse> {
    match session.leads().undo_conversion(id).await {
        Err(Error::ConversionInUse(in_use)) => in_use,
        other => panic!("{other:?}"),
    }
}

/// Undoing is refused while something depends on what the conversion made, and tells all that does.
#[tokio::test]
async fn what_stands_in_the_way_of_undoing_is_told() {
    let (acme, session) = scene().await;
    let id = lead(&session, bill()).await;
    let error = session.leads().undo_conversion(id).await.unwrap_err();
    assert_eq!(error.code(), "not_converted");
    let done = session
        .leads()
        .convert(id, ConversionPlan::with_deal("Rollout"))
        .await
        .unwrap();
    let deal = done.deal.unwrap();
    let call = Activity::new(ActivityType::Call, "Call", done.contact, acme.admin);
    let call = session.activities().create(call).await.unwrap();
    session
        .deals()
        .update(deal, |deal| deal.amount = Some(5.into()))
        .await
        .unwrap();
    let twin = session
        .accounts()
        .create(Account::new("Initech Ltd."))
        .await
        .unwrap();
    let account = done.account.unwrap();
    let merge = merge(&session, account, twin.id).await;
    let before = state(&session).await;
    let found = in_use(&session, id).await;
    assert_eq!(found.lead, id);
    let told: Vec<_> = found
        .obstacles
        .iter()
        .map(|one| (one.record.clone(), one.why.clone()))
        .collect();
    let wanted = [
        (
            EntityRef::from(account),
            UndoObstacleReason::Merged {
                merge: merge.uuid(),
            },
        ),
        (
            EntityRef::from(done.contact),
            UndoObstacleReason::ReferredTo {
                by: call.id.into(),
                field: "contact_id".into(),
            },
        ),
        (
            EntityRef::from(deal),
            UndoObstacleReason::Changed {
                fields: vec!["amount".into()],
            },
        ),
    ];
    assert_eq!(told, wanted);
    assert_eq!(state(&session).await, before, "nothing is written");
    // Looked after, one by one.
    session.activities().delete(call.id).await.unwrap();
    assert_eq!(in_use(&session, id).await.obstacles.len(), 2);
    session.merges().undo(merge).await.unwrap();
    session
        .deals()
        .update(deal, |deal| deal.amount = None)
        .await
        .unwrap();
    let lead = session.leads().undo_conversion(id).await.unwrap();
    assert_eq!((lead.status, &lead.conversion), (LeadStatus::New, &None));
    assert_eq!(
        session
            .contacts()
            .get(done.contact)
            .await
            .unwrap_err()
            .code(),
        "not_found"
    );
    assert_eq!(
        session.deals().get(deal).await.unwrap_err().code(),
        "not_found"
    );
    // It is a lead like any other again.
    session
        .leads()
        .update(id, |lead| lead.grade = Some("A".into()))
        .await
        .unwrap();
    let again = session
        .leads()
        .convert(id, ConversionPlan::new())
        .await
        .unwrap();
    assert_ne!(again.contact, done.contact);
    session.leads().undo_conversion(id).await.unwrap();
    common::assert_trail_tells_every_record(&session).await;
}

/// What somebody touched since the conversion stays as it is.
#[tokio::test]
async fn undoing_leaves_what_was_touched_since() {
    let (acme, session) = scene().await;
    let contact = session
        .contacts()
        .create(Contact::named("Bill", "Lumbergh"))
        .await
        .unwrap()
        .id;
    let id = lead(&session, bill()).await;
    let call = Activity::new(ActivityType::Call, "Call", id, acme.admin);
    let call = session.activities().create(call).await.unwrap().id;
    let plan = ConversionPlan::new()
        .into_contact(contact)
        .without_account();
    session.leads().convert(id, plan).await.unwrap();
    let touch = |contact: &mut Contact| {
        contact.job_title = Some("President".into());
        contact.tags.push("vip".into());
    };
    session.contacts().update(contact, touch).await.unwrap();
    session.leads().undo_conversion(id).await.unwrap();
    let contact = session.contacts().get(contact).await.unwrap();
    assert_eq!(contact.job_title.as_deref(), Some("President"));
    assert_eq!(contact.tags, ["vip"]);
    assert_eq!((&contact.email, &contact.company), (&None, &None));
    let call = session.activities().get(call).await.unwrap();
    assert_eq!(
        (call.links.contact_id, call.links.lead_id),
        (None, Some(id))
    );
}

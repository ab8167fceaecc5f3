//! What a conversion carries over, and what it writes down.

use std::collections::BTreeMap;

use crm_engine::activities::{ActivityLinks, ActivitySeries, LocalDateTime, Recurrence};
use crm_engine::leads::{ConversionPlan, LeadConversion};
use crm_engine::prelude::*;

use super::{bill, consent, lead, scene, state};

/// C-006: activities and series belong to the records of the conversion besides; consents, comments and
/// followers move.
#[tokio::test]
async fn what_led_to_the_lead_is_carried_over() {
    let (acme, session) = scene().await;
    let user = acme.admin;
    let id = lead(&session, bill()).await;
    let call = Activity::new(ActivityType::Call, "Call", id, user);
    let call = session.activities().create(call).await.unwrap().id;
    session.activities().invite(call, user, None).await.unwrap();
    session
        .activities()
        .complete(call, Some("interested"))
        .await
        .unwrap();
    let globex = session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap()
        .id;
    let demo = Activity::new(
        ActivityType::Demo,
        "Demo",
        ActivityLinks {
            account_id: Some(globex),
            ..ActivityLinks::from(id)
        },
        user,
    );
    let demo = session.activities().create(demo).await.unwrap().id;
    let weekly = Activity::new(ActivityType::Meeting, "Review", id, user);
    let rule = Recurrence::parse("FREQ=WEEKLY;COUNT=5").unwrap();
    let monday = LocalDateTime::parse("2100-01-04T09:00").unwrap();
    let series = ActivitySeries::new(weekly, rule, monday);
    let series = session.activity_series().create(series).await.unwrap().id;
    let comment = session
        .comments()
        .write(id, "Nice person")
        .await
        .unwrap()
        .id;
    session.followers().follow(id, user).await.unwrap();
    let given = consent(&session, id).await;

    let plan = ConversionPlan::with_deal("Rollout");
    let done = session.leads().convert(id, plan).await.unwrap();
    let call = session.activities().get(call).await.unwrap();
    let all = ActivityLinks {
        account_id: done.account,
        contact_id: Some(done.contact),
        deal_id: done.deal,
        lead_id: Some(id),
        ..ActivityLinks::default()
    };
    assert_eq!(call.links, all);
    assert_eq!(call.status.as_str(), "completed");
    let demo = session.activities().get(demo).await.unwrap();
    assert_eq!(demo.links.account_id, Some(globex), "it has one");
    assert_eq!(demo.links.contact_id, Some(done.contact));
    let series = session.activity_series().get(series).await.unwrap();
    assert_eq!(series.pattern.links, all);
    let comment = session.comments().get(comment).await.unwrap();
    assert_eq!(
        (comment.object.as_str(), comment.record_id),
        ("contact", done.contact.uuid())
    );
    assert_eq!(session.followers().of(done.contact).await.unwrap(), [user]);
    let given = session.consents().get(given).await.unwrap();
    assert_eq!(
        (given.contact_id, given.lead_id),
        (Some(done.contact), None)
    );
    let purpose = "marketing_email".parse().unwrap();
    assert!(
        session
            .consents()
            .has_consent(done.contact, &purpose)
            .await
            .unwrap()
    );
    // What the records know of their activities follows.
    let contact = session.contacts().get(done.contact).await.unwrap();
    assert_eq!(contact.last_activity_at, call.completed_at);
    let stored = session.leads().get(id).await.unwrap();
    assert_eq!(stored.last_activity_at, call.completed_at);
    let told: BTreeMap<_, _> = done
        .carried
        .iter()
        .map(|one| (one.object.as_str(), one.carried))
        .collect();
    assert_eq!(
        told,
        [
            ("activity", 2),
            ("activity_series", 1),
            ("comment", 1),
            ("consent", 1),
            ("follower", 1)
        ]
        .into()
    );
}

/// C-006, R-026: where the contact has a later consent for the same purpose, that goes on counting; who
/// follows the contact already does so once.
#[tokio::test]
async fn what_the_contact_has_already_is_not_doubled() {
    let (acme, session) = scene().await;
    let id = lead(&session, bill()).await;
    let contact = session
        .contacts()
        .create(Contact::named("Bill", "Lumbergh"))
        .await
        .unwrap()
        .id;
    let given = consent(&session, id).await;
    let own = consent(&session, contact).await;
    session
        .followers()
        .follow(contact, acme.admin)
        .await
        .unwrap();
    session.followers().follow(id, acme.admin).await.unwrap();
    let before = state(&session).await;
    let plan = ConversionPlan::new().into_contact(contact);
    let done = session.leads().convert(id, plan).await.unwrap();
    assert!(session.consents().get(own).await.unwrap().is_active);
    let given = session.consents().get(given).await.unwrap();
    assert_eq!((given.contact_id, given.is_active), (Some(contact), false));
    assert_eq!(session.followers().of(contact).await.unwrap(), [acme.admin]);
    let followers = done
        .carried
        .iter()
        .find(|one| one.object == "follower")
        .unwrap();
    assert_eq!((followers.carried, followers.left), (0, 1));

    session.leads().undo_conversion(id).await.unwrap();
    assert_eq!(state(&session).await, before);
}

/// The entries of a conversion go with their records, and say what was done.
#[tokio::test]
async fn what_a_conversion_did_is_written_down() {
    let (_, session) = scene().await;
    let id = lead(&session, bill()).await;
    let done = session
        .leads()
        .convert(id, ConversionPlan::new())
        .await
        .unwrap();
    let entries = session.records::<LeadConversion>();
    let of_lead = entries.find(LeadConversion::LEAD_ID.eq(id)).await.unwrap();
    let told: Vec<_> = of_lead
        .items
        .iter()
        .map(|entry| (entry.object.as_str(), entry.deed.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("account", "created"),
            ("contact", "created"),
            ("contact_affiliation", "created"),
            ("lead", "converted")
        ]
    );
    // Personal data does not outlive its record.
    session.contacts().delete(done.contact).await.unwrap();
    session.contacts().purge(done.contact).await.unwrap();
    let left = entries
        .find(LeadConversion::RECORD_ID.eq(done.contact.uuid()))
        .await
        .unwrap();
    assert!(left.items.is_empty());
}

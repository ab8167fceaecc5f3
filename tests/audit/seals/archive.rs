//! The feed and its webhooks over events that were archived, and what is told once those are dropped.

use std::net::IpAddr;
use std::sync::Mutex;

use chrono::TimeDelta;
use crm_engine::audit::webhook::{
    DeliveryStatus, Transport, TransportError, WebhookDelivery, WebhookRequest, WebhookResponse,
    WebhookSecret,
};
use crm_engine::audit::{Feed, FeedEvent};
use crm_engine::engine::Clock as _;
use crm_engine::prelude::*;
use uuid::Uuid;

use super::World;

/// What a consumer gets until nothing is new.
async fn drained(feed: &Feed<'_>) -> Vec<FeedEvent> {
    let mut events = Vec::new();
    while let Some(mut batch) = feed.next(3).await.unwrap() {
        assert!(batch.events.len() <= 3);
        events.append(&mut batch.events);
        feed.acknowledge(batch.until).await.unwrap();
    }
    events
}

fn code(error: &crm_engine::Error) -> Option<&'static str> {
    match error {
        crm_engine::Error::Rule(violation) => Some(violation.code),
        _ => None,
    }
}

/// C-070: whole months move to the archive, and no consumer misses one of their events.
#[tokio::test]
async fn consumers_read_archived_events_in_their_order() {
    let world = World::new().await;
    let audit = world.session.audit();
    let lovelace = world.contact("Lovelace").await;
    world.settle().await;
    let lagging = audit.feed("lagging");
    let first = lagging.next(2).await.unwrap().unwrap();
    lagging.acknowledge(first.until).await.unwrap();
    world.clock.advance(TimeDelta::days(40));
    world.contact("Byron").await;
    world.settle().await;
    let all = drained(&audit.feed("before")).await;
    assert!(world.archive().await > 0);

    assert_eq!(drained(&audit.feed("new")).await, all);
    assert_eq!(drained(&lagging).await, all[2..]);
    let of_one = audit
        .feed("of one")
        .filter(AuditEvent::RECORD_ID.eq(lovelace.uuid()));
    let events = drained(&of_one).await;
    assert_eq!(events.len(), 2);
    let wanted = all
        .iter()
        .filter(|event| event.event.record_id == lovelace.uuid());
    assert!(events.iter().eq(wanted));
    let from_now = audit.feed("from now").from_now();
    assert!(drained(&from_now).await.is_empty());
}

/// C-104: what an actor did counts wherever the events lie.
#[tokio::test]
async fn the_activity_of_a_user_counts_archived_events() {
    let world = World::new().await;
    let audit = world.session.audit();
    let actor = world.session.actor();
    let start = world.clock.now();
    world.contact("Lovelace").await;
    world.clock.advance(TimeDelta::days(40));
    world.contact("Byron").await;
    let window = || start..world.clock.now() + TimeDelta::days(1);
    let before = audit.activity_summary(actor, window()).await.unwrap();
    let contacts = before.iter().filter(|count| count.object == "contact");
    let contacts: Vec<u64> = contacts.map(|count| count.count).collect();
    assert_eq!(contacts, [2, 2], "made, and changed");
    assert!(world.archive().await > 0);
    let after = audit.activity_summary(actor, window()).await.unwrap();
    assert_eq!(after, before);
    let january = start..start + TimeDelta::days(1);
    let january = audit.activity_summary(actor, january).await.unwrap();
    let contacts = january.iter().filter(|count| count.object == "contact");
    assert!(contacts.map(|count| count.count).eq([1, 1]));
}

/// What was dropped before a consumer read it is told, and not left out without a word.
#[tokio::test]
async fn a_consumer_is_told_of_dropped_events_that_it_has_not_read() {
    let world = World::new().await;
    let audit = world.session.audit();
    world.contact("Lovelace").await;
    world.settle().await;
    let (done, lagging) = (audit.feed("done"), audit.feed("lagging"));
    drained(&done).await;
    let part = lagging.next(1).await.unwrap().unwrap();
    lagging.acknowledge(part.until).await.unwrap();
    world.clock.advance(TimeDelta::days(40));
    let byron = world.contact("Byron").await;
    world.settle().await;
    world.archive().await;
    assert!(world.drop_archive().await > 0);

    let new = audit.feed("new");
    let filtered = audit
        .feed("filtered")
        .filter(AuditEvent::RECORD_ID.eq(Uuid::from_u128(1)));
    for feed in [&new, &lagging, &filtered] {
        for _ in 0..2 {
            let error = feed.next(10).await.unwrap_err();
            assert_eq!(code(&error), Some("events_dropped"), "{error:?}");
        }
    }
    let ids = |events: &[FeedEvent]| -> Vec<Uuid> {
        let ids = events.iter().map(|event| event.event.record_id);
        ids.collect()
    };
    // Who has read them, or does without them, goes on.
    assert_eq!(ids(&drained(&done).await), [byron.uuid(); 2]);
    assert!(drained(&audit.feed("from now").from_now()).await.is_empty());
    let lagging = lagging.past_dropped();
    assert_eq!(ids(&drained(&lagging).await), [byron.uuid(); 2]);
    // And from then on as any other.
    world.contact("Babbage").await;
    world.settle().await;
    assert_eq!(drained(&audit.feed("lagging")).await.len(), 2);
}

/// What a version was built from is dropped: that is told, and not that there never was such a version.
#[tokio::test]
async fn a_version_that_the_trail_does_not_reach_is_told_apart() {
    let world = World::new().await;
    let audit = world.session.audit();
    let ada = world.contact("Lovelace").await;
    let still = world.contact("Byron").await;
    let january = world.clock.now();
    world.clock.advance(TimeDelta::days(40));
    let title = |contact: &mut Contact| contact.job_title = Some("countess".into());
    world.session.contacts().update(ada, title).await.unwrap();
    let late = world.contact("Babbage").await;
    world.archive().await;
    assert!(audit.version(ada, 2).await.unwrap().is_some());
    assert!(world.drop_archive().await > 0);

    let dropped = |result: crm_engine::Result<()>| {
        let error = result.unwrap_err();
        assert_eq!(code(&error), Some("version_dropped"), "{error:?}");
    };
    // Whether some of its events are left, or none.
    for id in [ada, still] {
        for version in [1, 2, 3] {
            dropped(audit.version(id, version).await.map(|_| ()));
            dropped(audit.restore_version(id, version).await.map(|_| ()));
        }
        dropped(audit.as_of(id, january).await.map(|_| ()));
        dropped(audit.as_of(id, world.clock.now()).await.map(|_| ()));
        dropped(audit.diff(id, 1, 2).await.map(|_| ()));
    }
    let before = january - TimeDelta::days(1);
    assert!(audit.as_of(ada, before).await.unwrap().is_none());
    // A record of later is as ever, and so is one that there never was.
    assert!(audit.version(late, 1).await.unwrap().is_some());
    assert!(audit.version(late, 9).await.unwrap().is_none());
    assert!(audit.version(ada, 0).await.unwrap().is_none());
    assert!(audit.as_of(late, january).await.unwrap().is_none());
    let nobody = Id::<Contact>::new(Uuid::from_u128(1));
    assert!(audit.version(nobody, 1).await.unwrap().is_none());
    let kept = audit.versions(ada, 10, None).await.unwrap().items;
    assert_eq!(kept.len(), 1, "what is left is told");
}

/// A receiver that refuses the first request.
#[derive(Default)]
struct Receiver(Mutex<Vec<WebhookRequest>>);

#[async_trait::async_trait]
impl Transport for Receiver {
    async fn resolve(
        &self,
        _host: &str,
        _port: u16,
    ) -> std::result::Result<Vec<IpAddr>, TransportError> {
        Ok(vec![[93, 184, 215, 14].into()])
    }

    async fn post(
        &self,
        request: &WebhookRequest,
    ) -> std::result::Result<WebhookResponse, TransportError> {
        let mut requests = self.0.lock().unwrap();
        requests.push(request.clone());
        let status = if requests.len() == 1 { 503 } else { 204 };
        Ok(WebhookResponse::new(status))
    }
}

#[tokio::test]
async fn webhooks_send_events_that_were_archived_meanwhile() {
    let world = World::new().await;
    let subscription = WebhookSubscription {
        objects: vec!["contact".into()],
        secret: Some(WebhookSecret::from_bytes(&[7; 32]).unwrap().expose()),
        ..WebhookSubscription::new(
            "Billing",
            "https://hooks.example.com/crm".parse::<HttpUrl>().unwrap(),
        )
    };
    let mut subscriptions = world.session.records::<WebhookSubscription>();
    subscriptions.create(subscription).await.unwrap();
    world.contact("Lovelace").await;
    world.settle().await;
    let receiver = Receiver::default();
    let webhooks = world.session.webhooks();
    // A delivery is made of all, and one has to be sent again.
    let report = webhooks.deliver_due(&receiver, 100).await.unwrap();
    assert_eq!((report.queued, report.delivered, report.failed), (2, 1, 1));
    world.contact("Byron").await;
    world.settle().await;
    world.clock.advance(TimeDelta::days(40));
    assert!(world.archive().await > 0);
    let report = webhooks.deliver_due(&receiver, 100).await.unwrap();
    assert_eq!((report.queued, report.delivered, report.dead), (2, 3, 0));
    // One that is replayed is sent as well.
    let all = world.session.records::<WebhookDelivery>();
    let all = all.find(Find::new()).await.unwrap().items;
    let sent =
        |one: &&std::sync::Arc<Record<WebhookDelivery>>| one.status == DeliveryStatus::Delivered;
    let first = all.iter().find(sent).unwrap();
    webhooks.replay(first.id).await.unwrap();
    let report = webhooks.deliver_due(&receiver, 100).await.unwrap();
    assert_eq!((report.delivered, report.dead), (1, 0));

    // What was dropped before it was queued is told.
    world
        .session
        .audit()
        .feed("crm.webhooks")
        .forget()
        .await
        .unwrap();
    world.drop_archive().await;
    world.contact("Babbage").await;
    world.settle().await;
    let error = webhooks.deliver_due(&receiver, 100).await.unwrap_err();
    assert_eq!(code(&error), Some("events_dropped"), "{error:?}");
    let report = webhooks.past_dropped().deliver_due(&receiver, 100).await;
    assert_eq!(report.unwrap().queued, 2);
}

//! Consumers: their places, leases and what they get to see.

use chrono::TimeDelta;
use crm_engine::audit::{FeedPolicy, MASK, Treatment};
use crm_engine::prelude::*;
use crm_engine::schema::Value;
use crm_engine::storage::FeedPosition;

use super::{MOST_ASKED, Office, drain, next};

#[tokio::test]
async fn a_consumer_goes_on_where_it_acknowledged() {
    let office = Office::open().await;
    let feed = office.session.audit().feed("index");
    assert_eq!(feed.position().await.unwrap(), None);
    let first = next(&feed, 2).await;
    assert_eq!(first.events.len(), 2);
    // What was not acknowledged comes again, to the same worker at once.
    let again = next(&feed, 2).await;
    assert_eq!(first.events, again.events);
    // A part of it.
    feed.acknowledge(first.events[0].position).await.unwrap();
    assert_eq!(next(&feed, 1).await.events, first.events[1..]);
    feed.acknowledge(first.until).await.unwrap();
    assert_eq!(feed.position().await.unwrap(), Some(first.until));
    // Acknowledging twice, or less, changes nothing.
    feed.acknowledge(first.until).await.unwrap();
    feed.acknowledge(FeedPosition::BEGINNING).await.unwrap();
    assert_eq!(feed.position().await.unwrap(), Some(first.until));

    let left = office.events().await - 2;
    drain(&feed, left).await;
    assert_eq!(feed.next(10).await.unwrap().map(|batch| batch.events), None);
    let globex = office.account("Globex").await;
    let batch = next(&feed, 10).await;
    assert_eq!(batch.events.len(), 1);
    assert_eq!(batch.events[0].event.record_id, globex.uuid());
    // Another consumer has a place of its own; one that is forgotten begins anew.
    let all = office.events().await;
    assert_eq!(
        drain(&office.session.audit().feed("other"), all)
            .await
            .len(),
        all
    );
    feed.forget().await.unwrap();
    assert_eq!(feed.position().await.unwrap(), None);
    assert_eq!(next(&feed, 2).await.events, first.events);
}

#[tokio::test]
async fn one_worker_at_a_time_has_a_consumer() {
    let office = Office::open().await;
    let lease = TimeDelta::minutes(2);
    let one = office.session.audit().feed("index").lease(lease);
    let two = office.session.audit().feed("index").lease(lease);
    let batch = next(&one, 3).await;
    for _ in 0..3 {
        assert!(two.next(3).await.unwrap().is_none(), "the lease runs");
    }
    // Given back, it is the other's at once.
    one.release().await.unwrap();
    assert_eq!(next(&two, 3).await.events, batch.events);
    // Gone without a word, it is another's when the lease has run out.
    assert!(one.next(3).await.unwrap().is_none());
    office.pass(lease);
    let taken = next(&one, 5).await;
    assert_eq!(taken.events[..3], batch.events);
    let late = two.acknowledge(batch.until).await.unwrap_err();
    assert!(
        matches!(&late, Error::Rule(lost) if lost.code == "claim_lost"),
        "{late}"
    );
    one.acknowledge(taken.until).await.unwrap();
    // What the other one had done is done by now.
    two.acknowledge(batch.until).await.unwrap();
    assert_eq!(two.position().await.unwrap(), Some(taken.until));
    assert!(next(&two, 5).await.events[0].position > taken.until);
}

#[tokio::test]
async fn a_consumer_may_want_some_events_only() {
    let office = Office::open().await;
    let globex = office.account("Globex").await;
    let rename = |account: &mut Account| account.name = "Globex Corporation".into();
    office
        .session
        .accounts()
        .update(globex, rename)
        .await
        .unwrap();
    let updates = AuditEvent::OBJECT
        .eq("account")
        .and(AuditEvent::EVENT.eq(AuditKind::Update));
    let feed = office
        .session
        .audit()
        .feed("renamed")
        .filter(updates.clone());
    let events = drain(&feed, 1).await;
    assert_eq!(events[0].event.record_id, globex.uuid());
    // What does not fulfil the filter is passed, and its place is kept.
    let before = feed.position().await.unwrap().unwrap();
    office.account("Initech").await;
    for _ in 0..MOST_ASKED {
        assert!(feed.next(10).await.unwrap().is_none());
        if feed.position().await.unwrap().unwrap() > before {
            break;
        }
        super::common::pause().await;
    }
    assert!(feed.position().await.unwrap().unwrap() > before);
}

#[tokio::test]
async fn a_consumer_may_begin_with_what_happens_now() {
    let office = Office::open().await;
    office.account("Before").await;
    // What is there must be settled before it can be passed.
    let all = office.events().await;
    drain(&office.session.audit().feed("all"), all).await;
    let feed = office.session.audit().feed("late").from_now();
    assert!(feed.next(10).await.unwrap().is_none());
    let after = office.account("After").await;
    let batch = next(&feed, 10).await;
    assert_eq!(batch.events.len(), 1);
    assert_eq!(batch.events[0].event.record_id, after.uuid());
}

#[tokio::test]
async fn personal_values_are_masked_and_secrets_left_out() {
    let office = Office::open().await;
    let context = crm_engine::engine::RequestContext {
        ip: Some([203, 0, 113, 7].into()),
        endpoint: Some("POST /contacts".into()),
        ..Default::default()
    };
    let session = office.session.clone().with_context(context);
    let mut ada = Contact::named("Ada", "Lovelace");
    ada.email = Some(EmailAddress::parse("ada@lovelace.example").unwrap());
    ada.job_title = Some("Mathematician".into());
    let ada = session.contacts().create(ada).await.unwrap().id;
    let of_ada = AuditEvent::RECORD_ID.eq(ada.uuid());

    let feed = session.audit().feed("outside").filter(of_ada.clone());
    let event = drain(&feed, 1).await.remove(0);
    let new = |field: &str| {
        event
            .event
            .changes
            .field(field)
            .unwrap()
            .new
            .clone()
            .unwrap()
    };
    assert_eq!(new("email"), Value::from(MASK));
    assert_eq!(new("status"), Value::from("active"));
    assert_eq!(
        (event.event.ip.clone(), event.event.endpoint.as_deref()),
        (None, Some("POST /contacts"))
    );
    let sent = event.to_json().to_string();
    for personal in ["ada@", "Lovelace", "203.0.113.7"] {
        assert!(!sent.contains(personal), "{sent}");
    }

    let feed = session
        .audit()
        .feed("inside")
        .filter(of_ada.clone())
        .policy(FeedPolicy::INTERNAL);
    let event = drain(&feed, 1).await.remove(0);
    assert_eq!(
        event.event.changes.field("email").unwrap().new,
        Some(Value::from("ada@lovelace.example"))
    );
    assert_eq!(event.event.ip.as_deref(), Some("203.0.113.7"));
    let dropped = FeedPolicy {
        personal: Treatment::Drop,
        ..FeedPolicy::default()
    };
    let feed = session
        .audit()
        .feed("strict")
        .filter(of_ada)
        .policy(dropped);
    assert!(
        drain(&feed, 1).await[0]
            .event
            .changes
            .field("email")
            .is_none()
    );
}

#[tokio::test]
async fn a_consumer_has_a_name_and_a_position_of_this_database() {
    let office = Office::open().await;
    for name in ["", "  ", &"x".repeat(101)] {
        let refused = office.session.audit().feed(name).next(1).await.unwrap_err();
        assert_eq!(refused.field_errors()[0].path, "name");
    }
    // The longest name that is one, and positions that hosts keep by themselves.
    let feed = office.session.audit().feed("é".repeat(100));
    let batch = next(&feed, 1).await;
    let kept = batch.until.to_string();
    feed.acknowledge(kept.parse().unwrap()).await.unwrap();
    // A place that lies ahead is one of another database: nothing is left out in silence.
    next(&feed, 1).await;
    feed.acknowledge(FeedPosition::before(u64::MAX / 2))
        .await
        .unwrap();
    let refused = feed.next(1).await.unwrap_err();
    assert!(
        matches!(refused, Error::Query(_) | Error::Storage(_)),
        "{refused}"
    );
}

/// A tenant follows its own events only, whatever names others gave to their consumers.
#[tokio::test]
async fn tenants_have_feeds_of_their_own() {
    let office = Office::open().await;
    let (_, other) = super::common::tenant(&office.crm, "globex").await;
    let own = other.audit().feed("index");
    let mine = drain(&office.session.audit().feed("index"), office.events().await).await;
    let theirs = next(&own, 1_000).await;
    assert!(
        theirs
            .events
            .iter()
            .all(|event| mine.iter().all(|one| one.event.id != event.event.id))
    );
    // Even a position of the other's.
    let place = mine.last().unwrap().position;
    own.acknowledge(theirs.until).await.unwrap();
    let _ = own.acknowledge(place).await;
    assert_eq!(
        office
            .session
            .audit()
            .feed("index")
            .position()
            .await
            .unwrap()
            .map(|at| at >= place),
        Some(true)
    );
}

/// Records of objects and fields that the tenant defined are followed like others.
#[tokio::test]
async fn what_tenants_defined_is_in_the_feed() {
    let crm = super::common::crm();
    let populated = super::common::populate(&crm, "initech").await;
    let session = &populated.session;
    let body = serde_json::json!({"name": "First floor", "custom_fields": {"outcome": "liked"}});
    let mut viewings = session.object("viewing").await.unwrap();
    viewings.create(body.as_object().unwrap()).await.unwrap();
    let events = session
        .records::<AuditEvent>()
        .count(Find::new())
        .await
        .unwrap();
    let seen = drain(
        &session.audit().feed("all"),
        usize::try_from(events).unwrap(),
    )
    .await;
    let defined = seen.iter().find(|event| event.event.object == "viewing");
    assert!(defined.is_some(), "records of the tenant's own object");
}

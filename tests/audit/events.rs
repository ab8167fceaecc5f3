//! The audit trail: one event for each change, only what changed, nothing that must not be kept.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::common::backend;
use std::net::IpAddr;

use crm_engine::audit::MASK;
use crm_engine::engine::RequestContext;
use crm_engine::prelude::*;
use crm_engine::schema::Value;

async fn session() -> (Crm, Session, crm_engine::tenancy::Onboarded) {
    let crm = Crm::builder(backend::storage(&[])).build();
    let acme = crm
        .onboard(Onboarding::new("Acme", "acme", "ada@acme.example"))
        .await
        .unwrap();
    let session = crm.session(acme.tenant, Actor::User(acme.admin));
    (crm, session, acme)
}

///
#[tokio::test]
async fn each_change_leaves_one_event_with_what_changed() {
    let (_, session, acme) = session().await;
    let globex = session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap()
        .id;
    session
        .accounts()
        .update(globex, |account| account.industry = Some("software".into()))
        .await
        .unwrap();
    session.accounts().archive(globex).await.unwrap();
    session.accounts().delete(globex).await.unwrap();
    session.accounts().restore(globex).await.unwrap();

    let trail = session.audit().trail(globex).await.unwrap();
    let kinds: Vec<_> = trail.iter().map(|event| event.event).collect();
    use AuditKind::{Create, Delete, Restore, Update};
    assert_eq!(kinds, [Create, Update, Update, Delete, Restore]);
    assert_eq!(trail[1].changes.fields(), ["industry"]);
    let change = trail[1].changes.field("industry").unwrap();
    assert_eq!(change.old, Some(Value::Null));
    assert_eq!(change.new, Some(Value::from("software")));
    assert_eq!(trail[2].changes.fields(), ["archived_at"]);
    assert!(
        trail[0]
            .changes
            .iter()
            .all(|change| change.old.is_none() && change.new.is_some())
    );
    assert!(
        trail[3]
            .changes
            .iter()
            .all(|change| change.old.is_some() && change.new.is_none())
    );
    assert!(
        trail
            .iter()
            .all(|event| event.created.by == Actor::User(acme.admin))
    );
    assert_eq!(
        trail.iter().map(|e| e.record_version).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
}

#[tokio::test]
async fn the_request_behind_a_change_is_kept() {
    let (_, session, _) = session().await;
    let ip: IpAddr = [203, 0, 113, 7].into();
    let session = session.with_context(RequestContext {
        session_id: Some("s-1".into()),
        ip: Some(ip),
        user_agent: Some("a\u{0}b".repeat(2_000)),
        endpoint: Some("POST /accounts".into()),
        request_id: Some(uuid::Uuid::from_u128(7)),
    });
    let globex = session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap()
        .id;
    let event = session.audit().trail(globex).await.unwrap().remove(0);
    assert_eq!(event.ip.as_deref(), Some("203.0.113.7"));
    assert_eq!(event.endpoint.as_deref(), Some("POST /accounts"));
    assert_eq!(event.request_id, Some(uuid::Uuid::from_u128(7)));
    // What a request says of itself never stops a write.
    assert_eq!(event.user_agent.as_ref().unwrap().chars().count(), 1_000);
}

///
#[tokio::test]
async fn secrets_never_reach_the_trail() {
    let (_, session, acme) = session().await;
    session
        .records::<Tenant>()
        .update(acme.tenant, |tenant| {
            tenant.billing_info = Some(serde_json::json!({"iban": "DE02 1203"}));
            tenant.settings = serde_json::json!({"smtp": {"password": "hunter2", "host": "mx"}});
        })
        .await
        .unwrap();
    let trail = session.audit().trail(acme.tenant).await.unwrap();
    let event = trail.last().unwrap();
    assert_eq!(
        event.changes.field("billing_info").unwrap().new,
        Some(Value::from(MASK))
    );
    let text = serde_json::to_string(&**event).unwrap();
    assert!(!text.contains("hunter2") && !text.contains("DE02"));
    assert!(text.contains("mx"));
}

#[tokio::test]
async fn custom_fields_are_compared_member_by_member() {
    let (_, session, _) = session().await;
    let account = Account {
        custom_fields: serde_json::json!({"region": "north", "size": 3}),
        ..Account::new("Globex")
    };
    let id = session.accounts().create(account).await.unwrap().id;
    let patch = serde_json::json!({"custom_fields": {"region": "south"}});
    session
        .accounts()
        .merge(id, 1, patch.as_object().unwrap())
        .await
        .unwrap();
    let trail = session.audit().trail(id).await.unwrap();
    assert_eq!(trail[1].changes.fields(), ["custom_fields.region"]);
    let now = session.accounts().get(id).await.unwrap();
    assert_eq!(
        now.custom_fields,
        serde_json::json!({"region": "south", "size": 3})
    );
}

#[tokio::test]
async fn events_are_found_by_commit_and_by_actor() {
    let (crm, session, acme) = session().await;
    let mut work = session.begin();
    work.accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap();
    work.contacts()
        .create(Contact::named("Ada", "Lovelace"))
        .await
        .unwrap();
    let commit = work.commit().await.unwrap();
    let events = session.audit().of_commit(commit.id).await.unwrap();
    let objects: Vec<_> = events.iter().map(|event| event.object.as_str()).collect();
    assert_eq!(objects, ["account", "contact"]);

    let api = crm.session(acme.tenant, Actor::ApiClient(uuid::Uuid::from_u128(9)));
    for name in ["A", "B", "C"] {
        api.accounts().create(Account::new(name)).await.unwrap();
    }
    let page = session
        .audit()
        .by_actor(api.actor(), 2, None)
        .await
        .unwrap();
    assert_eq!(page.items.len(), 2);
    let rest = session
        .audit()
        .by_actor(api.actor(), 2, page.next)
        .await
        .unwrap();
    assert_eq!(rest.items.len(), 1);
    assert!(rest.next.is_none());
}

#[tokio::test]
async fn every_version_is_built_again_from_the_trail() {
    let (_, session, _) = session().await;
    let mut seen = Vec::new();
    let ada = Contact {
        email: Some("ada@x.example".parse().unwrap()),
        phone: Some("+49 30 123456".parse().unwrap()),
        tags: vec!["vip".into()],
        ..Contact::named("Ada", "Lovelace")
    };
    let id = {
        let record = session.contacts().create(ada).await.unwrap();
        seen.push(record.clone());
        record.id
    };
    seen.push(
        session
            .contacts()
            .update(id, |c| c.job_title = Some("Analyst".into()))
            .await
            .unwrap(),
    );
    seen.push(
        session
            .contacts()
            .update(id, |c| c.tags.clear())
            .await
            .unwrap(),
    );
    seen.push(session.contacts().archive(id).await.unwrap());
    session.contacts().delete(id).await.unwrap();
    let restored = session.contacts().restore(id).await.unwrap();
    for record in seen.iter().chain([&restored]) {
        let built = session
            .audit()
            .version(id, record.version)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(*built.record, **record);
        assert!(built.masked.is_empty());
    }
    let deleted = session.audit().version(id, 5).await.unwrap().unwrap();
    assert!(deleted.record.deleted_at.is_some());
    assert!(session.audit().version(id, 99).await.unwrap().is_none());
}

/// No public call changes, removes or forges an event.
#[tokio::test]
async fn events_cannot_be_touched() {
    let (_, session, _) = session().await;
    let id = session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap()
        .id;
    let event = session.audit().trail(id).await.unwrap().remove(0);
    let mut events = session.records::<AuditEvent>();
    assert_eq!(
        events.create(event.data.clone()).await.unwrap_err().code(),
        "forbidden"
    );
    let changed = events
        .update(event.id, |event| event.object = "deal".into())
        .await;
    assert_eq!(changed.unwrap_err().code(), "forbidden");
    assert_eq!(
        events.archive(event.id).await.unwrap_err().code(),
        "forbidden"
    );
    assert_eq!(
        events.delete(event.id).await.unwrap_err().code(),
        "forbidden"
    );
    assert_eq!(
        events.purge(event.id).await.unwrap_err().code(),
        "forbidden"
    );
    let mut work = session.begin();
    assert_eq!(
        work.append(event.data.clone()).await.unwrap_err().code(),
        "forbidden"
    );
    drop(work);
    let mut named = session.object("audit_event").await.unwrap();
    assert_eq!(
        named.delete(event.id.uuid()).await.unwrap_err().code(),
        "forbidden"
    );
    assert_eq!(session.audit().trail(id).await.unwrap(), [event]);
}

/// The trail never stands in the way of a change, however large it is.
#[tokio::test]
async fn large_documents_have_events_too() {
    let (_, session, _) = session().await;
    let large = |letter: &str| serde_json::json!({"text": letter.repeat(900_000)});
    let account = Account {
        custom_fields: large("a"),
        ..Account::new("Globex")
    };
    let id = session.accounts().create(account).await.unwrap().id;
    session
        .accounts()
        .update(id, |account| account.custom_fields = large("b"))
        .await
        .unwrap();
    assert_eq!(session.audit().trail(id).await.unwrap().len(), 2);
}

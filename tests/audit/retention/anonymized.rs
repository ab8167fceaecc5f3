//! What is anonymized is gone from the trail too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crm_engine::Crm;
use crm_engine::audit::{Sealing, Verification};
use crm_engine::engine::ManualClock;
use crm_engine::prelude::*;
use crm_engine::privacy::{DeletionMethod, RetentionPolicy};
use crm_engine::storage::{Scope, StorageError};
use serde_json::json;

use super::{moment, policy, timed};
use crate::common;
use crate::common::storage::{Call, Watch, Watched};
use crate::common::{rows_of, tenant};

/// what is anonymized is not in the versions either; seals over them still hold, and
/// records whose time is not over keep theirs.
#[tokio::test]
async fn what_is_anonymized_is_in_no_version() {
    let (crm, clock) = timed("2020-01-01T00:00:00Z");
    let (_, session) = tenant(&crm, "acme").await;
    let email = |text: &str| Some(EmailAddress::parse(text).unwrap());
    let ada = Contact {
        email: email("ada@old.example"),
        job_title: Some("Countess".into()),
        description: Some("likes horses".into()),
        custom_fields: json!({"nickname": "Enchantress"}),
        tags: vec!["key".into()],
        ..Contact::named("Ada", "Lovelace")
    };
    let ada = session.contacts().create(ada).await.unwrap().id;
    let change = |contact: &mut Contact| {
        contact.email = email("ada@new.example");
        contact.job_title = None;
        contact.tags = vec!["first".into()];
    };
    session.contacts().update(ada, change).await.unwrap();
    clock.set(moment("2022-12-01T00:00:00Z"));
    let young = Contact::named("Charles", "Babbage");
    let young = session.contacts().create(young).await.unwrap().id;
    let kept = session.audit().trail(young).await.unwrap();
    // Others may hold up what is settled for a moment.
    let mut sealed = 0;
    while sealed < 1_000 {
        let head = session.audit().seal(Sealing::new()).await.unwrap();
        match head {
            Some(_) => break,
            None => sealed += 1,
        }
        common::pause().await;
    }
    clock.set(moment("2023-02-01T00:00:00Z"));
    let id = policy(
        &session,
        RetentionPolicy::new("contacts", "contact", DeletionMethod::Anonymize, 3),
    )
    .await;
    let done = session.retention().run(id, &()).await.unwrap();
    assert_eq!(
        (done.first.as_slice(), done.refused),
        (&[ada.uuid()][..], 0)
    );

    let told = |text: &str| {
        let personal = ["Ada", "Lovelace", "old.example", "new.example", "Countess"];
        let mut personal = personal.into_iter().chain(["horses", "Enchantress"]);
        personal.find(|personal| text.contains(personal))
    };
    for event in session.audit().trail(ada).await.unwrap() {
        let text = event.changes.to_json().to_string();
        assert_eq!(told(&text), None, "{text}");
    }
    for version in session.audit().versions(ada, 20, None).await.unwrap() {
        let text = serde_json::to_string(&version).unwrap();
        assert_eq!(told(&text), None, "{text}");
    }
    let first = session.audit().version(ada, 1).await.unwrap().unwrap();
    assert_eq!(first.record.tags, ["key"], "tags are not personal");
    assert_eq!(session.audit().trail(young).await.unwrap(), kept);
    let report = session.audit().verify(Verification::new()).await.unwrap();
    assert!(report.is_intact(), "{report:?}");

    let events = rows_of(&session, "audit_event").await.len();
    let again = session.retention().run(id, &()).await.unwrap();
    assert_eq!((again.done, again.refused), (0, 0));
    assert_eq!(rows_of(&session, "audit_event").await.len(), events);
}

/// Keeps how many rows the largest commit had.
#[derive(Debug, Default)]
struct Largest(AtomicUsize);

#[async_trait::async_trait]
impl Watch for Largest {
    async fn begins(&self, _: &Scope, call: Call<'_>) -> Result<(), StorageError> {
        if let Call::Commit(changes) = call {
            let count = changes.changes.len();
            self.0.fetch_max(count, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// However long the history of a record is, it is forgotten in commits of bounded size.
#[tokio::test]
async fn a_long_history_is_forgotten_in_pages() {
    let clock = Arc::new(ManualClock::new(moment("2020-01-01T00:00:00Z")));
    let storage = Watched::new(Largest::default());
    let crm = Crm::builder(storage.clone()).clock(clock.clone()).build();
    let (_, session) = tenant(&crm, "acme").await;
    let ada = Contact::named("Ada", "Lovelace");
    let ada = session.contacts().create(ada).await.unwrap().id;
    for number in 0..1_100 {
        let title = format!("Countess {number}");
        let set = |contact: &mut Contact| contact.job_title = Some(title.clone());
        session.contacts().update(ada, set).await.unwrap();
    }
    clock.set(moment("2024-02-01T00:00:00Z"));
    let id = policy(
        &session,
        RetentionPolicy::new("contacts", "contact", DeletionMethod::Anonymize, 3),
    )
    .await;
    storage.watch.0.store(0, Ordering::Relaxed);
    let done = session.retention().run(id, &()).await.unwrap();
    assert_eq!(done.done, 1);
    let largest = storage.watch.0.load(Ordering::Relaxed);
    assert!(
        (100..=500).contains(&largest),
        "{largest} rows in one commit"
    );
    for event in session.audit().trail(ada).await.unwrap() {
        let text = event.changes.to_json().to_string();
        assert!(!text.contains("Countess"), "{text}");
    }
}

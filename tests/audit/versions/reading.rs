//! Versions, states as of a time, differences, histories of fields and summaries.

use crate::common::storage::{Call, Watch, Watched};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use crm_engine::audit::MASK;
use crm_engine::prelude::*;
use crm_engine::query::Cursor;
use crm_engine::schema::ValueRef;
use crm_engine::schema::{Row, Value};
use crm_engine::storage::{Scope, StorageError};
use serde_json::json;
use uuid::Uuid;

use super::{Office, account, common, members, projects, text_field};

#[tokio::test]
async fn a_record_is_read_as_of_any_time() {
    let office = Office::new().await;
    let session = &office.session;
    let start = office.now();
    office.hours_pass(1);
    let ada = Contact::named("Ada", "Lovelace");
    let id = session.contacts().create(ada).await.unwrap().id;
    let mut seen = Vec::new();
    for title in ["Analyst", "Poet", "Countess"] {
        office.hours_pass(1);
        let record = session
            .contacts()
            .update(id, |contact| contact.job_title = Some(title.into()))
            .await
            .unwrap();
        seen.push((office.now(), record));
    }
    office.hours_pass(1);
    session.contacts().delete(id).await.unwrap();
    let deleted = office.now();
    office.hours_pass(1);
    session.contacts().restore(id).await.unwrap();
    let audit = session.audit();
    assert!(audit.as_of(id, start).await.unwrap().is_none());
    for (at, record) in &seen {
        for at in [*at, *at + chrono::TimeDelta::minutes(59)] {
            let then = audit.as_of(id, at).await.unwrap().unwrap();
            assert_eq!(*then.record, **record);
        }
        let before = audit
            .as_of(id, *at - chrono::TimeDelta::microseconds(1))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(before.record.version, record.version - 1);
    }
    let gone = audit.as_of(id, deleted).await.unwrap().unwrap();
    assert_eq!(gone.record.deleted_at, Some(deleted));
    let now = audit.as_of(id, office.now()).await.unwrap().unwrap();
    assert!(now.record.deleted_at.is_none());
    session.contacts().delete(id).await.unwrap();
    session.contacts().purge(id).await.unwrap();
    let last = audit.as_of(id, office.now()).await.unwrap();
    assert!(last.is_none(), "what was removed for good is not there");
    assert!(audit.version(id, 4).await.unwrap().is_some());
}

#[tokio::test]
async fn versions_and_differences_read_well() {
    let office = Office::new().await;
    let session = &office.session;
    text_field(session, "account", "region").await;
    let globex = Account {
        custom_fields: json!({"region": "north"}),
        ..Account::new("Globex")
    };
    let id = session.accounts().create(globex).await.unwrap().id;
    let patch = json!({"annual_revenue": "1000.50", "tags": ["key", "old"], "custom_fields": {"region": "south"}});
    session
        .accounts()
        .merge(id, 1, &members(patch))
        .await
        .unwrap();
    session.accounts().archive(id).await.unwrap();
    session.accounts().delete(id).await.unwrap();
    let audit = session.audit();
    let page = audit.versions(id, 10, None).await.unwrap();
    let told: Vec<_> = page
        .items
        .iter()
        .map(|entry| (entry.version, entry.kind))
        .collect();
    use AuditKind::{Create, Delete, Update};
    assert_eq!(told, [(4, Delete), (3, Update), (2, Update), (1, Create)]);
    let changes: Vec<String> = page.items[2]
        .changes
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        changes,
        [
            "Annual revenue: - → 1000.5",
            "The region: north → south",
            "Tags:  → key, old"
        ]
    );
    assert!(!format!("{page:?}").contains("south"));
    let diff = audit.diff(id, 1, 3).await.unwrap();
    let labels: Vec<&str> = diff.iter().map(|change| change.label.as_str()).collect();
    assert_eq!(
        labels,
        ["Archived at", "Annual revenue", "The region", "Tags"]
    );
    let back = audit.diff(id, 3, 1).await.unwrap();
    for (one, other) in diff.iter().zip(&back) {
        assert_eq!((&one.old, &one.new), (&other.new, &other.old));
    }
    let deletion = audit.diff(id, 3, 4).await.unwrap();
    assert_eq!(deletion[0].field, "deleted_at");
    assert_eq!(deletion.len(), 1);
    assert!(audit.diff(id, 2, 2).await.unwrap().is_empty());
    for (from, to) in [(1, 9), (0, 1)] {
        let error = audit.diff(id, from, to).await.unwrap_err();
        assert_eq!(error.code(), "not_found");
    }
}

/// Recorded reads are in the trail, and are no versions.
#[tokio::test]
async fn a_recorded_read_is_no_version() {
    let office = Office::new().await;
    let session = &office.session;
    let sensitive = ["contact"];
    session
        .configurations()
        .set_sensitive_objects(&sensitive)
        .await
        .unwrap();
    let ada = Contact::named("Ada", "Lovelace");
    let id = session.contacts().create(ada).await.unwrap().id;
    for title in ["Analyst", "Countess"] {
        let change = |contact: &mut Contact| contact.job_title = Some(title.into());
        session.contacts().update(id, change).await.unwrap();
        session.contacts().get(id).await.unwrap();
        session.contacts().get(id).await.unwrap();
    }
    let audit = session.audit();
    let reads = audit.trail(id).await.unwrap();
    let reads = reads.iter().filter(|event| event.event == AuditKind::Read);
    assert!(reads.count() >= 4);
    // Pages have as many versions as were asked for.
    let first = audit.versions(id, 2, None).await.unwrap();
    let rest = audit.versions(id, 2, first.next.clone()).await.unwrap();
    let told = first.items.iter().chain(&rest.items);
    let told: Vec<_> = told.map(|entry| (entry.version, entry.kind)).collect();
    use AuditKind::{Create, Update};
    assert_eq!(told, [(3, Update), (2, Update), (1, Create)]);
    assert!(rest.next.is_none());
}

/// of what is sensitive, it is told that it changed, and nothing else.
#[tokio::test]
async fn sensitive_fields_are_masked_in_differences_and_histories() {
    let office = Office::new().await;
    let (session, tenant) = (&office.session, office.onboarded.tenant);
    for iban in ["DE02 1203", "DE02 9999"] {
        session
            .records::<Tenant>()
            .update(tenant, |tenant| {
                tenant.billing_info = Some(json!({"iban": iban}));
                tenant.settings = json!({"api_key": iban, "color": "red"});
            })
            .await
            .unwrap();
    }
    let audit = session.audit();
    let version = session
        .records::<Tenant>()
        .get(tenant)
        .await
        .unwrap()
        .version;
    let diff = audit.diff(tenant, version - 1, version).await.unwrap();
    let fields: Vec<_> = diff
        .iter()
        .map(|change| (change.field.as_str(), change.masked))
        .collect();
    assert_eq!(fields, [("settings.api_key", true), ("billing_info", true)]);
    for field in ["billing_info", "settings.api_key"] {
        let page = audit.field_history(tenant, field, 10, None).await.unwrap();
        assert_eq!(page.items.len(), 2, "{field}");
        for entry in &page.items {
            assert!(entry.change.masked);
            assert_eq!(entry.change.new, Some(Value::from(MASK)));
        }
        let text = serde_json::to_string(&page.items).unwrap();
        assert!(!text.contains("DE02"));
    }
}

/// C-058.
#[tokio::test]
async fn the_history_of_one_field_has_its_changes_only() {
    let office = Office::new().await;
    let session = &office.session;
    projects(session).await;
    let mut records = session.object("project").await.unwrap();
    let first = json!({"name": "Dome", "custom_fields": {"site": "north"}});
    let id = records.create(&members(first)).await.unwrap().id();
    for patch in [
        json!({"custom_fields": {"city": "Berlin"}}),
        json!({"custom_fields": {"site": "south"}}),
        json!({"name": "Big dome"}),
        json!({"custom_fields": {"site": null}}),
    ] {
        let version = records.get(id).await.unwrap().version();
        records.merge(id, version, &members(patch)).await.unwrap();
    }
    records.delete(id).await.unwrap();
    let project = || EntityRef::new("project", id);
    let audit = session.audit();
    let text = |value: &str| Some(Value::from(value));
    let wanted = [
        (5, text("south"), None),
        (3, text("north"), text("south")),
        (1, None, text("north")),
    ];
    for name in ["site", "custom_fields.site"] {
        let page = audit
            .field_history(project(), name, 10, None)
            .await
            .unwrap();
        let told: Vec<_> = page
            .items
            .iter()
            .map(|entry| {
                (
                    entry.version,
                    entry.change.old.clone(),
                    entry.change.new.clone(),
                )
            })
            .collect();
        assert_eq!(told, wanted, "{name}");
        assert_eq!(page.items[0].change.label, "The site");
    }
    // In pages, of a field that the deletion tells of too.
    let mut told = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let page = audit
            .field_history(project(), "name", 1, after)
            .await
            .unwrap();
        told.extend(page.items.iter().map(|entry| entry.version));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(told, [6, 4, 1]);
    let nothing = audit
        .field_history(project(), "color", 10, None)
        .await
        .unwrap();
    assert!(nothing.items.is_empty());
}

/// A page of a trail that was read once stays as it is, whoever writes at the same time, and the pages
/// together have every version once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pages_that_were_read_never_change() {
    let office = Office::new().await;
    let session = office.session.clone();
    let id = account(&session, "Globex").await;
    for number in 0..40 {
        session
            .accounts()
            .update(id, |account| account.employee_count = Some(number))
            .await
            .unwrap();
    }
    let writers: Vec<_> = (0..4)
        .map(|writer: i32| {
            let session = session.clone();
            tokio::spawn(async move {
                for number in 0..15 {
                    session
                        .accounts()
                        .update(id, |account| {
                            account.employee_count = Some(1_000 * (writer + 1) + number);
                        })
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    let audit = session.audit();
    let mut read = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let trail = audit.trail_page(id, 7, after.clone()).await.unwrap();
        let versions = audit.versions(id, 7, after.clone()).await.unwrap();
        let field = audit
            .field_history(id, "employee_count", 7, after.clone())
            .await
            .unwrap();
        let next = trail.next.clone();
        read.push((after, trail, versions, field));
        if next.is_none() {
            break;
        }
        after = next;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    // The first page has no place of its own: new events come in front of it.
    for (after, trail, versions, field) in read.iter().skip(1) {
        let page = |cursor: &Option<Cursor>| cursor.clone();
        assert_eq!(audit.trail_page(id, 7, page(after)).await.unwrap(), *trail);
        assert_eq!(audit.versions(id, 7, page(after)).await.unwrap(), *versions);
        let again = audit
            .field_history(id, "employee_count", 7, page(after))
            .await
            .unwrap();
        assert_eq!(again, *field);
    }
    let versions: Vec<i64> = read
        .iter()
        .flat_map(|(_, trail, ..)| &trail.items)
        .map(|event| event.record_version)
        .collect();
    let first = versions[0];
    assert_eq!(versions, (1..=first).rev().collect::<Vec<_>>());
    let all = audit.trail(id).await.unwrap();
    let all: BTreeSet<i64> = all.iter().map(|event| event.record_version).collect();
    assert_eq!(all, (1..=101).collect());
}

/// C-104: what the summary counts is what the events say.
#[tokio::test]
async fn the_activity_of_a_user_is_counted_by_object_and_kind() {
    let office = Office::new().await;
    let grace = User::new("grace@acme.example".parse::<EmailAddress>().unwrap());
    let grace = office.session.users().create(grace).await.unwrap().id;
    let session = office
        .crm
        .session(office.onboarded.tenant, Actor::User(grace));
    let before = office.now();
    session
        .accounts()
        .create(Account::new("Early"))
        .await
        .unwrap();
    office.hours_pass(1);
    let start = office.now();
    let mut ids = Vec::new();
    for name in ["A", "B", "C"] {
        ids.push(account(&session, name).await);
    }
    office.hours_pass(1);
    session
        .accounts()
        .update(ids[0], |account| account.industry = Some("mining".into()))
        .await
        .unwrap();
    session.accounts().delete(ids[1]).await.unwrap();
    session
        .contacts()
        .create(Contact::named("Ada", "Lovelace"))
        .await
        .unwrap();
    office
        .session
        .accounts()
        .create(Account::new("Of somebody else"))
        .await
        .unwrap();
    let last = office.now();
    office.hours_pass(1);
    let end = office.now();
    session
        .accounts()
        .create(Account::new("Late"))
        .await
        .unwrap();
    let audit = office.session.audit();
    let counts = audit
        .activity_summary(Actor::User(grace), start..end)
        .await
        .unwrap();
    let told: BTreeSet<_> = counts
        .iter()
        .map(|entry| (entry.object.as_str(), entry.kind.to_string(), entry.count))
        .collect();
    let wanted = [
        ("account", "create", 3),
        ("account", "delete", 1),
        ("account", "update", 1),
        ("contact", "create", 1),
    ];
    let wanted = wanted.map(|(object, kind, count)| (object, kind.to_owned(), count));
    assert_eq!(told, BTreeSet::from(wanted));
    use AuditKind::{Create, Update};
    let created = &counts
        .iter()
        .find(|entry| entry.object == "account" && entry.kind == Create)
        .unwrap();
    assert_eq!(
        (created.first_at, created.last_at),
        (Some(start), Some(start))
    );
    let updated = counts.iter().find(|entry| entry.kind == Update).unwrap();
    assert_eq!(updated.last_at, Some(last));
    let nobody = Actor::User(Id::new(Uuid::from_u128(7)));
    let nothing = audit.activity_summary(nobody, before..end).await.unwrap();
    assert!(nothing.is_empty());
}

/// The versions of the events that are read, and the most of them that are read at once.
#[derive(Debug, Default)]
struct Events {
    most: AtomicUsize,
    versions: Mutex<Vec<i64>>,
}

#[async_trait]
impl Watch for Events {
    async fn ends(
        &self,
        _: &Scope,
        call: Call<'_>,
        rows: &[Row],
    ) -> std::result::Result<(), StorageError> {
        if let Call::Select(query) = call
            && query.object.name() == "audit_event"
        {
            self.most.fetch_max(rows.len(), Ordering::SeqCst);
            let versions = rows
                .iter()
                .filter_map(|row| match row.get("record_version") {
                    ValueRef::Integer(version) => Some(version),
                    _ => None,
                });
            self.versions.lock().unwrap().extend(versions);
        }
        Ok(())
    }
}

/// A long trail is read in pages, and only as far as is needed.
#[tokio::test]
async fn a_version_of_a_long_trail_reads_no_event_behind_it() {
    let storage = Watched::new(Events::default());
    let Events { most, versions } = &storage.watch;
    let crm = Crm::builder(storage.clone()).build();
    let (_, session) = common::tenant(&crm, "acme").await;
    let mut record = session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap();
    let id = record.id;
    for number in 2..=10_000 {
        record = session
            .accounts()
            .update_record(&record, |account| account.employee_count = Some(number))
            .await
            .unwrap();
    }
    for wanted in [1_i32, 700, 2_500] {
        versions.lock().unwrap().clear();
        most.store(0, Ordering::SeqCst);
        let version = i64::from(wanted);
        let then = session.audit().version(id, version).await.unwrap().unwrap();
        assert_eq!(then.record.employee_count, (wanted > 1).then_some(wanted));
        let read = std::mem::take(&mut *versions.lock().unwrap());
        assert!(read.iter().all(|read| *read <= version + 1));
        assert!(read.len() <= wanted as usize + 10);
        assert!(most.load(Ordering::SeqCst) <= 1_001);
    }
    versions.lock().unwrap().clear();
    let at = record.updated.at;
    let now = session.audit().as_of(id, at).await.unwrap().unwrap();
    assert_eq!(now.record.version, 10_000);
}

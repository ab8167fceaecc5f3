//! Keys that are exchanged: what the trail tells of it, what was archived meanwhile, and how duplicates
//! are found all along.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{NaiveDate, NaiveTime, TimeDelta};
use crm_engine::audit::encryption::{DataKey, EncryptedStorage, Key, MasterKeys};
use crm_engine::audit::{AuditCategory, archived_events};
use crm_engine::duplicates::{CompiledRule, DuplicateMode, DuplicateRule};
use crm_engine::engine::ManualClock;
use crm_engine::prelude::*;
use crm_engine::schema::Row;
use crm_engine::storage::Storage;
use crm_engine::{MemoryStorage, PostgresStorage};
use crm_test_postgres::Database;
use serde_json::Value as Json;
use uuid::Uuid;

use super::{Encrypted, ada, email, stored};
use crate::common::{Property, backend, rows_of, tenant};

/// The storage behind, a CRM over one that encrypts, and the time.
struct Place {
    inner: Arc<dyn Storage>,
    memory: Option<MemoryStorage>,
    database: Option<Database>,
    clock: Arc<ManualClock>,
}

impl Place {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new("2026-01-15T09:00:00Z".parse().unwrap()));
        let object = Property::schema().clone();
        if backend::is_postgres() {
            let database = Database::fresh(std::slice::from_ref(&object)).unwrap();
            let pool = database.lazy_pool(10).unwrap();
            let storage = PostgresStorage::builder().named_object(&object).build(pool);
            return Self {
                inner: Arc::new(storage),
                memory: None,
                database: Some(database),
                clock,
            };
        }
        let memory = MemoryStorage::new();
        Self {
            inner: Arc::new(memory.clone()),
            memory: Some(memory),
            database: None,
            clock,
        }
    }

    fn plain(&self) -> Crm {
        Crm::builder(self.inner.clone())
            .object::<Property>()
            .clock(self.clock.clone())
            .build()
    }

    /// One process of the host.
    fn encrypted(&self, masters: MasterKeys) -> (Arc<Encrypted>, Crm) {
        let storage = EncryptedStorage::builder(self.inner.clone(), masters);
        let storage = Arc::new(storage.clock(self.clock.clone()).build());
        let crm = Crm::builder(storage.clone())
            .object::<Property>()
            .clock(self.clock.clone())
            .build();
        (storage, crm)
    }

    /// Moves the events of January to the archive.
    async fn archive(&self) -> u64 {
        let before = NaiveDate::from_ymd_opt(2026, 2, 1).unwrap();
        if let Some(memory) = &self.memory {
            let before = before.and_time(NaiveTime::MIN).and_utc();
            let log = AuditEvent::schema();
            return memory.move_entries(log, archived_events(), before).unwrap();
        }
        let mut owner = self.database.as_ref().unwrap().owner().await.unwrap();
        let months = crm_engine::postgres::archive_partitions(&mut owner, "crm", before);
        months.await.unwrap().iter().map(|month| month.events).sum()
    }
}

fn first() -> MasterKeys {
    MasterKeys::new("first", Key::new([7; 32]))
}

/// What an event says changed in a field.
fn change(event: &AuditEvent, field: &str) -> (Json, Json) {
    let change = event.changes.field(field);
    let change = change.unwrap_or_else(|| panic!("{field} in {:?}", event.changes.fields()));
    let side = |value: &Option<crm_engine::schema::Value>| {
        value.as_ref().map_or(Json::Null, |value| value.to_json())
    };
    (side(&change.old), side(&change.new))
}

/// C-078, C-057: that a key was exchanged, wrapped anew and removed is told, with its number and master
/// key, and nothing of the key.
#[tokio::test]
async fn what_becomes_of_keys_is_told_and_no_key_is_shown() {
    let place = Place::new();
    let (storage, crm) = place.encrypted(first());
    let (onboarded, session) = tenant(&crm, "acme").await;
    let tenant = onboarded.tenant;
    session.contacts().create(ada()).await.unwrap();
    let records = async |session: &Session| {
        let all = session.records::<DataKey>().find(Find::new()).await;
        let mut all = all.unwrap().items;
        all.sort_by_key(|key| (key.purpose, key.number));
        all
    };
    let mut wrapped: BTreeSet<String> = BTreeSet::new();
    let first_key = records(&session).await[0].id;
    assert!(session.audit().trail(first_key).await.unwrap().is_empty());

    place.clock.advance(TimeDelta::minutes(1));
    storage.keys().rotate(tenant).await.unwrap();
    storage.encrypt_tenant(&session, &()).await.unwrap();
    wrapped.extend(
        records(&session)
            .await
            .iter()
            .map(|key| key.wrapped.clone()),
    );
    let second_key = records(&session).await[1].id;
    let masters = MasterKeys::new("second", Key::new([9; 32])).with("first", Key::new([7; 32]));
    let (storage, crm) = place.encrypted(masters);
    let session = crm.session(tenant, Actor::User(onboarded.admin));
    place.clock.advance(TimeDelta::minutes(1));
    assert_eq!(storage.keys().rewrap(tenant).await.unwrap(), 3);
    wrapped.extend(
        records(&session)
            .await
            .iter()
            .map(|key| key.wrapped.clone()),
    );
    place.clock.advance(TimeDelta::hours(2));
    let dropped = storage.drop_retired_keys(&session, &()).await.unwrap();
    assert_eq!(dropped.len(), 1);

    let old = session.audit().trail(first_key).await.unwrap();
    let kinds: Vec<_> = old.iter().map(|event| event.event).collect();
    let told = [AuditKind::Update, AuditKind::Update, AuditKind::Purge];
    assert_eq!(kinds, told);
    let (before, after) = change(&old[0], "retired_at");
    assert!(before.is_null() && after.as_str().unwrap().starts_with("2026-01-15T09:01"));
    let masters = (Json::from("first"), Json::from("second"));
    assert_eq!(change(&old[1], "provider_key"), masters);
    assert_eq!(change(&old[2], "number"), (Json::from(1), Json::Null));
    let new = session.audit().trail(second_key).await.unwrap();
    let kinds: Vec<_> = new.iter().map(|event| event.event).collect();
    assert_eq!(kinds, [AuditKind::Create, AuditKind::Update]);
    assert_eq!(change(&new[0], "number"), (Json::Null, Json::from(2)));
    assert_eq!(
        old[0].commit_id, new[0].commit_id,
        "an exchange is one commit"
    );
    for event in old.iter().chain(&new) {
        assert_eq!(event.created.by, Actor::System);
        assert_eq!(
            (event.object.as_str(), event.category),
            ("data_key", AuditCategory::Configuration)
        );
        let shown = format!("{event:?} {}", event.changes.to_json());
        assert!(!shown.contains("wrapped"), "{shown}");
        assert!(wrapped.iter().all(|key| !shown.contains(key)), "{shown}");
        // They are sealed like others.
        let object = AuditEvent::schema();
        let row = stored(&place.inner, &session, object, event.id.uuid()).await;
        assert!(row.sealed().is_some());
    }
    // Nobody undoes an exchange.
    let keys = storage.keys().keys(tenant).await.unwrap();
    let _ = session.audit().undo_commit(new[0].commit_id).await;
    assert_eq!(storage.keys().keys(tenant).await.unwrap(), keys);
    session
        .contacts()
        .create(Contact::named("Bob", "Builder"))
        .await
        .unwrap();
}

/// C-070, C-078: events that lie in the archive are sealed by the pass, sealed anew after an exchange,
/// keep the key that they are sealed with from being removed, and are read through it all.
#[tokio::test]
async fn archived_events_are_sealed_and_sealed_anew() {
    let place = Place::new();
    let (onboarded, plain) = tenant(&place.plain(), "acme").await;
    let contact = plain.contacts().create(ada()).await.unwrap().id;
    place.clock.advance(TimeDelta::days(40));
    assert!(place.archive().await > 0);
    let archived = async |session: &Session| -> Vec<Row> {
        let query =
            crm_engine::query::Query::new(archived_events(), crm_engine::query::Condition::all());
        place.inner.select(session.scope(), &query).await.unwrap()
    };
    let in_the_clear = archived(&plain).await;
    assert!(format!("{:?}", in_the_clear[0].to_json()).len() > 10);
    let told = |rows: &[Row]| {
        rows.iter()
            .any(|row| format!("{:?}", row.to_json()).contains("Lovelace"))
    };
    assert!(told(&in_the_clear));

    let (storage, crm) = place.encrypted(first());
    let session = crm.session(onboarded.tenant, Actor::User(onboarded.admin));
    let report = storage.encrypt_tenant(&session, &()).await.unwrap();
    assert!(report.is_complete, "{report:?}");
    assert!(report.rows[archived_events().name()] > 0, "{report:?}");
    let sealed = archived(&session).await;
    assert!(!told(&sealed) && sealed.len() == in_the_clear.len());
    let reads = async |session: &Session| {
        let trail = session.audit().trail(contact).await.unwrap();
        assert_eq!(trail.len(), 1);
        assert_eq!(change(&trail[0], "last_name").1, "Lovelace");
    };
    reads(&session).await;

    // An exchange: the key of before stays while the archive needs it.
    storage.keys().rotate(onboarded.tenant).await.unwrap();
    place.clock.advance(TimeDelta::hours(2));
    let early = storage.drop_retired_keys(&session, &()).await.unwrap();
    assert!(early.is_empty(), "{early:?}");
    let report = storage.encrypt_tenant(&session, &()).await.unwrap();
    assert!(report.is_complete && report.rows[archived_events().name()] > 0);
    let anew = archived(&session).await;
    for (before, after) in sealed.iter().zip(&anew) {
        assert_eq!(before.to_json(), after.to_json());
        assert!(before.sealed().is_none() == after.sealed().is_none());
        assert!(before.sealed().is_none() || before.sealed() != after.sealed());
    }
    assert_eq!(
        storage
            .drop_retired_keys(&session, &())
            .await
            .unwrap()
            .len(),
        1
    );
    reads(&session).await;

    // Another master key: what is archived is read by the same keys, wrapped anew.
    let masters = MasterKeys::new("second", Key::new([9; 32])).with("first", Key::new([7; 32]));
    let (storage, _) = place.encrypted(masters);
    assert_eq!(storage.keys().rewrap(onboarded.tenant).await.unwrap(), 2);
    let (_, crm) = place.encrypted(MasterKeys::new("second", Key::new([9; 32])));
    reads(&crm.session(onboarded.tenant, Actor::User(onboarded.admin))).await;
}

// ---- Duplicates -----------------------------------------------------------------------------

async fn strict(session: &Session) -> Id<DuplicateRule> {
    let rule = DuplicateRule {
        mode: DuplicateMode::Strict,
        ..DuplicateRule::contacts()
    };
    let rule = session.duplicate_rules().create(rule).await.unwrap().id;
    let duplicates = session.duplicates();
    duplicates.rebuild_keys(rule, None, &()).await.unwrap();
    rule
}

/// The keys that anybody could make of a record who knows its rule.
async fn guessed(session: &Session, rule: Id<DuplicateRule>, of: Id<Contact>) -> BTreeSet<Uuid> {
    let rule = session.duplicate_rules().get(rule).await.unwrap();
    let compiled = CompiledRule::new(&rule.rule, rule.id.uuid(), Contact::schema()).unwrap();
    let contact = session.contacts().get(of).await.unwrap();
    let keys = compiled.keys(&compiled.prepare(&*contact));
    assert!(!keys.is_empty());
    keys.iter().map(|key| key.key).collect()
}

/// The ids and keys that stand in the storage.
async fn keys_in(session: &Session) -> BTreeSet<Uuid> {
    let rows = rows_of(session, "duplicate_key").await;
    let keys = rows.iter().filter_map(|row| row.get("key").as_uuid());
    keys.chain(rows.iter().map(|row| row.id())).collect()
}

async fn is_refused_as_duplicate(session: &Session) {
    let again = Contact {
        email: Some(email("ADA@analytical.example")),
        ..Contact::named("Ada", "Lovelace")
    };
    let refused = session.contacts().create(again).await.unwrap_err();
    assert_eq!(refused.code(), "duplicate_found", "{refused:?}");
}

/// C-080: who has the database and a list of names cannot tell from the keys of duplicates which of them
/// are in it; duplicates are found as before, whatever keys are exchanged.
#[tokio::test]
async fn keys_of_duplicates_cannot_be_guessed() {
    let place = Place::new();
    let (storage, crm) = place.encrypted(first());
    let (onboarded, session) = tenant(&crm, "acme").await;
    let rule = strict(&session).await;
    let contact = session.contacts().create(ada()).await.unwrap().id;
    let kept = keys_in(&session).await;
    assert!(!kept.is_empty());
    assert!(kept.is_disjoint(&guessed(&session, rule, contact).await));
    is_refused_as_duplicate(&session).await;
    // Those of another tenant have nothing in common with them.
    let (_, other) = tenant(&crm, "globex").await;
    strict(&other).await;
    other.contacts().create(ada()).await.unwrap();
    assert!(kept.is_disjoint(&keys_in(&other).await));

    storage.keys().rotate(onboarded.tenant).await.unwrap();
    storage.encrypt_tenant(&session, &()).await.unwrap();
    place.clock.advance(TimeDelta::hours(2));
    let dropped = storage.drop_retired_keys(&session, &()).await.unwrap();
    assert_eq!(dropped.len(), 1);
    assert_eq!(keys_in(&session).await, kept);
    let (_, crm) = place.encrypted(first());
    is_refused_as_duplicate(&crm.session(onboarded.tenant, Actor::User(onboarded.admin))).await;
}

/// The keys of records that were there before are made anew by the pass.
#[tokio::test]
async fn keys_of_duplicates_of_before_are_made_anew() {
    let place = Place::new();
    let (onboarded, plain) = tenant(&place.plain(), "acme").await;
    let rule = strict(&plain).await;
    let contact = plain.contacts().create(ada()).await.unwrap().id;
    let guessed = guessed(&plain, rule, contact).await;
    let before = keys_in(&plain).await;
    assert!(!before.is_disjoint(&guessed));

    let (storage, crm) = place.encrypted(first());
    let session = crm.session(onboarded.tenant, Actor::User(onboarded.admin));
    let report = storage.encrypt_tenant(&session, &()).await.unwrap();
    assert!(
        report.is_complete && report.rows["duplicate_key"] > 0,
        "{report:?}"
    );
    let after = keys_in(&session).await;
    assert!(!after.is_empty() && after.is_disjoint(&before));
    is_refused_as_duplicate(&session).await;
    let again = storage.encrypt_tenant(&session, &()).await.unwrap();
    assert!(again.is_complete && again.rows.is_empty(), "{again:?}");
}

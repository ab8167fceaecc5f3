//! Keys of tenants (R-006, C-078, C-079): who makes, wraps and exchanges them, and passes that seal
//! every record anew while others write.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::TimeDelta;
use crm_engine::MemoryStorage;
use crm_engine::Stamp;
use crm_engine::audit::encryption::{
    DataKey, EncryptedStorage, Key, KeyError, KeyProvider, KeyPurpose, KeyStore, Keyring,
    MasterKeys, SealRows, WrappedKey,
};
use crm_engine::engine::{Clock as _, ManualClock, SystemClock};
use crm_engine::exchange::tenant::TenantExport;
use crm_engine::prelude::*;
use crm_engine::schema::{Dynamic, ObjectRef, Row, SYSTEM_FIELDS, Value};
use crm_engine::storage::{Change, ChangeSet, Expectation, Scope, Storage, StorageError};
use uuid::Uuid;

use crate::common::{backend, tenant};

type Store = KeyStore<dyn Storage>;

/// Counts what it unwraps, and does what it is told.
#[derive(Debug)]
struct Provider {
    keys: Mutex<MasterKeys>,
    unwrapped: AtomicUsize,
    is_away: AtomicBool,
    refuses: AtomicBool,
}

impl Provider {
    fn new(keys: MasterKeys) -> Arc<Self> {
        Arc::new(Self {
            keys: Mutex::new(keys),
            unwrapped: AtomicUsize::new(0),
            is_away: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
        })
    }

    fn unwrapped(&self) -> usize {
        self.unwrapped.load(Ordering::SeqCst)
    }

    async fn asked(&self) -> Result<MasterKeys, KeyError> {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        if self.is_away.load(Ordering::SeqCst) {
            return Err(KeyError::Unavailable("no route to the provider".into()));
        }
        if self.refuses.load(Ordering::SeqCst) {
            let reason = "the contract has ended".into();
            return Err(KeyError::Refused { reason });
        }
        Ok(self.keys.lock().unwrap().clone())
    }
}

#[async_trait]
impl KeyProvider for Provider {
    async fn wrap(&self, tenant: Id<Tenant>, key: &Key) -> Result<WrappedKey, KeyError> {
        self.asked().await?.wrap(tenant, key).await
    }

    async fn unwrap(&self, tenant: Id<Tenant>, key: &WrappedKey) -> Result<Key, KeyError> {
        let keys = self.asked().await?;
        self.unwrapped.fetch_add(1, Ordering::SeqCst);
        keys.unwrap(tenant, key).await
    }
}

fn master(byte: u8) -> Key {
    Key::new([byte; 32])
}

/// A tenant without keys, and its storage.
struct Place {
    session: Session,
    tenant: Id<Tenant>,
    storage: Arc<dyn Storage>,
    provider: Arc<Provider>,
}

impl Place {
    async fn new() -> Self {
        // Behind the engine, which does not read sealed rows.
        let storage = backend::plain(&[]);
        let crm = Crm::builder(storage.clone()).build();
        let (onboarded, session) = tenant(&crm, "acme").await;
        Self {
            tenant: onboarded.tenant,
            storage,
            session,
            provider: Provider::new(MasterKeys::new("2026", master(1))),
        }
    }

    /// The keys as one process of the host knows them.
    fn store(&self) -> Store {
        KeyStore::new(self.storage.clone(), self.provider.clone())
    }

    fn scope(&self) -> Scope {
        Scope::Tenant(self.tenant)
    }

    fn commit_of(&self, changes: Vec<Change>) -> ChangeSet {
        let engine = self.session.engine();
        let at = engine.clock().now();
        ChangeSet::new(engine.ids().next(at), at, changes, Vec::new())
    }

    /// Has a store seal a commit of these changes.
    async fn commit(&self, keys: &Store, changes: Vec<Change>) -> Result<Keyring, StorageError> {
        let mut commit = self.commit_of(changes);
        let ring = keys.for_commit(self.tenant, &mut commit).await?;
        self.storage.commit(&self.scope(), &commit).await?;
        Ok(ring)
    }
}

/// What one seals the other opens.
fn assert_opens(seals: &Keyring, opens: &Keyring) {
    let id = Uuid::from_u128(5);
    let sealed = seals.seal(id, b"Ada").unwrap();
    assert_eq!(&**opens.open(id, &sealed).unwrap(), b"Ada");
    let token = |ring: &Keyring| ring.token("contact.email", "ada@acme.example", 100);
    assert_eq!(token(seals), token(opens));
}

fn is_outdated(error: &StorageError) -> bool {
    Store::is_outdated(error)
}

#[tokio::test]
async fn the_first_commit_makes_the_keys_in_the_same_step() {
    let place = Place::new().await;
    let (keys, others) = (place.store(), place.store());
    assert!(keys.keyring(place.tenant).await.unwrap().is_none());

    // What fails leaves no keys.
    let mut failing = place.commit_of(Vec::new());
    failing.expects.push(Expectation {
        object: Contact::schema().clone(),
        id: Uuid::from_u128(1),
        version: 1,
    });
    keys.for_commit(place.tenant, &mut failing).await.unwrap();
    let refused = place.storage.commit(&place.scope(), &failing).await;
    assert!(!is_outdated(&refused.unwrap_err()));
    assert_eq!(keys.keys(place.tenant).await.unwrap(), []);
    assert!(keys.keyring(place.tenant).await.unwrap().is_none());

    // Two processes make the first keys at the same time: one does.
    let mut late = place.commit_of(Vec::new());
    others.for_commit(place.tenant, &mut late).await.unwrap();
    let ring = place.commit(&keys, Vec::new()).await.unwrap();
    let refused = place.storage.commit(&place.scope(), &late).await;
    assert!(is_outdated(&refused.unwrap_err()));
    others.reload(place.tenant).await.unwrap();
    let theirs = place.commit(&others, Vec::new()).await.unwrap();
    assert_opens(&ring, &theirs);
    assert_opens(&theirs, &ring);

    let told = keys.keys(place.tenant).await.unwrap();
    let told = told
        .iter()
        .map(|key| (key.purpose, key.number, key.retired_at));
    let first = [(KeyPurpose::Data, 1, None), (KeyPurpose::Tokens, 1, None)];
    assert_eq!(told.collect::<Vec<_>>(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_ask_each_key_is_unwrapped_once() {
    let place = Place::new().await;
    place.store().rotate(place.tenant).await.unwrap();
    let before = place.provider.unwrapped();
    let keys = Arc::new(place.store());
    for round in 1..=2 {
        let readers = (0..16).map(|_| {
            let (keys, tenant) = (keys.clone(), place.tenant);
            tokio::spawn(async move { keys.keyring(tenant).await.unwrap().unwrap().active() })
        });
        let mut active = Vec::new();
        for reader in readers.collect::<Vec<_>>() {
            active.push(reader.await.unwrap());
        }
        active.dedup();
        assert_eq!(active.len(), 1);
        assert_eq!(place.provider.unwrapped() - before, 2 * round);
        // What is looked up again is known; what is forgotten is asked for.
        for _ in 0..3 {
            keys.reload(place.tenant).await.unwrap();
        }
        assert_eq!(place.provider.unwrapped() - before, 2 * round);
        keys.forget(place.tenant);
    }
}

/// C-079: nothing is opened without the provider's consent.
#[tokio::test]
async fn a_provider_that_gives_no_key_is_a_typed_error() {
    let place = Place::new().await;
    let keys = place.store();
    place.provider.is_away.store(true, Ordering::SeqCst);
    let away = place.commit(&keys, Vec::new()).await.unwrap_err();
    assert!(away.is_retryable());
    place.provider.is_away.store(false, Ordering::SeqCst);
    place.commit(&keys, Vec::new()).await.unwrap();

    place.provider.refuses.store(true, Ordering::SeqCst);
    let refused = keys.keyring(place.tenant).await.unwrap_err();
    assert!(matches!(
        KeyError::of(&refused),
        Some(KeyError::Refused { .. })
    ));
    assert!(!refused.is_retryable());
    place.provider.refuses.store(false, Ordering::SeqCst);
    assert!(keys.keyring(place.tenant).await.unwrap().is_some());

    *place.provider.keys.lock().unwrap() = MasterKeys::new("2026", master(2));
    keys.forget(place.tenant);
    let wrong = keys.keyring(place.tenant).await.unwrap_err();
    assert!(matches!(
        KeyError::of(&wrong),
        Some(KeyError::UnknownKey { .. })
    ));
    // Nothing shows a wrapped key.
    let shown = format!("{:?}", keys.keys(place.tenant).await.unwrap());
    let rows = place.session.records::<DataKey>();
    for row in rows.find(Find::new()).await.unwrap().items {
        assert!(!shown.contains(&row.wrapped));
        assert!(!format!("{row:?}").contains(&row.wrapped));
    }
}

#[tokio::test]
async fn nothing_is_sealed_with_a_key_that_was_exchanged() {
    let place = Place::new().await;
    let (keys, others) = (place.store(), place.store());
    let first = place.commit(&keys, Vec::new()).await.unwrap();
    others.keyring(place.tenant).await.unwrap();
    let new = keys.rotate(place.tenant).await.unwrap();
    assert_eq!((new.number, new.retired_at), (2, None));
    assert_ne!(new.id, first.active());

    let refused = place.commit(&others, Vec::new()).await.unwrap_err();
    assert!(is_outdated(&refused), "{refused}");
    others.reload(place.tenant).await.unwrap();
    let theirs = place.commit(&others, Vec::new()).await.unwrap();
    assert_eq!(theirs.active(), new.id);
    assert_opens(&first, &theirs);

    // At once with others, exchanges are counted one by one, and one key seals.
    let stores: Vec<Store> = (0..4).map(|_| place.store()).collect();
    let rotations = stores.iter().map(|store| store.rotate(place.tenant));
    let rotated = futures::future::join_all(rotations).await;
    let told = keys.keys(place.tenant).await.unwrap();
    let data: Vec<_> = told
        .iter()
        .filter(|key| key.purpose == KeyPurpose::Data)
        .collect();
    let numbers: Vec<i64> = data.iter().map(|key| key.number).collect();
    assert!(
        numbers
            .iter()
            .copied()
            .eq(1..=i64::try_from(numbers.len()).unwrap())
    );
    assert!((3..=6).contains(&numbers.len()));
    assert_eq!(
        data.iter().filter(|key| key.retired_at.is_none()).count(),
        1
    );
    for rotated in rotated {
        assert!(numbers.contains(&rotated.unwrap().number));
    }
}

#[tokio::test]
async fn keys_are_wrapped_anew_when_the_master_key_changes() {
    let place = Place::new().await;
    let keys = place.store();
    let before = place.commit(&keys, Vec::new()).await.unwrap();
    keys.rotate(place.tenant).await.unwrap();
    assert_eq!(keys.rewrap(place.tenant).await.unwrap(), 0);
    *place.provider.keys.lock().unwrap() =
        MasterKeys::new("2027", master(3)).with("2026", master(1));
    assert_eq!(keys.rewrap(place.tenant).await.unwrap(), 3);
    assert_eq!(keys.rewrap(place.tenant).await.unwrap(), 0);
    let told = keys.keys(place.tenant).await.unwrap();
    assert!(told.iter().all(|key| key.provider_key == "2027"));
    // Without the master key of before.
    *place.provider.keys.lock().unwrap() = MasterKeys::new("2027", master(3));
    let ring = place.store().keyring(place.tenant).await.unwrap().unwrap();
    assert_opens(&before, &ring);
    place.commit(&keys, Vec::new()).await.unwrap();
}

#[tokio::test]
async fn no_session_writes_keys_and_no_export_has_them() {
    let place = Place::new().await;
    place.commit(&place.store(), Vec::new()).await.unwrap();
    let page = place.session.records::<DataKey>().find(Find::new()).await;
    let key = page.unwrap().items.remove(0);
    let mut records = place.session.records::<DataKey>();
    assert!(records.create(key.data.clone()).await.is_err());
    assert!(
        records
            .update(key.id, |key| key.retired_at = None)
            .await
            .is_err()
    );
    assert!(records.delete(key.id).await.is_err());
    assert!(records.purge(key.id).await.is_err());
    assert_eq!(place.session.audit().trail(key.id).await.unwrap(), []);

    let mut file = Vec::new();
    let export = TenantExport::new();
    export.run(&place.session, &mut file, &()).await.unwrap();
    let file = String::from_utf8(file).unwrap();
    assert!(!file.contains(&key.wrapped) && !file.contains("data_key"));
}

// ---- Passes ---------------------------------------------------------------------------------

/// Seals the description of contacts; and what the store itself sealed, the events of keys.
struct Descriptions;

/// What seals events of keys: any storage that encrypts.
fn of_events() -> EncryptedStorage<MemoryStorage> {
    EncryptedStorage::new(MemoryStorage::new(), MasterKeys::new("none", master(0)))
}

fn is_event_of_key(row: &Row) -> bool {
    row.object() == AuditEvent::schema() && row.get("object").as_text() == Some("data_key")
}

impl Descriptions {
    fn with(row: &Row, text: Value) -> Vec<Value> {
        let place = row.object().field_index("description").unwrap() - SYSTEM_FIELDS;
        let mut values = row.values();
        values[place] = text;
        values
    }
}

impl SealRows for Descriptions {
    fn seal_row(&self, ring: &Keyring, row: &Row) -> Result<Row, StorageError> {
        if is_event_of_key(row) {
            return of_events().seal_row(ring, row);
        }
        match row.get("description").as_text() {
            Some(text) if row.object() == Contact::schema() => {
                let sealed = ring.seal(row.id(), text.as_bytes()).unwrap();
                let values = Self::with(row, Value::Null);
                let row = Dynamic::new(row.object().clone(), row.meta(), values);
                Ok(Arc::new(row.with_sealed(sealed)))
            }
            _ => Ok(row.clone()),
        }
    }

    fn open_row(&self, ring: &Keyring, row: &Row) -> Result<Row, StorageError> {
        if is_event_of_key(row) {
            return of_events().open_row(ring, row);
        }
        let Some(sealed) = row.sealed() else {
            return Ok(row.clone());
        };
        let failed = |error| StorageError::Failed(Box::new(error));
        let plain = ring.open(row.id(), sealed).map_err(failed)?;
        let text = Value::from(std::str::from_utf8(&plain).unwrap());
        Ok(row
            .object()
            .build(row.meta(), Self::with(row, text))
            .unwrap())
    }
}

impl Place {
    async fn contacts(&self, count: usize) -> Vec<Uuid> {
        let contacts = (0..count).map(|number| Contact {
            description: Some(format!("contact {number}:")),
            ..Contact::named("Maria", "Lopez")
        });
        let made = self.session.contacts().create_all(contacts.collect()).await;
        made.unwrap()
            .iter()
            .map(|contact| contact.id.uuid())
            .collect()
    }

    async fn objects(&self) -> Vec<ObjectRef> {
        let registry = self.session.registry().await.unwrap();
        registry.all_objects().values().cloned().collect()
    }

    async fn stored(&self, ids: &[Uuid]) -> Vec<Row> {
        let rows = self
            .storage
            .get(&self.scope(), Contact::schema(), ids)
            .await;
        rows.unwrap()
    }

    /// Adds a letter to a description, as one process of the host does through its encryption.
    async fn write(&self, keys: &Store, id: Uuid) {
        loop {
            let before = self.stored(&[id]).await.remove(0);
            let ring = keys.keyring(self.tenant).await.unwrap();
            let ring = match ring {
                Some(ring) if before.sealed().is_none_or(|it| ring.open(id, it).is_ok()) => ring,
                _ => match keys.reload(self.tenant).await.unwrap() {
                    Some(ring) => ring,
                    None => continue,
                },
            };
            let opened = Descriptions.open_row(&ring, &before).unwrap();
            let text = format!("{}x", opened.get("description").as_text().unwrap());
            let stamp = Stamp {
                at: opened.meta().updated.at,
                by: Actor::System,
            };
            let values = Descriptions::with(&opened, Value::from(text));
            let after = opened
                .object()
                .build(opened.meta().next(stamp), values)
                .unwrap();
            let mut commit = self.commit_of(Vec::new());
            let ring = keys.for_commit(self.tenant, &mut commit).await.unwrap();
            let after = Descriptions.seal_row(&ring, &after).unwrap();
            commit.changes.push(Change::Update { before, after });
            match self.storage.commit(&self.scope(), &commit).await {
                Ok(_) => return,
                Err(error) if is_outdated(&error) => {
                    keys.reload(self.tenant).await.unwrap();
                }
                Err(StorageError::Conflict { .. } | StorageError::Unavailable(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_pass_can_be_stopped_and_does_the_rest_later() {
    let place = Place::new().await;
    let ids = place.contacts(1_203).await;
    let (keys, objects) = (place.store(), place.objects().await);
    let contacts = [Contact::schema().clone()];
    let once = |_: u64, _: Option<u64>| ControlFlow::Break(());
    let report = keys
        .reseal(place.tenant, &contacts, &Descriptions, &once)
        .await
        .unwrap();
    assert!(!report.is_complete);
    assert_eq!(report.rows, BTreeMap::from([("contact".to_owned(), 500)]));
    let report = keys
        .reseal(place.tenant, &objects, &Descriptions, &())
        .await
        .unwrap();
    assert!(report.is_complete);
    assert_eq!(report.rows, BTreeMap::from([("contact".to_owned(), 703)]));
    let report = keys
        .reseal(place.tenant, &objects, &Descriptions, &())
        .await
        .unwrap();
    assert_eq!(report.rows, BTreeMap::new());
    let ring = keys.keyring(place.tenant).await.unwrap().unwrap();
    for (number, row) in place.stored(&ids).await.iter().enumerate() {
        assert_eq!(row.version(), 1);
        assert!(row.get("description").is_null());
        let opened = Descriptions.open_row(&ring, row).unwrap();
        let text = format!("contact {number}:");
        assert_eq!(opened.get("description").as_text(), Some(text.as_str()));
    }
}

/// A rotation and a pass under concurrent writers lose nothing and double nothing.
#[tokio::test(flavor = "multi_thread")]
async fn passes_and_exchanges_lose_nothing_while_others_write() {
    const CONTACTS: usize = 40;
    const ROUNDS: usize = 12;
    let place = Arc::new(Place::new().await);
    let ids = Arc::new(place.contacts(CONTACTS).await);
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let objects = place.objects().await;
    place.store().rotate(place.tenant).await.unwrap();

    let writers = (0..3).map(|writer| {
        let (place, ids) = (place.clone(), ids.clone());
        tokio::spawn(async move {
            let keys = place.store();
            for round in 0..ROUNDS {
                for at in 0..CONTACTS / 4 {
                    let at = (at * 7 + writer * 5 + round) % CONTACTS;
                    place.write(&keys, ids[at]).await;
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let passes = (0..2).map(|_| {
        let (place, objects) = (place.clone(), objects.clone());
        tokio::spawn(async move {
            let keys = place.store();
            for _ in 0..3 {
                keys.rotate(place.tenant).await.unwrap();
                keys.reseal(place.tenant, &objects, &Descriptions, &())
                    .await
                    .unwrap();
                // None was retired long enough ago.
                let dropped = keys.drop_retired(place.tenant, &objects, &()).await;
                assert_eq!(dropped.unwrap(), []);
            }
        })
    });
    for task in passes.collect::<Vec<_>>().into_iter().chain(writers) {
        task.await.unwrap();
    }

    let keys = place.store().with_clock(clock.clone());
    let contacts = [Contact::schema().clone()];
    let report = keys
        .reseal(place.tenant, &contacts, &Descriptions, &())
        .await
        .unwrap();
    assert!(report.is_complete);
    clock.advance(TimeDelta::hours(2));
    let before = keys.keys(place.tenant).await.unwrap();
    let dropped = keys
        .drop_retired(place.tenant, &objects, &())
        .await
        .unwrap();
    assert_eq!(dropped.len(), before.len() - 2);
    assert_eq!(keys.keys(place.tenant).await.unwrap().len(), 2);

    let ring = place.store().keyring(place.tenant).await.unwrap().unwrap();
    let mut written = vec![0; CONTACTS];
    for (writer, round, at) in (0..3).flat_map(|writer| {
        (0..ROUNDS).flat_map(move |round| (0..CONTACTS / 4).map(move |at| (writer, round, at)))
    }) {
        written[(at * 7 + writer * 5 + round) % CONTACTS] += 1;
    }
    for (number, row) in place.stored(&ids).await.iter().enumerate() {
        assert_eq!(Keyring::key_of(row.sealed().unwrap()), Some(ring.active()));
        let opened = Descriptions.open_row(&ring, row).unwrap();
        let text = format!("contact {number}:{}", "x".repeat(written[number]));
        assert_eq!(opened.get("description").as_text(), Some(text.as_str()));
        assert_eq!(row.version(), 1 + i64::try_from(written[number]).unwrap());
    }
}

/// A key that still seals something stays, however long ago it was retired.
#[tokio::test]
async fn a_key_is_dropped_only_when_nothing_is_sealed_with_it() {
    let place = Place::new().await;
    let ids = place.contacts(3).await;
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let keys = place.store().with_clock(clock.clone());
    let contacts = [Contact::schema().clone()];
    keys.reseal(place.tenant, &contacts, &Descriptions, &())
        .await
        .unwrap();
    keys.rotate(place.tenant).await.unwrap();
    clock.advance(TimeDelta::hours(2));
    assert_eq!(
        keys.drop_retired(place.tenant, &contacts, &())
            .await
            .unwrap(),
        []
    );
    keys.reseal(place.tenant, &contacts, &Descriptions, &())
        .await
        .unwrap();
    // The second was made by the same clock, two hours ago, and seals: it stays.
    let dropped = keys
        .drop_retired(place.tenant, &contacts, &())
        .await
        .unwrap();
    assert_eq!(
        dropped.iter().map(|key| key.number).collect::<Vec<_>>(),
        [1]
    );
    let ring = place.store().keyring(place.tenant).await.unwrap().unwrap();
    for row in place.stored(&ids).await {
        Descriptions.open_row(&ring, &row).unwrap();
    }
}

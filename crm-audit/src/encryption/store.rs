//! [`KeyStore`]: where the keys of tenants are found, made and exchanged.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use crm_core::engine::{Clock, IdGenerator, RandomIds, SystemClock};
use crm_core::query::{Condition, Query};
use crm_core::schema::{AnyRecord as _, Entity as _, Meta, Row};
use crm_core::storage::{Change, ChangeSet, Expectation, Scope, Storage, StorageError};
use crm_core::tenancy::Tenant;
use crm_core::{Actor, Id, Record, Stamp};
use uuid::Uuid;

use super::cache::{Cache, Slot};
use super::coverage::Coverage;
use super::data_key::{DataKey, KeyPurpose, TenantKey, corrupt};
use super::events::event;
use super::rows::seal_row;
use super::{Key, KeyProvider, Keyring};
use crate::event::AuditEvent;

/// How many tenants' keys are kept in memory unless the host says otherwise.
const TENANTS: usize = 10_000;

/// The keys of tenants: stored as wrapped [`DataKey`]s in the storage that is encrypted, unwrapped by
/// the [`KeyProvider`] and kept in memory.
///
/// Each tenant has one key for tokens, which stays, and keys for data, of which the one that is not
/// retired seals. Other processes learn of a new key without being told: a commit that would seal with
/// a retired one is refused by the storage and sealed again, and a value sealed with a key that is not
/// known yet has the keys looked up.
///
/// ```
/// # use std::sync::Arc;
/// # use crm_core::{Id, storage::{Storage, StorageError}, tenancy::Tenant};
/// use crm_audit::encryption::{Key, KeyStore, MasterKeys};
///
/// # async fn example(storage: Arc<dyn Storage>, tenant: Id<Tenant>, secret: [u8; 32]) -> Result<(), StorageError> {
/// let keys = KeyStore::new(storage, MasterKeys::new("2026", Key::new(secret)));
/// let new = keys.rotate(tenant).await?;
/// for key in keys.keys(tenant).await? {
///     println!("{:?} {} since {}: {}", key.purpose, key.number, key.created_at, key.provider_key);
/// }
/// # let _ = new;
/// # Ok(())
/// # }
/// ```
pub struct KeyStore<S: ?Sized> {
    inner: Arc<S>,
    provider: Arc<dyn KeyProvider>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGenerator>,
    cache: Cache<Loaded>,
}

impl<S: ?Sized> fmt::Debug for KeyStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyStore")
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

/// The keys of a tenant, unwrapped.
#[derive(Clone)]
struct Loaded {
    ring: Keyring,
    /// The version of the row of the key that seals.
    version: i64,
    /// All of them, so that a key is unwrapped once.
    keys: Arc<BTreeMap<Uuid, Key>>,
}

impl Loaded {
    /// That the key that seals is still the one that does.
    fn expectation(&self) -> Expectation {
        Expectation {
            object: DataKey::schema().clone(),
            id: self.ring.active(),
            version: self.version,
        }
    }
}

impl<S: Storage + ?Sized> KeyStore<S> {
    /// The keys in `inner`, the storage behind the encryption.
    pub fn new(inner: Arc<S>, provider: impl KeyProvider) -> Self {
        inner.register(DataKey::schema());
        inner.register(AuditEvent::schema());
        Self {
            inner,
            provider: Arc::new(provider),
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            cache: Cache::new(TENANTS),
        }
    }

    /// Takes the time from another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Takes the ids of keys from elsewhere. The keys themselves are always random.
    #[must_use]
    pub fn with_ids(mut self, ids: Arc<dyn IdGenerator>) -> Self {
        self.ids = ids;
        self
    }

    /// Keeps the keys of so many tenants in memory, at least one; 10,000 unless said otherwise. What was
    /// not used for longest goes first, and its keys are asked of the provider again.
    #[must_use]
    pub fn with_capacity(mut self, tenants: usize) -> Self {
        self.cache = Cache::new(tenants);
        self
    }

    /// The storage that the keys are in.
    pub(super) const fn inner(&self) -> &Arc<S> {
        &self.inner
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The keys of a tenant; none if it has none yet. However many ask at the same time, each key is
    /// unwrapped once. That there are none is not remembered: another process may make them.
    ///
    /// # Errors
    /// The storage or the provider could not be asked ([`StorageError::Unavailable`]) or failed; see
    /// [`KeyError::of`](super::KeyError::of).
    pub async fn keyring(&self, tenant: Id<Tenant>) -> Result<Option<Keyring>, StorageError> {
        Ok(self.loaded(tenant).await?.map(|loaded| loaded.ring))
    }

    async fn loaded(&self, tenant: Id<Tenant>) -> Result<Option<Loaded>, StorageError> {
        let slot = self.cache.slot(tenant.uuid());
        if let Some(loaded) = slot.kept() {
            return Ok(Some(loaded));
        }
        let _alone = slot.load.lock().await;
        match slot.kept() {
            Some(loaded) => Ok(Some(loaded)),
            None => self.load_into(tenant, &slot).await,
        }
    }

    /// Looks the keys up again, and unwraps those that are new: for a value that was sealed with a key
    /// that is not known.
    ///
    /// # Errors
    /// Like [`keyring`](Self::keyring).
    pub async fn reload(&self, tenant: Id<Tenant>) -> Result<Option<Keyring>, StorageError> {
        Ok(self.reloaded(tenant).await?.map(|loaded| loaded.ring))
    }

    async fn reloaded(&self, tenant: Id<Tenant>) -> Result<Option<Loaded>, StorageError> {
        let slot = self.cache.slot(tenant.uuid());
        let loads = slot.loads();
        let _alone = slot.load.lock().await;
        // Of two look-ups that ended while this call waited, the second began after it.
        match slot.loads() {
            now if now > loads + 1 => Ok(slot.kept()),
            _ => self.load_into(tenant, &slot).await,
        }
    }

    async fn load_into(
        &self,
        tenant: Id<Tenant>,
        slot: &Slot<Loaded>,
    ) -> Result<Option<Loaded>, StorageError> {
        let known = slot.kept().map(|loaded| loaded.keys).unwrap_or_default();
        let loaded = self.load(tenant, &known).await?;
        slot.keep(loaded.clone());
        Ok(loaded)
    }

    async fn load(
        &self,
        tenant: Id<Tenant>,
        known: &BTreeMap<Uuid, Key>,
    ) -> Result<Option<Loaded>, StorageError> {
        let rows = self.rows(tenant).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut keys = BTreeMap::new();
        for row in &rows {
            let id = row.id.uuid();
            let key = match known.get(&id) {
                Some(key) => key.clone(),
                None => self.provider.unwrap(tenant, &row.wrapped_key()?).await?,
            };
            keys.insert(id, key);
        }
        let active = active(&rows, KeyPurpose::Data)?;
        let tokens = active_id(&rows, KeyPurpose::Tokens)?;
        let tokens = keys.get(&tokens).cloned();
        let of_data = rows.iter().filter(|row| row.purpose == KeyPurpose::Data);
        let data = of_data.filter_map(|row| {
            let id = row.id.uuid();
            Some((id, keys.get(&id)?.clone()))
        });
        let data = data.collect();
        let ring = tokens
            .and_then(|tokens| Keyring::new(tenant.uuid(), data, active.id.uuid(), &tokens))
            .ok_or_else(|| corrupt(&[&DataKey::PURPOSE.name()]))?;
        Ok(Some(Loaded {
            ring,
            version: active.version,
            keys: Arc::new(keys),
        }))
    }

    /// The stored keys, by id.
    pub(super) async fn rows(
        &self,
        tenant: Id<Tenant>,
    ) -> Result<Vec<Arc<Record<DataKey>>>, StorageError> {
        let query = Query::new(DataKey::schema(), Condition::all());
        let rows = self.inner.select(&Scope::Tenant(tenant), &query).await?;
        let keys = rows.into_iter().map(Record::<DataKey>::from_row);
        keys.collect::<Option<Vec<_>>>().ok_or_else(|| corrupt(&[]))
    }

    /// The keys that seal a commit. The commit then rests on the key that seals being the one that
    /// does, so that nothing is sealed with a key that others have retired; and makes the first keys,
    /// if the tenant has none. Where the storage refuses that, which
    /// [`is_outdated`](Self::is_outdated) tells, [reload](Self::reload), and seal and commit the
    /// changes as they were before once more.
    ///
    /// # Errors
    /// Like [`keyring`](Self::keyring).
    pub async fn for_commit(
        &self,
        tenant: Id<Tenant>,
        changes: &mut ChangeSet,
    ) -> Result<Keyring, StorageError> {
        let Some(loaded) = self.loaded(tenant).await? else {
            let (ring, rows) = self.first(tenant, changes.at).await?;
            let inserts = rows.into_iter().map(|row| Change::Insert { row });
            changes.changes.extend(inserts);
            return Ok(ring);
        };
        changes.expects.push(loaded.expectation());
        Ok(loaded.ring)
    }

    /// Whether a commit was refused because the keys that it was sealed with are not the tenant's keys
    /// any more: others made the first ones at the same time, or the key that seals was exchanged.
    #[must_use]
    pub fn is_outdated(error: &StorageError) -> bool {
        match error {
            StorageError::Conflict { object, .. } | StorageError::Duplicate { object, .. } => {
                object == DataKey::schema().name()
            }
            _ => false,
        }
    }

    /// New keys for a tenant without any.
    async fn first(
        &self,
        tenant: Id<Tenant>,
        at: DateTime<Utc>,
    ) -> Result<(Keyring, [Row; 2]), StorageError> {
        let (data, tokens) = (Key::random(), Key::random());
        let data_row = self.made(tenant, KeyPurpose::Data, 1, &data, at).await?;
        let tokens_row = self
            .made(tenant, KeyPurpose::Tokens, 1, &tokens, at)
            .await?;
        let id = data_row.id();
        let ring = Keyring::new(tenant.uuid(), BTreeMap::from([(id, data)]), id, &tokens);
        let ring = ring.ok_or_else(|| corrupt(&[&DataKey::PURPOSE.name()]))?;
        Ok((ring, [data_row, tokens_row]))
    }

    /// The row of a new key.
    async fn made(
        &self,
        tenant: Id<Tenant>,
        purpose: KeyPurpose,
        number: i64,
        key: &Key,
        at: DateTime<Utc>,
    ) -> Result<Row, StorageError> {
        let wrapped = self.provider.wrap(tenant, key).await?;
        let meta = Meta::first(self.ids.next(at), by_system(at));
        let key = DataKey::of(purpose, number, wrapped);
        Ok(Arc::new(Record::new(meta, key)))
    }

    /// Drops the keys of a tenant from this process's memory: the next call asks the provider for them.
    /// For a host whose provider refuses a tenant from now on, or that removed the tenant.
    pub fn forget(&self, tenant: Id<Tenant>) {
        self.cache.forget(tenant.uuid());
    }

    /// What keys a tenant has, oldest first: those for data, then the one for tokens. Nothing is
    /// unwrapped.
    ///
    /// # Errors
    /// The storage could not be asked, or failed.
    pub async fn keys(&self, tenant: Id<Tenant>) -> Result<Vec<TenantKey>, StorageError> {
        let rows = self.rows(tenant).await?;
        let mut keys: Vec<TenantKey> = rows.iter().map(|row| TenantKey::from(&**row)).collect();
        keys.sort_by_key(|key| (key.purpose, key.number));
        Ok(keys)
    }

    /// Has everything sealed with a new key from now on, and gives it. Those of before still open what
    /// they sealed: a pass over the records seals that anew. The key for tokens stays, or nothing would be found
    /// that was written before.
    ///
    /// A tenant without keys gets its first ones. Where another call exchanges the key at the same
    /// time, its new key is the one that both give. The trail tells of an exchange.
    ///
    /// # Errors
    /// Like [`keyring`](Self::keyring); [`StorageError::Reference`] where there is no such tenant.
    pub async fn rotate(&self, tenant: Id<Tenant>) -> Result<TenantKey, StorageError> {
        let rows = self.rows(tenant).await?;
        let at = self.clock.now();
        let (told_by, changes) = if rows.is_empty() {
            // Nothing was sealed before, so there is nothing to tell.
            let (_, rows) = self.first(tenant, at).await?;
            (None, rows.map(|row| Change::Insert { row }).to_vec())
        } else {
            let ring = self.keyring(tenant).await?;
            let ring = ring.ok_or_else(|| corrupt(&[]))?;
            let before = active(&rows, KeyPurpose::Data)?;
            let mut after = Record::new(next(before, at), before.data.clone());
            after.data.retired_at = Some(at);
            let number = numbers(&rows, KeyPurpose::Data).max().unwrap_or_default();
            let number = number.saturating_add(1);
            let key = Key::random();
            let row = self
                .made(tenant, KeyPurpose::Data, number, &key, at)
                .await?;
            let ring = ring.exchanged(row.id(), key);
            let changes = vec![replaced(before, after), Change::Insert { row }];
            (Some(ring), changes)
        };
        match self
            .commit(tenant, at, told_by.as_ref(), None, changes)
            .await
        {
            Err(error) if Self::is_outdated(&error) => {}
            committed => committed?,
        }
        self.reload(tenant).await?;
        let rows = self.rows(tenant).await?;
        Ok(TenantKey::from(&**active(&rows, KeyPurpose::Data)?))
    }

    /// Wraps all keys of a tenant with the provider's current master key, and gives how many were
    /// wrapped with another one. The keys stay what they are, so nothing has to be sealed again, and
    /// the master key of before is not needed any more for this tenant. The trail tells of it.
    ///
    /// # Errors
    /// Like [`keyring`](Self::keyring); [`StorageError::Conflict`] where another call exchanged keys
    /// at the same time: call again.
    pub async fn rewrap(&self, tenant: Id<Tenant>) -> Result<usize, StorageError> {
        let Some(loaded) = self.reloaded(tenant).await? else {
            return Ok(0);
        };
        let rows = self.rows(tenant).await?;
        let at = self.clock.now();
        let mut changes = Vec::new();
        for before in &rows {
            let key = self.provider.unwrap(tenant, &before.wrapped_key()?).await?;
            let wrapped = self.provider.wrap(tenant, &key).await?;
            if wrapped.provider_key == before.provider_key {
                continue;
            }
            let mut after = DataKey::of(before.purpose, before.number, wrapped);
            after.retired_at = before.retired_at;
            changes.push(replaced(before, Record::new(next(before, at), after)));
        }
        let count = changes.len();
        if count > 0 {
            let expected = loaded.expectation();
            self.commit(tenant, at, Some(&loaded.ring), Some(expected), changes)
                .await?;
            self.reload(tenant).await?;
        }
        Ok(count)
    }

    /// Removes keys that seal nothing any more.
    pub(super) async fn remove(
        &self,
        tenant: Id<Tenant>,
        at: DateTime<Utc>,
        keys: impl IntoIterator<Item = Arc<Record<DataKey>>>,
    ) -> Result<(), StorageError> {
        let Some(loaded) = self.reloaded(tenant).await? else {
            return Ok(());
        };
        let removed = keys.into_iter().map(|before| Change::Delete { before });
        let expected = loaded.expectation();
        self.commit(
            tenant,
            at,
            Some(&loaded.ring),
            Some(expected),
            removed.collect(),
        )
        .await?;
        self.reload(tenant).await?;
        Ok(())
    }

    /// Makes the first keys of a tenant that has none.
    pub(super) async fn ensured(&self, tenant: Id<Tenant>) -> Result<Keyring, StorageError> {
        if let Some(ring) = self.reload(tenant).await? {
            return Ok(ring);
        }
        self.rotate(tenant).await?;
        let ring = self.keyring(tenant).await?;
        ring.ok_or_else(|| corrupt(&[]))
    }

    /// Writes changes of keys, with events that tell of them, sealed with `told_by`, if it is given. Where
    /// the key that seals is not among them, it has to be the one that is `expected`.
    async fn commit(
        &self,
        tenant: Id<Tenant>,
        at: DateTime<Utc>,
        told_by: Option<&Keyring>,
        expected: Option<Expectation>,
        mut changes: Vec<Change>,
    ) -> Result<(), StorageError> {
        let commit = self.ids.next(at);
        let is_changed = |id: Uuid| changes.iter().any(|change| change.id() == id);
        let expects = expected.filter(|expected| !is_changed(expected.id));
        let expects = expects.into_iter().collect();
        let mut events = Vec::with_capacity(changes.len());
        for (ring, change) in told_by
            .iter()
            .flat_map(|ring| changes.iter().map(move |one| (ring, one)))
        {
            let event = event(commit, self.ids.secret(at), change);
            let meta = Meta::first(self.ids.next(at), by_system(at));
            let row: Row = Arc::new(Record::new(meta, event));
            let row = seal_row(&Coverage::default(), ring, &row)?;
            events.push(Change::Insert { row });
        }
        changes.extend(events);
        let changes = ChangeSet::new(commit, at, changes, expects);
        self.inner.commit(&Scope::Tenant(tenant), &changes).await?;
        Ok(())
    }
}

const fn by_system(at: DateTime<Utc>) -> Stamp {
    Stamp {
        at,
        by: Actor::System,
    }
}

/// The next version of a stored key.
fn next(key: &Record<DataKey>, at: DateTime<Utc>) -> Meta {
    key.meta().next(by_system(at))
}

fn replaced(before: &Arc<Record<DataKey>>, after: Record<DataKey>) -> Change {
    Change::Update {
        before: before.clone(),
        after: Arc::new(after),
    }
}

fn numbers(rows: &[Arc<Record<DataKey>>], purpose: KeyPurpose) -> impl Iterator<Item = i64> {
    let of = rows.iter().filter(move |row| row.purpose == purpose);
    of.map(|row| row.number)
}

/// The key of a purpose that is used for what is written.
fn active(
    rows: &[Arc<Record<DataKey>>],
    purpose: KeyPurpose,
) -> Result<&Arc<Record<DataKey>>, StorageError> {
    let used = rows
        .iter()
        .filter(|row| row.purpose == purpose && row.retired_at.is_none());
    used.max_by_key(|row| row.number)
        .ok_or_else(|| corrupt(&[&DataKey::RETIRED_AT.name()]))
}

fn active_id(rows: &[Arc<Record<DataKey>>], purpose: KeyPurpose) -> Result<Uuid, StorageError> {
    active(rows, purpose).map(|row| row.id.uuid())
}

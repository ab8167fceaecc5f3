//! [`EncryptedStorage`]: a storage in front of another one, which never sees what is encrypted.

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use crm_core::Id;
use crm_core::engine::{Clock, IdGenerator};
use crm_core::query::{
    AggregateQuery, Condition, Group, Measure, NoRelated, Query, QueryError, TextSearch,
};
use crm_core::schema::{AnyRecord, Entity as _, ObjectRef, Row, Value, system};
use crm_core::storage::{
    Change, ChangeSet, Claim, Committed, Digests, FeedPage, FeedQuery, Guard, Judge, Scope,
    Storage, StorageError, scan, scan_aggregate,
};
use crm_core::tenancy::Tenant;
use uuid::Uuid;

use super::conditions::{Translator, asks_others};
use super::coverage::Coverage;
use super::rows::{open_row, seal_row, veil_row};
use super::trees::has_hidden;
use super::{EncryptionError, KeyProvider, KeyStore, Keyring};

/// How often a commit is sealed again because the keys were exchanged meanwhile.
const ATTEMPTS: usize = 5;

/// How many rows are looked at in one go.
const PAGE: usize = 1_000;

/// How many rows are looked at for a question that the storage cannot answer, unless the host says
/// otherwise.
const SCANNED: usize = 10_000;

/// A storage in front of another one that encrypts what is personal or sensitive before that one sees
/// it; see the [module](super) for what it does and what it costs.
pub struct EncryptedStorage<S> {
    inner: Arc<S>,
    keys: KeyStore<S>,
    coverage: RwLock<Arc<Coverage>>,
    scan_at_most: usize,
}

/// Makes an [`EncryptedStorage`].
#[must_use]
pub struct EncryptedStorageBuilder<S> {
    keys: KeyStore<S>,
    coverage: Coverage,
    scan_at_most: usize,
}

impl<S: Storage> std::fmt::Debug for EncryptedStorageBuilder<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncryptedStorageBuilder")
            .field("coverage", &self.coverage)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> EncryptedStorageBuilder<S> {
    /// Takes the time of new keys from another clock.
    pub fn clock<C: Clock>(mut self, clock: Arc<C>) -> Self {
        self.keys = self.keys.with_clock(clock);
        self
    }

    /// Takes the ids of new keys from elsewhere. The keys themselves are always random.
    pub fn ids<I: IdGenerator>(mut self, ids: Arc<I>) -> Self {
        self.keys = self.keys.with_ids(ids);
        self
    }

    /// Keeps the keys of so many tenants in memory; see [`KeyStore::with_capacity`].
    pub fn tenants_in_memory(mut self, tenants: usize) -> Self {
        self.keys = self.keys.with_capacity(tenants);
        self
    }

    /// Leaves a field plain, such as the names that a host wants its lists sorted by. Of the objects that
    /// tenants define, name the one that all of them are made of: `custom_record`.
    ///
    /// Records that were written before are read as they are; bring them into step by a pass.
    pub fn except(mut self, object: &str, field: &str) -> Self {
        self.coverage.except(object, field);
        self
    }

    /// How many records are opened, at most, to answer one question that the storage cannot answer of
    /// tokens: 10,000 unless said otherwise. With 0 such a question is an error at once, however few
    /// records there are.
    pub const fn scan_at_most(mut self, records: usize) -> Self {
        self.scan_at_most = records;
        self
    }

    /// Finishes the storage.
    #[must_use]
    pub fn build(self) -> EncryptedStorage<S> {
        EncryptedStorage {
            inner: Arc::clone(self.keys.inner()),
            keys: self.keys,
            coverage: RwLock::new(Arc::new(self.coverage)),
            scan_at_most: self.scan_at_most,
        }
    }
}

impl<S: Storage> std::fmt::Debug for EncryptedStorage<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncryptedStorage")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> EncryptedStorage<S> {
    /// An encrypted storage in front of `inner`, with keys of tenants that `provider` wraps.
    pub fn new(inner: S, provider: impl KeyProvider) -> Self {
        Self::builder(inner, provider).build()
    }

    /// Starts an encrypted storage in front of `inner`, with keys of tenants that `provider` wraps.
    pub fn builder(inner: S, provider: impl KeyProvider) -> EncryptedStorageBuilder<S> {
        EncryptedStorageBuilder {
            keys: KeyStore::new(Arc::new(inner), provider),
            coverage: Coverage::default(),
            scan_at_most: SCANNED,
        }
    }

    /// The keys of the tenants: what there are, a new one, another master key.
    #[must_use]
    pub const fn keys(&self) -> &KeyStore<S> {
        &self.keys
    }

    pub(super) const fn inner(&self) -> &Arc<S> {
        &self.inner
    }

    pub(super) fn coverage(&self) -> Arc<Coverage> {
        let coverage = self.coverage.read();
        Arc::clone(&coverage.unwrap_or_else(PoisonError::into_inner))
    }

    /// The change set as it is stored, for a host that has it written itself: in a transaction of the
    /// host's own, by `PostgresStorage::commit_in`, which refuses one in the clear. All that
    /// [`commit`](Storage::commit) does besides writing is done: the values are sealed, a tenant without
    /// keys gets its first ones with the same commit, and the commit relies on the key that seals.
    ///
    /// Where another process exchanged that key, the commit is refused, as [`KeyStore::is_outdated`]
    /// tells: [look the keys up again](KeyStore::reload), and have the changes as they were sealed once
    /// more. The first keys of a tenant are there for the next change set when the first one is
    /// committed: for several in one transaction [make them](KeyStore::rotate) before.
    ///
    /// ```
    /// # use crm_audit::encryption::EncryptedStorage;
    /// # use crm_core::{Session, accounts::Account, storage::{Committed, Scope, ChangeSet, Storage, StorageError}};
    /// # type Failed = Box<dyn std::error::Error>;
    /// # async fn commit_in(scope: &Scope, changes: &ChangeSet) -> Result<(), StorageError> { Ok(()) }
    /// # async fn example<S: Storage>(storage: &EncryptedStorage<S>, session: &Session) -> Result<(), Failed> {
    /// let mut work = session.begin();
    /// work.accounts().create(Account::new("Globex")).await?;
    /// let changes = work.prepare().await?;
    ///
    /// let sealed = storage.seal(session.scope(), &changes).await?;
    /// commit_in(session.scope(), &sealed).await?; // what the host writes it with
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the provider of keys; what cannot be sealed.
    pub async fn seal(
        &self,
        scope: &Scope,
        changes: &ChangeSet,
    ) -> Result<ChangeSet, StorageError> {
        let tenant = scope.tenant().ok_or(EncryptionError::NoTenant)?;
        let mut stored = changes.clone();
        let ring = self.keys.for_commit(tenant, &mut stored).await?;
        Self::sealed(&self.coverage(), &ring, &mut stored)?;
        Ok(stored)
    }

    /// The keys that a question needs, where encrypted values may be involved; `None` where it can be asked
    /// as it is, because none are, or the tenant has no keys.
    async fn asked_with(
        &self,
        scope: &Scope,
        coverage: &Coverage,
        object: &ObjectRef,
        condition: &Condition,
    ) -> Result<Option<Asked>, StorageError> {
        if !coverage.covers(object) && !asks_others(condition) {
            return Ok(None);
        }
        Ok(match scope.tenant() {
            Some(tenant) => self
                .keys
                .keyring(tenant)
                .await?
                .map(|ring| Asked { ring: Some(ring) }),
            // The rows of the platform are each of another tenant: nothing has the same token.
            None => Some(Asked { ring: None }),
        })
    }

    /// The rows with their true values.
    async fn opened(&self, scope: &Scope, rows: Vec<Row>) -> Result<Vec<Row>, StorageError> {
        if rows.iter().all(|row| row.sealed().is_none()) {
            return Ok(rows);
        }
        let mut opened = Vec::with_capacity(rows.len());
        let mut ring: Option<(Id<Tenant>, Keyring)> = None;
        for row in rows {
            let Some(sealed) = row.sealed() else {
                opened.push(row);
                continue;
            };
            // A row of the platform is that of a tenant.
            let tenant = scope.tenant().unwrap_or_else(|| Id::from(row.id()));
            let own = match ring.take().filter(|(of, _)| *of == tenant) {
                Some((_, ring)) => Some(ring),
                None => self.keys.keyring(tenant).await?,
            };
            let has_key = own.as_ref().is_some_and(|ring| ring.can_open(sealed));
            let own = if has_key {
                own
            } else {
                // Another process may have made a key meanwhile.
                self.keys.reload(tenant).await?
            };
            let own = own.ok_or_else(|| EncryptionError::Locked {
                object: row.object().name().to_owned(),
                id: row.id(),
            })?;
            opened.extend(open_row(&own, &*row)?);
            ring = Some((tenant, own));
        }
        Ok(opened)
    }

    /// The rows that answer a query of which the storage can be asked a part only, or the order of whose
    /// rows it does not know: rows are looked at one by one.
    async fn scanned(
        &self,
        scope: &Scope,
        translator: Translator<'_>,
        query: &Query,
        unsupported: QueryError,
    ) -> Result<Vec<Row>, StorageError> {
        let (stored, opened) = translator.split(&query.object, &query.condition)?;
        let mut in_order = query.clone();
        in_order.condition = Condition::all();
        let sorted = translator.query(&in_order);
        let is_sorted = sorted.is_ok();
        let mut pages = sorted.unwrap_or_else(|_| Query::new(&query.object, Condition::all()));
        if self.scan_at_most == 0 {
            return Err(unsupported.into());
        }
        pages.condition = stored;
        pages.stale = query.stale;
        pages.limit = PAGE;
        let (mut found, mut seen) = (Vec::new(), 0);
        loop {
            let rows = self.inner.select(scope, &pages).await?;
            let last = rows.last().filter(|_| rows.len() == PAGE).cloned();
            seen += rows.len();
            let rows = self.opened(scope, rows).await?;
            found.extend(
                rows.into_iter()
                    .filter(|row| opened.matches(&**row, &NoRelated)),
            );
            let is_enough = is_sorted && found.len() >= query.limit;
            let Some(last) = last.filter(|_| !is_enough) else {
                break;
            };
            if seen >= self.scan_at_most {
                return Err(unsupported.into());
            }
            let value = |index| pages.object.read(&*last, index, |value| value.into_owned());
            let after = pages.sort.iter().map(|key| value(key.index));
            pages.after = Some(after.collect());
        }
        if is_sorted {
            found.truncate(query.limit);
            return Ok(found);
        }
        Ok(scan(&in_order, found, &NoRelated))
    }

    /// Groups by values that have tokens: the storage groups by these, and of each group one row is
    /// opened, which says for what its token stands.
    async fn grouped(
        &self,
        scope: &Scope,
        translator: Translator<'_>,
        query: &AggregateQuery,
    ) -> Result<Option<Vec<Group>>, StorageError> {
        let (object, mut plain) = (&query.object, query.clone());
        let is_alike = |group: &_| translator.groups_alike(object, group);
        plain.groups.retain(|group| !is_alike(group));
        let Ok(mut stored) = translator.aggregate(&plain) else {
            return Ok(None);
        };
        stored.groups.clone_from(&query.groups);
        stored.measures.push(Measure::Min(system::ID));
        let mut groups = self.inner.aggregate(scope, &stored).await?;
        let one_of = |group: &Group| group.measures.last().and_then(|id| id.as_ref().as_uuid());
        let ids: Vec<Uuid> = groups.iter().filter_map(one_of).collect();
        let mut rows = std::collections::HashMap::with_capacity(ids.len());
        for ids in ids.chunks(PAGE) {
            let found = self.get(scope, object, ids).await?;
            rows.extend(found.into_iter().map(|row| (row.id(), row)));
        }
        for group in &mut groups {
            let row = one_of(group).and_then(|id| rows.get(&id));
            group.measures.pop();
            for (key, grouping) in group.keys.iter_mut().zip(&query.groups) {
                if let (true, crm_core::query::Grouping::Field(index)) =
                    (is_alike(grouping), grouping)
                {
                    *key = row.map_or(Value::Null, |row| row.value(*index).into_owned());
                }
            }
        }
        groups.sort_by(|a, b| {
            let keys = a.keys.iter().zip(&b.keys);
            keys.map(|(a, b)| a.as_ref().sort_order(&b.as_ref()))
                .find(|order| order.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        Ok(Some(groups))
    }

    /// The commit as it is stored.
    fn sealed(
        coverage: &Coverage,
        ring: &Keyring,
        changes: &mut ChangeSet,
    ) -> Result<(), StorageError> {
        for change in &mut changes.changes {
            match change {
                Change::Insert { row } => *row = seal_row(coverage, ring, row)?,
                Change::Update { before, after } => {
                    *before = veil_row(coverage, ring, before)?;
                    *after = seal_row(coverage, ring, after)?;
                }
                Change::Delete { before } => *before = veil_row(coverage, ring, before)?,
            }
        }
        let translator = Translator {
            coverage,
            ring: Some(ring),
        };
        for guard in &mut changes.guards {
            let mut query = guard.query();
            let (stored, opened) = translator.split(&query.object, &query.condition)?;
            query.condition = stored;
            *guard = Arc::new(OpeningGuard {
                inner: Arc::clone(guard),
                query,
                opened,
                ring: ring.clone(),
            });
        }
        Ok(())
    }
}

#[async_trait]
impl<S: Storage> Storage for EncryptedStorage<S> {
    fn register(&self, object: &ObjectRef) {
        let mut coverage = self
            .coverage
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut coverage).learn(object);
        drop(coverage);
        self.inner.register(object);
    }

    async fn get(
        &self,
        scope: &Scope,
        object: &ObjectRef,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, StorageError> {
        let rows = self.inner.get(scope, object, ids).await?;
        self.opened(scope, rows).await
    }

    async fn select(&self, scope: &Scope, query: &Query) -> Result<Vec<Row>, StorageError> {
        let coverage = self.coverage();
        if has_hidden(&coverage, &query.condition) {
            let mut with_ids = query.clone();
            with_ids.condition = self.with_ids(scope, &coverage, &query.condition).await?;
            return self.select(scope, &with_ids).await;
        }
        let asked = self
            .asked_with(scope, &coverage, &query.object, &query.condition)
            .await?;
        let Some(asked) = asked else {
            // There are no keys, or nothing that is encrypted.
            let rows = self.inner.select(scope, query).await?;
            return self.opened(scope, rows).await;
        };
        let translator = asked.translator(&coverage);
        match translator.query(query) {
            Ok(stored) => {
                let rows = self.inner.select(scope, &stored).await?;
                self.opened(scope, rows).await
            }
            Err(unsupported) => self.scanned(scope, translator, query, unsupported).await,
        }
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        query: &AggregateQuery,
    ) -> Result<Vec<Group>, StorageError> {
        let coverage = self.coverage();
        if has_hidden(&coverage, &query.condition) {
            let mut with_ids = query.clone();
            with_ids.condition = self.with_ids(scope, &coverage, &query.condition).await?;
            return self.aggregate(scope, &with_ids).await;
        }
        let asked = self
            .asked_with(scope, &coverage, &query.object, &query.condition)
            .await?;
        let Some(asked) = asked else {
            return self.inner.aggregate(scope, query).await;
        };
        let translator = asked.translator(&coverage);
        let unsupported = match translator.aggregate(query) {
            Ok(stored) => return self.inner.aggregate(scope, &stored).await,
            Err(unsupported) => unsupported,
        };
        if let Some(groups) = self.grouped(scope, translator, query).await? {
            return Ok(groups);
        }
        let mut rows = Query::new(&query.object, query.condition.clone());
        rows.stale = query.stale;
        let rows = self.scanned(scope, translator, &rows, unsupported).await?;
        let mut query = query.clone();
        query.condition = Condition::all();
        scan_aggregate(&query, rows, &NoRelated)
    }

    async fn commit(&self, scope: &Scope, changes: &ChangeSet) -> Result<Committed, StorageError> {
        let tenant = scope.tenant().ok_or(EncryptionError::NoTenant)?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let stored = self.seal(scope, changes).await?;
            let new_keys = stored.changes.len().saturating_sub(changes.changes.len());
            match self.inner.commit(scope, &stored).await {
                // Others made the first keys at the same time, or exchanged the one that seals.
                Err(error) if KeyStore::<S>::is_outdated(&error) && attempts < ATTEMPTS => {
                    self.keys.reload(tenant).await?;
                }
                committed => {
                    let mut committed = committed?;
                    committed.rows = committed.rows.saturating_sub(new_keys);
                    return Ok(committed);
                }
            }
        }
    }

    async fn search(&self, scope: &Scope, search: &TextSearch) -> Result<Vec<Uuid>, StorageError> {
        let object = search.object();
        if !self.coverage().covers_search(object) {
            return self.inner.search(scope, search).await;
        }
        if !search.finds_anything() {
            return Ok(Vec::new());
        }
        let mut query = Query::new(object, Condition::not_deleted()).limit(PAGE);
        let mut ranked: Vec<(u32, Uuid)> = Vec::new();
        loop {
            let rows = self.select(scope, &query).await?;
            let found = rows
                .iter()
                .filter_map(|row| Some((search.rank(&**row)?, row.id())));
            ranked.extend(found);
            // No more than are wanted are kept.
            ranked.sort_unstable_by_key(|(rank, id)| (std::cmp::Reverse(*rank), *id));
            ranked.truncate(search.limit);
            match rows.last() {
                Some(last) if rows.len() == PAGE => {
                    query.after = Some(vec![Value::Uuid(last.id())]);
                }
                _ => break,
            }
        }
        Ok(ranked.into_iter().map(|(_, id)| id).collect())
    }

    async fn claim(&self, scope: &Scope, claim: &Claim) -> Result<Vec<Row>, StorageError> {
        let coverage = self.coverage();
        let mut stored = claim.clone();
        for (index, _) in &claim.assign {
            if coverage.stand(&claim.object, *index).is_some() {
                return Err(StorageError::Query(QueryError::Unsupported {
                    field: claim.object.field_name(*index).to_owned(),
                    operation: "a claim that writes encrypted values".into(),
                }));
            }
        }
        let asked = self
            .asked_with(scope, &coverage, &claim.object, &claim.condition)
            .await?;
        if let Some(asked) = &asked {
            let translator = asked.translator(&coverage);
            stored.condition = translator.condition(&claim.object, &claim.condition)?;
            for key in &claim.sort {
                translator.sort(&claim.object, key, None)?;
            }
        }
        let rows = self.inner.claim(scope, &stored).await?;
        self.opened(scope, rows).await
    }

    async fn feed(&self, scope: &Scope, query: &FeedQuery) -> Result<FeedPage, StorageError> {
        let coverage = self.coverage();
        let asked = self
            .asked_with(scope, &coverage, &query.object, &query.condition)
            .await?;
        let mut stored = query.clone();
        if let Some(asked) = &asked {
            let translator = asked.translator(&coverage);
            stored.condition = translator.condition(&query.object, &query.condition)?;
        }
        let mut page = self.inner.feed(scope, &stored).await?;
        let (positions, rows): (Vec<_>, Vec<_>) = page.entries.into_iter().unzip();
        let rows = self.opened(scope, rows).await?;
        page.entries = positions.into_iter().zip(rows).collect();
        Ok(page)
    }

    async fn reseal(&self, scope: &Scope, rows: &[Row]) -> Result<usize, StorageError> {
        let Some(tenant) = scope.tenant() else {
            return Err(EncryptionError::NoTenant.into());
        };
        let Some(ring) = self.keys.keyring(tenant).await? else {
            return self.inner.reseal(scope, rows).await;
        };
        let coverage = self.coverage();
        let sealed = rows
            .iter()
            .map(|row| seal_row(&coverage, &ring, row))
            .collect::<Result<Vec<_>, _>>()?;
        self.inner.reseal(scope, &sealed).await
    }

    /// A tenant without keys gets its first ones, so that nothing is made without.
    async fn digests(&self, scope: &Scope) -> Result<Option<Arc<dyn Digests>>, StorageError> {
        let Some(tenant) = scope.tenant() else {
            return Ok(None);
        };
        let ring = match self.keys.keyring(tenant).await? {
            Some(ring) => ring,
            None => {
                let own = [tenant.uuid()];
                let row = self.inner.get(scope, Tenant::schema(), &own).await?;
                if row.is_empty() {
                    // It comes into being with what is written now, and has no records.
                    return Ok(None);
                }
                self.keys.ensured(tenant).await?
            }
        };
        Ok(Some(Arc::new(ring)))
    }
}

/// The keys that a question is translated with.
struct Asked {
    ring: Option<Keyring>,
}

impl Asked {
    const fn translator<'a>(&'a self, coverage: &'a Coverage) -> Translator<'a> {
        Translator {
            coverage,
            ring: self.ring.as_ref(),
        }
    }
}

/// A guard that is shown opened rows. One that cannot be opened is refused.
#[derive(Debug)]
struct OpeningGuard {
    inner: Arc<dyn Guard>,
    query: Query,
    /// What is asked of opened rows.
    opened: Condition,
    ring: Keyring,
}

impl Guard for OpeningGuard {
    fn query(&self) -> Query {
        self.query.clone()
    }

    fn judge(&self) -> Judge {
        let mut judge = self.inner.judge();
        let (opened, ring) = (self.opened.clone(), self.ring.clone());
        let mut refuses = move |row: &dyn AnyRecord| opened.matches(row, &NoRelated) && judge(row);
        Box::new(move |row: &dyn AnyRecord| match open_row(&ring, row) {
            Ok(Some(row)) => refuses(&*row),
            Ok(None) => refuses(row),
            Err(_) => true,
        })
    }
}

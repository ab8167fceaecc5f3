//! Passes over all records of a tenant: sealing with the key that seals now, and dropping keys that
//! seal nothing any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::TimeDelta;
use crm_core::engine::Progress;
use crm_core::query::{Condition, Query};
use crm_core::schema::{Entity as _, ObjectRef, Row, Value};
use crm_core::storage::{Scope, Storage, StorageError};
use crm_core::tenancy::Tenant;
use crm_core::{Id, Record};
use uuid::Uuid;

use super::Keyring;
use super::data_key::{DataKey, KeyPurpose, TenantKey};
use super::store::KeyStore;

/// How many rows are read and written at once.
const BATCH: usize = 500;

/// How often rows that others write at the same time are looked at again.
const ATTEMPTS: usize = 10;

/// For how long a retired key is kept at least, though nothing is sealed with it: a pass of another
/// process may have a batch in work that began before the key was retired.
const KEPT: TimeDelta = TimeDelta::hours(1);

/// Seals rows and opens them again.
pub trait SealRows: Send + Sync {
    /// The row as it is stored. One that has nothing to be sealed comes back as it is.
    ///
    /// # Errors
    /// It cannot be sealed.
    fn seal_row(&self, ring: &Keyring, row: &Row) -> Result<Row, StorageError>;

    /// The row as it was before it was sealed; one that is not sealed comes back as it is.
    ///
    /// # Errors
    /// The keys do not open it.
    fn open_row(&self, ring: &Keyring, row: &Row) -> Result<Row, StorageError>;
}

/// What a pass over the records of a tenant did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResealReport {
    /// How many rows were sealed anew, by object. Objects without such rows are not in it.
    pub rows: BTreeMap<String, u64>,
    /// Whether all rows were looked at and none was left. If not, because it was stopped or others never
    /// let go of a row, the next pass does the rest.
    pub is_complete: bool,
}

impl<S: Storage + ?Sized> KeyStore<S> {
    /// Seals every row of a tenant that is not sealed yet, or with a key that was retired, with the key
    /// that seals; a tenant without keys gets its first ones. `objects` are all that the tenant has rows of
    /// ([`Registry::all_objects`](crm_core::schema::Registry::all_objects) of its session).
    ///
    /// Rows are read and written 500 at once. What others write meanwhile is sealed as they write it, and
    /// is not touched. `progress` hears after each batch how many rows were looked at. It can be stopped
    /// and called again at any time: rows that are done are skipped. Where the key is exchanged
    /// meanwhile, it begins again.
    ///
    /// # Errors
    /// Like [`keyring`](Self::keyring); a row that the tenant's keys do not open.
    pub async fn reseal(
        &self,
        tenant: Id<Tenant>,
        objects: &[ObjectRef],
        seals: &dyn SealRows,
        progress: &dyn Progress,
    ) -> Result<ResealReport, StorageError> {
        let mut report = ResealReport {
            is_complete: true,
            ..ResealReport::default()
        };
        let mut seen = 0;
        let mut active = self.ensured(tenant).await?.active();
        loop {
            let begun_with = active;
            for object in objects {
                if object == DataKey::schema() {
                    continue;
                }
                let mut pages = self.pages(tenant, object);
                while let Some(rows) = pages.next().await? {
                    seen += u64::try_from(rows.len()).unwrap_or(u64::MAX);
                    // The key may have been exchanged, by another process too.
                    let ring = self.ensured(tenant).await?;
                    active = ring.active();
                    let batch = self.reseal_batch(tenant, object, rows, ring, seals).await?;
                    if batch.sealed > 0 {
                        let count = report.rows.entry(object.name().to_owned()).or_default();
                        *count += batch.sealed;
                    }
                    report.is_complete &= batch.is_complete;
                    if progress.report(seen, None).is_break() {
                        report.is_complete = false;
                        return Ok(report);
                    }
                }
            }
            if active == begun_with {
                return Ok(report);
            }
        }
    }

    async fn reseal_batch(
        &self,
        tenant: Id<Tenant>,
        object: &ObjectRef,
        mut rows: Vec<Row>,
        mut ring: Keyring,
        seals: &dyn SealRows,
    ) -> Result<Batch, StorageError> {
        let scope = Scope::Tenant(tenant);
        let mut sealed = 0;
        for _ in 0..ATTEMPTS {
            let mut wanted = Vec::new();
            for row in &rows {
                wanted.extend(resealed(row, &ring, seals)?);
            }
            if wanted.is_empty() {
                return Ok(Batch {
                    sealed,
                    is_complete: true,
                });
            }
            let count = self.inner().reseal(&scope, &wanted).await?;
            sealed += u64::try_from(count).unwrap_or(u64::MAX);
            if count == wanted.len() {
                return Ok(Batch {
                    sealed,
                    is_complete: true,
                });
            }
            // Others wrote some of them meanwhile. A claim, for one, leaves what is sealed as it is.
            let ids: Vec<Uuid> = wanted.iter().map(|row| row.id()).collect();
            rows = self.inner().get(&scope, object, &ids).await?;
            ring = self.ensured(tenant).await?;
        }
        Ok(Batch {
            sealed,
            is_complete: false,
        })
    }

    /// Removes the retired keys of a tenant with which no row is sealed any more, and gives them: after a
    /// [pass](Self::reseal) over everything, or none is found. All rows of `objects`, which have to be
    /// all that the tenant has rows of, are looked at; what is sealed with a removed key is lost. So are
    /// rows that lie elsewhere: in backups without their keys, and in months of events that were moved
    /// out of the database.
    ///
    /// A key that was retired less than an hour ago stays. Where `progress` says so it stops and
    /// removes none.
    ///
    /// # Errors
    /// Like [`keyring`](Self::keyring); [`StorageError::Conflict`] where another call exchanged keys
    /// at the same time: call again.
    pub async fn drop_retired(
        &self,
        tenant: Id<Tenant>,
        objects: &[ObjectRef],
        progress: &dyn Progress,
    ) -> Result<Vec<TenantKey>, StorageError> {
        let at = self.now();
        let mut unused: BTreeMap<Uuid, Arc<Record<DataKey>>> = BTreeMap::new();
        for row in self.rows(tenant).await? {
            let is_old = row.retired_at.is_some_and(|since| at - since >= KEPT);
            if is_old && row.purpose == KeyPurpose::Data {
                unused.insert(row.id.uuid(), row);
            }
        }
        let mut seen = 0;
        for object in objects {
            let mut pages = self.pages(tenant, object);
            while !unused.is_empty()
                && let Some(rows) = pages.next().await?
            {
                seen += u64::try_from(rows.len()).unwrap_or(u64::MAX);
                let keys = rows.iter().filter_map(|row| Keyring::key_of(row.sealed()?));
                for key in keys.collect::<BTreeSet<_>>() {
                    unused.remove(&key);
                }
                if progress.report(seen, None).is_break() {
                    return Ok(Vec::new());
                }
            }
        }
        if unused.is_empty() {
            return Ok(Vec::new());
        }
        let dropped: Vec<TenantKey> = unused.values().map(|row| TenantKey::from(&**row)).collect();
        self.remove(tenant, at, unused.into_values()).await?;
        Ok(dropped)
    }

    fn pages<'a>(&'a self, tenant: Id<Tenant>, object: &ObjectRef) -> Pages<'a, S> {
        Pages {
            inner: self.inner(),
            scope: Scope::Tenant(tenant),
            query: Some(Query::new(object, Condition::all()).limit(BATCH)),
        }
    }
}

/// All rows of an object, deleted and archived ones too, by id.
struct Pages<'a, S: ?Sized> {
    inner: &'a S,
    scope: Scope,
    query: Option<Query>,
}

impl<S: Storage + ?Sized> Pages<'_, S> {
    async fn next(&mut self) -> Result<Option<Vec<Row>>, StorageError> {
        let Some(mut query) = self.query.take() else {
            return Ok(None);
        };
        let rows = self.inner.select(&self.scope, &query).await?;
        let Some(last) = rows.last() else {
            return Ok(None);
        };
        if rows.len() == BATCH {
            query.after = Some(vec![Value::Uuid(last.id())]);
            self.query = Some(query);
        }
        Ok(Some(rows))
    }
}

struct Batch {
    sealed: u64,
    is_complete: bool,
}

/// The row as the key that seals now seals it, unless it is so already or has nothing to be sealed.
fn resealed(row: &Row, ring: &Keyring, seals: &dyn SealRows) -> Result<Option<Row>, StorageError> {
    if row.sealed().and_then(Keyring::key_of) == Some(ring.active()) {
        return Ok(None);
    }
    let sealed = seals.seal_row(ring, &seals.open_row(ring, row)?)?;
    Ok((row.sealed().is_some() || sealed.sealed().is_some()).then_some(sealed))
}

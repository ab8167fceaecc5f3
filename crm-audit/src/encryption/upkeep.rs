//! Passes over the records of a tenant, as a host calls them.

use crm_core::Session;
use crm_core::duplicates::{DuplicateKey, DuplicateRule};
use crm_core::engine::Progress;
use crm_core::error::{Error, Result};
use crm_core::query::Find;
use crm_core::schema::{Entity as _, ObjectRef, Row};
use crm_core::storage::{Storage, StorageError};

use super::rows::{open_row, seal_row};
use super::{EncryptedStorage, EncryptionError, Keyring, ResealReport, SealRows, TenantKey};

impl<S: Storage> EncryptedStorage<S> {
    /// Seals every row of the session's tenant that is not sealed yet, or with a key that was retired:
    /// once after encryption was switched on, and after each [rotation](super::KeyStore::rotate). Records
    /// keep their versions, and nothing is told in the trail, since nothing changes.
    ///
    /// Then the keys by which duplicates are found are made anew, with a key of the tenant, where they
    /// were not: until then duplicates of records that were there before are not noticed.
    ///
    /// Rows are read and written 500 at once. It can be stopped by `progress`, and run again at any time:
    /// what is done is skipped. Others may read and write meanwhile.
    ///
    /// # Errors
    /// Those of the storage and of the provider of keys; a row that does not open.
    pub async fn encrypt_tenant(
        &self,
        session: &Session,
        progress: &dyn Progress,
    ) -> Result<ResealReport> {
        let tenant = session.scope().tenant();
        let tenant = tenant.ok_or(StorageError::from(EncryptionError::NoTenant))?;
        let objects = objects_of(session).await?;
        let mut report = self.keys().reseal(tenant, &objects, self, progress).await?;
        if report.is_complete {
            let keys = duplicate_keys(session, progress, &mut report).await?;
            if keys > 0 {
                let object = DuplicateKey::schema().name().to_owned();
                report.rows.insert(object, keys);
            }
        }
        Ok(report)
    }

    /// Removes the retired keys of the session's tenant with which nothing is sealed any more, and gives
    /// them; see [`KeyStore::drop_retired`](super::KeyStore::drop_retired).
    ///
    /// # Errors
    /// Those of the storage and of the provider of keys.
    pub async fn drop_retired_keys(
        &self,
        session: &Session,
        progress: &dyn Progress,
    ) -> Result<Vec<TenantKey>> {
        let tenant = session.scope().tenant();
        let tenant = tenant.ok_or(StorageError::from(EncryptionError::NoTenant))?;
        let objects = objects_of(session).await?;
        let dropped = self.keys().drop_retired(tenant, &objects, progress).await?;
        Ok(dropped)
    }
}

/// Makes the keys of all records what the tenant's rules make of them now; how many were written or
/// removed.
async fn duplicate_keys(
    session: &Session,
    progress: &dyn Progress,
    report: &mut ResealReport,
) -> Result<u64> {
    // One that looked up the rules before the tenant had keys.
    session.forget_settings();
    let mut keys = 0;
    let mut find = Find::<DuplicateRule>::new().with_archived().with_deleted();
    loop {
        let page = session.duplicate_rules().find(find.clone()).await?;
        for rule in &page.items {
            match session.duplicates().restore_keys(rule.id, progress).await {
                Ok(restored) => {
                    keys += restored.keys;
                    report.is_complete &= restored.next.is_none();
                }
                // It was changed meanwhile.
                Err(Error::Conflict { .. }) => report.is_complete = false,
                Err(error) => return Err(error),
            }
            if !report.is_complete {
                return Ok(keys);
            }
        }
        match page.next {
            Some(next) => find = find.after(next),
            None => return Ok(keys),
        }
    }
}

/// All objects that the tenant has rows of, its own too.
async fn objects_of(session: &Session) -> Result<Vec<ObjectRef>> {
    let registry = session.registry().await?;
    Ok(registry.all_objects().values().cloned().collect())
}

impl<S: Storage> SealRows for EncryptedStorage<S> {
    fn seal_row(&self, ring: &Keyring, row: &Row) -> std::result::Result<Row, StorageError> {
        Ok(seal_row(&self.coverage(), ring, row)?)
    }

    fn open_row(&self, ring: &Keyring, row: &Row) -> std::result::Result<Row, StorageError> {
        Ok(open_row(ring, &**row)?.unwrap_or_else(|| row.clone()))
    }
}

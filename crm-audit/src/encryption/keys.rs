//! TEMPORARY
use async_trait::async_trait;
use crm_core::Id;
use crm_core::storage::{ChangeSet, Scope, StorageError};
use crm_core::tenancy::Tenant;
use std::collections::BTreeMap;
use uuid::Uuid;

use super::{Key, Keyring};

#[async_trait]
pub(super) trait Keys: std::fmt::Debug + Send + Sync {
    async fn keyring(&self, tenant: Id<Tenant>) -> Result<Option<Keyring>, StorageError>;
    async fn reload(&self, tenant: Id<Tenant>) -> Result<Option<Keyring>, StorageError>;
    async fn for_commit(
        &self,
        scope: &Scope,
        changes: &mut ChangeSet,
    ) -> Result<Keyring, StorageError>;
    fn is_key(&self, object: &str) -> bool;
}

/// TEMPORARY
#[derive(Debug)]
pub struct FixedKeys;

fn ring(tenant: Id<Tenant>) -> Option<Keyring> {
    let key = Uuid::from_u128(7);
    let data = BTreeMap::from([(key, Key::new([3; 32]))]);
    Keyring::new(tenant.uuid(), data, key, &Key::new([9; 32]))
}

#[async_trait]
impl Keys for FixedKeys {
    async fn keyring(&self, tenant: Id<Tenant>) -> Result<Option<Keyring>, StorageError> {
        Ok(ring(tenant))
    }
    async fn reload(&self, tenant: Id<Tenant>) -> Result<Option<Keyring>, StorageError> {
        Ok(ring(tenant))
    }
    async fn for_commit(&self, scope: &Scope, _: &mut ChangeSet) -> Result<Keyring, StorageError> {
        let tenant = scope.tenant();
        tenant
            .and_then(ring)
            .ok_or_else(|| super::EncryptionError::NoTenant.into())
    }
    fn is_key(&self, _: &str) -> bool {
        false
    }
}

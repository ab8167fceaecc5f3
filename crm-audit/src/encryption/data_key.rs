//! [`DataKey`]: a key of a tenant, wrapped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use crm_core::Record;
use crm_core::schema::{Entity, Picklist};
use crm_core::storage::StorageError;

use super::WrappedKey;

/// A key of a tenant as it is stored: wrapped by a [`KeyProvider`](super::KeyProvider). Its id is what
/// sealed values name it by.
///
/// [`KeyStore`](super::KeyStore) alone writes them: no session does, and no export takes them along, since
/// a tenant that moves gets keys of its own where it arrives. The trail tells that one was exchanged,
/// wrapped anew or removed, and nothing of what it is. They are not encrypted themselves.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "data_key",
    table = "data_keys",
    derived,
    unique(purpose, number; live)
)]
pub struct DataKey {
    /// What it is for.
    #[field(required)]
    pub purpose: KeyPurpose,
    /// Counts the tenant's keys of this purpose, from 1.
    #[field(required, min = 1)]
    pub number: i64,
    /// The master key that wrapped it, as the provider names it.
    #[field(required, max_len = 255)]
    pub provider_key: String,
    /// The wrapped key, in Base64.
    #[field(required, sensitive, max_len = 4_000)]
    pub wrapped: String,
    /// Since when nothing is sealed with it any more; it still opens.
    pub retired_at: Option<DateTime<Utc>>,
}

/// What a key of a tenant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Picklist)]
pub enum KeyPurpose {
    /// Seals values.
    Data,
    /// Makes the tokens that stand for values.
    Tokens,
}

/// What is known of a key of a tenant: all but the key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TenantKey {
    /// The id, by which sealed values name it.
    pub id: uuid::Uuid,
    /// What it is for.
    pub purpose: KeyPurpose,
    /// Counts the tenant's keys of this purpose, from 1.
    pub number: i64,
    /// The master key that wrapped it, as the provider names it.
    pub provider_key: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Since when nothing is sealed with it any more; it still opens.
    pub retired_at: Option<DateTime<Utc>>,
}

impl From<&Record<DataKey>> for TenantKey {
    fn from(key: &Record<DataKey>) -> Self {
        Self {
            id: key.id.uuid(),
            purpose: key.purpose,
            number: key.number,
            provider_key: key.provider_key.clone(),
            created_at: key.created.at,
            retired_at: key.retired_at,
        }
    }
}

impl DataKey {
    /// A key as its provider wrapped it.
    pub(super) fn of(purpose: KeyPurpose, number: i64, wrapped: WrappedKey) -> Self {
        let text = STANDARD.encode(wrapped.bytes);
        Self::new(purpose, number, wrapped.provider_key, text)
    }

    /// What the provider unwraps.
    pub(super) fn wrapped_key(&self) -> Result<WrappedKey, StorageError> {
        let bytes = STANDARD.decode(&self.wrapped);
        Ok(WrappedKey {
            provider_key: self.provider_key.clone(),
            bytes: bytes.map_err(|_| corrupt(&[&Self::WRAPPED.name()]))?,
        })
    }
}

/// Stored keys that are not those of a tenant.
pub(super) fn corrupt(fields: &[&str]) -> StorageError {
    StorageError::Corrupt {
        object: DataKey::schema().name().to_owned(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
    }
}

//! [`KeyProvider`]: who holds the master keys; [`MasterKeys`], one of ours.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use crm_core::Id;
use crm_core::storage::StorageError;
use crm_core::tenancy::Tenant;

use super::Key;

/// Wraps the keys of tenants, so that they may stand in the database beside what they seal, and
/// unwraps them again: a key management service, or [`MasterKeys`].
///
/// It is the one place where the opening of values can be allowed or refused (C-079): a provider that
/// unwraps no key of a tenant leaves all its sealed values closed. It is asked once for each key of a
/// tenant, after which the key is kept in memory until it is
/// [forgotten](super::KeyStore::forget).
///
/// ```
/// use async_trait::async_trait;
/// use crm_audit::encryption::{Key, KeyError, KeyProvider, MasterKeys, WrappedKey};
/// use crm_core::{Id, tenancy::Tenant};
///
/// /// Opens nothing of tenants who left.
/// #[derive(Debug)]
/// struct Contracts { keys: MasterKeys, ended: Vec<Id<Tenant>> }
///
/// #[async_trait]
/// impl KeyProvider for Contracts {
///     async fn wrap(&self, tenant: Id<Tenant>, key: &Key) -> Result<WrappedKey, KeyError> {
///         self.keys.wrap(tenant, key).await
///     }
///
///     async fn unwrap(&self, tenant: Id<Tenant>, key: &WrappedKey) -> Result<Key, KeyError> {
///         if self.ended.contains(&tenant) {
///             return Err(KeyError::Refused { reason: "the contract has ended".into() });
///         }
///         self.keys.unwrap(tenant, key).await
///     }
/// }
/// ```
#[async_trait]
pub trait KeyProvider: fmt::Debug + Send + Sync + 'static {
    /// Wraps a key of a tenant with the master key that is current. What comes of it tells nothing of
    /// the key to whoever has not the master key.
    ///
    /// # Errors
    /// Nobody could be asked, or nobody wraps keys of this tenant.
    async fn wrap(&self, tenant: Id<Tenant>, key: &Key) -> Result<WrappedKey, KeyError>;

    /// The key that was wrapped for this tenant; never one that was wrapped for another.
    ///
    /// # Errors
    /// Nobody could be asked, nobody unwraps keys of this tenant, or the key was not wrapped so.
    async fn unwrap(&self, tenant: Id<Tenant>, key: &WrappedKey) -> Result<Key, KeyError>;
}

#[async_trait]
impl<P: KeyProvider + ?Sized> KeyProvider for Arc<P> {
    async fn wrap(&self, tenant: Id<Tenant>, key: &Key) -> Result<WrappedKey, KeyError> {
        (**self).wrap(tenant, key).await
    }

    async fn unwrap(&self, tenant: Id<Tenant>, key: &WrappedKey) -> Result<Key, KeyError> {
        (**self).unwrap(tenant, key).await
    }
}

/// A key of a tenant as it may be stored. `Debug` does not show its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// Which master key wrapped it, as the provider names it; 1 to 255 characters.
    pub provider_key: String,
    /// What the provider unwraps; at most 3,000 bytes.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrappedKey")
            .field("provider_key", &self.provider_key)
            .finish_non_exhaustive()
    }
}

/// Why a [`KeyProvider`] gave no key. No message tells anything of a key.
///
/// Where a storage failed of it, [`of`](Self::of) finds it again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The provider cannot be reached; the same call may succeed later. Becomes
    /// [`StorageError::Unavailable`].
    #[error("the provider of keys is not available at the moment")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// The provider does not allow it.
    #[error("the provider refuses the keys of the tenant: {reason}")]
    Refused {
        /// Why, for the host's log.
        reason: String,
    },
    /// The provider has no master key of this name, or the key was not wrapped with it for this
    /// tenant.
    #[error("a key of the tenant cannot be unwrapped with the master key `{provider_key}`")]
    UnknownKey {
        /// The master key.
        provider_key: String,
    },
}

impl KeyError {
    /// Whether the same call may succeed when repeated as it is.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Why the provider gave no key, where that is what a storage failed of.
    #[must_use]
    pub fn of(error: &StorageError) -> Option<&Self> {
        match error {
            StorageError::Failed(source) | StorageError::Unavailable(source) => {
                source.downcast_ref()
            }
            _ => None,
        }
    }
}

impl From<KeyError> for StorageError {
    fn from(error: KeyError) -> Self {
        match error.is_retryable() {
            true => Self::Unavailable(Box::new(error)),
            false => Self::Failed(Box::new(error)),
        }
    }
}

/// What wrapped keys are bound to, besides tenant and master key.
const PURPOSE: &[u8] = b"crm-engine tenant key 1";

/// Master keys that the host holds itself, each under a name; one is current and wraps. A wrapped key
/// (AES-256-GCM-SIV, RFC 8452) is bound to its tenant and to the name of the master key.
///
/// Keep them out of the database and of its backups: who has both reads everything.
///
/// ```
/// use crm_audit::encryption::{Key, MasterKeys};
///
/// # let (old, new) = ([1; 32], [2; 32]);
/// // From a secret store of the host. The older one still unwraps.
/// let keys = MasterKeys::new("2026", Key::new(new)).with("2025", Key::new(old));
/// assert_eq!(keys.current(), "2026");
/// ```
#[derive(Clone)]
pub struct MasterKeys {
    keys: BTreeMap<String, Key>,
    current: String,
}

impl MasterKeys {
    /// One master key, which wraps. Its name is stored beside each key that it wraps: 1 to 255
    /// characters, and never that of another master key.
    #[must_use]
    pub fn new(name: impl Into<String>, key: Key) -> Self {
        let current = name.into();
        Self {
            keys: BTreeMap::from([(current.clone(), key)]),
            current,
        }
    }

    /// One more that unwraps what it wrapped: the current one of earlier. The current one stays what
    /// it is, whatever is given here.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, key: Key) -> Self {
        self.keys.entry(name.into()).or_insert(key);
        self
    }

    /// The name of the one that wraps.
    #[must_use]
    pub fn current(&self) -> &str {
        &self.current
    }

    fn key(&self, name: &str) -> Result<&Key, KeyError> {
        self.keys.get(name).ok_or_else(|| unknown(name))
    }
}

/// The names alone.
impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKeys")
            .field("keys", &self.keys.keys())
            .field("current", &self.current)
            .finish()
    }
}

fn unknown(name: &str) -> KeyError {
    KeyError::UnknownKey {
        provider_key: name.to_owned(),
    }
}

/// The tenant has a fixed length, so no two pairs of tenant and name are bound alike.
fn bound_to(tenant: Id<Tenant>, name: &str) -> Vec<u8> {
    [PURPOSE, tenant.uuid().as_bytes(), name.as_bytes()].concat()
}

#[async_trait]
impl KeyProvider for MasterKeys {
    async fn wrap(&self, tenant: Id<Tenant>, key: &Key) -> Result<WrappedKey, KeyError> {
        let master = self.key(&self.current)?;
        let bytes = master.encrypt(&bound_to(tenant, &self.current), key.bytes());
        Ok(WrappedKey {
            provider_key: self.current.clone(),
            bytes: bytes.ok_or_else(|| unknown(&self.current))?,
        })
    }

    async fn unwrap(&self, tenant: Id<Tenant>, key: &WrappedKey) -> Result<Key, KeyError> {
        let name = &key.provider_key;
        let master = self.key(name)?;
        let bytes = master.decrypt(&bound_to(tenant, name), &key.bytes);
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
        bytes.map(Key::new).ok_or_else(|| unknown(name))
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn tenant(number: u128) -> Id<Tenant> {
        Id::new(Uuid::from_u128(number))
    }

    fn is_unknown(keys: &MasterKeys, of: Id<Tenant>, wrapped: &WrappedKey) -> bool {
        let unwrapped = block_on(keys.unwrap(of, wrapped));
        matches!(unwrapped, Err(KeyError::UnknownKey { .. }))
    }

    #[test]
    fn a_master_key_of_earlier_unwraps_and_the_current_one_wraps() {
        let (old, new) = (Key::random(), Key::random());
        let earlier = MasterKeys::new("2025", old.clone());
        let key = Key::random();
        let wrapped = block_on(earlier.wrap(tenant(1), &key)).unwrap();
        let now = MasterKeys::new("2026", new).with("2025", old);
        let unwrapped = block_on(now.unwrap(tenant(1), &wrapped)).unwrap();
        assert_eq!(unwrapped.bytes(), key.bytes());
        assert_eq!(
            block_on(now.wrap(tenant(1), &key)).unwrap().provider_key,
            "2026"
        );
        let without = MasterKeys::new("2026", Key::random());
        assert!(is_unknown(&without, tenant(1), &wrapped));
    }

    #[test]
    fn nothing_shows_a_key() {
        let key = Key::new([0xAB; 32]);
        let keys = MasterKeys::new("2026", key.clone());
        let wrapped = block_on(keys.wrap(tenant(1), &key)).unwrap();
        let shown = format!("{keys:?} {wrapped:?} {key:?}");
        assert!(
            !shown.contains("171") && !shown.to_lowercase().contains("abab"),
            "{shown}"
        );
        assert!(!shown.contains(&format!("{:?}", wrapped.bytes)), "{shown}");
    }

    #[test]
    fn only_what_is_not_available_may_be_tried_again() {
        let away = KeyError::Unavailable("no route".into());
        let refused = KeyError::Refused {
            reason: "the contract has ended".into(),
        };
        for (error, is_retryable) in [(away, true), (refused, false)] {
            let error = StorageError::from(error);
            assert_eq!(error.is_retryable(), is_retryable);
            assert_eq!(
                KeyError::of(&error).map(KeyError::is_retryable),
                Some(is_retryable)
            );
        }
    }

    proptest! {
        #[test]
        fn a_wrapped_key_is_unwrapped_for_its_tenant_alone(
            master: [u8; 32], other_master: [u8; 32], key: [u8; 32],
            of: u128, other: u128, at: usize, by in 1..=u8::MAX,
        ) {
            prop_assume!(of != other && master != other_master);
            let keys = MasterKeys::new("a", Key::new(master)).with("b", Key::new(master));
            let wrapped = block_on(keys.wrap(tenant(of), &Key::new(key))).unwrap();
            let unwrapped = block_on(keys.unwrap(tenant(of), &wrapped)).unwrap();
            prop_assert_eq!(unwrapped.bytes(), &key);
            prop_assert!(is_unknown(&keys, tenant(other), &wrapped));
            let others = MasterKeys::new("a", Key::new(other_master));
            prop_assert!(is_unknown(&others, tenant(of), &wrapped));
            let renamed = WrappedKey { provider_key: "b".into(), ..wrapped.clone() };
            prop_assert!(is_unknown(&keys, tenant(of), &renamed));
            let mut changed = wrapped.clone();
            let at = at % changed.bytes.len();
            changed.bytes[at] ^= by;
            prop_assert!(is_unknown(&keys, tenant(of), &changed));
            let mut shorter = wrapped;
            shorter.bytes.truncate(at);
            prop_assert!(is_unknown(&keys, tenant(of), &shorter));
        }
    }
}

//! [`Keyring`]: the keys of one tenant, and what is done with them. Pure but for the nonces.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aes_gcm_siv::aead::{Aead as _, Generate as _, KeyInit as _, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use crm_core::storage::Digests;
use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

/// The form of sealed bytes: one byte for the form, sixteen for the key, twelve for the nonce, then the
/// encrypted values with their tag.
const FORM: u8 = 1;
const KEY_AT: std::ops::Range<usize> = 1..17;
const NONCE_AT: std::ops::Range<usize> = 17..29;

/// The fewest characters of a [token](Keyring::token): 75 bits.
pub(super) const TOKEN_LEAST: usize = 16;

/// What a token begins with, which no e-mail address, telephone number or word does.
const TOKEN_MARK: char = '~';

/// 256 secret bits. They are overwritten when nobody needs them any more, and `Debug` does not show them.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// The key of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A key that nobody knows, from the machine's source of randomness.
    #[must_use]
    pub fn random() -> Self {
        let mut key = aes_gcm_siv::Key::<Aes256GcmSiv>::generate();
        let new = Self::new(key.into());
        key.zeroize();
        new
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Encrypts with AES-256-GCM-SIV (RFC 8452) under a random nonce, which comes first.
    pub(crate) fn encrypt(&self, bound_to: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let nonce = Nonce::generate();
        let payload = Payload {
            msg: plain,
            aad: bound_to,
        };
        let sealed = self.cipher().encrypt(&nonce, payload).ok()?;
        Some([nonce.as_slice(), &sealed].concat())
    }

    /// What was encrypted, if it was with this key and bound to the same.
    pub(crate) fn decrypt(&self, bound_to: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<12>()?;
        let payload = Payload {
            msg: sealed,
            aad: bound_to,
        };
        let plain = self.cipher().decrypt(&Nonce::from(*nonce), payload).ok()?;
        Some(Zeroizing::new(plain))
    }

    fn cipher(&self) -> Aes256GcmSiv {
        Aes256GcmSiv::new(&(*self.0).into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The row was sealed with a key that the tenant does not have (any more, or yet), or is not what was
/// sealed: bytes were changed, or belong to another record or tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sealed values cannot be opened with the keys of the tenant")]
pub struct UnknownKey;

/// The keys of one tenant: those that open what was sealed, the one that seals, and the one that makes
/// tokens.
#[derive(Clone)]
pub struct Keyring {
    tenant: Uuid,
    data: Arc<BTreeMap<Uuid, Key>>,
    active: Uuid,
    tokens: Hmac<Sha256>,
}

impl Keyring {
    /// The keys of a tenant. `active` is the one of `data` that seals.
    #[must_use]
    pub fn new(
        tenant: Uuid,
        data: BTreeMap<Uuid, Key>,
        active: Uuid,
        tokens: &Key,
    ) -> Option<Self> {
        data.get(&active)?;
        Some(Self {
            tenant,
            data: Arc::new(data),
            active,
            tokens: Hmac::new_from_slice(tokens.bytes()).ok()?,
        })
    }

    /// The same keys with one more for data, which is the one that seals.
    pub(super) fn exchanged(mut self, id: Uuid, key: Key) -> Self {
        Arc::make_mut(&mut self.data).insert(id, key);
        self.active = id;
        self
    }

    /// The key that seals.
    #[must_use]
    pub const fn active(&self) -> Uuid {
        self.active
    }

    /// The key that sealed these bytes.
    #[must_use]
    pub fn key_of(sealed: &[u8]) -> Option<Uuid> {
        Uuid::from_slice(sealed.get(KEY_AT)?).ok()
    }

    /// Whether the tenant has the key that sealed these bytes.
    #[must_use]
    pub fn can_open(&self, sealed: &[u8]) -> bool {
        Self::key_of(sealed).is_some_and(|key| self.data.contains_key(&key))
    }

    /// Seals values of the row `id`: nobody else's row opens them.
    ///
    /// # Errors
    /// The values are longer than the cipher takes, 64 GiB.
    pub fn seal(&self, id: Uuid, plain: &[u8]) -> Result<Vec<u8>, UnknownKey> {
        let key = self.data.get(&self.active).ok_or(UnknownKey)?;
        let sealed = key.encrypt(&self.bound_to(id), plain).ok_or(UnknownKey)?;
        let mut bytes = Vec::with_capacity(KEY_AT.end + sealed.len());
        bytes.push(FORM);
        bytes.extend_from_slice(self.active.as_bytes());
        bytes.extend_from_slice(&sealed);
        Ok(bytes)
    }

    /// Opens what was sealed of the row `id`.
    ///
    /// # Errors
    /// The tenant does not have the key, or the bytes are not those that were sealed for this row.
    pub fn open(&self, id: Uuid, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnknownKey> {
        if sealed.first() != Some(&FORM) {
            return Err(UnknownKey);
        }
        let key = Self::key_of(sealed)
            .and_then(|key| self.data.get(&key))
            .ok_or(UnknownKey)?;
        let sealed = sealed.get(NONCE_AT.start..).ok_or(UnknownKey)?;
        key.decrypt(&self.bound_to(id), sealed).ok_or(UnknownKey)
    }

    /// What stands for a value in the storage: the same for equal values of one place (`account.email`), and
    /// nothing that tells the value to whoever has not the key (HMAC-SHA-256). At most `length`
    /// characters; `None` where that is fewer than 16, since different values would be
    /// taken for equal.
    #[must_use]
    pub fn token(&self, place: &str, value: &str, length: usize) -> Option<String> {
        if length < TOKEN_LEAST {
            return None;
        }
        let mut text = String::with_capacity(27);
        text.push(TOKEN_MARK);
        text.push_str(
            &BASE32_NOPAD
                .encode(&self.digest(place, value))
                .to_ascii_lowercase(),
        );
        text.truncate(length);
        Some(text)
    }

    fn bound_to(&self, id: Uuid) -> [u8; 32] {
        let mut bound = [0; 32];
        let (tenant, row) = bound.split_at_mut(16);
        tenant.copy_from_slice(self.tenant.as_bytes());
        row.copy_from_slice(id.as_bytes());
        bound
    }
}

/// By the key that makes tokens, which stays when others are exchanged.
impl Digests for Keyring {
    fn digest(&self, place: &str, text: &str) -> [u8; 16] {
        let mut mac = self.tokens.clone();
        mac.update(place.as_bytes());
        mac.update(&[0]);
        mac.update(text.as_bytes());
        let mut digest = [0; 16];
        for (byte, of) in digest.iter_mut().zip(mac.finalize().into_bytes()) {
            *byte = of;
        }
        digest
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("tenant", &self.tenant)
            .field("keys", &self.data.keys())
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(tenant: u128) -> Keyring {
        let key = Uuid::from_u128(7);
        let data = BTreeMap::from([(key, Key::new([3; 32]))]);
        Keyring::new(Uuid::from_u128(tenant), data, key, &Key::new([9; 32])).unwrap()
    }

    #[test]
    fn sealed_values_open_only_where_they_belong() {
        let (ring, id) = (ring(1), Uuid::from_u128(5));
        let sealed = ring.seal(id, b"Ada").unwrap();
        assert_eq!(&**ring.open(id, &sealed).unwrap(), b"Ada");
        assert_ne!(
            sealed,
            ring.seal(id, b"Ada").unwrap(),
            "each time another nonce"
        );
        assert_eq!(ring.open(Uuid::from_u128(6), &sealed), Err(UnknownKey));
        assert_eq!(self::ring(2).open(id, &sealed), Err(UnknownKey));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(ring.open(id, &changed), Err(UnknownKey), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert_eq!(ring.open(id, &sealed[..length]), Err(UnknownKey));
        }
    }

    #[test]
    fn tokens_are_equal_where_values_are() {
        let ring = ring(1);
        let token = |place, value| ring.token(place, value, 100).unwrap();
        assert_eq!(
            token("contact.email", "a@b.example"),
            token("contact.email", "a@b.example")
        );
        assert_ne!(
            token("contact.email", "a@b.example"),
            token("lead.email", "a@b.example")
        );
        assert_ne!(
            token("contact.email", "a@b.example"),
            token("contact.email", "b@b.example")
        );
        assert_eq!(token("a", "b").len(), 27);
        assert_eq!(ring.token("a", "b", 16).unwrap().len(), 16);
        assert_eq!(ring.token("a", "b", 15), None);
    }
}

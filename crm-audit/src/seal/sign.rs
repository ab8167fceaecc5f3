//! Signatures of seals.

use std::collections::HashMap;
use std::fmt;

use async_trait::async_trait;
use crm_core::error::Result;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

/// Signs seals with a key that the host holds, perhaps in a device or service of its own.
#[async_trait]
pub trait SealSigner: Send + Sync {
    /// Which key it is, in at most 100 characters: verifiers find the key by it.
    fn key_id(&self) -> &str;

    /// The signature, of at most 500 bytes.
    ///
    /// # Errors
    /// Why there is none; the seal is then not made.
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>>;
}

/// Checks signatures of seals.
pub trait SealVerifier: Send + Sync {
    /// Whether the key of this id made the signature. An unknown key made none.
    fn verify(&self, key_id: &str, message: &[u8], signature: &[u8]) -> bool;
}

/// Signs with Ed25519 (RFC 8032) and a key that is in this process.
///
/// ```
/// use crm_audit::seal::{Ed25519Signer, Ed25519Verifier, SealSigner, SealVerifier};
/// # pollster::block_on(async {
/// // From the host's own vault.
/// let signer = Ed25519Signer::new("2026", &[7; 32]);
/// let verifier = Ed25519Verifier::new().key("2026", signer.public_key()).expect("a public key");
/// let signature = signer.sign(b"a seal").await?;
/// assert!(verifier.verify("2026", b"a seal", &signature));
/// assert!(!verifier.verify("2026", b"another", &signature));
/// assert!(!verifier.verify("2025", b"a seal", &signature));
/// # Ok::<(), crm_core::Error>(())
/// # }).unwrap();
/// ```
pub struct Ed25519Signer {
    key_id: String,
    key: SigningKey,
}

impl Ed25519Signer {
    /// A signer with a secret key of 32 random bytes.
    #[must_use]
    pub fn new(key_id: impl Into<String>, secret: &[u8; 32]) -> Self {
        Self {
            key_id: key_id.into(),
            key: SigningKey::from_bytes(secret),
        }
    }

    /// The public key, which verifiers need.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }
}

/// Without the key.
impl fmt::Debug for Ed25519Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ed25519Signer")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SealSigner for Ed25519Signer {
    fn key_id(&self) -> &str {
        &self.key_id
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        Ok(self.key.sign(message).to_bytes().to_vec())
    }
}

/// Checks signatures of Ed25519 by the public keys that the host trusts: old ones too, as long as
/// seals are signed with them.
#[derive(Clone, Debug, Default)]
pub struct Ed25519Verifier {
    keys: HashMap<String, VerifyingKey>,
}

impl Ed25519Verifier {
    /// Without keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts a public key; `None` where the bytes are none.
    #[must_use]
    pub fn key(mut self, key_id: impl Into<String>, public_key: [u8; 32]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(&public_key).ok()?;
        self.keys.insert(key_id.into(), key);
        Some(self)
    }
}

impl SealVerifier for Ed25519Verifier {
    fn verify(&self, key_id: &str, message: &[u8], signature: &[u8]) -> bool {
        let Some(key) = self.keys.get(key_id) else {
            return false;
        };
        let signature = Signature::from_slice(signature);
        signature.is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
    }
}

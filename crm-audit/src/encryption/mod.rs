//! Personal and sensitive values are encrypted before they reach a storage (R-006, R-007, C-078 to C-080,
//! C-110, C-149).

mod conditions;
mod coverage;
mod error;
mod keyring;
mod keys;
mod rows;
mod storage;
#[cfg(test)]
mod tests;

pub use error::EncryptionError;
pub use keyring::{Key, Keyring, UnknownKey};
pub use keys::FixedKeys;
pub use storage::{EncryptedStorage, EncryptedStorageBuilder};

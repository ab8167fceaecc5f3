//! Personal and sensitive values are encrypted before they reach a storage (R-006, R-007, C-078 to C-080,
//! C-110, C-149).

mod cache;
mod data_key;
mod keyring;
mod pass;
mod provider;
mod store;

pub use data_key::{DataKey, KeyPurpose, TenantKey};
pub use keyring::{Key, Keyring, UnknownKey};
pub use pass::{ResealReport, SealRows};
pub use provider::{KeyError, KeyProvider, MasterKeys, WrappedKey};
pub use store::KeyStore;

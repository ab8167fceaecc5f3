//! Personal and sensitive values are encrypted before they reach a storage (R-006, R-007, C-078 to C-080,
//! C-110, C-149).

mod keyring;

pub use keyring::{Key, Keyring, UnknownKey};

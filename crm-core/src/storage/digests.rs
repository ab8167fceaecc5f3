//! [`Digests`]: what stands in rows for values that are looked up and never read back.

use std::fmt::Debug;

/// Makes digests of one tenant's values: equal texts have equal ones, and who has the database and not
/// the tenant's keys cannot even find out whether a digest is that of a text he can think of (C-080).
///
/// A storage that encrypts gives it out: see [`Storage::digests`](super::Storage::digests).
pub trait Digests: Debug + Send + Sync {
    /// 128 bits for a text. Equal texts of two `place`s, such as `duplicate_key.key`, have nothing in
    /// common.
    fn digest(&self, place: &str, text: &str) -> [u8; 16];
}

//! The ids of a tenant that moved.

use crm_core::Id;
use crm_core::tenancy::Tenant;
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

/// The id that a record has after its tenant was imported as `tenant`: always the same, and another
/// one in each tenant. For hosts whose own tables name records.
///
/// An id of version 7 keeps its time and the twelve bits behind it, so that records stay in their
/// order; its other bits are taken from SHA-256 over both ids. Every other id becomes one of
/// version 8 (RFC 9562) made of that hash.
///
/// ```
/// use crm_core::Id;
/// use crm_exchange::tenant::moved_id;
/// use uuid::Uuid;
///
/// let tenant = Id::new(Uuid::from_u128(7));
/// let old: Uuid = "01932c07-209c-7a4b-8000-000000000001".parse().unwrap();
/// let new = moved_id(tenant, old);
/// assert_ne!(new, old);
/// assert_eq!(new, moved_id(tenant, old));
/// assert!(new.to_string().starts_with("01932c07-209c-7a4b-"));
/// ```
#[must_use]
pub fn moved_id(tenant: Id<Tenant>, old: Uuid) -> Uuid {
    if old.is_nil() {
        return old;
    }
    let mut hash = Sha256::new();
    hash.update(tenant.uuid().as_bytes());
    hash.update(old.as_bytes());
    let hash = hash.finalize();
    let keeps_time = old.get_version_num() == 7;
    let mut bytes = old.into_bytes();
    let from = if keeps_time { 8 } else { 0 };
    for (slot, byte) in bytes.iter_mut().zip(hash).skip(from) {
        *slot = byte;
    }
    if keeps_time {
        Builder::from_bytes(bytes)
            .with_variant(uuid::Variant::RFC4122)
            .into_uuid()
    } else {
        Builder::from_custom_bytes(bytes).into_uuid()
    }
}

/// How the ids of one file become those of the new tenant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub(super) from: Uuid,
    pub(super) to: Id<Tenant>,
}

impl Move {
    /// The new id; the tenant's own for that of the tenant.
    pub(super) fn id(&self, old: Uuid) -> Uuid {
        if old == self.from {
            self.to.uuid()
        } else {
            moved_id(self.to, old)
        }
    }

    /// The document with every text and name that is an id replaced.
    pub(super) fn json(&self, json: Json) -> Json {
        match json {
            Json::String(text) => Json::String(self.text(text)),
            Json::Array(items) => items.into_iter().map(|item| self.json(item)).collect(),
            Json::Object(members) => {
                let moved = members
                    .into_iter()
                    .map(|(name, member)| (self.text(name), self.json(member)));
                Json::Object(moved.collect::<Map<_, _>>())
            }
            other => other,
        }
    }

    fn text(&self, text: String) -> String {
        // Only the form in which the engine writes ids.
        match Uuid::try_parse(&text) {
            Ok(id) if id.hyphenated().to_string() == text => self.id(id).to_string(),
            _ => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_differ_by_tenant_and_keep_their_order(a: u128, b: u128, time in 0_u64..1 << 48) {
            let (one, two) = (Id::new(Uuid::from_u128(a)), Id::new(Uuid::from_u128(!a)));
            let old = Uuid::from_u128(b);
            prop_assert_ne!(moved_id(one, old), moved_id(two, old));
            let [.., c0, c1, c2, c3, c4, c5, c6, c7, c8, c9] = old.into_bytes();
            let random = [c0, c1, c2, c3, c4, c5, c6, c7, c8, c9];
            let at = |time| moved_id(one, Builder::from_unix_timestamp_millis(time, &random).into_uuid());
            prop_assert!(at(time) < at(time + 1));
            prop_assert_eq!(at(time).get_version_num(), 7);
            prop_assert_eq!(at(time).get_variant(), uuid::Variant::RFC4122);
        }
    }
}

//! Typed ids: an `Id<Account>` is never taken for an `Id<Contact>`.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::schema::Entity;

/// The id of a record of type `E`: a UUID, version 7 where the engine made it, so that ids sort by
/// the time of their making.
///
/// An id carries no authority: a session reads through it only what belongs to its own tenant.
///
/// ```
/// use crm_core::{Id, accounts::Account};
///
/// let id: Id<Account> = "01932c07-209c-7a4b-8000-000000000001".parse()?;
/// assert_eq!(id.to_string(), "01932c07-209c-7a4b-8000-000000000001");
/// # Ok::<(), uuid::Error>(())
/// ```
pub struct Id<E>(Uuid, PhantomData<fn() -> E>);

impl<E> Id<E> {
    /// Takes a UUID as the id of an `E`.
    #[must_use]
    pub const fn new(id: Uuid) -> Self {
        Self(id, PhantomData)
    }

    /// The UUID.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl<E> Clone for Id<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Id<E> {}

impl<E> PartialEq for Id<E> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<E> Eq for Id<E> {}

impl<E> PartialOrd for Id<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Id<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl<E> Hash for Id<E> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<E> fmt::Display for Id<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E> fmt::Debug for Id<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.0)
    }
}

impl<E> FromStr for Id<E> {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::new)
    }
}

impl<E> From<Uuid> for Id<E> {
    fn from(id: Uuid) -> Self {
        Self::new(id)
    }
}

impl<E> From<Id<E>> for Uuid {
    fn from(id: Id<E>) -> Self {
        id.0
    }
}

impl<E> Serialize for Id<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, E> Deserialize<'de> for Id<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Uuid::deserialize(deserializer).map(Self::new)
    }
}

/// Names one record of any object: what audit trails, comments and tags point to.
///
/// ```
/// use crm_core::{EntityRef, Id, accounts::Account};
///
/// let id: Id<Account> = "01932c07-209c-7a4b-8000-000000000001".parse()?;
/// assert_eq!(EntityRef::from(id).object, "account");
/// # Ok::<(), uuid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntityRef {
    /// The object's name, such as `account`.
    pub object: String,
    /// The record's id.
    pub id: Uuid,
}

impl EntityRef {
    /// Names the record `id` of `object`.
    pub fn new(object: impl Into<String>, id: impl Into<Uuid>) -> Self {
        Self {
            object: object.into(),
            id: id.into(),
        }
    }
}

impl<E: Entity> From<Id<E>> for EntityRef {
    fn from(id: Id<E>) -> Self {
        Self::new(E::schema().name(), id)
    }
}

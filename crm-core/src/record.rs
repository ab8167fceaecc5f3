//! A record: the data that users edit and what the system keeps about it.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, SerializeMap, Serializer};
use uuid::Uuid;

use crate::Id;
use crate::identity::User;
use crate::schema::{AnyRecord, Entity, FieldSet, Meta, ObjectRef, Row, SYSTEM_FIELDS, ValueRef};
use crate::value::ValueError;

/// Who does something.
///
/// ```
/// use crm_core::Actor;
///
/// assert_eq!(Actor::System.kind(), "system");
/// assert_eq!(Actor::System.id(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Actor {
    /// A user of the tenant.
    User(Id<User>),
    /// The engine itself or a job of the host (R-065).
    System,
    /// A program that calls the host's API, by the id of its key.
    ApiClient(Uuid),
    /// An import, by the id of its job.
    Import(Uuid),
    /// A visitor without a name, such as one who fills in a web form.
    Anonymous,
}

impl Actor {
    /// The texts that [`kind`](Self::kind) gives.
    pub const KINDS: &'static [&'static str] =
        &["user", "system", "api_client", "import", "anonymous"];

    /// The kind of actor as stored.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::System => "system",
            Self::ApiClient(_) => "api_client",
            Self::Import(_) => "import",
            Self::Anonymous => "anonymous",
        }
    }

    /// The id of the user, key or job.
    #[must_use]
    pub const fn id(&self) -> Option<Uuid> {
        match self {
            Self::User(id) => Some(id.uuid()),
            Self::ApiClient(id) | Self::Import(id) => Some(*id),
            Self::System | Self::Anonymous => None,
        }
    }

    /// The user, where a user acts.
    #[must_use]
    pub const fn user(&self) -> Option<Id<User>> {
        match self {
            Self::User(id) => Some(*id),
            _ => None,
        }
    }

    /// The actor from its stored form; `None` where kind and id do not go together.
    ///
    /// ```
    /// use crm_core::Actor;
    ///
    /// assert_eq!(Actor::from_parts("anonymous", None), Some(Actor::Anonymous));
    /// assert_eq!(Actor::from_parts("user", None), None);
    /// ```
    #[must_use]
    pub fn from_parts(kind: &str, id: Option<Uuid>) -> Option<Self> {
        match (kind, id) {
            ("user", Some(id)) => Some(Self::User(Id::new(id))),
            ("system", None) => Some(Self::System),
            ("api_client", Some(id)) => Some(Self::ApiClient(id)),
            ("import", Some(id)) => Some(Self::Import(id)),
            ("anonymous", None) => Some(Self::Anonymous),
            _ => None,
        }
    }
}

/// `user:` and the id, or the kind alone; what [`FromStr`] reads.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id() {
            Some(id) => write!(f, "{}:{id}", self.kind()),
            None => f.write_str(self.kind()),
        }
    }
}

/// Reads what `Display` writes.
///
/// ```
/// use crm_core::Actor;
///
/// let actor: Actor = "import:01932c07-209c-7a4b-8000-000000000001".parse().unwrap();
/// assert_eq!(actor.kind(), "import");
/// assert!("user".parse::<Actor>().is_err(), "a user has an id");
/// ```
impl FromStr for Actor {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (kind, id) = match text.split_once(':') {
            Some((kind, id)) => (
                kind,
                Some(Uuid::try_parse(id).map_err(|_| invalid_actor())?),
            ),
            None => (text, None),
        };
        Self::from_parts(kind, id).ok_or_else(invalid_actor)
    }
}

fn invalid_actor() -> ValueError {
    ValueError::new(
        "invalid_actor",
        "must be `system`, `anonymous`, or `user:`, `api_client:` or `import:` with an id",
    )
}

impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Actor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// When something was done and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// The moment, to the microsecond.
    pub at: DateTime<Utc>,
    /// Who did it.
    pub by: Actor,
}

/// A stored `E` with what the system keeps about it; reads like an `E`.
///
/// ```
/// # use crm_core::{Record, contacts::Contact};
/// fn greeting(contact: &Record<Contact>) -> String {
///     // `name` is a field of the contact, `version` one of the record.
///     format!("{} (version {})", contact.name.full_name().unwrap_or_default(), contact.version)
/// }
/// ```
#[derive(Clone, PartialEq)]
pub struct Record<E> {
    /// The id.
    pub id: Id<E>,
    /// How often the record was written, from 1.
    pub version: i64,
    /// When and by whom it was created.
    pub created: Stamp,
    /// When and by whom it was last written.
    pub updated: Stamp,
    /// Since when it is archived: kept, but out of the way.
    pub archived_at: Option<DateTime<Utc>>,
    /// Since when it is deleted: hidden, but can be restored.
    pub deleted_at: Option<DateTime<Utc>>,
    /// What users edit.
    pub data: E,
}

impl<E: Entity> Record<E> {
    /// Joins what the system keeps and what users edit.
    #[must_use]
    pub const fn new(meta: Meta, data: E) -> Self {
        Self {
            id: Id::new(meta.id),
            version: meta.version,
            created: meta.created,
            updated: meta.updated,
            archived_at: meta.archived_at,
            deleted_at: meta.deleted_at,
            data,
        }
    }

    /// Takes a row as a record of `E`; `None` where it belongs to another object.
    #[must_use]
    pub fn from_row(row: Row) -> Option<Arc<Self>> {
        let row: Arc<dyn Any + Send + Sync> = row;
        row.downcast().ok()
    }
}

impl<E> Deref for Record<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.data
    }
}

impl<E: fmt::Debug> fmt::Debug for Record<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("id", &self.id)
            .field("version", &self.version)
            .field("archived_at", &self.archived_at)
            .field("deleted_at", &self.deleted_at)
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

/// One flat JSON object, field by field, the system's fields first.
impl<E: Entity> Serialize for Record<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = E::schema().fields();
        let mut map = serializer.serialize_map(Some(fields.len()))?;
        for (index, field) in fields.iter().enumerate() {
            map.serialize_entry(&field.name, &AnyRecord::value(self, index))?;
        }
        map.end()
    }
}

impl<E: Entity> AnyRecord for Record<E> {
    fn object(&self) -> &ObjectRef {
        E::schema()
    }

    fn meta(&self) -> Meta {
        Meta {
            id: self.id.uuid(),
            version: self.version,
            created: self.created,
            updated: self.updated,
            archived_at: self.archived_at,
            deleted_at: self.deleted_at,
        }
    }

    fn value(&self, index: usize) -> ValueRef<'_> {
        match index.checked_sub(SYSTEM_FIELDS) {
            None => self.meta().value(index),
            Some(index) => self.data.value(index),
        }
    }

    fn differing(&self, other: &dyn AnyRecord) -> FieldSet {
        let mut set = self.meta().differing(&other.meta());
        match (other as &dyn Any).downcast_ref::<Self>() {
            Some(other) => self.data.differing(&other.data, SYSTEM_FIELDS, &mut set),
            // The same object read without its type: compare value by value.
            None => {
                for index in SYSTEM_FIELDS..SYSTEM_FIELDS + E::COUNT {
                    if AnyRecord::value(self, index) != other.value(index) {
                        set.insert(index);
                    }
                }
            }
        }
        set
    }

    fn check(&self, faults: &mut crate::error::Faults) {
        self.data.check(faults);
    }

    fn with_meta(&self, meta: Meta) -> Row {
        Arc::new(Self::new(meta, self.data.clone()))
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;

    fn actors() -> impl Strategy<Value = Actor> {
        prop_oneof![
            any::<u128>().prop_map(|id| Actor::User(Id::new(Uuid::from_u128(id)))),
            any::<u128>().prop_map(|id| Actor::ApiClient(Uuid::from_u128(id))),
            any::<u128>().prop_map(|id| Actor::Import(Uuid::from_u128(id))),
            Just(Actor::System),
            Just(Actor::Anonymous),
        ]
    }

    proptest! {
        #[test]
        fn actors_and_stamps_survive_text_and_json(
            by in actors(),
            micros in 0_i64..4_000_000_000_000_000,
        ) {
            prop_assert_eq!(by.to_string().parse::<Actor>().unwrap(), by);
            prop_assert_eq!(Actor::from_parts(by.kind(), by.id()), Some(by));
            let stamp = Stamp { at: DateTime::from_timestamp_micros(micros).unwrap(), by };
            let json = serde_json::to_string(&stamp).unwrap();
            prop_assert_eq!(serde_json::from_str::<Stamp>(&json).unwrap(), stamp);
        }

        #[test]
        fn no_text_makes_reading_an_actor_panic(text in ".{0,60}") {
            if let Ok(actor) = text.parse::<Actor>() {
                prop_assert_eq!(actor.to_string().parse::<Actor>().unwrap(), actor);
            }
        }
    }
}

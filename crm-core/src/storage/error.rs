//! What a backend may answer instead of a result.

use std::error::Error as StdError;

use uuid::Uuid;

use crate::query::QueryError;

/// Why a storage call failed. Nothing was written; only after [`Unavailable`](Self::Unavailable) a
/// commit may have been applied all the same, if its answer was lost on the way. The same change set
/// can be handed over again, since versions and ids let it be applied once only; before a whole
/// operation is repeated, which would make new ids, look whether it was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// A row is not at the version that the change set names, or is gone; or a row that it deletes
    /// is referred to, against what the change set says.
    #[error("the {object} is not at the expected version")]
    Conflict {
        /// The object.
        object: String,
        /// The row.
        id: Uuid,
    },
    /// Another row has the same values in a unique key.
    #[error("another {object} has the same {}", fields.join(" and "))]
    Duplicate {
        /// The object.
        object: String,
        /// The fields of the key.
        fields: Vec<String>,
    },
    /// A reference leads to a row that is not there, is deleted, or belongs to another tenant.
    #[error("the `{field}` of a {object} refers to a record that does not exist")]
    Reference {
        /// The object whose row has the reference.
        object: String,
        /// The reference.
        field: String,
    },
    /// A row cannot be removed because others refer to it.
    #[error("the {object} is still referred to by the `{field}` of a {by}")]
    Referenced {
        /// The object whose row was to be removed.
        object: String,
        /// The object that refers to it.
        by: String,
        /// The reference.
        field: String,
    },
    /// The query cannot be answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The backend cannot be reached or gave up; the same call may succeed later.
    #[error("the storage is not available at the moment")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// A stored row does not fit its schema.
    #[error("a stored {object} does not fit its schema in {}", fields.join(", "))]
    Corrupt {
        /// The object.
        object: String,
        /// The fields that do not fit.
        fields: Vec<String>,
    },
    /// A stored row is encrypted, and there is no storage in between that opens it: see
    /// [`AnyRecord::sealed`](crate::schema::AnyRecord::sealed).
    #[error("a stored {object} is encrypted: put the storage that opens it in front of this one")]
    Sealed {
        /// The object.
        object: String,
    },
    /// The entries of a log were brought here from a server that counted its commits further than this
    /// one has: its feed, and what is asked with a [`Snapshot`](super::Snapshot), would leave them out.
    #[error(
        "the {object} log has commits ahead of the server's count: it was restored from another server, \
         from whose count this one has to go on (see the upkeep of the storage)"
    )]
    AheadOfServer {
        /// The log.
        object: String,
    },
    /// The backend failed in a way that repeating does not mend.
    #[error("the storage failed")]
    Failed(#[source] Box<dyn StdError + Send + Sync>),
}

impl StorageError {
    /// Whether the same call may succeed when repeated as it is.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

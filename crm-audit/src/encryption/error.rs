//! [`EncryptionError`]: why values could not be encrypted or opened.

use crm_core::storage::StorageError;
use uuid::Uuid;

use super::UnknownKey;

/// Why an [`EncryptedStorage`](super::EncryptedStorage) did not do what it was asked. Nothing was
/// written, and no value is shown.
///
/// It is the source of a [`StorageError::Failed`], where [`of`](Self::of) finds it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptionError {
    /// The tenant has no key that opens the values of a stored record, or they are not those that were
    /// sealed: somebody changed them, or put them into the place of another record.
    #[error(
        "the sealed values of the {object} `{id}` cannot be opened with the keys of its tenant"
    )]
    Locked {
        /// The object.
        object: String,
        /// The record.
        id: Uuid,
    },
    /// A field has to have a value and is of a kind that no token can stand for: leave it
    /// [plain](super::EncryptedStorageBuilder::except), or make it optional.
    #[error("the required field `{field}` of {object} cannot be encrypted")]
    Field {
        /// The object.
        object: String,
        /// The field.
        field: String,
    },
    /// The values of a record are longer than the cipher takes.
    #[error("the values of the {object} `{id}` are too long to be encrypted")]
    TooLong {
        /// The object.
        object: String,
        /// The record.
        id: Uuid,
    },
    /// What was sealed is not what a record is made of: it was sealed by another program.
    #[error("what was sealed of the {object} `{id}` is not in a form that is known")]
    Form {
        /// The object.
        object: String,
        /// The record.
        id: Uuid,
    },
    /// The commit names no tenant, so there are no keys for it.
    #[error("there are no keys outside of a tenant")]
    NoTenant,
}

impl EncryptionError {
    /// Why encryption failed, where that is what a storage failed of.
    #[must_use]
    pub fn of(error: &StorageError) -> Option<&Self> {
        match error {
            StorageError::Failed(source) => source.downcast_ref(),
            _ => None,
        }
    }

    pub(super) fn locked(object: &str, id: Uuid) -> impl FnOnce(UnknownKey) -> Self {
        let object = object.to_owned();
        move |_| Self::Locked { object, id }
    }
}

impl From<EncryptionError> for StorageError {
    fn from(error: EncryptionError) -> Self {
        Self::Failed(Box::new(error))
    }
}

//! Why a tenant could not be exported or imported.

use std::io;

use crm_core::error::ValidationError;

/// Why a tenant could not be exported or imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] crm_core::Error),
    /// The file could not be read or written.
    #[error("the file could not be read or written")]
    Io(#[from] io::Error),
    /// The file is none of a tenant.
    #[error("the file is not the export of a tenant")]
    NotAnExport,
    /// The file was written by a later version of the engine.
    #[error("the file has format {found}, this engine reads up to {known}; update the engine")]
    NewerFormat {
        /// The file's format.
        found: u64,
        /// The latest format that is known.
        known: u64,
    },
    /// The file ends before its manifest.
    #[error("the file ends before its manifest: it was cut off, or its export was")]
    Truncated,
    /// A line is not what stands in such a file.
    #[error("line {line} {reason}")]
    Malformed {
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A line is longer than allowed.
    #[error("line {line} has more than {max} bytes")]
    LineTooLong {
        /// The line, from 1.
        line: u64,
        /// The most bytes.
        max: usize,
    },
    /// The records of an object are not those that the manifest tells of.
    #[error("the number of {object} records or their checksum is not that of the manifest")]
    Altered {
        /// The object.
        object: String,
    },
    /// The engine has no such object.
    #[error("this engine has no object `{object}`; make it known before the import")]
    UnknownObject {
        /// The object.
        object: String,
    },
    /// A record does not fit the schema.
    #[error("the {object} in line {line} does not fit the schema: {faults}")]
    Record {
        /// The line, from 1.
        line: u64,
        /// The object.
        object: String,
        /// What does not fit.
        faults: ValidationError,
    },
    /// A record refers to one that is not in the file.
    #[error(
        "the `{field}` of a {object} in line {line} refers to a record that is not in the file"
    )]
    Dangling {
        /// The line, from 1.
        line: u64,
        /// The object.
        object: String,
        /// The reference.
        field: String,
    },
    /// The tenant has records that are not from this file.
    #[error(
        "the tenant has {object} records that are not from this file; import into an empty one"
    )]
    NotEmpty {
        /// The object.
        object: String,
    },
    /// A record of an earlier attempt was changed since.
    #[error("a {object} of an earlier import was changed since; import into another tenant")]
    Changed {
        /// The object.
        object: String,
    },
    /// The progress said to stop.
    #[error("stopped after {records} records")]
    Cancelled {
        /// How many records were done.
        records: u64,
    },
}

impl TransferError {
    /// A stable code for the kind of error.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Engine(error) => error.code(),
            Self::Io(_) => "io",
            Self::NotAnExport => "not_an_export",
            Self::NewerFormat { .. } => "newer_format",
            Self::Truncated => "truncated",
            Self::Malformed { .. } => "malformed",
            Self::LineTooLong { .. } => "line_too_long",
            Self::Altered { .. } => "altered",
            Self::UnknownObject { .. } => "unknown_object",
            Self::Record { .. } => "record",
            Self::Dangling { .. } => "dangling",
            Self::NotEmpty { .. } => "not_empty",
            Self::Changed { .. } => "changed",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}

impl From<crm_core::storage::StorageError> for TransferError {
    fn from(error: crm_core::storage::StorageError) -> Self {
        Self::Engine(error.into())
    }
}

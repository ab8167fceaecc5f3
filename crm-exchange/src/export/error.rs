//! Why an export failed.

use std::io;

/// Why an export failed. What was written until then is no whole file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] crm_core::Error),
    /// The writer failed.
    #[error("the file could not be written")]
    Io(#[from] io::Error),
    /// The object has no such column.
    #[error("there is no column `{column}`; name fields as the schema does")]
    UnknownColumn {
        /// The column.
        column: String,
    },
    /// The column is a secret, which no export writes.
    #[error("the column `{column}` holds secrets, which are never exported")]
    SensitiveColumn {
        /// The column.
        column: String,
    },
    /// The column is about persons, in an export without personal fields.
    #[error("the column `{column}` is personal; take it out, or export with personal fields")]
    PersonalColumn {
        /// The column.
        column: String,
    },
    /// The column is named twice.
    #[error("the column `{column}` is named twice")]
    RepeatedColumn {
        /// The column.
        column: String,
    },
    /// The export has no column, or more than the format holds.
    #[error("an export has at least one column and in XLSX at most {max}")]
    ColumnCount {
        /// The most columns.
        max: usize,
    },
    /// The format of days or moments is none.
    #[error("the format of days or moments is not valid; see `strftime`")]
    TimeFormat,
    /// The workbook could not be made.
    #[error("the workbook could not be written")]
    Workbook(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The progress said to stop.
    #[error("the export was cancelled after {rows} records")]
    Cancelled {
        /// How many records were written.
        rows: u64,
    },
}

impl ExportError {
    /// A stable code for the kind of error, as the record of the export keeps it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Engine(error) => error.code(),
            Self::Io(_) => "io",
            Self::UnknownColumn { .. } => "unknown_column",
            Self::SensitiveColumn { .. } => "sensitive_column",
            Self::PersonalColumn { .. } => "personal_column",
            Self::RepeatedColumn { .. } => "repeated_column",
            Self::ColumnCount { .. } => "column_count",
            Self::TimeFormat => "time_format",
            Self::Workbook(_) => "workbook",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}

//! [`ImportJob`]: one import of one file.

use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::schema::{Entity, FieldGroup, Picklist};

/// One import of one file into one object (C-004; the contact import jobs of the requirements, for
/// every object).
///
/// Who created it and when is told by the record's `created`. The records that it wrote were written
/// by [`Actor::Import`](crate::Actor::Import) with its id.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "import_job",
    table = "import_jobs",
    index(status, created_at)
)]
pub struct ImportJob {
    /// The object whose records the file holds.
    #[field(required, max_len = 100)]
    pub object: String,
    /// Name of the file.
    #[field(required, max_len = 255, searchable)]
    pub file_name: String,
    /// Size of the file in bytes.
    #[field(min = 0)]
    pub file_size: i64,
    /// SHA-256 of the file in hexadecimal digits, so that a job is only resumed with its own file.
    #[field(required, max_len = 64)]
    pub fingerprint: String,
    /// Format of the file.
    pub format: ImportFormat,
    /// Which columns go into which fields, as `crm-exchange` writes it.
    #[field(required)]
    pub mapping: Json,
    /// How the file is read and the like, as `crm-exchange` writes it.
    #[field(default = json!({}))]
    pub options: Json,
    /// What is done with the rows.
    pub mode: ImportMode,
    /// The fields by which a row finds its record.
    pub keys: Vec<String>,
    /// What is done with duplicates.
    pub duplicates: DuplicateHandling,
    /// How far it is.
    #[field(read_only)]
    pub status: ImportStatus,
    /// What became of the rows so far.
    #[field(flatten, read_only)]
    pub counts: ImportCounts,
    /// The worker that runs it.
    #[field(read_only)]
    pub worker: Option<Uuid>,
    /// Until when no other worker takes it.
    #[field(read_only)]
    pub leased_until: Option<DateTime<Utc>>,
    /// Where a revert goes on: the rows that were done before this one, counted in the order in which
    /// they were, are still to be reverted.
    #[field(read_only, min = 0)]
    pub revert_before: Option<i64>,
    /// Why it failed: a stable code.
    #[field(read_only, max_len = 100)]
    pub failure: Option<String>,
    /// When it began.
    #[field(read_only)]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended, in whatever way.
    #[field(read_only)]
    pub completed_at: Option<DateTime<Utc>>,
}

impl ImportJob {
    /// Whether the other job would do the same with the same file.
    pub(super) fn same_plan(&self, other: &Self) -> bool {
        let plan = |job: &Self| {
            let Self {
                object,
                fingerprint,
                format,
                mapping,
                options,
                mode,
                keys,
                duplicates,
                ..
            } = job.clone();
            (
                object,
                fingerprint,
                format,
                mapping,
                options,
                mode,
                keys,
                duplicates,
            )
        };
        plan(self) == plan(other)
    }
}

/// What became of the rows of an import so far.
#[derive(Clone, Copy, PartialEq, Eq, FieldGroup)]
pub struct ImportCounts {
    /// How many rows the file has, once that is known.
    #[field(min = 0)]
    pub total_rows: Option<i64>,
    /// How many rows are done.
    #[field(min = 0)]
    pub processed_rows: i64,
    /// How many became new records.
    #[field(min = 0)]
    pub created_rows: i64,
    /// How many changed a record.
    #[field(min = 0)]
    pub updated_rows: i64,
    /// How many found their record as it should be.
    #[field(min = 0)]
    pub unchanged_rows: i64,
    /// How many were left out as duplicates.
    #[field(min = 0)]
    pub skipped_rows: i64,
    /// How many were refused.
    #[field(min = 0)]
    pub failed_rows: i64,
}

impl ImportCounts {
    /// Counts one more row.
    pub const fn add(&mut self, outcome: super::RowOutcome) {
        use super::RowOutcome as Outcome;
        self.processed_rows += 1;
        match outcome {
            Outcome::Created => self.created_rows += 1,
            Outcome::Updated => self.updated_rows += 1,
            Outcome::Unchanged => self.unchanged_rows += 1,
            Outcome::Skipped => self.skipped_rows += 1,
            Outcome::Failed | Outcome::Kept => self.failed_rows += 1,
        }
    }
}

/// The format of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum ImportFormat {
    /// Text with a delimiter: comma, semicolon, tab or bar.
    #[default]
    Csv,
    /// A spreadsheet of any kind: XLSX, XLSB, XLS, ODS.
    Spreadsheet,
}

/// What an import does with its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum ImportMode {
    /// Each row becomes a new record.
    #[default]
    Create,
    /// Each row changes the record that its keys find; a row without one is refused.
    Update,
    /// Each row changes the record that its keys find, or becomes a new one.
    Upsert,
}

/// What an import does with a row that doubles a record or an earlier row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum DuplicateHandling {
    /// It is left out and counted as skipped.
    #[default]
    Skip,
    /// It is refused and counted as failed.
    Refuse,
    /// It lands all the same, unless a unique key forbids it.
    Keep,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum ImportStatus {
    /// Not begun.
    #[default]
    Pending,
    /// Under way; or its worker died, and it can be resumed.
    Processing,
    /// Every row is done.
    Completed,
    /// It broke off, and can be resumed.
    Failed,
    /// It was stopped, and can be resumed.
    Cancelled,
    /// It was taken back.
    Reverted,
}

/// A worker's claim on a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportLease {
    /// The worker.
    pub worker: Uuid,
    /// Whether the worker takes the job over from one that may still be alive. That is safe: what
    /// the other one tries to write is refused from then on.
    pub take_over: bool,
}

//! [`ImportRow`]: what became of one row of a file.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::ImportJob;
use crate::Id;
use crate::schema::{Entity, Picklist};

/// What became of one row of a file: an entry of the job's log, written in the same commit as the
/// row's record.
///
/// A row that found its record unchanged leaves no entry; it is only counted. For a new record the
/// entry holds its id and version and nothing else, so an import of a million rows keeps some
/// hundred bytes for each. The values of a bad row are not kept: the file has them.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "import_row",
    table = "import_rows",
    log,
    unique(job_id, phase, sequence, place)
)]
pub struct ImportRow {
    /// The job.
    #[field(required, references = "import_job", on_delete = "cascade")]
    pub job_id: Id<ImportJob>,
    /// The row's number in the file, from 1, the header counted.
    #[field(required, min = 1)]
    pub row_number: i64,
    /// Which one it was, from 1, in the order in which the rows were done.
    #[field(required, min = 1)]
    pub sequence: i64,
    /// What became of it.
    #[field(required)]
    pub outcome: RowOutcome,
    /// Whether this was while the file was read, or while the import was reverted.
    pub phase: ImportPhase,
    /// 0 for the row itself; from 1 for records that were made so that the row can refer to them.
    #[field(min = 0)]
    pub place: u32,
    /// The object of such a record; of the row's own record the job tells.
    #[field(max_len = 100)]
    pub object: Option<String>,
    /// The record that was written, or that the row doubles.
    pub record_id: Option<Uuid>,
    /// The version that was written.
    #[field(min = 1)]
    pub record_version: Option<i64>,
    /// What the changed fields held before, as a merge patch that brings it back.
    #[field(personal)]
    pub former: Option<Json>,
    /// What was wrong: a list of [`RowFault`]s.
    pub faults: Option<Json>,
}

impl ImportRow {
    /// What was wrong with the row.
    #[must_use]
    pub fn row_faults(&self) -> Vec<RowFault> {
        let faults = self.faults.clone().unwrap_or_default();
        serde_json::from_value(faults).unwrap_or_default()
    }

    pub(super) fn former_values(&self) -> Option<&Map<String, Json>> {
        self.former.as_ref().and_then(Json::as_object)
    }
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Picklist)]
pub enum RowOutcome {
    /// It became a new record.
    Created,
    /// It changed a record.
    Updated,
    /// Its record was as it should be.
    Unchanged,
    /// It was left out as a duplicate.
    Skipped,
    /// It was refused.
    Failed,
    /// What it did was not taken back by a revert.
    Kept,
}

/// When something became of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum ImportPhase {
    /// While the file was read.
    #[default]
    Run,
    /// While the import was reverted.
    Revert,
}

/// One reason why a row, or one of its cells, was refused. It never repeats a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RowFault {
    /// The column; `None` where the row as a whole is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// The field, if one is concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// A stable code, such as `invalid_email`.
    pub code: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// The column, or the field where no column is at fault, and what is wrong.
impl std::fmt::Display for RowFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(place) = self.column.as_ref().or(self.field.as_ref()) {
            write!(f, "{place}: ")?;
        }
        write!(f, "{} ({})", self.message, self.code)
    }
}

//! The records of exports: who took which data out, how much of it and when (C-004, R-097).
//!
//! Data that left the engine cannot be called back, so what left is known: an [`ExportJob`] is
//! written before the first record is read, and completed when the export ends, whichever way.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};

use crate::Id;
use crate::engine::{Records, UnitOfWork, Write, WriteRule, in_work};
use crate::error::{Error, Result, RuleViolation};
use crate::record::Record;
use crate::schema::{Entity, Picklist};

/// One export: what was asked for, and what came of it. Who asked is told by the record's
/// `created`.
///
/// ```
/// use crm_core::exports::{ExportFormat, ExportJob, ExportStatus};
///
/// let job = ExportJob::new("contact", ExportFormat::Csv);
/// assert_eq!(job.status, ExportStatus::Pending);
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "export_job", table = "export_jobs")]
pub struct ExportJob {
    /// The object whose records are exported; `tenant` for everything that the tenant has.
    #[field(required, max_len = 100, indexed)]
    pub object: String,
    /// In which form.
    #[field(required)]
    pub format: ExportFormat,
    /// Which records, as the JSON form of a [`Find`](crate::query::Find). It may name persons.
    #[field(personal, default = json!({}))]
    pub query: Json,
    /// The names of the columns, in their order.
    #[field(default = json!([]))]
    pub columns: Json,
    /// Whether values about persons are among the columns.
    pub has_personal: bool,
    /// How the file is called.
    #[field(max_len = 255)]
    pub file_name: Option<String>,
    /// Where it stands.
    #[field(read_only, indexed)]
    pub status: ExportStatus,
    /// How many records were written.
    #[field(read_only, min = 0)]
    pub rows: i64,
    /// The stable code of the error that ended it.
    #[field(read_only, max_len = 100)]
    pub error_code: Option<String>,
    /// When it began.
    #[field(read_only)]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[field(read_only)]
    pub completed_at: Option<DateTime<Utc>>,
}

/// In which form records are exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum ExportFormat {
    /// Comma-separated values (RFC 4180).
    #[default]
    Csv,
    /// A workbook of Excel (Office Open XML).
    Xlsx,
    /// One JSON object a line.
    JsonLines,
    /// A whole tenant, as JSON lines with a manifest.
    Tenant,
}

/// Where an export stands (R-097).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum ExportStatus {
    /// It has not begun.
    #[default]
    Pending,
    /// It goes on; or the program that ran it was ended.
    Processing,
    /// All records were written.
    Completed,
    /// It ended with an error.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// How an export ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportOutcome<'a> {
    /// All records were written.
    Completed,
    /// It was cancelled.
    Cancelled,
    /// It ended with an error of this stable code.
    Failed(&'a str),
}

impl Records<'_, ExportJob> {
    /// Writes that an export begins.
    ///
    /// # Errors
    /// [`Error::Validation`].
    pub async fn begin(&mut self, job: ExportJob) -> Result<Arc<Record<ExportJob>>> {
        in_work!(self.workspace, |work| {
            let started = ExportJob {
                status: ExportStatus::Processing,
                started_at: Some(work.now()),
                ..job.clone()
            };
            work.create(started).await
        })
    }

    /// Writes how an export ended and how many records were written.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Rule`] `export_ended` if it had ended before.
    pub async fn finish(
        &mut self,
        id: Id<ExportJob>,
        outcome: ExportOutcome<'_>,
        rows: u64,
    ) -> Result<Arc<Record<ExportJob>>> {
        in_work!(self.workspace, |work| {
            let job = work.get(id).await?;
            if job.completed_at.is_some() {
                return Err(Error::from(ended()));
            }
            let now = work.now();
            let finish = |job: &mut ExportJob| {
                job.rows = i64::try_from(rows).unwrap_or(i64::MAX);
                job.completed_at = Some(now);
                (job.status, job.error_code) = match outcome {
                    ExportOutcome::Completed => (ExportStatus::Completed, None),
                    ExportOutcome::Cancelled => (ExportStatus::Cancelled, None),
                    ExportOutcome::Failed(code) => (ExportStatus::Failed, Some(code.to_owned())),
                };
            };
            work.rely_on(&*job);
            work.update(id, &finish).await
        })
    }
}

fn ended() -> RuleViolation {
    RuleViolation::new(
        "export_ended",
        "R-097",
        "the export has ended; begin another one",
    )
}

/// R-097: once an export has begun, what was asked for stays as it is.
#[derive(Debug)]
pub(crate) struct ExportRules;

#[async_trait]
impl WriteRule for ExportRules {
    fn object(&self) -> &'static str {
        "export_job"
    }

    async fn before_write(&self, _work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let (Some(before), Some(after)) = (write.before::<ExportJob>(), write.after::<ExportJob>())
        else {
            return Ok(());
        };
        let asked = |job: &ExportJob| ExportJob {
            status: ExportStatus::Pending,
            rows: 0,
            error_code: None,
            started_at: None,
            completed_at: None,
            ..job.clone()
        };
        if before.status != ExportStatus::Pending && asked(before) != asked(after) {
            return Err(RuleViolation::new(
                "export_begun",
                "R-097",
                "what an export takes out cannot be changed after it has begun",
            )
            .into());
        }
        Ok(())
    }
}

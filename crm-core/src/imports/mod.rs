//! Imports of files: jobs, what became of each row, saved mappings (C-004).
//!
//! The records here are what an import leaves behind; reading files, mapping columns and running a
//! job is the work of the crate `crm-exchange`. A batch of rows is one commit that writes the
//! records, the outcome of each row and how far the job is ([`UnitOfWork::settle_import_batch`]), so
//! that a job that was killed goes on exactly where it stopped.
//!
//! [`UnitOfWork::settle_import_batch`]: crate::UnitOfWork::settle_import_batch

mod job;
mod revert;
mod row;
mod service;

use async_trait::async_trait;
use serde_json::Value as Json;

use crate::engine::{UnitOfWork, Write, WriteRule};
use crate::error::{Result, RuleViolation, codes};
use crate::schema::{Entity, Lifecycle, ObjectScope};

pub use job::{
    DuplicateHandling, ImportCounts, ImportFormat, ImportJob, ImportLease, ImportMode, ImportStatus,
};
pub use revert::Reverted;
pub use row::{ImportPhase, ImportRow, RowFault, RowOutcome};
pub use service::{ImportBatch, RowResult};

/// A mapping of columns that is kept, so that the next file of the same form finds it.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "import_mapping",
    table = "import_mappings",
    unique(object, name; ignore_case, live),
    index(object, headers)
)]
pub struct ImportMapping {
    /// The object whose records the files hold.
    #[field(required, max_len = 100)]
    pub object: String,
    /// Name; unique for the object.
    #[field(required, max_len = 255, searchable)]
    pub name: String,
    /// The fingerprint of the file's headers, by which files of the same form are known.
    #[field(max_len = 64)]
    pub headers: Option<String>,
    /// The mapping, as `crm-exchange` writes it.
    #[field(required)]
    pub mapping: Json,
}

/// What holds for jobs, whoever writes them.
#[derive(Debug)]
pub(crate) struct ImportJobRules;

#[async_trait]
impl WriteRule for ImportJobRules {
    fn object(&self) -> &'static str {
        "import_job"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<ImportJob>() else {
            return Ok(());
        };
        let object = after.object.clone();
        match write.before::<ImportJob>() {
            // What was begun is finished as it was planned: else rows would be doubled or lost.
            Some(before)
                if before.status != ImportStatus::Pending && !before.same_plan(&after.data) =>
            {
                Err(RuleViolation::new(
                    "import_started",
                    "C-004",
                    "the job has begun; start another one with the other plan",
                )
                .into())
            }
            Some(before) if before.object == object => Ok(()),
            _ => {
                let known = work.registry().await?.object(&object);
                let writable = known.is_some_and(|object| {
                    object.lifecycle() == Lifecycle::Full && object.scope() == ObjectScope::Tenant
                });
                if !writable {
                    write.faults().add(
                        "object",
                        codes::NOT_AN_OPTION,
                        "must be an object whose records users write",
                    );
                }
                Ok(())
            }
        }
    }
}

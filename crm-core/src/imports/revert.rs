//! Taking an import back.

use uuid::Uuid;

use super::service::number;
use super::{ImportJob, ImportPhase, ImportRow, ImportStatus, RowFault, RowOutcome};
use crate::engine::{Progress, Records, UnitOfWork, Workspace};
use crate::error::{Error, Faults, Result, RuleViolation};
use crate::query::{Find, WhereExt};
use crate::record::Actor;
use crate::schema::{Access, ObjectRef, Row};
use crate::{Id, Record};

/// How many rows are reverted in one commit.
const BATCH: usize = 100;

/// What a revert did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reverted {
    /// How many records were deleted.
    pub deleted: u64,
    /// How many got their former values back.
    pub restored: u64,
    /// How many were left as they are, since they were changed after the import or cannot be
    /// deleted: [`ImportRow`]s of the phase [`ImportPhase::Revert`] tell which and why.
    pub kept: u64,
    /// Whether the revert was stopped before its end; call it again to go on.
    pub stopped: bool,
}

impl Records<'_, ImportJob> {
    /// Takes an import back: deletes what it created and brings back the former values of what it
    /// changed, except where a record was changed since. It goes back from the row that was done last, in
    /// commits of some rows each; after a crash or a stop it is called again and goes on.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, imports::ImportJob};
    /// # async fn example(session: &Session, job: Id<ImportJob>) -> Result<()> {
    /// let reverted = session.records::<ImportJob>().revert(job, &()).await?;
    /// println!("{} deleted, {} left as they are", reverted.deleted, reverted.kept);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Rule`] `import_running` while the job is in work (cancel it first);
    /// [`Error::Forbidden`] inside a unit of work, since a revert makes commits of its own.
    pub async fn revert(
        &mut self,
        job: Id<ImportJob>,
        progress: &dyn Progress,
    ) -> Result<Reverted> {
        let Workspace::Session(session) = &self.workspace else {
            return Err(Error::Forbidden {
                reason: "a revert makes commits of its own".into(),
            });
        };
        let mut done = Reverted::default();
        let mut reverted = 0_u64;
        let mut size = BATCH;
        loop {
            let mut work = session.begin();
            let known = work.get(job).await?;
            match known.status {
                ImportStatus::Reverted => return Ok(done),
                ImportStatus::Processing => return Err(running()),
                _ => {}
            }
            let before = known
                .revert_before
                .unwrap_or_else(|| known.counts.processed_rows.saturating_add(1));
            let rows = rows_before(session, job, before, size).await?;
            let batch = work.revert_rows(&known, &rows).await?;
            match work.commit().await {
                Ok(_) => size = BATCH,
                Err(Error::Conflict { .. }) => continue,
                Err(error) if error.is_retryable() || matches!(error, Error::Storage(_)) => {
                    return Err(error);
                }
                // One of them cannot be taken back: find it.
                Err(_) if size > 1 => {
                    size = 1;
                    continue;
                }
                Err(error) => {
                    let mut work = session.begin();
                    let known = work.get(job).await?;
                    work.keep_rows(&known, &rows, &error).await?;
                    work.commit().await?;
                    done.kept += rows.len() as u64;
                    continue;
                }
            }
            done.deleted += batch.deleted;
            done.restored += batch.restored;
            done.kept += batch.kept;
            reverted += rows.len() as u64;
            if !rows.is_empty() && progress.report(reverted, None).is_break() {
                done.stopped = true;
                return Ok(done);
            }
        }
    }
}

fn running() -> Error {
    RuleViolation::new(
        "import_running",
        "C-004",
        "the job is in work; cancel it before it is reverted",
    )
    .into()
}

type Entry = std::sync::Arc<Record<ImportRow>>;

/// The last rows that were done before one, whole rows only.
async fn rows_before(
    session: &crate::Session,
    job: Id<ImportJob>,
    before: i64,
    limit: usize,
) -> Result<Vec<Entry>> {
    let wrote = ImportRow::OUTCOME.one_of([RowOutcome::Created, RowOutcome::Updated]);
    let of_job = ImportRow::JOB_ID
        .eq(job)
        .and(ImportRow::PHASE.eq(ImportPhase::Run));
    let find = Find::from(of_job.clone().and(wrote.clone()))
        .filter(ImportRow::SEQUENCE.lt(before))
        .sort(ImportRow::SEQUENCE.desc())
        .limit(limit);
    let mut rows = session.records::<ImportRow>().find(find).await?.items;
    // The rest of the first row's entries.
    if let Some(first) = rows.last().map(|row| row.sequence) {
        let find = Find::from(of_job.and(wrote)).filter(ImportRow::SEQUENCE.eq(first));
        let rest = session.records::<ImportRow>().find(find).await?.items;
        rows.retain(|row| row.sequence != first);
        rows.extend(rest);
    }
    // The row's own record first: it refers to those that were made for it.
    rows.sort_by_key(|row| (std::cmp::Reverse(row.sequence), row.place));
    Ok(rows)
}

impl UnitOfWork {
    async fn revert_rows(
        &mut self,
        job: &std::sync::Arc<Record<ImportJob>>,
        rows: &[Entry],
    ) -> Result<Reverted> {
        let mut done = Reverted::default();
        for entry in rows {
            let mark = self.mark();
            let result = self.revert_row(job, entry).await;
            let result = self.settle(mark, result);
            match result {
                Ok(RowOutcome::Created) => done.deleted += 1,
                Ok(_) => done.restored += 1,
                Err(error @ Error::Storage(_)) => return Err(error),
                Err(error) => {
                    self.append_entry(kept(job.id, entry, &error))?;
                    done.kept += 1;
                }
            }
        }
        self.advance_revert(job, rows).await?;
        Ok(done)
    }

    async fn keep_rows(
        &mut self,
        job: &std::sync::Arc<Record<ImportJob>>,
        rows: &[Entry],
        error: &Error,
    ) -> Result<()> {
        for entry in rows {
            self.append_entry(kept(job.id, entry, error))?;
        }
        self.advance_revert(job, rows).await
    }

    async fn advance_revert(
        &mut self,
        job: &std::sync::Arc<Record<ImportJob>>,
        rows: &[Entry],
    ) -> Result<()> {
        let now = self.now();
        let next = rows.last().map(|row| row.sequence);
        self.update(job.id, &|job: &mut ImportJob| match next {
            Some(row) => job.revert_before = Some(row),
            None => {
                job.status = ImportStatus::Reverted;
                job.revert_before = Some(number(0));
                job.completed_at = Some(now);
            }
        })
        .await?;
        Ok(())
    }

    /// Takes back what one row did; gives what that was.
    async fn revert_row(
        &mut self,
        job: &Record<ImportJob>,
        entry: &ImportRow,
    ) -> Result<RowOutcome> {
        let name = entry.object.as_deref().unwrap_or(&job.object);
        let object = self.session().describe(name).await?;
        let id = entry.record_id.unwrap_or_default();
        let row = match self.row(&object, id).await? {
            Some(row) if !row.is_deleted() => row,
            _ => return Err(changed_since()),
        };
        self.ensure_unchanged(job.id.uuid(), entry, &row)?;
        match entry.former_values() {
            None => {
                self.delete(&object, id).await?;
                Ok(RowOutcome::Created)
            }
            Some(former) => {
                let (values, faults) = object.overlay(row.values(), former, Access::Engine);
                faults.into_result()?;
                let after = row
                    .with_values(self.next_meta(&row), values)
                    .map_err(|faults| faulty(faults, &object, id))?;
                self.stage(Some(row), after, Faults::default()).await?;
                Ok(RowOutcome::Updated)
            }
        }
    }

    /// A record counts as unchanged if the import itself was the last to write it.
    fn ensure_unchanged(&self, job: Uuid, entry: &ImportRow, row: &Row) -> Result<()> {
        let by_import = row.meta().updated.by == Actor::Import(job);
        // Changed in this very unit of work, by the reverting of another row.
        let staged = self.place(row.object(), row.id());
        let version = staged.and_then(|change| Some(change.before()?.version()));
        let version = version.unwrap_or_else(|| row.version());
        if by_import || entry.record_version == Some(version) {
            Ok(())
        } else {
            Err(changed_since())
        }
    }
}

fn faulty(faults: Faults, object: &ObjectRef, id: Uuid) -> Error {
    match faults.into_result() {
        Err(error) => error.into(),
        Ok(()) => Error::NotFound {
            object: object.name().to_owned(),
            id,
        },
    }
}

fn changed_since() -> Error {
    RuleViolation::new(
        "changed_since",
        "C-004",
        "the record was changed or deleted after the import",
    )
    .into()
}

fn kept(job: Id<ImportJob>, entry: &ImportRow, error: &Error) -> ImportRow {
    let fault = RowFault {
        column: None,
        field: None,
        code: error.code().to_owned(),
        message: error.to_string(),
    };
    let mut kept = ImportRow::new(job, entry.row_number, entry.sequence, RowOutcome::Kept);
    kept.phase = ImportPhase::Revert;
    kept.place = entry.place;
    kept.object.clone_from(&entry.object);
    kept.record_id = entry.record_id;
    kept.faults = serde_json::to_value([fault]).ok();
    kept
}

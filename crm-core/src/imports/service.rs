//! Claiming and cancelling jobs, and the commit that settles a batch of rows.

use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::{ImportJob, ImportLease, ImportPhase, ImportRow, ImportStatus, RowFault, RowOutcome};
use crate::Id;
use crate::engine::{Records, UnitOfWork, in_work};
use crate::error::{Result, RuleViolation};
use crate::record::Record;
use crate::schema::{Access, AnyRecord, FieldType, Row};

/// For how long a worker keeps a job after its last batch.
const LEASE: TimeDelta = TimeDelta::seconds(60);

/// What became of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowResult {
    /// The row's number in the file.
    pub number: u64,
    /// What became of it.
    pub outcome: RowOutcome,
    /// The record that it wrote or doubles.
    pub record: Option<Uuid>,
    /// What was wrong.
    pub faults: Vec<RowFault>,
    /// The objects and ids of records that were made so that the row can refer to them.
    pub related: Vec<(String, Uuid)>,
}

/// What became of the rows of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportBatch {
    /// Its rows.
    pub rows: Vec<RowResult>,
    /// How many rows the file has, if the batch found that out.
    pub total: Option<u64>,
    /// How the job ends with this batch, if it does.
    pub ends: Option<ImportStatus>,
    /// Why it failed, if it does: a stable code.
    pub failure: Option<String>,
}

impl Records<'_, ImportJob> {
    /// Claims a job for a worker, who then runs it. What a worker writes after another one has
    /// claimed the job is refused, so no row is ever done twice.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) `import_running` while another worker holds it,
    /// `import_ended` after it is complete or reverted; [`Error::NotFound`](crate::Error::NotFound).
    pub async fn claim(
        &mut self,
        job: Id<ImportJob>,
        lease: ImportLease,
    ) -> Result<Arc<Record<ImportJob>>> {
        in_work!(self.workspace, |work| {
            let known = work.get(job).await?;
            let now = work.now();
            let held = known.status == ImportStatus::Processing
                && known.worker.is_some_and(|worker| worker != lease.worker)
                && known.leased_until.is_some_and(|until| until > now);
            if held && !lease.take_over {
                return Err(RuleViolation::new(
                    "import_running",
                    "C-004",
                    "another worker runs the job; wait until its lease is over, or take it over",
                )
                .into());
            }
            let ended = matches!(
                known.status,
                ImportStatus::Completed | ImportStatus::Reverted
            );
            if ended || known.revert_before.is_some() {
                return Err(ended_job());
            }
            work.update(job, &|job: &mut ImportJob| {
                job.status = ImportStatus::Processing;
                job.worker = Some(lease.worker);
                job.leased_until = Some(now + LEASE);
                job.started_at = job.started_at.or(Some(now));
                job.completed_at = None;
                job.failure = None;
            })
            .await
        })
    }

    /// Stops a job: its worker stops after the batch that it is at. What was done stays, and the job
    /// can be resumed.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) `import_ended` if there is nothing left to stop;
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn cancel(&mut self, job: Id<ImportJob>) -> Result<Arc<Record<ImportJob>>> {
        in_work!(self.workspace, |work| {
            let known = work.get(job).await?;
            if matches!(
                known.status,
                ImportStatus::Completed | ImportStatus::Reverted
            ) {
                return Err(ended_job());
            }
            let now = work.now();
            work.update(job, &|job: &mut ImportJob| {
                job.status = ImportStatus::Cancelled;
                job.completed_at = Some(now);
                job.worker = None;
                job.leased_until = None;
            })
            .await
        })
    }
}

fn ended_job() -> crate::Error {
    RuleViolation::new(
        "import_ended",
        "C-004",
        "the job is complete or reverted; start another one",
    )
    .into()
}

impl UnitOfWork {
    /// Writes down what became of a batch of rows, next to the records that the rows wrote in this
    /// unit of work: the outcome of each row, the job's counts and how far it is.
    ///
    /// `job` is the job as the worker knows it: if anybody changed it since, such as by cancelling
    /// it, the commit is a conflict and nothing of the batch is written.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) `import_running` unless the job is in work.
    pub async fn settle_import_batch(
        &mut self,
        job: &Arc<Record<ImportJob>>,
        batch: ImportBatch,
    ) -> Result<Arc<Record<ImportJob>>> {
        if job.status != ImportStatus::Processing {
            return Err(
                RuleViolation::new("import_running", "C-004", "claim the job before").into(),
            );
        }
        let now = self.now();
        let ImportBatch {
            rows,
            total,
            ends,
            failure,
        } = batch;
        let mut data = job.data.clone();
        data.leased_until = Some(now + LEASE);
        data.counts.total_rows = total.map(number).or(data.counts.total_rows);
        for result in rows {
            data.counts.add(result.outcome);
            let entries = self.row_entries(job.id, data.counts.processed_rows, result);
            for entry in entries {
                self.append_entry(entry)?;
            }
        }
        if let Some(status) = ends {
            data.status = status;
            data.failure = failure;
            data.completed_at = Some(now);
            data.worker = None;
            data.leased_until = None;
        }
        let before: Row = job.clone();
        let meta = self.next_meta(&before);
        self.write(Access::Engine, Some(before), meta, data).await
    }

    /// The entries of a row: none where nothing became of it.
    fn row_entries(&self, job: Id<ImportJob>, sequence: i64, result: RowResult) -> Vec<ImportRow> {
        let RowResult {
            number: row_number,
            outcome,
            record,
            faults,
            related,
        } = result;
        let row_number = number(row_number);
        let mut entries = Vec::new();
        if outcome != RowOutcome::Unchanged {
            let staged = record.and_then(|id| self.staged_last(id));
            let mut entry = ImportRow::new(job, row_number, sequence, outcome);
            entry.record_id = record;
            if matches!(outcome, RowOutcome::Created | RowOutcome::Updated) {
                entry.record_version = staged.and_then(|change| Some(change.after()?.version()));
                entry.former = staged.and_then(|change| {
                    let former = former_values(&**change.before()?, &**change.after()?);
                    Some(Json::Object(former))
                });
            }
            if !faults.is_empty() {
                entry.faults = serde_json::to_value(&faults).ok();
            }
            entries.push(entry);
        }
        for (place, (object, id)) in (1..).zip(related) {
            let mut entry = ImportRow::new(job, row_number, sequence, RowOutcome::Created);
            entry.phase = ImportPhase::Run;
            entry.place = place;
            entry.object = Some(object);
            entry.record_id = Some(id);
            entry.record_version = Some(1);
            entries.push(entry);
        }
        entries
    }
}

pub(super) fn number(row: u64) -> i64 {
    i64::try_from(row).unwrap_or(i64::MAX)
}

/// The merge patch that turns `after` back into `before`: the former values of the fields that
/// differ, documents member by member.
pub(super) fn former_values(before: &dyn AnyRecord, after: &dyn AnyRecord) -> Map<String, Json> {
    let mut former = Map::new();
    let differing = after.differing(before);
    for index in differing.iter() {
        let Some(field) = before.object().fields().get(index) else {
            continue;
        };
        let (was, is) = (before.value(index).to_json(), after.value(index).to_json());
        let value = match (was, is) {
            (Json::Object(was), Json::Object(is)) if field.field_type == FieldType::Json => {
                Json::Object(former_members(&was, &is))
            }
            (was, _) => was,
        };
        former.insert(field.name.to_string(), value);
    }
    former
}

fn former_members(was: &Map<String, Json>, is: &Map<String, Json>) -> Map<String, Json> {
    let mut former = Map::new();
    for (name, value) in was {
        match (is.get(name), value) {
            (Some(other), value) if other == value => {}
            (Some(Json::Object(other)), Json::Object(value)) => {
                former.insert(name.clone(), Json::Object(former_members(value, other)));
            }
            _ => {
                former.insert(name.clone(), value.clone());
            }
        }
    }
    for name in is.keys().filter(|name| !was.contains_key(*name)) {
        former.insert(name.clone(), Json::Null);
    }
    former
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn documents() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(json!(true)),
            "[a-c]{0,2}".prop_map(|text| json!(text)),
            (0..3_i64).prop_map(|number| json!(number)),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|members| Json::Object(members.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn former_members_bring_a_document_back(was in documents(), is in documents()) {
            if let (Json::Object(was), Json::Object(is)) = (was, is) {
                let mut document = Json::Object(is.clone());
                json_patch::merge(&mut document, &Json::Object(former_members(&was, &is)));
                prop_assert_eq!(document, Json::Object(was));
            }
        }
    }
}

//! One batch of rows: what each row does is decided, staged, and written in one commit with the
//! rows' outcomes and how far the job is; or, in a dry run, validated and dropped.

use std::collections::HashMap;
use std::sync::Arc;

use crm_core::duplicates::{DuplicateFound, DuplicateMode, PendingRecords};
use crm_core::error::{Error, FieldError, Result, codes};
use crm_core::imports::{
    DuplicateHandling, ImportBatch, ImportJob, ImportMode, RowFault, RowOutcome, RowResult,
};
use crm_core::query::FieldAt;
use crm_core::schema::{Row, Value};
use crm_core::storage::unique_value;
use crm_core::{Record, Session, UnitOfWork};
use uuid::Uuid;

use super::candidate::{Candidate, key_values, result_of, row_fault};
use super::lookup::Lookups;
use super::plan::{ParsedRow, Plan, fault_of};
use super::seen::{Before, Seen, fingerprint, unique_values};

/// The name under which the keys of rows are remembered.
pub(super) const MATCH: &str = "match";

/// What the rows of one import have in common while they run.
pub(crate) struct Run<'a> {
    pub(crate) session: Session,
    pub(crate) plan: &'a Plan,
    pub(crate) lookups: Lookups,
    pub(crate) seen: Seen,
    /// None in a dry run.
    pub(crate) job: Option<Arc<Record<ImportJob>>>,
    /// What the rows of a dry run are compared with by the tenant's duplicate rules: those that would
    /// have landed. Of a run that writes, only those of the batch at hand are not stored.
    pub(crate) pending: Option<PendingRecords>,
}

/// A batch on its way.
struct Staging {
    work: UnitOfWork,
    /// The stored records that have what rows want in unique keys.
    stored: HashMap<u128, Uuid>,
    /// What its rows did.
    delta: Seen,
    pending: PendingRecords,
}

/// What became of an attempt at some rows.
pub(crate) enum Attempt {
    /// They landed, each in its way.
    Done(Vec<RowResult>),
    /// Somebody else wrote at the same time.
    Conflict,
    /// One of them cannot be written, which only the commit found out.
    Refused(Error),
}

impl Run<'_> {
    /// Tries some rows in one commit. `refused` says why a single row cannot be written, once that
    /// is known: then only its outcome is.
    pub(crate) async fn attempt(
        &mut self,
        rows: &[ParsedRow],
        refused: Option<&Error>,
    ) -> Result<Attempt> {
        let mut staging = Staging {
            work: self.session.begin(),
            stored: HashMap::new(),
            delta: Seen::default(),
            pending: match self.pending.take() {
                Some(pending) => pending,
                None => self.session.duplicates().pending().await?,
            },
        };
        let mark = staging.pending.mark();
        let results = match refused {
            Some(error) => {
                self.note_keys(rows).await?;
                rows.iter().map(|row| self.refusal(row, error)).collect()
            }
            None => self.stage_all(&mut staging, rows).await?,
        };
        let Staging {
            work,
            delta,
            mut pending,
            ..
        } = staging;
        let Some(job) = &self.job else {
            return match work.prepare().await {
                Ok(_) => {
                    if self.keeps_duplicates() {
                        pending.roll_back(mark);
                    }
                    self.pending = Some(pending);
                    self.seen.absorb(delta);
                    Ok(Attempt::Done(results))
                }
                Err(error) => {
                    pending.roll_back(mark);
                    self.pending = Some(pending);
                    refusal_of(error)
                }
            };
        };
        let batch = ImportBatch {
            rows: results.clone(),
            ..ImportBatch::default()
        };
        let mut work = work;
        let job = work.settle_import_batch(job, batch).await?;
        match work.commit().await {
            Ok(_) => {
                self.job = Some(job);
                self.seen.absorb(delta);
                Ok(Attempt::Done(results))
            }
            Err(Error::Conflict { .. }) => {
                self.lookups.forget();
                Ok(Attempt::Conflict)
            }
            Err(error) => refusal_of(error),
        }
    }

    /// Stages every row that can land.
    async fn stage_all(
        &mut self,
        staging: &mut Staging,
        rows: &[ParsedRow],
    ) -> Result<Vec<RowResult>> {
        self.look_up(rows).await?;
        let mut candidates: Vec<_> = rows.iter().map(Candidate::new).collect();
        for candidate in &mut candidates {
            // Names that only earlier rows of the batch explain come later.
            self.resolve(candidate, &Seen::default(), true);
        }
        self.find_matches(&mut candidates).await?;
        staging.stored = self.find_taken(&candidates).await?;
        if staging.pending.has_rules(self.plan.object.name()) {
            let drafts = candidates.iter();
            let drafts = drafts.filter(|candidate| candidate.faults.is_empty());
            let drafts = drafts.map(|candidate| candidate.draft(self.plan));
            staging
                .pending
                .look_up(&drafts.collect::<Vec<Row>>())
                .await?;
        }
        let mut results = Vec::with_capacity(rows.len());
        for candidate in candidates {
            results.push(self.land(staging, candidate).await?);
        }
        if self.job.is_none() {
            // What is stored of them is not what the rows are compared with.
            let superseded: Vec<Uuid> = staging.pending.superseded().collect();
            staging.work.accept_duplicates(superseded);
        }
        Ok(results)
    }

    fn refusal(&self, row: &ParsedRow, error: &Error) -> RowResult {
        let faults = self.faults_of(error);
        let is_double = matches!(error, Error::Duplicate { .. } | Error::DuplicateFound(_));
        let other = match error {
            Error::DuplicateFound(found) if found.object == self.plan.object.name() => {
                found.matches.first().map(|found| found.record.id)
            }
            _ => None,
        };
        result_of(row, self.outcome(is_double), other, faults)
    }

    const fn keeps_duplicates(&self) -> bool {
        matches!(self.plan.duplicates, DuplicateHandling::Keep)
    }

    const fn outcome(&self, is_double: bool) -> RowOutcome {
        if is_double && matches!(self.plan.duplicates, DuplicateHandling::Skip) {
            RowOutcome::Skipped
        } else {
            RowOutcome::Failed
        }
    }

    /// Decides what a row does, and stages it.
    async fn land(&self, staging: &mut Staging, mut candidate: Candidate<'_>) -> Result<RowResult> {
        self.resolve(&mut candidate, &staging.delta, false);
        self.check_keys(&mut candidate, &staging.stored, &mut staging.delta);
        if !candidate.faults.is_empty() {
            let faults = std::mem::take(&mut candidate.faults);
            return Ok(result_of(candidate.row, RowOutcome::Failed, None, faults));
        }
        if let Some((record, fault)) = candidate.double.take() {
            return Ok(result_of(
                candidate.row,
                self.outcome(true),
                record,
                vec![fault],
            ));
        }
        let savepoint = staging.work.savepoint();
        let mark = staging.pending.mark();
        match self.stage(staging, &mut candidate).await {
            Ok(mut result) => {
                staging.work.release(savepoint);
                for key in &candidate.taken {
                    staging.delta.take(*key, candidate.row.number);
                }
                for key in &candidate.freed {
                    staging.delta.free(*key);
                }
                if result.outcome == RowOutcome::Unchanged {
                    result.record = None;
                }
                Ok(result)
            }
            Err(error @ (Error::Storage(_) | Error::Query(_))) => Err(error),
            Err(error) => {
                staging.work.roll_back(savepoint);
                staging.pending.roll_back(mark);
                Ok(self.refusal(candidate.row, &error))
            }
        }
    }

    /// The keys of a row against those of earlier rows and of stored records.
    fn check_keys(
        &self,
        candidate: &mut Candidate<'_>,
        stored: &HashMap<u128, Uuid>,
        delta: &mut Seen,
    ) {
        let plan = self.plan;
        if plan.mode != ImportMode::Create {
            match key_values(&plan.keys, &candidate.values) {
                Some(values) => {
                    let key = fingerprint(MATCH, &values);
                    if let Some(row) = Before(&self.seen, delta).taken(key) {
                        candidate.doubles_row(row);
                    }
                    // Whatever becomes of the row: the first one of a key counts, so that the file
                    // means the same each time it is imported.
                    delta.take(key, candidate.row.number);
                    if candidate.before.is_none() && plan.mode == ImportMode::Update {
                        candidate
                            .faults
                            .push(row_fault("not_found", "no record has the keys of the row"));
                    }
                }
                // A key that could not be read has its own fault.
                None if candidate.faults.is_empty() => {
                    let names: Vec<&str> = plan.keys.iter().map(|key| key.path.as_str()).collect();
                    let message = format!("a value is required in each key: {}", names.join(", "));
                    candidate.faults.push(row_fault("required", message));
                }
                None => {}
            }
        }
        let seen = Before(&self.seen, delta);
        let before = candidate.before.clone();
        let given = candidate.given(before.is_none());
        let keys = plan.object.unique_keys().iter();
        let keys = keys.map(|key| {
            (
                key,
                unique_values(&plan.object, key, before.as_ref(), &given),
            )
        });
        let keys: Vec<_> = keys.collect();
        for (key, values) in keys {
            let had = before.as_ref().and_then(|row| unique_value(key, &**row));
            if had == values {
                continue;
            }
            let names = plan.object.names(&key.fields);
            let label = names.join(",");
            candidate
                .freed
                .extend(had.map(|had| fingerprint(&label, &had)));
            let Some(values) = values else { continue };
            let key = fingerprint(&label, &values);
            candidate.taken.push(key);
            if let Some(row) = seen.taken(key) {
                candidate.doubles_row(row);
            } else if let Some(id) = stored.get(&key)
                && before.as_ref().is_none_or(|row| row.id() != *id)
                && !seen.is_freed(key)
                && candidate.double.is_none()
            {
                let fault = RowFault {
                    column: names
                        .first()
                        .and_then(|name| plan.header_of(name))
                        .map(ToOwned::to_owned),
                    field: names.first().cloned(),
                    code: "duplicate".to_owned(),
                    message: format!("another record has the same {}", names.join(" and ")),
                };
                candidate.double = Some((Some(*id), fault));
            }
        }
    }

    async fn stage(
        &self,
        staging: &mut Staging,
        candidate: &mut Candidate<'_>,
    ) -> Result<RowResult> {
        let mut related = Vec::new();
        let mut made = Vec::new();
        for (place, text) in std::mem::take(&mut candidate.missing) {
            let column = self.plan.columns.get(place);
            let Some((column, reference)) = column.and_then(|c| Some((c, c.reference()?))) else {
                continue;
            };
            let field = reference.object.field_index(&reference.lookup.by);
            let values: Vec<_> = field.zip(reference.coerced(&text)).into_iter().collect();
            let work = &mut staging.work;
            let row = work.create_values(&reference.object, &values).await?;
            self.compare(staging, &row, None, &[DuplicateMode::Strict])
                .await?;
            candidate.set(reference, Value::Uuid(row.id()), column.is_constant());
            related.push((reference.object.name().to_owned(), row.id()));
            made.push((place, reference.folded(&text), row.id()));
        }
        let (row, outcome) = match &candidate.before {
            None => {
                let values = candidate.given(true);
                let work = &mut staging.work;
                let row = work.create_values(&self.plan.object, &values).await?;
                let modes = [DuplicateMode::Strict, DuplicateMode::Warn];
                self.compare(staging, &row, None, &modes).await?;
                (row, RowOutcome::Created)
            }
            Some(before) => {
                let work = &mut staging.work;
                let row = work.change_values(before, &candidate.values).await?;
                let outcome = if row.version() == before.version() {
                    RowOutcome::Unchanged
                } else {
                    self.compare(staging, &row, Some(before), &[DuplicateMode::Strict])
                        .await?;
                    RowOutcome::Updated
                };
                (row, outcome)
            }
        };
        for (place, text, id) in made {
            staging.delta.name(place, text, id);
        }
        if outcome == RowOutcome::Created {
            for (place, column) in self.plan.columns.iter().enumerate() {
                if let Some(reference) = column.reference()
                    && reference.object == self.plan.object
                {
                    let text = reference.text_of(&row);
                    staging.delta.name(place, text, row.id());
                }
            }
        }
        let mut result = result_of(candidate.row, outcome, Some(row.id()), Vec::new());
        result.related = related;
        Ok(result)
    }

    /// Compares a staged record with the stored ones and with those of earlier rows, by the tenant's
    /// duplicate rules of some modes, and refuses it if it is like another one; unless duplicates
    /// are to land. From then on later rows are compared with it.
    async fn compare(
        &self,
        staging: &mut Staging,
        row: &Row,
        before: Option<&Row>,
        modes: &[DuplicateMode],
    ) -> Result<()> {
        let object = row.object().name();
        if !staging.pending.has_rules(object) {
            return Ok(());
        }
        let mut matches = staging.pending.check(row, before).await?.matches;
        if self.keeps_duplicates() {
            let others = matches.iter().map(|found| found.record.id);
            staging.work.accept_duplicates(others);
        } else {
            matches.retain(|found| modes.contains(&found.mode));
            if !matches.is_empty() {
                return Err(Error::DuplicateFound(Box::new(DuplicateFound {
                    object: object.to_owned(),
                    id: row.id(),
                    matches,
                })));
            }
        }
        staging.pending.add(row);
        Ok(())
    }

    /// What an error says about a row, with the columns that are at fault.
    fn faults_of(&self, error: &Error) -> Vec<RowFault> {
        let fields = error.field_errors();
        if !fields.is_empty() {
            // Every reference was looked up before: in a dry run, one to a record that an earlier row
            // would have created is not missing.
            let is_told = |error: &&FieldError| {
                let field = FieldAt::named(&self.plan.object, &error.path);
                let is_reference = field.is_ok_and(|(_, field)| field.reference().is_some());
                self.job.is_some() || error.code != codes::NOT_FOUND || !is_reference
            };
            let fault = |error: &FieldError| fault_of(error, self.plan.header_of(&error.path));
            return fields.iter().filter(is_told).map(fault).collect();
        }
        let message = match error {
            Error::DuplicateFound(found) if found.object == self.plan.object.name() => {
                "is like another record or an earlier row of the file by a duplicate rule"
                    .to_owned()
            }
            Error::DuplicateFound(found) => format!(
                "needs a new {} that is like another one by a strict duplicate rule",
                found.object
            ),
            error => error.to_string(),
        };
        vec![row_fault(error.code(), message)]
    }
}

/// An error that one row may be the reason of, or one of the whole run.
fn refusal_of(error: Error) -> Result<Attempt> {
    match error {
        Error::Storage(_) | Error::Query(_) => Err(error),
        error => Ok(Attempt::Refused(error)),
    }
}

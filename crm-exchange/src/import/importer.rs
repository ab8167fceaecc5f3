//! [`Importer`]: importing files in a session.

use std::io::Write;
use std::sync::Arc;

use crm_core::engine::Progress;
use crm_core::error::Error;
use crm_core::imports::{
    DuplicateHandling, ImportBatch, ImportCounts, ImportJob, ImportLease, ImportMapping,
    ImportMode, ImportPhase, ImportRow, ImportStatus, Reverted, RowOutcome, RowResult,
};
use crm_core::query::{Find, MAX_LIMIT, WhereExt};
use crm_core::{Actor, Id, Record, Session};
use serde::{Deserialize, Serialize};

use super::batch::{Attempt, Run};
use super::error::ImportError;
use super::errors_file::ErrorsFile;
use super::lookup::Lookups;
use super::mapping::{Mapping, headers_fingerprint};
use super::order::{Feed, Order};
use super::plan::{ParsedRow, Plan};
use super::read::{Cell, ReadError, ReadOptions, Table, TableRow};
use super::seen::Seen;
use super::source::Source;
use super::suggest::suggest;

/// How many rows are looked at before the first one is imported.
const SAMPLE: usize = 1_000;
/// How often a batch is tried again after somebody else wrote at the same time.
const RETRIES: u32 = 8;

/// What to import how.
///
/// ```
/// use crm_core::imports::ImportMode;
/// use crm_exchange::import::{Import, Mapping};
///
/// let mapping = Mapping::new("contact").column("E-mail", "email").column("Name", "full_name");
/// let import = Import {
///     mode: ImportMode::Upsert,
///     keys: vec!["email".into()],
///     ..Import::new(mapping)
/// };
/// assert_eq!(import.batch_size, 500);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Import {
    /// Which columns go into which fields.
    pub mapping: Mapping,
    /// How the file is read.
    pub read: ReadOptions,
    /// What is done with the rows.
    pub mode: ImportMode,
    /// The fields by which a row finds its record: names, or members such as
    /// `custom_fields.erp_number`.
    pub keys: Vec<String>,
    /// What is done with a row that doubles a record or an earlier row.
    pub duplicates: DuplicateHandling,
    /// How many rows make one commit, from 1 to 1,000.
    pub batch_size: usize,
}

impl Import {
    /// Each row becomes a new record; rows that double one are skipped.
    #[must_use]
    pub fn new(mapping: Mapping) -> Self {
        Self {
            mapping,
            read: ReadOptions::default(),
            mode: ImportMode::default(),
            keys: Vec::new(),
            duplicates: DuplicateHandling::default(),
            batch_size: 500,
        }
    }

    fn of_job(job: &ImportJob) -> Result<Self, ImportError> {
        let json = |json: &serde_json::Value| serde_json::from_value(json.clone());
        let unreadable = |_| {
            let error = crm_core::error::FieldError::new(
                "mapping",
                crm_core::error::codes::WRONG_TYPE,
                "must be a mapping as the importer writes it",
            );
            ImportError::Crm(crm_core::error::ValidationError::from(error).into())
        };
        let mapping = json(&job.mapping).map_err(unreadable)?;
        let options: Options = serde_json::from_value(job.options.clone()).map_err(unreadable)?;
        Ok(Self {
            mapping,
            read: options.read,
            mode: job.mode,
            keys: job.keys.clone(),
            duplicates: job.duplicates,
            batch_size: options.batch_size,
        })
    }
}

/// What a job keeps of an [`Import`] besides its own fields.
#[derive(Serialize, Deserialize)]
struct Options {
    read: ReadOptions,
    batch_size: usize,
}

/// What a file looks like before it is imported.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// The columns.
    pub headers: Vec<String>,
    /// Some of the first rows.
    pub rows: Vec<TableRow>,
    /// The mapping: a kept one for files of this form, or a suggestion.
    pub mapping: Mapping,
    /// The name of the kept mapping, if it is one.
    pub saved_as: Option<String>,
}

/// What became of an import so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How far it is.
    pub status: ImportStatus,
    /// What became of the rows.
    pub counts: ImportCounts,
}

/// Hears what became of each row, in the order in which they are done.
pub type RowReport<'a> = dyn FnMut(&[Cell], &RowResult) + Send + 'a;

/// Gives sessions their importer.
pub trait ImportExt {
    /// Imports files into the session's tenant.
    fn import(&self) -> Importer<'_>;
}

impl ImportExt for Session {
    fn import(&self) -> Importer<'_> {
        Importer { session: self }
    }
}

/// Imports files into a tenant.
///
/// Rows land in the order of the file, except that one which names a record that a later row makes, as
/// the parent of an account may stand further down, waits for that row. Rows that name each other are
/// refused.
///
/// Files are read while the call runs, on the thread that polls it; run imports on a runtime's
/// blocking-friendly task where that matters.
///
/// ```
/// # use crm_core::{Session, imports::ImportMode};
/// use crm_exchange::import::{Import, ImportExt, Source};
///
/// # async fn example(session: &Session) -> Result<(), crm_exchange::import::ImportError> {
/// let source = Source::file("contacts.csv");
/// let preview = session.import().preview("contact", &source, &Default::default()).await?;
/// let import = Import {
///     mode: ImportMode::Upsert,
///     keys: vec!["email".into()],
///     ..Import::new(preview.mapping)
/// };
/// let trial = session.import().dry_run(&source, &import, &(), &mut |_, _| {}).await?;
/// println!("{} rows would be refused", trial.counts.failed_rows);
/// let job = session.import().start(&source, &import).await?;
/// let done = session.import().run(job.id, &source, &()).await?;
/// println!("{} new, {} changed", done.counts.created_rows, done.counts.updated_rows);
/// session.import().write_errors(job.id, &source, std::fs::File::create("errors.csv")?).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Importer<'a> {
    session: &'a Session,
}

impl Importer<'_> {
    /// Looks at a file: its columns, some rows, and where the columns probably go.
    ///
    /// # Errors
    /// A file that cannot be read; an unknown object.
    pub async fn preview(
        &self,
        object: &str,
        source: &Source,
        read: &ReadOptions,
    ) -> Result<Preview, ImportError> {
        let object = self.session.describe(object).await?;
        let mut table = Table::open(source, read)?;
        let rows = take(&mut table, SAMPLE)?;
        let headers = table.headers().to_vec();
        let filter = ImportMapping::OBJECT
            .eq(object.name())
            .and(ImportMapping::HEADERS.eq(headers_fingerprint(&headers)));
        let saved = self
            .session
            .records::<ImportMapping>()
            .find_one(Find::from(filter).sort(ImportMapping::UPDATED_AT.desc()))
            .await?;
        let known = saved.as_ref().and_then(|saved| {
            let mut mapping: Mapping = serde_json::from_value(saved.mapping.clone()).ok()?;
            mapping.adopt(&headers);
            Some((mapping, saved.name.clone()))
        });
        let (mapping, saved_as) = match known {
            Some((mapping, name)) => (mapping, Some(name)),
            None => {
                let sample: Vec<Vec<Cell>> = rows.iter().map(|row| row.cells.clone()).collect();
                (suggest(&object, &headers, &sample), None)
            }
        };
        Ok(Preview {
            headers,
            rows: rows.into_iter().take(20).collect(),
            mapping,
            saved_as,
        })
    }

    /// Keeps a mapping under a name, in place of the object's mapping of that name; files with these
    /// headers find it again.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn save_mapping(
        &self,
        name: &str,
        mapping: &Mapping,
        headers: &[String],
    ) -> Result<Arc<Record<ImportMapping>>, ImportError> {
        let mut kept = ImportMapping::new(
            mapping.object.clone(),
            name,
            serde_json::to_value(mapping).unwrap_or_default(),
        );
        kept.headers = Some(headers_fingerprint(headers));
        let records = self.session.records::<ImportMapping>();
        let same = ImportMapping::OBJECT
            .eq(mapping.object.as_str())
            .and(ImportMapping::NAME.eq(name));
        let saved = match records.find_one(Find::from(same).with_archived()).await? {
            Some(known) => {
                let mut records = self.session.records::<ImportMapping>();
                records
                    .update(known.id, |known| known.clone_from(&kept))
                    .await?
            }
            None => self.session.records::<ImportMapping>().create(kept).await?,
        };
        Ok(saved)
    }

    /// Says what an import would do, row by row, and writes nothing: the same steps up to the commit.
    ///
    /// Rows are compared with stored records and with the rows before them that would land, by keys and
    /// by the tenant's duplicate rules, as a run compares them. Nothing is kept for it but keys and, if
    /// there are duplicate rules and duplicates do not land, what these look at in each row: some
    /// hundred bytes for each rule. The ids told of records that would be new are not those they get.
    ///
    /// What other rules find out about *other* records of the same object they find in the stored ones
    /// and in those of the same batch, as nothing of earlier batches is stored.
    ///
    /// # Errors
    /// [`ImportError`]; what is wrong with rows is reported for each.
    pub async fn dry_run(
        &self,
        source: &Source,
        import: &Import,
        progress: &dyn Progress,
        report: &mut RowReport<'_>,
    ) -> Result<Outcome, ImportError> {
        let mut import = import.clone();
        let (plan, table, ahead) = self.plan(source, &mut import).await?;
        let order = Order::of(source, &import.read, &plan)?;
        let mut feed = Feed::new(source, &import.read, order, table, ahead);
        let total = feed.total();
        let engine = self.session.engine();
        let id = engine.ids().next(engine.clock().now());
        let mut run = self.begin(&plan, id).await?;
        let mut counts = ImportCounts {
            total_rows: Some(as_number(total)),
            ..ImportCounts::default()
        };
        loop {
            let rows = next_batch(&plan, &mut feed)?;
            if rows.is_empty() {
                break;
            }
            if run.batch(&rows, &mut counts, report).await?.is_some() {
                break;
            }
            let done = u64::try_from(counts.processed_rows).unwrap_or_default();
            if progress.report(done, Some(total)).is_break() {
                let status = ImportStatus::Cancelled;
                return Ok(Outcome { status, counts });
            }
        }
        let status = ImportStatus::Completed;
        Ok(Outcome { status, counts })
    }

    /// Begins a job: checks the mapping against the file and keeps both with every format that was
    /// found, so that the job does the same whenever it is run.
    ///
    /// # Errors
    /// [`ImportError::Mapping`] with every problem; a file that cannot be read.
    pub async fn start(
        &self,
        source: &Source,
        import: &Import,
    ) -> Result<Arc<Record<ImportJob>>, ImportError> {
        let mut import = import.clone();
        let (_, table, _) = self.plan(source, &mut import).await?;
        let inspection = table.inspection().clone();
        let options = Options {
            read: import.read.clone(),
            batch_size: import.batch_size,
        };
        let json = |json: Result<_, serde_json::Error>| json.unwrap_or_default();
        let name: String = source.name().chars().take(255).collect();
        let mut job = ImportJob::new(
            import.mapping.object.clone(),
            name,
            inspection.fingerprint,
            json(serde_json::to_value(&import.mapping)),
        );
        job.file_size = as_number(inspection.size);
        job.format = inspection.format;
        job.options = json(serde_json::to_value(&options));
        job.mode = import.mode;
        job.keys = import.keys;
        job.duplicates = import.duplicates;
        Ok(self.session.records::<ImportJob>().create(job).await?)
    }

    /// Runs a job to its end, or goes on with one that was stopped or whose worker died, with the
    /// same file. A [`Break`](std::ops::ControlFlow::Break) of `progress` cancels it after the batch
    /// that it is at.
    ///
    /// # Errors
    /// [`ImportError::OtherFile`]; [`Error::Rule`] `import_running` while another worker holds the
    /// job; [`Error::Storage`], after which the job can be resumed.
    pub async fn run(
        &self,
        job: Id<ImportJob>,
        source: &Source,
        progress: &dyn Progress,
    ) -> Result<Outcome, ImportError> {
        self.resume(job, source, false, progress, &mut |_, _| {})
            .await
    }

    /// Like [`run`](Self::run), and takes the job over from a worker that may still be alive, if
    /// `take_over` says so: what that one tries to write is refused from then on. `report` hears of
    /// the rows that this call does.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub async fn resume(
        &self,
        job: Id<ImportJob>,
        source: &Source,
        take_over: bool,
        progress: &dyn Progress,
        report: &mut RowReport<'_>,
    ) -> Result<Outcome, ImportError> {
        let known = self.session.records::<ImportJob>().get(job).await?;
        let mut import = Import::of_job(&known)?;
        let (plan, table, ahead) = self.plan(source, &mut import).await?;
        if table.inspection().fingerprint != known.fingerprint {
            return Err(ImportError::OtherFile);
        }
        let order = Order::of(source, &import.read, &plan)?;
        let mut feed = Feed::new(source, &import.read, order, table, ahead);
        let total = feed.total();
        let mut run = self.begin(&plan, job.uuid()).await?;
        let engine = self.session.engine();
        let lease = ImportLease {
            worker: engine.ids().next(engine.clock().now()),
            take_over,
        };
        let known = run.session.records::<ImportJob>().claim(job, lease).await?;
        let mut counts = known.counts;
        run.job = Some(known);
        let outcome = async {
            let mut rows = run.pass(&mut feed, counts.processed_rows).await?;
            loop {
                if rows.is_empty() {
                    rows = next_batch(&plan, &mut feed)?;
                }
                if rows.is_empty() {
                    return Ok(None);
                }
                let batch = std::mem::take(&mut rows);
                if let Some(status) = run.batch(&batch, &mut counts, report).await? {
                    return Ok(Some(status));
                }
                let done = u64::try_from(counts.processed_rows).unwrap_or_default();
                if progress.report(done, Some(total)).is_break() {
                    let end = run.end(ImportStatus::Cancelled, total, None).await?;
                    return Ok(Some(end));
                }
            }
        };
        let status = match outcome.await {
            Ok(Some(status)) => status,
            Ok(None) => run.end(ImportStatus::Completed, total, None).await?,
            Err(error @ ImportError::Read(_)) => {
                run.end(ImportStatus::Failed, total, Some("unreadable_file"))
                    .await?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let job = run.session.records::<ImportJob>().get(job).await?;
        Ok(Outcome {
            status,
            counts: job.counts,
        })
    }

    /// Stops a job; see [`Records::<ImportJob>::cancel`](crm_core::engine::Records::cancel).
    ///
    /// # Errors
    /// [`Error::Rule`] `import_ended`; [`Error::NotFound`].
    pub async fn cancel(&self, job: Id<ImportJob>) -> Result<Arc<Record<ImportJob>>, ImportError> {
        Ok(self.session.records::<ImportJob>().cancel(job).await?)
    }

    /// Takes an import back; see
    /// [`Records::<ImportJob>::revert`](crm_core::engine::Records::revert).
    ///
    /// # Errors
    /// [`Error::Rule`] `import_running`; those of the storage.
    pub async fn revert(
        &self,
        job: Id<ImportJob>,
        progress: &dyn Progress,
    ) -> Result<Reverted, ImportError> {
        Ok(self
            .session
            .records::<ImportJob>()
            .revert(job, progress)
            .await?)
    }

    /// Writes the rows of a job that did not land, with the reasons, as a file to be mended and
    /// imported again ([`ErrorsFile`]), in the order in which they were done. Returns how many there
    /// are.
    ///
    /// # Errors
    /// [`ImportError::OtherFile`]; those of the writer and the storage.
    pub async fn write_errors(
        &self,
        job: Id<ImportJob>,
        source: &Source,
        writer: impl Write + Send,
    ) -> Result<u64, ImportError> {
        let known = self.session.records::<ImportJob>().get(job).await?;
        let import = Import::of_job(&known)?;
        let mut table = Table::open(source, &import.read)?;
        if table.inspection().fingerprint != known.fingerprint {
            return Err(ImportError::OtherFile);
        }
        let mut file = ErrorsFile::new(writer, table.headers())?;
        let failed = ImportRow::JOB_ID
            .eq(job)
            .and(ImportRow::OUTCOME.eq(RowOutcome::Failed))
            .and(ImportRow::PHASE.eq(ImportPhase::Run));
        let find = Find::from(failed)
            .sort(ImportRow::SEQUENCE.asc())
            .limit(MAX_LIMIT);
        let records = self.session.records::<ImportRow>();
        let mut page = records.find(find.clone()).await?;
        let mut count = 0;
        let mut last = 0;
        loop {
            for entry in &page.items {
                if entry.row_number < last {
                    // One of those that were done in another pass over the file.
                    table = Table::open(source, &import.read)?;
                }
                last = entry.row_number;
                while let Some(row) = table.next_row()? {
                    if as_number(row.number) == entry.row_number {
                        file.row(&row.cells, &entry.row_faults())?;
                        count += 1;
                        break;
                    }
                }
            }
            let Some(next) = page.next else { break };
            page = records.find(find.clone().after(next)).await?;
        }
        file.finish()?;
        Ok(count)
    }

    async fn plan(
        &self,
        source: &Source,
        import: &mut Import,
    ) -> Result<(Plan, Table, Vec<TableRow>), ImportError> {
        let mut table = Table::open(source, &import.read)?;
        let ahead = take(&mut table, SAMPLE)?;
        let headers = table.headers().to_vec();
        let plan = Plan::new(self.session, import, &headers, &ahead).await?;
        Ok((plan, table, ahead))
    }

    async fn begin<'p>(&self, plan: &'p Plan, job: uuid::Uuid) -> Result<Run<'p>, ImportError> {
        let engine = self.session.engine();
        // Without a tenant nothing can be written, which the first batch tells.
        let mut session = match self.session.tenant() {
            Some(tenant) => engine.session(tenant, Actor::Import(job)),
            None => self.session.clone(),
        };
        if let Some(context) = self.session.context() {
            session = session.with_context(context.clone());
        }
        Ok(Run {
            session,
            plan,
            lookups: Lookups::default(),
            seen: Seen::default(),
            job: None,
            pending: None,
        })
    }
}

impl Run<'_> {
    /// Does a batch: in one commit, or, where a row makes it fail, in halves until that row is alone.
    /// Gives the job's status if somebody stopped it.
    async fn batch(
        &mut self,
        rows: &[ParsedRow],
        counts: &mut ImportCounts,
        report: &mut RowReport<'_>,
    ) -> Result<Option<ImportStatus>, ImportError> {
        let mut open = vec![rows];
        let mut conflicts = 0;
        while let Some(part) = open.pop() {
            let mut attempt = self.attempt(part, None).await?;
            if let Attempt::Conflict = attempt {
                if let Some(status) = self.stopped().await? {
                    return Ok(Some(status));
                }
                conflicts += 1;
                if conflicts <= RETRIES {
                    open.push(part);
                    continue;
                }
                let object = self.plan.object.name().to_owned();
                let id = self
                    .job
                    .as_ref()
                    .map(|job| job.id.uuid())
                    .unwrap_or_default();
                attempt = Attempt::Refused(Error::Conflict { object, id });
            }
            if let Attempt::Refused(error) = attempt {
                if part.len() > 1 {
                    let (first, second) = part.split_at(part.len() / 2);
                    open.push(second);
                    open.push(first);
                    continue;
                }
                attempt = self.attempt(part, Some(&error)).await?;
                if let Attempt::Conflict = attempt {
                    // Nothing but the job was written to.
                    if let Some(status) = self.stopped().await? {
                        return Ok(Some(status));
                    }
                    open.push(part);
                    continue;
                }
                if let Attempt::Refused(error) = attempt {
                    return Err(error.into());
                }
            }
            conflicts = 0;
            if let Attempt::Done(results) = attempt {
                for (row, result) in part.iter().zip(&results) {
                    counts.add(result.outcome);
                    report(&row.cells, result);
                }
            }
        }
        Ok(None)
    }

    /// After a conflict: the job's status, if it is not in work any more.
    async fn stopped(&mut self) -> Result<Option<ImportStatus>, ImportError> {
        let Some(known) = &self.job else {
            return Ok(None);
        };
        let job = self.session.records::<ImportJob>().get(known.id).await?;
        if job.status != ImportStatus::Processing {
            return Ok(Some(job.status));
        }
        if job.worker != known.worker {
            return Err(Error::Conflict {
                object: "import_job".to_owned(),
                id: job.id.uuid(),
            }
            .into());
        }
        // Written by somebody who only touched it.
        if job.counts.processed_rows == known.counts.processed_rows {
            self.job = Some(job);
        }
        Ok(None)
    }

    /// Ends the job.
    async fn end(
        &mut self,
        status: ImportStatus,
        total: u64,
        failure: Option<&str>,
    ) -> Result<ImportStatus, ImportError> {
        loop {
            let Some(job) = self.job.clone() else {
                return Ok(status);
            };
            let mut work = self.session.begin();
            let batch = ImportBatch {
                total: Some(total),
                ends: Some(status),
                failure: failure.map(ToOwned::to_owned),
                ..ImportBatch::default()
            };
            let ended = work.settle_import_batch(&job, batch).await?;
            match work.commit().await {
                Ok(_) => {
                    self.job = Some(ended);
                    return Ok(status);
                }
                Err(Error::Conflict { .. }) => {
                    if let Some(status) = self.stopped().await? {
                        return Ok(status);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn take(table: &mut Table, count: usize) -> Result<Vec<TableRow>, ReadError> {
    let mut rows = Vec::new();
    while rows.len() < count
        && let Some(row) = table.next_row()?
    {
        rows.push(row);
    }
    Ok(rows)
}

pub(super) fn next_batch(plan: &Plan, feed: &mut Feed<'_>) -> Result<Vec<ParsedRow>, ReadError> {
    let mut rows = Vec::with_capacity(plan.batch_size);
    while rows.len() < plan.batch_size
        && let Some(row) = feed.next()?
    {
        rows.push(plan.parse(row));
    }
    Ok(rows)
}

fn as_number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

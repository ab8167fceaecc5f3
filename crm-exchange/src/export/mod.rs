//! Export of any query to CSV, XLSX and JSON lines (C-004).
//!
//! ```text
//!  Export ── columns ──► checked against the schema: no secrets
//!     │
//!     ▼
//!  page by page   records, then what their references lead to: one query each object
//!     │
//!     ▼
//!  cells ──► CSV, XLSX or JSON lines ──► std::io::Write
//! ```
//!
//! - **Order.** By id, which is the order of creation, unless the request sorts. Ids never change: every
//!   record that fulfils the filter during the whole export is in it exactly once, whatever others
//!   write meanwhile. With a sort that holds for records whose sorted values stay as they are.
//! - **Memory.** One page of records and what their references lead to. XLSX grows in temporary files
//!   and reaches the writer at the end.
//! - **Privacy.** Secrets (fields marked sensitive, encrypted settings) are never written. Personal
//!   fields are, since a list of contacts without names is none;
//!   [`without_personal`](Export::without_personal) leaves them out. Each export is recorded in an
//!   [`ExportJob`].
//! - **Formulas.** Texts that a spreadsheet program would take for formulas are defused, see
//!   [`spreadsheet`](crate::spreadsheet). Numbers stay numbers.

mod cell;
mod column;
mod csv_file;
mod error;
mod json_lines;
mod related;
mod xlsx_file;

use std::fmt;
use std::io::Write;

use crm_core::engine::Progress;
use crm_core::exports::{ExportFormat, ExportJob, ExportOutcome};
use crm_core::query::Find;
use crm_core::schema::{Entity, ObjectRef};
use crm_core::value::TimeZone;
use crm_core::{Id, Session};

pub use csv_file::Csv;
pub use error::ExportError;
pub use xlsx_file::Xlsx;

use cell::{Formats, Sink};
use column::Column;
use related::Related;

/// How many records are read at once, unless the request says otherwise.
const PAGE: usize = 500;

/// In which form the records are written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Format {
    /// Comma-separated values (RFC 4180).
    Csv(Csv),
    /// A workbook of Excel.
    Xlsx(Xlsx),
    /// One JSON object a line, with the values in the form that records have in JSON.
    JsonLines,
}

impl Format {
    const fn kind(&self) -> ExportFormat {
        match self {
            Self::Csv(_) => ExportFormat::Csv,
            Self::Xlsx(_) => ExportFormat::Xlsx,
            Self::JsonLines => ExportFormat::JsonLines,
        }
    }
}

/// What stands at the head of the columns of CSV and XLSX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Headers {
    /// The names of the fields, which the import knows again: `annual_revenue`.
    #[default]
    Names,
    /// As a person reads them: `Annual revenue`.
    Labels,
}

/// What an export wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportReport {
    /// The record of the export.
    pub job: Id<ExportJob>,
    /// How many records were written.
    pub rows: u64,
    /// How many cells had to be cut, since Excel takes 32,767 characters.
    pub cut_cells: u64,
}

/// An export of the records that answer a query.
///
/// ```
/// # async fn example(session: &crm_core::Session) -> Result<(), crm_exchange::export::ExportError> {
/// use crm_core::contacts::Contact;
/// use crm_core::query::{Find, WhereExt};
/// use crm_exchange::export::{Csv, Export, Format};
///
/// let mut file = Vec::new();
/// let report = Export::of::<Contact>(Find::from(Contact::EMAIL.is_not_null()))
///     .columns(["email", "account_id.name", "owner_id.email", "custom_fields.region"])
///     .format(Format::Csv(Csv::default().delimiter(b';').byte_order_mark()))
///     .file_name("contacts.csv")
///     .run(session, &mut file, &())
///     .await?;
/// println!("{} contacts", report.rows);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "an export writes nothing until it runs"]
pub struct Export {
    source: Source,
    find: Find<()>,
    columns: Option<Vec<String>>,
    personal: bool,
    format: Format,
    headers: Headers,
    formats: Formats,
    file_name: Option<String>,
    page: usize,
}

#[derive(Clone)]
enum Source {
    Object(ObjectRef),
    Name(String),
}

impl fmt::Debug for Export {
    /// The filter may name persons, so it is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("columns", &self.columns)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl Export {
    /// The records of `E` that answer a query, as CSV with all columns. The query's own page size
    /// and cursors do not count.
    pub fn of<E: Entity>(find: impl Into<Find<E>>) -> Self {
        Self::new(Source::Object(E::schema().clone()), find.into().untyped())
    }

    /// The records of an object by its name.
    pub fn named(object: impl Into<String>, find: Find<()>) -> Self {
        Self::new(Source::Name(object.into()), find)
    }

    fn new(source: Source, find: Find<()>) -> Self {
        Self {
            source,
            find,
            columns: None,
            personal: true,
            format: Format::Csv(Csv::default()),
            headers: Headers::default(),
            formats: Formats::default(),
            file_name: None,
            page: PAGE,
        }
    }

    /// Only these columns, in this order: names of fields, `custom_fields.region` for a member of a
    /// JSON field, `account_id.name` for a field of the record that a reference leads to, also over
    /// several references. Without this: every field that is no secret.
    pub fn columns<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.columns = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    /// Leaves out personal fields; to name one as a column is an error then.
    pub const fn without_personal(mut self) -> Self {
        self.personal = false;
        self
    }

    /// In which form.
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// What stands at the head of the columns.
    pub const fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// The zone in which moments are written in CSV and XLSX; UTC if nothing is said.
    pub fn time_zone(mut self, zone: TimeZone) -> Self {
        self.formats.zone = zone.tz();
        self
    }

    /// How days are written in CSV, as `strftime` says it: `%d.%m.%Y`. `%Y-%m-%d` if nothing is said.
    pub fn dates(mut self, format: impl Into<String>) -> Self {
        self.formats.date = format.into();
        self
    }

    /// How moments are written in CSV: `%d.%m.%Y %H:%M`. RFC 3339 with microseconds if nothing is
    /// said.
    pub fn timestamps(mut self, format: impl Into<String>) -> Self {
        self.formats.timestamp = format.into();
        self
    }

    /// Writes a comma in front of the decimals in CSV.
    pub const fn decimal_comma(mut self) -> Self {
        self.formats.decimal_comma = true;
        self
    }

    /// How the file is called, for the record of the export.
    pub fn file_name(mut self, name: impl Into<String>) -> Self {
        self.file_name = Some(name.into());
        self
    }

    /// How many records are read at once, from 1 to 1,000.
    pub fn page(mut self, records: usize) -> Self {
        self.page = records.clamp(1, crm_core::query::MAX_LIMIT);
        self
    }

    /// Writes the records. The writer is used between the awaits of this future and should not
    /// block for long: give a file or a buffer.
    ///
    /// If the future is dropped, the [`ExportJob`] stays at `processing`.
    ///
    /// # Errors
    /// [`ExportError::Cancelled`] when `progress` says so: what was written until then is cut off
    /// between two records. Columns that do not exist or are secret, before anything is read.
    pub async fn run(
        self,
        session: &Session,
        writer: impl Write + Send,
        progress: &dyn Progress,
    ) -> Result<ExportReport, ExportError> {
        let object = match &self.source {
            Source::Object(object) => {
                session.engine().registry().add(object);
                object.clone()
            }
            Source::Name(name) => session.describe(name).await?,
        };
        self.formats.check()?;
        let registry = &*session.registry().await?;
        let object = registry.described(&object);
        let columns = column::resolve(
            &object,
            registry,
            self.columns.as_deref(),
            self.personal,
            self.headers,
        )?;
        let query = serde_json::to_value(&self.find).unwrap_or_default();
        let paths: Vec<&str> = columns.iter().map(|column| &*column.path).collect();
        let job = session
            .exports()
            .begin(ExportJob {
                query,
                columns: paths.into(),
                has_personal: columns.iter().any(|column| column.is_personal),
                file_name: self.file_name.clone(),
                ..ExportJob::new(object.name(), self.format.kind())
            })
            .await?;
        let mut rows = 0;
        let done = self
            .write(session, &object, &columns, writer, progress, &mut rows)
            .await;
        let outcome = match &done {
            Ok(_) => ExportOutcome::Completed,
            Err(ExportError::Cancelled { .. }) => ExportOutcome::Cancelled,
            Err(error) => ExportOutcome::Failed(error.code()),
        };
        let finished = session.exports().finish(job.id, outcome, rows).await;
        let cut_cells = done?;
        finished?;
        Ok(ExportReport {
            job: job.id,
            rows,
            cut_cells,
        })
    }

    /// Writes header and records, and gives how many cells were cut.
    async fn write(
        &self,
        session: &Session,
        object: &ObjectRef,
        columns: &[Column],
        writer: impl Write + Send,
        progress: &dyn Progress,
        rows: &mut u64,
    ) -> Result<u64, ExportError> {
        let records = session.object(object.name()).await?;
        let mut sink: Box<dyn Sink + '_> = match &self.format {
            Format::Csv(csv) => Box::new(csv_file::CsvSink::new(csv, &self.formats, writer)?),
            Format::Xlsx(xlsx) => Box::new(xlsx_file::XlsxSink::new(
                xlsx,
                &self.formats,
                object,
                writer,
            )),
            Format::JsonLines => Box::new(json_lines::JsonSink::new(writer)),
        };
        sink.header(columns)?;
        let find = self.find.clone().limit(self.page);
        let total = Some(records.count(&find).await?);
        let mut next = None;
        loop {
            let find = match next.take() {
                Some(cursor) => find.clone().after(cursor),
                None => find.clone(),
            };
            let page = records.find(&find).await?;
            let related = Related::load(session, columns, &page.items).await?;
            for row in &page.items {
                let cells = columns.iter().map(|column| column.value(row, &related));
                sink.row(columns, &cells.collect::<Vec<_>>())?;
                *rows += 1;
            }
            let stop = progress.report(*rows, total).is_break();
            match page.next {
                Some(_) if stop => return Err(ExportError::Cancelled { rows: *rows }),
                Some(cursor) => next = Some(cursor),
                None => return sink.finish(),
            }
        }
    }
}

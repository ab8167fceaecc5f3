//! Imports any CSV file or spreadsheet into any object.
//!
//! ```text
//! cargo run --example import_csv -- --object lead --file leads.csv
//! cargo run --example import_csv -- --object contact --file contacts.xlsx --mode upsert --key email \
//!     --errors errors.csv --postgres postgres://localhost/crm --tenant acme
//! ```
//!
//! Without `--postgres` everything is kept in memory, which shows what an import would do and no more.
//! Standard output holds the mapping that was used and the counts; the exit code is 1 if rows were
//! refused. A job that was killed is taken up again by `--resume` with its id.

mod arguments;
#[path = "../shared/mod.rs"]
mod shared;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use crm_engine::engine::Progress;
use crm_engine::exchange::import::{
    Cell, ErrorsFile, Import, ImportExt, Mapping, Outcome, Source, Table,
};
use crm_engine::imports::{ImportJob, RowOutcome, RowResult};
use crm_engine::prelude::*;
use indicatif::{ProgressBar, ProgressStyle};

use arguments::{Arguments, USAGE};
use shared::{Failure, open, read_mapping};

#[tokio::main]
async fn main() -> ExitCode {
    let parse = |arguments| Arguments::parse(arguments);
    shared::run("import_csv", USAGE, parse, run).await
}

/// Imports, and gives the number of rows that were refused.
async fn run(arguments: &Arguments) -> Result<i64, Failure> {
    let path = arguments.file.display();
    let file =
        std::fs::canonicalize(&arguments.file).map_err(|error| format!("{path}: {error}"))?;
    let errors = arguments.errors.as_ref();
    if errors.and_then(|path| std::fs::canonicalize(path).ok()) == Some(file) {
        return Err("the errors would be written over the file; name another one".into());
    }
    let tenant = arguments.tenant.as_deref().unwrap_or("acme");
    let session = open(arguments.postgres.as_deref(), tenant).await?;
    let source = Source::file(&arguments.file);
    let importer = session.import();
    let mapping = mapping(arguments, &session, &source).await?;
    if arguments.print_map {
        println!("{}", serde_json::to_string_pretty(&mapping)?);
        return Ok(0);
    }
    let import = arguments.import(mapping);
    let bar = Bar::new();
    // Made before the first row lands, so that a place where no file can be is told in time.
    let errors = arguments.errors.as_deref().map(create).transpose()?;
    let mut reasons = Reasons::default();
    let outcome = if arguments.dry_run {
        print_map(&import.mapping);
        dry_run(&session, &source, &import, (&bar, errors, &mut reasons)).await?
    } else {
        let job = match &arguments.resume {
            Some(job) => job
                .parse()
                .map_err(|_| format!("{job} is no id of a job; an import prints it first"))?,
            None => importer.start(&source, &import).await?.id,
        };
        println!("job {job}");
        let mut report = |_: &[Cell], row: &RowResult| reasons.add(row);
        let done = importer.resume(job, &source, true, &bar, &mut report).await;
        bar.0.finish_and_clear();
        if let (Some(path), Some(errors)) = (&arguments.errors, errors) {
            let count = importer.write_errors(job, &source, errors).await?;
            println!("{count} rows in {}", path.display());
        }
        let job = session.records::<ImportJob>().get(job).await?;
        print_map(&serde_json::from_value(job.mapping.clone())?);
        done?
    };
    reasons.print();
    print(arguments.dry_run, &outcome);
    Ok(outcome.counts.failed_rows)
}

fn create(path: &Path) -> Result<File, Failure> {
    Ok(File::create(path).map_err(|error| format!("{}: {error}", path.display()))?)
}

async fn mapping(
    arguments: &Arguments,
    session: &Session,
    source: &Source,
) -> Result<Mapping, Failure> {
    if let Some(path) = &arguments.map {
        return read_mapping(path);
    }
    let preview = session
        .import()
        .preview(&arguments.object, source, &arguments.read)
        .await?;
    Ok(preview.mapping)
}

async fn dry_run(
    session: &Session,
    source: &Source,
    import: &Import,
    (bar, errors, reasons): (&Bar, Option<File>, &mut Reasons),
) -> Result<Outcome, Failure> {
    let mut errors = match errors {
        Some(file) => {
            let table = Table::open(source, &import.read)?;
            Some(ErrorsFile::new(file, table.headers())?)
        }
        None => None,
    };
    let mut failure = None;
    let mut report = |cells: &[Cell], row: &RowResult| {
        reasons.add(row);
        if row.outcome == RowOutcome::Failed
            && let Some(file) = &mut errors
        {
            failure = file.row(cells, &row.faults).err().or(failure.take());
        }
    };
    let outcome = session
        .import()
        .dry_run(source, import, bar, &mut report)
        .await?;
    bar.0.finish_and_clear();
    if let Some(failure) = failure {
        return Err(failure.into());
    }
    if let Some(file) = errors {
        file.finish()?;
    }
    Ok(outcome)
}

/// Why rows were refused, and how many for each reason.
#[derive(Default)]
struct Reasons(BTreeMap<String, u64>);

impl Reasons {
    fn add(&mut self, row: &RowResult) {
        if row.outcome != RowOutcome::Failed {
            return;
        }
        for fault in &row.faults {
            let place = fault.column.as_ref().or(fault.field.as_ref());
            let place = place.map_or_else(|| "row".to_owned(), Clone::clone);
            let reason = format!("{place}: {} ({})", fault.message, fault.code);
            *self.0.entry(reason).or_default() += 1;
        }
    }

    /// The ten most frequent.
    fn print(&self) {
        let mut all: Vec<(&String, &u64)> = self.0.iter().collect();
        all.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), *reason));
        for (reason, count) in all.iter().take(10) {
            println!("{count} x {reason}");
        }
        if all.len() > 10 {
            println!("and {} more reasons; --errors tells all", all.len() - 10);
        }
    }
}

/// The mapping that was used.
fn print_map(mapping: &Mapping) {
    for column in &mapping.columns {
        let lookup = column.lookup.as_ref();
        let lookup = lookup.map_or(String::new(), |lookup| format!(" by {}", lookup.by));
        println!("{} -> {}{lookup}", column.column, column.field);
    }
}

fn print(is_dry: bool, outcome: &Outcome) {
    let counts = &outcome.counts;
    println!(
        "{}{}: {} rows, {} created, {} updated, {} unchanged, {} skipped, {} failed",
        if is_dry { "dry run, " } else { "" },
        outcome.status.as_str(),
        counts.processed_rows,
        counts.created_rows,
        counts.updated_rows,
        counts.unchanged_rows,
        counts.skipped_rows,
        counts.failed_rows,
    );
}

/// A bar on standard error, which only a terminal shows.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{bar:40} {pos} of {len} rows, {eta} left");
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }
}

impl Progress for Bar {
    fn report(&self, done: u64, total: Option<u64>) -> ControlFlow<()> {
        self.0.set_length(total.unwrap_or(done));
        self.0.set_position(done);
        ControlFlow::Continue(())
    }
}

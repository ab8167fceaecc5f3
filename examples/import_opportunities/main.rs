//! Imports a sales history from four CSV files and reports on it.
//!
//! ```text
//! cargo run --release --example import_opportunities -- FOLDER [--postgres URL] [--json]
//! ```
//!
//! The folder holds `accounts.csv`, `products.csv`, `sales_teams.csv` and `sales_pipeline.csv` of the
//! "CRM Sales Opportunities" data set. The way of a row through this program:
//!
//! ```text
//!  read      text, as it is written
//!  clean     values; the table at its top says what is corrected and what is refused
//!  import    tenant, pipeline, products, accounts
//!  staff     users, the teams of managers, and the regions above them
//!  deals     each deal moves through the stages at the time at which it did, because the import
//!            sets the clock
//!  report    the engine's aggregates: win rate, value and cycle by agent, manager, region, product..
//!  figures   the rates and averages that follow from counts and sums
//!  analytics what the engine itself makes of it: funnel, sales cycle, forecast, open pipeline
//!  print     the report as text
//! ```
//!
//! Everything is kept in memory, or with `--postgres` in a database. There the program may run again,
//! also after it was stopped in the middle: it creates only what is missing, and the report says how
//! many records were there already.
//!
//! With `--json` standard output holds one object and nothing else. Progress goes to standard error,
//! and only to a terminal.

mod analytics;
mod clean;
mod deals;
mod figures;
mod import;
mod print;
mod read;
mod report;
mod staff;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use chrono::DateTime;
use crm_engine::engine::ManualClock;
use crm_engine::postgres::Migrations;
use crm_engine::storage::Storage;
use crm_engine::{Crm, MemoryStorage, PostgresStorage};
use indicatif::{ProgressBar, ProgressStyle};

use clean::Cleaned;
use read::Files;
pub(crate) use report::Report;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: import_opportunities FOLDER [--postgres URL] [--json]";

#[tokio::main]
async fn main() -> ExitCode {
    let Some(arguments) = Arguments::parse(std::env::args_os().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match import_and_print(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("import failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Arguments {
    folder: PathBuf,
    postgres: Option<String>,
    json: bool,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut parsed = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--json") => parsed.json = true,
                Some("--postgres") => parsed.postgres = Some(arguments.next()?.into_string().ok()?),
                Some(unknown) if unknown.starts_with("--") => return None,
                _ if parsed.folder.as_os_str().is_empty() => parsed.folder = argument.into(),
                _ => return None,
            }
        }
        (!parsed.folder.as_os_str().is_empty()).then_some(parsed)
    }
}

async fn import_and_print(arguments: &Arguments) -> Result<(), Failure> {
    let bar = if arguments.json {
        ProgressBar::hidden()
    } else {
        progress_bar()?
    };
    let target = match &arguments.postgres {
        Some(url) => Target::postgres(url).await?,
        None => Target::over(MemoryStorage::new()),
    };
    match print(
        &run(&target, &arguments.folder, &bar).await?,
        arguments.json,
    ) {
        // Whoever reads has seen enough, such as `head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

fn print(report: &Report, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !json {
        return report.print(&mut out);
    }
    serde_json::to_writer(&mut out, report)?;
    writeln!(out)
}

/// The bar hides itself where standard error is not a terminal.
fn progress_bar() -> Result<ProgressBar, Failure> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} steps of deals, {eta} left")?;
    Ok(ProgressBar::new(0).with_style(style))
}

/// A CRM whose clock the import sets.
pub(crate) struct Target {
    crm: Crm,
    clock: Arc<ManualClock>,
}

impl Target {
    pub(crate) fn over(storage: impl Storage) -> Self {
        let clock = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH));
        let crm = Crm::builder(storage).clock(clock.clone()).build();
        Self { crm, clock }
    }

    async fn postgres(url: &str) -> Result<Self, Failure> {
        let storage = PostgresStorage::builder().connect(url).await?;
        Migrations::new().run(storage.pool()).await?;
        Ok(Self::over(storage))
    }
}

/// The whole program but for its arguments and its output.
pub(crate) async fn run(
    target: &Target,
    folder: &Path,
    bar: &ProgressBar,
) -> Result<Report, Failure> {
    let cleaned = Cleaned::from_files(Files::read(folder)?);
    let imported = import::import(target, cleaned, bar).await?;
    Ok(report::report(imported).await?)
}

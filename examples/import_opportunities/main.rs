//! Imports a sales history from four CSV files and reports on it.
//!
//! ```text
//! cargo run --release --example import_opportunities -- FOLDER [--json]
//! ```
//!
//! The folder holds `accounts.csv`, `products.csv`, `sales_teams.csv` and `sales_pipeline.csv` of the
//! "CRM Sales Opportunities" data set. The way of a row through this program:
//!
//! ```text
//!  read      text, as it is written
//!  clean     values; the table at its top says what is corrected and what is refused
//!  import    tenant, pipeline, users, teams, accounts; each deal moves through the stages at the
//!            time at which it did, because the import sets the clock
//!  report    the engine's aggregates: funnel, win rate, value by quarter, agent and account
//!  print     the report as text
//! ```
//!
//! With `--json` standard output holds one object and nothing else. Progress goes to standard error,
//! and only to a terminal.

mod clean;
mod import;
mod print;
mod read;
mod report;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use clean::Cleaned;
use read::Files;
pub(crate) use report::Report;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: import_opportunities FOLDER [--json]";

#[tokio::main]
async fn main() -> ExitCode {
    let Some((folder, json)) = arguments(std::env::args_os().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match import_and_print(&folder, json).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("import failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn arguments(arguments: impl Iterator<Item = OsString>) -> Option<(PathBuf, bool)> {
    let (flags, folders): (Vec<_>, Vec<_>) =
        arguments.partition(|argument| argument.as_encoded_bytes().starts_with(b"--"));
    let [folder] = folders.as_slice() else {
        return None;
    };
    let known = flags.iter().all(|flag| flag == "--json");
    known.then(|| (PathBuf::from(folder), !flags.is_empty()))
}

async fn import_and_print(folder: &Path, json: bool) -> Result<(), Failure> {
    let bar = if json {
        ProgressBar::hidden()
    } else {
        progress_bar()?
    };
    match print(&run(folder, &bar).await?, json) {
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

/// The whole program but for its arguments and its output.
pub(crate) async fn run(folder: &Path, bar: &ProgressBar) -> Result<Report, Failure> {
    let cleaned = Cleaned::from_files(Files::read(folder)?);
    let imported = import::import(cleaned, bar).await?;
    Ok(report::report(imported).await?)
}

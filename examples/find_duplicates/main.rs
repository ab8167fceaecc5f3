//! Finds duplicates in a CSV file, or between two, by rules in a JSON file:
//!
//! ```text
//! cargo run --release --example find_duplicates -- people.csv --rules rules.json
//! cargo run --release --example find_duplicates -- old.csv new.csv --rules rules.json \
//!     --truth pairs.csv --summary
//! ```
//!
//! The columns of the file are the fields that the rules name; the first one is the id, unless `--id`
//! names another. Each pair is printed with what its comparisons gave, never with the values. With
//! a file of the true pairs (`--truth`, two ids a line) the last line tells precision, recall and
//! F1. `--summary` leaves the pairs out. The rules file holds one rule or a list of rules; see
//! `crm_engine::duplicates::MatchRule` and the example in `rules/person.json`.

mod score;
mod table;

use std::error::Error;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use crm_engine::duplicates::{CompiledRule, FoundPair, MatchRule, Scanner};
use uuid::Uuid;

use score::Truth;
use table::Table;

type Failure = Box<dyn Error>;

const USAGE: &str = "usage: find_duplicates FILE.csv [SECOND.csv] --rules RULES.json \
                     [--truth PAIRS.csv] [--id COLUMN] [--summary]";

#[derive(Default)]
struct Options {
    files: Vec<PathBuf>,
    rules: PathBuf,
    truth: Option<PathBuf>,
    id: Option<String>,
    summary: bool,
}

impl Options {
    /// Reads the command line; `None` where it is not understood.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next();
            match argument.as_str() {
                "--rules" => options.rules = value()?.into(),
                "--truth" => options.truth = Some(value()?.into()),
                "--id" => options.id = Some(value()?),
                "--summary" => options.summary = true,
                unknown if unknown.starts_with("--") => return None,
                file => options.files.push(file.into()),
            }
        }
        let complete =
            (1..=2).contains(&options.files.len()) && !options.rules.as_os_str().is_empty();
        complete.then_some(options)
    }
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("find_duplicates: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let table = Table::read(&options.files, options.id.as_deref())?;
    let path = options.rules.display();
    let rules =
        std::fs::read_to_string(&options.rules).map_err(|error| format!("{path}: {error}"))?;
    let rules = read_rules(&rules).map_err(|error| format!("{path}: {error}"))?;
    let mut compiled = Vec::with_capacity(rules.len());
    for (place, rule) in rules.iter().enumerate() {
        let id = Uuid::from_u128(place as u128 + 1);
        let rule = CompiledRule::new(rule, id, table.object());
        compiled.push(rule.map_err(|error| format!("rule {}: {error}", place + 1))?);
    }

    let start = Instant::now();
    let scanner = Scanner::new(compiled);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    let mut failed = Ok(());
    let found = |pair: FoundPair| {
        pairs.push((pair.first, pair.second));
        if options.summary {
            return ControlFlow::Continue(());
        }
        let (first, second) = (table.id(pair.first), table.id(pair.second));
        failed = writeln!(out, "{first},{second} {}", pair.explanation);
        match failed {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    };
    let (rows, others) = table.rows();
    let scanned = match others {
        Some(others) => scanner.link(rows, others, &(), found),
        None => scanner.scan(rows, &(), found),
    };
    failed?;
    for cut in &scanned.cut {
        let records = cut.records;
        writeln!(
            out,
            "a key is shared by {records} records: not all were compared with each other"
        )?;
    }
    writeln!(
        out,
        "records={} compared={} pairs={} milliseconds={}",
        scanned.records,
        scanned.compared,
        scanned.pairs,
        start.elapsed().as_millis()
    )?;
    if let Some(path) = &options.truth {
        let truth = Truth::read(path)?;
        let found = pairs.iter().map(|(a, b)| (table.id(*a), table.id(*b)));
        writeln!(out, "{}", truth.score(found))?;
    }
    out.flush()?;
    Ok(())
}

/// One rule, or a list of rules.
fn read_rules(text: &str) -> Result<Vec<MatchRule>, Failure> {
    let json: serde_json::Value = serde_json::from_str(text)?;
    let list = match json {
        serde_json::Value::Array(list) => list,
        one => vec![one],
    };
    let rules = list.iter().map(MatchRule::from_json);
    Ok(rules.collect::<Result<_, _>>()?)
}

//! The four CSV files, row by row, as they are written. Only letters are composed (Unicode form C),
//! as the engine keeps them: by their names records are found again.

use std::path::Path;

use crm_engine::value::{NonBlankText, TextValue};
use csv::{ErrorKind, ReaderBuilder, StringRecord, Trim};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Failure;

/// A row of one of the files. Every column is text here: what it means is the next step's business.
pub(crate) trait CsvRow: DeserializeOwned {
    const FILE: &'static str;
    const COLUMNS: &'static [&'static str];
    /// What the source calls the row.
    fn key(&self) -> &str;
}

macro_rules! csv_row {
    ($(#[$doc:meta])* $row:ident from $file:literal by $key:ident { $($other:ident),* }) => {
        $(#[$doc])*
        #[derive(Debug, Deserialize)]
        pub(crate) struct $row {
            pub(crate) $key: String,
            $(pub(crate) $other: String,)*
        }

        impl CsvRow for $row {
            const FILE: &'static str = $file;
            const COLUMNS: &'static [&'static str] =
                &[stringify!($key), $(stringify!($other)),*];

            fn key(&self) -> &str {
                &self.$key
            }
        }
    };
}

csv_row! {
    /// A company. `revenue` is in millions of US dollars.
    AccountRow from "accounts.csv" by account {
        sector, year_established, revenue, employees, office_location, subsidiary_of
    }
}

csv_row! {
    /// A product with its list price in US dollars.
    ProductRow from "products.csv" by product { series, sales_price }
}

csv_row! {
    /// A sales agent, whom the agent reports to, and the region in which they sell.
    AgentRow from "sales_teams.csv" by sales_agent { manager, regional_office }
}

csv_row! {
    /// A sale that may come about.
    OpportunityRow from "sales_pipeline.csv" by opportunity_id {
        sales_agent, product, account, deal_stage, engage_date, close_date, close_value
    }
}

/// A row, or a part of one, that was not taken over, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Rejected {
    pub(crate) file: &'static str,
    /// The line in the file, the header being line 1.
    pub(crate) line: u64,
    /// What the source calls the row; nothing if that could not be read.
    pub(crate) key: String,
    /// Everything that is wrong with the row.
    pub(crate) reason: String,
}

/// A row with the line that it stands on.
#[derive(Debug)]
pub(crate) struct Line<R> {
    pub(crate) number: u64,
    pub(crate) row: R,
}

impl<R: CsvRow> Line<R> {
    pub(crate) fn reject(&self, reason: impl Into<String>) -> Rejected {
        let key = self.row.key().to_owned();
        Rejected {
            file: R::FILE,
            line: self.number,
            key,
            reason: reason.into(),
        }
    }
}

/// All rows of all files.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) accounts: Vec<Line<AccountRow>>,
    pub(crate) products: Vec<Line<ProductRow>>,
    pub(crate) agents: Vec<Line<AgentRow>>,
    pub(crate) opportunities: Vec<Line<OpportunityRow>>,
    pub(crate) rejected: Vec<Rejected>,
}

impl Files {
    pub(crate) fn read(folder: &Path) -> Result<Self, Failure> {
        let mut rejected = Vec::new();
        Ok(Self {
            accounts: read_file(folder, &mut rejected)?,
            products: read_file(folder, &mut rejected)?,
            agents: read_file(folder, &mut rejected)?,
            opportunities: read_file(folder, &mut rejected)?,
            rejected,
        })
    }
}

/// A file that is missing or lacks a column ends the import; a broken row does not.
fn read_file<R: CsvRow>(
    folder: &Path,
    rejected: &mut Vec<Rejected>,
) -> Result<Vec<Line<R>>, Failure> {
    let path = folder.join(R::FILE);
    let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let mut reader = ReaderBuilder::new()
        .trim(Trim::All)
        .from_path(&path)
        .map_err(|error| failed(&error))?;
    let header = reader.headers().map_err(|error| failed(&error))?.clone();
    if let Some(missing) = R::COLUMNS
        .iter()
        .find(|column| !header.iter().any(|h| h == **column))
    {
        return Err(failed(&format_args!("the column `{missing}` is missing")).into());
    }
    let mut lines = Vec::new();
    for record in reader.records() {
        match record {
            Ok(record) => lines.push(line(&record, &header)?),
            Err(error) => rejected.push(reject_broken::<R>(error)?),
        }
    }
    Ok(lines)
}

fn line<R: CsvRow>(record: &StringRecord, header: &StringRecord) -> Result<Line<R>, Failure> {
    let number = record.position().map_or(0, csv::Position::line);
    let record: StringRecord = record.iter().map(composed).collect();
    Ok(Line {
        number,
        row: record.deserialize(Some(header))?,
    })
}

fn composed(cell: &str) -> String {
    NonBlankText::parse(cell).map_or_else(|_| cell.to_owned(), |text| text.as_str().to_owned())
}

/// What is wrong with a row that has no columns to look at. An unreadable file stays an error.
fn reject_broken<R: CsvRow>(error: csv::Error) -> Result<Rejected, Failure> {
    let line = error.position().map_or(0, csv::Position::line);
    let reason = match error.kind() {
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => {
            format!("the row has {len} columns instead of {expected_len}")
        }
        ErrorKind::Utf8 { .. } => "the row is not UTF-8 text".to_owned(),
        _ => return Err(error.into()),
    };
    Ok(Rejected {
        file: R::FILE,
        line,
        key: String::new(),
        reason,
    })
}

//! Files as tables: rows of typed cells, one after the other, whatever the format.
//!
//! Text is read as a stream; of an XLSX sheet only the shared texts are held in memory, of the other
//! spreadsheet formats, which are small, the sheet.

pub(crate) mod decode;
mod sheet;
pub(crate) mod sniff;
mod text;

use std::collections::VecDeque;
use std::fmt;

use chrono::NaiveDateTime;
use crm_core::imports::ImportFormat;
use serde::{Deserialize, Serialize};

use super::source::{Inspection, Source};

/// How many rows are looked at to find the header.
const LOOKED_AT: usize = 20;

/// How a file is read, where it is not to be detected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    /// The encoding by its name in the WHATWG standard, such as `windows-1252`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// The delimiter of a text file; one ASCII character.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Where the header is.
    pub header: HeaderRow,
    /// The sheet of a spreadsheet by its name; the first one if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sheet: Option<String>,
    /// Whether a row with fewer cells than the header is taken, as if the rest were empty. Such a row
    /// is often the half of a broken one, so it is refused if nothing is said.
    pub short_rows: bool,
}

/// Where the header of a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderRow {
    /// It is to be found.
    #[default]
    Detect,
    /// In the row with this number, from 1; rows before it are left out.
    Row(u64),
    /// There is none: columns are called `Column 1` and so on.
    Absent,
}

/// One cell of a table.
#[derive(Clone, PartialEq, Default)]
pub enum Cell {
    /// Nothing.
    #[default]
    Empty,
    /// A text; also every cell of a text file.
    Text(String),
    /// A number of a spreadsheet.
    Number(f64),
    /// True or false in a spreadsheet.
    Boolean(bool),
    /// A date, or a date with a time, of a spreadsheet. It has no zone.
    Moment(NaiveDateTime),
    /// A formula that failed.
    Fault,
    /// A text that could not be decoded, with U+FFFD where it could not.
    Garbled(String),
}

impl Cell {
    /// Whether there is nothing in the cell, or only blanks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Text(text) => text.trim().is_empty(),
            _ => false,
        }
    }

    /// The cell as a text: numbers with a point, dates as in ISO 8601.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Fault => "#ERROR".to_owned(),
            Self::Text(text) | Self::Garbled(text) => text.clone(),
            Self::Boolean(value) => value.to_string(),
            Self::Number(number) => super::parse::decimal_of(*number)
                .map_or_else(|| number.to_string(), |decimal| decimal.to_string()),
            Self::Moment(moment) => {
                let midnight = moment.time() == chrono::NaiveTime::MIN;
                let format = if midnight {
                    "%Y-%m-%d"
                } else {
                    "%Y-%m-%dT%H:%M:%S"
                };
                moment.format(format).to_string()
            }
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        if text.is_empty() {
            Self::Empty
        } else {
            Self::Text(text.to_owned())
        }
    }
}

/// Cells hold personal data.
impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Text(_) => "Text(..)",
            Self::Number(_) => "Number(..)",
            Self::Boolean(_) => "Boolean(..)",
            Self::Moment(_) => "Moment(..)",
            Self::Fault => "Fault",
            Self::Garbled(_) => "Garbled(..)",
        })
    }
}

/// One row of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableRow {
    /// Its number in the file, from 1, the header counted; blank lines of a text file are not.
    pub number: u64,
    /// Its cells.
    pub cells: Vec<Cell>,
}

impl TableRow {
    /// The row with at least so many cells, the further ones empty.
    fn filled_up(mut self, width: usize) -> Self {
        if self.cells.len() < width {
            self.cells.resize(width, Cell::Empty);
        }
        self
    }

    fn is_blank(&self) -> bool {
        self.cells.iter().all(Cell::is_empty)
    }
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("the file cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// The spreadsheet is damaged, or of an unknown kind.
    #[error("the spreadsheet cannot be read: {0}")]
    Spreadsheet(String),
    /// The spreadsheet has no such sheet.
    #[error("the spreadsheet has no such sheet")]
    NoSheet,
    /// There is no such encoding.
    #[error("there is no encoding of this name; use one such as utf-8 or windows-1252")]
    UnknownEncoding,
    /// The delimiter is no ASCII character.
    #[error("the delimiter must be one ASCII character")]
    Delimiter,
    /// The file has no rows.
    #[error("the file is empty")]
    Empty,
}

/// Where rows come from.
pub(crate) trait Rows: Send {
    fn next_row(&mut self) -> Result<Option<TableRow>, ReadError>;
}

/// A file as a table, read row by row.
///
/// ```
/// use crm_exchange::import::{ReadOptions, Source, Table};
///
/// let source = Source::bytes("leads.csv", b"Firma;Betrag\nGlobex;1,5\n".to_vec());
/// let mut table = Table::open(&source, &ReadOptions::default())?;
/// assert_eq!(table.headers(), ["Firma", "Betrag"]);
/// assert_eq!(table.next_row()?.unwrap().cells[1].text(), "1,5");
/// # Ok::<(), crm_exchange::import::ReadError>(())
/// ```
pub struct Table {
    rows: Box<dyn Rows>,
    ahead: VecDeque<TableRow>,
    headers: Vec<String>,
    inspection: Inspection,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

impl Table {
    /// Opens a file. It is read once to its end before, for its encoding and fingerprint.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn open(source: &Source, options: &ReadOptions) -> Result<Self, ReadError> {
        let inspection = source.inspect()?;
        let mut rows: Box<dyn Rows> = match inspection.format {
            ImportFormat::Csv => Box::new(text::TextRows::open(source, options, &inspection)?),
            ImportFormat::Spreadsheet => Box::new(sheet::SheetRows::open(source, options)?),
        };
        let mut ahead = VecDeque::new();
        while ahead.len() < LOOKED_AT
            && let Some(row) = rows.next_row()?
        {
            if !row.is_blank() {
                ahead.push_back(row);
            }
        }
        let place = match options.header {
            HeaderRow::Absent => None,
            HeaderRow::Row(number) => Some(
                ahead
                    .iter()
                    .position(|row| row.number == number)
                    .ok_or(ReadError::Empty)?,
            ),
            HeaderRow::Detect => {
                let cells: Vec<&[Cell]> = ahead.iter().map(|row| row.cells.as_slice()).collect();
                sniff::header(&cells)
            }
        };
        let headers = match place {
            Some(place) => {
                let row = ahead.drain(..=place).next_back().ok_or(ReadError::Empty)?;
                header_names(&row.cells)
            }
            None => {
                let width = ahead.iter().map(|row| row.cells.len()).max();
                header_names(&vec![Cell::Empty; width.ok_or(ReadError::Empty)?])
            }
        };
        Ok(Self {
            rows,
            ahead,
            headers,
            inspection,
        })
    }

    /// The names of the columns, each one different.
    #[must_use]
    pub fn headers(&self) -> &[String] {
        &self.headers
    }

    /// What the file is.
    #[must_use]
    pub const fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// The next row that is not blank.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn next_row(&mut self) -> Result<Option<TableRow>, ReadError> {
        let mut next = self.ahead.pop_front();
        while next.is_none() {
            match self.rows.next_row()? {
                Some(row) => next = Some(row).filter(|row| !row.is_blank()),
                None => return Ok(None),
            }
        }
        // A sheet leaves out empty cells at the end of a row, which is not ragged for that.
        let width = match self.inspection.format {
            ImportFormat::Spreadsheet => self.headers.len(),
            ImportFormat::Csv => 0,
        };
        Ok(next.map(|row| row.filled_up(width)))
    }
}

/// The names of columns: what the header says, `Column 2` where it says nothing, and a number behind
/// a name that was there before.
fn header_names(cells: &[Cell]) -> Vec<String> {
    let blank_end = cells
        .iter()
        .rev()
        .take_while(|cell| cell.is_empty())
        .count();
    let all_blank = blank_end == cells.len();
    let width = if all_blank {
        cells.len()
    } else {
        cells.len() - blank_end
    };
    let mut names: Vec<String> = Vec::with_capacity(width);
    for (place, cell) in cells.iter().take(width).enumerate() {
        let said = cell.text().split_whitespace().collect::<Vec<_>>().join(" ");
        let name = if said.is_empty() {
            format!("Column {}", place + 1)
        } else {
            said
        };
        let mut unused = name.clone();
        let mut number = 2;
        while names.contains(&unused) {
            unused = format!("{name} ({number})");
            number += 1;
        }
        names.push(unused);
    }
    names
}

//! Comma-separated values (RFC 4180).

use std::io::Write;

use crm_core::schema::Value;

use super::cell::{Formats, Sink};
use super::{Column, ExportError};
use crate::spreadsheet::defuse;

/// What Excel needs in front to take a file for UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Comma-separated values, in UTF-8, each row ended by CR and LF, quoted where needed.
#[derive(Clone, Debug)]
pub struct Csv {
    delimiter: u8,
    byte_order_mark: bool,
}

impl Default for Csv {
    fn default() -> Self {
        Self {
            delimiter: b',',
            byte_order_mark: false,
        }
    }
}

impl Csv {
    /// What stands between two cells: `;` where Excel writes decimals with a comma, `\t` for TSV.
    #[must_use]
    pub const fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// Puts the mark in front by which Excel knows UTF-8.
    #[must_use]
    pub const fn byte_order_mark(mut self) -> Self {
        self.byte_order_mark = true;
        self
    }
}

pub(super) struct CsvSink<'a, W: Write> {
    formats: &'a Formats,
    writer: csv::Writer<W>,
}

impl<'a, W: Write> CsvSink<'a, W> {
    pub(super) fn new(csv: &Csv, formats: &'a Formats, mut writer: W) -> Result<Self, ExportError> {
        if csv.byte_order_mark {
            writer.write_all(BYTE_ORDER_MARK)?;
        }
        let writer = csv::WriterBuilder::new()
            .delimiter(csv.delimiter)
            .terminator(csv::Terminator::CRLF)
            .from_writer(writer);
        Ok(Self { formats, writer })
    }

    fn record<S: AsRef<str>>(&mut self, cells: impl Iterator<Item = S>) -> Result<(), ExportError> {
        for cell in cells {
            self.writer.write_field(cell.as_ref()).map_err(failed)?;
        }
        let end: [&str; 0] = [];
        self.writer.write_record(end).map_err(failed)
    }
}

fn failed(error: csv::Error) -> ExportError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => ExportError::Io(error),
        _ => ExportError::Io(std::io::Error::other("a row has another number of cells")),
    }
}

impl<W: Write + Send> Sink for CsvSink<'_, W> {
    fn header(&mut self, columns: &[Column]) -> Result<(), ExportError> {
        self.record(columns.iter().map(|column| defuse(&column.header)))
    }

    fn row(&mut self, _columns: &[Column], values: &[Value]) -> Result<(), ExportError> {
        let formats = self.formats;
        self.record(values.iter().map(|value| formats.text(value)))
    }

    fn finish(mut self: Box<Self>) -> Result<u64, ExportError> {
        self.writer.flush()?;
        Ok(0)
    }
}

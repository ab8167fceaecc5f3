//! [`ErrorsFile`]: the bad rows with the reasons, ready to be mended and imported again.

use std::io::Write;

use crm_core::imports::RowFault;

use super::read::Cell;
use crate::spreadsheet::defuse;

/// The name of the column with the reasons.
const COLUMN: &str = "errors";

/// Writes the rows that did not land as CSV: the columns of the file, and one more that tells what
/// is wrong in which column. Mend it and import it again: the last column is not mapped.
///
/// Texts that a spreadsheet would take for formulas have an apostrophe in front; an import takes it
/// off again.
///
/// ```
/// use crm_core::imports::RowFault;
/// use crm_exchange::import::{Cell, ErrorsFile};
///
/// let mut file = ErrorsFile::new(Vec::new(), &["Mail".to_owned()])?;
/// let fault = RowFault {
///     column: Some("Mail".into()),
///     field: Some("email".into()),
///     code: "invalid_email".into(),
///     message: "must be an address such as ada@example.com".into(),
/// };
/// file.row(&[Cell::from("=cmd()")], &[fault])?;
/// let text = String::from_utf8(file.finish()?).unwrap();
/// assert!(text.starts_with("Mail,errors\n'=cmd(),Mail: must be"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct ErrorsFile<W: Write> {
    writer: csv::Writer<W>,
    /// Where the reasons go: also those of an earlier errors file are replaced.
    column: usize,
    /// Whether the file had no such column.
    is_added: bool,
    width: usize,
}

impl<W: Write> std::fmt::Debug for ErrorsFile<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ErrorsFile").finish_non_exhaustive()
    }
}

impl<W: Write> ErrorsFile<W> {
    /// Begins the file with its header.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(writer: W, headers: &[String]) -> std::io::Result<Self> {
        let column = headers.iter().position(|name| name == COLUMN);
        let is_added = column.is_none();
        let column = column.unwrap_or(headers.len());
        let width = headers.len().max(column + 1);
        let mut file = Self {
            writer: csv::WriterBuilder::new().flexible(true).from_writer(writer),
            column,
            is_added,
            width,
        };
        let headers: Vec<Cell> = headers
            .iter()
            .map(|name| Cell::from(name.as_str()))
            .collect();
        file.write(&headers, COLUMN)?;
        Ok(file)
    }

    /// Writes a row.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn row(&mut self, cells: &[Cell], faults: &[RowFault]) -> std::io::Result<()> {
        let reasons: Vec<String> = faults.iter().map(ToString::to_string).collect();
        self.write(cells, &reasons.join("; "))
    }

    fn write(&mut self, cells: &[Cell], reasons: &str) -> std::io::Result<()> {
        let mut texts: Vec<String> = cells
            .iter()
            .map(|cell| defuse(&cell.text()).into_owned())
            .collect();
        if texts.len() < self.width {
            texts.resize(self.width, String::new());
        }
        if let Some(slot) = texts.get_mut(self.column) {
            // A cell more than the header has would stand here.
            let more = std::mem::replace(slot, defuse(reasons).into_owned());
            if self.is_added && !more.is_empty() {
                texts.insert(self.column + 1, more);
            }
        }
        Ok(self.writer.write_record(texts)?)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> std::io::Result<W> {
        self.writer.flush()?;
        self.writer
            .into_inner()
            .map_err(|error| std::io::Error::other(error.to_string()))
    }
}

//! A workbook of Excel (Office Open XML), written row by row.

use std::io::Write;

use chrono::{DateTime, Datelike, NaiveDate, Timelike, Utc};
use crm_core::schema::{ObjectRef, Value};
use rust_decimal::prelude::ToPrimitive;
use rust_xlsxwriter::{ExcelDateTime, Format, Workbook, Worksheet, XlsxError};

use super::cell::{Formats, Sink};
use super::{Column, ExportError};
use crate::spreadsheet::defuse;

/// The most rows of a sheet, its header included.
const ROWS: u32 = 1_048_576;
/// The most columns of a sheet.
pub(super) const COLUMNS: usize = 16_384;
/// The most characters of a cell, counted in UTF-16.
const CELL: usize = 32_767;
/// How many digits a number of Excel has for sure.
const DIGITS: usize = 15;

/// A workbook: the header stays in sight, numbers, days, moments and booleans are typed cells, and
/// what does not fit on one sheet goes on on the next.
///
/// Excel keeps 15 digits of a number: one with more is written as a text, which keeps all of them.
/// Moments are written in the export's time zone, to the millisecond; days outside of the years
/// 1900 to 9999 are texts.
#[derive(Clone, Debug)]
pub struct Xlsx {
    rows: u32,
}

impl Default for Xlsx {
    fn default() -> Self {
        Self { rows: ROWS }
    }
}

impl Xlsx {
    /// At most this many rows on a sheet, its header included; from 2 to 1,048,576, which is what
    /// Excel holds.
    #[must_use]
    pub fn rows_per_sheet(mut self, rows: u32) -> Self {
        self.rows = rows.clamp(2, ROWS);
        self
    }
}

pub(super) struct XlsxSink<'a, W: Write> {
    formats: &'a Formats,
    workbook: Workbook,
    writer: W,
    /// What the sheets are called.
    name: String,
    sheets: usize,
    /// The next row of the sheet.
    row: u32,
    rows: u32,
    cut: u64,
    bold: Format,
    date: Format,
    timestamp: Format,
}

impl<'a, W: Write> XlsxSink<'a, W> {
    pub(super) fn new(xlsx: &Xlsx, formats: &'a Formats, object: &ObjectRef, writer: W) -> Self {
        let name = object.label().replace(
            |sign: char| "[]:*?/\\'".contains(sign) || sign.is_control(),
            " ",
        );
        Self {
            formats,
            workbook: Workbook::new(),
            writer,
            // A sheet's name has at most 31 characters; the rest is for its number.
            name: name.chars().take(24).collect(),
            sheets: 0,
            row: 0,
            rows: xlsx.rows,
            cut: 0,
            bold: Format::new().set_bold(),
            date: Format::new().set_num_format("yyyy-mm-dd"),
            timestamp: Format::new().set_num_format("yyyy-mm-dd hh:mm:ss"),
        }
    }
}

fn failed(error: XlsxError) -> ExportError {
    match error {
        XlsxError::IoError(error) => ExportError::Io(error),
        other => ExportError::Workbook(Box::new(other)),
    }
}

/// The place of a column; there are fewer than `COLUMNS`.
fn place(column: usize) -> u16 {
    u16::try_from(column).unwrap_or(u16::MAX)
}

impl<W: Write + Send> Sink for XlsxSink<'_, W> {
    fn header(&mut self, columns: &[Column]) -> Result<(), ExportError> {
        if columns.len() > COLUMNS {
            return Err(ExportError::ColumnCount { max: COLUMNS });
        }
        self.sheets += 1;
        let name = match self.sheets {
            1 => self.name.clone(),
            number => format!("{} {number}", self.name),
        };
        let sheet = self
            .workbook
            .add_worksheet_with_constant_memory()
            .map_err(failed)?;
        sheet.set_name(name).map_err(failed)?;
        sheet.set_freeze_panes(1, 0).map_err(failed)?;
        for (index, column) in columns.iter().enumerate() {
            let header: String = defuse(&column.header).chars().take(255).collect();
            sheet
                .write_string_with_format(0, place(index), header, &self.bold)
                .map_err(failed)?;
        }
        self.row = 1;
        Ok(())
    }

    fn row(&mut self, columns: &[Column], values: &[Value]) -> Result<(), ExportError> {
        if self.row >= self.rows {
            self.header(columns)?;
        }
        let (row, last) = (self.row, self.sheets.saturating_sub(1));
        let sheet = self.workbook.worksheet_from_index(last).map_err(failed)?;
        for (index, value) in values.iter().enumerate() {
            let (row, column) = (row, place(index));
            match cell(value, self.formats) {
                Cell::Empty => {}
                Cell::Number(number) => {
                    sheet.write_number(row, column, number).map_err(failed)?;
                }
                Cell::Boolean(value) => {
                    sheet.write_boolean(row, column, value).map_err(failed)?;
                }
                Cell::Day(at) => {
                    let written = sheet.write_datetime_with_format(row, column, at, &self.date);
                    written.map_err(failed)?;
                }
                Cell::Moment(at) => {
                    let format = &self.timestamp;
                    let written = sheet.write_datetime_with_format(row, column, at, format);
                    written.map_err(failed)?;
                }
                Cell::Text(text) => write_text(sheet, row, column, text, &mut self.cut)?,
            }
        }
        self.row += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<u64, ExportError> {
        self.workbook
            .save_to_writer(&mut self.writer)
            .map_err(failed)?;
        self.writer.flush()?;
        Ok(self.cut)
    }
}

/// What a cell holds.
enum Cell {
    Empty,
    Number(f64),
    Boolean(bool),
    Day(ExcelDateTime),
    Moment(ExcelDateTime),
    Text(String),
}

fn cell(value: &Value, formats: &Formats) -> Cell {
    let text = || Cell::Text(defuse(&formats.plain(value)).into_owned());
    match value {
        Value::Null => Cell::Empty,
        Value::Boolean(value) => Cell::Boolean(*value),
        Value::Integer(number) => number_cell(&number.to_string(), number.to_f64()),
        Value::Decimal(number) => {
            let number = number.normalize();
            number_cell(&number.to_string(), number.to_f64())
        }
        Value::Date(date) => day(*date).map_or_else(text, Cell::Day),
        Value::Timestamp(at) => moment(*at, formats).map_or_else(text, Cell::Moment),
        _ => text(),
    }
}

/// A number, or its digits as a text where Excel would lose some of them.
fn number_cell(text: &str, number: Option<f64>) -> Cell {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    match number {
        Some(number) if digits <= DIGITS => Cell::Number(number),
        _ => Cell::Text(defuse(text).into_owned()),
    }
}

fn day(date: NaiveDate) -> Option<ExcelDateTime> {
    let year = u16::try_from(date.year()).ok()?;
    let (month, day) = (
        u8::try_from(date.month()).ok()?,
        u8::try_from(date.day()).ok()?,
    );
    ExcelDateTime::from_ymd(year, month, day).ok()
}

fn moment(at: DateTime<Utc>, formats: &Formats) -> Option<ExcelDateTime> {
    let local = at.with_timezone(&formats.zone).naive_local();
    let (hour, minute) = (
        u16::try_from(local.hour()).ok()?,
        u8::try_from(local.minute()).ok()?,
    );
    // A leap second is the last one of its minute here.
    let milli = (local.nanosecond() / 1_000_000).min(999);
    let second = u8::try_from(local.second()).ok()?;
    let milli = u16::try_from(milli).ok()?;
    day(local.date())?
        .and_hms_milli(hour, minute, second, milli)
        .ok()
}

fn write_text(
    sheet: &mut Worksheet,
    row: u32,
    column: u16,
    mut text: String,
    cut: &mut u64,
) -> Result<(), ExportError> {
    if text.encode_utf16().count() > CELL {
        *cut += 1;
        let mut length = 0;
        let end = text.char_indices().find_map(|(at, sign)| {
            length += sign.len_utf16();
            (length >= CELL).then_some(at)
        });
        text.truncate(end.unwrap_or(text.len()));
        text.push('…');
    }
    sheet.write_string(row, column, text).map_err(failed)?;
    Ok(())
}

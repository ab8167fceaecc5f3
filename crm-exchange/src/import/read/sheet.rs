//! Rows of spreadsheets: XLSX as a stream, XLSB, XLS and ODS sheet by sheet.

use std::io::Read as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use calamine::{Data, ExcelDateTime, Ods, Reader, Xls, Xlsb, Xlsx, XlsxError};
use chrono::{NaiveDate, NaiveDateTime};

use super::{Cell, ReadError, ReadOptions, Rows, TableRow};
use crate::import::source::{Input, Source};

/// How many rows the reading thread may be ahead.
const AHEAD: usize = 256;

/// The most rows and columns of a sheet.
const ROWS: u64 = 1_048_576;
const COLUMNS: usize = 16_384;

/// The rows of one sheet, read by a thread of its own: the reader of a sheet borrows the workbook.
pub(super) struct SheetRows {
    rows: Receiver<Sent>,
    waiting: Option<TableRow>,
    has_ended: bool,
}

/// What the thread sends: rows, then nothing, which is the end. One that dies over a damaged sheet
/// sends no end.
type Sent = Result<Option<TableRow>, ReadError>;

impl SheetRows {
    pub(super) fn open(source: &Source, options: &ReadOptions) -> Result<Self, ReadError> {
        // Fails here and now if the file cannot be opened.
        let input = source.open()?;
        let source = source.clone();
        let sheet = options.sheet.clone();
        let (send, rows) = sync_channel(AHEAD);
        std::thread::Builder::new()
            .name("sheet reader".to_owned())
            .spawn(move || {
                let end = read(input, &source, sheet.as_deref(), &send).map(|()| None);
                // Nobody waits for it where the receiver is gone.
                let _ = send.send(end);
            })?;
        let mut rows = Self {
            rows,
            waiting: None,
            has_ended: false,
        };
        rows.waiting = rows.receive()?;
        Ok(rows)
    }

    fn receive(&mut self) -> Result<Option<TableRow>, ReadError> {
        if self.has_ended {
            return Ok(None);
        }
        let cut_off = |_| damaged("breaks off where it cannot be understood");
        let row = self.rows.recv().map_err(cut_off)??;
        self.has_ended = row.is_none();
        Ok(row)
    }
}

impl Rows for SheetRows {
    fn next_row(&mut self) -> Result<Option<TableRow>, ReadError> {
        match self.waiting.take() {
            Some(row) => Ok(Some(row)),
            None => self.receive(),
        }
    }
}

type Sender = SyncSender<Sent>;

fn damaged(how: &str) -> ReadError {
    ReadError::Spreadsheet(how.to_owned())
}

fn unreadable(error: impl std::error::Error) -> ReadError {
    ReadError::Spreadsheet(error.to_string())
}

fn read(
    input: Box<dyn Input>,
    source: &Source,
    sheet: Option<&str>,
    send: &Sender,
) -> Result<(), ReadError> {
    let refusal = match Xlsx::new(input) {
        Ok(book) => return stream(book, sheet, send),
        Err(refusal) => refusal,
    };
    if let Ok(book) = Xlsb::new(source.open()?) {
        return whole(book, sheet, send);
    }
    if let Ok(book) = Ods::new(source.open()?) {
        return whole(book, sheet, send);
    }
    match Xls::new(source.open()?) {
        Ok(book) => whole(book, sheet, send),
        // It is meant for an XLSX, which is an archive, or a protected one.
        Err(_) if is_archive(source)? || matches!(refusal, XlsxError::Password) => {
            Err(unreadable(refusal))
        }
        Err(error) => Err(unreadable(error)),
    }
}

fn is_archive(source: &Source) -> std::io::Result<bool> {
    let mut start = Vec::new();
    source.open()?.take(2).read_to_end(&mut start)?;
    Ok(start == b"PK")
}

fn chosen(names: &[String], wanted: Option<&str>) -> Result<String, ReadError> {
    let found = match wanted {
        Some(wanted) => names.iter().find(|name| *name == wanted),
        None => names.first(),
    };
    found.cloned().ok_or(ReadError::NoSheet)
}

/// Sends the cells of an XLSX sheet row by row, as they come. Where a cell is is for the file to say:
/// one that is nowhere on a sheet must not fill the memory.
fn stream(
    mut book: Xlsx<Box<dyn Input>>,
    sheet: Option<&str>,
    send: &Sender,
) -> Result<(), ReadError> {
    let sheet = chosen(&book.sheet_names(), sheet)?;
    let mut cells = book.worksheet_cells_reader(&sheet).map_err(unreadable)?;
    let mut row = TableRow {
        number: 0,
        cells: Vec::new(),
    };
    while let Some(cell) = cells.next_cell().map_err(unreadable)? {
        let (at, column) = cell.get_position();
        let number = u64::from(at) + 1;
        if number < row.number || number > ROWS {
            return Err(damaged("has rows that are not in order, or too many"));
        }
        if number > row.number {
            let next = TableRow {
                number,
                cells: Vec::new(),
            };
            let done = std::mem::replace(&mut row, next);
            if done.number > 0 && send.send(Ok(Some(done))).is_err() {
                return Ok(());
            }
        }
        let column = column as usize;
        if column >= COLUMNS {
            return Err(damaged("has a cell beyond the last column"));
        }
        // One that is only formatted holds nothing.
        let cell = typed(&Data::from(cell.get_value().clone()));
        if cell == Cell::Empty {
            continue;
        }
        if row.cells.len() <= column {
            row.cells.resize(column + 1, Cell::Empty);
        }
        if let Some(slot) = row.cells.get_mut(column) {
            *slot = cell;
        }
    }
    if row.number > 0 {
        // Nobody waits for it where the receiver is gone.
        let _ = send.send(Ok(Some(row)));
    }
    Ok(())
}

/// Sends the rows of a sheet that is read at once.
fn whole<B: Reader<Box<dyn Input>>>(
    mut book: B,
    sheet: Option<&str>,
    send: &Sender,
) -> Result<(), ReadError>
where
    B::Error: std::error::Error,
{
    let sheet = chosen(&book.sheet_names(), sheet)?;
    let range = book.worksheet_range(&sheet).map_err(unreadable)?;
    let (first, left) = range.start().unwrap_or_default();
    for (place, cells) in range.rows().enumerate() {
        let before = std::iter::repeat_n(Cell::Empty, left as usize);
        let row = TableRow {
            number: u64::from(first) + place as u64 + 1,
            cells: before.chain(cells.iter().map(typed)).collect(),
        };
        if send.send(Ok(Some(row))).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn typed(data: &Data) -> Cell {
    match data {
        Data::Empty => Cell::Empty,
        Data::String(text) | Data::DateTimeIso(text) | Data::DurationIso(text) => {
            Cell::from(text.as_str())
        }
        Data::Int(number) => Cell::Number(*number as f64),
        Data::Float(number) => Cell::Number(*number),
        Data::Bool(value) => Cell::Boolean(*value),
        Data::DateTime(moment) => moment_of(moment).map_or(Cell::Fault, Cell::Moment),
        Data::Error(_) => Cell::Fault,
    }
}

fn moment_of(moment: &ExcelDateTime) -> Option<NaiveDateTime> {
    if moment.is_duration() {
        return None;
    }
    let (year, month, day, hour, minute, second, milli) = moment.to_ymd_hms_milli();
    NaiveDate::from_ymd_opt(i32::from(year), month.into(), day.into())?.and_hms_milli_opt(
        hour.into(),
        minute.into(),
        second.into(),
        milli.into(),
    )
}

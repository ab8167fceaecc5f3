//! Rows of spreadsheets: XLSX as a stream, XLSB, XLS and ODS sheet by sheet.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use calamine::{Data, ExcelDateTime, Ods, Reader, Xls, Xlsb, Xlsx};
use chrono::{NaiveDate, NaiveDateTime};

use super::{Cell, ReadError, ReadOptions, Rows, TableRow};
use crate::import::source::{Input, Source};

/// How many rows the reading thread may be ahead.
const AHEAD: usize = 256;

/// The rows of one sheet, read by a thread of its own: the reader of a sheet borrows the workbook.
pub(super) struct SheetRows {
    rows: Receiver<Result<TableRow, ReadError>>,
    width: usize,
    waiting: Option<TableRow>,
}

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
                if let Err(error) = read(input, &source, sheet.as_deref(), &send) {
                    // Nobody waits for it where the receiver is gone.
                    let _ = send.send(Err(error));
                }
            })?;
        let mut rows = Self {
            rows,
            width: 0,
            waiting: None,
        };
        rows.waiting = rows.receive()?;
        Ok(rows)
    }

    fn receive(&mut self) -> Result<Option<TableRow>, ReadError> {
        self.rows.recv().ok().transpose()
    }
}

impl Rows for SheetRows {
    fn next_row(&mut self) -> Result<Option<TableRow>, ReadError> {
        let mut row = match self.waiting.take() {
            Some(row) => row,
            None => match self.receive()? {
                Some(row) => row,
                None => return Ok(None),
            },
        };
        // A sheet leaves out empty cells at the end of a row, which is not ragged for that.
        self.width = self.width.max(row.cells.len());
        row.cells.resize(self.width, Cell::Empty);
        Ok(Some(row))
    }
}

type Sender = SyncSender<Result<TableRow, ReadError>>;

fn unreadable(error: impl std::error::Error) -> ReadError {
    ReadError::Spreadsheet(error.to_string())
}

fn read(
    input: Box<dyn Input>,
    source: &Source,
    sheet: Option<&str>,
    send: &Sender,
) -> Result<(), ReadError> {
    if let Ok(book) = Xlsx::new(input) {
        return stream(book, sheet, send);
    }
    if let Ok(book) = Xlsb::new(source.open()?) {
        return whole(book, sheet, send);
    }
    if let Ok(book) = Ods::new(source.open()?) {
        return whole(book, sheet, send);
    }
    let book = Xls::new(source.open()?).map_err(unreadable)?;
    whole(book, sheet, send)
}

fn chosen(names: &[String], wanted: Option<&str>) -> Result<String, ReadError> {
    let found = match wanted {
        Some(wanted) => names.iter().find(|name| *name == wanted),
        None => names.first(),
    };
    found.cloned().ok_or(ReadError::NoSheet)
}

/// Sends the cells of an XLSX sheet row by row, as they come.
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
        if number != row.number {
            let next = TableRow {
                number,
                cells: Vec::new(),
            };
            let done = std::mem::replace(&mut row, next);
            if done.number > 0 && send.send(Ok(done)).is_err() {
                return Ok(());
            }
        }
        let column = column as usize;
        if row.cells.len() <= column {
            row.cells.resize(column + 1, Cell::Empty);
        }
        if let Some(slot) = row.cells.get_mut(column) {
            *slot = typed(&Data::from(cell.get_value().clone()));
        }
    }
    if row.number > 0 {
        // Nobody waits for it where the receiver is gone.
        let _ = send.send(Ok(row));
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
        if send.send(Ok(row)).is_err() {
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

//! Rows of text files with a delimiter.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use csv::{Reader, ReaderBuilder, StringRecord};
use encoding_rs::{Encoding, UTF_8};

use super::decode::Decoded;
use super::{Cell, ReadError, ReadOptions, Rows, TableRow, sniff};
use crate::import::source::{Input, Inspection, Source};
use crate::spreadsheet::undefuse;

/// How much of a text is looked at to find its delimiter.
const SAMPLE: u64 = 1 << 16;

pub(super) struct TextRows {
    reader: Reader<Decoded<Box<dyn Input>>>,
    given: Arc<AtomicUsize>,
    record: StringRecord,
    number: u64,
    /// Whether all of the file can be decoded.
    is_sound: bool,
}

impl TextRows {
    pub(super) fn open(
        source: &Source,
        options: &ReadOptions,
        inspection: &Inspection,
    ) -> Result<Self, ReadError> {
        let encoding = match &options.encoding {
            Some(name) => Encoding::for_label(name.as_bytes()).ok_or(ReadError::UnknownEncoding)?,
            None => inspection.encoding,
        };
        let mut sample = Vec::new();
        Decoded::new(source.open()?, encoding)
            .take(SAMPLE)
            .read_to_end(&mut sample)?;
        let is_cut = sample.len() as u64 == SAMPLE;
        let mut sample = String::from_utf8_lossy(&sample).into_owned();
        if is_cut && let Some(end) = sample.rfind('\n') {
            sample.truncate(end + 1);
        }
        let (found, is_said) = sniff::delimiter(&sample);
        let delimiter = match options.delimiter {
            Some(stated) => u8::try_from(stated)
                .ok()
                .filter(u8::is_ascii)
                .ok_or(ReadError::Delimiter)?,
            None => found,
        };
        let decoded = Decoded::new(source.open()?, encoding);
        let given = decoded.given();
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .from_reader(decoded);
        let mut rows = Self {
            reader,
            given,
            record: StringRecord::new(),
            number: 0,
            is_sound: encoding == UTF_8 && inspection.is_utf8,
        };
        if is_said {
            rows.next_row()?;
        }
        Ok(rows)
    }
}

impl Rows for TextRows {
    fn next_row(&mut self) -> Result<Option<TableRow>, ReadError> {
        self.given.store(0, Ordering::Relaxed);
        let more = self.reader.read_record(&mut self.record);
        let more = more.map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) => error,
            _ => std::io::Error::from(std::io::ErrorKind::InvalidData),
        })?;
        if !more {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some(TableRow {
            number: self.number,
            // Files that the engine writes have an apostrophe in front of what would be a formula.
            cells: self
                .record
                .iter()
                .map(|text| cell(undefuse(text), self.is_sound))
                .collect(),
        }))
    }
}

/// U+FFFD stands for what could not be decoded, unless the file really has it.
fn cell(text: &str, is_sound: bool) -> Cell {
    if !is_sound && text.contains(char::REPLACEMENT_CHARACTER) {
        Cell::Garbled(text.to_owned())
    } else {
        Cell::from(text)
    }
}

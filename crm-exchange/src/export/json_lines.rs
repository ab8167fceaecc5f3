//! One JSON object a line.

use std::io::Write;

use crm_core::schema::Value;
use serde::ser::{SerializeMap, Serializer};

use super::cell::Sink;
use super::{Column, ExportError};

pub(super) struct JsonSink<W: Write> {
    writer: W,
}

impl<W: Write> JsonSink<W> {
    pub(super) const fn new(writer: W) -> Self {
        Self { writer }
    }
}

impl<W: Write + Send> Sink for JsonSink<W> {
    fn header(&mut self, _columns: &[Column]) -> Result<(), ExportError> {
        Ok(())
    }

    fn row(&mut self, columns: &[Column], values: &[Value]) -> Result<(), ExportError> {
        let mut line = Vec::new();
        let mut json = serde_json::Serializer::new(&mut line);
        let mut map = json
            .serialize_map(Some(columns.len()))
            .map_err(std::io::Error::from)?;
        for (column, value) in columns.iter().zip(values) {
            map.serialize_entry(&column.path, value)
                .map_err(std::io::Error::from)?;
        }
        map.end().map_err(std::io::Error::from)?;
        line.push(b'\n');
        Ok(self.writer.write_all(&line)?)
    }

    fn finish(mut self: Box<Self>) -> Result<u64, ExportError> {
        self.writer.flush()?;
        Ok(0)
    }
}

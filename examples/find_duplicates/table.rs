//! Any CSV file as rows of an object without a Rust type.

use std::path::PathBuf;
use std::sync::Arc;

use crm_engine::schema::{
    Dynamic, FieldSchema, FieldType, Meta, ObjectRef, ObjectSchema, Row, Value,
};
use crm_engine::{Actor, Stamp};
use uuid::Uuid;

use super::Failure;

/// The rows of one or two files.
pub(crate) struct Table {
    object: ObjectRef,
    ids: Vec<String>,
    rows: Vec<Row>,
    /// Where the rows of the second file begin.
    second: Option<usize>,
}

impl Table {
    /// Reads the files, which have the same columns; spaces around names and values are taken away.
    pub(crate) fn read(files: &[PathBuf], id: Option<&str>) -> Result<Self, Failure> {
        let mut table: Option<Self> = None;
        let mut columns = Vec::new();
        for path in files {
            let mut reader = csv::ReaderBuilder::new()
                .trim(csv::Trim::All)
                .flexible(true)
                .from_path(path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            let names: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
            let table = match &mut table {
                Some(_) if names != columns => {
                    return Err("the two files have different columns".into());
                }
                Some(table) => {
                    table.second = Some(table.rows.len());
                    table
                }
                None => {
                    columns.clone_from(&names);
                    table.insert(Self::new(&names))
                }
            };
            let place = match id {
                Some(id) => names.iter().position(|name| name == id),
                None => Some(0),
            };
            let place = place.ok_or_else(|| {
                let columns = names.join(", ");
                format!(
                    "{}: there is no such id column; there are {columns}",
                    path.display()
                )
            })?;
            for record in reader.records() {
                let record = record.map_err(|error| format!("{}: {error}", path.display()))?;
                table.ids.push(record.get(place).unwrap_or("").to_owned());
                let value = |place| match record.get(place) {
                    None | Some("") => Value::Null,
                    Some(text) => Value::from(text),
                };
                let values = (0..names.len()).map(value).collect();
                table.push(values);
            }
        }
        table.ok_or_else(|| "there is no file".into())
    }

    fn new(columns: &[String]) -> Self {
        let builder = columns
            .iter()
            .fold(ObjectSchema::builder("row", "rows"), |builder, name| {
                let text = FieldType::multiline();
                builder.field(FieldSchema::new(name.clone(), text))
            });
        Self {
            object: builder.build(),
            ids: Vec::new(),
            rows: Vec::new(),
            second: None,
        }
    }

    fn push(&mut self, values: Vec<Value>) {
        let stamp = Stamp {
            at: chrono::DateTime::UNIX_EPOCH,
            by: Actor::System,
        };
        let meta = Meta::first(Uuid::from_u128(self.rows.len() as u128), stamp);
        let row = Dynamic::new(self.object.clone(), meta, values);
        self.rows.push(Arc::new(row));
    }

    pub(crate) const fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// The id of the row at a place.
    pub(crate) fn id(&self, place: usize) -> &str {
        self.ids.get(place).map_or("", String::as_str)
    }

    /// The rows of the first file, and those of the second.
    pub(crate) fn rows(&self) -> (Vec<Row>, Option<Vec<Row>>) {
        match self.second {
            Some(second) => {
                let (first, others) = self.rows.split_at(second);
                (first.to_vec(), Some(others.to_vec()))
            }
            None => (self.rows.clone(), None),
        }
    }
}

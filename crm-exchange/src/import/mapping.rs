//! [`Mapping`]: which column goes into which field, and how it is read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::parse::{ColumnFormat, plain};

/// Which columns of a file go into which fields of an object. It is plain JSON when it is kept or
/// edited by hand.
///
/// ```
/// use crm_exchange::import::Mapping;
///
/// let mapping: Mapping = serde_json::from_value(serde_json::json!({
///     "object": "deal",
///     "columns": [
///         {"column": "Deal", "field": "name"},
///         {"column": "Betrag", "field": "amount", "format": {"decimal": "comma"}},
///         {"column": "Firma", "field": "account_id", "lookup": {"by": "name", "create_missing": true}},
///         {"column": "Region", "field": "custom_fields.region"},
///     ],
///     "constants": {"currency": "EUR"},
/// }))?;
/// assert_eq!(mapping.columns.len(), 4);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The object by its name.
    pub object: String,
    /// The columns that are imported; others are left alone.
    pub columns: Vec<ColumnMapping>,
    /// Values of new records, by field, where no cell says one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub constants: BTreeMap<String, serde_json::Value>,
}

/// Where one column goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnMapping {
    /// The column by its header.
    pub column: String,
    /// The field by its name; a member of a document as in `custom_fields.region`; [`FULL_NAME`] for
    /// a column with the whole name of a person.
    pub field: String,
    /// How its cells are written.
    #[serde(default, skip_serializing_if = "is_default")]
    pub format: ColumnFormat,
    /// How the record is found that the cells of a reference name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup: Option<Lookup>,
    /// What an empty cell means.
    #[serde(default, skip_serializing_if = "is_default")]
    pub empty: EmptyCell,
}

/// The name of the column that is split into a given and a family name.
pub const FULL_NAME: &str = "full_name";

/// How a referenced record is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// The field of the other object that the cells hold: `id`, `name`, `email`, any other text
    /// field, a member such as `custom_fields.erp_number`, or [`FULL_NAME`].
    pub by: String,
    /// Whether a record that is not there is created with just that field, if that is enough for it.
    #[serde(default)]
    pub create_missing: bool,
}

/// What an empty cell means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyCell {
    /// Nothing: the field of a known record stays as it is, a new one has its default.
    #[default]
    Leave,
    /// The field is emptied, or gets its default.
    Clear,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Mapping {
    /// A mapping of no column yet.
    #[must_use]
    pub fn new(object: impl Into<String>) -> Self {
        Self {
            object: object.into(),
            columns: Vec::new(),
            constants: BTreeMap::new(),
        }
    }

    /// Adds a column.
    #[must_use]
    pub fn column(mut self, column: impl Into<String>, field: impl Into<String>) -> Self {
        self.columns.push(ColumnMapping::new(column, field));
        self
    }
}

impl Mapping {
    /// Calls its columns as these headers call them.
    pub(crate) fn adopt(&mut self, headers: &[String]) {
        for column in &mut self.columns {
            let place = column_at(headers, &column.column);
            if let Some(header) = place.and_then(|place| headers.get(place)) {
                column.column.clone_from(header);
            }
        }
    }
}

impl ColumnMapping {
    /// A column whose format is found in the file.
    #[must_use]
    pub fn new(column: impl Into<String>, field: impl Into<String>) -> Self {
        Self {
            column: column.into(),
            field: field.into(),
            format: ColumnFormat::default(),
            lookup: None,
            empty: EmptyCell::Leave,
        }
    }
}

/// The place of the column that a mapping names: by its header as it stands there or, where none stands
/// there so, by the only one that differs in case and signs alone.
fn column_at(headers: &[String], name: &str) -> Option<usize> {
    let exact = headers.iter().position(|header| header == name);
    exact.or_else(|| {
        let name = plain(name);
        let mut alike = (0..).zip(headers).filter(|(_, own)| plain(own) == name);
        match (alike.next(), alike.next()) {
            (Some((place, _)), None) if !name.is_empty() => Some(place),
            _ => None,
        }
    })
}

/// The fingerprint of a file's form: files with the same headers, in whatever order and case, have
/// the same.
#[must_use]
pub fn headers_fingerprint(headers: &[String]) -> String {
    let mut headers: Vec<String> = headers.iter().map(|header| plain(header)).collect();
    headers.sort_unstable();
    let digest = Sha256::digest(headers.join("\u{1f}").as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

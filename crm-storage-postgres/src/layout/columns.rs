//! [`Column`]: the columns that hold a field's values, and their types.

use crm_core::schema::{FieldSchema, FieldType, StorageKind};

/// The greatest length of a varchar.
const VARCHAR: u32 = 10_485_760;

/// What a column holds of its field's values. All but the values themselves are worked out by the
/// library, so that all backends agree, and can be looked up under row-level security, where an
/// index serves only operators that are leakproof: those of `text` and `double precision` are, those
/// of `numeric`, and functions such as `lower()`, are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// The value itself.
    Value,
    /// The text with its case folded.
    Folded,
    /// The decimal number as the nearest floating-point number: what narrows a search down, before
    /// the number itself decides.
    Rounded,
}

/// A column of a table besides `tenant_id` and the search vector.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Its name, as it is in the catalog.
    pub(crate) name: String,
    /// Its name as it stands in SQL.
    pub(crate) sql: String,
    /// The field whose values it holds, by its place in the schema.
    pub(crate) field: usize,
    /// What it holds of the field's values.
    pub(crate) holds: Holds,
    /// How the values are held.
    pub(crate) kind: StorageKind,
    /// The column's type, with its collation.
    pub(crate) sql_type: String,
    /// Whether the column may be null.
    pub(crate) nullable: bool,
}

/// Whether the full-text vector of a row holds a field.
pub(crate) fn is_searched(field: &FieldSchema) -> bool {
    field.searchable && field.storage_kind() == StorageKind::Text
}

/// The column type of a field type.
pub(super) fn sql_type(field_type: &FieldType) -> String {
    match field_type.storage_kind() {
        StorageKind::Text => match field_type.max_length() {
            Some(length) if length <= VARCHAR => format!("varchar({length}) COLLATE \"C\""),
            _ => "text COLLATE \"C\"".to_owned(),
        },
        StorageKind::Integer => "bigint".to_owned(),
        StorageKind::Decimal => match field_type {
            FieldType::Decimal {
                precision, scale, ..
            } => format!("numeric({precision},{scale})"),
            // Percentages have two decimals.
            _ => "numeric(5,2)".to_owned(),
        },
        StorageKind::Boolean => "boolean".to_owned(),
        StorageKind::Date => "date".to_owned(),
        StorageKind::Timestamp => "timestamptz".to_owned(),
        StorageKind::Uuid => "uuid".to_owned(),
        StorageKind::List => "text[] COLLATE \"C\"".to_owned(),
        StorageKind::Json => "jsonb".to_owned(),
    }
}

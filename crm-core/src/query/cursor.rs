//! [`Cursor`]: where a page ends.

use std::fmt::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::{QueryError, SortKey};
use crate::schema::{ObjectRef, Row, Value};

/// Where a page ends: the sort values of its last record, in one opaque text.
///
/// It carries no authority. The session, the filter and the tenant are applied again on every
/// page, so that a cursor of another tenant leads to nothing but a place in one's own records. It
/// holds values of the sorted fields: treat it like the records themselves.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

#[derive(Serialize, Deserialize)]
struct Position {
    /// The object and sort that the position belongs to.
    sort: String,
    values: Vec<Value>,
}

impl Cursor {
    /// The text, for a URL or an API.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The place of `row` in the order of `sort`.
    pub(crate) fn at(object: &ObjectRef, row: &Row, sort: &[SortKey]) -> Self {
        let position = Position {
            sort: signature(object, sort),
            values: sort
                .iter()
                .map(|key| object.read(&**row, key.index, |value| value.into_owned()))
                .collect(),
        };
        // Values always have a JSON form.
        let json = serde_json::to_vec(&position).unwrap_or_default();
        Self(URL_SAFE_NO_PAD.encode(json))
    }

    /// The sort values, if the cursor belongs to a query over `object` in the order of `sort`.
    ///
    /// # Errors
    /// [`QueryError::Cursor`].
    pub(crate) fn position(
        &self,
        object: &ObjectRef,
        sort: &[SortKey],
    ) -> Result<Vec<Value>, QueryError> {
        let json = URL_SAFE_NO_PAD
            .decode(&self.0)
            .map_err(|_| QueryError::Cursor)?;
        let position: Position = serde_json::from_slice(&json).map_err(|_| QueryError::Cursor)?;
        if position.sort != signature(object, sort) || position.values.len() != sort.len() {
            return Err(QueryError::Cursor);
        }
        sort.iter()
            .zip(position.values)
            .map(|(key, value)| {
                let field = object.placed(key.index).ok_or(QueryError::Cursor)?;
                field
                    .field_type
                    .coerce(value)
                    .map_err(|_| QueryError::Cursor)
            })
            .collect()
    }
}

fn signature(object: &ObjectRef, sort: &[SortKey]) -> String {
    let mut text = object.name().to_owned();
    for key in sort {
        let sign = if key.descending { '-' } else { '+' };
        // A custom field by its definition, since another may take over its name.
        let _ = match object.custom_at(key.index) {
            Some(custom) => write!(text, "{sign}{}", custom.id),
            None => write!(text, "{sign}{}", object.field_name(key.index)),
        };
    }
    text
}

impl From<String> for Cursor {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cursor(..)")
    }
}

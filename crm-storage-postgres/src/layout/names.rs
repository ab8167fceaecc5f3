//! Names and texts as they stand in SQL.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The most bytes PostgreSQL keeps of a name.
pub(crate) const NAME_BYTES: usize = 63;

/// The most bytes of the name of a constraint or index: a distributed table adds `_<number>` to it.
const MADE_NAME_BYTES: usize = 52;

/// A name as it stands in SQL: quoted, so that no name can be anything but a name.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as it stands in DDL. Never for values: those are bound.
pub(crate) fn literal(text: &str) -> String {
    if text.contains('\\') {
        let escaped = text.replace('\\', "\\\\").replace('\'', "''");
        format!(" E'{escaped}'")
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// The name of a constraint or index, by the one rule for all of them: the table, the columns, what
/// it is. A name that would be too long keeps its beginning and gets a fingerprint of the whole.
pub(crate) fn constraint_name(table: &str, columns: &[&str], suffix: &str) -> String {
    let mut name = table.to_owned();
    for column in columns {
        name.push('_');
        name.push_str(column);
    }
    name.push('_');
    name.push_str(suffix);
    shortened(name, MADE_NAME_BYTES)
}

/// The name itself, or its beginning with a fingerprint where it would be too long.
pub(super) fn shortened(name: String, most: usize) -> String {
    if name.len() <= most {
        return name;
    }
    let digest = Sha256::digest(name.as_bytes());
    let mut fingerprint = String::new();
    for byte in digest.iter().take(5) {
        let _ = write!(fingerprint, "{byte:02x}");
    }
    let mut end = most - fingerprint.len() - 1;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}_{fingerprint}", name.get(..end).unwrap_or_default())
}

//! Custom fields: members of documents that a tenant gave a type.
//!
//! A member is read as its kind where it has the one form in which values of that kind are stored,
//! and is no value otherwise: a document may hold anything, and no document may make a statement
//! fail. So each cast is guarded by a pattern that lets through nothing the cast would refuse.
//!
//! A member cannot be looked up by an index under row-level security, where operators on documents
//! use none. Those of indexed custom fields have typed rows of their own
//! ([`typed_values`]), which narrow a search down; the document decides.

use std::fmt::Write as _;

use crm_core::query::{Comparison, CustomMember};
use crm_core::schema::{ObjectRef, StorageKind, TypedValue, Value, typed_values};

use super::Statement;
use super::value::rounded;
use crate::layout::{Column, Table, Tables};

/// The days of the years 1 to 9999.
macro_rules! day {
    () => {
        "(([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)-\
         ((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)\
         |02-(0[1-9]|1[0-9]|2[0-8]))\
         |([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29)"
    };
}

const DAY: &str = concat!("^", day!(), "$");
const MOMENT: &str = concat!(
    "^",
    day!(),
    "T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9][.][0-9]{6}Z$"
);
const ID: &str = "^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$";
const DECIMAL: &str = "^-?[0-9]{1,28}([.][0-9]{1,28})?$";

/// A member of a document as SQL of its kind. `path` is the member as a document.
fn typed(path: &str, kind: StorageKind) -> String {
    let text = format!("{path} #>> '{{}}'");
    let of_text = |pattern: &str, sql_type: &str| {
        format!(
            "(CASE WHEN jsonb_typeof({path}) = 'string' AND ({text}) ~ '{pattern}' \
             THEN ({text})::{sql_type} END)"
        )
    };
    match kind {
        StorageKind::Text => {
            format!("(CASE WHEN jsonb_typeof({path}) = 'string' THEN {text} END) COLLATE \"C\"")
        }
        StorageKind::Boolean => {
            format!("(CASE WHEN jsonb_typeof({path}) = 'boolean' THEN ({path})::boolean END)")
        }
        StorageKind::Integer => format!(
            "(CASE WHEN jsonb_typeof({path}) = 'number' THEN CASE WHEN scale(({path})::numeric) = 0 \
             AND ({path})::numeric BETWEEN {} AND {} THEN ({path})::bigint END END)",
            i64::MIN,
            i64::MAX
        ),
        StorageKind::Decimal => format!(
            "(CASE WHEN jsonb_typeof({path}) IN ('string', 'number') AND ({text}) ~ '{DECIMAL}' \
             AND length(translate({text}, '-.', '')) <= 28 THEN ({text})::numeric END)"
        ),
        StorageKind::Date => of_text(DAY, "date"),
        StorageKind::Timestamp => of_text(MOMENT, "timestamptz"),
        StorageKind::Uuid => of_text(ID, "uuid"),
        StorageKind::List => format!(
            "(CASE WHEN jsonb_typeof({path}) = 'array' THEN ARRAY(SELECT x.entry #>> '{{}}' \
             FROM jsonb_array_elements({path}) AS x(entry) \
             WHERE jsonb_typeof(x.entry) = 'string') END)"
        ),
        StorageKind::Json => {
            format!("(CASE WHEN jsonb_typeof({path}) <> 'null' THEN {path} END)")
        }
    }
}

/// Where the values of a field stand that rows are compared, sorted, grouped or computed by.
#[derive(Clone, Debug)]
pub(super) enum Source<'t> {
    /// In a column.
    Column(&'t Column),
    /// In a document.
    Custom {
        /// The document's column.
        document: &'t Column,
        /// The placeholder of the member's name.
        key: String,
        /// How the values are held.
        kind: StorageKind,
    },
}

impl<'t> Source<'t> {
    /// The field at a place of the object, which may be that of a custom field.
    pub(super) fn at(
        statement: &mut Statement,
        table: &'t Table,
        object: &ObjectRef,
        place: usize,
    ) -> Option<Self> {
        if let Some(custom) = object.custom_at(place) {
            let document = object.custom_document()?;
            return Self::custom(
                statement,
                table,
                document,
                &custom.key,
                custom.field.storage_kind(),
            );
        }
        table.column(place).map(Self::Column)
    }

    /// A member of a document; `None` where no document can have it.
    pub(super) fn custom(
        statement: &mut Statement,
        table: &'t Table,
        document: usize,
        key: &str,
        kind: StorageKind,
    ) -> Option<Self> {
        let document = table.column(document)?;
        if document.kind != StorageKind::Json || key.contains('\0') {
            return None;
        }
        let key = statement.argument(key);
        Some(Self::Custom {
            document,
            key,
            kind,
        })
    }

    /// How the values are held.
    pub(super) const fn kind(&self) -> StorageKind {
        match self {
            Self::Column(column) => column.kind,
            Self::Custom { kind, .. } => *kind,
        }
    }

    /// Whether rows may lack a value.
    pub(super) const fn is_nullable(&self) -> bool {
        match self {
            Self::Column(column) => column.nullable,
            Self::Custom { .. } => true,
        }
    }

    /// The values as SQL.
    pub(super) fn sql(&self, alias: &str) -> String {
        match self {
            Self::Column(column) => format!("{alias}.{}", column.sql),
            Self::Custom {
                document,
                key,
                kind,
            } => typed(&format!("({alias}.{} -> {key}::text)", document.sql), *kind),
        }
    }
}

/// What is known of a custom value that is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known<'v> {
    /// How it compares with some values: with any of them, where it is equal.
    Compared(Comparison, &'v [Value]),
    /// That it begins with a folded text, and the least text behind all that do.
    Begins(&'v str),
}

/// What follows for an index from what is known of an indexed custom field: ends in ` AND `, or is
/// empty where nothing follows.
pub(super) fn narrowed(
    statement: &mut Statement,
    tables: &Tables,
    alias: &str,
    custom: &CustomMember,
    known: Known<'_>,
) -> String {
    if !custom.indexed {
        return String::new();
    }
    let Some(values) = tables.named(typed_values::OBJECT) else {
        return String::new();
    };
    let place = |name: &str| values.object.field_index(name);
    let column = |name: &str| Some(format!("m.{}", values.column(place(name)?)?.sql));
    let (Some(record), Some(field), Some(text), Some(number)) = (
        column(typed_values::RECORD),
        column(typed_values::FIELD),
        column(typed_values::TEXT),
        // Numbers are looked up by their rounded form, which has leakproof operators.
        place(typed_values::NUMBER)
            .and_then(|place| values.rounded(place))
            .map(|column| format!("m.{}", column.sql)),
    ) else {
        return String::new();
    };
    let Some(test) = test(statement, &text, &number, known) else {
        return String::new();
    };
    let own = statement.own(&values, "m");
    let id = statement.argument(custom.field);
    format!(
        "{alias}.\"id\" IN (SELECT {record} FROM {} AS m WHERE {own} AND {field} = {id} AND {test}) \
         AND ",
        values.sql
    )
}

/// The typed rows of a reference, to join with what it leads to and from: by the ids of both, which a
/// planner under row-level security takes to an index, as it does not what it reads from documents.
pub(super) struct Joined {
    /// What to read from, with a comma behind it; empty where no typed rows serve the field.
    pub(super) from: String,
    /// The test, which ends in ` AND `.
    pub(super) test: String,
}

/// The typed rows of a reference of the records `referring`, to the records `referred`.
pub(super) fn joined(
    statement: &mut Statement,
    tables: &Tables,
    custom: Option<&CustomMember>,
    (referring, referred): (&str, &str),
) -> Joined {
    let none = Joined {
        from: String::new(),
        test: String::new(),
    };
    let custom = custom.filter(|custom| custom.indexed && custom.kind == StorageKind::Uuid);
    let Some((custom, values)) = custom.zip(tables.named(typed_values::OBJECT)) else {
        return none;
    };
    // Each is of its own pair.
    let alias = format!("m_{referring}_{referred}");
    let column = |name: &str| {
        let column = values.column(values.object.field_index(name)?)?;
        Some(format!("{alias}.{}", column.sql))
    };
    let (Some(record), Some(field), Some(target)) = (
        column(typed_values::RECORD),
        column(typed_values::FIELD),
        column(typed_values::TARGET),
    ) else {
        return none;
    };
    let own = statement.own(&values, &alias);
    let id = statement.argument(custom.field);
    Joined {
        from: format!("{} AS {alias}, ", values.sql),
        test: format!(
            "{own} AND {field} = {id} AND {record} = {referring}.\"id\" \
             AND {target} = {referred}.\"id\" AND "
        ),
    }
}

/// The test of the typed row.
fn test(statement: &mut Statement, text: &str, number: &str, known: Known<'_>) -> Option<String> {
    let (op, values) = match known {
        Known::Begins(prefix) => {
            let prefix = TypedValue::cut(prefix);
            if prefix.is_empty() || prefix.contains('\0') {
                return None;
            }
            let behind = super::condition::behind_prefix(&prefix)?;
            let (from, to) = (statement.argument(prefix), statement.argument(behind));
            return Some(format!("{text} >= {from} AND {text} < {to}"));
        }
        Known::Compared(op, values) => (op, values),
    };
    let (mut texts, mut numbers) = (Vec::new(), Vec::new());
    for value in values {
        match TypedValue::of(&value.as_ref())? {
            TypedValue::Text(text) if text.contains('\0') => return None,
            TypedValue::Text(text) => texts.push(text),
            TypedValue::Number(number) => numbers.push(rounded(number)),
        }
    }
    let op = match op {
        Comparison::Ne => return None,
        Comparison::Eq => "=",
        Comparison::Lt | Comparison::Le => "<=",
        Comparison::Gt | Comparison::Ge => ">=",
    };
    let mut test = String::new();
    let _ = match (texts.as_slice(), numbers.as_slice()) {
        // Folded texts are in an order of their own.
        ([_, ..], []) if op != "=" => return None,
        ([one], []) => write!(test, "{text} = {}", statement.argument(one.as_str())),
        ([_, ..], []) => write!(test, "{text} = ANY({})", statement.argument(texts)),
        ([], [one]) => write!(test, "{number} {op} {}", statement.argument(*one)),
        ([], [_, ..]) if op == "=" => {
            write!(test, "{number} = ANY({})", statement.argument(numbers))
        }
        _ => return None,
    };
    Some(test)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_are_plain_text() {
        for pattern in [DAY, MOMENT, ID, DECIMAL] {
            assert!(
                !pattern.contains('\'') && !pattern.contains('\\'),
                "{pattern}"
            );
            assert!(!pattern.contains(char::is_whitespace), "{pattern}");
        }
    }
}

//! The derived rows of indexed members: how they are written and read.
//!
//! A member of a document cannot be looked up under row-level security, where operators on
//! documents use no index. So each indexed member of a record has a row with its value in a column
//! of its own. These rows only narrow a search down; the document decides. That is why long texts
//! may be cut and numbers rounded.

use std::fmt::Write as _;

use crm_core::query::Comparison;
use crm_core::schema::{Row, Value, ValueRef};
use crm_core::storage::Claim;
use serde_json::Value as Json;
use uuid::Uuid;

use super::Statement;
use super::value::rounded;
use crate::layout::{Member, Table, Tables};

/// How many characters of a text are kept.
const CHARACTERS: usize = 200;

/// The value of a member as its derived row has it.
#[derive(Clone, Debug, PartialEq)]
enum Key {
    Text(String),
    Number(f64),
    Boolean(bool),
}

impl Key {
    fn of_json(json: &Json) -> Option<Self> {
        match json {
            Json::String(text) => Some(Self::Text(cut(text))),
            Json::Number(number) => number.as_f64().map(Self::Number),
            Json::Bool(value) => Some(Self::Boolean(*value)),
            _ => None,
        }
    }

    fn of_value(value: &Value) -> Option<Self> {
        match value.as_ref() {
            ValueRef::Text(text) if !text.contains('\0') => Some(Self::Text(cut(text))),
            ValueRef::Boolean(value) => Some(Self::Boolean(value)),
            value => value.as_decimal().map(rounded).map(Self::Number),
        }
    }

    /// The columns of many keys, bound: three arrays.
    fn columns<'k>(statement: &mut Statement, keys: impl Iterator<Item = &'k Self>) -> String {
        let (mut texts, mut numbers, mut booleans) = (Vec::new(), Vec::new(), Vec::new());
        for key in keys {
            let (text, number, boolean) = match key {
                Self::Text(text) => (Some(text.as_str()), None, None),
                Self::Number(number) => (None, Some(*number), None),
                Self::Boolean(value) => (None, None, Some(*value)),
            };
            texts.push(text);
            numbers.push(number);
            booleans.push(boolean);
        }
        let arrays = [
            statement.argument(texts),
            statement.argument(numbers),
            statement.argument(booleans),
        ];
        arrays.join(", ")
    }

    const fn column(&self) -> &'static str {
        match self {
            Self::Text(_) => "text_value",
            Self::Number(_) => "number_value",
            Self::Boolean(_) => "boolean_value",
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(CHARACTERS).collect()
}

/// The derived rows that a commit writes and removes.
#[derive(Debug, Default)]
pub(crate) struct MemberRows {
    /// Object, path, record.
    gone: Vec<(String, String, Uuid)>,
    new: Vec<(String, String, Uuid, Key)>,
}

impl MemberRows {
    /// What follows from a record that becomes `after`, and was `before`.
    pub(crate) fn change(&mut self, table: &Table, before: Option<&Row>, after: Option<&Row>) {
        for member in &table.members {
            let key = |row: Option<&Row>| -> Option<Key> {
                match row?.value(member.field) {
                    ValueRef::Json(json) => json.get(&member.name).and_then(Key::of_json),
                    _ => None,
                }
            };
            let (old, new) = (key(before), key(after));
            if old == new {
                continue;
            }
            let Some(id) = after.or(before).map(|row| row.id()) else {
                continue;
            };
            let (object, path) = (table.object.name(), &member.path);
            if old.is_some() {
                self.gone.push((object.to_owned(), path.clone(), id));
            }
            if let Some(new) = new {
                self.new.push((object.to_owned(), path.clone(), id, new));
            }
        }
    }

    /// Writes the rows of a record anew, whatever there is.
    pub(crate) fn renew(&mut self, table: &Table, row: &Row) {
        for member in &table.members {
            let gone = (
                table.object.name().to_owned(),
                member.path.clone(),
                row.id(),
            );
            self.gone.push(gone);
        }
        self.change(table, None, Some(row));
    }

    /// The CTEs that remove and write the rows, each with its beginning, in this order.
    pub(crate) fn ctes(&self, statement: &mut Statement, members: &Table) -> Vec<String> {
        let mut ctes = Vec::new();
        if !self.gone.is_empty() {
            let objects: Vec<&str> = self.gone.iter().map(|row| row.0.as_str()).collect();
            let paths: Vec<&str> = self.gone.iter().map(|row| row.1.as_str()).collect();
            let ids: Vec<Uuid> = self.gone.iter().map(|row| row.2).collect();
            let own = statement.own(members, "t");
            ctes.push(format!(
                "(DELETE FROM {} AS t USING unnest({}, {}, {}) AS v(object, path, record_id) \
                 WHERE {own} AND t.\"object\" = v.object AND t.\"path\" = v.path \
                 AND t.\"record_id\" = v.record_id RETURNING 1)",
                members.sql,
                statement.argument(objects),
                statement.argument(paths),
                statement.argument(ids),
            ));
        }
        if !self.new.is_empty() {
            let objects: Vec<&str> = self.new.iter().map(|row| row.0.as_str()).collect();
            let paths: Vec<&str> = self.new.iter().map(|row| row.1.as_str()).collect();
            let ids: Vec<Uuid> = self.new.iter().map(|row| row.2).collect();
            let tenant = statement.tenant().to_owned();
            ctes.push(format!(
                "(INSERT INTO {} (\"tenant_id\", \"object\", \"path\", \"record_id\", \
                 \"text_value\", \"number_value\", \"boolean_value\") \
                 SELECT {tenant}, v.* FROM unnest({}, {}, {}, {}) \
                 AS v(object, path, record_id, text_value, number_value, boolean_value) RETURNING 1)",
                members.sql,
                statement.argument(objects),
                statement.argument(paths),
                statement.argument(ids),
                Key::columns(statement, self.new.iter().map(|row| &row.3)),
            ));
        }
        ctes
    }
}

/// The CTEs that write the derived rows of a claim which assigns documents, the same to all rows of
/// the CTE `taken`; and the condition that makes them run, one after the other.
pub(super) fn claimed(
    statement: &mut Statement,
    tables: &Tables,
    table: &Table,
    claim: &Claim,
) -> &'static str {
    let mut paths: Vec<&str> = Vec::new();
    let mut new: Vec<(&str, Key)> = Vec::new();
    for member in &table.members {
        let assigned = claim
            .assign
            .iter()
            .find(|(index, _)| *index == member.field);
        let Some((_, value)) = assigned else { continue };
        paths.push(&member.path);
        if let Value::Json(json) = value
            && let Some(key) = json.get(&member.name).and_then(Key::of_json)
        {
            new.push((&member.path, key));
        }
    }
    if paths.is_empty() {
        return "";
    }
    let members = tables.members();
    let own = statement.own(&members, "t");
    let tenant = statement.tenant().to_owned();
    let object = statement.argument(table.object.name());
    let gone = statement.argument(paths);
    let _ = write!(
        statement.text,
        ", gone AS (DELETE FROM {table} AS t USING taken WHERE {own} AND t.\"object\" = {object} \
         AND t.\"path\" = ANY({gone}) AND t.\"record_id\" = taken.\"id\" RETURNING 1)",
        table = members.sql
    );
    let names: Vec<&str> = new.iter().map(|(path, _)| *path).collect();
    let names = statement.argument(names);
    let values = Key::columns(statement, new.iter().map(|(_, key)| key));
    let _ = write!(
        statement.text,
        ", fresh AS (INSERT INTO {table} (\"tenant_id\", \"object\", \"path\", \"record_id\", \
         \"text_value\", \"number_value\", \"boolean_value\") \
         SELECT {tenant}, {object}, v.path, taken.\"id\", v.text_value, v.number_value, \
         v.boolean_value FROM taken CROSS JOIN unnest({names}, {values}) \
         AS v(path, text_value, number_value, boolean_value) RETURNING 1)",
        table = members.sql
    );
    " AND CASE WHEN (SELECT count(*) FROM gone) < 0 THEN false \
     WHEN (SELECT count(*) FROM fresh) < 0 THEN false ELSE true END"
}

/// What follows from the comparison of an indexed member, for an index: ends in ` AND `, or is
/// empty where nothing follows.
pub(super) fn narrowed(
    statement: &mut Statement,
    tables: &Tables,
    table: &Table,
    alias: &str,
    member: &Member,
    op: Comparison,
    values: &[Value],
) -> String {
    let keys: Option<Vec<Key>> = values.iter().map(Key::of_value).collect();
    let Some(keys) = keys else {
        return String::new();
    };
    let Some(column) = keys.first().map(Key::column) else {
        return String::new();
    };
    if keys.iter().any(|key| key.column() != column) {
        return String::new();
    }
    let op = match op {
        Comparison::Ne => return String::new(),
        Comparison::Lt | Comparison::Le => "<=",
        Comparison::Gt | Comparison::Ge => ">=",
        Comparison::Eq => "=",
    };
    let members = tables.members();
    let own = statement.own(&members, "m");
    let object = statement.argument(table.object.name());
    let path = statement.argument(member.path.as_str());
    let mut sql = format!(
        "{alias}.\"id\" IN (SELECT m.\"record_id\" FROM {} AS m WHERE {own} \
         AND m.\"object\" = {object} AND m.\"path\" = {path} AND m.\"{column}\" {op} ",
        members.sql
    );
    let argument = match keys.as_slice() {
        [Key::Text(text)] => statement.argument(text.as_str()),
        [Key::Number(number)] => statement.argument(*number),
        [Key::Boolean(value)] => statement.argument(*value),
        several => {
            let many = match column {
                "text_value" => {
                    let texts: Vec<&str> = several
                        .iter()
                        .filter_map(|key| match key {
                            Key::Text(text) => Some(text.as_str()),
                            _ => None,
                        })
                        .collect();
                    statement.argument(texts)
                }
                "number_value" => {
                    let numbers: Vec<f64> = several
                        .iter()
                        .filter_map(|key| match key {
                            Key::Number(number) => Some(*number),
                            _ => None,
                        })
                        .collect();
                    statement.argument(numbers)
                }
                _ => {
                    let values: Vec<bool> = several
                        .iter()
                        .filter_map(|key| match key {
                            Key::Boolean(value) => Some(*value),
                            _ => None,
                        })
                        .collect();
                    statement.argument(values)
                }
            };
            format!("ANY({many})")
        }
    };
    let _ = write!(sql, "{argument}) AND ");
    sql
}

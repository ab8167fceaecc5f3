//! A row on its way: its values, what was found about it, and its keys.

use std::borrow::Cow;

use crm_core::imports::{RowFault, RowOutcome, RowResult};
use crm_core::query::fold_case;
use crm_core::schema::{Row, Value};
use serde_json::Value as Json;
use uuid::Uuid;

use super::plan::{Key, ParsedRow, Plan, Reference};

/// A row on its way.
pub(super) struct Candidate<'r> {
    pub(super) row: &'r ParsedRow,
    pub(super) values: Vec<(usize, Value)>,
    pub(super) constants: Vec<(usize, Value)>,
    /// Names of records to create first: the place of the column, and the text.
    pub(super) missing: Vec<(usize, String)>,
    pub(super) before: Option<Row>,
    pub(super) faults: Vec<RowFault>,
    /// The record that the row doubles, and the reason.
    pub(super) double: Option<(Option<Uuid>, RowFault)>,
    pub(super) taken: Vec<u128>,
    pub(super) freed: Vec<u128>,
}

pub(super) fn result_of(
    row: &ParsedRow,
    outcome: RowOutcome,
    record: Option<Uuid>,
    faults: Vec<RowFault>,
) -> RowResult {
    RowResult {
        number: row.number,
        outcome,
        record,
        faults,
        related: Vec::new(),
    }
}

/// A row's fault that concerns no single column.
pub(super) fn row_fault(code: &str, message: impl Into<String>) -> RowFault {
    RowFault {
        column: None,
        field: None,
        code: code.to_owned(),
        message: message.into(),
    }
}

impl<'r> Candidate<'r> {
    pub(super) fn new(row: &'r ParsedRow) -> Self {
        Self {
            row,
            values: row.values.clone(),
            constants: row.constants.clone(),
            missing: Vec::new(),
            before: None,
            faults: row.faults.clone(),
            double: None,
            taken: Vec::new(),
            freed: Vec::new(),
        }
    }

    /// Sets a reference.
    pub(super) fn set(&mut self, reference: &Reference, id: Value, is_constant: bool) {
        let values = if is_constant {
            &mut self.constants
        } else {
            &mut self.values
        };
        reference.set(values, id);
    }

    /// The values of the row, with the constants where it is to be a new record.
    pub(super) fn given(&self, is_new: bool) -> Cow<'_, [(usize, Value)]> {
        if !is_new || self.constants.is_empty() {
            return Cow::Borrowed(&self.values);
        }
        let mut values = self.values.clone();
        for (index, constant) in &self.constants {
            let known = values.iter_mut().find(|(known, _)| known == index);
            match (known, constant) {
                (None, constant) => values.push((*index, constant.clone())),
                // The members of a document that no cell says.
                (Some((_, Value::Json(Json::Object(own)))), Value::Json(Json::Object(more))) => {
                    for (name, value) in more {
                        own.entry(name.clone()).or_insert_with(|| value.clone());
                    }
                }
                (Some(_), _) => {}
            }
        }
        Cow::Owned(values)
    }

    /// The record that the row makes, as far as it can be told before any rule runs.
    pub(super) fn draft(&self, plan: &Plan) -> Row {
        plan.draft(self.before.as_ref(), &self.given(self.before.is_none()))
    }

    pub(super) fn doubles_row(&mut self, row: u64) {
        if self.double.is_none() {
            let message = format!("row {row} of the file has the same key");
            self.double = Some((None, row_fault("duplicate_in_file", message)));
        }
    }
}

impl Key {
    /// The value of a stored record in the key, in the form in which values are compared.
    pub(super) fn value_of(&self, row: &Row) -> Option<Value> {
        let value = self.field.value(&**row);
        (!value.is_null()).then(|| self.fold(value))
    }

    fn fold(&self, value: Value) -> Value {
        match value {
            Value::Text(text) if self.field.ignore_case => Value::Text(fold_case(&text)),
            value => value,
        }
    }
}

/// The values of a row in the keys; `None` where one is missing.
pub(super) fn key_values(keys: &[Key], values: &[(usize, Value)]) -> Option<Vec<Value>> {
    let value = |key: &Key| {
        let (_, value) = values.iter().find(|(index, _)| *index == key.field.index)?;
        let value = match (&key.field.member, value) {
            (None, value) => value.clone(),
            (Some(_), Value::Json(json)) => key.field.member_of(json),
            (Some(_), _) => return None,
        };
        (!value.is_null()).then(|| key.fold(value))
    };
    keys.iter().map(value).collect()
}

pub(super) fn joined(values: &[Value]) -> String {
    let texts: Vec<Json> = values.iter().map(Value::to_json).collect();
    Json::Array(texts).to_string()
}

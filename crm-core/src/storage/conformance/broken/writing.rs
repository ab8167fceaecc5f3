//! Defects in what is stored of a row.

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::super::naive::State;
use super::{BrokenStorage, Defect};
use crate::record::{Actor, Stamp};
use crate::schema::{FieldSchema, FieldType, Meta, Row, Value};
use crate::storage::{Change, Scope};

/// A number as a binary fraction holds it.
pub(super) fn float(number: Decimal) -> Decimal {
    number
        .to_f64()
        .and_then(|float| Decimal::try_from(float).ok())
        .unwrap_or(number)
}

impl BrokenStorage {
    /// The change as the defect lets it be stored.
    pub(super) fn distorted(&self, state: &State, scope: &Scope, change: &Change) -> Change {
        let Some(after) = change.after() else {
            return change.clone();
        };
        let old = state.find(scope, after.object().name(), after.id());
        let values: Vec<Value> = after
            .object()
            .own_fields()
            .iter()
            .zip(after.values())
            .enumerate()
            .map(|(place, (field, value))| {
                let index = place + crate::schema::SYSTEM_FIELDS;
                let before = old.as_ref().map(|old| old.value(index).into_owned());
                self.distorted_value(field, value, before)
            })
            .collect();
        let meta = self.distorted_meta(after.meta());
        let row: Row = after
            .with_values(meta, values)
            .unwrap_or_else(|_| after.clone());
        let row = self.distorted_seal(change, old.as_ref(), row);
        match change {
            Change::Update { before, .. } => Change::Update {
                before: before.clone(),
                after: row,
            },
            _ => Change::Insert { row },
        }
    }

    fn distorted_meta(&self, meta: Meta) -> Meta {
        let by = |stamp: Stamp| match stamp.by {
            Actor::Anonymous => Stamp {
                by: Actor::System,
                ..stamp
            },
            _ => stamp,
        };
        match self.defect {
            Defect::LosesAnonymity => Meta {
                created: by(meta.created),
                updated: by(meta.updated),
                ..meta
            },
            Defect::ForgetsUpdates => Meta {
                updated: meta.created,
                ..meta
            },
            _ => meta,
        }
    }

    fn distorted_value(&self, field: &FieldSchema, value: Value, before: Option<Value>) -> Value {
        match (self.defect, value) {
            (Defect::KeepsMilliseconds, Value::Timestamp(at)) => {
                Value::Timestamp(chrono::SubsecRound::trunc_subsecs(at, 3))
            }
            (Defect::DecimalsAsFloats, Value::Decimal(number)) => Value::Decimal(float(number)),
            (Defect::IntegersAsFloats, Value::Integer(number)) => {
                Value::Integer(number as f64 as i64)
            }
            (Defect::EmptyListsAreNull, Value::List(entries))
                if entries.is_empty() && !field.required =>
            {
                Value::Null
            }
            (Defect::CutsLongTexts, Value::Text(text)) => {
                Value::Text(text.chars().take(255).collect())
            }
            (Defect::LowersEmails, Value::Text(text)) if field.field_type == FieldType::Email => {
                Value::Text(text.to_lowercase())
            }
            (Defect::MergesDocuments, Value::Json(document)) => match before {
                Some(Value::Json(mut old)) => {
                    json_patch::merge(&mut old, &document);
                    Value::Json(old)
                }
                _ => Value::Json(document),
            },
            (Defect::CannotEmptyFields, Value::Null) => before.unwrap_or_default(),
            (_, value) => value,
        }
    }
}

//! [`Local`]: what follows from one record alone, and the rules between its fields.

use std::borrow::Cow;
use std::sync::Arc;

use crm_core::error::{Faults, FieldError};
use crm_core::expression::{Context, Problem, RowValues, Typed, Values as _};
use crm_core::schema::CustomWrite;
use crm_core::value::TimeZone;
use serde_json::Value as Json;

use super::program::{Kind, Node};
use super::set_member;

/// The code of a record that breaks a rule between its fields.
const BROKEN: &str = "rule_broken";

/// The formulas over the record itself and the rules of one object.
#[derive(Debug)]
pub(crate) struct Local {
    /// Each behind those that it follows from.
    pub(super) formulas: Vec<Arc<Node>>,
    pub(super) rules: Vec<Rule>,
    pub(super) zone: TimeZone,
}

impl Default for Local {
    fn default() -> Self {
        Self {
            formulas: Vec::new(),
            rules: Vec::new(),
            zone: TimeZone::UTC,
        }
    }
}

/// What must be true between the fields of a record.
#[derive(Debug)]
pub(super) struct Rule {
    /// The field that is at fault.
    pub(super) path: String,
    pub(super) name: String,
    pub(super) message: String,
    pub(super) condition: Typed,
}

impl Local {
    /// Computes the formulas into the document that is about to be written, and judges it by the
    /// rules.
    pub(crate) fn run(
        &self,
        write: &CustomWrite<'_>,
        document: &mut Cow<'_, Json>,
        faults: &mut Faults,
    ) {
        let context = Context::at(write.now, self.zone);
        for node in &self.formulas {
            let Kind::Formula(typed) = &node.kind else {
                continue;
            };
            let values = RowValues::new(write.after).with_document(write.document, document);
            let value = typed.evaluate(&values, &context);
            let value = value.map_err(|error| error.problem);
            let value = value.and_then(|datum| node.stored_datum(datum));
            // Why there is none is explained on request.
            let value = value.unwrap_or_default();
            if document.get(&*node.key) != value.as_ref() {
                set_member(document.to_mut(), &node.key, value);
            }
        }
        let values = RowValues::new(write.after).with_document(write.document, document);
        for rule in &self.rules {
            let is_due = write.before.is_none_or(|before| {
                let before = RowValues::new(before);
                let mut fields = rule.condition.dependencies().iter();
                fields.any(|field| before.value(field) != values.value(field))
            });
            if !is_due {
                continue;
            }
            match rule.condition.decide(&values, &context) {
                Ok(Some(false)) => {
                    let fault = FieldError::new(&*rule.path, BROKEN, rule.message.clone());
                    faults.push(fault.with("rule", rule.name.clone()));
                }
                Ok(_) => {}
                Err(error) => faults.push(unanswered(rule, error.problem)),
            }
        }
    }
}

/// A rule without an answer accepts nothing.
fn unanswered(rule: &Rule, problem: Problem) -> FieldError {
    let message = format!("the rule cannot be answered: {}", problem.message());
    FieldError::new(&*rule.path, problem.code(), message).with("rule", rule.name.clone())
}

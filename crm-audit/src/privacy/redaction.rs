//! How values go from events: the one place that writes into the trail.

use crm_core::Record;
use crm_core::engine::UnitOfWork;
use crm_core::error::Result;
use crm_core::schema::{Row, Value};
use serde_json::{Value as Json, json};

use crate::event::{AuditEvent, AuditKind, Changes, FieldChange};
use crate::mask::MASK;

/// The only member of what stands for an erased value.
const ERASED: &str = "erased";

/// Whether a value of the trail was erased.
///
/// ```
/// use crm_core::schema::Value;
///
/// assert!(crm_audit::is_erased(&Value::Json(serde_json::json!({"erased": ""}))));
/// assert!(!crm_audit::is_erased(&Value::from("erased")));
/// ```
#[must_use]
pub fn is_erased(value: &Value) -> bool {
    match value {
        Value::Json(Json::Object(members)) => members.len() == 1 && members.contains_key(ERASED),
        _ => false,
    }
}

/// Whether there is anything to erase at the fields that `fields` says yes to.
pub(super) fn tells(event: &AuditEvent, fields: &dyn Fn(&FieldChange) -> bool) -> bool {
    let says = |value: Option<&Value>| {
        value.is_some_and(|value| {
            !value.is_null() && *value != Value::Text(MASK.to_owned()) && !is_erased(value)
        })
    };
    event.changes.iter().any(|change| {
        // What stands for an erased value is none; values that follow from others may still tell.
        let is_left = event.event != AuditKind::Erase || change.field.contains('.');
        is_left && fields(change) && (says(change.old.as_ref()) || says(change.new.as_ref()))
    })
}

/// Erases values from an event: those of the fields that `fields` says yes to, and where the caller
/// was.
pub(super) fn redact(
    work: &mut UnitOfWork,
    event: &std::sync::Arc<Record<AuditEvent>>,
    fields: impl Fn(&str) -> bool,
) -> Result<usize> {
    let mut values = 0;
    let mut side = |value: &Value| {
        if value.is_null() || *value == Value::Text(MASK.to_owned()) || is_erased(value) {
            return value.clone();
        }
        values += 1;
        Value::Json(json!({ ERASED: "" }))
    };
    let changes: Vec<FieldChange> = event
        .changes
        .iter()
        .map(|change| match fields(&change.field) {
            true => FieldChange {
                field: change.field.clone(),
                old: change.old.as_ref().map(&mut side),
                new: change.new.as_ref().map(&mut side),
            },
            false => change.clone(),
        })
        .collect();
    let mut after = (**event).clone();
    after.data.changes = Changes::from(changes);
    after.data.session_id = None;
    after.data.ip = None;
    after.data.user_agent = None;
    let before: Row = event.clone();
    let after: Row = std::sync::Arc::new(after);
    work.erase_row(before, &after);
    Ok(values)
}

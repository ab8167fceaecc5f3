//! What the trail tells of a tenant's keys: that one was made, retired, wrapped anew or removed, and
//! nothing of the key.

use crm_core::schema::{AnyRecord, Entity as _, Privacy, Value};
use crm_core::storage::Change;
use uuid::Uuid;

use super::DataKey;
use crate::event::{AuditCategory, AuditEvent, AuditKind, Changes, FieldChange};

/// The event of a change of a stored key.
pub(super) fn event(commit: Uuid, salt: Uuid, change: &Change) -> AuditEvent {
    let (before, after) = (change.before(), change.after());
    let kind = match (before, after) {
        (None, _) => AuditKind::Create,
        (Some(_), Some(_)) => AuditKind::Update,
        (Some(_), None) => AuditKind::Purge,
    };
    let version = match (before, after) {
        (_, Some(after)) => after.version(),
        (Some(before), None) => before.version().saturating_add(1),
        (None, None) => 1,
    };
    let category = AuditCategory::Configuration;
    let object = DataKey::schema().name();
    let mut event = AuditEvent::new(commit, kind, category, object, change.id(), version);
    event.changes = changes(before.map(|row| &**row), after.map(|row| &**row));
    event.salt = Some(salt);
    event
}

/// The public fields in which a key differs.
fn changes(before: Option<&dyn AnyRecord>, after: Option<&dyn AnyRecord>) -> Changes {
    let mut changes = Vec::new();
    for (index, field) in DataKey::schema().fields().iter().enumerate() {
        if field.system || field.privacy != Privacy::Public {
            continue;
        }
        let side = |row: Option<&dyn AnyRecord>| -> Option<Value> {
            row.map(|row| row.value(index).into_owned())
        };
        let (old, new) = (side(before), side(after));
        let is_filled = |side: &Option<Value>| side.as_ref().is_some_and(|value| !value.is_null());
        let is_told = match (&old, &new) {
            (Some(old), Some(new)) => old != new,
            _ => is_filled(&old) || is_filled(&new),
        };
        if is_told {
            let field = field.name.clone();
            changes.push(FieldChange { field, old, new });
        }
    }
    changes.into()
}

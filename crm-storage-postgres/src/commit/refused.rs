//! What a refusal of the server means in terms of objects and fields.

use crm_core::storage::StorageError;

use super::plan::Plan;
use super::{conflict, failed};
use crate::error::{Constraint, Refusal};
use crate::layout::{Table, Tables};

/// What the server's refusal means in terms of objects and fields.
pub(super) fn explain(tables: &Tables, plan: &Plan<'_>, refusal: Refusal) -> StorageError {
    match refusal {
        Refusal::Conflict => plan
            .versions()
            .next()
            .map(|(object, id, _)| conflict(object, id))
            .unwrap_or_else(|| failed("a commit was refused without a reason")),
        Refusal::Referred(row) => match row.rsplit_once(' ') {
            Some((object, id)) => StorageError::Conflict {
                object: object.to_owned(),
                id: id.parse().unwrap_or_default(),
            },
            None => failed("a commit was refused without a reason"),
        },
        Refusal::Reference(number) => {
            let referring = number
                .parse()
                .ok()
                .and_then(|n: usize| plan.references.get(n));
            match referring {
                Some(referring) => StorageError::Reference {
                    object: referring.object.name().to_owned(),
                    field: referring.object.field_name(referring.field).to_owned(),
                },
                None => failed("a commit was refused without a reason"),
            }
        }
        Refusal::Removed(number) => {
            let removed = plan.removed();
            match number.parse().ok().and_then(|n: usize| removed.get(n)) {
                Some(removed) => StorageError::Referenced {
                    object: removed.target.to_owned(),
                    by: removed.object.name().to_owned(),
                    field: removed.object.field_name(removed.field).to_owned(),
                },
                None => failed("a commit was refused without a reason"),
            }
        }
        Refusal::Unique(name) => {
            for changed in &plan.objects {
                if let Some(error) = duplicate(&tables.of(&changed.object), &name) {
                    return error;
                }
            }
            // Partitions have names of their own.
            plan.objects
                .iter()
                .find(|changed| name.is_of(changed.object.table()))
                .map_or_else(
                    || failed("a unique index refused the row"),
                    |changed| StorageError::Duplicate {
                        object: changed.object.name().to_owned(),
                        fields: vec!["id".to_owned()],
                    },
                )
        }
        Refusal::ForeignKey(name) => {
            for table in tables.all() {
                let found = table.foreign_keys.iter().find(|key| name.is(&key.name));
                let Some(key) = found else { continue };
                let field = table.object.field_name(key.field).to_owned();
                let removed = plan.objects.iter().any(|changed| {
                    changed.object.name() == key.target && !changed.deletes.is_empty()
                });
                return if removed {
                    StorageError::Referenced {
                        object: key.target.clone(),
                        by: table.object.name().to_owned(),
                        field,
                    }
                } else {
                    StorageError::Reference {
                        object: table.object.name().to_owned(),
                        field,
                    }
                };
            }
            failed("a foreign key refused the row")
        }
        Refusal::Fault(fault) => fault.into(),
    }
}

pub(super) fn duplicate(table: &Table, constraint: &Constraint) -> Option<StorageError> {
    let object = &table.object;
    let unique = table
        .uniques
        .iter()
        .find(|unique| constraint.is(&unique.name));
    let fields = match unique {
        Some(unique) => object.names(&object.unique_keys().get(unique.key)?.fields),
        None if constraint.is(&table.primary_key_name()) => vec!["id".to_owned()],
        None => return None,
    };
    Some(StorageError::Duplicate {
        object: object.name().to_owned(),
        fields,
    })
}

pub(super) fn broken(plan: &Plan<'_>) -> StorageError {
    match &plan.broken {
        Some(StorageError::Reference { object, field }) => StorageError::Reference {
            object: object.clone(),
            field: field.clone(),
        },
        _ => failed("a reference leads nowhere"),
    }
}

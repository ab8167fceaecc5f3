//! Unique values that change hands within one commit.

use std::collections::HashMap;

use crm_core::schema::{FieldType, ObjectRef, Row, Value, system};
use crm_core::storage::unique_value;
use uuid::Uuid;

use super::plan::Plan;
use crate::layout::{Table, quoted};

/// Rows that must give up a unique value before others take it.
#[derive(Debug)]
pub(super) struct Release<'a> {
    pub(super) object: &'a ObjectRef,
    pub(super) key: usize,
    pub(super) ids: Vec<Uuid>,
}

impl Plan<'_> {
    /// The unique values that one row of the commit gives up and another takes.
    pub(super) fn releases(&self) -> Vec<Release<'_>> {
        let mut releases = Vec::new();
        for changed in &self.objects {
            let moves = changed.updates.len() + changed.deletes.len();
            if moves == 0 || moves + changed.inserts.len() < 2 {
                continue;
            }
            for (place, key) in changed.object.unique_keys().iter().enumerate() {
                let mut given: HashMap<Vec<HashableValue>, Uuid> = HashMap::new();
                let mut taken: Vec<Vec<HashableValue>> = Vec::new();
                let value = |row: &Row| unique_value(key, &**row);
                for (before, after) in &changed.updates {
                    let (old, new) = (value(before), value(after));
                    if old == new {
                        continue;
                    }
                    if let Some(old) = old {
                        given.insert(hashable(old), before.id());
                    }
                    taken.extend(new.map(hashable));
                }
                for before in &changed.deletes {
                    if let Some(old) = value(before) {
                        given.insert(hashable(old), before.id());
                    }
                }
                for row in &changed.inserts {
                    taken.extend(value(row).map(hashable));
                }
                let mut ids: Vec<Uuid> = taken
                    .iter()
                    .filter_map(|value| given.get(value))
                    .copied()
                    .collect();
                ids.sort_unstable();
                ids.dedup();
                if !ids.is_empty() {
                    releases.push(Release {
                        object: &changed.object,
                        key: place,
                        ids,
                    });
                }
            }
        }
        releases
    }
}

/// The assignments that take a row's values out of a unique key for the rest of the transaction,
/// until the commit's statement writes them as they shall be.
pub(super) fn set_aside(table: &Table, key: usize) -> Option<String> {
    let key = table.object.unique_keys().get(key)?;
    if key.live {
        // The row hides behind its own time of creation.
        let deleted = table.column(system::DELETED_AT)?;
        return Some(format!("{} = t.{}", deleted.sql, quoted("created_at")));
    }
    if let Some(flag) = key.only_if {
        return Some(format!("{} = false", table.column(flag)?.sql));
    }
    let optional = key
        .fields
        .iter()
        .find(|field| table.column(**field).is_some_and(|column| column.nullable));
    let Some(optional) = optional else {
        // An id that nobody has, where nothing says what it leads to.
        let is_free = |field: &&usize| {
            let schema = table.object.fields().get(**field);
            schema.is_some_and(|field| field.field_type == FieldType::Uuid)
        };
        let mut free = key.fields.iter().filter(is_free);
        let column = free.find_map(|field| {
            table
                .column(*field)
                .filter(|c| table.lead() != Some(&*c.name))
        })?;
        return Some(format!("{} = gen_random_uuid()", column.sql));
    };
    let columns: Vec<String> = table
        .columns
        .iter()
        .filter(|column| column.field == *optional)
        .map(|column| format!("{} = NULL", column.sql))
        .collect();
    Some(columns.join(", "))
}

/// A value of a unique key as the key of a map: equal values are equal texts.
pub(super) type HashableValue = String;

pub(super) fn hashable(values: Vec<Value>) -> Vec<HashableValue> {
    values
        .iter()
        .map(|value| value.to_json().to_string())
        .collect()
}

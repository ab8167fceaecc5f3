//! Unique values that are taken, where several objects of a commit lie in one table.

use std::collections::HashSet;

use crm_core::query::{Comparison, Condition, FieldAt, Query};
use crm_core::schema::{Row, UniqueKey, Value, system};
use crm_core::storage::{Scope, StorageError, unique_value};
use sqlx::PgConnection;
use uuid::Uuid;

use super::plan::Plan;
use super::refused::duplicate;
use super::release::hashable;
use crate::error::Constraint;
use crate::layout::Tables;
use crate::sql::select;

/// Which of several objects in one table has the unique values that a row has already: the server
/// only names the index. `None` where no two objects of the commit share a table.
pub(super) async fn find_taken(
    connection: &mut PgConnection,
    tables: &Tables,
    scope: &Scope,
    plan: &Plan<'_>,
    name: &Constraint,
) -> Result<Option<StorageError>, sqlx::Error> {
    let sharing = plan.sharing(tables, name);
    if sharing.len() < 2 {
        return Ok(None);
    }
    for changed in sharing {
        let table = tables.of(&changed.object);
        let updates = changed.updates.iter().map(|(_, after)| *after);
        let afters: Vec<&Row> = changed.inserts.iter().copied().chain(updates).collect();
        let removed = changed.deletes.iter().map(|row| row.id());
        let written: Vec<Uuid> = afters.iter().map(|row| row.id()).chain(removed).collect();
        let unique = table.uniques.iter().find(|unique| name.is(&unique.name));
        let key = unique.and_then(|unique| changed.object.unique_keys().get(unique.key));
        let mut seen = HashSet::new();
        let mut taken = Vec::new();
        let mut is_twice = false;
        match key {
            Some(key) => {
                for row in &afters {
                    let Some(values) = unique_value(key, &***row) else {
                        continue;
                    };
                    taken.push(same_values(key, &values));
                    is_twice |= !seen.insert(hashable(values));
                }
                let others = Condition::In {
                    field: FieldAt::new(system::ID),
                    values: written.into_iter().map(Value::Uuid).collect(),
                };
                taken = vec![Condition::Or(taken).and(Condition::Not(Box::new(others)))];
            }
            // The primary key.
            None => {
                let inserted = changed.inserts.iter().map(|row| row.id());
                taken.push(Condition::In {
                    field: FieldAt::new(system::ID),
                    values: inserted.map(Value::Uuid).collect(),
                });
            }
        }
        let mut query = Query::new(&changed.object, Condition::Or(taken));
        query.limit = 1;
        let statement = select::select(tables, &table, scope, &query);
        let is_taken = is_twice
            || match statement {
                Some(statement) => !statement.fetch(connection).await?.is_empty(),
                None => false,
            };
        if is_taken {
            return Ok(duplicate(&table, name));
        }
    }
    Ok(None)
}

/// That a row counts in a unique key with these values.
fn same_values(key: &UniqueKey, values: &[Value]) -> Condition {
    let mut all = Condition::all();
    for (index, value) in key.fields.iter().zip(values) {
        let mut field = FieldAt::new(*index);
        field.ignore_case = key.ignore_case;
        all = all.and(Condition::Compare {
            field,
            op: Comparison::Eq,
            value: value.clone(),
        });
    }
    if key.live {
        all = all.and(Condition::not_deleted());
    }
    match key.only_if {
        Some(flag) => all.and(Condition::equals(flag, Value::Boolean(true))),
        None => all,
    }
}

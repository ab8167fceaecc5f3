//! What is stored beside what a commit expected, or wrote.

use std::collections::HashMap;

use crm_core::schema::{Lifecycle, ObjectRef};
use crm_core::storage::{Scope, StorageError};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::conflict;
use super::plan::{Changed, Plan};
use crate::layout::Tables;
use crate::sql::write;

/// The first row of the commit that is not at the version that it should be.
pub(super) async fn find_conflict(
    connection: &mut PgConnection,
    tables: &Tables,
    scope: &Scope,
    plan: &Plan<'_>,
) -> Result<Option<StorageError>, sqlx::Error> {
    let mut wanted: Vec<(&ObjectRef, Vec<Uuid>)> = Vec::new();
    for (object, id, _) in plan.versions() {
        match wanted.iter_mut().find(|(other, _)| *other == object) {
            Some((_, ids)) => ids.push(id),
            None => wanted.push((object, vec![id])),
        }
    }
    let mut stored: HashMap<(&str, Uuid), i64> = HashMap::new();
    for (object, ids) in &wanted {
        for row in write::versions(scope, &tables.of(object), ids)
            .fetch(connection)
            .await?
        {
            stored.insert((object.name(), row.try_get(0)?), row.try_get(1)?);
        }
    }
    Ok(plan
        .versions()
        .find(|(object, id, version)| stored.get(&(object.name(), *id)) != Some(version))
        .map(|(object, id, _)| conflict(object, id)))
}

/// Whether a commit that was sent before, and whose answer was lost, was applied; `None` where what
/// is stored now cannot tell, because others have changed it since.
pub(crate) async fn is_applied(
    connection: &mut PgConnection,
    tables: &Tables,
    scope: &Scope,
    plan: &Plan<'_>,
) -> Result<Option<bool>, sqlx::Error> {
    // Entries of logs, such as audit events, never change: they tell for certain.
    let has_entries = |changed: &&Changed<'_>| {
        changed.object.lifecycle() == Lifecycle::Log && !changed.inserts.is_empty()
    };
    let log = plan.objects.iter().find(has_entries);
    let (mut unknown, mut any) = (false, false);
    for changed in log.map_or(&*plan.objects, std::slice::from_ref) {
        let table = tables.of(&changed.object);
        let afters = changed
            .inserts
            .iter()
            .copied()
            .chain(changed.updates.iter().map(|(_, after)| *after));
        let ids: Vec<Uuid> = afters
            .clone()
            .chain(changed.deletes.iter().copied())
            .map(|row| row.id())
            .collect();
        let rows = write::versions(scope, &table, &ids)
            .fetch(connection)
            .await?;
        let mut stored = HashMap::new();
        for row in rows {
            stored.insert(row.try_get::<Uuid, _>(0)?, stamp_of(&row)?);
        }
        for row in afters {
            let written = (row.version(), row.meta().updated.at);
            match stored.get(&row.id()) {
                Some(found) if *found == written => any = true,
                Some((version, _)) if *version > row.version() => unknown = true,
                // Updated, and removed since.
                None if row.version() > 1 => unknown = true,
                _ => return Ok(Some(false)),
            }
        }
        if changed
            .deletes
            .iter()
            .any(|row| stored.contains_key(&row.id()))
        {
            return Ok(Some(false));
        }
    }
    // A commit is applied whole or not at all: one row of it proves all.
    Ok(if unknown && !any {
        None
    } else {
        Some(!plan.objects.is_empty())
    })
}

fn stamp_of(row: &PgRow) -> Result<(i64, chrono::DateTime<chrono::Utc>), sqlx::Error> {
    Ok((row.try_get(1)?, row.try_get(2)?))
}

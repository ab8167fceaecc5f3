//! Rows in the place of stored ones that say the same in another form.

use std::sync::Arc;

use crm_core::schema::Row;
use crm_core::storage::Scope;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::Failure;
use super::plan::BATCH;
use super::refused::duplicate;
use crate::error::Refusal;
use crate::layout::{Table, Tables};
use crate::sql::write;

/// Replaces the stored rows of the same id and version, all in one transaction, and gives how many
/// there were.
///
/// # Errors
/// A unique value that another row has; what the server says.
pub(crate) async fn reseal(
    connection: &mut PgConnection,
    tables: &Tables,
    scope: &Scope,
    rows: &[Row],
) -> Result<usize, Failure> {
    let mut by_object: Vec<(Arc<Table>, Vec<&Row>)> = Vec::new();
    for row in rows {
        match by_object
            .iter_mut()
            .find(|(table, _)| table.object == *row.object())
        {
            Some((_, all)) => all.push(row),
            None => by_object.push((tables.of(row.object()), vec![row])),
        }
    }
    // What has no personal values has nothing to seal.
    by_object.retain(|(table, _)| table.sealed().is_some());
    // Rows are locked in the order in which commits lock them.
    by_object.sort_by(|(one, _), (other, _)| one.object.name().cmp(other.object.name()));
    let mut transaction = connection.begin().await.map_err(Failure::Server)?;
    let mut replaced = 0;
    for (table, rows) in &by_object {
        for rows in rows.chunks(BATCH) {
            let statement = write::reseal(scope, table, rows);
            let counted = statement.fetch(&mut transaction).await;
            let counted = counted.map_err(|error| refused(table, error))?;
            for row in &counted {
                let count: i64 = row.try_get(0).map_err(Failure::Server)?;
                replaced += usize::try_from(count).unwrap_or_default();
            }
        }
    }
    transaction.commit().await.map_err(Failure::Server)?;
    Ok(replaced)
}

fn refused(table: &Table, error: sqlx::Error) -> Failure {
    let taken = match Refusal::of(&error) {
        Refusal::Unique(name) => duplicate(table, &name),
        _ => None,
    };
    taken.map_or(Failure::Server(error), Failure::Refused)
}

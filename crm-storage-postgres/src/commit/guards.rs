//! What the rows of a commit have to be like, with all changes applied.

use std::sync::Arc;

use crm_core::schema::Value;
use crm_core::storage::{GUARD_PAGE, Guard, Scope, StorageError};
use sqlx::PgConnection;

use super::conflict;
use crate::decode;
use crate::layout::Tables;
use crate::sql::select;

/// What the rows of a commit have to be like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guards<'a> {
    pub(super) tables: &'a Tables,
    pub(super) scope: &'a Scope,
    pub(super) all: &'a [Arc<dyn Guard>],
}

impl Guards<'_> {
    /// The first row that a guard refuses, in the transaction of the commit: each statement looks
    /// with a snapshot of its own, so it sees what others committed while this one waited.
    pub(super) async fn refused(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<StorageError>, sqlx::Error> {
        for guard in self.all {
            let mut query = guard.query().limit(GUARD_PAGE);
            let table = self.tables.of(&query.object);
            let mut refuses = guard.judge();
            while let Some(statement) = select::select(self.tables, &table, self.scope, &query) {
                let rows = statement.fetch(connection).await?;
                let mut last = None;
                for row in &rows {
                    let row = match decode::row(&table, row, 0) {
                        Ok(row) => row,
                        Err(error) => return Ok(Some(error)),
                    };
                    if refuses(&*row) {
                        return Ok(Some(conflict(&query.object, row.id())));
                    }
                    last = Some(row.id());
                }
                match last.filter(|_| rows.len() == GUARD_PAGE) {
                    Some(last) => query.after = Some(vec![Value::Uuid(last)]),
                    None => break,
                }
            }
        }
        Ok(None)
    }
}

//! Commits: what a [`ChangeSet`](crm_core::storage::ChangeSet) comes to in statements, and what a
//! refusal means.

mod guards;
mod plan;
mod refused;
mod release;
mod reseal;
mod stored;
mod taken;

use crm_core::schema::ObjectRef;
use crm_core::storage::{Committed, Scope, StorageError};
use sqlx::{Acquire as _, PgConnection};
use uuid::Uuid;

use self::guards::Guards;
pub(crate) use self::plan::Plan;
use self::refused::{broken, explain};
pub(crate) use self::reseal::reseal;
use self::stored::find_conflict;
pub(crate) use self::stored::is_applied;
use crate::error::{Refusal, read_error};
use crate::layout::Tables;
use crate::sql::Statement;

/// Writes the commit on a connection. Where it [joins](Plan::joining) one, a transaction is open there.
///
/// # Errors
/// What the checks of the port find; what the server says.
pub(crate) async fn run(
    connection: &mut PgConnection,
    tables: &Tables,
    scope: &Scope,
    plan: &Plan<'_>,
) -> Result<Committed, Failure> {
    if scope.tenant().is_none() {
        // No row is at any version there.
        return match plan.first_conflict() {
            Some(conflict) => Err(Failure::Refused(conflict)),
            None => Ok(Committed::default()),
        };
    }
    let changes = plan.changes;
    let is_empty = changes.changes.is_empty()
        && changes.expects.is_empty()
        && changes.unreferenced.is_empty()
        && changes.taken.is_empty();
    if is_empty {
        return Ok(Committed::default());
    }
    let statements = plan.statements(tables, scope).map_err(Failure::Refused)?;
    if let Some(error) = plan.foreign(scope) {
        return Err(Failure::Refused(error));
    }
    let result = if plan.broken.is_some() {
        // Only an older fault may come first: see below.
        Ok(None)
    } else {
        let guards = Guards {
            tables,
            scope,
            all: &changes.guards,
        };
        send(connection, statements, plan.is_joining, &guards).await
    };
    match (result, &plan.broken) {
        (Ok(Some(refused)), _) => Err(Failure::Refused(refused)),
        (Ok(None), None) => Ok(plan.committed()),
        (Ok(None), Some(_)) => {
            let conflict = find_conflict(connection, tables, scope, plan).await;
            match conflict.map_err(Failure::Server)? {
                Some(conflict) => Err(Failure::Refused(conflict)),
                None => Err(Failure::Refused(broken(plan))),
            }
        }
        (Err(error), _) => {
            let refusal = Refusal::of(&error);
            if matches!(refusal, Refusal::Fault(_)) {
                return Err(Failure::Server(error));
            }
            // A stale version comes before everything else, and names its row.
            let conflict = find_conflict(connection, tables, scope, plan).await;
            if let Some(conflict) = conflict.map_err(Failure::Server)? {
                return Err(Failure::Refused(conflict));
            }
            if let Refusal::Unique(name) = &refusal {
                let found = taken::find_taken(connection, tables, scope, plan, name).await;
                if let Some(error) = found.map_err(Failure::Server)? {
                    return Err(Failure::Refused(error));
                }
            }
            Err(Failure::Refused(explain(tables, plan, refusal)))
        }
    }
}

/// Why a commit was not written.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The port's checks found something: nothing was written.
    Refused(StorageError),
    /// The server or the way to it failed; where the connection was lost, the outcome is not known.
    Server(sqlx::Error),
}

impl From<Failure> for StorageError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::Server(error) => read_error(&error),
        }
    }
}

/// Sends one statement as it is, several in a transaction. What the guards refuse is rolled back.
async fn send(
    connection: &mut PgConnection,
    mut statements: Vec<Statement>,
    joined: bool,
    guards: &Guards<'_>,
) -> Result<Option<StorageError>, sqlx::Error> {
    // Inside a transaction of the host's, a savepoint keeps a refusal from ending it.
    if statements.len() == 1
        && !joined
        && guards.all.is_empty()
        && let Some(statement) = statements.pop()
    {
        statement.fetch(connection).await?;
        return Ok(None);
    }
    let mut transaction = connection.begin().await?;
    for statement in statements {
        statement.fetch(&mut transaction).await?;
    }
    let refused = guards.refused(&mut transaction).await?;
    match refused {
        Some(_) => transaction.rollback().await?,
        None => transaction.commit().await?,
    }
    Ok(refused)
}

fn conflict(object: &ObjectRef, id: Uuid) -> StorageError {
    StorageError::Conflict {
        object: object.name().to_owned(),
        id,
    }
}

fn failed(reason: &'static str) -> StorageError {
    tracing::error!(reason, "a commit could not be written");
    StorageError::Failed(reason.into())
}

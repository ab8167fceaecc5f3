//! Pages of logs that stay as they are: a walk through pages sees what was there when it began.
//!
//! Entries come in an order that new ones may get into the middle of: that of times at which units of
//! work began, or at which a host says that something happened. So the first page fixes what is there
//! (a [`Snapshot`]), and the cursor of each page carries it on: `<snapshot>~<cursor of the query>`.

use std::sync::Arc;

use crm_core::error::{Error, Result};
use crm_core::query::{Cursor, Find, Page, QueryError};
use crm_core::schema::{Entity, ObjectRef, Row};
use crm_core::storage::{Snapshot, StorageError};
use crm_core::{Record, Session};

use crate::event::AuditEvent;

/// What stands between the two parts of a cursor; neither contains it.
const BETWEEN: char = '~';

/// A cursor in front of everything that is there now.
pub(crate) async fn front(session: &Session) -> Result<Cursor> {
    let snapshot = session.snapshot(AuditEvent::schema()).await?;
    Ok(carrying(&snapshot, None))
}

/// One page of the rows of logs in one order.
///
/// # Errors
/// Those of the storage; a cursor of another query.
pub(crate) async fn page<E>(
    session: &Session,
    logs: &[&ObjectRef],
    find: Find<E>,
    after: Option<Cursor>,
) -> Result<Page<Row>> {
    let (snapshot, after) = match after {
        Some(cursor) => carried(&cursor)?,
        None => (session.snapshot(AuditEvent::schema()).await?, None),
    };
    let mut find = find.untyped();
    if let Some(after) = after {
        find = find.after(after);
    }
    let page = session.find_across(logs, &find, Some(&snapshot)).await;
    let page = page.map_err(|error| match error {
        // The cursor's snapshot is none: only the storage can tell.
        Error::Storage(StorageError::Query(error)) => Error::Query(error),
        error => error,
    })?;
    Ok(Page {
        next: page.next.map(|next| carrying(&snapshot, Some(&next))),
        ..page
    })
}

/// One page of the entries of a log.
///
/// # Errors
/// Those of the storage; a cursor of another query.
pub(crate) async fn entries<E: Entity>(
    session: &Session,
    find: Find<E>,
    after: Option<Cursor>,
) -> Result<Page<Arc<Record<E>>>> {
    let page = page(session, &[E::schema()], find, after).await?;
    let Page {
        items,
        next,
        previous,
    } = page;
    Ok(Page {
        items: items.into_iter().filter_map(Record::from_row).collect(),
        next,
        previous,
    })
}

fn carrying(snapshot: &Snapshot, cursor: Option<&Cursor>) -> Cursor {
    let cursor = cursor.map(Cursor::as_str).unwrap_or_default();
    Cursor::from(format!("{}{BETWEEN}{cursor}", snapshot.as_str()))
}

fn carried(cursor: &Cursor) -> Result<(Snapshot, Option<Cursor>)> {
    let parts = cursor.as_str().split_once(BETWEEN);
    let Some((snapshot, cursor)) = parts else {
        return Err(Error::Query(QueryError::Cursor));
    };
    let cursor = Some(cursor).filter(|cursor| !cursor.is_empty());
    Ok((
        Snapshot::of_text(snapshot),
        cursor.map(|cursor| Cursor::from(cursor.to_owned())),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_carries_its_snapshot() {
        let snapshot = Snapshot::of_text("7:9:8");
        let place = Cursor::from("eyJz-_".to_owned());
        for cursor in [None, Some(&place)] {
            let (read, rest) = carried(&carrying(&snapshot, cursor)).unwrap();
            assert_eq!((&read, rest.as_ref()), (&snapshot, cursor));
        }
        assert!(carried(&place).is_err());
    }
}

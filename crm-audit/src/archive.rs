//! Events that were moved out of the way: the same events in another table, read together with the
//! others.

use std::sync::{Arc, LazyLock};

use crm_core::error::Result;
use crm_core::query::{Aggregate, Cursor, Find, Group, Page};
use crm_core::schema::{Entity as _, Meta, ObjectRef, Row};
use crm_core::{Record, Session};

use crate::event::AuditEvent;
use crate::pages;

/// Events that were archived (C-070): the object `archived_audit_event`, which has the fields of
/// [`AuditEvent`]. Whole months get there: those of a tenant by its retention policies
/// ([`Retention::run`](crm_core::privacy::Retention::run)), those of all tenants by the backend: see
/// `archive_partitions` of the PostgreSQL backend and `move_entries` of the one in memory.
/// [`AuditTrail`](crate::AuditTrail) reads both.
///
/// ```
/// let archive = crm_audit::archived_events();
/// assert_eq!(archive.table(), "audit_events_archive");
/// ```
#[must_use]
pub fn archived_events() -> &'static ObjectRef {
    static ARCHIVE: LazyLock<ObjectRef> = LazyLock::new(|| {
        AuditEvent::schema().copied_as(
            "archived_audit_event",
            "audit_events_archive",
            "An event that was moved out of the way.",
        )
    });
    &ARCHIVE
}

/// The tables in which events lie.
pub(crate) fn places() -> [&'static ObjectRef; 2] {
    [AuditEvent::schema(), archived_events()]
}

/// An event from either table. An archived one says so by `archived_at`, in which its own time stands:
/// its row was moved as it is, so nobody wrote down when.
pub(crate) fn event_of(row: Row) -> Option<Arc<Record<AuditEvent>>> {
    if row.object() == AuditEvent::schema() {
        return Record::from_row(row);
    }
    let meta = Meta {
        archived_at: Some(row.meta().created.at),
        ..row.meta()
    };
    Record::from_row(AuditEvent::schema().build(meta, row.values()).ok()?)
}

/// The row of an event as it is stored, in whichever table it lies.
pub(crate) fn stored_row(event: &Record<AuditEvent>) -> Option<Row> {
    let typed: Row = Arc::new(event.clone());
    if event.archived_at.is_none() {
        return Some(typed);
    }
    let meta = Meta {
        archived_at: None,
        ..typed.meta()
    };
    archived_events().build(meta, typed.values()).ok()
}

/// One page of events, of both tables in one order.
pub(crate) async fn find(
    session: &Session,
    find: Find<AuditEvent>,
) -> Result<Page<Arc<Record<AuditEvent>>>> {
    let page = session
        .find_across(&places(), &find.untyped(), None)
        .await?;
    Ok(events(page))
}

/// One page of events that stays as it is, of both tables in one order.
pub(crate) async fn page(
    session: &Session,
    find: Find<AuditEvent>,
    after: Option<Cursor>,
) -> Result<Page<Arc<Record<AuditEvent>>>> {
    Ok(events(pages::page(session, &places(), find, after).await?))
}

/// Groups of events of both tables; those of one key stand there once for each table that has some.
pub(crate) async fn aggregate(
    session: &Session,
    aggregate: Aggregate<AuditEvent>,
) -> Result<Vec<Group>> {
    let aggregate = aggregate.untyped();
    let archive = session.object(archived_events().name()).await?;
    let log = session.object(AuditEvent::schema().name()).await?;
    let mut before = archive.aggregate(&aggregate).await?;
    loop {
        let mut groups = log.aggregate(&aggregate).await?;
        let archived = archive.aggregate(&aggregate).await?;
        // What was moved in between would count twice.
        if archived == before {
            groups.extend(archived);
            return Ok(groups);
        }
        before = archived;
    }
}

fn events(page: Page<Row>) -> Page<Arc<Record<AuditEvent>>> {
    let Page {
        items,
        next,
        previous,
    } = page;
    Page {
        items: items.into_iter().filter_map(event_of).collect(),
        next,
        previous,
    }
}

#[cfg(test)]
mod tests {
    use crm_core::schema::{Entity as _, Value};
    use crm_core::{Actor, Stamp};
    use uuid::Uuid;

    use super::*;
    use crate::event::{AuditCategory, AuditKind};

    #[test]
    fn an_event_survives_the_way_into_the_archive_and_back() {
        let mut event = AuditEvent::new(
            Uuid::from_u128(1),
            AuditKind::Update,
            AuditCategory::DataChange,
            "contact",
            Uuid::from_u128(2),
            3,
        );
        event.ip = Some("203.0.113.7".into());
        let at = "2026-01-31T09:00:00Z".parse().unwrap();
        let by = Actor::System;
        let meta = Meta::first(Uuid::from_u128(4), Stamp { at, by });
        let live: Row = Arc::new(Record::new(meta, event));
        let archived = archived_events().build(meta, live.values()).unwrap();
        let read = event_of(archived.clone()).unwrap();
        assert_eq!(read.archived_at, Some(at));
        let back = stored_row(&read).unwrap();
        assert_eq!(back.object().name(), "archived_audit_event");
        assert_eq!(back.meta(), meta);
        let fields = AuditEvent::schema().fields().len();
        let same =
            |index: &usize| back.value(*index).into_owned() == live.value(*index).into_owned();
        assert!((0..fields).all(|index| same(&index)));
        let ip = AuditEvent::schema().field_index("ip").unwrap();
        assert_eq!(archived.value(ip).into_owned(), Value::from("203.0.113.7"));
    }
}

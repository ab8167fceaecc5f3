//! [`Removal`]: that retention removed events as their time was over.

use chrono::{DateTime, Utc};
use crm_core::engine::UnitOfWork;
use crm_core::error::Result;
use crm_core::query::WhereExt as _;
use crm_core::schema::{Entity as _, Value};
use crm_core::storage::Taking;
use crm_core::{Actor, EntityRef, Record, Session};
use uuid::Uuid;

use crate::AuditExt as _;
use crate::event::{AuditEvent, AuditKind, FieldChange};
use crate::recorder::event;
use crate::trail::of_record;

/// That events went since a policy says for how long they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removal {
    /// When they were removed.
    pub at: DateTime<Utc>,
    /// By whom.
    pub by: Actor,
    /// The commit, by which the log of deletions tells how many.
    pub commit_id: Uuid,
    /// Those that went were made before this moment, the beginning of a month.
    pub before: DateTime<Utc>,
}

/// The record that events about the log itself are of.
fn the_log() -> EntityRef {
    EntityRef {
        object: AuditEvent::schema().name().to_owned(),
        id: Uuid::nil(),
    }
}

/// Tells of events that a unit of work removes from the log, or its archive, for good.
pub(crate) async fn tell(work: &mut UnitOfWork) -> Result<()> {
    let log = AuditEvent::schema();
    let goes = |taking: &&Taking| taking.to.is_none() && taking.from.origin() == log.name();
    let last = work.taken().iter().filter(goes).map(Taking::end).max();
    let Some(before) = last else {
        return Ok(());
    };
    let mut told = event(work, log, the_log().id, AuditKind::Purge, 1);
    told.changes = vec![FieldChange {
        field: AuditEvent::CREATED_AT.name(),
        old: Some(Value::Timestamp(before)),
        new: None,
    }]
    .into();
    work.append(told).await
}

/// All removals, the last one first.
pub(crate) async fn removals(session: &Session) -> Result<Vec<Removal>> {
    let told = of_record(&the_log()).and(AuditEvent::EVENT.eq(AuditKind::Purge));
    let mut found = Vec::new();
    let take = |event: &std::sync::Arc<Record<AuditEvent>>| found.extend(removal(event));
    let audit = session.audit();
    audit
        .each(told, AuditEvent::CREATED_AT.desc(), take)
        .await?;
    Ok(found)
}

fn removal(event: &Record<AuditEvent>) -> Option<Removal> {
    let change = event.changes.iter().next()?;
    let before = match change.old.as_ref()? {
        Value::Timestamp(at) => *at,
        Value::Text(at) => at.parse().ok()?,
        _ => return None,
    };
    Some(Removal {
        at: event.created.at,
        by: event.created.by,
        commit_id: event.commit_id,
        before,
    })
}

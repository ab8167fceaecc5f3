//! The events behind a place in the feed, wherever they lie.

use crm_core::Record;
use crm_core::Session;
use crm_core::error::Result;
use crm_core::query::Condition;
use crm_core::schema::{Entity as _, Row};
use crm_core::storage::{FeedPosition, FeedQuery};

use crate::archive::places;
use crate::event::AuditEvent;

/// Events in the order of the feed, as they are stored.
pub(crate) struct Entries {
    pub(crate) events: Vec<(FeedPosition, Record<AuditEvent>)>,
    /// Up to where these are all.
    pub(crate) until: FeedPosition,
}

/// Up to about `limit` events behind a place that fulfil a condition over events. The archive is read last: what is moved meanwhile is
/// found there.
pub(crate) async fn entries(
    session: &Session,
    after: Option<FeedPosition>,
    condition: &Condition,
    limit: usize,
) -> Result<Entries> {
    let mut found: Vec<(FeedPosition, Row)> = Vec::new();
    let mut until: Option<FeedPosition> = None;
    for object in places() {
        let query = FeedQuery::new(object, after, limit).filter(condition.clone());
        let storage = session.engine().storage();
        let page = storage.feed(session.scope(), &query).await?;
        until = Some(until.map_or(page.until, |other| other.min(page.until)));
        found.extend(page.entries);
    }
    let until = until.or(after).unwrap_or_default();
    found.retain(|(position, _)| *position <= until);
    found.sort_by_key(|(position, _)| *position);
    // What was moved between the two reads is there twice.
    found.dedup_by(|(position, row), (before, first)| {
        position == before && row.meta() == first.meta() && row.values() == first.values()
    });
    let events = found.into_iter().filter_map(|(position, row)| {
        let event = AuditEvent::schema().build(row.meta(), row.values()).ok()?;
        Some((position, Record::clone(&*Record::from_row(event)?)))
    });
    Ok(Entries {
        events: events.collect(),
        until,
    })
}

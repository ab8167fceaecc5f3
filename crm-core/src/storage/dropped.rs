//! [`DroppedEntries`]: up to where entries of a log that is followed are gone.

use chrono::{DateTime, Utc};

use crate::schema::Entity;

/// Entries of a log with a [feed](super::Storage::feed) that were dropped for good because they were
/// old: whoever follows the log and has not read up to there missed some of them, and is told so.
///
/// Backends write it together with what they drop.
///
/// ```
/// # use crm_core::{Session, error::Result, query::Find};
/// # async fn example(session: &Session) -> Result<()> {
/// use crm_core::storage::DroppedEntries;
///
/// for gone in session.records::<DroppedEntries>().find(Find::new()).await?.items {
///     println!("{} of {}, the last one of {}", gone.entries, gone.object, gone.last_at);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "dropped_entries",
    table = "dropped_entries",
    log,
    index(object, until_position)
)]
pub struct DroppedEntries {
    /// The log that they were in.
    #[field(required, max_len = 100)]
    pub object: String,
    /// The [position](super::FeedPosition) of the last one.
    #[field(required, max_len = 48)]
    pub until_position: String,
    /// How many they were, at least 1.
    #[field(required, min = 1)]
    pub entries: i64,
    /// When the newest one was made.
    #[field(required)]
    pub last_at: DateTime<Utc>,
}

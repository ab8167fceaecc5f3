//! The feed of a log: its entries in the order of their commits, for whoever follows what happens.
//!
//! A reader keeps the position up to which it has read and asks for what comes behind. What it gets
//! is complete: no entry ever appears in front of a position that was given out. That is more than a
//! query over times or ids can say, because commits end in another order than they begin.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::StorageError;
use crate::query::{Condition, QueryError, RelatedRows};
use crate::schema::{ObjectRef, ObjectScope, Row};

/// A place in the feed of a log: behind one entry and in front of the next.
///
/// Opaque to hosts, which keep it as text. Texts sort as positions do.
///
/// ```
/// use crm_core::storage::FeedPosition;
///
/// let kept = FeedPosition::BEGINNING.to_string();
/// assert_eq!(kept.parse(), Ok(FeedPosition::BEGINNING));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedPosition {
    commit: u64,
    id: Uuid,
}

impl FeedPosition {
    /// In front of everything.
    pub const BEGINNING: Self = Self {
        commit: 0,
        id: Uuid::nil(),
    };

    /// How many characters the text has.
    pub const TEXT_LENGTH: usize = 48;

    /// The position of the entry `id` of a commit; for backends, which number commits.
    #[must_use]
    pub const fn new(commit: u64, id: Uuid) -> Self {
        Self { commit, id }
    }

    /// In front of every entry of a commit and of those behind it.
    #[must_use]
    pub const fn before(commit: u64) -> Self {
        Self::new(commit, Uuid::nil())
    }

    /// The number of the commit, as the backend counts.
    #[must_use]
    pub const fn commit(self) -> u64 {
        self.commit
    }

    /// The entry; nil where the position lies in front of a commit.
    #[must_use]
    pub const fn id(self) -> Uuid {
        self.id
    }
}

impl fmt::Display for FeedPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{}", self.commit, self.id.simple())
    }
}

/// The text is no position of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position of a feed")]
pub struct InvalidPosition;

impl FromStr for FeedPosition {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let is_hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != Self::TEXT_LENGTH || !text.bytes().all(is_hex) {
            return Err(InvalidPosition);
        }
        let (commit, id) = text.split_at_checked(16).ok_or(InvalidPosition)?;
        Ok(Self {
            commit: u64::from_str_radix(commit, 16).map_err(|_| InvalidPosition)?,
            id: Uuid::try_parse(id).map_err(|_| InvalidPosition)?,
        })
    }
}

impl Serialize for FeedPosition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FeedPosition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Which entries of the logs of a tenant were there at a moment, as the backend tells it: what is
/// asked for with one is the same whenever it is asked for, whoever writes meanwhile.
///
/// It comes with every [page of a feed](FeedPage::snapshot) and counts for all logs of the tenant that
/// have one. Opaque to hosts, which keep it as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot(String);

impl Snapshot {
    /// A snapshot by the text that a backend made of it, or that a host kept.
    #[must_use]
    pub fn of_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The entries in front of a position: for backends in which no commit ends in front of one that
    /// has ended.
    #[must_use]
    pub fn until(end: FeedPosition) -> Self {
        Self(end.to_string())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The position of a snapshot that was made [until](Self::until) it: what of a log comes in front
    /// of it answers a query with the snapshot.
    ///
    /// # Errors
    /// [`QueryError::Cursor`] for a text that no such snapshot has.
    pub fn end(&self) -> Result<FeedPosition, QueryError> {
        self.0.parse().map_err(|_| QueryError::Cursor)
    }
}

/// A question to the feed of a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FeedQuery {
    /// The log: an object that is [fed](crate::schema::ObjectSchema::is_fed).
    pub object: ObjectRef,
    /// Behind which position; from the beginning where there is none.
    pub after: Option<FeedPosition>,
    /// Which entries.
    pub condition: Condition,
    /// The most entries.
    pub limit: usize,
}

impl FeedQuery {
    /// Up to `limit` entries behind a position.
    #[must_use]
    pub fn new(object: &ObjectRef, after: Option<FeedPosition>, limit: usize) -> Self {
        Self {
            object: object.clone(),
            after,
            condition: Condition::all(),
            limit,
        }
    }

    /// Only entries that fulfil a condition.
    #[must_use]
    pub fn filter(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }

    /// Checks that the object has a feed: what a backend does first.
    ///
    /// # Errors
    /// [`QueryError::Unsupported`] for an object that is not fed.
    pub fn check(&self) -> Result<(), StorageError> {
        if self.object.is_fed() && self.object.scope() == ObjectScope::Tenant {
            return Ok(());
        }
        Err(StorageError::Query(QueryError::Unsupported {
            field: self.object.name().to_owned(),
            operation: "feed".into(),
        }))
    }

    /// Checks that the position is one of this feed, which has given out none behind `end`.
    ///
    /// # Errors
    /// [`QueryError::Unsupported`]: the position is of another database, or of this one before it
    /// was set back. Entries would be left out without a word.
    pub fn check_position(&self, end: FeedPosition) -> Result<(), StorageError> {
        if self.after.is_none_or(|after| after <= end) {
            return Ok(());
        }
        Err(StorageError::Query(QueryError::Unsupported {
            field: self.object.name().to_owned(),
            operation: "feed behind its end".into(),
        }))
    }
}

/// A part of a feed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FeedPage {
    /// The entries with their positions, in order.
    pub entries: Vec<(FeedPosition, Row)>,
    /// From where to go on: behind the last entry or, where the page has fewer than asked for,
    /// behind all that is settled, entries that do not fulfil the condition included.
    pub until: FeedPosition,
    /// All entries that were there when the page was read, settled or not, those of other logs of the
    /// tenant included.
    pub snapshot: Snapshot,
}

impl FeedPage {
    /// The page that answers a query, where the feed is settled up to `end`.
    #[must_use]
    pub fn new(query: &FeedQuery, entries: Vec<(FeedPosition, Row)>, end: FeedPosition) -> Self {
        let last = entries.last().map(|(position, _)| *position);
        let until = if entries.len() < query.limit {
            end
        } else {
            last.or(query.after).unwrap_or_default()
        };
        Self {
            entries,
            until,
            snapshot: Snapshot::until(end),
        }
    }

    /// The page with another snapshot, for backends that see entries before they are settled.
    #[must_use]
    pub fn with_snapshot(mut self, snapshot: Snapshot) -> Self {
        self.snapshot = snapshot;
        self
    }

    /// The page of a scope that sees nothing.
    #[must_use]
    pub fn nothing(query: &FeedQuery) -> Self {
        let until = query.after.unwrap_or_default();
        Self {
            entries: Vec::new(),
            until,
            snapshot: Snapshot::until(until),
        }
    }
}

/// Answers a query to a feed over all entries of its object in the order of their positions. `end`
/// is the position in front of the next commit.
///
/// # Errors
/// An object that is not fed; a position behind the end.
///
/// ```
/// use crm_core::query::NoRelated;
/// use crm_core::schema::{FieldSchema, FieldType, ObjectSchema};
/// use crm_core::storage::{FeedPosition, FeedQuery, scan_feed};
///
/// let log = ObjectSchema::builder("entry", "entries")
///     .fed()
///     .field(FieldSchema::new("text", FieldType::text(100)))
///     .build();
/// let end = FeedPosition::before(1);
/// let page = scan_feed(&FeedQuery::new(&log, None, 10), [], end, &NoRelated)?;
/// assert_eq!((page.entries.len(), page.until), (0, end));
/// # Ok::<(), crm_core::storage::StorageError>(())
/// ```
pub fn scan_feed(
    query: &FeedQuery,
    entries: impl IntoIterator<Item = (FeedPosition, Row)>,
    end: FeedPosition,
    related: &RelatedRows<'_>,
) -> Result<FeedPage, StorageError> {
    query.check()?;
    query.check_position(end)?;
    let after = query.after.unwrap_or_default();
    // Who asks only what is there now asks for nothing that is in the log: no entry is looked at.
    let limit = match &query.condition {
        Condition::Or(any) if any.is_empty() => 0,
        _ => query.limit,
    };
    let entries = entries
        .into_iter()
        .filter(|(position, row)| *position > after && query.condition.matches(&**row, related))
        .take(limit)
        .collect();
    Ok(FeedPage::new(query, entries, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_sort_as_positions_do(a: (u64, u128), b: (u64, u128)) {
            let position = |(commit, id): (u64, u128)| FeedPosition::new(commit, Uuid::from_u128(id));
            let (a, b) = (position(a), position(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(a.to_string().len(), FeedPosition::TEXT_LENGTH);
            prop_assert_eq!(a.to_string().parse(), Ok(a));
        }

        #[test]
        fn no_text_is_a_panic(text in ".{0,60}") {
            let _ = text.parse::<FeedPosition>();
        }
    }

    #[test]
    fn only_its_own_form_is_a_position() {
        let text = FeedPosition::new(7, Uuid::from_u128(9)).to_string();
        for wrong in [
            "",
            &text[1..],
            &text.to_uppercase().replace('0', "A"),
            &format!("+{}", &text[1..]),
        ] {
            assert_eq!(wrong.parse::<FeedPosition>(), Err(InvalidPosition));
        }
    }
}

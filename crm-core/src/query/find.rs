//! [`Find`], what a caller asks for; [`Query`], what a backend answers; [`Page`], what comes back.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::condition::locate;
use super::{Condition, Cursor, Filter, QueryError, Where};
use crate::schema::{AnyRecord, ObjectRef, Registry, Row, Value, ValueRef, system};
use crate::storage::Snapshot;

/// The most records on one page.
pub const MAX_LIMIT: usize = 1_000;

/// A field to sort by. The JSON form is the field's name, with `-` in front for descending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort {
    /// The field.
    pub field: Cow<'static, str>,
    /// Whether the greatest value comes first.
    pub descending: bool,
}

impl Sort {
    /// From the least value to the greatest.
    pub fn asc(field: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: field.into(),
            descending: false,
        }
    }

    /// From the greatest value to the least.
    pub fn desc(field: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: field.into(),
            descending: true,
        }
    }
}

impl Serialize for Sort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sign = if self.descending { "-" } else { "" };
        serializer.collect_str(&format_args!("{sign}{}", self.field))
    }
}

impl<'de> Deserialize<'de> for Sort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(match text.strip_prefix('-') {
            Some(field) => Self::desc(field.to_owned()),
            None => Self::asc(text),
        })
    }
}

/// Which records of `E` to find, in which order, and how many at once.
///
/// Deleted records are never found unless asked for, nor are archived ones. See the
/// [module](super) for an example.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(bound = "", default, deny_unknown_fields)]
pub struct Find<E> {
    filter: Filter,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sort: Vec<Sort>,
    limit: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Cursor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Cursor>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    archived: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
    #[serde(skip)]
    marker: PhantomData<fn() -> E>,
}

impl<E> Default for Find<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Clone for Find<E> {
    fn clone(&self) -> Self {
        Self {
            filter: self.filter.clone(),
            sort: self.sort.clone(),
            limit: self.limit,
            after: self.after.clone(),
            before: self.before.clone(),
            archived: self.archived,
            deleted: self.deleted,
            stale: self.stale,
            marker: PhantomData,
        }
    }
}

impl<E> std::fmt::Debug for Find<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Filters hold values, which may be personal.
        f.debug_struct("Find")
            .field("sort", &self.sort)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl<E> From<Where<E>> for Find<E> {
    fn from(filter: Where<E>) -> Self {
        Self::new().filter(filter)
    }
}

impl<E> Find<E> {
    /// Every record that is neither deleted nor archived, oldest first, 50 at once.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            filter: Filter::all(),
            sort: Vec::new(),
            limit: 50,
            after: None,
            before: None,
            archived: false,
            deleted: false,
            stale: false,
            marker: PhantomData,
        }
    }

    /// Only the records that fulfil `filter`, besides filters given before.
    #[must_use]
    pub fn filter(self, filter: Where<E>) -> Self {
        self.filter_by_name(filter.into_filter())
    }

    /// Like [`filter`](Self::filter), with names that are checked when the query runs.
    #[must_use]
    pub fn filter_by_name(mut self, filter: Filter) -> Self {
        self.filter = std::mem::take(&mut self.filter).narrowed(filter);
        self
    }

    /// Sorts by a field, after the fields given before. Ties are broken by id.
    #[must_use]
    pub fn sort(mut self, sort: Sort) -> Self {
        self.sort.push(sort);
        self
    }

    /// At most this many records at once, from 1 to [`MAX_LIMIT`].
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// The page behind a cursor, with the same filter and sort that gave it.
    #[must_use]
    pub fn after(mut self, cursor: Cursor) -> Self {
        (self.after, self.before) = (Some(cursor), None);
        self
    }

    /// The page in front of a cursor.
    #[must_use]
    pub fn before(mut self, cursor: Cursor) -> Self {
        (self.after, self.before) = (None, Some(cursor));
        self
    }

    /// Takes archived records in.
    #[must_use]
    pub const fn with_archived(mut self) -> Self {
        self.archived = true;
        self
    }

    /// Takes deleted records in.
    #[must_use]
    pub const fn with_deleted(mut self) -> Self {
        self.deleted = true;
        self
    }

    /// Lets a backend answer from a copy that lags a little behind, such as a read replica: for
    /// lists and reports that need not show what was written a moment ago.
    #[must_use]
    pub const fn stale(mut self) -> Self {
        self.stale = true;
        self
    }

    /// The same request without the Rust type, for the records of an object by its name.
    #[must_use]
    pub fn untyped(self) -> Find<()> {
        Find {
            filter: self.filter,
            sort: self.sort,
            limit: self.limit,
            after: self.after,
            before: self.before,
            archived: self.archived,
            deleted: self.deleted,
            stale: self.stale,
            marker: PhantomData,
        }
    }

    /// Binds the request to the schema.
    ///
    /// # Errors
    /// Whatever does not fit the schema; a cursor of another query.
    pub(crate) fn bind(
        &self,
        object: &ObjectRef,
        registry: &Registry,
    ) -> Result<Bound, QueryError> {
        let object = &registry.described(object);
        let limit = self.limit.clamp(1, MAX_LIMIT);
        let condition = Visibility {
            archived: self.archived,
            deleted: self.deleted,
        }
        .condition()
        .and(Condition::bind(&self.filter, object, registry)?);
        let mut sort = Vec::with_capacity(self.sort.len() + 1);
        for key in &self.sort {
            let (at, field) = locate(object, &key.field)?;
            let place = at.place(object).filter(|_| field.is_sortable());
            let Some(index) = place else {
                return Err(QueryError::Unsupported {
                    field: key.field.to_string(),
                    operation: Cow::Borrowed("sort"),
                });
            };
            sort.push(SortKey {
                index,
                descending: key.descending,
            });
            if index == system::ID {
                break;
            }
        }
        if sort.last().is_none_or(|key| key.index != system::ID) {
            let descending = sort.last().is_some_and(|key| key.descending);
            sort.push(SortKey {
                index: system::ID,
                descending,
            });
        }
        let (cursor, backwards) = match (&self.after, &self.before) {
            (_, Some(before)) => (Some(before), true),
            (after, None) => (after.as_ref(), false),
        };
        let after = cursor
            .map(|cursor| cursor.position(object, &sort))
            .transpose()?;
        if backwards {
            for key in &mut sort {
                key.descending = !key.descending;
            }
        }
        Ok(Bound {
            query: Query {
                object: object.clone(),
                condition,
                sort,
                after,
                limit: limit + 1,
                stale: self.stale,
                snapshot: None,
            },
            backwards,
        })
    }
}

/// Which of the records that are out of the way to take in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visibility {
    pub(crate) archived: bool,
    pub(crate) deleted: bool,
}

impl Visibility {
    pub(crate) fn condition(self) -> Condition {
        let mut all = Vec::with_capacity(2);
        if !self.deleted {
            all.push(Condition::not_deleted());
        }
        if !self.archived {
            all.push(Condition::not_archived());
        }
        Condition::And(all)
    }
}

/// A bound [`Find`]: the query asks for one row more than the page holds, to know whether there is
/// another page.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) query: Query,
    pub(crate) backwards: bool,
}

/// A field to sort by, bound to a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SortKey {
    /// The field's place in the schema; that of a custom field as
    /// [`ObjectSchema::custom_at`](crate::schema::ObjectSchema::custom_at) counts.
    pub index: usize,
    /// Whether the greatest value comes first.
    pub descending: bool,
}

/// What a backend answers: the first `limit` rows of `object` that fulfil `condition`, in the order
/// of `sort`, behind the position `after`.
///
/// The last sort key is always the id, so that the order is total. Backends know nothing of pages
/// in front of a cursor: for those the engine turns the sort around.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Query {
    /// The object.
    pub object: ObjectRef,
    /// Which rows.
    pub condition: Condition,
    /// In which order; values as [`ValueRef::sort_order`](crate::schema::ValueRef::sort_order)
    /// compares them.
    pub sort: Vec<SortKey>,
    /// The sort values of the row before the first one, one for each key of `sort`.
    pub after: Option<Vec<Value>>,
    /// The most rows.
    pub limit: usize,
    /// Whether the answer may come from a copy that lags a little behind.
    pub stale: bool,
    /// Of a log with a feed, only entries that were there at a moment: pages of one snapshot are
    /// the same whenever they are read.
    pub snapshot: Option<Snapshot>,
}

impl Query {
    /// Every row that fulfils `condition`, by id.
    #[must_use]
    pub fn new(object: &ObjectRef, condition: Condition) -> Self {
        Self {
            object: object.clone(),
            condition,
            sort: vec![SortKey {
                index: system::ID,
                descending: false,
            }],
            after: None,
            limit: usize::MAX,
            stale: false,
            snapshot: None,
        }
    }

    /// Only entries that were there at a moment.
    #[must_use]
    pub fn at(mut self, snapshot: Snapshot) -> Self {
        self.snapshot = Some(snapshot);
        self
    }

    /// The snapshot, if there is one and the object has a feed.
    ///
    /// # Errors
    /// [`QueryError::Unsupported`] for a snapshot of what is no log with a feed.
    pub fn snapshot(&self) -> Result<Option<&Snapshot>, QueryError> {
        match &self.snapshot {
            Some(_) if !self.object.is_fed() => Err(QueryError::Unsupported {
                field: self.object.name().to_owned(),
                operation: Cow::Borrowed("snapshot"),
            }),
            snapshot => Ok(snapshot.as_ref()),
        }
    }

    /// At most `limit` rows.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Sorts by `sort`; the id is added where it is missing.
    #[must_use]
    pub fn sort(mut self, mut sort: Vec<SortKey>) -> Self {
        if sort.last().is_none_or(|key| key.index != system::ID) {
            let descending = sort.last().is_some_and(|key| key.descending);
            sort.push(SortKey {
                index: system::ID,
                descending,
            });
        }
        self.sort = sort;
        self
    }

    /// The order of two rows in this query.
    #[must_use]
    pub fn order(&self, a: &dyn AnyRecord, b: &dyn AnyRecord) -> Ordering {
        for key in &self.sort {
            let order = self.object.read(a, key.index, |a| {
                self.object.read(b, key.index, |b| a.sort_order(&b))
            });
            if order != Ordering::Equal {
                return if key.descending {
                    order.reverse()
                } else {
                    order
                };
            }
        }
        Ordering::Equal
    }

    /// Whether the row stands behind the query's position.
    #[must_use]
    pub fn is_after(&self, row: &dyn AnyRecord) -> bool {
        let Some(position) = &self.after else {
            return true;
        };
        for (key, value) in self.sort.iter().zip(position) {
            let own = |own: ValueRef<'_>| own.sort_order(&value.as_ref());
            let order = self.object.read(row, key.index, own);
            if order != Ordering::Equal {
                return (order == Ordering::Greater) != key.descending;
            }
        }
        false
    }
}

/// One page of records, with cursors to its neighbours.
///
/// A cursor stays right while records come and go: the next page begins behind the last record of
/// this one, wherever that now stands.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Page<T> {
    /// The records.
    pub items: Vec<T>,
    /// Leads to the next page, if there is one.
    pub next: Option<Cursor>,
    /// Leads to the previous page, if this one was reached by a cursor.
    pub previous: Option<Cursor>,
}

impl<T> Page<T> {
    /// The page with each record turned into something else.
    pub fn map<U>(self, turn: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(turn).collect(),
            next: self.next,
            previous: self.previous,
        }
    }
}

impl<T> IntoIterator for Page<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

/// Makes a page of the rows that answered a bound query.
pub(crate) fn page_of(bound: &Bound, mut rows: Vec<Row>) -> Page<Row> {
    let query = &bound.query;
    let more = rows.len() >= query.limit;
    if more {
        rows.truncate(query.limit - 1);
    }
    let mut sort = Cow::Borrowed(&query.sort);
    if bound.backwards {
        rows.reverse();
        for key in sort.to_mut() {
            key.descending = !key.descending;
        }
    }
    let cursor = |row: Option<&Row>| row.map(|row| Cursor::at(&query.object, row, &sort));
    let came_from_cursor = query.after.is_some();
    let (has_next, has_previous) = if bound.backwards {
        (came_from_cursor, more)
    } else {
        (more, came_from_cursor)
    };
    Page {
        next: if has_next { cursor(rows.last()) } else { None },
        previous: if has_previous {
            cursor(rows.first())
        } else {
            None
        },
        items: rows,
    }
}

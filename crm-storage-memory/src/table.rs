//! [`Table`]: the rows of one object in one space, with their indexes.

use std::ops::Bound;
use std::sync::Arc;

use crm_core::schema::{ObjectRef, Row, system};
use crm_core::storage::FeedPosition;
use imbl::OrdMap;
use uuid::Uuid;

use crate::index::{IndexKind, Layout};
use crate::key::Key;

/// One index: its rows by their keys. A row is shared with the table, so that a page needs no
/// second lookup.
pub(crate) type IndexMap = OrdMap<Key, Entry>;

/// A row in an index, with what nearly every query asks of it, so that the rows in the way are
/// passed without a look at them.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) row: Row,
    pub(crate) state: State,
}

/// Whether a row is out of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) is_deleted: bool,
    pub(crate) is_archived: bool,
}

impl State {
    const NONE: Self = Self {
        is_deleted: false,
        is_archived: false,
    };

    pub(crate) fn of(row: &Row) -> Self {
        Self {
            is_deleted: !row.value(system::DELETED_AT).is_null(),
            is_archived: !row.value(system::ARCHIVED_AT).is_null(),
        }
    }
}

/// The keys from `from` up to but not including `to`; all behind `from` where there is no `to`.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyRange {
    pub(crate) from: Key,
    pub(crate) to: Option<Key>,
}

impl KeyRange {
    /// The keys that begin with `prefix`.
    pub(crate) fn of(prefix: Key) -> Self {
        Self {
            to: prefix.clone().successor(),
            from: prefix,
        }
    }

    /// Leaves out what is before `from`.
    pub(crate) fn raise(&mut self, from: Key) {
        if from > self.from {
            self.from = from;
        }
    }

    /// Leaves out what is not before `to`.
    pub(crate) fn lower(&mut self, to: Option<Key>) {
        if let Some(to) = to
            && self.to.as_ref().is_none_or(|own| to < *own)
        {
            self.to = Some(to);
        }
    }

    /// Whether no key can be in the range.
    pub(crate) fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }

    /// The rows of an index whose keys lie in the range, in their order.
    pub(crate) fn of_map<'t>(
        &self,
        map: &'t IndexMap,
    ) -> impl DoubleEndedIterator<Item = &'t Entry> + use<'t> {
        let from = Bound::Included(self.from.as_bytes());
        let to = self
            .to
            .as_ref()
            .map_or(Bound::Unbounded, |to| Bound::Excluded(to.as_bytes()));
        map.range::<_, [u8]>((from, to)).map(|(_, entry)| entry)
    }
}

/// The rows of one object in one space. A clone shares everything and costs a few counters.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    layout: Arc<Layout>,
    /// By id. As a number an id compares in two steps, in the same order.
    rows: OrdMap<u128, Row>,
    /// One for each index of the layout.
    maps: Vec<IndexMap>,
    /// Of a log that is fed, in which order its entries were committed.
    feed: Option<Feed>,
}

impl Table {
    pub(crate) fn new(object: &ObjectRef) -> Self {
        let layout = Layout::new(object);
        let maps = layout.indexes().iter().map(|_| IndexMap::new()).collect();
        Self {
            layout: Arc::new(layout),
            rows: OrdMap::new(),
            maps,
            feed: object.is_fed().then(Feed::default),
        }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) const fn rows(&self) -> &OrdMap<u128, Row> {
        &self.rows
    }

    pub(crate) fn row(&self, id: Uuid) -> Option<&Row> {
        self.rows.get(&id.as_u128())
    }

    /// The rows of an index by their keys.
    pub(crate) fn map(&self, index: usize) -> Option<&IndexMap> {
        self.maps.get(index)
    }

    /// Adds the indexes that another description of the object asks for.
    pub(crate) fn take_in(&mut self, object: &ObjectRef) {
        let layout = Arc::make_mut(&mut self.layout);
        layout.take_in(object);
        for kind in layout.indexes().iter().skip(self.maps.len()) {
            self.maps.push(map_of(kind, &self.rows));
        }
        if object.is_fed() && self.feed.is_none() {
            self.feed = Some(Feed::of(&self.rows));
        }
    }

    /// The feed, if the object is a log that has one.
    pub(crate) const fn feed(&self) -> Option<&Feed> {
        self.feed.as_ref()
    }

    /// The change of a row that is now as the table has it, in the commit of this number.
    pub(crate) fn edit(&self, id: Uuid, row: Option<Row>, commit: u64) -> Edit {
        Edit::new(&self.layout, id, self.row(id), row, commit)
    }

    /// Writes a row. The edit was made for this table's layout and for the row as it is.
    pub(crate) fn apply(&mut self, edit: Edit) {
        let id = edit.id.as_u128();
        if let Some(feed) = &mut self.feed {
            feed.apply(id, edit.row.as_ref(), edit.commit);
        }
        let Some(row) = edit.row else {
            for (map, keys) in self.maps.iter_mut().zip(edit.keys) {
                if !keys.before.is_empty() {
                    map.remove(&keys.before);
                }
            }
            self.rows.remove(&id);
            return;
        };
        for (map, keys) in self.maps.iter_mut().zip(edit.keys) {
            if !keys.before.is_empty() && keys.before != keys.after {
                map.remove(&keys.before);
            }
            if !keys.after.is_empty() {
                // Also where the key is the same: the index holds the row as it is now.
                map.insert(
                    keys.after,
                    Entry {
                        row: row.clone(),
                        state: edit.state,
                    },
                );
            }
        }
        self.rows.insert(id, row);
    }

    /// Whether every index holds exactly what it should.
    #[cfg(test)]
    pub(crate) fn is_consistent(&self) -> bool {
        let same = |a: &IndexMap, b: &IndexMap| {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| {
                    a.0 == b.0 && a.1.state == b.1.state && Arc::ptr_eq(&a.1.row, &b.1.row)
                })
        };
        self.maps.len() == self.layout.indexes().len()
            && self
                .layout
                .indexes()
                .iter()
                .zip(&self.maps)
                .all(|(kind, map)| same(map, &map_of(kind, &self.rows)))
    }
}

/// The entries of a log in the order of their commits. Commits of a tenant come one after the other,
/// and their numbers are taken while they do: what a reader sees is all that will ever be there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Feed {
    last: u64,
    rows: OrdMap<(u64, u128), Row>,
    /// In which commit each entry was written.
    commits: OrdMap<u128, u64>,
}

impl Feed {
    /// The feed of a table whose entries were written when it had none.
    fn of(rows: &OrdMap<u128, Row>) -> Self {
        let mut feed = Self::default();
        for (id, row) in rows {
            feed.apply(*id, Some(row), 1);
        }
        feed
    }

    /// In which commit an entry was written.
    pub(crate) fn commit_of(&self, id: Uuid) -> Option<u64> {
        self.commits.get(&id.as_u128()).copied()
    }

    /// The number of the next commit.
    pub(crate) const fn next(&self) -> u64 {
        self.last + 1
    }

    fn apply(&mut self, id: u128, row: Option<&Row>, commit: u64) {
        let known = self.commits.get(&id).copied();
        match row {
            Some(row) => {
                let commit = known.unwrap_or(commit);
                self.last = self.last.max(commit);
                self.commits.insert(id, commit);
                self.rows.insert((commit, id), row.clone());
            }
            None => {
                if let Some(commit) = known {
                    self.commits.remove(&id);
                    self.rows.remove(&(commit, id));
                }
            }
        }
    }

    /// The entries behind a position.
    pub(crate) fn behind(&self, after: FeedPosition) -> impl Iterator<Item = (FeedPosition, Row)> {
        let after = (after.commit(), after.id().as_u128());
        let range = (Bound::Excluded(after), Bound::Unbounded);
        self.rows.range(range).map(|((commit, id), row)| {
            (
                FeedPosition::new(*commit, Uuid::from_u128(*id)),
                row.clone(),
            )
        })
    }
}

/// A row's change as the indexes see it: the keys before and after, empty where the index does not
/// hold the row.
#[derive(Debug)]
struct KeyChange {
    before: Key,
    after: Key,
}

/// A row's change with all keys worked out: applying it calls nothing that could fail.
#[derive(Debug)]
pub(crate) struct Edit {
    id: Uuid,
    /// The row as it shall be, unless it is removed.
    row: Option<Row>,
    state: State,
    /// One for each index of the layout.
    keys: Vec<KeyChange>,
    /// The number of the commit among those that wrote to the table.
    commit: u64,
}

impl Edit {
    /// Works out the change of a row in a table of this layout.
    fn new(layout: &Layout, id: Uuid, stored: Option<&Row>, row: Option<Row>, commit: u64) -> Self {
        let key = |kind: &IndexKind, row: Option<&Row>| {
            row.map_or_else(Key::default, |row| kind.key(&**row, id))
        };
        let keys = layout
            .indexes()
            .iter()
            .map(|kind| KeyChange {
                before: key(kind, stored),
                after: key(kind, row.as_ref()),
            })
            .collect();
        let state = row.as_ref().map_or(State::NONE, State::of);
        Self {
            id,
            row,
            state,
            keys,
            commit,
        }
    }
}

fn map_of(kind: &IndexKind, rows: &OrdMap<u128, Row>) -> IndexMap {
    rows.iter()
        .map(|(id, row)| {
            let key = kind.key(&**row, Uuid::from_u128(*id));
            (
                key,
                Entry {
                    row: row.clone(),
                    state: State::of(row),
                },
            )
        })
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

//! [`Subtree`]: a record with everything below it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::Id;
use crate::record::Record;
use crate::schema::{Entity, Row};

/// A record in a tree.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Node<E> {
    /// The record.
    pub record: Arc<Record<E>>,
    /// How many levels it is below the record that was asked for, which itself is at 0.
    pub depth: usize,
    /// The place of the node above, in a [`Subtree`].
    above: Option<usize>,
}

impl<E: Entity> Node<E> {
    pub(super) const fn new(depth: usize, record: Arc<Record<E>>) -> Self {
        Self {
            record,
            depth,
            above: None,
        }
    }
}

/// Shows no values of the record: they may be personal.
impl<E: Entity> fmt::Debug for Node<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.record.id)
            .field("depth", &self.depth)
            .finish_non_exhaustive()
    }
}

/// A record with everything below it. Each record comes before those below it, and before its next
/// sibling comes everything below it: the order in which a tree is drawn. Siblings stand in the
/// order in which they were created.
#[derive(Clone)]
pub struct Subtree<E> {
    nodes: Vec<Node<E>>,
    places: HashMap<Uuid, usize>,
}

/// Shows no values of the records: they may be personal.
impl<E> fmt::Debug for Subtree<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subtree")
            .field("records", &self.nodes.len())
            .finish_non_exhaustive()
    }
}

impl<E: Entity> Subtree<E> {
    /// The most records that are read as one tree.
    pub const MAX_NODES: usize = 50_000;

    /// Puts rows, given in the order of their ids, in the order of the tree; `None` where the root
    /// is not among them. Rows that do not hang on the root are left out.
    pub(super) fn of(rows: Vec<Row>, root: Id<E>, parent: usize) -> Option<Self> {
        let mut below: HashMap<Uuid, Vec<usize>> = HashMap::new();
        let mut records: Vec<Option<Arc<Record<E>>>> = Vec::with_capacity(rows.len());
        let mut first = None;
        for (place, row) in rows.into_iter().enumerate() {
            if row.id() == root.uuid() {
                first = Some(place);
            } else if let Some(above) = row.value(parent).as_uuid() {
                below.entry(above).or_default().push(place);
            }
            records.push(Record::from_row(row));
        }
        let mut tree = Self {
            nodes: Vec::with_capacity(records.len()),
            places: HashMap::with_capacity(records.len()),
        };
        // Each row is taken once, so that a circle ends.
        let mut open = vec![(first?, 0, None)];
        while let Some((place, depth, above)) = open.pop() {
            let Some(record) = records.get_mut(place).and_then(Option::take) else {
                continue;
            };
            let own = tree.nodes.len();
            let id = record.id.uuid();
            tree.places.insert(id, own);
            tree.nodes.push(Node {
                record,
                depth,
                above,
            });
            let children = below.remove(&id).unwrap_or_default();
            open.extend(
                children
                    .into_iter()
                    .rev()
                    .map(|child| (child, depth + 1, Some(own))),
            );
        }
        Some(tree)
    }

    /// All nodes, each before those below it.
    #[must_use]
    pub fn nodes(&self) -> &[Node<E>] {
        &self.nodes
    }

    /// The node of a record.
    #[must_use]
    pub fn get(&self, id: Id<E>) -> Option<&Node<E>> {
        self.nodes.get(*self.places.get(&id.uuid())?)
    }

    /// The way from the root of this tree down to a record, both included; empty where the record is
    /// not in the tree.
    #[must_use]
    pub fn path(&self, id: Id<E>) -> Vec<&Node<E>> {
        let mut path = Vec::new();
        let mut next = self.get(id);
        while let Some(node) = next {
            path.push(node);
            next = node.above.and_then(|above| self.nodes.get(above));
        }
        path.reverse();
        path
    }

    /// The nodes right below a record.
    pub fn children(&self, id: Id<E>) -> impl Iterator<Item = &Node<E>> {
        let place = self.places.get(&id.uuid()).copied();
        let from = place.map_or(self.nodes.len(), |place| place + 1);
        let depth = self.get(id).map_or(0, |node| node.depth);
        self.nodes
            .get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(move |node| node.depth > depth)
            .filter(move |node| node.above == place)
    }

    /// How many records the tree has, the root included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no record: never, since a tree has its root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

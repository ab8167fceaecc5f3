//! [`Trees`]: conditions over trees, turned into sets of ids by walking along the index of parents, and
//! conditions over rows that lead to a row, where few do.
//!
//! So that the rows of a subtree are found by their ids or references, at a cost that grows with the
//! subtree and not with the table.

use std::collections::HashSet;

use crm_core::query::{Condition, FieldAt, Tree, TreePart};
use crm_core::schema::{Value, ValueRef, system};
use uuid::Uuid;

use crate::key::Key;
use crate::leading::led_to;
use crate::space::View;
use crate::table::KeyRange;

/// The conditions over trees, and over rows that lead to a row, that all rows of an answer must
/// fulfil, each with the condition that its field has one of the ids found.
#[derive(Debug, Default)]
pub(crate) struct Trees<'q>(Vec<(&'q Condition, Condition)>);

impl<'q> Trees<'q> {
    /// Walks the trees of a condition.
    pub(crate) fn of(view: View<'_>, condition: &'q Condition) -> Self {
        let mut trees = Self::default();
        trees.add(view, condition);
        trees
    }

    fn add(&mut self, view: View<'_>, condition: &'q Condition) {
        match condition {
            Condition::And(all) => {
                for one in all {
                    self.add(view, one);
                }
            }
            Condition::InTree { field, tree } => {
                if let Some(ids) = ids(view, tree) {
                    let values = ids.into_iter().map(Value::Uuid).collect();
                    let field = field.clone();
                    self.0.push((condition, Condition::In { field, values }));
                }
            }
            _ => {}
        }
    }

    /// Adds the conditions over rows that lead to a row for which it takes a look at no more than
    /// `most` rows to say where they lead.
    pub(crate) fn add_leading(&mut self, view: View<'_>, condition: &'q Condition, most: usize) {
        match condition {
            Condition::And(all) => {
                for one in all {
                    self.add_leading(view, one, most);
                }
            }
            Condition::Any {
                object,
                field,
                condition: asked,
            } => {
                if let Some(ids) = led_to(view, object, field, asked, most) {
                    let values = ids.into_iter().map(Value::Uuid).collect();
                    let field = FieldAt::new(system::ID);
                    self.0.push((condition, Condition::In { field, values }));
                }
            }
            _ => {}
        }
    }

    /// The sets of ids.
    pub(crate) fn sets(&self) -> impl Iterator<Item = &Condition> {
        self.0.iter().map(|(_, set)| set)
    }

    /// The set of ids that stands for a condition over a tree.
    pub(crate) fn set_of(&self, condition: &Condition) -> Option<&Condition> {
        self.0
            .iter()
            .find(|(own, _)| std::ptr::eq(*own, condition))
            .map(|(_, set)| set)
    }
}

/// The records of a part of a tree; `None` where there is no index to walk along.
fn ids(view: View<'_>, tree: &Tree) -> Option<HashSet<Uuid>> {
    let mut found = HashSet::new();
    let is_live = |id: Uuid| view.row(&tree.object, id).filter(|row| !row.is_deleted());
    if tree.part == TreePart::PathTo {
        let mut next = Some(tree.of);
        while let Some(id) = next
            && let Some(row) = is_live(id)
            && found.insert(id)
        {
            next = tree.above(row);
        }
        return Some(found);
    }
    if is_live(tree.of).is_none() {
        return Some(found);
    }
    let table = view.table(&tree.object)?;
    let mut references = table.layout().references().iter();
    let reference =
        references.find(|own| own.field == tree.parent && own.target == tree.object.name())?;
    let map = table.map(reference.index)?;
    found.insert(tree.of);
    let mut open = vec![tree.of];
    while let Some(id) = open.pop() {
        let mut key = Key::default();
        key.push(&ValueRef::Uuid(id));
        for entry in KeyRange::of(key).of_map(map) {
            let below = entry.row.id();
            let is_visible = view.only(&tree.object).is_none_or(|only| only == below);
            if is_visible && !entry.state.is_deleted && found.insert(below) {
                open.push(below);
            }
        }
    }
    Some(found)
}

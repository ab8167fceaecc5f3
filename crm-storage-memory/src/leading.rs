//! Conditions over the rows that lead to a row, answered by the index of the reference.
//!
//! There are two ways to the rows of "accounts with a deal that ...": to ask for each account whether
//! such a deal leads to it, or to gather the deals and see where they lead. [`led_to`] goes the second
//! way as long as it visits fewer rows than the first would.

use std::collections::HashSet;
use std::ops::ControlFlow;

use crm_core::query::{Condition, FieldAt, Related};
use crm_core::schema::{ObjectRef, Row, ValueRef};
use uuid::Uuid;

use crate::key::Key;
use crate::space::View;
use crate::table::{KeyRange, State, Table};

impl Related for View<'_> {
    fn get(&self, object: &ObjectRef, id: Uuid) -> Option<Row> {
        self.row(object, id).cloned()
    }

    fn any(&self, object: &ObjectRef, by: &FieldAt, id: Uuid, condition: &Condition) -> bool {
        let Some(table) = self.table(object) else {
            return false;
        };
        let only = self.only(object);
        let fulfils = |row: &Row, state: State| {
            let is_visible = !state.is_deleted && only.is_none_or(|only| only == row.id());
            is_visible && condition.matches(&**row, self)
        };
        match index_of(table, by) {
            Some(index) => {
                let mut key = Key::default();
                key.push(&ValueRef::Uuid(id));
                let mut entries = table
                    .map(index)
                    .into_iter()
                    .flat_map(|map| KeyRange::of(key.clone()).of_map(map));
                entries.any(|entry| fulfils(&entry.row, entry.state))
            }
            None => table
                .rows()
                .values()
                .any(|row| by.id(&**row) == Some(id) && fulfils(row, State::of(row))),
        }
    }
}

/// The index of a reference.
fn index_of(table: &Table, by: &FieldAt) -> Option<usize> {
    let mut references = table.layout().references().iter();
    let reference =
        references.find(|reference| by.member.is_none() && reference.field == by.index)?;
    Some(reference.index)
}

/// The ids of the records to which the rows of `object` lead that are live and fulfil `condition`;
/// `None` where that takes a look at more than `most` rows.
pub(crate) fn led_to(
    view: View<'_>,
    object: &ObjectRef,
    by: &FieldAt,
    condition: &Condition,
    most: usize,
) -> Option<HashSet<Uuid>> {
    let mut found = HashSet::new();
    let mut visited = 0;
    let live = Condition::not_deleted().and(condition.clone());
    let end = view.candidates(object, &live, &mut |row, is_found| {
        visited += 1;
        if visited > most {
            return ControlFlow::Break(());
        }
        if is_found {
            found.extend(by.id(&**row));
        }
        ControlFlow::Continue(())
    });
    end.is_continue().then_some(found)
}

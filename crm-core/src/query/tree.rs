//! Conditions over trees: accounts, teams, territories and whatever else refers to records of its
//! own kind.
//!
//! The parents that the records name are the only truth about a tree, so what is above and below a
//! record is right at any moment, whoever changed which parent. A backend answers a whole tree in
//! one round trip.
//!
//! ```text
//! Globex ─┬─ Globex Labs ─── Globex Robotics        within(Globex Labs):      Labs, Robotics
//!         └─ Globex Trade                           path_to(Globex Robotics): Robotics, Labs, Globex
//! ```

use uuid::Uuid;

use super::{Filter, RelatedRows, Where, locate};
use crate::Id;
use crate::schema::{Entity, FieldOf, FieldSchema, ObjectRef, Row, ValueRef};

/// A part of a tree, seen from one of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TreePart {
    /// The record and everything below it.
    Within,
    /// The record and everything above it, up to the top.
    PathTo,
}

impl TreePart {
    /// The name in the JSON form.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Within => "within",
            Self::PathTo => "path_to",
        }
    }

    pub(super) const ALL: [Self; 2] = [Self::Within, Self::PathTo];
}

/// The records of a part of a tree, bound to the schema.
///
/// Only live records belong to a tree: a deleted record is in no part of it, and neither is what
/// can only be reached through one. Where stored parents form a circle, each record of the circle
/// is met once.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// The object whose records form the tree.
    pub object: ObjectRef,
    /// The place of its reference to the record above; of a custom field as
    /// [`ObjectSchema::custom_at`](crate::schema::ObjectSchema::custom_at) counts.
    pub parent: usize,
    /// Which part.
    pub part: TreePart,
    /// The record that the part is seen from.
    pub of: Uuid,
}

impl Tree {
    /// The record above one.
    #[must_use]
    pub fn above(&self, row: &Row) -> Option<Uuid> {
        let id = |value: ValueRef<'_>| value.as_uuid();
        self.object.read(&**row, self.parent, id)
    }

    /// Whether the record with this id is in the part, for backends that have the rows at hand.
    /// Takes as many steps as there are levels between the two records.
    #[must_use]
    pub fn contains(&self, id: Uuid, related: &RelatedRows<'_>) -> bool {
        let (from, wanted) = match self.part {
            TreePart::Within => (id, self.of),
            TreePart::PathTo => (self.of, id),
        };
        let (mut current, mut mark) = (from, from);
        let (mut steps, mut until) = (0_u32, 1_u32);
        loop {
            let row = related.get(&self.object, current);
            let Some(row) = row.filter(|row| !row.is_deleted()) else {
                return false;
            };
            if current == wanted {
                return true;
            }
            let Some(above) = self.above(&row) else {
                return false;
            };
            // Brent's way to notice a circle: the mark moves up at every power of two, so that at
            // last it stands in the circle, and the next meeting ends a whole round.
            if above == mark {
                return false;
            }
            steps += 1;
            if steps == until {
                (mark, steps, until) = (above, 0, until.saturating_mul(2));
            }
            current = above;
        }
    }
}

impl<E, T: Entity> FieldOf<E, Id<T>> {
    /// The field leads to `root` or to a record below it; for the field `id`, the record itself is
    /// `root` or below it.
    ///
    /// The tree is the one that the first reference of `T` to its own kind forms; the JSON form can
    /// name another with `by`.
    ///
    /// ```
    /// use crm_core::query::{Aggregate, Filter};
    /// use crm_core::{Id, accounts::Account, deals::Deal};
    ///
    /// # let globex: Id<Account> = Id::new(uuid::Uuid::from_u128(1));
    /// // What the whole group of companies has bought, in one round trip.
    /// let bought = Aggregate::<Deal>::new()
    ///     .filter(Deal::ACCOUNT_ID.within(globex))
    ///     .group_by(Deal::CURRENCY)
    ///     .sum(Deal::AMOUNT);
    ///
    /// let by_name: Filter = serde_json::from_value(serde_json::json!(
    ///     {"field": "account_id", "within": globex}
    /// ))?;
    /// assert_eq!(by_name, Deal::ACCOUNT_ID.within(globex).into_filter());
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn within(self, root: Id<T>) -> Where<E> {
        self.in_tree(TreePart::Within, root)
    }

    /// The field leads to `record` or to a record above it; for the field `id`, the record itself
    /// is `record` or above it.
    ///
    /// ```
    /// use crm_core::{Id, accounts::Account};
    ///
    /// # let labs: Id<Account> = Id::new(uuid::Uuid::from_u128(1));
    /// let labs_and_its_parents = Account::ID.path_to(labs);
    /// ```
    #[must_use]
    pub fn path_to(self, record: Id<T>) -> Where<E> {
        self.in_tree(TreePart::PathTo, record)
    }

    fn in_tree(self, part: TreePart, of: Id<T>) -> Where<E> {
        Where::new(Filter::InTree {
            field: self.name(),
            part,
            of: of.uuid(),
            by: None,
        })
    }
}

/// The reference of an object to its own kind by which its records form a tree: the one called
/// `by`, or the first.
pub(super) fn parent_of(object: &ObjectRef, by: Option<&str>) -> Option<usize> {
    let leads_to_own = |index: &usize| {
        let reference = object.placed(*index).and_then(FieldSchema::reference);
        reference.is_some_and(|(target, _)| target == object.name())
    };
    if let Some(name) = by {
        let (at, _) = locate(object, name).ok()?;
        return at.place(object).filter(leads_to_own);
    }
    let own = object.references().iter().copied();
    let count = object.fields().len();
    own.chain(count..count + object.custom_fields().len())
        .find(leads_to_own)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::accounts::Account;
    use crate::query::RelatedBy;
    use crate::record::{Actor, Record, Stamp};
    use crate::schema::{Meta, Row};

    fn row(number: usize, parent: Option<usize>, deleted: bool) -> Row {
        let at = chrono::DateTime::UNIX_EPOCH;
        let mut meta = Meta::first(
            id(number),
            Stamp {
                at,
                by: Actor::System,
            },
        );
        meta.deleted_at = deleted.then_some(at);
        let mut account = Account::new("A");
        account.parent_account_id = parent.map(|parent| Id::new(id(parent)));
        Arc::new(Record::new(meta, account))
    }

    fn id(number: usize) -> Uuid {
        Uuid::from_u128(number as u128 + 1)
    }

    proptest! {
        /// What the walk says is what following parents with a list of the seen says, whatever the
        /// data: circles, records below themselves, deleted and missing ones.
        #[test]
        fn the_walk_ends_and_is_right(
            records in prop::collection::vec((prop::option::of(0..14_usize), prop::bool::weighted(0.15)), 12),
            from in 0..14_usize,
            to in 0..14_usize,
        ) {
            let rows: HashMap<Uuid, Row> = records
                .iter()
                .enumerate()
                .map(|(number, (parent, deleted))| (id(number), row(number, *parent, *deleted)))
                .collect();
            let find = |_: &ObjectRef, id: Uuid| rows.get(&id).cloned();
            let find = RelatedBy::new(find, |_: &ObjectRef| Vec::new());
            let mut seen = Vec::new();
            let mut next = Some(from);
            while let Some(number) = next.filter(|number| !seen.contains(number)) {
                match records.get(number) {
                    Some((parent, false)) => {
                        seen.push(number);
                        next = *parent;
                    }
                    _ => break,
                }
            }
            let parent = parent_of(Account::schema(), None).unwrap();
            let tree = |part, of| Tree { object: Account::schema().clone(), parent, part, of: id(of) };
            let expected = seen.contains(&to);
            prop_assert_eq!(tree(TreePart::Within, to).contains(id(from), &find), expected);
            prop_assert_eq!(tree(TreePart::PathTo, from).contains(id(to), &find), expected);
        }
    }

    #[test]
    fn the_tree_of_an_object_is_that_of_its_first_reference_to_itself() {
        let account = Account::schema();
        let parent = account.field_index("parent_account_id");
        assert_eq!(parent_of(account, None), parent);
        assert_eq!(parent_of(account, Some("parent_account_id")), parent);
        assert_eq!(parent_of(account, Some("owner_id")), None);
        assert_eq!(parent_of(crate::deals::Deal::schema(), None), None);
    }
}

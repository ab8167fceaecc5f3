//! Hierarchies: what is above and below a record whose kind refers to itself (C-019, R-016, R-086).
//!
//! Accounts, teams, users with their managers and territories are [`Hierarchical`], and so is any
//! entity of the host that says which of its fields leads to the record above. There is no second
//! copy of a tree that could fall behind: the parents are the only truth, and a backend walks them
//! within one round trip ([`query::Tree`](crate::query::Tree)). So ancestors, descendants, depth and
//! path are right at once after a record is created, moved, deleted or merged (R-017).
//!
//! Deleted records are in no tree. Archived ones are: a list leaves them out, as lists do, but what
//! is below them is found.
//!
//! ```
//! # use crm_core::{Session, error::Result, accounts::Account, deals::Deal, query::Find};
//! # use crm_core::hierarchy::RollUp;
//! # async fn example(session: &Session) -> Result<()> {
//! let globex = session.accounts().create(Account::new("Globex")).await?;
//! let mut labs = Account::new("Globex Labs");
//! labs.parent_account_id = Some(globex.id);
//! let labs = session.accounts().create(labs).await?;
//!
//! let path = session.accounts().path(labs.id).await?;
//! assert_eq!(path.iter().map(|account| &*account.name).collect::<Vec<_>>(), ["Globex", "Globex Labs"]);
//! let below = session.accounts().descendants(globex.id, Find::new()).await?;
//! assert_eq!(below.items[0].depth, 1);
//!
//! // What the deals of the whole group are worth, each currency on its own (R-085).
//! let worth = RollUp::of(Deal::ACCOUNT_ID, Deal::AMOUNT);
//! let worth = session.accounts().roll_up(globex.id, &worth).await?;
//! println!("{} deals: {}", worth.records, worth.totals);
//! # Ok(())
//! # }
//! ```

mod cycles;
mod roll_up;
mod subtree;

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

pub(crate) use cycles::ensure_no_cycle;
pub use roll_up::{RollUp, RolledUp};
pub use subtree::{Node, Subtree};

use crate::Id;
use crate::accounts::Account;
use crate::engine::Records;
use crate::error::{Error, Result};
use crate::identity::{Team, User};
use crate::query::{Condition, FieldAt, Filter, Find, Page, Query, QueryError, TreePart};
use crate::record::Record;
use crate::schema::{Entity, FieldOf, Row, Value, system};

/// An entity whose records form trees by a reference to their own kind.
///
/// ```
/// use crm_core::hierarchy::Hierarchical;
/// use crm_core::schema::{Entity, FieldOf};
/// use crm_core::Id;
///
/// /// A place where things are kept.
/// #[derive(Clone, PartialEq, Entity)]
/// #[entity(object = "storeroom", table = "storerooms")]
/// struct Storeroom {
///     /// Name.
///     #[field(required, max_len = 100)]
///     name: String,
///     /// The place that it is a part of.
///     #[field(references = "storeroom")]
///     part_of_id: Option<Id<Storeroom>>,
/// }
///
/// impl Hierarchical for Storeroom {
///     const PARENT: FieldOf<Self, Id<Self>> = Self::PART_OF_ID;
/// }
/// ```
pub trait Hierarchical: Entity {
    /// The reference to the record above.
    const PARENT: FieldOf<Self, Id<Self>>;
}

impl Hierarchical for Account {
    const PARENT: FieldOf<Self, Id<Self>> = Self::PARENT_ACCOUNT_ID;
}

impl Hierarchical for Team {
    const PARENT: FieldOf<Self, Id<Self>> = Self::PARENT_TEAM_ID;
}

impl Hierarchical for User {
    const PARENT: FieldOf<Self, Id<Self>> = Self::MANAGER_ID;
}

/// The place of the reference to the record above.
fn parent_index<E: Hierarchical>() -> Result<usize> {
    let name = E::PARENT.name();
    E::schema().field_index(&name).ok_or_else(|| {
        Error::Query(QueryError::UnknownField {
            object: E::schema().name().to_owned(),
            field: name.into_owned(),
        })
    })
}

/// The records that a field leads to are in a part of the tree of `E`.
fn in_tree<E: Hierarchical>(
    field: impl Into<std::borrow::Cow<'static, str>>,
    part: TreePart,
    of: Id<E>,
) -> Filter {
    Filter::InTree {
        field: field.into(),
        part,
        of: of.uuid(),
        by: Some(E::PARENT.name()),
    }
}

fn not_found<E: Entity>(id: Id<E>) -> Error {
    Error::NotFound {
        object: E::schema().name().to_owned(),
        id: id.uuid(),
    }
}

/// Follows parents through rows at hand: from `from` up to the top, or as far as the rows tell.
fn climb(rows: &HashMap<Uuid, Row>, from: Uuid, parent: usize) -> Vec<&Row> {
    let mut path: Vec<&Row> = Vec::new();
    let mut next = Some(from);
    // No path has more records than there are, so a circle ends.
    while let Some(row) = next.and_then(|id| rows.get(&id))
        && path.len() < rows.len()
    {
        path.push(row);
        next = row.value(parent).as_uuid();
    }
    path
}

impl<E: Hierarchical> Records<'_, E> {
    /// The live records of a part of a tree, at most so many.
    async fn part(&self, part: TreePart, of: Id<E>, limit: usize) -> Result<Vec<Row>> {
        let registry = &*self.workspace.registry().await?;
        let filter = in_tree(E::schema().field_name(system::ID).to_owned(), part, of);
        let condition = Condition::bind(&filter, E::schema(), registry)?;
        let query = Query::new(E::schema(), Condition::not_deleted().and(condition)).limit(limit);
        self.workspace.select(&query).await
    }

    /// The records above a record, the nearest first; none for one at the top.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn ancestors(&self, id: Id<E>) -> Result<Vec<Arc<Record<E>>>> {
        let mut path = self.way(id).await?;
        path.pop();
        path.reverse();
        self.workspace.hand_out(&path).await?;
        Ok(path)
    }

    /// The way from the top of the tree down to a record, which is the last: what a breadcrumb
    /// shows. One round trip.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn path(&self, id: Id<E>) -> Result<Vec<Arc<Record<E>>>> {
        let path = self.way(id).await?;
        self.workspace.hand_out(&path).await?;
        Ok(path)
    }

    /// The path, for whoever hands out any of it.
    async fn way(&self, id: Id<E>) -> Result<Vec<Arc<Record<E>>>> {
        let parent = parent_index::<E>()?;
        let rows = self.part(TreePart::PathTo, id, usize::MAX).await?;
        let rows: HashMap<Uuid, Row> = rows.into_iter().map(|row| (row.id(), row)).collect();
        let mut path = climb(&rows, id.uuid(), parent);
        if path.is_empty() {
            return Err(not_found(id));
        }
        path.reverse();
        path.into_iter()
            .map(|row| Record::from_row(row.clone()).ok_or_else(|| not_found(id)))
            .collect()
    }

    /// How many records are above a record: 0 at the top. One round trip.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn depth(&self, id: Id<E>) -> Result<usize> {
        Ok(self.way(id).await?.len().saturating_sub(1))
    }

    /// The record at the top of the tree that a record is in; itself where nothing is above it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn root(&self, id: Id<E>) -> Result<Arc<Record<E>>> {
        let path = self.way(id).await?;
        let root = path.into_iter().next().ok_or_else(|| not_found(id))?;
        self.workspace.hand_out(std::slice::from_ref(&root)).await?;
        Ok(root)
    }

    /// One page of the records right below a record; `find` may narrow and sort them.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn children(
        &self,
        id: Id<E>,
        find: impl Into<Find<E>>,
    ) -> Result<Page<Arc<Record<E>>>> {
        self.find(find.into().filter(E::PARENT.eq(id))).await
    }

    /// One page of all records below a record, with their depth below it; `find` may narrow and sort
    /// them. The page is one round trip, the depths one more for each level between.
    ///
    /// # Errors
    /// [`Error::Query`]; [`Error::NotFound`].
    pub async fn descendants(&self, id: Id<E>, find: impl Into<Find<E>>) -> Result<Page<Node<E>>> {
        let parent = parent_index::<E>()?;
        let own_id = E::schema().field_name(system::ID).to_owned();
        let find = find
            .into()
            .filter_by_name(in_tree(own_id.clone(), TreePart::Within, id))
            .filter_by_name(Filter::Not(Box::new(Filter::eq(own_id, id.uuid()))));
        let page = self.find(find).await?;
        if page.items.is_empty() {
            self.get(id).await?;
        }
        let rows = page.items.iter().map(|record| {
            let row: Row = record.clone();
            (record.id.uuid(), row)
        });
        let mut rows: HashMap<Uuid, Row> = rows.collect();
        self.load_between(&mut rows, id, parent).await?;
        Ok(page.map(|record| {
            let above = climb(&rows, record.id.uuid(), parent);
            let depth = above.iter().position(|row| row.id() == id.uuid());
            // The last record that is at hand is right below the top.
            Node::new(depth.unwrap_or(above.len()), record)
        }))
    }

    /// Adds the records between those at hand and the top of the part, which stays out: one round
    /// trip a level.
    async fn load_between(
        &self,
        rows: &mut HashMap<Uuid, Row>,
        top: Id<E>,
        parent: usize,
    ) -> Result<()> {
        loop {
            let above = rows.values().filter_map(|row| row.value(parent).as_uuid());
            let mut missing: Vec<Uuid> = above
                .filter(|id| *id != top.uuid() && !rows.contains_key(id))
                .collect();
            missing.sort_unstable();
            missing.dedup();
            if missing.is_empty() {
                return Ok(());
            }
            let wanted = Condition::In {
                field: FieldAt::new(system::ID),
                values: missing.into_iter().map(Value::Uuid).collect(),
            };
            let live = Condition::not_deleted().and(wanted);
            let found = self
                .workspace
                .select(&Query::new(E::schema(), live))
                .await?;
            if found.is_empty() {
                return Ok(());
            }
            rows.extend(found.into_iter().map(|row| (row.id(), row)));
        }
    }

    /// A record with everything below it, archived records too, in one round trip.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, accounts::Account};
    /// # async fn example(session: &Session, globex: Id<Account>) -> Result<()> {
    /// for node in session.accounts().subtree(globex).await?.nodes() {
    ///     println!("{}{}", "  ".repeat(node.depth), node.record.name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`QueryError::TooLarge`] past [`Subtree::MAX_NODES`] records: page
    /// through [`descendants`](Self::descendants) then.
    pub async fn subtree(&self, id: Id<E>) -> Result<Subtree<E>> {
        let parent = parent_index::<E>()?;
        let most = Subtree::<E>::MAX_NODES;
        let rows = self.part(TreePart::Within, id, most + 1).await?;
        if rows.len() > most {
            return Err(Error::Query(QueryError::TooLarge {
                what: "records in the tree",
                max: most,
            }));
        }
        let subtree: Subtree<E> = Subtree::of(rows, id, parent).ok_or_else(|| not_found(id))?;
        let nodes = subtree.nodes().iter();
        let records: Vec<_> = nodes.map(|node| node.record.clone()).collect();
        self.workspace.hand_out(&records).await?;
        Ok(subtree)
    }

    /// Counts the records that refer to a record or to one below it, and sums a number of theirs, in
    /// one round trip. Amounts of different currencies are never added (R-085).
    ///
    /// # Errors
    /// [`Error::Query`] if the field holds no number; [`Error::NotFound`].
    pub async fn roll_up<R: Entity>(&self, id: Id<E>, roll_up: &RollUp<R, E>) -> Result<RolledUp> {
        let registry = &*self.workspace.registry().await?;
        let query = roll_up.bind(id, registry)?;
        let groups = self.workspace.aggregate(&query).await?;
        let rolled_up = RolledUp::of(&groups, !query.groups.is_empty())?;
        if rolled_up.records == 0 {
            self.get(id).await?;
        }
        Ok(rolled_up)
    }
}

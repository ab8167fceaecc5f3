//! [`Related`]: how a condition over one row asks about others.

use uuid::Uuid;

use super::{Condition, FieldAt};
use crate::schema::{ObjectRef, Row};

/// Knows the rows around one row, for conditions over related records: the row that a reference
/// leads to, and those that lead to a record.
pub trait Related {
    /// The row of `object` with this id, deleted ones included.
    fn get(&self, object: &ObjectRef, id: Uuid) -> Option<Row>;

    /// Whether a row of `object` that is not deleted leads to the record `id` by the reference `by`
    /// and fulfils `condition`. Archived rows count.
    fn any(&self, object: &ObjectRef, by: &FieldAt, id: Uuid, condition: &Condition) -> bool;
}

/// What conditions ask about related records.
pub type RelatedRows<'a> = dyn Related + 'a;

/// Knows no other row: for conditions over one record alone.
///
/// ```
/// use crm_core::query::{Condition, NoRelated, Query};
/// use crm_core::{accounts::Account, schema::Entity, storage};
///
/// let query = Query::new(Account::schema(), Condition::all());
/// assert!(storage::scan(&query, Vec::new(), &NoRelated).is_empty());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRelated;

impl Related for NoRelated {
    fn get(&self, _: &ObjectRef, _: Uuid) -> Option<Row> {
        None
    }

    fn any(&self, _: &ObjectRef, _: &FieldAt, _: Uuid, _: &Condition) -> bool {
        false
    }
}

/// Knows other rows by two functions, for backends that have all rows at hand: one finds a row by
/// its id, the other gives all rows of an object that the scope sees. What leads to a record is
/// found by looking at all of them.
#[derive(Clone, Copy, Debug)]
pub struct RelatedBy<G, A> {
    get: G,
    all: A,
}

impl<G, A> RelatedBy<G, A>
where
    G: Fn(&ObjectRef, Uuid) -> Option<Row>,
    A: Fn(&ObjectRef) -> Vec<Row>,
{
    /// `get` finds a row by its id, `all` gives all rows of an object.
    pub const fn new(get: G, all: A) -> Self {
        Self { get, all }
    }
}

impl<G, A> Related for RelatedBy<G, A>
where
    G: Fn(&ObjectRef, Uuid) -> Option<Row>,
    A: Fn(&ObjectRef) -> Vec<Row>,
{
    fn get(&self, object: &ObjectRef, id: Uuid) -> Option<Row> {
        (self.get)(object, id)
    }

    fn any(&self, object: &ObjectRef, by: &FieldAt, id: Uuid, condition: &Condition) -> bool {
        (self.all)(object).iter().any(|row| {
            !row.is_deleted() && by.id(&**row) == Some(id) && condition.matches(&**row, self)
        })
    }
}

//! [`Around`]: the records that the paths of an expression lead to, read together.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::UnitOfWork;
use crate::error::Result;
use crate::expression::{At, Typed};
use crate::query::{Condition, FieldAt, Related};
use crate::schema::{Lifecycle, ObjectRef, ObjectScope, Row};

/// The live records that the paths of an expression lead to from some records, for
/// [`RowValues::with_related`](crate::expression::RowValues::with_related).
///
/// ```
/// # use crm_core::{UnitOfWork, error::Result, schema::Row};
/// use crm_core::engine::Around;
/// use crm_core::expression::{Context, RowValues, Typed};
/// # async fn example(work: &UnitOfWork, deals: &[Row], rule: &Typed, context: &Context) -> Result<()> {
/// // One round trip for each reference of each path, however many deals there are.
/// let around = Around::of(work, deals, rule).await?;
/// for deal in deals {
///     let is_right = rule.decide(&RowValues::with_related(&**deal, &around), context);
/// #   let _ = is_right;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Around {
    rows: HashMap<(String, Uuid), Option<Row>>,
}

/// Does not show the records.
impl std::fmt::Debug for Around {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Around")
            .field("rows", &self.rows.len())
            .finish()
    }
}

impl Around {
    /// Reads them, with what is staged: in one round trip for each reference of each path.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn of(work: &UnitOfWork, rows: &[Row], typed: &Typed) -> Result<Self> {
        let mut around = Self::default();
        for field in typed.dependencies() {
            let mut level: Vec<Row> = Vec::new();
            for (place, (at, object)) in field.references().enumerate() {
                let from = if place == 0 { rows } else { &level };
                let ids = from.iter().filter_map(|row| at.id_in(&**row));
                let ids: BTreeSet<Uuid> = ids.collect();
                around.read(work, object, &ids).await?;
                level = around.reached(from, at, object);
            }
        }
        Ok(around)
    }

    async fn read(
        &mut self,
        work: &UnitOfWork,
        object: &ObjectRef,
        ids: &BTreeSet<Uuid>,
    ) -> Result<()> {
        let key = |id: Uuid| (object.name().to_owned(), id);
        let unknown = ids.iter().filter(|id| !self.rows.contains_key(&key(**id)));
        let unknown: Vec<Uuid> = unknown.copied().collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let read = work.rows(object, &unknown).await?;
        self.rows
            .extend(unknown.into_iter().map(|id| (key(id), None)));
        let live = read.into_iter().filter(|row| !row.is_deleted());
        self.rows.extend(live.map(|row| (key(row.id()), Some(row))));
        Ok(())
    }

    /// The records that a reference of some records leads to, each once.
    #[must_use]
    pub fn reached(&self, from: &[Row], at: &At, object: &ObjectRef) -> Vec<Row> {
        let ids: BTreeSet<Uuid> = from.iter().filter_map(|row| at.id_in(&**row)).collect();
        ids.into_iter()
            .filter_map(|id| self.get(object, id))
            .collect()
    }

    /// Whether a decision can rest on a record, so that a change of it at the same time is a
    /// conflict: on one of the tenant that callers write.
    #[must_use]
    pub fn is_relied_on(object: &ObjectRef) -> bool {
        object.lifecycle() == Lifecycle::Full && object.scope() != ObjectScope::Platform
    }

    /// Makes a unit of work rely on all of them: a change of one at the same time is a conflict.
    pub fn rely(&self, work: &mut UnitOfWork) {
        let rows = self.rows.values().flatten();
        for row in rows.filter(|row| Self::is_relied_on(row.object())) {
            work.rely_on(&**row);
        }
    }
}

impl Related for Around {
    fn get(&self, object: &ObjectRef, id: Uuid) -> Option<Row> {
        self.rows
            .get(&(object.name().to_owned(), id))
            .cloned()
            .flatten()
    }

    fn any(&self, _: &ObjectRef, _: &FieldAt, _: Uuid, _: &Condition) -> bool {
        false
    }
}

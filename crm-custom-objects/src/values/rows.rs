//! What commit hooks share that keep rows in step with the records they follow from.

use std::collections::{HashMap, HashSet};

use crm_core::engine::UnitOfWork;
use crm_core::error::Result;
use crm_core::schema::{Entity, Row};
use uuid::Uuid;

/// How many rows are read at once.
pub(super) const PAGE: usize = 1_000;

/// What a row says, without what every row has.
pub(super) trait Follows: PartialEq + Sized + Send {
    /// The object of the rows.
    type Kept: Entity;

    /// The unique keys of the object: a rebuild may write the same rows at the same time.
    const KEYS: [&'static [&'static str]; 2];

    /// What a row says that is stored or staged.
    fn of(row: Row) -> Option<Self>;

    /// Stages the row with this id.
    fn keep(self, work: &mut UnitOfWork, id: Uuid, before: Option<Row>);
}

/// One row as it is to be.
#[derive(Debug)]
pub(super) struct Wanted<T> {
    pub(super) id: Uuid,
    pub(super) row: Option<T>,
}

/// What a commit means to rows.
#[derive(Debug)]
pub(super) struct Plan<T> {
    /// Whether anything was decided by the tenant's definitions.
    pub(super) is_decided: bool,
    /// Rows that are not there yet.
    new: Vec<Wanted<T>>,
    /// Rows that may be there.
    known: Vec<Wanted<T>>,
}

impl<T> Default for Plan<T> {
    fn default() -> Self {
        Self {
            is_decided: false,
            new: Vec::new(),
            known: Vec::new(),
        }
    }
}

impl<T: Follows> Plan<T> {
    /// Wants a row to be so. A new one is not there yet.
    pub(super) fn want(&mut self, wanted: Wanted<T>, is_new: bool) {
        match is_new {
            true if wanted.row.is_none() => {}
            true => self.new.push(wanted),
            false => self.known.push(wanted),
        }
    }

    /// Stages what is wanted.
    pub(super) async fn stage(self, work: &mut UnitOfWork) -> Result<()> {
        if !self.known.is_empty() {
            stage_known(work, self.known).await?;
        }
        for Wanted { id, row } in self.new {
            if let Some(row) = row {
                row.keep(work, id, None);
            }
        }
        Ok(())
    }
}

/// Stages what makes the stored rows those that are wanted; the ids of the rows that are written.
pub(super) async fn stage_known<T: Follows>(
    work: &mut UnitOfWork,
    wanted: Vec<Wanted<T>>,
) -> Result<HashSet<Uuid>> {
    let schema = T::Kept::schema();
    let ids: Vec<Uuid> = wanted.iter().map(|wanted| wanted.id).collect();
    let mut stored = HashMap::with_capacity(ids.len());
    for chunk in ids.chunks(PAGE) {
        let rows = work.rows(schema, chunk).await?;
        stored.extend(rows.into_iter().map(|row| (row.id(), row)));
    }
    let mut written = HashSet::new();
    for Wanted { id, row } in wanted {
        let before: Option<Row> = stored.remove(&id);
        match (before, row) {
            (before, Some(row)) => {
                if before.clone().and_then(T::of).as_ref() == Some(&row) {
                    continue;
                }
                if before.is_none() {
                    // A rebuild may do the same at the same time.
                    for key in T::KEYS {
                        work.contend(schema.name(), key);
                    }
                }
                row.keep(work, id, before);
            }
            (Some(before), None) => work.remove_derived(&before),
            (None, None) => continue,
        }
        written.insert(id);
    }
    Ok(written)
}

//! Where a record went that was merged into another.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::{Merge, one_of, place_of};
use crate::engine::{UnitOfWork, Workspace};
use crate::error::{Result, RuleViolation};
use crate::query::{Condition, FieldAt, Query};
use crate::schema::{Entity, ObjectRef, Row, system};

/// How many ids are asked for at once.
const BATCH: usize = 1_000;

/// That a merge stands.
pub(crate) fn stands() -> Condition {
    let undone = Condition::Null {
        field: FieldAt::new(place_of::<Merge>("undone_at")),
        is_null: true,
    };
    undone.and(Condition::not_deleted())
}

/// The merges that stand and took one of these records away.
fn away(ids: &[Uuid]) -> Query {
    let losers = one_of(place_of::<Merge>("loser_id"), ids);
    Query::new(Merge::schema(), losers.and(stands()))
}

/// The live records that these became part of, in the same order.
pub(crate) async fn resolve(
    workspace: &Workspace<'_>,
    object: &ObjectRef,
    ids: &[Uuid],
) -> Result<Vec<Option<Uuid>>> {
    let mut went: HashMap<Uuid, Uuid> = HashMap::new();
    let mut open: BTreeSet<Uuid> = ids.iter().copied().collect();
    while !open.is_empty() {
        let asked: Vec<Uuid> = open.iter().copied().collect();
        open.clear();
        for batch in asked.chunks(BATCH) {
            for row in workspace.select(&away(batch)).await? {
                if row.get("object").as_text() != Some(object.name()) {
                    continue;
                }
                let ids = (
                    row.get("loser_id").as_uuid(),
                    row.get("survivor_id").as_uuid(),
                );
                if let (Some(loser), Some(survivor)) = ids
                    && went.insert(loser, survivor).is_none()
                    && !went.contains_key(&survivor)
                {
                    open.insert(survivor);
                }
            }
        }
    }
    let last = |id: Uuid| {
        let mut last = id;
        for _ in 0..went.len() {
            match went.get(&last) {
                Some(next) => last = *next,
                None => break,
            }
        }
        last
    };
    let ends: BTreeSet<Uuid> = ids.iter().map(|id| last(*id)).collect();
    let ends: Vec<Uuid> = ends.into_iter().collect();
    let mut live = BTreeSet::new();
    for batch in ends.chunks(BATCH) {
        let condition = one_of(system::ID, batch).and(Condition::not_deleted());
        let rows = workspace.select(&Query::new(object, condition)).await?;
        live.extend(rows.iter().map(|row| row.id()));
    }
    Ok(ids
        .iter()
        .map(|id| Some(last(*id)).filter(|id| live.contains(id)))
        .collect())
}

/// The merge that stands and took this record away.
pub(crate) async fn merge_of(work: &UnitOfWork, object: &str, id: Uuid) -> Result<Option<Row>> {
    let merges = work.select(&away(&[id])).await?;
    let is_meant = |row: &Row| row.get("object").as_text() == Some(object);
    Ok(merges.into_iter().find(is_meant))
}

/// a record that was merged comes back when the merge is undone, not by itself.
pub(crate) async fn ensure_not_merged(
    work: &UnitOfWork,
    object: &ObjectRef,
    id: Uuid,
) -> Result<()> {
    match merge_of(work, object.name(), id).await? {
        Some(merge) => Err(RuleViolation::new(
            "merged",
            "R-018",
            format!(
                "the record was merged into another; undo the merge {}",
                merge.id()
            ),
        )
        .into()),
        None => Ok(()),
    }
}

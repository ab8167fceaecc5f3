//! States follow their deals: in the commit that changes these, and for deals that were written
//! past the engine.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{DealState, Succession, differ, succeed};
use crate::deals::Deal;
use crate::engine::{CommitHook, Progress, Records, UnitOfWork, in_work};
use crate::error::Result;
use crate::pipelines::Ways;
use crate::query::{Condition, Query, SortKey};
use crate::record::Record;
use crate::schema::{Entity, Row, Value, system};

/// How many deals are read at once, and for how many one commit is made.
const BATCH: usize = 500;

/// A deal that a commit changes.
struct Changed {
    id: Uuid,
    /// As it was, unless it is new or was deleted.
    was: Option<Arc<Record<Deal>>>,
    /// When it was deleted, if it comes back.
    deleted_at: Option<DateTime<Utc>>,
    /// As it will be, unless it goes.
    is: Option<Arc<Record<Deal>>>,
}

impl Changed {
    const fn is_new(&self) -> bool {
        self.was.is_none() && self.deleted_at.is_none()
    }
}

/// Ends and begins the states of the deals of a commit.
#[derive(Debug)]
pub(crate) struct DealStateHook;

#[async_trait]
impl CommitHook for DealStateHook {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let changed = changed(work);
        // A new deal has no state yet.
        let known = changed.iter().filter(|deal| !deal.is_new());
        let known: Vec<Uuid> = known.map(|deal| deal.id).collect();
        let mut known = last_states(work, &known).await?;
        let now = work.now();
        for deal in changed {
            let row = known.remove(&deal.id);
            let state = match (&row, &deal.was) {
                (Some(row), _) => Some(row.data.clone()),
                // It was written past the engine: so much is known, that it was so since then.
                (None, Some(was)) => Some(DealState::of(was, was.updated.at)?),
                (None, None) => None,
            };
            let from = deal.deleted_at.map_or(now, |at| now.max(at));
            let next = deal.is.as_ref();
            let mut next = next.map(|deal| DealState::of(deal, from)).transpose()?;
            if let Some(next) = &mut next {
                tell_places(work, state.as_ref(), next, now).await?;
            }
            if row.is_none() && !deal.is_new() {
                // Whoever is faster begins it; the other call runs again and finds it.
                work.contend("deal_state", &["id"]);
            }
            write(work, deal.id, row, succeed(state, next, now))?;
        }
        Ok(())
    }
}

/// Tells where the stages stand between which a deal moves; while it stays, its stage stands where it
/// stood when the deal came.
async fn tell_places(
    work: &UnitOfWork,
    known: Option<&DealState>,
    next: &mut DealState,
    at: DateTime<Utc>,
) -> Result<()> {
    match known.filter(|known| known.stage_id == next.stage_id) {
        Some(known) => {
            let told = known.stage_order;
            next.tell_places(Some(known), at, |_| told);
        }
        None => {
            let ways = work.remembered::<Ways>().await?;
            let order = |stage| Some(ways.step(stage)?.stage.stage_order);
            next.tell_places(known, at, order);
        }
    }
    Ok(())
}

/// The deals of which a commit changes what their states tell.
fn changed(work: &UnitOfWork) -> Vec<Changed> {
    let mut changed = Vec::new();
    for change in work.staged() {
        if change.object() != Deal::schema() {
            continue;
        }
        let live = |row: Option<&Row>| row.filter(|row| !row.is_deleted()).cloned();
        let (before, after) = (live(change.before()), live(change.after()));
        let is_changed = match (&before, &after) {
            (None, None) => false,
            (Some(before), Some(after)) => differ(&**before, &**after),
            _ => true,
        };
        if is_changed {
            changed.push(Changed {
                id: change.id(),
                was: before.and_then(Record::from_row),
                deleted_at: change.before().and_then(|row| row.meta().deleted_at),
                is: after.and_then(Record::from_row),
            });
        }
    }
    changed
}

/// The last states of some deals. They have the ids of their deals, so that there is never another
/// one, and end in place: nothing new may refer to a deal that is deleted.
async fn last_states(
    work: &UnitOfWork,
    deals: &[Uuid],
) -> Result<HashMap<Uuid, Arc<Record<DealState>>>> {
    if deals.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = work.rows(DealState::schema(), deals).await?;
    let states = rows.into_iter().filter_map(Record::<DealState>::from_row);
    Ok(states.map(|state| (state.id.uuid(), state)).collect())
}

/// Stages what becomes of the last state of a deal.
fn write(
    work: &mut UnitOfWork,
    deal: Uuid,
    known: Option<Arc<Record<DealState>>>,
    Succession { ended, last }: Succession,
) -> Result<()> {
    if let Some(ended) = ended {
        work.append_entry(ended)?;
    }
    let known: Option<Row> = known.map(|row| row as Row);
    match (last, known) {
        (Some(last), known) => work.keep_derived(deal, known, last),
        (None, Some(row)) => work.remove(&row),
        (None, None) => {}
    }
    Ok(())
}

/// What was done for deals whose states were not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatesBegun {
    /// How many deals there are.
    pub deals: u64,
    /// How many of them had no open state, or one that says something else.
    pub begun: u64,
    /// Whether it was stopped before the end.
    pub stopped: bool,
}

impl Records<'_, Deal> {
    /// Begins the states of deals that were written past the engine, as by the import of a tenant.
    ///
    /// Such a deal was what it is since it was last written; what it was before, nobody kept. Deals
    /// whose states are right stay as they are. Others may write meanwhile, and it may be run again
    /// at any time. Deals are read in batches of 500, each a commit.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// # async fn example(session: &Session) -> Result<()> {
    /// let done = session.deals().begin_states(&()).await?;
    /// println!("{} of {} deals were new", done.begun, done.deals);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn begin_states(&mut self, progress: &dyn Progress) -> Result<StatesBegun> {
        let mut done = StatesBegun::default();
        let mut after = None;
        loop {
            let mut query = Query::new(Deal::schema(), Condition::not_deleted()).limit(BATCH);
            query.sort = vec![SortKey {
                index: system::ID,
                descending: false,
            }];
            query.after = after;
            let rows = self.workspace.select(&query).await?;
            let ids: Vec<Uuid> = rows.iter().map(|row| row.id()).collect();
            let Some(last) = ids.last().copied() else {
                return Ok(done);
            };
            let begun: Result<usize> = in_work!(self.workspace, |work| { begin(work, &ids).await });
            done.begun += begun? as u64;
            done.deals += ids.len() as u64;
            if progress.report(done.deals, None).is_break() {
                done.stopped = true;
                return Ok(done);
            }
            if ids.len() < BATCH {
                return Ok(done);
            }
            after = Some(vec![Value::Uuid(last)]);
        }
    }
}

/// Makes the open states of some deals say what these are.
async fn begin(work: &mut UnitOfWork, ids: &[Uuid]) -> Result<usize> {
    let mut known = last_states(work, ids).await?;
    let mut begun = 0;
    for row in work.rows(Deal::schema(), ids).await? {
        let Some(deal) = Record::<Deal>::from_row(row).filter(|deal| deal.deleted_at.is_none())
        else {
            continue;
        };
        let known = known.remove(&deal.id.uuid());
        let mut next = DealState::of(&deal, deal.updated.at)?;
        if known
            .as_ref()
            .is_some_and(|known| known.valid_until.is_none() && known.says_the_same(&next))
        {
            continue;
        }
        // What it says must still be so when this is written.
        work.rely_on(&*deal);
        let state = known.as_ref().map(|known| known.data.clone());
        tell_places(work, state.as_ref(), &mut next, deal.updated.at).await?;
        let succession = succeed(state, Some(next), deal.updated.at);
        if known.is_none() {
            work.contend("deal_state", &["id"]);
        }
        write(work, deal.id.uuid(), known, succession)?;
        begun += 1;
    }
    Ok(begun)
}

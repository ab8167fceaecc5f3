//! The figures of a whole tenant, for rows that were written past the engine.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use uuid::Uuid;

use super::{Difference, HasDeals, RECOMPUTED, typed, write};
use crate::Id;
use crate::accounts::Account;
use crate::contacts::Contact;
use crate::deals::{Deal, DealStats, DealStatus};
use crate::engine::{Progress, Records, Settle, UnitOfWork, Workspace, in_work};
use crate::error::{Error, Result};
use crate::query::{Aggregate, Condition, Query};
use crate::schema::{Entity, FieldValue, Value};
use crate::value::{Currency, Money, TextValue};

/// How many records are read, and written in one commit.
const AT_ONCE: usize = 500;

/// What a recomputation of deal statistics did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatisticsRecomputed {
    /// How many contacts and accounts were looked at.
    pub checked: u64,
    /// How many of them had other figures than their deals say.
    pub mended: u64,
    /// Whether it was stopped before the end.
    pub is_stopped: bool,
}

/// Some records, looked at.
#[derive(Default)]
struct Batch {
    checked: u64,
    mended: u64,
    last: Option<Uuid>,
}

impl Settle for Batch {}

impl Records<'_, Deal> {
    /// Works out the figures of all contacts and accounts over their deals anew, after rows were
    /// written past the engine. What counts is told at [`statistics`](crate::deals::statistics).
    ///
    /// Some hundred records are one commit, so a run that is stopped or fails has done its work up to
    /// there; run again it does the rest, and writes nothing where nothing is wrong. Others may write
    /// meanwhile. It needs the memory of some hundred records; their deals are counted by the
    /// storage.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// # async fn example(session: &Session) -> Result<()> {
    /// let run = session.deals().recompute_statistics(&()).await?;
    /// println!("{} of {} records were wrong", run.mended, run.checked);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Forbidden`] in a unit of work, which is one commit; those of the storage.
    pub async fn recompute_statistics(
        &mut self,
        progress: &dyn Progress,
    ) -> Result<StatisticsRecomputed> {
        if !matches!(self.workspace, Workspace::Session(_)) {
            return Err(Error::Forbidden {
                reason: "`recompute_statistics` runs over many commits: call it on a session"
                    .into(),
            });
        }
        let mut done = StatisticsRecomputed::default();
        self.recompute::<Contact>(progress, &mut done).await?;
        if !done.is_stopped {
            self.recompute::<Account>(progress, &mut done).await?;
        }
        Ok(done)
    }

    async fn recompute<H: HasDeals>(
        &mut self,
        progress: &dyn Progress,
        done: &mut StatisticsRecomputed,
    ) -> Result<()> {
        let mut after = None;
        loop {
            let batch: Result<Batch> =
                in_work!(self.workspace, |work| { mend::<H>(work, after).await });
            let batch = batch?;
            done.checked += batch.checked;
            done.mended += batch.mended;
            let is_last = batch.checked < AT_ONCE as u64;
            if progress.report(done.checked, None) == ControlFlow::Break(()) {
                done.is_stopped = true;
                return Ok(());
            }
            if is_last {
                return Ok(());
            }
            after = batch.last;
        }
    }
}

/// Mends the figures of the next records behind an id, archived ones too.
async fn mend<H: HasDeals>(work: &mut UnitOfWork, after: Option<Uuid>) -> Result<Batch> {
    let mut query = Query::new(H::schema(), Condition::not_deleted()).limit(AT_ONCE);
    query.after = after.map(|id| vec![Value::Uuid(id)]);
    // The records first: a deal that changes after this also changes its record, and then what is
    // written here is a conflict.
    let rows = work.select(&query).await?;
    let mut batch = Batch::default();
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id()).collect();
    if ids.is_empty() {
        return Ok(batch);
    }
    let mut counted = counted::<H>(work, &ids).await?;
    for row in rows {
        let id = row.id();
        batch.checked += 1;
        batch.last = Some(id);
        let figures = counted.remove(&id).unwrap_or_default();
        if typed::<H>(&row).is_some_and(|record| *record.stats() == figures) {
            continue;
        }
        work.set_note(id, Some(RECOMPUTED));
        batch.mended += u64::from(write::<H>(work, row, figures).await?);
    }
    Ok(batch)
}

/// The figures over the deals of some records, as the storage counts them.
async fn counted<H: HasDeals>(
    work: &UnitOfWork,
    ids: &[Uuid],
) -> Result<BTreeMap<Uuid, DealStats>> {
    let aggregate = Aggregate::<Deal>::new()
        .with_archived()
        .filter(H::LINK.one_of(ids.iter().map(|id| Id::<H>::new(*id))))
        .group_by(H::LINK)
        .group_by(Deal::CURRENCY)
        .group_by(Deal::STATUS)
        .count()
        .sum(Deal::AMOUNT);
    let registry = &*work.registry().await?;
    let query = aggregate.bind(Deal::schema(), registry)?;
    let mut sums: BTreeMap<Uuid, Difference> = BTreeMap::new();
    for group in work.aggregate(&query).await? {
        let currency = group.key(1).as_text().map(Currency::parse).transpose()?;
        let (Some(id), Some(currency)) = (group.key(0).as_uuid(), currency) else {
            continue;
        };
        let is_won = group.key(2) == DealStatus::Won.value();
        let money = group.number(1).map(|sum| Money::new(sum, currency));
        let deals = i64::try_from(group.count(0)).unwrap_or(i64::MAX);
        sums.entry(id).or_default().add(deals, money, is_won)?;
    }
    let nothing = DealStats::default();
    let figures = sums.into_iter();
    let figures = figures.map(|(id, sum)| Ok((id, nothing.after(&sum)?)));
    figures.collect()
}

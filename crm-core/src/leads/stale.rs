//! R-036: leads with which nothing was done for long are archived.

use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::{DateTime, Months, Utc};

use super::{Lead, LeadStatus};
use crate::engine::workspace::Settle;
use crate::engine::{Progress, Records, UnitOfWork, Workspace, in_work};
use crate::error::{Error, Result};
use crate::query::{AggregateQuery, Condition, Query, SortKey, Where, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, Value};

/// How many leads are archived in one commit.
const AT_ONCE: usize = 500;

/// What the archiving of stale leads came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StaleLeads {
    /// How many leads were archived.
    pub archived: u64,
    /// Whether the run was stopped before its end.
    pub is_stopped: bool,
}

/// The statuses of leads that grow stale: neither converted nor archived.
fn statuses() -> impl Iterator<Item = LeadStatus> {
    let is_done =
        |status: &LeadStatus| matches!(status, LeadStatus::Converted | LeadStatus::Archived);
    LeadStatus::ALL
        .iter()
        .copied()
        .filter(move |status| !is_done(status))
}

/// The two ways in which nothing was done since a time. The last activity is `last_activity_at`, or
/// else the making of the lead. Each is a range of the index over status, last activity and creation.
fn idle_since(cutoff: DateTime<Utc>) -> [Where<Lead>; 2] {
    [
        Lead::LAST_ACTIVITY_AT.lt(cutoff),
        Lead::LAST_ACTIVITY_AT
            .is_null()
            .and(Lead::CREATED_AT.lt(cutoff)),
    ]
}

/// One commit's worth of leads, and where the next begins.
struct Batch {
    archived: usize,
    next: Option<Vec<Value>>,
}

impl Settle for Batch {}

/// The leads of some statuses, not archived, that fulfil a filter.
async fn wanted(work: &Workspace<'_>, filter: Where<Lead>) -> Result<Condition> {
    let registry = &*work.registry().await?;
    let condition = Condition::bind(&filter.into_filter(), Lead::schema(), registry)?;
    let visible = Condition::not_deleted().and(Condition::not_archived());
    Ok(visible.and(condition))
}

async fn archive_batch(work: &mut UnitOfWork, query: &Query) -> Result<Batch> {
    let rows = work.select(query).await?;
    let next = rows.last().filter(|_| rows.len() == AT_ONCE).map(|row| {
        let keys = query.sort.iter();
        keys.map(|key| row.value(key.index).into_owned()).collect()
    });
    let leads: Vec<Arc<Record<Lead>>> = rows.into_iter().filter_map(Record::from_row).collect();
    let archived = leads.len();
    for lead in leads {
        work.update_record(lead, &|lead: &mut Lead| lead.status = LeadStatus::Archived)
            .await?;
    }
    Ok(Batch { archived, next })
}

impl Records<'_, Lead> {
    /// Archives every lead with which nothing was done for the tenant's
    /// [period](crate::tenancy::Configurations::stale_lead_months), two years if nothing else is set
    /// (R-036). What counts is the last activity or, where there was none, when the lead was made;
    /// converted and archived leads stay as they are.
    ///
    /// Some hundred leads are one commit, so a run that is stopped has done its work up to there, and
    /// the next one does the rest. It needs the memory of some hundred leads.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// # async fn example(session: &Session) -> Result<()> {
    /// println!("{} leads are stale", session.leads().count_stale().await?);
    /// let done = session.leads().archive_stale(&()).await?;
    /// println!("{} leads were archived", done.archived);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Forbidden`] in a unit of work, which is one commit; what the rules of leads refuse.
    pub async fn archive_stale(&mut self, progress: &dyn Progress) -> Result<StaleLeads> {
        if matches!(self.workspace, Workspace::Unit(_)) {
            let reason = "`archive_stale` runs over many commits: call it on a session";
            return Err(Error::Forbidden {
                reason: reason.into(),
            });
        }
        let total = self.count_stale().await?;
        let cutoff = self.stale_cutoff().await?;
        let mut done = StaleLeads::default();
        for status in statuses() {
            for (idle, by) in idle_since(cutoff)
                .into_iter()
                .zip([Lead::LAST_ACTIVITY_AT.name(), Lead::CREATED_AT.name()])
            {
                let filter = Lead::STATUS.eq(status).and(idle);
                let condition = wanted(&self.workspace, filter).await?;
                let by = Lead::schema().field_index(&by);
                let sort = by.map(|index| SortKey {
                    index,
                    descending: false,
                });
                let mut query = Query::new(Lead::schema(), condition)
                    .sort(sort.into_iter().collect())
                    .limit(AT_ONCE);
                loop {
                    let batch: Result<Batch> =
                        in_work!(self.workspace, |work| { archive_batch(work, &query).await });
                    let Batch { archived, next } = batch?;
                    done.archived += archived as u64;
                    let seen = progress.report(done.archived, Some(total.max(done.archived)));
                    let ends = next.is_none();
                    if seen == ControlFlow::Break(()) {
                        done.is_stopped = done.archived < total;
                        return Ok(done);
                    }
                    query.after = next;
                    if ends {
                        break;
                    }
                }
            }
        }
        Ok(done)
    }

    /// How many leads [`archive_stale`](Self::archive_stale) would archive now. Writes nothing.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn count_stale(&self) -> Result<u64> {
        let cutoff = self.stale_cutoff().await?;
        let mut count = 0;
        for idle in idle_since(cutoff) {
            let filter = Lead::STATUS.one_of(statuses()).and(idle);
            let condition = wanted(&self.workspace, filter).await?;
            let query = AggregateQuery::count(Lead::schema(), condition);
            let groups = self.workspace.aggregate(&query).await?;
            count += groups.first().map_or(0, |group| group.count(0));
        }
        Ok(count)
    }

    /// Before when the last activity of a stale lead was.
    async fn stale_cutoff(&self) -> Result<DateTime<Utc>> {
        let (months, now) = match &self.workspace {
            Workspace::Session(session) => {
                let months = session.configurations().stale_lead_months().await?;
                (months, session.engine().clock().now())
            }
            Workspace::Unit(work) => {
                let settings = work.session().configurations();
                (settings.stale_lead_months().await?, work.now())
            }
        };
        // No period that may be set reaches back so far.
        let cutoff = now.checked_sub_months(Months::new(months));
        Ok(cutoff.unwrap_or(DateTime::UNIX_EPOCH))
    }
}

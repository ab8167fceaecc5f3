//! Deals that nobody works on: those rot (per stage, [`PipelineStage::rotting_after_days`]).
//!
//! Nothing is stored: a deal rots from the moment that its stage says, as the stage says it now. Open
//! deals rot so many days after the later of two moments: the last activity, and the entry into the
//! stage. Closed deals never rot.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Deal, DealStatus};
use crate::Id;
use crate::engine::Records;
use crate::error::Result;
use crate::pipelines::PipelineStage;
use crate::query::{Find, Page, Where, WhereExt};
use crate::record::Record;

/// From when on a deal rots in its stage; `None` if it is closed or the stage lets nothing rot.
///
/// ```
/// use chrono::{DateTime, TimeDelta, Utc};
/// use crm_core::deals::{Deal, rots_from};
/// use crm_core::{Id, pipelines::PipelineStage};
///
/// let pipeline = Id::new(uuid::Uuid::from_u128(1));
/// let stage = PipelineStage {
///     rotting_after_days: Some(7),
///     ..PipelineStage::new(pipeline, "Proposal", 3_u32)
/// };
/// let entered: DateTime<Utc> = "2026-03-01T09:00:00Z".parse().unwrap();
/// let deal = Deal { stage_entered_at: Some(entered), ..Deal::new("Rollout", pipeline) };
/// assert_eq!(rots_from(&deal, &stage), Some(entered + TimeDelta::days(7)));
/// ```
#[must_use]
pub fn rots_from(deal: &Deal, stage: &PipelineStage) -> Option<DateTime<Utc>> {
    let days = stage.rotting_after_days.filter(|_| !deal.is_closed())?;
    // `None` is before everything.
    let touched = deal.last_activity_at.max(deal.stage_entered_at)?;
    touched.checked_add_signed(threshold(days)?)
}

fn threshold(days: i32) -> Option<TimeDelta> {
    TimeDelta::try_days(i64::from(days))
}

/// The deals that rot in some stages at a moment; `None` if no stage lets anything rot.
fn rotten(stages: &[Arc<Record<PipelineStage>>], now: DateTime<Utc>) -> Option<Where<Deal>> {
    let mut by_days: BTreeMap<i32, Vec<Id<PipelineStage>>> = BTreeMap::new();
    for stage in stages.iter().filter(|stage| !stage.is_closed()) {
        if let Some(days) = stage.rotting_after_days {
            by_days.entry(days).or_default().push(stage.id);
        }
    }
    let mut any: Option<Where<Deal>> = None;
    for (days, stages) in by_days {
        let Some(last) = threshold(days).and_then(|days| now.checked_sub_signed(days)) else {
            continue;
        };
        let idle = Deal::LAST_ACTIVITY_AT.le(last);
        let idle = idle.or(Deal::LAST_ACTIVITY_AT.is_null());
        let here = Deal::STAGE_ID
            .one_of(stages)
            .and(Deal::STAGE_ENTERED_AT.le(last))
            .and(idle);
        any = Some(match any {
            Some(any) => any.or(here),
            None => here,
        });
    }
    any.map(|any| Deal::STATUS.eq(DealStatus::Open).and(any))
}

impl Records<'_, Deal> {
    /// One page of the deals that rot now, of those that a query asks for: nobody has worked on them
    /// for longer than their stage allows. Thresholds count as they are now.
    ///
    /// ```
    /// # use crm_core::{Session, Id, deals::Deal, error::Result, identity::User, query::Find};
    /// # async fn example(session: &Session, rep: Id<User>) -> Result<()> {
    /// let mine = Find::from(Deal::OWNER_ID.eq(rep)).sort(Deal::STAGE_ENTERED_AT.asc());
    /// for deal in session.deals().rotting(mine).await?.items {
    ///     println!("{} rots", deal.name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Query`](crate::Error::Query).
    pub async fn rotting(&self, find: impl Into<Find<Deal>>) -> Result<Page<Arc<Record<Deal>>>> {
        let now = self.workspace.session().engine().clock().now();
        let limits = PipelineStage::ROTTING_AFTER_DAYS.is_not_null();
        let stages = self.workspace.find_all(limits).await?;
        // Where nothing rots, a filter that nothing fulfils.
        let rotten = rotten(&stages, now).unwrap_or_else(|| Deal::STAGE_ID.is_null());
        self.workspace.find(find.into().filter(rotten)).await
    }

    /// Whether a deal rots now.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn is_rotting(&self, deal: Id<Deal>) -> Result<bool> {
        let now = self.workspace.session().engine().clock().now();
        let deal = self.get(deal).await?;
        let Some(stage) = deal.stage_id else {
            return Ok(false);
        };
        let stages = self.workspace.find_all(PipelineStage::ID.eq(stage)).await?;
        let from = stages.first().and_then(|stage| rots_from(&deal, stage));
        Ok(from.is_some_and(|from| from <= now))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_later_of_activity_and_entry_counts_and_closed_deals_never_rot() {
        let at = |text: &str| Some(text.parse::<DateTime<Utc>>().unwrap());
        let pipeline = Id::new(Uuid::from_u128(1));
        let stage = |days| PipelineStage {
            rotting_after_days: days,
            ..PipelineStage::new(pipeline, "Proposal", 3_u32)
        };
        let deal = |entered, active, status| Deal {
            stage_entered_at: entered,
            last_activity_at: active,
            status,
            ..Deal::new("Rollout", pipeline)
        };
        let (early, late) = (at("2026-03-01T09:00:00Z"), at("2026-03-05T09:00:00Z"));
        let open = DealStatus::Open;
        let cases = [
            (deal(early, None, open), at("2026-03-08T09:00:00Z")),
            (deal(early, late, open), at("2026-03-12T09:00:00Z")),
            (deal(late, early, open), at("2026-03-12T09:00:00Z")),
            (deal(early, None, DealStatus::Won), None),
            (deal(early, None, DealStatus::Lost), None),
            (deal(None, None, open), None),
        ];
        for (deal, expected) in cases {
            assert_eq!(rots_from(&deal, &stage(Some(7))), expected);
            assert_eq!(rots_from(&deal, &stage(None)), None);
        }
    }
}

//! [`StageTimes`]: how long a deal was in its stages, re-entries included (C-012).

use chrono::{DateTime, TimeDelta, Utc};

use super::{Deal, DealStageChange, history_of};
use crate::Id;
use crate::engine::{Records, in_work};
use crate::error::Result;
use crate::pipelines::PipelineStage;
use crate::record::Record;

/// How long a deal was in its stages until a moment.
///
/// The stays follow one another without a gap, so their times add up to the age of the deal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageTimes {
    /// One for each time that the deal entered a stage, the first one first; the last is where it is.
    pub stays: Vec<Stay>,
}

/// One stay of a deal in a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stay {
    /// The stage.
    pub stage: Id<PipelineStage>,
    /// Its name at the time.
    pub name: String,
    /// The how many-th stay in this stage it is, from 1.
    pub entry: u32,
    /// Since when.
    pub entered_at: DateTime<Utc>,
    /// Until when; `None` while the deal is there.
    pub left_at: Option<DateTime<Utc>>,
    /// For how long; until the moment of the question while the deal is there.
    pub time: TimeDelta,
}

/// What the stays in one stage come to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageTotal {
    /// The stage.
    pub stage: Id<PipelineStage>,
    /// Its name at the last stay.
    pub name: String,
    /// How often the deal entered it.
    pub entries: u32,
    /// How long it was there altogether.
    pub time: TimeDelta,
}

impl StageTimes {
    /// From the history of a deal, the first step first, at the moment `now`.
    ///
    /// ```
    /// use crm_core::deals::StageTimes;
    ///
    /// let nothing = StageTimes::of(&[], "2026-03-01T00:00:00Z".parse().unwrap());
    /// assert!(nothing.stays.is_empty() && nothing.total().is_zero());
    /// ```
    #[must_use]
    pub fn of(history: &[&Record<DealStageChange>], now: DateTime<Utc>) -> Self {
        let mut stays: Vec<Stay> = Vec::with_capacity(history.len());
        for (place, step) in history.iter().enumerate() {
            let entered_at = step.created.at;
            let left_at = history.get(place + 1).map(|next| next.created.at);
            let before = stays.iter().filter(|stay| stay.stage == step.to_stage_id);
            let entries = before.map(|stay| stay.entry).max().unwrap_or_default();
            stays.push(Stay {
                stage: step.to_stage_id,
                name: step.to_stage.clone(),
                entry: entries + 1,
                entered_at,
                left_at,
                time: left_at.unwrap_or(now) - entered_at,
            });
        }
        Self { stays }
    }

    /// The stays of each stage together, in the order in which the deal first came there.
    #[must_use]
    pub fn totals(&self) -> Vec<StageTotal> {
        let mut totals: Vec<StageTotal> = Vec::new();
        for stay in &self.stays {
            match totals.iter_mut().find(|total| total.stage == stay.stage) {
                Some(total) => {
                    total.name.clone_from(&stay.name);
                    total.entries = stay.entry;
                    total.time += stay.time;
                }
                None => totals.push(StageTotal {
                    stage: stay.stage,
                    name: stay.name.clone(),
                    entries: stay.entry,
                    time: stay.time,
                }),
            }
        }
        totals
    }

    /// All stays together: the age of the deal.
    #[must_use]
    pub fn total(&self) -> TimeDelta {
        self.stays
            .iter()
            .fold(TimeDelta::zero(), |sum, stay| sum + stay.time)
    }
}

impl Records<'_, Deal> {
    /// How long a deal was in each of its stages, up to now (C-012). Closed stages count like others:
    /// what a deal spent there before it was reopened is told too.
    ///
    /// ```
    /// # use crm_core::{Session, Id, deals::Deal, error::Result};
    /// # async fn example(session: &Session, deal: Id<Deal>) -> Result<()> {
    /// for total in session.deals().stage_times(deal).await?.totals() {
    ///     println!("{}: {} days in {} stays", total.name, total.time.num_days(), total.entries);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn stage_times(&mut self, deal: Id<Deal>) -> Result<StageTimes> {
        // The clock, not the time of the unit of work: that stands still.
        let now = self.workspace.session().engine().clock().now();
        let history: Result<Vec<_>> = in_work!(self.workspace, |work| {
            work.get(deal).await?;
            history_of(work, deal).await
        });
        let history = history?;
        let steps: Vec<&Record<DealStageChange>> = history.iter().map(|step| &**step).collect();
        Ok(StageTimes::of(&steps, now))
    }
}

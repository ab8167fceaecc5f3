//! [`StageSummary`]: what lies in each stage, now or at a past moment (C-121).

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::read::key;
use super::view::PipelineView;
use crate::Id;
use crate::deals::{Deal, DealState};
use crate::engine::Records;
use crate::error::Result;
use crate::identity::User;
use crate::pipelines::{Pipeline, PipelineStage};
use crate::query::{Aggregate, CalendarUnit, Filter, Group};
use crate::schema::Entity;
use crate::value::Currency;

/// The deals of one stage, owner, month of creation and currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageSummary {
    /// The stage.
    pub stage: Id<PipelineStage>,
    /// The owner, if there is one.
    pub owner: Option<Id<User>>,
    /// The first day of the month in which the deals were created.
    pub month: NaiveDate,
    /// The currency.
    pub currency: Currency,
    /// How many deals.
    pub deals: u64,
    /// What they are worth together.
    pub amount: Decimal,
    /// What they are worth together, each as far as it is probable that it is won.
    pub weighted: Decimal,
}

impl StageSummary {
    fn of(group: &Group) -> Option<Self> {
        Some(Self {
            stage: key(group, 0)?,
            owner: key::<Option<Id<User>>>(group, 1)?,
            month: key(group, 2)?,
            currency: key(group, 3)?,
            deals: group.count(0),
            amount: group.number(1)?,
            weighted: group.number(2)?,
        })
    }
}

impl Records<'_, Pipeline> {
    /// How many deals lie in each stage of a pipeline, by owner, month of creation and currency, and
    /// what they are worth: without those in the archive. One aggregate, over the deals as they are
    /// now or, if the view has a moment, over their states as of then.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, pipelines::Pipeline};
    /// use crm_core::pipelines::analytics::PipelineView;
    /// # async fn example(session: &Session, pipeline: Id<Pipeline>) -> Result<()> {
    /// let now = PipelineView::of(pipeline);
    /// let then = PipelineView {
    ///     as_of: Some("2026-01-01T00:00:00Z".parse().unwrap()),
    ///     ..now.clone()
    /// };
    /// let now = session.pipelines().stage_summary(&now).await?;
    /// let then = session.pipelines().stage_summary(&then).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no such pipeline;
    /// [`Error::Query`](crate::Error::Query) for a filter that does not fit.
    pub async fn stage_summary(&self, view: &PipelineView) -> Result<Vec<StageSummary>> {
        self.known_pipeline(view.pipeline).await?;
        let zone = self.zone(view.time_zone).await?;
        let registry = &*self.workspace.registry().await?;
        let month = CalendarUnit::Month;
        let query = match view.as_of {
            Some(at) => {
                let then = DealState::as_of(at).into_filter();
                Aggregate::<DealState>::new()
                    .filter_by_name(Filter::And(vec![view.states_in_use(), then]))
                    .group_by(DealState::STAGE_ID)
                    .group_by(DealState::OWNER_ID)
                    .group_by_calendar(DealState::DEAL_CREATED_AT, month, zone)
                    .group_by(DealState::CURRENCY)
                    .count()
                    .sum(DealState::AMOUNT)
                    .weighted_sum(DealState::AMOUNT, DealState::WIN_PROBABILITY)
                    .bind(DealState::schema(), registry)?
            }
            None => Aggregate::<Deal>::new()
                .filter_by_name(view.deals_now())
                .group_by(Deal::STAGE_ID)
                .group_by(Deal::OWNER_ID)
                .group_by_calendar(Deal::CREATED_AT, month, zone)
                .group_by(Deal::CURRENCY)
                .count()
                .sum(Deal::AMOUNT)
                .weighted_sum(Deal::AMOUNT, Deal::WIN_PROBABILITY)
                .bind(Deal::schema(), registry)?,
        };
        let groups = self.workspace.aggregate(&query).await?;
        Ok(groups.iter().filter_map(StageSummary::of).collect())
    }
}

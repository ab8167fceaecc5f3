//! How reports read the states of deals: what changed in the period deal by deal, and how many were
//! there before.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::view::{PipelineView, before};
use crate::Id;
use crate::deals::{DealState, DealStatus};
use crate::engine::{Records, Workspace};
use crate::error::Result;
use crate::pipelines::{Pipeline, PipelineStage};
use crate::query::{Aggregate, Condition, Filter, Group, Query, SortKey, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, FieldValue, Value};
use crate::tenancy;
use crate::value::{Currency, TimeZone};

/// How many states are read at once.
const PAGE: usize = 1_000;

/// The states in view that begin or end from `start` on and before what is known ends.
pub(super) fn touched(view: &PipelineView, start: DateTime<Utc>, known: DateTime<Utc>) -> Filter {
    let begins = DealState::VALID_FROM.ge(start);
    let ends = DealState::VALID_UNTIL
        .ge(start)
        .and(DealState::VALID_UNTIL.lt(known));
    let touched = DealState::VALID_FROM.lt(known).and(begins.or(ends));
    Filter::And(vec![view.states(), touched.into_filter()])
}

/// The value of a key of a group as a typed one.
pub(super) fn key<T: FieldValue>(group: &Group, index: usize) -> Option<T> {
    let value = group.keys.get(index)?.clone();
    T::from_value(value).ok()
}

impl Records<'_, Pipeline> {
    /// The time.
    pub(super) fn moment(&self) -> DateTime<Utc> {
        match &self.workspace {
            Workspace::Session(session) => session.engine().clock().now(),
            Workspace::Unit(work) => work.now(),
        }
    }

    /// Where the tenant's days begin.
    pub(super) async fn tenant_zone(&self) -> Result<TimeZone> {
        tenancy::zone(self.workspace.reading(&mut None)).await
    }

    /// The stages of a pipeline in their order, deleted ones too, behind those that are in their
    /// places now.
    pub(super) async fn all_stages(
        &self,
        pipeline: Id<Pipeline>,
    ) -> Result<Vec<Arc<Record<PipelineStage>>>> {
        let registry = &*self.workspace.registry().await?;
        let filter = PipelineStage::PIPELINE_ID.eq(pipeline).into_filter();
        let condition = Condition::bind(&filter, PipelineStage::schema(), registry)?;
        let query = Query::new(PipelineStage::schema(), condition);
        let rows = self.workspace.select(&query).await?.into_iter();
        let mut stages: Vec<Arc<Record<PipelineStage>>> =
            rows.filter_map(Record::from_row).collect();
        stages.sort_by_key(|stage| (stage.stage_order, stage.deleted_at.is_some()));
        Ok(stages)
    }

    /// How many deals in view were in each stage just before a moment, by currency, and whether
    /// they were open.
    pub(super) async fn counts_before(
        &self,
        view: &PipelineView,
        at: DateTime<Utc>,
    ) -> Result<Vec<(Id<PipelineStage>, Currency, bool, u64)>> {
        let then = DealState::as_of(before(at)).into_filter();
        let aggregate = Aggregate::<DealState>::new()
            .filter_by_name(Filter::And(vec![view.states(), then]))
            .group_by(DealState::STAGE_ID)
            .group_by(DealState::CURRENCY)
            .group_by(DealState::STATUS)
            .count();
        let registry = &*self.workspace.registry().await?;
        let query = aggregate.bind(DealState::schema(), registry)?;
        let groups = self.workspace.aggregate(&query).await?;
        let counts = groups.iter().filter_map(|group| {
            let is_open = key::<DealStatus>(group, 2)? == DealStatus::Open;
            Some((key(group, 0)?, key(group, 1)?, is_open, group.count(0)))
        });
        Ok(counts.collect())
    }

    /// Reads states deal by deal, each deal's in their order, in bounded memory.
    pub(super) async fn each_deal(
        &self,
        filter: &Filter,
        take: &mut (dyn FnMut(&[DealState]) -> Result<()> + Send),
    ) -> Result<()> {
        let schema = DealState::schema();
        let registry = &*self.workspace.registry().await?;
        let condition = Condition::bind(filter, schema, registry)?;
        let sort = [DealState::DEAL_ID.name(), DealState::VALID_FROM.name()];
        let sort = sort.iter().filter_map(|name| {
            Some(SortKey {
                index: schema.field_index(name)?,
                descending: false,
            })
        });
        let mut query = Query::new(schema, condition)
            .sort(sort.collect())
            .limit(PAGE);
        let mut states: Vec<DealState> = Vec::new();
        loop {
            let rows = self.workspace.select(&query).await?;
            let next: Option<Vec<Value>> = rows.last().filter(|_| rows.len() == PAGE).map(|row| {
                let keys = query.sort.iter();
                keys.map(|key| row.value(key.index).into_owned()).collect()
            });
            for state in rows.into_iter().filter_map(Record::<DealState>::from_row) {
                let is_another = |known: &DealState| known.deal_id != state.deal_id;
                if states.last().is_some_and(is_another) {
                    take(&states)?;
                    states.clear();
                }
                states.push(state.data.clone());
            }
            if next.is_none() {
                break;
            }
            query.after = next;
        }
        if states.is_empty() {
            return Ok(());
        }
        take(&states)
    }
}

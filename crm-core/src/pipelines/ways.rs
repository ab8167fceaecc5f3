//! [`Ways`]: the pipelines of a tenant with their stages, as rules look them up for every deal.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Pipeline, PipelineStage};
use crate::Id;
use crate::deals::Deal;
use crate::engine::{Remembered, UnitOfWork};
use crate::error::Result;
use crate::query::{Condition, Criteria, FieldAt, Refusal, locate};
use crate::record::Record;
use crate::schema::{Entity, Registry};

/// The pipelines of a tenant.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    pipelines: HashMap<Uuid, Way>,
    /// The pipeline of each stage.
    stages: HashMap<Uuid, Uuid>,
}

/// A pipeline with its stages in their order.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) pipeline: Arc<Record<Pipeline>>,
    pub(crate) stages: Vec<Step>,
}

/// A stage, ready to be asked.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) stage: Arc<Record<PipelineStage>>,
    /// Which deals may enter.
    pub(crate) criteria: Entrance,
    /// The fields that must be filled, in the order of their names; `None` for those that deals do
    /// not have any more.
    pub(crate) required: Vec<Option<FieldAt>>,
}

/// Which deals may enter a stage.
#[derive(Debug)]
pub(crate) enum Entrance {
    /// Any.
    Open,
    /// Those that fulfil this.
    Where(Condition),
    /// None: the criteria do not fit the schema of deals any more.
    Shut,
}

/// Binds the criteria of a stage to the schema of deals. They may not look at what entering changes.
pub(super) fn bind(criteria: &Criteria, registry: &Registry) -> Result<Condition, Refusal> {
    let own = [
        Deal::STAGE_ID.name(),
        Deal::STATUS.name(),
        Deal::WIN_PROBABILITY.name(),
        Deal::ACTUAL_CLOSE_DATE.name(),
        Deal::STAGE_ENTERED_AT.name(),
    ];
    let own: Vec<&str> = own.iter().map(AsRef::as_ref).collect();
    let (condition, _) = criteria.bind(Deal::schema(), registry, &own)?;
    Ok(condition)
}

impl Step {
    pub(crate) fn new(stage: Arc<Record<PipelineStage>>, registry: &Registry) -> Self {
        let criteria = match &stage.entry_criteria {
            None => Entrance::Open,
            Some(criteria) => match bind(criteria, registry) {
                Ok(condition) => Entrance::Where(condition),
                Err(_) => {
                    tracing::warn!(stage = %stage.id, "the criteria do not fit deals any more");
                    Entrance::Shut
                }
            },
        };
        let deals = registry.described(Deal::schema());
        let required = stage.required_fields.iter();
        let required = required.map(|name| Some(locate(&deals, name).ok()?.0));
        Self {
            required: required.collect(),
            stage,
            criteria,
        }
    }
}

impl Way {
    /// The stage with this id.
    pub(crate) fn step(&self, stage: Id<PipelineStage>) -> Option<&Step> {
        self.stages.iter().find(|step| step.stage.id == stage)
    }

    /// The open stages that deals may enter, in their order.
    pub(crate) fn open(&self) -> impl DoubleEndedIterator<Item = &Arc<Record<PipelineStage>>> {
        let stages = self.stages.iter().map(|step| &step.stage);
        stages.filter(|stage| !stage.is_closed() && stage.is_active)
    }
}

impl Ways {
    /// A pipeline.
    pub(crate) fn way(&self, pipeline: Id<Pipeline>) -> Option<&Way> {
        self.pipelines.get(&pipeline.uuid())
    }

    /// A stage, whichever pipeline it is of.
    pub(crate) fn step(&self, stage: Id<PipelineStage>) -> Option<&Step> {
        let pipeline = self.stages.get(&stage.uuid())?;
        self.pipelines.get(pipeline)?.step(stage)
    }

    /// Those of the tenant, read again where they do not know the pipeline or the stage: another
    /// process may have made it a moment ago.
    pub(crate) async fn with(
        work: &UnitOfWork,
        pipeline: Id<Pipeline>,
        stage: Option<Id<PipelineStage>>,
    ) -> Result<Arc<Self>> {
        let ways = work.remembered::<Self>().await?;
        let is_known =
            ways.way(pipeline).is_some() && stage.is_none_or(|stage| ways.step(stage).is_some());
        if is_known {
            Ok(ways)
        } else {
            Ok(Arc::new(Self::load(work).await?))
        }
    }
}

#[async_trait]
impl Remembered for Ways {
    const OBJECTS: &'static [&'static str] = &["pipeline", "pipeline_stage"];

    async fn load(work: &UnitOfWork) -> Result<Self> {
        let registry = &*work.registry().await?;
        let mut ways = Self::default();
        let all = Pipeline::CREATED_AT.is_not_null();
        for pipeline in work.find_all(all, Vec::new()).await? {
            let stages = Vec::new();
            let id = pipeline.id.uuid();
            ways.pipelines.insert(id, Way { pipeline, stages });
        }
        let all = PipelineStage::CREATED_AT.is_not_null();
        let mut stages = work.find_all(all, Vec::new()).await?;
        stages.sort_by_key(|stage| stage.stage_order);
        for stage in stages {
            let pipeline = stage.pipeline_id.uuid();
            if let Some(way) = ways.pipelines.get_mut(&pipeline) {
                ways.stages.insert(stage.id.uuid(), pipeline);
                way.stages.push(Step::new(stage, registry));
            }
        }
        Ok(ways)
    }
}

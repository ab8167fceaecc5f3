//! [`Ways`]: the pipelines of a tenant with their stages, as rules look them up for every deal.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Pipeline, PipelineStage};
use crate::Id;
use crate::deals::Deal;
use crate::engine::{Remembered, Requirement, UnitOfWork, computed_among};
use crate::error::{FieldError, Result};
use crate::query::{Condition, Criteria, FieldAt, Refusal, locate, own_fields};
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
    /// Which deals may enter, by a filter.
    pub(crate) criteria: Entrance<Condition>,
    /// Which deals may enter, by an expression.
    pub(crate) condition: Entrance<Requirement>,
    /// The keys of the computed fields of deals that any of these look at.
    pub(crate) computed: Vec<Box<str>>,
    /// The fields that must be filled, in the order of their names; `None` for those that deals do
    /// not have any more.
    pub(crate) required: Vec<Option<FieldAt>>,
}

/// Which deals may enter a stage.
#[derive(Debug)]
pub(crate) enum Entrance<T> {
    /// Any.
    Open,
    /// Those that fulfil this.
    Where(T),
    /// None: what is asked does not fit the schema of deals any more.
    Shut,
}

impl<T> Entrance<T> {
    /// What a stage asks, if it asks anything.
    fn of<E>(asked: Option<Result<T, E>>, stage: Id<PipelineStage>, what: &'static str) -> Self {
        match asked {
            None => Self::Open,
            Some(Ok(asked)) => Self::Where(asked),
            Some(Err(_)) => {
                tracing::warn!(%stage, what, "what a stage asks does not fit deals any more");
                Self::Shut
            }
        }
    }

    /// What is asked.
    pub(crate) const fn asked(&self) -> Option<&T> {
        match self {
            Self::Where(asked) => Some(asked),
            Self::Open | Self::Shut => None,
        }
    }
}

/// What entering a stage changes: what is asked of deals that enter may not look at it.
fn changed_by_entering() -> [Cow<'static, str>; 5] {
    [
        Deal::STAGE_ID.name(),
        Deal::STATUS.name(),
        Deal::WIN_PROBABILITY.name(),
        Deal::ACTUAL_CLOSE_DATE.name(),
        Deal::STAGE_ENTERED_AT.name(),
    ]
}

/// Binds the criteria of a stage to the schema of deals.
pub(super) fn bind(criteria: &Criteria, registry: &Registry) -> Result<Condition, Refusal> {
    let own = changed_by_entering();
    let own: Vec<&str> = own.iter().map(AsRef::as_ref).collect();
    let (condition, _) = criteria.bind(Deal::schema(), registry, &own)?;
    Ok(condition)
}

/// Reads the entry condition of a stage.
pub(super) fn require(source: &str, registry: &Registry) -> Result<Requirement, Vec<FieldError>> {
    let own = changed_by_entering();
    let own: Vec<&str> = own.iter().map(AsRef::as_ref).collect();
    let path = PipelineStage::ENTRY_CONDITION.name();
    Requirement::new(source, Deal::schema(), registry, &own, &path)
}

impl Step {
    pub(crate) fn new(stage: Arc<Record<PipelineStage>>, registry: &Registry) -> Self {
        let criteria = stage.entry_criteria.as_ref();
        let criteria = criteria.map(|criteria| bind(criteria, registry));
        let criteria = Entrance::of(criteria, stage.id, "criteria");
        let condition = stage.entry_condition.as_ref();
        let condition = condition.map(|source| require(source, registry));
        let condition = Entrance::of(condition, stage.id, "condition");
        let deals = registry.described(Deal::schema());
        let required = stage.required_fields.iter();
        let required = required.map(|name| Some(locate(&deals, name).ok()?.0));
        let required: Vec<Option<FieldAt>> = required.collect();
        let filtered = criteria.asked().map(own_fields).unwrap_or_default();
        let fields = filtered.into_iter().chain(required.iter().flatten());
        let keys = fields.filter_map(|field| field.member.as_deref());
        let mut computed = computed_among(keys, &deals);
        computed.extend_from_slice(condition.asked().map_or(&[], Requirement::computed));
        Self {
            required,
            stage,
            criteria,
            condition,
            computed,
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

//! Pipelines and their stages: the ways that deals take.
//!
//! A tenant has at most one default pipeline (R-043). Stages stand in an order that one call
//! changes as a whole; a stage with deals is only removed together with a stage to move them to.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use crate::Id;
use crate::deals::Deal;
use crate::engine::{Records, UnitOfWork, Write, WriteRule, in_work};
use crate::error::{Error, FieldError, Result, RuleViolation, codes};
use crate::query::WhereExt;
use crate::record::Record;
use crate::schema::{Entity, Picklist};
use crate::value::{Color, Currency, Percent};

/// A way that deals take, stage by stage.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "pipeline",
    table = "pipelines",
    unique(name; live),
    unique(is_default; live, only_if(is_default))
)]
pub struct Pipeline {
    /// Name.
    #[field(required, max_len = 255, searchable)]
    pub name: String,
    /// What it is for.
    #[field(multiline)]
    pub description: Option<String>,
    /// What kind of work it is for.
    pub pipeline_type: PipelineType,
    /// Whether new deals take it if nothing else is said (R-043).
    pub is_default: bool,
    /// Whether it is in use.
    #[field(default = true)]
    pub is_active: bool,
    /// The currency in which it reckons.
    pub currency: Currency,
    /// Where the probability of a deal comes from (R-045).
    pub probability_calculation: ProbabilityCalculation,
    /// Whether deals go from stage to stage in their order only (R-044).
    pub stage_order_enforced: bool,
    /// Values of the tenant's own fields.
    #[field(default = json!({}))]
    pub custom_fields: Json,
}

/// What kind of work a pipeline is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum PipelineType {
    /// Selling.
    #[default]
    Sales,
    /// Marketing.
    Marketing,
    /// Helping customers.
    Support,
    /// Anything else.
    Custom,
}

/// Where the probability of a deal comes from (R-045).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum ProbabilityCalculation {
    /// From the deal, or from the stage if the deal has none.
    #[default]
    Manual,
    /// From the history of the pipeline.
    Automatic,
    /// From the stage.
    StageBased,
}

/// A stage of a pipeline.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "pipeline_stage",
    table = "pipeline_stages",
    unique(pipeline_id, name; live),
    unique(pipeline_id, stage_order; live)
)]
pub struct PipelineStage {
    /// The pipeline.
    #[field(required, references = "pipeline", on_delete = "cascade")]
    pub pipeline_id: Id<Pipeline>,
    /// Name.
    #[field(required, max_len = 255)]
    pub name: String,
    /// Its place in the pipeline, from 1.
    #[field(required, min = 1)]
    pub stage_order: u32,
    /// What it is for.
    #[field(multiline)]
    pub description: Option<String>,
    /// How probable it is that a deal in this stage will be won, unless the deal says otherwise.
    pub default_probability: Percent,
    /// What a deal in this stage is.
    pub stage_type: StageType,
    /// Fields of a deal that must be filled before it enters (R-044).
    pub required_fields: Vec<String>,
    /// Colour on a board.
    pub color: Color,
    /// Symbol on a board.
    #[field(max_len = 50)]
    pub icon: Option<String>,
    /// Whether deals may enter.
    #[field(default = true)]
    pub is_active: bool,
}

/// What a deal in a stage is: the one place that says so (R-082).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum StageType {
    /// Not decided.
    #[default]
    Open,
    /// Won.
    ClosedWon,
    /// Lost.
    ClosedLost,
}

impl PipelineStage {
    /// Whether a deal in this stage is decided.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        !matches!(self.stage_type, StageType::Open)
    }

    /// Whether a deal in this stage is won.
    #[must_use]
    pub const fn is_won(&self) -> bool {
        matches!(self.stage_type, StageType::ClosedWon)
    }
}

impl Records<'_, Pipeline> {
    /// The stages of a pipeline, in their order.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn stages(
        &mut self,
        pipeline: Id<Pipeline>,
    ) -> Result<Vec<Arc<Record<PipelineStage>>>> {
        in_work!(self.workspace, |work| {
            work.get(pipeline).await?;
            stages_of(work, pipeline).await
        })
    }

    /// The default pipeline, if the tenant has one.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn default_pipeline(&self) -> Result<Option<Arc<Record<Pipeline>>>> {
        self.find_one(Pipeline::IS_DEFAULT.eq(true)).await
    }

    /// Adds a stage behind the others of its pipeline; its `stage_order` is set.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such pipeline; [`Error::Validation`];
    /// [`Error::Duplicate`] if a stage of the pipeline has the same name.
    pub async fn add_stage(&mut self, stage: PipelineStage) -> Result<Arc<Record<PipelineStage>>> {
        in_work!(self.workspace, |work| {
            // Two stages added at the same time want the same place: the slower one tries again.
            work.contend("pipeline_stage", &["pipeline_id", "stage_order"]);
            let pipeline = work.get(stage.pipeline_id).await?;
            work.rely_on(&*pipeline);
            let stages = stages_of(work, stage.pipeline_id).await?;
            if stages.iter().any(|other| other.name == stage.name) {
                return Err(Error::Duplicate {
                    object: PipelineStage::schema().name().to_owned(),
                    fields: vec!["pipeline_id".to_owned(), "name".to_owned()],
                });
            }
            let last = stages.last().map_or(0, |stage| stage.stage_order);
            work.create(PipelineStage {
                stage_order: last + 1,
                ..stage.clone()
            })
            .await
        })
    }

    /// Changes a stage.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Validation`], [`Error::Rule`] if the outcome of a stage with
    /// deals would change.
    pub async fn update_stage(
        &mut self,
        stage: Id<PipelineStage>,
        change: impl Fn(&mut PipelineStage) + Send + Sync,
    ) -> Result<Arc<Record<PipelineStage>>> {
        in_work!(self.workspace, |work| { work.update(stage, &change).await })
    }

    /// Puts all stages of a pipeline into a new order, in one commit.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, pipelines::Pipeline};
    /// # async fn example(session: &Session, pipeline: Id<Pipeline>) -> Result<()> {
    /// let mut order: Vec<_> =
    ///     session.pipelines().stages(pipeline).await?.iter().map(|stage| stage.id).collect();
    /// order.swap(0, 1);
    /// session.pipelines().reorder_stages(pipeline, &order).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Validation`] unless each stage of the pipeline is named exactly once.
    pub async fn reorder_stages(
        &mut self,
        pipeline: Id<Pipeline>,
        order: &[Id<PipelineStage>],
    ) -> Result<Vec<Arc<Record<PipelineStage>>>> {
        in_work!(self.workspace, |work| {
            let pipeline = work.get(pipeline).await?;
            work.rely_on(&*pipeline);
            let stages = stages_of(work, pipeline.id).await?;
            let mut wanted = order.to_vec();
            wanted.sort_unstable();
            let mut known: Vec<_> = stages.iter().map(|stage| stage.id).collect();
            known.sort_unstable();
            if wanted != known {
                return Err(FieldError::new(
                    "order",
                    codes::INCONSISTENT,
                    "must name each stage of the pipeline exactly once",
                )
                .into());
            }
            let mut moved = Vec::with_capacity(order.len());
            for (place, id) in (1_u32..).zip(order) {
                let stage = work
                    .update(*id, &|stage: &mut PipelineStage| stage.stage_order = place)
                    .await?;
                moved.push(stage);
            }
            Ok(moved)
        })
    }

    /// Makes a pipeline the default; the one that was is it no more (R-043).
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn set_default(&mut self, pipeline: Id<Pipeline>) -> Result<Arc<Record<Pipeline>>> {
        in_work!(self.workspace, |work| {
            work.update(pipeline, &|pipeline: &mut Pipeline| {
                pipeline.is_default = true;
            })
            .await
        })
    }

    /// Deletes a stage. Its deals, archived ones included, move to `target`, another stage of the
    /// same pipeline; without a target the stage must have none.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Reference`] if the stage has deals and there is no target;
    /// [`Error::Validation`] if the target is a stage of another pipeline.
    pub async fn delete_stage(
        &mut self,
        stage: Id<PipelineStage>,
        target: Option<Id<PipelineStage>>,
    ) -> Result<()> {
        in_work!(self.workspace, |work| {
            if let Some(target) = target {
                if target == stage {
                    return Err(FieldError::new(
                        "target",
                        codes::INCONSISTENT,
                        "must be another stage",
                    )
                    .into());
                }
                for deal in work.find_all(Deal::STAGE_ID.eq(stage), Vec::new()).await? {
                    work.update(deal.id, &|deal: &mut Deal| deal.stage_id = Some(target))
                        .await?;
                }
            }
            work.delete(PipelineStage::schema(), stage.uuid()).await
        })
    }
}

/// The stages of a pipeline, in their order.
pub(crate) async fn stages_of(
    work: &UnitOfWork,
    pipeline: Id<Pipeline>,
) -> Result<Vec<Arc<Record<PipelineStage>>>> {
    let mut stages = work
        .find_all(PipelineStage::PIPELINE_ID.eq(pipeline), Vec::new())
        .await?;
    stages.sort_by_key(|stage| stage.stage_order);
    Ok(stages)
}

/// R-043: a new default takes the place of the old one.
#[derive(Debug)]
pub(crate) struct PipelineRules;

#[async_trait]
impl WriteRule for PipelineRules {
    fn object(&self) -> &'static str {
        "pipeline"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Pipeline>() else {
            return Ok(());
        };
        let was_default = write
            .before::<Pipeline>()
            .is_some_and(|before| before.is_default && before.deleted_at.is_none());
        if !after.is_default || was_default || write.deletes() {
            return Ok(());
        }
        let id = after.id;
        work.contend("pipeline", &["is_default"]);
        for other in work
            .find_all(Pipeline::IS_DEFAULT.eq(true), Vec::new())
            .await?
        {
            if other.id != id {
                work.update(other.id, &|pipeline: &mut Pipeline| {
                    pipeline.is_default = false;
                })
                .await?;
            }
        }
        Ok(())
    }
}

/// What a stage may change while it has deals (R-039, R-082), and that its required fields exist.
#[derive(Debug)]
pub(crate) struct StageRules;

#[async_trait]
impl WriteRule for StageRules {
    fn object(&self) -> &'static str {
        "pipeline_stage"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<PipelineStage>().cloned() else {
            return Ok(());
        };
        let known = |name: &String| {
            Deal::schema().field(name).is_some() || name.starts_with("custom_fields.")
        };
        if !after.required_fields.iter().all(known) {
            write.faults().add(
                "required_fields",
                codes::UNKNOWN_FIELD,
                "a deal has no such field",
            );
        }
        let Some(before) = write.before::<PipelineStage>() else {
            return Ok(());
        };
        if before.pipeline_id != after.pipeline_id {
            write.faults().add(
                "pipeline_id",
                codes::READ_ONLY,
                "a stage stays in its pipeline",
            );
            return Ok(());
        }
        let outcome_changes = before.stage_type != after.stage_type;
        let probability_changes = before.default_probability != after.default_probability;
        if !(outcome_changes || probability_changes) || write.deletes() {
            return Ok(());
        }
        let deals = work
            .find_all(
                Deal::STAGE_ID.eq(after.id).and(Deal::STATUS.is_not_null()),
                Vec::new(),
            )
            .await?;
        if outcome_changes && !deals.is_empty() {
            return Err(RuleViolation::new(
                "stage_in_use",
                "R-082",
                "the stage has deals, whose outcome would change; move them first",
            )
            .into());
        }
        for deal in deals.iter().filter(|deal| deal.probability.is_none()) {
            let probability = after.default_probability;
            work.update(deal.id, &|deal: &mut Deal| {
                deal.win_probability = probability;
            })
            .await?;
        }
        Ok(())
    }
}

//! Pipelines and their stages: the ways that deals take.
//!
//! A tenant has at most one default pipeline (R-043). Stages stand in an order that one call
//! changes as a whole; a stage with deals is only removed together with a stage to move them to.
//!
//! A stage says what it asks of the deals that enter it (R-044); how that is judged, and that no way
//! of writing goes around it, is told at [`deals`](crate::deals). A pipeline says where the
//! probabilities of its deals come from (R-045), see [`win_probability`](crate::deals::win_probability).
//!
//! What happened in a pipeline, and how it stood at any past moment, is told by its [`analytics`]; what
//! is done by itself when its deals change, by [`automation`](crate::automation).
//!
//! ```
//! # use crm_core::{Session, error::Result};
//! use crm_core::pipelines::{Pipeline, PipelineStage, StageType};
//! use crm_core::value::Percent;
//! # async fn example(session: &Session) -> Result<()> {
//! let sales = Pipeline { stage_order_enforced: true, ..Pipeline::new("Partners") };
//! let sales = session.pipelines().create(sales).await?;
//! let proposal = PipelineStage {
//!     default_probability: Percent::from_whole(50)?,
//!     required_fields: vec!["amount".into(), "custom_fields.budget".into()],
//!     rotting_after_days: Some(14),
//!     ..PipelineStage::new(sales.id, "Proposal", 1_u32)
//! };
//! session.pipelines().add_stage(proposal).await?;
//! let won = PipelineStage {
//!     stage_type: StageType::ClosedWon,
//!     ..PipelineStage::new(sales.id, "Won", 2_u32)
//! };
//! session.pipelines().add_stage(won).await?;
//! # Ok(())
//! # }
//! ```

mod follow;
mod gates;
mod rules;
mod ways;

pub mod analytics;

use std::sync::Arc;

use serde_json::{Value as Json, json};

pub use follow::RefreshedProbabilities;
pub use gates::{ApprovalPolicy, StageIds};
pub(crate) use rules::{PipelineRules, StageRules};
pub(crate) use ways::{Entrance, Step, Way, Ways};

use crate::Id;
use crate::deals::Deal;
use crate::engine::{Records, UnitOfWork, in_work};
use crate::error::{Error, FieldError, Result, codes};
use crate::forecasts::ForecastCategory;
use crate::query::Criteria;
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
    /// Whether deals go from stage to stage in their order only (R-044), by the table at
    /// [`is_in_order`](crate::deals::is_in_order).
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
    /// From the history of the pipeline: the share of won deals among those that ever entered the
    /// stage.
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
    /// How sure deals in this stage are that have no forecast category of their own; with none,
    /// open ones are `pipeline` (C-014).
    pub forecast_category: Option<ForecastCategory>,
    /// What the past says instead, in pipelines that reckon automatically (R-045): the share of won
    /// deals among the decided ones that ever entered the stage, as of the last
    /// [`refresh_probabilities`](Records::refresh_probabilities); none if they are too few.
    #[field(read_only)]
    pub historic_probability: Option<Percent>,
    /// How many decided deals that was found from.
    #[field(read_only, min = 0)]
    pub historic_sample: Option<i64>,
    /// Fields of a deal that must be filled when it enters (R-044), such as `amount` or
    /// `custom_fields.budget`. A blank text and an empty list are not filled.
    pub required_fields: Vec<String>,
    /// Which deals may enter (R-044).
    pub entry_criteria: Option<Criteria>,
    /// What must be true of a deal that enters (R-044), in the language of
    /// [expressions](crate::expression): `amount > 0 and account_id.industry = "energy"`. It is asked
    /// of the deal as it will be in the stage and of other records as they then are. Where it has no
    /// answer, as a field is empty, the deal does not enter; `coalesce` says what counts instead.
    #[field(multiline, max_len = 4000, condition_of = "deal")]
    pub entry_condition: Option<String>,
    /// What people are told whose deal the condition keeps out.
    #[field(max_len = 500)]
    pub entry_condition_message: Option<String>,
    /// The stages that a deal may go to from here (R-044), of this or of other pipelines; none named
    /// is any. Lost stages are not exempt.
    pub allowed_next_stages: StageIds,
    /// How many hours a deal must have been here before it goes on: to a later stage, a won one or
    /// another pipeline (R-044). It may fall back and be lost at any time.
    #[field(min = 0, max = 87_600)]
    pub minimum_hours: Option<i32>,
    /// Who must approve that a deal enters (R-044); nobody, if empty.
    pub approval: Option<ApprovalPolicy>,
    /// After how many days without an activity a deal here begins to rot.
    #[field(min = 1, max = 36_500)]
    pub rotting_after_days: Option<i32>,
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
            let mut all = work.records::<PipelineStage>();
            all.create(PipelineStage {
                stage_order: last + 1,
                ..stage.clone()
            })
            .await
        })
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
    /// This puts things in order, so the gates of the target do not apply (R-044); the history of the
    /// deals tells why they moved. On a session many deals move in steps, some hundreds in a commit,
    /// the stage itself is deleted in the last: a call that fails in between is made again.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Reference`] if the stage has deals and there is no target;
    /// [`Error::Validation`] if the target is a stage of another pipeline.
    pub async fn delete_stage(
        &mut self,
        stage: Id<PipelineStage>,
        target: Option<Id<PipelineStage>>,
    ) -> Result<()> {
        loop {
            let is_deleted: Result<bool> = in_work!(self.workspace, |work| {
                if let Some(target) = target
                    && move_some(work, stage, target).await? == follow::AT_ONCE
                {
                    return Ok(false);
                }
                work.delete(PipelineStage::schema(), stage.uuid()).await?;
                Ok(true)
            });
            if is_deleted? {
                return Ok(());
            }
        }
    }
}

/// Moves the first deals of a stage that is to be deleted; gives how many.
async fn move_some(
    work: &mut UnitOfWork,
    stage: Id<PipelineStage>,
    target: Id<PipelineStage>,
) -> Result<usize> {
    if target == stage {
        return Err(FieldError::new("target", codes::INCONSISTENT, "must be another stage").into());
    }
    let deals = Deal::STAGE_ID.eq(stage);
    let deals = work.find_first(deals, follow::AT_ONCE).await?;
    let count = deals.len();
    for deal in deals {
        let id = deal.id.uuid();
        work.set_note(id, Some("its stage was deleted"));
        let moved = work
            .keep_in_order(deal, &|deal: &mut Deal| deal.stage_id = Some(target))
            .await;
        work.set_note(id, None);
        moved?;
    }
    Ok(count)
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

//! [`DealStageChange`]: one step of a deal on its way.

use crate::Id;
use crate::deals::Deal;
use crate::pipelines::PipelineStage;
use crate::schema::Entity;
use crate::value::Percent;

/// One step of a deal on its way. When and by whom is told by the record's `created`.
///
/// Stages are kept by id and by name, so that the history reads right after a stage is renamed or
/// removed.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "deal_stage_change", table = "deal_stage_history", log)]
pub struct DealStageChange {
    /// The deal.
    #[field(required, references = "deal", on_delete = "cascade")]
    pub deal_id: Id<Deal>,
    /// The stage that it entered.
    #[field(required)]
    pub to_stage_id: Id<PipelineStage>,
    /// The name of that stage at the time.
    #[field(required, max_len = 255)]
    pub to_stage: String,
    /// The probability that counted from then on.
    #[field(required)]
    pub to_probability: Percent,
    /// The stage that it left; none for a new deal.
    pub from_stage_id: Option<Id<PipelineStage>>,
    /// The name of that stage at the time.
    #[field(max_len = 255)]
    pub from_stage: Option<String>,
    /// The probability that counted before.
    pub from_probability: Option<Percent>,
    /// How long it was in the stage that it left, in seconds.
    #[field(min = 0)]
    pub seconds_in_stage: Option<i64>,
    /// What was said about it.
    #[field(multiline)]
    pub note: Option<String>,
}

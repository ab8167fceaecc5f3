//! The forecast category that counts for a deal, kept right whichever way deals and stages are
//! written.

use std::sync::Arc;

use async_trait::async_trait;

use super::ForecastCategory;
use crate::Id;
use crate::deals::{Deal, DealStatus};
use crate::engine::{UnitOfWork, Write, WriteRule};
use crate::error::{FieldError, Result, RuleViolation, codes};
use crate::pipelines::{PipelineStage, StageType, Ways};
use crate::query::{Condition, Query, Where, WhereExt};
use crate::record::Record;
use crate::schema::Entity;

/// How many deals follow the category of their stage in the commit that changes it.
pub(super) const AT_ONCE: usize = 500;

impl PipelineStage {
    /// The forecast category of the deals in this stage that have none of their own.
    #[must_use]
    pub const fn category_of_deals(&self) -> ForecastCategory {
        ForecastCategory::of_stage(self.stage_type, self.forecast_category)
    }
}

/// C-014, R-109: each deal is in exactly one category. Runs after the rules that give a deal its
/// stage and status.
#[derive(Debug)]
pub(crate) struct DealCategoryRule;

#[async_trait]
impl WriteRule for DealCategoryRule {
    fn object(&self) -> &'static str {
        "deal"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Deal>() else {
            return Ok(());
        };
        if write.deletes() {
            return Ok(());
        }
        let (own, status, stage_id) = (after.forecast_category, after.status, after.stage_id);
        if own == Some(ForecastCategory::Closed) {
            write.faults().add(
                Deal::FORECAST_CATEGORY.name(),
                codes::INCONSISTENT,
                "only won deals are closed; move the deal to a won stage",
            );
            return Ok(());
        }
        // A deal to which nothing of this happens needs no look at its stage.
        let stays = write.before::<Deal>().is_some_and(|before| {
            before.forecast_category == own
                && before.status == status
                && before.stage_id == stage_id
                && before.deleted_at.is_none()
        });
        if stays {
            return Ok(());
        }
        let of_stage = match (status, own, stage_id) {
            (DealStatus::Open, None, Some(stage)) => category_of_stage(work, stage).await?,
            _ => ForecastCategory::default(),
        };
        let counts = ForecastCategory::counting(status, own, of_stage);
        write.edit(|deal: &mut Deal| deal.counting_category = counts);
        Ok(())
    }
}

/// What a stage gives its deals; what it says must still be so when the deal is written.
async fn category_of_stage(
    work: &mut UnitOfWork,
    stage: Id<PipelineStage>,
) -> Result<ForecastCategory> {
    let ways = work.remembered::<Ways>().await?;
    let stage = match ways.step(stage) {
        Some(step) => Some(step.stage.clone()),
        // Made by somebody else a moment ago; whether there is such a stage is found out elsewhere.
        None => work.lookup(stage).await?,
    };
    Ok(stage.map_or(ForecastCategory::default(), |stage| {
        work.rely_on(&*stage);
        stage.category_of_deals()
    }))
}

/// C-014: what a stage says fits its type, and its open deals follow when it says something else.
#[derive(Debug)]
pub(crate) struct StageCategoryRule;

#[async_trait]
impl WriteRule for StageCategoryRule {
    fn object(&self) -> &'static str {
        "pipeline_stage"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<PipelineStage>() else {
            return Ok(());
        };
        if write.deletes() {
            return Ok(());
        }
        if let Err(fault) = check_stage(after.stage_type, after.forecast_category) {
            write.faults().push(fault);
            return Ok(());
        }
        let Some(before) = write.before::<PipelineStage>() else {
            return Ok(());
        };
        let (stage, category) = (after.id, after.category_of_deals());
        let is_open = after.stage_type == StageType::Open;
        if before.category_of_deals() == category || !is_open {
            return Ok(());
        }
        let deals = lagging_deals(work, stage, category, AT_ONCE + 1).await?;
        if deals.len() > AT_ONCE {
            return Err(RuleViolation::new(
                "too_many_deals",
                "C-014",
                format!(
                    "more than {AT_ONCE} open deals follow the category of the stage: change it \
                     with `forecasts().categorize_stage(..)`, which takes them in parts"
                ),
            )
            .into());
        }
        give_category(work, deals, category).await
    }
}

/// Whether what a stage says fits its type.
pub(super) fn check_stage(
    stage_type: StageType,
    category: Option<ForecastCategory>,
) -> Result<(), FieldError> {
    if category.is_none_or(|category| category.fits(stage_type)) {
        return Ok(());
    }
    Err(FieldError::new(
        PipelineStage::FORECAST_CATEGORY.name(),
        codes::INCONSISTENT,
        "does not fit the type of the stage: won deals are `closed`, lost ones `omitted`, open ones \
         anything but `closed`",
    ))
}

/// Open deals of a stage, archived ones too, that take its category and are not in it yet.
pub(super) async fn lagging_deals(
    work: &UnitOfWork,
    stage: Id<PipelineStage>,
    category: ForecastCategory,
    limit: usize,
) -> Result<Vec<Arc<Record<Deal>>>> {
    let lagging: Where<Deal> = Deal::STAGE_ID
        .eq(stage)
        .and(Deal::STATUS.eq(DealStatus::Open))
        .and(Deal::FORECAST_CATEGORY.is_null())
        .and(Deal::COUNTING_CATEGORY.ne(category));
    let registry = &*work.registry().await?;
    let lagging = Condition::bind(&lagging.into_filter(), Deal::schema(), registry)?;
    let query = Query::new(Deal::schema(), Condition::not_deleted().and(lagging)).limit(limit);
    let rows = work.select(&query).await?;
    Ok(rows.into_iter().filter_map(Record::from_row).collect())
}

/// Gives deals the category of their stage.
pub(super) async fn give_category(
    work: &mut UnitOfWork,
    deals: Vec<Arc<Record<Deal>>>,
    category: ForecastCategory,
) -> Result<()> {
    let give = |deal: &mut Deal| deal.counting_category = category;
    for deal in deals {
        work.update_record(deal, &give).await?;
    }
    Ok(())
}

//! What is checked when pipelines and stages are written.

use async_trait::async_trait;

use super::follow::{self, Reckoning};
use super::{Pipeline, PipelineStage, ways};
use crate::deals::Deal;
use crate::engine::{UnitOfWork, Write, WriteRule};
use crate::error::{Faults, FieldError, Result, RuleViolation, codes};
use crate::query::locate;
use crate::schema::Entity;

/// a new default takes the place of the old one. R-045: deals follow how a pipeline reckons.
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
        if write.deletes() {
            return Ok(());
        }
        let before = write.before::<Pipeline>();
        let (id, mode) = (after.id, after.probability_calculation);
        let reckons_anew = before.is_some_and(|before| before.probability_calculation != mode);
        if reckons_anew && !write.is_upkeep() {
            let stages = super::stages_of(work, id).await?;
            let reckonings = stages.iter().map(|stage| Reckoning::of(mode, stage));
            let reckonings = reckonings.map(|reckoning| (reckoning, reckoning.by_mode()));
            follow::at_once(work, reckonings.collect()).await?;
        }
        let was_default =
            before.is_some_and(|before| before.is_default && before.deleted_at.is_none());
        if !after.is_default || was_default {
            return Ok(());
        }
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

/// What a stage may change while it has deals, and that what its gates name is
/// there.
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
        if write.deletes() {
            return Ok(());
        }
        let before = write.before::<PipelineStage>().cloned();
        let known = before.as_ref().map(|before| &before.data);
        check_gates(work, known, &after, write.faults()).await?;
        let Some(before) = before else {
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
        let in_stage = Deal::STAGE_ID.eq(after.id);
        if before.stage_type != after.stage_type && !work.find_first(in_stage, 1).await?.is_empty()
        {
            return Err(RuleViolation::new(
                "stage_in_use",
                "R-082",
                "the stage has deals, whose outcome would change; move them first",
            )
            .into());
        }
        let figures =
            |stage: &PipelineStage| (stage.default_probability, stage.historic_probability);
        if figures(&before) == figures(&after) || write.is_upkeep() {
            return Ok(());
        }
        let Some(pipeline) = work.lookup(after.pipeline_id).await? else {
            return Ok(());
        };
        // How it reckons must still be so when this is written.
        work.rely_on(&*pipeline);
        let mode = pipeline.probability_calculation;
        let reckoning = Reckoning::of(mode, &after);
        if Reckoning::of(mode, &before) == reckoning {
            return Ok(());
        }
        follow::at_once(work, vec![(reckoning, reckoning.by_figure())]).await
    }
}

/// fields, stages and users that gates name are there; criteria and conditions fit the schema of deals. What
/// was named before is not looked up again: a stage that is gone lets nothing through.
async fn check_gates(
    work: &UnitOfWork,
    before: Option<&PipelineStage>,
    after: &PipelineStage,
    faults: &mut Faults,
) -> Result<()> {
    let deals = work.registry().await?.described(Deal::schema());
    for name in &after.required_fields {
        let is_empty = name.ends_with('.');
        if is_empty || locate(&deals, name).is_err() {
            let path = PipelineStage::REQUIRED_FIELDS.name();
            faults.add(path, codes::UNKNOWN_FIELD, "a deal has no such field");
        }
    }
    if let Some(criteria) = &after.entry_criteria
        && before.is_none_or(|before| before.entry_criteria.as_ref() != Some(criteria))
        && let Err(refusal) = ways::bind(criteria, &*work.registry().await?)
    {
        let path = PipelineStage::ENTRY_CRITERIA.name();
        faults.add(path, refusal.code, refusal.message);
    }
    if let Some(source) = &after.entry_condition
        && before.is_none_or(|before| before.entry_condition.as_ref() != Some(source))
        && let Err(refused) = ways::require(source, &*work.registry().await?)
    {
        refused.into_iter().for_each(|fault| faults.push(fault));
    }
    let next = &after.allowed_next_stages;
    match next.added(before.map(|before| &before.allowed_next_stages)) {
        None => too_many(&PipelineStage::ALLOWED_NEXT_STAGES.name(), faults),
        Some(added) => {
            for stage in added {
                if work.lookup(stage).await?.is_none() {
                    let path = PipelineStage::ALLOWED_NEXT_STAGES.name();
                    faults.push(FieldError::missing_record(path));
                }
            }
        }
    }
    let Some(approval) = &after.approval else {
        return Ok(());
    };
    let path = PipelineStage::APPROVAL.name();
    if approval.is_nobody() {
        faults.add(
            path.clone(),
            codes::REQUIRED,
            "name `users` or a `team_role` who approve, or empty the field",
        );
    }
    match approval.added(before.and_then(|before| before.approval.as_ref())) {
        None => too_many(&path, faults),
        Some(added) => {
            for user in added {
                if work.lookup(user).await?.is_none() {
                    faults.push(FieldError::missing_record(path.clone()));
                }
            }
        }
    }
    Ok(())
}

fn too_many(path: &str, faults: &mut Faults) {
    faults.add(path, codes::TOO_MANY, "names more than 200 records");
}

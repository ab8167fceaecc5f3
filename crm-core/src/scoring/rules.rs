//! What is checked when rule sets and their rules are written, and the set that is applied.

use std::sync::Arc;

use async_trait::async_trait;

use super::compiled::{CompiledRuleSet, group_of};
use super::condition::{add_faults, bind_decay};
use super::entity::{LeadScoringRule, LeadScoringRuleSet, RuleSetStatus};
use crate::Id;
use crate::engine::{Remembered, UnitOfWork, Write, WriteRule};
use crate::error::{Error, Faults, Result, RuleViolation, codes};
use crate::record::Record;
use crate::schema::Entity;

/// Only drafts are changed: what scored leads once stays as it was (C-008).
pub(super) fn not_a_draft() -> Error {
    RuleViolation::new(
        "rule_set_not_draft",
        "C-007",
        "the rule set was published: copy it, change the copy and publish that",
    )
    .into()
}

/// A rule set is changed only as a draft, and never removed once leads were scored by it.
#[derive(Debug)]
pub(crate) struct RuleSetRules;

#[async_trait]
impl WriteRule for RuleSetRules {
    fn object(&self) -> &'static str {
        "lead_scoring_rule_set"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<LeadScoringRuleSet>() else {
            return Ok(());
        };
        let before = write.before::<LeadScoringRuleSet>();
        if let Some(before) = before
            && before.status != RuleSetStatus::Draft
            && (after.deleted_at.is_some() || is_another(before, after))
        {
            return Err(not_a_draft());
        }
        let is_new_decay = before.is_none_or(|before| before.decay != after.decay);
        let decay = after.decay.as_ref().filter(|_| is_new_decay);
        let registry = &*work.registry().await?;
        let fault = decay.and_then(|decay| bind_decay(decay, registry).err());
        if let Some(fault) = fault {
            write.faults().push(fault);
        }
        Ok(())
    }
}

/// Whether something else than the notes, the state and the archive differs.
fn is_another(before: &Record<LeadScoringRuleSet>, after: &Record<LeadScoringRuleSet>) -> bool {
    let like = |set: &Record<LeadScoringRuleSet>| LeadScoringRuleSet {
        description: None,
        status: RuleSetStatus::default(),
        is_published: false,
        retired_at: None,
        ..set.data.clone()
    };
    like(before) != like(after)
}

/// A rule fits the schema and its set, which is a draft.
#[derive(Debug)]
pub(crate) struct ScoringRuleRules;

#[async_trait]
impl WriteRule for ScoringRuleRules {
    fn object(&self) -> &'static str {
        "lead_scoring_rule"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<LeadScoringRule>() else {
            return Ok(());
        };
        let before = write.before::<LeadScoringRule>();
        let home = before.map_or(after.rule_set_id, |before| before.rule_set_id);
        let moves = home != after.rule_set_id;
        let mut faults = Faults::default();
        if !write.deletes() {
            add_faults(after, &*work.registry().await?, &mut faults);
        }
        // The set of a rule that is deleted with it is deleted after it.
        let set = work.lookup(home).await?;
        if let Some(set) = &set {
            if set.status != RuleSetStatus::Draft {
                return Err(not_a_draft());
            }
            if !write.deletes()
                && let Err(fault) = group_of(set, after)
            {
                faults.push(fault);
            }
        }
        // That another set is not there is told as that.
        let moves = moves && work.lookup(after.rule_set_id).await?.is_some();
        if moves {
            let message = "a rule stays in its set: make one like it in the other set";
            faults.add("rule_set_id", codes::READ_ONLY, message);
        }
        for fault in faults
            .into_result()
            .err()
            .into_iter()
            .flat_map(|faults| faults.into_errors())
        {
            write.faults().push(fault);
        }
        if set.is_some() {
            // Who publishes the set meanwhile has a conflict, and sees this rule.
            work.touch(LeadScoringRuleSet::schema(), home.uuid())
                .await?;
        }
        Ok(())
    }
}

/// All rules of a set.
pub(super) async fn rules_of(
    work: &UnitOfWork,
    set: Id<LeadScoringRuleSet>,
) -> Result<Vec<Arc<Record<LeadScoringRule>>>> {
    let mut rules = work
        .find_all(LeadScoringRule::RULE_SET_ID.eq(set), Vec::new())
        .await?;
    rules.sort_by(|one, other| (one.priority, &one.name).cmp(&(other.priority, &other.name)));
    Ok(rules)
}

/// The set by which the leads of a tenant are scored.
#[derive(Debug)]
pub(super) struct Published(pub(super) Option<CompiledRuleSet>);

#[async_trait]
impl Remembered for Published {
    const OBJECTS: &'static [&'static str] = &["lead_scoring_rule_set"];

    async fn load(work: &UnitOfWork) -> Result<Self> {
        let published = LeadScoringRuleSet::IS_PUBLISHED.eq(true);
        let sets = work.find_all(published, Vec::new()).await?;
        let Some(set) = sets.into_iter().find(|set| set.archived_at.is_none()) else {
            return Ok(Self(None));
        };
        let rules = rules_of(work, set.id).await?;
        let mut faults = Faults::default();
        let registry = &*work.registry().await?;
        let compiled = CompiledRuleSet::with_faults(
            &set,
            &rules.iter().map(|rule| &**rule).collect::<Vec<_>>(),
            registry,
            &mut faults,
        );
        if !faults.is_empty() {
            // The host took fields away that rules look at.
            tracing::warn!(rule_set = %set.id, "rules of the published set do not fit leads any more");
        }
        Ok(Self(Some(compiled)))
    }
}

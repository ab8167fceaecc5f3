//! What sessions call: scores of single leads, and the life of rule sets.

use std::sync::Arc;

use super::compiled::CompiledRuleSet;
use super::entity::{
    LeadScoreChange, LeadScoringRule, LeadScoringRuleSet, RuleSetStatus, ScoreCause,
    ScoringOperator, ScoringRuleType,
};
use super::explanation::ScoreExplanation;
use super::hook::{is_scored, score_all, sum, write_score};
use super::rules::{Published, not_a_draft, rules_of};
use crate::Id;
use crate::engine::{Records, UnitOfWork, in_work};
#[cfg(doc)]
use crate::error::Error;
use crate::error::{FieldError, Result, RuleViolation, codes};
use crate::leads::Lead;
use crate::record::Record;
use crate::schema::Entity;
use crate::value::Score;

/// The most points by which a lead is adjusted at once, up or down.
const MOST: i32 = 100;

impl Records<'_, Lead> {
    /// Scores a lead by the published rule set, as it is now: for what no write tells, such as time.
    /// A lead that is converted or archived keeps its score, and so do all without a published set.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, leads::Lead};
    /// # async fn example(session: &Session, lead: Id<Lead>) -> Result<()> {
    /// let lead = session.leads().rescore(lead).await?;
    /// println!("{} is a {}", lead.lead_score, lead.grade.as_deref().unwrap_or("?"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn rescore(&mut self, lead: Id<Lead>) -> Result<Arc<Record<Lead>>> {
        in_work!(self.workspace, |work| {
            let record = work.get(lead).await?;
            let published = work.remembered::<Published>().await?;
            if let (Published(Some(rules)), true) = (&*published, is_scored(&record)) {
                let leads = [record];
                let scores = score_all(work, rules, &leads).await?;
                for (lead, (scored, counts)) in leads.into_iter().zip(scores) {
                    write_score(work, rules, lead, &scored, &counts).await?;
                }
            }
            work.get(lead).await
        })
    }

    /// Gives a lead points by hand, or takes some away: from -100 to 100, with a reason for the
    /// history. They stay whatever the rules say later; what was given is taken away by giving the
    /// opposite.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, leads::Lead};
    /// # async fn example(session: &Session, lead: Id<Lead>) -> Result<()> {
    /// let lead = session.leads().adjust(lead, 15, "met at the fair").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Validation`] for no or too many points, and for no reason;
    /// [`Error::Rule`] `converted` for a lead that was converted, which is read-only (R-083).
    pub async fn adjust(
        &mut self,
        lead: Id<Lead>,
        score_change: i32,
        reason: &str,
    ) -> Result<Arc<Record<Lead>>> {
        in_work!(self.workspace, |work| {
            let record = work.get(lead).await?;
            if score_change == 0 || !(-MOST..=MOST).contains(&score_change) {
                return Err(FieldError::new(
                    "score_change",
                    codes::OUT_OF_RANGE,
                    "must be from -100 to 100 and not 0",
                )
                .into());
            }
            if reason.trim().is_empty() {
                return Err(
                    FieldError::new("reason", codes::REQUIRED, "a value is required").into(),
                );
            }
            if record.conversion.is_some() {
                let message =
                    "the lead is converted and keeps its score; undo the conversion first";
                return Err(RuleViolation::new("converted", "R-083", message).into());
            }
            let total = sum(record.score_total, score_change)?;
            let adjustment = sum(record.score_adjustment, score_change)?;
            let (before, score) = (record.lead_score, Score::clamped(total.into()));
            work.append_entry(LeadScoreChange {
                reason: Some(reason.to_owned()),
                ..LeadScoreChange::new(lead, ScoreCause::Adjustment, score_change, before, score)
            })?;
            work.update_record(record, &|lead: &mut Lead| {
                lead.score_total = total;
                lead.score_adjustment = adjustment;
                lead.lead_score = score;
            })
            .await
        })
    }

    /// Every change of a lead's score, the first one first (C-008).
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn score_history(
        &mut self,
        lead: Id<Lead>,
    ) -> Result<Vec<Arc<Record<LeadScoreChange>>>> {
        in_work!(self.workspace, |work| {
            work.get(lead).await?;
            // Ids sort by the time of their making.
            work.find_all(LeadScoreChange::LEAD_ID.eq(lead), Vec::new())
                .await
        })
    }

    /// Which rule of the published set gives a lead what, and how its score comes of that: as the
    /// lead is now, so it may be ahead of a stored score that time has passed by.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, leads::Lead};
    /// # async fn example(session: &Session, lead: Id<Lead>) -> Result<()> {
    /// let told = session.leads().explain(lead).await?;
    /// for rule in &told.rules {
    ///     println!("{:+4} {}", rule.points, rule.name);
    /// }
    /// println!("{:+4} by hand, {} in all", told.adjustment, told.score);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn explain(&self, lead: Id<Lead>) -> Result<ScoreExplanation> {
        let mut begun = None;
        let work = self.workspace.reading(&mut begun);
        let record = work.get(lead).await?;
        let published = work.remembered::<Published>().await?;
        let Published(Some(rules)) = &*published else {
            let adjustment = i64::from(record.score_adjustment);
            return Ok(ScoreExplanation {
                rule_set: None,
                rules: Vec::new(),
                groups: Vec::new(),
                decay: None,
                points: i64::from(record.score_total) - adjustment,
                adjustment,
                score: record.lead_score,
                grade: record.grade.clone(),
            });
        };
        let leads = [record];
        let scores = score_all(work, rules, &leads).await?;
        let counts = scores.first().map(|(_, counts)| counts.as_slice());
        let [lead] = &leads;
        Ok(rules.explain(lead, counts.unwrap_or_default(), work.now()))
    }
}

impl Records<'_, LeadScoringRuleSet> {
    /// The set by which leads are scored, if one is published.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn published(&self) -> Result<Option<Arc<Record<LeadScoringRuleSet>>>> {
        self.find_one(LeadScoringRuleSet::IS_PUBLISHED.eq(true))
            .await
    }

    /// The rules of a set, by priority and name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn rules(
        &mut self,
        set: Id<LeadScoringRuleSet>,
    ) -> Result<Vec<Arc<Record<LeadScoringRule>>>> {
        in_work!(self.workspace, |work| {
            work.get(set).await?;
            rules_of(work, set).await
        })
    }

    /// Makes a draft with the three rules that every tenant starts well with (R-031): 10 points for
    /// an e-mail address, 15 for a telephone, 20 for a company. It is [published](Self::publish)
    /// like any other.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// # async fn example(session: &Session) -> Result<()> {
    /// let draft = session.scoring_rule_sets().create_standard("Standard").await?;
    /// session.scoring_rule_sets().publish(draft.id).await?;
    /// session.leads().rescore_all(&()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Duplicate`] if another set has the name.
    pub async fn create_standard(&mut self, name: &str) -> Result<Arc<Record<LeadScoringRuleSet>>> {
        in_work!(self.workspace, |work| {
            let set = work.create(LeadScoringRuleSet::new(name)).await?;
            for rule in standard_rules(set.id) {
                work.create(rule).await?;
            }
            work.get(set.id).await
        })
    }

    /// Makes a draft with the settings and rules of a set, whatever its state.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Duplicate`] if another set has the name.
    pub async fn copy(
        &mut self,
        set: Id<LeadScoringRuleSet>,
        name: &str,
    ) -> Result<Arc<Record<LeadScoringRuleSet>>> {
        in_work!(self.workspace, |work| {
            let from = work.get(set).await?;
            let draft = LeadScoringRuleSet {
                name: name.to_owned(),
                status: RuleSetStatus::Draft,
                is_published: false,
                revision: None,
                published_at: None,
                retired_at: None,
                ..from.data.clone()
            };
            let draft = work.create(draft).await?;
            for rule in rules_of(work, set).await? {
                work.create(LeadScoringRule {
                    rule_set_id: draft.id,
                    ..rule.data.clone()
                })
                .await?;
            }
            work.get(draft.id).await
        })
    }

    /// Publishes a draft: from now on leads are scored by it, and the set that was published is
    /// retired. It gets the next [revision](LeadScoringRuleSet::revision) and is never changed again.
    /// Leads that are there keep their scores until they are written or
    /// [all are scored](Records::rescore_all).
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, scoring::LeadScoringRuleSet};
    /// # async fn example(session: &Session, draft: Id<LeadScoringRuleSet>) -> Result<()> {
    /// let set = session.scoring_rule_sets().publish(draft).await?;
    /// assert!(set.is_published);
    /// let next = session.scoring_rule_sets().copy(set.id, "Next year").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Rule`] `rule_set_not_draft`; [`Error::Validation`] with all that
    /// does not fit the schema, in every rule.
    pub async fn publish(
        &mut self,
        set: Id<LeadScoringRuleSet>,
    ) -> Result<Arc<Record<LeadScoringRuleSet>>> {
        in_work!(self.workspace, |work| {
            // Of two that publish at the same time, one retires the other's set.
            work.contend(LeadScoringRuleSet::schema().name(), &["is_published"]);
            let record = work.get(set).await?;
            if record.status != RuleSetStatus::Draft || record.archived_at.is_some() {
                return Err(not_a_draft());
            }
            let rules = rules_of(work, set).await?;
            let rules: Vec<_> = rules.iter().map(|rule| &**rule).collect();
            CompiledRuleSet::new(&record, &rules, &*work.registry().await?)?;
            let mut revision = 0;
            let earlier = LeadScoringRuleSet::REVISION.is_not_null();
            for other in work.find_all(earlier, Vec::new()).await? {
                revision = revision.max(other.revision.unwrap_or_default());
                if other.is_published {
                    retire(work, other).await?;
                }
            }
            let now = work.now();
            work.update_record(record, &|set: &mut LeadScoringRuleSet| {
                set.status = RuleSetStatus::Published;
                set.is_published = true;
                set.revision = Some(revision.saturating_add(1));
                set.published_at = Some(now);
            })
            .await
        })
    }

    /// Takes the published set out of use without another in its place: leads keep the scores that
    /// they have.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Rule`] `rule_set_not_published`.
    pub async fn retire(
        &mut self,
        set: Id<LeadScoringRuleSet>,
    ) -> Result<Arc<Record<LeadScoringRuleSet>>> {
        in_work!(self.workspace, |work| {
            let record = work.get(set).await?;
            if !record.is_published {
                return Err(RuleViolation::new(
                    "rule_set_not_published",
                    "C-007",
                    "only the published set is retired",
                )
                .into());
            }
            retire(work, record).await
        })
    }
}

async fn retire(
    work: &mut UnitOfWork,
    set: Arc<Record<LeadScoringRuleSet>>,
) -> Result<Arc<Record<LeadScoringRuleSet>>> {
    let now = work.now();
    work.update_record(set, &|set: &mut LeadScoringRuleSet| {
        set.status = RuleSetStatus::Retired;
        set.is_published = false;
        set.retired_at = Some(now);
    })
    .await
}

/// R-031: what leads get points for until a tenant has rules of its own.
fn standard_rules(set: Id<LeadScoringRuleSet>) -> [LeadScoringRule; 3] {
    use ScoringRuleType::{Demographic, Firmographic};
    let phone = Lead::PHONE.at(crate::value::PhoneNumber::RAW).name();
    [
        ("E-mail address", Demographic, Lead::EMAIL.name(), 10),
        ("Telephone", Demographic, phone, 15),
        ("Company", Firmographic, Lead::COMPANY.name(), 20),
    ]
    .map(|(name, rule_type, field, points)| {
        LeadScoringRule::new(set, name, rule_type, field, ScoringOperator::Exists, points)
    })
}

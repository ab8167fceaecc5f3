//! Rule-based scoring of leads: how promising a lead is, by rules that the tenant sets, with a history
//! and an explanation of every score (C-007, C-008, C-075, R-028 to R-031).
//!
//! ```text
//!  rule set, draft ──publish──► published ──(the next one is published)──► retired
//!    rules, groups, grades, decay    │
//!                                    ▼  compiled once, kept until another is published
//!  a lead is written            what do the rules give?  + adjustments by hand
//!  an activity of it changes ──►        │
//!  rescore, rescore_all                 ▼  differs from the score?
//!                               lead_score, grade, and an entry in the history, in the same commit
//! ```
//!
//! ```
//! # use crm_core::{Id, Session, error::Result, leads::Lead};
//! use crm_core::query::Filter;
//! use crm_core::scoring::{LeadScoringRule, ScoringOperator, ScoringRuleType};
//! # async fn example(session: &Session, lead: Id<Lead>) -> Result<()> {
//! // A draft with three rules, and a fourth one about a field of the tenant's own.
//! let draft = session.scoring_rule_sets().create_standard("2026").await?;
//! let large = LeadScoringRule {
//!     condition_value: Some("enterprise".into()),
//!     ..LeadScoringRule::new(
//!         draft.id,
//!         "Large",
//!         ScoringRuleType::Firmographic,
//!         "custom_fields.segment",
//!         ScoringOperator::Equals,
//!         40,
//!     )
//! };
//! session.scoring_rules().create(large).await?;
//! let told = session.scoring_rule_sets().simulate(draft.id, Filter::all(), 20, &()).await?;
//! println!("{} leads would have another score", told.changed);
//!
//! session.scoring_rule_sets().publish(draft.id).await?;
//! session.leads().rescore_all(&()).await?;
//! for rule in session.leads().explain(lead).await?.rules {
//!     println!("{:+} {}", rule.points, rule.name);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - **The score** is the sum of the lead's history, clamped to 0 to 100 (R-029): the sum is clamped
//!   once at the end, not at each step. The lead holds it (`score_total`) beside the part that was
//!   given by hand (`score_adjustment`), so a commit that changes a score says so by the version of
//!   the lead: two at the same time are a conflict, and one runs again. Nobody else writes the
//!   score; whatever way a lead is written, the hook of this module puts it right. Points beyond 0 or
//!   100 make no entry: where the rules give 130 points instead of 120, the score stays 100 and the
//!   history as it is, until the score changes.
//! - **When leads are scored**: in the commit that writes them, where a field changes that a rule looks
//!   at; in the commit that writes an activity, where rules count activities; and by
//!   [`rescore`](crate::engine::Records::rescore) and [`rescore_all`](crate::engine::Records::rescore_all), which also see that time has
//!   passed. Two commits that write different activities of one lead at the same time may each
//!   count only its own, unless they complete them; the next scoring of the lead sees both.
//! - **What rules give**: each rule that is met gives its points. Those of a group are limited to the
//!   group's minimum and maximum. What the rules whose points fade add to the others, within
//!   these limits, is what the [decay](Decay) takes from. The sum has the limits of the set.
//! - **Published sets stay as they are**, so that the history can be explained. A
//!   [copy](crate::engine::Records::copy) is changed, [simulated](crate::engine::Records::simulate) and published.
//! - Leads that are converted, archived or deleted keep the score that they have.

mod batch;
mod cells;
mod compiled;
mod condition;
mod counts;
mod entity;
mod explanation;
mod hook;
mod rules;
mod service;
mod settings;
mod table;
#[cfg(test)]
mod tests;

pub use batch::{Rescored, SimulatedScore, Simulation};
pub use compiled::{CompiledRuleSet, MAX_RULES};
pub use entity::{
    ACTIVITY_COUNT, LeadScoreChange, LeadScoringRule, LeadScoringRuleSet, RuleSetStatus,
    ScoreCause, ScoringOperator, ScoringRuleType,
};
pub use explanation::{
    DecayEffect, GroupEffect, PointsGiven, RuleEffect, RulePoints, ScoreExplanation, Scored,
};
pub(crate) use hook::ScoringHook;
pub(crate) use rules::{RuleSetRules, ScoringRuleRules};
pub use settings::{
    ActivityCount, Decay, DecayMethod, GradeBand, GradeBands, MAX_GROUPS, ScoringGroup,
    ScoringGroups,
};

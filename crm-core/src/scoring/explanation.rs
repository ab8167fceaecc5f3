//! What a score is made of, for people.

use serde::{Deserialize, Serialize};

use super::entity::{LeadScoringRule, LeadScoringRuleSet, ScoringRuleType};
use crate::Id;
use crate::leads::Lead;
use crate::schema::document_value;
use crate::value::Score;

/// What the rules of a set gave a lead, as the [history](super::LeadScoreChange) keeps it. The points
/// of the rules, what limits took or gave, and what faded add up to `points`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PointsGiven {
    /// The rules that were met, in the order of their priority.
    pub rules: Vec<RulePoints>,
    /// What the limits of groups and of the set changed.
    #[serde(skip_serializing_if = "is_zero")]
    pub limits: i64,
    /// What had faded; not above zero, unless points below zero faded.
    #[serde(skip_serializing_if = "is_zero")]
    pub decay: i64,
    /// What the rules gave in all.
    pub points: i64,
}

/// A rule that was met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulePoints {
    /// The name of the rule.
    pub name: String,
    /// Its points.
    pub points: i64,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference over"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

document_value!(PointsGiven);

/// Which rule gives a lead what, and how its score comes of that.
///
/// ```text
///   Σ points of the rules of a group, within the limits of the group
/// Σ over the groups and the rules without one
/// - what faded, within the limits of the rule set            = points
/// + adjustments by hand                                      = total
///   not below 0, not above 100                               = score
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScoreExplanation {
    /// The rule set.
    pub rule_set: Option<Id<LeadScoringRuleSet>>,
    /// The rules that are met, in the order of their priority, then by name.
    pub rules: Vec<RuleEffect>,
    /// The groups of the set, in their order.
    pub groups: Vec<GroupEffect>,
    /// How points fade, where they do.
    pub decay: Option<DecayEffect>,
    /// What the rules give in all, within the limits of the set.
    pub points: i64,
    /// What was adjusted by hand.
    pub adjustment: i64,
    /// The score that follows.
    pub score: Score,
    /// The grade that follows; the lead's own where the rule set has no bands.
    pub grade: Option<String>,
}

/// A rule that is met.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleEffect {
    /// The rule.
    pub rule: Id<LeadScoringRule>,
    /// Its name.
    pub name: String,
    /// Its type.
    pub rule_type: ScoringRuleType,
    /// Its group.
    pub group: Option<String>,
    /// Its points.
    pub points: i64,
}

/// What a group gives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupEffect {
    /// The name of the group.
    pub name: String,
    /// What its rules give together.
    pub sum: i64,
    /// What is left of that within the limits of the group.
    pub points: i64,
}

/// How points fade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecayEffect {
    /// Since how many full days.
    pub days: i64,
    /// The points that fade.
    pub before: i64,
    /// What is left of them.
    pub after: i64,
}

/// What a lead scores.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scored {
    /// What the rules give.
    pub points: i64,
    /// That and the adjustments by hand: the sum that the score is clamped from.
    pub total: i64,
    /// The score.
    pub score: Score,
    /// The grade; `None` inside where the score is below every band. Without bands the grade of the
    /// lead stays as it is.
    pub grade: Option<String>,
}

impl Scored {
    /// The score of some points (R-028, R-029).
    pub(super) fn new(set: &LeadScoringRuleSet, lead: &Lead, points: i64) -> Self {
        let total = points.saturating_add(lead.score_adjustment.into());
        let score = Score::clamped(total);
        let grade = if set.grades.0.is_empty() {
            lead.grade.clone()
        } else {
            set.grades.grade(score).map(str::to_owned)
        };
        Self {
            points,
            total,
            score,
            grade,
        }
    }
}

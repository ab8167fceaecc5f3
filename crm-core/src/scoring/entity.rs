//! [`LeadScoringRuleSet`] and [`LeadScoringRule`], what tenants set, and [`LeadScoreChange`], the
//! history of scores.

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::explanation::PointsGiven;
use super::settings::{ActivityCount, Decay, GradeBands, ScoringGroups, check_settings};
use crate::Id;
use crate::error::{Faults, codes};
use crate::leads::Lead;
use crate::schema::{Entity, Picklist};
use crate::value::Score;

/// Rules by which leads get scores, with the bands that make grades of scores (C-007).
///
/// A set is a draft while its rules are made. One set of a tenant is published: leads are scored by
/// it. It is never changed again; [`copy`](crate::engine::Records::copy) makes a new draft of it.
///
/// ```
/// use crm_core::scoring::{Decay, GradeBands, LeadScoringRuleSet, ScoringGroups};
///
/// let set = LeadScoringRuleSet {
///     groups: ScoringGroups::default().with("website", None, Some(30)),
///     grades: GradeBands::default().with("A", 80).with("B", 50).with("C", 0),
///     decay: Some(Decay::half_life(30)),
///     ..LeadScoringRuleSet::new("2026")
/// };
/// assert_eq!(set.status.as_str(), "draft");
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "lead_scoring_rule_set",
    table = "lead_scoring_rule_sets",
    unique(name; ignore_case, live),
    unique(is_published; live, only_if(is_published)),
    check = check_settings
)]
pub struct LeadScoringRuleSet {
    /// Name.
    #[field(required, max_len = 100, searchable)]
    pub name: String,
    /// Notes.
    #[field(multiline)]
    pub description: Option<String>,
    /// Whether it is still made, applied, or was applied before.
    #[field(read_only)]
    pub status: RuleSetStatus,
    /// Whether it is the one set of the tenant that is applied.
    #[field(read_only)]
    pub is_published: bool,
    /// The number of its publication, from 1: 2 is the second set that the tenant published.
    #[field(read_only, min = 1)]
    pub revision: Option<i32>,
    /// When it was published.
    #[field(read_only)]
    pub published_at: Option<DateTime<Utc>>,
    /// When another set took its place, or it was retired.
    #[field(read_only)]
    pub retired_at: Option<DateTime<Utc>>,
    /// The groups of its rules, each with the least and the most that they give together.
    pub groups: ScoringGroups,
    /// Which grade a score is.
    pub grades: GradeBands,
    /// How points fade.
    pub decay: Option<Decay>,
    /// The least that all rules give together.
    pub minimum: Option<i32>,
    /// The most that all rules give together.
    pub maximum: Option<i32>,
}

/// Where a rule set stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum RuleSetStatus {
    /// It is still made.
    #[default]
    Draft,
    /// Leads are scored by it.
    Published,
    /// Leads were scored by it.
    Retired,
}

/// The field of a rule that counts activities instead of looking at a field of leads.
pub const ACTIVITY_COUNT: &str = "activity_count";

/// What a lead gets, or loses, points for (R-030).
///
/// A rule looks at one field of leads, by its name: `industry`, `tags`, `custom_fields.segment`. With
/// [`ACTIVITY_COUNT`] it looks at how many [activities](ActivityCount) a lead has. What
/// [`condition_value`](Self::condition_value) has to be follows from the field and from the
/// [operator](ScoringOperator).
///
/// ```
/// use crm_core::activities::{ActivityStatus, ActivityType};
/// use crm_core::scoring::{
///     ACTIVITY_COUNT, ActivityCount, LeadScoringRule, ScoringOperator, ScoringRuleType,
/// };
/// # use crm_core::{Id, scoring::LeadScoringRuleSet};
/// # fn example(set: Id<LeadScoringRuleSet>) {
///
/// // 20 points for three and more calls that were held in the last 30 days.
/// let calls = LeadScoringRule {
///     activities: Some(ActivityCount {
///         activity_type: Some(ActivityType::Call),
///         status: Some(ActivityStatus::Completed),
///         within_days: Some(30),
///     }),
///     condition_value: Some(serde_json::json!([3, null])),
///     ..LeadScoringRule::new(
///         set,
///         "Calls",
///         ScoringRuleType::Engagement,
///         ACTIVITY_COUNT,
///         ScoringOperator::Between,
///         20,
///     )
/// };
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "lead_scoring_rule",
    table = "lead_scoring_rules",
    unique(rule_set_id, name; live),
    check = check_rule
)]
pub struct LeadScoringRule {
    /// The set that it belongs to. A rule stays in its set.
    #[field(required, references = "lead_scoring_rule_set", on_delete = "cascade")]
    pub rule_set_id: Id<LeadScoringRuleSet>,
    /// Name, unlike that of the other rules of the set (R-302).
    #[field(required, max_len = 100, searchable)]
    pub name: String,
    /// What kind of knowledge it rests on (R-122).
    #[field(required)]
    pub rule_type: ScoringRuleType,
    /// The field of leads that it looks at, or [`ACTIVITY_COUNT`].
    #[field(required, max_len = 200)]
    pub condition_field: String,
    /// How the field is compared (R-120).
    #[field(required)]
    pub condition_operator: ScoringOperator,
    /// By how many points the score changes where the condition is met (R-121).
    #[field(required, min = -100, max = 100)]
    pub score_change: i32,
    /// What the field is compared with.
    #[field(personal)]
    pub condition_value: Option<Json>,
    /// Which activities are counted.
    pub activities: Option<ActivityCount>,
    /// The group whose limits hold for it.
    #[field(max_len = 50)]
    pub group_name: Option<String>,
    /// Where it stands in explanations, the least first. All rules that are met count, so the order
    /// changes no score.
    pub priority: i32,
    /// Whether it is applied.
    #[field(default = true)]
    pub is_active: bool,
    /// Notes.
    #[field(multiline)]
    pub description: Option<String>,
}

/// What kind of knowledge of a lead a rule rests on (R-122).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum ScoringRuleType {
    /// Who the person is.
    Demographic,
    /// What the person does.
    Behavioral,
    /// What was done together.
    Engagement,
    /// What the company is.
    Firmographic,
}

/// How a rule compares a field (R-120).
///
/// A field without a value is not equal to, not in and does not contain anything; apart from that
/// only `not_exists` is met by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum ScoringOperator {
    /// The field is the value.
    Equals,
    /// The field is another value, or has none.
    NotEquals,
    /// The text contains the value, in any case; or the list has the value among its entries.
    Contains,
    /// The opposite of `contains`.
    NotContains,
    /// The field is greater than the value.
    GreaterThan,
    /// The field is less than the value.
    LessThan,
    /// The field is one of a list of values; or the list has one of them among its entries.
    In,
    /// The opposite of `in`.
    NotIn,
    /// The field is between the two values of a list, both included; `null` leaves one end open.
    Between,
    /// The field has a value; the list has an entry.
    Exists,
    /// The field has no value; the list has no entry.
    NotExists,
    /// The moment or day is more than so many days ago.
    OlderThan,
    /// The moment or day is less than so many days ago, or still to come.
    NewerThan,
}

impl ScoringOperator {
    /// Whether a rule with it needs no value.
    #[must_use]
    pub const fn stands_alone(self) -> bool {
        matches!(self, Self::Exists | Self::NotExists)
    }
}

fn check_rule(rule: &LeadScoringRule, faults: &mut Faults) {
    let has_value = rule
        .condition_value
        .as_ref()
        .is_some_and(|value| !value.is_null());
    if rule.condition_operator.stands_alone() == has_value {
        let (code, message) = if has_value {
            (codes::INCONSISTENT, "is empty with this operator")
        } else {
            (codes::REQUIRED, "a value is required with this operator")
        };
        faults.add("condition_value", code, message);
    }
    if rule.activities.is_some() && rule.condition_field != ACTIVITY_COUNT {
        faults.add(
            "activities",
            codes::INCONSISTENT,
            "is empty unless `condition_field` is `activity_count`",
        );
    }
}

/// One change of a lead's score (C-008). When and by whom is told by the record's `created`.
///
/// The score of a lead is always the sum of its changes, not below 0 and not above 100 (R-029). The
/// sum itself may be outside of that, so `new_score` may differ from `previous_score` by less than
/// `score_change`.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "lead_scoring_history", table = "lead_scoring_history", log)]
pub struct LeadScoreChange {
    /// The lead.
    #[field(required, references = "lead", on_delete = "cascade")]
    pub lead_id: Id<Lead>,
    /// Why the score changed.
    #[field(required)]
    pub cause: ScoreCause,
    /// By how many points the sum changed.
    #[field(required)]
    pub score_change: i32,
    /// The score before.
    #[field(required)]
    pub previous_score: Score,
    /// The score from then on.
    #[field(required)]
    pub new_score: Score,
    /// The rule set that was applied.
    pub rule_set_id: Option<Id<LeadScoringRuleSet>>,
    /// The [revision](LeadScoringRuleSet::revision) of the rule set.
    pub rule_set_revision: Option<i32>,
    /// What the rules gave at that time, where they were the cause.
    pub points_given: Option<PointsGiven>,
    /// What was said about it.
    #[field(multiline, personal)]
    pub reason: Option<String>,
}

/// Why a score changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum ScoreCause {
    /// The rules gave other points: something they look at changed, points faded, or another rule
    /// set was published.
    Rules,
    /// Somebody adjusted it by hand.
    Adjustment,
}

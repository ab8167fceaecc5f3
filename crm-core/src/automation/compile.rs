//! [`ActiveRule`]: a rule bound to the schema of deals, and what sets it off, decided over values
//! alone.

use std::sync::Arc;

use super::{AutomationRule, RuleType, TriggerEvent};
use crate::Id;
use crate::deals::Deal;
use crate::engine::{Remembered, Requirement, UnitOfWork};
use crate::error::{FieldError, Result, codes};
use crate::query::{Condition, Criteria, FieldAt, NoRelated, Refusal, locate};
use crate::record::Record;
use crate::schema::{AnyRecord, Entity, Registry, Row};
use async_trait::async_trait;

/// Binds criteria to the schema of deals.
pub(super) fn bind(criteria: &Criteria, registry: &Registry) -> Result<Condition, Refusal> {
    let bound = criteria.bind(Deal::schema(), registry, &[]);
    bound.map(|(condition, _)| condition)
}

/// Reads the condition of a rule that is an expression.
pub(super) fn require(source: &str, registry: &Registry) -> Result<Requirement, Vec<FieldError>> {
    let path = AutomationRule::CONDITION_EXPRESSION.name();
    Requirement::new(source, Deal::schema(), registry, &[], &path)
}

/// A field that a rule watches, or a member of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Watched(FieldAt);

impl Watched {
    /// The field of deals with this name.
    pub(super) fn new(name: &str, registry: &Registry) -> Result<Self, FieldError> {
        let refused = |code, message: &'static str| {
            FieldError::new(AutomationRule::WATCHED_FIELDS.name(), code, message)
        };
        let deals = registry.described(Deal::schema());
        let known = locate(&deals, name).ok();
        let Some((at, _)) = known.filter(|(_, known)| !known.system) else {
            return Err(refused(codes::UNKNOWN_FIELD, "a deal has no such field"));
        };
        let follows = [Deal::LAST_ACTIVITY_AT.name(), Deal::NEXT_ACTIVITY_AT.name()];
        if follows.iter().any(|follows| *follows == name) {
            return Err(refused(
                "unsupported",
                "is worked out after automation ran; use a rule that is based on time",
            ));
        }
        Ok(Self(at))
    }

    fn differs(&self, before: &Record<Deal>, after: &Record<Deal>) -> bool {
        self.0
            .with(before, |before| self.0.with(after, |after| before != after))
    }
}

/// A rule that is applied.
#[derive(Debug)]
pub(super) struct ActiveRule {
    pub(super) record: Arc<Record<AutomationRule>>,
    pub(super) conditions: Condition,
    expression: Option<Requirement>,
    before: Option<Condition>,
    watched: Vec<Watched>,
}

impl ActiveRule {
    /// Binds a rule; none if it does not fit the schema any more, as after the host took a field away.
    pub(super) fn new(record: Arc<Record<AutomationRule>>, registry: &Registry) -> Option<Self> {
        let conditions = bind(&record.conditions, registry).ok();
        let before = record.conditions_before.as_ref();
        let before = before.map(|before| bind(before, registry)).transpose().ok();
        let watched = record.watched_fields.iter();
        let watched: Option<Vec<Watched>> = watched
            .map(|name| Watched::new(name, registry).ok())
            .collect();
        let expression = record.condition_expression.as_ref();
        let expression = expression.map(|source| require(source, registry));
        let expression = expression.transpose().ok();
        let (Some(conditions), Some(expression), Some(before), Some(watched)) =
            (conditions, expression, before, watched)
        else {
            tracing::warn!(rule = %record.id, "an automation rule does not fit deals any more");
            return None;
        };
        Some(Self {
            record,
            conditions,
            expression,
            before,
            watched,
        })
    }

    pub(super) fn id(&self) -> Id<AutomationRule> {
        self.record.id
    }

    /// Whether a change of a deal, or a new one, is what the rule waits for. Its conditions are not
    /// asked.
    pub(super) fn is_set_off(&self, before: Option<&Record<Deal>>, after: &Record<Deal>) -> bool {
        let moves = before.is_none_or(|before| before.stage_id != after.stage_id);
        let is_event = match (self.record.rule_type, self.record.trigger_event) {
            (RuleType::StageEntry, TriggerEvent::DealCreated) => before.is_none(),
            (RuleType::StageEntry, _) => moves,
            (RuleType::StageExit, _) => moves,
            (RuleType::FieldChange, _) => before.is_some_and(|before| self.touches(before, after)),
            (RuleType::ProbabilityChange, _) => {
                before.is_some_and(|before| before.win_probability != after.win_probability)
            }
            (RuleType::TimeBased, _) => false,
        };
        let place = match self.record.rule_type {
            RuleType::StageExit => before,
            _ => Some(after),
        };
        is_event
            && place.is_some_and(|place| self.is_about(place))
            && self.before.as_ref().is_none_or(|wanted| {
                before.is_some_and(|before| wanted.matches(before, &NoRelated))
            })
    }

    /// Whether a field changes that the rule watches.
    fn touches(&self, before: &Record<Deal>, after: &Record<Deal>) -> bool {
        if !self.watched.is_empty() {
            return self
                .watched
                .iter()
                .any(|field| field.differs(before, after));
        }
        let fields = Deal::schema().fields();
        let by_users = |index: usize| {
            let field = fields.get(index);
            field.is_some_and(|field| !field.system && !field.read_only)
        };
        let changed = AnyRecord::differing(after, before);
        changed.iter().any(by_users)
    }

    /// Whether the deal is of the rule's pipeline and in its stage.
    pub(super) fn is_about(&self, deal: &Deal) -> bool {
        let pipeline = self.record.pipeline_id;
        let stage = self.record.stage_id;
        pipeline.is_none_or(|pipeline| pipeline == deal.pipeline_id)
            && stage.is_none_or(|stage| Some(stage) == deal.stage_id)
    }

    /// Whether the conditions that are filters hold for a deal.
    fn fits(&self, deal: &Record<Deal>) -> bool {
        self.conditions.matches(deal, &NoRelated)
    }

    /// The deals among these for which all conditions hold. The unit of work relies on the other
    /// records that this rests on.
    pub(super) async fn fitting(
        &self,
        work: &mut UnitOfWork,
        mut deals: Vec<Arc<Record<Deal>>>,
    ) -> Result<Vec<Arc<Record<Deal>>>> {
        deals.retain(|deal| self.fits(deal));
        let Some(expression) = self.expression.as_ref().filter(|_| !deals.is_empty()) else {
            return Ok(deals);
        };
        let rows: Vec<Row> = deals.iter().map(|deal| deal.clone() as Row).collect();
        let rows = work.completed(rows, expression.computed()).await?;
        let (answers, around) = expression.ask(work, &rows).await?;
        around.rely(work);
        let answered = deals.into_iter().zip(answers);
        let fitting = answered.filter(|(_, answer)| *answer == Ok(Some(true)));
        Ok(fitting.map(|(deal, _)| deal).collect())
    }
}

/// The rules that a tenant applies, in their order.
#[derive(Debug, Default)]
pub(super) struct ActiveRules {
    /// Those that changes of deals set off.
    pub(super) events: Vec<ActiveRule>,
    /// Those that wait for time to pass.
    pub(super) timed: Vec<ActiveRule>,
}

impl ActiveRules {
    fn new(mut rules: Vec<Arc<Record<AutomationRule>>>, registry: &Registry) -> Self {
        rules.retain(|rule| rule.is_in_use());
        //
        rules.sort_by(|one, other| {
            let key = |rule: &Record<AutomationRule>| (rule.execution_order, rule.id);
            let (order, other_order) = (key(one), key(other));
            order
                .0
                .cmp(&other_order.0)
                .then_with(|| one.rule_name.cmp(&other.rule_name))
                .then_with(|| order.1.cmp(&other_order.1))
        });
        let bound = rules.into_iter();
        let bound = bound.filter_map(|rule| ActiveRule::new(rule, registry));
        let (timed, events) = bound.partition(|rule| rule.record.rule_type == RuleType::TimeBased);
        Self { events, timed }
    }
}

#[async_trait]
impl Remembered for ActiveRules {
    const OBJECTS: &'static [&'static str] = &["pipeline_automation_rule"];

    async fn load(work: &UnitOfWork) -> Result<Self> {
        let active = AutomationRule::IS_ACTIVE.eq(true);
        let rules = work.find_all(active, Vec::new()).await?;
        Ok(Self::new(rules, &*work.registry().await?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};
    use uuid::Uuid;

    use super::*;
    use crate::automation::{Action, Actions};
    use crate::pipelines::{Pipeline, PipelineStage};
    use crate::query::Filter;
    use crate::record::{Actor, Stamp};
    use crate::schema::Meta;
    use crate::value::Percent;

    fn meta(number: u128) -> Meta {
        let at = chrono::DateTime::UNIX_EPOCH;
        let by = Actor::System;
        Meta::first(Uuid::from_u128(number), Stamp { at, by })
    }

    fn stage(number: u128) -> Id<PipelineStage> {
        Id::new(Uuid::from_u128(number))
    }

    fn deal(in_stage: u128, change: impl FnOnce(&mut Deal)) -> Record<Deal> {
        let pipeline = Id::<Pipeline>::new(Uuid::from_u128(100));
        let mut deal = Deal::new("Rollout", pipeline);
        deal.stage_id = Some(stage(in_stage));
        change(&mut deal);
        Record::new(meta(1), deal)
    }

    fn rule(
        kind: RuleType,
        event: TriggerEvent,
        set: impl FnOnce(&mut AutomationRule),
    ) -> ActiveRule {
        let tag = Action::AddTags {
            tags: vec!["x".into()],
        };
        let always = Filter::all();
        let mut rule = AutomationRule::new("Rule", kind, event, always, Actions(vec![tag]));
        set(&mut rule);
        let record = Arc::new(Record::new(meta(2), rule));
        ActiveRule::new(record, &Registry::default()).unwrap()
    }

    #[test]
    fn rules_wait_for_what_they_say() {
        use RuleType::{FieldChange, ProbabilityChange, StageEntry, StageExit};
        use TriggerEvent::{DealCreated, FieldUpdated, ProbabilityChanged, StageChanged};
        let one = || deal(1, |_| {});
        let two = || deal(2, |_| {});
        let probable = || deal(1, |deal| deal.win_probability = Percent::HUNDRED);
        let renamed = || deal(1, |deal| deal.name = "Other".into());
        let entry = rule(StageEntry, StageChanged, |rule| {
            rule.stage_id = Some(stage(2));
        });
        let exit = rule(StageExit, StageChanged, |rule| {
            rule.stage_id = Some(stage(1));
        });
        let created = rule(StageEntry, DealCreated, |_| {});
        let field = rule(FieldChange, FieldUpdated, |_| {});
        let name = rule(FieldChange, FieldUpdated, |rule| {
            rule.watched_fields = vec!["name".into()];
        });
        let probability = rule(ProbabilityChange, ProbabilityChanged, |_| {});
        let rules = [&entry, &exit, &created, &field, &name, &probability];
        let set_off = |before: Option<Record<Deal>>, after: Record<Deal>| {
            rules.map(|rule| rule.is_set_off(before.as_ref(), &after))
        };
        assert_eq!(
            set_off(None, one()),
            [false, false, true, false, false, false]
        );
        assert_eq!(
            set_off(None, two()),
            [true, false, true, false, false, false]
        );
        assert_eq!(
            set_off(Some(one()), two()),
            [true, true, false, true, false, false]
        );
        assert_eq!(
            set_off(Some(two()), one()),
            [false, false, false, true, false, false]
        );
        assert_eq!(
            set_off(Some(one()), renamed()),
            [false, false, false, true, true, false]
        );
        // What only the engine writes is no change of a field, unless it is watched.
        assert_eq!(
            set_off(Some(one()), probable()),
            [false, false, false, false, false, true]
        );
        assert_eq!(set_off(Some(one()), one()), [false; 6]);
    }

    #[test]
    fn old_and_new_values_are_conditions() {
        let passes = rule(RuleType::FieldChange, TriggerEvent::FieldUpdated, |rule| {
            rule.conditions_before = Some(Deal::AMOUNT.lt(1_000).into());
            rule.conditions = Deal::AMOUNT.ge(1_000).into();
        });
        let worth = |amount: i64| deal(1, |deal| deal.amount = Some(amount.into()));
        assert!(passes.is_set_off(Some(&worth(1)), &worth(2_000)));
        assert!(passes.fits(&worth(2_000)) && !passes.fits(&worth(2)));
        assert!(!passes.is_set_off(Some(&worth(1_500)), &worth(2_000)));
        assert!(!passes.is_set_off(None, &worth(2_000)));
    }

    #[test]
    fn members_of_documents_are_watched() {
        let segment = rule(RuleType::FieldChange, TriggerEvent::FieldUpdated, |rule| {
            rule.watched_fields = vec!["custom_fields.segment".into()];
        });
        let of = |custom: Json| deal(1, |deal| deal.custom_fields = custom);
        let none = of(json!({}));
        let large = of(json!({"segment": "large"}));
        let other = of(json!({"segment": "large", "other": 1}));
        assert!(segment.is_set_off(Some(&none), &large));
        assert!(!segment.is_set_off(Some(&large), &other));
        assert!(!segment.is_set_off(Some(&none), &of(json!({"segment": null}))));
        let registry = Registry::default();
        for name in ["nothing", "name.x", "last_activity_at", "version"] {
            assert!(Watched::new(name, &registry).is_err(), "{name}");
        }
    }
}

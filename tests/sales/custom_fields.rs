//! Fields that a tenant defined, with their types, wherever sales name a field: scoring rules and
//! decay, the assignment of leads, conversion, gates of stages, automation, forecasts and reports.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use std::sync::Arc;

use chrono::{NaiveDate, TimeDelta};
use crm_engine::automation::{
    Action, Actions, AutomationRule, ExecutionOutcome, OnFailure, RuleType, TriggerEvent,
};
use crm_engine::custom_objects::{
    CustomField, CustomFieldOption, CustomFieldType, CustomFieldsExt, DataType, TextLimits,
};
use crm_engine::engine::ManualClock;
use crm_engine::error::codes;
use crm_engine::forecasts::ForecastQuery;
use crm_engine::leads::assignment::{AssignmentMethod, LeadAssignmentRule};
use crm_engine::leads::{ConversionPlan, ConversionTarget, LeadConversionMapping};
use crm_engine::pipelines::analytics::PipelineView;
use crm_engine::prelude::*;
use crm_engine::query::Criteria;
use crm_engine::scoring::{
    Decay, LeadScoringRule, LeadScoringRuleSet, ScoringOperator, ScoringRuleType,
};
use crm_engine::tenancy::Onboarded;
use crm_engine::value::ApiName;
use serde_json::{Map, Value as Json, json};

use crate::common;

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

fn text() -> CustomFieldType {
    CustomFieldType::Text(TextLimits::default())
}

fn number() -> CustomFieldType {
    CustomFieldType::Number(Default::default())
}

/// A tenant on a clock that stands still until it is moved.
struct World {
    office: Onboarded,
    session: Session,
    clock: Arc<ManualClock>,
}

async fn world() -> World {
    let clock = Arc::new(ManualClock::new("2026-03-02T09:00:00Z".parse().unwrap()));
    let crm = Crm::builder(common::backend::storage(&[]))
        .clock(clock.clone())
        .build();
    let (office, session) = common::tenant(&crm, "acme").await;
    World {
        office,
        session,
        clock,
    }
}

impl World {
    async fn define(&self, object: &str, field: &str, kind: CustomFieldType) -> Id<CustomField> {
        let field = CustomField::new(name(object), name(field), "Field", kind);
        self.session.records().create(field).await.unwrap().id
    }

    async fn option(&self, field: Id<CustomField>, option: &str) {
        let option = CustomFieldOption::new(field, option, option);
        self.session.records().create(option).await.unwrap();
    }

    async fn rename(&self, field: Id<CustomField>, to: &str) {
        let fields = self.session.custom_fields();
        fields.rename(field, name(to)).await.unwrap();
    }

    async fn lead(&self, custom: Json) -> Arc<Record<Lead>> {
        let lead = Lead {
            name: Some(PersonName::new("Hank", "Scorpio")),
            company: Some("Globex".into()),
            custom_fields: custom,
            ..Lead::default()
        };
        self.session.leads().create(lead).await.unwrap()
    }

    async fn score(&self, lead: Id<Lead>) -> u8 {
        let lead = self.session.leads().get(lead).await.unwrap();
        lead.lead_score.value()
    }

    fn deal(&self, custom: Json) -> Deal {
        Deal {
            amount: Some(1_000.into()),
            custom_fields: custom,
            ..Deal::new("Rollout", self.office.pipeline)
        }
    }

    async fn new_deal(&self, custom: Json) -> Id<Deal> {
        let deal = self.deal(custom);
        self.session.deals().create(deal).await.unwrap().id
    }

    async fn custom(&self, deal: Id<Deal>) -> Json {
        let deal = self.session.deals().get(deal).await.unwrap();
        deal.custom_fields.clone()
    }
}

fn faults(error: &Error) -> Vec<(&str, &str)> {
    let errors = error.field_errors().iter();
    errors
        .map(|error| (error.path.as_str(), error.code))
        .collect()
}

/// C-007, C-105: rules read fields of the tenant by their types, the same one by one in an
/// explanation, over many in a simulation and after the publication; a field that is renamed goes on
/// counting, also where the rule names it as before.
#[tokio::test]
async fn scoring_reads_the_fields_of_the_tenant_by_their_types() {
    use ScoringOperator as Op;
    let w = world().await;
    let tier = w.define("lead", "tier", CustomFieldType::Picklist).await;
    for option in ["gold", "iron"] {
        w.option(tier, option).await;
    }
    let topics = w.define("lead", "topics", CustomFieldType::Multipicklist);
    let topics = topics.await;
    for option in ["price", "service"] {
        w.option(topics, option).await;
    }
    w.define("lead", "seats", number()).await;
    w.define(
        "lead",
        "margin",
        CustomFieldType::Percent(Default::default()),
    )
    .await;
    w.define("lead", "vip", CustomFieldType::Boolean).await;
    w.define("lead", "visited_on", CustomFieldType::Date).await;
    let double = CustomFieldType::Formula {
        expression: "2 * seats".into(),
        result: DataType::Integer,
    };
    w.define("lead", "double", double).await;
    let set = LeadScoringRuleSet::new("2026");
    let set = w.session.scoring_rule_sets().create(set).await.unwrap().id;
    let rule = |field: &str, operator: Op, value: Json, points: i32| LeadScoringRule {
        condition_value: Some(value).filter(|value| !value.is_null()),
        ..LeadScoringRule::new(
            set,
            format!("{field} {operator}"),
            ScoringRuleType::Firmographic,
            field,
            operator,
            points,
        )
    };
    // What does not fit the type of a field is told when the rule is written.
    for (field, operator, value, told) in [
        (
            "custom_fields.seats",
            Op::GreaterThan,
            json!("many"),
            "condition_value",
        ),
        ("seats", Op::Contains, json!("1"), "condition_operator"),
        (
            "custom_fields.vip",
            Op::OlderThan,
            json!(3),
            "condition_operator",
        ),
        (
            "custom_fields.nothing",
            Op::Exists,
            Json::Null,
            "condition_field",
        ),
    ] {
        let refused = rule(field, operator, value, 1);
        let refused = w.session.scoring_rules().create(refused).await.unwrap_err();
        assert_eq!(faults(&refused)[0].0, told, "{field} {operator}");
    }
    for rule in [
        rule("custom_fields.tier", Op::Equals, json!("gold"), 1),
        rule("tier", Op::NotIn, json!(["gold", "iron"]), 64),
        rule("custom_fields.topics", Op::Contains, json!("price"), 2),
        rule("custom_fields.seats", Op::Between, json!([10, null]), 4),
        rule("custom_fields.margin", Op::GreaterThan, json!("12.5"), 8),
        rule("custom_fields.vip", Op::Equals, json!(true), 16),
        rule("custom_fields.visited_on", Op::NewerThan, json!(30), 32),
        rule("custom_fields.double", Op::Equals, json!(40), 13),
    ] {
        w.session.scoring_rules().create(rule).await.unwrap();
    }
    let cases = [
        (
            json!({"tier": "gold", "topics": ["service", "price"], "seats": 20, "margin": "12.51",
            "vip": true, "visited_on": "2026-02-02"}),
            1 + 2 + 4 + 8 + 16 + 32 + 13,
        ),
        (
            json!({"tier": "iron", "topics": ["service"], "seats": 9, "margin": "12.5",
            "vip": false, "visited_on": "2026-01-31"}),
            0,
        ),
        (json!({}), 64),
        (json!({"seats": 10}), 64 + 4),
    ];
    let mut leads = Vec::new();
    for (custom, expected) in cases {
        leads.push((w.lead(custom).await.id, expected));
    }
    let sets = w.session.scoring_rule_sets();
    let told = sets.simulate(set, Filter::all(), 10, &()).await.unwrap();
    for (lead, expected) in &leads {
        let simulated = told.leads.iter().find(|one| one.lead == *lead);
        let simulated = simulated.map_or(0, |one| one.to.value());
        assert_eq!(simulated, *expected);
    }
    w.session.scoring_rule_sets().publish(set).await.unwrap();
    w.session.leads().rescore_all(&()).await.unwrap();
    w.rename(tier, "grade_of_customer").await;
    for (lead, expected) in &leads {
        let explained = w.session.leads().explain(*lead).await.unwrap();
        assert_eq!(explained.score.value(), *expected);
        assert_eq!(w.score(*lead).await, *expected);
    }
    // The new name empties and changes what stands under the key.
    let (first, expected) = leads[0];
    for (tier, score) in [(json!(null), 100), (json!("gold"), expected)] {
        let version = w.session.leads().get(first).await.unwrap().version;
        let patch = json!({"custom_fields": {"grade_of_customer": tier}});
        let patch = patch.as_object().unwrap();
        let patched = w.session.leads().merge(first, version, patch).await;
        let stored = patched.unwrap().custom_fields.clone();
        assert_eq!(stored.get("tier").unwrap_or(&Json::Null), &tier);
        assert_eq!(w.score(first).await, score);
    }
}

/// Points fade since a day that the tenant keeps.
#[tokio::test]
async fn points_fade_since_a_day_of_the_tenant() {
    let w = world().await;
    w.define("lead", "visited_on", CustomFieldType::Date).await;
    w.define("lead", "seats", number()).await;
    let with = |since: &str| LeadScoringRuleSet {
        decay: Some(Decay {
            since: since.into(),
            ..Decay::half_life(10)
        }),
        ..LeadScoringRuleSet::new("2026")
    };
    let refused = with("custom_fields.seats");
    let refused = w.session.scoring_rule_sets().create(refused).await;
    assert_eq!(
        faults(&refused.unwrap_err()),
        [("decay", codes::WRONG_TYPE)]
    );
    let set = with("custom_fields.visited_on");
    let set = w.session.scoring_rule_sets().create(set).await.unwrap().id;
    let rule = LeadScoringRule::new(
        set,
        "Company",
        ScoringRuleType::Firmographic,
        "company",
        ScoringOperator::Exists,
        40,
    );
    w.session.scoring_rules().create(rule).await.unwrap();
    w.session.scoring_rule_sets().publish(set).await.unwrap();
    // It is 9 o'clock: the twentieth full day since midnight is over.
    let visited = w.lead(json!({"visited_on": "2026-02-10"})).await;
    assert_eq!(w.score(visited.id).await, 10);
    let never = w.lead(json!({})).await;
    assert_eq!(w.score(never.id).await, 40);
    w.clock.advance(TimeDelta::days(10));
    w.session.leads().rescore_all(&()).await.unwrap();
    assert_eq!(w.score(visited.id).await, 5);
    assert_eq!(w.score(never.id).await, 20);
}

/// Leads are assigned, and converted, by fields of the tenant; pairs of fields must be of one type.
#[tokio::test]
async fn leads_are_assigned_and_converted_by_fields_of_the_tenant() {
    let w = world().await;
    let seats = w.define("lead", "seats", number()).await;
    w.define("lead", "visited_on", CustomFieldType::Date).await;
    w.define("account", "licences", number()).await;
    w.define("deal", "renewal_on", CustomFieldType::Date).await;
    let many = json!({"field": "custom_fields.seats", "op": "gte", "value": 100});
    let many = Criteria::from(Filter::from_json(&many).unwrap());
    let large = LeadAssignmentRule {
        criteria: Some(many),
        user_id: Some(w.office.admin),
        ..LeadAssignmentRule::new("Large", AssignmentMethod::User)
    };
    w.session
        .lead_assignment_rules()
        .create(large)
        .await
        .unwrap();
    let wrong = json!({"field": "seats", "op": "gte", "value": "many"});
    let wrong = LeadAssignmentRule {
        criteria: Some(Filter::from_json(&wrong).unwrap().into()),
        user_id: Some(w.office.admin),
        ..LeadAssignmentRule::new("Wrong", AssignmentMethod::User)
    };
    let refused = w.session.lead_assignment_rules().create(wrong).await;
    assert_eq!(faults(&refused.unwrap_err())[0].0, "criteria");
    let pair = |target, field: &str, source: &str| LeadConversionMapping {
        source_field: Some(source.into()),
        ..LeadConversionMapping::new(target, field)
    };
    let refused = pair(
        ConversionTarget::Account,
        "custom_fields.licences",
        "visited_on",
    );
    let pairs = || w.session.records::<LeadConversionMapping>();
    let refused = pairs().create(refused).await.unwrap_err();
    assert_eq!(faults(&refused), [("source_field", codes::WRONG_TYPE)]);
    for (target, field, source) in [
        (ConversionTarget::Account, "licences", "custom_fields.seats"),
        (
            ConversionTarget::Deal,
            "custom_fields.renewal_on",
            "visited_on",
        ),
    ] {
        pairs().create(pair(target, field, source)).await.unwrap();
    }
    w.rename(seats, "chairs").await;
    let small = w.lead(json!({"chairs": 99})).await;
    assert_eq!(small.owner_id, None);
    let lead = w
        .lead(json!({"chairs": 100, "visited_on": "2026-02-10"}))
        .await;
    assert_eq!(lead.owner_id, Some(w.office.admin));
    let plan = ConversionPlan::with_deal("Rollout");
    let done = w.session.leads().convert(lead.id, plan).await.unwrap();
    let account = w
        .session
        .accounts()
        .get(done.account.unwrap())
        .await
        .unwrap();
    assert_eq!(account.custom_fields, json!({"licences": 100}));
    assert_eq!(
        w.custom(done.deal.unwrap()).await,
        json!({"renewal_on": "2026-02-10"})
    );
}

/// C-020: what is asked of a record when it is written is asked of the values that it is stored with:
/// those under a name of today, those by default, and those that are computed.
#[tokio::test]
async fn records_are_assigned_by_the_values_that_are_stored() {
    let w = world().await;
    let channel = CustomField {
        default_value: Some(json!("web")),
        ..CustomField::new(name("lead"), name("channel"), "Field", text())
    };
    w.session.records().create(channel).await.unwrap();
    w.define("lead", "seats", number()).await;
    let double = CustomFieldType::Formula {
        expression: "2 * seats".into(),
        result: DataType::Integer,
    };
    w.define("lead", "double", double).await;
    let grace = "grace@acme.example".parse::<EmailAddress>().unwrap();
    let grace = w.session.users().create(User::new(grace)).await.unwrap().id;
    let many = json!({"field": "double", "op": "gte", "value": 20});
    let many = Filter::from_json(&many).unwrap();
    let rules = [
        ("Many", 1, w.office.admin, many),
        ("Web", 2, grace, Filter::eq("channel", "web")),
    ];
    for (name, rank, user, criteria) in rules {
        let rule = LeadAssignmentRule {
            rank,
            criteria: Some(criteria.into()),
            user_id: Some(user),
            ..LeadAssignmentRule::new(name, AssignmentMethod::User)
        };
        w.session
            .lead_assignment_rules()
            .create(rule)
            .await
            .unwrap();
    }
    for (custom, owner) in [
        (json!({}), Some(grace)),
        (json!({"channel": "fair"}), None),
        (
            json!({"channel": "fair", "seats": 10}),
            Some(w.office.admin),
        ),
    ] {
        assert_eq!(w.lead(custom).await.owner_id, owner);
    }
    let tier = w.define("account", "tier", text()).await;
    w.rename(tier, "grade").await;
    let gold = Territory {
        criteria: Some(Filter::eq("tier", "gold").into()),
        ..Territory::new("Gold")
    };
    let gold = w.session.territories().create(gold).await.unwrap().id;
    let globex = Account {
        custom_fields: json!({"grade": "gold"}),
        ..Account::new("Globex")
    };
    let globex = w.session.accounts().create(globex).await.unwrap();
    assert_eq!(globex.territory_id, Some(gold));
    let iron = |account: &mut Account| account.custom_fields = json!({"grade": "iron"});
    let globex = w.session.accounts().update(globex.id, iron).await.unwrap();
    assert_eq!(globex.territory_id, None);
}

fn set(fields: Json) -> Actions {
    let Json::Object(fields) = fields else {
        panic!("fields are an object");
    };
    Actions(vec![Action::SetFields { fields }])
}

fn on_entry(stage: Id<PipelineStage>, actions: Actions) -> AutomationRule {
    AutomationRule {
        stage_id: Some(stage),
        ..AutomationRule::new(
            "Rule",
            RuleType::StageEntry,
            TriggerEvent::StageChanged,
            Filter::all(),
            actions,
        )
    }
}

/// C-022: values for fields of the tenant are checked when a rule is written, and set under whatever
/// name the field has by then.
#[tokio::test]
async fn rules_set_fields_of_the_tenant_by_their_types() {
    let w = world().await;
    let stages = &w.office.stages;
    let seats = w.define("deal", "seats", number()).await;
    let tier = w.define("deal", "tier", CustomFieldType::Picklist).await;
    w.option(tier, "gold").await;
    w.define("deal", "region", text()).await;
    let double = CustomFieldType::Formula {
        expression: "2 * seats".into(),
        result: DataType::Integer,
    };
    w.define("deal", "double", double).await;
    let wrong = json!({
        "custom_fields.seats": "many",
        "custom_fields.tier": "wood",
        "custom_fields.double": 3,
        "custom_fields.nothing": 1,
        "custom_fields.region": "north",
        "next_step": "call",
    });
    let wrong = on_entry(stages[1], set(wrong));
    let refused = w
        .session
        .automation_rules()
        .create(wrong)
        .await
        .unwrap_err();
    let mut told = faults(&refused);
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("actions.0.fields.custom_fields.double", codes::READ_ONLY),
            (
                "actions.0.fields.custom_fields.nothing",
                codes::UNKNOWN_FIELD
            ),
            ("actions.0.fields.custom_fields.seats", codes::WRONG_TYPE),
            ("actions.0.fields.custom_fields.tier", codes::NOT_AN_OPTION),
        ]
    );
    let right = json!({
        "custom_fields.seats": 3, "custom_fields.tier": "gold", "custom_fields.region": null,
    });
    let rule = on_entry(stages[1], set(right));
    let rule = w.session.automation_rules().create(rule).await.unwrap().id;
    w.rename(seats, "chairs").await;
    let again = on_entry(stages[2], set(json!({"custom_fields.chairs": 5})));
    let again = AutomationRule {
        rule_name: "Again".into(),
        ..again
    };
    let again = w.session.automation_rules().create(again).await.unwrap().id;
    let deal = w.new_deal(json!({"chairs": 1, "region": "north"})).await;
    w.session.deals().move_to(deal, stages[1]).await.unwrap();
    assert_eq!(
        w.custom(deal).await,
        json!({"seats": 3, "double": 6, "tier": "gold"})
    );
    // By its new name, over the value that it has.
    w.session.deals().move_to(deal, stages[2]).await.unwrap();
    assert_eq!(w.custom(deal).await["seats"], json!(5));
    let counts = w.session.automation().counts(&[rule, again]).await.unwrap();
    let counts = counts.values().map(|one| (one.executed, one.failed));
    assert_eq!(counts.collect::<Vec<_>>(), [(1, 0), (1, 0)]);
}

/// A reference of the tenant that leads nowhere by now is a refused action, not a refused change.
#[tokio::test]
async fn a_reference_of_the_tenant_that_leads_nowhere_fails_the_rule_alone() {
    let w = world().await;
    let stages = &w.office.stages;
    let partner = CustomFieldType::Lookup {
        object: name("account"),
        cascade: false,
    };
    w.define("deal", "partner", partner).await;
    let globex = Account::new("Globex");
    let globex = w.session.accounts().create(globex).await.unwrap().id;
    let nobody = set(json!({"custom_fields.partner": w.office.admin}));
    let nobody = on_entry(stages[1], nobody);
    let refused = w
        .session
        .automation_rules()
        .create(nobody)
        .await
        .unwrap_err();
    assert_eq!(
        faults(&refused),
        [("actions.0.fields.custom_fields.partner", codes::NOT_FOUND)]
    );
    let rule = on_entry(stages[1], set(json!({"custom_fields.partner": globex})));
    let rule = w.session.automation_rules().create(rule).await.unwrap().id;
    let deal = w.new_deal(json!({})).await;
    w.session.deals().move_to(deal, stages[1]).await.unwrap();
    assert_eq!(w.custom(deal).await, json!({"partner": globex}));
    let empty = |deal: &mut Deal| deal.custom_fields = json!({});
    w.session.deals().update(deal, empty).await.unwrap();
    w.session.accounts().delete(globex).await.unwrap();
    let other = w.new_deal(json!({})).await;
    let moved = w.session.deals().move_to(other, stages[1]).await.unwrap();
    assert_eq!(moved.stage_id, Some(stages[1]));
    let counts = w.session.automation().counts(&[rule]).await.unwrap()[&rule];
    assert_eq!((counts.executed, counts.failed), (1, 1));
    let strict = |rule: &mut AutomationRule| rule.on_failure = OnFailure::Refuse;
    w.session
        .automation_rules()
        .update(rule, strict)
        .await
        .unwrap();
    let third = w.new_deal(json!({})).await;
    let refused = w
        .session
        .deals()
        .move_to(third, stages[1])
        .await
        .unwrap_err();
    assert_eq!(
        faults(&refused),
        [("custom_fields.partner", codes::NOT_FOUND)]
    );
    let entries = common::rows_of(&w.session, "automation_execution").await;
    let failed = ExecutionOutcome::Failed.as_str();
    let failed = entries
        .iter()
        .filter(|row| row.get("outcome").as_text() == Some(failed));
    assert_eq!(failed.count(), 1);
}

/// Gates, forecasts, sums and reports take fields of the tenant, by either of their names.
#[tokio::test]
async fn deals_are_gated_and_counted_by_fields_of_the_tenant() {
    let w = world().await;
    let stages = &w.office.stages;
    let seats = w.define("deal", "seats", number()).await;
    let budget = CustomFieldType::Currency {
        currency: Currency::EUR,
        min: None,
        max: None,
    };
    w.define("deal", "budget", budget).await;
    let many = json!({"field": "custom_fields.seats", "op": "gt", "value": 9});
    let many = Filter::from_json(&many).unwrap();
    let criteria: Criteria = many.clone().into();
    w.session
        .pipelines()
        .update_stage(stages[1], |stage| {
            stage.required_fields = vec!["budget".into()];
            stage.entry_criteria = Some(criteria.clone());
        })
        .await
        .unwrap();
    w.rename(seats, "chairs").await;
    let small = w.new_deal(json!({"chairs": 9})).await;
    let refused = w
        .session
        .deals()
        .move_to(small, stages[1])
        .await
        .unwrap_err();
    assert_eq!(
        faults(&refused),
        [("budget", codes::REQUIRED), ("stage_id", "stage_criteria")]
    );
    let large = w.new_deal(json!({"chairs": 10, "budget": "0.50"})).await;
    w.session.deals().move_to(large, stages[1]).await.unwrap();
    let query = ForecastQuery {
        filter: Some(many.clone().into()),
        ..ForecastQuery::default()
    };
    let forecast = w.session.forecasts().forecast(&query).await.unwrap();
    assert_eq!(forecast.open().unwrap().deals, 1);
    let total = w.session.deals().total(many.clone()).await.unwrap();
    assert_eq!(total.count, 1);
    let view = PipelineView {
        deals: Some(many),
        ..PipelineView::of(w.office.pipeline)
    };
    let day = |day| NaiveDate::from_ymd_opt(2026, 3, day).unwrap();
    let report = w.session.pipelines().report(&view, day(1), day(31)).await;
    let report = report.unwrap();
    let entered = |stage| report.stage(stage).unwrap().figures.entered.deals;
    // It was created and moved at the same moment.
    assert_eq!((entered(stages[0]), entered(stages[1])), (0, 1));
    let patch: Map<String, Json> =
        Map::from_iter([("custom_fields".to_owned(), json!({"chairs": 1}))]);
    let version = w.session.deals().get(large).await.unwrap().version;
    w.session
        .deals()
        .merge(large, version, &patch)
        .await
        .unwrap();
    let forecast = w.session.forecasts().forecast(&query).await.unwrap();
    assert_eq!(forecast.open().unwrap().deals, 0);
}

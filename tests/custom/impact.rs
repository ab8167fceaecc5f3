//! C-102, R-071: before a field is deleted, everything that names it is told: other definitions, every
//! kind of setting of the engine, and those of the host.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crm_engine::automation::{Action, Actions, AutomationRule, RuleType, TriggerEvent};
use crm_engine::custom_objects::{
    CustomField, CustomFieldRule, CustomFieldType, CustomFieldsExt, CustomObject, DataType, RollUp,
    RollUpFunction,
};
use crm_engine::duplicates::MatchRule;
use crm_engine::imports::ImportMapping;
use crm_engine::leads::assignment::{AssignmentMethod, LeadAssignmentRule};
use crm_engine::leads::{ConversionTarget, LeadConversionMapping};
use crm_engine::prelude::*;
use crm_engine::query::Criteria;
use crm_engine::scoring::{LeadScoringRule, LeadScoringRuleSet, ScoringOperator, ScoringRuleType};
use crm_engine::value::ApiName;
use serde_json::{Map, Value as Json, json};

use crate::common::{backend, tenant};

/// A list as a host keeps it for its users.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "saved_view", table = "saved_views")]
struct SavedView {
    /// The object whose records are listed.
    #[field(required, max_len = 50)]
    object: String,
    /// Which of them.
    filter: Json,
    /// What is shown of them.
    columns: Vec<String>,
}

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

async fn define(
    session: &Session,
    object: &str,
    field: &str,
    kind: CustomFieldType,
) -> Id<CustomField> {
    let field = CustomField::new(name(object), name(field), "Field", kind);
    session.records().create(field).await.unwrap().id
}

async fn seats(session: &Session, object: &str) -> Id<CustomField> {
    let number = CustomFieldType::Number(Default::default());
    define(session, object, "seats", number).await
}

/// What names a field: the object and the field in which it is named.
async fn uses(session: &Session, field: Id<CustomField>) -> Vec<String> {
    let impact = session.custom_fields().impact(field).await.unwrap();
    let uses = impact.used_by.iter();
    let mut uses: Vec<String> = uses
        .map(|by| format!("{}.{}", by.record.object, by.at))
        .collect();
    uses.sort_unstable();
    uses
}

fn many() -> Criteria {
    Filter::from_json(&json!({"field": "seats", "op": "gt", "value": 9}))
        .unwrap()
        .into()
}

async fn host(subdomain: &str) -> (crm_engine::tenancy::Onboarded, Session) {
    let crm = Crm::builder(backend::storage(&[SavedView::schema()]))
        .object::<SavedView>()
        .build();
    tenant(&crm, subdomain).await
}

#[tokio::test]
async fn definitions_that_name_a_field_are_told() {
    let (_, session) = host("acme").await;
    let field = seats(&session, "deal").await;
    let other = CustomFieldType::Number(Default::default());
    let other = define(&session, "deal", "seats_sold", other).await;
    let project = CustomObject::new(name("project"), "Project", "Projects");
    session.records().create(project).await.unwrap();
    let lookup = CustomFieldType::Lookup {
        object: name("deal"),
        cascade: false,
    };
    define(&session, "project", "origin", lookup).await;
    let roll_up = |of: Option<&str>, filter: Option<Filter>| {
        CustomFieldType::RollUp(RollUp {
            function: of.map_or(RollUpFunction::Count, |_| RollUpFunction::Sum),
            object: name("deal"),
            by: name("account_id"),
            field: of.map(name),
            filter,
            result: of.map_or(DataType::Integer, |_| DataType::Decimal),
        })
    };
    let formula = |expression: &str| CustomFieldType::Formula {
        expression: expression.into(),
        result: DataType::Decimal,
    };
    let few = Filter::from_json(&json!({"field": "seats", "op": "lt", "value": 9})).unwrap();
    for (object, field, kind) in [
        ("deal", "double", formula("2 * seats")),
        ("project", "one_more", formula("origin.seats + 1")),
        ("account", "all_seats", roll_up(Some("seats"), None)),
        ("account", "few_seats", roll_up(None, Some(few))),
        // Neither of these is it.
        ("deal", "sold_twice", formula("2 * seats_sold")),
        ("deal", "text", formula("if(name = 'seats', 1, 2)")),
    ] {
        define(&session, object, field, kind).await;
    }
    let rule = CustomFieldRule::new(name("deal"), "Some", "seats > 0", "some");
    session.records().create(rule).await.unwrap();
    let wanted = [
        "custom_field.field_type",
        "custom_field.field_type",
        "custom_field.field_type",
        "custom_field.field_type",
        "custom_field_rule.expression",
    ];
    assert_eq!(uses(&session, field).await, wanted);
    assert_eq!(uses(&session, other).await, ["custom_field.field_type"]);

    // None of them can do without it.
    let blocked = session
        .custom_fields()
        .impact(field)
        .await
        .unwrap()
        .blocked_by;
    assert_eq!(blocked.len(), wanted.len());
    let refused = session.custom_fields().delete_though_used(field).await;
    let Err(Error::DefinitionInUse(refused)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refused.used_by.len(), wanted.len());
}

#[tokio::test]
async fn settings_of_every_kind_that_name_a_field_are_told() {
    let (acme, session) = host("acme").await;
    let deal = seats(&session, "deal").await;
    let lead = seats(&session, "lead").await;
    let account = seats(&session, "account").await;

    // Gates of stages.
    let stages = || session.records::<PipelineStage>();
    let needs = |stage: &mut PipelineStage| stage.required_fields = vec!["seats".into()];
    stages().update(acme.stages[1], needs).await.unwrap();
    let asks = |stage: &mut PipelineStage| stage.entry_criteria = Some(many());
    stages().update(acme.stages[2], asks).await.unwrap();
    let asks = |stage: &mut PipelineStage| stage.entry_condition = Some("seats > 3".into());
    stages().update(acme.stages[3], asks).await.unwrap();
    // Automation: what it is about, what it waits for, what it sets.
    let tag = || Action::AddTags {
        tags: vec!["new".into()],
    };
    let rule = |name: &str, conditions: Criteria, action: Action| {
        AutomationRule::new(
            name,
            RuleType::StageEntry,
            TriggerEvent::DealCreated,
            conditions,
            Actions(vec![action]),
        )
    };
    let anything = || Criteria::from(Filter::all());
    let set = Action::SetFields {
        fields: Map::from_iter([("custom_fields.seats".to_owned(), json!(1))]),
    };
    let condition = AutomationRule {
        condition_expression: Some("seats = 7".into()),
        ..rule("Expression", anything(), tag())
    };
    for rule in [
        rule("Condition", many(), tag()),
        rule("Action", anything(), set),
        condition,
        rule("Neither", anything(), tag()),
    ] {
        session.automation_rules().create(rule).await.unwrap();
    }
    // A list of the host.
    let view = SavedView {
        object: "deal".into(),
        filter: json!({"not": {"field": "custom_fields.seats", "op": "eq", "value": 1}}),
        columns: vec!["name".into(), "custom_fields.seats".into()],
    };
    session.records().create(view).await.unwrap();
    assert_eq!(
        uses(&session, deal).await,
        [
            "pipeline_automation_rule.actions",
            "pipeline_automation_rule.condition_expression",
            "pipeline_automation_rule.conditions",
            "pipeline_stage.entry_condition",
            "pipeline_stage.entry_criteria",
            "pipeline_stage.required_fields",
            "saved_view.columns",
            "saved_view.filter",
        ]
    );

    // Leads: scoring, assignment, duplicates, mappings of conversions and imports.
    let fit = LeadScoringRuleSet::new("Fit");
    let fit = session.scoring_rule_sets().create(fit).await.unwrap().id;
    let scoring = LeadScoringRule::new(
        fit,
        "Large",
        ScoringRuleType::Firmographic,
        "custom_fields.seats",
        ScoringOperator::Exists,
        5,
    );
    session.records().create(scoring).await.unwrap();
    let assignment = LeadAssignmentRule {
        criteria: Some(many()),
        ..LeadAssignmentRule::new("Large", AssignmentMethod::RoundRobin)
    };
    let mut rules = session.lead_assignment_rules();
    rules.create(assignment).await.unwrap();
    let pair = LeadConversionMapping {
        source_field: Some("custom_fields.seats".into()),
        ..LeadConversionMapping::new(ConversionTarget::Account, "custom_fields.seats")
    };
    session.records().create(pair).await.unwrap();
    let twins = json!({"when": {"any": [{"field": "custom_fields.seats", "method": "exact"}]}});
    let twins = MatchRule::from_json(&twins).unwrap();
    let twins = DuplicateRule::new("Same seats", "lead", twins);
    session.duplicate_rules().create(twins).await.unwrap();
    let columns = json!([{"header": "Seats", "to": {"field": "custom_fields.seats"}}]);
    let mapping = json!({"object": "lead", "columns": columns});
    let mapping = ImportMapping::new("lead", "Fair", mapping);
    session.records().create(mapping).await.unwrap();
    let told = uses(&session, lead).await;
    for wanted in [
        "lead_scoring_rule.condition_field",
        "lead_assignment_rule.criteria",
        "lead_conversion_mapping.source_field",
        "duplicate_rule.rule",
        "import_mapping.mapping",
    ] {
        assert!(told.iter().any(|one| one == wanted), "{wanted}: {told:?}");
    }

    // Accounts: territories, and what conversions fill.
    let territory = Territory {
        criteria: Some(many()),
        ..Territory::new("Large")
    };
    session.territories().create(territory).await.unwrap();
    let told = uses(&session, account).await;
    for wanted in ["territory.criteria", "lead_conversion_mapping.target_field"] {
        assert!(told.iter().any(|one| one == wanted), "{wanted}: {told:?}");
    }

    // Settings are told, and do without it if one insists.
    let fields = session.custom_fields();
    assert!(fields.delete(deal).await.is_err());
    fields.delete_though_used(deal).await.unwrap();
}

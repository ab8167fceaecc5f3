//! C-032: custom fields of the engine's own objects, in what tenants set: they are compared as what
//! they are, and an untyped member would not do.

use crm_engine::automation::{Action, Actions, AutomationRule, RuleType, TriggerEvent};
use crm_engine::custom_objects::CustomFieldType;
use crm_engine::leads::assignment::{AssignmentMethod, LeadAssignmentRule};
use crm_engine::leads::{ConversionPlan, ConversionTarget, LeadConversionMapping};
use crm_engine::prelude::*;
use serde_json::{Map, json};

use super::{add, common};

/// A number and a picklist on each of these objects.
async fn fields(session: &Session, objects: &[&str]) {
    for object in objects {
        let number = CustomFieldType::Number(Default::default());
        add(session, object, "seats", ("Seats", number), &[]).await;
        let segment = ("Segment", CustomFieldType::Picklist);
        add(session, object, "segment", segment, &["small", "large"]).await;
    }
}

/// As texts, and as numbers of a document that was imported as text, "10" is less than "9".
fn large() -> Filter {
    Filter::from_json(&json!({"field": "seats", "op": "gt", "value": 9})).unwrap()
}

#[tokio::test]
async fn territories_and_assignment_rules_compare_custom_fields() {
    let crm = common::crm();
    let (acme, session) = common::tenant(&crm, "acme").await;
    fields(&session, &["account", "lead"]).await;
    let territory = Territory {
        criteria: Some(large().into()),
        ..Territory::new("Large")
    };
    let territory = session.territories().create(territory).await.unwrap().id;
    for (seats, found) in [(10, Some(territory)), (9, None)] {
        let account = Account {
            custom_fields: json!({"seats": seats}),
            ..Account::new("Globex")
        };
        let account = session.accounts().create(account).await.unwrap();
        assert_eq!(account.territory_id, found, "{seats}");
    }
    let unknown = Territory {
        criteria: Some(Filter::eq("custom_fields.chairs", 1).into()),
        ..Territory::new("Chairs")
    };
    assert!(session.territories().create(unknown).await.is_err());

    let grace = User::new(EmailAddress::parse("grace@acme.example").unwrap());
    let grace = session.users().create(grace).await.unwrap().id;
    let rule = LeadAssignmentRule {
        criteria: Some(large().into()),
        ..LeadAssignmentRule::new("Large", AssignmentMethod::RoundRobin)
    };
    let mut rules = session.lead_assignment_rules();
    let rule = rules.create(rule).await.unwrap().id;
    rules.add_assignee(rule, grace).await.unwrap();
    let lead = |seats| Lead {
        company: Some("Initech".into()),
        custom_fields: json!({"seats": seats}),
        ..Lead::default()
    };
    let given = session.leads().create(lead(10)).await.unwrap();
    assert_eq!(given.owner_id, Some(grace));
    let other = session.leads().create(lead(9)).await.unwrap();
    assert_ne!(other.owner_id, Some(grace));
    assert_ne!(acme.admin, grace);
}

#[tokio::test]
async fn stages_and_automation_ask_for_custom_fields() {
    let crm = common::crm();
    let (acme, session) = common::tenant(&crm, "acme").await;
    fields(&session, &["deal"]).await;
    let rule = AutomationRule::new(
        "Large ones",
        RuleType::StageEntry,
        TriggerEvent::DealCreated,
        large(),
        Actions(vec![Action::SetFields {
            fields: Map::from_iter([("custom_fields.segment".to_owned(), json!("large"))]),
        }]),
    );
    session.automation_rules().create(rule).await.unwrap();
    let gate = |stage: &mut PipelineStage| stage.required_fields = vec!["segment".into()];
    let mut stages = session.records::<PipelineStage>();
    stages.update(acme.stages[1], gate).await.unwrap();
    let unknown =
        |stage: &mut PipelineStage| stage.required_fields = vec!["custom_fields.x".into()];
    assert!(stages.update(acme.stages[1], unknown).await.is_err());

    let deal = |seats| Deal {
        custom_fields: json!({"seats": seats}),
        ..Deal::new("Rollout", acme.pipeline)
    };
    let large = session.deals().create(deal(10)).await.unwrap();
    assert_eq!(
        large.custom_fields,
        json!({"seats": 10, "segment": "large"})
    );
    session
        .deals()
        .move_to(large.id, acme.stages[1])
        .await
        .unwrap();
    let small = session.deals().create(deal(9)).await.unwrap();
    assert_eq!(small.custom_fields, json!({"seats": 9}));
    let refused = session.deals().move_to(small.id, acme.stages[1]).await;
    assert!(refused.is_err());
    // A value that is none of the options does not open the gate.
    let faulty = |deal: &mut Deal| deal.custom_fields = json!({"segment": "huge"});
    assert!(session.deals().update(small.id, faulty).await.is_err());
    let set = |deal: &mut Deal| deal.custom_fields = json!({"seats": 9, "segment": "small"});
    session.deals().update(small.id, set).await.unwrap();
    session
        .deals()
        .move_to(small.id, acme.stages[1])
        .await
        .unwrap();
}

#[tokio::test]
async fn conversion_carries_custom_fields() {
    let crm = common::crm();
    let (_, session) = common::tenant(&crm, "acme").await;
    fields(&session, &["lead", "account"]).await;
    let pair = |source: &str, target: &str| LeadConversionMapping {
        source_field: Some(source.into()),
        ..LeadConversionMapping::new(ConversionTarget::Account, target)
    };
    let mut mappings = session.records::<LeadConversionMapping>();
    let seats = pair("custom_fields.seats", "custom_fields.seats");
    mappings.create(seats).await.unwrap();
    // A text is no number.
    let faulty = pair("custom_fields.segment", "custom_fields.seats");
    assert!(mappings.create(faulty).await.is_err());
    let lead = Lead {
        name: Some(PersonName::new("Bill", "Lumbergh")),
        company: Some("Initech".into()),
        custom_fields: json!({"seats": 10, "segment": "large"}),
        ..Lead::default()
    };
    let lead = session.leads().create(lead).await.unwrap();
    session
        .leads()
        .convert(lead.id, ConversionPlan::new())
        .await
        .unwrap();
    let accounts = session.accounts().find(Find::new()).await.unwrap();
    assert_eq!(accounts.items[0].custom_fields, json!({"seats": 10}));
    let large = Find::new().filter_by_name(large());
    let accounts = session.object("account").await.unwrap();
    assert_eq!(accounts.count(&large).await.unwrap(), 1);
}

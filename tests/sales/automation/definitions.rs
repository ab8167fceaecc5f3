//! Rules as they are written, checked, tried and removed.

use std::collections::BTreeSet;

use crm_engine::automation::{
    Action, Actions, Assignee, AutomationRule, NewActivity, OnFailure, TriggerEvent,
};
use crm_engine::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::{World, on_change, on_entry, set, tag};
use crate::common::picture;

/// Old and new values: a rule waits for the amount to pass a thousand.
#[tokio::test]
async fn changes_are_judged_by_what_was_before_and_after() {
    let w = World::new().await;
    let rule = AutomationRule {
        conditions_before: Some(Deal::AMOUNT.lt(1_000).into()),
        conditions: Deal::AMOUNT.ge(1_000).into(),
        ..on_change("passes", "amount", vec![tag("large")])
    };
    let rule = w.rule(rule).await;
    let deal = w.deal().await;
    for (amount, times) in [(500, 0), (1_000, 1), (2_000, 1), (900, 1), (1_500, 2)] {
        w.change(deal, |deal| deal.amount = Some(amount.into()))
            .await;
        assert_eq!(w.executed(rule).await, times, "{amount}");
    }
}

/// Every fault of a rule is told when it is written, R-159 to.
#[tokio::test]
async fn rules_are_checked_when_they_are_written() {
    let w = World::new().await;
    let stages = &w.office.stages;
    let pipelines = || w.session.pipelines();
    let elsewhere = Pipeline::new("Elsewhere");
    let elsewhere = pipelines().create(elsewhere).await.unwrap().id;
    let nobody = Uuid::from_u128(7);
    let wrong = AutomationRule {
        pipeline_id: Some(elsewhere),
        stage_id: Some(stages[0]),
        conditions: Filter::eq("nothing", 1_i64).into(),
        conditions_before: Some(Deal::ACCOUNT_ID.has(Account::NAME.eq("x")).into()),
        after_days: Some(3),
        watched_fields: vec!["name".into()],
        trigger_event: TriggerEvent::TimeElapsed,
        ..on_entry(
            "wrong",
            vec![
                set(json!({"status": "won", "owner_id": nobody})),
                set(json!({ "owner_id": nobody })),
                Action::MoveToStage {
                    stage_id: stages[1],
                },
                Action::AssignOwner {
                    to: Assignee::User(Id::new(nobody)),
                },
                Action::ApplyTemplate {
                    template_id: Id::new(nobody),
                },
                Action::CreateActivity(NewActivity::new(ActivityType::Task, "")),
            ],
        )
    };
    let error = w
        .session
        .automation_rules()
        .create(wrong)
        .await
        .unwrap_err();
    let paths: BTreeSet<&str> = error
        .field_errors()
        .iter()
        .map(|e| e.path.as_str())
        .collect();
    let expected = BTreeSet::from([
        "stage_id",
        "conditions",
        "conditions_before",
        "after_days",
        "watched_fields",
        "trigger_event",
        "actions.0.fields.status",
        "actions.0.fields.owner_id",
        "actions.1.fields.owner_id",
        "actions.2.stage_id",
        "actions.3.to",
        "actions.4.template_id",
        "actions.5.subject",
    ]);
    assert_eq!(paths, expected, "{error}");
    // As a web API gives them.
    let body = json!({
        "rule_name": "by name", "rule_type": "time_based", "trigger_event": "time_elapsed",
        "conditions": {"and": []}, "actions": [{"do": "explode"}],
    });
    let rules = || w.session.automation_rules();
    let error = rules()
        .create_json(body.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.field_errors()[0].path, "actions");
    let body = json!({
        "rule_name": "by name", "rule_type": "time_based", "trigger_event": "time_elapsed",
        "conditions": {"field": "amount", "op": "gte", "value": "5"}, "actions": [],
    });
    let error = rules()
        .create_json(body.as_object().unwrap())
        .await
        .unwrap_err();
    let paths: BTreeSet<&str> = error
        .field_errors()
        .iter()
        .map(|e| e.path.as_str())
        .collect();
    for path in ["actions", "time_basis", "after_days"] {
        assert!(paths.contains(path), "{path} is not in {paths:?}");
    }
    // A rule that moves deals belongs to a pipeline.
    let homeless = on_entry(
        "homeless",
        vec![Action::MoveToStage {
            stage_id: stages[1],
        }],
    );
    let error = rules().create(homeless).await.unwrap_err();
    assert_eq!(error.field_errors()[0].path, "pipeline_id");
    // one name, one rule.
    w.rule(on_entry("same", vec![tag("x")])).await;
    let error = rules().create(on_entry("same", vec![tag("x")])).await;
    assert_eq!(error.unwrap_err().code(), "duplicate");
}

/// rules go with their pipeline and stage; conditions are filters of the schema.
#[tokio::test]
async fn rules_go_with_their_pipeline_and_stage() {
    let w = World::new().await;
    let stages = &w.office.stages;
    let of_stage = AutomationRule {
        stage_id: Some(stages[3]),
        ..on_entry("of a stage", vec![tag("x")])
    };
    let of_stage = w.rule(of_stage).await;
    w.session
        .pipelines()
        .delete_stage(stages[3], None)
        .await
        .unwrap();
    let rules = || w.session.automation_rules();
    assert_eq!(rules().get(of_stage).await.unwrap_err().code(), "not_found");
    let other = w
        .session
        .pipelines()
        .create(Pipeline::new("Other"))
        .await
        .unwrap()
        .id;
    let of_other = AutomationRule {
        pipeline_id: Some(other),
        ..on_entry("of another pipeline", vec![tag("x")])
    };
    let of_other = w.rule(of_other).await;
    w.deal().await;
    assert!(w.log().await.is_empty(), "the deal is of another pipeline");
    w.session.pipelines().delete(other).await.unwrap();
    assert_eq!(rules().get(of_other).await.unwrap_err().code(), "not_found");
}

/// A trial tells what a rule would do, and writes nothing.
#[tokio::test]
async fn a_trial_writes_nothing() {
    let w = World::new().await;
    let stages = &w.office.stages;
    let task = NewActivity::new(ActivityType::Task, "Call");
    let rule = AutomationRule {
        is_active: false,
        pipeline_id: Some(w.office.pipeline),
        conditions: Deal::AMOUNT.ge(100).into(),
        ..on_entry(
            "trial",
            vec![
                Action::CreateActivity(task),
                Action::MoveToStage {
                    stage_id: stages[1],
                },
            ],
        )
    };
    let rule = w.rule(rule).await;
    let entered = AutomationRule {
        stage_id: Some(stages[1]),
        ..on_entry("entered", vec![tag("entered")])
    };
    let entered = w.rule(entered).await;
    let small = w.deal().await;
    let large = w.session.deals();
    let large = { large }
        .create(Deal {
            amount: Some(500.into()),
            ..w.new_deal()
        })
        .await
        .unwrap()
        .id;
    let before = picture(&w.session).await;
    let automation = w.session.automation();
    assert!(!automation.test(rule, small).await.unwrap().fits);
    let trial = automation.test(rule, large).await.unwrap();
    assert!(trial.fits);
    let ran: Vec<_> = trial
        .executions
        .iter()
        .map(|one| (one.rule_id, one.step))
        .collect();
    assert_eq!(ran, [(rule, 0), (entered, 0)]);
    let deal = trial
        .changes
        .iter()
        .find(|one| one.object == "deal")
        .unwrap();
    assert_eq!(deal.id, Some(large.uuid()));
    assert_eq!(deal.fields["stage_id"], json!(stages[1]));
    assert_eq!(deal.fields["tags"], json!(["entered"]));
    let task = trial
        .changes
        .iter()
        .find(|one| one.object == "activity")
        .unwrap();
    assert_eq!((task.id, &task.fields["subject"]), (None, &json!("Call")));
    assert!(
        !format!("{trial:?}").contains("Call"),
        "values stay out of logs"
    );
    assert!(before == picture(&w.session).await, "a trial left a trace");
    // What would be refused is told, also of a strict rule.
    let strict = |rule: &mut AutomationRule| {
        rule.on_failure = OnFailure::Refuse;
        rule.actions = Actions(vec![Action::AssignOwner {
            to: Assignee::ContactOwner,
        }]);
    };
    w.session
        .automation_rules()
        .update(rule, strict)
        .await
        .unwrap();
    let trial = automation.test(rule, large).await.unwrap();
    assert_eq!(
        trial.executions[0].error_code.as_deref(),
        Some("no_assignee")
    );
    assert!(trial.changes.is_empty());
}

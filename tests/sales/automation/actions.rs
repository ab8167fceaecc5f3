//! What actions do, and what is left of refused ones.

use crm_engine::automation::{
    Action, Assignee, AutomationRule, ExecutionOutcome, NewActivity, OnFailure,
};
use crm_engine::prelude::*;
use serde_json::json;

use super::{World, at, on_change, on_entry, set, tag, tags};
use crate::common::{assert_trail_tells_every_record, picture};

/// Actions go through all rules; what is refused is taken back, and refuses the change only if the
/// rule says so.
#[tokio::test]
async fn refused_actions_leave_nothing_but_an_entry() {
    let w = World::new().await;
    let stages = &w.office.stages;
    let close = |stage: &mut PipelineStage| stage.is_active = false;
    w.session
        .pipelines()
        .update_stage(stages[3], close)
        .await
        .unwrap();
    let moves = AutomationRule {
        pipeline_id: Some(w.office.pipeline),
        stage_id: Some(stages[1]),
        ..on_entry(
            "moves on",
            vec![
                tag("moved"),
                Action::MoveToStage {
                    stage_id: stages[3],
                },
            ],
        )
    };
    let moves = w.rule(moves).await;
    let after = AutomationRule {
        execution_order: 1,
        stage_id: Some(stages[1]),
        ..on_entry("after", vec![tag("after")])
    };
    w.rule(after).await;
    let deal = w.deal().await;
    let moved = w.session.deals().move_to(deal, stages[1]).await.unwrap();
    assert_eq!(moved.stage_id, Some(stages[1]));
    assert_eq!(tags(&moved), ["after"], "the tag was taken back");
    assert_eq!(w.session.deals().history(deal).await.unwrap().len(), 2);
    let failed = &w.log().await[0];
    assert_eq!(failed.outcome, ExecutionOutcome::Failed);
    assert_eq!((failed.actions_done, failed.failed_action), (0, Some(1)));
    assert_eq!(failed.error_code.as_deref(), Some("validation"));
    assert!(failed.error.as_deref().unwrap().contains("stage_id"));
    let counts = w.session.automation().counts(&[moves]).await.unwrap()[&moves];
    assert_eq!((counts.executed, counts.failed), (0, 1));
    assert_eq!(counts.last_executed_at, None);
    // The rule says that the change is refused with it.
    let strict = |rule: &mut AutomationRule| rule.on_failure = OnFailure::Refuse;
    w.session
        .automation_rules()
        .update(moves, strict)
        .await
        .unwrap();
    let other = w.deal().await;
    let before = picture(&w.session).await;
    let refused = w.session.deals().move_to(other, stages[1]).await;
    assert_eq!(refused.unwrap_err().field_errors()[0].path, "stage_id");
    assert!(
        before == picture(&w.session).await,
        "a refused change left a trace"
    );
    // A user who is gone, or was never there.
    let assign = on_change(
        "assign",
        "name",
        vec![Action::AssignOwner {
            to: Assignee::AccountOwner,
        }],
    );
    w.rule(assign).await;
    w.change(deal, |deal| deal.name = "Other".into()).await;
    let last = w.log().await.pop().unwrap();
    assert_eq!(last.error_code.as_deref(), Some("no_assignee"));
    // A reference that leads nowhere by now.
    let gone = w
        .session
        .accounts()
        .create(Account::new("Gone"))
        .await
        .unwrap()
        .id;
    let link = on_change("link", "name", vec![set(json!({ "account_id": gone }))]);
    w.rule(link).await;
    w.session.accounts().delete(gone).await.unwrap();
    w.change(deal, |deal| deal.name = "Third".into()).await;
    let last = w.log().await.pop().unwrap();
    assert!(last.error.unwrap().contains("account_id"));
    assert_eq!(w.get(deal).await.name, "Third");
}

/// What rules do: fields of the tenant's own, owners, stages, activities, templates, comments.
#[tokio::test]
async fn actions_do_what_a_user_would_do() {
    let w = World::new().await;
    let stages = &w.office.stages;
    let grace = User {
        username: Some("grace".into()),
        manager_id: Some(w.office.admin),
        ..User::new("grace@acme.example".parse::<EmailAddress>().unwrap())
    };
    let grace = w.session.users().create(grace).await.unwrap().id;
    let globex = Account {
        owner_id: Some(grace),
        ..Account::new("Globex")
    };
    let globex = w.session.accounts().create(globex).await.unwrap().id;
    let template = ActivityTemplate {
        subject_template: Some("Ask about {{ deal.name }}".into()),
        is_global: true,
        ..ActivityTemplate::new("First call", ActivityType::Call)
    };
    let template = w
        .session
        .activity_templates()
        .create(template)
        .await
        .unwrap()
        .id;
    let task = NewActivity {
        due_in_days: Some(2),
        priority: Priority::Urgent,
        ..NewActivity::new(ActivityType::Task, "Check the offer")
    };
    let rule = AutomationRule {
        conditions: Filter::eq("custom_fields.segment", "large").into(),
        pipeline_id: Some(w.office.pipeline),
        ..on_change(
            "large ones",
            "custom_fields.segment",
            vec![
                set(json!({
                    "custom_fields.reviewed": true,
                    "next_step": "Call",
                    "expected_close_date": "2026-06-30",
                })),
                Action::RemoveTags {
                    tags: vec!["small".into()],
                },
                tag("large"),
                tag("large"),
                Action::AssignOwner {
                    to: Assignee::AccountOwner,
                },
                Action::CreateActivity(task),
                Action::ApplyTemplate {
                    template_id: template,
                },
                Action::AddComment {
                    body: "@grace, this is a large one".into(),
                    notify: vec![Assignee::OwnersManager, Assignee::DealOwner],
                },
                Action::AddNote {
                    title: "Size".into(),
                    body: "Large".into(),
                },
                Action::MoveToStage {
                    stage_id: stages[2],
                },
            ],
        )
    };
    let rule = w.rule(rule).await;
    let entered = AutomationRule {
        stage_id: Some(stages[2]),
        ..on_entry("entered", vec![tag("proposal")])
    };
    w.rule(entered).await;
    let deal = Deal {
        account_id: Some(globex),
        custom_fields: json!({"region": "north"}),
        tags: vec!["small".into()],
        ..w.new_deal()
    };
    let deal = w.session.deals().create(deal).await.unwrap().id;
    w.change(deal, |deal| deal.custom_fields["other"] = json!(1))
        .await;
    assert_eq!(w.executed(rule).await, 0);
    w.change(deal, |deal| deal.custom_fields["segment"] = json!("large"))
        .await;
    let deal = w.get(deal).await;
    assert_eq!(
        deal.custom_fields,
        json!({"region": "north", "other": 1, "segment": "large", "reviewed": true})
    );
    assert_eq!(deal.next_step.as_deref(), Some("Call"));
    assert_eq!(deal.expected_close_date.unwrap().to_string(), "2026-06-30");
    assert_eq!(tags(&deal), ["large", "proposal"]);
    assert_eq!(
        (deal.owner_id, deal.stage_id),
        (Some(grace), Some(stages[2]))
    );
    let history = w.session.deals().history(deal.id).await.unwrap();
    assert_eq!(history[1].note.as_deref(), Some("large ones"));
    let activities = w
        .session
        .activities()
        .find(Find::new())
        .await
        .unwrap()
        .items;
    let of = |subject: &str| {
        let found = activities
            .iter()
            .find(|activity| activity.subject == subject);
        found.unwrap_or_else(|| panic!("there is no activity {subject}"))
    };
    let task = of("Check the offer");
    assert_eq!((task.owner_id, task.priority), (grace, Priority::Urgent));
    assert_eq!(task.due_date, Some(at("2026-03-04T23:59:59Z")));
    assert_eq!(task.links.account_id, Some(globex));
    assert_eq!(of("Ask about Rollout").links.deal_id, Some(deal.id));
    // The deal knows of its activities in the same commit.
    assert_eq!(deal.next_activity_at, task.due_date);
    let comments = w.session.comments().of(deal.id, None).await.unwrap().items;
    assert_eq!(comments.len(), 2);
    for user in [grace, w.office.admin] {
        let unread = w.session.mentions().unread(user, None).await.unwrap().items;
        assert_eq!(unread.len(), 1, "each is told once");
    }
    let entry = &w.log().await[0];
    assert_eq!((entry.actions_done, entry.step), (10, 0));
    assert_trail_tells_every_record(&w.session).await;
}

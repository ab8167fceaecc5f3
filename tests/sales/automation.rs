//! C-022, R-047, R-159 to: rules that act by themselves when deals change:
//! in the commit that sets them off, in their order, each once for a deal; counted exactly; and once
//! for each occasion where they wait for time to pass.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{assert_trail_tells_every_record, crm, picture, rows_of, tenant};
use chrono::{DateTime, TimeDelta, Utc};
use crm_engine::automation::{
    Action, Actions, Assignee, AutomationExecution, AutomationRule, ExecutionOutcome, MOST_STEPS,
    NewActivity, OnFailure, RuleType, TimeBasis, TriggerEvent,
};
use crm_engine::engine::ManualClock;
use crm_engine::exchange::import::{Import, ImportExt, Mapping, Source};
use crm_engine::prelude::*;
use crm_engine::query::Criteria;
use crm_engine::tenancy::Onboarded;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value as Json, json};
use tokio::sync::Barrier;
use uuid::Uuid;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn always() -> Criteria {
    Filter::all().into()
}

fn set(fields: Json) -> Action {
    let Json::Object(fields) = fields else {
        panic!("fields are an object");
    };
    Action::SetFields { fields }
}

fn tag(tag: &str) -> Action {
    Action::AddTags {
        tags: vec![tag.into()],
    }
}

/// A rule on the entry of any stage.
fn on_entry(name: &str, actions: Vec<Action>) -> AutomationRule {
    AutomationRule::new(
        name,
        RuleType::StageEntry,
        TriggerEvent::StageChanged,
        always(),
        Actions(actions),
    )
}

/// A rule on the change of a field.
fn on_change(name: &str, field: &str, actions: Vec<Action>) -> AutomationRule {
    AutomationRule {
        watched_fields: vec![field.into()],
        ..AutomationRule::new(
            name,
            RuleType::FieldChange,
            TriggerEvent::FieldUpdated,
            always(),
            Actions(actions),
        )
    }
}

/// A rule that waits for days to pass.
fn after_days(name: &str, basis: TimeBasis, days: u32, actions: Vec<Action>) -> AutomationRule {
    AutomationRule {
        time_basis: Some(basis),
        after_days: Some(days),
        ..AutomationRule::new(
            name,
            RuleType::TimeBased,
            TriggerEvent::TimeElapsed,
            always(),
            Actions(actions),
        )
    }
}

/// A tenant on a clock that stands still until it is moved.
struct World {
    office: Onboarded,
    session: Session,
    clock: Arc<ManualClock>,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::new(at("2026-03-02T09:00:00Z")));
        let crm = Crm::builder(common::backend::storage(&[]))
            .clock(clock.clone())
            .build();
        let (office, session) = tenant(&crm, "acme").await;
        Self {
            office,
            session,
            clock,
        }
    }

    async fn rule(&self, rule: AutomationRule) -> Id<AutomationRule> {
        self.session
            .automation_rules()
            .create(rule)
            .await
            .unwrap()
            .id
    }

    fn new_deal(&self) -> Deal {
        Deal {
            owner_id: Some(self.office.admin),
            ..Deal::new("Rollout", self.office.pipeline)
        }
    }

    async fn deal(&self) -> Id<Deal> {
        self.session
            .deals()
            .create(self.new_deal())
            .await
            .unwrap()
            .id
    }

    async fn get(&self, deal: Id<Deal>) -> Arc<Record<Deal>> {
        self.session.deals().get(deal).await.unwrap()
    }

    async fn change(&self, deal: Id<Deal>, change: impl Fn(&mut Deal) + Send + Sync) {
        self.session.deals().update(deal, change).await.unwrap();
    }

    /// The log, in the order in which it was written.
    async fn log(&self) -> Vec<AutomationExecution> {
        let rows = rows_of(&self.session, "automation_execution").await;
        let rows = rows.into_iter().filter_map(Record::from_row);
        rows.map(|row: Arc<Record<AutomationExecution>>| row.data.clone())
            .collect()
    }

    async fn executed(&self, rule: Id<AutomationRule>) -> u64 {
        self.session.automation().counts(&[rule]).await.unwrap()[&rule].executed
    }

    async fn run(&self) -> (u64, u64) {
        let run = self.session.automation().run_time_based(&()).await.unwrap();
        (run.executed, run.failed)
    }
}

fn tags(deal: &Record<Deal>) -> Vec<&str> {
    deal.tags.iter().map(String::as_str).collect()
}

/// stage entry, stage exit, creation and probability, in execution order and in one
/// commit with the change, whichever way the change comes.
#[tokio::test]
async fn rules_run_in_order_in_the_commit_that_sets_them_off() {
    let w = World::new().await;
    let stages = &w.office.stages;
    let rules = [
        // Created in another order than they run.
        (
            "b last",
            20,
            RuleType::StageEntry,
            TriggerEvent::StageChanged,
            Some(stages[1]),
        ),
        (
            "a first",
            10,
            RuleType::StageEntry,
            TriggerEvent::StageChanged,
            Some(stages[1]),
        ),
        (
            "a before b",
            20,
            RuleType::StageEntry,
            TriggerEvent::StageChanged,
            Some(stages[1]),
        ),
        (
            "left",
            0,
            RuleType::StageExit,
            TriggerEvent::StageChanged,
            Some(stages[0]),
        ),
        (
            "new",
            0,
            RuleType::StageEntry,
            TriggerEvent::DealCreated,
            None,
        ),
        (
            "odds",
            5,
            RuleType::ProbabilityChange,
            TriggerEvent::ProbabilityChanged,
            None,
        ),
    ];
    let mut ids = BTreeMap::new();
    for (name, order, kind, event, stage) in rules {
        let rule = AutomationRule {
            execution_order: order,
            stage_id: stage,
            ..AutomationRule::new(name, kind, event, always(), Actions(vec![tag(name)]))
        };
        let rule = w.session.automation_rules().create(rule).await.unwrap();
        // That of the stage.
        let pipeline = stage.map(|_| w.office.pipeline);
        assert_eq!(rule.pipeline_id, pipeline);
        assert!(rule.is_active, "R-463");
        ids.insert(name, rule.id);
    }
    let deal = w.session.deals().create(w.new_deal()).await.unwrap();
    assert_eq!((tags(&deal), deal.version), (vec!["new"], 1));
    let moved = w.session.deals().move_to(deal.id, stages[1]).await.unwrap();
    let expected = ["new", "left", "odds", "a first", "a before b", "b last"];
    assert_eq!(tags(&moved), expected);
    // The change and what rules made of it are one version and one event.
    assert_eq!(moved.version, 2);
    assert_eq!(w.session.audit().trail(deal.id).await.unwrap().len(), 2);
    assert_eq!(w.get(deal.id).await.tags, moved.tags);
    let log = w.log().await;
    assert_eq!(log.len(), 6);
    assert!(
        log.iter()
            .all(|entry| entry.outcome == ExecutionOutcome::Executed)
    );
    let commits: BTreeSet<Uuid> = log.iter().map(|entry| entry.commit_id).collect();
    assert_eq!(commits.len(), 2);
    for (name, id) in &ids {
        let counts = w.session.automation().counts(&[*id]).await.unwrap()[id];
        assert_eq!((counts.executed, counts.failed), (1, 0), "{name}");
        assert_eq!(counts.last_executed_at, Some(at("2026-03-02T09:00:00Z")));
    }
    // By a merge patch.
    let patch = json!({"stage_id": stages[2]});
    let patched = w.session.deals();
    let patched = { patched }
        .merge(deal.id, moved.version, patch.as_object().unwrap())
        .await
        .unwrap();
    assert_eq!(patched.version, 3);
    assert_eq!(w.executed(ids["odds"]).await, 2);
    // By a unit of work, in which two changes are one event.
    let mut work = w.session.begin();
    work.deals().move_to(deal.id, stages[0]).await.unwrap();
    work.deals().move_to(deal.id, stages[1]).await.unwrap();
    work.commit().await.unwrap();
    assert_eq!(w.executed(ids["a first"]).await, 2);
    assert_eq!(w.executed(ids["left"]).await, 1);
    // Neither deleted nor restored deals are events, nor is a rule that is not in use.
    let before = w.log().await.len();
    w.session.deals().delete(deal.id).await.unwrap();
    w.session.deals().restore(deal.id).await.unwrap();
    assert_eq!(w.log().await.len(), before);
    for id in ids.values() {
        let rules = || w.session.automation_rules();
        rules()
            .update(*id, |rule| rule.is_active = false)
            .await
            .unwrap();
    }
    w.session.deals().win(deal.id).await.unwrap();
    assert_eq!(w.log().await.len(), before);
    assert_trail_tells_every_record(&w.session).await;
}

/// C-022: two rules that undo each other's work come to an end, and none sets itself off.
#[tokio::test]
async fn rules_that_set_each_other_off_come_to_an_end() {
    let w = World::new().await;
    let to = |priority: &str| vec![set(json!({ "priority": priority }))];
    let up = AutomationRule {
        conditions: Deal::PRIORITY.eq(Priority::Low).into(),
        ..on_change("up", "priority", to("high"))
    };
    let down = AutomationRule {
        conditions: Deal::PRIORITY.eq(Priority::High).into(),
        ..on_change("down", "priority", to("low"))
    };
    let (up, down) = (w.rule(up).await, w.rule(down).await);
    let deal = w.deal().await;
    w.change(deal, |deal| deal.priority = Priority::Low).await;
    // Low, up to high, down to low: there is nobody left to act.
    assert_eq!(w.get(deal).await.priority, Priority::Low);
    let steps: Vec<_> = w
        .log()
        .await
        .iter()
        .map(|entry| (entry.rule_id, entry.step))
        .collect();
    assert_eq!(steps, [(up, 0), (down, 1)]);
    // The next commit is another chain.
    w.change(deal, |deal| deal.priority = Priority::High).await;
    assert_eq!(w.get(deal).await.priority, Priority::High);
    assert_eq!((w.executed(up).await, w.executed(down).await), (2, 2));
    // Of itself: any change of a field is what it waits for, and what it makes.
    let own = AutomationRule {
        watched_fields: Vec::new(),
        ..on_change("own", "name", vec![set(json!({"next_step": "look"}))])
    };
    let own = w.rule(own).await;
    w.change(deal, |deal| deal.name = "Other".into()).await;
    assert_eq!(w.executed(own).await, 1);
    // Several deals in one commit are several chains.
    let other = w.deal().await;
    let mut work = w.session.begin();
    for deal in [deal, other] {
        let rename = |deal: &mut Deal| deal.name = "Again".into();
        work.deals().update(deal, rename).await.unwrap();
    }
    work.commit().await.unwrap();
    assert_eq!(w.executed(own).await, 3);
}

/// C-022: a chain of rules ends, and that it did is written down.
#[tokio::test]
async fn long_chains_are_stopped() {
    let w = World::new().await;
    for number in 0..=MOST_STEPS + 2 {
        let rule = AutomationRule {
            conditions: Deal::NEXT_STEP.eq(number.to_string()).into(),
            // The later ones first, so that each is set off by the change of the one before.
            execution_order: 100 - number,
            ..on_change(
                &format!("rule {number}"),
                "next_step",
                vec![set(json!({"next_step": (number + 1).to_string()}))],
            )
        };
        w.rule(rule).await;
    }
    let deal = w.deal().await;
    w.change(deal, |deal| deal.next_step = Some("0".into()))
        .await;
    let reached = MOST_STEPS.to_string();
    assert_eq!(w.get(deal).await.next_step, Some(reached));
    let log = w.log().await;
    let of = |outcome| log.iter().filter(|entry| entry.outcome == outcome).count();
    assert_eq!(of(ExecutionOutcome::Executed), MOST_STEPS as usize);
    assert_eq!(of(ExecutionOutcome::Stopped), 1);
    let stopped = log.last().unwrap();
    assert_eq!((stopped.step, stopped.actions_done), (MOST_STEPS, 0));
    let counts = w.session.automation().counts(&[stopped.rule_id]).await;
    assert_eq!(counts.unwrap()[&stopped.rule_id].stopped, 1);
}

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

/// C-022: executions are counted exactly once, whoever writes at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn executions_are_counted_exactly_under_concurrency() {
    const WRITERS: usize = 6;
    const ROUNDS: usize = 4;
    let (office, session) = tenant(&crm(), "acme").await;
    let rule = on_change("count", "next_step", vec![tag("seen")]);
    let rule = session.automation_rules().create(rule).await.unwrap().id;
    let own = Deal::new("Rollout", office.pipeline);
    let shared = session.deals().create(own.clone()).await.unwrap().id;
    let barrier = Arc::new(Barrier::new(WRITERS));
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (session, barrier, own) = (session.clone(), barrier.clone(), own.clone());
            tokio::spawn(async move {
                let own = session.deals().create(own).await.unwrap().id;
                barrier.wait().await;
                for round in 0..ROUNDS {
                    for deal in [own, shared] {
                        let step = Some(format!("{writer} {round}"));
                        let change = |deal: &mut Deal| deal.next_step.clone_from(&step);
                        session.deals().update(deal, change).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let events = (2 * WRITERS * ROUNDS) as u64;
    let counts = session.automation().counts(&[rule]).await.unwrap()[&rule];
    assert_eq!((counts.executed, counts.failed), (events, 0));
    let shared = session.deals().get(shared).await.unwrap();
    assert_eq!(shared.version, 1 + (WRITERS * ROUNDS) as i64);
    // No writer waited for another at the rule.
    let rule = session.automation_rules().get(rule).await.unwrap();
    assert_eq!(rule.version, 1);
}

/// C-022: what waits for time to pass runs once for each deal and occasion.
#[tokio::test]
async fn rules_that_wait_for_time_run_once_for_each_occasion() {
    let w = World::new().await;
    let stages = &w.office.stages;
    let stale = AutomationRule {
        stage_id: Some(stages[0]),
        ..after_days("stale", TimeBasis::InStage, 7, vec![tag("stale")])
    };
    let stale = w.rule(stale).await;
    let deal = w.deal().await;
    w.clock.advance(TimeDelta::days(7) - TimeDelta::seconds(1));
    assert_eq!(w.run().await, (0, 0));
    w.clock.advance(TimeDelta::seconds(1));
    assert_eq!(w.run().await, (1, 0));
    assert_eq!(tags(&*w.get(deal).await), ["stale"]);
    w.clock.advance(TimeDelta::days(30));
    assert_eq!(w.run().await, (0, 0));
    // It comes back to the stage: another occasion.
    w.session.deals().move_to(deal, stages[1]).await.unwrap();
    w.session.deals().move_to(deal, stages[0]).await.unwrap();
    assert_eq!(w.run().await, (0, 0));
    w.clock.advance(TimeDelta::days(7));
    assert_eq!(w.run().await, (1, 0));
    assert_eq!(w.executed(stale).await, 2);
    let event = w.log().await[0].event;
    assert_eq!(event, TriggerEvent::TimeElapsed);
    let rules = || w.session.automation_rules();
    rules()
        .update(stale, |rule| rule.is_active = false)
        .await
        .unwrap();
    // Without activity: once until something is done again.
    let silent = after_days(
        "silent",
        TimeBasis::WithoutActivity,
        14,
        vec![tag("silent")],
    );
    w.rule(silent).await;
    assert_eq!(w.run().await, (1, 0), "it was created long ago");
    let call = Activity::new(ActivityType::Call, "Call", deal, w.office.admin);
    let call = w.session.activities().create(call).await.unwrap();
    w.session
        .activities()
        .complete(call.id, None)
        .await
        .unwrap();
    assert_eq!(w.run().await, (0, 0));
    w.clock.advance(TimeDelta::days(14));
    assert_eq!(w.run().await, (1, 0));
    assert_eq!(w.run().await, (0, 0));
    // Before it is decided: for each day on which it is to be.
    let soon = after_days("soon", TimeBasis::BeforeClose, 3, vec![tag("soon")]);
    w.rule(soon).await;
    let today = w.session.engine().clock().now().date_naive();
    let in_days = |days: i64| Some(today + TimeDelta::days(days));
    for (days, runs) in [(4, 0), (3, 1), (2, 1), (2, 0), (-1, 0)] {
        w.change(deal, |deal| deal.expected_close_date = in_days(days))
            .await;
        assert_eq!(w.run().await, (runs, 0), "{days} days");
    }
    // After it was decided, with a condition; and archived deals are left alone.
    let renew = AutomationRule {
        conditions: Deal::STATUS.eq(DealStatus::Won).into(),
        ..after_days(
            "renew",
            TimeBasis::AfterClose,
            30,
            vec![set(json!({"next_step": "renew"}))],
        )
    };
    w.rule(renew).await;
    let lost = w.deal().await;
    let archived = w.deal().await;
    w.session.deals().lose(lost, "price").await.unwrap();
    w.session.deals().win(deal).await.unwrap();
    w.session.deals().win(archived).await.unwrap();
    w.session.deals().archive(archived).await.unwrap();
    w.clock.advance(TimeDelta::days(30));
    assert_eq!(w.run().await, (1, 0));
    assert_eq!(w.get(deal).await.next_step.as_deref(), Some("renew"));
    // What fails is not tried for the same occasion again.
    let fails = after_days(
        "fails",
        TimeBasis::AfterCreation,
        1,
        vec![Action::AssignOwner {
            to: Assignee::AccountOwner,
        }],
    );
    let open = w.deal().await;
    w.rule(fails).await;
    w.clock.advance(TimeDelta::days(1));
    assert_eq!(w.run().await, (0, 1));
    assert_eq!(w.run().await, (0, 0));
    // What it changes sets other rules off.
    let chained = on_change(
        "chained",
        "tags",
        vec![set(json!({"next_step": "chained"}))],
    );
    w.rule(chained).await;
    let tagged = after_days("tagged", TimeBasis::AfterCreation, 2, vec![tag("old")]);
    w.rule(tagged).await;
    w.clock.advance(TimeDelta::days(1));
    assert_eq!(w.run().await, (1, 0));
    assert_eq!(w.get(open).await.next_step.as_deref(), Some("chained"));
    assert_trail_tells_every_record(&w.session).await;
}

/// C-022: workers at the same time run each rule once for each deal; a run that is stopped goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_share_what_is_due() {
    const DEALS: usize = 230;
    const WORKERS: usize = 4;
    let w = Arc::new(World::new().await);
    let comment = Action::AddComment {
        body: "Look at this".into(),
        notify: Vec::new(),
    };
    let rule = w
        .rule(after_days(
            "old",
            TimeBasis::AfterCreation,
            1,
            vec![comment],
        ))
        .await;
    let deals = (0..DEALS).map(|_| w.new_deal()).collect();
    w.session.deals().create_all(deals).await.unwrap();
    w.clock.advance(TimeDelta::days(1));
    let stop = |_, _| ControlFlow::Break(());
    let first = w.session.automation().run_time_based(&stop).await.unwrap();
    assert!(first.is_stopped && first.executed < DEALS as u64);
    let barrier = Arc::new(Barrier::new(WORKERS));
    let tasks: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (w, barrier) = (w.clone(), barrier.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                w.run().await.0
            })
        })
        .collect();
    let mut executed = first.executed;
    for task in tasks {
        executed += task.await.unwrap();
    }
    assert_eq!(executed, DEALS as u64);
    assert_eq!(w.executed(rule).await, DEALS as u64);
    let comments = rows_of(&w.session, "comment").await.len();
    assert_eq!(comments, DEALS);
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

/// Many deals in one commit set rules off one by one, as an import does.
#[tokio::test]
async fn many_deals_in_one_commit_set_rules_off_each() {
    let w = World::new().await;
    let rule = AutomationRule {
        conditions: Deal::AMOUNT.ge(150).into(),
        ..on_entry("large", vec![tag("large")])
    };
    let rule = w.rule(rule).await;
    let worth = |amount: i64| Deal {
        amount: Some(amount.into()),
        ..w.new_deal()
    };
    let deals = (0..300).map(worth).collect();
    let deals = w.session.deals().create_all(deals).await.unwrap();
    assert_eq!(w.executed(rule).await, 150);
    assert!(
        deals
            .iter()
            .all(|deal| deal.tags.is_empty() == (deal.amount < Some(150.into())))
    );
}

/// An import sets rules off like any other write; a row is refused by a rule that says so.
#[tokio::test]
async fn imported_deals_set_rules_off() {
    let w = World::new().await;
    let rule = w.rule(on_entry("imported", vec![tag("imported")])).await;
    let strict = AutomationRule {
        conditions: Deal::AMOUNT.lt(10).into(),
        on_failure: OnFailure::Refuse,
        ..on_entry(
            "strict",
            vec![Action::AssignOwner {
                to: Assignee::ContactOwner,
            }],
        )
    };
    w.rule(strict).await;
    let pipeline = w.office.pipeline;
    let rows: String = (5..35)
        .map(|number| format!("Deal {number},{number},{pipeline}\n"))
        .collect();
    let source = Source::bytes(
        "deals.csv",
        format!("Name,Amount,Pipeline\n{rows}").into_bytes(),
    );
    let mapping = Mapping::new("deal")
        .column("Name", "name")
        .column("Amount", "amount")
        .column("Pipeline", "pipeline_id");
    let job = w
        .session
        .import()
        .start(&source, &Import::new(mapping))
        .await;
    let job = job.unwrap();
    let done = w.session.import().run(job.id, &source, &()).await.unwrap();
    let counts = (done.counts.created_rows, done.counts.failed_rows);
    assert_eq!(counts, (25, 5));
    assert_eq!(w.executed(rule).await, 25);
    let deals = rows_of(&w.session, "deal").await;
    assert!(
        deals
            .iter()
            .all(|deal| deal.to_json()["tags"] == json!(["imported"]))
    );
}

/// A random rule: it waits for a field and sets another.
type Plan = (usize, usize, Option<usize>, usize, u32, bool);

const FIELDS: [&str; 4] = ["next_step", "lead_source", "competitor", "custom_fields.x"];

/// C-022: whatever the rules, a commit comes to an end, each rule runs at most once for a deal in it,
/// and the counts are those of the log.
#[test]
fn any_rules_come_to_an_end() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let crm = crm();
    let number = AtomicUsize::new(0);
    let mut runner = TestRunner::new(Config {
        cases: common::cases(24),
        failure_persistence: None,
        ..Config::default()
    });
    let plan = (
        0..4_usize,
        0..4_usize,
        prop::option::weighted(0.5, 0..3_usize),
        0..3_usize,
        0..3_u32,
        any::<bool>(),
    );
    let steps = prop::collection::vec((0..2_usize, 0..4_usize, 0..3_usize), 1..8);
    let strategy = (prop::collection::vec(plan, 1..8), steps);
    let outcome = runner.run(&strategy, |(plans, steps)| {
        let subdomain = format!("any-{}", number.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(async {
            let (office, session) = tenant(&crm, &subdomain).await;
            let mut rules = Vec::new();
            for (place, plan) in plans.iter().enumerate() {
                let (watched, written, wanted, value, order, is_new): Plan = *plan;
                let action = vec![set(json!({ FIELDS[written]: value.to_string() }))];
                let conditions = match wanted {
                    Some(wanted) => Filter::eq(FIELDS[watched], wanted.to_string()),
                    None => Filter::all(),
                };
                let rule = if is_new {
                    on_entry(&format!("rule {place}"), action)
                } else {
                    on_change(&format!("rule {place}"), FIELDS[watched], action)
                };
                let rule = AutomationRule {
                    conditions: conditions.into(),
                    execution_order: order,
                    ..rule
                };
                rules.push(session.automation_rules().create(rule).await.unwrap());
            }
            let mut deals = Vec::new();
            for _ in 0..2 {
                let deal = Deal::new("Rollout", office.pipeline);
                deals.push(session.deals().create(deal).await.unwrap().id);
            }
            for (deal, field, value) in &steps {
                let version = session.deals().get(deals[*deal]).await.unwrap().version;
                let patch = match FIELDS[*field].split_once('.') {
                    Some((document, member)) => json!({ document: { member: value.to_string() } }),
                    None => json!({ FIELDS[*field]: value.to_string() }),
                };
                let patch = patch.as_object().unwrap();
                session
                    .deals()
                    .merge(deals[*deal], version, patch)
                    .await
                    .unwrap();
            }
            let log = rows_of(&session, "automation_execution").await;
            let log: Vec<Arc<Record<AutomationExecution>>> =
                log.into_iter().filter_map(Record::from_row).collect();
            let once: BTreeSet<_> = log
                .iter()
                .map(|one| (one.commit_id, one.rule_id, one.deal_id))
                .collect();
            assert_eq!(once.len(), log.len(), "a rule ran twice in one chain");
            // Within one step of a chain, in execution order.
            let order: BTreeMap<_, _> = rules
                .iter()
                .map(|rule| (rule.id, (rule.execution_order, rule.rule_name.clone())))
                .collect();
            let mut chains: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for one in &log {
                let chain = (one.commit_id, one.deal_id);
                chains
                    .entry(chain)
                    .or_default()
                    .push((one.step, order[&one.rule_id].clone()));
            }
            for steps in chains.values() {
                assert!(steps.is_sorted_by_key(|(step, _)| *step));
            }
            let ids: Vec<_> = rules.iter().map(|rule| rule.id).collect();
            let counts = session.automation().counts(&ids).await.unwrap();
            for id in ids {
                let own = log.iter().filter(|one| one.rule_id == id).count() as u64;
                assert_eq!(counts[&id].executed, own);
            }
        });
        Ok(())
    });
    outcome.unwrap();
}

//! Rules that set each other off, their order and their end.

use std::collections::{BTreeMap, BTreeSet};

use crm_engine::automation::{
    Actions, AutomationRule, ExecutionOutcome, MOST_STEPS, RuleType, TriggerEvent,
};
use crm_engine::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::{World, always, at, on_change, set, tag, tags};
use crate::common::assert_trail_tells_every_record;

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

//! Rules that wait for time, and the workers that run them.

use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::TimeDelta;
use crm_engine::automation::{Action, Assignee, AutomationRule, TimeBasis, TriggerEvent};
use crm_engine::prelude::*;
use serde_json::json;
use tokio::sync::Barrier;

use super::{World, after_days, on_change, set, tag, tags};
use crate::common::{assert_trail_tells_every_record, rows_of};

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

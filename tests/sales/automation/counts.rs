//! Executions of many deals: concurrent, in one commit, imported.

use std::sync::Arc;

use crm_engine::automation::{Action, Assignee, AutomationRule, OnFailure};
use crm_engine::exchange::import::{Import, ImportExt, Mapping, Source};
use crm_engine::prelude::*;
use serde_json::json;
use tokio::sync::Barrier;

use super::{World, on_change, on_entry, tag};
use crate::common::{crm, rows_of, tenant};

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

//! Rules by chance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crm_engine::automation::{AutomationExecution, AutomationRule};
use crm_engine::prelude::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::{on_change, on_entry, set};
use crate::common;
use crate::common::{crm, rows_of, tenant};

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

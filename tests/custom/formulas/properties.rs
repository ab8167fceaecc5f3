//! Formulas and roll-ups by chance, beside what is computed from scratch.

use crm_engine::custom_objects::{Computed, CustomFieldType, DataType, RollUpFunction};
use crm_engine::prelude::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::{Shop, define, formula, roll_up};
use crate::common;
use crate::common::crm;

#[derive(Clone, Debug)]
enum Step {
    Deal(usize, i64, i64),
    Project(usize, i64),
    Amount(usize, i64),
    Move(usize, usize),
    MoveProject(usize, usize),
    Grade(usize, i64),
    Delete(usize),
    Restore(usize),
    DeleteAccount(usize),
    RestoreAccount(usize),
    Define(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = || -200_i64..400;
    let step = prop_oneof![
        4 => (0..3_usize, number(), number()).prop_map(|(a, m, c)| Step::Deal(a, m.abs(), c)),
        3 => (0..3_usize, number()).prop_map(|(a, b)| Step::Project(a, b)),
        3 => (0..9_usize, number()).prop_map(|(d, m)| Step::Amount(d, m.abs())),
        3 => (0..9_usize, 0..3_usize).prop_map(|(d, a)| Step::Move(d, a)),
        2 => (0..9_usize, 0..3_usize).prop_map(|(p, a)| Step::MoveProject(p, a)),
        2 => (0..3_usize, number()).prop_map(|(a, g)| Step::Grade(a, g)),
        2 => (0..9_usize).prop_map(Step::Delete),
        1 => (0..9_usize).prop_map(Step::Restore),
        1 => (1..3_usize).prop_map(Step::DeleteAccount),
        1 => (1..3_usize).prop_map(Step::RestoreAccount),
        1 => (0..5_usize).prop_map(Step::Define),
    ];
    prop::collection::vec(step, 1..14)
}

/// Formulas and roll-ups equal recomputation from scratch after random changes.
#[test]
fn values_equal_recomputation_after_random_changes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config {
        cases: common::cases(12),
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&steps(), |steps| {
            runtime.block_on(run(&steps));
            Ok(())
        })
        .unwrap();
}

async fn run(steps: &[Step]) {
    let shop = Shop::new(&crm()).await;
    let session = &shop.session;
    let (mut deals, mut projects) = (Vec::new(), Vec::new());
    let at = |place: usize, count: usize| place.checked_rem(count);
    for (number, step) in steps.iter().enumerate() {
        // What is not allowed now, such as a deal of a deleted account, is no step.
        match step.clone() {
            Step::Deal(account, amount, cost) => {
                let created = session
                    .deals()
                    .create(shop.deal(account, amount, cost))
                    .await;
                deals.extend(created.map(|deal| deal.id));
            }
            Step::Project(account, budget) => {
                let customer = shop.accounts[account];
                if session.accounts().get(customer).await.is_ok() {
                    projects.push(shop.create_project(account, budget).await.id());
                }
            }
            Step::Amount(deal, amount) => {
                if let Some(place) = at(deal, deals.len()) {
                    let change = |deal: &mut Deal| deal.amount = Some(amount.into());
                    let _ = session.deals().update(deals[place], change).await;
                }
            }
            Step::Move(deal, account) => {
                if let Some(place) = at(deal, deals.len()) {
                    let to = shop.accounts[account];
                    let change = |deal: &mut Deal| deal.account_id = Some(to);
                    let _ = session.deals().update(deals[place], change).await;
                }
            }
            Step::MoveProject(project, account) => {
                let customer = shop.accounts[account];
                let is_live = session.accounts().get(customer).await.is_ok();
                if let Some(place) = at(project, projects.len()).filter(|_| is_live) {
                    let mut objects = session.object("project").await.unwrap();
                    let row = objects.get(projects[place]).await.unwrap();
                    let patch = json!({"custom_fields": {"customer": customer}});
                    let patch = patch.as_object().unwrap();
                    objects.merge(row.id(), row.version(), patch).await.unwrap();
                }
            }
            Step::Grade(account, grade) => {
                let change = |account: &mut Account| {
                    account.custom_fields["grade"] = json!(grade);
                };
                let _ = session
                    .accounts()
                    .update(shop.accounts[account], change)
                    .await;
            }
            Step::Delete(deal) => {
                if let Some(place) = at(deal, deals.len()) {
                    let _ = session.deals().delete(deals[place]).await;
                }
            }
            Step::Restore(deal) => {
                if let Some(place) = at(deal, deals.len()) {
                    let _ = session.deals().restore(deals[place]).await;
                }
            }
            Step::DeleteAccount(account) => {
                let _ = session.accounts().delete(shop.accounts[account]).await;
            }
            Step::RestoreAccount(account) => {
                let _ = session.accounts().restore(shop.accounts[account]).await;
            }
            Step::Define(which) => {
                // A random small graph over what there is; circles are refused.
                let sources = [
                    ("account", "score - mean_budget"),
                    ("deal", "account_id.score + margin"),
                    ("project", "budget / (customer.projects - 1)"),
                    ("account", "best * best"),
                    ("deal", "account_id.parent_account_id.score"),
                ];
                let (object, source) = sources[which];
                let field = format!("extra_{number}");
                let field_type = formula(source, DataType::Decimal);
                let field = define(session, object, &field, field_type).await.unwrap();
                let run = Computed::new(session).recompute(field, &()).await.unwrap();
                assert!(run.is_complete);
                if object == "deal" {
                    let sum = roll_up(
                        RollUpFunction::Min,
                        ("deal", "account_id"),
                        Some(&format!("extra_{number}")),
                    );
                    let over = format!("over_{number}");
                    let sum = CustomFieldType::RollUp(sum);
                    let over = define(session, "account", &over, sum).await.unwrap();
                    Computed::new(session).recompute(over, &()).await.unwrap();
                }
            }
        }
        shop.assert_right().await;
    }
}

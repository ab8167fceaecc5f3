//! Totals after any sequence of changes.

use crm_engine::prelude::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rust_decimal::Decimal;

use super::{Shop, USD, free};
use crate::common;

/// One step of a random sequence.
#[derive(Clone, Debug)]
enum Step {
    Add(usize, i64, i64),
    Change(usize, i64),
    Remove(usize),
    Restore(usize),
    Move(usize, usize),
    Amount(usize, i64),
    Copy(usize, usize),
    Reverse(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..2_usize, 1..500_i64, 0..100_000_i64).prop_map(|(d, q, p)| Step::Add(d, q, p)),
        3 => (0..8_usize, 1..500_i64).prop_map(|(line, q)| Step::Change(line, q)),
        2 => (0..8_usize).prop_map(Step::Remove),
        1 => (0..8_usize).prop_map(Step::Restore),
        1 => (0..8_usize, 0..2_usize).prop_map(|(line, deal)| Step::Move(line, deal)),
        2 => (0..2_usize, 0..1_000_i64).prop_map(|(deal, amount)| Step::Amount(deal, amount)),
        1 => (0..2_usize, 0..2_usize).prop_map(|(from, to)| Step::Copy(from, to)),
        1 => (0..2_usize).prop_map(Step::Reverse),
    ];
    proptest::collection::vec(step, 1..14)
}

/// Takes a step; what is refused changes nothing.
async fn take(shop: &Shop, deals: [Id<Deal>; 2], lines: &mut Vec<Id<DealLine>>, step: Step) {
    let records = || shop.session.deals();
    match step {
        Step::Add(deal, quantity, price) => {
            let line = DealLine {
                quantity: Decimal::new(quantity, 2),
                unit_price: Some(Decimal::new(price, 4)),
                ..free(deals[deal], "1", "1")
            };
            lines.push(records().add_line(line).await.unwrap().id);
        }
        Step::Change(line, quantity) => {
            if let Some(line) = lines.get(line) {
                let set = |line: &mut DealLine| line.quantity = Decimal::new(quantity, 2);
                let _ = records().update_line(*line, set).await;
            }
        }
        Step::Remove(line) => {
            if let Some(line) = lines.get(line) {
                let _ = records().remove_line(*line).await;
            }
        }
        Step::Restore(line) => {
            if let Some(line) = lines.get(line) {
                let _ = shop.session.records::<DealLine>().restore(*line).await;
            }
        }
        Step::Move(line, deal) => {
            if let Some(line) = lines.get(line) {
                let set = |line: &mut DealLine| line.deal_id = deals[deal];
                let _ = records().update_line(*line, set).await;
            }
        }
        Step::Amount(deal, amount) => {
            let set = |deal: &mut Deal| deal.amount = Some(amount.into());
            let _ = records().update(deals[deal], set).await;
        }
        Step::Copy(from, to) => {
            let copies = records().copy_lines(deals[from], deals[to]).await.unwrap();
            lines.extend(copies.iter().map(|line| line.id));
        }
        Step::Reverse(deal) => {
            let mut order: Vec<_> = shop.places(deals[deal]).await;
            order.reverse();
            let order: Vec<_> = order.into_iter().map(|(_, id)| id).collect();
            records().reorder_lines(deals[deal], &order).await.unwrap();
        }
    }
}

/// after any sequence each line has the total of the formula, and each deal the sum of
/// its lines, or is near it.
#[test]
fn totals_equal_lines_after_any_sequence() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config {
        cases: common::cases(12),
        failure_persistence: None,
        ..Config::default()
    });
    let shop = runtime.block_on(Shop::new());
    runner
        .run(&steps(), |steps| {
            runtime.block_on(async {
                let deals = [shop.deal(USD).await, shop.deal(USD).await];
                let mut known = Vec::new();
                for step in steps {
                    take(&shop, deals, &mut known, step).await;
                    for deal in deals {
                        let lines = shop.session.deals().lines(deal).await.unwrap();
                        let mut sum = Decimal::ZERO;
                        for line in &lines {
                            let exact = line.quantity * line.unit_price.unwrap();
                            prop_assert_eq!(line.line_total, exact.round_dp(2).normalize());
                            sum += line.line_total;
                        }
                        let amount = shop.amount(deal).await.unwrap_or_default();
                        let near = (amount - sum).abs() <= Decimal::new(1, 2);
                        prop_assert!(sum.is_zero() || near, "{amount} for {sum}");
                        prop_assert!(lines.iter().all(|line| line.position > 0));
                    }
                }
                Ok(())
            })
        })
        .unwrap();
}

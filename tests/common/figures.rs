//! Figures over deals, as tests count and tell them.

use std::sync::Arc;

use crm_engine::deals::DealStats;
use crm_engine::prelude::*;
use crm_engine::value::Totals;

/// Figures as a text: all deals, then those that were won.
pub(crate) fn told(stats: &DealStats) -> String {
    format!(
        "{} [{}], {} [{}]",
        stats.deal_count, stats.total_deal_value, stats.won_deal_count, stats.won_deal_value
    )
}

/// The figures over deals, counted one by one.
pub(crate) fn figures<'a>(deals: impl Iterator<Item = &'a Arc<Record<Deal>>>) -> DealStats {
    let mut stats = DealStats::default();
    for deal in deals {
        let money = deal.money().filter(|money| !money.amount().is_zero());
        let add = |totals: &mut Totals| money.iter().for_each(|money| totals.add(money).unwrap());
        stats.deal_count += 1;
        add(&mut stats.total_deal_value);
        if deal.status == DealStatus::Won {
            stats.won_deal_count += 1;
            add(&mut stats.won_deal_value);
        }
    }
    stats
}

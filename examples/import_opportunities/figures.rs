//! The figures of some of the deals: what the engine counts and adds, and the rates and averages that
//! follow from it.

use std::ops::AddAssign;

use crm_engine::Id;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::import::Stages;

pub(crate) const SECONDS_A_DAY: u64 = 86_400;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct InStages {
    pub(crate) prospecting: u64,
    pub(crate) engaging: u64,
    pub(crate) won: u64,
    pub(crate) lost: u64,
}

impl InStages {
    /// Adds a group to the stage of this id.
    pub(crate) fn add(&mut self, stages: &Stages, stage: Option<Uuid>, count: u64) {
        let place = match stage.map(Id::new) {
            Some(id) if id == stages.prospecting => &mut self.prospecting,
            Some(id) if id == stages.engaging => &mut self.engaging,
            Some(id) if id == stages.won => &mut self.won,
            Some(id) if id == stages.lost => &mut self.lost,
            _ => return,
        };
        *place += count;
    }
}

/// The deals that were decided in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Closed {
    pub(crate) won: u64,
    pub(crate) lost: u64,
    #[serde(serialize_with = "plain_number")]
    pub(crate) won_value: Decimal,
}

/// The figures of some of the deals. A rate or an average over nothing is nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) deals: u64,
    #[serde(flatten)]
    pub(crate) stages: InStages,
    pub(crate) closed: u64,
    pub(crate) win_rate_won_over_closed: Option<String>,
    pub(crate) win_rate_won_over_all: Option<String>,
    #[serde(serialize_with = "plain_number")]
    pub(crate) won_value_sum: Decimal,
    pub(crate) won_value_avg: Option<String>,
    /// A cycle is the time from Engaging to the decision.
    pub(crate) cycle_days_sum_won: u64,
    pub(crate) cycle_days_avg_won: Option<String>,
    pub(crate) cycle_days_sum_lost: u64,
    pub(crate) cycle_days_avg_lost: Option<String>,
    pub(crate) cycle_days_sum_closed: u64,
    pub(crate) cycle_days_avg_closed: Option<String>,
}

/// What the engine adds up; [`Figures`] follow from it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) stages: InStages,
    pub(crate) won_value: Decimal,
    pub(crate) cycle_days_won: u64,
    pub(crate) cycle_days_lost: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        let (stages, others) = (&mut self.stages, other.stages);
        stages.prospecting += others.prospecting;
        stages.engaging += others.engaging;
        stages.won += others.won;
        stages.lost += others.lost;
        self.won_value += other.won_value;
        self.cycle_days_won += other.cycle_days_won;
        self.cycle_days_lost += other.cycle_days_lost;
    }
}

impl From<Tally> for Figures {
    fn from(tally: Tally) -> Self {
        let Tally {
            stages,
            won_value,
            cycle_days_won,
            cycle_days_lost,
        } = tally;
        let InStages { won, lost, .. } = stages;
        let closed = won + lost;
        let deals = stages.prospecting + stages.engaging + closed;
        let cycle_days = cycle_days_won + cycle_days_lost;
        Self {
            deals,
            stages,
            closed,
            win_rate_won_over_closed: ratio(won.into(), closed, 6),
            win_rate_won_over_all: ratio(won.into(), deals, 6),
            won_value_sum: won_value,
            won_value_avg: ratio(won_value, won, 4),
            cycle_days_sum_won: cycle_days_won,
            cycle_days_avg_won: ratio(cycle_days_won.into(), won, 4),
            cycle_days_sum_lost: cycle_days_lost,
            cycle_days_avg_lost: ratio(cycle_days_lost.into(), lost, 4),
            cycle_days_sum_closed: cycle_days,
            cycle_days_avg_closed: ratio(cycle_days.into(), closed, 4),
        }
    }
}

/// A quotient with so many decimals, halves to the even neighbour.
pub(crate) fn ratio(sum: Decimal, count: u64, decimals: u32) -> Option<String> {
    let mut quotient = sum.checked_div(Decimal::from(count))?.round_dp(decimals);
    quotient.rescale(decimals);
    Some(quotient.to_string())
}

/// An amount as a JSON number where it is whole, as text with all its decimals where it is not.
pub(crate) fn plain_number<S: Serializer>(
    amount: &Decimal,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match amount.is_integer().then(|| amount.to_i64()).flatten() {
        Some(whole) => serializer.serialize_i64(whole),
        None => serializer.collect_str(&amount.normalize()),
    }
}

//! Figures over the deals of a contact or an account: how many there are and what they
//! amount to, and the same of those that were won.
//!
//! - Every deal counts that is not deleted, whatever its status: open, won and lost ones, and
//!   archived ones, which are only out of the way. Those that are won count once more in `won_*`.
//! - Money is summed per currency; a currency whose sum is zero is left out.
//! - Only a deal's own references count: a deal of a contact is one of the contact's account only if
//!   it names that account too, and one of a subsidiary is none of its parent.
//!
//! The figures follow in the commit that changes a deal, by the difference that it makes: the record
//! is read and written once for each commit, however many deals change in it, and the deals
//! themselves are not read. A record that another commit changed meanwhile is a conflict, and the
//! call runs again, so the figures are exact whoever writes at the same time. They change as ordinary
//! fields of the record do: its version rises, and its audit trail tells of it. A change of a deal
//! that changes no figure, such as a new next step, leaves the record alone.
//!
//! As the record changes with its deals, whoever wants to change a certain version of it, and the
//! reverting of an import that wrote it, finds it changed since.
//!
//! After rows were written past the engine,
//! [`recompute_statistics`](crate::engine::Records::recompute_statistics) works all of them out anew.

mod recompute;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Deal, DealStatus};
use crate::Id;
use crate::accounts::Account;
use crate::contacts::Contact;
use crate::engine::{CommitHook, UnitOfWork};
use crate::error::Result;
use crate::record::Record;
use crate::schema::{Access, Entity, FieldGroup, FieldOf, Row};
use crate::value::{Money, Totals, ValueError};

pub use recompute::StatisticsRecomputed;

/// What is noted about a record whose figures are worked out anew.
const RECOMPUTED: &str = "deal statistics recomputed";

/// Figures over the deals of a contact or an account, money per currency. What counts
/// is told at the [module](self).
#[derive(Clone, PartialEq, FieldGroup)]
pub struct DealStats {
    /// How many deals there are.
    pub deal_count: u32,
    /// What they amount to.
    pub total_deal_value: Totals,
    /// How many were won.
    pub won_deal_count: u32,
    /// What those amount to.
    pub won_deal_value: Totals,
}

impl DealStats {
    /// These figures after a change.
    ///
    /// # Errors
    /// `out_of_range` where a sum becomes too great.
    fn after(&self, change: &Difference) -> Result<Self, ValueError> {
        Ok(Self {
            deal_count: count(self.deal_count, change.deals),
            total_deal_value: sum(&self.total_deal_value, &change.value)?,
            won_deal_count: count(self.won_deal_count, change.won),
            won_deal_value: sum(&self.won_deal_value, &change.won_value)?,
        })
    }
}

fn count(before: u32, change: i64) -> u32 {
    let after = i64::from(before).saturating_add(change);
    u32::try_from(after.max(0)).unwrap_or(u32::MAX)
}

/// Both sums, without the currencies that come to nothing.
fn sum(before: &Totals, change: &Totals) -> Result<Totals, ValueError> {
    let mut after = before.clone();
    after.merge(change)?;
    Totals::of(after.iter().filter(|money| !money.amount().is_zero()))
}

/// What a commit changes in the figures of one record.
#[derive(Clone, Debug, Default, PartialEq)]
struct Difference {
    deals: i64,
    value: Totals,
    won: i64,
    won_value: Totals,
}

impl Difference {
    /// Counts `deals` more or, if it is negative, less that are worth `money` together.
    fn add(&mut self, deals: i64, money: Option<Money>, is_won: bool) -> Result<(), ValueError> {
        self.deals = self.deals.saturating_add(deals);
        if let Some(money) = &money {
            self.value.add(money)?;
        }
        if is_won {
            self.won = self.won.saturating_add(deals);
            if let Some(money) = &money {
                self.won_value.add(money)?;
            }
        }
        Ok(())
    }

    /// Counts a deal in.
    fn gain(&mut self, deal: &Deal) -> Result<(), ValueError> {
        self.add(1, deal.money(), deal.status == DealStatus::Won)
    }

    /// Counts a deal out.
    fn lose(&mut self, deal: &Deal) -> Result<(), ValueError> {
        let money = deal.money();
        let money = money.map(|money| Money::new(-money.amount(), money.currency()));
        self.add(-1, money, deal.status == DealStatus::Won)
    }
}

/// What has deals, and figures over them.
trait HasDeals: Entity {
    /// The reference of deals to it.
    const LINK: FieldOf<Deal, Id<Self>>;

    fn of(deal: &Deal) -> Option<Id<Self>>;
    fn stats(&self) -> &DealStats;
    fn stats_mut(&mut self) -> &mut DealStats;
}

impl HasDeals for Contact {
    const LINK: FieldOf<Deal, Id<Self>> = Deal::CONTACT_ID;

    fn of(deal: &Deal) -> Option<Id<Self>> {
        deal.contact_id
    }

    fn stats(&self) -> &DealStats {
        &self.deal_stats
    }

    fn stats_mut(&mut self) -> &mut DealStats {
        &mut self.deal_stats
    }
}

impl HasDeals for Account {
    const LINK: FieldOf<Deal, Id<Self>> = Deal::ACCOUNT_ID;

    fn of(deal: &Deal) -> Option<Id<Self>> {
        deal.account_id
    }

    fn stats(&self) -> &DealStats {
        &self.deal_stats
    }

    fn stats_mut(&mut self) -> &mut DealStats {
        &mut self.deal_stats
    }
}

/// the figures of contacts and accounts follow the deals of the commit.
#[derive(Debug)]
pub(crate) struct DealStatisticsHook;

#[async_trait]
impl CommitHook for DealStatisticsHook {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        follow::<Contact>(work).await?;
        follow::<Account>(work).await
    }
}

async fn follow<H: HasDeals>(work: &mut UnitOfWork) -> Result<()> {
    let mut changes = differences::<H>(work)?;
    if changes.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = changes.keys().copied().collect();
    // A record that is removed for good is not among them, nor one that never was.
    for row in work.rows(H::schema(), &ids).await? {
        let Some(change) = changes.remove(&row.id()) else {
            continue;
        };
        // What is stored counts, whatever else the commit made of the fields: a merge that is undone
        // gives a record its former values back, and its deals.
        let known = match work.place(H::schema(), row.id()) {
            Some(staged) => staged.before().and_then(typed::<H>),
            None => typed::<H>(&row),
        };
        let known = known.map_or_else(DealStats::default, |known| known.stats().clone());
        let figures = known.after(&change)?;
        write::<H>(work, row, figures).await?;
    }
    Ok(())
}

/// What the staged changes mean for each record that has deals. Those whose figures something else
/// has changed are among them, with no difference.
fn differences<H: HasDeals>(work: &mut UnitOfWork) -> Result<BTreeMap<Uuid, Difference>> {
    let mut changes: BTreeMap<Uuid, Difference> = BTreeMap::new();
    let mut touched = Vec::new();
    for change in work.staged() {
        if change.object() == Deal::schema() {
            let before = live(change.before());
            let after = live(change.after());
            if let Some(deal) = &before
                && let Some(id) = H::of(deal)
            {
                changes.entry(id.uuid()).or_default().lose(deal)?;
            }
            if let Some(deal) = &after
                && let Some(id) = H::of(deal)
            {
                changes.entry(id.uuid()).or_default().gain(deal)?;
            }
        } else if change.object() == H::schema()
            && let Some(after) = change.after().and_then(typed::<H>)
        {
            let before = change.before().and_then(typed::<H>);
            let is_same = match &before {
                Some(before) => before.stats() == after.stats(),
                None => *after.stats() == DealStats::default(),
            };
            if !is_same {
                touched.push(change.id());
            }
        }
    }
    changes.retain(|_, change| !change.is_nothing());
    for id in touched {
        if work.take_note(id).as_deref() != Some(RECOMPUTED) {
            changes.entry(id).or_default();
        }
    }
    Ok(changes)
}

impl Difference {
    /// Whether what is gained makes up for what is lost.
    fn is_nothing(&self) -> bool {
        let is_zero = |totals: &Totals| totals.iter().all(|money| money.amount().is_zero());
        self.deals == 0 && self.won == 0 && is_zero(&self.value) && is_zero(&self.won_value)
    }
}

fn typed<E: Entity>(row: &Row) -> Option<Arc<Record<E>>> {
    Record::from_row(row.clone())
}

/// A deal that counts.
fn live(row: Option<&Row>) -> Option<Arc<Record<Deal>>> {
    row.filter(|row| !row.is_deleted()).and_then(typed)
}

/// Writes figures into a record, a deleted one too. True if they are other ones.
async fn write<H: HasDeals>(work: &mut UnitOfWork, row: Row, figures: DealStats) -> Result<bool> {
    let Some(record) = typed::<H>(&row) else {
        return Ok(false);
    };
    if *record.stats() == figures {
        return Ok(false);
    }
    let mut data = record.data.clone();
    *data.stats_mut() = figures;
    let meta = work.next_meta(&row);
    work.write(Access::Engine, Some(row), meta, data).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rust_decimal::Decimal;

    use super::*;
    use crate::pipelines::Pipeline;
    use crate::value::{Currency, TextValue};

    fn deals() -> impl Strategy<Value = Deal> {
        let status =
            prop::sample::select(vec![DealStatus::Open, DealStatus::Won, DealStatus::Lost]);
        let currency = prop::sample::select(vec!["EUR", "USD", "JPY"]);
        let amount = prop::option::of((0_i64..1_000_000, 0_u32..4));
        (status, currency, amount).prop_map(|(status, currency, amount)| Deal {
            status,
            currency: Currency::parse(currency).unwrap(),
            amount: amount.map(|(mantissa, scale)| Decimal::new(mantissa, scale)),
            ..Deal::new("Rollout", Id::<Pipeline>::new(Uuid::nil()))
        })
    }

    fn of(deals: &[Deal]) -> DealStats {
        let mut all = Difference::default();
        deals.iter().for_each(|deal| all.gain(deal).unwrap());
        DealStats::default().after(&all).unwrap()
    }

    proptest! {
        /// whatever comes and goes, the figures are those of what is left.
        #[test]
        fn differences_lead_to_the_figures_of_what_is_left(
            kept in prop::collection::vec(deals(), 0..6),
            lost in prop::collection::vec(deals(), 0..6),
            gained in prop::collection::vec(deals(), 0..6),
        ) {
            let before: Vec<Deal> = kept.iter().chain(&lost).cloned().collect();
            let after: Vec<Deal> = kept.iter().chain(&gained).cloned().collect();
            let mut change = Difference::default();
            lost.iter().for_each(|deal| change.lose(deal).unwrap());
            gained.iter().for_each(|deal| change.gain(deal).unwrap());
            let followed = of(&before).after(&change).unwrap();
            prop_assert!(followed == of(&after));
        }
    }

    #[test]
    fn what_makes_up_for_each_other_is_nothing() {
        let deal = Deal {
            amount: Some(Decimal::TEN),
            ..Deal::new("Rollout", Id::<Pipeline>::new(Uuid::nil()))
        };
        let mut change = Difference::default();
        change.lose(&deal).unwrap();
        assert!(!change.is_nothing());
        change.gain(&deal).unwrap();
        assert!(change.is_nothing());
    }
}

//! The exchange rate that a deal keeps when it closes.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::Deal;
use crate::Id;
use crate::currencies::{Rate, Via, rates_on, remembered_base};
use crate::engine::{Records, UnitOfWork, Write, WriteRule, in_work};
use crate::error::{Result, RuleViolation};
use crate::record::Record;
use crate::schema::{Entity, ValueRef};
use crate::tenancy::today;

/// What becomes of the rate that a deal keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It stays as it is.
    Keep,
    /// The deal is open: it keeps none.
    Clear,
    /// The rate of the day on which the deal closed is looked up.
    Lock,
    /// The rate stays, and what the amount is worth by it is worked out anew.
    Revalue,
}

/// A deal that closes is given the rate of its closing day. Put right afterwards, it keeps the rate,
/// unless the currency or the day is what was put right. One that was closed before a rate was set
/// gets it with the next such change, or by [`lock_rate`](Records::lock_rate).
fn decide(before: Option<&Deal>, after: &Deal) -> Step {
    if !after.is_closed() {
        let has_any = after.locked_currency.is_some()
            || after.locked_rate.is_some()
            || after.locked_rate_date.is_some()
            || after.locked_amount.is_some();
        return if has_any { Step::Clear } else { Step::Keep };
    }
    let Some(before) = before.filter(|before| before.is_closed()) else {
        return Step::Lock;
    };
    let is_amended = before.currency != after.currency
        || before.actual_close_date != after.actual_close_date
        || (after.locked_rate.is_none() && before.stage_id != after.stage_id);
    if is_amended {
        Step::Lock
    } else if before.amount == after.amount {
        Step::Keep
    } else if after.locked_rate.is_some() {
        Step::Revalue
    } else {
        Step::Lock
    }
}

/// Keeps a rate with a deal, and what the deal is worth by it. A worth of more digits than an amount
/// holds is none: the deal then keeps no rate.
fn keep(deal: &mut Deal, rate: Option<Rate>) {
    forget(deal);
    let Some(rate) = rate else { return };
    let Ok(worth) = worth_of(deal, rate) else {
        return;
    };
    deal.locked_currency = Some(rate.to);
    deal.locked_rate = Some(rate.rate);
    deal.locked_rate_date = Some(rate.date);
    deal.locked_amount = worth;
}

const fn forget(deal: &mut Deal) {
    deal.locked_currency = None;
    deal.locked_rate = None;
    deal.locked_rate_date = None;
    deal.locked_amount = None;
}

/// The worth does not fit an amount.
struct TooLarge;

fn worth_of(deal: &Deal, rate: Rate) -> Result<Option<Decimal>, TooLarge> {
    let Some(money) = deal.money() else {
        return Ok(None);
    };
    let worth = rate.apply(money).map_err(|_| TooLarge)?.money.amount();
    // Gold and the like are not rounded to minor units.
    let worth = worth.round_dp(4);
    let field = Deal::schema().field(&Deal::LOCKED_AMOUNT.name());
    let fits = field.is_none_or(|field| field.check(&ValueRef::Decimal(worth)).is_ok());
    if fits { Ok(Some(worth)) } else { Err(TooLarge) }
}

/// The rate that a deal kept.
fn kept(deal: &Deal) -> Option<Rate> {
    let to = deal.locked_currency?;
    Some(Rate {
        from: deal.currency,
        to,
        rate: deal.locked_rate?,
        date: deal.locked_rate_date?,
        via: if to == deal.currency {
            Via::Same
        } else {
            Via::Locked
        },
    })
}

/// The rate from the currency of a deal to the base currency on a day, if there is one.
async fn rate_of(work: &UnitOfWork, deal: &Deal, day: NaiveDate) -> Result<Option<Rate>> {
    let (from, to) = (deal.currency, remembered_base(work).await?);
    if from == to {
        return Ok(Some(Rate {
            from,
            to,
            rate: Decimal::ONE,
            date: day,
            via: Via::Same,
        }));
    }
    Ok(rates_on(work, day).await?.rate(from, to, day).ok())
}

/// The day on which a closed deal was closed.
async fn closing_day(work: &UnitOfWork, deal: &Deal) -> Result<NaiveDate> {
    match deal.actual_close_date {
        Some(day) => Ok(day),
        None => today(work).await,
    }
}

/// The rate of the day on which a deal closes is kept with it. Where there is none the deal closes
/// all the same, without one, which its empty [`Deal::locked_rate`] tells.
#[derive(Debug)]
pub(crate) struct ClosingRateRule;

#[async_trait]
impl WriteRule for ClosingRateRule {
    fn object(&self) -> &'static str {
        "deal"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Deal>() else {
            return Ok(());
        };
        if write.deletes() {
            return Ok(());
        }
        match decide(write.before::<Deal>().map(|before| &before.data), after) {
            Step::Keep => {}
            Step::Clear => write.edit(forget),
            Step::Revalue => write.edit(|deal: &mut Deal| {
                let rate = kept(deal);
                keep(deal, rate);
            }),
            Step::Lock => {
                let day = closing_day(work, after).await?;
                let rate = rate_of(work, after, day).await?;
                if rate.is_none() {
                    tracing::info!(deal = %after.id, "closed without an exchange rate");
                }
                write.edit(|deal: &mut Deal| keep(deal, rate));
            }
        }
        Ok(())
    }

    /// The rate is that of the deal as it is: kept, if the deal was closed and neither its currency
    /// nor its day is another.
    async fn settle(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let before = write.before::<Deal>().map(|before| before.data.clone());
        if let Some(before) = before {
            write.edit(|deal: &mut Deal| {
                deal.locked_currency = before.locked_currency;
                deal.locked_rate = before.locked_rate;
                deal.locked_rate_date = before.locked_rate_date;
                deal.locked_amount = before.locked_amount;
            });
        }
        self.before_write(work, write).await
    }
}

impl Records<'_, Deal> {
    /// Locks the exchange rate of a closed deal: for one that was closed before the rate of its day
    /// was set, or set right.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, deals::Deal};
    /// # async fn example(session: &Session, won: Id<Deal>) -> Result<()> {
    /// let locked = session.deals().lock_rate(won).await?;
    /// assert!(locked.locked_rate.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound); [`Error::Rule`](crate::Error::Rule) if the deal
    /// is open, or `missing_rate`, naming pair and day.
    pub async fn lock_rate(&mut self, deal: Id<Deal>) -> Result<Arc<Record<Deal>>> {
        in_work!(self.workspace, |work| {
            let current = work.get(deal).await?;
            if !current.is_closed() {
                let message = "the rate of a deal is locked when it closes";
                return Err(RuleViolation::new("not_closed", "R-085", message).into());
            }
            let day = closing_day(work, &current).await?;
            let base = remembered_base(work).await?;
            let rate = match rate_of(work, &current, day).await? {
                Some(rate) => rate,
                None => rates_on(work, day)
                    .await?
                    .rate(current.currency, base, day)?,
            };
            let lock = |deal: &mut Deal| keep(deal, Some(rate));
            work.update_record(current, &lock).await
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::deals::DealStatus;
    use crate::value::Currency;

    fn deal(status: DealStatus) -> Deal {
        Deal {
            status,
            amount: Some(100.into()),
            currency: Currency::EUR,
            ..Deal::new("Rollout", Id::new(Uuid::from_u128(1)))
        }
    }

    fn rate(rate: Decimal) -> Rate {
        Rate {
            from: Currency::EUR,
            to: Currency::USD,
            rate,
            date: NaiveDate::from_ymd_opt(2026, 1, 2).unwrap(),
            via: Via::Direct,
        }
    }

    #[test]
    fn a_rate_is_locked_on_closing_and_kept() {
        let open = deal(DealStatus::Open);
        let won = deal(DealStatus::Won);
        let mut locked = won.clone();
        keep(&mut locked, Some(rate(Decimal::new(125, 2))));
        assert_eq!(locked.locked_amount, Some(125.into()));
        assert_eq!(decide(None, &won), Step::Lock);
        assert_eq!(decide(Some(&open), &won), Step::Lock);
        assert_eq!(decide(Some(&locked), &locked), Step::Keep);
        assert_eq!(decide(Some(&won), &won), Step::Keep);
        assert_eq!(decide(Some(&open), &open), Step::Keep);

        let mut lost = locked.clone();
        lost.status = DealStatus::Lost;
        lost.stage_id = Some(Id::new(Uuid::from_u128(2)));
        assert_eq!(decide(Some(&locked), &lost), Step::Keep);

        let reopened = Deal {
            status: DealStatus::Open,
            ..locked.clone()
        };
        assert_eq!(decide(Some(&locked), &reopened), Step::Clear);

        let dearer = Deal {
            amount: Some(200.into()),
            ..locked.clone()
        };
        assert_eq!(decide(Some(&locked), &dearer), Step::Revalue);
        let mut revalued = dearer;
        let own = kept(&revalued);
        keep(&mut revalued, own);
        assert_eq!(revalued.locked_amount, Some(250.into()));

        let dollars = Deal {
            currency: Currency::USD,
            ..locked.clone()
        };
        assert_eq!(decide(Some(&locked), &dollars), Step::Lock);
        let unlocked = Deal {
            amount: None,
            ..won.clone()
        };
        assert_eq!(decide(Some(&unlocked), &won), Step::Lock);
    }

    #[test]
    fn a_worth_without_room_leaves_the_deal_unlocked() {
        let mut won = deal(DealStatus::Won);
        keep(&mut won, Some(rate(Decimal::from(10_000_000_000_000_i64))));
        assert_eq!(won.locked_rate, None);
        won.amount = Some(Decimal::MAX);
        keep(&mut won, Some(rate(Decimal::from(2))));
        assert_eq!((won.locked_rate, won.locked_amount), (None, None));
        won.amount = None;
        keep(&mut won, Some(rate(Decimal::from(2))));
        assert_eq!(won.locked_rate, Some(2.into()));
        assert_eq!(won.locked_amount, None);
    }
}

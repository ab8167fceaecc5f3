//! What deals are worth together: each currency on its own, or told in one with every rate named.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};

use super::Deal;
use crate::currencies::{
    ConversionError, Converted, ConvertedTotals, ExchangeRates, Via, rates_on,
};
use crate::engine::Records;
use crate::error::Result;
use crate::query::{Aggregate, Filter, Group};
use crate::schema::Value;
use crate::value::{Currency, Money, TextValue, Totals, ValueError};

/// What deals are worth together, each currency on its own (R-085).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DealTotals {
    /// How many deals, those without an amount included.
    pub count: u64,
    /// Their amounts.
    pub amounts: Totals,
}

/// What deals are worth together in one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConvertedDeals {
    /// How many deals, those without an amount included.
    pub count: u64,
    /// Their amounts, each currency on its own.
    pub amounts: Totals,
    /// The sum in the currency asked for, with every rate that took part: the deals of one part
    /// have one currency and one rate.
    pub converted: ConvertedTotals,
}

/// What closed deals were worth by the exchange rates that they keep ([`Deal::locked_rate`]), each
/// rate on its own. Deals in the currency that was the base currency when they closed are not among
/// them: they need no rate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockedTotals(BTreeMap<LockedRate, Sums>);

/// The rate that deals keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LockedRate {
    from: Currency,
    to: Currency,
    date: NaiveDate,
    rate: Decimal,
}

/// What deals of one rate come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    amount: Decimal,
    worth: Decimal,
}

/// Groups deals by their currency and the rate that they keep, as [`LockedRate::of`] reads it.
pub(crate) fn by_rate(deals: Aggregate<Deal>) -> Aggregate<Deal> {
    deals
        .group_by(Deal::CURRENCY)
        .group_by(Deal::LOCKED_CURRENCY)
        .group_by(Deal::LOCKED_RATE)
        .group_by(Deal::LOCKED_RATE_DATE)
}

impl LockedRate {
    /// The rate of a group of deals whose currency, locked currency, locked rate and its date are
    /// the keys at `place` and behind it; none where they keep none, or need none.
    pub(crate) fn of(group: &Group, place: usize) -> Option<Self> {
        let from = currency_at(group, place)?;
        let to = currency_at(group, place + 1).filter(|to| *to != from)?;
        let date = match group.keys.get(place + 3)? {
            Value::Date(date) => *date,
            _ => return None,
        };
        let rate = group.key(place + 2).as_decimal()?;
        Some(Self {
            from,
            to,
            date,
            rate,
        })
    }
}

impl LockedTotals {
    /// The sum of each rate: what the deals are worth in their own currency, what that was worth
    /// when they closed, and the rate, which is [`Via::Locked`].
    pub fn parts(&self) -> impl Iterator<Item = Converted> {
        self.0.iter().map(|(rate, sums)| Converted {
            from: Money::new(sums.amount, rate.from),
            money: Money::new(sums.worth, rate.to).rounded(),
            rate: rate.rate,
            rate_date: rate.date,
            via: Via::Locked,
        })
    }

    /// Whether no deal keeps a rate.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what deals with a rate are worth, in their own currency and by the rate.
    pub(crate) fn add(
        &mut self,
        rate: LockedRate,
        amount: Decimal,
        worth: Decimal,
    ) -> Result<(), ValueError> {
        let sums = self.0.entry(rate).or_default();
        let amount = Money::new(sums.amount, rate.from).checked_add(&Money::new(amount, rate.from));
        let worth = Money::new(sums.worth, rate.to).checked_add(&Money::new(worth, rate.to));
        *sums = Sums {
            amount: amount?.amount(),
            worth: worth?.amount(),
        };
        Ok(())
    }

    /// Adds others.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), ValueError> {
        for (rate, sums) in &other.0 {
            self.add(*rate, sums.amount, sums.worth)?;
        }
        Ok(())
    }

    /// Tells the amounts of deals, of which these are a part, in one currency: amounts in that
    /// currency count as they are, what was locked in it by its rate, and the worth that was locked
    /// in another one as well as all else by the rates that count on a day. Each of these currencies
    /// is summed before it is converted, and what comes to nothing needs no rate.
    pub(crate) fn converted(
        &self,
        amounts: &Totals,
        rates: &ExchangeRates,
        to: Currency,
        on: NaiveDate,
    ) -> Result<ConvertedTotals, ConversionError> {
        let too_large = |_| ConversionError::OutOfRange { to };
        let mut others = amounts.clone();
        let mut told = Vec::new();
        for part in self.parts().filter(|part| part.from.currency() != to) {
            let taken = Money::new(-part.from.amount(), part.from.currency());
            others.add(&taken).map_err(too_large)?;
            if part.money.currency() == to {
                told.push(part);
            } else {
                others.add(&part.money).map_err(too_large)?;
            }
        }
        let others = others.iter().filter(|money| !money.amount().is_zero());
        let others = Totals::of(others).map_err(too_large)?;
        told.extend(others.converted(rates, to, on)?.parts);
        ConvertedTotals::of(to, told)
    }
}

/// A list, since a rate is no name.
impl Serialize for LockedTotals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.parts())
    }
}

impl Records<'_, Deal> {
    /// What the deals that fulfil a filter are worth together, each currency on its own (R-085).
    /// One round trip, whatever their number. A filter by names, custom fields among them, serves like
    /// a typed one. Deleted and archived deals do not count.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result, deals::{Deal, DealStatus}, value::Currency};
    /// # async fn example(session: &Session) -> Result<()> {
    /// let open = session.deals().total(Deal::STATUS.eq(DealStatus::Open)).await?;
    /// println!("{} deals: {}", open.count, open.amounts);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Query`](crate::Error::Query).
    pub async fn total(&self, filter: impl Into<Filter>) -> Result<DealTotals> {
        let totals = Aggregate::new()
            .filter_by_name(filter.into())
            .group_by(Deal::CURRENCY)
            .count()
            .sum(Deal::AMOUNT);
        let mut sum = DealTotals::default();
        for group in self.aggregate(totals).await? {
            let Some(currency) = currency_at(&group, 0) else {
                continue;
            };
            sum.count += group.count(0);
            let amount = group.number(1).unwrap_or_default();
            sum.amounts.add(&Money::new(amount, currency))?;
        }
        Ok(sum)
    }

    /// What the deals that fulfil a filter are worth together in one currency.
    ///
    /// Deals in that currency count as they are. Closed deals count with what they were worth when
    /// they closed, by the rate that each keeps ([`Via::Locked`]); where another currency than the
    /// base currency of that time is asked for, that worth is converted. Open deals, and closed ones
    /// without a rate, are converted by the rates that count on `on`, usually today. Each currency
    /// is summed before it is converted, and rounded once. Sums are made by the storage, whatever
    /// the number of deals.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result, deals::{Deal, DealStatus}, value::Currency};
    /// # async fn example(session: &Session) -> Result<()> {
    /// let today = session.engine().clock().now().date_naive();
    /// let won = Deal::STATUS.eq(DealStatus::Won);
    /// let worth = session.deals().total_in(won, Currency::EUR, today).await?;
    /// for part in &worth.converted.parts {
    ///     println!("{} = {} at {} of {}", part.from, part.money, part.rate, part.rate_date);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) `missing_rate`, naming pair and day;
    /// [`Error::Query`](crate::Error::Query).
    pub async fn total_in(
        &self,
        filter: impl Into<Filter>,
        to: Currency,
        on: NaiveDate,
    ) -> Result<ConvertedDeals> {
        let parts = by_rate(Aggregate::new().filter_by_name(filter.into()))
            .count()
            .sum(Deal::AMOUNT)
            .sum(Deal::LOCKED_AMOUNT);
        let groups = self.aggregate(parts).await?;
        let rates = rates_on(self.workspace.reading(&mut None), on).await?;
        let (mut count, mut amounts) = (0, Totals::new());
        let mut locked = LockedTotals::default();
        for group in &groups {
            let Some(currency) = currency_at(group, 0) else {
                continue;
            };
            let sum = |index| group.number(index).unwrap_or_default();
            count += group.count(0);
            amounts.add(&Money::new(sum(1), currency))?;
            if let Some(rate) = LockedRate::of(group, 0) {
                locked.add(rate, sum(1), sum(2))?;
            }
        }
        Ok(ConvertedDeals {
            count,
            converted: locked.converted(&amounts, &rates, to, on)?,
            amounts,
        })
    }
}

fn currency_at(group: &Group, index: usize) -> Option<Currency> {
    Currency::parse(group.key(index).as_text()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::currencies::ExchangeRate;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_locked_counts_as_it_is_and_the_rest_by_the_rate_of_the_day() {
        let day = |day| NaiveDate::from_ymd_opt(2026, 1, day).unwrap();
        let number = |text: &str| text.parse::<Decimal>().unwrap();
        let rate = |rate| ExchangeRate::new(Currency::EUR, Currency::USD, day(1), number(rate));
        let rates = ExchangeRates::new(Currency::USD, [&rate("2")]);
        let mut amounts = Totals::new();
        let mut locked = LockedTotals::default();
        for open in ["10 EUR", "5 USD", "7 USD"] {
            amounts.add(&money(open)).unwrap();
        }
        for (rate, worth) in [("1.1", "110"), ("1.2", "120")] {
            let rate = LockedRate {
                from: Currency::EUR,
                to: Currency::USD,
                date: day(1),
                rate: number(rate),
            };
            amounts.add(&money("100 EUR")).unwrap();
            locked.add(rate, number("60"), number(worth)).unwrap();
            locked.add(rate, number("40"), Decimal::ZERO).unwrap();
        }
        let told = |to, on| locked.converted(&amounts, &rates, to, on);
        let dollars = told(Currency::USD, day(2)).unwrap();
        assert_eq!(dollars.total, money("262 USD"));
        let named: Vec<_> = dollars
            .parts
            .iter()
            .map(|part| part.rate.to_string())
            .collect();
        assert_eq!(named, ["1.1", "1.2", "2", "1"]);
        // What is in euros needs no rate to be told in euros, whatever it was worth once.
        let euros = told(Currency::EUR, day(2)).unwrap();
        assert_eq!(euros.total, money("216 EUR"));
        let error = told(Currency::CHF, day(2)).unwrap_err();
        assert!(matches!(error, ConversionError::MissingRate(_)));
        // Where everything is locked no other rate is needed.
        let amounts = Totals::of([money("200 EUR")]).unwrap();
        let none = ExchangeRates::new(Currency::USD, []);
        let dollars = locked.converted(&amounts, &none, Currency::USD, day(2));
        assert_eq!(dollars.unwrap().total, money("230 USD"));
    }
}

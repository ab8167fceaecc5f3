//! What deals are worth together: each currency on its own, or told in one with every rate named.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::Serialize;

use super::Deal;
use crate::currencies::{
    ConversionError, Converted, ConvertedTotals, ExchangeRates, Via, rates_on,
};
use crate::engine::Records;
use crate::error::Result;
use crate::query::{Aggregate, Filter, Group};
use crate::schema::Value;
use crate::value::{Currency, Money, TextValue, Totals};

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

/// Deals of one currency with one rate.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    count: u64,
    amount: Money,
    /// The rate that these deals keep.
    locked: Option<Locked>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Locked {
    rate: Decimal,
    date: NaiveDate,
    worth: Money,
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
    /// Closed deals count with what they were worth when they closed, by the rate that each keeps
    /// ([`Via::Locked`]); where another currency than the base currency of that time is asked for,
    /// that worth is converted. Open deals, and closed ones without a rate, are converted by the
    /// rates that count on `on`, usually today. Each currency is summed before it is converted, and
    /// rounded once. Sums are made by the storage, whatever the number of deals.
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
        let parts = Aggregate::new()
            .filter_by_name(filter.into())
            .group_by(Deal::CURRENCY)
            .group_by(Deal::LOCKED_CURRENCY)
            .group_by(Deal::LOCKED_RATE)
            .group_by(Deal::LOCKED_RATE_DATE)
            .count()
            .sum(Deal::AMOUNT)
            .sum(Deal::LOCKED_AMOUNT);
        let groups = self.aggregate(parts).await?;
        let parts: Vec<Part> = groups.iter().filter_map(part_of).collect();
        let rates = rates_on(self.workspace.reading(&mut None), on).await?;
        let mut amounts = Totals::new();
        for part in &parts {
            amounts.add(&part.amount)?;
        }
        Ok(ConvertedDeals {
            count: parts.iter().map(|part| part.count).sum(),
            amounts,
            converted: convert(&parts, &rates, to, on)?,
        })
    }
}

/// Tells parts in one currency: what was locked in it counts as it is, all else is summed by
/// currency and converted.
fn convert(
    parts: &[Part],
    rates: &ExchangeRates,
    to: Currency,
    on: NaiveDate,
) -> Result<ConvertedTotals, ConversionError> {
    let too_large = |_| ConversionError::OutOfRange { to };
    let mut told = Vec::new();
    let mut others = Totals::new();
    for part in parts {
        match part.locked {
            Some(locked) if locked.worth.currency() == to => told.push(Converted {
                from: part.amount,
                money: locked.worth,
                rate: locked.rate,
                rate_date: locked.date,
                via: Via::Locked,
            }),
            Some(locked) => others.add(&locked.worth).map_err(too_large)?,
            None => others.add(&part.amount).map_err(too_large)?,
        }
    }
    told.extend(others.converted(rates, to, on)?.parts);
    ConvertedTotals::of(to, told)
}

fn part_of(group: &Group) -> Option<Part> {
    let currency = currency_at(group, 0)?;
    let locked = currency_at(group, 1).and_then(|base| {
        let date = match group.keys.get(3)? {
            Value::Date(date) => *date,
            _ => return None,
        };
        Some(Locked {
            rate: group.key(2).as_decimal()?,
            date,
            worth: Money::new(group.number(2).unwrap_or_default(), base),
        })
    });
    Some(Part {
        count: group.count(0),
        amount: Money::new(group.number(1).unwrap_or_default(), currency),
        locked,
    })
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
        let open = |amount| Part {
            count: 1,
            amount: money(amount),
            locked: None,
        };
        let closed = |amount, rate, worth| Part {
            count: 1,
            amount: money(amount),
            locked: Some(Locked {
                rate: number(rate),
                date: day(1),
                worth: money(worth),
            }),
        };
        let parts = [
            open("10 EUR"),
            open("5 USD"),
            closed("100 EUR", "1.1", "110 USD"),
            closed("100 EUR", "1.2", "120 USD"),
            closed("7 USD", "1", "7 USD"),
        ];
        let dollars = convert(&parts, &rates, Currency::USD, day(2)).unwrap();
        assert_eq!(dollars.total, money("262 USD"));
        let named: Vec<_> = dollars
            .parts
            .iter()
            .map(|part| part.rate.to_string())
            .collect();
        assert_eq!(named, ["1.1", "1.2", "1", "2", "1"]);
        // Told in euros, what was locked in dollars is converted by the rate of the day.
        let euros = convert(&parts, &rates, Currency::EUR, day(2)).unwrap();
        assert_eq!(euros.total, money("131 EUR"));
        let error = convert(&parts, &rates, Currency::CHF, day(2)).unwrap_err();
        assert!(matches!(error, ConversionError::MissingRate(_)));
    }
}

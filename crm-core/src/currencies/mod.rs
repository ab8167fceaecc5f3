//! Currencies: dated exchange rates of a tenant, and sums of several currencies told in one.
//!
//! Money of different currencies is never added (R-085). What shall be told in one currency is
//! converted first, part by part, and each part names the rate that it was converted with.
//!
//! A rate holds from its day on, until the next one of the same pair. Which rate counts on a day is
//! looked for in this order:
//!
//! ```text
//! 1. the newest EUR -> USD on or before the day          Via::Direct
//! 2. the newest USD -> EUR, turned around                Via::Inverse
//! 3. EUR -> base currency -> USD, each leg as 1 or 2     Via::Base
//! 4. none: the answer names the pair and the day         MissingRate
//! ```
//!
//! The base currency is the tenant's setting `currency`
//! ([`Configurations::base_currency`](crate::tenancy::Configurations::base_currency)).
//!
//! [`ExchangeRates`] is the pure part: rates, and what can be asked of them. A converted amount is
//! rounded once, to the minor units of its currency, halves to the even neighbour.
//!
//! ```
//! # use crm_core::{Session, error::Result};
//! use crm_core::deals::{Deal, DealStatus};
//! use crm_core::value::Currency;
//! # async fn example(session: &Session) -> Result<()> {
//! let day = session.engine().clock().now().date_naive();
//! let (eur, usd) = (Currency::EUR, Currency::USD);
//! session.exchange_rates().set(eur, usd, day, "1.0312".parse().unwrap(), Some("bank")).await?;
//! let dollars = session.exchange_rates().convert("100 EUR".parse()?, usd, day).await?;
//! assert_eq!(dollars.money.to_string(), "103.12 USD");
//! // Of many deals in several currencies, each part names its rate.
//! let open = Deal::STATUS.eq(DealStatus::Open);
//! for part in session.deals().total_in(open, usd, day).await?.converted.parts {
//!     println!("{} = {} at {}", part.from, part.money, part.rate);
//! }
//! # Ok(())
//! # }
//! ```

mod load;
mod rates;

use std::cmp::Reverse;
use std::sync::Arc;

use chrono::NaiveDate;
use rust_decimal::Decimal;

pub(crate) use load::{rates_on, remembered_base};
pub use rates::{
    ConversionError, Converted, ConvertedTotals, ExchangeRates, MissingRate, Rate, Via,
};

use crate::engine::{Records, in_work};
use crate::error::{Faults, Result, codes};
use crate::query::WhereExt;
use crate::record::Record;
use crate::schema::Entity;
use crate::value::{Currency, Money};

/// How much one unit of a currency is worth in another one, from a day on.
///
/// ```
/// use chrono::NaiveDate;
/// use crm_core::currencies::ExchangeRate;
/// use crm_core::value::Currency;
/// use rust_decimal::Decimal;
///
/// // From 2 January on, one euro is 1.0312 dollars.
/// let day = NaiveDate::from_ymd_opt(2026, 1, 2).unwrap();
/// let rate = ExchangeRate {
///     source: Some("European Central Bank".into()),
///     ..ExchangeRate::new(Currency::EUR, Currency::USD, day, Decimal::new(10_312, 4))
/// };
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "exchange_rate",
    table = "exchange_rates",
    unique(from_currency, to_currency, effective_date; live),
    index(effective_date),
    check = check_rate
)]
pub struct ExchangeRate {
    /// The currency of which there is one unit.
    #[field(required)]
    pub from_currency: Currency,
    /// The currency in which that unit is worth the rate.
    #[field(required)]
    pub to_currency: Currency,
    /// The first day on which it holds.
    #[field(required)]
    pub effective_date: NaiveDate,
    /// How many units of the other currency; greater than zero, at most ten decimals.
    #[field(required, precision = 22, scale = 10, min = 0)]
    pub rate: Decimal,
    /// Where it comes from.
    #[field(max_len = 255)]
    pub source: Option<String>,
}

fn check_rate(rate: &ExchangeRate, faults: &mut Faults) {
    if rate.rate <= Decimal::ZERO {
        let message = "must be greater than zero";
        faults.add(ExchangeRate::RATE.name(), codes::OUT_OF_RANGE, message);
    }
    if rate.from_currency == rate.to_currency {
        let message = "must be another currency than `from_currency`";
        let field = ExchangeRate::TO_CURRENCY.name();
        faults.add(field, codes::INCONSISTENT, message);
    }
}

impl Records<'_, ExchangeRate> {
    /// Sets the rate of a pair from a day on: changes the one of that very day, or adds one.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result, value::{Currency, Money}};
    /// # use rust_decimal::Decimal;
    /// # async fn example(session: &Session) -> Result<()> {
    /// let day = "2026-01-02".parse().unwrap();
    /// let rates = || session.exchange_rates();
    /// rates().set(Currency::EUR, Currency::USD, day, Decimal::new(125, 2), Some("bank")).await?;
    ///
    /// let price = Money::new(100.into(), Currency::EUR);
    /// let converted = rates().convert(price, Currency::USD, day).await?;
    /// assert_eq!(converted.money.to_string(), "125.00 USD");
    /// assert_eq!(converted.rate_date, day);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Validation`](crate::Error::Validation) for a rate that is not greater than zero or
    /// has more than ten decimals, and for two equal currencies.
    pub async fn set(
        &mut self,
        from: Currency,
        to: Currency,
        effective_date: NaiveDate,
        rate: Decimal,
        source: Option<&str>,
    ) -> Result<Arc<Record<ExchangeRate>>> {
        in_work!(self.workspace, |work| {
            // Two who set the first rate of a day: the slower one changes the other's.
            work.contend(
                "exchange_rate",
                &["from_currency", "to_currency", "effective_date"],
            );
            let same = ExchangeRate::FROM_CURRENCY
                .eq(from)
                .and(ExchangeRate::TO_CURRENCY.eq(to))
                .and(ExchangeRate::EFFECTIVE_DATE.eq(effective_date));
            let known = work.find_all(same, Vec::new()).await?.pop();
            let source = source.map(str::to_owned);
            match known {
                Some(known) => {
                    let change = |known: &mut ExchangeRate| {
                        known.rate = rate;
                        known.source.clone_from(&source);
                    };
                    work.update_record(known, &change).await
                }
                None => {
                    work.create(ExchangeRate {
                        source,
                        ..ExchangeRate::new(from, to, effective_date, rate)
                    })
                    .await
                }
            }
        })
    }

    /// All rates that were set for a pair in this direction, the newest first.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn list(
        &self,
        from: Currency,
        to: Currency,
    ) -> Result<Vec<Arc<Record<ExchangeRate>>>> {
        let pair = ExchangeRate::FROM_CURRENCY
            .eq(from)
            .and(ExchangeRate::TO_CURRENCY.eq(to));
        let mut rates = self.workspace.find_all(pair).await?;
        rates.sort_by_key(|rate| Reverse(rate.effective_date));
        Ok(rates)
    }

    /// The rates that count on a day, for many questions without a round trip each. The newest of
    /// each pair is read, however many days have rates: at most four round trips.
    /// A rate that another process set counts here at the latest five seconds later.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result, value::{Currency, Totals}};
    /// # async fn example(session: &Session, revenue: Totals) -> Result<()> {
    /// let today = session.engine().clock().now().date_naive();
    /// let rates = session.exchange_rates().on(today).await?;
    /// let euros = revenue.converted(&rates, Currency::EUR, today)?;
    /// println!("{} at {} rates", euros.total, euros.parts.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn on(&self, day: NaiveDate) -> Result<Arc<ExchangeRates>> {
        rates_on(self.workspace.reading(&mut None), day).await
    }

    /// The rates that count on the days of a period, its last day included: those of
    /// [`on`](Self::on) for the first day, and all that were set since.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn between(&self, first: NaiveDate, last: NaiveDate) -> Result<ExchangeRates> {
        load::rates_between(self.workspace.reading(&mut None), first, last).await
    }

    /// The rate of a pair that counts on a day, as told at the [module](self).
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) `missing_rate`, naming pair and day.
    pub async fn rate_on(&self, from: Currency, to: Currency, day: NaiveDate) -> Result<Rate> {
        Ok(self.on(day).await?.rate(from, to, day)?)
    }

    /// An amount in another currency, by the rate that counts on a day.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) `missing_rate`, naming pair and day;
    /// [`Error::Validation`](crate::Error::Validation) if the result has too many digits.
    pub async fn convert(&self, money: Money, to: Currency, day: NaiveDate) -> Result<Converted> {
        Ok(self.on(day).await?.convert(money, to, day)?)
    }
}

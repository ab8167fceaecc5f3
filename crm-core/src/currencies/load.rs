//! Reads exchange rates: of each pair only what may be asked for, and today's without a round trip
//! each time.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::NaiveDate;

use super::{ExchangeRate, ExchangeRates};
use crate::engine::{Remembered, UnitOfWork};
use crate::error::Result;
use crate::query::{Aggregate, Filter, Group, WhereExt};
use crate::schema::{Entity, Value};
use crate::tenancy::base_currency;
use crate::value::Currency;

/// The base currency of a tenant.
struct Base(Currency);

#[async_trait]
impl Remembered for Base {
    const OBJECTS: &'static [&'static str] = &["tenant_configuration", "tenant"];

    async fn load(work: &UnitOfWork) -> Result<Self> {
        base_currency(work).await.map(Self)
    }
}

/// The rates that count today, which most questions are about.
struct Todays {
    on: NaiveDate,
    rates: Arc<ExchangeRates>,
}

#[async_trait]
impl Remembered for Todays {
    const OBJECTS: &'static [&'static str] = &["exchange_rate", "tenant_configuration", "tenant"];

    async fn load(work: &UnitOfWork) -> Result<Self> {
        let on = work.now().date_naive();
        let rates = Arc::new(rates_between(work, on, on).await?);
        Ok(Self { on, rates })
    }
}

/// The rates that count on a day. Those of today may be five seconds old where another process
/// set one.
pub(crate) async fn rates_on(work: &UnitOfWork, day: NaiveDate) -> Result<Arc<ExchangeRates>> {
    if day == work.now().date_naive() {
        let todays = work.remembered::<Todays>().await?;
        // Not those of yesterday, just after midnight.
        if todays.on == day {
            return Ok(todays.rates.clone());
        }
    }
    rates_between(work, day, day).await.map(Arc::new)
}

/// The rates that count on the days of a period: of each pair the newest at its first day, and all
/// that were set since.
pub(super) async fn rates_between(
    work: &UnitOfWork,
    first: NaiveDate,
    last: NaiveDate,
) -> Result<ExchangeRates> {
    let base = work.remembered::<Base>().await?.0;
    let until = ExchangeRate::EFFECTIVE_DATE.le(last);
    let wanted = match newest_days(work, first).await? {
        Some(days) => {
            let newest = ExchangeRate::EFFECTIVE_DATE.one_of(days);
            let since = ExchangeRate::EFFECTIVE_DATE.gt(first);
            newest.or(since).and(until)
        }
        None => until,
    };
    let rates = work.find_all(wanted, Vec::new()).await?;
    Ok(ExchangeRates::new(
        base,
        rates.iter().map(|rate| &rate.data),
    ))
}

/// The days of the newest rates of all pairs at a day; `None` where that would not spare anything.
async fn newest_days(work: &UnitOfWork, day: NaiveDate) -> Result<Option<Vec<NaiveDate>>> {
    let is_rate = |object| object == ExchangeRate::schema();
    if work.staged().iter().any(|change| is_rate(change.object())) {
        return Ok(None);
    }
    let newest = Aggregate::<ExchangeRate>::new()
        .filter(ExchangeRate::EFFECTIVE_DATE.le(day))
        .with_archived()
        .group_by(ExchangeRate::FROM_CURRENCY)
        .group_by(ExchangeRate::TO_CURRENCY)
        .max(ExchangeRate::EFFECTIVE_DATE);
    // The session answers from the storage: nothing of this is staged.
    let pairs = work.session().exchange_rates().aggregate(newest).await?;
    let newest = |pair: &Group| match pair.measures.first() {
        Some(Value::Date(day)) => Some(*day),
        _ => None,
    };
    let days: BTreeSet<NaiveDate> = pairs.iter().filter_map(newest).collect();
    Ok((days.len() <= Filter::MAX_VALUES).then(|| days.into_iter().collect()))
}

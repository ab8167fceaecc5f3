//! Reads exchange rates: of each pair only what may be asked for, and not anew for each question.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::{Datelike, Months, NaiveDate};

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

/// How many months' rates are remembered of a tenant at once.
const MONTHS: usize = 36;

/// The rates of the months that were asked for lately, by their first days: of this one, and those of
/// an import of deals that were closed long ago.
#[derive(Default)]
struct Lately(Mutex<HashMap<NaiveDate, Arc<ExchangeRates>>>);

impl Lately {
    fn months(&self) -> MutexGuard<'_, HashMap<NaiveDate, Arc<ExchangeRates>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Remembered for Lately {
    const OBJECTS: &'static [&'static str] = &["exchange_rate", "tenant_configuration", "tenant"];

    /// Begins empty: a month is read when it is asked for.
    async fn load(_: &UnitOfWork) -> Result<Self> {
        Ok(Self::default())
    }
}

/// The currency in which the tenant reckons, without a round trip each time.
pub(crate) async fn remembered_base(work: &UnitOfWork) -> Result<Currency> {
    Ok(work.remembered::<Base>().await?.0)
}

/// The rates that count on a day. They may be five seconds old where another process set one.
pub(crate) async fn rates_on(work: &UnitOfWork, day: NaiveDate) -> Result<Arc<ExchangeRates>> {
    let lately = work.remembered::<Lately>().await?;
    let first = day.with_day(1).unwrap_or(day);
    let next = first.checked_add_months(Months::new(1));
    let last = next.and_then(|next| next.pred_opt()).unwrap_or(day);
    if let Some(known) = lately.months().get(&first) {
        return Ok(known.clone());
    }
    let rates = Arc::new(rates_between(work, first, last).await?);
    let mut months = lately.months();
    if months.len() >= MONTHS {
        months.clear();
    }
    months.insert(first, rates.clone());
    Ok(rates)
}

/// The rates that count on the days of a period: of each pair the newest at its first day, and all
/// that were set since.
pub(super) async fn rates_between(
    work: &UnitOfWork,
    first: NaiveDate,
    last: NaiveDate,
) -> Result<ExchangeRates> {
    let base = remembered_base(work).await?;
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

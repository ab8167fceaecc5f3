//! [`Forecast`]: deals counted and added up by category, each currency on its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use chrono::NaiveDate;
use serde::Serialize;
use uuid::Uuid;

use super::{ForecastCategory, Period};
use crate::currencies::{ConversionError, ConvertedTotals, ExchangeRates};
use crate::deals::{LockedRate, LockedTotals};
use crate::error::{Error, Result};
use crate::query::Group;
use crate::storage::StorageError;
use crate::value::{Currency, Money, TextValue, Totals, ValueError};

/// What the deals of one category come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CategoryForecast {
    /// How many deals there are, those without an amount included.
    pub deals: u64,
    /// What they are worth.
    pub amount: Totals,
    /// What they are worth, each amount times the probability that counts; not rounded.
    pub weighted: Totals,
    /// What those of them were worth when they closed that keep an exchange rate: a part of
    /// `amount`.
    #[serde(skip_serializing_if = "LockedTotals::is_empty")]
    pub locked: LockedTotals,
    /// The same part of `weighted`.
    #[serde(skip_serializing_if = "LockedTotals::is_empty")]
    pub locked_weighted: LockedTotals,
}

impl CategoryForecast {
    fn merge(&mut self, other: &Self) -> Result<(), ValueError> {
        self.deals = self.deals.saturating_add(other.deals);
        self.amount.merge(&other.amount)?;
        self.weighted.merge(&other.weighted)?;
        self.locked.merge(&other.locked)?;
        self.locked_weighted.merge(&other.locked_weighted)
    }

    /// The amount in one currency: won deals by the rates that they keep since they closed, as
    /// [`total_in`](crate::engine::Records::total_in) tells them, all else by the rates that count
    /// on a day.
    ///
    /// # Errors
    /// [`ConversionError`], for the first currency at fault.
    pub fn amount_in(
        &self,
        rates: &ExchangeRates,
        to: Currency,
        on: NaiveDate,
    ) -> Result<ConvertedTotals, ConversionError> {
        self.locked.converted(&self.amount, rates, to, on)
    }

    /// The weighted amount in one currency, by the same rates.
    ///
    /// # Errors
    /// [`ConversionError`], for the first currency at fault.
    pub fn weighted_in(
        &self,
        rates: &ExchangeRates,
        to: Currency,
        on: NaiveDate,
    ) -> Result<ConvertedTotals, ConversionError> {
        let locked = &self.locked_weighted;
        locked.converted(&self.weighted, rates, to, on)
    }
}

/// What sales are forecast, by category (C-014). Each open deal is in exactly one category, deals
/// that were won are closed, and deals that were lost are nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// The period in which deals close; none for deals of all times, undated ones included.
    pub period: Option<Period>,
    /// Every category that has a deal.
    pub categories: BTreeMap<ForecastCategory, CategoryForecast>,
}

impl Forecast {
    /// A forecast without deals.
    #[must_use]
    pub const fn empty(period: Option<Period>) -> Self {
        Self {
            period,
            categories: BTreeMap::new(),
        }
    }

    /// What the deals of a category come to.
    #[must_use]
    pub fn of(&self, category: ForecastCategory) -> CategoryForecast {
        self.categories.get(&category).cloned().unwrap_or_default()
    }

    /// What was won.
    #[must_use]
    pub fn closed(&self) -> Totals {
        self.of(ForecastCategory::Closed).amount
    }

    /// What all open deals come to that count.
    ///
    /// # Errors
    /// [`Error::Validation`] `out_of_range` if a sum becomes too great.
    pub fn open(&self) -> Result<CategoryForecast> {
        self.sum(&ForecastCategory::OPEN)
    }

    /// What was won, and what is open and at least as sure as a category: with
    /// [`Commit`](ForecastCategory::Commit) what is won, what comes in the worst case and what is
    /// committed.
    ///
    /// ```
    /// use crm_core::forecasts::{Forecast, ForecastCategory};
    ///
    /// let forecast = Forecast::default();
    /// let committed = forecast.at_least(ForecastCategory::Commit)?;
    /// assert!(committed.amount.is_empty());
    /// # Ok::<(), crm_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Validation`] `out_of_range` if a sum becomes too great.
    pub fn at_least(&self, category: ForecastCategory) -> Result<CategoryForecast> {
        let surer = ForecastCategory::ALL.iter().copied();
        let surer = surer.filter(|one| *one >= category && *one != ForecastCategory::Omitted);
        self.sum(&surer.collect::<Vec<_>>())
    }

    /// What was won, and what is open weighted with its probability.
    ///
    /// # Errors
    /// [`Error::Validation`] `out_of_range` if a sum becomes too great.
    pub fn expected(&self) -> Result<Totals> {
        let mut expected = self.closed();
        expected.merge(&self.open()?.weighted)?;
        Ok(expected)
    }

    /// The forecast in one currency. Deals that were won count by the exchange rate that each
    /// [keeps](crate::deals::Deal::locked_rate) since it was closed, so that what is won does not
    /// change with later rates; all else counts by the rates of a day. Each part names its rate
    /// (R-085).
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// use crm_core::forecasts::{ForecastCategory, ForecastQuery};
    /// use crm_core::value::Currency;
    /// # async fn example(session: &Session) -> Result<()> {
    /// let forecast = session.forecasts().forecast(&ForecastQuery::default()).await?;
    /// let day = "2026-01-31".parse().unwrap();
    /// let rates = session.exchange_rates().on(day).await?;
    /// let in_euros = forecast.converted(&rates, Currency::EUR, day)?;
    /// if let Some(commit) = in_euros.categories.get(&ForecastCategory::Commit) {
    ///     println!("{} with {:?}", commit.amount.total, commit.amount.parts);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ConversionError`], for the first currency at fault.
    pub fn converted(
        &self,
        rates: &ExchangeRates,
        to: Currency,
        on: NaiveDate,
    ) -> Result<ConvertedForecast, ConversionError> {
        let convert = |(category, one): (&ForecastCategory, &CategoryForecast)| {
            let converted = ConvertedCategory {
                deals: one.deals,
                amount: one.amount_in(rates, to, on)?,
                weighted: one.weighted_in(rates, to, on)?,
            };
            Ok::<_, ConversionError>((*category, converted))
        };
        Ok(ConvertedForecast {
            period: self.period,
            categories: self
                .categories
                .iter()
                .map(convert)
                .collect::<Result<_, _>>()?,
        })
    }

    fn sum(&self, categories: &[ForecastCategory]) -> Result<CategoryForecast> {
        let mut sum = CategoryForecast::default();
        for category in categories {
            if let Some(one) = self.categories.get(category) {
                sum.merge(one)?;
            }
        }
        Ok(sum)
    }

    /// Adds another forecast.
    pub(super) fn merge(&mut self, other: &Self) -> Result<(), ValueError> {
        for (category, one) in &other.categories {
            self.categories.entry(*category).or_default().merge(one)?;
        }
        Ok(())
    }
}

/// A [`Forecast`] told in one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConvertedForecast {
    /// The period in which deals close.
    pub period: Option<Period>,
    /// Every category that has a deal.
    pub categories: BTreeMap<ForecastCategory, ConvertedCategory>,
}

/// What the deals of one category come to in one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConvertedCategory {
    /// How many deals there are.
    pub deals: u64,
    /// What they are worth, with the rates.
    pub amount: ConvertedTotals,
    /// What they are worth, each amount times the probability that counts.
    pub weighted: ConvertedTotals,
}

/// Puts groups together that have the same `key`. In each group the category and the currency are
/// the keys at `place` and behind it; the measures are count, sum and weighted sum. Where behind the
/// currency there are the keys of a [`LockedRate`], two more measures are the sum and the weighted
/// sum by that rate.
pub(super) fn fold<K: Ord>(
    groups: &[Group],
    place: usize,
    period: Option<Period>,
    key: impl Fn(&Group) -> Result<K>,
) -> Result<BTreeMap<K, Forecast>> {
    let mut forecasts = BTreeMap::new();
    for group in groups {
        let forecast = forecasts
            .entry(key(group)?)
            .or_insert_with(|| Forecast::empty(period));
        add(forecast, group, place)?;
    }
    Ok(forecasts)
}

fn add(forecast: &mut Forecast, group: &Group, place: usize) -> Result<()> {
    let category: ForecastCategory = text(group, place, str::parse)?;
    let currency = text(group, place + 1, Currency::parse)?;
    let one = forecast.categories.entry(category).or_default();
    one.deals = one.deals.saturating_add(group.count(0));
    let money = |index| Money::new(group.number(index).unwrap_or_default(), currency);
    one.amount.add(&money(1))?;
    one.weighted.add(&money(2))?;
    if let Some(rate) = LockedRate::of(group, place + 1) {
        let sum = |index| group.number(index).unwrap_or_default();
        one.locked.add(rate, sum(1), sum(3))?;
        one.locked_weighted.add(rate, sum(2), sum(4))?;
    }
    Ok(())
}

/// The key of a group as a value that is kept as a text.
fn text<T, E: Display>(
    group: &Group,
    place: usize,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T> {
    let text = group.key(place).as_text();
    text.and_then(|text| parse(text).ok()).ok_or_else(|| {
        Error::Storage(StorageError::Corrupt {
            object: "deal".to_owned(),
            fields: vec![format!("key {place} of a group")],
        })
    })
}

/// Sums over a tree: what each node has itself is also what everything above it has.
pub(super) fn roll_up(
    own: BTreeMap<Uuid, Forecast>,
    parents: &BTreeMap<Uuid, Option<Uuid>>,
    period: Option<Period>,
) -> Result<BTreeMap<Uuid, Forecast>, ValueError> {
    let nodes = parents.keys().copied();
    let mut sums: BTreeMap<Uuid, Forecast> =
        nodes.map(|node| (node, Forecast::empty(period))).collect();
    for (node, forecast) in own {
        let mut met = BTreeSet::new();
        let mut next = Some(node);
        while let Some(node) = next.filter(|node| met.insert(*node)) {
            if let Some(sum) = sums.get_mut(&node) {
                sum.merge(&forecast)?;
            }
            next = parents.get(&node).copied().flatten();
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rust_decimal::Decimal;

    use super::*;

    fn one(category: ForecastCategory, deals: u64, amount: i64, currency: Currency) -> Forecast {
        let totals = |amount| Totals::of([Money::new(amount, currency)]).unwrap();
        let amount = Decimal::from(amount);
        let own = CategoryForecast {
            deals,
            amount: totals(amount),
            weighted: totals(amount / Decimal::TWO),
            ..CategoryForecast::default()
        };
        Forecast {
            period: None,
            categories: BTreeMap::from([(category, own)]),
        }
    }

    #[test]
    fn what_is_at_least_as_sure_is_added_up() {
        let mut forecast = Forecast::default();
        for (place, category) in (0..).zip(ForecastCategory::ALL.iter().copied()) {
            let part = one(category, 1, 10_i64.pow(place), Currency::EUR);
            forecast.merge(&part).unwrap();
        }
        let sure = |category| forecast.at_least(category).unwrap().amount.to_string();
        assert_eq!(sure(ForecastCategory::Pipeline), "11111.00 EUR");
        assert_eq!(sure(ForecastCategory::BestCase), "11110.00 EUR");
        assert_eq!(sure(ForecastCategory::Commit), "11100.00 EUR");
        assert_eq!(sure(ForecastCategory::WorstCase), "11000.00 EUR");
        assert_eq!(sure(ForecastCategory::Closed), "10000.00 EUR");
        assert_eq!(forecast.open().unwrap().amount.to_string(), "1111.00 EUR");
        assert_eq!(forecast.open().unwrap().deals, 4);
        assert_eq!(forecast.expected().unwrap().to_string(), "10555.50 EUR");
    }

    proptest! {
        /// The top of a tree has everything below it, each part once, each currency on its own.
        #[test]
        fn a_tree_adds_up(
            parents in prop::collection::vec(prop::option::of(0..12_usize), 12),
            own in prop::collection::vec((0..12_usize, 0..6_usize, 1..1_000_i64, any::<bool>()), 0..30),
        ) {
            let id = |number: usize| Uuid::from_u128(number as u128 + 1);
            // Each hangs below one with a lesser number: a tree.
            let above = |(number, parent): (usize, &Option<usize>)| {
                (id(number), parent.filter(|parent| *parent < number).map(id))
            };
            let tree: BTreeMap<Uuid, Option<Uuid>> = parents.iter().enumerate().map(above).collect();
            let mut forecasts: BTreeMap<Uuid, Forecast> = BTreeMap::new();
            for (node, category, amount, is_dollar) in &own {
                let currency = if *is_dollar { Currency::USD } else { Currency::EUR };
                let part = one(ForecastCategory::ALL[*category], 1, *amount, currency);
                forecasts.entry(id(*node)).or_default().merge(&part).unwrap();
            }
            let sums = roll_up(forecasts, &tree, None).unwrap();
            for top in tree.keys() {
                let mut expected = Forecast::default();
                for (node, category, amount, is_dollar) in &own {
                    let mut at = Some(id(*node));
                    while let Some(node) = at.filter(|node| node != top) {
                        at = tree[&node];
                    }
                    if at.is_some() {
                        let currency = if *is_dollar { Currency::USD } else { Currency::EUR };
                        let part = one(ForecastCategory::ALL[*category], 1, *amount, currency);
                        expected.merge(&part).unwrap();
                    }
                }
                prop_assert_eq!(&sums[top], &expected);
            }
        }
    }

    /// Parents that form a circle, which no rule lets happen, do not make it run for ever.
    #[test]
    fn a_circle_ends() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let parents = BTreeMap::from([(a, Some(b)), (b, Some(a))]);
        let own = BTreeMap::from([(a, one(ForecastCategory::Commit, 1, 5, Currency::EUR))]);
        let sums = roll_up(own, &parents, None).unwrap();
        assert_eq!(sums[&a], sums[&b]);
    }
}

//! Counts, sums and the like over groups of records.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use chrono::{Datelike, Days, NaiveDate};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::condition::locate;
use super::find::Visibility;
use super::{Comparison, Condition, FieldAt, Filter, QueryError, Where};
use crate::schema::{
    AnyRecord, FieldOf, FieldType, FieldValue, ObjectRef, Registry, StorageKind, Value, ValueRef,
};
use crate::value::{Percent, TimeZone};

/// The most decimals of an average.
const AVERAGE_DECIMALS: u32 = 6;

/// A calendar unit to group by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalendarUnit {
    /// A day.
    Day,
    /// A week from Monday (ISO 8601).
    Week,
    /// A month.
    Month,
    /// A quarter of a calendar year.
    Quarter,
    /// A calendar year.
    Year,
}

impl CalendarUnit {
    /// The first day of the unit that `day` falls into.
    ///
    /// ```
    /// use chrono::NaiveDate;
    /// use crm_core::query::CalendarUnit;
    ///
    /// let day = NaiveDate::from_ymd_opt(2026, 5, 20).unwrap();
    /// assert_eq!(CalendarUnit::Quarter.start_of(day).to_string(), "2026-04-01");
    /// assert_eq!(CalendarUnit::Week.start_of(day).to_string(), "2026-05-18");
    /// ```
    #[must_use]
    pub fn start_of(self, day: NaiveDate) -> NaiveDate {
        let start = match self {
            Self::Day => Some(day),
            Self::Week => {
                day.checked_sub_days(Days::new(day.weekday().num_days_from_monday().into()))
            }
            Self::Month => day.with_day(1),
            Self::Quarter => NaiveDate::from_ymd_opt(day.year(), (day.month0() / 3) * 3 + 1, 1),
            Self::Year => NaiveDate::from_ymd_opt(day.year(), 1, 1),
        };
        start.unwrap_or(day)
    }
}

/// What to compute over the records of each group.
///
/// ```
/// use crm_core::deals::Deal;
/// use crm_core::query::{Aggregate, CalendarUnit};
/// use crm_core::value::TimeZone;
///
/// // Won value by quarter and currency.
/// let won = Aggregate::<Deal>::new()
///     .group_by_calendar(Deal::ACTUAL_CLOSE_DATE, CalendarUnit::Quarter, TimeZone::UTC)
///     .group_by(Deal::CURRENCY)
///     .count()
///     .sum(Deal::AMOUNT);
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound = "", default, deny_unknown_fields)]
pub struct Aggregate<E> {
    filter: Filter,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    group_by: Vec<GroupBy>,
    measures: Vec<NamedMeasure>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    archived: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
    #[serde(skip)]
    marker: PhantomData<fn() -> E>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupBy {
    field: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    by: Option<CalendarUnit>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    time_zone: Option<TimeZone>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NamedMeasure {
    Count,
    Sum(Cow<'static, str>),
    Average(Cow<'static, str>),
    Min(Cow<'static, str>),
    Max(Cow<'static, str>),
    WeightedSum {
        amount: Cow<'static, str>,
        percent: Cow<'static, str>,
    },
}

impl<E> Default for Aggregate<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Clone for Aggregate<E> {
    fn clone(&self) -> Self {
        Self {
            filter: self.filter.clone(),
            group_by: self.group_by.clone(),
            measures: self.measures.clone(),
            archived: self.archived,
            deleted: self.deleted,
            stale: self.stale,
            marker: PhantomData,
        }
    }
}

impl<E> std::fmt::Debug for Aggregate<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aggregate")
            .field("group_by", &self.group_by)
            .field("measures", &self.measures)
            .finish_non_exhaustive()
    }
}

impl<E> Aggregate<E> {
    /// Over all records that are neither deleted nor archived.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            filter: Filter::all(),
            group_by: Vec::new(),
            measures: Vec::new(),
            archived: false,
            deleted: false,
            stale: false,
            marker: PhantomData,
        }
    }

    /// Only the records that fulfil `filter`, besides filters given before.
    #[must_use]
    pub fn filter(self, filter: Where<E>) -> Self {
        self.filter_by_name(filter.into_filter())
    }

    /// Like [`filter`](Self::filter), with names that are checked when the query runs.
    #[must_use]
    pub fn filter_by_name(mut self, filter: Filter) -> Self {
        self.filter = match std::mem::take(&mut self.filter) {
            Filter::And(all) if all.is_empty() => filter,
            before => Filter::And(vec![before, filter]),
        };
        self
    }

    /// One group for each value of the field; records without a value form a group, the last.
    ///
    /// By a list, such as the tags, there is one group for each entry: a record counts in the group
    /// of each of its entries, and in none if it has no entries.
    #[must_use]
    pub fn group_by<T>(mut self, field: FieldOf<E, T>) -> Self {
        self.group_by.push(GroupBy {
            field: field.name(),
            by: None,
            time_zone: None,
        });
        self
    }

    /// Like [`group_by`](Self::group_by), with a name that is checked when the query runs.
    #[must_use]
    pub fn group_by_name(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.group_by.push(GroupBy {
            field: field.into(),
            by: None,
            time_zone: None,
        });
        self
    }

    /// One group for each day, week, month, quarter or year of a date or moment, in the calendar
    /// of `time_zone`. Its key is the unit's first day.
    #[must_use]
    pub fn group_by_calendar<T>(
        mut self,
        field: FieldOf<E, T>,
        unit: CalendarUnit,
        time_zone: TimeZone,
    ) -> Self {
        self.group_by.push(GroupBy {
            field: field.name(),
            by: Some(unit),
            time_zone: Some(time_zone),
        });
        self
    }

    /// Adds the number of records.
    #[must_use]
    pub fn count(mut self) -> Self {
        self.measures.push(NamedMeasure::Count);
        self
    }

    /// Adds the sum of a number; zero over no values.
    #[must_use]
    pub fn sum<T: FieldValue>(mut self, field: FieldOf<E, T>) -> Self {
        self.measures.push(NamedMeasure::Sum(field.name()));
        self
    }

    /// Adds the average of a number over the records that have one, to six decimals, half to even.
    #[must_use]
    pub fn average<T: FieldValue>(mut self, field: FieldOf<E, T>) -> Self {
        self.measures.push(NamedMeasure::Average(field.name()));
        self
    }

    /// Adds the least value.
    #[must_use]
    pub fn min<T: FieldValue>(mut self, field: FieldOf<E, T>) -> Self {
        self.measures.push(NamedMeasure::Min(field.name()));
        self
    }

    /// Adds the greatest value.
    #[must_use]
    pub fn max<T: FieldValue>(mut self, field: FieldOf<E, T>) -> Self {
        self.measures.push(NamedMeasure::Max(field.name()));
        self
    }

    /// Adds the sum of an amount times a percentage: a weighted pipeline. Records that lack one of
    /// the two do not count.
    #[must_use]
    pub fn weighted_sum<T: FieldValue>(
        mut self,
        amount: FieldOf<E, T>,
        percent: FieldOf<E, Percent>,
    ) -> Self {
        self.measures.push(NamedMeasure::WeightedSum {
            amount: amount.name(),
            percent: percent.name(),
        });
        self
    }

    /// Takes archived records in.
    #[must_use]
    pub const fn with_archived(mut self) -> Self {
        self.archived = true;
        self
    }

    /// Takes deleted records in.
    #[must_use]
    pub const fn with_deleted(mut self) -> Self {
        self.deleted = true;
        self
    }

    /// Lets a backend answer from a copy that lags a little behind; see
    /// [`Find::stale`](super::Find::stale).
    #[must_use]
    pub const fn stale(mut self) -> Self {
        self.stale = true;
        self
    }

    /// Binds the request to the schema.
    ///
    /// # Errors
    /// Whatever does not fit the schema; sums over several currencies.
    pub(crate) fn bind(
        &self,
        object: &ObjectRef,
        registry: &Registry,
    ) -> Result<AggregateQuery, QueryError> {
        let object = &registry.described(object);
        let condition = Visibility {
            archived: self.archived,
            deleted: self.deleted,
        }
        .condition()
        .and(Condition::bind(&self.filter, object, registry)?);
        let groups = self
            .group_by
            .iter()
            .map(|group| bind_group(group, object))
            .collect::<Result<Vec<_>, _>>()?;
        let measures = self
            .measures
            .iter()
            .map(|measure| bind_measure(measure, object))
            .collect::<Result<Vec<_>, _>>()?;
        for measure in &measures {
            check_currency(measure, object, &condition, &groups)?;
        }
        Ok(AggregateQuery {
            object: object.clone(),
            condition,
            measures,
            groups,
            stale: self.stale,
        })
    }
}

fn unsupported(field: &str, operation: &'static str) -> QueryError {
    QueryError::Unsupported {
        field: field.to_owned(),
        operation: Cow::Borrowed(operation),
    }
}

fn bind_group(group: &GroupBy, object: &ObjectRef) -> Result<Grouping, QueryError> {
    let (at, field) = locate(object, &group.field)?;
    let Some(index) = at.place(object) else {
        return Err(unsupported(&group.field, "group_by"));
    };
    if group.by.is_none() && field.storage_kind() == StorageKind::List {
        return Ok(Grouping::Entry(index));
    }
    if !field.is_sortable() {
        return Err(unsupported(&group.field, "group_by"));
    }
    let Some(unit) = group.by else {
        return Ok(Grouping::Field(index));
    };
    if !matches!(
        field.storage_kind(),
        StorageKind::Date | StorageKind::Timestamp
    ) {
        return Err(unsupported(&group.field, "a calendar unit"));
    }
    let time_zone = group.time_zone.unwrap_or_default();
    Ok(Grouping::Calendar {
        index,
        unit,
        time_zone,
    })
}

fn bind_measure(measure: &NamedMeasure, object: &ObjectRef) -> Result<Measure, QueryError> {
    let number = |name: &str, operation: &'static str| {
        let (at, field) = locate(object, name)?;
        let is_number = matches!(
            field.storage_kind(),
            StorageKind::Integer | StorageKind::Decimal
        );
        let place = at.place(object).filter(|_| is_number);
        place.ok_or_else(|| unsupported(name, operation))
    };
    let ordered = |name: &str, operation: &'static str| {
        let (at, field) = locate(object, name)?;
        let place = at.place(object).filter(|_| field.is_sortable());
        place.ok_or_else(|| unsupported(name, operation))
    };
    Ok(match measure {
        NamedMeasure::Count => Measure::Count,
        NamedMeasure::Sum(field) => Measure::Sum(number(field, "sum")?),
        NamedMeasure::Average(field) => Measure::Average(number(field, "average")?),
        NamedMeasure::Min(field) => Measure::Min(ordered(field, "min")?),
        NamedMeasure::Max(field) => Measure::Max(ordered(field, "max")?),
        NamedMeasure::WeightedSum { amount, percent } => Measure::WeightedSum {
            amount: number(amount, "weighted_sum")?,
            percent: number(percent, "weighted_sum")?,
        },
    })
}

/// R-085: an amount is only added where all records of a group have the same currency.
fn check_currency(
    measure: &Measure,
    object: &ObjectRef,
    condition: &Condition,
    groups: &[Grouping],
) -> Result<(), QueryError> {
    let amount = match measure {
        Measure::Sum(index)
        | Measure::Average(index)
        | Measure::Min(index)
        | Measure::Max(index)
        | Measure::WeightedSum { amount: index, .. } => *index,
        Measure::Count => return Ok(()),
    };
    let Some(FieldType::Decimal {
        currency_field: Some(name),
        ..
    }) = object.placed(amount).map(|field| &field.field_type)
    else {
        return Ok(());
    };
    let Ok((at, _)) = locate(object, name) else {
        return Ok(());
    };
    let currency = at.place(object);
    let grouped = groups
        .iter()
        .any(|group| matches!(group, Grouping::Field(i) if Some(*i) == currency));
    if grouped || fixes(condition, &at) {
        return Ok(());
    }
    Err(QueryError::MixedCurrencies {
        currency_field: name.to_string(),
    })
}

/// Whether all rows that fulfil the condition have one and the same value in the field.
fn fixes(condition: &Condition, at: &FieldAt) -> bool {
    let is_it = |field: &FieldAt| field.index == at.index && field.member == at.member;
    match condition {
        Condition::And(all) => all.iter().any(|condition| fixes(condition, at)),
        Condition::Compare {
            field,
            op: Comparison::Eq,
            ..
        } => is_it(field),
        Condition::In { field, values } => is_it(field) && values.len() == 1,
        _ => false,
    }
}

/// What a backend answers: the measures over each group of the rows that fulfil `condition`.
///
/// Groups come in the order of their keys. Without groupings there is exactly one group, also over
/// no rows; with groupings only groups with rows come back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AggregateQuery {
    /// The object.
    pub object: ObjectRef,
    /// Which rows.
    pub condition: Condition,
    /// What to compute.
    pub measures: Vec<Measure>,
    /// What makes a group.
    pub groups: Vec<Grouping>,
    /// Whether the answer may come from a copy that lags a little behind.
    pub stale: bool,
}

impl AggregateQuery {
    /// Counts the rows that fulfil `condition`.
    #[must_use]
    pub fn count(object: &ObjectRef, condition: Condition) -> Self {
        Self {
            object: object.clone(),
            condition,
            measures: vec![Measure::Count],
            groups: Vec::new(),
            stale: false,
        }
    }
}

/// What to compute over a group; fields by their place in the schema, custom fields as
/// [`ObjectSchema::custom_at`](crate::schema::ObjectSchema::custom_at) counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Measure {
    /// The number of rows, an integer.
    Count,
    /// The sum of a number, a decimal; zero over no values.
    Sum(usize),
    /// The sum divided by the number of values, to six decimals half to even; null over no values.
    Average(usize),
    /// The least value; null over no values.
    Min(usize),
    /// The greatest value; null over no values.
    Max(usize),
    /// The sum of amount × percent ÷ 100, a decimal; zero over no values.
    WeightedSum {
        /// The amount.
        amount: usize,
        /// The percentage.
        percent: usize,
    },
}

/// What makes a group; fields by their place in the schema, custom fields as
/// [`ObjectSchema::custom_at`](crate::schema::ObjectSchema::custom_at) counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Grouping {
    /// The value of a field.
    Field(usize),
    /// Each entry of a list: a row is in as many groups as it has entries, of several lists in one
    /// for each combination. A row without entries is in no group.
    Entry(usize),
    /// The calendar unit that a date or moment falls into; the key is the unit's first day.
    Calendar {
        /// The field.
        index: usize,
        /// The unit.
        unit: CalendarUnit,
        /// Where the days of moments begin.
        time_zone: TimeZone,
    },
}

impl Grouping {
    /// The groups that a row is in.
    fn keys(&self, object: &ObjectRef, row: &dyn AnyRecord) -> Vec<Value> {
        match self {
            Self::Field(index) => vec![object.read(row, *index, |value| value.into_owned())],
            Self::Entry(index) => object.read(row, *index, |value| match value {
                ValueRef::List(entries) => {
                    let entries = entries.iter();
                    entries.map(|entry| Value::Text(entry.clone())).collect()
                }
                _ => Vec::new(),
            }),
            Self::Calendar {
                index,
                unit,
                time_zone,
            } => {
                let day = object.read(row, *index, |value| match value {
                    ValueRef::Date(day) => Some(day),
                    ValueRef::Timestamp(at) => Some(at.with_timezone(&time_zone.tz()).date_naive()),
                    _ => None,
                });
                vec![day.map_or(Value::Null, |day| Value::Date(unit.start_of(day)))]
            }
        }
    }
}

/// Every combination of one key of each grouping.
fn combinations(object: &ObjectRef, groups: &[Grouping], row: &dyn AnyRecord) -> Vec<Key> {
    let mut combined = vec![Key(Vec::with_capacity(groups.len()))];
    for group in groups {
        let keys = group.keys(object, row);
        if let [one] = keys.as_slice() {
            for key in &mut combined {
                key.0.push(one.clone());
            }
            continue;
        }
        let longer = |key: &Key, one: &Value| Key(key.0.iter().chain([one]).cloned().collect());
        combined = combined
            .iter()
            .flat_map(|key| keys.iter().map(move |one| longer(key, one)))
            .collect();
    }
    combined
}

/// One group of an aggregate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// What the records of the group have in common, one value for each grouping.
    pub keys: Vec<Value>,
    /// What was computed, one value for each measure.
    pub measures: Vec<Value>,
}

impl Group {
    /// The key of the grouping at `index`; null past the end.
    #[must_use]
    pub fn key(&self, index: usize) -> ValueRef<'_> {
        self.keys.get(index).map_or(ValueRef::Null, Value::as_ref)
    }

    /// The measure at `index` as a number; `None` where there is none.
    #[must_use]
    pub fn number(&self, index: usize) -> Option<Decimal> {
        self.measures.get(index)?.as_ref().as_decimal()
    }

    /// The measure at `index` as a count; zero where it is none.
    #[must_use]
    pub fn count(&self, index: usize) -> u64 {
        match self.measures.get(index) {
            Some(Value::Integer(count)) => u64::try_from(*count).unwrap_or_default(),
            _ => 0,
        }
    }
}

/// Computes an aggregate row by row: the executable meaning of [`AggregateQuery`], for backends
/// that have the rows at hand.
///
/// ```
/// use crm_core::query::{AggregateQuery, Aggregator, Condition};
/// use crm_core::{accounts::Account, schema::Entity};
///
/// let query = AggregateQuery::count(Account::schema(), Condition::all());
/// let groups = Aggregator::new(&query).finish()?;
/// assert_eq!(groups[0].count(0), 0);
/// # Ok::<(), crm_core::query::QueryError>(())
/// ```
#[derive(Debug)]
pub struct Aggregator<'a> {
    query: &'a AggregateQuery,
    groups: BTreeMap<Key, Vec<Sum>>,
    overflow: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
struct Key(Vec<Value>);

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0
            .iter()
            .zip(&other.0)
            .map(|(a, b)| a.as_ref().sort_order(&b.as_ref()))
            .find(|order| *order != Ordering::Equal)
            .unwrap_or(Ordering::Equal)
    }
}

#[derive(Clone, Debug, Default)]
struct Sum {
    count: i64,
    sum: Decimal,
    extreme: Value,
}

impl<'a> Aggregator<'a> {
    /// Starts with no rows.
    #[must_use]
    pub fn new(query: &'a AggregateQuery) -> Self {
        let mut groups = BTreeMap::new();
        if query.groups.is_empty() {
            groups.insert(Key(Vec::new()), vec![Sum::default(); query.measures.len()]);
        }
        Self {
            query,
            groups,
            overflow: None,
        }
    }

    /// Adds a row that fulfils the query's condition.
    pub fn add(&mut self, row: &dyn AnyRecord) {
        let count = self.query.measures.len();
        let object = &self.query.object;
        for key in combinations(object, &self.query.groups, row) {
            let sums = self
                .groups
                .entry(key)
                .or_insert_with(|| vec![Sum::default(); count]);
            for (measure, sum) in self.query.measures.iter().zip(sums) {
                if !sum.add(object, measure, row)
                    && let Measure::Sum(index)
                    | Measure::Average(index)
                    | Measure::WeightedSum { amount: index, .. } = measure
                {
                    self.overflow = Some(*index);
                }
            }
        }
    }

    /// Adds rows that were counted elsewhere: a group of the same query, which asks for nothing but
    /// counts.
    pub(crate) fn add_counted(&mut self, group: Group) {
        let counts: Vec<i64> = (0..self.query.measures.len())
            .map(|place| i64::try_from(group.count(place)).unwrap_or(i64::MAX))
            .collect();
        let sums = self
            .groups
            .entry(Key(group.keys))
            .or_insert_with(|| vec![Sum::default(); counts.len()]);
        for (sum, count) in sums.iter_mut().zip(counts) {
            sum.count = sum.count.saturating_add(count);
        }
    }

    /// The groups, in the order of their keys.
    ///
    /// # Errors
    /// [`QueryError::Overflow`].
    pub fn finish(self) -> Result<Vec<Group>, QueryError> {
        if let Some(index) = self.overflow {
            let field = self.query.object.field_name(index).to_owned();
            return Err(QueryError::Overflow { field });
        }
        let measures = &self.query.measures;
        Ok(self
            .groups
            .into_iter()
            .map(|(key, sums)| Group {
                keys: key.0,
                measures: measures
                    .iter()
                    .zip(sums)
                    .map(|(measure, sum)| sum.end(measure))
                    .collect(),
            })
            .collect())
    }
}

impl Sum {
    /// Adds a row; false where the sum has too many digits.
    fn add(&mut self, object: &ObjectRef, measure: &Measure, row: &dyn AnyRecord) -> bool {
        let number = |index: usize| object.read(row, index, |value| value.as_decimal());
        match measure {
            Measure::Count => self.count += 1,
            Measure::Sum(index) | Measure::Average(index) => {
                if let Some(number) = number(*index) {
                    return self.plus(Some(number));
                }
            }
            Measure::WeightedSum { amount, percent } => {
                if let (Some(amount), Some(percent)) = (number(*amount), number(*percent)) {
                    let weighted = amount.checked_mul(percent / Decimal::ONE_HUNDRED);
                    return self.plus(weighted);
                }
            }
            Measure::Min(index) => {
                object.read(row, *index, |value| self.keep(value, Ordering::Less));
            }
            Measure::Max(index) => {
                object.read(row, *index, |value| self.keep(value, Ordering::Greater));
            }
        }
        true
    }

    fn plus(&mut self, number: Option<Decimal>) -> bool {
        self.count += 1;
        match number.and_then(|number| self.sum.checked_add(number)) {
            Some(sum) => {
                self.sum = sum;
                true
            }
            None => false,
        }
    }

    fn keep(&mut self, value: ValueRef<'_>, wanted: Ordering) {
        if value.is_null() {
            return;
        }
        if self.extreme.is_null() || value.sort_order(&self.extreme.as_ref()) == wanted {
            self.extreme = value.into_owned();
        }
    }

    fn end(self, measure: &Measure) -> Value {
        match measure {
            Measure::Count => Value::Integer(self.count),
            Measure::Sum(_) | Measure::WeightedSum { .. } => Value::Decimal(self.sum.normalize()),
            Measure::Average(_) => average(self.sum, self.count),
            Measure::Min(_) | Measure::Max(_) => self.extreme,
        }
    }
}

/// A sum divided by a count as [`Measure::Average`] says.
fn average(sum: Decimal, count: i64) -> Value {
    match sum.checked_div(Decimal::from(count)) {
        Some(quotient) => Value::Decimal(quotient.round_dp(AVERAGE_DECIMALS).normalize()),
        None => Value::Null,
    }
}

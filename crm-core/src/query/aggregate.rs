//! Counts, sums and the like over groups of records.

mod aggregator;
mod query;

use std::borrow::Cow;
use std::marker::PhantomData;

use chrono::{Datelike, Days, NaiveDate};
use serde::{Deserialize, Serialize};

pub use aggregator::Aggregator;
pub use query::{AggregateQuery, Group, Grouping, Measure};

use super::condition::locate;
use super::find::Visibility;
use super::{Comparison, Condition, FieldAt, Filter, QueryError, Where};
use crate::schema::{FieldOf, FieldType, FieldValue, ObjectRef, Registry, StorageKind};
use crate::value::{Percent, TimeZone};

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
        self.filter = std::mem::take(&mut self.filter).narrowed(filter);
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

    /// The same request without the Rust type, for the records of an object by its name.
    #[must_use]
    pub fn untyped(self) -> Aggregate<()> {
        Aggregate {
            filter: self.filter,
            group_by: self.group_by,
            measures: self.measures,
            archived: self.archived,
            deleted: self.deleted,
            stale: self.stale,
            marker: PhantomData,
        }
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

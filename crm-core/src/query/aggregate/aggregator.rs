//! [`Aggregator`]: an aggregate computed over rows.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::{AggregateQuery, Group, Grouping, Measure};
use crate::query::QueryError;
use crate::schema::{AnyRecord, ObjectRef, Value, ValueRef};

/// The most decimals of an average.
const AVERAGE_DECIMALS: u32 = 6;

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

/// A sum divided by a count as [`Measure::Average`] says.
fn average(sum: Decimal, count: i64) -> Value {
    match sum.checked_div(Decimal::from(count)) {
        Some(quotient) => Value::Decimal(quotient.round_dp(AVERAGE_DECIMALS).normalize()),
        None => Value::Null,
    }
}

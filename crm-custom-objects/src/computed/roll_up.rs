//! Roll-ups in a commit: whose children changed, and what these come to.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crm_core::UnitOfWork;
use crm_core::error::Result;
use crm_core::query::{AggregateQuery, Condition, FieldAt, Grouping, Measure, NoRelated};
use crm_core::schema::{Row, Value, system};
use rust_decimal::{Decimal, RoundingStrategy};
use uuid::Uuid;

use super::program::{Node, Plan, plus};
use super::{differences, document, keep};
use crate::RollUpFunction;

/// The most decimals of an average.
const AVERAGE_DECIMALS: u32 = 6;
/// How many parents are asked for in one query.
const AT_ONCE: usize = 1_000;

/// Computes a roll-up for the records whose children changed in a way that counts.
pub(super) async fn refresh(work: &mut UnitOfWork, node: &Node, plan: &Plan) -> Result<()> {
    // Whether children changed, by parent.
    let mut parents: BTreeMap<Uuid, bool> = BTreeMap::new();
    for change in differences(work, &plan.object) {
        let part = |row: &Option<Row>| row.as_ref().and_then(|row| plan.part(row));
        let (before, after) = (part(&change.before), part(&change.after));
        if before != after {
            let both = before.into_iter().chain(after);
            parents.extend(both.map(|(parent, _)| (parent, true)));
        }
    }
    for change in differences(work, &node.object) {
        let Some(after) = &change.after else {
            continue;
        };
        // New, restored, or given a value that it had once.
        let value = |row: &Row| document(row, node.document).get(&*node.key).cloned();
        let is_same = |before: &Row| value(before) == value(after);
        if !change.before.as_ref().is_some_and(is_same) {
            parents.entry(change.id).or_insert(false);
        }
    }
    if parents.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = parents.keys().copied().collect();
    let mut totals = totals(work, plan, &ids).await?;
    for row in work.rows(&node.object, &ids).await? {
        if row.is_deleted() {
            continue;
        }
        let total = totals.remove(&row.id()).unwrap_or_default();
        let value = node.stored(total.value(plan.function)).unwrap_or_default();
        let is_kept = keep(work, node, &row, value).await?;
        if !is_kept && parents.get(&row.id()) == Some(&true) {
            // Whoever computes from the same children at the same time has a conflict.
            work.touch_row(row);
        }
    }
    Ok(())
}

impl Plan {
    /// What a live record adds to the roll-up of which record, where it counts.
    fn part(&self, row: &Row) -> Option<(Uuid, Value)> {
        let by = self.by_place;
        let parent = self.object.read(&**row, by, |value| value.as_uuid())?;
        if !self.condition.matches(&**row, &NoRelated) {
            return None;
        }
        let value = self.field.map_or(Value::Null, |place| {
            self.object.read(&**row, place, |value| value.into_owned())
        });
        Some((parent, value))
    }

    fn measures(&self) -> Vec<Measure> {
        let field = self.field.unwrap_or_default();
        match self.function {
            RollUpFunction::Count => vec![Measure::Count],
            RollUpFunction::Sum => vec![Measure::Count, Measure::Sum(field)],
            RollUpFunction::Average => vec![Measure::Count, Measure::Sum(field)],
            RollUpFunction::Min => vec![Measure::Count, Measure::Min(field)],
            RollUpFunction::Max => vec![Measure::Count, Measure::Max(field)],
        }
    }
}

/// What the children of a record come to.
#[derive(Debug)]
pub(super) struct Total {
    /// How many count; of a field, how many have a value.
    count: u64,
    /// `None` once it is too great.
    sum: Option<Decimal>,
    /// The least or the greatest value.
    extreme: Value,
}

impl Default for Total {
    fn default() -> Self {
        Self {
            count: 0,
            sum: Some(Decimal::ZERO),
            extreme: Value::Null,
        }
    }
}

impl Total {
    fn add(&mut self, function: RollUpFunction, count: u64, value: Value) {
        self.count = self.count.saturating_add(count);
        match function {
            RollUpFunction::Count => {}
            RollUpFunction::Sum | RollUpFunction::Average => {
                let number = value.as_ref().as_decimal().unwrap_or_default();
                self.sum = plus(self.sum, number);
            }
            RollUpFunction::Min | RollUpFunction::Max => {
                let wanted = match function {
                    RollUpFunction::Min => Ordering::Less,
                    _ => Ordering::Greater,
                };
                let is_better = !value.is_null()
                    && (self.extreme.is_null()
                        || value.as_ref().sort_order(&self.extreme.as_ref()) == wanted);
                if is_better {
                    self.extreme = value;
                }
            }
        }
    }

    /// What the roll-up comes to: zero for a count or sum over nothing, else null.
    pub(super) fn value(self, function: RollUpFunction) -> Value {
        match function {
            RollUpFunction::Count => Value::Integer(i64::try_from(self.count).unwrap_or(i64::MAX)),
            RollUpFunction::Sum => self.sum.map_or(Value::Null, Value::Decimal),
            RollUpFunction::Average => {
                let mean = self.sum.and_then(|sum| sum.checked_div(self.count.into()));
                mean.map_or(Value::Null, |mean| {
                    let even = RoundingStrategy::MidpointNearestEven;
                    Value::Decimal(mean.round_dp_with_strategy(AVERAGE_DECIMALS, even))
                })
            }
            RollUpFunction::Min | RollUpFunction::Max => self.extreme,
        }
    }
}

/// What the children of some records come to, with what is staged: one query of the storage for all
/// of them, whatever the number of children.
pub(super) async fn totals(
    work: &UnitOfWork,
    plan: &Plan,
    parents: &[Uuid],
) -> Result<BTreeMap<Uuid, Total>> {
    let mut totals: BTreeMap<Uuid, Total> = BTreeMap::new();
    let mut staged = BTreeSet::new();
    let mut new = BTreeSet::new();
    for change in work.staged() {
        if change.before().is_none() {
            new.insert(change.id());
        } else if *change.object() == plan.object {
            staged.insert(change.id());
        }
    }
    // Nothing that is stored leads to a record that is not.
    let stored: Vec<Uuid> = parents
        .iter()
        .filter(|id| !new.contains(id))
        .copied()
        .collect();
    for ids in stored.chunks(AT_ONCE) {
        let query = plan.query(ids, &staged);
        let session = work.session();
        let storage = session.engine().storage();
        for group in storage.aggregate(session.scope(), &query).await? {
            let Some(parent) = group.key(0).as_uuid() else {
                continue;
            };
            let value = group.measures.get(1).cloned().unwrap_or(Value::Null);
            let total = totals.entry(parent).or_default();
            total.add(plan.function, group.count(0), value);
        }
    }
    let wanted: BTreeSet<&Uuid> = parents.iter().collect();
    for change in work.staged() {
        let row = change.after().filter(|row| !row.is_deleted());
        if let Some(row) = row.filter(|_| *change.object() == plan.object)
            && let Some((parent, value)) = plan.part(row)
            && wanted.contains(&parent)
            && (plan.field.is_none() || !value.is_null())
        {
            totals
                .entry(parent)
                .or_default()
                .add(plan.function, 1, value);
        }
    }
    Ok(totals)
}

impl Plan {
    /// The stored children of some records, without those that are staged.
    fn query(&self, parents: &[Uuid], staged: &BTreeSet<Uuid>) -> AggregateQuery {
        let ids = |ids: &mut dyn Iterator<Item = Uuid>| ids.map(Value::Uuid).collect();
        let mut condition = Condition::not_deleted().and(Condition::In {
            field: self.by.clone(),
            values: ids(&mut parents.iter().copied()),
        });
        if !staged.is_empty() {
            condition = condition.and(Condition::Not(Box::new(Condition::In {
                field: FieldAt::new(system::ID),
                values: ids(&mut staged.iter().copied()),
            })));
        }
        let taken = self
            .field
            .and_then(|place| FieldAt::at_place(&self.object, place));
        if let Some(field) = taken {
            condition = condition.and(Condition::Null {
                field,
                is_null: false,
            });
        }
        let mut query = AggregateQuery::count(&self.object, condition.and(self.condition.clone()));
        query.measures = self.measures();
        query.groups = vec![Grouping::Field(self.by_place)];
        query
    }
}

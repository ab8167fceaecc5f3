//! [`UsageCount`]: how often the custom fields of tenants are used, counted in memory.
//!
//! A use costs a short lock and no round trip: counts are kept by the engine until somebody
//! [takes](Session::take_field_usage) them, to write what many uses came to at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::tenant_schema::SCHEMA_VERSION;
use super::{Session, UnitOfWork};
use crate::error::Result;
use crate::query::{AggregateQuery, Condition, FieldAt, Grouping, Measure, Query};
use crate::schema::{AnyRecord, CustomFields, Lifecycle, ObjectSchema, ValueRef};
use crate::storage::Scope;

/// The uses of so many fields are kept, of all tenants together; of others, none are counted until
/// some are taken.
const MOST: usize = 100_000;

/// How often a custom field was used since its uses were last taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageCount {
    /// How many records were committed with another value than before.
    pub written: u64,
    /// How many times records were filtered, sorted, grouped or computed by it.
    pub queried: u64,
    /// The last of these, by the engine's clock.
    pub last_used_at: DateTime<Utc>,
}

impl UsageCount {
    fn add(&mut self, other: Self) {
        self.written = self.written.saturating_add(other.written);
        self.queried = self.queried.saturating_add(other.queried);
        self.last_used_at = self.last_used_at.max(other.last_used_at);
    }
}

/// What an engine has counted.
#[derive(Default)]
pub(super) struct Usage(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    tenants: HashMap<Scope, BTreeMap<Uuid, UsageCount>>,
    /// How many fields there are counts of.
    fields: usize,
}

impl Usage {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, scope: &Scope, uses: impl IntoIterator<Item = (Uuid, UsageCount)>) {
        let mut counted = self.counted();
        let Counted { tenants, fields } = &mut *counted;
        let known = tenants.entry(*scope).or_default();
        for (field, uses) in uses {
            match known.get_mut(&field) {
                Some(count) => count.add(uses),
                None if *fields < MOST => {
                    known.insert(field, uses);
                    *fields += 1;
                }
                None => {}
            }
        }
    }

    fn take(&self, scope: &Scope) -> BTreeMap<Uuid, UsageCount> {
        let mut counted = self.counted();
        let taken = counted.tenants.remove(scope).unwrap_or_default();
        counted.fields = counted.fields.saturating_sub(taken.len());
        taken
    }
}

impl Session {
    /// Takes the uses of the tenant's custom fields that this engine has counted, by their
    /// definitions: whoever takes them writes them somewhere. Uses that are never taken are lost
    /// with the process.
    #[must_use = "what is taken is counted nowhere else"]
    pub fn take_field_usage(&self) -> BTreeMap<Uuid, UsageCount> {
        self.engine().shared.usage.take(self.scope())
    }

    /// Gives uses back that were taken and could not be written: they are counted with those since.
    pub fn give_back_field_usage(&self, uses: BTreeMap<Uuid, UsageCount>) {
        if !uses.is_empty() {
            self.engine().shared.usage.add(self.scope(), uses);
        }
    }

    /// Counts a query once for each custom field that it names.
    pub(super) fn count_query(&self, query: &Query) {
        let mut named = Vec::new();
        in_condition(&query.condition, &mut named);
        let sorted = query.sort.iter().map(|key| key.index);
        at_places(&query.object, sorted, &mut named);
        self.count_queried(named);
    }

    /// Counts an aggregate once for each custom field that it names.
    pub(super) fn count_aggregate(&self, query: &AggregateQuery) {
        let mut named = Vec::new();
        in_condition(&query.condition, &mut named);
        for measure in &query.measures {
            let places = match measure {
                Measure::Count => [None, None],
                Measure::Sum(place)
                | Measure::Average(place)
                | Measure::Min(place)
                | Measure::Max(place) => [Some(*place), None],
                Measure::WeightedSum { amount, percent } => [Some(*amount), Some(*percent)],
            };
            at_places(&query.object, places.into_iter().flatten(), &mut named);
        }
        let grouped = query.groups.iter().map(|group| match group {
            Grouping::Field(index) | Grouping::Entry(index) | Grouping::Calendar { index, .. } => {
                *index
            }
        });
        at_places(&query.object, grouped, &mut named);
        self.count_queried(named);
    }

    fn count_queried(&self, mut named: Vec<Uuid>) {
        if named.is_empty() {
            return;
        }
        named.sort_unstable();
        named.dedup();
        let count = UsageCount {
            written: 0,
            queried: 1,
            last_used_at: self.engine().clock().now(),
        };
        let uses = named.into_iter().map(|field| (field, count));
        self.engine().shared.usage.add(self.scope(), uses);
    }
}

/// The custom fields at some places of an object.
fn at_places(object: &ObjectSchema, places: impl Iterator<Item = usize>, named: &mut Vec<Uuid>) {
    let customs = places.filter_map(|place| object.custom_at(place));
    named.extend(customs.map(|custom| custom.id));
}

/// The custom fields that a condition names, in related records too.
fn in_condition(condition: &Condition, named: &mut Vec<Uuid>) {
    let mut add = |field: &FieldAt| named.extend(field.custom.map(|custom| custom.field));
    match condition {
        Condition::Compare { field, .. }
        | Condition::In { field, .. }
        | Condition::Null { field, .. }
        | Condition::Text { field, .. }
        | Condition::List { field, .. }
        | Condition::InTree { field, .. } => add(field),
        Condition::Has {
            field, condition, ..
        }
        | Condition::Any {
            field, condition, ..
        } => {
            add(field);
            in_condition(condition, named);
        }
        Condition::And(all) | Condition::Or(all) => {
            all.iter().for_each(|one| in_condition(one, named));
        }
        Condition::Not(one) => in_condition(one, named),
    }
}

impl UnitOfWork {
    /// How many staged records have another value of a custom field than the stored ones, by field.
    /// What the engine computes is no use.
    pub(super) async fn written_fields(&self) -> Result<BTreeMap<Uuid, u64>> {
        let mut written = BTreeMap::new();
        let Some(described) = self.described().await? else {
            return Ok(written);
        };
        let version = described.version.as_ref();
        if version.is_none_or(|row| row.object().name() != SCHEMA_VERSION) {
            // No field was ever defined.
            return Ok(written);
        }
        for change in self.staged() {
            let Some(after) = change
                .after()
                .filter(|_| change.object().lifecycle() == Lifecycle::Full)
            else {
                continue;
            };
            let object = described.registry.described(change.object());
            if let Some((custom, document)) = object.custom().zip(object.custom_document()) {
                let before = change.before().map(|row| &**row);
                differing(custom, document, before, &**after, &mut written);
            }
        }
        Ok(written)
    }

    /// Counts what a commit wrote.
    pub(super) fn count_written(&self, written: BTreeMap<Uuid, u64>) {
        if written.is_empty() {
            return;
        }
        let last_used_at = self.now();
        let uses = written.into_iter().map(|(field, written)| {
            let count = UsageCount {
                written,
                queried: 0,
                last_used_at,
            };
            (field, count)
        });
        let session = self.session();
        session.engine().shared.usage.add(session.scope(), uses);
    }
}

/// Adds the fields in whose values two states of a record differ.
fn differing(
    custom: &CustomFields,
    document: usize,
    before: Option<&dyn AnyRecord>,
    after: &dyn AnyRecord,
    written: &mut BTreeMap<Uuid, u64>,
) {
    let none = Map::new();
    let (before, after) = (before.map(|row| row.value(document)), after.value(document));
    let before = before.as_ref().and_then(members).unwrap_or(&none);
    let after = members(&after).unwrap_or(&none);
    let changed = after
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(value));
    let emptied = before.iter().filter(|(key, _)| !after.contains_key(*key));
    for (key, _) in changed.chain(emptied) {
        let field = custom.field(key).filter(|custom| !custom.field.read_only);
        if let Some(field) = field {
            *written.entry(field.id).or_default() += 1;
        }
    }
}

fn members<'v>(value: &'v ValueRef<'_>) -> Option<&'v Map<String, Json>> {
    match value {
        ValueRef::Json(json) => json.as_object(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(written: u64, second: i64) -> UsageCount {
        UsageCount {
            written,
            queried: 1,
            last_used_at: DateTime::from_timestamp(second, 0).unwrap(),
        }
    }

    /// what is given back adds to what was counted meanwhile, and no tenant sees another's.
    #[test]
    fn counts_add_up_and_are_taken_once() {
        let usage = Usage::default();
        let scopes = [1, 2].map(|id| Scope::Tenant(crate::Id::new(Uuid::from_u128(id))));
        let field = Uuid::from_u128(7);
        usage.add(&scopes[0], [(field, count(2, 5))]);
        let taken = usage.take(&scopes[0]);
        assert_eq!(taken[&field], count(2, 5));
        assert!(usage.take(&scopes[0]).is_empty());
        usage.add(&scopes[0], [(field, count(1, 3))]);
        usage.add(&scopes[0], taken);
        assert!(usage.take(&scopes[1]).is_empty());
        let all = usage.take(&scopes[0]);
        assert_eq!((all[&field].written, all[&field].queried), (3, 2));
        assert_eq!(all[&field].last_used_at, count(0, 5).last_used_at);
    }

    /// The map is bounded; what is known goes on being counted, and there is room again once counts
    /// are taken.
    #[test]
    fn the_counts_are_bounded() {
        let usage = Usage::default();
        let scope = Scope::Tenant(crate::Id::new(Uuid::from_u128(1)));
        let fields = |from: usize, to: usize| {
            (from..to).map(|id| (Uuid::from_u128(id as u128), count(1, 1)))
        };
        usage.add(&scope, fields(0, MOST + 10));
        usage.add(&scope, fields(0, 1));
        let taken = usage.take(&scope);
        assert_eq!((taken.len(), taken[&Uuid::nil()].written), (MOST, 2));
        usage.add(&scope, fields(MOST, MOST + 10));
        assert_eq!(usage.take(&scope).len(), 10);
    }
}

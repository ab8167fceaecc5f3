//! How the keys of records are read and written.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::block::BLOCK_LIMIT;
use super::compare::RecordKey;
use super::entity::{ActiveRule, DuplicateKey};
use crate::engine::{Session, UnitOfWork, Workspace};
use crate::error::Result;
use crate::query::{Comparison, Condition, FieldAt, Query, SortKey};
use crate::record::Record;
use crate::schema::{Entity, ObjectRef, Row, SYSTEM_FIELDS, Value};

/// How many rows are read at once.
pub(super) const PAGE: usize = 1_000;
/// How many keys are looked up at once.
const KEYS: usize = 5_000;

/// The places of the fields of [`DuplicateKey`], in the order of the struct.
const RULE_ID: usize = SYSTEM_FIELDS;
const KEY: usize = SYSTEM_FIELDS + 1;
const RECORD_ID: usize = SYSTEM_FIELDS + 2;

fn one_of(index: usize, ids: &[Uuid]) -> Condition {
    Condition::In {
        field: FieldAt::new(index),
        values: ids.iter().map(|id| Value::Uuid(*id)).collect(),
    }
}

/// The rows by key and record, behind a row.
fn by_key(condition: Condition, after: Option<&Record<DuplicateKey>>, limit: usize) -> Query {
    let ascending = |index| SortKey {
        index,
        descending: false,
    };
    let mut query = Query::new(DuplicateKey::schema(), condition)
        .sort(vec![ascending(KEY), ascending(RECORD_ID)])
        .limit(limit);
    query.after = after.map(|row| {
        let values = [row.key, row.record_id, row.id.uuid()];
        values.map(Value::Uuid).to_vec()
    });
    query
}

async fn select(
    session: &Session,
    query: &Query,
) -> Result<Vec<std::sync::Arc<Record<DuplicateKey>>>> {
    let rows = Workspace::Session(session).select(query).await?;
    Ok(rows.into_iter().filter_map(Record::from_row).collect())
}

/// Who has some keys.
#[derive(Debug, Default)]
pub(super) struct Holders {
    pub(super) by_key: HashMap<Uuid, Vec<Uuid>>,
    /// The keys that more records have than were read.
    pub(super) cut: HashSet<Uuid>,
}

/// Looks keys up: one read of an index, unless a great many records share them.
pub(super) async fn holders(session: &Session, mut keys: Vec<Uuid>) -> Result<Holders> {
    keys.sort_unstable();
    keys.dedup();
    let mut found = Holders::default();
    for chunk in keys.chunks(KEYS) {
        let mut open = chunk;
        let mut after = None;
        while !open.is_empty() {
            let limit = KEYS.max(2 * BLOCK_LIMIT);
            let query = by_key(one_of(KEY, open), after.as_deref(), limit);
            let rows = select(session, &query).await?;
            for row in &rows {
                let holders = found.by_key.entry(row.key).or_default();
                if holders.len() < BLOCK_LIMIT {
                    holders.push(row.record_id);
                } else {
                    found.cut.insert(row.key);
                }
            }
            let Some(last) = rows.last().filter(|_| rows.len() >= limit) else {
                break;
            };
            let is_cut = found.cut.contains(&last.key);
            let done = open.partition_point(|key| *key < last.key || is_cut && *key == last.key);
            open = open.get(done..).unwrap_or_default();
            after = (!is_cut).then(|| last.clone());
        }
    }
    Ok(found)
}

/// The live rows with these ids.
pub(super) async fn live_rows(
    session: &Session,
    object: &ObjectRef,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<HashMap<Uuid, Row>> {
    let ids: Vec<Uuid> = ids.into_iter().collect();
    let mut rows = HashMap::with_capacity(ids.len());
    for chunk in ids.chunks(PAGE) {
        let storage = session.engine().storage();
        let found = storage.get(session.scope(), object, chunk).await?;
        let live = found.into_iter().filter(|row| !row.is_deleted());
        rows.extend(live.map(|row| (row.id(), row)));
    }
    Ok(rows)
}

/// The range of the keys that a rule can have, as a condition.
fn of_rule(rule: Uuid) -> Condition {
    let (first, last) = super::compare::key_range(rule);
    let bound = |op, value| Condition::Compare {
        field: FieldAt::new(KEY),
        op,
        value: Value::Uuid(value),
    };
    Condition::And(vec![
        Condition::equals(RULE_ID, Value::Uuid(rule)),
        bound(Comparison::Ge, first),
        bound(Comparison::Le, last),
    ])
}

/// A page of the keys of a rule, by key and record; those behind `key` if it is given.
pub(super) async fn page(
    session: &Session,
    rule: Uuid,
    behind: Option<Uuid>,
    after: Option<&Record<DuplicateKey>>,
) -> Result<Vec<std::sync::Arc<Record<DuplicateKey>>>> {
    let mut condition = of_rule(rule);
    if let Some(key) = behind {
        condition = condition.and(Condition::Compare {
            field: FieldAt::new(KEY),
            op: Comparison::Gt,
            value: Value::Uuid(key),
        });
    }
    select(session, &by_key(condition, after, PAGE)).await
}

/// How many keys a rule has.
pub(super) async fn count(session: &Session, rule: Uuid) -> Result<u64> {
    let query = crate::query::AggregateQuery::count(DuplicateKey::schema(), of_rule(rule));
    let groups = Workspace::Session(session).aggregate(&query).await?;
    Ok(groups.first().map_or(0, |group| group.count(0)))
}

/// The stored keys of some records.
pub(super) async fn stored(
    session: &Session,
    records: &[Uuid],
) -> Result<HashMap<(Uuid, Uuid), Vec<std::sync::Arc<Record<DuplicateKey>>>>> {
    let mut stored: HashMap<_, Vec<_>> = HashMap::new();
    for chunk in records.chunks(PAGE) {
        let query = Query::new(DuplicateKey::schema(), one_of(RECORD_ID, chunk));
        for row in select(session, &query).await? {
            let place = (row.rule_id, row.record_id);
            stored.entry(place).or_default().push(row);
        }
    }
    Ok(stored)
}

/// The keys that records are to have and those that they have.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    remove: Vec<std::sync::Arc<Record<DuplicateKey>>>,
    /// With whether the row is to hold the key alone.
    insert: Vec<(DuplicateKey, bool)>,
}

impl Upkeep {
    /// Notes what makes the keys of a record those that are wanted; whether anything does.
    pub(super) fn note(
        &mut self,
        rule: &ActiveRule,
        record: Uuid,
        wanted: &[RecordKey],
        stored: Option<&Vec<std::sync::Arc<Record<DuplicateKey>>>>,
    ) -> bool {
        let before = self.remove.len() + self.insert.len();
        let stored = stored.map_or(&[][..], Vec::as_slice);
        let is_wanted = |key: Uuid| wanted.iter().any(|wanted| wanted.key == key);
        let old = stored.iter().filter(|row| !is_wanted(row.key));
        self.remove.extend(old.cloned());
        for wanted in wanted {
            if stored.iter().all(|row| row.key != wanted.key) {
                let row = DuplicateKey {
                    rule_id: rule.id().uuid(),
                    key: wanted.key,
                    record_id: record,
                };
                self.insert
                    .push((row, wanted.is_decisive && rule.is_strict()));
            }
        }
        self.remove.len() + self.insert.len() > before
    }

    /// The keys that are to be held alone.
    pub(super) fn alone(&self) -> Vec<Uuid> {
        let alone = self.insert.iter().filter(|(_, alone)| *alone);
        alone.map(|(row, _)| row.key).collect()
    }

    /// Whether the row with this id is given up.
    pub(super) fn removes(&self, id: Uuid) -> bool {
        self.remove.iter().any(|row| row.id.uuid() == id)
    }

    /// How many rows are written.
    pub(super) fn len(&self) -> usize {
        self.remove.len() + self.insert.len()
    }

    /// Stages the rows. Keys in `taken` are held by others already and get a common row.
    pub(super) fn stage(self, work: &mut UnitOfWork, taken: &HashSet<Uuid>) -> Result<()> {
        for row in self.remove {
            let row: Row = row;
            work.remove(&row);
        }
        let mut held = HashSet::new();
        for (row, alone) in self.insert {
            if alone && !taken.contains(&row.key) && held.insert(row.key) {
                // Whoever is faster holds the key; the other call runs again and finds the record.
                work.contend(crate::duplicates::DUPLICATE_KEY, &["id"]);
                work.keep_derived(row.key, None, row);
            } else {
                work.append_entry(row)?;
            }
        }
        Ok(())
    }
}

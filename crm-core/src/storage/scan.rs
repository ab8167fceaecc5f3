//! What every backend means, written over rows that are at hand.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::{Change, ChangeSet, StorageError};
use crate::query::{AggregateQuery, Aggregator, Group, NoRelated, Query, RelatedRows, fold_case};
use crate::schema::{AnyRecord, ObjectRef, Row, UniqueKey, Value, ValueRef, system};

/// Answers a query over all rows of its object.
///
/// ```
/// use crm_core::query::{Condition, NoRelated, Query};
/// use crm_core::{accounts::Account, schema::Entity, storage};
///
/// let query = Query::new(Account::schema(), Condition::all());
/// assert!(storage::scan(&query, Vec::new(), &NoRelated).is_empty());
/// ```
pub fn scan(
    query: &Query,
    rows: impl IntoIterator<Item = Row>,
    related: &RelatedRows<'_>,
) -> Vec<Row> {
    let mut found: Vec<Row> = rows
        .into_iter()
        .filter(|row| query.is_after(&**row) && query.condition.matches(&**row, related))
        .collect();
    found.sort_unstable_by(|a, b| query.order(&**a, &**b));
    found.truncate(query.limit);
    found
}

/// Answers an aggregate over all rows of its object.
///
/// # Errors
/// [`QueryError::Overflow`](crate::query::QueryError::Overflow).
pub fn scan_aggregate(
    query: &AggregateQuery,
    rows: impl IntoIterator<Item = Row>,
    related: &RelatedRows<'_>,
) -> Result<Vec<Group>, StorageError> {
    let mut aggregator = Aggregator::new(query);
    for row in rows {
        if query.condition.matches(&*row, related) {
            aggregator.add(&*row);
        }
    }
    Ok(aggregator.finish()?)
}

/// The values of a row in a unique key, in the form in which they are compared; `None` where the
/// row does not count: a value is missing, the row is deleted and the key is for live rows, or the
/// key's condition is not fulfilled.
#[must_use]
pub fn unique_value(key: &UniqueKey, row: &dyn AnyRecord) -> Option<Vec<Value>> {
    if key.live && !row.value(system::DELETED_AT).is_null() {
        return None;
    }
    if key
        .only_if
        .is_some_and(|index| row.value(index) != ValueRef::Boolean(true))
    {
        return None;
    }
    key.fields
        .iter()
        .map(|index| match row.value(*index) {
            ValueRef::Null => None,
            ValueRef::Text(text) if key.ignore_case => Some(Value::Text(fold_case(text))),
            value => Some(value.into_owned()),
        })
        .collect()
}

/// The references that a commit must check: for each inserted row and each changed reference, the
/// object that has it, the field, the object it leads to and the id. A restored row (one whose
/// `deleted_at` was emptied) counts as changed in all of them.
#[must_use]
pub fn check_references(changes: &ChangeSet) -> Vec<(ObjectRef, usize, String, Uuid)> {
    let mut wanted = Vec::new();
    for change in &changes.changes {
        let Some(after) = change.after() else {
            continue;
        };
        let restored = change
            .before()
            .is_some_and(|before| before.is_deleted() && !after.is_deleted());
        for index in change.object().references() {
            let Some(id) = after.value(*index).as_uuid() else {
                continue;
            };
            let unchanged = change
                .before()
                .is_some_and(|before| before.value(*index) == ValueRef::Uuid(id) && !restored);
            if unchanged || after.is_deleted() {
                continue;
            }
            let object = change.object();
            let target = object
                .fields()
                .get(*index)
                .and_then(|field| field.reference());
            if let Some((target, _)) = target {
                wanted.push((object.clone(), *index, target.to_owned(), id));
            }
        }
    }
    wanted
}

/// The deleted rows that an object may refer to, each with the name of its object.
type Wanted<'a> = (&'a ObjectRef, HashMap<Uuid, &'a str>);

/// Finds what in a change set contradicts rows that are at hand: the checks of
/// [`ChangeSet`], for backends that can look at all rows of a tenant.
#[derive(Debug)]
pub struct Violations<'a> {
    changes: &'a ChangeSet,
    by_row: HashMap<(&'a str, Uuid), &'a Change>,
}

impl<'a> Violations<'a> {
    /// Prepares the checks of `changes`.
    #[must_use]
    pub fn of(changes: &'a ChangeSet) -> Self {
        let by_row = changes
            .changes
            .iter()
            .map(|change| ((change.object().name(), change.id()), change))
            .collect();
        Self { changes, by_row }
    }

    /// Checks the change set. `get` finds a stored row of the tenant, `all` lists the stored rows
    /// of an object, `objects` lists the objects that may refer to others.
    ///
    /// # Errors
    /// The first violation.
    pub fn check(
        &self,
        get: &dyn Fn(&str, Uuid) -> Option<Row>,
        all: &dyn Fn(&str) -> Vec<Row>,
        objects: &[ObjectRef],
    ) -> Result<(), StorageError> {
        self.check_versions(get)?;
        for change in &self.changes.changes {
            if let Some(after) = change.after() {
                self.check_unique(change.object(), after, all)?;
            }
        }
        for (object, index, target, id) in check_references(self.changes) {
            let row = match self.by_row.get(&(target.as_str(), id)) {
                Some(change) => change.after().cloned(),
                None => get(&target, id),
            };
            if row.is_none_or(|row| row.is_deleted()) {
                return Err(StorageError::Reference {
                    object: object.name().to_owned(),
                    field: object.field_name(index).to_owned(),
                });
            }
        }
        self.check_removed(all, objects)?;
        self.check_unreferenced(get, all)?;
        self.check_guards(get, all)
    }

    fn check_guards(
        &self,
        get: &dyn Fn(&str, Uuid) -> Option<Row>,
        all: &dyn Fn(&str) -> Vec<Row>,
    ) -> Result<(), StorageError> {
        for guard in &self.changes.guards {
            let mut query = guard.query();
            query.limit = usize::MAX;
            let name = query.object.name();
            let unchanged = all(name).into_iter().filter(|row| {
                // The platform's rows stand beside those of other tenants, which do not count.
                !self.by_row.contains_key(&(name, row.id())) && get(name, row.id()).is_some()
            });
            let changes = self.changes.changes.iter();
            let changed = changes.filter(|change| *change.object() == query.object);
            let rows = unchanged.chain(changed.filter_map(Change::after).cloned());
            let mut refuses = guard.judge();
            let rows = scan(&query, rows, &NoRelated);
            if let Some(row) = rows.iter().find(|row| refuses(&***row)) {
                return Err(StorageError::Conflict {
                    object: name.to_owned(),
                    id: row.id(),
                });
            }
        }
        Ok(())
    }

    fn check_versions(&self, get: &dyn Fn(&str, Uuid) -> Option<Row>) -> Result<(), StorageError> {
        let expect = |object: &ObjectRef, id: Uuid, version: i64| {
            if get(object.name(), id).map(|row| row.version()) == Some(version) {
                return Ok(());
            }
            Err(StorageError::Conflict {
                object: object.name().to_owned(),
                id,
            })
        };
        for expected in &self.changes.expects {
            expect(&expected.object, expected.id, expected.version)?;
        }
        for change in &self.changes.changes {
            if let Some(before) = change.before() {
                expect(change.object(), change.id(), before.version())?;
            } else if get(change.object().name(), change.id()).is_some() {
                return Err(StorageError::Duplicate {
                    object: change.object().name().to_owned(),
                    fields: vec!["id".to_owned()],
                });
            }
        }
        Ok(())
    }

    fn check_unique(
        &self,
        object: &ObjectRef,
        after: &Row,
        all: &dyn Fn(&str) -> Vec<Row>,
    ) -> Result<(), StorageError> {
        let stored = if object.unique_keys().is_empty() {
            Vec::new()
        } else {
            all(object.name())
        };
        for key in object.unique_keys() {
            let Some(value) = unique_value(key, &**after) else {
                continue;
            };
            let same = self.rows_after(object, &stored).any(|row| {
                row.id() != after.id() && unique_value(key, &**row).as_ref() == Some(&value)
            });
            if same {
                return Err(StorageError::Duplicate {
                    object: object.name().to_owned(),
                    fields: object.names(&key.fields),
                });
            }
        }
        Ok(())
    }

    /// The rows of an object as they are after the change set.
    fn rows_after<'s>(
        &'s self,
        object: &'s ObjectRef,
        stored: &'s [Row],
    ) -> impl Iterator<Item = &'s Row> {
        let unchanged = stored
            .iter()
            .filter(|row| !self.by_row.contains_key(&(object.name(), row.id())));
        let changed = self
            .changes
            .changes
            .iter()
            .filter(move |change| change.object() == object)
            .filter_map(Change::after);
        unchanged.chain(changed)
    }

    fn check_removed(
        &self,
        all: &dyn Fn(&str) -> Vec<Row>,
        objects: &[ObjectRef],
    ) -> Result<(), StorageError> {
        for change in &self.changes.changes {
            let Change::Delete { before } = change else {
                continue;
            };
            let removed = change.object();
            for object in objects {
                let fields: Vec<usize> = object
                    .references()
                    .iter()
                    .copied()
                    .filter(|index| {
                        object
                            .fields()
                            .get(*index)
                            .and_then(|field| field.reference())
                            .is_some_and(|(target, _)| target == removed.name())
                    })
                    .collect();
                if fields.is_empty() {
                    continue;
                }
                let stored = all(object.name());
                for row in self.rows_after(object, &stored) {
                    for index in &fields {
                        if row.value(*index) == ValueRef::Uuid(before.id()) {
                            return Err(StorageError::Referenced {
                                object: removed.name().to_owned(),
                                by: object.name().to_owned(),
                                field: object.field_name(*index).to_owned(),
                            });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn check_unreferenced(
        &self,
        get: &dyn Fn(&str, Uuid) -> Option<Row>,
        all: &dyn Fn(&str) -> Vec<Row>,
    ) -> Result<(), StorageError> {
        // Each object is looked through once for each of its references, however many rows are
        // deleted.
        let mut wanted: BTreeMap<(&str, usize), Wanted<'_>> = BTreeMap::new();
        for one in &self.changes.unreferenced {
            let Some(target) = self.changes.target_of(one) else {
                continue;
            };
            let (_, ids) = wanted
                .entry((one.object.name(), one.field))
                .or_insert_with(|| (&one.object, HashMap::new()));
            ids.insert(one.id, target);
        }
        for ((name, index), (object, ids)) in wanted {
            let stored = all(name);
            let refers_to = |row: &Row| {
                let id = row.value(index).as_uuid().filter(|_| !row.is_deleted());
                id.filter(|id| ids.contains_key(id))
            };
            let unchanged = stored.iter().filter_map(|row| {
                let is_changed = self.by_row.contains_key(&(name, row.id()));
                let id = refers_to(row).filter(|_| !is_changed)?;
                // The platform's rows stand beside those of other tenants, which do not count.
                get(name, row.id()).map(|_| id)
            });
            let changed = self
                .changes
                .changes
                .iter()
                .filter(|change| change.object() == object)
                .filter_map(|change| refers_to(change.after()?));
            if let Some(id) = unchanged.chain(changed).next() {
                let target = ids.get(&id).copied().unwrap_or_default();
                return Err(StorageError::Conflict {
                    object: target.to_owned(),
                    id,
                });
            }
        }
        Ok(())
    }
}

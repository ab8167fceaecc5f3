//! The random operations: commits, with every answer that they may get, and claims.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta};
use crm_engine::query::{Condition, Query, SortKey};
use crm_engine::schema::{
    Lifecycle, Meta, ObjectRef, ObjectScope, Row, SYSTEM_FIELDS, Value, ValueRef,
};
use crm_engine::storage::{
    Change, ChangeSet, Claim, Expectation, Storage, check_references, resealed, unique_value,
};
use uuid::Uuid;

use super::compare::{explain, outcome, same_answers, same_rows, show_changes};
use super::values::Random;
use super::world::{Difference, World, has_secrets};

/// The rows of an object that a tenant has at most, about.
const ROWS: usize = 24;

/// Whether claims leave ties to the id: see [`super::cases::a_claim_breaks_ties_as_a_query_does`].
const TIES_OF_CLAIMS: bool = true;

impl World {
    pub(crate) fn some_object(&mut self) -> ObjectRef {
        self.random.pick(&self.objects).cloned().unwrap()
    }

    /// The object itself, or one that its rows need.
    fn ready(&mut self, tenant: usize, mut object: ObjectRef) -> ObjectRef {
        for _ in 0..4 {
            let missing = object.own_fields().iter().find_map(|field| {
                let (target, _) = field.reference().filter(|_| field.required)?;
                let target = self.registry.object(target)?;
                let rows = self.rows_of(tenant, &target);
                rows.iter().all(|row| row.is_deleted()).then_some(target)
            });
            match missing {
                Some(target) => object = target,
                None => break,
            }
        }
        object
    }

    fn change(&mut self, tenant: usize, used: &mut BTreeSet<(String, Uuid)>) -> Option<Change> {
        let object = self.some_object();
        let object = self.ready(tenant, object);
        let rows = self.rows_of(tenant, &object);
        let is_log = object.lifecycle() == Lifecycle::Log;
        let grows = rows.len() < 4 || (rows.len() < ROWS && self.random.one_in(2));
        let change = if grows || (is_log && rows.len() < 3 * ROWS) {
            Change::Insert {
                row: self.new_row(tenant, &object),
            }
        } else if is_log {
            return None;
        } else {
            // Now and then a row of the other tenant.
            let from = if self.random.one_in(40) {
                1 - tenant
            } else {
                tenant
            };
            let mut before = self.some_row(from, &object)?;
            // What was read is what was stored: both tenants may have a row of this id.
            if let Some(own) = self.rows[tenant]
                .get(object.name())
                .and_then(|rows| rows.get(&before.id()))
            {
                before = own.clone();
            }
            if self.random.one_in(30) {
                let meta = before.meta();
                before = before.with_meta(Meta {
                    version: meta.version + 1,
                    ..meta
                });
            }
            if self.random.below(100) < if rows.len() >= ROWS { 60 } else { 15 } {
                Change::Delete { before }
            } else {
                let after = self.next_row(tenant, &before);
                Change::Update { before, after }
            }
        };
        used.insert((object.name().to_owned(), change.id()))
            .then_some(change)
    }

    /// Gives each of two rows the values that the other has in a unique key.
    fn swap(&mut self, tenant: usize, used: &mut BTreeSet<(String, Uuid)>) -> Vec<Change> {
        let object = self.some_object();
        if object.lifecycle() == Lifecycle::Log || object.unique_keys().is_empty() {
            return Vec::new();
        }
        let (Some(a), Some(b)) = (
            self.some_row(tenant, &object),
            self.some_row(tenant, &object),
        ) else {
            return Vec::new();
        };
        let key = self.random.pick(object.unique_keys()).cloned().unwrap();
        if a.id() == b.id() || object.scope() == ObjectScope::Platform {
            return Vec::new();
        }
        let mut pairs = vec![(&a, &b), (&b, &a)];
        if self.random.one_in(4) {
            // Half a swap is a duplicate.
            pairs.truncate(1);
        }
        let mut changes = Vec::new();
        for (before, other) in pairs {
            let mut values = before.values();
            for field in &key.fields {
                if let Some(slot) = field.checked_sub(SYSTEM_FIELDS) {
                    values[slot] = other.value(*field).into_owned();
                }
            }
            let meta = before.meta().next(self.stamp());
            let after = self.build(tenant, &object, meta, values);
            let before = before.clone();
            changes.push(Change::Update { before, after });
        }
        changes
            .into_iter()
            .filter(|change| used.insert((object.name().to_owned(), change.id())))
            .collect()
    }

    fn expectations(&mut self, tenant: usize) -> Vec<Expectation> {
        let mut expects = Vec::new();
        for _ in 0..self.random.below(3) {
            let object = self.some_object();
            let from = if self.random.one_in(10) {
                1 - tenant
            } else {
                tenant
            };
            let (id, version) = match self.some_row(from, &object) {
                Some(row) if !self.random.one_in(40) => (row.id(), row.version()),
                Some(row) => (row.id(), row.version() + 1),
                None if self.random.one_in(20) => (self.new_id(), 1),
                None => continue,
            };
            expects.push(Expectation {
                object,
                id,
                version,
            });
        }
        expects
    }

    fn change_set(&mut self, tenant: usize) -> ChangeSet {
        let mut used = BTreeSet::new();
        let mut changes = Vec::new();
        if self.random.one_in(8) {
            changes = self.swap(tenant, &mut used);
        }
        let most = self.random.of(&[1, 1, 1, 2, 3, 8]);
        for _ in changes.len()..most {
            changes.extend(self.change(tenant, &mut used));
        }
        let expects = if self.random.one_in(5) {
            self.expectations(tenant)
        } else {
            Vec::new()
        };
        let at = DateTime::UNIX_EPOCH + TimeDelta::microseconds(self.clock);
        let own = self.objects.iter();
        let own = own.filter(|object| object.template().is_some());
        let own = own.cloned().collect();
        ChangeSet::new(self.new_id(), at, changes, expects).with_objects(own)
    }

    /// Everything that a commit may answer, by the port's five checks.
    fn answers(&self, tenant: usize, changes: &ChangeSet) -> BTreeSet<String> {
        let stored = |object: &ObjectRef, id: Uuid| {
            self.rows[tenant]
                .get(object.name())
                .and_then(|rows| rows.get(&id))
                .cloned()
        };
        let version = |object: &ObjectRef, id| stored(object, id).map(|row| row.version());
        let mut answers = BTreeSet::new();
        for expected in &changes.expects {
            if version(&expected.object, expected.id) != Some(expected.version) {
                answers.insert(format!(
                    "conflict {} {}",
                    expected.object.name(),
                    expected.id
                ));
            }
        }
        for change in &changes.changes {
            let is_right = match change.before() {
                Some(before) => version(change.object(), change.id()) == Some(before.version()),
                None => {
                    change.object().scope() == ObjectScope::Tenant
                        || change.id() == self.tenants[tenant]
                }
            };
            if !is_right {
                answers.insert(format!(
                    "conflict {} {}",
                    change.object().name(),
                    change.id()
                ));
            }
        }
        if !answers.is_empty() {
            return answers;
        }
        let mut after = self.rows.clone();
        for change in &changes.changes {
            let rows = after[tenant]
                .entry(change.object().name().to_owned())
                .or_default();
            if change.before().is_none() && rows.contains_key(&change.id()) {
                answers.insert(format!("duplicate {} id", change.object().name()));
            }
            match change.after() {
                Some(row) => rows.insert(row.id(), row.clone()),
                None => rows.remove(&change.id()),
            };
        }
        let others = |object: &ObjectRef, tenant: usize| {
            after[tenant]
                .get(object.name())
                .into_iter()
                .flat_map(|rows| rows.values())
        };
        for row in changes.changes.iter().filter_map(Change::after) {
            let object = row.object();
            let shared = object.scope() == ObjectScope::Platform;
            for key in object.unique_keys() {
                let Some(own) = unique_value(key, &**row) else {
                    continue;
                };
                let strangers = others(object, 1 - tenant).filter(|_| shared);
                let taken = others(object, tenant).chain(strangers).any(|other| {
                    other.id() != row.id() && unique_value(key, &**other).as_ref() == Some(&own)
                });
                if taken {
                    let fields = object.names(&key.fields).join("+");
                    answers.insert(format!("duplicate {} {fields}", object.name()));
                }
            }
        }
        for (object, field, target, id) in check_references(changes) {
            let row = after[tenant].get(&target).and_then(|rows| rows.get(&id));
            if row.is_none_or(|row| row.is_deleted()) {
                answers.insert(format!(
                    "reference {} {}",
                    object.name(),
                    object.field_name(field)
                ));
            }
        }
        for change in changes
            .changes
            .iter()
            .filter(|change| change.after().is_none())
        {
            let name = change.object().name();
            for (object, field, _) in self.registry.referring_to(name) {
                if others(&object, tenant)
                    .any(|row| row.value(field) == ValueRef::Uuid(change.id()))
                {
                    let field = object.field_name(field);
                    answers.insert(format!("referenced {name} {} {field}", object.name()));
                }
            }
        }
        if answers.is_empty() {
            answers.insert("ok".to_owned());
        }
        answers
    }

    async fn commit(&mut self) -> Result<(), Difference> {
        let tenant = self.random.below(2);
        let changes = self.change_set(tenant);
        let scope = self.scope(tenant);
        let answers = self.answers(tenant, &changes);
        let memory = self.memory.commit(&scope, &changes).await;
        let postgres = self.postgres.commit(&scope, &changes).await;
        let told = || format!("{scope:?} commits{}", show_changes(&changes));
        let (left, right) = (outcome(&memory), outcome(&postgres));
        if !answers.contains(&left) || !answers.contains(&right) {
            return Err(format!(
                "expected one of {answers:?}\nmemory:   {left}\npostgres: {right}\n{}",
                told()
            ));
        }
        if left != right {
            self.count("other fault of several");
        }
        if memory.ok() != postgres.ok() {
            return Err(format!("they count different rows: {}", told()));
        }
        self.count(match left.split(' ').next() {
            Some("ok") => "commit: ok",
            Some("conflict") => "commit: conflict",
            Some("duplicate") => "commit: duplicate",
            Some("reference") => "commit: reference",
            _ => "commit: referenced",
        });
        let mut touched: Vec<ObjectRef> = Vec::new();
        for change in &changes.changes {
            if left == "ok" {
                let rows = self.rows[tenant]
                    .entry(change.object().name().to_owned())
                    .or_default();
                match change.after() {
                    Some(row) => rows.insert(row.id(), row.clone()),
                    None => rows.remove(&change.id()),
                };
            }
            if !touched.contains(change.object()) {
                touched.push(change.object().clone());
            }
        }
        for object in touched {
            self.check_rows(tenant, &object)
                .await
                .map_err(|difference| format!("{difference}\nafter {}", told()))?;
        }
        Ok(())
    }

    /// Both hold exactly the rows that they should.
    pub(crate) async fn check_rows(
        &mut self,
        tenant: usize,
        object: &ObjectRef,
    ) -> Result<(), Difference> {
        let query = Query::new(object, Condition::all());
        let scope = self.scope(tenant);
        let expected = self.rows_of(tenant, object);
        for (name, storage) in self.storages() {
            let rows = storage.select(&scope, &query).await;
            let rows = rows.map_err(|error| format!("{name}: {}", explain(&error)))?;
            same_rows(&expected, &rows).map_err(|difference| {
                format!("{name} holds other `{}`: {difference}", object.name())
            })?;
        }
        Ok(())
    }

    pub(crate) fn storages(&self) -> [(&'static str, &dyn Storage); 2] {
        [("memory", &self.memory), ("postgres", &self.postgres)]
    }

    async fn claim(&mut self) -> Result<(), Difference> {
        let tenant = self.random.below(2);
        let object = self.some_object();
        let in_key = |index: usize| {
            object
                .unique_keys()
                .iter()
                .any(|key| key.fields.contains(&index) || key.only_if == Some(index))
        };
        let free: Vec<usize> = (SYSTEM_FIELDS..object.fields().len())
            .filter(|index| !in_key(*index) && object.fields()[*index].reference().is_none())
            .collect();
        if object.lifecycle() == Lifecycle::Log || free.is_empty() {
            return Ok(());
        }
        let mut assign: BTreeMap<usize, Value> = BTreeMap::new();
        for _ in 0..=self.random.below(3) {
            let index = self.random.of(&free);
            let field = object.fields()[index].clone();
            assign.insert(index, self.field_value(tenant, &object, &field));
        }
        let condition = self.condition(tenant, &object);
        let mut sort = self.sort(&object);
        if !TIES_OF_CLAIMS {
            sort.push(SortKey {
                index: 0,
                descending: self.random.one_in(2),
            });
        }
        let (limit, stamp) = (self.random.below(5), self.stamp());
        let assign: Vec<(usize, Value)> = assign.into_iter().collect();
        // An assignment changes its fields and nothing else: what belongs together in the object's
        // Rust type, such as the two forms of a telephone number, is not torn apart.
        let claim = Claim::new(
            object.clone(),
            Condition::all(),
            Vec::new(),
            1,
            assign.clone(),
            stamp,
        );
        let is_whole = |row: &Row| {
            let mut values = row.values();
            for (index, value) in &assign {
                values[index - SYSTEM_FIELDS] = value.clone();
            }
            claim
                .apply(row)
                .is_ok_and(|applied| applied.values() == values)
        };
        if !self.rows_of(tenant, &object).iter().all(is_whole) {
            return Ok(());
        }
        let claim = Claim::new(object.clone(), condition, sort, limit, assign, stamp);
        let scope = self.scope(tenant);
        let memory = self.memory.claim(&scope, &claim).await;
        let postgres = self.postgres.claim(&scope, &claim).await;
        let rows = same_answers(&memory, &postgres, same_rows)
            .map_err(|difference| format!("{difference}\n{scope:?} claims {claim:?}"))?;
        self.count(if rows.is_some_and(|rows| !rows.is_empty()) {
            "claim: some"
        } else {
            "claim: none"
        });
        for row in rows.into_iter().flatten() {
            let all = self.rows[tenant]
                .entry(object.name().to_owned())
                .or_default();
            all.insert(row.id(), row.clone());
        }
        self.check_rows(tenant, &object)
            .await
            .map_err(|difference| format!("{difference}\nafter {scope:?} claims {claim:?}"))
    }

    /// Seals rows anew: those of a tenant, some of the other one, some at a version that they are not at.
    async fn reseal(&mut self) -> Result<(), Difference> {
        let tenant = self.random.below(2);
        let object = self.some_object();
        if !has_secrets(&object) {
            return Ok(());
        }
        let mut anew: BTreeMap<Uuid, Row> = BTreeMap::new();
        for _ in 0..=self.random.below(5) {
            let from = if self.random.one_in(6) {
                1 - tenant
            } else {
                tenant
            };
            let Some(row) = self.some_row(from, &object) else {
                continue;
            };
            // A token that no other row has.
            let token = self.random.next();
            let mut row = self.sealed(&row, token);
            if self.random.one_in(6) {
                let meta = row.meta();
                row = row.with_meta(Meta {
                    version: meta.version + 1,
                    ..meta
                });
            }
            anew.insert(row.id(), row);
        }
        let anew: Vec<Row> = anew.into_values().collect();
        let scope = self.scope(tenant);
        let memory = self.memory.reseal(&scope, &anew).await;
        let postgres = self.postgres.reseal(&scope, &anew).await;
        let mut expected = 0;
        let own = self.rows[tenant]
            .entry(object.name().to_owned())
            .or_default();
        for row in &anew {
            if let Some(stored) = own.get_mut(&row.id())
                && stored.version() == row.version()
                && let Ok(Some(after)) = resealed(stored, row)
            {
                *stored = after;
                expected += 1;
            }
        }
        if memory.as_ref().ok() != Some(&expected) || postgres.as_ref().ok() != Some(&expected) {
            return Err(format!(
                "expected {expected} rows of `{}` to be sealed anew\nmemory: {memory:?}\npostgres: {postgres:?}",
                object.name()
            ));
        }
        self.count(if expected > 0 {
            "reseal: some"
        } else {
            "reseal: none"
        });
        self.check_rows(tenant, &object).await?;
        self.check_rows(1 - tenant, &object).await
    }

    pub(crate) async fn step(&mut self, seed: u64) -> Result<(), Difference> {
        self.random = Random(seed);
        match self.random.below(21) {
            0..=8 => self.commit().await,
            9 => self.get().await,
            10..=14 => self.walk().await,
            15..=18 => self.aggregate().await,
            19 => self.reseal().await,
            _ => self.claim().await,
        }
    }
}

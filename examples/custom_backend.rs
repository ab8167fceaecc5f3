//! A whole storage backend in one file: rows in memory, commits in an append-only log.
//!
//! Every commit is one line of JSON, written with one write and one sync: it is in the log or it is
//! not. Opening the file replays it; a last line that a crash tore off is cut away. What a commit
//! must check and what a query means comes from `crm_core::storage`, which is all that a backend
//! needs that has its rows at hand. At the end the public conformance suite judges it:
//! `cargo run --example custom_backend`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::DateTime;
use crm_core::query::{AggregateQuery, Group, Query, Related, RelatedBy};
use crm_core::schema::{Meta, ObjectRef, ObjectScope, Row, SYSTEM_FIELDS, StorageKind};
use crm_core::schema::{Value, ValueRef, system};
use crm_core::storage::conformance::{self, Harness};
use crm_core::storage::{Change, ChangeSet, Claim, Committed, FeedPage, FeedPosition, FeedQuery};
use crm_core::storage::{Scope, Storage, StorageError, Taking, Violations};
use crm_core::storage::{resealed, scan, scan_aggregate, scan_feed};
use crm_core::{Actor, Stamp};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Answer<T> = Result<T, StorageError>;
/// Whose a row is (the platform's rows are nobody's: the nil id), its object and its id.
type Key = (Uuid, String, Uuid);
/// A key, and the row as JSON with what is sealed of it.
type Line = (Key, Option<(Map<String, Json>, Option<Vec<u8>>)>);

/// A storage over one file.
#[derive(Debug)]
struct JsonLines {
    objects: BTreeMap<String, ObjectRef>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    log: File,
    /// Where the last whole commit ends.
    end: u64,
    /// The last entry of each row; nothing where it was removed.
    rows: BTreeMap<Key, Option<Row>>,
    /// How many lines there are.
    lines: u64,
    /// The line that first had each row: the order of the feed.
    made: BTreeMap<Key, u64>,
}

// ---- A row from its JSON: the schema knows what each value was. -----------------------------

fn row_of(object: &ObjectRef, json: &Map<String, Json>, sealed: Option<Vec<u8>>) -> Option<Row> {
    let mut values = Vec::new();
    for field in object.fields() {
        let value = Value::from_json(json.get(&*field.name)?.clone());
        // What stands in the place of a sealed text is a text of any form.
        let stands_in = sealed.is_some() && field.storage_kind() == StorageKind::Text;
        values.push(match value {
            Value::Text(_) if stands_in => value,
            value => field.field_type.coerce(value).ok()?,
        });
    }
    let own = values.split_off(SYSTEM_FIELDS);
    object.build_sealed(meta_of(&values)?, own, sealed).ok()
}

fn meta_of(values: &[Value]) -> Option<Meta> {
    let value = |index: usize| values.get(index).map(Value::as_ref);
    let at = |index: usize| match value(index) {
        Some(ValueRef::Timestamp(at)) => Some(at),
        _ => None,
    };
    // Three fields in a row: when, by what kind of actor, by which one.
    let stamp = |first: usize| {
        let by = Actor::from_parts(value(first + 1)?.as_text()?, value(first + 2)?.as_uuid())?;
        at(first).map(|at| Stamp { at, by })
    };
    let Some(ValueRef::Integer(version)) = value(system::VERSION) else {
        return None;
    };
    Some(Meta {
        id: value(system::ID)?.as_uuid()?,
        version,
        created: stamp(system::CREATED_AT)?,
        updated: stamp(system::UPDATED_AT)?,
        archived_at: at(system::ARCHIVED_AT),
        deleted_at: at(system::DELETED_AT),
    })
}

// ---- The log: one line for each commit, a list of keys and rows. -----------------------------

impl JsonLines {
    /// Opens the file, or makes it, and replays its commits. `known` are the objects whose rows
    /// may stand in it.
    fn open(path: &Path, known: Vec<ObjectRef>) -> Result<Self, Failure> {
        let named = |object: ObjectRef| (object.name().to_owned(), object);
        let objects: BTreeMap<String, ObjectRef> = known.into_iter().map(named).collect();
        let log = OpenOptions::new().append(true).create(true).open(path)?;
        let mut bytes = std::fs::read(path)?;
        // Whatever follows the last line end was torn off in the middle of a commit.
        let last = bytes.iter().rposition(|byte| *byte == b'\n');
        bytes.truncate(last.map_or(0, |last| last + 1));
        let (end, mut rows) = (bytes.len() as u64, BTreeMap::new());
        let (mut lines, mut made) = (0, BTreeMap::new());
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let entries: Vec<Line> = serde_json::from_slice(line)?;
            lines += 1;
            let keys = entries.iter().map(|(key, json)| (key, json.is_some()));
            note(&mut made, &keys.collect::<Vec<_>>(), lines);
            for (key, json) in entries {
                let object = objects.get(&key.1).ok_or("a row of an unknown object")?;
                let row = json.map(|(json, sealed)| row_of(object, &json, sealed));
                let row = row.map(|row| row.ok_or("a row that does not fit"));
                rows.insert(key, row.transpose()?);
            }
        }
        let state = Mutex::new(State {
            log,
            end,
            rows,
            lines,
            made,
        });
        Ok(Self { objects, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the changes and writes all of them, or none.
    fn apply(&self, state: &mut State, scope: &Scope, changes: &ChangeSet) -> Answer<usize> {
        let mut written = Vec::new();
        for change in &changes.changes {
            let (object, id) = (change.object(), change.id());
            if scope.tenant().is_none() || !sees(scope, object, id) {
                let object = object.name().to_owned();
                return Err(StorageError::Conflict { object, id });
            }
            written.push((key(scope, object, id), change.after().cloned()));
        }
        let known: Vec<ObjectRef> = self.objects.values().cloned().collect();
        let find = |name: &str, id| state.find(scope, self.objects.get(name)?, id);
        let all = |name: &str| Some(state.all(scope, self.objects.get(name)?));
        let all = |name: &str| all(name).unwrap_or_default();
        Violations::of(changes).check(&find, &all, &known)?;
        let count = written.len();
        for taking in &changes.taken {
            for id in &taking.ids {
                let row = state.find(scope, &taking.from, *id);
                let row = row.filter(|row| taking.fits(row)).ok_or_else(|| {
                    let (object, id) = (taking.from.name().to_owned(), *id);
                    StorageError::Conflict { object, id }
                })?;
                written.push((key(scope, &taking.from, *id), None));
                if let Some(to) = &taking.to {
                    written.push((key(scope, to, *id), Some(Taking::moved(to, &row)?)));
                }
            }
        }
        state.write(written)?;
        Ok(count)
    }
}

impl State {
    /// Writes one line and then changes the rows: what is not in the log is nowhere.
    fn write(&mut self, written: Vec<(Key, Option<Row>)>) -> Answer<()> {
        let failed = |error: std::io::Error| StorageError::Failed(error.into());
        let form = |row: &Row| (row.to_json(), row.sealed().map(<[u8]>::to_vec));
        let entry = |(key, row): &(Key, Option<Row>)| json!([key, row.as_ref().map(form)]);
        let line = format!("{}\n", Json::Array(written.iter().map(entry).collect()));
        // Cuts off what a write left that failed half way.
        self.log.set_len(self.end).map_err(failed)?;
        self.log.write_all(line.as_bytes()).map_err(failed)?;
        self.log.sync_data().map_err(failed)?;
        self.end += line.len() as u64;
        self.lines += 1;
        let keys = written.iter().map(|(key, row)| (key, row.is_some()));
        note(&mut self.made, &keys.collect::<Vec<_>>(), self.lines);
        self.rows.extend(written);
        Ok(())
    }

    fn find(&self, scope: &Scope, object: &ObjectRef, id: Uuid) -> Option<Row> {
        let row = self.rows.get(&key(scope, object, id))?.clone();
        row.filter(|_| sees(scope, object, id))
    }

    /// All rows of an object of the tenant, or of all tenants for an object of the platform.
    fn all(&self, scope: &Scope, object: &ObjectRef) -> Vec<Row> {
        let range = key(scope, object, Uuid::nil())..=key(scope, object, Uuid::max());
        let rows = self.rows.range(range);
        rows.filter_map(|(_, row)| row.clone()).collect()
    }

    fn visible(&self, scope: &Scope, object: &ObjectRef) -> Vec<Row> {
        let mut rows = self.all(scope, object);
        rows.retain(|row| sees(scope, object, row.id()));
        rows
    }

    /// What conditions ask about other rows: the one that a reference leads to, and those that lead
    /// to a row.
    fn related(&self, scope: &Scope) -> impl Related {
        RelatedBy::new(
            |object: &ObjectRef, id| self.find(scope, object, id),
            |object: &ObjectRef| self.visible(scope, object),
        )
    }
}

/// Notes the line that first has a row; an entry that is moved to an archive keeps its own.
fn note(made: &mut BTreeMap<Key, u64>, written: &[(&Key, bool)], line: u64) {
    let gone = written.iter().filter(|(_, stays)| !stays);
    let gone: BTreeMap<(Uuid, Uuid), &Key> = gone.map(|(key, _)| ((key.0, key.2), *key)).collect();
    for (key, stays) in written {
        let from = gone.get(&(key.0, key.2)).filter(|_| *stays);
        let before = from.and_then(|from| made.get(*from)).copied();
        made.entry((*key).clone()).or_insert(before.unwrap_or(line));
    }
}

fn key(scope: &Scope, object: &ObjectRef, id: Uuid) -> Key {
    let owner = match (object.scope(), scope) {
        (ObjectScope::Tenant, Scope::Tenant(tenant)) => tenant.uuid(),
        _ => Uuid::nil(),
    };
    (owner, object.name().to_owned(), id)
}

/// Of the platform's objects, a tenant sees only its own row.
fn sees(scope: &Scope, object: &ObjectRef, id: Uuid) -> bool {
    object.scope() == ObjectScope::Tenant || scope.tenant().is_none_or(|own| own.uuid() == id)
}

// ---- The port. -------------------------------------------------------------------------------

#[async_trait]
impl Storage for JsonLines {
    async fn get(&self, scope: &Scope, object: &ObjectRef, ids: &[Uuid]) -> Answer<Vec<Row>> {
        let state = self.state();
        let found = ids.iter().filter_map(|id| state.find(scope, object, *id));
        Ok(found.collect())
    }

    async fn select(&self, scope: &Scope, query: &Query) -> Answer<Vec<Row>> {
        let state = self.state();
        let related = state.related(scope);
        let mut rows = state.visible(scope, &query.object);
        if let Some(snapshot) = query.snapshot()? {
            let end = snapshot.end()?.commit();
            let line = |row: &Row| state.made.get(&key(scope, &query.object, row.id()));
            rows.retain(|row| line(row).is_some_and(|line| *line < end));
        }
        Ok(scan(query, rows, &related))
    }

    async fn aggregate(&self, scope: &Scope, query: &AggregateQuery) -> Answer<Vec<Group>> {
        let state = self.state();
        let related = state.related(scope);
        scan_aggregate(query, state.visible(scope, &query.object), &related)
    }

    async fn commit(&self, scope: &Scope, changes: &ChangeSet) -> Answer<Committed> {
        let count = self.apply(&mut self.state(), scope, changes)?;
        Ok(Committed::new(count))
    }

    async fn reseal(&self, scope: &Scope, rows: &[Row]) -> Answer<usize> {
        let mut state = self.state();
        let mut changes = Vec::new();
        for row in rows.iter().filter(|_| scope.tenant().is_some()) {
            let stored = state.find(scope, row.object(), row.id());
            if let Some(before) = stored.filter(|stored| stored.version() == row.version())
                && let Some(after) = resealed(&before, row)?
            {
                changes.push(Change::Update { before, after });
            }
        }
        let at = DateTime::UNIX_EPOCH;
        let changes = ChangeSet::new(Uuid::nil(), at, changes, Vec::new());
        self.apply(&mut state, scope, &changes)
    }

    async fn claim(&self, scope: &Scope, claim: &Claim) -> Answer<Vec<Row>> {
        claim.check()?;
        let mut state = self.state();
        let query = Query::new(&claim.object, claim.condition.clone());
        let query = query.sort(claim.sort.clone()).limit(claim.limit);
        let visible = state.visible(scope, &claim.object);
        let found = scan(&query, visible, &state.related(scope));
        let mut claimed = Vec::new();
        for row in found {
            claimed.push(claim.apply(&row)?);
        }
        let entry = |row: &Row| (key(scope, &claim.object, row.id()), Some(row.clone()));
        state.write(claimed.iter().map(entry).collect())?;
        Ok(claimed)
    }

    async fn feed(&self, scope: &Scope, query: &FeedQuery) -> Answer<FeedPage> {
        let state = self.state();
        let position = |row: &Row| {
            let made = state.made.get(&key(scope, &query.object, row.id()));
            FeedPosition::new(made.copied().unwrap_or_default(), row.id())
        };
        let rows = state.visible(scope, &query.object).into_iter();
        let mut entries: Vec<_> = rows.map(|row| (position(&row), row)).collect();
        entries.sort_by_key(|(position, _)| *position);
        let end = FeedPosition::before(state.lines + 1);
        scan_feed(query, entries, end, &state.related(scope))
    }
}

// ---- The proof. ------------------------------------------------------------------------------

fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("commits.jsonl");
    // A host would add what its tenants define as it learns of it.
    let known = [conformance::objects(), conformance::instances()].concat();
    let storage = Arc::new(JsonLines::open(&path, known.clone())?);
    let (mut groups, mut is_right) = (BTreeMap::<&str, (usize, usize)>::new(), true);
    for case in conformance::cases() {
        let outcome = conformance::block_on(case.run(Harness::new(storage.clone())));
        let (passed, all) = groups.entry(case.group).or_default();
        (*passed, *all) = (*passed + usize::from(outcome.is_ok()), *all + 1);
        if let Err(failure) = outcome {
            eprintln!("{failure}");
            is_right = false;
        }
    }
    for (group, (passed, all)) in &groups {
        println!("{group:<12} {passed:>3} of {all:>3} cases passed");
    }

    // Close the file, tear it as a crash would, and open it again: every commit is there.
    let json = |storage: &JsonLines| -> Vec<_> {
        let rows = &storage.state().rows;
        let form = |row: &Row| (row.to_json(), row.sealed().map(<[u8]>::to_vec));
        rows.values().flatten().map(form).collect()
    };
    let before = json(&storage);
    drop(storage);
    let mut file = OpenOptions::new().append(true).open(&path)?;
    file.write_all(b"[[[\"01932c07-")?;
    let is_same = json(&JsonLines::open(&path, known)?) == before;
    println!("reopened: {} rows, all as before: {is_same}", before.len());
    let wrong = || "the backend does not conform".into();
    (is_right && is_same).then_some(()).ok_or_else(wrong)
}

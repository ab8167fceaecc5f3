//! [`NaiveStorage`]: the smallest backend that is right.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::DateTime;
use uuid::Uuid;

use crate::query::{AggregateQuery, Group, Query, Related, RelatedBy};
use crate::schema::{ObjectRef, ObjectScope, Row};
use crate::storage::{
    Change, ChangeSet, Claim, Committed, FeedPage, FeedPosition, FeedQuery, Scope, Storage,
    StorageError, Taking, Violations, resealed, scan, scan_aggregate, scan_feed,
};

/// The smallest backend that is right: all rows in one map behind one lock, every answer by looking
/// at all rows of a tenant.
///
/// It is what the suite proves itself against, and a starting point to read for your own. For
/// anything else use a backend that keeps indexes.
///
/// ```
/// use std::sync::Arc;
/// use crm_core::storage::conformance::{self, Harness, NaiveStorage};
///
/// let harness = Harness::new(Arc::new(NaiveStorage::default()));
/// let case = conformance::case("crud_every_field").expect("a case of the suite");
/// assert!(conformance::block_on(case.run(harness)).is_ok());
/// ```
#[derive(Debug, Default)]
pub struct NaiveStorage {
    state: Mutex<State>,
}

impl NaiveStorage {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; a poisoned one is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Storage for NaiveStorage {
    async fn get(
        &self,
        scope: &Scope,
        object: &ObjectRef,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, StorageError> {
        let state = self.state();
        Ok(ids
            .iter()
            .filter_map(|id| state.find(scope, object.name(), *id))
            .collect())
    }

    async fn select(&self, scope: &Scope, query: &Query) -> Result<Vec<Row>, StorageError> {
        let state = self.state();
        let mut rows = state.visible(scope, &query.object);
        if let Some(snapshot) = query.snapshot()? {
            let end = snapshot.end()?;
            let entries = state.entries(scope, &query.object).into_iter();
            rows = entries
                .filter(|(position, _)| *position < end)
                .map(|(_, row)| row)
                .collect();
        }
        Ok(scan(query, rows, &state.related(scope)))
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        query: &AggregateQuery,
    ) -> Result<Vec<Group>, StorageError> {
        let state = self.state();
        scan_aggregate(
            query,
            state.visible(scope, &query.object),
            &state.related(scope),
        )
    }

    async fn commit(&self, scope: &Scope, changes: &ChangeSet) -> Result<Committed, StorageError> {
        let mut state = self.state();
        state.check(scope, changes)?;
        let taken = state.taken(scope, changes)?;
        state.commits += 1;
        state.write(scope, &changes.changes);
        taken.iter().for_each(|one| state.take(scope, one));
        Ok(Committed::new(changes.changes.len()))
    }

    async fn claim(&self, scope: &Scope, claim: &Claim) -> Result<Vec<Row>, StorageError> {
        claim.check()?;
        let mut state = self.state();
        let query = claim_query(claim);
        let found = scan(
            &query,
            state.visible(scope, &claim.object),
            &state.related(scope),
        );
        let claimed = found
            .iter()
            .map(|row| claim.apply(row))
            .collect::<Result<Vec<_>, _>>()?;
        for row in &claimed {
            state.put(scope, row.clone());
        }
        Ok(claimed)
    }

    async fn feed(&self, scope: &Scope, query: &FeedQuery) -> Result<FeedPage, StorageError> {
        if scope.tenant().is_none() {
            query.check()?;
            return Ok(FeedPage::nothing(query));
        }
        let state = self.state();
        let entries = state.entries(scope, &query.object);
        scan_feed(query, entries, state.end(), &state.related(scope))
    }

    async fn reseal(&self, scope: &Scope, rows: &[Row]) -> Result<usize, StorageError> {
        let mut state = self.state();
        let changes = state.resealed(scope, rows)?;
        state.check(scope, &changes)?;
        state.write(scope, &changes.changes);
        Ok(changes.changes.len())
    }
}

/// An entry that is taken out of a log, as it is there and as an archive gets it.
pub(super) type Taken = (Row, Option<Row>);

/// The rows that a claim takes.
pub(super) fn claim_query(claim: &Claim) -> Query {
    Query::new(&claim.object, claim.condition.clone())
        .sort(claim.sort.clone())
        .limit(claim.limit)
}

/// All rows, by the tenant that they belong to and their object. Rows of the platform's objects
/// belong to no tenant: they stand under the nil id.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    rows: BTreeMap<(Uuid, String), BTreeMap<Uuid, Row>>,
    /// How many commits there were.
    pub(super) commits: u64,
    /// Which commit made a row, by what it stands under.
    made: BTreeMap<(Uuid, String, Uuid), u64>,
}

impl State {
    /// The rows of an object that a scope may see.
    pub(super) fn visible(&self, scope: &Scope, object: &ObjectRef) -> Vec<Row> {
        match (object.scope(), scope) {
            (ObjectScope::Tenant, Scope::Tenant(tenant)) => {
                self.under(tenant.uuid(), object.name())
            }
            (ObjectScope::Tenant, Scope::Platform) => Vec::new(),
            (ObjectScope::Platform, Scope::Platform) => self.under(Uuid::nil(), object.name()),
            (ObjectScope::Platform, Scope::Tenant(tenant)) => {
                let mut rows = self.under(Uuid::nil(), object.name());
                rows.retain(|row| row.id() == tenant.uuid());
                rows
            }
        }
    }

    fn under(&self, tenant: Uuid, object: &str) -> Vec<Row> {
        let rows = self.rows.get(&(tenant, object.to_owned()));
        rows.map(|rows| rows.values().cloned().collect())
            .unwrap_or_default()
    }

    /// The row with this id, if the scope may see it.
    pub(super) fn find(&self, scope: &Scope, object: &str, id: Uuid) -> Option<Row> {
        let under = |tenant: Uuid| {
            self.rows
                .get(&(tenant, object.to_owned()))?
                .get(&id)
                .cloned()
        };
        let Some(tenant) = scope.tenant() else {
            return under(Uuid::nil());
        };
        let own = || (id == tenant.uuid()).then(|| under(Uuid::nil())).flatten();
        under(tenant.uuid()).or_else(own)
    }

    /// Finds the rows that references lead to, and those that lead to a row.
    pub(super) fn related(&self, scope: &Scope) -> impl Related {
        RelatedBy::new(
            |object: &ObjectRef, id| self.find(scope, object.name(), id),
            |object: &ObjectRef| self.visible(scope, object),
        )
    }

    /// The rows that unique keys and references of an object are checked against: those of the
    /// tenant, or for an object of the platform those of all tenants.
    pub(super) fn compared(&self, scope: &Scope, object: &str) -> Vec<Row> {
        let mut rows = self.under(Uuid::nil(), object);
        if let Some(tenant) = scope.tenant() {
            rows.extend(self.under(tenant.uuid(), object));
        }
        rows
    }

    /// The objects that have rows, or get some.
    pub(super) fn objects(&self, changes: &ChangeSet) -> Vec<ObjectRef> {
        let stored = self.rows.values().filter_map(|rows| rows.values().next());
        let mut objects: Vec<ObjectRef> = Vec::new();
        for object in stored
            .map(|row| row.object())
            .chain(changes.changes.iter().map(Change::object))
        {
            if !objects.contains(object) {
                objects.push(object.clone());
            }
        }
        objects
    }

    /// What the port demands of a commit.
    fn check(&self, scope: &Scope, changes: &ChangeSet) -> Result<(), StorageError> {
        may_write(scope, changes)?;
        Violations::of(changes).check(
            &|object, id| self.find(scope, object, id),
            &|object| self.compared(scope, object),
            &self.objects(changes),
        )
    }

    /// The stored rows that are at the version of one of `rows`, and what sealing them anew makes of
    /// them.
    pub(super) fn resealed(&self, scope: &Scope, rows: &[Row]) -> Result<ChangeSet, StorageError> {
        let mut changes = Vec::new();
        for row in rows.iter().filter(|_| scope.tenant().is_some()) {
            let stored = self.find(scope, row.object().name(), row.id());
            if let Some(before) = stored.filter(|stored| stored.version() == row.version())
                && let Some(after) = resealed(&before, row)?
            {
                changes.push(Change::Update { before, after });
            }
        }
        Ok(ChangeSet::new(
            Uuid::nil(),
            DateTime::UNIX_EPOCH,
            changes,
            Vec::new(),
        ))
    }

    /// The entries that a commit takes out of logs, as they are there and as an archive gets them.
    fn taken(&self, scope: &Scope, changes: &ChangeSet) -> Result<Vec<Taken>, StorageError> {
        let mut taken = Vec::new();
        for taking in &changes.taken {
            for id in &taking.ids {
                let row = self.find(scope, taking.from.name(), *id);
                let Some(row) = row.filter(|row| taking.fits(row)) else {
                    return Err(gone(taking, *id));
                };
                let to = taking.to.as_ref();
                let moved = to.map(|to| Taking::moved(to, &row)).transpose()?;
                taken.push((row, moved));
            }
        }
        Ok(taken)
    }

    /// Takes an entry out of a log, and puts it into the archive at its place in the feed.
    pub(super) fn take(&mut self, scope: &Scope, (row, moved): &Taken) {
        let (owner, object) = key(scope, row.object());
        let place = (owner, object, row.id());
        let made = self.made.get(&place).copied().unwrap_or_default();
        self.write(
            scope,
            &[Change::Delete {
                before: row.clone(),
            }],
        );
        if let Some(moved) = moved {
            let (owner, archive) = key(scope, moved.object());
            self.made.insert((owner, archive, moved.id()), made);
            self.put(scope, moved.clone());
        }
    }

    pub(super) fn write(&mut self, scope: &Scope, changes: &[Change]) {
        for change in changes {
            match change.after() {
                Some(after) => self.put(scope, after.clone()),
                None => {
                    let key = key(scope, change.object());
                    if let Some(rows) = self.rows.get_mut(&key) {
                        rows.remove(&change.id());
                    }
                    self.made.remove(&(key.0, key.1, change.id()));
                }
            }
        }
    }

    pub(super) fn put(&mut self, scope: &Scope, row: Row) {
        let (owner, object) = key(scope, row.object());
        let commits = self.commits;
        self.made
            .entry((owner, object, row.id()))
            .or_insert(commits);
        self.rows
            .entry(key(scope, row.object()))
            .or_default()
            .insert(row.id(), row);
    }

    /// Takes a row for one of the last commit.
    pub(super) fn move_to_end(&mut self, scope: &Scope, row: &Row) {
        let (owner, object) = key(scope, row.object());
        self.commits += 1;
        self.made.insert((owner, object, row.id()), self.commits);
    }

    /// The entries of a log in the order of their commits.
    pub(super) fn entries(&self, scope: &Scope, object: &ObjectRef) -> Vec<(FeedPosition, Row)> {
        let (owner, object_name) = key(scope, object);
        let mut name = (owner, object_name, Uuid::nil());
        let mut entries: Vec<_> = self
            .visible(scope, object)
            .into_iter()
            .map(|row| {
                name.2 = row.id();
                let commit = self.made.get(&name).copied().unwrap_or_default();
                (FeedPosition::new(commit, row.id()), row)
            })
            .collect();
        entries.sort_by_key(|(position, _)| *position);
        entries
    }

    /// The position in front of the next commit.
    pub(super) const fn end(&self) -> FeedPosition {
        FeedPosition::before(self.commits + 1)
    }

    /// Every stored row with the tenant that it stands under.
    pub(super) fn everywhere(&self) -> impl Iterator<Item = (Uuid, &Row)> {
        self.rows
            .iter()
            .flat_map(|((tenant, _), rows)| rows.values().map(move |row| (*tenant, row)))
    }
}

/// What is told of an entry that cannot be taken.
pub(super) fn gone(taking: &Taking, id: Uuid) -> StorageError {
    StorageError::Conflict {
        object: taking.from.name().to_owned(),
        id,
    }
}

fn key(scope: &Scope, object: &ObjectRef) -> (Uuid, String) {
    let tenant = match object.scope() {
        ObjectScope::Tenant => scope.tenant().map_or(Uuid::nil(), |tenant| tenant.uuid()),
        ObjectScope::Platform => Uuid::nil(),
    };
    (tenant, object.name().to_owned())
}

/// Nothing is written in the scope of the platform, and of the platform's rows a tenant writes only
/// its own.
pub(super) fn may_write(scope: &Scope, changes: &ChangeSet) -> Result<(), StorageError> {
    let Some(tenant) = scope.tenant() else {
        if changes.changes.is_empty() && changes.taken.is_empty() {
            return Ok(());
        }
        return Err(StorageError::Failed(
            "the scope of the platform is for reading".into(),
        ));
    };
    for change in &changes.changes {
        let is_platform = change.object().scope() == ObjectScope::Platform;
        if is_platform && change.id() != tenant.uuid() {
            let object = change.object().name().to_owned();
            return Err(StorageError::Conflict {
                object,
                id: change.id(),
            });
        }
    }
    Ok(())
}

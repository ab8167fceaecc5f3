//! [`BrokenStorage`]: the reference store with one defect.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::super::naive::{State, Taken, claim_query, gone, may_write};
use super::Defect;
use super::check::{Checker, Checks};
use super::matching::not_deleted;
use super::sealing::without_sealed;
use crate::Id;
use crate::query::{
    AggregateQuery, Condition, Group, Query, Related, RelatedBy, TextSearch, best, search_words,
};
use crate::schema::{AnyRecord, Dynamic, ObjectRef, ObjectScope, Row};
use crate::storage::{
    Change, ChangeSet, Claim, Committed, FeedPage, FeedPosition, FeedQuery, Scope, Storage,
    StorageError, Taking,
};

/// A storage that is right but for one [`Defect`].
#[derive(Debug)]
pub struct BrokenStorage {
    pub(super) defect: Defect,
    state: Mutex<Stored>,
    busy: AtomicUsize,
}

#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) now: State,
    /// The rows before the last commit.
    pub(super) before: State,
    /// Rows as they were inserted.
    inserted: HashMap<Uuid, Row>,
    commits: usize,
}

/// Lets another thread in between.
pub(super) fn pause() {
    std::thread::sleep(Duration::from_micros(300));
}

impl BrokenStorage {
    /// An empty storage with this defect.
    #[must_use]
    pub fn new(defect: Defect) -> Self {
        Self {
            defect,
            state: Mutex::default(),
            busy: AtomicUsize::new(0),
        }
    }

    pub(super) fn has(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    fn leaks(&self, tenants: Defect, instances: Defect) -> Leaks {
        Leaks {
            tenants: self.has(tenants),
            instances: self.has(instances),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Stored> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What readers see.
    fn read(&self) -> (State, HashMap<Uuid, Row>) {
        let state = self.state();
        let rows = if self.has(Defect::ReadsBehind) {
            &state.before
        } else {
            &state.now
        };
        (rows.clone(), state.inserted.clone())
    }

    /// The rows of an object that a call sees; `leaks` where it sees those of every tenant.
    fn visible(&self, state: &State, scope: &Scope, object: &ObjectRef, leaks: bool) -> Vec<Row> {
        let platform = object.scope() == ObjectScope::Platform;
        let all = leaks && !platform
            || platform && self.has(Defect::TenantsSeePlatform)
            || *scope == Scope::Platform && self.has(Defect::PlatformSeesTenants);
        if all {
            return state
                .everywhere()
                .filter(|(_, row)| row.object() == object)
                .map(|(_, row)| row.clone())
                .collect();
        }
        let mut rows = state.visible(scope, object);
        if self.has(Defect::TemplatesHaveRows) && object.is_template() {
            rows.extend(siblings(state, scope, object));
        }
        rows
    }

    fn given(&self, rows: Vec<Row>) -> Vec<Row> {
        if self.has(Defect::LosesSealed) {
            return rows.iter().map(without_sealed).collect();
        }
        if self.has(Defect::TypesSealed) {
            let fits = |row: &Row| row.object().build(row.meta(), row.values()).is_ok();
            let mut rows = rows;
            rows.retain(fits);
            return rows;
        }
        if !self.has(Defect::UntypedRows) {
            return rows;
        }
        rows.into_iter()
            .map(|row| -> Row {
                let untyped = Dynamic::new(row.object().clone(), row.meta(), row.values());
                std::sync::Arc::new(untyped)
            })
            .collect()
    }

    fn related(&self, state: &State, scope: &Scope) -> impl Related {
        let foreign = self.has(Defect::HasSeesForeign);
        let shares = self.has(Defect::HasSeesSiblings);
        let leads = self.has(Defect::AnySeesForeign);
        RelatedBy::new(
            move |object: &ObjectRef, id| {
                if foreign {
                    anywhere(state, object, id)
                } else if shares {
                    let own = state.find(scope, object.name(), id);
                    sibling(state, scope, object, id).or(own)
                } else {
                    state.find(scope, object.name(), id)
                }
            },
            move |object: &ObjectRef| {
                let mut rows = self.visible(state, scope, object, leads);
                if self.has(Defect::AnySeesDeleted) {
                    rows = rows.iter().map(not_deleted).collect();
                }
                if self.has(Defect::AnySkipsArchived) {
                    rows.retain(|row| row.meta().archived_at.is_none());
                }
                rows
            },
        )
    }

    fn find_all(
        &self,
        state: &State,
        inserted: &HashMap<Uuid, Row>,
        scope: &Scope,
        query: &Query,
        leaks: Leaks,
    ) -> Vec<Row> {
        let related = self.related(state, scope);
        let or_leaks = self.has(Defect::OrLeaksForeign)
            && query
                .condition
                .conjuncts()
                .iter()
                .any(|one| matches!(one, Condition::Or(_)));
        let mut found = self.visible(state, scope, &query.object, leaks.tenants || or_leaks);
        if let Ok(Some(snapshot)) = query.snapshot()
            && let Ok(end) = snapshot.end()
            && !self.has(Defect::SelectsSinceSnapshots)
        {
            let entries = state.entries(scope, &query.object).into_iter();
            let later = entries.filter(|(position, _)| *position >= end);
            let later: HashSet<Uuid> = later.map(|(_, row)| row.id()).collect();
            found.retain(|row| !later.contains(&row.id()));
        }
        if leaks.instances {
            found.extend(siblings(state, scope, &query.object));
        }
        found.retain(|row| {
            let indexed = match inserted.get(&row.id()) {
                Some(old) if self.has(Defect::LeavesOldIndexEntries) => old,
                _ => row,
            };
            self.is_after(query, &**row) && self.matches(&query.condition, &**indexed, &related)
        });
        found.sort_by(|a, b| self.order(query, &**a, &**b));
        found.truncate(
            query
                .limit
                .saturating_add(usize::from(self.has(Defect::OneRowMore))),
        );
        found
    }
}

/// What a call sees besides the rows of its tenant and object.
#[derive(Clone, Copy)]
struct Leaks {
    tenants: bool,
    instances: bool,
}

/// The tenant's rows of the other objects that share a table with this one, as rows of it.
pub(super) fn siblings(state: &State, scope: &Scope, object: &ObjectRef) -> Vec<Row> {
    if object.discriminator().is_none() {
        return Vec::new();
    }
    let others = super::super::instances().into_iter();
    others
        .filter(|other| other != object)
        .flat_map(|other| state.visible(scope, &other))
        .filter_map(|row| object.build(row.meta(), row.values()).ok())
        .collect()
}

/// One of them.
pub(super) fn sibling(state: &State, scope: &Scope, object: &ObjectRef, id: Uuid) -> Option<Row> {
    let all = siblings(state, scope, object).into_iter();
    all.rev().find(|row| row.id() == id)
}

/// The row with this id in whatever tenant.
pub(super) fn anywhere(state: &State, object: &ObjectRef, id: Uuid) -> Option<Row> {
    state
        .everywhere()
        .map(|(_, row)| row)
        .find(|row| row.object() == object && row.id() == id)
        .cloned()
}

#[async_trait]
impl Storage for BrokenStorage {
    async fn get(
        &self,
        scope: &Scope,
        object: &ObjectRef,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, StorageError> {
        let (state, _) = self.read();
        let visible = self.visible(&state, scope, object, self.has(Defect::GetsForeign));
        let mut found: Vec<Row> = ids
            .iter()
            .filter_map(|id| {
                let own = state.find(scope, object.name(), *id);
                let own = own.or_else(|| visible.iter().find(|row| row.id() == *id).cloned());
                match self.defect {
                    Defect::GetsSiblings => own.or_else(|| sibling(&state, scope, object, *id)),
                    _ => own,
                }
            })
            .collect();
        if self.has(Defect::GetsInStorageOrder) {
            found.sort_by_key(|row| row.id());
        }
        if self.has(Defect::GetHidesDeleted) {
            found.retain(|row| !row.is_deleted());
        }
        Ok(self.given(found))
    }

    async fn select(&self, scope: &Scope, query: &Query) -> Result<Vec<Row>, StorageError> {
        let (state, inserted) = self.read();
        let leaks = self.leaks(Defect::SelectsForeign, Defect::SelectsSiblings);
        if !self.has(Defect::SelectsAnySnapshot)
            && let Some(snapshot) = query.snapshot()?
        {
            snapshot.end()?;
        }
        Ok(self.given(self.find_all(&state, &inserted, scope, query, leaks)))
    }

    async fn search(&self, scope: &Scope, search: &TextSearch) -> Result<Vec<Uuid>, StorageError> {
        let (state, inserted) = self.read();
        let condition = match self.defect {
            Defect::SearchesDeleted => Condition::all(),
            _ => Condition::not_deleted(),
        };
        let all = Query::new(search.object(), condition);
        let leaks = self.leaks(Defect::SearchesForeign, Defect::SelectsSiblings);
        let mut found = self.find_all(&state, &inserted, scope, &all, leaks);
        if self.has(Defect::SearchesWholeWords) {
            found.retain(|row| {
                let name = row.get("name").as_text().unwrap_or_default().to_owned();
                let words: Vec<String> = search_words(&name).collect();
                search.words().iter().all(|word| words.contains(word))
            });
        }
        let ranked = found
            .iter()
            .filter_map(|row| Some((search.rank(&**row)?, row.id())));
        let limit = match self.defect {
            Defect::SearchesWithoutLimit => usize::MAX,
            _ => search.limit,
        };
        Ok(best(ranked.collect(), limit))
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        query: &AggregateQuery,
    ) -> Result<Vec<Group>, StorageError> {
        let (state, inserted) = self.read();
        let condition = match self.defect {
            Defect::CountsEverything => Condition::all(),
            _ => query.condition.clone(),
        };
        let rows = Query::new(&query.object, condition);
        let leaks = self.leaks(Defect::AggregatesForeign, Defect::AggregatesSiblings);
        self.groups(query, self.find_all(&state, &inserted, scope, &rows, leaks))
    }

    async fn commit(&self, scope: &Scope, changes: &ChangeSet) -> Result<Committed, StorageError> {
        let beside = self.busy.fetch_add(1, Ordering::SeqCst);
        let committed = self.commit_beside(scope, changes, beside > 0);
        self.busy.fetch_sub(1, Ordering::SeqCst);
        committed
    }

    async fn claim(&self, scope: &Scope, claim: &Claim) -> Result<Vec<Row>, StorageError> {
        let mut query = claim_query(claim);
        match self.defect {
            Defect::ClaimsWithoutLimit => query.limit = usize::MAX,
            Defect::ClaimsWithoutOrder => query = query.sort(Vec::new()),
            _ => {}
        }
        let mut state = self.state();
        let leaks = self.leaks(Defect::ClaimsForeign, Defect::ClaimsSiblings);
        let found = self.find_all(&state.now, &state.inserted, scope, &query, leaks);
        if self.has(Defect::ClaimsWithoutLock) {
            drop(state);
            pause();
            state = self.state();
        }
        let mut claimed = Vec::new();
        for row in &found {
            let mut after = self.claimed(claim, row)?;
            if self.has(Defect::ClaimsLoseSealed) {
                after = without_sealed(&after);
            }
            let owner = owner(&state.now, scope, row.object(), row.id());
            state.now.put(&owner, after.clone());
            claimed.push(after);
        }
        state.before = state.now.clone();
        Ok(if self.has(Defect::ClaimsGiveOldRows) {
            found
        } else {
            claimed
        })
    }

    async fn feed(&self, scope: &Scope, query: &FeedQuery) -> Result<FeedPage, StorageError> {
        if !self.has(Defect::FeedsEverything) {
            query.check()?;
        }
        if scope.tenant().is_none() && !self.has(Defect::FeedsForeign) {
            return Ok(FeedPage::nothing(query));
        }
        let stored = self.state();
        let state = if self.has(Defect::ReadsBehind) {
            &stored.before
        } else {
            &stored.now
        };
        let end = state.end();
        if !self.has(Defect::FeedsFromAnywhere) {
            query.check_position(end)?;
        }
        let mut entries = state.entries(scope, &query.object);
        match self.defect {
            Defect::FeedsByIds => {
                for (position, row) in &mut entries {
                    *position = FeedPosition::new(1, row.id());
                }
            }
            Defect::FeedsForeign => {
                let rows = self.visible(state, scope, &query.object, true);
                entries = rows
                    .into_iter()
                    .map(|row| (FeedPosition::new(1, row.id()), row))
                    .collect();
            }
            Defect::FeedsByCounting => {
                for (number, (position, row)) in (1..).zip(&mut entries) {
                    *position = FeedPosition::new(number, row.id());
                }
            }
            _ => {}
        }
        entries.sort_by_key(|(position, _)| *position);
        let after = query.after.unwrap_or_default();
        let related = self.related(state, scope);
        entries.retain(|(position, row)| {
            let is_behind = match self.defect {
                Defect::FeedsPositionTwice => *position >= after,
                Defect::FeedsWholeCommits if !after.id().is_nil() => {
                    position.commit() > after.commit()
                }
                _ => *position > after,
            };
            let fulfils = self.has(Defect::FeedsUnfiltered)
                || self.matches(&query.condition, &**row, &related);
            is_behind && fulfils
        });
        let more = usize::from(self.has(Defect::FeedsOneMore));
        entries.truncate(query.limit.saturating_add(more));
        if self.has(Defect::FeedsLoseSealed) {
            for (_, row) in &mut entries {
                *row = without_sealed(row);
            }
        }
        let mut page = FeedPage::new(query, entries, end);
        match self.defect {
            Defect::FeedsPastTheLimit => page.until = end,
            Defect::FeedsStandStill if page.entries.is_empty() => page.until = after,
            _ => {}
        }
        Ok(page)
    }

    async fn reseal(&self, scope: &Scope, rows: &[Row]) -> Result<usize, StorageError> {
        self.reseal_rows(scope, rows)
    }
}

/// The scope that a row is found in: one's own, if it is there.
pub(super) fn owner(state: &State, scope: &Scope, object: &ObjectRef, id: Uuid) -> Scope {
    if state.find(scope, object.name(), id).is_some() || object.scope() == ObjectScope::Platform {
        return *scope;
    }
    state
        .everywhere()
        .find(|(_, row)| row.object() == object && row.id() == id)
        .map_or(*scope, |(tenant, _)| Scope::Tenant(Id::new(tenant)))
}

impl BrokenStorage {
    fn commit_beside(
        &self,
        scope: &Scope,
        changes: &ChangeSet,
        beside: bool,
    ) -> Result<Committed, StorageError> {
        may_write(scope, changes)?;
        if self.has(Defect::ConflictsWithoutReason) {
            pause();
            if let (true, Some(change)) = (beside, changes.changes.first()) {
                let object = change.object().name().to_owned();
                return Err(StorageError::Conflict {
                    object,
                    id: change.id(),
                });
            }
        }
        let early = self.has(Defect::FeedsWithGaps).then(|| {
            let mut state = self.state();
            state.now.commits += 1;
            let number = state.now.commits;
            drop(state);
            pause();
            number
        });
        let (first, then) = self.checks();
        if !first.is_empty() {
            self.checker(&self.state().now, scope, changes).run(first)?;
            pause();
        }
        let mut state = self.state();
        if self.has(Defect::WritesUntilBad) {
            for change in &changes.changes {
                let expects = changes.expects.clone();
                let one = ChangeSet::new(changes.id, changes.at, vec![change.clone()], expects);
                self.checker(&state.now, scope, &one).run(then)?;
                self.write(&mut state, scope, &one.changes);
            }
            return Ok(Committed::new(changes.changes.len()));
        }
        self.checker(&state.now, scope, changes).run(then)?;
        let taken = self.taken(&state.now, scope, changes)?;
        let before = state.now.clone();
        let last = state.now.commits;
        state.now.commits = early.unwrap_or(last + 1);
        if self.has(Defect::ShowsHalves) {
            for change in &changes.changes {
                self.write(&mut state, scope, std::slice::from_ref(change));
                drop(state);
                pause();
                state = self.state();
            }
        } else {
            let written = self.written(&changes.changes, state.commits);
            for change in written {
                if self.has(Defect::ChecksVersionsLate) {
                    let one = vec![change.clone()];
                    let one = ChangeSet::new(changes.id, changes.at, one, Vec::new());
                    self.checker(&state.now, scope, &one)
                        .run(Checks::VERSIONS)?;
                }
                self.write(&mut state, scope, std::slice::from_ref(change));
            }
        }
        state.now.commits = state.now.commits.max(last);
        for (owner, one) in &taken {
            state.now.take(owner, one);
            if let (Defect::MovesToTheEnd, Some(moved)) = (self.defect, &one.1) {
                state.now.move_to_end(owner, moved);
            }
        }
        state.before = before;
        state.commits += 1;
        Ok(Committed::new(changes.changes.len()))
    }

    /// The entries that a commit takes out of logs, whose they are, and what archives get.
    fn taken(
        &self,
        state: &State,
        scope: &Scope,
        changes: &ChangeSet,
    ) -> Result<Vec<(Scope, Taken)>, StorageError> {
        let mut taken = Vec::new();
        if self.has(Defect::KeepsTaken) {
            return Ok(taken);
        }
        for taking in &changes.taken {
            for id in &taking.ids {
                let from = match self.defect {
                    Defect::TakesForeign => owner(state, scope, &taking.from, *id),
                    _ => *scope,
                };
                let fits = |row: &Row| taking.fits(row) || self.has(Defect::TakesAnyMonth);
                let row = state.find(&from, taking.from.name(), *id).filter(fits);
                let Some(row) = row else {
                    if self.has(Defect::TakesWhatIsThere) {
                        continue;
                    }
                    return Err(gone(taking, *id));
                };
                let to = taking.to.as_ref().filter(|_| !self.has(Defect::LosesMoved));
                let mut moved = to.map(|to| Taking::moved(to, &row)).transpose()?;
                if self.has(Defect::MovesUnsealed) {
                    moved = moved.as_ref().map(without_sealed);
                }
                taken.push((from, (row, moved)));
            }
        }
        Ok(taken)
    }

    /// The changes of a commit that are written.
    fn written<'a>(&self, changes: &'a [Change], commits: usize) -> &'a [Change] {
        let count = match self.defect {
            Defect::WritesAThousand => changes.len().min(1_000),
            Defect::LosesOneInAHundred if commits % 100 == 99 => changes.len().saturating_sub(1),
            _ => changes.len(),
        };
        changes.get(..count).unwrap_or_default()
    }

    pub(super) fn checker<'a>(
        &self,
        state: &'a State,
        scope: &'a Scope,
        changes: &'a ChangeSet,
    ) -> Checker<'a> {
        Checker {
            defect: self.defect,
            state,
            scope,
            changes,
        }
    }

    /// What is checked before the lock is taken, and what under it.
    fn checks(&self) -> (Checks, Checks) {
        let all = Checks::all();
        match self.defect {
            Defect::ChecksThenWrites => (all, Checks::NONE),
            Defect::ChecksVersionsApart => (Checks::VERSIONS, all.without(Checks::VERSIONS)),
            Defect::ChecksExpectationsApart => {
                (Checks::EXPECTATIONS, all.without(Checks::EXPECTATIONS))
            }
            Defect::ChecksUniqueApart => (Checks::UNIQUE, all.without(Checks::UNIQUE)),
            Defect::ChecksIdsApart => (Checks::IDS, all.without(Checks::IDS)),
            Defect::ChecksReferencesApart => (Checks::REFERENCES, all.without(Checks::REFERENCES)),
            Defect::ChecksUnreferencedApart => {
                (Checks::UNREFERENCED, all.without(Checks::UNREFERENCED))
            }
            Defect::ChecksVersionsLate => (Checks::NONE, all.without(Checks::VERSIONS)),
            _ => (Checks::NONE, all),
        }
    }

    fn write(&self, stored: &mut Stored, scope: &Scope, changes: &[Change]) {
        for change in changes {
            let owner = match self.defect {
                Defect::WritesForeign => owner(&stored.now, scope, change.object(), change.id()),
                _ => *scope,
            };
            if self.has(Defect::OneTableForAll) {
                let gone: Vec<Change> = super::super::objects()
                    .iter()
                    .filter(|object| *object != change.object())
                    .filter_map(|object| stored.now.find(scope, object.name(), change.id()))
                    .map(|before| Change::Delete { before })
                    .collect();
                stored.now.write(scope, &gone);
            }
            let change = self.distorted(&stored.now, &owner, change);
            if let Change::Insert { row } = &change {
                stored.inserted.insert(row.id(), row.clone());
            }
            stored.now.write(&owner, std::slice::from_ref(&change));
        }
    }

    /// The row as a claim leaves it.
    fn claimed(&self, claim: &Claim, row: &Row) -> Result<Row, StorageError> {
        let after = claim.apply(row)?;
        let (meta, old) = (after.meta(), row.meta());
        Ok(match self.defect {
            Defect::ClaimsKeepVersions => after.with_meta(crate::schema::Meta {
                version: old.version,
                ..meta
            }),
            Defect::ClaimsKeepStamps => after.with_meta(crate::schema::Meta {
                updated: old.updated,
                ..meta
            }),
            Defect::ClaimsEmptyOthers => {
                let mut values = row.object().defaults();
                for (place, value) in values.iter_mut().enumerate() {
                    let index = place + crate::schema::SYSTEM_FIELDS;
                    let assigned = claim.assign.iter().any(|(field, _)| *field == index);
                    let required = row.object().fields().get(index).is_some_and(|f| f.required);
                    if assigned || required {
                        *value = after.value(index).into_owned();
                    }
                }
                AnyRecord::with_values(&*row.clone(), meta, values).unwrap_or(after)
            }
            _ => after,
        })
    }
}

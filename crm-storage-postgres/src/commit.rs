//! Commits: what a [`ChangeSet`] comes to in statements, and what a refusal means.

mod release;
mod taken;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crm_core::schema::{Lifecycle, ObjectRef, ObjectScope, Row, Value};
use crm_core::storage::{
    Change, ChangeSet, Committed, Expectation, GUARD_PAGE, Guard, Scope, StorageError,
    check_references,
};
use sqlx::postgres::PgRow;
use sqlx::{Acquire as _, PgConnection, Row as _};
use uuid::Uuid;

use self::release::set_aside;
use crate::decode;
use crate::error::{Constraint, Refusal, read_error};
use crate::layout::{Table, Tables};
use crate::sql::Statement;
use crate::sql::select;
use crate::sql::write::{self, CommitStatement};

/// How many rows of a large commit one statement inserts: more rows make a statement that takes more
/// memory and not less time for each.
const BATCH: usize = 1_000;

/// The changes of one object.
#[derive(Debug)]
struct Changed<'a> {
    object: ObjectRef,
    inserts: Vec<&'a Row>,
    updates: Vec<(&'a Row, &'a Row)>,
    deletes: Vec<&'a Row>,
}

/// A commit, sorted by what it takes to write it.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    changes: &'a ChangeSet,
    objects: Vec<Changed<'a>>,
    /// References into rows that the commit does not change, by the field that has them.
    references: Vec<Referring>,
    /// A reference that cannot hold, whatever is stored.
    broken: Option<StorageError>,
}

/// The references in one field.
#[derive(Debug)]
struct Referring {
    object: ObjectRef,
    field: usize,
    target: String,
    ids: Vec<Uuid>,
}

/// Rows that nothing may refer to in one field.
#[derive(Debug)]
struct Unwanted<'a> {
    object: &'a ObjectRef,
    field: usize,
    target: &'a str,
    ids: Vec<Uuid>,
}

/// The rows that nothing may refer to, each once, by their object.
fn held<'a>(unreferenced: &[Unwanted<'a>]) -> Vec<(&'a str, Vec<Uuid>)> {
    let mut held: Vec<(&str, Vec<Uuid>)> = Vec::new();
    for wanted in unreferenced {
        match held.iter_mut().find(|(object, _)| *object == wanted.target) {
            Some((_, ids)) => ids.extend(&wanted.ids),
            None => held.push((wanted.target, wanted.ids.clone())),
        }
    }
    for (_, ids) in &mut held {
        ids.sort_unstable();
        ids.dedup();
    }
    held
}

impl<'a> Plan<'a> {
    /// Sorts the changes.
    pub(crate) fn new(changes: &'a ChangeSet) -> Self {
        let mut objects: Vec<Changed<'a>> = Vec::new();
        for change in &changes.changes {
            let object = change.object();
            let place = match objects.iter().position(|other| other.object == *object) {
                Some(place) => place,
                None => {
                    objects.push(Changed {
                        object: object.clone(),
                        inserts: Vec::new(),
                        updates: Vec::new(),
                        deletes: Vec::new(),
                    });
                    objects.len() - 1
                }
            };
            let Some(changed) = objects.get_mut(place) else {
                continue;
            };
            match change {
                Change::Insert { row } => changed.inserts.push(row),
                Change::Update { before, after } => changed.updates.push((before, after)),
                Change::Delete { before } => changed.deletes.push(before),
            }
        }
        let mut plan = Self {
            changes,
            objects,
            references: Vec::new(),
            broken: None,
        };
        plan.sort_references();
        plan
    }

    /// A row of the platform that is not the tenant's own: nobody but its tenant adds it.
    fn foreign(&self, scope: &Scope) -> Option<StorageError> {
        let tenant = scope.tenant()?.uuid();
        self.changes.changes.iter().find_map(|change| {
            let is_foreign = matches!(change, Change::Insert { .. })
                && change.object().scope() == ObjectScope::Platform
                && change.id() != tenant;
            is_foreign.then(|| conflict(change.object(), change.id()))
        })
    }

    /// Sets apart the references that rows of the same commit answer.
    fn sort_references(&mut self) {
        let references = check_references(self.changes);
        if references.is_empty() {
            return;
        }
        let by_row: HashMap<(&str, Uuid), &Change> = self
            .changes
            .changes
            .iter()
            .map(|change| ((change.object().name(), change.id()), change))
            .collect();
        for (object, field, target, id) in references {
            if let Some(change) = by_row.get(&(target.as_str(), id)) {
                if change.after().is_none_or(|row| row.is_deleted()) && self.broken.is_none() {
                    self.broken = Some(StorageError::Reference {
                        object: object.name().to_owned(),
                        field: object.field_name(field).to_owned(),
                    });
                }
                continue;
            }
            let same = |other: &&mut Referring| other.object == object && other.field == field;
            match self.references.iter_mut().find(same) {
                Some(referring) => referring.ids.push(id),
                None => self.references.push(Referring {
                    object,
                    field,
                    target,
                    ids: vec![id],
                }),
            }
        }
        for referring in &mut self.references {
            referring.ids.sort_unstable();
            referring.ids.dedup();
        }
    }

    /// The statements that write the commit: one, unless unique values change hands.
    ///
    /// # Errors
    /// An object that the storage does not know; values that cannot change hands.
    pub(crate) fn statements(
        &self,
        tables: &Tables,
        scope: &Scope,
    ) -> Result<Vec<Statement>, StorageError> {
        let mut statements = Vec::with_capacity(1);
        let releases = self.releases();
        for release in &releases {
            let table = tables.of(release.object);
            let assignments = set_aside(&table, release.key).ok_or_else(|| {
                failed("the values of a unique key without optional fields cannot be exchanged in one commit")
            })?;
            statements.push(write::release(scope, &table, &release.ids, &assignments));
        }
        let mut commit = CommitStatement::new(tables, scope);
        let mut expects: Vec<(ObjectRef, Vec<&Expectation>)> = Vec::new();
        for expected in &self.changes.expects {
            match expects
                .iter_mut()
                .find(|(object, _)| *object == expected.object)
            {
                Some((_, all)) => all.push(expected),
                None => expects.push((expected.object.clone(), vec![expected])),
            }
        }
        expects.sort_by(|(one, _), (other, _)| one.name().cmp(other.name()));
        for (object, expected) in &mut expects {
            expected.sort_unstable_by_key(|expected| (expected.id, expected.version));
            expected.dedup();
            commit.expect(&tables.of(object), expected);
        }
        let unreferenced = self.unreferenced();
        for (object, ids) in held(&unreferenced) {
            if let Some(table) = tables.target(self.changes, object) {
                commit.hold(&table, &ids);
            }
        }
        // All commits lock objects and rows in one order, so that none waits for another in a circle.
        let mut in_order: Vec<&Changed<'_>> = self.objects.iter().collect();
        in_order.sort_by(|one, other| one.object.name().cmp(other.object.name()));
        for changed in in_order {
            let table = tables.of(&changed.object);
            let updates = changed.updates.iter().map(|(before, _)| before.id());
            let deletes = changed.deletes.iter().map(|before| before.id());
            let ids: Vec<Uuid> = updates.chain(deletes).collect();
            if ids.len() > 1 {
                commit.lock(&table, &ids);
            }
            if !changed.updates.is_empty() {
                let released = releases
                    .iter()
                    .any(|release| *release.object == changed.object);
                commit.update(&table, &changed.updates, released);
            }
            if !changed.deletes.is_empty() {
                commit.delete(&table, &changed.deletes);
            }
        }
        let is_large = self.changes.changes.len() > 2 * BATCH;
        let order = is_large.then(|| self.insert_order()).flatten();
        let bulk = order.is_some();
        let inserts = order.unwrap_or_else(|| self.objects.iter().collect());
        if bulk {
            // References first, so that a foreign key which fails later is that of a removal.
            self.check_references(&mut commit, tables)?;
        }
        for changed in inserts {
            let table = tables.of(&changed.object);
            if !bulk {
                if !changed.inserts.is_empty() {
                    commit.insert(&table, &changed.inserts);
                }
                continue;
            }
            for rows in changed.inserts.chunks(BATCH) {
                let next = CommitStatement::new(tables, scope);
                let full = std::mem::replace(&mut commit, next);
                if !full.is_empty() {
                    statements.push(full.finish());
                }
                commit.insert(&table, rows);
            }
        }
        if !bulk {
            self.check_references(&mut commit, tables)?;
        }
        for (number, removed) in self.removed().iter().enumerate() {
            commit.removed(
                &tables.of(removed.object),
                removed.object.field_name(removed.field),
                &removed.ids,
                number,
            );
        }
        for wanted in &unreferenced {
            commit.unreferenced(
                &tables.of(wanted.object),
                wanted.object.field_name(wanted.field),
                &wanted.ids,
                wanted.target,
            );
        }
        statements.push(commit.finish());
        Ok(statements)
    }

    /// Adds the checks of the references.
    fn check_references(
        &self,
        commit: &mut CommitStatement,
        tables: &Tables,
    ) -> Result<(), StorageError> {
        for (number, referring) in self.references.iter().enumerate() {
            let target = tables
                .target(self.changes, &referring.target)
                .ok_or_else(|| {
                    failed("a reference leads to an object that the storage was not told of")
                })?;
            commit.reference(&target, &referring.ids, number);
        }
        Ok(())
    }

    /// The objects in an order in which their rows can be inserted batch by batch: what is referred
    /// to comes first. `None` where there is no such order, or where new rows of one object refer
    /// to each other.
    fn insert_order(&self) -> Option<Vec<&Changed<'_>>> {
        let new: HashSet<(&str, Uuid)> = self
            .objects
            .iter()
            .flat_map(|changed| {
                let name = changed.object.name();
                changed.inserts.iter().map(move |row| (name, row.id()))
            })
            .collect();
        let mut order: Vec<&Changed<'_>> = Vec::with_capacity(self.objects.len());
        let mut waiting: Vec<&Changed<'_>> = self.objects.iter().collect();
        while !waiting.is_empty() {
            let waits = |changed: &Changed<'_>| {
                changed.object.references().iter().any(|field| {
                    let reference = changed.object.fields().get(*field);
                    let target = reference.and_then(|field| field.reference());
                    target.is_some_and(|(target, _)| {
                        let waits_too = |other: &&Changed<'_>| other.object.name() == target;
                        waiting.iter().any(waits_too)
                            && changed.inserts.iter().any(|row| {
                                let id = row.value(*field).as_uuid();
                                id.is_some_and(|id| new.contains(&(target, id)))
                            })
                    })
                })
            };
            let place = waiting
                .iter()
                .position(|changed| changed.inserts.is_empty() || !waits(changed))?;
            order.push(waiting.remove(place));
        }
        Some(order)
    }

    /// What nothing may refer to, by the field that might.
    fn unreferenced(&self) -> Vec<Unwanted<'_>> {
        let mut all: Vec<Unwanted<'_>> = Vec::new();
        for wanted in &self.changes.unreferenced {
            let Some(target) = self.changes.target_of(wanted) else {
                continue;
            };
            let same = |other: &&mut Unwanted<'_>| {
                *other.object == wanted.object
                    && other.field == wanted.field
                    && other.target == target
            };
            match all.iter_mut().find(same) {
                Some(other) => other.ids.push(wanted.id),
                None => all.push(Unwanted {
                    object: &wanted.object,
                    field: wanted.field,
                    target,
                    ids: vec![wanted.id],
                }),
            }
        }
        all
    }

    /// The removed rows to which records of tenants' own objects may refer, by the field that might:
    /// no foreign key protects them.
    fn removed(&self) -> Vec<Unwanted<'_>> {
        let mut all = Vec::new();
        for target in self.objects.iter().filter(|one| !one.deletes.is_empty()) {
            let target_name = target.object.name();
            for object in self.own_objects() {
                for field in object.references() {
                    let reference = object.fields().get(*field);
                    let reference = reference.and_then(|field| field.reference());
                    if reference.is_some_and(|(name, _)| name == target_name) {
                        all.push(Unwanted {
                            object,
                            field: *field,
                            target: target_name,
                            ids: target.deletes.iter().map(|row| row.id()).collect(),
                        });
                    }
                }
            }
        }
        all
    }

    /// The tenant's own objects that the commit has to do with, each once.
    fn own_objects(&self) -> Vec<&ObjectRef> {
        let written = self.objects.iter().map(|changed| &changed.object);
        let mut own: Vec<&ObjectRef> = Vec::new();
        for object in self.changes.objects.iter().chain(written) {
            if object.template().is_some() && !own.contains(&object) {
                own.push(object);
            }
        }
        own
    }

    /// The objects that lie in one table with another of the commit and write rows there that count
    /// in this unique key.
    fn sharing(&self, tables: &Tables, name: &Constraint) -> Vec<&Changed<'_>> {
        let writes = |changed: &&Changed<'_>| {
            let is_own = changed.object.template().is_some();
            let writes = !changed.inserts.is_empty() || !changed.updates.is_empty();
            is_own && writes && duplicate(&tables.of(&changed.object), name).is_some()
        };
        self.objects.iter().filter(writes).collect()
    }

    /// How many rows the commit writes.
    fn committed(&self) -> Committed {
        Committed::new(self.changes.changes.len())
    }

    /// That the first of its rows is not as it should be; `None` of an empty commit.
    pub(crate) fn first_conflict(&self) -> Option<StorageError> {
        let first = self.versions().next().map(|(object, id, _)| (object, id));
        let insert = self.changes.changes.first();
        let first = first.or_else(|| insert.map(|change| (change.object(), change.id())));
        first.map(|(object, id)| conflict(object, id))
    }

    /// Every row whose version matters, with that version; `None` where it must not be there.
    fn versions(&self) -> impl Iterator<Item = (&ObjectRef, Uuid, i64)> {
        let expected = self
            .changes
            .expects
            .iter()
            .map(|expected| (&expected.object, expected.id, expected.version));
        let changed =
            self.changes.changes.iter().filter_map(|change| {
                Some((change.object(), change.id(), change.before()?.version()))
            });
        expected.chain(changed)
    }
}

/// Writes the commit on a connection; `joined` says that a transaction is open there.
///
/// # Errors
/// What the checks of the port find; what the server says.
pub(crate) async fn run(
    connection: &mut PgConnection,
    tables: &Tables,
    scope: &Scope,
    plan: &Plan<'_>,
    joined: bool,
) -> Result<Committed, Failure> {
    if scope.tenant().is_none() {
        // No row is at any version there.
        return match plan.first_conflict() {
            Some(conflict) => Err(Failure::Refused(conflict)),
            None => Ok(Committed::default()),
        };
    }
    let changes = plan.changes;
    if changes.changes.is_empty() && changes.expects.is_empty() && changes.unreferenced.is_empty() {
        return Ok(Committed::default());
    }
    let statements = plan.statements(tables, scope).map_err(Failure::Refused)?;
    if let Some(error) = plan.foreign(scope) {
        return Err(Failure::Refused(error));
    }
    let result = if plan.broken.is_some() {
        // Only an older fault may come first: see below.
        Ok(None)
    } else {
        let guards = Guards {
            tables,
            scope,
            all: &changes.guards,
        };
        send(connection, statements, joined, &guards).await
    };
    match (result, &plan.broken) {
        (Ok(Some(refused)), _) => Err(Failure::Refused(refused)),
        (Ok(None), None) => Ok(plan.committed()),
        (Ok(None), Some(_)) => {
            let conflict = find_conflict(connection, tables, scope, plan).await;
            match conflict.map_err(Failure::Server)? {
                Some(conflict) => Err(Failure::Refused(conflict)),
                None => Err(Failure::Refused(broken(plan))),
            }
        }
        (Err(error), _) => {
            let refusal = Refusal::of(&error);
            if matches!(refusal, Refusal::Fault(_)) {
                return Err(Failure::Server(error));
            }
            // A stale version comes before everything else, and names its row.
            let conflict = find_conflict(connection, tables, scope, plan).await;
            if let Some(conflict) = conflict.map_err(Failure::Server)? {
                return Err(Failure::Refused(conflict));
            }
            if let Refusal::Unique(name) = &refusal {
                let found = taken::find_taken(connection, tables, scope, plan, name).await;
                if let Some(error) = found.map_err(Failure::Server)? {
                    return Err(Failure::Refused(error));
                }
            }
            Err(Failure::Refused(explain(tables, plan, refusal)))
        }
    }
}

/// Why a commit was not written.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The port's checks found something: nothing was written.
    Refused(StorageError),
    /// The server or the way to it failed; where the connection was lost, the outcome is not known.
    Server(sqlx::Error),
}

impl From<Failure> for StorageError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::Server(error) => read_error(&error),
        }
    }
}

/// Sends one statement as it is, several in a transaction. What the guards refuse is rolled back.
async fn send(
    connection: &mut PgConnection,
    mut statements: Vec<Statement>,
    joined: bool,
    guards: &Guards<'_>,
) -> Result<Option<StorageError>, sqlx::Error> {
    // Inside a transaction of the host's, a savepoint keeps a refusal from ending it.
    if statements.len() == 1
        && !joined
        && guards.all.is_empty()
        && let Some(statement) = statements.pop()
    {
        statement.fetch(connection).await?;
        return Ok(None);
    }
    let mut transaction = connection.begin().await?;
    for statement in statements {
        statement.fetch(&mut transaction).await?;
    }
    let refused = guards.refused(&mut transaction).await?;
    match refused {
        Some(_) => transaction.rollback().await?,
        None => transaction.commit().await?,
    }
    Ok(refused)
}

/// What the rows of a commit have to be like.
#[derive(Clone, Copy, Debug)]
struct Guards<'a> {
    tables: &'a Tables,
    scope: &'a Scope,
    all: &'a [Arc<dyn Guard>],
}

impl Guards<'_> {
    /// The first row that a guard refuses, in the transaction of the commit: each statement looks
    /// with a snapshot of its own, so it sees what others committed while this one waited.
    async fn refused(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<StorageError>, sqlx::Error> {
        for guard in self.all {
            let mut query = guard.query().limit(GUARD_PAGE);
            let table = self.tables.of(&query.object);
            let mut refuses = guard.judge();
            while let Some(statement) = select::select(self.tables, &table, self.scope, &query) {
                let rows = statement.fetch(connection).await?;
                let mut last = None;
                for row in &rows {
                    let row = match decode::row(&table, row, 0) {
                        Ok(row) => row,
                        Err(error) => return Ok(Some(error)),
                    };
                    if refuses(&*row) {
                        return Ok(Some(conflict(&query.object, row.id())));
                    }
                    last = Some(row.id());
                }
                match last.filter(|_| rows.len() == GUARD_PAGE) {
                    Some(last) => query.after = Some(vec![Value::Uuid(last)]),
                    None => break,
                }
            }
        }
        Ok(None)
    }
}

/// The first row of the commit that is not at the version that it should be.
async fn find_conflict(
    connection: &mut PgConnection,
    tables: &Tables,
    scope: &Scope,
    plan: &Plan<'_>,
) -> Result<Option<StorageError>, sqlx::Error> {
    let mut wanted: Vec<(&ObjectRef, Vec<Uuid>)> = Vec::new();
    for (object, id, _) in plan.versions() {
        match wanted.iter_mut().find(|(other, _)| *other == object) {
            Some((_, ids)) => ids.push(id),
            None => wanted.push((object, vec![id])),
        }
    }
    let mut stored: HashMap<(&str, Uuid), i64> = HashMap::new();
    for (object, ids) in &wanted {
        for row in write::versions(scope, &tables.of(object), ids)
            .fetch(connection)
            .await?
        {
            stored.insert((object.name(), row.try_get(0)?), row.try_get(1)?);
        }
    }
    Ok(plan
        .versions()
        .find(|(object, id, version)| stored.get(&(object.name(), *id)) != Some(version))
        .map(|(object, id, _)| conflict(object, id)))
}

/// Whether a commit that was sent before, and whose answer was lost, was applied; `None` where what
/// is stored now cannot tell, because others have changed it since.
pub(crate) async fn is_applied(
    connection: &mut PgConnection,
    tables: &Tables,
    scope: &Scope,
    plan: &Plan<'_>,
) -> Result<Option<bool>, sqlx::Error> {
    // Entries of logs, such as audit events, never change: they tell for certain.
    let has_entries = |changed: &&Changed<'_>| {
        changed.object.lifecycle() == Lifecycle::Log && !changed.inserts.is_empty()
    };
    let log = plan.objects.iter().find(has_entries);
    let (mut unknown, mut any) = (false, false);
    for changed in log.map_or(&*plan.objects, std::slice::from_ref) {
        let table = tables.of(&changed.object);
        let afters = changed
            .inserts
            .iter()
            .copied()
            .chain(changed.updates.iter().map(|(_, after)| *after));
        let ids: Vec<Uuid> = afters
            .clone()
            .chain(changed.deletes.iter().copied())
            .map(|row| row.id())
            .collect();
        let rows = write::versions(scope, &table, &ids)
            .fetch(connection)
            .await?;
        let mut stored = HashMap::new();
        for row in rows {
            stored.insert(row.try_get::<Uuid, _>(0)?, stamp_of(&row)?);
        }
        for row in afters {
            let written = (row.version(), row.meta().updated.at);
            match stored.get(&row.id()) {
                Some(found) if *found == written => any = true,
                Some((version, _)) if *version > row.version() => unknown = true,
                // Updated, and removed since.
                None if row.version() > 1 => unknown = true,
                _ => return Ok(Some(false)),
            }
        }
        if changed
            .deletes
            .iter()
            .any(|row| stored.contains_key(&row.id()))
        {
            return Ok(Some(false));
        }
    }
    // A commit is applied whole or not at all: one row of it proves all.
    Ok(if unknown && !any {
        None
    } else {
        Some(!plan.objects.is_empty())
    })
}

fn stamp_of(row: &PgRow) -> Result<(i64, chrono::DateTime<chrono::Utc>), sqlx::Error> {
    Ok((row.try_get(1)?, row.try_get(2)?))
}

/// What the server's refusal means in terms of objects and fields.
fn explain(tables: &Tables, plan: &Plan<'_>, refusal: Refusal) -> StorageError {
    match refusal {
        Refusal::Conflict => plan
            .versions()
            .next()
            .map(|(object, id, _)| conflict(object, id))
            .unwrap_or_else(|| failed("a commit was refused without a reason")),
        Refusal::Referred(row) => match row.rsplit_once(' ') {
            Some((object, id)) => StorageError::Conflict {
                object: object.to_owned(),
                id: id.parse().unwrap_or_default(),
            },
            None => failed("a commit was refused without a reason"),
        },
        Refusal::Reference(number) => {
            let referring = number
                .parse()
                .ok()
                .and_then(|n: usize| plan.references.get(n));
            match referring {
                Some(referring) => StorageError::Reference {
                    object: referring.object.name().to_owned(),
                    field: referring.object.field_name(referring.field).to_owned(),
                },
                None => failed("a commit was refused without a reason"),
            }
        }
        Refusal::Removed(number) => {
            let removed = plan.removed();
            match number.parse().ok().and_then(|n: usize| removed.get(n)) {
                Some(removed) => StorageError::Referenced {
                    object: removed.target.to_owned(),
                    by: removed.object.name().to_owned(),
                    field: removed.object.field_name(removed.field).to_owned(),
                },
                None => failed("a commit was refused without a reason"),
            }
        }
        Refusal::Unique(name) => {
            for changed in &plan.objects {
                if let Some(error) = duplicate(&tables.of(&changed.object), &name) {
                    return error;
                }
            }
            // Partitions have names of their own.
            plan.objects
                .iter()
                .find(|changed| name.is_of(changed.object.table()))
                .map_or_else(
                    || failed("a unique index refused the row"),
                    |changed| StorageError::Duplicate {
                        object: changed.object.name().to_owned(),
                        fields: vec!["id".to_owned()],
                    },
                )
        }
        Refusal::ForeignKey(name) => {
            for table in tables.all() {
                let found = table.foreign_keys.iter().find(|key| name.is(&key.name));
                let Some(key) = found else { continue };
                let field = table.object.field_name(key.field).to_owned();
                let removed = plan.objects.iter().any(|changed| {
                    changed.object.name() == key.target && !changed.deletes.is_empty()
                });
                return if removed {
                    StorageError::Referenced {
                        object: key.target.clone(),
                        by: table.object.name().to_owned(),
                        field,
                    }
                } else {
                    StorageError::Reference {
                        object: table.object.name().to_owned(),
                        field,
                    }
                };
            }
            failed("a foreign key refused the row")
        }
        Refusal::Fault(fault) => fault.into(),
    }
}

fn duplicate(table: &Table, constraint: &Constraint) -> Option<StorageError> {
    let object = &table.object;
    let unique = table
        .uniques
        .iter()
        .find(|unique| constraint.is(&unique.name));
    let fields = match unique {
        Some(unique) => object.names(&object.unique_keys().get(unique.key)?.fields),
        None if constraint.is(&table.primary_key_name()) => vec!["id".to_owned()],
        None => return None,
    };
    Some(StorageError::Duplicate {
        object: object.name().to_owned(),
        fields,
    })
}

fn broken(plan: &Plan<'_>) -> StorageError {
    match &plan.broken {
        Some(StorageError::Reference { object, field }) => StorageError::Reference {
            object: object.clone(),
            field: field.clone(),
        },
        _ => failed("a reference leads nowhere"),
    }
}

fn conflict(object: &ObjectRef, id: Uuid) -> StorageError {
    StorageError::Conflict {
        object: object.name().to_owned(),
        id,
    }
}

fn failed(reason: &'static str) -> StorageError {
    tracing::error!(reason, "a commit could not be written");
    StorageError::Failed(reason.into())
}

//! A commit, sorted by what it takes to write it, and the statements that write it.

use std::collections::{HashMap, HashSet};

use crm_core::schema::{ObjectRef, ObjectScope, Row};
use crm_core::storage::{
    Change, ChangeSet, Committed, Expectation, Scope, StorageError, check_references,
};
use uuid::Uuid;

use super::refused::duplicate;
use super::release::set_aside;
use super::{conflict, failed};
use crate::encryption::KEYS;
use crate::error::Constraint;
use crate::layout::{Tables, quoted};
use crate::sql::Statement;
use crate::sql::write::{self, CommitStatement};

/// How many rows of a large commit one statement inserts: more rows make a statement that takes more
/// memory and not less time for each.
pub(super) const BATCH: usize = 1_000;

/// The changes of one object.
#[derive(Debug)]
pub(super) struct Changed<'a> {
    pub(super) object: ObjectRef,
    pub(super) inserts: Vec<&'a Row>,
    pub(super) updates: Vec<(&'a Row, &'a Row)>,
    pub(super) deletes: Vec<&'a Row>,
}

/// A commit, sorted by what it takes to write it.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(super) changes: &'a ChangeSet,
    pub(super) objects: Vec<Changed<'a>>,
    /// References into rows that the commit does not change, by the field that has them.
    pub(super) references: Vec<Referring>,
    /// A reference that cannot hold, whatever is stored.
    pub(super) broken: Option<StorageError>,
    /// Whether it is written inside a transaction of the host's.
    pub(super) is_joining: bool,
}

/// The references in one field.
#[derive(Debug)]
pub(super) struct Referring {
    pub(super) object: ObjectRef,
    pub(super) field: usize,
    target: String,
    ids: Vec<Uuid>,
}

/// Rows that nothing may refer to in one field.
#[derive(Debug)]
pub(super) struct Unwanted<'a> {
    pub(super) object: &'a ObjectRef,
    pub(super) field: usize,
    pub(super) target: &'a str,
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
            is_joining: false,
        };
        plan.sort_references();
        plan
    }

    /// The same commit, inside a transaction of the host's: whoever writes it so may have gone around
    /// the storage that encrypts, so a tenant that has keys has its personal values sealed.
    pub(crate) const fn joining(mut self) -> Self {
        self.is_joining = true;
        self
    }

    /// Whether rows with personal fields are written that nobody sealed: a commit that was sealed
    /// relies on the key that did it, or makes the first one.
    fn is_unsealed(&self, tables: &Tables) -> bool {
        let is_keys = |object: &ObjectRef| object.table() == KEYS;
        let has_keys = self.objects.iter().any(|changed| is_keys(&changed.object))
            || self.changes.expects.iter().any(|one| is_keys(&one.object));
        let mut written = self.objects.iter().filter(|changed| {
            let is_written = !changed.inserts.is_empty() || !changed.updates.is_empty();
            is_written && !is_keys(&changed.object)
        });
        !has_keys && written.any(|changed| tables.of(&changed.object).sealed().is_some())
    }

    /// A row of the platform that is not the tenant's own: nobody but its tenant adds it.
    pub(super) fn foreign(&self, scope: &Scope) -> Option<StorageError> {
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
        if self.is_joining && self.is_unsealed(tables) {
            commit.without_keys(&quoted(KEYS));
        }
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
        if !commit.is_empty() || self.changes.taken.is_empty() {
            statements.push(commit.finish());
        }
        for taking in &self.changes.taken {
            let from = tables.of(&taking.from);
            let to = taking.to.as_ref().map(|to| tables.of(to));
            statements.push(write::take(tables, scope, &from, to.as_deref(), taking));
        }
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
    pub(super) fn removed(&self) -> Vec<Unwanted<'_>> {
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
    pub(super) fn sharing(&self, tables: &Tables, name: &Constraint) -> Vec<&Changed<'_>> {
        let writes = |changed: &&Changed<'_>| {
            let is_own = changed.object.template().is_some();
            let writes = !changed.inserts.is_empty() || !changed.updates.is_empty();
            is_own && writes && duplicate(&tables.of(&changed.object), name).is_some()
        };
        self.objects.iter().filter(writes).collect()
    }

    /// How many rows the commit writes.
    pub(super) fn committed(&self) -> Committed {
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
    pub(super) fn versions(&self) -> impl Iterator<Item = (&ObjectRef, Uuid, i64)> {
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

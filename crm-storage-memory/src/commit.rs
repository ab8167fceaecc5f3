//! Commits and claims: check against a snapshot, then publish.
//!
//! ```text
//! writer's lock ─► snapshot ─► checks ─► all keys worked out ─► root changed ─► unlocked
//!                  readers go on with the root as it is         they see all or nothing
//! ```
//!
//! The checks come in the order that [`ChangeSet`] lists them. Whatever may fail, a version, a
//! unique key or the reading of a value, fails before the root is touched.

use std::collections::{BTreeSet, HashSet};

use chrono::DateTime;
use crm_core::query::{NoRelated, Query};
use crm_core::schema::{ObjectRef, ObjectScope, Row, UniqueKey, Value, ValueRef};
use crm_core::storage::{
    Change, ChangeSet, Claim, Committed, GUARD_PAGE, Scope, StorageError, Unreferenced, resealed,
};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::index::{IndexKind, target_of, unique_prefix};
use crate::key::Key;
use crate::space::{Place, Spaces, View};
use crate::table::KeyRange;

/// Applies all changes or none.
///
/// # Errors
/// The first check that fails.
pub(crate) fn commit(
    spaces: &Spaces,
    scope: &Scope,
    changes: &ChangeSet,
) -> Result<Committed, StorageError> {
    let Some(tenant) = scope.tenant() else {
        return refuse(changes);
    };
    let is_shared = |change: &Change| change.object().scope() == ObjectScope::Platform;
    let shared = changes.changes.iter().any(is_shared);
    spaces.write(tenant.uuid(), shared, |mut writer| {
        let places: SmallVec<[Place; 8]> = changes
            .changes
            .iter()
            .map(|change| writer.ensure(change.object()))
            .collect();
        Checks::new(writer.view(), changes, &places).run()?;
        let rows = changes.changes.iter().zip(&places);
        writer.publish(rows.map(|(change, place)| (*place, change.id(), change.after().cloned())));
        Ok(Committed::new(changes.changes.len()))
    })
}

/// Nothing is written for the platform as a whole: no row is at any version there.
fn refuse(changes: &ChangeSet) -> Result<Committed, StorageError> {
    let expected = changes
        .expects
        .iter()
        .map(|expected| (&expected.object, expected.id));
    let changed = changes
        .changes
        .iter()
        .map(|change| (change.object(), change.id()));
    match expected.chain(changed).next() {
        Some((object, id)) => Err(conflict(object, id)),
        None => Ok(Committed::default()),
    }
}

/// Takes rows for one worker.
///
/// # Errors
/// If an assigned value does not fit its field.
pub(crate) fn claim(
    spaces: &Spaces,
    scope: &Scope,
    claim: &Claim,
) -> Result<Vec<Row>, StorageError> {
    let Some(tenant) = scope.tenant() else {
        return Ok(Vec::new());
    };
    claim.check()?;
    let shared = claim.object.scope() == ObjectScope::Platform;
    let query = Query::new(&claim.object, claim.condition.clone())
        .sort(claim.sort.clone())
        .limit(claim.limit);
    spaces.write(tenant.uuid(), shared, |mut writer| {
        let found = writer.view().select(&query);
        if found.is_empty() {
            return Ok(found);
        }
        let claimed = found
            .iter()
            .map(|row| claim.apply(row))
            .collect::<Result<Vec<_>, _>>()?;
        let place = writer.ensure(&claim.object);
        writer.publish(
            claimed
                .iter()
                .map(|row| (place, row.id(), Some(row.clone()))),
        );
        Ok(claimed)
    })
}

/// Puts rows in the place of the stored ones of the same id and version, and gives how many there
/// were.
///
/// # Errors
/// A unique value that another row has.
pub(crate) fn reseal(spaces: &Spaces, scope: &Scope, rows: &[Row]) -> Result<usize, StorageError> {
    let Some(tenant) = scope.tenant().filter(|_| !rows.is_empty()) else {
        return Ok(0);
    };
    let is_shared = |row: &Row| row.object().scope() == ObjectScope::Platform;
    spaces.write(tenant.uuid(), rows.iter().any(is_shared), |mut writer| {
        let places: Vec<Place> = rows.iter().map(|row| writer.ensure(row.object())).collect();
        let view = writer.view();
        let mut changes = Vec::with_capacity(rows.len());
        let mut changed = Vec::with_capacity(rows.len());
        let mut seen = HashSet::with_capacity(rows.len());
        for (row, place) in rows.iter().zip(&places) {
            let stored = view.row(row.object(), row.id());
            if !seen.insert((*place, row.id())) {
                continue;
            }
            if let Some(before) = stored.filter(|stored| stored.version() == row.version())
                && let Some(after) = resealed(before, row)?
            {
                changed.push((*place, row.id(), Some(after.clone())));
                changes.push(Change::Update {
                    before: before.clone(),
                    after,
                });
            }
        }
        let count = changes.len();
        let changes = ChangeSet::new(Uuid::nil(), DateTime::UNIX_EPOCH, changes, Vec::new());
        let places: Vec<Place> = changed.iter().map(|(place, ..)| *place).collect();
        Checks::new(view, &changes, &places).unique_keys()?;
        writer.publish(changed.into_iter());
        Ok(count)
    })
}

/// The checks of a change set against what is stored.
struct Checks<'a> {
    view: View<'a>,
    changes: &'a ChangeSet,
    steps: SmallVec<[Step<'a>; 8]>,
    /// The steps by the ids of their rows.
    by_id: SmallVec<[(Uuid, usize); 8]>,
}

/// One change, with what it meets.
#[derive(Clone, Copy)]
struct Step<'a> {
    change: &'a Change,
    id: Uuid,
    place: Place,
    /// The row as it is stored, if the tenant sees it.
    stored: Option<&'a Row>,
}

impl<'a> Step<'a> {
    fn object(&self) -> &'a ObjectRef {
        self.change.object()
    }

    const fn is_insert(&self) -> bool {
        matches!(self.change, Change::Insert { .. })
    }

    const fn is_delete(&self) -> bool {
        matches!(self.change, Change::Delete { .. })
    }
}

impl<'a> Checks<'a> {
    fn new(view: View<'a>, changes: &'a ChangeSet, places: &[Place]) -> Self {
        let steps: SmallVec<[Step<'a>; 8]> = changes
            .changes
            .iter()
            .zip(places)
            .map(|(change, place)| {
                let id = change.id();
                let is_visible = view.only(change.object()).is_none_or(|only| only == id);
                let table = view.at(*place).filter(|_| is_visible);
                Step {
                    change,
                    id,
                    place: *place,
                    stored: table.and_then(|table| table.row(id)),
                }
            })
            .collect();
        let mut by_id: SmallVec<[(Uuid, usize); 8]> = steps
            .iter()
            .enumerate()
            .map(|(number, step)| (step.id, number))
            .collect();
        by_id.sort_unstable();
        Self {
            view,
            changes,
            steps,
            by_id,
        }
    }

    fn run(&self) -> Result<(), StorageError> {
        self.versions()?;
        self.new_ids()?;
        self.unique_keys()?;
        self.references()?;
        self.removed()?;
        self.unreferenced()?;
        self.guards()
    }

    /// No guard refuses a row, with all changes applied.
    fn guards(&self) -> Result<(), StorageError> {
        for guard in &self.changes.guards {
            let mut query = guard.query().limit(GUARD_PAGE);
            let object = query.object.clone();
            let mut refuses = guard.judge();
            let changes = self.changes.changes.iter();
            let changed = changes.filter(|change| *change.object() == object);
            let ids: HashSet<Uuid> = changed.clone().map(Change::id).collect();
            for row in changed.filter_map(Change::after) {
                if query.condition.matches(&**row, &NoRelated) && refuses(&**row) {
                    return Err(conflict(&object, row.id()));
                }
            }
            loop {
                let rows = self.view.select(&query);
                for row in rows.iter().filter(|row| !ids.contains(&row.id())) {
                    if refuses(&**row) {
                        return Err(conflict(&object, row.id()));
                    }
                }
                match rows.last().filter(|_| rows.len() == GUARD_PAGE) {
                    Some(last) => query.after = Some(vec![Value::Uuid(last.id())]),
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// What was relied on and what is changed is as it was read.
    fn versions(&self) -> Result<(), StorageError> {
        for expected in &self.changes.expects {
            let row = self.view.row(&expected.object, expected.id);
            if row.map(|row| row.version()) != Some(expected.version) {
                return Err(conflict(&expected.object, expected.id));
            }
        }
        for (number, step) in self.steps.iter().enumerate() {
            let is_as_read = match step.change.before() {
                // A second change of a row does not find what it expects either.
                Some(before) => {
                    step.stored.map(|row| row.version()) == Some(before.version())
                        && self.step_before(number).is_none()
                }
                // A tenant makes no platform rows but its own.
                None => self
                    .view
                    .only(step.object())
                    .is_none_or(|only| only == step.id),
            };
            if !is_as_read {
                return Err(conflict(step.object(), step.id));
            }
        }
        Ok(())
    }

    /// No inserted id is there already.
    fn new_ids(&self) -> Result<(), StorageError> {
        for (number, step) in self.steps.iter().enumerate() {
            if step.is_insert() && (step.stored.is_some() || self.step_before(number).is_some()) {
                return Err(StorageError::Duplicate {
                    object: step.object().name().to_owned(),
                    fields: vec!["id".to_owned()],
                });
            }
        }
        Ok(())
    }

    /// With all changes applied, no two rows have the same values in a unique key. Values may be
    /// swapped within a commit.
    fn unique_keys(&self) -> Result<(), StorageError> {
        let mut taken: Vec<Taken<'_>> = Vec::new();
        for (number, step) in self.steps.iter().enumerate() {
            let Some(after) = step.change.after() else {
                continue;
            };
            let Some(table) = self.view.at(step.place) else {
                continue;
            };
            for (index, kind) in table.layout().indexes().iter().enumerate() {
                if let IndexKind::Unique(unique) = kind
                    && let Some(values) = unique_prefix(unique, &**after)
                {
                    taken.push(Taken {
                        step: number,
                        unique,
                        place: (step.place, index),
                        values,
                    });
                }
            }
        }
        let twice = taken_twice(&taken);
        for (number, taken) in taken.iter().enumerate() {
            let Some(step) = self.steps.get(taken.step) else {
                continue;
            };
            let object = step.object();
            // The table may keep a key of another description of the object.
            if !object.unique_keys().contains(taken.unique) {
                continue;
            }
            let stays = |row: &Row| self.by_place(step.place, row.id()).is_none();
            if twice.binary_search(&number).is_ok() || self.holders(taken).any(stays) {
                return Err(StorageError::Duplicate {
                    object: object.name().to_owned(),
                    fields: object.names(&taken.unique.fields),
                });
            }
        }
        Ok(())
    }

    /// The stored rows with the same values in a unique key.
    fn holders(&self, taken: &Taken<'_>) -> impl Iterator<Item = &'a Row> {
        let (place, index) = taken.place;
        let range = KeyRange::of(taken.values.clone());
        let map = self.view.at(place).and_then(|table| table.map(index));
        map.into_iter()
            .flat_map(move |map| range.of_map(map))
            .map(|entry| &entry.row)
    }

    /// Every reference that was made or changed leads to a row of the tenant that is not deleted,
    /// with all changes applied. What counts is what
    /// [`check_references`](crm_core::storage::check_references) says.
    fn references(&self) -> Result<(), StorageError> {
        for step in &self.steps {
            let Some(after) = step.change.after().filter(|after| !after.is_deleted()) else {
                continue;
            };
            // A restored row has all its references checked.
            let before = step.change.before().filter(|before| !before.is_deleted());
            for field in step.object().references() {
                let Some(id) = after.value(*field).as_uuid() else {
                    continue;
                };
                if before.is_some_and(|before| before.value(*field) == ValueRef::Uuid(id)) {
                    continue;
                }
                let target = target_of(step.object(), *field);
                let row = match self.by_name(target, id) {
                    Some(step) => step.change.after(),
                    None => match self.changes.object(target) {
                        Some(target) => self.view.row(target, id),
                        None => self.view.row_of(target, id),
                    },
                };
                if row.is_none_or(|row| row.is_deleted()) {
                    return Err(StorageError::Reference {
                        object: step.object().name().to_owned(),
                        field: step.object().field_name(*field).to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Nothing refers to a removed row, with all changes applied.
    fn removed(&self) -> Result<(), StorageError> {
        if !self.steps.iter().any(Step::is_delete) {
            return Ok(());
        }
        for step in self.steps.iter().filter(|step| step.is_delete()) {
            self.not_referred_to(step)?;
        }
        for step in &self.steps {
            let Some(after) = step.change.after() else {
                continue;
            };
            for field in step.object().references() {
                let Some(id) = after.value(*field).as_uuid() else {
                    continue;
                };
                let target = target_of(step.object(), *field);
                if self.by_name(target, id).is_some_and(Step::is_delete) {
                    return Err(referenced(target, step.object(), *field));
                }
            }
        }
        Ok(())
    }

    /// No stored row that stays as it is refers to a removed one.
    fn not_referred_to(&self, removed: &Step<'_>) -> Result<(), StorageError> {
        let name = removed.object().name();
        for (shared, table) in self.view.tables() {
            let by = table.layout().object();
            for reference in table.layout().references() {
                let Some(map) = table
                    .map(reference.index)
                    .filter(|_| reference.target == name)
                else {
                    continue;
                };
                let mut key = Key::default();
                key.push(&ValueRef::Uuid(removed.id));
                let stays = |row: &Row| {
                    let is_visible = !shared || self.view.tenant() == Some(row.id());
                    is_visible && self.by_name(by.name(), row.id()).is_none()
                };
                if KeyRange::of(key).of_map(map).any(|entry| stays(&entry.row)) {
                    return Err(referenced(name, by, reference.field));
                }
            }
        }
        Ok(())
    }

    /// Of the rows that are not deleted, none refers to one that the change set says is not
    /// referred to any more, with all changes applied.
    fn unreferenced(&self) -> Result<(), StorageError> {
        let unreferenced = &self.changes.unreferenced;
        if unreferenced.is_empty() {
            return Ok(());
        }
        if let Some(wanted) = unreferenced.iter().find(|wanted| self.is_held(wanted)) {
            return Err(self.still_referred_to(wanted));
        }
        let mut by_id: Vec<&Unreferenced> = unreferenced.iter().collect();
        by_id.sort_unstable_by_key(|wanted| wanted.id);
        let fields: BTreeSet<usize> = unreferenced.iter().map(|wanted| wanted.field).collect();
        for step in &self.steps {
            let Some(after) = step.change.after().filter(|after| !after.is_deleted()) else {
                continue;
            };
            for field in &fields {
                let Some(id) = after.value(*field).as_uuid() else {
                    continue;
                };
                let start = by_id.partition_point(|wanted| wanted.id < id);
                let same_id = by_id
                    .iter()
                    .skip(start)
                    .take_while(|wanted| wanted.id == id);
                for wanted in same_id {
                    if wanted.field == *field && wanted.object == *step.object() {
                        return Err(self.still_referred_to(wanted));
                    }
                }
            }
        }
        Ok(())
    }

    fn still_referred_to(&self, wanted: &Unreferenced) -> StorageError {
        StorageError::Conflict {
            object: self
                .changes
                .target_of(wanted)
                .unwrap_or_default()
                .to_owned(),
            id: wanted.id,
        }
    }

    /// Whether a stored row that stays as it is, and is not deleted, refers to the row.
    fn is_held(&self, wanted: &Unreferenced) -> bool {
        let object = &wanted.object;
        let Some(table) = self.view.table(object) else {
            return false;
        };
        let wanted_id = ValueRef::Uuid(wanted.id);
        let holds = |row: &Row| {
            let is_visible = self.view.only(object).is_none_or(|only| only == row.id());
            is_visible && !row.is_deleted() && self.by_name(object.name(), row.id()).is_none()
        };
        let index = table.layout().led_by(wanted.field);
        match index.and_then(|index| table.map(index)) {
            Some(map) => {
                let mut key = Key::default();
                key.push(&wanted_id);
                KeyRange::of(key).of_map(map).any(|entry| holds(&entry.row))
            }
            // All references and what else is asked for often have one.
            None => {
                let mut rows = table.rows().values();
                rows.any(|row| row.value(wanted.field) == wanted_id && holds(row))
            }
        }
    }

    /// The steps that write a row with this id, of any object.
    fn with_id(&self, id: Uuid) -> impl Iterator<Item = (usize, &Step<'a>)> {
        let start = self.by_id.partition_point(|(other, _)| *other < id);
        self.by_id
            .iter()
            .skip(start)
            .take_while(move |(other, _)| *other == id)
            .filter_map(|(_, number)| Some((*number, self.steps.get(*number)?)))
    }

    fn by_name(&self, name: &str, id: Uuid) -> Option<&Step<'a>> {
        self.with_id(id)
            .map(|(_, step)| step)
            .find(|step| step.object().name() == name)
    }

    fn by_place(&self, place: Place, id: Uuid) -> Option<&Step<'a>> {
        self.with_id(id)
            .map(|(_, step)| step)
            .find(|step| step.place == place)
    }

    /// A step before this one that writes the same row.
    fn step_before(&self, number: usize) -> Option<&Step<'a>> {
        let step = self.steps.get(number)?;
        self.with_id(step.id)
            .find(|(other, before)| *other < number && before.place == step.place)
            .map(|(_, step)| step)
    }
}

/// Values that a changed row has in a unique key.
struct Taken<'a> {
    /// The place of the change.
    step: usize,
    unique: &'a UniqueKey,
    /// The place of the key's index.
    place: (Place, usize),
    values: Key,
}

/// The places of those that take the same values as another change, in order.
fn taken_twice(taken: &[Taken<'_>]) -> Vec<usize> {
    if taken.len() < 2 {
        return Vec::new();
    }
    let mut sorted: Vec<(&Taken<'_>, usize)> = taken.iter().zip(0..).collect();
    let by =
        |a: &Taken<'_>, b: &Taken<'_>| a.place.cmp(&b.place).then_with(|| a.values.cmp(&b.values));
    sorted.sort_unstable_by(|a, b| by(a.0, b.0));
    let mut twice: Vec<usize> = sorted
        .chunk_by(|a, b| by(a.0, b.0).is_eq())
        .filter(|same| same.len() > 1)
        .flatten()
        .map(|(_, number)| *number)
        .collect();
    twice.sort_unstable();
    twice
}

fn conflict(object: &ObjectRef, id: Uuid) -> StorageError {
    StorageError::Conflict {
        object: object.name().to_owned(),
        id,
    }
}

fn referenced(object: &str, by: &ObjectRef, field: usize) -> StorageError {
    StorageError::Referenced {
        object: object.to_owned(),
        by: by.name().to_owned(),
        field: by.field_name(field).to_owned(),
    }
}

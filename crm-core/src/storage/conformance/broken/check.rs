//! The checks of a commit, each with the defects that it may have.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::super::naive::State;
use super::Defect;
use super::store::{anywhere, sibling, siblings};
use crate::query::{NoRelated, fold_case};
use crate::schema::{ObjectRef, ObjectScope, OnDelete, Row, UniqueKey, Value, ValueRef};
use crate::storage::{Change, ChangeSet, Scope, StorageError, scan, unique_value};

/// Which checks to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checks(u8);

impl Checks {
    pub(super) const NONE: Self = Self(0);
    pub(super) const EXPECTATIONS: Self = Self(1);
    pub(super) const VERSIONS: Self = Self(2);
    pub(super) const IDS: Self = Self(4);
    pub(super) const UNIQUE: Self = Self(8);
    pub(super) const REFERENCES: Self = Self(16);
    const REMOVALS: Self = Self(32);
    pub(super) const UNREFERENCED: Self = Self(64);
    const GUARDS: Self = Self(128);

    pub(super) const fn all() -> Self {
        Self(255)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::NONE
    }

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Checks one commit.
pub(super) struct Checker<'a> {
    pub(super) defect: Defect,
    pub(super) state: &'a State,
    pub(super) scope: &'a Scope,
    pub(super) changes: &'a ChangeSet,
}

impl Checker<'_> {
    pub(super) fn run(&self, checks: Checks) -> Result<(), StorageError> {
        let early = self.is(Defect::ReportsDuplicatesFirst);
        if early && checks.has(Checks::UNIQUE) {
            self.unique()?;
        }
        if self.is(Defect::ReportsUnreferencedFirst) && checks.has(Checks::UNREFERENCED) {
            self.unreferenced()?;
        }
        if checks.has(Checks::EXPECTATIONS) {
            self.expectations()?;
        }
        if checks.has(Checks::VERSIONS) {
            self.versions()?;
        }
        if checks.has(Checks::IDS) {
            self.ids()?;
        }
        if !early && checks.has(Checks::UNIQUE) {
            self.unique()?;
        }
        if checks.has(Checks::REFERENCES) {
            self.references()?;
        }
        if checks.has(Checks::REMOVALS) {
            self.removals()?;
        }
        if checks.has(Checks::UNREFERENCED) {
            self.unreferenced()?;
        }
        if checks.has(Checks::GUARDS) {
            self.guards()?;
        }
        Ok(())
    }

    fn guards(&self) -> Result<(), StorageError> {
        if self.is(Defect::IgnoresGuards) {
            return Ok(());
        }
        for guard in &self.changes.guards {
            let mut query = guard.query();
            query.limit = usize::MAX;
            let rows = match self.defect {
                Defect::GuardsAsStored => self.state.visible(self.scope, &query.object),
                _ => self.rows_after(&query.object, &self.changes.changes),
            };
            let mut refuses = guard.judge();
            let rows = scan(&query, rows, &NoRelated);
            if let Some(row) = rows.iter().find(|row| refuses(&***row)) {
                return Err(StorageError::Conflict {
                    object: query.object.name().to_owned(),
                    id: row.id(),
                });
            }
        }
        Ok(())
    }

    fn is(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    fn stored(&self, object: &ObjectRef, id: Uuid) -> Option<Row> {
        self.state.find(self.scope, object.name(), id)
    }

    fn expectations(&self) -> Result<(), StorageError> {
        if self.is(Defect::ForgetsExpectations) {
            return Ok(());
        }
        for expected in &self.changes.expects {
            let mut stored = self.stored(&expected.object, expected.id);
            if stored.is_none() && self.is(Defect::ExpectsForeign) {
                stored = anywhere(self.state, &expected.object, expected.id);
            }
            let version = stored.map(|row| row.version());
            let any = self.is(Defect::ExpectsAnyVersion) && version.is_some();
            if version != Some(expected.version) && !any {
                return Err(conflict(&expected.object, expected.id));
            }
        }
        Ok(())
    }

    fn versions(&self) -> Result<(), StorageError> {
        for change in &self.changes.changes {
            let (object, id) = (change.object(), change.id());
            let Some(before) = change.before() else {
                continue;
            };
            let removal = matches!(change, Change::Delete { .. });
            let mut stored = self.stored(object, id);
            if stored.is_none()
                && let Some(foreign) = anywhere(self.state, object, id)
            {
                match self.defect {
                    Defect::WritesForeign => stored = Some(foreign),
                    Defect::TellsForeignApart => {
                        return Err(StorageError::Failed("not your row".into()));
                    }
                    _ => {}
                }
            }
            if stored.is_none() && self.is(Defect::WritesSiblings) {
                stored = sibling(self.state, self.scope, object, id);
            }
            let lenient = match self.defect {
                Defect::IgnoresVersionsOfUpdates => !removal && stored.is_some(),
                Defect::IgnoresVersionsOfRemovals => removal && stored.is_some(),
                Defect::UpdatesInsert => !removal && stored.is_none(),
                _ => false,
            };
            if !lenient && stored.map(|row| row.version()) != Some(before.version()) {
                return Err(conflict(object, id));
            }
        }
        Ok(())
    }

    fn ids(&self) -> Result<(), StorageError> {
        for change in &self.changes.changes {
            let Change::Insert { row } = change else {
                continue;
            };
            let taken = match self.defect {
                Defect::InsertsReplace => false,
                Defect::IdsOverTenants => anywhere(self.state, row.object(), row.id()).is_some(),
                Defect::IdsOverSiblings => {
                    let is_other = |other: &Change| {
                        other.id() == row.id() && other.object().discriminator().is_some()
                    };
                    let twice = self.changes.changes.iter().filter(|other| is_other(other));
                    let in_table = row.object().discriminator().is_some();
                    in_table && twice.count() > 1
                        || self.stored(row.object(), row.id()).is_some()
                        || sibling(self.state, self.scope, row.object(), row.id()).is_some()
                }
                _ => self.stored(row.object(), row.id()).is_some(),
            };
            if taken {
                let object = row.object().name().to_owned();
                return Err(StorageError::Duplicate {
                    object,
                    fields: vec!["id".into()],
                });
            }
        }
        Ok(())
    }

    /// The rows of an object with some changes applied.
    fn rows_after(&self, object: &ObjectRef, changes: &[Change]) -> Vec<Row> {
        let mut rows: Vec<Row> = match self.defect {
            Defect::UniqueOverTenants => self
                .state
                .everywhere()
                .map(|(_, row)| row.clone())
                .collect(),
            Defect::PlatformUniquePerTenant => self.state.visible(self.scope, object),
            _ => self.state.compared(self.scope, object.name()),
        };
        if self.is(Defect::UniqueOverSiblings) {
            rows.extend(siblings(self.state, self.scope, object));
        }
        let changes = || changes.iter().filter(|change| change.object() == object);
        let changed: HashSet<Uuid> = changes().map(Change::id).collect();
        rows.retain(|row| row.object() == object && !changed.contains(&row.id()));
        rows.extend(changes().filter_map(|change| change.after().cloned()));
        rows
    }

    fn unique(&self) -> Result<(), StorageError> {
        let all = &self.changes.changes;
        if self.is(Defect::UniqueRowByRow) {
            for (place, change) in all.iter().enumerate() {
                let until = all.get(..=place).unwrap_or_default();
                let rows = self.rows_after(change.object(), until);
                self.keys(change.object(), &rows, std::slice::from_ref(change))?;
            }
            return Ok(());
        }
        for object in self.state.objects(self.changes) {
            let mut rows = self.rows_after(&object, all);
            if self.is(Defect::UniqueAgainstStored) {
                let changed: HashSet<Uuid> = all.iter().map(Change::id).collect();
                rows.retain(|row| !changed.contains(&row.id()));
            }
            self.keys(&object, &rows, all)?;
        }
        Ok(())
    }

    /// Checks that no changed row has the values of another in a unique key.
    fn keys(&self, object: &ObjectRef, rows: &[Row], all: &[Change]) -> Result<(), StorageError> {
        let counts = |change: &&Change| {
            change.object() == object
                && !(self.is(Defect::UniqueOnInsert) && change.before().is_some())
        };
        let is_checked = |row: &&Row| !self.is(Defect::UniqueUnsealed) || row.sealed().is_none();
        let changed: Vec<&Row> = all
            .iter()
            .filter(counts)
            .filter_map(Change::after)
            .filter(is_checked)
            .collect();
        for key in object.unique_keys().iter().filter(|_| !changed.is_empty()) {
            let mut holders: HashMap<String, Vec<Uuid>> = HashMap::new();
            for row in rows {
                if let Some(value) = self.key_value(key, row) {
                    holders
                        .entry(format!("{value:?}"))
                        .or_default()
                        .push(row.id());
                }
            }
            let taken = changed.iter().any(|row| {
                self.key_value(key, row)
                    .and_then(|value| holders.get(&format!("{value:?}")))
                    .is_some_and(|ids| ids.iter().any(|id| *id != row.id()))
            });
            if taken {
                let named = !self.is(Defect::DuplicateWithoutFields);
                let fields = if named {
                    object.names(&key.fields)
                } else {
                    Vec::new()
                };
                return Err(StorageError::Duplicate {
                    object: object.name().to_owned(),
                    fields,
                });
            }
        }
        Ok(())
    }

    fn key_value(&self, key: &UniqueKey, row: &Row) -> Option<Vec<Value>> {
        let mut key = key.clone();
        match self.defect {
            Defect::UniqueByCase | Defect::UniqueByAsciiCase => key.ignore_case = false,
            Defect::UniqueWithoutCase => key.ignore_case = true,
            Defect::UniqueCountsDeleted => key.live = false,
            Defect::UniqueFreesDeleted => key.live = true,
            Defect::UniqueByFirstField => key.fields.truncate(1),
            Defect::UniqueWithoutCondition => key.only_if = None,
            Defect::UniqueNullsCollide => {
                key.fields.retain(|field| !row.value(*field).is_null());
            }
            _ => {}
        }
        let values = unique_value(&key, &**row)?;
        let lower = |value: Value| match value {
            Value::Text(text) => Value::Text(text.to_ascii_lowercase()),
            other => other,
        };
        match self.defect {
            Defect::UniqueByAsciiCase => Some(values.into_iter().map(lower).collect()),
            Defect::UniqueByJoinedText => {
                let texts = values.iter().map(|value| match value {
                    Value::Text(text) => text.clone(),
                    other => fold_case(&other.to_json().to_string()),
                });
                Some(vec![Value::Text(texts.collect())])
            }
            _ => Some(values),
        }
    }

    fn references(&self) -> Result<(), StorageError> {
        if self.is(Defect::NoReferenceCheck) {
            return Ok(());
        }
        for change in &self.changes.changes {
            let Some(after) = change.after().filter(|after| !after.is_deleted()) else {
                continue;
            };
            let object = change.object();
            for index in object.references() {
                let field = object.fields().get(*index);
                let target = field.and_then(|field| field.reference());
                let (Some(field), Some((target, _))) = (field, target) else {
                    continue;
                };
                let Some(id) = after.value(*index).as_uuid() else {
                    continue;
                };
                let checked = change.before().is_none_or(|before| {
                    let changed = before.value(*index) != ValueRef::Uuid(id);
                    let restored = before.is_deleted() && !self.is(Defect::ForgetsRestored);
                    (changed || restored || self.is(Defect::RechecksUnchanged))
                        && !self.is(Defect::ReferencesOnInsert)
                });
                let skipped = self.is(Defect::ChecksRequiredReferences) && !field.required
                    || self.is(Defect::ReferencesUnsealed) && after.sealed().is_some();
                if checked && !skipped && !self.is_target(target, id) {
                    return Err(StorageError::Reference {
                        object: object.name().to_owned(),
                        field: object.field_name(*index).to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    fn is_target(&self, object: &str, id: Uuid) -> bool {
        let change = self
            .changes
            .changes
            .iter()
            .find(|change| change.object().name() == object && change.id() == id);
        let mut stored = self.state.find(self.scope, object, id);
        if stored.is_none() && self.is(Defect::RefersToSiblings) {
            let own = super::super::instances().into_iter();
            let own = own.filter(|own| own.name() == object);
            stored = own
                .filter_map(|own| sibling(self.state, self.scope, &own, id))
                .next();
        }
        let row = match (change, self.defect) {
            (Some(Change::Insert { .. }), Defect::TargetsMustBeStored) => None,
            (Some(Change::Update { .. } | Change::Delete { .. }), Defect::TargetsAsStored) => {
                stored
            }
            (Some(change), _) => change.after().cloned(),
            (None, Defect::RefersToForeign) => self
                .state
                .everywhere()
                .map(|(_, row)| row.clone())
                .find(|row| row.object().name() == object && row.id() == id),
            (None, _) => stored,
        };
        row.is_some_and(|row| !row.is_deleted() || self.is(Defect::TargetsMayBeDeleted))
    }

    fn removals(&self) -> Result<(), StorageError> {
        if self.is(Defect::NoRemovalCheck) {
            return Ok(());
        }
        for (place, change) in self.changes.changes.iter().enumerate() {
            let Change::Delete { before } = change else {
                continue;
            };
            let removed = change.object();
            for object in self.state.objects(self.changes) {
                let rows = match self.defect {
                    Defect::RemovesRowByRow => {
                        let until = self.changes.changes.get(..=place).unwrap_or_default();
                        self.rows_after(&object, until)
                    }
                    Defect::ForeignRowsRefer if object.scope() == ObjectScope::Tenant => {
                        let mut rows: Vec<Row> = self
                            .state
                            .everywhere()
                            .map(|(_, row)| row.clone())
                            .collect();
                        rows.retain(|row| *row.object() == object && row.id() != before.id());
                        rows
                    }
                    _ => self.rows_after(&object, &self.changes.changes),
                };
                for index in object.references() {
                    let reference = object
                        .fields()
                        .get(*index)
                        .and_then(|field| field.reference());
                    let Some((_, on_delete)) =
                        reference.filter(|(target, _)| *target == removed.name())
                    else {
                        continue;
                    };
                    if self.is(Defect::ProtectsRestrictedOnly) && on_delete != OnDelete::Restrict {
                        continue;
                    }
                    let refers = rows.iter().any(|row| {
                        row.value(*index) == ValueRef::Uuid(before.id())
                            && !(self.is(Defect::DeletedDoNotRefer) && row.is_deleted())
                    });
                    if refers {
                        return Err(StorageError::Referenced {
                            object: removed.name().to_owned(),
                            by: object.name().to_owned(),
                            field: object.field_name(*index).to_owned(),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn unreferenced(&self) -> Result<(), StorageError> {
        if self.is(Defect::IgnoresUnreferenced) {
            return Ok(());
        }
        let most = if self.is(Defect::UnreferencedLooksOnce) {
            1
        } else {
            usize::MAX
        };
        let mut wanted = Vec::new();
        for one in &self.changes.unreferenced {
            let is_reference = one.object.references().contains(&one.field);
            if !is_reference && self.is(Defect::UnreferencedByKeysOnly) {
                continue;
            }
            let field = one.object.fields().get(one.field);
            let is_link = field.is_some_and(|field| field.record_of.is_some());
            if !is_reference && !is_link && self.is(Defect::UnreferencedByLinksOnly) {
                continue;
            }
            let Some(target) = self.changes.target_of(one) else {
                continue;
            };
            wanted.push((one, target));
        }
        let ids: Vec<Uuid> = wanted.iter().map(|(one, _)| one.id).collect();
        wanted.retain(|(one, _)| most > 1 || ids.first() == Some(&one.id));
        for (one, target) in wanted {
            let object = &one.object;
            let refers = |row: &Row| {
                let by = |index: &usize| row.value(*index) == ValueRef::Uuid(one.id);
                by(&one.field)
                    || self.is(Defect::UnreferencedByAnyField) && object.references().iter().any(by)
            };
            let counts = |row: &Row| match self.defect {
                Defect::UnreferencedCountsDeleted => true,
                Defect::UnreferencedSkipsArchived => row.is_active(),
                _ => !row.is_deleted(),
            };
            if self
                .rows_that_may_refer(object)
                .iter()
                .any(|row| counts(row) && refers(row))
            {
                let name = if self.is(Defect::UnreferencedNamesReferring) {
                    object.name()
                } else {
                    target
                };
                return Err(StorageError::Conflict {
                    object: name.to_owned(),
                    id: one.id,
                });
            }
        }
        Ok(())
    }

    /// The rows of an object that may refer to deleted ones.
    fn rows_that_may_refer(&self, object: &ObjectRef) -> Vec<Row> {
        let mut rows = match self.defect {
            Defect::UnreferencedAsStored => self.state.visible(self.scope, object),
            _ => self.rows_after(object, &self.changes.changes),
        };
        match self.defect {
            Defect::UnreferencedByOthersOnly => rows.retain(|row| {
                let own = |change: &Change| change.object() == object && change.id() == row.id();
                !self.changes.changes.iter().any(own)
            }),
            Defect::UnreferencedOverTenants => {
                let everywhere = self.state.everywhere().map(|(_, row)| row);
                let others = everywhere.filter(|row| {
                    row.object() == object && self.stored(object, row.id()).is_none()
                });
                rows.extend(others.cloned());
            }
            _ => {}
        }
        rows
    }
}

fn conflict(object: &ObjectRef, id: Uuid) -> StorageError {
    StorageError::Conflict {
        object: object.name().to_owned(),
        id,
    }
}

//! What the custom fields of records refer to.
//!
//! A custom field may refer to a record, as a built-in field does: a lookup, or the whole that a
//! record is a part of. Its value is an id in the document `custom_fields`, which no key of a database
//! holds. Its typed row ([`typed_values`]) says where it leads, also of a record that is deleted:
//!
//! ```text
//! project "Rollout" ── custom_fields.account ──► account "Globex"
//!     kept as  custom_value { record_id: Rollout, field_id, target_id: Globex, .. }
//! ```
//!
//! - That a value leads to a live record is looked up by the commit, which relies on that record: if
//!   it is deleted at the same time, one of the two commits is a conflict and runs again.
//! - What leads to a record that is deleted, restored, removed for good or merged is found by these
//!   rows, through an index, and treated like what built-in references lead to.
//! - A deletion is a conflict where a row for its record appeared meanwhile ([`Unreferenced`]).

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use super::UnitOfWork;
use crate::error::{Faults, FieldError, Result};
use crate::query::{Condition, FieldAt, Query};
use crate::schema::{Lifecycle, Link, ObjectRef, OnDelete, Registry, Row, Value, typed_values};
use crate::storage::Unreferenced;

/// The code of a record that would be a part of itself.
const CYCLE: &str = "cycle";

/// How many records of a chain of parts are gone through.
const DEPTH: usize = 1_000;

/// How many records are looked at in one commit.
const BATCH: usize = 500;

/// A value of a custom field that must lead to a live record.
struct Target {
    /// The field, such as `custom_fields.account`.
    path: String,
    object: String,
    id: Uuid,
    /// The record that refers, the place of the field and its object, where the records that the
    /// field joins form a tree.
    tree: Option<(ObjectRef, usize, Uuid)>,
}

fn among(field: usize, ids: &[Uuid]) -> Condition {
    Condition::In {
        field: FieldAt::new(field),
        values: ids.iter().copied().map(Value::Uuid).collect(),
    }
}

/// The typed rows, and the places of their fields.
struct TypedRows {
    object: ObjectRef,
    record: usize,
    field: usize,
    target: usize,
}

impl UnitOfWork {
    /// The typed rows of custom values; `None` where the host has none, as no tenant says anything.
    fn typed_rows(&self) -> Option<TypedRows> {
        let engine = self.session.engine();
        engine.shared.tenant_schema.as_ref()?;
        let object = engine.registry().object(typed_values::OBJECT)?;
        Some(TypedRows {
            record: object.field_index(typed_values::RECORD)?,
            field: object.field_index(typed_values::FIELD)?,
            target: object.field_index(typed_values::TARGET)?,
            object,
        })
    }

    /// Looks up what the custom fields of changed records lead to, and forgets rows of fields that are
    /// no more and led to what is deleted: the last thing that is staged.
    pub(super) async fn check_custom_references(&mut self) -> Result<()> {
        let Some(described) = self.described().await? else {
            return Ok(());
        };
        if described.version.is_none() {
            return Ok(());
        }
        let registry = described.registry.clone();
        let mut targets = Vec::new();
        let mut gone = Vec::new();
        for change in self.staged() {
            if change.object().lifecycle() != Lifecycle::Full {
                continue;
            }
            let (before, after) = (change.before(), change.after());
            let is_live = |row: Option<&Row>| row.is_some_and(|row| !row.is_deleted());
            match after {
                None => gone.extend(before.map(|_| change.id())),
                Some(row) if row.is_deleted() && is_live(before) => gone.push(change.id()),
                Some(_) => {}
            }
            let object = registry.described(change.object());
            targets.extend(self.targets(&object, before, after));
        }
        let mut faults = Faults::default();
        let missing = self.missing_targets(targets).await?;
        missing.into_iter().for_each(|fault| faults.push(fault));
        faults.into_result()?;
        self.forget_references(&registry, &gone).await
    }

    /// What a write leads to that has to be there: what it did not lead to before, and what this unit
    /// of work deletes.
    fn targets(
        &self,
        object: &ObjectRef,
        before: Option<&Row>,
        after: Option<&Row>,
    ) -> Vec<Target> {
        let Some(after) = after.filter(|row| !row.is_deleted()) else {
            return Vec::new();
        };
        let before = before.filter(|row| !row.is_deleted());
        let id_of = |row: &Row, place| object.read(&**row, place, |value| value.as_uuid());
        let target = |(place, target, on_delete): (usize, &str, OnDelete)| {
            let id = id_of(after, place)?;
            let is_new = before.and_then(|row| id_of(row, place)) != Some(id);
            let is_deleted = |row: &Row| row.is_deleted() && row.object().name() == target;
            let is_gone = || {
                let change = self.staged_last(id);
                change.is_some_and(|change| change.after().is_none_or(is_deleted))
            };
            let is_tree = on_delete == OnDelete::Cascade && target == object.name();
            (is_new || is_gone()).then(|| Target {
                path: object.path_at(place),
                object: target.to_owned(),
                id,
                tree: is_tree.then(|| (object.clone(), place, after.id())),
            })
        };
        object.custom_references().filter_map(target).collect()
    }

    /// Every custom field of a write that leads nowhere.
    pub(super) async fn missing_custom(
        &mut self,
        before: Option<&Row>,
        after: &Row,
    ) -> Result<Vec<FieldError>> {
        let object = self.registry().await?.described(after.object());
        let targets = self.targets(&object, before, Some(after));
        self.missing_targets(targets).await
    }

    /// Relies on the records that are led to, and tells of those that are not there.
    async fn missing_targets(&mut self, targets: Vec<Target>) -> Result<Vec<FieldError>> {
        let mut by_object: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
        for target in &targets {
            by_object.entry(&target.object).or_default().push(target.id);
        }
        let mut live: HashMap<(String, Uuid), Row> = HashMap::new();
        if !by_object.is_empty() {
            let registry = self.registry().await?;
            for (name, mut ids) in by_object {
                ids.sort_unstable();
                ids.dedup();
                let Some(object) = registry.object(name) else {
                    continue;
                };
                let rows = self.rows(&object, &ids).await?.into_iter();
                let rows = rows.filter(|row| !row.is_deleted());
                live.extend(rows.map(|row| ((name.to_owned(), row.id()), row)));
            }
        }
        let mut missing = Vec::new();
        for target in targets {
            match live.get(&(target.object.clone(), target.id)) {
                Some(row) => self.rely_on(&**row),
                None => {
                    missing.push(FieldError::missing_record(target.path));
                    continue;
                }
            }
            if let Some((object, place, record)) = target.tree
                && self.stands_above(&object, place, record, target.id).await?
            {
                let message = "leads back to the record itself, which cannot be a part of itself";
                missing.push(FieldError::new(target.path, CYCLE, message));
            }
        }
        Ok(missing)
    }

    /// Whether a record stands above another one, or is it. Relies on what lies between, so that two
    /// commits do not close a circle together.
    async fn stands_above(
        &mut self,
        object: &ObjectRef,
        place: usize,
        record: Uuid,
        from: Uuid,
    ) -> Result<bool> {
        let mut next = Some(from);
        let mut seen = HashSet::new();
        while let Some(id) = next.filter(|id| seen.len() < DEPTH && seen.insert(*id)) {
            if id == record {
                return Ok(true);
            }
            let row = self.row(object, id).await?;
            let Some(row) = row.filter(|row| !row.is_deleted()) else {
                return Ok(false);
            };
            self.rely_on(&*row);
            next = object.read(&*row, place, |value| value.as_uuid());
        }
        Ok(false)
    }

    /// Removes the rows of fields that are no more, which led to records that are deleted or removed.
    async fn forget_references(&mut self, registry: &Registry, targets: &[Uuid]) -> Result<()> {
        let Some(typed) = self.typed_rows().filter(|_| !targets.is_empty()) else {
            return Ok(());
        };
        for batch in targets.chunks(BATCH) {
            let leading = Query::new(&typed.object, among(typed.target, batch));
            for row in self.select(&leading).await? {
                if !is_known(registry, &typed, &row) {
                    self.remove_derived(&row);
                }
            }
        }
        Ok(())
    }

    /// The live or deleted records, or both, that lead to some by a custom field.
    ///
    /// # Errors
    /// Those of the storage.
    #[doc(hidden)]
    pub async fn led_by_custom(
        &self,
        link: &Link,
        targets: &[Uuid],
        deleted: Option<bool>,
    ) -> Result<Vec<Row>> {
        let found = self.led_among(link, targets, deleted, None).await;
        found.map(|(rows, _)| rows)
    }

    /// Live records that lead to some by a custom field, of those that are stored no more than `limit`,
    /// and whether these are all.
    ///
    /// # Errors
    /// Those of the storage.
    #[doc(hidden)]
    pub async fn some_led_by_custom(
        &self,
        link: &Link,
        targets: &[Uuid],
        limit: usize,
    ) -> Result<(Vec<Row>, bool)> {
        self.led_among(link, targets, Some(false), Some(limit))
            .await
    }

    async fn led_among(
        &self,
        link: &Link,
        targets: &[Uuid],
        deleted: Option<bool>,
        limit: Option<usize>,
    ) -> Result<(Vec<Row>, bool)> {
        let Some((custom, typed)) = link.custom().zip(self.typed_rows()) else {
            return Ok((Vec::new(), true));
        };
        let leading = among(typed.target, targets)
            .and(Condition::equals(typed.field, Value::Uuid(custom.id)));
        let query = Query::new(&typed.object, leading);
        let query = match limit {
            Some(limit) => query.limit(limit),
            None => query,
        };
        let rows = self.select(&query).await?;
        let is_all = limit.is_none_or(|limit| rows.len() < limit);
        let mut ids: Vec<Uuid> = rows
            .iter()
            .filter_map(|row| row.value(typed.record).as_uuid())
            .collect();
        let staged = self.staged().iter();
        let staged = staged.filter(|change| *change.object() == link.object);
        let leads = |row: &Row| {
            let target = link.target(&**row);
            target.is_some_and(|target| targets.contains(&target))
        };
        let staged = staged.filter(|change| change.after().is_some_and(leads));
        ids.extend(staged.map(super::StagedChange::id));
        ids.sort_unstable();
        ids.dedup();
        let mut found = Vec::new();
        for batch in ids.chunks(BATCH) {
            found.extend(self.rows(&link.object, batch).await?);
        }
        found.retain(|row| leads(row) && deleted.is_none_or(|deleted| row.is_deleted() == deleted));
        Ok((found, is_all))
    }

    /// That no custom field leads to a record any more.
    pub(in crate::engine) fn led_to_by_none(&self, id: Uuid) -> Option<Unreferenced> {
        let typed = self.typed_rows()?;
        Some(Unreferenced {
            object: typed.object,
            field: typed.target,
            id,
        })
    }
}

/// Whether a row is of a reference that there is.
fn is_known(registry: &Registry, typed: &TypedRows, row: &Row) -> bool {
    let of = row.get(typed_values::OF);
    let Some(object) = of.as_text().and_then(|name| registry.any_object(name)) else {
        return false;
    };
    let field = row.value(typed.field).as_uuid();
    object.custom_references().any(|(place, ..)| {
        let custom = object.custom_at(place);
        custom.map(|custom| custom.id) == field
    })
}

//! What the custom fields of records refer to: looked up by the commit, and kept in rows of their own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;

use uuid::Uuid;

use super::UnitOfWork;
use crate::engine::{Progress, Session, Settle, Workspace};
use crate::error::{Faults, FieldError, Result};
use crate::query::{Condition, FieldAt, Query};
use crate::references::CustomReference;
use crate::schema::{Entity, Lifecycle, Link, Meta, ObjectRef, OnDelete, Registry, Row, Value};
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

/// The row and the deletion that it shares with its record.
type Kept = Option<(CustomReference, Meta)>;

fn among(field: usize, ids: &[Uuid]) -> Condition {
    Condition::In {
        field: FieldAt::new(field),
        values: ids.iter().copied().map(Value::Uuid).collect(),
    }
}

/// The place of a field of the rows.
fn place(name: &str) -> usize {
    let index = CustomReference::schema().field_index(name);
    index.unwrap_or(usize::MAX)
}

impl UnitOfWork {
    /// Looks up what the custom fields of changed records lead to, and brings their rows in step: the
    /// last thing that is staged.
    pub(super) async fn keep_references(&mut self) -> Result<()> {
        let Some(described) = self.described().await? else {
            return Ok(());
        };
        if described.version.is_none() {
            return Ok(());
        }
        let registry = described.registry.clone();
        let mut targets = Vec::new();
        let mut wanted: BTreeMap<Uuid, Kept> = BTreeMap::new();
        let (mut removed, mut deleted) = (Vec::new(), Vec::new());
        for change in self.staged() {
            if change.object().lifecycle() != Lifecycle::Full {
                continue;
            }
            let (before, after) = (change.before(), change.after());
            let is_live = |row: Option<&Row>| row.is_some_and(|row| !row.is_deleted());
            match after {
                None => removed.extend(before.map(|_| change.id())),
                Some(row) if row.is_deleted() && is_live(before) => deleted.push(change.id()),
                Some(_) => {}
            }
            let object = registry.described(change.object());
            if object.custom_references().next().is_none() {
                continue;
            }
            targets.extend(self.targets(&object, before, after));
            let of = |row: Option<&Row>| -> HashMap<Uuid, CustomReference> {
                let rows = row.map(|row| CustomReference::of(&object, &**row));
                rows.into_iter().flatten().collect()
            };
            let deleted_at = |row: Option<&Row>| row.and_then(|row| row.meta().deleted_at);
            let (were, are) = (of(before), of(after));
            let is_same = deleted_at(before) == deleted_at(after);
            for (id, kept) in &are {
                if !is_same || were.get(id) != Some(kept) {
                    let meta = after.map(|row| (kept.clone(), row.meta()));
                    wanted.insert(*id, meta);
                }
            }
            let gone = were.into_keys().filter(|id| !are.contains_key(id));
            wanted.extend(gone.map(|id| (id, None)));
        }
        let faults = self.missing_targets(targets).await?;
        let mut all = Faults::default();
        faults.into_iter().for_each(|fault| all.push(fault));
        all.into_result()?;
        self.put_references(wanted).await?;
        self.forget_references(&registry, &removed, &deleted).await
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

    /// Writes rows as they are wanted.
    async fn put_references(&mut self, wanted: BTreeMap<Uuid, Kept>) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let schema = CustomReference::schema();
        let ids: Vec<Uuid> = wanted.keys().copied().collect();
        let mut stored: HashMap<Uuid, Row> = HashMap::new();
        for batch in ids.chunks(BATCH) {
            let rows = self.rows(schema, batch).await?;
            stored.extend(rows.into_iter().map(|row| (row.id(), row)));
        }
        for (id, kept) in wanted {
            let before = stored.remove(&id);
            let Some((kept, meta)) = kept else {
                if let Some(before) = before {
                    self.remove(&before);
                }
                continue;
            };
            let deleted_at = meta.deleted_at;
            let is_same = before.as_ref().is_some_and(|row| {
                let known = crate::Record::<CustomReference>::from_row(row.clone());
                let known = known.filter(|known| known.data == kept);
                known.is_some() && row.meta().deleted_at == deleted_at
            });
            if is_same {
                continue;
            }
            let meta = match &before {
                Some(row) => row.meta().next(self.stamp()),
                None => Meta::first(id, self.stamp()),
            };
            let meta = Meta { deleted_at, ..meta };
            let after: Row = std::sync::Arc::new(crate::Record::new(meta, kept));
            self.put(schema, id, before, Some(after));
        }
        Ok(())
    }

    /// Removes the rows of records that are removed for good, and, where a record is deleted, those of
    /// fields that led to it and are no more.
    async fn forget_references(
        &mut self,
        registry: &Registry,
        removed: &[Uuid],
        deleted: &[Uuid],
    ) -> Result<()> {
        let schema = CustomReference::schema();
        let mut gone = Vec::new();
        for batch in removed.chunks(BATCH) {
            let of_records = Query::new(schema, among(place("record_id"), batch));
            gone.extend(self.select(&of_records).await?);
        }
        let gone_too = deleted.iter().chain(removed).copied();
        let gone_too: Vec<Uuid> = gone_too.collect();
        for batch in gone_too.chunks(BATCH) {
            let leading = Query::new(schema, among(place("target_id"), batch));
            let rows = self.select(&leading).await?.into_iter();
            gone.extend(rows.filter(|row| !is_known(registry, row)));
        }
        for row in gone {
            if self
                .place(schema, row.id())
                .is_none_or(|change| change.after().is_some())
            {
                self.remove(&row);
            }
        }
        Ok(())
    }

    /// The live or deleted records, or both, that lead to one by a custom field.
    pub(crate) async fn led_by_custom(
        &self,
        link: &Link,
        id: Uuid,
        deleted: Option<bool>,
    ) -> Result<Vec<Row>> {
        let Some(custom) = link.custom() else {
            return Ok(Vec::new());
        };
        let leading = among(place("target_id"), &[id])
            .and(Condition::equals(place("field_id"), Value::Uuid(custom.id)));
        let rows = self
            .select(&Query::new(CustomReference::schema(), leading))
            .await?;
        let mut ids: Vec<Uuid> = rows
            .iter()
            .filter_map(|row| row.value(place("record_id")).as_uuid())
            .collect();
        let staged = self.staged().iter();
        let staged = staged.filter(|change| *change.object() == link.object);
        let leads = |row: &Row| link.target(&**row) == Some(id);
        let staged = staged.filter(|change| change.after().is_some_and(leads));
        ids.extend(staged.map(super::StagedChange::id));
        ids.sort_unstable();
        ids.dedup();
        let mut found = Vec::new();
        for batch in ids.chunks(BATCH) {
            found.extend(self.rows(&link.object, batch).await?);
        }
        found.retain(|row| leads(row) && deleted.is_none_or(|deleted| row.is_deleted() == deleted));
        Ok(found)
    }

    /// That no custom field leads to these records any more.
    pub(in crate::engine) fn led_to_by_none(&self, id: Uuid) -> Option<Unreferenced> {
        let is_used = self.session.engine().shared.tenant_schema.is_some();
        is_used.then(|| Unreferenced {
            object: CustomReference::schema().clone(),
            field: place("target_id"),
            id,
        })
    }
}

/// Whether a row is of a field that there is, and that leads where the row does.
fn is_known(registry: &Registry, row: &Row) -> bool {
    let Some(kept) = crate::Record::<CustomReference>::from_row(row.clone()) else {
        return false;
    };
    let Some(object) = registry.object(&kept.object) else {
        return false;
    };
    object.custom_references().any(|(place, target, _)| {
        let custom = object.custom_at(place);
        target == kept.target_object && custom.is_some_and(|custom| custom.id == kept.field_id)
    })
}

/// What became of a batch of records.
struct Batch {
    records: usize,
    written: usize,
    last: Option<Uuid>,
}

impl Settle for Batch {}

impl Session {
    /// Makes the rows again by which records are found that custom fields lead to
    /// ([`CustomReference`]), from the records: for records that were written past the engine, and
    /// for fields that were defined over values that there were. Runs in batches, each a commit of its
    /// own; what is stopped goes on where it runs again. Gives the number of rows written.
    ///
    /// Values that lead to no live record have a row too; they are refused when they are next written.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// # async fn example(session: &Session) -> Result<()> {
    /// session.restore_custom_references(&()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn restore_custom_references(&self, progress: &impl Progress) -> Result<u64> {
        let (mut done, mut written) = (0_u64, 0_u64);
        let objects = self.registry().await?.objects();
        let referring = objects
            .values()
            .filter(|object| !object.is_template() && object.custom_references().next().is_some());
        for object in referring {
            let mut after = None;
            loop {
                let batch = self.restore_batch(object, after).await?;
                done += batch.records as u64;
                written += batch.written as u64;
                if progress.report(done, None) == ControlFlow::Break(()) {
                    return Ok(written);
                }
                match batch.last.filter(|_| batch.records == BATCH) {
                    Some(last) => after = Some(last),
                    None => break,
                }
            }
        }
        Ok(written)
    }

    async fn restore_batch(&self, object: &ObjectRef, after: Option<Uuid>) -> Result<Batch> {
        let mut workspace = Workspace::Session(self);
        crate::engine::in_work!(workspace, |work| { restore(work, object, after).await })
    }
}

/// Brings the rows of a batch of records in step, behind the record with the id `after`.
async fn restore(work: &mut UnitOfWork, object: &ObjectRef, after: Option<Uuid>) -> Result<Batch> {
    let mut query = Query::new(object, Condition::all()).limit(BATCH);
    query.after = after.map(|id| vec![Value::Uuid(id)]);
    let rows = work.select(&query).await?;
    let mut wanted: BTreeMap<Uuid, Kept> = BTreeMap::new();
    let described = work.registry().await?.described(object);
    for row in &rows {
        let kept = CustomReference::of(&described, &**row).into_iter();
        wanted.extend(kept.map(|(id, kept)| (id, Some((kept, row.meta())))));
    }
    let before = work.staged().len();
    work.put_references(wanted).await?;
    let written = work.staged().len() - before;
    if written > 0 {
        // The rows are those of the records as they were read.
        for row in &rows {
            work.rely_on(&**row);
        }
    }
    Ok(Batch {
        records: rows.len(),
        written,
        last: rows.last().map(|row| row.id()),
    })
}

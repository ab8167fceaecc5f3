//! Keeps typed rows in step with the records of a commit, whichever way they were written.

use std::collections::{BTreeMap, HashMap, HashSet};

use async_trait::async_trait;
use crm_core::engine::{CommitHook, SCHEMA_VERSION, StagedChange, UnitOfWork};
use crm_core::error::{Error, Result};
use crm_core::query::{Condition, FieldAt, Filter, Query};
use crm_core::schema::{
    AnyRecord, CUSTOM_FIELDS, CustomFields, Entity, Lifecycle, ObjectRef, Registry, Row,
    SYSTEM_FIELDS, Value, ValueRef,
};
use crm_core::{Id, Record};
use uuid::Uuid;

use super::form::{IndexState, KeptField, Typed};
use super::rows::{Follows, PAGE, Plan, Wanted, stage_known};
use crate::tenant::Compiled;
use crate::{CustomField, CustomValue};

/// The places of fields of [`CustomValue`], in the order of the struct.
const RECORD_ID: usize = SYSTEM_FIELDS + 1;
pub(crate) const FIELD_ID: usize = SYSTEM_FIELDS + 2;
const UNIQUE_KEY: usize = SYSTEM_FIELDS + 5;

/// The fields of an object whose values have rows.
pub(crate) fn kept(object: &ObjectRef) -> &[KeptField] {
    let compiled = object.custom().and_then(|custom| {
        let custom: &CustomFields = custom;
        custom.check().as_any()?.downcast_ref::<Compiled>()
    });
    compiled.map_or(&[], |compiled| &compiled.kept)
}

impl Follows for Typed {
    type Kept = CustomValue;

    const KEYS: [&'static [&'static str]; 2] = [&["id"], &["record_id", "field_id"]];

    fn of(row: Row) -> Option<Self> {
        let row = Record::<CustomValue>::from_row(row)?;
        Some(Self {
            value: row.data.clone(),
            deleted_at: row.deleted_at,
        })
    }

    fn keep(self, work: &mut UnitOfWork, id: Uuid, before: Option<Row>) {
        work.keep_derived_until(id, before, self.value, self.deleted_at);
    }
}

/// What a commit means to typed rows.
#[derive(Default)]
struct Meaning {
    plan: Plan<Typed>,
    /// The records that keep no rows at all.
    gone: Vec<Uuid>,
    /// New values of unique fields of which not all records have their rows.
    doubtful: Vec<Doubtful>,
}

/// A new value of a unique field whose rows do not yet tell of every record.
#[derive(Debug)]
struct Doubtful {
    object: ObjectRef,
    field: KeptField,
    record: Uuid,
    value: Value,
    key: String,
}

impl Meaning {
    fn note(&mut self, change: &StagedChange, registry: &Registry, has_definitions: bool) {
        if change.object().lifecycle() != Lifecycle::Full {
            return;
        }
        let object = registry.described(change.object());
        let Some(document) = object.custom_document() else {
            return;
        };
        let (before, after) = (change.before(), change.after());
        let Some(after) = after else {
            // Also the rows of fields that are no more.
            if before.is_some() && has_definitions {
                self.plan.is_decided = true;
                self.gone.push(change.id());
            }
            return;
        };
        let deleted_at = |row: &Row| row.meta().deleted_at;
        let has_values = |row: &Row| !is_empty(&**row, document);
        let is_same = match before {
            Some(before) => {
                before.value(document) == after.value(document)
                    && (deleted_at(before) == deleted_at(after) || !has_values(after))
            }
            None => !has_values(after),
        };
        if is_same {
            return;
        }
        self.plan.is_decided = true;
        for field in kept(&object) {
            let row = |record: &Row| field.row_of(&object, &**record);
            let (old, new) = (before.and_then(row), row(after));
            if old == new {
                continue;
            }
            let new_key = key_of(&new).filter(|key| Some(*key) != key_of(&old));
            if field.state == IndexState::Building
                && let Some(key) = new_key
            {
                let place = field.place(&object);
                self.doubtful.push(Doubtful {
                    value: object.read(&**after, place, |value| value.into_owned()),
                    object: object.clone(),
                    field: field.clone(),
                    record: change.id(),
                    key: key.to_owned(),
                });
            }
            let is_new = before.is_none() || field.state == IndexState::Ready && old.is_none();
            let wanted = Wanted {
                id: field.row_id(change.id()),
                row: new.filter(|_| field.state != IndexState::Removing),
            };
            self.plan.want(wanted, is_new);
        }
    }
}

/// The value that no other record may have. That of a deleted record is free.
fn key_of(row: &Option<Typed>) -> Option<&str> {
    let row = row.as_ref().filter(|row| row.deleted_at.is_none())?;
    row.value.unique_key.as_deref()
}

/// Refuses values of unique fields that another record has already, which may have no row to tell:
/// the field became unique, or was restored, and its rows are not all made again. Two that write such a
/// value at the same time have their rows.
async fn refuse_doubles(work: &UnitOfWork, doubtful: Vec<Doubtful>) -> Result<()> {
    let mut by_field: BTreeMap<Uuid, Vec<Doubtful>> = BTreeMap::new();
    for one in doubtful {
        by_field.entry(one.field.id.uuid()).or_default().push(one);
    }
    let registry = work.registry().await?;
    for all in by_field.values() {
        for some in all.chunks(PAGE) {
            let Some(first) = some.first() else { continue };
            let Some(custom) = first.object.custom_at(first.field.place(&first.object)) else {
                continue;
            };
            let path = format!("{CUSTOM_FIELDS}.{}", custom.field.name);
            let filter = Filter::In {
                field: path.clone().into(),
                values: some.iter().map(|one| one.value.clone()).collect(),
            };
            let same = Condition::bind(&filter, &first.object, &registry)?;
            let live = Condition::not_deleted().and(same);
            let rows = work
                .select(&Query::new(&first.object, live).limit(PAGE))
                .await?;
            let is_taken = rows.iter().any(|row| {
                let kept = first.field.row_of(&first.object, &**row);
                let mut wanted = some.iter().filter(|one| one.record != row.id());
                wanted.any(|one| Some(one.key.as_str()) == key_of(&kept))
            });
            if is_taken {
                return Err(Error::Duplicate {
                    object: first.object.name().to_owned(),
                    fields: vec![path],
                });
            }
        }
    }
    Ok(())
}

fn is_empty(row: &dyn AnyRecord, document: usize) -> bool {
    match row.value(document) {
        ValueRef::Json(json) => json.as_object().is_none_or(serde_json::Map::is_empty),
        _ => true,
    }
}

/// The rows of some records.
async fn rows_of(work: &UnitOfWork, records: &[Uuid]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for chunk in records.chunks(PAGE) {
        let condition = one_of(RECORD_ID, chunk);
        rows.extend(
            work.select(&Query::new(CustomValue::schema(), condition))
                .await?,
        );
    }
    Ok(rows)
}

fn one_of(index: usize, ids: &[Uuid]) -> Condition {
    Condition::In {
        field: FieldAt::new(index),
        values: ids.iter().map(|id| Value::Uuid(*id)).collect(),
    }
}

/// Makes the rows of records for one field what their values are; the ids of the rows that are
/// written.
pub(crate) async fn settle(
    work: &mut UnitOfWork,
    object: &ObjectRef,
    field: &KeptField,
    records: &[Row],
) -> Result<HashSet<Uuid>> {
    let wanted = records.iter().map(|record| Wanted {
        id: field.row_id(record.id()),
        row: field.row_of(object, &**record),
    });
    stage_known(work, wanted.collect()).await
}

/// Stages the removal of those of some rows of a unique field that hold a value which their records
/// do not have; how many.
pub(crate) async fn remove_wrong(
    work: &mut UnitOfWork,
    object: &ObjectRef,
    field: &KeptField,
    rows: &[Row],
) -> Result<u64> {
    let stored = rows
        .iter()
        .filter_map(|row| Some((row, Typed::of(row.clone())?)));
    let stored: Vec<(&Row, Typed)> = stored.collect();
    let ids = stored.iter().map(|(_, typed)| typed.value.record_id);
    let ids: Vec<Uuid> = ids.collect();
    let records = work.rows(object, &ids).await?;
    let records: HashMap<Uuid, Row> = records.into_iter().map(|row| (row.id(), row)).collect();
    let mut count = 0;
    for (row, typed) in stored {
        let record = records.get(&typed.value.record_id);
        let wanted = record.and_then(|record| field.row_of(object, &**record));
        if typed.value.unique_key.is_none() || wanted.as_ref() == Some(&typed) {
            continue;
        }
        if let Some(record) = record {
            work.rely_on(&**record);
        }
        work.remove_derived(row);
        count += 1;
    }
    Ok(count)
}

/// Writes and removes typed rows in the commit of their records.
///
/// New records and values that were not there before need no read; other changes of values need
/// one for all records of the commit.
#[derive(Debug)]
pub(crate) struct ValueRows;

#[async_trait]
impl CommitHook for ValueRows {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let Some(version) = work.tenant_version().await? else {
            return Ok(());
        };
        let registry = work.registry().await?;
        let has_definitions = version.object().name() == SCHEMA_VERSION;
        let mut meaning = Meaning::default();
        for change in work.staged() {
            meaning.note(change, &registry, has_definitions);
        }
        let Meaning {
            plan,
            gone,
            doubtful,
        } = meaning;
        if plan.is_decided {
            work.rely_on(&*version);
        }
        if !doubtful.is_empty() {
            refuse_doubles(work, doubtful).await?;
        }
        if !gone.is_empty() {
            for row in rows_of(work, &gone).await? {
                work.remove_derived(&row);
            }
        }
        plan.stage(work).await
    }

    async fn explain_duplicate(
        &self,
        work: &UnitOfWork,
        object: &str,
        fields: &[String],
    ) -> Option<Error> {
        let schema = CustomValue::schema();
        let key: Vec<&str> = [FIELD_ID, UNIQUE_KEY]
            .iter()
            .map(|index| schema.field_name(*index))
            .collect();
        if object != schema.name() || fields != key {
            return None;
        }
        match taken(work).await {
            Ok(Some(taken)) => told(work, &taken).await,
            // Whoever had the value gave it up meanwhile.
            Ok(None) => Some(Error::Conflict {
                object: object.to_owned(),
                id: work.commit_stamp().id,
            }),
            Err(error) => Some(error),
        }
    }
}

/// The row of the unit of work whose value another record has.
async fn taken(work: &UnitOfWork) -> Result<Option<CustomValue>> {
    let mut own: HashMap<(Id<CustomField>, String), CustomValue> = HashMap::new();
    let mut touched: HashSet<Uuid> = HashSet::new();
    for change in work.staged() {
        if change.object() != CustomValue::schema() {
            continue;
        }
        touched.insert(change.id());
        let after = change
            .after()
            .filter(|row| !row.is_deleted())
            .cloned()
            .and_then(Record::<CustomValue>::from_row);
        let Some(after) = after else { continue };
        if let Some(key) = &after.unique_key
            && let Some(other) = own.insert((after.field_id, key.clone()), after.data.clone())
        {
            return Ok(Some(other));
        }
    }
    let wanted: Vec<_> = own.into_iter().collect();
    for chunk in wanted.chunks(PAGE) {
        let mut fields: Vec<Uuid> = chunk.iter().map(|((field, _), _)| field.uuid()).collect();
        fields.sort_unstable();
        fields.dedup();
        let keys = chunk.iter().map(|((_, key), _)| Value::Text(key.clone()));
        let condition =
            Condition::not_deleted()
                .and(one_of(FIELD_ID, &fields))
                .and(Condition::In {
                    field: FieldAt::new(UNIQUE_KEY),
                    values: keys.collect(),
                });
        let stored = Query::new(CustomValue::schema(), condition);
        for row in work.session().begin().select(&stored).await? {
            let Some(row) = Record::<CustomValue>::from_row(row) else {
                continue;
            };
            let is_own = |((field, key), _): &&((Id<CustomField>, String), CustomValue)| {
                *field == row.field_id && Some(key) == row.unique_key.as_ref()
            };
            if !touched.contains(&row.id.uuid())
                && let Some((_, own)) = chunk.iter().find(is_own)
            {
                return Ok(Some(own.clone()));
            }
        }
    }
    Ok(None)
}

/// What the caller is told: the object and the field that it knows.
async fn told(work: &UnitOfWork, taken: &CustomValue) -> Option<Error> {
    let registry = work.registry().await.ok()?;
    let object = registry.object(&taken.object)?;
    let mut fields = object.custom_fields().iter();
    let field = fields.find(|field| field.id == taken.field_id.uuid())?;
    Some(Error::Duplicate {
        object: taken.object.clone(),
        fields: vec![format!("{CUSTOM_FIELDS}.{}", field.field.name)],
    })
}

//! Keeps what text searches find of records in step with them, whichever way they were written.

use std::collections::HashSet;

use async_trait::async_trait;
use crm_core::Record;
use crm_core::engine::{CommitHook, SCHEMA_VERSION, StagedChange, UnitOfWork};
use crm_core::error::Result;
use crm_core::query::search_text;
use crm_core::schema::{
    AnyRecord, Lifecycle, ObjectRef, Registry, Row, StorageKind, Value, search_texts,
};
use uuid::Uuid;

use super::rows::{Follows, Plan, Wanted, stage_known};
use crate::CustomText;
use crate::tenant::Compiled;

/// The id of the row of a record.
pub(crate) fn row_id(record: Uuid) -> Uuid {
    Uuid::new_v5(&record, search_texts::OBJECT.as_bytes())
}

/// The row that a record has.
fn row_of(object: &ObjectRef, record: &dyn AnyRecord) -> Option<CustomText> {
    let words = search_text(object, record)?;
    Some(CustomText {
        object: search_texts::key(object),
        record_id: record.id(),
        words,
    })
}

/// Whether records of the object may have rows.
fn has_texts(object: &ObjectRef) -> bool {
    let is_list = |kind| kind == StorageKind::List;
    let mut fields = object.fields().iter();
    if fields.any(|field| field.searchable && is_list(field.storage_kind())) {
        return true;
    }
    let compiled = object.custom().and_then(|custom| {
        let check = custom.check().as_any()?;
        check.downcast_ref::<Compiled>()
    });
    compiled.is_some_and(|compiled| compiled.has_texts)
}

impl Follows for CustomText {
    type Kept = Self;

    const KEYS: [&'static [&'static str]; 2] = [&["id"], &["record_id"]];

    fn of(row: Row) -> Option<Self> {
        Some(Record::<Self>::from_row(row)?.data.clone())
    }

    fn keep(self, work: &mut UnitOfWork, id: Uuid, before: Option<Row>) {
        work.keep_derived(id, before, self);
    }
}

impl Plan<CustomText> {
    fn note(&mut self, change: &StagedChange, registry: &Registry, has_definitions: bool) {
        if change.object().lifecycle() != Lifecycle::Full {
            return;
        }
        let object = registry.described(change.object());
        let Some(document) = object.custom_document() else {
            return;
        };
        let id = row_id(change.id());
        let live = |row: Option<&Row>| row.filter(|row| !row.is_deleted()).cloned();
        let (before, after) = (live(change.before()), live(change.after()));
        let is_purged = change.after().is_none() && change.before().is_some();
        if is_purged && has_definitions {
            self.is_decided = true;
            self.want(Wanted { id, row: None }, false);
            return;
        }
        if !has_texts(&object) {
            return;
        }
        let value = |row: &Row| row.value(document).into_owned();
        let (old_document, document) = (before.as_ref().map(value), after.as_ref().map(value));
        let row = |record: &Option<Row>| row_of(&object, &**record.as_ref()?);
        let (old, new) = (row(&before), row(&after));
        // The row may hold words of a field that is searched no more.
        let is_left = change.before().is_none() || old_document == document;
        if old == new && is_left {
            // A field that is searched from now on would have made a difference.
            self.is_decided |= document.is_some_and(|document| !is_empty(&document));
            return;
        }
        self.is_decided = true;
        self.want(Wanted { id, row: new }, change.before().is_none());
    }
}

fn is_empty(document: &Value) -> bool {
    match document {
        Value::Json(json) => json.as_object().is_none_or(serde_json::Map::is_empty),
        _ => true,
    }
}

/// Makes the rows of records what they are found by; the records whose rows are written.
pub(crate) async fn settle(
    work: &mut UnitOfWork,
    object: &ObjectRef,
    records: &[Row],
) -> Result<HashSet<Uuid>> {
    let wanted = records.iter().map(|record| Wanted {
        id: row_id(record.id()),
        row: row_of(object, &**record),
    });
    let written = stage_known(work, wanted.collect()).await?;
    let records = records.iter().map(|record| record.id());
    Ok(records
        .filter(|record| written.contains(&row_id(*record)))
        .collect())
}

/// Writes and removes the rows in the commit of their records.
///
/// New records need no read; where documents or searchable fields of others change, one is made for
/// all records of the commit.
#[derive(Debug)]
pub(crate) struct TextRows;

#[async_trait]
impl CommitHook for TextRows {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let Some(version) = work.tenant_version().await? else {
            return Ok(());
        };
        let registry = work.registry().await?;
        let has_definitions = version.object().name() == SCHEMA_VERSION;
        let mut plan = Plan::<CustomText>::default();
        for change in work.staged() {
            plan.note(change, &registry, has_definitions);
        }
        if plan.is_decided {
            work.rely_on(&*version);
        }
        plan.stage(work).await
    }
}

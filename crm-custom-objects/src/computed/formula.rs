//! Formulas in a commit: which records they are computed for, and what is around these.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crm_core::UnitOfWork;
use crm_core::engine::{Around, StagedChange};
use crm_core::error::Result;
use crm_core::expression::{At, Context, Dependency, Problem, RowValues, Type, Typed};
use crm_core::query::{Condition, FieldAt, Query};
use crm_core::schema::{AnyRecord, Entity, ObjectRef, Row, Value, ValueRef};
use serde_json::Value as Json;
use uuid::Uuid;

use super::program::{Node, Program};
use super::{Difference, MAX_DEPENDENTS, differences, keep};
use crate::CustomField;

/// Computes a formula for the records that were written, and for those that lead to such ones.
pub(super) async fn refresh(
    work: &mut UnitOfWork,
    program: &Program,
    node: &Node,
    typed: &Typed,
) -> Result<()> {
    let mut rows: BTreeMap<Uuid, Row> = BTreeMap::new();
    for change in differences(work, &node.object) {
        rows.extend(change.after.map(|row| (change.id, row)));
    }
    if !node.is_local() {
        match dependents(work, node, typed).await? {
            Some(found) => rows.extend(found),
            None => mark_stale(work, node).await?,
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let rows: Vec<Row> = rows.into_values().collect();
    let around = Around::of(work, &rows, typed).await?;
    let touched = touched(work, &rows, typed, &around);
    for (row, value) in values(program, node, typed, &rows, &around, work.now()) {
        keep(work, node, row, value.unwrap_or_default()).await?;
    }
    for row in touched {
        work.touch_row(row);
    }
    Ok(())
}

/// The value of a formula for each of some records, in its stored form.
pub(super) fn values<'r>(
    program: &Program,
    node: &Node,
    typed: &Typed,
    rows: &'r [Row],
    around: &Around,
    now: chrono::DateTime<chrono::Utc>,
) -> Vec<(&'r Row, std::result::Result<Option<Json>, Problem>)> {
    let context = Context::at(now, program.zone);
    let value = |row: &Row| {
        let values = RowValues::with_related(&**row, around);
        let value = typed.evaluate(&values, &context);
        let value = value.map_err(|error| error.problem);
        value.and_then(|datum| node.stored_datum(datum))
    };
    rows.iter().map(|row| (row, value(row))).collect()
}

/// The records that lead to one that was changed, by the paths of a formula; `None` if they are too
/// many for one commit.
async fn dependents(
    work: &UnitOfWork,
    node: &Node,
    typed: &Typed,
) -> Result<Option<BTreeMap<Uuid, Row>>> {
    let mut found = BTreeMap::new();
    let mut changed: HashMap<String, Vec<Difference>> = HashMap::new();
    for field in typed.dependencies().iter().filter(|field| !field.is_own()) {
        let steps: Vec<(&At, &ObjectRef)> = field.references().collect();
        // What is read of the record that each step leads to: the next reference, or the field.
        for (place, (_, object)) in steps.iter().enumerate() {
            let next = steps.get(place + 1).map(|(at, _)| *at);
            let name = object.name().to_owned();
            let differences = changed
                .entry(name)
                .or_insert_with(|| differences(work, object));
            let differing = differences
                .iter()
                .filter(|change| differs(change, next, field));
            let mut ids: BTreeSet<Uuid> = differing.map(|change| change.id).collect();
            // Back along the path.
            for back in (0..=place).rev() {
                if ids.is_empty() {
                    break;
                }
                let Some((at, _)) = steps.get(back) else {
                    break;
                };
                let from = match back.checked_sub(1).and_then(|before| steps.get(before)) {
                    Some((_, object)) => *object,
                    None => &node.object,
                };
                let rows = leading(work, from, at, &ids).await?;
                if rows.len() > MAX_DEPENDENTS {
                    return Ok(None);
                }
                ids = rows.iter().map(|row| row.id()).collect();
                if back == 0 {
                    found.extend(rows.into_iter().map(|row| (row.id(), row)));
                    if found.len() > MAX_DEPENDENTS {
                        return Ok(None);
                    }
                }
            }
        }
    }
    Ok(Some(found))
}

/// Whether a record that is led to has another value there. Nothing but what is written in the same
/// commit leads to a new one.
fn differs(change: &Difference, next: Option<&At>, field: &Dependency) -> bool {
    let Some(before) = &change.before else {
        // It is restored.
        return change.after.as_ref().is_some_and(|row| row.version() > 1);
    };
    let Some(after) = &change.after else {
        return true;
    };
    if field.field.value_type == Type::Money && next.is_none() {
        // The currency may be another one.
        return !after.differing(&**before).is_empty();
    }
    let Some(at) = next.or_else(|| field.at()) else {
        return false;
    };
    match &at.member {
        None => before.value(at.index) != after.value(at.index),
        Some(key) => member(&**before, at.index, key) != member(&**after, at.index, key),
    }
}

fn member(row: &dyn AnyRecord, index: usize, key: &str) -> Option<Json> {
    match row.value(index) {
        ValueRef::Json(json) => json.get(key).cloned(),
        _ => None,
    }
}

/// The live records of an object that lead to one of these by a reference: one more than may follow
/// in a commit, at most.
async fn leading(
    work: &UnitOfWork,
    object: &ObjectRef,
    at: &At,
    ids: &BTreeSet<Uuid>,
) -> Result<Vec<Row>> {
    let object = work.registry().await?.described(object);
    let field = match &at.member {
        None => FieldAt::new(at.index),
        Some(key) => FieldAt::named(&object, key)?.0,
    };
    let values = ids.iter().copied().map(Value::Uuid).collect();
    let leads = Condition::In { field, values };
    let query = Query::new(&object, Condition::not_deleted().and(leads));
    work.select(&query.limit(MAX_DEPENDENTS + 1)).await
}

/// Says that not all records have the present value of a field.
async fn mark_stale(work: &mut UnitOfWork, node: &Node) -> Result<()> {
    let schema = CustomField::schema();
    let Some(row) = work.row(schema, node.id.uuid()).await? else {
        return Ok(());
    };
    let Some(index) = schema.field_index(&CustomField::STALE_SINCE.name()) else {
        return Ok(());
    };
    let now = Value::Timestamp(work.now());
    work.keep_values(&row, vec![(index, now)]).await?;
    Ok(())
}

/// The records that others begin to lead to in this commit: a change of them at the same time is a
/// conflict.
fn touched(work: &UnitOfWork, rows: &[Row], typed: &Typed, around: &Around) -> Vec<Row> {
    let changes = work.staged().iter();
    let changes: HashMap<Uuid, &StagedChange> =
        changes.map(|change| (change.id(), change)).collect();
    let mut touched = Vec::new();
    for field in typed.dependencies() {
        let mut level: Vec<Row> = rows.to_vec();
        for (at, object) in field.references() {
            let begins = |row: &&Row| {
                let staged = changes.get(&row.id());
                let staged = staged.filter(|change| change.object() == row.object());
                staged.is_some_and(|staged| {
                    let before = staged.before().filter(|row| !row.is_deleted());
                    before.and_then(|before| at.id_in(&**before)) != at.id_in(&***row)
                })
            };
            if Around::is_relied_on(object) {
                let beginning: Vec<Row> = level.iter().filter(begins).cloned().collect();
                touched.extend(around.reached(&beginning, at, object));
            }
            level = around.reached(&level, at, object);
        }
    }
    touched
}

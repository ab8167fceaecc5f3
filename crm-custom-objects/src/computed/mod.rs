//! Values that follow from others: formulas, roll-ups, and rules between fields.
//!
//! - **Formulas** are in the [language of expressions](crm_core::expression). Their type is checked
//!   when they are defined, and they must not depend on each other in a circle. Values are kept in
//!   the document of the record, where filters, sorting, reports and the audit trail find them as
//!   they find others.
//! - A formula over the record itself is computed whenever the record is written. One that looks
//!   through a reference (`account_id.industry`) is computed besides when the record that it leads to
//!   changes, in the same commit, for up to [`MAX_DEPENDENTS`] records. Beyond that they keep their
//!   former values, the field says so ([`CustomField::stale_since`](crate::CustomField)), and
//!   [`Computed::recompute`] brings them in step.
//! - **Roll-ups** count, add up or compare the live records that lead to a record, archived ones too,
//!   in the commit that changes one of them. They may be over formulas, and formulas over them. They
//!   never add up currencies: a sum over amounts whose currency is another field needs a
//!   filter that names one currency.
//! - **Amounts** of a currency field are money in expressions, so two currencies never meet; a
//!   formula that shall be a number takes `amount(..)` of them.
//! - `today()` and `now()` are those of the last write of the record, or of
//!   [`Computed::refresh_volatile`], which a host calls once a day; [`Computed::evaluate`] tells the
//!   value of this moment.
//! - A formula that cannot be computed, such as a quotient by zero, has no value, and
//!   [`Computed::explain`] says why.
//! - **Rules** look at the record itself, and judge it when it is new or a field that they name
//!   changes. A rule over a roll-up so may refuse a change of a child.
//!
//! Two commits never compute from each other's former state: a record whose children change, or that
//! others begin to lead to by a formula, gets a new version in that commit, so a commit at the same
//! time is a conflict and runs again.

mod check;
mod formula;
mod local;
mod program;
mod roll_up;
mod service;

use std::collections::BTreeSet;

use async_trait::async_trait;
use crm_core::engine::{CommitHook, StagedChange, UnitOfWork};
use crm_core::error::Result;
use crm_core::schema::{ObjectRef, Row, SYSTEM_FIELDS, Value, ValueRef};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

pub(crate) use check::{check_field, check_rule};
pub(crate) use local::Local;
pub(crate) use program::Program;
pub use service::{Computed, Explanation, Recomputed};

use program::{Kind, Node};

/// The most records whose formulas follow the change of another record in its commit.
pub const MAX_DEPENDENTS: usize = 1_000;
/// The most formulas and roll-ups of one object.
pub const MAX_COMPUTED: usize = 100;
/// How many formulas and roll-ups may follow from each other in a row.
pub const MAX_CHAIN: usize = 10;

/// Computes what follows from the staged changes. It runs before all other hooks, so that these see
/// the values, and once more behind them, for what they changed.
#[derive(Debug)]
pub(crate) struct ComputedValues;

#[async_trait]
impl CommitHook for ComputedValues {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let Some(program) = work.schema_extension::<Program>().await? else {
            return Ok(());
        };
        if program.nodes.is_empty() {
            return Ok(());
        }
        // In the order of dependencies, so every value is computed from final ones.
        for node in &program.nodes {
            match &node.kind {
                Kind::Formula(typed) => formula::refresh(work, &program, node, typed).await?,
                Kind::RollUp(plan) => roll_up::refresh(work, node, plan).await?,
            }
        }
        work.mark_computed();
        Ok(())
    }
}

/// What became of a record since values were last computed.
struct Difference {
    id: Uuid,
    /// The live record as it was.
    before: Option<Row>,
    /// The live record as it is.
    after: Option<Row>,
}

/// The staged changes of an object that values were not computed from yet.
fn differences(work: &UnitOfWork, object: &ObjectRef) -> Vec<Difference> {
    let live = |row: &Row| !row.is_deleted();
    let differs = |change: &&StagedChange| match (work.since_computed(change), change.after()) {
        (Some(before), Some(after)) => !std::sync::Arc::ptr_eq(before, after),
        (None, None) => false,
        _ => true,
    };
    let changes = work.staged().iter();
    changes
        .filter(|change| change.object() == object)
        .filter(differs)
        .map(|change| Difference {
            id: change.id(),
            before: work.since_computed(change).cloned().filter(live),
            after: change.after().cloned().filter(live),
        })
        .collect()
}

/// The document of a record.
fn document(row: &Row, index: usize) -> Json {
    match row.value(index) {
        ValueRef::Json(json) => json.into_owned(),
        _ => Json::Null,
    }
}

/// Puts a value into a document, or takes it out; says whether that changed it.
fn set_member(document: &mut Json, key: &str, value: Option<Json>) -> bool {
    if document.is_null() {
        *document = Json::Object(Map::new());
    }
    let Some(members) = document.as_object_mut() else {
        return false;
    };
    if members.get(key) == value.as_ref() {
        return false;
    }
    match value {
        Some(value) => members.insert(key.to_owned(), value),
        None => members.remove(key),
    };
    true
}

/// Records of one object with the present values of some computed fields, named by their keys, and of
/// those of the same records that these follow from. Nothing is staged.
pub(crate) async fn complete(
    work: &UnitOfWork,
    mut rows: Vec<Row>,
    keys: &[Box<str>],
) -> Result<Vec<Row>> {
    let Some(program) = work.schema_extension::<Program>().await? else {
        return Ok(rows);
    };
    let Some(object) = rows.first().map(|row| row.object().clone()) else {
        return Ok(rows);
    };
    let own = program.nodes.iter().filter(|node| node.object == object);
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    let mut needed: Vec<&Node> = Vec::new();
    // Each stands behind those that it follows from.
    for node in own.rev() {
        if keys.contains(&node.key) || wanted.contains(&node.label()) {
            wanted.extend(node.needs());
            needed.push(node);
        }
    }
    for node in needed.into_iter().rev() {
        let values = service::values(work, &program, node, &rows).await?;
        for (row, value) in rows.iter_mut().zip(values) {
            let mut json = document(row, node.document);
            if set_member(&mut json, &node.key, value.unwrap_or_default())
                && let Some(completed) = with_document(row, node.document, json)
            {
                *row = completed;
            }
        }
    }
    Ok(rows)
}

/// The record with another document.
fn with_document(row: &Row, index: usize, json: Json) -> Option<Row> {
    let mut values = row.values();
    let place = index.checked_sub(SYSTEM_FIELDS)?;
    *values.get_mut(place)? = Value::Json(json);
    row.with_values(row.meta(), values).ok()
}

/// Stages the value of a node for a record, where it is another one; says whether it is.
async fn keep(work: &mut UnitOfWork, node: &Node, row: &Row, value: Option<Json>) -> Result<bool> {
    let mut json = document(row, node.document);
    if !set_member(&mut json, &node.key, value) {
        return Ok(false);
    }
    let values = vec![(node.document, Value::Json(json))];
    work.keep_values(row, values).await?;
    Ok(true)
}

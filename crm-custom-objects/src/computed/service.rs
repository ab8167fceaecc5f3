//! [`Computed`]: what callers ask about computed values, and runs that bring them in step.

use std::ops::ControlFlow;
use std::sync::Arc;

use crm_core::engine::{Around, Progress};
use crm_core::error::{Error, FieldError, Result};
use crm_core::expression::Problem;
use crm_core::query::{Condition, Query, QueryError};
use crm_core::schema::{Entity, Row, Value};
use crm_core::{Id, Session, UnitOfWork};
use serde_json::Value as Json;
use uuid::Uuid;

use super::program::{Kind, Node, Program};
use super::{formula, keep, roll_up};
use crate::CustomField;

/// How many records are computed in one commit of a run.
const AT_ONCE: usize = 500;
/// How often a batch that others keep changing is tried.
const ATTEMPTS: usize = 32;

/// The formulas and roll-ups of a tenant: see what follows from what in the language of
/// [expressions](crm_core::expression).
///
/// ```
/// # use crm_core::{Id, Session, error::Result};
/// # use crm_custom_objects::{Computed, CustomField, Explanation};
/// # async fn example(session: &Session, margin: Id<CustomField>) -> Result<()> {
/// let computed = Computed::new(session);
/// // After the formula of the field was changed:
/// let run = computed.recompute(margin, &()).await?;
/// assert!(run.is_complete);
///
/// let deal = session.object("deal").await?.get(uuid::Uuid::nil()).await?;
/// if let Explanation::Failed(problem) = computed.explain(&deal, "margin").await? {
///     println!("no margin: {}", problem.message());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Computed<'s> {
    session: &'s Session,
}

/// Why a computed field has the value that it has.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Explanation {
    /// This is what it comes to now, null included. A record may still have another value: while the
    /// field is [stale](CustomField::stale_since), or where the formula goes by the day.
    Value(Json),
    /// It has no value, as it cannot be computed.
    Failed(Problem),
    /// It is not computed: the definition does not fit the others any more, as where a field that it
    /// names was removed.
    Unsound(Vec<FieldError>),
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recomputed {
    /// How many records were looked at.
    pub checked: u64,
    /// How many of them had another value.
    pub mended: u64,
    /// Whether all records have their present value now: the run was not stopped, and the field was
    /// not marked again meanwhile.
    pub is_complete: bool,
}

impl<'s> Computed<'s> {
    /// Those of the session's tenant.
    #[must_use]
    pub const fn new(session: &'s Session) -> Self {
        Self { session }
    }

    /// The value that a computed field of a record comes to at this moment, worked out anew from
    /// what is stored; null where it cannot be computed.
    ///
    /// # Errors
    /// [`QueryError::UnknownField`] if the object has no such computed field; those of the storage.
    pub async fn evaluate(&self, row: &Row, field: &str) -> Result<Json> {
        Ok(match self.explain(row, field).await? {
            Explanation::Value(value) => value,
            Explanation::Failed(_) | Explanation::Unsound(_) => Json::Null,
        })
    }

    /// What a computed field of a record comes to at this moment, or why to nothing.
    ///
    /// # Errors
    /// Like [`evaluate`](Self::evaluate).
    pub async fn explain(&self, row: &Row, field: &str) -> Result<Explanation> {
        let work = self.session.begin();
        let object = work.registry().await?.described(row.object());
        let unknown = || QueryError::UnknownField {
            object: object.name().to_owned(),
            field: field.to_owned(),
        };
        let known = object.custom_field(field).ok_or_else(unknown)?;
        let program = program(&work).await?.ok_or_else(unknown)?;
        // Only what the tenant has is looked at, whatever row was given.
        let stored = work.row(&object, row.id()).await?;
        let stored = stored.ok_or_else(|| Error::NotFound {
            object: object.name().to_owned(),
            id: row.id(),
        })?;
        let Some(node) = node_of(&program, known.id) else {
            return match program.faults_of(known.id) {
                [] => Err(unknown().into()),
                faults => Ok(Explanation::Unsound(faults.to_vec())),
            };
        };
        let rows = [stored];
        let mut values = values(&work, &program, node, &rows).await?;
        Ok(match values.pop() {
            Some(Ok(value)) => Explanation::Value(value.unwrap_or_default()),
            Some(Err(problem)) => Explanation::Failed(problem),
            None => Explanation::Value(Json::Null),
        })
    }

    /// Computes a field for all live records anew, after its definition changed or more records
    /// followed from a change than one commit takes. Fields that follow from it are computed with it.
    ///
    /// Some hundred records are one commit, and others may write meanwhile. A run that is stopped or
    /// fails has done its work up to there; run again it does the rest. Until a run was complete the
    /// field is [marked](CustomField::stale_since), and records that were not written since may have
    /// the former value or none.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such field that is computed; what the rules of the object
    /// refuse; those of the storage.
    pub async fn recompute(
        &self,
        field: Id<CustomField>,
        progress: &dyn Progress,
    ) -> Result<Recomputed> {
        let mark = self.session.records::<CustomField>().get(field).await?;
        let mut done = Recomputed::default();
        let mut last = None;
        loop {
            let batch = self.batch(field, last).await?;
            done.checked += batch.checked;
            done.mended += batch.mended;
            if progress.report(done.checked, None) == ControlFlow::Break(()) {
                return Ok(done);
            }
            match batch.last {
                Some(id) => last = Some(id),
                None => break,
            }
        }
        if mark.stale_since.is_none() {
            done.is_complete = true;
            return Ok(done);
        }
        // Marked again meanwhile, it stays marked.
        let mut work = self.session.begin();
        let schema = CustomField::schema();
        let row = work.row(schema, field.uuid()).await?;
        let row = row.filter(|row| row.version() == mark.version);
        let index = schema.field_index(&CustomField::STALE_SINCE.name());
        if let (Some(row), Some(index)) = (row, index) {
            work.keep_values(&row, vec![(index, Value::Null)]).await?;
            done.is_complete = match work.commit().await {
                Ok(_) => true,
                Err(Error::Conflict { .. }) => false,
                Err(error) => return Err(error),
            };
        }
        Ok(done)
    }

    /// Computes all formulas over `today()` and `now()` anew, for the day that has begun.
    ///
    /// # Errors
    /// Like [`recompute`](Self::recompute).
    pub async fn refresh_volatile(&self, progress: &dyn Progress) -> Result<Recomputed> {
        let mut done = Recomputed {
            is_complete: true,
            ..Recomputed::default()
        };
        let Some(program) = program(&self.session.begin()).await? else {
            return Ok(done);
        };
        for node in &program.nodes {
            let is_volatile = match &node.kind {
                Kind::Formula(typed) => typed.is_volatile(),
                Kind::RollUp(_) => false,
            };
            if is_volatile {
                let before = done.checked;
                let run = |checked: u64, _: Option<u64>| progress.report(before + checked, None);
                let run = self.recompute(node.id, &run).await?;
                done.checked += run.checked;
                done.mended += run.mended;
                done.is_complete &= run.is_complete;
            }
        }
        Ok(done)
    }

    /// Computes a field for the next records, in one commit.
    async fn batch(&self, field: Id<CustomField>, last: Option<Uuid>) -> Result<Batch> {
        let mut attempt = 1;
        loop {
            let mut work = self.session.begin();
            let batch = next(&mut work, field, last).await?;
            match work.commit().await {
                Ok(_) => return Ok(batch),
                Err(Error::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Some records, computed.
#[derive(Default)]
struct Batch {
    checked: u64,
    mended: u64,
    /// The last of them, where more may follow.
    last: Option<Uuid>,
}

async fn next(work: &mut UnitOfWork, field: Id<CustomField>, last: Option<Uuid>) -> Result<Batch> {
    let program = program(work).await?;
    let node = program.as_deref().and_then(|program| {
        let node = node_of(program, field.uuid())?;
        Some((program, node))
    });
    let Some((program, node)) = node else {
        return Err(Error::NotFound {
            object: CustomField::schema().name().to_owned(),
            id: field.uuid(),
        });
    };
    let mut query = Query::new(&node.object, Condition::not_deleted()).limit(AT_ONCE);
    query.after = last.map(|id| vec![Value::Uuid(id)]);
    let rows = work.select(&query).await?;
    let values = values(work, program, node, &rows).await?;
    let mut batch = Batch {
        checked: u64::try_from(rows.len()).unwrap_or(u64::MAX),
        ..Batch::default()
    };
    for (row, value) in rows.iter().zip(values) {
        let is_other = keep(work, node, row, value.unwrap_or_default()).await?;
        batch.mended += u64::from(is_other);
    }
    batch.last = rows
        .last()
        .filter(|_| rows.len() == AT_ONCE)
        .map(|row| row.id());
    Ok(batch)
}

async fn program(work: &UnitOfWork) -> Result<Option<Arc<Program>>> {
    work.schema_extension::<Program>().await
}

fn node_of(program: &Program, field: Uuid) -> Option<&Node> {
    let mut nodes = program.nodes.iter();
    nodes
        .find(|node| node.id.uuid() == field)
        .map(|node| &**node)
}

/// The value of a field for each of some records.
pub(super) async fn values(
    work: &UnitOfWork,
    program: &Program,
    node: &Node,
    rows: &[Row],
) -> Result<Vec<std::result::Result<Option<Json>, Problem>>> {
    Ok(match &node.kind {
        Kind::Formula(typed) => {
            let around = Around::of(work, rows, typed).await?;
            let values = formula::values(program, node, typed, rows, &around, work.now());
            values.into_iter().map(|(_, value)| value).collect()
        }
        Kind::RollUp(plan) => {
            let ids: Vec<Uuid> = rows.iter().map(|row| row.id()).collect();
            let mut totals = roll_up::totals(work, plan, &ids).await?;
            let mut value = |row: &Row| {
                let total = totals.remove(&row.id()).unwrap_or_default();
                node.stored(total.value(plan.function))
            };
            rows.iter().map(&mut value).collect()
        }
    })
}

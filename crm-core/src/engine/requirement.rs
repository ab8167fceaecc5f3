//! [`Requirement`]: what a setting asks of records by an expression.

use super::{Around, UnitOfWork};
use crate::error::{FieldError, Result};
use crate::expression::{Context, EvaluationError, ObjectScope, RowValues, Type, Typed, compile};
use crate::schema::{ObjectRef, Registry, Row};
use crate::tenancy::zone;

/// What a setting, such as the gate of a stage, asks of the records of an object: a condition in the
/// language of expressions, read and checked once.
#[derive(Debug)]
pub(crate) struct Requirement {
    typed: Typed,
    /// The keys of the computed fields of the record itself that it looks at.
    computed: Vec<Box<str>>,
}

/// What a requirement comes to for a record: `None` where a field that it looks at is empty.
pub(crate) type Answer = std::result::Result<Option<bool>, EvaluationError>;

impl Requirement {
    /// Reads the condition that a setting holds in its field `path`. It must not look at the fields
    /// `withheld` of the record itself, nor at those that every write changes.
    ///
    /// # Errors
    /// Every fault, with its place in the source.
    pub(crate) fn new(
        source: &str,
        object: &ObjectRef,
        registry: &Registry,
        withheld: &[&str],
        path: &str,
    ) -> std::result::Result<Self, Vec<FieldError>> {
        let scope = ObjectScope::new(object, registry).without(withheld);
        let typed = compile(source, &scope, Type::Boolean, path)?;
        let own = typed.dependencies().iter().filter(|field| field.is_own());
        let keys = own.filter_map(|field| field.at()?.member.as_deref());
        let computed = computed_among(keys, &registry.described(object));
        Ok(Self { typed, computed })
    }

    /// The keys of the computed fields of the record itself that it looks at; see
    /// [`UnitOfWork::completed`].
    pub(crate) fn computed(&self) -> &[Box<str>] {
        &self.computed
    }

    /// What it comes to for each of some records, and the other records that this rests on.
    ///
    /// # Errors
    /// Those of the storage.
    pub(crate) async fn ask(
        &self,
        work: &UnitOfWork,
        rows: &[Row],
    ) -> Result<(Vec<Answer>, Around)> {
        let around = Around::of(work, rows, &self.typed).await?;
        let context = Context::at(work.now(), zone(work).await?);
        let answer = |row: &Row| {
            let values = RowValues::with_related(&**row, &around);
            self.typed.decide(&values, &context)
        };
        let answers = rows.iter().map(answer).collect();
        Ok((answers, around))
    }

    /// Whether other records take part in the answer.
    pub(crate) fn looks_around(&self) -> bool {
        !self.typed.dependencies().iter().all(|field| field.is_own())
    }
}

/// The keys among these that are of computed fields of an object, described for the tenant.
pub(crate) fn computed_among<'k>(
    keys: impl Iterator<Item = &'k str>,
    object: &ObjectRef,
) -> Vec<Box<str>> {
    let is_computed = |key: &&str| {
        let field = object.custom_field(key);
        field.is_some_and(|custom| custom.field.read_only)
    };
    keys.filter(is_computed).map(Into::into).collect()
}

impl UnitOfWork {
    /// Records with the values that some computed fields of the tenant's own come to as things stand
    /// here. The commit computes what looks at other records only at its end.
    ///
    /// # Errors
    /// Those of the storage.
    pub(crate) async fn completed(&self, rows: Vec<Row>, keys: &[Box<str>]) -> Result<Vec<Row>> {
        match &self.session().engine().shared.tenant_schema {
            Some(schema) if !keys.is_empty() => schema.compute(self, rows, keys).await,
            _ => Ok(rows),
        }
    }
}

//! Trees along references in encrypted documents: they are walked here, level by level, and become the ids
//! of the records in them.

use std::collections::{BTreeSet, HashSet};

use crm_core::query::{Condition, FieldAt, Query, Tree, TreePart};
use crm_core::schema::{ObjectRef, Value};
use crm_core::storage::{Scope, Storage, StorageError};
use uuid::Uuid;

use super::EncryptedStorage;
use super::coverage::{Coverage, Extent, TypedRows};

/// How many records of a level are looked up at once.
const AT_ONCE: usize = 1_000;

/// Whether a tree is along references in an encrypted document.
fn is_hidden(coverage: &Coverage, tree: &Tree) -> bool {
    let custom = tree.object.custom_at(tree.parent);
    let document = custom.and_then(|_| tree.object.custom_document());
    document.is_some_and(|index| coverage.extent(&tree.object, index) != Extent::None)
}

/// Whether a condition asks for such a tree.
pub(super) fn has_hidden(coverage: &Coverage, condition: &Condition) -> bool {
    match condition {
        Condition::InTree { tree, .. } => is_hidden(coverage, tree),
        Condition::And(all) | Condition::Or(all) => {
            all.iter().any(|condition| has_hidden(coverage, condition))
        }
        Condition::Not(condition)
        | Condition::Has { condition, .. }
        | Condition::Any { condition, .. } => has_hidden(coverage, condition),
        _ => false,
    }
}

impl<S: Storage> EncryptedStorage<S> {
    /// The condition with the ids of the records in the place of such trees.
    pub(super) async fn with_ids(
        &self,
        scope: &Scope,
        coverage: &Coverage,
        condition: &Condition,
    ) -> Result<Condition, StorageError> {
        if !has_hidden(coverage, condition) {
            return Ok(condition.clone());
        }
        Ok(match condition {
            Condition::InTree { field, tree } => {
                let ids = match coverage.typed() {
                    Some(typed) => self.ids_in(scope, typed, tree).await?,
                    None => BTreeSet::new(),
                };
                Condition::In {
                    field: FieldAt::clone(field),
                    values: ids.into_iter().map(Value::Uuid).collect(),
                }
            }
            Condition::And(all) => Condition::And(self.all_with_ids(scope, coverage, all).await?),
            Condition::Or(all) => Condition::Or(self.all_with_ids(scope, coverage, all).await?),
            Condition::Not(not) => Condition::Not(Box::new(
                Box::pin(self.with_ids(scope, coverage, not)).await?,
            )),
            Condition::Has {
                field,
                object,
                condition,
            } => Condition::Has {
                field: field.clone(),
                object: object.clone(),
                condition: Box::new(Box::pin(self.with_ids(scope, coverage, condition)).await?),
            },
            Condition::Any {
                object,
                field,
                condition,
            } => Condition::Any {
                object: object.clone(),
                field: field.clone(),
                condition: Box::new(Box::pin(self.with_ids(scope, coverage, condition)).await?),
            },
            other => other.clone(),
        })
    }

    async fn all_with_ids(
        &self,
        scope: &Scope,
        coverage: &Coverage,
        all: &[Condition],
    ) -> Result<Vec<Condition>, StorageError> {
        let mut with_ids = Vec::with_capacity(all.len());
        for one in all {
            with_ids.push(Box::pin(self.with_ids(scope, coverage, one)).await?);
        }
        Ok(with_ids)
    }

    /// The live records in a part of a tree.
    async fn ids_in(
        &self,
        scope: &Scope,
        typed: &TypedRows,
        tree: &Tree,
    ) -> Result<BTreeSet<Uuid>, StorageError> {
        let mut found = BTreeSet::new();
        let mut level: Vec<Uuid> = vec![tree.of];
        while !level.is_empty() {
            let mut next = HashSet::new();
            for ids in level.chunks(AT_ONCE) {
                let rows = self.get(scope, &tree.object, ids).await?;
                let live: Vec<_> = rows.iter().filter(|row| !row.is_deleted()).collect();
                found.extend(live.iter().map(|row| row.id()));
                match tree.part {
                    TreePart::PathTo => next.extend(live.iter().filter_map(|row| tree.above(row))),
                    TreePart::Within => {
                        let ids = live.iter().map(|row| row.id()).collect();
                        next.extend(self.below(scope, typed, tree, ids).await?);
                    }
                }
            }
            level = next.into_iter().filter(|id| !found.contains(id)).collect();
        }
        Ok(found)
    }

    /// The records whose reference leads to one of these.
    async fn below(
        &self,
        scope: &Scope,
        typed: &TypedRows,
        tree: &Tree,
        ids: Vec<Uuid>,
    ) -> Result<Vec<Uuid>, StorageError> {
        let object: &ObjectRef = &typed.object;
        let Some(custom) = tree.object.custom_at(tree.parent) else {
            return Ok(Vec::new());
        };
        let condition = Condition::not_deleted()
            .and(Condition::equals(typed.field, Value::Uuid(custom.id)))
            .and(Condition::In {
                field: FieldAt::new(typed.target),
                values: ids.into_iter().map(Value::Uuid).collect(),
            });
        let rows = self
            .inner()
            .select(scope, &Query::new(object, condition))
            .await?;
        let record = |row: &crm_core::schema::Row| row.value(typed.record).as_uuid();
        Ok(rows.iter().filter_map(record).collect())
    }
}

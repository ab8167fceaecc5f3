//! How a unit of work reads: what is stored, with its own changes laid over it.

use std::collections::HashMap;

use tracing::Instrument;
use uuid::Uuid;

use super::{Session, UnitOfWork};
use crate::error::Result;
use crate::query::{AggregateQuery, Condition, FieldAt, Group, Query};
use crate::schema::{ObjectRef, Row, Value};
use crate::storage::{scan, scan_aggregate};

impl Session {
    pub(super) async fn row(&self, object: &ObjectRef, id: Uuid) -> Result<Option<Row>> {
        let mut rows = self
            .engine()
            .storage()
            .get(self.scope(), object, &[id])
            .await?;
        Ok(rows.pop())
    }

    pub(super) async fn select(&self, query: &Query) -> Result<Vec<Row>> {
        let span = tracing::debug_span!("crm.select", object = query.object.name());
        let rows = self.engine().storage().select(self.scope(), query);
        Ok(rows.instrument(span).await?)
    }

    pub(super) async fn aggregate(&self, query: &AggregateQuery) -> Result<Vec<Group>> {
        let span = tracing::debug_span!("crm.aggregate", object = query.object.name());
        let groups = self.engine().storage().aggregate(self.scope(), query);
        Ok(groups.instrument(span).await?)
    }
}

impl UnitOfWork {
    /// The record with this id, deleted ones included, with the changes staged here.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn row(&self, object: &ObjectRef, id: Uuid) -> Result<Option<Row>> {
        match self.place(object, id) {
            Some(change) => Ok(change.after().cloned()),
            None => self.session.row(object, id).await,
        }
    }

    /// The records with these ids in one round trip, deleted ones included, with the changes staged
    /// here; in no particular order.
    pub(crate) async fn rows(&self, object: &ObjectRef, ids: &[Uuid]) -> Result<Vec<Row>> {
        let mut rows = Vec::with_capacity(ids.len());
        let mut stored = Vec::new();
        for id in ids {
            match self.place(object, *id) {
                Some(change) => rows.extend(change.after().cloned()),
                None => stored.push(*id),
            }
        }
        if !stored.is_empty() {
            let storage = self.session.engine().storage();
            let scope = self.session.scope();
            rows.extend(storage.get(scope, object, &stored).await?);
        }
        Ok(rows)
    }

    /// The rows that answer a query, with the changes staged here.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn select(&self, query: &Query) -> Result<Vec<Row>> {
        if query.stale {
            // What a write is decided by is never stale.
            let mut fresh = query.clone();
            fresh.stale = false;
            return Box::pin(self.select(&fresh)).await;
        }
        if self.staged.is_empty() {
            return self.session.select(query).await;
        }
        let own: Vec<Row> = self
            .staged
            .iter()
            .filter(|change| *change.object() == query.object)
            .filter_map(|change| change.after().cloned())
            .collect();
        let touched = self
            .staged
            .iter()
            .filter(|change| *change.object() == query.object)
            .count();
        let related = self.related(&query.condition, &own).await?;
        let find = |object: &ObjectRef, id: Uuid| -> Option<Row> {
            related
                .get(&(object.name().to_owned(), id))
                .cloned()
                .flatten()
        };
        let mut stored = query.clone();
        stored.condition = self.rewrite(&query.condition).await?;
        // Each staged change may take one row out of the answer.
        stored.limit = query.limit.saturating_add(touched);
        let mut rows = self.session.select(&stored).await?;
        rows.retain(|row| self.place(&query.object, row.id()).is_none());
        rows.extend(scan(query, own, &find));
        rows.sort_unstable_by(|a, b| query.order(&**a, &**b));
        rows.truncate(query.limit);
        Ok(rows)
    }

    /// The groups that answer a query, with the changes staged here.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn aggregate(&self, query: &AggregateQuery) -> Result<Vec<Group>> {
        if query.stale {
            let mut fresh = query.clone();
            fresh.stale = false;
            return Box::pin(self.aggregate(&fresh)).await;
        }
        if self.staged.is_empty() {
            return self.session.aggregate(query).await;
        }
        let rows = self
            .select(&Query::new(&query.object, query.condition.clone()))
            .await?;
        let mut all = query.clone();
        // The rows already fulfil the condition.
        all.condition = Condition::all();
        Ok(scan_aggregate(&all, rows, &|_, _| None)?)
    }

    /// The condition for stored rows, where related records may be changed here: a reference to a
    /// changed record is answered from the changes, any other by the storage.
    async fn rewrite(&self, condition: &Condition) -> Result<Condition> {
        Ok(match condition {
            Condition::Has {
                index,
                object,
                condition,
            } => {
                let inner = Box::pin(self.rewrite(condition)).await?;
                let changed: Vec<Value> = self
                    .staged
                    .iter()
                    .filter(|change| change.object() == object)
                    .map(|change| Value::Uuid(change.id()))
                    .collect();
                let has = Condition::Has {
                    index: *index,
                    object: object.clone(),
                    condition: Box::new(inner),
                };
                if changed.is_empty() {
                    return Ok(has);
                }
                let own: Vec<Row> = self
                    .staged
                    .iter()
                    .filter(|change| change.object() == object)
                    .filter_map(|change| change.after().cloned())
                    .collect();
                let related = Box::pin(self.related(condition, &own)).await?;
                let find = |object: &ObjectRef, id: Uuid| -> Option<Row> {
                    related
                        .get(&(object.name().to_owned(), id))
                        .cloned()
                        .flatten()
                };
                let fulfil = own
                    .iter()
                    .filter(|row| !row.is_deleted() && condition.matches(&***row, &find))
                    .map(|row| Value::Uuid(row.id()))
                    .collect();
                let field = FieldAt::new(*index);
                Condition::Or(vec![
                    Condition::In {
                        field: field.clone(),
                        values: fulfil,
                    },
                    Condition::And(vec![
                        Condition::Not(Box::new(Condition::In {
                            field,
                            values: changed,
                        })),
                        has,
                    ]),
                ])
            }
            Condition::And(all) => Condition::And(self.rewrite_all(all).await?),
            Condition::Or(all) => Condition::Or(self.rewrite_all(all).await?),
            Condition::Not(one) => Condition::Not(Box::new(Box::pin(self.rewrite(one)).await?)),
            other => other.clone(),
        })
    }

    async fn rewrite_all(&self, all: &[Condition]) -> Result<Vec<Condition>> {
        let mut rewritten = Vec::with_capacity(all.len());
        for condition in all {
            rewritten.push(Box::pin(self.rewrite(condition)).await?);
        }
        Ok(rewritten)
    }

    /// The records that a condition over `rows` looks at through references.
    async fn related(
        &self,
        condition: &Condition,
        rows: &[Row],
    ) -> Result<HashMap<(String, Uuid), Option<Row>>> {
        let mut found = HashMap::new();
        let mut open: Vec<(&Condition, Vec<Row>)> = vec![(condition, rows.to_vec())];
        while let Some((condition, rows)) = open.pop() {
            match condition {
                Condition::And(all) | Condition::Or(all) => {
                    open.extend(all.iter().map(|condition| (condition, rows.clone())));
                }
                Condition::Not(one) => open.push((one, rows)),
                Condition::Has {
                    index,
                    object,
                    condition,
                } => {
                    let mut next = Vec::new();
                    for row in &rows {
                        let Some(id) = row.value(*index).as_uuid() else {
                            continue;
                        };
                        let related = self.row(object, id).await?;
                        next.extend(related.clone());
                        found.insert((object.name().to_owned(), id), related);
                    }
                    open.push((condition, next));
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

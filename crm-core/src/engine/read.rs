//! How a unit of work reads: what is stored, with its own changes laid over it.

use std::collections::{HashMap, HashSet};

use tracing::Instrument;
use uuid::Uuid;

use super::{Session, UnitOfWork};
use crate::error::Result;
use crate::query::{
    AggregateQuery, Aggregator, Condition, FieldAt, Group, Grouping, Measure, NoRelated, Query,
    Related, Tree, TreePart,
};
use crate::schema::{ObjectRef, Row, Value, system};
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
    /// The record with this id, deleted ones included, with the changes staged here. For what the
    /// engine and its hooks decide by: reads of it are not told ([`ReadHook`](super::ReadHook)); what is
    /// handed to people is read by [`records`](Self::records).
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn row(&self, object: &ObjectRef, id: Uuid) -> Result<Option<Row>> {
        match self.place(object, id) {
            Some(change) => Ok(change.after().cloned()),
            None => match self.relied_on(object, id) {
                Some(row) => Ok(Some(row.clone())),
                None => self.session.row(object, id).await,
            },
        }
    }

    /// The records with these ids in the same order, deleted ones included and unknown ones left
    /// out, with the changes staged here. What is not staged is read at once. Not told either.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn rows(&self, object: &ObjectRef, ids: &[Uuid]) -> Result<Vec<Row>> {
        let is_staged = |id: &&Uuid| self.place(object, **id).is_some();
        let wanted: Vec<Uuid> = ids.iter().filter(|id| !is_staged(id)).copied().collect();
        let mut stored: HashMap<Uuid, Row> = HashMap::new();
        if !wanted.is_empty() {
            let storage = self.session.engine().storage();
            let rows = storage.get(self.session.scope(), object, &wanted).await?;
            stored.extend(rows.into_iter().map(|row| (row.id(), row)));
        }
        let find = |id: &Uuid| match self.place(object, *id) {
            Some(change) => change.after().cloned(),
            None => stored.get(id).cloned(),
        };
        Ok(ids.iter().filter_map(find).collect())
    }

    /// The rows that answer a query, with the changes staged here. Not told either, see
    /// [`row`](Self::row).
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
        let mut stored = query.clone();
        stored.condition = self.rewrite(&query.condition).await?;
        // Each staged change may take one row out of the answer.
        stored.limit = query.limit.saturating_add(touched);
        let mut rows = self.session.select(&stored).await?;
        rows.retain(|row| self.place(&query.object, row.id()).is_none());
        rows.extend(scan(query, own, &related));
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
        let changed = self.staged.iter();
        let changed = changed.filter(|change| *change.object() == query.object);
        let ids: Vec<Value> = changed
            .clone()
            .map(|change| Value::Uuid(change.id()))
            .collect();
        if ids.is_empty() || query.measures.iter().all(|one| *one == Measure::Count) {
            // The storage counts what is not changed here, however much that is.
            let mut stored = query.clone();
            stored.condition = self.rewrite(&query.condition).await?;
            if ids.is_empty() {
                return self.session.aggregate(&stored).await;
            }
            let field = FieldAt::new(system::ID);
            let unchanged = Condition::Not(Box::new(Condition::In { field, values: ids }));
            stored.condition = stored.condition.and(unchanged);
            let own: Vec<Row> = changed
                .filter_map(|change| change.after().cloned())
                .collect();
            let related = self.related(&query.condition, &own).await?;
            let mut all = Aggregator::new(query);
            for group in self.session.aggregate(&stored).await? {
                all.add_counted(group);
            }
            let fulfils = |row: &&Row| query.condition.matches(&***row, &related);
            for row in own.iter().filter(fulfils) {
                all.add(&**row);
            }
            return Ok(all.finish()?);
        }
        let rows = self
            .select(&Query::new(&query.object, query.condition.clone()))
            .await?;
        let mut all = query.clone();
        // The rows already fulfil the condition.
        all.condition = Condition::all();
        Ok(scan_aggregate(&all, rows, &NoRelated)?)
    }

    /// The condition for stored rows, where related records may be changed here: a reference to a
    /// changed record, or a changed record that leads here, is answered from the changes, any other
    /// by the storage.
    async fn rewrite(&self, condition: &Condition) -> Result<Condition> {
        Ok(match condition {
            Condition::Has {
                field,
                object,
                condition,
            } => {
                let inner = Box::pin(self.rewrite(condition)).await?;
                let changed = self.changed_ids(object);
                let has = Condition::Has {
                    field: field.clone(),
                    object: object.clone(),
                    condition: Box::new(inner),
                };
                if changed.is_empty() {
                    return Ok(has);
                }
                let fulfil = self.changed_that_fulfil(object, condition).await?;
                let fulfil = fulfil.iter().map(|row| Value::Uuid(row.id())).collect();
                Condition::Or(vec![
                    Condition::In {
                        field: field.clone(),
                        values: fulfil,
                    },
                    Condition::And(vec![
                        Condition::Not(Box::new(Condition::In {
                            field: field.clone(),
                            values: changed,
                        })),
                        has,
                    ]),
                ])
            }
            Condition::Any {
                object,
                field,
                condition,
            } => {
                let inner = Box::pin(self.rewrite(condition)).await?;
                let any = |condition| Condition::Any {
                    object: object.clone(),
                    field: field.clone(),
                    condition: Box::new(condition),
                };
                let changed = self.changed_ids(object);
                if changed.is_empty() {
                    return Ok(any(inner));
                }
                let fulfil = self.changed_that_fulfil(object, condition).await?;
                let led_to = fulfil.iter().filter_map(|row| field.id(&**row));
                let id = || FieldAt::new(system::ID);
                let unchanged = Condition::Not(Box::new(Condition::In {
                    field: id(),
                    values: changed,
                }));
                Condition::Or(vec![
                    Condition::In {
                        field: id(),
                        values: led_to.map(Value::Uuid).collect(),
                    },
                    any(unchanged.and(inner)),
                ])
            }
            Condition::InTree { field, tree } if self.stages(&tree.object) => Condition::In {
                field: field.clone(),
                values: Box::pin(self.tree_ids(tree)).await?,
            },
            Condition::And(all) => Condition::And(self.rewrite_all(all).await?),
            Condition::Or(all) => Condition::Or(self.rewrite_all(all).await?),
            Condition::Not(one) => Condition::Not(Box::new(Box::pin(self.rewrite(one)).await?)),
            other => other.clone(),
        })
    }

    /// The ids of the records of the object that are changed here.
    fn changed_ids(&self, object: &ObjectRef) -> Vec<Value> {
        let changed = self.staged.iter();
        let changed = changed.filter(|change| change.object() == object);
        changed.map(|change| Value::Uuid(change.id())).collect()
    }

    /// The live records of the object that are changed here and fulfil a condition.
    async fn changed_that_fulfil(
        &self,
        object: &ObjectRef,
        condition: &Condition,
    ) -> Result<Vec<Row>> {
        let changed = self.staged.iter();
        let changed = changed.filter(|change| change.object() == object);
        let mut rows: Vec<Row> = changed
            .filter_map(|change| change.after().cloned())
            .filter(|row| !row.is_deleted())
            .collect();
        let related = Box::pin(self.related(condition, &rows)).await?;
        rows.retain(|row| condition.matches(&**row, &related));
        Ok(rows)
    }

    /// The live records from one up to the top of its tree, by id, with the changes staged here.
    pub(crate) async fn path_rows(&self, path: &Tree) -> Result<HashMap<Uuid, Row>> {
        if !self.stages(&path.object) {
            let condition = Condition::InTree {
                field: FieldAt::new(system::ID),
                tree: path.clone(),
            };
            let rows = self.select(&Query::new(&path.object, condition)).await?;
            return Ok(rows.into_iter().map(|row| (row.id(), row)).collect());
        }
        let mut found = HashMap::new();
        self.ascend(path, vec![path.of], &mut found).await?;
        let live = |row: &Row| !row.is_deleted();
        let found = found.into_iter();
        Ok(found
            .filter_map(|((_, id), row)| Some((id, row.filter(live)?)))
            .collect())
    }

    /// Whether records of the object are changed here.
    fn stages(&self, object: &ObjectRef) -> bool {
        self.staged.iter().any(|change| change.object() == object)
    }

    /// The records of a part of a tree, with the changes staged here: level by level.
    async fn tree_ids(&self, tree: &Tree) -> Result<Vec<Value>> {
        let mut found = HashSet::new();
        if tree.part == TreePart::PathTo {
            found.extend(self.path_rows(tree).await?.into_keys());
        } else {
            let mut level = Condition::equals(system::ID, Value::Uuid(tree.of));
            loop {
                let live = Condition::not_deleted().and(level);
                let rows = self.select(&Query::new(&tree.object, live)).await?;
                let new = rows.iter().map(|row| row.id());
                let new: Vec<Value> = new
                    .filter(|id| found.insert(*id))
                    .map(Value::Uuid)
                    .collect();
                if new.is_empty() {
                    break;
                }
                let Some(field) = FieldAt::at_place(&tree.object, tree.parent) else {
                    break;
                };
                level = Condition::In { field, values: new };
            }
        }
        Ok(found.into_iter().map(Value::Uuid).collect())
    }

    /// Adds the records with these ids and all above them to `found`, one round trip a level.
    async fn ascend(
        &self,
        tree: &Tree,
        ids: Vec<Uuid>,
        found: &mut HashMap<(String, Uuid), Option<Row>>,
    ) -> Result<()> {
        let key = |id: Uuid| (tree.object.name().to_owned(), id);
        let mut seen = HashSet::new();
        let mut level = ids;
        loop {
            level.retain(|id| seen.insert(*id));
            let (mut staged, mut stored) = (Vec::new(), Vec::new());
            for id in level.iter().filter(|id| !found.contains_key(&key(**id))) {
                match self.place(&tree.object, *id) {
                    Some(change) => {
                        staged.push((key(*id), change.after().cloned()));
                    }
                    None => stored.push(*id),
                }
            }
            found.extend(staged);
            if !stored.is_empty() {
                let storage = self.session.engine().storage();
                let rows = storage
                    .get(self.session.scope(), &tree.object, &stored)
                    .await?;
                found.extend(stored.iter().map(|id| (key(*id), None)));
                found.extend(rows.into_iter().map(|row| (key(row.id()), Some(row))));
            }
            let above = |id: &Uuid| -> Option<Uuid> {
                let row = found.get(&key(*id))?.as_ref()?;
                let is_live = !row.is_deleted();
                tree.above(row).filter(|_| is_live)
            };
            level = level.iter().filter_map(above).collect();
            if level.is_empty() {
                return Ok(());
            }
        }
    }

    async fn rewrite_all(&self, all: &[Condition]) -> Result<Vec<Condition>> {
        let mut rewritten = Vec::with_capacity(all.len());
        for condition in all {
            rewritten.push(Box::pin(self.rewrite(condition)).await?);
        }
        Ok(rewritten)
    }

    /// Of the records with these ids, those to which a live record of `object` that fulfils
    /// `condition` leads by `field`, with the changes staged here.
    async fn led_to(
        &self,
        object: &ObjectRef,
        field: &FieldAt,
        ids: Vec<Value>,
        condition: &Condition,
    ) -> Result<HashSet<Uuid>> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let leads_there = Condition::In {
            field: field.clone(),
            values: ids,
        };
        let condition = Condition::not_deleted()
            .and(leads_there)
            .and(condition.clone());
        if field.member.is_none() {
            // One group for each of the ids, however many records lead there.
            let mut query = AggregateQuery::count(object, condition);
            query.groups = vec![Grouping::Field(field.index)];
            let groups = Box::pin(self.aggregate(&query)).await?;
            return Ok(groups
                .iter()
                .filter_map(|one| one.key(0).as_uuid())
                .collect());
        }
        let rows = Box::pin(self.select(&Query::new(object, condition))).await?;
        Ok(rows.iter().filter_map(|row| field.id(&**row)).collect())
    }

    /// What a condition over `rows` asks about other records, with the changes staged here.
    async fn related<'c>(&self, condition: &'c Condition, rows: &[Row]) -> Result<Around<'c>> {
        let mut found = HashMap::new();
        let mut led_to = Vec::new();
        let mut open: Vec<(&Condition, Vec<Row>)> = vec![(condition, rows.to_vec())];
        while let Some((condition, rows)) = open.pop() {
            match condition {
                Condition::And(all) | Condition::Or(all) => {
                    open.extend(all.iter().map(|condition| (condition, rows.clone())));
                }
                Condition::Not(one) => open.push((one, rows)),
                Condition::Has {
                    field,
                    object,
                    condition,
                } => {
                    let mut next = Vec::new();
                    for row in &rows {
                        let Some(id) = field.id(&**row) else {
                            continue;
                        };
                        let related = self.row(object, id).await?;
                        next.extend(related.clone());
                        found.insert((object.name().to_owned(), id), related);
                    }
                    open.push((condition, next));
                }
                Condition::Any {
                    object,
                    field,
                    condition,
                } => {
                    let ids = rows.iter().map(|row| Value::Uuid(row.id())).collect();
                    let ids = self.led_to(object, field, ids, condition).await?;
                    led_to.push((&**condition, ids));
                }
                Condition::InTree { field, tree } => {
                    let from = match tree.part {
                        TreePart::Within => {
                            rows.iter().filter_map(|row| field.id(&**row)).collect()
                        }
                        TreePart::PathTo => vec![tree.of],
                    };
                    self.ascend(tree, from, &mut found).await?;
                }
                _ => {}
            }
        }
        Ok(Around {
            rows: found,
            led_to,
        })
    }
}

/// What is around some records, as far as one condition asks.
struct Around<'c> {
    /// The records that references lead to.
    rows: HashMap<(String, Uuid), Option<Row>>,
    /// For each condition over records that lead to one, the ids of those to which one leads.
    led_to: Vec<(&'c Condition, HashSet<Uuid>)>,
}

impl Related for Around<'_> {
    fn get(&self, object: &ObjectRef, id: Uuid) -> Option<Row> {
        let row = self.rows.get(&(object.name().to_owned(), id));
        row.cloned().flatten()
    }

    fn any(&self, _: &ObjectRef, _: &FieldAt, id: Uuid, condition: &Condition) -> bool {
        let mut led_to = self.led_to.iter();
        // A part of the condition that was looked at, not one that is like it.
        led_to.any(|(own, ids)| std::ptr::eq(*own, condition) && ids.contains(&id))
    }
}

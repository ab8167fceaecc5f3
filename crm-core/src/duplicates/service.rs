//! [`Duplicates`]: the way to checks, scans and the building of keys.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::check::{DuplicateCheck, DuplicateMatch, Seen, Staged, Wanted, examine};
use super::entity::{ActiveRule, ActiveRules, DuplicateKey, DuplicateRule, KeyState, digests};
use super::keys::{self, PAGE, Upkeep, live_rows, stored};
use crate::Id;
use crate::engine::workspace::Settle;
use crate::engine::{Progress, Session, UnitOfWork, Workspace, in_work};
use crate::error::{Error, Result};
use crate::query::{AggregateQuery, Condition, Query};
use crate::record::Record;
use crate::schema::{Access, Dynamic, Entity, Meta, ObjectRef, Row, Value};

/// How many records have their keys built in one commit.
const BATCH: usize = 1_000;

/// Finds duplicates by the tenant's [`DuplicateRule`]s.
///
/// ```
/// use crm_core::duplicates::DuplicateRule;
/// # use crm_core::{Session, error::Result, contacts::Contact};
/// # async fn example(session: &Session) -> Result<()> {
/// let rule = session.duplicate_rules().create(DuplicateRule::contacts()).await?;
/// session.duplicates().rebuild_keys(rule.id, None, &()).await?;
///
/// let check = session.duplicates().check(&Contact::named("Ada", "Lovelace")).await?;
/// for found in &check.matches {
///     println!("{}: {}", found.record.id, found.explanation);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Duplicates<'a> {
    pub(super) session: &'a Session,
}

/// What a building of keys did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// How many records were looked at.
    pub records: u64,
    /// How many keys were written or removed.
    pub keys: u64,
    /// Where to go on, if it was stopped before the end.
    pub next: Option<Uuid>,
}

impl<'a> Duplicates<'a> {
    pub(crate) const fn new(session: &'a Session) -> Self {
        Self { session }
    }

    /// The rules of an object, strict ones first.
    pub(super) async fn rules(&self) -> Result<Arc<ActiveRules>> {
        self.session.begin().remembered::<ActiveRules>().await
    }

    /// The records that a record which is not stored yet is like.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn check<E: Entity>(&self, entity: &E) -> Result<DuplicateCheck> {
        let mut data = entity.clone();
        data.normalize();
        let row: Row = Arc::new(Record::new(self.nowhere(), data));
        self.check_row(&row).await
    }

    /// The records that a record of any object is like, from one flat JSON object as a form has it
    /// while it is filled in: fields may be missing.
    ///
    /// # Errors
    /// [`QueryError::UnknownObject`](crate::query::QueryError::UnknownObject); every unknown,
    /// read-only or faulty field at once.
    pub async fn check_json(
        &self,
        object: &str,
        json: &Map<String, Json>,
    ) -> Result<DuplicateCheck> {
        let object = self.session.describe(object).await?;
        let (values, faults) = object.overlay(object.defaults(), json, Access::User);
        faults.into_result()?;
        let row: Row = Arc::new(Dynamic::new(object, self.nowhere(), values));
        self.check_row(&row).await
    }

    /// The records that a stored record is like.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`QueryError::UnknownObject`](crate::query::QueryError::UnknownObject).
    pub async fn of(&self, object: &str, id: Uuid) -> Result<DuplicateCheck> {
        let row = self.session.object(object).await?.get(id).await?;
        self.check_row(&row).await
    }

    /// The records that each of several rows is like, such as the rows of an import: one lookup of
    /// keys and one of records for all rows of one object. A row that is stored, by its id, is not
    /// compared with itself; rows are not compared with each other.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn check_rows(&self, rows: &[Row]) -> Result<Vec<Vec<DuplicateMatch>>> {
        let checks = self.examine(rows).await?;
        Ok(checks.into_iter().map(|check| check.matches).collect())
    }

    /// Like [`check_rows`](Self::check_rows), with what could not be looked at.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn examine(&self, rows: &[Row]) -> Result<Vec<DuplicateCheck>> {
        let mut checks = vec![DuplicateCheck::default(); rows.len()];
        let rules = self.rules().await?;
        if rules.is_empty() {
            return Ok(checks);
        }
        let mut done: HashSet<&str> = HashSet::new();
        for row in rows {
            let object = row.object();
            if !done.insert(object.name()) {
                continue;
            }
            let rules = rules.of(object.name());
            let (mut places, mut wanted) = (Vec::new(), Vec::new());
            for (place, row) in rows.iter().enumerate() {
                if row.object() == object {
                    places.push(place);
                    let seen = rules.iter().map(|rule| Some(Seen::new(rule, &**row)));
                    wanted.push(Wanted {
                        id: row.id(),
                        seen: seen.collect(),
                    });
                }
            }
            let wanted: Vec<&Wanted> = wanted.iter().collect();
            let nothing = Staged::default();
            let found = examine(self.session, object, &rules, &wanted, &nothing).await?;
            for (place, check) in places.into_iter().zip(found) {
                if let Some(slot) = checks.get_mut(place) {
                    *slot = check;
                }
            }
        }
        Ok(checks)
    }

    async fn check_row(&self, row: &Row) -> Result<DuplicateCheck> {
        let mut checks = self.examine(std::slice::from_ref(row)).await?;
        Ok(checks.pop().unwrap_or_default())
    }

    /// What the system would keep of a record that is not stored.
    fn nowhere(&self) -> Meta {
        let stamp = crate::Stamp {
            at: self.session.engine().clock().now(),
            by: self.session.actor(),
        };
        Meta::first(Uuid::nil(), stamp)
    }

    /// Gives every record the keys of a rule, in commits of a thousand records, and then calls
    /// the rule ready. For a rule that is not applied, that names a field which is gone, or that is gone
    /// itself, its keys are removed. A rule over a custom field that was changed, deleted or restored
    /// says by its state that it needs this.
    ///
    /// It can be stopped, gone on with from `after` ([`Rebuilt::next`]), and run again at any time:
    /// what is right stays as it is. Records that others change meanwhile get their keys from those
    /// changes. Another process of the host learns of a new rule within five seconds; where several
    /// processes write, run it again after that time to reach the records they wrote until then.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the rule is changed meanwhile: run it again.
    pub async fn rebuild_keys(
        &self,
        rule: Id<DuplicateRule>,
        after: Option<Uuid>,
        progress: &dyn Progress,
    ) -> Result<Rebuilt> {
        self.build(rule, after, progress, true).await
    }

    /// Like [`rebuild_keys`](Self::rebuild_keys), for rows that were written past the engine, as by
    /// the import of a tenant: the rule itself stays as it is, also one that is not ready yet.
    ///
    /// # Errors
    /// Those of [`rebuild_keys`](Self::rebuild_keys).
    pub async fn restore_keys(
        &self,
        rule: Id<DuplicateRule>,
        progress: &dyn Progress,
    ) -> Result<Rebuilt> {
        self.build(rule, None, progress, false).await
    }

    async fn build(
        &self,
        rule: Id<DuplicateRule>,
        after: Option<Uuid>,
        progress: &dyn Progress,
        makes_ready: bool,
    ) -> Result<Rebuilt> {
        let record = match self.session.records::<DuplicateRule>().get(rule).await {
            Ok(record) if record.is_in_use() => record,
            Ok(_) | Err(Error::NotFound { .. }) => return self.drop_keys(rule, progress).await,
            Err(error) => return Err(error),
        };
        let registry = self.session.registry().await?;
        if ActiveRule::new(&registry, record.clone(), None).is_none() {
            // A field that it names is gone: it is not applied.
            return self.drop_keys(rule, progress).await;
        }
        let object = self.session.describe(&record.object).await?;
        let query = AggregateQuery::count(&object, Condition::all());
        let groups = Workspace::Session(self.session).aggregate(&query).await?;
        let total = groups.first().map(|group| group.count(0));
        let mut rebuilt = Rebuilt::default();
        let mut after = after;
        let mut workspace = Workspace::Session(self.session);
        loop {
            let version = record.version;
            let batch: Result<Batch> = in_work!(workspace, |work| {
                rebuild_batch(work, rule, version, &object, after).await
            });
            let Batch::Built {
                records,
                keys,
                last,
            } = batch?
            else {
                return Err(Error::Conflict {
                    object: DuplicateRule::schema().name().to_owned(),
                    id: rule.uuid(),
                });
            };
            rebuilt.records += records as u64;
            rebuilt.keys += keys as u64;
            after = last.or(after);
            if records < BATCH {
                break;
            }
            if progress.report(rebuilt.records, total).is_break() {
                rebuilt.next = after;
                return Ok(rebuilt);
            }
        }
        if makes_ready && record.state != KeyState::Ready {
            let marked: Result<()> = in_work!(workspace, |work| {
                let now = work.get(rule).await?;
                if now.version == record.version {
                    work.update(rule, &|rule: &mut DuplicateRule| {
                        rule.state = KeyState::Ready;
                    })
                    .await?;
                }
                Ok(())
            });
            marked?;
        }
        // Told at the end whatever the answer: there is nothing left to stop.
        let _ = progress.report(rebuilt.records, total);
        Ok(rebuilt)
    }

    /// Removes all keys of a rule.
    async fn drop_keys(&self, rule: Id<DuplicateRule>, progress: &dyn Progress) -> Result<Rebuilt> {
        let mut rebuilt = Rebuilt::default();
        let total = keys::count(self.session, rule.uuid()).await?;
        let mut workspace = Workspace::Session(self.session);
        loop {
            let removed: Result<usize> = in_work!(workspace, |work| {
                let rows = keys::page(work.session(), rule.uuid(), None, None).await?;
                let count = rows.len();
                for row in rows {
                    let row: Row = row;
                    work.remove(&row);
                }
                Ok(count)
            });
            let removed = removed?;
            rebuilt.keys += removed as u64;
            let stop = progress.report(rebuilt.keys, Some(total)).is_break();
            if removed < PAGE || stop {
                return Ok(rebuilt);
            }
        }
    }
}

/// What became of a batch of records.
enum Batch {
    Built {
        records: usize,
        keys: usize,
        last: Option<Uuid>,
    },
    /// The rule is another one now.
    RuleChanged,
}

impl Settle for Batch {}

async fn rebuild_batch(
    work: &mut UnitOfWork,
    rule: Id<DuplicateRule>,
    version: i64,
    object: &ObjectRef,
    after: Option<Uuid>,
) -> Result<Batch> {
    let record = work.get(rule).await?;
    if record.version != version {
        return Ok(Batch::RuleChanged);
    }
    let digests = digests(work.session()).await?;
    let Some(rule) = ActiveRule::new(&*work.registry().await?, record, digests) else {
        return Ok(Batch::RuleChanged);
    };
    let mut query = Query::new(object, Condition::all()).limit(BATCH);
    query.after = after.map(|id| vec![Value::Uuid(id)]);
    let rows = work.select(&query).await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id()).collect();
    let stored = stored(work.session(), &ids).await?;
    let mut upkeep = Upkeep::default();
    let mut relied = Vec::new();
    for row in &rows {
        let keys = if row.is_deleted() {
            Vec::new()
        } else {
            Seen::new(&rule, &**row).keys
        };
        let known = stored.get(&(rule.id().uuid(), row.id()));
        if upkeep.note(&rule, row.id(), &keys, known) {
            relied.push(row.clone());
        }
    }
    let written = upkeep.len();
    let alone = live_rows(work.session(), DuplicateKey::schema(), upkeep.alone()).await?;
    let taken: HashSet<Uuid> = alone.into_keys().collect();
    if written > 0 {
        // The keys are those of the records and the rule as they were read.
        work.rely_on(&*rule.record);
        for row in &relied {
            work.rely_on(&**row);
        }
        upkeep.stage(work, &taken)?;
    }
    Ok(Batch::Built {
        records: rows.len(),
        keys: written,
        last: ids.last().copied(),
    })
}

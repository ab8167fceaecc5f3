//! [`Records`]: what can be done with the records of any object.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value as Json};

use super::work::not_found;
use super::workspace::{Workspace, in_work};
use super::{Purpose, UnitOfWork};
use crate::Id;
use crate::error::{Error, Result};
use crate::query::{
    Aggregate, AggregateQuery, Condition, Find, Group, Page, Query, Where, page_of,
};
use crate::record::Record;
use crate::schema::{Access, Entity, Meta, ObjectRef, Row};

/// The records of one object, in a session or a unit of work.
///
/// What only one object can do, such as moving a deal to a stage, is told at that object's module.
///
/// ```
/// # use crm_core::{Session, error::Result, contacts::Contact, query::Find};
/// # async fn example(session: &Session) -> Result<()> {
/// let ada = session.contacts().create(Contact::named("Ada", "Lovelace")).await?;
/// let ada = session
///     .contacts()
///     .update(ada.id, |contact| contact.job_title = Some("Analyst".into()))
///     .await?;
/// assert_eq!(ada.version, 2);
///
/// let analysts = session.contacts().find(Contact::JOB_TITLE.eq("Analyst")).await?;
/// assert_eq!(analysts.items[0].id, ada.id);
///
/// session.contacts().delete(ada.id).await?;
/// session.contacts().restore(ada.id).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Records<'a, E> {
    pub(crate) workspace: Workspace<'a>,
    marker: PhantomData<fn() -> E>,
}

impl<'a, E: Entity> Records<'a, E> {
    pub(crate) const fn new(workspace: Workspace<'a>) -> Self {
        Self {
            workspace,
            marker: PhantomData,
        }
    }

    /// Creates a record.
    ///
    /// # Errors
    /// [`Error::Validation`] with every faulty field, [`Error::Duplicate`], rules of the object.
    pub async fn create(&mut self, entity: E) -> Result<Arc<Record<E>>> {
        in_work!(self.workspace, |work| {
            let meta = work.new_meta();
            work.write(Access::User, None, meta, entity.clone()).await
        })
    }

    /// Creates many records in one commit: all, or none.
    ///
    /// # Errors
    /// Like [`create`](Self::create), for the first record at fault.
    pub async fn create_all(&mut self, entities: Vec<E>) -> Result<Vec<Arc<Record<E>>>> {
        in_work!(self.workspace, |work| {
            let mut records = Vec::with_capacity(entities.len());
            for entity in &entities {
                let meta = work.new_meta();
                records.push(work.write(Access::User, None, meta, entity.clone()).await?);
            }
            Ok(records)
        })
    }

    /// Creates a record from one flat JSON object, as a web API receives it.
    ///
    /// # Errors
    /// Unknown and read-only fields, and everything that [`create`](Self::create) refuses, at once.
    pub async fn create_json(&mut self, json: &Map<String, Json>) -> Result<Arc<Record<E>>> {
        in_work!(self.workspace, |work| {
            let row = work.create_json(E::schema(), json).await?;
            typed(row)
        })
    }

    /// The record with this id, archived ones included.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none in the tenant, or it is deleted.
    pub async fn get(&self, id: Id<E>) -> Result<Arc<Record<E>>> {
        let row = self.workspace.row(E::schema(), id.uuid()).await?;
        // The typed record says without a detour whether it is deleted.
        match row.map(typed).transpose()? {
            Some(record) if record.deleted_at.is_none() => {
                let read = std::slice::from_ref(&record);
                self.workspace.hand_out(read).await?;
                Ok(record)
            }
            _ => Err(not_found(E::schema(), id.uuid())),
        }
    }

    /// The records with these ids, in the same order; unknown and deleted ones are left out.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn get_all(&self, ids: &[Id<E>]) -> Result<Vec<Arc<Record<E>>>> {
        let ids: Vec<_> = ids.iter().map(|id| id.uuid()).collect();
        let rows = match &self.workspace {
            Workspace::Session(session) => {
                session
                    .engine()
                    .storage()
                    .get(session.scope(), E::schema(), &ids)
                    .await?
            }
            Workspace::Unit(work) => work.rows(E::schema(), &ids).await?,
        };
        let live = rows.into_iter().filter(|row| !row.is_deleted());
        let records = live.map(typed).collect::<Result<Vec<_>>>()?;
        self.workspace.hand_out(&records).await?;
        Ok(records)
    }

    /// One page of the records that fulfil a filter, in an order; see [`Find`].
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn find(&self, find: impl Into<Find<E>>) -> Result<Page<Arc<Record<E>>>> {
        self.workspace.find(find.into()).await
    }

    /// The first record that fulfils a filter.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn find_one(&self, find: impl Into<Find<E>>) -> Result<Option<Arc<Record<E>>>> {
        Ok(self.find(find.into().limit(1)).await?.items.pop())
    }

    /// How many records fulfil a filter, whatever the page.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn count(&self, find: impl Into<Find<E>>) -> Result<u64> {
        let session = self.workspace.session();
        let bound = find.into().bind(E::schema(), &*session.registry().await?)?;
        let mut query = AggregateQuery::count(E::schema(), bound.query.condition);
        query.stale = bound.query.stale;
        let groups = self.workspace.aggregate(&query).await?;
        Ok(groups.first().map_or(0, |group| group.count(0)))
    }

    /// Counts, sums and the like over groups of records; see [`Aggregate`].
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn aggregate(&self, aggregate: Aggregate<E>) -> Result<Vec<Group>> {
        let session = self.workspace.session();
        let query = aggregate.bind(E::schema(), &*session.registry().await?)?;
        self.workspace.aggregate(&query).await
    }

    /// Changes a record. The change may run several times, if others change the record meanwhile.
    ///
    /// Whatever the change sets is checked like a new record; a change that changes nothing writes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`], and what [`create`](Self::create) says.
    pub async fn update(
        &mut self,
        id: Id<E>,
        change: impl Fn(&mut E) + Send + Sync,
    ) -> Result<Arc<Record<E>>> {
        in_work!(self.workspace, |work| {
            work.change(Access::User, id, None, &change).await
        })
    }

    /// Changes a record that was read before, unless somebody else changed it since (R-084).
    ///
    /// # Errors
    /// [`Error::Conflict`], and what [`update`](Self::update) says.
    pub async fn update_version(
        &mut self,
        id: Id<E>,
        version: i64,
        change: impl Fn(&mut E) + Send + Sync,
    ) -> Result<Arc<Record<E>>> {
        in_work!(self.workspace, |work| {
            work.change(Access::User, id, Some(version), &change).await
        })
    }

    /// Changes a record as it was read before, unless somebody else changed it since (R-084). It is
    /// not read again, so over a database the change is one round trip.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, contacts::Contact};
    /// # async fn example(session: &Session, id: Id<Contact>) -> Result<()> {
    /// let contact = session.contacts().get(id).await?;
    /// session
    ///     .contacts()
    ///     .update_record(&contact, |contact| contact.job_title = Some("Countess".into()))
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Conflict`], and what [`update`](Self::update) says.
    pub async fn update_record(
        &mut self,
        record: &Arc<Record<E>>,
        change: impl Fn(&mut E) + Send + Sync,
    ) -> Result<Arc<Record<E>>> {
        // After a conflict the stored record tells whether it is still the one that was read.
        let first = AtomicBool::new(true);
        in_work!(self.workspace, |work| {
            if first.swap(false, Ordering::Relaxed) {
                work.change_record(Purpose::Usual, Access::User, record.clone(), &change)
                    .await
            } else {
                work.change(Access::User, record.id, Some(record.version), &change)
                    .await
            }
        })
    }

    /// Lays a JSON merge patch (RFC 7396) over a record, as a web API receives it: members are
    /// fields by name, `null` empties one.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, contacts::Contact};
    /// # async fn example(session: &Session, id: Id<Contact>, version: i64) -> Result<()> {
    /// let patch = serde_json::json!({"job_title": "Countess", "phone": null});
    /// session.contacts().merge(id, version, patch.as_object().unwrap()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Conflict`] if the record is not at `version`; unknown and read-only fields and
    /// everything that [`update`](Self::update) refuses, at once.
    pub async fn merge(
        &mut self,
        id: Id<E>,
        version: i64,
        patch: &Map<String, Json>,
    ) -> Result<Arc<Record<E>>> {
        in_work!(self.workspace, |work| {
            let row = work.merge(E::schema(), id.uuid(), version, patch).await?;
            typed(row)
        })
    }

    /// Puts a record out of the way: it stays readable, but is no longer found unless asked for.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn archive(&mut self, id: Id<E>) -> Result<Arc<Record<E>>> {
        in_work!(self.workspace, |work| {
            let now = work.now();
            let keep = |meta: Meta| Meta {
                archived_at: meta.archived_at.or(Some(now)),
                ..meta
            };
            typed(work.set_meta(E::schema(), id.uuid(), &keep).await?)
        })
    }

    /// Brings an archived record back.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn unarchive(&mut self, id: Id<E>) -> Result<Arc<Record<E>>> {
        in_work!(self.workspace, |work| {
            let clear = |meta: Meta| Meta {
                archived_at: None,
                ..meta
            };
            typed(work.set_meta(E::schema(), id.uuid(), &clear).await?)
        })
    }

    /// Deletes a record so that it can be restored. What that does to records that refer to it
    /// is said by their references: they refuse it, lose the reference, or are deleted too.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Reference`].
    pub async fn delete(&mut self, id: Id<E>) -> Result<()> {
        in_work!(self.workspace, |work| {
            work.delete(E::schema(), id.uuid()).await
        })
    }

    /// Brings a deleted record back, together with the records that were deleted with it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none; [`Error::Duplicate`] if another record has taken its
    /// place in a unique key; [`Error::Validation`] if it refers to a record that is gone.
    pub async fn restore(&mut self, id: Id<E>) -> Result<Arc<Record<E>>> {
        in_work!(self.workspace, |work| {
            typed(work.restore(E::schema(), id.uuid()).await?)
        })
    }

    /// Removes a deleted record for good; only the audit trail still knows it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Rule`] if it was not deleted before; [`Error::Reference`].
    pub async fn purge(&mut self, id: Id<E>) -> Result<()> {
        in_work!(self.workspace, |work| {
            work.purge(E::schema(), id.uuid()).await
        })
    }
}

/// A row as a typed record.
fn typed<E: Entity>(row: Row) -> Result<Arc<Record<E>>> {
    // A typed row, which nearly every row is, is not asked for its id.
    let other = (!(&*row as &dyn Any).is::<Record<E>>()).then(|| row.id());
    Record::from_row(row).ok_or_else(|| {
        // A backend gave a row of another object: its fault, not the caller's.
        Error::Storage(crate::storage::StorageError::Corrupt {
            object: E::schema().name().to_owned(),
            fields: other.iter().map(|id| format!("id {id}")).collect(),
        })
    })
}

impl Workspace<'_> {
    /// One page of typed records of any object, for whoever asked: that they are read is told, where
    /// the tenant wants that.
    pub(crate) async fn find<E: Entity>(&self, find: Find<E>) -> Result<Page<Arc<Record<E>>>> {
        let bound = find.bind(E::schema(), &*self.registry().await?)?;
        let page = page_of(&bound, self.select(&bound.query).await?);
        let items: Vec<_> = page.items.into_iter().map(typed).collect::<Result<_>>()?;
        self.hand_out(&items).await?;
        Ok(Page {
            items,
            next: page.next,
            previous: page.previous,
        })
    }

    /// All typed records of any object that fulfil a filter, archived ones too, by id, for whoever
    /// asked: that they are read is told, where the tenant wants that.
    pub(crate) async fn find_all<E: Entity>(
        &self,
        filter: Where<E>,
    ) -> Result<Vec<Arc<Record<E>>>> {
        let registry = &*self.registry().await?;
        let wanted = Condition::bind(&filter.into_filter(), E::schema(), registry)?;
        let condition = Condition::not_deleted().and(wanted);
        let rows = self.select(&Query::new(E::schema(), condition)).await?;
        let records: Vec<_> = rows.into_iter().map(typed).collect::<Result<_>>()?;
        self.hand_out(&records).await?;
        Ok(records)
    }
}

impl UnitOfWork {
    /// Changes a typed record for the engine.
    pub(crate) async fn update<E: Entity>(
        &mut self,
        id: Id<E>,
        change: &(impl Fn(&mut E) + Sync + ?Sized),
    ) -> Result<Arc<Record<E>>> {
        self.change(Access::Engine, id, None, change).await
    }

    async fn change<E: Entity>(
        &mut self,
        access: Access,
        id: Id<E>,
        expected: Option<i64>,
        change: &(impl Fn(&mut E) + Sync + ?Sized),
    ) -> Result<Arc<Record<E>>> {
        self.change_for(Purpose::Usual, access, id, expected, change)
            .await
    }

    /// Changes a typed record for a purpose.
    pub(crate) async fn change_for<E: Entity>(
        &mut self,
        purpose: Purpose,
        access: Access,
        id: Id<E>,
        expected: Option<i64>,
        change: &(impl Fn(&mut E) + Sync + ?Sized),
    ) -> Result<Arc<Record<E>>> {
        let row = self.live_row(E::schema(), id.uuid()).await?;
        // The very row that is changed is the one that must have the version (R-084).
        if expected.is_some_and(|version| row.version() != version) {
            return Err(Error::Conflict {
                object: E::schema().name().to_owned(),
                id: id.uuid(),
            });
        }
        let record = typed::<E>(row.clone())?;
        let mut data = record.data.clone();
        change(&mut data);
        let meta = self.next_meta(&row);
        self.write_for(purpose, access, Some(row), meta, data).await
    }

    /// Changes a record for the engine as it was just read.
    #[doc(hidden)]
    pub async fn update_record<E: Entity>(
        &mut self,
        record: Arc<Record<E>>,
        change: &(impl Fn(&mut E) + Sync + ?Sized),
    ) -> Result<Arc<Record<E>>> {
        self.change_record(Purpose::Usual, Access::Engine, record, change)
            .await
    }

    /// Changes a record as it was just read, to put things in order.
    pub(crate) async fn keep_in_order<E: Entity>(
        &mut self,
        record: Arc<Record<E>>,
        change: &(impl Fn(&mut E) + Sync + ?Sized),
    ) -> Result<Arc<Record<E>>> {
        self.change_record(Purpose::Upkeep, Access::Engine, record, change)
            .await
    }

    /// The first typed records, archived ones too, that fulfil a filter, by id.
    pub(crate) async fn find_first<E: Entity>(
        &self,
        filter: Where<E>,
        limit: usize,
    ) -> Result<Vec<Arc<Record<E>>>> {
        let registry = &*self.registry().await?;
        let wanted = Condition::bind(&filter.into_filter(), E::schema(), registry)?;
        let condition = Condition::not_deleted().and(wanted);
        let query = Query::new(E::schema(), condition).limit(limit);
        let rows = self.select(&query).await?;
        rows.into_iter().map(typed).collect()
    }

    /// Changes a record as it was read; the commit finds out whether it still stands so.
    async fn change_record<E: Entity>(
        &mut self,
        purpose: Purpose,
        access: Access,
        record: Arc<Record<E>>,
        change: &(impl Fn(&mut E) + Sync + ?Sized),
    ) -> Result<Arc<Record<E>>> {
        let (id, version) = (record.id, record.version);
        if record.deleted_at.is_some() || self.place(E::schema(), id.uuid()).is_some() {
            return self
                .change_for(purpose, access, id, Some(version), change)
                .await;
        }
        let mut data = record.data.clone();
        change(&mut data);
        let row: Row = record;
        let meta = self.next_meta(&row);
        self.write_for(purpose, access, Some(row), meta, data).await
    }

    /// The typed record with this id.
    pub(crate) async fn get<E: Entity>(&self, id: Id<E>) -> Result<Arc<Record<E>>> {
        typed(self.live_row(E::schema(), id.uuid()).await?)
    }

    /// The typed record with this id, if there is one that is not deleted.
    pub(crate) async fn lookup<E: Entity>(&self, id: Id<E>) -> Result<Option<Arc<Record<E>>>> {
        match self.row(E::schema(), id.uuid()).await? {
            Some(row) if !row.is_deleted() => typed(row).map(Some),
            _ => Ok(None),
        }
    }

    /// All typed records that fulfil a filter, by the given order.
    pub(crate) async fn find_all<E: Entity>(
        &self,
        filter: Where<E>,
        sort: Vec<crate::query::SortKey>,
    ) -> Result<Vec<Arc<Record<E>>>> {
        let registry = &*self.registry().await?;
        let condition = Condition::not_deleted().and(Condition::bind(
            &filter.into_filter(),
            E::schema(),
            registry,
        )?);
        let rows = self
            .select(&Query::new(E::schema(), condition).sort(sort))
            .await?;
        rows.into_iter().map(typed).collect()
    }

    /// Creates a typed record for the engine, and for the crates that are part of it.
    #[doc(hidden)]
    pub async fn create<E: Entity>(&mut self, entity: E) -> Result<Arc<Record<E>>> {
        let meta = self.new_meta();
        self.write(Access::Engine, None, meta, entity).await
    }

    /// The row with this id, unless it is deleted.
    pub(crate) async fn live_row(&self, object: &ObjectRef, id: uuid::Uuid) -> Result<Row> {
        match self.row(object, id).await? {
            Some(row) if !row.is_deleted() => Ok(row),
            _ => Err(not_found(object, id)),
        }
    }

    /// Changes what the system keeps about a record.
    pub(super) async fn set_meta(
        &mut self,
        object: &ObjectRef,
        id: uuid::Uuid,
        change: &(dyn Fn(Meta) -> Meta + Send + Sync),
    ) -> Result<Row> {
        let row = self.live_row(object, id).await?;
        let meta = change(self.next_meta(&row));
        let after = row.with_meta(meta);
        self.stage(Some(row), after, crate::error::Faults::default())
            .await
    }
}

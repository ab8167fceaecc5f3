//! [`AuditTrail`]: how the events are read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crm_core::error::Result;
use crm_core::query::{Cursor, Find, MAX_LIMIT, Page, Sort, Where, WhereExt};
use crm_core::{Actor, EntityRef, Record, Session};
use uuid::Uuid;

use crate::archive;
use crate::event::AuditEvent;
use crate::feed::Feed;
use crate::pages;
use crate::removal::{self, Removal};
use crate::seal::{self, SealHead, SealReport, Sealing, Verification};
use crate::versions::by;

/// Gives sessions their audit trail.
pub trait AuditExt {
    /// The audit trail of the session's tenant.
    fn audit(&self) -> AuditTrail<'_>;
}

impl AuditExt for Session {
    fn audit(&self) -> AuditTrail<'_> {
        AuditTrail { session: self }
    }
}

/// The events of a tenant, the versions of records that they tell of, and what brings such versions
/// back. Events can be read, and nothing else.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct AuditTrail<'a> {
    pub(crate) session: &'a Session,
}

impl<'a> AuditTrail<'a> {
    /// All events of a record, the first one first. A record of another tenant has none.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn trail(
        &self,
        record: impl Into<EntityRef> + Send,
    ) -> Result<Vec<Arc<Record<AuditEvent>>>> {
        let events = self
            .all(of_record(&record.into()), AuditEvent::RECORD_VERSION.asc())
            .await?;
        self.hand_out(&events).await?;
        Ok(events)
    }

    /// One page of the events of a record, the newest first (C-103).
    ///
    /// The first page fixes which events are there, and the pages behind it tell of these alone: a page
    /// that was read stays as it is, whoever writes meanwhile. See [`front`](Self::front) for the first
    /// page itself.
    ///
    /// # Errors
    /// Those of the storage; a cursor of another query.
    pub async fn trail_page(
        &self,
        record: impl Into<EntityRef> + Send,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<Arc<Record<AuditEvent>>>> {
        let of_record = of_record(&record.into());
        let newest = AuditEvent::RECORD_VERSION.desc();
        let page = self.page(of_record, newest, limit, after).await?;
        self.hand_out(&page.items).await?;
        Ok(page)
    }

    /// One page of the events of an actor, the newest first by the time at which its unit of work began.
    /// One that took long may be written behind later ones; pages that were read stay as they are all
    /// the same: the first page fixes which events are there.
    ///
    /// # Errors
    /// Those of the storage; a cursor of another query.
    pub async fn by_actor(
        &self,
        actor: Actor,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<Arc<Record<AuditEvent>>>> {
        let newest = AuditEvent::CREATED_AT.desc();
        let page = self.page(by(actor), newest, limit, after).await?;
        self.hand_out(&page.items).await?;
        Ok(page)
    }

    /// A cursor in front of all that is there now, for the pages of any view of the trail and of the
    /// streams: a first page that is asked for with it is the same whenever it is read.
    ///
    /// ```
    /// # use crm_core::{Actor, Session, Result};
    /// # use crm_audit::AuditExt;
    /// # async fn example(session: &Session, who: Actor) -> Result<()> {
    /// let now = session.audit().front().await?;
    /// let once = session.audit().by_actor(who, 20, Some(now.clone())).await?;
    /// let again = session.audit().by_actor(who, 20, Some(now)).await?;
    /// assert_eq!(once.next, again.next);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn front(&self) -> Result<Cursor> {
        pages::front(self.session).await
    }

    /// The events of a commit, in the order of its changes.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn of_commit(&self, commit: Uuid) -> Result<Vec<Arc<Record<AuditEvent>>>> {
        let events = self
            .all(AuditEvent::COMMIT_ID.eq(commit), AuditEvent::ID.asc())
            .await?;
        self.hand_out(&events).await?;
        Ok(events)
    }

    /// The feed of all events, as a consumer of this name reads it: in commit order, each event until
    /// it is acknowledged. See [`Feed`] for an example.
    pub fn feed(&self, consumer: impl Into<String>) -> Feed<'a> {
        Feed::new(self.session, consumer.into())
    }

    /// Events as any filter over them finds them, archived ones included: those have `archived_at`.
    ///
    /// A page tells of what is there when it is read: an event that is written meanwhile with an earlier
    /// time comes into the middle of a list by time. Pages that stay as they are come from
    /// [`find_page`](Self::find_page).
    ///
    /// # Errors
    /// A filter, sort or cursor that does not fit.
    pub async fn find(
        &self,
        find: impl Into<Find<AuditEvent>>,
    ) -> Result<Page<Arc<Record<AuditEvent>>>> {
        let page = archive::find(self.session, find.into()).await?;
        self.hand_out(&page.items).await?;
        Ok(page)
    }

    /// Tells that values of records are read from their events, where the tenant wants that: once for
    /// each record, in the newest version that is told.
    pub(crate) async fn hand_out(&self, events: &[Arc<Record<AuditEvent>>]) -> Result<()> {
        let mut read: BTreeMap<&str, BTreeMap<Uuid, i64>> = BTreeMap::new();
        // That somebody read a record tells no value of it.
        for event in events.iter().filter(|event| !event.changes.is_empty()) {
            let of_object = read.entry(&event.object).or_default();
            let version = of_object.entry(event.record_id).or_default();
            *version = event.record_version.max(*version);
        }
        let registry = self.session.registry().await?;
        for (object, records) in read {
            if let Some(object) = registry.any_object(object) {
                let read: Vec<(Uuid, i64)> = records.into_iter().collect();
                self.session.hand_out(&object, &read).await?;
            }
        }
        Ok(())
    }

    /// One page of events as any filter over them finds them, archived ones included. The first page
    /// fixes which events are there, so a page that was read stays as it is, whoever writes meanwhile;
    /// see [`front`](Self::front) for the first page itself. A cursor in `find` is replaced by `after`.
    ///
    /// ```
    /// # use crm_core::{Session, Result, query::Find};
    /// # use crm_audit::{AuditEvent, AuditExt, AuditKind};
    /// # async fn example(session: &Session) -> Result<()> {
    /// let deleted = Find::from(AuditEvent::EVENT.eq(AuditKind::Delete)).limit(50);
    /// let mut page = session.audit().find_page(deleted.clone(), None).await?;
    /// while let Some(next) = page.next {
    ///     page = session.audit().find_page(deleted.clone(), Some(next)).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A filter or sort that does not fit; a cursor of another query.
    pub async fn find_page(
        &self,
        find: impl Into<Find<AuditEvent>>,
        after: Option<Cursor>,
    ) -> Result<Page<Arc<Record<AuditEvent>>>> {
        archive::page(self.session, find.into(), after).await
    }

    /// Seals all events since the last seal that no other can come in front of any more: from then
    /// on nobody can change, remove or insert one of them without [`verify`](Self::verify) telling.
    /// See [`seal`](crate::seal) for what that means and for an example.
    ///
    /// Each thousand events are a seal and a commit of their own; a call that fails or is stopped
    /// leaves the seals made so far. Gives the newest seal, to be kept where whoever could change the
    /// database cannot reach, or `None` where the tenant has no event.
    ///
    /// # Errors
    /// What the signer says; [`Error::Conflict`](crm_core::error::Error::Conflict) where others seal
    /// at the same time, which may be called again.
    pub async fn seal(&self, sealing: Sealing<'_>) -> Result<Option<SealHead>> {
        seal::close(self.session, &sealing).await
    }

    /// Which events retention removed for good, as their time was over: one entry for each commit, the
    /// last one first. What was removed so is no fault of a [seal](crate::seal).
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn removals(&self) -> Result<Vec<Removal>> {
        removal::removals(self.session).await
    }

    /// Compares the events with their seals.
    ///
    /// # Errors
    /// Those of the storage. What does not agree is no error: the report tells it.
    pub async fn verify(&self, verification: Verification<'_>) -> Result<SealReport> {
        seal::verify(self.session, &verification).await
    }

    pub(crate) async fn page(
        &self,
        filter: Where<AuditEvent>,
        sort: Sort,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<Arc<Record<AuditEvent>>>> {
        let find = Find::from(filter).sort(sort).limit(limit);
        archive::page(self.session, find, after).await
    }

    async fn all(
        &self,
        filter: Where<AuditEvent>,
        sort: Sort,
    ) -> Result<Vec<Arc<Record<AuditEvent>>>> {
        let mut events = Vec::new();
        self.each(filter, sort, |event| events.push(event.clone()))
            .await?;
        Ok(events)
    }

    /// Hands over every event that a filter finds, page by page.
    pub(crate) async fn each(
        &self,
        filter: Where<AuditEvent>,
        sort: Sort,
        mut take: impl FnMut(&Arc<Record<AuditEvent>>) + Send,
    ) -> Result<()> {
        let find = Find::from(filter).sort(sort).limit(MAX_LIMIT);
        let mut page = archive::find(self.session, find.clone()).await?;
        loop {
            page.items.iter().for_each(&mut take);
            let Some(next) = page.next else {
                return Ok(());
            };
            page = archive::find(self.session, find.clone().after(next)).await?;
        }
    }
}

pub(crate) fn of_record(record: &EntityRef) -> Where<AuditEvent> {
    AuditEvent::RECORD_ID
        .eq(record.id)
        .and(AuditEvent::OBJECT.eq(record.object.as_str()))
}

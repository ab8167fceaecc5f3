//! What sessions ask of the trail: versions, states as of a time, differences and the history of fields.

use std::collections::BTreeMap;
use std::ops::Range;

use chrono::{DateTime, Utc};
use crm_core::error::{Error, Result};
use crm_core::query::{Aggregate, Cursor, Filter, Find, Page, Where, WhereExt};
use crm_core::schema::{Entity, FieldType, FieldValue, ObjectRef, Value, ValueRef, system};
use crm_core::{Actor, EntityRef, Id};
use uuid::Uuid;

use crate::archive;
use crate::event::{AuditEvent, AuditKind, FieldChange};
use crate::history::{ActivityCount, FieldVersion, ReadableChange, VersionEntry, is_mask, path_of};
use crate::mask::MASK;
use crate::recorder::changes_between;
use crate::trail::{AuditTrail, of_record};
use crate::version::{Rebuilding, RowVersion, Version, cut, typed};

impl AuditTrail<'_> {
    /// A record as it was at a version, built from its events; `None` if it never had that version.
    /// The events up to that version are read, page by page, and none behind it.
    ///
    /// ```
    /// # use crm_core::{Session, Result, Id, contacts::Contact};
    /// # use crm_audit::AuditExt;
    /// # async fn example(session: &Session, id: Id<Contact>) -> Result<()> {
    /// let first = session.audit().version(id, 1).await?.expect("every record has a version 1");
    /// println!("was created as {:?}", first.record.job_title);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Rule`] `version_dropped` where the events that tell of it were dropped from the archive
    /// (C-070); those of the storage.
    pub async fn version<E: Entity>(&self, id: Id<E>, version: i64) -> Result<Option<Version<E>>> {
        let built = self.read(E::schema(), &id.into(), version).await?;
        built.map(typed).transpose()
    }

    /// Like [`version`](Self::version), for a record of an object by its name, such as one that the
    /// tenant defined.
    ///
    /// ```
    /// # use crm_core::{Session, Result};
    /// # use crm_audit::AuditExt;
    /// # async fn example(session: &Session, id: uuid::Uuid) -> Result<()> {
    /// let first = session.audit().version_of("project", id, 1).await?;
    /// let first = first.expect("every record has a version 1");
    /// println!("was created as {}", first.row.get("name").as_text().unwrap_or_default());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`QueryError::UnknownObject`](crm_core::query::QueryError::UnknownObject) where the tenant has
    /// no such object (any more): [`trail`](Self::trail) still tells every value. Those of
    /// [`version`](Self::version).
    pub async fn version_of(
        &self,
        object: &str,
        id: Uuid,
        version: i64,
    ) -> Result<Option<RowVersion>> {
        let object = self.session.describe(object).await?;
        let record = EntityRef::new(object.name(), id);
        self.read(&object, &record, version).await
    }

    /// A version for whoever asked: that it is read is told, where the tenant wants that.
    async fn read(
        &self,
        object: &ObjectRef,
        record: &EntityRef,
        version: i64,
    ) -> Result<Option<RowVersion>> {
        let built = self.built(object, record, version).await?;
        if built.is_some() {
            let read = [(record.id, version)];
            self.session.hand_out(object, &read).await?;
        }
        Ok(built)
    }

    /// A record as it was at a time: the last version that was written until then. `None` before it
    /// was created and after it was removed for good; one that was deleted then says so by its
    /// `deleted_at`.
    ///
    /// A version has the time at which its unit of work began.
    ///
    /// ```
    /// # use chrono::{DateTime, Utc};
    /// # use crm_core::{Session, Result, Id, deals::Deal};
    /// # use crm_audit::AuditExt;
    /// # async fn example(session: &Session, id: Id<Deal>, quarter_end: DateTime<Utc>) -> Result<()> {
    /// if let Some(then) = session.audit().as_of(id, quarter_end).await? {
    ///     println!("was worth {:?}", then.record.amount);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`version`](Self::version).
    pub async fn as_of<E: Entity>(
        &self,
        id: Id<E>,
        at: DateTime<Utc>,
    ) -> Result<Option<Version<E>>> {
        let built = self.built_at(E::schema(), &id.into(), at).await?;
        built.map(typed).transpose()
    }

    /// Like [`as_of`](Self::as_of), for a record of an object by its name.
    ///
    /// ```
    /// # use chrono::{DateTime, Utc};
    /// # use crm_core::{Session, Result};
    /// # use crm_audit::AuditExt;
    /// # async fn example(session: &Session, id: uuid::Uuid, then: DateTime<Utc>) -> Result<()> {
    /// let project = session.audit().as_of_row("project", id, then).await?;
    /// assert!(project.is_none_or(|project| project.row.version() >= 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`version_of`](Self::version_of).
    pub async fn as_of_row(
        &self,
        object: &str,
        id: Uuid,
        at: DateTime<Utc>,
    ) -> Result<Option<RowVersion>> {
        let object = self.session.describe(object).await?;
        let record = EntityRef::new(object.name(), id);
        self.built_at(&object, &record, at).await
    }

    /// One page of the versions of a record with what changed in each, the newest first (C-061). A
    /// page that was read stays as it is.
    ///
    /// ```
    /// # use crm_core::{Session, Result, Id, contacts::Contact};
    /// # use crm_audit::AuditExt;
    /// # async fn example(session: &Session, id: Id<Contact>) -> Result<()> {
    /// for version in session.audit().versions(id, 20, None).await? {
    ///     println!("{} at {} by {}", version.version, version.at, version.by);
    ///     for change in &version.changes {
    ///         println!("  {change}");
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the storage; a cursor of another query.
    pub async fn versions(
        &self,
        record: impl Into<EntityRef> + Send,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<VersionEntry>> {
        let record = record.into();
        let object = self.known(&record).await?;
        // A read is told at the version that was read, and made none.
        let made = of_record(&record).and(AuditEvent::EVENT.ne(AuditKind::Read));
        let sort = AuditEvent::RECORD_VERSION.desc();
        let page = self.page(made, sort, limit, after).await?;
        self.hand_out(&page.items).await?;
        Ok(page.map(|event| VersionEntry::of(object.as_ref(), &event)))
    }

    /// What differs between two versions of a record, by the order of its fields; `from` may be the
    /// later one. Of sensitive fields only that they changed in between (R-063).
    ///
    /// ```
    /// # use crm_core::{Session, Result, Id, contacts::Contact};
    /// # use crm_audit::AuditExt;
    /// # async fn example(session: &Session, id: Id<Contact>) -> Result<()> {
    /// for change in session.audit().diff(id, 1, 5).await? {
    ///     println!("{}: {} → {}", change.label, change.old_text(), change.new_text());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`] if the record never had one of the versions; those of
    /// [`version_of`](Self::version_of).
    pub async fn diff(
        &self,
        record: impl Into<EntityRef> + Send,
        from: i64,
        to: i64,
    ) -> Result<Vec<ReadableChange>> {
        let record = record.into();
        let object = self.session.describe(&record.object).await?;
        let (first, last) = (from.min(to), from.max(to));
        let mut building = Rebuilding::new(&object);
        let mut earlier = Ok(None);
        let mut masked: BTreeMap<String, FieldChange> = BTreeMap::new();
        let until = of_record(&record).and(AuditEvent::RECORD_VERSION.le(last));
        self.each(until, AuditEvent::RECORD_VERSION.asc(), |event| {
            building.add(event);
            if event.record_version == first {
                earlier = building.row(first);
            } else if event.record_version > first {
                let is_masked = |change: &&FieldChange| {
                    is_mask(change.old.as_ref()) || is_mask(change.new.as_ref())
                };
                for change in event.changes.iter().filter(is_masked) {
                    masked.insert(change.field.to_string(), change.clone());
                }
            }
        })
        .await?;
        let missing = || Error::NotFound {
            object: record.object.clone(),
            id: record.id,
        };
        let (earlier, later) = (earlier?, building.row(last)?);
        if earlier.is_none() && first >= 1 {
            self.check_cut(&object, &record, &building).await?;
        }
        let (earlier, later) = (earlier.ok_or_else(missing)?, later.ok_or_else(missing)?);
        self.session.hand_out(&object, &[(record.id, last)]).await?;
        let (old, new) = match from <= to {
            true => (&earlier.row, &later.row),
            false => (&later.row, &earlier.row),
        };
        let mut changes: BTreeMap<String, FieldChange> = changes_between(old, new)
            .iter()
            .map(|change| (change.field.to_string(), change.clone()))
            .collect();
        // A deletion is told by the kind of its event, and here by its moment.
        let deleted = |row: &crm_core::schema::Row| row.value(system::DELETED_AT).into_owned();
        if old.is_deleted() != new.is_deleted() {
            let field = object.field_name(system::DELETED_AT).to_owned();
            let change = FieldChange {
                field: field.clone().into(),
                old: Some(deleted(old)),
                new: Some(deleted(new)),
            };
            changes.insert(field, change);
        }
        for (field, _) in masked {
            let mask = Some(Value::Text(MASK.to_owned()));
            let change = FieldChange {
                field: field.clone().into(),
                old: mask.clone(),
                new: mask,
            };
            changes.insert(field, change);
        }
        let mut changes: Vec<FieldChange> = changes.into_values().collect();
        changes.sort_by_key(|change| {
            let name = change.field.split('.').next().unwrap_or_default();
            (object.field_index(name), change.field.to_string())
        });
        let readable = changes.iter();
        let readable = readable.map(|change| ReadableChange::of(Some(&object), change));
        Ok(readable.collect())
    }

    /// One page of the changes of one field of a record, the newest first (C-058): of a field, a
    /// custom field by its name or as `custom_fields.region`, or another member of a document. The
    /// values of sensitive fields are masked. A page that was read stays as it is.
    ///
    /// ```
    /// # use crm_core::{Session, Result, Id, deals::Deal};
    /// # use crm_audit::AuditExt;
    /// # async fn example(session: &Session, id: Id<Deal>) -> Result<()> {
    /// for entry in session.audit().field_history(id, "amount", 50, None).await? {
    ///     println!("{} {} by {}", entry.at, entry.change, entry.by);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the storage; a cursor of another query.
    pub async fn field_history(
        &self,
        record: impl Into<EntityRef> + Send,
        field: &str,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<FieldVersion>> {
        let record = record.into();
        let object = self.known(&record).await?;
        let path = path_of(object.as_ref(), field);
        let find = Find::from(of_record(&record))
            .filter_by_name(told(&path))
            .sort(AuditEvent::RECORD_VERSION.desc())
            .limit(limit);
        let Page {
            items,
            next,
            previous,
        } = archive::page(self.session, find, after).await?;
        self.hand_out(&items).await?;
        let items = items.iter();
        let items = items.filter_map(|event| FieldVersion::of(object.as_ref(), event, &path));
        Ok(Page {
            items: items.collect(),
            next,
            previous,
        })
    }

    /// What an actor did in a time window, its start included and its end not: how often, by object
    /// and kind (C-104), archived events included. Counted by the storage, however many events there
    /// are.
    ///
    /// ```
    /// # use chrono::{DateTime, Utc};
    /// # use crm_core::{Actor, Session, Result};
    /// # use crm_audit::AuditExt;
    /// # async fn example(session: &Session, who: Actor, day: std::ops::Range<DateTime<Utc>>) -> Result<()> {
    /// for entry in session.audit().activity_summary(who, day).await? {
    ///     println!("{} × {} of {}", entry.count, entry.kind, entry.object);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn activity_summary(
        &self,
        actor: Actor,
        window: Range<DateTime<Utc>>,
    ) -> Result<Vec<ActivityCount>> {
        let filter = by(actor)
            .and(AuditEvent::CREATED_AT.ge(window.start))
            .and(AuditEvent::CREATED_AT.lt(window.end));
        let counts = Aggregate::<AuditEvent>::new()
            .filter(filter)
            .group_by(AuditEvent::OBJECT)
            .group_by(AuditEvent::EVENT)
            .count()
            .min(AuditEvent::CREATED_AT)
            .max(AuditEvent::CREATED_AT);
        let mut summary: BTreeMap<(String, &'static str), ActivityCount> = BTreeMap::new();
        for group in archive::aggregate(self.session, counts).await? {
            let kind = AuditKind::from_value(group.key(1).into_owned());
            let (Some(object), Ok(kind)) = (group.key(0).as_text(), kind) else {
                continue;
            };
            let at = |index: usize| moment(group.measures.get(index)?);
            let entry = summary.entry((object.to_owned(), kind.as_str()));
            let entry = entry.or_insert_with(|| ActivityCount {
                object: object.to_owned(),
                kind,
                count: 0,
                first_at: None,
                last_at: None,
            });
            entry.count += group.count(0);
            entry.first_at = entry.first_at.into_iter().chain(at(1)).min();
            entry.last_at = entry.last_at.into_iter().chain(at(2)).max();
        }
        Ok(summary.into_values().collect())
    }

    /// The record at a version, from the events up to it.
    pub(crate) async fn built(
        &self,
        object: &ObjectRef,
        record: &EntityRef,
        version: i64,
    ) -> Result<Option<RowVersion>> {
        let mut building = Rebuilding::new(object);
        let until = of_record(record).and(AuditEvent::RECORD_VERSION.le(version));
        self.each(until, AuditEvent::RECORD_VERSION.asc(), |event| {
            building.add(event);
        })
        .await?;
        match building.row(version)? {
            Some(built) => Ok(Some(built)),
            None if version < 1 => Ok(None),
            None => self
                .check_cut(object, record, &building)
                .await
                .map(|()| None),
        }
    }

    /// Tells a version that there never was from one that the trail does not reach back to.
    async fn check_cut(
        &self,
        object: &ObjectRef,
        record: &EntityRef,
        building: &Rebuilding<'_>,
    ) -> Result<()> {
        if building.is_cut() || (building.is_empty() && self.is_cut(object, record).await?) {
            return Err(cut());
        }
        Ok(())
    }

    /// Whether the trail of a record does not begin with its creation: older months were dropped.
    async fn is_cut(&self, object: &ObjectRef, record: &EntityRef) -> Result<bool> {
        let told = of_record(record).and(AuditEvent::EVENT.ne(AuditKind::Read));
        let find = Find::from(told)
            .sort(AuditEvent::RECORD_VERSION.asc())
            .limit(1);
        match self.find(find).await?.items.pop() {
            Some(first) => Ok(first.event != AuditKind::Create),
            None => Ok(self.session.begin().row(object, record.id).await?.is_some()),
        }
    }

    /// The record at a time, from the events up to it.
    async fn built_at(
        &self,
        object: &ObjectRef,
        record: &EntityRef,
        at: DateTime<Utc>,
    ) -> Result<Option<RowVersion>> {
        if let Some(version) = self.version_at(record, at).await? {
            return self.read(object, record, version).await;
        }
        let row = self.session.begin().row(object, record.id).await?;
        let is_later = row.is_some_and(|row| row.meta().created.at > at);
        if !is_later && self.is_cut(object, record).await? {
            return Err(cut());
        }
        Ok(None)
    }

    /// The last version that was written until a time.
    async fn version_at(&self, record: &EntityRef, at: DateTime<Utc>) -> Result<Option<i64>> {
        let until = of_record(record).and(AuditEvent::CREATED_AT.le(at));
        let find = Find::from(until)
            .sort(AuditEvent::RECORD_VERSION.desc())
            .limit(1);
        let last = archive::find(self.session, find).await?.items.pop();
        Ok(last.map(|event| event.record_version))
    }

    /// Whether an event behind a version of the record tells of one of these fields.
    pub(crate) async fn changed_since(
        &self,
        record: &EntityRef,
        version: i64,
        path: &str,
    ) -> Result<bool> {
        let later = of_record(record).and(AuditEvent::RECORD_VERSION.gt(version));
        let find = Find::from(later).filter_by_name(told(path)).limit(1);
        Ok(!archive::find(self.session, find).await?.items.is_empty())
    }

    /// What the tenant says of a record's object, unless it has no such object any more.
    async fn known(&self, record: &EntityRef) -> Result<Option<ObjectRef>> {
        Ok(self.session.registry().await?.any_object(&record.object))
    }
}

/// The events of an actor.
pub(crate) fn by(actor: Actor) -> Where<AuditEvent> {
    let by_kind = AuditEvent::CREATED_BY.eq(actor.kind());
    match actor.id() {
        Some(id) => AuditEvent::CREATED_BY_ID.eq(id).and(by_kind),
        None => by_kind,
    }
}

/// That an event tells of a field, or of the whole document that a member stands in.
pub(crate) fn told(path: &str) -> Filter {
    let changes = AuditEvent::CHANGES.name();
    let tells = |path: &str| Filter::Null {
        field: format!("{changes}.{path}").into(),
        is_null: false,
    };
    match path.split_once('.') {
        Some((document, _)) => Filter::Or(vec![tells(path), tells(document)]),
        None => tells(path),
    }
}

fn moment(value: &Value) -> Option<DateTime<Utc>> {
    match FieldType::Timestamp.coerce(value.clone()).ok()?.as_ref() {
        ValueRef::Timestamp(at) => Some(at),
        _ => None,
    }
}

//! [`NamedRecords`]: the records of an object by its name, with rows and JSON.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::UnitOfWork;
use super::work::not_found;
use super::workspace::{Workspace, in_work};
use crate::error::{Error, Faults, Result, ValidationError, codes};
use crate::query::{Aggregate, AggregateQuery, Find, Group, Page, QueryError, page_of};
use crate::schema::{CUSTOM_FIELDS, Meta, ObjectRef, Row, SYSTEM_FIELDS, Value};
use crate::storage::StorageError;

/// The records of an object by its name: for hosts with one web API over all objects.
///
/// ```
/// # use crm_core::{Session, error::Result, query::Find};
/// # async fn example(session: &Session) -> Result<()> {
/// let body = serde_json::json!({"name": "Globex", "industry": "software"});
/// let globex = session.object("account").await?.create(body.as_object().unwrap()).await?;
/// assert_eq!(globex.get("industry").as_text(), Some("software"));
/// let page = session.object("account").await?.find(&Find::new().limit(10)).await?;
/// let json = serde_json::to_value(page.map(|row| row.to_json()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct NamedRecords<'a> {
    pub(crate) workspace: Workspace<'a>,
    object: ObjectRef,
}

impl<'a> NamedRecords<'a> {
    pub(super) const fn new(workspace: Workspace<'a>, object: ObjectRef) -> Self {
        Self { workspace, object }
    }

    /// The description of the object.
    #[must_use]
    pub const fn schema(&self) -> &ObjectRef {
        &self.object
    }

    /// Creates a record from one flat JSON object.
    ///
    /// # Errors
    /// Every unknown, read-only or faulty field at once; uniqueness; rules of the object.
    pub async fn create(&mut self, json: &Map<String, Json>) -> Result<Row> {
        in_work!(self.workspace, |work| {
            work.create_json(&self.object, json).await
        })
    }

    /// The record with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: Uuid) -> Result<Row> {
        match self.workspace.row(&self.object, id).await? {
            Some(row) if !row.is_deleted() => {
                self.tell_reads(std::slice::from_ref(&row)).await?;
                Ok(row)
            }
            _ => Err(not_found(&self.object, id)),
        }
    }

    /// One page of the records that fulfil a filter.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn find(&self, find: &Find<()>) -> Result<Page<Row>> {
        let bound = find.bind(&self.object, &*self.workspace.registry().await?)?;
        let rows = self.workspace.select(&bound.query).await?;
        let page = page_of(&bound, rows);
        self.tell_reads(&page.items).await?;
        Ok(page)
    }

    /// Tells that records are handed out, where the tenant wants that.
    async fn tell_reads(&self, rows: &[Row]) -> Result<()> {
        if rows.is_empty() || !self.workspace.tells_reads(&self.object).await? {
            return Ok(());
        }
        let read = rows.iter().map(|row| (row.id(), row.version()));
        self.workspace
            .tell_reads(&self.object, read.collect())
            .await
    }

    /// How many records fulfil a filter, whatever the page.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn count(&self, find: &Find<()>) -> Result<u64> {
        let bound = find.bind(&self.object, &*self.workspace.registry().await?)?;
        let mut query = AggregateQuery::count(&self.object, bound.query.condition);
        query.stale = bound.query.stale;
        let groups = self.workspace.aggregate(&query).await?;
        Ok(groups.first().map_or(0, |group| group.count(0)))
    }

    /// Counts, sums and the like over groups of records.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn aggregate(&self, aggregate: &Aggregate<()>) -> Result<Vec<Group>> {
        let query = aggregate.bind(&self.object, &*self.workspace.registry().await?)?;
        self.workspace.aggregate(&query).await
    }

    /// Lays a JSON merge patch over a record; see [`Records::merge`](super::Records::merge).
    ///
    /// # Errors
    /// [`Error::Conflict`] if the record is not at `version`; every faulty field at once.
    pub async fn merge(
        &mut self,
        id: Uuid,
        version: i64,
        patch: &Map<String, Json>,
    ) -> Result<Row> {
        in_work!(self.workspace, |work| {
            work.merge(&self.object, id, version, patch).await
        })
    }

    /// Archives a record; see [`Records::archive`](super::Records::archive).
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn archive(&mut self, id: Uuid) -> Result<Row> {
        in_work!(self.workspace, |work| {
            let now = work.now();
            let keep = |meta: Meta| Meta {
                archived_at: meta.archived_at.or(Some(now)),
                ..meta
            };
            work.set_meta(&self.object, id, &keep).await
        })
    }

    /// Brings an archived record back.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn unarchive(&mut self, id: Uuid) -> Result<Row> {
        in_work!(self.workspace, |work| {
            let clear = |meta: Meta| Meta {
                archived_at: None,
                ..meta
            };
            work.set_meta(&self.object, id, &clear).await
        })
    }

    /// Deletes a record; see [`Records::delete`](super::Records::delete).
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Reference`].
    pub async fn delete(&mut self, id: Uuid) -> Result<()> {
        in_work!(self.workspace, |work| {
            work.delete(&self.object, id).await
        })
    }

    /// Brings a deleted record back; see [`Records::restore`](super::Records::restore).
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Duplicate`], [`Error::Validation`].
    pub async fn restore(&mut self, id: Uuid) -> Result<Row> {
        in_work!(self.workspace, |work| {
            work.restore(&self.object, id).await
        })
    }

    /// Removes a deleted record for good; see [`Records::purge`](super::Records::purge).
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Rule`], [`Error::Reference`].
    pub async fn purge(&mut self, id: Uuid) -> Result<()> {
        in_work!(self.workspace, |work| {
            work.purge(&self.object, id).await
        })
    }
}

impl UnitOfWork {
    /// The records of an object by its name, which may be one that is staged here.
    ///
    /// # Errors
    /// [`QueryError::UnknownObject`].
    pub async fn object(&mut self, name: &str) -> Result<NamedRecords<'_>> {
        let object = self.registry().await?.object(name);
        let object = object.ok_or_else(|| QueryError::UnknownObject(name.to_owned()))?;
        Ok(NamedRecords::new(Workspace::Unit(self), object))
    }

    /// Stages a new record of an object from values by field, as
    /// [`FieldType::coerce`](crate::schema::FieldType::coerce) gives them; fields that are not named
    /// have their defaults.
    ///
    /// # Errors
    /// Every unknown, read-only or faulty field at once; uniqueness; rules of the object.
    pub async fn create_values(
        &mut self,
        object: &ObjectRef,
        values: &[(usize, Value)],
    ) -> Result<Row> {
        let (values, faults) = lay_values(object, object.defaults(), values);
        let (row, faults) = self
            .build(object, None, self.new_meta(), values, faults)
            .await?;
        self.stage(None, row, faults).await
    }

    /// Stages a change of a record as it was read before: it is not read again, and the commit is a
    /// conflict if somebody changed it since. Documents are merged member by member (RFC 7396); a
    /// change that changes nothing stages nothing, and gives the record in the version it has.
    ///
    /// # Errors
    /// Every unknown, read-only or faulty field at once; uniqueness; rules of the object.
    pub async fn change_values(&mut self, row: &Row, values: &[(usize, Value)]) -> Result<Row> {
        let object = row.object().clone();
        let staged = self.place(&object, row.id());
        let row = match staged.and_then(|change| change.after()) {
            Some(staged) => staged.clone(),
            None => row.clone(),
        };
        let (values, faults) = lay_values(&object, row.values(), values);
        let meta = self.next_meta(&row);
        let (after, faults) = self
            .build(&object, Some(&row), meta, values, faults)
            .await?;
        self.stage(Some(row), after, faults).await
    }

    pub(crate) async fn create_json(
        &mut self,
        object: &ObjectRef,
        json: &Map<String, Json>,
    ) -> Result<Row> {
        let (values, faults) = object.overlay(object.defaults(), json, crate::schema::Access::User);
        let (row, faults) = self
            .build(object, None, self.new_meta(), values, faults)
            .await?;
        self.stage(None, row, faults).await
    }

    pub(crate) async fn merge(
        &mut self,
        object: &ObjectRef,
        id: Uuid,
        version: i64,
        patch: &Map<String, Json>,
    ) -> Result<Row> {
        let row = self.live_row(object, id).await?;
        if row.version() != version {
            return Err(Error::Conflict {
                object: object.name().to_owned(),
                id,
            });
        }
        let described = self.registry().await?.described(object);
        let patch = &*by_keys(&described, patch);
        let (values, faults) = object.overlay(row.values(), patch, crate::schema::Access::User);
        let meta = self.next_meta(&row);
        let (after, faults) = self.build(object, Some(&row), meta, values, faults).await?;
        self.stage(Some(row), after, faults).await
    }

    /// Builds a row of values that a caller gave. Where values are missing that the object cannot
    /// be without, nothing can be built, and that is told together with the other faults.
    async fn build(
        &self,
        object: &ObjectRef,
        before: Option<&Row>,
        meta: Meta,
        values: Vec<Value>,
        mut faults: Faults,
    ) -> Result<(Row, Faults)> {
        let references = given_references(object, before, &values);
        match object.build(meta, values) {
            Ok(row) => Ok((row, faults)),
            Err(missing) => {
                let missing = missing.into_result().err().into_iter();
                missing
                    .flat_map(ValidationError::into_errors)
                    .for_each(|fault| faults.push(fault));
                for fault in self.missing(references).await? {
                    faults.push(fault);
                }
                faults.into_result()?;
                Err(Error::Storage(StorageError::Corrupt {
                    object: object.name().to_owned(),
                    fields: Vec::new(),
                }))
            }
        }
    }
}

/// A patch with the values of custom fields under the keys by which they are stored, whatever the
/// fields are called by now: so they take the place of what is there, and a null empties it. A value
/// that is given under two names stays so, and is told.
fn by_keys<'p>(object: &ObjectRef, patch: &'p Map<String, Json>) -> Cow<'p, Map<String, Json>> {
    let given = patch.get(CUSTOM_FIELDS).and_then(Json::as_object);
    let Some((custom, given)) = object.custom().zip(given) else {
        return Cow::Borrowed(patch);
    };
    let key = |name: &str| custom.field(name).map(|field| &*field.key);
    if given
        .keys()
        .all(|name| key(name).is_none_or(|key| key == name.as_str()))
    {
        return Cow::Borrowed(patch);
    }
    let mut keyed = Map::new();
    for (name, value) in given {
        let free = key(name).filter(|key| !given.contains_key(*key) && !keyed.contains_key(*key));
        keyed.insert(free.unwrap_or(name).to_owned(), value.clone());
    }
    let mut patch = patch.clone();
    patch.insert(CUSTOM_FIELDS.to_owned(), Json::Object(keyed));
    Cow::Owned(patch)
}

/// Lays values over those of a record, as a caller may. A null gives a field its default.
fn lay_values(
    object: &ObjectRef,
    mut values: Vec<Value>,
    given: &[(usize, Value)],
) -> (Vec<Value>, Faults) {
    let mut faults = Faults::default();
    for (index, value) in given {
        let place = index.checked_sub(SYSTEM_FIELDS);
        let field = object.fields().get(*index);
        let (Some(place), Some(field)) = (place, field) else {
            let name = object.field_name(*index);
            faults.add(
                name,
                codes::UNKNOWN_FIELD,
                "there is no such field to write",
            );
            continue;
        };
        if field.read_only {
            faults.add(
                &*field.name,
                codes::READ_ONLY,
                "only the engine writes this field",
            );
            continue;
        }
        if let Some(slot) = values.get_mut(place) {
            match (slot, value) {
                (Value::Json(old), Value::Json(new)) if new.is_object() => {
                    json_patch::merge(old, new);
                }
                (slot, Value::Null) => slot.clone_from(&field.default),
                (slot, value) => slot.clone_from(value),
            }
        }
        // What is derived from the field is derived again.
        if object.is_derived(*index + 1)
            && let Some(derived) = values.get_mut(place + 1)
        {
            *derived = Value::Null;
        }
    }
    (values, faults)
}

/// The references among the values, besides those that the record already has.
fn given_references(
    object: &ObjectRef,
    before: Option<&Row>,
    values: &[Value],
) -> Vec<(ObjectRef, usize, String, Uuid)> {
    let given = |index: &usize| {
        let id = values
            .get(index.checked_sub(SYSTEM_FIELDS)?)?
            .as_ref()
            .as_uuid()?;
        let known = before.is_some_and(|row| row.value(*index).as_uuid() == Some(id));
        let (target, _) = object.fields().get(*index)?.reference()?;
        (!known).then(|| (object.clone(), *index, target.to_owned(), id))
    };
    object.references().iter().filter_map(given).collect()
}

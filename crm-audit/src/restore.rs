//! Gives a record back an earlier version, or one field of it.

use std::collections::BTreeSet;

use crm_core::EntityRef;
use crm_core::engine::UnitOfWork;
use crm_core::error::{Error, FieldError, Result, RuleViolation, codes};
use crm_core::merging::units;
use crm_core::schema::{ObjectRef, Row, SYSTEM_FIELDS, Value};
use serde_json::{Map, Value as Json};

use crate::history::path_of;
use crate::mask::overlap;
use crate::trail::AuditTrail;
use crate::version::RowVersion;

/// How often a call runs again whose record others change meanwhile.
pub(crate) const ATTEMPTS: usize = 32;

impl AuditTrail<'_> {
    /// Gives a record back the values that users write as they were at a version, and whether it was
    /// archived; a deleted record comes back with them (C-061). What only the engine writes follows.
    ///
    /// It is an ordinary change, in one commit: all rules judge it, it makes a new version, and the
    /// trail tells of it as [`AuditKind::Restore`](crate::AuditKind::Restore). Values of custom fields
    /// that are no more stay out. Gives the record as it then is; a record that is like that already
    /// is not written.
    ///
    /// ```
    /// # use crm_core::{Session, Result, Id, contacts::Contact};
    /// # use crm_audit::AuditExt;
    /// # async fn example(session: &Session, id: Id<Contact>) -> Result<()> {
    /// let restored = session.audit().restore_version(id, 3).await?;
    /// assert!(restored.version() > 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Rule`] `no_version` if the record never had it,
    /// `version_dropped` if the events that tell of it were dropped from the archive, `version_deleted` if it was deleted then, `not_kept` if the trail does not keep a sensitive or
    /// erased value that changed since; everything that an update may be refused for.
    pub async fn restore_version(
        &self,
        record: impl Into<EntityRef> + Send,
        version: i64,
    ) -> Result<Row> {
        self.restore(record.into(), version, None).await
    }

    /// Gives one field of a record back its value at a version, together with those it is decided with:
    /// an amount comes back with its currency. A custom field is named by its name or as
    /// `custom_fields.region`, and no other one is touched. See
    /// [`restore_version`](Self::restore_version).
    ///
    /// ```
    /// # use crm_core::{Session, Result, Id, accounts::Account};
    /// # use crm_audit::AuditExt;
    /// # async fn example(session: &Session, id: Id<Account>) -> Result<()> {
    /// session.audit().restore_field(id, "industry", 3).await?;
    /// session.audit().restore_field(id, "custom_fields.region", 3).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`restore_version`](Self::restore_version); [`Error::Validation`] for a field that
    /// there is not, or that only the engine writes; [`Error::NotFound`] also for a deleted record.
    pub async fn restore_field(
        &self,
        record: impl Into<EntityRef> + Send,
        field: &str,
        version: i64,
    ) -> Result<Row> {
        self.restore(record.into(), version, Some(field)).await
    }

    async fn restore(&self, record: EntityRef, version: i64, field: Option<&str>) -> Result<Row> {
        let object = self.session.describe(&record.object).await?;
        let places = match field {
            Some(field) => places_of_field(&object, field)?,
            None => places_of_all(&object),
        };
        let then = self.built(&object, &record, version).await?;
        let mut attempt = 1;
        loop {
            let mut work = self.session.begin();
            self.stage(&mut work, &object, &record, version, then.as_ref(), &places)
                .await?;
            match work.commit().await {
                Ok(_) => {
                    return self
                        .session
                        .object(&record.object)
                        .await?
                        .get(record.id)
                        .await;
                }
                Err(Error::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    async fn stage(
        &self,
        work: &mut UnitOfWork,
        object: &ObjectRef,
        record: &EntityRef,
        version: i64,
        then: Option<&RowVersion>,
        places: &Places,
    ) -> Result<()> {
        let missing = || Error::NotFound {
            object: record.object.clone(),
            id: record.id,
        };
        let current = work.row(object, record.id).await?.ok_or_else(missing)?;
        let Some(then) = then else {
            let message = "the record never had this version";
            return Err(RuleViolation::new("no_version", "C-061", message).into());
        };
        if then.row.is_deleted() {
            let message = "the record was deleted at this version; restore the one before it";
            return Err(RuleViolation::new("version_deleted", "C-061", message).into());
        }
        let current = match (current.is_deleted(), places) {
            (false, _) => current,
            (true, Places::All(_)) => work.object(object.name()).await?.restore(record.id).await?,
            (true, _) => return Err(missing()),
        };
        let mut wanted = pieces(object, &then.row, &current, places);
        let mut lost = BTreeSet::new();
        let mut kept = Vec::with_capacity(wanted.len());
        for piece in wanted.drain(..) {
            let path = piece.path(object);
            if !then.masked.iter().any(|masked| overlap(masked, &path)) {
                kept.push(piece);
            } else if self.changed_since(record, version, &path).await? {
                lost.insert(path);
            }
        }
        if !lost.is_empty() {
            let lost: Vec<String> = lost.into_iter().collect();
            let message = format!(
                "the trail does not keep what {} then was; set it by hand, and restore the others one \
                 by one",
                lost.join(", ")
            );
            return Err(RuleViolation::new("not_kept", "C-061", message).into());
        }
        work.mark_given_back(record.id);
        let changed = laid(&current, kept);
        if !changed.is_empty() {
            work.set_row_values(&current, changed).await?;
        }
        let was_archived = then.row.meta().archived_at.is_some();
        let is_archived = current.meta().archived_at.is_some();
        if matches!(places, Places::All(_)) && was_archived != is_archived {
            let mut records = work.object(object.name()).await?;
            match was_archived {
                true => records.archive(record.id).await?,
                false => records.unarchive(record.id).await?,
            };
        }
        Ok(())
    }
}

/// What is given back.
enum Places {
    /// All that users write.
    All(Vec<usize>),
    /// These fields.
    Fields(Vec<usize>),
    /// One member of a document.
    Member(usize, String),
}

/// Whether users write a field, or what is derived from one that they write.
fn is_written(object: &ObjectRef, index: usize) -> bool {
    let field = object.fields().get(index);
    field.is_some_and(|field| !field.system && (!field.read_only || object.is_derived(index)))
}

fn places_of_all(object: &ObjectRef) -> Places {
    let all = SYSTEM_FIELDS..object.fields().len();
    Places::All(all.filter(|index| is_written(object, *index)).collect())
}

fn places_of_field(object: &ObjectRef, field: &str) -> Result<Places> {
    let path = path_of(Some(object), field);
    let (name, member) = match path.split_once('.') {
        Some((name, member)) => (name, Some(member)),
        None => (path.as_str(), None),
    };
    let unknown = || {
        let message = "there is no such field to restore";
        Error::from(FieldError::new(field, codes::UNKNOWN_FIELD, message))
    };
    let index = object.field_index(name).ok_or_else(unknown)?;
    let custom = member
        .filter(|_| object.custom_document() == Some(index))
        .and_then(|member| object.custom_field(member));
    if !is_written(object, index) || custom.is_some_and(|custom| custom.field.read_only) {
        let message = "only the engine writes this field";
        return Err(FieldError::new(field, codes::READ_ONLY, message).into());
    }
    let Some(member) = member else {
        let units = units(object);
        let unit = units.get(index);
        let together = (0..units.len()).filter(|other| units.get(*other) == unit);
        let together = together.filter(|other| is_written(object, *other));
        return Ok(Places::Fields(together.collect()));
    };
    Ok(Places::Member(index, member.to_owned()))
}

/// A value to give back, where the record has another one now.
struct Piece {
    index: usize,
    what: What,
}

enum What {
    Whole(Value),
    /// A member of a document; `None` where it had none.
    Member(String, Option<Json>),
}

impl Piece {
    fn path(&self, object: &ObjectRef) -> String {
        let name = object.field_name(self.index);
        match &self.what {
            What::Whole(_) => name.to_owned(),
            What::Member(member, _) => format!("{name}.{member}"),
        }
    }
}

fn pieces(object: &ObjectRef, then: &Row, now: &Row, places: &Places) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let indexes: &[usize] = match places {
        Places::All(indexes) | Places::Fields(indexes) => indexes,
        Places::Member(index, _) => std::slice::from_ref(index),
    };
    for index in indexes.iter().copied() {
        let (was, is) = (
            then.value(index).into_owned(),
            now.value(index).into_owned(),
        );
        let (was, is) = match (was, is) {
            (was, is) if was == is => continue,
            (Value::Json(Json::Object(was)), Value::Json(Json::Object(is))) => (was, is),
            (was, _) => {
                let what = What::Whole(was);
                pieces.push(Piece { index, what });
                continue;
            }
        };
        let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        for name in names {
            let wanted = match places {
                Places::Member(_, member) => member == name,
                _ => is_restored(object, index, name),
            };
            if wanted && was.get(name) != is.get(name) {
                let what = What::Member(name.clone(), was.get(name).cloned());
                pieces.push(Piece { index, what });
            }
        }
    }
    pieces
}

/// Whether a member of a document comes back with the record: of custom values those of fields that
/// there are and that users write.
fn is_restored(object: &ObjectRef, index: usize, member: &str) -> bool {
    if object.custom_document() != Some(index) {
        return true;
    }
    match object.custom_field(member) {
        Some(custom) => !custom.field.read_only,
        // Where the tenant defined no fields, the document is free.
        None => object.custom_fields().is_empty() && object.template().is_none(),
    }
}

/// The fields with the pieces laid over their values.
fn laid(row: &Row, pieces: Vec<Piece>) -> Vec<(usize, Value)> {
    let mut fields: Vec<(usize, Value)> = Vec::new();
    for Piece { index, what } in pieces {
        let (member, json) = match what {
            What::Whole(value) => {
                fields.push((index, value));
                continue;
            }
            What::Member(member, json) => (member, json),
        };
        if fields.last().is_none_or(|(last, _)| *last != index) {
            fields.push((index, row.value(index).into_owned()));
        }
        let Some((_, Value::Json(document))) = fields.last_mut() else {
            continue;
        };
        if !document.is_object() {
            *document = Json::Object(Map::new());
        }
        let Some(members) = document.as_object_mut() else {
            continue;
        };
        match json {
            Some(json) => members.insert(member, json),
            None => members.remove(&member),
        };
    }
    fields
}

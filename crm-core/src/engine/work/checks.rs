//! What a write is checked for beside the rules of its object: its fields, those that the tenant added,
//! and where its references lead.

use super::{UnitOfWork, forbidden, not_found};
use crate::engine::Write;
use crate::error::{Error, Faults, FieldError, Result, codes};
use crate::query::QueryError;
use crate::schema::{
    CustomWrite, FieldSet, Lifecycle, ObjectRef, ObjectScope, Row, SYSTEM_FIELDS, Value,
};
use crate::storage::{Change, ChangeSet, check_references};
use uuid::Uuid;

impl UnitOfWork {
    /// Checks what the tenant added to the object, and relies on what the tenant says of objects: a
    /// write that was decided by what has changed since is a conflict, and is decided again.
    pub(super) async fn check_custom_fields(
        &mut self,
        object: &ObjectRef,
        write: &mut Write,
    ) -> Result<()> {
        if object.template().is_none() && object.custom_document().is_none() {
            // Such as definitions, of which one commit may write many: what they say is not read and
            // compiled for each of them.
            return Ok(());
        }
        let Some(described) = self.described().await? else {
            return Ok(());
        };
        let object = described.registry.described(object);
        let is_own = object.template().is_some();
        // Also where the object has no fields yet: the first one asks all its records.
        if let Some(version) = &described.version {
            self.rely_on_row(version.clone());
        }
        if write.after.is_deleted() {
            return Ok(());
        }
        if is_own {
            // Whoever has the description of an object may have it of another tenant, or of an
            // object that is no more.
            let id = |object: &ObjectRef| object.template().map(|template| template.id);
            let registry = &described.registry;
            // What is out of use has no new records.
            let known = match write.is_new() {
                true => registry.object(object.name()),
                false => registry.any_object(object.name()),
            };
            if known.as_ref().and_then(id) != id(write.after.object()) {
                return Err(QueryError::UnknownObject(object.name().to_owned()).into());
            }
        }
        let mut faults = std::mem::take(&mut write.faults);
        let checked = self.with_custom_values(&object, write, &mut faults);
        write.faults = faults;
        if let Some(after) = checked? {
            write.after = after;
        }
        Ok(())
    }

    /// The record of a write with the values of the tenant's own fields as they will be stored: by
    /// their keys, in their one form, with defaults and what follows from the record alone. For rules
    /// that look at them before the write is complete; what is wrong with them is told by the write.
    pub(crate) async fn with_stored_values(&self, write: &Write) -> Result<Row> {
        let stored = match self.described().await? {
            Some(described) => {
                let object = described.registry.described(write.after.object());
                self.with_custom_values(&object, write, &mut Faults::default())?
            }
            None => None,
        };
        Ok(stored.unwrap_or_else(|| write.after.clone()))
    }

    /// Checks the document of a write; the record with another document, where that differs.
    fn with_custom_values(
        &self,
        object: &ObjectRef,
        write: &Write,
        faults: &mut Faults,
    ) -> Result<Option<Row>> {
        let Some((custom, document)) = object.custom().zip(object.custom_document()) else {
            return Ok(None);
        };
        let checked = custom.check().check(
            &CustomWrite {
                before: write.before.as_deref(),
                after: &*write.after,
                document,
                now: self.now(),
                by_engine: self.in_hooks || write.is_upkeep(),
            },
            faults,
        );
        let Some(json) = checked else {
            return Ok(None);
        };
        let mut values = write.after.values();
        let place = document.checked_sub(SYSTEM_FIELDS);
        if let Some(slot) = place.and_then(|place| values.get_mut(place)) {
            *slot = Value::Json(json);
        }
        let after = write.after.with_values(write.after.meta(), values);
        after.map(Some).map_err(|faults| {
            let faults = faults.into_result().err();
            faults.map_or_else(|| not_found(object, write.after.id()), Error::from)
        })
    }

    /// The ids of records of any object lead to live ones. No key of the database holds them, so
    /// they are looked up here and relied on.
    pub(super) async fn check_record_links(&mut self, write: &mut Write) -> Result<()> {
        if write.after.is_deleted() {
            return Ok(());
        }
        let object = write.after.object().clone();
        if object.record_links().is_empty() {
            return Ok(());
        }
        let registry = &*self.registry().await?;
        for link in object.record_links() {
            let Some(id) = write.after.value(link.id).as_uuid() else {
                continue;
            };
            let is_same = |before: &Row| {
                let same = |index| before.value(index) == write.after.value(index);
                !before.is_deleted() && same(link.id) && same(link.object)
            };
            if write.before.as_ref().is_some_and(is_same) {
                continue;
            }
            let named = write.after.value(link.object);
            let row = match named.as_text().and_then(|name| registry.object(name)) {
                Some(target) => self.row(&target, id).await?,
                None => None,
            };
            match row.filter(|row| !row.is_deleted()) {
                Some(row) => self.rely_on_row(row),
                None => write
                    .faults
                    .push(FieldError::missing_record(object.field_name(link.id))),
            }
        }
        Ok(())
    }

    pub(super) fn may_write(&self, object: &ObjectRef, row: &Row) -> Result<()> {
        let Some(tenant) = self.session.tenant() else {
            return Err(forbidden("nothing is written outside of a tenant"));
        };
        if object.is_template() {
            return Err(forbidden(
                "such records are written by the name of the object that the tenant defined",
            ));
        }
        match object.lifecycle() {
            Lifecycle::Full => {}
            Lifecycle::Log => return Err(forbidden("entries of a log are written by the engine")),
            Lifecycle::Derived => return Err(forbidden("such records are kept by the engine")),
        }
        if object.scope() == ObjectScope::Platform
            && (row.id() != tenant.uuid() || row.is_deleted())
        {
            return Err(forbidden(
                "a tenant is only made by onboarding and removed by offboarding",
            ));
        }
        Ok(())
    }

    pub(super) async fn add_missing_references(
        &mut self,
        after: &Row,
        before: Option<&Row>,
        faults: &mut Faults,
    ) -> Result<()> {
        let change = match before {
            Some(before) => Change::Update {
                before: before.clone(),
                after: after.clone(),
            },
            None => Change::Insert { row: after.clone() },
        };
        let changes = ChangeSet::new(self.commit.id, self.commit.at, vec![change], Vec::new());
        for fault in self.missing_references(&changes).await? {
            faults.push(fault);
        }
        for fault in self.missing_custom(before, after).await? {
            if !faults.has(&fault.path) {
                faults.push(fault);
            }
        }
        Ok(())
    }

    /// Every reference of the changes that leads nowhere.
    pub(super) async fn missing_references(&self, changes: &ChangeSet) -> Result<Vec<FieldError>> {
        self.missing(check_references(changes)).await
    }

    /// Those of the references that lead nowhere.
    pub(in crate::engine) async fn missing(
        &self,
        references: Vec<(ObjectRef, usize, String, Uuid)>,
    ) -> Result<Vec<FieldError>> {
        let mut missing = Vec::new();
        for (object, index, target, id) in references {
            let Some(target) = self.registry().await?.any_object(&target) else {
                continue;
            };
            let row = self.row(&target, id).await?;
            if row.is_none_or(|row| row.is_deleted()) {
                missing.push(FieldError::missing_record(object.field_name(index)));
            }
        }
        Ok(missing)
    }
}

/// Checks the fields of a write: all of a new record, the changed ones of another.
pub(super) fn check_fields(write: &mut Write, changed: Option<FieldSet>) {
    let object = write.after.object().clone();
    let fields = object.fields();
    let mut check = |index: usize| {
        if let Some(field) = fields.get(index).filter(|field| !field.system)
            && !write.faults.has(&field.name)
            && let Err(fault) = field.check(&write.after.value(index))
        {
            write.faults.push(fault);
        }
    };
    match changed {
        Some(changed) => changed.iter().for_each(&mut check),
        None => (0..fields.len()).for_each(&mut check),
    }
}

/// Every read-only field that a caller wrote.
pub(super) fn read_only_faults(before: Option<&Row>, after: &Row) -> Faults {
    let mut faults = Faults::default();
    let changed = before.map(|before| after.differing(&**before));
    for (index, field) in after.object().fields().iter().enumerate() {
        if field.system || !field.read_only || after.object().is_derived(index) {
            continue;
        }
        let written = match changed {
            Some(changed) => changed.contains(index),
            None => after.value(index) != field.default.as_ref(),
        };
        if written {
            faults.add(
                &*field.name,
                codes::READ_ONLY,
                "only the engine writes this field",
            );
        }
    }
    faults
}

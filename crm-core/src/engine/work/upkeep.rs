//! What the engine writes besides the writes of callers: values that follow from others, derived rows,
//! entries of logs, and what an erasure takes out.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Purpose, UnitOfWork, forbidden, not_found};
use crate::error::{Error, Faults, Result};
use crate::record::Record;
use crate::schema::{
    Entity, Lifecycle, Meta, ObjectRef, Privacy, Row, SYSTEM_FIELDS, StorageKind, Value,
};
use crate::storage::Taking;

impl UnitOfWork {
    /// Changes fields of a record for the engine, by their places in the schema: read-only ones too,
    /// but through all rules. The record is not read again: the commit finds out whether it still
    /// stands as it was read.
    ///
    /// # Errors
    /// Those of the rules.
    pub async fn set_row_values(&mut self, row: &Row, values: Vec<(usize, Value)>) -> Result<Row> {
        self.set_row_values_for(Purpose::Usual, row, values).await
    }

    /// Stages values that follow from others, such as those of formulas: read-only ones too, through
    /// all rules but those that only guard what callers do. For hooks, and for runs that put such
    /// values in order. No deal enters a stage by it that would not let the deal in. The commit finds
    /// out whether the row still stands as it was read.
    ///
    /// # Errors
    /// What the rules of the object refuse.
    pub async fn keep_values(&mut self, row: &Row, values: Vec<(usize, Value)>) -> Result<Row> {
        self.set_row_values_for(Purpose::Follows, row, values).await
    }

    async fn set_row_values_for(
        &mut self,
        purpose: Purpose,
        row: &Row,
        values: Vec<(usize, Value)>,
    ) -> Result<Row> {
        let mut all = row.values();
        for (index, value) in values {
            let place = index.checked_sub(SYSTEM_FIELDS);
            if let Some(slot) = place.and_then(|place| all.get_mut(place)) {
                *slot = value;
            }
        }
        let meta = self.next_meta(row);
        let after = row.with_values(meta, all).map_err(|faults| {
            let faults = faults.into_result().err();
            faults.map_or_else(|| not_found(row.object(), row.id()), Error::from)
        })?;
        self.stage_for(purpose, Some(row.clone()), after, Faults::default())
            .await
    }

    /// Writes the document of a record's custom values for the engine, which puts things in order:
    /// computed values and those of deleted fields too, past the rules that only guard a way. The
    /// record is not read again: the commit finds out whether it still stands as it was read.
    ///
    /// # Errors
    /// Faults of the values; rules of the object.
    pub async fn keep_custom_values(
        &mut self,
        row: &Row,
        values: serde_json::Value,
    ) -> Result<Row> {
        let mut all = row.values();
        let place = row.object().custom_document();
        let place = place.and_then(|index| index.checked_sub(SYSTEM_FIELDS));
        if let Some(slot) = place.and_then(|place| all.get_mut(place)) {
            *slot = Value::Json(values);
        }
        let after = row
            .with_values(self.next_meta(row), all)
            .map_err(|faults| {
                let faults = faults.into_result().err();
                faults.map_or_else(|| not_found(row.object(), row.id()), Error::from)
            })?;
        self.stage_for(Purpose::Upkeep, Some(row.clone()), after, Faults::default())
            .await
    }

    /// Gives a record a new version without changing it, so that whoever relies on it meanwhile has
    /// a conflict: for what belongs to the record but is stored beside it.
    pub fn touch_row(&mut self, row: Row) {
        if self.place(row.object(), row.id()).is_none() {
            let after = row.with_meta(self.next_meta(&row));
            self.put(&row.object().clone(), row.id(), Some(row), Some(after));
        }
    }

    /// Lets the version of a record rise without another change: what belongs to it changes in this
    /// commit, so nobody else may change it, or what belongs to it, meanwhile.
    pub(crate) async fn touch(&mut self, object: &ObjectRef, id: Uuid) -> Result<()> {
        if self
            .place(object, id)
            .is_some_and(|change| change.after.is_some())
        {
            return Ok(());
        }
        // Whether there is such a record is found out by the reference that leads to it.
        if let Some(row) = self.row(object, id).await? {
            self.touch_row(row);
        }
        Ok(())
    }

    /// Stages a derived row under an id that says what it stands for; `before` is the row as it was
    /// read, unless it is new. An id that another row gives up in this unit of work passes to it.
    ///
    /// For rules and hooks, which keep rows of a `derived` object in step with the records that they
    /// follow from; such rows are checked by no rule.
    pub fn keep_derived<E: Entity>(&mut self, id: Uuid, before: Option<Row>, data: E) {
        self.keep_derived_until(id, before, data, None);
    }

    /// Like [`keep_derived`](Self::keep_derived), for a row that is deleted and restored with the
    /// record that it follows from: since `deleted_at`, where that is deleted.
    pub fn keep_derived_until<E: Entity>(
        &mut self,
        id: Uuid,
        before: Option<Row>,
        data: E,
        deleted_at: Option<DateTime<Utc>>,
    ) {
        let object = E::schema();
        let before = match self.place(object, id) {
            Some(known) => known.before.clone(),
            None => before,
        };
        let meta = match &before {
            Some(row) => row.meta().next(self.stamp()),
            None => Meta::first(id, self.stamp()),
        };
        let meta = Meta { deleted_at, ..meta };
        self.session.engine().registry().add(object);
        let after: Row = Arc::new(Record::new(meta, data));
        self.put(object, id, before, Some(after));
    }

    /// Stages a record emptied for the erasure of a person, past all rules: `after` has other values
    /// than `before`, which is the record as it was read. Its event tells which fields went, and not
    /// what they were. Logs can be written so too.
    #[doc(hidden)]
    pub fn erase_row(&mut self, before: Row, after: &Row) {
        let after = after.with_meta(self.next_meta(&before));
        self.erased.insert(before.id());
        self.put(
            &before.object().clone(),
            before.id(),
            Some(before),
            Some(after),
        );
    }

    /// Says that what is staged of a record takes away whom it tells of, as its time was over: its
    /// event tells which fields went and not what they were, and earlier events are to forget it too.
    pub(crate) fn anonymize(&mut self, id: Uuid) {
        self.anonymized.insert(id);
    }

    /// Whether what is staged of a record takes away whom it tells of.
    #[must_use]
    pub fn is_anonymization(&self, id: Uuid) -> bool {
        self.anonymized.contains(&id)
    }

    /// Whether a record is emptied here.
    #[must_use]
    pub fn is_erased(&self, id: Uuid) -> bool {
        self.erased.contains(&id)
    }

    /// Whether this unit of work erases a person: it changes nothing else, so hooks that act on what
    /// people do have nothing to do.
    #[must_use]
    pub fn is_erasure(&self) -> bool {
        !self.erased.is_empty()
    }

    /// Stages the removal of a derived row, as it was read; one of another object stays.
    pub fn remove_derived(&mut self, row: &Row) {
        if row.object().lifecycle() == Lifecycle::Derived {
            self.remove(row);
        }
    }

    /// Stages the removal of a record for good.
    pub(crate) fn remove(&mut self, row: &Row) {
        self.put(row.object(), row.id(), Some(row.clone()), None);
    }

    /// Takes entries out of a log by months; the same commit adds an entry that tells of it.
    pub(crate) fn take_entries(&mut self, taking: Taking) {
        self.taken.push(taking);
    }

    /// The entries that this unit of work takes out of logs by months.
    #[must_use]
    pub fn taken(&self) -> &[Taking] {
        &self.taken
    }

    /// Adds an entry to a log, such as the audit trail. Only commit hooks and rules may: entries
    /// tell of changes in the same commit.
    ///
    /// # Errors
    /// [`Error::Forbidden`] outside of a hook; [`Error::Validation`].
    pub async fn append<E: Entity>(&mut self, entry: E) -> Result<()> {
        if !self.in_hooks {
            return Err(forbidden("entries of a log are written by the engine"));
        }
        self.append_entry(entry)
    }

    /// Adds an entry to a log that tells of no change, such as a seal: for crates of the engine.
    ///
    /// # Errors
    /// [`Error::Validation`].
    #[doc(hidden)]
    pub fn append_entry<E: Entity>(&mut self, mut entry: E) -> Result<()> {
        entry.normalize();
        let row: Row = Arc::new(Record::new(self.new_meta(), entry));
        let mut faults = Faults::default();
        for (index, field) in E::schema().fields().iter().enumerate() {
            // The engine's own documents hold values that were checked where they came in; their
            // size is not the caller's fault.
            let is_document = field.storage_kind() == StorageKind::Json;
            if !field.system
                && !is_document
                && let Err(fault) = field.check(&row.value(index))
            {
                faults.push(fault);
            }
        }
        row.check(&mut faults);
        faults.into_result()?;
        self.session.engine().registry().add(E::schema());
        self.put(E::schema(), row.id(), None, Some(row));
        Ok(())
    }

    /// Stages the redaction of an entry of a log, the only way in which one changes: only fields
    /// about persons get other values, by their places in the schema. For crates of the engine.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for another kind of object or field; values that do not fit.
    #[doc(hidden)]
    pub fn redact_entry(&mut self, row: &Row, values: Vec<(usize, Value)>) -> Result<()> {
        let object = row.object().clone();
        let fields = object.fields();
        let is_personal = |(index, _): &(usize, Value)| {
            let field = fields.get(*index);
            field.is_some_and(|field| !field.system && field.privacy != Privacy::Public)
        };
        if object.lifecycle() != Lifecycle::Log || !values.iter().all(is_personal) {
            return Err(forbidden(
                "only what a log tells of persons can be redacted",
            ));
        }
        let staged = self.place(&object, row.id());
        let (before, from) = match staged {
            Some(change) => (change.before.clone(), change.after.clone()),
            None => (Some(row.clone()), Some(row.clone())),
        };
        let Some(from) = from else { return Ok(()) };
        let mut all = from.values();
        for (index, value) in values {
            let place = index.checked_sub(SYSTEM_FIELDS);
            if let Some(slot) = place.and_then(|place| all.get_mut(place)) {
                *slot = value;
            }
        }
        let after = from
            .with_values(self.next_meta(row), all)
            .map_err(|faults| {
                let faults = faults.into_result().err();
                faults.map_or_else(|| not_found(&object, row.id()), Error::from)
            })?;
        self.session.engine().registry().add(&object);
        self.put(&object, row.id(), before, Some(after));
        Ok(())
    }
}

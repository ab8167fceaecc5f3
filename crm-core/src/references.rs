//! [`CustomReference`]: where the custom fields of records lead.
//!
//! A custom field may refer to a record, as a built-in field does: a lookup, or the whole that a
//! record is a part of. Its value is an id in the document `custom_fields`, which no key of a
//! database holds. So the engine keeps a row for each such value, in the commit that writes it:
//!
//! ```text
//! project "Rollout" ── custom_fields.account ──► account "Globex"
//!     kept as  custom_reference { record_id: Rollout, field_id, target_id: Globex }
//! ```
//!
//! - That a value leads to a live record is looked up by the commit, which relies on that record: if
//!   it is deleted at the same time, one of the two commits is a conflict and runs again.
//! - What leads to a record that is deleted, restored, removed for good or merged is found by these
//!   rows, through an index, and treated like what built-in references lead to.
//! - A deletion is a conflict where a row for its record appeared meanwhile
//!   ([`Unreferenced`](crate::storage::Unreferenced)).

use uuid::Uuid;

use crate::schema::{AnyRecord, Entity, ObjectRef};

/// Where one custom field of one record leads; kept in step with the record, and deleted and restored
/// with it.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "custom_reference",
    table = "custom_references",
    derived,
    index(target_id, field_id),
    index(record_id)
)]
pub struct CustomReference {
    /// The object of the record.
    #[field(required, max_len = 100)]
    pub object: String,
    /// The record.
    #[field(required)]
    pub record_id: Uuid,
    /// The definition of the field.
    #[field(required)]
    pub field_id: Uuid,
    /// The object that the field leads to.
    #[field(required, max_len = 100)]
    pub target_object: String,
    /// The record that the field leads to.
    #[field(required, record_of = "target_object")]
    pub target_id: Uuid,
}

impl CustomReference {
    /// The id of the row for a field of a record.
    pub(crate) fn row_id(record: Uuid, field: Uuid) -> Uuid {
        Uuid::new_v5(&field, record.as_bytes())
    }

    /// The rows of a record of the object, as the tenant describes it, by their ids.
    pub(crate) fn of(object: &ObjectRef, row: &dyn AnyRecord) -> Vec<(Uuid, Self)> {
        let kept = |(place, target, _): (usize, &str, _)| {
            let custom = object.custom_at(place)?;
            let target_id = object.read(row, place, |value| value.as_uuid())?;
            let kept = Self::new(object.name(), row.id(), custom.id, target, target_id);
            Some((Self::row_id(row.id(), custom.id), kept))
        };
        object.custom_references().filter_map(kept).collect()
    }
}

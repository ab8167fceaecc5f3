//! The description of every object, on which everything else rests.
//!
//! An object is a plain Rust struct with `#[derive(Entity)]`:
//!
//! ```
//! use crm_core::schema::Entity;
//! use crm_core::{Id, accounts::Account};
//!
//! /// A flat or house on offer.
//! #[derive(Clone, PartialEq, Entity)]
//! #[entity(object = "property", table = "properties", unique(reference; ignore_case, live))]
//! pub struct Property {
//!     /// The agency's own number.
//!     #[field(required, max_len = 20, searchable)]
//!     pub reference: String,
//!     /// Who sells it.
//!     #[field(references = "account", on_delete = "set_null", indexed)]
//!     pub seller_id: Option<Id<Account>>,
//!     /// Living space in square metres.
//!     #[field(min = 1)]
//!     pub square_metres: Option<i32>,
//! }
//!
//! let schema = Property::schema();
//! assert_eq!(schema.field("reference").unwrap().label(), "Reference");
//! let flat = Property::new("B-17");
//! assert_eq!(serde_json::to_value(&flat).unwrap()["reference"], "B-17");
//! ```
//!
//! That is all a new object needs: sessions create, validate, find, archive, delete and audit it
//! like the built-in ones. What the attributes mean is told at [`Entity`](macro@Entity).
//!
//! - [`ObjectSchema`]: an object, its [`FieldSchema`]s, unique keys and indexes;
//! - [`Value`], [`ValueRef`]: the value of a field without its Rust type;
//! - [`Row`]: a record without its Rust type, as storage backends see it;
//! - [`Record`](crate::Record): the same record with its type.

mod coerce;
mod custom;
mod entity;
mod field;
mod foreign;
mod in_use;
mod month;
mod object;
mod registry;
mod row;
mod value;

pub use coerce::Fault;
pub use crm_core_derive::{Entity, FieldGroup, Picklist};
pub use custom::{
    CUSTOM_FIELDS, CheckCustomFields, CustomFieldSchema, CustomFields, CustomWrite, Template,
    TypedValue, search_texts, typed_values,
};
pub use entity::{
    Entity, FieldGroup, FieldList, FieldOf, FieldReader, FieldValue, LengthLimited, NumberLimited,
    RecordId,
};
pub use field::{
    FieldSchema, FieldType, JSON_BYTES, LIST_ENTRIES, LIST_ENTRY_LENGTH, MULTILINE_LENGTH,
    MergeRule, OnDelete, Privacy, StorageKind,
};
pub use in_use::{DefinitionInUse, FailedCheck, FieldUse};
pub use month::month_of;
pub use object::{
    IndexSchema, Lifecycle, ObjectRef, ObjectSchema, ObjectScope, RecordLink, SYSTEM_FIELDS,
    UniqueKey, system,
};
pub use registry::{Link, Registry};
pub use row::{AnyRecord, Dynamic, FieldSet, Meta, Row};
pub use value::{Value, ValueRef};

#[doc(hidden)]
pub use entity::{deserialize_entity, serialize_entity};

pub(crate) use custom::custom_value;
pub(crate) use foreign::{document_value, from_json};
pub(crate) use object::Access;

/// A name as a person reads it: `annual_revenue` is `Annual revenue`.
pub(crate) fn label(name: &str) -> String {
    let name = name.strip_suffix("_id").unwrap_or(name);
    let mut label = name.replace('_', " ");
    if let Some(first) = label.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    label
}

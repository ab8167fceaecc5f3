//! Objects, fields and relationships that a tenant defines at run time, as definitions.
//!
//! An agency needs properties and viewings, a clinic needs treatments: things that no CRM ships
//! with. A tenant describes them with three kinds of definitions:
//!
//! ```text
//! CustomObject "property" ──┬── CustomField "reference"   text
//!                           ├── CustomField "rent"        currency
//!                           └── CustomField "state"       picklist
//! CustomRelationship "seller": property ── lookup, many to one ──► account
//! ```
//!
//! A field may also be added to an object of the engine itself, such as `deal`: objects are named
//! by their API name, whoever made them, so the two are the same (R-071).
//!
//! What a definition can check alone, it checks when it is made or read: API names, limits, options
//! without doubles, and that kind and cardinality of a relationship agree (R-070). All of them
//! serialise; what is read back has passed the same checks.
//!
//! # Status
//!
//! These are the definitions only. Validators compiled from them, records of custom objects, links
//! between records, formulas and roll-ups come with the next version of this crate; nothing here
//! stores or validates a value yet.
//!
//! # Example
//!
//! ```
//! use crm_core::value::{ApiName, TextValue};
//! use crm_custom_objects::{
//!     Cardinality, CustomField, CustomFieldType, CustomObject, CustomRelationship, Picklist,
//!     PicklistOption, RelationshipKind,
//! };
//!
//! let property = CustomObject::new(ApiName::parse("property")?, "Property", "Properties")?;
//!
//! let state = CustomFieldType::Picklist(Picklist::new(vec![
//!     PicklistOption::new("on_offer", "On offer"),
//!     PicklistOption::new("reserved", "Reserved"),
//!     PicklistOption::new("sold", "Sold"),
//! ])?);
//! let state = CustomField {
//!     is_required: true,
//!     ..CustomField::new(property.api_name.clone(), ApiName::parse("state")?, "State", state)?
//! };
//! assert_eq!(state.field_type.name(), "picklist");
//!
//! let seller = CustomRelationship::new(
//!     ApiName::parse("seller")?,
//!     property.api_name.clone(),
//!     ApiName::parse("account")?,
//!     RelationshipKind::Lookup,
//!     Cardinality::ManyToOne,
//! )?;
//! assert!(!seller.is_required());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod field;
mod field_type;
mod object;
mod relationship;

pub use field::CustomField;
pub use field_type::{
    CustomFieldType, DataType, IntegerLimits, MAX_SELECTIONS, Picklist, PicklistOption, TextLimits,
};
pub use object::CustomObject;
pub use relationship::{Cardinality, CustomRelationship, RelationshipKind};

/// Names one record of any object, of the engine's own or a custom one.
///
/// It is the reference that audit trails use too, so that both kinds of records are reached in the
/// same way.
///
/// ```
/// use crm_core::{Id, accounts::Account};
/// use crm_custom_objects::RecordRef;
///
/// let id: Id<Account> = "01932c07-209c-7a4b-8000-000000000001".parse()?;
/// let flat = RecordRef::new("property", id.uuid());
/// assert_eq!(flat.object, "property");
/// assert_eq!(RecordRef::from(id).object, "account");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub use crm_core::EntityRef as RecordRef;

//! Objects, fields and relationships that a tenant defines at run time.
//!
//! An agency needs properties and viewings, a clinic needs treatments: things that no CRM ships
//! with. A tenant describes them with rows, without code and without changes to the database:
//!
//! ```text
//! CustomObject "property" ──┬── CustomField "reference"   text
//!                           ├── CustomField "rent"        currency
//!                           ├── CustomField "state"       picklist ── CustomFieldOption "on_offer" ..
//!                           └── CustomFieldRule           free_from >= built_on
//! CustomRelationship "seller": property ── lookup, many to one ──► account
//! ```
//!
//! A field may also be added to an object of the engine itself, such as `deal`: objects are named
//! by their API name, whoever made them, so the two are the same (R-071).
//!
//! - Definitions are entities like all others: [`CustomObject`], [`CustomField`],
//!   [`CustomFieldOption`], [`CustomRelationship`], [`CustomFieldRule`]. They are created, changed,
//!   archived and audited through sessions; rules keep them sound ([`install`]), and every commit that
//!   changes one raises the tenant's [`CustomSchema`].
//! - [`CompiledFields`] is what the definitions of one object compile into: a validator of the
//!   values of records, which also says them as JSON Schema.
//! - [`FieldChange`] tells what a change of a definition means for the records that there are.
//! - A lookup or master-detail relationship is a field that refers to records
//!   ([`CustomRelationship::reference_field`]); the links of a many-to-many one are made by [`Links`].
//!   [`linked_to`] and [`linked_from`] ask through them. [`CustomObjectsExt`] removes an object with
//!   all that it has.
//! - [`Computed`] explains, evaluates and recomputes formulas and roll-ups: see there what follows from
//!   what, and when.
//! - [`CustomRecord`], [`CustomLink`] and [`CustomValue`] are the rows behind records of custom
//!   objects, their links, and what indexed fields are found by.
//! - How often fields are used is counted in memory, and
//!   [recorded](CustomFieldService::record_usage) in batches ([`CustomFieldUsage`]).
//! - [`Definitions`] describes a tenant's objects by its definitions. Sessions then know them by
//!   name: `session.object("property")` creates, finds, changes, archives and purges records;
//!   trail, versions, imports, exports, merges, duplicate rules, tags, comments, followers and
//!   activities take them as they take the engine's own.
//! - An object that is not [active](CustomObject::is_active) is found by nobody; its records stay, and
//!   are there again with it.
//!
//! # Example
//!
//! ```
//! use crm_core::Id;
//! use crm_core::value::{ApiName, TextValue};
//! use crm_custom_objects::{
//!     CompiledFields, CustomField, CustomFieldOption, CustomFieldType, Definition, Writer,
//! };
//! use serde_json::json;
//!
//! let state = CustomField {
//!     is_required: true,
//!     ..CustomField::new(
//!         ApiName::parse("property")?,
//!         ApiName::parse("state")?,
//!         "State",
//!         CustomFieldType::Picklist,
//!     )
//! };
//! let id = Id::new("01932c07-209c-7a4b-8000-000000000001".parse()?);
//! let options = vec![
//!     CustomFieldOption::new(id, "on_offer", "On offer"),
//!     CustomFieldOption { is_active: false, ..CustomFieldOption::new(id, "on_hold", "On hold") },
//! ];
//! let fields = CompiledFields::new(&[Definition { id, field: state, options }]).expect("sound");
//!
//! // R-069: an option that is no longer active stays where it is, and is not chosen anew.
//! let on_hold = json!({"state": "on_hold"});
//! assert!(!fields.check(&on_hold, None, Writer::Caller).faults.is_empty());
//! assert!(fields.check(&on_hold, Some(&on_hold), Writer::Caller).faults.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod change;
mod checks;
mod computed;
mod document;
mod duplicate_rules;
mod field;
mod field_type;
mod json_schema;
mod links;
mod object;
mod option;
mod pattern;
mod record;
mod reference_field;
mod relationship;
mod removal;
mod rule;
mod rules;
mod safe;
mod service;
mod tenant;
mod usage;
mod uses;
mod validator;
mod values;

use crm_core::engine::EngineBuilder;
use crm_core::schema::{Entity as _, ObjectRef};

pub use change::{Check, FieldChange};
pub use computed::{Computed, Explanation, MAX_CHAIN, MAX_COMPUTED, MAX_DEPENDENTS, Recomputed};
pub use field::CustomField;
pub use field_type::{
    CustomFieldType, DataType, DecimalLimits, IntegerLimits, MAX_SELECTIONS, RollUp,
    RollUpFunction, TextLimits,
};
pub use json_schema::{json_schema, json_schema_options};
pub use links::{Linked, Links, LinksExt, linked_from, linked_to};
pub use object::CustomObject;
pub use option::CustomFieldOption;
pub use record::{CustomLink, CustomRecord, CustomText, CustomValue};
pub use relationship::{Cardinality, CustomRelationship, RelationshipKind};
pub use removal::{CustomObjectsExt, ObjectContents, RemovalOfObject};
pub use rule::{CustomFieldRule, CustomSchema};
pub use service::{
    ChangePreview, CustomFieldService, CustomFieldsExt, FieldImpact, FieldPurge, custom_values,
};
pub use tenant::Definitions;
pub use usage::{CustomFieldUsage, FieldUsage, UsageFigures};
pub use validator::{Checked, CompiledFields, Definition, Writer};
pub use values::form::IndexState;
pub use values::service::{CustomValues, CustomValuesExt, RebuildPlace, RebuiltValues};

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

/// The objects that definitions are kept in: what a host's engine has to know.
///
/// ```
/// let definitions = crm_custom_objects::definitions();
/// assert!(definitions.iter().any(|object| object.name() == "custom_field"));
/// ```
#[must_use]
pub fn definitions() -> Vec<ObjectRef> {
    [
        CustomObject::schema(),
        CustomRelationship::schema(),
        CustomField::schema(),
        CustomFieldOption::schema(),
        CustomFieldRule::schema(),
        CustomSchema::schema(),
    ]
    .map(Clone::clone)
    .to_vec()
}

/// All objects of this crate, each after those that it refers to: the [`definitions`],
/// and the tables of records, links, values and figures of use.
///
/// ```
/// let objects = crm_custom_objects::objects();
/// assert!(objects.iter().any(|object| object.name() == "custom_record"));
/// ```
#[must_use]
pub fn objects() -> Vec<ObjectRef> {
    let tables = [
        CustomRecord::schema(),
        CustomLink::schema(),
        CustomValue::schema(),
        CustomText::schema(),
        CustomFieldUsage::schema(),
    ];
    let mut objects = definitions();
    objects.extend(tables.map(Clone::clone));
    objects
}

/// Makes an engine know definitions: their objects, the rules that keep them sound, the hooks that
/// raise the version of a tenant's definitions, keep changes from making records wrong and keep typed
/// values, and what reads them.
///
/// The facade does so for every CRM; a host that builds its own engine calls it once.
///
/// ```
/// # fn example(builder: crm_core::engine::EngineBuilder) -> crm_core::Engine {
/// crm_custom_objects::install(builder).build()
/// # }
/// ```
#[must_use]
pub fn install(builder: EngineBuilder) -> EngineBuilder {
    let known = definitions().into_iter().chain(
        [
            CustomValue::schema(),
            CustomText::schema(),
            CustomFieldUsage::schema(),
        ]
        .map(Clone::clone),
    );
    let known: Vec<ObjectRef> = known.collect();
    known
        .iter()
        .fold(builder, EngineBuilder::named_object)
        .rule(rules::ObjectRules)
        .rule(rules::FieldRules)
        .rule(rules::OptionRules)
        .rule(rules::RelationshipRules)
        .rule(rules::RuleRules)
        .rule(rules::ActivityLinkRules)
        .rule(rules::SeriesLinkRules)
        .first_hook(computed::ComputedValues)
        .hook(reference_field::ReferenceFields)
        .hook(links::LinkRules)
        .hook(computed::ComputedValues)
        .hook(rules::SchemaVersion)
        .hook(duplicate_rules::DuplicateRuleKeys)
        .hook(safe::SafeChanges)
        .derived_hook(values::hook::ValueRows)
        .derived_hook(values::texts::TextRows)
        .tenant_schema(Definitions)
}

//! [`CustomFieldRule`]: what must be true between the fields of a record; [`CustomSchema`]: which
//! version the definitions of a tenant have.

use crm_core::Id;
use crm_core::schema::Entity;
use crm_core::value::ApiName;

use crate::CustomObject;

/// What must be true between the fields of one record, such as `end_date >= start_date`.
///
/// The text is in the engine's language of expressions. It is kept as written; it is read against
/// the fields of the object by whoever compiles the rules of a tenant.
///
/// ```
/// use crm_core::value::{ApiName, TextValue};
/// use crm_custom_objects::CustomFieldRule;
///
/// let ends_after_it_starts = CustomFieldRule {
///     field: Some(ApiName::parse("end_date")?),
///     ..CustomFieldRule::new(
///         ApiName::parse("project")?,
///         "Ends after it starts",
///         "end_date >= start_date",
///         "must not be before the start",
///     )
/// };
/// assert!(ends_after_it_starts.is_active);
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "custom_field_rule",
    table = "custom_field_rules",
    unique(object, name; ignore_case, live)
)]
pub struct CustomFieldRule {
    /// The object whose records it judges. It stays.
    #[field(required)]
    pub object: ApiName,
    /// The definition of the object, where the tenant made it.
    #[field(
        references = "custom_object",
        on_delete = "cascade",
        read_only,
        indexed
    )]
    pub object_id: Option<Id<CustomObject>>,
    /// Name.
    #[field(required, max_len = 100)]
    pub name: String,
    /// What must be true. A record in which it has no value, because a field is empty, is accepted.
    #[field(required, multiline, max_len = 4000)]
    pub expression: String,
    /// What to tell people whose record it refuses.
    #[field(required, max_len = 500)]
    pub message: String,
    /// The field that is named as faulty; without one, the record as a whole.
    pub field: Option<ApiName>,
    /// Whether records are judged by it.
    #[field(default = true)]
    pub is_active: bool,
}

/// The version of a tenant's definitions: rises with every commit that changes one of them.
///
/// A commit that writes values by the definitions relies on this row, so that it conflicts, and is
/// run again, where they changed meanwhile. The row's id is the id of the tenant.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "custom_schema", table = "custom_schemas", derived)]
pub struct CustomSchema {
    /// How many commits changed definitions, from 1.
    #[field(required, min = 1)]
    pub revision: i64,
    /// The objects of which it was found that no record has a custom value but of defined fields, by
    /// name; those that the tenant made by the id of their definition. Since nobody writes others
    /// while an object has fields, a new field of theirs has no values to look for.
    pub closed_objects: Vec<String>,
}

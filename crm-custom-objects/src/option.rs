//! [`CustomFieldOption`]: what may be chosen in a picklist.

use crm_core::Id;
use crm_core::schema::Entity;
use crm_core::value::Color;

use crate::CustomField;

/// An option of a picklist (C-034).
///
/// Options are shown by their position, those with the same one in the order in which they were made
/// (R-351). One that is no longer wanted is made inactive: old records keep it, new ones refuse it
/// (R-069).
///
/// ```
/// use crm_core::Id;
/// use crm_custom_objects::{CustomField, CustomFieldOption};
///
/// # fn example(city: Id<CustomField>) {
/// // May be chosen where the field that controls this one has the value `de`.
/// let berlin = CustomFieldOption {
///     controlling_values: vec!["de".into()],
///     ..CustomFieldOption::new(city, "berlin", "Berlin")
/// };
/// assert!(berlin.is_active);
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "custom_field_option",
    table = "custom_field_options",
    unique(field_id, value; live),
    index(field_id, position)
)]
pub struct CustomFieldOption {
    /// The field. Options go with it (R-532). It stays.
    #[field(required, references = "custom_field", on_delete = "cascade")]
    pub field_id: Id<CustomField>,
    /// What is stored (R-352, R-429). It stays.
    #[field(required, max_len = 255)]
    pub value: String,
    /// What people read (R-429).
    #[field(required, max_len = 255)]
    pub label: String,
    /// Its place among the options of the field.
    pub position: u32,
    /// Whether new records start with it.
    pub is_default: bool,
    /// Whether it may be chosen (R-069, R-497).
    #[field(default = true)]
    pub is_active: bool,
    /// The colour of the host's user interface.
    pub color: Option<Color>,
    /// The values of the controlling field under which it may be chosen; any if there are none.
    pub controlling_values: Vec<String>,
}

//! [`CustomObject`]: a kind of record that a tenant defines.

use crm_core::schema::Entity;
use crm_core::value::{ApiName, Color, TextValue};
use serde_json::{Value as Json, json};

/// A kind of record that a tenant defines, such as a property or a treatment.
///
/// ```
/// use crm_core::value::{ApiName, TextValue};
/// use crm_custom_objects::CustomObject;
///
/// let property = CustomObject {
///     allow_activities: false,
///     ..CustomObject::new(ApiName::parse("property")?, "Property", "Properties")
/// };
/// let json = serde_json::to_value(&property)?;
/// assert_eq!(json["api_name"], "property");
/// assert_eq!(json["color"], "#007bff");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "custom_object",
    table = "custom_objects",
    unique(api_name; live),
    unique(name; live)
)]
pub struct CustomObject {
    /// The name in lists of the tenant's objects (R-193, R-318, R-349); the API name unless given.
    pub name: Option<ApiName>,
    /// The name in filters, JSON, formulas and the audit trail (R-191, R-317, R-348). It stays.
    #[field(required)]
    pub api_name: ApiName,
    /// One of them, as people read it.
    #[field(required, max_len = 255, searchable)]
    pub label: String,
    /// Several of them.
    #[field(required, max_len = 255)]
    pub plural_label: String,
    /// What such a record is.
    #[field(multiline)]
    pub description: Option<String>,
    /// The icon of the host's user interface.
    #[field(max_len = 100)]
    pub icon: Option<String>,
    /// The colour of the host's user interface (R-192, R-471).
    #[field(default = Color::parse("#007bff").ok())]
    pub color: Option<Color>,
    /// The field whose value is the name of a record.
    pub record_name_field: Option<ApiName>,
    /// Whether reports may be made of these records (R-495).
    #[field(default = true)]
    pub allow_reports: bool,
    /// Whether activities may be about these records (R-495).
    #[field(default = true)]
    pub allow_activities: bool,
    /// Whether new records may be made (R-471, R-495).
    #[field(default = true)]
    pub is_active: bool,
    /// Whether the object belongs to the engine and cannot be removed.
    #[field(read_only)]
    pub is_system: bool,
    /// Who may do what, in the terms of the host.
    #[field(default = json!({}))]
    pub permissions: Json,
    /// Rules between fields, in the terms of the host.
    #[field(default = json!([]))]
    pub validation_rules: Json,
    /// What else happens on a change, in the terms of the host.
    #[field(default = json!([]))]
    pub triggers: Json,
}

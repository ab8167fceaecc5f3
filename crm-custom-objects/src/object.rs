//! [`CustomObject`]: a kind of record that a tenant defines.

use crm_core::error::{Faults, ValidationError};
use crm_core::value::{ApiName, Color};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::check::{LABEL_LENGTH, checked, label};

/// A kind of record that a tenant defines, such as a property or a treatment.
///
/// The engine's own objects have definitions too, marked `is_system`, so that fields can be added
/// to them in the same way.
///
/// ```
/// use crm_core::value::{ApiName, TextValue};
/// use crm_custom_objects::CustomObject;
///
/// let property = CustomObject {
///     allow_activities: true,
///     ..CustomObject::new(ApiName::parse("property")?, "Property", "Properties")?
/// };
/// let json = serde_json::to_value(&property)?;
/// assert_eq!(json["api_name"], "property");
/// assert_eq!(serde_json::from_value::<CustomObject>(json)?, property);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct CustomObject {
    /// The name in lists of the tenant's objects (R-193).
    pub name: ApiName,
    /// The name in filters, JSON and formulas (R-191).
    pub api_name: ApiName,
    /// One of them, as people read it.
    pub label: String,
    /// Several of them.
    pub plural_label: String,
    /// What such a record is.
    pub description: Option<String>,
    /// The icon of the host's user interface.
    pub icon: Option<String>,
    /// The colour of the host's user interface (R-192).
    pub color: Option<Color>,
    /// The field whose value is the name of a record.
    pub record_name_field: Option<ApiName>,
    /// Whether reports may be made of these records.
    pub allow_reports: bool,
    /// Whether activities may be about these records.
    pub allow_activities: bool,
    /// Whether new records may be made.
    pub is_active: bool,
    /// Whether the object belongs to the engine and cannot be removed.
    pub is_system: bool,
    /// Who may do what, in the terms of the host.
    pub permissions: Json,
    /// Rules between fields, in the terms of the host.
    pub validation_rules: Json,
    /// What else happens on a change, in the terms of the host.
    pub triggers: Json,
}

impl CustomObject {
    /// An active object that is known by `api_name` everywhere.
    ///
    /// # Errors
    /// A label that is blank or has more than 255 characters; both faults at once.
    pub fn new(
        api_name: ApiName,
        label: impl Into<String>,
        plural_label: impl Into<String>,
    ) -> Result<Self, ValidationError> {
        Self {
            name: api_name.clone(),
            api_name,
            label: label.into(),
            plural_label: plural_label.into(),
            description: None,
            icon: None,
            color: None,
            record_name_field: None,
            allow_reports: true,
            allow_activities: false,
            is_active: true,
            is_system: false,
            permissions: json!({}),
            validation_rules: json!([]),
            triggers: json!([]),
        }
        .check()
    }

    /// The definition, if it is sound.
    ///
    /// [`new`](Self::new) and reading from JSON check already; this is for a definition whose
    /// fields were set afterwards.
    ///
    /// # Errors
    /// Every faulty field at once.
    pub fn check(self) -> Result<Self, ValidationError> {
        let mut faults = Faults::default();
        label(&mut faults, "label", &self.label, LABEL_LENGTH);
        label(
            &mut faults,
            "plural_label",
            &self.plural_label,
            LABEL_LENGTH,
        );
        checked(self, faults)
    }
}

/// A definition as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    name: Option<ApiName>,
    api_name: ApiName,
    label: String,
    plural_label: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    icon: Option<String>,
    #[serde(default)]
    color: Option<Color>,
    #[serde(default)]
    record_name_field: Option<ApiName>,
    allow_reports: Option<bool>,
    allow_activities: Option<bool>,
    is_active: Option<bool>,
    is_system: Option<bool>,
    permissions: Option<Json>,
    validation_rules: Option<Json>,
    triggers: Option<Json>,
}

impl TryFrom<Unchecked> for CustomObject {
    type Error = ValidationError;

    fn try_from(read: Unchecked) -> Result<Self, Self::Error> {
        let start = Self::new(read.api_name, read.label, read.plural_label)?;
        Ok(Self {
            name: read.name.unwrap_or(start.name),
            description: read.description,
            icon: read.icon,
            color: read.color,
            record_name_field: read.record_name_field,
            allow_reports: read.allow_reports.unwrap_or(start.allow_reports),
            allow_activities: read.allow_activities.unwrap_or(start.allow_activities),
            is_active: read.is_active.unwrap_or(start.is_active),
            is_system: read.is_system.unwrap_or(start.is_system),
            permissions: read.permissions.unwrap_or(start.permissions),
            validation_rules: read.validation_rules.unwrap_or(start.validation_rules),
            triggers: read.triggers.unwrap_or(start.triggers),
            ..start
        })
    }
}

#[cfg(test)]
mod tests {
    use crm_core::value::TextValue;

    use super::*;

    fn name(text: &str) -> ApiName {
        ApiName::parse(text).unwrap()
    }

    #[test]
    fn labels_are_checked_together() {
        let error = CustomObject::new(name("property"), " ", "x".repeat(256)).unwrap_err();
        let found: Vec<_> = error
            .errors()
            .iter()
            .map(|fault| (fault.path.as_str(), fault.code))
            .collect();
        assert_eq!(found, [("label", "blank"), ("plural_label", "too_long")]);
    }

    /// R-191, R-192, R-193.
    #[test]
    fn what_is_read_has_passed_the_same_checks() {
        let short =
            json!({"api_name": "property", "label": "Property", "plural_label": "Properties"});
        let read: CustomObject = serde_json::from_value(short.clone()).unwrap();
        assert_eq!(
            read,
            CustomObject::new(name("property"), "Property", "Properties").unwrap()
        );

        for (field, value) in [
            ("api_name", json!("2nd")),
            ("name", json!("Property")),
            ("color", json!("blue")),
            ("label", json!("")),
            ("colour", json!("#000000")),
        ] {
            let mut faulty = short.clone();
            faulty[field] = value;
            assert!(
                serde_json::from_value::<CustomObject>(faulty).is_err(),
                "{field}"
            );
        }
    }
}

//! [`CustomField`]: a field that a tenant adds to an object.

use crm_core::error::{Faults, ValidationError};
use crm_core::value::ApiName;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::CustomFieldType;
use crate::check::{LABEL_LENGTH, checked, label};

/// A field that a tenant adds to an object, of its own or of the engine's.
///
/// ```
/// use crm_core::value::{ApiName, TextValue};
/// use crm_custom_objects::{CustomField, CustomFieldType};
///
/// // A field of the engine's own deals.
/// let renewal = CustomField {
///     is_indexed: true,
///     help_text: Some("When the contract ends unless it is renewed".into()),
///     ..CustomField::new(
///         ApiName::parse("deal")?,
///         ApiName::parse("renewal_date")?,
///         "Renewal date",
///         CustomFieldType::Date,
///     )?
/// };
/// let json = serde_json::to_value(&renewal)?;
/// assert_eq!(json["field_type"]["type"], "date");
/// assert_eq!(serde_json::from_value::<CustomField>(json)?, renewal);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct CustomField {
    /// The object that has the field, by its API name (R-071).
    pub object: ApiName,
    /// The name in lists of the object's fields, of which an object has only one (R-197).
    pub name: ApiName,
    /// The name in filters, JSON and formulas (R-194).
    pub api_name: ApiName,
    /// The name as people read it.
    pub label: String,
    /// What the field holds.
    pub description: Option<String>,
    /// What its values may be.
    pub field_type: CustomFieldType,
    /// Whether a record always has a value.
    pub is_required: bool,
    /// Whether no two records have the same value.
    pub is_unique: bool,
    /// Whether backends keep an index on it.
    pub is_indexed: bool,
    /// Whether the text search looks into it.
    pub is_searchable: bool,
    /// Whether the field belongs to the engine and cannot be removed.
    pub is_system: bool,
    /// Whether the field is in use.
    pub is_active: bool,
    /// The value of a new record that names none, as JSON.
    pub default_value: Option<Json>,
    /// How to show it, in the terms of the host.
    pub display_options: Json,
    /// Its place in forms, from 0 (R-196).
    pub display_order: u32,
    /// What to tell people who fill it in.
    pub help_text: Option<String>,
}

impl CustomField {
    /// An active, optional field of `object` that is known by `api_name` everywhere.
    ///
    /// # Errors
    /// A label that is blank or has more than 255 characters; limits outside those of the type
    /// (R-068). Every fault at once.
    pub fn new(
        object: ApiName,
        api_name: ApiName,
        label: impl Into<String>,
        field_type: CustomFieldType,
    ) -> Result<Self, ValidationError> {
        Self {
            object,
            name: api_name.clone(),
            api_name,
            label: label.into(),
            description: None,
            field_type,
            is_required: false,
            is_unique: false,
            is_indexed: false,
            is_searchable: false,
            is_system: false,
            is_active: true,
            default_value: None,
            display_options: json!({}),
            display_order: 0,
            help_text: None,
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
        self.field_type.check(&mut faults);
        checked(self, faults)
    }
}

/// A definition as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    object: ApiName,
    name: Option<ApiName>,
    api_name: ApiName,
    label: String,
    #[serde(default)]
    description: Option<String>,
    field_type: CustomFieldType,
    #[serde(default)]
    is_required: bool,
    #[serde(default)]
    is_unique: bool,
    #[serde(default)]
    is_indexed: bool,
    #[serde(default)]
    is_searchable: bool,
    #[serde(default)]
    is_system: bool,
    is_active: Option<bool>,
    #[serde(default)]
    default_value: Option<Json>,
    display_options: Option<Json>,
    #[serde(default)]
    display_order: u32,
    #[serde(default)]
    help_text: Option<String>,
}

impl TryFrom<Unchecked> for CustomField {
    type Error = ValidationError;

    fn try_from(read: Unchecked) -> Result<Self, Self::Error> {
        let start = Self::new(read.object, read.api_name, read.label, read.field_type)?;
        Ok(Self {
            name: read.name.unwrap_or(start.name),
            description: read.description,
            is_required: read.is_required,
            is_unique: read.is_unique,
            is_indexed: read.is_indexed,
            is_searchable: read.is_searchable,
            is_system: read.is_system,
            is_active: read.is_active.unwrap_or(start.is_active),
            default_value: read.default_value,
            display_options: read.display_options.unwrap_or(start.display_options),
            display_order: read.display_order,
            help_text: read.help_text,
            ..start
        })
    }
}

#[cfg(test)]
mod tests {
    use crm_core::value::TextValue;

    use super::*;
    use crate::TextLimits;
    use crate::field_type::tests::every_type;

    fn name(text: &str) -> ApiName {
        ApiName::parse(text).unwrap()
    }

    #[test]
    fn a_field_of_every_type_round_trips() {
        for field_type in every_type() {
            let field = CustomField::new(name("deal"), name("extra"), "Extra", field_type).unwrap();
            let json = serde_json::to_value(&field).unwrap();
            assert_eq!(serde_json::from_value::<CustomField>(json).unwrap(), field);
        }
    }

    #[test]
    fn faults_of_label_and_type_are_told_together() {
        let too_long = TextLimits {
            max_length: Some(300),
            ..TextLimits::default()
        };
        let field_type = CustomFieldType::Text(too_long);
        let error = CustomField::new(name("deal"), name("extra"), "", field_type).unwrap_err();
        let paths: Vec<_> = error
            .errors()
            .iter()
            .map(|fault| fault.path.as_str())
            .collect();
        assert_eq!(paths, ["label", "max_length"]);
    }

    /// R-194, R-196, R-197, R-198.
    #[test]
    fn what_is_read_has_passed_the_same_checks() {
        let sound = json!({
            "object": "deal", "api_name": "extra", "label": "Extra",
            "field_type": {"type": "number", "min": 1},
        });
        assert!(serde_json::from_value::<CustomField>(sound.clone()).is_ok());
        for (field, value) in [
            ("object", json!("Deal")),
            ("name", json!("1st")),
            ("api_name", json!("no good")),
            ("label", json!(" ")),
            ("display_order", json!(-1)),
            ("field_type", json!({"type": "colour"})),
            ("field_type", json!({"type": "number", "min": 2, "max": 1})),
            ("is_requird", json!(true)),
        ] {
            let mut faulty = sound.clone();
            faulty[field] = value;
            assert!(
                serde_json::from_value::<CustomField>(faulty).is_err(),
                "{field}"
            );
        }
    }
}

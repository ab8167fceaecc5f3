//! [`CustomFieldType`]: what the values of a custom field may be.

use std::collections::HashSet;

use crm_core::error::{Faults, ValidationError, codes};
use crm_core::schema::MULTILINE_LENGTH;
use crm_core::value::{ApiName, Currency};
use serde::{Deserialize, Serialize};

use crate::check::{LABEL_LENGTH, checked, label};

/// The most characters of a one-line text and of an option (R-067).
const TEXT_LENGTH: u32 = 255;

/// The most options that a multi-selection field holds at once (R-067).
pub const MAX_SELECTIONS: usize = 10;

/// What the values of a custom field may be.
///
/// What a type needs stands in its variant: a picklist has options, a lookup has a target. The JSON
/// form has a `type` beside it.
///
/// ```
/// use crm_custom_objects::{CustomFieldType, TextLimits};
///
/// let code = CustomFieldType::Text(TextLimits { max_length: Some(12), ..TextLimits::default() });
/// let json = serde_json::json!({"type": "text", "max_length": 12});
/// assert_eq!(serde_json::to_value(&code)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum CustomFieldType {
    /// A one-line text of at most 255 characters.
    Text(TextLimits),
    /// A text of several lines and at most 32,768 characters.
    Textarea(TextLimits),
    /// A whole number of 32 bits.
    Number(IntegerLimits),
    /// An exact number with at most 15 digits, two of them decimals.
    Decimal,
    /// An amount of money, with the digits of a decimal.
    Currency {
        /// The currency of every value of the field.
        currency: Currency,
    },
    /// A percentage from 0 to 100 with at most two decimals.
    Percent,
    /// True or false.
    Boolean,
    /// A day from 1900-01-01 to 2100-12-31.
    Date,
    /// A moment, in UTC, between the same days.
    Datetime,
    /// An e-mail address.
    Email,
    /// An address of the web, `http` or `https`.
    Url,
    /// A telephone number.
    Phone,
    /// One of a list of options.
    Picklist(Picklist),
    /// Up to [`MAX_SELECTIONS`] of a list of options.
    Multipicklist(Picklist),
    /// A record of another object.
    Lookup {
        /// The object.
        object: ApiName,
    },
    /// The record that this one is a part of.
    MasterDetail {
        /// The object.
        object: ApiName,
    },
    /// A value computed from other fields.
    Formula {
        /// How it is computed. The text is not yet parsed.
        expression: String,
        /// What comes out.
        result: DataType,
    },
    /// A file that the host keeps, by its description.
    File,
}

/// How the values of a field are kept (R-195). It follows from the field's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// An exact decimal number.
    Decimal,
    /// True or false.
    Boolean,
    /// A calendar day.
    Date,
    /// A moment in UTC.
    Timestamp,
    /// A JSON document.
    Json,
    /// The id of a record.
    Uuid,
}

/// Limits of a text, within those of its type (R-068).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextLimits {
    /// The fewest characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_length: Option<u32>,
    /// The most characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
    /// A regular expression that the whole text matches. It is not yet parsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

/// Limits of a whole number, within 32 bits (R-068).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntegerLimits {
    /// The least value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i32>,
    /// The greatest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i32>,
}

/// The options of a picklist, in the order to show them.
///
/// There is at least one, and no value occurs twice (R-352). An option that is no longer wanted is
/// made inactive, so that old records keep their value.
///
/// ```
/// use crm_custom_objects::{Picklist, PicklistOption};
///
/// let sizes = Picklist::new(vec![
///     PicklistOption::new("s", "Small"),
///     PicklistOption { is_active: false, ..PicklistOption::new("m", "Medium") },
/// ])?;
/// assert!(sizes.option("m").is_some_and(|option| !option.is_active));
/// # Ok::<(), crm_core::error::ValidationError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedPicklist")]
pub struct Picklist {
    options: Vec<PicklistOption>,
}

/// One option of a picklist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PicklistOption {
    /// What is stored.
    pub value: String,
    /// What people read.
    pub label: String,
    /// Whether new records start with it.
    #[serde(default)]
    pub is_default: bool,
    /// Whether it may be chosen (R-069).
    #[serde(default = "yes")]
    pub is_active: bool,
}

const fn yes() -> bool {
    true
}

impl CustomFieldType {
    /// The name of the type in JSON, such as `master_detail`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Textarea(_) => "textarea",
            Self::Number(_) => "number",
            Self::Decimal => "decimal",
            Self::Currency { .. } => "currency",
            Self::Percent => "percent",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Datetime => "datetime",
            Self::Email => "email",
            Self::Url => "url",
            Self::Phone => "phone",
            Self::Picklist(_) => "picklist",
            Self::Multipicklist(_) => "multipicklist",
            Self::Lookup { .. } => "lookup",
            Self::MasterDetail { .. } => "master_detail",
            Self::Formula { .. } => "formula",
            Self::File => "file",
        }
    }

    /// How values of this type are kept.
    ///
    /// ```
    /// use crm_custom_objects::{CustomFieldType, DataType};
    ///
    /// assert_eq!(CustomFieldType::Percent.data_type(), DataType::Decimal);
    /// ```
    #[must_use]
    pub const fn data_type(&self) -> DataType {
        match self {
            Self::Text(_)
            | Self::Textarea(_)
            | Self::Email
            | Self::Url
            | Self::Phone
            | Self::Picklist(_) => DataType::String,
            Self::Number(_) => DataType::Integer,
            Self::Decimal | Self::Currency { .. } | Self::Percent => DataType::Decimal,
            Self::Boolean => DataType::Boolean,
            Self::Date => DataType::Date,
            Self::Datetime => DataType::Timestamp,
            Self::Multipicklist(_) | Self::File => DataType::Json,
            Self::Lookup { .. } | Self::MasterDetail { .. } => DataType::Uuid,
            Self::Formula { result, .. } => *result,
        }
    }

    /// Adds what is wrong with the limits of the type.
    pub(crate) fn check(&self, faults: &mut Faults) {
        match self {
            Self::Text(limits) => limits.check(faults, TEXT_LENGTH),
            Self::Textarea(limits) => limits.check(faults, MULTILINE_LENGTH),
            Self::Number(limits) => limits.check(faults),
            Self::Picklist(picklist) => picklist.check_defaults(faults, 1),
            Self::Multipicklist(picklist) => picklist.check_defaults(faults, MAX_SELECTIONS),
            Self::Formula { expression, .. } => {
                label(faults, "expression", expression, MULTILINE_LENGTH as usize);
            }
            _ => {}
        }
    }
}

impl TextLimits {
    // R-068: within the limit of the type.
    fn check(&self, faults: &mut Faults, most: u32) {
        if self.max_length.is_some_and(|max| max == 0 || max > most) {
            let message = format!("use a number from 1 to {most}");
            faults.add("max_length", codes::OUT_OF_RANGE, message);
        }
        if self
            .min_length
            .is_some_and(|min| min > self.max_length.unwrap_or(most))
        {
            faults.add(
                "min_length",
                codes::OUT_OF_RANGE,
                "use at most the greatest length",
            );
        }
    }
}

impl IntegerLimits {
    fn check(self, faults: &mut Faults) {
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min > max
        {
            faults.add("min", codes::OUT_OF_RANGE, "use at most the greatest value");
        }
    }
}

impl Picklist {
    /// A picklist with these options.
    ///
    /// # Errors
    /// No options; a value or label that is blank or has more than 255 characters; a value that
    /// occurs twice. Every fault at once.
    pub fn new(options: Vec<PicklistOption>) -> Result<Self, ValidationError> {
        let mut faults = Faults::default();
        if options.is_empty() {
            faults.add("options", codes::REQUIRED, "give at least one option");
        }
        let mut values = HashSet::new();
        for (index, option) in options.iter().enumerate() {
            let value = format!("options.{index}.value");
            label(&mut faults, &value, &option.value, TEXT_LENGTH as usize);
            label(
                &mut faults,
                &format!("options.{index}.label"),
                &option.label,
                LABEL_LENGTH,
            );
            if !values.insert(option.value.as_str()) {
                faults.add(
                    value,
                    codes::INCONSISTENT,
                    "another option has the same value",
                );
            }
        }
        checked(Self { options }, faults)
    }

    /// The options, in the order to show them.
    #[must_use]
    pub fn options(&self) -> &[PicklistOption] {
        &self.options
    }

    /// The option with this stored value, active or not.
    #[must_use]
    pub fn option(&self, value: &str) -> Option<&PicklistOption> {
        self.options.iter().find(|option| option.value == value)
    }

    /// As many options may be defaults as the field holds.
    fn check_defaults(&self, faults: &mut Faults, most: usize) {
        if self
            .options
            .iter()
            .filter(|option| option.is_default)
            .count()
            > most
        {
            let message = format!("at most {most} may be defaults");
            faults.add("options", codes::TOO_MANY, message);
        }
    }
}

impl PicklistOption {
    /// An active option.
    pub fn new(value: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            label: label.into(),
            is_default: false,
            is_active: true,
        }
    }
}

/// Options as they are read.
#[derive(Deserialize)]
struct UncheckedPicklist {
    options: Vec<PicklistOption>,
}

impl TryFrom<UncheckedPicklist> for Picklist {
    type Error = ValidationError;

    fn try_from(read: UncheckedPicklist) -> Result<Self, Self::Error> {
        Self::new(read.options)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use crm_core::value::TextValue;
    use serde_json::json;

    use super::*;

    /// One of each of the 18 types.
    pub(crate) fn every_type() -> Vec<CustomFieldType> {
        let object = ApiName::parse("account").unwrap();
        let picklist = Picklist::new(vec![PicklistOption::new("a", "A")]).unwrap();
        vec![
            CustomFieldType::Text(TextLimits {
                min_length: Some(1),
                ..TextLimits::default()
            }),
            CustomFieldType::Textarea(TextLimits::default()),
            CustomFieldType::Number(IntegerLimits {
                min: Some(0),
                max: Some(5),
            }),
            CustomFieldType::Decimal,
            CustomFieldType::Currency {
                currency: Currency::parse("EUR").unwrap(),
            },
            CustomFieldType::Percent,
            CustomFieldType::Boolean,
            CustomFieldType::Date,
            CustomFieldType::Datetime,
            CustomFieldType::Email,
            CustomFieldType::Url,
            CustomFieldType::Phone,
            CustomFieldType::Picklist(picklist.clone()),
            CustomFieldType::Multipicklist(picklist),
            CustomFieldType::Lookup {
                object: object.clone(),
            },
            CustomFieldType::MasterDetail { object },
            CustomFieldType::Formula {
                expression: "1 + 1".into(),
                result: DataType::Integer,
            },
            CustomFieldType::File,
        ]
    }

    /// R-198.
    #[test]
    fn every_type_has_its_name_and_round_trips() {
        let types = every_type();
        let names: HashSet<_> = types.iter().map(CustomFieldType::name).collect();
        assert_eq!(names.len(), 18);
        for field_type in types {
            let json = serde_json::to_value(&field_type).unwrap();
            assert_eq!(json["type"], field_type.name());
            assert_eq!(
                serde_json::from_value::<CustomFieldType>(json).unwrap(),
                field_type
            );
        }
    }

    /// R-351, R-352: the order is the list's, so that no two options share a place.
    #[test]
    fn options_have_different_values() {
        let twice = vec![PicklistOption::new("a", "A"), PicklistOption::new("a", "B")];
        let error = Picklist::new(twice).unwrap_err();
        assert_eq!(error.errors()[0].path, "options.1.value");
        assert!(Picklist::new(Vec::new()).is_err());
        let json = json!({"type": "picklist", "options": []});
        assert!(serde_json::from_value::<CustomFieldType>(json).is_err());
    }

    /// R-067, R-068.
    #[test]
    fn limits_stay_within_those_of_the_type() {
        let faulty = |field_type: CustomFieldType| {
            let mut faults = Faults::default();
            field_type.check(&mut faults);
            !faults.is_empty()
        };
        let text = |min_length, max_length| TextLimits {
            min_length,
            max_length,
            pattern: None,
        };
        assert!(!faulty(CustomFieldType::Text(text(Some(255), Some(255)))));
        assert!(faulty(CustomFieldType::Text(text(None, Some(256)))));
        assert!(faulty(CustomFieldType::Text(text(None, Some(0)))));
        assert!(faulty(CustomFieldType::Text(text(Some(256), None))));
        assert!(faulty(CustomFieldType::Text(text(Some(3), Some(2)))));
        assert!(!faulty(CustomFieldType::Textarea(text(None, Some(32_768)))));
        assert!(faulty(CustomFieldType::Textarea(text(None, Some(32_769)))));
        let number = |min, max| CustomFieldType::Number(IntegerLimits { min, max });
        assert!(!faulty(number(Some(1), Some(1))));
        assert!(faulty(number(Some(2), Some(1))));
    }

    #[test]
    fn defaults_are_as_many_as_the_field_holds() {
        let list = |count: usize| {
            let option = |index: usize| PicklistOption {
                is_default: true,
                ..PicklistOption::new(index.to_string(), "Option")
            };
            Picklist::new((0..count).map(option).collect()).unwrap()
        };
        for (field_type, sound) in [
            (CustomFieldType::Picklist(list(1)), true),
            (CustomFieldType::Picklist(list(2)), false),
            (CustomFieldType::Multipicklist(list(MAX_SELECTIONS)), true),
            (
                CustomFieldType::Multipicklist(list(MAX_SELECTIONS + 1)),
                false,
            ),
        ] {
            let mut faults = Faults::default();
            field_type.check(&mut faults);
            assert_eq!(faults.is_empty(), sound);
        }
    }
}

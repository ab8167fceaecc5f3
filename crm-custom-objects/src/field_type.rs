//! [`CustomFieldType`]: what the values of a custom field may be.

use std::borrow::Cow;

use crm_core::error::{Faults, codes};
use crm_core::query::Filter;
use crm_core::schema::{FieldType, MULTILINE_LENGTH, OnDelete};
use crm_core::value::{ApiName, Currency, HttpUrl};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::document::document_value;
use crate::{json_schema, pattern};

/// The most characters of a one-line text and of an option (R-067).
pub(crate) const TEXT_LENGTH: u32 = 255;

/// The most options that a multi-selection field holds at once (R-067).
pub const MAX_SELECTIONS: usize = 10;

/// The most digits of a decimal number, and how many of them are decimals (R-067).
const DIGITS: (u32, u32) = (15, 2);

/// What the values of a custom field may be.
///
/// What a type needs stands in its variant: a lookup has a target, a roll-up what it sums. The
/// options of picklists are rows of their own. The JSON form has a `type` beside it.
///
/// ```
/// use crm_custom_objects::{CustomFieldType, TextLimits};
///
/// let code = CustomFieldType::Text(TextLimits { max_length: Some(12), ..TextLimits::default() });
/// let json = serde_json::json!({"type": "text", "max_length": 12});
/// assert_eq!(serde_json::to_value(&code)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum CustomFieldType {
    /// A one-line text of at most 255 characters.
    Text(TextLimits),
    /// A text of several lines and at most 32,768 characters.
    Textarea(TextLimits),
    /// A whole number of 32 bits.
    Number(IntegerLimits),
    /// An exact number with at most 15 digits, two of them decimals.
    Decimal(DecimalLimits),
    /// An amount of money, with the digits of a decimal.
    Currency {
        /// The currency of every value of the field: amounts of several never meet in one (R-085).
        currency: Currency,
        /// The least amount.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<Decimal>,
        /// The greatest amount.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<Decimal>,
    },
    /// A percentage from 0 to 100 with at most two decimals.
    Percent(DecimalLimits),
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
    /// A telephone number, as entered.
    Phone,
    /// One of the field's options.
    Picklist,
    /// Up to [`MAX_SELECTIONS`] of the field's options.
    Multipicklist,
    /// A record of another object.
    Lookup {
        /// The object.
        object: ApiName,
        /// Whether the deletion of that record deletes this one too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cascade: bool,
    },
    /// The record that this one is a part of.
    MasterDetail {
        /// The object.
        object: ApiName,
    },
    /// A value computed from other fields.
    Formula {
        /// How it is computed, in the engine's language of expressions.
        expression: String,
        /// What comes out.
        result: DataType,
    },
    /// A value computed over the records that lead to this one.
    RollUp(RollUp),
    /// A file that the host keeps, by its description: a JSON object with a `name`, and what else
    /// the host needs to find it.
    File,
    /// A JSON document.
    Json {
        /// What it has to look like, in JSON Schema (draft 2020-12): up to 16 KB, without
        /// references to itself or to anything outside.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schema: Option<Json>,
    },
}

document_value!(
    CustomFieldType,
    "describe a type of fields, such as {\"type\": \"text\"}"
);

/// How the values of a field are kept (R-195, R-288). It follows from the field's type.
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

impl DataType {
    /// The type of a computed value.
    fn field_type(self) -> FieldType {
        match self {
            Self::String => FieldType::multiline(),
            Self::Integer => FieldType::Integer {
                min: i64::MIN,
                max: i64::MAX,
            },
            Self::Decimal => FieldType::decimal().with_digits(28, 10),
            Self::Boolean => FieldType::Boolean,
            Self::Date => FieldType::Date,
            Self::Timestamp => FieldType::Timestamp,
            Self::Json => FieldType::Json,
            Self::Uuid => FieldType::Uuid,
        }
    }
}

/// Limits of a text, within those of its type (R-068).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextLimits {
    /// The fewest characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_length: Option<u32>,
    /// The most characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
    /// A regular expression that the whole text matches, in the notation of ECMA 262 without
    /// look-around and back references: up to 1,000 characters, matched in linear time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

/// Limits of a whole number, within 32 bits (R-068).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntegerLimits {
    /// The least value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i32>,
    /// The greatest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i32>,
}

/// Limits of a decimal number, within those of its type (R-068).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecimalLimits {
    /// The least value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Decimal>,
    /// The greatest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Decimal>,
}

/// A value computed over the records that lead to a record, such as the sum of its open orders.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollUp {
    /// What is computed.
    pub function: RollUpFunction,
    /// The object whose records are taken.
    pub object: ApiName,
    /// The reference of that object that leads to this record.
    pub by: ApiName,
    /// The field that is taken; none for a count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<ApiName>,
    /// Which records are taken; all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// What comes out.
    pub result: DataType,
}

/// Does not show the filter: its values may be personal.
impl std::fmt::Debug for RollUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RollUp")
            .field("function", &self.function)
            .field("object", &self.object)
            .field("by", &self.by)
            .field("field", &self.field)
            .field("result", &self.result)
            .finish_non_exhaustive()
    }
}

/// What a roll-up computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RollUpFunction {
    /// How many records there are.
    Count,
    /// The sum of a field.
    Sum,
    /// The least value of a field.
    Min,
    /// The greatest value of a field.
    Max,
    /// The mean of a field.
    Average,
}

impl CustomFieldType {
    /// The name of the type in JSON, such as `master_detail`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Textarea(_) => "textarea",
            Self::Number(_) => "number",
            Self::Decimal(_) => "decimal",
            Self::Currency { .. } => "currency",
            Self::Percent(_) => "percent",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Datetime => "datetime",
            Self::Email => "email",
            Self::Url => "url",
            Self::Phone => "phone",
            Self::Picklist => "picklist",
            Self::Multipicklist => "multipicklist",
            Self::Lookup { .. } => "lookup",
            Self::MasterDetail { .. } => "master_detail",
            Self::Formula { .. } => "formula",
            Self::RollUp(_) => "roll_up",
            Self::File => "file",
            Self::Json { .. } => "json",
        }
    }

    /// How values of this type are kept.
    ///
    /// ```
    /// use crm_custom_objects::{CustomFieldType, DataType, DecimalLimits};
    ///
    /// let discount = CustomFieldType::Percent(DecimalLimits::default());
    /// assert_eq!(discount.data_type(), DataType::Decimal);
    /// ```
    #[must_use]
    pub const fn data_type(&self) -> DataType {
        match self {
            Self::Text(_)
            | Self::Textarea(_)
            | Self::Email
            | Self::Url
            | Self::Phone
            | Self::Picklist => DataType::String,
            Self::Number(_) => DataType::Integer,
            Self::Decimal(_) | Self::Currency { .. } | Self::Percent(_) => DataType::Decimal,
            Self::Boolean => DataType::Boolean,
            Self::Date => DataType::Date,
            Self::Datetime => DataType::Timestamp,
            Self::Multipicklist | Self::File | Self::Json { .. } => DataType::Json,
            Self::Lookup { .. } | Self::MasterDetail { .. } => DataType::Uuid,
            Self::Formula { result, .. } | Self::RollUp(RollUp { result, .. }) => *result,
        }
    }

    /// Whether the engine computes the values.
    #[must_use]
    pub const fn is_computed(&self) -> bool {
        matches!(self, Self::Formula { .. } | Self::RollUp(_))
    }

    /// Whether the field has options.
    #[must_use]
    pub const fn has_options(&self) -> bool {
        matches!(self, Self::Picklist | Self::Multipicklist)
    }

    /// The object that the values lead to.
    #[must_use]
    pub const fn target(&self) -> Option<&ApiName> {
        match self {
            Self::Lookup { object, .. } | Self::MasterDetail { object } => Some(object),
            _ => None,
        }
    }

    /// Limits of a decimal number.
    pub(crate) const fn decimal_limits(&self) -> DecimalLimits {
        match self {
            Self::Decimal(limits) | Self::Percent(limits) => *limits,
            Self::Currency { min, max, .. } => DecimalLimits {
                min: *min,
                max: *max,
            },
            _ => DecimalLimits {
                min: None,
                max: None,
            },
        }
    }

    /// What filters, sorting and grouping know of the values.
    pub(crate) fn field_type(&self, is_required: bool) -> FieldType {
        match self {
            Self::Text(limits) => FieldType::text(limits.max_length.unwrap_or(TEXT_LENGTH)),
            Self::Textarea(limits) => FieldType::Text {
                max_length: limits.max_length.unwrap_or(MULTILINE_LENGTH),
                multiline: true,
            },
            Self::Number(limits) => FieldType::Integer {
                min: limits.min.unwrap_or(i32::MIN).into(),
                max: limits.max.unwrap_or(i32::MAX).into(),
            },
            Self::Decimal(_) | Self::Currency { .. } => {
                let DecimalLimits { min, max } = self.decimal_limits();
                FieldType::Decimal {
                    precision: DIGITS.0,
                    scale: DIGITS.1,
                    min,
                    max,
                    currency_field: None,
                }
            }
            Self::Percent(_) => FieldType::Percent,
            Self::Boolean => FieldType::Boolean,
            Self::Date => FieldType::Date,
            Self::Datetime => FieldType::Timestamp,
            Self::Email => FieldType::Email,
            Self::Url => FieldType::Url {
                max_length: u32::try_from(HttpUrl::MAX_LENGTH).unwrap_or(u32::MAX),
            },
            Self::Phone => FieldType::Phone,
            Self::Picklist => FieldType::text(TEXT_LENGTH),
            Self::Multipicklist => FieldType::List,
            Self::Lookup { object, cascade } => {
                let on_delete = match (cascade, is_required) {
                    (true, _) => OnDelete::Cascade,
                    (false, true) => OnDelete::Restrict,
                    (false, false) => OnDelete::SetNull,
                };
                reference(object, on_delete)
            }
            Self::MasterDetail { object } => reference(object, OnDelete::Cascade),
            Self::Formula { result, .. } | Self::RollUp(RollUp { result, .. }) => {
                result.field_type()
            }
            Self::File | Self::Json { .. } => FieldType::Json,
        }
    }

    /// Adds what is wrong with the limits of the type, at paths below `path`.
    pub(crate) fn check(&self, path: &str, faults: &mut Faults) {
        match self {
            Self::Text(limits) => limits.check(path, faults, TEXT_LENGTH),
            Self::Textarea(limits) => limits.check(path, faults, MULTILINE_LENGTH),
            Self::Number(limits) => {
                if let (Some(min), Some(max)) = (limits.min, limits.max)
                    && min > max
                {
                    faults.add(format!("{path}.min"), codes::OUT_OF_RANGE, GREATEST_VALUE);
                }
            }
            Self::Decimal(_) | Self::Currency { .. } => {
                self.decimal_limits().check(path, faults, None);
            }
            Self::Percent(limits) => {
                limits.check(path, faults, Some((Decimal::ZERO, Decimal::ONE_HUNDRED)));
            }
            Self::Formula { expression, .. } => {
                let path = format!("{path}.expression");
                if expression.trim().is_empty() {
                    faults.add(path, codes::BLANK, "must not be blank");
                } else if expression.chars().count() > MULTILINE_LENGTH as usize {
                    let message = format!("use at most {MULTILINE_LENGTH} characters");
                    faults.add(path, codes::TOO_LONG, message);
                } else if expression.contains('\0') {
                    let message = "must not contain the NUL character";
                    faults.add(path, codes::NUL_CHARACTER, message);
                }
            }
            Self::RollUp(roll_up) => roll_up.check(path, faults),
            Self::Json {
                schema: Some(schema),
            } => {
                if let Err(fault) = json_schema::own(schema) {
                    faults.push(crm_core::error::FieldError {
                        path: format!("{path}.schema"),
                        ..fault
                    });
                }
            }
            _ => {}
        }
    }
}

fn reference(object: &ApiName, on_delete: OnDelete) -> FieldType {
    FieldType::Reference {
        object: Cow::Owned(object.to_string()),
        on_delete,
    }
}

const GREATEST_VALUE: &str = "use at most the greatest value";

impl TextLimits {
    // R-068: within the limit of the type.
    fn check(&self, path: &str, faults: &mut Faults, most: u32) {
        if self.max_length.is_some_and(|max| max == 0 || max > most) {
            let message = format!("use a number from 1 to {most}");
            faults.add(format!("{path}.max_length"), codes::OUT_OF_RANGE, message);
        }
        if self
            .min_length
            .is_some_and(|min| min > self.max_length.unwrap_or(most).min(most))
        {
            faults.add(
                format!("{path}.min_length"),
                codes::OUT_OF_RANGE,
                "use at most the greatest length",
            );
        }
        if let Some(text) = &self.pattern
            && let Err(message) = pattern::compile(text)
        {
            faults.add(format!("{path}.pattern"), pattern::INVALID, message);
        }
    }
}

impl DecimalLimits {
    // R-068: within the limits of the type.
    fn check(self, path: &str, faults: &mut Faults, within: Option<(Decimal, Decimal)>) {
        let digits = FieldType::Decimal {
            precision: DIGITS.0,
            scale: DIGITS.1,
            min: within.map(|(least, _)| least),
            max: within.map(|(_, greatest)| greatest),
            currency_field: None,
        };
        for (name, limit) in [("min", self.min), ("max", self.max)] {
            let Some(limit) = limit else { continue };
            if let Err(fault) = digits.coerce(limit.into()) {
                faults.push(fault.at(&format!("{path}.{name}")));
            }
        }
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min > max
        {
            faults.add(format!("{path}.min"), codes::OUT_OF_RANGE, GREATEST_VALUE);
        }
    }
}

impl RollUp {
    fn check(&self, path: &str, faults: &mut Faults) {
        let is_count = self.function == RollUpFunction::Count;
        if is_count == self.field.is_some() {
            let (code, message) = if is_count {
                (codes::INCONSISTENT, "a count takes no field")
            } else {
                (codes::REQUIRED, "name the field that is taken")
            };
            faults.add(format!("{path}.field"), code, message);
        }
        let (fits, message) = match self.function {
            RollUpFunction::Count => (self.result == DataType::Integer, "a count is an `integer`"),
            RollUpFunction::Average => (
                self.result == DataType::Decimal,
                "an average is a `decimal`",
            ),
            RollUpFunction::Sum => (
                matches!(self.result, DataType::Integer | DataType::Decimal),
                "a sum is an `integer` or a `decimal`",
            ),
            RollUpFunction::Min | RollUpFunction::Max => (
                matches!(
                    self.result,
                    DataType::Integer | DataType::Decimal | DataType::Date | DataType::Timestamp
                ),
                "the least and the greatest value are an `integer`, `decimal`, `date` or \
                 `timestamp`",
            ),
        };
        if !fits {
            faults.add(format!("{path}.result"), codes::INCONSISTENT, message);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashSet;

    use crm_core::value::TextValue;

    use super::*;

    /// One of each of the types.
    pub(crate) fn every_type() -> Vec<CustomFieldType> {
        let object = ApiName::parse("account").unwrap();
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
            CustomFieldType::Decimal(DecimalLimits {
                min: Some(Decimal::ONE),
                max: None,
            }),
            CustomFieldType::Currency {
                currency: Currency::parse("EUR").unwrap(),
                min: None,
                max: Some(Decimal::TEN),
            },
            CustomFieldType::Percent(DecimalLimits::default()),
            CustomFieldType::Boolean,
            CustomFieldType::Date,
            CustomFieldType::Datetime,
            CustomFieldType::Email,
            CustomFieldType::Url,
            CustomFieldType::Phone,
            CustomFieldType::Picklist,
            CustomFieldType::Multipicklist,
            CustomFieldType::Lookup {
                object: object.clone(),
                cascade: true,
            },
            CustomFieldType::MasterDetail {
                object: object.clone(),
            },
            CustomFieldType::Formula {
                expression: "1 + 1".into(),
                result: DataType::Integer,
            },
            CustomFieldType::RollUp(RollUp {
                function: RollUpFunction::Sum,
                object,
                by: ApiName::parse("parent_account_id").unwrap(),
                field: Some(ApiName::parse("annual_revenue").unwrap()),
                filter: Some(Filter::eq("industry", "software")),
                result: DataType::Decimal,
            }),
            CustomFieldType::File,
            CustomFieldType::Json {
                schema: Some(serde_json::json!({"type": "object"})),
            },
        ]
    }

    /// R-198, R-289: the 18 types, and JSON and roll-ups besides.
    #[test]
    fn every_type_has_its_name_and_round_trips() {
        let types = every_type();
        let names: HashSet<_> = types.iter().map(CustomFieldType::name).collect();
        assert_eq!(names.len(), 20);
        for field_type in types {
            let json = serde_json::to_value(&field_type).unwrap();
            assert_eq!(json["type"], field_type.name());
            assert_eq!(
                serde_json::from_value::<CustomFieldType>(json.clone()).unwrap(),
                field_type
            );
            let mut misspelt = json;
            misspelt["max_lenght"] = serde_json::json!(3);
            let read = serde_json::from_value::<CustomFieldType>(misspelt);
            assert!(
                read.is_err() || read.unwrap() == field_type,
                "{field_type:?}"
            );
            let mut faults = Faults::default();
            field_type.check("field_type", &mut faults);
            assert!(faults.is_empty(), "{field_type:?}: {faults:?}");
        }
    }

    /// R-067, R-068.
    #[test]
    fn limits_stay_within_those_of_the_type() {
        let faulty = |field_type: CustomFieldType| {
            let mut faults = Faults::default();
            field_type.check("field_type", &mut faults);
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
        let percent = |min: i64, max: i64| {
            CustomFieldType::Percent(DecimalLimits {
                min: Some(min.into()),
                max: Some(max.into()),
            })
        };
        assert!(!faulty(percent(0, 100)));
        assert!(faulty(percent(-1, 100)));
        assert!(faulty(percent(0, 101)));
        assert!(faulty(percent(50, 49)));
        let pattern = |pattern: &str| {
            CustomFieldType::Text(TextLimits {
                pattern: Some(pattern.into()),
                ..TextLimits::default()
            })
        };
        assert!(!faulty(pattern("[A-Z]{3}-\\d+")));
        for wrong in [
            "(",
            "a)|(b",
            "(?=a)",
            "(a)\\1",
            "(?x) a # b",
            "\\w{1000}{1000}",
        ] {
            assert!(faulty(pattern(wrong)), "{wrong}");
        }
    }
}

//! [`FieldSchema`]: all that is known about one field, and [`FieldType`]: what its values may be.

use std::borrow::Cow;

use rust_decimal::Decimal;
use serde::Serialize;

use super::{Value, ValueRef};
use crate::error::{FieldError, codes};
#[cfg(doc)]
use crate::value::{
    ApiName, Color, Country, Currency, DomainName, EmailAddress, HttpUrl, LanguageTag, Percent,
    PhoneNumber, Score, Subdomain, TimeZone,
};

/// The most characters a multi-line text may have.
pub const MULTILINE_LENGTH: u32 = 32_768;
/// The most entries a list may have.
pub const LIST_ENTRIES: usize = 100;
/// The most characters one entry of a list may have.
pub const LIST_ENTRY_LENGTH: usize = 100;
/// The most bytes the text form of a JSON field may have.
pub const JSON_BYTES: usize = 1_048_576;

/// What the values of a field may be.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FieldType {
    /// A text of at most `max_length` characters; a line break needs `multiline`.
    Text {
        /// The most characters.
        max_length: u32,
        /// Whether the text may have several lines.
        multiline: bool,
    },
    /// A whole number between `min` and `max`, both allowed.
    Integer {
        /// The least value.
        min: i64,
        /// The greatest value.
        max: i64,
    },
    /// An exact number with at most `precision` digits, of which at most `scale` are decimals.
    Decimal {
        /// The most digits in all.
        precision: u32,
        /// The most digits behind the point.
        scale: u32,
        /// The least value, if there is one.
        min: Option<Decimal>,
        /// The greatest value, if there is one.
        max: Option<Decimal>,
        /// For an amount of money, the field of the same record that holds its currency. Amounts
        /// of different currencies are never added (R-085).
        #[serde(skip_serializing_if = "Option::is_none")]
        currency_field: Option<Cow<'static, str>>,
    },
    /// True or false.
    Boolean,
    /// A calendar day.
    Date,
    /// A moment in UTC, to the microsecond.
    Timestamp,
    /// A UUID that is not a reference.
    Uuid,
    /// The id of a record of another object.
    Reference {
        /// The object referred to.
        object: Cow<'static, str>,
        /// What the deletion of that record does to this one.
        on_delete: OnDelete,
    },
    /// See [`EmailAddress`].
    Email,
    /// See [`PhoneNumber`]; the field holds the text as entered.
    Phone,
    /// See [`HttpUrl`].
    Url {
        /// The most characters.
        max_length: u32,
    },
    /// See [`Currency`].
    Currency,
    /// See [`Percent`].
    Percent,
    /// See [`Score`].
    Score,
    /// See [`Country`].
    Country,
    /// See [`LanguageTag`].
    Language,
    /// See [`TimeZone`].
    TimeZone,
    /// See [`Color`].
    Color,
    /// See [`ApiName`].
    ApiName,
    /// See [`Subdomain`].
    Subdomain,
    /// See [`DomainName`].
    Domain,
    /// One of a fixed list of options.
    Picklist {
        /// The stored texts of the options, in the order to show them.
        options: Cow<'static, [&'static str]>,
    },
    /// A list of texts without doubles, such as tags.
    List,
    /// A JSON document.
    Json,
}

/// What the deletion of a record does to the records that refer to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    /// The deletion is refused while such records exist.
    #[default]
    Restrict,
    /// The reference is emptied; a record that its own rules do not allow without it, as an activity
    /// without any other record (R-049), is deleted too.
    SetNull,
    /// Those records are deleted too.
    Cascade,
}

/// How a backend holds the values of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageKind {
    /// A text.
    Text,
    /// A 64-bit whole number.
    Integer,
    /// An exact decimal number.
    Decimal,
    /// True or false.
    Boolean,
    /// A calendar day.
    Date,
    /// A moment in UTC.
    Timestamp,
    /// A UUID.
    Uuid,
    /// A list of texts.
    List,
    /// A JSON document.
    Json,
}

/// Whom the values of a field are about, and so who may see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Privacy {
    /// About no person.
    #[default]
    Public,
    /// About a person: kept out of logs and errors, erased on request.
    Personal,
    /// A secret: also masked in the audit trail.
    Sensitive,
}

/// All that is known about one field.
///
/// Validation, filters, forms, import, audit and both backends read this one description.
///
/// ```
/// use crm_core::{contacts::Contact, schema::Entity};
///
/// let email = Contact::schema().field("email").expect("contacts have an e-mail address");
/// assert!(email.searchable && !email.required);
/// assert_eq!(email.label(), "Email");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldSchema {
    /// The name in filters, JSON and storage.
    pub name: Cow<'static, str>,
    /// The name as people read it, where that is not made from `name`: what a tenant calls its field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<Cow<'static, str>>,
    /// One sentence on what the field holds, from the struct's docs.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub help: Cow<'static, str>,
    /// What its values may be.
    #[serde(flatten)]
    pub field_type: FieldType,
    /// Whether a stored record always has a value.
    pub required: bool,
    /// Whether only the engine writes it.
    pub read_only: bool,
    /// Whether its value follows from other records, such as figures over deals: the engine keeps it in
    /// step with them at the end of every commit, so it is neither given back nor in the way when
    /// something is undone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_step: bool,
    /// Whom its values are about.
    pub privacy: Privacy,
    /// Whether the text search looks into it.
    pub searchable: bool,
    /// Whether backends keep an index on it.
    pub indexed: bool,
    /// Whether comparisons ignore case (R-088).
    pub ignore_case: bool,
    /// The value of a new record that names none.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub default: Value,
    /// Whether every object has it, such as `created_at`.
    pub system: bool,
    /// For a UUID that is the id of a record of any object, the field of the same record that names
    /// the object. Such a link is treated like a reference without a key in the database: it leads to
    /// a live record of the tenant or is a fault. If it is required, the record is deleted, restored
    /// and purged together with the one that it leads to; otherwise both fields are emptied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_of: Option<Cow<'static, str>>,
    /// For a text that holds a condition in the [language of expressions](crate::expression), the
    /// object over whose records it is: what looks for the uses of a field looks into it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition_of: Option<Cow<'static, str>>,
    /// For a field of a group that is there or missing as a whole, such as an address or a
    /// telephone number, the name of the group's first field. A merge takes such a group from one
    /// record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Cow<'static, str>>,
    /// Which value counts when records are merged and nobody chooses.
    #[serde(skip_serializing_if = "MergeRule::is_default")]
    pub merge: MergeRule,
}

/// Which value of a field counts when records are merged and nobody chooses (C-021).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeRule {
    /// As the type says: lists have the entries of all records, JSON objects the members of all,
    /// read-only fields stay as they are, and of anything else the survivor's value counts, or,
    /// where it has none, the first that there is.
    #[default]
    ByType,
    /// True if any record says so, and nobody can choose otherwise: for what a person refused
    /// (R-026).
    Any,
    /// The greatest value: for the last time that something happened.
    Greatest,
    /// The least value: for the next time that something is to happen.
    Least,
    /// The survivor's value, also where it has none.
    Survivor,
}

impl MergeRule {
    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_default(&self) -> bool {
        *self == Self::ByType
    }
}

impl FieldSchema {
    /// An optional, writable field.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, field_type: FieldType) -> Self {
        let ignore_case = matches!(
            field_type,
            FieldType::Email | FieldType::Subdomain | FieldType::Domain
        );
        Self {
            name: name.into(),
            title: None,
            help: Cow::Borrowed(""),
            field_type,
            required: false,
            read_only: false,
            in_step: false,
            privacy: Privacy::Public,
            searchable: false,
            indexed: false,
            ignore_case,
            default: Value::Null,
            system: false,
            record_of: None,
            condition_of: None,
            group: None,
            merge: MergeRule::ByType,
        }
    }

    /// The name as a person reads it: the title or, without one, `Annual revenue` of
    /// `annual_revenue`.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.title {
            Some(title) => title.to_string(),
            None => super::label(&self.name),
        }
    }

    /// How a backend holds the values.
    #[must_use]
    pub const fn storage_kind(&self) -> StorageKind {
        self.field_type.storage_kind()
    }

    /// The object referred to and what its deletion does, where the field is a reference.
    #[must_use]
    pub fn reference(&self) -> Option<(&str, OnDelete)> {
        match &self.field_type {
            FieldType::Reference { object, on_delete } => Some((object, *on_delete)),
            _ => None,
        }
    }

    /// Whether records can be sorted and grouped by the field.
    #[must_use]
    pub const fn is_sortable(&self) -> bool {
        !matches!(self.storage_kind(), StorageKind::List | StorageKind::Json)
    }

    /// Checks a value of the field's kind against lengths and ranges.
    ///
    /// # Errors
    /// The fault of the value, with the field's name as its path.
    pub(crate) fn check(&self, value: &ValueRef<'_>) -> Result<(), FieldError> {
        if value.is_null() {
            return if self.required {
                Err(FieldError::new(
                    &*self.name,
                    codes::REQUIRED,
                    "a value is required",
                ))
            } else {
                Ok(())
            };
        }
        if self.required && value.as_text().is_some_and(str::is_empty) {
            return Err(FieldError::new(
                &*self.name,
                codes::BLANK,
                "must not be blank",
            ));
        }
        self.field_type
            .check(value)
            .map_err(|fault| fault.at(&self.name))
    }
}

impl FieldType {
    /// A one-line text of at most `max_length` characters.
    #[must_use]
    pub const fn text(max_length: u32) -> Self {
        Self::Text {
            max_length,
            multiline: false,
        }
    }

    /// A text of several lines.
    #[must_use]
    pub const fn multiline() -> Self {
        Self::Text {
            max_length: MULTILINE_LENGTH,
            multiline: true,
        }
    }

    /// An exact number of 19 digits, four of them decimals: what an amount of money needs.
    #[must_use]
    pub const fn decimal() -> Self {
        Self::Decimal {
            precision: 19,
            scale: 4,
            min: None,
            max: None,
            currency_field: None,
        }
    }

    /// The type with another greatest length; types without a length stay as they are.
    #[must_use]
    pub fn with_max_length(mut self, length: u32) -> Self {
        if let Self::Text { max_length, .. } | Self::Url { max_length } = &mut self {
            *max_length = length;
        }
        self
    }

    /// The text type with several lines, as long as [`MULTILINE_LENGTH`] unless limited before.
    #[must_use]
    pub fn with_lines(mut self) -> Self {
        if let Self::Text {
            max_length,
            multiline,
        } = &mut self
        {
            *multiline = true;
            if *max_length == 255 {
                *max_length = MULTILINE_LENGTH;
            }
        }
        self
    }

    /// The number type with a least and a greatest value.
    #[must_use]
    pub fn with_range(mut self, least: Option<i64>, greatest: Option<i64>) -> Self {
        match &mut self {
            Self::Integer { min, max } => {
                *min = least.unwrap_or(*min);
                *max = greatest.unwrap_or(*max);
            }
            Self::Decimal { min, max, .. } => {
                *min = least.map(Decimal::from).or(*min);
                *max = greatest.map(Decimal::from).or(*max);
            }
            _ => {}
        }
        self
    }

    /// The decimal type with other numbers of digits.
    #[must_use]
    pub const fn with_digits(mut self, digits: u32, decimals: u32) -> Self {
        if let Self::Decimal {
            precision, scale, ..
        } = &mut self
        {
            *precision = digits;
            *scale = decimals;
        }
        self
    }

    /// The decimal type as an amount of money whose currency is in another field.
    #[must_use]
    pub fn with_currency(mut self, field: &'static str) -> Self {
        if let Self::Decimal { currency_field, .. } = &mut self {
            *currency_field = Some(Cow::Borrowed(field));
        }
        self
    }

    /// How a backend holds the values.
    #[must_use]
    pub const fn storage_kind(&self) -> StorageKind {
        match self {
            Self::Text { .. }
            | Self::Email
            | Self::Phone
            | Self::Url { .. }
            | Self::Currency
            | Self::Country
            | Self::Language
            | Self::TimeZone
            | Self::Color
            | Self::ApiName
            | Self::Subdomain
            | Self::Domain
            | Self::Picklist { .. } => StorageKind::Text,
            Self::Integer { .. } | Self::Score => StorageKind::Integer,
            Self::Decimal { .. } | Self::Percent => StorageKind::Decimal,
            Self::Boolean => StorageKind::Boolean,
            Self::Date => StorageKind::Date,
            Self::Timestamp => StorageKind::Timestamp,
            Self::Uuid | Self::Reference { .. } => StorageKind::Uuid,
            Self::List => StorageKind::List,
            Self::Json => StorageKind::Json,
        }
    }

    /// The most characters, where the type limits a text.
    #[must_use]
    pub const fn max_length(&self) -> Option<u32> {
        match self {
            Self::Text { max_length, .. } | Self::Url { max_length } => Some(*max_length),
            Self::Email => Some(254),
            Self::Phone => Some(50),
            Self::Subdomain => Some(63),
            Self::Domain => Some(253),
            Self::ApiName => Some(100),
            Self::Language => Some(35),
            Self::TimeZone => Some(50),
            Self::Color => Some(7),
            Self::Currency => Some(3),
            Self::Country => Some(2),
            Self::Picklist { .. } => Some(50),
            _ => None,
        }
    }
}

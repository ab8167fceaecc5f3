//! What can go wrong, in the terms of the engine's users.
//!
//! Messages are lower-case, say what to do, and never repeat a value: it may be personal data.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use crate::duplicates::DuplicateFound;
use crate::leads::{AlreadyConverted, ConversionInUse};
use crate::query::QueryError;
use crate::schema::{DefinitionInUse, Value};
use crate::storage::StorageError;

/// The result of an engine call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an engine call failed. Nothing was written.
///
/// ```
/// use crm_core::error::{Error, FieldError, ValidationError, codes};
///
/// let error = Error::from(FieldError::new("name", codes::REQUIRED, "a value is required"));
/// assert_eq!(error.to_string(), "1 field is not valid: `name` a value is required (required)");
/// assert!(!error.is_retryable());
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Fields of the input are faulty; every faulty field is listed.
    #[error(transparent)]
    Validation(#[from] ValidationError),
    /// There is no such record in the session's tenant.
    #[error("there is no {object} with this id")]
    NotFound {
        /// The object.
        object: String,
        /// The id that was asked for.
        id: Uuid,
    },
    /// The record was changed by somebody else since it was read: read it again.
    #[error("the {object} was changed since it was read; read it again and repeat the change")]
    Conflict {
        /// The object.
        object: String,
        /// The record.
        id: Uuid,
    },
    /// Another record already has these values.
    #[error("another {object} has the same {}", fields.join(" and "))]
    Duplicate {
        /// The object.
        object: String,
        /// The fields that must be unique together.
        fields: Vec<String>,
    },
    /// The record is a duplicate of others under a strict [rule](crate::duplicates).
    #[error(transparent)]
    DuplicateFound(Box<DuplicateFound>),
    /// The lead was converted before (R-083); names the records that it became.
    #[error(transparent)]
    AlreadyConverted(Box<AlreadyConverted>),
    /// Something else depends on what a conversion made; lists what.
    #[error(transparent)]
    ConversionInUse(Box<ConversionInUse>),
    /// The deletion is refused because other records refer to the record.
    #[error("the {object} is still referred to by the `{field}` of a {by}")]
    Reference {
        /// The object that was to be deleted.
        object: String,
        /// The object that refers to it.
        by: String,
        /// The field that refers to it.
        field: String,
    },
    /// Records or other definitions stand against a change of a tenant's field; lists them.
    #[error(transparent)]
    DefinitionInUse(Box<DefinitionInUse>),
    /// A business rule forbids the change.
    #[error(transparent)]
    Rule(#[from] RuleViolation),
    /// The session may not do this.
    #[error("not allowed: {reason}")]
    Forbidden {
        /// Why not.
        reason: Cow<'static, str>,
    },
    /// The filter, sort, cursor or aggregate is not valid.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The storage failed.
    #[error(transparent)]
    Storage(StorageError),
}

impl Error {
    /// Whether the same call may succeed when repeated as it is.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Conflict { .. } => true,
            Self::Storage(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// The faulty fields, where fields are the reason.
    #[must_use]
    pub fn field_errors(&self) -> &[FieldError] {
        match self {
            Self::Validation(error) => error.errors(),
            _ => &[],
        }
    }

    /// A stable code for the kind of error, for APIs and translations.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Validation(_) => "validation",
            Self::NotFound { .. } => "not_found",
            Self::Conflict { .. } => "conflict",
            Self::Duplicate { .. } => "duplicate",
            Self::DuplicateFound(_) => "duplicate_found",
            Self::AlreadyConverted(_) => "already_converted",
            Self::ConversionInUse(_) => "conversion_in_use",
            Self::Reference { .. } => "referenced",
            Self::DefinitionInUse(_) => "definition_in_use",
            Self::Rule(violation) => violation.code,
            Self::Forbidden { .. } => "forbidden",
            Self::Query(error) => error.code(),
            Self::Storage(_) => "storage",
        }
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Conflict { object, id } => Self::Conflict { object, id },
            StorageError::Duplicate { object, fields } => Self::Duplicate { object, fields },
            StorageError::Reference { field, .. } => Self::from(FieldError::missing_record(field)),
            StorageError::Referenced { object, by, field } => Self::Reference { object, by, field },
            other => Self::Storage(other),
        }
    }
}

/// A text that is not a value of its type, where no field is known yet.
impl From<crate::value::ValueError> for Error {
    fn from(error: crate::value::ValueError) -> Self {
        FieldError::new("value", error.code(), error.message().to_owned()).into()
    }
}

impl From<FieldError> for Error {
    fn from(error: FieldError) -> Self {
        Self::Validation(ValidationError(vec![error]))
    }
}

/// Every faulty field of one call.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct ValidationError(Vec<FieldError>);

impl ValidationError {
    /// The faults, in the order of the schema's fields.
    #[must_use]
    pub fn errors(&self) -> &[FieldError] {
        &self.0
    }

    /// The faults, owned.
    #[must_use]
    pub fn into_errors(self) -> Vec<FieldError> {
        self.0
    }
}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "1 field is not valid: ")?,
            count => write!(f, "{count} fields are not valid: ")?,
        }
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ValidationError {}

impl From<FieldError> for ValidationError {
    fn from(error: FieldError) -> Self {
        Self(vec![error])
    }
}

/// One faulty field.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldError {
    /// The field, such as `email` or `custom_fields.renewal_date`.
    pub path: String,
    /// A stable code; see [`codes`].
    pub code: &'static str,
    /// What is wrong and what would be right, without the value.
    pub message: Cow<'static, str>,
    /// The limits that the message names, for translations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<&'static str, Value>,
}

impl FieldError {
    /// A fault of the field at `path`.
    pub fn new(
        path: impl Into<String>,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            path: path.into(),
            code,
            message: message.into(),
            params: BTreeMap::new(),
        }
    }

    /// Adds a limit that the message names.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.params.insert(name, value.into());
        self
    }

    /// The field refers to a record that is not there. A record of another tenant looks the same.
    #[must_use]
    pub fn missing_record(path: impl Into<String>) -> Self {
        Self::new(
            path,
            codes::NOT_FOUND,
            "refers to a record that does not exist",
        )
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {} ({})", self.path, self.message, self.code)
    }
}

/// Collects the faults of one call, so that all are reported together.
///
/// ```
/// use crm_core::error::{Faults, codes};
///
/// let mut faults = Faults::default();
/// faults.add("last_name", codes::REQUIRED, "a value is required");
/// assert!(faults.into_result().is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults(Vec<FieldError>);

impl Faults {
    /// Adds a fault of the field at `path`.
    pub fn add(
        &mut self,
        path: impl Into<String>,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) {
        self.push(FieldError::new(path, code, message));
    }

    /// Adds a fault, unless the same fault of the same field is already there. A field that has
    /// another fault is missing only because its value was refused, so that is not told too.
    pub fn push(&mut self, error: FieldError) {
        let is_told = self.0.iter().any(|known| {
            known.path == error.path && (known.code == error.code || error.code == codes::REQUIRED)
        });
        if !is_told {
            self.0.push(error);
        }
    }

    /// Whether the field at `path` already has a fault.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.0.iter().any(|error| error.path == path)
    }

    /// Whether there is no fault.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults as an error, or nothing.
    ///
    /// # Errors
    /// All faults, where there are any.
    pub fn into_result(self) -> Result<(), ValidationError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(ValidationError(self.0))
        }
    }
}

/// A business rule forbids the change.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize)]
#[error("{message} ({rule})")]
#[non_exhaustive]
pub struct RuleViolation {
    /// A stable code, such as `cycle`.
    pub code: &'static str,
    /// The number of the rule, such as `R-016`.
    pub rule: &'static str,
    /// What the rule forbids and what would be allowed.
    pub message: Cow<'static, str>,
}

impl RuleViolation {
    /// Says that `rule` forbids a change.
    pub fn new(
        code: &'static str,
        rule: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            code,
            rule,
            message: message.into(),
        }
    }
}

/// The stable codes of [`FieldError`]s that the engine itself gives; value types add their own,
/// such as `invalid_email`.
pub mod codes {
    /// A value is required.
    pub const REQUIRED: &str = "required";
    /// The text is blank.
    pub const BLANK: &str = "blank";
    /// The text or document is too long.
    pub const TOO_LONG: &str = "too_long";
    /// The list has too many entries.
    pub const TOO_MANY: &str = "too_many";
    /// The number or date is outside the allowed range.
    pub const OUT_OF_RANGE: &str = "out_of_range";
    /// The number has more decimals than the field holds.
    pub const TOO_MANY_DECIMALS: &str = "too_many_decimals";
    /// The value is of another kind than the field holds.
    pub const WRONG_TYPE: &str = "wrong_type";
    /// The text is none of the options.
    pub const NOT_AN_OPTION: &str = "not_an_option";
    /// The text contains the NUL character.
    pub const NUL_CHARACTER: &str = "nul_character";
    /// A one-line text contains a line break.
    pub const LINE_BREAK: &str = "line_break";
    /// The object has no such field.
    pub const UNKNOWN_FIELD: &str = "unknown_field";
    /// Only the engine writes the field.
    pub const READ_ONLY: &str = "read_only";
    /// The field refers to a record that is not there.
    pub const NOT_FOUND: &str = "not_found";
    /// The value contradicts another field of the record.
    pub const INCONSISTENT: &str = "inconsistent";
    /// The date is in the past.
    pub const PAST: &str = "past";
}

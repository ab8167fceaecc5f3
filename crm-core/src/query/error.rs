//! What can be wrong with a query.

use std::borrow::Cow;

/// Why a filter, sort, cursor or aggregate is not valid. Values are not repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The JSON is not a filter.
    #[error("not a filter: {0}")]
    Malformed(Cow<'static, str>),
    /// The object does not exist.
    #[error("there is no object `{0}`")]
    UnknownObject(String),
    /// The object has no such field.
    #[error("`{object}` has no field `{field}`")]
    UnknownField {
        /// The object.
        object: String,
        /// The name as it was given.
        field: String,
    },
    /// The value is not one that the field can hold.
    #[error("the value for `{field}` {reason}")]
    WrongType {
        /// The field.
        field: String,
        /// What the value must be.
        reason: Cow<'static, str>,
    },
    /// The field cannot be used in this way.
    #[error("`{field}` cannot be used with `{operation}`")]
    Unsupported {
        /// The field.
        field: String,
        /// The operator, sort or measure.
        operation: Cow<'static, str>,
    },
    /// The field does not lead from the one object to the other.
    #[error(
        "`{object}` does not lead to `{target}` by `{field}`; {}",
        Fitting(fitting)
    )]
    NoReference {
        /// The object whose records should lead there.
        object: String,
        /// The field as it was given.
        field: String,
        /// The object that is filtered.
        target: String,
        /// The fields that do lead there.
        fitting: Vec<String>,
    },
    /// The filter is nested too deeply.
    #[error("the filter is nested more than {max} deep")]
    TooDeep {
        /// The greatest depth.
        max: usize,
    },
    /// The filter has too many conditions or values.
    #[error("the filter has more than {max} {what}")]
    TooLarge {
        /// What there are too many of.
        what: &'static str,
        /// The greatest number.
        max: usize,
    },
    /// The cursor was made by another query, or was damaged.
    #[error("the cursor does not belong to this query; start again without it")]
    Cursor,
    /// Amounts of different currencies would be added.
    #[error(
        "amounts of several currencies are never added: group by `{currency_field}` or filter on one"
    )]
    MixedCurrencies {
        /// The field with the currency.
        currency_field: String,
    },
    /// The sum has more digits than a decimal holds.
    #[error("the sum of `{field}` is too large")]
    Overflow {
        /// The field.
        field: String,
    },
}

/// Says which fields would fit.
struct Fitting<'a>(&'a [String]);

impl std::fmt::Display for Fitting<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some((first, rest)) = self.0.split_first() else {
            return f.write_str("no field of it does");
        };
        write!(f, "use `{first}`")?;
        rest.iter().try_for_each(|name| write!(f, " or `{name}`"))
    }
}

impl QueryError {
    /// A stable code, for APIs and translations.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed_filter",
            Self::UnknownObject(_) => "unknown_object",
            Self::UnknownField { .. } => "unknown_field",
            Self::WrongType { .. } => "wrong_type",
            Self::Unsupported { .. } => "unsupported",
            Self::NoReference { .. } => "no_reference",
            Self::TooDeep { .. } => "too_deep",
            Self::TooLarge { .. } => "too_large",
            Self::Cursor => "invalid_cursor",
            Self::MixedCurrencies { .. } => "mixed_currencies",
            Self::Overflow { .. } => "overflow",
        }
    }
}

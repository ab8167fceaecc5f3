//! What can be wrong with an expression: when it is defined ([`Fault`]) and when it is evaluated
//! ([`EvaluationError`]).

use std::fmt;

use serde::Serialize;

use crate::error::FieldError;

/// A part of the source, in bytes from its begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        let short = |place| u32::try_from(place).unwrap_or(u32::MAX);
        Self {
            start: short(start),
            end: short(end),
        }
    }

    /// From the begin of this one to the end of another.
    pub(super) const fn to(self, other: Self) -> Self {
        Self {
            start: self.start,
            end: other.end,
        }
    }
}

/// The stable codes of [`Fault`]s. What a constant part of an expression would fail with when it is
/// evaluated is told when it is defined, with the code of the [`Problem`].
pub mod codes {
    /// The source does not follow the grammar.
    pub const SYNTAX: &str = "syntax";
    /// The source is longer than [`MAX_SOURCE_BYTES`](crate::expression::MAX_SOURCE_BYTES).
    pub const TOO_LONG: &str = "too_long";
    /// The source is nested deeper than [`MAX_DEPTH`](crate::expression::MAX_DEPTH).
    pub const TOO_DEEP: &str = "too_deep";
    /// There are more parts than [`MAX_NODES`](crate::expression::MAX_NODES).
    pub const TOO_MANY_NODES: &str = "too_many_nodes";
    /// A list or call has more entries than [`MAX_LIST`](crate::expression::MAX_LIST).
    pub const TOO_MANY: &str = "too_many";
    /// A path follows more references than
    /// [`MAX_REFERENCES`](crate::expression::MAX_REFERENCES).
    pub const TOO_MANY_REFERENCES: &str = "too_many_references";
    /// There is no such field.
    pub const UNKNOWN_FIELD: &str = "unknown_field";
    /// The member of the document has no definition, so its type is not known.
    pub const UNDEFINED_FIELD: &str = "undefined_field";
    /// The field is a document, which has no type as a whole.
    pub const UNTYPED_FIELD: &str = "untyped_field";
    /// The path goes on behind a field that is not a reference.
    pub const NOT_A_REFERENCE: &str = "not_a_reference";
    /// There is no such function.
    pub const UNKNOWN_FUNCTION: &str = "unknown_function";
    /// The function takes another number of arguments.
    pub const ARGUMENTS: &str = "wrong_number_of_arguments";
    /// A part is of a type that does not fit.
    pub const WRONG_TYPE: &str = "wrong_type";
    /// Something is compared with `null`, which is never true.
    pub const NULL_COMPARISON: &str = "null_comparison";
    /// Comparisons are chained.
    pub const CHAINED_COMPARISON: &str = "chained_comparison";
    /// The text is none of the options of the field.
    pub const NOT_AN_OPTION: &str = "not_an_option";
    /// The field must not be looked at here.
    pub const UNSUPPORTED: &str = "unsupported";
    /// The expression is nothing but `null`.
    pub const NO_TYPE: &str = "no_type";
}

/// One fault of an expression that is being defined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// A stable code; see [`codes`].
    pub code: &'static str,
    /// Where it is.
    pub span: Span,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            message,
            code,
            ..
        } = self;
        write!(f, "line {line}, column {column}: {message} ({code})")
    }
}

/// Why an expression cannot be defined: every fault that was found, in the order of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ExpressionError(Vec<Fault>);

impl ExpressionError {
    /// The faults.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.0
    }

    /// The faults as those of the field at `path`, which holds the source.
    ///
    /// ```
    /// use crm_core::expression::Expression;
    ///
    /// let refused = Expression::parse("amount >").unwrap_err();
    /// let errors = refused.at("condition");
    /// assert_eq!((errors[0].path.as_str(), errors[0].code), ("condition", "syntax"));
    /// ```
    #[must_use]
    pub fn at(&self, path: &str) -> Vec<FieldError> {
        self.0
            .iter()
            .map(|fault| {
                let Fault {
                    line,
                    column,
                    message,
                    ..
                } = fault;
                let message = format!("at line {line}, column {column}: {message}");
                FieldError::new(path, fault.code, message)
                    .with("line", i64::from(*line))
                    .with("column", i64::from(*column))
            })
            .collect()
    }
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("; ")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ExpressionError {}

/// A fault whose line and column are not yet known.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) span: Span,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Found {
    pub(super) fn new(span: Span, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            span,
            code,
            message,
        }
    }
}

/// Faults that were found in a source, with their lines and columns.
pub(super) fn located(source: &str, mut found: Vec<Found>) -> ExpressionError {
    found.sort_by_key(|fault| fault.span.start);
    let faults = found.into_iter().map(|found| {
        let before = source.get(..found.span.start as usize).unwrap_or(source);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Fault {
            code: found.code,
            span: found.span,
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            message: found.message,
        }
    });
    ExpressionError(faults.collect())
}

/// Why an expression has no value for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
    /// A number has more digits than a decimal holds.
    Overflow,
    /// Something is divided by zero.
    DivisionByZero,
    /// Amounts of different currencies are added or compared (R-085).
    CurrencyMismatch,
    /// A text is not a number.
    NotANumber,
    /// A number that must be whole is not.
    NotWhole,
    /// A text is not a date or moment.
    NotADate,
    /// A text is not an id.
    NotAnId,
    /// A text is not a currency.
    UnknownCurrency,
    /// A text is not a time zone.
    UnknownTimeZone,
    /// A number, date or moment is outside the range that the function takes or gives.
    OutOfRange,
    /// A text is longer than [`MAX_TEXT_BYTES`](super::MAX_TEXT_BYTES).
    TextTooLong,
    /// The evaluation takes more than [`MAX_STEPS`](super::MAX_STEPS) steps.
    TooManySteps,
    /// The source of values gave one of another type than the scope had promised.
    WrongType,
}

impl Problem {
    /// A stable code, for APIs and translations.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::DivisionByZero => "division_by_zero",
            Self::CurrencyMismatch => "currency_mismatch",
            Self::NotANumber => "not_a_number",
            Self::NotWhole => "not_whole",
            Self::NotADate => "not_a_date",
            Self::NotAnId => "not_an_id",
            Self::UnknownCurrency => "unknown_currency",
            Self::UnknownTimeZone => "unknown_time_zone",
            Self::OutOfRange => "out_of_range",
            Self::TextTooLong => "text_too_long",
            Self::TooManySteps => "too_many_steps",
            Self::WrongType => "wrong_type",
        }
    }

    /// What is wrong and what would be right.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Overflow => "the number has more than 28 digits",
            Self::DivisionByZero => "something is divided by zero; guard it with `if`",
            Self::CurrencyMismatch => {
                "amounts of different currencies are added or compared; use amounts of one currency"
            }
            Self::NotANumber => "the text is not a number; write it like 12.5",
            Self::NotWhole => "the number must be whole; use `round` or `floor`",
            Self::NotADate => {
                "the text is not a date or moment; write 2026-01-31 or 2026-01-31T12:00:00Z"
            }
            Self::NotAnId => "the text is not an id; write a UUID",
            Self::UnknownCurrency => "the text is not a currency; write its ISO 4217 code, as EUR",
            Self::UnknownTimeZone => "the text is not a time zone; write it like Europe/Berlin",
            Self::OutOfRange => "a number or date is outside the range of the function",
            Self::TextTooLong => "the text becomes too long",
            Self::TooManySteps => "the evaluation takes too many steps",
            Self::WrongType => "a value is of another type than its field",
        }
    }
}

/// Why an expression has no value for a record, and which part of it.
///
/// ```
/// use crm_core::expression::{Context, Expression, Problem, RowValues};
/// # use crm_core::{accounts::Account, expression::ObjectScope, schema::{Entity, Registry}};
/// # use crm_core::{Actor, Record, Stamp, schema::Meta};
/// # let (id, at) = (uuid::Uuid::nil(), chrono::DateTime::UNIX_EPOCH);
/// # let meta = Meta::first(id, Stamp { at, by: Actor::System });
/// # let account = Record::new(meta, Account { employee_count: Some(0), ..Account::new("Globex") });
/// # let registry = Registry::default();
/// # let context = Context::at(at, crm_core::value::TimeZone::UTC);
/// let share = Expression::parse("1 / employee_count")?;
/// let share = share.check(&ObjectScope::new(Account::schema(), &registry))?;
/// let error = share.evaluate(&RowValues::new(&account), &context).unwrap_err();
/// assert_eq!(error.problem, Problem::DivisionByZero);
/// # Ok::<(), crm_core::expression::ExpressionError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{} ({})", problem.message(), problem.code())]
pub struct EvaluationError {
    /// What is wrong.
    pub problem: Problem,
    /// The part of the source.
    pub span: Span,
}

//! [`Failure`]: what a backend got wrong, and the macros that find out.

use std::error::Error as StdError;
use std::fmt;
use std::panic::Location;

use crate::error::Faults;
use crate::query::QueryError;
use crate::storage::StorageError;
use crate::value::ValueError;

/// What a case of the suite expected and what came instead.
#[derive(Clone, Debug)]
pub struct Failure {
    case: &'static str,
    message: String,
    at: &'static Location<'static>,
}

/// How a case ended.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with a message that says what was expected and what came.
    #[must_use]
    #[track_caller]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            case: "",
            message: message.into(),
            at: Location::caller(),
        }
    }

    #[track_caller]
    pub(super) fn differs(
        what: impl fmt::Display,
        expected: &dyn fmt::Debug,
        came: &dyn fmt::Debug,
    ) -> Self {
        Self::new(format!(
            "{what}\n  expected: {expected:?}\n  came:     {came:?}"
        ))
    }

    pub(super) const fn of(mut self, case: &'static str) -> Self {
        self.case = case;
        self
    }

    /// The case that failed.
    #[must_use]
    pub const fn case(&self) -> &'static str {
        self.case
    }

    /// What was expected and what came.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "case `{}`: {} ({}:{})",
            self.case,
            self.message,
            self.at.file(),
            self.at.line()
        )
    }
}

impl StdError for Failure {}

impl From<StorageError> for Failure {
    #[track_caller]
    fn from(error: StorageError) -> Self {
        let mut message = format!("expected the storage to succeed; it answered: {error}");
        let mut source = error.source();
        while let Some(inner) = source {
            message.push_str(&format!(": {inner}"));
            source = inner.source();
        }
        Self::new(message)
    }
}

impl From<QueryError> for Failure {
    #[track_caller]
    fn from(error: QueryError) -> Self {
        Self::new(format!(
            "the suite asked for what does not fit the schema: {error}"
        ))
    }
}

impl From<ValueError> for Failure {
    #[track_caller]
    fn from(error: ValueError) -> Self {
        Self::new(format!("the suite holds a value that is none: {error}"))
    }
}

impl From<Faults> for Failure {
    #[track_caller]
    fn from(faults: Faults) -> Self {
        Self::new(format!(
            "the suite holds values that do not fit the schema: {faults:?}"
        ))
    }
}

/// Fails the case unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::storage::conformance::Failure::new(format!($($message)+)));
        }
    };
}

/// Fails the case unless what came is what was expected.
macro_rules! ensure_eq {
    ($came:expr, $expected:expr, $($what:tt)+) => {{
        let (came, expected) = (&$came, &$expected);
        if came != expected {
            return Err($crate::storage::conformance::Failure::differs(
                format_args!($($what)+),
                expected,
                came,
            ));
        }
    }};
}

pub(super) use {ensure, ensure_eq};

//! The language of formulas, rules between fields, gates and conditions: typed, without loops,
//! clock or I/O, and with limits on everything.
//!
//! ```
//! use crm_core::deals::Deal;
//! use crm_core::expression::{Context, Datum, Expression, ObjectScope, RowValues, Type};
//! use crm_core::schema::{Entity, Registry};
//! # use crm_core::schema::Meta;
//! # use crm_core::{Actor, Id, Record, Stamp, value::TimeZone};
//! # let (id, at) = (uuid::Uuid::nil(), chrono::DateTime::UNIX_EPOCH);
//! # let meta = Meta::first(id, Stamp { at, by: Actor::System });
//! # let deal = Deal { amount: Some(12_000.into()), ..Deal::new("Rollout", Id::from(id)) };
//! # let (deal, now) = (Record::new(meta, deal), at);
//!
//! let registry = Registry::default();
//! let scope = ObjectScope::new(Deal::schema(), &registry);
//!
//! // Defined once: read and type-checked.
//! let expected = Expression::parse("amount * win_probability / 100")?.check(&scope)?;
//! assert_eq!(expected.result_type(), Type::Money);
//!
//! // Evaluated for a record.
//! let (values, context) = (RowValues::new(&deal), Context::at(now, TimeZone::UTC));
//! let value = expected.evaluate(&values, &context)?;
//! assert_eq!(value, Datum::Money("0 USD".parse()?));
//!
//! // What does not fit is refused with its place and what to do, all faults at once.
//! let refused = Expression::parse("amount > 1000 and stauts = 'open'")?.check(&scope).unwrap_err();
//! assert_eq!(
//!     refused.faults()[0].to_string(),
//!     "line 1, column 1: `>` does not compare money with number; write the amount with its \
//!      currency, as money(1000, \"EUR\"), or take the number of the other one by `amount` \
//!      (wrong_type)",
//! );
//! assert_eq!(
//!     refused.faults()[1].to_string(),
//!     "line 1, column 19: there is no field `stauts`; did you mean `status`? (unknown_field)",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The source
//!
//! - Fields by their names: `amount`, `custom_fields.region`, and `region` for the same where the
//!   object has no field of that name. A reference is followed by its own name,
//!   `account_id.industry` and `account_id.owner_id.email`, over at most [`MAX_REFERENCES`]
//!   references.
//! - Values: texts in single or double quotes (a quote within is doubled: `'it''s'`), numbers
//!   (`12.5`), `true`, `false`, `null`; dates, moments, ids and amounts by functions:
//!   `date("2026-01-31")`, `datetime("2026-01-31T12:00:00Z")`, `id("..")`, `money(10, "EUR")`.
//! - Operators, from those that bind weakest: `or`; `and`; `not`; `=` (or `==`), `!=` (or `<>`), `<`,
//!   `<=`, `>`, `>=`, `in`, `not in`, `is null`, `is not null`, which are not chained; `&`; `+`, `-`;
//!   `*`, `/`, `%`; the sign `-`. `&` and `+` join texts.
//! - `in` looks among values, `status in ("open", "won")`, or in a list, `"key" in tags`.
//! - [Functions](#functions). Their names, and the words above, are read in any letter case; names of
//!   fields are not. Words that a field in front of a path cannot be called by are told by
//!   [`is_reserved`].
//!
//! # Types
//!
//! A part of an expression is of one [`Type`], and nothing changes its type silently: `text(5)` is
//! the text of a number. Numbers are exact decimals of 28 digits; more is an error, never a wrong
//! value; a quotient is rounded to what fits. An amount of money carries its currency: amounts of two
//! currencies are neither added nor compared (R-085), an amount times or through a number is an
//! amount, through an amount of the same currency it is a number. Only zero is compared without a
//! currency: `amount > 0`. A date plus or minus a number is so many days later or earlier, and the
//! difference of two dates is the days between them. Texts compare by their UTF-8 bytes, so with
//! letter case; `=`, `!=` and `in` ignore it for fields that do so in filters (R-088).
//!
//! # Null
//!
//! A field without a value is null, and whatever is computed from null is null, comparisons too. As in
//! SQL, `and` and `or` know three truths: `false and null` is false, `true or null` is true, else null
//! stays null. `x in (..)` is null if it is not found and one of the values is null. These look at
//! null: `is null`, `is not null`, `coalesce`, `is_blank`, `concat` and `join` (which leave it
//! out), `if` and `case` (for which null is not true). A record fulfils a
//! condition that is true, and breaks a rule that is false: see [`Typed::decide`].
//!
//! # Limits
//!
//! A source has at most [`MAX_SOURCE_BYTES`], [`MAX_NODES`] parts nested [`MAX_DEPTH`] deep, and
//! [`MAX_LIST`] entries in a list or call. An evaluation takes at most [`MAX_STEPS`] steps and makes
//! texts of at most [`MAX_TEXT_BYTES`]. There are no loops, so an evaluation takes as long as its
//! source is long.
//!
//! # Functions
//!
//! The table is [`FUNCTIONS`]; a `?` marks arguments that may be left out, `...` those that may be
//! repeated.
//!
#![doc = include_str!("functions.md")]

mod check;
mod datum;
mod evaluate;
mod fault;
mod functions;
mod graph;
mod lexer;
mod parser;
mod scope;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

pub use datum::{Datum, Type};
pub use evaluate::Context;
pub use fault::{EvaluationError, ExpressionError, Fault, Problem, Span, codes};
pub use functions::{FUNCTIONS, Function, Parameter, Returns};
pub use graph::{DependencyCycle, evaluation_order};
pub use scope::{
    At, CustomFields, Dependency, Field, ObjectScope, PathFault, Place, RowValues, Scope, Values,
};
pub use tree::Path;

use crate::error::FieldError;
use crate::schema::Privacy;
use evaluate::{Code, Evaluation};
use functions::Budget;
use tree::Node;

/// The most bytes that a source may have.
pub const MAX_SOURCE_BYTES: usize = 8_192;
/// How deep a source may be nested; `a + b + c` counts as 3.
pub const MAX_DEPTH: usize = 100;
/// The most parts (fields, values, operators, calls) that a source may have.
pub const MAX_NODES: usize = 500;
/// The most values behind `in`, and the most arguments of a call.
pub const MAX_LIST: usize = 100;
/// The most references that a path may follow.
pub const MAX_REFERENCES: usize = 5;
/// The most steps that an evaluation may take: one for each part of the source, and one for every
/// 64 bytes of each text that is made.
pub const MAX_STEPS: u32 = 10_000;
/// The most bytes of a text that an evaluation makes: four for each character of the longest text
/// that a field holds.
pub const MAX_TEXT_BYTES: usize = 131_072;
/// The greatest exponent of `power`, without its sign.
pub const MAX_EXPONENT: u64 = 64;

/// Whether a name cannot be that of a field in front of a path, as it is a word of the language.
///
/// ```
/// use crm_core::expression::is_reserved;
///
/// assert!(is_reserved("null") && !is_reserved("date"));
/// ```
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let keywords = parser::KEYWORDS.iter();
    keywords
        .into_iter()
        .any(|word| word.eq_ignore_ascii_case(name))
}

/// Reads and checks an expression that a definition or a setting holds in its field `path`, and that
/// is to be of one type: of [`Type::Boolean`] for a condition.
///
/// ```
/// use crm_core::deals::Deal;
/// use crm_core::expression::{ObjectScope, Type, compile};
/// use crm_core::schema::{Entity, Registry};
///
/// let registry = Registry::default();
/// let scope = ObjectScope::new(Deal::schema(), &registry);
/// let faults = compile("amount", &scope, Type::Boolean, "entry_condition").unwrap_err();
/// assert_eq!((faults[0].path.as_str(), faults[0].code), ("entry_condition", "wrong_type"));
/// ```
///
/// # Errors
/// Every fault, with its line and column. A field whose values are kept out of sight is one too.
pub fn compile(
    source: &str,
    scope: &dyn Scope,
    expected: Type,
    path: &str,
) -> Result<Typed, Vec<FieldError>> {
    let typed = Expression::parse(source)
        .and_then(|expression| expression.check_as(scope, expected))
        .map_err(|error| error.at(path))?;
    if typed.privacy() == Privacy::Sensitive {
        let message = "must not name a field whose values are kept out of sight";
        return Err(vec![FieldError::new(path, codes::UNSUPPORTED, message)]);
    }
    Ok(typed)
}

/// A source that was read: its grammar is right, its types are not yet known.
///
/// It prints in one canonical form, which reads back as the same expression, and is its source as it
/// was written in JSON. Expressions are equal if their canonical forms are.
///
/// ```
/// use crm_core::expression::Expression;
///
/// let rule: Expression = "NOT(end_date<start_date)OR(1+2)*3==9".parse()?;
/// assert_eq!(rule.to_string(), "not end_date < start_date or (1 + 2) * 3 = 9");
/// # Ok::<(), crm_core::expression::ExpressionError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Expression {
    source: Box<str>,
    tree: Node,
    parts: usize,
}

impl Expression {
    /// Reads a source.
    ///
    /// # Errors
    /// What does not follow the grammar, and a source beyond the limits.
    pub fn parse(source: &str) -> Result<Self, ExpressionError> {
        let (tree, parts) = parser::parse(source)?;
        Ok(Self {
            source: source.into(),
            tree,
            parts,
        })
    }

    /// The source as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Checks the types by the fields of a scope.
    ///
    /// # Errors
    /// Every unknown field and function, every part whose type does not fit, and constants that
    /// have no value, such as `1 / 0`.
    pub fn check(&self, scope: &dyn Scope) -> Result<Typed, ExpressionError> {
        self.checked(scope, None)
    }

    /// Checks the types, and that the whole is of one type: of [`Type::Boolean`] for a condition.
    /// `null` alone is of any type.
    ///
    /// # Errors
    /// Like [`check`](Self::check), and if the whole is of another type.
    pub fn check_as(&self, scope: &dyn Scope, expected: Type) -> Result<Typed, ExpressionError> {
        self.checked(scope, Some(expected))
    }

    fn checked(&self, scope: &dyn Scope, expected: Option<Type>) -> Result<Typed, ExpressionError> {
        let fitting = check::check(&self.tree, scope, expected)
            .map_err(|faults| fault::located(&self.source, faults))?;
        Ok(Typed {
            expression: self.clone(),
            code: fitting.code,
            value_type: fitting.value_type,
            is_nullable: fitting.is_nullable,
            is_volatile: fitting.is_volatile,
            dependencies: fitting.dependencies.into(),
        })
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.tree == other.tree
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tree.fmt(f)
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(source: &str) -> Result<Self, ExpressionError> {
        Self::parse(source)
    }
}

impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = String::deserialize(deserializer)?;
        Self::parse(&source).map_err(D::Error::custom)
    }
}

/// An expression whose types fit, ready to be evaluated for many records.
#[derive(Clone)]
pub struct Typed {
    expression: Expression,
    code: Code,
    value_type: Type,
    is_nullable: bool,
    is_volatile: bool,
    dependencies: Box<[Dependency]>,
}

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed")
            .field("expression", &self.expression.to_string())
            .field("value_type", &self.value_type)
            .finish_non_exhaustive()
    }
}

impl Typed {
    /// What was checked.
    #[must_use]
    pub const fn expression(&self) -> &Expression {
        &self.expression
    }

    /// The type of the value.
    #[must_use]
    pub const fn result_type(&self) -> Type {
        self.value_type
    }

    /// Whether the value may be null.
    #[must_use]
    pub const fn is_nullable(&self) -> bool {
        self.is_nullable
    }

    /// Whether the value changes with time alone: the expression uses `today()` or `now()`.
    #[must_use]
    pub const fn is_volatile(&self) -> bool {
        self.is_volatile
    }

    /// The fields that the expression names, those of other records included, each once and in the
    /// order of the source.
    ///
    /// ```
    /// use crm_core::deals::Deal;
    /// use crm_core::expression::{Expression, ObjectScope};
    /// use crm_core::schema::{Entity, Registry};
    ///
    /// let registry = Registry::default();
    /// registry.register::<crm_core::accounts::Account>();
    /// let scope = ObjectScope::new(Deal::schema(), &registry);
    /// let label = Expression::parse(r#"name & ", " & account_id.name"#)?.check(&scope)?;
    /// let [own, related] = label.dependencies() else { panic!("two fields") };
    /// assert!(own.is_own());
    /// let (reference, object) = related.references().next().expect("a reference");
    /// assert_eq!(object.name(), "account");
    /// assert_eq!(Deal::schema().field_name(reference.index), "account_id");
    /// # Ok::<(), crm_core::expression::ExpressionError>(())
    /// ```
    #[must_use]
    pub fn dependencies(&self) -> &[Dependency] {
        &self.dependencies
    }

    /// Whom the value is about: the strictest of what the fields are.
    #[must_use]
    pub fn privacy(&self) -> Privacy {
        let rank = |privacy: &Privacy| match privacy {
            Privacy::Public => 0,
            Privacy::Personal => 1,
            Privacy::Sensitive => 2,
        };
        let fields = self.dependencies.iter().map(|known| known.field.privacy);
        fields.max_by_key(rank).unwrap_or_default()
    }

    /// The value for a record; texts are borrowed from it where they can be.
    ///
    /// # Errors
    /// If the value cannot be computed, such as a quotient by zero; never for its types, if `values`
    /// gives what the scope promised.
    pub fn evaluate<'a, V: Values + ?Sized>(
        &'a self,
        values: &'a V,
        context: &'a Context,
    ) -> Result<Datum<'a>, EvaluationError> {
        Evaluation {
            dependencies: &self.dependencies,
            values,
            context,
            budget: Budget::new(self.expression.parts),
        }
        .of(&self.code)
    }

    /// The answer of a condition for a record; `None` where it is null.
    ///
    /// A gate or filter takes records for which the answer is `Some(true)`; a rule is broken by those
    /// for which it is `Some(false)`, so that `end_date >= start_date` asks nothing of a record
    /// without an end.
    ///
    /// # Errors
    /// Like [`evaluate`](Self::evaluate), and if the expression is no condition.
    ///
    /// ```
    /// # use crm_core::{accounts::Account, Actor, Record, Stamp, schema::Meta, value::TimeZone};
    /// use crm_core::expression::{Context, Expression, ObjectScope, RowValues, Type};
    /// use crm_core::schema::{Entity, Registry};
    /// # let (id, at) = (uuid::Uuid::nil(), chrono::DateTime::UNIX_EPOCH);
    /// # let meta = Meta::first(id, Stamp { at, by: Actor::System });
    /// # let account = Record::new(meta, Account::new("Globex"));
    ///
    /// let registry = Registry::default();
    /// let scope = ObjectScope::new(Account::schema(), &registry);
    /// let large = Expression::parse("employee_count > 500")?.check_as(&scope, Type::Boolean)?;
    /// let context = Context::at(at, TimeZone::UTC);
    /// // The account has no number of employees.
    /// assert_eq!(large.decide(&RowValues::new(&account), &context)?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn decide<V: Values + ?Sized>(
        &self,
        values: &V,
        context: &Context,
    ) -> Result<Option<bool>, EvaluationError> {
        let span = self.expression.tree.span;
        self.evaluate(values, context)?
            .truth()
            .map_err(|problem| EvaluationError { problem, span })
    }
}

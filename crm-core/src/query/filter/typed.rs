//! [`Where`]: filters built from typed handles.

use std::marker::PhantomData;

use super::{Comparison, Filter, ListMatch, TextMatch};
use crate::Id;
use crate::query::Sort;
use crate::schema::{Entity, FieldOf, FieldValue, Value};

/// A [`Filter`] over `E`, built from typed handles: a handle of another object does not compile.
///
/// ```compile_fail
/// use crm_core::query::Find;
/// use crm_core::{accounts::Account, contacts::Contact};
///
/// Find::<Contact>::new().filter(Account::INDUSTRY.eq("software"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Where<E> {
    filter: Filter,
    marker: PhantomData<fn() -> E>,
}

impl<E> Where<E> {
    pub(in crate::query) const fn new(filter: Filter) -> Self {
        Self {
            filter,
            marker: PhantomData,
        }
    }

    /// Takes every record.
    #[must_use]
    pub const fn all() -> Self {
        Self::new(Filter::all())
    }

    /// The filter.
    #[must_use]
    pub fn into_filter(self) -> Filter {
        self.filter
    }
}

impl<E> From<Where<E>> for Filter {
    fn from(typed: Where<E>) -> Self {
        typed.filter
    }
}

/// Joins typed filters.
pub trait WhereExt: Sized {
    /// Both must be fulfilled.
    #[must_use]
    fn and(self, other: Self) -> Self;

    /// One of them must be fulfilled.
    #[must_use]
    fn or(self, other: Self) -> Self;

    /// The opposite.
    #[must_use]
    fn negate(self) -> Self;
}

impl<E> WhereExt for Where<E> {
    fn and(self, other: Self) -> Self {
        Self::new(match (self.filter, other.filter) {
            (Filter::And(mut all), Filter::And(more)) => {
                all.extend(more);
                Filter::And(all)
            }
            (Filter::And(mut all), one) => {
                all.push(one);
                Filter::And(all)
            }
            (one, other) => Filter::And(vec![one, other]),
        })
    }

    fn or(self, other: Self) -> Self {
        Self::new(match (self.filter, other.filter) {
            (Filter::Or(mut all), one) => {
                all.push(one);
                Filter::Or(all)
            }
            (one, other) => Filter::Or(vec![one, other]),
        })
    }

    fn negate(self) -> Self {
        Self::new(Filter::Not(Box::new(self.filter)))
    }
}

fn owned<T: FieldValue>(value: impl Into<T>) -> Value {
    value.into().value().into_owned()
}

macro_rules! comparisons {
    ($($name:ident $op:ident $doc:literal;)*) => {$(
        #[doc = $doc]
        #[must_use]
        pub fn $name(self, value: impl Into<T>) -> Where<E> {
            Where::new(Filter::Compare {
                field: self.name(),
                op: Comparison::$op,
                value: owned::<T>(value),
            })
        }
    )*};
}

impl<E, T: FieldValue> FieldOf<E, T> {
    comparisons! {
        eq Eq "The field is `value`.";
        ne Ne "The field is not `value`, or has none.";
        lt Lt "The field is less than `value`.";
        le Le "The field is at most `value`.";
        gt Gt "The field is greater than `value`.";
        ge Ge "The field is at least `value`.";
    }

    /// The field is one of `values`.
    #[must_use]
    pub fn one_of<V: Into<T>>(self, values: impl IntoIterator<Item = V>) -> Where<E> {
        let values = values.into_iter().map(owned::<T>).collect();
        Where::new(Filter::In {
            field: self.name(),
            values,
        })
    }

    /// The field is between two values, both included.
    #[must_use]
    pub fn between(self, from: impl Into<T>, to: impl Into<T>) -> Where<E> {
        Where::new(Filter::Between {
            field: self.name(),
            from: owned::<T>(from),
            to: owned::<T>(to),
        })
    }

    /// The field has no value.
    #[must_use]
    pub fn is_null(self) -> Where<E> {
        Where::new(Filter::Null {
            field: self.name(),
            is_null: true,
        })
    }

    /// The field has a value.
    #[must_use]
    pub fn is_not_null(self) -> Where<E> {
        Where::new(Filter::Null {
            field: self.name(),
            is_null: false,
        })
    }

    /// The text begins with `text`, ignoring case.
    #[must_use]
    pub fn starts_with(self, text: impl Into<String>) -> Where<E> {
        Where::new(Filter::Text {
            field: self.name(),
            op: TextMatch::StartsWith,
            text: text.into(),
        })
    }

    /// The text contains `text`, ignoring case.
    #[must_use]
    pub fn contains(self, text: impl Into<String>) -> Where<E> {
        Where::new(Filter::Text {
            field: self.name(),
            op: TextMatch::Contains,
            text: text.into(),
        })
    }

    /// The list has at least one of these entries.
    #[must_use]
    pub fn any_of<V: Into<String>>(self, entries: impl IntoIterator<Item = V>) -> Where<E> {
        let values = entries.into_iter().map(Into::into).collect();
        Where::new(Filter::List {
            field: self.name(),
            op: ListMatch::Any,
            values,
        })
    }

    /// The list has all of these entries.
    #[must_use]
    pub fn all_of<V: Into<String>>(self, entries: impl IntoIterator<Item = V>) -> Where<E> {
        let values = entries.into_iter().map(Into::into).collect();
        Where::new(Filter::List {
            field: self.name(),
            op: ListMatch::All,
            values,
        })
    }

    /// From the least value to the greatest, records without a value last.
    #[must_use]
    pub fn asc(self) -> Sort {
        Sort {
            field: self.name(),
            descending: false,
        }
    }

    /// From the greatest value to the least, records without a value first.
    #[must_use]
    pub fn desc(self) -> Sort {
        Sort {
            field: self.name(),
            descending: true,
        }
    }
}

impl<E, T: Entity> FieldOf<E, Id<T>> {
    /// The record that the reference leads to fulfils `filter`.
    ///
    /// ```
    /// use crm_core::{accounts::Account, deals::Deal};
    ///
    /// let software_deals = Deal::ACCOUNT_ID.has(Account::INDUSTRY.eq("software"));
    /// ```
    #[must_use]
    pub fn has(self, filter: Where<T>) -> Where<E> {
        Where::new(Filter::Has {
            field: self.name(),
            filter: Box::new(filter.filter),
        })
    }
}

impl<E: Entity, T: Entity> FieldOf<E, Id<T>> {
    /// At least one record leads here by the reference and fulfils `filter`. Deleted records do not
    /// count, archived ones do; negated, there is none.
    ///
    /// ```
    /// use crm_core::query::{Filter, Where, WhereExt};
    /// use crm_core::{accounts::Account, contacts::Contact, deals::Deal};
    ///
    /// let with_large_deals: Where<Account> = Deal::ACCOUNT_ID.any(Deal::AMOUNT.gt(100_000));
    /// let without_contacts = Contact::ACCOUNT_ID.any(Where::all()).negate();
    ///
    /// let by_name: Filter = serde_json::from_value(serde_json::json!(
    ///     {"not": {"any": "contact", "by": "account_id"}}
    /// ))?;
    /// assert_eq!(by_name, without_contacts.into_filter());
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn any(self, filter: Where<E>) -> Where<T> {
        Where::new(Filter::Any {
            object: E::schema().name().to_owned().into(),
            by: self.name(),
            filter: Box::new(filter.filter),
        })
    }
}

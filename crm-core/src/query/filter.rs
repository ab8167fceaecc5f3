//! [`Filter`] and its JSON form; [`Where`] builds it from typed handles.

mod parse;
mod typed;

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use uuid::Uuid;

pub use typed::{Where, WhereExt};

use super::{QueryError, TreePart};
use crate::schema::Value;

/// How a field is compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// Equal.
    Eq,
    /// Not equal, or no value.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
}

impl Comparison {
    /// The name in the JSON form.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Lt => "lt",
            Self::Le => "lte",
            Self::Gt => "gt",
            Self::Ge => "gte",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Eq, Self::Ne, Self::Lt, Self::Le, Self::Gt, Self::Ge]
            .into_iter()
            .find(|comparison| comparison.name() == name)
    }
}

/// How a text is searched, ignoring case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TextMatch {
    /// The text begins with the value.
    StartsWith,
    /// The value is anywhere in the text.
    Contains,
}

impl TextMatch {
    /// The name in the JSON form.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StartsWith => "starts_with",
            Self::Contains => "contains",
        }
    }
}

/// How a list is compared with other entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListMatch {
    /// At least one of the entries is in the list.
    Any,
    /// All entries are in the list.
    All,
}

impl ListMatch {
    /// The name in the JSON form.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "any_of",
            Self::All => "all_of",
        }
    }
}

/// Which records to take. Fields are named as in the schema; `custom_fields.region` names a member
/// of a JSON field.
///
/// The JSON form is what a host's API can accept:
///
/// ```
/// use crm_core::query::Filter;
///
/// let filter: Filter = serde_json::from_str(r#"{"and": [
///     {"field": "amount", "op": "gte", "value": "10000"},
///     {"field": "status", "op": "in", "value": ["open", "won"]},
///     {"field": "expected_close_date", "op": "between", "value": ["2026-01-01", "2026-03-31"]},
///     {"field": "tags", "op": "any_of", "value": ["renewal"]},
///     {"field": "account_id", "has": {"field": "industry", "op": "eq", "value": "software"}},
///     {"field": "account_id", "within": "01890a5d-ac96-774b-bcce-b302099a8057"},
///     {"any": "deal_line", "by": "deal_id", "where": {"field": "quantity", "op": "gt", "value": 10}},
///     {"not": {"field": "next_step", "op": "is_null"}}
/// ]}"#)?;
/// let again: Filter = serde_json::from_str(&serde_json::to_string(&filter)?)?;
/// assert_eq!(filter, again);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Filter {
    /// A field compared with a value.
    Compare {
        /// The field.
        field: Cow<'static, str>,
        /// How.
        op: Comparison,
        /// The value.
        value: Value,
    },
    /// A field has one of several values.
    In {
        /// The field.
        field: Cow<'static, str>,
        /// The values.
        values: Vec<Value>,
    },
    /// A field is between two values, both included.
    Between {
        /// The field.
        field: Cow<'static, str>,
        /// The least value.
        from: Value,
        /// The greatest value.
        to: Value,
    },
    /// A field has no value, or has one.
    Null {
        /// The field.
        field: Cow<'static, str>,
        /// Whether it must have none.
        is_null: bool,
    },
    /// A text field begins with a text or contains it, ignoring case.
    Text {
        /// The field.
        field: Cow<'static, str>,
        /// How.
        op: TextMatch,
        /// The text.
        text: String,
    },
    /// A list field has any or all of some entries, in the same case.
    List {
        /// The field.
        field: Cow<'static, str>,
        /// How.
        op: ListMatch,
        /// The entries.
        values: Vec<String>,
    },
    /// The record that a reference leads to fulfils another filter.
    Has {
        /// The reference.
        field: Cow<'static, str>,
        /// The filter over the other object.
        filter: Box<Filter>,
    },
    /// At least one record of another object leads to this one by a reference and fulfils another
    /// filter. Deleted records do not count, archived ones do.
    Any {
        /// The other object.
        object: Cow<'static, str>,
        /// Its reference to this record.
        by: Cow<'static, str>,
        /// The filter over the other object.
        filter: Box<Filter>,
    },
    /// A reference leads into a part of the tree that the records of the other object form; the
    /// field `id` stands for the record itself.
    InTree {
        /// The reference, or `id`.
        field: Cow<'static, str>,
        /// Which part of the tree.
        part: TreePart,
        /// The record that the part is seen from.
        of: Uuid,
        /// The reference of the other object to its own kind that makes the tree; the first where
        /// none is named.
        by: Option<Cow<'static, str>>,
    },
    /// All of these; every record where there is none.
    And(Vec<Filter>),
    /// Any of these; no record where there is none.
    Or(Vec<Filter>),
    /// Not this.
    Not(Box<Filter>),
}

impl Filter {
    /// The greatest depth of nesting.
    pub const MAX_DEPTH: usize = 12;
    /// The most conditions in one filter.
    pub const MAX_CONDITIONS: usize = 200;
    /// The most values in one `in`, `any_of` or `all_of`.
    pub const MAX_VALUES: usize = 1_000;

    /// Takes every record.
    #[must_use]
    pub const fn all() -> Self {
        Self::And(Vec::new())
    }

    fn is_all(&self) -> bool {
        matches!(self, Self::And(all) if all.is_empty())
    }

    /// Takes the records that `filter` takes too.
    pub(crate) fn narrowed(self, filter: Self) -> Self {
        if self.is_all() {
            return filter;
        }
        Self::And(vec![self, filter])
    }

    /// Takes the records in which `field` is `value`.
    pub fn eq(field: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        Self::Compare {
            field: field.into(),
            op: Comparison::Eq,
            value: value.into(),
        }
    }

    /// Reads the JSON form, with errors that say what is wrong where.
    ///
    /// # Errors
    /// [`QueryError::Malformed`] or [`QueryError::TooDeep`].
    pub fn from_json(json: &Json) -> Result<Self, QueryError> {
        parse::parse(json, 1)
    }

    fn to_json(&self) -> Json {
        let values = |values: &[Value]| Json::Array(values.iter().map(Value::to_json).collect());
        match self {
            Self::Compare { field, op, value } => {
                json!({"field": field, "op": op.name(), "value": value.to_json()})
            }
            Self::In { field, values: all } => {
                json!({"field": field, "op": "in", "value": values(all)})
            }
            Self::Between { field, from, to } => {
                json!({"field": field, "op": "between", "value": [from.to_json(), to.to_json()]})
            }
            Self::Null { field, is_null } => {
                json!({"field": field, "op": if *is_null { "is_null" } else { "is_not_null" }})
            }
            Self::Text { field, op, text } => {
                json!({"field": field, "op": op.name(), "value": text})
            }
            Self::List { field, op, values } => {
                json!({"field": field, "op": op.name(), "value": values})
            }
            Self::Has { field, filter } => json!({"field": field, "has": filter.to_json()}),
            Self::Any { object, by, filter } => {
                let mut json = json!({"any": object, "by": by});
                if let (false, Some(members)) = (filter.is_all(), json.as_object_mut()) {
                    members.insert("where".to_owned(), filter.to_json());
                }
                json
            }
            Self::InTree {
                field,
                part,
                of,
                by,
            } => {
                let mut json = json!({"field": field, part.name(): of});
                if let (Some(by), Some(members)) = (by, json.as_object_mut()) {
                    members.insert("by".to_owned(), json!(by));
                }
                json
            }
            Self::And(all) => json!({"and": all.iter().map(Self::to_json).collect::<Vec<_>>()}),
            Self::Or(all) => json!({"or": all.iter().map(Self::to_json).collect::<Vec<_>>()}),
            Self::Not(filter) => json!({"not": filter.to_json()}),
        }
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self::all()
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        Self::from_json(&json).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: Json) -> String {
        Filter::from_json(&json).unwrap_err().to_string()
    }

    #[test]
    fn malformed_filters_say_what_is_wrong() {
        assert!(error(json!(5)).contains("expected an object"));
        assert!(error(json!({"op": "eq"})).contains("expected `field`"));
        assert!(error(json!({"field": "a"})).contains("needs an `op`"));
        assert!(error(json!({"field": "a", "op": "eq"})).contains("needs a `value`"));
        assert!(error(json!({"field": "a", "op": "like", "value": 1})).contains("unknown `op`"));
        assert!(error(json!({"field": "a", "op": "in", "value": 1})).contains("takes a list"));
        assert!(error(json!({"field": "a", "op": "between", "value": [1]})).contains("two"));
        assert!(error(json!({"field": "a", "op": "is_null", "value": 1})).contains("no `value`"));
        assert!(error(json!({"and": [], "or": []})).contains("stands alone"));
        assert!(error(json!({"field": "a", "op": "eq", "value": 1, "x": 1})).contains("`x`"));
        assert!(error(json!({"field": "a", "within": 5})).contains("`within` takes the id"));
        assert!(error(json!({"field": "a", "path_to": "x"})).contains("`path_to` takes the id"));
        let id = Uuid::from_u128(1);
        assert!(error(json!({"field": "a", "within": id, "op": "eq"})).contains("only `field`"));
        assert!(error(json!({"field": "a", "within": id, "by": 1})).contains("name of a field"));
        assert!(error(json!({"field": "a", "within": id, "path_to": id})).contains("only `field`"));
        assert!(error(json!({"field": "a", "by": "b"})).contains("stands beside"));
        assert!(error(json!({"any": "a"})).contains("`by` takes the name of a reference"));
        assert!(error(json!({"any": 1, "by": "b"})).contains("`any` takes the name of an object"));
        assert!(error(json!({"any": "a", "by": "b", "field": "c"})).contains("only `by`"));
        assert!(
            error(json!({"any": "a", "by": "b", "where": null})).contains("expected an object")
        );
    }

    #[test]
    fn what_leads_to_a_record_comes_back_from_json() {
        for filter in [Filter::all(), Filter::Or(Vec::new()), Filter::eq("c", "d")] {
            let filter = Filter::Any {
                object: "a".into(),
                by: "b".into(),
                filter: Box::new(filter),
            };
            assert_eq!(Filter::from_json(&filter.to_json()), Ok(filter));
        }
    }

    #[test]
    fn parts_of_trees_come_back_from_json() {
        for part in TreePart::ALL {
            for by in [None, Some("parent_id".into())] {
                let filter = Filter::InTree {
                    field: "a".into(),
                    part,
                    of: Uuid::from_u128(7),
                    by,
                };
                assert_eq!(Filter::from_json(&filter.to_json()), Ok(filter));
            }
        }
    }

    #[test]
    fn deep_nesting_ends_with_an_error() {
        let mut json = json!({"field": "a", "op": "is_null"});
        for _ in 0..100 {
            json = json!({"not": json});
        }
        assert_eq!(
            Filter::from_json(&json),
            Err(QueryError::TooDeep {
                max: Filter::MAX_DEPTH
            })
        );
    }
}

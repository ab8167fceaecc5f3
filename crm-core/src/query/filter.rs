//! [`Filter`], its JSON form, and [`Where`], which builds it from typed handles.

use std::borrow::Cow;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{QueryError, Sort, TreePart};
use crate::Id;
use crate::schema::{Entity, FieldOf, FieldValue, Value};

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
        parse(json, 1)
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

fn malformed(message: impl Into<Cow<'static, str>>) -> QueryError {
    QueryError::Malformed(message.into())
}

fn parse(json: &Json, depth: usize) -> Result<Filter, QueryError> {
    if depth > Filter::MAX_DEPTH {
        return Err(QueryError::TooDeep {
            max: Filter::MAX_DEPTH,
        });
    }
    let Json::Object(members) = json else {
        return Err(malformed(
            "expected an object such as {\"field\": .., \"op\": .., \"value\": ..}",
        ));
    };
    let only = |name: &str| -> Result<(), QueryError> {
        if members.len() == 1 {
            Ok(())
        } else {
            Err(malformed(format!("`{name}` stands alone")))
        }
    };
    if let Some(all) = members.get("and") {
        only("and")?;
        return Ok(Filter::And(parse_all(all, "and", depth)?));
    }
    if let Some(all) = members.get("or") {
        only("or")?;
        return Ok(Filter::Or(parse_all(all, "or", depth)?));
    }
    if let Some(filter) = members.get("not") {
        only("not")?;
        return Ok(Filter::Not(Box::new(parse(filter, depth + 1)?)));
    }
    if members.contains_key("any") {
        return parse_any(members, depth);
    }
    parse_field(members, depth)
}

fn parse_any(members: &Map<String, Json>, depth: usize) -> Result<Filter, QueryError> {
    let beside = |name: &String| !matches!(name.as_str(), "any" | "by" | "where");
    if members.keys().any(beside) {
        return Err(malformed("`any` takes only `by` and `where` beside it"));
    }
    let text = |name: &str, what: &str| match members.get(name) {
        Some(Json::String(text)) => Ok(Cow::Owned(text.clone())),
        _ => Err(malformed(format!("`{name}` takes the name of {what}"))),
    };
    let filter = match members.get("where") {
        Some(filter) => parse(filter, depth + 1)?,
        None => Filter::all(),
    };
    Ok(Filter::Any {
        object: text("any", "an object")?,
        by: text("by", "a reference of that object")?,
        filter: Box::new(filter),
    })
}

fn parse_all(json: &Json, name: &str, depth: usize) -> Result<Vec<Filter>, QueryError> {
    let Json::Array(all) = json else {
        return Err(malformed(format!("`{name}` takes a list of filters")));
    };
    all.iter().map(|filter| parse(filter, depth + 1)).collect()
}

fn parse_field(members: &Map<String, Json>, depth: usize) -> Result<Filter, QueryError> {
    let field: Cow<'static, str> = match members.get("field") {
        Some(Json::String(field)) => Cow::Owned(field.clone()),
        _ => return Err(malformed("expected `field`, `any`, `and`, `or` or `not`")),
    };
    if let Some(unknown) = members.keys().find(|name| {
        let of_tree = TreePart::ALL.iter().any(|part| part.name() == **name);
        !of_tree && !matches!(name.as_str(), "field" | "op" | "value" | "has" | "by")
    }) {
        return Err(malformed(format!("unknown member `{unknown}`")));
    }
    if let Some(filter) = members.get("has") {
        if members.len() != 2 {
            return Err(malformed("`has` takes only `field` beside it"));
        }
        return Ok(Filter::Has {
            field,
            filter: Box::new(parse(filter, depth + 1)?),
        });
    }
    for part in TreePart::ALL {
        if let Some(of) = members.get(part.name()) {
            return parse_tree(field, part, of, members);
        }
    }
    if members.contains_key("by") {
        return Err(malformed("`by` stands beside `within` or `path_to`"));
    }
    let Some(Json::String(op)) = members.get("op") else {
        return Err(malformed(format!("`{field}` needs an `op`")));
    };
    let value = members.get("value");
    if matches!(op.as_str(), "is_null" | "is_not_null") {
        if value.is_some() {
            return Err(malformed(format!("`{op}` takes no `value`")));
        }
        return Ok(Filter::Null {
            field,
            is_null: op == "is_null",
        });
    }
    let Some(value) = value else {
        return Err(malformed(format!("`{op}` needs a `value`")));
    };
    if let Some(op) = Comparison::from_name(op) {
        return Ok(Filter::Compare {
            field,
            op,
            value: Value::from_json(value.clone()),
        });
    }
    match (op.as_str(), value) {
        ("in", Json::Array(values)) => Ok(Filter::In {
            field,
            values: values.iter().cloned().map(Value::from_json).collect(),
        }),
        ("between", Json::Array(values)) => match values.as_slice() {
            [from, to] => Ok(Filter::Between {
                field,
                from: Value::from_json(from.clone()),
                to: Value::from_json(to.clone()),
            }),
            _ => Err(malformed("`between` takes a list of two values")),
        },
        ("starts_with", Json::String(text)) => Ok(Filter::Text {
            field,
            op: TextMatch::StartsWith,
            text: text.clone(),
        }),
        ("contains", Json::String(text)) => Ok(Filter::Text {
            field,
            op: TextMatch::Contains,
            text: text.clone(),
        }),
        ("any_of", Json::Array(values)) => Ok(Filter::List {
            field,
            op: ListMatch::Any,
            values: texts(values)?,
        }),
        ("all_of", Json::Array(values)) => Ok(Filter::List {
            field,
            op: ListMatch::All,
            values: texts(values)?,
        }),
        ("in" | "between" | "any_of" | "all_of", _) => {
            Err(malformed(format!("`{op}` takes a list")))
        }
        ("starts_with" | "contains", _) => Err(malformed(format!("`{op}` takes a text"))),
        _ => Err(malformed(
            "unknown `op`: expected eq, ne, lt, lte, gt, gte, in, between, is_null, is_not_null, \
             starts_with, contains, any_of or all_of",
        )),
    }
}

fn parse_tree(
    field: Cow<'static, str>,
    part: TreePart,
    of: &Json,
    members: &Map<String, Json>,
) -> Result<Filter, QueryError> {
    let name = part.name();
    let by = match members.get("by") {
        None => None,
        Some(Json::String(by)) => Some(Cow::Owned(by.clone())),
        Some(_) => return Err(malformed("`by` takes the name of a field")),
    };
    if members.len() != 2 + usize::from(by.is_some()) {
        return Err(malformed(format!(
            "`{name}` takes only `field` and `by` beside it"
        )));
    }
    let of = of.as_str().and_then(|id| Uuid::parse_str(id).ok());
    let of = of.ok_or_else(|| malformed(format!("`{name}` takes the id of a record")))?;
    Ok(Filter::InTree {
        field,
        part,
        of,
        by,
    })
}

fn texts(values: &[Json]) -> Result<Vec<String>, QueryError> {
    values
        .iter()
        .map(|value| match value {
            Json::String(text) => Ok(text.clone()),
            _ => Err(malformed("`any_of` and `all_of` take a list of texts")),
        })
        .collect()
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
    pub(super) const fn new(filter: Filter) -> Self {
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

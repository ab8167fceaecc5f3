//! The JSON form of filters, read with errors that say what is wrong.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::{Comparison, Filter, ListMatch, TextMatch};
use crate::query::{QueryError, TreePart};
use crate::schema::Value;

fn malformed(message: impl Into<Cow<'static, str>>) -> QueryError {
    QueryError::Malformed(message.into())
}

pub(super) fn parse(json: &Json, depth: usize) -> Result<Filter, QueryError> {
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

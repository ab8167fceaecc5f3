//! What never reaches the audit trail.

use crm_core::schema::Value;
use serde_json::{Map, Value as Json};

/// What stands in the trail for a value that must not.
pub const MASK: &str = "***";

/// The only member of what stands in the trail for a value that was erased.
pub(crate) const ERASED: &str = "erased";

/// The only member of what stands in the trail for a value that looks like one of the two, and is none.
const VERBATIM: &str = "verbatim";

/// Names of values that are secrets wherever they stand (R-009).
const NAMES: [&str; 5] = ["ssn", "tax_id", "credit_card", "bank_account", "api_key"];

/// What makes every name that has it in it such a name.
const PARTS: [&str; 2] = ["password", "secret"];

/// Whether a value of this name is a secret, also as a member of a JSON field (R-009).
///
/// ```
/// use crm_audit::is_sensitive_name;
///
/// assert!(is_sensitive_name("api_key"));
/// assert!(is_sensitive_name("smtpPassword"));
/// assert!(!is_sensitive_name("job_title"));
/// ```
#[must_use]
pub fn is_sensitive_name(name: &str) -> bool {
    let has = |part: &str| {
        let mut windows = name.as_bytes().windows(part.len());
        windows.any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
    };
    NAMES.iter().any(|other| name.eq_ignore_ascii_case(other)) || PARTS.into_iter().any(has)
}

/// The value without what must not reach the trail.
pub(crate) fn masked(value: Value) -> Value {
    match value {
        Value::Json(mut json) => {
            mask_members(&mut json);
            Value::Json(json)
        }
        other => other,
    }
}

fn mask_members(json: &mut Json) {
    match json {
        Json::Object(members) => {
            for (name, member) in members.iter_mut() {
                if is_sensitive_name(name) && !member.is_null() {
                    *member = Json::String(MASK.to_owned());
                } else {
                    mask_members(member);
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(mask_members),
        _ => {}
    }
}

/// A value as the trail keeps it: without secrets, and with what users wrote told apart from what
/// stands for values that are not kept.
pub(crate) fn recorded(value: Value) -> Value {
    masked(marked(value))
}

/// The value with each part that looks like a mask, or like what is left of an erased value, wrapped
/// in a document whose only member says so.
fn marked(value: Value) -> Value {
    match value {
        Value::Text(text) if text == MASK => Value::Json(wrapped(Json::String(text))),
        Value::List(entries) if entries.iter().any(|entry| entry == MASK) => {
            let entries = entries.into_iter().map(Json::String);
            Value::Json(marked_json(Json::Array(entries.collect())))
        }
        Value::Json(json) => Value::Json(marked_json(json)),
        other => other,
    }
}

fn marked_json(json: Json) -> Json {
    match json {
        Json::String(text) if text == MASK => wrapped(Json::String(text)),
        Json::Array(items) => Json::Array(items.into_iter().map(marked_json).collect()),
        Json::Object(members) => {
            let members = members.into_iter();
            wrapped_alike(
                members
                    .map(|(name, json)| (name, marked_json(json)))
                    .collect(),
            )
        }
        other => other,
    }
}

/// A document, wrapped if it would be taken for something else.
pub(crate) fn wrapped_alike(members: Map<String, Json>) -> Json {
    let looks_alike = [ERASED, VERBATIM]
        .iter()
        .any(|name| members.len() == 1 && members.contains_key(*name));
    match looks_alike {
        true => wrapped(Json::Object(members)),
        false => Json::Object(members),
    }
}

fn wrapped(json: Json) -> Json {
    Json::Object(Map::from_iter([(VERBATIM.to_owned(), json)]))
}

/// What is wrapped in a document, where it is one that only wraps.
pub(crate) fn unwrapped(mut members: Map<String, Json>) -> Result<Json, Map<String, Json>> {
    if members.len() != 1 {
        return Err(members);
    }
    members.remove(VERBATIM).ok_or(members)
}

/// The value as the record had it. What stands for a value that is not kept stays.
pub(crate) fn verbatim(value: Value) -> Value {
    match value {
        Value::Json(json) => match verbatim_json(json) {
            Json::String(text) => Value::Text(text),
            json => Value::Json(json),
        },
        other => other,
    }
}

fn verbatim_json(json: Json) -> Json {
    let inside = |members: Map<String, Json>| {
        let members = members.into_iter();
        let members = members.map(|(name, json)| (name, verbatim_json(json)));
        Json::Object(members.collect())
    };
    match json {
        Json::Array(items) => Json::Array(items.into_iter().map(verbatim_json).collect()),
        Json::Object(members) => match unwrapped(members) {
            Ok(Json::Object(members)) | Err(members) => inside(members),
            Ok(json) => json,
        },
        other => other,
    }
}

/// Whether the trail keeps a value as it was: nothing in it is masked, and nothing was erased.
pub(crate) fn is_whole(value: &Value) -> bool {
    let mut lost = Vec::new();
    tell_lost(value, "", &mut lost);
    lost.is_empty()
}

/// The paths of all that is masked or erased in what the trail tells of a field.
pub(crate) fn tell_lost(value: &Value, path: &str, lost: &mut Vec<String>) {
    match value {
        Value::Text(text) if text == MASK => lost.push(path.to_owned()),
        Value::Json(json) => tell_lost_in(json, path, lost),
        _ => {}
    }
}

fn tell_lost_in(json: &Json, path: &str, lost: &mut Vec<String>) {
    let mut inside = |members: &Map<String, Json>| {
        for (name, json) in members {
            tell_lost_in(json, &format!("{path}.{name}"), lost);
        }
    };
    match json {
        Json::String(text) if text == MASK => lost.push(path.to_owned()),
        Json::Array(items) => {
            for (place, json) in items.iter().enumerate() {
                tell_lost_in(json, &format!("{path}.{place}"), lost);
            }
        }
        Json::Object(members) if members.len() == 1 && members.contains_key(ERASED) => {
            lost.push(path.to_owned());
        }
        Json::Object(members) => match members.get(VERBATIM).filter(|_| members.len() == 1) {
            Some(Json::Object(members)) => inside(members),
            Some(_) => {}
            None => inside(members),
        },
        _ => {}
    }
}

/// Whether one of two paths leads into the other.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    let within = |long: &str, short: &str| {
        long.strip_prefix(short)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    within(one, other) || within(other, one)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Documents in which much looks like something else.
    fn documents() -> impl Strategy<Value = Json> {
        let names = || prop::sample::select(vec!["erased", "verbatim", "note", "password"]);
        let leaf = prop_oneof![
            Just(json!(MASK)),
            Just(json!("x")),
            Just(json!(1.5)),
            Just(Json::Null)
        ];
        leaf.prop_recursive(4, 24, 3, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Json::Array),
                prop::collection::vec((names(), inner), 0..3).prop_map(|members| {
                    let members = members.into_iter();
                    Json::Object(
                        members
                            .map(|(name, json)| (name.to_owned(), json))
                            .collect(),
                    )
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_users_write_comes_back_and_is_whole(json in documents()) {
            let value = Value::from_json(json);
            let kept = marked(value.clone());
            prop_assert!(is_whole(&kept), "{kept:?}");
            // As it is when it was stored.
            let stored = Value::from_json(kept.to_json());
            prop_assert!(is_whole(&stored), "{stored:?}");
            prop_assert_eq!(verbatim(stored).to_json(), value.to_json());
        }

        #[test]
        fn secrets_are_masked_wherever_they_stand(json in documents()) {
            let has_secret = json.to_string().contains("\"password\":");
            let kept = recorded(Value::Json(json));
            prop_assert!(has_secret || is_whole(&kept), "{kept:?}");
        }
    }

    #[test]
    fn a_list_with_a_text_like_a_mask_is_whole() {
        let tags = Value::List(vec!["key".into(), MASK.into()]);
        let kept = marked(tags);
        assert!(is_whole(&kept));
        assert_eq!(verbatim(kept).to_json(), json!(["key", MASK]));
    }

    #[test]
    fn paths_overlap_where_one_leads_into_the_other() {
        assert!(overlap("custom_fields", "custom_fields.region"));
        assert!(overlap("custom_fields.region", "custom_fields"));
        assert!(overlap("name", "name"));
        assert!(!overlap("custom_fields.region", "custom_fields.regional"));
        assert!(!overlap("name", "named"));
    }

    #[test]
    fn what_is_masked_or_erased_is_not_whole() {
        let cases = [
            (json!({"a": [1, "b"]}), true),
            (json!({"smtp": {"password": MASK}}), false),
            (json!([{"token": MASK}]), false),
            (json!({"erased": "c0ffee"}), false),
            (json!({"name": {"erased": "c0ffee"}}), false),
            (json!({"erased": "no", "kept": true}), true),
            (json!({"verbatim": MASK}), true),
            (json!({"verbatim": {"erased": "no"}}), true),
            (json!({"verbatim": {"erased": MASK}}), false),
        ];
        for (json, wanted) in cases {
            assert_eq!(is_whole(&Value::Json(json.clone())), wanted, "{json}");
        }
        assert!(!is_whole(&Value::from(MASK)));
        assert!(is_whole(&Value::from("x")) && is_whole(&Value::Null));
    }
}

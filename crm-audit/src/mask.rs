//! What never reaches the audit trail.

use crm_core::schema::Value;
use serde_json::Value as Json;

/// What stands in the trail for a value that must not.
pub const MASK: &str = "***";

/// The only member of what stands in the trail for a value that was erased.
pub(crate) const ERASED: &str = "erased";

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

/// Whether the trail keeps a value as it was: nothing in it is masked, and nothing was erased.
pub(crate) fn is_whole(value: &Value) -> bool {
    match value {
        Value::Text(text) => text != MASK,
        Value::Json(json) => is_whole_json(json),
        _ => true,
    }
}

fn is_whole_json(json: &Json) -> bool {
    match json {
        Json::String(text) => text != MASK,
        Json::Array(items) => items.iter().all(is_whole_json),
        Json::Object(members) => {
            let is_erased = members.len() == 1 && members.contains_key(ERASED);
            !is_erased && members.values().all(is_whole_json)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_masked_or_erased_is_not_whole() {
        let cases = [
            (json!({"a": [1, "b"]}), true),
            (json!({"smtp": {"password": MASK}}), false),
            (json!([{"token": MASK}]), false),
            (json!({"erased": "c0ffee"}), false),
            (json!({"name": {"erased": "c0ffee"}}), false),
            (json!({"erased": "no", "kept": true}), true),
        ];
        for (json, wanted) in cases {
            assert_eq!(is_whole(&Value::Json(json.clone())), wanted, "{json}");
        }
        assert!(!is_whole(&Value::from(MASK)));
        assert!(is_whole(&Value::from("x")) && is_whole(&Value::Null));
    }
}

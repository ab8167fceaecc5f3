//! What is a secret although its field is not marked as one: an encrypted value, with what is
//! needed to decrypt it besides the key.

use crm_core::schema::ValueRef;
use serde_json::Value as Json;

/// Whether the document is an encrypted envelope or has one in it, in the form of
/// [`Envelope`](crm_core::tenancy::Envelope).
pub(crate) fn has_envelope(json: &Json) -> bool {
    match json {
        Json::Object(members) => {
            (members.contains_key("ciphertext") && members.contains_key("key_id"))
                || members.values().any(has_envelope)
        }
        Json::Array(items) => items.iter().any(has_envelope),
        _ => false,
    }
}

/// Whether the value is a document with an encrypted envelope in it.
pub(crate) fn is_secret(value: &ValueRef<'_>) -> bool {
    matches!(value, ValueRef::Json(json) if has_envelope(json))
}

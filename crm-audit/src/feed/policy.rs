//! [`FeedPolicy`]: what a consumer gets to see; [`FeedEvent`], an event as it gets it.

use std::borrow::Cow;

use crm_core::Record;
use crm_core::schema::{CUSTOM_FIELDS, FieldSchema, ObjectRef, Picklist, Privacy, Registry, Value};
use crm_core::storage::FeedPosition;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::event::{AuditEvent, Changes, FieldChange};
use crate::mask::{MASK, is_sensitive_name, unwrapped, wrapped_alike};

/// What becomes of values of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum Treatment {
    /// They are given as they are.
    Keep,
    /// They are replaced by [`MASK`]: the consumer learns that the field changed, not how.
    #[default]
    Mask,
    /// The fields are left out.
    Drop,
}

/// What a consumer gets to see, by the class that the schemas give to fields.
///
/// Values that the trail itself does not keep, such as those of sensitive fields, are masked
/// whatever the policy says. What tells of the caller (address, session, user agent) is personal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedPolicy {
    /// Values about persons.
    pub personal: Treatment,
    /// Secrets, and values of fields that no definition tells of any more.
    pub sensitive: Treatment,
}

impl FeedPolicy {
    /// Everything that the trail has: for consumers inside of the host.
    pub const INTERNAL: Self = Self {
        personal: Treatment::Keep,
        sensitive: Treatment::Keep,
    };

    fn of(self, class: Privacy) -> Treatment {
        match class {
            Privacy::Public => Treatment::Keep,
            Privacy::Personal => self.personal,
            Privacy::Sensitive => self.sensitive,
        }
    }
}

/// Personal values are masked, secrets left out.
impl Default for FeedPolicy {
    fn default() -> Self {
        Self {
            personal: Treatment::Mask,
            sensitive: Treatment::Drop,
        }
    }
}

/// An event as a consumer gets it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FeedEvent {
    /// Its place in the feed.
    pub position: FeedPosition,
    /// The event, with what the policy leaves of it.
    pub event: Record<AuditEvent>,
}

impl FeedEvent {
    /// An event under a policy.
    pub(crate) fn new(
        position: FeedPosition,
        event: &Record<AuditEvent>,
        registry: &Registry,
        policy: FeedPolicy,
    ) -> Self {
        let mut event = event.clone();
        let object = registry.any_object(&event.object);
        event.data.changes = redacted(&event.changes, object.as_ref(), policy);
        if policy.personal != Treatment::Keep {
            event.data.session_id = None;
            event.data.ip = None;
            event.data.user_agent = None;
        }
        Self { position, event }
    }

    /// What tells this event from all others: who remembers it does nothing twice.
    #[must_use]
    pub fn idempotency_key(&self) -> Uuid {
        self.event.id.uuid()
    }

    /// The event as JSON, as webhooks send it.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let event = &self.event;
        let mut json = json!({
            "id": event.id.uuid(),
            "commit_id": event.commit_id,
            "at": event.created.at,
            "by": {"kind": event.created.by.kind(), "id": event.created.by.id()},
            "event": event.event.as_str(),
            "category": event.category.as_str(),
            "object": event.object,
            "record_id": event.record_id,
            "record_version": event.record_version,
            "changes": event.changes.to_json(),
        });
        let told = [
            ("session_id", event.session_id.clone().map(Json::from)),
            ("ip", event.ip.clone().map(Json::from)),
            ("user_agent", event.user_agent.clone().map(Json::from)),
            ("endpoint", event.endpoint.clone().map(Json::from)),
            (
                "request_id",
                event.request_id.map(|id| Json::from(id.to_string())),
            ),
        ];
        if let Json::Object(members) = &mut json {
            for (name, value) in told {
                if let Some(value) = value {
                    members.insert(name.to_owned(), value);
                }
            }
        }
        json
    }
}

/// What a policy leaves of changes. Fields of which no description is known are taken for secrets:
/// nobody can tell any more what they held.
fn redacted(changes: &Changes, object: Option<&ObjectRef>, policy: FeedPolicy) -> Changes {
    let mut left = Vec::with_capacity(changes.len());
    for change in changes {
        // The document of custom fields has members of every class: each is judged by its own.
        let is_document = change.field == CUSTOM_FIELDS && object.is_some();
        let treatment = match policy.of(class_of(object, &change.field)) {
            _ if is_document => Treatment::Keep,
            treatment => treatment,
        };
        match treatment {
            Treatment::Keep => {
                let side = |value: &Option<Value>| {
                    value.clone().map(|v| inside(object, change, v, policy))
                };
                left.push(FieldChange {
                    field: change.field.clone(),
                    old: side(&change.old),
                    new: side(&change.new),
                });
            }
            Treatment::Mask => left.push(FieldChange {
                field: change.field.clone(),
                old: change.old.as_ref().map(masked),
                new: change.new.as_ref().map(masked),
            }),
            Treatment::Drop => {}
        }
    }
    left.into()
}

fn masked(value: &Value) -> Value {
    if value.is_null() {
        Value::Null
    } else {
        Value::Text(MASK.to_owned())
    }
}

/// The class of a field, or of a member of one: `custom_fields.region`.
fn class_of(object: Option<&ObjectRef>, path: &str) -> Privacy {
    let (name, member) = match path.split_once('.') {
        Some((name, member)) => (name, Some(member)),
        None => (path, None),
    };
    if is_sensitive_name(member.unwrap_or(name)) {
        return Privacy::Sensitive;
    }
    let Some(object) = object else {
        return Privacy::Sensitive;
    };
    let field = match member {
        Some(member) if name == CUSTOM_FIELDS => member_of(object, member),
        _ => object.field(name),
    };
    field.map_or(Privacy::Sensitive, |field| field.privacy)
}

/// The description of a member of the document of custom fields: the tenant's, or, where it
/// described none of this name, the document's own.
fn member_of<'o>(object: &'o ObjectRef, member: &str) -> Option<&'o FieldSchema> {
    let place = object.custom_place(member);
    let custom = place.and_then(|place| object.custom_at(place));
    match custom {
        Some(custom) => Some(&custom.field),
        None => object.field(CUSTOM_FIELDS),
    }
}

/// The document of custom fields as a whole has members of every class.
fn inside(
    object: Option<&ObjectRef>,
    change: &FieldChange,
    value: Value,
    policy: FeedPolicy,
) -> Value {
    let Value::Json(Json::Object(members)) = value else {
        return value;
    };
    if change.field != CUSTOM_FIELDS {
        return Value::Json(Json::Object(members));
    }
    // A document that looks like an erased value is wrapped as a whole.
    let members = match unwrapped(members) {
        Ok(Json::Object(members)) | Err(members) => members,
        Ok(other) => return Value::Json(other),
    };
    let mut left = Map::new();
    for (name, member) in members {
        let path: Cow<'_, str> = format!("{CUSTOM_FIELDS}.{name}").into();
        match policy.of(class_of(object, &path)) {
            Treatment::Keep => left.insert(name, member),
            Treatment::Mask if member.is_null() => left.insert(name, member),
            Treatment::Mask => left.insert(name, Json::from(MASK)),
            Treatment::Drop => None,
        };
    }
    Value::Json(wrapped_alike(left))
}

#[cfg(test)]
mod tests {
    use crm_core::contacts::Contact;
    use crm_core::schema::Entity as _;

    use super::*;

    fn changes() -> Changes {
        let change = |field: &'static str, new: Value| FieldChange {
            field: field.into(),
            old: Some(Value::Null),
            new: Some(new),
        };
        vec![
            change("email", Value::from("ada@lovelace.example")),
            change("status", Value::from("active")),
            change("gone", Value::from("what was it?")),
            change("custom_fields.api_key", Value::from("k-1")),
            change(
                "custom_fields",
                Value::Json(json!({"api_key": "k-1", "region": "North"})),
            ),
        ]
        .into()
    }

    fn left(object: Option<&ObjectRef>, policy: FeedPolicy) -> Json {
        redacted(&changes(), object, policy).to_json()
    }

    #[test]
    fn classes_are_kept_masked_or_left_out() {
        let contact = Contact::schema();
        assert_eq!(
            left(Some(contact), FeedPolicy::default()),
            json!({
                "email": {"old": null, "new": MASK},
                "status": {"old": null, "new": "active"},
                "custom_fields": {"old": null, "new": {"region": MASK}},
            })
        );
        assert_eq!(
            left(Some(contact), FeedPolicy::INTERNAL),
            changes().to_json()
        );
        let strict = FeedPolicy {
            personal: Treatment::Drop,
            sensitive: Treatment::Mask,
        };
        let strict = left(Some(contact), strict);
        assert!(strict.get("email").is_none());
        assert_eq!(strict["gone"]["new"], MASK);
        assert_eq!(strict["custom_fields"]["new"]["api_key"], MASK);
    }

    #[test]
    fn of_an_unknown_object_nothing_is_told() {
        assert_eq!(left(None, FeedPolicy::default()), json!({}));
    }
}

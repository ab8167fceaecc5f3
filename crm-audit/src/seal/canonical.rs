//! What of an event, and of a seal, is hashed.

use crm_core::schema::{AnyRecord as _, Entity as _, Meta, SYSTEM_FIELDS, Value};
use crm_core::storage::FeedPosition;
use crm_core::{Record, Stamp};
use serde_json::{Map, Value as Json, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::AuditSeal;
use super::commitment::{Nonce, Side, canonical, from_hex, hex, path};
use crate::event::AuditEvent;
use crate::redact::{commitment_of, personal, value_at};

/// The hash of an event or of a seal.
pub(crate) type Hash = [u8; 32];

/// Changes with the form of what is hashed.
const FORMAT: u8 = 2;

/// The hash of an event, the same before and after a redaction; `None` where what a redaction left
/// does not fit together, which no redaction does.
///
/// Every field that has a value is in it: by itself or, if it may have to be erased, as a commitment.
pub(crate) fn hash_of(
    tenant: Uuid,
    position: FeedPosition,
    event: &Record<AuditEvent>,
) -> Option<Hash> {
    sealed_form(tenant, position, event).map(|form| Sha256::digest(canonical(form)).into())
}

/// The document that is hashed.
pub(crate) fn sealed_form(
    tenant: Uuid,
    position: FeedPosition,
    event: &Record<AuditEvent>,
) -> Option<Json> {
    let redaction = event.redaction.as_ref();
    let written = match redaction {
        None => None,
        // A redaction raises the version: before, the event was as it had been written.
        Some(_) if event.version > 1 && event.salt.is_none() => {
            let first = Meta::first(event.id.uuid(), event.created);
            let none = AuditEvent::new(
                event.commit_id,
                event.event,
                event.category,
                "",
                event.record_id,
                1,
            );
            Some(Record::new(first, none))
        }
        Some(_) => return None,
    };
    let meta = written.as_ref().unwrap_or(event);
    let mut form = Map::new();
    form.insert("format".to_owned(), json!(FORMAT));
    form.insert("tenant".to_owned(), json!(tenant));
    form.insert("position".to_owned(), json!(position));
    let schema = AuditEvent::schema();
    let personal: Vec<(usize, &str)> = personal().collect();
    for (place, field) in schema.fields().iter().enumerate() {
        let is_apart = field.name == AuditEvent::CHANGES.name()
            || field.name == AuditEvent::REDACTION.name()
            || personal.iter().any(|(other, _)| *other == place);
        let value = if place < SYSTEM_FIELDS {
            meta.value(place)
        } else {
            event.value(place)
        };
        if !is_apart && !value.is_null() {
            form.insert(field.name.to_string(), value.to_json());
        }
    }
    let mut gone = 0;
    for (place, name) in personal {
        let erased = redaction.and_then(|redaction| redaction.fields.get(name));
        let commitment = match (value_at(event, place), redaction) {
            (Some(value), None) => Nonce::of(event.salt, name).commit(&value),
            (Some(_), Some(_)) => return None,
            (None, _) => match erased {
                Some(erased) => {
                    gone += 1;
                    from_hex(erased).map(|_| erased.clone())?
                }
                None => continue,
            },
        };
        form.insert(name.to_owned(), Json::String(commitment));
    }
    let mut salted = 0;
    let mut changes = Map::new();
    for change in &event.changes {
        let mut sides = Map::new();
        for side in [Side::Old, Side::New] {
            let Some(value) = side.of(change) else {
                continue;
            };
            let path = path(side, &change.field);
            let commitment = match redaction {
                None => Nonce::of(event.salt, &path).commit(value),
                Some(redaction) => match redaction.salts.get(&path) {
                    Some(salt) => {
                        salted += 1;
                        Nonce::parse(salt)?.commit(value)
                    }
                    None => {
                        let erased = commitment_of(value)?;
                        from_hex(erased).map(|_| erased.to_owned())?
                    }
                },
            };
            sides.insert(side.name().to_owned(), Json::String(commitment));
        }
        changes.insert(change.field.to_string(), Json::Object(sides));
    }
    // Nothing else may stand in what a redaction left.
    let is_whole = redaction
        .is_none_or(|redaction| redaction.fields.len() == gone && redaction.salts.len() == salted);
    form.insert("changes".to_owned(), Json::Object(changes));
    is_whole.then_some(Json::Object(form))
}

/// The hash of a seal that was made then and by that actor, over the one before it.
pub(crate) fn seal_hash(tenant: Uuid, seal: &AuditSeal, made: Stamp) -> String {
    let form = json!({
        "format": FORMAT,
        "tenant": tenant,
        "created_at": Value::Timestamp(made.at),
        "created_by": made.by.kind(),
        "created_by_id": made.by.id(),
        "number": seal.number,
        "after": seal.after_position,
        "until": seal.until_position,
        "events": seal.events,
        "hashes": hex(&Sha256::digest(seal.hashes.as_bytes())),
        "previous": seal.previous,
    });
    hex(&Sha256::digest(canonical(form)))
}

/// What is signed: the hash, and what it is the hash of.
pub(crate) fn message(hash: &str) -> Vec<u8> {
    format!("crm-audit seal\0{hash}").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crm_core::Actor;
    use crm_core::schema::{FieldType, Row, StorageKind};
    use proptest::prelude::*;

    use super::*;
    use crate::event::{AuditCategory, AuditKind, FieldChange};
    use crate::redact::{laid, redacted_event};

    const TENANT: Uuid = Uuid::from_u128(99);
    const PLACE: FeedPosition = FeedPosition::new(7, Uuid::from_u128(4));

    fn event() -> Record<AuditEvent> {
        let mut event = AuditEvent::new(
            Uuid::from_u128(1),
            AuditKind::Update,
            AuditCategory::DataChange,
            "contact",
            Uuid::from_u128(2),
            3,
        );
        let change = |field: &'static str, old: Value, new: Value| FieldChange {
            field: field.into(),
            old: Some(old),
            new: Some(new),
        };
        event.changes = vec![
            change("email", Value::Null, Value::from("ada@lovelace.example")),
            change("status", Value::from("active"), Value::from("inactive")),
            change(
                "custom_fields.budget",
                Value::Json(json!(1.5)),
                Value::Json(json!([{"a": 2.5}])),
            ),
            change("custom_fields.note", Value::from("likes tea"), Value::Null),
        ]
        .into();
        event.ip = Some("203.0.113.7".into());
        event.user_agent = Some("Firefox".into());
        event.endpoint = Some("PATCH /contacts".into());
        event.salt = Some(Uuid::from_u128(0xABCD));
        let at = "2026-01-31T09:00:00Z".parse().unwrap();
        let by = Actor::System;
        Record::new(Meta::first(Uuid::from_u128(4), Stamp { at, by }), event)
    }

    /// The event as a storage of documents gives it back.
    fn stored(event: &Record<AuditEvent>) -> Arc<Record<AuditEvent>> {
        let row: Row = Arc::new(event.clone());
        let values = row.values().into_iter().map(|value| match value {
            Value::Json(json) => Value::Json(serde_json::from_str(&json.to_string()).unwrap()),
            other => other,
        });
        let values = values.collect();
        Record::from_row(AuditEvent::schema().build(row.meta(), values).unwrap()).unwrap()
    }

    #[test]
    fn the_sealed_form_tells_no_value_about_a_person() {
        let form = sealed_form(TENANT, PLACE, &event()).unwrap().to_string();
        for secret in ["lovelace", "inactive", "tea", "203.0", "Firefox", "abcd"] {
            assert!(!form.contains(secret), "{secret} stands in {form}");
        }
        for known in [
            "contact",
            "PATCH /contacts",
            "custom_fields.note",
            "2026-01-31",
        ] {
            assert!(form.contains(known), "{known} does not stand in {form}");
        }
    }

    #[test]
    fn the_sealed_form_does_not_change_between_releases() {
        let hash = hash_of(TENANT, PLACE, &event()).map(|hash| hex(&hash));
        let wanted = "39760cf956bd0c04cf37be7d14ef25bd131505f77fca41274d3cb10d0ed97376";
        assert_eq!(hash.as_deref(), Some(wanted));
    }

    proptest! {
        #[test]
        fn redactions_leave_the_hash(first in 0_u8..16, second in 0_u8..16) {
            let names = ["email", "status", "custom_fields.budget", "custom_fields.note"];
            let chosen = |mask: u8| move |field: &str| {
                let place = names.iter().position(|name| *name == field).unwrap();
                mask & (1 << place) != 0
            };
            let before = event();
            let hash = hash_of(TENANT, PLACE, &before);
            let once = redacted_event(&before, chosen(first));
            prop_assert_eq!(hash_of(TENANT, PLACE, &once), hash);
            prop_assert!(once.salt.is_none() && once.ip.is_none() && once.user_agent.is_none());
            let once = stored(&once);
            prop_assert_eq!(hash_of(TENANT, PLACE, &once), hash);
            let twice = stored(&redacted_event(&once, chosen(second)));
            prop_assert_eq!(hash_of(TENANT, PLACE, &twice), hash);
            let all = format!("{:?}", twice.changes.to_json());
            for (place, secret) in [(0, "lovelace"), (1, "inactive"), (2, "2.5"), (3, "tea")] {
                let is_erased = (first | second) & (1 << place) != 0;
                prop_assert_eq!(!all.contains(secret), is_erased, "{}", secret);
            }
            // Doing it again does nothing.
            let again = redacted_event(&twice, chosen(first | second));
            prop_assert_eq!(again.version, twice.version);
        }

        #[test]
        fn every_other_change_of_a_field_shows(place in 0_usize..30, is_redacted: bool) {
            let before = if is_redacted { (*redacted_event(&event(), |field| field == "email")).clone() } else { event() };
            let fields = AuditEvent::schema().fields();
            let place = SYSTEM_FIELDS + place % (fields.len() - SYSTEM_FIELDS);
            let other = match before.value(place).into_owned() {
                Value::Uuid(id) => Value::Uuid(Uuid::from_u128(id.as_u128() ^ 1)),
                Value::Integer(number) => Value::Integer(number + 1),
                Value::Text(text) => match &fields[place].field_type {
                    FieldType::Picklist { options } => {
                        Value::from(*options.iter().find(|one| **one != text).unwrap())
                    }
                    _ => Value::from(format!("{text}x")),
                },
                Value::Json(_) => Value::Json(json!({"email": {"old": null, "new": "eve@example.org"}})),
                _ => match fields[place].storage_kind() {
                    StorageKind::Uuid => Value::Uuid(Uuid::from_u128(1)),
                    StorageKind::Json => Value::Json(json!({"salts": {}, "fields": {}})),
                    _ => Value::from("1"),
                },
            };
            let changed = (fields[place].name != AuditEvent::REDACTION.name())
                || !matches!(other, Value::Json(ref json) if json.get("email").is_some());
            prop_assume!(changed);
            let row = laid(&before, vec![(place, other)]);
            let row = row.with_meta(before.meta());
            let after = Record::from_row(row).unwrap();
            prop_assert_ne!(hash_of(TENANT, PLACE, &after), hash_of(TENANT, PLACE, &before), "{}", fields[place].name);
        }
    }

    #[test]
    fn a_value_that_changes_with_its_salt_shows() {
        let before = event();
        let mut eve = before.clone();
        eve.data.salt = Some(Uuid::from_u128(7));
        eve.data.changes = vec![FieldChange {
            field: "email".into(),
            old: None,
            new: Some(Value::from("eve@example.org")),
        }]
        .into();
        assert_ne!(
            hash_of(TENANT, PLACE, &eve),
            hash_of(TENANT, PLACE, &before)
        );
        // Nor is there another salt under which an erased value becomes another one.
        let mut redacted = (*redacted_event(&before, |field| field == "email")).clone();
        let nonce = Nonce::of(Some(Uuid::from_u128(7)), "new:email");
        let mut left = redacted.data.redaction.clone().unwrap();
        left.salts.insert("new:email".into(), nonce.to_hex());
        redacted.data.redaction = Some(left);
        assert_ne!(
            hash_of(TENANT, PLACE, &redacted),
            hash_of(TENANT, PLACE, &before)
        );
    }

    #[test]
    fn it_belongs_to_its_tenant_and_place() {
        let elsewhere = FeedPosition::new(8, Uuid::from_u128(4));
        assert_ne!(
            hash_of(TENANT, elsewhere, &event()),
            hash_of(TENANT, PLACE, &event())
        );
        let other = Uuid::from_u128(98);
        assert_ne!(
            hash_of(TENANT, PLACE, &event()),
            hash_of(other, PLACE, &event())
        );
    }
}

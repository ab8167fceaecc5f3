//! How a row is sealed and opened. Pure but for the nonces.
//!
//! What is sealed is one JSON object with the values that were taken out of the row, by the names of
//! their fields. A value that is not in it stands in the row as it is. So a row is opened by what was
//! sealed alone, whatever is encrypted by now.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use crm_core::query::fold_case;
use crm_core::schema::{
    AnyRecord, Dynamic, Privacy, Row, SYSTEM_FIELDS, StorageKind, Value, ValueRef,
};
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::coverage::{Coverage, Stand, place};
use super::{EncryptionError, Keyring};

/// The member of what is sealed that says of which object it is. No field has this name.
const OF: &str = "~";

/// The member of a document of tokens for a member of the true one. `folded`: the one in which case does
/// not count. Names of members are not told either, as anybody can think of some.
pub(super) fn member_token(ring: &Keyring, at: &str, member: &str, folded: bool) -> Option<String> {
    let kind = if folded { "folded" } else { "member" };
    ring.token(&format!("{at}.{kind}"), member, usize::MAX)
}

/// What stands for a text that is a member of a document: as it is, or with its case folded.
pub(super) fn text_token(
    ring: &Keyring,
    at: &str,
    member: &str,
    text: &str,
    folded: bool,
) -> Option<String> {
    if folded {
        let text = fold_case(text);
        return ring.token(&format!("{at}.folded.{member}"), &text, usize::MAX);
    }
    ring.token(&format!("{at}.member.{member}"), text, usize::MAX)
}

/// What stands for a text of a field.
pub(super) fn field_token(
    ring: &Keyring,
    at: &str,
    text: &str,
    length: usize,
    folded: bool,
) -> Option<String> {
    if folded {
        ring.token(at, &fold_case(text), length)
    } else {
        ring.token(at, text, length)
    }
}

/// The document that stands for one with texts: a token for each, in its own case and in none; of
/// anything else only that it is there.
fn document_of_tokens(ring: &Keyring, at: &str, document: &Map<String, Json>) -> Json {
    let mut tokens = Map::new();
    for (name, value) in document {
        for folded in [false, true] {
            let stands = match value {
                Json::Null => None,
                Json::String(text) => text_token(ring, at, name, text, folded).map(Json::String),
                _ if folded => None,
                _ => Some(Json::Object(Map::new())),
            };
            let member = member_token(ring, at, name, folded);
            if let Some((member, stands)) = member.zip(stands) {
                tokens.insert(member, stands);
            }
        }
    }
    Json::Object(tokens)
}

/// Whether a value tells nothing: it need not be sealed.
fn is_empty(value: &ValueRef<'_>) -> bool {
    match value {
        ValueRef::Null => true,
        ValueRef::List(entries) => entries.is_empty(),
        ValueRef::Json(json) => match &**json {
            Json::Object(members) => members.is_empty(),
            Json::Array(entries) => entries.is_empty(),
            _ => false,
        },
        _ => false,
    }
}

/// What stands for a value that is not empty.
fn stand_in(ring: &Keyring, at: &str, stand: Stand, value: &ValueRef<'_>) -> Value {
    match (stand, value) {
        (Stand::Token { length, folded }, ValueRef::Text(text)) => {
            field_token(ring, at, text, length, folded).map_or(Value::Null, Value::Text)
        }
        (Stand::Tokens | Stand::Empty, ValueRef::Json(json)) => Value::Json(match &**json {
            Json::Object(document) if stand == Stand::Tokens => {
                document_of_tokens(ring, at, document)
            }
            Json::Array(_) => Json::Array(Vec::new()),
            _ => Json::Object(Map::new()),
        }),
        (Stand::Empty, ValueRef::List(_)) => Value::List(Vec::new()),
        _ => Value::Null,
    }
}

/// What may stand in the storage of a row, and what has to be sealed of it.
struct Parted {
    values: Vec<Value>,
    secret: BTreeMap<String, Json>,
}

/// `None` where nothing of the row is encrypted.
fn part(coverage: &Coverage, ring: &Keyring, row: &Row) -> Result<Option<Parted>, EncryptionError> {
    let object = row.object();
    let mut values = None;
    let mut secret = BTreeMap::new();
    for (slot, field) in object.own_fields().iter().enumerate() {
        let index = slot + SYSTEM_FIELDS;
        if field.privacy == Privacy::Public {
            continue;
        }
        let Some(stand) = coverage.stand_in(&**row, index) else {
            continue;
        };
        let value = row.value(index);
        if is_empty(&value) {
            continue;
        }
        secret.insert(field.name.to_string(), value.to_json());
        let at = place(object, &field.name);
        let stands = stand_in(ring, &at, stand, &value);
        if field.required && stands.is_null() {
            return Err(EncryptionError::Field {
                object: object.name().to_owned(),
                field: field.name.to_string(),
            });
        }
        let values = values.get_or_insert_with(|| row.values());
        if let Some(slot) = values.get_mut(slot) {
            *slot = stands;
        }
    }
    Ok(values.map(|values| Parted { values, secret }))
}

/// The row as it is stored: without the values that are encrypted, but for what was sealed of them. A
/// row that has no such values stays as it is.
///
/// # Errors
/// A required field that no token can stand for; values that are longer than the cipher takes.
pub(super) fn seal_row(
    coverage: &Coverage,
    ring: &Keyring,
    row: &Row,
) -> Result<Row, EncryptionError> {
    let Some(Parted { values, mut secret }) = part(coverage, ring, row)? else {
        return Ok(row.clone());
    };
    let (object, id) = (row.object(), row.id());
    secret.insert(OF.to_owned(), Json::String(place(object, "")));
    let too_long = || EncryptionError::TooLong {
        object: object.name().to_owned(),
        id,
    };
    let plain = Zeroizing::new(serde_json::to_vec(&secret).map_err(|_| too_long())?);
    let sealed = ring.seal(id, &plain).map_err(|_| too_long())?;
    let row = Dynamic::new(object.clone(), row.meta(), values).with_sealed(sealed);
    Ok(Arc::new(row))
}

/// The row as a storage compares it with the stored one: like the sealed one, but not sealed.
///
/// # Errors
/// A required field that no token can stand for.
pub(super) fn veil_row(
    coverage: &Coverage,
    ring: &Keyring,
    row: &Row,
) -> Result<Row, EncryptionError> {
    Ok(match part(coverage, ring, row)? {
        Some(parted) => Arc::new(Dynamic::new(
            row.object().clone(),
            row.meta(),
            parted.values,
        )),
        None => row.clone(),
    })
}

/// The row with its true values, typed where its object is; `None` where it is not sealed.
///
/// # Errors
/// The tenant has not the key, the row is another's, or was not sealed by this program.
pub(super) fn open_row(
    ring: &Keyring,
    row: &dyn AnyRecord,
) -> Result<Option<Row>, EncryptionError> {
    let Some(sealed) = row.sealed() else {
        return Ok(None);
    };
    let (object, id) = (row.object(), row.id());
    let locked = || EncryptionError::Locked {
        object: object.name().to_owned(),
        id,
    };
    let form = || EncryptionError::Form {
        object: object.name().to_owned(),
        id,
    };
    let plain = ring
        .open(id, sealed)
        .map_err(EncryptionError::locked(object.name(), id))?;
    let mut secret: BTreeMap<String, Json> = serde_json::from_slice(&plain).map_err(|_| form())?;
    // Ids are told apart in their object only.
    if secret.remove(OF) != Some(Json::String(place(object, ""))) {
        return Err(locked());
    }
    let mut values = row.values();
    for (slot, field) in object.own_fields().iter().enumerate() {
        let Some(json) = secret.remove(&*field.name) else {
            continue;
        };
        let value = decode(field.storage_kind(), json).ok_or_else(form)?;
        if let Some(slot) = values.get_mut(slot) {
            *slot = value;
        }
    }
    let row = object.build(row.meta(), values).map_err(|_| form())?;
    Ok(Some(row))
}

/// The value of which [`Value::to_json`] made this, to the letter.
fn decode(kind: StorageKind, json: Json) -> Option<Value> {
    Some(match (kind, json) {
        (StorageKind::Json, json) => Value::Json(json),
        (StorageKind::Text, Json::String(text)) => Value::Text(text),
        (StorageKind::Integer, Json::Number(number)) => Value::Integer(number.as_i64()?),
        (StorageKind::Boolean, Json::Bool(value)) => Value::Boolean(value),
        (StorageKind::Decimal, Json::String(text)) => {
            Value::Decimal(Decimal::from_str_exact(&text).ok()?)
        }
        (StorageKind::Date, Json::String(text)) => Value::Date(NaiveDate::from_str(&text).ok()?),
        (StorageKind::Timestamp, Json::String(text)) => Value::Timestamp(
            DateTime::parse_from_rfc3339(&text)
                .ok()?
                .with_timezone(&Utc),
        ),
        (StorageKind::Uuid, Json::String(text)) => Value::Uuid(Uuid::try_parse(&text).ok()?),
        (StorageKind::List, Json::Array(entries)) => Value::List(
            entries
                .into_iter()
                .map(|entry| match entry {
                    Json::String(text) => Some(text),
                    _ => None,
                })
                .collect::<Option<_>>()?,
        ),
        _ => return None,
    })
}

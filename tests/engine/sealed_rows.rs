//! Rows whose personal values are sealed, met by an engine that has no storage to open them: an error
//! that says so, never what stands in the place of the values.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test says what went wrong by stopping"
)]

use std::sync::Arc;

use crm_engine::accounts::Account;
use crm_engine::audit::AuditExt;
use crm_engine::contacts::Contact;
use crm_engine::query::Find;
use crm_engine::schema::{Dynamic, Entity, Privacy, Row, StorageKind, Value};
use crm_engine::storage::StorageError;
use crm_engine::{Crm, Error, Session};

use crate::common::{backend, tenant};

const TOKEN: &str = "~abcdefghijklmnopqrstuvw234";

/// The row as a storage that encrypts leaves it.
fn sealed(row: &Row) -> Row {
    let mut values = row.values();
    for (value, field) in values.iter_mut().zip(row.object().own_fields()) {
        if field.privacy != Privacy::Public && !value.is_null() {
            *value = match field.storage_kind() {
                StorageKind::Text => TOKEN.into(),
                StorageKind::Json => Value::Json(serde_json::json!({ "note": TOKEN })),
                StorageKind::List => Value::List(Vec::new()),
                _ => Value::Null,
            };
        }
    }
    Arc::new(Dynamic::new(row.object().clone(), row.meta(), values).with_sealed([1, 2, 3]))
}

/// Seals every row of an object of the tenant.
async fn seal(session: &Session, object: &str) -> usize {
    let rows = crate::common::rows_of(session, object).await;
    let sealed: Vec<Row> = rows.iter().map(sealed).collect();
    let storage = session.engine().storage();
    storage.reseal(session.scope(), &sealed).await.unwrap()
}

fn told<T>(result: Result<T, Error>, object: &str) {
    match result {
        Err(error @ Error::Storage(StorageError::Sealed { .. })) => {
            assert!(!format!("{error:?}{error}").contains(TOKEN), "{error:?}");
            let Error::Storage(StorageError::Sealed { object: of }) = error else {
                return;
            };
            assert_eq!(of, object);
        }
        Err(error) => panic!("{object}: {error:?}"),
        Ok(_) => panic!("{object} was read"),
    }
}

#[tokio::test]
async fn an_engine_does_not_read_what_it_cannot_open() {
    let crm = Crm::builder(backend::plain(&[])).build();
    let (_, session) = tenant(&crm, "acme").await;
    let (_, other) = tenant(&crm, "globex").await;
    let id = session
        .contacts()
        .create(Contact::named("Ada", "Lovelace"))
        .await
        .unwrap()
        .id;
    let account = Account::new("Globex");
    let account = session.accounts().create(account).await.unwrap().id;
    let theirs = other
        .contacts()
        .create(Contact::named("Grace", "Hopper"))
        .await
        .unwrap()
        .id;
    assert_eq!(seal(&session, Contact::schema().name()).await, 1);

    told(session.contacts().get(id).await, "contact");
    told(session.contacts().find(Find::new()).await, "contact");
    told(session.search("contact", &TOKEN[1..], 10).await, "contact");
    let update = session
        .contacts()
        .update(id, |contact| contact.department = None)
        .await;
    told(update, "contact");
    told(session.contacts().delete(id).await, "contact");
    let named = session.object("contact").await.unwrap();
    told(named.get(id.uuid()).await, "contact");
    // What is not sealed is there as ever, and so is what can be counted.
    session.accounts().get(account).await.unwrap();
    other.contacts().get(theirs).await.unwrap();
    assert_eq!(session.contacts().count(Find::new()).await.unwrap(), 1);

    // The trail, too.
    assert!(seal(&session, "audit_event").await > 0);
    told(session.audit().trail(id).await, "audit_event");
}

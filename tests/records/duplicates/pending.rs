//! Records that are decided and not stored are compared as if they were.

use std::sync::Arc;

use crm_engine::prelude::*;
use crm_engine::schema::{AnyRecord as _, Meta, Row};
use uuid::Uuid;

use super::{backend, by_phone, contact, ids, rule, tenant};

#[tokio::test]
async fn pending_records_stand_for_stored_ones_of_the_same_tenant() {
    let crm = Crm::builder(backend::storage(&[])).build();
    let (acme, globex) = (tenant(&crm, "acme").await, tenant(&crm, "globex").await);
    for session in [&acme, &globex] {
        rule(session, "contact", DuplicateMode::Warn, by_phone()).await;
    }
    let (old, new) = (Some("+49 30 901820"), Some("+49 30 901821"));
    let ada = acme.contacts().create(contact("Ada", "Bell", old)).await;
    let ada = ada.unwrap();
    let draft = |number: u128, phone| -> Row {
        let meta = Meta {
            id: Uuid::from_u128(number),
            ..ada.meta()
        };
        Arc::new(Record::new(meta, contact("Eve", "Rossi", phone)))
    };
    let (first, second, third) = (draft(1, old), draft(2, new), draft(3, new));
    let mut pending = acme.duplicates().pending().await.unwrap();
    let read = std::slice::from_ref(&first);
    pending.look_up(read).await.unwrap();
    let found = pending.check(&first, None).await.unwrap().matches;
    assert_eq!(ids(&found), [ada.id.uuid()], "a stored one");

    // Ada gets another number: the old one is free, the new one is taken, twice in the end.
    let mark = pending.mark();
    let known: Row = ada.clone();
    let changed: Row = Arc::new(Record::new(ada.meta(), contact("Ada", "Bell", new)));
    let own = pending.check(&changed, Some(&known)).await.unwrap();
    assert!(own.matches.is_empty(), "not compared with itself");
    pending.add(&changed);
    assert_eq!(pending.superseded().collect::<Vec<_>>(), [ada.id.uuid()]);
    let found = pending.check(&first, None).await.unwrap().matches;
    assert!(found.is_empty());
    let found = pending.check(&second, None).await.unwrap().matches;
    assert_eq!(ids(&found), [ada.id.uuid()]);
    pending.add(&second);
    let found = pending.check(&third, None).await.unwrap().matches;
    let mut found = ids(&found);
    found.sort();
    let mut both = [second.id(), ada.id.uuid()];
    both.sort();
    assert_eq!(found, both);

    pending.roll_back(mark);
    let found = pending.check(&first, None).await.unwrap().matches;
    assert_eq!(ids(&found), [ada.id.uuid()], "as stored");
    let found = pending.check(&third, None).await.unwrap().matches;
    assert!(found.is_empty());

    // the records of another tenant are never candidates.
    let mut pending = globex.duplicates().pending().await.unwrap();
    let found = pending.check(&first, None).await.unwrap().matches;
    assert!(found.is_empty());
}

//! Records become one, and can become several again (C-021, R-018); links to records of any object.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod links;
mod merges;
mod properties;
mod refusals;
mod undoing;

use std::collections::BTreeMap;

use crm_engine::merging::{Choices, Merge};
use crm_engine::prelude::*;
use crm_engine::schema::{Lifecycle, Row};
use crm_engine::tenancy::Onboarded;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::common::backend;

/// Two accounts that have to do with each other.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "relation",
    table = "relations",
    unique(left_id, right_id, kind; live)
)]
struct Relation {
    /// The one.
    #[field(required, references = "account", on_delete = "cascade")]
    left_id: Id<Account>,
    /// The other.
    #[field(required, references = "account", on_delete = "cascade")]
    right_id: Id<Account>,
    /// What they have to do with each other.
    #[field(required, max_len = 20)]
    kind: String,
}

/// A word about a record of any object.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "remark",
    table = "remarks",
    unique(object, record_id, topic; live)
)]
struct Remark {
    /// The object of the record.
    #[field(required, max_len = 50)]
    object: String,
    /// The record.
    #[field(required, record_of = "object")]
    record_id: Uuid,
    /// What it is about; one of a kind for each record.
    #[field(required, max_len = 20)]
    topic: String,
}

/// A flat or house on offer.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "property", table = "properties")]
struct Property {
    /// The agency's own number.
    #[field(required, max_len = 20)]
    reference: String,
    /// Who sells it.
    #[field(references = "account", on_delete = "set_null")]
    seller_id: Option<Id<Account>>,
    /// Asking price.
    #[field(currency = "currency")]
    price: Option<rust_decimal::Decimal>,
    /// Its currency.
    currency: Currency,
}

fn crm() -> Crm {
    let storage = backend::storage(&[Relation::schema(), Remark::schema(), Property::schema()]);
    Crm::builder(storage)
        .object::<Relation>()
        .object::<Remark>()
        .object::<Property>()
        .build()
}

async fn tenant(crm: &Crm, subdomain: &str) -> (Onboarded, Session) {
    let email = format!("admin@{subdomain}.example");
    let onboarded = crm
        .onboard(Onboarding::new(subdomain, subdomain, email))
        .await
        .unwrap();
    let session = crm.session(onboarded.tenant, Actor::User(onboarded.admin));
    (onboarded, session)
}

async fn acme() -> (Onboarded, Session) {
    tenant(&crm(), "acme").await
}

async fn account(session: &Session, name: &str) -> Id<Account> {
    let created = session.accounts().create(Account::new(name)).await;
    created.unwrap().id
}

fn remark(object: &str, id: Uuid, topic: &str) -> Remark {
    Remark::new(object, id, topic)
}

async fn merge(session: &Session, survivor: Id<Account>, losers: &[Id<Account>]) -> Vec<Id<Merge>> {
    let merged = session
        .accounts()
        .merge_into(survivor, losers, &Choices::new(), Some("the same company"))
        .await;
    merged.unwrap().merges
}

/// Every row of the objects that have a life, without what every write changes.
async fn state(session: &Session) -> BTreeMap<(String, Uuid), Map<String, Json>> {
    let mut state = BTreeMap::new();
    let objects = session.engine().registry().objects();
    for object in objects.values() {
        if object.lifecycle() != Lifecycle::Full || object.name() == "merge" {
            continue;
        }
        for row in rows(session, object.name()).await {
            let mut json = row.to_json();
            for stamp in ["version", "updated_at", "updated_by", "updated_by_id"] {
                json.remove(stamp);
            }
            state.insert((object.name().to_owned(), row.id()), json);
        }
    }
    state
}

async fn rows(session: &Session, object: &str) -> Vec<Row> {
    let find = Find::<()>::new().with_archived().with_deleted().limit(500);
    let records = session.object(object).await.unwrap();
    let mut page = records.find(&find).await.unwrap();
    let mut rows = std::mem::take(&mut page.items);
    while let Some(next) = page.next {
        page = records.find(&find.clone().after(next)).await.unwrap();
        rows.append(&mut page.items);
    }
    rows
}

fn assert_same(
    after: &BTreeMap<(String, Uuid), Map<String, Json>>,
    before: &BTreeMap<(String, Uuid), Map<String, Json>>,
) {
    for (place, row) in before {
        assert_eq!(after.get(place), Some(row), "{place:?} differs");
    }
    assert_eq!(after.len(), before.len());
}

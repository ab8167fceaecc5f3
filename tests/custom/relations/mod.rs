//! C-035, C-037, R-070, R-072, R-199, R-200, R-290 to: lookups,
//! parts and their wholes, and links between records of built-in and custom objects.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod links;
mod lookups;
mod properties;
mod survival;

use std::collections::BTreeSet;

use crm_engine::custom_objects::{Cardinality, CustomObject, CustomRelationship, RelationshipKind};
use crm_engine::prelude::*;
use crm_engine::schema::Row;
use crm_engine::value::ApiName;
use serde_json::{Value as Json, json};
use uuid::Uuid;

const NOBODY: Uuid = Uuid::from_u128(7);

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

async fn object(session: &Session, api_name: &str) -> Id<CustomObject> {
    let object = CustomObject::new(name(api_name), api_name, format!("{api_name}s"));
    let objects = session.records::<CustomObject>().create(object).await;
    objects.unwrap().id
}

fn relation(from: &str, api_name: &str, to: &str, kind: RelationshipKind) -> CustomRelationship {
    let cardinality = match kind {
        RelationshipKind::ManyToMany => Cardinality::ManyToMany,
        _ => Cardinality::ManyToOne,
    };
    CustomRelationship::new(name(api_name), name(from), name(to), kind, cardinality)
}

async fn relate(session: &Session, relationship: CustomRelationship) -> Id<CustomRelationship> {
    let relationships = &mut session.records::<CustomRelationship>();
    relationships.create(relationship).await.unwrap().id
}

async fn try_create(session: &Session, object: &str, custom: Json) -> Result<Row> {
    let body = json!({"name": "One", "custom_fields": custom});
    let mut records = session.object(object).await?;
    records.create(body.as_object().unwrap()).await
}

async fn create(session: &Session, object: &str, custom: Json) -> Uuid {
    try_create(session, object, custom).await.unwrap().id()
}

async fn set(session: &Session, object: &str, id: Uuid, custom: Json) -> Result<Row> {
    let mut records = session.object(object).await?;
    let version = records.get(id).await?.version();
    let patch = json!({"custom_fields": custom});
    records.merge(id, version, patch.as_object().unwrap()).await
}

async fn delete(session: &Session, object: &str, id: Uuid) -> Result<()> {
    session.object(object).await?.delete(id).await
}

async fn restore(session: &Session, object: &str, id: Uuid) -> Result<Row> {
    session.object(object).await?.restore(id).await
}

async fn account(session: &Session, called: &str) -> Uuid {
    let made = session.accounts().create(Account::new(called)).await;
    made.unwrap().id.uuid()
}

/// The value of a custom field of a record that is there.
async fn value(session: &Session, object: &str, id: Uuid, field: &str) -> Json {
    let row = session.object(object).await.unwrap().get(id).await.unwrap();
    let document = row.get("custom_fields").to_json();
    document.get(field).cloned().unwrap_or(Json::Null)
}

async fn is_live(session: &Session, object: &str, id: Uuid) -> bool {
    session.object(object).await.unwrap().get(id).await.is_ok()
}

async fn found(session: &Session, object: &str, filter: Filter) -> BTreeSet<Uuid> {
    let find = Find::<()>::new().filter_by_name(filter);
    let records = session.object(object).await.unwrap();
    let page = records.find(&find).await.unwrap();
    page.items.iter().map(|row| row.id()).collect()
}

fn filter(json: Json) -> Filter {
    serde_json::from_value(json).unwrap()
}

/// The faults of what is refused.
fn faults<T: std::fmt::Debug>(result: Result<T>) -> Vec<(String, &'static str)> {
    match result.unwrap_err() {
        Error::Validation(error) => error
            .into_errors()
            .into_iter()
            .map(|fault| (fault.path, fault.code))
            .collect(),
        other => panic!("refused otherwise: {other}"),
    }
}

/// A tenant with projects that may have an account, and parts of parts of them.
async fn projects(session: &Session) {
    for api_name in ["project", "phase", "task"] {
        object(session, api_name).await;
    }
    let lookup = relation("project", "customer", "account", RelationshipKind::Lookup);
    relate(session, lookup).await;
    let part = RelationshipKind::MasterDetail;
    relate(session, relation("phase", "of_project", "project", part)).await;
    relate(session, relation("task", "of_phase", "phase", part)).await;
    let involved = relation(
        "project",
        "involved",
        "account",
        RelationshipKind::ManyToMany,
    );
    relate(session, involved).await;
}

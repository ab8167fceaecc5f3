//! Objects and fields that tenants define are like the built-in ones: in every service of the engine
//! (`services`), in activities (`activities`), and under random changes (`model`).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod activities;
mod fields;
mod model;
mod services;

use crate::common;
use std::sync::Arc;

use crm_engine::custom_objects::{CustomField, CustomFieldOption, CustomFieldType, CustomObject};
use crm_engine::prelude::*;
use crm_engine::schema::Row;
use crm_engine::value::ApiName;
use serde_json::{Map, Value as Json, json};

pub(crate) fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

pub(crate) fn body(json: &Json) -> &Map<String, Json> {
    json.as_object().unwrap()
}

/// Defines an object.
pub(crate) async fn define(session: &Session, api_name: &str) -> Arc<Record<CustomObject>> {
    let object = CustomObject::new(name(api_name), api_name, api_name);
    let objects = session.records::<CustomObject>().create(object).await;
    objects.unwrap()
}

/// Adds a field to an object, with its options.
pub(crate) async fn add(
    session: &Session,
    object: &str,
    api_name: &str,
    (label, field_type): (&str, CustomFieldType),
    options: &[&str],
) -> Id<CustomField> {
    let field = CustomField::new(name(object), name(api_name), label, field_type);
    let id = session
        .records::<CustomField>()
        .create(field)
        .await
        .unwrap()
        .id;
    for (place, option) in options.iter().enumerate() {
        let option = CustomFieldOption {
            position: u32::try_from(place).unwrap(),
            ..CustomFieldOption::new(id, *option, *option)
        };
        let options = session.records::<CustomFieldOption>().create(option).await;
        options.unwrap();
    }
    id
}

/// Defines projects: an object with fields of several types.
pub(crate) async fn define_projects(session: &Session) -> Arc<Record<CustomObject>> {
    let object = define(session, "project").await;
    let customer = CustomFieldType::Lookup {
        object: name("account"),
        cascade: false,
    };
    let kinds = [
        ("code", "Code", CustomFieldType::Text(Default::default())),
        ("phase", "Phase", CustomFieldType::Picklist),
        (
            "budget",
            "Budget",
            CustomFieldType::Decimal(Default::default()),
        ),
        (
            "hours",
            "Hours",
            CustomFieldType::Number(Default::default()),
        ),
        ("starts", "Kick-off day", CustomFieldType::Date),
        ("customer", "Customer", customer),
    ];
    for (api_name, label, kind) in kinds {
        let options: &[&str] = match api_name {
            "phase" => &["idea", "build", "done"],
            _ => &[],
        };
        add(session, "project", api_name, (label, kind), options).await;
    }
    object
}

/// A new tenant with the object of projects.
pub(crate) async fn office(
    crm: &Crm,
    subdomain: &str,
) -> (crm_engine::tenancy::Onboarded, Session) {
    let (onboarded, session) = common::tenant(crm, subdomain).await;
    define_projects(&session).await;
    (onboarded, session)
}

pub(crate) async fn make(session: &Session, object: &str, json: Json) -> Row {
    let mut records = session.object(object).await.unwrap();
    records.create(body(&json)).await.unwrap()
}

/// The records that a filter finds, in an order.
pub(crate) fn find(filter: Json, sort: &str) -> Find<()> {
    Find::new()
        .filter_by_name(Filter::from_json(&filter).unwrap())
        .sort(crm_engine::query::Sort::asc(sort.to_owned()))
}

/// Their names.
pub(crate) async fn names(session: &Session, object: &str, find: Find<()>) -> Vec<String> {
    let records = session.object(object).await.unwrap();
    let page = records.find(&find).await.unwrap();
    let name = |row: &Row| row.get("name").as_text().unwrap().to_owned();
    page.items.iter().map(name).collect()
}

/// C-032, C-033, C-036.
#[tokio::test]
async fn a_defined_object_and_field_are_used_at_once() {
    let crm = common::crm();
    let (_, session) = common::tenant(&crm, "acme").await;
    session
        .records::<CustomObject>()
        .create(CustomObject::new(name("project"), "Project", "Projects"))
        .await
        .unwrap();
    let budget = CustomField::new(
        name("project"),
        name("budget"),
        "Budget",
        CustomFieldType::Decimal(Default::default()),
    );
    session
        .records::<CustomField>()
        .create(budget)
        .await
        .unwrap();

    let mut projects = session.object("project").await.unwrap();
    let body = json!({"name": "Rollout", "custom_fields": {"budget": 1500}});
    let rollout = projects.create(body.as_object().unwrap()).await.unwrap();
    assert_eq!(rollout.object().name(), "project");
    assert_eq!(
        rollout.get("custom_fields").to_json(),
        json!({"budget": "1500"})
    );
    let body = json!({"name": "Relaunch", "custom_fields": {"budget": "300", "none": 1}});
    let refused = projects
        .create(body.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(refused.field_errors()[0].path, "custom_fields.none");

    let body = json!({"name": "Relaunch", "custom_fields": {"budget": "300"}});
    projects.create(body.as_object().unwrap()).await.unwrap();
    for field in ["budget", "custom_fields.budget"] {
        let large = Find::new().filter_by_name(Filter::Compare {
            field: field.into(),
            op: crm_engine::query::Comparison::Gt,
            value: 1000_i64.into(),
        });
        let found = projects.find(&large).await.unwrap();
        assert_eq!(found.items.len(), 1);
        assert_eq!(found.items[0].id(), rollout.id());
    }

    let other = common::tenant(&crm, "other").await.1;
    assert!(other.object("project").await.is_err());
}

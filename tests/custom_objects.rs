//! Definitions of a tenant, as the engine sees them: a custom object and custom fields of the
//! engine's objects, from their definition to the trail.

mod common;

use crm_engine::custom_objects::{CustomField, CustomFieldType, CustomObject};
use crm_engine::prelude::*;
use crm_engine::value::ApiName;
use serde_json::json;

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
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

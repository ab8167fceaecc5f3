//! Two kinds of records that no CRM ships with, defined while the program runs: projects, with what
//! is done for them and what follows from it, and a catalogue of offers that deals are made of.
//!
//! `cargo run --example custom_objects` keeps everything in memory, `-- --postgres URL` in a database.

mod catalogue;
mod computed;
mod projects;
#[path = "../shared/story.rs"]
mod story;

use std::sync::Arc;

use crm_engine::custom_objects::{CustomField, CustomFieldOption, CustomFieldType, CustomObject};
use crm_engine::engine::SystemClock;
use crm_engine::prelude::*;
use crm_engine::schema::Row;
use crm_engine::value::ApiName;
use serde_json::{Map, Value as Json};

use story::{BoxError, open};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let (crm, subdomain) = open("custom_objects", Arc::new(SystemClock)).await?;
    let acme = crm
        .onboard(Onboarding::new("Acme", &subdomain, "ada@acme.example"))
        .await?;
    let session = crm.session(acme.tenant, Actor::User(acme.admin));
    projects::show(&session, &acme).await?;
    computed::show(&session, &acme).await?;
    catalogue::show(&session, &acme).await
}

/// Defines an object; from now on the tenant's sessions know it by its name.
async fn define(session: &Session, object: CustomObject) -> Result<(), BoxError> {
    session.records().create(object).await?;
    Ok(())
}

/// A field as it is mostly wanted; what is special about one is said where it is made.
fn field(
    object: &str,
    api_name: &str,
    label: &str,
    field_type: CustomFieldType,
) -> Result<CustomField, BoxError> {
    let (object, api_name) = (ApiName::parse(object)?, ApiName::parse(api_name)?);
    Ok(CustomField::new(object, api_name, label, field_type))
}

fn required(field: CustomField) -> CustomField {
    CustomField {
        is_required: true,
        ..field
    }
}

/// Adds a field. No table is rewritten and nobody waits: it is a row among the definitions.
async fn add(session: &Session, field: CustomField) -> Result<Id<CustomField>, BoxError> {
    Ok(session.records().create(field).await?.id)
}

/// Adds a picklist; new records start with its first option.
async fn add_picklist(
    session: &Session,
    field: CustomField,
    options: &[(&str, &str)],
) -> Result<(), BoxError> {
    let id = add(session, field).await?;
    let mut work = session.begin();
    for (place, (value, label)) in (0_u32..).zip(options) {
        let option = CustomFieldOption {
            position: place,
            is_default: place == 0,
            ..CustomFieldOption::new(id, *value, *label)
        };
        work.records().create(option).await?;
    }
    work.commit().await?;
    Ok(())
}

/// Makes a record of an object by its name.
async fn make(session: &Session, object: &str, body: Json) -> Result<Row, BoxError> {
    Ok(session
        .object(object)
        .await?
        .create(members(&body)?)
        .await?)
}

fn members(body: &Json) -> Result<&Map<String, Json>, BoxError> {
    Ok(body.as_object().ok_or("a record is a JSON object")?)
}

/// The records that a filter finds, in the order of a field.
async fn find(
    session: &Session,
    object: &str,
    filter: &Json,
    sort: &'static str,
) -> Result<Vec<Row>, BoxError> {
    let find = Find::new()
        .filter_by_name(Filter::from_json(filter)?)
        .sort(crm_engine::query::Sort::asc(sort));
    Ok(session.object(object).await?.find(&find).await?.items)
}

/// The name of a record.
fn name(row: &Row) -> String {
    row.get("name").as_text().unwrap_or_default().to_owned()
}

/// A custom value of a record, as people read it.
fn value(row: &Row, key: &str) -> String {
    match row.get("custom_fields").to_json().get(key) {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Null) | None => "none".to_owned(),
        Some(other) => other.to_string(),
    }
}

/// What is printed of a refusal: every fault with its place.
fn refusal(error: &Error) -> String {
    let faults = error.field_errors().iter();
    let faults: Vec<String> = faults
        .map(|fault| format!("{} {}", fault.path, fault.message))
        .collect();
    match faults.as_slice() {
        [] => error.to_string(),
        faults => faults.join("; "),
    }
}

//! C-058, C-061, C-103, C-104: versions, states as of a time, differences, the history of fields,
//! restored versions and fields, undone commits.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod properties;
mod reading;
mod restore;
mod undo;

use crate::common;
use std::sync::Arc;

use crate::common::Property;
use chrono::{DateTime, TimeDelta, Utc};
use crm_engine::custom_objects::{CustomField, CustomFieldType, CustomObject, TextLimits};
use crm_engine::engine::{Clock, ManualClock};
use crm_engine::prelude::*;
use crm_engine::value::ApiName;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

/// A tenant of a CRM whose clock is moved by hand.
pub(crate) struct Office {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) crm: Crm,
    pub(crate) session: Session,
    pub(crate) onboarded: crm_engine::tenancy::Onboarded,
}

impl Office {
    pub(crate) async fn new() -> Self {
        let clock = Arc::new(ManualClock::new("2026-01-05T09:00:00Z".parse().unwrap()));
        let crm = Crm::builder(common::backend::storage(&[Property::schema()]))
            .object::<Property>()
            .clock(clock.clone())
            .build();
        let (onboarded, session) = common::tenant(&crm, "acme").await;
        Self {
            clock,
            crm,
            session,
            onboarded,
        }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub(crate) fn hours_pass(&self, hours: i64) {
        self.clock.advance(TimeDelta::hours(hours));
    }
}

pub(crate) fn members(json: Json) -> Map<String, Json> {
    json.as_object().unwrap().clone()
}

pub(crate) fn api_name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

/// An object of the tenant, with two fields of its own.
pub(crate) async fn projects(session: &Session) {
    session
        .records::<CustomObject>()
        .create(CustomObject::new(
            api_name("project"),
            "Project",
            "Projects",
        ))
        .await
        .unwrap();
    for name in ["site", "city"] {
        text_field(session, "project", name).await;
    }
}

pub(crate) async fn text_field(session: &Session, object: &str, name: &str) {
    let kind = CustomFieldType::Text(TextLimits::default());
    let label = format!("The {name}");
    let field = CustomField::new(api_name(object), api_name(name), label, kind);
    session
        .records::<CustomField>()
        .create(field)
        .await
        .unwrap();
}

/// The commit of the last event of a record.
pub(crate) async fn last_commit(session: &Session, record: impl Into<EntityRef> + Send) -> Uuid {
    let page = session.audit().trail_page(record, 1, None).await.unwrap();
    page.items[0].commit_id
}

/// A new account.
async fn account(session: &Session, name: &str) -> Id<Account> {
    let account = session.accounts().create(Account::new(name)).await;
    account.unwrap().id
}

/// A new account in a unit of work.
async fn staged(work: &mut UnitOfWork, name: &str) -> Id<Account> {
    let account = work.accounts().create(Account::new(name)).await;
    account.unwrap().id
}

/// Gives an account another name.
async fn rename(session: &Session, account: Id<Account>, name: &str) {
    let change = |account: &mut Account| account.name = name.into();
    let renamed = session.accounts().update(account, change).await;
    renamed.unwrap();
}

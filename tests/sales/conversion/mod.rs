//! C-006, R-032 to: leads become contacts, accounts and deals, stay as they are from then
//! on, and become leads again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod carried;
mod consents;
mod converted;
mod converting;
mod mapping;
mod properties;
mod refusals;
mod undoing;

use std::collections::BTreeMap;

use crm_engine::merging::{Choices, Merge};
use crm_engine::prelude::*;
use crm_engine::privacy::{Consent, ConsentEvidence, Grant};
use crm_engine::tenancy::Onboarded;
use crm_engine::value::{Country, HttpUrl};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::common::{crm, rows_of, tenant, writable_objects};

fn email(text: &str) -> Option<EmailAddress> {
    Some(EmailAddress::parse(text).unwrap())
}

fn bill() -> Lead {
    Lead {
        name: Some(PersonName::new("Bill", "Lumbergh")),
        company: Some("Initech".into()),
        email: email("bill@initech.example"),
        job_title: Some("Vice president".into()),
        website: Some(HttpUrl::parse("https://initech.example").unwrap()),
        industry: Some("Software".into()),
        employee_count: Some(120),
        mailing_address: Some(Address {
            city: Some("Austin".into()),
            country: Some(Country::parse("US").unwrap()),
            ..Address::default()
        }),
        description: Some("Wants reports".into()),
        decision_maker: true,
        tags: vec!["fair".into()],
        custom_fields: json!({"segment": "mid", "printers": 3}),
        ..Lead::default()
    }
}

async fn scene() -> (Onboarded, Session) {
    tenant(&crm(), "acme").await
}

async fn lead(session: &Session, lead: Lead) -> Id<Lead> {
    session.leads().create(lead).await.unwrap().id
}

fn faults(error: &Error) -> Vec<(&str, &str)> {
    let errors = error.field_errors().iter();
    errors
        .map(|error| (error.path.as_str(), error.code))
        .collect()
}

async fn merge<E: Entity>(session: &Session, survivor: Id<E>, loser: Id<E>) -> Id<Merge> {
    let mut records = session.records::<E>();
    let merged = records
        .merge_into(survivor, &[loser], &Choices::new(), None)
        .await;
    merged.unwrap().merges[0]
}

/// Every live record that users write, without versions and stamps.
async fn state(session: &Session) -> BTreeMap<(String, Uuid), Map<String, Json>> {
    let mut state = BTreeMap::new();
    for object in writable_objects(session) {
        for row in rows_of(session, object.name()).await {
            if row.is_deleted() {
                continue;
            }
            let mut json = row.to_json();
            for field in ["version", "updated_at", "updated_by", "updated_by_id"] {
                json.remove(field);
            }
            state.insert((object.name().to_owned(), row.id()), json);
        }
    }
    state
}

async fn consent(
    session: &Session,
    of: impl Into<crm_engine::privacy::ConsentSubject>,
) -> Id<Consent> {
    let grant = Grant::new(
        "marketing_email".parse().unwrap(),
        ConsentEvidence::default(),
    );
    session.consents().grant(of, grant).await.unwrap().id
}

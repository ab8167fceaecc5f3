//! Duplicates: rules as data, checks, strict rules, keys in step with records, scans.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod checks;
mod files;
mod keys;
mod pending;
mod scans;
mod strict;

use crate::common::backend;
use crm_engine::duplicates::{DuplicateMatch, MatchRule};
use crm_engine::prelude::*;
use serde_json::{Value as Json, json};
use uuid::Uuid;

pub(crate) async fn tenant(crm: &Crm, name: &str) -> Session {
    let email = format!("ada@{name}.example");
    let onboarded = crm
        .onboard(Onboarding::new(name, name, email))
        .await
        .unwrap();
    crm.session(onboarded.tenant, Actor::User(onboarded.admin))
}

pub(crate) async fn session() -> Session {
    tenant(&Crm::builder(backend::storage(&[])).build(), "acme").await
}

/// Sets a rule and builds its keys.
pub(crate) async fn rule(
    session: &Session,
    object: &str,
    mode: DuplicateMode,
    rule: Json,
) -> Id<DuplicateRule> {
    let rule = DuplicateRule {
        mode,
        ..DuplicateRule::new(
            format!("{object} {rule}")
                .chars()
                .take(100)
                .collect::<String>(),
            object,
            MatchRule::from_json(&rule).unwrap(),
        )
    };
    let id = session.duplicate_rules().create(rule).await.unwrap().id;
    session
        .duplicates()
        .rebuild_keys(id, None, &())
        .await
        .unwrap();
    id
}

pub(crate) fn contact(first: &str, last: &str, phone: Option<&str>) -> Contact {
    Contact {
        phone: phone.map(|phone| phone.parse().unwrap()),
        ..Contact::named(first, last)
    }
}

/// Creates a contact that no strict rule refuses.
pub(crate) async fn create(
    session: &Session,
    first: &str,
    last: &str,
    phone: Option<&str>,
) -> Id<Contact> {
    let created = session.contacts().create(contact(first, last, phone)).await;
    created.unwrap().id
}

/// Whom a new contact with this number would be like.
pub(crate) async fn like(session: &Session, phone: Option<&str>) -> Vec<Uuid> {
    let check = session.duplicates().check(&contact("X", "Y", phone)).await;
    ids(&check.unwrap().matches)
}

pub(crate) fn by_phone() -> Json {
    json!({"when": {"any": [{"field": "phone", "also": ["mobile"], "method": "phone"}]}})
}

pub(crate) fn like_names() -> Json {
    json!({
        "when": {"all": [
            {"field": "first_name", "method": "jaro_winkler", "at_least": 0.85},
            {"field": "last_name", "method": "jaro_winkler", "at_least": 0.85}
        ]},
        "keys": [
            [{"field": "last_name", "form": "phonetic", "algorithm": "soundex"}],
            [{"field": "first_name", "form": "first", "length": 3}]
        ]
    })
}

pub(crate) fn ids(matches: &[DuplicateMatch]) -> Vec<Uuid> {
    matches.iter().map(|found| found.record.id).collect()
}

//! A whole tenant as a file, and back as another tenant, on any backend (C-086, C-087, C-168).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod broken_off;
mod hostile;
mod moving;
mod properties;

use chrono::TimeDelta;
use crm_engine::MemoryStorage;
use crm_engine::duplicates::{DuplicateMode, DuplicateRule};
use crm_engine::exchange::tenant::{Manifest, TenantExport, moved_id};
use crm_engine::prelude::*;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::common;
use crate::common::{Picture, Property, picture, populate};

fn in_memory() -> Crm {
    Crm::builder(MemoryStorage::new())
        .object::<Property>()
        .build()
}

async fn export(session: &Session) -> (Vec<u8>, Manifest) {
    let mut file = Vec::new();
    let manifest = TenantExport::new()
        .run(session, &mut file, &())
        .await
        .unwrap();
    (file, manifest)
}

/// A document with every id as it is after the move.
fn visit(json: Json, from: Uuid, to: Id<Tenant>) -> Json {
    let text = |text: String| match Uuid::try_parse(&text) {
        Ok(id) if id == from => to.to_string(),
        Ok(id) if text.len() == 36 => moved_id(to, id).to_string(),
        // Who did it.
        _ => match text
            .split_once(':')
            .map(|(kind, id)| (kind, Uuid::try_parse(id)))
        {
            Some((kind @ ("user" | "import" | "api_client"), Ok(id))) => {
                format!("{kind}:{}", moved_id(to, id))
            }
            _ => text,
        },
    };
    match json {
        Json::String(one) => Json::String(text(one)),
        Json::Array(all) => all.into_iter().map(|json| visit(json, from, to)).collect(),
        Json::Object(members) => {
            let members = members.into_iter();
            Json::Object(
                members
                    .map(|(name, json)| (text(name), visit(json, from, to)))
                    .collect(),
            )
        }
        other => other,
    }
}

/// The picture of a tenant with every id as it is after the move, without its exports and what
/// tells of them, and without secrets.
fn moved(picture: Picture, from: Id<Tenant>, to: Id<Tenant>, manifest: &Manifest) -> Picture {
    let own = manifest.head.export.to_string();
    let mut moved = Picture::new();
    for (object, rows) in picture {
        // What the engine derives from other records is not in a file.
        let Some(summary) = manifest.object(&object) else {
            continue;
        };
        let secret = &summary.fields_left_out;
        let rows = rows
            .into_iter()
            .filter(|row| row["id"] != *own && row.get("record_id") != Some(&json!(own)));
        let mut rows: Vec<Map<String, Json>> = rows
            .map(|mut row| {
                for name in secret {
                    row.insert(name.clone(), Json::Null);
                }
                let Json::Object(row) = visit(Json::Object(row), from.uuid(), to) else {
                    panic!()
                };
                row
            })
            .collect();
        rows.sort_by_key(|row| row["id"].to_string());
        moved.insert(object, rows);
    }
    moved
}

async fn sorted(session: &Session, manifest: &Manifest) -> Picture {
    let mut all = picture(session).await;
    all.retain(|object, _| manifest.object(object).is_some());
    for rows in all.values_mut() {
        rows.sort_by_key(|row| row["id"].to_string());
    }
    all
}

/// Something of everything: a tree in the wrong order, archived and deleted records, documents with
/// ids, and no secret that could be lost on the way.
async fn scene(crm: &Crm) -> common::Populated {
    let acme = populate(crm, "acme").await;
    let session = &acme.session;
    let young = session
        .accounts()
        .create(Account::new("Holding"))
        .await
        .unwrap();
    session
        .accounts()
        .update(acme.account, |account| {
            account.parent_account_id = Some(young.id);
            account.custom_fields = json!({"partner": acme.contact.to_string(), "note": "=1"});
        })
        .await
        .unwrap();
    session
        .users()
        .update(acme.onboarded.admin, |user| {
            user.job_title = Some("Chief".into());
        })
        .await
        .unwrap();
    session.contacts().archive(acme.contact).await.unwrap();
    let gone = session
        .accounts()
        .create(Account::new("Gone"))
        .await
        .unwrap();
    session.accounts().delete(gone.id).await.unwrap();
    acme
}

/// A rule that refuses a second contact of the same name and telephone number.
async fn people_rule(session: &Session, name: &str, mode: DuplicateMode) -> Id<DuplicateRule> {
    let mut rule = DuplicateRule::contacts();
    rule.mode = mode;
    rule.name = format!("{} {}", rule.name, name);
    let mut rules = session.duplicate_rules();
    rules.create(rule).await.unwrap().id
}

/// Something derived: a duplicate rule that is ready, one that is not, and activities.
async fn derived_scene(crm: &Crm) -> common::Populated {
    let acme = scene(crm).await;
    let session = &acme.session;
    let ready = people_rule(session, "ready", DuplicateMode::Warn).await;
    let duplicates = session.duplicates();
    duplicates.rebuild_keys(ready, None, &()).await.unwrap();
    let now = crm.clock().now();
    for (days, is_done) in [(-9, true), (3, false), (9, false)] {
        let at = now + TimeDelta::days(days);
        let admin = acme.onboarded.admin;
        let mut call = Activity::new(ActivityType::Call, "Call", acme.account, admin);
        call.links.deal_id = Some(acme.deal);
        call.due_date = Some(at.max(now + TimeDelta::days(1)));
        let call = session.activities().create(call).await.unwrap();
        if is_done {
            session.activities().complete(call.id, None).await.unwrap();
        }
    }
    let ada = Contact {
        email: Some("ada@analytical.example".parse().unwrap()),
        ..Contact::named("Ada", "Lovelace")
    };
    session.contacts().create(ada).await.unwrap();
    people_rule(session, "building", DuplicateMode::Warn).await;
    acme
}

/// Everything derived is right in a moved tenant: checks find the moved records by every rule, and
/// what linked records know of their activities goes on from where it stood.
async fn assert_derived_is_right(session: &Session, account: Id<Account>) {
    let ada = Contact {
        email: Some("Ada@Analytical.example".parse().unwrap()),
        ..Contact::named("Ada", "Lovelace")
    };
    let check = session.duplicates().check(&ada).await.unwrap();
    assert!(!check.matches.is_empty(), "the moved contact is found");
    let rebuilt = session.activities().rebuild_roll_ups(&()).await.unwrap();
    assert_eq!(rebuilt.mended, 0);
    assert!(rebuilt.records >= 2);
    let states = session.deals().begin_states(&()).await.unwrap();
    assert_eq!(states.begun, 0, "each deal has its state");
    let before = session.accounts().get(account).await.unwrap();
    let was_wrong = session.activities().recompute(account).await.unwrap();
    assert!(!was_wrong);
    // A later activity takes nothing from the earlier one that came along.
    let owner = session
        .users()
        .find_one(Find::new())
        .await
        .unwrap()
        .unwrap()
        .id;
    let mut later = Activity::new(ActivityType::Task, "Later", account, owner);
    later.due_date = before.next_activity_at.map(|at| at + TimeDelta::days(100));
    let later = session.activities().create(later).await.unwrap();
    let after = session.accounts().get(account).await.unwrap();
    assert!(before.next_activity_at.is_some() && before.last_activity_at.is_some());
    assert_eq!(after.next_activity_at, before.next_activity_at);
    assert_eq!(after.last_activity_at, before.last_activity_at);
    session.activities().delete(later.id).await.unwrap();
}

/// The records of a file as sorted lines.
fn lines(file: &[u8]) -> Vec<Json> {
    let text = std::str::from_utf8(file).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Json| line.get("object").is_some())
        .collect()
}

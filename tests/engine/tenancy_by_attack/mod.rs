//! A session of one tenant tries everything with the ids of another tenant, and gets exactly what
//! it gets for ids that never existed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

/// What is told of a record of another tenant is what is told of one that never existed.
macro_rules! same {
    ($what:literal, $foreign:expr, |$id:ident| $call:expr) => {{
        let foreign = {
            let $id = $foreign;
            crate::tenancy_by_attack::told($call, $foreign.uuid())
        };
        let ghost = {
            #[allow(unused_assignments, reason = "gives the ghost the type of the id")]
            let mut $id = $foreign;
            $id = Id::new(crate::tenancy_by_attack::GHOST);
            crate::tenancy_by_attack::told($call, crate::tenancy_by_attack::GHOST)
        };
        assert_eq!(foreign, ghost, $what);
    }};
}

mod activities;
mod deals;
mod leads;
mod records;
mod services;
mod tenant_objects;

use std::collections::BTreeMap;
use std::fmt::Debug;

use crm_engine::engine::NamedRecords;
use crm_engine::prelude::*;
use crm_engine::query::Filter;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::common;
use crate::common::{Populated, populate, rows_of};

/// An id that no record ever had.
const GHOST: Uuid = Uuid::from_u128(0x0193_2c07_209c_7a4b_8000_0000_dead_beef);

/// What a caller is told, without the id that it asked for.
fn told<T: Debug>(outcome: Result<T>, id: Uuid) -> String {
    match outcome {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{} | {error} | {error:?}", error.code()),
    }
    .replace(&id.to_string(), "ID")
}

/// Two tenants with a record of every object, of which the second attacks the first.
struct Scene {
    victim: Populated,
    attacker: Populated,
}

impl Scene {
    async fn new() -> Self {
        let crm = common::crm();
        let victim = populate(&crm, "victim").await;
        let attacker = populate(&crm, "attacker").await;
        Self { victim, attacker }
    }

    /// The ids of every record of the victim, by object; every object has some.
    async fn targets(&self) -> BTreeMap<String, Vec<Uuid>> {
        let mut targets = BTreeMap::new();
        for name in self.victim.session.engine().registry().objects().keys() {
            if name == crm_engine::audit::archived_events().name() {
                // Only the owner of the database moves events there; `seals` looks at it.
                continue;
            }
            let ids: Vec<_> = rows_of(&self.victim.session, name)
                .await
                .iter()
                .map(|row| row.id())
                .collect();
            assert!(
                !ids.is_empty(),
                "no {name} to attack: add one to the populated tenant"
            );
            targets.insert(name.clone(), ids);
        }
        targets
    }
}

const OPERATIONS: [&str; 12] = [
    "get",
    "find by id",
    "find with everything",
    "aggregate",
    "merge",
    "merge nothing",
    "merge another version",
    "archive",
    "unarchive",
    "delete",
    "restore",
    "purge",
];

/// One operation by name, and what it tells.
async fn operate(records: &mut NamedRecords<'_>, operation: &str, id: Uuid) -> String {
    let field = records
        .schema()
        .own_fields()
        .iter()
        .find(|field| !field.read_only);
    let patch: Map<String, Json> = field
        .map(|field| (field.name.to_string(), json!("Taken over")))
        .into_iter()
        .collect();
    let by_id = Filter::eq("id", id);
    let json = |row: crm_engine::schema::Row| row.to_json();
    match operation {
        "get" => told(records.get(id).await.map(json), id),
        "find by id" => {
            let page = records.find(&Find::new().filter_by_name(by_id)).await;
            told(page.map(|page| page.map(json)), id)
        }
        "find with everything" => {
            let find = Find::new()
                .filter_by_name(by_id)
                .with_archived()
                .with_deleted();
            told(records.find(&find).await.map(|page| page.map(json)), id)
        }
        "aggregate" => {
            let count = Aggregate::new()
                .filter_by_name(by_id)
                .with_deleted()
                .count();
            told(records.aggregate(&count).await, id)
        }
        "merge" => told(records.merge(id, 1, &patch).await.map(json), id),
        "merge nothing" => told(records.merge(id, 1, &Map::new()).await.map(json), id),
        "merge another version" => told(records.merge(id, 99, &patch).await.map(json), id),
        "archive" => told(records.archive(id).await.map(json), id),
        "unarchive" => told(records.unarchive(id).await.map(json), id),
        "delete" => told(records.delete(id).await, id),
        "restore" => told(records.restore(id).await.map(json), id),
        "purge" => told(records.purge(id).await, id),
        other => panic!("no operation is called {other}"),
    }
}

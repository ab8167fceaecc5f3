//! Differences that were found, each by the few operations that show it.

use chrono::DateTime;
use crm_engine::query::{Condition, Query, SortKey};
use crm_engine::schema::{Meta, ObjectRef, Row};
use crm_engine::storage::conformance;
use crm_engine::storage::{Change, ChangeSet, Claim, Storage as _};
use serde_json::json;

use super::compare::{outcome, same_rows};
use super::postgres;
use super::values::Random;
use super::world::World;

async fn world(objects: Vec<ObjectRef>) -> World {
    let mut world = World::new(postgres().await, &objects);
    world.random = Random(1);
    world
}

impl World {
    fn row_of<E: crm_engine::schema::Entity>(&mut self, data: E) -> Row {
        let meta = Meta::first(self.new_id(), self.stamp());
        std::sync::Arc::new(crm_engine::Record::new(meta, data))
    }

    /// What both answer to a commit.
    async fn both(&self, changes: Vec<Change>) -> [String; 2] {
        let scope = self.scope(0);
        let changes = ChangeSet::new(self.tenants[0], DateTime::UNIX_EPOCH, changes, Vec::new());
        [
            outcome(&self.memory.commit(&scope, &changes).await),
            outcome(&self.postgres.commit(&scope, &changes).await),
        ]
    }
}

/// `1e17` came back as the whole number 100000000000000000, which is no longer equal.
#[tokio::test]
async fn numbers_of_documents_keep_their_kind() {
    let mut world = world(conformance::objects()).await;
    let numbers = json!([
        1e15,
        1e16,
        1e17,
        -1e18,
        1.8e19,
        1.9e19,
        1e300,
        5e-324,
        1.0,
        u64::MAX
    ]);
    let mut rows = Vec::new();
    for name in ["a", "b", "c"] {
        let mut specimen = conformance::Specimen::new(name);
        specimen.details = Some(numbers.clone());
        specimen.extra = json!({"big": 1e17, "all": numbers});
        rows.push(world.row_of(specimen));
    }
    // One row is bound value by value, several are bound as arrays.
    let mut several: Vec<Change> = rows
        .iter()
        .map(|row| Change::Insert { row: row.clone() })
        .collect();
    let one = several.pop().into_iter().collect();
    assert_eq!(world.both(several).await, ["ok", "ok"]);
    assert_eq!(world.both(one).await, ["ok", "ok"]);
    for (_, storage) in world.storages() {
        let query = Query::new(rows[0].object(), Condition::all());
        let stored = storage.select(&world.scope(0), &query).await.unwrap();
        assert_eq!(stored.len(), 3);
        for row in stored {
            assert_eq!(row.get("details").to_json(), numbers);
            assert_eq!(row.get("extra").to_json()["big"], json!(1e17));
        }
    }
}

/// Row-level security refuses the insert before anything is told apart.
#[tokio::test]
async fn a_tenant_inserts_no_other_tenant() {
    let mut world = world(conformance::objects()).await;
    let other = world.tenants[1];
    let laboratory = world.row_of(conformance::Laboratory {
        name: "Theirs".into(),
        subdomain: None,
    });
    let row = laboratory.with_meta(Meta {
        id: other,
        ..laboratory.meta()
    });
    let conflict = format!("conflict laboratory {other}");
    let answers = world.both(vec![Change::Insert { row }]).await;
    assert_eq!(answers, [conflict.as_str(), &conflict]);
}

/// Rows that are equal in the sort come in the order of their ids: descending, where the last key
/// is, as [`Query::sort`] says.
#[tokio::test]
async fn a_claim_breaks_ties_as_a_query_does() {
    let mut world = world(conformance::objects()).await;
    let mut changes = Vec::new();
    for _ in 0..3 {
        let row = world.row_of(conformance::Chore {
            queue: "q".into(),
            run_at: None,
            claimed_until: None,
            worker: None,
            urgency: 1,
            client: None,
        });
        changes.push(Change::Insert { row });
    }
    assert_eq!(world.both(changes).await, ["ok", "ok"]);
    let object = conformance::objects().remove(2);
    let sort = vec![SortKey {
        index: object.field_index("urgency").unwrap(),
        descending: true,
    }];
    let claim = Claim::new(object, Condition::all(), sort, 2, Vec::new(), world.stamp());
    let scope = world.scope(0);
    let memory = world.memory.claim(&scope, &claim).await.unwrap();
    let postgres = world.postgres.claim(&scope, &claim).await.unwrap();
    assert_eq!(same_rows(&memory, &postgres), Ok(()));
}

//! Indexed members of documents: the derived rows always say what the documents say.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

use chrono::DateTime;
use crm_core::query::{Condition, Filter, Query};
use crm_core::schema::{
    FieldSchema, FieldType, Meta, ObjectRef, ObjectSchema, Registry, Row, Value,
};
use crm_core::storage::{Change, ChangeSet, Claim, Scope, Storage};
use crm_core::{Actor, Id, Stamp};
use crm_storage_postgres::PostgresStorage;
use crm_test_postgres::Database;
use serde_json::{Value as Json, json};
use uuid::Uuid;

fn gadget() -> ObjectRef {
    ObjectSchema::builder("gadget", "gadgets")
        .field(FieldSchema::new("extra", FieldType::Json))
        .build()
}

struct World {
    storage: PostgresStorage,
    plain: PostgresStorage,
    database: Database,
    gadget: ObjectRef,
    scope: Scope,
    tenant: Uuid,
}

async fn world() -> World {
    let gadget = gadget();
    let database = Database::shared("members", std::slice::from_ref(&gadget))
        .await
        .expect("the tests need PostgreSQL");
    let pool = database.pool(3).await.expect("a pool");
    let storage = ["extra.tier", "extra.size"]
        .into_iter()
        .fold(PostgresStorage::builder(), |builder, path| {
            builder.index_member("gadget", path)
        })
        .named_object(&gadget)
        .build(pool.clone());
    let plain = PostgresStorage::builder().named_object(&gadget).build(pool);
    let tenant: Uuid = sqlx::query_scalar("SELECT gen_random_uuid()")
        .fetch_one(plain.pool())
        .await
        .expect("an id");
    World {
        storage,
        plain,
        database,
        gadget,
        scope: Scope::Tenant(Id::new(tenant)),
        tenant,
    }
}

impl World {
    fn row(&self, number: u128, extra: Json) -> Row {
        let stamp = Stamp {
            at: DateTime::UNIX_EPOCH,
            by: Actor::System,
        };
        let meta = Meta::first(Uuid::from_u128(number), stamp);
        self.gadget
            .build(meta, vec![Value::Json(extra)])
            .expect("a document fits")
    }

    fn next(&self, row: &Row, extra: Json) -> Row {
        let meta = row.meta().next(row.meta().updated);
        row.with_values(meta, vec![Value::Json(extra)])
            .expect("a document fits")
    }

    async fn commit(&self, storage: &PostgresStorage, changes: Vec<Change>) {
        let changes = ChangeSet::new(Uuid::nil(), DateTime::UNIX_EPOCH, changes, Vec::new());
        storage
            .commit(&self.scope, &changes)
            .await
            .expect("a commit");
    }

    async fn insert(&self, rows: &[Row]) {
        let changes = rows.iter().map(|row| Change::Insert { row: row.clone() });
        self.commit(&self.storage, changes.collect()).await;
    }

    /// The ids that a filter finds; the same with and without the index.
    async fn find(&self, filter: Json) -> Vec<u128> {
        let filter: Filter = serde_json::from_value(filter).expect("a filter");
        let condition =
            Condition::bind(&filter, &self.gadget, &Registry::default()).expect("it binds");
        let query = Query::new(&self.gadget, condition);
        let ids = |rows: Vec<Row>| {
            rows.iter()
                .map(|row| row.id().as_u128())
                .collect::<Vec<_>>()
        };
        let found = ids(self
            .storage
            .select(&self.scope, &query)
            .await
            .expect("rows"));
        let scanned = ids(self.plain.select(&self.scope, &query).await.expect("rows"));
        assert_eq!(found, scanned, "with and without the index");
        found
    }

    /// How many derived rows the tenant has.
    async fn derived(&self) -> i64 {
        let mut owner = self.database.owner().await.expect("a connection");
        sqlx::query_scalar("SELECT count(*) FROM crm.member_values WHERE tenant_id = $1")
            .bind(self.tenant)
            .fetch_one(&mut owner)
            .await
            .expect("a count")
    }
}

#[tokio::test]
async fn found_by_every_kind_of_value() {
    let world = world().await;
    let long = "x".repeat(300);
    let rows = [
        world.row(1, json!({"tier": "gold", "size": 1})),
        world.row(2, json!({"tier": "silver", "size": 2.5})),
        world.row(3, json!({"tier": true, "size": "2.5"})),
        world.row(4, json!({"tier": null})),
        world.row(5, json!({"tier": ["gold"]})),
        world.row(6, json!({"tier": format!("{long}a"), "size": 1e300})),
        world.row(7, json!({"tier": format!("{long}b"), "size": -3})),
        world.row(8, json!({})),
        world.row(
            9,
            json!({"tier": "Gold' OR 1=1 --", "size": 9_007_199_254_740_993_i64}),
        ),
    ];
    world.insert(&rows).await;
    assert_eq!(
        world
            .find(json!({"field": "extra.tier", "op": "eq", "value": "gold"}))
            .await,
        [1]
    );
    assert_eq!(
        world
            .find(json!({"field": "extra.tier", "op": "ne", "value": "gold"}))
            .await,
        [2, 3, 4, 5, 6, 7, 8, 9]
    );
    assert_eq!(
        world
            .find(json!({"field": "extra.tier", "op": "eq", "value": true}))
            .await,
        [3]
    );
    let value = format!("{long}b");
    assert_eq!(
        world
            .find(json!({"field": "extra.tier", "op": "eq", "value": value}))
            .await,
        [7]
    );
    assert_eq!(
        world
            .find(json!({"field": "extra.tier", "op": "gt", "value": value}))
            .await,
        [] as [u128; 0]
    );
    let value = format!("{long}a");
    assert_eq!(
        world
            .find(json!({"field": "extra.tier", "op": "gt", "value": value}))
            .await,
        [7]
    );
    assert_eq!(
        world
            .find(json!({"field": "extra.size", "op": "gte", "value": 1}))
            .await,
        [1, 2, 9]
    );
    assert_eq!(
        world
            .find(json!({"field": "extra.size", "op": "eq", "value": "2.5"}))
            .await,
        [3]
    );
    assert_eq!(
        world
            .find(json!({"field": "extra.size", "op": "eq", "value": 9_007_199_254_740_992_i64}))
            .await,
        [] as [u128; 0]
    );
    assert_eq!(
        world
            .find(json!({"field": "extra.size", "op": "in", "value": [1, -3]}))
            .await,
        [1, 7]
    );
    assert_eq!(
        world
            .find(json!({"field": "extra.size", "op": "in", "value": [1, "2.5"]}))
            .await,
        [1, 3]
    );
    assert_eq!(
        world
            .find(json!({"not": {"field": "extra.size", "op": "lt", "value": 2}}))
            .await,
        [2, 3, 4, 5, 6, 8, 9]
    );
}

#[tokio::test]
async fn the_rows_follow_the_documents() {
    let world = world().await;
    let gold = json!({"field": "extra.tier", "op": "eq", "value": "gold"});
    let row = world.row(1, json!({"tier": "gold", "size": 1, "other": 1}));
    world.insert(std::slice::from_ref(&row)).await;
    assert_eq!(
        (world.find(gold.clone()).await, world.derived().await),
        (vec![1], 2)
    );

    // One member changes, one goes, one stays.
    let after = world.next(&row, json!({"tier": "silver", "other": 2}));
    let change = Change::Update {
        before: row,
        after: after.clone(),
    };
    world.commit(&world.storage, vec![change]).await;
    assert_eq!(
        (world.find(gold.clone()).await, world.derived().await),
        (vec![], 1)
    );

    let gone = Change::Delete { before: after };
    world.commit(&world.storage, vec![gone]).await;
    assert_eq!(world.derived().await, 0);
}

#[tokio::test]
async fn an_index_that_comes_later_is_made_whole() {
    let world = world().await;
    let rows: Vec<Row> = (1..=2_100)
        .map(|number| world.row(number, json!({"tier": number % 3, "size": "s"})))
        .collect();
    let changes = rows.iter().map(|row| Change::Insert { row: row.clone() });
    world.commit(&world.plain, changes.collect()).await;
    assert_eq!(world.derived().await, 0);
    for _ in 0..2 {
        let count = world
            .storage
            .rebuild_members(&world.scope, &world.gadget)
            .await;
        assert_eq!(count.expect("rebuilt"), 2_100);
        assert_eq!(world.derived().await, 4_200);
    }
    let found = world
        .find(json!({"field": "extra.tier", "op": "eq", "value": 2}))
        .await;
    assert_eq!(found.len(), 700);
}

/// What is not named any more goes with the next rebuilding.
#[tokio::test]
async fn rows_of_a_forgotten_member_go() {
    let world = world().await;
    let row = world.row(1, json!({"tier": "gold", "size": 1}));
    world.insert(std::slice::from_ref(&row)).await;
    assert_eq!(world.derived().await, 2);
    let fewer = PostgresStorage::builder()
        .index_member("gadget", "extra.size")
        .named_object(&world.gadget)
        .build(world.plain.pool().clone());
    let count = fewer.rebuild_members(&world.scope, &world.gadget).await;
    assert_eq!(count.expect("rebuilt"), 1);
    assert_eq!(world.derived().await, 1);
}

/// A claim that assigns a document writes its rows too.
#[tokio::test]
async fn the_rows_follow_a_claim() {
    let world = world().await;
    let row = world.row(1, json!({"tier": "gold", "size": 3}));
    world.insert(std::slice::from_ref(&row)).await;
    let field = world.gadget.field_index("extra").expect("a field");
    let stamp = Stamp {
        at: DateTime::UNIX_EPOCH,
        by: Actor::System,
    };
    let claim = Claim::new(
        world.gadget.clone(),
        Condition::all(),
        Vec::new(),
        1,
        vec![(field, Value::Json(json!({"tier": "silver"})))],
        stamp,
    );
    let taken = world.storage.claim(&world.scope, &claim).await;
    assert_eq!(taken.expect("rows").len(), 1);
    let silver = json!({"field": "extra.tier", "op": "eq", "value": "silver"});
    assert_eq!(
        (world.find(silver).await, world.derived().await),
        (vec![1], 1)
    );
    let gold = json!({"field": "extra.tier", "op": "eq", "value": "gold"});
    assert_eq!(world.find(gold).await, [] as [u128; 0]);
}

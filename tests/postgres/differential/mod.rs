//! The PostgreSQL backend beside the one in memory: the same random operations on both, the same
//! answers after each.
//!
//! Rows are made from the schema of every object, with the values that databases, languages and
//! formats disagree about. Each operation has a seed of its own, so that a failing run is cut down
//! to the operations that it takes. `CRM_SEED` names another seed, `CRM_STEPS` another length.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails in a test fails the test"
)]

mod cases;
mod compare;
mod queries;
mod steps;
mod values;
mod world;

use crm_engine::PostgresStorage;
use crm_engine::storage::conformance;
use crm_test_postgres::Database;

use compare::compare;

async fn postgres() -> PostgresStorage {
    let database = Database::shared("differential", &conformance::objects())
        .await
        .expect("the tests need PostgreSQL");
    let pool = database.pool(2).await.expect("a pool");
    let builder = conformance::objects()
        .iter()
        .fold(PostgresStorage::builder(), |builder, object| {
            builder.named_object(object)
        });
    builder.build(pool)
}

#[tokio::test]
async fn the_objects_of_the_engine() {
    compare(crm_engine::postgres::objects(), 0x5EED_0001).await;
}

#[tokio::test]
async fn the_objects_of_the_suite() {
    let objects = [conformance::objects(), conformance::instances()].concat();
    compare(objects, 0x5EED_0002).await;
}

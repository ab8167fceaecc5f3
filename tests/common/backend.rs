//! The storage that the tests of the whole engine run on: in memory, or with
//! `CRM_TEST_STORAGE=postgres` a fresh database, so that every test is one of both backends.

#![allow(dead_code, clippy::panic, reason = "helpers of tests")]

use std::sync::Arc;

use crm_engine::schema::ObjectRef;
use crm_engine::storage::Storage;
use crm_engine::{MemoryStorage, PostgresStorage};
use crm_test_postgres::Database;

/// An empty storage that knows these objects of the host.
pub(crate) fn storage(objects: &[&ObjectRef]) -> Arc<dyn Storage> {
    match std::env::var("CRM_TEST_STORAGE").as_deref() {
        Err(_) | Ok("memory") => Arc::new(MemoryStorage::new()),
        Ok("postgres") => {
            let objects: Vec<ObjectRef> = objects.iter().copied().cloned().collect();
            let pool = Database::fresh(&objects).and_then(|database| database.lazy_pool(10));
            let pool = match pool {
                Ok(pool) => pool,
                Err(error) => panic!("the tests need PostgreSQL: {error}"),
            };
            let builder = objects
                .iter()
                .fold(PostgresStorage::builder(), |builder, object| {
                    builder.named_object(object)
                });
            Arc::new(builder.build(pool))
        }
        Ok(other) => panic!("CRM_TEST_STORAGE is {other}: it may be memory or postgres"),
    }
}

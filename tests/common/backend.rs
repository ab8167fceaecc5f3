//! The storage that the tests of the whole engine run on: in memory, or with
//! `CRM_TEST_STORAGE=postgres` a fresh database, so that every test is one of both backends.

#![allow(dead_code, clippy::panic, reason = "helpers of tests")]

use std::sync::Arc;

use crm_engine::audit::encryption::{EncryptedStorage, EncryptedStorageBuilder, Key, MasterKeys};
use crm_engine::schema::ObjectRef;
use crm_engine::storage::Storage;
use crm_engine::{MemoryStorage, PostgresStorage};
use crm_test_postgres::Database;

/// What `CRM_TEST_STORAGE` says.
fn chosen() -> String {
    std::env::var("CRM_TEST_STORAGE").unwrap_or_else(|_| "memory".into())
}

/// Whether rows are kept by PostgreSQL.
pub(crate) fn is_postgres() -> bool {
    chosen().ends_with("postgres")
}

/// An empty storage that knows these objects of the host: one that encrypts, with
/// `CRM_TEST_STORAGE=encrypted` or `encrypted_postgres`.
pub(crate) fn storage(objects: &[&ObjectRef]) -> Arc<dyn Storage> {
    let plain = plain(objects);
    if chosen().starts_with("encrypted") {
        return Arc::new(encrypted(plain).build());
    }
    plain
}

/// An empty storage that keeps what it is given.
pub(crate) fn plain(objects: &[&ObjectRef]) -> Arc<dyn Storage> {
    match chosen().as_str() {
        "memory" | "encrypted" => Arc::new(MemoryStorage::new()),
        "postgres" | "encrypted_postgres" => {
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
        other => panic!("CRM_TEST_STORAGE is {other}: it may be memory, postgres or encrypted"),
    }
}

/// A storage in front of another one that encrypts what is personal.
pub(crate) fn encrypted(inner: Arc<dyn Storage>) -> EncryptedStorageBuilder<Arc<dyn Storage>> {
    EncryptedStorage::builder(inner, MasterKeys::new("first", Key::new([7; 32])))
}

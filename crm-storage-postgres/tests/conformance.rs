//! The public conformance suite on PostgreSQL, as the application role under row-level security.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

use crm_core::storage::conformance;
use crm_storage_postgres::PostgresStorage;
use crm_test_postgres::Database;
use sqlx::Executor as _;
use sqlx::postgres::PgPoolOptions;

async fn database() -> Database {
    Database::shared("conformance", &conformance::objects())
        .await
        .expect("the tests need PostgreSQL")
}

fn storage(pool: sqlx::PgPool) -> PostgresStorage {
    conformance::objects()
        .iter()
        .fold(PostgresStorage::builder(), |builder, object| {
            builder.named_object(object)
        })
        .build(pool)
}

/// The storage as a host uses it.
mod plain {
    use super::*;

    async fn open() -> PostgresStorage {
        storage(database().await.pool(8).await.expect("a pool"))
    }

    crm_core::conformance_tests!(runtime = tokio, async { open().await });
}

/// Between any two transactions the session forgets everything, as behind a pooler that hands each
/// transaction another server connection.
mod behind_a_pooler {
    use super::*;

    async fn open() -> PostgresStorage {
        let forget = "RESET ALL; DISCARD TEMP; SELECT pg_advisory_unlock_all(); \
                      SET search_path = pg_catalog";
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .test_before_acquire(false)
            .before_acquire(move |connection, _| {
                Box::pin(async move {
                    connection.execute(sqlx::raw_sql(forget)).await?;
                    Ok(true)
                })
            })
            .connect(database().await.application_url())
            .await
            .expect("a pool");
        storage(pool)
    }

    crm_core::conformance_tests!(runtime = tokio, async { open().await });
}

//! What the examples that tell a story share: an empty CRM, in memory or on a database.

use std::sync::Arc;

use crm_engine::engine::Clock;
use crm_engine::postgres::Migrations;
use crm_engine::prelude::*;
use crm_engine::{MemoryStorage, PostgresStorage};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A CRM as the arguments of the example say, `--postgres URL` or nothing, and a subdomain that no
/// tenant has there.
pub(crate) async fn open(example: &str, clock: Arc<impl Clock>) -> Result<(Crm, String), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let url = match arguments.as_slice() {
        [] => {
            let crm = Crm::builder(MemoryStorage::new()).clock(clock).build();
            return Ok((crm, "acme".to_owned()));
        }
        [option, url] if option == "--postgres" => url,
        _ => return Err(format!("usage: {example} [--postgres URL]").into()),
    };
    let pool = sqlx::PgPool::connect(url).await?;
    Migrations::new().run(&pool).await?;
    let crm = Crm::builder(PostgresStorage::new(pool))
        .clock(clock)
        .build();
    let unused = crm.ids().next(crm.clock().now()).simple().to_string();
    Ok((crm, format!("acme-{unused}")))
}

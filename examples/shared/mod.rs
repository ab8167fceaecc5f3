//! What the examples that take files share: how they end, the tenant they work for, a mapping in a file.

use std::path::Path;
use std::process::ExitCode;

use crm_engine::exchange::import::Mapping;
use crm_engine::postgres::Migrations;
use crm_engine::prelude::*;
use sqlx::Connection as _;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the example with what `parse` makes of the arguments. The exit code is 1 if rows were refused,
/// 2 if nothing could be done.
pub(crate) async fn run<A>(
    name: &str,
    usage: &str,
    parse: impl FnOnce(std::iter::Skip<std::env::Args>) -> Option<A>,
    example: impl AsyncFnOnce(&A) -> Result<i64, Failure>,
) -> ExitCode {
    if std::env::args().any(|argument| argument == "--help") {
        println!("{usage}");
        return ExitCode::SUCCESS;
    }
    let Some(arguments) = parse(std::env::args().skip(1)) else {
        eprintln!("{usage}");
        return ExitCode::from(2);
    };
    match example(&arguments).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{name}: {failure}");
            ExitCode::from(2)
        }
    }
}

/// A session of the tenant, which is made if it is not there.
pub(crate) async fn open(postgres: Option<&str>, tenant: &str) -> Result<Session, Failure> {
    let crm = match postgres {
        Some(url) => {
            // One connection by itself tells at once what is wrong; a pool tries again for a while.
            sqlx::PgConnection::connect(url).await?.close().await?;
            let pool = sqlx::PgPool::connect(url).await?;
            Migrations::new().run(&pool).await?;
            Crm::postgres(pool)
        }
        None => Crm::in_memory(),
    };
    let id = match crm.tenant_by_subdomain(tenant).await {
        Ok(found) => found.id,
        Err(Error::NotFound { .. }) => {
            let email = format!("admin@{tenant}.example");
            crm.onboard(Onboarding::new(tenant, tenant, email))
                .await?
                .tenant
        }
        Err(error) => return Err(error.into()),
    };
    Ok(crm.session(id, Actor::System))
}

/// The mapping in a file.
pub(crate) fn read_mapping(path: &Path) -> Result<Mapping, Failure> {
    let place = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{place}: {error}"))?;
    Ok(serde_json::from_str(&text).map_err(|error| format!("{place}: {error}"))?)
}

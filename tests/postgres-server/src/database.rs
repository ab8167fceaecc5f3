//! [`Database`]: a migrated database on the server, shared by all tests that ask for its name.

use std::error::Error;
use std::str::FromStr as _;

use crm_core::schema::ObjectRef;
use crm_storage_postgres::{Migrations, ddl};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, PgPool};
use url::Url;

use crate::Server;

type BoxError = Box<dyn Error + Send + Sync>;

/// The application role and its password, on servers that only tests use.
const APPLICATION: &str = "crm_app";

/// A database whose migrations have run.
///
/// Tests share it by name, also between processes: the first that asks makes it, the others wait.
/// Each test has tenants of its own, so that they do not meet.
#[derive(Clone, Debug)]
pub struct Database {
    owner: Url,
    application: Url,
}

impl Database {
    /// The database called `name`, with the tables of `objects` besides the engine's own.
    ///
    /// # Errors
    /// If there is no server, or it refuses.
    pub async fn shared(name: &str, objects: &[ObjectRef]) -> Result<Self, BoxError> {
        let server = Server::shared()?;
        let extra = ddl("crm", APPLICATION, objects)?;
        let migrator = Migrations::new().migrator()?;
        let made_of = migrator
            .iter()
            .flat_map(|migration| migration.checksum.iter())
            .chain(extra.as_bytes());
        let name = format!("crm_test_{name}_{:016x}", fingerprint(made_of));
        let database = Self::of(server, &name)?;
        let mut maintenance = PgConnection::connect(server.url()).await?;
        // One process after the other; the lock goes with the connection.
        sqlx::query("SELECT pg_advisory_lock(73042001, hashtext($1))")
            .bind(&name)
            .execute(&mut maintenance)
            .await?;
        let exists: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
                .bind(&name)
                .fetch_one(&mut maintenance)
                .await?;
        if !exists {
            let draft = format!("{name}_draft");
            execute(
                &mut maintenance,
                &format!("DROP DATABASE IF EXISTS \"{draft}\""),
            )
            .await?;
            execute(&mut maintenance, &format!("CREATE DATABASE \"{draft}\"")).await?;
            Self::of(server, &draft)?
                .prepare(&extra, &mut maintenance)
                .await?;
            // It has its name once it is whole.
            execute(
                &mut maintenance,
                &format!("ALTER DATABASE \"{draft}\" RENAME TO \"{name}\""),
            )
            .await?;
        }
        maintenance.close().await?;
        Ok(database)
    }

    /// A database of its own on a server of its own.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn on(server: &Server, name: &str, objects: &[ObjectRef]) -> Result<Self, BoxError> {
        let extra = ddl("crm", APPLICATION, objects)?;
        let mut maintenance = PgConnection::connect(server.url()).await?;
        execute(&mut maintenance, &format!("CREATE DATABASE \"{name}\"")).await?;
        let database = Self::of(server, name)?;
        database.prepare(&extra, &mut maintenance).await?;
        maintenance.close().await?;
        Ok(database)
    }

    /// A database that nobody else uses, made from the shared one of these objects. Waits: may be
    /// called inside and outside of a runtime.
    ///
    /// It stays until the server goes, or until another test finds it left alone for some minutes.
    ///
    /// # Errors
    /// If there is no server, or it refuses.
    pub fn fresh(objects: &[ObjectRef]) -> Result<Self, BoxError> {
        let objects = objects.to_vec();
        let made = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(Self::copy_of_shared(&objects))
        });
        made.join().map_err(|_| "the making of a database failed")?
    }

    async fn copy_of_shared(objects: &[ObjectRef]) -> Result<Self, BoxError> {
        let mut names: Vec<&str> = objects.iter().map(|object| object.name()).collect();
        names.sort_unstable();
        let names = fingerprint(names.join(" ").as_bytes().iter());
        let template = Self::shared(&format!("template_{names:016x}"), objects).await?;
        let template = template.owner.path().trim_start_matches('/').to_owned();
        let server = Server::shared()?;
        let mut maintenance = PgConnection::connect(server.url()).await?;
        maintenance
            .execute(sqlx::query("SELECT pg_advisory_lock(73042002)"))
            .await?;
        // Left behind by other tests: older than three minutes and used by nobody. Few at a time: each takes a
        // second or more, and all other tests wait for it.
        let left: Vec<String> = sqlx::query_scalar(
            "SELECT d.datname::text FROM pg_database d WHERE d.datname LIKE 'crm\\_fresh\\_%' \
             AND split_part(d.datname, '_', 3)::bigint < extract(epoch FROM now()) - 180 \
             AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datname = d.datname) LIMIT 2",
        )
        .fetch_all(&mut maintenance)
        .await?;
        for name in left {
            execute(
                &mut maintenance,
                &format!("DROP DATABASE IF EXISTS \"{name}\""),
            )
            .await?;
        }
        let name: String = sqlx::query_scalar(
            "SELECT 'crm_fresh_' || extract(epoch FROM now())::bigint || '_' || \
             replace(gen_random_uuid()::text, '-', '')",
        )
        .fetch_one(&mut maintenance)
        .await?;
        execute(
            &mut maintenance,
            &format!("CREATE DATABASE \"{name}\" TEMPLATE \"{template}\" STRATEGY FILE_COPY"),
        )
        .await?;
        maintenance.close().await?;
        Self::of(server, &name)
    }

    /// A pool of the application role that connects when it is first used. Needs a runtime.
    ///
    /// # Errors
    /// If the URL is not one.
    pub fn lazy_pool(&self, connections: u32) -> Result<PgPool, BoxError> {
        let options = PgConnectOptions::from_str(self.application_url())?;
        Ok(PgPoolOptions::new()
            .max_connections(connections)
            .test_before_acquire(false)
            .connect_lazy_with(options))
    }

    fn of(server: &Server, name: &str) -> Result<Self, BoxError> {
        let owner = Url::parse(&server.url_of(name, None))?;
        let mut application = owner.clone();
        let refused = "DATABASE_URL cannot hold a user";
        application
            .set_username(APPLICATION)
            .map_err(|()| refused)?;
        application
            .set_password(Some(APPLICATION))
            .map_err(|()| refused)?;
        Ok(Self { owner, application })
    }

    async fn prepare(&self, extra: &str, maintenance: &mut PgConnection) -> Result<(), BoxError> {
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .connect(self.owner.as_str())
            .await?;
        Migrations::new().run(&pool).await?;
        let mut connection = pool.acquire().await?;
        execute(&mut connection, extra).await?;
        drop(connection);
        pool.close().await;
        // Roles belong to the whole server, which refuses two changes of one at a time. A lock holds
        // within one database, so all that make one meet in the database for maintenance.
        let lock = "SELECT pg_advisory_xact_lock(73042003)";
        let role = format!("ALTER ROLE {APPLICATION} LOGIN PASSWORD '{APPLICATION}'");
        execute(maintenance, &format!("BEGIN; {lock}; {role}; COMMIT")).await
    }

    /// The database's URL for the owner of its tables.
    #[must_use]
    pub fn owner_url(&self) -> &str {
        self.owner.as_str()
    }

    /// The database's URL for the application role, which row-level security binds.
    #[must_use]
    pub fn application_url(&self) -> &str {
        self.application.as_str()
    }

    /// A pool of the application role.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn pool(&self, connections: u32) -> Result<PgPool, BoxError> {
        let options =
            PgConnectOptions::from_str(self.application_url())?.disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        Ok(pool)
    }

    /// A connection as the owner.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn owner(&self) -> Result<PgConnection, BoxError> {
        Ok(PgConnection::connect(self.owner_url()).await?)
    }

    /// A connection as the application role.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn application(&self) -> Result<PgConnection, BoxError> {
        Ok(PgConnection::connect(self.application_url()).await?)
    }
}

async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), BoxError> {
    #[allow(
        clippy::disallowed_types,
        reason = "DDL of tests, made of constants and the schema"
    )]
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    sqlx::raw_sql(sql).execute(connection).await?;
    Ok(())
}

/// FNV-1a: a name that changes with the tables.
fn fingerprint<'a>(bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

//! [`PostgresStorage`]: the port over a pool of connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use crm_core::query::{AggregateQuery, Group, Query, TextSearch};
use crm_core::schema::{Entity, ObjectRef, Row};
use crm_core::storage::{
    ChangeSet, Claim, Committed, FeedPage, FeedQuery, Scope, Storage, StorageError,
};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{Connection as _, PgConnection, PgPool, Postgres, Row as _, Transaction};
use uuid::Uuid;

use crate::commit::{self, Failure, Plan};
use crate::ddl::trusted;
use crate::decode;
use crate::error::{
    Fault, PostgresFault, Refusal, is_connection_lost, is_stale_statement, read_error,
};
use crate::layout::{Table, Tables};
use crate::migrate::Migrations;
use crate::sql::{Statement, aggregate, feed, select, write};

/// How often a commit that lost against another transaction is sent again.
const ATTEMPTS: u32 = 8;

/// How many prepared statements a connection keeps: an update is one for each set of changed fields.
const STATEMENTS: usize = 400;

/// How long a call waits for a connection before it fails with [`StorageError::Unavailable`].
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Rows in PostgreSQL 15 or later. Cheap to clone.
///
/// Every call is one round trip: a `get`, a `select`, an `aggregate`, a `claim`, and a commit, with
/// the tenant set for exactly that transaction. Only a commit in which one row takes over another's
/// unique value, or one of thousands of new rows, is a transaction of several statements.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use crm_storage_postgres::{Migrations, PostgresStorage};
///
/// let owner = sqlx::PgPool::connect("postgres://owner@localhost/app").await?;
/// Migrations::new().run(&owner).await?;
///
/// let storage = PostgresStorage::connect("postgres://crm_app@localhost/app").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresStorage {
    pool: PgPool,
    migrations: Migrations,
    replica: Option<PgPool>,
    tables: Arc<Tables>,
}

impl PostgresStorage {
    /// Over a pool of the host's, with the tables in the schema `crm`.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self::builder().build(pool)
    }

    /// Connects with the settings that suit the storage best.
    ///
    /// # Errors
    /// If the URL is not one, or the server cannot be reached.
    pub async fn connect(url: &str) -> Result<Self, sqlx::Error> {
        Self::builder().connect(url).await
    }

    /// Starts a storage with settings of its own.
    pub fn builder() -> PostgresStorageBuilder {
        PostgresStorageBuilder::default()
    }

    /// The pool.
    #[must_use]
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The migrations of the storage's schema and role, to be run on a pool of the tables' owner.
    ///
    /// ```no_run
    /// # async fn example(owner: sqlx::PgPool, pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
    /// let storage = crm_storage_postgres::PostgresStorage::builder()
    ///     .schema("sales")
    ///     .application_role("sales_app")
    ///     .build(pool);
    /// storage.migrations().run(&owner).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn migrations(&self) -> &Migrations {
        &self.migrations
    }

    /// Writes a commit inside a transaction of the host's: both become visible together, or
    /// neither.
    ///
    /// The transaction's own isolation level holds. After a refusal the transaction is as it was
    /// before the call and may go on; a fault of the server ends it.
    ///
    /// [`UnitOfWork::prepare`](crm_core::UnitOfWork::prepare) gives the change set of a unit of
    /// work, hooks and audit events included. The setting of the tenant stays for the rest of the
    /// transaction.
    ///
    /// ```no_run
    /// # use crm_core::{Session, accounts::Account, storage::Scope};
    /// # use crm_storage_postgres::PostgresStorage;
    /// # async fn example(storage: PostgresStorage, session: Session) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut work = session.begin();
    /// let account = work.accounts().create(Account::new("Globex")).await?;
    /// let changes = work.prepare().await?;
    ///
    /// let mut transaction = storage.pool().begin().await?;
    /// sqlx::query("INSERT INTO orders (account_id) VALUES ($1)")
    ///     .bind(account.id.uuid())
    ///     .execute(&mut *transaction)
    ///     .await?;
    /// let scope = Scope::Tenant(session.tenant().ok_or("a tenant's session")?);
    /// storage.commit_in(&mut transaction, &scope, &changes).await?;
    /// transaction.commit().await?; // both, or none
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// For a feed ([`Storage::feed`]) the entries belong to the host's transaction: they are given
    /// when it ends, and until then nobody's later entries are. Their place is that of the
    /// transaction's first write. So where a transaction writes, then reads what another commit
    /// wrote meanwhile, and then commits here what follows from it, the cause comes behind the
    /// effect; write nothing before such a read.
    ///
    /// Where a storage in front of this one encrypts personal values, the change set has to be sealed by
    /// that one first: `EncryptedStorage::seal` of `crm-audit`. One with rows in the clear is refused
    /// for a tenant that has keys.
    ///
    /// # Errors
    /// As [`Storage::commit`]; [`StorageError::Failed`] with [`Fault::Unencrypted`] where the change set
    /// was not sealed, and nothing is written.
    pub async fn commit_in(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        scope: &Scope,
        changes: &ChangeSet,
    ) -> Result<Committed, StorageError> {
        let plan = Plan::new(changes).joining();
        Ok(commit::run(transaction, &self.tables, scope, &plan).await?)
    }

    /// The server's plan for a query, as `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)` gives it: to
    /// find out why a query is slow. The query runs, on the primary; an empty list where nothing
    /// would be sent. A query that looks up a hundred values or more is otherwise sent with a plan
    /// that does not depend on the values (`plan_cache_mode = force_generic_plan`), which may be
    /// another one than this tells.
    ///
    /// # Errors
    /// As [`Storage::select`].
    pub async fn explain(
        &self,
        scope: &Scope,
        query: &Query,
    ) -> Result<serde_json::Value, StorageError> {
        let table = self.tables.of(&query.object);
        self.plan(select::select(&self.tables, &table, scope, query))
            .await
    }

    /// The server's plan for an aggregate: see [`explain`](Self::explain).
    ///
    /// # Errors
    /// As [`Storage::aggregate`].
    pub async fn explain_aggregate(
        &self,
        scope: &Scope,
        query: &AggregateQuery,
    ) -> Result<serde_json::Value, StorageError> {
        let table = self.tables.of(&query.object);
        self.plan(aggregate::aggregate(&self.tables, &table, scope, query))
            .await
    }

    /// The server's plan for a page of a feed: see [`explain`](Self::explain).
    ///
    /// # Errors
    /// As [`Storage::feed`].
    pub async fn explain_feed(
        &self,
        scope: &Scope,
        query: &FeedQuery,
    ) -> Result<serde_json::Value, StorageError> {
        query.check()?;
        let table = self.tables.of(&query.object);
        self.plan(feed::feed(&self.tables, &table, scope, query))
            .await
    }

    async fn plan(&self, statement: Option<Statement>) -> Result<serde_json::Value, StorageError> {
        let Some(statement) = statement else {
            return Ok(serde_json::Value::Array(Vec::new()));
        };
        let plan = async {
            let (text, arguments) = statement.finish()?;
            let text = trusted(format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}"));
            sqlx::query_scalar_with(text, arguments)
                .fetch_one(&self.pool)
                .await
        };
        plan.await.map_err(|error| read_error(&error))
    }

    /// Runs a statement for reading; a connection that went stale in the pool is tried once more.
    async fn read(
        &self,
        stale: bool,
        statement: impl Fn() -> Option<Statement> + Send + Sync,
    ) -> Result<Vec<PgRow>, StorageError> {
        let pool = match &self.replica {
            Some(replica) if stale => replica,
            _ => &self.pool,
        };
        let mut spare = stale_connections(pool);
        loop {
            let Some(statement) = statement() else {
                return Ok(Vec::new());
            };
            match fetch(pool, statement).await {
                Ok(rows) => return Ok(rows),
                Err(error) if spare > 0 && needs_another_connection(&error) => spare -= 1,
                Err(error) => return Err(read_error(&error)),
            }
        }
    }

    fn decode(table: &Table, rows: &[PgRow]) -> Result<Vec<Row>, StorageError> {
        rows.iter().map(|row| decode::row(table, row, 0)).collect()
    }
}

impl fmt::Debug for PostgresStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The pool's options hold a password.
        f.debug_struct("PostgresStorage")
            .field("schema", &self.tables.schema())
            .finish_non_exhaustive()
    }
}

/// Puts a [`PostgresStorage`] together.
#[derive(Clone, Debug)]
#[must_use]
pub struct PostgresStorageBuilder {
    schema: String,
    application_role: String,
    objects: Vec<ObjectRef>,
    statement_timeout: Option<Duration>,
    max_connections: u32,
    replica: Option<PgPool>,
}

impl Default for PostgresStorageBuilder {
    fn default() -> Self {
        Self {
            schema: "crm".to_owned(),
            application_role: "crm_app".to_owned(),
            objects: Vec::new(),
            statement_timeout: None,
            max_connections: 10,
            replica: None,
        }
    }
}

impl PostgresStorageBuilder {
    /// The database schema that holds the tables; `crm` if nothing is said.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// The role that [`PostgresStorage::migrations`] give their rights to; `crm_app` if nothing is
    /// said. The program signs in as a role to which it was granted.
    pub fn application_role(mut self, role: impl Into<String>) -> Self {
        self.application_role = role.into();
        self
    }

    /// Makes an object of the host known before it is first used, so that others may refer to it.
    /// An engine tells the storage of all objects that it was built with.
    pub fn object<E: Entity>(self) -> Self {
        self.named_object(E::schema())
    }

    /// Makes an object without a Rust type known.
    pub fn named_object(mut self, object: &ObjectRef) -> Self {
        self.objects.push(object.clone());
        self
    }

    /// How long the server works on one statement before it gives up with
    /// [`StorageError::Unavailable`]. It is a parameter of new connections: behind a pooler that
    /// refuses it, give it to the role instead: `ALTER ROLE crm_app SET statement_timeout = '5s'`.
    pub const fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = Some(timeout);
        self
    }

    /// The most connections that [`connect`](Self::connect) opens; 10 if nothing is said.
    pub const fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections;
        self
    }

    /// Serves the reads that may be stale from a standby (C-155). All others, and every read of a
    /// unit of work, stay with the primary.
    ///
    /// ```no_run
    /// # use crm_core::{Session, accounts::Account, query::Find};
    /// # async fn example(primary: sqlx::PgPool, session: Session) -> Result<(), Box<dyn std::error::Error>> {
    /// let standby = sqlx::PgPool::connect("postgres://app@standby/app").await?;
    /// let storage = crm_storage_postgres::PostgresStorage::builder()
    ///     .read_replica(standby)
    ///     .build(primary);
    /// let list = session.accounts().find(Find::new().stale()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_replica(mut self, pool: PgPool) -> Self {
        self.replica = Some(pool);
        self
    }

    /// Over a pool of the host's. Give it `test_before_acquire(false)`: the test costs a round trip
    /// for every call, and a stale connection is replaced anyway.
    #[must_use]
    pub fn build(self, pool: PgPool) -> PostgresStorage {
        if let Some(timeout) = self.statement_timeout {
            let options = with_timeout(pool.connect_options().as_ref().clone(), timeout);
            pool.set_connect_options(options);
        }
        if let (Some(timeout), Some(replica)) = (self.statement_timeout, &self.replica) {
            let options = with_timeout(replica.connect_options().as_ref().clone(), timeout);
            replica.set_connect_options(options);
        }
        let tables = Tables::new(&self.schema);
        for object in crate::objects().iter().chain(&self.objects) {
            tables.of(object);
        }
        PostgresStorage {
            pool,
            replica: self.replica,
            migrations: Migrations::new()
                .schema(self.schema)
                .application_role(self.application_role),
            tables: Arc::new(tables),
        }
    }

    /// Connects to a server.
    ///
    /// # Errors
    /// If the URL is not one, or the server cannot be reached.
    pub async fn connect(self, url: &str) -> Result<PostgresStorage, sqlx::Error> {
        let mut options: PgConnectOptions = url.parse()?;
        if let Some(timeout) = self.statement_timeout {
            options = with_timeout(options, timeout);
        }
        // PgBouncer refuses that parameter, which no binary value depends on.
        let options = options
            .application_name("crm-engine")
            .statement_cache_capacity(STATEMENTS)
            .extra_float_digits(None);
        let pool = PgPoolOptions::new()
            .max_connections(self.max_connections)
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await?;
        Ok(self.build(pool))
    }
}

fn with_timeout(options: PgConnectOptions, timeout: Duration) -> PgConnectOptions {
    options.options([("statement_timeout", timeout.as_millis().max(1).to_string())])
}

#[async_trait]
impl Storage for PostgresStorage {
    fn register(&self, object: &ObjectRef) {
        self.tables.of(object);
    }

    async fn get(
        &self,
        scope: &Scope,
        object: &ObjectRef,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, StorageError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let table = self.tables.of(object);
        let rows = self.read(false, || select::get(&table, scope, ids)).await?;
        let rows = Self::decode(&table, &rows)?;
        Ok(select::in_order(ids, rows))
    }

    async fn select(&self, scope: &Scope, query: &Query) -> Result<Vec<Row>, StorageError> {
        feed::check_snapshot(query)?;
        let table = self.tables.of(&query.object);
        let rows = self
            .read(query.stale, || {
                select::select(&self.tables, &table, scope, query)
            })
            .await?;
        Self::decode(&table, &rows)
    }

    async fn search(&self, scope: &Scope, search: &TextSearch) -> Result<Vec<Uuid>, StorageError> {
        let table = self.tables.of(search.object());
        let rows = self
            .read(false, || {
                select::search(&self.tables, &table, scope, search)
            })
            .await?;
        let ids: Result<Vec<Uuid>, sqlx::Error> = rows.iter().map(|row| row.try_get(0)).collect();
        ids.map_err(|error| read_error(&error))
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        query: &AggregateQuery,
    ) -> Result<Vec<Group>, StorageError> {
        let table = self.tables.of(&query.object);
        let rows = self
            .read(query.stale, || {
                aggregate::aggregate(&self.tables, &table, scope, query)
            })
            .await?;
        aggregate::decode_groups(query, &rows)
    }

    async fn commit(&self, scope: &Scope, changes: &ChangeSet) -> Result<Committed, StorageError> {
        let plan = Plan::new(changes);
        let mut attempt = 1;
        let mut spare = stale_connections(&self.pool);
        // Whether an earlier attempt lost its connection and may have been applied after all.
        let mut unsure = false;
        loop {
            let mut connection = match self.pool.acquire().await {
                Ok(connection) => connection,
                Err(error) => return Err(commit_error(&error, unsure)),
            };
            let failure = match commit::run(&mut connection, &self.tables, scope, &plan).await {
                Ok(committed) => return Ok(committed),
                Err(failure) => failure,
            };
            match failure {
                Failure::Refused(error) => {
                    // What stands in the way may be this very commit.
                    if !unsure {
                        return Err(error);
                    }
                    let applied =
                        commit::is_applied(&mut connection, &self.tables, scope, &plan).await;
                    return match applied.map_err(|error| commit_error(&error, true))? {
                        Some(true) => Ok(Committed::new(changes.changes.len())),
                        Some(false) => Err(error),
                        // A refusal would say that nothing was written.
                        None => Err(PostgresFault::new(Fault::OutcomeUnknown, "").into()),
                    };
                }
                Failure::Server(error) => {
                    if needs_another_connection(&error) && spare > 0 {
                        unsure |= is_connection_lost(&error);
                        spare -= 1;
                        // Nobody else gets it.
                        drop(connection.detach());
                    } else if is_lost_race(&error) && attempt < ATTEMPTS {
                        attempt += 1;
                    } else if is_lost_race(&error)
                        && !unsure
                        && let Some(conflict) = plan.first_conflict()
                    {
                        // Others are at the same rows again and again, and nothing was written: who
                        // wants it still decides anew, by what is stored then.
                        return Err(conflict);
                    } else {
                        if is_read_only(&error) {
                            // After a failover the pool finds the new primary.
                            drop(connection.detach());
                        }
                        let unsure = unsure || is_connection_lost(&error);
                        return Err(commit_error(&error, unsure));
                    }
                }
            }
        }
    }

    async fn claim(&self, scope: &Scope, claim: &Claim) -> Result<Vec<Row>, StorageError> {
        if scope.tenant().is_none() {
            return Ok(Vec::new());
        }
        claim.check()?;
        if claim.limit == 0 {
            return Ok(Vec::new());
        }
        let table = self.tables.of(&claim.object);
        let mut attempt = 1;
        let mut spare = stale_connections(&self.pool);
        loop {
            let statement = write::claim(&self.tables, &table, scope, claim);
            match fetch(&self.pool, statement).await {
                Ok(rows) => return Self::decode(&table, &rows),
                Err(error) if is_lost_race(&error) && attempt < ATTEMPTS => attempt += 1,
                // Rows of a claim whose answer was lost come free in time; this one takes others.
                Err(error) if needs_another_connection(&error) && spare > 0 => spare -= 1,
                Err(error) => return Err(read_error(&error)),
            }
        }
    }

    async fn feed(&self, scope: &Scope, query: &FeedQuery) -> Result<FeedPage, StorageError> {
        query.check()?;
        let table = self.tables.of(&query.object);
        let statement = || feed::feed(&self.tables, &table, scope, query);
        let rows = self.read(false, statement).await?;
        feed::decode(&table, query, &rows)
    }

    async fn reseal(&self, scope: &Scope, rows: &[Row]) -> Result<usize, StorageError> {
        if scope.tenant().is_none() || rows.is_empty() {
            return Ok(0);
        }
        let mut attempt = 1;
        let mut spare = stale_connections(&self.pool);
        loop {
            let acquired = self.pool.acquire().await;
            let mut connection = acquired.map_err(|error| read_error(&error))?;
            let resealed = commit::reseal(&mut connection, &self.tables, scope, rows).await;
            let error = match resealed {
                Ok(replaced) => return Ok(replaced),
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::Server(error)) => error,
            };
            if is_lost_race(&error) && attempt < ATTEMPTS {
                attempt += 1;
            } else if needs_another_connection(&error) && spare > 0 {
                // What was replaced already is replaced by the same once more.
                spare -= 1;
                drop(connection.detach());
            } else {
                return Err(read_error(&error));
            }
        }
    }
}

/// Runs a statement on a connection of the pool, which does not get it back if it is of no use.
async fn fetch(pool: &PgPool, statement: Statement) -> Result<Vec<PgRow>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let result = if statement.is_large_look_up() {
        look_up(&mut connection, statement).await
    } else {
        statement.fetch(&mut connection).await
    };
    if let Err(error) = &result
        && (needs_another_connection(error) || is_read_only(error))
    {
        drop(connection.detach());
    }
    result
}

/// What begins the transaction of a large look-up.
const LOOK_UP: &str = "BEGIN; SET LOCAL plan_cache_mode = force_generic_plan";

/// Runs a statement with a plan that does not depend on the values: three round trips.
async fn look_up(
    connection: &mut PgConnection,
    statement: Statement,
) -> Result<Vec<PgRow>, sqlx::Error> {
    let mut transaction = connection.begin_with(LOOK_UP).await?;
    let rows = statement.fetch(&mut transaction).await?;
    transaction.commit().await?;
    Ok(rows)
}

/// Whether the same statement may succeed on another connection.
fn needs_another_connection(error: &sqlx::Error) -> bool {
    is_connection_lost(error) || is_stale_statement(error)
}

/// What a failed commit comes to; `unsure` says that an attempt may have been applied.
fn commit_error(error: &sqlx::Error, unsure: bool) -> StorageError {
    if unsure {
        PostgresFault::new(Fault::OutcomeUnknown, "").into()
    } else {
        read_error(error)
    }
}

fn is_read_only(error: &sqlx::Error) -> bool {
    matches!(Refusal::of(error), Refusal::Fault(fault) if fault.fault() == Fault::ReadOnly)
}

/// How often a call may meet a connection that broke while it lay in the pool, as after a restart
/// of the server.
fn stale_connections(pool: &PgPool) -> u32 {
    pool.size().saturating_add(1)
}

/// Whether another transaction was in the way, so that the same statement may succeed now.
fn is_lost_race(error: &sqlx::Error) -> bool {
    match Refusal::of(error) {
        Refusal::Fault(fault) => {
            matches!(fault.fault(), Fault::Serialization | Fault::Deadlock)
        }
        _ => false,
    }
}

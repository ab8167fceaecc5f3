//! The PostgreSQL backend of the CRM engine, for PostgreSQL 15 and later.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use crm_core::Engine;
//! use crm_storage_postgres::{Migrations, PostgresStorage};
//!
//! // Once, when the program is deployed: as the owner of the tables.
//! let owner = sqlx::PgPool::connect("postgres://owner@localhost/app").await?;
//! Migrations::new().run(&owner).await?;
//!
//! // From then on: as the application role, which row-level security binds.
//! let storage = PostgresStorage::connect("postgres://app@localhost/app").await?;
//! let engine = Engine::builder(storage).build();
//! # Ok(())
//! # }
//! ```
//!
//! - **The same meaning as every other backend.** It passes the same public conformance suite; random
//!   work is done on it and in memory and compared after each step.
//! - **Two belts around each tenant.** Every statement names the tenant as a bound value, beside each
//!   table. Below that, every table has forced row-level security, and keys and references that begin
//!   with the tenant: without a tenant there are no rows, and no reference leads to another tenant.
//! - **One round trip for each call of the storage.** A commit is one statement: the tenant's setting, the versions
//!   that it relies on, the records, the audit events and the references are written and checked
//!   together, or nothing is. So is a read. [`PostgresStorage::commit_in`] joins a transaction of the
//!   host.
//! - **Columns with types.** Every field has a column, every key an index, every option list a CHECK.
//!   All of it follows from the schema, the DDL of a host's own objects too ([`ddl`]); [`drift`] tells
//!   where a database differs.
//!
//! # Roles
//!
//! [`Migrations`] make the role `crm_app` without a login. Give its rights to the role that the
//! program signs in with, which must not own the tables, be a superuser or have `BYPASSRLS`, since
//! those see all tenants:
//!
//! ```sql
//! CREATE ROLE app LOGIN PASSWORD '..';
//! GRANT crm_app TO app;
//! ```
//!
//! The role may insert audit events and read them, not change or remove them.
//!
//! # Poolers
//!
//! Nothing relies on the state of a session: the tenant is set for one transaction, there are no
//! temporary tables, no session locks and no `LISTEN`. So the backend works behind a pooler in
//! transaction mode:
//!
//! | pooler | what it needs |
//! |---|---|
//! | PgBouncer | version 1.21 or later, `max_prepared_statements` above 0 (its default is 0 before 1.24, 200 since); older ones cannot hold prepared statements. For pools that [`PostgresStorage::connect`] did not make also `extra_float_digits(None)` or `ignore_startup_parameters = extra_float_digits` |
//! | others in transaction mode | support for prepared statements of the protocol; in session mode nothing |
//!
//! A direct connection, or a pool in session mode, is needed by [`Migrations`], whose lock belongs to
//! a session, and by [`drift`] and [`lint`]. PgBouncer refuses the start-up option by which
//! [`PostgresStorageBuilder::statement_timeout`] works, unless `ignore_startup_parameters = options`
//! drops it: give the timeout to the role instead (`ALTER ROLE app SET statement_timeout = '5s'`).
//!
//! # What an index can do
//!
//! Under row-level security only operators that PostgreSQL holds for leakproof use an index. Those on
//! texts, times, ids and whole numbers are; those on `numeric`, arrays, documents and full text are
//! not, and neither are `lower()` and `LIKE`. Therefore:
//!
//! - texts that ignore case have a second column with the case folded;
//! - indexed amounts have a second column with the number rounded, which narrows a search down;
//! - lists and full text are looked up by functions that belong to a role of their own and first
//!   compare the tenant (`tagged`, `search`). Their inverted indexes hold all tenants together, so the
//!   look-up of a tag that very many tenants use grows with all of them;
//! - custom fields are members of documents: those that are indexed are found by typed rows of their
//!   own ([`typed_values`](crm_core::schema::typed_values)).
//!
//! # Connections
//!
//! [`PostgresStorage::connect`] makes a pool with the settings that suit. For a pool of your own: take
//! `test_before_acquire(false)`, since stale connections are replaced anyway and the test costs a
//! round trip for each call; behind PgBouncer also `PgConnectOptions::extra_float_digits(None)`. TLS
//! is a feature of `sqlx` (`tls-rustls`, `tls-native-tls`) that the host turns on in its own
//! `Cargo.toml`. Transactions run at the isolation level `READ COMMITTED`, the server's default.
//! `SERIALIZABLE` for all writers works and is retried more often; at `REPEATABLE READ` deletions are
//! refused ([`Fault::IsolationLevel`]), because they cannot see who refers to the record meanwhile.
//!
//! # Large commits
//!
//! A unit of work with thousands of new records is written in batches of arrays, in one transaction,
//! unless records of one object refer to each other in it. Changes and removals are one statement
//! each, however many: make several units of work of very many. `COPY` is not used: PostgreSQL
//! refuses it on tables with row-level security.
//!
//! # The feed
//!
//! Entries of logs that are fed, such as audit events, carry the id of the transaction that wrote
//! them, which the server fills in and the application's role cannot write. A feed is read in the order
//! of these ids, and stops in front of the oldest transaction that is still running
//! (`pg_snapshot_xmin`): no entry can appear in front of one that was given out, without a lock and
//! without waiting. A commit of the storage has its id before it writes and after all that it relied
//! on, so what follows from another commit comes behind it; see
//! [`PostgresStorage::commit_in`] for the one exception.
//!
//! - **A transaction that writes and stays open holds the feed up**, for all tenants and in whatever
//!   database of the server, also a prepared one. Nothing is lost: what others write meanwhile is given
//!   when it ends. Long commands count as well, such as `CREATE INDEX` or `DROP DATABASE`; transactions
//!   that only read do not. Set
//!   `idle_in_transaction_session_timeout`, and look for the oldest `backend_xid` in
//!   `pg_stat_activity` where a feed stands still.
//! - **A database that was dumped and restored into another server** may have ids of a server that
//!   counted further. Its events would then be left out of feeds, pages of the trail, seals and their
//!   verification: all of them refuse to answer
//!   ([`StorageError::AheadOfServer`](crm_core::storage::StorageError::AheadOfServer)), as positions
//!   that lie ahead of the server are refused, until this server has counted as far. Let it go on from
//!   the old one's count before it takes writes: ask the restored database for the greatest
//!   `transaction_id` of its logs, stop the server, and run `pg_resetwal --epoch=E`, where `E` is that
//!   number divided by 2^32, and one more; nothing else on a server depends on its epoch. Physical
//!   copies, standbys and `pg_upgrade` keep the count by themselves.
//!
//! # Upkeep
//!
//! Audit events, auth events and API calls are partitioned by month, and so is every log of a host
//! that says `#[entity(monthly)]`. Call [`ensure_partitions`] after the migrations and then from time to
//! time, once a day say, with some months to spare: entries of a month without a partition lie in a
//! default partition until it has one, and moving them holds up readers and writers of the log.
//! [`archive_partitions`] moves months of audit events that are old to the archive, which is read
//! like the log, and [`drop_archived_partitions`] removes them from there; [`drop_partitions`] drops
//! months of logs without an archive.
//!
//! Where other programs write to the tables too, [`raw_sql_triggers`] has their changes recorded, and
//! [`encryption_triggers`] refuses what would be personal and not encrypted.
//!
//! # Sealed rows
//!
//! A table of an object with personal or sensitive fields has a column `sealed` besides those of the
//! fields: what a storage that encrypts in front of this one keeps of their values. The columns of these
//! fields then hold what stands in place of the values, which a CHECK on them lets through, and nothing of
//! the values themselves is in the database, its indexes, its backups or its replicas.
//!
//! # Faults
//!
//! A fault of the server or the network is a [`StorageError::Unavailable`
//! ](crm_core::storage::StorageError::Unavailable) where the same call may succeed later, else
//! [`Failed`](crm_core::storage::StorageError::Failed); its source is a [`PostgresFault`]. No message
//! repeats a value. Deadlocks and serialization failures are run again here, and a commit that meets
//! them again and again is a conflict. A commit whose
//! connection broke is sent again on another one, and what comes of it tells whether the first was
//! applied: it is applied once. Only where no server answers any more is the fault
//! [`Fault::OutcomeUnknown`]: look before you repeat the operation. The same holds for a call whose
//! future was dropped.

mod commit;
mod ddl;
mod decode;
mod drift;
mod encryption;
mod error;
mod layout;
mod migrate;
mod partitions;
mod raw_sql;
mod sql;
mod storage;

pub use ddl::{SchemaError, ddl};
pub use drift::{Drift, drift, lint};
pub use encryption::{drop_encryption_triggers, encryption_triggers};
pub use error::{Fault, PostgresFault};
pub use migrate::{Migrations, objects};
pub use partitions::{
    MonthOfEvents, archive_partitions, drop_archived_partitions, drop_partitions, ensure_partitions,
};
pub use raw_sql::{drop_raw_sql_triggers, raw_sql_triggers};
pub use storage::{PostgresStorage, PostgresStorageBuilder};

/// The version of `sqlx` whose pools and transactions the storage takes.
#[doc(no_inline)]
pub use sqlx;

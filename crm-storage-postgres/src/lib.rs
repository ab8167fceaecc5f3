//! The place of the PostgreSQL backend of the CRM engine. **There is nothing to call yet.**
//!
//! Until it is here, use `crm-storage-memory`, or write a backend of your own: the storage port is
//! described at `crm_core::storage`, and `examples/custom_backend.rs` of the repository is a whole
//! one.
//!
//! # What it will be
//!
//! - **The same meaning as every other backend.** It implements `crm_core::storage::Storage` and
//!   passes the same public conformance suite; random operations are run on it and in memory and
//!   compared after each step.
//! - **Two belts around each tenant.** Every statement names the tenant as a bound parameter, and
//!   every table of a tenant has forced row-level security and keys that begin with the tenant.
//! - **One round trip for each commit.** The records, the checks of what they relied on and the
//!   audit events are written by one statement, or not at all. It can join a transaction of the
//!   host.
//! - **Columns with types.** Every entity has a table whose columns, keys and checks follow from
//!   its schema; a test compares the two. Queries are made from the schema in one module: names
//!   come from the schema, values are always bound.
//! - **Migrations** that a host can run with its own.

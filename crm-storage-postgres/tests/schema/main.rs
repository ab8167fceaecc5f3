//! The schema in a real database: migrations, row-level security, functions, partitions, drift.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails says where"
)]
#![allow(
    clippy::disallowed_types,
    reason = "tests send SQL that they put together from constants and the schema"
)]

mod common;
mod ddl;
mod drift;
mod encryption;
mod functions;
mod lint;
mod migrations;
mod partitions;
mod rights;

//! The PostgreSQL backend of the CRM engine.
#![allow(dead_code, reason = "WIP")]

mod commit;
mod ddl;
mod decode;
mod drift;
mod error;
mod layout;
mod migrate;
mod partitions;
mod sql;
mod storage;

pub use ddl::{SchemaError, ddl};
pub use drift::{Drift, drift, lint};
pub use error::{Fault, PostgresFault};
pub use migrate::{Migrations, objects};
pub use partitions::ensure_partitions;
pub use storage::{PostgresStorage, PostgresStorageBuilder};

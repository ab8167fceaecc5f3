//! The PostgreSQL backend of the CRM engine.
#![allow(dead_code, reason = "WIP")]

mod commit;
mod decode;
mod error;
mod ddl;
mod drift;
mod layout;
mod migrate;
mod partitions;
mod sql;
mod storage;

pub use error::{Fault, PostgresFault};
pub use ddl::{SchemaError, ddl};
pub use drift::{Drift, drift, lint};
pub use migrate::{Migrations, objects};
pub use partitions::ensure_partitions;
pub use storage::{PostgresStorage, PostgresStorageBuilder};

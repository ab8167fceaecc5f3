//! What only a PostgreSQL server can show.

#[path = "../common/backend.rs"]
mod backend;
mod custom_plans;
mod custom_scale;
mod differential;
mod holds;
mod import_crash;
mod join;
mod kill;
mod sealed_join;
#[path = "../common/storage.rs"]
mod storage;

//! The engine: units of work, rules and hooks, queries, concurrency, atomicity, tenancy, and a model of all of it.

mod atomicity;
mod bad_input;
#[path = "../common/mod.rs"]
mod common;
mod concurrency;
mod host_object;
mod hosting;
mod interplay;
mod model;
mod queries;
mod rules;
mod sealed_rows;
mod tenancy_by_attack;
mod tenant_objects;
mod text_search;

//! The public conformance suite: what every storage backend must do, as cases that run.
//!
//! The suite is the executable form of the [port](crate::storage). A backend that passes every case
//! may be given to an [`Engine`](crate::Engine); one that fails a case would show its users wrong
//! answers, lost writes or another tenant's rows.
//!
//! # In a test crate
//!
//! One macro makes a `#[test]` of every case, each on a storage of its own:
//!
//! ```ignore
//! crm_core::conformance_tests!(MyStorage::new_empty());
//! // If opening takes an await:
//! crm_core::conformance_tests!(async { MyStorage::open("somewhere").await.unwrap() });
//! // If the futures need tokio (the caller depends on it, with `rt-multi-thread` and `macros`):
//! crm_core::conformance_tests!(runtime = tokio, async { MyStorage::connect().await });
//! ```
//!
//! Put it into a module where two backends are tested by one file.
//!
//! # In a harness of your own
//!
//! [`cases`] lists the cases; a [`Harness`] holds the storage and knows how to start workers beside
//! each other. Every case makes fresh tenants with fresh ids, so that all cases, and all runs, may
//! share one storage:
//!
//! ```
//! use std::sync::Arc;
//! use crm_core::storage::conformance::{self, Harness, NaiveStorage};
//!
//! let storage = Arc::new(NaiveStorage::default());
//! for case in conformance::cases().iter().filter(|case| case.group == "versions") {
//!     let harness = Harness::new(storage.clone());
//!     conformance::block_on(case.run(harness)).expect("versions are checked");
//! }
//! ```
//!
//! A backend that makes tables beforehand makes them from [`objects`].
//!
//! # Groups
//!
//! | group | what it is about |
//! |---|---|
//! | `crud` | what is written comes back: every kind of field, stamps, order of ids |
//! | `versions` | stale writes, expectations, ids that are taken |
//! | `unique` | unique keys: case, nulls, deleted rows, conditions, swaps |
//! | `references` | targets that are missing, deleted, of the same commit; removals and deletions |
//! | `filters` | every operator over every kind of field, with and without a value |
//! | `sorting` | order, ties, and walks by position |
//! | `aggregates` | counts, sums, averages, groups, calendars |
//! | `search` | which records a text is found in |
//! | `tenancy` | another tenant's ids are ids that never were |
//! | `atomicity` | all or nothing, for writers and readers |
//! | `concurrency` | many workers at once |
//! | `claims` | rows that workers take |
//! | `feed` | logs in the order of their commits, without gaps and doubles beside writers |
//! | `sealed` | rows whose personal values are sealed: what is kept of them, and sealing them anew |
//! | `months` | entries that are taken out of logs by months |
//! | `instances` | objects that tenants define, which share the table of a template |
//! | `model` | random work beside a naive model |
//!
//! A backend usually gets `crud` and `versions` right first, then the groups from top to bottom.
//!
//! # Does it have teeth?
//!
//! [`NaiveStorage`] passes every case. Each storage of [`broken`] has one realistic defect, and
//! fails in the group that the defect belongs to: that is tested too.

mod aggregates;
mod atomicity;
pub mod broken;
mod calendar;
mod claims;
mod concurrency;
mod crud;
mod custom;
mod deletions;
mod expect;
mod failure;
mod feed;
mod filters;
mod fixtures;
mod grouping;
mod guards;
mod harness;
mod instances;
mod kinds;
mod leading;
mod list;
mod logic;
mod mirror;
mod model;
mod months;
mod naive;
mod objects;
mod oracle;
mod random;
mod references;
mod runtime;
mod sealed;
mod search;
mod sorting;
mod tenancy;
mod trees;
mod unique;
mod versions;

pub use failure::{Failure, Outcome};
pub use harness::Harness;
pub use list::{Case, case, cases};
pub use naive::NaiveStorage;
pub use objects::{
    Alarm, Chore, CollectionRecord, Extent, Laboratory, Part, Reading, Specimen, State,
    archived_alarms, instances, objects,
};
pub use runtime::{BoxFuture, block_on};

use failure::{ensure, ensure_eq};

//! The change feed: every event of a tenant, in commit order, for consumers that keep their place.
//!
//! ```text
//! next(limit) ──► position of the consumer ──► Storage::feed ──► redacted by the policy ──► batch
//!                       ▲     claimed for one worker, for as long as its lease runs          │
//!                       └────────────────────── acknowledge(until) ◄─────────────────────────┘
//! ```
//!
//! - **No gap, no double.** The feed gives what is settled, in the order of
//!   [`Storage::feed`](crm_core::storage::Storage::feed); what follows from another change comes
//!   behind it.
//! - **At least once.** A worker that stops before it acknowledges leaves its batch to the next
//!   one. The id of an event is its idempotency key: what was done for it need not be done again.
//! - **One worker at a time.** While the lease of a worker runs, others get nothing of the
//!   consumer. Positions only rise.
//! - **No more than the consumer may see.** A [`FeedPolicy`] says what becomes of personal and of
//!   sensitive values.
//!
//! - **Archived events too.** Months that were moved to the archive come like others. Of months that
//!   were dropped from it, a consumer that has not read them is told
//!   ([`DroppedEntries`](crm_core::storage::DroppedEntries)).
//!
//! Consumers are no part of a tenant's export: their places are those of one database. In another
//! one a consumer begins anew.

mod consumer;
mod policy;

pub use consumer::{Feed, FeedBatch, FeedConsumer};
pub use policy::{FeedEvent, FeedPolicy, Treatment};

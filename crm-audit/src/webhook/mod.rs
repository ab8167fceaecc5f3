//! Webhooks: events sent to addresses that a tenant chose, signed, tried again, and given up in the
//! end.
//!
//! ```text
//! change feed ─► WebhookDelivery (one for each subscription and event) ─► claim ─► resolve ─► check
//!   consumer          pending, its next attempt at ..                              │          │
//!                        ▲                                                          ▼         ▼
//!                        └── later, by the schedule ◄── refused or failed ◄──── sign and post
//! ```
//!
//! - The engine has no HTTP client: the host gives a [`Transport`]. No transaction is open, and no
//!   connection to the storage is held, while something is sent.
//! - Requests are signed as [Standard Webhooks](https://www.standardwebhooks.com) says:
//!   HMAC-SHA-256 over `id.timestamp.body`. The id is that of the event, the same in every attempt.
//! - Nothing is sent to an address inside of the host's network: only `https`, and only to
//!   addresses that are [public](is_public). The transport resolves the name, the sender checks what
//!   came, and the transport connects to exactly that: a name that means another address a moment
//!   later gains nothing.
//! - What failed is tried again by a [`RetrySchedule`]; after that it lies among the
//!   [dead letters](Webhooks::dead_letters), from where it can be [replayed](Webhooks::replay).
//! - A delivery holds no payload. It is made from the event when it is sent, under the subscription's
//!   policy, so that what was erased meanwhile is not sent.
//!
//! Events arrive at least once and, since some are tried again, not always in order: receivers go by
//! `webhook-id` and by `record_version`.

mod address;
mod delivery;
mod schedule;
mod sender;
mod signature;
mod subscription;
mod transport;

pub use address::{Destination, Refused, is_public};
pub use delivery::{DeliveryStatus, WebhookDelivery};
pub use schedule::RetrySchedule;
pub use sender::{DeliveryReport, WebhookExt, Webhooks};
pub use signature::{InvalidSecret, WebhookSecret};
pub use subscription::WebhookSubscription;
pub use transport::{Transport, TransportError, WebhookRequest, WebhookResponse};

pub(crate) use subscription::SubscriptionRules;

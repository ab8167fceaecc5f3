//! The audit trail: one event for each changed record, in the same commit as the change.
//!
//! The [`Recorder`] is the last of the engine's hooks. It turns each change of a commit into one
//! [`AuditEvent`] that holds only what changed, old and new, with who did it, from where and in
//! which commit. That one log is the trail of a record, the activity of a user and the history from
//! which every version of a record is built again. No call changes or removes an event, but for what an
//! erasure takes out of it ([`PrivacyService::erase`]); a chain of [`seal`]s shows if somebody else did. It
//! is also a [`feed`] that consumers follow, of which [`webhook`]s are one.
//!
//! What the trail tells can be brought back, each time by an ordinary change that all rules judge and
//! that the trail tells of in turn: a [version or one field](AuditTrail::restore_version) of a record,
//! or [all that a commit changed](AuditTrail::undo_commit).
//!
//! ```
//! # use crm_core::{Session, Result, Id, contacts::Contact};
//! use crm_audit::AuditExt;
//! # async fn example(session: &Session, id: Id<Contact>) -> Result<()> {
//! for event in session.audit().trail(id).await? {
//!     println!("{} {} by {}", event.created.at, event.event, event.created.by);
//!     for change in event.changes.iter() {
//!         println!("  {}", change.field);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod archive;
pub mod encryption;
mod entries;
mod event;
pub mod feed;
mod history;
mod mask;
mod pages;
mod privacy;
mod reads;
mod recorder;
mod redact;
mod removal;
mod restore;
pub mod seal;
mod streams;
mod trail;
mod undo;
mod version;
mod versions;
pub mod webhook;

pub use archive::archived_events;
pub use event::{AuditCategory, AuditEvent, AuditKind, Changes, FieldChange, Redaction};
pub use feed::{Feed, FeedBatch, FeedConsumer, FeedEvent, FeedPolicy, Treatment};
pub use history::{ActivityCount, FieldVersion, ReadableChange, VersionEntry};
pub use mask::{MASK, is_sensitive_name};
pub use privacy::{
    AccessExport, ConsentCount, Erasure, ErasureReport, GdprReport, GoneCount, HeldCount,
    HeldField, HeldGroup, HeldRecord, HistoryChange, HistoryEntry, PersonCount, PrivacyExt,
    PrivacyService, Why,
};
pub use recorder::{Recorder, changes_between};
pub use redact::{is_erased, redact};
pub use removal::Removal;
pub use seal::{AuditSeal, SealReport, Sealing, Verification};
pub use streams::{
    ApiCall, ApiCalls, Attempt, AuthEvent, AuthKind, AuthOutcome, CallOutcome, EndpointFigures,
    FailedLogins, Lockout, LockoutPolicy, LoginKey, LoginSource, PERCENTILE_ERROR, Security,
    StreamsExt, Window, bucket_of, lockout, percentile, value_of,
};
pub use trail::{AuditExt, AuditTrail};
pub use undo::{Obstacle, ObstacleReason, UndoReport};
pub use version::{RowVersion, Version};

use crm_core::engine::EngineBuilder;
use crm_core::schema::{Entity as _, ObjectRef};

/// The objects of this crate, in an order in which each comes after those that it refers to.
#[must_use]
pub fn objects() -> Vec<ObjectRef> {
    [
        AuditEvent::schema(),
        archived_events(),
        AuditSeal::schema(),
        AuthEvent::schema(),
        ApiCall::schema(),
        FeedConsumer::schema(),
        webhook::WebhookSubscription::schema(),
        webhook::WebhookDelivery::schema(),
        encryption::DataKey::schema(),
    ]
    .map(Clone::clone)
    .to_vec()
}

/// Lets an engine know the objects of this crate, with their rules and the [`Recorder`], behind all
/// hooks that were added before.
///
/// ```
/// # use crm_core::{Engine, storage::Storage};
/// # fn example(storage: impl Storage) -> Engine {
/// crm_audit::install(Engine::builder(storage)).build()
/// # }
/// ```
#[must_use]
pub fn install(builder: EngineBuilder) -> EngineBuilder {
    let objects = objects();
    objects
        .iter()
        .fold(builder, EngineBuilder::named_object)
        .rule(webhook::SubscriptionRules)
        .read_hook(Recorder)
        .hook(Recorder)
}

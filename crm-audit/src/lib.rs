//! The audit trail: one event for each changed record, in the same commit as the change.
//!
//! The [`Recorder`] is the last of the engine's hooks. It turns each change of a commit into one
//! [`AuditEvent`] that holds only what changed, old and new, with who did it, from where and in
//! which commit. That one log is the trail of a record, the activity of a user and the history from
//! which every version of a record is built again. No call changes or removes an event.
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

mod event;
mod mask;
mod privacy;
mod reads;
mod recorder;
mod streams;
mod trail;
mod version;

pub use event::{AuditCategory, AuditEvent, AuditKind, Changes, FieldChange};
pub use mask::{MASK, is_sensitive_name};
pub use privacy::{
    ConsentCount, GdprReport, GoneCount, HeldCount, PersonCount, PrivacyExt, PrivacyService,
};
pub use recorder::{Recorder, changes_between};
pub use streams::{
    ApiCall, ApiCalls, Attempt, AuthEvent, AuthKind, AuthOutcome, CallOutcome, EndpointFigures,
    FailedLogins, Lockout, LockoutPolicy, LoginKey, LoginSource, PERCENTILE_ERROR, Security,
    StreamsExt, Window, bucket_of, lockout, percentile, value_of,
};
pub use trail::{AuditExt, AuditTrail};
pub use version::{RowVersion, Version};

/// The objects of the audit trail and of the streams beside it, one line each.
#[must_use]
pub fn objects() -> Vec<crm_core::schema::ObjectRef> {
    use crm_core::schema::Entity;
    [AuditEvent::schema(), AuthEvent::schema(), ApiCall::schema()]
        .map(Clone::clone)
        .to_vec()
}

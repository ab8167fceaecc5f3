//! The audit trail: one event for each changed record, in the same commit as the change.
//!
//! The [`Recorder`] is the last of the engine's hooks. It turns each change of a commit into one
//! [`AuditEvent`] that holds only what changed, old and new, with who did it, from where and in
//! which commit. That one log is the trail of a record, the activity of a user and the history from
//! which every version of a record is built again. No call changes or removes an event.
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

mod event;
mod history;
mod mask;
mod recorder;
mod restore;
mod trail;
mod undo;
mod version;
mod versions;

pub use event::{AuditCategory, AuditEvent, AuditKind, Changes, FieldChange};
pub use history::{ActivityCount, FieldVersion, ReadableChange, VersionEntry};
pub use mask::{MASK, is_sensitive_name};
pub use recorder::{Recorder, changes_between};
pub use trail::{AuditExt, AuditTrail};
pub use undo::{Obstacle, ObstacleReason, UndoReport};
pub use version::{RowVersion, Version};

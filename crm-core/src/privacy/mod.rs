//! What people allowed and what they refused: consents with their evidence (C-064), and whether a
//! person may be approached by a channel. What is held about a person, and that it went.
//!
//! [`permission::may_contact`] is the whole rule, over values. Everything else gathers what it needs:
//! `session.contacts().may_contact(..)` for one contact or many.
//!
//! [`held`] finds everything about a person by the schema; access and erasure, which `crm-audit`
//! offers as `session.privacy()`, both begin there. [`retention`] says for how long records are kept;
//! the register of [`ProcessingActivity`]s what personal data is processed for. A [`DeletionLog`]
//! tells that data went.

mod anonymized;
mod approach;
pub mod consent;
mod deletion_log;
pub mod held;
pub mod permission;
mod read_access;
mod register;
pub mod retention;

pub use anonymized::{anonymized, is_anonymized};
pub use consent::{
    Consent, ConsentEvidence, ConsentStatus, ConsentSubject, Grant, LawfulBasis, Withdrawal,
};
pub use deletion_log::{DeletionLog, DeletionMethod, DeletionReason};
pub use permission::{Channel, ContactingPolicy, OptIn, Permission, Purpose, Reason};

pub use register::ProcessingActivity;
pub use retention::{
    AUDIT_OBJECT, LegalHold, Period, PeriodUnit, PolicyMonth, PolicyRun, Refused, Retention,
    RetentionPolicy, Upkeep, default_policies,
};

pub(crate) use consent::{ConsentRules, replaced_consents};
pub(crate) use read_access::SensitiveObjects;
pub(crate) use retention::{HoldRules, PolicyRules};

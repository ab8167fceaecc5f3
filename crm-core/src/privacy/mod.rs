//! What people allowed and what they refused: consents with their evidence (C-064), and whether a
//! person may be approached by a channel.
//!
//! [`permission::may_contact`] is the whole rule, over values. Everything else gathers what it needs:
//! `session.contacts().may_contact(..)` for one contact or many.

mod approach;
pub mod consent;
pub mod permission;

pub use consent::{
    Consent, ConsentEvidence, ConsentStatus, ConsentSubject, Grant, LawfulBasis, Withdrawal,
};
pub use permission::{Channel, ContactingPolicy, OptIn, Permission, Purpose, Reason};

pub(crate) use consent::ConsentRules;

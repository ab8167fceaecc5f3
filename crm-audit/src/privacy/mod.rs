//! What a tenant answers for: the report on personal data (C-105).

mod report;

use crm_core::Session;

pub use report::{ConsentCount, GdprReport, GoneCount, HeldCount, PersonCount};

/// Gives sessions what persons have a right to.
pub trait PrivacyExt {
    /// What persons may ask of the session's tenant.
    fn privacy(&self) -> PrivacyService<'_>;
}

impl PrivacyExt for Session {
    fn privacy(&self) -> PrivacyService<'_> {
        PrivacyService { session: self }
    }
}

/// What persons may ask of a tenant, and what it answers for.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct PrivacyService<'a> {
    session: &'a Session,
}

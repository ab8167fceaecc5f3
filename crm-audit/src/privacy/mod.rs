//! A person's rights: access to everything that is held, and erasure of it (C-081, R-056); and the
//! report on personal data that a tenant answers for (C-105).
//!
//! Both begin with the one search of [`crm_core::privacy::held`], to which the audit trail adds what
//! only it knows: former e-mail addresses, links that a deletion cut, records that are no more, and
//! records that were led from the person to somebody else.

mod erase;
mod export;
mod forget;
mod html;
mod report;
mod trail;

use crm_core::engine::Progress;
use crm_core::error::{Error, FieldError, Result};
use crm_core::privacy::held::{HeldAbout, is_person};
use crm_core::{EntityRef, Session};

pub use erase::{Erasure, ErasureReport};
pub use export::{
    AccessExport, HeldField, HeldGroup, HeldRecord, HistoryChange, HistoryEntry, Why,
};
pub(crate) use forget::forget_anonymized;
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

/// What a person, a contact or lead, may ask of a tenant, and what the tenant answers for.
///
/// ```
/// # use crm_core::{Session, Result, Id, contacts::Contact};
/// use crm_audit::{Erasure, PrivacyExt};
///
/// # async fn example(session: &Session, ada: Id<Contact>) -> Result<()> {
/// let page = session.privacy().access_export(ada).await?.to_html();
/// let report = session.privacy().erase(ada, Erasure::default()).await?;
/// println!("{} values in {} records", report.values, report.record_count());
/// # let _ = page;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct PrivacyService<'a> {
    session: &'a Session,
}

impl PrivacyService<'_> {
    /// Where something is held about a person: names and ids, and why.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Validation`] for a record that is no person; those of the
    /// storage.
    pub async fn held_about(&self, subject: impl Into<EntityRef> + Send) -> Result<HeldAbout> {
        let subject = person(subject.into())?;
        let work = self.session.begin();
        Ok(trail::find(&work, &subject).await?.held)
    }

    /// Everything that is held about a person, to be given to that person as JSON or as a page:
    /// Article 15 of the GDPR. The access is told in the trail of the person's records.
    ///
    /// All of it is in memory at once. What is in a field that is marked as sensitive, such as a password,
    /// is masked; a number of the person's own, such as one for taxes, is told.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Validation`] for a record that is no person; those of the
    /// storage.
    pub async fn access_export(
        &self,
        subject: impl Into<EntityRef> + Send,
    ) -> Result<AccessExport> {
        export::export(self.session, &person(subject.into())?).await
    }

    /// Erases a person: nothing that is stored tells of the person afterwards (C-081, R-056).
    ///
    /// The records stay, emptied: names are replaced, the e-mail address by one that is the record's
    /// alone, free text by a placeholder, all else is emptied; consents are left as proof of what was
    /// allowed and when, without identity. Records that refer to the person, such as activities,
    /// deals and custom records, lose their free text, and keep numbers, days and references. The
    /// audit trail keeps who changed which field when, and not the values; so it does of what a record
    /// that was led to somebody else told of the person before. The events of the erasure
    /// itself have no personal data, and a [`DeletionLog`](crm_core::privacy::DeletionLog) tells of it.
    ///
    /// It runs in commits of bounded size, the person's own records last, so one that was cut off
    /// finds everything when it runs again. Doing it again does no harm. What somebody writes about
    /// the person meanwhile is erased too, as far as it is there when the person's records are
    /// emptied.
    ///
    /// What a [legal hold](crm_core::privacy::LegalHold) keeps is evidence: while one is active that
    /// holds the person, or a record that would lose anything, the erasure is refused before it begins
    /// (Article 17 (3) (e) of the GDPR). Lift the hold, or leave out its object by
    /// [`Erasure::retaining`] if it is not the person itself. One that is set while an erasure is under
    /// way ends it there.
    ///
    /// A database keeps former rows until it cleans up (`VACUUM`), and backups until they end.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Validation`] for a record that is no person; [`Error::Rule`]
    /// `legal_hold`, which names the holds; those of the storage.
    pub async fn erase(
        &self,
        subject: impl Into<EntityRef> + Send,
        erasure: Erasure,
    ) -> Result<ErasureReport> {
        self.erase_with(subject, erasure, &()).await
    }

    /// Like [`erase`](Self::erase), and tells how far it is; one that is stopped goes on when it runs
    /// again.
    ///
    /// # Errors
    /// Those of [`erase`](Self::erase).
    pub async fn erase_with(
        &self,
        subject: impl Into<EntityRef> + Send,
        erasure: Erasure,
        progress: &impl Progress,
    ) -> Result<ErasureReport> {
        erase::erase(self.session, &person(subject.into())?, &erasure, progress).await
    }
}

fn person(subject: EntityRef) -> Result<EntityRef> {
    if is_person(&subject.object) {
        return Ok(subject);
    }
    let message = "name a contact or a lead";
    Err(Error::from(FieldError::new(
        "subject",
        "not_a_person",
        message,
    )))
}

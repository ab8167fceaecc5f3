//! What is done with a lead on its way: qualified, rejected, lost, archived, reopened.

use std::sync::Arc;

use super::{Lead, LeadStatus, Qualification, RefusedTransition, next_statuses};
use crate::Id;
use crate::engine::{Records, UnitOfWork, in_work};
use crate::error::{FieldError, Result, codes};
use crate::record::Record;

impl Records<'_, Lead> {
    /// Gives a lead a status; [`next_statuses`] says which it may get.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, leads::{Lead, LeadStatus}};
    /// # async fn example(session: &Session, lead: Id<Lead>) -> Result<()> {
    /// let lead = session.leads().set_status(lead, LeadStatus::Contacted).await?;
    /// assert_eq!(lead.status, LeadStatus::Contacted);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) `transition` with what would be allowed;
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn set_status(
        &mut self,
        lead: Id<Lead>,
        status: LeadStatus,
    ) -> Result<Arc<Record<Lead>>> {
        in_work!(self.workspace, |work| {
            work.update(lead, &|lead: &mut Lead| lead.status = status)
                .await
        })
    }

    /// Says how far a lead was judged; [`next_qualifications`](super::next_qualifications) says what
    /// may follow what.
    ///
    /// # Errors
    /// Like [`set_status`](Self::set_status).
    pub async fn set_qualification(
        &mut self,
        lead: Id<Lead>,
        qualification: Qualification,
    ) -> Result<Arc<Record<Lead>>> {
        in_work!(self.workspace, |work| {
            work.update(lead, &|lead: &mut Lead| {
                lead.qualification_status = qualification;
            })
            .await
        })
    }

    /// Finds a lead worth pursuing: its status is `qualified`, its qualification is the given one.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, leads::{Lead, Qualification}};
    /// # async fn example(session: &Session, lead: Id<Lead>) -> Result<()> {
    /// let lead = session.leads().qualify(lead, Qualification::SalesQualified).await?;
    /// assert!(lead.qualified_at.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Like [`set_status`](Self::set_status); [`Error::Validation`](crate::Error::Validation) if the
    /// qualification is `unqualified`.
    pub async fn qualify(
        &mut self,
        lead: Id<Lead>,
        qualification: Qualification,
    ) -> Result<Arc<Record<Lead>>> {
        if qualification == Qualification::Unassessed {
            let message = "must say who finds the lead worth pursuing";
            let field = Lead::QUALIFICATION_STATUS.name();
            return Err(FieldError::new(field, codes::INCONSISTENT, message).into());
        }
        in_work!(self.workspace, |work| {
            work.update(lead, &|lead: &mut Lead| {
                lead.status = LeadStatus::Qualified;
                lead.qualification_status = qualification;
            })
            .await
        })
    }

    /// Rejects a lead, with the reason; its qualification stays as it was judged.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, leads::Lead};
    /// # async fn example(session: &Session, lead: Id<Lead>) -> Result<()> {
    /// let lead = session.leads().disqualify(lead, "no budget").await?;
    /// assert_eq!(lead.status_reason.as_deref(), Some("no budget"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Like [`set_status`](Self::set_status); [`Error::Validation`](crate::Error::Validation) if the
    /// reason is blank or longer than its field.
    pub async fn disqualify(&mut self, lead: Id<Lead>, reason: &str) -> Result<Arc<Record<Lead>>> {
        in_work!(self.workspace, |work| {
            close(work, lead, LeadStatus::Disqualified, reason).await
        })
    }

    /// Says that a lead went to somebody else, with the reason.
    ///
    /// # Errors
    /// Like [`disqualify`](Self::disqualify).
    pub async fn lose(&mut self, lead: Id<Lead>, reason: &str) -> Result<Arc<Record<Lead>>> {
        in_work!(self.workspace, |work| {
            close(work, lead, LeadStatus::Lost, reason).await
        })
    }

    /// Opens a rejected, lost or archived lead again: as contacted if something was ever done with
    /// it, else as new.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) `transition` if it is open or converted;
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn reopen(&mut self, lead: Id<Lead>) -> Result<Arc<Record<Lead>>> {
        in_work!(self.workspace, |work| {
            let current = work.get(lead).await?;
            let to = match current.last_activity_at {
                Some(_) => LeadStatus::Contacted,
                None => LeadStatus::New,
            };
            let from = current.status;
            if from.is_open() {
                let allowed = next_statuses(from);
                return Err(RefusedTransition { from, to, allowed }.into());
            }
            work.update_record(current, &|lead: &mut Lead| lead.status = to)
                .await
        })
    }
}

/// Closes a lead for a reason.
async fn close(
    work: &mut UnitOfWork,
    lead: Id<Lead>,
    status: LeadStatus,
    reason: &str,
) -> Result<Arc<Record<Lead>>> {
    if reason.trim().is_empty() {
        let field = Lead::STATUS_REASON.name();
        return Err(FieldError::new(field, codes::BLANK, "say why").into());
    }
    work.update(lead, &|lead: &mut Lead| {
        lead.status = status;
        lead.status_reason = Some(reason.to_owned());
    })
    .await
}

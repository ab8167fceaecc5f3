//! Which status and which qualification of a lead may follow which: one table each, for every way of
//! writing.

use super::{LeadStatus, Qualification};
use crate::error::{Error, RuleViolation};

/// The statuses that a lead may get from the one that it has; staying where it is is always allowed.
///
/// | from | to |
/// |---|---|
/// | new | contacted, qualified, unqualified, lost, archived |
/// | contacted | qualified, unqualified, lost, archived |
/// | qualified | contacted, unqualified, lost, archived |
/// | unqualified (rejected) | new, contacted, archived: it is reopened |
/// | lost | new, contacted, archived: it is reopened |
/// | archived | new, contacted: it is reopened |
/// | converted | nothing |
///
/// Who was approached is not new any more, and what is closed is reopened before it is judged again.
/// Nothing becomes `converted` and nothing ceases to be so but by a conversion and its undoing, which
/// write what the lead became beside its status (R-083). A new lead may have any other status: much
/// is recorded after the fact.
///
/// ```
/// use crm_core::leads::{LeadStatus, next_statuses};
///
/// assert!(next_statuses(LeadStatus::New).contains(&LeadStatus::Qualified));
/// assert!(next_statuses(LeadStatus::Converted).is_empty());
/// ```
#[must_use]
pub const fn next_statuses(from: LeadStatus) -> &'static [LeadStatus] {
    use LeadStatus as S;
    match from {
        S::New => &[
            S::Contacted,
            S::Qualified,
            S::Disqualified,
            S::Lost,
            S::Archived,
        ],
        S::Contacted => &[S::Qualified, S::Disqualified, S::Lost, S::Archived],
        S::Qualified => &[S::Contacted, S::Disqualified, S::Lost, S::Archived],
        S::Disqualified | S::Lost => &[S::New, S::Contacted, S::Archived],
        S::Archived => &[S::New, S::Contacted],
        S::Converted => &[],
    }
}

/// The qualifications that a lead may get from the one that it has; staying is always allowed.
///
/// | from | to |
/// |---|---|
/// | unqualified (not yet judged) | marketing qualified, sales qualified |
/// | marketing qualified | unqualified, sales qualified |
/// | sales qualified | unqualified, marketing qualified, sales accepted |
/// | sales accepted | unqualified, marketing qualified, sales qualified |
///
/// Sales accepts only what sales has judged; every judgement can be taken back. A new lead may have
/// any qualification.
///
/// ```
/// use crm_core::leads::{Qualification, next_qualifications};
///
/// let from_marketing = next_qualifications(Qualification::MarketingQualified);
/// assert!(!from_marketing.contains(&Qualification::SalesAccepted));
/// ```
#[must_use]
pub const fn next_qualifications(from: Qualification) -> &'static [Qualification] {
    use Qualification as Q;
    match from {
        Q::Unassessed => &[Q::MarketingQualified, Q::SalesQualified],
        Q::MarketingQualified => &[Q::Unassessed, Q::SalesQualified],
        Q::SalesQualified => &[Q::Unassessed, Q::MarketingQualified, Q::SalesAccepted],
        Q::SalesAccepted => &[Q::Unassessed, Q::MarketingQualified, Q::SalesQualified],
    }
}

/// A change of status or qualification that the tables refuse.
///
/// As an [`Error`] it is a rule's: its code is `transition`, its message names both values and those
/// that would be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a lead that is `{from}` cannot become `{to}`; {}", allowed_text(.allowed))]
pub struct RefusedTransition<T: Copy + std::fmt::Display + 'static> {
    /// What it is.
    pub from: T,
    /// What it was to become.
    pub to: T,
    /// What it may become.
    pub allowed: &'static [T],
}

fn allowed_text<T: std::fmt::Display>(allowed: &[T]) -> String {
    if allowed.is_empty() {
        return "it is only changed by undoing its conversion".to_owned();
    }
    let names: Vec<String> = allowed.iter().map(|one| format!("`{one}`")).collect();
    format!("allowed: {}", names.join(", "))
}

impl<T: Copy + std::fmt::Display + 'static> From<RefusedTransition<T>> for Error {
    fn from(refused: RefusedTransition<T>) -> Self {
        RuleViolation::new("transition", "R-083", refused.to_string()).into()
    }
}

fn check<T: Copy + PartialEq + std::fmt::Display>(
    from: T,
    to: T,
    allowed: &'static [T],
) -> Result<(), RefusedTransition<T>> {
    if from == to || allowed.contains(&to) {
        Ok(())
    } else {
        Err(RefusedTransition { from, to, allowed })
    }
}

/// Whether a lead may go from one status to another by [`next_statuses`].
///
/// # Errors
/// [`RefusedTransition`] with what would be allowed.
pub fn check_status(from: LeadStatus, to: LeadStatus) -> Result<(), RefusedTransition<LeadStatus>> {
    check(from, to, next_statuses(from))
}

/// Whether a lead may go from one qualification to another by [`next_qualifications`].
///
/// # Errors
/// [`RefusedTransition`] with what would be allowed.
pub fn check_qualification(
    from: Qualification,
    to: Qualification,
) -> Result<(), RefusedTransition<Qualification>> {
    check(from, to, next_qualifications(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-083: `converted` is reached and left by nothing else than a conversion.
    #[test]
    fn nothing_leads_to_or_from_converted() {
        for from in LeadStatus::ALL {
            let next = next_statuses(*from);
            assert!(!next.contains(&LeadStatus::Converted), "{from}");
            assert!(!next.contains(from), "{from} names itself");
            assert!(check_status(*from, *from).is_ok());
        }
        assert!(next_statuses(LeadStatus::Converted).is_empty());
    }

    /// Every other lead can be reopened and archived, so none is ever stuck.
    #[test]
    fn every_lead_comes_back_to_contacted_and_to_archived() {
        for from in LeadStatus::ALL {
            if *from == LeadStatus::Converted {
                continue;
            }
            for goal in [LeadStatus::Contacted, LeadStatus::Archived] {
                let direct = check_status(*from, goal).is_ok();
                let by_one = next_statuses(*from)
                    .iter()
                    .any(|step| check_status(*step, goal).is_ok());
                assert!(direct || by_one, "{from} to {goal}");
            }
        }
    }

    #[test]
    fn a_refusal_names_what_is_allowed() {
        let refused = check_status(LeadStatus::Archived, LeadStatus::Lost).unwrap_err();
        let error = Error::from(refused);
        assert_eq!(error.code(), "transition");
        let text = error.to_string();
        for name in ["`archived`", "`lost`", "`new`", "`contacted`"] {
            assert!(text.contains(name), "{text}");
        }
        let (from, to) = (
            Qualification::MarketingQualified,
            Qualification::SalesAccepted,
        );
        let refused = check_qualification(from, to).unwrap_err();
        assert_eq!(refused.allowed, next_qualifications(from));
        let converted = check_status(LeadStatus::Converted, LeadStatus::New).unwrap_err();
        assert!(converted.to_string().contains("undoing its conversion"));
    }
}

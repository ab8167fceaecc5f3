//! Which status of an activity may follow which (C-015): one table for every way of writing.

use super::ActivityStatus;
use crate::error::{Error, RuleViolation};

/// Whether an activity may go from one status to another; staying where it is is always allowed.
///
/// | from | to |
/// |---|---|
/// | planned | scheduled, in progress, completed, cancelled, no show, deferred |
/// | scheduled | planned, in progress, completed, cancelled, no show, deferred |
/// | in progress | scheduled, completed, cancelled, no show, deferred |
/// | deferred | planned, scheduled, in progress, completed, cancelled |
/// | completed, cancelled, no show | planned, scheduled: it is reopened |
///
/// What was begun is not merely planned any more, nobody can miss what was put off, and what is
/// finished is reopened before anything else happens to it. A reopened activity loses its completion
/// time; when it was begun and what came of it stay. A new activity may have any status: much is
/// recorded after the fact.
///
/// ```
/// use crm_core::activities::{ActivityStatus, allowed};
///
/// assert!(allowed(ActivityStatus::Scheduled, ActivityStatus::Completed).is_ok());
/// let refused = allowed(ActivityStatus::Completed, ActivityStatus::Cancelled).unwrap_err();
/// assert_eq!(refused.from, ActivityStatus::Completed);
/// assert_eq!(refused.to, ActivityStatus::Cancelled);
/// ```
///
/// # Errors
/// [`RefusedTransition`] with the two.
pub const fn allowed(from: ActivityStatus, to: ActivityStatus) -> Result<(), RefusedTransition> {
    use ActivityStatus as S;
    let is_allowed = match from {
        S::Planned | S::Scheduled => true,
        S::InProgress => !matches!(to, S::Planned),
        S::Deferred => !matches!(to, S::NoShow),
        S::Completed => matches!(to, S::Completed | S::Planned | S::Scheduled),
        S::Cancelled => matches!(to, S::Cancelled | S::Planned | S::Scheduled),
        S::NoShow => matches!(to, S::NoShow | S::Planned | S::Scheduled),
    };
    if is_allowed {
        Ok(())
    } else {
        Err(RefusedTransition { from, to })
    }
}

/// A change of status that [`allowed`] refuses.
///
/// As an [`Error`] it is a rule's: its code is `finished` where the activity is finished and
/// `transition` otherwise, its message names both statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an activity that is `{from}` cannot become `{to}`{}", hint(*.from))]
pub struct RefusedTransition {
    /// The status that it has.
    pub from: ActivityStatus,
    /// The status that it was to get.
    pub to: ActivityStatus,
}

const fn hint(from: ActivityStatus) -> &'static str {
    if from.is_finished() {
        "; reopen it first"
    } else {
        ""
    }
}

impl From<RefusedTransition> for Error {
    fn from(refused: RefusedTransition) -> Self {
        let code = if refused.from.is_finished() {
            "finished"
        } else {
            "transition"
        };
        RuleViolation::new(code, "C-015", refused.to_string()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C-015: the whole table, row by row.
    #[test]
    fn the_table_is_as_told() {
        use ActivityStatus as S;
        let table: [(S, &[S]); 7] = [
            (S::Planned, S::ALL),
            (S::Scheduled, S::ALL),
            (
                S::InProgress,
                &[
                    S::Scheduled,
                    S::InProgress,
                    S::Completed,
                    S::Cancelled,
                    S::NoShow,
                    S::Deferred,
                ],
            ),
            (
                S::Deferred,
                &[
                    S::Planned,
                    S::Scheduled,
                    S::InProgress,
                    S::Completed,
                    S::Cancelled,
                    S::Deferred,
                ],
            ),
            (S::Completed, &[S::Completed, S::Planned, S::Scheduled]),
            (S::Cancelled, &[S::Cancelled, S::Planned, S::Scheduled]),
            (S::NoShow, &[S::NoShow, S::Planned, S::Scheduled]),
        ];
        for (from, targets) in table {
            for to in S::ALL {
                assert_eq!(
                    allowed(from, *to).is_ok(),
                    targets.contains(to),
                    "{from} to {to}"
                );
            }
        }
    }

    #[test]
    fn a_refusal_names_both() {
        let refused = allowed(ActivityStatus::NoShow, ActivityStatus::Completed).unwrap_err();
        let error = Error::from(refused);
        assert_eq!(error.code(), "finished");
        let text = error.to_string();
        assert!(
            text.contains("`no_show`") && text.contains("`completed`"),
            "{text}"
        );
    }
}

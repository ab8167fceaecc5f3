//! Which status of a campaign may follow which: one table for every way of writing.

use super::CampaignStatus;
use crate::error::{Result, RuleViolation};

/// The statuses that a campaign may get from the one that it has; staying is always allowed.
///
/// | from | to |
/// |---|---|
/// | planned | active, cancelled |
/// | active | paused, completed, cancelled |
/// | paused | active, completed, cancelled |
/// | completed | active: it goes on |
/// | cancelled | planned: it is taken up again |
///
/// A new campaign may have any status: much is recorded after the fact.
///
/// ```
/// use crm_core::campaigns::{CampaignStatus, next_statuses};
///
/// assert!(next_statuses(CampaignStatus::Paused).contains(&CampaignStatus::Active));
/// ```
#[must_use]
pub const fn next_statuses(from: CampaignStatus) -> &'static [CampaignStatus] {
    use CampaignStatus as S;
    match from {
        S::Planned => &[S::Active, S::Cancelled],
        S::Active => &[S::Paused, S::Completed, S::Cancelled],
        S::Paused => &[S::Active, S::Completed, S::Cancelled],
        S::Completed => &[S::Active],
        S::Cancelled => &[S::Planned],
    }
}

/// Refuses what the table does not allow.
pub(super) fn check_status(from: CampaignStatus, to: CampaignStatus) -> Result<()> {
    let allowed = next_statuses(from);
    if from == to || allowed.contains(&to) {
        return Ok(());
    }
    let names: Vec<String> = allowed.iter().map(|one| format!("`{one}`")).collect();
    let message = format!(
        "a campaign that is `{from}` cannot become `{to}`; allowed: {}",
        names.join(", ")
    );
    Err(RuleViolation::new("transition", "C-208", message).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_campaign_is_stuck_and_refusals_name_what_is_allowed() {
        for from in CampaignStatus::ALL {
            assert!(!next_statuses(*from).is_empty(), "{from}");
            for to in CampaignStatus::ALL {
                let outcome = check_status(*from, *to);
                let is_allowed = from == to || next_statuses(*from).contains(to);
                assert_eq!(outcome.is_ok(), is_allowed, "{from} to {to}");
                if let Err(error) = outcome {
                    let first = next_statuses(*from)[0];
                    assert!(error.to_string().contains(&format!("`{first}`")));
                }
            }
        }
    }
}

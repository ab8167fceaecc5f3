//! The policies of the reconciled model (C-170, R-036, R-055, R-057).

use super::RetentionPolicy;
use crate::activities::Activity;
use crate::leads::{Lead, LeadStatus};
use crate::privacy::DeletionMethod;
use crate::query::{Criteria, WhereExt as _};
use crate::schema::Entity as _;

/// The object of the event log, which goes by whole months.
pub const AUDIT_OBJECT: &str = "audit_event";

/// The policies that [`install_defaults`](super::Retention::install_defaults) makes.
///
/// ```
/// let names: Vec<String> = crm_core::privacy::default_policies()
///     .into_iter()
///     .map(|policy| policy.name)
///     .collect();
/// assert_eq!(names, ["activities", "idle leads", "audit archive", "audit deletion"]);
/// ```
#[must_use]
pub fn default_policies() -> Vec<RetentionPolicy> {
    let open = Lead::STATUS
        .ne(LeadStatus::Converted)
        .and(Lead::STATUS.ne(LeadStatus::Archived));
    vec![
        // R-055.
        RetentionPolicy {
            description: Some("Activities are archived after seven years (R-055).".to_owned()),
            ..RetentionPolicy::new(
                "activities",
                Activity::schema().name(),
                DeletionMethod::Archive,
                7,
            )
        },
        // R-036; a lead that never had an activity counts from when it was made.
        RetentionPolicy {
            description: Some(
                "Leads with which nothing was done for two years are archived (R-036).".to_owned(),
            ),
            basis_field: Lead::LAST_ACTIVITY_AT.name().into_owned(),
            basis_if_empty: Some(Lead::CREATED_AT.name().into_owned()),
            criteria: Some(Criteria::from(open)),
            ..RetentionPolicy::new(
                "idle leads",
                Lead::schema().name(),
                DeletionMethod::Archive,
                2,
            )
        },
        // R-057.
        RetentionPolicy {
            description: Some(
                "Months of the event log are archived after a year (R-057).".to_owned(),
            ),
            ..RetentionPolicy::new("audit archive", AUDIT_OBJECT, DeletionMethod::Archive, 1)
        },
        RetentionPolicy {
            description: Some("Months of the event log go after ten years (R-057).".to_owned()),
            ..RetentionPolicy::new(
                "audit deletion",
                AUDIT_OBJECT,
                DeletionMethod::HardDelete,
                10,
            )
        },
    ]
}

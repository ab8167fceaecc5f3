//! What keeps a lead right, whichever way it is written.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::transitions::{check_qualification, check_status};
use super::{Lead, LeadStatus};
use crate::engine::{UnitOfWork, Write, WriteRule};
use crate::error::{Faults, Result, codes};
use crate::tenancy::LeadNamePolicy;

/// The rules between the fields of one lead.
pub(super) fn check_lead(lead: &Lead, faults: &mut Faults) {
    // a name or a company.
    let has_name = lead.name.as_ref().is_some_and(|name| name.parts() > 0);
    // A name that was refused is missing only because of that.
    let refused = faults.has("first_name") || faults.has("last_name");
    if !has_name && !refused && lead.company.is_none() {
        faults.add(
            "company",
            codes::REQUIRED,
            "a lead needs a name or a company",
        );
    }
    // converted exactly if there is a conversion.
    if (lead.status == LeadStatus::Converted) != lead.conversion.is_some() {
        faults.add(
            "status",
            codes::INCONSISTENT,
            "is `converted` exactly if the lead was converted; convert the lead instead",
        );
    }
}

/// The transitions, R-027 as the tenant wants it, and the times at which a lead was assigned and
/// qualified.
#[derive(Debug)]
pub(crate) struct LeadRules;

#[async_trait]
impl WriteRule for LeadRules {
    fn object(&self) -> &'static str {
        "lead"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Lead>() else {
            return Ok(());
        };
        let before = write.before::<Lead>();
        if let Some(before) = before {
            check_transitions(before, after)?;
        }
        let settled = settled(before.map(|before| &before.data), after, work.now());
        let parts = |part: Option<&str>| part.is_some();
        let name = after.name.as_ref();
        let first = parts(name.and_then(|name| name.first_name.as_deref()));
        let last = parts(name.and_then(|name| name.last_name.as_deref()));
        let renamed = before.is_none_or(|lead| lead.name != after.name);
        if settled != after.data {
            write.edit::<Lead>(|lead| *lead = settled);
        }
        // The policy is only asked where it matters.
        if renamed
            && !(first && last)
            && work.configurations().lead_name_policy().await? == LeadNamePolicy::BothNames
        {
            if !first {
                write
                    .faults()
                    .add("first_name", codes::REQUIRED, "a value is required");
            }
            if !last {
                write
                    .faults()
                    .add("last_name", codes::REQUIRED, "a value is required");
            }
        }
        Ok(())
    }
}

/// The tables of transitions hold on every way of writing, but for a conversion and its undoing:
/// only the engine writes what a lead became, and who writes that also writes the status.
fn check_transitions(before: &Lead, after: &Lead) -> Result<()> {
    let converts = before.conversion.is_some() != after.conversion.is_some();
    if !converts {
        check_status(before.status, after.status)?;
        check_qualification(before.qualification_status, after.qualification_status)?;
    }
    Ok(())
}

/// The lead with what follows from its other fields:
/// - it was assigned when it got the owner that it has;
/// - it was qualified when it last became so, and is no more once it is open but not qualified, or
///   rejected; a converted, lost or archived lead keeps the time;
/// - the reason why it was closed goes when it is reopened.
fn settled(before: Option<&Lead>, after: &Lead, now: DateTime<Utc>) -> Lead {
    let mut lead = after.clone();
    if after.owner_id != before.and_then(|lead| lead.owner_id) {
        lead.assigned_at = after.owner_id.is_some().then_some(now);
    }
    let status = before.map(|lead| lead.status);
    if status == Some(after.status) {
        return lead;
    }
    match after.status {
        LeadStatus::Qualified => {
            // A conversion that is undone brings back the time from before.
            let stays = status == Some(LeadStatus::Converted) && after.qualified_at.is_some();
            lead.qualified_at = if stays { after.qualified_at } else { Some(now) };
        }
        LeadStatus::New | LeadStatus::Contacted | LeadStatus::Disqualified => {
            lead.qualified_at = None;
        }
        LeadStatus::Converted | LeadStatus::Lost | LeadStatus::Archived => {}
    }
    let given = before.is_none_or(|before| before.status_reason != after.status_reason);
    if after.status.is_open() && !given {
        lead.status_reason = None;
    }
    lead
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Id;

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(hour * 3_600, 0).unwrap()
    }

    fn lead(status: LeadStatus) -> Lead {
        Lead {
            status,
            ..Lead::default()
        }
    }

    #[test]
    fn times_follow_owner_and_status() {
        let owner = |number| Some(Id::new(uuid::Uuid::from_u128(number)));
        let mut first = lead(LeadStatus::Qualified);
        first.owner_id = owner(1);
        let first = settled(None, &first, at(1));
        assert_eq!(
            (first.assigned_at, first.qualified_at),
            (Some(at(1)), Some(at(1)))
        );
        // Nothing changes: nothing is new.
        assert!(settled(Some(&first), &first, at(2)) == first);
        let mut second = first.clone();
        second.owner_id = owner(2);
        second.status = LeadStatus::Lost;
        second.status_reason = Some("went elsewhere".into());
        let second = settled(Some(&first), &second, at(2));
        assert_eq!(
            (second.assigned_at, second.qualified_at),
            (Some(at(2)), Some(at(1)))
        );
        let mut third = second.clone();
        third.owner_id = None;
        third.status = LeadStatus::Contacted;
        let third = settled(Some(&second), &third, at(3));
        assert_eq!((third.assigned_at, third.qualified_at), (None, None));
        assert_eq!(third.status_reason, None);
    }

    #[test]
    fn a_conversion_passes_by_the_table() {
        let before = lead(LeadStatus::New);
        let mut after = lead(LeadStatus::Converted);
        assert!(check_transitions(&before, &after).is_err());
        after.conversion = Some(super::super::Conversion::new(at(1)));
        assert!(check_transitions(&before, &after).is_ok());
        assert!(check_transitions(&after, &before).is_ok());
        let mut other = after.clone();
        other.status = LeadStatus::Lost;
        assert!(check_transitions(&after, &other).is_err());
    }
}

//! Who is addressed by a campaign, and how it went.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::Campaign;
use crate::Id;
use crate::contacts::Contact;
use crate::engine::{UnitOfWork, Write, WriteRule};
use crate::error::{Faults, Result, RuleViolation, codes};
use crate::leads::Lead;
use crate::schema::{Entity, Picklist};

/// A lead or contact that is addressed by a campaign. There is one for each campaign and person; a
/// lead that was converted and the contact that it became are one person.
///
/// ```
/// # use crm_core::{Id, campaigns::{Campaign, CampaignMember, MemberStatus}, leads::Lead};
/// # fn example(campaign: Id<Campaign>, lead: Id<Lead>) {
/// let member = CampaignMember { lead_id: Some(lead), ..CampaignMember::new(campaign) };
/// assert_eq!(member.status, MemberStatus::Sent);
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "campaign_member",
    table = "campaign_members",
    unique(campaign_id, lead_id; live),
    unique(campaign_id, contact_id; live),
    index(campaign_id, status),
    check = check_member
)]
pub struct CampaignMember {
    /// The campaign.
    #[field(required, references = "campaign", on_delete = "cascade")]
    pub campaign_id: Id<Campaign>,
    /// The lead.
    #[field(references = "lead", on_delete = "cascade")]
    pub lead_id: Option<Id<Lead>>,
    /// The contact, also the one that the lead became.
    #[field(references = "contact", on_delete = "cascade")]
    pub contact_id: Option<Id<Contact>>,
    /// How it went.
    pub status: MemberStatus,
    /// When the person first responded; now, if nothing else is said when the status says so. Empty
    /// while the status is `sent`.
    #[field(merge = "least")]
    pub responded_at: Option<DateTime<Utc>>,
    /// Whether the engine made the lead a member, because the campaign brought it. Such a membership
    /// goes when the lead is put down to another campaign, unless somebody changed it.
    #[field(read_only)]
    pub is_first_touch: bool,
}

/// How it went with a member of a campaign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum MemberStatus {
    /// Was addressed.
    #[default]
    Sent,
    /// Responded.
    Responded,
    /// Became a customer's contact, or bought.
    Converted,
}

/// A lead or a contact, as a member of campaigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Person {
    /// A lead.
    Lead(Id<Lead>),
    /// A contact.
    Contact(Id<Contact>),
}

impl From<Id<Lead>> for Person {
    fn from(lead: Id<Lead>) -> Self {
        Self::Lead(lead)
    }
}

impl From<Id<Contact>> for Person {
    fn from(contact: Id<Contact>) -> Self {
        Self::Contact(contact)
    }
}

impl Person {
    /// A membership of the person.
    pub(super) fn member_of(self, campaign: Id<Campaign>) -> CampaignMember {
        let mut member = CampaignMember::new(campaign);
        match self {
            Self::Lead(lead) => member.lead_id = Some(lead),
            Self::Contact(contact) => member.contact_id = Some(contact),
        }
        member
    }
}

fn check_member(member: &CampaignMember, faults: &mut Faults) {
    let (lead, contact) = (
        CampaignMember::LEAD_ID.name(),
        CampaignMember::CONTACT_ID.name(),
    );
    // A person who was refused is missing only because of that.
    let is_refused = faults.has(&lead) || faults.has(&contact);
    if member.lead_id.is_none() && member.contact_id.is_none() && !is_refused {
        faults.add(lead, codes::REQUIRED, "a member is a lead or a contact");
    }
    let responded = CampaignMember::RESPONDED_AT.name();
    match (member.status, member.responded_at) {
        (MemberStatus::Sent, Some(_)) => faults.add(
            responded,
            codes::INCONSISTENT,
            "is empty while the status is `sent`",
        ),
        (MemberStatus::Responded, None) => {
            faults.add(responded, codes::REQUIRED, "who responded did so at a time");
        }
        _ => {}
    }
}

/// The time of the response follows the status; a lead becomes converted by its conversion.
#[derive(Debug)]
pub(crate) struct MemberRules;

/// What is noted about a member that the engine itself writes.
pub(super) const IN_STEP: &str = "campaign member in step";

#[async_trait]
impl WriteRule for MemberRules {
    fn object(&self) -> &'static str {
        "campaign_member"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<CampaignMember>() else {
            return Ok(());
        };
        if write.deletes() {
            return Ok(());
        }
        let before = write.before::<CampaignMember>();
        let by_engine = work
            .take_note(after.id.uuid())
            .is_some_and(|note| note == IN_STEP);
        let now = work.now();
        let is_new_status = before.map(|before| before.status) != Some(after.status);
        let says_converted = is_new_status && after.status == MemberStatus::Converted;
        if says_converted && !by_engine && after.lead_id.is_some() && after.contact_id.is_none() {
            let message = "a lead becomes converted by its conversion; convert the lead";
            return Err(RuleViolation::new("not_converted", "C-208", message).into());
        }
        let responded_at = match after.status {
            MemberStatus::Sent if is_new_status => None,
            MemberStatus::Responded => Some(after.responded_at.unwrap_or(now)),
            _ => after.responded_at,
        };
        // What somebody changed is not the engine's any more.
        let is_changed =
            before.is_some_and(|before| is_new_status || before.responded_at != after.responded_at);
        let is_first_touch = after.is_first_touch && (by_engine || !is_changed);
        write.edit::<CampaignMember>(|member| {
            member.responded_at = responded_at;
            member.is_first_touch = is_first_touch;
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_somebody_and_responded_at_a_time() {
        let campaign = Id::new(uuid::Uuid::from_u128(1));
        let codes = |member: &CampaignMember| {
            let mut faults = Faults::default();
            check_member(member, &mut faults);
            let error = faults.into_result().err();
            let errors = error.map(|error| error.into_errors()).unwrap_or_default();
            errors.into_iter().map(|one| one.code).collect::<Vec<_>>()
        };
        assert_eq!(codes(&CampaignMember::new(campaign)), [codes::REQUIRED]);
        let mut member = Person::Lead(Id::new(uuid::Uuid::from_u128(2))).member_of(campaign);
        assert!(codes(&member).is_empty());
        member.status = MemberStatus::Responded;
        assert_eq!(codes(&member), [codes::REQUIRED]);
        member.responded_at = Some(DateTime::UNIX_EPOCH);
        assert!(codes(&member).is_empty());
        member.status = MemberStatus::Sent;
        assert_eq!(codes(&member), [codes::INCONSISTENT]);
    }
}

//! Campaigns, who is addressed by them, and what they brought (C-208).
//!
//! ```text
//! Campaign ──< CampaignMember >── Lead or Contact      sent, responded, converted
//!    ▲                              │
//!    ├──────── campaign_id ─────────┘  the first touch: what brought the lead
//!    └──────── campaign_id ── Deal     what the deal is put down to
//! ```
//!
//! - A lead with a campaign is a member of it, and has responded: that is how it came. The engine
//!   keeps the two in step, whichever way leads and members are written.
//! - A lead that is converted takes its memberships along: they are the contact's too, unless it is a
//!   member itself, and converted. Undoing the conversion gives them back.
//! - [`attribution`](crate::engine::Records::attribution) counts members, responses, leads, deals and
//!   what was won, per currency. The storage counts; no record is read.
//! - Campaigns form trees; their dates, budget and expected revenue are facts for reports, which the
//!   engine checks and does not add up.
//!
//! ```
//! # use crm_core::{Id, Session, contacts::Contact, error::Result};
//! use crm_core::campaigns::Campaign;
//! use crm_core::leads::{Lead, LeadSource};
//! # async fn example(session: &Session, ada: Id<Contact>) -> Result<()> {
//! let fair = session.campaigns().create(Campaign::new("Spring fair")).await?;
//! // A lead that the campaign brought is a member of it; others are addressed.
//! let source = LeadSource { campaign_id: Some(fair.id), ..LeadSource::default() };
//! let lead = Lead { company: Some("Globex".into()), source, ..Lead::default() };
//! session.leads().create(lead).await?;
//! session.campaigns().add_member(fair.id, ada).await?;
//! let brought = session.campaigns().attribution(fair.id).await?;
//! assert_eq!((brought.members, brought.leads), (2, 1));
//! # Ok(())
//! # }
//! ```

mod attribution;
mod members;
mod service;
mod step;
mod transitions;

pub use attribution::CampaignAttribution;
pub(crate) use members::MemberRules;
pub use members::{CampaignMember, MemberStatus, Person};
pub use service::{CampaignPerson, MembersAdded};
pub(crate) use step::{CampaignStep, convert_member, give_member_back};
pub use transitions::next_statuses;

use async_trait::async_trait;
use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};

use crate::Id;
use crate::engine::{UnitOfWork, Write, WriteRule};
use crate::error::{Faults, Result, codes};
use crate::hierarchy::{Hierarchical, ensure_no_cycle};
use crate::identity::User;
use crate::schema::{Entity, FieldOf, Picklist};
use crate::value::{Currency, Money};

/// Something that is done to find customers.
///
/// ```
/// use crm_core::campaigns::{Campaign, CampaignStatus, CampaignType};
///
/// let fair = Campaign {
///     campaign_type: CampaignType::Event,
///     budget: Some(20_000.into()),
///     ..Campaign::new("Spring fair")
/// };
/// assert_eq!(fair.status, CampaignStatus::Planned);
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "campaign",
    table = "campaigns",
    index(status, start_date),
    check = check_campaign
)]
pub struct Campaign {
    /// Name.
    #[field(required, max_len = 255, searchable, indexed)]
    pub name: String,
    /// Notes.
    #[field(multiline, searchable)]
    pub description: Option<String>,
    /// What is done.
    #[field(indexed)]
    pub campaign_type: CampaignType,
    /// Where it stands; [`next_statuses`] says what may follow.
    pub status: CampaignStatus,
    /// The first day.
    pub start_date: Option<NaiveDate>,
    /// The last day; not before the first.
    pub end_date: Option<NaiveDate>,
    /// What it may cost; not negative.
    #[field(currency = "currency", min = 0)]
    pub budget: Option<Decimal>,
    /// What it did cost; not negative.
    #[field(currency = "currency", min = 0)]
    pub actual_cost: Option<Decimal>,
    /// What it is expected to bring; not negative.
    #[field(currency = "currency", min = 0)]
    pub expected_revenue: Option<Decimal>,
    /// The currency of the amounts.
    pub currency: Currency,
    /// The campaign that it is a part of (R-086).
    #[field(references = "campaign", on_delete = "set_null")]
    pub parent_campaign_id: Option<Id<Self>>,
    /// The user who runs it.
    #[field(references = "user", on_delete = "set_null")]
    pub owner_id: Option<Id<User>>,
    /// Values of the tenant's own fields.
    #[field(default = json!({}))]
    pub custom_fields: Json,
    /// Tags.
    pub tags: Vec<String>,
}

/// What is done in a campaign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum CampaignType {
    /// E-mails are sent.
    #[default]
    Email,
    /// People meet, as at a trade fair.
    Event,
    /// People meet on line.
    Webinar,
    /// Advertisements are placed.
    Advertising,
    /// Something is posted at social networks.
    SocialMedia,
    /// Something is published that people look for.
    Content,
    /// People are called.
    Telephone,
    /// Letters are sent.
    DirectMail,
    /// Customers or partners recommend.
    Referral,
    /// Anything else.
    Other,
}

/// Where a campaign stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum CampaignStatus {
    /// It is prepared.
    #[default]
    Planned,
    /// It runs.
    Active,
    /// It is interrupted.
    Paused,
    /// It is over.
    Completed,
    /// It was given up.
    Cancelled,
}

impl Hierarchical for Campaign {
    const PARENT: FieldOf<Self, Id<Self>> = Self::PARENT_CAMPAIGN_ID;
}

impl Campaign {
    /// What it may cost, with the currency.
    #[must_use]
    pub fn budget_money(&self) -> Option<Money> {
        self.budget.map(|budget| Money::new(budget, self.currency))
    }
}

fn check_campaign(campaign: &Campaign, faults: &mut Faults) {
    let (start, end) = (campaign.start_date, campaign.end_date);
    if start.zip(end).is_some_and(|(start, end)| end < start) {
        faults.add(
            Campaign::END_DATE.name(),
            codes::INCONSISTENT,
            "must not be before `start_date`",
        );
    }
}

/// The transitions of campaigns; R-086: no campaign is above and below itself.
#[derive(Debug)]
pub(crate) struct CampaignRules;

#[async_trait]
impl WriteRule for CampaignRules {
    fn object(&self) -> &'static str {
        "campaign"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Campaign>() else {
            return Ok(());
        };
        if write.deletes() {
            return Ok(());
        }
        let before = write.before::<Campaign>();
        if let Some(before) = before {
            transitions::check_status(before.status, after.status)?;
        }
        let was = before.and_then(|before| before.parent_campaign_id);
        match after.parent_campaign_id {
            Some(parent) if was != Some(parent) => {
                let id = after.id;
                ensure_no_cycle(work, id, parent, "R-086").await
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_does_not_end_before_it_starts() {
        let day = |day| NaiveDate::from_ymd_opt(2026, 3, day);
        for (start, end, is_right) in [
            (day(1), day(1), true),
            (day(2), day(1), false),
            (None, day(1), true),
            (day(2), None, true),
        ] {
            let mut faults = Faults::default();
            let campaign = Campaign {
                start_date: start,
                end_date: end,
                ..Campaign::new("Fair")
            };
            check_campaign(&campaign, &mut faults);
            assert_eq!(faults.is_empty(), is_right, "{start:?} to {end:?}");
        }
    }
}

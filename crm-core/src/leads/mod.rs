//! Leads: people and companies that may become customers, not yet qualified, and what they become
//! when they are converted ([`ConversionPlan`]).
//!
//! - Which status and which qualification may follow which is said by one table each,
//!   [`next_statuses`] and [`next_qualifications`], that no way of writing passes by; `qualify`,
//!   `disqualify`, `lose` and `reopen` of [`Records`](crate::engine::Records) are the short ways.
//! - Leads with which nothing was done for two years are archived by
//!   [`archive_stale`](crate::engine::Records::archive_stale) (R-036).
//! - A new lead without an owner is given one by the tenant's [rules](assignment).
//! - Which [campaigns](crate::campaigns) and which links brought leads is counted by
//!   [`attribution`](crate::engine::Records::attribution) and
//!   [`attribution_by_utm`](crate::engine::Records::attribution_by_utm).
//!
//! ```
//! # use crm_core::{Id, Session, error::Result, identity::User, value::PersonName};
//! use crm_core::leads::{ConversionPlan, Lead, Qualification};
//! # async fn example(session: &Session) -> Result<()> {
//! let lead = Lead {
//!     name: Some(PersonName::new("Hank", "Scorpio")),
//!     company: Some("Globex".into()),
//!     ..Lead::default()
//! };
//! let lead = session.leads().create(lead).await?;
//! session.leads().assign(lead.id).await?;
//! session.leads().qualify(lead.id, Qualification::SalesQualified).await?;
//! let sale = session.leads().convert(lead.id, ConversionPlan::with_deal("Rollout")).await?;
//! assert!(sale.deal.is_some());
//! # Ok(())
//! # }
//! ```

pub mod assignment;
mod conversion;
mod rules;
mod service;
mod stale;
mod transitions;
mod utm;

pub use conversion::{
    AlreadyConverted, CarriedOver, ConversionCandidates, ConversionDeal, ConversionDeed,
    ConversionInUse, ConversionPlan, ConversionTarget, Converted, FieldMapping, LeadConversion,
    LeadConversionMapping, UndoObstacle, UndoObstacleReason,
};
pub(crate) use conversion::{ConvertedLeadRule, MappingRules};
pub(crate) use rules::LeadRules;
pub use stale::StaleLeads;
pub use transitions::{
    RefusedTransition, check_qualification, check_status, next_qualifications, next_statuses,
};
pub use utm::UtmAttribution;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};

use crate::Id;
use crate::accounts::Account;
use crate::campaigns::Campaign;
use crate::contacts::Contact;
use crate::deals::Deal;
use crate::identity::User;
use crate::schema::{Entity, FieldGroup, Picklist};
use crate::value::{Address, EmailAddress, HttpUrl, PersonName, PhoneNumber, Score};

/// A person or company that may become a customer.
///
/// ```
/// use crm_core::leads::Lead;
///
/// let lead = Lead { company: Some("Globex".into()), ..Lead::default() };
/// assert_eq!(lead.status.as_str(), "new");
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "lead",
    table = "leads",
    index(owner_id, status),
    index(status, lead_score),
    index(status, last_activity_at, created_at),
    check = rules::check_lead
)]
pub struct Lead {
    /// Name of the person (R-027).
    #[field(flatten, personal)]
    pub name: Option<PersonName>,
    /// Name of the company (R-027).
    #[field(max_len = 255, searchable, indexed)]
    pub company: Option<String>,
    /// E-mail address.
    #[field(personal, searchable, indexed)]
    pub email: Option<EmailAddress>,
    /// Telephone.
    #[field(flatten, prefix = "phone", personal)]
    pub phone: Option<PhoneNumber>,
    /// Job title.
    #[field(max_len = 150, personal)]
    pub job_title: Option<String>,
    /// Web site.
    #[field(max_len = 255)]
    pub website: Option<HttpUrl>,
    /// Industry.
    #[field(max_len = 100, indexed)]
    pub industry: Option<String>,
    /// Revenue in a year; not negative.
    #[field(precision = 19, scale = 2, min = 0)]
    pub annual_revenue: Option<Decimal>,
    /// How many people work at the company.
    #[field(min = 0)]
    pub employee_count: Option<i32>,
    /// Where letters go.
    #[field(flatten, prefix = "mailing_", personal)]
    pub mailing_address: Option<Address>,
    /// Where the lead came from.
    #[field(flatten)]
    pub source: LeadSource,
    /// Where the lead stands; [`next_statuses`] says what may follow.
    pub status: LeadStatus,
    /// Why it was rejected or lost, or is of no interest any more; empty once it is open again.
    #[field(max_len = 255)]
    pub status_reason: Option<String>,
    /// How far it was judged; [`next_qualifications`] says what may follow.
    #[field(indexed)]
    pub qualification_status: Qualification,
    /// How interested it seems.
    pub interest_level: InterestLevel,
    /// How soon it may buy.
    pub rating: Option<Rating>,
    /// How well it fits, in the tenant's own letters. Where the published rule set has
    /// [bands](crate::scoring::GradeBands), it follows the score.
    #[field(max_len = 10)]
    pub grade: Option<String>,
    /// Score from 0 to 100 (R-028): the sum of its history, clamped (R-029).
    #[field(in_step, indexed, merge = "survivor")]
    pub lead_score: Score,
    /// The sum of all changes of its score, which may be below 0 or above 100.
    #[field(in_step, merge = "survivor")]
    pub score_total: i32,
    /// The sum of those changes that were made by hand.
    #[field(in_step, merge = "survivor")]
    pub score_adjustment: i32,
    /// Budget, in the tenant's own ranges.
    #[field(max_len = 50)]
    pub budget_range: Option<String>,
    /// When it wants to buy, in the tenant's own words.
    #[field(max_len = 50)]
    pub timeline: Option<String>,
    /// Whether the person decides.
    pub decision_maker: bool,
    /// What troubles it.
    pub pain_points: Vec<String>,
    /// What it is interested in.
    pub interests: Vec<String>,
    /// Notes.
    #[field(multiline, personal, searchable)]
    pub description: Option<String>,
    /// The user who owns it.
    #[field(references = "user", on_delete = "set_null")]
    pub owner_id: Option<Id<User>>,
    /// When it was given to the owner that it has.
    #[field(read_only)]
    pub assigned_at: Option<DateTime<Utc>>,
    /// When its status last became `qualified`; empty while it is open and not qualified, and once it
    /// is rejected.
    #[field(read_only)]
    pub qualified_at: Option<DateTime<Utc>>,
    /// What became of it, once it is converted (R-083).
    #[field(flatten, prefix = "converted_", read_only)]
    pub conversion: Option<Conversion>,
    /// When something was last done with it.
    #[field(in_step, indexed, merge = "greatest")]
    pub last_activity_at: Option<DateTime<Utc>>,
    /// When something is planned next.
    #[field(in_step, merge = "least")]
    pub next_activity_at: Option<DateTime<Utc>>,
    /// Values of the tenant's own fields.
    #[field(personal, default = json!({}))]
    pub custom_fields: Json,
    /// Tags.
    pub tags: Vec<String>,
}

/// Where a lead came from.
#[derive(Clone, PartialEq, FieldGroup)]
pub struct LeadSource {
    /// The source, such as a trade fair.
    #[field(max_len = 100, indexed)]
    pub lead_source: Option<String>,
    /// More about the source.
    #[field(max_len = 255)]
    pub lead_source_detail: Option<String>,
    /// The campaign that brought it: its first touch (C-208). The lead is a member of it.
    #[field(references = "campaign", on_delete = "set_null")]
    pub campaign_id: Option<Id<Campaign>>,
    /// How the web page was found.
    #[field(flatten, prefix = "utm_")]
    pub utm: Option<Utm>,
    /// The page that led to the web form.
    pub referrer_url: Option<HttpUrl>,
    /// The page with the web form.
    pub landing_page_url: Option<HttpUrl>,
}

/// The campaign parameters of a web page's address.
#[derive(Clone, PartialEq, Eq, FieldGroup)]
pub struct Utm {
    /// Who sent the visitor.
    #[field(max_len = 100)]
    pub source: Option<String>,
    /// By what means.
    #[field(max_len = 100)]
    pub medium: Option<String>,
    /// In which campaign.
    #[field(max_len = 100)]
    pub campaign: Option<String>,
    /// For which search words.
    #[field(max_len = 100)]
    pub term: Option<String>,
    /// With which advertisement.
    #[field(max_len = 100)]
    pub content: Option<String>,
}

/// What became of a converted lead. The records may later be gone; the conversion stays.
#[derive(Clone, PartialEq, FieldGroup)]
pub struct Conversion {
    /// When it was converted.
    #[field(required)]
    pub at: DateTime<Utc>,
    /// The contact that it became.
    #[field(references = "contact", on_delete = "set_null")]
    pub contact_id: Option<Id<Contact>>,
    /// The account that it became.
    #[field(references = "account", on_delete = "set_null")]
    pub account_id: Option<Id<Account>>,
    /// The deal that it became.
    #[field(references = "deal", on_delete = "set_null")]
    pub deal_id: Option<Id<Deal>>,
}

/// Where a lead stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum LeadStatus {
    /// Just came in.
    #[default]
    New,
    /// Was approached.
    Contacted,
    /// Is worth pursuing.
    Qualified,
    /// Was judged and rejected.
    #[option("unqualified")]
    Disqualified,
    /// Became a contact (R-083).
    Converted,
    /// Went to somebody else.
    Lost,
    /// No longer of interest.
    Archived,
}

impl LeadStatus {
    /// Whether somebody still works on it: it is new, contacted or qualified.
    ///
    /// ```
    /// use crm_core::leads::LeadStatus;
    ///
    /// assert!(LeadStatus::Contacted.is_open());
    /// assert!(!LeadStatus::Lost.is_open());
    /// ```
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::New | Self::Contacted | Self::Qualified)
    }

    /// The open statuses.
    pub(crate) fn open() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|status| status.is_open())
    }
}

/// How far a lead was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum Qualification {
    /// Not yet.
    #[default]
    #[option("unqualified")]
    Unassessed,
    /// Marketing finds it worth pursuing.
    MarketingQualified,
    /// Sales finds it worth pursuing.
    SalesQualified,
    /// Sales pursues it.
    SalesAccepted,
}

/// How interested a lead seems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum InterestLevel {
    /// Nobody knows.
    #[default]
    Unknown,
    /// A little.
    Low,
    /// Somewhat.
    Medium,
    /// Much.
    High,
    /// Very much.
    VeryHigh,
}

/// How soon a lead may buy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum Rating {
    /// Soon.
    Hot,
    /// Perhaps.
    Warm,
    /// Hardly.
    Cold,
}

//! Contacts: people whom the tenant does business with, what they are to each other
//! ([`ContactRelationship`]) and the accounts at which they are ([`ContactAffiliation`]).

mod affiliation;
mod relationship;
mod step;

pub use affiliation::{BuyingRole, ContactAffiliation, Person};
pub use relationship::{ContactRelationship, Relation, RelationshipType};

pub(crate) use relationship::RelationshipRules;
pub(crate) use step::AffiliationStep;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};

use crate::Id;
use crate::accounts::Account;
use crate::deals::DealStats;
use crate::engine::{UnitOfWork, Write, WriteRule};
use crate::error::{Result, codes};
use crate::identity::User;
use crate::schema::{Entity, FieldGroup, Picklist};
use crate::tenancy::ContactNamePolicy;
use crate::value::{
    Address, EmailAddress, LanguageTag, PersonName, PhoneNumber, Score, SocialProfiles, TimeZone,
};

/// A person whom the tenant does business with.
///
/// ```
/// use crm_core::contacts::Contact;
///
/// let ada = Contact {
///     email: Some("ada@analytical.example".parse().unwrap()),
///     job_title: Some("Analyst".into()),
///     ..Contact::named("Ada", "Lovelace")
/// };
/// assert_eq!(ada.name.full_name().as_deref(), Some("Ada Lovelace"));
/// // Personal data stays out of logs.
/// assert!(!format!("{ada:?}").contains("Lovelace"));
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "contact",
    table = "contacts",
    unique(email; ignore_case, live),
    index(owner_id, created_at),
    index(account_id, status)
)]
pub struct Contact {
    /// Name (R-019).
    #[field(flatten, personal)]
    pub name: PersonName,
    /// The account that the person works for (R-024): the one of the primary
    /// [`ContactAffiliation`], which follows when this is set.
    #[field(references = "account", on_delete = "set_null")]
    pub account_id: Option<Id<Account>>,
    /// E-mail address; no two live contacts have the same (R-021).
    #[field(personal, searchable)]
    pub email: Option<EmailAddress>,
    /// Telephone (R-022).
    #[field(flatten, prefix = "phone", personal)]
    pub phone: Option<PhoneNumber>,
    /// Mobile telephone.
    #[field(flatten, prefix = "mobile", personal)]
    pub mobile: Option<PhoneNumber>,
    /// Name of the company, where there is no account.
    #[field(max_len = 255, searchable)]
    pub company: Option<String>,
    /// Job title.
    #[field(max_len = 150, personal)]
    pub job_title: Option<String>,
    /// Department.
    #[field(max_len = 100, personal)]
    pub department: Option<String>,
    /// Where letters go.
    #[field(flatten, prefix = "mailing_", personal)]
    pub mailing_address: Option<Address>,
    /// Profiles at social networks, by the network's name (C-207).
    #[field(personal)]
    pub social_profiles: SocialProfiles,
    /// Where the contact came from.
    #[field(max_len = 100, indexed)]
    pub lead_source: Option<String>,
    /// How the person wants to be approached (R-026).
    #[field(flatten)]
    pub preferences: ContactPreferences,
    /// Where the contact stands in its life.
    #[field(indexed)]
    pub status: ContactStatus,
    /// Notes.
    #[field(multiline, personal, searchable)]
    pub description: Option<String>,
    /// Score from 0 to 100 (R-028).
    #[field(read_only)]
    pub lead_score: Score,
    /// Figures over the contact's deals (R-023).
    #[field(flatten, in_step)]
    pub deal_stats: DealStats,
    /// When the person was last approached.
    #[field(in_step, merge = "greatest")]
    pub last_contacted_at: Option<DateTime<Utc>>,
    /// When something was last done with the contact.
    #[field(in_step, indexed, merge = "greatest")]
    pub last_activity_at: Option<DateTime<Utc>>,
    /// When something is planned next.
    #[field(in_step, merge = "least")]
    pub next_activity_at: Option<DateTime<Utc>>,
    /// The user who owns the contact.
    #[field(references = "user", on_delete = "set_null")]
    pub owner_id: Option<Id<User>>,
    /// Values of the tenant's own fields.
    #[field(personal, default = json!({}))]
    pub custom_fields: Json,
    /// Tags.
    pub tags: Vec<String>,
}

/// How a person wants to be approached (R-026).
#[derive(Clone, PartialEq, Eq, FieldGroup)]
pub struct ContactPreferences {
    /// The way the person likes best.
    pub preferred_contact_method: ContactMethod,
    /// The person does not want to be called.
    #[field(merge = "any")]
    pub do_not_call: bool,
    /// The person does not want e-mail of any kind.
    #[field(merge = "any")]
    pub do_not_email: bool,
    /// The person does not want bulk e-mail.
    #[field(merge = "any")]
    pub email_opt_out: bool,
    /// Where the person's days begin.
    pub timezone: TimeZone,
    /// The person's language.
    pub language: LanguageTag,
}

/// A way to approach a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum ContactMethod {
    /// By e-mail.
    #[default]
    Email,
    /// By telephone.
    Phone,
    /// By mobile telephone.
    Mobile,
    /// By text message.
    Sms,
    /// By letter.
    Post,
    /// In another way.
    Other,
}

/// Where a contact stands in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum ContactStatus {
    /// In business with the tenant.
    #[default]
    Active,
    /// Not at the moment.
    Inactive,
    /// No more.
    Archived,
    /// Has died.
    Deceased,
}

impl Contact {
    /// A contact with a given and a family name.
    #[must_use]
    pub fn named(first: impl Into<String>, last: impl Into<String>) -> Self {
        Self {
            name: PersonName::new(first, last),
            ..Self::default()
        }
    }
}

/// R-019: both names, or, where the tenant allows it, at least one.
#[derive(Debug)]
pub(crate) struct ContactRules;

#[async_trait]
impl WriteRule for ContactRules {
    fn object(&self) -> &'static str {
        "contact"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Contact>() else {
            return Ok(());
        };
        let unchanged = write
            .before::<Contact>()
            .is_some_and(|before| before.name == after.name);
        // The policy is only asked where it matters: most contacts have both names.
        if unchanged || after.name.parts() == 2 {
            return Ok(());
        }
        let lacks_first = after.name.first_name.is_none();
        let lacks_last = after.name.last_name.is_none();
        let policy = work.configurations().contact_name_policy().await?;
        if after_is_enough(policy, lacks_first, lacks_last) {
            return Ok(());
        }
        if lacks_first {
            write
                .faults()
                .add("first_name", codes::REQUIRED, "a value is required");
        }
        if lacks_last {
            write
                .faults()
                .add("last_name", codes::REQUIRED, "a value is required");
        }
        Ok(())
    }
}

const fn after_is_enough(policy: ContactNamePolicy, lacks_first: bool, lacks_last: bool) -> bool {
    match policy {
        ContactNamePolicy::Both => !lacks_first && !lacks_last,
        ContactNamePolicy::AtLeastOne => !(lacks_first && lacks_last),
    }
}

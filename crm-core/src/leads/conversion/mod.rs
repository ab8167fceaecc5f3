//! Conversion: a lead becomes a contact, an account and perhaps a deal (C-006, R-032 to R-035, R-083),
//! in one commit, and can become a lead again.
//!
//! ```text
//!   lead ──┬─ FieldMapping: what it gives to each record ──┬─ account   new, an existing one, or none
//!          │                                               ├─ contact   new or an existing one
//!   plan ──┘                                               └─ deal      new, or none
//!   what led to the lead ── carried over to them
//!   lead ── status `converted`, its conversion names the records, read-only from then on
//!   LeadConversion ── an entry for each record: what was made, filled and carried over
//! ```
//!
//! - **Who may be converted.** New, contacted and qualified leads. One that was disqualified, lost or
//!   archived is opened again first.
//! - **Fields.** A [`FieldMapping`] says which field of the lead gives which field of the records:
//!   those of the same name and type, and the pairs of the tenant
//!   ([`LeadConversionMapping`]), custom fields included. An existing record takes only what it lacks.
//! - **Account.** Unless the plan says otherwise: that of an existing contact, or a new one if the lead
//!   has a company, or none. An existing contact with another account keeps that, and is at the account
//!   of the conversion besides.
//! - **What led to the lead.** Activities and series keep their lead and belong to the contact, account
//!   and deal too, and so does whatever may belong to a lead and a contact at once. Consents, comments
//!   and followers, which belong to one record, move to the contact. Participants stay with their
//!   activity. Entries of logs stay with the lead that they tell of.
//! - **Duplicates.** A new contact or account is refused where a strict rule refuses it, unless the
//!   plan [accepts](ConversionPlan::accepting) the records that it is like.
//! - **Read-only.** Nobody changes a converted lead, whichever way: only what the engine keeps about it
//!   follows, references to what is deleted are emptied (R-035), and it is archived, deleted and
//!   restored as ever.
//! - **Merges.** A converted lead is not merged into another one: what it became would be forgotten.
//! - **Undo.** [`Records::undo_conversion`] makes it a lead again while nothing else depends on what
//!   the conversion made. A conversion and its undoing change nothing but versions, stamps and the
//!   entries of logs; the records that were made are deleted, and can be restored.

mod carry;
mod convert;
mod mapping;
mod rules;
mod undo;

use std::sync::Arc;

use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::{Value as Json, json};
use uuid::Uuid;

pub(crate) use mapping::MappingRules;
pub use mapping::{ConversionTarget, FieldMapping, LeadConversionMapping};
pub(crate) use rules::ConvertedLeadRule;

use super::Lead;
use crate::accounts::Account;
use crate::contacts::Contact;
use crate::deals::Deal;
use crate::duplicates::DuplicateCheck;
use crate::engine::{Records, Settle, UnitOfWork, in_work};
use crate::error::Result;
use crate::pipelines::{Pipeline, PipelineStage};
use crate::record::Record;
use crate::schema::{Entity, Picklist};
use crate::value::Currency;
use crate::{EntityRef, Id};

/// One record that a conversion touched, and how: what its undoing gives back. When and by whom is told
/// by the entry's `created`.
///
/// An entry goes with its record when that is removed for good, as it holds its data.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "lead_conversion", table = "lead_conversions", log)]
pub struct LeadConversion {
    /// The lead.
    #[field(required, references = "lead", on_delete = "cascade")]
    pub lead_id: Id<Lead>,
    /// The commit of the conversion, which its audit events carry.
    #[field(required)]
    pub commit_id: Uuid,
    /// The object of the record.
    #[field(required, max_len = 100)]
    pub object: String,
    /// The record.
    #[field(required, record_of = "object")]
    pub record_id: Uuid,
    /// What was done with it.
    #[field(required)]
    pub deed: ConversionDeed,
    /// The fields that were changed, as they were.
    #[field(personal, default = json!({}))]
    pub before: Json,
    /// The fields that were changed, as the conversion left them; of a new record all.
    #[field(personal, default = json!({}))]
    pub after: Json,
}

/// What a conversion did with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum ConversionDeed {
    /// It is the lead that was converted.
    Converted,
    /// It was made.
    Created,
    /// It took what it lacked.
    Filled,
    /// It led to the lead, and leads to what the lead became.
    Carried,
}

/// Which account a conversion leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum AccountChoice {
    /// That of an existing contact, or a new one if the lead has a company.
    #[default]
    Derived,
    New,
    Existing(Id<Account>),
    None,
}

/// What a lead shall become.
///
/// ```
/// use crm_core::leads::{ConversionDeal, ConversionPlan};
///
/// // A new contact, a new account if the lead has a company, and a deal.
/// let plan = ConversionPlan::with_deal("Globex rollout");
///
/// let rollout = ConversionDeal { amount: Some(12_000.into()), ..ConversionDeal::new("Rollout") };
/// let plan = ConversionPlan::new().without_account().and_deal(rollout);
/// # let _ = plan;
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct ConversionPlan {
    account: AccountChoice,
    contact: Option<Id<Contact>>,
    deal: Option<ConversionDeal>,
    accepted: Vec<Uuid>,
}

impl ConversionPlan {
    /// A new contact; a new account if the lead has a company.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a new deal.
    pub fn with_deal(deal: impl Into<ConversionDeal>) -> Self {
        Self::new().and_deal(deal)
    }

    /// A new deal besides.
    pub fn and_deal(mut self, deal: impl Into<ConversionDeal>) -> Self {
        self.deal = Some(deal.into());
        self
    }

    /// Into an existing contact.
    pub const fn into_contact(mut self, contact: Id<Contact>) -> Self {
        self.contact = Some(contact);
        self
    }

    /// Into an existing account.
    pub const fn into_account(mut self, account: Id<Account>) -> Self {
        self.account = AccountChoice::Existing(account);
        self
    }

    /// Into a new account, also where an existing contact has one.
    pub const fn into_new_account(mut self) -> Self {
        self.account = AccountChoice::New;
        self
    }

    /// Into no account.
    pub const fn without_account(mut self) -> Self {
        self.account = AccountChoice::None;
        self
    }

    /// Somebody looked at these records and decided that the new ones are none of them: strict
    /// duplicate rules do not refuse them because of these.
    pub fn accepting<I: Into<Uuid>>(mut self, records: impl IntoIterator<Item = I>) -> Self {
        self.accepted.extend(records.into_iter().map(Into::into));
        self
    }
}

/// The deal that a lead becomes. What is not said here comes from the lead by the [`FieldMapping`] or
/// is as with any new deal.
#[derive(Clone, Debug, PartialEq)]
pub struct ConversionDeal {
    /// Its name.
    pub name: String,
    /// The pipeline; the tenant's default pipeline, if none is named.
    pub pipeline: Option<Id<Pipeline>>,
    /// The stage; the first open one, if none is named.
    pub stage: Option<Id<PipelineStage>>,
    /// What it is worth.
    pub amount: Option<Decimal>,
    /// The currency of the amount.
    pub currency: Option<Currency>,
}

impl ConversionDeal {
    /// A deal in the first stage of the default pipeline.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            pipeline: None,
            stage: None,
            amount: None,
            currency: None,
        }
    }
}

impl From<&str> for ConversionDeal {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for ConversionDeal {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

/// What a lead became.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Converted {
    /// The lead as it is now.
    pub lead: Arc<Record<Lead>>,
    /// The contact.
    pub contact: Id<Contact>,
    /// The account.
    pub account: Option<Id<Account>>,
    /// The deal.
    pub deal: Option<Id<Deal>>,
    /// What was carried over, by object and fate.
    pub carried: Vec<CarriedOver>,
}

/// What led to a lead when it was converted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CarriedOver {
    /// The object of the records.
    pub object: String,
    /// How many lead to the contact, the account or the deal now.
    pub carried: usize,
    /// How many stayed with the lead alone.
    pub left: usize,
}

impl Settle for Converted {
    fn settle(self, work: &UnitOfWork) -> Self {
        Self {
            lead: self.lead.settle(work),
            ..self
        }
    }
}

/// Stored records that a lead may be: what the tenant's duplicate rules find.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ConversionCandidates {
    /// Contacts, the most alike first.
    pub contacts: DuplicateCheck,
    /// Accounts, the most alike first; none for a lead without a company.
    pub accounts: DuplicateCheck,
}

/// A refused conversion: the lead was converted before (R-034, R-083). Names what it became, as far as
/// that is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("the lead was converted before; work with the records that it became, or undo that first")]
#[non_exhaustive]
pub struct AlreadyConverted {
    /// The lead.
    pub lead: Id<Lead>,
    /// The contact.
    pub contact: Option<Id<Contact>>,
    /// The account.
    pub account: Option<Id<Account>>,
    /// The deal.
    pub deal: Option<Id<Deal>>,
}

/// A refused undoing: something else depends on what the conversion made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[error(
    "the conversion cannot be undone while other things depend on what it made ({} found); look after \
     these first",
    obstacles.len()
)]
#[non_exhaustive]
pub struct ConversionInUse {
    /// The lead.
    pub lead: Id<Lead>,
    /// All that stands in the way.
    pub obstacles: Vec<UndoObstacle>,
}

/// What stands in the way of undoing a conversion.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct UndoObstacle {
    /// The record that the conversion made.
    pub record: EntityRef,
    /// Why it can't be removed.
    pub why: UndoObstacleReason,
}

/// Why a record that a conversion made can't be removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum UndoObstacleReason {
    /// Somebody changed it since.
    Changed {
        /// The fields.
        fields: Vec<String>,
    },
    /// Another record leads to it.
    ReferredTo {
        /// That record.
        by: EntityRef,
        /// The field by which it does.
        field: String,
    },
    /// It became part of another record, or another of it: undo that merge first.
    Merged {
        /// The merge.
        merge: Uuid,
    },
}

impl Records<'_, Lead> {
    /// Converts a lead, in one commit: see [`ConversionPlan`].
    ///
    /// ```
    /// # use crm_core::{Session, Error, Id, error::Result, leads::{ConversionPlan, Lead}};
    /// # async fn example(session: &Session, lead: Id<Lead>) -> Result<()> {
    /// let plan = ConversionPlan::with_deal("Globex rollout");
    /// let won = session.leads().convert(lead, plan.clone()).await?;
    /// assert_eq!(won.lead.status.as_str(), "converted");
    ///
    /// // Nobody converts a lead twice.
    /// let Err(Error::AlreadyConverted(before)) = session.leads().convert(lead, plan).await else {
    ///     unreachable!()
    /// };
    /// assert_eq!(before.contact, Some(won.contact));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::AlreadyConverted`](crate::Error::AlreadyConverted); [`Error::Rule`](crate::Error::Rule)
    /// `not_convertible` for a lead that was disqualified, lost or archived;
    /// [`Error::Validation`](crate::Error::Validation) with every fault of all records, such as
    /// `contact.last_name`, also where the contact or account does not exist (R-033);
    /// [`Error::DuplicateFound`](crate::Error::DuplicateFound) by strict duplicate rules, and
    /// [`Error::Duplicate`](crate::Error::Duplicate).
    pub async fn convert(&mut self, lead: Id<Lead>, plan: ConversionPlan) -> Result<Converted> {
        in_work!(self.workspace, |work| {
            convert::convert(work, lead, &plan).await
        })
    }

    /// The stored contacts and accounts that a lead may be, by the tenant's duplicate rules: what to
    /// offer before it is converted. Nothing is written.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, leads::{ConversionPlan, Lead}};
    /// # async fn example(session: &Session, lead: Id<Lead>) -> Result<()> {
    /// let candidates = session.leads().candidates(lead).await?;
    /// let plan = match candidates.contacts.matches.first() {
    ///     Some(found) => ConversionPlan::new().into_contact(found.record.id.into()),
    ///     None => ConversionPlan::new(),
    /// };
    /// session.leads().convert(lead, plan).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound); [`Error::Validation`](crate::Error::Validation)
    /// where the tenant's pairs of fields give a value that the field does not take.
    pub async fn candidates(&mut self, lead: Id<Lead>) -> Result<ConversionCandidates> {
        let mut attempt = self.workspace.attempt();
        convert::candidates(attempt.work(), lead).await
    }

    /// Which field of a lead gives which field of the records that it becomes, with the tenant's own
    /// pairs.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn conversion_mapping(&mut self) -> Result<FieldMapping> {
        let mut attempt = self.workspace.attempt();
        let mapping = attempt.work().remembered::<FieldMapping>().await?;
        Ok((*mapping).clone())
    }

    /// Makes a converted lead a lead again, in one commit: the records that the conversion made are
    /// deleted, what it filled is emptied where nobody touched it since, what it carried over comes
    /// back, and the lead is as it was before.
    ///
    /// ```
    /// # use crm_core::{Session, Error, Id, error::Result, leads::Lead};
    /// # async fn example(session: &Session, lead: Id<Lead>) -> Result<()> {
    /// match session.leads().undo_conversion(lead).await {
    ///     Err(Error::ConversionInUse(in_use)) => println!("{:?}", in_use.obstacles),
    ///     undone => drop(undone?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::ConversionInUse`](crate::Error::ConversionInUse) with all that stands in the way;
    /// [`Error::Rule`](crate::Error::Rule) `not_converted`; [`Error::NotFound`](crate::Error::NotFound).
    pub async fn undo_conversion(&mut self, lead: Id<Lead>) -> Result<Arc<Record<Lead>>> {
        in_work!(self.workspace, |work| { undo::undo(work, lead).await })
    }
}

//! Accounts: companies and other organisations that the tenant does business with.
//!
//! Accounts form trees by [`Account::parent_account_id`], which never have a cycle (R-016), also
//! when two users change parents at the same time. What is above and below an account is told by
//! [`hierarchy`](crate::hierarchy), its sales territory by [`territories`](crate::territories).

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};

use crate::Id;
use crate::deals::DealStats;
use crate::engine::{Records, UnitOfWork, Write, WriteRule, in_work};
use crate::error::Result;
use crate::hierarchy::ensure_no_cycle;
use crate::identity::User;
use crate::record::Record;
use crate::schema::{Entity, Picklist};
use crate::territories::Territory;
use crate::value::{Address, EmailAddress, HttpUrl, PhoneNumber, Score, SocialProfiles};

/// A company or other organisation.
///
/// ```
/// use crm_core::accounts::{Account, AccountType};
///
/// let globex = Account { account_type: AccountType::Customer, ..Account::new("Globex") };
/// assert_eq!(globex.name, "Globex");
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "account",
    table = "accounts",
    unique(account_number; live),
    index(owner_id, status),
    index(name)
)]
pub struct Account {
    /// Name.
    #[field(required, max_len = 255, searchable)]
    pub name: String,
    /// The tenant's own number of the account.
    #[field(max_len = 100)]
    pub account_number: Option<String>,
    /// What the account is to the tenant.
    #[field(indexed)]
    pub account_type: AccountType,
    /// Industry.
    #[field(max_len = 100, indexed)]
    pub industry: Option<String>,
    /// Part of the industry.
    #[field(max_len = 100)]
    pub sub_industry: Option<String>,
    /// Web site.
    #[field(max_len = 255)]
    pub website: Option<HttpUrl>,
    /// Notes.
    #[field(multiline, searchable)]
    pub description: Option<String>,
    /// Revenue in a year, in the tenant's currency; not negative (R-015).
    #[field(precision = 19, scale = 2, min = 0)]
    pub annual_revenue: Option<Decimal>,
    /// How many people work there (R-015).
    #[field(min = 0)]
    pub employee_count: Option<i32>,
    /// The year in which it was founded.
    #[field(min = 1000, max = 9999)]
    pub founded_year: Option<i32>,
    /// Symbol at a stock exchange.
    #[field(max_len = 10)]
    pub stock_symbol: Option<String>,
    /// The account that it belongs to (R-016).
    #[field(references = "account", on_delete = "set_null")]
    pub parent_account_id: Option<Id<Account>>,
    /// Where invoices go.
    #[field(flatten, prefix = "billing_")]
    pub billing_address: Option<Address>,
    /// Where goods go.
    #[field(flatten, prefix = "shipping_")]
    pub shipping_address: Option<Address>,
    /// Telephone.
    #[field(flatten, prefix = "phone", personal)]
    pub phone: Option<PhoneNumber>,
    /// Fax.
    #[field(flatten, prefix = "fax", personal)]
    pub fax: Option<PhoneNumber>,
    /// E-mail address.
    #[field(personal, searchable, indexed)]
    pub email: Option<EmailAddress>,
    /// Profiles at social networks, by the network's name (C-207).
    pub social_profiles: SocialProfiles,
    /// The sales territory that it is in. Territories are matched to accounts when these are written
    /// (C-020); a territory that is set here is a decision made by hand, which stays.
    #[field(references = "territory", on_delete = "set_null")]
    pub territory_id: Option<Id<Territory>>,
    /// Whether the territory was given by hand, so that no match changes it.
    #[field(read_only)]
    pub territory_is_manual: bool,
    /// The user who owns it.
    #[field(references = "user", on_delete = "set_null")]
    pub owner_id: Option<Id<User>>,
    /// The user who looks after it.
    #[field(references = "user", on_delete = "set_null")]
    pub account_manager_id: Option<Id<User>>,
    /// Where it stands in its life.
    pub status: AccountStatus,
    /// How important it is.
    pub priority: AccountPriority,
    /// How well the relationship is, from 0 to 100.
    #[field(indexed)]
    pub health_score: Score,
    /// Figures over the account's deals (R-023).
    #[field(flatten, in_step)]
    pub deal_stats: DealStats,
    /// When something was last done with it.
    #[field(in_step, indexed, merge = "greatest")]
    pub last_activity_at: Option<DateTime<Utc>>,
    /// When something is planned next.
    #[field(in_step, merge = "least")]
    pub next_activity_at: Option<DateTime<Utc>>,
    /// Values of the tenant's own fields.
    #[field(default = json!({}))]
    pub custom_fields: Json,
    /// Tags.
    pub tags: Vec<String>,
}

/// What an account is to the tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum AccountType {
    /// May become a customer.
    #[default]
    Prospect,
    /// Buys.
    Customer,
    /// Sells together with the tenant.
    Partner,
    /// Sells to the tenant.
    Vendor,
    /// Competes.
    Competitor,
    /// Bought once.
    FormerCustomer,
}

/// Where an account stands in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum AccountStatus {
    /// In business with the tenant.
    #[default]
    Active,
    /// Not at the moment.
    Inactive,
    /// No more.
    Archived,
}

/// How important an account is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum AccountPriority {
    /// Less than others.
    Low,
    /// Like most.
    #[default]
    Medium,
    /// More than others.
    High,
    /// More than anything.
    Critical,
}

impl From<AccountPriority> for crate::deals::Priority {
    /// The scale of deals and activities ends with "urgent" where that of accounts ends with
    /// "critical".
    fn from(priority: AccountPriority) -> Self {
        match priority {
            AccountPriority::Low => Self::Low,
            AccountPriority::Medium => Self::Medium,
            AccountPriority::High => Self::High,
            AccountPriority::Critical => Self::Urgent,
        }
    }
}

impl Records<'_, Account> {
    /// Puts an account under another one, or on top of a tree of its own.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result, accounts::Account};
    /// # async fn example(session: &Session) -> Result<()> {
    /// let globex = session.accounts().create(Account::new("Globex")).await?;
    /// let labs = session.accounts().create(Account::new("Globex Labs")).await?;
    /// session.accounts().set_parent(labs.id, Some(globex.id)).await?;
    /// let error = session.accounts().set_parent(globex.id, Some(labs.id)).await.unwrap_err();
    /// assert_eq!(error.code(), "cycle");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) `cycle` (R-016); [`Error::NotFound`](crate::Error::NotFound).
    pub async fn set_parent(
        &mut self,
        account: Id<Account>,
        parent: Option<Id<Account>>,
    ) -> Result<Arc<Record<Account>>> {
        in_work!(self.workspace, |work| {
            work.update(account, &|account: &mut Account| {
                account.parent_account_id = parent;
            })
            .await
        })
    }
}

/// R-016: a parent is never below its child.
#[derive(Debug)]
pub(crate) struct AccountRules;

#[async_trait]
impl WriteRule for AccountRules {
    fn object(&self) -> &'static str {
        "account"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Account>() else {
            return Ok(());
        };
        let before = write
            .before::<Account>()
            .and_then(|account| account.parent_account_id);
        match after.parent_account_id {
            Some(parent) if before != Some(parent) && !write.deletes() => {
                let id = after.id;
                ensure_no_cycle(work, id, parent, "R-016").await
            }
            _ => Ok(()),
        }
    }
}

//! Tenants, their settings, and how a new one comes in.
//!
//! A [`Tenant`] is the only record that belongs to the platform: its subdomain is unique over all
//! tenants. Everything else belongs to one tenant and is reached through a
//! [`Session`](crate::Session) of it.

mod configuration;
mod days;
mod onboarding;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};

pub use configuration::{
    ConfigCategory, ConfigValue, Configurations, ContactNamePolicy, Envelope, LeadNamePolicy,
    TenantConfiguration,
};
pub(crate) use configuration::{SENSITIVE_OBJECTS, base_currency, fiscal_year};
pub(crate) use days::{today, zone};
pub use onboarding::{Onboarded, Onboarding};

use crate::Id;
use crate::engine::{Engine, UnitOfWork, Write, WriteRule, in_work};
use crate::error::{Error, Result};
use crate::query::{Filter, Find};
use crate::record::{Actor, Record};
use crate::schema::{Entity, FieldGroup, Picklist};
use crate::value::{
    Country, Currency, DomainName, HttpUrl, LanguageTag, Subdomain, TextValue, TimeZone,
};

/// A customer of the host application, with data of its own.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "tenant",
    table = "tenants",
    platform,
    unique(subdomain; ignore_case, live),
    unique(custom_domain; ignore_case, live)
)]
pub struct Tenant {
    /// Name.
    #[field(required, max_len = 255)]
    pub name: String,
    /// The first label of the tenant's address.
    #[field(required)]
    pub subdomain: Subdomain,
    /// Name to show; the name, if nothing else is said.
    #[field(required, max_len = 255)]
    pub display_name: Option<String>,
    /// A domain of the tenant's own.
    pub custom_domain: Option<DomainName>,
    /// What the tenant does.
    #[field(multiline)]
    pub description: Option<String>,
    /// Industry.
    #[field(max_len = 100)]
    pub industry: Option<String>,
    /// Size of the company.
    pub company_size: Option<CompanySize>,
    /// Country.
    pub country: Option<Country>,
    /// Where the tenant's days begin.
    pub timezone: TimeZone,
    /// The currency in which the tenant reckons.
    pub currency: Currency,
    /// The tenant's language.
    pub language: LanguageTag,
    /// Logo.
    #[field(max_len = 500)]
    pub logo_url: Option<HttpUrl>,
    /// Icon of the web page.
    #[field(max_len = 500)]
    pub favicon_url: Option<HttpUrl>,
    /// Colours of the brand, by name.
    #[field(default = json!({}))]
    pub brand_colors: Json,
    /// Settings that the host keeps here.
    #[field(default = json!({}))]
    pub settings: Json,
    /// Which features the tenant has, by name.
    #[field(default = json!({}))]
    pub features: Json,
    /// How much the tenant may use, by name.
    #[field(default = json!({}))]
    pub limits: Json,
    /// How the tenant pays.
    #[field(sensitive)]
    pub billing_info: Option<Json>,
    /// What the tenant has subscribed to.
    pub subscription_plan: Plan,
    /// Where the subscription stands.
    pub subscription_status: SubscriptionStatus,
    /// When the trial ends.
    pub trial_ends_at: Option<DateTime<Utc>>,
    /// When the subscription ends.
    pub subscription_ends_at: Option<DateTime<Utc>>,
    /// Set while the tenant is suspended.
    #[field(flatten, read_only)]
    pub suspension: Option<Suspension>,
    /// Whether the tenant is in use.
    #[field(default = true)]
    pub is_active: bool,
}

/// Why and since when a tenant is suspended.
#[derive(Clone, PartialEq, Eq, FieldGroup)]
pub struct Suspension {
    /// Why.
    #[field(required, multiline, max_len = 1000)]
    pub suspension_reason: String,
    /// Since when.
    #[field(required)]
    pub suspended_at: DateTime<Utc>,
}

/// What a tenant has subscribed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum Plan {
    /// Nothing yet.
    #[default]
    Trial,
    /// The basic plan.
    Basic,
    /// The professional plan.
    Professional,
    /// The enterprise plan.
    Enterprise,
    /// A plan of its own.
    Custom,
}

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum SubscriptionStatus {
    /// In order.
    #[default]
    Active,
    /// A payment is late.
    PastDue,
    /// Ended by the tenant.
    Cancelled,
    /// Ended by the host for the time being.
    Suspended,
    /// Ran out.
    Expired,
}

/// Size of a company.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum CompanySize {
    /// Just founded.
    Startup,
    /// Small.
    Small,
    /// Medium.
    Medium,
    /// Large.
    Large,
    /// Very large.
    Enterprise,
}

/// Whether a tenant can work, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TenantStatus {
    /// It can.
    Active,
    /// Not for the time being.
    Suspended,
    /// No more.
    Cancelled,
}

impl Tenant {
    /// Whether the tenant can work: suspended while there is a [`Suspension`], cancelled with its
    /// subscription, else active.
    #[must_use]
    pub const fn status(&self) -> TenantStatus {
        if self.suspension.is_some() {
            TenantStatus::Suspended
        } else if matches!(self.subscription_status, SubscriptionStatus::Cancelled) {
            TenantStatus::Cancelled
        } else {
            TenantStatus::Active
        }
    }
}

impl Engine {
    /// The tenant with a subdomain, in any case (R-003).
    ///
    /// # Errors
    /// [`Error::NotFound`]; a text that is no subdomain is one that no tenant has.
    pub async fn tenant_by_subdomain(&self, subdomain: &str) -> Result<Arc<Record<Tenant>>> {
        match Subdomain::parse(subdomain) {
            Ok(subdomain) => {
                self.find_tenant(Tenant::SUBDOMAIN.eq(subdomain).into_filter())
                    .await
            }
            Err(_) => Err(no_tenant()),
        }
    }

    /// The tenant with a custom domain, in any case.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn tenant_by_domain(&self, domain: &str) -> Result<Arc<Record<Tenant>>> {
        match DomainName::parse(domain) {
            Ok(domain) => {
                self.find_tenant(Tenant::CUSTOM_DOMAIN.eq(domain).into_filter())
                    .await
            }
            Err(_) => Err(no_tenant()),
        }
    }

    /// The tenant that a request is for, by the host name it came to: a subdomain of `base`, or a
    /// custom domain (R-003). A port behind the name is ignored.
    ///
    /// ```
    /// # use crm_core::{Engine, error::Result};
    /// # async fn example(engine: &Engine) -> Result<()> {
    /// let tenant = engine.tenant_of_host("acme.crm.example:8443", "crm.example").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn tenant_of_host(&self, host: &str, base: &str) -> Result<Arc<Record<Tenant>>> {
        let name = host
            .split(':')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let below = name
            .strip_suffix(&base.to_ascii_lowercase())
            .and_then(|label| label.strip_suffix('.'));
        match below {
            Some(label) => self.tenant_by_subdomain(label).await,
            None => self.tenant_by_domain(&name).await,
        }
    }

    async fn find_tenant(&self, filter: Filter) -> Result<Arc<Record<Tenant>>> {
        let find = Find::new().filter_by_name(filter).with_archived();
        self.platform()
            .records::<Tenant>()
            .find_one(find)
            .await?
            .ok_or_else(no_tenant)
    }

    /// Suspends a tenant. Hosts ask [`Tenant::status`] before they open sessions.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Validation`].
    pub async fn suspend(
        &self,
        tenant: Id<Tenant>,
        by: Actor,
        reason: &str,
    ) -> Result<Arc<Record<Tenant>>> {
        let at = self.clock().now();
        let change = |tenant: &mut Tenant| {
            tenant.suspension = Some(Suspension::new(reason, at));
        };
        self.change_tenant(tenant, by, change).await
    }

    /// Ends the suspension of a tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn reactivate(&self, tenant: Id<Tenant>, by: Actor) -> Result<Arc<Record<Tenant>>> {
        let change = |tenant: &mut Tenant| tenant.suspension = None;
        self.change_tenant(tenant, by, change).await
    }
}

impl Engine {
    /// Changes what only the platform may change of a tenant.
    async fn change_tenant(
        &self,
        tenant: Id<Tenant>,
        by: Actor,
        change: impl Fn(&mut Tenant) + Send + Sync,
    ) -> Result<Arc<Record<Tenant>>> {
        let session = self.session(tenant, by);
        let mut records = session.records::<Tenant>();
        in_work!(records.workspace, |work| {
            work.update(tenant, &change).await
        })
    }
}

fn no_tenant() -> Error {
    Error::NotFound {
        object: "tenant".to_owned(),
        id: uuid::Uuid::nil(),
    }
}

/// A tenant's display name is its name, if nothing else is said.
#[derive(Debug)]
pub(crate) struct TenantRules;

#[async_trait]
impl WriteRule for TenantRules {
    fn object(&self) -> &'static str {
        "tenant"
    }

    async fn before_write(&self, _work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        if write
            .after::<Tenant>()
            .is_some_and(|tenant| tenant.display_name.is_none())
        {
            write.edit::<Tenant>(|tenant| tenant.display_name = Some(tenant.name.clone()));
        }
        Ok(())
    }
}

//! The settings of a tenant.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::engine::{Records, UnitOfWork, Workspace};
use crate::error::{Error, FieldError, Result, codes};
use crate::forecasts::FiscalYear;
use crate::privacy::ContactingPolicy;
use crate::query::{Find, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, Lifecycle, Picklist, document_value};
use crate::tenancy::Tenant;
use crate::value::Currency;

/// One setting of a tenant.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "tenant_configuration",
    table = "tenant_configurations",
    unique(category, key; live)
)]
pub struct TenantConfiguration {
    /// What the setting is about.
    #[field(required)]
    pub category: ConfigCategory,
    /// Its name.
    #[field(required, max_len = 100)]
    pub key: String,
    /// What is set.
    #[field(required)]
    pub value: ConfigValue,
    /// Whether the engine itself needs it.
    pub is_system: bool,
    /// What it does.
    #[field(multiline)]
    pub description: Option<String>,
}

/// What a setting is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum ConfigCategory {
    /// Anything else.
    #[default]
    General,
    /// Passwords, sessions, access.
    Security,
    /// Connections to other systems.
    Integrations,
    /// Messages to users.
    Notifications,
    /// Logo and colours.
    Branding,
    /// What the tenant can use.
    Features,
    /// How much it can use.
    Limits,
    /// How pages look.
    UiCustomization,
    /// How the tenant does business.
    BusinessRules,
    /// What happens by itself.
    WorkflowAutomation,
}

/// What a setting holds. A secret is only ever held encrypted: its type has no other form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigValue {
    /// Anything that is no secret.
    Plain(Json),
    /// A secret, encrypted by the host.
    Encrypted(Envelope),
}

/// An encrypted value and what is needed to decrypt it, besides the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Which key.
    pub key_id: String,
    /// The cipher, such as `aes-256-gcm-siv`.
    pub algorithm: String,
    /// The number used once, in base64.
    pub nonce: String,
    /// The encrypted value, in base64.
    pub ciphertext: String,
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envelope")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

document_value!(ConfigValue);

/// Which parts of its name a contact needs (R-019).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContactNamePolicy {
    /// Given and family name.
    #[default]
    Both,
    /// One of them.
    AtLeastOne,
}

/// What names a lead needs (R-027).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeadNamePolicy {
    /// A name or a company.
    #[default]
    NameOrCompany,
    /// Given and family name.
    BothNames,
}

/// The currency in which a tenant reckons.
#[derive(Debug, Serialize, Deserialize)]
struct CurrencySetting {
    default: Currency,
    #[serde(default)]
    symbol: String,
}

impl CurrencySetting {
    fn of(currency: Currency) -> Self {
        Self {
            default: currency,
            symbol: currency.symbol(),
        }
    }
}

/// The settings of a tenant, by category and key.
///
/// ```
/// # use crm_core::{Session, error::Result};
/// use crm_core::tenancy::{ConfigCategory, ContactNamePolicy};
/// # async fn example(session: &Session) -> Result<()> {
/// let mut settings = session.configurations();
/// settings.set(ConfigCategory::UiCustomization, "rows_per_page", &25).await?;
/// let rows: Option<u32> =
///     session.configurations().get(ConfigCategory::UiCustomization, "rows_per_page").await?;
/// assert_eq!(rows, Some(25));
///
/// // People with one name may be contacts of this tenant.
/// session.configurations().set_contact_name_policy(ContactNamePolicy::AtLeastOne).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Configurations<'a> {
    records: Records<'a, TenantConfiguration>,
}

const CONTACT_NAMES: &str = "contact_names";
const LEAD_NAMES: &str = "lead_names";
const CONTACTING: &str = "contacting";
const CURRENCY: &str = "currency";
const FISCAL_YEAR: &str = "fiscal_year";
const STALE_LEADS: &str = "stale_lead_months";
pub(crate) const SENSITIVE_OBJECTS: &str = "sensitive_objects";

/// R-036: two years.
const STALE_LEAD_MONTHS: u32 = 24;
/// The longest period that makes sense: a hundred years.
const MOST_MONTHS: u32 = 1_200;

impl<'a> Configurations<'a> {
    pub(crate) const fn new(workspace: Workspace<'a>) -> Self {
        Self {
            records: Records::new(workspace),
        }
    }

    /// The record behind a setting.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn record(
        &self,
        category: ConfigCategory,
        key: &str,
    ) -> Result<Option<Arc<Record<TenantConfiguration>>>> {
        let wanted = TenantConfiguration::CATEGORY
            .eq(category)
            .and(TenantConfiguration::KEY.eq(key));
        self.records
            .find_one(Find::from(wanted).with_archived())
            .await
    }

    /// What a setting holds, as a `T`; `None` if it is not set.
    ///
    /// # Errors
    /// [`Error::Validation`] if it is encrypted or not a `T`.
    pub async fn get<T: DeserializeOwned>(
        &self,
        category: ConfigCategory,
        key: &str,
    ) -> Result<Option<T>> {
        let Some(record) = self.record(category, key).await? else {
            return Ok(None);
        };
        let ConfigValue::Plain(value) = &record.value else {
            return Err(wrong_form("is encrypted; read the record and decrypt it"));
        };
        serde_json::from_value(value.clone())
            .map(Some)
            .map_err(|_| wrong_form("is of another form than asked for"))
    }

    /// Sets a setting that is no secret.
    ///
    /// # Errors
    /// [`Error::Validation`].
    pub async fn set<T: Serialize + Sync>(
        &mut self,
        category: ConfigCategory,
        key: &str,
        value: &T,
    ) -> Result<Arc<Record<TenantConfiguration>>> {
        let value =
            serde_json::to_value(value).map_err(|_| wrong_form("cannot be written as JSON"))?;
        self.put(category, key, ConfigValue::Plain(value)).await
    }

    /// Sets a secret that the host has encrypted.
    ///
    /// # Errors
    /// [`Error::Validation`].
    pub async fn set_encrypted(
        &mut self,
        category: ConfigCategory,
        key: &str,
        envelope: Envelope,
    ) -> Result<Arc<Record<TenantConfiguration>>> {
        self.put(category, key, ConfigValue::Encrypted(envelope))
            .await
    }

    async fn put(
        &mut self,
        category: ConfigCategory,
        key: &str,
        value: ConfigValue,
    ) -> Result<Arc<Record<TenantConfiguration>>> {
        match self.record(category, key).await? {
            Some(record) => {
                self.records
                    .update(record.id, |setting| setting.value = value.clone())
                    .await
            }
            None => {
                self.records
                    .create(TenantConfiguration::new(category, key, value))
                    .await
            }
        }
    }

    /// Removes a setting; what it decided is as if it had never been set.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn remove(&mut self, category: ConfigCategory, key: &str) -> Result<()> {
        match self.record(category, key).await? {
            Some(record) => self.records.delete(record.id).await,
            None => Err(Error::NotFound {
                object: TenantConfiguration::schema().name().to_owned(),
                id: uuid::Uuid::nil(),
            }),
        }
    }

    /// Which parts of its name a contact needs (R-019).
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn contact_name_policy(&self) -> Result<ContactNamePolicy> {
        Ok(self
            .get(ConfigCategory::BusinessRules, CONTACT_NAMES)
            .await?
            .unwrap_or_default())
    }

    /// Sets which parts of its name a contact needs; stored contacts stay as they are.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn set_contact_name_policy(&mut self, policy: ContactNamePolicy) -> Result<()> {
        self.set(ConfigCategory::BusinessRules, CONTACT_NAMES, &policy)
            .await
            .map(|_| ())
    }

    /// What names a lead needs (R-027).
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn lead_name_policy(&self) -> Result<LeadNamePolicy> {
        Ok(self
            .get(ConfigCategory::BusinessRules, LEAD_NAMES)
            .await?
            .unwrap_or_default())
    }

    /// Sets what names a lead needs; stored leads stay as they are.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn set_lead_name_policy(&mut self, policy: LeadNamePolicy) -> Result<()> {
        self.set(ConfigCategory::BusinessRules, LEAD_NAMES, &policy)
            .await
            .map(|_| ())
    }

    /// After how many months without activity a lead is stale (R-036); 24 if nothing else is set.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn stale_lead_months(&self) -> Result<u32> {
        let months: Option<u32> = self.get(ConfigCategory::BusinessRules, STALE_LEADS).await?;
        // What was written past `set_stale_lead_months` may be anything.
        Ok(months.map_or(STALE_LEAD_MONTHS, |months| months.clamp(1, MOST_MONTHS)))
    }

    /// Sets after how many months without activity a lead is stale, from 1 to 1,200.
    ///
    /// # Errors
    /// [`Error::Validation`] for any other number.
    pub async fn set_stale_lead_months(&mut self, months: u32) -> Result<()> {
        if !(1..=MOST_MONTHS).contains(&months) {
            let message = format!("must be from 1 to {MOST_MONTHS} months");
            return Err(FieldError::new("value", codes::OUT_OF_RANGE, message).into());
        }
        self.set(ConfigCategory::BusinessRules, STALE_LEADS, &months)
            .await
            .map(|_| ())
    }
}

impl Configurations<'_> {
    /// By which channels marketing needs the person's consent (R-026).
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn contacting_policy(&self) -> Result<ContactingPolicy> {
        Ok(self
            .get(ConfigCategory::BusinessRules, CONTACTING)
            .await?
            .unwrap_or_default())
    }

    /// Sets by which channels marketing needs the person's consent.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn set_contacting_policy(&mut self, policy: ContactingPolicy) -> Result<()> {
        self.set(ConfigCategory::BusinessRules, CONTACTING, &policy)
            .await
            .map(|_| ())
    }
}

impl Configurations<'_> {
    /// The currency in which the tenant reckons: the setting `currency`, which onboarding makes
    /// (R-074); where it is removed or of another form, [`Tenant::currency`].
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn base_currency(&self) -> Result<Currency> {
        base_currency(self.records.workspace.reading(&mut None)).await
    }

    /// Sets the currency in which the tenant reckons. Deals that are closed keep what they were
    /// worth in the one before.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result, value::Currency};
    /// # async fn example(session: &Session) -> Result<()> {
    /// session.configurations().set_base_currency(Currency::EUR).await?;
    /// assert_eq!(session.configurations().base_currency().await?, Currency::EUR);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn set_base_currency(&mut self, currency: Currency) -> Result<()> {
        let setting = CurrencySetting::of(currency);
        self.set(ConfigCategory::BusinessRules, CURRENCY, &setting)
            .await
            .map(|_| ())
    }
}

impl Configurations<'_> {
    /// In which month the fiscal year of the tenant begins, by which quarters and years are cut in
    /// forecasts; January where nothing is set.
    ///
    /// # Errors
    /// [`Error::Validation`] if something else than the number of a month was set.
    pub async fn fiscal_year(&self) -> Result<FiscalYear> {
        match &self.records.workspace {
            Workspace::Unit(work) => fiscal_year(work).await,
            Workspace::Session(session) => fiscal_year(&session.begin()).await,
        }
    }

    /// Sets in which month the fiscal year of the tenant begins. Quotas, adjustments and snapshots
    /// stay with the days that they were made for: those of quarters and years that are cut
    /// otherwise now are not found any more.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result, forecasts::FiscalYear};
    /// # async fn example(session: &Session) -> Result<()> {
    /// session.configurations().set_fiscal_year(FiscalYear::from_month(4)?).await?;
    /// assert_eq!(session.configurations().fiscal_year().await?.first_month(), 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn set_fiscal_year(&mut self, year: FiscalYear) -> Result<()> {
        self.set(ConfigCategory::BusinessRules, FISCAL_YEAR, &year)
            .await
            .map(|_| ())
    }
}

impl Configurations<'_> {
    /// The objects of which every read is told in the audit trail; none where nothing is set.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn sensitive_objects(&self) -> Result<Vec<String>> {
        let named = self
            .get(ConfigCategory::Security, SENSITIVE_OBJECTS)
            .await?;
        Ok(named.unwrap_or_default())
    }

    /// Names the objects of which every read is told in the audit trail: who read which record, when
    /// and from where, and no values.
    ///
    /// What is told is each record that is got, found, or found by a text, in a session or a unit of
    /// work, not counts and sums, nor what the engine looks at by itself. It is told before the
    /// records are handed out, in one commit for all of a call, so each such call costs one more round
    /// trip; a read that cannot be told fails. Other processes of the host tell within five seconds of
    /// this.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// # async fn example(session: &Session) -> Result<()> {
    /// session.configurations().set_sensitive_objects(&["contact", "lead"]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Validation`] for names that are no objects, and for logs and what follows from other
    /// records.
    pub async fn set_sensitive_objects(&mut self, objects: &[&str]) -> Result<()> {
        let registry = self.records.workspace.registry().await?;
        let is_known = |name: &str| {
            let object = registry.object(name);
            object.is_some_and(|object| object.lifecycle() == Lifecycle::Full)
        };
        if let Some(unknown) = objects.iter().find(|name| !is_known(name)) {
            let message = format!("`{unknown}` is no object whose reads are told");
            return Err(FieldError::new("value", codes::NOT_FOUND, message).into());
        }
        self.set(ConfigCategory::Security, SENSITIVE_OBJECTS, &objects)
            .await
            .map(|_| ())
    }
}

/// In which month the fiscal year of the tenant begins.
pub(crate) async fn fiscal_year(work: &UnitOfWork) -> Result<FiscalYear> {
    let wanted = TenantConfiguration::CATEGORY
        .eq(ConfigCategory::BusinessRules)
        .and(TenantConfiguration::KEY.eq(FISCAL_YEAR));
    match work.find_all(wanted, Vec::new()).await?.pop() {
        Some(setting) => match &setting.value {
            ConfigValue::Plain(value) => FiscalYear::deserialize(value)
                .map_err(|_| wrong_form("must be the number of a month, from 1 to 12")),
            ConfigValue::Encrypted(_) => Err(wrong_form("must not be encrypted")),
        },
        None => Ok(FiscalYear::default()),
    }
}

/// The currency in which the tenant reckons.
pub(crate) async fn base_currency(work: &UnitOfWork) -> Result<Currency> {
    let wanted = TenantConfiguration::CATEGORY
        .eq(ConfigCategory::BusinessRules)
        .and(TenantConfiguration::KEY.eq(CURRENCY));
    let setting = work.find_all(wanted, Vec::new()).await?.pop();
    let set = setting.and_then(|setting| match &setting.value {
        ConfigValue::Plain(value) => CurrencySetting::deserialize(value).ok(),
        ConfigValue::Encrypted(_) => None,
    });
    if let Some(set) = set {
        return Ok(set.default);
    }
    let tenant = match work.session().tenant() {
        Some(tenant) => work.lookup::<Tenant>(tenant).await?,
        None => None,
    };
    Ok(tenant.map(|tenant| tenant.currency).unwrap_or_default())
}

fn wrong_form(message: &'static str) -> Error {
    FieldError::new("value", codes::WRONG_TYPE, message).into()
}

impl UnitOfWork {
    /// Creates the settings that a new tenant starts with (R-074).
    pub(super) async fn create_default_settings(&mut self) -> Result<()> {
        let settings = [
            (
                ConfigCategory::UiCustomization,
                "theme",
                serde_json::json!({"primary_color": "#1976d2", "logo_url": null}),
            ),
            (
                ConfigCategory::BusinessRules,
                CURRENCY,
                serde_json::json!(CurrencySetting::of(Currency::USD)),
            ),
            (
                ConfigCategory::Notifications,
                "email_settings",
                serde_json::json!({"enabled": true, "daily_digest": true}),
            ),
        ];
        for (category, key, value) in settings {
            self.create(TenantConfiguration::new(
                category,
                key,
                ConfigValue::Plain(value),
            ))
            .await?;
        }
        Ok(())
    }
}

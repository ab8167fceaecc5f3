//! An embeddable CRM domain engine: accounts, contacts, leads, pipelines, deals and activities as
//! typed values, with validation, pipeline rules and an audit trail, over PostgreSQL, in memory, or
//! over a storage of your own.
//!
//! ```
//! use crm_engine::prelude::*;
//!
//! # fn main() -> Result<()> {
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let crm = Crm::in_memory();
//! let acme = crm.onboard(Onboarding::new("Acme", "acme", "ada@acme.example")).await?;
//! let session = crm.session(acme.tenant, Actor::User(acme.admin));
//!
//! let deal = session.deals().create(Deal::new("Rollout", acme.pipeline)).await?;
//! let won = session.deals().win(deal.id).await?;
//! assert_eq!(won.status, DealStatus::Won);
//!
//! let trail = session.audit().trail(deal.id).await?;
//! assert_eq!(trail.len(), 2);
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! - [`Crm`] is where everything begins; [`Session`] is the way to the records of one tenant,
//!   [`UnitOfWork`] to several changes in one commit; [`query`] finds records and counts them.
//! - Who works with the CRM: [`tenancy`], [`identity`]; whom they deal with: [`accounts`],
//!   [`contacts`], [`territories`], [`privacy`].
//! - Sales: [`campaigns`], [`leads`] and their [`scoring`], [`pipelines`] with
//!   [`automation`] and [`analytics`](pipelines::analytics), [`deals`], [`products`], [`currencies`],
//!   [`forecasts`].
//! - What is done: [`activities`]; on records of any object: [`collaboration`], [`hierarchy`],
//!   [`duplicates`], [`merging`].
//! - Data in and out: [`imports`], [`exports`] and, with the feature `exchange`, what runs them.
//! - [`audit`] has what happened to every record, [`custom_objects`] what tenants define.
//! - [`schema`] tells how to add an object of your own: one struct; [`value`] has the types of fields.
//! - [`storage`] tells how to write a backend, [`engine`] how rules and hooks take part in writing.

use std::ops::Deref;
use std::sync::Arc;

pub use crm_audit as audit;
#[doc(hidden)]
pub use crm_core::__private;
pub use crm_core::*;
pub use crm_custom_objects as custom_objects;
#[cfg(feature = "exchange")]
pub use crm_exchange as exchange;
pub use crm_storage_memory::MemoryStorage;
#[cfg(feature = "postgres")]
pub use crm_storage_postgres as postgres;
#[cfg(feature = "postgres")]
pub use crm_storage_postgres::PostgresStorage;

use crm_core::engine::{
    Clock, CommitHook, EngineBuilder, IdGenerator, ReadHook, TenantSchema, WriteRule,
};
use crm_core::schema::{Entity, ObjectRef};
use crm_core::storage::Storage;

/// What most programs need, in one line: `use crm_engine::prelude::*;`
pub mod prelude {
    pub use crm_audit::webhook::{WebhookExt, WebhookSubscription};
    pub use crm_audit::{AuditEvent, AuditExt, AuditKind, PrivacyExt, StreamsExt};
    pub use crm_core::accounts::{Account, AccountType};
    pub use crm_core::activities::{
        Activity, ActivityLinks, ActivityList, ActivityParticipant, ActivityReminder,
        ActivityStatus, ActivityTemplate, ActivityType, AttendanceStatus, Invitee, ReminderStatus,
        ReminderType, ResponseStatus,
    };
    pub use crm_core::automation::AutomationRule;
    pub use crm_core::campaigns::{Campaign, CampaignMember};
    pub use crm_core::collaboration::{Comment, CommentKind, Follower, Mention};
    pub use crm_core::contacts::{Contact, ContactStatus};
    pub use crm_core::currencies::ExchangeRate;
    pub use crm_core::deals::{
        CloseReason, Deal, DealCompetitor, DealContact, DealLine, DealStageChange, DealState,
        DealStatus, DealType, DiscountKind, Obstacle, Priority, StageApproval,
    };
    pub use crm_core::duplicates::{DuplicateMode, DuplicateRule};
    pub use crm_core::forecasts::{
        ForecastAdjustment, ForecastCategory, ForecastQuery, ForecastSubject, PeriodKind, Quota,
    };
    pub use crm_core::identity::{Team, TeamMember, TeamRole, User};
    pub use crm_core::leads::assignment::LeadAssignmentRule;
    pub use crm_core::leads::{ConversionPlan, Lead, LeadStatus, Qualification};
    pub use crm_core::pipelines::{Pipeline, PipelineStage, StageType};
    pub use crm_core::products::Product;
    pub use crm_core::query::{Aggregate, CalendarUnit, Filter, Find, Page, WhereExt};
    pub use crm_core::schema::{Entity, FieldGroup, Picklist};
    pub use crm_core::scoring::{LeadScoringRule, LeadScoringRuleSet};
    pub use crm_core::tenancy::{ConfigCategory, Onboarding, Tenant};
    pub use crm_core::territories::Territory;
    pub use crm_core::value::{
        Address, Currency, EmailAddress, HttpUrl, Money, Percent, PersonName, PhoneNumber, Score,
        TextValue, TimeZone,
    };
    pub use crm_core::{Actor, EntityRef, Error, Id, Record, Result, Session, UnitOfWork};

    pub use crate::Crm;
}

/// The CRM: an [`Engine`] with the audit recorder, over one storage. Cheap to clone.
///
/// It reads like the engine: [`onboard`](Engine::onboard), [`session`](Engine::session),
/// [`tenant_by_subdomain`](Engine::tenant_by_subdomain).
#[derive(Clone, Debug)]
pub struct Crm {
    engine: Engine,
}

impl Crm {
    /// A CRM that keeps everything in memory: for examples, tests and prototypes.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::builder(MemoryStorage::new()).build()
    }

    /// A CRM over PostgreSQL, in the schema `crm`, whose migrations have run. The pool signs in as a
    /// role to which `crm_app` was given, which owns nothing and is no superuser, and should have
    /// `test_before_acquire(false)`; [`PostgresStorage::builder`] has the other settings, and
    /// [`PostgresStorage::connect`] makes such a pool.
    ///
    /// ```no_run
    /// use crm_engine::postgres::Migrations;
    /// use crm_engine::prelude::*;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let owner = sqlx::PgPool::connect("postgres://owner@localhost/app").await?;
    /// Migrations::new().run(&owner).await?;
    /// let pool = sqlx::postgres::PgPoolOptions::new()
    ///     .test_before_acquire(false)
    ///     .connect("postgres://app@localhost/app")
    ///     .await?;
    /// let crm = Crm::postgres(pool);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn postgres(pool: sqlx::PgPool) -> Self {
        Self::builder(PostgresStorage::new(pool)).build()
    }

    /// Starts a CRM over a storage.
    ///
    /// ```
    /// use crm_engine::engine::ManualClock;
    /// use crm_engine::{Crm, MemoryStorage};
    ///
    /// let clock = std::sync::Arc::new(ManualClock::new("2026-01-31T09:00:00Z".parse().unwrap()));
    /// let crm = Crm::builder(MemoryStorage::new()).clock(clock.clone()).build();
    /// clock.advance(chrono::TimeDelta::days(1));
    /// # let _ = crm;
    /// ```
    pub fn builder(storage: impl Storage) -> CrmBuilder {
        CrmBuilder {
            engine: custom_objects::install(Engine::builder(storage)),
        }
    }

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl Deref for Crm {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

/// Puts a [`Crm`] together.
#[derive(Debug)]
#[must_use]
pub struct CrmBuilder {
    engine: EngineBuilder,
}

impl CrmBuilder {
    /// Takes the time from `clock`.
    pub fn clock<C: Clock>(mut self, clock: Arc<C>) -> Self {
        self.engine = self.engine.clock(clock as Arc<dyn Clock>);
        self
    }

    /// Takes ids from `ids`.
    pub fn ids<I: IdGenerator>(mut self, ids: Arc<I>) -> Self {
        self.engine = self.engine.ids(ids as Arc<dyn IdGenerator>);
        self
    }

    /// Makes an object of the host known before it is first used; see
    /// [`EngineBuilder::object`].
    pub fn object<E: Entity>(mut self) -> Self {
        self.engine = self.engine.object::<E>();
        self
    }

    /// Makes an object without a Rust type known.
    pub fn named_object(mut self, object: &ObjectRef) -> Self {
        self.engine = self.engine.named_object(object);
        self
    }

    /// Lets tenants describe fields and objects of their own.
    pub fn tenant_schema(mut self, schema: impl TenantSchema) -> Self {
        self.engine = self.engine.tenant_schema(schema);
        self
    }

    /// Adds a rule of the host.
    pub fn rule(mut self, rule: impl WriteRule) -> Self {
        self.engine = self.engine.rule(rule);
        self
    }

    /// Adds a hook of the host; the audit recorder runs after it.
    pub fn hook(mut self, hook: impl CommitHook) -> Self {
        self.engine = self.engine.hook(hook);
        self
    }

    /// Adds a hook of the host that is told of reads of sensitive objects, before the audit recorder is.
    pub fn read_hook(mut self, hook: impl ReadHook) -> Self {
        self.engine = self.engine.read_hook(hook);
        self
    }

    /// How often a call is run again after a conflict.
    pub fn retries(mut self, retries: u32) -> Self {
        self.engine = self.engine.retries(retries);
        self
    }

    /// Finishes the CRM.
    #[must_use]
    pub fn build(self) -> Crm {
        Crm {
            engine: audit::install(self.engine).build(),
        }
    }
}

/// The programs of the README compile and run.
#[doc = include_str!("../README.md")]
#[cfg(all(doctest, feature = "postgres"))]
pub struct Readme;

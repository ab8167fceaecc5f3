//! How a new tenant comes in: tenant, first user, default pipeline and settings in one commit.

use crate::Id;
use crate::engine::{Engine, UnitOfWork};
use crate::error::{Faults, Result};
use crate::identity::User;
use crate::pipelines::{Pipeline, PipelineStage, StageType};
use crate::record::Actor;
use crate::schema::{Access, Meta};
use crate::tenancy::{Plan, Tenant};
use crate::value::{EmailAddress, Percent, PersonName, Subdomain, TextValue};

/// What is needed to take a new tenant in (R-074).
///
/// ```
/// use crm_core::tenancy::{Onboarding, Plan};
///
/// let acme = Onboarding::new("Acme", "acme", "ada@acme.example")
///     .admin_name("Ada Lovelace")
///     .plan(Plan::Professional);
/// ```
#[derive(Clone)]
pub struct Onboarding {
    name: String,
    subdomain: String,
    admin_email: String,
    admin_name: Option<String>,
    plan: Plan,
}

impl std::fmt::Debug for Onboarding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Onboarding")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

impl Onboarding {
    /// A tenant on the basic plan, with a first user who has this e-mail address.
    pub fn new(
        name: impl Into<String>,
        subdomain: impl Into<String>,
        admin_email: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            subdomain: subdomain.into(),
            admin_email: admin_email.into(),
            admin_name: None,
            plan: Plan::Basic,
        }
    }

    /// The first user's name, as one text.
    #[must_use]
    pub fn admin_name(mut self, name: impl Into<String>) -> Self {
        self.admin_name = Some(name.into());
        self
    }

    /// What the tenant has subscribed to.
    #[must_use]
    pub const fn plan(mut self, plan: Plan) -> Self {
        self.plan = plan;
        self
    }
}

/// What onboarding made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Onboarded {
    /// The tenant.
    pub tenant: Id<Tenant>,
    /// The first user.
    pub admin: Id<User>,
    /// The default pipeline.
    pub pipeline: Id<Pipeline>,
    /// Its stages, in their order.
    pub stages: Vec<Id<PipelineStage>>,
}

/// The stages of a new tenant's pipeline: name, probability, outcome (R-046).
const DEFAULT_STAGES: [(&str, u8, StageType); 6] = [
    ("Prospecting", 10, StageType::Open),
    ("Qualification", 25, StageType::Open),
    ("Proposal", 50, StageType::Open),
    ("Negotiation", 75, StageType::Open),
    ("Closed Won", 100, StageType::ClosedWon),
    ("Closed Lost", 0, StageType::ClosedLost),
];

impl Engine {
    /// Takes a new tenant in: the tenant, its first user, a default pipeline with six stages and
    /// three settings, all in one commit (R-046, R-074).
    ///
    /// # Errors
    /// [`Error::Validation`](crate::Error::Validation) with every faulty field;
    /// [`Error::Duplicate`](crate::Error::Duplicate) if the subdomain is taken.
    pub async fn onboard(&self, onboarding: Onboarding) -> Result<Onboarded> {
        let id = self.ids().next(self.clock().now());
        let mut work = self.session(Id::new(id), Actor::System).begin();

        let mut faults = Faults::default();
        let subdomain = Subdomain::parse(&onboarding.subdomain)
            .map_err(|error| faults.add("subdomain", error.code(), error.message().to_owned()));
        let email = EmailAddress::parse(&onboarding.admin_email)
            .map_err(|error| faults.add("admin_email", error.code(), error.message().to_owned()));
        if onboarding.name.trim().is_empty() {
            faults.add("name", crate::error::codes::BLANK, "must not be blank");
        }
        faults.into_result()?;
        let (Ok(subdomain), Ok(email)) = (subdomain, email) else {
            unreachable_faults()?
        };

        let tenant = Tenant {
            subscription_plan: onboarding.plan,
            ..Tenant::new(onboarding.name, subdomain)
        };
        let meta = Meta::first(id, work.stamp());
        work.write(Access::Engine, None, meta, tenant).await?;

        let name = onboarding
            .admin_name
            .as_deref()
            .map(PersonName::split)
            .unwrap_or_default();
        let admin = work
            .create(User {
                name,
                ..User::new(email)
            })
            .await?;
        let (pipeline, stages) = create_default_pipeline(&mut work).await?;
        work.create_default_settings().await?;
        work.commit().await?;
        tracing::info!(tenant = %id, "onboarded");
        Ok(Onboarded {
            tenant: Id::new(id),
            admin: admin.id,
            pipeline,
            stages,
        })
    }
}

/// Faults were told above; this is only for the compiler.
fn unreachable_faults<T>() -> Result<T> {
    Err(crate::error::FieldError::new(
        "onboarding",
        crate::error::codes::WRONG_TYPE,
        "is not valid",
    )
    .into())
}

async fn create_default_pipeline(
    work: &mut UnitOfWork,
) -> Result<(Id<Pipeline>, Vec<Id<PipelineStage>>)> {
    let pipeline = work
        .create(Pipeline {
            description: Some("Default sales pipeline".into()),
            is_default: true,
            ..Pipeline::new("Sales Pipeline")
        })
        .await?;
    let mut stages = Vec::with_capacity(DEFAULT_STAGES.len());
    for (order, (name, probability, stage_type)) in (1_u32..).zip(DEFAULT_STAGES) {
        let stage = work
            .create(PipelineStage {
                default_probability: Percent::from_whole(probability).unwrap_or_default(),
                stage_type,
                ..PipelineStage::new(pipeline.id, name, order)
            })
            .await?;
        stages.push(stage.id);
    }
    Ok((pipeline.id, stages))
}

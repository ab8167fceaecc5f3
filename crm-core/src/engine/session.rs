//! [`Session`]: one actor in one tenant.

use std::sync::Arc;

use super::{Engine, NamedRecords, Records, RequestContext, UnitOfWork, Workspace};
use crate::Id;
use crate::accounts::Account;
use crate::activities::{
    Activity, ActivityParticipant, ActivityReminder, ActivitySeries, ActivityTemplate,
};
use crate::automation::{Automation, AutomationRule};
use crate::campaigns::{Campaign, CampaignMember};
use crate::collaboration::{Comment, Follower, Mention};
use crate::contacts::Contact;
use crate::currencies::ExchangeRate;
use crate::deals::{CloseReason, Deal, StageApproval};
use crate::duplicates::{DuplicateRule, Duplicates};
use crate::error::{Error, Result};
use crate::exports::ExportJob;
use crate::forecasts::{DealForecast, ForecastAdjustment, Forecasts, Quota};
use crate::identity::{Team, User};
use crate::leads::Lead;
use crate::leads::assignment::LeadAssignmentRule;
use crate::merging::Merge;
use crate::pipelines::Pipeline;
use crate::privacy::{Consent, LegalHold, ProcessingActivity, Retention, RetentionPolicy};
use crate::products::Product;
use crate::query::{Condition, Find, Page, page_of};
use crate::record::Actor;
use crate::schema::{Entity, ObjectRef, Row};
use crate::scoring::{LeadScoringRule, LeadScoringRuleSet};
use crate::storage::{FeedQuery, Scope, Snapshot};
use crate::tenancy::{Configurations, Tenant};
use crate::territories::Territory;

/// One actor in one tenant: the way to everything that belongs to the tenant.
///
/// Nothing below a session can name another tenant; the id of another tenant's record looks like
/// one that never existed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Session {
    engine: Engine,
    scope: Scope,
    actor: Actor,
    context: Option<Arc<RequestContext>>,
}

impl Session {
    pub(super) const fn new(engine: Engine, scope: Scope, actor: Actor) -> Self {
        Self {
            engine,
            scope,
            actor,
            context: None,
        }
    }

    /// The same session with what the audit trail shall know of the request.
    #[must_use]
    pub fn with_context(mut self, context: RequestContext) -> Self {
        self.context = Some(Arc::new(context));
        self
    }

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The scope in which storage is asked.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The tenant; `None` for the platform's own session, which hosts never hold.
    #[must_use]
    pub const fn tenant(&self) -> Option<Id<Tenant>> {
        self.scope.tenant()
    }

    /// Who acts.
    #[must_use]
    pub const fn actor(&self) -> Actor {
        self.actor
    }

    /// What is known of the request.
    #[must_use]
    pub fn context(&self) -> Option<&RequestContext> {
        self.context.as_deref()
    }

    /// Begins a unit of work: several operations, one commit.
    pub fn begin(&self) -> UnitOfWork {
        UnitOfWork::new(self.clone())
    }

    /// The records of any object with a Rust type, also of the host's own.
    pub fn records<E: Entity>(&self) -> Records<'_, E> {
        Records::new(Workspace::Session(self))
    }

    /// The records of an object by its name, with rows and JSON instead of Rust types.
    ///
    /// # Errors
    /// [`QueryError::UnknownObject`](crate::query::QueryError::UnknownObject).
    pub async fn object(&self, name: &str) -> Result<NamedRecords<'_>> {
        Ok(NamedRecords::new(
            Workspace::Session(self),
            self.describe(name).await?,
        ))
    }

    /// The records of an object by its description, also if it is out of use: for what takes a whole
    /// tenant along.
    #[doc(hidden)]
    pub const fn rows_of(&self, object: ObjectRef) -> NamedRecords<'_> {
        NamedRecords::new(Workspace::Session(self), object)
    }

    /// One page of the rows of several objects with the same fields, such as a log and its archive,
    /// in one order: cursors count for all of them. With a snapshot, only entries that were there then.
    ///
    /// # Errors
    /// [`Error::Query`].
    #[doc(hidden)]
    pub async fn find_across(
        &self,
        objects: &[&ObjectRef],
        find: &Find<()>,
        snapshot: Option<&Snapshot>,
    ) -> Result<Page<Row>> {
        let Some(first) = objects.first() else {
            return Ok(Page {
                items: Vec::new(),
                next: None,
                previous: None,
            });
        };
        let bound = find.bind(first, &*self.registry().await?)?;
        let mut rows = Vec::new();
        for object in objects {
            let mut query = bound.query.clone();
            query.object = ObjectRef::clone(object);
            query.snapshot = snapshot.cloned();
            rows.extend(self.select(&query).await?);
        }
        rows.sort_by(|a, b| bound.query.order(&**a, &**b));
        // What was moved from one to another in between is in both answers.
        rows.dedup_by_key(|row| row.id());
        rows.truncate(bound.query.limit);
        Ok(page_of(&bound, rows))
    }

    /// What of the tenant's logs is there now, told by the one that is given.
    ///
    /// # Errors
    /// [`Error::Query`] for an object that has no feed.
    #[doc(hidden)]
    pub async fn snapshot(&self, log: &ObjectRef) -> Result<Snapshot> {
        // No entry fulfils this.
        let query = FeedQuery::new(log, None, 1).filter(Condition::Or(Vec::new()));
        let page = self.engine().storage().feed(self.scope(), &query).await?;
        Ok(page.snapshot)
    }

    /// The description of an object, for hosts that draw forms and lists.
    ///
    /// # Errors
    /// [`QueryError::UnknownObject`](crate::query::QueryError::UnknownObject).
    pub async fn describe(&self, object: &str) -> Result<ObjectRef> {
        self.registry()
            .await?
            .object(object)
            .ok_or_else(|| Error::Query(crate::query::QueryError::UnknownObject(object.to_owned())))
    }
}

macro_rules! entry_points {
    ($($(#[$doc:meta])* $name:ident -> $entity:ty;)*) => {
        impl Session {
            $($(#[$doc])* pub fn $name(&self) -> Records<'_, $entity> {
                self.records()
            })*
        }

        impl UnitOfWork {
            $($(#[$doc])* pub fn $name(&mut self) -> Records<'_, $entity> {
                self.records()
            })*
        }
    };
}

entry_points! {
    /// The accounts: companies and other organisations.
    accounts -> Account;
    /// The sales territories, and which account is in which.
    territories -> Territory;
    /// The contacts: people the tenant does business with.
    contacts -> Contact;
    /// The leads: people and companies not yet qualified.
    leads -> Lead;
    /// The rules by which leads are given to users.
    lead_assignment_rules -> LeadAssignmentRule;
    /// The campaigns, and what they brought.
    campaigns -> Campaign;
    /// Who is addressed by campaigns.
    campaign_members -> CampaignMember;
    /// The rule sets by which leads are scored.
    scoring_rule_sets -> LeadScoringRuleSet;
    /// The rules of the rule sets.
    scoring_rules -> LeadScoringRule;
    /// What contacts and leads allowed.
    consents -> Consent;
    /// For how long records are kept.
    retention_policies -> RetentionPolicy;
    /// The records that no retention policy touches.
    legal_holds -> LegalHold;
    /// The register of what personal data is processed for.
    processing_activities -> ProcessingActivity;
    /// The pipelines and, through them, their stages.
    pipelines -> Pipeline;
    /// The deals.
    deals -> Deal;
    /// The catalogue of products.
    products -> Product;
    /// The exchange rates between currencies, and conversions.
    exchange_rates -> ExchangeRate;
    /// What owners and managers made of forecasts.
    forecast_adjustments -> ForecastAdjustment;
    /// What users, teams and territories shall sell.
    quotas -> Quota;
    /// What was forecast of deals on past days.
    deal_forecasts -> DealForecast;
    /// The approvals that deals may enter a stage.
    stage_approvals -> StageApproval;
    /// The reasons why deals are won and lost.
    close_reasons -> CloseReason;
    /// The rules that act by themselves when deals change.
    automation_rules -> AutomationRule;
    /// The activities: calls, meetings, tasks.
    activities -> Activity;
    /// The comments and notes on records.
    comments -> Comment;
    /// Who is mentioned in comments.
    mentions -> Mention;
    /// Who follows records.
    followers -> Follower;
    /// The series of activities and, through them, their occurrences.
    activity_series -> ActivitySeries;
    /// The people who take part in activities.
    participants -> ActivityParticipant;
    /// The templates that activities are made from.
    activity_templates -> ActivityTemplate;
    /// The reminders of activities, and the claims of the workers that send them.
    reminders -> ActivityReminder;
    /// The exports: who took which data out.
    exports -> ExportJob;
    /// The users of the tenant.
    users -> User;
    /// The teams and their members.
    teams -> Team;
    /// The merges of records, which can be undone.
    merges -> Merge;
    /// The rules by which duplicates are found.
    duplicate_rules -> DuplicateRule;
}

impl Session {
    /// Checks, scans and keys of duplicates.
    pub const fn duplicates(&self) -> Duplicates<'_> {
        Duplicates::new(self)
    }

    /// The runs of retention policies, and what they would do.
    pub const fn retention(&self) -> Retention<'_> {
        Retention::new(self)
    }

    /// Counts and trials of automation rules, and the run of those that are based on time.
    pub const fn automation(&self) -> Automation<'_> {
        Automation::new(self)
    }

    /// The settings of the tenant.
    pub fn configurations(&self) -> Configurations<'_> {
        Configurations::new(Workspace::Session(self))
    }

    /// Forecasts of sales, with adjustments, quotas and snapshots.
    pub const fn forecasts(&self) -> Forecasts<'_> {
        Forecasts::new(Workspace::Session(self))
    }
}

impl UnitOfWork {
    /// The settings of the tenant.
    pub fn configurations(&mut self) -> Configurations<'_> {
        Configurations::new(Workspace::Unit(self))
    }

    /// Forecasts of sales, with what is staged here.
    pub const fn forecasts(&mut self) -> Forecasts<'_> {
        Forecasts::new(Workspace::Unit(self))
    }
}

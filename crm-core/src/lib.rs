//! The domain of the CRM engine: accounts, contacts, leads, pipelines, deals, activities, users and
//! tenants as typed values, with their rules, behind a storage port.
//!
//! Most hosts depend on the facade `crm-engine`, which joins this crate with a storage backend and
//! the audit recorder. Depend on `crm-core` alone to write a backend or an extension.
//!
//! - [`schema`]: the one description of every object, and `#[derive(Entity)]`;
//! - [`value`]: e-mail addresses, money, percentages and other values that are checked when parsed;
//! - [`query`]: filters, pages and aggregates;
//! - [`storage`]: what a backend must do;
//! - [`engine`]: sessions and units of work;
//! - the domain: [`tenancy`], [`identity`], [`accounts`], [`contacts`], [`campaigns`], [`leads`] and
//!   their [`scoring`], [`pipelines`] and their [`automation`], [`products`], [`currencies`], [`deals`],
//!   [`forecasts`], [`activities`], [`territories`];
//! - what works on records of any object: [`hierarchy`] for all that forms trees, [`collaboration`]
//!   with comments, followers and tags, [`duplicates`] that are found and [`merging`] that makes one
//!   record of several, and several again;
//! - [`privacy`]: what a person allowed, and whether the person may be approached;
//! - [`expression`]: the language of formulas, rules between fields, gates and conditions;
//! - [`imports`] and [`exports`]: who brought which data in, and took which out.

// The derive writes paths that begin with `::crm_core`, also inside this crate.
extern crate self as crm_core;

pub mod accounts;
pub mod activities;
pub mod automation;
pub mod campaigns;
pub mod collaboration;
pub mod contacts;
pub mod currencies;
pub mod deals;
pub mod duplicates;
pub mod engine;
pub mod error;
pub mod exports;
pub mod expression;
pub mod forecasts;
pub mod hierarchy;
mod id;
pub mod identity;
pub mod imports;
pub mod leads;
pub mod merging;
pub mod pipelines;
pub mod privacy;
pub mod products;
pub mod query;
mod record;
pub mod schema;
pub mod scoring;
pub mod storage;
pub mod tenancy;
pub mod territories;
pub mod value;

pub use engine::{Engine, Session, UnitOfWork};
pub use error::{Error, Result};
pub use id::{EntityRef, Id};
pub use record::{Actor, Record, Stamp};

/// What the derives write calls to; not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use {chrono, serde, uuid};

    pub use crate::schema::{deserialize_entity, serialize_entity};
}

/// The objects of the domain, one line each.
#[must_use]
#[rustfmt::skip]
pub fn objects() -> Vec<schema::ObjectRef> {
    use schema::Entity;
    [
        tenancy::Tenant::schema(),
        tenancy::TenantConfiguration::schema(),
        identity::User::schema(),
        identity::Team::schema(),
        identity::TeamMember::schema(),
        territories::Territory::schema(),
        accounts::Account::schema(),
        contacts::Contact::schema(),
        contacts::ContactRelationship::schema(),
        contacts::ContactAffiliation::schema(),
        campaigns::Campaign::schema(),
        pipelines::Pipeline::schema(),
        pipelines::PipelineStage::schema(),
        currencies::ExchangeRate::schema(),
        products::Product::schema(),
        products::ProductPrice::schema(),
        deals::Deal::schema(),
        deals::DealStageChange::schema(),
        deals::DealLine::schema(),
        pipelines::analytics::PipelineMetric::schema(),
        deals::DealState::schema(),
        forecasts::DealForecast::schema(),
        forecasts::ForecastAdjustment::schema(),
        forecasts::Quota::schema(),
        deals::StageApproval::schema(),
        deals::DealContact::schema(),
        deals::DealCompetitor::schema(),
        deals::CloseReason::schema(),
        automation::AutomationRule::schema(),
        automation::AutomationExecution::schema(),
        leads::Lead::schema(),
        leads::LeadConversion::schema(),
        leads::LeadConversionMapping::schema(),
        leads::assignment::LeadAssignmentRule::schema(),
        leads::assignment::LeadAssignee::schema(),
        leads::assignment::LeadAssignmentState::schema(),
        campaigns::CampaignMember::schema(),
        scoring::LeadScoringRuleSet::schema(),
        scoring::LeadScoringRule::schema(),
        scoring::LeadScoreChange::schema(),
        privacy::Consent::schema(),
        privacy::DeletionLog::schema(),
        storage::DroppedEntries::schema(),
        privacy::RetentionPolicy::schema(),
        privacy::LegalHold::schema(),
        privacy::ProcessingActivity::schema(),
        activities::ActivitySeries::schema(),
        activities::Activity::schema(),
        collaboration::Comment::schema(),
        collaboration::Mention::schema(),
        collaboration::Follower::schema(),
        merging::Merge::schema(),
        merging::MergeLink::schema(),
        activities::ActivityParticipant::schema(),
        activities::ActivityTemplate::schema(),
        activities::ActivityReminder::schema(),
        activities::ActivityRollUp::schema(),
        exports::ExportJob::schema(),
        imports::ImportMapping::schema(),
        imports::ImportJob::schema(),
        imports::ImportRow::schema(),
        duplicates::DuplicateRule::schema(),
        duplicates::DuplicateKey::schema(),
    ]
    .map(Clone::clone)
    .to_vec()
}

/// The rules of the domain that need other records.
fn write_rules() -> Vec<std::sync::Arc<dyn engine::WriteRule>> {
    vec![
        std::sync::Arc::new(tenancy::TenantRules),
        std::sync::Arc::new(accounts::AccountRules),
        std::sync::Arc::new(territories::TerritoryRules),
        std::sync::Arc::new(territories::AssignmentRule),
        std::sync::Arc::new(identity::UserRules),
        std::sync::Arc::new(identity::TeamRules),
        std::sync::Arc::new(contacts::ContactRules),
        std::sync::Arc::new(contacts::RelationshipRules),
        std::sync::Arc::new(leads::assignment::AssignmentRuleRules),
        std::sync::Arc::new(leads::assignment::LeadAssigner),
        std::sync::Arc::new(leads::LeadRules),
        std::sync::Arc::new(leads::ConvertedLeadRule),
        std::sync::Arc::new(leads::MappingRules),
        std::sync::Arc::new(campaigns::CampaignRules),
        std::sync::Arc::new(campaigns::MemberRules),
        std::sync::Arc::new(scoring::RuleSetRules),
        std::sync::Arc::new(scoring::ScoringRuleRules),
        std::sync::Arc::new(privacy::ConsentRules),
        std::sync::Arc::new(privacy::PolicyRules),
        std::sync::Arc::new(privacy::HoldRules),
        std::sync::Arc::new(pipelines::PipelineRules),
        std::sync::Arc::new(pipelines::StageRules),
        std::sync::Arc::new(forecasts::StageCategoryRule),
        std::sync::Arc::new(deals::DealRules),
        std::sync::Arc::new(deals::AmountRule),
        std::sync::Arc::new(deals::ClosingRateRule),
        std::sync::Arc::new(deals::LineRules),
        std::sync::Arc::new(forecasts::DealCategoryRule),
        std::sync::Arc::new(forecasts::AdjustmentRules),
        std::sync::Arc::new(forecasts::QuotaRules),
        std::sync::Arc::new(deals::ApprovalRules),
        std::sync::Arc::new(deals::CloseReasonRule),
        std::sync::Arc::new(deals::CompetitorRules),
        std::sync::Arc::new(deals::StageGates),
        std::sync::Arc::new(automation::AutomationRules),
        std::sync::Arc::new(activities::SeriesRules),
        std::sync::Arc::new(activities::ActivityRules),
        std::sync::Arc::new(collaboration::CommentRules),
        std::sync::Arc::new(activities::OccurrenceRules),
        std::sync::Arc::new(activities::ParticipantRules),
        std::sync::Arc::new(activities::TemplateRules),
        std::sync::Arc::new(activities::ReminderRules),
        std::sync::Arc::new(imports::ImportJobRules),
        std::sync::Arc::new(exports::ExportRules),
        std::sync::Arc::new(duplicates::DuplicateRuleRules),
    ]
}

/// What the domain adds to commits, before the hooks of the host and the audit recorder.
///
/// Each hook sees what the ones before it staged, so the order is that of what follows from what:
/// 1. a contact's account and its primary affiliation come in step, which may change contacts, a
///    lead's campaign and its memberships, a deal with its people and competitors, and the amounts of
///    deals with their lines, which nothing that follows may write;
/// 2. automation rules run for the deals that change, which may change deals, whose people and
///    competitors then come in step again by what the rules changed, and create activities;
/// 3. figures over deals on contacts and accounts follow the deals as they are then, and so do the
///    states of deals;
/// 4. reminders follow their activities, and linked records learn of these, though nothing that
///    states of deals tell;
/// 5. leads are scored as they are by then: the last hook that changes records of users;
/// 6. the keys of duplicates are made of the records as they are written, and strict rules judge
///    these;
/// 7. what tells of records that are removed for good goes too, whoever removed them.
fn commit_hooks() -> Vec<std::sync::Arc<dyn engine::CommitHook>> {
    vec![
        std::sync::Arc::new(contacts::AffiliationStep),
        std::sync::Arc::new(campaigns::CampaignStep),
        std::sync::Arc::new(deals::DealStep),
        std::sync::Arc::new(deals::LineHook),
        std::sync::Arc::new(automation::AutomationHook),
        std::sync::Arc::new(deals::DealStep),
        std::sync::Arc::new(deals::DealStatisticsHook),
        std::sync::Arc::new(deals::DealStateHook),
        std::sync::Arc::new(activities::ActivityHook),
        std::sync::Arc::new(scoring::ScoringHook),
        std::sync::Arc::new(duplicates::DuplicateHook),
        std::sync::Arc::new(merging::MergeHistory),
        std::sync::Arc::new(leads::assignment::AssignmentStates),
    ]
}

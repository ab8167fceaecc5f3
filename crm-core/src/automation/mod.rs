//! Rules that act by themselves when deals change (C-022, R-047).
//!
//! An [`AutomationRule`] belongs to a pipeline, to a stage of it or to all pipelines. It says what it
//! waits for, which deals it is about, as [`Criteria`] over the deal as it then is, and what it does
//! ([`Action`]).
//!
//! ```text
//!  deal.stage_id = Some(proposal)               a service call, a merge patch, an import, ..
//!        │
//!        ▼
//!  the rules of deals        gates of stages, status, close date, history
//!        │
//!        ▼
//!  automation, in the same commit
//!     the change: stage, next_step              rules that wait for it and whose conditions hold,
//!        │                                      in their execution order, each with the deal as the
//!        │                                      ones before left it
//!        ├── rule 1: create a task
//!        ├── rule 2: priority = high ──► a change of its own, which other rules may wait for
//!        │                                  └── rule 3: tag "urgent" ──► ..
//!        ▼
//!  one row of AutomationExecution for each rule that ran; then the commit is written, or none of it
//! ```
//!
//! - **What a rule waits for** is told by its [`RuleType`] and [`TriggerEvent`], of which
//!   [`RuleType::allows`] says which go together. A new deal enters its first stage, so that rules on
//!   stage entry run for it too; no deal that is deleted or restored is an event.
//! - **Loops**: within one commit a rule runs at most once for each deal, whatever changes follow from
//!   it, so two rules that undo each other's work come to an end. A chain of rules, each of which is
//!   set off by what the one before did, ends after [`MOST_STEPS`] steps; a rule that would be the
//!   next is not run, and that is written down as [`ExecutionOutcome::Stopped`].
//! - **Actions go through all rules**, stage gates included. Where one is refused, everything that the
//!   rule did is taken back, [`ExecutionOutcome::Failed`] is written down with the reason, and the
//!   change that set it off is written all the same, unless the rule says
//!   [`OnFailure::Refuse`].
//! - **Counts**: an execution is one row of a log, written in the commit that it belongs to, so it is
//!   counted exactly once, and writers do not wait for each other at a counter. How often a rule ran
//!   and when it last did is told by [`Automation::counts`].
//! - **Time**: rules of the type [`RuleType::TimeBased`] run when a worker of the host calls
//!   [`Automation::run_time_based`], once for each deal and occasion, however many workers there are.
//! - **What does not set rules off**: what is worked out from other records after automation ran, as
//!   `last_activity_at` and `next_activity_at` of a deal are, and rows that were written past the
//!   engine, as a tenant that moves in whole is. Imports of deals do set them off.
//!
//! Users are notified by a comment that mentions them ([`Action::AddComment`]).
//!
//! ```
//! # use crm_core::{Id, Session, error::Result, pipelines::PipelineStage};
//! use crm_core::activities::ActivityType;
//! use crm_core::automation::{Action, Actions, AutomationRule, NewActivity, RuleType, TriggerEvent};
//! use crm_core::deals::Deal;
//! # async fn example(session: &Session, proposal: Id<PipelineStage>) -> Result<()> {
//! let rule = AutomationRule {
//!     stage_id: Some(proposal),
//!     ..AutomationRule::new(
//!         "Call about large proposals",
//!         RuleType::StageEntry,
//!         TriggerEvent::StageChanged,
//!         Deal::AMOUNT.ge(50_000),
//!         Actions(vec![Action::CreateActivity(NewActivity::new(ActivityType::Call, "Call"))]),
//!     )
//! };
//! let rule = session.automation_rules().create(rule).await?;
//! // From now on whoever moves a large deal there finds the call in the same commit.
//! let counts = session.automation().counts(&[rule.id]).await?;
//! assert_eq!(counts[&rule.id].executed, 0);
//! # Ok(())
//! # }
//! ```

mod action;
mod compile;
mod perform;
mod rules;
mod run;
mod service;
mod timed;

pub use action::{Action, Actions, Assignee, NewActivity};
pub(crate) use rules::AutomationRules;
pub(crate) use run::AutomationHook;
pub use run::MOST_STEPS;
pub use service::{Automation, ExecutionCounts, Trial, TrialChange};
pub use timed::TimedRun;

use uuid::Uuid;

use crate::Id;
use crate::deals::Deal;
use crate::pipelines::{Pipeline, PipelineStage};
use crate::query::Criteria;
use crate::record::Record;
use crate::schema::{Entity, Picklist};

/// What is done by itself when deals change (C-022). How often it ran, and when it last did, is not
/// kept here, where all who write would meet, but told by [`Automation::counts`].
///
/// ```
/// use crm_core::Id;
/// use crm_core::automation::{
///     Action, Actions, Assignee, AutomationRule, NewActivity, RuleType, TriggerEvent,
/// };
/// use crm_core::activities::ActivityType;
/// use crm_core::deals::Deal;
/// use crm_core::pipelines::PipelineStage;
///
/// fn call_large_ones(proposal: Id<PipelineStage>) -> AutomationRule {
///     let call = NewActivity { due_in_days: Some(2), ..NewActivity::new(ActivityType::Call, "Call") };
///     AutomationRule {
///         stage_id: Some(proposal),
///         execution_order: 10,
///         ..AutomationRule::new(
///             "Call about large proposals",
///             RuleType::StageEntry,
///             TriggerEvent::StageChanged,
///             Deal::AMOUNT.ge(50_000),
///             Actions(vec![
///                 Action::CreateActivity(call),
///                 Action::AddTags { tags: vec!["large".into()] },
///             ]),
///         )
///     }
/// }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "pipeline_automation_rule",
    table = "pipeline_automation_rules",
    unique(rule_name; live),
    check = rules::check_rule
)]
pub struct AutomationRule {
    /// Name (R-310).
    #[field(required, max_len = 100, searchable)]
    pub rule_name: String,
    /// What it waits for (R-161).
    #[field(required)]
    pub rule_type: RuleType,
    /// What sets it off (R-160).
    #[field(required)]
    pub trigger_event: TriggerEvent,
    /// Which deals it is about, as they are when it runs; [`Filter::all`](crate::query::Filter::all)
    /// for any (R-383).
    #[field(required)]
    pub conditions: Criteria,
    /// What else must be true of a deal, in the language of [expressions](crate::expression):
    /// `account_id.industry = "energy" and expected_close_date < add_months(today(), 3)`. A deal for
    /// which it has no answer, as a field is empty, is none that the rule is about.
    #[field(multiline, max_len = 4000, condition_of = "deal")]
    pub condition_expression: Option<String>,
    /// What it does, in this order (R-383).
    #[field(required)]
    pub actions: Actions,
    /// Notes.
    #[field(multiline)]
    pub description: Option<String>,
    /// The pipeline whose deals it is about, or all (R-501). That of the stage, if only that is named.
    #[field(references = "pipeline", on_delete = "cascade")]
    pub pipeline_id: Option<Id<Pipeline>>,
    /// The stage whose deals it is about, or all (R-502): the one that is entered, the one that is
    /// left where the rule waits for that, else the one in which the deal is.
    #[field(references = "pipeline_stage", on_delete = "cascade")]
    pub stage_id: Option<Id<PipelineStage>>,
    /// What the deal was like before the change, where there was one before: with
    /// `amount >= 1000` in `conditions` and `amount < 1000` here, a rule waits for the amount to pass
    /// a thousand.
    pub conditions_before: Option<Criteria>,
    /// The fields of which one must change, `custom_fields.segment` included: for changes of fields.
    /// Any that users write, if none is named.
    pub watched_fields: Vec<String>,
    /// From when on the days are counted: for what is based on time.
    pub time_basis: Option<TimeBasis>,
    /// How many days: for what is based on time.
    #[field(max = 3660)]
    pub after_days: Option<u32>,
    /// What becomes of the change when an action is refused.
    pub on_failure: OnFailure,
    /// Its place among the rules of one event, the least first, then by name (R-159).
    #[field(min = 0)]
    pub execution_order: u32,
    /// Whether it is in use (R-463).
    #[field(default = true)]
    pub is_active: bool,
}

/// What a rule waits for (R-161).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum RuleType {
    /// A deal enters a stage.
    StageEntry,
    /// A deal leaves a stage.
    StageExit,
    /// Fields of a deal change.
    FieldChange,
    /// Time passes.
    TimeBased,
    /// The probability that counts changes.
    ProbabilityChange,
}

/// What sets a rule off (R-047, R-160).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum TriggerEvent {
    /// A deal is created.
    DealCreated,
    /// A deal enters another stage, a new one its first.
    StageChanged,
    /// A field changes.
    FieldUpdated,
    /// Time has passed.
    TimeElapsed,
    /// The probability that counts changes.
    ProbabilityChanged,
}

impl RuleType {
    /// Whether a rule that waits for this can be set off by `event`. The one table that says so:
    ///
    /// | waits for | set off by |
    /// |---|---|
    /// | stage entry | stage changed (new deals too), deal created (only new deals) |
    /// | stage exit | stage changed |
    /// | field change | field updated |
    /// | time based | time elapsed |
    /// | probability change | probability changed |
    ///
    /// ```
    /// use crm_core::automation::{RuleType, TriggerEvent};
    ///
    /// assert!(RuleType::StageEntry.allows(TriggerEvent::DealCreated));
    /// assert!(!RuleType::StageExit.allows(TriggerEvent::DealCreated));
    /// ```
    #[must_use]
    pub const fn allows(self, event: TriggerEvent) -> bool {
        matches!(
            (self, event),
            (
                Self::StageEntry,
                TriggerEvent::StageChanged | TriggerEvent::DealCreated
            ) | (Self::StageExit, TriggerEvent::StageChanged)
                | (Self::FieldChange, TriggerEvent::FieldUpdated)
                | (Self::TimeBased, TriggerEvent::TimeElapsed)
                | (Self::ProbabilityChange, TriggerEvent::ProbabilityChanged)
        )
    }
}

/// From when on the days of a rule are counted. Rules that name no stage look at open deals only,
/// [`AfterClose`](Self::AfterClose) at closed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum TimeBasis {
    /// Since the deal entered its stage; once for each time that it does.
    InStage,
    /// Since something was last done with the deal, or since it was created if nothing ever was; once
    /// until something is done again.
    WithoutActivity,
    /// Until the day on which it will probably be decided, that day included; once for each such day.
    BeforeClose,
    /// Since the day on which it was decided; once for each such day.
    AfterClose,
    /// Since it was created; once.
    AfterCreation,
}

/// What becomes of the change that set a rule off when an action of the rule is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum OnFailure {
    /// It is written; what the rule did is taken back and the failure is written down.
    #[default]
    Skip,
    /// It is refused too, for the same reason.
    Refuse,
}

/// That a rule ran for a deal: an entry of a log, written in the same commit. When and by whose change
/// is told by the record's `created`.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "automation_execution",
    table = "automation_executions",
    log,
    unique(rule_id, deal_id, occasion)
)]
pub struct AutomationExecution {
    /// The rule.
    #[field(
        required,
        references = "pipeline_automation_rule",
        on_delete = "cascade"
    )]
    pub rule_id: Id<AutomationRule>,
    /// The deal.
    #[field(required, references = "deal", on_delete = "cascade")]
    pub deal_id: Id<Deal>,
    /// What set it off.
    #[field(required)]
    pub event: TriggerEvent,
    /// What came of it.
    #[field(required)]
    pub outcome: ExecutionOutcome,
    /// The commit, which is one chain of events.
    #[field(required)]
    pub commit_id: Uuid,
    /// How many rules were set off one by the other before this one; 0 for one that the change itself
    /// set off.
    #[field(min = 0)]
    pub step: u32,
    /// How many actions were done.
    #[field(min = 0)]
    pub actions_done: u32,
    /// Which action failed, from 0.
    #[field(min = 0)]
    pub failed_action: Option<u32>,
    /// The code of the failure, such as `validation`.
    #[field(max_len = 100)]
    pub error_code: Option<String>,
    /// What the failure says; it repeats no values.
    #[field(multiline)]
    pub error: Option<String>,
    /// Which occasion it was, of a rule that is based on time: there is one execution for each.
    #[field(max_len = 60)]
    pub occasion: Option<String>,
}

/// What came of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum ExecutionOutcome {
    /// All actions were done.
    Executed,
    /// An action was refused, and all were taken back.
    Failed,
    /// It was not run, as too many rules had set each other off.
    Stopped,
}

impl Record<AutomationRule> {
    /// Whether the rule is applied: active, neither archived nor deleted.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.is_active && self.archived_at.is_none() && self.deleted_at.is_none()
    }
}

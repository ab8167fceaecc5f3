//! Deals, and how they move through the stages of a pipeline.
//!
//! Whichever way a deal is written (a service call, a merge patch, an import), one rule keeps it
//! right: its stage belongs to its pipeline (R-039), its status is the outcome of the stage (R-082),
//! it has a close date exactly when it is closed (R-038), and each change of stage leaves an entry
//! in its history (R-042). What a deal was at any past moment is told by its [`states`].
//!
//! A deal may have [lines](DealLine), which its amount then follows (R-040). When it closes, the
//! exchange rate of that day is kept with it, so that what it was worth in the tenant's base
//! currency does not change with later rates; see [`Deal::locked_rate`].
//!
//! ```
//! # use crm_core::{Id, Session, contacts::Contact, error::Result, products::Product};
//! use crm_core::contacts::BuyingRole;
//! use crm_core::deals::{Deal, DealLine};
//! use crm_core::pipelines::{Pipeline, PipelineStage};
//! # async fn example(
//! #     session: &Session,
//! #     pipeline: Id<Pipeline>,
//! #     next: Id<PipelineStage>,
//! #     licence: Id<Product>,
//! #     ada: Id<Contact>,
//! # ) -> Result<()> {
//! let deal = session.deals().create(Deal::new("Rollout", pipeline)).await?.id;
//! session.deals().add_line(DealLine::of_product(deal, licence)).await?;
//! session.deals().add_contact(deal, ada, Some(BuyingRole::DecisionMaker)).await?;
//! if let Err(refused) = session.deals().move_to(deal, next).await {
//!     for reason in refused.field_errors() {
//!         println!("{}: {}", reason.path, reason.message);
//!     }
//! }
//! let won = session.deals().win(deal).await?;
//! println!("{:?}, {:?} in the base currency", won.money(), won.locked_amount);
//! # Ok(())
//! # }
//! ```
//!
//! # The gates of stages
//!
//! A stage may ask something of the deals that enter it (R-044): filled fields, criteria as a filter, a
//! condition as an [expression](crate::expression), an [approval](StageApproval), a time in the stage that they leave; that stage may name the ones that
//! come next, and the pipeline may keep its [order](is_in_order). All this is judged when a deal is
//! written into a stage, whichever way, with every [`Obstacle`] told at once:
//!
//! - A move, a reopening and a deal that comes from another pipeline pass all gates; for the order, the
//!   last is a new deal in its pipeline, but the stage that it leaves says how long it stays and where
//!   it may go.
//! - A new deal passes those of its stage. Where the order is kept it begins in the first open stage, an
//!   imported one too; where an approval is needed it cannot begin.
//! - What let a deal in must hold when it is committed: a unit of work that fills a field, moves the
//!   deal and empties the field again is refused, and so is one whose lines come to less in the end, or
//!   that takes the contact off who was required. A rule of automation that would empty such a field
//!   fails. Later, fields may be emptied: gates guard the way in.
//! - Formulas and roll-ups of the deal count as they come to in the very write. A condition may look at
//!   other records, such as the account: these are as they are when the deal is written, still have to
//!   let it in when the unit of work is committed, and a change of them by others at the same time is
//!   a conflict. A condition without an answer, as a field is empty, lets nobody in.
//! - The engine's own upkeep passes no gates, and callers cannot write under its name: deals of a stage
//!   that is deleted move to the target, as their history tells.
//! - The undoing of a commit or a merge gives a deal the stage back that it had, gates or not, as long as
//!   nobody wrote the deal since. One that was written since never was there as it is now: it goes back
//!   only if its fields, the criteria, the condition and an approval of its amount let it in, and the one
//!   that let it in before is such an approval.
//! - A change of gates leaves the deals where they are.
//!
//! [`check_move`](crate::engine::Records::check_move) and
//! [`allowed_stages`](crate::engine::Records::allowed_stages) tell all this without a write.

mod approvals;
mod close_reason;
mod closing_rate;
mod competitors;
mod entering;
mod gates;
mod history;
mod lines;
mod main_one;
mod people;
mod probability;
mod rotting;
mod rules;
pub mod states;
pub mod statistics;
mod step;
mod sums;
mod times;

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};

pub(crate) use approvals::ApprovalRules;
pub use approvals::{ApprovalStatus, StageApproval};
pub(crate) use close_reason::CloseReasonRule;
pub use close_reason::{CloseOutcome, CloseReason, CloseReasonPolicy};
pub(crate) use closing_rate::ClosingRateRule;
pub(crate) use competitors::CompetitorRules;
pub use competitors::{CompetitorStatus, DealCompetitor};
pub use entering::StageOption;
pub(crate) use entering::{EntryConditions, StageGates};
pub use gates::{CameFrom, Obstacle, is_in_order};
pub use history::DealStageChange;
pub(crate) use lines::{AmountRule, LineHook, LineRules};
pub use lines::{DealLine, Discount, DiscountKind, TotalFault, line_total, sum_of_lines};
pub use people::{DealContact, DealPart, DealPerson};
pub use probability::{MINIMUM_SAMPLE, WinTally, win_probability};
pub use rotting::rots_from;
pub(crate) use rules::DealRules;
pub use rules::Outcome;
pub use states::DealState;
pub(crate) use states::DealStateHook;
pub(crate) use statistics::DealStatisticsHook;
pub use statistics::{DealStats, StatisticsRecomputed};
pub(crate) use step::DealStep;
pub use sums::{ConvertedDeals, DealTotals, LockedTotals};
pub(crate) use sums::{LockedRate, by_rate};
pub use times::{StageTimes, StageTotal, Stay};

use crate::Id;
use crate::accounts::Account;
use crate::campaigns::Campaign;
use crate::contacts::Contact;
use crate::engine::{Records, UnitOfWork, in_work};
use crate::error::{Result, RuleViolation};
use crate::forecasts::ForecastCategory;
use crate::identity::{Team, User};
use crate::pipelines::{Pipeline, PipelineStage, StageType, Ways, stages_of};
use crate::record::Record;
use crate::schema::{Entity, Picklist};
use crate::value::{Currency, Money, Percent};

/// A sale that may come about.
///
/// ```
/// # use crm_core::{Id, pipelines::Pipeline, deals::Deal};
/// # fn example(pipeline: Id<Pipeline>) {
/// // In the first stage of the pipeline, unless another one is named.
/// let deal = Deal { amount: Some(12_000.into()), ..Deal::new("Rollout", pipeline) };
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "deal",
    table = "deals",
    index(owner_id, status),
    index(pipeline_id, stage_id),
    index(stage_id, stage_entered_at),
    index(status, expected_close_date),
    index(status, actual_close_date),
    index(status, stage_entered_at),
    check = rules::check_deal
)]
pub struct Deal {
    /// Name (R-037).
    #[field(required, max_len = 255, searchable)]
    pub name: String,
    /// The pipeline.
    #[field(required, references = "pipeline")]
    pub pipeline_id: Id<Pipeline>,
    /// The stage of the pipeline; a new deal without one begins in the first (R-039).
    #[field(required, references = "pipeline_stage")]
    pub stage_id: Option<Id<PipelineStage>>,
    /// Notes.
    #[field(multiline, searchable)]
    pub description: Option<String>,
    /// What it is worth; not negative (R-037).
    #[field(currency = "currency", min = 0, indexed)]
    pub amount: Option<Decimal>,
    /// The currency of the amount.
    pub currency: Currency,
    /// The outcome of the stage (R-082).
    #[field(read_only)]
    pub status: DealStatus,
    /// How probable it is that it will be won, as the deal says itself; it counts in pipelines that
    /// reckon manually and is kept in others (R-045).
    pub probability: Option<Percent>,
    /// The probability that counts (R-045): see [`win_probability`].
    #[field(read_only)]
    pub win_probability: Percent,
    /// How sure it is in the eyes of who forecasts it; the stage's category if there is none.
    pub forecast_category: Option<ForecastCategory>,
    /// The forecast category that counts: the deal's own or the stage's, `closed` once it is won.
    #[field(read_only)]
    pub counting_category: ForecastCategory,
    /// When it will probably be decided.
    #[field(indexed)]
    pub expected_close_date: Option<NaiveDate>,
    /// When it was decided; today, if nothing else is said when it closes (R-038).
    #[field(indexed)]
    pub actual_close_date: Option<NaiveDate>,
    /// Why it was won or lost: one of the tenant's [reasons](CloseReason), where there are any for the
    /// outcome.
    #[field(max_len = 100)]
    pub close_reason: Option<String>,
    /// What kind of sale it is.
    #[field(default = DealType::NewBusiness)]
    pub deal_type: Option<DealType>,
    /// Where it came from.
    #[field(max_len = 100, indexed)]
    pub lead_source: Option<String>,
    /// The campaign that it is put down to (C-208).
    #[field(references = "campaign", on_delete = "set_null")]
    pub campaign_id: Option<Id<Campaign>>,
    /// Who competes most: the name of the main [`DealCompetitor`], which follows when this is set.
    #[field(max_len = 255)]
    pub competitor: Option<String>,
    /// What to do next.
    #[field(multiline)]
    pub next_step: Option<String>,
    /// The account.
    #[field(references = "account", on_delete = "set_null")]
    pub account_id: Option<Id<Account>>,
    /// The contact: the one of the primary [`DealContact`], which follows when this is set.
    #[field(references = "contact", on_delete = "set_null")]
    pub contact_id: Option<Id<Contact>>,
    /// The user who owns it.
    #[field(references = "user", on_delete = "set_null")]
    pub owner_id: Option<Id<User>>,
    /// The team that works on it.
    #[field(references = "team", on_delete = "set_null")]
    pub team_id: Option<Id<Team>>,
    /// How urgent it is.
    pub priority: Priority,
    /// When it entered its stage.
    #[field(read_only)]
    pub stage_entered_at: Option<DateTime<Utc>>,
    /// When something was last done with it.
    #[field(in_step, indexed)]
    pub last_activity_at: Option<DateTime<Utc>>,
    /// When something is planned next.
    #[field(in_step)]
    pub next_activity_at: Option<DateTime<Utc>>,
    /// The tenant's base currency when the deal closed; none while it is open, and where there was
    /// no exchange rate.
    #[field(read_only)]
    pub locked_currency: Option<Currency>,
    /// What one unit of the deal's currency was worth in the base currency on the day on which the
    /// deal closed. Rates that are set later do not change it.
    #[field(read_only, precision = 28, scale = 14, min = 0)]
    pub locked_rate: Option<Decimal>,
    /// Since when that rate held.
    #[field(read_only)]
    pub locked_rate_date: Option<NaiveDate>,
    /// The amount in the base currency, by that rate.
    #[field(read_only, currency = "locked_currency", min = 0)]
    pub locked_amount: Option<Decimal>,
    /// Values of the tenant's own fields.
    #[field(default = json!({}))]
    pub custom_fields: Json,
    /// Tags.
    pub tags: Vec<String>,
}

/// Whether a deal is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum DealStatus {
    /// Not yet.
    #[default]
    Open,
    /// Won.
    Won,
    /// Lost.
    Lost,
}

/// What kind of sale a deal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum DealType {
    /// To a new customer.
    NewBusiness,
    /// To a customer.
    ExistingBusiness,
    /// The same again.
    Renewal,
    /// More of the same.
    Upsell,
    /// Something else besides.
    CrossSell,
}

/// How urgent a deal or activity is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum Priority {
    /// Less than others.
    Low,
    /// Like most.
    #[default]
    Medium,
    /// More than others.
    High,
    /// At once.
    Urgent,
}

impl Deal {
    /// The amount with its currency.
    #[must_use]
    pub fn money(&self) -> Option<Money> {
        self.amount.map(|amount| Money::new(amount, self.currency))
    }

    /// Whether the deal is decided.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        !matches!(self.status, DealStatus::Open)
    }
}

impl Records<'_, Deal> {
    /// Moves a deal to a stage of its pipeline. What that does to status, probability and close
    /// date is told at the [module](self).
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound);
    /// [`Error::Validation`](crate::Error::Validation) with every [`Obstacle`] in the way, such as
    /// that the stage belongs to another pipeline.
    pub async fn move_to(
        &mut self,
        deal: Id<Deal>,
        stage: Id<PipelineStage>,
    ) -> Result<Arc<Record<Deal>>> {
        in_work!(self.workspace, |work| {
            move_deal(work, deal, stage, None).await
        })
    }

    /// Moves a deal to a stage, with a note for the history.
    ///
    /// # Errors
    /// Like [`move_to`](Self::move_to).
    pub async fn move_with_note(
        &mut self,
        deal: Id<Deal>,
        stage: Id<PipelineStage>,
        note: &str,
    ) -> Result<Arc<Record<Deal>>> {
        in_work!(self.workspace, |work| {
            move_deal(work, deal, stage, Some(note)).await
        })
    }

    /// Wins a deal: moves it to the first won stage of its pipeline.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound); [`Error::Rule`](crate::Error::Rule) if the
    /// pipeline has no such stage.
    pub async fn win(&mut self, deal: Id<Deal>) -> Result<Arc<Record<Deal>>> {
        in_work!(self.workspace, |work| {
            close(work, deal, StageType::ClosedWon, None).await
        })
    }

    /// Loses a deal: moves it to the first lost stage of its pipeline.
    ///
    /// # Errors
    /// Like [`win`](Self::win).
    pub async fn lose(&mut self, deal: Id<Deal>, reason: &str) -> Result<Arc<Record<Deal>>> {
        in_work!(self.workspace, |work| {
            close(work, deal, StageType::ClosedLost, Some(reason)).await
        })
    }

    /// Opens a closed deal again, in `stage` or, if none is named, in the stage that it was closed
    /// from.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound); [`Error::Rule`](crate::Error::Rule) if the deal
    /// is open, or the stage is a closed one.
    pub async fn reopen(
        &mut self,
        deal: Id<Deal>,
        stage: Option<Id<PipelineStage>>,
    ) -> Result<Arc<Record<Deal>>> {
        in_work!(self.workspace, |work| {
            let current = work.get(deal).await?;
            work.rely_on_row(current.clone());
            if !current.is_closed() {
                return Err(RuleViolation::new("not_closed", "R-038", "the deal is open").into());
            }
            let target = match stage {
                Some(stage) => work.get(stage).await?,
                None => last_open_stage(work, &current).await?,
            };
            if target.is_closed() {
                return Err(RuleViolation::new(
                    "not_open",
                    "R-082",
                    "a deal is reopened in an open stage",
                )
                .into());
            }
            move_deal(work, deal, target.id, None).await
        })
    }

    /// The stages that a deal went through, the first move first.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn history(&mut self, deal: Id<Deal>) -> Result<Vec<Arc<Record<DealStageChange>>>> {
        in_work!(self.workspace, |work| {
            work.get(deal).await?;
            history_of(work, deal).await
        })
    }
}

async fn move_deal(
    work: &mut UnitOfWork,
    deal: Id<Deal>,
    stage: Id<PipelineStage>,
    note: Option<&str>,
) -> Result<Arc<Record<Deal>>> {
    work.set_note(deal.uuid(), note);
    work.update(deal, &|deal: &mut Deal| deal.stage_id = Some(stage))
        .await
}

async fn close(
    work: &mut UnitOfWork,
    deal: Id<Deal>,
    outcome: StageType,
    reason: Option<&str>,
) -> Result<Arc<Record<Deal>>> {
    let current = work.get(deal).await?;
    work.rely_on_row(current.clone());
    let ends = |stage: &&Arc<Record<PipelineStage>>| stage.stage_type == outcome && stage.is_active;
    let ways = Ways::with(work, current.pipeline_id, None).await?;
    let way = ways.way(current.pipeline_id);
    let known = way.and_then(|way| way.stages.iter().map(|step| &step.stage).find(ends));
    let stage = match known {
        Some(stage) => Some(stage.clone()),
        // Another process may have made one a moment ago.
        None => {
            let stages = stages_of(work, current.pipeline_id).await?;
            stages.iter().find(ends).cloned()
        }
    };
    let Some(stage) = stage else {
        return Err(RuleViolation::new(
            "no_such_stage",
            "R-082",
            format!("the pipeline has no active stage of the type `{outcome}`; add one"),
        )
        .into());
    };
    let stage = stage.id;
    work.update(deal, &|deal: &mut Deal| {
        deal.stage_id = Some(stage);
        if let Some(reason) = reason {
            deal.close_reason = Some(reason.to_owned());
        }
    })
    .await
}

async fn history_of(
    work: &UnitOfWork,
    deal: Id<Deal>,
) -> Result<Vec<Arc<Record<DealStageChange>>>> {
    // Ids sort by the time of their making.
    work.find_all(DealStageChange::DEAL_ID.eq(deal), Vec::new())
        .await
}

/// The stage that a deal was closed from, or the first open one of its pipeline.
async fn last_open_stage(
    work: &UnitOfWork,
    deal: &Record<Deal>,
) -> Result<Arc<Record<PipelineStage>>> {
    let stages = stages_of(work, deal.pipeline_id).await?;
    let open = |stage: &&Arc<Record<PipelineStage>>| !stage.is_closed() && stage.is_active;
    let history = history_of(work, deal.id).await?;
    let left = history.iter().rev().find_map(|change| {
        stages
            .iter()
            .filter(open)
            .find(|stage| Some(stage.id) == change.from_stage_id)
    });
    left.or_else(|| stages.iter().find(open))
        .cloned()
        .ok_or_else(|| {
            RuleViolation::new(
                "no_such_stage",
                "R-082",
                "the pipeline has no open stage; add one",
            )
            .into()
        })
}

//! [`StageApproval`]: somebody lets a deal enter a stage (R-044).
//!
//! ```text
//! request_approval ──► requested ──approve──► approved ──the deal enters──► used
//!                          └───────reject──► rejected
//! ```
//!
//! - An approval is one of a deal with its amount at the time: if the amount or the currency changes,
//!   it counts no more, and another one is requested. Back at the old amount it counts again.
//! - The entry into the stage uses it up, in the same commit: who falls back and comes again needs
//!   another one.
//! - Who may approve is said by the stage when it is decided ([`ApprovalPolicy`]). Nobody approves what
//!   he requested himself, unless the stage allows it; only users approve, no jobs and API clients.
//! - A deal cannot be created in such a stage, since nothing was approved for it yet.
//! - The gate is the stage's, so an approval given before the stage named others stays good.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::Deal;
use crate::Id;
use crate::engine::{Records, UnitOfWork, Write, WriteRule, in_work};
use crate::error::{Error, Result, RuleViolation, codes};
use crate::identity::{TeamMember, TeamRole, User};
use crate::pipelines::{ApprovalPolicy, PipelineStage};
use crate::query::WhereExt;
use crate::record::{Actor, Record};
use crate::schema::{Entity, Picklist};
use crate::value::Currency;

/// The request that a deal may enter a stage, and what became of it.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "stage_approval",
    table = "stage_approvals",
    index(deal_id, stage_id),
    index(status, created_at)
)]
pub struct StageApproval {
    /// The deal.
    #[field(required, references = "deal", on_delete = "cascade")]
    pub deal_id: Id<Deal>,
    /// The stage that it is to enter.
    #[field(required, references = "pipeline_stage", on_delete = "cascade")]
    pub stage_id: Id<PipelineStage>,
    /// Why it should.
    #[field(multiline)]
    pub request_note: Option<String>,
    /// What became of it.
    #[field(read_only)]
    pub status: ApprovalStatus,
    /// Who asked; nobody, if a job of the host did.
    #[field(read_only, references = "user", on_delete = "set_null")]
    pub requested_by_id: Option<Id<User>>,
    /// The deal that was asked for: an approval does not pass to the deal that this one is merged
    /// into.
    #[field(read_only)]
    pub requested_for: Option<Id<Deal>>,
    /// The amount of the deal at the time.
    #[field(read_only, currency = "currency")]
    pub amount: Option<Decimal>,
    /// The currency of the deal at the time.
    #[field(read_only)]
    pub currency: Currency,
    /// Who decided.
    #[field(read_only, references = "user", on_delete = "set_null")]
    pub decided_by_id: Option<Id<User>>,
    /// When it was decided.
    #[field(read_only)]
    pub decided_at: Option<DateTime<Utc>>,
    /// What was said about it.
    #[field(read_only, multiline)]
    pub decision_note: Option<String>,
    /// When the deal entered the stage with it.
    #[field(read_only)]
    pub used_at: Option<DateTime<Utc>>,
}

/// What became of the request for an approval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum ApprovalStatus {
    /// Nobody has decided yet.
    #[default]
    Requested,
    /// The deal may enter, once.
    Approved,
    /// The deal may not.
    Rejected,
    /// The deal has entered.
    Used,
}

impl StageApproval {
    /// Whether it was given for the deal as it is.
    #[must_use]
    pub fn is_for(&self, deal: &Record<Deal>) -> bool {
        self.requested_for == Some(deal.id)
            && self.amount == deal.amount
            && self.currency == deal.currency
    }
}

/// What is asked for is the deal as it is, by who asks, and stays as it was asked.
#[derive(Debug)]
pub(crate) struct ApprovalRules;

#[async_trait]
impl WriteRule for ApprovalRules {
    fn object(&self) -> &'static str {
        "stage_approval"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<StageApproval>().cloned() else {
            return Ok(());
        };
        if let Some(before) = write.before::<StageApproval>().cloned() {
            if before.stage_id != after.stage_id && !write.is_upkeep() {
                let path = StageApproval::STAGE_ID.name();
                write
                    .faults()
                    .add(path, codes::READ_ONLY, "stays as it was requested");
            }
            let is_decided = before.status != ApprovalStatus::Requested;
            if is_decided && before.request_note != after.request_note && !write.is_upkeep() {
                let path = StageApproval::REQUEST_NOTE.name();
                write
                    .faults()
                    .add(path, codes::READ_ONLY, "stays as it was decided on");
            }
            return Ok(());
        }
        let Some(deal) = work.lookup(after.deal_id).await? else {
            // Told as a reference that leads nowhere.
            return Ok(());
        };
        work.rely_on(&*deal);
        let user = user_of(work);
        write.edit(|approval: &mut StageApproval| {
            approval.requested_by_id = user;
            approval.requested_for = Some(deal.id);
            approval.amount = deal.amount;
            approval.currency = deal.currency;
        });
        Ok(())
    }
}

fn user_of(work: &UnitOfWork) -> Option<Id<User>> {
    match work.session().actor() {
        Actor::User(user) => Some(user),
        _ => None,
    }
}

fn not_needed() -> Error {
    RuleViolation::new(
        "approval_not_needed",
        "R-044",
        "the stage needs no approval",
    )
    .into()
}

impl Records<'_, Deal> {
    /// Asks that a deal may enter a stage that needs an approval (R-044).
    ///
    /// ```
    /// # use crm_core::{Session, Id, deals::Deal, error::Result, pipelines::PipelineStage};
    /// # async fn example(rep: &Session, lead: &Session, deal: Id<Deal>, stage: Id<PipelineStage>) -> Result<()> {
    /// let asked = rep.deals().request_approval(deal, stage, Some("they want a discount")).await?;
    /// lead.stage_approvals().approve(asked.id, None).await?;
    /// rep.deals().move_to(deal, stage).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Rule`] `approval_not_needed`, or `approval_exists` if there is an
    /// approval or a request for the deal as it is.
    pub async fn request_approval(
        &mut self,
        deal: Id<Deal>,
        stage: Id<PipelineStage>,
        note: Option<&str>,
    ) -> Result<Arc<Record<StageApproval>>> {
        in_work!(self.workspace, |work| {
            let deal = work.get(deal).await?;
            let stage = work.get(stage).await?;
            if stage.approval.is_none() {
                return Err(not_needed());
            }
            let known = approvals_of(work, deal.id).await?;
            let counts = |known: &Record<StageApproval>| {
                let is_open = matches!(
                    known.status,
                    ApprovalStatus::Requested | ApprovalStatus::Approved
                );
                known.stage_id == stage.id && is_open && known.is_for(&deal)
            };
            if known.iter().any(|known| counts(known)) {
                return Err(RuleViolation::new(
                    "approval_exists",
                    "R-044",
                    "this was requested already and is not decided, or approved and not used",
                )
                .into());
            }
            let request = StageApproval {
                request_note: note.map(str::to_owned),
                ..StageApproval::new(deal.id, stage.id)
            };
            work.create(request).await
        })
    }

    /// What was requested for a deal and what became of it, the first request first.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn approvals(&mut self, deal: Id<Deal>) -> Result<Vec<Arc<Record<StageApproval>>>> {
        let approvals: Result<Vec<_>> = in_work!(self.workspace, |work| {
            work.get(deal).await?;
            approvals_of(work, deal).await
        });
        let approvals = approvals?;
        self.workspace.hand_out(&approvals).await?;
        Ok(approvals)
    }
}

async fn approvals_of(
    work: &UnitOfWork,
    deal: Id<Deal>,
) -> Result<Vec<Arc<Record<StageApproval>>>> {
    work.find_all(StageApproval::DEAL_ID.eq(deal), Vec::new())
        .await
}

impl Records<'_, StageApproval> {
    /// Lets a deal enter a stage, once, as long as its amount stays.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Forbidden`] for who may not approve; [`Error::Rule`]
    /// `already_decided`, `approval_outdated` if the amount changed since it was requested,
    /// `approval_not_needed`.
    pub async fn approve(
        &mut self,
        approval: Id<StageApproval>,
        note: Option<&str>,
    ) -> Result<Arc<Record<StageApproval>>> {
        in_work!(self.workspace, |work| {
            decide(work, approval, ApprovalStatus::Approved, note).await
        })
    }

    /// Does not let a deal enter a stage. Who requested it may take it back so.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Forbidden`] for who may not approve; [`Error::Rule`]
    /// `already_decided`, `approval_not_needed`.
    pub async fn reject(
        &mut self,
        approval: Id<StageApproval>,
        note: Option<&str>,
    ) -> Result<Arc<Record<StageApproval>>> {
        in_work!(self.workspace, |work| {
            decide(work, approval, ApprovalStatus::Rejected, note).await
        })
    }
}

/// Why a user may not decide so, if he may not.
fn refusal(
    policy: &ApprovalPolicy,
    approval: &StageApproval,
    status: ApprovalStatus,
    user: Id<User>,
    role: Option<TeamRole>,
) -> Option<&'static str> {
    let is_own = approval.requested_by_id == Some(user);
    if is_own && status == ApprovalStatus::Rejected {
        return None;
    }
    if !policy.lets_approve(user, role) {
        return Some("the stage names others who approve");
    }
    if is_own && !policy.allows_own {
        return Some("nobody approves what he requested himself");
    }
    None
}

async fn decide(
    work: &mut UnitOfWork,
    id: Id<StageApproval>,
    status: ApprovalStatus,
    note: Option<&str>,
) -> Result<Arc<Record<StageApproval>>> {
    let forbidden = |reason: &'static str| Error::Forbidden {
        reason: reason.into(),
    };
    let approval = work.get(id).await?;
    let user = user_of(work).ok_or_else(|| forbidden("only users approve"))?;
    let deal = work.get(approval.deal_id).await?;
    let stage = work.get(approval.stage_id).await?;
    // Who may approve, and what, must still be so when this is written.
    work.rely_on(&*deal);
    work.rely_on(&*stage);
    let policy = stage.approval.as_ref().ok_or_else(not_needed)?;
    let role = role_in_team(work, &deal, user, policy).await?;
    if let Some(reason) = refusal(policy, &approval, status, user, role) {
        return Err(forbidden(reason));
    }
    if approval.status != ApprovalStatus::Requested {
        return Err(RuleViolation::new(
            "already_decided",
            "R-044",
            "this is decided already; request it again",
        )
        .into());
    }
    if status == ApprovalStatus::Approved && !approval.is_for(&deal) {
        return Err(RuleViolation::new(
            "approval_outdated",
            "R-044",
            "the amount of the deal changed since this was requested; request it again",
        )
        .into());
    }
    let now = work.now();
    let note = note.map(str::to_owned);
    work.update_record(approval, &|approval: &mut StageApproval| {
        approval.status = status;
        approval.decided_by_id = Some(user);
        approval.decided_at = Some(now);
        approval.decision_note = note.clone();
    })
    .await
}

/// The role of a user in the team of a deal, where the stage asks for one.
async fn role_in_team(
    work: &mut UnitOfWork,
    deal: &Deal,
    user: Id<User>,
    policy: &ApprovalPolicy,
) -> Result<Option<TeamRole>> {
    let (Some(team), Some(_)) = (deal.team_id, policy.team_role) else {
        return Ok(None);
    };
    let wanted = TeamMember::TEAM_ID
        .eq(team)
        .and(TeamMember::USER_ID.eq(user))
        .and(TeamMember::LEFT_AT.is_null());
    let Some(member) = work.find_first(wanted, 1).await?.pop() else {
        return Ok(None);
    };
    work.rely_on(&*member);
    Ok(Some(member.role))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn nobody_approves_what_he_requested_unless_the_stage_allows_it() {
        let user = |number| Id::new(Uuid::from_u128(number));
        let (ada, bob, eve) = (user(1), user(2), user(3));
        let approval = StageApproval {
            requested_by_id: Some(ada),
            ..StageApproval::new(Id::new(Uuid::nil()), Id::new(Uuid::nil()))
        };
        let strict = ApprovalPolicy::by_users([ada, bob]);
        let lenient = ApprovalPolicy {
            allows_own: true,
            ..strict.clone()
        };
        let may = |policy: &ApprovalPolicy, status, user| {
            refusal(policy, &approval, status, user, None).is_none()
        };
        use ApprovalStatus::{Approved, Rejected};
        assert!(!may(&strict, Approved, ada) && may(&lenient, Approved, ada));
        assert!(may(&strict, Approved, bob) && may(&strict, Rejected, bob));
        assert!(!may(&strict, Approved, eve) && !may(&strict, Rejected, eve));
        // The request is taken back.
        assert!(may(&strict, Rejected, ada));
    }
}

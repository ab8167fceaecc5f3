//! [`CloseReason`]: why deals are won and lost, as a list of the tenant.
//!
//! A deal keeps the text of its reason ([`Deal::close_reason`]), not a reference: a reason that is
//! renamed, taken out of use or deleted stays as it was with the deals that were closed with it. When
//! a deal is closed, or a closed deal gets another reason, the text must be one of the tenant's reasons
//! in use for that outcome, in any case of letters; a tenant without reasons for an outcome takes any
//! text. Whether there must be a reason is told by the [`CloseReasonPolicy`].

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Deal, DealStatus};
use crate::Id;
use crate::engine::{Records, Remembered, UnitOfWork, Write, WriteRule, in_work};
use crate::error::{Result, codes};
use crate::pipelines::StageType;
use crate::query::{WhereExt, fold_case};
use crate::record::Record;
use crate::schema::{Entity, Picklist};
use crate::tenancy::{ConfigCategory, Configurations, TenantConfiguration};

/// A reason why deals are won or lost. One that is archived or not active is not in use.
///
/// ```
/// # use crm_core::{Session, Id, error::Result, deals::{CloseOutcome, CloseReason, CloseReasonPolicy, Deal}};
/// # async fn example(session: &Session, deal: Id<Deal>) -> Result<()> {
/// session.close_reasons().create(CloseReason::new(CloseOutcome::Lost, "Too expensive")).await?;
/// let always = CloseReasonPolicy { on_lost: true, ..CloseReasonPolicy::default() };
/// session.configurations().set_close_reason_policy(always).await?;
///
/// assert!(session.deals().lose(deal, "bad luck").await.is_err());
/// let lost = session.deals().lose(deal, "too expensive").await?;
/// assert_eq!(lost.close_reason.as_deref(), Some("Too expensive"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "close_reason",
    table = "close_reasons",
    unique(outcome, label; ignore_case, live),
    index(outcome, position)
)]
pub struct CloseReason {
    /// Of what it is a reason.
    #[field(required)]
    pub outcome: CloseOutcome,
    /// The reason, as deals have it.
    #[field(required, max_len = 100)]
    pub label: String,
    /// More about it.
    #[field(multiline)]
    pub description: Option<String>,
    /// Whether deals may be closed with it.
    #[field(default = true)]
    pub is_active: bool,
    /// Its place among the reasons of the outcome; those with the same place are in the order in which
    /// they were made.
    pub position: u32,
}

/// How a deal is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum CloseOutcome {
    /// Won.
    Won,
    /// Lost.
    Lost,
}

impl CloseOutcome {
    /// The outcome of a deal with this status; none of an open one.
    #[must_use]
    pub const fn of(status: DealStatus) -> Option<Self> {
        match status {
            DealStatus::Open => None,
            DealStatus::Won => Some(Self::Won),
            DealStatus::Lost => Some(Self::Lost),
        }
    }
}

/// Whether a deal needs a reason when it is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseReasonPolicy {
    /// When it is won.
    #[serde(default)]
    pub on_won: bool,
    /// When it is lost.
    #[serde(default)]
    pub on_lost: bool,
}

impl CloseReasonPolicy {
    const fn requires(self, outcome: CloseOutcome) -> bool {
        match outcome {
            CloseOutcome::Won => self.on_won,
            CloseOutcome::Lost => self.on_lost,
        }
    }
}

const CLOSE_REASONS: &str = "close_reasons";

impl Configurations<'_> {
    /// Whether deals need a reason when they are closed.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn close_reason_policy(&self) -> Result<CloseReasonPolicy> {
        let policy = self
            .get(ConfigCategory::BusinessRules, CLOSE_REASONS)
            .await?;
        Ok(policy.unwrap_or_default())
    }

    /// Sets whether deals need a reason when they are closed; closed deals stay as they are.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn set_close_reason_policy(&mut self, policy: CloseReasonPolicy) -> Result<()> {
        self.set(ConfigCategory::BusinessRules, CLOSE_REASONS, &policy)
            .await
            .map(|_| ())
    }
}

/// The reasons in use, and whether one is needed.
struct Reasons {
    policy: CloseReasonPolicy,
    /// What the policy was read from.
    setting: Option<Arc<Record<TenantConfiguration>>>,
    reasons: Vec<Arc<Record<CloseReason>>>,
}

#[async_trait]
impl Remembered for Reasons {
    const OBJECTS: &'static [&'static str] = &["close_reason", "tenant_configuration"];

    async fn load(work: &UnitOfWork) -> Result<Self> {
        let active = CloseReason::IS_ACTIVE
            .eq(true)
            .and(CloseReason::ARCHIVED_AT.is_null());
        let reasons = work.find_all(active, Vec::new()).await?;
        let setting = TenantConfiguration::CATEGORY
            .eq(ConfigCategory::BusinessRules)
            .and(TenantConfiguration::KEY.eq(CLOSE_REASONS));
        let setting = work.find_all(setting, Vec::new()).await?.pop();
        let policy = match &setting {
            Some(setting) => read_policy(setting),
            None => CloseReasonPolicy::default(),
        };
        Ok(Self {
            policy,
            setting,
            reasons,
        })
    }
}

/// A setting of another form counts as none.
fn read_policy(setting: &TenantConfiguration) -> CloseReasonPolicy {
    match &setting.value {
        crate::tenancy::ConfigValue::Plain(value) => {
            serde_json::from_value(value.clone()).unwrap_or_default()
        }
        crate::tenancy::ConfigValue::Encrypted(_) => CloseReasonPolicy::default(),
    }
}

/// What is said of the reason of a deal.
#[derive(Debug, PartialEq)]
enum Verdict<'a> {
    /// It may stay as it is.
    Fits,
    /// It is this one of the list.
    Is(&'a Arc<Record<CloseReason>>),
    /// There must be one.
    Missing,
    /// It must be one of the list.
    Unknown,
}

fn judge<'a>(
    policy: CloseReasonPolicy,
    reasons: &'a [Arc<Record<CloseReason>>],
    outcome: CloseOutcome,
    reason: Option<&str>,
) -> Verdict<'a> {
    let Some(reason) = reason else {
        return if policy.requires(outcome) {
            Verdict::Missing
        } else {
            Verdict::Fits
        };
    };
    let mut listed = reasons
        .iter()
        .filter(|one| one.outcome == outcome)
        .peekable();
    if listed.peek().is_none() {
        return Verdict::Fits;
    }
    let wanted = fold_case(reason);
    match listed.find(|one| fold_case(&one.label) == wanted) {
        Some(found) => Verdict::Is(found),
        None => Verdict::Unknown,
    }
}

/// The reason of a deal that is closed is one of the tenant's, and there where the tenant wants one.
/// Runs after the rules that give the deal its status.
#[derive(Debug)]
pub(crate) struct CloseReasonRule;

#[async_trait]
impl WriteRule for CloseReasonRule {
    fn object(&self) -> &'static str {
        "deal"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        if write.deletes() {
            return Ok(());
        }
        let Some(after) = write.after::<Deal>() else {
            return Ok(());
        };
        let Some(outcome) = CloseOutcome::of(after.status) else {
            return Ok(());
        };
        // What a deal was closed with stays, whatever became of the list.
        let stays = write.before::<Deal>().is_some_and(|before| {
            before.status == after.status && before.close_reason == after.close_reason
        });
        if stays {
            return Ok(());
        }
        let reason = after.close_reason.clone();
        let known = work.remembered::<Reasons>().await?;
        // What was decided by must still be so when this is written.
        if let Some(setting) = &known.setting {
            work.rely_on(&**setting);
        }
        match judge(known.policy, &known.reasons, outcome, reason.as_deref()) {
            Verdict::Fits => {}
            Verdict::Is(listed) => {
                work.rely_on(&**listed);
                if reason.as_ref() != Some(&listed.label) {
                    let label = listed.label.clone();
                    write.edit::<Deal>(|deal| deal.close_reason = Some(label));
                }
            }
            Verdict::Missing => {
                let message = "say why the deal was closed";
                write.faults().add("close_reason", codes::REQUIRED, message);
            }
            Verdict::Unknown => {
                let message = "must be one of the tenant's reasons for this outcome";
                write
                    .faults()
                    .add("close_reason", codes::NOT_AN_OPTION, message);
            }
        }
        Ok(())
    }
}

impl Records<'_, CloseReason> {
    /// The reasons in use for an outcome, in their order: what to offer.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn in_use(&self, outcome: CloseOutcome) -> Result<Vec<Arc<Record<CloseReason>>>> {
        let in_use = CloseReason::OUTCOME
            .eq(outcome)
            .and(CloseReason::IS_ACTIVE.eq(true))
            .and(CloseReason::ARCHIVED_AT.is_null());
        let mut reasons = self.workspace.find_all(in_use).await?;
        reasons.sort_by_key(|reason| (reason.position, reason.id));
        Ok(reasons)
    }

    /// Brings the reasons of an outcome into an order. Reasons that are not named keep their order
    /// behind those that are; unknown ones are left out.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn reorder(
        &mut self,
        outcome: CloseOutcome,
        order: &[Id<CloseReason>],
    ) -> Result<Vec<Arc<Record<CloseReason>>>> {
        in_work!(self.workspace, |work| {
            let of_outcome = CloseReason::OUTCOME.eq(outcome);
            let mut reasons = work.find_all(of_outcome, Vec::new()).await?;
            let place = |id| {
                order
                    .iter()
                    .position(|one| *one == id)
                    .unwrap_or(order.len())
            };
            reasons.sort_by_key(|one| (place(one.id), one.position, one.id));
            let mut ordered = Vec::with_capacity(reasons.len());
            for (position, reason) in (0_u32..).zip(reasons) {
                let set = |one: &mut CloseReason| one.position = position;
                ordered.push(work.update_record(reason, &set).await?);
            }
            Ok(ordered)
        })
    }
}

impl Records<'_, Deal> {
    /// Wins a deal, with the reason; see [`win`](Self::win) and [`CloseReason`].
    ///
    /// # Errors
    /// Like [`win`](Self::win); [`Error::Validation`](crate::Error::Validation) if the reason is none
    /// of the tenant's.
    pub async fn win_because(&mut self, deal: Id<Deal>, reason: &str) -> Result<Arc<Record<Deal>>> {
        in_work!(self.workspace, |work| {
            super::close(work, deal, StageType::ClosedWon, Some(reason)).await
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use crate::record::{Actor, Stamp};
    use crate::schema::Meta;

    use super::*;

    fn reason(outcome: CloseOutcome, label: &str) -> Arc<Record<CloseReason>> {
        let stamp = Stamp {
            at: chrono::DateTime::default(),
            by: Actor::System,
        };
        let meta = Meta::first(Uuid::from_u128(1), stamp);
        Arc::new(Record::new(meta, CloseReason::new(outcome, label)))
    }

    #[test]
    fn reasons_are_judged() {
        use CloseOutcome::{Lost, Won};
        let free = CloseReasonPolicy::default();
        let strict = CloseReasonPolicy {
            on_lost: true,
            ..free
        };
        let list = [reason(Lost, "Price"), reason(Lost, "Größe")];
        assert_eq!(judge(free, &list, Lost, None), Verdict::Fits);
        assert_eq!(judge(strict, &list, Lost, None), Verdict::Missing);
        assert_eq!(judge(strict, &list, Won, None), Verdict::Fits);
        // No list for this outcome: any text.
        assert_eq!(judge(strict, &list, Won, Some("luck")), Verdict::Fits);
        assert_eq!(judge(strict, &list, Lost, Some("luck")), Verdict::Unknown);
        for text in ["Price", "pRICE"] {
            assert_eq!(
                judge(strict, &list, Lost, Some(text)),
                Verdict::Is(&list[0])
            );
        }
        assert_eq!(judge(free, &list, Lost, Some("grösse")), Verdict::Unknown);
    }
}

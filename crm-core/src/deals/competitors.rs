//! [`DealCompetitor`]: who else wants to make a deal.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::main_one::OfDeal;
use super::{Deal, DealStatus};
use crate::Id;
use crate::accounts::Account;
use crate::engine::{Records, StagedChange, UnitOfWork, Write, WriteRule, in_work};
use crate::error::{FieldError, Result};
use crate::query::{Filter, Where, fold_case};
use crate::record::Record;
use crate::schema::{Entity, Picklist, Row};

/// A competitor in a deal; each name at most once. The records are what is known of the competitors of
/// a deal; [`Deal::competitor`] is the name of the main one, and the two are kept in step when a commit
/// is made, whichever of them changed.
///
/// ```
/// # use crm_core::{Session, Id, error::Result, deals::{Deal, DealCompetitor}};
/// # async fn example(session: &Session, deal: Id<Deal>) -> Result<()> {
/// let initech = DealCompetitor {
///     strengths: Some("cheap".into()),
///     is_main: true,
///     ..DealCompetitor::new(deal, "Initech")
/// };
/// session.deals().add_competitor(initech).await?;
/// assert_eq!(session.deals().get(deal).await?.competitor.as_deref(), Some("Initech"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "deal_competitor",
    table = "deal_competitors",
    unique(deal_id, name; ignore_case, live),
    unique(deal_id; live, only_if(is_main)),
    index(account_id),
    index(name)
)]
pub struct DealCompetitor {
    /// The deal.
    #[field(required, references = "deal", on_delete = "cascade")]
    pub deal_id: Id<Deal>,
    /// Its name; that of the account, if one is given and no name.
    #[field(required, max_len = 255, searchable)]
    pub name: String,
    /// The account, where it is one.
    #[field(references = "account", on_delete = "set_null")]
    pub account_id: Option<Id<Account>>,
    /// Whether it still competes.
    #[field(indexed)]
    pub status: CompetitorStatus,
    /// What speaks for it.
    #[field(multiline)]
    pub strengths: Option<String>,
    /// What speaks against it.
    #[field(multiline)]
    pub weaknesses: Option<String>,
    /// Whether it is the main one, which the deal's `competitor` names.
    pub is_main: bool,
    /// Whether the deal was won against it; nothing while the deal is open.
    #[field(read_only, indexed)]
    pub won_against: Option<bool>,
}

/// Whether a competitor still competes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum CompetitorStatus {
    /// Yes.
    #[default]
    Competing,
    /// It gave up.
    Withdrawn,
    /// The customer no longer considers it.
    Eliminated,
    /// The customer chose it.
    Chosen,
}

impl DealCompetitor {
    /// An account that competes; the competitor has its name.
    #[must_use]
    pub fn account(deal: Id<Deal>, account: Id<Account>) -> Self {
        Self {
            account_id: Some(account),
            ..Self::new(deal, "")
        }
    }
}

/// A name as the deal has it: equal to another in any case (R-088).
#[derive(Clone, Debug)]
pub(super) struct Name(String);

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        fold_case(&self.0) == fold_case(&other.0)
    }
}

impl OfDeal for DealCompetitor {
    type Key = Name;

    const KEYS: [&'static [&'static str]; 2] = [&["deal_id", "name"], &["deal_id"]];

    fn of_deals(deals: Vec<Id<Deal>>) -> Where<Self> {
        Self::DEAL_ID.one_of(deals)
    }

    fn deal(&self) -> Id<Deal> {
        self.deal_id
    }

    fn key(&self) -> Name {
        Name(self.name.clone())
    }

    fn is_main(&self) -> bool {
        self.is_main
    }

    fn set_main(&mut self, is_main: bool) {
        self.is_main = is_main;
    }

    fn begin(deal: Id<Deal>, name: &Name) -> Self {
        Self {
            is_main: true,
            ..Self::new(deal, name.0.as_str())
        }
    }

    fn named_by(deal: &Deal) -> Option<Name> {
        deal.competitor.clone().map(Name)
    }

    fn name(deal: &mut Deal, name: Option<Name>) {
        deal.competitor = name.map(|name| name.0);
    }
}

/// Whether a deal with this status was won against its competitors.
const fn won_against(status: DealStatus) -> Option<bool> {
    match status {
        DealStatus::Open => None,
        DealStatus::Won => Some(true),
        DealStatus::Lost => Some(false),
    }
}

/// A competitor has a name, and what became of its deal.
#[derive(Debug)]
pub(crate) struct CompetitorRules;

#[async_trait]
impl WriteRule for CompetitorRules {
    fn object(&self) -> &'static str {
        "deal_competitor"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        if write.deletes() {
            return Ok(());
        }
        let Some(after) = write.after::<DealCompetitor>() else {
            return Ok(());
        };
        let (deal, account) = (after.deal_id, after.account_id);
        let before = write.before::<DealCompetitor>();
        let is_elsewhere =
            before.is_none_or(|before| before.deal_id != deal || before.deleted_at.is_some());
        if after.name.is_empty()
            && let Some(account) = account
        {
            if let Some(account) = work.lookup(account).await? {
                let name = account.name.clone();
                write.edit::<DealCompetitor>(|competitor| competitor.name = name);
            } else {
                let missing = FieldError::missing_record("account_id");
                write.faults().push(missing);
            }
        }
        if is_elsewhere {
            tell_outcome(work, write, deal).await?;
        }
        Ok(())
    }

    async fn settle(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let competitor = write.after::<DealCompetitor>();
        match competitor.map(|competitor| competitor.deal_id) {
            Some(deal) if !write.deletes() => tell_outcome(work, write, deal).await,
            _ => Ok(()),
        }
    }
}

/// Tells a competitor what became of its deal.
async fn tell_outcome(work: &mut UnitOfWork, write: &mut Write, deal: Id<Deal>) -> Result<()> {
    if let Some(deal) = work.lookup(deal).await? {
        // It must still be so when this is written.
        work.rely_on(&*deal);
        let outcome = won_against(deal.status);
        write.edit::<DealCompetitor>(|competitor| competitor.won_against = outcome);
    }
    Ok(())
}

/// The competitors of deals that are closed or reopened learn of it. Those of new deals are all staged;
/// staged ones may have met their deal on its way through several states, also back to the first.
pub(super) async fn settle_outcomes(work: &mut UnitOfWork) -> Result<()> {
    let mut outcomes = HashMap::new();
    let mut stored = Vec::new();
    let is_deal = |change: &&StagedChange| change.object() == Deal::schema();
    for change in work.staged().iter().filter(is_deal) {
        let state = |row: Option<&Row>| Record::<Deal>::from_row(row?.clone());
        let Some(after) = state(change.after()).filter(|after| after.deleted_at.is_none()) else {
            continue;
        };
        // Competitors that were added to a deal while it was open do not know of its end.
        let before = state(work.since_step(change)).map(|before| before.status);
        outcomes.insert(after.id, won_against(after.status));
        if before.unwrap_or_default() != after.status && change.before().is_some() {
            stored.push(after.id);
        }
    }
    if outcomes.is_empty() {
        return Ok(());
    }
    let mut competitors = Vec::new();
    for change in work.staged() {
        if change.object() == DealCompetitor::schema()
            && let Some(row) = change.after().filter(|row| !row.is_deleted())
        {
            competitors.extend(Record::<DealCompetitor>::from_row(row.clone()));
        }
    }
    for some in stored.chunks(Filter::MAX_VALUES) {
        let of_deals = DealCompetitor::of_deals(some.to_vec());
        let found = work.find_all(of_deals, Vec::new()).await?;
        let unstaged = |one: &Arc<Record<DealCompetitor>>| {
            work.place(DealCompetitor::schema(), one.id.uuid())
                .is_none()
        };
        competitors.extend(found.into_iter().filter(unstaged));
    }
    for competitor in competitors {
        if let Some(outcome) = outcomes.get(&competitor.deal_id).copied()
            && competitor.won_against != outcome
        {
            let settle = |one: &mut DealCompetitor| one.won_against = outcome;
            work.update_record(competitor, &settle).await?;
        }
    }
    Ok(())
}

impl Records<'_, Deal> {
    /// Adds a competitor to a deal.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no such deal; [`Error::Validation`](crate::Error::Validation); [`Error::Duplicate`](crate::Error::Duplicate) if the
    /// deal has a competitor of this name.
    pub async fn add_competitor(
        &mut self,
        competitor: DealCompetitor,
    ) -> Result<Arc<Record<DealCompetitor>>> {
        in_work!(self.workspace, |work| {
            work.get(competitor.deal_id).await?;
            work.records::<DealCompetitor>()
                .create(competitor.clone())
                .await
        })
    }

    /// Takes a competitor out of a deal.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn remove_competitor(&mut self, competitor: Id<DealCompetitor>) -> Result<()> {
        in_work!(self.workspace, |work| {
            work.delete(DealCompetitor::schema(), competitor.uuid())
                .await
        })
    }

    /// Says where a competitor stands.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn set_competitor_status(
        &mut self,
        competitor: Id<DealCompetitor>,
        status: CompetitorStatus,
    ) -> Result<Arc<Record<DealCompetitor>>> {
        in_work!(self.workspace, |work| {
            let set = |one: &mut DealCompetitor| one.status = status;
            work.update(competitor, &set).await
        })
    }

    /// The competitors of a deal, the main one first.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn competitors_of(&self, deal: Id<Deal>) -> Result<Vec<Arc<Record<DealCompetitor>>>> {
        let of_deal = DealCompetitor::DEAL_ID.eq(deal);
        let mut all = self.workspace.find_all(of_deal).await?;
        all.sort_by_key(|one| (!one.is_main, one.id));
        Ok(all)
    }
}

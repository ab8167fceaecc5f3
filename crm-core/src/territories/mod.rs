//! Sales territories: a tree of regions, industries or other parts of the market, each of which takes
//! the accounts that fit it (C-020).
//!
//! What a territory takes is said by [`Criteria`], a filter over accounts, by [`Boundaries`],
//! countries and postal codes, or by both, which then must both fit. A territory below another one
//! only takes accounts that the upper one lets through:
//!
//! ```text
//! Europe           boundaries DE, AT, CH       an account in Zürich, 700 employees:
//! ├─ Alps          boundaries AT, CH              Alps      fits, depth 1
//! │  └─ Zürich     postal codes 80..              Zürich    fits, depth 2   ◄ the deepest wins
//! └─ Large         criteria employees >= 500      Large     fits, depth 1
//! ```
//!
//! - Of several that fit, the deepest wins, then the one with the lowest
//!   [`rank`](Territory::rank), then the first by name: there is always one answer.
//! - A territory without criteria and boundaries groups others: it lets everything through and takes
//!   nothing itself. One that is not active or is archived takes nothing and lets nothing through.
//! - An account is matched when it is created, and when something changes that a territory looks at.
//!   After territories changed, [`assign_all`](crate::engine::Records::assign_all) matches the accounts that
//!   are there, and [`preview`](crate::engine::Records::preview) tells before what it would do.
//! - A territory that somebody gave to an account by hand stays, whatever the match says, until it is
//!   [released](crate::engine::Records::release) or emptied.
//!
//! The accounts of a territory with all below it are `Account::TERRITORY_ID.within(territory)`.

mod assign;
mod boundaries;
mod matcher;
mod rules;

pub use assign::{Assignments, Preview, Reassignment};
pub(crate) use boundaries::Place;
pub use boundaries::{Area, Boundaries, PostalCodes};
pub(crate) use matcher::Matcher;
pub(crate) use rules::{AssignmentRule, TerritoryRules};

use std::sync::Arc;

use crate::Id;
use crate::accounts::Account;
use crate::engine::{Records, UnitOfWork, in_work};
use crate::error::{Faults, Result};
use crate::hierarchy::Hierarchical;
use crate::identity::User;
use crate::query::Criteria;
use crate::record::Record;
use crate::schema::{Entity, FieldOf, Picklist};
use rules::MATCHED;

/// A part of the market, and who looks after it.
///
/// ```
/// use crm_core::accounts::Account;
/// use crm_core::query::Criteria;
/// use crm_core::territories::{Area, Boundaries, Territory};
/// use crm_core::value::{Country, TextValue};
///
/// let zurich = Territory {
///     boundaries: Some(Boundaries(vec![
///         Area::of(Country::parse("CH")?).with_prefix("80").with_range("8100", "8199"),
///     ])),
///     criteria: Some(Criteria::from(Account::EMPLOYEE_COUNT.ge(500))),
///     ..Territory::new("Zürich, large")
/// };
/// assert!(zurich.is_active);
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "territory",
    table = "territories",
    unique(name; live),
    check = check_territory
)]
pub struct Territory {
    /// Name (R-305).
    #[field(required, max_len = 100, searchable)]
    pub name: String,
    /// Notes.
    #[field(multiline)]
    pub description: Option<String>,
    /// By what the market is parted (R-133).
    pub territory_type: TerritoryType,
    /// The territory that it is a part of (R-086, R-132). A territory with parts is not deleted: they
    /// would take accounts that it kept from them.
    #[field(references = "territory")]
    pub parent_territory_id: Option<Id<Territory>>,
    /// Who looks after it.
    #[field(references = "user", on_delete = "set_null")]
    pub manager_id: Option<Id<User>>,
    /// Which accounts it takes.
    pub criteria: Option<Criteria>,
    /// Where the accounts are that it takes.
    pub boundaries: Option<Boundaries>,
    /// Which of several at the same depth takes an account: the one with the lowest rank.
    pub rank: i32,
    /// Whether accounts are matched to it.
    #[field(default = true)]
    pub is_active: bool,
}

/// By what the market is parted (R-133).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum TerritoryType {
    /// Where accounts are.
    #[default]
    Geographic,
    /// What accounts do.
    Industry,
    /// How large accounts are.
    AccountSize,
    /// What accounts buy.
    Product,
    /// Anything else.
    Custom,
}

impl Hierarchical for Territory {
    const PARENT: FieldOf<Self, Id<Self>> = Self::PARENT_TERRITORY_ID;
}

fn check_territory(territory: &Territory, faults: &mut Faults) {
    if let Some(boundaries) = &territory.boundaries {
        boundaries.check(&Territory::BOUNDARIES.name(), faults);
    }
}

impl Records<'_, Territory> {
    /// Gives an account to a territory by hand: no match changes it until it is
    /// [released](Self::release).
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, accounts::Account, territories::Territory};
    /// # async fn example(session: &Session, account: Id<Account>, alps: Id<Territory>) -> Result<()> {
    /// let given = session.territories().assign(account, alps).await?;
    /// assert!(given.territory_is_manual);
    /// let matched = session.territories().release(account).await?;
    /// assert!(!matched.territory_is_manual);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no such account;
    /// [`Error::Validation`](crate::Error::Validation) if there is no such territory.
    pub async fn assign(
        &mut self,
        account: Id<Account>,
        territory: Id<Territory>,
    ) -> Result<Arc<Record<Account>>> {
        in_work!(self.workspace, |work| {
            work.update(account, &|account: &mut Account| {
                account.territory_id = Some(territory);
                account.territory_is_manual = true;
            })
            .await
        })
    }

    /// Gives an account back to the match, which decides at once.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn release(&mut self, account: Id<Account>) -> Result<Arc<Record<Account>>> {
        in_work!(self.workspace, |work| {
            let record = work.get(account).await?;
            let matcher = work.remembered::<Matcher>().await?;
            let territory = matcher.best(&record).cloned();
            set_matched(work, record, territory).await
        })
    }

    /// The territory that the match gives to an account, whatever territory it is in.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn matching(&self, account: Id<Account>) -> Result<Option<Arc<Record<Territory>>>> {
        let mut begun = None;
        let work = self.workspace.reading(&mut begun);
        let record = work.get(account).await?;
        let matcher = work.remembered::<Matcher>().await?;
        Ok(matcher.best(&record).cloned())
    }

    /// Makes a territory a part of another one, or of none.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) `cycle` (R-086, R-132);
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn set_parent(
        &mut self,
        territory: Id<Territory>,
        parent: Option<Id<Territory>>,
    ) -> Result<Arc<Record<Territory>>> {
        in_work!(self.workspace, |work| {
            work.update(territory, &|territory: &mut Territory| {
                territory.parent_territory_id = parent;
            })
            .await
        })
    }
}

/// Writes what the match says about an account.
async fn set_matched(
    work: &mut UnitOfWork,
    account: Arc<Record<Account>>,
    territory: Option<Arc<Record<Territory>>>,
) -> Result<Arc<Record<Account>>> {
    let id = account.id.uuid();
    if let Some(territory) = &territory {
        // What it takes may change before this is committed.
        work.rely_on(&**territory);
    }
    let territory = territory.map(|territory| territory.id);
    work.set_note(id, Some(MATCHED));
    let set = |account: &mut Account| {
        account.territory_id = territory;
        account.territory_is_manual = false;
    };
    let written = work.update_record(account, &set).await;
    work.set_note(id, None);
    written
}

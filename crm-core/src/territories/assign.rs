//! The match of all accounts of a tenant, some hundreds at a time.

use std::ops::ControlFlow;
use std::sync::Arc;

use uuid::Uuid;

use super::matcher::Matcher;
use super::{Territory, set_matched};
use crate::Id;
use crate::accounts::Account;
use crate::engine::{Progress, Records, Remembered as _, Settle, UnitOfWork, Workspace, in_work};
use crate::error::{Error, Result};
use crate::query::{AggregateQuery, Condition, Query};
use crate::record::Record;
use crate::schema::{Entity, Value};

/// How many accounts are read, and written in one commit.
const AT_ONCE: usize = 500;

/// What a match of all accounts came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Assignments {
    /// How many accounts were looked at.
    pub checked: u64,
    /// How many of them change their territory.
    pub moved: u64,
    /// How many of them keep the territory that was given by hand.
    pub manual: u64,
    /// How many of them no territory takes.
    pub unmatched: u64,
    /// Whether the run was stopped before its end.
    pub is_stopped: bool,
}

/// An account that would change its territory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reassignment {
    /// The account.
    pub account: Id<Account>,
    /// The territory that it is in.
    pub from: Option<Id<Territory>>,
    /// The territory that takes it.
    pub to: Option<Id<Territory>>,
}

/// What a match of all accounts would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Preview {
    /// What it would come to.
    pub assignments: Assignments,
    /// The first accounts that would change their territory.
    pub moves: Vec<Reassignment>,
}

/// An account that is to change its territory.
struct Move {
    account: Arc<Record<Account>>,
    territory: Option<Arc<Record<Territory>>>,
}

/// Some accounts, matched.
#[derive(Default)]
struct Batch {
    assignments: Assignments,
    moves: Vec<Move>,
    last: Option<Uuid>,
}

impl Settle for Batch {}

/// Matches accounts at hand.
fn match_all(matcher: &Matcher, accounts: Vec<Arc<Record<Account>>>) -> Batch {
    let mut batch = Batch::default();
    for account in accounts {
        batch.last = Some(account.id.uuid());
        batch.assignments.checked += 1;
        if account.territory_is_manual {
            batch.assignments.manual += 1;
            continue;
        }
        let territory = matcher.best(&account).cloned();
        batch.assignments.unmatched += u64::from(territory.is_none());
        if account.territory_id != territory.as_ref().map(|territory| territory.id) {
            batch.assignments.moved += 1;
            batch.moves.push(Move { account, territory });
        }
    }
    batch
}

/// Reads the next accounts behind an id, archived ones too, and matches them to the territories as
/// they are stored now.
async fn next_batch(work: &UnitOfWork, after: Option<Uuid>) -> Result<Batch> {
    let mut query = Query::new(Account::schema(), Condition::not_deleted()).limit(AT_ONCE);
    query.after = after.map(|id| vec![Value::Uuid(id)]);
    let matcher = Matcher::load(work).await?;
    let rows = work.select(&query).await?;
    let accounts = rows.into_iter().filter_map(Record::from_row).collect();
    Ok(match_all(&matcher, accounts))
}

impl Assignments {
    fn add(&mut self, batch: &Self) {
        self.checked += batch.checked;
        self.moved += batch.moved;
        self.manual += batch.manual;
        self.unmatched += batch.unmatched;
    }
}

impl Records<'_, Territory> {
    /// Matches all accounts to the territories as they are now, for when territories were made or
    /// changed. Accounts that were given to a territory by hand stay there.
    ///
    /// Some hundred accounts are one commit, so a run that is stopped or fails has done its work up
    /// to there; run again it does the rest, and changes nothing where nothing is to change. It needs
    /// the memory of some hundred accounts.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// # async fn example(session: &Session) -> Result<()> {
    /// let expected = session.territories().preview(20, &()).await?;
    /// println!("{} accounts will move", expected.assignments.moved);
    /// let done = session.territories().assign_all(&()).await?;
    /// println!("{} of {} accounts moved", done.moved, done.checked);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Forbidden`] in a unit of work, which is one commit; what the rules of accounts refuse.
    pub async fn assign_all(&mut self, progress: &dyn Progress) -> Result<Assignments> {
        let total = self.begin_run("assign_all").await?;
        let mut done = Assignments::default();
        let mut after = None;
        loop {
            let batch: Result<Batch> = in_work!(self.workspace, |work| {
                let mut batch = next_batch(work, after).await?;
                for Move { account, territory } in std::mem::take(&mut batch.moves) {
                    set_matched(work, account, territory).await?;
                }
                Ok(batch)
            });
            let batch = batch?;
            done.add(&batch.assignments);
            if !goes_on(&mut done, &batch, total, progress) {
                return Ok(done);
            }
            after = batch.last;
        }
    }

    /// What [`assign_all`](Self::assign_all) would do, with the first so many accounts that would
    /// move. Writes nothing.
    ///
    /// # Errors
    /// [`Error::Forbidden`] in a unit of work.
    pub async fn preview(&self, moves: usize, progress: &dyn Progress) -> Result<Preview> {
        let total = self.begin_run("preview").await?;
        let mut preview = Preview::default();
        let mut after = None;
        loop {
            let work = self.workspace.session().begin();
            let batch = next_batch(&work, after).await?;
            preview.assignments.add(&batch.assignments);
            let room = moves.saturating_sub(preview.moves.len());
            let told = batch.moves.iter().take(room).map(|one| Reassignment {
                account: one.account.id,
                from: one.account.territory_id,
                to: one.territory.as_ref().map(|territory| territory.id),
            });
            preview.moves.extend(told);
            if !goes_on(&mut preview.assignments, &batch, total, progress) {
                return Ok(preview);
            }
            after = batch.last;
        }
    }

    /// How many accounts there are to match.
    async fn begin_run(&self, operation: &'static str) -> Result<u64> {
        let Workspace::Session(session) = &self.workspace else {
            return Err(Error::Forbidden {
                reason: format!("`{operation}` runs over many commits: call it on a session")
                    .into(),
            });
        };
        let count = AggregateQuery::count(Account::schema(), Condition::not_deleted());
        let groups = Workspace::Session(session).aggregate(&count).await?;
        Ok(groups.first().map_or(0, |group| group.count(0)))
    }
}

/// Reports, and tells whether there are more accounts to match.
fn goes_on(done: &mut Assignments, batch: &Batch, total: u64, progress: &dyn Progress) -> bool {
    let is_last = batch.assignments.checked < AT_ONCE as u64;
    let answer = progress.report(done.checked, Some(total.max(done.checked)));
    done.is_stopped = !is_last && answer == ControlFlow::Break(());
    !is_last && !done.is_stopped
}

//! What is done with rules of assignment: asked for one lead, for all that have no owner, and for
//! what they would do.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::chooser::{Choice, Chooser};
use super::{LeadAssignee, LeadAssignmentRule};
use crate::Id;
use crate::engine::workspace::Settle;
use crate::engine::{Progress, Records, UnitOfWork, Workspace, in_work};
use crate::error::{Error, Result};
use crate::identity::User;
use crate::leads::{Lead, LeadStatus};
use crate::query::{AggregateQuery, Condition, Query, SortKey, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, Value};

/// How many leads are read, and written in one commit.
const AT_ONCE: usize = 500;

/// What became of one lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignmentOutcome {
    /// It was given to a user.
    Assigned {
        /// By this rule.
        rule: Id<LeadAssignmentRule>,
        /// The user.
        user: Id<User>,
    },
    /// It has an owner, who keeps it.
    Owned,
    /// It is closed: nobody works on it.
    NotOpen,
    /// No active rule takes it.
    NoRule,
    /// Rules take it, but nobody whom they name is active and has room for another lead.
    NobodyFree,
}

/// A lead, and what became of it.
#[derive(Clone, Debug)]
pub struct LeadAssignment {
    /// The lead.
    pub lead: Arc<Record<Lead>>,
    /// What became of it.
    pub outcome: AssignmentOutcome,
}

impl Settle for LeadAssignment {
    fn settle(self, work: &UnitOfWork) -> Self {
        Self {
            lead: self.lead.settle(work),
            outcome: self.outcome,
        }
    }
}

/// What an assignment of all leads without an owner came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeadAssignments {
    /// How many leads were looked at.
    pub checked: u64,
    /// How many of them were given to a user.
    pub assigned: u64,
    /// How many of them no rule takes.
    pub without_rule: u64,
    /// For how many of them nobody was free.
    pub nobody_free: u64,
    /// Whether the run was stopped before its end.
    pub is_stopped: bool,
}

impl LeadAssignments {
    fn count(&mut self, choice: Choice) {
        self.checked += 1;
        match choice {
            Choice::Given { .. } => self.assigned += 1,
            Choice::NoRule => self.without_rule += 1,
            Choice::NobodyFree => self.nobody_free += 1,
        }
    }

    fn add(&mut self, other: &Self) {
        self.checked += other.checked;
        self.assigned += other.assigned;
        self.without_rule += other.without_rule;
        self.nobody_free += other.nobody_free;
    }
}

/// A lead that would be given to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProposedAssignment {
    /// The lead.
    pub lead: Id<Lead>,
    /// The rule.
    pub rule: Id<LeadAssignmentRule>,
    /// The user.
    pub user: Id<User>,
}

/// What an assignment of all leads without an owner would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AssignmentPreview {
    /// What it would come to.
    pub assignments: LeadAssignments,
    /// The first leads that would be given away.
    pub proposed: Vec<ProposedAssignment>,
}

/// Some leads, and where the next begin.
struct Batch {
    done: LeadAssignments,
    next: Option<Vec<Value>>,
}

impl Settle for Batch {}

impl Records<'_, Lead> {
    /// Asks the tenant's [rules](super) who gets a lead, and gives it to that user. A lead with an
    /// owner keeps the owner: empty `owner_id` first to have it assigned anew.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, leads::Lead};
    /// use crm_core::leads::assignment::AssignmentOutcome;
    /// # async fn example(session: &Session, lead: Id<Lead>) -> Result<()> {
    /// let assignment = session.leads().assign(lead).await?;
    /// if assignment.outcome == AssignmentOutcome::NobodyFree {
    ///     println!("everybody is at capacity");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn assign(&mut self, lead: Id<Lead>) -> Result<LeadAssignment> {
        in_work!(self.workspace, |work| {
            let lead = work.get(lead).await?;
            let outcome = |outcome, lead| Ok(LeadAssignment { lead, outcome });
            if lead.owner_id.is_some() {
                return outcome(AssignmentOutcome::Owned, lead);
            }
            if !lead.status.is_open() {
                return outcome(AssignmentOutcome::NotOpen, lead);
            }
            let mut chooser = Chooser::load(work).await?;
            match chooser.choose(work, &lead).await? {
                Choice::Given { rule, user } => {
                    chooser.stage(work);
                    let lead = give(work, lead, user).await?;
                    outcome(AssignmentOutcome::Assigned { rule, user }, lead)
                }
                Choice::NoRule => outcome(AssignmentOutcome::NoRule, lead),
                Choice::NobodyFree => outcome(AssignmentOutcome::NobodyFree, lead),
            }
        })
    }

    /// Asks the tenant's [rules](super) for every open lead without an owner, the oldest first: for
    /// when rules were made or changed, or when people have room again.
    ///
    /// Some hundred leads are one commit, so a run that is stopped or fails has done its work up to
    /// there; run again it does the rest. It needs the memory of some hundred leads.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// # async fn example(session: &Session) -> Result<()> {
    /// let expected = session.leads().preview_assignment(20, &()).await?;
    /// println!("{} leads will be given away", expected.assignments.assigned);
    /// let done = session.leads().assign_unowned(&()).await?;
    /// println!("{} leads still wait, as nobody is free", done.nobody_free);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Forbidden`] in a unit of work, which is one commit; what the rules of leads refuse.
    pub async fn assign_unowned(&mut self, progress: &dyn Progress) -> Result<LeadAssignments> {
        let total = self.begin_assignment("assign_unowned").await?;
        let mut done = LeadAssignments::default();
        let mut query = self.unowned().await?;
        loop {
            let batch: Result<Batch> = in_work!(self.workspace, |work| {
                let (leads, next) = page(work, &query).await?;
                let mut chooser = Chooser::load(work).await?;
                let mut done = LeadAssignments::default();
                let mut given = Vec::new();
                for lead in leads {
                    let choice = chooser.choose(work, &lead).await?;
                    done.count(choice);
                    given.extend(choice.user().map(|user| (lead, user)));
                }
                chooser.stage(work);
                for (lead, user) in given {
                    give(work, lead, user).await?;
                }
                Ok(Batch { done, next })
            });
            let Batch { done: some, next } = batch?;
            done.add(&some);
            if stops(&mut done, total, progress) || next.is_none() {
                return Ok(done);
            }
            query.after = next;
        }
    }

    /// What [`assign_unowned`](Self::assign_unowned) would do, with the first so many leads that would
    /// be given away. Writes nothing.
    ///
    /// # Errors
    /// [`Error::Forbidden`] in a unit of work.
    pub async fn preview_assignment(
        &self,
        proposed: usize,
        progress: &dyn Progress,
    ) -> Result<AssignmentPreview> {
        let total = self.begin_assignment("preview_assignment").await?;
        let work = self.workspace.session().begin();
        // One for all: it counts what it would have given away.
        let mut chooser = Chooser::load(&work).await?;
        let mut preview = AssignmentPreview::default();
        let mut query = self.unowned().await?;
        loop {
            let (leads, next) = page(&work, &query).await?;
            for lead in leads {
                let choice = chooser.choose(&work, &lead).await?;
                preview.assignments.count(choice);
                if let Choice::Given { rule, user } = choice
                    && preview.proposed.len() < proposed
                {
                    let lead = lead.id;
                    preview
                        .proposed
                        .push(ProposedAssignment { lead, rule, user });
                }
            }
            chooser.forget_reasons();
            if stops(&mut preview.assignments, total, progress) || next.is_none() {
                return Ok(preview);
            }
            query.after = next;
        }
    }

    /// How many leads wait for an owner.
    async fn begin_assignment(&self, operation: &'static str) -> Result<u64> {
        if matches!(self.workspace, Workspace::Unit(_)) {
            let reason = format!("`{operation}` runs over many commits: call it on a session");
            return Err(Error::Forbidden {
                reason: reason.into(),
            });
        }
        let query = AggregateQuery::count(Lead::schema(), self.unowned().await?.condition);
        let groups = self.workspace.aggregate(&query).await?;
        Ok(groups.first().map_or(0, |group| group.count(0)))
    }

    /// The open leads without an owner, the oldest first. Where they are few they are found by their
    /// owner, where they are many one meets them on the way through all by their creation.
    async fn unowned(&self) -> Result<Query> {
        let registry = &*self.workspace.registry().await?;
        let waiting = Lead::OWNER_ID
            .is_null()
            .and(Lead::STATUS.one_of(LeadStatus::open()));
        let visible = Condition::not_deleted().and(Condition::not_archived());
        let wanted = Condition::bind(&waiting.into_filter(), Lead::schema(), registry)?;
        let oldest = SortKey {
            index: crate::schema::system::CREATED_AT,
            descending: false,
        };
        Ok(Query::new(Lead::schema(), visible.and(wanted))
            .sort(vec![oldest])
            .limit(AT_ONCE))
    }
}

type Leads = (Vec<Arc<Record<Lead>>>, Option<Vec<Value>>);

/// The next leads, and where those behind them begin.
async fn page(work: &UnitOfWork, query: &Query) -> Result<Leads> {
    let rows = work.select(query).await?;
    let next = rows.last().filter(|_| rows.len() == AT_ONCE).map(|row| {
        let keys = query.sort.iter();
        keys.map(|key| row.value(key.index).into_owned()).collect()
    });
    Ok((
        rows.into_iter().filter_map(Record::from_row).collect(),
        next,
    ))
}

/// Reports, and tells whether the run is to stop.
fn stops(done: &mut LeadAssignments, total: u64, progress: &dyn Progress) -> bool {
    let answer = progress.report(done.checked, Some(total.max(done.checked)));
    let stops = answer == ControlFlow::Break(());
    done.is_stopped = stops && done.checked < total;
    stops
}

async fn give(
    work: &mut UnitOfWork,
    lead: Arc<Record<Lead>>,
    user: Id<User>,
) -> Result<Arc<Record<Lead>>> {
    work.update_record(lead, &|lead: &mut Lead| lead.owner_id = Some(user))
        .await
}

impl Records<'_, LeadAssignmentRule> {
    /// Names a user who gets leads by the turns of a rule. Who is named already stays so.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, identity::User};
    /// use crm_core::leads::assignment::{AssignmentMethod, LeadAssignmentRule};
    /// # async fn example(session: &Session, ada: Id<User>, grace: Id<User>) -> Result<()> {
    /// let rule = LeadAssignmentRule::new("All", AssignmentMethod::RoundRobin);
    /// let rule = session.lead_assignment_rules().create(rule).await?;
    /// session.lead_assignment_rules().add_assignee(rule.id, ada).await?;
    /// session.lead_assignment_rules().add_assignee(rule.id, grace).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Validation`] if there is no such rule or user.
    pub async fn add_assignee(
        &mut self,
        rule: Id<LeadAssignmentRule>,
        user: Id<User>,
    ) -> Result<Arc<Record<LeadAssignee>>> {
        in_work!(self.workspace, |work| {
            match find_assignee(work, rule, user).await? {
                Some(assignee) => Ok(assignee),
                None => {
                    work.contend("lead_assignee", &["rule_id", "user_id"]);
                    work.create(LeadAssignee::new(rule, user)).await
                }
            }
        })
    }

    /// Lets a user get no more leads by the turns of a rule.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the rule does not name the user.
    pub async fn remove_assignee(
        &mut self,
        rule: Id<LeadAssignmentRule>,
        user: Id<User>,
    ) -> Result<()> {
        in_work!(self.workspace, |work| {
            match find_assignee(work, rule, user).await? {
                Some(assignee) => work.delete_row(assignee).await,
                None => Err(Error::NotFound {
                    object: LeadAssignee::schema().name().to_owned(),
                    id: user.uuid(),
                }),
            }
        })
    }

    /// The users whom a rule names, in the order in which they were named.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn assignees(
        &self,
        rule: Id<LeadAssignmentRule>,
    ) -> Result<Vec<Arc<Record<LeadAssignee>>>> {
        self.workspace
            .find_all(LeadAssignee::RULE_ID.eq(rule))
            .await
    }
}

async fn find_assignee(
    work: &UnitOfWork,
    rule: Id<LeadAssignmentRule>,
    user: Id<User>,
) -> Result<Option<Arc<Record<LeadAssignee>>>> {
    let wanted = LeadAssignee::RULE_ID
        .eq(rule)
        .and(LeadAssignee::USER_ID.eq(user));
    Ok(work.find_all(wanted, Vec::new()).await?.pop())
}

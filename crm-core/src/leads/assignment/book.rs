//! The rules of a tenant, ready to be asked, and what keeps them and new leads right.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::chooser::Chooser;
use super::{AssignmentMethod, LeadAssignee, LeadAssignmentRule, LeadAssignmentState};
use crate::Id;
use crate::engine::{CommitHook, Remembered, UnitOfWork, Write, WriteRule};
use crate::error::{Result, codes};
use crate::identity::{Team, TeamMember, User};
use crate::leads::Lead;
use crate::query::{Condition, Criteria, NoRelated, Refusal, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, Registry, Row};

/// The active rules of a tenant in the order in which they are asked.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) rules: Vec<Ready>,
    /// The users whom they name.
    pub(super) users: HashMap<Uuid, Arc<Record<User>>>,
}

/// A rule, ready to be asked.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) rule: Arc<Record<LeadAssignmentRule>>,
    criteria: Option<Condition>,
    /// Who may get leads, with the record that says so, if it is not the rule itself.
    pub(super) takers: BTreeMap<Uuid, Option<Row>>,
}

impl Ready {
    /// Whether the rule takes a lead.
    pub(super) fn takes(&self, lead: &Record<Lead>) -> bool {
        let fits = |criteria: &Condition| criteria.matches(lead, &NoRelated);
        self.criteria.as_ref().is_none_or(fits)
    }
}

/// Binds criteria to the schema of leads.
fn bind(criteria: &Criteria, registry: &Registry) -> Result<Condition, Refusal> {
    let own = [Lead::OWNER_ID.name(), Lead::ASSIGNED_AT.name()];
    let own: Vec<&str> = own.iter().map(AsRef::as_ref).collect();
    let bound = criteria.bind(Lead::schema(), registry, &own);
    bound.map(|(condition, _)| condition)
}

#[async_trait]
impl Remembered for Book {
    const OBJECTS: &'static [&'static str] = &[
        "lead_assignment_rule",
        "lead_assignee",
        "team",
        "team_member",
        "user",
    ];

    async fn load(work: &UnitOfWork) -> Result<Self> {
        let active = LeadAssignmentRule::IS_ACTIVE
            .eq(true)
            .and(LeadAssignmentRule::ARCHIVED_AT.is_null());
        let mut rules = work.find_all(active, Vec::new()).await?;
        if rules.is_empty() {
            return Ok(Self::default());
        }
        rules.sort_by(|a, b| (a.rank, &a.name, a.id.uuid()).cmp(&(b.rank, &b.name, b.id.uuid())));
        let by_turns =
            |rule: &&Arc<Record<LeadAssignmentRule>>| rule.method == AssignmentMethod::RoundRobin;
        let turning = || rules.iter().filter(by_turns);
        let mut takers = named(work, turning().map(|rule| rule.id).collect()).await?;
        let teams = turning().filter_map(|rule| rule.team_id).collect();
        let members = members(work, teams).await?;
        let registry = &*work.registry().await?;
        let mut book = Self::default();
        for rule in rules {
            let bound = rule.criteria.as_ref().map(|own| bind(own, registry));
            let Ok(criteria) = bound.transpose() else {
                tracing::warn!(rule = %rule.id, "the criteria do not fit leads any more");
                continue;
            };
            let takers = match rule.method {
                AssignmentMethod::User => {
                    let user = rule.user_id.map(|user| (user.uuid(), None));
                    user.into_iter().collect()
                }
                AssignmentMethod::RoundRobin => {
                    let mut takers = takers.remove(&rule.id.uuid()).unwrap_or_default();
                    let team = rule.team_id.and_then(|team| members.get(&team.uuid()));
                    takers.extend(
                        team.into_iter()
                            .flatten()
                            .map(|(id, row)| (*id, row.clone())),
                    );
                    takers
                }
                AssignmentMethod::Territory => BTreeMap::new(),
            };
            book.rules.push(Ready {
                rule,
                criteria,
                takers,
            });
        }
        let wanted = book.rules.iter().flat_map(|ready| ready.takers.keys());
        let wanted: Vec<Uuid> = wanted.copied().collect();
        for row in work.rows(User::schema(), &wanted).await? {
            if let Some(user) = Record::<User>::from_row(row) {
                book.users.insert(user.id.uuid(), user);
            }
        }
        Ok(book)
    }
}

type Takers = HashMap<Uuid, BTreeMap<Uuid, Option<Row>>>;

/// The users that rules name.
async fn named(work: &UnitOfWork, rules: Vec<Id<LeadAssignmentRule>>) -> Result<Takers> {
    let mut takers = Takers::new();
    if rules.is_empty() {
        return Ok(takers);
    }
    let named = LeadAssignee::RULE_ID
        .one_of(rules)
        .and(LeadAssignee::ARCHIVED_AT.is_null());
    for assignee in work.find_all(named, Vec::new()).await? {
        let of_rule = takers.entry(assignee.rule_id.uuid()).or_default();
        of_rule.insert(assignee.user_id.uuid(), Some(assignee));
    }
    Ok(takers)
}

/// The members of teams that are in use.
async fn members(work: &UnitOfWork, teams: Vec<Id<Team>>) -> Result<Takers> {
    let mut takers = Takers::new();
    if teams.is_empty() {
        return Ok(takers);
    }
    let ids: Vec<Uuid> = teams.iter().map(|team| team.uuid()).collect();
    let rows = work.rows(Team::schema(), &ids).await?;
    let in_use = rows.into_iter().filter_map(Record::<Team>::from_row);
    let in_use: Vec<Id<Team>> = in_use
        .filter(|team| team.is_active && team.archived_at.is_none() && team.deleted_at.is_none())
        .map(|team| team.id)
        .collect();
    let now = TeamMember::TEAM_ID
        .one_of(in_use)
        .and(TeamMember::LEFT_AT.is_null())
        .and(TeamMember::ARCHIVED_AT.is_null());
    for member in work.find_all(now, Vec::new()).await? {
        let of_team = takers.entry(member.team_id.uuid()).or_default();
        of_team.insert(member.user_id.uuid(), Some(member));
    }
    Ok(takers)
}

/// Criteria fit the schema of leads, and a rule for one user names one.
#[derive(Debug)]
pub(crate) struct AssignmentRuleRules;

#[async_trait]
impl WriteRule for AssignmentRuleRules {
    fn object(&self) -> &'static str {
        "lead_assignment_rule"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<LeadAssignmentRule>() else {
            return Ok(());
        };
        if write.deletes() {
            return Ok(());
        }
        let before = write.before::<LeadAssignmentRule>();
        let is_new_criteria = before.is_none_or(|before| before.criteria != after.criteria);
        let criteria = after.criteria.as_ref().filter(|_| is_new_criteria);
        let registry = &*work.registry().await?;
        let refusal = criteria.and_then(|criteria| bind(criteria, registry).err());
        // A user who is deleted leaves the rule without one.
        let is_new_method = before.is_none_or(|before| before.method != after.method);
        let lacks_user = after.method == AssignmentMethod::User && after.user_id.is_none();
        if let Some(refusal) = refusal {
            let field = LeadAssignmentRule::CRITERIA.name();
            write.faults().add(field, refusal.code, refusal.message);
        }
        if is_new_method && lacks_user {
            write.faults().add(
                LeadAssignmentRule::USER_ID.name(),
                codes::REQUIRED,
                "a rule for one user must name the user",
            );
        }
        Ok(())
    }
}

/// A new open lead without an owner is given one, whichever way it is written.
#[derive(Debug)]
pub(crate) struct LeadAssigner;

#[async_trait]
impl WriteRule for LeadAssigner {
    fn object(&self) -> &'static str {
        "lead"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Lead>() else {
            return Ok(());
        };
        let waits = after.owner_id.is_none() && after.status.is_open();
        if !write.is_new() || write.deletes() || !waits {
            return Ok(());
        }
        let mut chooser = Chooser::load(work).await?;
        if chooser.is_idle() {
            return Ok(());
        }
        let stored = work.with_stored_values(write).await?;
        let Some(lead) = Record::<Lead>::from_row(stored) else {
            return Ok(());
        };
        let choice = chooser.choose(work, &lead).await?;
        if let Some(user) = choice.user() {
            chooser.stage(work);
            write.edit::<Lead>(|lead| lead.owner_id = Some(user));
        }
        Ok(())
    }
}

/// What is kept of the assignments by a rule or to a user goes with it.
#[derive(Debug)]
pub(crate) struct AssignmentStates;

#[async_trait]
impl CommitHook for AssignmentStates {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let purged: Vec<Uuid> = work
            .staged()
            .iter()
            .filter(|change| change.after().is_none() && change.before().is_some())
            .filter(|change| {
                let object = change.object();
                object == LeadAssignmentRule::schema() || object == User::schema()
            })
            .map(|change| change.id())
            .collect();
        if !purged.is_empty() {
            for row in work.rows(LeadAssignmentState::schema(), &purged).await? {
                work.remove(&row);
            }
        }
        Ok(())
    }
}

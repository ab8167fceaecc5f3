//! Who gets a lead: rules of the tenant, as data.
//!
//! A [rule](LeadAssignmentRule) says by [`Criteria`] which leads it takes, and by its
//! [method](AssignmentMethod) who gets them. The rules are asked in the order of their ranks; the
//! first one that takes the lead and finds somebody free gives it away.
//!
//! ```text
//! rank 1   industry = banking    fixed user   Ada        ── at capacity ─┐ the next rule is asked
//! rank 2   country = CH          territory               ── manager ─────┼─► Grace
//! rank 9   every lead            round robin  team West  ── whose turn ──┘
//! ```
//!
//! - A lead that somebody gave to an owner stays with that owner: rules only look at open leads
//!   without one. They run when such a lead is created, whichever way, and when they are asked to:
//!   [`assign`](crate::engine::Records::assign),
//!   [`assign_unowned`](crate::engine::Records::assign_unowned).
//! - A user gets leads who is active and has fewer open ones than the
//!   [capacity](crate::identity::User::lead_capacity). What people do by hand is not held up by it.
//!   Where nobody is free, the lead stays without an owner, and the outcome says so.
//! - By turns, every member gets a lead before anybody gets a second one. Whose turn it was is kept in
//!   a row of its own, a [`LeadAssignmentState`], which every assignment by the rule writes: of two at
//!   the same time one is a conflict and runs again. In the same way nobody gets more than the
//!   capacity.
//! - By territory, a lead goes to the manager of the deepest
//!   [territory](crate::territories::Territory) with a manager that has the lead's mailing address
//!   within its boundaries. Territories with criteria are for accounts alone.

mod book;
mod chooser;
mod service;
mod turns;

pub(crate) use book::{AssignmentRuleRules, AssignmentStates, LeadAssigner};
pub use service::{
    AssignmentOutcome, AssignmentPreview, LeadAssignment, LeadAssignments, ProposedAssignment,
};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::Id;
use crate::identity::{Team, User};
use crate::query::Criteria;
use crate::schema::{Entity, Picklist};

/// Which leads go to whom.
///
/// ```
/// use crm_core::leads::Lead;
/// use crm_core::leads::assignment::{AssignmentMethod, LeadAssignmentRule};
/// use crm_core::{Id, identity::Team, query::Criteria};
///
/// fn banks(team: Id<Team>) -> LeadAssignmentRule {
///     LeadAssignmentRule {
///         criteria: Some(Criteria::from(Lead::INDUSTRY.eq("banking"))),
///         team_id: Some(team),
///         ..LeadAssignmentRule::new("Banks", AssignmentMethod::RoundRobin)
///     }
/// }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "lead_assignment_rule",
    table = "lead_assignment_rules",
    unique(name; live)
)]
pub struct LeadAssignmentRule {
    /// Name.
    #[field(required, max_len = 100, searchable)]
    pub name: String,
    /// Notes.
    #[field(multiline)]
    pub description: Option<String>,
    /// Which rule is asked first: the one with the lowest rank, then the first by name.
    pub rank: i32,
    /// Whether it is asked at all.
    #[field(default = true)]
    pub is_active: bool,
    /// Which leads it takes; all if there are none.
    pub criteria: Option<Criteria>,
    /// How the user is found.
    #[field(required)]
    pub method: AssignmentMethod,
    /// Who gets all leads, by the method `user`. A rule that loses the user gives nobody anything.
    #[field(references = "user", on_delete = "set_null")]
    pub user_id: Option<Id<User>>,
    /// Whose members get leads by turns, by the method `round_robin`, besides the users that were
    /// [named](crate::engine::Records::add_assignee).
    #[field(references = "team", on_delete = "set_null")]
    pub team_id: Option<Id<Team>>,
}

/// How the user is found who gets a lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum AssignmentMethod {
    /// Always the same one.
    User,
    /// One after the other.
    #[default]
    RoundRobin,
    /// The manager of the territory that the lead is in.
    Territory,
}

/// A user who gets leads by the turns of a rule.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "lead_assignee",
    table = "lead_assignees",
    unique(rule_id, user_id; live),
    index(user_id)
)]
pub struct LeadAssignee {
    /// The rule.
    #[field(required, references = "lead_assignment_rule", on_delete = "cascade")]
    pub rule_id: Id<LeadAssignmentRule>,
    /// The user.
    #[field(required, references = "user", on_delete = "cascade")]
    pub user_id: Id<User>,
}

/// What the engine keeps of the assignments by a rule, or to a user, whose id it has: every
/// assignment that depends on it writes it, so that no two go by the same state.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "lead_assignment_state",
    table = "lead_assignment_states",
    derived
)]
pub struct LeadAssignmentState {
    /// Of what it is the state: `lead_assignment_rule` or `user`.
    #[field(required, max_len = 50)]
    pub object: String,
    /// How many leads were assigned.
    #[field(min = 0)]
    pub assigned: i64,
    /// Who got the last one, by turns.
    pub last_user: Option<Uuid>,
    /// When that was.
    pub last_at: Option<DateTime<Utc>>,
}

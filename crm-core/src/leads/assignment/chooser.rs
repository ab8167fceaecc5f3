//! [`Chooser`]: asks the rules for one lead after the other, and knows what it gave away.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::book::{Book, Ready};
use super::turns::in_turn;
use super::{AssignmentMethod, LeadAssignmentRule, LeadAssignmentState};
use crate::Id;
use crate::engine::UnitOfWork;
use crate::error::Result;
use crate::identity::{User, UserStatus};
use crate::leads::{Lead, LeadStatus};
use crate::query::{Aggregate, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, Row};
use crate::territories::{Matcher, Place};

/// Who gets a lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// This user, by this rule.
    Given {
        rule: Id<LeadAssignmentRule>,
        user: Id<User>,
    },
    /// No rule takes the lead.
    NoRule,
    /// Rules take it, but nobody is free.
    NobodyFree,
}

impl Choice {
    pub(super) const fn user(self) -> Option<Id<User>> {
        match self {
            Self::Given { user, .. } => Some(user),
            Self::NoRule | Self::NobodyFree => None,
        }
    }
}

/// What is kept of a rule or a user, as it is stored and with what was given away since.
#[derive(Debug)]
struct State {
    stored: Option<Row>,
    now: LeadAssignmentState,
    is_changed: bool,
}

/// Asks the rules for one lead after the other, and counts what it gives away itself.
///
/// Nothing is written before [`stage`](Self::stage): a preview leaves that out.
#[derive(Debug)]
pub(super) struct Chooser {
    book: Arc<Book>,
    states: HashMap<Uuid, State>,
    /// How many open leads users have.
    loads: HashMap<Uuid, u64>,
    /// Managers whom no rule names.
    managers: HashMap<Uuid, Option<Arc<Record<User>>>>,
    /// What the choices rest on.
    relied: Vec<Row>,
}

impl Chooser {
    /// With the rules as they are.
    pub(super) async fn load(work: &UnitOfWork) -> Result<Self> {
        Ok(Self {
            book: work.remembered::<Book>().await?,
            states: HashMap::new(),
            loads: HashMap::new(),
            managers: HashMap::new(),
            relied: Vec::new(),
        })
    }

    /// Whether there is no rule to ask.
    pub(super) fn is_idle(&self) -> bool {
        self.book.rules.is_empty()
    }

    /// Asks the rules for a lead, in their order.
    pub(super) async fn choose(
        &mut self,
        work: &UnitOfWork,
        lead: &Record<Lead>,
    ) -> Result<Choice> {
        let book = self.book.clone();
        let mut outcome = Choice::NoRule;
        for ready in book.rules.iter().filter(|ready| ready.takes(lead)) {
            outcome = Choice::NobodyFree;
            if let Some(user) = self.ask(work, ready, lead).await? {
                let rule = ready.rule.id;
                return Ok(Choice::Given { rule, user });
            }
        }
        Ok(outcome)
    }

    /// Asks one rule, and takes down what it gives.
    async fn ask(
        &mut self,
        work: &UnitOfWork,
        ready: &Ready,
        lead: &Record<Lead>,
    ) -> Result<Option<Id<User>>> {
        let rule = ready.rule.id.uuid();
        let by_turns = ready.rule.method == AssignmentMethod::RoundRobin;
        let mut because: Vec<Row> = vec![ready.rule.clone()];
        let order = match ready.rule.method {
            AssignmentMethod::User => ready.takers.keys().copied().collect(),
            AssignmentMethod::RoundRobin => {
                let users: Vec<Uuid> = ready.takers.keys().copied().collect();
                if users.is_empty() {
                    return Ok(None);
                }
                self.read_states(work, &[rule], LeadAssignmentRule::schema().name())
                    .await?;
                let last = self.states.get(&rule).and_then(|state| state.now.last_user);
                in_turn(&users, last)
            }
            AssignmentMethod::Territory => {
                let matcher = work.remembered::<Matcher>().await?;
                let place = Place::of([&lead.mailing_address]);
                let Some(territory) = matcher.covering(&place) else {
                    return Ok(None);
                };
                because.push(territory.clone());
                territory.manager_id.map(Id::uuid).into_iter().collect()
            }
        };
        for (number, id) in order.iter().enumerate() {
            let Some(user) = self.user(work, *id).await?.filter(|user| works(user)) else {
                continue;
            };
            if user.lead_capacity.is_some() {
                // Most of the time the first one is free: only then are the others counted.
                let rest = order.get(number..).unwrap_or_default();
                let wanted = if number == 0 {
                    std::slice::from_ref(id)
                } else {
                    rest
                };
                self.read_loads(work, wanted).await?;
            }
            let load = self.loads.get(id).copied().unwrap_or_default();
            if user
                .lead_capacity
                .is_some_and(|most| load >= u64::from(most))
            {
                continue;
            }
            if user.lead_capacity.is_some() {
                self.loads.insert(*id, load.saturating_add(1));
                self.count(work, *id, None);
            }
            if by_turns {
                self.count(work, rule, Some(*id));
            }
            because.extend(ready.takers.get(id).cloned().flatten());
            because.push(user.clone());
            self.relied.append(&mut because);
            return Ok(Some(user.id));
        }
        Ok(None)
    }

    async fn user(&mut self, work: &UnitOfWork, id: Uuid) -> Result<Option<Arc<Record<User>>>> {
        if let Some(user) = self.book.users.get(&id) {
            return Ok(Some(user.clone()));
        }
        if let Some(known) = self.managers.get(&id) {
            return Ok(known.clone());
        }
        let user = work.lookup(Id::<User>::new(id)).await?;
        self.managers.insert(id, user.clone());
        Ok(user)
    }

    /// Reads the states that are not known yet.
    async fn read_states(&mut self, work: &UnitOfWork, ids: &[Uuid], object: &str) -> Result<()> {
        let unknown = ids.iter().filter(|id| !self.states.contains_key(id));
        let unknown: Vec<Uuid> = unknown.copied().collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let rows = work.rows(LeadAssignmentState::schema(), &unknown).await?;
        let mut stored: HashMap<Uuid, Row> = rows.into_iter().map(|row| (row.id(), row)).collect();
        for id in unknown {
            let stored = stored.remove(&id);
            let known = stored
                .clone()
                .and_then(Record::<LeadAssignmentState>::from_row);
            let now = known.map_or_else(
                || LeadAssignmentState::new(object),
                |record| record.data.clone(),
            );
            let state = State {
                stored,
                now,
                is_changed: false,
            };
            self.states.insert(id, state);
        }
        Ok(())
    }

    /// Counts the open leads of users who were not counted yet.
    ///
    /// Their states are read first: whatever was assigned to a user after the state was read is a
    /// conflict, and whatever was assigned before is counted.
    async fn read_loads(&mut self, work: &UnitOfWork, users: &[Uuid]) -> Result<()> {
        let limited = |id: &&Uuid| {
            let user = self.book.users.get(*id);
            let user = user.or_else(|| self.managers.get(*id)?.as_ref());
            user.is_some_and(|user| user.lead_capacity.is_some())
        };
        let unknown = users.iter().filter(|id| !self.loads.contains_key(id));
        let unknown: Vec<Uuid> = unknown.filter(limited).copied().collect();
        if unknown.is_empty() {
            return Ok(());
        }
        self.read_states(work, &unknown, User::schema().name())
            .await?;
        let ids = unknown.iter().copied().map(Id::<User>::new);
        let open = Lead::OWNER_ID
            .one_of(ids)
            .and(Lead::STATUS.one_of(LeadStatus::open()));
        let counted = Aggregate::<Lead>::new()
            .filter(open)
            .group_by(Lead::OWNER_ID)
            .count();
        let registry = &*work.registry().await?;
        let counted = work
            .aggregate(&counted.bind(Lead::schema(), registry)?)
            .await?;
        self.loads.extend(unknown.into_iter().map(|id| (id, 0)));
        for group in counted {
            if let Some(id) = group.key(0).as_uuid() {
                self.loads.insert(id, group.count(0));
            }
        }
        Ok(())
    }

    /// Takes down that something was given away.
    fn count(&mut self, work: &UnitOfWork, id: Uuid, to: Option<Uuid>) {
        if let Some(state) = self.states.get_mut(&id) {
            state.now.assigned = state.now.assigned.saturating_add(1);
            state.now.last_user = to;
            state.now.last_at = Some(work.now());
            state.is_changed = true;
        }
    }

    /// Lets go of what the choices rest on, where nothing is written.
    pub(super) fn forget_reasons(&mut self) {
        self.relied.clear();
    }

    /// Stages the states of all that was given away, and relies on what it rests on.
    pub(super) fn stage(&mut self, work: &mut UnitOfWork) {
        for row in self.relied.drain(..) {
            work.rely_on(&*row);
        }
        // In the order of the ids, as the same calls always write the same.
        let mut changed: Vec<_> = self.states.iter_mut().collect();
        changed.sort_unstable_by_key(|(id, _)| **id);
        for (id, state) in changed.into_iter().filter(|(_, state)| state.is_changed) {
            if state.stored.is_none() {
                work.contend("lead_assignment_state", &["id"]);
            }
            work.keep_derived(*id, state.stored.clone(), state.now.clone());
            state.is_changed = false;
        }
    }
}

/// Whether a user works at all.
fn works(user: &Record<User>) -> bool {
    user.status == UserStatus::Active && user.archived_at.is_none() && user.deleted_at.is_none()
}

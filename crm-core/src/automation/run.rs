//! What happens at the end of a commit: rules that its changes of deals set off run, and rules that
//! these set off, until nothing is left to do.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;

use super::compile::{ActiveRule, ActiveRules};
use super::perform::perform;
use super::{AutomationExecution, AutomationRule, ExecutionOutcome, OnFailure};
use crate::Id;
use crate::deals::Deal;
use crate::engine::{CommitHook, UnitOfWork};
use crate::error::{Error, Result};
use crate::record::Record;
use crate::schema::{AnyRecord, Entity, Row};

/// How many rules may set each other off, one by the other.
pub const MOST_STEPS: u32 = 16;

/// Runs the rules that the changes of a commit set off.
#[derive(Debug)]
pub(crate) struct AutomationHook;

#[async_trait]
impl CommitHook for AutomationHook {
    fn follows_erasure(&self) -> bool {
        false
    }

    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let deals = |work: &UnitOfWork| {
            let mut staged = work.staged().iter();
            staged.any(|change| change.object() == Deal::schema())
        };
        if !deals(work) {
            return Ok(());
        }
        let rules = work.remembered::<ActiveRules>().await?;
        Run::default().settle(work, &rules).await
    }
}

/// What ran in one commit.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Which rules ran for which deals: none runs twice.
    fired: HashSet<(Id<AutomationRule>, Id<Deal>)>,
    /// The deals as they were when their changes were seen to.
    seen: HashMap<Id<Deal>, Row>,
}

/// A change of a deal, and how many rules led to it.
struct Transition {
    before: Option<Arc<Record<Deal>>>,
    after: Arc<Record<Deal>>,
    step: u32,
}

/// How a rule came to run.
#[derive(Clone, Debug, Default)]
pub(super) struct Cause {
    /// How many rules set each other off before it.
    pub(super) step: u32,
    /// Which occasion it is, for what is based on time.
    pub(super) occasion: Option<String>,
}

fn typed(row: &Row) -> Option<Arc<Record<Deal>>> {
    Record::from_row(row.clone())
}

impl Run {
    /// Says that a rule ran for a deal already.
    pub(super) fn mark(&mut self, rule: Id<AutomationRule>, deal: Id<Deal>) {
        self.fired.insert((rule, deal));
    }

    /// Runs rules until no change of a deal is left that one waits for.
    pub(super) async fn settle(
        &mut self,
        work: &mut UnitOfWork,
        rules: &ActiveRules,
    ) -> Result<()> {
        if rules.events.is_empty() {
            return Ok(());
        }
        loop {
            // What rules do for one deal may change another.
            let changes = self.changes(work);
            if changes.is_empty() {
                return Ok(());
            }
            for change in changes {
                self.follow(work, rules, change).await?;
            }
        }
    }

    /// The changes of deals that were not seen to yet.
    fn changes(&mut self, work: &UnitOfWork) -> Vec<Transition> {
        let mut changes = Vec::new();
        for change in work.staged() {
            if change.object() != Deal::schema() {
                continue;
            }
            let Some(row) = change.after().filter(|row| !row.is_deleted()) else {
                continue;
            };
            let id = Id::<Deal>::new(change.id());
            let before = match self.seen.get(&id) {
                Some(seen) if Arc::ptr_eq(seen, row) => continue,
                Some(seen) => Some(seen),
                None => change.before(),
            };
            // A deal that comes back is no event.
            let is_back = before.is_some_and(|before| before.is_deleted());
            let before = before.and_then(typed);
            self.seen.insert(id, row.clone());
            if let Some(after) = typed(row)
                && !is_back
            {
                changes.push(Transition {
                    before,
                    after,
                    step: 0,
                });
            }
        }
        changes
    }

    /// Runs the rules that a change of a deal sets off, and then those that their changes do.
    async fn follow(
        &mut self,
        work: &mut UnitOfWork,
        rules: &ActiveRules,
        change: Transition,
    ) -> Result<()> {
        let id = change.after.id;
        let mut open = VecDeque::from([change]);
        while let Some(change) = open.pop_front() {
            let Transition {
                before,
                after,
                step,
            } = change;
            for rule in &rules.events {
                if self.fired.contains(&(rule.id(), id))
                    || !rule.is_set_off(before.as_deref(), &after)
                {
                    continue;
                }
                let Some(current) = work.lookup(id).await? else {
                    return Ok(());
                };
                if rule.fitting(work, vec![current.clone()]).await?.is_empty() {
                    continue;
                }
                self.fired.insert((rule.id(), id));
                if step >= MOST_STEPS {
                    let outcome = ExecutionOutcome::Stopped;
                    let cause = Cause {
                        step,
                        occasion: None,
                    };
                    tracing::warn!(rule = %rule.id(), "automation rules set each other off too often");
                    work.append_entry(entry(work, &rule.record, id, outcome, cause))?;
                    continue;
                }
                let cause = Cause {
                    step,
                    occasion: None,
                };
                execute(work, rule, id, cause).await?;
                let Some(now) = work.lookup(id).await? else {
                    return Ok(());
                };
                if !AnyRecord::differing(&*now, &*current).is_empty() {
                    open.push_back(Transition {
                        before: Some(current),
                        after: now,
                        step: step + 1,
                    });
                }
            }
        }
        if let Some(row) = work.row(Deal::schema(), id.uuid()).await? {
            self.seen.insert(id, row);
        }
        Ok(())
    }
}

/// What is refused because of what the rule does, not because of the storage or of others who write.
pub(super) const fn is_refusal(error: &Error) -> bool {
    !matches!(error, Error::Conflict { .. } | Error::Storage(_))
}

/// Runs a rule for a deal, and writes down what came of it. What a rule did whose action is refused is
/// taken back.
///
/// # Errors
/// Of the storage; what an action refuses, if the rule says so.
pub(super) async fn execute(
    work: &mut UnitOfWork,
    rule: &ActiveRule,
    deal: Id<Deal>,
    cause: Cause,
) -> Result<ExecutionOutcome> {
    let record = &rule.record;
    // Who changes the rule meanwhile changes what is done here.
    work.rely_on(&**record);
    let begin = work.savepoint();
    let mut done = 0_u32;
    let mut failure = None;
    for action in &record.actions.0 {
        match perform(work, record, action, deal).await {
            Ok(()) => done += 1,
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let Some(error) = failure else {
        work.release(begin);
        let executed = AutomationExecution {
            actions_done: done,
            ..entry(work, record, deal, ExecutionOutcome::Executed, cause)
        };
        work.append_entry(executed)?;
        return Ok(ExecutionOutcome::Executed);
    };
    work.roll_back(begin);
    if !is_refusal(&error) || record.on_failure == OnFailure::Refuse {
        return Err(error);
    }
    let refused = AutomationExecution {
        failed_action: Some(done),
        ..entry(work, record, deal, ExecutionOutcome::Failed, cause)
    };
    work.append_entry(failed(refused, &error))?;
    Ok(ExecutionOutcome::Failed)
}

/// An entry that says why.
pub(super) fn failed(entry: AutomationExecution, error: &Error) -> AutomationExecution {
    AutomationExecution {
        error_code: Some(error.code().to_owned()),
        error: Some(error.to_string()),
        ..entry
    }
}

pub(super) fn entry(
    work: &UnitOfWork,
    rule: &Record<AutomationRule>,
    deal: Id<Deal>,
    outcome: ExecutionOutcome,
    cause: Cause,
) -> AutomationExecution {
    let commit = work.commit_stamp().id;
    AutomationExecution {
        step: cause.step,
        occasion: cause.occasion,
        ..AutomationExecution::new(rule.id, deal, rule.trigger_event, outcome, commit)
    }
}

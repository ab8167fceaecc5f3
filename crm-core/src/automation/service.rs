//! [`Automation`]: counts, trials and what workers call.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::compile::{ActiveRule, ActiveRules};
use super::run::{Cause, Run, execute};
use super::{AutomationExecution, AutomationRule, ExecutionOutcome, OnFailure};
use crate::Id;
use crate::deals::Deal;
use crate::engine::{Session, UnitOfWork, Workspace};
use crate::error::{Error, Result};
use crate::query::Aggregate;
use crate::record::Record;
use crate::schema::{Entity, FieldValue, Lifecycle, Value};

/// What there is to do with automation rules besides writing them, which
/// [`Session::automation_rules`] is for.
///
/// ```
/// # use crm_core::{Id, Session, error::Result, deals::Deal, automation::AutomationRule};
/// # async fn example(session: &Session, rule: Id<AutomationRule>, deal: Id<Deal>) -> Result<()> {
/// let trial = session.automation().test(rule, deal).await?;
/// for change in &trial.changes {
///     println!("would write a {} ({} fields)", change.object, change.fields.len());
/// }
/// let counts = session.automation().counts(&[rule]).await?;
/// println!("it ran {} times", counts[&rule].executed);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Automation<'a> {
    pub(super) session: &'a Session,
}

/// How often a rule ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecutionCounts {
    /// How many times all its actions were done.
    pub executed: u64,
    /// How many times an action was refused.
    pub failed: u64,
    /// How many times it was not run, as too many rules had set each other off.
    pub stopped: u64,
    /// When its actions were last done.
    pub last_executed_at: Option<DateTime<Utc>>,
}

/// What a rule would do for a deal.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Trial {
    /// Whether the deal is of the rule's pipeline and stage and fulfils its conditions. Nothing else
    /// is told where it does not.
    pub fits: bool,
    /// The rules that would run, and what would come of each: first the rule itself, then those that
    /// it would set off.
    pub executions: Vec<AutomationExecution>,
    /// The records that would be written.
    pub changes: Vec<TrialChange>,
}

/// A record that a rule would write.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct TrialChange {
    /// The object.
    pub object: String,
    /// The record; `None` for a new one.
    pub id: Option<Uuid>,
    /// The fields that would have another value, with that value.
    pub fields: Map<String, Json>,
}

/// Does not show the values: they may be personal.
impl std::fmt::Debug for TrialChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrialChange")
            .field("object", &self.object)
            .field("id", &self.id)
            .field("fields", &self.fields.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl<'a> Automation<'a> {
    pub(crate) const fn new(session: &'a Session) -> Self {
        Self { session }
    }

    /// How often rules ran, counted in the log of executions: exact, whoever writes meanwhile. Each
    /// rule that is asked for is there; one that never ran, or is none of the tenant, with zeros.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn counts(
        &self,
        rules: &[Id<AutomationRule>],
    ) -> Result<BTreeMap<Id<AutomationRule>, ExecutionCounts>> {
        let mut counts: BTreeMap<Id<AutomationRule>, ExecutionCounts> = rules
            .iter()
            .map(|rule| (*rule, ExecutionCounts::default()))
            .collect();
        let aggregate = Aggregate::<AutomationExecution>::new()
            .filter(AutomationExecution::RULE_ID.one_of(rules.iter().copied()))
            .group_by(AutomationExecution::RULE_ID)
            .group_by(AutomationExecution::OUTCOME)
            .count()
            .max(AutomationExecution::CREATED_AT);
        let registry = &*self.session.registry().await?;
        let query = aggregate.bind(AutomationExecution::schema(), registry)?;
        for group in Workspace::Session(self.session).aggregate(&query).await? {
            let rule = group.key(0).as_uuid().map(Id::new);
            let Some(own) = rule.and_then(|rule| counts.get_mut(&rule)) else {
                continue;
            };
            let count = group.count(0);
            let outcome = group.key(1);
            if outcome == ExecutionOutcome::Executed.value() {
                own.executed = count;
                own.last_executed_at = match group.measures.get(1) {
                    Some(Value::Timestamp(at)) => Some(*at),
                    _ => None,
                };
            } else if outcome == ExecutionOutcome::Failed.value() {
                own.failed = count;
            } else {
                own.stopped = count;
            }
        }
        Ok(counts)
    }

    /// What a rule would do for a deal as both are now, whatever the rule waits for and whether it is
    /// in use; rules that it would set off are followed. Nothing is written.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Query`] if the conditions do not fit deals any more; what is
    /// refused by a rule that is set off and says so ([`OnFailure::Refuse`]). That the rule itself
    /// would fail is told by the [`Trial`].
    pub async fn test(&self, rule: Id<AutomationRule>, deal: Id<Deal>) -> Result<Trial> {
        let mut work = self.session.begin();
        let record = work.get(rule).await?;
        let deal = work.get(deal).await?;
        let mut own = (*record).clone();
        // What would be refused is told, too.
        own.data.on_failure = OnFailure::Skip;
        let registry = &*self.session.registry().await?;
        let rule = ActiveRule::new(std::sync::Arc::new(own), registry);
        let rule = rule.ok_or_else(|| {
            Error::Query(crate::query::QueryError::Unsupported {
                field: AutomationRule::CONDITIONS.name().into_owned(),
                operation: "conditions that do not fit deals any more".into(),
            })
        })?;
        let is_about = rule.is_about(&deal);
        if !is_about
            || rule
                .fitting(&mut work, vec![deal.clone()])
                .await?
                .is_empty()
        {
            return Ok(Trial::default());
        }
        execute(&mut work, &rule, deal.id, Cause::default()).await?;
        let rules = work.remembered::<ActiveRules>().await?;
        let mut run = Run::default();
        run.mark(rule.id(), deal.id);
        run.settle(&mut work, &rules).await?;
        Ok(told(&work))
    }
}

/// What is staged, as a trial tells it.
fn told(work: &UnitOfWork) -> Trial {
    let mut trial = Trial {
        fits: true,
        ..Trial::default()
    };
    for change in work.staged() {
        let Some(after) = change.after() else {
            continue;
        };
        if change.object() == AutomationExecution::schema() {
            let entry = Record::<AutomationExecution>::from_row(after.clone());
            trial
                .executions
                .extend(entry.map(|entry| entry.data.clone()));
            continue;
        }
        if change.object().lifecycle() != Lifecycle::Full {
            continue;
        }
        let before = change.before();
        let own = change.object().fields().iter().enumerate();
        let own = own.filter(|(_, field)| !field.system);
        let own = own.filter(|(index, _)| match before {
            Some(before) => before.value(*index) != after.value(*index),
            None => !after.value(*index).is_null(),
        });
        let fields: Map<String, Json> = own
            .map(|(index, field)| (field.name.to_string(), after.value(index).to_json()))
            .collect();
        if fields.is_empty() {
            continue;
        }
        trial.changes.push(TrialChange {
            object: change.object().name().to_owned(),
            id: before.map(|_| change.id()),
            fields,
        });
    }
    trial
}

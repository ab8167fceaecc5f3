//! All leads of a tenant, some hundreds at a time: scored anew, or only asked what they would score.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use uuid::Uuid;

use super::compiled::CompiledRuleSet;
use super::entity::LeadScoringRuleSet;
use super::hook::{note_scored, score_all, write_score};
use super::rules::{Published, rules_of};
use crate::Id;
use crate::engine::workspace::Settle;
use crate::engine::{Progress, Records, Session, UnitOfWork, Workspace, in_work};
use crate::error::{Error, Result};
use crate::leads::{Lead, LeadStatus};
use crate::query::{AggregateQuery, Condition, Criteria, Query, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, Value};
use crate::value::Score;

/// How many leads are read, and written in one commit.
const AT_ONCE: usize = 500;

/// What the scoring of all leads came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rescored {
    /// How many leads were looked at.
    pub checked: u64,
    /// How many of them have another score now.
    pub changed: u64,
    /// How many of them have another grade now.
    pub regraded: u64,
    /// Whether the run was stopped before its end.
    pub is_stopped: bool,
}

/// What leads would score under a rule set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Simulation {
    /// How many leads were looked at.
    pub checked: u64,
    /// How many of them would have another score.
    pub changed: u64,
    /// How many of them would have another grade.
    pub regraded: u64,
    /// How many leads would go from which grade to which, those that stay not among them.
    pub grades: BTreeMap<(Option<String>, Option<String>), u64>,
    /// The first leads, by id, whose score or grade would change.
    pub leads: Vec<SimulatedScore>,
    /// Whether the run was stopped before its end.
    pub is_stopped: bool,
}

/// What one lead would score.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimulatedScore {
    /// The lead.
    pub lead: Id<Lead>,
    /// Its score.
    pub from: Score,
    /// The score that it would have.
    pub to: Score,
    /// Its grade.
    pub from_grade: Option<String>,
    /// The grade that it would have.
    pub to_grade: Option<String>,
}

/// Which leads are scored: those that are neither deleted, archived nor converted.
async fn scored_leads(session: &Session, only: Option<&Criteria>) -> Result<Condition> {
    let registry = &*session.registry().await?;
    let done = Lead::STATUS.one_of([LeadStatus::Converted, LeadStatus::Archived]);
    let open = Condition::bind(&done.negate().into_filter(), Lead::schema(), registry)?;
    let mut condition = Condition::not_deleted()
        .and(Condition::not_archived())
        .and(open);
    if let Some(only) = only {
        condition = condition.and(Condition::bind(&only.0, Lead::schema(), registry)?);
    }
    Ok(condition)
}

/// The next leads behind an id.
async fn next_leads(
    work: &UnitOfWork,
    condition: &Condition,
    after: Option<Uuid>,
) -> Result<Vec<Arc<Record<Lead>>>> {
    let mut query = Query::new(Lead::schema(), condition.clone()).limit(AT_ONCE);
    query.after = after.map(|id| vec![Value::Uuid(id)]);
    let rows = work.select(&query).await?;
    Ok(rows.into_iter().filter_map(Record::from_row).collect())
}

/// Some leads, scored.
#[derive(Default)]
struct Batch {
    rescored: Rescored,
    last: Option<Uuid>,
}

impl Settle for Batch {}

impl Records<'_, Lead> {
    /// Scores all leads by the published rule set: after it was published, and regularly, such as
    /// every night, where rules look at ages, at activities of the last days, or points fade. Leads
    /// that are converted or archived keep their scores; without a published set, all do.
    ///
    /// 500 leads are one commit of a few round trips, and the history has an entry only where a
    /// score changed. A run that is stopped or fails has done its work up to there; run again it does
    /// the rest. It needs the memory of 500 leads.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// # async fn example(session: &Session) -> Result<()> {
    /// use std::ops::ControlFlow;
    ///
    /// let progress = |done: u64, total: Option<u64>| {
    ///     println!("{done} of {total:?}");
    ///     ControlFlow::Continue(())
    /// };
    /// let done = session.leads().rescore_all(&progress).await?;
    /// println!("{} of {} leads have another score", done.changed, done.checked);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Forbidden`] in a unit of work, which is one commit; what the rules of leads refuse.
    pub async fn rescore_all(&mut self, progress: &dyn Progress) -> Result<Rescored> {
        let session = session_of(&self.workspace, "rescore_all")?.clone();
        let condition = scored_leads(&session, None).await?;
        let mut done = Rescored::default();
        if session.begin().remembered::<Published>().await?.0.is_none() {
            return Ok(done);
        }
        let total = count(&session, &condition).await?;
        let mut after = None;
        loop {
            let batch: Result<Batch> = in_work!(self.workspace, |work| {
                let mut batch = Batch::default();
                let published = work.remembered::<Published>().await?;
                let Published(Some(rules)) = &*published else {
                    return Ok(batch);
                };
                let leads = next_leads(work, &condition, after).await?;
                let scores = score_all(work, rules, &leads).await?;
                for (lead, (scored, counts)) in leads.into_iter().zip(scores) {
                    batch.last = Some(lead.id.uuid());
                    batch.rescored.checked += 1;
                    let written = write_score(work, rules, lead, &scored, &counts).await?;
                    batch.rescored.changed += u64::from(written.score);
                    batch.rescored.regraded += u64::from(written.grade);
                }
                note_scored(work);
                Ok(batch)
            });
            let batch = batch?;
            done.checked += batch.rescored.checked;
            done.changed += batch.rescored.changed;
            done.regraded += batch.rescored.regraded;
            let is_last = batch.rescored.checked < AT_ONCE as u64;
            let answer = progress.report(done.checked, Some(total.max(done.checked)));
            if is_last || answer == ControlFlow::Break(()) {
                done.is_stopped = !is_last;
                return Ok(done);
            }
            after = batch.last;
        }
    }
}

impl Records<'_, LeadScoringRuleSet> {
    /// What leads would score if this set, such as a draft, were published now and
    /// [all leads scored](Records::rescore_all): how many would change, from which grade to which,
    /// and the first `listed` of them. Writes nothing. `leads` says which leads to look at.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, scoring::LeadScoringRuleSet};
    /// # async fn example(session: &Session, draft: Id<LeadScoringRuleSet>) -> Result<()> {
    /// use crm_core::query::Filter;
    ///
    /// let ours = Filter::eq("custom_fields.segment", "enterprise");
    /// let told = session.scoring_rule_sets().simulate(draft, ours, 20, &()).await?;
    /// for lead in &told.leads {
    ///     println!("{}: {} would be {}", lead.lead, lead.from, lead.to);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Validation`] with every rule that does not fit the schema;
    /// [`Error::Query`] if the filter does not; [`Error::Forbidden`] in a unit of work.
    pub async fn simulate(
        &self,
        set: Id<LeadScoringRuleSet>,
        leads: impl Into<Criteria>,
        listed: usize,
        progress: &dyn Progress,
    ) -> Result<Simulation> {
        let session = session_of(&self.workspace, "simulate")?;
        let only = leads.into();
        let work = session.begin();
        let record = work.get(set).await?;
        let rules = rules_of(&work, set).await?;
        let rules: Vec<_> = rules.iter().map(|rule| &**rule).collect();
        let registry = &*session.registry().await?;
        let rules = CompiledRuleSet::new(&record, &rules, registry)?;
        let condition = scored_leads(session, Some(&only)).await?;
        let total = count(session, &condition).await?;
        let mut told = Simulation::default();
        let mut after = None;
        loop {
            let leads = next_leads(&work, &condition, after).await?;
            let is_last = leads.len() < AT_ONCE;
            after = leads.last().map(|lead| lead.id.uuid());
            let scores = score_all(&work, &rules, &leads).await?;
            for (lead, (scored, _)) in leads.iter().zip(scores) {
                told.checked += 1;
                let (is_new, is_regraded) =
                    (scored.score != lead.lead_score, scored.grade != lead.grade);
                told.changed += u64::from(is_new);
                if is_regraded {
                    told.regraded += 1;
                    let way = (lead.grade.clone(), scored.grade.clone());
                    *told.grades.entry(way).or_default() += 1;
                }
                if (is_new || is_regraded) && told.leads.len() < listed {
                    told.leads.push(SimulatedScore {
                        lead: lead.id,
                        from: lead.lead_score,
                        to: scored.score,
                        from_grade: lead.grade.clone(),
                        to_grade: scored.grade,
                    });
                }
            }
            let answer = progress.report(told.checked, Some(total.max(told.checked)));
            if is_last || answer == ControlFlow::Break(()) {
                told.is_stopped = !is_last;
                return Ok(told);
            }
        }
    }
}

/// The session of a run over many commits.
fn session_of<'a>(workspace: &'a Workspace<'_>, operation: &'static str) -> Result<&'a Session> {
    match workspace {
        Workspace::Session(session) => Ok(session),
        Workspace::Unit(_) => Err(Error::Forbidden {
            reason: format!("`{operation}` runs over many leads: call it on a session").into(),
        }),
    }
}

async fn count(session: &Session, condition: &Condition) -> Result<u64> {
    let count = AggregateQuery::count(Lead::schema(), condition.clone());
    let groups = Workspace::Session(session).aggregate(&count).await?;
    Ok(groups.first().map_or(0, |group| group.count(0)))
}

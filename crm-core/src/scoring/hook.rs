//! How scores are written, and the hook that keeps them right in every commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::compiled::CompiledRuleSet;
use super::counts::activity_counts;
use super::entity::{LeadScoreChange, ScoreCause};
use super::explanation::Scored;
use super::rules::Published;
use crate::activities::Activity;
use crate::engine::{CommitHook, StagedChange, UnitOfWork};
use crate::error::{Error, Result, RuleViolation};
use crate::leads::{Lead, LeadStatus};
use crate::record::Record;
use crate::schema::{AnyRecord, Entity, Row};
use crate::value::Score;

/// What a unit of work notes whose leads are all scored already.
const SCORED: &str = "leads scored";

/// Says that the leads of this unit of work are scored.
pub(super) fn note_scored(work: &mut UnitOfWork) {
    let id = work.commit_stamp().id;
    work.set_note(id, Some(SCORED));
}

/// Whether a lead is scored: one that is converted, archived or deleted keeps its score.
pub(super) fn is_scored(lead: &Record<Lead>) -> bool {
    lead.deleted_at.is_none()
        && lead.archived_at.is_none()
        && lead.conversion.is_none()
        && !matches!(lead.status, LeadStatus::Converted | LeadStatus::Archived)
}

/// What leads score now; one look-up for the activities of all of them.
pub(super) async fn score_all(
    work: &UnitOfWork,
    rules: &CompiledRuleSet,
    leads: &[Arc<Record<Lead>>],
) -> Result<Vec<(Scored, Vec<i64>)>> {
    let ids: Vec<Uuid> = leads.iter().map(|lead| lead.id.uuid()).collect();
    let mut counts = activity_counts(work, rules.counted(), &ids).await?;
    let score = |lead: &Arc<Record<Lead>>| {
        let counts = counts.remove(&lead.id.uuid()).unwrap_or_default();
        (rules.score(lead, &counts, work.now()), counts)
    };
    Ok(leads.iter().map(score).collect())
}

/// What was written about a lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) score: bool,
    pub(super) grade: bool,
}

/// Writes what a lead scores, where that is something new, with its entry in the history.
pub(super) async fn write_score(
    work: &mut UnitOfWork,
    rules: &CompiledRuleSet,
    lead: Arc<Record<Lead>>,
    scored: &Scored,
    counts: &[i64],
) -> Result<Written> {
    // the sum of the history says the score. A sum that changes beyond 0 or 100 only is
    // caught up by the next entry.
    let is_new_score =
        scored.score != lead.lead_score || Score::clamped(lead.score_total.into()) != scored.score;
    let written = Written {
        score: is_new_score,
        grade: scored.grade != lead.grade,
    };
    if written == Written::default() {
        return Ok(written);
    }
    // Another set may be published before this is committed.
    work.rely_on(rules.set());
    let before = (*lead).clone();
    let total = if is_new_score {
        whole(scored.total)?
    } else {
        lead.score_total
    };
    work.update_record(lead, &|lead: &mut Lead| {
        lead.lead_score = scored.score;
        lead.score_total = total;
        lead.grade = scored.grade.clone();
    })
    .await?;
    if is_new_score {
        let points_given = rules.given(&before, counts, work.now());
        work.append_entry(LeadScoreChange {
            rule_set_id: Some(rules.set().id),
            rule_set_revision: rules.set().revision,
            points_given: Some(points_given),
            ..LeadScoreChange::new(
                before.id,
                ScoreCause::Rules,
                difference(total, before.score_total)?,
                before.lead_score,
                scored.score,
            )
        })?;
    }
    Ok(written)
}

/// A sum as the field of leads holds it.
fn whole(points: i64) -> Result<i32> {
    i32::try_from(points).map_err(|_| too_many())
}

/// How much a sum changes.
pub(super) fn difference(after: i32, before: i32) -> Result<i32> {
    after.checked_sub(before).ok_or_else(too_many)
}

/// A sum after a change.
pub(super) fn sum(before: i32, change: i32) -> Result<i32> {
    before.checked_add(change).ok_or_else(too_many)
}

fn too_many() -> Error {
    RuleViolation::new(
        "score_out_of_range",
        "R-029",
        "the points of the lead's history add up to more than a field holds",
    )
    .into()
}

/// What a staged lead needs.
struct Staged {
    lead: Arc<Record<Lead>>,
    before: Option<Arc<Record<Lead>>>,
}

/// Keeps scores right: whatever a commit changes, the score of a lead is the sum of its history
/// and leads are scored anew where something changed that the published rules look at.
#[derive(Debug)]
pub(crate) struct ScoringHook;

#[async_trait]
impl CommitHook for ScoringHook {
    fn follows_erasure(&self) -> bool {
        false
    }

    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let (leads, linked) = touched(work);
        if leads.is_empty() && linked.is_empty() {
            return Ok(());
        }
        let commit = work.commit_stamp().id;
        let is_done = match work.take_note(commit) {
            Some(note) if note == SCORED => true,
            note => {
                work.set_note(commit, note.as_deref());
                false
            }
        };
        let restored = follow_history(work, &leads).await?;
        if is_done {
            return Ok(());
        }
        let published = work.remembered::<Published>().await?;
        let Published(Some(rules)) = &*published else {
            return Ok(());
        };
        // The leads themselves, and those whose activities changed.
        let wanted: BTreeMap<Uuid, Arc<Record<Lead>>> = leads
            .into_iter()
            .filter(|staged| {
                restored.contains(&staged.lead.id.uuid())
                    || linked.contains(&staged.lead.id.uuid()) && !rules.counted().is_empty()
                    || looks_different(rules, staged)
            })
            .map(|staged| (staged.lead.id.uuid(), staged.lead))
            .collect();
        let others: Vec<Uuid> = if rules.counted().is_empty() {
            Vec::new()
        } else {
            let mut others = linked;
            others.retain(|id| !wanted.contains_key(id));
            others.into_iter().collect()
        };
        let mut ids: Vec<Uuid> = wanted.into_keys().collect();
        ids.extend(others);
        if ids.is_empty() {
            return Ok(());
        }
        let rows = work.rows(Lead::schema(), &ids).await?;
        let leads = rows.into_iter().filter_map(Record::<Lead>::from_row);
        let leads: Vec<Arc<Record<Lead>>> = leads.filter(|lead| is_scored(lead)).collect();
        let scores = score_all(work, rules, &leads).await?;
        for (lead, (scored, counts)) in leads.into_iter().zip(scores) {
            write_score(work, rules, lead, &scored, &counts).await?;
        }
        Ok(())
    }
}

fn typed(row: Option<&Row>) -> Option<Arc<Record<Lead>>> {
    row.cloned().and_then(Record::from_row)
}

/// The live leads that are written, and the leads whose activities are.
fn touched(work: &UnitOfWork) -> (Vec<Staged>, BTreeSet<Uuid>) {
    let (mut leads, mut linked) = (Vec::new(), BTreeSet::new());
    for change in work.staged() {
        if change.object() == Lead::schema() {
            if let Some(lead) = typed(change.after()).filter(|lead| lead.deleted_at.is_none()) {
                let before = typed(change.before());
                leads.push(Staged { lead, before });
            }
        } else if change.object() == Activity::schema() {
            linked.extend(links(change));
        }
    }
    (leads, linked)
}

/// The leads of an activity before and after its change.
fn links(change: &StagedChange) -> impl Iterator<Item = Uuid> {
    let lead = |row: Option<&Row>| {
        let activity = row.cloned().and_then(Record::<Activity>::from_row)?;
        activity.links.lead_id.map(|id| id.uuid())
    };
    [lead(change.before()), lead(change.after())]
        .into_iter()
        .flatten()
}

/// Whether a lead differs in what the rules look at, or in what they decide.
fn looks_different(rules: &CompiledRuleSet, staged: &Staged) -> bool {
    let Some(before) = staged.before.as_deref().filter(|before| is_scored(before)) else {
        return true;
    };
    let after = &*staged.lead;
    let decided = |lead: &Lead| (lead.lead_score, lead.score_total, lead.score_adjustment);
    let changed = AnyRecord::differing(after, before);
    decided(before) != decided(after)
        || before.grade != after.grade
        || changed.iter().any(|index| rules.fields().contains(index))
}

/// R-029, whatever way the lead was written, such as the undoing of a merge: its sums are those that
/// it had and what the entries of this commit add. Tells which leads were put right.
async fn follow_history(work: &mut UnitOfWork, leads: &[Staged]) -> Result<BTreeSet<Uuid>> {
    let mut added: HashMap<Uuid, (i32, i32)> = HashMap::new();
    for change in work.staged() {
        if change.object() != LeadScoreChange::schema() {
            continue;
        }
        let entry = change.after().cloned();
        if let Some(entry) = entry.and_then(Record::<LeadScoreChange>::from_row) {
            let (total, adjustment) = added.entry(entry.lead_id.uuid()).or_default();
            *total = sum(*total, entry.score_change)?;
            if entry.cause == ScoreCause::Adjustment {
                *adjustment = sum(*adjustment, entry.score_change)?;
            }
        }
    }
    let mut restored = BTreeSet::new();
    for Staged { lead, before } in leads {
        let id = lead.id.uuid();
        let had = before.as_deref();
        let had = had.map_or((0, 0), |had| (had.score_total, had.score_adjustment));
        let (total, adjustment) = added.get(&id).copied().unwrap_or_default();
        let (total, adjustment) = (sum(had.0, total)?, sum(had.1, adjustment)?);
        if (lead.score_total, lead.score_adjustment) == (total, adjustment) {
            continue;
        }
        restored.insert(id);
        work.update_record(lead.clone(), &|lead: &mut Lead| {
            lead.score_total = total;
            lead.score_adjustment = adjustment;
            lead.lead_score = Score::clamped(total.into());
        })
        .await?;
    }
    Ok(restored)
}

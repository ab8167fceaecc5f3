//! Keeps the keys of records in step with them, and refuses what strict rules forbid.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use uuid::Uuid;

use super::check::{DuplicateFound, Seen, Staged, Wanted, examine};
use super::entity::{ActiveRule, ActiveRules, DuplicateKey, KeyState};
use super::keys::{Upkeep, live_rows, stored};
use crate::engine::{CommitHook, StagedChange, UnitOfWork};
use crate::error::{Error, Result};
use crate::schema::{Entity, Lifecycle, ObjectRef, Row};

/// Runs in every commit. A tenant without rules pays no round trip for it; a new record under rules
/// that only warn pays none either, and writes its keys in the same commit.
#[derive(Debug)]
pub(crate) struct DuplicateHook;

#[async_trait]
impl CommitHook for DuplicateHook {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        forget_purged(work).await?;
        let rules = work.remembered::<ActiveRules>().await?;
        if rules.is_empty() {
            return Ok(());
        }
        let mut objects: BTreeMap<String, ObjectRef> = BTreeMap::new();
        for change in work.staged() {
            let object = change.object();
            if !objects.contains_key(object.name()) {
                objects.insert(object.name().to_owned(), object.clone());
            }
        }
        for (name, object) in objects {
            let rules = rules.of(&name);
            if !rules.is_empty() {
                keep_in_step(work, &object, &rules).await?;
            }
        }
        Ok(())
    }
}

impl UnitOfWork {
    /// Says that somebody looked at these records and decided that what this unit of work writes is
    /// none of them: strict rules do not refuse it because of them. Any other duplicate is refused
    /// as ever, and so is this one in the next commit that writes what the rule compares.
    ///
    /// ```
    /// # use crm_core::{Error, Session, error::Result, contacts::Contact};
    /// # async fn is_another_person(_: &[crm_core::duplicates::DuplicateMatch]) -> bool { true }
    /// # async fn example(session: &Session, son: Contact) -> Result<()> {
    /// match session.contacts().create(son.clone()).await {
    ///     Err(Error::DuplicateFound(found)) if is_another_person(&found.matches).await => {
    ///         let mut work = session.begin();
    ///         work.accept_duplicates(found.matches.iter().map(|one| one.record.id));
    ///         work.contacts().create(son).await?;
    ///         work.commit().await?;
    ///     }
    ///     created => drop(created?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn accept_duplicates<I: Into<Uuid>>(&mut self, records: impl IntoIterator<Item = I>) {
        let records = records.into_iter().map(Into::into);
        self.accepted_duplicates.extend(records);
    }
}

/// Removes the keys of records that are removed for good, those of rules that are no longer applied
/// too: they are made of the records' data.
async fn forget_purged(work: &mut UnitOfWork) -> Result<()> {
    let purged: Vec<Uuid> = work
        .staged()
        .iter()
        .filter(|change| change.after().is_none() && change.before().is_some())
        .filter(|change| change.object().lifecycle() == Lifecycle::Full)
        .map(StagedChange::id)
        .collect();
    if purged.is_empty() {
        return Ok(());
    }
    for row in stored(work.session(), &purged)
        .await?
        .into_values()
        .flatten()
    {
        let row: Row = row;
        work.remove(&row);
    }
    Ok(())
}

/// A record of a change as rules see it: a deleted one is not seen.
pub(super) fn live(row: Option<&Row>) -> Option<&Row> {
    row.filter(|row| !row.is_deleted())
}

/// What a change means to the rules of its object.
struct Plan {
    wanted: Wanted,
    /// Whether the record was there before, and how.
    is_known: bool,
    before: Option<Row>,
}

fn plan(change: &StagedChange, rules: &[&ActiveRule]) -> Option<Plan> {
    let (before, after) = (live(change.before()), live(change.after()));
    if before.is_none() && after.is_none() {
        return None;
    }
    let changed = match (before, after) {
        (Some(before), Some(after)) => Some(after.differing(&**before)),
        _ => None,
    };
    let mut seen = Vec::with_capacity(rules.len());
    let mut is_concerned = false;
    for rule in rules {
        let is_one = rule.concerns(changed.as_ref());
        is_concerned |= is_one;
        seen.push(match after {
            Some(after) if is_one => Some(Seen::new(rule, &**after)),
            _ => None,
        });
    }
    is_concerned.then(|| Plan {
        wanted: Wanted {
            id: change.id(),
            seen,
        },
        is_known: change.before().is_some(),
        before: before.cloned(),
    })
}

async fn keep_in_step(
    work: &mut UnitOfWork,
    object: &ObjectRef,
    rules: &[&ActiveRule],
) -> Result<()> {
    let mut plans = Vec::new();
    let mut staged = Staged::default();
    for change in work.staged() {
        if change.object() != object {
            continue;
        }
        staged
            .rows
            .insert(change.id(), live(change.after()).cloned());
        plans.extend(plan(change, rules));
    }
    if plans.is_empty() {
        return Ok(());
    }
    for plan in &plans {
        for key in plan
            .wanted
            .seen
            .iter()
            .flatten()
            .flat_map(|seen| &seen.keys)
        {
            staged
                .by_key
                .entry(key.key)
                .or_default()
                .push(plan.wanted.id);
        }
    }
    refuse_duplicates(work, object, rules, &plans, &staged).await?;

    let known: Vec<Uuid> = plans
        .iter()
        .filter(|plan| plan.is_known && has_other_keys(rules, plan))
        .map(|plan| plan.wanted.id)
        .collect();
    let stored = stored(work.session(), &known).await?;
    let known: HashSet<Uuid> = known.into_iter().collect();
    let mut upkeep = Upkeep::default();
    for plan in &plans {
        let id = plan.wanted.id;
        if plan.is_known && !known.contains(&id) {
            continue;
        }
        let is_live = staged.rows.get(&id).is_some_and(Option::is_some);
        for (rule, seen) in rules.iter().zip(&plan.wanted.seen) {
            let keys = match seen {
                Some(seen) => seen.keys.as_slice(),
                None if is_live => continue,
                None => &[],
            };
            upkeep.note(rule, id, keys, stored.get(&(rule.id().uuid(), id)));
        }
    }
    // What was decided by the rules holds only while they stand.
    for rule in rules {
        work.rely_on(&*rule.record);
    }
    let taken = if work.accepted_duplicates.is_empty() {
        HashSet::new()
    } else {
        // An accepted one holds its keys alone already.
        live_rows(work.session(), DuplicateKey::schema(), upkeep.alone())
            .await?
            .into_keys()
            .filter(|key| !upkeep.removes(*key))
            .collect()
    };
    upkeep.stage(work, &taken)
}

/// Whether the keys of a record that was there before may have to change.
fn has_other_keys(rules: &[&ActiveRule], plan: &Plan) -> bool {
    let Some(before) = &plan.before else {
        return true;
    };
    rules.iter().zip(&plan.wanted.seen).any(|(rule, seen)| {
        // While keys are built those of the record may not be there yet.
        rule.record.state == KeyState::Building
            || seen
                .as_ref()
                .is_none_or(|seen| Seen::new(rule, &**before).keys != seen.keys)
    })
}

/// Refuses the commit if a record is a duplicate under a strict rule: of a stored one, or of another
/// one in the same unit of work.
async fn refuse_duplicates(
    work: &UnitOfWork,
    object: &ObjectRef,
    rules: &[&ActiveRule],
    plans: &[Plan],
    staged: &Staged,
) -> Result<()> {
    let strict: Vec<&ActiveRule> = rules
        .iter()
        .copied()
        .filter(|rule| rule.is_strict())
        .collect();
    if strict.is_empty() {
        return Ok(());
    }
    // Strict rules come first among the rules.
    let wanted: Vec<&Wanted> = plans.iter().map(|plan| &plan.wanted).collect();
    let checks = examine(work.session(), object, &strict, &wanted, staged).await?;
    for (wanted, mut check) in wanted.iter().zip(checks) {
        let accepted = &work.accepted_duplicates;
        check
            .matches
            .retain(|found| !accepted.contains(&found.record.id));
        if !check.matches.is_empty() {
            return Err(Error::DuplicateFound(Box::new(DuplicateFound {
                object: object.name().to_owned(),
                id: wanted.id,
                matches: check.matches,
            })));
        }
    }
    Ok(())
}

//! Keeps a field of a deal and the main one of several records of the deal in step: its contact and
//! the primary one of its people, its competitor and the main one of its competitors.
//!
//! [`decide`] is the whole rule, over values; [`keep_in_step`] gathers what a commit changes, reads
//! what else the deals have, and stages what was decided. A commit that changes neither costs nothing,
//! a new deal is not read for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::Deal;
use crate::Id;
use crate::engine::{StagedChange, UnitOfWork};
use crate::error::{Error, Result};
use crate::query::{Filter, Where};
use crate::record::Record;
use crate::schema::Entity;

/// A record of a deal of which one may be the main one, which a field of the deal names.
pub(super) trait OfDeal: Entity {
    /// What the field names it by.
    type Key: Clone + PartialEq + Send + Sync;

    /// Its unique keys: each once in a deal, and one main one.
    const KEYS: [&'static [&'static str]; 2];

    /// Those of these deals.
    fn of_deals(deals: Vec<Id<Deal>>) -> Where<Self>;
    /// The deal.
    fn deal(&self) -> Id<Deal>;
    /// What the deal's field names it by.
    fn key(&self) -> Self::Key;
    /// Whether it is the main one.
    fn is_main(&self) -> bool;
    /// Makes it the main one, or no more.
    fn set_main(&mut self, is_main: bool);
    /// A new main one.
    fn begin(deal: Id<Deal>, key: &Self::Key) -> Self;
    /// What a deal names.
    fn named_by(deal: &Deal) -> Option<Self::Key>;
    /// Lets the deal name another one.
    fn name(deal: &mut Deal, key: Option<Self::Key>);
}

/// What a deal names before a commit and as the commit shall leave it.
#[derive(Clone, Debug, PartialEq)]
struct Link<K> {
    is_new: bool,
    before: Option<K>,
    after: Option<K>,
}

/// A record of a deal before a commit and as the commit shall leave it.
#[derive(Clone, Debug, PartialEq)]
struct Side<I, K> {
    id: I,
    /// Whether it was deleted before.
    was_deleted: bool,
    /// What the deal named by it, where it was the main one.
    was_main_for: Option<K>,
    /// What it is named by and whether it is the main one, unless it is deleted.
    after: Option<(K, bool)>,
}

/// What brings both in step.
#[derive(Clone, Debug, PartialEq)]
enum Step<I, K> {
    /// It is no longer the main one.
    Demote(I),
    /// It becomes the main one.
    Promote(I),
    /// A new main one.
    Begin(K),
    /// The deal names this.
    Name(Option<K>),
}

/// What brings a deal and its records in step.
///
/// What the deal itself was given decides; else the record that was made the main one; else, where the
/// main one is that no more, the deal names none. A restored record is the main one only if the deal
/// still names it. Who is no longer the main one stays with the deal.
fn decide<I: Copy + PartialEq, K: Clone + PartialEq>(
    link: &Link<K>,
    sides: &[Side<I, K>],
) -> Vec<Step<I, K>> {
    let live = || {
        sides
            .iter()
            .filter_map(|side| Some((side, side.after.as_ref()?)))
    };
    let mains = || live().filter(|(_, (_, is_main))| *is_main);
    let is_promoted =
        |side: &Side<I, K>, key: &K| !side.was_deleted && side.was_main_for.as_ref() != Some(key);
    let promoted = mains().rfind(|(side, (key, _))| is_promoted(side, key));
    let lost = sides.iter().any(|side| {
        let is_lost = !side.after.as_ref().is_some_and(|(_, is_main)| *is_main);
        !side.was_deleted && side.was_main_for.is_some() && is_lost
    });
    let target = match promoted {
        _ if link.before != link.after => link.after.clone(),
        Some((_, (key, _))) => Some(key.clone()),
        None if lost => None,
        None => link.after.clone(),
    };
    let matching = || mains().filter(|(_, (key, _))| Some(key) == target.as_ref());
    let keeper = matching()
        .rfind(|(side, (key, _))| is_promoted(side, key))
        .or_else(|| matching().next_back())
        .map(|(side, _)| side.id);

    let mut steps: Vec<_> = mains()
        .filter(|(side, _)| Some(side.id) != keeper)
        .map(|(side, _)| Step::Demote(side.id))
        .collect();
    if let (Some(key), None) = (&target, keeper) {
        let other = live().find(|(_, (other, is_main))| other == key && !is_main);
        steps.push(match other {
            Some((side, _)) => Step::Promote(side.id),
            None => Step::Begin(key.clone()),
        });
    }
    if target != link.after {
        steps.push(Step::Name(target));
    }
    steps
}

async fn set_main<E: OfDeal>(
    work: &mut UnitOfWork,
    stored: &mut Stored<E>,
    id: Id<E>,
    is_main: bool,
) -> Result<()> {
    if let Some(one) = stored.remove(&id) {
        let set = |one: &mut E| one.set_main(is_main);
        return work.update_record(one, &set).await.map(|_| ());
    }
    let updated = work.update(id, &|one: &mut E| one.set_main(is_main)).await;
    match updated {
        // It was there when this was decided: somebody was faster.
        Err(Error::NotFound { object, id }) => Err(Error::Conflict { object, id }),
        other => other.map(|_| ()),
    }
}

/// The record before and after a change: since the commit began or, where both were brought in step
/// in it already, since then.
fn states<E: Entity>(work: &UnitOfWork, change: &StagedChange) -> [Option<Arc<Record<E>>>; 2] {
    [work.since_step(change), change.after()].map(|row| Record::from_row(row?.clone()))
}

/// Whether a change is of the object of `E`.
fn is_of<E: Entity>(change: &StagedChange) -> bool {
    change.object() == E::schema()
}

/// Brings the deals that a commit touches in step with their records of one kind.
pub(super) async fn keep_in_step<E: OfDeal>(work: &mut UnitOfWork) -> Result<()> {
    let touched = touched::<E>(work);
    if touched.is_empty() {
        return Ok(());
    }
    // Two who do the same at the same time: the slower one looks again.
    let [_, one_main] = E::KEYS;
    work.contend(E::schema().name(), one_main);
    let links = links::<E>(work, &touched).await?;
    let (mut sides, mut stored) = sides::<E>(work, &links).await?;
    for (deal, link) in links {
        for step in decide(&link, &sides.remove(&deal).unwrap_or_default()) {
            take::<E>(work, &mut stored, deal, step).await?;
        }
    }
    Ok(())
}

async fn take<E: OfDeal>(
    work: &mut UnitOfWork,
    stored: &mut Stored<E>,
    deal: Id<Deal>,
    step: Step<Id<E>, E::Key>,
) -> Result<()> {
    match step {
        Step::Demote(id) => set_main(work, stored, id, false).await?,
        Step::Promote(id) => set_main(work, stored, id, true).await?,
        Step::Begin(key) => {
            // Here it is the engine that would write it twice, elsewhere whoever does so is told.
            let [once, _] = E::KEYS;
            work.contend(E::schema().name(), once);
            work.create(E::begin(deal, &key)).await?;
        }
        Step::Name(key) => {
            work.update(deal, &|deal: &mut Deal| E::name(deal, key.clone()))
                .await?;
        }
    }
    Ok(())
}

/// The deals in which a commit changes what is named, or which is the main one.
fn touched<E: OfDeal>(work: &UnitOfWork) -> BTreeSet<Id<Deal>> {
    let mut touched = BTreeSet::new();
    for change in work.staged() {
        if is_of::<Deal>(change) {
            let [before, after] = states::<Deal>(work, change);
            let Some(after) = after.filter(|after| after.deleted_at.is_none()) else {
                continue;
            };
            let restored = before
                .as_ref()
                .is_some_and(|before| before.deleted_at.is_some());
            let named = before.and_then(|before| E::named_by(&before));
            if restored || named != E::named_by(&after) {
                touched.insert(after.id);
            }
        } else if is_of::<E>(change) {
            let main = |record: &Arc<Record<E>>| {
                let counts = record.deleted_at.is_none() && record.is_main();
                counts.then(|| (record.deal(), record.key()))
            };
            let [before, after] = states::<E>(work, change).map(|one| one.as_ref().and_then(main));
            if before != after {
                touched.extend(before.into_iter().chain(after).map(|(deal, _)| deal));
            }
        }
    }
    touched
}

/// What the deals name that are not deleted. Those that this commit does not change are relied on.
async fn links<E: OfDeal>(
    work: &mut UnitOfWork,
    touched: &BTreeSet<Id<Deal>>,
) -> Result<BTreeMap<Id<Deal>, Link<E::Key>>> {
    let mut links = BTreeMap::new();
    let mut unread = touched.clone();
    for change in work.staged().iter().filter(|change| is_of::<Deal>(change)) {
        let id = Id::new(change.id());
        if !unread.remove(&id) {
            continue;
        }
        let [before, after] = states::<Deal>(work, change);
        if let Some(after) = after.filter(|after| after.deleted_at.is_none()) {
            let link = Link {
                is_new: change.before().is_none(),
                before: before.and_then(|before| E::named_by(&before)),
                after: E::named_by(&after),
            };
            links.insert(id, link);
        }
    }
    let unread: Vec<_> = unread.iter().map(|id| id.uuid()).collect();
    for row in work.rows(Deal::schema(), &unread).await? {
        let Some(deal) = Record::<Deal>::from_row(row.clone()) else {
            continue;
        };
        if deal.deleted_at.is_some() {
            continue;
        }
        work.rely_on_row(row);
        let named = E::named_by(&deal);
        let link = Link {
            is_new: false,
            before: named.clone(),
            after: named,
        };
        links.insert(deal.id, link);
    }
    Ok(links)
}

type Sides<E> = BTreeMap<Id<Deal>, Vec<Side<Id<E>, <E as OfDeal>::Key>>>;

/// Records as they are stored, which are not read again to change them.
type Stored<E> = HashMap<Id<E>, Arc<Record<E>>>;

/// The records of the deals: those stored, and those changed here.
async fn sides<E: OfDeal>(
    work: &mut UnitOfWork,
    links: &BTreeMap<Id<Deal>, Link<E::Key>>,
) -> Result<(Sides<E>, Stored<E>)> {
    let mut sides: Sides<E> = BTreeMap::new();
    let mut stored = Stored::new();
    let mut staged = BTreeSet::new();
    let mut changed = Vec::new();
    for change in work.staged().iter().filter(|change| is_of::<E>(change)) {
        let [before, after] = states::<E>(work, change);
        staged.insert(change.id());
        let was_deleted = before
            .as_ref()
            .is_some_and(|before| before.deleted_at.is_some());
        let after = after.filter(|after| after.deleted_at.is_none());
        let was_main = before.filter(|before| before.is_main());
        let id = Id::new(change.id());
        // One that went to another deal is a loss for the first and new to the second.
        let moved = was_main.as_ref().zip(after.as_ref());
        let moved = moved.is_some_and(|(before, after)| before.deal() != after.deal());
        let was = was_main.as_ref().map(|before| before.key());
        if let Some(before) = was_main.filter(|_| moved || after.is_none()) {
            let side = Side {
                id,
                was_deleted,
                was_main_for: was.clone(),
                after: None,
            };
            changed.push((before.deal(), side));
        }
        if let Some(after) = after {
            let side = Side {
                id,
                was_deleted,
                was_main_for: was.filter(|_| !moved),
                after: Some((after.key(), after.is_main())),
            };
            changed.push((after.deal(), side));
        }
    }
    let known: Vec<_> = links
        .iter()
        .filter(|(_, link)| !link.is_new)
        .map(|(deal, _)| *deal)
        .collect();
    for some in known.chunks(Filter::MAX_VALUES) {
        for record in work
            .find_all(E::of_deals(some.to_vec()), Vec::new())
            .await?
        {
            if staged.contains(&record.id.uuid()) {
                continue;
            }
            let side = Side {
                id: record.id,
                was_deleted: false,
                was_main_for: record.is_main().then(|| record.key()),
                after: Some((record.key(), record.is_main())),
            };
            sides.entry(record.deal()).or_default().push(side);
            stored.insert(record.id, record);
        }
    }
    for (deal, side) in changed {
        sides.entry(deal).or_default().push(side);
    }
    Ok((sides, stored))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sides with keys that differ, as the unique key wants it, and at most one main one before.
    fn cases() -> impl Strategy<Value = (Link<u8>, Vec<Side<u8, u8>>)> {
        let side = (any::<bool>(), any::<bool>(), any::<bool>());
        let sides = proptest::collection::vec(side, 0..4);
        let named = proptest::option::of(0..5_u8);
        (any::<bool>(), 0..5_usize, named, sides).prop_map(|(changes, main, named, sides)| {
            let mut before = None;
            let sides: Vec<_> = (0_u8..)
                .zip(sides)
                .map(|(number, (was_deleted, is_live, is_main))| {
                    let was_main = usize::from(number) == main && !was_deleted;
                    before = if was_main { Some(number) } else { before };
                    Side {
                        id: number,
                        was_deleted,
                        was_main_for: was_main.then_some(number),
                        after: is_live.then_some((number, is_main)),
                    }
                })
                .collect();
            let after = if changes { named } else { before };
            let link = Link {
                is_new: false,
                before,
                after,
            };
            (link, sides)
        })
    }

    proptest! {
        /// Whatever changed: afterwards there is one main record exactly if the deal names one, and it
        /// is the one that the deal names; taken again, nothing is left to do.
        #[test]
        fn one_main_record_exactly_if_the_deal_names_one((link, sides) in cases()) {
            let mut named = link.after;
            let mut after = sides.clone();
            for step in decide(&link, &sides) {
                match step {
                    Step::Demote(id) | Step::Promote(id) => {
                        let side = after.iter_mut().find(|side| side.id == id).unwrap();
                        let state = side.after.as_mut().unwrap();
                        state.1 = !state.1;
                    }
                    Step::Begin(key) => after.push(Side {
                        id: 99,
                        was_deleted: false,
                        was_main_for: None,
                        after: Some((key, true)),
                    }),
                    Step::Name(key) => named = key,
                }
            }
            let mains: Vec<u8> = after
                .iter()
                .filter_map(|side| side.after)
                .filter_map(|(key, is_main)| is_main.then_some(key))
                .collect();
            prop_assert_eq!(mains, named.into_iter().collect::<Vec<_>>());
            // What the deal was given stays.
            prop_assert!(link.before == link.after || named == link.after);
            let settled: Vec<_> = after
                .into_iter()
                .map(|side| Side {
                    was_deleted: false,
                    was_main_for: side.after.and_then(|(key, is_main)| is_main.then_some(key)),
                    ..side
                })
                .collect();
            let link = Link { is_new: false, before: named, after: named };
            prop_assert_eq!(decide(&link, &settled), Vec::new());
        }
    }
}

//! Keeps a contact's account and its primary affiliation in step.
//!
//! [`decide`] is the whole rule, over values; [`AffiliationStep`] gathers what a commit changes,
//! reads what else the contacts have, and stages what was decided. A commit that changes neither
//! costs nothing, a new contact with an account is not read for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::NaiveDate;

use super::Contact;
use super::affiliation::{ContactAffiliation, today};
use super::relationship::contacts_of;
use crate::Id;
use crate::accounts::Account;
use crate::engine::{CommitHook, StagedChange, UnitOfWork, Workspace};
use crate::error::Result;
use crate::query::{Filter, WhereExt};
use crate::record::Record;
use crate::schema::Entity;

/// A contact's account before a commit and as the commit shall leave it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Link {
    is_new: bool,
    before: Option<Id<Account>>,
    after: Option<Id<Account>>,
}

/// An affiliation before a commit and as the commit shall leave it.
#[derive(Clone, Debug, PartialEq)]
struct Side {
    id: Id<ContactAffiliation>,
    /// Whether it was deleted before.
    was_deleted: bool,
    /// The account that it was primary for.
    was_primary_for: Option<Id<Account>>,
    /// As it shall be, unless it is deleted.
    after: Option<ContactAffiliation>,
}

/// What brings both in step.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// The affiliation is no longer primary; it ends, where it does not go on beside the other.
    Demote {
        id: Id<ContactAffiliation>,
        end: Option<NaiveDate>,
    },
    /// The affiliation becomes the primary one.
    Promote(Id<ContactAffiliation>),
    /// A new primary affiliation.
    Begin {
        account: Id<Account>,
        on: Option<NaiveDate>,
    },
    /// The contact gets this account.
    SetAccount(Option<Id<Account>>),
}

/// What brings a contact and its affiliations in step.
///
/// An account that the contact itself was given decides; else the affiliation that was made primary;
/// else, where the primary one was ended or deleted, the contact has no account. A restored
/// affiliation is primary only if the contact still has that account. A contact that changes its
/// account has left the old one; one whose other affiliation becomes primary has not.
fn decide(link: Link, sides: &[Side], today: NaiveDate) -> Vec<Step> {
    let live = || {
        sides
            .iter()
            .filter_map(|side| Some((side, side.after.as_ref()?)))
    };
    let is_candidate = |after: &ContactAffiliation| after.is_primary && !after.is_over(today);
    let candidates = || live().filter(|(_, after)| is_candidate(after));
    let is_promoted = |side: &Side, after: &ContactAffiliation| {
        !side.was_deleted && side.was_primary_for != Some(after.account_id)
    };
    let decided_by_contact = link.before != link.after;
    let promoted = candidates().rfind(|(side, after)| is_promoted(side, after));
    let lost = sides.iter().any(|side| {
        let is_lost = !side.after.as_ref().is_some_and(is_candidate);
        !side.was_deleted && side.was_primary_for.is_some() && is_lost
    });
    // One that is restored in the commit that demotes another of the same account takes its place.
    let is_replaced = candidates().any(|(_, after)| Some(after.account_id) == link.after);
    let target = match promoted {
        _ if decided_by_contact => link.after,
        Some((_, after)) => Some(after.account_id),
        None if lost && !is_replaced => None,
        None => link.after,
    };
    let matching = || candidates().filter(|(_, after)| Some(after.account_id) == target);
    let keeper = matching()
        .rfind(|(side, after)| is_promoted(side, after))
        .or_else(|| matching().next_back())
        .map(|(side, _)| side.id);

    let mut steps = Vec::new();
    for (side, after) in live().filter(|(side, after)| after.is_primary && Some(side.id) != keeper)
    {
        let leaves = decided_by_contact && !after.is_over(today);
        let end = leaves.then(|| after.started_on.map_or(today, |started| started.max(today)));
        steps.push(Step::Demote { id: side.id, end });
    }
    if let (Some(account), None) = (target, keeper) {
        let other = live().rfind(|(_, after)| {
            after.account_id == account && !after.is_primary && !after.is_over(today)
        });
        steps.push(match other {
            Some((side, _)) => Step::Promote(side.id),
            None => Step::Begin {
                account,
                // Since when a new contact works there is not known.
                on: (!link.is_new).then_some(today),
            },
        });
    }
    if target != link.after {
        steps.push(Step::SetAccount(target));
    }
    steps
}

/// Keeps [`Contact::account_id`] and the primary affiliation in step, in the same commit.
#[derive(Debug)]
pub(crate) struct AffiliationStep;

#[async_trait]
impl CommitHook for AffiliationStep {
    fn follows_erasure(&self) -> bool {
        false
    }

    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let touched = touched(work.staged());
        if touched.is_empty() {
            return Ok(());
        }
        // Two who give a contact an account at the same time: the slower one looks again.
        work.contend("contact_affiliation", &["contact_id"]);
        let today = today(work.now());
        let mut links = links(work, &touched).await?;
        // A contact that names an account which this commit deletes is at fault, and is told so.
        let gone = deleted_accounts(work.staged());
        links.retain(|_, link| link.after.is_none_or(|account| !gone.contains(&account)));
        let mut sides = sides(work, &links, today).await?;
        for (contact, link) in links {
            let sides = sides.remove(&contact).unwrap_or_default();
            for step in decide(link, &sides, today) {
                take(work, contact, step).await?;
            }
        }
        Ok(())
    }
}

async fn take(work: &mut UnitOfWork, contact: Id<Contact>, step: Step) -> Result<()> {
    match step {
        Step::Demote { id, end } => {
            let demote = |affiliation: &mut ContactAffiliation| {
                affiliation.is_primary = false;
                if end.is_some() {
                    affiliation.ended_on = end;
                }
            };
            work.update(id, &demote).await?;
        }
        Step::Promote(id) => {
            let promote = |affiliation: &mut ContactAffiliation| affiliation.is_primary = true;
            work.update(id, &promote).await?;
        }
        Step::Begin { account, on } => {
            work.create(ContactAffiliation {
                started_on: on,
                is_primary: true,
                ..ContactAffiliation::new(contact, account)
            })
            .await?;
        }
        Step::SetAccount(account) => {
            let set = |contact: &mut Contact| contact.account_id = account;
            work.update(contact, &set).await?;
        }
    }
    Ok(())
}

/// The record before and after a change, where it is not deleted.
fn states<E: Entity>(change: &StagedChange) -> [Option<Arc<Record<E>>>; 2] {
    [change.before(), change.after()].map(|row| Record::from_row(row?.clone()))
}

/// The accounts that a commit deletes.
fn deleted_accounts(staged: &[StagedChange]) -> BTreeSet<Id<Account>> {
    let accounts = staged
        .iter()
        .filter(|change| change.object() == Account::schema());
    let deleted = accounts.filter(|change| change.after().is_none_or(|row| row.is_deleted()));
    deleted.map(|change| Id::new(change.id())).collect()
}

/// The contacts whose account or affiliations a commit changes.
fn touched(staged: &[StagedChange]) -> BTreeSet<Id<Contact>> {
    let mut touched = BTreeSet::new();
    for change in staged {
        if change.object() == Contact::schema() {
            let [before, after] = states::<Contact>(change);
            let Some(after) = after.filter(|after| after.deleted_at.is_none()) else {
                continue;
            };
            let restored = before
                .as_ref()
                .is_some_and(|before| before.deleted_at.is_some());
            let before = before.and_then(|before| before.account_id);
            if restored || before != after.account_id {
                touched.insert(after.id);
            }
        } else if change.object() == ContactAffiliation::schema() {
            let [before, after] = states::<ContactAffiliation>(change);
            let key = |record: &Arc<Record<ContactAffiliation>>| {
                let is_live = record.deleted_at.is_none();
                (is_live && record.is_primary).then_some((record.contact_id, record.account_id))
            };
            let ends = after.as_ref().map(|after| after.ended_on)
                != before.as_ref().map(|before| before.ended_on);
            let (before, after) = (before.as_ref().and_then(key), after.as_ref().and_then(key));
            if before != after || (ends && after.is_some()) {
                touched.extend(before.into_iter().chain(after).map(|(contact, _)| contact));
            }
        }
    }
    touched
}

/// The accounts of the contacts that are not deleted. Those that this commit does not change are
/// relied on.
async fn links(
    work: &mut UnitOfWork,
    touched: &BTreeSet<Id<Contact>>,
) -> Result<BTreeMap<Id<Contact>, Link>> {
    let mut links = BTreeMap::new();
    let mut unread = touched.clone();
    for change in work.staged() {
        if change.object() != Contact::schema() {
            continue;
        }
        let id = Id::new(change.id());
        if !unread.remove(&id) {
            continue;
        }
        let [before, after] = states::<Contact>(change);
        if let Some(after) = after.filter(|after| after.deleted_at.is_none()) {
            let link = Link {
                is_new: before.is_none(),
                before: before.and_then(|before| before.account_id),
                after: after.account_id,
            };
            links.insert(id, link);
        }
    }
    let unread: Vec<_> = unread.into_iter().collect();
    let records = contacts_of(&Workspace::Unit(work), &unread).await?;
    for record in records {
        work.rely_on(&*record);
        let account = record.account_id;
        let link = Link {
            is_new: false,
            before: account,
            after: account,
        };
        links.insert(record.id, link);
    }
    Ok(links)
}

/// The affiliations that matter: those that go on or are primary, and those changed here.
async fn sides(
    work: &mut UnitOfWork,
    links: &BTreeMap<Id<Contact>, Link>,
    today: NaiveDate,
) -> Result<BTreeMap<Id<Contact>, Vec<Side>>> {
    let mut sides: BTreeMap<Id<Contact>, Vec<Side>> = BTreeMap::new();
    let mut staged = BTreeSet::new();
    let mut changed = Vec::new();
    for change in work.staged() {
        if change.object() != ContactAffiliation::schema() {
            continue;
        }
        let [before, after] = states::<ContactAffiliation>(change);
        staged.insert(change.id());
        let was_deleted = before
            .as_ref()
            .is_some_and(|before| before.deleted_at.is_some());
        let after = after.filter(|after| after.deleted_at.is_none());
        let was_primary = before.filter(|before| before.is_primary);
        let id = Id::new(change.id());
        // One that was given to another contact is a loss for the first and new to the second.
        let moved = was_primary.as_ref().zip(after.as_ref());
        let moved = moved.is_some_and(|(before, after)| before.contact_id != after.contact_id);
        let side = |after: Option<ContactAffiliation>, was: Option<Id<Account>>| Side {
            id,
            was_deleted,
            was_primary_for: was,
            after,
        };
        let was = was_primary.as_ref().map(|before| before.account_id);
        if let Some(before) = was_primary.filter(|_| moved || after.is_none()) {
            changed.push((before.contact_id, side(None, was)));
        }
        if let Some(after) = after {
            let was = was.filter(|_| !moved);
            changed.push((after.contact_id, side(Some(after.data.clone()), was)));
        }
    }
    let known: Vec<_> = links
        .iter()
        .filter(|(_, link)| !link.is_new)
        .map(|(contact, _)| *contact)
        .collect();
    for some in known.chunks(Filter::MAX_VALUES) {
        let matters = ContactAffiliation::IS_PRIMARY
            .eq(true)
            .or(ContactAffiliation::ENDED_ON.is_null())
            .or(ContactAffiliation::ENDED_ON.gt(today));
        let wanted = ContactAffiliation::CONTACT_ID
            .one_of(some.iter().copied())
            .and(matters);
        for record in work.find_all(wanted, Vec::new()).await? {
            if staged.contains(&record.id.uuid()) {
                continue;
            }
            let side = Side {
                id: record.id,
                was_deleted: false,
                was_primary_for: record.is_primary.then_some(record.account_id),
                after: Some(record.data.clone()),
            };
            sides.entry(record.contact_id).or_default().push(side);
        }
    }
    for (contact, side) in changed {
        sides.entry(contact).or_default().push(side);
    }
    Ok(sides)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn day(number: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 1, number).unwrap()
    }

    fn account(number: u8) -> Id<Account> {
        Id::new(Uuid::from_u128(number.into()))
    }

    fn side(number: u8) -> impl Strategy<Value = Side> {
        let was = proptest::option::of(0..3_u8);
        let ended = proptest::option::of(5..15_u32);
        (
            any::<bool>(),
            was,
            any::<bool>(),
            0..3_u8,
            ended,
            any::<bool>(),
        )
            .prop_map(
                move |(was_deleted, was, is_live, at, ended, is_primary)| Side {
                    id: Id::new(Uuid::from_u128(100 + u128::from(number))),
                    was_deleted,
                    was_primary_for: was.map(account),
                    after: is_live.then(|| ContactAffiliation {
                        started_on: Some(day(1)),
                        ended_on: ended.map(day),
                        is_primary,
                        ..ContactAffiliation::new(Id::new(Uuid::nil()), account(at))
                    }),
                },
            )
    }

    /// The contact's account and the primary affiliations after the steps.
    fn taken(link: Link, sides: &[Side], steps: &[Step]) -> (Option<Id<Account>>, Vec<Side>) {
        let (mut link, mut sides) = (link, sides.to_vec());
        for step in steps {
            let find = |sides: &mut Vec<Side>, id| {
                sides.iter_mut().position(|side| side.id == id).unwrap()
            };
            match *step {
                Step::Demote { id, end } => {
                    let place = find(&mut sides, id);
                    let after = sides[place].after.as_mut().unwrap();
                    after.is_primary = false;
                    after.ended_on = end.or(after.ended_on);
                }
                Step::Promote(id) => {
                    let place = find(&mut sides, id);
                    sides[place].after.as_mut().unwrap().is_primary = true;
                }
                Step::Begin { account, on } => sides.push(Side {
                    id: Id::new(Uuid::from_u128(999)),
                    was_deleted: false,
                    was_primary_for: None,
                    after: Some(ContactAffiliation {
                        started_on: on,
                        is_primary: true,
                        ..ContactAffiliation::new(Id::new(Uuid::nil()), account)
                    }),
                }),
                Step::SetAccount(account) => link.after = account,
            }
        }
        (link.after, sides)
    }

    proptest! {
        /// whatever a commit changed, afterwards there is one primary affiliation exactly if
        /// the contact has an account, it is with that account, and it is not over. Deciding again
        /// finds nothing to do.
        #[test]
        fn always_in_step(
            sides in (side(0), side(1), side(2)),
            before in proptest::option::of(0..3_u8),
            after in proptest::option::of(0..3_u8),
            is_new: bool,
        ) {
            let sides = vec![sides.0, sides.1, sides.2];
            let link = Link { is_new, before: before.map(account), after: after.map(account) };
            let today = day(10);
            let (account, sides) = taken(link, &sides, &decide(link, &sides, today));
            let primary: Vec<_> = sides
                .iter()
                .filter_map(|side| side.after.as_ref())
                .filter(|after| after.is_primary)
                .collect();
            prop_assert!(primary.iter().all(|after| !after.is_over(today)));
            let accounts: Vec<_> = primary.iter().map(|after| after.account_id).collect();
            prop_assert_eq!(accounts, account.into_iter().collect::<Vec<_>>());
            if link.before != link.after {
                prop_assert_eq!(account, link.after);
            }
            let settled: Vec<_> = sides
                .into_iter()
                .map(|side| Side {
                    was_deleted: false,
                    was_primary_for: side.after.as_ref().filter(|a| a.is_primary).map(|a| a.account_id),
                    ..side
                })
                .collect();
            let link = Link { is_new: false, before: account, after: account };
            prop_assert_eq!(decide(link, &settled, today), Vec::new());
        }
    }
}

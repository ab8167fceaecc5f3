//! What is checked when territories are written, and the match when accounts are.

use async_trait::async_trait;

use super::Territory;
use super::matcher::Matcher;
use crate::Id;
use crate::accounts::Account;
use crate::engine::{Remembered, UnitOfWork, Write, WriteRule};
use crate::error::Result;
use crate::hierarchy::ensure_no_cycle;
use crate::query::{Condition, Criteria, Refusal, WhereExt};
use crate::record::Record;
use crate::schema::{AnyRecord, Entity, FieldSet, Registry};

/// What is noted about an account whose territory the match itself writes.
pub(super) const MATCHED: &str = "territory matched";

/// Binds criteria to the schema of accounts; gives the fields that they look at besides.
pub(super) fn bind(
    criteria: &Criteria,
    registry: &Registry,
) -> Result<(Condition, FieldSet), Refusal> {
    let own = [
        Account::TERRITORY_ID.name(),
        Account::TERRITORY_IS_MANUAL.name(),
    ];
    let own: Vec<&str> = own.iter().map(AsRef::as_ref).collect();
    criteria.bind(Account::schema(), registry, &own)
}

/// no territory is above and below itself. Criteria fit the schema of accounts.
#[derive(Debug)]
pub(crate) struct TerritoryRules;

#[async_trait]
impl WriteRule for TerritoryRules {
    fn object(&self) -> &'static str {
        "territory"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Territory>() else {
            return Ok(());
        };
        if write.deletes() {
            return Ok(());
        }
        let before = write.before::<Territory>();
        let is_new_parent =
            before.and_then(|own| own.parent_territory_id) != after.parent_territory_id;
        let (id, parent) = (after.id, after.parent_territory_id);
        let is_new_criteria = before.is_none_or(|before| before.criteria != after.criteria);
        let criteria = after.criteria.as_ref().filter(|_| is_new_criteria);
        let registry = &*work.registry().await?;
        let refusal = criteria.and_then(|criteria| bind(criteria, registry).err());
        if let Some(refusal) = refusal {
            let field = Territory::CRITERIA.name();
            write.faults().add(field, refusal.code, refusal.message);
        }
        if let Some(parent) = parent.filter(|_| is_new_parent) {
            ensure_no_cycle(work, id, parent, "R-086").await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Remembered for Matcher {
    const OBJECTS: &'static [&'static str] = &["territory"];

    async fn load(work: &UnitOfWork) -> Result<Self> {
        let active = Territory::IS_ACTIVE
            .eq(true)
            .and(Territory::ARCHIVED_AT.is_null());
        let territories = work.find_all(active, Vec::new()).await?;
        Ok(Self::new(territories, &*work.registry().await?))
    }
}

/// The territory of an account, and whether it was given by hand.
type Assignment = (Option<Id<Territory>>, bool);

/// What becomes of an account's territory in a write.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// It stays as it is written.
    Keep,
    /// It was given by hand, or taken away.
    ByHand(bool),
    /// The match decides, if something changed that territories look at.
    Match,
}

/// C-020: a territory given by hand stays. Who takes it away gives the account back to the match,
/// from its next change on: a territory that is deleted leaves its accounts so.
fn decide(before: Option<Assignment>, after: Assignment) -> Decision {
    let (was, was_manual) = before.unwrap_or_default();
    let (is, is_manual) = after;
    match is {
        _ if is_manual && !was_manual => Decision::Keep,
        Some(_) if was != is => Decision::ByHand(true),
        None if was.is_some() => Decision::ByHand(false),
        _ if is_manual => Decision::Keep,
        _ => Decision::Match,
    }
}

/// C-020: accounts are matched to territories when they are written.
#[derive(Debug)]
pub(crate) struct AssignmentRule;

#[async_trait]
impl WriteRule for AssignmentRule {
    fn object(&self) -> &'static str {
        "account"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Account>() else {
            return Ok(());
        };
        if write.deletes() {
            return Ok(());
        }
        let id = after.id.uuid();
        if let Some(note) = work.take_note(id) {
            if note == MATCHED {
                return Ok(());
            }
            work.set_note(id, Some(&note));
        }
        let assignment = |account: &Account| (account.territory_id, account.territory_is_manual);
        let before = write.before::<Account>();
        match decide(before.map(|own| assignment(own)), assignment(after)) {
            Decision::Keep => Ok(()),
            Decision::ByHand(is_manual) => {
                write.edit(|account: &mut Account| account.territory_is_manual = is_manual);
                Ok(())
            }
            Decision::Match => {
                let matcher = work.remembered::<Matcher>().await?;
                let looked_at = before
                    .filter(|before| before.deleted_at.is_none())
                    .map(|before| {
                        let changed = AnyRecord::differing(after, before);
                        changed.iter().any(|index| matcher.fields().contains(index))
                    });
                if matcher.is_empty() || looked_at == Some(false) {
                    return Ok(());
                }
                let current = after.territory_id;
                let stored = work.with_stored_values(write).await?;
                let Some(account) = Record::<Account>::from_row(stored) else {
                    return Ok(());
                };
                let best = matcher.best(&account);
                let territory = best.map(|territory| territory.id);
                if territory == current {
                    return Ok(());
                }
                if let Some(best) = best {
                    // Whether it still takes the account is found out by the commit.
                    work.rely_on(&**best);
                }
                write.edit(|account: &mut Account| account.territory_id = territory);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_given_by_hand_stays() {
        let one = Some(Id::new(Uuid::from_u128(1)));
        let two = Some(Id::new(Uuid::from_u128(2)));
        let cases = [
            // A new account.
            (None, (None, false), Decision::Match),
            (None, (one, false), Decision::ByHand(true)),
            (None, (one, true), Decision::Keep),
            // One that the match gave a territory, or none.
            (Some((None, false)), (None, false), Decision::Match),
            (Some((one, false)), (one, false), Decision::Match),
            (Some((one, false)), (two, false), Decision::ByHand(true)),
            (Some((one, false)), (None, false), Decision::ByHand(false)),
            (Some((one, false)), (one, true), Decision::Keep),
            // One that was given by hand.
            (Some((one, true)), (one, true), Decision::Keep),
            (Some((one, true)), (two, true), Decision::ByHand(true)),
            (Some((one, true)), (None, true), Decision::ByHand(false)),
        ];
        for (before, after, decision) in cases {
            assert_eq!(decide(before, after), decision, "{before:?} -> {after:?}");
        }
    }
}

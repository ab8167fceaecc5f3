//! Keeps leads and their memberships in step at the end of a commit.
//!
//! [`wanted`] says what a change of a lead means for its memberships, over values; [`CampaignStep`]
//! gathers the changes of a commit, reads the memberships of the leads concerned at once, and stages
//! what follows. A commit that concerns none costs nothing; a new lead is not read for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;

use super::members::IN_STEP;
use super::{Campaign, CampaignMember, MemberStatus, Person};
use crate::Id;
use crate::contacts::Contact;
use crate::engine::{CommitHook, StagedChange, UnitOfWork};
use crate::error::Result;
use crate::leads::Lead;
use crate::query::WhereExt;
use crate::record::Record;
use crate::schema::Entity;

/// What a change of a lead means for its memberships.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    is_new: bool,
    /// The lead must be a member of this campaign.
    joins: Option<Id<Campaign>>,
    /// The campaign that brought it no more.
    leaves: Option<Id<Campaign>>,
    /// What a conversion, or its undoing, made of the contact.
    turns: Option<Turn>,
}

/// A conversion or its undoing, with the contact that the lead became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Converted(Option<Id<Contact>>),
    Undone(Option<Id<Contact>>),
}

/// What a change of a lead means for its memberships; nothing for one that is deleted.
fn wanted(before: Option<&Record<Lead>>, after: &Record<Lead>) -> Option<Wanted> {
    if after.deleted_at.is_some() {
        return None;
    }
    let was_there = before.filter(|before| before.deleted_at.is_none());
    let was = before.and_then(|before| before.source.campaign_id);
    let is = after.source.campaign_id;
    let contact = |lead: &Record<Lead>| {
        let conversion = lead.conversion.as_ref();
        conversion.map(|conversion| conversion.contact_id)
    };
    let turns = match (before.and_then(contact), contact(after)) {
        (None, Some(contact)) => Some(Turn::Converted(contact)),
        (Some(contact), None) => Some(Turn::Undone(contact)),
        _ => None,
    };
    let wanted = Wanted {
        is_new: before.is_none(),
        joins: is.filter(|_| was_there.is_none() || was != is),
        leaves: was.filter(|_| was != is),
        turns,
    };
    let nothing = Wanted {
        is_new: wanted.is_new,
        ..Wanted::default()
    };
    (wanted != nothing).then_some(wanted)
}

/// The leads that a commit concerns: those that change their campaign or are converted, and those
/// that lose a membership.
fn concerned(staged: &[StagedChange]) -> (BTreeMap<Id<Lead>, Wanted>, BTreeSet<Id<Lead>>) {
    let mut changed = BTreeMap::new();
    let mut removed = BTreeSet::new();
    for change in staged {
        if change.object() == Lead::schema() {
            let before = change.before().cloned().and_then(Record::<Lead>::from_row);
            let after = change.after().cloned().and_then(Record::<Lead>::from_row);
            let wanted = after.and_then(|after| {
                let wanted = wanted(before.as_deref(), &after)?;
                Some((after.id, wanted))
            });
            changed.extend(wanted);
        } else if change.object() == CampaignMember::schema() {
            let is_gone = change.after().is_none_or(|after| after.is_deleted());
            let member = |row| Record::<CampaignMember>::from_row(row);
            let before = change.before().cloned().and_then(member);
            let after = change.after().cloned().and_then(member);
            let was = before
                .filter(|before| before.deleted_at.is_none())
                .and_then(|before| before.lead_id);
            let is = after.filter(|_| !is_gone).and_then(|after| after.lead_id);
            removed.extend(was.filter(|_| was != is || is_gone));
        }
    }
    (changed, removed)
}

/// C-208: a lead with a campaign is a member of it; a converted lead and its contact are one member.
#[derive(Debug)]
pub(crate) struct CampaignStep;

#[async_trait]
impl CommitHook for CampaignStep {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let (mut changed, removed) = concerned(work.staged());
        // Whoever lost a membership must not have lost that of the first touch.
        let left: Vec<_> = removed
            .into_iter()
            .filter(|lead| !changed.contains_key(lead))
            .map(Id::uuid)
            .collect();
        if !left.is_empty() {
            for row in work.rows(Lead::schema(), &left).await? {
                if let Some(lead) = Record::<Lead>::from_row(row)
                    && lead.deleted_at.is_none()
                    && lead.source.campaign_id.is_some()
                {
                    work.rely_on(&*lead);
                    // Of a converted lead it is a converted membership again.
                    let conversion = lead.conversion.as_ref();
                    let wanted = Wanted {
                        joins: lead.source.campaign_id,
                        turns: conversion.map(|one| Turn::Converted(one.contact_id)),
                        ..Wanted::default()
                    };
                    changed.insert(lead.id, wanted);
                }
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        work.contend("campaign_member", &["campaign_id", "lead_id"]);
        work.contend("campaign_member", &["campaign_id", "contact_id"]);
        let mut known = members_of(work, &changed).await?;
        for (lead, wanted) in changed {
            let members = known.remove(&lead).unwrap_or_default();
            bring_in_step(work, lead, wanted, members).await?;
        }
        Ok(())
    }
}

type Members = Vec<Arc<Record<CampaignMember>>>;

/// The live members that the leads are. A new lead is only one by what is staged.
async fn members_of(
    work: &UnitOfWork,
    changed: &BTreeMap<Id<Lead>, Wanted>,
) -> Result<BTreeMap<Id<Lead>, Members>> {
    let mut known: BTreeMap<Id<Lead>, Members> = BTreeMap::new();
    let stored: Vec<Id<Lead>> = changed
        .iter()
        .filter(|(_, wanted)| !wanted.is_new)
        .map(|(lead, _)| *lead)
        .collect();
    let mut members = Vec::new();
    if !stored.is_empty() {
        let of_leads = CampaignMember::LEAD_ID.one_of(stored);
        members = work.find_all(of_leads, Vec::new()).await?;
    }
    let staged = work.staged().iter().filter_map(|change| {
        let member = Record::<CampaignMember>::from_row(change.after()?.clone())?;
        let of_new = changed.get(&member.lead_id?)?.is_new;
        (of_new && member.deleted_at.is_none()).then_some(member)
    });
    members.extend(staged);
    for member in members {
        if let Some(lead) = member.lead_id {
            known.entry(lead).or_default().push(member);
        }
    }
    Ok(known)
}

async fn bring_in_step(
    work: &mut UnitOfWork,
    lead: Id<Lead>,
    wanted: Wanted,
    mut members: Members,
) -> Result<()> {
    let leaves = |member: &Arc<Record<CampaignMember>>| {
        Some(member.campaign_id) == wanted.leaves && member.is_first_touch
    };
    if let Some(place) = members.iter().position(leaves) {
        let member = members.swap_remove(place);
        work.delete_row(member).await?;
    }
    let is_member = |campaign| {
        let mut all = members.iter();
        all.any(|member| member.campaign_id == campaign)
    };
    if let Some(campaign) = wanted.joins.filter(|campaign| !is_member(*campaign)) {
        let now = work.now();
        let member = CampaignMember {
            status: MemberStatus::Responded,
            responded_at: Some(now),
            is_first_touch: true,
            ..Person::Lead(lead).member_of(campaign)
        };
        // Before its conversion is followed, so that this one is converted too.
        members.push(work.create(member).await?);
    }
    match wanted.turns {
        Some(Turn::Converted(contact)) => convert(work, members, contact).await,
        Some(Turn::Undone(contact)) => undo(work, members, contact).await,
        None => Ok(()),
    }
}

/// The memberships of a lead become those of its contact, too, where the contact is not a member of
/// the same campaign already.
async fn convert(
    work: &mut UnitOfWork,
    members: Members,
    contact: Option<Id<Contact>>,
) -> Result<()> {
    let mut taken = BTreeSet::new();
    if let Some(contact) = contact
        && !members.is_empty()
    {
        let campaigns = members.iter().map(|member| member.campaign_id);
        let held = CampaignMember::CONTACT_ID
            .eq(contact)
            .and(CampaignMember::CAMPAIGN_ID.one_of(campaigns));
        let held = work.find_all(held, Vec::new()).await?;
        taken.extend(held.iter().map(|member| member.campaign_id));
    }
    for member in members {
        let contact = contact.filter(|_| !taken.contains(&member.campaign_id));
        set(work, member, |member| {
            member.status = MemberStatus::Converted;
            member.contact_id = member.contact_id.or(contact);
        })
        .await?;
    }
    Ok(())
}

/// The memberships of a lead are its own again, as they were before its conversion.
async fn undo(work: &mut UnitOfWork, members: Members, contact: Option<Id<Contact>>) -> Result<()> {
    for member in members {
        if member.status != MemberStatus::Converted {
            continue;
        }
        set(work, member, |member| {
            member.status = match member.responded_at {
                Some(_) => MemberStatus::Responded,
                None => MemberStatus::Sent,
            };
            if member.contact_id == contact {
                member.contact_id = None;
            }
        })
        .await?;
    }
    Ok(())
}

/// Writes a member for the engine.
async fn set(
    work: &mut UnitOfWork,
    member: Arc<Record<CampaignMember>>,
    change: impl Fn(&mut CampaignMember) + Send + Sync,
) -> Result<()> {
    let id = member.id;
    work.set_note(id.uuid(), Some(IN_STEP));
    let written = work.update(id, &change).await;
    work.set_note(id.uuid(), None);
    written.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::Conversion;
    use crate::record::{Actor, Stamp};
    use crate::schema::Meta;
    use uuid::Uuid;

    fn lead(campaign: Option<u128>, is_deleted: bool) -> Record<Lead> {
        let at = chrono::DateTime::UNIX_EPOCH;
        let stamp = Stamp {
            at,
            by: Actor::System,
        };
        let meta = Meta {
            deleted_at: is_deleted.then_some(at),
            ..Meta::first(Uuid::from_u128(1), stamp)
        };
        let mut lead = Lead::default();
        lead.source.campaign_id = campaign.map(|id| Id::new(Uuid::from_u128(id)));
        Record::new(meta, lead)
    }

    #[test]
    fn a_change_of_a_lead_says_where_it_joins_and_leaves() {
        let id = |number| Some(Id::new(Uuid::from_u128(number)));
        let (none, one, two) = (
            lead(None, false),
            lead(Some(1), false),
            lead(Some(2), false),
        );
        let gone = lead(Some(1), true);
        assert_eq!(wanted(None, &none), None);
        assert_eq!(wanted(Some(&one), &one), None);
        assert_eq!(wanted(Some(&one), &gone), None);
        let says = |before: Option<&Record<Lead>>, after| {
            wanted(before, after).map(|wanted| (wanted.joins, wanted.leaves))
        };
        assert_eq!(says(None, &one), Some((id(1), None)));
        assert_eq!(says(Some(&one), &two), Some((id(2), id(1))));
        assert_eq!(says(Some(&one), &none), Some((None, id(1))));
        assert_eq!(says(Some(&gone), &one), Some((id(1), None)));
        let mut converted = lead(Some(1), false);
        converted.data.conversion = Some(Conversion::new(chrono::DateTime::UNIX_EPOCH));
        let turns = |before, after| wanted(Some(before), after).and_then(|wanted| wanted.turns);
        assert_eq!(turns(&one, &converted), Some(Turn::Converted(None)));
        assert_eq!(turns(&converted, &one), Some(Turn::Undone(None)));
    }
}

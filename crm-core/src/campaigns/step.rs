//! Keeps leads and their memberships in step at the end of a commit.
//!
//! [`wanted`] says what a change of a lead means for its memberships, over values; [`CampaignStep`]
//! gathers the changes of a commit, reads the memberships of the leads concerned at once, and stages
//! what follows. A commit that concerns none costs nothing; a new lead is not read for.
//!
//! A conversion carries memberships over like everything else that leads to the lead, writes that
//! down, and gives them back by it; only what that means for a member's status is told here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;

use super::members::IN_STEP;
use super::{Campaign, CampaignMember, MemberStatus, Person};
use crate::Id;
use crate::engine::{CommitHook, StagedChange, UnitOfWork};
use crate::error::Result;
use crate::leads::Lead;
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
}

/// What a change of a lead means for its memberships; nothing for one that is deleted.
fn wanted(before: Option<&Record<Lead>>, after: &Record<Lead>) -> Option<Wanted> {
    if after.deleted_at.is_some() {
        return None;
    }
    let was_there = before.filter(|before| before.deleted_at.is_none());
    let was = before.and_then(|before| before.source.campaign_id);
    let is = after.source.campaign_id;
    let wanted = Wanted {
        is_new: before.is_none(),
        joins: is.filter(|_| was_there.is_none() || was != is),
        leaves: was.filter(|_| was != is),
    };
    let nothing = Wanted {
        is_new: wanted.is_new,
        ..Wanted::default()
    };
    (wanted != nothing).then_some(wanted)
}

/// What a commit concerns.
#[derive(Default)]
struct Concerned {
    /// The leads that change their campaign.
    changed: BTreeMap<Id<Lead>, Wanted>,
    /// The leads that lose a membership.
    removed: BTreeSet<Id<Lead>>,
    /// The memberships of leads that are restored, as with their contact.
    restored: BTreeSet<Id<CampaignMember>>,
}

fn concerned(staged: &[StagedChange]) -> Concerned {
    let mut concerned = Concerned::default();
    let Concerned {
        changed,
        removed,
        restored,
    } = &mut concerned;
    for change in staged {
        if change.object() == Lead::schema() {
            let before = change.before().cloned().and_then(Record::<Lead>::from_row);
            let after = change.after().cloned().and_then(Record::<Lead>::from_row);
            let wanted = after.and_then(|after| {
                let wanted = wanted(before.as_deref(), &after)?;
                Some((after.id, wanted))
            });
            if let Some((lead, wanted)) = wanted {
                changed.insert(lead, wanted);
            }
        } else if change.object() == CampaignMember::schema() {
            let is_gone = change.after().is_none_or(|after| after.is_deleted());
            let member = |row| Record::<CampaignMember>::from_row(row);
            let before = change.before().cloned().and_then(member);
            let after = change.after().cloned().and_then(member);
            let returns = before
                .as_ref()
                .is_some_and(|before| before.deleted_at.is_some());
            if let Some(after) = after.as_ref().filter(|_| returns && !is_gone)
                && let Some(lead) = after.lead_id
            {
                restored.insert(after.id);
                changed.entry(lead).or_insert_with(Wanted::default);
            }
            let was = before
                .filter(|before| before.deleted_at.is_none())
                .and_then(|before| before.lead_id);
            let is = after.filter(|_| !is_gone).and_then(|after| after.lead_id);
            removed.extend(was.filter(|_| was != is || is_gone));
        }
    }
    concerned
}

/// C-208: a lead with a campaign is a member of it.
#[derive(Debug)]
pub(crate) struct CampaignStep;

#[async_trait]
impl CommitHook for CampaignStep {
    fn follows_erasure(&self) -> bool {
        false
    }

    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let Concerned {
            mut changed,
            removed,
            restored,
        } = concerned(work.staged());
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
                    let wanted = Wanted {
                        joins: lead.source.campaign_id,
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
            bring_in_step(work, lead, wanted, members, &restored).await?;
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
    restored: &BTreeSet<Id<CampaignMember>>,
) -> Result<()> {
    // One that was made in the place of a restored one gives way.
    let (back, others): (Members, Members) = members
        .into_iter()
        .partition(|member| restored.contains(&member.id));
    members = back;
    for member in others {
        let mut back = members.iter();
        let is_twin = back.any(|one| one.campaign_id == member.campaign_id);
        if is_twin && member.contact_id.is_none() {
            work.delete_row(member).await?;
        } else {
            members.push(member);
        }
    }
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
        work.create(member).await?;
    }
    Ok(())
}

/// A membership of a lead that is being converted: whoever became a contact is converted. Gives the
/// member as it is now.
pub(crate) async fn convert_member(
    work: &mut UnitOfWork,
    member: Id<CampaignMember>,
) -> Result<Arc<Record<CampaignMember>>> {
    work.set_note(member.uuid(), Some(IN_STEP));
    let convert = |member: &mut CampaignMember| member.status = MemberStatus::Converted;
    let written = work.update(member, &convert).await;
    work.set_note(member.uuid(), None);
    written
}

/// A membership that a conversion gives back: who responded since has done so.
pub(crate) fn give_member_back(member: &mut CampaignMember) {
    if member.status == MemberStatus::Sent && member.responded_at.is_some() {
        member.status = MemberStatus::Responded;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    }
}

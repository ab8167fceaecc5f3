//! How the actions of a rule are done: through the services and rules of what they write.

use std::sync::Arc;

use chrono::{DateTime, Days, TimeDelta, Utc};
use serde_json::Map;

use super::action::patch;
use super::rules::missing_links;
use super::{Action, Assignee, AutomationRule, NewActivity};
use crate::Id;
use crate::activities::{Activity, ActivityLinks, local_date, start_of_day};
use crate::collaboration::Mention;
use crate::deals::Deal;
use crate::engine::UnitOfWork;
use crate::error::{Faults, Result, RuleViolation};
use crate::identity::User;
use crate::record::Record;
use crate::schema::Entity;
use crate::value::TimeZone;

/// Does one action of a rule for a deal, which stands as the actions before left it.
pub(super) async fn perform(
    work: &mut UnitOfWork,
    rule: &AutomationRule,
    action: &Action,
    id: Id<Deal>,
) -> Result<()> {
    match action {
        Action::SetFields { fields } => {
            let mut faults = Faults::default();
            for fault in missing_links(work, fields).await? {
                faults.push(fault);
            }
            faults.into_result()?;
            let version = work.get(id).await?.version;
            let fields = patch(fields);
            let mut deals = work.object(Deal::schema().name()).await?;
            deals.merge(id.uuid(), version, &fields).await?;
        }
        Action::MoveToStage { stage_id } => {
            let stage = *stage_id;
            work.set_note(id.uuid(), Some(&rule.rule_name));
            let moved = work
                .update(id, &|deal: &mut Deal| deal.stage_id = Some(stage))
                .await;
            work.set_note(id.uuid(), None);
            moved?;
        }
        Action::AssignOwner { to } => {
            let deal = work.get(id).await?;
            let owner = resolve(work, &deal, *to).await?.id;
            work.update(id, &|deal: &mut Deal| deal.owner_id = Some(owner))
                .await?;
        }
        Action::AddTags { tags } => {
            let add = |deal: &mut Deal| {
                for tag in tags {
                    if !deal.tags.contains(tag) {
                        deal.tags.push(tag.clone());
                    }
                }
            };
            work.update(id, &add).await?;
        }
        Action::RemoveTags { tags } => {
            let remove = |deal: &mut Deal| deal.tags.retain(|tag| !tags.contains(tag));
            work.update(id, &remove).await?;
        }
        Action::CreateActivity(activity) => {
            let deal = work.get(id).await?;
            let owner = resolve(work, &deal, activity.owner).await?;
            let activity = instance(activity, &deal, &owner, work.now());
            work.activities().create(activity).await?;
        }
        Action::ApplyTemplate { template_id } => {
            let deal = work.get(id).await?;
            let none = Map::new();
            let links = links(&deal);
            work.activities()
                .from_template(*template_id, links, &none)
                .await?;
        }
        Action::AddComment { body, notify } => {
            let deal = work.get(id).await?;
            let mut users = Vec::new();
            for to in notify {
                users.push(resolve(work, &deal, *to).await?.id);
            }
            let comment = work.comments().write(id, body).await?.id;
            if users.is_empty() {
                return Ok(());
            }
            let of_comment = Mention::COMMENT_ID.eq(comment);
            let known = work.find_all(of_comment, Vec::new()).await?;
            let mut known: Vec<Id<User>> = known.iter().map(|mention| mention.user_id).collect();
            for user in users {
                if !known.contains(&user) {
                    known.push(user);
                    work.create(Mention::new(comment, user)).await?;
                }
            }
        }
        Action::AddNote { title, body } => {
            work.comments().note(id, title, body).await?;
        }
    }
    Ok(())
}

/// What activities of a deal belong to.
fn links(deal: &Record<Deal>) -> ActivityLinks {
    ActivityLinks {
        account_id: deal.account_id,
        contact_id: deal.contact_id,
        ..ActivityLinks::from(deal.id)
    }
}

fn instance(
    activity: &NewActivity,
    deal: &Record<Deal>,
    owner: &Record<User>,
    now: DateTime<Utc>,
) -> Activity {
    let due = activity.due_in_days;
    let due = due.and_then(|days| end_of_day(now, days, owner.timezone));
    Activity {
        description: activity.description.clone(),
        due_date: due,
        priority: activity.priority,
        ..Activity::new(
            activity.activity_type,
            activity.subject.as_str(),
            links(deal),
            owner.id,
        )
    }
}

/// The last second of a day, so many days from now, where the user lives.
fn end_of_day(now: DateTime<Utc>, days: u32, zone: TimeZone) -> Option<DateTime<Utc>> {
    let next = local_date(now, zone).checked_add_days(Days::new(u64::from(days) + 1))?;
    start_of_day(next, zone).checked_sub_signed(TimeDelta::seconds(1))
}

/// The user whom a rule means.
async fn resolve(
    work: &mut UnitOfWork,
    deal: &Record<Deal>,
    to: Assignee,
) -> Result<Arc<Record<User>>> {
    let user = match to {
        Assignee::User(user) => Some(user),
        Assignee::DealOwner => deal.owner_id,
        Assignee::OwnersManager => match relied(work, deal.owner_id).await? {
            Some(owner) => owner.manager_id,
            None => None,
        },
        Assignee::AccountOwner => match relied(work, deal.account_id).await? {
            Some(account) => account.owner_id,
            None => None,
        },
        Assignee::AccountManager => match relied(work, deal.account_id).await? {
            Some(account) => account.account_manager_id,
            None => None,
        },
        Assignee::ContactOwner => match relied(work, deal.contact_id).await? {
            Some(contact) => contact.owner_id,
            None => None,
        },
    };
    // Who is deleted meanwhile gets nothing.
    relied(work, user).await?.ok_or_else(|| {
        let told = "the rule means a user whom the deal does not have, or who is gone";
        RuleViolation::new("no_assignee", "C-022", told).into()
    })
}

/// A live record that is relied on, and read once however many deals lead to it.
async fn relied<E: Entity>(
    work: &mut UnitOfWork,
    id: Option<Id<E>>,
) -> Result<Option<Arc<Record<E>>>> {
    let Some(id) = id else {
        return Ok(None);
    };
    let found = work.lookup(id).await?;
    if let Some(found) = &found {
        work.rely_on_row(found.clone());
    }
    Ok(found)
}

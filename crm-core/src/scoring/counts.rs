//! How many activities leads have, as rules ask for it: for many leads at once.

use std::collections::{BTreeSet, HashMap};

use chrono::TimeDelta;
use uuid::Uuid;

use super::settings::ActivityCount;
use crate::Id;
use crate::activities::{Activity, ActivityLinks, ActivityStatus};
use crate::engine::UnitOfWork;
use crate::error::Result;
use crate::leads::Lead;
use crate::query::Aggregate;
use crate::schema::{Entity, FieldOf, ValueRef};

/// The link of an activity to a lead.
const LEAD: FieldOf<Activity, Id<Lead>> = Activity::LINKS.at(ActivityLinks::LEAD_ID);

/// Which activities one look-up brings: those of the last so many days, if it is so many, by their
/// completion or else by their creation.
type Window = Option<(u32, bool)>;

fn window(counted: &ActivityCount) -> Window {
    let is_completed = counted.status == Some(ActivityStatus::Completed);
    counted.within_days.map(|days| (days, is_completed))
}

/// The numbers that `counted` asks for, in its order, for each of the leads: one look-up for all
/// leads and for all counts over the same days. Leads without any are left out.
pub(super) async fn activity_counts(
    work: &UnitOfWork,
    counted: &[ActivityCount],
    leads: &[Uuid],
) -> Result<HashMap<Uuid, Vec<i64>>> {
    let mut counts: HashMap<Uuid, Vec<i64>> = HashMap::new();
    if leads.is_empty() {
        return Ok(counts);
    }
    let registry = &*work.registry().await?;
    let windows: BTreeSet<Window> = counted.iter().map(window).collect();
    for of in windows {
        let ids = leads.iter().map(|id| Id::<Lead>::new(*id));
        let mut aggregate = Aggregate::<Activity>::new()
            .with_archived()
            .filter(LEAD.one_of(ids))
            .group_by(LEAD)
            .group_by(Activity::ACTIVITY_TYPE)
            .group_by(Activity::STATUS)
            .count();
        if let Some((days, is_completed)) = of {
            let from = work.now() - TimeDelta::days(days.into());
            aggregate = if is_completed {
                let completed = Activity::STATUS.eq(ActivityStatus::Completed);
                aggregate
                    .filter(completed)
                    .filter(Activity::COMPLETED_AT.ge(from))
            } else {
                aggregate.filter(Activity::CREATED_AT.ge(from))
            };
        }
        let query = aggregate.bind(Activity::schema(), registry)?;
        for group in work.aggregate(&query).await? {
            let ValueRef::Uuid(lead) = group.key(0) else {
                continue;
            };
            let (kind, status) = (group.key(1), group.key(2));
            let number = i64::try_from(group.count(0)).unwrap_or(i64::MAX);
            for (place, one) in counted.iter().enumerate() {
                let is_kind = one
                    .activity_type
                    .is_none_or(|own| kind == ValueRef::Text(own.as_str()));
                let stands = one
                    .status
                    .is_none_or(|own| status == ValueRef::Text(own.as_str()));
                if window(one) == of && is_kind && stands {
                    let counts = counts.entry(lead).or_insert_with(|| vec![0; counted.len()]);
                    if let Some(count) = counts.get_mut(place) {
                        *count += number;
                    }
                }
            }
        }
    }
    Ok(counts)
}

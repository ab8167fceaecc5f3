//! What a user has to do: overdue, today, soon; in the days of the user's time zone.

use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, Utc};

use super::days::{local_date, start_of_day, whole_day};
use super::{Activity, ActivityStatus};
use crate::Id;
use crate::engine::{Records, Workspace};
use crate::error::{FieldError, Result, codes};
use crate::identity::User;
use crate::query::{AggregateQuery, Condition, Cursor, Find, Page, Where, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, FieldOf};
use crate::value::TimeZone;

/// How far [`ActivityList::Upcoming`] looks ahead at most, in days.
const FARTHEST_DAYS: u32 = 3_660;

/// A list of the open activities of a user. An activity may be on several of them.
///
/// Whose it is: whom it was given to or, if it was given to nobody, its owner's. Archived ones are
/// on no list. Days begin where the user lives; an activity of a whole day is on the list of that
/// day of the calendar, wherever the user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivityList {
    /// Was to be done before now: its due date is past or, where there is none, the time at which
    /// it was to begin. One of a whole day is overdue once the day is over.
    Overdue,
    /// Begins or is due today.
    Today,
    /// Begins or is due within so many days after today.
    Upcoming {
        /// How many days.
        days: u32,
    },
}

/// How many activities are on each list of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActivityCounts {
    /// Those that are overdue.
    pub overdue: u64,
    /// Those of today.
    pub today: u64,
    /// Those of the days after today that were asked for.
    pub upcoming: u64,
}

impl ActivityList {
    /// The open activities of `user` on this list, at a moment in a time zone.
    ///
    /// # Errors
    /// [`Error::Validation`](crate::Error::Validation) if the days reach too far.
    fn filter(self, user: Id<User>, now: DateTime<Utc>, zone: TimeZone) -> Result<Where<Activity>> {
        let today = local_date(now, zone);
        let on_list = match self {
            Self::Overdue => {
                let past = |field: FieldOf<Activity, DateTime<Utc>>| {
                    by_kind(field.lt(now), field.lt(whole_day(today)))
                };
                past(Activity::DUE_DATE).or(Activity::DUE_DATE
                    .is_null()
                    .and(past(Activity::SCHEDULED_AT)))
            }
            Self::Today => within(today, later(today, 1)?, zone),
            Self::Upcoming { days } => {
                let first = later(today, 1)?;
                within(first, later(first, days)?, zone)
            }
        };
        Ok(of_user(user).and(is_open()).and(on_list))
    }
}

/// So many days later.
fn later(day: NaiveDate, days: u32) -> Result<NaiveDate> {
    let far = FieldError::new("days", codes::OUT_OF_RANGE, "use at most 3660 days");
    if days > FARTHEST_DAYS {
        return Err(far.into());
    }
    day.checked_add_days(Days::new(days.into()))
        .ok_or_else(|| far.into())
}

/// Given to the user, or owned by the user and given to nobody.
fn of_user(user: Id<User>) -> Where<Activity> {
    let owned = Activity::ASSIGNED_TO
        .is_null()
        .and(Activity::OWNER_ID.eq(user));
    Activity::ASSIGNED_TO.eq(user).or(owned)
}

pub(super) fn is_open() -> Where<Activity> {
    let open = ActivityStatus::ALL
        .iter()
        .filter(|status| !status.is_finished());
    Activity::STATUS.one_of(open.copied())
}

/// One condition for activities with a time, another for those of a whole day.
fn by_kind(timed: Where<Activity>, whole: Where<Activity>) -> Where<Activity> {
    let timed = Activity::IS_ALL_DAY.eq(false).and(timed);
    timed.or(Activity::IS_ALL_DAY.eq(true).and(whole))
}

/// Begins or is due on one of the days from `first` up to, but without, `end`.
fn within(first: NaiveDate, end: NaiveDate, zone: TimeZone) -> Where<Activity> {
    let timed = (start_of_day(first, zone), start_of_day(end, zone));
    let whole = (whole_day(first), whole_day(end));
    let between = |field: FieldOf<Activity, DateTime<Utc>>| {
        let range = |(from, to): (DateTime<Utc>, DateTime<Utc>)| field.ge(from).and(field.lt(to));
        by_kind(range(timed), range(whole))
    };
    between(Activity::SCHEDULED_AT).or(between(Activity::DUE_DATE))
}

impl Records<'_, Activity> {
    /// One page of a list of a user: by the time at which they begin, then those that only have a
    /// due date by that. What is overdue goes by due date.
    ///
    /// ```
    /// # use crm_core::{Id, Session, error::Result, activities::ActivityList, identity::User};
    /// # async fn example(session: &Session, ada: Id<User>) -> Result<()> {
    /// let activities = session.activities();
    /// let page = activities.list(ada, ActivityList::Today, 50, None).await?;
    /// for activity in &page.items {
    ///     println!("{}: {}", activity.activity_type, activity.subject);
    /// }
    /// if let Some(next) = page.next {
    ///     activities.list(ada, ActivityList::Today, 50, Some(next)).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no such user;
    /// [`Error::Query`](crate::Error::Query) for a cursor of another list.
    pub async fn list(
        &self,
        user: Id<User>,
        list: ActivityList,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<Arc<Record<Activity>>>> {
        let (now, zone) = self.here_and_now(user).await?;
        let find = Find::from(list.filter(user, now, zone)?).limit(limit);
        let (due, start) = (Activity::DUE_DATE.asc(), Activity::SCHEDULED_AT.asc());
        let find = match list {
            ActivityList::Overdue => find.sort(due).sort(start),
            ActivityList::Today | ActivityList::Upcoming { .. } => find.sort(start).sort(due),
        };
        self.find(match after {
            Some(cursor) => find.after(cursor),
            None => find,
        })
        .await
    }

    /// What a user should have done already; see [`ActivityList::Overdue`].
    ///
    /// # Errors
    /// Like [`list`](Self::list).
    pub async fn overdue(
        &self,
        user: Id<User>,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<Arc<Record<Activity>>>> {
        self.list(user, ActivityList::Overdue, limit, after).await
    }

    /// What a user has to do today; see [`ActivityList::Today`].
    ///
    /// # Errors
    /// Like [`list`](Self::list).
    pub async fn today(
        &self,
        user: Id<User>,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<Arc<Record<Activity>>>> {
        self.list(user, ActivityList::Today, limit, after).await
    }

    /// What a user has to do in the days after today; see [`ActivityList::Upcoming`].
    ///
    /// # Errors
    /// Like [`list`](Self::list).
    pub async fn upcoming(
        &self,
        user: Id<User>,
        days: u32,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<Arc<Record<Activity>>>> {
        self.list(user, ActivityList::Upcoming { days }, limit, after)
            .await
    }

    /// How long the lists of a user are, with so many days after today; one round trip for each,
    /// and one for the user's time zone.
    ///
    /// # Errors
    /// Like [`list`](Self::list).
    pub async fn list_counts(&self, user: Id<User>, days: u32) -> Result<ActivityCounts> {
        let (now, zone) = self.here_and_now(user).await?;
        let mut counts = ActivityCounts::default();
        for (list, count) in [
            (ActivityList::Overdue, &mut counts.overdue),
            (ActivityList::Today, &mut counts.today),
            (ActivityList::Upcoming { days }, &mut counts.upcoming),
        ] {
            let filter = list.filter(user, now, zone)?.into_filter();
            let registry = &*self.workspace.registry().await?;
            let condition = Condition::not_deleted()
                .and(Condition::not_archived())
                .and(Condition::bind(&filter, Activity::schema(), registry)?);
            let query = AggregateQuery::count(Activity::schema(), condition);
            let groups = self.workspace.aggregate(&query).await?;
            *count = groups.first().map_or(0, |group| group.count(0));
        }
        Ok(counts)
    }

    /// The time, and the user's time zone.
    async fn here_and_now(&self, user: Id<User>) -> Result<(DateTime<Utc>, TimeZone)> {
        let now = match &self.workspace {
            Workspace::Session(session) => session.engine().clock().now(),
            Workspace::Unit(work) => work.now(),
        };
        let row = self.workspace.row(User::schema(), user.uuid()).await?;
        let user = row
            .filter(|row| !row.is_deleted())
            .and_then(Record::<User>::from_row)
            .ok_or_else(|| crate::Error::NotFound {
                object: User::schema().name().to_owned(),
                id: user.uuid(),
            })?;
        Ok((now, user.timezone))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::accounts::Account;
    use crate::activities::ActivityType;
    use crate::record::{Actor, Stamp};
    use crate::schema::{Meta, Registry};
    use crate::value::TextValue;

    fn on(list: ActivityList, activity: &Activity, now: DateTime<Utc>, zone: TimeZone) -> bool {
        let registry = Registry::default();
        let filter = list.filter(activity.owner_id, now, zone).unwrap();
        let condition =
            Condition::bind(&filter.into_filter(), Activity::schema(), &registry).unwrap();
        let stamp = Stamp {
            at: now,
            by: Actor::System,
        };
        let record = Record::new(Meta::first(Uuid::from_u128(1), stamp), activity.clone());
        condition.matches(&record, &|_, _| None)
    }

    proptest! {
        /// An activity with a time is on exactly one list of days: by the day that the clocks of
        /// the user show.
        #[test]
        fn days_are_the_users(
            now in 1_700_000_000_i64..1_800_000_000,
            distance in -400_000_i64..900_000,
            whole in any::<bool>(),
            zone in prop::sample::select(&[
                "UTC", "Asia/Beirut", "America/Havana", "Pacific/Apia", "America/Los_Angeles",
            ][..]),
        ) {
            let zone = TimeZone::parse(zone).unwrap();
            let now = DateTime::from_timestamp(now, 0).unwrap();
            let at = now + chrono::TimeDelta::seconds(distance);
            let id = Id::<User>::new(Uuid::from_u128(2));
            let links = Id::<Account>::new(Uuid::from_u128(3));
            let (moment, day) = if whole {
                (whole_day(at.date_naive()), at.date_naive())
            } else {
                (at, local_date(at, zone))
            };
            let activity = Activity {
                is_all_day: whole,
                due_date: Some(moment),
                ..Activity::new(ActivityType::Task, "Ask", links, id)
            };
            let today = local_date(now, zone);
            let days = (day - today).num_days();
            prop_assert_eq!(on(ActivityList::Today, &activity, now, zone), days == 0);
            for ahead in [0, 1, 7] {
                let list = ActivityList::Upcoming { days: ahead };
                let expected = days >= 1 && days <= i64::from(ahead);
                prop_assert_eq!(on(list, &activity, now, zone), expected);
            }
            let overdue = if whole { days < 0 } else { at < now };
            prop_assert_eq!(on(ActivityList::Overdue, &activity, now, zone), overdue);
        }
    }
}

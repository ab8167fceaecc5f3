//! [`ActivityReminder`]: what is to be sent before an activity, by workers of the host.
//!
//! A worker claims what is due with [`claim_due`](crate::engine::Records::claim_due), sends it, and says
//! so with [`mark_sent`](crate::engine::Records::mark_sent) or
//! [`mark_failed`](crate::engine::Records::mark_failed). While its lease runs
//! nobody else gets the reminder; when a worker is gone its lease runs out and the reminder is
//! claimed again, which counts as an attempt: a reminder that brings down every worker is given up as
//! well. A worker whose claim was taken over, or whose reminder moved with its activity meanwhile, is
//! refused: what it did counts for nothing.

mod claims;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::Activity;
use super::days::start_of_day;
use super::lists::is_open;
use crate::Id;
use crate::engine::{UnitOfWork, Write, WriteRule};
use crate::error::{Faults, FieldError, Result, codes};
use crate::identity::User;
use crate::query::{Condition, Query, WhereExt as _};
use crate::record::Record;
use crate::schema::{Entity, Picklist, Row, Value};
use crate::value::{EmailAddress, TimeZone};

/// How often a reminder is tried before it has failed.
const ATTEMPTS: u32 = 5;

/// Something to send before an activity (C-018). Its time is that of the activity, less an offset,
/// and follows it: a reminder moves when the activity moves, is cancelled when nothing is left to
/// remind of, and comes back when the activity is reopened or put off until its time lies ahead
/// again. One that was sent is sent again when the activity moves to a later time.
///
/// Of an activity of a whole day, the time is where that day begins for whoever does it, also after they
/// moved to another time zone.
///
/// ```
/// # use crm_core::{Id, Session, error::Result, activities::*, identity::User};
/// # async fn example(session: &Session, meeting: Id<Activity>, ada: Id<User>) -> Result<()> {
/// let reminder = ActivityReminder {
///     recipient_id: Some(ada),
///     ..ActivityReminder::new(meeting, ReminderType::Email, 30_u32)
/// };
/// session.reminders().create(reminder).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "activity_reminder",
    table = "activity_reminders",
    unique(activity_id; live, only_if(is_default)),
    index(status, reminder_time),
    check = check_reminder
)]
pub struct ActivityReminder {
    /// The activity.
    #[field(required, references = "activity", on_delete = "cascade")]
    pub activity_id: Id<Activity>,
    /// How it is sent (R-151).
    #[field(required)]
    pub reminder_type: ReminderType,
    /// How many minutes before the activity; none for when it begins (R-148).
    #[field(required)]
    pub offset_minutes: u32,
    /// When it is to be sent.
    #[field(required, read_only)]
    pub reminder_time: Option<DateTime<Utc>>,
    /// Where it stands (R-150).
    #[field(read_only)]
    pub status: ReminderStatus,
    /// Whether it is the one that the activity's `reminder_minutes` ask for.
    #[field(read_only)]
    pub is_default: bool,
    /// The user who is reminded (R-054, R-149).
    #[field(references = "user", on_delete = "set_null")]
    pub recipient_id: Option<Id<User>>,
    /// The e-mail address of somebody else who is reminded (R-054, R-149).
    #[field(personal)]
    pub recipient_email: Option<EmailAddress>,
    /// What it says.
    #[field(multiline, personal)]
    pub message: Option<String>,
    /// When it was sent.
    #[field(read_only)]
    pub sent_at: Option<DateTime<Utc>>,
    /// How often it was tried, by workers that did not come back too.
    #[field(read_only)]
    pub attempts: u32,
    /// Until when nobody may claim it: a worker's lease, or the pause after a failed attempt.
    #[field(read_only)]
    pub claimed_until: Option<DateTime<Utc>>,
    /// The worker that claimed it.
    #[field(max_len = 100, read_only)]
    pub claimed_by: Option<String>,
    /// Tells the claims of a reminder apart.
    #[field(read_only)]
    pub claim_token: Option<Uuid>,
    /// The code of what went wrong last.
    #[field(max_len = 50, read_only)]
    pub last_error: Option<String>,
}

/// How a reminder is sent (R-151).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum ReminderType {
    /// By e-mail.
    Email,
    /// By text message.
    Sms,
    /// To a mobile device.
    Push,
    /// To the screen.
    Desktop,
}

/// Where a reminder stands (R-150, R-460).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum ReminderStatus {
    /// To be sent.
    #[default]
    Pending,
    /// Sent.
    Sent,
    /// Given up.
    Failed,
    /// Nothing is left to remind of.
    Cancelled,
}

/// How long to wait after a failed attempt, the first being 1: a minute, then four times as long
/// each time. `None` once there were enough.
///
/// ```
/// use chrono::TimeDelta;
/// use crm_core::activities::retry_after;
///
/// assert_eq!(retry_after(1), Some(TimeDelta::minutes(1)));
/// assert_eq!(retry_after(4), Some(TimeDelta::minutes(64)));
/// assert_eq!(retry_after(5), None);
/// ```
#[must_use]
pub fn retry_after(attempts: u32) -> Option<TimeDelta> {
    if attempts >= ATTEMPTS {
        return None;
    }
    let minutes = 4_i64.pow(attempts.saturating_sub(1));
    Some(TimeDelta::minutes(minutes))
}

/// R-054, R-149: somebody is reminded.
fn check_reminder(reminder: &ActivityReminder, faults: &mut Faults) {
    let is_refused = faults.has("recipient_id") || faults.has("recipient_email");
    if reminder.recipient_id.is_none() && reminder.recipient_email.is_none() && !is_refused {
        for field in ["recipient_id", "recipient_email"] {
            faults.add(
                field,
                codes::REQUIRED,
                "a reminder needs a user or an e-mail address",
            );
        }
    }
}

/// When an activity is to be reminded of, where its whole days begin in `zone`.
fn reminder_time(
    activity: &Activity,
    offset_minutes: u32,
    zone: TimeZone,
) -> Option<DateTime<Utc>> {
    let moment = activity.moment()?;
    let begins = if activity.is_all_day {
        start_of_day(moment.date_naive(), zone)
    } else {
        moment
    };
    begins.checked_sub_signed(TimeDelta::minutes(offset_minutes.into()))
}

/// Whether there is anything to remind of.
fn is_ahead(activity: &Record<Activity>) -> bool {
    activity.deleted_at.is_none()
        && activity.archived_at.is_none()
        && !activity.status.is_finished()
}

/// A reminder as its activity makes it.
fn followed(
    activity: &Record<Activity>,
    reminder: &ActivityReminder,
    zone: TimeZone,
    now: DateTime<Utc>,
) -> ActivityReminder {
    let mut next = reminder.clone();
    let time = reminder_time(activity, reminder.offset_minutes, zone);
    let Some(time) = time.filter(|_| is_ahead(activity)) else {
        if reminder.status == ReminderStatus::Pending {
            begin_again(&mut next, ReminderStatus::Cancelled);
        }
        return next;
    };
    let has_moved = reminder.reminder_time != Some(time);
    let lies_ahead = time > now;
    next.reminder_time = Some(time);
    match reminder.status {
        // Whoever is sending it sends what is not true any more.
        ReminderStatus::Pending if has_moved => begin_again(&mut next, ReminderStatus::Pending),
        ReminderStatus::Pending => {}
        ReminderStatus::Cancelled if lies_ahead => begin_again(&mut next, ReminderStatus::Pending),
        ReminderStatus::Sent | ReminderStatus::Failed if has_moved && lies_ahead => {
            begin_again(&mut next, ReminderStatus::Pending);
        }
        _ => {}
    }
    next
}

/// Gives a reminder a status and forgets what workers did with it.
fn begin_again(reminder: &mut ActivityReminder, status: ReminderStatus) {
    reminder.status = status;
    reminder.sent_at = None;
    reminder.attempts = 0;
    reminder.last_error = None;
    release(reminder);
}

fn release(reminder: &mut ActivityReminder) {
    reminder.claimed_until = None;
    reminder.claimed_by = None;
    reminder.claim_token = None;
}

/// C-018: a reminder follows its activity, and the activity changes with its reminders.
#[derive(Debug)]
pub(crate) struct ReminderRules;

#[async_trait]
impl WriteRule for ReminderRules {
    fn object(&self) -> &'static str {
        "activity_reminder"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<ActivityReminder>() else {
            return Ok(());
        };
        let (now, activity_id) = (work.now(), after.activity_id);
        let before = write.before::<ActivityReminder>();
        let moved = before.is_some_and(|before| before.activity_id != activity_id);
        let stays = before.is_some_and(|before| {
            before.offset_minutes == after.offset_minutes
                && before.deleted_at == after.deleted_at
                && before.archived_at == after.archived_at
        });
        if moved {
            write.faults().add(
                "activity_id",
                codes::READ_ONLY,
                "a reminder stays with the activity",
            );
        }
        if stays {
            return Ok(());
        }
        let is_deleted = write.deletes();
        let activity = work.lookup(activity_id).await?;
        if !is_deleted && activity.as_ref().is_none_or(|it| it.moment().is_none()) {
            let fault = match activity {
                None => FieldError::missing_record("activity_id"),
                Some(_) => FieldError::new(
                    "activity_id",
                    codes::INCONSISTENT,
                    "the activity has neither a start nor a due date to remind of",
                ),
            };
            write.faults().push(fault);
            // That there is no time is told by this fault alone.
            write.edit::<ActivityReminder>(|reminder| reminder.reminder_time = Some(now));
            return Ok(());
        }
        let Some(activity) = activity else {
            return Ok(());
        };
        // The very version that the time is worked out from.
        work.touch_row(activity.clone());
        if is_deleted {
            return Ok(());
        }
        let zone = zones(work, std::slice::from_ref(&activity)).await?;
        let zone = zone_of(&zone, &activity);
        write.edit::<ActivityReminder>(|reminder| {
            *reminder = followed(&activity, reminder, zone, now);
            // One that never had a time says when it would have been.
            if reminder.reminder_time.is_none() {
                reminder.reminder_time = reminder_time(&activity, reminder.offset_minutes, zone);
            }
        });
        Ok(())
    }
}

/// The time zones of those who do these activities, as far as days are concerned.
async fn zones(
    work: &UnitOfWork,
    activities: &[Arc<Record<Activity>>],
) -> Result<BTreeMap<Uuid, TimeZone>> {
    let mut users: Vec<Uuid> = activities
        .iter()
        .filter(|activity| activity.is_all_day)
        .map(|activity| activity.assignee().uuid())
        .collect();
    users.sort_unstable();
    users.dedup();
    if users.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = work.rows(User::schema(), &users).await?;
    let users = rows.into_iter().filter_map(Record::<User>::from_row);
    Ok(users.map(|user| (user.id.uuid(), user.timezone)).collect())
}

fn zone_of(zones: &BTreeMap<Uuid, TimeZone>, activity: &Activity) -> TimeZone {
    let zone = zones.get(&activity.assignee().uuid());
    zone.copied().unwrap_or_default()
}

/// What of an activity its reminders depend on.
fn basis(activity: &Record<Activity>) -> impl PartialEq + use<> {
    (
        is_ahead(activity),
        activity.moment(),
        activity.is_all_day,
        activity.reminder_minutes,
        activity.assignee(),
    )
}

/// Brings reminders in step with the activities that change in the commit.
pub(super) async fn follow_activities(work: &mut UnitOfWork) -> Result<()> {
    let mut activities = Vec::new();
    let mut stored = Vec::new();
    for change in work.staged() {
        if change.object() != Activity::schema() {
            continue;
        }
        let before = change
            .before()
            .cloned()
            .and_then(Record::<Activity>::from_row);
        let after = change
            .after()
            .cloned()
            .and_then(Record::<Activity>::from_row);
        // What is deleted takes its reminders along.
        let Some(after) = after.filter(|after| after.deleted_at.is_none()) else {
            continue;
        };
        match before {
            Some(before) if basis(&before) == basis(&after) => {}
            Some(_) => {
                stored.push(Value::Uuid(after.id.uuid()));
                activities.push(after);
            }
            None => activities.push(after),
        }
    }
    for activity in days_of_moved_users(work).await? {
        if activities.iter().all(|known| known.id != activity.id) {
            stored.push(Value::Uuid(activity.id.uuid()));
            activities.push(activity);
        }
    }
    if activities.is_empty() {
        return Ok(());
    }
    let mut reminders = reminders_of(work, stored).await?;
    let zones = zones(work, &activities).await?;
    for activity in activities {
        let zone = zone_of(&zones, &activity);
        let own = reminders.remove(&activity.id).unwrap_or_default();
        follow_activity(work, &activity, own, zone).await?;
    }
    Ok(())
}

/// The whole days to come of the users who live in another time zone from this commit on: their days
/// begin at other times.
async fn days_of_moved_users(work: &UnitOfWork) -> Result<Vec<Arc<Record<Activity>>>> {
    let zone_of = |row: Option<&Row>| Record::<User>::from_row(row?.clone()).map(|it| it.timezone);
    let users = work.staged().iter();
    let users = users.filter(|change| change.object() == User::schema());
    let moved = users.filter(|change| {
        let (before, after) = (zone_of(change.before()), zone_of(change.after()));
        before.is_some() && after.is_some() && before != after
    });
    let moved: Vec<Id<User>> = moved.map(|change| Id::new(change.id())).collect();
    if moved.is_empty() {
        return Ok(Vec::new());
    }
    // Where it is earliest, the day of today began up to so long ago.
    let from = work.now() - TimeDelta::days(2);
    let owned = Activity::ASSIGNED_TO
        .is_null()
        .and(Activity::OWNER_ID.one_of(moved.iter().copied()));
    let ahead = Activity::SCHEDULED_AT
        .ge(from)
        .or(Activity::DUE_DATE.ge(from));
    let days = Activity::ASSIGNED_TO
        .one_of(moved)
        .or(owned)
        .and(is_open())
        .and(Activity::IS_ALL_DAY.eq(true))
        .and(ahead);
    work.find_all(days, Vec::new()).await
}

type Reminders = BTreeMap<Id<Activity>, Vec<Arc<Record<ActivityReminder>>>>;

/// The reminders of stored activities, and those that are staged for new ones.
async fn reminders_of(work: &UnitOfWork, stored: Vec<Value>) -> Result<Reminders> {
    let schema = ActivityReminder::schema();
    let place = schema.field_index(&ActivityReminder::ACTIVITY_ID.name());
    let mut rows = match place {
        Some(place) if !stored.is_empty() => {
            let of_these = Condition::In {
                field: crate::query::FieldAt::new(place),
                values: stored,
            };
            let query = Query::new(schema, Condition::not_deleted().and(of_these));
            work.select(&query).await?
        }
        _ => Vec::new(),
    };
    let known: std::collections::BTreeSet<Uuid> = rows.iter().map(|row| row.id()).collect();
    let staged = work.staged().iter().filter_map(|change| change.after());
    rows.extend(
        staged
            .filter(|row| row.object() == schema && !row.is_deleted() && !known.contains(&row.id()))
            .cloned(),
    );
    let mut all = Reminders::new();
    for reminder in rows
        .into_iter()
        .filter_map(Record::<ActivityReminder>::from_row)
    {
        all.entry(reminder.activity_id).or_default().push(reminder);
    }
    Ok(all)
}

async fn follow_activity(
    work: &mut UnitOfWork,
    activity: &Arc<Record<Activity>>,
    reminders: Vec<Arc<Record<ActivityReminder>>>,
    zone: TimeZone,
) -> Result<()> {
    let now = work.now();
    let mut has_default = false;
    for reminder in reminders {
        let mut wanted = reminder.data.clone();
        if reminder.is_default {
            has_default = true;
            let Some(minutes) = activity.reminder_minutes else {
                work.delete(ActivityReminder::schema(), reminder.id.uuid())
                    .await?;
                continue;
            };
            wanted.offset_minutes = minutes;
            wanted.recipient_id = Some(activity.assignee());
        }
        let wanted = followed(activity, &wanted, zone, now);
        if wanted != reminder.data {
            work.update(reminder.id, &|reminder: &mut ActivityReminder| {
                reminder.clone_from(&wanted);
            })
            .await?;
        }
    }
    if let Some(minutes) = activity.reminder_minutes
        && !has_default
        && is_ahead(activity)
        && activity.moment().is_some()
    {
        work.create(ActivityReminder {
            is_default: true,
            recipient_id: Some(activity.assignee()),
            ..ActivityReminder::new(activity.id, ReminderType::Desktop, minutes)
        })
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::accounts::Account;
    use crate::activities::{ActivityStatus, ActivityType};
    use crate::record::{Actor, Stamp};
    use crate::schema::Meta;
    use crate::value::TextValue;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + minutes * 60, 0).unwrap()
    }

    fn meeting(moment: Option<DateTime<Utc>>, status: ActivityStatus) -> Record<Activity> {
        let account = Id::<Account>::new(Uuid::from_u128(1));
        let activity = Activity {
            scheduled_at: moment,
            status,
            ..Activity::new(
                ActivityType::Meeting,
                "Meet",
                account,
                Id::new(Uuid::from_u128(2)),
            )
        };
        let stamp = Stamp {
            at: at(0),
            by: Actor::System,
        };
        Record::new(Meta::first(Uuid::from_u128(3), stamp), activity)
    }

    proptest! {
        /// A-58, C-018: a pending reminder has the activity's time less the offset; there is none
        /// without something to remind of; following twice changes nothing more.
        #[test]
        fn reminders_follow(
            moment in prop::option::of(-5_000_i64..5_000),
            status in prop::sample::select(ActivityStatus::ALL),
            known in prop::sample::select(ReminderStatus::ALL),
            time in -5_000_i64..5_000,
            offset in 0_u32..3_000,
        ) {
            let activity = meeting(moment.map(at), status);
            let reminder = ActivityReminder {
                status: known,
                reminder_time: Some(at(time)),
                claim_token: Some(Uuid::from_u128(9)),
                ..ActivityReminder::new(activity.id, ReminderType::Push, offset)
            };
            let next = followed(&activity, &reminder, TimeZone::UTC, at(0));
            if next.status == ReminderStatus::Pending {
                let expected = moment.map(|moment| at(moment - i64::from(offset)));
                prop_assert_eq!(next.reminder_time, expected);
                prop_assert!(expected.is_some() && !status.is_finished());
            }
            if known == ReminderStatus::Pending && (moment.is_none() || status.is_finished()) {
                prop_assert_eq!(next.status, ReminderStatus::Cancelled);
            }
            let has_moved = next.reminder_time != reminder.reminder_time;
            if has_moved && next.status == ReminderStatus::Pending {
                prop_assert_eq!(next.claim_token, None);
            }
            let again = followed(&activity, &next, TimeZone::UTC, at(0));
            prop_assert!(again == next);
        }
    }

    #[test]
    fn whole_days_begin_where_people_live() {
        let mut activity = meeting(
            Some("2026-03-02T00:00:00Z".parse().unwrap()),
            ActivityStatus::Planned,
        );
        activity.data.is_all_day = true;
        let zone = TimeZone::parse("America/New_York").unwrap();
        let time = reminder_time(&activity, 60, zone).unwrap();
        assert_eq!(time.to_string(), "2026-03-02 04:00:00 UTC");
    }

    #[test]
    fn pauses_grow_and_end() {
        let pauses: Vec<_> = (1..=ATTEMPTS).map(retry_after).collect();
        assert!(
            pauses
                .windows(2)
                .all(|two| two[1].is_none() || two[0] < two[1])
        );
        assert_eq!(pauses.last(), Some(&None));
    }
}

//! What is done with activities, and what keeps them right however they are written.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::days::{is_over_everywhere, whole_day};
use super::{Activity, ActivityStatus, RefusedTransition, allowed, reminders, roll_up};
use crate::engine::{CommitHook, Records, UnitOfWork, Write, WriteRule, in_work};
use crate::error::{Result, codes};
use crate::query::{Cursor, Find, Page};
use crate::record::Record;
use crate::{EntityRef, Id};

impl Records<'_, Activity> {
    /// Plans an activity; with `scheduled_at` it has a fixed time.
    ///
    /// # Errors
    /// [`Error::Validation`](crate::Error::Validation).
    pub async fn schedule(&mut self, activity: Activity) -> Result<Arc<Record<Activity>>> {
        self.create(activity).await
    }

    /// Begins an activity.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) where [`allowed`] refuses it.
    pub async fn start(&mut self, id: Id<Activity>) -> Result<Arc<Record<Activity>>> {
        self.proceed(id, ActivityStatus::InProgress, None).await
    }

    /// Completes an activity, with what came of it.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) where [`allowed`] refuses it.
    pub async fn complete(
        &mut self,
        id: Id<Activity>,
        outcome: Option<&str>,
    ) -> Result<Arc<Record<Activity>>> {
        self.proceed(id, ActivityStatus::Completed, outcome).await
    }

    /// Completes an activity and creates the one that follows it, in one commit. Gives the
    /// completed one and the new one, which refers to it by `follow_up_of`.
    ///
    /// That something was to follow is answered by this: `follow_up_required` and `follow_up_date`
    /// of the completed activity are emptied. A follow-up without a time gets that date as its due
    /// date, unless it is past; one without links gets those of the completed activity.
    ///
    /// ```
    /// # use crm_core::{Id, Session, error::Result, activities::*};
    /// # async fn example(session: &Session, call: &crm_core::Record<Activity>) -> Result<()> {
    /// let offer = Activity::new(
    ///     ActivityType::Proposal, "Send the offer", call.links.clone(), call.owner_id,
    /// );
    /// let (call, offer) = session
    ///     .activities()
    ///     .complete_with_follow_up(call.id, Some("interested"), offer)
    ///     .await?;
    /// assert_eq!(offer.follow_up_of, Some(call.id));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Like [`complete`](Self::complete), and [`Error::Validation`](crate::Error::Validation) of the
    /// follow-up.
    pub async fn complete_with_follow_up(
        &mut self,
        id: Id<Activity>,
        outcome: Option<&str>,
        follow_up: Activity,
    ) -> Result<(Arc<Record<Activity>>, Arc<Record<Activity>>)> {
        in_work!(self.workspace, |work| {
            let now = work.now();
            let current = work.get(id).await?;
            let mut follow_up = follow_up.clone();
            if follow_up.links.is_empty() {
                follow_up.links.clone_from(&current.links);
            }
            if follow_up.moment().is_none() {
                follow_up.due_date = current.follow_up_date.filter(|date| *date >= now);
            }
            let completed =
                finish(work, &current, ActivityStatus::Completed, outcome, true).await?;
            let created = work.activities().create(follow_up).await?;
            let linked = |activity: &mut Activity| activity.follow_up_of = Some(id);
            let created = work.update(created.id, &linked).await?;
            Ok((completed, created))
        })
    }

    /// The activities of a record of any object, the latest first, fifty at once; `after` is the cursor
    /// of the page before.
    ///
    /// ```
    /// # use crm_core::{EntityRef, Session, activities::*, error::Result, identity::User, Id};
    /// # async fn example(session: &Session, project: uuid::Uuid, ada: Id<User>) -> Result<()> {
    /// // A record of an object that the tenant defined.
    /// let project = EntityRef::new("project", project);
    /// let kick_off = Activity::new(ActivityType::Meeting, "Kick off", project.clone(), ada);
    /// let kick_off = session.activities().create(kick_off).await?;
    /// let page = session.activities().of(project, None).await?;
    /// assert_eq!(page.items[0].id, kick_off.id);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Query`](crate::Error::Query) for a cursor of another query.
    pub async fn of(
        &self,
        record: impl Into<EntityRef>,
        after: Option<Cursor>,
    ) -> Result<Page<Arc<Record<Activity>>>> {
        let find = Find::from(Activity::of_record(record.into())).sort(Activity::CREATED_AT.desc());
        self.find(match after {
            Some(cursor) => find.after(cursor),
            None => find,
        })
        .await
    }

    /// One page of the activities that follow up another one, the first one first.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn follow_ups(&self, of: Id<Activity>) -> Result<Page<Arc<Record<Activity>>>> {
        self.find(Find::from(Activity::FOLLOW_UP_OF.eq(of))).await
    }

    /// Cancels an activity.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) where [`allowed`] refuses it.
    pub async fn cancel(&mut self, id: Id<Activity>) -> Result<Arc<Record<Activity>>> {
        self.proceed(id, ActivityStatus::Cancelled, None).await
    }

    /// Says that the other side did not come.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) where [`allowed`] refuses it.
    pub async fn mark_no_show(&mut self, id: Id<Activity>) -> Result<Arc<Record<Activity>>> {
        self.proceed(id, ActivityStatus::NoShow, None).await
    }

    /// Puts an activity off.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) where [`allowed`] refuses it.
    pub async fn defer(&mut self, id: Id<Activity>) -> Result<Arc<Record<Activity>>> {
        self.proceed(id, ActivityStatus::Deferred, None).await
    }

    /// Opens a finished activity again: scheduled if it has a time to begin, else planned.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) `not_finished` if it is open.
    pub async fn reopen(&mut self, id: Id<Activity>) -> Result<Arc<Record<Activity>>> {
        in_work!(self.workspace, |work| {
            let current = work.get(id).await?;
            if !current.status.is_finished() {
                return Err(crate::error::RuleViolation::new(
                    "not_finished",
                    "C-015",
                    "the activity is open",
                )
                .into());
            }
            let status = if current.scheduled_at.is_some() {
                ActivityStatus::Scheduled
            } else {
                ActivityStatus::Planned
            };
            work.update(id, &|activity: &mut Activity| activity.status = status)
                .await
        })
    }

    async fn proceed(
        &mut self,
        id: Id<Activity>,
        status: ActivityStatus,
        outcome: Option<&str>,
    ) -> Result<Arc<Record<Activity>>> {
        in_work!(self.workspace, |work| {
            let current = work.get(id).await?;
            finish(work, &current, status, outcome, false).await
        })
    }
}

/// Gives an activity a status for the caller: what is finished is not finished a second time.
async fn finish(
    work: &mut UnitOfWork,
    current: &Record<Activity>,
    status: ActivityStatus,
    outcome: Option<&str>,
    is_followed: bool,
) -> Result<Arc<Record<Activity>>> {
    work.rely_on(current);
    if current.status.is_finished() {
        let (from, to) = (current.status, status);
        return Err(RefusedTransition { from, to }.into());
    }
    work.update(current.id, &|activity: &mut Activity| {
        activity.status = status;
        if let Some(outcome) = outcome {
            activity.outcome = Some(outcome.to_owned());
        }
        if is_followed {
            activity.follow_up_required = false;
            activity.follow_up_date = None;
        }
    })
    .await
}

/// R-050 and R-052, the transitions of C-015, and the status of a new activity.
#[derive(Debug)]
pub(crate) struct ActivityRules;

#[async_trait]
impl WriteRule for ActivityRules {
    fn object(&self) -> &'static str {
        "activity"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Activity>() else {
            return Ok(());
        };
        let now = work.now();
        let before = write.before::<Activity>();
        if let Some(before) = before {
            allowed(before.status, after.status)?;
        }
        let before = before.map(|before| &before.data);
        let completed = completed(before, after, now);
        let completes = completed.status == ActivityStatus::Completed;
        let is_past = before.is_none()
            && !after.status.is_finished()
            && !super::OccurrenceOf::may_be_past(after)
            && is_overdue(after, now);
        if completed != after.data {
            write.edit::<Activity>(|activity| *activity = completed);
        }
        // R-050: what is recorded after the fact may have been due before.
        if is_past && !completes {
            write
                .faults()
                .add("due_date", codes::PAST, "must not be in the past");
        }
        Ok(())
    }
}

/// Whether the due date is past; a whole day only once it is over everywhere.
fn is_overdue(activity: &Activity, now: DateTime<Utc>) -> bool {
    activity.due_date.is_some_and(|due| {
        if activity.is_all_day {
            is_over_everywhere(due.date_naive(), now)
        } else {
            due < now
        }
    })
}

/// The activity with what follows from its other fields.
fn completed(before: Option<&Activity>, after: &Activity, now: DateTime<Utc>) -> Activity {
    let mut activity = after.clone();
    let was = before.map(|before| before.status);
    if before.is_none()
        && activity.status == ActivityStatus::Planned
        && activity.scheduled_at.is_some()
    {
        activity.status = ActivityStatus::Scheduled;
    }
    let begins = activity.status == ActivityStatus::InProgress && was != Some(activity.status);
    if begins && activity.started_at.is_none() {
        activity.started_at = Some(now);
    }
    // R-052.
    let is_done = activity.status == ActivityStatus::Completed;
    if is_done && activity.completed_at.is_none() {
        activity.completed_at = Some(now);
    }
    if !is_done && was == Some(ActivityStatus::Completed) {
        activity.completed_at = None;
    }
    if activity.is_all_day {
        let day = |at: DateTime<Utc>| whole_day(at.date_naive());
        activity.scheduled_at = activity.scheduled_at.map(day);
        activity.due_date = activity.due_date.map(day);
    }
    activity
}

/// What follows activities in the same commit: reminders, and what linked records know of them.
#[derive(Debug)]
pub(crate) struct ActivityHook;

#[async_trait]
impl CommitHook for ActivityHook {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        reminders::follow_activities(work).await?;
        roll_up::follow_activities(work).await
    }
}

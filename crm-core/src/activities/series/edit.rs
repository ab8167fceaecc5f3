//! Changing one occurrence, this and the following, or all.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::rules::BY_SERIES;
use super::same_day::{day_of, stand_ins};
use super::{ActivitySeries, CalendarIdentity, LocalDateTime, OccurrenceOf, Schedule};
use crate::Id;
use crate::activities::{Activity, ActivityStatus};
use crate::engine::{Records, UnitOfWork, in_work};
use crate::error::{Error, FieldError, Result, RuleViolation, ValidationError};
use crate::query::{Condition, Query, Where, WhereExt as _};
use crate::record::Record;
use crate::schema::{Entity, Row, Value};

/// How many occurrences one change of a series may touch, so that it stays one commit.
const MOST_TOUCHED: usize = 2_000;

impl Records<'_, ActivitySeries> {
    /// Changes one occurrence, which thereby becomes an activity of its own if it was not yet.
    /// `occurrence_at` is the moment at which the series has it, not the one it was moved to.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the occurrence was deleted, [`Error::Validation`] if the series has
    /// none at that moment, and what [`update`](Self::update) says of the activity.
    pub async fn edit_one(
        &mut self,
        id: Id<ActivitySeries>,
        occurrence_at: DateTime<Utc>,
        change: impl Fn(&mut Activity) + Send + Sync,
    ) -> Result<Arc<Record<Activity>>> {
        in_work!(self.workspace, |work| {
            let series = work.get(id).await?;
            let activity = work.occurrence_of(&series, occurrence_at).await?;
            work.activities().update(activity.id, &change).await
        })
    }

    /// Changes the series as a whole: same as [`update`](Self::update). The occurrences from now on
    /// go with it, unless they are finished or were changed on their own; past ones stay.
    ///
    /// An activity whose moment the new schedule still has stays in its place; the others are moved
    /// to the new moments in order, and what is too much is deleted. What stays as it is, or was
    /// deleted or left out, stands for the occurrence of its day if the series takes place at another
    /// time of the day now: there is no second one beside it.
    ///
    /// # Errors
    /// What [`update`](Self::update) says; [`Error::Rule`] if more than 2,000 occurrences would be
    /// touched.
    pub async fn edit_all(
        &mut self,
        id: Id<ActivitySeries>,
        change: impl Fn(&mut ActivitySeries) + Send + Sync,
    ) -> Result<Arc<Record<ActivitySeries>>> {
        self.update(id, change).await
    }

    /// Changes an occurrence and all that follow: the series ends before it, and a new one, which
    /// is returned, begins with it. From the first occurrence on that is the whole series, which
    /// stays one.
    ///
    /// The new series has what the old one had, then `change`. Of the activities, those after the
    /// moment belong to the new series; those that are open and were not changed on their own go
    /// along with it, the others keep what they say.
    ///
    /// # Errors
    /// [`Error::Validation`] if the series has no occurrence at that moment, and what
    /// [`edit_all`](Self::edit_all) says.
    pub async fn edit_following(
        &mut self,
        id: Id<ActivitySeries>,
        occurrence_at: DateTime<Utc>,
        change: impl Fn(&mut ActivitySeries) + Send + Sync,
    ) -> Result<Arc<Record<ActivitySeries>>> {
        in_work!(self.workspace, |work| {
            let series = work.get(id).await?;
            let Some(shortened) = ended_before(work, &series, occurrence_at).await? else {
                return work.activity_series().update(id, &change).await;
            };
            let rows = work.occurrence_rows(id, occurrence_at).await?;
            let mut next = continued(&series, occurrence_at);
            for key in rows
                .iter()
                .filter(|row| row.is_deleted())
                .filter_map(key_of)
            {
                next.excluded.insert(key);
            }
            let until = next.materialized_until;
            let before = next.clone();
            change(&mut next);
            if next.excluded == before.excluded {
                next.excluded = next.excluded_since(&before.schedule());
            }
            // What only the engine writes, whatever the change did.
            next.materialized_until = until;
            let next = work.create(next).await?;
            let from = occurrence_at.max(work.now());
            work.follow_series(&next, rows, from).await?;
            work.shorten(id, &shortened).await?;
            Ok(next)
        })
    }

    /// Cancels one occurrence: it becomes an activity that is cancelled, so that it is known who
    /// did it and when.
    ///
    /// # Errors
    /// Like [`edit_one`](Self::edit_one); [`Error::Rule`] if it is finished.
    pub async fn cancel_one(
        &mut self,
        id: Id<ActivitySeries>,
        occurrence_at: DateTime<Utc>,
    ) -> Result<Arc<Record<Activity>>> {
        in_work!(self.workspace, |work| {
            let series = work.get(id).await?;
            let activity = work.occurrence_of(&series, occurrence_at).await?;
            work.activities().cancel(activity.id).await
        })
    }

    /// Cancels an occurrence and all that follow: the series ends before it, and those of them that
    /// are activities and not finished are cancelled, also those changed on their own. Cancelled
    /// from its first occurrence on, the series is deleted.
    ///
    /// # Errors
    /// Like [`edit_following`](Self::edit_following).
    pub async fn cancel_following(
        &mut self,
        id: Id<ActivitySeries>,
        occurrence_at: DateTime<Utc>,
    ) -> Result<()> {
        in_work!(self.workspace, |work| {
            let series = work.get(id).await?;
            let shortened = ended_before(work, &series, occurrence_at).await?;
            for row in work.occurrence_rows(id, occurrence_at).await? {
                if let Some(activity) = open_activity(&row) {
                    let cancel = |activity: &mut Activity| {
                        activity.status = ActivityStatus::Cancelled;
                    };
                    work.update_by_series(activity.id, &cancel).await?;
                }
            }
            match shortened {
                Some(shortened) => work.shorten(id, &shortened).await,
                None => work.delete(ActivitySeries::schema(), id.uuid()).await,
            }
        })
    }

    /// Deletes the series and its occurrences from now on, except those that are finished or were
    /// changed on their own. These and the past ones stay as activities without a series.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Rule`] if more than 2,000 occurrences would be touched.
    pub async fn delete_all(&mut self, id: Id<ActivitySeries>) -> Result<()> {
        in_work!(self.workspace, |work| {
            let now = work.now();
            for row in work.occurrence_rows(id, now).await? {
                if follows(&row) {
                    work.delete(Activity::schema(), row.id()).await?;
                }
            }
            work.delete(ActivitySeries::schema(), id.uuid()).await
        })
    }
}

/// The series as it is when it ends before a moment; `None` if nothing is left of it then.
async fn ended_before(
    work: &UnitOfWork,
    series: &Record<ActivitySeries>,
    at: DateTime<Utc>,
) -> Result<Option<ActivitySeries>> {
    let known =
        series.schedule().occurs_at(at) || work.occurrence_row(series.id, at).await?.is_some();
    if !known {
        return Err(no_occurrence());
    }
    let mut ended = series.data.clone();
    let last = at - TimeDelta::seconds(1);
    ended.recurrence = series.recurrence.ending(last, series.pattern.is_all_day);
    ended.added = series.added.iter().filter(|added| *added < at).collect();
    ended.excluded = series
        .excluded
        .iter()
        .filter(|excluded| *excluded < at)
        .collect();
    ended.materialized_until = series.materialized_until.map(|until| until.min(at));
    Ok(ended.schedule().bounds().map(|_| ended))
}

/// The series as it goes on from a moment.
fn continued(series: &ActivitySeries, at: DateTime<Utc>) -> ActivitySeries {
    let schedule = series.schedule();
    let mut next = series.clone();
    match schedule
        .local_from(at)
        .and_then(|local| LocalDateTime::new(local).ok())
    {
        Some(local) => {
            if let Some(count) = series.recurrence.count() {
                let left = count.saturating_sub(schedule.count_before(at));
                next.recurrence = series.recurrence.with_count(left);
            }
            next.starts_at = local;
        }
        // Only added ones are left: a rule that has come to its end.
        None => {
            next.recurrence = series
                .recurrence
                .ending(at - TimeDelta::seconds(1), series.pattern.is_all_day);
        }
    }
    next.added = series.added.iter().filter(|added| *added >= at).collect();
    next.excluded = series
        .excluded
        .iter()
        .filter(|excluded| *excluded >= at)
        .collect();
    next.materialized_until = series.materialized_until.filter(|until| *until > at);
    next.calendar = CalendarIdentity::default();
    next
}

/// The typed activity of a row.
fn activity_of(row: &Row) -> Option<&Record<Activity>> {
    (&**row as &dyn Any).downcast_ref()
}

/// The day of an occurrence: one of a whole day has that of the calendar, wherever the series is.
fn day_of_occurrence(schedule: &Schedule<'_>, row: &Row, key: DateTime<Utc>) -> NaiveDate {
    if activity_of(row).is_some_and(|activity| activity.is_all_day) {
        return key.date_naive();
    }
    day_of(schedule, key)
}

fn key_of(row: &Row) -> Option<DateTime<Utc>> {
    activity_of(row)?.occurrence.occurrence_at
}

/// The activity of a row, if it is not deleted and something is still to be done.
fn open_activity(row: &Row) -> Option<&Record<Activity>> {
    let activity = activity_of(row)?;
    (!row.is_deleted() && !activity.status.is_finished()).then_some(activity)
}

fn follows(row: &Row) -> bool {
    !row.is_deleted() && activity_of(row).is_some_and(|activity| OccurrenceOf::follows(activity))
}

fn no_occurrence() -> Error {
    let message = "the series has no occurrence at this moment; give the one its schedule says";
    ValidationError::from(FieldError::new("occurrence_at", "no_occurrence", message)).into()
}

impl UnitOfWork {
    /// The rows of activities that fulfil a filter, deleted ones too.
    pub(super) async fn activity_rows(
        &self,
        filter: Where<Activity>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        let registry = &*self.session().registry().await?;
        let condition = Condition::bind(&filter.into_filter(), Activity::schema(), registry)?;
        self.select(&Query::new(Activity::schema(), condition).limit(limit))
            .await
    }

    /// The activities of a series from a moment on, deleted ones too.
    pub(super) async fn occurrence_rows(
        &self,
        series: Id<ActivitySeries>,
        from: DateTime<Utc>,
    ) -> Result<Vec<Row>> {
        let of_series = Activity::OCCURRENCE.at(OccurrenceOf::SERIES_ID).eq(series);
        let later = Activity::OCCURRENCE
            .at(OccurrenceOf::OCCURRENCE_AT)
            .ge(from);
        let rows = self
            .activity_rows(of_series.and(later), MOST_TOUCHED + 1)
            .await?;
        if rows.len() > MOST_TOUCHED {
            return Err(too_many());
        }
        Ok(rows)
    }

    /// The activity of one occurrence, deleted ones too.
    async fn occurrence_row(
        &self,
        series: Id<ActivitySeries>,
        at: DateTime<Utc>,
    ) -> Result<Option<Row>> {
        let of_series = Activity::OCCURRENCE.at(OccurrenceOf::SERIES_ID).eq(series);
        let then = Activity::OCCURRENCE.at(OccurrenceOf::OCCURRENCE_AT).eq(at);
        Ok(self.activity_rows(of_series.and(then), 1).await?.pop())
    }

    /// The activity of one occurrence, made if it is none yet.
    async fn occurrence_of(
        &mut self,
        series: &Arc<Record<ActivitySeries>>,
        at: DateTime<Utc>,
    ) -> Result<Arc<Record<Activity>>> {
        self.rely_on(&**series);
        if let Some(row) = self.occurrence_row(series.id, at).await? {
            return self.get(Id::new(row.id())).await;
        }
        if !series.schedule().occurs_at(at) {
            return Err(no_occurrence());
        }
        self.create_occurrence(series, at).await
    }

    /// Makes an occurrence an activity. Another worker may do so at the same time: one of them
    /// then runs again and finds it.
    pub(super) async fn create_occurrence(
        &mut self,
        series: &Record<ActivitySeries>,
        at: DateTime<Utc>,
    ) -> Result<Arc<Record<Activity>>> {
        self.contend("activity", &["series_id", "occurrence_at"]);
        self.create(series.occurrence(series.id, at)).await
    }

    /// Changes an activity for its series: not a change of this one alone.
    async fn update_by_series(
        &mut self,
        id: Id<Activity>,
        change: &(impl Fn(&mut Activity) + Sync),
    ) -> Result<Arc<Record<Activity>>> {
        self.set_note(id.uuid(), Some(BY_SERIES));
        let updated = self.update(id, change).await;
        self.set_note(id.uuid(), None);
        updated
    }

    async fn shorten(&mut self, id: Id<ActivitySeries>, shortened: &ActivitySeries) -> Result<()> {
        self.update(id, &|series: &mut ActivitySeries| {
            series.clone_from(shortened);
        })
        .await?;
        Ok(())
    }

    /// Brings activities in line with a series: `rows` are all of its own, or of the one it goes on
    /// from, whose moment is `from` or later; those before `from` only change hands.
    pub(super) async fn follow_series(
        &mut self,
        series: &Record<ActivitySeries>,
        rows: Vec<Row>,
        from: DateTime<Utc>,
    ) -> Result<()> {
        let schedule = series.schedule();
        let mut following: BTreeMap<DateTime<Utc>, Row> = BTreeMap::new();
        let mut staying = Vec::new();
        for row in rows {
            let Some(key) = key_of(&row) else { continue };
            if key >= from && follows(&row) {
                following.insert(key, row);
            } else {
                staying.push((key, row));
            }
        }
        let of_days = staying
            .iter()
            .filter(|(_, row)| !follows(row))
            .map(|(key, row)| (*key, day_of_occurrence(&schedule, row, *key)))
            .collect();
        let others = staying.iter().filter(|(_, row)| follows(row));
        let taken = others.map(|(key, _)| key).chain(following.keys());
        let stand_ins = stand_ins(&schedule, &of_days, &taken.copied().collect());
        let mut kept: BTreeSet<DateTime<Utc>> = BTreeSet::new();
        for (key, row) in staying {
            let at = stand_ins.get(&key).copied().unwrap_or(key);
            kept.insert(at);
            self.keep_occurrence(series.id, &row, key, at).await?;
        }
        let mut wanted: BTreeSet<DateTime<Utc>> = BTreeSet::new();
        if let Some(until) = series.materialized_until {
            let found = schedule.occurrences(&(from..until), MOST_TOUCHED);
            if !found.complete {
                return Err(too_many());
            }
            wanted.extend(found.starts);
        }
        // Single ones that were made ahead of the others.
        wanted.extend(following.keys().filter(|key| schedule.occurs_at(**key)));
        wanted.retain(|at| !kept.contains(at));
        // Those whose moment stays, stay; the others take the new moments in order.
        let (staying, moving): (Vec<_>, Vec<_>) = following
            .into_iter()
            .partition(|(key, _)| wanted.contains(key));
        for (key, row) in staying {
            wanted.remove(&key);
            self.lay_series_over(series, &row, key).await?;
        }
        let mut free = wanted.into_iter();
        for (_, row) in moving {
            match free.next() {
                Some(at) => self.lay_series_over(series, &row, at).await?,
                None => self.withdraw(&row).await?,
            }
        }
        for at in free {
            self.create_occurrence(series, at).await?;
        }
        Ok(())
    }

    /// Lets an occurrence that stays as it is belong to a series, as the one that this has `at`.
    async fn keep_occurrence(
        &mut self,
        series: Id<ActivitySeries>,
        row: &Row,
        key: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Result<()> {
        let of_series = activity_of(row).and_then(|activity| activity.occurrence.series_id);
        let is_own = of_series == Some(series);
        if row.is_deleted() {
            // One that was deleted stays with the series that it was deleted from.
            let place = Activity::schema().field_index("occurrence_at");
            if let Some(place) = place.filter(|_| is_own && at != key) {
                let moved = vec![(place, Value::Timestamp(at))];
                self.set_row_values(row, moved).await?;
            }
            return Ok(());
        }
        if is_own && at == key {
            return Ok(());
        }
        let hand_over = |activity: &mut Activity| {
            activity.occurrence.series_id = Some(series);
            activity.occurrence.occurrence_at = Some(at);
        };
        self.update_by_series(Id::new(row.id()), &hand_over).await?;
        Ok(())
    }

    async fn lay_series_over(
        &mut self,
        series: &Record<ActivitySeries>,
        row: &Row,
        at: DateTime<Utc>,
    ) -> Result<()> {
        let change = |activity: &mut Activity| series.lay_over(activity, series.id, at);
        self.update_by_series(Id::new(row.id()), &change).await?;
        Ok(())
    }

    /// Deletes an occurrence that the series does not have any more. It gives up its place in the
    /// series, unlike one that somebody deleted: the series may come back to that moment.
    async fn withdraw(&mut self, row: &Row) -> Result<()> {
        let leave = |activity: &mut Activity| activity.occurrence.series_id = None;
        self.update_by_series(Id::new(row.id()), &leave).await?;
        self.delete(Activity::schema(), row.id()).await
    }
}

fn too_many() -> Error {
    let message = "the change touches more than 2,000 occurrences; change fewer of them at once";
    RuleViolation::new("too_many_occurrences", "C-015", message).into()
}

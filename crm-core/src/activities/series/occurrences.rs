//! What a series or a user has in a window of time, and making occurrences activities ahead of it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{ActivityPattern, ActivitySeries, OccurrenceOf};
use crate::Id;
use crate::activities::{Activity, ActivityStatus};
use crate::engine::{Progress, Records, in_work};
use crate::error::{Result, RuleViolation};
use crate::identity::User;
use crate::query::{Condition, Find, Query, Where, WhereExt as _};
use crate::record::Record;
use crate::schema::{Entity, Row};

/// How many occurrences a window gives at most.
const MOST_SHOWN: usize = 1_000;

/// How many series of a user are looked at for one window.
const MOST_SERIES: usize = 500;

/// How many occurrences of a series become activities in one commit.
const BATCH: usize = 200;

/// How far ahead occurrences become activities, in days.
const MOST_DAYS_AHEAD: i64 = 731;

/// An occurrence of a series: computed, or an activity of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesOccurrence {
    /// The series.
    pub series_id: Id<ActivitySeries>,
    /// When the series has it: its name within the series.
    pub occurrence_at: DateTime<Utc>,
    /// When it begins, wherever it was moved.
    pub starts_at: DateTime<Utc>,
    /// When it is over.
    pub ends_at: DateTime<Utc>,
    /// Whether it takes the whole day; `starts_at` then is midnight UTC of its day.
    pub is_all_day: bool,
    /// The activity; `None` as long as it is none.
    pub activity: Option<Arc<Record<Activity>>>,
}

/// The occurrences in a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesOccurrences {
    /// The occurrences by their beginning; cancelled and deleted ones are left out.
    pub items: Vec<SeriesOccurrence>,
    /// Whether these are all; `false` if a limit was reached: ask for a smaller window then.
    pub complete: bool,
}

/// What [`materialize`](crate::engine::Records::materialize) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Materialized {
    /// How many series were looked at.
    pub series: u64,
    /// How many occurrences became activities.
    pub occurrences: u64,
    /// Whether the run was told to stop before it was through.
    pub is_stopped: bool,
}

impl Records<'_, ActivitySeries> {
    /// The occurrences of a series that begin in a window, which its end is not part of: computed
    /// ones together with those that are activities, where those were moved to. At most 1,000.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn occurrences(
        &self,
        id: Id<ActivitySeries>,
        window: &Range<DateTime<Utc>>,
    ) -> Result<SeriesOccurrences> {
        let series = self.get(id).await?;
        let of_series = Activity::OCCURRENCE.at(OccurrenceOf::SERIES_ID).eq(id);
        let filter = of_series.and(is_near(window));
        let rows = self.activity_rows(filter).await?;
        Ok(merge(&[series], rows, window, None, true))
    }

    /// The occurrences in a window that are a user's to do: those assigned to the user, and those
    /// of the user that are assigned to nobody else. At most 1,000, of at most 500 series.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn occurrences_of(
        &self,
        user: Id<User>,
        window: &Range<DateTime<Utc>>,
    ) -> Result<SeriesOccurrences> {
        let pattern = ActivitySeries::PATTERN;
        let assigned = pattern.at(ActivityPattern::ASSIGNED_TO).eq(user);
        let unassigned = pattern.at(ActivityPattern::ASSIGNED_TO).is_null();
        let owned = pattern
            .at(ActivityPattern::OWNER_ID)
            .eq(user)
            .and(unassigned);
        let begun = ActivitySeries::FIRST_AT.lt(window.end);
        let last = ActivitySeries::LAST_AT;
        let goes_on = last.is_null().or(last.ge(window.start));
        let find = Find::from(assigned.or(owned).and(begun).and(goes_on)).limit(MOST_SERIES);
        let page = self.find(find).await?;
        let complete = page.next.is_none();
        let ids: Vec<Id<ActivitySeries>> = page.items.iter().map(|series| series.id).collect();
        // Those of the series, to know which occurrences are activities; and what was given to the
        // user, or moved into the window, of whichever series.
        let of_series = Activity::OCCURRENCE.at(OccurrenceOf::SERIES_ID);
        let mine = Activity::ASSIGNED_TO
            .eq(user)
            .or(Activity::OWNER_ID.eq(user));
        let of_user = of_series.is_not_null().and(mine).and(is_near(window));
        let filter = if ids.is_empty() {
            of_user
        } else {
            of_series.one_of(ids).and(is_near(window)).or(of_user)
        };
        let rows = self.activity_rows(filter).await?;
        Ok(merge(&page.items, rows, window, Some(user), complete))
    }

    /// Makes every occurrence before `until` an activity, in all series of the tenant, so that it
    /// is found, reminded of and reported like any other; at most two years ahead.
    ///
    /// Each commit takes up to 200 occurrences of one series. The run can be stopped, repeated and
    /// made by several workers at once: no occurrence becomes two activities.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// # async fn example(session: &Session) -> Result<()> {
    /// let in_a_month = session.engine().clock().now() + chrono::TimeDelta::days(31);
    /// let done = session.activity_series().materialize(in_a_month, &()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) if `until` is more than two years ahead; those of writing
    /// an activity, such as an owner who is gone: the series before it are done then.
    pub async fn materialize(
        &mut self,
        until: DateTime<Utc>,
        progress: &(dyn Progress + '_),
    ) -> Result<Materialized> {
        let now = self.workspace.session().engine().clock().now();
        if until - now > TimeDelta::days(MOST_DAYS_AHEAD) {
            let message = "occurrences become activities at most two years ahead";
            return Err(RuleViolation::new("too_far_ahead", "C-015", message).into());
        }
        let reached = ActivitySeries::MATERIALIZED_UNTIL;
        let open = ActivitySeries::IS_EXHAUSTED
            .eq(false)
            .and(ActivitySeries::FIRST_AT.lt(until))
            .and(reached.is_null().or(reached.lt(until)));
        let find = Find::from(open).limit(BATCH);
        let mut done = Materialized::default();
        let mut page = self.find(find.clone()).await?;
        loop {
            for series in &page.items {
                done.series += 1;
                loop {
                    let (made, more) = self.materialize_some(series.id, until).await?;
                    done.occurrences += u64::try_from(made).unwrap_or(u64::MAX);
                    if progress.report(done.occurrences, None).is_break() {
                        done.is_stopped = true;
                        return Ok(done);
                    }
                    if more == 0 {
                        break;
                    }
                }
            }
            let Some(next) = page.next else {
                return Ok(done);
            };
            page = self.find(find.clone().after(next)).await?;
        }
    }

    /// Makes the next occurrences of a series activities: how many, and whether there are more.
    async fn materialize_some(
        &mut self,
        id: Id<ActivitySeries>,
        until: DateTime<Utc>,
    ) -> Result<(usize, usize)> {
        in_work!(self.workspace, |work| {
            let Some(series) = work.lookup(id).await? else {
                return Ok((0, 0));
            };
            let Some(from) = series.materialized_until.or(series.first_at) else {
                return Ok((0, 0));
            };
            if from >= until || series.archived_at.is_some() {
                return Ok((0, 0));
            }
            let found = series.schedule().occurrences(&(from..until), BATCH);
            let last = found.starts.last().filter(|_| !found.complete);
            let reached = last.map_or(until, |last| *last + TimeDelta::seconds(1));
            let key = Activity::OCCURRENCE.at(OccurrenceOf::OCCURRENCE_AT);
            let near = key.ge(from).and(key.lt(reached));
            let of_series = Activity::OCCURRENCE.at(OccurrenceOf::SERIES_ID).eq(id);
            let rows = work.activity_rows(of_series.and(near), usize::MAX).await?;
            let known: HashSet<DateTime<Utc>> = rows
                .iter()
                .filter_map(|row| Record::<Activity>::from_row(row.clone()))
                .filter_map(|activity| activity.occurrence.occurrence_at)
                .collect();
            let mut made = 0;
            for at in found.starts.iter().filter(|at| !known.contains(*at)) {
                work.create_occurrence(&series, *at).await?;
                made += 1;
            }
            let reach = |series: &mut ActivitySeries| series.materialized_until = Some(reached);
            work.update(id, &reach).await?;
            Ok((made, usize::from(!found.complete)))
        })
    }

    async fn activity_rows(&self, filter: Where<Activity>) -> Result<Vec<Row>> {
        let registry = &*self.workspace.registry().await?;
        let condition = Condition::bind(&filter.into_filter(), Activity::schema(), registry)?;
        let query = Query::new(Activity::schema(), condition).limit(2 * MOST_SHOWN + 1);
        self.workspace.select(&query).await
    }
}

/// What is in a window, or was planned there.
fn is_near(window: &Range<DateTime<Utc>>) -> Where<Activity> {
    let key = Activity::OCCURRENCE.at(OccurrenceOf::OCCURRENCE_AT);
    let begins = Activity::SCHEDULED_AT;
    let planned = key.ge(window.start).and(key.lt(window.end));
    planned.or(begins.ge(window.start).and(begins.lt(window.end)))
}

/// Lays the activities over the computed occurrences. Up to `materialized_until` the activities
/// alone tell what takes place; each of them, deleted ones too, stands for its occurrence.
fn merge(
    series: &[Arc<Record<ActivitySeries>>],
    rows: Vec<Row>,
    window: &Range<DateTime<Utc>>,
    user: Option<Id<User>>,
    complete: bool,
) -> SeriesOccurrences {
    let mut complete = complete && rows.len() <= 2 * MOST_SHOWN;
    let mut items = Vec::new();
    let mut taken: HashMap<Uuid, HashSet<DateTime<Utc>>> = HashMap::new();
    for row in rows {
        let Some(activity) = Record::<Activity>::from_row(row) else {
            continue;
        };
        let (Some(series_id), Some(key)) = (
            activity.occurrence.series_id,
            activity.occurrence.occurrence_at,
        ) else {
            continue;
        };
        taken.entry(series_id.uuid()).or_default().insert(key);
        let starts_at = activity.scheduled_at.unwrap_or(key);
        let is_users =
            user.is_none_or(|user| activity.assigned_to.unwrap_or(activity.owner_id) == user);
        let is_off = activity.status == ActivityStatus::Cancelled || activity.deleted_at.is_some();
        if is_off || !is_users || !window.contains(&starts_at) {
            continue;
        }
        let minutes = TimeDelta::minutes(activity.duration_minutes.unwrap_or(0).into());
        let length = if activity.is_all_day {
            TimeDelta::days(1)
        } else {
            minutes
        };
        items.push(SeriesOccurrence {
            series_id,
            occurrence_at: key,
            starts_at,
            ends_at: starts_at + length,
            is_all_day: activity.is_all_day,
            activity: Some(activity),
        });
    }
    for series in series {
        let from = series
            .materialized_until
            .map_or(window.start, |until| until.max(window.start));
        let found = series
            .schedule()
            .occurrences(&(from..window.end), MOST_SHOWN);
        complete &= found.complete;
        let taken = taken.get(&series.id.uuid());
        let free = found
            .starts
            .into_iter()
            .filter(|at| !taken.is_some_and(|taken| taken.contains(at)));
        items.extend(free.map(|at| SeriesOccurrence {
            series_id: series.id,
            occurrence_at: at,
            starts_at: at,
            ends_at: series.end_of(at),
            is_all_day: series.pattern.is_all_day,
            activity: None,
        }));
    }
    items.sort_by_key(|item| (item.starts_at, item.series_id.uuid()));
    complete &= items.len() <= MOST_SHOWN;
    items.truncate(MOST_SHOWN);
    SeriesOccurrences { items, complete }
}

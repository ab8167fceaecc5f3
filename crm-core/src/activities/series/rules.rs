//! What is kept true whenever a series or one of its activities is written.

use async_trait::async_trait;

use super::same_day::day_of;
use super::{ActivityPattern, ActivitySeries, OccurrenceOf};
use crate::activities::Activity;
use crate::activities::days::start_of_day;
use crate::engine::{UnitOfWork, Write, WriteRule};
use crate::error::Result;
use crate::merging::BY_MERGE;
use crate::record::Record;
use crate::value::TimeZone;

/// What is said about a write of an activity that its series makes; see [`OccurrenceRules`].
pub(super) const BY_SERIES: &str = "by series";

/// Keeps the bounds of a series, and carries its changes on to its occurrences.
#[derive(Debug)]
pub(crate) struct SeriesRules;

#[async_trait]
impl WriteRule for SeriesRules {
    fn object(&self) -> &'static str {
        "activity_series"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<ActivitySeries>() else {
            return Ok(());
        };
        if write.deletes() {
            return Ok(());
        }
        let before = write.before::<ActivitySeries>();
        let same_schedule = before.is_some_and(|before| before.has_schedule_of(after));
        let same_pattern = before.is_none_or(|before| before.pattern == after.pattern);
        let left_out = before.filter(|before| !same_schedule && before.excluded == after.excluded);
        if let Some(excluded) = left_out.map(|before| after.excluded_since(&before.schedule())) {
            write.edit::<ActivitySeries>(|series| series.excluded = excluded);
        }
        let Some(after) = write.after::<ActivitySeries>() else {
            return Ok(());
        };
        if !same_schedule {
            // A start that is no time is told by the series' own check, as is a faulty rule.
            let readable = after.recurrence.parts().is_ok() && after.starts_at.naive().is_some();
            let bounds = after.schedule().bounds();
            if bounds.is_none() && readable {
                let message = "the series never takes place; change the rule or the start";
                write.faults().add("recurrence", "never_occurs", message);
                return Ok(());
            }
            write.edit::<ActivitySeries>(|series| {
                series.first_at = bounds.map(|bounds| bounds.first);
                series.last_at = bounds.and_then(|bounds| bounds.last);
            });
        }
        write.edit::<ActivitySeries>(|series| {
            let until = series.materialized_until;
            series.is_exhausted = series
                .last_at
                .is_some_and(|last| until.is_some_and(|until| last < until));
        });
        let changed = !write.is_new() && (!same_schedule || !same_pattern);
        if changed && let Some(after) = write.after::<ActivitySeries>().cloned() {
            follow(work, &after).await?;
        }
        Ok(())
    }
}

async fn follow(work: &mut UnitOfWork, series: &Record<ActivitySeries>) -> Result<()> {
    let now = work.now();
    // Those of today that are past too: the day may not get another.
    let today = day_of(&series.schedule(), now);
    let zone = if series.pattern.is_all_day {
        TimeZone::UTC
    } else {
        series.time_zone
    };
    let from = start_of_day(today, zone).min(now);
    let rows = work.occurrence_rows(series.id, from).await?;
    work.follow_series(series, rows, now).await
}

/// Marks an occurrence that somebody changes on its own. The writes that the series itself makes say
/// so by a note.
///
/// What is done with an occurrence, such as completing it, is no change of it. Nor is the loss of a
/// link or of the assignee: that is what the deletion of such a record does to every occurrence; nor
/// that a linked record became part of another, which a merge does to the series too.
#[derive(Debug)]
pub(crate) struct OccurrenceRules;

#[async_trait]
impl WriteRule for OccurrenceRules {
    fn object(&self) -> &'static str {
        "activity"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let (Some(before), Some(after)) = (write.before::<Activity>(), write.after::<Activity>())
        else {
            return Ok(());
        };
        if after.occurrence.series_id.is_none() {
            return Ok(());
        }
        let note = work.take_note(after.id.uuid());
        let by_series = matches!(note.as_deref(), Some(BY_SERIES | BY_MERGE));
        if !by_series
            && !write.deletes()
            && !after.occurrence.is_individual
            && is_individual_change(before, after)
        {
            write.edit::<Activity>(|activity| activity.occurrence.is_individual = true);
        }
        Ok(())
    }
}

/// Whether a write changes what the series says of an occurrence.
fn is_individual_change(before: &Activity, after: &Activity) -> bool {
    let mut kept = ActivityPattern::from(after);
    let had = ActivityPattern::from(before);
    macro_rules! lost {
        ($($($path:ident).+),*) => {$(
            if kept.$($path).+.is_none() {
                kept.$($path).+ = had.$($path).+.clone();
            }
        )*};
    }
    lost!(
        assigned_to,
        links.account_id,
        links.contact_id,
        links.deal_id,
        links.lead_id,
        links.related_object,
        links.related_id
    );
    kept != had || before.scheduled_at != after.scheduled_at || before.due_date != after.due_date
}

impl OccurrenceOf {
    /// Whether an activity is planned by its series or comes from another calendar: it may then be
    /// due in the past when it is created (R-050 is about what is planned here and now).
    pub(in crate::activities) fn may_be_past(activity: &Activity) -> bool {
        activity.occurrence.series_id.is_some() || activity.calendar.external_id.is_some()
    }
}

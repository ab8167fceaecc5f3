//! [`import`]: what was read is written, once for each `UID`.

use std::collections::HashSet;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use crm_core::activities::{
    Activity, ActivityPattern, ActivitySeries, ActivityStatus, CalendarIdentity, OccurrenceOf,
    local_date, start_of_day,
};
use crm_core::error::{Error, Result};
use crm_core::query::{Find, MAX_LIMIT, WhereExt as _};
use crm_core::{Id, Record, Session};
use uuid::Uuid;

use super::people::People;
use super::read::{CalendarEntry, EntryContent, NotTaken, ReadOptions, Reason, TooLarge, read};
use super::{Participants, status_name};

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// How many activities and series are new.
    pub created: u64,
    /// How many were changed.
    pub updated: u64,
    /// How many were there already as they are, or in a later revision.
    pub unchanged: u64,
    /// How many were cancelled.
    pub cancelled: u64,
    /// How many attendees of series were left out: only single activities have participants.
    pub attendees_left_out: u64,
    /// What could not be taken.
    pub not_taken: Vec<NotTaken>,
}

/// How many identifiers are looked up at once.
const AT_ONCE: usize = 500;

enum Done {
    Created,
    Updated,
    Unchanged,
    Cancelled,
}

/// Reads a calendar and writes its activities and series.
///
/// An activity or series is known by its `UID`, kept as `external_id`; a record that was exported
/// from here is known by its own id. So the same text may be imported again and again. A revision
/// (`SEQUENCE`) below the one that was taken over last is left aside. What is cancelled there is
/// cancelled here: an activity gets that status and stays as it is otherwise, a series ends now, and one
/// that is not known is left aside. What took place once and has become a series, or was one and takes
/// place once now, changes from the one to the other; what is over or finished stays. Each event is a commit of its own; what the engine refuses is listed, and the rest is
/// taken.
///
/// Attendees and the organizer become participants of their activity, in a commit after it: the user
/// or else the contact with that e-mail address, otherwise somebody external. Their answers are taken
/// over; nobody is taken out, and an answer that is known here stays where the calendar has none. Of
/// a calendar with the method `REPLY` only the answers are taken.
///
/// What the calendar does not speak of, such as links, owner and outcome, stays as it is. Past
/// events and tasks are taken as well (R-050 is about what is planned here).
///
/// ```
/// # use crm_core::{Id, Session, deals::Deal, identity::User};
/// # use crm_exchange::calendar::{ReadOptions, import};
/// # async fn example(session: &Session, text: &str, ada: Id<User>, deal: Id<Deal>) {
/// let report = import(session, text, &ReadOptions::new(ada, deal)).await.unwrap();
/// println!("{} new, {} not taken", report.created, report.not_taken.len());
/// # }
/// ```
///
/// # Errors
/// [`Error::Validation`] if the text is too large; those of the storage.
pub async fn import(session: &Session, text: &str, options: &ReadOptions) -> Result<ImportReport> {
    let mut contents = read(text, options).map_err(|TooLarge| {
        let message = TooLarge.to_string();
        let fault = crm_core::error::FieldError::new("text", "too_long", message);
        crm_core::error::ValidationError::from(fault)
    })?;
    let everybody = contents.entries.iter().map(|entry| &entry.participants);
    let people = People::find(session, everybody).await?;
    let absent = absent(session, &contents.entries).await?;
    let mut run = Run {
        session,
        people,
        absent,
    };
    let mut report = ImportReport {
        not_taken: std::mem::take(&mut contents.not_taken),
        ..ImportReport::default()
    };
    // Series before their changed occurrences, wherever they stand in the text.
    let mut entries = contents.entries;
    entries.sort_by_key(|entry| (entry.recurrence_id.is_some(), entry.place));
    let series = entries.iter().filter(|entry| entry.is_series());
    let series: HashSet<String> = series.map(|entry| entry.uid.clone()).collect();
    for entry in entries {
        let place = entry.place;
        if entry.is_once() && series.contains(&entry.uid) {
            // Not a later revision of the series that stands beside it.
            let reason = Reason::Uid;
            report.not_taken.push(NotTaken { place, reason });
            continue;
        }
        if entry.is_series() && !entry.is_reply {
            let count = entry.participants.attendees.len();
            report.attendees_left_out += u64::try_from(count).unwrap_or(u64::MAX);
        }
        match run.write(entry).await {
            Ok(Done::Created) => report.created += 1,
            Ok(Done::Updated) => report.updated += 1,
            Ok(Done::Unchanged) => report.unchanged += 1,
            Ok(Done::Cancelled) => report.cancelled += 1,
            Err(error) if matches!(error, Error::Storage(_)) => return Err(error),
            Err(error) => {
                let codes = error
                    .field_errors()
                    .iter()
                    .map(|fault| format!("{}:{}", fault.path, fault.code));
                let codes = std::iter::once(error.code().to_owned())
                    .chain(codes)
                    .collect();
                let reason = Reason::Refused(codes);
                report.not_taken.push(NotTaken { place, reason });
            }
        }
    }
    report.not_taken.sort_by_key(|one| one.place);
    Ok(report)
}

/// An import on its way.
struct Run<'a> {
    session: &'a Session,
    people: People,
    /// The identifiers that nothing has here yet: they need not be looked up one by one.
    absent: HashSet<String>,
}

/// The identifiers of a calendar by which nothing is known: some round trips for 500 of them.
async fn absent(session: &Session, entries: &[CalendarEntry]) -> Result<HashSet<String>> {
    let keys = |entry: &CalendarEntry| [entry.uid.clone(), key(&entry.uid, entry.recurrence_id)];
    let mut absent: HashSet<String> = entries.iter().flat_map(keys).collect();
    let all: Vec<String> = absent.iter().cloned().collect();
    for some in all.chunks(AT_ONCE) {
        let external = ActivitySeries::CALENDAR.at(CalendarIdentity::EXTERNAL_ID);
        let find = Find::from(external.one_of(some.to_vec())).limit(MAX_LIMIT);
        for series in session.activity_series().find(find).await?.items {
            if let Some(known) = &series.calendar.external_id {
                absent.remove(known);
            }
        }
        let external = Activity::CALENDAR.at(CalendarIdentity::EXTERNAL_ID);
        let find = Find::from(external.one_of(some.to_vec())).limit(MAX_LIMIT);
        for activity in session.activities().find(find).await?.items {
            if let Some(known) = &activity.calendar.external_id {
                absent.remove(known);
            }
        }
        // What was exported from here has its own id.
        let own: Vec<Uuid> = some
            .iter()
            .filter_map(|key| Uuid::parse_str(key).ok())
            .collect();
        let series: Vec<Id<ActivitySeries>> = own.iter().copied().map(Id::new).collect();
        let activities: Vec<Id<Activity>> = own.into_iter().map(Id::new).collect();
        let series = session.activity_series().get_all(&series).await?;
        let activities = session.activities().get_all(&activities).await?;
        let known: HashSet<Uuid> = series
            .iter()
            .map(|series| series.id.uuid())
            .chain(activities.iter().map(|activity| activity.id.uuid()))
            .collect();
        let is_known = |key: &&String| Uuid::parse_str(key).is_ok_and(|id| known.contains(&id));
        for key in some.iter().filter(is_known) {
            absent.remove(key);
        }
    }
    Ok(absent)
}

impl Run<'_> {
    async fn write(&mut self, entry: CalendarEntry) -> Result<Done> {
        let session = self.session;
        if entry.is_reply {
            return self.write_answers(&entry).await;
        }
        let series = self.known_series(&entry.uid).await?;
        let meant = series
            .as_ref()
            .and_then(|series| occurrence_meant(&entry, series));
        let revision = Revision {
            sequence: entry.sequence,
            is_cancelled: entry.is_cancelled,
        };
        let CalendarEntry {
            uid,
            recurrence_id,
            participants,
            content,
            ..
        } = entry;
        let (done, activity) = match (content, recurrence_id, series) {
            (EntryContent::Activity(activity), Some(at), Some(series)) => {
                let at = meant.unwrap_or(at);
                write_occurrence(session, series.id, at, &activity, revision).await?
            }
            (EntryContent::Activity(_), None, Some(series)) if revision.is_cancelled => {
                // Who cancels all of it need not repeat its rule.
                return cancel_series(session, &series, revision).await;
            }
            (EntryContent::Activity(_), None, Some(series))
                if revision.is_older(series.calendar.external_sequence) =>
            {
                return Ok(Done::Unchanged);
            }
            (EntryContent::Series(given), _, known) => {
                return self.write_series(*given, known, uid, revision).await;
            }
            (EntryContent::Activity(mut activity), at, series) => {
                let key = key(&uid, at);
                if let Some(series) = &series {
                    let mut pattern = ActivityPattern::from(&*activity);
                    stay_with(&mut pattern, &series.pattern);
                    pattern.apply_to(&mut activity);
                }
                let written = self.write_activity(*activity, key, revision).await?;
                if let Some(series) = series {
                    // It takes place once only now.
                    session.activity_series().delete_all(series.id).await?;
                }
                written
            }
        };
        match (activity, done) {
            (Some(activity), done) => {
                let is_changed = self.people.store(session, activity, &participants).await?;
                Ok(match done {
                    Done::Unchanged if is_changed => Done::Updated,
                    done => done,
                })
            }
            (None, done) => Ok(done),
        }
    }

    async fn write_activity(
        &mut self,
        mut given: Activity,
        key: String,
        revision: Revision,
    ) -> Result<(Done, Option<Id<Activity>>)> {
        let Revision {
            sequence,
            is_cancelled,
        } = revision;
        let mut activities = self.session.activities();
        let Some(known) = self.known_activity(&key).await? else {
            if is_cancelled {
                return Ok((Done::Unchanged, None));
            }
            self.absent.remove(&key);
            given.calendar.external_id = Some(key);
            given.calendar.external_sequence = Some(sequence);
            let created = activities.create(given).await?;
            return Ok((Done::Created, Some(created.id)));
        };
        if revision.is_older(known.calendar.external_sequence) {
            return Ok((Done::Unchanged, None));
        }
        let updated = activities
            .update(known.id, |activity| {
                // Who cancels need not say again what it was.
                if is_cancelled {
                    activity.status = ActivityStatus::Cancelled;
                } else {
                    lay_over(activity, &given);
                }
                activity.calendar.external_sequence = Some(sequence);
            })
            .await?;
        let done = match (updated.version == known.version, is_cancelled) {
            (true, _) => Done::Unchanged,
            (false, true) => Done::Cancelled,
            (false, false) => Done::Updated,
        };
        Ok((done, Some(known.id).filter(|_| !is_cancelled)))
    }

    /// Takes over what attendees answered, and nothing else; an answer to what is not known here is left
    /// aside.
    async fn write_answers(&self, entry: &CalendarEntry) -> Result<Done> {
        let session = self.session;
        let series = self.known_series(&entry.uid).await?;
        let activity = match (entry.recurrence_id, series) {
            (Some(at), Some(series)) => {
                let at = occurrence_meant(entry, &series).unwrap_or(at);
                let mut all = session.activity_series();
                Some(all.edit_one(series.id, at, |_| {}).await?.id)
            }
            (None, Some(_)) => None,
            (at, None) => {
                let known = self.known_activity(&key(&entry.uid, at)).await?;
                known.map(|known| known.id)
            }
        };
        let Some(activity) = activity else {
            return Ok(Done::Unchanged);
        };
        let answers = Participants {
            organizer: None,
            attendees: entry.participants.attendees.clone(),
        };
        Ok(if self.people.store(session, activity, &answers).await? {
            Done::Updated
        } else {
            Done::Unchanged
        })
    }

    async fn write_series(
        &mut self,
        given: ActivitySeries,
        known: Option<std::sync::Arc<Record<ActivitySeries>>>,
        uid: String,
        revision: Revision,
    ) -> Result<Done> {
        let session = self.session;
        let sequence = revision.sequence;
        let Some(known) = known else {
            return self.begin_series(given, uid, revision).await;
        };
        if revision.is_cancelled {
            return cancel_series(session, &known, revision).await;
        }
        if revision.is_older(known.calendar.external_sequence) {
            return Ok(Done::Unchanged);
        }
        let mut all = session.activity_series();
        let updated = all
            .edit_all(known.id, |series| {
                let mut pattern = given.pattern.clone();
                stay_with(&mut pattern, &series.pattern);
                series.pattern = pattern;
                series.recurrence = given.recurrence.clone();
                series.starts_at = given.starts_at.clone();
                series.time_zone = given.time_zone;
                series.excluded = given.excluded.clone();
                series.added = given.added.clone();
                series.calendar.external_sequence = Some(sequence);
            })
            .await?;
        Ok(if updated.version == known.version {
            Done::Unchanged
        } else {
            Done::Updated
        })
    }

    /// Writes a series that is not known yet. What took place once under its identifier and is still to come
    /// goes: the series takes its place.
    async fn begin_series(
        &mut self,
        mut given: ActivitySeries,
        uid: String,
        revision: Revision,
    ) -> Result<Done> {
        let session = self.session;
        let once = self.known_activity(&uid).await?;
        let taken = once.as_ref().map(|once| once.calendar.external_sequence);
        if revision.is_older(taken.flatten()) {
            return Ok(Done::Unchanged);
        }
        if revision.is_cancelled {
            let Some(once) = once else {
                return Ok(Done::Unchanged);
            };
            session.activities().cancel(once.id).await?;
            return Ok(Done::Cancelled);
        }
        self.absent.remove(&uid);
        given.calendar.external_id = Some(uid);
        given.calendar.external_sequence = Some(revision.sequence);
        if let Some(once) = &once {
            stay_with(&mut given.pattern, &ActivityPattern::from(&once.data));
        }
        let mut work = session.begin();
        work.activity_series().create(given).await?;
        if let Some(once) = once.filter(|once| !once.status.is_finished()) {
            work.activities().delete(once.id).await?;
        }
        work.commit().await?;
        Ok(Done::Created)
    }

    async fn known_series(
        &self,
        uid: &str,
    ) -> Result<Option<std::sync::Arc<Record<ActivitySeries>>>> {
        if self.absent.contains(uid) {
            return Ok(None);
        }
        let external = ActivitySeries::CALENDAR.at(CalendarIdentity::EXTERNAL_ID);
        let series = self.session.activity_series();
        if let Some(found) = series.find_one(external.eq(uid)).await? {
            return Ok(Some(found));
        }
        match Uuid::parse_str(uid) {
            Ok(id) => optional(series.get(Id::new(id)).await),
            Err(_) => Ok(None),
        }
    }

    async fn known_activity(&self, uid: &str) -> Result<Option<std::sync::Arc<Record<Activity>>>> {
        if self.absent.contains(uid) {
            return Ok(None);
        }
        let external = Activity::CALENDAR.at(CalendarIdentity::EXTERNAL_ID);
        let activities = self.session.activities();
        if let Some(found) = activities.find_one(external.eq(uid)).await? {
            return Ok(Some(found));
        }
        match Uuid::parse_str(uid) {
            Ok(id) => optional(activities.get(Id::new(id)).await),
            Err(_) => Ok(None),
        }
    }
}

impl CalendarEntry {
    const fn is_series(&self) -> bool {
        matches!(self.content, EntryContent::Series(_))
    }

    /// Whether it says that something is done once.
    const fn is_once(&self) -> bool {
        let says_so = !self.is_cancelled && !self.is_reply;
        says_so && self.recurrence_id.is_none() && !self.is_series()
    }
}

/// Which revision of an event is read, and whether it cancels the event.
#[derive(Clone, Copy)]
struct Revision {
    sequence: u32,
    is_cancelled: bool,
}

impl Revision {
    /// Whether a later one was taken over.
    fn is_older(self, taken: Option<u32>) -> bool {
        taken.is_some_and(|taken| taken > self.sequence)
    }
}

/// The occurrence of a series that an event is about. Some calendars name it by its day alone, or by a
/// time where the series has whole days.
fn occurrence_meant(
    entry: &CalendarEntry,
    series: &Record<ActivitySeries>,
) -> Option<DateTime<Utc>> {
    let at = entry.recurrence_id?;
    let zone = series.time_zone;
    let window = match (entry.recurrence_is_day, series.pattern.is_all_day) {
        (true, false) => {
            let day = at.date_naive();
            start_of_day(day, zone)..start_of_day(day.succ_opt()?, zone)
        }
        (false, true) => {
            let day = local_date(at, zone).and_time(NaiveTime::MIN).and_utc();
            day..day + TimeDelta::days(1)
        }
        _ => return Some(at),
    };
    let found = series.schedule().occurrences(&window, 1);
    found.starts.first().copied()
}

/// The identifier of an activity; that of an invitation to one occurrence of a series that is not
/// known here names the occurrence too.
fn key(uid: &str, occurrence: Option<DateTime<Utc>>) -> String {
    occurrence.map_or_else(
        || uid.to_owned(),
        |at| format!("{uid} {}", at.format("%Y%m%dT%H%M%SZ")),
    )
}

fn optional<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives what a calendar says back to those whom it does not speak of.
fn stay_with(given: &mut ActivityPattern, kept: &ActivityPattern) {
    given.links.clone_from(&kept.links);
    given.owner_id = kept.owner_id;
    given.assigned_to = kept.assigned_to;
}

/// Writes what a calendar says of an activity over it.
fn lay_over(activity: &mut Activity, given: &Activity) {
    let mut pattern = ActivityPattern::from(given);
    stay_with(&mut pattern, &ActivityPattern::from(&*activity));
    pattern.apply_to(activity);
    activity.scheduled_at = given.scheduled_at;
    activity.due_date = given.due_date;
    // A status that the calendar cannot tell from the one it gives stays.
    let is_task = super::is_task(
        given.activity_type,
        given.scheduled_at.is_some(),
        given.due_date.is_some(),
    );
    if status_name(activity.status, is_task) != status_name(given.status, is_task) {
        activity.status = given.status;
        activity.completed_at = given.completed_at;
    }
}

/// Cancels what is still to come.
async fn cancel_series(
    session: &Session,
    series: &Record<ActivitySeries>,
    revision: Revision,
) -> Result<Done> {
    if revision.is_older(series.calendar.external_sequence) {
        return Ok(Done::Unchanged);
    }
    let now = session.engine().clock().now();
    let last = series.last_at.unwrap_or(DateTime::<Utc>::MAX_UTC);
    let next = series.schedule().occurrences(&(now..last), 1).starts.pop();
    let next = next.or(series.last_at.filter(|last| *last >= now));
    match next {
        Some(next) => {
            let mut all = session.activity_series();
            all.cancel_following(series.id, next).await?;
            // So that an earlier revision does not bring back what is cancelled.
            let taken = |series: &mut ActivitySeries| {
                series.calendar.external_sequence = Some(revision.sequence);
            };
            // One that is cancelled from its beginning is gone.
            optional(all.update(series.id, taken).await)?;
            Ok(Done::Cancelled)
        }
        None => Ok(Done::Unchanged),
    }
}

/// The activity that an occurrence of a series is, if it is one already.
async fn known_occurrence(
    session: &Session,
    series: Id<ActivitySeries>,
    at: DateTime<Utc>,
) -> Result<Option<std::sync::Arc<Record<Activity>>>> {
    let of_series = Activity::OCCURRENCE.at(OccurrenceOf::SERIES_ID).eq(series);
    let then = Activity::OCCURRENCE.at(OccurrenceOf::OCCURRENCE_AT).eq(at);
    session.activities().find_one(of_series.and(then)).await
}

async fn write_occurrence(
    session: &Session,
    series: Id<ActivitySeries>,
    at: DateTime<Utc>,
    given: &Activity,
    revision: Revision,
) -> Result<(Done, Option<Id<Activity>>)> {
    let mut all = session.activity_series();
    if let Some(known) = known_occurrence(session, series, at).await?
        && revision.is_older(known.calendar.external_sequence)
    {
        return Ok((Done::Unchanged, None));
    }
    let taken = |activity: &mut Activity| {
        activity.calendar.external_sequence = Some(revision.sequence);
    };
    if revision.is_cancelled {
        let window = at..at + chrono::TimeDelta::seconds(1);
        let is_open = all.get(series).await?.schedule().occurs_at(at);
        let shown = all.occurrences(series, &window).await?;
        if is_open && shown.items.is_empty() {
            return Ok((Done::Unchanged, None));
        }
        let cancelled = all.cancel_one(series, at).await?;
        session.activities().update(cancelled.id, taken).await?;
        return Ok((Done::Cancelled, None));
    }
    let before = all.edit_one(series, at, |_| {}).await?;
    let after = all
        .edit_one(series, at, |activity| {
            lay_over(activity, given);
            taken(activity);
        })
        .await?;
    let done = if after.version == before.version {
        Done::Unchanged
    } else {
        Done::Updated
    };
    Ok((done, Some(after.id)))
}

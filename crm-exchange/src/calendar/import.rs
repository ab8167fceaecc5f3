//! [`import`]: what was read is written, once for each `UID`.

use chrono::{DateTime, Utc};
use crm_core::activities::{Activity, ActivityPattern, ActivitySeries, ActivityStatus};
use crm_core::error::{Error, Result};
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
/// cancelled here: an activity gets that status, a series ends now, and one that is not known is
/// left aside. Each event is a commit of its own; what the engine refuses is listed, and the rest is
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
    let mut report = ImportReport {
        not_taken: std::mem::take(&mut contents.not_taken),
        ..ImportReport::default()
    };
    // Series before their changed occurrences, wherever they stand in the text.
    let mut entries: Vec<(usize, CalendarEntry)> =
        contents.entries.into_iter().enumerate().collect();
    entries.sort_by_key(|(place, entry)| (entry.recurrence_id.is_some(), *place));
    for (place, entry) in entries {
        if matches!(entry.content, EntryContent::Series(_)) && !entry.is_reply {
            let count = entry.participants.attendees.len();
            report.attendees_left_out += u64::try_from(count).unwrap_or(u64::MAX);
        }
        match write(session, entry, &people).await {
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
    Ok(report)
}

async fn write(session: &Session, entry: CalendarEntry, people: &People) -> Result<Done> {
    if entry.is_reply {
        return write_answers(session, &entry, people).await;
    }
    let series = known_series(session, &entry.uid).await?;
    let CalendarEntry {
        uid,
        sequence,
        recurrence_id,
        is_cancelled,
        participants,
        content,
        ..
    } = entry;
    let (done, activity) = match (content, recurrence_id, series) {
        (EntryContent::Activity(activity), Some(at), Some(series)) => {
            write_occurrence(session, series.id, at, &activity, is_cancelled).await?
        }
        (EntryContent::Series(given), _, known) => {
            return write_series(session, *given, known, uid, sequence, is_cancelled).await;
        }
        (EntryContent::Activity(activity), at, _) => {
            let key = key(&uid, at);
            write_activity(session, *activity, key, sequence, is_cancelled).await?
        }
    };
    match (activity, done) {
        (Some(activity), done) => {
            let is_changed = people.store(session, activity, &participants).await?;
            Ok(match done {
                Done::Unchanged if is_changed => Done::Updated,
                done => done,
            })
        }
        (None, done) => Ok(done),
    }
}

/// The identifier of an activity; that of an invitation to one occurrence of a series that is not
/// known here names the occurrence too.
fn key(uid: &str, occurrence: Option<DateTime<Utc>>) -> String {
    occurrence.map_or_else(
        || uid.to_owned(),
        |at| format!("{uid} {}", at.format("%Y%m%dT%H%M%SZ")),
    )
}

/// Takes over what attendees answered, and nothing else; an answer to what is not known here is left
/// aside.
async fn write_answers(session: &Session, entry: &CalendarEntry, people: &People) -> Result<Done> {
    let series = known_series(session, &entry.uid).await?;
    let activity = match (entry.recurrence_id, series) {
        (Some(at), Some(series)) => {
            let mut all = session.activity_series();
            Some(all.edit_one(series.id, at, |_| {}).await?.id)
        }
        (None, Some(_)) => None,
        (at, None) => {
            let known = known_activity(session, &key(&entry.uid, at)).await?;
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
    Ok(if people.store(session, activity, &answers).await? {
        Done::Updated
    } else {
        Done::Unchanged
    })
}

async fn known_series(
    session: &Session,
    uid: &str,
) -> Result<Option<std::sync::Arc<Record<ActivitySeries>>>> {
    use crm_core::activities::CalendarIdentity;
    let external = ActivitySeries::CALENDAR.at(CalendarIdentity::EXTERNAL_ID);
    let series = session.activity_series();
    if let Some(found) = series.find_one(external.eq(uid)).await? {
        return Ok(Some(found));
    }
    match Uuid::parse_str(uid) {
        Ok(id) => optional(series.get(Id::new(id)).await),
        Err(_) => Ok(None),
    }
}

async fn known_activity(
    session: &Session,
    uid: &str,
) -> Result<Option<std::sync::Arc<Record<Activity>>>> {
    use crm_core::activities::CalendarIdentity;
    let external = Activity::CALENDAR.at(CalendarIdentity::EXTERNAL_ID);
    let activities = session.activities();
    if let Some(found) = activities.find_one(external.eq(uid)).await? {
        return Ok(Some(found));
    }
    match Uuid::parse_str(uid) {
        Ok(id) => optional(activities.get(Id::new(id)).await),
        Err(_) => Ok(None),
    }
}

fn optional<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn write_activity(
    session: &Session,
    mut given: Activity,
    key: String,
    sequence: u32,
    is_cancelled: bool,
) -> Result<(Done, Option<Id<Activity>>)> {
    if is_cancelled {
        given.status = ActivityStatus::Cancelled;
        given.completed_at = None;
    }
    let mut activities = session.activities();
    let Some(known) = known_activity(session, &key).await? else {
        if is_cancelled {
            return Ok((Done::Unchanged, None));
        }
        given.calendar.external_id = Some(key);
        given.calendar.external_sequence = Some(sequence);
        let created = activities.create(given).await?;
        return Ok((Done::Created, Some(created.id)));
    };
    if known
        .calendar
        .external_sequence
        .is_some_and(|taken| taken > sequence)
    {
        return Ok((Done::Unchanged, None));
    }
    let updated = activities
        .update(known.id, |activity| {
            lay_over(activity, &given);
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

/// Writes what a calendar says of an activity over it.
fn lay_over(activity: &mut Activity, given: &Activity) {
    let kept = ActivityPattern::from(&*activity);
    ActivityPattern::from(given).apply_to(activity);
    activity.links = kept.links;
    activity.owner_id = kept.owner_id;
    activity.assigned_to = kept.assigned_to;
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

async fn write_series(
    session: &Session,
    mut given: ActivitySeries,
    known: Option<std::sync::Arc<Record<ActivitySeries>>>,
    uid: String,
    sequence: u32,
    is_cancelled: bool,
) -> Result<Done> {
    let mut all = session.activity_series();
    let Some(known) = known else {
        if is_cancelled {
            return Ok(Done::Unchanged);
        }
        given.calendar.external_id = Some(uid);
        given.calendar.external_sequence = Some(sequence);
        all.create(given).await?;
        return Ok(Done::Created);
    };
    if known
        .calendar
        .external_sequence
        .is_some_and(|taken| taken > sequence)
    {
        return Ok(Done::Unchanged);
    }
    if is_cancelled {
        return cancel_series(session, &known).await;
    }
    let updated = all
        .edit_all(known.id, |series| {
            let (links, owner) = (series.pattern.links.clone(), series.pattern.owner_id);
            let assigned_to = series.pattern.assigned_to;
            series.pattern = ActivityPattern {
                links,
                owner_id: owner,
                assigned_to,
                ..given.pattern.clone()
            };
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

/// Cancels what is still to come.
async fn cancel_series(session: &Session, series: &Record<ActivitySeries>) -> Result<Done> {
    let now = session.engine().clock().now();
    let last = series.last_at.unwrap_or(DateTime::<Utc>::MAX_UTC);
    let next = series.schedule().occurrences(&(now..last), 1).starts.pop();
    let next = next.or(series.last_at.filter(|last| *last >= now));
    match next {
        Some(next) => {
            session
                .activity_series()
                .cancel_following(series.id, next)
                .await?;
            Ok(Done::Cancelled)
        }
        None => Ok(Done::Unchanged),
    }
}

async fn write_occurrence(
    session: &Session,
    series: Id<ActivitySeries>,
    at: DateTime<Utc>,
    given: &Activity,
    is_cancelled: bool,
) -> Result<(Done, Option<Id<Activity>>)> {
    let mut all = session.activity_series();
    if is_cancelled {
        let window = at..at + chrono::TimeDelta::seconds(1);
        let is_open = all.get(series).await?.schedule().occurs_at(at);
        let shown = all.occurrences(series, &window).await?;
        if is_open && shown.items.is_empty() {
            return Ok((Done::Unchanged, None));
        }
        all.cancel_one(series, at).await?;
        return Ok((Done::Cancelled, None));
    }
    let before = all.edit_one(series, at, |_| {}).await?;
    let after = all
        .edit_one(series, at, |activity| lay_over(activity, given))
        .await?;
    let done = if after.version == before.version {
        Done::Unchanged
    } else {
        Done::Updated
    };
    Ok((done, Some(after.id)))
}

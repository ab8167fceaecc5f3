//! [`Calendar`]: activities and series written as iCalendar.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use calcard::common::PartialDateTime;
use calcard::icalendar::{
    ICalendar, ICalendarAction, ICalendarComponent, ICalendarComponentType, ICalendarDuration,
    ICalendarEntry, ICalendarParameter, ICalendarParameterName, ICalendarProperty, ICalendarValue,
    ICalendarValueType, Uri,
};
use calcard::{Entry, Parser};
use chrono::{DateTime, TimeDelta, Utc};
use crm_core::activities::{
    Activity, ActivityParticipant, ActivitySeries, ActivityStatus, LocalDateTime, OccurrenceOf,
    Recurrence,
};
use crm_core::error::{Error, Result};
use crm_core::query::{Filter, Find, MAX_LIMIT};
use crm_core::schema::{Entity, ObjectRef};
use crm_core::value::{TextValue as _, TimeZone};
use crm_core::{EntityRef, Id, Record, Session};
use uuid::Uuid;

use super::{DURATION, Participants, STATUS, TYPE, is_task, name_of, priority_number, status_name};

/// A calendar in the making, as an `.ics` file or feed has it.
///
/// ```
/// use chrono::{DateTime, Utc};
/// use crm_core::activities::{Activity, ActivityType};
/// use crm_core::{Actor, Id, Record, Stamp};
/// use crm_exchange::calendar::{Calendar, Participants};
/// # fn example(call: &Record<Activity>, now: DateTime<Utc>) {
/// let mut calendar = Calendar::new(now);
/// assert!(calendar.add_activity(call, &Participants::default()));
/// let text = calendar.into_text();
/// assert!(text.starts_with("BEGIN:VCALENDAR\r\n"));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Calendar {
    stamped_at: DateTime<Utc>,
    calendar: ICalendar,
    zones: BTreeMap<TimeZone, (DateTime<Utc>, DateTime<Utc>)>,
}

/// How times of a component are written.
#[derive(Clone, Copy)]
enum Form {
    Day,
    Utc,
    Local(TimeZone),
}

impl Calendar {
    /// An empty calendar; `stamped_at` is its `DTSTAMP`, the time at which it is made.
    #[must_use]
    pub fn new(stamped_at: DateTime<Utc>) -> Self {
        let mut root = ICalendarComponent::new(ICalendarComponentType::VCalendar);
        root.add_property(ICalendarProperty::Version, "2.0".to_owned());
        root.add_property(ICalendarProperty::Prodid, "-//crm-engine//EN".to_owned());
        root.add_property(ICalendarProperty::Calscale, "GREGORIAN".to_owned());
        let calendar = ICalendar {
            components: vec![root],
        };
        Self {
            stamped_at,
            calendar,
            zones: BTreeMap::new(),
        }
    }

    /// Adds an activity that has a time or is due; `false` for one that has neither, and so has no
    /// place in a calendar. An occurrence of a series is written as an activity of its own.
    pub fn add_activity(&mut self, activity: &Record<Activity>, who: &Participants) -> bool {
        let uid = uid(activity.calendar.external_id.as_deref(), activity.id);
        let sequence = sequence(activity.calendar.external_sequence, activity.version);
        let form = if activity.is_all_day {
            Form::Day
        } else {
            Form::Utc
        };
        let Some(mut component) = self.component(activity, &uid, sequence, form) else {
            return false;
        };
        who.write(&mut component);
        self.push(component, activity.reminder_minutes, &activity.subject);
        true
    }

    /// Adds a series with those of its occurrences that became something else: `occurrences` may
    /// be all of its activities, deleted ones too; those that are as the series says are left out.
    pub fn add_series(
        &mut self,
        series: &Record<ActivitySeries>,
        occurrences: &[Arc<Record<Activity>>],
        who: &Participants,
    ) {
        self.write_series(series, occurrences, who, &HashMap::new());
    }

    /// Like [`add_series`](Self::add_series), with who takes part in single occurrences.
    fn write_series(
        &mut self,
        series: &Record<ActivitySeries>,
        occurrences: &[Arc<Record<Activity>>],
        who: &Participants,
        who_of: &HashMap<Id<Activity>, Participants>,
    ) {
        let uid = uid(series.calendar.external_id.as_deref(), series.id);
        let sequence = sequence(series.calendar.external_sequence, series.version);
        let Some(first) = series.first_at else {
            return;
        };
        let zone = series.time_zone;
        let form = match (series.pattern.is_all_day, zone == TimeZone::UTC) {
            (true, _) => Form::Day,
            (false, true) => Form::Utc,
            (false, false) => Form::Local(zone),
        };
        // The first occurrence of the rule, since other calendars take DTSTART for one.
        let schedule = series.schedule();
        let begin = schedule
            .local_from(DateTime::<Utc>::MIN_UTC)
            .or_else(|| series.starts_at.naive());
        let (Some(begin), Some(at)) = (begin, begin.and_then(|begin| schedule.moment(begin)))
        else {
            return;
        };
        let model = series.occurrence(series.id, at);
        let Some(mut component) = self.component(&model, &uid, sequence, form) else {
            return;
        };
        if let Form::Local(zone) = form {
            self.cover(
                zone,
                first,
                series.last_at.unwrap_or(first + TimeDelta::days(3_653)),
            );
            // The clock's own time, also where it leaves this one out.
            if let Ok(local) = LocalDateTime::new(begin)
                && let Some(entry) = component.property_mut(&ICalendarProperty::Dtstart)
            {
                entry.values = local.naive().map(naive).into_iter().collect();
            }
        }
        component.entries.extend(rule(&series.recurrence));
        let gone = occurrences
            .iter()
            .filter(|one| one.deleted_at.is_some() || one.status == ActivityStatus::Cancelled)
            .filter_map(|one| one.occurrence.occurrence_at);
        let mut excluded: Vec<DateTime<Utc>> = series.excluded.iter().chain(gone).collect();
        excluded.sort_unstable();
        excluded.dedup();
        let lists = [
            (ICalendarProperty::Exdate, excluded),
            (ICalendarProperty::Rdate, series.added.iter().collect()),
        ];
        for (property, moments) in lists {
            for at in moments {
                component.entries.push(time(property.clone(), at, form));
            }
        }
        who.write(&mut component);
        self.push(
            component,
            series.pattern.reminder_minutes,
            &series.pattern.subject,
        );
        for one in occurrences {
            let is_gone = one.deleted_at.is_some() || one.status == ActivityStatus::Cancelled;
            let who = who_of.get(&one.id);
            let is_other = who.is_some()
                || one.occurrence.is_individual
                || !matches!(
                    one.status,
                    ActivityStatus::Planned | ActivityStatus::Scheduled
                );
            let Some(key) = one
                .occurrence
                .occurrence_at
                .filter(|_| is_other && !is_gone)
            else {
                continue;
            };
            let own = match (one.is_all_day, form) {
                (true, _) => Form::Day,
                (false, Form::Day) => Form::Utc,
                (false, form) => form,
            };
            if let Some(mut component) = self.component(one, &uid, sequence, own) {
                component
                    .entries
                    .push(time(ICalendarProperty::RecurrenceId, key, form));
                if let Some(who) = who {
                    who.write(&mut component);
                }
                self.push(component, one.reminder_minutes, &one.subject);
            }
        }
    }

    /// Adds a series with all that its occurrences became and who takes part in them, read from the
    /// session.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn add_series_of(&mut self, session: &Session, id: Id<ActivitySeries>) -> Result<()> {
        let series = session.activity_series().get(id).await?;
        let of_series = Activity::OCCURRENCE.at(OccurrenceOf::SERIES_ID).eq(id);
        let find = Find::from(of_series).with_archived().with_deleted();
        let occurrences = found(session, find).await?;
        let ids: Vec<Id<Activity>> = occurrences.iter().map(|one| one.id).collect();
        let who = Participants::of(session, &ids).await?;
        self.write_series(&series, &occurrences, &Participants::default(), &who);
        Ok(())
    }

    /// Adds all activities and series of a record: of an account, contact, deal or lead those that
    /// are linked to it; of a user those that the user owns or does; of a user or contact also those
    /// in which they take part. Participants are read along. Archived ones are left out, and so is
    /// what has no place in a calendar. Gives the number of activities and series.
    ///
    /// ```
    /// # use crm_core::{EntityRef, Id, Session, error::Result, identity::User};
    /// use crm_exchange::calendar::Calendar;
    /// # async fn example(session: &Session, ada: Id<User>) -> Result<()> {
    /// let mut calendar = Calendar::new(session.engine().clock().now());
    /// calendar.add_all_of(session, ada).await?;
    /// std::fs::write("ada.ics", calendar.into_text()).unwrap();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the storage; an unknown object.
    pub async fn add_all_of(
        &mut self,
        session: &Session,
        record: impl Into<EntityRef>,
    ) -> Result<u64> {
        let record = record.into();
        let object = session.describe(&record.object).await?;
        let mut activities = match linked(Activity::schema(), &object, record.id) {
            Some(linked) => found(session, Find::new().filter_by_name(linked)).await?,
            None => Vec::new(),
        };
        let mut series = BTreeSet::new();
        if let Some(linked) = linked(ActivitySeries::schema(), &object, record.id) {
            let find: Find<ActivitySeries> = Find::new().filter_by_name(linked);
            series.extend(found(session, find).await?.iter().map(|series| series.id));
        }
        if let Some(linked) = linked(ActivityParticipant::schema(), &object, record.id) {
            let find: Find<ActivityParticipant> = Find::new().filter_by_name(linked);
            let ids = found(session, find).await?;
            let ids: Vec<Id<Activity>> = ids.iter().map(|one| one.activity_id).collect();
            for some in ids.chunks(MAX_LIMIT) {
                let invited = session.activities().get_all(some).await?;
                activities.extend(invited.into_iter().filter(|one| one.archived_at.is_none()));
            }
        }
        activities.sort_unstable_by_key(|activity| activity.id);
        activities.dedup_by_key(|activity| activity.id);
        // An occurrence stands with its series, so that its place in it is told.
        let (single, occurrences): (Vec<_>, Vec<_>) = activities
            .into_iter()
            .partition(|activity| activity.occurrence.series_id.is_none());
        series.extend(
            occurrences
                .iter()
                .filter_map(|one| one.occurrence.series_id),
        );
        let ids: Vec<Id<Activity>> = single.iter().map(|one| one.id).collect();
        let who = Participants::of(session, &ids).await?;
        let (nobody, mut count) = (Participants::default(), 0);
        for activity in &single {
            let who = who.get(&activity.id).unwrap_or(&nobody);
            count += u64::from(self.add_activity(activity, who));
        }
        for id in series {
            match self.add_series_of(session, id).await {
                Ok(()) => count += 1,
                // Deleted meanwhile.
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// The calendar as text: lines of at most 75 octets that end with CR LF, text escaped, each time
    /// zone described.
    #[must_use]
    pub fn into_text(mut self) -> String {
        for (zone, (from, to)) in &self.zones {
            let (from, to) = (from.timestamp(), to.timestamp());
            self.calendar.add_timezone(zone.as_str(), from, to);
        }
        self.calendar.to_string()
    }

    fn component(
        &mut self,
        activity: &Activity,
        uid: &str,
        sequence: i64,
        form: Form,
    ) -> Option<ICalendarComponent> {
        let task = is_task(
            activity.activity_type,
            activity.scheduled_at.is_some(),
            activity.due_date.is_some(),
        );
        let begin = activity.scheduled_at;
        begin.or(activity.due_date)?;
        let mut component = ICalendarComponent::new(if task {
            ICalendarComponentType::VTodo
        } else {
            ICalendarComponentType::VEvent
        });
        component.add_uid(uid);
        component.add_dtstamp(PartialDateTime::from_utc_timestamp(
            self.stamped_at.timestamp(),
        ));
        component.add_sequence(sequence);
        if let Form::Local(zone) = form {
            for at in [begin, activity.due_date].into_iter().flatten() {
                self.cover(zone, at, at);
            }
        }
        let minutes = activity.duration_minutes.map(i64::from);
        if let Some(begin) = begin {
            component
                .entries
                .push(time(ICalendarProperty::Dtstart, begin, form));
            let end = match form {
                Form::Day => {
                    minutes.map(|minutes| TimeDelta::days(minutes.max(1_440).div_euclid(1_440)))
                }
                _ => minutes.map(TimeDelta::minutes),
            };
            if let Some(length) = end
                && !task
            {
                component
                    .entries
                    .push(time(ICalendarProperty::Dtend, begin + length, form));
            }
        }
        if let Some(due) = activity.due_date.filter(|_| task) {
            component
                .entries
                .push(time(ICalendarProperty::Due, due, form));
        }
        if let Some(minutes) = minutes
            && (task || activity.is_all_day)
        {
            component.add_property(other(DURATION), minutes.to_string());
        }
        if let Some(at) = activity.completed_at.filter(|_| task) {
            component
                .entries
                .push(time(ICalendarProperty::Completed, at, Form::Utc));
        }
        component.add_property(ICalendarProperty::Summary, activity.subject.clone());
        let texts = [
            (ICalendarProperty::Description, &activity.description),
            (ICalendarProperty::Location, &activity.location),
        ];
        for (property, text) in texts {
            if let Some(text) = text {
                component.add_property(property, text.clone());
            }
        }
        if let Some(url) = &activity.meeting_url {
            let url = Uri::Location(url.as_str().to_owned());
            component.add_property(ICalendarProperty::Url, url);
        }
        if !activity.tags.is_empty() {
            let tags = activity
                .tags
                .iter()
                .cloned()
                .map(ICalendarValue::Text)
                .collect();
            let entry = ICalendarEntry::new(ICalendarProperty::Categories).with_values(tags);
            component.entries.push(entry);
        }
        component.add_property(
            ICalendarProperty::Priority,
            priority_number(activity.priority),
        );
        let status = status_name(activity.status, task).to_owned();
        component.add_property(ICalendarProperty::Status, status);
        component.add_property(other(TYPE), name_of(&activity.activity_type));
        component.add_property(other(STATUS), name_of(&activity.status));
        Some(component)
    }

    /// Adds a component with its alarm.
    fn push(&mut self, component: ICalendarComponent, reminder: Option<u32>, subject: &str) {
        let mut component = component;
        let id = u32::try_from(self.calendar.components.len()).unwrap_or(u32::MAX);
        let alarm = reminder.map(|minutes| {
            component.component_ids.push(id.saturating_add(1));
            let mut alarm = ICalendarComponent::new(ICalendarComponentType::VAlarm);
            let action = ICalendarValue::Action(ICalendarAction::Display);
            alarm.add_property(ICalendarProperty::Action, action);
            alarm.add_property(ICalendarProperty::Description, subject.to_owned());
            let before = ICalendarDuration {
                neg: true,
                minutes,
                ..ICalendarDuration::default()
            };
            alarm.add_property(ICalendarProperty::Trigger, before);
            alarm
        });
        self.calendar.components.push(component);
        self.calendar.components.extend(alarm);
        if let Some(root) = self.calendar.components.first_mut() {
            root.component_ids.push(id);
        }
    }

    /// Makes sure that a zone is described from one moment to another.
    fn cover(&mut self, zone: TimeZone, from: DateTime<Utc>, to: DateTime<Utc>) {
        let known = self.zones.entry(zone).or_insert((from, to));
        *known = (known.0.min(from), known.1.max(to));
    }
}

/// All records that are found.
async fn found<E: Entity>(session: &Session, find: Find<E>) -> Result<Vec<Arc<Record<E>>>> {
    let find = find.limit(MAX_LIMIT);
    let records = session.records::<E>();
    let mut page = records.find(find.clone()).await?;
    let mut all = Vec::new();
    loop {
        all.append(&mut page.items);
        let Some(next) = page.next else {
            return Ok(all);
        };
        page = records.find(find.clone().after(next)).await?;
    }
}

/// The filter for the rows of an object that refer to a record in any field; `None` where it has no
/// reference to such records.
fn linked(of: &ObjectRef, to: &ObjectRef, id: Uuid) -> Option<Filter> {
    let fields = of.fields().iter().filter(|field| {
        let target = field.reference().map(|(target, _)| target);
        target == Some(to.name()) && !field.system
    });
    let any: Vec<Filter> = fields
        .map(|field| Filter::eq(field.name.clone(), id))
        .collect();
    (!any.is_empty()).then_some(Filter::Or(any))
}

fn other(name: &str) -> ICalendarProperty {
    ICalendarProperty::Other(name.to_owned())
}

/// The identifier of a record: the one it came with, or its own, which never changes.
fn uid<E>(external: Option<&str>, id: Id<E>) -> String {
    external.map_or_else(|| id.uuid().to_string(), str::to_owned)
}

/// The revision: what the other calendar gave, or how often the record was changed.
fn sequence(external: Option<u32>, version: i64) -> i64 {
    external.map_or(version - 1, i64::from)
}

fn naive(at: chrono::NaiveDateTime) -> ICalendarValue {
    PartialDateTime::from_naive_timestamp(at.and_utc().timestamp()).into()
}

/// A time in one of the three forms of section 3.3.5, or a date.
fn time(property: ICalendarProperty, at: DateTime<Utc>, form: Form) -> ICalendarEntry {
    let entry = ICalendarEntry::new(property);
    match form {
        Form::Day => entry
            .with_param(ICalendarParameter::value(ICalendarValueType::Date))
            .with_value(PartialDateTime::from_date_timestamp(at.timestamp())),
        Form::Utc => entry.with_value(PartialDateTime::from_utc_timestamp(at.timestamp())),
        Form::Local(zone) => entry
            .with_param(ICalendarParameter::new(
                ICalendarParameterName::Tzid,
                zone.as_str().to_owned(),
            ))
            .with_value(naive(at.with_timezone(&zone.tz()).naive_local())),
    }
}

/// The property of a rule: parsed once more, since a rule is no text to be escaped.
fn rule(recurrence: &Recurrence) -> Vec<ICalendarEntry> {
    let text = format!("BEGIN:VEVENT\r\nRRULE:{recurrence}\r\nEND:VEVENT\r\n");
    match Parser::new(&text).entry() {
        Entry::ICalendar(parsed) => {
            let component = parsed.components.into_iter().next();
            component
                .map(|component| component.entries)
                .unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

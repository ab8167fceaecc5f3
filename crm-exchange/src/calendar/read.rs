//! [`read`]: activities and series out of an iCalendar text.

use calcard::common::PartialDateTime;
use calcard::icalendar::{
    ICalendar, ICalendarComponent, ICalendarComponentType, ICalendarEntry, ICalendarProperty,
    ICalendarValue, Uri,
};
use calcard::{Entry, Parser};
use chrono::{DateTime, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use crm_core::Id;
use crm_core::activities::{
    Activity, ActivityLinks, ActivityPattern, ActivitySeries, ActivityStatus, ActivityType,
    LocalDateTime, Moments, Recurrence, Schedule,
};
use crm_core::identity::User;
use crm_core::schema::{Entity as _, FieldType, LIST_ENTRIES, LIST_ENTRY_LENGTH, MULTILINE_LENGTH};
use crm_core::value::{HttpUrl, TextValue as _, TimeZone};

use super::zones::Zones;
use super::{
    DURATION, Participants, STATUS, TYPE, name_of, named, priority_of, status_name, status_of,
};

/// How long a text is read, in bytes.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// How many events and tasks are read.
const MOST_COMPONENTS: usize = 20_000;

/// What a calendar does not say of its activities.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// Who owns them.
    pub owner: Id<User>,
    /// What they belong to: at least one record.
    pub links: ActivityLinks,
    /// Whose clock shows times without a zone.
    pub time_zone: TimeZone,
    /// What an event is that does not say it.
    pub event_type: ActivityType,
}

impl ReadOptions {
    /// Meetings of a user that belong to a record, with floating times in UTC.
    #[must_use]
    pub fn new(owner: Id<User>, links: impl Into<ActivityLinks>) -> Self {
        Self {
            owner,
            links: links.into(),
            time_zone: TimeZone::UTC,
            event_type: ActivityType::Meeting,
        }
    }
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The activities and series, in the order of the text.
    pub entries: Vec<CalendarEntry>,
    /// What could not be taken.
    pub not_taken: Vec<NotTaken>,
}

/// One event or task.
#[derive(Clone, Debug)]
pub struct CalendarEntry {
    /// Its place among the events and tasks of the text, from 0.
    pub place: usize,
    /// The identifier, the same for a series and its changed occurrences.
    pub uid: String,
    /// The revision.
    pub sequence: u32,
    /// Which occurrence of a series it is, if it is one.
    pub recurrence_id: Option<DateTime<Utc>>,
    /// Whether only the day of the occurrence is said; `recurrence_id` then is midnight UTC of it.
    pub recurrence_is_day: bool,
    /// Whether it is cancelled, by its status or by the method of the calendar.
    pub is_cancelled: bool,
    /// Whether it only says what attendees answered, by the method of the calendar.
    pub is_reply: bool,
    /// Who takes part.
    pub participants: Participants,
    /// What it is.
    pub content: EntryContent,
}

/// What an event or task is here.
#[derive(Clone, Debug)]
pub enum EntryContent {
    /// Something done once.
    Activity(Box<Activity>),
    /// Something done again and again.
    Series(Box<ActivitySeries>),
}

/// A part of a calendar that could not be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotTaken {
    /// Its place among the events and tasks of the text, from 0.
    pub place: usize,
    /// Why.
    pub reason: Reason,
}

/// Why a part of a calendar could not be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// What stands there is no iCalendar.
    Malformed,
    /// It has no `UID`, or one of more than 255 characters, or that of a series beside it.
    Uid,
    /// It has neither a start nor a date at which it is due, or one that is no time.
    Time,
    /// It names a time zone that is neither known nor described.
    TimeZone,
    /// Its recurrence rule is not one that is supported.
    Recurrence,
    /// It changes an occurrence and all that follow.
    ThisAndFuture,
    /// There are more than 20,000 events and tasks.
    TooMany,
    /// The engine refused it: the code of the error and of each faulty field.
    Refused(Vec<String>),
}

/// The text is longer than 8 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the calendar is longer than 8 MiB; split it")]
pub struct TooLarge;

/// Reads the events and tasks of an iCalendar text, of one calendar or several.
///
/// Whatever the text holds, nothing panics: what cannot be taken is listed. Texts that are longer
/// than their fields are cut.
///
/// ```
/// use crm_core::{Id, deals::Deal, identity::User};
/// use crm_exchange::calendar::{EntryContent, ReadOptions, read};
/// # fn example(ada: Id<User>, deal: Id<Deal>) {
/// let text = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nSUMMARY:Lunch\n\
///             DTSTART:20270104T110000Z\nEND:VEVENT\nEND:VCALENDAR\n";
/// let contents = read(text, &ReadOptions::new(ada, deal)).unwrap();
/// let EntryContent::Activity(lunch) = &contents.entries[0].content else { panic!() };
/// assert_eq!(lunch.subject, "Lunch");
/// # }
/// ```
///
/// # Errors
/// [`TooLarge`].
pub fn read(text: &str, options: &ReadOptions) -> Result<Contents, TooLarge> {
    if text.len() > MOST_BYTES {
        return Err(TooLarge);
    }
    let mut contents = Contents::default();
    let mut place = 0;
    let mut parser = Parser::new(text);
    loop {
        match parser.entry() {
            Entry::ICalendar(calendar) => {
                read_calendar(&calendar, options, &mut place, &mut contents);
            }
            Entry::Eof => return Ok(contents),
            // Blank or stray lines around calendars, address cards between them.
            Entry::VCard(_) => {}
            Entry::InvalidLine(line) if line.trim().is_empty() => {}
            _ => {
                let reason = Reason::Malformed;
                if contents.not_taken.len() < MOST_COMPONENTS {
                    contents.not_taken.push(NotTaken { place, reason });
                }
            }
        }
    }
}

fn read_calendar(
    calendar: &ICalendar,
    options: &ReadOptions,
    place: &mut usize,
    contents: &mut Contents,
) {
    let zones = Zones::of(calendar);
    let root = calendar.components.first();
    let method = root.and_then(|root| text(root, &ICalendarProperty::Method));
    let is_method = |name: &str| {
        let method = method.as_deref().unwrap_or_default();
        method.eq_ignore_ascii_case(name)
    };
    for component in &calendar.components {
        let is_task = match component.component_type {
            ICalendarComponentType::VEvent => false,
            ICalendarComponentType::VTodo => true,
            _ => continue,
        };
        if *place >= MOST_COMPONENTS {
            let reason = Reason::TooMany;
            contents.not_taken.push(NotTaken {
                place: *place,
                reason,
            });
            return;
        }
        let reader = Reader {
            calendar,
            component,
            zones: &zones,
            options,
            is_task,
            place: *place,
        };
        match reader.entry(is_method("CANCEL"), is_method("REPLY")) {
            Ok(entry) => contents.entries.push(entry),
            Err(reason) => contents.not_taken.push(NotTaken {
                place: *place,
                reason,
            }),
        }
        *place += 1;
    }
}

/// A time as it was written.
#[derive(Clone, Copy)]
struct Time {
    local: NaiveDateTime,
    /// The zone; a time in UTC is one of that zone.
    zone: TimeZone,
    is_day: bool,
}

impl Time {
    fn moment(self) -> Option<DateTime<Utc>> {
        let starts_at = LocalDateTime::new(self.local).ok()?;
        let once = Recurrence::parse("FREQ=DAILY;COUNT=1").ok()?;
        let none = Moments::default();
        let schedule = Schedule {
            starts_at: &starts_at,
            time_zone: self.zone,
            is_all_day: self.is_day,
            recurrence: &once,
            excluded: &none,
            added: &none,
        };
        schedule.moment(self.local)
    }
}

struct Reader<'a> {
    calendar: &'a ICalendar,
    component: &'a ICalendarComponent,
    zones: &'a Zones,
    options: &'a ReadOptions,
    is_task: bool,
    place: usize,
}

impl Reader<'_> {
    fn entry(&self, cancels: bool, is_reply: bool) -> Result<CalendarEntry, Reason> {
        let uid = self.text(&ICalendarProperty::Uid).ok_or(Reason::Uid)?;
        let uid = uid.trim().to_owned();
        if uid.is_empty() || uid.chars().count() > 255 || uid.contains(char::is_control) {
            return Err(Reason::Uid);
        }
        let start = self.time(&ICalendarProperty::Dtstart)?;
        let due = self.time(&ICalendarProperty::Due)?;
        let recurrence_id = self.recurrence_id()?;
        let begin = start.or(due).or(recurrence_id);
        let mut activity = self.activity();
        activity.is_all_day = begin.is_some_and(|begin| begin.is_day);
        activity.scheduled_at = match start.or(recurrence_id.filter(|_| due.is_none())) {
            Some(start) => Some(start.moment().ok_or(Reason::Time)?),
            None => None,
        };
        activity.due_date = match due.filter(|_| self.is_task) {
            Some(due) => Some(due.moment().ok_or(Reason::Time)?),
            None => None,
        };
        activity.duration_minutes = self.minutes(activity.scheduled_at, activity.is_all_day)?;
        self.finish(&mut activity)?;
        let is_cancelled = cancels || activity.status == ActivityStatus::Cancelled;
        // RFC 5546: who cancels or answers need not say the time again.
        if begin.is_none() && !is_cancelled && !is_reply {
            return Err(Reason::Time);
        }
        let rule = self.component.property(&ICalendarProperty::Rrule);
        let content = match (rule, begin) {
            (Some(rule), Some(begin)) if recurrence_id.is_none() => {
                let series = self.series(&activity, rule, begin)?;
                EntryContent::Series(Box::new(series))
            }
            _ => EntryContent::Activity(Box::new(activity)),
        };
        let sequence = self.component.property(&ICalendarProperty::Sequence);
        let sequence = sequence.and_then(|entry| entry.values.first()?.as_integer());
        Ok(CalendarEntry {
            place: self.place,
            uid,
            sequence: sequence
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(0)
                .min(i32::MAX.unsigned_abs()),
            recurrence_id: match recurrence_id {
                Some(time) => Some(time.moment().ok_or(Reason::Time)?),
                None => None,
            },
            recurrence_is_day: recurrence_id.is_some_and(|time| time.is_day),
            is_cancelled,
            is_reply,
            participants: Participants::read(self.component),
            content,
        })
    }

    /// What is not about time.
    fn activity(&self) -> Activity {
        let kind = self.other(TYPE).and_then(named::<ActivityType>);
        let kind = kind.unwrap_or(if self.is_task {
            ActivityType::Task
        } else {
            self.options.event_type
        });
        let subject = self.cut(&ICalendarProperty::Summary, "subject");
        let subject = subject.unwrap_or_else(|| "(untitled)".to_owned());
        let mut activity = Activity::new(
            kind,
            subject,
            self.options.links.clone(),
            self.options.owner,
        );
        activity.description = self.cut(&ICalendarProperty::Description, "description");
        activity.location = self.cut(&ICalendarProperty::Location, "location");
        let url = self.component.property(&ICalendarProperty::Url);
        activity.meeting_url = url.and_then(|entry| match entry.values.first()? {
            ICalendarValue::Uri(Uri::Location(url)) | ICalendarValue::Text(url) => {
                HttpUrl::parse(url).ok()
            }
            _ => None,
        });
        activity.meeting_url = activity.meeting_url.filter(|url| url.as_str().len() <= 500);
        let priority = self.component.property(&ICalendarProperty::Priority);
        let priority = priority.and_then(|entry| entry.values.first()?.as_integer());
        activity.priority = priority_of(priority.unwrap_or(0));
        let tags = self.component.properties(&ICalendarProperty::Categories);
        let tags = tags.flat_map(|entry| entry.values.iter().filter_map(ICalendarValue::as_text));
        activity.tags = tags
            .filter_map(|tag| limited(tag, to_size(LIST_ENTRY_LENGTH), false))
            .take(to_size(LIST_ENTRIES))
            .collect();
        activity.tags.dedup();
        activity.reminder_minutes = self.reminder();
        activity
    }

    /// The status, and what goes with it.
    fn finish(&self, activity: &mut Activity) -> Result<(), Reason> {
        let default = if self.is_task {
            "NEEDS-ACTION"
        } else {
            "CONFIRMED"
        };
        let given = self.text(&ICalendarProperty::Status);
        let given = given.map_or_else(|| default.to_owned(), |status| status.to_ascii_uppercase());
        let own = self.other(STATUS).and_then(named::<ActivityStatus>);
        let own = own.filter(|own| status_name(*own, self.is_task) == given);
        activity.status = own.unwrap_or_else(|| status_of(&given, self.is_task));
        if activity.status == ActivityStatus::Completed {
            let at = self.time(&ICalendarProperty::Completed)?;
            activity.completed_at = at.and_then(Time::moment);
        }
        Ok(())
    }

    fn minutes(&self, start: Option<DateTime<Utc>>, is_day: bool) -> Result<Option<u32>, Reason> {
        let own = self
            .other(DURATION)
            .and_then(|minutes| minutes.parse::<u32>().ok());
        let end = self.time(&ICalendarProperty::Dtend)?.and_then(Time::moment);
        let length = match (start, end) {
            (Some(start), Some(end)) => Some((end - start).num_minutes()),
            _ => self
                .component
                .property(&ICalendarProperty::Duration)
                .and_then(|entry| entry.values.first())
                .and_then(|value| match value {
                    ICalendarValue::Duration(duration) => Some(duration.as_seconds() / 60),
                    _ => None,
                }),
        };
        // What takes one whole day takes no minutes.
        let length = length.filter(|minutes| !is_day || *minutes > 1_440);
        let length = length.and_then(|minutes| u32::try_from(minutes).ok());
        let most = i32::MAX.unsigned_abs();
        let own = own.filter(|own| {
            self.is_task || length.is_none_or(|days| own.max(&1_440) / 1_440 == days / 1_440)
        });
        let own = own.filter(|_| self.is_task || is_day);
        Ok(own
            .or(length)
            .filter(|minutes| (1..=most).contains(minutes)))
    }

    fn series(
        &self,
        activity: &Activity,
        rule: &ICalendarEntry,
        begin: Time,
    ) -> Result<ActivitySeries, Reason> {
        let Some(ICalendarValue::RecurrenceRule(rule)) = rule.values.first() else {
            return Err(Reason::Recurrence);
        };
        let mut rule = rule.clone();
        let zone = if begin.is_day {
            TimeZone::UTC
        } else {
            begin.zone
        };
        // A local end, as some calendars write it against section 3.3.10.
        if let Some(until) = &rule.until
            && until.hour.is_some()
            && until.tz_hour.is_none()
        {
            let local = until.to_date_time().ok_or(Reason::Recurrence)?.date_time;
            let until = Time {
                local,
                zone,
                is_day: false,
            };
            let until = until.moment().ok_or(Reason::Recurrence)?;
            rule.until = Some(PartialDateTime::from_utc_timestamp(until.timestamp()));
        }
        let recurrence = Recurrence::parse(&rule.to_string()).map_err(|_| Reason::Recurrence)?;
        let starts_at = LocalDateTime::new(begin.local).map_err(|_| Reason::Time)?;
        let mut series =
            ActivitySeries::new(ActivityPattern::from(activity), recurrence, starts_at);
        series.time_zone = zone;
        series.excluded = self.moments(&ICalendarProperty::Exdate, begin)?;
        series.added = self.moments(&ICalendarProperty::Rdate, begin)?;
        Ok(series)
    }

    fn moments(&self, property: &ICalendarProperty, begin: Time) -> Result<Moments, Reason> {
        let mut moments = Moments::default();
        for entry in self.component.properties(property) {
            for value in &entry.values {
                let ICalendarValue::PartialDateTime(value) = value else {
                    return Err(Reason::Recurrence);
                };
                let mut time = self.time_of(entry, value)?;
                if begin.is_day {
                    time.local = time.local.date().and_time(NaiveTime::MIN);
                    time.is_day = true;
                } else if time.is_day {
                    // A day of a series with times means its occurrence on that day.
                    time = Time {
                        local: time.local.date().and_time(begin.local.time()),
                        ..begin
                    };
                }
                if let Some(at) = time.moment() {
                    moments.insert(at);
                }
            }
        }
        Ok(moments)
    }

    fn recurrence_id(&self) -> Result<Option<Time>, Reason> {
        use calcard::icalendar::ICalendarParameterName::Range;
        let entry = self.component.property(&ICalendarProperty::RecurrenceId);
        if entry.is_some_and(|entry| entry.parameters(&Range).next().is_some()) {
            return Err(Reason::ThisAndFuture);
        }
        self.time(&ICalendarProperty::RecurrenceId)
    }

    fn time(&self, property: &ICalendarProperty) -> Result<Option<Time>, Reason> {
        let Some(entry) = self.component.property(property) else {
            return Ok(None);
        };
        match entry.values.first() {
            Some(ICalendarValue::PartialDateTime(value)) => self.time_of(entry, value).map(Some),
            _ => Err(Reason::Time),
        }
    }

    fn time_of(&self, entry: &ICalendarEntry, value: &PartialDateTime) -> Result<Time, Reason> {
        let found = value.to_date_time().ok_or(Reason::Time)?;
        let is_day = value.hour.is_none();
        let (local, zone) = match (found.offset, entry.tz_id()) {
            _ if is_day => (found.date_time, TimeZone::UTC),
            (Some(offset), _) => {
                let shift = TimeDelta::seconds(offset.local_minus_utc().into());
                let utc = found.date_time.checked_sub_signed(shift);
                (utc.ok_or(Reason::Time)?, TimeZone::UTC)
            }
            (None, Some(id)) => (
                found.date_time,
                self.zones.find(id).ok_or(Reason::TimeZone)?,
            ),
            (None, None) => (found.date_time, self.options.time_zone),
        };
        LocalDateTime::new(local).map_err(|_| Reason::Time)?;
        Ok(Time {
            local,
            zone,
            is_day,
        })
    }

    /// The first alarm that comes before the beginning.
    fn reminder(&self) -> Option<u32> {
        let alarms = self.component.component_ids.iter();
        let alarms =
            alarms.filter_map(|id| self.calendar.components.get(usize::try_from(*id).ok()?));
        alarms
            .filter(|part| part.component_type == ICalendarComponentType::VAlarm)
            .find_map(|alarm| {
                let trigger = alarm.property(&ICalendarProperty::Trigger)?;
                match trigger.values.first()? {
                    ICalendarValue::Duration(before) => {
                        let minutes = -before.as_seconds() / 60;
                        u32::try_from(minutes)
                            .ok()
                            .filter(|minutes| i32::try_from(*minutes).is_ok())
                    }
                    _ => None,
                }
            })
    }

    fn text(&self, property: &ICalendarProperty) -> Option<String> {
        text(self.component, property)
    }

    fn other(&self, name: &str) -> Option<&str> {
        let property = ICalendarProperty::Other(name.to_owned());
        self.component
            .property(&property)?
            .values
            .first()?
            .as_text()
    }

    /// A text as far as its field takes it.
    fn cut(&self, property: &ICalendarProperty, field: &str) -> Option<String> {
        let (most, lines) = match Activity::schema()
            .field(field)
            .map(|field| &field.field_type)
        {
            Some(FieldType::Text {
                max_length,
                multiline,
            }) => (*max_length, *multiline),
            _ => (MULTILINE_LENGTH, true),
        };
        limited(&self.text(property)?, to_size(most), lines)
    }
}

fn to_size<T: TryInto<usize>>(size: T) -> usize {
    size.try_into().unwrap_or(usize::MAX)
}

fn text(component: &ICalendarComponent, property: &ICalendarProperty) -> Option<String> {
    let value = component.property(property)?.values.first()?;
    match value {
        ICalendarValue::Text(text) => Some(text.clone()),
        ICalendarValue::Uri(Uri::Location(text)) => Some(text.clone()),
        other => other.clone().into_text().map(std::borrow::Cow::into_owned),
    }
}

/// A text without what no field holds, cut to `most` characters; `None` if nothing is left.
pub(super) fn limited(text: &str, most: usize, lines: bool) -> Option<String> {
    let kept = text.chars().filter_map(|c| match c {
        '\r' | '\0' => None,
        '\n' if !lines => Some(' '),
        c if c.is_control() && c != '\n' && c != '\t' => None,
        c => Some(c),
    });
    let kept: String = kept.take(most).collect();
    let kept = kept.trim();
    (!kept.is_empty()).then(|| kept.to_owned())
}

impl EntryContent {
    /// What kind of thing it is, for messages.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Activity(activity) => name_of(&activity.activity_type),
            Self::Series(series) => name_of(&series.pattern.activity_type),
        }
    }
}

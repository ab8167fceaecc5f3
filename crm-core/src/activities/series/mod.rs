//! Series of activities: a pattern and a rule, and what becomes of single occurrences.
//!
//! An [`ActivitySeries`] says what is done ([`ActivityPattern`]) and when ([`Schedule`]). Its
//! occurrences are computed; one becomes an [`Activity`] of its own when it is materialised, which
//! happens ahead of time ([`materialize`](crate::engine::Records::materialize)) or because somebody
//! changes it. The activity then knows its series and, for good, the moment at which the series had
//! it ([`OccurrenceOf`]), as `RECURRENCE-ID` does in iCalendar: there is at most one for each moment.
//!
//! ```text
//!   before materialized_until: the activities are the truth   after it: the rule, and activities
//!   ──●────●────✕────●────●───────────────────────────────┼───○────○────●────○────○──▶
//!     done done      changed, which is_individual says         only this one is an activity yet
//! ```
//!
//! A change of the series is carried on to its open occurrences from now on, except to those that
//! somebody changed on their own: `is_individual` is set by a rule when an occurrence is edited, and
//! stays. What is finished or past keeps the story it tells.

mod edit;
mod occurrences;
mod rules;
mod same_day;

use chrono::{DateTime, TimeDelta, Utc};

use super::schedule::{LocalDateTime, Moments, Schedule};
use super::{Activity, ActivityLinks, ActivityStatus, ActivityType, Recurrence, check_links};
use crate::Id;
use crate::deals::Priority;
use crate::error::{Faults, codes};
use crate::identity::User;
use crate::schema::{
    Entity, FieldGroup, FieldList, FieldOf, FieldReader, FieldSet, FieldValue, ValueRef,
};
use crate::value::{HttpUrl, TextValue, TimeZone};

pub use occurrences::{Materialized, SeriesOccurrence, SeriesOccurrences};
pub(crate) use rules::{OccurrenceRules, SeriesRules};

/// What is done again and again, and when.
///
/// ```
/// use crm_core::activities::{Activity, ActivitySeries, ActivityType, LocalDateTime, Recurrence};
/// use crm_core::value::{TextValue, TimeZone};
/// # use crm_core::{Id, Session, deals::Deal, identity::User};
/// # async fn example(session: &Session, deal: Id<Deal>, ada: Id<User>) -> Result<(), Box<dyn std::error::Error>> {
/// let review = Activity {
///     duration_minutes: Some(30),
///     ..Activity::new(ActivityType::Meeting, "Review", deal, ada)
/// };
/// let mut series = ActivitySeries::new(
///     review,
///     Recurrence::parse("FREQ=WEEKLY;BYDAY=MO")?,
///     LocalDateTime::parse("2027-01-04T09:00")?,
/// );
/// series.time_zone = TimeZone::parse("Europe/Berlin")?;
/// let series = session.activity_series().create(series).await?;
///
/// let second = series.first_at.unwrap() + chrono::TimeDelta::days(7);
/// let moved = second + chrono::TimeDelta::hours(2);
/// session
///     .activity_series()
///     .edit_one(series.id, second, |review| review.scheduled_at = Some(moved))
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "activity_series",
    table = "activity_series",
    unique(external_id; live),
    index(is_exhausted, materialized_until),
    check = check_series
)]
pub struct ActivitySeries {
    /// What is done.
    #[field(required, flatten)]
    pub pattern: ActivityPattern,
    /// How often.
    #[field(required)]
    pub recurrence: Recurrence,
    /// From when on, by the clock of the time zone; midnight for whole days.
    #[field(required)]
    pub starts_at: LocalDateTime,
    /// Whose clock it goes by; of no concern to whole days.
    pub time_zone: TimeZone,
    /// When it does not take place although the rule says so.
    pub excluded: Moments,
    /// When it takes place besides the rule.
    pub added: Moments,
    /// When it takes place first.
    #[field(read_only)]
    pub first_at: Option<DateTime<Utc>>,
    /// When it takes place last; none for a series without end.
    #[field(read_only)]
    pub last_at: Option<DateTime<Utc>>,
    /// Up to when every occurrence is an activity.
    #[field(read_only)]
    pub materialized_until: Option<DateTime<Utc>>,
    /// Whether every occurrence is an activity.
    #[field(read_only)]
    pub is_exhausted: bool,
    /// What other calendars know it by.
    #[field(flatten)]
    pub calendar: CalendarIdentity,
}

/// Which occurrence of a series an activity is. Only the engine writes it.
#[derive(Clone, PartialEq, Eq, FieldGroup)]
pub struct OccurrenceOf {
    /// The series.
    #[field(read_only, references = "activity_series", on_delete = "set_null")]
    pub series_id: Option<Id<ActivitySeries>>,
    /// When the series had it, wherever it was moved since.
    #[field(read_only)]
    pub occurrence_at: Option<DateTime<Utc>>,
    /// Whether somebody changed it on its own, so that changes of the series pass it by.
    #[field(read_only)]
    pub is_individual: bool,
}

/// What other calendars know a record by.
#[derive(Clone, PartialEq, Eq, FieldGroup)]
pub struct CalendarIdentity {
    /// Its identifier in another calendar, such as the `UID` of iCalendar; at most one record has it.
    #[field(max_len = 300)]
    pub external_id: Option<String>,
    /// The revision of it that was taken over last: `SEQUENCE` of iCalendar.
    pub external_sequence: Option<u32>,
}

/// Makes the pattern of the fields of an activity: each is described by the activity's own schema.
macro_rules! activity_pattern {
    ($($field:ident: $type:ty,)*) => {
        /// What the activities of a series have in common: fields of [`Activity`], with the same
        /// names, lengths and rules. Made from an activity.
        #[derive(Clone, PartialEq)]
        pub struct ActivityPattern {
            /// The records that the activities belong to.
            pub links: ActivityLinks,
            $(
                #[doc = concat!("See [`Activity::", stringify!($field), "`].")]
                pub $field: $type,
            )*
        }

        impl FieldGroup for ActivityPattern {
            const COUNT: usize = ActivityLinks::COUNT + [$(stringify!($field)),*].len();

            fn describe(fields: &mut FieldList) {
                fields.group::<ActivityLinks>("");
                for name in [$(stringify!($field)),*] {
                    if let Some(field) = Activity::schema().field(name) {
                        fields.push(field.clone());
                    }
                }
            }

            fn value(&self, index: usize) -> ValueRef<'_> {
                let Some(mut left) = index.checked_sub(ActivityLinks::COUNT) else {
                    return self.links.value(index);
                };
                $(
                    if left == 0 {
                        return FieldValue::value(&self.$field);
                    }
                    left = left.wrapping_sub(1);
                )*
                let _ = left;
                ValueRef::Null
            }

            fn read(reader: &mut FieldReader<'_>) -> Option<Self> {
                // All are read before the first missing one ends it: all faults are told.
                let links = ActivityLinks::read(reader);
                $(let $field = reader.field::<$type>();)*
                Some(Self { links: links?, $($field: $field?,)* })
            }

            fn normalize(&mut self) {
                FieldGroup::normalize(&mut self.links);
                $(FieldValue::normalize(&mut self.$field);)*
            }

            fn differing(&self, other: &Self, start: usize, set: &mut FieldSet) {
                self.links.differing(&other.links, start, set);
                let mut place = start + ActivityLinks::COUNT;
                $(
                    if self.$field != other.$field {
                        set.insert(place);
                    }
                    place += 1;
                )*
                let _ = place;
            }
        }

        impl From<&Activity> for ActivityPattern {
            fn from(activity: &Activity) -> Self {
                Self {
                    links: activity.links.clone(),
                    $($field: activity.$field.clone(),)*
                }
            }
        }

        impl ActivityPattern {
            /// Writes the pattern over an activity; what it does not speak of stays.
            pub fn apply_to(&self, activity: &mut Activity) {
                activity.links = self.links.clone();
                $(activity.$field = self.$field.clone();)*
            }
        }
    };
}

activity_pattern! {
    activity_type: ActivityType,
    subject: String,
    owner_id: Id<User>,
    assigned_to: Option<Id<User>>,
    description: Option<String>,
    priority: Priority,
    is_all_day: bool,
    duration_minutes: Option<u32>,
    location: Option<String>,
    meeting_url: Option<HttpUrl>,
    reminder_minutes: Option<u32>,
    tags: Vec<String>,
}

impl std::fmt::Debug for ActivityPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ActivityPattern")
            .field("activity_type", &self.activity_type)
            .finish_non_exhaustive()
    }
}

impl From<Activity> for ActivityPattern {
    fn from(activity: Activity) -> Self {
        Self::from(&activity)
    }
}

impl ActivityPattern {
    /// The field `owner_id`, for filters and sorts.
    pub const OWNER_ID: FieldOf<Self, Id<User>> = FieldOf::new("owner_id");
    /// The field `assigned_to`, for filters and sorts.
    pub const ASSIGNED_TO: FieldOf<Self, Id<User>> = FieldOf::new("assigned_to");
}

impl ActivitySeries {
    /// When it takes place.
    #[must_use]
    pub const fn schedule(&self) -> Schedule<'_> {
        Schedule {
            starts_at: &self.starts_at,
            time_zone: self.time_zone,
            is_all_day: self.pattern.is_all_day,
            recurrence: &self.recurrence,
            excluded: &self.excluded,
            added: &self.added,
        }
    }

    /// When an occurrence that begins at `at` ends: a whole day is over at its end, and what takes
    /// no time ends when it begins.
    #[must_use]
    pub fn end_of(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        if self.pattern.is_all_day {
            return at + TimeDelta::days(1);
        }
        at + TimeDelta::minutes(self.pattern.duration_minutes.unwrap_or(0).into())
    }

    /// The activity that an occurrence is, as long as nobody changed it. A task is due when its
    /// time is over, or on its day.
    #[must_use]
    pub fn occurrence(&self, series: Id<Self>, at: DateTime<Utc>) -> Activity {
        let pattern = &self.pattern;
        let mut activity = Activity::new(
            pattern.activity_type,
            pattern.subject.clone(),
            pattern.links.clone(),
            pattern.owner_id,
        );
        self.lay_over(&mut activity, series, at);
        activity
    }

    /// Makes an activity the occurrence at `at`, whatever it was before.
    fn lay_over(&self, activity: &mut Activity, series: Id<Self>, at: DateTime<Utc>) {
        self.pattern.apply_to(activity);
        activity.scheduled_at = Some(at);
        activity.due_date = match (self.pattern.activity_type, self.pattern.is_all_day) {
            (ActivityType::Task, true) => Some(at),
            (ActivityType::Task, false) => Some(self.end_of(at)),
            _ => None,
        };
        activity.occurrence = OccurrenceOf {
            series_id: Some(series),
            occurrence_at: Some(at),
            is_individual: false,
        };
    }

    fn has_schedule_of(&self, other: &Self) -> bool {
        self.recurrence == other.recurrence
            && self.starts_at == other.starts_at
            && self.time_zone == other.time_zone
            && self.excluded == other.excluded
            && self.added == other.added
            && self.pattern.is_all_day == other.pattern.is_all_day
    }
}

impl OccurrenceOf {
    /// Whether an activity goes where its series goes: it belongs to one, is still to be done, and
    /// nobody changed it on its own.
    fn follows(activity: &Activity) -> bool {
        activity.occurrence.series_id.is_some()
            && !activity.occurrence.is_individual
            && matches!(
                activity.status,
                ActivityStatus::Planned | ActivityStatus::Scheduled
            )
    }
}

fn check_series(series: &ActivitySeries, faults: &mut Faults) {
    check_links(&series.pattern.links, faults);
    if let Err(error) = Recurrence::parse(series.recurrence.as_str())
        && !faults.has("recurrence")
    {
        faults.add("recurrence", error.code(), error.message().to_owned());
    }
    let starts_at = series.starts_at.naive();
    let has_time = starts_at.is_some_and(|at| at.time() != chrono::NaiveTime::MIN);
    if series.pattern.is_all_day && has_time {
        let message = "a series of whole days begins at midnight: 2027-01-04T00:00:00";
        faults.add("starts_at", codes::INCONSISTENT, message);
    }
    let midnight = |at: DateTime<Utc>| at.time() == chrono::NaiveTime::MIN;
    for (name, moments) in [("excluded", &series.excluded), ("added", &series.added)] {
        if moments.are_too_many() {
            faults.add(name, codes::TOO_MANY, "give at most 1000");
        }
        if series.pattern.is_all_day && !moments.iter().all(midnight) {
            let message = "of a series of whole days, give midnight UTC of each day";
            faults.add(name, codes::INCONSISTENT, message);
        }
    }
}

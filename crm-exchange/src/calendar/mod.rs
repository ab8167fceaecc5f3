//! Activities and series as iCalendar (RFC 5545), out and in.
//!
//! - [`Calendar`] writes activities: a meeting or call with a time is a `VEVENT`, a task that is due
//!   is a `VTODO`, a series has its `RRULE` and its changed occurrences with their `RECURRENCE-ID`,
//!   and every time zone that is named is described.
//! - [`read`] takes a text apart into activities and series, and tells what it could not take.
//! - [`import`] writes what was read: once for each `UID`, later revisions over earlier ones, with
//!   those who take part.
//! - [`Calendar::add_all_of`] gathers all activities of a user or of a record, for a feed.
//!
//! What iCalendar has no property for is kept in `X-CRM-TYPE`, `X-CRM-STATUS` and `X-CRM-DURATION`
//! (minutes), which other calendars leave alone; the first two count only where they agree with the
//! standard property beside them. Runs of white space inside a tag come back as one.

mod export;
mod import;
mod participants;
mod people;
mod read;
mod zones;

use crm_core::activities::{ActivityStatus, ActivityType};
use crm_core::deals::Priority;
use crm_core::schema::{FieldValue, Value};

pub use export::Calendar;
pub use import::{ImportReport, import};
pub use participants::{Participant, ParticipantRole, ParticipantStatus, Participants};
pub use read::{
    CalendarEntry, Contents, EntryContent, NotTaken, ReadOptions, Reason, TooLarge, read,
};

const TYPE: &str = "X-CRM-TYPE";
const STATUS: &str = "X-CRM-STATUS";
const DURATION: &str = "X-CRM-DURATION";

/// The one text of an entry of a list, as everywhere in the engine.
fn name_of<T: FieldValue>(value: &T) -> String {
    value.value().as_text().unwrap_or_default().to_owned()
}

/// The entry of a list with this name.
fn named<T: FieldValue>(name: &str) -> Option<T> {
    T::from_value(Value::Text(name.to_ascii_lowercase())).ok()
}

/// The standard `STATUS` of an event or a task (section 3.8.1.11).
const fn status_name(status: ActivityStatus, is_task: bool) -> &'static str {
    use ActivityStatus as S;
    match (status, is_task) {
        (S::Cancelled, _) | (S::NoShow, true) => "CANCELLED",
        (S::Completed, true) => "COMPLETED",
        (S::InProgress, true) => "IN-PROCESS",
        (_, true) => "NEEDS-ACTION",
        (S::Planned | S::Deferred, false) => "TENTATIVE",
        (_, false) => "CONFIRMED",
    }
}

/// The status that a standard one stands for, if nothing more is known.
fn status_of(name: &str, is_task: bool) -> ActivityStatus {
    match (name, is_task) {
        ("CANCELLED", _) => ActivityStatus::Cancelled,
        ("COMPLETED", true) => ActivityStatus::Completed,
        ("IN-PROCESS", true) => ActivityStatus::InProgress,
        ("TENTATIVE", false) | (_, true) => ActivityStatus::Planned,
        _ => ActivityStatus::Scheduled,
    }
}

/// The number of a priority: 1 is the highest, 9 the lowest (section 3.8.1.9).
const fn priority_number(priority: Priority) -> i64 {
    match priority {
        Priority::Urgent => 1,
        Priority::High => 3,
        Priority::Medium => 5,
        Priority::Low => 9,
    }
}

const fn priority_of(number: i64) -> Priority {
    match number {
        1 | 2 => Priority::Urgent,
        3 | 4 => Priority::High,
        6..=9 => Priority::Low,
        _ => Priority::Medium,
    }
}

/// Whether an activity is written as a `VTODO`.
fn is_task(kind: ActivityType, has_time: bool, is_due: bool) -> bool {
    is_due && (kind == ActivityType::Task || !has_time)
}

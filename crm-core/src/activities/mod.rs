//! Activities: calls, meetings, tasks and what else is done with a record.
//!
//! Whichever way an activity is written (a service call, a merge patch, an import), one rule keeps
//! it right: its status only moves as [`allowed`] says (C-015), and it has a completion time exactly
//! when it is completed. What belongs to it follows in the same commit:
//!
//! - [`ActivityReminder`]s move with it, and are called off when nothing is left to remind of;
//! - the linked accounts, contacts, deals and leads know when something was last done with them and
//!   what is planned next ([`roll_up`]);
//! - [`ActivityParticipant`]s are changed through it: its version rises when one of them changes.
//!
//! An activity may also belong to one record of any other object, the host's or the tenant's own:
//! [`ActivityLinks::related_id`]. When that is deleted, the activity goes with it unless it belongs to
//! something else too.
//!
//! [`ActivityTemplate`]s make new activities; [`ActivityList`] says what is overdue, due today or
//! coming up for a user, in the user's time zone.
//!
//! An activity that takes the whole day has a day of the calendar, not a moment: it is the same day
//! wherever it is looked at. It is kept as that day's midnight in UTC.

mod days;
mod entity;
mod lists;
mod participants;
mod recurrence;
mod reminders;
pub mod roll_up;
mod schedule;
mod series;
mod service;
mod template_text;
mod templates;
mod transitions;

pub use days::{add_business_hours, local_date, start_of_day};
pub use entity::{Activity, ActivityLinks, ActivityStatus, ActivityType};
pub use lists::{ActivityCounts, ActivityList};
pub use participants::{
    ActivityParticipant, AttendanceStatus, Invitee, ParticipantType, ResponseStatus,
};
pub use recurrence::Recurrence;
pub use reminders::{ActivityReminder, ReminderStatus, ReminderType, retry_after};
pub use roll_up::ActivityRollUp;
pub use schedule::{LocalDateTime, Moments, Occurrences, Schedule};
pub use series::{
    ActivityPattern, ActivitySeries, CalendarIdentity, Materialized, OccurrenceOf,
    SeriesOccurrence, SeriesOccurrences,
};
pub use templates::ActivityTemplate;
pub use transitions::{RefusedTransition, allowed};

pub(crate) use entity::check_links;
pub(crate) use participants::ParticipantRules;
pub(crate) use reminders::ReminderRules;
pub(crate) use series::{OccurrenceRules, SeriesRules};
pub(crate) use service::{ActivityHook, ActivityRules};
pub(crate) use templates::TemplateRules;

//! Activities: calls, meetings, tasks and what else is done with a record.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};

use crate::Id;
use crate::accounts::Account;
use crate::contacts::Contact;
use crate::deals::{Deal, Priority};
use crate::engine::{Records, UnitOfWork, Write, WriteRule, in_work};
use crate::error::{Faults, Result, RuleViolation, codes};
use crate::identity::User;
use crate::leads::Lead;
use crate::record::Record;
use crate::schema::{Entity, FieldGroup, Picklist};
use crate::value::HttpUrl;

mod recurrence;
mod schedule;
mod series;

pub use recurrence::Recurrence;
pub use schedule::{LocalDateTime, Moments, Occurrences, Schedule};
pub use series::{
    ActivityPattern, ActivitySeries, CalendarIdentity, Materialized, OccurrenceOf,
    SeriesOccurrence, SeriesOccurrences,
};
pub(crate) use series::{OccurrenceRules, SeriesRules};

/// Something done, or to be done, with an account, contact, deal or lead.
///
/// ```
/// # use crm_core::{Id, activities::{Activity, ActivityType}, deals::Deal, identity::User};
/// # fn example(deal: Id<Deal>, ada: Id<User>) {
/// let call = Activity::new(ActivityType::Call, "Ask for the order", deal, ada);
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "activity",
    table = "activities",
    index(assigned_to, due_date),
    index(owner_id, status),
    unique(series_id, occurrence_at),
    unique(external_id; live),
    check = check_activity
)]
pub struct Activity {
    /// What kind it is.
    #[field(required, indexed)]
    pub activity_type: ActivityType,
    /// What it is about (R-048).
    #[field(required, max_len = 255, searchable)]
    pub subject: String,
    /// What it belongs to: at least one record (R-049).
    #[field(required, flatten)]
    pub links: ActivityLinks,
    /// The user who owns it.
    #[field(required, references = "user")]
    pub owner_id: Id<User>,
    /// The user who does it, if it is not the owner.
    #[field(references = "user", on_delete = "set_null")]
    pub assigned_to: Option<Id<User>>,
    /// Notes.
    #[field(multiline, personal, searchable)]
    pub description: Option<String>,
    /// Where it stands.
    #[field(indexed)]
    pub status: ActivityStatus,
    /// How urgent it is.
    pub priority: Priority,
    /// When it is to begin.
    #[field(indexed)]
    pub scheduled_at: Option<DateTime<Utc>>,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was completed: set exactly when it is (R-052).
    pub completed_at: Option<DateTime<Utc>>,
    /// Until when it is to be done; not in the past when it is created (R-050).
    #[field(indexed)]
    pub due_date: Option<DateTime<Utc>>,
    /// Whether it takes the whole day.
    pub is_all_day: bool,
    /// How long it takes, in minutes; more than none (R-051).
    #[field(min = 1)]
    pub duration_minutes: Option<u32>,
    /// Where it takes place.
    #[field(max_len = 255)]
    pub location: Option<String>,
    /// Where it takes place on the web.
    #[field(max_len = 500)]
    pub meeting_url: Option<HttpUrl>,
    /// What came of it.
    #[field(max_len = 100)]
    pub outcome: Option<String>,
    /// More about what came of it.
    #[field(multiline, personal)]
    pub outcome_notes: Option<String>,
    /// Whether something is to follow.
    pub follow_up_required: bool,
    /// When that is to be.
    pub follow_up_date: Option<DateTime<Utc>>,
    /// How many minutes before it to remind of it.
    pub reminder_minutes: Option<u32>,
    /// Values of the tenant's own fields.
    #[field(default = json!({}))]
    pub custom_fields: Json,
    /// Tags.
    pub tags: Vec<String>,
    /// Which occurrence of a series it is, if it is one.
    #[field(flatten)]
    pub occurrence: OccurrenceOf,
    /// What other calendars know it by.
    #[field(flatten)]
    pub calendar: CalendarIdentity,
}

/// The records that an activity belongs to: at least one (R-049). Made from the id of the first.
///
/// ```
/// # use crm_core::{Id, activities::ActivityLinks, contacts::Contact, deals::Deal};
/// # fn example(contact: Id<Contact>, deal: Id<Deal>) {
/// let links = ActivityLinks { contact_id: Some(contact), ..ActivityLinks::from(deal) };
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, FieldGroup)]
pub struct ActivityLinks {
    /// The account.
    #[field(references = "account", on_delete = "set_null")]
    pub account_id: Option<Id<Account>>,
    /// The contact.
    #[field(references = "contact", on_delete = "set_null")]
    pub contact_id: Option<Id<Contact>>,
    /// The deal.
    #[field(references = "deal", on_delete = "set_null")]
    pub deal_id: Option<Id<Deal>>,
    /// The lead.
    #[field(references = "lead", on_delete = "set_null")]
    pub lead_id: Option<Id<Lead>>,
}

impl ActivityLinks {
    /// Whether there is no record, which no stored activity has (R-049).
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.account_id.is_none()
            && self.contact_id.is_none()
            && self.deal_id.is_none()
            && self.lead_id.is_none()
    }
}

macro_rules! links_from {
    ($($entity:ty => $field:ident;)*) => {$(
        impl From<Id<$entity>> for ActivityLinks {
            fn from(id: Id<$entity>) -> Self {
                Self { $field: Some(id), ..Self::default() }
            }
        }
    )*};
}

links_from! {
    Account => account_id;
    Contact => contact_id;
    Deal => deal_id;
    Lead => lead_id;
}

/// What kind of activity it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum ActivityType {
    /// A telephone call.
    Call,
    /// An e-mail.
    Email,
    /// A meeting.
    Meeting,
    /// Something to do.
    Task,
    /// Something to remember.
    Note,
    /// A demonstration.
    Demo,
    /// An offer.
    Proposal,
    /// A second approach.
    FollowUp,
    /// Anything else.
    Other,
}

/// Where an activity stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum ActivityStatus {
    /// To be done, without a fixed time.
    #[default]
    Planned,
    /// To be done at a fixed time.
    Scheduled,
    /// Being done.
    InProgress,
    /// Done.
    Completed,
    /// Not to be done.
    Cancelled,
    /// The other side did not come.
    NoShow,
    /// To be done later.
    Deferred,
}

impl ActivityStatus {
    /// Whether nothing more is to be done.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::NoShow)
    }
}

/// R-049.
fn check_links(given: &ActivityLinks, faults: &mut Faults) {
    let links = ["account_id", "contact_id", "deal_id", "lead_id"];
    // A link that was refused is missing only because of that.
    if given.is_empty() && !links.iter().any(|field| faults.has(field)) {
        for field in links {
            faults.add(
                field,
                codes::REQUIRED,
                "an activity belongs to at least one record",
            );
        }
    }
}

fn check_activity(activity: &Activity, faults: &mut Faults) {
    check_links(&activity.links, faults);
    // R-052.
    if (activity.status == ActivityStatus::Completed) != activity.completed_at.is_some() {
        faults.add(
            "completed_at",
            codes::INCONSISTENT,
            "is set exactly when the activity is completed",
        );
    }
    if activity.follow_up_date.is_some() && !activity.follow_up_required {
        faults.add(
            "follow_up_date",
            codes::INCONSISTENT,
            "needs `follow_up_required`",
        );
    }
}

impl Records<'_, Activity> {
    /// Plans an activity; with `scheduled_at` it has a fixed time.
    ///
    /// # Errors
    /// [`Error::Validation`](crate::Error::Validation).
    pub async fn schedule(&mut self, activity: Activity) -> Result<Arc<Record<Activity>>> {
        self.create(activity).await
    }

    /// Begins an activity.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) if it is finished.
    pub async fn start(&mut self, id: Id<Activity>) -> Result<Arc<Record<Activity>>> {
        self.proceed(id, ActivityStatus::InProgress, None).await
    }

    /// Completes an activity, with what came of it.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) if it is finished.
    pub async fn complete(
        &mut self,
        id: Id<Activity>,
        outcome: Option<&str>,
    ) -> Result<Arc<Record<Activity>>> {
        self.proceed(id, ActivityStatus::Completed, outcome).await
    }

    /// Cancels an activity.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) if it is finished.
    pub async fn cancel(&mut self, id: Id<Activity>) -> Result<Arc<Record<Activity>>> {
        self.proceed(id, ActivityStatus::Cancelled, None).await
    }

    /// Says that the other side did not come.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) if it is finished.
    pub async fn mark_no_show(&mut self, id: Id<Activity>) -> Result<Arc<Record<Activity>>> {
        self.proceed(id, ActivityStatus::NoShow, None).await
    }

    /// Puts an activity off.
    ///
    /// # Errors
    /// [`Error::Rule`](crate::Error::Rule) if it is finished.
    pub async fn defer(&mut self, id: Id<Activity>) -> Result<Arc<Record<Activity>>> {
        self.proceed(id, ActivityStatus::Deferred, None).await
    }

    async fn proceed(
        &mut self,
        id: Id<Activity>,
        status: ActivityStatus,
        outcome: Option<&str>,
    ) -> Result<Arc<Record<Activity>>> {
        in_work!(self.workspace, |work| {
            let now = work.now();
            let current = work.get(id).await?;
            work.rely_on(&*current);
            if current.status.is_finished() {
                return Err(RuleViolation::new(
                    "finished",
                    "C-015",
                    "the activity is finished; change its status to open it again",
                )
                .into());
            }
            work.update(id, &|activity: &mut Activity| {
                activity.status = status;
                if status == ActivityStatus::InProgress && activity.started_at.is_none() {
                    activity.started_at = Some(now);
                }
                if let Some(outcome) = outcome {
                    activity.outcome = Some(outcome.to_owned());
                }
            })
            .await
        })
    }
}

/// R-050 and R-052, and the status of a new activity.
#[derive(Debug)]
pub(crate) struct ActivityRules;

#[async_trait]
impl WriteRule for ActivityRules {
    fn object(&self) -> &'static str {
        "activity"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Activity>() else {
            return Ok(());
        };
        let now = work.now();
        let is_new = write.is_new();
        let overdue = after.due_date.is_some_and(|due| {
            if after.is_all_day {
                due.date_naive() < now.date_naive()
            } else {
                due < now
            }
        });
        let finished = after.status.is_finished();
        let may_be_past = OccurrenceOf::may_be_past(after);
        let fixed =
            is_new && after.status == ActivityStatus::Planned && after.scheduled_at.is_some();
        let before = write.before::<Activity>().map(|before| before.status);
        let completed = after.status == ActivityStatus::Completed;
        let completes = completed && after.completed_at.is_none();
        let reopens =
            !completed && before == Some(ActivityStatus::Completed) && after.completed_at.is_some();
        if fixed {
            write.edit::<Activity>(|activity| activity.status = ActivityStatus::Scheduled);
        }
        if completes {
            write.edit::<Activity>(|activity| activity.completed_at = Some(now));
        }
        if reopens {
            write.edit::<Activity>(|activity| activity.completed_at = None);
        }
        // R-050: what is recorded after the fact may have been due before.
        if is_new && overdue && !finished && !may_be_past {
            write
                .faults()
                .add("due_date", codes::PAST, "must not be in the past");
        }
        Ok(())
    }
}

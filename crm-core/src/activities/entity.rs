//! [`Activity`]: something done, or to be done.

use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{CalendarIdentity, OccurrenceOf};
use crate::accounts::Account;
use crate::contacts::Contact;
use crate::deals::{Deal, Priority};
use crate::error::{Faults, codes};
use crate::identity::User;
use crate::leads::Lead;
use crate::query::{Where, WhereExt};
use crate::schema::{Entity, FieldGroup, FieldOf, ObjectRef, Picklist};
use crate::value::HttpUrl;
use crate::{EntityRef, Id};

/// Something done, or to be done, with an account, contact, deal or lead, or a record of any other
/// object.
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
    /// Where it stands; what may follow what is told by [`allowed`](super::allowed).
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
    /// Whether it takes the whole day. `scheduled_at` and `due_date` then name a day of the calendar,
    /// the same one in every time zone, and are kept as its midnight in UTC.
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
    /// Whether something is still to follow; no more, once there is a follow-up.
    pub follow_up_required: bool,
    /// When that is to be.
    pub follow_up_date: Option<DateTime<Utc>>,
    /// The activity that this one follows up.
    #[field(read_only, references = "activity", on_delete = "set_null")]
    pub follow_up_of: Option<Id<Activity>>,
    /// How many minutes before it to remind of it whoever does it.
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

/// The records that an activity belongs to: at least one (R-049). Made from the id of the first, or
/// from what names a record of any object.
///
/// ```
/// # use crm_core::{EntityRef, Id, activities::ActivityLinks, contacts::Contact, deals::Deal};
/// # fn example(contact: Id<Contact>, deal: Id<Deal>, project: uuid::Uuid) {
/// let links = ActivityLinks { contact_id: Some(contact), ..ActivityLinks::from(deal) };
/// // A record of an object that the host made, or the tenant defined.
/// let links = ActivityLinks::from(EntityRef::new("project", project));
/// assert_eq!(links.related_id, Some(project));
/// // What has a link of its own is linked by that.
/// assert_eq!(ActivityLinks::from(EntityRef::from(deal)).deal_id, Some(deal));
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
    /// The object of a record of any other object, such as one that the tenant defined (R-071).
    #[field(max_len = 100)]
    pub related_object: Option<String>,
    /// That record. Accounts, contacts, deals and leads have links of their own.
    #[field(record_of = "related_object")]
    pub related_id: Option<Uuid>,
}

impl Activity {
    /// The moment that it is about: when it begins, or else until when it is to be done. Of an
    /// activity that takes the whole day, the midnight of that day in UTC.
    #[must_use]
    pub fn moment(&self) -> Option<DateTime<Utc>> {
        self.scheduled_at.or(self.due_date)
    }

    /// The user who does it: whoever it was given to, or else its owner.
    #[must_use]
    pub fn assignee(&self) -> Id<User> {
        self.assigned_to.unwrap_or(self.owner_id)
    }
}

impl ActivityLinks {
    /// Whether there is no record, which no stored activity has (R-049).
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.account_id.is_none()
            && self.contact_id.is_none()
            && self.deal_id.is_none()
            && self.lead_id.is_none()
            && self.related_id.is_none()
    }

    /// The record of any other object.
    #[must_use]
    pub fn related(&self) -> Option<EntityRef> {
        let object = self.related_object.as_deref()?;
        Some(EntityRef::new(object, self.related_id?))
    }
}

/// The names of the fields that link a record of any other object.
pub(super) const RELATED: [&str; 2] = ["related_object", "related_id"];

macro_rules! links {
    ($($entity:ty => $field:ident;)*) => {
        impl ActivityLinks {
            /// The names of the fields with references.
            pub(super) const FIELDS: &'static [&'static str] = &[$(stringify!($field)),*];

            /// The objects that activities are linked to by references.
            pub(super) fn objects() -> impl Iterator<Item = &'static ObjectRef> {
                [$(<$entity as Entity>::schema()),*].into_iter()
            }

            /// The records that references lead to, each with its object.
            pub(super) fn records(&self) -> impl Iterator<Item = (&'static ObjectRef, Uuid)> {
                [$((<$entity as Entity>::schema(), self.$field.map(|id| id.uuid()))),*]
                    .into_iter()
                    .filter_map(|(object, id)| id.map(|id| (object, id)))
            }
        }

        $(impl From<Id<$entity>> for ActivityLinks {
            fn from(id: Id<$entity>) -> Self {
                Self { $field: Some(id), ..Self::default() }
            }
        })*

        impl From<EntityRef> for ActivityLinks {
            fn from(record: EntityRef) -> Self {
                $(if record.object == <$entity as Entity>::schema().name() {
                    return Self::from(Id::<$entity>::new(record.id));
                })*
                Self {
                    related_object: Some(record.object),
                    related_id: Some(record.id),
                    ..Self::default()
                }
            }
        }

        impl Activity {
            /// The filter for the activities of a record of any object.
            pub(super) fn of_record(record: EntityRef) -> Where<Self> {
                $(if record.object == <$entity as Entity>::schema().name() {
                    let id = Id::<$entity>::new(record.id);
                    return FieldOf::<Self, Id<$entity>>::new(stringify!($field)).eq(id);
                })*
                let [object, id] = RELATED;
                let related = FieldOf::<Self, Uuid>::new(id).eq(record.id);
                related.and(FieldOf::<Self, String>::new(object).eq(record.object))
            }
        }
    };
}

links! {
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
pub(crate) fn check_links(given: &ActivityLinks, faults: &mut Faults) {
    let links = ActivityLinks::FIELDS;
    if given.related_object.is_some() != given.related_id.is_some() {
        let [object, id] = RELATED;
        let missing = if given.related_id.is_some() {
            object
        } else {
            id
        };
        let message = "a related record is named by its object and its id";
        faults.add(missing, codes::REQUIRED, message);
    }
    let own = ActivityLinks::objects().zip(links);
    let mut own = own.filter(|(object, _)| given.related_object.as_deref() == Some(object.name()));
    if let Some((_, field)) = own.next() {
        let [object, _] = RELATED;
        let message = format!("use `{field}` for records of this object");
        faults.add(object, codes::INCONSISTENT, message);
    }
    // A link that was refused is missing only because of that.
    let is_refused = links.iter().chain(&RELATED).any(|field| faults.has(field));
    if given.is_empty() && !is_refused {
        for field in links {
            faults.add(
                *field,
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

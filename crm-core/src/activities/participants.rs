//! [`ActivityParticipant`]: who takes part in an activity, and what they answered.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::Activity;
use crate::Id;
use crate::contacts::Contact;
use crate::engine::{Records, UnitOfWork, Write, WriteRule, in_work};
use crate::error::{Faults, Result, codes};
use crate::identity::User;
use crate::query::{Condition, Query, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, Picklist};
use crate::value::EmailAddress;

/// A person who takes part in an activity; each at most once (C-016). Whoever added the participant
/// is told by the record's `created` (R-378).
///
/// What a person answered and whether the person attends go together: an answer settles the
/// attendance (accepted: attending; declined: not attending; tentative: tentative; pending:
/// invited), unless the same write sets the attendance too. Afterwards the attendance may be set by
/// itself: somebody who accepted may still stay away.
///
/// ```
/// # use crm_core::{Id, Session, error::Result, activities::*, contacts::Contact};
/// # async fn example(session: &Session, meeting: Id<Activity>, hank: Id<Contact>) -> Result<()> {
/// let invited = session.activities().invite(meeting, hank, Some("guest")).await?;
/// let answer = ResponseStatus::Accepted;
/// let hank = session.activities().respond(invited.id, answer).await?;
/// assert_eq!(hank.attendance_status, AttendanceStatus::Attending);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "activity_participant",
    table = "activity_participants",
    unique(activity_id, user_id; live),
    unique(activity_id, contact_id; live),
    unique(activity_id, email; ignore_case, live),
    check = check_participant
)]
pub struct ActivityParticipant {
    /// The activity.
    #[field(required, references = "activity", on_delete = "cascade")]
    pub activity_id: Id<Activity>,
    /// Who the person is to the tenant (R-144).
    #[field(required)]
    pub participant_type: ParticipantType,
    /// The user, where it is one (R-142).
    #[field(references = "user", on_delete = "set_null")]
    pub user_id: Option<Id<User>>,
    /// The contact, where it is one (R-142).
    #[field(references = "contact", on_delete = "set_null")]
    pub contact_id: Option<Id<Contact>>,
    /// The e-mail address of somebody who is neither (R-053, R-141).
    #[field(personal)]
    pub email: Option<EmailAddress>,
    /// The name of somebody who is neither (R-053).
    #[field(max_len = 200, personal)]
    pub name: Option<String>,
    /// What the person does there, such as `organizer`.
    #[field(max_len = 50)]
    pub role: Option<String>,
    /// Whether the person attends (R-140).
    pub attendance_status: AttendanceStatus,
    /// What the person answered (R-143).
    pub response_status: ResponseStatus,
    /// When the person answered.
    #[field(read_only)]
    pub responded_at: Option<DateTime<Utc>>,
    /// Notes.
    #[field(multiline, personal)]
    pub notes: Option<String>,
}

/// Who a participant is to the tenant (R-144).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum ParticipantType {
    /// One of its users.
    User,
    /// One of its contacts.
    Contact,
    /// Neither.
    External,
}

/// Whether a participant attends (R-140).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum AttendanceStatus {
    /// Nobody knows yet.
    #[default]
    Invited,
    /// Yes.
    Attending,
    /// No.
    NotAttending,
    /// Perhaps.
    Tentative,
}

/// What a participant answered (R-143).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum ResponseStatus {
    /// Nothing yet.
    #[default]
    Pending,
    /// Yes.
    Accepted,
    /// No.
    Declined,
    /// Perhaps.
    Tentative,
}

impl ResponseStatus {
    /// The attendance that the answer settles.
    ///
    /// ```
    /// use crm_core::activities::{AttendanceStatus, ResponseStatus};
    ///
    /// assert_eq!(ResponseStatus::Declined.attendance(), AttendanceStatus::NotAttending);
    /// ```
    #[must_use]
    pub const fn attendance(self) -> AttendanceStatus {
        match self {
            Self::Pending => AttendanceStatus::Invited,
            Self::Accepted => AttendanceStatus::Attending,
            Self::Declined => AttendanceStatus::NotAttending,
            Self::Tentative => AttendanceStatus::Tentative,
        }
    }
}

/// Who is invited to an activity.
#[derive(Clone, PartialEq, Eq)]
pub enum Invitee {
    /// A user of the tenant.
    User(Id<User>),
    /// A contact of the tenant.
    Contact(Id<Contact>),
    /// Somebody else.
    External {
        /// The person's e-mail address.
        email: EmailAddress,
        /// The person's name.
        name: String,
    },
}

impl std::fmt::Debug for Invitee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(id) => f.debug_tuple("User").field(id).finish(),
            Self::Contact(id) => f.debug_tuple("Contact").field(id).finish(),
            Self::External { .. } => f.debug_struct("External").finish_non_exhaustive(),
        }
    }
}

impl From<Id<User>> for Invitee {
    fn from(id: Id<User>) -> Self {
        Self::User(id)
    }
}

impl From<Id<Contact>> for Invitee {
    fn from(id: Id<Contact>) -> Self {
        Self::Contact(id)
    }
}

impl Invitee {
    fn participant(self, activity: Id<Activity>) -> ActivityParticipant {
        let new = |kind| ActivityParticipant::new(activity, kind);
        match self {
            Self::User(id) => ActivityParticipant {
                user_id: Some(id),
                ..new(ParticipantType::User)
            },
            Self::Contact(id) => ActivityParticipant {
                contact_id: Some(id),
                ..new(ParticipantType::Contact)
            },
            Self::External { email, name } => ActivityParticipant {
                email: Some(email),
                name: Some(name),
                ..new(ParticipantType::External)
            },
        }
    }
}

/// The unique keys by which nobody takes part twice.
const PERSON_KEYS: [&[&str]; 3] = [
    &["activity_id", "user_id"],
    &["activity_id", "contact_id"],
    &["activity_id", "email"],
];

/// R-053, R-142: a user and a contact by id, anybody else by e-mail address and name.
fn check_participant(participant: &ActivityParticipant, faults: &mut Faults) {
    let kind = participant.participant_type;
    let is_external = kind == ParticipantType::External;
    for (field, is_there, belongs) in [
        (
            "user_id",
            participant.user_id.is_some(),
            kind == ParticipantType::User,
        ),
        (
            "contact_id",
            participant.contact_id.is_some(),
            kind == ParticipantType::Contact,
        ),
        ("email", participant.email.is_some(), is_external),
        ("name", participant.name.is_some(), is_external),
    ] {
        if belongs && !is_there && !faults.has(field) {
            faults.add(field, codes::REQUIRED, "this type of participant needs it");
        }
        if is_there && !belongs {
            faults.add(
                field,
                codes::INCONSISTENT,
                "this type of participant has none",
            );
        }
    }
}

/// What a write makes of answer and attendance.
fn settled(
    before: Option<(ResponseStatus, AttendanceStatus)>,
    response: ResponseStatus,
    attendance: AttendanceStatus,
) -> AttendanceStatus {
    let (known_response, known_attendance) = before.unwrap_or_default();
    if response != known_response && attendance == known_attendance {
        response.attendance()
    } else {
        attendance
    }
}

/// C-016: answer and attendance go together, and the activity changes with its participants.
#[derive(Debug)]
pub(crate) struct ParticipantRules;

#[async_trait]
impl WriteRule for ParticipantRules {
    fn object(&self) -> &'static str {
        "activity_participant"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<ActivityParticipant>() else {
            return Ok(());
        };
        let now = work.now();
        let (activity, response) = (after.activity_id, after.response_status);
        let before = write.before::<ActivityParticipant>();
        let moved = before.is_some_and(|before| before.activity_id != activity);
        let known = before.map(|before| (before.response_status, before.attendance_status));
        let attendance = settled(known, response, after.attendance_status);
        let answers = known.map_or(ResponseStatus::Pending, |known| known.0) != response;
        write.edit::<ActivityParticipant>(|participant| {
            participant.attendance_status = attendance;
            if answers {
                let has_answered = response != ResponseStatus::Pending;
                participant.responded_at = has_answered.then_some(now);
            }
        });
        if moved {
            write.faults().add(
                "activity_id",
                codes::READ_ONLY,
                "a participant stays with the activity",
            );
        }
        work.touch(Activity::schema(), activity.uuid()).await
    }
}

impl Records<'_, Activity> {
    /// Invites somebody to an activity. Who takes part already stays as it is, and gets the role if
    /// one is given.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no such activity;
    /// [`Error::Validation`](crate::Error::Validation) if there is no such user or contact.
    pub async fn invite(
        &mut self,
        activity: Id<Activity>,
        invitee: impl Into<Invitee>,
        role: Option<&str>,
    ) -> Result<Arc<Record<ActivityParticipant>>> {
        let mut invited = invitee.into().participant(activity);
        invited.role = role.map(ToOwned::to_owned);
        in_work!(self.workspace, |work| {
            work.get(activity).await?;
            let person = match (invited.user_id, invited.contact_id, &invited.email) {
                (Some(user), _, _) => ActivityParticipant::USER_ID.eq(user),
                (_, Some(contact), _) => ActivityParticipant::CONTACT_ID.eq(contact),
                (_, _, Some(email)) => ActivityParticipant::EMAIL.eq(email.clone()),
                _ => ActivityParticipant::EMAIL.is_null(),
            };
            let known = ActivityParticipant::ACTIVITY_ID.eq(activity).and(person);
            match work.find_all(known, Vec::new()).await?.pop() {
                Some(known) if invited.role.is_none() => Ok(known),
                Some(known) => {
                    work.update(known.id, &|participant: &mut ActivityParticipant| {
                        participant.role.clone_from(&invited.role);
                    })
                    .await
                }
                None => {
                    for person in PERSON_KEYS {
                        work.contend("activity_participant", person);
                    }
                    work.create(invited.clone()).await
                }
            }
        })
    }

    /// Records what a participant answered, which settles whether the participant attends.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn respond(
        &mut self,
        participant: Id<ActivityParticipant>,
        response: ResponseStatus,
    ) -> Result<Arc<Record<ActivityParticipant>>> {
        in_work!(self.workspace, |work| {
            work.update(participant, &|participant: &mut ActivityParticipant| {
                participant.response_status = response;
                participant.attendance_status = response.attendance();
            })
            .await
        })
    }

    /// Records whether a participant attends, whatever the answer was.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn attend(
        &mut self,
        participant: Id<ActivityParticipant>,
        attendance: AttendanceStatus,
    ) -> Result<Arc<Record<ActivityParticipant>>> {
        in_work!(self.workspace, |work| {
            work.update(participant, &|participant: &mut ActivityParticipant| {
                participant.attendance_status = attendance;
            })
            .await
        })
    }

    /// Takes a participant out of an activity.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn remove_participant(&mut self, participant: Id<ActivityParticipant>) -> Result<()> {
        in_work!(self.workspace, |work| {
            work.delete(ActivityParticipant::schema(), participant.uuid())
                .await
        })
    }

    /// The participants of an activity, in the order in which they were added.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn participants(
        &self,
        activity: Id<Activity>,
    ) -> Result<Vec<Arc<Record<ActivityParticipant>>>> {
        let registry = &*self.workspace.registry().await?;
        let filter = ActivityParticipant::ACTIVITY_ID.eq(activity).into_filter();
        let schema = ActivityParticipant::schema();
        let condition = Condition::not_deleted().and(Condition::bind(&filter, schema, registry)?);
        let rows = self
            .workspace
            .select(&Query::new(schema, condition))
            .await?;
        let participants: Vec<_> = rows.into_iter().filter_map(Record::from_row).collect();
        self.workspace.hand_out(&participants).await?;
        Ok(participants)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C-016: an answer settles the attendance, an attendance that is set stays.
    #[test]
    fn answers_settle_the_attendance() {
        for response in ResponseStatus::ALL.iter().copied() {
            for known in ResponseStatus::ALL.iter().copied() {
                for attendance in AttendanceStatus::ALL.iter().copied() {
                    for set in AttendanceStatus::ALL.iter().copied() {
                        let after = settled(Some((known, attendance)), response, set);
                        let expected = if set != attendance || response == known {
                            set
                        } else {
                            response.attendance()
                        };
                        assert_eq!(after, expected);
                    }
                }
            }
        }
        let new = settled(None, ResponseStatus::Accepted, AttendanceStatus::Invited);
        assert_eq!(new, AttendanceStatus::Attending);
    }
}

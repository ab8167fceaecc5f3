//! Participants of a calendar as those of the engine, and back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crm_core::activities::{
    Activity, ActivityParticipant, Invitee, ParticipantType, ResponseStatus,
};
use crm_core::contacts::Contact;
use crm_core::error::{Error, Result};
use crm_core::identity::User;
use crm_core::query::{Find, MAX_LIMIT, fold_case};
use crm_core::schema::{Entity as _, FieldType};
use crm_core::value::EmailAddress;
use crm_core::{Id, Record, Session};

use super::read::limited;
use super::{Participant, ParticipantRole, ParticipantStatus, Participants};

/// How many addresses or records are looked up at once.
const AT_ONCE: usize = 500;

/// How often participants are written again that somebody else changed at the same time.
const ATTEMPTS: u32 = 8;

/// Whom the addresses of a calendar belong to.
#[derive(Debug, Default)]
pub(super) struct People {
    known: HashMap<String, Invitee>,
}

impl People {
    /// Looks addresses up: those of users, and those of contacts that are no user's. Two round trips
    /// for 500 addresses.
    pub(super) async fn find<'a>(
        session: &Session,
        all: impl Iterator<Item = &'a Participants>,
    ) -> Result<Self> {
        let mut emails: BTreeMap<String, EmailAddress> = BTreeMap::new();
        for one in all.flat_map(|all| all.organizer.iter().chain(&all.attendees)) {
            emails.insert(folded(&one.email), one.email.clone());
        }
        let emails: Vec<EmailAddress> = emails.into_values().collect();
        let mut known = HashMap::new();
        for some in emails.chunks(AT_ONCE) {
            let find = Find::from(Contact::EMAIL.one_of(some.to_vec())).with_archived();
            let contacts = session.contacts().find(find.limit(MAX_LIMIT)).await?;
            for contact in contacts.items {
                if let Some(email) = &contact.email {
                    known.insert(folded(email), Invitee::Contact(contact.id));
                }
            }
            let find = Find::from(User::EMAIL.one_of(some.to_vec())).with_archived();
            let users = session.users().find(find.limit(MAX_LIMIT)).await?;
            for user in users.items {
                known.insert(folded(&user.email), Invitee::User(user.id));
            }
        }
        Ok(Self { known })
    }

    /// Sees to it that all take part in an activity who do so by the calendar. True if something was
    /// changed.
    ///
    /// Nobody is taken out, since an answer to an invitation names one attendee only; and who has
    /// answered here keeps the answer where the calendar knows none.
    pub(super) async fn store(
        &self,
        session: &Session,
        activity: Id<Activity>,
        given: &Participants,
    ) -> Result<bool> {
        let wanted = wanted(given);
        if wanted.is_empty() {
            return Ok(false);
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.write(session, activity, &wanted).await {
                // Somebody invited one of them meanwhile, or changed the activity.
                Err(Error::Conflict { .. } | Error::Duplicate { .. }) if attempt < ATTEMPTS => {}
                done => return done,
            }
        }
    }

    async fn write(
        &self,
        session: &Session,
        activity: Id<Activity>,
        wanted: &[Wanted<'_>],
    ) -> Result<bool> {
        let known = session.activities().participants(activity).await?;
        let mut work = session.begin();
        for one in wanted {
            let key = folded(&one.participant.email);
            let invitee = self.known.get(&key);
            let is_same = |known: &&Arc<Record<ActivityParticipant>>| {
                let by_email = known.email.as_ref().map(folded).as_ref() == Some(&key);
                by_email
                    || match invitee {
                        Some(Invitee::User(id)) => known.user_id == Some(*id),
                        Some(Invitee::Contact(id)) => known.contact_id == Some(*id),
                        _ => false,
                    }
            };
            let response = response_in(one.participant.status);
            let role = role_in(one.role);
            let Some(known) = known.iter().find(is_same) else {
                let mut new = one.invited(activity, invitee);
                new.role = role.map(ToOwned::to_owned);
                new.response_status = response;
                work.participants().create(new).await?;
                continue;
            };
            let answers = response != ResponseStatus::Pending && response != known.response_status;
            // A role that somebody put in words of their own says more than the calendar does.
            let is_ours = known
                .role
                .as_deref()
                .is_none_or(|role| role_out(role).is_some());
            let changes_role = is_ours && role.is_some() && role != known.role.as_deref();
            if answers || changes_role {
                let change = |participant: &mut ActivityParticipant| {
                    if answers {
                        participant.response_status = response;
                    }
                    if changes_role {
                        participant.role = role.map(ToOwned::to_owned);
                    }
                };
                work.participants().update(known.id, change).await?;
            }
        }
        let is_changed = !work.staged().is_empty();
        if is_changed {
            work.commit().await?;
        }
        Ok(is_changed)
    }
}

/// Somebody who takes part by the calendar.
struct Wanted<'a> {
    participant: &'a Participant,
    role: Option<ParticipantRole>,
}

impl Wanted<'_> {
    fn invited(&self, activity: Id<Activity>, invitee: Option<&Invitee>) -> ActivityParticipant {
        let new = |kind| ActivityParticipant::new(activity, kind);
        match invitee {
            Some(Invitee::User(id)) => ActivityParticipant {
                user_id: Some(*id),
                ..new(ParticipantType::User)
            },
            Some(Invitee::Contact(id)) => ActivityParticipant {
                contact_id: Some(*id),
                ..new(ParticipantType::Contact)
            },
            _ => {
                let email = self.participant.email.clone();
                let name = self.participant.name.as_deref().unwrap_or_default();
                let name = limited(name, name_length(), false);
                ActivityParticipant {
                    name: name.or_else(|| limited(email.as_ref(), name_length(), false)),
                    email: Some(email),
                    ..new(ParticipantType::External)
                }
            }
        }
    }
}

/// How long the name of somebody may be who is neither a user nor a contact.
fn name_length() -> usize {
    match ActivityParticipant::schema()
        .field("name")
        .map(|field| &field.field_type)
    {
        Some(FieldType::Text { max_length, .. }) => {
            usize::try_from(*max_length).unwrap_or(usize::MAX)
        }
        _ => usize::MAX,
    }
}

/// Each address once, whoever invites first; an organizer's answer is that of the attendee.
/// `None` for the role stands for one that needs no words.
fn wanted(given: &Participants) -> Vec<Wanted<'_>> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    let organizer = given.organizer.as_ref();
    if let Some(organizer) = organizer {
        let key = folded(&organizer.email);
        let attendee = given.attendees.iter().find(|one| folded(&one.email) == key);
        seen.insert(key);
        all.push(Wanted {
            participant: attendee.unwrap_or(organizer),
            role: None,
        });
    }
    for attendee in &given.attendees {
        if seen.insert(folded(&attendee.email)) {
            all.push(Wanted {
                participant: attendee,
                role: Some(attendee.role),
            });
        }
    }
    all
}

/// Addresses that differ in letter case only are of one person (R-021).
fn folded(email: &EmailAddress) -> String {
    fold_case(email.as_ref())
}

const ORGANIZER: &str = "organizer";

/// The role of a participant; of `None`, that of who invites. One who is simply invited has none.
const fn role_in(role: Option<ParticipantRole>) -> Option<&'static str> {
    match role {
        None => Some(ORGANIZER),
        Some(ParticipantRole::Chair) => Some("chair"),
        Some(ParticipantRole::Required) => None,
        Some(ParticipantRole::Optional) => Some("optional"),
        Some(ParticipantRole::NonParticipant) => Some("informed"),
    }
}

/// What a role is called in a calendar, if it has a word for it.
fn role_out(role: &str) -> Option<ParticipantRole> {
    match role {
        ORGANIZER => Some(ParticipantRole::Required),
        "chair" => Some(ParticipantRole::Chair),
        "optional" => Some(ParticipantRole::Optional),
        "informed" => Some(ParticipantRole::NonParticipant),
        _ => None,
    }
}

/// The answer of a participant; who sends somebody else does not come.
const fn response_in(status: ParticipantStatus) -> ResponseStatus {
    match status {
        ParticipantStatus::NeedsAction => ResponseStatus::Pending,
        ParticipantStatus::Accepted => ResponseStatus::Accepted,
        ParticipantStatus::Declined | ParticipantStatus::Delegated => ResponseStatus::Declined,
        ParticipantStatus::Tentative => ResponseStatus::Tentative,
    }
}

const fn response_out(response: ResponseStatus) -> ParticipantStatus {
    match response {
        ResponseStatus::Pending => ParticipantStatus::NeedsAction,
        ResponseStatus::Accepted => ParticipantStatus::Accepted,
        ResponseStatus::Declined => ParticipantStatus::Declined,
        ResponseStatus::Tentative => ParticipantStatus::Tentative,
    }
}

impl Participants {
    /// Who takes part in each of some activities, as the engine keeps them. Somebody without an
    /// e-mail address has no place in a calendar and is left out.
    ///
    /// ```
    /// # use crm_core::{Id, Record, Session, activities::Activity, error::Result};
    /// use crm_exchange::calendar::{Calendar, Participants};
    /// # async fn example(session: &Session, call: &Record<Activity>) -> Result<()> {
    /// let mut who = Participants::of(session, &[call.id]).await?;
    /// let mut calendar = Calendar::new(session.engine().clock().now());
    /// calendar.add_activity(call, &who.remove(&call.id).unwrap_or_default());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn of(
        session: &Session,
        activities: &[Id<Activity>],
    ) -> Result<HashMap<Id<Activity>, Self>> {
        let mut all = HashMap::new();
        for some in activities.chunks(AT_ONCE) {
            let of_some = ActivityParticipant::ACTIVITY_ID.one_of(some.iter().copied());
            let find = Find::from(of_some).with_archived().limit(MAX_LIMIT);
            let mut after = None;
            loop {
                let find = match after.take() {
                    Some(after) => find.clone().after(after),
                    None => find.clone(),
                };
                let page = session.participants().find(find).await?;
                Self::gather(session, &page.items, &mut all).await?;
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(all)
    }

    async fn gather(
        session: &Session,
        records: &[Arc<Record<ActivityParticipant>>],
        all: &mut HashMap<Id<Activity>, Self>,
    ) -> Result<()> {
        let users: Vec<Id<User>> = records.iter().filter_map(|one| one.user_id).collect();
        let users = session.users().get_all(&users).await?;
        let users: HashMap<Id<User>, _> = users.into_iter().map(|user| (user.id, user)).collect();
        let contacts: Vec<Id<Contact>> = records.iter().filter_map(|one| one.contact_id).collect();
        let contacts = session.contacts().get_all(&contacts).await?;
        let contacts: HashMap<Id<Contact>, _> = contacts
            .into_iter()
            .map(|contact| (contact.id, contact))
            .collect();
        for one in records {
            let (email, name) = match (one.user_id, one.contact_id) {
                (Some(id), _) => match users.get(&id) {
                    Some(user) => (Some(user.email.clone()), user.name.full_name()),
                    None => continue,
                },
                (_, Some(id)) => match contacts.get(&id) {
                    Some(contact) => (contact.email.clone(), contact.name.full_name()),
                    None => continue,
                },
                _ => (one.email.clone(), one.name.clone()),
            };
            let Some(email) = email else { continue };
            // Whose name nobody knew is called by the address.
            let name = name.filter(|name| name != email.as_ref());
            let participant = Participant {
                email,
                name,
                status: response_out(one.response_status),
                role: one.role.as_deref().and_then(role_out).unwrap_or_default(),
            };
            let who = all.entry(one.activity_id).or_default();
            if one.role.as_deref() == Some(ORGANIZER) && who.organizer.is_none() {
                who.organizer = Some(Participant {
                    status: ParticipantStatus::default(),
                    ..participant.clone()
                });
            }
            who.attendees.push(participant);
        }
        Ok(())
    }
}

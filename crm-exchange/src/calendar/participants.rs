//! Who takes part in an activity, as iCalendar says it.

use calcard::icalendar::{
    ICalendarComponent, ICalendarEntry, ICalendarParameter, ICalendarParameterName,
    ICalendarParameterValue, ICalendarParticipationRole, ICalendarParticipationStatus,
    ICalendarProperty, ICalendarValue, Uri,
};
use crm_core::value::{EmailAddress, TextValue as _};

/// How many attendees of one activity are read.
const MOST_ATTENDEES: usize = 500;

/// Somebody who takes part: `ATTENDEE` or `ORGANIZER`.
#[derive(Clone, PartialEq, Eq)]
pub struct Participant {
    /// The address.
    pub email: EmailAddress,
    /// The name (`CN`).
    pub name: Option<String>,
    /// Whether they come (`PARTSTAT`).
    pub status: ParticipantStatus,
    /// As what they take part (`ROLE`).
    pub role: ParticipantRole,
}

impl std::fmt::Debug for Participant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Participant")
            .field("status", &self.status)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl Participant {
    /// Somebody whose presence is required and who has not answered.
    #[must_use]
    pub const fn new(email: EmailAddress) -> Self {
        Self {
            email,
            name: None,
            status: ParticipantStatus::NeedsAction,
            role: ParticipantRole::Required,
        }
    }
}

/// Whether a participant comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParticipantStatus {
    /// Has not answered.
    #[default]
    NeedsAction,
    /// Comes.
    Accepted,
    /// Does not come.
    Declined,
    /// Comes perhaps.
    Tentative,
    /// Sends somebody else.
    Delegated,
}

/// As what a participant takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParticipantRole {
    /// In the chair.
    Chair,
    /// Required.
    #[default]
    Required,
    /// Optional.
    Optional,
    /// Informed only.
    NonParticipant,
}

/// All who take part in an activity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Participants {
    /// Who invites.
    pub organizer: Option<Participant>,
    /// Who is invited.
    pub attendees: Vec<Participant>,
}

impl Participants {
    pub(super) fn write(&self, component: &mut ICalendarComponent) {
        let organizer = self
            .organizer
            .iter()
            .map(|one| (ICalendarProperty::Organizer, one));
        let attendees = self
            .attendees
            .iter()
            .map(|one| (ICalendarProperty::Attendee, one));
        for (property, participant) in organizer.chain(attendees) {
            let mut entry = ICalendarEntry::new(property.clone()).with_value(ICalendarValue::Uri(
                Uri::Location(format!("mailto:{}", participant.email)),
            ));
            if let Some(name) = &participant.name {
                entry.add_param(ICalendarParameter::cn(name.clone()));
            }
            if property == ICalendarProperty::Attendee {
                entry.add_param(ICalendarParameter::role(role_out(participant.role)));
                entry.add_param(ICalendarParameter::partstat(status_out(participant.status)));
            }
            component.entries.push(entry);
        }
    }

    pub(super) fn read(component: &ICalendarComponent) -> Self {
        Self {
            organizer: component
                .properties(&ICalendarProperty::Organizer)
                .find_map(participant),
            attendees: component
                .properties(&ICalendarProperty::Attendee)
                .filter_map(participant)
                .take(MOST_ATTENDEES)
                .collect(),
        }
    }
}

fn participant(entry: &ICalendarEntry) -> Option<Participant> {
    let address = match entry.values.first()? {
        ICalendarValue::Uri(Uri::Location(uri)) => uri,
        ICalendarValue::Text(text) => text,
        _ => return None,
    };
    let address = match address.split_at_checked(7) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("mailto:") => rest,
        _ => address,
    };
    let mut participant = Participant::new(EmailAddress::parse(address).ok()?);
    for parameter in &entry.params {
        match (&parameter.name, &parameter.value) {
            (ICalendarParameterName::Cn, value) => {
                let name = value
                    .as_text()
                    .map(str::trim)
                    .filter(|name| !name.is_empty());
                participant.name = name.map(str::to_owned);
            }
            (_, ICalendarParameterValue::Partstat(status)) => {
                participant.status = status_in(status);
            }
            (_, ICalendarParameterValue::Role(role)) => participant.role = role_in(role),
            _ => {}
        }
    }
    Some(participant)
}

const fn role_out(role: ParticipantRole) -> ICalendarParticipationRole {
    match role {
        ParticipantRole::Chair => ICalendarParticipationRole::Chair,
        ParticipantRole::Required => ICalendarParticipationRole::ReqParticipant,
        ParticipantRole::Optional => ICalendarParticipationRole::OptParticipant,
        ParticipantRole::NonParticipant => ICalendarParticipationRole::NonParticipant,
    }
}

const fn role_in(role: &ICalendarParticipationRole) -> ParticipantRole {
    match role {
        ICalendarParticipationRole::Chair => ParticipantRole::Chair,
        ICalendarParticipationRole::OptParticipant => ParticipantRole::Optional,
        ICalendarParticipationRole::NonParticipant => ParticipantRole::NonParticipant,
        _ => ParticipantRole::Required,
    }
}

const fn status_out(status: ParticipantStatus) -> ICalendarParticipationStatus {
    match status {
        ParticipantStatus::NeedsAction => ICalendarParticipationStatus::NeedsAction,
        ParticipantStatus::Accepted => ICalendarParticipationStatus::Accepted,
        ParticipantStatus::Declined => ICalendarParticipationStatus::Declined,
        ParticipantStatus::Tentative => ICalendarParticipationStatus::Tentative,
        ParticipantStatus::Delegated => ICalendarParticipationStatus::Delegated,
    }
}

const fn status_in(status: &ICalendarParticipationStatus) -> ParticipantStatus {
    match status {
        ICalendarParticipationStatus::Accepted => ParticipantStatus::Accepted,
        ICalendarParticipationStatus::Declined => ParticipantStatus::Declined,
        ICalendarParticipationStatus::Tentative => ParticipantStatus::Tentative,
        ICalendarParticipationStatus::Delegated => ParticipantStatus::Delegated,
        _ => ParticipantStatus::NeedsAction,
    }
}

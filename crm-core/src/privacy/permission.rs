//! Whether a person may be approached by a channel, for a purpose (R-026). No I/O.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Consent;
use super::consent::latest;
use crate::contacts::{Contact, ContactPreferences, ContactStatus};
use crate::schema::Picklist;
use crate::value::TextValue;

/// A way to reach a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum Channel {
    /// E-mail.
    Email,
    /// A call.
    Phone,
    /// A text message. Who does not want calls gets none either.
    Sms,
    /// A letter.
    Postal,
    /// A message at a social network.
    Social,
    /// Anything else, such as a visit.
    Other,
}

impl Channel {
    /// The type of the consent to marketing by this channel.
    ///
    /// ```
    /// use crm_core::privacy::Channel;
    ///
    /// assert_eq!(Channel::Email.consent_type(), "marketing_email");
    /// ```
    #[must_use]
    pub const fn consent_type(self) -> &'static str {
        match self {
            Self::Email => "marketing_email",
            Self::Phone => "marketing_phone",
            Self::Sms => "marketing_sms",
            Self::Postal => "marketing_postal",
            Self::Social => "marketing_social",
            Self::Other => "marketing_other",
        }
    }

    /// The types of consent that allow marketing by this channel: its own, and `marketing`, which
    /// is that by any.
    #[must_use]
    pub const fn consent_types(self) -> [&'static str; 2] {
        [self.consent_type(), "marketing"]
    }
}

/// What a person is approached for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum Purpose {
    /// To sell something.
    Marketing,
    /// To do what was agreed: an invoice, a delivery, an answer.
    Service,
}

/// Whether marketing needs the person's consent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptIn {
    /// Only who asked for it gets it.
    Required,
    /// Everybody gets it who did not refuse.
    #[default]
    NotRequired,
}

/// By which channels marketing needs the person's consent: a setting of the tenant.
///
/// ```
/// use crm_core::privacy::{ContactingPolicy, OptIn};
///
/// let policy = ContactingPolicy { email: OptIn::Required, ..ContactingPolicy::default() };
/// assert_eq!(serde_json::to_value(policy)?["email"], "required");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContactingPolicy {
    /// By e-mail.
    pub email: OptIn,
    /// By telephone.
    pub phone: OptIn,
    /// By text message.
    pub sms: OptIn,
    /// By letter.
    pub postal: OptIn,
    /// At social networks.
    pub social: OptIn,
    /// In another way.
    pub other: OptIn,
}

impl ContactingPolicy {
    /// Consent is needed for marketing by every channel.
    #[must_use]
    pub const fn strict() -> Self {
        let required = OptIn::Required;
        Self {
            email: required,
            phone: required,
            sms: required,
            postal: required,
            social: required,
            other: required,
        }
    }

    /// Whether marketing by a channel needs consent.
    #[must_use]
    pub const fn requires_consent(&self, channel: Channel) -> bool {
        let rule = match channel {
            Channel::Email => self.email,
            Channel::Phone => self.phone,
            Channel::Sms => self.sms,
            Channel::Postal => self.postal,
            Channel::Social => self.social,
            Channel::Other => self.other,
        };
        matches!(rule, OptIn::Required)
    }
}

/// Why a person may not be approached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The person has died.
    Deceased,
    /// The contact is archived.
    Archived,
    /// The person does not want to be called.
    DoNotCall,
    /// The person does not want e-mail.
    DoNotEmail,
    /// The person does not want marketing by e-mail.
    EmailOptOut,
    /// The consent was withdrawn.
    ConsentWithdrawn,
    /// The consent is needed, and its time is over.
    ConsentExpired,
    /// The consent is needed, and was never given.
    ConsentMissing,
    /// There is no address or number for the channel.
    NoAddress,
}

/// Whether a person may be approached: yes, or every reason why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[must_use]
pub enum Permission {
    /// Yes.
    Allowed,
    /// No.
    Denied(Vec<Reason>),
}

impl Permission {
    /// Whether the person may be approached.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed)
    }

    /// Why not; nothing where it is allowed.
    #[must_use]
    pub fn reasons(&self) -> &[Reason] {
        match self {
            Self::Allowed => &[],
            Self::Denied(reasons) => reasons,
        }
    }
}

/// What is known of a person, for [`may_contact`].
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// What the person wants.
    pub preferences: &'a ContactPreferences,
    /// Where the contact stands.
    pub status: ContactStatus,
    /// Whether the record is archived.
    pub is_archived: bool,
    /// Whether there is an address or number for the channel.
    pub has_address: bool,
}

/// Whether there is an address or number of a contact for a channel.
#[must_use]
pub fn has_address(contact: &Contact, channel: Channel) -> bool {
    match channel {
        Channel::Email => contact.email.is_some(),
        Channel::Phone => contact.phone.is_some() || contact.mobile.is_some(),
        Channel::Sms => contact.mobile.is_some(),
        Channel::Postal => contact.mailing_address.is_some(),
        Channel::Social => !contact.social_profiles.is_empty(),
        Channel::Other => true,
    }
}

/// R-026: whether a person may be approached by a channel for a purpose at a moment. `consents` are
/// the person's, of any type and age, also those that were withdrawn.
///
/// An opt-out is never overruled: not by a consent, a purpose, or the tenant's policy. A withdrawn
/// consent counts until a newer one is given, also where the policy asks for none.
pub fn may_contact(
    standing: Standing<'_>,
    consents: &[&Consent],
    channel: Channel,
    purpose: Purpose,
    policy: &ContactingPolicy,
    at: DateTime<Utc>,
) -> Permission {
    let mut reasons = Vec::new();
    let mut deny = |reason: Reason, when: bool| {
        if when {
            reasons.push(reason);
        }
    };
    let (wishes, marketing) = (standing.preferences, purpose == Purpose::Marketing);
    let (email, calls) = (
        channel == Channel::Email,
        matches!(channel, Channel::Phone | Channel::Sms),
    );
    deny(Reason::Deceased, standing.status == ContactStatus::Deceased);
    deny(
        Reason::Archived,
        standing.is_archived || standing.status == ContactStatus::Archived,
    );
    deny(Reason::DoNotCall, calls && wishes.do_not_call);
    deny(Reason::DoNotEmail, email && wishes.do_not_email);
    deny(
        Reason::EmailOptOut,
        email && marketing && wishes.email_opt_out,
    );
    if marketing {
        let missing = without_consent(consents, channel, policy, at);
        missing.into_iter().for_each(|reason| deny(reason, true));
    }
    deny(Reason::NoAddress, !standing.has_address);
    if reasons.is_empty() {
        Permission::Allowed
    } else {
        Permission::Denied(reasons)
    }
}

/// What the person's consents say against marketing by a channel.
fn without_consent(
    consents: &[&Consent],
    channel: Channel,
    policy: &ContactingPolicy,
    at: DateTime<Utc>,
) -> Option<Reason> {
    let types = channel.consent_types();
    let concerning: Vec<_> = consents
        .iter()
        .filter(|consent| types.contains(&consent.consent_type.as_str()))
        .collect();
    let (granted, withdrawn) = latest(concerning.iter().map(|consent| **consent), at);
    let has_expired = |consent: &Consent| consent.is_active && consent.has_expired(at);
    match (granted, withdrawn) {
        (granted, Some(withdrawn)) if granted.is_none_or(|granted| granted <= withdrawn) => {
            Some(Reason::ConsentWithdrawn)
        }
        (Some(_), _) => None,
        (None, _) if !policy.requires_consent(channel) => None,
        (None, _) if concerning.iter().any(|one| has_expired(one)) => Some(Reason::ConsentExpired),
        (None, _) => Some(Reason::ConsentMissing),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;
    use crate::privacy::ConsentStatus;

    fn moment(hour: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hour)
    }

    fn channel() -> impl Strategy<Value = Channel> {
        proptest::sample::select(vec![
            Channel::Email,
            Channel::Phone,
            Channel::Sms,
            Channel::Postal,
            Channel::Social,
            Channel::Other,
        ])
    }

    fn consent() -> impl Strategy<Value = Consent> {
        let name = proptest::sample::select(vec!["marketing", "marketing_email", "marketing_sms"]);
        let withdrawn = proptest::option::of(0..20_i64);
        let expires = proptest::option::of(0..20_i64);
        (name, 0..20_i64, withdrawn, expires, any::<bool>()).prop_map(
            |(name, granted, withdrawn, expires, is_active)| {
                let withdrawn_at = withdrawn.map(|after| moment(granted + after));
                Consent {
                    status: match withdrawn_at {
                        Some(_) => ConsentStatus::Withdrawn,
                        None => ConsentStatus::Granted,
                    },
                    is_active: is_active && withdrawn_at.is_none(),
                    withdrawn_at,
                    expires_at: expires.map(|after| moment(granted + after)),
                    ..Consent::new(
                        name.parse::<crate::value::ApiName>().unwrap(),
                        moment(granted),
                    )
                }
            },
        )
    }

    #[derive(Clone, Debug)]
    struct Case {
        preferences: ContactPreferences,
        status: ContactStatus,
        is_archived: bool,
        has_address: bool,
        consents: Vec<Consent>,
        channel: Channel,
        purpose: Purpose,
        policy: ContactingPolicy,
        at: DateTime<Utc>,
    }

    impl Case {
        fn decide(&self) -> Permission {
            let standing = Standing {
                preferences: &self.preferences,
                status: self.status,
                is_archived: self.is_archived,
                has_address: self.has_address,
            };
            let consents: Vec<_> = self.consents.iter().collect();
            may_contact(
                standing,
                &consents,
                self.channel,
                self.purpose,
                &self.policy,
                self.at,
            )
        }
    }

    prop_compose! {
        fn case()(
            flags in any::<(bool, bool, bool)>(),
            status in proptest::sample::select(vec![
                ContactStatus::Active, ContactStatus::Inactive, ContactStatus::Archived, ContactStatus::Deceased,
            ]),
            (is_archived, has_address) in any::<(bool, bool)>(),
            consents in proptest::collection::vec(consent(), 0..4),
            channel in channel(),
            marketing: bool,
            strict: bool,
            at in 0..40_i64,
        ) -> Case {
            Case {
                preferences: ContactPreferences {
                    do_not_call: flags.0,
                    do_not_email: flags.1,
                    email_opt_out: flags.2,
                    ..ContactPreferences::default()
                },
                status,
                is_archived,
                has_address,
                consents,
                channel,
                purpose: if marketing { Purpose::Marketing } else { Purpose::Service },
                policy: if strict { ContactingPolicy::strict() } else { ContactingPolicy::default() },
                at: moment(at),
            }
        }
    }

    proptest! {
        /// R-026: an opt-out is never overruled.
        #[test]
        fn an_opt_out_is_never_overruled(case in case()) {
            let permission = case.decide();
            let (email, marketing) = (case.channel == Channel::Email, case.purpose == Purpose::Marketing);
            let opted_out = case.preferences.do_not_email && email
                || case.preferences.email_opt_out && email && marketing
                || case.preferences.do_not_call && matches!(case.channel, Channel::Phone | Channel::Sms)
                || matches!(case.status, ContactStatus::Archived | ContactStatus::Deceased)
                || case.is_archived
                || !case.has_address;
            prop_assert!(!opted_out || !permission.is_allowed());
            prop_assert_eq!(permission.is_allowed(), permission.reasons().is_empty());
        }

        /// R-026: removing an opt-out never forbids, and each is the only one of its reasons.
        #[test]
        fn removing_an_opt_out_never_forbids(case in case(), which in 0..3_u8) {
            let mut free = case.clone();
            match which {
                0 => free.preferences.do_not_call = false,
                1 => free.preferences.do_not_email = false,
                _ => free.preferences.email_opt_out = false,
            }
            let (before, after) = (case.decide(), free.decide());
            prop_assert!(after.reasons().iter().all(|reason| before.reasons().contains(reason)));
        }

        /// R-026: what a strict policy allows, a loose one allows, and marketing needs at least what
        /// service does.
        #[test]
        fn strictness_only_forbids(case in case()) {
            let strict = Case { policy: ContactingPolicy::strict(), ..case.clone() }.decide();
            let loose = Case { policy: ContactingPolicy::default(), ..case.clone() }.decide();
            prop_assert!(!strict.is_allowed() || loose.is_allowed());
            let marketing = Case { purpose: Purpose::Marketing, ..case.clone() }.decide();
            let service = Case { purpose: Purpose::Service, ..case }.decide();
            prop_assert!(!marketing.is_allowed() || service.is_allowed());
        }

        /// C-064: a withdrawal counts until a newer consent, whatever the policy.
        #[test]
        fn a_withdrawal_counts_until_a_newer_consent(case in case(), strict: bool) {
            let at = moment(100);
            let given = Consent { expires_at: None, ..Consent::new("marketing_email".parse::<crate::value::ApiName>().unwrap(), moment(60)) };
            let withdrawn = Consent {
                status: ConsentStatus::Withdrawn,
                is_active: false,
                withdrawn_at: Some(moment(70)),
                ..Consent::new("marketing".parse::<crate::value::ApiName>().unwrap(), moment(50))
            };
            let again = Consent::new("marketing_email".parse::<crate::value::ApiName>().unwrap(), moment(80));
            let policy = if strict { ContactingPolicy::strict() } else { ContactingPolicy::default() };
            let decide = |consents: Vec<Consent>| {
                Case {
                    preferences: ContactPreferences::default(),
                    status: ContactStatus::Active,
                    is_archived: false,
                    has_address: true,
                    consents,
                    channel: Channel::Email,
                    purpose: Purpose::Marketing,
                    policy,
                    at,
                }
                .decide()
            };
            let mut consents = case.consents;
            consents.extend([given, withdrawn]);
            let refused = decide(consents.clone());
            prop_assert_eq!(refused.reasons(), [Reason::ConsentWithdrawn]);
            consents.push(again);
            prop_assert!(decide(consents).is_allowed());
        }
    }
}

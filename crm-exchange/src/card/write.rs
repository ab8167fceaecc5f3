//! Contacts to vCard.

use calcard::vcard::{
    VCard, VCardEntry, VCardParameter, VCardParameterName, VCardProperty, VCardType, VCardValue,
    VCardValueType, VCardVersion,
};
use crm_core::Record;
use crm_core::contacts::Contact;
use crm_core::value::{Address, PhoneNumber, TextValue};

use super::URN;

/// The version of the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CardVersion {
    /// RFC 2426, for older programs. It has no place for the language.
    V3,
    /// RFC 6350.
    #[default]
    V4,
}

/// How a card is written.
#[derive(Clone, Debug, Default)]
pub struct CardOptions {
    /// The version of the format.
    pub version: CardVersion,
    /// The name of the contact's account, for contacts without a `company` of their own.
    pub organisation: Option<String>,
}

/// Writes a contact as a card, with lines folded and ended as the format wants it.
///
/// ```
/// use crm_core::contacts::Contact;
/// use crm_core::schema::Meta;
/// use crm_core::{Actor, Record, Stamp};
/// use crm_exchange::card::{CardOptions, parse_vcards, to_vcard};
///
/// let stamp = Stamp { at: "2026-01-31T09:00:00Z".parse()?, by: Actor::System };
/// let ada = Record::new(Meta::first(uuid::Uuid::from_u128(7), stamp), Contact::named("Ada", "Lovelace"));
/// let card = to_vcard(&ada, &CardOptions::default());
/// assert!(card.contains("N:Lovelace;Ada;;;"));
///
/// let read = parse_vcards(&card).remove(0)?;
/// assert_eq!(read.id(), Some(ada.id));
/// assert_eq!(read.contact.name, ada.name);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn to_vcard(contact: &Record<Contact>, options: &CardOptions) -> String {
    let card = VCard {
        entries: entries(contact, options),
    };
    let version = match options.version {
        CardVersion::V3 => VCardVersion::V3_0,
        CardVersion::V4 => VCardVersion::V4_0,
    };
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ = card.write_to(&mut text, version);
    text
}

fn entries(contact: &Record<Contact>, options: &CardOptions) -> Vec<VCardEntry> {
    let is_v4 = options.version == CardVersion::V4;
    let mut entries = Vec::new();
    let mut add = |entry: Option<VCardEntry>| entries.extend(entry);
    add(Some(text(
        VCardProperty::Uid,
        format!("{URN}{}", contact.id),
    )));
    let revised = contact.updated.at.format("%Y%m%dT%H%M%SZ").to_string();
    add(Some(text(VCardProperty::Rev, revised)));

    let (name, email) = (&contact.name, contact.email.as_ref());
    // The one property that every card must have.
    let shown = name
        .full_name()
        .or_else(|| contact.company.clone())
        .or_else(|| email.map(ToString::to_string))
        .unwrap_or_default();
    add(Some(text(VCardProperty::Fn, shown)));
    let parts = [&name.last_name, &name.first_name, &None, &None, &None];
    add(Some(
        VCardEntry::new(VCardProperty::N).with_values(parts.map(component).into()),
    ));

    add(email.map(|email| typed(VCardProperty::Email, email.as_str(), &[VCardType::Work])));
    add(contact.phone.as_ref().map(|phone| {
        typed(
            VCardProperty::Tel,
            dialled(phone),
            &[VCardType::Work, VCardType::Voice],
        )
    }));
    add(contact
        .mobile
        .as_ref()
        .map(|phone| typed(VCardProperty::Tel, dialled(phone), &[VCardType::Cell])));
    add(contact.mailing_address.as_ref().map(address));

    let organisation = contact.company.as_ref().or(options.organisation.as_ref());
    if organisation.is_some() || contact.department.is_some() {
        let mut units = vec![VCardValue::Text(organisation.cloned().unwrap_or_default())];
        units.extend(contact.department.clone().map(VCardValue::Text));
        add(Some(VCardEntry::new(VCardProperty::Org).with_values(units)));
    }
    add(contact
        .job_title
        .clone()
        .map(|title| text(VCardProperty::Title, title)));
    add(contact
        .description
        .clone()
        .map(|note| text(VCardProperty::Note, note)));
    for (network, profile) in contact.social_profiles.iter() {
        let name = if is_v4 {
            VCardProperty::Socialprofile
        } else {
            VCardProperty::Other("X-SOCIALPROFILE".to_owned())
        };
        let service = if is_v4 {
            VCardParameterName::ServiceType
        } else {
            VCardParameterName::Type
        };
        let value = profile.as_str().to_owned();
        let mut entry =
            text(name, value).with_param(VCardParameter::new(service, network.name().to_owned()));
        if profile.url().is_none() {
            entry.add_param(VCardParameter::value(VCardValueType::Text));
        }
        add(Some(entry));
    }
    if !contact.tags.is_empty() {
        let tags = contact.tags.iter().cloned().map(VCardValue::Text).collect();
        add(Some(
            VCardEntry::new(VCardProperty::Categories).with_values(tags),
        ));
    }
    let preferences = &contact.preferences;
    if is_v4 {
        add(Some(text(
            VCardProperty::Lang,
            preferences.language.to_string(),
        )));
    }
    let zone = text(VCardProperty::Tz, preferences.timezone.to_string());
    add(Some(
        zone.with_param(VCardParameter::value(VCardValueType::Text)),
    ));
    entries
}

fn text(name: VCardProperty, value: impl Into<String>) -> VCardEntry {
    VCardEntry::new(name).with_value(value.into())
}

fn typed(name: VCardProperty, value: &str, types: &[VCardType]) -> VCardEntry {
    let params = types.iter().cloned().map(VCardParameter::typ).collect();
    text(name, value).with_params(params)
}

/// One part of a name or address, which may be empty.
fn component(part: &Option<String>) -> VCardValue {
    VCardValue::Text(part.clone().unwrap_or_default())
}

/// The form that can be dialled from anywhere, where it is known.
fn dialled(phone: &PhoneNumber) -> &str {
    phone.e164().unwrap_or_else(|| phone.raw())
}

fn address(address: &Address) -> VCardEntry {
    let country = address.country.map(|country| country.name().to_owned());
    let parts = [
        &None,
        &None,
        &address.street,
        &address.city,
        &address.region,
        &address.postal_code,
        &country,
    ];
    let code = address.country.map(|country| country.as_str().to_owned());
    VCardEntry::new(VCardProperty::Adr)
        .with_values(parts.map(component).into())
        .with_param(VCardParameter::typ(VCardType::Work))
        .with_param_opt(code.map(|code| VCardParameter::new(VCardParameterName::Cc, code)))
}

//! vCard to contacts.

use std::fmt;

use calcard::common::IanaType;
use calcard::vcard::{
    VCard, VCardEntry, VCardParameterName, VCardParameterValue, VCardProperty, VCardType,
    VCardValue,
};
use calcard::{Entry, Parser};
use crm_core::Id;
use crm_core::contacts::Contact;
use crm_core::schema::{Entity, FieldGroup, FieldReader};
use crm_core::value::{
    Address, Country, EmailAddress, HttpUrl, LanguageTag, PersonName, PhoneNumber, SocialNetwork,
    TextValue, TimeZone,
};

use super::URN;

/// A contact as a card tells it.
#[derive(Clone, PartialEq)]
pub struct CardContact {
    /// How the card is named by whoever wrote it.
    pub uid: Option<String>,
    /// The contact.
    pub contact: Contact,
    /// What the contact has no place for, in the order of the card.
    pub not_taken: Vec<NotTaken>,
}

impl fmt::Debug for CardContact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CardContact")
            .field("contact", &self.contact)
            .field("not_taken", &self.not_taken)
            .finish_non_exhaustive()
    }
}

impl CardContact {
    /// The contact of this engine that the card was written of, if its UID says so. Whether there
    /// is such a contact, only a session can tell.
    #[must_use]
    pub fn id(&self) -> Option<Id<Contact>> {
        let uid = self.uid.as_deref()?;
        let is_urn = uid.get(..URN.len())?.eq_ignore_ascii_case(URN);
        uid.get(URN.len()..).filter(|_| is_urn)?.parse().ok()
    }
}

/// A property of a card that is not in the contact.
#[derive(Clone, PartialEq, Eq)]
pub struct NotTaken {
    /// The property, such as `EMAIL`, or the field whose limits its value exceeds.
    pub property: String,
    /// Its value; empty for pictures and the like.
    pub value: String,
    /// Why: `no_place`, or the code of what is wrong with the value.
    pub code: &'static str,
}

impl fmt::Debug for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotTaken")
            .field("property", &self.property)
            .field("code", &self.code)
            .finish_non_exhaustive()
    }
}

/// Why a part of the text is no contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// The lines do not belong to a card.
    #[error("the text has lines outside of a card; a card begins with BEGIN:VCARD")]
    NoCard,
    /// The card has no name, no address, nothing.
    #[error("the card is empty; give it a name, an e-mail address or an organisation")]
    Empty,
}

/// Reads every card of a text, of version 4.0, 3.0 or 2.1. A card that is not ended ends with the
/// text; lines that are none are left out.
///
/// ```
/// use crm_exchange::card::parse_vcards;
///
/// let text = "BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Ada Lovelace\r\nEMAIL:ada@analytical.example\r\n\
///             EMAIL:ada@home.example\r\nEND:VCARD\r\n";
/// let ada = parse_vcards(text).remove(0)?;
/// assert_eq!(ada.contact.name.last_name.as_deref(), Some("Lovelace"));
/// assert_eq!(ada.not_taken[0].value, "ada@home.example");
/// # Ok::<(), crm_exchange::card::CardError>(())
/// ```
///
/// # Errors
/// One for each card that is empty and for each run of lines that belong to no card; the other cards
/// are read all the same.
#[must_use]
pub fn parse_vcards(text: &str) -> Vec<Result<CardContact, CardError>> {
    let mut parser = Parser::new(text);
    let mut cards = Vec::new();
    loop {
        match parser.entry() {
            Entry::Eof => return cards,
            Entry::VCard(card) => cards.push(contact_of(card)),
            _ => {
                // One for many broken lines, so that a hostile text is not answered by a longer one.
                if cards.last() != Some(&Err(CardError::NoCard)) {
                    cards.push(Err(CardError::NoCard));
                }
            }
        }
    }
}

/// A contact in the making.
#[derive(Default)]
struct Reading {
    contact: Contact,
    uid: Option<String>,
    shown: Option<String>,
    emails: Vec<(u32, String)>,
    phones: Vec<(u32, bool, String)>,
    not_taken: Vec<NotTaken>,
}

fn contact_of(card: VCard) -> Result<CardContact, CardError> {
    let mut reading = Reading::default();
    for entry in card.entries {
        reading.take(entry);
    }
    reading.finish()
}

impl Reading {
    fn leave(&mut self, property: &str, value: &str, code: &'static str) {
        self.not_taken.push(NotTaken {
            property: property.to_owned(),
            value: value.to_owned(),
            code,
        });
    }

    /// Keeps a text for a field, unless another property filled it before.
    fn fill(
        &mut self,
        property: &str,
        text: String,
        field: fn(&mut Contact) -> &mut Option<String>,
    ) {
        let slot = field(&mut self.contact);
        if text.trim().is_empty() {
            return;
        }
        if slot.is_none() {
            *slot = Some(text);
        } else {
            self.leave(property, &text, NO_PLACE);
        }
    }

    fn take(&mut self, entry: VCardEntry) {
        let name = entry.name.as_str().to_ascii_uppercase();
        let text = joined(&entry.values);
        match &entry.name {
            VCardProperty::Begin | VCardProperty::End | VCardProperty::Version => {}
            // When the card was written, by what, and as what kind of thing.
            VCardProperty::Rev | VCardProperty::Prodid | VCardProperty::Kind => {}
            VCardProperty::Uid => self.uid = Some(text).filter(|uid| !uid.is_empty()),
            VCardProperty::Fn => self.shown = self.shown.take().or(Some(text)),
            VCardProperty::N => {
                let part = |index| component(&entry.values, index);
                self.contact.name = PersonName {
                    last_name: part(0),
                    first_name: part(1),
                };
                for index in 2..entry.values.len() {
                    if let Some(part) = part(index) {
                        self.leave("N", &part, NO_PLACE);
                    }
                }
            }
            VCardProperty::Email => self.emails.push((preference(&entry), text)),
            VCardProperty::Tel => self.take_phone(&entry, text),
            VCardProperty::Adr => self.take_address(&entry),
            VCardProperty::Org => {
                let part = |index| component(&entry.values, index);
                if let Some(company) = part(0) {
                    self.fill("ORG", company, |contact| &mut contact.company);
                }
                let units: Vec<String> = (1..entry.values.len()).filter_map(part).collect();
                self.fill("ORG", units.join(", "), |contact| &mut contact.department);
            }
            VCardProperty::Title => self.fill("TITLE", text, |contact| &mut contact.job_title),
            VCardProperty::Note => self.fill("NOTE", text, |contact| &mut contact.description),
            VCardProperty::Categories => {
                let tags = entry.values.iter().filter_map(VCardValue::as_text);
                self.contact.tags.extend(tags.map(str::to_owned));
            }
            VCardProperty::Lang | VCardProperty::Language => match LanguageTag::parse(&text) {
                Ok(language) => self.contact.preferences.language = language,
                Err(error) => self.leave(&name, &text, error.code()),
            },
            VCardProperty::Tz => match TimeZone::parse(&text) {
                Ok(zone) => self.contact.preferences.timezone = zone,
                Err(error) => self.leave(&name, &text, error.code()),
            },
            VCardProperty::Url => {
                // Many programs write profiles as web pages.
                let network = HttpUrl::parse(&text).ok();
                match network.and_then(|url| SocialNetwork::of_url(&url)) {
                    Some(network) => self.take_profile(&name, network, &text),
                    None => self.leave(&name, &text, NO_PLACE),
                }
            }
            VCardProperty::Socialprofile => self.take_social(&name, &entry, &text),
            VCardProperty::Other(_) if name == "X-SOCIALPROFILE" => {
                self.take_social(&name, &entry, &text);
            }
            _ => self.leave(&name, &text, NO_PLACE),
        }
    }

    fn take_social(&mut self, name: &str, entry: &VCardEntry, text: &str) {
        let stated = entry
            .parameters(&VCardParameterName::ServiceType)
            .chain(entry.parameters(&VCardParameterName::Type))
            .filter_map(VCardParameterValue::as_text)
            .find_map(|service| SocialNetwork::parse(service).ok());
        let by_host = || SocialNetwork::of_url(&HttpUrl::parse(text).ok()?);
        match stated.or_else(by_host) {
            Some(network) => self.take_profile(name, network, text),
            None => self.leave(name, text, NO_PLACE),
        }
    }

    fn take_profile(&mut self, name: &str, network: SocialNetwork, text: &str) {
        if self.contact.social_profiles.get(&network).is_some() {
            return self.leave(name, text, NO_PLACE);
        }
        // Apple writes the handle as an address of its own.
        let text = text.strip_prefix("x-apple:").unwrap_or(text);
        if let Err(error) = self.contact.social_profiles.set(network, text) {
            self.leave(name, text, error.code());
        }
    }

    fn take_phone(&mut self, entry: &VCardEntry, text: String) {
        if has_type(entry, &VCardType::Fax) || has_type(entry, &VCardType::Pager) {
            return self.leave("TEL", &text, NO_PLACE);
        }
        // Version 4.0 may write `tel:` and parameters.
        let number = text.strip_prefix("tel:").unwrap_or(&text);
        let number = number.split(';').next().unwrap_or_default();
        let is_mobile = has_type(entry, &VCardType::Cell);
        self.phones
            .push((preference(entry), is_mobile, number.to_owned()));
    }

    fn take_address(&mut self, entry: &VCardEntry) {
        let part = |index| component(&entry.values, index);
        let lines: Vec<String> = (0..3).filter_map(part).collect();
        let code = entry
            .parameters(&VCardParameterName::Cc)
            .find_map(VCardParameterValue::as_text);
        let named = part(6);
        let country = code
            .and_then(|code| Country::parse(code).ok())
            .or_else(|| country(named.as_deref()?));
        let address = Address {
            street: Some(lines.join("\n")).filter(|street| !street.is_empty()),
            city: part(3),
            region: part(4),
            postal_code: part(5),
            country,
        };
        if address == Address::default() && named.is_none() {
            return;
        }
        if self.contact.mailing_address.is_some() {
            return self.leave("ADR", &address.lines().join(", "), NO_PLACE);
        }
        if let (None, Some(named)) = (country, &named) {
            self.leave("ADR", named, "invalid_country");
        }
        self.contact.mailing_address = Some(address);
    }

    fn finish(mut self) -> Result<CardContact, CardError> {
        if self.contact.name.parts() == 0
            && let Some(shown) = self.shown.take()
        {
            self.contact.name = PersonName::split(&shown);
        }
        self.choose_email();
        self.choose_phones();
        self.fit();
        let contact = &self.contact;
        let is_empty =
            contact.name.parts() == 0 && contact.email.is_none() && contact.company.is_none();
        if is_empty {
            return Err(CardError::Empty);
        }
        Ok(CardContact {
            uid: self.uid,
            contact: self.contact,
            not_taken: self.not_taken,
        })
    }

    /// The e-mail address that is preferred, or else the first that is one.
    fn choose_email(&mut self) {
        let mut emails = std::mem::take(&mut self.emails);
        emails.sort_by_key(|(preference, _)| *preference);
        for (_, text) in emails {
            match EmailAddress::parse(text.strip_prefix("mailto:").unwrap_or(&text)) {
                Ok(email) if self.contact.email.is_none() => self.contact.email = Some(email),
                Ok(_) => self.leave("EMAIL", &text, NO_PLACE),
                Err(error) => self.leave("EMAIL", &text, error.code()),
            }
        }
    }

    /// The preferred number of each kind.
    fn choose_phones(&mut self) {
        let mut phones = std::mem::take(&mut self.phones);
        phones.sort_by_key(|(preference, ..)| *preference);
        let address = self.contact.mailing_address.as_ref();
        let country = address.and_then(|address| address.country);
        for (_, is_mobile, text) in phones {
            let read = match country {
                Some(country) => PhoneNumber::parse_in(&text, country),
                None => PhoneNumber::parse(&text),
            };
            let slot = match is_mobile {
                true => &mut self.contact.mobile,
                false => &mut self.contact.phone,
            };
            match read {
                Ok(phone) if slot.is_none() => *slot = Some(phone),
                Ok(_) => self.leave("TEL", &text, NO_PLACE),
                Err(error) => self.leave("TEL", &text, error.code()),
            }
        }
    }

    /// Puts every value into its stored form, and leaves out what a field cannot hold.
    fn fit(&mut self) {
        self.contact.normalize();
        let fields = Contact::schema().own_fields();
        let value = |index| FieldGroup::value(&self.contact, index);
        let faults: Vec<_> = fields
            .iter()
            .enumerate()
            .filter_map(|(index, field)| {
                Some((index, field.field_type.check(&value(index)).err()?))
            })
            .collect();
        if faults.is_empty() {
            return;
        }
        let mut values: Vec<_> = (0..fields.len())
            .map(|index| value(index).into_owned())
            .collect();
        for (index, fault) in faults {
            let (Some(field), Some(slot)) = (fields.get(index), values.get_mut(index)) else {
                continue;
            };
            let old = std::mem::replace(slot, field.default.clone());
            let text = old.as_ref().as_text().unwrap_or_default().to_owned();
            self.leave(&field.name, &text, fault.at(&field.name).code);
        }
        let mut reader = FieldReader::new(fields, values);
        if let Some(contact) = Contact::read(&mut reader) {
            self.contact = contact;
        }
    }
}

/// The contact has no place for it, or the place is taken.
const NO_PLACE: &str = "no_place";

/// All texts of a property.
fn joined(values: &[VCardValue]) -> String {
    let texts: Vec<&str> = values.iter().filter_map(VCardValue::as_text).collect();
    texts.join(", ").trim().to_owned()
}

/// One part of a name, address or organisation.
fn component(values: &[VCardValue], index: usize) -> Option<String> {
    let text = match values.get(index)? {
        VCardValue::Component(parts) => parts.join(", "),
        other => other.as_text()?.to_owned(),
    };
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// How much a property is preferred: the less, the more.
fn preference(entry: &VCardEntry) -> u32 {
    let stated = entry
        .parameters(&VCardParameterName::Pref)
        .find_map(|value| match value {
            VCardParameterValue::Integer(number) => Some(*number),
            VCardParameterValue::Null => Some(1),
            _ => None,
        });
    let types = entry.parameters(&VCardParameterName::Type);
    let is_preferred = types
        .filter_map(VCardParameterValue::as_text)
        .any(|name| name.eq_ignore_ascii_case("pref"));
    stated.unwrap_or(if is_preferred { 1 } else { u32::MAX })
}

fn has_type(entry: &VCardEntry, wanted: &VCardType) -> bool {
    let mut types = entry.parameters(&VCardParameterName::Type);
    types.any(|value| matches!(value.as_type(), Some(IanaType::Iana(known)) if known == wanted))
}

/// The country with this code or English name.
fn country(text: &str) -> Option<Country> {
    let named = || Country::all().find(|country| country.name().eq_ignore_ascii_case(text));
    Country::parse(text).ok().or_else(named)
}

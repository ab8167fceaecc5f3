//! What cards would do to the contacts of a tenant.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crm_core::contacts::Contact;
use crm_core::error::Result;
use crm_core::query::Find;
use crm_core::value::{EmailAddress, PhoneNumber, SocialProfiles};
use crm_core::{Id, Record, Session};

use super::CardContact;

/// How many contacts are looked up at once.
const AT_ONCE: usize = 1_000;

/// A card and what it would do.
#[derive(Clone, Debug)]
pub struct PlannedCard {
    /// The card.
    pub card: CardContact,
    /// What it would do.
    pub action: CardAction,
}

/// What a card would do.
#[derive(Clone, Debug)]
pub enum CardAction {
    /// Become this contact.
    Create(Box<Contact>),
    /// Change this contact, found by UID or e-mail address: what the card tells takes the place of
    /// what was there, all else stays.
    Update {
        /// The contact as it is.
        record: Arc<Record<Contact>>,
        /// The contact as it would be.
        contact: Box<Contact>,
    },
    /// Nothing: an earlier card is of the same contact.
    Repeated,
}

/// Says which cards become new contacts and which change one, by UID and then by e-mail address.
/// Nothing is written: the caller creates and updates, and may ask somebody before. Two round trips
/// for each thousand cards.
///
/// ```
/// # use crm_core::{Session, error::Result};
/// use crm_exchange::card::{CardAction, parse_vcards, plan};
/// # async fn example(session: &Session, text: &str) -> Result<()> {
/// let cards = parse_vcards(text).into_iter().filter_map(|card| card.ok()).collect();
/// for planned in plan(session, cards).await? {
///     match planned.action {
///         CardAction::Create(contact) => {
///             session.contacts().create(*contact).await?;
///         }
///         CardAction::Update { record, contact } => {
///             session.contacts().update_record(&record, |old| *old = (*contact).clone()).await?;
///         }
///         CardAction::Repeated => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of the storage.
pub async fn plan(session: &Session, cards: Vec<CardContact>) -> Result<Vec<PlannedCard>> {
    let mut planned = Vec::with_capacity(cards.len());
    let mut seen = Seen::default();
    let mut cards = cards.into_iter().peekable();
    while cards.peek().is_some() {
        let some: Vec<CardContact> = cards.by_ref().take(AT_ONCE).collect();
        let known = Known::of(session, &some).await?;
        for card in some {
            let record = known.find(&card);
            let action = match record {
                _ if seen.has(&card, record.map(|record| record.id)) => CardAction::Repeated,
                Some(record) => CardAction::Update {
                    record: record.clone(),
                    contact: Box::new(merged(&record.data, &card.contact)),
                },
                None => CardAction::Create(Box::new(card.contact.clone())),
            };
            planned.push(PlannedCard { card, action });
        }
    }
    Ok(planned)
}

/// The contacts that earlier cards are of.
#[derive(Default)]
struct Seen {
    records: HashSet<Id<Contact>>,
    uids: HashSet<String>,
    emails: HashSet<String>,
}

impl Seen {
    /// Whether an earlier card is of the same contact; remembers this one.
    fn has(&mut self, card: &CardContact, record: Option<Id<Contact>>) -> bool {
        let by_record = record.is_some_and(|id| !self.records.insert(id));
        let by_uid = card
            .uid
            .as_ref()
            .is_some_and(|uid| !self.uids.insert(uid.clone()));
        let email = card.contact.email.as_ref().map(folded);
        let by_email = email.is_some_and(|email| !self.emails.insert(email));
        by_record || by_uid || by_email
    }
}

/// The contacts that cards may be of.
struct Known {
    by_id: HashMap<Id<Contact>, Arc<Record<Contact>>>,
    by_email: HashMap<String, Arc<Record<Contact>>>,
}

impl Known {
    async fn of(session: &Session, cards: &[CardContact]) -> Result<Self> {
        let ids: Vec<_> = cards.iter().filter_map(CardContact::id).collect();
        let records = session.contacts().get_all(&ids).await?;
        let emails: Vec<EmailAddress> = cards
            .iter()
            .filter_map(|card| card.contact.email.clone())
            .collect();
        let found = if emails.is_empty() {
            Vec::new()
        } else {
            let find = Find::from(Contact::EMAIL.one_of(emails));
            session
                .contacts()
                .find(find.with_archived().limit(AT_ONCE))
                .await?
                .items
        };
        let email = |record: Arc<Record<Contact>>| Some((folded(record.email.as_ref()?), record));
        Ok(Self {
            by_id: records
                .into_iter()
                .map(|record| (record.id, record))
                .collect(),
            by_email: found.into_iter().filter_map(email).collect(),
        })
    }

    fn find(&self, card: &CardContact) -> Option<&Arc<Record<Contact>>> {
        let by_email = || self.by_email.get(&folded(card.contact.email.as_ref()?));
        card.id()
            .and_then(|id| self.by_id.get(&id))
            .or_else(by_email)
    }
}

/// Addresses that differ in letter case only are of one contact (R-021).
fn folded(email: &EmailAddress) -> String {
    crm_core::query::fold_case(email.as_ref())
}

/// The contact with what the card tells.
fn merged(old: &Contact, card: &Contact) -> Contact {
    fn take<T: Clone>(slot: &mut Option<T>, told: &Option<T>) {
        if told.is_some() {
            slot.clone_from(told);
        }
    }
    let mut contact = old.clone();
    take(&mut contact.name.first_name, &card.name.first_name);
    take(&mut contact.name.last_name, &card.name.last_name);
    take(&mut contact.email, &card.email);
    for (slot, told) in [
        (&mut contact.phone, &card.phone),
        (&mut contact.mobile, &card.mobile),
    ] {
        // The same number in another notation is no news.
        let number = |number: &Option<PhoneNumber>| {
            let number = number.as_ref()?;
            number.e164().map(ToOwned::to_owned)
        };
        if number(told).is_none() || number(told) != number(slot) {
            take(slot, told);
        }
    }
    take(&mut contact.company, &card.company);
    take(&mut contact.department, &card.department);
    take(&mut contact.job_title, &card.job_title);
    take(&mut contact.mailing_address, &card.mailing_address);
    take(&mut contact.description, &card.description);
    let profiles: &SocialProfiles = &card.social_profiles;
    for (network, profile) in profiles.iter() {
        // It was read from the same text.
        let _ = contact
            .social_profiles
            .set(network.clone(), profile.as_str());
    }
    let new = card.tags.iter().filter(|tag| !old.tags.contains(tag));
    contact.tags.extend(new.cloned());
    let unsaid = Contact::default().preferences;
    if card.preferences.language != unsaid.language {
        contact.preferences.language = card.preferences.language.clone();
    }
    if card.preferences.timezone != unsaid.timezone {
        contact.preferences.timezone = card.preferences.timezone;
    }
    contact
}

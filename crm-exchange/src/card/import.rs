//! [`import`]: cards are written as contacts.

use std::sync::Arc;

use crm_core::contacts::Contact;
use crm_core::error::{Error, Result};
use crm_core::identity::User;
use crm_core::imports::DuplicateHandling;
use crm_core::schema::{Meta, Row};
use crm_core::{Id, Record, Session, Stamp};

use super::{CardAction, CardContact, CardError, NotTaken, parse_vcards, plan};

/// How many cards are planned, checked and written together.
const AT_ONCE: usize = 200;

/// How often cards are written again after somebody else changed one of the contacts meanwhile.
const ATTEMPTS: u32 = 8;

/// How cards are imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CardImport {
    /// What is done with a card that would become a new contact and is like a stored one by the
    /// tenant's duplicate rules.
    pub duplicates: DuplicateHandling,
    /// Who owns new contacts.
    pub owner: Option<Id<User>>,
}

/// What an import of cards did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardReport {
    /// How many contacts are new.
    pub created: u64,
    /// How many were changed.
    pub updated: u64,
    /// How many were as the card says already, or have an earlier card in the text.
    pub unchanged: u64,
    /// How many cards were left out because they are like a stored contact.
    pub skipped: u64,
    /// Cards of which nothing was taken.
    pub refused: Vec<RefusedCard>,
    /// What the contacts have no place for, each with the place of its card in the text, from 0.
    pub not_taken: Vec<(usize, NotTaken)>,
}

/// A card of which nothing was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedCard {
    /// Its place in the text, from 0.
    pub place: usize,
    /// Why.
    pub reason: Refusal,
}

/// Why nothing was taken of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It could not be read.
    Unreadable(CardError),
    /// It is like this contact by a duplicate rule of the tenant.
    Duplicate(Id<Contact>),
    /// The engine refused it: the code of the error and of each faulty field.
    Refused(Vec<String>),
}

/// Reads the cards of a text and writes them: each changes the contact that it names by its UID or
/// has the e-mail address of, or becomes a new one. What a card does not tell stays as it is, so the
/// same text may be imported again and again.
///
/// Before a contact is created it is checked by the tenant's duplicate rules. A card that is refused
/// does not keep the others from landing; a few hundred cards are a commit.
///
/// ```
/// # use crm_core::{Session, error::Result};
/// use crm_exchange::card::{CardImport, import};
/// # async fn example(session: &Session, text: &str) -> Result<()> {
/// let report = import(session, text, &CardImport::default()).await?;
/// println!("{} new, {} like known ones", report.created, report.skipped);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of the storage; what is wrong with a card is in the report.
pub async fn import(session: &Session, text: &str, options: &CardImport) -> Result<CardReport> {
    let mut report = CardReport::default();
    let mut cards = Vec::new();
    for (place, card) in parse_vcards(text).into_iter().enumerate() {
        match card {
            Ok(mut card) => {
                let left = std::mem::take(&mut card.not_taken).into_iter();
                report.not_taken.extend(left.map(|left| (place, left)));
                cards.push((place, card));
            }
            Err(error) => report.refused.push(RefusedCard {
                place,
                reason: Refusal::Unreadable(error),
            }),
        }
    }
    // Cards of one contact in different batches find what the earlier one wrote.
    for some in cards.chunks(AT_ONCE) {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match write(session, some, options).await {
                Ok(Done { counts, landed }) => {
                    report.add(counts);
                    if landed {
                        break;
                    }
                    // One of them is refused only when all are looked at together: each on its own.
                    for one in some {
                        let alone = alone(session, one, options).await?;
                        report.add(alone);
                    }
                    break;
                }
                Err(Error::Conflict { .. }) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
    }
    report.refused.sort_unstable_by_key(|refused| refused.place);
    Ok(report)
}

impl CardReport {
    fn add(&mut self, other: Self) {
        self.created += other.created;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.skipped += other.skipped;
        self.refused.extend(other.refused);
    }
}

/// What became of some cards.
struct Done {
    counts: CardReport,
    /// Whether the commit was accepted; nothing is written and counted otherwise.
    landed: bool,
}

async fn alone(
    session: &Session,
    card: &(usize, CardContact),
    options: &CardImport,
) -> Result<CardReport> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match write(session, std::slice::from_ref(card), options).await {
            Ok(done) => return Ok(done.counts),
            Err(Error::Conflict { .. }) if attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}

/// Plans some cards and writes them in one commit.
async fn write(
    session: &Session,
    cards: &[(usize, CardContact)],
    options: &CardImport,
) -> Result<Done> {
    let contacts = cards.iter().map(|(_, card)| card.clone()).collect();
    let mut planned = plan(session, contacts).await?;
    let mut counts = CardReport::default();
    let mut doubles = Vec::new();
    let mut rows: Vec<Row> = Vec::new();
    for planned in &mut planned {
        if let CardAction::Create(contact) = &mut planned.action {
            contact.owner_id = contact.owner_id.or(options.owner);
            rows.push(Arc::new(nobody(session, (**contact).clone())));
        }
    }
    if options.duplicates != DuplicateHandling::Keep && !rows.is_empty() {
        let found = session.duplicates().check_rows(&rows).await?;
        doubles = found
            .into_iter()
            .map(|matches| matches.first().map(|found| Id::new(found.record.id)))
            .collect();
    }
    let mut doubles = doubles.into_iter();
    let mut work = session.begin();
    for (planned, (place, _)) in planned.into_iter().zip(cards) {
        let savepoint = work.savepoint();
        let outcome = match planned.action {
            CardAction::Repeated => Ok(Landed::Unchanged),
            CardAction::Update { record, contact } => {
                let change = |old: &mut Contact| old.clone_from(&contact);
                let updated = work.contacts().update_record(&record, change).await;
                updated.map(|updated| {
                    if updated.version == record.version {
                        Landed::Unchanged
                    } else {
                        Landed::Updated
                    }
                })
            }
            CardAction::Create(contact) => match doubles.next().flatten() {
                Some(known) => Ok(Landed::Double(known)),
                None => {
                    let created = work.contacts().create(*contact).await;
                    created.map(|_| Landed::Created)
                }
            },
        };
        match outcome {
            Ok(landed) => {
                work.release(savepoint);
                counts.count(*place, landed, options);
            }
            Err(error @ (Error::Storage(_) | Error::Conflict { .. })) => return Err(error),
            Err(error) => {
                work.roll_back(savepoint);
                counts.refuse(*place, &error);
            }
        }
    }
    if work.staged().is_empty() {
        return Ok(Done {
            counts,
            landed: true,
        });
    }
    match work.commit().await {
        Ok(_) => Ok(Done {
            counts,
            landed: true,
        }),
        Err(error @ (Error::Storage(_) | Error::Conflict { .. })) => Err(error),
        Err(error) => {
            let mut counts = CardReport::default();
            if let [(place, _)] = cards {
                counts.refuse(*place, &error);
            }
            Ok(Done {
                counts,
                landed: false,
            })
        }
    }
}

/// What became of a card.
enum Landed {
    Created,
    Updated,
    Unchanged,
    Double(Id<Contact>),
}

impl CardReport {
    fn count(&mut self, place: usize, landed: Landed, options: &CardImport) {
        match landed {
            Landed::Created => self.created += 1,
            Landed::Updated => self.updated += 1,
            Landed::Unchanged => self.unchanged += 1,
            Landed::Double(known) if options.duplicates == DuplicateHandling::Refuse => {
                let reason = Refusal::Duplicate(known);
                self.refused.push(RefusedCard { place, reason });
            }
            Landed::Double(_) => self.skipped += 1,
        }
    }

    fn refuse(&mut self, place: usize, error: &Error) {
        let faults = error.field_errors().iter();
        let faults = faults.map(|fault| format!("{}:{}", fault.path, fault.code));
        let codes = std::iter::once(error.code().to_owned()).chain(faults);
        let reason = Refusal::Refused(codes.collect());
        self.refused.push(RefusedCard { place, reason });
    }
}

/// A contact as it would be stored, for the duplicate check.
fn nobody(session: &Session, contact: Contact) -> Record<Contact> {
    let engine = session.engine();
    let at = engine.clock().now();
    let by = session.actor();
    let meta = Meta::first(engine.ids().next(at), Stamp { at, by });
    Record::new(meta, contact)
}

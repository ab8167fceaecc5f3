//! What is held about a person, and where: one search by the schema for erasure and for access.
//!
//! ```text
//! subject ─► persons      the lead of a contact, the contact of a lead, what was merged with either
//!    persons ─► parts     what is deleted with one of them, and with these: consents, comments, ..
//!    persons ─► about     what refers to one of them: activities, deals, custom records, ..
//!       about ─► parts    what is deleted with these, unless it names somebody else
//!    addresses ─► parts   what has an e-mail address of the person: participants
//!              ─► about   records of objects that the tenant made up, unless they name somebody else
//!    all ids ─► traces    entries that keep an id without a reference: merges, rows of imports
//! ```
//!
//! Addresses are those of all fields of that type, the tenant's own included. Nothing here is a list of
//! tables: an object of the host, or one that a tenant defined, is found by
//! its references like the engine's own. [`held_about`] finds, [`erased`] says what becomes of what
//! was found; neither writes.

mod erased;
mod find;

use std::collections::BTreeSet;

use uuid::Uuid;

pub use erased::{Blank, Erased, PLACEHOLDER, covers, erased, is_address_of, quotes};
pub use find::{held_about, is_person, persons};

use crate::EntityRef;
use crate::query::{Condition, fold_case};
use crate::schema::ObjectRef;

/// What ties a record to a person, the closest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tie {
    /// The record is the person.
    Person,
    /// The record belongs to the person, or to what does: it would be deleted with it.
    Part,
    /// The record refers to the person, or belongs to one that does.
    About,
    /// The record keeps values of one of these, found by its id.
    Trace,
    /// A document in the record names the person.
    Quote,
    /// One of the record's fields holds an e-mail address of the person.
    Address,
}

impl Tie {
    /// The tie in a stable text form, such as `about`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Part => "part",
            Self::About => "about",
            Self::Trace => "trace",
            Self::Quote => "quote",
            Self::Address => "address",
        }
    }

    /// Why the record is held to be about the person, in a sentence for that person.
    #[must_use]
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::Person => "It is the record of the person.",
            Self::Part => "It belongs to the record of the person.",
            Self::About => "It refers to the person.",
            Self::Trace => "It keeps former values of a record about the person.",
            Self::Quote => "It names the person.",
            Self::Address => "It holds an e-mail address of the person.",
        }
    }
}

/// A record that holds something about a person.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Held {
    /// The object, with the fields that the tenant added.
    pub object: ObjectRef,
    /// The record.
    pub id: Uuid,
    /// What ties it to the person.
    pub tie: Tie,
    /// The field by which it was found, such as `contact_id`; none of the person's own record.
    pub by: Option<String>,
}

impl Held {
    /// The record's name and id.
    #[must_use]
    pub fn record(&self) -> EntityRef {
        EntityRef::new(self.object.name(), self.id)
    }
}

/// Everything that is held about one person.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct HeldAbout {
    /// The records that are the person, the subject first.
    pub persons: Vec<EntityRef>,
    /// The person's e-mail addresses, in lower case.
    pub addresses: BTreeSet<String>,
    /// Every record, by its tie, object and id, those of the person first.
    pub records: Vec<Held>,
    /// Contacts and leads with the same e-mail address that nobody merged with the person: for a
    /// human to decide.
    pub perhaps: Vec<EntityRef>,
}

/// What is known of a person besides what stored references tell: from the audit trail.
#[derive(Clone, Debug, Default)]
pub struct Clues {
    /// E-mail addresses that the person had before.
    pub addresses: BTreeSet<String>,
    /// Records that referred to the person until it was deleted.
    pub about: Vec<EntityRef>,
    /// Fields besides those for e-mail addresses that may hold one.
    pub places: Vec<AddressPlace>,
    /// Objects that are not looked into.
    pub except: Vec<String>,
}

/// A field that may hold an e-mail address among other texts, such as the name that somebody tried to
/// sign in with. What holds one of the person's is about the person.
#[derive(Clone, Debug)]
pub struct AddressPlace {
    /// The object.
    pub object: ObjectRef,
    /// The field, by its place; case counts.
    pub field: usize,
    /// Which of its rows.
    pub among: Condition,
}

impl Clues {
    /// Adds an e-mail address.
    pub fn add_address(&mut self, address: &str) {
        self.addresses.insert(fold_case(address));
    }
}

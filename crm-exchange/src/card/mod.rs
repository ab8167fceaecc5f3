//! Address cards: contacts as vCard, the format of address books and telephones.
//!
//! ```text
//!  Record<Contact> --to_vcard--> text          RFC 6350 (4.0), or RFC 2426 (3.0)
//!  text --parse_vcards--> [CardContact]        4.0, 3.0 and 2.1, each card on its own
//!  [CardContact] --plan--> [PlannedCard]       which become new contacts, which change one
//!  text --import--> contacts                   read, planned and written, as often as one likes
//! ```
//!
//! A card names a contact by its `UID`, which is the record's id as `urn:uuid:`. What a contact has
//! no place for, such as a second e-mail address, is listed beside the contact, never dropped in
//! silence. Cards come from strangers: whatever the text, reading it ends with a contact or an error.

mod import;
mod plan;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use import::{CardImport, CardReport, Refusal, RefusedCard, import};
pub use plan::{CardAction, PlannedCard, plan};
pub use read::{CardContact, CardError, NotTaken, parse_vcards};
pub use write::{CardOptions, CardVersion, to_vcard};

/// How the UID of a contact begins.
const URN: &str = "urn:uuid:";

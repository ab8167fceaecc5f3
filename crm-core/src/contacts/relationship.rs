//! Relationships between contacts (C-005): who reports to whom, who is whose colleague.
//!
//! Each relationship is stored once, in one direction that follows from its kind: "b manages a" is
//! stored as "a reports to b". A unique key over that form refuses the same relationship told from
//! the other end (R-025, R-300), and every reader sees it from the end that they asked from.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::Contact;
use crate::Id;
use crate::engine::{Records, UnitOfWork, Workspace, Write, WriteRule, in_work};
use crate::error::{Error, Faults, Result, RuleViolation, codes};
use crate::query::{Condition, FieldAt, Filter, Find, Page, Query, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, Picklist, Value, system};

/// The most levels of managers above a contact.
const MAX_LEVELS: usize = 100;

/// A relationship between two contacts: the first is to the second what the type says.
///
/// The engine turns it into the one form in which it is stored: `manages` becomes `reports_to` and
/// `vendor` becomes `customer`, with the contacts exchanged; among colleagues and partners, the one
/// that was created first stands first.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "contact_relationship",
    table = "contact_relationships",
    unique(contact_id, related_contact_id, relationship_type; live),
    index(related_contact_id, relationship_type),
    check = check_relationship
)]
pub struct ContactRelationship {
    /// The contact.
    #[field(required, references = "contact", on_delete = "cascade")]
    pub contact_id: Id<Contact>,
    /// The contact that it relates to; another one (R-094).
    #[field(required, references = "contact", on_delete = "cascade")]
    pub related_contact_id: Id<Contact>,
    /// What the first contact is to the second (R-095).
    #[field(required)]
    pub relationship_type: RelationshipType,
    /// More about it.
    #[field(multiline, personal)]
    pub description: Option<String>,
    /// Whether it reads the same from both ends, which follows from the type.
    #[field(read_only)]
    pub is_mutual: bool,
}

/// What one contact is to another (R-095).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum RelationshipType {
    /// Is led by the other.
    ReportsTo,
    /// Leads the other.
    Manages,
    /// Works with the other.
    Colleague,
    /// Does business together with the other.
    Partner,
    /// Sells to the other.
    Vendor,
    /// Buys from the other.
    Customer,
}

impl RelationshipType {
    /// The same relationship as the other contact sees it.
    ///
    /// ```
    /// use crm_core::contacts::RelationshipType;
    ///
    /// assert_eq!(RelationshipType::ReportsTo.inverse(), RelationshipType::Manages);
    /// assert_eq!(RelationshipType::Colleague.inverse(), RelationshipType::Colleague);
    /// ```
    #[must_use]
    pub const fn inverse(self) -> Self {
        match self {
            Self::ReportsTo => Self::Manages,
            Self::Manages => Self::ReportsTo,
            Self::Vendor => Self::Customer,
            Self::Customer => Self::Vendor,
            Self::Colleague => Self::Colleague,
            Self::Partner => Self::Partner,
        }
    }

    /// Whether it reads the same from both ends.
    #[must_use]
    pub const fn is_mutual(self) -> bool {
        matches!(self, Self::Colleague | Self::Partner)
    }
}

/// A relationship as one of its contacts sees it.
#[derive(Clone, Debug)]
pub struct Relation {
    /// What the contact that was asked for is to the other.
    pub kind: RelationshipType,
    /// The other contact.
    pub contact: Arc<Record<Contact>>,
    /// The relationship as it is stored.
    pub relationship: Arc<Record<ContactRelationship>>,
}

impl ContactRelationship {
    /// R-025, R-300: the one form of the relationship, whichever end it is told from.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        let exchanged = match self.relationship_type {
            RelationshipType::Manages | RelationshipType::Vendor => true,
            kind => kind.is_mutual() && self.related_contact_id < self.contact_id,
        };
        if exchanged {
            std::mem::swap(&mut self.contact_id, &mut self.related_contact_id);
            self.relationship_type = self.relationship_type.inverse();
        }
        self.is_mutual = self.relationship_type.is_mutual();
        self
    }

    /// What `contact` is to the other contact, and who that is; `None` if it has no part in it.
    ///
    /// ```
    /// use crm_core::{Id, contacts::{ContactRelationship, RelationshipType}};
    /// use uuid::Uuid;
    ///
    /// let (ada, bob) = (Id::new(Uuid::from_u128(1)), Id::new(Uuid::from_u128(2)));
    /// let leads = ContactRelationship::new(ada, bob, RelationshipType::Manages).canonical();
    /// assert_eq!(leads.seen_from(ada), Some((RelationshipType::Manages, bob)));
    /// assert_eq!(leads.seen_from(bob), Some((RelationshipType::ReportsTo, ada)));
    /// ```
    #[must_use]
    pub fn seen_from(&self, contact: Id<Contact>) -> Option<(RelationshipType, Id<Contact>)> {
        if contact == self.contact_id {
            Some((self.relationship_type, self.related_contact_id))
        } else if contact == self.related_contact_id {
            Some((self.relationship_type.inverse(), self.contact_id))
        } else {
            None
        }
    }
}

fn check_relationship(relationship: &ContactRelationship, faults: &mut Faults) {
    if relationship.contact_id == relationship.related_contact_id {
        faults.add(
            "related_contact_id",
            codes::INCONSISTENT,
            "must be another contact",
        );
    }
}

impl Records<'_, Contact> {
    /// Says what one contact is to another.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, contacts::{Contact, RelationshipType}};
    /// # use crm_core::query::Find;
    /// # async fn example(session: &Session, ada: Id<Contact>, bob: Id<Contact>) -> Result<()> {
    /// session.contacts().relate(ada, bob, RelationshipType::ReportsTo).await?;
    /// let of_bob = session.contacts().relationships(bob, Find::new()).await?;
    /// assert_eq!(of_bob.items[0].kind, RelationshipType::Manages);
    /// assert_eq!(of_bob.items[0].contact.id, ada);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Duplicate`] if it is known, also from the other end (R-025, R-300);
    /// [`Error::Validation`] if it is the same contact (R-094) or one does not exist;
    /// [`Error::Rule`] `cycle` if a contact would be its own manager's manager (R-086).
    pub async fn relate(
        &mut self,
        contact: Id<Contact>,
        related: Id<Contact>,
        kind: RelationshipType,
    ) -> Result<Arc<Record<ContactRelationship>>> {
        in_work!(self.workspace, |work| {
            work.create(ContactRelationship::new(contact, related, kind))
                .await
        })
    }

    /// Takes back what [`relate`](Self::relate) said, told from either end.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such relationship.
    pub async fn unrelate(
        &mut self,
        contact: Id<Contact>,
        related: Id<Contact>,
        kind: RelationshipType,
    ) -> Result<()> {
        in_work!(self.workspace, |work| {
            let told = ContactRelationship::new(contact, related, kind).canonical();
            let wanted = ContactRelationship::CONTACT_ID
                .eq(told.contact_id)
                .and(ContactRelationship::RELATED_CONTACT_ID.eq(told.related_contact_id))
                .and(ContactRelationship::RELATIONSHIP_TYPE.eq(told.relationship_type));
            let found = work.find_all(wanted, Vec::new()).await?.pop();
            let found = found.ok_or_else(|| Error::NotFound {
                object: ContactRelationship::schema().name().to_owned(),
                id: contact.uuid(),
            })?;
            work.delete(ContactRelationship::schema(), found.id.uuid())
                .await
        })
    }

    /// One page of a contact's relationships, each as the contact sees it, archived contacts
    /// included. `find` may filter and sort them by their own fields. Two round trips.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn relationships(
        &self,
        contact: Id<Contact>,
        find: impl Into<Find<ContactRelationship>>,
    ) -> Result<Page<Relation>> {
        let either = ContactRelationship::CONTACT_ID
            .eq(contact)
            .or(ContactRelationship::RELATED_CONTACT_ID.eq(contact));
        relations(&self.workspace, contact, find.into().filter(either)).await
    }

    /// One page of the contacts that report to a contact. Two round trips.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn direct_reports(
        &self,
        contact: Id<Contact>,
        find: impl Into<Find<ContactRelationship>>,
    ) -> Result<Page<Relation>> {
        let below = ContactRelationship::RELATED_CONTACT_ID
            .eq(contact)
            .and(ContactRelationship::RELATIONSHIP_TYPE.eq(RelationshipType::ReportsTo));
        relations(&self.workspace, contact, find.into().filter(below)).await
    }

    /// The managers above a contact by level, the nearest first: a contact may report to several.
    /// Whoever stands on two levels is on the nearer one. Two round trips for each level.
    ///
    /// # Errors
    /// [`Error::Rule`] `too_deep` above 100 levels.
    pub async fn managers(&self, contact: Id<Contact>) -> Result<Vec<Vec<Arc<Record<Contact>>>>> {
        let mut known = HashSet::from([contact]);
        let mut levels = Vec::new();
        let mut level = managers_of(&self.workspace, &[contact]).await?;
        loop {
            level.retain(|manager| known.insert(*manager));
            if level.is_empty() {
                return Ok(levels);
            }
            if levels.len() == MAX_LEVELS {
                return Err(too_deep());
            }
            levels.push(contacts_of(&self.workspace, &level).await?);
            level = managers_of(&self.workspace, &level).await?;
        }
    }
}

/// One page of relationships with the other contacts.
async fn relations(
    workspace: &Workspace<'_>,
    contact: Id<Contact>,
    find: Find<ContactRelationship>,
) -> Result<Page<Relation>> {
    let page = workspace.find(find).await?;
    let seen: Vec<_> = page
        .items
        .iter()
        .map(|relationship| relationship.seen_from(contact))
        .collect();
    let others: Vec<_> = seen.iter().flatten().map(|(_, other)| *other).collect();
    let contacts = contacts_of(workspace, &others).await?;
    let items = page
        .items
        .into_iter()
        .zip(seen)
        .filter_map(|(relationship, seen)| {
            let (kind, other) = seen?;
            let contact = contacts.iter().find(|contact| contact.id == other)?.clone();
            Some(Relation {
                kind,
                contact,
                relationship,
            })
        })
        .collect();
    Ok(Page {
        items,
        next: page.next,
        previous: page.previous,
    })
}

/// The live contacts with these ids, in one round trip.
pub(super) async fn contacts_of(
    workspace: &Workspace<'_>,
    ids: &[Id<Contact>],
) -> Result<Vec<Arc<Record<Contact>>>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let one_of = Condition::In {
        field: FieldAt::new(system::ID),
        values: ids.iter().map(|id| Value::Uuid(id.uuid())).collect(),
    };
    let query = Query::new(Contact::schema(), one_of.and(Condition::not_deleted()));
    let rows = workspace.select(&query).await?;
    let contacts: Vec<_> = rows.into_iter().filter_map(Record::from_row).collect();
    workspace.hand_out(&contacts).await?;
    Ok(contacts)
}

/// Whom any of these contacts reports to, in one round trip.
async fn managers_of(
    workspace: &Workspace<'_>,
    contacts: &[Id<Contact>],
) -> Result<Vec<Id<Contact>>> {
    let mut managers = Vec::new();
    for some in contacts.chunks(Filter::MAX_VALUES) {
        let above = ContactRelationship::RELATIONSHIP_TYPE
            .eq(RelationshipType::ReportsTo)
            .and(ContactRelationship::CONTACT_ID.one_of(some.iter().copied()));
        let found = workspace.find_all(above).await?;
        managers.extend(found.iter().map(|found| found.related_contact_id));
    }
    Ok(managers)
}

fn too_deep() -> Error {
    RuleViolation::new(
        "too_deep",
        "R-086",
        format!("a contact has at most {MAX_LEVELS} levels of managers"),
    )
    .into()
}

/// Puts relationships into their one form, and refuses cycles of managers.
#[derive(Debug)]
pub(crate) struct RelationshipRules;

#[async_trait]
impl WriteRule for RelationshipRules {
    fn object(&self) -> &'static str {
        "contact_relationship"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        if write.deletes() {
            return Ok(());
        }
        write.edit::<ContactRelationship>(|relationship| {
            *relationship = relationship.clone().canonical();
        });
        let Some(after) = write.after::<ContactRelationship>() else {
            return Ok(());
        };
        let is_same = write.before::<ContactRelationship>().is_some_and(|before| {
            let key = |one: &ContactRelationship| {
                (
                    one.contact_id,
                    one.related_contact_id,
                    one.relationship_type,
                )
            };
            before.deleted_at.is_none() && key(before) == key(after)
        });
        if is_same || after.relationship_type != RelationshipType::ReportsTo {
            return Ok(());
        }
        let (contact, manager) = (after.contact_id, after.related_contact_id);
        if contact == manager {
            // Told by the check of the record.
            return Ok(());
        }
        ensure_no_cycle(work, contact, manager).await
    }
}

/// R-086: going up from a new manager never comes to the contact.
///
/// Everybody on the way is relied on, and the contact gets a new version. Of two changes at the same
/// time that together would close a cycle, the second is therefore a conflict, runs again and sees it.
async fn ensure_no_cycle(
    work: &mut UnitOfWork,
    contact: Id<Contact>,
    manager: Id<Contact>,
) -> Result<()> {
    let mut known = HashSet::new();
    let mut level = vec![manager];
    for _ in 0..=MAX_LEVELS {
        level.retain(|manager| known.insert(*manager));
        if level.is_empty() {
            // One that is not there is told by the reference check.
            if let Some(contact) = work.lookup(contact).await? {
                work.touch_row(contact);
            }
            return Ok(());
        }
        if level.contains(&contact) {
            return Err(RuleViolation::new(
                "cycle",
                "R-086",
                "this contact would be above and below itself; choose another manager",
            )
            .into());
        }
        // Their versions first: who gets a manager after this is a conflict.
        let records = contacts_of(&Workspace::Unit(work), &level).await?;
        for record in records {
            work.rely_on(&*record);
        }
        level = managers_of(&Workspace::Unit(work), &level).await?;
    }
    Err(too_deep())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn kind() -> impl Strategy<Value = RelationshipType> {
        proptest::sample::select(vec![
            RelationshipType::ReportsTo,
            RelationshipType::Manages,
            RelationshipType::Colleague,
            RelationshipType::Partner,
            RelationshipType::Vendor,
            RelationshipType::Customer,
        ])
    }

    proptest! {
        /// R-025, R-300: told from either end, it is stored the same, and each end reads what was
        /// told from it.
        #[test]
        fn both_ends_tell_the_same(a in 1_u128..9, b in 1_u128..9, kind in kind()) {
            prop_assume!(a != b);
            let (a, b) = (Id::new(Uuid::from_u128(a)), Id::new(Uuid::from_u128(b)));
            let told = ContactRelationship::new(a, b, kind).canonical();
            let other = ContactRelationship::new(b, a, kind.inverse()).canonical();
            prop_assert!(told == other);
            prop_assert!(told.clone().canonical() == told);
            prop_assert_eq!(told.seen_from(a), Some((kind, b)));
            prop_assert_eq!(told.seen_from(b), Some((kind.inverse(), a)));
            prop_assert_eq!(kind.inverse().inverse(), kind);
        }
    }
}

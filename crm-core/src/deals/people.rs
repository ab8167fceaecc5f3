//! [`DealContact`]: who takes part in a deal on the customer's side, and as what.

use std::collections::HashMap;
use std::sync::Arc;

use super::Deal;
use super::main_one::OfDeal;
use crate::Id;
use crate::contacts::{BuyingRole, Contact};
use crate::engine::{Records, UnitOfWork, in_work};
use crate::error::{Error, Result};
use crate::query::{Find, Page, Where, WhereExt};
use crate::record::Record;
use crate::schema::Entity;

/// A contact who takes part in a deal; each at most once.
///
/// One of them may be the primary one: that with the deal's [`contact_id`](Deal::contact_id). The two
/// are kept in step when a commit is made, whichever of them changed: there is exactly one primary
/// contact exactly if the deal names one. Whoever is primary no more stays with the deal.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "deal_contact",
    table = "deal_contacts",
    unique(deal_id, contact_id; live),
    unique(deal_id; live, only_if(is_primary)),
    index(contact_id, role)
)]
pub struct DealContact {
    /// The deal.
    #[field(required, references = "deal", on_delete = "cascade")]
    pub deal_id: Id<Deal>,
    /// The contact.
    #[field(required, references = "contact", on_delete = "cascade")]
    pub contact_id: Id<Contact>,
    /// What part the contact has.
    #[field(indexed)]
    pub role: Option<BuyingRole>,
    /// Whether it is the one that the deal's `contact_id` names.
    pub is_primary: bool,
    /// Notes.
    #[field(multiline, personal)]
    pub notes: Option<String>,
}

/// A contact in a deal.
#[derive(Clone, Debug, PartialEq)]
pub struct DealPerson {
    /// The contact.
    pub contact: Arc<Record<Contact>>,
    /// What part the contact has.
    pub link: Arc<Record<DealContact>>,
}

/// The part that a contact has in a deal.
#[derive(Clone, Debug, PartialEq)]
pub struct DealPart {
    /// The deal.
    pub deal: Arc<Record<Deal>>,
    /// What part the contact has.
    pub link: Arc<Record<DealContact>>,
}

impl OfDeal for DealContact {
    type Key = Id<Contact>;

    const KEYS: [&'static [&'static str]; 2] = [&["deal_id", "contact_id"], &["deal_id"]];

    fn of_deals(deals: Vec<Id<Deal>>) -> Where<Self> {
        Self::DEAL_ID.one_of(deals)
    }

    fn deal(&self) -> Id<Deal> {
        self.deal_id
    }

    fn key(&self) -> Id<Contact> {
        self.contact_id
    }

    fn is_main(&self) -> bool {
        self.is_primary
    }

    fn set_main(&mut self, is_main: bool) {
        self.is_primary = is_main;
    }

    fn begin(deal: Id<Deal>, contact: &Id<Contact>) -> Self {
        Self {
            is_primary: true,
            ..Self::new(deal, *contact)
        }
    }

    fn named_by(deal: &Deal) -> Option<Id<Contact>> {
        deal.contact_id
    }

    fn name(deal: &mut Deal, contact: Option<Id<Contact>>) {
        deal.contact_id = contact;
    }
}

async fn find_link(
    work: &UnitOfWork,
    deal: Id<Deal>,
    contact: Id<Contact>,
) -> Result<Option<Arc<Record<DealContact>>>> {
    let both = DealContact::DEAL_ID
        .eq(deal)
        .and(DealContact::CONTACT_ID.eq(contact));
    Ok(work.find_all(both, Vec::new()).await?.pop())
}

async fn link(
    work: &UnitOfWork,
    deal: Id<Deal>,
    contact: Id<Contact>,
) -> Result<Arc<Record<DealContact>>> {
    let missing = || Error::NotFound {
        object: Contact::schema().name().to_owned(),
        id: contact.uuid(),
    };
    // A deal of another tenant is missing itself.
    work.get(deal).await?;
    find_link(work, deal, contact).await?.ok_or_else(missing)
}

impl Records<'_, Deal> {
    /// Adds a contact to a deal, as what. One who takes part already stays as he is, and gets the role
    /// if one is given.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, contacts::{BuyingRole, Contact}, deals::Deal};
    /// # async fn example(
    /// #     session: &Session, deal: Id<Deal>, ada: Id<Contact>, grace: Id<Contact>,
    /// # ) -> Result<()> {
    /// session.deals().add_contact(deal, ada, Some(BuyingRole::Champion)).await?;
    /// session.deals().add_contact(deal, grace, Some(BuyingRole::DecisionMaker)).await?;
    /// session.deals().set_primary_contact(deal, Some(grace)).await?;
    /// assert_eq!(session.deals().get(deal).await?.contact_id, Some(grace));
    /// assert_eq!(session.deals().contacts_of(deal).await?.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such deal; [`Error::Validation`] if there is no such contact.
    pub async fn add_contact(
        &mut self,
        deal: Id<Deal>,
        contact: Id<Contact>,
        role: Option<BuyingRole>,
    ) -> Result<Arc<Record<DealContact>>> {
        in_work!(self.workspace, |work| {
            work.get(deal).await?;
            for key in DealContact::KEYS {
                work.contend("deal_contact", key);
            }
            match find_link(work, deal, contact).await? {
                Some(known) if role.is_none() || known.role == role => Ok(known),
                Some(known) => {
                    let set = |link: &mut DealContact| link.role = role;
                    work.update(known.id, &set).await
                }
                None => {
                    let new = DealContact {
                        role,
                        ..DealContact::new(deal, contact)
                    };
                    work.create(new).await
                }
            }
        })
    }

    /// Takes a contact out of a deal. A deal that loses its primary contact names none.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the contact takes no part in the deal.
    pub async fn remove_contact(&mut self, deal: Id<Deal>, contact: Id<Contact>) -> Result<()> {
        in_work!(self.workspace, |work| {
            let link = link(work, deal, contact).await?;
            work.delete(DealContact::schema(), link.id.uuid()).await
        })
    }

    /// Gives a contact of a deal another part, or none in particular.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the contact takes no part in the deal.
    pub async fn set_contact_role(
        &mut self,
        deal: Id<Deal>,
        contact: Id<Contact>,
        role: Option<BuyingRole>,
    ) -> Result<Arc<Record<DealContact>>> {
        in_work!(self.workspace, |work| {
            let link = link(work, deal, contact).await?;
            let set = |link: &mut DealContact| link.role = role;
            work.update(link.id, &set).await
        })
    }

    /// Makes a contact the primary one of a deal, or none; one who took no part does so from now on.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such deal; [`Error::Validation`] if there is no such contact.
    pub async fn set_primary_contact(
        &mut self,
        deal: Id<Deal>,
        contact: Option<Id<Contact>>,
    ) -> Result<Arc<Record<Deal>>> {
        self.update(deal, |deal| deal.contact_id = contact).await
    }

    /// The people who take part in a deal: the primary one, then in the order in which they were
    /// added. Two round trips.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn contacts_of(&self, deal: Id<Deal>) -> Result<Vec<DealPerson>> {
        let mut links = self
            .workspace
            .find_all(DealContact::DEAL_ID.eq(deal))
            .await?;
        links.sort_by_key(|link| (!link.is_primary, link.id));
        let ids: Vec<_> = links.iter().map(|link| link.contact_id).collect();
        let contacts = records_of::<Contact>(self, &ids).await?;
        let person = |link: Arc<Record<DealContact>>| {
            let contact = contacts.get(&link.contact_id)?.clone();
            Some(DealPerson { contact, link })
        };
        Ok(links.into_iter().filter_map(person).collect())
    }

    /// One page of the deals in which a contact takes part. `find` may filter and sort by the fields of
    /// [`DealContact`], such as the role. Two round trips.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn deals_with(
        &self,
        contact: Id<Contact>,
        find: impl Into<Find<DealContact>>,
    ) -> Result<Page<DealPart>> {
        let of_contact = DealContact::CONTACT_ID.eq(contact);
        let page = self.workspace.find(find.into().filter(of_contact)).await?;
        let ids: Vec<_> = page.items.iter().map(|link| link.deal_id).collect();
        let deals = records_of::<Deal>(self, &ids).await?;
        let part = |link: Arc<Record<DealContact>>| {
            let deal = deals.get(&link.deal_id)?.clone();
            Some(DealPart { deal, link })
        };
        Ok(Page {
            items: page.items.into_iter().filter_map(part).collect(),
            next: page.next,
            previous: page.previous,
        })
    }
}

/// The live records with these ids.
async fn records_of<E: Entity>(
    deals: &Records<'_, Deal>,
    ids: &[Id<E>],
) -> Result<HashMap<Id<E>, Arc<Record<E>>>> {
    let mut found = HashMap::new();
    for some in ids.chunks(crate::query::Filter::MAX_VALUES) {
        let by_id = crate::schema::FieldOf::<E, Id<E>>::new("id").one_of(some.iter().copied());
        let records = deals.workspace.find_all(by_id).await?;
        found.extend(records.into_iter().map(|record| (record.id, record)));
    }
    Ok(found)
}

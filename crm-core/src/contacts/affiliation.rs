//! For which accounts a contact works or worked, as what, and who decides there.
//!
//! One of a contact's affiliations may be the primary one: that with the contact's
//! [`account_id`](Contact::account_id). The two are kept in step when a commit is made, whichever
//! of them changed; see [`step`](super::step).

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::Contact;
use super::relationship::contacts_of;
use crate::Id;
use crate::accounts::Account;
use crate::engine::{Records, in_work};
use crate::error::{Faults, FieldError, Result, codes};
use crate::query::{Find, Page, Where, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, Picklist};

/// A contact at an account, from one day to another.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "contact_affiliation",
    table = "contact_affiliations",
    unique(contact_id; live, only_if(is_primary)),
    index(contact_id, ended_on),
    index(account_id, ended_on),
    check = check_affiliation
)]
pub struct ContactAffiliation {
    /// The contact.
    #[field(required, references = "contact", on_delete = "cascade")]
    pub contact_id: Id<Contact>,
    /// The account. Deleted with it; the contact stays (R-024).
    #[field(required, references = "account", on_delete = "cascade")]
    pub account_id: Id<Account>,
    /// What the contact does there.
    #[field(max_len = 150, personal)]
    pub job_title: Option<String>,
    /// What part the contact has when the account buys.
    #[field(indexed)]
    pub buying_role: Option<BuyingRole>,
    /// The first day, where it is known.
    pub started_on: Option<NaiveDate>,
    /// The first day on which it is over; nothing while it goes on.
    pub ended_on: Option<NaiveDate>,
    /// Whether it is the one that the contact's `account_id` names. One that is over is not.
    pub is_primary: bool,
}

/// What part a contact has when an account buys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum BuyingRole {
    /// Decides.
    DecisionMaker,
    /// Has the money.
    EconomicBuyer,
    /// Wants it and speaks for it.
    Champion,
    /// Is listened to.
    Influencer,
    /// Judges whether it fits.
    Evaluator,
    /// Judges whether it fits technically, and may say no.
    TechnicalBuyer,
    /// Is against it.
    Blocker,
    /// Decides who gets to speak to whom.
    Gatekeeper,
    /// Will work with it.
    User,
    /// Has another part.
    Other,
}

/// A contact at an account.
#[derive(Clone, Debug)]
pub struct Person {
    /// The contact.
    pub contact: Arc<Record<Contact>>,
    /// What the contact is there.
    pub affiliation: Arc<Record<ContactAffiliation>>,
}

impl ContactAffiliation {
    /// Whether the contact is at the account on a day.
    ///
    /// ```
    /// use crm_core::{Id, contacts::ContactAffiliation};
    /// use uuid::Uuid;
    ///
    /// let day = |text: &str| text.parse().unwrap();
    /// let affiliation = ContactAffiliation {
    ///     started_on: Some(day("2024-01-01")),
    ///     ended_on: Some(day("2026-01-01")),
    ///     ..ContactAffiliation::new(Id::new(Uuid::nil()), Id::new(Uuid::nil()))
    /// };
    /// assert!(affiliation.is_current(day("2025-12-31")));
    /// assert!(!affiliation.is_current(day("2026-01-01")));
    /// ```
    #[must_use]
    pub fn is_current(&self, on: NaiveDate) -> bool {
        self.started_on.is_none_or(|started| started <= on) && !self.is_over(on)
    }

    /// Whether it is over on a day.
    #[must_use]
    pub fn is_over(&self, on: NaiveDate) -> bool {
        self.ended_on.is_some_and(|ended| ended <= on)
    }
}

fn check_affiliation(affiliation: &ContactAffiliation, faults: &mut Faults) {
    let (started, ended) = (affiliation.started_on, affiliation.ended_on);
    if started
        .zip(ended)
        .is_some_and(|(started, ended)| ended < started)
    {
        faults.add(
            "ended_on",
            codes::INCONSISTENT,
            "must not be before `started_on`",
        );
    }
}

/// The date that it is in UTC.
pub(super) fn today(now: DateTime<Utc>) -> NaiveDate {
    now.date_naive()
}

/// The latest date that it is anywhere: the day ends first at UTC+14.
fn latest_today(now: DateTime<Utc>) -> NaiveDate {
    (now + TimeDelta::hours(14)).date_naive()
}

/// Those that hold on a day; all where there is none.
fn as_of(all: Where<ContactAffiliation>, on: Option<NaiveDate>) -> Where<ContactAffiliation> {
    let Some(on) = on else { return all };
    let begun = ContactAffiliation::STARTED_ON
        .is_null()
        .or(ContactAffiliation::STARTED_ON.le(on));
    let goes_on = ContactAffiliation::ENDED_ON
        .is_null()
        .or(ContactAffiliation::ENDED_ON.gt(on));
    all.and(begun).and(goes_on)
}

impl Records<'_, Contact> {
    /// The accounts at which a contact is on a day, or, without a day, ever was: in the order in
    /// which they were recorded. One round trip.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn affiliations(
        &self,
        contact: Id<Contact>,
        on: Option<NaiveDate>,
    ) -> Result<Vec<Arc<Record<ContactAffiliation>>>> {
        let all = ContactAffiliation::CONTACT_ID.eq(contact);
        self.workspace.find_all(as_of(all, on)).await
    }

    /// One page of the people who are at an account on a day, or, without a day, ever were, archived
    /// contacts included. `find` may filter and sort by the fields of the affiliations, such as the
    /// buying role. Two round trips.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, accounts::Account, query::Find};
    /// # use crm_core::contacts::{BuyingRole, ContactAffiliation};
    /// # async fn example(session: &Session, globex: Id<Account>) -> Result<()> {
    /// let today = session.engine().clock().now().date_naive();
    /// let champions = Find::from(ContactAffiliation::BUYING_ROLE.eq(BuyingRole::Champion));
    /// for person in session.contacts().people(globex, Some(today), champions).await? {
    ///     println!("{}", person.contact.id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Query`](crate::Error::Query).
    pub async fn people(
        &self,
        account: Id<Account>,
        on: Option<NaiveDate>,
        find: impl Into<Find<ContactAffiliation>>,
    ) -> Result<Page<Person>> {
        let all = ContactAffiliation::ACCOUNT_ID.eq(account);
        let page = self
            .workspace
            .find(find.into().filter(as_of(all, on)))
            .await?;
        let ids: Vec<_> = page.items.iter().map(|found| found.contact_id).collect();
        let contacts = contacts_of(&self.workspace, &ids).await?;
        let items = page
            .items
            .into_iter()
            .filter_map(|affiliation| {
                let wanted = affiliation.contact_id;
                let contact = contacts
                    .iter()
                    .find(|contact| contact.id == wanted)?
                    .clone();
                Some(Person {
                    contact,
                    affiliation,
                })
            })
            .collect();
        Ok(Page {
            items,
            next: page.next,
            previous: page.previous,
        })
    }

    /// Adds an account at which a contact is, besides others. With `is_primary` it becomes the
    /// contact's account.
    ///
    /// # Errors
    /// [`Error::Validation`](crate::Error::Validation).
    pub async fn affiliate(
        &mut self,
        affiliation: ContactAffiliation,
    ) -> Result<Arc<Record<ContactAffiliation>>> {
        in_work!(self.workspace, |work| {
            work.create(affiliation.clone()).await
        })
    }

    /// Moves a contact to an account from a day on: what was primary ends on that day and stays as
    /// history, the new one begins and is primary, and the contact's `account_id` is the new
    /// account, in one commit.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, accounts::Account, contacts::Contact};
    /// # async fn example(session: &Session, ada: Id<Contact>, initech: Id<Account>) -> Result<()> {
    /// let today = session.engine().clock().now().date_naive();
    /// session.contacts().move_to_account(ada, initech, today).await?;
    /// assert_eq!(session.contacts().get(ada).await?.account_id, Some(initech));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound); [`Error::Validation`](crate::Error::Validation)
    /// if the day is in the future or before the day on which the old affiliation began, or the
    /// contact is at that account already.
    pub async fn move_to_account(
        &mut self,
        contact: Id<Contact>,
        account: Id<Account>,
        on: NaiveDate,
    ) -> Result<Arc<Record<ContactAffiliation>>> {
        in_work!(self.workspace, |work| {
            if on > latest_today(work.now()) {
                let message = "must not be in the future; record the move when it happens";
                return Err(FieldError::new("on", codes::OUT_OF_RANGE, message).into());
            }
            if work.get(contact).await?.account_id == Some(account) {
                let message = "must be another account than the contact's";
                return Err(FieldError::new("account_id", codes::INCONSISTENT, message).into());
            }
            let primary = ContactAffiliation::CONTACT_ID
                .eq(contact)
                .and(ContactAffiliation::IS_PRIMARY.eq(true));
            for old in work.find_all(primary, Vec::new()).await? {
                work.update(old.id, &|old: &mut ContactAffiliation| {
                    old.is_primary = false;
                    old.ended_on = Some(on);
                })
                .await?;
            }
            work.update(contact, &|contact: &mut Contact| {
                contact.account_id = Some(account);
            })
            .await?;
            work.create(ContactAffiliation {
                started_on: Some(on),
                is_primary: true,
                ..ContactAffiliation::new(contact, account)
            })
            .await
        })
    }
}

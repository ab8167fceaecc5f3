//! Asks whether contacts may be approached: reads what the rule needs.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::permission::{Standing, has_address, may_contact};
use super::{Channel, Consent, ContactingPolicy, Permission, Purpose};
use crate::Id;
use crate::contacts::Contact;
use crate::engine::{Records, Remembered, UnitOfWork, Workspace};
use crate::error::{Error, Result};
use crate::query::{Condition, FieldAt, Filter, Query, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, Value, system};
use crate::tenancy::Configurations;
use crate::value::{ApiName, TextValue};

#[async_trait]
impl Remembered for ContactingPolicy {
    const OBJECTS: &'static [&'static str] = &["tenant_configuration"];

    async fn load(work: &UnitOfWork) -> Result<Self> {
        let settings = Configurations::new(Workspace::Session(work.session()));
        settings.contacting_policy().await
    }
}

impl Records<'_, Contact> {
    /// Whether a contact may be approached by a channel for a purpose now, with every reason why not
    /// (R-026); see [`may_contact`]. One round trip, for marketing two, besides the tenant's policy,
    /// which is read again after a few seconds.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, contacts::Contact};
    /// use crm_core::privacy::{Channel, Purpose};
    /// # async fn example(session: &Session, ada: Id<Contact>) -> Result<()> {
    /// let permission = session.contacts().may_contact(ada, Channel::Email, Purpose::Marketing).await?;
    /// if !permission.is_allowed() {
    ///     println!("not by e-mail: {:?}", permission.reasons());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn may_contact(
        &self,
        contact: Id<Contact>,
        channel: Channel,
        purpose: Purpose,
    ) -> Result<Permission> {
        let mut answers = self.may_contact_all(&[contact], channel, purpose).await?;
        let answer = answers.pop().map(|(_, permission)| permission);
        answer.ok_or_else(|| Error::NotFound {
            object: Contact::schema().name().to_owned(),
            id: contact.uuid(),
        })
    }

    /// Which of these contacts may be approached, in their order; unknown and deleted ones are left
    /// out. As many round trips for each thousand as for one.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn may_contact_all(
        &self,
        contacts: &[Id<Contact>],
        channel: Channel,
        purpose: Purpose,
    ) -> Result<Vec<(Id<Contact>, Permission)>> {
        let now = self.workspace.session().engine().clock().now();
        let policy = match (&self.workspace, purpose) {
            // What was agreed needs no consent.
            (_, Purpose::Service) => ContactingPolicy::default(),
            (Workspace::Session(session), _) => *session.begin().remembered().await?,
            (Workspace::Unit(work), _) => *work.remembered().await?,
        };
        let mut answers = Vec::with_capacity(contacts.len());
        for some in contacts.chunks(Filter::MAX_VALUES) {
            let consents = match purpose {
                Purpose::Service => HashMap::new(),
                Purpose::Marketing => self.consents_of(some, channel).await?,
            };
            let found = self.by_id(some).await?;
            for id in some {
                let Some(contact) = found.get(id) else {
                    continue;
                };
                let standing = Standing {
                    preferences: &contact.preferences,
                    status: contact.status,
                    is_archived: contact.archived_at.is_some(),
                    has_address: has_address(contact, channel),
                };
                let own: Vec<&Consent> = consents
                    .get(id)
                    .into_iter()
                    .flatten()
                    .map(|consent| &consent.data)
                    .collect();
                let permission = may_contact(standing, &own, channel, purpose, &policy, now);
                answers.push((*id, permission));
            }
        }
        Ok(answers)
    }

    async fn by_id(
        &self,
        ids: &[Id<Contact>],
    ) -> Result<HashMap<Id<Contact>, Arc<Record<Contact>>>> {
        let one_of = Condition::In {
            field: FieldAt::new(system::ID),
            values: ids.iter().map(|id| Value::Uuid(id.uuid())).collect(),
        };
        let condition = one_of.and(Condition::not_deleted());
        let query = Query::new(Contact::schema(), condition);
        let rows = self.workspace.select(&query).await?;
        let records = rows.into_iter().filter_map(Record::from_row);
        Ok(records
            .map(|record: Arc<Record<Contact>>| (record.id, record))
            .collect())
    }

    /// What the contacts allowed and withdrew that concerns a channel.
    async fn consents_of(
        &self,
        contacts: &[Id<Contact>],
        channel: Channel,
    ) -> Result<HashMap<Id<Contact>, Vec<Arc<Record<Consent>>>>> {
        let types = channel.consent_types();
        let types = types.iter().filter_map(|name| ApiName::parse(name).ok());
        let wanted = Consent::CONTACT_ID
            .one_of(contacts.iter().copied())
            .and(Consent::CONSENT_TYPE.one_of(types));
        let mut consents: HashMap<_, Vec<_>> = HashMap::new();
        for consent in self.workspace.find_all(wanted).await? {
            if let Some(contact) = consent.contact_id {
                consents.entry(contact).or_default().push(consent);
            }
        }
        Ok(consents)
    }
}

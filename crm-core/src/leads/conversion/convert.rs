//! The conversion itself: decides, stages everything, and writes down what it did.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::carry::{Targets, carry, staged_or};
use super::mapping::filling;
use super::{
    AccountChoice, AlreadyConverted, CarriedOver, ConversionCandidates, ConversionDeal,
    ConversionDeed, ConversionPlan, ConversionTarget, Converted, FieldMapping, LeadConversion,
};
use crate::Id;
use crate::accounts::Account;
use crate::campaigns::{CampaignMember, CampaignStep, convert_member};
use crate::contacts::{BuyingRole, Contact, ContactAffiliation};
use crate::deals::{Deal, DealContact};
use crate::engine::{CommitHook, UnitOfWork};
use crate::error::{Error, Faults, FieldError, Result, RuleViolation, codes};
use crate::leads::{Conversion, Lead, LeadStatus};
use crate::pipelines::Pipeline;
use crate::query::WhereExt;
use crate::record::Record;
use crate::schema::{Entity, ObjectRef, Privacy, Row, Value};

/// Whether a lead with this status may be converted.
const fn is_convertible(status: LeadStatus) -> bool {
    match status {
        LeadStatus::New | LeadStatus::Contacted | LeadStatus::Qualified => true,
        LeadStatus::Disqualified
        | LeadStatus::Converted
        | LeadStatus::Lost
        | LeadStatus::Archived => false,
    }
}

fn ensure_convertible(lead: &Record<Lead>) -> Result<()> {
    if let Some(conversion) = &lead.conversion {
        return Err(Error::AlreadyConverted(Box::new(AlreadyConverted {
            lead: lead.id,
            contact: conversion.contact_id,
            account: conversion.account_id,
            deal: conversion.deal_id,
        })));
    }
    if !is_convertible(lead.status) {
        let message = format!(
            "a lead that is `{}` is not converted; open it again first",
            lead.status
        );
        return Err(RuleViolation::new("not_convertible", "C-006", message).into());
    }
    Ok(())
}

fn flat(lead: &Arc<Record<Lead>>) -> Map<String, Json> {
    let row: Row = lead.clone();
    row.to_json()
}

/// What the tenant's duplicate rules find for what a lead would become.
pub(super) async fn candidates(work: &UnitOfWork, lead: Id<Lead>) -> Result<ConversionCandidates> {
    let lead = flat(&work.get(lead).await?);
    let mapping = work.remembered::<FieldMapping>().await?;
    let duplicates = work.session().duplicates();
    let contact = mapping.body(ConversionTarget::Contact, &lead);
    let account = mapping.body(ConversionTarget::Account, &lead);
    let mut candidates = ConversionCandidates {
        contacts: duplicates
            .check_json(Contact::schema().name(), &contact)
            .await?,
        ..ConversionCandidates::default()
    };
    if account.contains_key(&*Account::NAME.name()) {
        candidates.accounts = duplicates
            .check_json(Account::schema().name(), &account)
            .await?;
    }
    Ok(candidates)
}

/// Converts a lead in a unit of work: all of it is staged, or nothing.
pub(super) async fn convert(
    work: &mut UnitOfWork,
    lead: Id<Lead>,
    plan: &ConversionPlan,
) -> Result<Converted> {
    let lead = work.get(lead).await?;
    ensure_convertible(&lead)?;
    // What is converted is the lead as it was read: of two at the same time one is a conflict.
    work.rely_on_row(lead.clone());
    let mapping = work.remembered::<FieldMapping>().await?;
    let mark = work.mark();
    let mut converting = Converting {
        json: flat(&lead),
        lead,
        mapping,
        plan,
        faults: Faults::default(),
        entries: Vec::new(),
    };
    let result = converting.stage(work).await;
    work.settle(mark, result)
}

/// What was done with one record.
struct Entry {
    row: Row,
    deed: ConversionDeed,
    before: Map<String, Json>,
    after: Map<String, Json>,
}

struct Converting<'a> {
    lead: Arc<Record<Lead>>,
    /// The lead as flat JSON.
    json: Map<String, Json>,
    mapping: Arc<FieldMapping>,
    plan: &'a ConversionPlan,
    faults: Faults,
    entries: Vec<Entry>,
}

impl Converting<'_> {
    async fn stage(&mut self, work: &mut UnitOfWork) -> Result<Converted> {
        work.accept_duplicates(self.plan.accepted.iter().copied());
        let known = match self.plan.contact {
            Some(id) => self.existing(work, id, "contact_id").await?,
            None => None,
        };
        let account = self.account(work, known.as_deref()).await?;
        let account_id = account.as_ref().map(|row| Id::<Account>::new(row.id()));
        let contact = self.contact(work, known, account_id).await?;
        let contact_id = contact.as_ref().map(|row| Id::<Contact>::new(row.id()));
        let deal = match &self.plan.deal {
            Some(deal) => self.deal(work, deal, contact_id, account_id).await?,
            None => None,
        };
        // Every fault of all records is told, not only those of the first.
        std::mem::take(&mut self.faults).into_result()?;
        let Some(contact_id) = contact_id else {
            return Err(FieldError::missing_record("contact_id").into());
        };
        let deal_id = deal.as_ref().map(|row| Id::<Deal>::new(row.id()));
        let targets = Targets {
            contact: contact_id.uuid(),
            account: account_id.map(Id::uuid),
            deal: deal_id.map(Id::uuid),
        };
        let carried = self.carry(work, &targets).await?;
        let conversion = Conversion {
            contact_id: Some(contact_id),
            account_id,
            deal_id,
            ..Conversion::new(work.now())
        };
        let lead = work
            .update(self.lead.id, &|lead: &mut Lead| {
                lead.status = LeadStatus::Converted;
                lead.conversion = Some(conversion.clone());
            })
            .await?;
        let (before, after): (Row, Row) = (self.lead.clone(), lead.clone());
        self.note_changes(ConversionDeed::Converted, &before, &after);
        self.write_down(work)?;
        Ok(Converted {
            lead,
            contact: contact_id,
            account: account_id,
            deal: deal_id,
            carried,
        })
    }

    /// a record that the plan names is there.
    async fn existing<E: Entity>(
        &mut self,
        work: &UnitOfWork,
        id: Id<E>,
        path: &'static str,
    ) -> Result<Option<Arc<Record<E>>>> {
        let found = work.lookup(id).await?;
        if found.is_none() {
            self.faults.push(FieldError::missing_record(path));
        }
        Ok(found)
    }

    async fn account(
        &mut self,
        work: &mut UnitOfWork,
        contact: Option<&Record<Contact>>,
    ) -> Result<Option<Row>> {
        let body = self.mapping.body(ConversionTarget::Account, &self.json);
        let of_contact = contact.and_then(|contact| contact.account_id);
        let choice = match (self.plan.account, of_contact) {
            (AccountChoice::Derived, Some(account)) => AccountChoice::Existing(account),
            (AccountChoice::Derived, None) if body.contains_key(&*Account::NAME.name()) => {
                AccountChoice::New
            }
            (AccountChoice::Derived, None) => AccountChoice::None,
            (chosen, _) => chosen,
        };
        match choice {
            AccountChoice::Derived | AccountChoice::None => Ok(None),
            AccountChoice::New => self.create(work, Account::schema(), &body).await,
            AccountChoice::Existing(id) => {
                let Some(account) = self.existing(work, id, "account_id").await? else {
                    return Ok(None);
                };
                let account: Row = account;
                self.fill(work, &account, body).await.map(Some)
            }
        }
    }

    async fn contact(
        &mut self,
        work: &mut UnitOfWork,
        known: Option<Arc<Record<Contact>>>,
        account: Option<Id<Account>>,
    ) -> Result<Option<Row>> {
        let mut body = self.mapping.body(ConversionTarget::Contact, &self.json);
        if let Some(account) = account {
            // The company's name is for contacts without an account.
            body.remove(&*Contact::COMPANY.name());
            body.insert(Contact::ACCOUNT_ID.name().into_owned(), json!(account));
        }
        let row = match known {
            Some(contact) => {
                let row: Row = contact;
                Some(self.fill(work, &row, body).await?)
            }
            // An existing one was meant, and is not there.
            None if self.plan.contact.is_some() => None,
            None => self.create(work, Contact::schema(), &body).await?,
        };
        if let (Some(row), Some(account)) = (&row, account) {
            self.affiliate(work, row, account).await?;
        }
        Ok(row)
    }

    /// The contact is at the account, as its primary one or besides another: what the end of the
    /// commit would do, but written down.
    async fn affiliate(
        &mut self,
        work: &mut UnitOfWork,
        contact: &Row,
        account: Id<Account>,
    ) -> Result<()> {
        let is_new = self.plan.contact.is_none();
        let today = work.now().date_naive();
        let id = Id::<Contact>::new(contact.id());
        let is_primary = contact.get(&Contact::ACCOUNT_ID.name()).as_uuid() == Some(account.uuid());
        if !is_new {
            let here = ContactAffiliation::CONTACT_ID
                .eq(id)
                .and(ContactAffiliation::ACCOUNT_ID.eq(account));
            let here = work.find_all(here, Vec::new()).await?;
            let current = here.into_iter().rfind(|one| !one.is_over(today));
            if let Some(current) = current {
                if is_primary && !current.is_primary {
                    let promote = |one: &mut ContactAffiliation| one.is_primary = true;
                    let before: Row = current.clone();
                    let after: Row = work.update_record(current, &promote).await?;
                    self.note_changes(ConversionDeed::Filled, &before, &after);
                }
                return Ok(());
            }
        }
        let made = work
            .create(ContactAffiliation {
                started_on: (!is_new).then_some(today),
                is_primary,
                ..ContactAffiliation::new(id, account)
            })
            .await?;
        self.note_created(made);
        Ok(())
    }

    async fn deal(
        &mut self,
        work: &mut UnitOfWork,
        deal: &ConversionDeal,
        contact: Option<Id<Contact>>,
        account: Option<Id<Account>>,
    ) -> Result<Option<Row>> {
        let mut body = self.mapping.body(ConversionTarget::Deal, &self.json);
        let mut put = |field: std::borrow::Cow<'static, str>, value: Json| {
            body.insert(field.into_owned(), value);
        };
        put(Deal::NAME.name(), json!(deal.name));
        let pipeline = match deal.pipeline {
            Some(pipeline) => Some(pipeline),
            None => {
                let of_tenant = work.records::<Pipeline>().default_pipeline().await?;
                of_tenant.map(|pipeline| pipeline.id)
            }
        };
        match pipeline {
            Some(pipeline) => put(Deal::PIPELINE_ID.name(), json!(pipeline)),
            None => {
                let message = "the tenant has no default pipeline; name one";
                let path = format!("deal.{}", Deal::PIPELINE_ID.name());
                self.faults.add(path, codes::REQUIRED, message);
                return Ok(None);
            }
        }
        if let Some(stage) = deal.stage {
            put(Deal::STAGE_ID.name(), json!(stage));
        }
        if let Some(amount) = deal.amount {
            put(Deal::AMOUNT.name(), Value::Decimal(amount).to_json());
        }
        if let Some(currency) = deal.currency {
            put(Deal::CURRENCY.name(), json!(currency.to_string()));
        }
        if let Some(contact) = contact {
            put(Deal::CONTACT_ID.name(), json!(contact));
        }
        if let Some(account) = account {
            put(Deal::ACCOUNT_ID.name(), json!(account));
        }
        let row = self.create(work, Deal::schema(), &body).await?;
        if let (Some(row), Some(contact)) = (&row, contact) {
            let person = DealContact {
                is_primary: true,
                role: self
                    .lead
                    .decision_maker
                    .then_some(BuyingRole::DecisionMaker),
                ..DealContact::new(Id::new(row.id()), contact)
            };
            let person = work.create(person).await?;
            self.note_created(person);
        }
        Ok(row)
    }

    /// Makes a record of what the lead gives; its faults are told with those of the others.
    async fn create(
        &mut self,
        work: &mut UnitOfWork,
        object: &ObjectRef,
        body: &Map<String, Json>,
    ) -> Result<Option<Row>> {
        let created = work.create_json(object, body).await;
        let created = self.collect(object, created)?;
        if let Some(row) = &created {
            self.note_created(row.clone());
        }
        Ok(created)
    }

    /// Gives an existing record what it lacks.
    async fn fill(
        &mut self,
        work: &mut UnitOfWork,
        row: &Row,
        body: Map<String, Json>,
    ) -> Result<Row> {
        let object = row.object().clone();
        let taken = filling(&object, &row.to_json(), &body);
        if taken.is_empty() {
            return Ok(row.clone());
        }
        let filled = work.merge(&object, row.id(), row.version(), &taken).await;
        let Some(filled) = self.collect(&object, filled)? else {
            return Ok(row.clone());
        };
        self.note_changes(ConversionDeed::Filled, row, &filled);
        Ok(filled)
    }

    fn collect(&mut self, object: &ObjectRef, result: Result<Row>) -> Result<Option<Row>> {
        match result {
            Ok(row) => Ok(Some(row)),
            Err(Error::Validation(faults)) => {
                for mut fault in faults.into_errors() {
                    fault.path = format!("{}.{}", object.name(), fault.path);
                    self.faults.push(fault);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn carry(
        &mut self,
        work: &mut UnitOfWork,
        targets: &Targets,
    ) -> Result<Vec<CarriedOver>> {
        let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        // A lead of this commit is a member of the campaign that brought it, too.
        CampaignStep.before_commit(work).await?;
        let carried = carry(work, self.lead.id.uuid(), targets).await?;
        for before in carried.replaced {
            if let Some(after) = staged_or(work, &before) {
                self.note_changes(ConversionDeed::Carried, &before, &after);
            }
        }
        for before in carried.records {
            let object = before.object().clone();
            let Some(mut after) = staged_or(work, &before) else {
                continue;
            };
            let count = counts.entry(object.name().to_owned()).or_default();
            if after.differing(&*before).is_empty() {
                count.1 += 1;
            } else {
                count.0 += 1;
            }
            if object == *CampaignMember::schema() {
                after = convert_member(work, Id::new(after.id())).await?;
            }
            if !after.differing(&*before).is_empty() {
                self.note_changes(ConversionDeed::Carried, &before, &after);
            }
        }
        let all = counts.into_iter();
        Ok(all
            .map(|(object, (carried, left))| CarriedOver {
                object,
                carried,
                left,
            })
            .collect())
    }

    fn note_created(&mut self, row: Row) {
        let object = row.object().clone();
        let mut after = Map::new();
        for field in object.own_fields() {
            let value = row.get(&field.name);
            if field.privacy != Privacy::Sensitive && !value.is_null() {
                after.insert(field.name.to_string(), value.to_json());
            }
        }
        self.entries.push(Entry {
            row,
            deed: ConversionDeed::Created,
            before: Map::new(),
            after,
        });
    }

    fn note_changes(&mut self, deed: ConversionDeed, before: &Row, after: &Row) {
        let object = after.object().clone();
        let (mut was, mut is) = (Map::new(), Map::new());
        for index in after.differing(&**before).iter() {
            let fields = object.fields().get(index);
            let Some(field) = fields.filter(|field| !field.system) else {
                continue;
            };
            if field.privacy != Privacy::Sensitive {
                was.insert(field.name.to_string(), before.value(index).to_json());
                is.insert(field.name.to_string(), after.value(index).to_json());
            }
        }
        self.entries.push(Entry {
            row: after.clone(),
            deed,
            before: was,
            after: is,
        });
    }

    /// Writes down what was done, in the order in which it was.
    fn write_down(&mut self, work: &mut UnitOfWork) -> Result<()> {
        let commit: Uuid = work.commit_stamp().id;
        for entry in std::mem::take(&mut self.entries) {
            let (object, id) = (entry.row.object().name().to_owned(), entry.row.id());
            work.append_entry(LeadConversion {
                before: Json::Object(entry.before),
                after: Json::Object(entry.after),
                ..LeadConversion::new(self.lead.id, commit, object, id, entry.deed)
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_be_converted() {
        let may: Vec<_> = LeadStatus::ALL
            .iter()
            .copied()
            .filter(|one| is_convertible(*one))
            .collect();
        assert_eq!(
            may,
            [
                LeadStatus::New,
                LeadStatus::Contacted,
                LeadStatus::Qualified
            ]
        );
    }
}

//! What is done with campaigns: members come, go and respond.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use uuid::Uuid;

use super::{Campaign, CampaignMember, CampaignStatus, MemberStatus, Person};
use crate::Id;
use crate::contacts::Contact;
use crate::engine::workspace::Settle;
use crate::engine::{Progress, Records, UnitOfWork, Workspace, in_work};
use crate::error::{Error, Result, RuleViolation};
use crate::leads::Lead;
use crate::query::{AggregateQuery, Condition, Filter, Query, Where, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, FieldOf, Value};

/// How many persons are looked at, and made members in one commit.
const AT_ONCE: usize = 500;

/// What can be a member of a campaign: [`Lead`] and [`Contact`], nothing else.
pub trait CampaignPerson: Entity + private::Sealed {
    /// The field of members that leads to it.
    const FIELD: FieldOf<CampaignMember, Id<Self>>;

    /// The record with this id as a person.
    fn person(id: Id<Self>) -> Person;
}

mod private {
    pub trait Sealed {}
    impl Sealed for crate::leads::Lead {}
    impl Sealed for crate::contacts::Contact {}
}

impl CampaignPerson for Lead {
    const FIELD: FieldOf<CampaignMember, Id<Self>> = CampaignMember::LEAD_ID;

    fn person(id: Id<Self>) -> Person {
        Person::Lead(id)
    }
}

impl CampaignPerson for Contact {
    const FIELD: FieldOf<CampaignMember, Id<Self>> = CampaignMember::CONTACT_ID;

    fn person(id: Id<Self>) -> Person {
        Person::Contact(id)
    }
}

/// What became of a query whose records were made members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MembersAdded {
    /// How many persons were looked at.
    pub checked: u64,
    /// How many of them became members; the others were so already.
    pub added: u64,
    /// Whether the run was stopped before its end.
    pub is_stopped: bool,
}

/// Some persons, and where the next begin.
struct Batch {
    checked: u64,
    added: u64,
    next: Option<Uuid>,
}

impl Settle for Batch {}

impl Records<'_, Campaign> {
    /// Gives a campaign a status; [`next_statuses`](super::next_statuses) says which it may get.
    ///
    /// # Errors
    /// [`Error::Rule`] `transition` with what would be allowed; [`Error::NotFound`].
    pub async fn set_status(
        &mut self,
        campaign: Id<Campaign>,
        status: CampaignStatus,
    ) -> Result<Arc<Record<Campaign>>> {
        in_work!(self.workspace, |work| {
            work.update(campaign, &|campaign: &mut Campaign| {
                campaign.status = status;
            })
            .await
        })
    }

    /// Makes a lead or contact a member of a campaign: it was addressed. Who is a member already
    /// stays so as it is.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, campaigns::Campaign, contacts::Contact};
    /// # async fn example(session: &Session, fair: Id<Campaign>, ada: Id<Contact>) -> Result<()> {
    /// session.campaigns().add_member(fair, ada).await?;
    /// let member = session.campaigns().respond(fair, ada).await?;
    /// assert!(member.responded_at.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Validation`] if there is no such campaign, lead or contact.
    pub async fn add_member(
        &mut self,
        campaign: Id<Campaign>,
        person: impl Into<Person>,
    ) -> Result<Arc<Record<CampaignMember>>> {
        let person = person.into();
        in_work!(self.workspace, |work| {
            match find_member(work, campaign, person).await? {
                Some(member) => Ok(member),
                None => {
                    contend(work);
                    work.create(person.member_of(campaign)).await
                }
            }
        })
    }

    /// Takes a member out of a campaign.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the person is no member; [`Error::Rule`] `first_touch` for a lead that
    /// the campaign brought: empty the lead's `campaign_id` instead.
    pub async fn remove_member(
        &mut self,
        campaign: Id<Campaign>,
        person: impl Into<Person>,
    ) -> Result<()> {
        let person = person.into();
        in_work!(self.workspace, |work| {
            let member = find_member(work, campaign, person).await?;
            let member = member.ok_or_else(|| no_member(person))?;
            if let Some(lead) = member.lead_id
                && let Some(lead) = work.lookup(lead).await?
                && lead.source.campaign_id == Some(campaign)
            {
                let message =
                    "the campaign brought the lead; empty the lead's `campaign_id` instead";
                return Err(RuleViolation::new("first_touch", "C-208", message).into());
            }
            work.delete_row(member).await
        })
    }

    /// Takes down that a member responded, now; the first response counts.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the person is no member.
    pub async fn respond(
        &mut self,
        campaign: Id<Campaign>,
        person: impl Into<Person>,
    ) -> Result<Arc<Record<CampaignMember>>> {
        let person = person.into();
        in_work!(self.workspace, |work| {
            let now = work.now();
            let member = find_member(work, campaign, person).await?;
            let member = member.ok_or_else(|| no_member(person))?;
            work.update_record(member, &|member: &mut CampaignMember| {
                if member.status == MemberStatus::Sent {
                    member.status = MemberStatus::Responded;
                }
                member.responded_at = member.responded_at.or(Some(now));
            })
            .await
        })
    }

    /// Makes all leads, or all contacts, that fulfil a filter members of a campaign, by their own and
    /// by custom fields; archived ones are left out.
    ///
    /// Some hundred persons are one commit, so a run that is stopped or fails has done its work up to
    /// there; run again it does the rest. It needs the memory of some hundred persons.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, campaigns::Campaign};
    /// use crm_core::{contacts::Contact, leads::Lead, query::Filter};
    /// # async fn example(session: &Session, fair: Id<Campaign>) -> Result<()> {
    /// let bankers = Lead::INDUSTRY.eq("banking");
    /// let added = session.campaigns().add_members::<Lead>(fair, bankers, &()).await?;
    /// println!("{} of {} leads are new members", added.added, added.checked);
    /// let large = Filter::eq("custom_fields.segment", "enterprise");
    /// session.campaigns().add_members::<Contact>(fair, large, &()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such campaign; [`Error::Query`] if the filter does not fit;
    /// [`Error::Forbidden`] in a unit of work, which is one commit.
    pub async fn add_members<P: CampaignPerson>(
        &mut self,
        campaign: Id<Campaign>,
        filter: impl Into<Filter>,
        progress: &dyn Progress,
    ) -> Result<MembersAdded> {
        let Workspace::Session(session) = &self.workspace else {
            let reason = "`add_members` runs over many commits: call it on a session";
            return Err(Error::Forbidden {
                reason: reason.into(),
            });
        };
        let registry = &*session.registry().await?;
        let condition = Condition::bind(&filter.into(), P::schema(), registry)?;
        let visible = Condition::not_deleted().and(Condition::not_archived());
        let mut query = Query::new(P::schema(), visible.and(condition)).limit(AT_ONCE);
        self.get(campaign).await?;
        let count = AggregateQuery::count(P::schema(), query.condition.clone());
        let groups = self.workspace.aggregate(&count).await?;
        let total = groups.first().map_or(0, |group| group.count(0));
        let mut done = MembersAdded::default();
        loop {
            let batch: Result<Batch> = in_work!(self.workspace, |work| {
                add_batch::<P>(work, campaign, &query).await
            });
            let batch = batch?;
            done.checked += batch.checked;
            done.added += batch.added;
            let answer = progress.report(done.checked, Some(total.max(done.checked)));
            let Some(next) = batch.next else {
                return Ok(done);
            };
            if answer == ControlFlow::Break(()) {
                done.is_stopped = true;
                return Ok(done);
            }
            query.after = Some(vec![Value::Uuid(next)]);
        }
    }
}

async fn add_batch<P: CampaignPerson>(
    work: &mut UnitOfWork,
    campaign: Id<Campaign>,
    query: &Query,
) -> Result<Batch> {
    let rows = work.select(query).await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id()).collect();
    let mut batch = Batch {
        checked: ids.len() as u64,
        added: 0,
        next: ids.last().copied().filter(|_| ids.len() == AT_ONCE),
    };
    if ids.is_empty() {
        return Ok(batch);
    }
    let known = CampaignMember::CAMPAIGN_ID
        .eq(campaign)
        .and(P::FIELD.one_of(ids.iter().copied().map(Id::<P>::new)));
    let name = P::FIELD.name();
    let known: HashSet<Uuid> = work
        .find_all(known, Vec::new())
        .await?
        .iter()
        .filter_map(|member| {
            let member: &dyn crate::schema::AnyRecord = &**member;
            member.get(&name).as_uuid()
        })
        .collect();
    contend(work);
    for id in ids.into_iter().filter(|id| !known.contains(id)) {
        work.create(P::person(Id::new(id)).member_of(campaign))
            .await?;
        batch.added += 1;
    }
    Ok(batch)
}

/// Of two who make the same person a member at the same time, the slower one looks again.
fn contend(work: &mut UnitOfWork) {
    work.contend("campaign_member", &["campaign_id", "lead_id"]);
    work.contend("campaign_member", &["campaign_id", "contact_id"]);
}

fn no_member(person: Person) -> Error {
    let id = match person {
        Person::Lead(lead) => lead.uuid(),
        Person::Contact(contact) => contact.uuid(),
    };
    Error::NotFound {
        object: CampaignMember::schema().name().to_owned(),
        id,
    }
}

async fn find_member(
    work: &UnitOfWork,
    campaign: Id<Campaign>,
    person: Person,
) -> Result<Option<Arc<Record<CampaignMember>>>> {
    let is_person: Where<CampaignMember> = match person {
        Person::Lead(lead) => CampaignMember::LEAD_ID.eq(lead),
        Person::Contact(contact) => CampaignMember::CONTACT_ID.eq(contact),
    };
    let wanted = CampaignMember::CAMPAIGN_ID.eq(campaign).and(is_person);
    Ok(work.find_all(wanted, Vec::new()).await?.pop())
}

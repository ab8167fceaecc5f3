//! Consents: what a person allowed, how it is known, and when it was withdrawn (C-064).
//!
//! A consent is written once. Withdrawing it adds when and how; giving it again is a new record. So
//! the records of a person are the history, and at most one of each type is active. They go with the
//! person through conversion and merges, where of two active ones that hold the later one counts; who
//! asks by the id of the lead or of the record that was merged away is answered for the person.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::Id;
use crate::contacts::Contact;
use crate::engine::{Records, UnitOfWork, Workspace, Write, WriteRule, in_work};
use crate::error::{Error, Faults, FieldError, Result, RuleViolation, codes};
use crate::leads::Lead;
use crate::merging::{BY_MERGE, resolve};
use crate::query::{Find, Page, Where, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, FieldGroup, Picklist, Row};
use crate::value::ApiName;

/// What a person allowed, for one purpose. Whoever recorded it is the record's `created.by`.
///
/// Besides a withdrawal it never changes. It is deleted and restored with the contact or lead that
/// it belongs to.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "consent",
    table = "consents",
    unique(contact_id, consent_type; live, only_if(is_active)),
    unique(lead_id, consent_type; live, only_if(is_active)),
    index(contact_id, consent_type),
    index(lead_id, consent_type),
    check = check_consent
)]
pub struct Consent {
    /// The contact who gave it; either this or `lead_id` (R-060, R-297).
    #[field(references = "contact", on_delete = "cascade")]
    pub contact_id: Option<Id<Contact>>,
    /// The lead who gave it.
    #[field(references = "lead", on_delete = "cascade")]
    pub lead_id: Option<Id<Lead>>,
    /// What it is for, such as `marketing_email`; see
    /// [`Channel::consent_type`](super::Channel::consent_type).
    #[field(required)]
    pub consent_type: ApiName,
    /// Whether it was withdrawn.
    pub status: ConsentStatus,
    /// Whether it is the one that counts: neither withdrawn nor replaced by a newer one.
    #[field(default = true)]
    pub is_active: bool,
    /// What allows the processing (R-296).
    pub lawful_basis: LawfulBasis,
    /// When it was given.
    #[field(required)]
    pub granted_at: DateTime<Utc>,
    /// From when on it no longer holds, if it does not hold for good.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was withdrawn (R-060).
    pub withdrawn_at: Option<DateTime<Utc>>,
    /// How it was withdrawn, such as `unsubscribe_link` (R-060).
    #[field(max_len = 100)]
    pub withdrawal_method: Option<String>,
    /// How it is known.
    #[field(flatten)]
    pub evidence: ConsentEvidence,
}

/// How a consent is known.
#[derive(Clone, PartialEq, FieldGroup)]
pub struct ConsentEvidence {
    /// Where or how it was given, such as `web_form` or `by telephone`.
    #[field(max_len = 255)]
    pub source: Option<String>,
    /// Which version of the text the person agreed to.
    #[field(max_len = 100)]
    pub text_version: Option<String>,
    /// The address of the person's computer.
    #[field(max_len = 45, personal)]
    pub ip_address: Option<String>,
    /// The person's browser.
    #[field(max_len = 1000, personal)]
    pub user_agent: Option<String>,
    /// Anything more, as the host keeps it.
    #[field(personal, default = json!({}))]
    pub details: Json,
}

/// Whether a consent was withdrawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum ConsentStatus {
    /// Given.
    #[default]
    Granted,
    /// Withdrawn.
    Withdrawn,
}

/// What allows personal data to be processed: Article 6 of the GDPR (R-296).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum LawfulBasis {
    /// The person consented.
    #[default]
    Consent,
    /// A contract with the person needs it.
    Contract,
    /// The law demands it.
    LegalObligation,
    /// A life depends on it.
    VitalInterests,
    /// A public task needs it.
    PublicTask,
    /// The tenant's interests outweigh the person's.
    LegitimateInterests,
}

/// Whose consent it is: exactly one contact or lead (R-060).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConsentSubject {
    /// A contact's.
    Contact(Id<Contact>),
    /// A lead's.
    Lead(Id<Lead>),
}

impl From<Id<Contact>> for ConsentSubject {
    fn from(id: Id<Contact>) -> Self {
        Self::Contact(id)
    }
}

impl From<Id<Lead>> for ConsentSubject {
    fn from(id: Id<Lead>) -> Self {
        Self::Lead(id)
    }
}

impl ConsentSubject {
    /// The unique key of the active ones.
    const fn key(self) -> &'static [&'static str] {
        match self {
            Self::Contact(_) => &["contact_id", "consent_type"],
            Self::Lead(_) => &["lead_id", "consent_type"],
        }
    }

    /// What this record of the person became: the one that it was merged into, or the contact of a
    /// converted lead.
    async fn next(self, workspace: &Workspace<'_>) -> Result<Option<Self>> {
        let survivor = async |object, id: Uuid| {
            let found = resolve(workspace, object, &[id]).await?;
            let survivor = found.into_iter().flatten().next();
            Ok::<_, Error>(survivor.filter(|survivor| *survivor != id))
        };
        match self {
            Self::Contact(id) => {
                let survivor = survivor(Contact::schema(), id.uuid()).await?;
                Ok(survivor.map(|id| Self::Contact(Id::new(id))))
            }
            Self::Lead(id) => {
                if let Some(survivor) = survivor(Lead::schema(), id.uuid()).await? {
                    return Ok(Some(Self::Lead(Id::new(survivor))));
                }
                let row = workspace.row(Lead::schema(), id.uuid()).await?;
                let lead: Option<Arc<Record<Lead>>> = row.and_then(Record::from_row);
                let conversion = lead.and_then(|lead| lead.conversion.clone());
                Ok(conversion.and_then(|one| one.contact_id).map(Self::Contact))
            }
        }
    }

    /// The records that are the person, through conversion and merges: this one, and what it became,
    /// the last of which has the person's consents.
    async fn chain(self, workspace: &Workspace<'_>) -> Result<Vec<Self>> {
        let (mut chain, mut last) = (vec![self], self);
        while let Some(next) = last.next(workspace).await?
            && !chain.contains(&next)
        {
            chain.push(next);
            last = next;
        }
        Ok(chain)
    }
}

/// The consents of any of these.
fn of_any(chain: &[ConsentSubject]) -> Where<Consent> {
    let (mut contacts, mut leads) = (Vec::new(), Vec::new());
    for subject in chain {
        match subject {
            ConsentSubject::Contact(id) => contacts.push(*id),
            ConsentSubject::Lead(id) => leads.push(*id),
        }
    }
    let of_contacts = Consent::CONTACT_ID.one_of(contacts);
    match leads.is_empty() {
        true => of_contacts,
        false => of_contacts.or(Consent::LEAD_ID.one_of(leads)),
    }
}

fn of_type(chain: &[ConsentSubject], consent_type: &ApiName) -> Where<Consent> {
    of_any(chain).and(Consent::CONSENT_TYPE.eq(consent_type.clone()))
}

/// A consent that is given.
#[derive(Clone, Debug)]
pub struct Grant {
    /// What it is for.
    pub consent_type: ApiName,
    /// What allows the processing.
    pub lawful_basis: LawfulBasis,
    /// When it was given; now, unless it is recorded later.
    pub granted_at: Option<DateTime<Utc>>,
    /// From when on it no longer holds.
    pub expires_at: Option<DateTime<Utc>>,
    /// How it is known.
    pub evidence: ConsentEvidence,
}

impl Grant {
    /// A consent given now, for good.
    #[must_use]
    pub fn new(consent_type: ApiName, evidence: ConsentEvidence) -> Self {
        Self {
            consent_type,
            lawful_basis: LawfulBasis::default(),
            granted_at: None,
            expires_at: None,
            evidence,
        }
    }
}

/// How a consent is withdrawn.
#[derive(Clone, Debug, Default)]
pub struct Withdrawal {
    /// How, such as `unsubscribe_link`.
    pub method: Option<String>,
    /// When; now, unless it is recorded later.
    pub at: Option<DateTime<Utc>>,
}

impl Consent {
    /// Whether it holds at a moment.
    #[must_use]
    pub fn holds(&self, at: DateTime<Utc>) -> bool {
        self.is_active && self.granted_at <= at && !self.has_expired(at)
    }

    /// Whether it no longer holds because its time is over.
    #[must_use]
    pub fn has_expired(&self, at: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|expires| expires <= at)
    }
}

/// Whether one of a person's consents holds that no withdrawal followed.
pub(super) fn holding<'a>(
    consents: impl Iterator<Item = &'a Consent> + Clone,
    at: DateTime<Utc>,
) -> bool {
    let (granted, withdrawn) = latest(consents, at);
    granted.is_some_and(|granted| withdrawn.is_none_or(|withdrawn| withdrawn < granted))
}

/// When the latest of the consents that hold was given, and when one was withdrawn last.
pub(super) fn latest<'a>(
    consents: impl Iterator<Item = &'a Consent> + Clone,
    at: DateTime<Utc>,
) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
    let holding = consents.clone().filter(|consent| consent.holds(at));
    let withdrawn = consents.filter_map(|consent| consent.withdrawn_at);
    (
        holding.map(|consent| consent.granted_at).max(),
        withdrawn.filter(|withdrawn| *withdrawn <= at).max(),
    )
}

fn check_consent(consent: &Consent, faults: &mut Faults) {
    // R-060, R-297. One that was refused is missing only because of that.
    let is_refused = faults.has("contact_id") || faults.has("lead_id");
    if !is_refused && consent.contact_id.is_some() == consent.lead_id.is_some() {
        let message = "name either the contact or the lead who gave it";
        faults.add("contact_id", codes::INCONSISTENT, message);
    }
    // R-060: withdrawn exactly if it is said when.
    let is_withdrawn = consent.status == ConsentStatus::Withdrawn;
    if is_withdrawn != consent.withdrawn_at.is_some() {
        let message = "is set exactly if the consent was withdrawn";
        faults.add("withdrawn_at", codes::INCONSISTENT, message);
    }
    let before = |at: Option<DateTime<Utc>>| at.is_some_and(|at| at < consent.granted_at);
    if before(consent.withdrawn_at) {
        let message = "must not be before `granted_at`";
        faults.add("withdrawn_at", codes::INCONSISTENT, message);
    }
    if before(consent.expires_at) {
        let message = "must not be before `granted_at`";
        faults.add("expires_at", codes::INCONSISTENT, message);
    }
    if is_withdrawn && consent.is_active {
        let message = "a withdrawn consent is not active";
        faults.add("is_active", codes::INCONSISTENT, message);
    }
    let address = consent.evidence.ip_address.as_deref();
    if address.is_some_and(|address| address.parse::<IpAddr>().is_err()) {
        faults.add("ip_address", "invalid_ip_address", "write an IP address");
    }
}

impl Records<'_, Consent> {
    /// Records that a person gave a consent. An active one of the same type stays as it was given,
    /// but no longer counts. Where the record was merged into another, or the lead was converted, it is
    /// given for the record that it became.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, contacts::Contact};
    /// use crm_core::privacy::{ConsentEvidence, Grant, Withdrawal};
    /// # async fn example(session: &Session, ada: Id<Contact>) -> Result<()> {
    /// let newsletter = "marketing_email".parse()?;
    /// let evidence = ConsentEvidence {
    ///     source: Some("web_form".into()),
    ///     text_version: Some("2026-01".into()),
    ///     ..ConsentEvidence::default()
    /// };
    /// session.consents().grant(ada, Grant::new(newsletter, evidence)).await?;
    ///
    /// let newsletter = "marketing_email".parse()?;
    /// assert!(session.consents().has_consent(ada, &newsletter).await?);
    /// session.consents().withdraw(ada, &newsletter, Withdrawal::default()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Validation`], also if there is no such contact or lead.
    pub async fn grant(
        &mut self,
        subject: impl Into<ConsentSubject>,
        grant: Grant,
    ) -> Result<Arc<Record<Consent>>> {
        let subject = subject.into();
        in_work!(self.workspace, |work| {
            let granted_at = grant.granted_at.unwrap_or_else(|| work.now());
            if granted_at > work.now() {
                let message = "must not be in the future";
                return Err(FieldError::new("granted_at", codes::OUT_OF_RANGE, message).into());
            }
            let chain = chain(work, subject).await?;
            let subject = chain.last().copied().unwrap_or(subject);
            // Two who record one at the same time: the slower one replaces the other's.
            work.contend("consent", subject.key());
            for old in active(work, &chain, &grant.consent_type).await? {
                let replace = |old: &mut Consent| old.is_active = false;
                work.update(old.id, &replace).await?;
            }
            let (contact_id, lead_id) = match subject {
                ConsentSubject::Contact(id) => (Some(id), None),
                ConsentSubject::Lead(id) => (None, Some(id)),
            };
            work.create(Consent {
                contact_id,
                lead_id,
                lawful_basis: grant.lawful_basis,
                expires_at: grant.expires_at,
                evidence: grant.evidence.clone(),
                ..Consent::new(grant.consent_type.clone(), granted_at)
            })
            .await
        })
    }

    /// Records that a person withdrew a consent (R-060). It may be asked for by the id of a record that
    /// was merged into another, or of a lead that was converted, as in a link that was sent before: the
    /// consent of the record that it became is withdrawn.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no active one; [`Error::Validation`] if the moment is before
    /// it was given.
    pub async fn withdraw(
        &mut self,
        subject: impl Into<ConsentSubject>,
        consent_type: &ApiName,
        withdrawal: Withdrawal,
    ) -> Result<Arc<Record<Consent>>> {
        let subject = subject.into();
        in_work!(self.workspace, |work| {
            let at = withdrawal.at.unwrap_or_else(|| work.now());
            let mut known = chain(work, subject).await?;
            let found = loop {
                let found = active(work, &known, consent_type).await?;
                let now = match found.is_empty() {
                    true => chain(work, subject).await?,
                    false => break found,
                };
                // It may have gone to another record between the two.
                if now == known {
                    break found;
                }
                known = now;
            };
            let withdraw = |consent: &mut Consent| {
                consent.status = ConsentStatus::Withdrawn;
                consent.is_active = false;
                consent.withdrawn_at = Some(at);
                consent.withdrawal_method = withdrawal.method.clone();
            };
            let mut withdrawn = None;
            for consent in found {
                withdrawn = Some(work.update(consent.id, &withdraw).await?);
            }
            let id = match subject {
                ConsentSubject::Contact(id) => id.uuid(),
                ConsentSubject::Lead(id) => id.uuid(),
            };
            withdrawn.ok_or_else(|| Error::NotFound {
                object: Consent::schema().name().to_owned(),
                id,
            })
        })
    }

    /// Whether a person's consent of this type holds now: given, not over, and not withdrawn since.
    /// Where the record was merged into another, or the lead was converted, that of the record that it
    /// became. One round trip for a contact that has any; for others, those that lead on.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn has_consent(
        &self,
        subject: impl Into<ConsentSubject>,
        consent_type: &ApiName,
    ) -> Result<bool> {
        let (subject, workspace) = (subject.into(), &self.workspace);
        let now = workspace.session().engine().clock().now();
        // The withdrawn ones too: where two records of a person became one, what was withdrawn at one
        // of them since counts (R-026).
        let mut found = workspace
            .find_all(of_type(&[subject], consent_type))
            .await?;
        // All those of a contact go with it.
        if found.is_empty() || matches!(subject, ConsentSubject::Lead(_)) {
            let chain = subject.chain(workspace).await?;
            if chain.len() > 1 {
                found = workspace.find_all(of_type(&chain, consent_type)).await?;
            }
        }
        Ok(holding(found.iter().map(|consent| &consent.data), now))
    }

    /// One page of what a person allowed and withdrew, the newest first, also where the record was
    /// merged into another or the lead was converted.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn history(
        &self,
        subject: impl Into<ConsentSubject>,
        find: impl Into<Find<Consent>>,
    ) -> Result<Page<Arc<Record<Consent>>>> {
        let chain = subject.into().chain(&self.workspace).await?;
        let find = find
            .into()
            .filter(of_any(&chain))
            .sort(Consent::GRANTED_AT.desc());
        self.workspace.find(find).await
    }
}

async fn active(
    work: &UnitOfWork,
    chain: &[ConsentSubject],
    consent_type: &ApiName,
) -> Result<Vec<Arc<Record<Consent>>>> {
    let wanted = of_type(chain, consent_type).and(Consent::IS_ACTIVE.eq(true));
    work.find_all(wanted, Vec::new()).await
}

/// The chain of a subject, as a unit of work sees it.
async fn chain(work: &mut UnitOfWork, subject: ConsentSubject) -> Result<Vec<ConsentSubject>> {
    subject.chain(&Workspace::Unit(work)).await
}

/// Of the consents of two records that become one person's, those that count no more, each with the
/// one that counts instead of it: of each type, the one given last among those that hold. Of equal
/// ones the first counts, those of the `own` record before others. Rows of other objects are none.
pub(crate) fn replaced_consents<'r>(
    own: impl Iterator<Item = &'r Row>,
    others: impl Iterator<Item = &'r Row>,
    at: DateTime<Utc>,
) -> Vec<(Uuid, Uuid)> {
    let active = |row: &Row| {
        let consent: Arc<Record<Consent>> = Record::from_row(row.clone())?;
        (consent.is_active && consent.deleted_at.is_none()).then_some(consent)
    };
    let rank = |consent: &Consent| (consent.holds(at), consent.granted_at);
    let mut by_type: BTreeMap<String, Vec<Arc<Record<Consent>>>> = BTreeMap::new();
    for consent in own.chain(others).filter_map(active) {
        let of_type = by_type.entry(consent.consent_type.to_string());
        of_type.or_default().push(consent);
    }
    let mut replaced = Vec::new();
    for of_type in by_type.into_values() {
        // The last of the greatest: the first, seen from behind.
        let Some(best) = of_type.iter().rev().max_by_key(|one| rank(one)) else {
            continue;
        };
        let others = of_type.iter().filter(|one| one.id != best.id);
        replaced.extend(others.map(|one| (one.id.uuid(), best.id.uuid())));
    }
    replaced
}

/// A consent is proof: besides its withdrawal, and that it no longer counts, it stays as it was
/// given. Only a merge gives it to the record that its person became part of (R-018, R-026).
#[derive(Debug)]
pub(crate) struct ConsentRules;

#[async_trait]
impl WriteRule for ConsentRules {
    fn object(&self) -> &'static str {
        "consent"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let (Some(before), Some(after)) = (write.before::<Consent>(), write.after::<Consent>())
        else {
            return Ok(());
        };
        let is_merge = work.take_note(after.id.uuid()).as_deref() == Some(BY_MERGE);
        if allows(&before.data, &after.data, is_merge) {
            return Ok(());
        }
        Err(RuleViolation::new(
            "consent_is_proof",
            "R-060",
            "a consent stays as it was given; withdraw it, or record a new one",
        )
        .into())
    }
}

/// Whether nothing changes but that the consent is withdrawn or replaced, or in a merge whose it is
/// and whether it counts.
fn allows(before: &Consent, after: &Consent, is_merge: bool) -> bool {
    let mut expected = before.clone();
    if is_merge {
        expected.contact_id = after.contact_id;
        expected.lead_id = after.lead_id;
        expected.is_active = after.is_active;
    }
    if before.status == ConsentStatus::Granted {
        expected.status = after.status;
        expected.withdrawn_at = after.withdrawn_at;
        expected
            .withdrawal_method
            .clone_from(&after.withdrawal_method);
    }
    if before.is_active {
        expected.is_active = after.is_active;
    }
    expected == *after
}

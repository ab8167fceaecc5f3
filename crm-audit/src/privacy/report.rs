//! [`GdprReport`]: what a tenant holds about persons, why, for how long, and what it did for them
//! (C-105).

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use crm_core::contacts::Contact;
use crm_core::error::Result;
use crm_core::leads::Lead;
use crm_core::privacy::{
    Consent, DeletionLog, DeletionReason, LegalHold, ProcessingActivity, RetentionPolicy,
};
use crm_core::query::{Aggregate, Find, MAX_LIMIT, WhereExt as _};
use crm_core::schema::{Entity, Lifecycle, Privacy, Row, ValueRef};
use crm_core::{Record, Session};
use serde::{Serialize, Serializer};
use serde_json::Value as Json;
use uuid::Uuid;

use super::PrivacyService;
use crate::archive;
use crate::event::{AuditCategory, AuditEvent, AuditKind};
use crate::streams::Window;

/// What a tenant holds about persons, why, for how long, and what it did for them: Articles 5, 15, 17
/// and 30 of the GDPR (C-105). It has counts and the tenant's own texts, and nothing of a person.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GdprReport {
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// What deletions, erasures and accesses it is about.
    pub period: Window,
    /// The register: what personal data is processed for, each with its lawful basis (C-063).
    #[serde(serialize_with = "flat")]
    pub activities: Vec<Arc<Record<ProcessingActivity>>>,
    /// For how long records are kept (C-065).
    #[serde(serialize_with = "flat")]
    pub retention_policies: Vec<Arc<Record<RetentionPolicy>>>,
    /// How many legal holds are active.
    pub legal_holds: u64,
    /// Consents by type, status and basis (C-064).
    pub consents: Vec<ConsentCount>,
    /// The persons that are held.
    pub persons: Vec<PersonCount>,
    /// The objects with personal fields, and how many of their records are held.
    pub held: Vec<HeldCount>,
    /// Records that went in the period, by object, method and reason (C-066).
    pub gone: Vec<GoneCount>,
    /// How many persons were erased in the period on their request.
    pub erasures: u64,
    /// How many times a person had access to what is held, in the period.
    pub access_requests: u64,
}

/// Each record as one flat JSON object.
fn flat<E: Entity, S: Serializer>(
    records: &[Arc<Record<E>>],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let rows = records.iter().map(|record| {
        let row: Row = record.clone();
        row.to_json()
    });
    serializer.collect_seq(rows)
}

/// Consents of one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConsentCount {
    /// What they are for.
    pub consent_type: String,
    /// Whether they were withdrawn.
    pub status: String,
    /// What allows the processing.
    pub lawful_basis: String,
    /// Whether they are the ones that count.
    pub is_active: bool,
    /// How many.
    pub count: u64,
}

/// Persons of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PersonCount {
    /// The object: contacts or leads.
    pub object: String,
    /// How many are neither deleted nor archived.
    pub live: u64,
    /// How many are archived.
    pub archived: u64,
    /// How many are deleted and can be restored.
    pub deleted: u64,
}

/// Records of one object with personal fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HeldCount {
    /// The object.
    pub object: String,
    /// Its name as people read it.
    pub label: String,
    /// Its fields that are personal, the tenant's own included.
    pub personal_fields: Vec<String>,
    /// How many records there are, archived and deleted ones included.
    pub records: u64,
}

/// Records that went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GoneCount {
    /// The object.
    pub object: String,
    /// What was done.
    pub method: String,
    /// Why.
    pub reason: String,
    /// How many entries the deletion log has.
    pub entries: u64,
    /// How many records had data that went.
    pub records: u64,
}

impl GdprReport {
    /// The report as one JSON document.
    #[must_use]
    pub fn to_json(&self) -> Json {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl PrivacyService<'_> {
    /// What the tenant holds about persons, why, for how long, and what it did for them in a period
    /// (C-105).
    ///
    /// The storage counts; the register and the policies are read whole. It takes one round trip for
    /// each object with personal fields.
    ///
    /// ```
    /// # use crm_core::{Session, Result};
    /// use crm_audit::{PrivacyExt, Window};
    /// # async fn example(session: &Session, year: Window) -> Result<()> {
    /// let report = session.privacy().gdpr_report(year).await?;
    /// println!("{} activities, {} erasures", report.activities.len(), report.erasures);
    /// println!("{}", report.to_json());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn gdpr_report(&self, period: Window) -> Result<GdprReport> {
        let session = self.session;
        let gone = gone(session, period).await?;
        let is_erasure =
            |one: &&GoneCount| one.reason == DeletionReason::ErasureRequest.to_string();
        let erasures = gone.iter().filter(is_erasure).map(|one| one.entries).sum();
        let holds = Find::from(LegalHold::IS_ACTIVE.eq(true));
        Ok(GdprReport {
            created_at: session.engine().clock().now(),
            period,
            activities: all(session).await?,
            retention_policies: all(session).await?,
            legal_holds: session.records::<LegalHold>().count(holds).await?,
            consents: consents(session).await?,
            persons: vec![
                persons::<Contact>(session).await?,
                persons::<Lead>(session).await?,
            ],
            held: held(session).await?,
            gone,
            erasures,
            access_requests: accesses(session, period).await?,
        })
    }
}

/// All records of a small object, archived ones too.
async fn all<E: Entity>(session: &Session) -> Result<Vec<Arc<Record<E>>>> {
    let find = Find::<E>::new().with_archived().limit(MAX_LIMIT);
    let mut page = session.records::<E>().find(find.clone()).await?;
    let mut records = Vec::new();
    loop {
        records.append(&mut page.items);
        let Some(next) = page.next else {
            return Ok(records);
        };
        page = session
            .records::<E>()
            .find(find.clone().after(next))
            .await?;
    }
}

fn text(key: ValueRef<'_>) -> String {
    key.as_text().unwrap_or_default().to_owned()
}

async fn consents(session: &Session) -> Result<Vec<ConsentCount>> {
    let by_type = Aggregate::<Consent>::new()
        .with_archived()
        .group_by(Consent::CONSENT_TYPE)
        .group_by(Consent::STATUS)
        .group_by(Consent::LAWFUL_BASIS)
        .group_by(Consent::IS_ACTIVE)
        .count();
    let groups = session.records::<Consent>().aggregate(by_type).await?;
    let counts = groups.iter().map(|group| ConsentCount {
        consent_type: text(group.key(0)),
        status: text(group.key(1)),
        lawful_basis: text(group.key(2)),
        is_active: group.key(3) == ValueRef::Boolean(true),
        count: group.count(0),
    });
    Ok(counts.collect())
}

async fn persons<E: Entity>(session: &Session) -> Result<PersonCount> {
    let records = session.records::<E>();
    let live = records.count(Find::new()).await?;
    let kept = records.count(Find::new().with_archived()).await?;
    let all = records
        .count(Find::new().with_archived().with_deleted())
        .await?;
    Ok(PersonCount {
        object: E::schema().name().to_owned(),
        live,
        archived: kept.saturating_sub(live),
        deleted: all.saturating_sub(kept),
    })
}

async fn held(session: &Session) -> Result<Vec<HeldCount>> {
    let registry = session.registry().await?;
    let mut held = Vec::new();
    for (name, object) in registry.objects().iter() {
        if object.lifecycle() == Lifecycle::Derived || object.is_template() {
            continue;
        }
        let own = object.fields().iter();
        let custom = object.custom_fields().iter().map(|custom| &custom.field);
        let personal = own
            .chain(custom)
            .filter(|field| field.privacy != Privacy::Public);
        let personal_fields: Vec<String> = personal.map(|field| field.name.to_string()).collect();
        if personal_fields.is_empty() {
            continue;
        }
        let every = Find::new().with_archived().with_deleted();
        let records = session.object(name).await?.count(&every).await?;
        held.push(HeldCount {
            object: name.clone(),
            label: object.label(),
            personal_fields,
            records,
        });
    }
    Ok(held)
}

async fn gone(session: &Session, period: Window) -> Result<Vec<GoneCount>> {
    let within = DeletionLog::CREATED_AT
        .ge(period.from)
        .and(DeletionLog::CREATED_AT.lt(period.until));
    let by_reason = Aggregate::<DeletionLog>::new()
        .filter(within)
        .group_by(DeletionLog::OBJECT)
        .group_by(DeletionLog::METHOD)
        .group_by(DeletionLog::REASON)
        .count()
        .sum(DeletionLog::RECORD_COUNT);
    let groups = session
        .records::<DeletionLog>()
        .aggregate(by_reason)
        .await?;
    let counts = groups.iter().map(|group| GoneCount {
        object: text(group.key(0)),
        method: text(group.key(1)),
        reason: text(group.key(2)),
        entries: group.count(0),
        records: group
            .number(1)
            .and_then(|sum| u64::try_from(sum.trunc().mantissa()).ok())
            .unwrap_or_default(),
    });
    Ok(counts.collect())
}

/// How many times a person had access: each is one commit that tells of reads of the person's own
/// records, other than those of sensitive objects. Archived events count too.
async fn accesses(session: &Session, period: Window) -> Result<u64> {
    let persons = [Contact::schema(), Lead::schema()].map(|object| object.name().to_owned());
    let reads = AuditEvent::EVENT
        .eq(AuditKind::Read)
        .and(AuditEvent::CATEGORY.ne(AuditCategory::DataAccess))
        .and(AuditEvent::OBJECT.one_of(persons))
        .and(AuditEvent::CREATED_AT.ge(period.from))
        .and(AuditEvent::CREATED_AT.lt(period.until));
    let by_commit = Aggregate::<()>::new()
        .filter_by_name(reads.into_filter())
        .group_by_name(AuditEvent::COMMIT_ID.name())
        .count();
    // The archive is read last: what is moved meanwhile is found there.
    let mut commits: HashSet<Uuid> = HashSet::new();
    for place in archive::places() {
        let groups = session.rows_of(place.clone()).aggregate(&by_commit).await?;
        commits.extend(groups.iter().filter_map(|group| group.key(0).as_uuid()));
    }
    Ok(commits.len() as u64)
}

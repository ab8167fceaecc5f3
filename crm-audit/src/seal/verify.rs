//! Comparing events with their seals.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use crm_core::engine::Progress;
use crm_core::error::{Error, Result};
use crm_core::query::{Condition, Find, WhereExt};
use crm_core::schema::Picklist;
use crm_core::storage::FeedPosition;
use crm_core::{Record, Session};
use uuid::Uuid;

use super::canonical::{Hash, hash_of, message, seal_hash};
use super::{AuditSeal, ENTRY, NO_HASH, SEAL_EVENTS, SealHead, SealVerifier};
use crate::AuditExt as _;
use crate::entries::entries;

/// How many seals are read at once.
const SEALS: usize = 20;

/// The most findings that are listed.
const LISTED: usize = 1_000;

/// What is verified, and against what.
#[derive(Clone)]
pub struct Verification<'a> {
    from: i64,
    to: i64,
    head: Option<SealHead>,
    verifier: Option<&'a dyn SealVerifier>,
    progress: &'a dyn Progress,
}

impl Default for Verification<'_> {
    fn default() -> Self {
        Self {
            from: 1,
            to: i64::MAX,
            head: None,
            verifier: None,
            progress: &(),
        }
    }
}

impl<'a> Verification<'a> {
    /// All seals; signatures are not looked at.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only the seals from one number to another, both included. The seals between which nothing is
    /// missing begin with 1.
    #[must_use]
    pub fn seals(mut self, from: i64, to: i64) -> Self {
        (self.from, self.to) = (from.max(1), to);
        self
    }

    /// Every seal is signed by a key that the verifier knows.
    #[must_use]
    pub const fn signed(mut self, verifier: &'a dyn SealVerifier) -> Self {
        self.verifier = Some(verifier);
        self
    }

    /// There is this seal, which was kept outside of the database; nothing, where none was made yet.
    #[must_use]
    pub fn head(mut self, head: Option<SealHead>) -> Self {
        self.head = head;
        self
    }

    /// Hears after each seal how many events were compared, and may stop.
    #[must_use]
    pub const fn progress(mut self, progress: &'a dyn Progress) -> Self {
        self.progress = progress;
        self
    }
}

impl fmt::Debug for Verification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verification")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

/// What does not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum SealProblem {
    /// The event is not as it was sealed.
    Changed,
    /// The event is not there any more, or not where it was.
    Removed,
    /// The event was not there when the seal was made.
    Inserted,
    /// The seal is not there.
    SealMissing,
    /// The seal is not as it was made: its events are not compared.
    SealChanged,
    /// The seal does not follow the one before it.
    LinkBroken,
    /// The seal is not signed.
    Unsigned,
    /// The signature is of another key, or over something else.
    SignatureWrong,
    /// The seal is another than the one that was kept outside.
    HeadDiffers,
}

/// Something that does not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealFinding {
    /// The number of the seal.
    pub seal: i64,
    /// The event, where it is about one.
    pub event: Option<Uuid>,
    /// What does not agree.
    pub problem: SealProblem,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SealReport {
    /// How many seals were looked at.
    pub seals: u64,
    /// How many events are as they were sealed.
    pub intact: u64,
    /// How many events are as they were sealed, but for values that were erased.
    pub erased: u64,
    /// How many events retention removed, as their time was over.
    pub removed: u64,
    /// How much does not agree.
    pub found: u64,
    /// What does not agree, up to 1,000 findings in the order of the seals.
    pub findings: Vec<SealFinding>,
    /// Whether the verification was stopped before its end.
    pub stopped: bool,
}

impl SealReport {
    /// Whether everything that was looked at agrees, erased values and events that retention removed
    /// apart.
    #[must_use]
    pub const fn is_intact(&self) -> bool {
        self.found == 0
    }

    fn add(&mut self, seal: i64, event: Option<Uuid>, problem: SealProblem) {
        self.found += 1;
        if self.findings.len() < LISTED {
            self.findings.push(SealFinding {
                seal,
                event,
                problem,
            });
        }
    }
}

/// Where a chain goes on.
struct Link {
    number: i64,
    hash: String,
    until: String,
}

/// Compares events with their seals.
pub(crate) async fn verify(
    session: &Session,
    verification: &Verification<'_>,
) -> Result<SealReport> {
    let Some(tenant) = session.tenant() else {
        return Err(Error::Forbidden {
            reason: "seals are verified in a tenant".into(),
        });
    };
    let tenant = tenant.uuid();
    let mut report = SealReport::default();
    let let_go = let_go_before(session).await?;
    let mut before = link_before(session, verification.from, &mut report).await?;
    let mut next = verification.from;
    let mut head = verification.head.as_ref();
    'all: loop {
        let seals = read(session, next, verification.to).await?;
        let is_last = seals.len() < SEALS;
        for seal in seals {
            for number in next..seal.number {
                report.add(number, None, SealProblem::SealMissing);
                before = None;
                if report.findings.len() >= LISTED {
                    break;
                }
            }
            next = seal.number.saturating_add(1);
            report.seals += 1;
            if let Some(kept) = head.take_if(|head| head.number == seal.number)
                && kept.hash != seal.hash
            {
                report.add(seal.number, None, SealProblem::HeadDiffers);
            }
            look(
                session,
                tenant,
                verification,
                &seal,
                before.as_ref(),
                let_go,
                &mut report,
            )
            .await?;
            before = Some(Link {
                number: seal.number,
                hash: seal.hash.clone(),
                until: seal.until_position.clone(),
            });
            let compared = report.intact + report.erased + report.removed;
            if verification.progress.report(compared, None).is_break() {
                report.stopped = true;
                break 'all;
            }
        }
        if is_last {
            break;
        }
    }
    if let Some(head) = head.filter(|head| head.number >= next && head.number <= verification.to)
        && !report.stopped
    {
        report.add(head.number, None, SealProblem::SealMissing);
    }
    Ok(report)
}

/// Before when retention let events go.
async fn let_go_before(session: &Session) -> Result<DateTime<Utc>> {
    let removals = session.audit().removals().await?;
    let last = removals.iter().map(|removal| removal.before).max();
    Ok(last.unwrap_or(DateTime::<Utc>::MIN_UTC))
}

/// The seal in front of the first one that is verified.
async fn link_before(
    session: &Session,
    from: i64,
    report: &mut SealReport,
) -> Result<Option<Link>> {
    if from <= 1 {
        return Ok(Some(Link {
            number: 0,
            hash: NO_HASH.to_owned(),
            until: FeedPosition::BEGINNING.to_string(),
        }));
    }
    let mut seals = read(session, from - 1, from - 1).await?;
    if seals.is_empty() {
        report.add(from - 1, None, SealProblem::SealMissing);
    }
    Ok(seals.pop().map(|seal| Link {
        number: seal.number,
        hash: seal.hash.clone(),
        until: seal.until_position.clone(),
    }))
}

/// Some seals, from a number on.
async fn read(session: &Session, from: i64, to: i64) -> Result<Vec<Arc<Record<AuditSeal>>>> {
    let numbers = AuditSeal::NUMBER.ge(from).and(AuditSeal::NUMBER.le(to));
    let find = Find::from(numbers)
        .sort(AuditSeal::NUMBER.asc())
        .with_archived()
        .with_deleted()
        .limit(SEALS);
    Ok(session.records::<AuditSeal>().find(find).await?.items)
}

/// Looks at one seal and its events.
async fn look(
    session: &Session,
    tenant: Uuid,
    verification: &Verification<'_>,
    seal: &Record<AuditSeal>,
    before: Option<&Link>,
    let_go: DateTime<Utc>,
    report: &mut SealReport,
) -> Result<()> {
    let number = seal.number;
    if let Some(before) = before
        && (before.number + 1 != number
            || before.hash != seal.previous
            || before.until != seal.after_position)
    {
        report.add(number, None, SealProblem::LinkBroken);
    }
    if let Some(verifier) = verification.verifier {
        match seal.key_id.as_deref().zip(seal.signature.as_deref()) {
            None => report.add(number, None, SealProblem::Unsigned),
            Some((key, signature)) => {
                let signature = STANDARD.decode(signature).unwrap_or_default();
                if !verifier.verify(key, &message(&seal.hash), &signature) {
                    report.add(number, None, SealProblem::SignatureWrong);
                }
            }
        }
    }
    let range = seal
        .after_position
        .parse()
        .ok()
        .zip(seal.until_position.parse().ok());
    let hashes = hashes_of(seal);
    let (Some((after, until)), Some(mut hashes)) = (range, hashes) else {
        report.add(number, None, SealProblem::SealChanged);
        return Ok(());
    };
    let is_whole = seal_hash(tenant, seal, seal.created) == seal.hash
        && seal.version == 1
        && seal.updated == seal.created
        && seal.archived_at.is_none()
        && seal.deleted_at.is_none()
        && hashes.len() == usize::try_from(seal.events).unwrap_or_default();
    if !is_whole {
        report.add(number, None, SealProblem::SealChanged);
        return Ok(());
    }
    let mut place: FeedPosition = after;
    while place < until {
        let found = entries(session, Some(place), &Condition::all(), SEAL_EVENTS).await?;
        for (position, event) in &found.events {
            if *position > until {
                break;
            }
            let id = event.id.uuid();
            match hashes.remove(&id) {
                None => report.add(number, Some(id), SealProblem::Inserted),
                Some(sealed) if hash_of(tenant, *position, event) != Some(sealed.hash) => {
                    report.add(number, Some(id), SealProblem::Changed);
                }
                Some(_) if event.redaction.is_some() => report.erased += 1,
                Some(_) => report.intact += 1,
            }
        }
        if found.until <= place {
            break;
        }
        place = found.until;
    }
    let mut missing: Vec<(usize, Uuid)> = Vec::new();
    for (id, sealed) in hashes {
        if sealed.made < let_go.timestamp_micros() {
            report.removed += 1;
        } else {
            missing.push((sealed.place, id));
        }
    }
    missing.sort_unstable();
    for (_, id) in missing {
        report.add(number, Some(id), SealProblem::Removed);
    }
    Ok(())
}

/// What a seal says of one of its events.
struct Sealed {
    place: usize,
    hash: Hash,
    /// In microseconds since 1970.
    made: i64,
}

/// What a seal says of its events; `None` where it cannot be read.
fn hashes_of(seal: &AuditSeal) -> Option<HashMap<Uuid, Sealed>> {
    let bytes = STANDARD.decode(&seal.hashes).ok()?;
    let mut all = HashMap::with_capacity(SEAL_EVENTS);
    let mut entries = bytes.chunks_exact(ENTRY);
    for (place, entry) in entries.by_ref().enumerate() {
        let (id, rest) = entry.split_at_checked(16)?;
        let (hash, made) = rest.split_at_checked(32)?;
        let sealed = Sealed {
            place,
            hash: Hash::try_from(hash).ok()?,
            made: i64::from_be_bytes(made.try_into().ok()?),
        };
        all.insert(Uuid::from_slice(id).ok()?, sealed);
    }
    entries.remainder().is_empty().then_some(all)
}

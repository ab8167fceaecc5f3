//! Closing ranges of events with seals.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crm_core::engine::Progress;
use crm_core::error::{Error, Result};
use crm_core::query::{Condition, Find};
use crm_core::storage::FeedPosition;
use crm_core::{Record, Session};

use super::canonical::{hash_of, message, seal_hash};
use super::{AuditSeal, ENTRY, NO_HASH, SEAL_EVENTS, SealHead, SealSigner};
use crate::entries::entries;

/// How events are sealed.
#[derive(Clone, Copy)]
pub struct Sealing<'a> {
    signer: Option<&'a dyn SealSigner>,
    progress: &'a dyn Progress,
}

impl Default for Sealing<'_> {
    fn default() -> Self {
        Self {
            signer: None,
            progress: &(),
        }
    }
}

impl<'a> Sealing<'a> {
    /// Without signatures, up to where the feed is settled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Signs each seal.
    #[must_use]
    pub const fn signed_by(mut self, signer: &'a dyn SealSigner) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Hears after each seal how many events are sealed, and may stop.
    #[must_use]
    pub const fn progress(mut self, progress: &'a dyn Progress) -> Self {
        self.progress = progress;
        self
    }
}

impl fmt::Debug for Sealing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing")
            .field("key_id", &self.signer.map(SealSigner::key_id))
            .finish_non_exhaustive()
    }
}

/// The newest seal of the tenant.
async fn newest(session: &Session) -> Result<Option<Arc<Record<AuditSeal>>>> {
    let find = Find::new().sort(AuditSeal::NUMBER.desc()).limit(1);
    let page = session.records::<AuditSeal>().find(find).await?;
    Ok(page.items.into_iter().next())
}

/// Seals all events that are settled.
pub(crate) async fn close(session: &Session, sealing: &Sealing<'_>) -> Result<Option<SealHead>> {
    let Some(tenant) = session.tenant() else {
        return Err(Error::Forbidden {
            reason: "events are sealed in a tenant".into(),
        });
    };
    let newest = newest(session).await?;
    let mut last: Option<AuditSeal> = newest.map(|seal| seal.data.clone());
    let mut sealed: u64 = 0;
    loop {
        let after = match &last {
            Some(seal) => seal.until_position.parse().map_err(|_| malformed())?,
            None => FeedPosition::BEGINNING,
        };
        let found = entries(session, Some(after), &Condition::all(), SEAL_EVENTS).await?;
        let is_last = found.events.len() < SEAL_EVENTS;
        let events = found.events.get(..SEAL_EVENTS).unwrap_or(&found.events);
        let Some((until, _)) = events.last() else {
            break;
        };
        let mut hashes = Vec::with_capacity(ENTRY * events.len());
        for (position, event) in events {
            hashes.extend(event.id.uuid().as_bytes());
            // An event that is broken already never agrees with its seal.
            hashes.extend(hash_of(tenant.uuid(), *position, event).unwrap_or_default());
            hashes.extend(event.created.at.timestamp_micros().to_be_bytes());
        }
        let mut seal = AuditSeal::new(
            last.as_ref().map_or(1, |seal| seal.number + 1),
            after.to_string(),
            until.to_string(),
            i64::try_from(events.len()).unwrap_or(i64::MAX),
            STANDARD.encode(hashes),
            last.as_ref()
                .map_or_else(|| NO_HASH.to_owned(), |seal| seal.hash.clone()),
            "",
        );
        let mut work = session.begin();
        seal.hash = seal_hash(tenant.uuid(), &seal, work.stamp());
        if let Some(signer) = sealing.signer {
            let signature = signer.sign(&message(&seal.hash)).await?;
            seal.key_id = Some(signer.key_id().to_owned());
            seal.signature = Some(STANDARD.encode(signature));
        }
        // Somebody else made the next seal meanwhile: a conflict.
        work.contend("audit_seal", &["number"]);
        work.append_entry(seal.clone())?;
        work.commit().await?;
        sealed = sealed.saturating_add(u64::try_from(events.len()).unwrap_or(u64::MAX));
        last = Some(seal);
        if sealing.progress.report(sealed, None).is_break() || is_last {
            break;
        }
    }
    Ok(last.as_ref().map(SealHead::from))
}

fn malformed() -> Error {
    Error::Storage(crm_core::storage::StorageError::Corrupt {
        object: "audit_seal".to_owned(),
        fields: vec![AuditSeal::UNTIL_POSITION.name().into_owned()],
    })
}

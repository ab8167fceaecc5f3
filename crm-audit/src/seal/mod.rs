//! Seals: a chain of hashes over the events, so that nobody changes, removes or inserts one unseen.
//!
//! ```text
//! seal 1 ◄───────── seal 2 ◄───────── seal 3        each holds the hash of the one before it
//! 1,000 events      1,000 events      312 events    in the order of the feed, without gaps
//! ```
//!
//! [`AuditTrail::seal`](crate::AuditTrail::seal) closes the range of events since the last seal, up
//! to where the feed is settled: what still may get an event in front of it is left to the next call.
//! A seal holds the hash of each of its events (SHA-256 over canonical JSON, RFC 8785), the hash of
//! the seal before it, and a signature if the host gives a [`SealSigner`].
//! [`AuditTrail::verify`](crate::AuditTrail::verify) goes through seals and events again, archived
//! ones too, and names every event that is not as it was.
//!
//! What it proves, and what not:
//!
//! - Events that came after the last seal are not protected yet: seal often.
//! - Who may write to the database can make all seals anew. So let them be signed by a key that is
//!   elsewhere, or keep the [`SealHead`] that `seal` gives where nobody can change it, and give it to
//!   [`Verification::head`]. That also shows that the newest seals are missing.
//! - Values that may have to be erased are in an event's hash as salted commitments. An erasure
//!   ([`erase`](crate::PrivacyService::erase)) leaves the commitment in the place of the value, so the seal still
//!   holds; a value cannot come back as another one. Such events are counted as
//!   [`erased`](SealReport::erased), not as intact: whether each of them was erased for a reason is
//!   told by the log of deletions. When and by whom an event was redacted last is not sealed.
//!
//! - Events that [retention](crm_core::privacy::Retention) removed as their time was over are counted as
//!   [`removed`](SealReport::removed): those that were made before the moment of which an event of the
//!   trail says that the months before it went ([`removals`](crate::AuditTrail::removals)). A seal tells
//!   when each of its events was made, so none that is younger is missing unseen. That event is sealed
//!   with the others; the log of deletions tells how many went, and by which policy. Months that the
//!   owner of the database drops for all tenants at once are told by nobody, and are missing.
//!
//! ```
//! # use crm_core::{Session, Result};
//! use crm_audit::{AuditExt, Sealing, Verification};
//! use crm_audit::seal::{Ed25519Signer, Ed25519Verifier};
//! # async fn example(session: &Session, secret: &[u8; 32]) -> Result<()> {
//! let signer = Ed25519Signer::new("2026", secret);
//! let head = session.audit().seal(Sealing::new().signed_by(&signer)).await?;
//!
//! let keys = Ed25519Verifier::new().key("2026", signer.public_key()).expect("a public key");
//! let verification = Verification::new().signed(&keys).head(head);
//! let report = session.audit().verify(verification).await?;
//! if !report.is_intact() {
//!     for finding in &report.findings {
//!         println!("seal {}: {}, event {:?}", finding.seal, finding.problem, finding.event);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod canonical;
mod close;
pub(crate) mod commitment;
mod sign;
mod verify;

use std::fmt;

use crm_core::schema::Entity;

pub use close::Sealing;
pub(crate) use close::close;
pub use sign::{Ed25519Signer, Ed25519Verifier, SealSigner, SealVerifier};
pub(crate) use verify::verify;
pub use verify::{SealFinding, SealProblem, SealReport, Verification};

/// The most events under one seal.
pub const SEAL_EVENTS: usize = 1_000;

/// How many bytes a seal has for each event: its id, its hash, and when it was made.
const ENTRY: usize = 16 + 32 + 8;

/// What stands in the first seal for the hash of the one before it.
pub(crate) const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A seal over a range of events.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "audit_seal", table = "audit_seals", log, unique(number))]
pub struct AuditSeal {
    /// Counts the tenant's seals, from 1.
    #[field(required, min = 1)]
    pub number: i64,
    /// The place in the feed behind which its events begin: where the seal before it ends.
    #[field(required, max_len = 48)]
    pub after_position: String,
    /// The place of its last event.
    #[field(required, max_len = 48)]
    pub until_position: String,
    /// How many events it has, from 1 to 1,000.
    #[field(required, min = 1, max = 1_000)]
    pub events: i64,
    /// For each event its id, its hash and when it was made, in microseconds since 1970: 56 bytes, in
    /// Base64.
    #[field(required, max_len = 75_000)]
    pub hashes: String,
    /// The hash of the seal before it, in hexadecimal digits; zeros in the first one.
    #[field(required, max_len = 64)]
    pub previous: String,
    /// The hash over all of the above, and when and by whom the seal was made.
    #[field(required, max_len = 64)]
    pub hash: String,
    /// The key that signed it.
    #[field(max_len = 100)]
    pub key_id: Option<String>,
    /// The signature of the hash, in Base64.
    #[field(max_len = 700)]
    pub signature: Option<String>,
}

/// The newest seal: what to keep outside of the database.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SealHead {
    /// The number of the seal.
    pub number: i64,
    /// Its hash, in hexadecimal digits.
    pub hash: String,
}

impl fmt::Display for SealHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

impl From<&AuditSeal> for SealHead {
    fn from(seal: &AuditSeal) -> Self {
        Self {
            number: seal.number,
            hash: seal.hash.clone(),
        }
    }
}

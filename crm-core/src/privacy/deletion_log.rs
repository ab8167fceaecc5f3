//! [`DeletionLog`]: that data went, when and why, without what it was (C-066).

use uuid::Uuid;

use crate::schema::{Entity, Picklist};

/// One entry for each record whose data was deleted or erased: proof that it happened (C-066).
///
/// It holds nothing of what went, so it may be kept for as long as the law wants proof. When, and
/// by whom, is told by the entry's `created`.
///
/// ```
/// # use crm_core::{Session, error::Result, query::Filter};
/// # async fn example(session: &Session) -> Result<()> {
/// use crm_core::privacy::DeletionLog;
///
/// let erased = DeletionLog::OBJECT.eq("contact");
/// for entry in session.records::<DeletionLog>().find(erased).await?.items {
///     println!("{} {}: {} values", entry.created.at, entry.reason, entry.value_count);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "deletion_log",
    table = "deletion_logs",
    log,
    index(record_id),
    index(object, created_at)
)]
pub struct DeletionLog {
    /// The object of the record.
    #[field(required, max_len = 100)]
    pub object: String,
    /// The record.
    #[field(required)]
    pub record_id: Uuid,
    /// What was done.
    #[field(required)]
    pub method: DeletionMethod,
    /// Why.
    #[field(required)]
    pub reason: DeletionReason,
    /// The law, contract or file number that it rests on; never anything about the person.
    #[field(max_len = 255)]
    pub legal_reference: Option<String>,
    /// How many records had data of it, the record itself included.
    #[field(required, min = 0)]
    pub record_count: i64,
    /// How many values went, those in the audit trail included.
    #[field(required, min = 0)]
    pub value_count: i64,
}

/// What was done to data that went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum DeletionMethod {
    /// The record was deleted and can be restored.
    SoftDelete,
    /// The record was removed for good.
    HardDelete,
    /// The record stays without anything that tells of a person.
    Anonymize,
    /// The record was moved to the archive.
    Archive,
}

/// Why data went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum DeletionReason {
    /// The person asked for it: Article 17 of the GDPR.
    #[default]
    ErasureRequest,
    /// The person withdrew the consent that the processing rested on.
    ConsentWithdrawn,
    /// The person objected to the processing: Article 21 of the GDPR.
    Objection,
    /// It was kept for as long as a policy says.
    RetentionEnded,
    /// It should never have been kept.
    UnlawfulProcessing,
    /// A law demands it.
    LegalObligation,
}

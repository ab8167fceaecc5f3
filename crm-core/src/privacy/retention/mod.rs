//! Retention: for how long records are kept, and what becomes of them then (C-065, C-082, R-058).
//!
//! A [`RetentionPolicy`] is a record of the tenant. [`Retention::dry_run`] tells what a policy would
//! do, [`Retention::run`] does it, some hundred records in a commit; each record that went has a
//! [`DeletionLog`](super::DeletionLog). A [`LegalHold`] keeps records from every policy, and from
//! the erasure of a person.
//!
//! Logs that lie by months, the event log among them, are not run over record by record: a run moves
//! or removes the tenant's entries of whole months. Tenants keep their entries for as long as each of them
//! wants, so a month of the database is emptied tenant by tenant; what is left of it is dropped at once,
//! for all tenants, by the maintenance of the storage.

mod defaults;
mod months;
mod period;
mod plan;
mod rules;
mod run;
mod standing;

pub use defaults::{AUDIT_OBJECT, default_policies};
pub use months::PolicyMonth;
pub use period::{Period, PeriodUnit};
pub use run::{PolicyRun, Refused, Retention, Upkeep};
#[doc(hidden)]
pub use standing::StandingHolds;

pub(crate) use rules::{HoldRules, PolicyRules};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::DeletionMethod;
use crate::error::{Faults, codes};
use crate::query::Criteria;
use crate::schema::Entity;

/// For how long records of an object are kept, and what becomes of them then (C-065, R-058).
///
/// ```
/// use crm_core::leads::{Lead, LeadStatus};
/// use crm_core::privacy::{DeletionMethod, RetentionPolicy};
/// use crm_core::query::Criteria;
///
/// // Persons who turned out to be no customers have no names after three years.
/// let policy = RetentionPolicy {
///     criteria: Some(Criteria::from(Lead::STATUS.eq(LeadStatus::Disqualified))),
///     basis_field: "last_activity_at".into(),
///     basis_if_empty: Some("created_at".into()),
///     ..RetentionPolicy::new("lost leads", "lead", DeletionMethod::Anonymize, 3)
/// };
/// assert!(policy.is_active);
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "retention_policy",
    table = "retention_policies",
    unique(name; ignore_case, live),
    index(object)
)]
pub struct RetentionPolicy {
    /// Name.
    #[field(required, max_len = 150, searchable)]
    pub name: String,
    /// Notes.
    #[field(multiline)]
    pub description: Option<String>,
    /// The object whose records it is about, also one that the tenant defined.
    #[field(required, max_len = 100)]
    pub object: String,
    /// What becomes of a record.
    #[field(required)]
    pub method: DeletionMethod,
    /// How many days, months or years records are kept; years if nothing else is said.
    #[field(required, min = 1, max = 36_500)]
    pub period: i32,
    /// What is counted.
    pub period_unit: PeriodUnit,
    /// From when on it is counted: a date or moment of the record, custom fields included.
    #[field(max_len = 150, default = "created_at".to_owned())]
    pub basis_field: String,
    /// The date or moment that counts where that is empty. A record that has neither is kept.
    #[field(max_len = 150)]
    pub basis_if_empty: Option<String>,
    /// Which records; all of the object if nothing is said.
    pub criteria: Option<Criteria>,
    /// The law or contract that it rests on, which entries of the deletion log name.
    #[field(max_len = 255)]
    pub legal_reference: Option<String>,
    /// Whether runs follow it.
    #[field(default = true)]
    pub is_active: bool,
}

impl RetentionPolicy {
    /// For how long records are kept.
    #[must_use]
    pub const fn kept_for(&self) -> Period {
        Period {
            count: self.period,
            unit: self.period_unit,
        }
    }

    /// Before when the basis of a record is whose time is over at a moment.
    #[must_use]
    pub fn cutoff(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.kept_for().before(now)
    }
}

/// A record, or records, that no retention policy touches while it is active, nor the erasure of a
/// person: for a lawsuit or an audit (GDPR Art. 17 (3) (e)).
///
/// A record that would only go with another one, as its comments do, keeps that other one too.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "legal_hold",
    table = "legal_holds",
    index(object, record_id),
    check = check_hold
)]
pub struct LegalHold {
    /// Name, such as that of the lawsuit.
    #[field(required, max_len = 150, searchable)]
    pub name: String,
    /// Why.
    #[field(multiline)]
    pub reason: Option<String>,
    /// The object whose records are held.
    #[field(required, max_len = 100)]
    pub object: String,
    /// The one record that is held; either this or `criteria`.
    pub record_id: Option<Uuid>,
    /// Which records are held, by their own fields.
    pub criteria: Option<Criteria>,
    /// Whether it holds.
    #[field(default = true)]
    pub is_active: bool,
}

fn check_hold(hold: &LegalHold, faults: &mut Faults) {
    let (record, criteria) = (LegalHold::RECORD_ID.name(), LegalHold::CRITERIA.name());
    let is_refused = faults.has(&record) || faults.has(&criteria);
    if !is_refused && hold.record_id.is_some() == hold.criteria.is_some() {
        let message = "name either the record or criteria";
        faults.add(record, codes::INCONSISTENT, message);
    }
}

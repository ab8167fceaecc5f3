//! [`forget_anonymized`]: what retention takes from records goes from their versions too.

use std::collections::BTreeMap;

use crm_core::engine::UnitOfWork;
use crm_core::error::Result;
use crm_core::privacy::is_anonymized;
use crm_core::privacy::retention::StandingHolds;
use crm_core::schema::Row;
use uuid::Uuid;

use super::erase::forget;
use super::trail;
use crate::event::{AuditEvent, FieldChange};
use crate::seal::commitment::Side;

/// Takes from the events of the records that a unit of work anonymises what goes from the records:
/// page by page, in commits of their own before that of the records, so that it needs the memory of
/// one page however long their history is. Where a record is written meanwhile, the commit of the
/// records is a conflict and runs again, so no event slips through; one that is cut off leaves records
/// whose time is over, and does the rest when it runs again. What a legal hold keeps that was set
/// meanwhile stays.
pub(crate) async fn forget_anonymized(work: &UnitOfWork) -> Result<()> {
    let mut by_object: BTreeMap<String, BTreeMap<Uuid, (Row, Row)>> = BTreeMap::new();
    for change in work.staged() {
        if let (Some(before), Some(after)) = (change.before(), change.after())
            && work.is_anonymization(change.id())
        {
            let of_object = by_object.entry(change.object().name().to_owned());
            let rows = (before.clone(), after.clone());
            of_object.or_default().insert(change.id(), rows);
        }
    }
    for (object, records) in by_object {
        let ids: Vec<Uuid> = records.keys().copied().collect();
        let is_meant = |event: &AuditEvent, _: Side, change: &FieldChange| {
            let rows = records.get(&event.record_id);
            rows.is_some_and(|(was, is)| is_anonymized(was, is, &change.field))
        };
        let kept_by = |holds: &StandingHolds| {
            let rows = records.values().map(|(was, _)| was);
            rows.flat_map(|row| holds.of_row(row)).collect()
        };
        let events = trail::of(&object, &ids);
        forget(work.session(), events, &is_meant, &kept_by).await?;
    }
    Ok(())
}

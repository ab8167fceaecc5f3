//! [`forget_anonymized`]: what retention takes from records goes from their versions too.

use std::collections::BTreeMap;

use crm_core::engine::UnitOfWork;
use crm_core::error::Result;
use crm_core::privacy::is_anonymized;
use crm_core::schema::Row;
use uuid::Uuid;

use super::erase::tells;
use super::trail;
use crate::redact::redact;

/// Takes from the events of the records that a unit of work anonymises what goes from the records, in
/// the same commit. Where a record is written meanwhile, the commit is a conflict and runs again, so no
/// event slips through.
pub(crate) async fn forget_anonymized(work: &mut UnitOfWork) -> Result<()> {
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
        let mut after = None;
        loop {
            let page = trail::page(work, trail::of(&object, &ids), after).await?;
            for event in &page {
                let Some((was, is)) = records.get(&event.record_id) else {
                    continue;
                };
                let goes = |field: &str| is_anonymized(was, is, field);
                if tells(event, &|change| goes(&change.field)) {
                    redact(work, event, goes)?;
                }
            }
            after = page.last().map(|event| event.id.uuid());
            if page.len() < trail::PAGE {
                break;
            }
        }
    }
    Ok(())
}

//! What is checked when a formula, a roll-up or a rule is defined.

use std::sync::Arc;

use crm_core::engine::Write;
use crm_core::error::Result;
use crm_core::query::{Condition, Query};
use crm_core::value::{TextValue as _, TimeZone};
use crm_core::{Record, UnitOfWork};

use super::Program;
use crate::tenant::Defined;
use crate::{CustomField, CustomFieldRule};

/// Adds what is wrong with a formula or roll-up, among all others of the tenant. Where records have
/// it already, it has to be computed for them.
pub(crate) async fn check_field(
    work: &UnitOfWork,
    field: &Record<CustomField>,
    write: &mut Write,
) -> Result<()> {
    let mut defined = Defined::load(work).await?;
    defined.fields.retain(|other| other.id != field.id);
    defined.fields.push(Arc::new(field.clone()));
    let registry = defined.registry(work);
    let program = Program::new(&defined, &registry, TimeZone::UTC);
    for fault in program.faults_of(field.id.uuid()) {
        write.faults().push(fault.clone());
    }
    // Others may come to stand too far from what was written.
    if let Some(fault) = program.too_deep().filter(|_| write.faults().is_empty()) {
        write.faults().push(fault.clone());
    }
    if let Some(object) = registry.object(field.object.as_str()) {
        let any = Query::new(&object, Condition::not_deleted()).limit(1);
        let is_used = !work.select(&any).await?.is_empty();
        let since = is_used.then(|| work.now());
        write.edit(|field: &mut CustomField| field.stale_since = since);
    }
    Ok(())
}

/// Adds what is wrong with a rule.
pub(crate) async fn check_rule(
    work: &UnitOfWork,
    rule: &Record<CustomFieldRule>,
    write: &mut Write,
) -> Result<()> {
    let mut defined = Defined::load(work).await?;
    defined.rules = vec![Arc::new(rule.clone())];
    let registry = defined.registry(work);
    let program = Program::new(&defined, &registry, TimeZone::UTC);
    for fault in program.faults_of(rule.id.uuid()) {
        write.faults().push(fault.clone());
    }
    Ok(())
}

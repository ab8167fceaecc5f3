//! [`DuplicateRuleKeys`]: rules about duplicates follow the custom fields that they compare.

use std::sync::Arc;

use async_trait::async_trait;
use crm_core::Record;
use crm_core::duplicates::{DuplicateRule, KeyState};
use crm_core::engine::{CommitHook, UnitOfWork};
use crm_core::error::Result;
use crm_core::query::{Condition, Query};
use crm_core::schema::{Entity as _, FieldValue as _, Row};
use crm_core::value::TextValue as _;

use crate::CustomField;
use crate::uses::{Names, is_named};

/// Says of the rules about duplicates that compare a custom field whose type changes, or that comes or
/// goes, that their keys have to be built again, in the commit of the definition.
#[derive(Debug)]
pub(crate) struct DuplicateRuleKeys;

#[async_trait]
impl CommitHook for DuplicateRuleKeys {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let mut changed: Vec<Arc<Record<CustomField>>> = Vec::new();
        for change in work.staged() {
            if change.object() != CustomField::schema() {
                continue;
            }
            let field = |row: Option<&Row>| Record::<CustomField>::from_row(row.cloned()?);
            let (before, after) = (field(change.before()), field(change.after()));
            let Some(known) = after.as_ref().or(before.as_ref()).cloned() else {
                continue;
            };
            let kind = |field: &Arc<Record<CustomField>>| {
                field.deleted_at.is_none().then(|| field.field_type.clone())
            };
            if before.as_ref().and_then(kind) != after.as_ref().and_then(kind) {
                changed.push(known);
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let schema = DuplicateRule::schema();
        let Some(state) = schema.field_index(&DuplicateRule::STATE.name()) else {
            return Ok(());
        };
        let rules = Query::new(schema, Condition::not_deleted());
        for row in work.select(&rules).await? {
            let Some(rule) = Record::<DuplicateRule>::from_row(row.clone()) else {
                continue;
            };
            let compares = |field: &Arc<Record<CustomField>>| {
                field.object.as_str() == rule.object && is_named(&Names::of(field), &row)
            };
            if rule.state == KeyState::Ready && changed.iter().any(compares) {
                let building = KeyState::Building.value().into_owned();
                work.keep_values(&row, vec![(state, building)]).await?;
            }
        }
        Ok(())
    }
}

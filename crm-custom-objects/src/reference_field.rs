//! [`ReferenceFields`]: the field of a relationship follows it.

use std::sync::Arc;

use async_trait::async_trait;
use crm_core::engine::{CommitHook, StagedChange, UnitOfWork};
use crm_core::error::{Faults, Result, RuleViolation, codes};
use crm_core::query::{Condition, Query};
use crm_core::schema::{Entity, Row, Value};
use crm_core::{Id, Record};
use uuid::Uuid;

use crate::{CustomField, CustomRelationship};

/// Makes the field of a lookup or master-detail relationship in the commit that makes the relationship,
/// and changes it with the relationship. Nothing else changes what the two have in common, and the
/// field goes only with its relationship.
#[derive(Debug)]
pub(crate) struct ReferenceFields;

#[async_trait]
impl CommitHook for ReferenceFields {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let changed: Vec<Arc<Record<CustomRelationship>>> = work
            .staged()
            .iter()
            .filter(|change| change.object() == CustomRelationship::schema())
            .filter_map(|change| live(change.after()))
            .collect();
        for relationship in changed {
            follow(work, &relationship).await?;
        }
        let is_field = |change: &&StagedChange| change.object() == CustomField::schema();
        let fields: Vec<(Option<Row>, Option<Row>)> = work
            .staged()
            .iter()
            .filter(is_field)
            .map(|change| (change.before().cloned(), change.after().cloned()))
            .collect();
        for (before, after) in fields {
            judge(work, before.as_ref(), after.as_ref()).await?;
        }
        Ok(())
    }
}

fn live<E: Entity>(row: Option<&Row>) -> Option<Arc<Record<E>>> {
    let row = row.filter(|row| !row.is_deleted())?;
    Record::from_row(row.clone())
}

/// Lets a field take over what its relationship says of it.
fn take_over(field: &mut CustomField, wanted: &CustomField) {
    field.api_name.clone_from(&wanted.api_name);
    field.field_type.clone_from(&wanted.field_type);
    field.is_required = wanted.is_required;
    field.is_unique = wanted.is_unique;
    field.is_active = wanted.is_active;
}

/// Makes or changes the field of a relationship.
async fn follow(work: &mut UnitOfWork, relationship: &Record<CustomRelationship>) -> Result<()> {
    let Some(wanted) = relationship.reference_field() else {
        return Ok(());
    };
    let Some(field) = field_of(work, relationship.id.uuid()).await? else {
        let field = CustomField {
            relationship_id: Some(relationship.id),
            ..wanted
        };
        work.create(field).await?;
        return Ok(());
    };
    let mut changed = field.data.clone();
    take_over(&mut changed, &wanted);
    if changed != field.data {
        let change = |field: &mut CustomField| take_over(field, &wanted);
        work.update_record(field, &change).await?;
    }
    Ok(())
}

/// The field of a relationship.
async fn field_of(work: &UnitOfWork, id: Uuid) -> Result<Option<Arc<Record<CustomField>>>> {
    let schema = CustomField::schema();
    let Some(place) = schema.field_index("relationship_id") else {
        return Ok(None);
    };
    let of = Condition::equals(place, Value::Uuid(id)).and(Condition::not_deleted());
    let rows = work.select(&Query::new(schema, of).limit(1)).await?;
    Ok(rows.into_iter().next().and_then(Record::from_row))
}

/// Refuses what a field of a relationship does on its own.
async fn judge(work: &mut UnitOfWork, before: Option<&Row>, after: Option<&Row>) -> Result<()> {
    let was = live::<CustomField>(before);
    let is = live::<CustomField>(after);
    let either = is.as_ref().or(was.as_ref());
    let Some(id) = either.and_then(|field| field.relationship_id) else {
        return Ok(());
    };
    let found = work.records::<CustomRelationship>().get_all(&[id]).await?;
    let Some(relationship) = found.into_iter().next() else {
        return Ok(());
    };
    let Some(field) = is else {
        return Err(RuleViolation::new(
            "relationship_field",
            "R-070",
            "the field belongs to a relationship: delete the relationship instead",
        )
        .into());
    };
    let Some(wanted) = relationship.reference_field() else {
        return Ok(());
    };
    work.rely_on(&*relationship);
    let mut faults = Faults::default();
    let differing = [
        (
            field.api_name != wanted.api_name,
            CustomField::API_NAME.name(),
        ),
        (
            field.field_type != wanted.field_type,
            CustomField::FIELD_TYPE.name(),
        ),
        (
            field.is_required != wanted.is_required,
            CustomField::IS_REQUIRED.name(),
        ),
        (
            field.is_unique != wanted.is_unique,
            CustomField::IS_UNIQUE.name(),
        ),
        (
            field.is_active != wanted.is_active,
            CustomField::IS_ACTIVE.name(),
        ),
    ];
    for (_, path) in differing.into_iter().filter(|(differs, _)| *differs) {
        let message = "follows from the relationship of the field: change it there";
        faults.add(path, codes::INCONSISTENT, message);
    }
    faults.into_result()?;
    Ok(())
}

/// The definition of a relationship by its id.
pub(crate) async fn relationship(
    work: &UnitOfWork,
    id: Uuid,
) -> Result<Option<Arc<Record<CustomRelationship>>>> {
    let id: Id<CustomRelationship> = Id::new(id);
    let row = work.row(CustomRelationship::schema(), id.uuid()).await?;
    Ok(live(row.as_ref()))
}

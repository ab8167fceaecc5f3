//! How often custom fields are used, and when last (R-073, C-102, C-173).

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use crm_core::engine::UsageCount;
use crm_core::error::{Error, Result};
use crm_core::query::{AggregateQuery, Condition, FieldAt, Grouping, Query};
use crm_core::schema::{Entity, FieldValue as _, ObjectRef, SYSTEM_FIELDS, Value};
use crm_core::value::ApiName;
use crm_core::{Id, Record, Session, UnitOfWork};
use serde::Serialize;
use uuid::Uuid;

use crate::checks::pass_for_values;
use crate::service::ATTEMPTS;
use crate::uses::object_of;
use crate::values::hook::FIELD_ID;
use crate::{CustomField, CustomValue, IndexState};

/// How many fields get their figures in one commit.
const BATCH: usize = 500;

/// The place of [`CustomField::object`], the first field of the struct.
const OBJECT: usize = SYSTEM_FIELDS;

/// What the uses of one custom field came to so far: a row beside the definition, with the same id,
/// so that a use changes neither the definition nor the version of the tenant's definitions. They are
/// of this engine: where a tenant moves to another one, they start anew.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "custom_field_usage", table = "custom_field_usages", derived)]
pub struct CustomFieldUsage {
    /// The field. Its figures go with it.
    #[field(required, references = "custom_field", on_delete = "cascade", indexed)]
    pub field_id: Id<CustomField>,
    /// How many records were committed with another value than before.
    #[field(required, min = 0)]
    pub written_count: i64,
    /// How many times records were filtered, sorted, grouped or computed by it.
    #[field(required, min = 0)]
    pub queried_count: i64,
    /// The last of these.
    #[field(required)]
    pub last_used_at: DateTime<Utc>,
}

/// How often a custom field was used, and when last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UsageFigures {
    /// How often it was used: written and queried.
    pub usage_count: u64,
    /// How many records were committed with another value than before, by whomever; what the engine
    /// computes does not count.
    pub written_count: u64,
    /// How many times records were filtered, sorted, grouped or computed by it.
    pub queried_count: u64,
    /// The last of these; none of a field that was never used.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl UsageFigures {
    fn of(usage: &CustomFieldUsage) -> Self {
        let count = |count: i64| u64::try_from(count).unwrap_or_default();
        let (written_count, queried_count) =
            (count(usage.written_count), count(usage.queried_count));
        Self {
            usage_count: written_count.saturating_add(queried_count),
            written_count,
            queried_count,
            last_used_at: Some(usage.last_used_at),
        }
    }
}

/// The use of one field of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldUsage {
    /// The field.
    pub field: Id<CustomField>,
    /// Its name.
    pub api_name: ApiName,
    /// Its name as people read it.
    pub label: String,
    /// How often it was used, and when last.
    #[serde(flatten)]
    pub figures: UsageFigures,
    /// How many live records have a value now.
    pub records: u64,
}

/// Uses on their way into the storage: those that are not known to be there are given back, also where
/// nobody waits for the outcome any more.
struct Taken<'s> {
    session: &'s Session,
    uses: BTreeMap<Uuid, UsageCount>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let uses = std::mem::take(&mut self.uses);
        self.session.give_back_field_usage(uses);
    }
}

/// Adds the uses that this process has counted to the figures; how many fields were used.
pub(crate) async fn record(session: &Session) -> Result<u64> {
    let mut taken = Taken {
        session,
        uses: session.take_field_usage(),
    };
    let mut recorded = 0;
    let ids: Vec<Uuid> = taken.uses.keys().copied().collect();
    for batch in ids.chunks(BATCH) {
        let mut attempt = 1;
        loop {
            let mut work = session.begin();
            let known = stage(&mut work, batch, &taken.uses).await?;
            // From here on they may be in the storage, whatever is heard of it.
            let on_their_way = batch.iter().filter_map(|id| taken.uses.remove_entry(id));
            let on_their_way: BTreeMap<Uuid, UsageCount> = on_their_way.collect();
            match work.commit().await {
                Ok(_) => {
                    recorded += known;
                    break;
                }
                // Nobody knows what became of them: rather lost than counted twice.
                Err(error @ Error::Storage(_)) => return Err(error),
                Err(error) => {
                    taken.uses.extend(on_their_way);
                    match error {
                        Error::Conflict { .. } if attempt < ATTEMPTS => attempt += 1,
                        error => return Err(error),
                    }
                }
            }
        }
    }
    Ok(recorded)
}

/// Stages the figures of some fields with their uses added; how many there are. Uses of fields that
/// were removed for good are forgotten.
async fn stage(
    work: &mut UnitOfWork,
    fields: &[Uuid],
    uses: &BTreeMap<Uuid, UsageCount>,
) -> Result<u64> {
    let schema = CustomFieldUsage::schema();
    let definitions = work.rows(CustomField::schema(), fields).await?;
    let stored = work.rows(schema, fields).await?;
    let mut stored: HashMap<Uuid, _> = stored.into_iter().map(|row| (row.id(), row)).collect();
    // Another process may make them at the same time.
    work.contend(schema.name(), &["id"]);
    let mut known = 0;
    for definition in definitions {
        let id = definition.id();
        let Some(uses) = uses.get(&id) else { continue };
        // It is not removed meanwhile.
        work.rely_on(&*definition);
        let before = stored.remove(&id);
        let old = before
            .clone()
            .and_then(Record::<CustomFieldUsage>::from_row);
        let old = old.map(|old| old.data.clone());
        work.keep_derived(id, before, added(Id::new(id), old, uses));
        known += 1;
    }
    Ok(known)
}

/// Figures with uses added.
fn added(
    field_id: Id<CustomField>,
    old: Option<CustomFieldUsage>,
    uses: &UsageCount,
) -> CustomFieldUsage {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let new = CustomFieldUsage {
        field_id,
        written_count: count(uses.written),
        queried_count: count(uses.queried),
        last_used_at: uses.last_used_at,
    };
    match old {
        None => new,
        Some(old) => CustomFieldUsage {
            field_id,
            written_count: old.written_count.saturating_add(new.written_count),
            queried_count: old.queried_count.saturating_add(new.queried_count),
            last_used_at: old.last_used_at.max(new.last_used_at),
        },
    }
}

/// The figures of one field.
pub(crate) async fn figures(work: &UnitOfWork, field: Id<CustomField>) -> Result<UsageFigures> {
    let row = work.row(CustomFieldUsage::schema(), field.uuid()).await?;
    let usage = row.and_then(Record::<CustomFieldUsage>::from_row);
    Ok(usage.map_or_else(UsageFigures::default, |usage| UsageFigures::of(&usage)))
}

/// The use of all live fields of an object, in the order to show them.
pub(crate) async fn of_object(work: &UnitOfWork, object: &str) -> Result<Vec<FieldUsage>> {
    let own = Condition::equals(OBJECT, Value::Text(object.to_owned()));
    let own = Condition::not_deleted().and(own);
    let fields = work.select(&Query::new(CustomField::schema(), own)).await?;
    let fields = fields.into_iter();
    let mut fields: Vec<_> = fields.filter_map(Record::<CustomField>::from_row).collect();
    fields.sort_by_key(|field| (field.display_order, field.id));
    let ids: Vec<Uuid> = fields.iter().map(|field| field.id.uuid()).collect();
    let usages = work.rows(CustomFieldUsage::schema(), &ids).await?;
    let usages = usages.into_iter();
    let usages: HashMap<Uuid, UsageFigures> = usages
        .filter_map(Record::<CustomFieldUsage>::from_row)
        .map(|usage| (usage.id.uuid(), UsageFigures::of(&usage)))
        .collect();
    let is_kept = |field: &CustomField| field.index_state == IndexState::Ready;
    let kept: Vec<Value> = fields
        .iter()
        .filter(|field| is_kept(field))
        .map(|field| field.id.value().into_owned())
        .collect();
    let typed = count_typed(work, kept).await?;
    let mut all = Vec::with_capacity(fields.len());
    for field in fields {
        let id = field.id.uuid();
        let records = match is_kept(&field) {
            true => typed.get(&id).copied().unwrap_or_default(),
            false => match object_of(work, &field) {
                Some(object) => count_in_documents(work, &object, &field).await?,
                None => 0,
            },
        };
        all.push(FieldUsage {
            field: field.id,
            api_name: field.api_name.clone(),
            label: field.label.clone(),
            figures: usages.get(&id).copied().unwrap_or_default(),
            records,
        });
    }
    Ok(all)
}

/// How many live records have a value of fields whose values all have typed rows.
async fn count_typed(work: &UnitOfWork, fields: Vec<Value>) -> Result<HashMap<Uuid, u64>> {
    if fields.is_empty() {
        return Ok(HashMap::new());
    }
    let of_fields = Condition::In {
        field: FieldAt::new(FIELD_ID),
        values: fields,
    };
    let live = Condition::not_deleted().and(of_fields);
    let mut query = AggregateQuery::count(CustomValue::schema(), live);
    query.groups = vec![Grouping::Field(FIELD_ID)];
    let groups = work.aggregate(&query).await?;
    let count = |group: &crm_core::query::Group| Some((group.key(0).as_uuid()?, group.count(0)));
    Ok(groups.iter().filter_map(count).collect())
}

/// How many live records have a value of a field.
async fn count_in_documents(
    work: &UnitOfWork,
    object: &ObjectRef,
    field: &CustomField,
) -> Result<u64> {
    let Some(pass) = pass_for_values(object, [(None, field)]) else {
        return Ok(0);
    };
    let live = Condition::not_deleted().and(pass.condition());
    let groups = work.aggregate(&AggregateQuery::count(object, live)).await?;
    Ok(groups.first().map_or(0, |group| group.count(0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moment(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    proptest! {
        /// batches add up in any order, never fall, and never overflow.
        #[test]
        fn figures_add_up(batches in prop::collection::vec((any::<u32>(), any::<u32>(), 0_i64..1_000_000), 1..20)) {
            let field = Id::new(Uuid::from_u128(1));
            let sum = |batches: &[(u32, u32, i64)]| {
                let mut figures: Option<CustomFieldUsage> = None;
                for (written, queried, second) in batches {
                    let uses = UsageCount {
                        written: u64::from(*written),
                        queried: u64::from(*queried),
                        last_used_at: moment(*second),
                    };
                    let next = added(field, figures.clone(), &uses);
                    assert!(figures.as_ref().is_none_or(|before| {
                        before.written_count <= next.written_count
                            && before.last_used_at <= next.last_used_at
                    }));
                    figures = Some(next);
                }
                figures.map(|figures| UsageFigures::of(&figures))
            };
            let mut turned = batches.clone();
            turned.reverse();
            prop_assert_eq!(sum(&batches), sum(&turned));
            let written: u64 = batches.iter().map(|batch| u64::from(batch.0)).sum();
            prop_assert_eq!(sum(&batches).unwrap().written_count, written);
            let most = UsageCount { written: u64::MAX, queried: u64::MAX, last_used_at: moment(0) };
            let full = added(field, Some(added(field, None, &most)), &most);
            prop_assert_eq!(full.written_count, i64::MAX);
        }
    }
}

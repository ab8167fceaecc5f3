//! The undoing of a conversion, by what is written down about it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::carry::staged_or;
use super::{ConversionDeed, ConversionInUse, LeadConversion, UndoObstacle, UndoObstacleReason};
use crate::campaigns::{CampaignMember, give_member_back};
use crate::engine::UnitOfWork;
use crate::error::{Error, Result, RuleViolation};
use crate::leads::Lead;
use crate::merging::{
    BY_MERGE, Merge, former_value, is_taken, leads_nowhere, merge_of, stands, units,
};
use crate::privacy::Consent;
use crate::query::{Condition, FieldAt, Query};
use crate::record::Record;
use crate::schema::{Entity, Lifecycle, ObjectRef, Row, SYSTEM_FIELDS, Value};
use crate::{EntityRef, Id};

/// Undoes a conversion in a unit of work: all of it is staged, or nothing.
pub(super) async fn undo(work: &mut UnitOfWork, lead: Id<Lead>) -> Result<Arc<Record<Lead>>> {
    let mark = work.mark();
    let result = stage(work, lead).await;
    work.settle(mark, result)
}

async fn stage(work: &mut UnitOfWork, id: Id<Lead>) -> Result<Arc<Record<Lead>>> {
    let lead = work.get(id).await?;
    if lead.conversion.is_none() {
        let message = "the lead is not converted";
        return Err(RuleViolation::new("not_converted", "R-083", message).into());
    }
    work.rely_on_row(lead);
    let entries = entries_of(work, id).await?;
    let created = created(work, &entries).await?;
    // What is removed is as it is found to be now.
    for row in &created {
        work.rely_on_row(row.clone());
    }
    let obstacles = obstacles(work, &entries, &created).await?;
    if !obstacles.is_empty() {
        let in_use = ConversionInUse {
            lead: id,
            obstacles: obstacles.into_iter().collect(),
        };
        return Err(Error::ConversionInUse(Box::new(in_use)));
    }
    // First the lead, which then leads to nothing that is deleted; last what is deleted, once nothing
    // leads to it.
    let changed = changed(work, &entries).await?;
    for entry in entries.iter().rev() {
        if let Some(row) = changed.get(&entry.record_id)
            && entry.deed != ConversionDeed::Created
        {
            give_back(work, entry, row).await?;
        }
    }
    for row in created.iter().rev() {
        // It may be gone with another one.
        let now = work.row(row.object(), row.id()).await?;
        if now.is_some_and(|now| !now.is_deleted()) {
            work.delete(row.object(), row.id()).await?;
        }
    }
    work.get(id).await
}

/// What is written down about the last conversion of a lead, in the order in which it was done.
async fn entries_of(work: &UnitOfWork, id: Id<Lead>) -> Result<Vec<Arc<Record<LeadConversion>>>> {
    // Ids sort by the time of their making.
    let all = work
        .find_all(LeadConversion::LEAD_ID.eq(id), Vec::new())
        .await?;
    let last = all
        .iter()
        .rfind(|entry| entry.deed == ConversionDeed::Converted)
        .map(|entry| entry.commit_id);
    let Some(last) = last else {
        let message = "nothing is written down about the conversion; it cannot be undone";
        return Err(RuleViolation::new("conversion_unknown", "R-083", message).into());
    };
    Ok(all
        .into_iter()
        .filter(|entry| entry.commit_id == last)
        .collect())
}

async fn object_of(work: &UnitOfWork, name: &str) -> Result<Option<ObjectRef>> {
    Ok(work.registry().await?.object(name))
}

/// The records that the conversion made and that are still there.
async fn created(work: &UnitOfWork, entries: &[Arc<Record<LeadConversion>>]) -> Result<Vec<Row>> {
    let mut found = rows_of(work, entries, true).await?;
    let made = entries.iter();
    Ok(made
        .filter_map(|entry| found.remove(&entry.record_id))
        .filter(|row| !row.is_deleted())
        .collect())
}

/// The records that the conversion changed, by id.
async fn changed(
    work: &UnitOfWork,
    entries: &[Arc<Record<LeadConversion>>],
) -> Result<HashMap<Uuid, Row>> {
    rows_of(work, entries, false).await
}

/// The records of entries, by id: one look-up for each object, however much was carried over.
async fn rows_of(
    work: &UnitOfWork,
    entries: &[Arc<Record<LeadConversion>>],
    is_created: bool,
) -> Result<HashMap<Uuid, Row>> {
    let mut ids: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
    for entry in entries {
        if (entry.deed == ConversionDeed::Created) == is_created {
            ids.entry(&entry.object).or_default().push(entry.record_id);
        }
    }
    let mut found = HashMap::new();
    for (name, ids) in ids {
        if let Some(object) = object_of(work, name).await? {
            let rows = work.rows(&object, &ids).await?;
            found.extend(rows.into_iter().map(|row| (row.id(), row)));
        }
    }
    Ok(found)
}

/// All that depends on what the conversion made.
async fn obstacles(
    work: &mut UnitOfWork,
    entries: &[Arc<Record<LeadConversion>>],
    created: &[Row],
) -> Result<BTreeSet<UndoObstacle>> {
    let mut found = BTreeSet::new();
    let mut add = |object: &str, id: Uuid, why| {
        let record = EntityRef::new(object, id);
        found.insert(UndoObstacle { record, why });
    };
    let mut made: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
    for entry in entries
        .iter()
        .filter(|entry| entry.deed == ConversionDeed::Created)
    {
        made.entry(&entry.object).or_default().push(entry.record_id);
        let live = created.iter().find(|row| row.id() == entry.record_id);
        match live {
            Some(row) => {
                let fields = changed_since(row, &entry.after);
                if !fields.is_empty() {
                    add(
                        &entry.object,
                        row.id(),
                        UndoObstacleReason::Changed { fields },
                    );
                }
            }
            None => {
                if let Some(merge) = merge_of(work, &entry.object, entry.record_id).await? {
                    let merge = merge.id();
                    add(
                        &entry.object,
                        entry.record_id,
                        UndoObstacleReason::Merged { merge },
                    );
                }
            }
        }
    }
    for (name, ids) in &made {
        for merge in merged_into(work, name, ids).await? {
            let into = merge.get("survivor_id").as_uuid().unwrap_or_default();
            let merge = merge.id();
            add(name, into, UndoObstacleReason::Merged { merge });
        }
    }
    // What the conversion itself made lead there.
    let known: HashMap<Uuid, &Json> = entries
        .iter()
        .map(|entry| (entry.record_id, &entry.after))
        .collect();
    for (name, ids) in made {
        let Some(object) = object_of(work, name).await? else {
            continue;
        };
        for link in work.links_to(&object).await? {
            if link.object.lifecycle() != Lifecycle::Full {
                continue;
            }
            let field = link.object.field_name(link.field).to_owned();
            let leading = link.to(&ids).and(Condition::not_deleted());
            for row in work.select(&Query::new(&link.object, leading)).await? {
                let Some(target) = link.target(&*row) else {
                    continue;
                };
                let by_conversion = known
                    .get(&row.id())
                    .is_some_and(|after| after.get(&field) == Some(&Value::Uuid(target).to_json()));
                if !by_conversion {
                    let by = EntityRef::new(link.object.name(), row.id());
                    let field = field.clone();
                    add(name, target, UndoObstacleReason::ReferredTo { by, field });
                }
            }
        }
    }
    Ok(found)
}

/// The merges that stand and took others into these records.
async fn merged_into(work: &UnitOfWork, object: &str, ids: &[Uuid]) -> Result<Vec<Row>> {
    let index = Merge::schema().field_index(&Merge::SURVIVOR_ID.name());
    let survivors = Condition::In {
        field: FieldAt::new(index.unwrap_or_default()),
        values: ids.iter().copied().map(Value::Uuid).collect(),
    };
    let merges = work
        .select(&Query::new(Merge::schema(), survivors.and(stands())))
        .await?;
    let is_meant = |row: &Row| row.get(&Merge::OBJECT.name()).as_text() == Some(object);
    Ok(merges.into_iter().filter(is_meant).collect())
}

/// The fields that users write and that are not as the conversion left them.
fn changed_since(row: &Row, left: &Json) -> Vec<String> {
    // Nobody wrote it since the commit that made it; what hooks of that commit added, such as rules of
    // automation, belongs to the conversion.
    if row.version() == 1 {
        return Vec::new();
    }
    let object = row.object();
    let fields = object.own_fields().iter().filter(|field| !field.read_only);
    let is_changed = |name: &str| {
        let now = row.get(name).to_json();
        now != *left.get(name).unwrap_or(&Json::Null)
    };
    fields
        .filter(|field| is_changed(&field.name))
        .map(|field| field.name.to_string())
        .collect()
}

/// Gives a record back what the conversion changed, as far as nobody touched it since.
async fn give_back(work: &mut UnitOfWork, entry: &LeadConversion, row: &Row) -> Result<()> {
    // It may have been given back with another one.
    let Some(row) = staged_or(work, row).filter(|row| !row.is_deleted()) else {
        return Ok(());
    };
    let object = row.object().clone();
    let empty = Map::new();
    let before = entry.before.as_object().unwrap_or(&empty);
    let after = entry.after.as_object().unwrap_or(&empty);
    let units = units(&object);
    // Fields that belong together go back together or not at all.
    let mut by_unit: BTreeMap<usize, Option<Vec<(usize, Value)>>> = BTreeMap::new();
    for (name, was) in before {
        let Some(index) = object.field_index(name) else {
            continue;
        };
        let unit = units.get(index).copied().unwrap_or(index);
        let slot = by_unit.entry(unit).or_insert_with(|| Some(Vec::new()));
        let left = after.get(name).unwrap_or(&Json::Null);
        // A converted lead is read-only: what differs is what became of the records it leads to.
        let back = match entry.deed {
            ConversionDeed::Converted => Some(was.clone()),
            _ => given_back(was, left, &row.value(index).to_json()),
        };
        let back = back.map(|json| former_value(&object, index, &json));
        let back = match back {
            Some(value) if leads_nowhere(work, &object, index, &value).await? => None,
            other => other,
        };
        match (slot.as_mut(), back) {
            (Some(values), Some(value)) => values.push((index, value)),
            _ => *slot = None,
        }
    }
    let mut values = row.values();
    for (index, value) in by_unit.into_values().flatten().flatten() {
        let place = index.checked_sub(SYSTEM_FIELDS);
        if let Some(slot) = place.and_then(|place| values.get_mut(place)) {
            *slot = value;
        }
    }
    let meta = work.next_meta(&row);
    let back = row.with_values(meta, values).map_err(|faults| {
        let faults = faults.into_result().err();
        faults.map_or_else(
            || Error::NotFound {
                object: object.name().to_owned(),
                id: row.id(),
            },
            Error::from,
        )
    })?;
    let back = match Record::<CampaignMember>::from_row(back.clone()) {
        Some(member) => {
            let mut member = (*member).clone();
            give_member_back(&mut member.data);
            Arc::new(member)
        }
        None => back,
    };
    // A consent that another one replaced meanwhile does not count again.
    if object == *Consent::schema() {
        for key in object.unique_keys() {
            if is_taken(work, &back, key).await? {
                return Ok(());
            }
        }
    }
    let id = row.id();
    work.set_note(id, Some(BY_MERGE));
    let staged = work.stage_exactly(row, back).await;
    work.set_note(id, None);
    staged
}

/// What a value goes back to, from what it was before the conversion, what the conversion left, and
/// what it is now; nothing where somebody touched it since. Of a list and of a JSON document only what
/// the conversion added is taken away.
fn given_back(before: &Json, left: &Json, now: &Json) -> Option<Json> {
    if now == left {
        return Some(before.clone());
    }
    match (before, left, now) {
        (Json::Array(before), Json::Array(left), Json::Array(now)) => {
            let is_added = |entry: &Json| left.contains(entry) && !before.contains(entry);
            let kept: Vec<Json> = now.iter().filter(|one| !is_added(one)).cloned().collect();
            (kept.len() < now.len()).then_some(Json::Array(kept))
        }
        (Json::Object(before), Json::Object(left), Json::Object(now)) => {
            let mut back = now.clone();
            for (key, value) in left {
                let is_ours = before.get(key) != Some(value) && now.get(key) == Some(value);
                match before.get(key) {
                    Some(was) if is_ours => {
                        back.insert(key.clone(), was.clone());
                    }
                    None if is_ours => {
                        back.remove(key);
                    }
                    _ => {}
                }
            }
            (back != *now).then_some(Json::Object(back))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nobody_touched_goes_back() {
        let cases = [
            (json!(null), json!("a"), json!("a"), Some(json!(null))),
            (json!(null), json!("a"), json!("b"), None),
            // Somebody added a tag, and another custom field.
            (
                json!(["x"]),
                json!(["x", "a"]),
                json!(["x", "a", "y"]),
                Some(json!(["x", "y"])),
            ),
            (json!(["x"]), json!(["x", "a"]), json!(["y"]), None),
            (
                json!({}),
                json!({"a": 1}),
                json!({"a": 1, "b": 2}),
                Some(json!({"b": 2})),
            ),
            (
                json!({"a": null}),
                json!({"a": 1}),
                json!({"a": 1, "b": 2}),
                Some(json!({"a": null, "b": 2})),
            ),
            (json!({}), json!({"a": 1}), json!({"a": 2}), None),
        ];
        for (before, left, now, wanted) in cases {
            assert_eq!(
                given_back(&before, &left, &now),
                wanted,
                "{before} {left} {now}"
            );
        }
    }

    proptest! {
        /// Untouched, anything goes back.
        #[test]
        fn untouched_goes_back(before in ".{0,5}", left in ".{0,5}") {
            let (before, left) = (json!(before), json!(left));
            prop_assert_eq!(given_back(&before, &left, &left), Some(before));
        }
    }
}

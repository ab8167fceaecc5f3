//! Previews and merges: loads, lets the plan decide, and stages one commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::links::{Arranged, Fate, Found, arrange, keys_of};
use super::plan::{Above, Choices, MergePlan};
use super::{
    BY_MERGE, FieldPreview, LinkFate, LinkPreview, Merge, MergeLink, MergePreview, Merged, missing,
    one_of,
};
use crate::Id;
use crate::engine::UnitOfWork;
use crate::error::{Error, Faults, Result, RuleViolation};
use crate::privacy::replaced_consents;
use crate::query::{Condition, Query};
use crate::schema::{
    Lifecycle, Meta, ObjectRef, ObjectScope, OnDelete, Privacy, Registry, Row, SYSTEM_FIELDS,
    UniqueKey, Value, system,
};
use crate::storage::unique_value;

/// How far a tree is looked up.
const MAX_DEPTH: usize = 100;

/// Everything that is decided about a merge before it is tried.
struct Decision {
    /// The survivor, then the losers.
    rows: Vec<Row>,
    plan: MergePlan,
    links: Vec<Arranged>,
}

/// Says what a merge would do.
pub(super) async fn preview(
    work: &UnitOfWork,
    object: &ObjectRef,
    survivor: Uuid,
    losers: &[Uuid],
    choices: &Choices,
) -> Result<MergePreview> {
    let decision = decide(work, object, survivor, losers, choices).await?;
    let Decision { rows, plan, links } = &decision;
    let mut fields = Vec::new();
    let last = plan.steps().last().map_or(&[][..], Vec::as_slice);
    let decided = last.iter().zip(plan.winners());
    for ((place, field), (result, winner)) in object.own_fields().iter().enumerate().zip(decided) {
        let values: Vec<Value> = rows
            .iter()
            .map(|row| row.value(place + SYSTEM_FIELDS).into_owned())
            .collect();
        // Secrets stay where they are, unseen.
        if values.iter().all(Value::is_null) || field.privacy == Privacy::Sensitive {
            continue;
        }
        let mut given = values.iter().filter(|value| !value.is_null());
        let first = given.next();
        fields.push(FieldPreview {
            field: field.name.to_string(),
            conflicts: given.any(|other| Some(other) != first),
            values,
            result: result.clone(),
            winner: *winner,
        });
    }
    let registry = work.registry().await?;
    Ok(MergePreview {
        fields,
        moved: counted(&registry, links, LinkFate::Moved),
        dropped: counted(&registry, links, LinkFate::Dropped),
    })
}

fn counted(registry: &Registry, links: &[Arranged], fate: LinkFate) -> Vec<LinkPreview> {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for arranged in links {
        let object = registry.described(arranged.row.object());
        for one in arranged.fates.iter().filter(|one| one.fate == fate) {
            let field = object.path_at(one.field);
            *counts.entry((object.name().to_owned(), field)).or_default() += 1;
        }
    }
    let preview = |((object, field), count)| LinkPreview {
        object,
        field,
        count,
    };
    counts.into_iter().map(preview).collect()
}

fn violation(code: &'static str, message: &'static str) -> Error {
    RuleViolation::new(code, "R-018", message).into()
}

async fn decide(
    work: &UnitOfWork,
    object: &ObjectRef,
    survivor: Uuid,
    losers: &[Uuid],
    choices: &Choices,
) -> Result<Decision> {
    if object.lifecycle() != Lifecycle::Full || object.scope() != ObjectScope::Tenant {
        return Err(Error::Forbidden {
            reason: "such records are not merged".into(),
        });
    }
    if losers.is_empty() {
        return Err(violation(
            "nothing_to_merge",
            "name the records that are merged into the other",
        ));
    }
    let mut ids = vec![survivor];
    ids.extend(losers);
    if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
        return Err(violation(
            "merged_with_itself",
            "name each record of a merge once",
        ));
    }
    let live = one_of(system::ID, &ids).and(Condition::not_deleted());
    let found = work.select(&Query::new(object, live)).await?;
    let mut found: HashMap<Uuid, Row> = found.into_iter().map(|row| (row.id(), row)).collect();
    let mut rows = Vec::with_capacity(ids.len());
    for id in &ids {
        rows.push(
            found
                .remove(id)
                .ok_or_else(|| missing(object.name(), *id))?,
        );
    }
    let above = above(work, object, &rows).await?;
    let plan = MergePlan::new(object, &rows, choices, &above)?;
    let mut found = Vec::new();
    for link in work.links_to(object).await? {
        // Entries of logs tell of the record that they were written for.
        if link.object.lifecycle() != Lifecycle::Full {
            continue;
        }
        let leading = match link.custom() {
            Some(_) => work.led_by_custom(&link, losers, None).await?,
            None => {
                let leading = Query::new(&link.object, link.to(losers));
                work.select(&leading).await?
            }
        };
        if leading.is_empty() {
            continue;
        }
        let mut keys = link.object.unique_keys().iter();
        let held = if keys.any(|key| key.fields.contains(&link.field)) {
            work.select(&Query::new(&link.object, link.to(&[survivor])))
                .await?
        } else {
            Vec::new()
        };
        found.push(Found {
            link,
            rows: leading,
            held,
        });
    }
    let replaced = replaced(losers, &found, work.now());
    let links = arrange(object, survivor, losers, found, &replaced);
    Ok(Decision { rows, plan, links })
}

/// The consents that count no more, as one that leads to a loser counts instead: with the loser.
fn replaced(losers: &[Uuid], found: &[Found], at: DateTime<Utc>) -> HashMap<Uuid, usize> {
    let mut replaced = HashMap::new();
    for one in found {
        let loser_of = |row: &&Row| {
            let target = one.link.target(&***row);
            losers.iter().position(|loser| Some(*loser) == target)
        };
        // Of equal ones, that of the first loser counts.
        let mut led: Vec<&Row> = one.rows.iter().collect();
        led.sort_by_key(|row| loser_of(row));
        for (old, by) in replaced_consents(one.held.iter(), led.iter().copied(), at) {
            let by = led.iter().find(|row| row.id() == by);
            if let Some(loser) = by.and_then(loser_of) {
                replaced.insert(old, loser);
            }
        }
    }
    replaced
}

/// The values of the survivor without custom fields that would lead it to itself, or to what becomes
/// part of it.
fn beside_itself(object: &ObjectRef, rows: &[Row], mut values: Vec<Value>) -> Vec<Value> {
    let own = object.custom_references();
    let own = own.filter(|(_, target, _)| *target == object.name());
    for (place, ..) in own {
        let leads_to = object.id_among(&values, place);
        if rows.iter().any(|row| leads_to == Some(row.id())) {
            object.lay(&mut values, place, Value::Null);
        }
    }
    values
}

/// What stands above each record that one of the rows refers to in a tree of its own object.
async fn above(work: &UnitOfWork, object: &ObjectRef, rows: &[Row]) -> Result<Above> {
    let mut above = Above::new();
    for field in object.references() {
        let own = object
            .fields()
            .get(*field)
            .and_then(|field| field.reference());
        if own.is_none_or(|(target, _)| target != object.name()) {
            continue;
        }
        for row in rows {
            let Some(first) = row.value(*field).as_uuid() else {
                continue;
            };
            if above.contains_key(&(*field, first)) {
                continue;
            }
            let mut chain = Vec::new();
            let mut next = Some(first);
            while let Some(id) = next
                && chain.len() < MAX_DEPTH
                && !chain.contains(&id)
            {
                chain.push(id);
                let known = rows.iter().find(|row| row.id() == id).cloned();
                let row = match known {
                    Some(row) => Some(row),
                    None => work.row(object, id).await?,
                };
                next = row.and_then(|row| row.value(*field).as_uuid());
            }
            above.insert((*field, first), chain);
        }
    }
    Ok(above)
}

/// Merges records in a unit of work: all of it is staged, or nothing.
pub(super) async fn merge(
    work: &mut UnitOfWork,
    object: &ObjectRef,
    survivor: Uuid,
    losers: &[Uuid],
    choices: &Choices,
    reason: Option<&str>,
) -> Result<Merged<Row>> {
    let decision = decide(work, object, survivor, losers, choices).await?;
    let mark = work.mark();
    let result = stage(work, object, losers, decision, reason).await;
    work.settle(mark, result)
}

/// Values that follow from others are not merged: the survivor keeps its own until the hooks of the
/// commit compute them.
fn keep_computed(object: &ObjectRef, survivor: &Row, values: &mut [Value]) {
    let Some(document) = object.custom_document() else {
        return;
    };
    let place = document.checked_sub(SYSTEM_FIELDS);
    let Some(Value::Json(Json::Object(merged))) = place.and_then(|place| values.get_mut(place))
    else {
        return;
    };
    let own = survivor.value(document).into_owned().to_json();
    for custom in object
        .custom_fields()
        .iter()
        .filter(|one| one.field.read_only)
    {
        match own.get(&*custom.key) {
            Some(value) => merged.insert(custom.key.to_string(), value.clone()),
            None => merged.remove(&*custom.key),
        };
    }
}

async fn stage(
    work: &mut UnitOfWork,
    object: &ObjectRef,
    losers: &[Uuid],
    decision: Decision,
    reason: Option<&str>,
) -> Result<Merged<Row>> {
    let Decision { rows, plan, links } = decision;
    let (Some(survivor), Some(last)) = (rows.first(), plan.steps().last()) else {
        return Err(violation(
            "nothing_to_merge",
            "name the records that are merged",
        ));
    };
    work.rely_on_row(survivor.clone());
    // First the survivor: what is led to it may ask where it stands.
    let registry = work.registry().await?;
    let described = registry.described(object);
    let mut values = beside_itself(&described, &rows, last.clone());
    keep_computed(&described, survivor, &mut values);
    let after = build(survivor, work.next_meta(survivor), values)?;
    let merged = work
        .stage(Some(survivor.clone()), after, Faults::default())
        .await?;
    let mut fates: Vec<Vec<(Row, Fate)>> = losers.iter().map(|_| Vec::new()).collect();
    for arranged in links {
        for fate in lead(work, &arranged).await? {
            if let Some(of_loser) = fates.get_mut(fate.loser) {
                of_loser.push((arranged.row.clone(), fate));
            }
        }
    }
    let mut result = Merged {
        survivor: merged.clone(),
        merges: Vec::with_capacity(losers.len()),
        moved: 0,
        dropped: 0,
    };
    let mut steps = plan.steps().to_vec();
    if let Some(last) = steps.last_mut() {
        *last = merged.values();
    }
    let taken_in = rows.iter().skip(1).zip(steps.windows(2)).zip(fates);
    for ((loser, step), fates) in taken_in {
        // What led from one loser to another was led on.
        let now = work.live_row(object, loser.id()).await?;
        let meta = Meta {
            deleted_at: Some(work.now()),
            ..work.next_meta(&now)
        };
        let gone = now.with_meta(meta);
        stage_by_merge(work, &now, gone).await?;
        let [before, after] = step else { continue };
        let count = |wanted: &[LinkFate]| {
            let of_these = fates.iter().filter(|(_, fate)| wanted.contains(&fate.fate));
            of_these.count()
        };
        let moved = count(&[LinkFate::Moved]);
        let dropped = count(&[LinkFate::Dropped, LinkFate::Emptied]);
        let entry = Merge {
            reason: reason.map(str::to_owned),
            loser_data: data_of(loser),
            survivor_before: changed(object, before, after, before),
            survivor_after: changed(object, before, after, after),
            moved_links: u32::try_from(moved).unwrap_or(u32::MAX),
            dropped_links: u32::try_from(dropped).unwrap_or(u32::MAX),
            ..Merge::new(
                object.name(),
                survivor.id(),
                loser.id(),
                work.commit_stamp().id,
            )
        };
        let entry = work.create(entry).await?;
        for (row, fate) in fates {
            let object = registry.described(row.object());
            work.append_entry(MergeLink::new(
                entry.id,
                object.name(),
                row.id(),
                object.path_at(fate.field),
                fate.fate,
            ))?;
        }
        result.merges.push(Id::new(entry.id.uuid()));
        result.moved += moved;
        result.dropped += dropped;
    }
    Ok(result)
}

/// The row with other values.
pub(super) fn build(row: &Row, meta: Meta, values: Vec<Value>) -> Result<Row> {
    row.with_values(meta, values)
        .map_err(|faults| match faults.into_result() {
            Err(faults) => faults.into(),
            Ok(()) => missing(row.object().name(), row.id()),
        })
}

/// Whether a rule refused a write, which another way may still allow.
pub(crate) const fn is_refused(error: &Error) -> bool {
    matches!(
        error,
        Error::Rule(_) | Error::Validation(_) | Error::Forbidden { .. } | Error::Reference { .. }
    )
}

/// Stages what becomes of one record that leads to losers.
async fn lead(work: &mut UnitOfWork, arranged: &Arranged) -> Result<Vec<Fate>> {
    let row = &arranged.row;
    if arranged.is_moved() {
        let after = build(row, work.next_meta(row), arranged.after.clone())?;
        let before = work.savepoint();
        match stage_by_merge(work, row, after.clone()).await {
            Ok(staged) if says_nothing_new(work, &after, &staged).await? => {
                work.roll_back(before);
                work.delete_row(row.clone()).await?;
                let moved = arranged.links();
                let dropped = moved.map(|one| Fate {
                    fate: LinkFate::Dropped,
                    ..*one
                });
                return Ok(dropped.take(1).collect());
            }
            Ok(_) => work.release(before),
            Err(error) => {
                work.roll_back(before);
                if is_refused(&error) {
                    return give_up(work, arranged, error).await;
                }
                return Err(error);
            }
        }
    }
    if arranged.only_yields() {
        let after = build(row, work.next_meta(row), arranged.after.clone())?;
        stage_by_merge(work, row, after).await?;
    }
    if arranged.is_dropped() {
        let row = work.live_row(row.object(), row.id()).await?;
        work.delete_row(row).await?;
    }
    Ok(arranged.fates.clone())
}

/// Stages a record that leads elsewhere, or goes, because of a merge.
async fn stage_by_merge(work: &mut UnitOfWork, row: &Row, after: Row) -> Result<Row> {
    work.set_note(row.id(), Some(BY_MERGE));
    let staged = work
        .stage(Some(row.clone()), after, Faults::default())
        .await;
    work.set_note(row.id(), None);
    staged
}

/// Whether the rules of a record, which completed it, gave it a unique key that another one has: a
/// relationship among equals is kept in one of its two directions.
async fn says_nothing_new(work: &UnitOfWork, after: &Row, staged: &Row) -> Result<bool> {
    let as_arranged: Vec<_> = keys_of(&**after, None).collect();
    for (object, number, text) in keys_of(&**staged, None) {
        let is_known = as_arranged.contains(&(object, number, text));
        let Some(key) = staged.object().unique_keys().get(number) else {
            continue;
        };
        if is_known {
            continue;
        }
        if is_taken(work, staged, key).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether another record has the row's values of a unique key.
pub(crate) async fn is_taken(work: &UnitOfWork, row: &Row, key: &UniqueKey) -> Result<bool> {
    if unique_value(key, &**row).is_none() {
        return Ok(false);
    }
    let equal = |field: &usize| Condition::equals(*field, row.value(*field).into_owned());
    let mut same: Vec<Condition> = key.fields.iter().map(equal).collect();
    if key.live {
        same.push(Condition::not_deleted());
    }
    if let Some(flag) = key.only_if {
        same.push(Condition::equals(flag, Value::Boolean(true)));
    }
    let query = Query::new(row.object(), Condition::And(same)).limit(2);
    let holders = work.select(&query).await?;
    Ok(holders.iter().any(|holder| holder.id() != row.id()))
}

/// A record whose own rules do not let it lead to the survivor: what the deletion of the loser
/// would do to it.
async fn give_up(work: &mut UnitOfWork, arranged: &Arranged, error: Error) -> Result<Vec<Fate>> {
    let row = &arranged.row;
    if row.is_deleted() {
        return Ok(Vec::new());
    }
    let fates = |fate: LinkFate| arranged.links().map(move |one| Fate { fate, ..*one });
    match arranged.on_delete {
        OnDelete::Restrict => Err(error),
        OnDelete::Cascade => {
            work.delete_row(row.clone()).await?;
            Ok(fates(LinkFate::Dropped).take(1).collect())
        }
        OnDelete::SetNull => {
            let object = work.registry().await?.described(row.object());
            let mut values = row.values();
            for fate in arranged.links() {
                object.lay(&mut values, fate.field, Value::Null);
            }
            let after = build(row, work.next_meta(row), values)?;
            work.stage(Some(row.clone()), after, Faults::default())
                .await?;
            Ok(fates(LinkFate::Emptied).collect())
        }
    }
}

/// The values of a record as JSON, secrets left out.
fn data_of(row: &Row) -> Json {
    let mut data = row.to_json();
    for field in row.object().fields() {
        if field.privacy == Privacy::Sensitive {
            data.remove(&*field.name);
        }
    }
    Json::Object(data)
}

/// Of the fields that differ, the values on one side.
fn changed(object: &ObjectRef, before: &[Value], after: &[Value], side: &[Value]) -> Json {
    let mut fields = Map::new();
    for (place, field) in object.own_fields().iter().enumerate() {
        if before.get(place) != after.get(place)
            && field.privacy != Privacy::Sensitive
            && let Some(value) = side.get(place)
        {
            fields.insert(field.name.to_string(), value.to_json());
        }
    }
    Json::Object(fields)
}

//! Undoes a merge, as far as nobody touched what it did.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::plan::units;
use super::redirect::{merge_of, stands};
use super::service::{build, is_refused, is_taken};
use super::{
    BY_MERGE, Kept, KeptReason, LinkFate, Merge, MergeLink, Unmerged, missing, one_of, place_of,
};
use crate::Id;
use crate::engine::UnitOfWork;
use crate::error::{Error, Result, RuleViolation};
use crate::query::Query;
use crate::record::Record;
use crate::schema::{
    CUSTOM_FIELDS, Entity, Meta, ObjectRef, Row, SYSTEM_FIELDS, Value, ValueRef, system,
};

/// How many rows are read at once.
const BATCH: usize = 1_000;

/// Undoes a merge in a unit of work: all of it is staged, or nothing.
pub(super) async fn undo(work: &mut UnitOfWork, merge: Id<Merge>) -> Result<Unmerged> {
    let mark = work.mark();
    let result = stage(work, merge).await;
    work.settle(mark, result)
}

async fn stage(work: &mut UnitOfWork, id: Id<Merge>) -> Result<Unmerged> {
    let merge = work.get(id).await?;
    if merge.undone_at.is_some() {
        let told = "the merge is undone already";
        return Err(RuleViolation::new("undone", "R-018", told).into());
    }
    let registry = &*work.registry().await?;
    let object = registry
        .object(&merge.object)
        .ok_or_else(|| missing(&merge.object, merge.survivor_id))?;
    let survivor = work.row(&object, merge.survivor_id).await?;
    let Some(survivor) = survivor.filter(|row| !row.is_deleted()) else {
        // Merged itself meanwhile, or deleted.
        return Err(
            match merge_of(work, &merge.object, merge.survivor_id).await? {
                Some(later) => first(later.id()),
                None => missing(&merge.object, merge.survivor_id),
            },
        );
    };
    let is_written_since = survivor.meta().updated.at > merge.created.at;
    work.rely_on_row(survivor);
    // Whoever undoes a merge says that the two are not the same.
    work.accept_duplicates([merge.survivor_id, merge.loser_id]);
    ensure_last(work, &merge).await?;
    let mut undoing = Undoing {
        merge: &merge,
        object,
        is_written_since,
        unmerged: Unmerged {
            object: merge.object.clone(),
            restored: merge.loser_id,
            given_back: 0,
            kept: Vec::new(),
        },
    };
    undoing.restore_loser(work).await?;
    undoing.give_links_back(work).await?;
    // Last the survivor: it may stand below what was given back.
    undoing.give_fields_back(work).await?;
    let now = work.now();
    let unmerged = undoing.unmerged;
    work.update(id, &|merge: &mut Merge| merge.undone_at = Some(now))
        .await?;
    Ok(unmerged)
}

fn first(merge: Uuid) -> Error {
    RuleViolation::new(
        "merged_since",
        "R-018",
        format!("a later merge builds on this one; undo the merge {merge} first"),
    )
    .into()
}

/// No later merge of the same survivor changed the same fields.
async fn ensure_last(work: &UnitOfWork, merge: &Record<Merge>) -> Result<()> {
    let survivor = one_of(place_of::<Merge>("survivor_id"), &[merge.survivor_id]);
    let others = work
        .select(&Query::new(Merge::schema(), survivor.and(stands())))
        .await?;
    let own = merge.survivor_after.as_object();
    let is_later = |other: &Row| {
        let meta = other.meta();
        (meta.created.at, meta.id) > (merge.created.at, merge.id.uuid())
            && other.get("object").as_text() == Some(&merge.object)
    };
    let overlaps = |other: &Row| {
        let theirs = Record::<Merge>::from_row(other.clone());
        theirs.is_some_and(|theirs| match (own, theirs.survivor_after.as_object()) {
            (Some(own), Some(theirs)) => own.keys().any(|field| theirs.contains_key(field)),
            _ => false,
        })
    };
    let mut later: Vec<Row> = others
        .into_iter()
        .filter(|other| is_later(other) && overlaps(other))
        .collect();
    later.sort_unstable_by_key(|other| (other.meta().created.at, other.id()));
    match later.last() {
        Some(later) => Err(first(later.id())),
        None => Ok(()),
    }
}

/// Whether the merge only took from a record that it counts, and left it where it is.
fn only_yielded(links: &[(String, LinkFate)]) -> bool {
    links.iter().all(|(_, fate)| *fate == LinkFate::Yielded)
}

/// The undoing of one merge.
struct Undoing<'a> {
    merge: &'a Record<Merge>,
    object: ObjectRef,
    /// Whether somebody wrote the survivor after the merge.
    is_written_since: bool,
    unmerged: Unmerged,
}

impl Undoing<'_> {
    fn keep(&mut self, object: &ObjectRef, id: Uuid, field: &str, why: KeptReason) {
        self.unmerged.kept.push(Kept {
            object: object.name().to_owned(),
            id,
            field: field.to_owned(),
            why,
        });
    }

    async fn restore_loser(&mut self, work: &mut UnitOfWork) -> Result<()> {
        let id = self.merge.loser_id;
        let row = work.row(&self.object, id).await?;
        let Some(row) = row.filter(|row| row.is_deleted()) else {
            return Err(missing(&self.merge.object, id));
        };
        let mut values = row.values();
        let described = work.registry().await?.described(&self.object);
        for field in dead_ends(work, &row).await? {
            // What is required cannot be emptied: then the rules say what is missing.
            let name = described.path_at(field);
            if described.placed(field).is_some_and(|field| field.required) {
                continue;
            }
            described.lay(&mut values, field, Value::Null);
            let object = self.object.clone();
            self.keep(&object, id, &name, KeptReason::TargetGone);
        }
        let meta = Meta {
            deleted_at: None,
            ..work.next_meta(&row)
        };
        let back = build(&row, meta, values)?;
        work.stage_exactly(row, back).await
    }

    async fn give_links_back(&mut self, work: &mut UnitOfWork) -> Result<()> {
        let of_merge = one_of(place_of::<MergeLink>("merge_id"), &[self.merge.id.uuid()]);
        let entries = work
            .select(&Query::new(MergeLink::schema(), of_merge))
            .await?;
        let mut by_object: BTreeMap<String, BTreeMap<Uuid, Vec<(String, LinkFate)>>> =
            BTreeMap::new();
        for entry in entries
            .into_iter()
            .filter_map(Record::<MergeLink>::from_row)
        {
            let rows = by_object.entry(entry.object.clone()).or_default();
            let links = rows.entry(entry.record_id).or_default();
            links.push((entry.field.clone(), entry.fate));
        }
        for (name, rows) in by_object {
            let Some(object) = work.registry().await?.any_object(&name) else {
                continue;
            };
            let ids: Vec<Uuid> = rows.keys().copied().collect();
            let mut stored: HashMap<Uuid, Row> = HashMap::new();
            for batch in ids.chunks(BATCH) {
                let all = Query::new(&object, one_of(system::ID, batch));
                let found = work.select(&all).await?;
                stored.extend(found.into_iter().map(|row| (row.id(), row)));
            }
            // Last what only counts no more: what counts instead of it is gone by then.
            let mut rows: Vec<(Uuid, Vec<(String, LinkFate)>)> = rows.into_iter().collect();
            rows.sort_by_key(|(_, links)| only_yielded(links));
            for (id, links) in rows {
                match stored.remove(&id) {
                    Some(row) => self.give_row_back(work, row, &links).await?,
                    None => {
                        for (field, _) in links {
                            self.keep(&object, id, &field, KeptReason::Gone);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    async fn give_row_back(
        &mut self,
        work: &mut UnitOfWork,
        row: Row,
        links: &[(String, LinkFate)],
    ) -> Result<()> {
        let object = work.registry().await?.described(row.object());
        let mut row = row;
        for (field, _) in links.iter().filter(|(_, fate)| *fate == LinkFate::Dropped) {
            if !row.is_deleted() {
                self.keep(&object, row.id(), field, KeptReason::Changed);
                continue;
            }
            if !dead_ends(work, &row).await?.is_empty() {
                self.keep(&object, row.id(), field, KeptReason::TargetGone);
                continue;
            }
            match work.restore_row(row.clone()).await {
                Ok(back) => {
                    row = back;
                    self.unmerged.given_back += 1;
                }
                Err(error) if is_refused(&error) => {
                    self.keep(&object, row.id(), field, KeptReason::Refused);
                }
                Err(error) => return Err(error),
            }
        }
        let mut values = row.values();
        let mut given = Vec::new();
        let of_fate = |wanted: &'static [LinkFate]| {
            let links = links.iter().filter(|(_, fate)| wanted.contains(fate));
            links.filter_map(|(field, fate)| Some((field, fate, place_at(&object, field)?)))
        };
        let mut stays = false;
        for (field, fate, index) in of_fate(&[LinkFate::Moved, LinkFate::Emptied]) {
            if *fate == LinkFate::Moved
                && let Some(other) = exchanged(&row, index, self.merge.survivor_id)
            {
                set(&mut values, other, row.value(index).into_owned());
                set(&mut values, index, Value::Uuid(self.merge.loser_id));
                given.push(field);
                continue;
            }
            let now = object.read(&*row, index, |value| value.as_uuid());
            let expected = (*fate == LinkFate::Moved).then_some(self.merge.survivor_id);
            if now == expected && self.is_of_object(&row, index) {
                object.lay(&mut values, index, Value::Uuid(self.merge.loser_id));
                given.push(field);
            } else {
                stays = true;
                self.keep(&object, row.id(), field, KeptReason::Changed);
            }
        }
        for (field, _, index) in of_fate(&[LinkFate::Yielded]) {
            // It counts again among the records of the loser, not among those of the survivor.
            if !stays && row.value(index) == ValueRef::Boolean(false) {
                set(&mut values, index, Value::Boolean(true));
                given.push(field);
            } else {
                self.keep(&object, row.id(), field, KeptReason::Changed);
            }
        }
        if given.is_empty() {
            return Ok(());
        }
        let back = build(&row, work.next_meta(&row), values)?;
        if only_yielded(links) {
            for key in row.object().unique_keys() {
                if is_taken(work, &back, key).await? {
                    for field in given {
                        self.keep(&object, row.id(), field, KeptReason::Changed);
                    }
                    return Ok(());
                }
            }
        }
        let id = row.id();
        work.set_note(id, Some(BY_MERGE));
        let staged = work.stage_exactly(row, back).await;
        work.set_note(id, None);
        match staged {
            Ok(()) => self.unmerged.given_back += given.len(),
            Err(error) if is_refused(&error) => {
                for field in given {
                    self.keep(&object, id, field, KeptReason::Refused);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether an id of a record of any object is still one of the merged object.
    fn is_of_object(&self, row: &Row, index: usize) -> bool {
        let links = row.object().record_links();
        links
            .iter()
            .find(|link| link.id == index)
            .is_none_or(|link| row.value(link.object).as_text() == Some(&self.merge.object))
    }

    async fn give_fields_back(&mut self, work: &mut UnitOfWork) -> Result<()> {
        let object = self.object.clone();
        let survivor = work.live_row(&object, self.merge.survivor_id).await?;
        let id = survivor.id();
        let empty = Map::new();
        let former = self.merge.survivor_before.as_object().unwrap_or(&empty);
        let left = self.merge.survivor_after.as_object().unwrap_or(&empty);
        let units = units(&object);
        let described = work.registry().await?.described(&object);
        // By the fields that belong together: they go back together or not at all.
        let mut by_unit: BTreeMap<usize, Vec<(usize, &Json, &Json)>> = BTreeMap::new();
        for (name, before) in former {
            if let (Some(index), Some(after)) = (object.field_index(name), left.get(name)) {
                let unit = units.get(index).copied().unwrap_or(index);
                by_unit
                    .entry(unit)
                    .or_default()
                    .push((index, before, after));
            }
        }
        let mut given: Vec<Vec<(usize, Value)>> = Vec::new();
        for fields in by_unit.into_values() {
            if let [(index, before, after)] = fields.as_slice()
                && described.custom_document() == Some(*index)
            {
                let document = (*index, *before, *after);
                let former = self.former_document(work, &described, &survivor, document);
                given.extend(former.await?.map(|former| vec![(*index, former)]));
                continue;
            }
            let is_touched = |(index, _, after): &(usize, &Json, &Json)| {
                let now = survivor.value(*index).to_json();
                written(&described, *index, now) != written(&described, *index, (*after).clone())
            };
            let mut why = fields.iter().any(is_touched).then_some(KeptReason::Changed);
            let mut back = Vec::new();
            for (index, before, _) in &fields {
                let value = former_value(&object, *index, before);
                if why.is_none() && leads_nowhere(work, &object, *index, &value).await? {
                    why = Some(KeptReason::TargetGone);
                }
                back.push((*index, value));
            }
            match why {
                Some(why) => {
                    for (index, ..) in fields {
                        self.keep(&object, id, object.field_name(index), why);
                    }
                }
                None => given.push(back),
            }
        }
        let all: Vec<(usize, Value)> = given.iter().flatten().cloned().collect();
        if all.is_empty() {
            return Ok(());
        }
        match self.set_fields(work, &all).await {
            Ok(()) => return Ok(()),
            Err(error) if is_refused(&error) => {}
            Err(error) => return Err(error),
        }
        // Something is not allowed any more: only that stays.
        for fields in given {
            match self.set_fields(work, &fields).await {
                Ok(()) => {}
                Err(error) if is_refused(&error) => {
                    for (index, _) in fields {
                        self.keep(&object, id, object.field_name(index), KeptReason::Refused);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The custom values as they were before the merge: each that nobody changed since, and none that
    /// leads to a record that is gone. `None` if there is nothing to give back.
    async fn former_document(
        &mut self,
        work: &mut UnitOfWork,
        described: &ObjectRef,
        survivor: &Row,
        (index, before, after): (usize, &Json, &Json),
    ) -> Result<Option<Value>> {
        let object = self.object.clone();
        let id = survivor.id();
        let now = survivor.value(index).to_json();
        let before = written(described, index, before.clone());
        let after = written(described, index, after.clone());
        let (Json::Object(before), Json::Object(after), Json::Object(mut members)) =
            (before, after, now)
        else {
            self.keep(&object, id, object.field_name(index), KeptReason::Changed);
            return Ok(None);
        };
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let of = |document: &Map<String, Json>, key: &str| {
            let value = document.get(key).cloned();
            value.filter(|value| !value.is_null())
        };
        let mut gives = false;
        for key in keys {
            let (was, left) = (of(&before, key), of(&after, key));
            if was == left {
                continue;
            }
            let place = described.custom_place(key);
            let path = match place {
                Some(place) => described.path_at(place),
                None => format!("{CUSTOM_FIELDS}.{key}"),
            };
            if of(&members, key) != left {
                self.keep(&object, id, &path, KeptReason::Changed);
                continue;
            }
            let target = was.as_ref().and_then(Json::as_str);
            let target = target.and_then(|text| text.parse().ok()).map(Value::Uuid);
            let is_dead = match place.zip(target) {
                Some((place, target)) => leads_nowhere(work, described, place, &target).await?,
                None => false,
            };
            if is_dead {
                self.keep(&object, id, &path, KeptReason::TargetGone);
            }
            gives = true;
            match was.filter(|_| !is_dead) {
                Some(was) => members.insert(key.clone(), was),
                None => members.remove(key),
            };
        }
        Ok(gives.then_some(Value::Json(Json::Object(members))))
    }

    async fn set_fields(&mut self, work: &mut UnitOfWork, fields: &[(usize, Value)]) -> Result<()> {
        let survivor = work.live_row(&self.object, self.merge.survivor_id).await?;
        let mut values = survivor.values();
        for (index, value) in fields {
            set(&mut values, *index, value.clone());
        }
        let back = build(&survivor, work.next_meta(&survivor), values)?;
        if self.is_written_since {
            work.stage_in_part(survivor, back).await?;
        } else {
            work.stage_exactly(survivor, back).await?;
        }
        self.unmerged.given_back += fields.len();
        Ok(())
    }
}

/// Where a link to the survivor stands now, if the rules of its record exchanged it with the other end
/// of one unique key, as they do with a relationship among equals.
fn exchanged(row: &Row, index: usize, survivor: Uuid) -> Option<usize> {
    let object = row.object();
    let leads = |index: usize| row.value(index).as_uuid() == Some(survivor);
    let target = |index: usize| object.fields().get(index)?.reference();
    if leads(index) {
        return None;
    }
    let keys = object.unique_keys().iter();
    keys.filter(|key| key.fields.contains(&index))
        .flat_map(|key| &key.fields)
        .copied()
        .find(|other| leads(*other) && target(*other).is_some() && target(*other) == target(index))
}

fn set(values: &mut [Value], index: usize, value: Value) {
    let place = index.checked_sub(SYSTEM_FIELDS);
    if let Some(slot) = place.and_then(|place| values.get_mut(place)) {
        *slot = value;
    }
}

/// The value of a field as somebody wrote it: values that follow from others change on their own, and
/// are computed anew in the commit of the undoing.
fn written(object: &ObjectRef, index: usize, mut value: Json) -> Json {
    if object.custom_document() == Some(index)
        && let Some(members) = value.as_object_mut()
    {
        let computed = object.custom_fields().iter();
        for custom in computed.filter(|custom| custom.field.read_only) {
            members.remove(&*custom.key);
        }
    }
    value
}

/// A value that was kept as JSON, in the kind of its field.
pub(crate) fn former_value(object: &ObjectRef, index: usize, json: &Json) -> Value {
    let value = Value::from_json(json.clone());
    match object.fields().get(index) {
        Some(field) => match (&field.field_type, &value) {
            _ if value.is_null() => value,
            // What was stored once is taken as it is, also where the rules have become stricter.
            (kind, Value::Text(_)) if kind.storage_kind() == crate::schema::StorageKind::Text => {
                value
            }
            (kind, _) => match kind.coerce(value.clone()) {
                Ok(coerced) => coerced,
                Err(_) => value,
            },
        },
        None => value,
    }
}

/// Whether the value is a reference to a record that is not there any more.
pub(crate) async fn leads_nowhere(
    work: &mut UnitOfWork,
    object: &ObjectRef,
    index: usize,
    value: &Value,
) -> Result<bool> {
    let Some(id) = value.as_ref().as_uuid() else {
        return Ok(false);
    };
    let registry = &*work.registry().await?;
    let field = object.placed(index);
    let target = field
        .and_then(|field| field.reference())
        .and_then(|(target, _)| registry.object(target));
    let Some(target) = target else {
        return Ok(false);
    };
    match work.row(&target, id).await? {
        Some(row) if !row.is_deleted() => {
            work.rely_on_row(row);
            Ok(false)
        }
        _ => Ok(true),
    }
}

/// The references of a row to records that are not there any more.
async fn dead_ends(work: &mut UnitOfWork, row: &Row) -> Result<Vec<usize>> {
    let object = work.registry().await?.described(row.object());
    let custom = object.custom_references().map(|(place, ..)| place);
    let places: Vec<usize> = object.references().iter().copied().chain(custom).collect();
    let mut dead = Vec::new();
    for index in places {
        let value = object.read(&**row, index, |value| value.into_owned());
        if leads_nowhere(work, &object, index, &value).await? {
            dead.push(index);
        }
    }
    Ok(dead)
}

/// The place of a field by the path that [`ObjectSchema::path_at`](crate::schema::ObjectSchema) gave.
fn place_at(object: &ObjectRef, path: &str) -> Option<usize> {
    let own = object.field_index(path);
    own.or_else(|| {
        let (_, name) = path.split_once('.')?;
        object.custom_place(name)
    })
}

//! Stages reversals in a unit of work.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crm_core::EntityRef;
use crm_core::engine::UnitOfWork;
use crm_core::error::{Error, Result};
use crm_core::query::{Condition, Find, Query, WhereExt};
use crm_core::schema::{Lifecycle, Link, ObjectRef, Row};
use uuid::Uuid;

use super::plan::Reversal;
use super::{BATCH, Mode, Obstacle, ObstacleReason};
use crate::archive;
use crate::event::{AuditEvent, AuditKind};
use crate::trail::{AuditTrail, of_record};
use crate::versions::told;

/// How many records that lead to what is to be deleted are looked at at once, besides those of the
/// commit.
const REFERRERS: usize = 1_000;

type Rows = HashMap<EntityRef, Row>;

/// A record that leads to one that is to be deleted.
struct Referrer {
    target: EntityRef,
    by: EntityRef,
    field: String,
}

impl AuditTrail<'_> {
    /// Stages what can be reversed and gives the records. In [`Mode::AllOrNothing`] nothing is staged
    /// that counts once there is an obstacle.
    pub(super) async fn stage_undo(
        &self,
        work: &mut UnitOfWork,
        mut reversals: Vec<Reversal>,
        mode: Mode,
        obstacles: &mut Vec<Obstacle>,
    ) -> Result<Vec<EntityRef>> {
        let rows = rows_of(work, &reversals).await?;
        for reversal in &mut reversals {
            let row = rows.get(&reversal.record);
            reversal.is_written_since = row.is_none_or(|row| row.version() > reversal.version);
        }
        self.tell_later(&mut reversals).await?;
        let own: HashSet<EntityRef> = reversals.iter().map(|one| one.record.clone()).collect();
        reversals.retain_mut(|reversal| {
            let is_left = reversal.settle(obstacles);
            if is_left && !rows.contains_key(&reversal.record) {
                obstacles.push(reversal.obstacle(None, None, ObstacleReason::Purged));
                return false;
            }
            is_left
        });
        self.leave_dead_ends(work, &mut reversals, &rows, &own, mode, obstacles)
            .await?;
        if mode == Mode::AllOrNothing {
            self.leave_referred(work, &mut reversals, &own, mode, obstacles)
                .await?;
            if !obstacles.is_empty() {
                return Ok(Vec::new());
            }
        }
        let mut undone = Vec::with_capacity(reversals.len());
        let mut refused = Vec::new();
        // What comes back is there before the rules of what changes look for it. The last change first,
        // as far as rules do not look at what a record leads to.
        for comes_back in [true, false] {
            let stays = reversals.iter().rev().filter(|one| !one.takes_away());
            let stays: Vec<&Reversal> = stays
                .filter(|one| one.brings_back() == comes_back)
                .collect();
            let stays = in_order(work, &stays, &rows).await?;
            refused.extend(stage_all(work, stays, &rows, &mut undone).await?);
        }
        let mut going: Vec<Reversal> = Vec::new();
        let mut refused: Vec<Reversal> = {
            let refused: HashSet<EntityRef> = refused.into_iter().collect();
            let mut left = Vec::new();
            for reversal in reversals {
                if reversal.takes_away() {
                    going.push(reversal);
                } else if refused.contains(&reversal.record) {
                    left.push(reversal);
                }
            }
            left
        };
        if mode == Mode::WhatIsUntouched {
            self.leave_referred(work, &mut going, &own, mode, obstacles)
                .await?;
        }
        let away: Vec<&Reversal> = going.iter().collect();
        let mut away = in_order(work, &away, &rows).await?;
        away.reverse();
        let kept = stage_all(work, away, &rows, &mut undone).await?;
        let kept: HashSet<EntityRef> = kept.into_iter().collect();
        refused.extend(going.into_iter().filter(|one| kept.contains(&one.record)));
        // What was refused because of something that is reversed by now is allowed now.
        while !refused.is_empty() {
            let before = refused.len();
            let again = refused.iter().collect();
            let still = stage_all(work, again, &rows, &mut undone).await?;
            let still: HashSet<EntityRef> = still.into_iter().collect();
            refused.retain(|one| still.contains(&one.record));
            if refused.len() == before {
                break;
            }
        }
        for reversal in &refused {
            match stage_one(work, reversal, &rows).await? {
                Some(obstacle) => obstacles.push(obstacle),
                None => undone.push(reversal.record.clone()),
            }
        }
        Ok(undone)
    }

    /// Leaves out what would lead to records that are not there.
    async fn leave_dead_ends(
        &self,
        work: &UnitOfWork,
        reversals: &mut Vec<Reversal>,
        rows: &Rows,
        own: &HashSet<EntityRef>,
        mode: Mode,
        obstacles: &mut Vec<Obstacle>,
    ) -> Result<()> {
        // Where each record leads after the undo, by the paths of the fields, as far as that is new.
        let mut wanted: BTreeMap<usize, Vec<(String, EntityRef)>> = BTreeMap::new();
        for (place, reversal) in reversals.iter().enumerate() {
            if reversal.takes_away() || !(reversal.brings_back() || reversal.has_fields()) {
                continue;
            }
            let Some(row) = rows.get(&reversal.record) else {
                continue;
            };
            let Ok(after) = reversal.reversed(row, row.meta(), work.stamp()) else {
                // The rules tell what is missing.
                continue;
            };
            let object = described(work, &reversal.object).await?;
            let before = leads(&object, row);
            let is_new =
                |link: &(String, EntityRef)| reversal.brings_back() || !before.contains(link);
            let new: Vec<(String, EntityRef)> =
                leads(&object, &after).into_iter().filter(is_new).collect();
            if !new.is_empty() {
                wanted.insert(place, new);
            }
        }
        let live = live_among(work, wanted.values().flatten().map(|(_, target)| target)).await?;
        let mut coming: HashSet<EntityRef> = reversals
            .iter()
            .filter(|one| one.brings_back())
            .map(|one| one.record.clone())
            .collect();
        let mut left_out: BTreeSet<usize> = BTreeSet::new();
        loop {
            let mut blocked: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
            for (place, links) in wanted.iter().filter(|(place, _)| !left_out.contains(place)) {
                for (path, target) in links {
                    let is_there = live.contains(target) || coming.contains(target);
                    // Of what the commit itself deleted, its own obstacle tells.
                    let is_told = mode == Mode::AllOrNothing && own.contains(target);
                    let Some(reversal) = reversals.get(*place).filter(|_| !is_there && !is_told)
                    else {
                        continue;
                    };
                    if !reversal.brings_back() && !reversal.has_field(path) {
                        continue;
                    }
                    let by = self.last_commit(target, None).await?;
                    let why = ObstacleReason::TargetGone;
                    obstacles.push(reversal.obstacle(Some(path), by, why));
                    blocked.entry(*place).or_default().insert(path.clone());
                }
            }
            if blocked.is_empty() {
                break;
            }
            for (place, fields) in blocked {
                let Some(reversal) = reversals.get_mut(place) else {
                    continue;
                };
                if reversal.brings_back() {
                    coming.remove(&reversal.record);
                    left_out.insert(place);
                    continue;
                }
                reversal.block(&fields);
                if !reversal.has_fields() {
                    left_out.insert(place);
                }
            }
        }
        let mut place = 0;
        reversals.retain(|_| {
            place += 1;
            !left_out.contains(&(place - 1))
        });
        Ok(())
    }

    /// Leaves out the deletion of what records lead to that stay.
    async fn leave_referred(
        &self,
        work: &UnitOfWork,
        reversals: &mut Vec<Reversal>,
        own: &HashSet<EntityRef>,
        mode: Mode,
        obstacles: &mut Vec<Obstacle>,
    ) -> Result<()> {
        let referrers = referrers(work, reversals, own).await?;
        let goes_back = |referrer: &Referrer| {
            let of = reversals.iter().find(|one| one.record == referrer.by);
            of.is_some_and(|one| one.has_field(&referrer.field))
        };
        let is_ours = |referrer: &Referrer| match mode {
            // Of what the commit itself did to it, its own obstacle tells.
            Mode::AllOrNothing => {
                own.contains(&referrer.by) && {
                    let is_going = |one: &Reversal| one.record == referrer.by && one.takes_away();
                    reversals.iter().any(is_going)
                        || goes_back(referrer)
                        || obstacles.iter().any(|known| known.record == referrer.by)
                }
            }
            Mode::WhatIsUntouched => false,
        };
        let referrers: Vec<Referrer> = referrers
            .into_iter()
            .filter(|referrer| !is_ours(referrer))
            .collect();
        let mut going: HashSet<EntityRef> = reversals
            .iter()
            .filter(|one| one.takes_away())
            .map(|one| one.record.clone())
            .collect();
        let mut told: HashSet<usize> = HashSet::new();
        loop {
            let mut is_same = true;
            for (place, referrer) in referrers.iter().enumerate() {
                if going.contains(&referrer.by) || !told.insert(place) {
                    continue;
                }
                let Referrer { target, by, field } = referrer;
                obstacles.push(Obstacle {
                    record: target.clone(),
                    field: None,
                    by_commit: self.last_commit(by, Some(field)).await?,
                    why: ObstacleReason::ReferredTo {
                        by: by.clone(),
                        field: field.clone(),
                    },
                });
                is_same &= !going.remove(target);
            }
            if is_same {
                break;
            }
        }
        reversals.retain(|one| !one.takes_away() || going.contains(&one.record));
        Ok(())
    }

    /// The last commit that wrote a field of a record, or else deleted or removed the record.
    async fn last_commit(&self, record: &EntityRef, field: Option<&str>) -> Result<Option<Uuid>> {
        let find = Find::from(of_record(record));
        let find = match field {
            Some(field) => find.filter_by_name(told(field)),
            None => find.filter(
                AuditEvent::EVENT
                    .one_of([AuditKind::Delete, AuditKind::Purge])
                    .and(of_record(record)),
            ),
        };
        let find = find.sort(AuditEvent::RECORD_VERSION.desc()).limit(1);
        let last = archive::find(self.session, find).await?.items.pop();
        Ok(last.map(|event| event.commit_id))
    }
}

async fn described(work: &UnitOfWork, object: &ObjectRef) -> Result<ObjectRef> {
    Ok(work.registry().await?.described(object))
}

/// The records of reversals as they are now: one look-up for each object.
async fn rows_of(work: &UnitOfWork, reversals: &[Reversal]) -> Result<Rows> {
    let mut by_object: BTreeMap<String, (ObjectRef, Vec<Uuid>)> = BTreeMap::new();
    for reversal in reversals {
        let name = reversal.record.object.clone();
        let entry = by_object.entry(name);
        let (_, ids) = entry.or_insert_with(|| (reversal.object.clone(), Vec::new()));
        ids.push(reversal.record.id);
    }
    let mut rows = Rows::new();
    for (name, (object, ids)) in by_object {
        for batch in ids.chunks(BATCH) {
            let found = work.rows(&object, batch).await?.into_iter();
            rows.extend(found.map(|row| (EntityRef::new(name.as_str(), row.id()), row)));
        }
    }
    Ok(rows)
}

/// Stages reversals, and gives the records of those that the rules refuse.
async fn stage_all(
    work: &mut UnitOfWork,
    reversals: Vec<&Reversal>,
    rows: &Rows,
    undone: &mut Vec<EntityRef>,
) -> Result<Vec<EntityRef>> {
    let mut refused = Vec::new();
    for reversal in reversals {
        let record = reversal.record.clone();
        match stage_one(work, reversal, rows).await? {
            Some(_) => refused.push(record),
            None => undone.push(record),
        }
    }
    Ok(refused)
}

/// Stages one reversal; what the rules refuse is an obstacle.
async fn stage_one(
    work: &mut UnitOfWork,
    reversal: &Reversal,
    rows: &Rows,
) -> Result<Option<Obstacle>> {
    let record = &reversal.record;
    // Rules of what was staged before may have written it too.
    let staged = work.staged_change(&reversal.object, record.id);
    let row = match staged {
        Some(staged) => staged.after().cloned(),
        None => rows.get(record).cloned(),
    };
    let Some(row) = row else {
        let why = ObstacleReason::Purged;
        return Ok(Some(reversal.obstacle(None, None, why)));
    };
    let meta = work.next_meta(&row);
    let result = match reversal.reversed(&row, meta, work.stamp()) {
        Ok(after) if reversal.is_written_since => work.stage_in_part(row, after).await,
        Ok(after) => work.stage_exactly(row, after).await,
        Err(faults) => faults.into_result().map_err(Error::from),
    };
    match result {
        Ok(()) => Ok(None),
        Err(error @ (Error::Storage(_) | Error::Conflict { .. })) => Err(error),
        Err(error) => {
            let field = error.field_errors().first();
            let field = field.map(|fault| fault.path.as_str());
            let code = error.code();
            let why = ObstacleReason::Refused { code };
            Ok(Some(reversal.obstacle(field, None, why)))
        }
    }
}

/// Where a record leads: the paths of its references with the records that they lead to.
fn leads(object: &ObjectRef, row: &Row) -> Vec<(String, EntityRef)> {
    let own = object.references().iter().copied();
    let custom = object.custom_references().map(|(place, ..)| place);
    let mut leads = Vec::new();
    for place in own.chain(custom) {
        let target = object.placed(place).and_then(|field| field.reference());
        let id = object.read(&**row, place, |value| value.as_uuid());
        if let (Some((target, _)), Some(id)) = (target, id) {
            leads.push((path_at(object, place), EntityRef::new(target, id)));
        }
    }
    for link in object.record_links() {
        let value = row.value(link.object);
        if let (Some(target), Some(id)) = (value.as_text(), row.value(link.id).as_uuid()) {
            leads.push((path_at(object, link.id), EntityRef::new(target, id)));
        }
    }
    leads
}

/// The path of a field as events name it.
fn path_at(object: &ObjectRef, place: usize) -> String {
    match (object.custom_at(place), object.custom_document()) {
        (Some(custom), Some(document)) => {
            format!("{}.{}", object.field_name(document), custom.key)
        }
        _ => object.field_name(place).to_owned(),
    }
}

/// Those of the records that are there and not deleted.
async fn live_among(
    work: &UnitOfWork,
    records: impl Iterator<Item = &EntityRef>,
) -> Result<HashSet<EntityRef>> {
    let mut by_object: BTreeMap<&str, BTreeSet<Uuid>> = BTreeMap::new();
    for record in records {
        by_object
            .entry(&record.object)
            .or_default()
            .insert(record.id);
    }
    let registry = work.registry().await?;
    let mut live = HashSet::new();
    for (name, ids) in by_object {
        let Some(object) = registry.any_object(name) else {
            continue;
        };
        let ids: Vec<Uuid> = ids.into_iter().collect();
        for batch in ids.chunks(BATCH) {
            let rows = work.rows(&object, batch).await?.into_iter();
            let rows = rows.filter(|row| !row.is_deleted());
            live.extend(rows.map(|row| EntityRef::new(name, row.id())));
        }
    }
    Ok(live)
}

/// The reversals in an order in which a record comes behind those that it leads to after the undo, or,
/// if it is then gone, before; otherwise in the order given.
async fn in_order<'r>(
    work: &UnitOfWork,
    reversals: &[&'r Reversal],
    rows: &Rows,
) -> Result<Vec<&'r Reversal>> {
    let places = reversals.iter().enumerate();
    let places: HashMap<&EntityRef, usize> = places
        .map(|(place, reversal)| (&reversal.record, place))
        .collect();
    // Which ones wait for each, and for how many each waits.
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); reversals.len()];
    let mut waits: Vec<usize> = vec![0; reversals.len()];
    for (place, reversal) in reversals.iter().enumerate() {
        let Some(row) = rows.get(&reversal.record) else {
            continue;
        };
        let object = described(work, &reversal.object).await?;
        let reversed = match reversal.takes_away() {
            true => None,
            false => reversal.reversed(row, row.meta(), work.stamp()).ok(),
        };
        let targets: BTreeSet<usize> = leads(&object, reversed.as_ref().unwrap_or(row))
            .iter()
            .filter_map(|(_, target)| places.get(target).copied())
            .filter(|target| *target != place)
            .collect();
        for target in targets {
            if let (Some(list), Some(count)) = (waiting.get_mut(target), waits.get_mut(place)) {
                list.push(place);
                *count += 1;
            }
        }
    }
    let mut open: BTreeSet<usize> = (0..reversals.len()).collect();
    let is_free = |waits: &[usize], place: usize| waits.get(place) == Some(&0);
    let mut ready: BTreeSet<usize> = open
        .iter()
        .copied()
        .filter(|place| is_free(&waits, *place))
        .collect();
    let mut ordered = Vec::with_capacity(reversals.len());
    // In a circle, the first one is as good as any.
    while let Some(place) = ready.pop_first().or_else(|| open.first().copied()) {
        if !open.remove(&place) {
            continue;
        }
        ordered.extend(reversals.get(place).copied());
        for other in waiting.get(place).into_iter().flatten().copied() {
            if let Some(count) = waits.get_mut(other) {
                *count = count.saturating_sub(1);
            }
            if is_free(&waits, other) && open.contains(&other) {
                ready.insert(other);
            }
        }
    }
    Ok(ordered)
}

/// The live records that lead to what is to be deleted, each link on its own. Of those besides the
/// commit's own records, some that lead to each target at least: all where they are not too many.
async fn referrers(
    work: &UnitOfWork,
    reversals: &[Reversal],
    own: &HashSet<EntityRef>,
) -> Result<Vec<Referrer>> {
    let mut by_object: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
    for reversal in reversals.iter().filter(|one| one.takes_away()) {
        let ids = by_object.entry(&reversal.record.object);
        ids.or_default().push(reversal.record.id);
    }
    let registry = work.registry().await?;
    let mut found = Vec::new();
    for (name, ids) in by_object {
        let links = registry.links_to(name);
        let of_full = |link: &&Link| link.object.lifecycle() == Lifecycle::Full;
        for batch in ids.chunks(BATCH) {
            for link in links.iter().filter(of_full) {
                found.extend(referrers_by(work, name, batch, link, own).await?);
            }
        }
    }
    Ok(found)
}

/// The live records that lead to records of an object by one link.
async fn referrers_by(
    work: &UnitOfWork,
    name: &str,
    targets: &[Uuid],
    link: &Link,
    own: &HashSet<EntityRef>,
) -> Result<Vec<Referrer>> {
    let field = path_at(&link.object, link.field);
    let mut limit = own.len() + REFERRERS;
    // The targets that no other record is known to lead to yet.
    let mut open: Vec<Uuid> = targets.to_vec();
    let mut known: HashSet<EntityRef> = HashSet::new();
    let mut others = 0;
    let mut found = Vec::new();
    while !open.is_empty() {
        let (leading, is_all) = leading_to(work, link, &open, limit).await?;
        let mut led: HashSet<Uuid> = HashSet::new();
        for row in leading.iter().filter(|row| !row.is_deleted()) {
            let Some(target) = link.target(&**row).filter(|id| open.contains(id)) else {
                continue;
            };
            let by = EntityRef::new(link.object.name(), row.id());
            if !own.contains(&by) {
                let is_first = led.insert(target);
                if others >= REFERRERS && !is_first {
                    continue;
                }
                others += 1;
            }
            if known.insert(by.clone()) {
                found.push(Referrer {
                    target: EntityRef::new(name, target),
                    by,
                    field: field.clone(),
                });
            }
        }
        if is_all {
            break;
        }
        let before = open.len();
        open.retain(|id| !led.contains(id));
        // Nothing but rows that do not count.
        if open.len() == before {
            limit = limit.saturating_mul(2);
        }
    }
    Ok(found)
}

/// Up to `limit` live records that lead to one of the targets, and whether these are all.
async fn leading_to(
    work: &UnitOfWork,
    link: &Link,
    targets: &[Uuid],
    limit: usize,
) -> Result<(Vec<Row>, bool)> {
    if link.custom().is_some() {
        return work.some_led_by_custom(link, targets, limit).await;
    }
    let leading = link.to(targets).and(Condition::not_deleted());
    let query = Query::new(&link.object, leading).limit(limit);
    let rows = work.select(&query).await?;
    let is_all = rows.len() < limit;
    Ok((rows, is_all))
}

//! What is to be reversed of one change, and what later events mean for that.

use std::collections::{BTreeMap, BTreeSet};

use crm_core::EntityRef;
use crm_core::merging::units;
use crm_core::schema::{Meta, ObjectRef, Row, Value, system};
use crm_core::{Record, Stamp};
use uuid::Uuid;

use super::{Obstacle, ObstacleReason};
use crate::event::{AuditEvent, AuditKind, FieldChange};
use crate::mask::{MASK, is_whole, overlap};
use crate::version::{lay, moment_of};

/// What a commit did to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Created,
    Changed,
    Deleted,
    /// It was deleted before, and came back.
    CameBack,
    /// It was removed for good.
    Purged,
}

/// What is to be reversed of one change of a commit.
pub(super) struct Reversal {
    pub(super) object: ObjectRef,
    pub(super) record: EntityRef,
    /// The version that the commit made.
    pub(super) version: i64,
    pub(super) deed: Deed,
    commit: Uuid,
    /// The old values by field.
    fields: BTreeMap<String, Value>,
    /// Whether the record was written since the commit, so that there are later events to tell.
    pub(super) is_written_since: bool,
    /// The fields that were changed since, each with the last commit that did.
    touched: BTreeMap<String, Uuid>,
    /// What else became of the record.
    fate: Option<(ObstacleReason, Uuid)>,
}

impl Reversal {
    /// `None` where the commit changed nothing that is not kept in step by the engine.
    pub(super) fn of(object: &ObjectRef, event: &Record<AuditEvent>) -> Option<Self> {
        let was_deleted = event.changes.field(name_at(object, system::DELETED_AT));
        let deed = match event.event {
            // Created and deleted in one.
            AuditKind::Create if was_deleted.is_some() => return None,
            AuditKind::Create => Deed::Created,
            AuditKind::Delete => Deed::Deleted,
            AuditKind::Purge => Deed::Purged,
            AuditKind::Restore if was_deleted.is_some() => Deed::CameBack,
            AuditKind::Restore | AuditKind::Update | AuditKind::Erase => Deed::Changed,
            AuditKind::Read => return None,
        };
        let changed = event
            .changes
            .iter()
            .filter(|change| was_there(event, change));
        let changed = changed.filter(|change| counts(object, &change.field));
        let old = |change: &FieldChange| match &change.old {
            Some(old) => old.clone(),
            // What was erased is not kept.
            None => Value::from(MASK),
        };
        let fields: BTreeMap<String, Value> = changed
            .map(|change| (change.field.to_string(), old(change)))
            .collect();
        if deed == Deed::Changed && fields.is_empty() {
            return None;
        }
        Some(Self {
            object: object.clone(),
            record: EntityRef::new(object.name(), event.record_id),
            version: event.record_version,
            deed,
            commit: event.commit_id,
            fields,
            is_written_since: false,
            touched: BTreeMap::new(),
            fate: None,
        })
    }

    /// Takes in what happened to the record later.
    pub(super) fn tell(&mut self, event: &Record<AuditEvent>) {
        let came_back = event
            .changes
            .field(name_at(&self.object, system::DELETED_AT));
        let fate = match event.event {
            AuditKind::Delete => Some(ObstacleReason::Deleted),
            AuditKind::Purge => Some(ObstacleReason::Purged),
            AuditKind::Restore if came_back.is_some() => Some(ObstacleReason::Restored),
            _ => None,
        };
        let by = event.commit_id;
        if let Some(fate) = fate {
            self.fate = Some((fate, by));
        }
        for change in &event.changes {
            if was_there(event, change) && counts(&self.object, &change.field) {
                self.touched.insert(change.field.to_string(), by);
            }
        }
    }

    /// All that stands in the way, by what was told. What is in the way of single fields is taken out
    /// of the reversal, together with the fields that go with them. Whether anything is left.
    pub(super) fn settle(&mut self, obstacles: &mut Vec<Obstacle>) -> bool {
        if self.deed == Deed::Purged {
            obstacles.push(self.obstacle(None, Some(self.commit), ObstacleReason::Purged));
            return false;
        }
        if let Some((why, by)) = self.fate.clone() {
            obstacles.push(self.obstacle(None, Some(by), why));
            return false;
        }
        if matches!(self.deed, Deed::Created | Deed::CameBack) {
            for (field, by) in &self.touched {
                let why = ObstacleReason::Changed;
                obstacles.push(self.obstacle(Some(field), Some(*by), why));
            }
            if !self.touched.is_empty() {
                return false;
            }
        }
        let mut blocked = BTreeSet::new();
        for (field, old) in &self.fields {
            let touched = self.touched.iter();
            let touched = touched.filter(|(path, _)| overlap(path, field));
            // Ids of commits sort by time.
            if let Some(by) = touched.map(|(_, by)| *by).max() {
                let why = ObstacleReason::Changed;
                obstacles.push(self.obstacle(Some(field), Some(by), why));
                blocked.insert(field.clone());
            } else if !is_whole(old) {
                obstacles.push(self.obstacle(Some(field), None, ObstacleReason::NotKept));
                blocked.insert(field.clone());
            }
        }
        self.block(&blocked);
        self.deed != Deed::Changed || !self.fields.is_empty()
    }

    /// Leaves fields out, together with those that are decided with them.
    pub(super) fn block(&mut self, blocked: &BTreeSet<String>) {
        if blocked.is_empty() {
            return;
        }
        if self.deed != Deed::Changed {
            self.fields.retain(|field, _| !blocked.contains(field));
            return;
        }
        let units = units(&self.object);
        let unit = |path: &str| {
            let index = self.object.field_index(path)?;
            units.get(index).copied()
        };
        let blocked_units: BTreeSet<usize> = blocked.iter().filter_map(|path| unit(path)).collect();
        let stays = |path: &str| {
            blocked.contains(path) || unit(path).is_some_and(|unit| blocked_units.contains(&unit))
        };
        let kept = std::mem::take(&mut self.fields);
        let kept = kept.into_iter().filter(|(path, _)| !stays(path));
        self.fields = kept.collect();
    }

    pub(super) fn obstacle(
        &self,
        field: Option<&str>,
        by_commit: Option<Uuid>,
        why: ObstacleReason,
    ) -> Obstacle {
        Obstacle {
            record: self.record.clone(),
            field: field.map(ToOwned::to_owned),
            by_commit,
            why,
        }
    }

    /// Whether the record is there after the undo, as it was not before.
    pub(super) const fn brings_back(&self) -> bool {
        matches!(self.deed, Deed::Deleted)
    }

    /// Whether the record is gone after the undo.
    pub(super) const fn takes_away(&self) -> bool {
        matches!(self.deed, Deed::Created | Deed::CameBack)
    }

    /// Whether the field goes back.
    pub(super) fn has_field(&self, path: &str) -> bool {
        self.fields.keys().any(|field| overlap(field, path))
    }

    /// Whether any field goes back.
    pub(super) fn has_fields(&self) -> bool {
        !self.fields.is_empty()
    }

    /// The record as it is after the undo.
    ///
    /// # Errors
    /// Where the old values make no record.
    pub(super) fn reversed(
        &self,
        row: &Row,
        meta: Meta,
        now: Stamp,
    ) -> Result<Row, crm_core::error::Faults> {
        let mut values = row.values();
        let mut meta = meta;
        for (path, old) in &self.fields {
            if self.object.field_index(path) == Some(system::ARCHIVED_AT) {
                meta.archived_at = moment_of(old);
            } else {
                lay(&self.object, &mut values, path, old);
            }
        }
        if self.takes_away() {
            meta.deleted_at = Some(now.at);
        } else if self.brings_back() {
            meta.deleted_at = None;
        }
        row.with_values(meta, values)
    }
}

fn name_at(object: &ObjectRef, index: usize) -> &str {
    object.field_name(index)
}

/// Whether a change of a field is one of its own: what the engine keeps in step follows, and when a
/// record was deleted is told by its fate.
fn counts(object: &ObjectRef, path: &str) -> bool {
    let (name, member) = match path.split_once('.') {
        Some((name, member)) => (name, Some(member)),
        None => (path, None),
    };
    let Some(index) = object.field_index(name) else {
        // A field that is no more.
        return false;
    };
    if index == system::DELETED_AT {
        return false;
    }
    if let Some(member) = member
        && object.custom_document() == Some(index)
        && let Some(custom) = object.custom_field(member)
    {
        return !custom.field.read_only;
    }
    object
        .fields()
        .get(index)
        .is_some_and(|field| !field.in_step)
}

/// Whether the event tells of a field that had a value before and after. That of an erasure does not
/// say which.
fn was_there(event: &AuditEvent, change: &FieldChange) -> bool {
    let is_told = change.old.is_some() || event.event == AuditKind::Erase;
    is_told && change.new.is_some()
}

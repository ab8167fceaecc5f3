//! Reverses what a commit changed, from its events.
//!
//! Every change of the commit is turned around in one new commit: what was created is deleted, what
//! was deleted comes back, and changed fields have their old values again. Values that the engine keeps
//! in step with other records, entries of logs and derived rows follow by themselves. As the new commit
//! has events like any other, undoing it brings back what was undone.
//!
//! What a later commit touched stands in the way, and is told precisely. [`plan`] says what is to be
//! reversed and what events behind it mean for that (pure), [`stage`] does it in a unit of work: first
//! what comes back, then what changes, each record behind those that it leads to, last what goes, once
//! nothing leads to it.

mod plan;
mod stage;

use std::collections::BTreeMap;

use crm_core::EntityRef;
use crm_core::error::{Error, Result};
use crm_core::query::WhereExt;
use crm_core::schema::Registry;
use serde::Serialize;
use uuid::Uuid;

use self::plan::Reversal;
use crate::event::AuditEvent;
use crate::restore::ATTEMPTS;
use crate::trail::AuditTrail;

/// How many records are asked for at once.
const BATCH: usize = 500;

/// What became of the undoing of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
#[must_use = "it says whether the commit was undone"]
pub struct UndoReport {
    /// The commit that was to be undone.
    pub commit: Uuid,
    /// The commit that undid it, which can be undone in turn; `None` where nothing was written.
    pub undone_by: Option<Uuid>,
    /// The records that were written.
    pub undone: Vec<EntityRef>,
    /// All that stands in the way.
    pub obstacles: Vec<Obstacle>,
}

impl UndoReport {
    /// Whether everything was undone.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.obstacles.is_empty()
    }
}

/// Something that stands in the way of an undo.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[non_exhaustive]
pub struct Obstacle {
    /// The record that cannot be as it was.
    pub record: EntityRef,
    /// The field, where it is about one.
    pub field: Option<String>,
    /// The commit that did it, where one did: the last one, which would have to be undone first.
    pub by_commit: Option<Uuid>,
    /// What it is.
    pub why: ObstacleReason,
}

/// Why something cannot be undone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ObstacleReason {
    /// A later commit changed the field.
    Changed,
    /// A later commit deleted the record, or merged it into another.
    Deleted,
    /// A later commit brought the record back.
    Restored,
    /// The record was removed for good.
    Purged,
    /// Another record, which the commit did not make, leads to the one that it made.
    ReferredTo {
        /// That record.
        by: EntityRef,
        /// By which field.
        field: String,
    },
    /// The old value leads to a record that is not there any more.
    TargetGone,
    /// The trail does not keep the old value: it is sensitive, or was erased.
    NotKept,
    /// A rule refuses the old state.
    Refused {
        /// The code of the error, such as `validation`.
        code: &'static str,
    },
    /// The tenant has no such object any more.
    UnknownObject,
}

impl AuditTrail<'_> {
    /// Undoes a commit: all that it changed, in one commit, or nothing. What it created is deleted,
    /// what it deleted comes back, what it changed has its old values. An undo can be undone.
    ///
    /// Rules judge it as they judge every write of the engine that puts things in order: gates of
    /// stages and the like do not stand in the way of a state that was there before. A deal that was
    /// written since goes back into a stage only if it fulfils what the stage asks of it as it is.
    /// Figures over other records, entries of logs and derived rows are not reversed; they follow.
    ///
    /// ```
    /// # use crm_core::{Session, Result};
    /// # use crm_audit::AuditExt;
    /// # async fn example(session: &Session, commit: uuid::Uuid) -> Result<()> {
    /// let report = session.audit().undo_commit(commit).await?;
    /// for obstacle in &report.obstacles {
    ///     println!("{:?} {:?} {:?}", obstacle.record, obstacle.field, obstacle.why);
    /// }
    /// if let Some(undo) = report.undone_by {
    ///     // Thought better of it.
    ///     let redo = session.audit().undo_commit(undo).await?;
    ///     assert!(redo.is_complete());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`] if no event tells of such a commit; what the commit of the undo is refused
    /// for, such as [`Error::Duplicate`] where another record has taken a unique value.
    pub async fn undo_commit(&self, commit: Uuid) -> Result<UndoReport> {
        self.undo(commit, Mode::AllOrNothing).await
    }

    /// Like [`undo_commit`](Self::undo_commit), as far as nothing stands in the way: obstacles stay as
    /// they are, and the rest is undone. Fields that are decided together, such as an amount and its
    /// currency, are undone together or not at all.
    ///
    /// ```
    /// # use crm_core::{Session, Result};
    /// # use crm_audit::AuditExt;
    /// # async fn example(session: &Session, commit: uuid::Uuid) -> Result<()> {
    /// let report = session.audit().undo_what_is_untouched(commit).await?;
    /// println!("{} undone, {} left", report.undone.len(), report.obstacles.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`undo_commit`](Self::undo_commit).
    pub async fn undo_what_is_untouched(&self, commit: Uuid) -> Result<UndoReport> {
        self.undo(commit, Mode::WhatIsUntouched).await
    }

    async fn undo(&self, commit: Uuid, mode: Mode) -> Result<UndoReport> {
        let mut attempt = 1;
        loop {
            let mut report = UndoReport {
                commit,
                undone_by: None,
                undone: Vec::new(),
                obstacles: Vec::new(),
            };
            let registry = self.session.registry().await?;
            let reversals = self
                .reversals(commit, &registry, &mut report.obstacles)
                .await?;
            let mut work = self.session.begin();
            let undone = self
                .stage_undo(&mut work, reversals, mode, &mut report.obstacles)
                .await?;
            report.obstacles.sort_unstable();
            report.obstacles.dedup();
            let is_refused = mode == Mode::AllOrNothing && !report.is_complete();
            if is_refused || undone.is_empty() {
                return Ok(report);
            }
            match work.commit().await {
                Ok(done) => {
                    report.undone_by = Some(done.id);
                    report.undone = undone;
                    return Ok(report);
                }
                Err(Error::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// What is to be reversed, in the order of the commit's changes.
    async fn reversals(
        &self,
        commit: Uuid,
        registry: &Registry,
        obstacles: &mut Vec<Obstacle>,
    ) -> Result<Vec<Reversal>> {
        let events = self.of_commit(commit).await?;
        if events.is_empty() {
            return Err(Error::NotFound {
                object: "commit".to_owned(),
                id: commit,
            });
        }
        let mut reversals = Vec::with_capacity(events.len());
        for event in &events {
            let Some(object) = registry.any_object(&event.object) else {
                obstacles.push(Obstacle {
                    record: EntityRef::new(event.object.as_str(), event.record_id),
                    field: None,
                    by_commit: None,
                    why: ObstacleReason::UnknownObject,
                });
                continue;
            };
            reversals.extend(Reversal::of(&object, event));
        }
        Ok(reversals)
    }

    /// Tells each reversal of the events behind it, of those records that were written since.
    async fn tell_later(&self, reversals: &mut [Reversal]) -> Result<()> {
        let mut by_object: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, reversal) in reversals.iter().enumerate() {
            if reversal.is_written_since {
                let places = by_object.entry(reversal.record.object.clone());
                places.or_default().push(place);
            }
        }
        for (object, places) in by_object {
            for batch in places.chunks(BATCH) {
                let of_batch: BTreeMap<Uuid, usize> = batch
                    .iter()
                    .filter_map(|place| Some((reversals.get(*place)?.record.id, *place)))
                    .collect();
                let versions = batch.iter().filter_map(|place| reversals.get(*place));
                let least = versions.map(|reversal| reversal.version).min();
                let filter = AuditEvent::RECORD_ID
                    .one_of(of_batch.keys().copied())
                    .and(AuditEvent::OBJECT.eq(object.as_str()))
                    .and(AuditEvent::RECORD_VERSION.gt(least.unwrap_or_default()));
                self.each(filter, AuditEvent::RECORD_VERSION.asc(), |event| {
                    let reversal = of_batch.get(&event.record_id);
                    let reversal = reversal.and_then(|place| reversals.get_mut(*place));
                    if let Some(reversal) = reversal
                        && event.record_version > reversal.version
                    {
                        reversal.tell(event);
                    }
                })
                .await?;
            }
        }
        Ok(())
    }
}

/// What happens to what is not in the way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nothing, if anything is in the way.
    AllOrNothing,
    /// It is undone.
    WhatIsUntouched,
}

//! Merging: two or more records that tell of the same company, person or deal become one (C-021,
//! R-018), and can become two again.
//!
//! It works for every object whose records can be deleted and restored, by its schema, the host's
//! own included.
//!
//! ```text
//!   survivor ─┐  MergePlan: which value counts in each field        ┌─ survivor, all through its rules
//!   losers  ──┤─ links: what led to a loser leads to the survivor ──┤─ links
//!   choices ──┘         or is dropped, as it says nothing new       ├─ losers, deleted: tombstones
//!                                                                   └─ Merge and its MergeLinks
//!                                                                      one commit, audited
//! ```
//!
//! - **Fields.** Without a choice the survivor's value counts, or, where it has none, the first of
//!   the losers'. Lists have the entries of all, JSON objects the members of all. What belongs
//!   together (an address, a telephone number, an amount and its currency) comes from one record. A
//!   field may have another rule in the schema ([`MergeRule`](crate::schema::MergeRule)): what a
//!   person refused is never lost (R-026). What only filled a gap gives way where the rules between
//!   the fields of the record do not allow it.
//! - **Trees.** A reference of an object to itself is taken for its tree: where the survivor stood
//!   below the loser, it takes the loser's place.
//! - **Links.** Every record that leads to a loser leads to the survivor afterwards, deleted ones
//!   too: references, and ids of records of any object
//!   ([`FieldSchema::record_of`](crate::schema::FieldSchema::record_of)). Where at most one record
//!   counts, as of a contact's affiliations the primary one, that of the survivor goes on counting and
//!   the other moves without. One that would be like another in a unique key, or lead from the survivor
//!   to itself, is deleted, with an entry that knows it. One that its own rules refuse is treated as the
//!   deletion of the loser would treat it. Entries of logs stay with the record that they tell of.
//! - **Losers** are deleted but keep their values. Reading one is [`NotFound`](crate::Error::NotFound),
//!   and so is writing a reference to it; [`Records::resolve`] leads to the survivor. Restoring one
//!   is refused while the merge stands: undo the merge. Purging one removes the history of its merge
//!   too, as that holds its data.
//! - **Undo.** [`Records::undo`] restores the loser and gives back every field and link that nobody
//!   touched since; the rest is listed and stays. Where nobody touched anything, a merge and its
//!   undoing change nothing but versions, stamps and the entries of logs.

mod links;
mod plan;
mod redirect;
mod service;
mod undo;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

pub(crate) use links::keys_of;
#[doc(hidden)]
pub use plan::units;
pub use plan::{Above, Choices, MergePlan, Winner};
pub(crate) use redirect::{ensure_not_merged, merge_of, resolve, stands};
pub(crate) use service::{is_refused, is_taken};
pub(crate) use undo::{former_value, leads_nowhere};

use crate::Id;
use crate::engine::workspace::Settle;
use crate::engine::{CommitHook, NamedRecords, Records, UnitOfWork, in_work};
use crate::error::{Error, Result};
use crate::query::{Condition, FieldAt, Query};
use crate::record::Record;
use crate::schema::{Entity, Lifecycle, Picklist, Row, Value};

/// One record taken into another (C-021, R-018). When and by whom is told by the record's
/// `created`; the merge stands until `undone_at`.
///
/// Deleting it forgets where the loser went; [`Records::restore`] remembers.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "merge",
    table = "merges",
    index(survivor_id),
    index(loser_id)
)]
pub struct Merge {
    /// The object of both records.
    #[field(required, read_only, max_len = 100)]
    pub object: String,
    /// The record that stayed.
    #[field(required, read_only)]
    pub survivor_id: Uuid,
    /// The record that went.
    #[field(required, read_only)]
    pub loser_id: Uuid,
    /// The commit of the merge, which its audit events carry.
    #[field(required, read_only)]
    pub commit_id: Uuid,
    /// Why.
    #[field(read_only, multiline, max_len = 1000, personal)]
    pub reason: Option<String>,
    /// The values of the record that went, secrets left out.
    #[field(read_only, personal, default = json!({}))]
    pub loser_data: Json,
    /// The survivor's fields that the merge changed, as they were.
    #[field(read_only, personal, default = json!({}))]
    pub survivor_before: Json,
    /// The survivor's fields that the merge changed, as it left them.
    #[field(read_only, personal, default = json!({}))]
    pub survivor_after: Json,
    /// How many links were led to the survivor.
    #[field(read_only)]
    pub moved_links: u32,
    /// How many links were dropped or emptied.
    #[field(read_only)]
    pub dropped_links: u32,
    /// When the merge was undone.
    #[field(read_only)]
    pub undone_at: Option<DateTime<Utc>>,
}

/// One link that a merge changed: a field of a record that led to the loser.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "merge_link", table = "merge_links", log, index(record_id))]
pub struct MergeLink {
    /// The merge.
    #[field(required, references = "merge", on_delete = "cascade")]
    pub merge_id: Id<Merge>,
    /// The object of the record.
    #[field(required, max_len = 100)]
    pub object: String,
    /// The record.
    #[field(required)]
    pub record_id: Uuid,
    /// The field that led to the loser; `custom_fields.owner` for a custom field.
    #[field(required, max_len = 120)]
    pub field: String,
    /// What became of it.
    #[field(required)]
    pub fate: LinkFate,
}

/// What is said about a write by which a merge, a conversion, or the undoing of either leads a record
/// elsewhere, to the rules that allow this only to them.
pub(crate) const BY_MERGE: &str = "by merge";

/// What a merge did to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum LinkFate {
    /// It leads to the survivor.
    Moved,
    /// The flag by which a record is the one that counts, such as the primary affiliation of a
    /// contact, was taken from it, as the survivor has one.
    Yielded,
    /// Its record was deleted.
    Dropped,
    /// It leads nowhere.
    Emptied,
}

/// What a merge would do; nothing is written.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MergePreview {
    /// Every field that has a value in one of the records.
    pub fields: Vec<FieldPreview>,
    /// How many links would be led to the survivor, by object and field.
    pub moved: Vec<LinkPreview>,
    /// How many records would be dropped, by object and field. Those that only their own rules
    /// refuse are found by the merge itself.
    pub dropped: Vec<LinkPreview>,
}

/// A field in a merge.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct FieldPreview {
    /// The field.
    pub field: String,
    /// The values, the survivor's first.
    pub values: Vec<Value>,
    /// The value that counts.
    pub result: Value,
    /// Where it comes from.
    pub winner: Winner,
    /// Whether the records have different values.
    pub conflicts: bool,
}

impl fmt::Debug for FieldPreview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FieldPreview")
            .field("field", &self.field)
            .field("winner", &self.winner)
            .field("conflicts", &self.conflicts)
            .finish_non_exhaustive()
    }
}

/// Links of one kind in a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkPreview {
    /// The object whose records have the link.
    pub object: String,
    /// The field.
    pub field: String,
    /// How many.
    pub count: usize,
}

/// What a merge did.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Merged<T> {
    /// The survivor as it is now.
    pub survivor: T,
    /// The merges, one for each loser, in order. They are undone in the reverse order.
    pub merges: Vec<Id<Merge>>,
    /// How many links were led to the survivor.
    pub moved: usize,
    /// How many links were dropped or emptied.
    pub dropped: usize,
}

/// What the undoing of a merge did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unmerged {
    /// The object of both records.
    pub object: String,
    /// The record that is back.
    pub restored: Uuid,
    /// How many fields of the survivor and links were given back.
    pub given_back: usize,
    /// What stays, as somebody touched it since.
    pub kept: Vec<Kept>,
}

/// A field or link that the undoing of a merge left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// The object of the record.
    pub object: String,
    /// The record.
    pub id: Uuid,
    /// The field.
    pub field: String,
    /// Why.
    pub why: KeptReason,
}

/// Why the undoing of a merge left something as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeptReason {
    /// Somebody changed it since.
    Changed,
    /// The record is gone.
    Gone,
    /// What it led to is gone.
    TargetGone,
    /// The rules of the object do not allow the former value any more.
    Refused,
}

impl<T: Settle> Settle for Merged<T> {
    fn settle(self, work: &UnitOfWork) -> Self {
        Self {
            survivor: self.survivor.settle(work),
            ..self
        }
    }
}

impl Settle for Unmerged {}

impl<E: Entity> Records<'_, E> {
    /// Says what [`merge_into`](Self::merge_into) would do with the same arguments.
    ///
    /// # Errors
    /// Like [`merge_into`](Self::merge_into), as far as that is known before it is tried.
    pub async fn preview_merge(
        &mut self,
        survivor: Id<E>,
        losers: &[Id<E>],
        choices: &Choices,
    ) -> Result<MergePreview> {
        let losers: Vec<Uuid> = losers.iter().map(|id| id.uuid()).collect();
        let mut attempt = self.workspace.attempt();
        service::preview(
            attempt.work(),
            E::schema(),
            survivor.uuid(),
            &losers,
            choices,
        )
        .await
    }

    /// Takes records into another one, in one commit: see the [module](crate::merging).
    ///
    /// ```
    /// # use crm_core::{Session, error::Result, accounts::Account, merging::Choices};
    /// # async fn example(session: &Session) -> Result<()> {
    /// let globex = session.accounts().create(Account::new("Globex")).await?;
    /// let double = session.accounts().create(Account::new("Globex Corp.")).await?;
    /// let choices = Choices::new().take(Account::NAME.name(), double.id);
    /// let preview = session.accounts().preview_merge(globex.id, &[double.id], &choices).await?;
    /// assert!(preview.fields.iter().any(|field| field.field == "name" && field.conflicts));
    ///
    /// let merged = session
    ///     .accounts()
    ///     .merge_into(globex.id, &[double.id], &choices, Some("the same company"))
    ///     .await?;
    /// assert_eq!(merged.survivor.name, "Globex Corp.");
    /// assert_eq!(session.accounts().resolve(double.id).await?, globex.id);
    ///
    /// let undone = session.merges().undo(merged.merges[0]).await?;
    /// assert!(undone.kept.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`] of the survivor or a loser; [`Error::Rule`] `merged_with_itself` or
    /// `nothing_to_merge` (R-018); [`Error::Validation`] of a choice, or of what the rules of the
    /// object refuse; [`Error::Reference`] if a record that must refer to the loser may not refer
    /// to the survivor.
    pub async fn merge_into(
        &mut self,
        survivor: Id<E>,
        losers: &[Id<E>],
        choices: &Choices,
        reason: Option<&str>,
    ) -> Result<Merged<Arc<Record<E>>>> {
        let losers: Vec<Uuid> = losers.iter().map(|id| id.uuid()).collect();
        in_work!(self.workspace, |work| {
            let merged =
                service::merge(work, E::schema(), survivor.uuid(), &losers, choices, reason)
                    .await?;
            let record = work.get(survivor).await?;
            Ok(Merged {
                survivor: record,
                merges: merged.merges,
                moved: merged.moved,
                dropped: merged.dropped,
            })
        })
    }

    /// The record that a record became part of, through as many merges as there were; the record
    /// itself if it was not merged.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, or it is deleted.
    pub async fn resolve(&self, id: Id<E>) -> Result<Id<E>> {
        let found = redirect::resolve(&self.workspace, E::schema(), &[id.uuid()]).await?;
        match found.into_iter().next().flatten() {
            Some(survivor) => Ok(Id::new(survivor)),
            None => Err(missing(E::schema().name(), id.uuid())),
        }
    }

    /// [Resolves](Self::resolve) many records in the same order, in as many rounds as the longest
    /// chain of merges has steps; `None` where there is no record.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn resolve_all(&self, ids: &[Id<E>]) -> Result<Vec<Option<Id<E>>>> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
        let found = redirect::resolve(&self.workspace, E::schema(), &ids).await?;
        Ok(found.into_iter().map(|id| id.map(Id::new)).collect())
    }

    /// The record with this id or, if it was merged, the one that it became part of.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, or it is deleted.
    pub async fn get_or_survivor(&self, id: Id<E>) -> Result<Arc<Record<E>>> {
        match self.get(id).await {
            Err(Error::NotFound { .. }) => self.get(self.resolve(id).await?).await,
            found => found,
        }
    }
}

impl NamedRecords<'_> {
    /// Says what a merge would do; see [`Records::preview_merge`].
    ///
    /// # Errors
    /// Like [`merge_into`](Self::merge_into).
    pub async fn preview_merge(
        &mut self,
        survivor: Uuid,
        losers: &[Uuid],
        choices: &Choices,
    ) -> Result<MergePreview> {
        let object = self.schema().clone();
        let mut attempt = self.workspace.attempt();
        service::preview(attempt.work(), &object, survivor, losers, choices).await
    }

    /// Takes records into another one; see [`Records::merge_into`].
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Rule`], [`Error::Validation`], [`Error::Reference`].
    pub async fn merge_into(
        &mut self,
        survivor: Uuid,
        losers: &[Uuid],
        choices: &Choices,
        reason: Option<&str>,
    ) -> Result<Merged<Row>> {
        let object = self.schema().clone();
        in_work!(self.workspace, |work| {
            service::merge(work, &object, survivor, losers, choices, reason).await
        })
    }

    /// The records that these became part of; see [`Records::resolve_all`].
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn resolve_all(&self, ids: &[Uuid]) -> Result<Vec<Option<Uuid>>> {
        redirect::resolve(&self.workspace, self.schema(), ids).await
    }
}

impl Records<'_, Merge> {
    /// Undoes a merge in one commit: the loser is back as it was, and so is every field of the
    /// survivor and every link that nobody touched since; what somebody touched stays, and is
    /// listed. A group of fields that belong together stays as a whole.
    ///
    /// # Errors
    /// [`Error::NotFound`] of the merge, the survivor or the loser; [`Error::Rule`] `undone` if it
    /// is undone already, `merged_since` with the id of the merge that must be undone first (R-018);
    /// [`Error::Duplicate`] if another record has taken a unique value of the loser since.
    pub async fn undo(&mut self, merge: Id<Merge>) -> Result<Unmerged> {
        in_work!(self.workspace, |work| { undo::undo(work, merge).await })
    }
}

fn missing(object: &str, id: Uuid) -> Error {
    Error::NotFound {
        object: object.to_owned(),
        id,
    }
}

/// That a field has one of these ids.
fn one_of(field: usize, ids: &[Uuid]) -> Condition {
    Condition::In {
        field: FieldAt::new(field),
        values: ids.iter().copied().map(Value::Uuid).collect(),
    }
}

/// The place of a field of `E`, which has it.
fn place_of<E: Entity>(name: &str) -> usize {
    E::schema().field_index(name).unwrap_or_default()
}

/// Removes the history of merges together with the records that it tells of, as it holds their
/// data.
#[derive(Debug)]
pub(crate) struct MergeHistory;

#[async_trait]
impl CommitHook for MergeHistory {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let purged: Vec<Uuid> = work
            .staged()
            .iter()
            .filter(|change| change.after().is_none() && change.before().is_some())
            .filter(|change| change.object().lifecycle() == Lifecycle::Full)
            .filter(|change| change.object() != Merge::schema())
            .map(|change| change.id())
            .collect();
        if purged.is_empty() {
            return Ok(());
        }
        let tells = Condition::Or(vec![
            one_of(place_of::<Merge>("survivor_id"), &purged),
            one_of(place_of::<Merge>("loser_id"), &purged),
        ]);
        let merges = work.select(&Query::new(Merge::schema(), tells)).await?;
        if merges.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = merges.iter().map(|merge| merge.id()).collect();
        let of_merges = one_of(place_of::<MergeLink>("merge_id"), &ids);
        let links = work
            .select(&Query::new(MergeLink::schema(), of_merges))
            .await?;
        for row in links.iter().chain(&merges) {
            work.remove(row);
        }
        Ok(())
    }
}

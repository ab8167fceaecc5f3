//! The in-memory storage backend of the CRM engine.
//!
//! For tests, examples, prototypes, and hosts whose data lives as long as their process. It means
//! exactly what the other backends mean; the conformance suite of `crm-core` is run against it.
//!
//! # How it works
//!
//! ```text
//! MemoryStorage
//! ├─ the platform's rows ─► Root                       rows of all tenants: unique over all of them
//! └─ tenant ─► Root ──────► Space ─► Table "contact"
//!              │ current    (a       │ rows     id ──────────────────────► row
//!              │ state      snap-    │ indexes  owner_id, created_at, id ► row
//!              └ writer's   shot)    └ unique   email, folded, id ───────► row
//!                lock
//! ```
//!
//! All maps are persistent: a copy shares its nodes with the original, and whoever changes one
//! copies only the nodes on the way that somebody else holds too. So
//!
//! - a **read** takes the current state, which costs a counter, and works on it for as long as it
//!   likes. It never waits for the checks of a commit, and what it sees is one moment;
//! - a **commit** is the only one of its tenant. It checks the change set against the current state
//!   and then makes the next state current. Small commits do that in place while no reader holds
//!   the nodes that change; large ones build the next state aside and put it there at once;
//! - **tenants** share nothing but the platform's rows, of which each sees its own.
//!
//! Logs that are fed ([`ObjectSchema::is_fed`](crm_core::schema::ObjectSchema::is_fed)) also keep their
//! entries by the numbers of their commits, which the only commit of a tenant takes in its turn.
//!
//! Queries look into the indexes that the schema declares; how one is chosen is told in the module
//! `plan`, how values become keys that sort like them in the module `key`.

mod archive;
mod commit;
mod facts;
mod index;
mod key;
mod leading;
#[cfg(test)]
mod model;
mod plan;
mod read;
mod space;
mod table;
mod trees;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use crm_core::query::{AggregateQuery, Group, Query};
use crm_core::schema::{ObjectRef, ObjectScope, Row};
use crm_core::storage::{
    ChangeSet, Claim, Committed, FeedPage, FeedQuery, Scope, Storage, StorageError,
};
use uuid::Uuid;

use crate::space::{Spaces, reaches_platform};

/// Up to how many rows are read by id without taking a snapshot.
const FEW: usize = 16;

/// Keeps rows in memory, for as long as it or a clone of it lives.
///
/// A clone is another handle of the same rows. No method ever waits for something outside of this
/// process, so its futures are ready when they are first polled.
///
/// ```
/// use crm_core::schema::{FieldSchema, FieldType, Meta, ObjectSchema, Value};
/// use crm_core::storage::{Change, ChangeSet, Scope, Storage};
/// use crm_core::{Actor, Id, Stamp};
/// use crm_storage_memory::MemoryStorage;
/// use uuid::Uuid;
///
/// # pollster::block_on(async {
/// let storage = MemoryStorage::new();
/// let acme = Scope::Tenant(Id::new(Uuid::from_u128(1)));
///
/// let note = ObjectSchema::builder("note", "notes")
///     .field(FieldSchema::new("title", FieldType::text(100)))
///     .build();
/// let at = chrono::DateTime::UNIX_EPOCH;
/// let meta = Meta::first(Uuid::from_u128(7), Stamp { at, by: Actor::System });
/// let row = note.build(meta, vec![Value::from("Call Ada")]).expect("the values fit");
/// let changes = ChangeSet::new(Uuid::from_u128(8), at, vec![Change::Insert { row }], Vec::new());
/// storage.commit(&acme, &changes).await?;
///
/// let rows = storage.get(&acme, &note, &[Uuid::from_u128(7)]).await?;
/// assert_eq!(rows[0].get("title").as_text(), Some("Call Ada"));
///
/// // Nobody else sees it.
/// let globex = Scope::Tenant(Id::new(Uuid::from_u128(2)));
/// assert!(storage.get(&globex, &note, &[Uuid::from_u128(7)]).await?.is_empty());
/// # Ok::<(), crm_core::storage::StorageError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct MemoryStorage {
    spaces: Arc<Spaces>,
}

impl MemoryStorage {
    /// A storage without rows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// Shows no row: they may be personal.
impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage")
            .field("tenants", &self.spaces.tenant_count())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn get(
        &self,
        scope: &Scope,
        object: &ObjectRef,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, StorageError> {
        let shared = object.scope() == ObjectScope::Platform;
        if ids.len() <= FEW {
            return Ok(self
                .spaces
                .look(scope, shared, |view| view.get(object, ids)));
        }
        Ok(self.spaces.snapshot(scope, shared).view().get(object, ids))
    }

    async fn select(&self, scope: &Scope, query: &Query) -> Result<Vec<Row>, StorageError> {
        let shared = reaches_platform(&query.object, &query.condition);
        self.spaces.snapshot(scope, shared).view().find(query)
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        query: &AggregateQuery,
    ) -> Result<Vec<Group>, StorageError> {
        let shared = reaches_platform(&query.object, &query.condition);
        self.spaces.snapshot(scope, shared).view().aggregate(query)
    }

    async fn commit(&self, scope: &Scope, changes: &ChangeSet) -> Result<Committed, StorageError> {
        commit::commit(&self.spaces, scope, changes)
    }

    async fn claim(&self, scope: &Scope, claim: &Claim) -> Result<Vec<Row>, StorageError> {
        commit::claim(&self.spaces, scope, claim)
    }

    async fn feed(&self, scope: &Scope, query: &FeedQuery) -> Result<FeedPage, StorageError> {
        if scope.tenant().is_none() {
            query.check()?;
            return Ok(FeedPage::nothing(query));
        }
        let shared = reaches_platform(&query.object, &query.condition);
        self.spaces.snapshot(scope, shared).view().feed(query)
    }

    async fn reseal(&self, scope: &Scope, rows: &[Row]) -> Result<usize, StorageError> {
        commit::reseal(&self.spaces, scope, rows)
    }
}

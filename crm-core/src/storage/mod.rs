//! The storage port: what a backend must do, and how to write one.
//!
//! A backend stores rows, checks versions, uniqueness and references as the schema declares them,
//! and answers queries. It holds no rule of the domain: the engine decides, and hands over a
//! [`ChangeSet`] that is applied whole or not at all.
//!
//! # Writing a backend
//!
//! Six methods make a backend ([`Storage`]):
//!
//! 1. **`get`**: rows by id. What is not there, or belongs to another tenant, is left out.
//! 2. **`select`**: the rows that answer a [`Query`]. If you can load all rows
//!    of an object, [`scan`] does the rest: it filters, sorts, finds the position and cuts.
//! 3. **`aggregate`**: the groups that answer an [`AggregateQuery`];
//!    over loaded rows, [`scan_aggregate`] does it.
//! 4. **`commit`**: first check, then write. [`ChangeSet`] lists what to check in which order.
//! 5. **`claim`**: select, change and return rows in one step, so that no two workers get the same.
//! 6. **`feed`**: the entries of a log in the order of their commits. Number the commits so that an
//!    entry never appears in front of one that was given out; over loaded entries, [`scan_feed`]
//!    does the rest.
//!
//! Another one, **`search`**, is there already, for backends without an index of words.
//!
//! A row's values are read with [`AnyRecord::value`](crate::schema::AnyRecord::value) and
//! [`meta`](crate::schema::AnyRecord::meta), in the order of [`ObjectSchema::fields`
//! ](crate::schema::ObjectSchema::fields); it is built again with
//! [`ObjectRef::build`](crate::schema::ObjectRef::build), which gives a typed row where the object
//! has a Rust type. [`Value::to_json`](crate::schema::Value::to_json) and
//! [`FieldType::coerce`](crate::schema::FieldType::coerce) turn values into JSON and back.
//!
//! # Sealed rows
//!
//! A row may carry bytes beside its values ([`AnyRecord::sealed`](crate::schema::AnyRecord::sealed)):
//! its personal values, encrypted by a storage in front of this one. Keep them with the row, and give
//! the row back through [`ObjectRef::build_sealed`](crate::schema::ObjectRef::build_sealed), with its
//! values as they were stored: they need not fit the types of their fields, only how those are held, as
//! any text may stand in the place of an address. Where a row without such
//! bytes takes its place, they are gone. Only rows of objects with personal or sensitive fields are
//! sealed. **`reseal`** is the one call by which a row changes and keeps its version; [`resealed`] is the
//! row that it leaves. An engine without the storage that opens such rows does not read them
//! ([`StorageError::Sealed`]).
//!
//! # Logs by months
//!
//! A log that says so ([`ObjectSchema::is_monthly`](crate::schema::ObjectSchema::is_monthly)) lies by the
//! months in which its entries were made, where a backend can make use of that. A commit may take entries
//! of a month out of it ([`ChangeSet::taken`]), into an archive or for good. [`Taking::moved`] is the row
//! that the archive gets; its place in the feed is the one that it had.
//!
//! # Objects that tenants define
//!
//! An object over a template ([`ObjectSchema::template`](crate::schema::ObjectSchema::template)) is an
//! object like others for all methods, only that no backend is told of it beforehand and that
//! tenants may give different ones the same name. A backend with a table for each object keeps its
//! rows in the table of the template, told apart by the discriminator: **every** statement over that
//! table has it, reads and writes alike, since ids and unique keys count within the object. There is
//! no foreign key behind its references, or those that lead to it, so they are looked up in the
//! commit; [`ChangeSet::objects`] names the objects that this takes. The template itself has no rows:
//! reads of it give none.
//!
//! Then let the public suite judge it (feature `conformance`): one macro makes a test of every
//! case.
//!
//! ```ignore
//! crm_core::conformance_tests!(my_storage::MyStorage::new_empty());
//! ```
//!
//! `examples/custom_backend.rs` of the repository is a whole backend over one JSON-lines file,
//! with the suite run against it.

mod change;
#[cfg(feature = "conformance")]
pub mod conformance;
mod digests;
mod dropped;
mod error;
mod feed;
mod guard;
mod reseal;
mod scan;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

pub use change::{Change, ChangeSet, Claim, Committed, Expectation, Taking, Unreferenced};
pub use digests::Digests;
pub use dropped::DroppedEntries;
pub use error::StorageError;
pub use feed::{FeedPage, FeedPosition, FeedQuery, InvalidPosition, Snapshot, scan_feed};
pub use guard::{GUARD_PAGE, Guard, Judge};
pub use reseal::resealed;
pub use scan::{Violations, check_references, scan, scan_aggregate, unique_value};

use crate::Id;
use crate::query::{AggregateQuery, Condition, Group, Query, QueryError, TextSearch, best};
use crate::schema::{ObjectRef, Row, Value};
use crate::tenancy::Tenant;

/// How many rows a search without an index takes at once.
const SEARCHED_AT_ONCE: usize = 1_000;

/// Whose rows a storage call may see.
///
/// Only sessions make scopes for hosts; a backend takes the tenant from here and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The rows of one tenant. Of the platform's objects, the tenant sees only its own row: the
    /// one whose id is the tenant's.
    Tenant(Id<Tenant>),
    /// The rows of the platform's objects, such as all tenants, and nothing of any tenant. Nothing
    /// is written in this scope.
    Platform,
}

impl Scope {
    /// The tenant, where the scope is one tenant's.
    #[must_use]
    pub const fn tenant(&self) -> Option<Id<Tenant>> {
        match self {
            Self::Tenant(tenant) => Some(*tenant),
            Self::Platform => None,
        }
    }
}

/// A place where rows are kept. See the [module](self) for how to write one.
///
/// All methods may be called at the same time from many threads.
#[async_trait]
pub trait Storage: Debug + Send + Sync + 'static {
    /// Tells the storage of an object before it is used; an engine does so with all that it knows.
    /// For backends that have to know what may refer to what; others do nothing.
    fn register(&self, _object: &ObjectRef) {}

    /// The rows of `object` with these ids, in the order of `ids`; unknown ids are left out.
    /// Deleted and archived rows are rows like others here.
    async fn get(
        &self,
        scope: &Scope,
        object: &ObjectRef,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, StorageError>;

    /// The rows that answer the query, in its order; of a log with a feed, those that were there at
    /// the query's [snapshot](Query::snapshot) if it has one.
    async fn select(&self, scope: &Scope, query: &Query) -> Result<Vec<Row>, StorageError>;

    /// The groups that answer the query, in the order of their keys.
    async fn aggregate(
        &self,
        scope: &Scope,
        query: &AggregateQuery,
    ) -> Result<Vec<Group>, StorageError>;

    /// Applies all changes or none. Every later read, by anyone, sees all of them.
    async fn commit(&self, scope: &Scope, changes: &ChangeSet) -> Result<Committed, StorageError>;

    /// The live records that a text search finds, the best first, at most as many as it asks for.
    ///
    /// The caller reads them and has [`TextSearch::rank`] decide once more: a backend with an index may
    /// name records that are not, or no longer, found by it, and ranks as its index does. It looks for
    /// what stands in custom fields and lists in the rows of
    /// [`search_texts`](crate::schema::search_texts), which may not have all records yet: see
    /// [`CustomFieldSchema::search_complete`](crate::schema::CustomFieldSchema::search_complete).
    /// As it stands here, all rows of the object are looked at.
    async fn search(&self, scope: &Scope, search: &TextSearch) -> Result<Vec<Uuid>, StorageError> {
        let mut found = Vec::new();
        if !search.finds_anything() {
            return Ok(found);
        }
        let mut query =
            Query::new(search.object(), Condition::not_deleted()).limit(SEARCHED_AT_ONCE);
        let mut ranked = Vec::new();
        loop {
            let rows = self.select(scope, &query).await?;
            ranked.extend(
                rows.iter()
                    .filter_map(|row| Some((search.rank(&**row)?, row.id()))),
            );
            match rows.last() {
                Some(last) if rows.len() == SEARCHED_AT_ONCE => {
                    query.after = Some(vec![Value::Uuid(last.id())]);
                }
                _ => break,
            }
        }
        found.extend(best(ranked, search.limit));
        Ok(found)
    }

    /// Takes rows for one worker: selects them, applies the claim's assignments and returns them
    /// as they are now. Two calls at the same time never return the same row.
    async fn claim(&self, scope: &Scope, claim: &Claim) -> Result<Vec<Row>, StorageError>;

    /// The entries of a log behind a position, in the order of their commits and, within a commit,
    /// of their ids.
    ///
    /// - An entry is there once its commit is **settled**: no commit that may still end comes in
    ///   front of it. So what a page leaves out never appears in front of it later, and a walk by
    ///   [`FeedPage::until`] meets every entry exactly once, however many write meanwhile.
    /// - An entry whose commit relied on another commit comes behind the entries of that.
    /// - Commits of one tenant only are in order; tenants have nothing to do with each other.
    /// - The position of an entry never changes. Where an entry is removed, the others stay.
    ///
    /// Logs that have a feed say so in their schema: [`ObjectSchema::is_fed`
    /// ](crate::schema::ObjectSchema::is_fed).
    async fn feed(&self, scope: &Scope, query: &FeedQuery) -> Result<FeedPage, StorageError>;

    /// Puts rows in the place of the stored ones of the same id and version, which they stay: what
    /// seals personal values uses it to seal those that were stored before, or with another key. Gives
    /// how many were replaced: a row that is at another version by now, or gone, is left as it is.
    /// Every later read sees all of them replaced. No row is named twice.
    ///
    /// Such a row says what the stored one says, in another form: its personal and sensitive values
    /// are replaced, and what is sealed of them, as [`resealed`] does. Nobody is told of it: versions and
    /// stamps stay, the entries of a log keep their places in its feed, and those that never change are
    /// replaced like others.
    ///
    /// # Errors
    /// [`StorageError::Duplicate`] where another row has the same values in a unique key as one of the
    /// new rows; then none is replaced. [`QueryError::Unsupported`] from a storage that keeps no sealed rows, as it stands here.
    async fn reseal(&self, scope: &Scope, rows: &[Row]) -> Result<usize, StorageError> {
        let _ = scope;
        let Some(row) = rows.first() else {
            return Ok(0);
        };
        Err(StorageError::Query(QueryError::Unsupported {
            field: row.object().name().to_owned(),
            operation: "reseal".into(),
        }))
    }

    /// What digests of the tenant's values are made with that stand in rows beside records, such as the
    /// keys by which duplicates are found. A storage that encrypts gives the same one for as long as the
    /// tenant is there, however its keys are exchanged. `None`, as it stands here, from one in which the
    /// values themselves can be read: what is made of them need not be secret.
    ///
    /// # Errors
    /// Those of whoever holds the keys.
    async fn digests(&self, scope: &Scope) -> Result<Option<Arc<dyn Digests>>, StorageError> {
        let _ = scope;
        Ok(None)
    }
}

/// A shared storage is a storage: what is chosen when a program starts needs no generics.
#[async_trait]
impl<S: Storage + ?Sized> Storage for Arc<S> {
    fn register(&self, object: &ObjectRef) {
        (**self).register(object);
    }

    async fn get(
        &self,
        scope: &Scope,
        object: &ObjectRef,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, StorageError> {
        (**self).get(scope, object, ids).await
    }

    async fn select(&self, scope: &Scope, query: &Query) -> Result<Vec<Row>, StorageError> {
        (**self).select(scope, query).await
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        query: &AggregateQuery,
    ) -> Result<Vec<Group>, StorageError> {
        (**self).aggregate(scope, query).await
    }

    async fn commit(&self, scope: &Scope, changes: &ChangeSet) -> Result<Committed, StorageError> {
        (**self).commit(scope, changes).await
    }

    async fn search(&self, scope: &Scope, search: &TextSearch) -> Result<Vec<Uuid>, StorageError> {
        (**self).search(scope, search).await
    }

    async fn claim(&self, scope: &Scope, claim: &Claim) -> Result<Vec<Row>, StorageError> {
        (**self).claim(scope, claim).await
    }

    async fn feed(&self, scope: &Scope, query: &FeedQuery) -> Result<FeedPage, StorageError> {
        (**self).feed(scope, query).await
    }

    async fn reseal(&self, scope: &Scope, rows: &[Row]) -> Result<usize, StorageError> {
        (**self).reseal(scope, rows).await
    }

    async fn digests(&self, scope: &Scope) -> Result<Option<Arc<dyn Digests>>, StorageError> {
        (**self).digests(scope).await
    }
}

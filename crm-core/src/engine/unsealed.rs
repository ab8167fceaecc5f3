//! [`Unsealed`]: the storage of an engine, which has to open what is sealed.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::query::{AggregateQuery, Group, Query, TextSearch};
use crate::schema::{ObjectRef, Row};
use crate::storage::{
    ChangeSet, Claim, Committed, Digests, FeedPage, FeedQuery, Guard, Judge, Scope, Storage,
    StorageError,
};

/// A storage that gives no row whose values are sealed: an engine would take what stands in their
/// place for the values. Such rows come up where a host's program lacks the storage that opens them.
pub(super) struct Unsealed(pub(super) Arc<dyn Storage>);

impl fmt::Debug for Unsealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn open<'r>(rows: impl IntoIterator<Item = &'r Row>) -> Result<(), StorageError> {
    match rows.into_iter().find(|row| row.sealed().is_some()) {
        None => Ok(()),
        Some(row) => Err(StorageError::Sealed {
            object: row.object().name().to_owned(),
        }),
    }
}

fn all_open(rows: Vec<Row>) -> Result<Vec<Row>, StorageError> {
    open(&rows).map(|()| rows)
}

#[async_trait]
impl Storage for Unsealed {
    fn register(&self, object: &ObjectRef) {
        self.0.register(object);
    }

    async fn get(
        &self,
        scope: &Scope,
        object: &ObjectRef,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, StorageError> {
        all_open(self.0.get(scope, object, ids).await?)
    }

    async fn select(&self, scope: &Scope, query: &Query) -> Result<Vec<Row>, StorageError> {
        all_open(self.0.select(scope, query).await?)
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        query: &AggregateQuery,
    ) -> Result<Vec<Group>, StorageError> {
        self.0.aggregate(scope, query).await
    }

    async fn commit(&self, scope: &Scope, changes: &ChangeSet) -> Result<Committed, StorageError> {
        if changes.guards.is_empty() {
            return self.0.commit(scope, changes).await;
        }
        let guards = changes.guards.iter().cloned();
        let guards = guards.map(|guard| Arc::new(Readable(guard)) as Arc<dyn Guard>);
        let changes = changes.clone().with_guards(guards.collect());
        self.0.commit(scope, &changes).await
    }

    async fn search(&self, scope: &Scope, search: &TextSearch) -> Result<Vec<Uuid>, StorageError> {
        self.0.search(scope, search).await
    }

    async fn claim(&self, scope: &Scope, claim: &Claim) -> Result<Vec<Row>, StorageError> {
        all_open(self.0.claim(scope, claim).await?)
    }

    async fn feed(&self, scope: &Scope, query: &FeedQuery) -> Result<FeedPage, StorageError> {
        let page = self.0.feed(scope, query).await?;
        open(page.entries.iter().map(|(_, entry)| entry))?;
        Ok(page)
    }

    async fn reseal(&self, scope: &Scope, rows: &[Row]) -> Result<usize, StorageError> {
        self.0.reseal(scope, rows).await
    }

    async fn digests(&self, scope: &Scope) -> Result<Option<Arc<dyn Digests>>, StorageError> {
        self.0.digests(scope).await
    }
}

/// A guard that refuses what it cannot read.
#[derive(Debug)]
struct Readable(Arc<dyn Guard>);

impl Guard for Readable {
    fn query(&self) -> Query {
        self.0.query()
    }

    fn judge(&self) -> Judge {
        let mut refuses = self.0.judge();
        Box::new(move |row| row.sealed().is_some() || refuses(row))
    }
}

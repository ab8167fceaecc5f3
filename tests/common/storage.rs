//! [`Watched`]: a storage of which tests see every call, to count it, to write it down or to let it
//! fail.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "helpers of tests, of which no test file needs all"
)]

use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use crm_engine::query::{AggregateQuery, Group, Query, TextSearch};
use crm_engine::schema::{ObjectRef, Row};
use crm_engine::storage::{
    ChangeSet, Claim, Committed, Digests, FeedPage, FeedQuery, Scope, Storage, StorageError,
};
use uuid::Uuid;

use super::backend;

/// One call of a storage, with what it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call<'a> {
    Get(&'a ObjectRef),
    Select(&'a Query),
    Aggregate(&'a AggregateQuery),
    Search(&'a TextSearch),
    Commit(&'a ChangeSet),
    Claim,
    Feed(&'a FeedQuery),
    Reseal,
}

impl<'a> Call<'a> {
    /// What reads are about; nothing for writes.
    pub(crate) fn object(&self) -> Option<&'a ObjectRef> {
        match self {
            Self::Get(object) => Some(object),
            Self::Select(query) => Some(&query.object),
            Self::Aggregate(query) => Some(&query.object),
            Self::Search(search) => Some(search.object()),
            Self::Feed(query) => Some(&query.object),
            Self::Commit(_) | Self::Claim | Self::Reseal => None,
        }
    }

    /// Whether it is a commit.
    pub(crate) const fn is_commit(&self) -> bool {
        matches!(self, Self::Commit(_))
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Get(_) => "get",
            Self::Select(_) => "select",
            Self::Aggregate(_) => "aggregate",
            Self::Search(_) => "search",
            Self::Commit(_) => "commit",
            Self::Claim => "claim",
            Self::Feed(_) => "feed",
            Self::Reseal => "reseal",
        }
    }
}

/// What sees the calls.
#[async_trait]
pub(crate) trait Watch: Debug + Send + Sync + 'static {
    /// Before the storage gets the call. An error is its answer, and the storage never gets it.
    async fn begins(&self, scope: &Scope, call: Call<'_>) -> Result<(), StorageError> {
        let _ = (scope, call);
        Ok(())
    }

    /// After the storage did what was asked, with the rows that it gives. An error takes the place of
    /// the answer: what was done is done.
    async fn ends(&self, scope: &Scope, call: Call<'_>, rows: &[Row]) -> Result<(), StorageError> {
        let _ = (scope, call, rows);
        Ok(())
    }
}

/// A storage, and what sees its calls.
#[derive(Debug)]
pub(crate) struct Watched<W> {
    storage: Arc<dyn Storage>,
    pub(crate) watch: W,
}

impl<W: Watch> Watched<W> {
    /// Over an empty storage of the backend under test.
    pub(crate) fn new(watch: W) -> Arc<Self> {
        Self::over(backend::storage(&[]), watch)
    }

    /// Over a storage.
    pub(crate) fn over(storage: impl Storage, watch: W) -> Arc<Self> {
        let storage = Arc::new(storage);
        Arc::new(Self { storage, watch })
    }

    async fn watched<T>(
        &self,
        scope: &Scope,
        call: Call<'_>,
        answer: impl Future<Output = Result<T, StorageError>> + Send,
        rows: impl Fn(&T) -> &[Row] + Send,
    ) -> Result<T, StorageError>
    where
        T: Send + Sync,
    {
        self.watch.begins(scope, call).await?;
        let answer = answer.await?;
        self.watch.ends(scope, call, rows(&answer)).await?;
        Ok(answer)
    }
}

/// For answers that have no rows.
fn no_rows<T>(_: &T) -> &[Row] {
    &[]
}

#[async_trait]
impl<W: Watch> Storage for Watched<W> {
    fn register(&self, object: &ObjectRef) {
        self.storage.register(object);
    }

    async fn get(
        &self,
        scope: &Scope,
        object: &ObjectRef,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, StorageError> {
        let answer = self.storage.get(scope, object, ids);
        self.watched(scope, Call::Get(object), answer, Vec::as_slice)
            .await
    }

    async fn select(&self, scope: &Scope, query: &Query) -> Result<Vec<Row>, StorageError> {
        let answer = self.storage.select(scope, query);
        self.watched(scope, Call::Select(query), answer, Vec::as_slice)
            .await
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        query: &AggregateQuery,
    ) -> Result<Vec<Group>, StorageError> {
        let answer = self.storage.aggregate(scope, query);
        self.watched(scope, Call::Aggregate(query), answer, no_rows)
            .await
    }

    async fn search(&self, scope: &Scope, search: &TextSearch) -> Result<Vec<Uuid>, StorageError> {
        let answer = self.storage.search(scope, search);
        self.watched(scope, Call::Search(search), answer, no_rows)
            .await
    }

    async fn commit(&self, scope: &Scope, changes: &ChangeSet) -> Result<Committed, StorageError> {
        let answer = self.storage.commit(scope, changes);
        self.watched(scope, Call::Commit(changes), answer, no_rows)
            .await
    }

    async fn claim(&self, scope: &Scope, claim: &Claim) -> Result<Vec<Row>, StorageError> {
        let answer = self.storage.claim(scope, claim);
        self.watched(scope, Call::Claim, answer, Vec::as_slice)
            .await
    }

    async fn feed(&self, scope: &Scope, query: &FeedQuery) -> Result<FeedPage, StorageError> {
        let answer = self.storage.feed(scope, query);
        self.watched(scope, Call::Feed(query), answer, no_rows)
            .await
    }

    async fn reseal(&self, scope: &Scope, rows: &[Row]) -> Result<usize, StorageError> {
        let answer = self.storage.reseal(scope, rows);
        self.watched(scope, Call::Reseal, answer, no_rows).await
    }

    async fn digests(&self, scope: &Scope) -> Result<Option<Arc<dyn Digests>>, StorageError> {
        self.storage.digests(scope).await
    }
}

/// A call that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// The name of the method; `guard` for each guard of a commit.
    pub(crate) kind: &'static str,
    /// The object, of reads and guards.
    pub(crate) object: String,
    /// How many rows were given.
    pub(crate) rows: usize,
}

/// Writes down every call that was answered.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<Vec<Answered>>);

impl Calls {
    /// The calls since the last time, without reads of what is remembered of the tenant: these come
    /// every few seconds.
    pub(crate) fn take(&self) -> Vec<Answered> {
        let mut calls = std::mem::take(&mut *self.0.lock().unwrap());
        calls.retain(|call| call.kind != "select" || call.object != "tenant_configuration");
        calls
    }

    /// How many calls there were since the last time, each shown.
    pub(crate) fn count(&self, mut show: impl FnMut(&Answered)) -> usize {
        let calls = self.take();
        let calls = calls.iter().filter(|call| call.kind != "guard");
        calls.inspect(|call| show(call)).count()
    }
}

#[async_trait]
impl Watch for Calls {
    async fn ends(&self, _: &Scope, call: Call<'_>, rows: &[Row]) -> Result<(), StorageError> {
        let answered = |kind, object: Option<&ObjectRef>| Answered {
            kind,
            object: object.map_or_else(String::new, |object| object.name().to_owned()),
            rows: rows.len(),
        };
        let mut calls = self.0.lock().unwrap();
        calls.push(answered(call.kind(), call.object()));
        if let Call::Commit(changes) = call {
            let guards = changes.guards.iter();
            calls.extend(guards.map(|guard| answered("guard", Some(&guard.query().object))));
        }
        Ok(())
    }
}

/// When a storage fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Before the call does anything.
    Before,
    /// After the call did everything: only its answer is lost.
    LostAnswer,
}

/// What is not counted down from.
const NEVER: usize = usize::MAX;

/// Fails one call, by how many come before it, and passes all others on.
#[derive(Debug)]
pub(crate) struct Faulty {
    mode: Mode,
    is_meant: fn(&Call<'_>) -> bool,
    left: AtomicUsize,
}

impl Faulty {
    /// Fails nothing yet; only the calls that are meant are counted.
    pub(crate) const fn new(mode: Mode, is_meant: fn(&Call<'_>) -> bool) -> Self {
        let left = AtomicUsize::new(NEVER);
        Self {
            mode,
            is_meant,
            left,
        }
    }

    /// Fails the call behind so many others.
    pub(crate) fn fail_after(&self, calls: usize) {
        self.left.store(calls, Ordering::SeqCst);
    }

    /// Whether the call was made that was to fail. From now on none fails.
    pub(crate) fn was_met(&self) -> bool {
        self.left.swap(NEVER, Ordering::SeqCst) == NEVER
    }

    fn meets(&self, mode: Mode, call: Call<'_>) -> Result<(), StorageError> {
        if mode != self.mode || !(self.is_meant)(&call) {
            return Ok(());
        }
        let down = |left| match left {
            NEVER => None,
            0 => Some(NEVER),
            left => Some(left - 1),
        };
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        match self.left.fetch_update(set, fetch, down) {
            Ok(0) => Err(unavailable()),
            _ => Ok(()),
        }
    }
}

/// What a storage says that is not reached.
pub(crate) fn unavailable() -> StorageError {
    StorageError::Unavailable(Box::new(io::Error::other("the line is dead")))
}

#[async_trait]
impl Watch for Faulty {
    async fn begins(&self, _: &Scope, call: Call<'_>) -> Result<(), StorageError> {
        self.meets(Mode::Before, call)
    }

    async fn ends(&self, _: &Scope, call: Call<'_>, _: &[Row]) -> Result<(), StorageError> {
        self.meets(Mode::LostAnswer, call)
    }
}

/// Whether a commit is the one that something is done beside.
type Meant = fn(&ChangeSet) -> bool;

/// What is done beside a commit.
type Doing = futures::future::BoxFuture<'static, ()>;

/// Does something right before a commit is written, behind all that the commit was decided by: what
/// another process may do at any time.
#[derive(Default)]
pub(crate) struct Beside(Mutex<Option<(Meant, Doing)>>);

impl Debug for Beside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Beside").finish_non_exhaustive()
    }
}

impl Beside {
    /// Does it before the next commit that is meant, once.
    pub(crate) fn before(&self, is_meant: Meant, doing: impl Future<Output = ()> + Send + 'static) {
        *self.0.lock().unwrap() = Some((is_meant, Box::pin(doing)));
    }

    /// Whether such a commit came.
    pub(crate) fn was_met(&self) -> bool {
        self.0.lock().unwrap().is_none()
    }

    fn met(&self, changes: &ChangeSet) -> Option<Doing> {
        let mut waiting = self.0.lock().unwrap();
        let (_, doing) = waiting.take_if(|(is_meant, _)| is_meant(changes))?;
        Some(doing)
    }
}

#[async_trait]
impl Watch for Beside {
    async fn begins(&self, _: &Scope, call: Call<'_>) -> Result<(), StorageError> {
        let met = match call {
            Call::Commit(changes) => self.met(changes),
            _ => None,
        };
        if let Some(doing) = met {
            doing.await;
        }
        Ok(())
    }
}

//! [`Workspace`]: a session or a unit of work, so that every operation is written once.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use uuid::Uuid;

use super::{Session, UnitOfWork};
use crate::error::{Error, Result};
use crate::query::{AggregateQuery, Group, Query};
use crate::record::Record;
use crate::schema::{Entity, ObjectRef, Registry, Row};

/// Where an operation runs: on a session, which commits each one, or in a unit of work, which
/// commits them together.
#[derive(Debug)]
pub enum Workspace<'a> {
    /// Each operation is a commit of its own.
    Session(&'a Session),
    /// Operations wait for the commit of the unit of work.
    Unit(&'a mut UnitOfWork),
}

impl Workspace<'_> {
    /// The session.
    #[must_use]
    pub fn session(&self) -> &Session {
        match self {
            Self::Session(session) => session,
            Self::Unit(work) => work.session(),
        }
    }

    /// The objects that the tenant knows, with what is staged in a unit of work.
    pub(crate) async fn registry(&self) -> Result<Arc<Registry>> {
        match self {
            Self::Session(session) => session.registry().await,
            Self::Unit(work) => work.registry().await,
        }
    }

    /// The record with this id, deleted ones included.
    pub(crate) async fn row(&self, object: &ObjectRef, id: Uuid) -> Result<Option<Row>> {
        match self {
            Self::Session(session) => session.row(object, id).await,
            Self::Unit(work) => work.row(object, id).await,
        }
    }

    /// The rows that answer a query of a caller.
    pub(crate) async fn select(&self, query: &Query) -> Result<Vec<Row>> {
        self.session().count_query(query);
        match self {
            Self::Session(session) => session.select(query).await,
            Self::Unit(work) => work.select(query).await,
        }
    }

    /// The groups that answer a query of a caller.
    pub(crate) async fn aggregate(&self, query: &AggregateQuery) -> Result<Vec<Group>> {
        self.session().count_aggregate(query);
        match self {
            Self::Session(session) => session.aggregate(query).await,
            Self::Unit(work) => work.aggregate(query).await,
        }
    }

    /// The unit of work to read in: the caller's, or a new one that is kept in `begun`.
    pub(crate) fn reading<'w>(&'w self, begun: &'w mut Option<UnitOfWork>) -> &'w UnitOfWork {
        match self {
            Self::Session(session) => begun.insert(session.begin()),
            Self::Unit(work) => work,
        }
    }

    /// Begins an attempt at an operation.
    pub(crate) fn attempt(&mut self) -> Attempt<'_> {
        match self {
            Self::Session(session) => Attempt::Own(Box::new(session.begin())),
            Self::Unit(work) => Attempt::Joined(work),
        }
    }
}

/// One attempt at an operation.
#[derive(Debug)]
pub(crate) enum Attempt<'w> {
    /// In a unit of work of its own.
    Own(Box<UnitOfWork>),
    /// In the caller's unit of work.
    Joined(&'w mut UnitOfWork),
}

impl Attempt<'_> {
    /// The unit of work to operate in.
    pub(crate) fn work(&mut self) -> &mut UnitOfWork {
        match self {
            Self::Own(work) => work,
            Self::Joined(work) => work,
        }
    }

    /// Ends the attempt: commits, where the unit of work is its own. `None` after a conflict, when
    /// the operation is to run again.
    pub(crate) async fn conclude<T: Settle>(
        self,
        outcome: Result<T>,
        last: bool,
    ) -> Result<Option<T>> {
        let value = outcome?;
        let Self::Own(mut work) = self else {
            return Ok(Some(value));
        };
        match work.finish().await {
            Ok(_) => Ok(Some(value.settle(&work))),
            Err(Error::Conflict { .. }) if !last => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Counts the attempts at an operation, and lets those that lost run one after the other.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    made: u32,
    turn: Option<async_lock::MutexGuardArc<()>>,
}

impl Attempts {
    /// Whether the next attempt is the last.
    pub(crate) fn is_last(&mut self, session: &Session) -> bool {
        self.made += 1;
        self.made > session.engine().shared.retries
    }

    /// Waits for the turn to try again.
    pub(crate) async fn again(&mut self, session: &Session) {
        if self.turn.is_none() {
            self.turn = Some(session.engine().shared.turns.lock_arc().await);
        }
        // Lets the others on this thread finish what made this one lose.
        let mut yielded = false;
        poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// What an operation returns, as it is after the hooks of the commit.
pub(crate) trait Settle: Sized {
    fn settle(self, _work: &UnitOfWork) -> Self {
        self
    }
}

impl Settle for () {}
impl Settle for bool {}
impl Settle for usize {}
impl<A: Settle, B: Settle> Settle for (A, B) {
    fn settle(self, work: &UnitOfWork) -> Self {
        (self.0.settle(work), self.1.settle(work))
    }
}

impl<T: Settle> Settle for Vec<T> {
    fn settle(self, work: &UnitOfWork) -> Self {
        self.into_iter().map(|value| value.settle(work)).collect()
    }
}

impl<E: Entity> Settle for Arc<Record<E>> {
    fn settle(self, work: &UnitOfWork) -> Self {
        let staged = work
            .place(E::schema(), self.id.uuid())
            .and_then(|change| change.after());
        staged.cloned().and_then(Record::from_row).unwrap_or(self)
    }
}

impl Settle for Row {
    fn settle(self, work: &UnitOfWork) -> Self {
        let staged = work
            .place(self.object(), self.id())
            .and_then(|change| change.after());
        staged.cloned().unwrap_or(self)
    }
}

/// Runs an operation in a workspace: `in_work!(self.workspace, |work| { .. })`. The body may run
/// several times and so only borrows its arguments; it is an `async` block that ends with `Ok(..)`.
macro_rules! in_work {
    ($workspace:expr, |$work:ident| $body:block) => {{
        let mut attempts = $crate::engine::workspace::Attempts::default();
        loop {
            let last = attempts.is_last($workspace.session());
            let mut attempt = $workspace.attempt();
            let outcome = {
                let $work = attempt.work();
                let run = async { $body };
                run.await
            };
            if let Some(done) = attempt.conclude(outcome, last).await? {
                break Ok(done);
            }
            attempts.again($workspace.session()).await;
        }
    }};
}

pub(crate) use in_work;

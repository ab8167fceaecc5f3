//! Taking back what was staged since a moment, while the rest stays.

use super::{SEARCHED, UnitOfWork};
use crate::error::Result;
use crate::schema::Row;

/// How to take back one step of staging.
#[derive(Debug)]
pub(super) enum Undo {
    /// The last change was added.
    Added,
    /// The change at this place stood so before.
    Changed(usize, Option<Row>),
}

/// Where [`UnitOfWork::savepoint`] was called.
#[derive(Debug)]
#[must_use = "release it, or go back to it"]
pub struct Savepoint(usize);

impl UnitOfWork {
    /// Begins an operation that stages all that it has to, or nothing; [`settle`](Self::settle)
    /// ends it.
    pub(crate) const fn mark(&mut self) -> usize {
        self.depth += 1;
        self.journal.len()
    }

    /// Ends an operation: takes back what it staged, rules included, if it failed.
    pub(crate) fn settle<T>(&mut self, mark: usize, result: Result<T>) -> Result<T> {
        self.depth = self.depth.saturating_sub(1);
        if result.is_err() {
            self.undo_to(mark);
        } else if self.depth == 0 {
            self.journal.clear();
        }
        result
    }

    /// Remembers what is staged, so that what comes next can be taken back while the rest stays.
    /// Savepoints nest: the last one is ended first.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result, contacts::Contact, accounts::Account};
    /// # async fn example(session: &Session, contact: Contact) -> Result<()> {
    /// let mut work = session.begin();
    /// let before = work.savepoint();
    /// work.accounts().create(Account::new("Globex")).await?;
    /// match work.contacts().create(contact).await {
    ///     Ok(_) => work.release(before),
    ///     // Neither the contact nor its account is wanted.
    ///     Err(_) => work.roll_back(before),
    /// }
    /// work.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub const fn savepoint(&mut self) -> Savepoint {
        Savepoint(self.mark())
    }

    /// Ends a savepoint and keeps what was staged since.
    pub fn release(&mut self, savepoint: Savepoint) {
        let kept: Result<()> = self.settle(savepoint.0, Ok(()));
        debug_assert!(kept.is_ok(), "nothing can fail here");
    }

    /// Ends a savepoint and takes back what was staged since.
    pub fn roll_back(&mut self, savepoint: Savepoint) {
        self.depth = self.depth.saturating_sub(1);
        self.undo_to(savepoint.0);
    }

    fn undo_to(&mut self, mark: usize) {
        while self.journal.len() > mark
            && let Some(undo) = self.journal.pop()
        {
            self.undo(undo);
        }
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Changed(place, before) => {
                if let Some(change) = self.staged.get_mut(place) {
                    self.own.changes(change.object.name());
                    change.after = before;
                }
            }
            Undo::Added => {
                let Some(change) = self.staged.pop() else {
                    return;
                };
                self.own.changes(change.object.name());
                if self.staged.len() <= SEARCHED {
                    self.places.clear();
                } else if let Some(places) = self.places.get_mut(&change.id) {
                    places.pop();
                }
            }
        }
    }
}

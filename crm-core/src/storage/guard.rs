//! [`Guard`]: what no row may be like when a commit is written.

use std::fmt::Debug;

use crate::query::Query;
use crate::schema::AnyRecord;

/// How many rows of a [`Guard`] a backend looks at in one go.
pub const GUARD_PAGE: usize = 1_000;

/// Looks at rows one after the other and says of each whether the commit is refused because of it.
pub type Judge = Box<dyn FnMut(&dyn AnyRecord) -> bool + Send>;

/// What a commit takes for granted of all rows that fulfil a condition.
///
/// Whoever changes what records have to be like reads those that there are, and gives up where one
/// is not like that. A record that another commit writes between that read and the commit was not
/// read. So the commit has a guard: the backend looks once more, with all changes of the commit
/// applied and after it holds the rows that the commit changes, and the commit is a conflict where
/// the guard refuses a row. Commits that rely on such a row come before, and are seen, or after, and
/// are conflicts themselves.
///
/// ```
/// use crm_core::query::{Condition, Query};
/// use crm_core::schema::{AnyRecord, Entity};
/// use crm_core::storage::{Guard, Judge};
/// use crm_core::accounts::Account;
///
/// /// Every account has a number.
/// #[derive(Debug)]
/// struct Numbered;
///
/// impl Guard for Numbered {
///     fn query(&self) -> Query {
///         Query::new(Account::schema(), Condition::not_deleted())
///     }
///
///     fn judge(&self) -> Judge {
///         Box::new(|row: &dyn AnyRecord| row.get("account_number").is_null())
///     }
/// }
/// # let _ = Numbered.judge();
/// ```
pub trait Guard: Debug + Send + Sync {
    /// The rows to look at, by id; its limit does not count. The condition asks for nothing but
    /// fields of the row itself.
    fn query(&self) -> Query;

    /// Begins a look at them. It may be begun more than once.
    fn judge(&self) -> Judge;
}

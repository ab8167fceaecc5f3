//! What PostgreSQL and the way to it may answer, as the port's errors.
//!
//! Messages of the server may repeat values, which may be personal: only codes and the names of
//! tables, columns and constraints go on.

use std::fmt;

use crm_core::query::QueryError;
use crm_core::storage::StorageError;
use sqlx::postgres::PgDatabaseError;

/// Why PostgreSQL did not do what it was asked: the source of
/// [`StorageError::Unavailable`] and [`StorageError::Failed`].
///
/// ```
/// use crm_storage_postgres::{Fault, PostgresFault};
///
/// fn explain(error: &dyn std::error::Error) -> Option<Fault> {
///     error.source()?.downcast_ref::<PostgresFault>().map(PostgresFault::fault)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresFault {
    fault: Fault,
    code: String,
    table: Option<String>,
    column: Option<String>,
    constraint: Option<String>,
}

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The connection broke or could not be made, or none was free in time.
    Connection,
    /// The server is starting, stopping or refuses more connections.
    ServerNotReady,
    /// The statement took longer than its timeout, or was cancelled.
    StatementTimeout,
    /// A lock was not to be had in time.
    LockTimeout,
    /// Transactions at the same time could not be put into an order.
    Serialization,
    /// Transactions waited for each other.
    Deadlock,
    /// The disk is full, or memory ran out.
    ResourcesExhausted,
    /// The server takes no writes: a standby, or a transaction that is read-only.
    ReadOnly,
    /// A table, column or function is missing: the migrations have not run.
    NotMigrated,
    /// The role may not do this.
    NotPermitted,
    /// The server's own checks refused a value that the engine let through.
    Constraint,
    /// Anything else.
    Other,
}

impl Fault {
    /// Whether the same call may succeed when it is repeated.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::ServerNotReady
                | Self::StatementTimeout
                | Self::LockTimeout
                | Self::Serialization
                | Self::Deadlock
                | Self::ResourcesExhausted
                | Self::ReadOnly
        )
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Connection => "no connection to PostgreSQL",
            Self::ServerNotReady => "PostgreSQL is not ready",
            Self::StatementTimeout => "the statement was cancelled or timed out",
            Self::LockTimeout => "a lock was not to be had in time",
            Self::Serialization => "the transaction could not be put into an order with others",
            Self::Deadlock => "the transaction was the victim of a deadlock",
            Self::ResourcesExhausted => "PostgreSQL ran out of disk or memory",
            Self::ReadOnly => "PostgreSQL takes no writes",
            Self::NotMigrated => "a table or function is missing: run the migrations",
            Self::NotPermitted => "the role lacks a privilege",
            Self::Constraint => "a constraint refused the row",
            Self::Other => "PostgreSQL failed",
        }
    }
}

impl PostgresFault {
    pub(crate) fn new(fault: Fault, code: &str) -> Self {
        Self {
            fault,
            code: code.to_owned(),
            table: None,
            column: None,
            constraint: None,
        }
    }

    /// The kind of the fault.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        self.fault
    }

    /// The server's SQLSTATE; empty where the fault is not the server's.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }
}

impl fmt::Display for PostgresFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fault.text())?;
        if !self.code.is_empty() {
            write!(f, " (SQLSTATE {})", self.code)?;
        }
        let names = [
            ("table", &self.table),
            ("column", &self.column),
            ("constraint", &self.constraint),
        ];
        for (what, name) in names {
            if let Some(name) = name {
                write!(f, ", {what} {name}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for PostgresFault {}

/// A refused statement, before it is known which object it was about.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A version is not the expected one.
    Conflict,
    /// A reference leads nowhere; `object.field`.
    Reference(String),
    /// A unique index has the values already.
    Unique(String),
    /// A foreign key.
    ForeignKey(String),
    /// Anything else.
    Fault(PostgresFault),
}

impl Refusal {
    pub(crate) fn of(error: &sqlx::Error) -> Self {
        let Some(error) = error
            .as_database_error()
            .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        else {
            return Self::Fault(without_server(error));
        };
        match error.code() {
            super::sql::write::CONFLICT => Self::Conflict,
            super::sql::write::REFERENCE => {
                Self::Reference(error.detail().unwrap_or_default().to_owned())
            }
            "23505" => Self::Unique(constraint(error)),
            "23503" => Self::ForeignKey(constraint(error)),
            code => Self::Fault(PostgresFault {
                fault: fault(code),
                code: code.to_owned(),
                table: error.table().map(str::to_owned),
                column: error.column().map(str::to_owned),
                constraint: error.constraint().map(str::to_owned),
            }),
        }
    }
}

/// The constraint's name: as the server tells it, or as it stands in the message.
fn constraint(error: &PgDatabaseError) -> String {
    if let Some(name) = error.constraint() {
        return name.to_owned();
    }
    // The last quoted word, whatever the language of the message: "duplicate key value violates
    // unique constraint "contacts_email_key"".
    error
        .message()
        .rsplit('"')
        .nth(1)
        .unwrap_or_default()
        .to_owned()
}

/// Whether the constraint that the server names is `name`: a distributed table adds a number.
pub(crate) fn is_constraint(found: &str, name: &str) -> bool {
    match found.strip_prefix(name) {
        Some("") => true,
        Some(rest) => rest
            .strip_prefix('_')
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())),
        None => false,
    }
}

fn fault(code: &str) -> Fault {
    match code {
        "40001" => Fault::Serialization,
        "40P01" => Fault::Deadlock,
        "55P03" => Fault::LockTimeout,
        "57014" => Fault::StatementTimeout,
        "25006" => Fault::ReadOnly,
        "42P01" | "42703" | "42883" | "3F000" => Fault::NotMigrated,
        "42501" => Fault::NotPermitted,
        "58030" => Fault::ResourcesExhausted,
        _ => match code.get(..2) {
            Some("08") => Fault::Connection,
            Some("57") | Some("55") => Fault::ServerNotReady,
            Some("53") if code == "53300" => Fault::ServerNotReady,
            Some("53") => Fault::ResourcesExhausted,
            Some("23") | Some("22") => Fault::Constraint,
            _ => Fault::Other,
        },
    }
}

fn without_server(error: &sqlx::Error) -> PostgresFault {
    let fault = match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Fault::Connection,
        _ => Fault::Other,
    };
    PostgresFault::new(fault, "")
}

impl From<PostgresFault> for StorageError {
    fn from(fault: PostgresFault) -> Self {
        if fault.fault.is_retryable() {
            Self::Unavailable(Box::new(fault))
        } else {
            Self::Failed(Box::new(fault))
        }
    }
}

/// What a failed read comes to.
pub(crate) fn read_error(error: &sqlx::Error) -> StorageError {
    match Refusal::of(error) {
        Refusal::Fault(fault) => fault.into(),
        _ => PostgresFault::new(Fault::Other, "").into(),
    }
}

/// Whether a statement failed because its connection is gone, so that the outcome is not known.
pub(crate) fn is_connection_lost(error: &sqlx::Error) -> bool {
    match Refusal::of(error) {
        Refusal::Fault(fault) => {
            matches!(fault.fault, Fault::Connection)
                && !matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed)
                || matches!(&*fault.code, "57P01" | "57P02" | "57P05")
        }
        _ => false,
    }
}

/// An overflow of a sum.
pub(crate) fn overflow(field: &str) -> StorageError {
    QueryError::Overflow {
        field: field.to_owned(),
    }
    .into()
}

//! What PostgreSQL and the way to it may answer, as the port's errors.
//!
//! Messages of the server may repeat values, which may be personal: only codes and the names of
//! tables, columns and constraints go on.

use std::fmt;

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
    /// The connection broke while a commit was under way, and it could not be found out whether it
    /// was applied. Read before you repeat it.
    OutcomeUnknown,
    /// The transaction's isolation level is `REPEATABLE READ`, at which a deletion cannot see who
    /// refers to the record meanwhile. Take `READ COMMITTED`, or `SERIALIZABLE` for all writers.
    IsolationLevel,
    /// A row has personal values that are not encrypted, and its tenant has keys:
    /// [`commit_in`](crate::PostgresStorage::commit_in) refuses it, or the triggers of
    /// [`encryption_triggers`](crate::encryption_triggers) do. Write through the storage that encrypts,
    /// or have that one seal the change set first.
    Unencrypted,
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
                | Self::OutcomeUnknown
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
            Self::OutcomeUnknown => "the connection broke, and the commit may have been applied",
            Self::IsolationLevel => "a deletion is not possible at this isolation level",
            Self::Unencrypted => "personal values of the row are not encrypted",
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
    /// A reference leads nowhere; its number in the commit.
    Reference(String),
    /// A deleted row is referred to; `object id`.
    Referred(String),
    /// A removed row is referred to; the number of the check in the commit.
    Removed(String),
    /// A unique index has the values already.
    Unique(Constraint),
    /// A foreign key.
    ForeignKey(Constraint),
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
            super::sql::write::REFERRED => {
                Self::Referred(error.detail().unwrap_or_default().to_owned())
            }
            super::sql::write::REMOVED => {
                Self::Removed(error.detail().unwrap_or_default().to_owned())
            }
            "23505" => Self::Unique(Constraint::of(error)),
            "23503" => Self::ForeignKey(Constraint::of(error)),
            // A row for a partition that was made at this moment: it has another place now.
            code @ "23514" if error.constraint().is_none() => {
                Self::Fault(PostgresFault::new(Fault::Serialization, code))
            }
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

/// The constraint that refused a row: its name as the server tells it, or else every word of the
/// message that may be it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Constraint(Vec<String>);

impl Constraint {
    fn of(error: &PgDatabaseError) -> Self {
        match error.constraint() {
            Some(name) => Self(vec![name.to_owned()]),
            None => Self::in_message(error.message()),
        }
    }

    /// Servers that pass on what another one said may leave the name in the message only. Which
    /// quotes it stands in, and where, depends on the language.
    fn in_message(message: &str) -> Self {
        let is_of_names = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = message.split(|c| !is_of_names(c));
        // The names of all constraints are made of several words.
        Self(
            words
                .filter(|word| word.contains('_'))
                .map(str::to_owned)
                .collect(),
        )
    }

    /// Whether it is the one called `name`: a distributed table adds a number.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.0.iter().any(|found| is_constraint(found, name))
    }

    /// Whether its name begins with that of the table, as those of partitions do.
    pub(crate) fn is_of(&self, table: &str) -> bool {
        let begins = |found: &String| {
            let rest = found.strip_prefix(table);
            rest.is_some_and(|rest| rest.starts_with('_'))
        };
        self.0.iter().any(begins)
    }
}

fn is_constraint(found: &str, name: &str) -> bool {
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
        "42P01" | "42703" | "42883" | "3F000" | "3D000" => Fault::NotMigrated,
        "42501" | "28000" | "28P01" => Fault::NotPermitted,
        super::sql::write::LEVEL => Fault::IsolationLevel,
        super::sql::write::UNENCRYPTED => Fault::Unencrypted,
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

/// Whether the connection's prepared statement is gone (a pooler changed the server's connection) or
/// its plan does not fit any more (a migration changed a type): nothing was done, and another
/// connection does it.
pub(crate) fn is_stale_statement(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("26000" | "0A000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constraint_is_found_in_a_message_of_any_language() {
        let key = "contacts_email_folded_key";
        for message in [
            "duplicate key value violates unique constraint \"contacts_email_folded_key\"",
            "duplicate key value violates unique constraint \"contacts_email_folded_key_102008\"",
            "doppelter Schlüsselwert verletzt Unique-Constraint »contacts_email_folded_key«",
            "la valeur d'une clé dupliquée rompt la contrainte unique « contacts_email_folded_key »",
            "重复键违反唯一约束\"contacts_email_folded_key\"",
        ] {
            let found = Constraint::in_message(message);
            assert!(found.is(key), "{message}");
            assert!(found.is_of("contacts"), "{message}");
            assert!(!found.is("contacts_email_key"), "{message}");
            assert!(!found.is_of("contact"), "{message}");
        }
        // The constraint is not what stands last.
        let found = Constraint::in_message(
            "Aktualisieren oder Löschen in Tabelle »accounts« verletzt Fremdschlüssel-Constraint \
             »contacts_account_id_fkey_102010« von Tabelle »contacts_102009«",
        );
        assert!(found.is("contacts_account_id_fkey"));
    }

    #[test]
    fn only_a_number_may_follow_the_name_of_a_constraint() {
        assert!(is_constraint("deals_pkey", "deals_pkey"));
        assert!(is_constraint("deals_pkey_102008", "deals_pkey"));
        for other in [
            "deals_pkey_",
            "deals_pkey_1a",
            "deals_pkey1",
            "deals_pke",
            "x_deals_pkey",
        ] {
            assert!(!is_constraint(other, "deals_pkey"), "{other}");
        }
    }

    #[test]
    fn what_may_pass_is_retryable_and_what_cannot_is_not() {
        for (code, expected, retryable) in [
            ("40001", Fault::Serialization, true),
            ("40P01", Fault::Deadlock, true),
            ("55P03", Fault::LockTimeout, true),
            ("57014", Fault::StatementTimeout, true),
            ("25006", Fault::ReadOnly, true),
            ("53100", Fault::ResourcesExhausted, true),
            ("53200", Fault::ResourcesExhausted, true),
            ("53300", Fault::ServerNotReady, true),
            ("57P01", Fault::ServerNotReady, true),
            ("57P03", Fault::ServerNotReady, true),
            ("08006", Fault::Connection, true),
            ("42P01", Fault::NotMigrated, false),
            ("42501", Fault::NotPermitted, false),
            ("23514", Fault::Constraint, false),
            ("CRM06", Fault::Unencrypted, false),
            ("22001", Fault::Constraint, false),
            ("XX000", Fault::Other, false),
        ] {
            assert_eq!(fault(code), expected, "{code}");
            assert_eq!(expected.is_retryable(), retryable, "{code}");
        }
    }
}

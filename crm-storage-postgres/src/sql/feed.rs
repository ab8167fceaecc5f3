//! Reading a log in the order of its commits.
//!
//! ```text
//! WITH scope AS MATERIALIZED (..)
//! SELECT pg_current_snapshot()::text, EXISTS (..), r.* FROM scope LEFT JOIN LATERAL (
//!   SELECT c."transaction_id"::text, c."id", .. FROM "crm"."audit_events" AS c
//!   WHERE scope.is_set AND c."tenant_id" = $1 AND ..
//!     AND (c."transaction_id", c."id") > ($2::text::xid8, $3)
//!     AND c."transaction_id" < pg_snapshot_xmin(pg_current_snapshot())
//!   ORDER BY c."transaction_id", c."id" LIMIT $4
//! ) AS r ON true
//! ```
//!
//! A transaction below `pg_snapshot_xmin` has ended, and none that begins later gets an id below it.
//! So what is below is settled. The first column tells how far that is, also where no entry came: the
//! snapshot begins with that transaction. The second one tells whether there are entries of transactions
//! that the server has not begun yet, as there are behind the restoring of a dump of another server.

use std::fmt::Write as _;

use crm_core::query::{Query, QueryError};
use crm_core::storage::{FeedPage, FeedPosition, FeedQuery, Scope, Snapshot, StorageError};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::Statement;
use super::condition;
use super::select::is_visible;
use crate::decode;
use crate::error::read_error;
use crate::layout::{TRANSACTION, Table, Tables, quoted};

/// The transaction in front of which everything is settled.
const SETTLED: &str = "pg_snapshot_xmin(pg_current_snapshot())";

/// In front of the entry's own columns: how far the feed is settled, whether entries lie ahead of the
/// server, and the entry's transaction.
const FIRST: usize = 3;

/// The entries that answer a query. `None` where the scope sees none.
pub(crate) fn feed(
    tables: &Tables,
    table: &Table,
    scope: &Scope,
    query: &FeedQuery,
) -> Option<Statement> {
    if scope.tenant().is_none() || !is_visible(table, scope) {
        return None;
    }
    let mut statement = Statement::scoped(scope);
    let condition = condition::write(&mut statement, tables, table, "c", &query.condition);
    let transaction = quoted(TRANSACTION);
    let after = query.after.unwrap_or_default();
    let commit = statement.argument(after.commit().to_string());
    let id = statement.argument(after.id());
    let limit = statement.argument(i64::try_from(query.limit).unwrap_or(i64::MAX));
    let own = statement.own(table, "c");
    let ahead = statement.own(table, "a");
    let mut sql = format!(
        " SELECT pg_current_snapshot()::text, EXISTS (SELECT FROM {table_sql} AS a \
         WHERE scope.is_set AND {ahead} \
         AND a.{transaction} >= pg_snapshot_xmax(pg_current_snapshot())), \
         r.* FROM scope LEFT JOIN LATERAL \
         (SELECT c.{transaction}::text AS {transaction}, {}",
        table.read_columns("c"),
        table_sql = table.sql,
    );
    let _ = write!(
        sql,
        " FROM {} AS c WHERE scope.is_set AND {own} AND {condition} \
         AND (c.{transaction}, c.\"id\") > ({commit}::text::xid8, {id}) \
         AND c.{transaction} < {SETTLED} \
         ORDER BY c.{transaction}, c.\"id\" LIMIT {limit}) AS r ON true",
        table.sql
    );
    statement.push(&sql);
    Some(statement)
}

/// The page that the rows make.
///
/// # Errors
/// A row that does not fit; entries ahead of the server's count; a position behind the end of the feed.
pub(crate) fn decode(
    table: &Table,
    query: &FeedQuery,
    rows: &[PgRow],
) -> Result<FeedPage, StorageError> {
    let corrupt = || StorageError::Corrupt {
        object: table.object.name().to_owned(),
        fields: vec![TRANSACTION.to_owned()],
    };
    let number = |row: &PgRow, column: usize| -> Result<Option<u64>, StorageError> {
        let text: Option<&str> = row.try_get(column).map_err(|error| read_error(&error))?;
        let number = text.map(str::parse::<u64>).transpose();
        number.map_err(|_| corrupt())
    };
    let Some(first) = rows.first() else {
        return Ok(FeedPage::nothing(query));
    };
    let seen: &str = first.try_get(0).map_err(|error| read_error(&error))?;
    let is_ahead: bool = first.try_get(1).map_err(|error| read_error(&error))?;
    if is_ahead {
        return Err(StorageError::AheadOfServer {
            object: table.object.name().to_owned(),
        });
    }
    let settled = settled(seen).ok_or_else(corrupt)?;
    let end = FeedPosition::before(settled);
    query.check_position(end)?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        // Only the first row can be without an entry.
        if let Some(commit) = number(row, 2)? {
            let entry = decode::row(table, row, FIRST)?;
            entries.push((FeedPosition::new(commit, entry.id()), entry));
        }
    }
    Ok(FeedPage::new(query, entries, end).with_snapshot(Snapshot::of_text(seen)))
}

/// The transaction in front of which everything is settled, where the text is a snapshot as the
/// server writes it: `xmin:xmax:` and the transactions in between that were running.
fn settled(text: &str) -> Option<u64> {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| is_number)
    };
    let mut parts = text.split(':');
    let (first, end, running) = (parts.next()?, parts.next()?, parts.next()?);
    let (first, end) = (number(first)?, number(end)?);
    if parts.next().is_some() || first == 0 || end < first {
        return None;
    }
    let mut least = first;
    if !running.is_empty() {
        for one in running.split(',') {
            least = number(one).filter(|one| (least..end).contains(one))?;
        }
    }
    Some(first)
}

/// Checks that the query's snapshot, if it has one, is one of this server's form.
///
/// # Errors
/// [`QueryError::Cursor`] where it is none; an object that has no feed.
pub(crate) fn check_snapshot(query: &Query) -> Result<(), StorageError> {
    match query.snapshot()? {
        Some(snapshot) if settled(snapshot.as_str()).is_none() => Err(QueryError::Cursor.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::settled;

    #[test]
    fn a_snapshot_has_one_form() {
        for (text, first) in [("7:7:", 7), ("7:9:", 7), ("7:12:8,8,11", 7), ("7:9:7", 7)] {
            assert_eq!(settled(text), Some(first), "{text}");
        }
        for wrong in [
            "", "7", "7:9", "9:7:", "0:7:", "7:9:9", "7:9:6", "7:12:9,8", "7:9:8,", "+7:9:",
            "7:9::", "7:9: 8", "7:9:x",
        ] {
            assert_eq!(settled(wrong), None, "{wrong}");
        }
    }
}

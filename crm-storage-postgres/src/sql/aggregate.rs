//! Counts and sums over groups of rows, computed by the server.
//!
//! Days, weeks and months of moments are the server's: its time zone database decides. It and the
//! library's agree from 1970 to 2099; the server's tells some zones' older past differently, and
//! knows summer times after 2099, which the library's does not.

use std::fmt::Write as _;

use crm_core::query::{AggregateQuery, CalendarUnit, Group, Grouping, Measure, QueryError};
use crm_core::schema::{ObjectRef, StorageKind, Value};
use crm_core::storage::{Scope, StorageError};
use crm_core::value::TimeZone;
use rust_decimal::Decimal;
use sqlx::postgres::PgRow;

use super::Statement;
use super::condition;
use super::custom::Source;
use super::select::is_visible;
use crate::decode;
use crate::layout::{Table, Tables};

/// The most decimals of an average.
const AVERAGE_DECIMALS: u32 = 6;

/// The groups that answer a query: the number of rows, the keys, then what the measures need, for
/// [`decode_groups`]. `None` where there is no row to be seen.
pub(crate) fn aggregate(
    tables: &Tables,
    table: &Table,
    scope: &Scope,
    query: &AggregateQuery,
) -> Option<Statement> {
    if !is_visible(table, scope) {
        return None;
    }
    let mut statement = Statement::scoped(scope);
    let mut columns = vec!["count(*)".to_owned()];
    let mut entries = String::new();
    for (place, grouping) in query.groups.iter().enumerate() {
        if let Grouping::Entry(index) = grouping {
            let source = Source::at(&mut statement, table, &query.object, *index);
            let list = match source {
                Some(source) if source.kind() == StorageKind::List => source.sql("c"),
                _ => "NULL::text[]".to_owned(),
            };
            let _ = write!(
                entries,
                " CROSS JOIN LATERAL unnest({list}) AS e{place}(entry)"
            );
            columns.push(format!("e{place}.entry COLLATE \"C\""));
            continue;
        }
        let key = key(&mut statement, table, &query.object, grouping);
        columns.push(key);
    }
    for measure in &query.measures {
        push_measure(&mut statement, &mut columns, table, &query.object, measure);
    }
    let condition = condition::write(&mut statement, tables, table, "c", &query.condition);
    let few = condition::few_tagged(&mut statement, tables, table, &query.condition);
    let join = if few { " CROSS JOIN few" } else { "" };
    statement
        .push(" SELECT r.* FROM scope")
        .push(join)
        .push(" CROSS JOIN LATERAL (SELECT ");
    for (index, column) in columns.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        statement.push(&format!("{comma}{column} AS a{index}"));
    }
    let own = statement.own(table, "c");
    if few {
        // One of the two is not even begun; see `few_tagged`.
        statement.push(&format!(
            " FROM (SELECT c.* FROM {table} AS c WHERE scope.is_set AND {own} AND {condition} \
             AND few.ids IS NOT NULL AND c.\"id\" = ANY(few.ids) \
             UNION ALL SELECT c.* FROM {table} AS c WHERE scope.is_set AND {own} AND {condition} \
             AND few.ids IS NULL) AS c{entries}",
            table = table.sql
        ));
    } else {
        statement.push(&format!(
            " FROM {} AS c{entries} WHERE scope.is_set AND {own} AND {condition}",
            table.sql
        ));
    }
    if !query.groups.is_empty() {
        // The keys are the columns behind the first.
        let keys: Vec<String> = (0..query.groups.len())
            .map(|place| (place + 2).to_string())
            .collect();
        let keys = keys.join(", ");
        statement.push(&format!(" GROUP BY {keys} ORDER BY {keys}"));
    }
    statement.push(" OFFSET 0) AS r");
    Some(statement)
}

/// The groups of the rows that answered [`aggregate`]; of no rows, where it was not even sent.
///
/// # Errors
/// [`QueryError::Overflow`]; [`StorageError::Corrupt`] for values that no field can have.
pub(crate) fn decode_groups(
    query: &AggregateQuery,
    rows: &[PgRow],
) -> Result<Vec<Group>, StorageError> {
    if rows.is_empty() && query.groups.is_empty() {
        return Ok(vec![Group {
            keys: Vec::new(),
            measures: query.measures.iter().map(of_nothing).collect(),
        }]);
    }
    rows.iter()
        .map(|row| Reader { query, row, at: 0 }.group())
        .collect()
}

/// What makes a group, as SQL.
fn key(
    statement: &mut Statement,
    table: &Table,
    object: &ObjectRef,
    grouping: &Grouping,
) -> String {
    let (index, unit, time_zone) = match grouping {
        Grouping::Field(index) => {
            let source = Source::at(statement, table, object, *index);
            return source.map_or_else(null, |source| source.sql("c"));
        }
        Grouping::Calendar {
            index,
            unit,
            time_zone,
        } => (*index, *unit, *time_zone),
        _ => return unknown(statement),
    };
    let Some(source) = Source::at(statement, table, object, index) else {
        return "NULL::date".to_owned();
    };
    let own = source.sql("c");
    let local = match source.kind() {
        StorageKind::Date if unit == CalendarUnit::Day => return own,
        // As a date it would be taken for midnight in the session's time zone.
        StorageKind::Date => format!("{own}::timestamp"),
        StorageKind::Timestamp => {
            let zone = statement.argument(zone_name(&time_zone));
            format!("{own} AT TIME ZONE {zone}")
        }
        _ => return "NULL::date".to_owned(),
    };
    match unit {
        CalendarUnit::Day => format!("({local})::date"),
        CalendarUnit::Week => format!("date_trunc('week', {local})::date"),
        CalendarUnit::Month => format!("date_trunc('month', {local})::date"),
        CalendarUnit::Quarter => format!("date_trunc('quarter', {local})::date"),
        CalendarUnit::Year => format!("date_trunc('year', {local})::date"),
    }
}

/// The name of a time zone that means the same to the server.
///
/// The server takes some names for abbreviations first, which know no summer time: these are named
/// by the place that the time zone database links them to.
pub(super) fn zone_name(time_zone: &TimeZone) -> String {
    let name = time_zone.to_string();
    match name.as_str() {
        "CET" | "MET" => "Europe/Brussels".to_owned(),
        "EET" => "Europe/Athens".to_owned(),
        "WET" => "Europe/Lisbon".to_owned(),
        "EST" => "America/Panama".to_owned(),
        "MST" => "America/Phoenix".to_owned(),
        "HST" => "Pacific/Honolulu".to_owned(),
        _ => name,
    }
}

/// What the port asks for and this backend does not know.
fn unknown(statement: &mut Statement) -> String {
    statement.failed = Some("this kind of aggregate has no form in SQL".into());
    null()
}

fn null() -> String {
    "NULL::text".to_owned()
}

/// A number without the limits of a `bigint`; null where the field is none.
fn number(source: Option<Source<'_>>) -> String {
    match source {
        Some(source) if source.kind() == StorageKind::Integer => {
            format!("{}::numeric", source.sql("c"))
        }
        Some(source) if source.kind() == StorageKind::Decimal => source.sql("c"),
        _ => "NULL::numeric".to_owned(),
    }
}

fn push_measure(
    statement: &mut Statement,
    columns: &mut Vec<String>,
    table: &Table,
    object: &ObjectRef,
    measure: &Measure,
) {
    let mut source = |index: usize| Source::at(statement, table, object, index);
    match measure {
        // The first column is it.
        Measure::Count => {}
        Measure::Sum(index) | Measure::Average(index) => {
            // A sum of `bigint`s is a `numeric` and faster than one of converted numbers.
            let number = match source(*index) {
                Some(source) if source.kind() == StorageKind::Integer => source.sql("c"),
                source => number(source),
            };
            columns.push(format!("sum({number})"));
            if matches!(measure, Measure::Average(_)) {
                columns.push(format!("count({number})"));
            }
        }
        Measure::WeightedSum { amount, percent } => columns.push(format!(
            "sum({} * {}) * 0.01",
            number(source(*amount)),
            number(source(*percent))
        )),
        Measure::Min(index) => columns.push(extreme(source(*index), "min", "bool_and")),
        Measure::Max(index) => columns.push(extreme(source(*index), "max", "bool_or")),
        _ => columns.push(unknown(statement)),
    }
}

/// The least or greatest value, as SQL.
fn extreme(source: Option<Source<'_>>, function: &str, of_booleans: &str) -> String {
    let Some(source) = source else {
        return null();
    };
    let own = source.sql("c");
    match source.kind() {
        StorageKind::Boolean => format!("{of_booleans}({own})"),
        // The texts of UUIDs are in the order of the UUIDs.
        StorageKind::Uuid => format!("{function}({own}::text COLLATE \"C\")::uuid"),
        // These have no order.
        StorageKind::List | StorageKind::Json => null(),
        _ => format!("{function}({own})"),
    }
}

/// What a measure is over no rows.
fn of_nothing(measure: &Measure) -> Value {
    match measure {
        Measure::Count => Value::Integer(0),
        Measure::Sum(_) | Measure::WeightedSum { .. } => Value::Decimal(Decimal::ZERO),
        _ => Value::Null,
    }
}

/// Reads one row of an answer, column by column.
struct Reader<'a> {
    query: &'a AggregateQuery,
    row: &'a PgRow,
    at: usize,
}

impl Reader<'_> {
    fn group(mut self) -> Result<Group, StorageError> {
        let count = self.value(StorageKind::Integer, None)?;
        let mut keys = Vec::with_capacity(self.query.groups.len());
        for grouping in &self.query.groups {
            keys.push(match grouping {
                Grouping::Field(index) => self.field(*index)?,
                Grouping::Entry(index) => self.value(StorageKind::Text, Some(*index))?,
                Grouping::Calendar { index, .. } => self.value(StorageKind::Date, Some(*index))?,
                _ => Value::Null,
            });
        }
        let mut measures = Vec::with_capacity(self.query.measures.len());
        for measure in &self.query.measures {
            measures.push(match measure {
                Measure::Count => count.clone(),
                Measure::Sum(index) | Measure::WeightedSum { amount: index, .. } => {
                    Value::Decimal(self.sum(*index)?)
                }
                Measure::Average(index) => {
                    let sum = self.sum(*index)?;
                    match self.value(StorageKind::Integer, Some(*index))? {
                        Value::Integer(count) => average(sum, count),
                        _ => Value::Null,
                    }
                }
                Measure::Min(index) | Measure::Max(index) => self.field(*index)?,
                _ => Value::Null,
            });
        }
        Ok(Group { keys, measures })
    }

    fn next(&mut self) -> usize {
        let at = self.at;
        self.at += 1;
        at
    }

    fn value(&mut self, kind: StorageKind, field: Option<usize>) -> Result<Value, StorageError> {
        let at = self.next();
        decode::value(kind, self.row, at).map_err(|_| self.corrupt(field))
    }

    /// A value of the field's own kind.
    fn field(&mut self, index: usize) -> Result<Value, StorageError> {
        let field = self.query.object.placed(index);
        let kind = field.map(|field| field.storage_kind());
        self.value(kind.unwrap_or(StorageKind::Text), Some(index))
    }

    /// A sum; zero over no values.
    fn sum(&mut self, index: usize) -> Result<Decimal, StorageError> {
        let at = self.next();
        match decode::sum(self.row, at) {
            Ok(Some(sum)) => Ok(sum),
            Ok(None) => Err(StorageError::Query(QueryError::Overflow {
                field: self.query.object.field_name(index).to_owned(),
            })),
            Err(_) => Err(self.corrupt(Some(index))),
        }
    }

    fn corrupt(&self, field: Option<usize>) -> StorageError {
        let object = &self.query.object;
        StorageError::Corrupt {
            object: object.name().to_owned(),
            fields: field
                .map(|index| object.field_name(index).to_owned())
                .into_iter()
                .collect(),
        }
    }
}

/// A sum divided by a count as [`Measure::Average`] says.
fn average(sum: Decimal, count: i64) -> Value {
    match sum.checked_div(Decimal::from(count)) {
        Some(quotient) => Value::Decimal(quotient.round_dp(AVERAGE_DECIMALS).normalize()),
        None => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_the_server_takes_for_abbreviations_are_not_sent() {
        for name in ["CET", "MET", "EET", "WET", "EST", "MST", "HST"] {
            let zone: TimeZone = name.parse().unwrap();
            assert_ne!(zone_name(&zone), name);
        }
        let prague: TimeZone = "Europe/Prague".parse().unwrap();
        assert_eq!(zone_name(&prague), "Europe/Prague");
    }

    proptest! {
        #[test]
        fn another_name_of_a_zone_means_the_same(
            name in prop::sample::select(vec!["CET", "MET", "EET", "WET", "EST", "MST", "HST"]),
            seconds in 0_i64..4_000_000_000,
        ) {
            let zone: TimeZone = name.parse().unwrap();
            let other: TimeZone = zone_name(&zone).parse().unwrap();
            let at: DateTime<Utc> = DateTime::from_timestamp(seconds, 0).unwrap();
            prop_assert_eq!(
                at.with_timezone(&zone.tz()).naive_local(),
                at.with_timezone(&other.tz()).naive_local()
            );
        }
    }
}

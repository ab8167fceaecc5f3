//! Reading rows: by id, and as the answer to a query.
//!
//! ```text
//! WITH scope AS MATERIALIZED (SELECT set_config(..) IS NOT NULL AS is_set)
//! SELECT r.* FROM scope CROSS JOIN LATERAL (
//!   SELECT c."id", .. FROM "crm"."contacts" AS c
//!   WHERE scope.is_set AND c."tenant_id" = $1 AND ..
//!   ORDER BY c."created_at" DESC, c."id" DESC LIMIT $n
//! ) AS r
//! ```
//!
//! The lateral subquery runs once for the one row of `scope`, so after the setting is made. `LIMIT`
//! or `OFFSET 0` keeps the planner from dissolving it.
//!
//! # Positions
//!
//! Rows behind a position are found by row comparison, which an index answers at any depth:
//! `(a, b) > ($1, $2)`. Where directions are mixed or values may be missing, the rows behind a
//! position fall into parts that each are one range: those with the same first values that are
//! behind in the next, and so on. Each part is its own select with its own order and limit.

use std::collections::HashMap;
use std::fmt::Write as _;

use crm_core::query::{FieldAt, Query, SortKey, TextSearch};
use crm_core::schema::{Row, StorageKind, Value, ValueRef, search_texts};
use crm_core::storage::Scope;
use uuid::Uuid;

use super::Statement;
use super::condition::{self, excludes_null};
use super::custom::Source;
use super::place::Place;
use super::value::rounded;
use crate::layout::{TRANSACTION, Table, Tables, quoted};

/// Whether the scope can see any row of the table.
pub(super) fn is_visible(table: &Table, scope: &Scope) -> bool {
    !table.object.is_template() && (scope.tenant().is_some() || !table.has_tenant())
}

/// The rows with these ids, in any order and each once: see [`in_order`]. The columns are
/// [`Layout::read_columns`](crate::layout::Layout::read_columns). `None` where there can be none.
pub(crate) fn get(table: &Table, scope: &Scope, ids: &[Uuid]) -> Option<Statement> {
    if !is_visible(table, scope) {
        return None;
    }
    let mut statement = Statement::scoped(scope);
    statement.looks_up(ids.len());
    let condition = match ids {
        [] => return None,
        [id] => format!("c.\"id\" = {}", statement.argument(*id)),
        ids => format!("c.\"id\" = ANY({})", statement.argument(ids)),
    };
    statement.push(" SELECT r.* FROM scope CROSS JOIN LATERAL (");
    let part = part(&mut statement, table, &condition, "", " OFFSET 0");
    statement.push(&part).push(") AS r");
    Some(statement)
}

/// The rows in the order of `ids`, one for each time an id is named.
pub(crate) fn in_order(ids: &[Uuid], rows: Vec<Row>) -> Vec<Row> {
    if ids.len() == 1 {
        return rows;
    }
    let by_id: HashMap<Uuid, Row> = rows.into_iter().map(|row| (row.id(), row)).collect();
    ids.iter().filter_map(|id| by_id.get(id).cloned()).collect()
}

/// The rows that answer a query, in its order. The columns are [`Layout::read_columns`](crate::layout::Layout::read_columns). `None`
/// where there can be none.
pub(crate) fn select(
    tables: &Tables,
    table: &Table,
    scope: &Scope,
    query: &Query,
) -> Option<Statement> {
    if query.limit == 0 || !is_visible(table, scope) {
        return None;
    }
    let mut statement = Statement::scoped(scope);
    let mut condition = condition::write(&mut statement, tables, table, "c", &query.condition);
    if let Some(snapshot) = query.snapshot.as_ref().filter(|_| table.is_fed()) {
        let snapshot = statement.argument(snapshot.as_str());
        let transaction = quoted(TRANSACTION);
        let _ = write!(
            condition,
            " AND pg_visible_in_snapshot(c.{transaction}, {snapshot}::text::pg_snapshot)"
        );
    }
    let keys = keys(&mut statement, table, query);
    let behind = match &query.after {
        None => Behind::everything(),
        Some(position) => behind(&mut statement, &steps(table, query, &keys, position)),
    };
    let in_order = behind.in_order;
    let behind = behind.into_parts();
    if behind.is_empty() {
        return None;
    }
    // Rows with some tags: by their ids if they are few, else in their order.
    let few = condition::few_tagged(&mut statement, tables, table, &query.condition);
    let end = match i64::try_from(query.limit) {
        Ok(limit) => format!(" LIMIT {}", statement.argument(limit)),
        Err(_) => " OFFSET 0".to_owned(),
    };
    let tail = format!("{}{end}", order_by(table, &keys, "c"));
    let mut parts = Vec::with_capacity(behind.len());
    for behind in &behind {
        if !few {
            parts.push(part(&mut statement, table, &condition, behind, &tail));
            continue;
        }
        let by_id = format!("{behind} AND few.ids IS NOT NULL AND c.\"id\" = ANY(few.ids)");
        // Found by their ids and then sorted, whatever index has the order.
        let by_id = part(&mut statement, table, &condition, &by_id, " OFFSET 0");
        let order = order_by(table, &keys, "f");
        parts.push(format!("SELECT f.* FROM ({by_id}) AS f{order}{end}"));
        let in_order = format!("{behind} AND few.ids IS NULL");
        parts.push(part(&mut statement, table, &condition, &in_order, &tail));
    }
    statement
        .push(" SELECT r.* FROM scope")
        .push(if few { " CROSS JOIN few" } else { "" })
        .push(" CROSS JOIN LATERAL (");
    if let [part] = parts.as_slice() {
        statement.push(part);
    } else {
        if in_order {
            statement.push("SELECT v.* FROM (");
        }
        statement.push("SELECT u.* FROM (");
        for (index, part) in parts.iter().enumerate() {
            let union = if index > 0 { " UNION ALL " } else { "" };
            statement.push(union).push("(").push(part).push(")");
        }
        // Parts that follow each other are read one after the other, the next only if the page is
        // not full; others are merged.
        let order = order_by(table, &keys, "u");
        let tail = if in_order {
            format!(") AS u{end}")
        } else {
            format!(") AS u{order}{end}")
        };
        statement.push(&tail);
        if in_order {
            let order = order_by(table, &keys, "v");
            statement.push(&format!(") AS v{order}"));
        }
    }
    statement.push(") AS r");
    Some(statement)
}

/// The records that a text is found in, the best first: their ids.
pub(crate) fn search(
    tables: &Tables,
    table: &Table,
    scope: &Scope,
    search: &TextSearch,
) -> Option<Statement> {
    let texts = tables
        .named(search_texts::OBJECT)
        .filter(|_| table.has_custom_fields());
    let is_searched = table.is_searchable() || texts.is_some();
    let can_be_found = is_searched && search.finds_anything() && !table.object.is_template();
    if scope.tenant().is_none() || !table.has_tenant() || !can_be_found {
        return None;
    }
    let mut statement = Statement::scoped(scope);
    let tenant = statement.tenant().to_owned();
    let name = statement.argument(table.name.as_str());
    let words = statement.argument(search.words().join(" "));
    let limit = statement.argument(i32::try_from(search.limit).unwrap_or(i32::MAX));
    let (column, id) = statement.discriminator(table);
    let key = texts.as_ref().map(|_| search_texts::key(search.object()));
    let texts = statement.argument(texts.map(|texts| texts.name.clone()));
    let key = statement.argument(key);
    let sql = format!(
        " SELECT r.id FROM scope CROSS JOIN LATERAL \
         (SELECT s.id, s.rank FROM {}.search({tenant}, {name}, {words}, {limit}, {column}, {id}, \
         {texts}, {key}) AS s WHERE scope.is_set OFFSET 0) AS r ORDER BY r.rank DESC, r.id",
        quoted(tables.schema())
    );
    statement.push(&sql);
    Some(statement)
}

/// One select over the table.
fn part(
    statement: &mut Statement,
    table: &Table,
    condition: &str,
    behind: &str,
    tail: &str,
) -> String {
    let mut sql = format!("SELECT {}", table.read_columns("c"));
    let own = statement.own(table, "c");
    let _ = write!(
        sql,
        " FROM {} AS c WHERE scope.is_set AND {own} AND {condition}{behind}{tail}",
        table.sql
    );
    sql
}

/// Whether the values of a kind have an order; else there only are rows with and without a value.
const fn is_ordered(kind: StorageKind) -> bool {
    !matches!(kind, StorageKind::List | StorageKind::Json)
}

/// What a field is sorted by.
fn sort_sql(source: &Source<'_>, alias: &str, is_ordered: bool) -> String {
    let own = source.sql(alias);
    if is_ordered {
        own
    } else {
        format!("({own} IS NULL)")
    }
}

/// Where the values of the sort keys stand.
fn keys<'q, 't>(
    statement: &mut Statement,
    table: &'t Table,
    query: &'q Query,
) -> Vec<(&'q SortKey, Option<Source<'t>>)> {
    let mut keys = Vec::with_capacity(query.sort.len());
    for key in &query.sort {
        let source = Source::at(statement, table, &query.object, key.index);
        keys.push((key, source));
    }
    keys
}

/// The order of the query. No value comes after every value, as is PostgreSQL's way.
fn order_by(table: &Table, keys: &[(&SortKey, Option<Source<'_>>)], alias: &str) -> String {
    let mut sql = String::new();
    for (place, (key, source)) in keys.iter().enumerate() {
        let again = keys
            .iter()
            .take(place)
            .any(|(before, _)| before.index == key.index);
        let Some(source) = source.as_ref().filter(|_| !again) else {
            continue;
        };
        let direction = if key.descending { " DESC" } else { "" };
        sql.push_str(if sql.is_empty() { " ORDER BY " } else { ", " });
        // The index is over the rounded numbers, which have the same order.
        if alias == "c"
            && let Some(rounded) = table.rounded(key.index)
        {
            let _ = write!(sql, "c.{}{direction}, ", rounded.sql);
        }
        sql.push_str(&sort_sql(source, alias, is_ordered(source.kind())));
        sql.push_str(direction);
    }
    sql
}

/// A sort key and the position's value in it.
#[derive(Debug, PartialEq)]
struct Step<'v> {
    sql: String,
    kind: StorageKind,
    descending: bool,
    nullable: bool,
    /// `None` where the position has no value.
    place: Option<Place<'v>>,
    /// The column by whose index the step is found, where it is not its own.
    rounded: Option<String>,
}

impl Step<'_> {
    /// There is no value, in the column of the index either.
    fn is_null(&self) -> String {
        match &self.rounded {
            Some(rounded) => format!(" AND {} IS NULL AND {rounded} IS NULL", self.sql),
            None => format!(" AND {} IS NULL", self.sql),
        }
    }
}

fn steps<'v>(
    table: &Table,
    query: &Query,
    keys: &[(&SortKey, Option<Source<'_>>)],
    position: &'v [Value],
) -> Vec<Step<'v>> {
    let mut steps: Vec<Step<'v>> = Vec::with_capacity(query.sort.len());
    for ((key, source), value) in keys.iter().zip(position) {
        let Some(source) = source else {
            continue;
        };
        let place = match value {
            Value::Null => None,
            value => Some(Place::of(source.kind(), value.as_ref())),
        };
        let is_ordered = is_ordered(source.kind()) && place != Some(Place::Elsewhere);
        let excludes_null = |at| excludes_null(&query.condition, &at);
        let mut step = Step {
            sql: sort_sql(source, "c", is_ordered),
            kind: source.kind(),
            descending: key.descending,
            nullable: source.is_nullable()
                && !FieldAt::at_place(&query.object, key.index).is_some_and(excludes_null),
            place,
            rounded: table
                .rounded(key.index)
                .map(|column| format!("c.{}", column.sql)),
        };
        if !is_ordered {
            step.kind = StorageKind::Boolean;
            step.nullable = false;
            step.place = Some(Place::At(ValueRef::Boolean(value.is_null())));
        }
        // Rows that are equal in a key are equal in it when it comes again.
        let again = steps
            .iter()
            .any(|before| before.sql == step.sql && before.place == step.place);
        if !again {
            steps.push(step);
        }
    }
    steps
}

/// The parts of the rows behind a position.
#[derive(Debug)]
struct Behind {
    /// The parts that begin at each step, or run of steps, the first step first. What is equal to
    /// the position in more steps comes before what is not: the last group's rows come first.
    groups: Vec<Vec<String>>,
    /// Whether no part's rows come between the rows of another.
    in_order: bool,
}

impl Default for Behind {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            in_order: true,
        }
    }
}

impl Behind {
    /// There is no position.
    fn everything() -> Self {
        Self {
            groups: vec![vec![String::new()]],
            in_order: true,
        }
    }

    /// The parts, in the order of their rows where they have one.
    fn into_parts(self) -> Vec<String> {
        self.groups.into_iter().rev().flatten().collect()
    }
}

/// The rows behind a position, in parts that have no row in common; each begins with ` AND ` or is
/// empty.
fn behind(statement: &mut Statement, steps: &[Step<'_>]) -> Behind {
    let mut behind = Behind::default();
    // The rows that are equal to the position in the steps so far.
    let mut equal = String::new();
    let mut rest = steps;
    while let [first, others @ ..] = rest {
        let Step {
            sql,
            kind,
            descending,
            nullable,
            place,
            ..
        } = first;
        match place {
            Some(Place::At(_)) => rest = run(statement, &mut behind, &mut equal, rest),
            None => {
                // In front of the rows without a value are, or behind them, all with one.
                behind.groups.push(match (*descending, *nullable) {
                    (true, true) => vec![format!("{equal} AND {sql} IS NOT NULL")],
                    (true, false) => vec![equal.clone()],
                    (false, _) => Vec::new(),
                });
                if !nullable {
                    return behind;
                }
                equal.push_str(&first.is_null());
                rest = others;
            }
            // No row is equal to the position in this step.
            Some(place) => {
                let mut parts = Vec::new();
                match (place, *descending) {
                    (Place::Behind(value), _) => {
                        let argument = statement.value_argument(*kind, value);
                        let op = if *descending { "<=" } else { ">" };
                        parts.push(format!("{equal} AND {sql} {op} {argument}"));
                    }
                    (Place::BeforeAll, false) | (Place::AfterAll, true) => {
                        parts.push(format!("{equal} AND {sql} IS NOT NULL"));
                    }
                    _ => {}
                }
                if *nullable && !descending {
                    parts.push(format!("{equal}{}", first.is_null()));
                }
                behind.groups.push(parts);
                return behind;
            }
        }
    }
    behind
}

/// The parts of the first steps that go in one direction; returns the steps behind them.
fn run<'s, 'v>(
    statement: &mut Statement,
    behind: &mut Behind,
    equal: &mut String,
    steps: &'s [Step<'v>],
) -> &'s [Step<'v>] {
    let descending = steps.first().is_some_and(|step| step.descending);
    let mut keys = Vec::new();
    let mut values = Vec::new();
    let mut without = Vec::new();
    let start = equal.clone();
    for step in steps {
        let Some(Place::At(value)) = &step.place else {
            break;
        };
        if step.descending != descending {
            break;
        }
        let argument = statement.value_argument(step.kind, value);
        if step.nullable && !descending {
            // Rows without a value in a later key come in between.
            behind.in_order &= keys.is_empty();
            without.push(format!("{equal}{}", step.is_null()));
        }
        let _ = write!(equal, " AND {} = {argument}", step.sql);
        keys.push(step.sql.as_str());
        values.push(argument);
    }
    let op = if descending { "<" } else { ">" };
    // What follows from the comparison, and can use an index.
    let narrowed = steps.first().and_then(|step| {
        let Some(Place::At(ValueRef::Decimal(number))) = &step.place else {
            return None;
        };
        let column = step.rounded.as_ref()?;
        let argument = statement.argument(rounded(*number));
        Some(format!(" AND {column} {op}= {argument}"))
    });
    let start = format!("{start}{}", narrowed.unwrap_or_default());
    let (keys_sql, values_sql) = (keys.join(", "), values.join(", "));
    let mut parts = vec![if keys.len() == 1 {
        format!("{start} AND {keys_sql} {op} {values_sql}")
    } else {
        format!("{start} AND ({keys_sql}) {op} ({values_sql})")
    }];
    parts.append(&mut without);
    behind.groups.push(parts);
    steps.get(keys.len()..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;
    use crm_core::Id;
    use crm_core::query::{Comparison, Condition, FieldAt, SortKey};
    use crm_core::schema::Entity as _;
    use crm_core::storage::conformance::Specimen;

    use super::*;

    /// The parts behind a position of specimens, sorted by fields that may begin with `-`.
    fn parts(condition: Condition, sort: &[&str], position: &[Value]) -> Vec<String> {
        let tables = Tables::new("crm");
        let object = Specimen::schema();
        let sort = sort
            .iter()
            .map(|name| SortKey {
                index: object.field_index(name.trim_start_matches('-')).unwrap(),
                descending: name.starts_with('-'),
            })
            .collect();
        let query = Query::new(object, condition).sort(sort);
        let scope = Scope::Tenant(Id::new(Uuid::from_u128(42)));
        let mut statement = Statement::scoped(&scope);
        let table = tables.of(object);
        let keys = keys(&mut statement, &table, &query);
        let steps = steps(&table, &query, &keys, position);
        behind(&mut statement, &steps).groups.concat()
    }

    fn id() -> Value {
        Uuid::from_u128(7).into()
    }

    fn day() -> Value {
        NaiveDate::from_ymd_opt(2026, 1, 31).unwrap().into()
    }

    #[test]
    fn one_direction_without_nulls_is_one_range() {
        assert_eq!(
            parts(Condition::all(), &["-id"], &[id()]),
            [" AND c.\"id\" < $2"]
        );
        assert_eq!(
            parts(Condition::all(), &["name", "id"], &["x".into(), id()]),
            [" AND (c.\"name\", c.\"id\") > ($2, $3)"]
        );
        // Rows without a value come first in a descending order.
        assert_eq!(
            parts(Condition::all(), &["-made_on", "-id"], &[day(), id()]),
            [" AND (c.\"made_on\", c.\"id\") < ($2, $3)"]
        );
        let known = Condition::Compare {
            field: FieldAt::new(Specimen::schema().field_index("made_on").unwrap()),
            op: Comparison::Gt,
            value: day(),
        };
        assert_eq!(
            parts(known, &["made_on", "id"], &[day(), id()]),
            [" AND (c.\"made_on\", c.\"id\") > ($2, $3)"]
        );
    }

    #[test]
    fn rows_without_a_value_are_a_part() {
        assert_eq!(
            parts(Condition::all(), &["made_on", "id"], &[day(), id()]),
            [
                " AND (c.\"made_on\", c.\"id\") > ($2, $3)",
                " AND c.\"made_on\" IS NULL",
            ]
        );
        assert_eq!(
            parts(Condition::all(), &["made_on", "id"], &[Value::Null, id()]),
            [" AND c.\"made_on\" IS NULL AND c.\"id\" > $2"]
        );
        assert_eq!(
            parts(Condition::all(), &["-made_on", "-id"], &[Value::Null, id()]),
            [
                " AND c.\"made_on\" IS NOT NULL",
                " AND c.\"made_on\" IS NULL AND c.\"id\" < $2",
            ]
        );
    }

    #[test]
    fn a_turn_of_direction_is_a_part() {
        assert_eq!(
            parts(Condition::all(), &["-name", "id"], &["x".into(), id()]),
            [
                " AND c.\"name\" < $2",
                " AND c.\"name\" = $2 AND c.\"id\" > $3",
            ]
        );
        // A key that comes again decides nothing.
        assert_eq!(
            parts(
                Condition::all(),
                &["-name", "name", "-id"],
                &["x".into(), "x".into(), id()]
            ),
            [" AND (c.\"name\", c.\"id\") < ($2, $3)"]
        );
    }

    #[test]
    fn a_position_between_values_ends_the_search() {
        assert_eq!(
            parts(Condition::all(), &["name", "id"], &["a\0b".into(), id()]),
            [" AND c.\"name\" > $2"]
        );
        assert_eq!(
            parts(Condition::all(), &["-name", "-id"], &["a\0b".into(), id()]),
            [" AND c.\"name\" <= $2"]
        );
    }
}

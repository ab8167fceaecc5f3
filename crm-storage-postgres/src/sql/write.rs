//! Commits and claims as statements.
//!
//! A commit is one statement. Its data-modifying CTEs do the work; the final select reads them in
//! the order of the port's checks, and calls `refuse` where one did not touch as many rows as it
//! should, which undoes everything:
//!
//! ```text
//! WITH scope AS (the tenant's setting), c0 AS (SELECT .. FOR SHARE), c1 AS (UPDATE ..), c2 AS (INSERT ..)
//! SELECT .. FROM scope CROSS JOIN LATERAL (
//!   SELECT CASE WHEN (SELECT count(*) FROM c0) <> 1 THEN crm.refuse('conflict', ..)
//!               WHEN .. END WHERE scope.is_set OFFSET 0)
//! ```
//!
//! A CTE that changes data runs when it is first read, so the setting is there before any row is
//! looked at, and versions are checked before anything is inserted.

use std::fmt::Write as _;

use crm_core::query::{Condition, Query, SortKey, fold_case};
use crm_core::schema::{FieldSet, Lifecycle, Row, StorageKind, ValueRef, system};
use crm_core::storage::{Claim, Expectation, Scope, Taking};
use uuid::Uuid;

use super::Statement;
use super::condition;
use super::value::rounded;
use crate::layout::{Column, Holds, SEALED, Table, Tables, quoted};

/// SQLSTATE of a version that is not the expected one.
pub(crate) const CONFLICT: &str = "CRM01";
/// SQLSTATE of a reference that leads nowhere.
pub(crate) const REFERENCE: &str = "CRM02";

/// SQLSTATE of a row that something refers to although it is deleted.
pub(crate) const REFERRED: &str = "CRM03";

/// SQLSTATE of a removed row that something refers to.
pub(crate) const REMOVED: &str = "CRM05";

/// SQLSTATE of a deletion at an isolation level at which it cannot be checked.
pub(crate) const LEVEL: &str = "CRM04";

/// SQLSTATE of a row with personal values that are not sealed, of a tenant that has keys.
pub(crate) const UNENCRYPTED: &str = "CRM06";

/// A commit while it is written.
#[derive(Debug)]
pub(crate) struct CommitStatement {
    statement: Statement,
    schema: String,
    parts: usize,
    /// The conditions under which the commit is refused, in the order of the checks.
    refusals: Vec<String>,
    /// Whether the isolation level is looked at.
    asks_level: bool,
}

impl CommitStatement {
    /// Begins the statement.
    pub(crate) fn new(tables: &Tables, scope: &Scope) -> Self {
        Self {
            statement: Statement::writing(scope),
            schema: quoted(tables.schema()),
            parts: 0,
            refusals: Vec::new(),
            asks_level: false,
        }
    }

    /// Begins a CTE and returns its name.
    fn part(&mut self) -> String {
        let name = format!("c{}", self.parts);
        self.parts += 1;
        let _ = write!(self.statement.text, ", {name} AS ");
        name
    }

    /// Refuses the commit unless the CTE `part` has `rows` rows.
    fn require(&mut self, part: &str, rows: usize, code: &str, detail: &str) {
        let detail = self.statement.argument(detail);
        if rows == 1 {
            // Nothing to count. Of several, this would only write the first here, and the others when
            // all else is done.
            self.refusals.push(format!(
                "WHEN NOT EXISTS (SELECT 1 FROM {part}) THEN {}.refuse('{code}', {detail})",
                self.schema
            ));
            return;
        }
        let rows = self.count(rows);
        self.refusals.push(format!(
            "WHEN (SELECT count(*) FROM {part}) <> {rows} \
             THEN {}.refuse('{code}', {detail})",
            self.schema
        ));
    }

    /// A number of rows, bound: commits of other sizes are the same statement.
    fn count(&mut self, rows: usize) -> String {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        self.statement.argument(rows)
    }

    /// Reads a CTE whose rows do not matter, so that it runs now.
    fn run(&mut self, part: &str) {
        self.refusals
            .push(format!("WHEN (SELECT count(*) FROM {part}) < 0 THEN NULL"));
    }

    /// The tenant has no keys in the table `keys`: what is written is not sealed.
    pub(crate) fn without_keys(&mut self, keys: &str) {
        let tenant = self.statement.tenant().to_owned();
        let schema = &self.schema;
        self.refusals.push(format!(
            "WHEN EXISTS (SELECT 1 FROM {schema}.{keys} AS t WHERE t.\"tenant_id\" = {tenant}) \
             THEN {schema}.refuse('{UNENCRYPTED}', '')"
        ));
    }

    /// The rows of one object that were relied on are at these versions, and stay there until the
    /// commit is over.
    pub(crate) fn expect(&mut self, table: &Table, expected: &[&Expectation]) {
        let part = self.part();
        // Entries of logs do not change.
        let lock = match table.object.lifecycle() {
            Lifecycle::Full | Lifecycle::Derived => " FOR SHARE OF t",
            Lifecycle::Log => "",
        };
        let statement = &mut self.statement;
        statement.push("MATERIALIZED (SELECT 1 FROM ");
        if let [one] = expected {
            let own = statement.own(table, "t");
            let id = statement.argument(one.id);
            let version = statement.argument(one.version);
            let _ = write!(
                statement.text,
                "{} AS t WHERE {own} AND t.\"id\" = {id} AND t.\"version\" = {version}{lock})",
                table.sql
            );
        } else {
            let ids: Vec<Uuid> = expected.iter().map(|expected| expected.id).collect();
            let versions: Vec<i64> = expected.iter().map(|expected| expected.version).collect();
            let ids = statement.argument(ids);
            let versions = statement.argument(versions);
            let own = statement.own(table, "t");
            let _ = write!(
                statement.text,
                "unnest({ids}, {versions}) AS v(id, version) JOIN {} AS t \
                 ON {own} AND t.\"id\" = ANY({ids}) AND t.\"id\" = v.id \
                 AND t.\"version\" = v.version{lock})",
                table.sql
            );
        }
        self.require(&part, expected.len(), CONFLICT, table.object.name());
    }

    /// Inserts rows of one object.
    pub(crate) fn insert(&mut self, table: &Table, rows: &[&Row]) {
        let part = self.part();
        let statement = &mut self.statement;
        let _ = write!(statement.text, "(INSERT INTO {} (", table.sql);
        if table.has_tenant() {
            statement.push("\"tenant_id\", ");
        }
        push_list(&mut statement.text, &table.columns);
        if table.sealed().is_some() {
            let _ = write!(statement.text, ", {}", quoted(SEALED));
        }
        statement.push(")");
        if let [row] = rows {
            statement.push(" VALUES (");
            if table.has_tenant() {
                let tenant = statement.tenant().to_owned();
                statement.push(&tenant).push(", ");
            }
            for (index, column) in table.columns.iter().enumerate() {
                if index > 0 {
                    statement.push(", ");
                }
                bind_column(statement, column, row);
            }
            if table.sealed().is_some() {
                statement.push(", ").bind(row.sealed());
            }
            statement.push(")");
        } else {
            statement.push(" SELECT ");
            if table.has_tenant() {
                let tenant = statement.tenant().to_owned();
                statement.push(&tenant).push(", ");
            }
            let columns: Vec<&Column> = table.columns.iter().collect();
            push_cells(&mut statement.text, &columns);
            let sealed = sealed_array(statement, table, rows);
            if sealed.is_some() {
                statement.push(", v.row_sealed");
            }
            statement.push(" FROM ");
            let sealed = sealed.as_deref().map(|array| ("row_sealed", array));
            push_unnest(statement, &columns, rows, sealed.as_slice());
        }
        statement.push(" RETURNING 1)");
        // Counted, so that all of them are inserted here; none is left out, since what cannot be
        // inserted is an error of the server's.
        self.require(&part, rows.len(), CONFLICT, table.object.name());
    }

    /// Updates rows of one object: pairs of the row as it was read and as it shall be. Columns that
    /// no row changes are left out, unless rows were set aside before. What a sealed row holds of
    /// personal values is always written: the stored row may say the same in another form.
    pub(crate) fn update(&mut self, table: &Table, rows: &[(&Row, &Row)], whole: bool) {
        let mut changed = FieldSet::default();
        for (before, after) in rows {
            changed = changed.union(&after.differing(&***before));
        }
        for index in [
            system::VERSION,
            system::UPDATED_AT,
            system::UPDATED_BY,
            system::UPDATED_BY_ID,
        ] {
            changed.insert(index);
        }
        let is_sealed = rows
            .iter()
            .any(|(before, after)| before.sealed().is_some() || after.sealed().is_some());
        let columns: Vec<&Column> = table
            .columns
            .iter()
            .filter(|column| {
                let is_resealed = is_sealed && table.is_personal(column);
                whole || is_resealed || changed.contains(column.field)
            })
            .collect();
        let part = self.part();
        let statement = &mut self.statement;
        let _ = write!(statement.text, "(UPDATE {} AS t SET ", table.sql);
        if let [(before, after)] = rows {
            for (index, column) in columns.iter().enumerate() {
                if index > 0 {
                    statement.push(", ");
                }
                statement.push(&column.sql).push(" = ");
                bind_column(statement, column, after);
            }
            if let Some(sealed) = table.sealed() {
                let _ = write!(statement.text, ", {} = ", quoted(sealed));
                statement.bind(after.sealed());
            }
            let own = statement.own(table, "t");
            let id = statement.argument(after.id());
            let version = statement.argument(before.version());
            let _ = write!(
                statement.text,
                " WHERE {own} AND t.\"id\" = {id} AND t.\"version\" = {version} RETURNING 1)"
            );
        } else {
            for (index, column) in columns.iter().enumerate() {
                if index > 0 {
                    statement.push(", ");
                }
                let _ = write!(statement.text, "{} = {}", column.sql, cell(column, index));
            }
            let afters: Vec<&Row> = rows.iter().map(|(_, after)| *after).collect();
            let sealed = sealed_array(statement, table, &afters);
            if sealed.is_some() {
                let _ = write!(statement.text, ", {} = v.row_sealed", quoted(SEALED));
            }
            statement.push(" FROM ");
            let ids: Vec<Uuid> = afters.iter().map(|row| row.id()).collect();
            let versions: Vec<i64> = rows.iter().map(|(before, _)| before.version()).collect();
            let ids = statement.argument(ids);
            let versions = statement.argument(versions);
            let mut first = vec![("row_id", &*ids), ("row_version", &*versions)];
            first.extend(sealed.as_deref().map(|array| ("row_sealed", array)));
            push_unnest(statement, &columns, &afters, &first);
            let own = statement.own(table, "t");
            let _ = write!(
                statement.text,
                " WHERE {own} AND t.\"id\" = ANY({ids}) AND t.\"id\" = v.row_id \
                 AND t.\"version\" = v.row_version RETURNING 1)"
            );
        }
        self.require(&part, rows.len(), CONFLICT, table.object.name());
    }

    /// Removes rows of one object.
    pub(crate) fn delete(&mut self, table: &Table, rows: &[&Row]) {
        let part = self.part();
        let statement = &mut self.statement;
        let own = statement.own(table, "t");
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id()).collect();
        let versions: Vec<i64> = rows.iter().map(|row| row.version()).collect();
        let ids = statement.argument(ids);
        let versions = statement.argument(versions);
        let _ = write!(
            statement.text,
            "(DELETE FROM {} AS t USING unnest({ids}, {versions}) AS v(id, version) \
             WHERE {own} AND t.\"id\" = ANY({ids}) AND t.\"id\" = v.id \
             AND t.\"version\" = v.version RETURNING 1)",
            table.sql
        );
        self.require(&part, rows.len(), CONFLICT, table.object.name());
    }

    /// Waits for rows that are changed next, in the order of their ids: which order an update comes to
    /// is left to the plan, and two commits that wait for each other's rows never end. To be called
    /// before they are changed; a single row is waited for by its change.
    pub(crate) fn lock(&mut self, table: &Table, ids: &[Uuid]) {
        let part = self.part();
        let statement = &mut self.statement;
        let own = statement.own(table, "t");
        let ids = statement.argument(ids);
        let _ = write!(
            statement.text,
            "MATERIALIZED (SELECT 1 FROM {} AS t WHERE {own} AND t.\"id\" = ANY({ids}) \
             ORDER BY t.\"id\" FOR NO KEY UPDATE OF t)",
            table.sql
        );
        self.run(&part);
    }

    /// Waits until nobody refers to these rows anew: whoever does holds them until its end. To be
    /// called before they are changed.
    pub(crate) fn hold(&mut self, table: &Table, ids: &[Uuid]) {
        let part = self.part();
        let statement = &mut self.statement;
        let own = statement.own(table, "t");
        let ids = statement.argument(ids);
        let _ = write!(
            statement.text,
            "MATERIALIZED (SELECT 1 FROM {} AS t WHERE {own} AND t.\"id\" = ANY({ids}) FOR UPDATE OF t)",
            table.sql
        );
        self.run(&part);
    }

    /// No row that is not deleted refers to these rows in one of its fields.
    pub(crate) fn unreferenced(
        &mut self,
        referring: &Table,
        field: &str,
        ids: &[Uuid],
        object: &str,
    ) {
        let referred = self.referred(referring, field, ids, false);
        let object = self.statement.argument(object);
        self.refusals.push(format!(
            "WHEN {referred} IS NOT NULL \
             THEN {}.refuse('{REFERRED}', {object} || ' ' || {referred}::text)",
            self.schema
        ));
    }

    /// No row at all refers to these rows, which are removed, in a field without a foreign key.
    /// `number` tells which it was if one does.
    pub(crate) fn removed(&mut self, referring: &Table, field: &str, ids: &[Uuid], number: usize) {
        let referred = self.referred(referring, field, ids, true);
        let number = self.statement.argument(number.to_string());
        self.refusals.push(format!(
            "WHEN {referred} IS NOT NULL THEN {}.refuse('{REMOVED}', {number})",
            self.schema
        ));
    }

    /// One of these rows that a row refers to, as SQL.
    fn referred(
        &mut self,
        referring: &Table,
        field: &str,
        ids: &[Uuid],
        with_deleted: bool,
    ) -> String {
        let tenant = self.statement.tenant().to_owned();
        let table = self.statement.argument(referring.name.as_str());
        let field = self.statement.argument(field);
        let ids = self.statement.argument(ids);
        let with_deleted = self.statement.argument(with_deleted);
        let (column, id) = self.statement.discriminator(referring);
        // A snapshot that is kept for the whole transaction does not show who was faster.
        if !self.asks_level {
            self.asks_level = true;
            self.refusals.push(format!(
                "WHEN current_setting('transaction_isolation') = 'repeatable read' \
                 THEN {}.refuse('{LEVEL}', '')",
                self.schema
            ));
        }
        format!(
            "{}.referred({tenant}, {table}, {field}, {ids}, {with_deleted}, {column}, {id})",
            self.schema
        )
    }

    /// The references in one field lead to rows that are there, are not deleted, and stay so until
    /// the commit is over.
    /// `number` tells which it was if one is not.
    pub(crate) fn reference(&mut self, target: &Table, ids: &[Uuid], number: usize) {
        if let [id] = ids {
            let statement = &mut self.statement;
            let own = statement.own(target, "t");
            let id = statement.argument(*id);
            let detail = statement.argument(number.to_string());
            self.refusals.push(format!(
                "WHEN NOT EXISTS (SELECT 1 FROM {} AS t WHERE {own} AND t.\"id\" = {id} \
                 AND t.\"deleted_at\" IS NULL FOR KEY SHARE OF t) \
                 THEN {}.refuse('{REFERENCE}', {detail})",
                target.sql, self.schema
            ));
            return;
        }
        let part = self.part();
        let statement = &mut self.statement;
        let own = statement.own(target, "t");
        let bound = format!("= ANY({})", statement.argument(ids));
        let _ = write!(
            statement.text,
            "MATERIALIZED (SELECT 1 FROM {} AS t WHERE {own} AND t.\"id\" {bound} \
             AND t.\"deleted_at\" IS NULL FOR KEY SHARE OF t)",
            target.sql
        );
        self.require(&part, ids.len(), REFERENCE, &number.to_string());
    }

    /// Whether there is nothing to do yet.
    pub(crate) const fn is_empty(&self) -> bool {
        self.refusals.is_empty()
    }

    /// The finished statement.
    pub(crate) fn finish(mut self) -> Statement {
        self.statement
            .push(" SELECT r.refused FROM scope CROSS JOIN LATERAL (SELECT CASE ");
        for refusal in &self.refusals {
            self.statement.push(refusal).push(" ");
        }
        self.statement
            .push("ELSE false END AS refused WHERE scope.is_set OFFSET 0) AS r");
        self.statement
    }
}

/// Takes the rows of one object out of the way of others' unique values, inside a transaction that
/// puts them back: rows as they are stored, and the columns to change.
pub(crate) fn release(scope: &Scope, table: &Table, ids: &[Uuid], assignments: &str) -> Statement {
    let mut statement = Statement::writing(scope);
    let own = statement.own(table, "t");
    let ids = statement.argument(ids);
    let _ = write!(
        statement.text,
        ", c0 AS (UPDATE {} AS t SET {assignments} WHERE {own} AND t.\"id\" = ANY({ids}) RETURNING 1) \
         SELECT r.count FROM scope CROSS JOIN LATERAL \
         (SELECT (SELECT count(*) FROM c0) AS count WHERE scope.is_set OFFSET 0) AS r",
        table.sql
    );
    statement
}

/// Takes entries of a month out of a log, into its archive or for good, inside the transaction of a
/// commit.
pub(crate) fn take(
    tables: &Tables,
    scope: &Scope,
    from: &Table,
    to: Option<&Table>,
    taking: &Taking,
) -> Statement {
    let mut statement = Statement::writing(scope);
    let tenant = statement.tenant().to_owned();
    let object = statement.argument(taking.from.name().to_owned());
    let log = statement.argument(from.name.clone());
    let archive = statement.argument(to.map(|table| table.name.clone()));
    let month = statement.argument(taking.month);
    let ids = statement.argument(taking.ids.clone());
    let _ = write!(
        statement.text,
        " SELECT r.taken FROM scope CROSS JOIN LATERAL \
         (SELECT {}.take_entries({tenant}, {object}, {log}, {archive}, {month}, {ids}) AS taken \
         WHERE scope.is_set OFFSET 0) AS r",
        quoted(tables.schema())
    );
    statement
}

/// Puts rows of one object in the place of the stored ones of the same id and version: their personal
/// values and what is sealed of them. Gives how many.
pub(crate) fn reseal(scope: &Scope, table: &Table, rows: &[&Row]) -> Statement {
    let mut statement = Statement::writing(scope);
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id()).collect();
    let versions: Vec<i64> = rows.iter().map(|row| row.version()).collect();
    let own = statement.own(table, "t");
    let (ids, versions) = (statement.argument(ids), statement.argument(versions));
    // In the order in which commits wait for rows.
    let _ = write!(
        statement.text,
        ", locked AS MATERIALIZED (SELECT 1 FROM {} AS t WHERE {own} AND t.\"id\" = ANY({ids}) \
         ORDER BY t.\"id\" FOR NO KEY UPDATE OF t), resealed AS (UPDATE {} AS t SET ",
        table.sql, table.sql
    );
    let columns = table.columns.iter();
    let columns: Vec<&Column> = columns.filter(|column| table.is_personal(column)).collect();
    for (index, column) in columns.iter().enumerate() {
        let _ = write!(statement.text, "{} = {}, ", column.sql, cell(column, index));
    }
    let _ = write!(statement.text, "{} = v.row_sealed FROM ", quoted(SEALED));
    let sealed = sealed_array(&mut statement, table, rows);
    let mut first = vec![("row_id", &*ids), ("row_version", &*versions)];
    first.extend(sealed.as_deref().map(|array| ("row_sealed", array)));
    push_unnest(&mut statement, &columns, rows, &first);
    let own = statement.own(table, "t");
    let _ = write!(
        statement.text,
        " WHERE {own} AND t.\"id\" = ANY({ids}) AND t.\"id\" = v.row_id \
         AND t.\"version\" = v.row_version RETURNING 1) \
         SELECT r.resealed FROM scope CROSS JOIN LATERAL \
         (SELECT CASE WHEN (SELECT count(*) FROM locked) >= 0 \
          THEN (SELECT count(*) FROM resealed) END AS resealed WHERE scope.is_set OFFSET 0) AS r"
    );
    statement
}

/// The versions at which rows of one object are now.
pub(crate) fn versions(scope: &Scope, table: &Table, ids: &[Uuid]) -> Statement {
    let mut statement = Statement::scoped(scope);
    let own = statement.own(table, "t");
    let ids = statement.argument(ids);
    let _ = write!(
        statement.text,
        " SELECT r.* FROM scope CROSS JOIN LATERAL \
         (SELECT t.\"id\", t.\"version\", t.\"updated_at\" FROM {} AS t \
          WHERE scope.is_set AND {own} AND t.\"id\" = ANY({ids}) OFFSET 0) AS r",
        table.sql
    );
    statement
}

/// Takes rows for one worker and returns them, first the fields of each.
pub(crate) fn claim(tables: &Tables, table: &Table, scope: &Scope, claim: &Claim) -> Statement {
    let mut statement = Statement::writing(scope);
    statement.push(", picked AS MATERIALIZED (SELECT t.\"id\"");
    // Ties are broken as a query breaks them.
    let sort = Query::new(&claim.object, Condition::all())
        .sort(claim.sort.clone())
        .sort;
    let keys: Vec<(&SortKey, &Column)> = sort
        .iter()
        .filter_map(|key| Some((key, table.column(key.index)?)))
        .collect();
    for (index, (_, column)) in keys.iter().enumerate() {
        let _ = write!(statement.text, ", t.{} AS s{index}", column.sql);
    }
    let own = statement.own(table, "t");
    let _ = write!(statement.text, " FROM {} AS t WHERE {own} AND ", table.sql);
    let condition = condition::write(&mut statement, tables, table, "t", &claim.condition);
    statement.push(&condition).push(" ORDER BY ");
    let order: Vec<String> = keys
        .iter()
        .map(|(key, column)| format!("t.{}{}", column.sql, direction(key)))
        .collect();
    statement.push(&order.join(", "));
    let limit = i64::try_from(claim.limit).unwrap_or(i64::MAX);
    statement.push(" LIMIT ").bind(limit);
    let _ = write!(
        statement.text,
        " FOR UPDATE OF t SKIP LOCKED), taken AS (UPDATE {} AS t SET \
         \"version\" = t.\"version\" + 1, \"updated_at\" = ",
        table.sql
    );
    statement.bind(claim.stamp.at).push(", \"updated_by\" = ");
    statement
        .bind(claim.stamp.by.kind())
        .push(", \"updated_by_id\" = ");
    statement.bind(claim.stamp.by.id());
    for (field, value) in &claim.assign {
        for column in table.columns.iter().filter(|column| column.field == *field) {
            statement.push(", ").push(&column.sql).push(" = ");
            bind_cell(&mut statement, column, value.as_ref());
        }
    }
    let own = statement.own(table, "t");
    let _ = write!(
        statement.text,
        " FROM picked WHERE {own} AND t.\"id\" = picked.\"id\" RETURNING "
    );
    statement.push(&table.read_columns("t"));
    for index in 0..keys.len() {
        let _ = write!(statement.text, ", picked.s{index}");
    }
    statement.push(")");
    statement.push(
        " SELECT r.* FROM scope CROSS JOIN LATERAL (SELECT taken.* FROM taken WHERE scope.is_set \
         OFFSET 0) AS r ORDER BY ",
    );
    let order: Vec<String> = keys
        .iter()
        .enumerate()
        .map(|(index, (key, _))| format!("r.s{index}{}", direction(key)))
        .collect();
    statement.push(&order.join(", "));
    statement
}

const fn direction(key: &SortKey) -> &'static str {
    if key.descending { " DESC" } else { "" }
}

/// The columns, listed.
fn push_list(text: &mut String, columns: &[Column]) {
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(&column.sql);
    }
}

/// The value that `row` has for a column, bound.
fn bind_column(statement: &mut Statement, column: &Column, row: &Row) {
    bind_cell(statement, column, row.value(column.field));
}

fn bind_cell(statement: &mut Statement, column: &Column, value: ValueRef<'_>) {
    match column.holds {
        Holds::Value => statement.bind_value(column.kind, &value),
        Holds::Folded => statement.bind(value.as_text().map(fold_case)),
        Holds::Rounded => statement.bind(value.as_decimal().map(rounded)),
    };
}

/// What is sealed of rows as an array, bound; `None` where the table has no column for it.
fn sealed_array(statement: &mut Statement, table: &Table, rows: &[&Row]) -> Option<String> {
    table.sealed()?;
    let sealed: Vec<Option<&[u8]>> = rows.iter().map(|row| row.sealed()).collect();
    Some(statement.argument(sealed))
}

/// What stands for column number `index` of the unnested rows.
fn cell(column: &Column, index: usize) -> String {
    if column.kind == StorageKind::List {
        format!("v.a{index}::text[]")
    } else {
        format!("v.a{index}")
    }
}

fn push_cells(text: &mut String, columns: &[&Column]) {
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(&cell(column, index));
    }
}

/// Many rows as arrays, one for each column: `unnest($1, $2) AS v(a0, a1)`. `first` are columns
/// whose arrays are bound already.
fn push_unnest(
    statement: &mut Statement,
    columns: &[&Column],
    rows: &[&Row],
    first: &[(&str, &str)],
) {
    let mut arrays: Vec<String> = first.iter().map(|(_, array)| (*array).to_owned()).collect();
    let mut names: Vec<String> = first.iter().map(|(name, _)| (*name).to_owned()).collect();
    for (index, column) in columns.iter().enumerate() {
        let values = rows.iter().map(|row| row.value(column.field));
        let array = match column.holds {
            Holds::Value => statement.array_argument(column.kind, values),
            Holds::Folded => {
                let folded: Vec<Option<String>> =
                    values.map(|value| value.as_text().map(fold_case)).collect();
                statement.argument(folded)
            }
            Holds::Rounded => {
                let rounded: Vec<Option<f64>> = values
                    .map(|value| value.as_decimal().map(rounded))
                    .collect();
                statement.argument(rounded)
            }
        };
        arrays.push(array);
        names.push(format!("a{index}"));
    }
    let _ = write!(
        statement.text,
        "unnest({}) AS v({})",
        arrays.join(", "),
        names.join(", ")
    );
}

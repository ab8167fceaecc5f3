//! Conditions as SQL: true for exactly the rows that
//! [`Condition::matches`](crm_core::query::Condition::matches) takes.
//!
//! A condition may also come out as SQL's null, which only means false: `AND`, `OR` and `WHERE`
//! take it as that, and `Not` is written `IS NOT TRUE`.

use std::fmt::Write as _;

use crm_core::query::{Comparison, Condition, FieldAt, ListMatch, TextMatch, Tree, TreePart};
use crm_core::schema::{ObjectRef, StorageKind, Value, ValueRef};
use rust_decimal::Decimal;
use serde_json::Value as Json;

use super::Statement;
use super::custom::{self, Joined, Known, Source};
use super::place::Place;
use super::value::rounded;
use crate::layout::{Column, Table, Tables, quoted};

/// The SQL of `condition` over the rows of `table`, which the statement calls `alias`. It can stand
/// in a chain of `AND`s. Aliases of the form `t1`, `t2` must be free.
pub(crate) fn write(
    statement: &mut Statement,
    tables: &Tables,
    table: &Table,
    alias: &str,
    condition: &Condition,
) -> String {
    let mut sql = String::new();
    let mut writer = Writer {
        statement,
        tables,
        depth: 0,
    };
    writer.condition(&mut sql, table, alias, condition);
    sql
}

/// How many tagged records are looked up one by one rather than met in the order of a list.
const FEW: i32 = 1_000;

/// Where all rows of the condition must have some entries in a list, adds the CTE `few` with the ids
/// of those rows, or null if they are many: the operators on lists use no index under row-level
/// security, a function does.
pub(super) fn few_tagged(
    statement: &mut Statement,
    tables: &Tables,
    table: &Table,
    condition: &Condition,
) -> bool {
    let lists = condition.conjuncts().iter().find_map(|one| match one {
        Condition::List { field, op, values } if field.member.is_none() && !values.is_empty() => {
            let column = table.column(field.index)?;
            let is_list = column.kind == StorageKind::List && table.has_tenant();
            let has_nul = values.iter().any(|value| value.contains('\0'));
            (is_list && !has_nul).then_some((column, *op, values))
        }
        _ => None,
    });
    let Some((column, op, values)) = lists else {
        return false;
    };
    let name = statement.argument(table.name.as_str());
    let column = statement.argument(column.name.as_str());
    let values = statement.argument(values);
    let is_all = statement.argument(op == ListMatch::All);
    let (own, id) = statement.discriminator(table);
    let tenant = statement.tenant().to_owned();
    let _ = write!(
        statement.text,
        ", few AS MATERIALIZED (SELECT {}.tagged({tenant}, {name}, {column}, {values}, {is_all}, {FEW}, {own}, {id}) \
         AS ids FROM scope WHERE scope.is_set)",
        quoted(tables.schema())
    );
    true
}

/// Whether no row that fulfils the condition can lack a value in the field.
pub(super) fn excludes_null(condition: &Condition, at: &FieldAt) -> bool {
    let is_field = |field: &FieldAt| {
        field.index == at.index && field.member == at.member && field.custom == at.custom
    };
    match condition {
        Condition::And(all) => all.iter().any(|one| excludes_null(one, at)),
        Condition::Or(any) => !any.is_empty() && any.iter().all(|one| excludes_null(one, at)),
        Condition::Compare { field, op, .. } => is_field(field) && *op != Comparison::Ne,
        Condition::Null { field, is_null } => is_field(field) && !is_null,
        Condition::In { field, .. }
        | Condition::Text { field, .. }
        | Condition::List { field, .. }
        | Condition::Has { field, .. }
        | Condition::InTree { field, .. } => is_field(field),
        _ => false,
    }
}

/// The least text greater than every text that begins with `prefix`; `None` where there is none.
pub(super) fn behind_prefix(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // A range of `char`s steps over the surrogates, which are no characters.
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            return Some(text);
        }
    }
    None
}

/// An expression whose values are compared.
struct Operand {
    sql: String,
    kind: StorageKind,
}

struct Writer<'s, 't> {
    statement: &'s mut Statement,
    tables: &'t Tables,
    /// How many conditions over related records are around this one.
    depth: usize,
}

impl Writer<'_, '_> {
    fn condition(&mut self, sql: &mut String, table: &Table, alias: &str, condition: &Condition) {
        match condition {
            Condition::Compare { field, op, value } => {
                self.compare_field(sql, table, alias, field, *op, value);
            }
            Condition::In { field, values } => self.one_of(sql, table, alias, field, values),
            Condition::Null { field, is_null } => self.null(sql, table, alias, field, *is_null),
            Condition::Text { field, op, folded } => {
                self.text(sql, table, alias, field, *op, folded);
            }
            Condition::List { field, op, values } => {
                self.list(sql, table, alias, field, *op, values);
            }
            Condition::Has {
                field,
                object,
                condition,
            } => self.has(sql, table, alias, field, object, condition),
            Condition::Any {
                object,
                field,
                condition,
            } => self.any(sql, alias, object, field, condition),
            Condition::InTree { field, tree } => self.in_tree(sql, table, alias, field, tree),
            Condition::And(all) => self.join(sql, table, alias, all, "true", " AND "),
            Condition::Or(all) => self.join(sql, table, alias, all, "false", " OR "),
            // It is never null. So that the planner may join: a page then looks at what leads to its
            // own rows, not at all that leads anywhere.
            Condition::Not(inner) if matches!(**inner, Condition::Any { .. }) => {
                sql.push_str("NOT ");
                self.condition(sql, table, alias, inner);
            }
            Condition::Not(condition) => {
                sql.push('(');
                self.condition(sql, table, alias, condition);
                sql.push_str(") IS NOT TRUE");
            }
            _ => {
                self.statement.failed = Some("this kind of condition has no form in SQL".into());
                sql.push_str("false");
            }
        }
    }

    fn join(
        &mut self,
        sql: &mut String,
        table: &Table,
        alias: &str,
        all: &[Condition],
        none: &str,
        by: &str,
    ) {
        match all {
            [] => sql.push_str(none),
            [one] => self.condition(sql, table, alias, one),
            [first, rest @ ..] => {
                sql.push('(');
                self.condition(sql, table, alias, first);
                for one in rest {
                    sql.push_str(by);
                    self.condition(sql, table, alias, one);
                }
                sql.push(')');
            }
        }
    }

    fn compare_field(
        &mut self,
        sql: &mut String,
        table: &Table,
        alias: &str,
        field: &FieldAt,
        op: Comparison,
        value: &Value,
    ) {
        match self.operand(table, alias, field, value, is_ordered(op)) {
            Some(operand) => {
                self.narrow(sql, table, alias, field, op, std::slice::from_ref(value));
                self.compare(sql, &operand, op, value.as_ref());
            }
            // The value differs from whatever is there.
            None => sql.push_str(truth(op == Comparison::Ne)),
        }
    }

    fn compare(
        &mut self,
        sql: &mut String,
        operand: &Operand,
        op: Comparison,
        value: ValueRef<'_>,
    ) {
        let Operand { sql: own, kind } = operand;
        let place = Place::of(*kind, value);
        let (op, value) = match (place, op) {
            (Place::At(value), Comparison::Ne) => (" IS DISTINCT FROM ", value),
            (Place::At(value), Comparison::Eq) => (" = ", value),
            (Place::At(value), Comparison::Lt) => (" < ", value),
            (Place::At(value), Comparison::Le) => (" <= ", value),
            (Place::At(value), Comparison::Gt) => (" > ", value),
            (Place::At(value), Comparison::Ge) => (" >= ", value),
            (Place::Behind(value), Comparison::Lt | Comparison::Le) => (" <= ", value),
            (Place::Behind(value), Comparison::Gt | Comparison::Ge) => (" > ", value),
            (Place::BeforeAll, Comparison::Gt | Comparison::Ge)
            | (Place::AfterAll, Comparison::Lt | Comparison::Le)
            | (Place::Unordered, Comparison::Eq | Comparison::Le | Comparison::Ge) => {
                let _ = write!(sql, "{own} IS NOT NULL");
                return;
            }
            (Place::Unordered, Comparison::Ne) => {
                let _ = write!(sql, "{own} IS NULL");
                return;
            }
            (_, op) => {
                sql.push_str(truth(op == Comparison::Ne));
                return;
            }
        };
        if *kind == StorageKind::Json && !matches!(op, " = " | " IS DISTINCT FROM ") {
            // Documents have no order.
            sql.push_str("false");
            return;
        }
        let argument = self.statement.value_argument(*kind, &value);
        let _ = write!(sql, "{own}{op}{argument}");
    }

    fn one_of(
        &mut self,
        sql: &mut String,
        table: &Table,
        alias: &str,
        field: &FieldAt,
        values: &[Value],
    ) {
        self.statement.looks_up(values.len());
        self.narrow(sql, table, alias, field, Comparison::Eq, values);
        // The values of a document's members may be of several kinds.
        let mut alternatives = Vec::new();
        let kinds: [fn(&Value) -> bool; 4] = [
            |value| matches!(value, Value::Text(_)),
            |value| matches!(value, Value::Integer(_) | Value::Decimal(_)),
            |value| matches!(value, Value::Boolean(_)),
            |value| {
                !matches!(
                    value,
                    Value::Text(_) | Value::Integer(_) | Value::Decimal(_) | Value::Boolean(_)
                )
            },
        ];
        for is_kind in kinds {
            let mut same = values.iter().filter(|value| is_kind(value)).peekable();
            let Some(example) = same.peek().copied() else {
                continue;
            };
            let Some(operand) = self.operand(table, alias, field, example, false) else {
                continue;
            };
            if matches!(operand.kind, StorageKind::List | StorageKind::Json) {
                for value in same {
                    let mut one = String::new();
                    self.compare(&mut one, &operand, Comparison::Eq, value.as_ref());
                    alternatives.push(one);
                }
                continue;
            }
            let places = same.filter_map(|value| match Place::of(operand.kind, value.as_ref()) {
                Place::At(value) => Some(value),
                _ => None,
            });
            let argument = self.statement.array_argument(operand.kind, places);
            alternatives.push(format!("{} = ANY({argument})", operand.sql));
        }
        match alternatives.as_slice() {
            [] => sql.push_str("false"),
            [one] => sql.push_str(one),
            several => {
                let _ = write!(sql, "({})", several.join(" OR "));
            }
        }
    }

    /// Where the field's own operators cannot use an index under row-level security, adds what can
    /// and what follows from the comparison: the comparison itself decides.
    fn narrow(
        &mut self,
        sql: &mut String,
        table: &Table,
        alias: &str,
        field: &FieldAt,
        op: Comparison,
        values: &[Value],
    ) {
        if let Some(custom) = &field.custom {
            let known = Known::Compared(op, values);
            let narrowed = custom::narrowed(self.statement, self.tables, alias, custom, known);
            sql.push_str(&narrowed);
            return;
        }
        if op == Comparison::Ne || field.member.is_some() {
            return;
        }
        let Some(column) = table.rounded(field.index) else {
            return;
        };
        let rounded: Option<Vec<f64>> = values
            .iter()
            .map(|value| value.as_ref().as_decimal().map(rounded))
            .collect();
        let Some(rounded) = rounded else { return };
        let own = format!("{alias}.{}", column.sql);
        let _ = match (op, rounded.as_slice()) {
            (Comparison::Lt | Comparison::Le, [one]) => {
                write!(sql, "{own} <= {} AND ", self.statement.argument(*one))
            }
            (Comparison::Gt | Comparison::Ge, [one]) => {
                write!(sql, "{own} >= {} AND ", self.statement.argument(*one))
            }
            (_, [one]) => write!(sql, "{own} = {} AND ", self.statement.argument(*one)),
            (_, many) => write!(sql, "{own} = ANY({}) AND ", self.statement.argument(many)),
        };
    }

    fn null(
        &mut self,
        sql: &mut String,
        table: &Table,
        alias: &str,
        field: &FieldAt,
        is_null: bool,
    ) {
        let not = if is_null { "" } else { "NOT " };
        if field.is_untyped() {
            let path = table.column(field.index).and_then(|column| {
                let own = format!("{alias}.{}", column.sql);
                self.member_sql(&own, column, field.member.as_deref()?)
            });
            match path {
                Some(path) => {
                    let _ = write!(
                        sql,
                        "coalesce(jsonb_typeof({path}), 'null') {not}IN ('null')"
                    );
                }
                None => sql.push_str(truth(is_null)),
            }
            return;
        }
        match self.source(table, field) {
            Some(source) => {
                let _ = write!(sql, "{} IS {not}NULL", source.sql(alias));
            }
            None => sql.push_str(truth(is_null)),
        }
    }

    fn text(
        &mut self,
        sql: &mut String,
        table: &Table,
        alias: &str,
        field: &FieldAt,
        op: TextMatch,
        folded: &str,
    ) {
        let Some(column) = table.column(field.index) else {
            sql.push_str("false");
            return;
        };
        // No stored text has a NUL.
        if folded.contains('\0') {
            sql.push_str("false");
            return;
        }
        let raw = format!("{alias}.{}", column.sql);
        let (own, is_column) = match (&field.member, column.kind) {
            (Some(_), _) if field.custom.is_some() => {
                let source = self.source(table, field);
                let Some(source) = source.filter(|source| source.kind() == StorageKind::Text)
                else {
                    sql.push_str("false");
                    return;
                };
                if let (TextMatch::StartsWith, Some(custom)) = (op, &field.custom) {
                    let known = Known::Begins(folded);
                    let narrowed =
                        custom::narrowed(self.statement, self.tables, alias, custom, known);
                    sql.push_str(&narrowed);
                }
                (self.fold_case(&source.sql(alias)), false)
            }
            (Some(member), StorageKind::Json) => match self.member_text(&raw, column, member) {
                Some(text) => (self.fold_case(&text), false),
                None => {
                    sql.push_str("false");
                    return;
                }
            },
            (None, StorageKind::Text) => match table.folded(field.index) {
                Some(column) => (format!("{alias}.{}", column.sql), true),
                None => (self.fold_case(&raw), false),
            },
            _ => {
                sql.push_str("false");
                return;
            }
        };
        match (op, behind_prefix(folded)) {
            // The whole range between the two, which an index can find.
            (TextMatch::StartsWith, Some(behind)) if is_column => {
                let from = self.statement.argument(folded);
                let to = self.statement.argument(behind);
                let _ = write!(sql, "({own} >= {from} AND {own} < {to})");
            }
            (TextMatch::StartsWith, _) => {
                let argument = self.statement.argument(folded);
                let _ = write!(sql, "starts_with({own}, {argument})");
            }
            (TextMatch::Contains, _) => {
                let argument = self.statement.argument(folded);
                let _ = write!(sql, "strpos({own}, {argument}) > 0");
            }
        }
    }

    fn list(
        &mut self,
        sql: &mut String,
        table: &Table,
        alias: &str,
        field: &FieldAt,
        op: ListMatch,
        values: &[String],
    ) {
        let source = self.source(table, field);
        let Some(source) = source.filter(|source| source.kind() == StorageKind::List) else {
            sql.push_str("false");
            return;
        };
        // No stored entry has a NUL.
        let possible: Vec<&str> = values
            .iter()
            .map(String::as_str)
            .filter(|value| !value.contains('\0'))
            .collect();
        let operator = match op {
            ListMatch::Any => "&&",
            ListMatch::All if possible.len() < values.len() => {
                sql.push_str("false");
                return;
            }
            ListMatch::All => "@>",
        };
        let argument = self.statement.argument(possible);
        let _ = write!(sql, "{} {operator} {argument}", source.sql(alias));
    }

    fn has(
        &mut self,
        sql: &mut String,
        table: &Table,
        alias: &str,
        field: &FieldAt,
        object: &ObjectRef,
        condition: &Condition,
    ) {
        let reference = self.source(table, field);
        let Some(reference) = reference.filter(|source| source.kind() == StorageKind::Uuid) else {
            sql.push_str("false");
            return;
        };
        self.depth += 1;
        let target = self.tables.of(object);
        let related = format!("t{}", self.depth);
        let own = self.statement.own(&target, &related);
        let ends = (alias, related.as_str());
        let Joined { from, test } =
            custom::joined(self.statement, self.tables, field.custom.as_ref(), ends);
        let _ = write!(
            sql,
            "EXISTS (SELECT 1 FROM {from}{} AS {related} WHERE {test}{own} \
             AND {related}.\"id\" = {} AND {related}.\"deleted_at\" IS NULL AND ",
            target.sql,
            reference.sql(alias),
        );
        self.condition(sql, &target, &related, condition);
        sql.push(')');
        self.depth -= 1;
    }

    /// Some row that leads here by `field`. The planner looks into the index of the reference for
    /// each row, or gathers what leads to any of them, whichever is less.
    fn any(
        &mut self,
        sql: &mut String,
        alias: &str,
        object: &ObjectRef,
        field: &FieldAt,
        condition: &Condition,
    ) {
        let from = self.tables.of(object);
        let related = format!("t{}", self.depth + 1);
        let Some(column) = from.column(field.index) else {
            sql.push_str("false");
            return;
        };
        let raw = format!("{related}.{}", column.sql);
        let reference = match (&field.member, column.kind) {
            (None, StorageKind::Uuid) => Some(format!("{raw} = {alias}.\"id\"")),
            (Some(member), _) => {
                let text = self.member_text(&raw, column, member);
                text.map(|text| format!("({text}) = {alias}.\"id\"::text"))
            }
            _ => None,
        };
        let Some(reference) = reference else {
            sql.push_str("false");
            return;
        };
        self.depth += 1;
        let own = self.statement.own(&from, &related);
        let ends = (related.as_str(), alias);
        let Joined { from: rows, test } =
            custom::joined(self.statement, self.tables, field.custom.as_ref(), ends);
        let _ = write!(
            sql,
            "EXISTS (SELECT 1 FROM {rows}{} AS {related} WHERE {test}{own} AND {reference} \
             AND {related}.\"deleted_at\" IS NULL AND ",
            from.sql,
        );
        self.condition(sql, &from, &related, condition);
        sql.push(')');
        self.depth -= 1;
    }

    /// The ids of a part of a tree come from a walk along the index of parents, or of ids. `UNION`
    /// takes each id once, so that a circle ends. `OFFSET 0` keeps each step a look into the index: as a
    /// join, a table without statistics was read for each level. A null on the left, and nothing else, makes the
    /// condition null: no id is.
    fn in_tree(
        &mut self,
        sql: &mut String,
        table: &Table,
        alias: &str,
        field: &FieldAt,
        tree: &Tree,
    ) {
        let is_id = |source: &Source<'_>| source.kind() == StorageKind::Uuid;
        let target = self.tables.of(&tree.object);
        let own = self.source(table, field).filter(is_id);
        let parent = Source::at(self.statement, &target, &tree.object, tree.parent).filter(is_id);
        let (Some(own), Some(parent)) = (own, parent) else {
            sql.push_str("false");
            return;
        };
        self.depth += 1;
        let depth = self.depth;
        self.depth += 1;
        let (walk, first, next) = (
            format!("w{depth}"),
            format!("t{depth}"),
            format!("t{}", self.depth),
        );
        let of = self.statement.argument(tree.of);
        let first_is_own = self.statement.own(&target, &first);
        let next_is_own = self.statement.own(&target, &next);
        // The id of the next step stands in each row of the walk, or leads from it.
        let id = |alias: &str| format!("{alias}.\"id\"");
        let parent = |alias: &str| parent.sql(alias);
        let (first_carried, next_carried, joined) = match tree.part {
            TreePart::Within => (id(&first), id(&next), parent(&next)),
            TreePart::PathTo => (parent(&first), parent(&next), id(&next)),
        };
        let _ = write!(
            sql,
            "{} IN (WITH RECURSIVE {walk}(id, leads_to) AS (\
             SELECT {first}.\"id\", {first_carried} FROM {target} AS {first} \
             WHERE {first_is_own} AND {first}.\"id\" = {of} AND {first}.\"deleted_at\" IS NULL \
             UNION SELECT n.id, n.leads_to FROM {walk} CROSS JOIN LATERAL (\
             SELECT {next}.\"id\", {next_carried} AS leads_to FROM {target} AS {next} \
             WHERE {next_is_own} AND {joined} = {walk}.leads_to \
             AND {next}.\"deleted_at\" IS NULL OFFSET 0) AS n) SELECT {walk}.id FROM {walk})",
            own.sql(alias),
            target = target.sql,
        );
        self.depth -= 2;
    }

    /// Where the values of a field stand; `None` for a member that may hold anything.
    fn source<'t>(&mut self, table: &'t Table, field: &FieldAt) -> Option<Source<'t>> {
        match (&field.member, &field.custom) {
            (None, _) => table.column(field.index).map(Source::Column),
            (Some(key), Some(custom)) => {
                Source::custom(self.statement, table, field.index, key, custom.kind)
            }
            (Some(_), None) => None,
        }
    }

    /// The expression that a field's value is compared in.
    fn operand(
        &mut self,
        table: &Table,
        alias: &str,
        field: &FieldAt,
        value: &Value,
        is_ordered: bool,
    ) -> Option<Operand> {
        if let (Some(member), None) = (&field.member, &field.custom) {
            return self.member(table, alias, field.index, member, value, is_ordered);
        }
        let source = self.source(table, field)?;
        let kind = source.kind();
        let raw = source.sql(alias);
        let folds = field.ignore_case
            && !is_ordered
            && kind == StorageKind::Text
            && matches!(value, Value::Text(_));
        let sql = match table.folded(field.index) {
            Some(folded) if folds => format!("{alias}.{}", folded.sql),
            None if folds => self.fold_case(&raw),
            _ => raw,
        };
        Some(Operand { sql, kind })
    }

    /// The expression that a member of a document is compared in: null unless the member is of the
    /// kind of `value`. `None` where it can't be.
    fn member(
        &mut self,
        table: &Table,
        alias: &str,
        index: usize,
        member: &str,
        value: &Value,
        is_ordered: bool,
    ) -> Option<Operand> {
        let column = table.column(index)?;
        let own = format!("{alias}.{}", column.sql);
        let (sql, kind) = match value {
            Value::Text(_) => {
                let text = self.member_text(&own, column, member)?;
                (format!("({text}) COLLATE \"C\""), StorageKind::Text)
            }
            Value::Boolean(_) => {
                let path = self.member_sql(&own, column, member)?;
                (
                    format!(
                        "(CASE WHEN jsonb_typeof({path}) = 'boolean' THEN ({path})::boolean END)"
                    ),
                    StorageKind::Boolean,
                )
            }
            Value::Integer(_) | Value::Decimal(_) => {
                let path = self.member_sql(&own, column, member)?;
                let number = format!("({path})::numeric");
                // A number that is no `Decimal` has no order. It equals none either, untold.
                let number = if is_ordered {
                    format!(
                        "CASE WHEN abs({number}) <= {} AND scale(trim_scale({number})) <= {} \
                         THEN {number} END",
                        Decimal::MAX,
                        Decimal::MAX_SCALE,
                    )
                } else {
                    number
                };
                (
                    format!("(CASE WHEN jsonb_typeof({path}) = 'number' THEN {number} END)"),
                    StorageKind::Decimal,
                )
            }
            Value::Json(Json::Array(_) | Json::Object(_)) => {
                let path = self.member_sql(&own, column, member)?;
                (
                    format!(
                        "(CASE WHEN jsonb_typeof({path}) IN ('array', 'object') THEN {path} END)"
                    ),
                    StorageKind::Json,
                )
            }
            _ => return None,
        };
        Some(Operand { sql, kind })
    }

    /// A member of a document as SQL; `None` where no document can have it.
    fn member_sql(&mut self, own: &str, column: &Column, member: &str) -> Option<String> {
        if column.kind != StorageKind::Json || member.contains('\0') {
            return None;
        }
        let name = self.statement.argument(member);
        Some(format!("({own} -> {name}::text)"))
    }

    /// A member of a document as SQL where it is a text, else null.
    fn member_text(&mut self, own: &str, column: &Column, member: &str) -> Option<String> {
        let path = self.member_sql(own, column, member)?;
        Some(format!(
            "CASE WHEN jsonb_typeof({path}) = 'string' THEN {path} #>> '{{}}' END"
        ))
    }

    /// A text with its case folded, by the function of our schema.
    fn fold_case(&self, text: &str) -> String {
        format!("{}.fold_case({text})", quoted(self.tables.schema()))
    }
}

const fn is_ordered(op: Comparison) -> bool {
    !matches!(op, Comparison::Eq | Comparison::Ne)
}

const fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

#[cfg(test)]
mod tests;

//! [`Plan`]: where to look for the rows that answer a query, and in which order.
//!
//! An index keeps the rows of a table sorted by its fields and then by id. If the condition fixes
//! the values of the first fields, the rows in question stand side by side; what follows them sorts
//! these rows:
//!
//! ```text
//! index [owner_id, created_at]          owner = 7, newest first, behind (12:02, id e):
//!
//!   5 │ 12:04 │ a
//!   7 │ 12:00 │ c      ▲  third
//!   7 │ 12:01 │ b      │  second
//!   7 │ 12:02 │ d      │  first of the page
//!   7 │ 12:02 │ e      ┴  the last one of the page before: the range ends here
//!   7 │ 12:03 │ f
//!   9 │ 12:00 │ g
//! ```
//!
//! A plan that finds the rows in the order of the query stops as soon as it has enough of them; one
//! that does not gathers all candidates and sorts them. Which of the two visits fewer rows is seen
//! by counting: with N rows in the table, K candidates and a limit of L, the first visits about
//! L·N/K rows and the second K, so the second is better up to K = √(L·N).
//!
//! A plan may only leave out rows that the condition or the position leaves out too. Each candidate
//! is asked again, save what the keys have answered: the values of the fixed fields, and the
//! position where it is a whole key.

use std::cmp::Ordering;
use std::ops::{Bound, ControlFlow};

use crm_core::query::{Condition, SortKey};
use crm_core::schema::{Row, UniqueKey, Value, ValueRef, system};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::facts::{Facts, fixed_by};
use crate::index::IndexKind;
use crate::key::Key;
use crate::table::{Entry, KeyRange, State, Table};
use crate::trees::Trees;

/// What is asked of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'q> {
    pub(crate) condition: &'q Condition,
    /// What its conditions over trees come down to.
    pub(crate) trees: &'q Trees<'q>,
    /// The order, ending with the id; empty where the order does not matter.
    pub(crate) sort: &'q [SortKey],
    /// The sort values of the row before the first one.
    pub(crate) after: Option<&'q [Value]>,
    /// The most rows.
    pub(crate) limit: usize,
}

/// Where to look for rows, and in which order.
#[derive(Debug)]
pub(crate) struct Plan<'q> {
    source: Source,
    order: Order,
    /// The fields whose values are fixed, each with the values that it may have.
    fixed: SmallVec<[(usize, &'q [Value]); 4]>,
    /// Whether all rows stand behind the wanted position.
    is_behind: bool,
}

#[derive(Debug)]
enum Source {
    /// Rows by their ids.
    Ids(SmallVec<[Uuid; 4]>),
    /// All rows whose ids lie between two.
    Rows(Bound<u128>, Bound<u128>),
    /// Parts of an index; no row is in two of them.
    Index {
        index: usize,
        ranges: SmallVec<[KeyRange; 1]>,
    },
}

/// In which order the rows come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// In the order that is wanted.
    Wanted { backwards: bool },
    /// In any order.
    Any,
}

/// How well an index fits; a greater one leaves fewer candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    /// How many of its first fields are fixed.
    fixed: usize,
    /// Whether each of them has one value.
    single: bool,
    /// Whether the next field is limited.
    limited: bool,
}

impl<'q> Plan<'q> {
    fn new(source: Source, order: Order) -> Self {
        Self {
            source,
            order,
            fixed: SmallVec::new(),
            is_behind: false,
        }
    }

    /// Only the row with this id.
    pub(crate) fn only(id: Uuid) -> Self {
        Self::new(Source::Ids(SmallVec::from_slice(&[id])), Order::Any)
    }

    /// The best plan for a table.
    pub(crate) fn of(table: &Table, wanted: &Wanted<'q>) -> Self {
        let mut facts = Facts::of(wanted.condition);
        for set in wanted.trees.sets() {
            facts.add(set);
        }
        let plan = Planner {
            table,
            wanted,
            facts,
        }
        .plan();
        Self {
            is_behind: plan.is_behind || wanted.after.is_none(),
            ..plan
        }
    }

    /// Whether the rows come in the wanted order.
    pub(crate) fn is_ordered(&self) -> bool {
        self.order != Order::Any
    }

    /// Whether all rows stand behind the wanted position.
    pub(crate) const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Whether all rows fulfil this part of the wanted condition.
    pub(crate) fn implies(&self, part: &Condition) -> bool {
        fixed_by(part).is_some_and(|(field, values)| {
            let same = |own: &(usize, &[Value])| own.0 == field && std::ptr::eq(own.1, values);
            self.fixed.iter().any(same)
        })
    }

    /// Shows the candidates to `visit`, one after the other, until it breaks.
    pub(crate) fn visit<'t>(
        &self,
        table: &'t Table,
        visit: &mut impl FnMut(&'t Row, State) -> ControlFlow<()>,
    ) {
        let backwards = self.order == Order::Wanted { backwards: true };
        // Broken off or not, the visitor knows.
        let _ = match &self.source {
            Source::Ids(ids) => ids
                .iter()
                .filter_map(|id| table.row(*id))
                .try_for_each(|row| visit(row, State::of(row))),
            Source::Rows(from, to) => {
                let mut rows = table.rows().range((*from, *to));
                let mut visit = |(_, row): (_, &'t Row)| visit(row, State::of(row));
                if backwards {
                    rows.rev().try_for_each(&mut visit)
                } else {
                    rows.try_for_each(&mut visit)
                }
            }
            Source::Index { index, ranges } => {
                table.map(*index).map_or(ControlFlow::Continue(()), |map| {
                    let mut visit = |entry: &'t Entry| visit(&entry.row, entry.state);
                    ranges.iter().try_for_each(|range| {
                        let mut entries = range.of_map(map);
                        if backwards {
                            entries.rev().try_for_each(&mut visit)
                        } else {
                            entries.try_for_each(&mut visit)
                        }
                    })
                })
            }
        };
    }
}

/// The sort keys that matter, and the facts, for the choice of a plan.
struct Planner<'a, 'q> {
    table: &'a Table,
    wanted: &'a Wanted<'q>,
    facts: Facts<'q>,
}

impl<'q> Planner<'_, 'q> {
    fn plan(&self) -> Plan<'q> {
        if let Some(values) = self.facts.values(system::ID) {
            let mut ids: SmallVec<[Uuid; 4]> = values
                .iter()
                .filter_map(|value| value.as_ref().as_uuid())
                .collect();
            ids.sort_unstable();
            ids.dedup();
            return Plan::new(Source::Ids(ids), Order::Any);
        }
        // The best index of those that sort the rows, and the best of all.
        let mut sorting = self
            .direction(&[])
            .map(|backwards| (Fit::default(), None, backwards));
        let mut narrowest = (Fit::default(), None);
        for (index, kind) in self.table.layout().indexes().iter().enumerate() {
            let fit = match kind {
                IndexKind::Unique(unique) if self.fixes(unique) => {
                    return Plan::new(self.unique(index, unique), Order::Any);
                }
                IndexKind::Unique(_) => continue,
                IndexKind::Fields(fields) => self.fit(fields),
            };
            if fit > narrowest.0 {
                narrowest = (fit, Some(index));
            }
            let rest = kind.fields().get(fit.fixed..).unwrap_or_default();
            if fit.is_single()
                && sorting.is_none_or(|(own, ..)| fit > own)
                && let Some(backwards) = self.direction(rest)
            {
                sorting = Some((fit, Some(index), backwards));
            }
        }
        let narrow = || match narrowest.1 {
            Some(index) => self.ranges(index, narrowest.0, Order::Any),
            None => self.all(Order::Any),
        };
        let Some((fit, index, backwards)) = sorting else {
            return narrow();
        };
        if narrowest.0 > fit {
            let plan = narrow();
            if self.is_worth(&plan) {
                return plan;
            }
        }
        let order = Order::Wanted { backwards };
        match index {
            Some(index) => self.ranges(index, fit, order),
            None => self.all(order),
        }
    }

    /// Whether gathering all candidates of a plan is less work than walking through the table in
    /// the wanted order.
    fn is_worth(&self, plan: &Plan<'q>) -> bool {
        let rows = self.table.rows().len();
        let most = self.wanted.limit.saturating_mul(rows).isqrt();
        if most >= rows {
            return true;
        }
        let mut count = 0;
        plan.visit(self.table, &mut |_, _| {
            count += 1;
            if count > most {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        count <= most
    }

    fn fit(&self, fields: &[usize]) -> Fit {
        let mut fit = Fit {
            fixed: 0,
            single: true,
            limited: false,
        };
        for field in fields {
            match self.facts.values(*field) {
                Some(values) if values.len() == 1 => {}
                // Several values in one field, or else the ranges would multiply.
                Some(_) if fit.single => fit.single = false,
                _ => break,
            }
            fit.fixed += 1;
        }
        fit.limited = fields
            .get(fit.fixed)
            .is_some_and(|field| self.facts.is_limited(*field));
        // Nothing fixed is no merit.
        fit.single &= fit.fixed > 0;
        fit
    }

    /// Whether rows sorted by `rest` and the id are in the wanted order, forwards (`false`) or
    /// backwards (`true`). Fields that are the same in all rows do not count.
    fn direction(&self, rest: &[usize]) -> Option<bool> {
        let is_open = |field: &usize| self.facts.constant(*field).is_none();
        let mut own = rest.iter().copied().filter(is_open).chain([system::ID]);
        let mut direction = None;
        for key in self.wanted.sort.iter().filter(|key| is_open(&key.index)) {
            if own.next() != Some(key.index)
                || *direction.get_or_insert(key.descending) != key.descending
            {
                return None;
            }
        }
        Some(direction.unwrap_or(false))
    }

    /// Whether the condition fixes all fields of a unique key, and only rows that count in it
    /// fulfil the condition.
    fn fixes(&self, unique: &UniqueKey) -> bool {
        let is_null = |field| self.facts.constant(field).is_some_and(Value::is_null);
        let is_true = |field| self.facts.constant(field) == Some(&Value::Boolean(true));
        let mut single = true;
        (!unique.live || is_null(system::DELETED_AT))
            && unique.only_if.is_none_or(is_true)
            && unique
                .fields
                .iter()
                .all(|field| match self.values_in(unique, *field) {
                    Some([value]) => !value.is_null(),
                    Some(_) => std::mem::take(&mut single),
                    None => false,
                })
    }

    fn values_in(&self, unique: &UniqueKey, field: usize) -> Option<&'q [Value]> {
        if unique.ignore_case {
            self.facts.folded_values(field)
        } else {
            self.facts.values(field)
        }
    }

    fn unique(&self, index: usize, unique: &UniqueKey) -> Source {
        let mut prefixes = Prefixes::default();
        for field in &unique.fields {
            prefixes.extend(
                self.values_in(unique, *field).unwrap_or_default(),
                |key, value| match value {
                    ValueRef::Text(text) if unique.ignore_case => key.push_folded(text),
                    value => key.push_exact(value),
                },
            );
        }
        Source::Index {
            index,
            ranges: prefixes.into_iter().map(KeyRange::of).collect(),
        }
    }

    /// The parts of an index in which the candidates are.
    fn ranges(&self, index: usize, fit: Fit, order: Order) -> Plan<'q> {
        let kind = self.table.layout().indexes().get(index);
        let fields = kind.map(IndexKind::fields).unwrap_or_default();
        let (fixed, rest) = fields.split_at_checked(fit.fixed).unwrap_or((fields, &[]));
        let fixed: SmallVec<[_; 4]> = fixed
            .iter()
            .filter_map(|field| Some((*field, self.facts.values(*field)?)))
            .collect();
        let mut prefixes = Prefixes::default();
        for (_, values) in &fixed {
            prefixes.extend(values, Key::push);
        }
        let mut is_behind = false;
        let mut ranges = SmallVec::new();
        for prefix in prefixes {
            let position = match order {
                Order::Wanted { backwards } => self
                    .wanted
                    .after
                    .map(|after| (self.position(&prefix, rest, after), backwards)),
                Order::Any => None,
            };
            let mut range = self.limited(prefix, rest);
            if let Some(((key, is_whole), backwards)) = position {
                is_behind = is_whole;
                match (backwards, is_whole) {
                    (false, false) => range.raise(key),
                    // The key itself is that of the row at the position.
                    (false, true) => range.raise(key.successor().unwrap_or_default()),
                    (true, false) => range.lower(key.successor()),
                    (true, true) => range.lower(Some(key)),
                }
            }
            if !range.is_empty() {
                ranges.push(range);
            }
        }
        Plan {
            fixed,
            is_behind,
            ..Plan::new(Source::Index { index, ranges }, order)
        }
    }

    /// The keys that begin with `prefix` and whose next field is within its limits.
    fn limited(&self, prefix: Key, rest: &[usize]) -> KeyRange {
        let mut range = KeyRange::of(prefix);
        let Some(field) = rest.first() else {
            return range;
        };
        let prefix = range.from.clone();
        let with = |value: &Value| {
            let mut key = prefix.clone();
            key.push(&value.as_ref());
            key
        };
        for limit in self.facts.lower(*field) {
            let key = with(limit.value);
            // The successor is there, since the key is not empty and its first byte is a tag.
            range.raise(if limit.strict {
                key.successor().unwrap_or_default()
            } else {
                key
            });
        }
        for limit in self.facts.upper(*field) {
            let key = with(limit.value);
            range.lower(if limit.strict {
                Some(key)
            } else {
                key.successor()
            });
        }
        if self.facts.is_present(*field) {
            let mut end = prefix.clone();
            end.push_null();
            range.lower(Some(end));
        }
        range
    }

    /// As much of the key of a row at the position as the sort values tell, and whether it is all
    /// of it. No row behind the position has a key on the wrong side of it that does not begin with
    /// it.
    fn position(&self, prefix: &Key, rest: &[usize], after: &[Value]) -> (Key, bool) {
        let mut key = prefix.clone();
        let mut rest = rest.iter();
        for (sort, value) in self.wanted.sort.iter().zip(after) {
            if let Some(constant) = self.facts.constant(sort.index) {
                // Where the position is not among these rows, all or none of them are behind it.
                if constant.as_ref().sort_order(&value.as_ref()) != Ordering::Equal {
                    return (key, false);
                }
                continue;
            }
            if sort.index == system::ID {
                for field in rest {
                    match self.facts.constant(*field) {
                        Some(constant) => key.push(&constant.as_ref()),
                        None => return (key, false),
                    }
                }
                let id = value.as_ref().as_uuid();
                if let Some(id) = id {
                    key.push_id(id);
                }
                return (key, id.is_some());
            }
            for field in rest.by_ref() {
                match self.facts.constant(*field) {
                    Some(constant) => key.push(&constant.as_ref()),
                    None => {
                        key.push(&value.as_ref());
                        break;
                    }
                }
            }
        }
        (key, false)
    }

    /// All rows, or those between two ids.
    fn all(&self, order: Order) -> Plan<'q> {
        let mut from = Bound::Unbounded;
        let mut to = Bound::Unbounded;
        let id = |value: &Value| value.as_ref().as_uuid().map(|id| id.as_u128());
        let mut is_behind = false;
        if let (Order::Wanted { backwards }, Some(after)) = (order, self.wanted.after)
            && let Some(position) = self.id_position(after)
        {
            is_behind = true;
            if backwards {
                to = Bound::Excluded(position);
            } else {
                from = Bound::Excluded(position);
            }
        }
        // One limit is enough here, since each candidate is asked again.
        if let (Bound::Unbounded, Some(limit)) = (from, self.facts.lower(system::ID).next()) {
            from = id(limit.value).map_or(from, Bound::Included);
        }
        if let (Bound::Unbounded, Some(limit)) = (to, self.facts.upper(system::ID).next()) {
            to = id(limit.value).map_or(to, Bound::Included);
        }
        let source = match (from, to) {
            (
                Bound::Included(from) | Bound::Excluded(from),
                Bound::Included(to) | Bound::Excluded(to),
            ) if from > to => Source::Ids(SmallVec::new()),
            _ => Source::Rows(from, to),
        };
        Plan {
            is_behind,
            ..Plan::new(source, order)
        }
    }

    /// The id at the position, where it alone tells which rows are behind.
    fn id_position(&self, after: &[Value]) -> Option<u128> {
        for (sort, value) in self.wanted.sort.iter().zip(after) {
            let value = value.as_ref();
            if sort.index == system::ID {
                return value.as_uuid().map(|id| id.as_u128());
            }
            let own = self.facts.constant(sort.index)?;
            if own.as_ref().sort_order(&value) != Ordering::Equal {
                return None;
            }
        }
        None
    }
}

impl Fit {
    /// Whether the rows stand side by side.
    const fn is_single(self) -> bool {
        self.single || self.fixed == 0
    }
}

/// The beginnings of the keys to look for: one for each combination of values.
struct Prefixes(SmallVec<[Key; 1]>);

impl Default for Prefixes {
    fn default() -> Self {
        Self(SmallVec::from_elem(Key::default(), 1))
    }
}

impl Prefixes {
    fn extend(&mut self, values: &[Value], push: impl Fn(&mut Key, &ValueRef<'_>)) {
        if let [value] = values {
            for key in &mut self.0 {
                push(key, &value.as_ref());
            }
            return;
        }
        let combine = |(key, value): (&Key, &Value)| {
            let mut key = key.clone();
            push(&mut key, &value.as_ref());
            key
        };
        let all = self
            .0
            .iter()
            .flat_map(|key| values.iter().map(move |value| (key, value)));
        self.0 = all.map(combine).collect();
        self.0.sort_unstable();
        self.0.dedup();
    }
}

impl IntoIterator for Prefixes {
    type Item = Key;
    type IntoIter = smallvec::IntoIter<[Key; 1]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

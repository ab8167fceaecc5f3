//! What the value of a field is worth, looked up instead of asked rule by rule.
//!
//! All rules that look at one field are laid into one table when a rule set is compiled. Its cells are
//! the values that matter, each with the points of all rules that are met there added up:
//!
//! ```text
//! employee_count > 50 : +5         ..50    50   50..200    200   200..     no value
//! employee_count > 200 : +10    ┌────────┬────┬─────────┬──────┬────────┬──────────┐
//! employee_count = 200 : -3     │        │    │   +5    │  +2  │  +15   │          │
//!                               └────────┴────┴─────────┴──────┴────────┴──────────┘
//! ```
//!
//! So a lead costs one look-up for each field, however many rules look at it: a binary search among
//! the numbers, a hash of a text, one pass over a text that is searched. The few conditions that fit
//! into no cells, such as the order of texts, stay conditions.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::Hash;

use aho_corasick::AhoCorasick;
use rust_decimal::Decimal;
// The keys are those that a tenant's rules name: nobody floods them.
use rustc_hash::FxHashMap;
use serde_json::Value as Json;
use uuid::Uuid;

use super::cells::{Cell, Line, Mark, Slot, Sums, Weighted};
use super::condition::has_entries;
use crate::query::{Comparison, Condition, FieldAt, ListMatch, TextMatch, fold_case};
use crate::schema::{AnyRecord, StorageKind, Value, ValueRef, custom_value};

/// Cells over values that are only equal or not.
#[derive(Clone, Debug)]
struct Lookup<K> {
    named: FxHashMap<K, Cell>,
    other: Cell,
}

/// Patterns that are searched in texts, all in one pass.
#[derive(Clone, Debug)]
struct Search {
    patterns: Patterns,
    /// What each pattern changes where it is found.
    found: Vec<Cell>,
}

/// Folded patterns.
#[derive(Clone, Debug)]
enum Patterns {
    Few(FewPatterns),
    Many(AhoCorasick),
}

impl Search {
    fn add(&self, text: &str, sums: &mut Sums) {
        // The patterns are folded and found in any ASCII case, so an ASCII text is searched as it is.
        let folded: Cow<'_, str> = if text.is_ascii() {
            Cow::Borrowed(text)
        } else {
            Cow::Owned(fold_case(text))
        };
        let mut seen = Seen::default();
        let mut note = |place| {
            if seen.is_new(place)
                && let Some(cell) = self.found.get(place)
            {
                cell.add_to(sums);
            }
        };
        match &self.patterns {
            Patterns::Few(patterns) => patterns.find(folded.as_bytes(), note),
            Patterns::Many(patterns) => {
                for one in patterns.find_overlapping_iter(&*folded) {
                    note(one.pattern().as_usize());
                }
            }
        }
    }
}

/// So few patterns that comparing all of them where one may begin is faster than an automaton.
#[derive(Clone, Debug)]
struct FewPatterns {
    patterns: Box<[Box<[u8]>]>,
    /// Whether a pattern begins with a byte, in either ASCII case.
    begins: Box<[bool; 256]>,
}

impl FewPatterns {
    /// The most patterns.
    const MOST: usize = 8;

    fn new(patterns: &[&str]) -> Self {
        let mut begins = Box::new([false; 256]);
        for first in patterns.iter().filter_map(|text| text.as_bytes().first()) {
            for byte in [first.to_ascii_lowercase(), first.to_ascii_uppercase()] {
                if let Some(begins) = begins.get_mut(usize::from(byte)) {
                    *begins = true;
                }
            }
        }
        Self {
            patterns: patterns.iter().map(|text| text.as_bytes().into()).collect(),
            begins,
        }
    }

    /// Tells the places of the patterns that are in a text, some of them more than once.
    #[inline]
    fn find(&self, text: &[u8], mut note: impl FnMut(usize)) {
        for (at, byte) in text.iter().enumerate() {
            if !self
                .begins
                .get(usize::from(*byte))
                .is_some_and(|begins| *begins)
            {
                continue;
            }
            let rest = text.get(at..).unwrap_or_default();
            for (place, pattern) in self.patterns.iter().enumerate() {
                let start = rest.get(..pattern.len());
                if start.is_some_and(|start| start.eq_ignore_ascii_case(pattern)) {
                    note(place);
                }
            }
        }
    }
}

/// The places of patterns that were found: bits for the first 64, as most fields have fewer.
#[derive(Default)]
struct Seen {
    first: u64,
    others: Vec<usize>,
}

impl Seen {
    #[inline]
    fn is_new(&mut self, place: usize) -> bool {
        let place_of_bit = u32::try_from(place).ok();
        if let Some(bit) = place_of_bit.and_then(|place| 1_u64.checked_shl(place)) {
            let is_new = self.first & bit == 0;
            self.first |= bit;
            return is_new;
        }
        let is_new = !self.others.contains(&place);
        if is_new {
            self.others.push(place);
        }
        is_new
    }
}

/// One condition as cells understand it.
#[derive(Clone, Debug)]
enum Shape {
    /// The value is one of these, or none of them.
    Among { values: Vec<Value>, negated: bool },
    /// The value is on one side of a number.
    Side(Comparison, Number),
    /// The value is between two numbers, both included.
    Between(Number, Number),
    /// There is no value, or there is one.
    Null(bool),
    /// The text contains a folded text, or does not.
    Contains { folded: String, negated: bool },
}

/// A number, moment or day that a rule names.
#[derive(Clone, Copy, Debug)]
enum Number {
    Whole(i64),
    Exact(Decimal),
}

impl Number {
    fn of(value: &ValueRef<'_>) -> Option<Self> {
        Some(match value {
            ValueRef::Integer(number) => Self::Whole(*number),
            ValueRef::Decimal(number) => Self::Exact(*number),
            ValueRef::Date(day) => {
                Self::Whole(day.signed_duration_since(chrono::NaiveDate::MIN).num_days())
            }
            ValueRef::Timestamp(at) => Self::Whole(at.timestamp_micros()),
            _ => return None,
        })
    }

    fn whole(self) -> Option<i64> {
        match self {
            Self::Whole(number) => Some(number),
            Self::Exact(_) => None,
        }
    }

    fn exact(self) -> Decimal {
        match self {
            Self::Whole(number) => number.into(),
            Self::Exact(number) => number,
        }
    }
}

/// What a cell stands for, where a condition is asked for its points.
enum Probe<'a> {
    /// No value.
    Null,
    /// A text, or any that no rule names.
    Text(Option<&'a str>),
    /// An id, or any that no rule names.
    Id(Option<Uuid>),
    Truth(bool),
    Whole(&'a Mark<'a, i64>),
    Exact(&'a Mark<'a, Decimal>),
    /// A value in a JSON field that no rule can name, such as a list.
    Strange,
}

impl Probe<'_> {
    fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text(Some(text)), Value::Text(other)) => *text == other,
            (Self::Id(Some(id)), Value::Uuid(other)) => id == other,
            (Self::Truth(truth), Value::Boolean(other)) => truth == other,
            _ => Number::of(&value.as_ref())
                .and_then(|number| self.cmp(number))
                .is_some_and(std::cmp::Ordering::is_eq),
        }
    }

    fn cmp(&self, number: Number) -> Option<std::cmp::Ordering> {
        match self {
            Self::Whole(mark) => number.whole().map(|number| mark.cmp(&number)),
            Self::Exact(mark) => Some(mark.cmp(&number.exact())),
            _ => None,
        }
    }
}

impl Shape {
    /// The field and the shape of a condition; `None` where it fits into no cells.
    fn of(condition: &Condition) -> Option<(&FieldAt, Self)> {
        Some(match condition {
            Condition::Compare { field, op, value } => (field, Self::compare(*op, value)?),
            Condition::In { field, values } => {
                let values = values.clone();
                (
                    field,
                    Self::Among {
                        values,
                        negated: false,
                    },
                )
            }
            Condition::Null { field, is_null } => (field, Self::Null(*is_null)),
            Condition::Text {
                field,
                op: TextMatch::Contains,
                folded,
            } => {
                let folded = folded.clone();
                (
                    field,
                    Self::Contains {
                        folded,
                        negated: false,
                    },
                )
            }
            Condition::Not(inner) => match Self::of(inner)? {
                (field, Self::Among { values, negated }) => (
                    field,
                    Self::Among {
                        values,
                        negated: !negated,
                    },
                ),
                (field, Self::Contains { folded, negated }) => (
                    field,
                    Self::Contains {
                        folded,
                        negated: !negated,
                    },
                ),
                _ => return None,
            },
            Condition::And(both) => match both.as_slice() {
                [from, to] => match (Self::of(from)?, Self::of(to)?) {
                    (
                        (field, Self::Side(Comparison::Ge, from)),
                        (other, Self::Side(Comparison::Le, to)),
                    ) if field == other => (field, Self::Between(from, to)),
                    _ => return None,
                },
                _ => return None,
            },
            _ => return None,
        })
    }

    fn compare(op: Comparison, value: &Value) -> Option<Self> {
        Some(match op {
            Comparison::Eq | Comparison::Ne => Self::Among {
                values: vec![value.clone()],
                negated: op == Comparison::Ne,
            },
            side => Self::Side(side, Number::of(&value.as_ref())?),
        })
    }

    fn numbers(&self) -> Vec<Number> {
        match self {
            Self::Among { values, .. } => {
                let values = values.iter();
                values
                    .filter_map(|value| Number::of(&value.as_ref()))
                    .collect()
            }
            Self::Side(_, number) => vec![*number],
            Self::Between(from, to) => vec![*from, *to],
            Self::Null(_) | Self::Contains { .. } => Vec::new(),
        }
    }

    /// Whether the condition is met by what a cell stands for, texts that are searched apart: there
    /// it tells what holds where nothing is found.
    fn is_met(&self, probe: &Probe<'_>) -> bool {
        match self {
            Self::Among { values, negated } => {
                values.iter().any(|value| probe.is(value)) != *negated
            }
            Self::Side(op, number) => probe.cmp(*number).is_some_and(|order| match op {
                Comparison::Lt => order.is_lt(),
                Comparison::Le => order.is_le(),
                Comparison::Gt => order.is_gt(),
                Comparison::Ge => order.is_ge(),
                Comparison::Eq | Comparison::Ne => false,
            }),
            Self::Between(from, to) => {
                probe.cmp(*from).is_some_and(std::cmp::Ordering::is_ge)
                    && probe.cmp(*to).is_some_and(std::cmp::Ordering::is_le)
            }
            Self::Null(is_null) => matches!(probe, Probe::Null) == *is_null,
            Self::Contains { negated, .. } => *negated,
        }
    }
}

/// The cells of one field, or of one member of a JSON field.
#[derive(Clone, Debug)]
struct Table {
    ignore_case: bool,
    null: Cell,
    strange: Cell,
    truth: [Cell; 2],
    texts: Lookup<Box<str>>,
    ids: Lookup<Uuid>,
    /// Numbers of fields that hold whole numbers, moments or days.
    whole: Line<i64>,
    /// Numbers of fields that hold decimals, and all numbers in JSON.
    exact: Line<Decimal>,
    search: Option<Search>,
}

impl Table {
    /// Lays out rules; gives back nothing where a text cannot be searched.
    fn new(ignore_case: bool, rules: &[Weighted<Shape>]) -> Self {
        let cell = |probe: &Probe<'_>| {
            let met = rules.iter().filter(|(shape, ..)| shape.is_met(probe));
            Cell::of(met.map(|(_, slot, points)| (*slot, *points)))
        };
        let mut texts: FxHashMap<Box<str>, Cell> = FxHashMap::default();
        let mut ids: FxHashMap<Uuid, Cell> = FxHashMap::default();
        let mut named = rules.iter().flat_map(|(shape, ..)| match shape {
            Shape::Among { values, .. } => values.as_slice(),
            _ => &[],
        });
        named.by_ref().for_each(|value| match value {
            Value::Text(text) => {
                let text: &str = text;
                texts.insert(text.into(), cell(&Probe::Text(Some(text))));
            }
            Value::Uuid(id) => {
                ids.insert(*id, cell(&Probe::Id(Some(*id))));
            }
            _ => {}
        });
        let numbers: Vec<Number> = rules
            .iter()
            .flat_map(|(shape, ..)| shape.numbers())
            .collect();
        let whole = numbers.iter().filter_map(|number| number.whole()).collect();
        let exact = numbers.iter().map(|number| number.exact()).collect();
        Self {
            ignore_case,
            null: cell(&Probe::Null),
            strange: cell(&Probe::Strange),
            truth: [cell(&Probe::Truth(false)), cell(&Probe::Truth(true))],
            texts: Lookup {
                named: texts,
                other: cell(&Probe::Text(None)),
            },
            ids: Lookup {
                named: ids,
                other: cell(&Probe::Id(None)),
            },
            whole: Line::new(whole, |mark| cell(&Probe::Whole(mark))),
            exact: Line::new(exact, |mark| cell(&Probe::Exact(mark))),
            search: search(rules),
        }
    }

    fn add_text(&self, text: &str, sums: &mut Sums) {
        if !self.texts.named.is_empty() {
            let folded: Cow<'_, str> = if self.ignore_case {
                Cow::Owned(fold_case(text))
            } else {
                Cow::Borrowed(text)
            };
            self.texts.add(&*folded, sums);
        } else {
            self.texts.other.add_to(sums);
        }
        if let Some(search) = &self.search {
            search.add(text, sums);
        }
    }

    fn add(&self, value: &ValueRef<'_>, sums: &mut Sums) {
        let cell = match value {
            ValueRef::Null => Some(&self.null),
            ValueRef::Text(text) => return self.add_text(text, sums),
            ValueRef::Boolean(truth) => self.truth.get(usize::from(*truth)),
            ValueRef::Uuid(id) => return self.ids.add(id, sums),
            ValueRef::Decimal(number) => self.exact.at(*number),
            ValueRef::List(_) | ValueRef::Json(_) => Some(&self.strange),
            number => Number::of(number)
                .and_then(Number::whole)
                .and_then(|number| self.whole.at(number)),
        };
        if let Some(cell) = cell {
            cell.add_to(sums);
        }
    }

    fn add_json(&self, value: Option<&Json>, sums: &mut Sums) {
        match value {
            None => self.null.add_to(sums),
            Some(Json::String(text)) => self.add_text(text, sums),
            Some(Json::Number(number)) => {
                // Whether whole or not, numbers in JSON are compared as decimals.
                let value = match number.as_i64() {
                    Some(whole) => Value::Decimal(whole.into()),
                    None => Value::from_json(Json::Number(number.clone())),
                };
                self.add(&value.as_ref(), sums);
            }
            Some(Json::Null) => self.null.add_to(sums),
            Some(Json::Bool(truth)) => self.add(&ValueRef::Boolean(*truth), sums),
            Some(Json::Array(_) | Json::Object(_)) => self.strange.add_to(sums),
        }
    }
}

impl<K: Eq + Hash> Lookup<K> {
    #[inline]
    fn add<Q: Eq + Hash + ?Sized>(&self, key: &Q, sums: &mut Sums)
    where
        K: std::borrow::Borrow<Q>,
    {
        self.named.get(key).unwrap_or(&self.other).add_to(sums);
    }
}

/// The search for all texts that rules look for in a field.
fn search(rules: &[Weighted<Shape>]) -> Option<Search> {
    let mut patterns: Vec<&str> = Vec::new();
    let mut found: Vec<Vec<(Slot, i64)>> = Vec::new();
    for (shape, slot, points) in rules {
        let Shape::Contains { folded, negated } = shape else {
            continue;
        };
        // A rule that must not find its text has its points already, and loses them.
        let change = (*slot, if *negated { -points } else { *points });
        let place = patterns.iter().position(|pattern| pattern == folded);
        match place.and_then(|place| found.get_mut(place)) {
            Some(changes) => changes.push(change),
            None => {
                patterns.push(folded);
                found.push(vec![change]);
            }
        }
    }
    if patterns.is_empty() {
        return None;
    }
    let found = found
        .into_iter()
        .map(|changes| Cell::of(changes.into_iter()));
    Some(Search {
        found: found.collect(),
        patterns: if patterns.len() <= FewPatterns::MOST {
            Patterns::Few(FewPatterns::new(&patterns))
        } else {
            // Texts of rules are short: far below the size at which building fails.
            let automaton = AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .build(&patterns);
            Patterns::Many(automaton.ok()?)
        },
    })
}

/// The entries of a list.
#[derive(Clone, Debug, Default)]
struct Entries {
    /// What holds where no named entry is in the list.
    base: Cell,
    /// What each entry changes.
    named: FxHashMap<Box<str>, Cell>,
    empty: Cell,
    filled: Cell,
}

/// All rules that look at one field of leads.
#[derive(Clone, Debug, Default)]
pub(super) struct FieldTable {
    own: Option<Table>,
    members: Vec<Member>,
    entries: Option<Entries>,
}

/// The cells of one member of a document.
#[derive(Clone, Debug)]
struct Member {
    name: Box<str>,
    /// What it holds, where the tenant defined it: then its values are read as this kind.
    kind: Option<StorageKind>,
    table: Table,
}

impl Member {
    fn add(&self, document: &ValueRef<'_>, sums: &mut Sums) {
        let json = match document {
            ValueRef::Json(json) => json.get(&*self.name),
            _ => None,
        };
        match (json, self.kind) {
            (Some(json), Some(kind)) => {
                custom_value(json, kind, |value| self.table.add(&value, sums));
            }
            (json, _) => self.table.add_json(json, sums),
        }
    }
}

impl FieldTable {
    #[inline]
    pub(super) fn add(&self, value: &ValueRef<'_>, sums: &mut Sums) {
        if let Some(table) = &self.own {
            table.add(value, sums);
        }
        if let Some(entries) = &self.entries {
            entries.base.add_to(sums);
            match value {
                ValueRef::List(list) if has_entries(value) => {
                    entries.filled.add_to(sums);
                    for cell in list
                        .iter()
                        .filter_map(|one| entries.named.get(one.as_str()))
                    {
                        cell.add_to(sums);
                    }
                }
                _ => entries.empty.add_to(sums),
            }
        }
        for member in &self.members {
            member.add(value, sums);
        }
    }
}

/// A field, and the member of it where it holds JSON, with what that holds.
type Column = (usize, Option<(Box<str>, Option<StorageKind>)>);

/// Rules on their way into tables, by what they look at; fields with whether they ignore case.
#[derive(Debug, Default)]
pub(super) struct Layout {
    fields: HashMap<Column, (bool, Vec<Weighted<Shape>>)>,
    lists: HashMap<usize, Vec<Weighted<Entry>>>,
}

#[derive(Debug)]
enum Entry {
    Named(Box<str>, bool),
    Any(bool),
}

impl Layout {
    /// Takes a condition in; `false` where it fits into no cells.
    pub(super) fn take(&mut self, condition: &Condition, slot: Slot, points: i64) -> bool {
        if let Some((index, entry)) = list_entry(condition) {
            self.lists
                .entry(index)
                .or_default()
                .push((entry, slot, points));
            return true;
        }
        let Some((at, shape)) = Shape::of(condition) else {
            return false;
        };
        let kind = at.custom.map(|custom| custom.kind);
        let key = (at.index, at.member.clone().map(|name| (name, kind)));
        let (ignore_case, rules) = self.fields.entry(key).or_default();
        *ignore_case |= at.ignore_case;
        rules.push((shape, slot, points));
        true
    }

    /// Takes a rule in that a list has entries, or none.
    pub(super) fn take_entries(&mut self, index: usize, has: bool, slot: Slot, points: i64) {
        let entry = (Entry::Any(has), slot, points);
        self.lists.entry(index).or_default().push(entry);
    }

    /// The tables, each with the place of its field.
    pub(super) fn finish(self) -> Vec<(usize, FieldTable)> {
        let mut tables: std::collections::BTreeMap<usize, FieldTable> = Default::default();
        for ((index, member), (ignore_case, rules)) in self.fields {
            let table = Table::new(ignore_case, &rules);
            let field = tables.entry(index).or_default();
            match member {
                Some((name, kind)) => field.members.push(Member { name, kind, table }),
                None => field.own = Some(table),
            }
        }
        for (index, rules) in self.lists {
            tables.entry(index).or_default().entries = Some(entries(&rules));
        }
        tables.into_iter().collect()
    }
}

/// A condition that asks a list for one entry.
fn list_entry(condition: &Condition) -> Option<(usize, Entry)> {
    match condition {
        Condition::List {
            field,
            op: ListMatch::Any,
            values,
        } => match values.as_slice() {
            [one] if field.member.is_none() => {
                Some((field.index, Entry::Named(one.as_str().into(), false)))
            }
            _ => None,
        },
        Condition::Not(inner) => match list_entry(inner)? {
            (index, Entry::Named(name, negated)) => Some((index, Entry::Named(name, !negated))),
            (_, Entry::Any(_)) => None,
        },
        _ => None,
    }
}

fn entries(rules: &[Weighted<Entry>]) -> Entries {
    let mut named: HashMap<Box<str>, Vec<(Slot, i64)>> = HashMap::new();
    for (entry, slot, points) in rules {
        if let Entry::Named(name, negated) = entry {
            let change = if *negated { -points } else { *points };
            named.entry(name.clone()).or_default().push((*slot, change));
        }
    }
    let cell = |is_met: &dyn Fn(&Entry) -> bool| {
        let met = rules.iter().filter(|(entry, ..)| is_met(entry));
        Cell::of(met.map(|(_, slot, points)| (*slot, *points)))
    };
    Entries {
        base: cell(&|entry| matches!(entry, Entry::Named(_, true))),
        empty: cell(&|entry| matches!(entry, Entry::Any(false))),
        filled: cell(&|entry| matches!(entry, Entry::Any(true))),
        named: named
            .into_iter()
            .map(|(name, changes)| (name, Cell::of(changes.into_iter())))
            .collect(),
    }
}

/// Adds what a lead's fields are worth.
#[inline]
pub(super) fn add_fields<R: AnyRecord + ?Sized>(
    tables: &[(usize, FieldTable)],
    lead: &R,
    sums: &mut Sums,
) {
    for (index, table) in tables {
        table.add(&lead.value(*index), sums);
    }
}

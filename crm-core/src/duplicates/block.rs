//! Blocks: the records that share a key, and the pairs among them.
//!
//! Keys are walked in their order, each with its records in the order of their ids, whether they
//! come from a storage or from a list in memory. A pair that shares several keys is compared at the
//! first of them and nowhere else. Of a block with more records than a limit only the first ones, up
//! to the limit, are compared with all others; that the block was cut is told, never silent.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::compare::{Explanation, Prepared};
use super::compile::CompiledRule;
use crate::engine::Progress;
use crate::schema::{AnyRecord, Row};

/// The most records of one block of which each is compared with all others, unless said otherwise.
pub const BLOCK_LIMIT: usize = 500;

/// A block that was too large to compare each of its records with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutBlock {
    /// The id of the rule.
    pub rule: Uuid,
    /// The key that its records share.
    pub key: Uuid,
    /// How many records it has.
    pub records: u64,
    /// The last record that was compared with all others of the block, in the order of ids.
    pub compared_up_to: Uuid,
}

/// A record in a block, as the rules up to the one that is walked see it.
#[derive(Debug)]
pub(super) struct Member {
    id: Uuid,
    rules: Vec<(Prepared, Vec<Uuid>)>,
}

impl Member {
    pub(super) fn new<'a>(
        id: Uuid,
        record: &dyn AnyRecord,
        rules: impl IntoIterator<Item = &'a CompiledRule>,
    ) -> Self {
        let see = |rule: &CompiledRule| {
            let prepared = rule.prepare(record);
            let keys = rule.keys(&prepared);
            (prepared, keys.into_iter().map(|key| key.key).collect())
        };
        Self {
            id,
            rules: rules.into_iter().map(see).collect(),
        }
    }

    pub(super) const fn id(&self) -> Uuid {
        self.id
    }

    fn prepared(&self, rule: usize) -> Option<&Prepared> {
        self.rules.get(rule).map(|(prepared, _)| prepared)
    }

    pub(super) fn keys(&self, rule: usize) -> &[Uuid] {
        self.rules.get(rule).map_or(&[], |(_, keys)| keys)
    }
}

/// The blocks of several rules, walked one key after the other.
#[derive(Debug)]
pub(super) struct Walk<M> {
    limit: usize,
    /// The rule's place and the key of the block that is walked.
    current: Option<(usize, Uuid)>,
    first: Vec<M>,
    count: u64,
    pub(super) compared: u64,
    pub(super) cut: BTreeMap<Uuid, CutBlock>,
}

impl<M: AsRef<Member>> Walk<M> {
    pub(super) fn new(limit: usize, cut: impl IntoIterator<Item = CutBlock>) -> Self {
        Self {
            limit: limit.max(2),
            current: None,
            first: Vec::new(),
            count: 0,
            compared: 0,
            cut: cut.into_iter().map(|cut| (cut.key, cut)).collect(),
        }
    }

    /// Takes the next record of a block; `found` hears of each match with one taken before.
    pub(super) fn feed(
        &mut self,
        rules: &[impl AsRef<CompiledRule>],
        rule: usize,
        key: Uuid,
        member: M,
        mut found: impl FnMut(&Member, &Member, Explanation) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.current != Some((rule, key)) {
            self.finish(rules);
            self.current = Some((rule, key));
        }
        self.count += 1;
        let Some(compiled) = rules.get(rule).map(AsRef::as_ref) else {
            return ControlFlow::Continue(());
        };
        let new = member.as_ref();
        for known in &self.first {
            let known = known.as_ref();
            if known.id == new.id || self.is_met(known, new, rule, Some(key)) {
                continue;
            }
            let (Some(a), Some(b)) = (known.prepared(rule), new.prepared(rule)) else {
                continue;
            };
            self.compared += 1;
            if compiled.score(a, b).is_none() {
                continue;
            }
            let is_known = (0..rule).any(|earlier| {
                let pair = known.prepared(earlier).zip(new.prepared(earlier));
                let rule = rules.get(earlier).map(AsRef::as_ref).zip(pair);
                self.is_met(known, new, earlier, None)
                    && rule.is_some_and(|(rule, (a, b))| rule.score(a, b).is_some())
            });
            if !is_known {
                found(known, new, compiled.explain(a, b))?;
            }
        }
        if self.first.len() < self.limit {
            self.first.push(member);
        }
        ControlFlow::Continue(())
    }

    /// Ends the block that is walked.
    pub(super) fn finish(&mut self, rules: &[impl AsRef<CompiledRule>]) {
        if let Some((rule, key)) = self.current.take()
            && self.count > self.limit as u64
            && let (Some(rule), Some(last)) = (rules.get(rule), self.first.last())
        {
            let cut = CutBlock {
                rule: rule.as_ref().id(),
                key,
                records: self.count,
                compared_up_to: last.as_ref().id,
            };
            self.cut.insert(key, cut);
        }
        self.first.clear();
        self.count = 0;
    }

    /// Whether the two were compared under a key of a rule, one in front of `before` if that is
    /// given.
    fn is_met(&self, a: &Member, b: &Member, rule: usize, before: Option<Uuid>) -> bool {
        let (mut left, mut right) = (a.keys(rule).iter(), b.keys(rule).iter());
        let (mut one, mut other) = (left.next(), right.next());
        while let (Some(key), Some(theirs)) = (one, other) {
            if before.is_some_and(|before| *key >= before) {
                return false;
            }
            match key.cmp(theirs) {
                std::cmp::Ordering::Less => one = left.next(),
                std::cmp::Ordering::Greater => other = right.next(),
                std::cmp::Ordering::Equal => {
                    match self.cut.get(key) {
                        Some(cut) if a.id.min(b.id) > cut.compared_up_to => {}
                        _ => return true,
                    }
                    (one, other) = (left.next(), right.next());
                }
            }
        }
        false
    }
}

impl AsRef<CompiledRule> for CompiledRule {
    fn as_ref(&self) -> &CompiledRule {
        self
    }
}

impl AsRef<Member> for Member {
    fn as_ref(&self) -> &Member {
        self
    }
}

/// Two records that match, by their places in what was scanned.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundPair {
    /// The place of the one that came first.
    pub first: usize,
    /// The place of the other.
    pub second: usize,
    /// The place of the rule.
    pub rule: usize,
    /// Why.
    pub explanation: Explanation,
}

/// What a scan did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scanned {
    /// How many records were looked at.
    pub records: u64,
    /// How many pairs were compared.
    pub compared: u64,
    /// How many pairs match.
    pub pairs: u64,
    /// The blocks that were too large.
    pub cut: Vec<CutBlock>,
    /// Whether it was stopped before the end.
    pub stopped: bool,
}

/// Finds duplicates among records that are in no storage, such as those of a file.
///
/// It keeps what the rules look at of every record, and compares pairs block by block.
///
/// ```
/// use std::ops::ControlFlow;
/// use crm_core::duplicates::{CompiledRule, MatchRule, Scanner};
/// use crm_core::schema::{Dynamic, FieldSchema, FieldType, Meta, ObjectSchema, Row, Value};
/// use crm_core::{Actor, Stamp};
/// use uuid::Uuid;
///
/// let people = ObjectSchema::builder("people", "people")
///     .field(FieldSchema::new("name", FieldType::text(100)))
///     .build();
/// let rule = MatchRule::from_json(&serde_json::json!({
///     "when": {"field": "name", "method": "jaro_winkler", "at_least": 0.9},
///     "keys": [[{"field": "name", "form": "phonetic", "algorithm": "soundex"}]],
/// }))?;
/// let rule = CompiledRule::new(&rule, Uuid::from_u128(1), &people)?;
/// let stamp = Stamp { at: chrono::DateTime::UNIX_EPOCH, by: Actor::System };
/// let rows = ["Lovelace", "Hopper", "Lovelase"].map(|name| -> Row {
///     let meta = Meta::first(Uuid::nil(), stamp);
///     std::sync::Arc::new(Dynamic::new(people.clone(), meta, vec![Value::from(name)]))
/// });
/// let mut pairs = Vec::new();
/// let scanned = Scanner::new(vec![rule]).scan(rows, &(), |pair| {
///     pairs.push((pair.first, pair.second));
///     ControlFlow::Continue(())
/// });
/// assert_eq!(pairs, [(0, 2)]);
/// assert_eq!(scanned.records, 3);
/// # Ok::<(), crm_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Scanner {
    rules: Vec<CompiledRule>,
    limit: usize,
}

impl Scanner {
    /// A scan by these rules; a pair is told by the first that is fulfilled.
    #[must_use]
    pub const fn new(rules: Vec<CompiledRule>) -> Self {
        Self {
            rules,
            limit: BLOCK_LIMIT,
        }
    }

    /// Compares at most this many records of one block with all others of it, at least two;
    /// [`BLOCK_LIMIT`] if nothing is said.
    #[must_use]
    pub const fn block_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Finds the pairs within one set of records.
    pub fn scan(
        &self,
        rows: impl IntoIterator<Item = Row>,
        progress: &dyn Progress,
        found: impl FnMut(FoundPair) -> ControlFlow<()>,
    ) -> Scanned {
        self.run(rows, None, progress, found)
    }

    /// Finds the pairs of which one record is in either set. Places count on from the first set to
    /// the second.
    pub fn link(
        &self,
        rows: impl IntoIterator<Item = Row>,
        others: impl IntoIterator<Item = Row>,
        progress: &dyn Progress,
        found: impl FnMut(FoundPair) -> ControlFlow<()>,
    ) -> Scanned {
        let rows: Vec<Row> = rows.into_iter().collect();
        let boundary = rows.len();
        let all = rows.into_iter().chain(others);
        self.run(all, Some(boundary), progress, found)
    }

    fn run(
        &self,
        rows: impl IntoIterator<Item = Row>,
        boundary: Option<usize>,
        progress: &dyn Progress,
        mut found: impl FnMut(FoundPair) -> ControlFlow<()>,
    ) -> Scanned {
        let member = |(place, row): (usize, Row)| {
            Member::new(Uuid::from_u128(place as u128), &*row, &self.rules)
        };
        let members: Vec<Member> = rows.into_iter().enumerate().map(member).collect();
        let mut walk: Walk<&Member> = Walk::new(self.limit, []);
        let mut scanned = Scanned {
            records: members.len() as u64,
            ..Scanned::default()
        };
        let total = members.len() as u64 * self.rules.len() as u64;
        let mut done = 0;
        'rules: for place in 0..self.rules.len() {
            let mut entries: Vec<(Uuid, &Member)> = Vec::new();
            for member in &members {
                entries.extend(member.keys(place).iter().map(|key| (*key, member)));
            }
            entries.sort_unstable_by_key(|(key, member)| (*key, member.id));
            let all = entries.len().max(1);
            for (number, (key, member)) in entries.into_iter().enumerate() {
                let pairs = &mut scanned.pairs;
                let outcome = walk.feed(&self.rules, place, key, member, |a, b, explanation| {
                    let (first, second) = (a.id.as_u128() as usize, b.id.as_u128() as usize);
                    let is_across =
                        boundary.is_none_or(|boundary| (first < boundary) != (second < boundary));
                    if !is_across {
                        return ControlFlow::Continue(());
                    }
                    *pairs += 1;
                    found(FoundPair {
                        first,
                        second,
                        rule: place,
                        explanation,
                    })
                });
                // By records, as the caller knows them, not by keys.
                let now = (place * members.len() + (number + 1) * members.len() / all) as u64;
                let heard = if now > done {
                    done = now;
                    progress.report(done, Some(total))
                } else {
                    ControlFlow::Continue(())
                };
                if outcome.is_break() || heard.is_break() {
                    scanned.stopped = true;
                    break 'rules;
                }
            }
            walk.finish(&self.rules);
        }
        scanned.compared = walk.compared;
        scanned.cut = walk.cut.into_values().collect();
        scanned
    }
}

//! Comparing two records by a compiled rule, and telling why they match.

use std::borrow::Cow;
use std::fmt;

use chrono::{Datelike, NaiveDate};
use rapidfuzz::distance::{jaro_winkler, levenshtein};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use uuid::Uuid;

use super::compile::{CompiledRule, Leaf, Metric, Node, Place, Term};
use super::normal::Atom;
use crate::schema::{AnyRecord, ValueRef, custom_value};

/// The most keys that one record has under one rule; more than that, which only lists of many
/// values or long names make, are left out.
pub const MAX_KEYS_PER_RECORD: usize = 64;

/// What keys under a key of the tenant are told apart by from other digests.
const KEY_PLACE: &str = "duplicate_key.key";

/// What a rule looks at in one record: computed once, compared often. It holds personal data and
/// shows none of it in `Debug`.
pub struct Prepared {
    atoms: Box<[Atom]>,
    /// Where the atoms of each slot end.
    ends: Box<[u32]>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

impl Prepared {
    fn slot(&self, slot: usize) -> &[Atom] {
        let end = self.ends.get(slot).copied().unwrap_or_default() as usize;
        let start = match slot.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or_default() as usize,
            None => 0,
        };
        self.atoms.get(start..end).unwrap_or_default()
    }
}

/// A key of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey {
    /// The key: a UUID made of the rule's id and the key's text, which cannot be read back. Where the
    /// storage encrypts, it is made with a key of the tenant, and cannot be guessed either.
    pub key: Uuid,
    /// Whether records that share it are duplicates without further comparison.
    pub is_decisive: bool,
}

/// Why two records match: what each comparison gave. It holds no values of the records.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The score of the whole rule, from 0 to 1; 0 where it is not fulfilled.
    pub score: f64,
    /// The comparisons, in the order of the rule.
    pub comparisons: Vec<ComparisonResult>,
}

/// What one comparison gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparisonResult {
    /// Where it stands in the rule, such as `when.any[1].mean.of[0]`.
    pub path: String,
    /// The field.
    pub field: String,
    /// The method.
    pub method: &'static str,
    /// The similarity from 0 to 1; `None` where a record has no value.
    pub similarity: Option<f64>,
    /// How much it weighs, in a mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Whether the similarity reaches its threshold.
    pub passed: bool,
}

/// One line: `0.97: last_name jaro_winkler 0.96 yes; ..`.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}:", self.score)?;
        for (place, comparison) in self.comparisons.iter().enumerate() {
            let separator = if place == 0 { "" } else { ";" };
            let ComparisonResult { field, method, .. } = comparison;
            write!(f, "{separator} {field} {method} ")?;
            match comparison.similarity {
                Some(similarity) => write!(f, "{similarity:.3}")?,
                None => f.write_str("missing")?,
            }
            if !comparison.passed && comparison.weight.is_none() {
                f.write_str(" no")?;
            }
        }
        Ok(())
    }
}

impl CompiledRule {
    /// Computes what the rule looks at in a record of its object.
    #[must_use]
    pub fn prepare(&self, record: &dyn AnyRecord) -> Prepared {
        let mut atoms = Vec::with_capacity(self.slots.len());
        let mut ends = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let start = atoms.len();
            for place in &slot.places {
                apply(place, record, |value, e164| {
                    slot.form.apply(value, e164, &mut atoms);
                });
            }
            // The same value in two fields is one value.
            let mut place = start;
            while place < atoms.len() {
                let (known, rest) = atoms.split_at(place);
                let is_known = known
                    .get(start..)
                    .is_some_and(|known| rest.first().is_some_and(|atom| known.contains(atom)));
                if is_known {
                    atoms.remove(place);
                } else {
                    place += 1;
                }
            }
            ends.push(u32::try_from(atoms.len()).unwrap_or(u32::MAX));
        }
        Prepared {
            atoms: atoms.into(),
            ends: ends.into(),
        }
    }

    /// The score of two records, if the rule is fulfilled. The order of the two does not matter.
    #[must_use]
    pub fn score(&self, a: &Prepared, b: &Prepared) -> Option<f64> {
        score(&self.root, a, b)
    }

    /// What each comparison gives for two records.
    #[must_use]
    pub fn explain(&self, a: &Prepared, b: &Prepared) -> Explanation {
        let mut comparisons = Vec::new();
        explain(&self.root, "when", a, b, &mut comparisons);
        Explanation {
            score: self.score(a, b).unwrap_or_default(),
            comparisons,
        }
    }

    /// The keys of a record, in order, without doubles.
    #[must_use]
    pub fn keys(&self, record: &Prepared) -> Vec<RecordKey> {
        let mut keys = Vec::with_capacity(self.keys.len());
        let mut text = String::new();
        for key in &self.keys {
            let mut room = MAX_KEYS_PER_RECORD.saturating_sub(keys.len());
            text.clear();
            text.push_str(&key.signature);
            self.key_texts(&key.slots, record, &mut text, &mut room, &mut |text| {
                keys.push(RecordKey {
                    key: self.hash(text),
                    is_decisive: key.is_decisive,
                });
            });
        }
        keys.sort_unstable();
        keys.dedup_by_key(|key| key.key);
        keys
    }

    fn key_texts(
        &self,
        slots: &[usize],
        record: &Prepared,
        text: &mut String,
        room: &mut usize,
        found: &mut dyn FnMut(&str),
    ) {
        let Some((slot, rest)) = slots.split_first() else {
            if *room > 0 {
                *room -= 1;
                found(text);
            }
            return;
        };
        let length = text.len();
        for atom in record.slot(*slot) {
            text.push('\u{1f}');
            atom.write(text);
            self.key_texts(rest, record, text, room, found);
            text.truncate(length);
        }
    }

    /// The first four bytes are the rule's own, so that its keys stand together in the order of
    /// all keys; the rest is that of a UUID of version 5 (RFC 9562), or of a digest under a key of the
    /// tenant. The whole is of version 8.
    fn hash(&self, text: &str) -> Uuid {
        let mut bytes = match &self.digests {
            Some(digests) => digests.digest(KEY_PLACE, &format!("{} {text}", self.id)),
            None => *Uuid::new_v5(&self.id, text.as_bytes()).as_bytes(),
        };
        let (first, _) = key_range(self.id);
        for (byte, own) in bytes.iter_mut().zip(first.as_bytes()).take(4) {
            *byte = *own;
        }
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

/// The least and the greatest key that a rule can have.
pub(super) fn key_range(rule: Uuid) -> (Uuid, Uuid) {
    let own = rule.as_u128() << 96;
    (
        Uuid::from_u128(own),
        Uuid::from_u128(own | (u128::MAX >> 32)),
    )
}

/// Hands on the value at a place.
fn apply(place: &Place, record: &dyn AnyRecord, mut with: impl FnMut(&ValueRef<'_>, Option<&str>)) {
    let value = record.value(place.index);
    match (&place.member, value) {
        (None, value) => {
            let e164 = place.e164.map(|index| record.value(index));
            with(&value, e164.as_ref().and_then(ValueRef::as_text));
        }
        (Some(member), ValueRef::Json(json)) => match (json.get(&**member), place.kind) {
            (Some(inner), Some(kind)) => custom_value(inner, kind, |value| with(&value, None)),
            (Some(inner), None) => with(&ValueRef::Json(Cow::Borrowed(inner)), None),
            (None, _) => {}
        },
        _ => {}
    }
}

fn score(node: &Node, a: &Prepared, b: &Prepared) -> Option<f64> {
    match node {
        Node::Leaf(leaf) => {
            let similarity = best(leaf, a, b, leaf.at_least)?;
            (similarity >= leaf.at_least).then_some(similarity)
        }
        Node::All(all) => {
            let mut least = 1.0_f64;
            for node in all {
                least = least.min(score(node, a, b)?);
            }
            Some(least)
        }
        Node::Any(any) => {
            let scores = any.iter().filter_map(|node| score(node, a, b));
            scores.reduce(f64::max)
        }
        Node::Mean {
            at_least,
            present,
            terms,
        } => mean(*at_least, *present, terms, a, b),
    }
}

/// How far a mean may stray by rounding.
const ROUNDING: f64 = 1e-9;

fn mean(at_least: f64, present: f64, terms: &[Term], a: &Prepared, b: &Prepared) -> Option<f64> {
    let has_both = |term: &Term| {
        let slot = term.leaf.slot;
        !a.slot(slot).is_empty() && !b.slot(slot).is_empty()
    };
    let (mut all, mut both, mut counted) = (0.0, 0.0, 0.0);
    for term in terms {
        all += term.weight;
        if has_both(term) {
            both += term.weight;
            counted += term.weight;
        } else if term.missing.is_some() {
            counted += term.weight;
        }
    }
    if counted <= 0.0 || both + ROUNDING < present * all {
        return None;
    }
    // What the terms so far lack; more than this and the mean cannot be reached any more.
    let allowed = (1.0 - at_least) * counted + ROUNDING;
    let mut lacking = 0.0;
    for term in terms {
        let similarity = if has_both(term) {
            let needed = 1.0 - (allowed - lacking) / term.weight;
            let found = best(&term.leaf, a, b, needed.max(term.leaf.at_least))?;
            if found < term.leaf.at_least {
                0.0
            } else {
                found
            }
        } else {
            match term.missing {
                Some(missing) => missing,
                None => continue,
            }
        };
        lacking += (1.0 - similarity) * term.weight;
        if lacking > allowed {
            return None;
        }
    }
    let mean = 1.0 - lacking / counted;
    (mean + ROUNDING >= at_least).then_some(mean.clamp(0.0, 1.0))
}

/// The best similarity between a value of one record and a value of the other; `None` where one has
/// no value. One that is below `needed` may be given as any number below it.
fn best(leaf: &Leaf, a: &Prepared, b: &Prepared, needed: f64) -> Option<f64> {
    let (a, b) = (a.slot(leaf.slot), b.slot(leaf.slot));
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let mut best = 0.0_f64;
    for one in a {
        for other in b {
            best = best.max(similarity(leaf.metric, one, other, needed));
            if best >= 1.0 {
                return Some(1.0);
            }
        }
    }
    Some(best)
}

fn similarity(metric: Metric, a: &Atom, b: &Atom, needed: f64) -> f64 {
    if a == b {
        return 1.0;
    }
    match (metric, a, b) {
        (
            Metric::JaroWinkler | Metric::Levenshtein,
            Atom::Text { text: a, is_ascii },
            Atom::Text {
                text: b,
                is_ascii: both,
            },
        ) => {
            // The rounding of the library must not lose one that just passes.
            let cutoff = (needed - ROUNDING).clamp(0.0, 1.0);
            match (metric, *is_ascii && *both) {
                (Metric::JaroWinkler, true) => {
                    let args = jaro_winkler::Args::default().score_cutoff(cutoff);
                    jaro_winkler::similarity_with_args(a.bytes(), b.bytes(), &args)
                }
                (Metric::JaroWinkler, false) => {
                    let args = jaro_winkler::Args::default().score_cutoff(cutoff);
                    jaro_winkler::similarity_with_args(a.chars(), b.chars(), &args)
                }
                (_, true) => {
                    let args = levenshtein::Args::default().score_cutoff(cutoff);
                    levenshtein::normalized_similarity_with_args(a.bytes(), b.bytes(), &args)
                }
                (_, false) => {
                    let args = levenshtein::Args::default().score_cutoff(cutoff);
                    levenshtein::normalized_similarity_with_args(a.chars(), b.chars(), &args)
                }
            }
            .unwrap_or_default()
        }
        (Metric::Number { within }, Atom::Number(a), Atom::Number(b)) => {
            let Some(difference) = a.checked_sub(*b).map(|difference| difference.abs()) else {
                return 0.0;
            };
            if difference > within {
                return 0.0;
            }
            let share = difference / (within + Decimal::ONE);
            1.0 - share.to_f64().unwrap_or(1.0)
        }
        (
            Metric::Date {
                within_days,
                swapped,
            },
            Atom::Date(a),
            Atom::Date(b),
        ) => dates(*a, *b, within_days, swapped),
        _ => 0.0,
    }
}

fn dates(a: NaiveDate, b: NaiveDate, within_days: u32, swapped: bool) -> f64 {
    let days = (a - b).num_days().unsigned_abs();
    let near = if days <= u64::from(within_days) {
        let days = u32::try_from(days).unwrap_or(u32::MAX);
        1.0 - f64::from(days) / (f64::from(within_days) + 1.0)
    } else {
        0.0
    };
    let is_swapped =
        swapped && a.year() == b.year() && a.month() == b.day() && a.day() == b.month();
    if is_swapped { near.max(0.9) } else { near }
}

fn explain(node: &Node, path: &str, a: &Prepared, b: &Prepared, found: &mut Vec<ComparisonResult>) {
    let result = |leaf: &Leaf, path: String, weight: Option<f64>| {
        let similarity = best(leaf, a, b, 0.0);
        ComparisonResult {
            path,
            field: leaf.field.clone(),
            method: leaf.method,
            similarity,
            weight,
            passed: similarity.is_some_and(|similarity| similarity >= leaf.at_least),
        }
    };
    match node {
        Node::Leaf(leaf) => found.push(result(leaf, path.to_owned(), None)),
        Node::All(all) => {
            for (place, node) in all.iter().enumerate() {
                explain(node, &format!("{path}.all[{place}]"), a, b, found);
            }
        }
        Node::Any(any) => {
            for (place, node) in any.iter().enumerate() {
                explain(node, &format!("{path}.any[{place}]"), a, b, found);
            }
        }
        Node::Mean { terms, .. } => {
            for (place, term) in terms.iter().enumerate() {
                let path = format!("{path}.mean.of[{place}]");
                found.push(result(&term.leaf, path, Some(term.weight)));
            }
        }
    }
}

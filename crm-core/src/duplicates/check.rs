//! Checking records: which others are like them, and why.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use uuid::Uuid;

use super::compare::{Explanation, Prepared, RecordKey};
use super::entity::{ActiveRule, DuplicateMode, DuplicateRule, KeyState};
use super::keys::{Holders, holders, live_rows};
use crate::engine::Session;
use crate::error::Result;
use crate::schema::{AnyRecord, ObjectRef, Row};
use crate::{EntityRef, Id};

/// A record that another one is like.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DuplicateMatch {
    /// The record.
    pub record: EntityRef,
    /// The rule that says so: strict ones before others, then by position.
    pub rule: Id<DuplicateRule>,
    /// Whether the rule refuses it.
    #[serde(serialize_with = "mode_name")]
    pub mode: DuplicateMode,
    /// How alike the two are, from 0 to 1.
    pub score: f64,
    /// Why.
    pub explanation: Explanation,
}

fn mode_name<S: serde::Serializer>(mode: &DuplicateMode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match mode {
        DuplicateMode::Warn => "warn",
        DuplicateMode::Strict => "strict",
    })
}

/// What a check found, and what it could not look at.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DuplicateCheck {
    /// The records, the most alike first.
    pub matches: Vec<DuplicateMatch>,
    /// The rules by which there may be more.
    pub gaps: Vec<CheckGap>,
}

impl DuplicateCheck {
    /// Whether everything was looked at that the rules' keys lead to.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.gaps.is_empty()
    }
}

/// Why a check may have missed a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "gap", rename_all = "snake_case")]
#[non_exhaustive]
pub enum CheckGap {
    /// The keys of records written before the rule was set are still being built; see
    /// [`Duplicates::rebuild_keys`](super::Duplicates::rebuild_keys).
    Building {
        /// The rule.
        rule: Id<DuplicateRule>,
    },
    /// More than [`BLOCK_LIMIT`](super::BLOCK_LIMIT) records share a key with the record; those with
    /// the least ids were compared.
    TooMany {
        /// The rule.
        rule: Id<DuplicateRule>,
    },
}

/// A refused write: what the record is a duplicate of, under strict rules.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize)]
#[error(
    "the {object} is a duplicate of {} by a strict rule; use the one that exists, or accept it by its id",
    if matches.len() == 1 { "another".to_owned() } else { format!("{} others", matches.len()) }
)]
pub struct DuplicateFound {
    /// The object.
    pub object: String,
    /// The record that was refused; one that is new has no other trace.
    pub id: Uuid,
    /// The records that it is a duplicate of, the most alike first.
    pub matches: Vec<DuplicateMatch>,
}

/// A record as one rule sees it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) prepared: Prepared,
    pub(super) keys: Vec<RecordKey>,
}

impl Seen {
    pub(super) fn new(rule: &ActiveRule, record: &dyn AnyRecord) -> Self {
        let prepared = rule.compiled.prepare(record);
        let keys = rule.compiled.keys(&prepared);
        Self { prepared, keys }
    }
}

/// A record with what each rule sees of it, in the order of the rules.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) id: Uuid,
    /// `None` where the rule need not be applied.
    pub(super) seen: Vec<Option<Seen>>,
}

/// Finds what records of one object are like: one lookup of keys and one of records for all of
/// them. `staged` are records as they are about to be written, which stand for the stored ones.
pub(super) async fn examine(
    session: &Session,
    object: &ObjectRef,
    rules: &[&ActiveRule],
    wanted: &[&Wanted],
    staged: &Staged,
) -> Result<Vec<DuplicateCheck>> {
    let keys = wanted
        .iter()
        .flat_map(|wanted| wanted.seen.iter().flatten());
    let keys: Vec<Uuid> = keys
        .flat_map(|seen| seen.keys.iter().map(|key| key.key))
        .collect();
    if keys.is_empty() {
        let checks = wanted.iter().map(|_| with_gaps(rules, &BTreeSet::new()));
        return Ok(checks.collect());
    }
    let holders = holders(session, keys).await?;
    let others: BTreeSet<Uuid> = holders.by_key.values().flatten().copied().collect();
    let unknown = others
        .into_iter()
        .filter(|id| !staged.rows.contains_key(id));
    let stored = live_rows(session, object, unknown).await?;
    let mut others = Examined {
        holders,
        stored,
        staged,
        candidates: HashMap::new(),
    };
    let checks = wanted.iter();
    let checks = checks.map(|one| compare(object, rules, one, &mut others));
    Ok(checks.collect())
}

/// The records that others are compared with.
pub(super) trait Others {
    /// Adds the records that have a key; whether there are more than are compared.
    fn sharing(&self, key: Uuid, others: &mut BTreeSet<Uuid>) -> bool;

    /// What a rule sees of a record, if it is there.
    fn seen_by(&mut self, rule: &ActiveRule, id: Uuid) -> Option<&Prepared>;
}

/// Those of one examination: the stored ones, and the staged ones in their place.
struct Examined<'a> {
    holders: Holders,
    stored: HashMap<Uuid, Row>,
    staged: &'a Staged,
    /// What a rule sees of a candidate is computed once for all records that are checked.
    candidates: HashMap<(Uuid, Uuid), Prepared>,
}

impl Others for Examined<'_> {
    fn sharing(&self, key: Uuid, others: &mut BTreeSet<Uuid>) -> bool {
        let known = self.holders.by_key.get(&key);
        let new = self.staged.by_key.get(&key);
        others.extend(known.into_iter().chain(new).flatten().copied());
        self.holders.cut.contains(&key)
    }

    fn seen_by(&mut self, rule: &ActiveRule, id: Uuid) -> Option<&Prepared> {
        let row = match self.staged.rows.get(&id) {
            Some(row) => row.as_ref(),
            None => self.stored.get(&id),
        }?;
        let place = (rule.id().uuid(), id);
        let see = || rule.compiled.prepare(&**row);
        Some(self.candidates.entry(place).or_insert_with(see))
    }
}

/// Compares a record with those that share a key with it, by each rule.
pub(super) fn compare(
    object: &ObjectRef,
    rules: &[&ActiveRule],
    one: &Wanted,
    others: &mut impl Others,
) -> DuplicateCheck {
    let mut too_many = BTreeSet::new();
    let mut found: HashMap<Uuid, DuplicateMatch> = HashMap::new();
    for (rule, seen) in rules.iter().zip(&one.seen) {
        let Some(seen) = seen else { continue };
        let mut sharing = BTreeSet::new();
        for key in &seen.keys {
            if others.sharing(key.key, &mut sharing) {
                too_many.insert(rule.id());
            }
        }
        sharing.remove(&one.id);
        for id in sharing {
            if found.contains_key(&id) {
                continue;
            }
            let Some(candidate) = others.seen_by(rule, id) else {
                continue;
            };
            let Some(score) = rule.compiled.score(&seen.prepared, candidate) else {
                continue;
            };
            found.insert(
                id,
                DuplicateMatch {
                    record: EntityRef::new(object.name(), id),
                    rule: rule.id(),
                    mode: rule.record.mode,
                    score,
                    explanation: rule.compiled.explain(&seen.prepared, candidate),
                },
            );
        }
    }
    let mut check = with_gaps(rules, &too_many);
    check.matches = found.into_values().collect();
    check.matches.sort_by(|a, b| {
        let by_score = b.score.total_cmp(&a.score);
        by_score.then_with(|| a.record.cmp(&b.record))
    });
    check
}

/// Records as a unit of work is about to write them; `None` for one that is deleted.
#[derive(Debug, Default)]
pub(super) struct Staged {
    pub(super) rows: HashMap<Uuid, Option<Row>>,
    /// The keys of those whose keys may be new.
    pub(super) by_key: HashMap<Uuid, Vec<Uuid>>,
}

fn with_gaps(rules: &[&ActiveRule], too_many: &BTreeSet<Id<DuplicateRule>>) -> DuplicateCheck {
    let mut gaps = Vec::new();
    for rule in rules {
        let id = rule.id();
        if rule.record.state == KeyState::Building {
            gaps.push(CheckGap::Building { rule: id });
        }
        if too_many.contains(&id) {
            gaps.push(CheckGap::TooMany { rule: id });
        }
    }
    DuplicateCheck {
        matches: Vec::new(),
        gaps,
    }
}

//! [`PendingRecords`]: records that are decided but not stored, compared as if they were.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::block::BLOCK_LIMIT;
use super::check::{DuplicateCheck, Others, Seen, Wanted, compare};
use super::compare::Prepared;
use super::entity::{ActiveRule, ActiveRules};
use super::hook::live;
use super::keys::{Holders, holders, live_rows};
use super::service::Duplicates;
use crate::engine::Session;
use crate::error::Result;
use crate::schema::{ObjectRef, Row};

impl Duplicates<'_> {
    /// Nothing pending yet, under the rules as they are now.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn pending(&self) -> Result<PendingRecords> {
        Ok(PendingRecords {
            session: self.session.clone(),
            rules: self.rules().await?,
            entries: Vec::new(),
            latest: HashMap::new(),
            by_key: HashMap::new(),
            stored: Stored::default(),
        })
    }
}

/// Records that a caller has decided to write and has not written, in their order: each is compared
/// with the stored ones and with those before it, as if these were stored already.
///
/// It is how an import finds rows that are like other rows of its file, and how its dry run finds
/// them though it writes nothing. Of each record it holds the keys and what the rules look at, not
/// the record: as a rule some hundred bytes for each rule.
///
/// ```
/// # use crm_core::{Session, error::Result, schema::Row};
/// # async fn example(session: &Session, rows: &[Row]) -> Result<()> {
/// let mut pending = session.duplicates().pending().await?;
/// pending.look_up(rows).await?;
/// for row in rows {
///     let check = pending.check(row, None).await?;
///     if check.matches.is_empty() {
///         pending.add(row);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct PendingRecords {
    session: Session,
    rules: Arc<ActiveRules>,
    entries: Vec<Entry>,
    /// The last entry of each record.
    latest: HashMap<Uuid, usize>,
    /// The entries that have a key, in their order.
    by_key: HashMap<Uuid, Vec<usize>>,
    stored: Stored,
}

/// A record as it will be.
struct Entry {
    id: Uuid,
    /// What each rule sees of it, by the rule's id.
    seen: Vec<(Uuid, Prepared)>,
    keys: Vec<Uuid>,
    /// The entry of the same record before.
    former: Option<usize>,
}

/// What was read of the storage.
#[derive(Default)]
struct Stored {
    asked: HashSet<Uuid>,
    holders: Holders,
    rows: HashMap<Uuid, Row>,
    /// What a rule sees of a row, by the ids of both.
    seen: HashMap<(Uuid, Uuid), Prepared>,
}

impl fmt::Debug for PendingRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingRecords")
            .field("records", &self.latest.len())
            .finish_non_exhaustive()
    }
}

impl PendingRecords {
    /// Whether an object has rules at all: if not, none of its records is like another.
    #[must_use]
    pub fn has_rules(&self, object: &str) -> bool {
        !self.rules.of(object).is_empty()
    }

    /// Reads what is stored under the keys of some rows, and forgets what was read before: one
    /// lookup of keys and one of records for all rows of an object. [`check`](Self::check) reads
    /// what is missing, so that rows need not yet be what they will be when they are checked.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn look_up(&mut self, rows: &[Row]) -> Result<()> {
        self.stored = Stored::default();
        let mut keys: Vec<(ObjectRef, Vec<Uuid>)> = Vec::new();
        for row in rows {
            let object = row.object();
            let rules = self.rules.of(object.name());
            let own = rules.iter().flat_map(|rule| Seen::new(rule, &**row).keys);
            let own = own.map(|key| key.key);
            match keys.iter_mut().find(|(known, _)| known == object) {
                Some((_, keys)) => keys.extend(own),
                None => keys.push((object.clone(), own.collect())),
            }
        }
        for (object, keys) in keys {
            self.read(&object, keys).await?;
        }
        Ok(())
    }

    async fn read(&mut self, object: &ObjectRef, mut keys: Vec<Uuid>) -> Result<()> {
        keys.retain(|key| !self.stored.asked.contains(key));
        if keys.is_empty() {
            return Ok(());
        }
        let found = holders(&self.session, keys.clone()).await?;
        let ids: BTreeSet<Uuid> = found.by_key.values().flatten().copied().collect();
        let unknown = ids
            .into_iter()
            .filter(|id| !self.stored.rows.contains_key(id));
        let rows = live_rows(&self.session, object, unknown).await?;
        self.stored.asked.extend(keys);
        self.stored.rows.extend(rows);
        self.stored.holders.by_key.extend(found.by_key);
        self.stored.holders.cut.extend(found.cut);
        Ok(())
    }

    /// The records that a row is like, stored ones and pending ones. With the row as it was `before`,
    /// only the rules that look at what changed are asked.
    ///
    /// Of more than [`BLOCK_LIMIT`] records that share a key, the stored ones come first.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn check(&mut self, row: &Row, before: Option<&Row>) -> Result<DuplicateCheck> {
        let active = self.rules.clone();
        let object = row.object();
        let rules = active.of(object.name());
        let changed = live(before).map(|before| row.differing(&**before));
        let see = |rule: &&ActiveRule| {
            let is_concerned = rule.concerns(changed.as_ref());
            is_concerned.then(|| Seen::new(rule, &**row))
        };
        let wanted = Wanted {
            id: row.id(),
            seen: rules.iter().map(see).collect(),
        };
        let seen = wanted.seen.iter().flatten();
        let keys = seen.flat_map(|seen| seen.keys.iter().map(|key| key.key));
        let keys: Vec<Uuid> = keys.collect();
        self.read(object, keys).await?;
        Ok(compare(object, &rules, &wanted, self))
    }

    /// Takes a row for written, in place of what is stored of it.
    pub fn add(&mut self, row: &Row) {
        let active = self.rules.clone();
        let rules = active.of(row.object().name());
        if rules.is_empty() {
            return;
        }
        let (mut seen, mut keys) = (Vec::new(), Vec::new());
        for rule in rules.iter().filter(|_| !row.is_deleted()) {
            let own = Seen::new(rule, &**row);
            keys.extend(own.keys.iter().map(|key| key.key));
            seen.push((rule.id().uuid(), own.prepared));
        }
        let (id, place) = (row.id(), self.entries.len());
        for key in &keys {
            self.by_key.entry(*key).or_default().push(place);
        }
        let former = self.latest.insert(id, place);
        self.entries.push(Entry {
            id,
            seen,
            keys,
            former,
        });
    }

    /// How many rows were taken for written: the place to [roll back](Self::roll_back) to.
    #[must_use]
    pub const fn mark(&self) -> usize {
        self.entries.len()
    }

    /// Forgets the rows that were added since a [mark](Self::mark).
    pub fn roll_back(&mut self, mark: usize) {
        while self.entries.len() > mark
            && let Some(entry) = self.entries.pop()
        {
            for key in &entry.keys {
                if let Some(places) = self.by_key.get_mut(key) {
                    places.pop();
                    if places.is_empty() {
                        self.by_key.remove(key);
                    }
                }
            }
            match entry.former {
                Some(former) => self.latest.insert(entry.id, former),
                None => self.latest.remove(&entry.id),
            };
        }
    }

    /// The stored records, of those read, that are pending in another state.
    pub fn superseded(&self) -> impl Iterator<Item = Uuid> {
        let read = self.stored.rows.keys();
        read.filter(|id| self.latest.contains_key(id)).copied()
    }
}

impl Others for PendingRecords {
    fn sharing(&self, key: Uuid, others: &mut BTreeSet<Uuid>) -> bool {
        let known = self.stored.holders.by_key.get(&key).into_iter().flatten();
        let known = known.filter(|id| !self.latest.contains_key(id)).copied();
        let new = self.by_key.get(&key).into_iter().flatten();
        let new = new.filter_map(|place| {
            let id = self.entries.get(*place)?.id;
            (self.latest.get(&id) == Some(place)).then_some(id)
        });
        let mut all = known.chain(new);
        others.extend(all.by_ref().take(BLOCK_LIMIT));
        self.stored.holders.cut.contains(&key) || all.next().is_some()
    }

    fn seen_by(&mut self, rule: &ActiveRule, id: Uuid) -> Option<&Prepared> {
        let rule_id = rule.id().uuid();
        if let Some(place) = self.latest.get(&id) {
            let seen = &self.entries.get(*place)?.seen;
            let own = seen.iter().find(|(rule, _)| *rule == rule_id);
            return own.map(|(_, prepared)| prepared);
        }
        let row = self.stored.rows.get(&id)?;
        let see = || rule.compiled.prepare(&**row);
        Some(self.stored.seen.entry((rule_id, id)).or_insert_with(see))
    }
}

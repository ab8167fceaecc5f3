//! [`UnitOfWork`]: several writes that become one commit.

mod checks;
mod commit;
mod references;
mod savepoint;
mod upkeep;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use checks::{check_fields, read_only_faults};
pub use savepoint::Savepoint;
use savepoint::Undo;

use super::remembered::Own;
use super::{Purpose, Records, Session, Workspace, Write};
use crate::error::{Error, Faults, Result};
use crate::record::{Record, Stamp};
use crate::schema::{Access, AnyRecord, Entity, Meta, ObjectRef, Row};
use crate::storage::{Change, Expectation, Guard, Taking};

/// Up to how many staged changes are searched one by one.
const SEARCHED: usize = 8;

/// Several operations that become one commit, or nothing.
///
/// Reads see what was staged before. Dropping it without [`commit`](Self::commit) writes nothing.
///
/// ```
/// # use crm_core::{Session, error::Result, contacts::Contact, accounts::Account};
/// # async fn example(session: &Session) -> Result<()> {
/// let mut work = session.begin();
/// let globex = work.accounts().create(Account::new("Globex")).await?;
/// let mut contact = Contact::named("Ada", "Lovelace");
/// contact.account_id = Some(globex.id);
/// work.contacts().create(contact).await?;
/// work.commit().await?; // both, or none
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a unit of work writes nothing until it is committed"]
pub struct UnitOfWork {
    pub(super) session: Session,
    commit: Commit,
    pub(super) staged: Vec<StagedChange>,
    places: HashMap<Uuid, Vec<usize>>,
    expects: Vec<Expectation>,
    /// The ids and versions of what is expected, once that is more than a few.
    expected: HashSet<(Uuid, i64)>,
    /// The rows relied on that are not read again: if one changes, the commit is a conflict.
    relied: HashMap<Uuid, Row>,
    notes: HashMap<Uuid, String>,
    /// The records that others may be duplicates of in this commit.
    pub(crate) accepted_duplicates: HashSet<Uuid>,
    /// The deals that came into a stage because of what other records are, each with the stage.
    pub(crate) let_in: BTreeSet<(Uuid, Uuid)>,
    in_hooks: bool,
    /// What was staged since the outermost operation began, so that one that fails leaves nothing.
    journal: Vec<Undo>,
    /// How many operations are going on, one inside the other.
    depth: usize,
    contended: Vec<(&'static str, Option<&'static [&'static str]>)>,
    guards: Vec<Arc<dyn Guard>>,
    /// Settings that are changed here.
    pub(super) own: Box<Own>,
    /// Rows as a hook left them that runs more than once.
    in_step: HashMap<Uuid, Option<Row>>,
    /// The records that a deletion or removal is at work on, so that one that comes back to them ends.
    pub(super) going: HashSet<(String, Uuid)>,
    /// Rows as the computation of values that follow from others left them.
    computed: HashMap<Uuid, Option<Row>>,
    /// The records that are given back an earlier version.
    given_back: HashSet<Uuid>,
    /// The records that are emptied, as the person that they tell of is erased.
    erased: HashSet<Uuid>,
    /// Records whose persons go as their time is over.
    anonymized: HashSet<Uuid>,
    /// Entries that go out of logs by months.
    taken: Vec<Taking>,
}

/// The id and time of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The commit's id, which its audit events carry.
    pub id: Uuid,
    /// The commit's time.
    pub at: DateTime<Utc>,
}

/// A change that waits in a unit of work.
#[derive(Clone, Debug)]
pub struct StagedChange {
    object: ObjectRef,
    id: Uuid,
    before: Option<Row>,
    after: Option<Row>,
}

impl StagedChange {
    /// The object.
    #[must_use]
    pub const fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// The record's id.
    #[must_use]
    pub const fn id(&self) -> Uuid {
        self.id
    }

    /// The record as it is stored, unless it is new.
    #[must_use]
    pub const fn before(&self) -> Option<&Row> {
        self.before.as_ref()
    }

    /// The record as it shall be, unless it is removed for good.
    #[must_use]
    pub const fn after(&self) -> Option<&Row> {
        self.after.as_ref()
    }

    fn into_change(self) -> Option<Change> {
        match (self.before, self.after) {
            (None, Some(row)) => Some(Change::Insert { row }),
            (Some(before), Some(after)) => Some(Change::Update { before, after }),
            (Some(before), None) => Some(Change::Delete { before }),
            // Created and removed again within the same unit of work.
            (None, None) => None,
        }
    }
}

impl UnitOfWork {
    pub(super) fn new(session: Session) -> Self {
        let at = session.engine().clock().now();
        let id = session.engine().ids().next(at);
        Self {
            session,
            commit: Commit { id, at },
            staged: Vec::new(),
            places: HashMap::new(),
            expects: Vec::new(),
            expected: HashSet::new(),
            relied: HashMap::new(),
            notes: HashMap::new(),
            accepted_duplicates: HashSet::new(),
            let_in: BTreeSet::new(),
            in_hooks: false,
            journal: Vec::new(),
            depth: 0,
            contended: Vec::new(),
            guards: Vec::new(),
            own: Box::default(),
            in_step: HashMap::new(),
            going: HashSet::new(),
            computed: HashMap::new(),
            given_back: HashSet::new(),
            erased: HashSet::new(),
            anonymized: HashSet::new(),
            taken: Vec::new(),
        }
    }

    /// The session.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// The id and time that the commit will have.
    pub const fn commit_stamp(&self) -> Commit {
        self.commit
    }

    /// The time of everything in this unit of work.
    pub const fn now(&self) -> DateTime<Utc> {
        self.commit.at
    }

    /// When and by whom the records of this unit of work are written.
    pub const fn stamp(&self) -> Stamp {
        Stamp {
            at: self.commit.at,
            by: self.session.actor(),
        }
    }

    /// Whether the changes of callers are all staged, and the hooks of the commit add theirs.
    pub(crate) const fn is_in_hooks(&self) -> bool {
        self.in_hooks
    }

    /// The changes staged so far.
    pub fn staged(&self) -> &[StagedChange] {
        &self.staged
    }

    /// The records of any object with a Rust type.
    pub fn records<E: Entity>(&mut self) -> Records<'_, E> {
        Records::new(Workspace::Unit(self))
    }

    /// Relies on a record that was read: if it changes before the commit, the commit is a conflict
    /// and nothing is written.
    pub fn rely_on(&mut self, row: &dyn AnyRecord) {
        let expectation = Expectation {
            object: row.object().clone(),
            id: row.id(),
            version: row.version(),
        };
        if self.place(row.object(), row.id()).is_none() && !self.is_expected(&expectation) {
            self.expects.push(expectation);
            let count = self.expects.len();
            if count > SEARCHED {
                let from = if count == SEARCHED + 1 { 0 } else { count - 1 };
                let new = self.expects.iter().skip(from);
                self.expected.extend(new.map(|one| (one.id, one.version)));
            }
        }
    }

    /// Whether a row is relied on at this version already. Few are searched, many are indexed.
    fn is_expected(&self, wanted: &Expectation) -> bool {
        (self.expects.len() <= SEARCHED || self.expected.contains(&(wanted.id, wanted.version)))
            && self.expects.contains(wanted)
    }

    /// Relies on a record that was read, and does not read it again in this unit of work.
    pub(crate) fn rely_on_row(&mut self, row: Row) {
        self.rely_on(&*row);
        // What is staged may yet be taken back.
        if self.place(row.object(), row.id()).is_none() {
            self.relied.insert(row.id(), row);
        }
    }

    /// The row relied on with this id.
    pub(super) fn relied_on(&self, object: &ObjectRef, id: Uuid) -> Option<&Row> {
        self.relied.get(&id).filter(|row| row.object() == object)
    }

    /// Keeps what is said about a change for the rule that writes it into a history.
    pub(crate) fn set_note(&mut self, id: Uuid, note: Option<&str>) {
        match note {
            Some(note) => self.notes.insert(id, note.to_owned()),
            None => self.notes.remove(&id),
        };
    }

    /// What was said about a change, left for the rule that takes it.
    pub(crate) fn note(&self, id: Uuid) -> Option<&str> {
        self.notes.get(&id).map(String::as_str)
    }

    /// Takes what was said about a change.
    pub(crate) fn take_note(&mut self, id: Uuid) -> Option<String> {
        self.notes.remove(&id)
    }

    /// Says that the staged rows of these objects are in step with each other as they are now.
    pub(crate) fn mark_in_step(&mut self, objects: &[&ObjectRef]) {
        let rows = self.staged.iter();
        let rows = rows.filter(|change| objects.contains(&&change.object));
        let rows = rows.map(|change| (change.id, change.after.clone()));
        self.in_step.extend(rows);
    }

    /// What a staged change began with: the row as it last was in step with others, where
    /// [`mark_in_step`](Self::mark_in_step) was called for its object, else the stored one.
    pub(crate) fn since_step<'a>(&'a self, change: &'a StagedChange) -> Option<&'a Row> {
        match self.in_step.get(&change.id) {
            Some(row) => row.as_ref(),
            None => change.before.as_ref(),
        }
    }

    /// Says that all values that follow from the staged rows are computed, as they are now.
    pub fn mark_computed(&mut self) {
        let rows = self.staged.iter();
        let rows = rows.map(|change| (change.id, change.after.clone()));
        self.computed.extend(rows);
    }

    /// What a staged change began with since values were last computed from it
    /// ([`mark_computed`](Self::mark_computed)): the stored row, if they never were.
    #[must_use]
    pub fn since_computed<'a>(&'a self, change: &'a StagedChange) -> Option<&'a Row> {
        match self.computed.get(&change.id) {
            Some(row) => row.as_ref(),
            None => change.before.as_ref(),
        }
    }

    /// Says that a record is given back values of an earlier version, for the audit trail to tell.
    #[doc(hidden)]
    pub fn mark_given_back(&mut self, id: Uuid) {
        self.given_back.insert(id);
    }

    /// Whether a record is given back values of an earlier version.
    #[doc(hidden)]
    #[must_use]
    pub fn is_given_back(&self, id: Uuid) -> bool {
        self.given_back.contains(&id)
    }

    /// Says that a rule of this unit of work keeps the unique key of `object` over these fields,
    /// such as "at most one default": a duplicate then means that somebody else was faster, and the
    /// call runs again.
    pub fn contend(&mut self, object: &'static str, fields: &'static [&'static str]) {
        self.contended.push((object, Some(fields)));
    }

    /// Like [`contend`](Self::contend), for every unique key of the object.
    pub fn contend_any(&mut self, object: &'static str) {
        self.contended.push((object, None));
    }

    /// Lets the commit be a conflict where rows are not as they have to be when it is written, whoever
    /// wrote them since they were read; see [`Guard`]. For hooks of a commit: what fails is then read
    /// again and told.
    pub fn guard(&mut self, guard: impl Guard + 'static) {
        self.guards.push(Arc::new(guard));
    }

    /// Where the record is staged. Small units of work are searched, large ones are indexed.
    fn index_of(&self, object: &ObjectRef, id: Uuid) -> Option<usize> {
        if self.staged.len() <= SEARCHED {
            self.staged
                .iter()
                .position(|change| change.id == id && change.object == *object)
        } else {
            self.places.get(&id)?.iter().copied().find(|place| {
                self.staged
                    .get(*place)
                    .is_some_and(|change| change.object == *object)
            })
        }
    }

    /// The last staged change of a row with this id, whatever its object.
    pub(crate) fn staged_last(&self, id: Uuid) -> Option<&StagedChange> {
        if self.staged.len() <= SEARCHED {
            self.staged.iter().rev().find(|change| change.id == id)
        } else {
            self.staged.get(*self.places.get(&id)?.last()?)
        }
    }

    /// The staged change of a record, if there is one.
    #[doc(hidden)]
    #[must_use]
    pub fn staged_change(&self, object: &ObjectRef, id: Uuid) -> Option<&StagedChange> {
        self.place(object, id)
    }

    pub(crate) fn place(&self, object: &ObjectRef, id: Uuid) -> Option<&StagedChange> {
        self.staged.get(self.index_of(object, id)?)
    }

    fn put(&mut self, object: &ObjectRef, id: Uuid, before: Option<Row>, after: Option<Row>) {
        self.own.changes(object.name());
        let place = self.index_of(object, id);
        if let Some(place) = place
            && let Some(change) = self.staged.get_mut(place)
        {
            let before = std::mem::replace(&mut change.after, after);
            if self.depth > 0 {
                self.journal.push(Undo::Changed(place, before));
            }
            return;
        }
        if self.depth > 0 {
            self.journal.push(Undo::Added);
        }
        self.staged.push(StagedChange {
            object: object.clone(),
            id,
            before,
            after,
        });
        let count = self.staged.len();
        if count > SEARCHED {
            let from = if count == SEARCHED + 1 { 0 } else { count - 1 };
            for (place, change) in self.staged.iter().enumerate().skip(from) {
                self.places.entry(change.id).or_default().push(place);
            }
        }
    }

    /// The meta of a record that is created now.
    pub(super) fn new_meta(&self) -> Meta {
        let id = self.session.engine().ids().next(self.commit.at);
        Meta::first(id, self.stamp())
    }

    /// The meta of a record that is changed now. A record changed twice in one unit of work gets
    /// one new version.
    #[doc(hidden)]
    #[must_use]
    pub fn next_meta(&self, row: &Row) -> Meta {
        let meta = row.meta();
        match self.place(row.object(), meta.id) {
            Some(StagedChange { before: None, .. }) => meta,
            Some(StagedChange {
                before: Some(before),
                ..
            }) => Meta {
                version: before.version() + 1,
                updated: self.stamp(),
                ..meta
            },
            None => meta.next(self.stamp()),
        }
    }

    /// Stages a typed record; the way of every write that has a Rust type. Callers may not write
    /// read-only fields, the engine may.
    pub(crate) async fn write<E: Entity>(
        &mut self,
        access: Access,
        before: Option<Row>,
        meta: Meta,
        data: E,
    ) -> Result<Arc<Record<E>>> {
        self.write_for(Purpose::Usual, access, before, meta, data)
            .await
    }

    /// Stages a typed record for a purpose.
    pub(crate) async fn write_for<E: Entity>(
        &mut self,
        purpose: Purpose,
        access: Access,
        before: Option<Row>,
        meta: Meta,
        mut data: E,
    ) -> Result<Arc<Record<E>>> {
        data.normalize();
        let after: Row = Arc::new(Record::new(meta, data));
        let faults = match access {
            Access::User => read_only_faults(before.as_ref(), &after),
            Access::Engine => Faults::default(),
        };
        let row = self.stage_for(purpose, before, after, faults).await?;
        Record::from_row(row).ok_or_else(|| not_found(E::schema(), meta.id))
    }

    /// Stages a change of one record: checks its fields, runs the rules, and keeps it. `faults` are
    /// what was wrong with the input that made it. Returns the record as staged.
    pub(crate) async fn stage(
        &mut self,
        before: Option<Row>,
        after: Row,
        faults: Faults,
    ) -> Result<Row> {
        self.stage_for(Purpose::Usual, before, after, faults).await
    }

    async fn stage_for(
        &mut self,
        purpose: Purpose,
        before: Option<Row>,
        after: Row,
        faults: Faults,
    ) -> Result<Row> {
        let mark = self.mark();
        let result = self.stage_one(purpose, before, after, faults).await;
        self.settle(mark, result)
    }

    /// Stages values that the record had before. The rules take part as in every write, but what
    /// they would make of them today does not count, as it was theirs when they were written; only
    /// what follows from the record as it is ([`WriteRule::settle`](super::WriteRule::settle)) they
    /// work out anew.
    ///
    /// # Errors
    /// What the rules of the object refuse.
    #[doc(hidden)]
    pub async fn stage_exactly(&mut self, before: Row, after: Row) -> Result<()> {
        let mark = self.mark();
        let staged = self.stage_settled(Purpose::Upkeep, before, after).await;
        self.settle(mark, staged)
    }

    /// Like [`stage_exactly`](Self::stage_exactly), where the record was written since it had the
    /// values: with what else became of it, it never was like that. So a deal goes back into a stage
    /// only if it fulfils what the stage asks of it (R-044).
    ///
    /// # Errors
    /// What the rules of the object refuse.
    #[doc(hidden)]
    pub async fn stage_in_part(&mut self, before: Row, after: Row) -> Result<()> {
        let mark = self.mark();
        let purpose = Purpose::UpkeepInPart;
        let staged = self.stage_settled(purpose, before, after).await;
        self.settle(mark, staged)
    }

    async fn stage_settled(&mut self, purpose: Purpose, before: Row, after: Row) -> Result<()> {
        let faults = Faults::default();
        let staged = self
            .stage_for(purpose, Some(before.clone()), after.clone(), faults)
            .await?;
        let object = after.object().clone();
        let mut write = Write {
            purpose,
            before: Some(before),
            after,
            faults: Faults::default(),
        };
        let engine = self.session.engine().clone();
        let rules = engine.shared.rules.iter();
        for rule in rules.filter(|rule| rule.object() == object.name()) {
            rule.settle(self, &mut write).await?;
        }
        let Write { after, faults, .. } = write;
        faults.into_result()?;
        if !after.differing(&*staged).is_empty() {
            self.put(&object, after.id(), None, Some(after));
        }
        Ok(())
    }

    async fn stage_one(
        &mut self,
        purpose: Purpose,
        before: Option<Row>,
        after: Row,
        faults: Faults,
    ) -> Result<Row> {
        let object = after.object().clone();
        self.session.engine().registry().add(&object);
        self.may_write(&object, &after)?;
        let changed = before.as_ref().map(|before| after.differing(&**before));
        if changed.is_some_and(|changed| changed.is_empty()) && faults.is_empty() {
            return Ok(after.with_meta(
                before
                    .as_ref()
                    .map_or_else(|| after.meta(), |row| row.meta()),
            ));
        }
        let given = after.clone();
        let mut write = Write {
            purpose,
            before,
            after,
            faults,
        };
        let engine = self.session.engine().clone();
        let rules = engine.shared.rules.iter();
        let own = rules.filter(|rule| rule.object() == object.name());
        for rule in own.clone() {
            rule.before_write(self, &mut write).await?;
        }
        self.check_custom_fields(&object, &mut write).await?;
        for rule in own {
            rule.judge(self, &mut write).await?;
        }
        // After the rules, which complete the record.
        let completed = !Arc::ptr_eq(&given, &write.after);
        let changed = match &write.before {
            Some(before) if completed => Some(write.after.differing(&**before)),
            _ => changed,
        };
        check_fields(&mut write, changed);
        self.check_record_links(&mut write).await?;
        let Write {
            before,
            after,
            mut faults,
            ..
        } = write;
        after.check(&mut faults);
        if !faults.is_empty() {
            // Only now, when the write fails anyway, are references looked up: the happy path
            // leaves that to the commit.
            self.add_missing_references(&after, before.as_ref(), &mut faults)
                .await?;
            faults.into_result()?;
        }
        let before = match self.place(&object, after.id()) {
            Some(known) => known.before.clone(),
            None => before,
        };
        self.put(&object, after.id(), before, Some(after.clone()));
        Ok(after)
    }
}

pub(super) fn forbidden(reason: &'static str) -> Error {
    Error::Forbidden {
        reason: reason.into(),
    }
}

pub(crate) fn not_found(object: &ObjectRef, id: Uuid) -> Error {
    Error::NotFound {
        object: object.name().to_owned(),
        id,
    }
}

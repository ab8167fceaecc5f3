//! A naive model beside the storage: random commits and queries, compared after every step.
//!
//! The model is a map of rows; what a commit must answer is written here once more, over the Rust
//! types and without the schema. A run is repeated by its seed: `CRM_SEED=<number>`.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use uuid::Uuid;

use super::fixtures::bare;
use super::harness::{
    Bench, deleted, expect_same_rows, ids, insertion, new_id, next, place, purge, record,
    replacement, restored, row,
};
use super::objects::{Part, Specimen, State};
use super::oracle::order;
use super::random::Random;
use super::{Failure, Harness, Outcome, ensure, ensure_eq};
use crate::Id;
use crate::query::{AggregateQuery, Condition, Filter, Grouping, Query, SortKey};
use crate::schema::{Entity, ObjectRef, Row, Value, ValueRef};
use crate::storage::{Change, Committed, Expectation, StorageError};

/// How many steps a run takes; each is a commit, a comparison of all rows and three queries.
const STEPS: usize = 1_000;
/// How many rows of an object the model keeps about.
const ROWS: usize = 40;

type Rows = BTreeMap<Uuid, Row>;

/// What must be stored.
#[derive(Clone, Debug, Default)]
struct Model {
    specimens: Rows,
    parts: Rows,
}

/// What a commit may answer, in the words of [`StorageError`].
type Answer = String;

fn answer_of(came: &Result<Committed, StorageError>) -> Answer {
    match came {
        Ok(_) => "ok".into(),
        Err(StorageError::Conflict { .. }) => "conflict".into(),
        Err(StorageError::Duplicate { object, fields }) => {
            format!("duplicate {object} {}", fields.join("+"))
        }
        Err(StorageError::Reference { object, field }) => format!("reference {object} {field}"),
        Err(StorageError::Referenced { object, by, field }) => {
            format!("referenced {object} {by} {field}")
        }
        Err(other) => format!("{other:?}"),
    }
}

impl Model {
    fn rows(&self, object: &ObjectRef) -> &Rows {
        if object == Specimen::schema() {
            &self.specimens
        } else {
            &self.parts
        }
    }

    fn rows_mut(&mut self, object: &ObjectRef) -> &mut Rows {
        if object == Specimen::schema() {
            &mut self.specimens
        } else {
            &mut self.parts
        }
    }

    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            let rows = self.rows_mut(change.object());
            match change.after() {
                Some(after) => rows.insert(after.id(), after.clone()),
                None => rows.remove(&change.id()),
            };
        }
    }

    /// Everything that a commit may answer.
    fn answers(&self, changes: &[Change], expects: &[Expectation]) -> Outcome<BTreeSet<Answer>> {
        let mut answers = BTreeSet::new();
        let at = |object: &ObjectRef, id: Uuid| self.rows(object).get(&id).map(|row| row.version());
        let stale = changes.iter().any(|change| {
            change
                .before()
                .is_some_and(|before| at(change.object(), change.id()) != Some(before.version()))
        });
        let failed = expects
            .iter()
            .any(|expected| at(&expected.object, expected.id) != Some(expected.version));
        if stale || failed {
            answers.insert("conflict".into());
            return Ok(answers);
        }
        let mut after = self.clone();
        after.apply(changes);
        for change in changes {
            let object = change.object().name();
            if change.before().is_none() && at(change.object(), change.id()).is_some() {
                answers.insert(format!("duplicate {object} id"));
            }
            match change.after() {
                Some(row) if change.object() == Specimen::schema() => {
                    after.specimen_faults(change.before(), row, &mut answers)?;
                }
                Some(row) => after.part_faults(change.before(), row, &mut answers)?,
                None => after.left_behind(change, &mut answers)?,
            }
        }
        if answers.is_empty() {
            answers.insert("ok".into());
        }
        Ok(answers)
    }

    fn is_live(&self, specimen: Uuid) -> bool {
        self.specimens
            .get(&specimen)
            .is_some_and(|row| !row.is_deleted())
    }

    fn specimen_faults(
        &self,
        before: Option<&Row>,
        row: &Row,
        answers: &mut BTreeSet<Answer>,
    ) -> Outcome {
        let own = record::<Specimen>(row)?;
        for other in self
            .specimens
            .values()
            .filter(|other| other.id() != row.id())
        {
            let theirs = record::<Specimen>(other)?;
            let folded = |code: &Option<String>| code.as_ref().map(|code| code.to_lowercase());
            let live = !row.is_deleted() && !other.is_deleted();
            if live && own.code.is_some() && folded(&own.code) == folded(&theirs.code) {
                answers.insert("duplicate specimen code".into());
            }
            if own.serial.is_some() && own.serial == theirs.serial {
                answers.insert("duplicate specimen serial".into());
            }
        }
        let old = before
            .map(record::<Specimen>)
            .transpose()?
            .and_then(|old| old.parent_id);
        let counts = is_checked(before, row, old == own.parent_id);
        if let (Some(parent), true) = (own.parent_id, counts)
            && !self.is_live(parent.uuid())
        {
            answers.insert("reference specimen parent_id".into());
        }
        Ok(())
    }

    fn part_faults(
        &self,
        before: Option<&Row>,
        row: &Row,
        answers: &mut BTreeSet<Answer>,
    ) -> Outcome {
        let own = record::<Part>(row)?;
        for other in self.parts.values().filter(|other| other.id() != row.id()) {
            let theirs = record::<Part>(other)?;
            let live = !row.is_deleted() && !other.is_deleted();
            let same = own.specimen_id == theirs.specimen_id && own.place == theirs.place;
            if live && own.place.is_some() && same {
                answers.insert("duplicate part specimen_id+place".into());
            }
        }
        let old = before.map(record::<Part>).transpose()?;
        let same = old
            .as_ref()
            .is_some_and(|old| old.specimen_id == own.specimen_id);
        if is_checked(before, row, same) && !self.is_live(own.specimen_id.uuid()) {
            answers.insert("reference part specimen_id".into());
        }
        let same = old.is_some_and(|old| old.copy_of_id == own.copy_of_id);
        if let Some(copy_of) = own.copy_of_id
            && is_checked(before, row, same)
            && !self.is_live(copy_of.uuid())
        {
            answers.insert("reference part copy_of_id".into());
        }
        Ok(())
    }

    /// Who refers to a row that is removed.
    fn left_behind(&self, change: &Change, answers: &mut BTreeSet<Answer>) -> Outcome {
        if change.object() != Specimen::schema() {
            return Ok(());
        }
        let id = Id::new(change.id());
        for row in self.specimens.values() {
            if record::<Specimen>(row)?.parent_id == Some(id) {
                answers.insert("referenced specimen specimen parent_id".into());
            }
        }
        for row in self.parts.values() {
            let part = record::<Part>(row)?;
            if part.specimen_id == id {
                answers.insert("referenced specimen part specimen_id".into());
            }
            if part.copy_of_id == Some(id) {
                answers.insert("referenced specimen part copy_of_id".into());
            }
        }
        Ok(())
    }
}

/// Whether a reference must lead to a live row: of live rows that are new, restored or have
/// changed it.
fn is_checked(before: Option<&Row>, after: &Row, same: bool) -> bool {
    let restored = before.is_some_and(|before| before.is_deleted());
    !after.is_deleted() && (before.is_none() || restored || !same)
}

/// Makes up changes.
struct Source {
    random: Random,
    /// Rows as they once were, for stale writes.
    past: Vec<Row>,
}

impl Source {
    fn specimen_values(&mut self, model: &Model, data: &mut Specimen) {
        let random = &mut self.random;
        const CODES: &[&str] = &["a", "A", "b", "B", "ä", "Ä", "c", "d", "e", "F", "g", "H"];
        data.code = if random.one_in(3) {
            random.pick(CODES).map(ToString::to_string)
        } else {
            None
        };
        data.serial = random.one_in(3).then(|| random.below(60) as i64);
        data.level = (!random.one_in(4)).then(|| random.below(5) as i32);
        data.amount =
            (!random.one_in(4)).then(|| Decimal::new(random.below(2_000) as i64 - 1_000, 2));
        data.state = random.pick(State::ALL).copied().unwrap_or_default();
        data.parent_id = if random.one_in(3) {
            some_id(random, &model.specimens)
        } else {
            None
        };
    }

    fn part_values(&mut self, model: &Model, data: &mut Part) {
        let random = &mut self.random;
        if random.one_in(3)
            && let Some(specimen) = some_id(random, &model.specimens)
        {
            data.specimen_id = specimen;
        }
        data.copy_of_id = if random.one_in(4) {
            some_id(random, &model.specimens)
        } else {
            None
        };
        data.place = random.one_in(2).then(|| random.below(4) as i32);
        data.quantity = random.below(9) as i64;
    }

    /// A change of a row that no other change of the commit touches.
    fn change(&mut self, model: &Model, used: &BTreeSet<Uuid>) -> Outcome<Option<Change>> {
        let specimens = self.random.below(5) < 3;
        let rows = if specimens {
            &model.specimens
        } else {
            &model.parts
        };
        if self.random.one_in(25) {
            // A row as it was some time ago, or that is no more.
            let past = self.random.pick(&self.past).cloned();
            return Ok(past
                .filter(|row| !used.contains(&row.id()))
                .map(|row| purge(&row)));
        }
        let full = rows.len() > ROWS;
        if rows.len() < 4 || (!full && self.random.one_in(3)) {
            return self.new_row(model, specimens).map(|row| row.map(insertion));
        }
        let free: Vec<&Row> = rows
            .values()
            .filter(|row| !used.contains(&row.id()))
            .collect();
        let Some(before) = self.random.pick(&free).copied().cloned() else {
            return Ok(None);
        };
        let action = self.random.below(if full { 8 } else { 12 });
        Ok(Some(match action {
            0..=3 => purge(&before),
            4 | 5 if before.is_deleted() => replacement(&before, restored(&before)),
            4 | 5 => replacement(&before, deleted(&before)),
            _ if specimens => {
                let mut data = record::<Specimen>(&before)?.data.clone();
                self.specimen_values(model, &mut data);
                replacement(&before, next::<Specimen>(&before, |own| *own = data)?)
            }
            _ => {
                let mut data = record::<Part>(&before)?.data.clone();
                self.part_values(model, &mut data);
                replacement(&before, next::<Part>(&before, |own| *own = data)?)
            }
        }))
    }

    fn new_row(&mut self, model: &Model, specimen: bool) -> Outcome<Option<Row>> {
        if specimen {
            let name = format!("s{}", self.random.below(6));
            let mut data = bare(&name);
            self.specimen_values(model, &mut data);
            return Ok(Some(row(data)));
        }
        let Some(target) = some_id(&mut self.random, &model.specimens) else {
            return Ok(None);
        };
        let mut data = Part::new(target);
        self.part_values(model, &mut data);
        Ok(Some(row(data)))
    }
}

/// The id of a row, now and then of one that is not there.
fn some_id(random: &mut Random, rows: &Rows) -> Option<Id<Specimen>> {
    if random.one_in(60) {
        return Some(Id::new(new_id()));
    }
    let ids: Vec<Uuid> = rows.keys().copied().collect();
    random.pick(&ids).copied().map(Id::new)
}

/// Asks for some rows of the specimens in some order behind some place.
async fn query_once(bench: &Bench, model: &Model, random: &mut Random) -> Outcome {
    type Fulfils = fn(&Row) -> bool;
    let object = Specimen::schema();
    let asked: [(Filter, Fulfils); 7] = [
        (Filter::all(), |_| true),
        (
            Filter::Null {
                field: "deleted_at".into(),
                is_null: true,
            },
            |row| !row.is_deleted(),
        ),
        (Filter::eq("code", "A"), |row| {
            row.get("code")
                .as_text()
                .is_some_and(|code| code.to_lowercase() == "a")
        }),
        (Filter::eq("state", "lost"), |row| {
            row.get("state") == ValueRef::Text("lost")
        }),
        (
            Filter::Between {
                field: "level".into(),
                from: 1_i64.into(),
                to: 3_i64.into(),
            },
            |row| matches!(row.get("level"), ValueRef::Integer(1..=3)),
        ),
        (
            Filter::Not(Box::new(Filter::In {
                field: "level".into(),
                values: vec![0_i64.into(), 4_i64.into()],
            })),
            |row| !matches!(row.get("level"), ValueRef::Integer(0 | 4)),
        ),
        (
            Filter::Null {
                field: "parent_id".into(),
                is_null: false,
            },
            |row| row.get("parent_id") != ValueRef::Null,
        ),
    ];
    let Some((filter, fulfils)) = random.pick(&asked) else {
        return Ok(());
    };
    let fields = [
        "name",
        "level",
        "amount",
        "state",
        "code",
        "serial",
        "updated_at",
        "version",
    ];
    let mut sort = Vec::new();
    for _ in 0..random.below(3) {
        let Some(field) = random.pick(&fields) else {
            continue;
        };
        sort.push(SortKey {
            index: place(object, field)?,
            descending: random.one_in(2),
        });
    }
    let condition = Condition::bind(filter, object, &super::objects::registry())?;
    let mut query = Query::new(object, condition)
        .sort(sort)
        .limit(random.below(12) + 1);
    let rows: Vec<&Row> = model.specimens.values().collect();
    let from = if random.one_in(2) {
        random.pick(&rows)
    } else {
        None
    };
    query.after = from.map(|row| {
        query
            .sort
            .iter()
            .map(|key| row.value(key.index).into_owned())
            .collect()
    });
    let by_sort = |a: &Row, b: &Row| {
        query
            .sort
            .iter()
            .map(|key| {
                let order = order(&a.value(key.index), &b.value(key.index));
                if key.descending {
                    order.reverse()
                } else {
                    order
                }
            })
            .find(|order| order.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    };
    let mut expected: Vec<Row> = rows
        .iter()
        .filter(|row| fulfils(row) && from.is_none_or(|from| by_sort(row, from).is_gt()))
        .map(|row| (*row).clone())
        .collect();
    expected.sort_by(by_sort);
    expected.truncate(query.limit);
    let what = format!(
        "{filter:?} sorted by {:?} behind {:?}",
        query.sort, query.after
    );
    expect_same_rows(&bench.select(&query).await?, &expected, &what)
}

/// Counts specimens by state, and gets some by id.
async fn count_and_get(bench: &Bench, model: &Model, random: &mut Random) -> Outcome {
    let object = Specimen::schema();
    let mut by_state = AggregateQuery::count(object, Condition::not_deleted());
    by_state.groups = vec![Grouping::Field(place(object, "state")?)];
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for row in model.specimens.values().filter(|row| !row.is_deleted()) {
        *counts
            .entry(row.get("state").as_text().unwrap_or_default().to_owned())
            .or_default() += 1;
    }
    let expected: Vec<(Vec<Value>, Vec<Value>)> = counts
        .into_iter()
        .map(|(state, count)| (vec![state.into()], vec![count.into()]))
        .collect();
    let came: Vec<(Vec<Value>, Vec<Value>)> = bench
        .storage()
        .aggregate(&bench.scope, &by_state)
        .await?
        .into_iter()
        .map(|group| (group.keys, group.measures))
        .collect();
    ensure_eq!(came, expected, "the count of live specimens by state");
    let mut some: Vec<Row> = model.parts.values().cloned().collect();
    random.shuffle(&mut some);
    some.truncate(4);
    expect_same_rows(
        &bench.get(Part::schema(), &ids(&some)).await?,
        &some,
        "parts by their ids",
    )
}

pub(super) async fn model_random_work(h: &Harness) -> Outcome {
    let seed = Random::seed();
    run(h, seed).await.map_err(|failure| {
        Failure::new(format!(
            "{} (repeat with CRM_SEED={seed})",
            failure.message()
        ))
    })
}

async fn run(h: &Harness, seed: u64) -> Outcome {
    let bench = h.bench();
    let mut model = Model::default();
    let mut source = Source {
        random: Random::new(seed),
        past: Vec::new(),
    };
    let mut applied = 0;
    for step in 0..STEPS {
        let mut changes: Vec<Change> = Vec::new();
        let mut used = BTreeSet::new();
        for _ in 0..=source.random.below(3) {
            if let Some(change) = source.change(&model, &used)? {
                used.insert(change.id());
                changes.push(change);
            }
        }
        let mut expects: Vec<Expectation> = Vec::new();
        if source.random.one_in(6) {
            let rows: Vec<&Row> = model.parts.values().collect();
            let fresh = source
                .random
                .pick(&rows)
                .map(|row| super::harness::expectation(row));
            let stale = source.random.one_in(4);
            expects.extend(fresh.map(|fresh| Expectation {
                version: fresh.version + i64::from(stale),
                ..fresh
            }));
        }
        let answers = model.answers(&changes, &expects)?;
        let came = bench.commit_expecting(changes.clone(), expects).await;
        let answer = answer_of(&came);
        ensure!(
            answers.contains(&answer),
            "step {step}: expected a commit to answer one of {answers:?}; `{answer}` came of \
             {changes:?}"
        );
        if came.is_ok() {
            applied += 1;
            source
                .past
                .extend(changes.iter().filter_map(|change| change.before().cloned()));
            model.apply(&changes);
        }
        for object in [Specimen::schema(), Part::schema()] {
            let expected: Vec<Row> = model.rows(object).values().cloned().collect();
            let what = format!("step {step}: the rows of `{}`", object.name());
            expect_same_rows(&bench.all(object).await?, &expected, &what)?;
        }
        query_once(&bench, &model, &mut source.random).await?;
        query_once(&bench, &model, &mut source.random).await?;
        count_and_get(&bench, &model, &mut source.random).await?;
    }
    // The random work must be work.
    ensure!(
        applied > STEPS / 4,
        "expected more than {} commits to succeed; {applied} did",
        STEPS / 4
    );
    ensure!(
        model.specimens.len() > 4,
        "expected the model to hold some specimens"
    );
    Ok(())
}

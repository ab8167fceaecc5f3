//! A naive model beside the storage: random commits and queries, compared after every step.
//!
//! A run is repeated by its seed: `CRM_SEED=<number>`.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use uuid::Uuid;

use super::deletions::no_references_to;
use super::expect::expect_same_rows;
use super::fixtures::bare;
use super::harness::{
    Bench, deleted, ids, insertion, new_id, next, place, purge, record, replacement, restored, row,
};
use super::mirror::{Model, Rows, answer_of};
use super::objects::{Part, Specimen, State};
use super::oracle::order;
use super::random::Random;
use super::{Failure, Harness, Outcome, ensure, ensure_eq};
use crate::Id;
use crate::query::{AggregateQuery, Condition, Filter, Grouping, Query, SortKey};
use crate::schema::{Entity, Row, Value, ValueRef};
use crate::storage::{Change, Expectation};

/// How many steps a run takes; each is a commit, a comparison of all rows and three queries.
const STEPS: usize = 1_000;
/// How many rows of an object the model keeps about.
const ROWS: usize = 40;

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
        let mut unreferenced = Vec::new();
        for change in &changes {
            let is_deleted = change.after().is_some_and(|after| after.is_deleted());
            let is_specimen = change.object() == Specimen::schema();
            if is_deleted && is_specimen && source.random.one_in(2) {
                unreferenced.extend(no_references_to(change.id())?);
            }
        }
        let answers = model.answers(&changes, &expects, &unreferenced)?;
        let came = bench
            .commit_all(changes.clone(), expects, unreferenced)
            .await;
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

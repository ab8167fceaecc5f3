//! Random definitions and random operations, compared with a simple model.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crm_engine::custom_objects::CustomFieldType;
use crm_engine::prelude::*;
use crm_engine::query::Sort;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{add, body, common, define};

/// A kind of field, and which of the values below it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Decimal,
    Date,
    Boolean,
    Picklist,
}

const KINDS: [Kind; 6] = [
    Kind::Text,
    Kind::Number,
    Kind::Decimal,
    Kind::Date,
    Kind::Boolean,
    Kind::Picklist,
];

impl Kind {
    fn field_type(self) -> CustomFieldType {
        match self {
            Self::Text => CustomFieldType::Text(Default::default()),
            Self::Number => CustomFieldType::Number(Default::default()),
            Self::Decimal => CustomFieldType::Decimal(Default::default()),
            Self::Date => CustomFieldType::Date,
            Self::Boolean => CustomFieldType::Boolean,
            Self::Picklist => CustomFieldType::Picklist,
        }
    }

    /// Values of the type, in their order, none of which is in the order of its text.
    fn values(self) -> Vec<Json> {
        match self {
            Self::Text => vec![json!("alpha"), json!("beta"), json!("gamma")],
            Self::Number => vec![json!(-20), json!(9), json!(10), json!(100)],
            Self::Decimal => vec![json!("-3.5"), json!("9.5"), json!("10"), json!("100.25")],
            Self::Date => vec![
                json!("1999-12-31"),
                json!("2025-12-01"),
                json!("2026-01-01"),
            ],
            Self::Boolean => vec![json!(false), json!(true)],
            Self::Picklist => vec![json!("high"), json!("low")],
        }
    }

    /// A value of no field of the type.
    fn wrong(self) -> Json {
        match self {
            Self::Text => json!(["alpha"]),
            Self::Number => json!(1.5),
            Self::Decimal => json!("ten"),
            Self::Date => json!("2026-02-30"),
            Self::Boolean => json!("yes"),
            Self::Picklist => json!("medium"),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Makes a record of the object with this number, with values of these places.
    Create(usize, Vec<Option<usize>>),
    /// Sets a field of a record, or empties it.
    Set(usize, usize, Option<usize>),
    /// Tries a wrong value.
    Wrong(usize, usize),
    Archive(usize),
    Delete(usize),
    Restore(usize),
    Purge(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let place = || 0_usize..16;
    prop_oneof![
        4 => (0_usize..2, prop::collection::vec(prop::option::of(0_usize..4), 4))
            .prop_map(|(object, values)| Step::Create(object, values)),
        4 => (place(), 0_usize..4, prop::option::of(0_usize..4))
            .prop_map(|(record, field, value)| Step::Set(record, field, value)),
        1 => (place(), 0_usize..4).prop_map(|(record, field)| Step::Wrong(record, field)),
        1 => place().prop_map(Step::Archive),
        2 => place().prop_map(Step::Delete),
        1 => place().prop_map(Step::Restore),
        1 => place().prop_map(Step::Purge),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Live,
    Archived,
    Deleted,
}

/// What the model knows of a record: the place of the value of each field.
#[derive(Clone, Debug)]
struct Known {
    object: usize,
    id: Uuid,
    version: i64,
    state: State,
    values: Vec<Option<usize>>,
}

const OBJECTS: [&str; 2] = ["project", "site"];

struct Run<'a> {
    session: &'a Session,
    /// The fields of each object; both have the same names.
    fields: [Vec<Kind>; 2],
    records: Vec<Known>,
}

fn field(place: usize) -> String {
    format!("field_{place}")
}

impl Run<'_> {
    fn document(&self, object: usize, values: &[Option<usize>]) -> Json {
        let mut document = Map::new();
        for (place, kind) in self.fields[object].iter().enumerate() {
            if let Some(value) = values[place].and_then(|value| kind.values().get(value).cloned()) {
                document.insert(field(place), value);
            }
        }
        Json::Object(document)
    }

    async fn step(&mut self, step: &Step) {
        let place = |place: &usize| *place % self.records.len().max(1);
        match step {
            Step::Create(object, values) => {
                let (object, mut values) = (*object, values.clone());
                for (place, kind) in self.fields[object].iter().enumerate() {
                    values[place] = values[place].filter(|value| *value < kind.values().len());
                }
                let document = self.document(object, &values);
                let json = json!({"name": "It", "custom_fields": document});
                let mut records = self.session.object(OBJECTS[object]).await.unwrap();
                let row = records.create(body(&json)).await.unwrap();
                self.records.push(Known {
                    object,
                    id: row.id(),
                    version: row.version(),
                    state: State::Live,
                    values,
                });
            }
            _ if self.records.is_empty() => {}
            Step::Set(record, at, value) => {
                let record = place(record);
                let known = self.records[record].clone();
                let Some(kind) = self.fields[known.object].get(*at).copied() else {
                    return;
                };
                let value = value.filter(|value| *value < kind.values().len());
                let json = value.map_or(Json::Null, |value| kind.values()[value].clone());
                let patch = json!({"custom_fields": {field(*at): json}});
                let mut records = self.session.object(OBJECTS[known.object]).await.unwrap();
                let merged = records.merge(known.id, known.version, body(&patch)).await;
                if known.state == State::Deleted {
                    assert_eq!(merged.unwrap_err().code(), "not_found");
                } else {
                    let changes = known.values[*at] != value;
                    let known = &mut self.records[record];
                    known.version += i64::from(changes);
                    known.values[*at] = value;
                    assert_eq!(merged.unwrap().version(), known.version);
                }
            }
            Step::Wrong(record, at) => {
                let known = self.records[place(record)].clone();
                let Some(kind) = self.fields[known.object].get(*at).copied() else {
                    return;
                };
                let patch = json!({"custom_fields": {field(*at): kind.wrong()}});
                let mut records = self.session.object(OBJECTS[known.object]).await.unwrap();
                let refused = records.merge(known.id, known.version, body(&patch)).await;
                let wanted = match known.state {
                    State::Deleted => "not_found",
                    _ => "validation",
                };
                assert_eq!(refused.unwrap_err().code(), wanted);
            }
            Step::Archive(record) => self.become_state(place(record), State::Archived).await,
            Step::Delete(record) => self.become_state(place(record), State::Deleted).await,
            Step::Restore(record) => self.become_state(place(record), State::Live).await,
            Step::Purge(record) => {
                let record = place(record);
                let known = self.records[record].clone();
                let mut records = self.session.object(OBJECTS[known.object]).await.unwrap();
                let purged = records.purge(known.id).await;
                if known.state == State::Deleted {
                    purged.unwrap();
                    self.records.remove(record);
                } else {
                    assert_eq!(purged.unwrap_err().code(), "not_deleted");
                }
            }
        }
    }

    async fn become_state(&mut self, record: usize, state: State) {
        let known = self.records[record].clone();
        let mut records = self.session.object(OBJECTS[known.object]).await.unwrap();
        let done = match state {
            State::Archived => records.archive(known.id).await.map(|_| ()),
            State::Deleted => records.delete(known.id).await.map(|_| ()),
            State::Live => records.restore(known.id).await.map(|_| ()),
        };
        let may = match state {
            State::Archived | State::Deleted => known.state != State::Deleted,
            State::Live => known.state == State::Deleted,
        };
        assert_eq!(done.is_ok(), may, "{known:?} {state:?} {done:?}");
        if may {
            let find = Find::new().with_archived().with_deleted();
            let page = records.find(&find).await.unwrap();
            let row = page.items.into_iter().find(|row| row.id() == known.id);
            let row = row.unwrap();
            let known = &mut self.records[record];
            known.version = row.version();
            known.state = match (row.is_deleted(), row.meta().archived_at) {
                (true, _) => State::Deleted,
                (false, Some(_)) => State::Archived,
                (false, None) => State::Live,
            };
        }
    }

    /// Everything that queries say is what the model says.
    async fn compare(&self) {
        for (object, name) in OBJECTS.into_iter().enumerate() {
            let records = self.session.object(name).await.unwrap();
            let live: Vec<&Known> = self
                .records
                .iter()
                .filter(|known| known.object == object && known.state == State::Live)
                .collect();
            let page = records.find(&Find::new().limit(200)).await.unwrap();
            let found: BTreeMap<Uuid, Json> = page
                .items
                .iter()
                .map(|row| (row.id(), row.get("custom_fields").to_json()))
                .collect();
            let known: BTreeMap<Uuid, Json> = live
                .iter()
                .map(|known| (known.id, self.document(object, &known.values)))
                .collect();
            assert_eq!(found, known);
            for (place, kind) in self.fields[object].iter().enumerate() {
                self.compare_field(object, place, *kind, &live).await;
            }
        }
    }

    async fn compare_field(&self, object: usize, place: usize, kind: Kind, live: &[&Known]) {
        let records = self.session.object(OBJECTS[object]).await.unwrap();
        let name = field(place);
        for (at, value) in kind.values().into_iter().enumerate() {
            for (op, is_meant) in [
                ("eq", Ordering::is_eq as fn(Ordering) -> bool),
                ("gt", Ordering::is_gt),
                ("lte", Ordering::is_le),
            ] {
                if op != "eq" && matches!(kind, Kind::Boolean | Kind::Picklist) {
                    continue;
                }
                let filter = json!({"field": name, "op": op, "value": value});
                let find = Find::new().filter_by_name(Filter::from_json(&filter).unwrap());
                let found = records.count(&find).await.unwrap();
                let fits =
                    |known: &&&Known| known.values[place].is_some_and(|it| is_meant(it.cmp(&at)));
                let known = live.iter().filter(fits).count();
                assert_eq!(found, known as u64, "{filter}");
            }
        }
        if kind == Kind::Boolean {
            return;
        }
        let there = json!({"not": {"field": name, "op": "is_null"}});
        let find = Find::new()
            .filter_by_name(Filter::from_json(&there).unwrap())
            .sort(Sort::asc(name.clone()))
            .limit(200);
        let page = records.find(&find).await.unwrap();
        let member = |json: &Json| kind.values().iter().position(|value| *value == json[&name]);
        let found: Vec<usize> = page
            .items
            .iter()
            .map(|row| member(&row.get("custom_fields").to_json()).unwrap())
            .collect();
        let mut known: Vec<usize> = live
            .iter()
            .filter_map(|known| known.values[place])
            .collect();
        known.sort_unstable();
        assert_eq!(found, known, "sorted by {name}");
        let groups: Aggregate<()> =
            serde_json::from_value(json!({"group_by": [{"field": name}], "measures": ["count"]}))
                .unwrap();
        let groups = records.aggregate(&groups).await.unwrap();
        let total: u64 = groups.iter().map(|group| group.count(0)).sum();
        assert_eq!(total, live.len() as u64);
    }
}

/// C-032, C-036: the same on both backends.
#[test]
fn random_objects_behave_as_described() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let crm = runtime.block_on(async { common::crm() });
    let mut runner = TestRunner::new(Config {
        cases: common::cases(12),
        ..Config::default()
    });
    let mut number = 0;
    let kinds = || prop::collection::vec(prop::sample::select(&KINDS[..]), 1..5);
    let strategy = (kinds(), kinds(), prop::collection::vec(step(), 1..24));
    let number = std::cell::RefCell::new(&mut number);
    let outcome = runner.run(&strategy, |(first, second, steps)| {
        runtime.block_on(async {
            let tenant: usize = {
                let mut number = number.borrow_mut();
                **number += 1;
                **number
            };
            let (_, session) = common::tenant(&crm, &format!("tenant-{tenant}")).await;
            let fields = [first, second];
            for (object, kinds) in OBJECTS.into_iter().zip(&fields) {
                define(&session, object).await;
                for (place, kind) in kinds.iter().enumerate() {
                    let options: &[&str] = match kind {
                        Kind::Picklist => &["low", "high"],
                        _ => &[],
                    };
                    let name = field(place);
                    add(&session, object, &name, (&name, kind.field_type()), options).await;
                }
            }
            let mut run = Run {
                session: &session,
                fields,
                records: Vec::new(),
            };
            for step in &steps {
                run.step(step).await;
            }
            run.compare().await;
        });
        Ok(())
    });
    outcome.unwrap();
}

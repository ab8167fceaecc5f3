//! Random commits, compared with a model that looks at all rows for every check.

use std::collections::BTreeMap;

use chrono::DateTime;
use crm_core::schema::{
    FieldSchema, FieldType, Meta, ObjectRef, ObjectSchema, OnDelete, Row, Value,
};
use crm_core::storage::{
    Change, ChangeSet, Expectation, Scope, StorageError, Unreferenced, Violations,
    check_references, unique_value,
};
use crm_core::{Actor, Id, Stamp};
use proptest::prelude::*;
use uuid::Uuid;

use crate::commit::commit;
use crate::index::{target_of, unique_prefix};
use crate::space::{Spaces, View};

const SCOPE: Scope = Scope::Tenant(Id::new(Uuid::from_u128(99)));

/// Chooses at random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

fn reference(name: &'static str, object: &'static str) -> FieldSchema {
    let field_type = FieldType::Reference {
        object: object.into(),
        on_delete: OnDelete::Restrict,
    };
    FieldSchema::new(name, field_type)
}

fn group() -> ObjectRef {
    ObjectSchema::builder("group", "groups")
        .field(FieldSchema::new("name", FieldType::text(100)))
        .unique(&["name"], false)
        .build()
}

/// Two descriptions of one object; the later one asks for more.
fn part(is_later: bool) -> ObjectRef {
    let builder = ObjectSchema::builder("part", "parts")
        .field(FieldSchema::new("name", FieldType::text(100)))
        .field(FieldSchema::new("code", FieldType::text(100)))
        .field(FieldSchema::new("is_main", FieldType::Boolean))
        .field(reference("group_id", "group"))
        .field(reference("parent_id", "part"))
        .unique(&["name"], true)
        .unique_key(&["code"], false, false, None)
        .unique_key(&["group_id"], false, true, Some("is_main"))
        .index(&["group_id", "name"]);
    if is_later {
        builder
            .unique(&["code", "parent_id"], true)
            .index(&["code"])
            .build()
    } else {
        builder.build()
    }
}

struct Model {
    rows: BTreeMap<(String, Uuid), Row>,
    group: ObjectRef,
    parts: [ObjectRef; 2],
}

impl Model {
    fn new() -> Self {
        Self {
            rows: BTreeMap::new(),
            group: group(),
            parts: [part(false), part(true)],
        }
    }

    fn check(&self, changes: &ChangeSet) -> Result<(), StorageError> {
        let get = |name: &str, id: Uuid| self.rows.get(&(name.to_owned(), id)).cloned();
        let all = |name: &str| -> Vec<Row> {
            self.rows
                .iter()
                .filter(|(key, _)| key.0 == name)
                .map(|(_, row)| row.clone())
                .collect()
        };
        let objects = [self.group.clone(), self.parts[1].clone()];
        Violations::of(changes).check(&get, &all, &objects)
    }

    fn apply(&mut self, changes: &ChangeSet) {
        for change in &changes.changes {
            let key = (change.object().name().to_owned(), change.id());
            match change.after() {
                Some(row) => self.rows.insert(key, row.clone()),
                None => self.rows.remove(&key),
            };
        }
    }

    fn values(&self, dice: &mut Dice, object: &ObjectRef, id: u64, careful: bool) -> Vec<Value> {
        let text = |dice: &mut Dice| match dice.below(6) {
            _ if careful => Value::from(format!("n{id}")),
            0 => Value::Null,
            n => Value::from(["x", "X", "y", "é", "É"][n as usize - 1]),
        };
        if object.name() == "group" {
            return vec![text(dice)];
        }
        let to = |dice: &mut Dice| match dice.below(8) {
            0..3 => Value::Null,
            _ if careful => Value::Null,
            n => Value::Uuid(Uuid::from_u128(u128::from(n))),
        };
        vec![
            text(dice),
            text(dice),
            dice.one_in(2).into(),
            to(dice),
            to(dice),
        ]
    }

    fn change(&self, dice: &mut Dice, id: u64, careful: bool) -> Change {
        let object = match dice.below(4) {
            0 => &self.group,
            1 => &self.parts[1],
            _ => &self.parts[0],
        };
        let uuid = Uuid::from_u128(u128::from(id));
        let stamp = Stamp {
            at: DateTime::UNIX_EPOCH,
            by: Actor::System,
        };
        let build = |dice: &mut Dice, meta: Meta| {
            let mut meta = meta;
            match dice.below(8) {
                0 => meta.deleted_at = Some(DateTime::UNIX_EPOCH),
                1 | 2 => meta.deleted_at = None,
                _ => {}
            }
            object
                .build(meta, self.values(dice, object, id, careful))
                .unwrap()
        };
        let stored = self.rows.get(&(object.name().to_owned(), uuid));
        match stored {
            Some(row) if careful || !dice.one_in(12) => {
                let before = if careful || !dice.one_in(12) {
                    row.clone()
                } else {
                    row.with_meta(row.meta().next(stamp))
                };
                if dice.one_in(4) {
                    return Change::Delete { before };
                }
                let after = if dice.one_in(3) {
                    // As archiving does: the description that the row came with.
                    row.with_meta(row.meta().next(stamp))
                } else {
                    build(dice, row.meta().next(stamp))
                };
                Change::Update { before, after }
            }
            None if !careful && dice.one_in(12) => {
                let before = build(dice, Meta::first(uuid, stamp));
                Change::Delete { before }
            }
            _ => Change::Insert {
                row: build(dice, Meta::first(uuid, stamp)),
            },
        }
    }

    fn change_set(&self, dice: &mut Dice) -> ChangeSet {
        let bulk = dice.one_in(8);
        let (count, ids) = if bulk {
            (80, 120)
        } else {
            (1 + dice.below(5), 9)
        };
        let mut changes: Vec<Change> = Vec::new();
        for _ in 0..count {
            let id = 1 + dice.below(ids);
            let change = self.change(dice, id, bulk);
            let twice = changes
                .iter()
                .any(|other| other.id() == change.id() && other.object() == change.object());
            if !twice {
                changes.push(change);
            }
        }
        let mut expects = Vec::new();
        if dice.one_in(4) {
            for row in self.rows.values().take(2) {
                let version = row.version() + i64::from(dice.one_in(8));
                expects.push(Expectation {
                    object: row.object().clone(),
                    id: row.id(),
                    version,
                });
            }
        }
        let unreferenced = self.unreferenced(dice, &changes);
        ChangeSet::new(Uuid::nil(), DateTime::UNIX_EPOCH, changes, expects)
            .with_unreferenced(unreferenced)
    }

    /// What is said of rows that are deleted, and now and then of any row.
    fn unreferenced(&self, dice: &mut Dice, changes: &[Change]) -> Vec<Unreferenced> {
        let mut unreferenced = Vec::new();
        for change in changes {
            let is_deleted = change.after().is_some_and(|after| after.is_deleted());
            if !dice.one_in(if is_deleted { 2 } else { 60 }) {
                continue;
            }
            let object = &self.parts[usize::from(dice.one_in(2))];
            for field in object.references() {
                if target_of(object, *field) == change.object().name() {
                    unreferenced.push(Unreferenced {
                        object: object.clone(),
                        field: *field,
                        id: change.id(),
                    });
                }
            }
        }
        unreferenced
    }
}

/// What kind of answer it is. Of a change set that is wrong in several ways, any may be told among
/// those that are checked together.
fn kind(result: &Result<(), StorageError>) -> &'static str {
    match result {
        Ok(()) => "ok",
        Err(StorageError::Conflict { .. }) => "version or id",
        Err(StorageError::Duplicate { fields, .. }) if fields == &["id"] => "version or id",
        Err(StorageError::Duplicate { .. }) => "duplicate",
        Err(StorageError::Reference { .. }) => "reference",
        Err(StorageError::Referenced { .. }) => "referenced",
        Err(_) => "other",
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn commits_do_what_the_model_does(seed: u64, steps in 1_usize..60) {
        let mut dice = Dice(seed);
        let mut model = Model::new();
        let spaces = Spaces::default();
        for _ in 0..steps {
            let changes = model.change_set(&mut dice);
            // A snapshot that is held meanwhile stays as it is.
            let held = dice.one_in(3).then(|| (spaces.snapshot(&SCOPE, false), model.rows.clone()));
            let wanted = model.check(&changes);
            let given = commit(&spaces, &SCOPE, &changes).map(|committed| {
                assert_eq!(committed.rows, changes.changes.len());
            });
            prop_assert_eq!(kind(&given), kind(&wanted), "{:?} {:?} {:?}", given, wanted, changes);
            if let (Err(StorageError::Duplicate { fields: a, .. }), Err(StorageError::Duplicate { fields: b, .. })) =
                (&given, &wanted)
            {
                prop_assert_eq!(a, b);
            }
            if wanted.is_ok() {
                model.apply(&changes);
            }
            if let Some((snapshot, rows)) = &held {
                prop_assert!(holds(snapshot.view(), rows));
            }
            let snapshot = spaces.snapshot(&SCOPE, false);
            prop_assert!(holds(snapshot.view(), &model.rows));
            prop_assert!(snapshot.view().tables().all(|(_, table)| table.is_consistent()));
        }
    }

    /// Both say the same of which rows count in a key, and of which are the same in it.
    #[test]
    fn unique_bytes_are_equal_where_unique_values_are(seed: u64) {
        let mut dice = Dice(seed);
        let model = Model::new();
        let part = &model.parts[1];
        let row = |dice: &mut Dice| {
            let mut meta = Meta::first(Uuid::nil(), Stamp { at: DateTime::UNIX_EPOCH, by: Actor::System });
            meta.deleted_at = dice.one_in(3).then_some(DateTime::UNIX_EPOCH);
            part.build(meta, model.values(dice, part, 1, false)).unwrap()
        };
        for _ in 0..20 {
            let (a, b) = (row(&mut dice), row(&mut dice));
            for key in part.unique_keys() {
                prop_assert_eq!(unique_prefix(key, &*a).is_some(), unique_value(key, &*a).is_some());
                prop_assert_eq!(
                    unique_prefix(key, &*a) == unique_prefix(key, &*b),
                    unique_value(key, &*a) == unique_value(key, &*b)
                );
            }
        }
    }
}

fn holds(view: View<'_>, rows: &BTreeMap<(String, Uuid), Row>) -> bool {
    let stored: usize = view.tables().map(|(_, table)| table.rows().len()).sum();
    stored == rows.len()
        && rows.iter().all(|((name, id), row)| {
            view.row_of(name, *id)
                .is_some_and(|own| std::sync::Arc::ptr_eq(own, row))
        })
}

fn part_row(id: u128, name: &str) -> Row {
    let meta = Meta::first(
        Uuid::from_u128(id),
        Stamp {
            at: DateTime::UNIX_EPOCH,
            by: Actor::System,
        },
    );
    let values = vec![
        name.into(),
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
    ];
    part(false).build(meta, values).unwrap()
}

fn renamed(row: &Row, name: &str) -> Change {
    let mut values = row.values();
    values[0] = name.into();
    let after = row
        .with_values(row.meta().next(row.meta().created), values)
        .unwrap();
    Change::Update {
        before: row.clone(),
        after,
    }
}

fn write(spaces: &Spaces, changes: Vec<Change>) -> Result<(), StorageError> {
    let changes = ChangeSet::new(Uuid::nil(), DateTime::UNIX_EPOCH, changes, Vec::new());
    assert!(check_references(&changes).is_empty());
    commit(spaces, &SCOPE, &changes).map(drop)
}

#[test]
fn unique_values_are_swapped_in_one_commit() {
    let spaces = Spaces::default();
    let (a, b) = (part_row(1, "a"), part_row(2, "b"));
    write(
        &spaces,
        [&a, &b]
            .map(|row| Change::Insert { row: row.clone() })
            .into(),
    )
    .unwrap();
    let half = write(&spaces, vec![renamed(&a, "B")]);
    assert!(matches!(half, Err(StorageError::Duplicate { .. })));
    write(&spaces, vec![renamed(&a, "b"), renamed(&b, "a")]).unwrap();
}

#[test]
fn a_row_is_changed_once_a_commit() {
    let spaces = Spaces::default();
    let a = part_row(1, "a");
    let insert = || Change::Insert { row: a.clone() };
    let twice = write(&spaces, vec![insert(), insert()]);
    assert!(matches!(twice, Err(StorageError::Duplicate { fields, .. }) if fields == ["id"]));
    write(&spaces, vec![insert()]).unwrap();
    let twice = write(&spaces, vec![renamed(&a, "b"), renamed(&a, "c")]);
    assert!(matches!(twice, Err(StorageError::Conflict { .. })));
    let both = write(
        &spaces,
        vec![Change::Delete { before: a.clone() }, renamed(&a, "c")],
    );
    assert!(matches!(both, Err(StorageError::Conflict { .. })));
    let version = |view: View<'_>| view.row_of("part", a.id()).map(|row| row.version());
    assert_eq!(spaces.look(&SCOPE, false, version), Some(1));
}

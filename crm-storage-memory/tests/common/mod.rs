//! Objects, rows and dice for the tests of this crate.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use crm_core::schema::{FieldSchema, FieldType, Meta, ObjectRef, OnDelete, Row, Value};
use crm_core::storage::{Change, ChangeSet, Committed, Scope, Storage, StorageError};
use crm_core::{Actor, Id, Stamp};
use crm_storage_memory::MemoryStorage;
use uuid::Uuid;

/// Chooses at random, the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `times`.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

pub(crate) fn tenant(number: u128) -> Scope {
    Scope::Tenant(Id::new(Uuid::from_u128(number)))
}

pub(crate) fn moment(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

pub(crate) fn stamp(seconds: i64) -> Stamp {
    Stamp {
        at: moment(seconds),
        by: Actor::System,
    }
}

pub(crate) fn meta(id: u128) -> Meta {
    Meta::first(Uuid::from_u128(id), stamp(0))
}

pub(crate) fn text(name: &'static str) -> FieldSchema {
    FieldSchema::new(name, FieldType::text(100))
}

pub(crate) fn integer(name: &'static str) -> FieldSchema {
    FieldSchema::new(
        name,
        FieldType::Integer {
            min: i64::MIN,
            max: i64::MAX,
        },
    )
}

pub(crate) fn reference(name: &'static str, object: &'static str) -> FieldSchema {
    let field_type = FieldType::Reference {
        object: object.into(),
        on_delete: OnDelete::Restrict,
    };
    FieldSchema::new(name, field_type)
}

pub(crate) fn row(object: &ObjectRef, id: u128, values: Vec<Value>) -> Row {
    object.build(meta(id), values).expect("the values fit")
}

/// The next version of a row with other values.
pub(crate) fn next(row: &Row, values: Vec<Value>) -> Row {
    row.with_values(row.meta().next(stamp(row.version())), values)
        .expect("the values fit")
}

pub(crate) fn insert(row: &Row) -> Change {
    Change::Insert { row: row.clone() }
}

pub(crate) fn update(before: &Row, after: &Row) -> Change {
    Change::Update {
        before: before.clone(),
        after: after.clone(),
    }
}

pub(crate) fn delete(before: &Row) -> Change {
    Change::Delete {
        before: before.clone(),
    }
}

pub(crate) fn change_set(changes: Vec<Change>) -> ChangeSet {
    ChangeSet::new(Uuid::from_u128(1), moment(0), changes, Vec::new())
}

pub(crate) fn commit(
    storage: &MemoryStorage,
    scope: &Scope,
    changes: Vec<Change>,
) -> Result<Committed, StorageError> {
    pollster::block_on(storage.commit(scope, &change_set(changes)))
}

pub(crate) fn get(
    storage: &MemoryStorage,
    scope: &Scope,
    object: &ObjectRef,
    id: u128,
) -> Option<Row> {
    let ids = [Uuid::from_u128(id)];
    pollster::block_on(storage.get(scope, object, &ids))
        .expect("an answer")
        .pop()
}

pub(crate) fn day(number: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 1, number).expect("a day")
}

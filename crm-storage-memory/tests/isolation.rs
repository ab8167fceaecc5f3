//! What one tenant writes, no other sees; of the platform's rows each tenant sees its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expects"
)]

mod common;

use common::{commit, delete, get, insert, next, reference, row, tenant, text, update};
use crm_core::query::{AggregateQuery, Condition, Query};
use crm_core::schema::{ObjectRef, ObjectSchema, Row, Value};
use crm_core::storage::{Claim, Scope, Storage, StorageError};
use crm_storage_memory::MemoryStorage;

fn company() -> ObjectRef {
    ObjectSchema::builder("company", "companies")
        .platform()
        .field(text("slug"))
        .unique(&["slug"], true)
        .build()
}

fn note() -> ObjectRef {
    ObjectSchema::builder("note", "notes")
        .field(text("title"))
        .field(reference("company_id", "company"))
        .field(reference("about_id", "note"))
        .unique(&["title"], true)
        .build()
}

fn note_row(id: u128, title: &str) -> Row {
    row(&note(), id, vec![title.into(), Value::Null, Value::Null])
}

fn all(storage: &MemoryStorage, scope: &Scope, object: &ObjectRef) -> Vec<u128> {
    let query = Query::new(object, Condition::all());
    let rows = pollster::block_on(storage.select(scope, &query)).unwrap();
    rows.iter().map(|row| row.id().as_u128()).collect()
}

fn count(storage: &MemoryStorage, scope: &Scope, object: &ObjectRef) -> u64 {
    let query = AggregateQuery::count(object, Condition::all());
    pollster::block_on(storage.aggregate(scope, &query)).unwrap()[0].count(0)
}

#[test]
fn tenants_have_the_same_ids_and_unique_values_and_never_meet() {
    let storage = MemoryStorage::new();
    let mine = note_row(1, "Same");
    commit(&storage, &tenant(1), vec![insert(&mine)]).unwrap();
    commit(&storage, &tenant(2), vec![insert(&note_row(1, "Same"))]).unwrap();
    commit(&storage, &tenant(2), vec![insert(&note_row(2, "Other"))]).unwrap();
    assert_eq!(all(&storage, &tenant(1), &note()), [1]);
    assert_eq!(count(&storage, &tenant(2), &note()), 2);
    assert_eq!(count(&storage, &tenant(3), &note()), 0);
    assert!(get(&storage, &tenant(1), &note(), 2).is_none());

    // A foreign row looks like a missing one to writes and references too.
    let foreign = note_row(2, "Other");
    let changed = next(&foreign, foreign.values());
    let conflict = commit(&storage, &tenant(1), vec![update(&foreign, &changed)]);
    assert!(
        matches!(conflict, Err(StorageError::Conflict { .. })),
        "{conflict:?}"
    );
    let about = row(
        &note(),
        3,
        vec!["New".into(), Value::Null, Value::Uuid(foreign.id())],
    );
    let missing = commit(&storage, &tenant(1), vec![insert(&about)]);
    assert!(
        matches!(missing, Err(StorageError::Reference { .. })),
        "{missing:?}"
    );
    commit(&storage, &tenant(1), vec![delete(&mine)]).unwrap();
    assert_eq!(count(&storage, &tenant(2), &note()), 2);
}

#[test]
fn a_tenant_sees_and_writes_only_its_own_platform_row() {
    let storage = MemoryStorage::new();
    let company = company();
    let (acme, globex) = (
        row(&company, 1, vec!["acme".into()]),
        row(&company, 2, vec!["globex".into()]),
    );
    let foreign = commit(&storage, &tenant(1), vec![insert(&globex)]);
    assert!(
        matches!(foreign, Err(StorageError::Conflict { .. })),
        "{foreign:?}"
    );
    commit(&storage, &tenant(1), vec![insert(&acme)]).unwrap();
    // Unique over all tenants.
    let same = row(&company, 2, vec!["ACME".into()]);
    let duplicate = commit(&storage, &tenant(2), vec![insert(&same)]);
    assert!(
        matches!(duplicate, Err(StorageError::Duplicate { .. })),
        "{duplicate:?}"
    );
    commit(&storage, &tenant(2), vec![insert(&globex)]).unwrap();

    assert_eq!(all(&storage, &tenant(1), &company), [1]);
    assert_eq!(count(&storage, &tenant(2), &company), 1);
    assert!(get(&storage, &tenant(1), &company, 2).is_none());
    let taken = commit(&storage, &tenant(1), vec![delete(&globex)]);
    assert!(
        matches!(taken, Err(StorageError::Conflict { .. })),
        "{taken:?}"
    );
    let to_foreign = row(
        &note(),
        5,
        vec!["N".into(), Value::Uuid(globex.id()), Value::Null],
    );
    let missing = commit(&storage, &tenant(1), vec![insert(&to_foreign)]);
    assert!(
        matches!(missing, Err(StorageError::Reference { .. })),
        "{missing:?}"
    );

    // The platform sees all tenants, nothing of theirs, and writes nothing.
    assert_eq!(all(&storage, &Scope::Platform, &company), [1, 2]);
    commit(&storage, &tenant(1), vec![insert(&note_row(9, "Mine"))]).unwrap();
    assert_eq!(count(&storage, &Scope::Platform, &note()), 0);
    let refused = commit(&storage, &Scope::Platform, vec![delete(&acme)]);
    assert!(
        matches!(refused, Err(StorageError::Conflict { .. })),
        "{refused:?}"
    );
    let assign = vec![(10, Value::from("stolen"))];
    let claim = |object: &ObjectRef| {
        Claim::new(
            object.clone(),
            Condition::all(),
            Vec::new(),
            9,
            assign.clone(),
            common::stamp(9),
        )
    };
    let claimed = pollster::block_on(storage.claim(&Scope::Platform, &claim(&note()))).unwrap();
    assert!(claimed.is_empty());
    let claimed = pollster::block_on(storage.claim(&tenant(2), &claim(&company))).unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(get(&storage, &tenant(1), &company, 1).unwrap().version(), 1);
}

#[test]
fn a_tenant_and_its_platform_row_come_into_being_together() {
    let storage = MemoryStorage::new();
    let acme = row(&company(), 1, vec!["acme".into()]);
    let first = row(
        &note(),
        7,
        vec!["Hello".into(), Value::Uuid(acme.id()), Value::Null],
    );
    commit(&storage, &tenant(1), vec![insert(&first), insert(&acme)]).unwrap();
    // Nothing of a commit that fails in the other space.
    let globex = row(&company(), 2, vec!["Acme".into()]);
    let second = row(&note(), 8, vec!["Hello".into(), Value::Null, Value::Null]);
    let duplicate = commit(&storage, &tenant(2), vec![insert(&second), insert(&globex)]);
    assert!(
        matches!(duplicate, Err(StorageError::Duplicate { .. })),
        "{duplicate:?}"
    );
    assert_eq!(count(&storage, &tenant(2), &note()), 0);
    // The note holds its company.
    let held = commit(&storage, &tenant(1), vec![delete(&acme)]);
    assert!(
        matches!(held, Err(StorageError::Referenced { .. })),
        "{held:?}"
    );
    commit(&storage, &tenant(1), vec![delete(&acme), delete(&first)]).unwrap();
    assert!(all(&storage, &Scope::Platform, &company()).is_empty());
}

#[test]
fn debug_output_and_clones() {
    let storage = MemoryStorage::new();
    commit(&storage, &tenant(1), vec![insert(&note_row(1, "Secret"))]).unwrap();
    assert_eq!(format!("{storage:?}"), "MemoryStorage { tenants: 1, .. }");
    let other = storage.clone();
    assert_eq!(count(&other, &tenant(1), &note()), 1);
}

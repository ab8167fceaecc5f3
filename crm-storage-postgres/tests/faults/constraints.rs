//! What the server's constraints say, by the names of objects and fields.

use std::sync::Arc;

use crm_core::schema::{Meta, Row};
use crm_core::storage::conformance::{self, Chore, Laboratory, Part, Reading, Specimen};
use crm_core::storage::{Storage as _, StorageError};
use crm_core::{Id, Record};
use crm_storage_postgres::PostgresStorage;
use crm_test_postgres::{Database, Server};

use crate::common::{
    changes, execute, insert, new_id, new_scope, next, now, remove, row, shared, stamp, storage_on,
};

/// Every unique key of the suite's objects: two rows that have it in common, and its fields.
fn twins() -> Vec<([Row; 2], &'static str, Vec<&'static str>)> {
    let pair = |one: Specimen, two: Specimen, fields: &[&'static str]| {
        ([row(one), row(two)], "specimen", fields.to_vec())
    };
    let coded = |code: &str| Specimen {
        code: Some(code.into()),
        ..Specimen::new("coded")
    };
    let numbered = Specimen {
        serial: Some(7),
        ..Specimen::new("numbered")
    };
    let placed = Specimen {
        shelf: Some("North".into()),
        slot: Some(3),
        ..Specimen::new("placed")
    };
    let default = Specimen {
        room: Some("Hall".into()),
        is_default: true,
        ..Specimen::new("default")
    };
    vec![
        pair(coded("Abc"), coded("aBC"), &["code"]),
        pair(numbered.clone(), numbered, &["serial"]),
        pair(placed.clone(), placed, &["shelf", "slot"]),
        pair(default.clone(), default, &["room"]),
    ]
}

async fn assert_constraints_are_named(storage: &PostgresStorage) {
    for ([one, two], object, fields) in twins() {
        let scope = new_scope();
        storage
            .commit(&scope, &changes([insert(&one)]))
            .await
            .unwrap();
        for commit in [
            changes([insert(&two)]),
            // Of several rows, and beside others.
            changes([
                insert(&row(Specimen::new("x"))),
                insert(&two),
                insert(&row(Chore::new("q"))),
            ]),
        ] {
            match storage.commit(&scope, &commit).await {
                Err(StorageError::Duplicate {
                    object: found,
                    fields: names,
                }) => {
                    assert_eq!(found, object);
                    assert_eq!(names, fields);
                }
                other => panic!("{fields:?}: {other:?}"),
            }
        }
    }
    // Ids, also those of logs and of the platform.
    let scope = new_scope();
    let laboratory = {
        let meta = Meta::first(scope.tenant().unwrap().uuid(), stamp());
        let subdomain = format!("lab-{}", scope.tenant().unwrap().uuid().simple());
        let data = Laboratory {
            subdomain: Some(subdomain.parse().unwrap()),
            ..Laboratory::new("Lab")
        };
        let row: Row = Arc::new(Record::new(meta, data));
        row
    };
    let specimen = row(Specimen::new("first"));
    for row in [&specimen, &row(Reading::new(now())), &laboratory] {
        storage
            .commit(&scope, &changes([insert(row)]))
            .await
            .unwrap();
        match storage.commit(&scope, &changes([insert(row)])).await {
            Err(StorageError::Duplicate { object, fields }) => {
                assert_eq!(
                    (&*object, &*fields),
                    (row.object().name(), &["id".to_owned()][..])
                );
            }
            other => panic!("{other:?}"),
        }
    }
    // A unique value that all tenants share.
    let other = new_scope();
    let meta = Meta::first(other.tenant().unwrap().uuid(), stamp());
    let data = Record::<Laboratory>::from_row(laboratory)
        .unwrap()
        .data
        .clone();
    let twin: Row = Arc::new(Record::new(meta, data));
    match storage.commit(&other, &changes([insert(&twin)])).await {
        Err(StorageError::Duplicate { object, fields }) => {
            assert_eq!(
                (&*object, &*fields),
                ("laboratory", &["subdomain".to_owned()][..])
            );
        }
        other => panic!("{other:?}"),
    }
    // References into nothing, and rows that others refer to.
    let part = row(Part::new(Id::new(new_id())));
    match storage.commit(&scope, &changes([insert(&part)])).await {
        Err(StorageError::Reference { object, field }) => {
            assert_eq!((&*object, &*field), ("part", "specimen_id"));
        }
        other => panic!("{other:?}"),
    }
    let part = row(Part {
        copy_of_id: Some(Id::new(specimen.id())),
        ..Part::new(Id::new(specimen.id()))
    });
    let owner = row(Specimen::new("another"));
    let part = next(&part, |part: &mut Part| {
        part.specimen_id = Id::new(owner.id());
    });
    let part = part.with_meta(Meta::first(part.id(), stamp()));
    storage
        .commit(&scope, &changes([insert(&owner), insert(&part)]))
        .await
        .unwrap();
    for (target, name) in [(&specimen, "copy_of_id"), (&owner, "specimen_id")] {
        match storage.commit(&scope, &changes([remove(target)])).await {
            Err(StorageError::Referenced { object, by, field }) => {
                assert_eq!((&*object, &*by, &*field), ("specimen", "part", name));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn refusals_name_objects_and_fields() {
    assert_constraints_are_named(&storage_on(&shared().await).await).await;
}

/// A table that is distributed over machines adds a number to the names of its constraints.
#[tokio::test]
async fn refusals_name_objects_and_fields_also_of_distributed_tables() {
    let server = Server::start(&[]).expect("the tests need PostgreSQL");
    let database = Database::on(&server, "distributed", &conformance::objects())
        .await
        .unwrap();
    let mut owner = database.owner().await.unwrap();
    execute(
        &mut owner,
        "DO $do$ DECLARE r record; BEGIN
             FOR r IN SELECT c.relname FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
                      WHERE c.relnamespace = 'crm'::regnamespace AND i.indisunique
                        AND c.relname NOT LIKE '\\_migrations%' AND c.relkind = 'i' LOOP
                 EXECUTE format('ALTER INDEX crm.%I RENAME TO %I', r.relname, r.relname || '_102008');
             END LOOP;
             FOR r IN SELECT conrelid::regclass AS place, conname FROM pg_constraint
                      WHERE connamespace = 'crm'::regnamespace AND contype = 'f' LOOP
                 EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I',
                                r.place, r.conname, r.conname || '_102009');
             END LOOP;
         END $do$",
    )
    .await;
    assert_constraints_are_named(&storage_on(&database).await).await;
}

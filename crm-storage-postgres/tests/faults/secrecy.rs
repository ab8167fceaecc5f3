//! What errors must not tell.

use std::error::Error as StdError;

use crm_core::Id;
use crm_core::query::{Condition, Filter, Query};
use crm_core::schema::Entity as _;
use crm_core::storage::conformance::{Part, Specimen};
use crm_core::storage::{Change, Storage as _, StorageError};
use crm_storage_postgres::Fault;
use serde_json::json;

use crate::common::{
    assert_fault, changes, everything, execute, fresh, insert, new_id, new_scope, registry, remove,
    row, storage_on, stored, update,
};

/// What every text of the rows contains.
const MARKER: &str = "Zebedee";

/// A specimen with the marker wherever a text can be.
fn marked() -> Specimen {
    Specimen {
        code: Some(format!("{MARKER}-code")),
        serial: Some(4_711_081_547),
        shelf: Some(format!("{MARKER} shelf")),
        slot: Some(1),
        room: Some(format!("{MARKER} room")),
        is_default: true,
        notes: Some(format!("{MARKER}\nnotes")),
        origin: Some(format!("{MARKER} origin")),
        email: Some(format!("{MARKER}@museum.example").parse().unwrap()),
        homepage: Some(format!("https://museum.example/{MARKER}").parse().unwrap()),
        tags: vec![MARKER.to_owned()],
        labels: Some(vec![MARKER.to_owned()]),
        details: Some(json!({ MARKER: MARKER })),
        extra: json!({ MARKER: MARKER }),
        secret: Some(format!("{MARKER} secret")),
        ..Specimen::new(format!("{MARKER} name"))
    }
}

#[track_caller]
fn assert_tells_nothing(error: &StorageError) {
    let mut chain: Option<&dyn StdError> = Some(error);
    while let Some(link) = chain {
        for text in [link.to_string(), format!("{link:?}"), format!("{link:#?}")] {
            let lower = text.to_lowercase();
            assert!(!lower.contains(&MARKER.to_lowercase()), "{text}");
            assert!(!lower.contains("4711081547"), "{text}");
        }
        chain = link.source();
    }
}

#[tokio::test]
async fn errors_never_tell_a_value() {
    let database = fresh();
    let mut owner = database.owner().await.unwrap();
    let storage = storage_on(&database).await;
    let mut told = Vec::new();
    let mut note = |what: &str, outcome: Result<(), StorageError>| {
        let error = outcome.expect_err(what);
        assert_tells_nothing(&error);
        told.push(what.to_owned());
        error
    };
    let scope = new_scope();
    let known = row(marked());
    storage
        .commit(&scope, &changes([insert(&known)]))
        .await
        .unwrap();
    let commit = async |list: Vec<Change>| storage.commit(&scope, &changes(list)).await.map(|_| ());
    let read = async || storage.select(&scope, &everything()).await.map(|_| ());

    note("a duplicate", commit(vec![insert(&row(marked()))]).await);
    note("the same id", commit(vec![insert(&known)]).await);
    let orphan = row(Specimen {
        parent_id: Some(Id::new(new_id())),
        code: None,
        serial: None,
        slot: None,
        room: None,
        ..marked()
    });
    note("a reference", commit(vec![insert(&orphan)]).await);
    let stale = update(&known, |known: &mut Specimen| known.quantity = 1);
    commit(vec![update(&known, |known: &mut Specimen| {
        known.quantity = 2;
    })])
    .await
    .unwrap();
    note("a conflict", commit(vec![stale]).await);
    let plain = || {
        row(Specimen {
            code: None,
            serial: None,
            slot: None,
            room: None,
            ..marked()
        })
    };
    let part = row(Part::new(Id::new(known.id())));
    commit(vec![insert(&part)]).await.unwrap();
    let known = stored(&storage, &scope, &known).await;
    note("a referenced row", commit(vec![remove(&known)]).await);

    // A database that is stricter than the schema, or not as the schema says.
    for (what, sql, undo, expected) in [
        (
            "a check",
            "ALTER TABLE crm.specimens ADD CONSTRAINT strict CHECK (name = '') NOT VALID",
            "ALTER TABLE crm.specimens DROP CONSTRAINT strict",
            (Fault::Constraint, "23514"),
        ),
        (
            "a missing value",
            "ALTER TABLE crm.specimens ADD COLUMN wanted text; \
             ALTER TABLE crm.specimens ADD CONSTRAINT there CHECK (wanted IS NOT NULL) NOT VALID",
            "ALTER TABLE crm.specimens DROP COLUMN wanted",
            (Fault::Constraint, "23514"),
        ),
        (
            "a value that is too long",
            "ALTER TABLE crm.specimens ALTER COLUMN secret TYPE varchar(3) USING 'x'",
            "ALTER TABLE crm.specimens ALTER COLUMN secret TYPE varchar(100)",
            (Fault::Constraint, "22001"),
        ),
        (
            "a function that fails",
            "CREATE FUNCTION crm.fail() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'no %', NEW USING DETAIL = NEW::text, HINT = NEW::text, \
             TABLE = 'specimens'; END $$; \
             CREATE TRIGGER fail BEFORE INSERT ON crm.specimens FOR EACH ROW \
             EXECUTE FUNCTION crm.fail()",
            "DROP TRIGGER fail ON crm.specimens",
            (Fault::Other, "P0001"),
        ),
        (
            "a text that is no number",
            "CREATE OR REPLACE FUNCTION crm.fail() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN NEW.quantity = NEW.name::bigint; RETURN NEW; END $$; \
             CREATE TRIGGER fail BEFORE INSERT ON crm.specimens FOR EACH ROW \
             EXECUTE FUNCTION crm.fail()",
            "DROP TRIGGER fail ON crm.specimens",
            (Fault::Constraint, "22P02"),
        ),
        (
            "row-level security",
            "CREATE POLICY nothing ON crm.specimens AS RESTRICTIVE FOR INSERT WITH CHECK (false)",
            "DROP POLICY nothing ON crm.specimens",
            (Fault::NotPermitted, "42501"),
        ),
    ] {
        execute(&mut owner, sql).await;
        for rows in [
            vec![insert(&plain())],
            vec![insert(&plain()), insert(&plain())],
        ] {
            let error = note(what, commit(rows).await);
            assert_fault(&error, expected.0, expected.1);
        }
        execute(&mut owner, undo).await;
    }

    // Stored values that do not fit the schema.
    execute(
        &mut owner,
        "ALTER TABLE crm.specimens DROP CONSTRAINT specimens_state_check; \
         ALTER TABLE crm.specimens ALTER COLUMN state TYPE text; \
         UPDATE crm.specimens SET state = 'Zebedee', email = 'Zebedee', homepage = 'Zebedee'",
    )
    .await;
    let error = note("a stored row that does not fit", read().await);
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error:?}");
    execute(
        &mut owner,
        "ALTER TABLE crm.specimens ALTER COLUMN quantity TYPE text USING 'Zebedee'",
    )
    .await;
    note("a column of another type", read().await);
    // A filter's value.
    let named = Filter::And(vec![
        Filter::eq("name", MARKER),
        Filter::eq("quantity", 4_711_081_547_i64),
    ]);
    let condition = Condition::bind(&named, Specimen::schema(), &registry()).unwrap();
    let query = Query::new(Specimen::schema(), condition);
    let filtered = storage.select(&scope, &query).await.map(|_| ());
    note("a filter over a column of another type", filtered);
    execute(
        &mut owner,
        "ALTER TABLE crm.specimens ALTER COLUMN origin TYPE date USING '2001-01-01'",
    )
    .await;
    note(
        "a value of another type",
        commit(vec![insert(&plain())]).await,
    );
    execute(&mut owner, "DROP TABLE crm.specimens CASCADE").await;
    note("a missing table", commit(vec![insert(&plain())]).await);
    note("a missing table", read().await);
    assert!(told.len() > 15, "{told:?}");
}

//! Sealed values in tables, and triggers that refuse personal values in the clear (C-110).

use chrono::NaiveDate;
use crm_core::schema::Privacy;
use crm_core::schema::{Meta, Row};
use crm_core::storage::{Change, ChangeSet, Scope, Storage as _, StorageError};
use crm_core::{Actor, Id, Stamp};
use crm_storage_postgres::{
    Fault, PostgresFault, PostgresStorage, archive_partitions, drop_encryption_triggers,
    encryption_triggers, ensure_partitions, objects,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::common::*;

/// Every table of an object with something to seal has a column for it, and no other has.
#[tokio::test]
async fn the_tables_of_personal_objects_have_a_column_for_what_is_sealed() {
    let database = Database::migrated("sealed").await;
    let mut connection = database.connection().await;
    let mut expected: Vec<String> = objects()
        .iter()
        .filter(|object| {
            let mut own = object.own_fields().iter();
            own.any(|field| field.privacy != Privacy::Public)
        })
        .map(|object| object.table().to_owned())
        .collect();
    expected.sort();
    assert!(expected.contains(&"contacts".to_owned()), "{expected:?}");
    assert!(
        expected.contains(&"audit_events_archive".to_owned()),
        "{expected:?}"
    );
    let found = "SELECT c.relname::text FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid \
         WHERE c.relnamespace = 'crm'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition \
         AND a.attname = 'sealed' AND a.atttypid = 'bytea'::regtype AND NOT a.attnotnull ORDER BY 1";
    assert_eq!(strings(&mut connection, found).await, expected);
    drop(connection);
    database.drop().await;
}

/// What is sealed of an event goes to the archive with it.
#[tokio::test]
async fn sealed_events_are_archived_as_they_are() {
    let database = Database::migrated("sealed_archive").await;
    let mut connection = database.connection().await;
    let month = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
    run(&mut connection, &event(ACME, 1, "2026-01-10")).await;
    run(
        &mut connection,
        "UPDATE crm.audit_events SET sealed = '\\x00ff', changes = '{}'",
    )
    .await;
    ensure_partitions(&mut connection, "crm", month, 1)
        .await
        .unwrap();
    let before = NaiveDate::from_ymd_opt(2026, 2, 1).unwrap();
    let moved = archive_partitions(&mut connection, "crm", before)
        .await
        .unwrap();
    assert_eq!(moved.len(), 1);
    let found = "SELECT encode(sealed, 'hex') FROM crm.audit_events_archive";
    assert_eq!(strings(&mut connection, found).await, ["00ff"]);
    drop(connection);
    database.drop().await;
}

/// Both tenants have the table of keys; only one has a key.
async fn with_triggers(connection: &mut PgConnection, plain: &[(&str, &str)]) {
    run(
        connection,
        &format!(
            "DROP TABLE IF EXISTS crm.data_keys CASCADE; \
             CREATE TABLE crm.data_keys (tenant_id uuid PRIMARY KEY); \
             GRANT SELECT ON crm.data_keys TO crm_app; \
             INSERT INTO crm.data_keys VALUES ('{ACME}');"
        ),
    )
    .await;
    let ddl = encryption_triggers("crm", &objects(), plain).unwrap();
    run(connection, &ddl).await;
    // It may run again.
    run(connection, &ddl).await;
}

/// The code of a refusal, and the message.
async fn refused(connection: &mut PgConnection, sql: &str) -> Option<(String, String)> {
    let error = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .err()?;
    let error = error.into_database_error().unwrap();
    let code = error.code().unwrap().into_owned();
    Some((code, error.message().to_owned()))
}

#[tokio::test]
async fn personal_values_in_the_clear_are_refused_where_a_tenant_has_keys() {
    let database = Database::migrated("encryption").await;
    let mut connection = database.connection().await;
    let name = [("last_name", "'Lovelace'"), ("custom_fields", "'{}'")];
    run(&mut connection, &contact(ACME, 1, &name)).await;
    with_triggers(&mut connection, &[("contact", "job_title")]).await;

    // New rows, and changed ones.
    let told = refused(&mut connection, &contact(ACME, 2, &name))
        .await
        .unwrap();
    assert_eq!(
        told,
        (
            "CRM06".into(),
            "personal values of a contact are not encrypted".into()
        )
    );
    let touched = "UPDATE crm.contacts SET version = version + 1";
    assert_eq!(refused(&mut connection, touched).await.unwrap().0, "CRM06");
    // Other tenants, and rows that are sealed or left in the clear on purpose, pass.
    assert_eq!(
        refused(&mut connection, &contact(GLOBEX, 3, &name)).await,
        None
    );
    let seal = format!("UPDATE crm.contacts SET sealed = '\\x01', last_name = '{TOKEN}'");
    assert_eq!(refused(&mut connection, &seal).await, None);
    assert_eq!(refused(&mut connection, touched).await, None);
    let open = "UPDATE crm.contacts SET sealed = NULL";
    assert_eq!(refused(&mut connection, open).await.unwrap().0, "CRM06");
    let event = event(ACME, 4, "2026-01-10");
    let event = event.replace("'{}'", "'{\"email\": {\"new\": \"ada@example.org\"}}'");
    assert_eq!(refused(&mut connection, &event).await.unwrap().0, "CRM06");

    // What follows from a document in the clear need not be sealed.
    let value = |object: &str, number: u128| {
        let id = format!("'{}'", Uuid::from_u128(number));
        let of = format!("'{object}'");
        let with = [
            ("id", id.as_str()),
            ("record_id", id.as_str()),
            ("object", &of),
            ("text_value", "'north'"),
        ];
        // Without the field that it is of.
        format!(
            "SET session_replication_role = replica; ALTER TABLE crm.custom_field_values ENABLE ALWAYS TRIGGER \
             refuse_unencrypted; {} SET session_replication_role = origin",
            insert(&crate::common::object("custom_value"), ACME, &with)
        )
    };
    let is_clear = |name: &str| {
        let object = crate::common::object(name);
        let document = object.custom_document().unwrap();
        object.fields()[document].privacy == Privacy::Public
    };
    for (number, name) in ["account", "contact", "deal", "lead"]
        .into_iter()
        .enumerate()
    {
        let told = refused(&mut connection, &value(name, number as u128)).await;
        run(&mut connection, "SET session_replication_role = origin").await;
        assert_eq!(told.is_none(), is_clear(name), "{name}: {told:?}");
    }

    run(
        &mut connection,
        &drop_encryption_triggers("crm", &objects()).unwrap(),
    )
    .await;
    assert_eq!(
        refused(&mut connection, &contact(ACME, 9, &name)).await,
        None
    );
    assert_eq!(drifted(&mut connection).await, Vec::<String>::new());
    drop(connection);
    database.drop().await;
}

/// What stands for a text that is sealed.
const TOKEN: &str = "~abcdefghijklmnopqrstuvw234";

/// Whoever writes to a row that is sealed already leaves nothing in the clear in it either: a sealed
/// field holds nothing, or what stands for a sealed value.
#[tokio::test]
async fn values_in_the_clear_are_refused_in_a_row_that_is_sealed_too() {
    let database = Database::migrated("encryption_sealed").await;
    let mut connection = database.connection().await;
    with_triggers(&mut connection, &[("contact", "job_title")]).await;
    let token = format!("'{TOKEN}'");
    let short = "'~abcdefghijklmno'";
    let sealed = [
        ("last_name", token.as_str()),
        ("email", &token),
        ("email_folded", &token),
        ("phone", short),
        ("sealed", "'\\x01'"),
    ];
    assert_eq!(
        refused(&mut connection, &contact(ACME, 1, &sealed)).await,
        None
    );
    let tokens = format!(r#"{{"{TOKEN}": "{TOKEN}", "~{}": {{}}}}"#, "a".repeat(26));
    let update = |set: &str| format!("UPDATE crm.contacts SET {set}");
    for fine in [
        "version = version + 1",
        "email = NULL, email_folded = NULL",
        "department = ''",
        "custom_fields = '{}'",
        &format!("custom_fields = '{tokens}'"),
        &format!("email = '{TOKEN}', email_folded = '{TOKEN}', phone = {short}"),
        "company = 'Analytical Engines', job_title = 'Countess', tags = '{north}'",
    ] {
        let told = refused(&mut connection, &update(fine)).await;
        assert_eq!(told, None, "{fine}");
    }
    for clear in [
        "last_name = 'Lovelace'",
        "email_folded = 'ada@example.org'",
        "phone = '~short'",
        "mailing_country = 'GB'",
        "description = '~abcdefghijklmnopqrstuvw234 and more'",
        "department = '~ABCDEFGHIJKLMNOPQRSTUVW234'",
        r#"social_profiles = '{"web": "https://ada.example"}'"#,
        r#"custom_fields = '{"nickname": "Ada"}'"#,
        &format!(r#"custom_fields = '{{"{TOKEN}": "Ada"}}'"#),
        &format!(r#"custom_fields = '{{"{TOKEN}": {{"nickname": "Ada"}}}}'"#),
        &format!(r#"custom_fields = '{{"nickname": "{TOKEN}"}}'"#),
    ] {
        let told = refused(&mut connection, &update(clear)).await;
        assert_eq!(told.expect(clear).0, "CRM06", "{clear}");
    }
    let clear = [("last_name", "'Lovelace'"), ("sealed", "'\\x01'")];
    let told = refused(&mut connection, &contact(ACME, 2, &clear)).await;
    assert_eq!(told.unwrap().0, "CRM06");
    // A tenant without keys has nothing sealed; the triggers leave it alone.
    assert_eq!(
        refused(&mut connection, &contact(GLOBEX, 3, &clear)).await,
        None
    );
    // Numbers and days.
    let value = [
        ("number_value", "5"),
        ("sealed", "'\\x01'"),
        ("object", "'contact'"),
    ];
    let value = insert(&object("custom_value"), ACME, &value);
    assert_eq!(refused(&mut connection, &value).await.unwrap().0, "CRM06");
    drop(connection);
    database.drop().await;
}

/// The differences of all tables but that of the keys, which the test made itself.
async fn drifted(connection: &mut PgConnection) -> Vec<String> {
    let mut all = objects();
    all.retain(|object| object.table() != "data_keys");
    let found = crm_storage_postgres::drift(connection, "crm", &all)
        .await
        .unwrap();
    found.iter().map(ToString::to_string).collect()
}

/// A program of the host's that was started without its keys is told why its rows are refused.
#[tokio::test]
async fn the_storage_tells_what_the_triggers_refuse() {
    let database = Database::migrated("encryption_storage").await;
    let mut connection = database.connection().await;
    with_triggers(&mut connection, &[]).await;
    let storage = PostgresStorage::new(database.pool.clone());
    let scope = Scope::Tenant(Id::new(ACME));
    let contact = object("contact");
    let at = chrono::DateTime::UNIX_EPOCH;
    let made = |number: u128, sealed: Option<Vec<u8>>| -> Row {
        let by = Actor::System;
        let meta = Meta::first(Uuid::from_u128(number), Stamp { at, by });
        let mut values = contact.defaults();
        let place = contact.field_index("last_name").unwrap();
        let stands = sealed.as_ref().map_or("Lovelace", |_| TOKEN);
        values[place - crm_core::schema::SYSTEM_FIELDS] = stands.into();
        contact.build_sealed(meta, values, sealed).unwrap()
    };
    let commit = async |row: Row| {
        let changes = vec![Change::Insert { row }];
        let changes = ChangeSet::new(Uuid::from_u128(1), at, changes, Vec::new());
        storage.commit(&scope, &changes).await
    };
    let error = commit(made(1, None)).await.unwrap_err();
    let StorageError::Failed(source) = &error else {
        panic!("{error:?}");
    };
    let fault = source.downcast_ref::<PostgresFault>().unwrap();
    assert_eq!((fault.fault(), fault.code()), (Fault::Unencrypted, "CRM06"));
    assert!(!error.is_retryable());
    assert!(!format!("{fault}").contains("Lovelace"));
    let sealed = made(2, Some(vec![1, 2, 3]));
    commit(sealed.clone()).await.unwrap();
    // To be in the clear again is refused too.
    let opened = made(2, None);
    let error = storage.reseal(&scope, &[opened]).await.unwrap_err();
    assert!(error.to_string().contains("failed"), "{error}");
    let stored = storage.get(&scope, &contact, &[sealed.id()]).await.unwrap();
    assert_eq!(stored[0].sealed(), sealed.sealed());
    drop(connection);
    database.drop().await;
}

//! The dump scan: every personal and sensitive field of every object holds a marker of its own, and none
//! is found in what a thief of the database gets.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;

use crm_engine::custom_objects::{CustomField, CustomFieldType};
use crm_engine::prelude::*;
use crm_engine::query::{Condition, Query};
use crm_engine::schema::{FieldType, Lifecycle, ObjectRef, Privacy};
use crm_engine::storage::Storage;
use crm_engine::tenancy::Tenant;
use crm_engine::value::ApiName;
use crm_engine::{MemoryStorage, PostgresStorage};
use crm_test_postgres::Database;
use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::common::{Property, backend, populate, rows_of};
use crate::privacy::marker::{MARKER, Planter, concern_everything};

/// How the tenant pays.
const IBAN: &str = "DE02120300000000202051";

/// A storage that keeps what it is given, and the database behind it where there is one.
fn storage() -> (Arc<dyn Storage>, Option<Database>) {
    if !backend::is_postgres() {
        return (Arc::new(MemoryStorage::new()), None);
    }
    let objects = [Property::schema().clone()];
    let database = Database::fresh(&objects).unwrap();
    let pool = database.lazy_pool(10).unwrap();
    let builder = PostgresStorage::builder().named_object(&objects[0]);
    (Arc::new(builder.build(pool)), Some(database))
}

/// All that a storage keeps of a tenant: each row of every object as text, with its bytes.
async fn rows_in(inner: &Arc<dyn Storage>, session: &Session) -> Vec<String> {
    let mut objects: Vec<ObjectRef> = Vec::new();
    let registry = session.registry().await.unwrap();
    objects.extend(registry.objects().values().cloned());
    for name in ["viewing", "viewing_visitors"] {
        objects.extend(registry.any_object(name));
    }
    let mut all = Vec::new();
    for object in objects {
        let query = Query::new(&object, Condition::all());
        for row in inner.select(session.scope(), &query).await.unwrap() {
            let text = serde_json::to_string(&row.to_json()).unwrap();
            let sealed = row
                .sealed()
                .map(|sealed| String::from_utf8_lossy(sealed).into_owned());
            all.push(format!("{}: {text} {row:?} {sealed:?}", object.name()));
        }
    }
    all
}

/// Every row of every table of every schema of the host and the CRM, as the owner of the database sees it,
/// and what `pg_dump` writes, where it is installed.
async fn tables_in(database: &Database) -> Vec<String> {
    let mut owner = database.owner().await.unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'm')",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert!(tables.len() > 50, "{tables:?}");
    let mut found = Vec::new();
    for table in tables {
        let sql = format!("SELECT t::text FROM {table} AS t");
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&mut owner)
            .await
            .unwrap();
        found.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
    }
    let dump = Command::new("pg_dump").arg(database.owner_url()).output();
    if let Ok(dump) = dump
        && dump.status.success()
    {
        let text = String::from_utf8_lossy(&dump.stdout).into_owned();
        assert!(
            text.contains("COPY crm.contacts"),
            "it is a dump of the database"
        );
        found.extend(text.lines().map(|line| format!("pg_dump: {line}")));
    }
    found
}

/// The markers that stand in a text.
fn markers(text: &str) -> impl Iterator<Item = &str> {
    let length = MARKER.len() + 3;
    text.match_indices(MARKER)
        .filter_map(move |(at, _)| text.get(at..at + length))
}

/// The database refuses personal values in the clear (C-110).
async fn with_triggers(database: &Database) {
    let mut objects = crm_engine::postgres::objects();
    objects.push(Property::schema().clone());
    let ddl = crm_engine::postgres::encryption_triggers("crm", &objects, &[]).unwrap();
    let mut owner = database.owner().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(ddl))
        .execute(&mut owner)
        .await
        .unwrap();
}

/// C-080, R-006: no personal value is anywhere in the database.
#[tokio::test]
async fn no_personal_value_is_in_the_database() {
    let (inner, database) = storage();
    if let Some(database) = &database {
        with_triggers(database).await;
    }
    let encrypted: Arc<dyn Storage> = Arc::new(backend::encrypted(inner.clone()).build());
    let crm = crm_engine::Crm::builder(encrypted.clone())
        .object::<Property>()
        .build();
    let world = populate(&crm, "acme").await;
    let session = &world.session;
    let address = format!("{MARKER}.hank@markers.example");
    let contact = concern_everything(&world, &address).await;

    // Public custom values that are searched for beside the account's address.
    let segment = ApiName::parse("segment").unwrap();
    let field = CustomField {
        is_searchable: true,
        ..CustomField::new(
            ApiName::parse("account").unwrap(),
            segment,
            "Segment",
            CustomFieldType::Text(Default::default()),
        )
    };
    session
        .records::<CustomField>()
        .create(field)
        .await
        .unwrap();
    let set = |account: &mut Account| {
        account.custom_fields = json!({"segment": "Keyholders"});
        account.email =
            Some(EmailAddress::parse(&format!("{MARKER}.desk@globex.example")).unwrap());
    };
    session.accounts().update(world.account, set).await.unwrap();

    // What is no text, and what has a form of its own.
    let spelled = [
        "1911-11-17",
        "2025550188",
        "555-0188",
        "Scorpio",
        "Simmons",
        "whsec_",
        IBAN,
        &address,
    ];
    let set = |contact: &mut Contact| {
        contact.phone = Some(PhoneNumber::parse("+1 202-555-0188").unwrap());
    };
    session.contacts().update(contact, set).await.unwrap();
    let set = |user: &mut User| {
        user.birth_date = Some("1911-11-17".parse().unwrap());
        user.mobile = Some(PhoneNumber::parse("+1 202-555-0188").unwrap());
    };
    session.users().update(world.user, set).await.unwrap();

    let set = |tenant: &mut Tenant| {
        tenant.billing_info = Some(json!({"iban": IBAN, "holder": "Scorpio"}));
    };
    let own = session.tenant().unwrap();
    session.records::<Tenant>().update(own, set).await.unwrap();

    let mut planter = Planter {
        storage: &encrypted,
        session,
        count: 0,
        all: BTreeMap::new(),
        planted: BTreeMap::new(),
        formed: BTreeSet::new(),
        objects: BTreeSet::new(),
        by_rules: 0,
    };
    let registry = session.registry().await.unwrap();
    let mut meant = BTreeSet::new();
    for object in registry.objects().values() {
        let is_text = |field: &crm_engine::schema::FieldSchema| {
            field.privacy != Privacy::Public
                && matches!(
                    field.field_type,
                    FieldType::Text { .. }
                        | FieldType::Email
                        | FieldType::Url { .. }
                        | FieldType::List
                        | FieldType::Json
                )
        };
        let fields = object.own_fields().iter().filter(|field| is_text(field));
        if object.lifecycle() == Lifecycle::Full && !object.is_template() {
            meant.extend(fields.map(|field| format!("{}.{}", object.name(), field.name)));
        }
        if object.lifecycle() != Lifecycle::Full || object.name() == Tenant::schema().name() {
            continue;
        }
        let Some(row) = rows_of(session, object.name()).await.into_iter().next() else {
            continue;
        };
        planter.plant(object, &row, &address).await;
    }
    let planted: BTreeSet<String> = planter
        .all
        .values()
        .map(|(object, field)| format!("{object}.{field}"))
        .collect();
    let missing: Vec<_> = meant
        .difference(&planted)
        .filter(|field| !field.ends_with("custom_fields") && !field.ends_with("_e164"))
        .collect();
    let formed: Vec<_> = missing
        .iter()
        .filter(|field| !planter.formed.contains(**field))
        .collect();
    assert!(formed.len() < 4, "no marker in {formed:?}");
    assert!(
        planter.all.len() > 100,
        "only {} markers",
        planter.all.len()
    );

    // They are there for who has the keys,
    let seen = rows_in(&encrypted, session).await.join("\n");
    assert!(seen.contains("keyholders"), "words of accounts are kept");
    for marker in planter.planted.keys() {
        assert!(
            seen.contains(marker),
            "{marker} is lost: {:?}",
            planter.planted[marker]
        );
    }
    for text in ["1911-11-17", "2025550188", "Scorpio", IBAN] {
        assert!(seen.contains(text), "{text}");
    }
    // and for nobody else.
    let mut stored = rows_in(&inner, session).await;
    if let Some(database) = &database {
        stored.extend(tables_in(database).await);
    }
    let mut told = BTreeSet::new();
    for row in &stored {
        for marker in markers(row) {
            let place = planter.all.get(marker);
            let is_public = place.is_some_and(|(object, field)| {
                let object = registry.object(object).unwrap();
                object.field(field).unwrap().privacy == Privacy::Public
            });
            if !is_public {
                told.insert(format!(
                    "{marker} of {place:?} in {}",
                    row.chars().take(300).collect::<String>()
                ));
            }
        }
        for text in spelled {
            if row.contains(text) {
                told.insert(format!(
                    "{text} in {}",
                    row.chars().take(300).collect::<String>()
                ));
            }
        }
    }
    assert!(told.is_empty(), "{told:#?}");
}

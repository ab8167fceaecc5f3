//! Whatever changes in a row, in memory or in a database, is told.

use std::sync::Arc;

use crm_engine::PostgresStorage;
use crm_engine::audit::seal::{Ed25519Signer, Ed25519Verifier, SealProblem};
use crm_engine::audit::{AuditSeal, Sealing, Verification};
use crm_engine::prelude::*;
use crm_engine::schema::{Row, SYSTEM_FIELDS, Value};
use crm_engine::storage::{Change, StorageError};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use super::{Place, World, other, problems};

/// Every field of a stored event, in memory.
#[tokio::test]
async fn every_changed_field_of_a_row_in_memory_names_the_event() {
    let world = World::on(false).await;
    let id = world.contact("Lovelace").await;
    world.contact("Byron").await;
    world.seal().await;
    let event = world
        .session
        .audit()
        .trail(id)
        .await
        .unwrap()
        .pop()
        .unwrap();
    let stored: Row = event.clone();
    let fields = AuditEvent::schema().fields();
    for place in 0..fields.len() {
        let field = &fields[place];
        let value = other(field, stored.value(place).into_owned());
        let mut meta = stored.meta();
        let mut values = stored.values();
        match &*field.name {
            "id" => meta.id = Uuid::from_u128(5),
            "version" => meta.version += 1,
            "created_at" => meta.created.at += chrono::TimeDelta::microseconds(1),
            "updated_at" => meta.updated.at += chrono::TimeDelta::microseconds(1),
            "created_by" | "created_by_id" => meta.created.by = Actor::System,
            "updated_by" | "updated_by_id" => meta.updated.by = Actor::System,
            "archived_at" => meta.archived_at = Some(meta.created.at),
            "deleted_at" => meta.deleted_at = Some(meta.created.at),
            _ => values[place - SYSTEM_FIELDS] = value,
        }
        let changed = AuditEvent::schema().build(meta, values).unwrap();
        let commit = if meta.id == stored.id() {
            world
                .force(Change::Update {
                    before: stored.clone(),
                    after: changed.clone(),
                })
                .await;
            Change::Update {
                before: changed,
                after: stored.clone(),
            }
        } else {
            continue;
        };
        let report = world.verify().await;
        assert_eq!(
            problems(&report),
            [(Some(stored.id()), SealProblem::Changed)],
            "{}",
            field.name
        );
        world.force(commit).await;
    }
    assert!(world.verify().await.is_intact());

    // Two that swap what they tell.
    let events = world.events().await;
    let (one, two) = (&events[events.len() - 1], &events[events.len() - 2]);
    let swap = |to: &Arc<Record<AuditEvent>>, from: &Arc<Record<AuditEvent>>| {
        let (before, mut after): (Row, Record<AuditEvent>) = (to.clone(), (**to).clone());
        after.data.changes = from.changes.clone();
        Change::Update {
            before,
            after: Arc::new(after),
        }
    };
    world.force(swap(one, two)).await;
    world.force(swap(two, one)).await;
    let mut found = problems(&world.verify().await);
    found.sort_by_key(|(id, _)| *id);
    let mut wanted = [one.id.uuid(), two.id.uuid()];
    wanted.sort();
    assert_eq!(found, wanted.map(|id| (Some(id), SealProblem::Changed)));
    for event in [one, two] {
        let mut as_it_is = (**event).clone();
        as_it_is.data.endpoint = None;
        world
            .force(Change::Update {
                before: Arc::new(as_it_is),
                after: event.clone(),
            })
            .await;
    }
    // One that goes.
    world
        .force(Change::Delete {
            before: stored.clone(),
        })
        .await;
    assert_eq!(
        problems(&world.verify().await),
        [(Some(stored.id()), SealProblem::Removed)]
    );
    // One that comes back, at another place.
    world
        .force(Change::Insert {
            row: stored.clone(),
        })
        .await;
    assert_eq!(
        problems(&world.verify().await),
        [(Some(stored.id()), SealProblem::Removed)]
    );
}

/// Every field of a stored seal, in memory. Its id says nothing: seals are told apart by their number.
#[tokio::test]
async fn every_changed_field_of_a_seal_in_memory_is_told() {
    let world = World::on(false).await;
    world.contact("Lovelace").await;
    let signer = Ed25519Signer::new("2026", &[7; 32]);
    let keys = Ed25519Verifier::new();
    let keys = keys.key("2026", signer.public_key()).unwrap();
    let sealing = Sealing::new().signed_by(&signer);
    world.session.audit().seal(sealing).await.unwrap();
    let seals = world.session.records::<AuditSeal>();
    let seal = seals.find_one(Find::new()).await.unwrap().unwrap();
    let stored: Row = seal.clone();
    let problems = async || {
        let verification = Verification::new().signed(&keys);
        let report = world.session.audit().verify(verification).await.unwrap();
        let findings = report.findings.into_iter();
        findings.map(|found| found.problem).collect::<Vec<_>>()
    };
    assert!(problems().await.is_empty());
    let fields = AuditSeal::schema().fields();
    for (place, field) in fields.iter().enumerate().skip(1) {
        let (mut meta, mut values) = (stored.meta(), stored.values());
        match &*field.name {
            "version" => meta.version += 1,
            "created_at" => meta.created.at += chrono::TimeDelta::microseconds(1),
            "updated_at" => meta.updated.at += chrono::TimeDelta::microseconds(1),
            "created_by" => meta.created.by = Actor::System,
            "created_by_id" => meta.created.by = Actor::User(Id::new(Uuid::from_u128(5))),
            "updated_by" => meta.updated.by = Actor::System,
            "updated_by_id" => meta.updated.by = Actor::User(Id::new(Uuid::from_u128(5))),
            "archived_at" => meta.archived_at = Some(meta.created.at),
            "deleted_at" => meta.deleted_at = Some(meta.created.at),
            _ => values[place - SYSTEM_FIELDS] = other(field, stored.value(place).into_owned()),
        }
        let changed = AuditSeal::schema().build(meta, values).unwrap();
        let change = |before: &Row, after: &Row| Change::Update {
            before: before.clone(),
            after: after.clone(),
        };
        world.force(change(&stored, &changed)).await;
        assert!(!problems().await.is_empty(), "{}", field.name);
        world.force(change(&changed, &stored)).await;
    }
    assert!(problems().await.is_empty());
}

/// A dump of a server that has counted further: nothing is left out without a word, and all is there once
/// this server goes on from that count.
#[tokio::test]
async fn events_ahead_of_the_server_are_refused_and_not_left_out() {
    if std::env::var("CRM_TEST_STORAGE").as_deref() != Ok("postgres") {
        return;
    }
    let world = World::new().await;
    let id = world.contact("Lovelace").await;
    world.seal().await;
    let mut owner = world.owner().await;
    let mut count = async |by: &str| {
        let sql = format!(
            "UPDATE crm.audit_events SET transaction_id = \
             (transaction_id::text::numeric {by} 4294967296)::text::xid8"
        );
        let statement = sqlx::raw_sql(AssertSqlSafe(sql));
        statement.execute(&mut owner).await.unwrap();
    };
    count("+").await;
    let audit = world.session.audit();
    let refused = |result: crm_engine::Result<()>| {
        let error = result.unwrap_err();
        let crm_engine::Error::Storage(StorageError::AheadOfServer { object }) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(object, "audit_event");
        assert!(error.to_string().len() < 300);
    };
    refused(audit.feed("index").next(10).await.map(|_| ()));
    refused(audit.trail_page(id, 10, None).await.map(|_| ()));
    refused(audit.versions(id, 10, None).await.map(|_| ()));
    refused(audit.seal(Sealing::new()).await.map(|_| ()));
    refused(audit.verify(Verification::new()).await.map(|_| ()));
    count("-").await;
    assert!(world.verify().await.is_intact());
    assert_eq!(audit.versions(id, 10, None).await.unwrap().items.len(), 2);
}

/// Every column of a stored event, by the catalog.
#[tokio::test]
async fn every_changed_column_of_a_row_in_a_database_names_the_event() {
    if std::env::var("CRM_TEST_STORAGE").as_deref() != Ok("postgres") {
        return;
    }
    let world = World::new().await;
    let id = world.contact("Lovelace").await;
    world.contact("Byron").await;
    world.seal().await;
    let trail = world.session.audit().trail(id).await.unwrap();
    let event = trail.last().unwrap().id.uuid();
    let first = trail[0].id.uuid();
    let mut owner = world.owner().await;
    let run = async |owner: &mut PgConnection, sql: String| {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(owner)
            .await
            .unwrap();
    };
    run(
        &mut owner,
        "CREATE TABLE public.kept AS SELECT * FROM crm.audit_events".into(),
    )
    .await;
    let restore =
        "DELETE FROM crm.audit_events; INSERT INTO crm.audit_events SELECT * FROM public.kept";
    let columns = sqlx::query(
        "SELECT attname::text, atttypid::regtype::text FROM pg_attribute \
         WHERE attrelid = 'crm.audit_events'::regclass AND attnum > 0 AND NOT attisdropped",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert!(columns.len() > AuditEvent::schema().fields().len());
    for column in columns {
        let (name, kind): (String, String) = (column.get(0), column.get(1));
        let value = match (name.as_str(), kind.as_str()) {
            ("event", _) => "'purge'".to_owned(),
            ("category", _) => "'authorization'".to_owned(),
            ("created_by" | "updated_by", _) => "'api_client'".to_owned(),
            ("redaction", _) => "'{\"salts\": {}, \"fields\": {}}'".to_owned(),
            (_, "jsonb") => "'{\"email\": {\"old\": \"eve@example.org\"}}'".to_owned(),
            (_, "uuid") => "gen_random_uuid()".to_owned(),
            (_, "bigint") => format!("{name} + 1"),
            (_, "bytea") => "'\\x01'::bytea".to_owned(),
            (_, "xid8") => "(transaction_id::text::bigint - 1)::text::xid8".to_owned(),
            (_, "timestamp with time zone") => {
                format!("coalesce({name}, now()) + interval '1 microsecond'")
            }
            _ => format!("left(coalesce({name}, ''), 40) || 'x'"),
        };
        run(
            &mut owner,
            format!("UPDATE crm.audit_events SET \"{name}\" = {value} WHERE id = '{event}'"),
        )
        .await;
        let report = world.session.audit().verify(Verification::new()).await;
        match report {
            Ok(report) => {
                let named = problems(&report).iter().any(|(id, _)| *id == Some(event));
                assert!(named, "{name}: {report:?}");
            }
            // Not even read any more: a kind of actor without its id.
            Err(crm_engine::Error::Storage(error)) => {
                assert!(error.to_string().contains("audit_event"), "{name}: {error}");
            }
            Err(error) => panic!("{name}: {error}"),
        }
        run(&mut owner, restore.into()).await;
        assert!(world.verify().await.is_intact(), "{name}");
    }
    for (change, wanted) in [
        (format!("DELETE FROM crm.audit_events WHERE id = '{event}'"), vec![(Some(event), SealProblem::Removed)]),
        (
            "INSERT INTO crm.audit_events SELECT (jsonb_populate_record(e, \
             '{\"id\": \"00000000-0000-0000-0000-000000000005\"}')).* FROM crm.audit_events AS e LIMIT 1"
                .into(),
            vec![(Some(Uuid::from_u128(5)), SealProblem::Inserted)],
        ),
        (
            format!(
                "UPDATE crm.audit_events AS e SET changes = o.changes FROM crm.audit_events AS o \
                 WHERE e.id IN ('{event}', '{first}') AND o.id IN ('{event}', '{first}') AND o.id <> e.id"
            ),
            vec![(Some(first), SealProblem::Changed), (Some(event), SealProblem::Changed)],
        ),
    ] {
        run(&mut owner, change.clone()).await;
        assert_eq!(problems(&world.verify().await), wanted, "{change}");
        run(&mut owner, restore.into()).await;
    }
    // Seals.
    world.contact("Babbage").await;
    world.seal().await;
    run(
        &mut owner,
        "CREATE TABLE public.seals AS SELECT * FROM crm.audit_seals".into(),
    )
    .await;
    for (change, wanted) in [
        (
            "DELETE FROM crm.audit_seals WHERE number = 1",
            SealProblem::SealMissing,
        ),
        (
            "UPDATE crm.audit_seals SET events = events - 1 WHERE number = 1",
            SealProblem::SealChanged,
        ),
        (
            "UPDATE crm.audit_seals SET hash = previous WHERE number = 2",
            SealProblem::SealChanged,
        ),
        (
            "UPDATE crm.audit_seals SET previous = hash WHERE number = 2",
            SealProblem::LinkBroken,
        ),
        (
            "UPDATE crm.audit_seals SET until_position = repeat('f', 48) WHERE number = 2",
            SealProblem::SealChanged,
        ),
        (
            "UPDATE crm.audit_seals SET created_at = created_at + interval '1 day' WHERE number = 1",
            SealProblem::SealChanged,
        ),
        (
            "UPDATE crm.audit_seals SET created_by = 'system', created_by_id = NULL WHERE number = 2",
            SealProblem::SealChanged,
        ),
    ] {
        run(&mut owner, change.into()).await;
        let report = world.verify().await;
        assert!(
            report.findings.iter().any(|found| found.problem == wanted),
            "{change}: {report:?}"
        );
        run(
            &mut owner,
            "DELETE FROM crm.audit_seals; INSERT INTO crm.audit_seals SELECT * FROM public.seals"
                .into(),
        )
        .await;
    }
    assert!(world.verify().await.is_intact());
}

/// C-101, C-111 to C-115.
#[tokio::test]
async fn raw_sql_leaves_events_and_writes_of_the_library_are_not_told_twice() {
    if std::env::var("CRM_TEST_STORAGE").as_deref() != Ok("postgres") {
        return;
    }
    let world = World::new().await;
    let Place::Postgres(database) = &world.place else {
        return;
    };
    let mut owner = world.owner().await;
    let tenant = world.session.tenant().unwrap();
    let run = async |connection: &mut PgConnection, sql: &str| {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(connection)
            .await
            .unwrap();
    };
    let ddl = crm_engine::postgres::raw_sql_triggers("crm").unwrap();
    run(&mut owner, &ddl).await;
    run(&mut owner, &ddl).await;
    let audit = world.session.audit();
    let id = world.contact("Lovelace").await;
    let deal = world
        .session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap()
        .id;
    world.session.accounts().delete(deal).await.unwrap();
    assert_eq!(audit.trail(id).await.unwrap().len(), 2);
    assert_eq!(audit.trail(deal).await.unwrap().len(), 2);

    // As the owner, and as the application.
    run(&mut owner, &format!("UPDATE crm.contacts SET job_title = 'raw', custom_fields = '{{\"budget\": 3}}' WHERE id = '{id}'")).await;
    let mut app = database.application().await.unwrap();
    run(&mut app, &format!("SET crm.tenant_id = '{tenant}'; BEGIN; UPDATE crm.contacts SET department = 'sales' WHERE id = '{id}'; UPDATE crm.contacts SET department = department WHERE id = '{id}'; COMMIT")).await;
    let trail = audit.trail(id).await.unwrap();
    assert_eq!(
        trail
            .iter()
            .map(|event| event.record_version)
            .collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    let raw = &trail[2];
    assert_eq!(
        (raw.event, raw.created.by, raw.endpoint.as_deref()),
        (AuditKind::Update, Actor::System, Some("sql"))
    );
    assert_eq!(
        raw.changes.field("job_title").unwrap().new,
        Some(Value::from("raw"))
    );
    assert_eq!(
        raw.changes.field("job_title").unwrap().old,
        Some(Value::from("engineer"))
    );
    assert_eq!(
        raw.changes.fields(),
        ["custom_fields.budget", "custom_fields.size", "job_title"]
    );
    assert!(raw.salt.is_some());
    let stored = world.session.contacts().get(id).await.unwrap();
    assert_eq!(stored.version, 4);
    let rebuilt = audit.version(id, 4).await.unwrap().unwrap();
    assert_eq!(rebuilt.record.data, stored.data);
    // A decision that rests on the state before is a conflict.
    let mut work = world.session.begin();
    work.contacts()
        .update(id, |contact| contact.department = None)
        .await
        .unwrap();
    run(
        &mut owner,
        &format!("UPDATE crm.contacts SET department = 'raw' WHERE id = '{id}'"),
    )
    .await;
    assert!(matches!(
        work.commit().await,
        Err(crm_engine::Error::Conflict { .. })
    ));

    // In one transaction with the library.
    let pool = database.pool(1).await.unwrap();
    let storage = PostgresStorage::new(pool.clone());
    let mut work = world.session.begin();
    work.contacts()
        .update(id, |contact| contact.department = Some("library".into()))
        .await
        .unwrap();
    let changes = work.prepare().await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    storage
        .commit_in(&mut transaction, world.session.scope(), &changes)
        .await
        .unwrap();
    run(
        &mut transaction,
        &format!("UPDATE crm.contacts SET department = 'raw again' WHERE id = '{id}'"),
    )
    .await;
    transaction.commit().await.unwrap();
    let trail = audit.trail(id).await.unwrap();
    let told: Vec<_> = trail
        .iter()
        .skip(4)
        .map(|event| event.endpoint.clone().unwrap_or_default())
        .collect();
    assert_eq!(told, ["sql", "POST /contacts", "sql"]);

    // What the library keeps stays as it is: each version has its event.
    let before = world.session.contacts().get(id).await.unwrap();
    for kept in [
        "updated_at = now() + interval '1 day', updated_by = 'api_client'",
        "version = 99",
    ] {
        run(
            &mut owner,
            &format!("UPDATE crm.contacts SET {kept} WHERE id = '{id}'"),
        )
        .await;
        assert_eq!(world.session.contacts().get(id).await.unwrap(), before);
    }
    for never in [
        "created_at = now()",
        "created_by = 'migration'",
        "id = gen_random_uuid()",
    ] {
        let sql = format!("UPDATE crm.contacts SET {never} WHERE id = '{id}'");
        let refused = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut owner).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("never change"), "{never}: {error}");
    }
    let trail = audit.trail(id).await.unwrap();
    assert_eq!(trail.len(), 7);

    // Made, deleted, removed; a secret is told nowhere, however deep it stands.
    let secrets = r#"{"smtp": {"password": "hush"}, "keys": [{"api_key": "hush"}], "ssn": "hush"}"#;
    run(
        &mut owner,
        &format!("UPDATE crm.contacts SET custom_fields = '{secrets}' WHERE id = '{id}'"),
    )
    .await;
    run(
        &mut owner,
        &format!("UPDATE crm.contacts SET deleted_at = now() WHERE id = '{id}'"),
    )
    .await;
    run(
        &mut owner,
        &format!("UPDATE crm.contacts SET deleted_at = NULL WHERE id = '{id}'"),
    )
    .await;
    run(
        &mut owner,
        &format!("DELETE FROM crm.contacts WHERE id = '{id}'"),
    )
    .await;
    let trail = audit.trail(id).await.unwrap();
    let kinds: Vec<_> = trail.iter().skip(8).map(|event| event.event).collect();
    assert!(trail[7].changes.field("custom_fields.smtp").is_some());
    let told: Vec<String> = sqlx::query_scalar("SELECT changes::text FROM crm.audit_events")
        .fetch_all(&mut owner)
        .await
        .unwrap();
    assert!(told.iter().any(|changes| changes.contains("smtp")));
    assert!(told.iter().all(|changes| !changes.contains("hush")));
    assert_eq!(
        kinds,
        [AuditKind::Delete, AuditKind::Restore, AuditKind::Purge]
    );
    let columns: String = sqlx::query_scalar(
        "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute WHERE attnum > 0 \
         AND attrelid = 'crm.accounts'::regclass AND NOT attisdropped AND attgenerated = ''",
    )
    .fetch_one(&mut owner)
    .await
    .unwrap();
    let copy = format!(
        "INSERT INTO crm.accounts ({columns}) SELECT {columns} FROM (SELECT (jsonb_populate_record(a, \
         jsonb_build_object('id', gen_random_uuid(), 'name', 'Raw', 'deleted_at', NULL))).* \
         FROM crm.accounts AS a LIMIT 1) AS a"
    );
    run(&mut owner, &copy).await;
    let created = audit
        .find(
            AuditEvent::OBJECT
                .eq("account")
                .and(AuditEvent::ENDPOINT.eq("sql")),
        )
        .await
        .unwrap();
    assert_eq!(created.items.len(), 1);
    assert_eq!(created.items[0].event, AuditKind::Create);
    world.seal().await;
    assert!(world.verify().await.is_intact());
    run(
        &mut owner,
        &crm_engine::postgres::drop_raw_sql_triggers("crm").unwrap(),
    )
    .await;
    run(&mut owner, "UPDATE crm.accounts SET industry = 'untold'").await;
    let created = audit.find(AuditEvent::ENDPOINT.eq("sql")).await.unwrap();
    assert!(
        created
            .items
            .iter()
            .all(|event| event.changes.field("industry").is_none())
    );
}

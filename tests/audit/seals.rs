//! Seals over events: every change, removal and insertion is found and named; an erasure is none.
//! The archive, which is read and sealed like the log. On PostgreSQL also what SQL does past the
//! library.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_types,
    reason = "a test says what went wrong by stopping"
)]

use std::sync::Arc;

use crm_engine::audit::seal::{Ed25519Signer, Ed25519Verifier, SealProblem};
use crm_engine::audit::{
    AuditSeal, Erasure, SealReport, Sealing, Verification, archived_events, is_erased, redact,
};
use crm_engine::engine::{ManualClock, RequestContext};
use crm_engine::prelude::*;
use crm_engine::schema::{Row, SYSTEM_FIELDS, StorageKind, Value};
use crm_engine::storage::{Change, ChangeSet, FeedQuery, Storage};
use crm_engine::{MemoryStorage, PostgresStorage};
use crm_test_postgres::Database;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

enum Place {
    Memory(MemoryStorage),
    Postgres(Database),
}

struct World {
    place: Place,
    clock: Arc<ManualClock>,
    session: Session,
}

impl World {
    async fn new() -> Self {
        Self::on(std::env::var("CRM_TEST_STORAGE").as_deref() == Ok("postgres")).await
    }

    async fn on(postgres: bool) -> Self {
        let clock = Arc::new(ManualClock::new("2026-01-15T09:00:00Z".parse().unwrap()));
        let (place, storage): (Place, Arc<dyn Storage>) = if postgres {
            let database = Database::fresh(&[]).expect("the tests need PostgreSQL");
            let pool = database.lazy_pool(4).unwrap();
            (
                Place::Postgres(database),
                Arc::new(PostgresStorage::new(pool)),
            )
        } else {
            let memory = MemoryStorage::new();
            (Place::Memory(memory.clone()), Arc::new(memory))
        };
        let crm = Crm::builder(storage).clock(clock.clone()).build();
        let home = crm
            .onboard(Onboarding::new("Acme", "acme", "ada@acme.example"))
            .await
            .unwrap();
        let session = crm.session(home.tenant, Actor::User(home.admin));
        let session = session.with_context(RequestContext {
            session_id: Some("s-1".into()),
            ip: Some([203, 0, 113, 7].into()),
            user_agent: Some("Firefox".into()),
            endpoint: Some("POST /contacts".into()),
            request_id: Some(Uuid::from_u128(7)),
        });
        Self {
            place,
            clock,
            session,
        }
    }

    async fn contact(&self, name: &str) -> Id<Contact> {
        let contact = Contact {
            job_title: Some(format!("job of {name}")),
            custom_fields: json!({"budget": 1.5, "motto": format!("motto of {name}")}),
            ..Contact::named("Ada", name)
        };
        let id = self.session.contacts().create(contact).await.unwrap().id;
        let change = |contact: &mut Contact| {
            contact.job_title = Some("engineer".into());
            contact.custom_fields =
                json!({"budget": 2.5, "motto": null, "size": 9_007_199_254_740_993_i64});
        };
        self.session.contacts().update(id, change).await.unwrap();
        id
    }

    /// Waits until no transaction can come in front of what was written: on a server that others use,
    /// theirs count too.
    async fn settle(&self) {
        for _ in 0..3_000 {
            let query = FeedQuery::new(AuditEvent::schema(), None, 10_000);
            let storage = self.session.engine().storage();
            let page = storage.feed(self.session.scope(), &query).await.unwrap();
            let all = self.session.records::<AuditEvent>();
            let all = all.count(Find::new().with_archived()).await.unwrap();
            if page.entries.len() as u64 == all {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("a transaction runs for half a minute");
    }

    async fn seal(&self) -> Option<crm_engine::audit::seal::SealHead> {
        self.settle().await;
        self.session.audit().seal(Sealing::new()).await.unwrap()
    }

    async fn verify(&self) -> SealReport {
        self.session
            .audit()
            .verify(Verification::new())
            .await
            .unwrap()
    }

    async fn owner(&self) -> PgConnection {
        match &self.place {
            Place::Postgres(database) => database.owner().await.unwrap(),
            Place::Memory(_) => panic!("it has no owner"),
        }
    }

    /// Writes rows past the engine, in memory.
    async fn force(&self, change: Change) {
        let Place::Memory(memory) = &self.place else {
            panic!("it is a database");
        };
        let changes = ChangeSet::new(
            Uuid::from_u128(1),
            self.session.begin().now(),
            vec![change],
            Vec::new(),
        );
        memory.commit(self.session.scope(), &changes).await.unwrap();
    }

    /// Moves what is older than February 2026 to the archive; gives the number of events.
    async fn archive(&self) -> u64 {
        let before = chrono::NaiveDate::from_ymd_opt(2026, 2, 1).unwrap();
        match &self.place {
            Place::Memory(memory) => {
                let before = before.and_time(chrono::NaiveTime::MIN).and_utc();
                let log = AuditEvent::schema();
                memory.move_entries(log, archived_events(), before).unwrap()
            }
            Place::Postgres(_) => {
                let mut owner = self.owner().await;
                let months = crm_engine::postgres::archive_partitions(&mut owner, "crm", before);
                months.await.unwrap().iter().map(|month| month.events).sum()
            }
        }
    }

    async fn drop_archive(&self) -> u64 {
        let before = chrono::NaiveDate::from_ymd_opt(2026, 2, 1).unwrap();
        match &self.place {
            Place::Memory(memory) => {
                let before = before.and_time(chrono::NaiveTime::MIN).and_utc();
                memory.drop_entries(archived_events(), before).unwrap()
            }
            Place::Postgres(_) => {
                let mut owner = self.owner().await;
                let months =
                    crm_engine::postgres::drop_archived_partitions(&mut owner, "crm", before);
                months.await.unwrap().iter().map(|month| month.events).sum()
            }
        }
    }

    async fn events(&self) -> Vec<Arc<Record<AuditEvent>>> {
        let find = Find::<AuditEvent>::new().limit(1_000).with_archived();
        self.session.audit().find(find).await.unwrap().items
    }
}

fn problems(report: &SealReport) -> Vec<(Option<Uuid>, SealProblem)> {
    let findings = report.findings.iter();
    findings
        .map(|finding| (finding.event, finding.problem))
        .collect()
}

#[tokio::test]
async fn seals_are_a_chain_and_hold_while_nothing_changes() {
    let world = World::new().await;
    world.contact("Lovelace").await;
    let first = world.seal().await.unwrap();
    assert_eq!(first.number, 1);
    assert_eq!(
        world.seal().await.unwrap(),
        first,
        "nothing new, no new seal"
    );
    world.contact("Byron").await;
    let second = world.seal().await.unwrap();
    assert_eq!(second.number, 2);
    world.contact("unsealed").await;
    let report = world.verify().await;
    assert!(report.is_intact(), "{report:?}");
    assert_eq!((report.seals, report.erased), (2, 0));
    let unsealed = 2;
    assert_eq!(report.intact, world.events().await.len() as u64 - unsealed);

    // A range, and what was kept outside.
    let audit = world.session.audit();
    let part = Verification::new().seals(2, 2).head(Some(second.clone()));
    let report = audit.verify(part).await.unwrap();
    assert_eq!((report.seals, report.intact, report.found), (1, 2, 0));
    let mut other = second.clone();
    other.hash = first.hash.clone();
    let report = audit
        .verify(Verification::new().head(Some(other)))
        .await
        .unwrap();
    assert_eq!(problems(&report), [(None, SealProblem::HeadDiffers)]);
    let ahead = crm_engine::audit::seal::SealHead {
        number: 3,
        hash: second.hash,
    };
    let report = audit
        .verify(Verification::new().head(Some(ahead)))
        .await
        .unwrap();
    assert_eq!(problems(&report), [(None, SealProblem::SealMissing)]);
}

#[tokio::test]
async fn many_events_are_sealed_in_parts() {
    let world = World::new().await;
    let mut work = world.session.begin();
    for number in 0..1_100 {
        let account = Account::new(format!("Account {number}"));
        work.accounts().create(account).await.unwrap();
    }
    work.commit().await.unwrap();
    let head = world.seal().await.unwrap();
    assert_eq!(head.number, 2);
    let report = world.verify().await;
    assert!(report.is_intact() && report.intact > 1_100, "{report:?}");
    let stop = |_: u64, _: Option<u64>| std::ops::ControlFlow::Break(());
    let stopped = Verification::new().progress(&stop);
    let report = world.session.audit().verify(stopped).await.unwrap();
    assert!(report.stopped && report.seals == 1);
}

#[tokio::test]
async fn signatures_are_of_keys_that_are_trusted() {
    let world = World::new().await;
    world.contact("Lovelace").await;
    let audit = world.session.audit();
    let old = Ed25519Signer::new("2025", &[1; 32]);
    world.settle().await;
    audit.seal(Sealing::new().signed_by(&old)).await.unwrap();
    world.contact("Byron").await;
    let new = Ed25519Signer::new("2026", &[2; 32]);
    world.settle().await;
    audit.seal(Sealing::new().signed_by(&new)).await.unwrap();
    let keys = Ed25519Verifier::new()
        .key("2025", old.public_key())
        .unwrap();
    let both = keys.clone().key("2026", new.public_key()).unwrap();
    let report = audit
        .verify(Verification::new().signed(&both))
        .await
        .unwrap();
    assert!(report.is_intact(), "{report:?}");
    let report = audit
        .verify(Verification::new().signed(&keys))
        .await
        .unwrap();
    assert_eq!(problems(&report), [(None, SealProblem::SignatureWrong)]);
    world.contact("Babbage").await;
    world.seal().await;
    let report = audit
        .verify(Verification::new().signed(&both))
        .await
        .unwrap();
    assert_eq!(problems(&report), [(None, SealProblem::Unsigned)]);
}

#[tokio::test]
async fn two_who_seal_at_once_make_one_chain() {
    let world = World::new().await;
    for name in ["Lovelace", "Byron", "Babbage"] {
        world.contact(name).await;
        world.settle().await;
        let audit = world.session.audit();
        let seals = futures::future::join_all((0..4).map(|_| audit.seal(Sealing::new()))).await;
        for result in seals {
            match result {
                Ok(_) | Err(crm_engine::Error::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    let report = world.verify().await;
    assert!(report.is_intact(), "{report:?}");
    assert_eq!(report.intact, world.events().await.len() as u64);
}

/// Another value that the field can hold.
fn other(field: &crm_engine::schema::FieldSchema, value: Value) -> Value {
    use crm_engine::schema::FieldType;
    match (value, &field.field_type) {
        (Value::Text(text), FieldType::Picklist { options }) => {
            Value::from(*options.iter().find(|option| **option != text).unwrap())
        }
        (Value::Text(text), _) => {
            Value::from(format!("{}x", text.get(..text.len().min(40)).unwrap()))
        }
        (Value::Integer(number), _) => Value::Integer(number + 1),
        (Value::Timestamp(at), _) => Value::Timestamp(at + chrono::TimeDelta::microseconds(1)),
        (Value::Uuid(id), _) => Value::Uuid(Uuid::from_u128(id.as_u128() ^ 1)),
        (Value::Json(_), _) => Value::Json(json!({"email": {"old": "eve@example.org"}})),
        (_, field_type) => match field_type.storage_kind() {
            StorageKind::Uuid => Value::Uuid(Uuid::from_u128(1)),
            StorageKind::Json => Value::Json(json!({"salts": {}, "fields": {}})),
            StorageKind::Timestamp => Value::Timestamp("2026-01-01T00:00:00Z".parse().unwrap()),
            _ => Value::from("x"),
        },
    }
}

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

async fn redact_all(world: &World, id: Id<Contact>, field: &str) {
    let mut work = world.session.begin();
    for event in world.session.audit().trail(id).await.unwrap() {
        redact(&mut work, &event, |name| name.starts_with(field)).unwrap();
    }
    work.commit().await.unwrap();
}

#[tokio::test]
async fn an_erasure_leaves_the_seals_and_nothing_of_the_values() {
    let world = World::new().await;
    let id = world.contact("Lovelace").await;
    world.contact("Byron").await;
    world.seal().await;
    let all = world.verify().await.intact;
    for field in [
        "job_title",
        "last_name",
        "custom_fields.motto",
        "custom_fields",
    ] {
        redact_all(&world, id, field).await;
        let report = world.verify().await;
        assert!(report.is_intact(), "{field}: {report:?}");
        assert_eq!((report.erased, report.intact), (2, all - 2));
    }
    let trail = world.session.audit().trail(id).await.unwrap();
    for event in &trail {
        let text = event.changes.to_json().to_string();
        for secret in ["Lovelace", "job of", "motto of", "2.5", "engineer"] {
            assert!(!text.contains(secret), "{secret} is left in {text}");
        }
        assert_eq!(
            (&event.ip, &event.user_agent, &event.session_id, event.salt),
            (&None, &None, &None, None)
        );
        assert_eq!(event.endpoint.as_deref(), Some("POST /contacts"));
    }
    let title = trail[1].changes.field("job_title").unwrap();
    assert!(is_erased(title.old.as_ref().unwrap()) && is_erased(title.new.as_ref().unwrap()));
    assert_eq!(
        trail[0].changes.field("first_name").unwrap().new,
        Some(Value::from("Ada"))
    );
    // Again it changes nothing, and nobody comes back as somebody else.
    let versions = |trail: &[Arc<Record<AuditEvent>>]| -> Vec<i64> {
        trail.iter().map(|e| e.version).collect()
    };
    redact_all(&world, id, "job_title").await;
    assert_eq!(
        versions(&world.session.audit().trail(id).await.unwrap()),
        versions(&trail)
    );

    // Two at once do not lose what one of them erased.
    let id = world.contact("Babbage").await;
    let event = world.session.audit().trail(id).await.unwrap().remove(0);
    let (mut one, mut two) = (world.session.begin(), world.session.begin());
    redact(&mut one, &event, |name| name == "job_title").unwrap();
    redact(&mut two, &event, |name| name == "last_name").unwrap();
    one.commit().await.unwrap();
    assert!(matches!(
        two.commit().await,
        Err(crm_engine::Error::Conflict { .. })
    ));
}

#[tokio::test]
async fn the_archive_is_read_sealed_and_redacted_like_the_log() {
    let world = World::new().await;
    let id = world.contact("Lovelace").await;
    world.seal().await;
    world.clock.advance(chrono::TimeDelta::days(40));
    let change = |contact: &mut Contact| contact.job_title = Some("countess".into());
    world.session.contacts().update(id, change).await.unwrap();
    world.seal().await;
    let audit = world.session.audit();
    let before = audit.trail(id).await.unwrap();
    let all = world.events().await;
    let january = all
        .iter()
        .filter(|event| {
            event.created.at
                < "2026-02-01T00:00:00Z"
                    .parse::<chrono::DateTime<chrono::Utc>>()
                    .unwrap()
        })
        .count() as u64;
    let page = audit.trail_page(id, 2, None).await.unwrap();

    assert_eq!(world.archive().await, january);
    assert_eq!(world.archive().await, 0, "nothing more");
    let told = |events: &[Arc<Record<AuditEvent>>]| -> Vec<String> {
        let told = events.iter().map(|event| {
            (
                event.id,
                event.created,
                event.record_version,
                event.changes.fields().join(" "),
            )
        });
        told.map(|told| format!("{told:?}")).collect()
    };
    let after = audit.trail(id).await.unwrap();
    assert_eq!(told(&after), told(&before));
    assert_eq!(
        after
            .iter()
            .filter(|event| event.archived_at.is_some())
            .count(),
        2
    );
    assert_eq!(told(&world.events().await), told(&all));
    // A page that was begun before goes on behind it.
    let rest = audit.trail_page(id, 2, page.next).await.unwrap();
    assert_eq!(rest.items.len(), 1);
    assert_eq!(rest.items[0].record_version, 1);
    let first = audit.version(id, 1).await.unwrap().unwrap();
    assert_eq!(first.record.job_title.as_deref(), Some("job of Lovelace"));
    let report = world.verify().await;
    assert!(report.is_intact(), "{report:?}");
    assert_eq!(report.intact, all.len() as u64);

    redact_all(&world, id, "job_title").await;
    let report = world.verify().await;
    assert!(report.is_intact() && report.erased == 3, "{report:?}");
    assert!(is_erased(
        audit.trail(id).await.unwrap()[0]
            .changes
            .field("job_title")
            .unwrap()
            .new
            .as_ref()
            .unwrap()
    ));
    redact_all(&world, id, "last_name").await;
    assert!(world.verify().await.is_intact());

    assert_eq!(world.drop_archive().await, january);
    assert_eq!(world.drop_archive().await, 0);
    assert_eq!(audit.trail(id).await.unwrap().len(), 1);
    let report = world.verify().await;
    assert_eq!(report.found, january);
    assert!(
        report
            .findings
            .iter()
            .all(|found| found.problem == SealProblem::Removed)
    );
    assert!(
        audit
            .verify(Verification::new().seals(2, 2))
            .await
            .unwrap()
            .is_intact()
    );
}

/// the erasure of a person reaches the log and the archive, and the seals over both still hold.
#[tokio::test]
async fn a_person_is_erased_from_sealed_and_archived_events() {
    let world = World::new().await;
    let id = world.contact("Lovelace").await;
    world.seal().await;
    world.clock.advance(chrono::TimeDelta::days(40));
    let change = |contact: &mut Contact| contact.job_title = Some("countess of Lovelace".into());
    world.session.contacts().update(id, change).await.unwrap();
    world.seal().await;
    let sealed = world.verify().await.intact;
    assert!(world.archive().await > 0);
    let privacy = world.session.privacy();
    privacy.erase(id, Erasure::default()).await.unwrap();
    for event in world.events().await {
        let text = event.changes.to_json().to_string();
        assert!(!text.contains("Lovelace"), "{text}");
    }
    let report = world.verify().await;
    assert!(report.is_intact(), "{report:?}");
    assert_eq!((report.erased, report.intact), (3, sealed - 3));
}

#[tokio::test]
async fn a_seal_and_its_events_are_their_tenants() {
    let world = World::new().await;
    world.contact("Lovelace").await;
    world.seal().await;
    let other = crm_engine::Id::new(Uuid::from_u128(99));
    let stranger = world.session.engine().session(other, Actor::System);
    let report = stranger.audit().verify(Verification::new()).await.unwrap();
    assert_eq!((report.seals, report.intact), (0, 0));
    assert_eq!(stranger.audit().seal(Sealing::new()).await.unwrap(), None);
    let seals = stranger
        .records::<AuditSeal>()
        .find(Find::new())
        .await
        .unwrap();
    assert!(seals.items.is_empty());
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

    // Made, deleted, removed.
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
    let kinds: Vec<_> = trail.iter().skip(7).map(|event| event.event).collect();
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

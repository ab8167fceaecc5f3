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

mod archive;
mod chain;
mod erasure;
mod tampering;

use std::sync::Arc;

use crm_engine::audit::seal::SealProblem;
use crm_engine::audit::{SealReport, Sealing, Verification, archived_events};
use crm_engine::engine::{ManualClock, RequestContext};
use crm_engine::prelude::*;
use crm_engine::schema::{StorageKind, Value};
use crm_engine::storage::{Change, ChangeSet, FeedQuery, Storage};
use crm_engine::{MemoryStorage, PostgresStorage};
use crm_test_postgres::Database;
use serde_json::json;
use sqlx::PgConnection;
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

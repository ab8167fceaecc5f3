//! The audit trail: what an event costs the write that it tells of, a page of a record's trail among
//! many events, and seals.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use crm_engine::audit::{
    self, AuditCategory, AuditEvent, AuditSeal, FieldChange, Sealing, Verification,
};
use crm_engine::engine::Engine;
use crm_engine::prelude::*;
use crm_engine::query::{Condition, Query};
use crm_engine::schema::{Meta, Row, Value};
use crm_engine::storage::{Change, ChangeSet, Scope, Storage};
use crm_engine::{MemoryStorage, Stamp, custom_objects};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::measure::{Medians, Options, Places, timed};
use crate::office::{Office, ready};

/// The same engine, but for the recorder: no change leaves an event.
pub(crate) fn without_recorder(storage: impl Storage) -> Engine {
    let objects = audit::objects();
    let engine = custom_objects::install(Engine::builder(storage));
    let engine = objects
        .iter()
        .fold(engine, |engine, object| engine.named_object(object));
    engine.build()
}

pub(crate) fn event_cost(options: &Options) -> Medians {
    let ours = Office::open();
    let plain = without_recorder(MemoryStorage::new());
    let floor = ready(Office::enter(&plain, "acme")).0;
    let create = |office: &Office, made: &mut usize, count: usize| {
        let contacts: Vec<Contact> = (*made..*made + count).map(|n| office.contact(n)).collect();
        *made += count;
        timed(|| {
            for contact in contacts {
                black_box(ready(office.session.contacts().create(contact)).unwrap());
            }
        })
    };
    let (mut made, mut plainly) = (0, 0);
    options.measure(
        |count| create(&ours, &mut made, count),
        |count| create(&floor, &mut plainly, count),
    )
}

// ---- Many events ----------------------------------------------------------------------------

/// How many events the trail of a record is found among.
pub(crate) const EVENTS: usize = 1_000_000;

/// How many of them each record has.
pub(crate) const EVENTS_OF_RECORD: usize = 500;

/// How many are sealed.
const SEALED: usize = 100_000;

/// How many events of a record are a page.
pub(crate) const PAGE: usize = 50;

/// The record that the event of this number tells of.
pub(crate) fn record(number: usize) -> Uuid {
    let record = (number % (EVENTS / EVENTS_OF_RECORD)) as u64;
    Uuid::from_u64_pair(record.wrapping_mul(0x9E37_79B9_7F4A_7C15), record)
}

/// An update of three fields.
fn event(number: usize, commit: Uuid) -> AuditEvent {
    let change = |field: &'static str, old: Value, new: Value| FieldChange {
        field: field.into(),
        old: Some(old),
        new: Some(new),
    };
    let text = |text: &str| Value::Text(text.to_owned());
    let mut event = AuditEvent::new(
        commit,
        AuditKind::Update,
        AuditCategory::DataChange,
        "contact",
        record(number),
        i64::try_from(number / (EVENTS / EVENTS_OF_RECORD)).unwrap() + 1,
    );
    event.changes = vec![
        change("job_title", text("Buyer"), text("Head of Procurement")),
        change("department", Value::Null, text("Operations")),
        change("do_not_call", Value::Boolean(false), Value::Boolean(true)),
    ]
    .into();
    event.salt = Some(Uuid::from_u64_pair(number as u64, !(number as u64)));
    event
}

/// Events in a storage, put there without the engine.
struct Archive {
    office: Office,
    storage: MemoryStorage,
    scope: Scope,
    now: DateTime<Utc>,
    events: Vec<Arc<Record<AuditEvent>>>,
}

impl Archive {
    fn open(count: usize) -> Self {
        let storage = MemoryStorage::new();
        // What the office itself leaves has no events, so that those counted are all.
        let engine = without_recorder(storage.clone());
        let (office, made) = ready(Office::enter(&engine, "acme"));
        let (scope, now) = (Scope::Tenant(made.tenant), engine.clock().now());
        let by = Actor::User(office.owner);
        let mut events = Vec::with_capacity(count);
        let numbers: Vec<usize> = (0..count).collect();
        for some in numbers.chunks(10_000) {
            let commit = engine.ids().next(now);
            let insert = |number: &usize| {
                let seconds = i64::try_from(count - number).unwrap();
                let at = now - TimeDelta::seconds(seconds);
                let meta = Meta::first(engine.ids().next(at), Stamp { at, by });
                let event = Record::new(meta, event(*number, commit));
                events.push(Arc::new(event.clone()));
                let row: Row = Arc::new(event);
                Change::Insert { row }
            };
            let changes = some.iter().map(insert).collect();
            let set = ChangeSet::new(commit, now, changes, Vec::new());
            ready(storage.commit(&scope, &set)).unwrap();
        }
        Self {
            office,
            storage,
            scope,
            now,
            events,
        }
    }

    /// Takes all seals away.
    fn unseal(&self) {
        let query = Query::new(AuditSeal::schema(), Condition::all());
        let seals = ready(self.storage.select(&self.scope, &query)).unwrap();
        let removed = seals.into_iter().map(|before| Change::Delete { before });
        let set = ChangeSet::new(Uuid::nil(), self.now, removed.collect(), Vec::new());
        ready(self.storage.commit(&self.scope, &set)).unwrap();
    }

    /// The events as one reads them: what a program without seals that prove more would hash.
    fn bytes(&self) -> Vec<Vec<u8>> {
        let events = self.events.iter();
        events
            .map(|event| serde_json::to_vec(&**event).unwrap())
            .collect()
    }
}

pub(crate) fn trail_page(options: &Options) -> Medians {
    let archive = Archive::open(EVENTS);
    let by_record: BTreeMap<(Uuid, i64), Arc<Record<AuditEvent>>> = archive
        .events
        .iter()
        .map(|event| ((event.record_id, event.record_version), Arc::clone(event)))
        .collect();
    let (mut ours, mut floor) = (Places(0x5EED), Places(0xF1007));
    let some = |places: &mut Places, count: usize| -> Vec<Uuid> {
        (0..count).map(|_| record(places.next(EVENTS))).collect()
    };
    let session = &archive.office.session;
    options.measure(
        |count| {
            let records = some(&mut ours, count);
            timed(|| {
                for id in records {
                    let contact = Id::<Contact>::new(id);
                    let page = ready(session.audit().trail_page(contact, PAGE, None));
                    assert_eq!(black_box(page.unwrap()).items.len(), PAGE);
                }
            })
        },
        |count| {
            let records = some(&mut floor, count);
            timed(|| {
                for id in records {
                    let range = by_record.range((id, i64::MIN)..=(id, i64::MAX));
                    let page: Vec<_> = range.rev().take(PAGE).map(|(_, row)| row.clone()).collect();
                    assert_eq!(black_box(page).len(), PAGE);
                }
            })
        },
    )
}

/// SHA-256 of each.
fn hashed(events: &[Vec<u8>]) -> usize {
    let hashes = events.iter().map(Sha256::digest);
    hashes.filter(|hash| black_box(hash).len() == 32).count()
}

pub(crate) fn seal(options: &Options) -> Medians {
    let archive = Archive::open(SEALED);
    let bytes = archive.bytes();
    options.measure_rows(
        SEALED,
        || {
            archive.unseal();
            timed(|| {
                let head = ready(archive.office.session.audit().seal(Sealing::new()));
                assert!(black_box(head.unwrap()).is_some());
            })
        },
        || timed(|| assert_eq!(hashed(&bytes), SEALED)),
    )
}

pub(crate) fn verify(options: &Options) -> Medians {
    let archive = Archive::open(SEALED);
    let bytes = archive.bytes();
    let trail = archive.office.session.audit();
    ready(trail.seal(Sealing::new())).unwrap();
    options.measure_rows(
        SEALED,
        || {
            timed(|| {
                let report = ready(trail.verify(Verification::new())).unwrap();
                assert!(report.is_intact());
                assert_eq!(report.intact, SEALED as u64);
            })
        },
        || timed(|| assert_eq!(hashed(&bytes), SEALED)),
    )
}

#[cfg(feature = "postgres")]
pub(crate) use on_postgres::{pg_event_cost, pg_trail_page};

#[cfg(feature = "postgres")]
mod on_postgres {
    use crm_engine::PostgresStorage;
    use sqlx::{Row as _, query};

    use super::*;
    use crate::postgres::Benches;

    /// How many calls make a batch.
    const CALLS: usize = 20;

    /// As many events as `trail_page` has, of one tenant.
    const FILL: &str = "\
        INSERT INTO crm.audit_events (tenant_id, id, version, created_at, created_by, updated_at, updated_by, \
            commit_id, event, category, object, record_id, record_version, changes) \
        SELECT $1, made.id, 1, made.at, 'system', made.at, 'system', \
            gen_random_uuid(), 'update', 'data_change', 'contact', made.record_id, v.version, \
            '{\"job_title\": {\"old\": \"Buyer\", \"new\": \"Head of Procurement\"}, \
              \"department\": {\"old\": null, \"new\": \"Operations\"}, \
              \"do_not_call\": {\"old\": false, \"new\": true}}' \
        FROM generate_series(1, $3) AS v (version) \
        CROSS JOIN unnest($2::uuid[]) AS r (id) \
        CROSS JOIN LATERAL (SELECT gen_random_uuid() AS id, r.id AS record_id, \
            now() - ($3 - v.version) * interval '1 second' AS at OFFSET 0) AS made";

    /// The page by hand, under the tenant's row-level security.
    const READ: &str = "\
        WITH tenant AS MATERIALIZED (SELECT set_config('crm.tenant_id', $1::text, true)) \
        SELECT e.id, e.created_at, e.created_by, e.event, e.record_version, e.changes, e.ip, e.endpoint \
        FROM tenant, crm.audit_events AS e \
        WHERE e.tenant_id = $1 AND e.record_id = $2 AND e.object = 'contact' AND e.deleted_at IS NULL \
        ORDER BY e.record_version DESC, e.id DESC LIMIT $3";

    pub(crate) fn pg_event_cost(benches: &Benches, options: &Options) -> Medians {
        let plain = without_recorder(PostgresStorage::new(benches.pool().clone()));
        let ours = benches.block_on(benches.office("event"));
        let floor = benches.block_on(Office::enter(&plain, "no-event")).0;
        let create = |office: &Office, made: &mut usize, count: usize| {
            let contacts: Vec<Contact> =
                (*made..*made + count).map(|n| office.contact(n)).collect();
            *made += count;
            benches.timed(async {
                for contact in contacts {
                    black_box(office.session.contacts().create(contact).await.unwrap());
                }
            })
        };
        let (mut made, mut plainly) = (0, 0);
        options.measure_calls(
            CALLS,
            |count| create(&ours, &mut made, count),
            |count| create(&floor, &mut plainly, count),
        )
    }

    pub(crate) fn pg_trail_page(benches: &Benches, options: &Options) -> Medians {
        let office = benches.block_on(benches.office("trail"));
        let tenant = office.session.tenant().unwrap().uuid();
        benches.block_on(async {
            let mut owner = benches.owner().await;
            let records: Vec<Uuid> = (0..EVENTS / EVENTS_OF_RECORD).map(record).collect();
            let filled = query(FILL)
                .bind(tenant)
                .bind(&records)
                .bind(i64::try_from(EVENTS_OF_RECORD).unwrap());
            filled.execute(&mut owner).await.unwrap();
            crate::plain::vacuum(&mut owner).await;
        });
        let (mut ours, mut floor) = (Places(0x5EED), Places(0xF1007));
        let some = |places: &mut Places, count: usize| -> Vec<Uuid> {
            (0..count).map(|_| record(places.next(EVENTS))).collect()
        };
        options.measure_calls(
            CALLS,
            |count| {
                let records = some(&mut ours, count);
                benches.timed(async {
                    for id in records {
                        let contact = Id::<Contact>::new(id);
                        let trail = office.session.audit();
                        let page = trail.trail_page(contact, PAGE, None).await;
                        assert_eq!(black_box(page.unwrap()).items.len(), PAGE);
                    }
                })
            },
            |count| {
                let records = some(&mut floor, count);
                benches.timed(async {
                    for id in records {
                        let page = query(READ)
                            .bind(tenant)
                            .bind(id)
                            .bind(i64::try_from(PAGE).unwrap())
                            .fetch_all(benches.pool())
                            .await
                            .unwrap();
                        let read = page.iter().map(|row| {
                            let changes: serde_json::Value = row.get("changes");
                            let at: DateTime<Utc> = row.get("created_at");
                            let text = |name| row.get::<Option<String>, _>(name);
                            let told = (text("event"), text("ip"), text("endpoint"));
                            (at, row.get::<i64, _>("record_version"), told, changes)
                        });
                        assert_eq!(black_box(read.collect::<Vec<_>>()).len(), PAGE);
                    }
                })
            },
        )
    }
}

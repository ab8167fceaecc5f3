//! R-073, C-102, C-173: how often custom fields are used, counted in memory and recorded in batches;
//! and what it costs to define many fields at once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common::storage::{Call, Watch, Watched};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::{backend, crm, rows_of, tenant};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use crm_engine::custom_objects::{
    CustomField, CustomFieldType, CustomFieldsExt, CustomObject, CustomSchema, CustomValuesExt,
    FieldUsage, IntegerLimits, UsageFigures,
};
use crm_engine::engine::ManualClock;
use crm_engine::prelude::*;
use crm_engine::schema::Row;
use crm_engine::storage::{Scope, StorageError};
use crm_engine::value::ApiName;
use serde_json::{Value as Json, json};
use tokio::sync::Notify;
use uuid::Uuid;

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

fn field(object: &str, api_name: &str, field_type: CustomFieldType) -> CustomField {
    CustomField::new(name(object), name(api_name), api_name, field_type)
}

fn flag(object: &str, api_name: &str) -> CustomField {
    field(object, api_name, CustomFieldType::Boolean)
}

async fn define(session: &Session, definition: CustomField) -> Id<CustomField> {
    session.records().create(definition).await.unwrap().id
}

async fn contact(session: &Session, custom_fields: Json) -> Id<Contact> {
    let ada = Contact {
        custom_fields,
        ..Contact::named("Ada", "Lovelace")
    };
    session.contacts().create(ada).await.unwrap().id
}

async fn set(session: &Session, id: Id<Contact>, custom_fields: &Json) {
    let change = |contact: &mut Contact| contact.custom_fields = custom_fields.clone();
    session.contacts().update(id, change).await.unwrap();
}

async fn find(session: &Session, filter: Json) -> usize {
    let filter: Filter = serde_json::from_value(filter).unwrap();
    let find = Find::<Contact>::new().filter_by_name(filter);
    session.contacts().find(find).await.unwrap().items.len()
}

fn eq(field: &str, value: impl Into<Json>) -> Json {
    json!({"field": field, "op": "eq", "value": value.into()})
}

async fn usage(session: &Session, object: &str) -> Vec<FieldUsage> {
    session.custom_fields().usage(object).await.unwrap()
}

/// The figures of one field: written, queried, and the records that have a value.
async fn of(session: &Session, object: &str, api_name: &str) -> (u64, u64, u64) {
    let all = usage(session, object).await;
    let one = all
        .iter()
        .find(|one| one.api_name == name(api_name))
        .unwrap();
    let figures = &one.figures;
    assert_eq!(
        figures.usage_count,
        figures.written_count + figures.queried_count
    );
    (figures.written_count, figures.queried_count, one.records)
}

async fn record(session: &Session) -> u64 {
    session.custom_fields().record_usage().await.unwrap()
}

/// What is a use and what is none; fields that nobody uses are listed too.
#[tokio::test]
async fn uses_are_counted_and_recorded_in_batches() {
    let begin: DateTime<Utc> = "2026-03-01T09:00:00Z".parse().unwrap();
    let clock = Arc::new(ManualClock::new(begin));
    let crm = Crm::builder(backend::storage(&[]))
        .clock(clock.clone())
        .build();
    let (_, session) = tenant(&crm, "acme").await;
    let formula = CustomFieldType::Formula {
        expression: "not vip".to_owned(),
        result: crm_engine::custom_objects::DataType::Boolean,
    };
    let indexed = CustomField {
        is_indexed: true,
        ..field(
            "contact",
            "size",
            CustomFieldType::Number(IntegerLimits::default()),
        )
    };
    let vip = define(&session, flag("contact", "vip")).await;
    define(&session, flag("contact", "forgotten")).await;
    define(&session, field("contact", "plain", formula)).await;
    let size = define(&session, indexed).await;
    session
        .custom_values()
        .rebuild(size, None, &())
        .await
        .unwrap();
    record(&session).await;
    let never = UsageFigures::default();
    let all = usage(&session, "contact").await;
    assert_eq!(all.len(), 4);
    assert!(
        all.iter()
            .all(|one| one.figures == never && one.records == 0)
    );
    let versions = async || {
        let schema = session
            .records::<CustomSchema>()
            .find_one(Find::new())
            .await;
        let field = session.records::<CustomField>().get(vip).await.unwrap();
        (schema.unwrap().unwrap().version, field.version)
    };
    let before = versions().await;
    let events = rows_of(&session, "audit_event").await.len();

    clock.advance(TimeDelta::minutes(1));
    let ada = contact(&session, json!({"vip": true, "size": 1})).await;
    let bob = contact(&session, json!({"vip": true})).await;
    // The other value stays, and what is computed is not used by anybody.
    set(&session, ada, &json!({"vip": false, "size": 1})).await;
    // A write that is refused, or taken back, is none.
    let wrong = json!({"vip": "no"});
    let change = |contact: &mut Contact| contact.custom_fields = wrong.clone();
    assert!(session.contacts().update(bob, change).await.is_err());
    let mut dropped = session.begin();
    let change = |contact: &mut Contact| contact.custom_fields = json!({});
    dropped.contacts().update(bob, change).await.unwrap();
    drop(dropped);
    let own = rows_of(&session, "audit_event").await.len();
    // Nothing is written before somebody says so.
    assert_eq!(
        usage(&session, "contact").await,
        all_with(&all, [2, 0, 0, 1])
    );
    assert_eq!(record(&session).await, 2);
    assert_eq!(of(&session, "contact", "vip").await, (3, 0, 2));
    assert_eq!(of(&session, "contact", "size").await, (1, 0, 1));
    assert_eq!(of(&session, "contact", "plain").await, (0, 0, 2));
    assert_eq!(of(&session, "contact", "forgotten").await, (0, 0, 0));
    assert_eq!(record(&session).await, 0);

    // Each query is one use of each field that it names, wherever it names it.
    clock.advance(TimeDelta::minutes(1));
    let both = json!({"or": [eq("vip", true), {"not": eq("custom_fields.vip", true)}]});
    find(&session, both).await;
    let sorted = json!({"filter": eq("size", 1), "sort": ["-size"]});
    let sorted: Find<()> = serde_json::from_value(sorted).unwrap();
    let contacts = session.object("contact").await.unwrap();
    contacts.find(&sorted).await.unwrap();
    let grouped = json!({"group_by": [{"field": "vip"}], "measures": ["count", {"sum": "size"}]});
    let grouped = serde_json::from_value(grouped).unwrap();
    contacts.aggregate(&grouped).await.unwrap();
    find(&session, eq("last_name", "Lovelace")).await;
    set(&session, bob, &json!({})).await;
    session.contacts().delete(bob).await.unwrap();
    assert_eq!(record(&session).await, 2);
    assert_eq!(of(&session, "contact", "vip").await, (4, 2, 1));
    assert_eq!(of(&session, "contact", "size").await, (1, 2, 1));
    let impact = session.custom_fields().impact(vip).await.unwrap();
    assert_eq!(impact.usage.usage_count, 6);
    let last = begin + TimeDelta::minutes(2);
    assert_eq!(impact.usage.last_used_at, Some(last));

    // Neither the definitions nor the trail know of it.
    assert_eq!(versions().await, before);
    let later = rows_of(&session, "audit_event").await;
    assert_eq!((own - events, later.len() - own), (3, 2));
    assert!(
        later
            .iter()
            .all(|event| event.get("object").as_text() != Some("custom_field_usage"))
    );

    // Figures go with the field.
    session.custom_fields().delete(size).await.unwrap();
    assert_eq!(usage(&session, "contact").await.len(), 3);
    find(&session, eq("last_name", "Lovelace")).await;
    session.custom_fields().purge(size, &()).await.unwrap();
    assert_eq!(rows_of(&session, "custom_field_usage").await.len(), 1);
    record(&session).await;
    assert_eq!(rows_of(&session, "custom_field_usage").await.len(), 1);
}

fn all_with(all: &[FieldUsage], records: [u64; 4]) -> Vec<FieldUsage> {
    let by_name = |name: &str| match name {
        "vip" => records[0],
        "forgotten" => records[1],
        "size" => records[3],
        // Computed for all.
        _ => records[0],
    };
    let with = |one: &FieldUsage| FieldUsage {
        records: by_name(one.api_name.as_str()),
        ..one.clone()
    };
    all.iter().map(with).collect()
}

/// Records of custom objects count too, and no tenant's uses are another's.
#[tokio::test]
async fn uses_of_custom_objects_and_of_tenants() {
    let crm = crm();
    let (_, acme) = tenant(&crm, "acme").await;
    let (_, other) = tenant(&crm, "other").await;
    for session in [&acme, &other] {
        let project = CustomObject::new(name("project"), "Project", "Projects");
        session.records().create(project).await.unwrap();
        define(session, flag("project", "late")).await;
    }
    let body = json!({"name": "Rollout", "custom_fields": {"late": true}});
    let mut projects = acme.object("project").await.unwrap();
    projects.create(body.as_object().unwrap()).await.unwrap();
    assert_eq!((record(&other).await, record(&acme).await), (0, 1));
    assert_eq!(of(&acme, "project", "late").await, (1, 0, 1));
    assert_eq!(of(&other, "project", "late").await, (0, 0, 0));
    let unknown = other.custom_fields().usage("nothing").await;
    assert_eq!(unknown.unwrap_err().code(), "unknown_object");
}

/// Several processes record at the same time: figures add up, nothing is replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_add_up() {
    const PROCESSES: usize = 6;
    const ROUNDS: usize = 8;
    let storage = backend::storage(&[]);
    let first = Crm::builder(storage.clone()).build();
    let (office, session) = tenant(&first, "acme").await;
    define(&session, flag("contact", "vip")).await;
    let mut running = Vec::new();
    for _ in 0..PROCESSES {
        let process = Crm::builder(storage.clone()).build();
        let session = process.session(office.tenant, Actor::User(office.admin));
        running.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                contact(&session, json!({"vip": round % 2 == 0})).await;
                find(&session, eq("vip", true)).await;
                record(&session).await;
            }
        }));
    }
    for one in running {
        one.await.unwrap();
    }
    let all = (PROCESSES * ROUNDS) as u64;
    assert_eq!(of(&session, "contact", "vip").await, (all, all, all));
}

/// How the storage fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    /// Nothing is read.
    Reads,
    /// Every commit loses against another.
    Conflicts,
    /// A commit is written, and nobody hears of it.
    Answers,
    /// Nothing ever comes back.
    Hangs,
}

/// Fails when it is told to, and counts what was asked.
#[derive(Debug, Default)]
struct Tried {
    fault: Mutex<Fault>,
    calls: AtomicUsize,
    rows: AtomicUsize,
    loads: AtomicUsize,
    is_hit: AtomicBool,
    hanging: Notify,
}

impl Tried {
    fn fail(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
        self.is_hit.store(false, Ordering::SeqCst);
    }

    /// Whether the storage fails so; says that it did.
    fn fails(&self, fault: Fault) -> bool {
        let fails = *self.fault.lock().unwrap() == fault;
        if fails {
            self.is_hit.store(true, Ordering::SeqCst);
        }
        fails
    }

    /// Calls, rows and reads of all definitions since the last time.
    fn counts(&self) -> [usize; 3] {
        [&self.calls, &self.rows, &self.loads].map(|count| count.swap(0, Ordering::SeqCst))
    }
}

#[async_trait]
impl Watch for Tried {
    async fn begins(&self, _: &Scope, call: Call<'_>) -> std::result::Result<(), StorageError> {
        match call {
            Call::Get(_) | Call::Select(_) => {
                if self.fails(Fault::Reads) {
                    return Err(StorageError::Unavailable("down".into()));
                }
                if self.fails(Fault::Hangs) {
                    self.hanging.notify_one();
                    std::future::pending::<()>().await;
                }
            }
            Call::Commit(_) if self.fails(Fault::Conflicts) => {
                return Err(StorageError::Conflict {
                    object: "custom_field_usage".to_owned(),
                    id: Uuid::nil(),
                });
            }
            _ => {}
        }
        Ok(())
    }

    async fn ends(
        &self,
        _: &Scope,
        call: Call<'_>,
        rows: &[Row],
    ) -> std::result::Result<(), StorageError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.rows.fetch_add(rows.len(), Ordering::SeqCst);
        match call {
            Call::Select(query) if query.object.name() == "custom_relationship" => {
                self.loads.fetch_add(1, Ordering::SeqCst);
            }
            Call::Commit(_) if self.fails(Fault::Answers) => {
                return Err(StorageError::Unavailable("gone".into()));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Uses whose recording fails, or is given up, are counted with what follows, and nothing is counted
/// twice.
#[tokio::test]
async fn what_is_not_recorded_is_recorded_later() {
    let storage = Watched::new(Tried::default());
    let crm = Crm::builder(storage.clone()).build();
    let (_, session) = tenant(&crm, "acme").await;
    define(&session, flag("contact", "vip")).await;
    let mut written = 0;
    for fault in [Fault::Reads, Fault::Conflicts, Fault::Hangs] {
        contact(&session, json!({"vip": true})).await;
        written += 1;
        storage.watch.fail(fault);
        let fields = session.custom_fields();
        let recording = fields.record_usage();
        if fault == Fault::Hangs {
            tokio::select! {
                _ = recording => panic!("it hangs"),
                () = storage.watch.hanging.notified() => {}
            }
        } else {
            assert!(recording.await.is_err(), "{fault:?}");
        }
        assert!(storage.watch.is_hit.load(Ordering::SeqCst), "{fault:?}");
        storage.watch.fail(Fault::None);
        contact(&session, json!({"vip": true})).await;
        written += 1;
        assert_eq!(record(&session).await, 1);
        let now = of(&session, "contact", "vip").await;
        assert_eq!(now, (written, 0, written), "{fault:?}");
    }
    // What may have been written is not written again.
    contact(&session, json!({"vip": true})).await;
    written += 1;
    storage.watch.fail(Fault::Answers);
    assert!(session.custom_fields().record_usage().await.is_err());
    storage.watch.fail(Fault::None);
    assert_eq!(record(&session).await, 0);
    assert_eq!(of(&session, "contact", "vip").await.0, written);
}

/// A user's write and query take no round trip more for being counted.
#[tokio::test]
async fn counting_takes_no_round_trip() {
    let storage = Watched::new(Tried::default());
    let clock = Arc::new(ManualClock::new("2026-03-02T09:00:00Z".parse().unwrap()));
    let crm = Crm::builder(storage.clone()).clock(clock).build();
    let (_, session) = tenant(&crm, "acme").await;
    define(&session, flag("contact", "vip")).await;
    let ada = contact(&session, json!({})).await;
    let counts = async |vip: Json| {
        storage.watch.counts();
        set(&session, ada, &vip).await;
        let write = storage.watch.counts()[0];
        find(&session, eq("last_name", "Lovelace")).await;
        (write, storage.watch.counts()[0])
    };
    let change = |contact: &mut Contact| contact.company = Some("Globex".to_owned());
    // What is remembered of the tenant is read once.
    find(&session, eq("last_name", "Lovelace")).await;
    storage.watch.counts();
    session.contacts().update(ada, change).await.unwrap();
    let plain = storage.watch.counts()[0];
    assert_eq!(counts(json!({"vip": true})).await, (plain, 1));
    find(&session, eq("vip", true)).await;
    assert_eq!(storage.watch.counts()[0], 1);
    assert_eq!(record(&session).await, 1);
}

/// C-032, C-036: a definition is written without reading those beside it, so many in one commit
/// take as many times as long, and no more.
#[tokio::test]
async fn many_definitions_in_one_commit_cost_as_many_times_one() {
    let storage = Watched::new(Tried::default());
    let crm = Crm::builder(storage.clone()).build();
    let mut costs = Vec::new();
    for count in [10, 20, 40] {
        let (_, session) = tenant(&crm, &format!("tenant{count}")).await;
        let project = CustomObject::new(name("project"), "Project", "Projects");
        session.records().create(project).await.unwrap();
        storage.watch.counts();
        let mut work = session.begin();
        for number in 0..count {
            let definition = CustomField {
                is_indexed: number % 2 == 0,
                ..flag(
                    ["project", "contact"][number % 2],
                    &format!("field_{number}"),
                )
            };
            work.records().create(definition).await.unwrap();
        }
        work.commit().await.unwrap();
        costs.push(storage.watch.counts());
        assert_eq!(usage(&session, "project").await.len(), count / 2);
    }
    let [ten, twenty, forty] = [costs[0], costs[1], costs[2]];
    // Calls and rows grow by the same for each definition.
    for cost in 0..2 {
        let grows = twenty[cost] - ten[cost];
        assert_eq!(forty[cost] - twenty[cost], 2 * grows, "{costs:?}");
    }
    assert!(
        twenty[0] - ten[0] <= 10 * 8,
        "calls for ten more: {costs:?}"
    );
    // What all of them say is read as often, however many there are.
    assert!(ten[2] == forty[2] && ten[2] <= 6, "{costs:?}");
}

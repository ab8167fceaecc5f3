//! C-038, C-095, C-136, C-137, C-163, C-164: unique and indexed custom fields, whose typed rows are
//! what the documents of records say, whichever way these were written and whoever writes at the
//! same time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{cases, crm, rows_of, tenant};
use crm_engine::custom_objects::{
    CustomField, CustomFieldType, CustomFieldsExt, CustomObject, CustomValue, CustomValuesExt,
    IndexState, TextLimits,
};
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use crm_engine::query::Comparison;
use crm_engine::value::ApiName;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use tokio::sync::Barrier;
use uuid::Uuid;

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

fn field(object: &str, api_name: &str, field_type: CustomFieldType) -> CustomField {
    CustomField::new(name(object), name(api_name), api_name, field_type)
}

fn text() -> CustomFieldType {
    CustomFieldType::Text(TextLimits::default())
}

fn unique(object: &str, api_name: &str) -> CustomField {
    CustomField {
        is_unique: true,
        ..field(object, api_name, text())
    }
}

fn indexed(object: &str, api_name: &str, field_type: CustomFieldType) -> CustomField {
    CustomField {
        is_indexed: true,
        ..field(object, api_name, field_type)
    }
}

async fn define(session: &Session, definition: CustomField) -> Arc<Record<CustomField>> {
    session.records().create(definition).await.unwrap()
}

async fn state(session: &Session, field: Id<CustomField>) -> IndexState {
    let field = session.records::<CustomField>().get(field).await.unwrap();
    field.index_state
}

async fn rebuild(session: &Session, field: Id<CustomField>) {
    session
        .custom_values()
        .rebuild(field, None, &())
        .await
        .unwrap();
}

fn contact(custom_fields: Json) -> Contact {
    Contact {
        custom_fields,
        ..Contact::named("Ada", "Lovelace")
    }
}

async fn create(session: &Session, custom_fields: Json) -> Result<Id<Contact>> {
    let created = session.contacts().create(contact(custom_fields)).await;
    created.map(|contact| contact.id)
}

async fn set(session: &Session, id: Id<Contact>, custom_fields: &Json) -> Result<()> {
    let changed = session
        .contacts()
        .update(id, |contact| contact.custom_fields = custom_fields.clone())
        .await;
    changed.map(|_| ())
}

/// What is told of a value that another record has.
fn assert_taken<T: std::fmt::Debug>(result: Result<T>, wanted: (&str, &str)) {
    match result.unwrap_err() {
        Error::Duplicate { object, fields } => {
            assert_eq!(
                (object.as_str(), fields.as_slice()),
                (wanted.0, &[wanted.1.to_owned()][..])
            );
        }
        other => panic!("refused otherwise: {other:?}"),
    }
}

/// A typed row: text, number and unique key, and whether it is deleted, as its record is.
type Typed = (Option<String>, Option<Decimal>, Option<String>, bool);

/// The typed rows that are stored, by field and record.
async fn stored(session: &Session) -> BTreeMap<(Uuid, Uuid), Typed> {
    let mut stored = BTreeMap::new();
    for row in rows_of(session, "custom_value").await {
        let row = Record::<CustomValue>::from_row(row).unwrap();
        assert_eq!(row.object, "contact");
        let number = row.number_value.map(|number| number.normalize());
        let is_deleted = row.deleted_at.is_some();
        let typed = (
            row.text_value.clone(),
            number,
            row.unique_key.clone(),
            is_deleted,
        );
        let other = stored.insert((row.field_id.uuid(), row.record_id), typed);
        assert!(other.is_none(), "two rows for one value");
    }
    stored
}

/// The typed rows that contacts and definitions make, worked out anew.
async fn recomputed(session: &Session) -> BTreeMap<(Uuid, Uuid), Typed> {
    let definitions = session.records::<CustomField>().find(Find::new()).await;
    let mut wanted = BTreeMap::new();
    for definition in definitions.unwrap().items {
        if !definition.is_indexed && !definition.is_unique {
            continue;
        }
        for row in rows_of(session, "contact").await {
            let document = row.get("custom_fields").to_json();
            let value = &document[definition.document_key()];
            let (text, number) = match &definition.field_type {
                CustomFieldType::Text(_) => (value.as_str(), None),
                CustomFieldType::Number(_) => (None, value.as_i64().map(Decimal::from)),
                other => panic!("not known to this test: {other:?}"),
            };
            if text.is_none() && number.is_none() {
                continue;
            }
            let whole = text.map(ToOwned::to_owned);
            let whole = whole.or_else(|| number.map(|number| number.to_string()));
            let typed = (
                text.map(str::to_lowercase),
                number.map(|number| number.normalize()),
                whole.filter(|_| definition.is_unique),
                row.is_deleted(),
            );
            wanted.insert((definition.id.uuid(), row.id()), typed);
        }
    }
    wanted
}

async fn assert_in_step(session: &Session) {
    assert_eq!(stored(session).await, recomputed(session).await);
}

/// Who wins of many that write one value at the same time: exactly one, whatever the object.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_gets_a_unique_value() {
    const CALLS: usize = 16;
    let (_, session) = tenant(&crm(), "acme").await;
    let project = CustomObject::new(name("project"), "Project", "Projects");
    session.records().create(project).await.unwrap();
    let code = define(&session, unique("project", "code")).await;
    assert_eq!(code.index_state, IndexState::Ready);
    let member = define(&session, unique("contact", "member")).await;
    rebuild(&session, member.id).await;
    for (object, field, body) in [
        (
            "project",
            "custom_fields.code",
            json!({"name": "Rollout", "custom_fields": {"code": "P-1"}}),
        ),
        (
            "contact",
            "custom_fields.member",
            json!({"first_name": "Ada", "last_name": "Lovelace", "custom_fields": {"member": "M-1"}}),
        ),
    ] {
        let barrier = Arc::new(Barrier::new(CALLS));
        let calls: Vec<_> = (0..CALLS)
            .map(|_| {
                let (session, barrier, body) = (session.clone(), barrier.clone(), body.clone());
                tokio::spawn(async move {
                    barrier.wait().await;
                    let mut records = session.object(object).await.unwrap();
                    records.create(body.as_object().unwrap()).await
                })
            })
            .collect();
        let mut won = 0;
        for call in calls {
            match call.await.unwrap() {
                Ok(_) => won += 1,
                refused => assert_taken(refused, (object, field)),
            }
        }
        assert_eq!(won, 1, "{object}");
        assert_eq!(rows_of(&session, object).await.len(), 1);
    }
}

/// A value is one record's for as long as that is not deleted, through every way of writing.
#[tokio::test]
async fn rows_follow_their_records() {
    let (_, session) = tenant(&crm(), "acme").await;
    let member = define(&session, unique("contact", "member")).await;
    rebuild(&session, member.id).await;
    define(
        &session,
        indexed(
            "contact",
            "points",
            CustomFieldType::Number(Default::default()),
        ),
    )
    .await;
    let refused = ("contact", "custom_fields.member");

    let ada = create(&session, json!({"member": "M-1", "points": 7}))
        .await
        .unwrap();
    assert_in_step(&session).await;
    assert_eq!(stored(&session).await.len(), 2);
    // Letters matter, as the field does not say otherwise.
    let grace = create(&session, json!({"member": "m-1"})).await.unwrap();
    assert_taken(create(&session, json!({"member": "M-1"})).await, refused);
    assert_taken(
        set(&session, grace, &json!({"member": "M-1"})).await,
        refused,
    );
    set(&session, grace, &json!({"member": "M-2", "points": 9}))
        .await
        .unwrap();
    assert_in_step(&session).await;

    // Two values change places in one commit.
    let mut work = session.begin();
    for (id, value) in [(ada, "M-2"), (grace, "M-1")] {
        work.contacts()
            .update(id, |contact| {
                contact.custom_fields = json!({"member": value, "points": 1});
            })
            .await
            .unwrap();
    }
    work.commit().await.unwrap();
    assert_in_step(&session).await;
    // One commit cannot give one value to two.
    let mut work = session.begin();
    for _ in 0..2 {
        work.contacts()
            .create(contact(json!({"member": "M-3"})))
            .await
            .unwrap();
    }
    assert_taken(work.commit().await, refused);

    // A deleted record gives its value free, and comes back only while nobody else has it.
    session.contacts().delete(ada).await.unwrap();
    assert_in_step(&session).await;
    let other = create(&session, json!({"member": "M-2"})).await.unwrap();
    assert_taken(session.contacts().restore(ada).await, refused);
    set(&session, other, &json!({})).await.unwrap();
    session.contacts().restore(ada).await.unwrap();
    assert_in_step(&session).await;

    // A merge takes the value over, and gives it back.
    let merged = session
        .contacts()
        .merge_into(other, &[ada], &Choices::new(), None)
        .await
        .unwrap();
    assert_in_step(&session).await;
    assert_eq!(
        session.contacts().get(other).await.unwrap().custom_fields["member"],
        "M-2"
    );
    session.merges().undo(merged.merges[0]).await.unwrap();
    assert_in_step(&session).await;
    assert_eq!(
        session.contacts().get(ada).await.unwrap().custom_fields["member"],
        "M-2"
    );

    session.contacts().delete(ada).await.unwrap();
    session.contacts().purge(ada).await.unwrap();
    session.contacts().archive(grace).await.unwrap();
    assert_in_step(&session).await;
    assert_eq!(stored(&session).await.len(), 2);

    // Another tenant has values of its own.
    let (_, stranger) = tenant(&common::crm(), "other").await;
    define(&stranger, unique("contact", "member")).await;
    create(&stranger, json!({"member": "M-1"})).await.unwrap();
}

/// A unique field that was deleted and comes back refuses doubles at once, whether or not its rows were
/// removed meanwhile; rebuilding makes that quick again.
#[tokio::test]
async fn a_restored_unique_field_refuses_doubles_at_once() {
    let crm = crm();
    let refused = ("contact", "custom_fields.member");
    for (name, removes_rows) in [("acme", false), ("globex", true)] {
        let (_, session) = tenant(&crm, name).await;
        let member = define(&session, unique("contact", "member")).await.id;
        rebuild(&session, member).await;
        let ada = create(&session, json!({"member": "M-1"})).await.unwrap();
        session.custom_fields().delete(member).await.unwrap();
        if removes_rows {
            rebuild(&session, member).await;
            assert!(stored(&session).await.is_empty());
        }
        session.custom_fields().restore(member).await.unwrap();
        assert_eq!(state(&session, member).await, IndexState::Building);
        assert_taken(create(&session, json!({"member": "M-1"})).await, refused);
        let grace = create(&session, json!({"member": "M-2"})).await.unwrap();
        let taken = set(&session, grace, &json!({"member": "M-1"})).await;
        assert_taken(taken, refused);
        // What is given up in the same commit is free.
        let mut work = session.begin();
        for (id, value) in [(ada, "M-3"), (grace, "M-1")] {
            let change = |contact: &mut Contact| contact.custom_fields = json!({"member": value});
            work.contacts().update(id, change).await.unwrap();
        }
        work.commit().await.unwrap();
        session.contacts().delete(grace).await.unwrap();
        let mary = create(&session, json!({"member": "M-1"})).await.unwrap();
        assert_taken(session.contacts().restore(grace).await, refused);
        session.contacts().delete(mary).await.unwrap();
        session.contacts().restore(grace).await.unwrap();
        rebuild(&session, member).await;
        assert_eq!(state(&session, member).await, IndexState::Ready);
        assert_in_step(&session).await;
        assert_taken(create(&session, json!({"member": "M-3"})).await, refused);
    }
}

/// Values that were there before the field are found at any time, and by the index once their rows
/// are complete.
#[tokio::test]
async fn records_of_before_get_their_rows() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let mut work = session.begin();
    for number in 0..1_100 {
        let custom = json!({"region": format!("R-{}", number % 100), "size": number});
        work.contacts().create(contact(custom)).await.unwrap();
    }
    work.commit().await.unwrap();
    let gone = create(&session, json!({"region": "R-7"})).await.unwrap();
    session.contacts().delete(gone).await.unwrap();

    let region = define(&session, indexed("contact", "region", text()))
        .await
        .id;
    let find = || Find::<Contact>::new().filter_by_name(Filter::eq("custom_fields.region", "R-7"));
    let is_indexed = async || {
        let registry = session.registry().await.unwrap();
        let contact = registry.object("contact").unwrap();
        contact.custom_field("region").unwrap().field.indexed
    };
    assert_eq!(state(&session, region).await, IndexState::Building);
    assert!(!is_indexed().await);
    assert_eq!(session.contacts().count(find()).await.unwrap(), 11);
    create(&session, json!({"region": "R-7"})).await.unwrap();
    assert_eq!(stored(&session).await.len(), 1);
    assert_eq!(session.contacts().count(find()).await.unwrap(), 12);

    // It can be stopped, and goes on where it was.
    let values = session.custom_values();
    let stop = |_: u64, _: Option<u64>| ControlFlow::Break(());
    let first = values.rebuild(region, None, &stop).await.unwrap();
    assert_eq!((first.records, first.rows), (500, 500));
    assert_eq!(state(&session, region).await, IndexState::Building);
    let rest = values.rebuild(region, first.next, &()).await.unwrap();
    assert_eq!((rest.records, rest.rows, rest.next), (602, 601, None));
    assert_eq!(state(&session, region).await, IndexState::Ready);
    assert!(is_indexed().await);
    assert_in_step(&session).await;
    assert_eq!(session.contacts().count(find()).await.unwrap(), 12);
    let again = values.rebuild(region, None, &()).await.unwrap();
    assert_eq!((again.records, again.rows), (1_102, 0));
    let stale = values.rebuild(region, first.next, &()).await.unwrap_err();
    assert_eq!(stale.code(), "conflict");

    // Where definitions are, nobody has values of a field that is new.
    let tier = define(&session, indexed("contact", "tier", text())).await;
    assert_eq!(tier.index_state, IndexState::Ready);
    // But such as were there before the first one.
    let number = CustomFieldType::Number(Default::default());
    let size = define(&session, indexed("contact", "size", number)).await;
    assert_eq!(size.index_state, IndexState::Building);
    rebuild(&session, size.id).await;
    assert_in_step(&session).await;
    let large = Find::<Contact>::new().filter_by_name(Filter::Compare {
        field: "size".into(),
        op: Comparison::Ge,
        value: 1_090_i64.into(),
    });
    assert_eq!(session.contacts().count(large).await.unwrap(), 10);

    // A field becomes unique only where no two records have the same value.
    let mut fields = session.records::<CustomField>();
    let refused = fields
        .update(region, |field| field.is_unique = true)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "definition_in_use");
    assert_eq!(state(&session, region).await, IndexState::Ready);

    // Rows go where they are not needed any more.
    fields
        .update(region, |field| field.is_indexed = false)
        .await
        .unwrap();
    assert_eq!(state(&session, region).await, IndexState::Removing);
    assert_eq!(session.contacts().count(find()).await.unwrap(), 12);
    rebuild(&session, region).await;
    assert_eq!(state(&session, region).await, IndexState::None);
    assert_in_step(&session).await;
    fields.delete(size.id).await.unwrap();
    rebuild(&session, size.id).await;
    assert_in_step(&session).await;
    assert!(stored(&session).await.is_empty());

    let other = tenant(&crm, "other").await.1;
    let foreign = other.custom_values().rebuild(region, None, &()).await;
    assert_eq!(foreign.unwrap_err().code(), "not_found");
}

/// A process that does not know yet of a definition writes no value without its row.
#[tokio::test]
async fn who_knows_nothing_of_a_definition_decides_again() {
    let storage = common::backend::storage(&[]);
    let (one, two) = (
        Crm::builder(storage.clone()).build(),
        Crm::builder(storage).build(),
    );
    let (office, session) = tenant(&one, "acme").await;
    let late = two.session(office.tenant, Actor::User(office.admin));
    let known = create(&late, json!({"member": "M-1"})).await.unwrap();
    let member = define(&session, unique("contact", "member")).await.id;
    rebuild(&session, member).await;
    assert_taken(
        create(&late, json!({"member": "M-1"})).await,
        ("contact", "custom_fields.member"),
    );
    create(&late, json!({"member": "M-2"})).await.unwrap();
    assert_in_step(&session).await;
    session
        .records::<CustomField>()
        .delete(member)
        .await
        .unwrap();
    session
        .records::<CustomField>()
        .restore(member)
        .await
        .unwrap();
    rebuild(&session, member).await;
    late.contacts().delete(known).await.unwrap();
    assert_in_step(&session).await;
}

/// What one of several callers does.
#[derive(Clone, Debug)]
enum Step {
    Create(Option<u8>),
    Set(usize, Option<u8>),
    Delete(usize),
    Restore(usize),
    Purge(usize),
    Index(bool),
    Unique(bool),
    DeleteField,
    RestoreField,
    Rebuild,
}

fn step() -> impl Strategy<Value = Step> {
    let value = || prop::option::weighted(0.8, 0..40_u8);
    prop_oneof![
        6 => value().prop_map(Step::Create),
        6 => (0..9_usize, value()).prop_map(|(at, value)| Step::Set(at, value)),
        3 => (0..9_usize).prop_map(Step::Delete),
        2 => (0..9_usize).prop_map(Step::Restore),
        1 => (0..9_usize).prop_map(Step::Purge),
        1 => any::<bool>().prop_map(Step::Index),
        1 => any::<bool>().prop_map(Step::Unique),
        1 => Just(Step::DeleteField),
        1 => Just(Step::RestoreField),
        3 => Just(Step::Rebuild),
    ]
}

/// Does a step; what others made impossible meanwhile is refused, in one of the known ways.
async fn take(session: &Session, step: &Step, field: Id<CustomField>) {
    let mut contacts = session.contacts();
    let mut fields = session.records::<CustomField>();
    let document = |value: &Option<u8>| match value {
        Some(value) => json!({"region": format!("R-{value}")}),
        None => json!({}),
    };
    let nth = async |at: usize| {
        let mut all = rows_of(session, "contact").await;
        let count = all.len();
        (count > 0).then(|| Id::<Contact>::new(all.swap_remove(at % count).id()))
    };
    let done = match step {
        Step::Create(value) => create(session, document(value)).await.map(|_| ()),
        Step::Index(is_indexed) => {
            let change = |field: &mut CustomField| field.is_indexed = *is_indexed;
            fields.update(field, change).await.map(|_| ())
        }
        Step::Unique(is_unique) => {
            let change = |field: &mut CustomField| field.is_unique = *is_unique;
            fields.update(field, change).await.map(|_| ())
        }
        Step::DeleteField => fields.delete(field).await,
        Step::RestoreField => fields.restore(field).await.map(|_| ()),
        Step::Rebuild => {
            let rebuilt = session.custom_values().rebuild(field, None, &()).await;
            rebuilt.map(|_| ())
        }
        Step::Set(at, _) | Step::Delete(at) | Step::Restore(at) | Step::Purge(at) => {
            let Some(id) = nth(*at).await else { return };
            match step {
                Step::Set(_, value) => set(session, id, &document(value)).await,
                Step::Delete(_) => contacts.delete(id).await,
                Step::Restore(_) => contacts.restore(id).await.map(|_| ()),
                _ => contacts.purge(id).await,
            }
        }
    };
    if let Err(error) = done {
        let known = [
            "duplicate",
            "conflict",
            "not_found",
            "not_deleted",
            "validation",
            "definition_in_use",
        ];
        assert!(known.contains(&error.code()), "{step:?}: {error:?}");
    }
}

/// After any writes, definitions and rebuildings, of several callers at the same time, the rows are
/// those that the documents make once they are said to be complete.
#[test]
fn rows_are_what_documents_say_whoever_writes() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let storage = runtime.block_on(async { common::backend::storage(&[]) });
    let crm = [
        Crm::builder(storage.clone()).build(),
        Crm::builder(storage).build(),
    ];
    let number = AtomicUsize::new(0);
    let mut runner = TestRunner::new(Config {
        cases: cases(12),
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    });
    let callers = prop::collection::vec(prop::collection::vec(step(), 1..12), 1..5);
    let outcome = runner.run(&callers, |callers| {
        let subdomain = format!("any-{}", number.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(async {
            let (office, session) = tenant(&crm[0], &subdomain).await;
            let other = crm[1].session(office.tenant, Actor::User(office.admin));
            for value in 0..5 {
                create(&other, json!({"region": format!("R-{value}")}))
                    .await
                    .unwrap();
            }
            let region = define(&session, indexed("contact", "region", text()))
                .await
                .id;
            let tasks: Vec<_> = callers
                .iter()
                .cloned()
                .enumerate()
                .map(|(caller, steps)| {
                    let session = [&session, &other][caller % 2].clone();
                    tokio::spawn(async move {
                        for step in &steps {
                            take(&session, step, region).await;
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            let mut fields = session.records::<CustomField>();
            match fields.get(region).await {
                Ok(field) if field.index_state == IndexState::Ready => {
                    assert_in_step(&session).await;
                }
                Ok(_) => {}
                Err(_) => drop(fields.restore(region).await.unwrap()),
            }
            let plain = |field: &mut CustomField| {
                (field.is_indexed, field.is_unique) = (true, false);
            };
            fields.update(region, plain).await.unwrap();
            rebuild(&session, region).await;
            assert_eq!(state(&session, region).await, IndexState::Ready);
            assert_in_step(&session).await;
        });
        Ok(())
    });
    outcome.unwrap();
}

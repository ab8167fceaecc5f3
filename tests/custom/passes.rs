//! C-034, C-036: how often a change of definitions looks at the records of an object, counted in
//! calls of the storage: once for all that a commit changes, and not at all where it is known that
//! there is nothing to find; and that it finds what it has to.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use crate::common::storage::{Calls, Watched};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{backend, tenant};
use crm_engine::contacts::Contact;
use crm_engine::custom_objects::{
    CustomField, CustomFieldOption, CustomFieldRule, CustomFieldType, CustomFieldsExt,
    CustomSchema, DataType, IndexState, IntegerLimits, TextLimits,
};
use crm_engine::engine::ManualClock;
use crm_engine::prelude::*;
use crm_engine::schema::DefinitionInUse;
use crm_engine::storage::Storage;
use crm_engine::value::ApiName;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value as Json, json};
use uuid::Uuid;

/// What the storage was asked for about an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Asked {
    selects: usize,
    rows: usize,
    aggregates: usize,
    guards: usize,
}

/// What it was asked for about an object since the last time.
fn asked(storage: &Watched<Calls>, object: &str) -> Asked {
    let mut asked = Asked::default();
    for call in storage.watch.take() {
        if call.object != object {
            continue;
        }
        match call.kind {
            "select" => {
                asked.selects += 1;
                asked.rows += call.rows;
            }
            "aggregate" => asked.aggregates += 1,
            "guard" => asked.guards += 1,
            _ => {}
        }
    }
    asked
}

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

fn field(api_name: &str, field_type: CustomFieldType) -> CustomField {
    CustomField::new(name("contact"), name(api_name), "Field", field_type)
}

fn text() -> CustomFieldType {
    CustomFieldType::Text(TextLimits::default())
}

fn contact(values: Json) -> Contact {
    Contact {
        custom_fields: values,
        ..Contact::named("Ada", "Lovelace")
    }
}

async fn make(session: &Session, contacts: impl Iterator<Item = Contact>) -> Vec<Uuid> {
    let contacts: Vec<Contact> = contacts.collect();
    let mut ids = Vec::new();
    for contacts in contacts.chunks(500) {
        let made = session.contacts().create_all(contacts.to_vec()).await;
        ids.extend(made.unwrap().iter().map(|contact| contact.id.uuid()));
    }
    ids
}

/// Defines fields in one commit.
async fn define_all(session: &Session, fields: Vec<CustomField>) -> Result<()> {
    let mut work = session.begin();
    for field in fields {
        work.records().create(field).await?;
    }
    work.commit().await.map(|_| ())
}

fn in_use(result: Result<()>) -> DefinitionInUse {
    match result.unwrap_err() {
        Error::DefinitionInUse(found) => *found,
        other => panic!("refused otherwise: {other}"),
    }
}

async fn closed_objects(session: &Session) -> Vec<String> {
    let schemas = session.records::<CustomSchema>();
    let found = schemas.find_one(Find::new()).await.unwrap();
    found.map_or_else(Vec::new, |schema| schema.closed_objects.clone())
}

/// However many fields a commit defines: their values, which were there before, are read once before
/// the commit and once within it.
#[tokio::test]
async fn all_changes_of_a_commit_take_one_pass() {
    let storage = Watched::new(Calls::default());
    let crm = Crm::builder(storage.clone()).clock(still()).build();
    let (_, session) = tenant(&crm, "acme").await;
    let values = |number: usize| {
        let mut values: serde_json::Map<String, Json> = (0..30)
            .map(|field| (format!("field_{field}"), json!("value")))
            .collect();
        values.insert("code".into(), json!(format!("C-{number}")));
        // Nobody defines it, so that it is never known that there is nothing to find.
        values.insert("stray".into(), json!(number));
        contact(Json::Object(values))
    };
    make(&session, (0..1_200).map(values)).await;
    storage.watch.take();
    let mut fields: Vec<CustomField> = (0..30)
        .map(|number| CustomField {
            is_required: number % 2 == 0,
            ..field(&format!("field_{number}"), text())
        })
        .collect();
    fields.push(CustomField {
        is_unique: true,
        ..field("code", text())
    });
    define_all(&session, fields).await.unwrap();
    let pass = Asked {
        selects: 3,
        rows: 1_200,
        aggregates: 1,
        guards: 1,
    };
    assert_eq!(asked(&storage, "contact"), pass);
    assert_eq!(closed_objects(&session).await, [""; 0]);

    // The first record tells that a new field has to look for its values, which nobody has. Now that
    // there are fields, nobody writes such values either: the commit does not look again.
    let another = CustomField {
        is_searchable: false,
        ..field("another", text())
    };
    define_all(&session, vec![another]).await.unwrap();
    let pass = Asked {
        selects: 2,
        rows: 500,
        aggregates: 0,
        guards: 0,
    };
    assert_eq!(asked(&storage, "contact"), pass);

    // Changes of several definitions, too: longer texts are harmless, shorter ones are not.
    let fields = session.records::<CustomField>();
    let mut page = Find::new().limit(200);
    page = page.sort(CustomField::API_NAME.asc());
    let fields = fields.find(page).await.unwrap().items;
    storage.watch.take();
    let mut work = session.begin();
    for field in &fields {
        let mut records = work.records::<CustomField>();
        let most = |field: &mut CustomField| {
            field.field_type = CustomFieldType::Text(TextLimits {
                max_length: Some(20),
                ..TextLimits::default()
            });
        };
        records.update(field.id, most).await.unwrap();
    }
    work.commit().await.unwrap();
    let pass = Asked {
        selects: 3,
        rows: 1_200,
        aggregates: 0,
        guards: 1,
    };
    assert_eq!(asked(&storage, "contact"), pass);
}

/// Where no record has a value but of defined fields, a new field reads none: not for its values, not
/// for its index, and not for its being the only one of its kind.
#[tokio::test]
async fn a_new_field_reads_no_record_where_there_is_nothing_to_find() {
    let storage = Watched::new(Calls::default());
    let crm = Crm::builder(storage.clone()).clock(still()).build();
    let (_, session) = tenant(&crm, "acme").await;
    make(&session, (0..600).map(|_| contact(json!({})))).await;
    storage.watch.take();
    // The first one finds out: one page without a record, and one in the commit.
    define_all(&session, vec![field("first", text())])
        .await
        .unwrap();
    let first = Asked {
        selects: 1,
        rows: 0,
        aggregates: 0,
        guards: 1,
    };
    assert_eq!(asked(&storage, "contact"), first);
    assert_eq!(closed_objects(&session).await, ["contact"]);
    make(
        &session,
        (0..600).map(|number| contact(json!({"first": number.to_string()}))),
    )
    .await;
    storage.watch.take();
    for number in 0..10 {
        let unique = CustomField {
            is_unique: true,
            is_searchable: true,
            ..field(&format!("unique_{number}"), text())
        };
        let picklist = field(&format!("list_{number}"), CustomFieldType::Picklist);
        let mut work = session.begin();
        let unique = work.records().create(unique).await.unwrap();
        let picklist = work.records().create(picklist).await.unwrap();
        let option = CustomFieldOption::new(picklist.id, "a", "A");
        work.records().create(option).await.unwrap();
        work.commit().await.unwrap();
        assert_eq!(asked(&storage, "contact"), Asked::default());
        // Nothing is left to do for its index.
        let unique = session.records::<CustomField>().get(unique.id).await;
        let unique = unique.unwrap();
        assert_eq!(
            (unique.index_state, unique.search_state),
            (IndexState::Ready, IndexState::Ready)
        );
        storage.watch.take();
    }
    // That each has a value is another thing.
    let required = CustomField {
        is_required: true,
        ..field("required", text())
    };
    let refused = in_use(define_all(&session, vec![required]).await);
    assert_eq!(
        (refused.failed[0].check, refused.failed[0].count),
        ("has_value", 1_200)
    );

    // A field that is purged leaves nothing behind, so its name is free without a look.
    let fields = session.records::<CustomField>();
    let all = fields.find(Find::new().limit(200)).await.unwrap().items;
    let find = |name: &str| all.iter().find(|field| field.api_name.as_str() == name);
    let first = find("first").unwrap().id;
    session.custom_fields().delete(first).await.unwrap();
    session.custom_fields().purge(first, &()).await.unwrap();
    storage.watch.take();
    let whole = CustomFieldType::Number(IntegerLimits::default());
    define_all(&session, vec![field("first", whole.clone())])
        .await
        .unwrap();
    assert_eq!(asked(&storage, "contact"), Asked::default());

    // Without any field, documents take any member again: then records are looked at.
    let all = fields.find(Find::new().limit(200)).await.unwrap().items;
    for field in all {
        session.custom_fields().delete(field.id).await.unwrap();
    }
    assert_eq!(closed_objects(&session).await, [""; 0]);
    let stray = make(&session, [contact(json!({"size": "large"}))].into_iter()).await;
    let refused = define_all(&session, vec![field("size", whole), field("other", text())]).await;
    let refused = in_use(refused);
    assert_eq!((&*refused.field, refused.failed.len()), ("size", 1));
    assert_eq!(refused.failed[0].records[0].id, stray[0]);
    define_all(&session, vec![field("other", text())])
        .await
        .unwrap();
    assert_eq!(closed_objects(&session).await, [""; 0]);
}

/// What a deleted record holds comes back with it, so it counts.
#[tokio::test]
async fn a_deleted_record_keeps_the_look() {
    let crm = Crm::builder(backend::storage(&[])).build();
    let (_, session) = tenant(&crm, "acme").await;
    let gone = make(&session, [contact(json!({"size": "large"}))].into_iter()).await;
    let gone: Id<Contact> = Id::new(gone[0]);
    session.contacts().delete(gone).await.unwrap();
    define_all(&session, vec![field("other", text())])
        .await
        .unwrap();
    session.contacts().restore(gone).await.unwrap();
    let whole = CustomFieldType::Number(IntegerLimits::default());
    let refused = in_use(define_all(&session, vec![field("size", whole)]).await);
    assert_eq!(refused.failed[0].records[0].id, gone.uuid());
}

/// A record that gets a value between the look and the commit makes the commit a conflict.
#[tokio::test]
async fn nothing_slips_in_before_it_is_known() {
    let crm = Crm::builder(backend::storage(&[])).build();
    let (_, session) = tenant(&crm, "acme").await;
    let storage = session.engine().storage().clone();
    let mut defining = session.begin();
    let first = defining.records().create(field("first", text())).await;
    first.unwrap();
    let defining = defining.prepare().await.unwrap();
    make(&session, [contact(json!({"stray": 1}))].into_iter()).await;
    let refused = storage.commit(session.scope(), &defining).await;
    assert_eq!(Error::from(refused.unwrap_err()).code(), "conflict");
    // Run again, it is known that there is something.
    define_all(&session, vec![field("first", text())])
        .await
        .unwrap();
    assert_eq!(closed_objects(&session).await, [""; 0]);
    // From then on nobody writes more of it, so the next one need not look twice.
    let mut defining = session.begin();
    let stray = field("other", CustomFieldType::Boolean);
    defining.records().create(stray).await.unwrap();
    let defining = defining.prepare().await.unwrap();
    assert!(defining.guards.is_empty());
    let mut contacts = session.contacts();
    let late = contacts.create(contact(json!({"other": 1}))).await;
    assert_eq!(late.unwrap_err().code(), "validation");
    storage.commit(session.scope(), &defining).await.unwrap();

    // And who decided before there were definitions writes nothing after them.
    let (_, other) = tenant(&crm, "other").await;
    let mut writing = other.begin();
    let stray = contact(json!({"stray": 1}));
    writing.contacts().create(stray).await.unwrap();
    let writing = writing.prepare().await.unwrap();
    define_all(&other, vec![field("first", text())])
        .await
        .unwrap();
    assert_eq!(closed_objects(&other).await, ["contact"]);
    let refused = storage.commit(other.scope(), &writing).await;
    assert_eq!(Error::from(refused.unwrap_err()).code(), "conflict");
}

/// Formulas and rules of one commit are checked among all definitions, which are read once for all of
/// them.
#[tokio::test]
async fn definitions_are_read_once_in_a_commit() {
    let storage = Watched::new(Calls::default());
    let crm = Crm::builder(storage.clone()).clock(still()).build();
    let (_, session) = tenant(&crm, "acme").await;
    let whole = CustomFieldType::Number(IntegerLimits::default());
    define_all(&session, vec![field("base", whole)])
        .await
        .unwrap();
    let mut costs = Vec::new();
    let mut made = 0;
    for count in [1, 9] {
        storage.watch.take();
        let mut work = session.begin();
        for _ in 0..count {
            let number = made;
            made += 1;
            // Each follows from what the one before says, of this commit or not.
            let expression = match number % 5 {
                0 => "base + 1".to_owned(),
                _ => format!("sum_{} + 1", number - 1),
            };
            let formula = CustomFieldType::Formula {
                expression: expression.as_str().into(),
                result: DataType::Decimal,
            };
            let formula = field(&format!("sum_{number}"), formula);
            work.records().create(formula).await.unwrap();
            let rule = CustomFieldRule::new(
                name("contact"),
                format!("Rule {number}"),
                format!("sum_{number} > 0"),
                "must be positive",
            );
            work.records().create(rule).await.unwrap();
        }
        work.commit().await.unwrap();
        costs.push(asked(&storage, "custom_field_rule").selects);
    }
    assert_eq!(costs[0], costs[1], "{costs:?}");
    let ada = contact(json!({"base": 1}));
    let ada = session.contacts().create(ada).await.unwrap();
    assert_eq!(ada.custom_fields["sum_4"], json!("6"));
    let error = session
        .contacts()
        .create(contact(json!({"base": -9})))
        .await;
    assert_eq!(error.unwrap_err().code(), "validation");
}

/// What a value has to be like, said once more.
fn is_right(field: usize, value: &Json) -> bool {
    match field {
        0 => value
            .as_i64()
            .is_some_and(|number| (0..=3).contains(&number)),
        1 => {
            let text = value.as_str();
            text.is_some_and(|text| {
                !text.trim().is_empty() && text.trim() == text && text.len() <= 3
            })
        }
        2 => matches!(value.as_str(), Some("a" | "b")),
        _ => value.is_boolean(),
    }
}

fn value() -> impl Strategy<Value = Json> {
    prop_oneof![
        6 => Just(Json::Null),
        3 => (0..5_i64).prop_map(Json::from),
        3 => "[ab]{1,4}".prop_map(Json::from),
        1 => Just(json!(" a")),
        2 => any::<bool>().prop_map(Json::from),
        1 => Just(json!(["a"])),
    ]
}

/// One pass over all finds what a look at each record by each field finds.
#[test]
fn a_pass_finds_what_each_look_finds() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let crm = runtime.block_on(async { Crm::builder(backend::storage(&[])).build() });
    let number = std::sync::atomic::AtomicUsize::new(0);
    // Four fields, and one that nobody defines.
    let strategy = prop::collection::vec(prop::collection::vec(value(), 5), 0..8);
    let mut runner = TestRunner::new(Config {
        cases: common::cases(32),
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&strategy, |documents| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        runtime.block_on(async {
            let (_, session) = tenant(&crm, &format!("passes-{number}")).await;
            let documents: Vec<BTreeMap<String, Json>> = documents
                .into_iter()
                .map(|values| {
                    let values = values.into_iter().enumerate();
                    let values = values.filter(|(_, value)| !value.is_null());
                    values
                        .map(|(at, value)| (format!("field_{at}"), value))
                        .collect()
                })
                .collect();
            let contacts = documents.iter().map(|document| contact(json!(document)));
            let ids = make(&session, contacts).await;
            let types = [
                CustomFieldType::Number(IntegerLimits {
                    min: Some(0),
                    max: Some(3),
                }),
                CustomFieldType::Text(TextLimits {
                    max_length: Some(3),
                    ..TextLimits::default()
                }),
                CustomFieldType::Picklist,
                CustomFieldType::Boolean,
            ];
            let mut work = session.begin();
            for (at, kind) in types.into_iter().enumerate() {
                let one = field(&format!("field_{at}"), kind);
                let made = work.records().create(one).await.unwrap();
                for option in ["a", "b"].iter().filter(|_| at == 2) {
                    let option = CustomFieldOption::new(made.id, *option, "Option");
                    work.records().create(option).await.unwrap();
                }
            }
            let outcome = work.commit().await.map(|_| ());
            let wrong = |at: usize| -> Vec<Uuid> {
                let key = format!("field_{at}");
                let all = documents.iter().zip(&ids);
                let wrong = all.filter(|(document, _)| {
                    document.get(&key).is_some_and(|value| !is_right(at, value))
                });
                wrong.map(|(_, id)| *id).collect()
            };
            let first = (0..4).find(|at| !wrong(*at).is_empty());
            match first {
                None => {
                    outcome.unwrap();
                    let has_stray = documents.iter().any(|one| one.contains_key("field_4"));
                    assert_eq!(closed_objects(&session).await.is_empty(), has_stray);
                }
                Some(at) => {
                    let refused = in_use(outcome);
                    assert_eq!(refused.field, format!("field_{at}"));
                    let told = refused.failed[0].records.iter();
                    let mut told: Vec<Uuid> = told.map(|record| record.id).collect();
                    told.sort_unstable();
                    let mut expected = wrong(at);
                    expected.sort_unstable();
                    assert_eq!(told, expected);
                }
            }
        });
        Ok(())
    });
    outcome.unwrap();
}

/// A clock that stands still, since what is remembered of the tenant is read again as time goes by.
fn still() -> Arc<ManualClock> {
    Arc::new(ManualClock::new("2026-03-02T09:00:00Z".parse().unwrap()))
}

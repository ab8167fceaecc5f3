//! C-036, C-135, R-472: text search, which looks into custom fields of texts like into the object's own,
//! and finds what the records say, whichever way they and the definitions were written.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::common::{cases, crm, rows_of, tenant};
use crm_engine::custom_objects::{
    CustomField, CustomFieldType, CustomFieldsExt, CustomObject, CustomText, CustomValuesExt,
    IndexState, TextLimits,
};
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use crm_engine::query::TextSearch;
use crm_engine::value::ApiName;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value as Json, json};
use uuid::Uuid;

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

fn field(object: &str, api_name: &str) -> CustomField {
    let text = CustomFieldType::Text(TextLimits::default());
    CustomField::new(name(object), name(api_name), api_name, text)
}

async fn define(session: &Session, definition: CustomField) -> Arc<Record<CustomField>> {
    session.records().create(definition).await.unwrap()
}

async fn rebuild(session: &Session, field: Id<CustomField>) {
    let values = session.custom_values();
    values.rebuild(field, None, &()).await.unwrap();
}

async fn state(session: &Session, field: Id<CustomField>) -> IndexState {
    let field = session.records::<CustomField>().get(field).await.unwrap();
    field.search_state
}

async fn contact(session: &Session, last_name: &str, custom_fields: Json) -> Id<Contact> {
    let contact = Contact {
        custom_fields,
        ..Contact::named("Ada", last_name)
    };
    session.contacts().create(contact).await.unwrap().id
}

async fn found(session: &Session, object: &str, text: &str) -> Vec<Uuid> {
    let found = session.search(object, text, 200).await.unwrap();
    found.records.iter().map(|found| found.row.id()).collect()
}

async fn incomplete(session: &Session, object: &str) -> Vec<String> {
    session.search(object, "x", 1).await.unwrap().incomplete
}

/// What searches look into for records beside their own text fields.
async fn kept(session: &Session) -> BTreeSet<(Uuid, String)> {
    let rows = rows_of(session, "custom_text").await.into_iter();
    let rows = rows.map(|row| Record::<CustomText>::from_row(row).unwrap());
    rows.map(|row| (row.record_id, row.words.clone())).collect()
}

/// C-135: words, their beginnings, case, accents, punctuation; the best first; nobody else's.
#[tokio::test]
async fn words_of_own_fields_are_found() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let (_, other) = tenant(&crm, "globex").await;
    let will = Contact {
        email: Some(EmailAddress::parse("will@acme.example").unwrap()),
        ..Contact::named("Will", "Smith")
    };
    let will = session.contacts().create(will).await.unwrap().id.uuid();
    let elodie = Contact::named("ÉLODIE", "Müller-Lüdenscheidt-Willow");
    let elodie = session.contacts().create(elodie).await.unwrap().id.uuid();
    let theirs = Contact::named("Will", "Smith");
    other.contacts().create(theirs).await.unwrap();
    for (text, wanted) in [
        ("Will", vec![will, elodie]),
        ("smi WIL", vec![will]),
        ("will@acme.exam", vec![will]),
        ("acme", vec![will]),
        ("example will", vec![will]),
        ("mple", vec![]),
        ("élo", vec![elodie]),
        ("lud", vec![elodie]),
        ("muller-LÜ", vec![elodie]),
        ("will smith jones", vec![]),
        ("'; -- % _ \\", vec![]),
        ("\0will", vec![will, elodie]),
        ("", vec![]),
    ] {
        assert_eq!(found(&session, "contact", text).await, wanted, "{text:?}");
    }
    session.contacts().delete(Id::new(will)).await.unwrap();
    assert_eq!(found(&session, "contact", "will").await, [elodie]);
    session.contacts().restore(Id::new(will)).await.unwrap();
    assert_eq!(found(&session, "contact", "will").await, [will, elodie]);
    let one = session.search("contact", "will", 1).await.unwrap();
    assert_eq!(one.records.len(), 1);
    assert!(
        session
            .search("contact", "will", 0)
            .await
            .unwrap()
            .records
            .is_empty()
    );
    assert_eq!(
        session
            .search("unknown", "will", 9)
            .await
            .unwrap_err()
            .code(),
        "unknown_object"
    );
}

/// searchable fields are found from their definition on, together with words of own fields; not
/// other fields, other objects, or other tenants.
#[tokio::test]
async fn words_of_custom_fields_are_found() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let (_, other) = tenant(&crm, "globex").await;
    let nickname = define(&session, field("contact", "nickname")).await;
    let secret = CustomField {
        is_searchable: false,
        ..field("contact", "secret")
    };
    let secret = define(&session, secret).await;
    assert_eq!(secret.search_state, IndexState::None);
    let number = CustomFieldType::Number(Default::default());
    let shoe = CustomField::new(name("contact"), name("shoe"), "Shoe", number);
    assert_eq!(define(&session, shoe).await.search_state, IndexState::None);
    rebuild(&session, nickname.id).await;
    assert!(incomplete(&session, "contact").await.is_empty());

    let values = json!({"nickname": "Enchantress of Números", "secret": "byron", "shoe": 38});
    let ada = contact(&session, "Lovelace", values).await.uuid();
    for (text, wanted) in [
        ("enchant", vec![ada]),
        ("numeros lovel", vec![ada]),
        ("ada NÚM", vec![ada]),
        ("byron", vec![]),
        ("38", vec![]),
        ("ada enchanted", vec![]),
    ] {
        assert_eq!(found(&session, "contact", text).await, wanted, "{text:?}");
    }
    assert!(found(&session, "lead", "enchantress").await.is_empty());
    assert!(found(&other, "contact", "enchantress").await.is_empty());

    // Own fields and custom ones go on together.
    let id = Id::<Contact>::new(ada);
    let renamed = |contact: &mut Contact| contact.name.last_name = Some("King".to_owned());
    session.contacts().update(id, renamed).await.unwrap();
    assert_eq!(found(&session, "contact", "king enchantress").await, [ada]);
    assert!(found(&session, "contact", "lovelace").await.is_empty());
    // A field is found by its values, whatever it is called, and out of use too.
    session
        .custom_fields()
        .rename(nickname.id, name("known_as"))
        .await
        .unwrap();
    assert_eq!(found(&session, "contact", "king enchantress").await, [ada]);
    let off = |field: &mut CustomField| field.is_active = false;
    session
        .records::<CustomField>()
        .update(nickname.id, off)
        .await
        .unwrap();
    assert_eq!(found(&session, "contact", "enchantress").await, [ada]);
    let on = |field: &mut CustomField| field.is_active = true;
    session
        .records::<CustomField>()
        .update(nickname.id, on)
        .await
        .unwrap();

    let emptied = |contact: &mut Contact| contact.custom_fields = json!({"shoe": 38});
    session.contacts().update(id, emptied).await.unwrap();
    assert!(found(&session, "contact", "enchantress").await.is_empty());
    assert_eq!(found(&session, "contact", "king").await, [ada]);
    assert!(kept(&session).await.is_empty());
}

/// Of a field that becomes searchable on records that are there, the search says what it covers until
/// the batches are through; what is searched no more is not found from then on.
#[tokio::test]
async fn a_field_becomes_searchable_and_is_deleted_restored_and_purged() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let before = contact(&session, "Lovelace", json!({"nickname": "countess"}))
        .await
        .uuid();
    let nickname = CustomField {
        is_searchable: false,
        ..field("contact", "nickname")
    };
    let nickname = define(&session, nickname).await.id;
    assert!(found(&session, "contact", "countess").await.is_empty());
    let searched = |yes: bool| move |field: &mut CustomField| field.is_searchable = yes;
    session
        .records()
        .update(nickname, searched(true))
        .await
        .unwrap();
    assert_eq!(state(&session, nickname).await, IndexState::Building);
    assert_eq!(incomplete(&session, "contact").await, ["nickname"]);
    // What is written now is found at once.
    let after = contact(&session, "Byron", json!({"nickname": "countess too"}))
        .await
        .uuid();
    assert!(
        found(&session, "contact", "countess")
            .await
            .contains(&after)
    );
    rebuild(&session, nickname).await;
    assert_eq!(state(&session, nickname).await, IndexState::Ready);
    assert!(incomplete(&session, "contact").await.is_empty());
    assert_eq!(
        found(&session, "contact", "countess").await,
        [before, after]
    );
    let rows = kept(&session).await;
    rebuild(&session, nickname).await;
    assert_eq!(kept(&session).await, rows);

    session
        .records()
        .update(nickname, searched(false))
        .await
        .unwrap();
    assert!(found(&session, "contact", "countess").await.is_empty());
    session
        .records()
        .update(nickname, searched(true))
        .await
        .unwrap();
    rebuild(&session, nickname).await;
    assert_eq!(
        found(&session, "contact", "countess").await,
        [before, after]
    );

    session.custom_fields().delete(nickname).await.unwrap();
    assert!(found(&session, "contact", "countess").await.is_empty());
    assert_eq!(found(&session, "contact", "lovelace").await, [before]);
    session.custom_fields().restore(nickname).await.unwrap();
    assert_eq!(incomplete(&session, "contact").await, ["nickname"]);
    rebuild(&session, nickname).await;
    assert_eq!(
        found(&session, "contact", "countess").await,
        [before, after]
    );

    session.custom_fields().delete(nickname).await.unwrap();
    session.custom_fields().purge(nickname, &()).await.unwrap();
    assert!(
        kept(&session).await.is_empty(),
        "words are left of a field that is gone"
    );
    assert_eq!(found(&session, "contact", "lovelace").await, [before]);
}

/// Records of custom objects are found by their names, tags and fields, each object for itself.
#[tokio::test]
async fn custom_objects_are_searched() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    for object in ["project", "gadget"] {
        let object = CustomObject::new(name(object), object, "Many");
        session.records().create(object).await.unwrap();
    }
    let site = define(&session, field("project", "site")).await;
    assert_eq!(site.search_state, IndexState::Ready);
    let body = json!({
        "name": "Bridge", "tags": ["steel works", "urgent"], "custom_fields": {"site": "Zürich-Nord"},
    });
    let mut ids = Vec::new();
    for object in ["project", "gadget"] {
        let mut body = body.as_object().unwrap().clone();
        if object == "gadget" {
            body.remove("custom_fields");
        }
        let mut records = session.object(object).await.unwrap();
        ids.push(records.create(&body).await.unwrap().id());
    }
    let [project, gadget] = ids[..] else {
        panic!("two records");
    };
    for (object, text, wanted) in [
        ("project", "bri", vec![project]),
        ("gadget", "bridge", vec![gadget]),
        ("project", "steel", vec![project]),
        ("gadget", "bridge urg works", vec![gadget]),
        ("project", "zurich nord urgent", vec![project]),
        ("gadget", "zurich", vec![]),
        ("custom_text", "zurich", vec![]),
    ] {
        let found = match object {
            "custom_text" => Vec::new(),
            _ => found(&session, object, text).await,
        };
        assert_eq!(found, wanted, "{object} {text:?}");
    }
    let mut projects = session.object("project").await.unwrap();
    projects.delete(project).await.unwrap();
    assert!(found(&session, "project", "steel").await.is_empty());
    projects.restore(project).await.unwrap();
    assert_eq!(found(&session, "project", "steel").await, [project]);
    projects.delete(project).await.unwrap();
    projects.purge(project).await.unwrap();
    assert!(
        kept(&session)
            .await
            .iter()
            .all(|(record, _)| *record != project)
    );
}

/// A merge takes the words along, and its undoing gives them back.
#[tokio::test]
async fn merged_records_are_found_by_what_they_have() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let nickname = define(&session, field("contact", "nickname")).await;
    rebuild(&session, nickname.id).await;
    let one = contact(&session, "Lovelace", json!({})).await;
    let two = contact(&session, "Byron", json!({"nickname": "countess"})).await;
    let choices = Choices::new();
    let merge = session
        .contacts()
        .merge_into(one, &[two], &choices, None)
        .await
        .unwrap();
    assert_eq!(
        found(&session, "contact", "countess lovelace").await,
        [one.uuid()]
    );
    assert_eq!(found(&session, "contact", "countess").await, [one.uuid()]);
    session.merges().undo(merge.merges[0]).await.unwrap();
    assert_eq!(found(&session, "contact", "countess").await, [two.uuid()]);
}

/// Whatever is written and in whichever order fields become searchable: what is found is what a look at
/// every record finds, and no words are kept of what is gone.
#[test]
fn searches_find_what_records_say() {
    const WORDS: [&str; 8] = ["ada", "Äda", "adam", "x-ray", "x", "42", "ΟΔΟΣ", "o'neill"];
    let word = || prop::sample::select(WORDS.to_vec());
    let words = || prop::collection::vec(word(), 0..3).prop_map(|words| words.join(", "));
    let step = (0..7_u8, 0..4_usize, words(), words());
    let steps = prop::collection::vec(step, 1..14);
    let asked = prop::collection::vec(words(), 4);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config::with_cases(cases(12)));
    let count = std::sync::atomic::AtomicUsize::new(0);
    let crm = runtime.block_on(async { crm() });
    let run = runner.run(&(steps, asked), |(steps, asked)| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        runtime.block_on(async {
            let (_, session) = tenant(&crm, &format!("t{number}")).await;
            let field = define(&session, field("contact", "nickname")).await.id;
            let mut ids: Vec<Id<Contact>> = Vec::new();
            for (kind, place, own, custom) in steps {
                let values = json!({"nickname": custom});
                let last_name = format!("{own} z");
                let at = ids.get(place % ids.len().max(1)).copied();
                match (kind, at) {
                    (0 | 1, _) | (_, None) => ids.push(contact(&session, &last_name, values).await),
                    (2, Some(id)) => {
                        let change = |contact: &mut Contact| contact.custom_fields = values.clone();
                        let _ = session.contacts().update(id, change).await;
                    }
                    (3, Some(id)) => {
                        let change = |contact: &mut Contact| {
                            contact.name.last_name = Some(last_name.clone());
                        };
                        let _ = session.contacts().update(id, change).await;
                    }
                    (4, Some(id)) => {
                        if session.contacts().delete(id).await.is_err() {
                            session.contacts().restore(id).await.unwrap();
                        }
                    }
                    (5, Some(_)) => {
                        let change = |field: &mut CustomField| field.is_searchable ^= true;
                        session.records().update(field, change).await.unwrap();
                    }
                    (_, Some(_)) => {
                        if session.custom_fields().delete(field).await.is_ok() {
                            session.custom_fields().restore(field).await.unwrap();
                        }
                    }
                }
            }
            rebuild(&session, field).await;
            let object = session.describe("contact").await.unwrap();
            let rows = rows_of(&session, "contact").await;
            for asked in asked {
                let search = TextSearch::new(&object, &asked, 200);
                let live = rows.iter().filter(|row| !row.is_deleted());
                let wanted = live.filter(|row| search.rank(&***row).is_some());
                let wanted: BTreeSet<Uuid> = wanted.map(|row| row.id()).collect();
                let given = found(&session, "contact", &asked).await;
                let given: BTreeSet<Uuid> = given.into_iter().collect();
                assert_eq!(given, wanted, "{asked:?}");
            }
            let live: BTreeSet<Uuid> = rows
                .iter()
                .filter(|row| !row.is_deleted())
                .map(|row| row.id())
                .collect();
            let kept = kept(&session).await;
            assert!(kept.iter().all(|(record, _)| live.contains(record)));
        });
        Ok(())
    });
    run.unwrap();
}

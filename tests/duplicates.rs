//! Duplicates: rules as data, checks, strict rules, keys in step with records, scans.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "common/backend.rs"]
mod backend;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use crm_engine::Stamp;
use crm_engine::duplicates::{
    CheckGap, CompiledRule, DuplicateMatch, DuplicatePair, KeyState, MatchRule, ScanCursor, Scanner,
};
use crm_engine::prelude::*;
use crm_engine::query::{AggregateQuery, Group, Query};
use crm_engine::schema::{
    Dynamic, FieldSchema, FieldType, Meta, ObjectRef, ObjectSchema, Row, Value,
};
use crm_engine::storage::{ChangeSet, Claim, Committed, Scope, Storage, StorageError};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use uuid::Uuid;

async fn tenant(crm: &Crm, name: &str) -> Session {
    let email = format!("ada@{name}.example");
    let onboarded = crm
        .onboard(Onboarding::new(name, name, email))
        .await
        .unwrap();
    crm.session(onboarded.tenant, Actor::User(onboarded.admin))
}

async fn session() -> Session {
    tenant(&Crm::builder(backend::storage(&[])).build(), "acme").await
}

/// Sets a rule and builds its keys.
async fn rule(
    session: &Session,
    object: &str,
    mode: DuplicateMode,
    rule: Json,
) -> Id<DuplicateRule> {
    let rule = DuplicateRule {
        mode,
        ..DuplicateRule::new(
            format!("{object} {rule}")
                .chars()
                .take(100)
                .collect::<String>(),
            object,
            MatchRule::from_json(&rule).unwrap(),
        )
    };
    let id = session.duplicate_rules().create(rule).await.unwrap().id;
    session
        .duplicates()
        .rebuild_keys(id, None, &())
        .await
        .unwrap();
    id
}

fn contact(first: &str, last: &str, phone: Option<&str>) -> Contact {
    Contact {
        phone: phone.map(|phone| phone.parse().unwrap()),
        ..Contact::named(first, last)
    }
}

fn by_phone() -> Json {
    json!({"when": {"any": [{"field": "phone", "also": ["mobile"], "method": "phone"}]}})
}

fn like_names() -> Json {
    json!({
        "when": {"all": [
            {"field": "first_name", "method": "jaro_winkler", "at_least": 0.85},
            {"field": "last_name", "method": "jaro_winkler", "at_least": 0.85}
        ]},
        "keys": [
            [{"field": "last_name", "form": "phonetic", "algorithm": "soundex"}],
            [{"field": "first_name", "form": "first", "length": 3}]
        ]
    })
}

fn ids(matches: &[DuplicateMatch]) -> Vec<Uuid> {
    matches.iter().map(|found| found.record.id).collect()
}

/// Every method, all and any, missing values, other fields of the same kind, custom fields.
#[test]
fn methods_tell_what_is_the_same() {
    let stamp = Stamp {
        at: chrono::DateTime::UNIX_EPOCH,
        by: Actor::System,
    };
    let row = |json: &Json| {
        let contact = Contact::from_json(json.as_object().unwrap()).unwrap();
        Record::new(Meta::first(Uuid::nil(), stamp), contact)
    };
    let cases = [
        (
            json!({"field": "last_name", "method": "exact"}),
            json!({"last_name": "Li"}),
            json!({"last_name": "Li"}),
            true,
        ),
        (
            json!({"field": "last_name", "method": "exact"}),
            json!({"last_name": "Li"}),
            json!({"last_name": "LI"}),
            false,
        ),
        (
            json!({"field": "last_name", "method": "case_folded"}),
            json!({"last_name": "LÉVY"}),
            json!({"last_name": "lévy"}),
            true,
        ),
        (
            json!({"field": "email", "method": "email"}),
            json!({"email": "Ada+crm@x.example"}),
            json!({"email": "ada@X.example"}),
            true,
        ),
        (
            json!({"field": "phone", "method": "phone"}),
            json!({"phone": "+49 30 901820"}),
            json!({"phone": "+49 (30) 90-1820"}),
            true,
        ),
        (
            json!({"field": "phone", "also": ["mobile"], "method": "phone"}),
            json!({"phone": "+49 30 901820"}),
            json!({"mobile": "+4930901820"}),
            true,
        ),
        (
            json!({"field": "phone", "method": "phone", "region": "DE"}),
            json!({"phone": "030 901820"}),
            json!({"phone": "+4930901820"}),
            true,
        ),
        (
            json!({"field": "email", "method": "domain"}),
            json!({"email": "a@x.example"}),
            json!({"email": "b@x.example"}),
            true,
        ),
        (
            json!({"field": "email", "method": "domain", "except": ["X.example"]}),
            json!({"email": "a@x.example"}),
            json!({"email": "b@x.example"}),
            false,
        ),
        (
            json!({"field": "last_name", "method": "jaro_winkler", "at_least": 0.9}),
            json!({"last_name": "Martha"}),
            json!({"last_name": "Marhta"}),
            true,
        ),
        (
            json!({"field": "last_name", "method": "jaro_winkler", "at_least": 0.97}),
            json!({"last_name": "Martha"}),
            json!({"last_name": "Marhta"}),
            false,
        ),
        (
            json!({"field": "last_name", "method": "jaro_winkler", "at_least": 0.99}),
            json!({"last_name": "Müller"}),
            json!({"last_name": "Muller"}),
            true,
        ),
        (
            json!({"field": "last_name", "method": "levenshtein", "at_least": 0.57}),
            json!({"last_name": "kitten"}),
            json!({"last_name": "sitting"}),
            true,
        ),
        (
            json!({"field": "last_name", "method": "levenshtein", "at_least": 0.58}),
            json!({"last_name": "kitten"}),
            json!({"last_name": "sitting"}),
            false,
        ),
        (
            json!({"field": "last_name", "method": "phonetic", "algorithm": "cologne"}),
            json!({"last_name": "Meyer"}),
            json!({"last_name": "Maier"}),
            true,
        ),
        (
            json!({"field": "company", "method": "company_name", "at_least": 1.0}),
            json!({"company": "Globex, Inc."}),
            json!({"company": "GLOBEX"}),
            true,
        ),
        (
            json!({"field": "custom_fields.points", "method": "number", "within": 2}),
            json!({"custom_fields": {"points": 5}}),
            json!({"custom_fields": {"points": 7}}),
            true,
        ),
        (
            json!({"field": "custom_fields.points", "method": "number", "within": "1.5"}),
            json!({"custom_fields": {"points": 5}}),
            json!({"custom_fields": {"points": 7}}),
            false,
        ),
        (
            json!({"field": "custom_fields.born", "method": "date", "swapped": true}),
            json!({"custom_fields": {"born": "1990-02-07"}}),
            json!({"custom_fields": {"born": "1990-07-02"}}),
            true,
        ),
        (
            json!({"field": "custom_fields.born", "method": "date", "within_days": 1}),
            json!({"custom_fields": {"born": "1990-02-07"}}),
            json!({"custom_fields": {"born": "1990-02-09"}}),
            false,
        ),
        (
            json!({"field": "tags", "method": "exact"}),
            json!({"tags": ["a", "b"]}),
            json!({"tags": ["b", "c"]}),
            true,
        ),
        (
            json!({"field": "last_name", "method": "exact"}),
            json!({}),
            json!({}),
            false,
        ),
    ];
    for (place, (comparison, a, b, matches)) in cases.iter().enumerate() {
        let key = json!([[{"field": "first_name", "form": "exact"}]]);
        for (when, wanted) in [
            (comparison.clone(), *matches),
            (
                json!({"any": [{"field": "department", "method": "exact"}, comparison]}),
                *matches,
            ),
            (
                json!({"all": [{"field": "department", "method": "exact"}, comparison]}),
                false,
            ),
        ] {
            let rule = MatchRule::from_json(&json!({"when": when, "keys": key})).unwrap();
            let rule = CompiledRule::new(&rule, Uuid::nil(), Contact::schema()).unwrap();
            let (a, b) = (rule.prepare(&row(a)), rule.prepare(&row(b)));
            assert_eq!(rule.score(&a, &b).is_some(), wanted, "case {place}: {when}");
            assert_eq!(rule.score(&a, &b), rule.score(&b, &a), "case {place}");
        }
    }
}

/// Every fault of a rule, with its path.
#[tokio::test]
async fn faults_of_a_rule_are_told_together() {
    let session = session().await;
    let wrong = MatchRule::from_json(&json!({
        "when": {"any": [
            {"field": "shoe_size", "method": "exact"},
            {"field": "last_name", "method": "jaro_winkler"},
            {"field": "custom_fields", "method": "exact"},
            {"mean": {"at_least": 1.5, "of": [
                {"field": "last_name", "method": "exact", "weight": 0}
            ]}}
        ]},
        "keys": [[], [{"field": "last_name", "form": "first", "length": 0}]]
    }))
    .unwrap();
    let rule = DuplicateRule::new("Wrong", "contact", wrong.clone());
    let error = session.duplicate_rules().create(rule).await.unwrap_err();
    let paths: BTreeSet<&str> = error
        .field_errors()
        .iter()
        .map(|fault| fault.path.as_str())
        .collect();
    for path in [
        "rule.when.any[0].field",
        "rule.when.any[1].at_least",
        "rule.when.any[2].field",
        "rule.when.any[3].mean.at_least",
        "rule.when.any[3].mean.of[0].weight",
        "rule.keys[0]",
        "rule.keys[1][0].length",
    ] {
        assert!(paths.contains(path), "{path} is not in {paths:?}");
    }
    let rule = DuplicateRule::new("Wrong", "spaceship", wrong);
    let error = session.duplicate_rules().create(rule).await.unwrap_err();
    assert_eq!(error.field_errors()[0].path, "object");
    let body = json!({"name": "Wrong", "object": "contact", "rule": {"when": {"field": "email", "method": "email", "colour": 1}}});
    let error = session
        .object("duplicate_rule")
        .unwrap()
        .create(body.as_object().unwrap())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("when.colour"), "{error}");
}

/// A check tells which records are alike and why, and shows no value.
#[tokio::test]
async fn a_check_explains_what_it_found() {
    let session = session().await;
    let id = rule(&session, "contact", DuplicateMode::Warn, like_names()).await;
    let ada = session
        .contacts()
        .create(contact("Ada", "Lovelace", None))
        .await
        .unwrap();
    session
        .contacts()
        .create(contact("Grace", "Hopper", None))
        .await
        .unwrap();
    let check = session
        .duplicates()
        .check(&contact("Ada", "Lovelase", None))
        .await
        .unwrap();
    assert!(check.is_complete());
    assert_eq!(ids(&check.matches), [ada.id.uuid()]);
    let found = &check.matches[0];
    assert_eq!((found.rule, found.mode), (id, DuplicateMode::Warn));
    let told: Vec<_> = found
        .explanation
        .comparisons
        .iter()
        .map(|one| {
            (
                one.path.as_str(),
                one.field.as_str(),
                one.method,
                one.passed,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("when.all[0]", "first_name", "jaro_winkler", true),
            ("when.all[1]", "last_name", "jaro_winkler", true)
        ]
    );
    assert_eq!(found.explanation.comparisons[0].similarity, Some(1.0));
    assert!(found.score < 1.0 && found.score > 0.9);
    let text = format!("{} {:?} {}", found.explanation, found, json!(found));
    assert!(!text.contains("ovela"), "{text}");

    let form = json!({"first_name": "ada", "last_name": "LOVELACE"});
    let check = session
        .duplicates()
        .check_json("contact", form.as_object().unwrap())
        .await
        .unwrap();
    assert_eq!(check.matches[0].score, 1.0);
    let own = session
        .duplicates()
        .of("contact", ada.id.uuid())
        .await
        .unwrap();
    assert!(own.matches.is_empty(), "a record is not its own duplicate");
    // A warning refuses nothing.
    let twin = session
        .contacts()
        .create(contact("Ada", "Lovelace", None))
        .await
        .unwrap();
    let own = session
        .duplicates()
        .of("contact", ada.id.uuid())
        .await
        .unwrap();
    assert_eq!(ids(&own.matches), [twin.id.uuid()]);
}

/// Custom fields, objects by name, several rows at once.
#[tokio::test]
async fn several_rows_are_checked_at_once_also_by_custom_fields() {
    let session = session().await;
    let by_number = json!({"when": {"field": "custom_fields.number", "method": "exact"}});
    rule(&session, "account", DuplicateMode::Warn, by_number).await;
    let mut made = Vec::new();
    for number in 0..5 {
        let account = Account {
            custom_fields: json!({"number": number}),
            ..Account::new(format!("Account {number}"))
        };
        made.push(session.accounts().create(account).await.unwrap());
    }
    let object = session.describe("account").unwrap();
    let rows: Vec<Row> = [3, 9, 0]
        .iter()
        .map(|number| -> Row {
            let body = json!({"name": "New", "custom_fields": {"number": number}});
            let values = object.parse(body.as_object().unwrap()).unwrap();
            Arc::new(Dynamic::new(
                object.clone(),
                Meta {
                    id: Uuid::nil(),
                    ..crm_engine::schema::AnyRecord::meta(&*made[0])
                },
                values,
            ))
        })
        .collect();
    let found = session.duplicates().check_rows(&rows).await.unwrap();
    let found: Vec<Vec<Uuid>> = found.iter().map(|matches| ids(matches)).collect();
    assert_eq!(
        found,
        [vec![made[3].id.uuid()], vec![], vec![made[0].id.uuid()]]
    );
}

/// A strict rule refuses a new record, a change and a restoration, and nothing else.
#[tokio::test]
async fn a_strict_rule_refuses_duplicates() {
    let session = session().await;
    rule(&session, "contact", DuplicateMode::Strict, by_phone()).await;
    let number = Some("+49 30 901820");
    let ada = session
        .contacts()
        .create(contact("Ada", "Lovelace", number))
        .await
        .unwrap();
    let error = session
        .contacts()
        .create(contact("Countess", "L.", number))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "duplicate_found");
    let Error::DuplicateFound(found) = &error else {
        panic!("{error}")
    };
    assert_eq!(ids(&found.matches), [ada.id.uuid()]);
    assert!(!error.to_string().contains("901820") && !error.is_retryable());

    let other = session
        .contacts()
        .create(contact("Grace", "Hopper", None))
        .await
        .unwrap();
    let change = |contact: &mut Contact| contact.mobile = Some("+4930901820".parse().unwrap());
    let error = session
        .contacts()
        .update(other.id, change)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "duplicate_found");
    // What the rule does not look at may change, on either record.
    for id in [ada.id, other.id] {
        let change = |contact: &mut Contact| contact.job_title = Some("Analyst".into());
        session.contacts().update(id, change).await.unwrap();
    }
    // An archived record is still one; a deleted one is not.
    session.contacts().archive(ada.id).await.unwrap();
    assert!(
        session
            .contacts()
            .create(contact("A", "B", number))
            .await
            .is_err()
    );
    session.contacts().delete(ada.id).await.unwrap();
    let second = session
        .contacts()
        .create(contact("Countess", "L.", number))
        .await
        .unwrap();
    let error = session.contacts().restore(ada.id).await.unwrap_err();
    assert_eq!(error.code(), "duplicate_found");
    let change = |contact: &mut Contact| contact.phone = None;
    session.contacts().update(second.id, change).await.unwrap();
    session.contacts().restore(ada.id).await.unwrap();
    let check = session
        .duplicates()
        .check(&contact("X", "Y", number))
        .await
        .unwrap();
    assert_eq!(ids(&check.matches), [ada.id.uuid()]);
}

/// Two new records of one unit of work; numbers that change hands within one.
#[tokio::test]
async fn a_unit_of_work_is_one_for_strict_rules() {
    let session = session().await;
    rule(&session, "contact", DuplicateMode::Strict, by_phone()).await;
    let (one, other) = (Some("+49 30 901820"), Some("+49 30 901821"));
    let mut work = session.begin();
    work.contacts()
        .create(contact("Ada", "Lovelace", one))
        .await
        .unwrap();
    work.contacts()
        .create(contact("Countess", "L.", one))
        .await
        .unwrap();
    assert_eq!(work.commit().await.unwrap_err().code(), "duplicate_found");
    assert_eq!(session.contacts().count(Find::new()).await.unwrap(), 0);

    let mut work = session.begin();
    let ada = work
        .contacts()
        .create(contact("Ada", "Lovelace", one))
        .await
        .unwrap()
        .id;
    let grace = work
        .contacts()
        .create(contact("Grace", "Hopper", other))
        .await
        .unwrap()
        .id;
    work.commit().await.unwrap();
    let set = |number: Option<&str>| {
        let number: Option<PhoneNumber> = number.map(|number| number.parse().unwrap());
        move |contact: &mut Contact| contact.phone.clone_from(&number)
    };
    let mut work = session.begin();
    work.contacts().update(ada, set(other)).await.unwrap();
    work.contacts().update(grace, set(one)).await.unwrap();
    work.commit().await.unwrap();
    let check = session
        .duplicates()
        .check(&contact("X", "Y", one))
        .await
        .unwrap();
    assert_eq!(ids(&check.matches), [grace.uuid()]);

    // Deleted and taken over in one commit.
    let mut work = session.begin();
    work.contacts().delete(grace).await.unwrap();
    let heir = work
        .contacts()
        .create(contact("Heir", "H.", one))
        .await
        .unwrap()
        .id;
    work.commit().await.unwrap();
    let check = session
        .duplicates()
        .check(&contact("X", "Y", one))
        .await
        .unwrap();
    assert_eq!(ids(&check.matches), [heir.uuid()]);
    // Purged for good.
    session.contacts().delete(heir).await.unwrap();
    session.contacts().purge(heir).await.unwrap();
    let check = session
        .duplicates()
        .check(&contact("X", "Y", one))
        .await
        .unwrap();
    assert!(check.matches.is_empty());
}

/// Of sessions that create the same at the same moment, one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sessions_that_race_one_creates_the_record() {
    let session = session().await;
    rule(&session, "contact", DuplicateMode::Strict, by_phone()).await;
    for round in 0..5 {
        let number = format!("+49 30 90182{round}");
        let runs = (0..4).map(|place| {
            let (session, number) = (session.clone(), number.clone());
            tokio::spawn(async move {
                let new = contact(&format!("Ada {place}"), "Lovelace", Some(&number));
                session.contacts().create(new).await
            })
        });
        let mut created = 0;
        for run in runs.collect::<Vec<_>>() {
            match run.await.unwrap() {
                Ok(_) => created += 1,
                Err(error) => assert_eq!(error.code(), "duplicate_found", "{error}"),
            }
        }
        assert_eq!(created, 1);
    }
    assert_eq!(session.contacts().count(Find::new()).await.unwrap(), 5);
}

/// the records of another tenant are never candidates, whatever its rules.
#[tokio::test]
async fn another_tenants_records_are_never_candidates() {
    let crm = Crm::builder(backend::storage(&[])).build();
    let (acme, globex) = (tenant(&crm, "acme").await, tenant(&crm, "globex").await);
    let number = Some("+49 30 901820");
    for session in [&acme, &globex] {
        rule(session, "contact", DuplicateMode::Strict, by_phone()).await;
    }
    let ada = acme
        .contacts()
        .create(contact("Ada", "Lovelace", number))
        .await
        .unwrap();
    let check = globex
        .duplicates()
        .check(&contact("Ada", "Lovelace", number))
        .await
        .unwrap();
    assert!(check.matches.is_empty());
    let own = globex
        .contacts()
        .create(contact("Ada", "Lovelace", number))
        .await
        .unwrap();
    let error = globex
        .duplicates()
        .of("contact", ada.id.uuid())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "not_found");
    let check = globex
        .duplicates()
        .check(&contact("A", "B", number))
        .await
        .unwrap();
    assert_eq!(ids(&check.matches), [own.id.uuid()]);
}

/// Records written before a rule get their keys when they are built; until then checks say so.
#[tokio::test]
async fn keys_of_older_records_are_built() {
    let session = session().await;
    let number = Some("+49 30 901820");
    let ada = session
        .contacts()
        .create(contact("Ada", "Lovelace", number))
        .await
        .unwrap();
    // Two that are duplicates already stay as they are.
    let twin = session
        .contacts()
        .create(contact("Ada", "Lovelace", number))
        .await
        .unwrap();
    let gone = session
        .contacts()
        .create(contact("Gone", "G.", number))
        .await
        .unwrap();
    session.contacts().delete(gone.id).await.unwrap();
    let strict = DuplicateRule {
        mode: DuplicateMode::Strict,
        ..DuplicateRule::new(
            "Phones",
            "contact",
            MatchRule::from_json(&by_phone()).unwrap(),
        )
    };
    let rule = session.duplicate_rules().create(strict).await.unwrap();
    assert_eq!(rule.state, KeyState::Building);
    let new = contact("New", "N.", number);
    let check = session.duplicates().check(&new).await.unwrap();
    assert_eq!(check.gaps, [CheckGap::Building { rule: rule.id }]);
    assert!(check.matches.is_empty());

    let rebuilt = session
        .duplicates()
        .rebuild_keys(rule.id, None, &())
        .await
        .unwrap();
    assert_eq!((rebuilt.records, rebuilt.keys, rebuilt.next), (3, 2, None));
    let state = async || session.duplicate_rules().get(rule.id).await.unwrap().state;
    assert_eq!(state().await, KeyState::Ready);
    let again = session
        .duplicates()
        .rebuild_keys(rule.id, None, &())
        .await
        .unwrap();
    assert_eq!(again.keys, 0, "what is right stays as it is");
    let check = session.duplicates().check(&new).await.unwrap();
    assert!(check.is_complete());
    let found: BTreeSet<Uuid> = ids(&check.matches).into_iter().collect();
    assert_eq!(found, BTreeSet::from([ada.id.uuid(), twin.id.uuid()]));
    assert_eq!(
        session.contacts().create(new).await.unwrap_err().code(),
        "duplicate_found"
    );

    // Another rule under the same name: its keys are built anew, the old ones go.
    let names = MatchRule::from_json(&like_names()).unwrap();
    let change = |rule: &mut DuplicateRule| rule.rule.clone_from(&names);
    session
        .duplicate_rules()
        .update(rule.id, change)
        .await
        .unwrap();
    assert_eq!(state().await, KeyState::Building);
    let rebuilt = session
        .duplicates()
        .rebuild_keys(rule.id, None, &())
        .await
        .unwrap();
    assert_eq!(rebuilt.keys, 2 + 4);
    let check = session
        .duplicates()
        .check(&contact("Ada", "Lovelace", None))
        .await
        .unwrap();
    assert_eq!(check.matches.len(), 2);
    // A rule that is not applied loses its keys.
    session
        .duplicate_rules()
        .update(rule.id, |rule| rule.is_active = false)
        .await
        .unwrap();
    assert_eq!(state().await, KeyState::Inactive);
    let dropped = session
        .duplicates()
        .rebuild_keys(rule.id, None, &())
        .await
        .unwrap();
    assert_eq!(dropped.keys, 4);
    assert_eq!(keys(&session).await.len(), 0);
}

/// The stored keys, by record.
async fn keys(session: &Session) -> BTreeMap<Uuid, BTreeSet<Uuid>> {
    let mut keys: BTreeMap<Uuid, BTreeSet<Uuid>> = BTreeMap::new();
    let find = Find::<()>::new().limit(1_000);
    let mut page = session
        .object("duplicate_key")
        .unwrap()
        .find(&find)
        .await
        .unwrap();
    loop {
        for row in &page.items {
            let record = row.get("record_id").as_uuid().unwrap();
            let is_new = keys
                .entry(record)
                .or_default()
                .insert(row.get("key").as_uuid().unwrap());
            assert!(is_new, "a key twice");
        }
        let Some(next) = page.next else { return keys };
        let find = find.clone().after(next);
        page = session
            .object("duplicate_key")
            .unwrap()
            .find(&find)
            .await
            .unwrap();
    }
}

/// Whatever is done to records, their stored keys are those of the rule, and those alone.
#[tokio::test]
async fn keys_stay_in_step_with_records() {
    let session = session().await;
    rule(&session, "contact", DuplicateMode::Warn, like_names()).await;
    let compiled = MatchRule::from_json(&like_names()).unwrap();
    let rules = session.duplicate_rules().find(Find::new()).await.unwrap();
    let compiled =
        CompiledRule::new(&compiled, rules.items[0].id.uuid(), Contact::schema()).unwrap();
    let names = ["Ada", "Grace", "Mary", "Ann"];
    let mut places = 7_u64;
    let mut made = Vec::new();
    for step in 0..60 {
        places = places
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let pick = (places >> 33) as usize;
        let (first, last) = (names[pick % 4], names[pick / 4 % 4]);
        let id = made.get(pick % (made.len() + 1)).copied();
        let mut contacts = session.contacts();
        match (step % 6, id) {
            (1, Some(id)) => {
                let change = |contact: &mut Contact| contact.name = PersonName::new(first, last);
                let _ = contacts.update(id, change).await;
            }
            (2, Some(id)) => drop(contacts.delete(id).await),
            (3, Some(id)) => drop(contacts.restore(id).await),
            (4, Some(id)) => drop(contacts.archive(id).await),
            (5, Some(id)) => drop(contacts.purge(id).await),
            _ => made.push(
                contacts
                    .create(contact(first, last, None))
                    .await
                    .unwrap()
                    .id,
            ),
        }
    }
    let mut wanted = BTreeMap::new();
    let all = Find::new().with_archived().limit(1_000);
    for record in session.contacts().find(all).await.unwrap() {
        let keys = compiled.keys(&compiled.prepare(&*record));
        wanted.insert(record.id.uuid(), keys.iter().map(|key| key.key).collect());
    }
    assert!(wanted.len() > 5);
    assert_eq!(keys(&session).await, wanted);
}

async fn scan(
    session: &Session,
    from: Option<ScanCursor>,
    most: usize,
) -> (Vec<DuplicatePair>, Option<ScanCursor>) {
    let mut pairs = Vec::new();
    let scan = session
        .duplicates()
        .scan("contact", from, &(), &mut |pair| {
            pairs.push(pair);
            if pairs.len() < most {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
        .await
        .unwrap();
    assert_eq!(scan.pairs, pairs.len() as u64);
    assert!(scan.cut.is_empty() && scan.building.is_empty());
    (pairs, scan.next)
}

/// A scan finds what comparing all pairs would, each pair once, also in several runs.
#[tokio::test]
async fn a_scan_finds_every_pair_once() {
    let session = session().await;
    rule(&session, "contact", DuplicateMode::Warn, like_names()).await;
    rule(&session, "contact", DuplicateMode::Warn, by_phone()).await;
    let mut records = Vec::new();
    for (place, (first, last)) in [
        ("Ada", "Lovelace"),
        ("Ada", "Lovelase"),
        ("Adda", "Lovelace"),
        ("Grace", "Hopper"),
        ("Grace", "Hoper"),
        ("Grayce", "Hopper"),
        ("Mary", "Smith"),
        ("Marie", "Smyth"),
        ("Alan", "Turing"),
        ("Allan", "Turing"),
    ]
    .into_iter()
    .enumerate()
    {
        let number = format!("+49 30 90182{}", place % 6);
        records.push(contact(first, last, Some(&number)));
    }
    let records = session.contacts().create_all(records).await.unwrap();
    let rules: Vec<CompiledRule> = [like_names(), by_phone()]
        .iter()
        .enumerate()
        .map(|(place, rule)| {
            let rule = MatchRule::from_json(rule).unwrap();
            CompiledRule::new(&rule, Uuid::from_u128(place as u128), Contact::schema()).unwrap()
        })
        .collect();
    let mut wanted = BTreeSet::new();
    for (place, a) in records.iter().enumerate() {
        for b in &records[place + 1..] {
            let matches = |rule: &CompiledRule| {
                let (a, b) = (rule.prepare(&**a), rule.prepare(&**b));
                let (keys, others) = (rule.keys(&a), rule.keys(&b));
                keys.iter().any(|key| others.contains(key)) && rule.score(&a, &b).is_some()
            };
            if rules.iter().any(matches) {
                wanted.insert((a.id.uuid(), b.id.uuid()));
            }
        }
    }
    let found = |pairs: &[DuplicatePair]| -> Vec<(Uuid, Uuid)> {
        pairs
            .iter()
            .map(|pair| (pair.first.id, pair.second.id))
            .collect()
    };
    let (pairs, next) = scan(&session, None, usize::MAX).await;
    assert!(next.is_none() && wanted.len() > 6);
    assert_eq!(pairs.len(), wanted.len(), "a pair twice");
    assert_eq!(found(&pairs).into_iter().collect::<BTreeSet<_>>(), wanted);

    let mut parts = Vec::new();
    let mut from = None;
    loop {
        let (pairs, next) = scan(&session, from, 1).await;
        parts.extend(found(&pairs));
        let Some(next) = next else { break };
        let text = serde_json::to_string(&next).unwrap();
        from = Some(serde_json::from_str(&text).unwrap());
    }
    assert_eq!(parts.len(), wanted.len());
    assert_eq!(parts.into_iter().collect::<BTreeSet<_>>(), wanted);
}

/// A storage that counts what it is asked, and the most rows it gave at once.
#[derive(Debug)]
struct Counting {
    storage: Arc<dyn Storage>,
    reads: AtomicUsize,
    most: AtomicUsize,
}

impl Counting {
    fn told(&self, rows: Vec<Row>) -> Vec<Row> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.most.fetch_max(rows.len(), Ordering::Relaxed);
        rows
    }
}

#[async_trait]
impl Storage for Counting {
    async fn get(
        &self,
        scope: &Scope,
        object: &ObjectRef,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, StorageError> {
        Ok(self.told(self.storage.get(scope, object, ids).await?))
    }

    async fn select(&self, scope: &Scope, query: &Query) -> Result<Vec<Row>, StorageError> {
        Ok(self.told(self.storage.select(scope, query).await?))
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        query: &AggregateQuery,
    ) -> Result<Vec<Group>, StorageError> {
        self.storage.aggregate(scope, query).await
    }

    async fn commit(&self, scope: &Scope, changes: &ChangeSet) -> Result<Committed, StorageError> {
        self.storage.commit(scope, changes).await
    }

    async fn claim(&self, scope: &Scope, claim: &Claim) -> Result<Vec<Row>, StorageError> {
        self.storage.claim(scope, claim).await
    }
}

/// A check is one lookup of keys and one of records; a scan walks pages; a block that is too large is
/// told; a write of a tenant without rules reads nothing for them.
#[tokio::test]
async fn reads_are_few_and_bounded() {
    let storage = Arc::new(Counting {
        storage: backend::storage(&[]),
        reads: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
    });
    let session = tenant(&Crm::builder(storage.clone()).build(), "acme").await;
    let read = || storage.reads.swap(0, Ordering::Relaxed);
    session
        .contacts()
        .create(contact("A", "B", None))
        .await
        .unwrap();
    read();
    session
        .contacts()
        .create(contact("A", "B", None))
        .await
        .unwrap();
    assert_eq!(read(), 0, "no rule, no read");

    rule(&session, "contact", DuplicateMode::Warn, like_names()).await;
    let people: Vec<Contact> = (0..1_200)
        .map(|place| {
            contact(
                &format!("{}x", (b'a' + place as u8 % 26) as char),
                "Same",
                None,
            )
        })
        .collect();
    for part in people.chunks(600) {
        session.contacts().create_all(part.to_vec()).await.unwrap();
    }
    session
        .duplicates()
        .check(&contact("Ada", "Other", None))
        .await
        .unwrap();
    read();
    session
        .contacts()
        .create(contact("Ada", "Lovelace", None))
        .await
        .unwrap();
    assert_eq!(read(), 0, "a rule that warns costs no read");
    let check = session
        .duplicates()
        .check(&contact("Ada", "Lovelace", None))
        .await
        .unwrap();
    assert_eq!((read(), check.matches.len()), (2, 1));
    let check = session
        .duplicates()
        .check(&contact("Ax", "Same", None))
        .await
        .unwrap();
    assert!(!check.is_complete(), "1,200 share the key");

    storage.most.store(0, Ordering::Relaxed);
    read();
    let mut pairs = BTreeSet::new();
    let scan = session
        .duplicates()
        .scan("contact", None, &(), &mut |pair| {
            assert!(
                pairs.insert((pair.first.id, pair.second.id)),
                "a pair twice"
            );
            ControlFlow::Continue(())
        })
        .await
        .unwrap();
    assert!(storage.most.load(Ordering::Relaxed) <= 1_000);
    assert!(read() <= 2 * (scan.keys as usize / 1_000 + 1));
    assert_eq!(scan.cut.len(), 1);
    assert_eq!(scan.cut[0].records, 1_200);
    // 500 are compared with all: less than all pairs, and each only once.
    assert!(scan.compared < 1_200 * 1_199 / 2 && scan.pairs > 10_000);
}

fn people() -> ObjectRef {
    ["name", "town"]
        .into_iter()
        .fold(
            ObjectSchema::builder("person", "people"),
            |builder, name| builder.field(FieldSchema::new(name, FieldType::text(100))),
        )
        .build()
}

fn person(object: &ObjectRef, values: Vec<Value>) -> Row {
    let stamp = Stamp {
        at: chrono::DateTime::UNIX_EPOCH,
        by: Actor::System,
    };
    Arc::new(Dynamic::new(
        object.clone(),
        Meta::first(Uuid::nil(), stamp),
        values,
    ))
}

proptest! {
    /// A scan finds the pairs that share a key and match, each once; a cut block loses some and
    /// invents none; the quick score is that of the explanation.
    #[test]
    fn scanning_is_comparing_all_pairs_that_share_a_key(
        people_data in proptest::collection::vec(("[ab]{1,4}", proptest::option::of("[xy]{1,2}")), 0..40),
        limit in 2_usize..8,
    ) {
        let object = people();
        let rule = json!({
            "when": {"any": [
                {"mean": {"at_least": 0.8, "present": 0.5, "of": [
                    {"field": "name", "method": "jaro_winkler", "weight": 2},
                    {"field": "town", "method": "levenshtein", "weight": 1, "missing": 0.6}
                ]}},
                {"field": "name", "method": "exact"}
            ]},
            "keys": [
                [{"field": "name", "form": "first", "length": 1}, {"field": "town", "form": "exact"}],
                [{"field": "name", "form": "last", "length": 2}]
            ]
        });
        let other = json!({"when": {"field": "town", "method": "exact"}});
        let compile = |(place, rule): (usize, &Json)| {
            let rule = MatchRule::from_json(rule).unwrap();
            CompiledRule::new(&rule, Uuid::from_u128(place as u128 + 1), &object).unwrap()
        };
        let rules = || [&rule, &other].into_iter().enumerate().map(compile).collect::<Vec<_>>();
        let rows: Vec<Row> = people_data
            .iter()
            .map(|(name, town)| {
                let town = town.as_deref().map_or(Value::Null, Value::from);
                person(&object, vec![Value::from(name.as_str()), town])
            })
            .collect();
        let compiled = rules();
        let mut wanted = BTreeSet::new();
        for (a, one) in rows.iter().enumerate() {
            for (b, two) in rows.iter().enumerate().skip(a + 1) {
                for rule in &compiled {
                    let (one, two) = (rule.prepare(&**one), rule.prepare(&**two));
                    let keys = rule.keys(&two);
                    let shares = rule.keys(&one).iter().any(|key| keys.contains(key));
                    let score = rule.score(&one, &two);
                    prop_assert_eq!(score, rule.score(&two, &one));
                    prop_assert_eq!(score.unwrap_or_default(), rule.explain(&one, &two).score);
                    if rule.keys(&one).iter().any(|key| key.is_decisive && keys.contains(key)) {
                        prop_assert!(score.is_some(), "a decisive key decides");
                    }
                    if shares && score.is_some() {
                        wanted.insert((a, b));
                    }
                }
            }
        }
        for limit in [1_000, limit] {
            let mut found = Vec::new();
            let scanned = Scanner::new(rules()).block_limit(limit).scan(rows.clone(), &(), |pair| {
                found.push((pair.first, pair.second));
                ControlFlow::Continue(())
            });
            let set: BTreeSet<_> = found.iter().copied().collect();
            prop_assert_eq!(set.len(), found.len(), "a pair twice");
            prop_assert!(set.is_subset(&wanted));
            if scanned.cut.is_empty() {
                prop_assert_eq!(set, wanted.clone());
            }
        }
    }
}

/// The shipped person rule on the Febrl data: as good as a mean of Jaro-Winkler similarities tuned
/// for each set, or better.
#[test]
fn the_shipped_person_rule_finds_the_duplicates_of_febrl() {
    let Ok(data) = std::env::var("CRM_DATA_DIR") else {
        println!("CRM_DATA_DIR is not set: the Febrl data are not checked");
        return;
    };
    let read = |name: &str| {
        let path = format!("{data}/febrl/{name}.csv");
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_path(path)
            .unwrap();
        let header = reader.headers().unwrap().clone();
        let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        (header, lines)
    };
    let rule: Json = serde_json::from_str(include_str!(
        "../examples/find_duplicates/rules/person.json"
    ))
    .unwrap();
    let rule = MatchRule::from_json(&rule).unwrap();
    for (truth, files, least) in [
        ("true_pairs_1", &["dataset1"][..], 0.999),
        ("true_pairs_2", &["dataset2"][..], 0.987),
        ("true_pairs_3", &["dataset3"][..], 0.987),
        ("true_pairs_4", &["dataset4a", "dataset4b"][..], 0.993),
    ] {
        let mut sets = Vec::new();
        let mut names = Vec::new();
        let mut schema = None;
        for file in files {
            let (header, lines) = read(file);
            let object = schema.get_or_insert_with(|| {
                header
                    .iter()
                    .fold(ObjectSchema::builder("row", "rows"), |builder, name| {
                        builder.field(FieldSchema::new(name.to_owned(), FieldType::text(255)))
                    })
                    .build()
            });
            names.extend(lines.iter().map(|line| line[0].to_owned()));
            let value = |text: &str| {
                if text.is_empty() {
                    Value::Null
                } else {
                    Value::from(text)
                }
            };
            let rows = lines
                .iter()
                .map(|line| person(object, line.iter().map(value).collect()));
            sets.push(rows.collect::<Vec<_>>());
        }
        let compiled = CompiledRule::new(&rule, Uuid::from_u128(1), &schema.unwrap()).unwrap();
        let scanner = Scanner::new(vec![compiled]);
        let mut found = BTreeSet::new();
        let ordered = |a: &str, b: &str| (a.min(b).to_owned(), a.max(b).to_owned());
        let take = |pair: crm_engine::duplicates::FoundPair| {
            found.insert(ordered(&names[pair.first], &names[pair.second]));
            ControlFlow::Continue(())
        };
        let second = sets.pop().unwrap();
        let scanned = match sets.pop() {
            Some(first) => scanner.link(first, second, &(), take),
            None => scanner.scan(second, &(), take),
        };
        assert!(scanned.cut.is_empty());
        let truth: BTreeSet<_> = read(truth)
            .1
            .iter()
            .map(|line| ordered(&line[0], &line[1]))
            .collect();
        let right = found.intersection(&truth).count() as f64;
        let f1 = 2.0 * right / (found.len() + truth.len()) as f64;
        println!("{files:?} f1={f1:.4} compared={}", scanned.compared);
        assert!(f1 >= least, "{files:?}: F1 is {f1:.4}, not {least}");
    }
}

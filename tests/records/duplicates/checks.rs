//! What rules compare, and what a check tells.

use std::collections::BTreeSet;
use std::sync::Arc;

use crm_engine::Stamp;
use crm_engine::duplicates::{CompiledRule, MatchRule};
use crm_engine::prelude::*;
use crm_engine::schema::{AnyRecord as _, Dynamic, Meta, Row};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{backend, by_phone, contact, ids, like_names, rule, session, tenant};

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
        .await
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
    let object = session.describe("account").await.unwrap();
    let rows: Vec<Row> = [3, 9, 0]
        .iter()
        .map(|number| -> Row {
            let body = json!({"name": "New", "custom_fields": {"number": number}});
            let values = object.parse(body.as_object().unwrap()).unwrap();
            Arc::new(Dynamic::new(
                object.clone(),
                Meta {
                    id: Uuid::nil(),
                    ..made[0].meta()
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

//! Scans of records that are in no storage.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use crm_engine::duplicates::{CompiledRule, FoundPair, MatchRule, Scanner};
use crm_engine::schema::{
    Dynamic, FieldSchema, FieldType, Meta, ObjectRef, ObjectSchema, Row, Value,
};
use crm_engine::{Actor, Stamp};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use uuid::Uuid;

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
        "../../../examples/find_duplicates/rules/person.json"
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
        let take = |pair: FoundPair| {
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

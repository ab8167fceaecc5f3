//! No filter over custom fields makes reading, binding or answering it panic or hang; it says the same
//! after it went through its JSON, and a filter and its negation never both take a record.

use std::sync::Arc;

use chrono::DateTime;
use crm_core::deals::Deal;
use crm_core::error::Faults;
use crm_core::query::{Condition, Filter, NoRelated};
use crm_core::schema::{
    CheckCustomFields, CustomFieldSchema, CustomFields, CustomWrite, Entity, Meta, Registry,
};
use crm_core::{Actor, Id, Record, Stamp};
use crm_custom_objects::Definition;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::bytes::Bytes;
use crate::definitions::scene;

#[derive(Debug)]
struct Anything;

impl CheckCustomFields for Anything {
    fn check(&self, _: &CustomWrite<'_>, _: &mut Faults) -> Option<Json> {
        None
    }
}

fn schema(definition: &Definition) -> CustomFieldSchema {
    CustomFieldSchema {
        id: definition.id.uuid(),
        key: definition.field.document_key().into(),
        former_names: Vec::new(),
        field: definition.field.field_schema(),
        unique: false,
        search_complete: true,
        options: Vec::new(),
        currency: None,
        active: true,
    }
}

/// A filter as an API is given one, right or wrong.
fn filter(bytes: &mut Bytes<'_>, depth: usize) -> Json {
    let kinds = if depth == 0 { 1 } else { 5 };
    match bytes.one_of(kinds) {
        1 | 2 => {
            let word = if bytes.yes() { "and" } else { "or" };
            let count = bytes.one_of(4);
            let parts: Vec<Json> = (0..count).map(|_| filter(bytes, depth - 1)).collect();
            json!({word: parts})
        }
        3 => json!({"not": filter(bytes, depth - 1)}),
        4 => json!({"field": "account_id", "has": filter(bytes, depth - 1)}),
        _ => {
            let prefix = if bytes.yes() { "custom_fields." } else { "" };
            let field = match bytes.one_of(12) {
                0 => "name".to_owned(),
                1 => "amount".to_owned(),
                number => format!("{prefix}f{}", number - 2),
            };
            let op = bytes.pick(&[
                "eq",
                "ne",
                "lt",
                "lte",
                "gt",
                "gte",
                "in",
                "not_in",
                "between",
                "is_null",
                "is_not_null",
                "starts_with",
                "contains",
                "any_of",
                "all_of",
                "like",
            ]);
            match op {
                "is_null" | "is_not_null" => json!({"field": field, "op": op}),
                "in" | "not_in" | "any_of" | "all_of" => {
                    let count = bytes.one_of(4);
                    let values: Vec<Json> = (0..count).map(|_| bytes.json(0)).collect();
                    json!({"field": field, "op": op, "value": values})
                }
                "between" => {
                    json!({"field": field, "op": op, "value": [bytes.json(0), bytes.json(0)]})
                }
                _ => json!({"field": field, "op": op, "value": bytes.json(1)}),
            }
        }
    }
}

pub(crate) fn run(input: &[u8]) {
    let (definitions, document, filter) = match Bytes::of(input) {
        Some(mut bytes) => {
            let (definitions, document) = scene(&mut bytes);
            let filter = filter(&mut bytes, 5);
            (definitions, document, filter)
        }
        // Otherwise it is the JSON of a filter, over fields of the first types.
        None => {
            let Ok(filter) = serde_json::from_slice(input) else {
                return;
            };
            let choices = [crate::bytes::CHOICES, 7, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3];
            let mut bytes = Bytes::of(&choices).expect("choices");
            let (definitions, _) = scene(&mut bytes);
            let document = json!({"f0": "Zürich", "f1": 12, "f2": "12.50"});
            (definitions, document, filter)
        }
    };
    let Ok(filter) = Filter::from_json(&filter) else {
        return;
    };
    let fields = definitions.iter().map(schema).collect();
    let deals = Deal::schema().with_custom_fields(CustomFields::new(fields, Arc::new(Anything)));
    let base = Registry::default();
    base.register::<crm_core::accounts::Account>();
    base.register::<Deal>();
    let registry = Registry::over(Arc::new(base), [deals.clone()]);
    let Ok(condition) = Condition::bind(&filter, &deals, &registry) else {
        return;
    };
    let at = DateTime::UNIX_EPOCH;
    let by = Actor::System;
    let deal = Deal {
        custom_fields: document,
        ..Deal::new("Rollout", Id::new(Uuid::nil()))
    };
    let deal = Record::new(Meta::first(Uuid::nil(), Stamp { at, by }), deal);
    let answer = condition.matches(&deal, &NoRelated);
    let written = serde_json::to_value(&filter).expect("a filter has a JSON form");
    let again = Filter::from_json(&written).expect("what is written reads back");
    let again = Condition::bind(&again, &deals, &registry).expect("and binds");
    assert_eq!(again.matches(&deal, &NoRelated), answer, "{written}");
    let negated = Condition::Not(Box::new(condition));
    assert!(!(answer && negated.matches(&deal, &NoRelated)), "{written}");
}

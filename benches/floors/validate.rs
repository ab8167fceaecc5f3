//! Custom values: the compiled validator of a tenant's definitions, over that of the `jsonschema`
//! crate for the same rules.

use std::hint::black_box;
use std::time::Duration;

use crm_engine::Id;
use crm_engine::custom_objects::{
    CompiledFields, CustomField, CustomFieldOption, CustomFieldType, DecimalLimits, Definition,
    IntegerLimits, TextLimits, Writer, json_schema_options,
};
use crm_engine::value::{ApiName, TextValue};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::measure::{Medians, Options, Places, timed};

/// How many documents are checked; few enough to stay in the processor's cache.
const DOCUMENTS: usize = 256;

const SEGMENTS: [&str; 4] = ["small", "middle", "large", "public"];

fn definitions() -> Vec<Definition> {
    let text = |max_length: u32, pattern: Option<&str>| TextLimits {
        max_length: Some(max_length),
        pattern: pattern.map(str::to_owned),
        ..TextLimits::default()
    };
    let types = [
        ("active", CustomFieldType::Boolean),
        ("budget", CustomFieldType::Decimal(DecimalLimits::default())),
        (
            "code",
            CustomFieldType::Text(text(12, Some("[A-Z]{2}-[0-9]{1,6}"))),
        ),
        ("margin", CustomFieldType::Percent(DecimalLimits::default())),
        ("notes", CustomFieldType::Textarea(text(2_000, None))),
        ("region", CustomFieldType::Text(text(40, None))),
        (
            "seats",
            CustomFieldType::Number(IntegerLimits {
                min: Some(1),
                max: Some(10_000),
            }),
        ),
        ("segment", CustomFieldType::Picklist),
        ("since", CustomFieldType::Date),
        ("title", CustomFieldType::Text(text(80, None))),
    ];
    let definition = |(number, (name, field_type)): (usize, (&str, CustomFieldType))| {
        let id = Id::new(Uuid::from_u128(number as u128 + 1));
        let is_picklist = field_type == CustomFieldType::Picklist;
        let option = |value: &&str| CustomFieldOption::new(id, *value, *value);
        Definition {
            id,
            field: CustomField {
                is_required: number % 3 == 0,
                ..CustomField::new(
                    ApiName::parse("deal").unwrap(),
                    ApiName::parse(name).unwrap(),
                    name,
                    field_type,
                )
            },
            options: SEGMENTS
                .iter()
                .filter(|_| is_picklist)
                .map(option)
                .collect(),
        }
    };
    types.into_iter().enumerate().map(definition).collect()
}

fn documents(places: &mut Places) -> Vec<Json> {
    let mut document = || {
        json!({
            "active": places.next(2) == 0,
            "budget": format!("{}.5", places.next(1_000_000)),
            "code": format!("AB-{}", places.next(1_000_000)),
            "margin": format!("{}", places.next(100)),
            "notes": "asked for a second offer, which we sent",
            "region": format!("region {}", places.next(50)),
            "seats": places.next(9_999) + 1,
            "segment": SEGMENTS[places.next(SEGMENTS.len())],
            "since": format!("20{:02}-0{}-1{}", places.next(100), places.next(9) + 1, places.next(10)),
            "title": "Rollout in the south",
        })
    };
    (0..DOCUMENTS).map(|_| document()).collect()
}

fn each(documents: &[Json], places: &mut Places, count: usize, one: impl Fn(&Json)) -> Duration {
    let chosen: Vec<usize> = (0..count).map(|_| places.next(DOCUMENTS)).collect();
    timed(|| {
        for place in chosen {
            one(black_box(&documents[place]));
        }
    })
}

/// A document of ten fields, all of them right.
pub(crate) fn custom_validate(options: &Options) -> Medians {
    let fields = CompiledFields::new(&definitions()).unwrap();
    let schema = json_schema_options().build(fields.json_schema()).unwrap();
    let documents = documents(&mut Places(0x5EED));
    for document in &documents {
        let checked = fields.check(document, None, Writer::Caller);
        assert!(checked.faults.is_empty() && *checked.document == *document);
        assert!(schema.is_valid(document));
    }
    let (mut one, mut other) = (Places(0x5EED), Places(0x5EED));
    options.measure(
        |count| {
            each(&documents, &mut one, count, |document| {
                black_box(fields.check(document, None, Writer::Caller));
            })
        },
        |count| {
            each(&documents, &mut other, count, |document| {
                black_box(schema.is_valid(document));
            })
        },
    )
}

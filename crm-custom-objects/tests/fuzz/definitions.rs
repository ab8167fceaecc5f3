//! No definition and no document makes the validator of custom fields panic or hang, and it says the
//! same as the JSON Schema that it exports.

use crm_core::Id;
use crm_core::value::{ApiName, Currency, TextValue};
use crm_custom_objects::{
    CompiledFields, CustomField, CustomFieldOption, CustomFieldType, DecimalLimits, Definition,
    FieldChange, IntegerLimits, TextLimits, Writer, json_schema_options,
};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::bytes::{Bytes, TEXTS};

fn name(text: &str) -> ApiName {
    ApiName::parse(text).expect("a name")
}

fn limits(bytes: &mut Bytes<'_>) -> TextLimits {
    let length = |bytes: &mut Bytes<'_>| u32::from(bytes.byte()) * 7 % 300;
    TextLimits {
        min_length: bytes.maybe(length),
        max_length: bytes.maybe(length),
        pattern: bytes.maybe(Bytes::text),
    }
}

fn decimals(bytes: &mut Bytes<'_>) -> DecimalLimits {
    DecimalLimits {
        min: bytes.maybe(|bytes| bytes.number().into()),
        max: bytes.maybe(|bytes| bytes.number().into()),
    }
}

/// A type of fields; limits may contradict each other.
fn field_type(bytes: &mut Bytes<'_>) -> CustomFieldType {
    let whole = |bytes: &mut Bytes<'_>| bytes.number().clamp(-9_999, 9_999) as i32;
    match bytes.one_of(17) {
        0 => CustomFieldType::Text(limits(bytes)),
        1 => CustomFieldType::Textarea(limits(bytes)),
        2 => CustomFieldType::Number(IntegerLimits {
            min: bytes.maybe(whole),
            max: bytes.maybe(whole),
        }),
        3 => CustomFieldType::Decimal(decimals(bytes)),
        4 => CustomFieldType::Currency {
            currency: Currency::EUR,
            min: bytes.maybe(|bytes| bytes.number().into()),
            max: bytes.maybe(|bytes| bytes.number().into()),
        },
        5 => CustomFieldType::Percent(decimals(bytes)),
        6 => CustomFieldType::Boolean,
        7 => CustomFieldType::Date,
        8 => CustomFieldType::Datetime,
        9 => CustomFieldType::Email,
        10 => CustomFieldType::Url,
        11 => CustomFieldType::Phone,
        12 => CustomFieldType::Picklist,
        13 => CustomFieldType::Multipicklist,
        14 => CustomFieldType::Lookup {
            object: name("account"),
            cascade: bytes.yes(),
        },
        15 => CustomFieldType::File,
        _ => CustomFieldType::Json {
            schema: bytes.maybe(|bytes| bytes.json(3)),
        },
    }
}

/// The definition of the field `f<number>`.
fn definition(number: usize, field_type: CustomFieldType, bytes: &mut Bytes<'_>) -> Definition {
    let id = Id::new(Uuid::from_u128(number as u128 + 1));
    let mut options = Vec::new();
    if field_type.has_options() {
        for value in ["a", "B", "12.50"] {
            options.push(CustomFieldOption {
                is_active: bytes.yes(),
                ..CustomFieldOption::new(id, value, value)
            });
        }
    }
    let api_name = name(&format!("f{number}"));
    let field = CustomField {
        is_required: bytes.yes(),
        default_value: bytes.maybe(|bytes| bytes.json(1)),
        ..CustomField::new(name("deal"), api_name, "Field", field_type)
    };
    Definition { id, field, options }
}

/// Definitions and a document with values for some of them.
pub(crate) fn scene(bytes: &mut Bytes<'_>) -> (Vec<Definition>, Json) {
    let count = 1 + bytes.one_of(8);
    let fields: Vec<Definition> = (0..count)
        .map(|number| {
            let field_type = field_type(bytes);
            definition(number, field_type, bytes)
        })
        .collect();
    (fields, document(bytes))
}

pub(crate) fn document(bytes: &mut Bytes<'_>) -> Json {
    let mut members = Map::new();
    for _ in 0..bytes.one_of(10) {
        let key = match bytes.one_of(12) {
            0 => bytes.pick(TEXTS).to_owned(),
            number => format!("f{}", number - 1),
        };
        members.insert(key, bytes.json(2));
    }
    Json::Object(members)
}

pub(crate) fn run(input: &[u8]) {
    let (definitions, document, before) = match Bytes::of(input) {
        Some(mut bytes) => {
            let (definitions, after) = scene(&mut bytes);
            let before = bytes.maybe(document);
            (definitions, after, before)
        }
        // Otherwise it is JSON: a list of types of fields, and a document.
        None => {
            let Ok((types, document)) = serde_json::from_slice::<(Vec<Json>, Json)>(input) else {
                return;
            };
            let types = types.into_iter();
            let types = types.filter_map(|json| serde_json::from_value(json).ok());
            let mut no_choices = Bytes::of(&[crate::bytes::CHOICES]).expect("choices");
            let definitions = types.take(10).enumerate();
            let definitions = definitions.map(|(number, field_type)| {
                let mut made = definition(number, field_type, &mut no_choices);
                for option in &mut made.options {
                    option.is_active = true;
                }
                made
            });
            (definitions.collect(), document, None)
        }
    };
    for pair in definitions.windows(2) {
        if let [one, other] = pair {
            let _ = FieldChange::between(&one.field, &other.field);
        }
    }
    let Ok(compiled) = CompiledFields::new(&definitions) else {
        return;
    };
    let schema = json_schema_options()
        .build(compiled.json_schema())
        .expect("an exported schema is one");
    let checked = compiled.check(&document, None, Writer::Caller);
    assert_eq!(
        checked.faults.is_empty(),
        schema.is_valid(&compiled.normal_form(&document)),
        "{document}",
    );
    if checked.faults.is_empty() {
        // What was accepted is accepted as it is stored, and stays what it is.
        let stored = checked.document.into_owned();
        let again = compiled.check(&stored, Some(&stored), Writer::Caller);
        assert!(again.faults.is_empty());
        assert_eq!(*again.document, stored);
    }
    if let Some(before) = before {
        let _ = compiled.check(&document, Some(&before), Writer::Caller);
    }
}

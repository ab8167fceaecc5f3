//! No definition and no document makes the validator of custom fields panic or hang, and it says the
//! same as the JSON Schema that it exports.
//!
//! The input is JSON: a list of types of fields, and a document.
#![no_main]

use crm_core::Id;
use crm_core::value::{ApiName, TextValue};
use crm_custom_objects::{
    CompiledFields, CustomField, CustomFieldOption, CustomFieldType, Definition, Writer,
    json_schema_options,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value as Json;
use uuid::Uuid;

fuzz_target!(|input: &[u8]| {
    let Ok((types, document)) = serde_json::from_slice::<(Vec<Json>, Json)>(input) else {
        return;
    };
    let types = types
        .into_iter()
        .filter_map(|json| serde_json::from_value::<CustomFieldType>(json).ok());
    let definitions: Vec<Definition> = types
        .take(10)
        .enumerate()
        .map(|(number, field_type)| {
            let id = Id::new(Uuid::from_u128(number as u128 + 1));
            let name = |text: &str| ApiName::parse(text).expect("a name");
            let key = format!("f{number}");
            let options = if field_type.has_options() {
                vec![CustomFieldOption::new(id, "a", "A")]
            } else {
                Vec::new()
            };
            Definition {
                id,
                field: CustomField::new(name("deal"), name(&key), "Field", field_type),
                options,
            }
        })
        .collect();
    let Ok(compiled) = CompiledFields::new(&definitions) else {
        return;
    };
    let checked = compiled.check(&document, None, Writer::Caller);
    let schema = json_schema_options()
        .build(compiled.json_schema())
        .expect("an exported schema is one");
    assert_eq!(
        checked.faults.is_empty(),
        schema.is_valid(&compiled.normal_form(&document)),
    );
});

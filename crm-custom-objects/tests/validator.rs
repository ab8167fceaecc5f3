//! The compiled validator: its limits, and that it says the same as the JSON Schema it exports.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeSet;

use crm_core::Id;
use crm_core::value::{ApiName, Currency, TextValue};
use crm_custom_objects::{
    Check, CompiledFields, CustomField, CustomFieldOption, CustomFieldType, DataType,
    DecimalLimits, Definition, FieldChange, IntegerLimits, TextLimits, Writer, json_schema_options,
};
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

/// The definition of the field `f<number>`.
fn definition(number: usize, field_type: CustomFieldType) -> Definition {
    let api_name = format!("f{number}");
    Definition {
        id: Id::new(Uuid::from_u128(number as u128 + 1)),
        field: CustomField::new(name("deal"), name(&api_name), "Field", field_type),
        options: Vec::new(),
    }
}

fn options(definition: &mut Definition, active: &[&str], inactive: &[&str]) {
    let id = definition.id;
    let option = |value: &&str| CustomFieldOption::new(id, *value, *value);
    definition.options = active.iter().map(option).collect();
    definition
        .options
        .extend(inactive.iter().map(option).map(|option| CustomFieldOption {
            is_active: false,
            ..option
        }));
}

fn codes(compiled: &CompiledFields, after: &Json, before: Option<&Json>) -> Vec<(String, String)> {
    let faults = compiled.check(after, before, Writer::Caller).faults;
    let errors = faults.into_result().err().map(|error| error.into_errors());
    let errors = errors.into_iter().flatten();
    errors
        .map(|error| (error.path, error.code.to_owned()))
        .collect()
}

fn text(min: Option<u32>, max: Option<u32>, pattern: Option<&str>) -> CustomFieldType {
    CustomFieldType::Text(TextLimits {
        min_length: min,
        max_length: max,
        pattern: pattern.map(ToOwned::to_owned),
    })
}

fn decimal(min: Option<i64>, max: Option<i64>) -> DecimalLimits {
    DecimalLimits {
        min: min.map(Into::into),
        max: max.map(Into::into),
    }
}

/// A type, values that it takes with their stored form, and values that it refuses with the code.
type Case = (
    CustomFieldType,
    Vec<(Json, Json)>,
    Vec<(Json, &'static str)>,
);

/// C-089: the first form is stored of each that is accepted.
#[test]
fn values_of_every_type_keep_to_its_limits() {
    let long = "a".repeat(255);
    let longer = "a".repeat(256);
    let email = format!("a@{}example.com", "b.".repeat(125));
    let id = "01932c07-209c-7a4b-8000-000000000001";
    let cases: Vec<Case> = vec![
        (
            text(Some(2), None, None),
            vec![
                (json!(" ab "), json!("ab")),
                (json!(long), json!(long)),
                (json!("  "), Json::Null),
                (json!("e\u{301}a"), json!("\u{e9}a")),
            ],
            vec![
                (json!("a"), "too_short"),
                (json!(longer), "too_long"),
                (json!("a\nb"), "line_break"),
                (json!("a\0b"), "nul_character"),
                (json!(3), "wrong_type"),
            ],
        ),
        (
            text(None, None, Some("[A-Z]{2}-\\d+")),
            vec![(json!("AB-1"), json!("AB-1"))],
            vec![
                (json!("xAB-1"), "pattern_mismatch"),
                (json!("AB-1\u{664}"), "pattern_mismatch"),
            ],
        ),
        (
            CustomFieldType::Textarea(TextLimits::default()),
            vec![(json!("a\nb"), json!("a\nb"))],
            vec![(json!("a".repeat(32_769)), "too_long")],
        ),
        (
            CustomFieldType::Number(IntegerLimits::default()),
            vec![
                (json!(i32::MAX), json!(i32::MAX)),
                (json!("12"), json!(12)),
                (json!(3.0), json!(3)),
            ],
            vec![
                (json!(i64::from(i32::MAX) + 1), "out_of_range"),
                (json!(1.5), "wrong_type"),
                (json!(u64::MAX), "wrong_type"),
                (json!("x"), "wrong_type"),
            ],
        ),
        (
            CustomFieldType::Decimal(decimal(None, None)),
            vec![
                (json!("9999999999999.99"), json!("9999999999999.99")),
                (json!(-1.50), json!("-1.5")),
                (json!("007"), json!("7")),
                (json!("-0"), json!("0")),
            ],
            vec![
                (json!("10000000000000"), "out_of_range"),
                (json!("1.005"), "too_many_decimals"),
                (json!(1e300), "wrong_type"),
                (json!(true), "wrong_type"),
            ],
        ),
        (
            CustomFieldType::Currency {
                currency: Currency::EUR,
                min: Some(1.into()),
                max: None,
            },
            vec![(json!(1), json!("1"))],
            vec![(json!("0.99"), "out_of_range")],
        ),
        (
            CustomFieldType::Percent(decimal(None, None)),
            vec![(json!(100), json!("100")), (json!("0.25"), json!("0.25"))],
            vec![
                (json!(100.01), "out_of_range"),
                (json!(-1), "out_of_range"),
                (json!("0.125"), "too_many_decimals"),
            ],
        ),
        (
            CustomFieldType::Boolean,
            vec![
                (json!(true), json!(true)),
                (json!(1), json!(true)),
                (json!("0"), json!(false)),
                (json!("true"), json!(true)),
            ],
            vec![(json!(2), "wrong_type"), (json!("yes"), "wrong_type")],
        ),
        (
            CustomFieldType::Date,
            vec![
                (json!("1900-01-01"), json!("1900-01-01")),
                (json!(" 2100-12-31 "), json!("2100-12-31")),
            ],
            vec![
                (json!("1899-12-31"), "out_of_range"),
                (json!("2101-01-01"), "out_of_range"),
                (json!("2025-02-29"), "wrong_type"),
            ],
        ),
        (
            CustomFieldType::Datetime,
            vec![(
                json!("2026-01-31T10:30:00+01:00"),
                json!("2026-01-31T09:30:00.000000Z"),
            )],
            vec![
                (json!("2101-01-01T00:00:00Z"), "out_of_range"),
                (json!("2016-12-31T23:59:60Z"), "wrong_type"),
                (json!("2026-01-31"), "wrong_type"),
            ],
        ),
        (
            CustomFieldType::Email,
            vec![(json!("ada@example.com"), json!("ada@example.com"))],
            vec![(json!("ada@"), "invalid_email"), (json!(email), "too_long")],
        ),
        (
            CustomFieldType::Url,
            vec![(json!("https://example.com"), json!("https://example.com/"))],
            vec![(json!("ftp://example.com"), "invalid_url")],
        ),
        (
            CustomFieldType::Phone,
            vec![(json!("+49 30 901820"), json!("+49 30 901820"))],
            vec![(json!("call me"), "invalid_phone")],
        ),
        (
            CustomFieldType::Lookup {
                object: name("account"),
                cascade: false,
            },
            vec![(json!(id.to_uppercase()), json!(id))],
            vec![(json!("1"), "wrong_type")],
        ),
        (
            CustomFieldType::File,
            vec![(json!({"name": "a.pdf"}), json!({"name": "a.pdf"}))],
            vec![
                (json!({"name": ""}), "wrong_type"),
                (json!([]), "wrong_type"),
            ],
        ),
        (
            CustomFieldType::Json {
                schema: Some(json!({
                    "type": "array",
                    "items": {"$ref": "#/$defs/size"},
                    "$defs": {"size": {"type": "integer", "minimum": 1}},
                })),
            },
            vec![(json!([1, 2]), json!([1, 2]))],
            vec![
                (json!({}), "invalid_document"),
                (json!("a\0"), "nul_character"),
                (json!("a".repeat(70_000)), "too_long"),
            ],
        ),
    ];
    for (field_type, accepted, refused) in cases {
        let kind = field_type.name();
        let compiled = CompiledFields::new(&[definition(0, field_type)]).unwrap();
        for (given, stored) in accepted {
            let document = json!({"f0": given});
            let checked = compiled.check(&document, None, Writer::Caller);
            assert!(
                checked.faults.is_empty(),
                "{kind} {given}: {:?}",
                checked.faults
            );
            let stored = match stored {
                Json::Null => json!({}),
                stored => json!({"f0": stored}),
            };
            assert_eq!(*checked.document, stored, "{kind} {given}");
        }
        for (given, code) in refused {
            let document = json!({"f0": given});
            let found = codes(&compiled, &document, None);
            let wanted = vec![("custom_fields.f0".to_owned(), code.to_owned())];
            assert_eq!(found, wanted, "{kind} {given}");
        }
    }
}

/// The path inside a document is told, its values are not.
#[test]
fn faults_of_documents_have_their_place() {
    let schema = json!({"items": {"type": "integer"}});
    let field_type = CustomFieldType::Json {
        schema: Some(schema),
    };
    let compiled = CompiledFields::new(&[definition(0, field_type)]).unwrap();
    let found = codes(&compiled, &json!({"f0": [1, "secret", 3]}), None);
    let wanted = (
        "custom_fields.f0.1".to_owned(),
        "invalid_document".to_owned(),
    );
    assert_eq!(found, [wanted]);
}

/// what is no longer active stays where it is.
#[test]
fn inactive_options_stay_and_are_not_chosen() {
    let mut one = definition(0, CustomFieldType::Picklist);
    options(&mut one, &["a"], &["old"]);
    let mut several = definition(1, CustomFieldType::Multipicklist);
    options(&mut several, &["a", "b"], &["old"]);
    let compiled = CompiledFields::new(&[one, several]).unwrap();
    let before = json!({"f0": "old", "f1": ["old", "a"]});
    assert_eq!(codes(&compiled, &before, None).len(), 2);
    assert!(codes(&compiled, &before, Some(&before)).is_empty());
    let after = json!({"f0": "old", "f1": ["old", "b"]});
    assert!(codes(&compiled, &after, Some(&before)).is_empty());
    let without = json!({"f0": "a", "f1": ["a"]});
    assert!(codes(&compiled, &without, Some(&before)).is_empty());
    assert_eq!(codes(&compiled, &before, Some(&without)).len(), 2);
}

#[test]
fn options_go_with_the_controlling_field() {
    let mut country = definition(0, CustomFieldType::Picklist);
    options(&mut country, &["de", "fr"], &[]);
    let mut city = definition(1, CustomFieldType::Picklist);
    options(&mut city, &["berlin", "paris", "elsewhere"], &[]);
    city.field.controlling_field_id = Some(country.id);
    city.options[0].controlling_values = vec!["de".into()];
    city.options[1].controlling_values = vec!["fr".into()];
    let compiled = CompiledFields::new(&[country, city]).unwrap();
    let fits = |document: &Json| codes(&compiled, document, None).is_empty();
    assert!(fits(&json!({"f0": "de", "f1": "berlin"})));
    assert!(fits(&json!({"f1": "elsewhere"})));
    assert!(!fits(&json!({"f0": "de", "f1": "paris"})));
    assert!(!fits(&json!({"f1": "paris"})));
    // Changing the controlling value alone is found too.
    let before = json!({"f0": "de", "f1": "berlin"});
    let moved = json!({"f0": "fr", "f1": "berlin"});
    assert_eq!(
        codes(&compiled, &moved, Some(&before)),
        [("custom_fields.f1".to_owned(), "not_an_option".to_owned())]
    );
}

#[test]
fn unknown_computed_inactive_and_missing_values_are_told_together() {
    let formula = CustomFieldType::Formula {
        expression: "1 + 1".into(),
        result: DataType::Integer,
    };
    let mut required = definition(1, CustomFieldType::Boolean);
    required.field.is_required = true;
    let mut retired = definition(2, CustomFieldType::Date);
    retired.field.is_active = false;
    let compiled = CompiledFields::new(&[definition(0, formula), required, retired]).unwrap();
    let found = codes(
        &compiled,
        &json!({"f0": 3, "f2": "2026-01-31", "x": 1}),
        None,
    );
    let found: Vec<_> = found
        .iter()
        .map(|(path, code)| (&**path, &**code))
        .collect();
    assert_eq!(
        found,
        [
            ("custom_fields.f0", "read_only"),
            ("custom_fields.f2", "inactive_field"),
            ("custom_fields.x", "unknown_field"),
            ("custom_fields.f1", "required"),
        ]
    );
    // What was there before any definition stays; what the engine computed is not lost.
    let before = json!({"f0": 2, "f2": "2026-01-31", "x": 1});
    assert!(codes(&compiled, &before, Some(&before)).is_empty());
    let after = json!({"x": 1, "f1": true});
    let checked = compiled.check(&after, Some(&before), Writer::Caller);
    assert!(checked.faults.is_empty());
    assert_eq!(*checked.document, json!({"f0": 2, "f1": true, "x": 1}));
    let computed = json!({"f0": 3, "f1": true});
    assert!(
        compiled
            .check(&computed, None, Writer::Engine)
            .faults
            .is_empty()
    );
}

#[test]
fn names_lead_to_the_key() {
    let mut renamed = definition(0, CustomFieldType::Boolean);
    renamed.field.key = Some(name("old_key"));
    renamed.field.former_names = vec!["older".into()];
    let compiled = CompiledFields::new(&[renamed]).unwrap();
    for given in ["f0", "old_key", "older"] {
        let document = json!({given: 1});
        let checked = compiled.check(&document, None, Writer::Caller);
        assert_eq!(*checked.document, json!({"old_key": true}), "{given}");
    }
    let twice = json!({"f0": true, "old_key": false});
    assert_eq!(
        codes(&compiled, &twice, None),
        [("custom_fields.f0".to_owned(), "inconsistent".to_owned())]
    );
}

#[test]
fn new_records_start_with_defaults() {
    let mut stars = definition(0, CustomFieldType::Number(IntegerLimits::default()));
    stars.field.default_value = Some(json!("3"));
    stars.field.is_required = true;
    let mut state = definition(1, CustomFieldType::Picklist);
    options(&mut state, &["open", "done"], &[]);
    state.options[1].is_default = true;
    let compiled = CompiledFields::new(&[stars, state]).unwrap();
    let empty = json!({});
    let checked = compiled.check(&empty, None, Writer::Caller);
    assert!(checked.faults.is_empty());
    assert_eq!(*checked.document, json!({"f0": 3, "f1": "done"}));
    let checked = compiled.check(&empty, Some(&empty), Writer::Caller);
    assert_eq!(*checked.document, json!({}));
}

/// Schemas of fields are bounded: they stand on their own and do not run in circles.
#[test]
fn schemas_that_reach_outside_or_into_themselves_are_refused() {
    let mut doubling = Map::new();
    for level in 0..20 {
        let next = json!({"$ref": format!("#/$defs/l{}", level + 1)});
        doubling.insert(format!("l{level}"), json!({"allOf": [next, next]}));
    }
    doubling.insert("l20".into(), json!({}));
    for schema in [
        json!({"$ref": "https://example.com/schema"}),
        json!({"$ref": "#"}),
        json!({"properties": {"next": {"$ref": "#"}}}),
        json!({"$ref": "#/$defs/none"}),
        json!({"$id": "https://example.com/schema"}),
        json!({"$dynamicRef": "#a"}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#"}),
        json!({"pattern": "(?=a)"}),
        json!({"type": "no type"}),
        json!({"$ref": "#/$defs/l0", "$defs": doubling}),
        json!([]),
    ] {
        let field_type = CustomFieldType::Json {
            schema: Some(schema.clone()),
        };
        let compiled = CompiledFields::new(&[definition(0, field_type)]);
        assert!(compiled.is_err(), "{schema}");
    }
}

#[test]
fn an_object_without_definitions_takes_everything() {
    let compiled = CompiledFields::new(&[]).unwrap();
    let document = json!({"anything": [null, {"goes": 1.50}]});
    let checked = compiled.check(&document, None, Writer::Caller);
    assert!(checked.faults.is_empty());
    assert_eq!(*checked.document, document);
}

const VALUES: [&str; 4] = ["a", "b", "c d", "\u{e9}"];

fn any_text_limits(most: u32) -> impl Strategy<Value = TextLimits> {
    let pattern = prop::option::of(prop::sample::select(vec![
        "[a-z]+",
        "\\d{2,4}",
        "\\w*\\s?\\w*",
        "a|bb|",
        "[^\\d]+",
        ".*\u{e9}.*",
        "(?:ab)+",
        "\\S+",
    ]));
    let lengths = prop::option::of((0..6_u32, 1..=most.min(20)));
    (lengths, pattern).prop_map(|(lengths, pattern)| TextLimits {
        min_length: lengths.map(|(min, max)| min.min(max)),
        max_length: lengths.map(|(_, max)| max),
        pattern: pattern.map(ToOwned::to_owned),
    })
}

fn any_decimal_limits() -> impl Strategy<Value = DecimalLimits> {
    prop::option::of((0..50_i64, 0..50_i64)).prop_map(|limits| match limits {
        None => DecimalLimits::default(),
        Some((min, more)) => decimal(Some(min), Some(min + more)),
    })
}

fn any_type() -> impl Strategy<Value = CustomFieldType> {
    let schema = prop::sample::select(vec![
        None,
        Some(json!({"type": "object", "required": ["a"]})),
        Some(
            json!({"anyOf": [{"$ref": "#/$defs/n"}, {"type": "array", "items": {"$ref": "#/$defs/n"}}],
            "$defs": {"n": {"type": "number", "maximum": 100}}}),
        ),
        Some(json!({"enum": [1, "a", {"a": 1}]})),
        Some(json!({"pattern": "^\\d+$", "format": "date"})),
    ]);
    prop_oneof![
        any_text_limits(255).prop_map(CustomFieldType::Text),
        any_text_limits(300).prop_map(CustomFieldType::Textarea),
        prop::option::of((-9..9_i32, 0..99_i32)).prop_map(|limits| {
            CustomFieldType::Number(IntegerLimits {
                min: limits.map(|(min, _)| min),
                max: limits.map(|(min, more)| min + more),
            })
        }),
        any_decimal_limits().prop_map(CustomFieldType::Decimal),
        any_decimal_limits().prop_map(|limits| CustomFieldType::Currency {
            currency: Currency::EUR,
            min: limits.min,
            max: limits.max,
        }),
        any_decimal_limits().prop_map(CustomFieldType::Percent),
        Just(CustomFieldType::Boolean),
        Just(CustomFieldType::Date),
        Just(CustomFieldType::Datetime),
        Just(CustomFieldType::Email),
        Just(CustomFieldType::Url),
        Just(CustomFieldType::Phone),
        Just(CustomFieldType::Picklist),
        Just(CustomFieldType::Multipicklist),
        Just(CustomFieldType::Lookup {
            object: name("account"),
            cascade: false
        }),
        Just(CustomFieldType::MasterDetail {
            object: name("account")
        }),
        Just(CustomFieldType::Formula {
            expression: "1".into(),
            result: DataType::Integer
        }),
        Just(CustomFieldType::File),
        schema.prop_map(|schema| CustomFieldType::Json { schema }),
    ]
}

/// Definitions of one to six fields; picklists have options, some of which depend on the field before.
fn any_definitions() -> impl Strategy<Value = Vec<Definition>> {
    let one = (any_type(), any::<[bool; 5]>(), any_value());
    prop::collection::vec(one, 1..7).prop_map(|drawn| {
        let mut made: Vec<Definition> = Vec::new();
        for (number, (field_type, [required, active, renamed, depends, default], value)) in
            drawn.into_iter().enumerate()
        {
            let mut next = definition(number, field_type);
            next.field.is_required = required && !next.field.field_type.is_computed();
            next.field.is_active = active || !depends;
            if renamed {
                next.field.key = Some(name(&format!("key{number}")));
            }
            if next.field.field_type.has_options() {
                options(&mut next, &VALUES[..3], &VALUES[3..]);
                let controls = made.last().filter(|last| {
                    last.field.field_type.has_options()
                        || last.field.field_type == CustomFieldType::Boolean
                });
                if let Some(last) = controls.filter(|_| depends) {
                    next.field.controlling_field_id = Some(last.id);
                    next.options[0].controlling_values = vec!["a".into(), "true".into()];
                    next.options[1].controlling_values = vec!["b".into(), "c d".into()];
                }
                next.options[2].is_default = default;
            } else if default && !next.field.field_type.is_computed() {
                next.field.default_value = Some(value);
                // Most values are none of the type.
                if CompiledFields::new(std::slice::from_ref(&next)).is_err() {
                    next.field.default_value = None;
                }
            }
            made.push(next);
        }
        made
    })
}

/// Values that are right for some type, or nearly.
fn any_value() -> impl Strategy<Value = Json> {
    let plain = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (-12..120_i64).prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        (-12..120_i64).prop_map(|number| Json::from(number as f64 / 4.0)),
        "-?[0-9]{1,14}(\\.[0-9]{1,3})?".prop_map(Json::from),
        " ?[01]?[0-9]{1,2}(\\.[0-9]{1,2})? ?".prop_map(Json::from),
        "(18|19|20|21)[0-9]{2}-[01][0-9]-[0-3][0-9]".prop_map(Json::from),
        "(18|19|20|21)[0-9]{2}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,9})?(Z|z|[+-][01][0-9]:00)"
            .prop_map(Json::from),
        "[a-z]{1,5}@[a-z\u{e4}]{1,5}\\.(com|de)".prop_map(Json::from),
        "https?://[a-z]{1,5}(\\.com)?/[a-z \u{e4}]{0,3}".prop_map(Json::from),
        "\\+?[0-9 ()-]{3,18}".prop_map(Json::from),
        "[0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}".prop_map(Json::from),
        prop::sample::select(VALUES.to_vec()).prop_map(Json::from),
        prop::sample::select(vec![
            "true", "0", "", "  ", " a ", "e\u{301}", "\u{958}", "ab", "aba", "12", "a\nb", "a\0b", "\u{feff}a",
        ])
        .prop_map(Json::from),
        "\\PC{0,25}".prop_map(Json::from),
        any::<String>().prop_map(Json::from),
    ];
    plain.prop_recursive(2, 12, 12, |inner| {
        let entry = prop::sample::select(VALUES.to_vec()).prop_map(Json::from);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec(entry, 0..5).prop_map(Json::from),
            prop::collection::btree_map("(a|name|[a-c]{0,2})", inner, 0..4)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

/// Documents with members of the definitions, by keys and by names, and now and then another.
fn any_document() -> impl Strategy<Value = Json> {
    let member = "(f|key)[0-5]|x";
    let members = prop::collection::btree_map(member, any_value(), 0..7)
        .prop_map(|members| Json::Object(members.into_iter().collect()));
    prop_oneof![20 => members, 1 => any_value()]
}

fn is_accepted(compiled: &CompiledFields, document: &Json) -> bool {
    compiled
        .check(document, None, Writer::Caller)
        .faults
        .is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// C-089: what the validator takes is what the exported JSON Schema takes.
    #[test]
    fn the_validator_and_its_json_schema_agree(
        definitions in any_definitions(),
        documents in prop::collection::vec(any_document(), 1..12),
    ) {
        let compiled = CompiledFields::new(&definitions).unwrap();
        let schema = json_schema_options().build(compiled.json_schema()).unwrap();
        for document in documents {
            let normal = compiled.normal_form(&document);
            prop_assert_eq!(
                is_accepted(&compiled, &document),
                schema.is_valid(&normal),
                "{} as {} by {}", document, normal, compiled.json_schema()
            );
        }
    }

    /// The same for one value of one type, which is right more often than a whole document.
    #[test]
    fn single_values_agree(field_type in any_type(), values in prop::collection::vec(any_value(), 1..30)) {
        let mut one = definition(0, field_type);
        if one.field.field_type.has_options() {
            options(&mut one, &VALUES[..3], &VALUES[3..]);
        }
        let compiled = CompiledFields::new(&[one]).unwrap();
        let schema = json_schema_options().build(compiled.json_schema()).unwrap();
        for value in values {
            let document = json!({"f0": value});
            let normal = compiled.normal_form(&document);
            prop_assert_eq!(
                is_accepted(&compiled, &document),
                schema.is_valid(&normal),
                "{} as {} by {}", document, normal, compiled.json_schema()
            );
        }
    }

    /// The stored form is a fixed point, and fits the schema where it is accepted.
    #[test]
    fn checking_again_changes_nothing(
        definitions in any_definitions(),
        document in any_document(),
    ) {
        let compiled = CompiledFields::new(&definitions).unwrap();
        let checked = compiled.check(&document, None, Writer::Caller);
        if checked.faults.is_empty() {
            let normal = compiled.normal_form(&document).into_owned();
            prop_assert_eq!(&*compiled.normal_form(&normal), &normal);
            let stored = checked.document.into_owned();
            let again = compiled.check(&stored, None, Writer::Caller);
            prop_assert!(again.faults.is_empty());
            prop_assert_eq!(&*again.document, &stored);
            let schema = json_schema_options().build(compiled.json_schema()).unwrap();
            prop_assert!(schema.is_valid(&stored));
        }
    }

    /// A record that nobody touches is not judged by what was defined since.
    #[test]
    fn documents_that_do_not_change_pass(
        definitions in any_definitions(),
        document in any_document(),
    ) {
        let compiled = CompiledFields::new(&definitions).unwrap();
        let keys: BTreeSet<&str> =
            definitions.iter().map(|definition| definition.field.document_key()).collect();
        // Stored documents are objects that have values by their keys.
        let stored: Json = match document {
            Json::Object(members) => Json::Object(
                members.into_iter().filter(|(name, _)| keys.contains(&**name) || name == "x").collect(),
            ),
            _ => json!({}),
        };
        let checked = compiled.check(&stored, Some(&stored), Writer::Caller);
        prop_assert!(checked.faults.is_empty(), "{:?}", checked.faults);
        prop_assert_eq!(&*checked.document, &stored);
    }

    /// Whatever is wrong with one member is told however many others there are.
    #[test]
    fn every_fault_is_told(definitions in any_definitions(), document in any_document()) {
        let compiled = CompiledFields::new(&definitions).unwrap();
        let Json::Object(members) = compiled.normal_form(&document).into_owned() else {
            return Ok(());
        };
        let together: BTreeSet<_> =
            codes(&compiled, &Json::Object(members.clone()), Some(&json!({}))).into_iter().collect();
        // Of a value under two names only that is told.
        if together.iter().any(|(_, code)| code == "inconsistent") {
            return Ok(());
        }
        let mut alone = BTreeSet::new();
        for (name, value) in &members {
            let single = json!({name: value});
            let found = codes(&compiled, &single, Some(&json!({})));
            alone.extend(found.into_iter().filter(|(_, code)| code != "not_an_option"));
        }
        prop_assert!(alone.is_subset(&together), "{alone:?} {together:?}");
    }

    /// A change that is called harmless makes no value wrong, nor another one.
    #[test]
    fn harmless_changes_keep_every_value(
        before in any_type(),
        after in any_type(),
        values in prop::collection::vec(any_value(), 1..20),
    ) {
        let (mut old, mut new) = (definition(0, before), definition(0, after));
        for one in [&mut old, &mut new] {
            if one.field.field_type.has_options() {
                options(one, &VALUES[..3], &VALUES[3..]);
            }
        }
        let change = FieldChange::between(&old.field, &new.field);
        if matches!(change, FieldChange::Refused(_)) || change.checks().contains(&Check::Valid) {
            return Ok(());
        }
        let old = CompiledFields::new(&[old]).unwrap();
        let new = CompiledFields::new(&[new]).unwrap();
        for value in values {
            let given = json!({"f0": value});
            let stored = old.check(&given, Some(&json!({})), Writer::Caller);
            if stored.faults.is_empty() {
                let again = new.check(&stored.document, Some(&json!({})), Writer::Caller);
                prop_assert!(again.faults.is_empty(), "{}: {:?}", given, again.faults);
                prop_assert_eq!(&again.document, &stored.document);
            }
        }
    }
}

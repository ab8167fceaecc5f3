//! Definitions as JSON Schema (draft 2020-12), and the JSON Schemas that fields of JSON have.

use crm_core::error::{FieldError, codes};
use crm_core::schema::{FieldType, MULTILINE_LENGTH, Value};
use jsonschema::paths::Location;
use jsonschema::{Draft, Keyword, PatternOptions, ValidationError, ValidationOptions, Validator};
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};

use crate::field_type::{MAX_SELECTIONS, TEXT_LENGTH};
use crate::validator::{Definition, depth_exceeds, document_fault};
use crate::{CustomFieldOption, CustomFieldType, TextLimits, pattern};

/// The code of a JSON Schema that a field cannot have.
const INVALID: &str = "invalid_json_schema";

/// The dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The most bytes of a schema.
const BYTES: usize = 16_384;
/// How deep a schema may be.
const DEPTH: usize = 32;
/// The most parts of a schema once its references are followed.
const PARTS: usize = 1_000;

/// Keywords by which a schema would be known, or know others, beyond plain references.
const FOREIGN: [&str; 8] = [
    "$id",
    "$anchor",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
    "$vocabulary",
    "id",
];

/// A validator of JSON Schema that knows the keywords and formats of exported definitions: draft
/// 2020-12, formats checked, patterns in linear time, nothing fetched.
///
/// ```
/// use crm_core::Id;
/// use crm_core::value::{ApiName, TextValue};
/// use crm_custom_objects::{
///     CompiledFields, CustomField, CustomFieldType, Definition, json_schema_options,
/// };
/// use serde_json::json;
///
/// let field = CustomField::new(
///     ApiName::parse("contact")?,
///     ApiName::parse("private_email")?,
///     "Private e-mail",
///     CustomFieldType::Email,
/// );
/// let id = Id::new("01932c07-209c-7a4b-8000-000000000001".parse()?);
/// let definition = Definition { id, field, options: Vec::new() };
/// let fields = CompiledFields::new(&[definition]).expect("a sound definition");
///
/// let validator = json_schema_options().build(fields.json_schema())?;
/// assert!(validator.is_valid(&json!({"private_email": "ada@example.com"})));
/// assert!(!validator.is_valid(&json!({"private_email": "ada"})));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn json_schema_options() -> ValidationOptions<'static> {
    fn reads(field_type: &FieldType, text: &str) -> bool {
        matches!(field_type.coerce(Value::from(text)), Ok(Value::Text(_)))
    }
    let url = CustomFieldType::Url.field_type(false);
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        .should_ignore_unknown_formats(true)
        .with_pattern_options(
            PatternOptions::regex()
                .size_limit(pattern::SIZE_LIMIT)
                .dfa_size_limit(pattern::SIZE_LIMIT),
        )
        .with_format("crm-email", |text: &str| reads(&FieldType::Email, text))
        .with_format("crm-phone", |text: &str| reads(&FieldType::Phone, text))
        .with_format("crm-url", move |text: &str| reads(&url, text))
        .with_keyword("crmDecimal", decimal_keyword)
        .with_keyword("crmDocument", document_keyword)
        .offline()
}

/// Limits of a decimal number that is written as a text.
struct DecimalRange {
    min: Option<Decimal>,
    max: Option<Decimal>,
}

impl<'i> Keyword<'i> for DecimalRange {
    fn validate(&self, instance: &'i Json) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) {
            Ok(())
        } else {
            Err(ValidationError::custom("the number is out of range"))
        }
    }

    fn is_valid(&self, instance: &'i Json) -> bool {
        let Some(text) = instance.as_str() else {
            return true;
        };
        Decimal::from_str_exact(text).is_ok_and(|number| {
            self.min.is_none_or(|min| number >= min) && self.max.is_none_or(|max| number <= max)
        })
    }
}

fn decimal_keyword<'a>(
    _: &'a Map<String, Json>,
    value: &'a Json,
    _: Location,
) -> Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>> {
    let limit = |name: &str| {
        let text = value.get(name).and_then(Json::as_str)?;
        Decimal::from_str_exact(text).ok()
    };
    Ok(Box::new(DecimalRange {
        min: limit("min"),
        max: limit("max"),
    }))
}

/// How large a document in a field may be.
struct DocumentSize;

impl<'i> Keyword<'i> for DocumentSize {
    fn validate(&self, instance: &'i Json) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) {
            Ok(())
        } else {
            Err(ValidationError::custom("the document is too large"))
        }
    }

    fn is_valid(&self, instance: &'i Json) -> bool {
        document_fault(instance).is_none()
    }
}

fn document_keyword<'a>(
    _: &'a Map<String, Json>,
    _: &'a Json,
    _: Location,
) -> Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>> {
    Ok(Box::new(DocumentSize))
}

/// Compiles the JSON Schema that a field of JSON has.
///
/// A schema stands on its own: it refers only to parts of itself, by `#/..`, and never back to where
/// it came from, so that every document is judged in bounded time.
///
/// # Errors
/// What to do about it.
pub(crate) fn own(schema: &Json) -> Result<Validator, FieldError> {
    let refused = |message: &'static str| FieldError::new("", INVALID, message);
    if depth_exceeds(schema, DEPTH) {
        return Err(refused("use a schema of at most 32 levels"));
    }
    if schema.to_string().len() > BYTES {
        return Err(refused("use a schema of at most 16384 bytes"));
    }
    if !schema.is_object() {
        return Err(FieldError::new(
            "",
            codes::WRONG_TYPE,
            "must be a JSON object",
        ));
    }
    let mut parts = 0;
    follow(schema, schema, &mut Vec::new(), &mut parts).map_err(refused)?;
    json_schema_options()
        .build(schema)
        .map_err(|_| refused("use a JSON Schema of draft 2020-12 with patterns of ECMA 262"))
}

/// Counts the parts of a schema with its references followed.
fn follow<'s>(
    root: &'s Json,
    part: &'s Json,
    from: &mut Vec<&'s str>,
    parts: &mut usize,
) -> Result<(), &'static str> {
    *parts += 1;
    if *parts > PARTS {
        return Err("use a schema of at most 1000 parts, with its references followed");
    }
    match part {
        Json::Array(items) => items
            .iter()
            .try_for_each(|item| follow(root, item, from, parts)),
        Json::Object(members) => members.iter().try_for_each(|(name, member)| {
            let text = member.as_str();
            if FOREIGN.contains(&name.as_str()) && text.is_some() {
                return Err("leave out identifiers, anchors and dynamic references");
            }
            match (name.as_str(), text) {
                ("$schema", Some(dialect)) if dialect.trim_end_matches('#') != DIALECT => {
                    Err("use the dialect of draft 2020-12")
                }
                ("$ref", Some(reference)) => {
                    if from.contains(&reference) {
                        return Err("a part of the schema refers to itself");
                    }
                    let place = reference.strip_prefix('#').filter(|place| {
                        (place.is_empty() || place.starts_with('/')) && !place.contains('%')
                    });
                    let target = place.and_then(|place| root.pointer(place));
                    let Some(target) = target else {
                        return Err("refer only to parts of the schema itself, by `#/..`");
                    };
                    from.push(reference);
                    let followed = follow(root, target, from, parts);
                    from.pop();
                    followed
                }
                _ => follow(root, member, from, parts),
            }
        }),
        _ => Ok(()),
    }
}

/// One definition as JSON Schema: what a value of a new record has to be, in its stored form.
///
/// ```
/// use crm_core::value::{ApiName, TextValue};
/// use crm_custom_objects::{CustomField, CustomFieldType, IntegerLimits, json_schema};
///
/// let limits = IntegerLimits { min: Some(1), max: Some(5) };
/// let field = CustomField::new(
///     ApiName::parse("deal")?,
///     ApiName::parse("stars")?,
///     "Stars",
///     CustomFieldType::Number(limits),
/// );
/// let schema = json_schema(&field, &[]);
/// assert_eq!(schema["type"], "integer");
/// assert_eq!((schema["minimum"].as_i64(), schema["maximum"].as_i64()), (Some(1), Some(5)));
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[must_use]
pub fn json_schema(field: &crate::CustomField, options: &[CustomFieldOption]) -> Json {
    let mut schema = Map::new();
    schema.insert("title".into(), json!(field.label));
    if let Some(help) = field.help_text.as_ref().or(field.description.as_ref()) {
        schema.insert("description".into(), json!(help));
    }
    if let Some(default) = field
        .default_value
        .as_ref()
        .filter(|value| !value.is_null())
    {
        schema.insert("default".into(), default.clone());
    }
    let active = || {
        let active = options.iter().filter(|option| option.is_active);
        Json::Array(active.map(|option| json!(option.value)).collect())
    };
    let rules = match &field.field_type {
        CustomFieldType::Text(limits) => text(limits, TEXT_LENGTH, r"^[^\u0000\n\r]*$"),
        CustomFieldType::Textarea(limits) => text(limits, MULTILINE_LENGTH, r"^[^\u0000]*$"),
        CustomFieldType::Number(limits) => json!({
            "type": "integer",
            "minimum": limits.min.unwrap_or(i32::MIN),
            "maximum": limits.max.unwrap_or(i32::MAX),
        }),
        CustomFieldType::Decimal(_)
        | CustomFieldType::Currency { .. }
        | CustomFieldType::Percent(_) => decimal(&field.field_type),
        CustomFieldType::Boolean => json!({"type": "boolean"}),
        CustomFieldType::Date => json!({
            "type": "string",
            "format": "date",
            "pattern": "^(?:19[0-9]{2}|20[0-9]{2}|2100)-",
        }),
        CustomFieldType::Datetime => json!({
            "type": "string",
            "format": "date-time",
            "pattern": "^(?:19[0-9]{2}|20[0-9]{2}|2100)-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:\
                        [0-5][0-9]\\.[0-9]{6}Z$",
        }),
        CustomFieldType::Email => json!({"type": "string", "format": "crm-email"}),
        CustomFieldType::Phone => json!({"type": "string", "format": "crm-phone"}),
        CustomFieldType::Url => json!({"type": "string", "format": "crm-url"}),
        CustomFieldType::Picklist => json!({"enum": active()}),
        CustomFieldType::Multipicklist => json!({
            "type": "array",
            "items": {"enum": active()},
            "minItems": 1,
            "maxItems": MAX_SELECTIONS,
            "uniqueItems": true,
        }),
        CustomFieldType::Lookup { .. } | CustomFieldType::MasterDetail { .. } => json!({
            "type": "string",
            "pattern": "^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        }),
        // A caller writes none.
        CustomFieldType::Formula { .. } | CustomFieldType::RollUp(_) => {
            json!({"readOnly": true, "not": {}})
        }
        CustomFieldType::File => json!({
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 255}},
            "crmDocument": true,
        }),
        CustomFieldType::Json { schema } => {
            let mut rules = json!({"not": {"type": "null"}, "crmDocument": true});
            if let (Some(Json::Object(own)), Some(rules)) = (schema, rules.as_object_mut()) {
                let mut own = own.clone();
                own.remove("$schema");
                // References lead to parts of the schema itself, not of the one around it.
                let id = format!("urn:crm:custom-field:{}", field.document_key());
                own.insert("$id".into(), json!(id));
                rules.insert("allOf".into(), json!([own]));
            }
            rules
        }
    };
    if let Json::Object(rules) = rules {
        schema.extend(rules);
    }
    Json::Object(schema)
}

fn text(limits: &TextLimits, most: u32, characters: &str) -> Json {
    let mut rules = vec![json!({"pattern": characters})];
    if let Some(own) = &limits.pattern {
        rules.push(json!({"pattern": pattern::anchored(own)}));
    }
    json!({
        "type": "string",
        "minLength": limits.min_length.unwrap_or(0).max(1),
        "maxLength": limits.max_length.unwrap_or(most),
        "allOf": rules,
    })
}

fn decimal(field_type: &CustomFieldType) -> Json {
    let is_percent = matches!(field_type, CustomFieldType::Percent(_));
    let limits = field_type.decimal_limits();
    let least = limits.min.or(is_percent.then_some(Decimal::ZERO));
    let greatest = limits.max.or(is_percent.then_some(Decimal::ONE_HUNDRED));
    let mut range = Map::new();
    for (name, limit) in [("min", least), ("max", greatest)] {
        if let Some(limit) = limit {
            range.insert(name.into(), json!(limit.normalize().to_string()));
        }
    }
    let mut rules = json!({
        "type": "string",
        "pattern": "^-?[0-9]{1,13}(?:\\.[0-9]{1,2})?$",
    });
    if let Some(rules) = rules.as_object_mut().filter(|_| !range.is_empty()) {
        rules.insert("crmDecimal".into(), Json::Object(range));
    }
    rules
}

/// The document of a new record of an object. `dependent` has the places of fields with the fields
/// that control them.
pub(crate) fn of_object(
    definitions: &[&Definition],
    dependent: &[(usize, usize)],
    has_default: impl Fn(usize) -> bool,
) -> Json {
    if definitions.is_empty() {
        return json!({"$schema": DIALECT});
    }
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (index, definition) in definitions.iter().enumerate() {
        let field = &definition.field;
        if !field.is_active {
            continue;
        }
        let key = field.document_key();
        properties.insert(key.to_owned(), json_schema(field, &definition.options));
        let is_part = matches!(field.field_type, CustomFieldType::MasterDetail { .. });
        let is_computed = field.field_type.is_computed();
        if (field.is_required || is_part) && !is_computed && !has_default(index) {
            required.push(json!(key));
        }
    }
    let mut schema = json!({
        "$schema": DIALECT,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    let mut conditions = Vec::new();
    for (place, controlling) in dependent {
        if let (Some(definition), Some(controlling)) =
            (definitions.get(*place), definitions.get(*controlling))
            && definition.field.is_active
        {
            depend(definition, controlling, &mut conditions);
        }
    }
    if let Some(schema) = schema.as_object_mut().filter(|_| !conditions.is_empty()) {
        schema.insert("allOf".into(), Json::Array(conditions));
    }
    schema
}

/// Who chooses an option has one of its controlling values.
fn depend(definition: &Definition, controlling: &Definition, conditions: &mut Vec<Json>) {
    let key = definition.field.document_key();
    let under = controlling.field.document_key();
    for option in &definition.options {
        if option.controlling_values.is_empty() || !option.is_active {
            continue;
        }
        let chosen = match definition.field.field_type {
            CustomFieldType::Multipicklist => json!({
                "type": "array",
                "contains": {"const": option.value},
            }),
            _ => json!({"const": option.value}),
        };
        let values = &option.controlling_values;
        let allowed = match controlling.field.field_type {
            CustomFieldType::Multipicklist => json!({
                "type": "array",
                "contains": {"enum": values},
            }),
            CustomFieldType::Boolean => {
                let booleans = values.iter().filter_map(|value| value.parse::<bool>().ok());
                json!({"enum": booleans.collect::<Vec<_>>()})
            }
            _ => json!({"enum": values}),
        };
        conditions.push(json!({
            "if": {"required": [key], "properties": {key: chosen}},
            "then": {"required": [under], "properties": {under: allowed}},
        }));
    }
}

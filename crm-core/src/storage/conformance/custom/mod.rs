//! Custom fields: members of a document that a tenant gave a type. What is not of the type, or not
//! in its one stored form, is no value, in filters, orders and aggregates alike.

mod aggregates;
mod filters;
mod sorting;

pub(super) use aggregates::{aggregates_custom_groups, aggregates_custom_numbers};
pub(super) use filters::{
    filters_custom_fields, filters_custom_references, filters_custom_texts_and_lists,
};
pub(super) use sorting::{sorting_custom_fields, sorting_custom_fields_together};

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::fixtures::bare;
use super::harness::{Bench, at, day, dec, ids, row};
use super::objects::{Specimen, registry};
use super::{Failure, Harness, Outcome, ensure_eq};
use crate::error::Faults;
use crate::query::{Condition, Filter, Query};
use crate::schema::{
    CheckCustomFields, CustomFieldSchema, CustomFields, CustomWrite, Entity, FieldSchema,
    FieldType, ObjectRef, OnDelete, Registry, Row, StorageKind, Value,
};

/// Lets every document through.
#[derive(Debug)]
struct Anything;

impl CheckCustomFields for Anything {
    fn check(&self, _: &CustomWrite<'_>, _: &mut Faults) -> Option<Json> {
        None
    }
}

/// A custom field, and members with the values that they are.
struct Field {
    name: &'static str,
    key: &'static str,
    field_type: FieldType,
    members: Vec<(Json, Value)>,
}

impl Field {
    fn kind(&self) -> StorageKind {
        self.field_type.storage_kind()
    }

    fn is_sortable(&self) -> bool {
        !matches!(self.kind(), StorageKind::List | StorageKind::Json)
    }

    /// Each value once, without blank texts, which no filter can name.
    fn values(&self) -> Vec<Value> {
        let mut values: Vec<Value> = Vec::new();
        for (_, value) in &self.members {
            if !value.is_null() && !values.contains(value) && *value != Value::Text(String::new()) {
                values.push(value.clone());
            }
        }
        values
    }
}

const FOLDED: &str = "c_folded";

fn none(members: impl IntoIterator<Item = Json>) -> Vec<(Json, Value)> {
    let members = members.into_iter();
    members.map(|member| (member, Value::Null)).collect()
}

fn fields() -> Outcome<Vec<Field>> {
    let field = |name, key, field_type, mut members: Vec<(Json, Value)>, ill: Vec<Json>| {
        members.extend(none(ill));
        Field {
            name,
            key,
            field_type,
            members,
        }
    };
    let texts = |texts: &[&str]| -> Vec<(Json, Value)> {
        texts
            .iter()
            .map(|text| (json!(text), (*text).into()))
            .collect()
    };
    let numbers = |texts: &[&str]| -> Outcome<Vec<(Json, Value)>> {
        let pair = |text: &&str| Ok((json!(text), Value::Decimal(dec(text)?)));
        texts.iter().map(pair).collect()
    };
    let days = |texts: &[&str]| -> Outcome<Vec<(Json, Value)>> {
        let pair = |text: &&str| Ok((json!(text), day(text)?.into()));
        texts.iter().map(pair).collect()
    };
    let moments = |texts: &[&str]| -> Outcome<Vec<(Json, Value)>> {
        let pair = |text: &&str| Ok((json!(text), at(text)?.into()));
        texts.iter().map(pair).collect()
    };
    let id = "0190b1a0-1111-7000-8000-00000000000a";
    let mut decimals = numbers(&[
        "1.50",
        "1.5",
        "-3",
        "100.0001",
        "0.1",
        "-0.25",
        "12345678901234567890.5",
    ])?;
    decimals.push((json!(2), Value::Decimal(dec("2")?)));
    decimals.push((json!(2.5), Value::Decimal(dec("2.5")?)));
    let list = |entries: &[&str]| -> Value {
        let entries = entries.iter().map(|entry| (*entry).to_owned());
        Value::List(entries.collect())
    };
    Ok(vec![
        field(
            "c_text",
            "k'\"text",
            FieldType::text(100),
            texts(&[
                "North",
                "north",
                "Ærø",
                "",
                "it's 100%",
                "2026-01-31",
                "\u{10FFFF}z",
            ]),
            vec![
                json!(5),
                json!(true),
                Json::Null,
                json!(["a"]),
                json!({"a": 1}),
            ],
        ),
        field(
            FOLDED,
            "k_folded",
            FieldType::text(100),
            texts(&["Alpha", "ALPHA", "beta", "Ærø", "ærØ"]),
            vec![json!(1), Json::Null],
        ),
        field(
            "c_whole",
            "k_whole",
            FieldType::Integer {
                min: i64::MIN,
                max: i64::MAX,
            },
            [0, -5, 7, 8, i64::MAX, i64::MIN]
                .map(|number: i64| (json!(number), number.into()))
                .to_vec(),
            vec![
                json!(7.0),
                json!(7.5),
                json!("7"),
                json!(u64::MAX),
                json!(true),
                json!(1e300),
                json!([7]),
            ],
        ),
        field(
            "c_number",
            "k_number",
            FieldType::decimal(),
            decimals,
            vec![
                json!("1e3"),
                json!("x"),
                json!("1_0"),
                json!(""),
                json!("+1"),
                json!(" 1"),
                json!("NaN"),
                json!("Infinity"),
                json!("99999999999999999999999999999"),
                json!(1e300),
                json!(false),
            ],
        ),
        field(
            "c_share",
            "k_share",
            FieldType::Percent,
            numbers(&["12.5", "50", "100", "0"])?,
            vec![json!("12,5"), json!("%")],
        ),
        field(
            "c_flag",
            "k_flag",
            FieldType::Boolean,
            vec![(json!(true), true.into()), (json!(false), false.into())],
            vec![json!("true"), json!(0), json!("f")],
        ),
        field(
            "c_day",
            "k_day",
            FieldType::Date,
            days(&[
                "2026-01-31",
                "2024-02-29",
                "0001-01-01",
                "9999-12-31",
                "2000-02-29",
            ])?,
            vec![
                json!("2026-02-29"),
                json!("1900-02-29"),
                json!("2026-04-31"),
                json!("2026-1-5"),
                json!("0000-01-01"),
                json!("2026-01-31T00:00:00Z"),
                json!("2026-01-31\n"),
                json!("infinity"),
                json!("today"),
                json!(20_260_131),
            ],
        ),
        field(
            "c_moment",
            "k_moment",
            FieldType::Timestamp,
            moments(&[
                "2026-03-29T00:59:59.999999Z",
                "2026-03-28T23:30:00.000000Z",
                "1999-12-31T23:59:59.000001Z",
            ])?,
            vec![
                json!("2026-03-29T00:59:59Z"),
                json!("2026-03-29T24:00:00.000000Z"),
                json!("2026-03-29T00:59:60.000000Z"),
                json!("2026-02-30T00:00:00.000000Z"),
                json!("2026-03-29 00:59:59.999999Z"),
                json!("now"),
                json!(1_774_746_000),
            ],
        ),
        field(
            "c_id",
            "k_id",
            FieldType::Uuid,
            vec![(
                json!(id),
                Value::Uuid(Uuid::from_u128(0x0190_b1a0_1111_7000_8000_0000_0000_000a)),
            )],
            vec![
                json!(id.to_uppercase()),
                json!(id.replace('-', "")),
                json!(format!("{{{id}}}")),
                json!("x"),
            ],
        ),
        field(
            "c_list",
            "k_list",
            FieldType::List,
            vec![
                (json!(["a", "b"]), list(&["a", "b"])),
                (json!(["b", 1, null, ["a"]]), list(&["b"])),
                (json!([]), list(&[])),
                (json!(["a", "it's"]), list(&["a", "it's"])),
            ],
            vec![json!("a"), json!({"a": "a"}), Json::Null],
        ),
        field(
            "c_json",
            "k_json",
            FieldType::Json,
            vec![
                (json!({"a": 1}), Value::Json(json!({"a": 1}))),
                (json!(0), Value::Json(json!(0))),
                (json!("x"), Value::Json(json!("x"))),
            ],
            vec![Json::Null],
        ),
    ])
}

/// Specimens as a tenant knows them that added these fields, and one that leads to a specimen.
fn described(fields: &[Field]) -> (ObjectRef, Registry) {
    let reference = FieldType::Reference {
        object: "specimen".into(),
        on_delete: OnDelete::SetNull,
    };
    let reference = ("c_above", "k_above", reference);
    let fields = fields.iter();
    let all = fields
        .map(|field| (field.name, field.key, field.field_type.clone()))
        .chain([reference]);
    let schemas = all.enumerate().map(|(number, (name, key, field_type))| {
        let mut field = FieldSchema::new(name, field_type);
        field.ignore_case = name == FOLDED;
        CustomFieldSchema {
            id: Uuid::from_u128(number as u128 + 1),
            key: key.into(),
            former_names: vec![format!("was_{name}").into()],
            field,
            unique: false,
            options: Vec::new(),
            currency: None,
            active: true,
            search_complete: true,
        }
    });
    let custom = CustomFields::new(schemas.collect(), Arc::new(Anything));
    let object = Specimen::schema().with_custom_fields(custom);
    let registry = Registry::over(Arc::new(registry()), [object.clone()]);
    (object, registry)
}

struct World {
    bench: Bench,
    fields: Vec<Field>,
    object: ObjectRef,
    registry: Registry,
    /// In the order of their ids.
    rows: Vec<Row>,
}

/// Specimens with every member of every field, several with the same, and some without any.
async fn world(h: &Harness) -> Outcome<World> {
    let fields = fields()?;
    let (object, registry) = described(&fields);
    let mut rows = Vec::new();
    let most = fields.iter().map(|field| field.members.len()).max();
    for number in 0..most.unwrap_or_default() + 3 {
        let members = fields.iter().filter_map(|field| {
            let (member, _) = member_of(field, number)?;
            Some((field.key.to_owned(), member.clone()))
        });
        let document = Json::Object(members.collect::<Map<_, _>>());
        rows.push(row(Specimen {
            custom_fields: Some(document),
            ..bare("With members")
        }));
    }
    // No document, and documents that have no members.
    for custom_fields in [None, Some(json!([])), Some(json!("c_text"))] {
        rows.push(row(Specimen {
            custom_fields,
            ..bare("Without members")
        }));
    }
    let bench = h.bench();
    bench.insert(rows.clone()).await?;
    Ok(World {
        bench,
        fields,
        object,
        registry,
        rows,
    })
}

fn member_of(field: &Field, number: usize) -> Option<&(Json, Value)> {
    field.members.get(number.checked_rem(field.members.len())?)
}

impl World {
    /// The values of a field, of the rows in their order.
    fn values(&self, field: &Field) -> Vec<Value> {
        let has_members = |number: usize| number + 3 < self.rows.len();
        (0..self.rows.len())
            .map(|number| match member_of(field, number) {
                Some((_, value)) if has_members(number) => value.clone(),
                _ => Value::Null,
            })
            .collect()
    }

    fn place(&self, name: &str) -> Outcome<usize> {
        let place = self.object.custom_place(name);
        place.ok_or_else(|| Failure::new(format!("no custom field `{name}`")))
    }

    fn condition(&self, filter: &Filter) -> Outcome<Condition> {
        Ok(Condition::bind(filter, &self.object, &self.registry)?)
    }

    async fn found(&self, filter: &Filter) -> Outcome<Vec<Uuid>> {
        let query = Query::new(&self.object, self.condition(filter)?);
        Ok(ids(&self.bench.select(&query).await?))
    }

    /// Checks a filter against what the values of a field must fulfil.
    async fn expect(
        &self,
        field: &Field,
        filter: &Filter,
        fulfils: impl Fn(&Value) -> bool,
    ) -> Outcome {
        let values = self.values(field);
        let mut expected: Vec<Uuid> = self
            .rows
            .iter()
            .zip(&values)
            .filter(|(_, value)| fulfils(value))
            .map(|(row, _)| row.id())
            .collect();
        expected.sort_unstable();
        let found = self.found(filter).await?;
        ensure_eq!(
            found,
            expected,
            "the ids of the rows that fulfil {filter:?}"
        );
        Ok(())
    }
}

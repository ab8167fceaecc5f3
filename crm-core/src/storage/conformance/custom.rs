//! Custom fields: members of a document that a tenant gave a type. What is not of the type, or not
//! in its one stored form, is no value, in filters, orders and aggregates alike.

use std::cmp::Ordering;
use std::sync::Arc;

use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::aggregates::expect_groups;
use super::expect::expect_same_rows;
use super::fixtures::bare;
use super::harness::{Bench, at, compare, day, dec, deletion, ids, new_id, row, row_with};
use super::objects::{Specimen, registry};
use super::oracle::{compares, order, text_matches};
use super::{Failure, Harness, Outcome, ensure, ensure_eq};
use crate::error::Faults;
use crate::query::{
    AggregateQuery, CalendarUnit, Comparison, Condition, Filter, Grouping, ListMatch, Measure,
    Query, SortKey, TextMatch, TreePart,
};
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

pub(super) async fn filters_custom_fields(h: &Harness) -> Outcome {
    use Comparison::{Eq, Ge, Gt, Le, Lt, Ne};
    let world = world(h).await?;
    for field in &world.fields {
        for is_null in [true, false] {
            let filter = Filter::Null {
                field: format!("custom_fields.{}", field.name).into(),
                is_null,
            };
            let fulfils = |value: &Value| value.is_null() == is_null;
            world.expect(field, &filter, fulfils).await?;
        }
        if !field.is_sortable() {
            continue;
        }
        // The oracle knows a field that ignores case by the name of another.
        let known_as = if field.name == FOLDED { "code" } else { "" };
        let values = field.values();
        let ops: &[Comparison] = match field.kind() {
            StorageKind::Boolean => &[Eq, Ne],
            _ => &[Eq, Ne, Lt, Le, Gt, Ge],
        };
        for value in &values {
            for op in ops {
                let filter = compare(field.name, *op, value.clone());
                let fulfils = |own: &Value| compares(known_as, &own.as_ref(), *op, value);
                world.expect(field, &filter, fulfils).await?;
                let not = Filter::Not(Box::new(filter));
                world.expect(field, &not, |own| !fulfils(own)).await?;
            }
        }
        let any = Filter::In {
            field: format!("was_{}", field.name).into(),
            values: values.clone(),
        };
        let is_any = |own: &Value| {
            let same = |value: &Value| compares(known_as, &own.as_ref(), Eq, value);
            values.iter().any(same)
        };
        world.expect(field, &any, is_any).await?;
    }
    Ok(())
}

pub(super) async fn filters_custom_texts_and_lists(h: &Harness) -> Outcome {
    let world = world(h).await?;
    for field in &world.fields {
        match field.kind() {
            StorageKind::Text => {
                for needle in ["no", "NOR", "æ", "%", "it'S", "AL", "2026-01"] {
                    for op in [TextMatch::StartsWith, TextMatch::Contains] {
                        let filter = Filter::Text {
                            field: field.name.into(),
                            op,
                            text: needle.into(),
                        };
                        let fulfils = |own: &Value| text_matches(&own.as_ref(), op, needle);
                        world.expect(field, &filter, fulfils).await?;
                    }
                }
            }
            StorageKind::List => {
                for entries in [
                    &["a"] as &[&str],
                    &["a", "b"],
                    &["it's", "1"],
                    &["null"],
                    &[],
                ] {
                    for op in [ListMatch::Any, ListMatch::All] {
                        let values = entries.iter().map(|entry| (*entry).to_owned());
                        let filter = Filter::List {
                            field: field.name.into(),
                            op,
                            values: values.collect(),
                        };
                        let fulfils = |own: &Value| match own {
                            Value::List(own) => {
                                let has = |entry: &&str| own.iter().any(|own| own == entry);
                                match op {
                                    ListMatch::Any => entries.iter().any(has),
                                    ListMatch::All => entries.iter().all(has),
                                }
                            }
                            _ => false,
                        };
                        world.expect(field, &filter, fulfils).await?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) async fn filters_custom_references(h: &Harness) -> Outcome {
    let (object, registry) = described(&fields()?);
    let bench = h.bench();
    let (top, below, other) = (new_id(), new_id(), new_id());
    let specimen = |id: Uuid, name: &str, above: Json| {
        let custom_fields = Some(json!({ "k_above": above, "k_text": 1 }));
        row_with(
            id,
            Specimen {
                custom_fields,
                ..bare(name)
            },
        )
    };
    let last = new_id();
    let rows = [
        specimen(top, "top", Json::Null),
        specimen(below, "below", json!(top)),
        specimen(other, "other", json!(top.to_string().to_uppercase() + " ")),
        specimen(last, "last", json!(below)),
    ];
    bench.insert(rows.clone()).await?;
    let found = async |filter: Filter| -> Outcome<Vec<Uuid>> {
        let condition = Condition::bind(&filter, &object, &registry)?;
        let query = Query::new(&object, condition);
        Ok(ids(&bench.select(&query).await?))
    };
    let has = |filter: Filter| Filter::Has {
        field: "c_above".into(),
        filter: Box::new(filter),
    };
    let sorted = |mut ids: Vec<Uuid>| {
        ids.sort_unstable();
        ids
    };
    let named = |name: &str| compare("name", Comparison::Eq, name);
    ensure_eq!(
        found(has(named("top"))).await?,
        vec![below],
        "led to the top"
    );
    let twice = has(has(named("top")));
    ensure_eq!(
        found(twice.clone()).await?,
        vec![last],
        "led to the top in two steps"
    );
    let tree = |field: &'static str, part, of| Filter::InTree {
        field: field.into(),
        part,
        of,
        by: Some("c_above".into()),
    };
    let within = tree("c_above", TreePart::Within, top);
    ensure_eq!(
        found(within).await?,
        sorted(vec![below, last]),
        "led into the tree"
    );
    let within = tree("id", TreePart::Within, below);
    ensure_eq!(
        found(within).await?,
        sorted(vec![below, last]),
        "in the tree"
    );
    let path = tree("id", TreePart::PathTo, last);
    ensure_eq!(
        found(path).await?,
        sorted(vec![top, below, last]),
        "on the path from the top"
    );
    // Nothing leads to, or over, a deleted record.
    let below = bench.row(&object, below).await?;
    bench.apply(vec![deletion(&below)]).await?;
    ensure!(found(twice).await?.is_empty(), "led over a deleted record");
    let path = tree("id", TreePart::PathTo, last);
    ensure_eq!(
        found(path).await?,
        vec![last],
        "the path ends at a deleted record"
    );
    Ok(())
}

/// Sorts the rows by the values of a field, as far as `descending` says; ties by id.
fn sorted(rows: &[Row], values: &[Value], descending: bool) -> Vec<Row> {
    let mut both: Vec<(&Row, &Value)> = rows.iter().zip(values).collect();
    both.sort_by(|(a, own), (b, other)| {
        let by_value = order(&own.as_ref(), &other.as_ref());
        let order = by_value.then(a.id().cmp(&b.id()));
        if descending { order.reverse() } else { order }
    });
    both.into_iter().map(|(row, _)| row.clone()).collect()
}

pub(super) async fn sorting_custom_fields(h: &Harness) -> Outcome {
    let world = world(h).await?;
    for field in world.fields.iter().filter(|field| field.is_sortable()) {
        let index = world.place(field.name)?;
        let values = world.values(field);
        for descending in [false, true] {
            let expected = sorted(&world.rows, &values, descending);
            let sort = vec![SortKey { index, descending }];
            for size in [1, 3, 100] {
                let mut query = Query::new(&world.object, Condition::all())
                    .sort(sort.clone())
                    .limit(size);
                let mut walked: Vec<Row> = Vec::new();
                loop {
                    let page = world.bench.select(&query).await?;
                    let ended = page.len() < size;
                    walked.extend(page);
                    ensure!(walked.len() < 1_000, "expected the walk to end");
                    let Some(last) = walked.last().filter(|_| !ended) else {
                        break;
                    };
                    let position = query.sort.iter();
                    let position = position.map(|key| {
                        let value = |value: crate::schema::ValueRef<'_>| value.into_owned();
                        world.object.read(&**last, key.index, value)
                    });
                    query.after = Some(position.collect());
                }
                let what = format!("a walk by `{}` with pages of {size}", field.name);
                expect_same_rows(&walked, &expected, &what)?;
            }
        }
    }
    Ok(())
}

pub(super) async fn sorting_custom_fields_together(h: &Harness) -> Outcome {
    let world = world(h).await?;
    let by_name = |name: &str| -> Outcome<(usize, Vec<Value>)> {
        let field = world.fields.iter().find(|field| field.name == name);
        let field = field.ok_or_else(|| Failure::new("a field"))?;
        Ok((world.place(name)?, world.values(field)))
    };
    let (flag, flags) = by_name("c_flag")?;
    let (day, days) = by_name("c_day")?;
    for directions in [(false, false), (true, true), (true, false), (false, true)] {
        let mut expected: Vec<usize> = (0..world.rows.len()).collect();
        let value = |values: &[Value], number: usize| -> Value {
            values.get(number).cloned().unwrap_or_default()
        };
        let id = |number: usize| world.rows.get(number).map(Row::as_ref).map(|row| row.id());
        let turned = |order: Ordering, turn: bool| if turn { order.reverse() } else { order };
        expected.sort_by(|a, b| {
            let by_flag = order(&value(&flags, *a).as_ref(), &value(&flags, *b).as_ref());
            let by_day = order(&value(&days, *a).as_ref(), &value(&days, *b).as_ref());
            turned(by_flag, directions.0)
                .then(turned(by_day, directions.1))
                .then(turned(id(*a).cmp(&id(*b)), directions.1))
        });
        let expected: Vec<Option<Uuid>> = expected.into_iter().map(id).collect();
        let sort = vec![
            SortKey {
                index: flag,
                descending: directions.0,
            },
            SortKey {
                index: day,
                descending: directions.1,
            },
        ];
        let mut query = Query::new(&world.object, Condition::all()).sort(sort);
        query.limit = 2;
        let mut walked = Vec::new();
        loop {
            let page = world.bench.select(&query).await?;
            walked.extend(ids(&page).into_iter().map(Some));
            let Some(last) = page.last().filter(|_| page.len() == 2) else {
                break;
            };
            ensure!(walked.len() < 1_000, "expected the walk to end");
            let position = query.sort.iter();
            let position = position.map(|key| {
                let value = |value: crate::schema::ValueRef<'_>| value.into_owned();
                world.object.read(&**last, key.index, value)
            });
            query.after = Some(position.collect());
        }
        ensure_eq!(
            walked,
            expected,
            "a walk by two custom fields, {directions:?}"
        );
    }
    Ok(())
}

/// The groups of rows by a key: how many, and what else is computed over their numbers.
fn grouped(keys: Vec<Value>) -> Vec<(Vec<Value>, Vec<Value>)> {
    let mut keys = keys;
    keys.sort_by(|a, b| order(&a.as_ref(), &b.as_ref()));
    let mut groups: Vec<(Value, i64)> = Vec::new();
    for key in keys {
        match groups.last_mut() {
            Some((last, count)) if order(&last.as_ref(), &key.as_ref()) == Ordering::Equal => {
                *count += 1;
            }
            _ => groups.push((key, 1)),
        }
    }
    let groups = groups.into_iter();
    groups
        .map(|(key, count)| (vec![key], vec![Value::Integer(count)]))
        .collect()
}

pub(super) async fn aggregates_custom_groups(h: &Harness) -> Outcome {
    let world = world(h).await?;
    let by = |grouping| {
        let mut query = AggregateQuery::count(&world.object, Condition::all());
        query.groups = vec![grouping];
        query
    };
    for field in &world.fields {
        let index = world.place(field.name)?;
        let values = world.values(field);
        if field.is_sortable() {
            let what = format!("groups by `{}`", field.name);
            let query = by(Grouping::Field(index));
            expect_groups(&world.bench, &query, grouped(values.clone()), &what).await?;
        }
        if field.kind() == StorageKind::List {
            let entries = values.iter().flat_map(|value| match value {
                Value::List(entries) => entries.clone(),
                _ => Vec::new(),
            });
            let expected = grouped(entries.map(Value::Text).collect());
            let query = by(Grouping::Entry(index));
            expect_groups(&world.bench, &query, expected, "groups by entries").await?;
        }
        // The years of the far past and future are told differently by calendars of zones.
        let zones = match field.kind() {
            StorageKind::Date | StorageKind::Timestamp => ["UTC", "Europe/Prague"],
            _ => continue,
        };
        for zone in zones {
            let time_zone: crate::value::TimeZone = zone.parse()?;
            for unit in [CalendarUnit::Day, CalendarUnit::Month, CalendarUnit::Year] {
                let days = values.iter().map(|value| match value {
                    Value::Date(day) => Value::Date(unit.start_of(*day)),
                    Value::Timestamp(at) => {
                        let local = at.with_timezone(&time_zone.tz());
                        Value::Date(unit.start_of(local.date_naive()))
                    }
                    _ => Value::Null,
                });
                let expected = grouped(days.collect());
                let query = by(Grouping::Calendar {
                    index,
                    unit,
                    time_zone,
                });
                let what = format!("groups by the {unit:?} of `{}` in {zone}", field.name);
                expect_groups(&world.bench, &query, expected, &what).await?;
            }
        }
    }
    Ok(())
}

pub(super) async fn aggregates_custom_numbers(h: &Harness) -> Outcome {
    let world = world(h).await?;
    let decimals = |values: &[Value]| -> Vec<Option<Decimal>> {
        values
            .iter()
            .map(|value| value.as_ref().as_decimal())
            .collect()
    };
    let mut by_name = Vec::new();
    for field in world.fields.iter().filter(|field| field.is_sortable()) {
        let index = world.place(field.name)?;
        let values = world.values(field);
        let mut present: Vec<&Value> = values.iter().filter(|value| !value.is_null()).collect();
        present.sort_by(|a, b| order(&a.as_ref(), &b.as_ref()));
        let mut measures = vec![Measure::Min(index), Measure::Max(index)];
        let end = |value: Option<&&Value>| value.map_or(Value::Null, |value| (*value).clone());
        let mut expected = vec![end(present.first()), end(present.last())];
        if matches!(field.kind(), StorageKind::Integer | StorageKind::Decimal) {
            let numbers: Vec<Decimal> = decimals(&values).into_iter().flatten().collect();
            let sum: Decimal = numbers.iter().sum();
            let average = sum.checked_div(Decimal::from(numbers.len()));
            let average = average.unwrap_or_default().round_dp(6);
            measures.extend([Measure::Sum(index), Measure::Average(index)]);
            expected.extend([Value::Decimal(sum), Value::Decimal(average)]);
        }
        let mut query = AggregateQuery::count(&world.object, Condition::all());
        query.measures = measures;
        let what = format!("what is computed over `{}`", field.name);
        expect_groups(&world.bench, &query, vec![(Vec::new(), expected)], &what).await?;
        by_name.push((field.name, decimals(&values)));
    }
    let of = |name: &str| -> Vec<Option<Decimal>> {
        let found = by_name.iter().find(|(own, _)| *own == name);
        found.map(|(_, values)| values.clone()).unwrap_or_default()
    };
    let weighted: Decimal = of("c_number")
        .into_iter()
        .zip(of("c_share"))
        .filter_map(|(amount, share)| Some(amount? * share? / Decimal::ONE_HUNDRED))
        .sum();
    let mut query = AggregateQuery::count(&world.object, Condition::all());
    query.measures = vec![Measure::WeightedSum {
        amount: world.place("c_number")?,
        percent: world.place("c_share")?,
    }];
    let expected = vec![(Vec::new(), vec![Value::Decimal(weighted)])];
    expect_groups(&world.bench, &query, expected, "the weighted sum").await
}

//! Whatever index a query is answered with, the answer is that of a scan.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expects"
)]

mod common;

use std::sync::Arc;

use common::{
    Dice, commit, day, insert, integer, meta, moment, reference, row, stamp, tenant, text,
};
use crm_core::error::Faults;
use crm_core::query::{
    AggregateQuery, Comparison, Condition, FieldAt, Grouping, ListMatch, Measure, NoRelated, Query,
    RelatedBy, SortKey, TextMatch, fold_case,
};
use crm_core::schema::{
    CheckCustomFields, CustomFieldSchema, CustomFields, CustomWrite, FieldSchema, FieldType,
    ObjectRef, ObjectSchema, Row, StorageKind, Value, system,
};
use crm_core::storage::{Storage, scan, scan_aggregate};
use crm_storage_memory::MemoryStorage;
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::json;
use uuid::Uuid;

/// The names of fields that an index may have.
const INDEXABLE: [&str; 13] = [
    "name",
    "email",
    "count",
    "amount",
    "flag",
    "day",
    "at",
    "owner_id",
    "group_id",
    "created_at",
    "archived_at",
    "tags",
    "extra",
];

fn group() -> ObjectRef {
    ObjectSchema::builder("group", "groups")
        .field(text("name"))
        .field(integer("size"))
        .build()
}

/// Leads to things, by a reference and by a member of a document.
fn note(dice: &mut Dice) -> ObjectRef {
    let mut builder = ObjectSchema::builder("note", "notes")
        .field(reference("thing_id", "thing"))
        .field(text("label"))
        .field(FieldSchema::new("extra", FieldType::Json));
    for fields in [
        &["label"][..],
        &["thing_id", "label"],
        &["label", "thing_id"],
    ] {
        if dice.one_in(3) {
            builder = builder.index(fields);
        }
    }
    builder.build()
}

/// A note on one of the things, or on none.
fn random_note(dice: &mut Dice, note: &ObjectRef, things: &[Row], id: u128) -> Row {
    let pick = |dice: &mut Dice| match things {
        [] => None,
        _ if dice.one_in(5) => None,
        // Many on the first ones.
        _ => {
            let most = 1 + dice.below(things.len());
            Some(things[dice.below(most)].id())
        }
    };
    let thing_id = pick(dice).map_or(Value::Null, Value::Uuid);
    let member = pick(dice).map(|id| {
        if dice.one_in(5) {
            id.simple().to_string()
        } else {
            id.to_string()
        }
    });
    let mut own = meta(id);
    own.archived_at = dice.one_in(4).then(|| moment(0));
    own.deleted_at = dice.one_in(4).then(|| moment(0));
    let label = dice.of(&["n1", "n2", "n3"]);
    let values = vec![thing_id, label.into(), json!({"thing": member}).into()];
    note.build(own, values).unwrap()
}

fn thing(dice: &mut Dice) -> ObjectRef {
    let mut builder = ObjectSchema::builder("thing", "things")
        .field(text("name"))
        .field(FieldSchema::new("email", FieldType::Email))
        .field(integer("count"))
        .field(FieldSchema::new("amount", FieldType::decimal()))
        .field(FieldSchema::new("flag", FieldType::Boolean))
        .field(FieldSchema::new("day", FieldType::Date))
        .field(FieldSchema::new("at", FieldType::Timestamp))
        .field(FieldSchema::new("owner_id", FieldType::Uuid))
        .field(reference("group_id", "group"))
        .field(FieldSchema::new("tags", FieldType::List))
        .field(FieldSchema::new("extra", FieldType::Json))
        .field(FieldSchema::new("custom_fields", FieldType::Json));
    for _ in 0..dice.below(6) {
        let fields: Vec<&'static str> = (0..=dice.below(3))
            .map(|_| INDEXABLE[dice.below(INDEXABLE.len())])
            .collect();
        builder = builder.index(&fields);
    }
    if dice.one_in(2) {
        builder = builder.unique(&["email"], true);
    }
    if dice.one_in(3) {
        builder = builder.unique_key(&["name", "count"], dice.one_in(2), false, None);
    }
    if dice.one_in(3) {
        builder = builder.unique_key(&["owner_id"], false, true, Some("flag"));
    }
    builder.build()
}

#[derive(Debug)]
struct Anything;

impl CheckCustomFields for Anything {
    fn check(&self, _: &CustomWrite<'_>, _: &mut Faults) -> Option<serde_json::Value> {
        None
    }
}

/// The same with the fields of a tenant: one of every kind.
fn described(thing: &ObjectRef) -> ObjectRef {
    let types = [
        FieldType::text(10),
        FieldType::Integer {
            min: i64::MIN,
            max: i64::MAX,
        },
        FieldType::decimal(),
        FieldType::Boolean,
        FieldType::Date,
        FieldType::Timestamp,
        FieldType::Uuid,
        FieldType::List,
    ];
    let fields = types.into_iter().enumerate();
    let fields = fields.map(|(number, field_type)| CustomFieldSchema {
        id: Uuid::from_u128(number as u128 + 1),
        key: format!("k{number}").into(),
        former_names: Vec::new(),
        field: FieldSchema::new(format!("c{number}"), field_type),
        unique: false,
        options: Vec::new(),
        currency: None,
        active: true,
        search_complete: true,
    });
    thing.with_custom_fields(CustomFields::new(fields.collect(), Arc::new(Anything)))
}

/// A document with members of the right kinds, and some of others.
fn custom_members(dice: &mut Dice) -> Value {
    let described = described(&thing(&mut Dice::new(0)));
    let count = described.custom_fields().len();
    let members = (0..count).filter_map(|number| {
        let kind = if dice.one_in(6) {
            dice.below(count)
        } else {
            number
        };
        let place = described.fields().len() + kind;
        let value = (!dice.one_in(6)).then(|| value(dice, &described, place))?;
        Some((format!("k{number}"), value.to_json()))
    });
    Value::Json(serde_json::Value::Object(members.collect()))
}

/// A value of the kind that the field has, out of a few, so that rows and conditions often agree.
fn value(dice: &mut Dice, object: &ObjectRef, field: usize) -> Value {
    let schema = object.placed(field).unwrap();
    if Some(field) == object.custom_document() {
        return custom_members(dice);
    }
    if schema.field_type == FieldType::Email {
        return dice
            .of(&[
                "ann@x.org",
                "Ann@X.org",
                "bob@x.org",
                "ÉVA@x.org",
                "éva@x.org",
            ])
            .into();
    }
    if field == system::CREATED_BY || field == system::UPDATED_BY {
        return dice.of(&["system", "user"]).into();
    }
    match schema.storage_kind() {
        StorageKind::Text => dice
            .of(&[
                "a",
                "A",
                "ab",
                "b",
                "é",
                "É",
                "\u{1}",
                "\0",
                "a\0",
                "z",
                "\u{10FFFF}",
                "ß",
            ])
            .into(),
        StorageKind::Integer => {
            [0, 1, 2, -1, -2, 255, 256, i64::MAX, i64::MIN][dice.below(9)].into()
        }
        StorageKind::Decimal => {
            let text = dice.of(&[
                "1",
                "1.0",
                "1.0000001",
                "1.0000002",
                "-1.0000001",
                "0",
                "-0.5",
                "0.5",
                "0.1234567890123456789012345678",
                "79228162514264337593543950335",
                "-79228162514264337593543950335",
                "100",
                "99.99",
            ]);
            text.parse::<Decimal>().unwrap().into()
        }
        StorageKind::Boolean => dice.one_in(2).into(),
        StorageKind::Date => day(1 + dice.below(4) as u32).into(),
        StorageKind::Timestamp => moment(dice.below(4) as i64 - 1).into(),
        StorageKind::Uuid => Uuid::from_u128(1 + dice.below(4) as u128).into(),
        StorageKind::List => {
            let all = ["x", "y", "z"];
            Value::List(
                all.iter()
                    .take(dice.below(4))
                    .map(ToString::to_string)
                    .collect(),
            )
        }
        StorageKind::Json => [
            json!({"k": 1}),
            json!({"k": "a"}),
            json!({"k": null}),
            json!({}),
        ][dice.below(4)]
        .clone()
        .into(),
    }
}

fn value_or_null(dice: &mut Dice, object: &ObjectRef, field: usize) -> Value {
    if dice.one_in(4) {
        Value::Null
    } else {
        value(dice, object, field)
    }
}

fn random_row(dice: &mut Dice, object: &ObjectRef, id: u128) -> Row {
    let mut own = meta(id);
    own.created = stamp(dice.below(5) as i64);
    own.updated = own.created;
    own.archived_at = dice.one_in(5).then(|| moment(dice.below(3) as i64));
    own.deleted_at = dice.one_in(5).then(|| moment(dice.below(3) as i64));
    let values = (crm_core::schema::SYSTEM_FIELDS..object.fields().len())
        .map(|field| value_or_null(dice, object, field))
        .collect();
    object.build(own, values).unwrap()
}

fn random_field(dice: &mut Dice, object: &ObjectRef) -> usize {
    // The fields with indexes more often than the others.
    let indexes = object.indexes();
    if !indexes.is_empty() && !dice.one_in(3) {
        let fields = &indexes[dice.below(indexes.len())].fields;
        return fields[dice.below(fields.len())];
    }
    dice.below(object.fields().len() + object.custom_fields().len())
}

const ORDERED: [Comparison; 6] = [
    Comparison::Eq,
    Comparison::Ne,
    Comparison::Lt,
    Comparison::Le,
    Comparison::Gt,
    Comparison::Ge,
];

/// What conditions are made of.
struct World<'a> {
    object: &'a ObjectRef,
    group: &'a ObjectRef,
    note: &'a ObjectRef,
    rows: &'a [Row],
}

/// A condition over the notes on a thing.
fn noted(dice: &mut Dice, world: &World<'_>) -> Condition {
    let note = world.note;
    let by = |name| FieldAt::new(note.field_index(name).unwrap());
    let field = if dice.one_in(4) {
        FieldAt {
            member: Some("thing".into()),
            ..by("extra")
        }
    } else {
        by("thing_id")
    };
    let label =
        |dice: &mut Dice| Condition::equals(by("label").index, dice.of(&["n1", "n2"]).into());
    let inner = match dice.below(5) {
        0 => Condition::all(),
        1 => Condition::Not(Box::new(label(dice))),
        2 => label(dice).and(Condition::not_archived()),
        3 => Condition::Has {
            field: by("thing_id"),
            object: world.object.clone(),
            condition: Box::new(condition(dice, world, 0)),
        },
        _ => label(dice),
    };
    Condition::Any {
        object: note.clone(),
        field,
        condition: Box::new(inner),
    }
}

fn leaf(dice: &mut Dice, world: &World<'_>) -> Condition {
    let World {
        object,
        group,
        note: _,
        rows,
    } = *world;
    if dice.one_in(10) {
        return noted(dice, world);
    }
    if dice.one_in(20) && !rows.is_empty() {
        let id = |dice: &mut Dice| Value::Uuid(rows[dice.below(rows.len())].id());
        let values = vec![id(dice), id(dice), Value::Uuid(Uuid::nil()), id(dice)];
        let field = FieldAt::new(system::ID);
        return match dice.below(3) {
            0 => Condition::In { field, values },
            1 => Condition::Compare {
                field,
                op: ORDERED[dice.below(6)],
                value: id(dice),
            },
            _ => Condition::equals(system::ID, id(dice)),
        };
    }
    let field = random_field(dice, object);
    let schema = object.placed(field).unwrap();
    let folds = schema.ignore_case && !dice.one_in(4);
    let at = FieldAt {
        ignore_case: folds,
        ..FieldAt::at_place(object, field).unwrap()
    };
    let operand = |dice: &mut Dice| match value(dice, object, field) {
        Value::Text(text) if folds => Value::Text(fold_case(&text)),
        // Numbers of either kind compare with each other.
        Value::Integer(number) if dice.one_in(5) => Value::Decimal(number.into()),
        value => value,
    };
    match dice.below(12) {
        0..4 if schema.is_sortable() => Condition::Compare {
            field: at,
            op: Comparison::Eq,
            value: operand(dice),
        },
        4 | 5 if schema.is_sortable() => {
            let op = ORDERED[dice.below(6)];
            Condition::Compare {
                field: at,
                op,
                value: operand(dice),
            }
        }
        6 if schema.is_sortable() => Condition::In {
            field: at,
            values: (0..dice.below(4)).map(|_| operand(dice)).collect(),
        },
        7 => Condition::Null {
            field: at,
            is_null: dice.one_in(2),
        },
        8 => Condition::Has {
            field: FieldAt::new(object.field_index("group_id").unwrap()),
            object: group.clone(),
            condition: Box::new(Condition::equals(
                group.field_index("name").unwrap(),
                dice.of(&["g1", "g2"]).into(),
            )),
        },
        9 => Condition::List {
            field: FieldAt::new(object.field_index("tags").unwrap()),
            op: if dice.one_in(2) {
                ListMatch::Any
            } else {
                ListMatch::All
            },
            values: vec!["x".to_owned(), "y".to_owned()],
        },
        10 => Condition::Compare {
            field: FieldAt {
                member: Some("k".into()),
                ..FieldAt::new(object.field_index("extra").unwrap())
            },
            op: ORDERED[dice.below(6)],
            value: [Value::Integer(1), Value::from("a")][dice.below(2)].clone(),
        },
        _ => Condition::Text {
            field: FieldAt::new(object.field_index("name").unwrap()),
            op: if dice.one_in(2) {
                TextMatch::StartsWith
            } else {
                TextMatch::Contains
            },
            folded: "a".to_owned(),
        },
    }
}

fn condition(dice: &mut Dice, world: &World<'_>, depth: usize) -> Condition {
    if depth > 0 {
        let some = |dice: &mut Dice| -> Vec<Condition> {
            (0..dice.below(4))
                .map(|_| condition(dice, world, depth - 1))
                .collect()
        };
        match dice.below(8) {
            0..3 => return Condition::And(some(dice)),
            3 => return Condition::Or(some(dice)),
            4 => return Condition::Not(Box::new(condition(dice, world, depth - 1))),
            _ => {}
        }
    }
    leaf(dice, world)
}

/// A query as sessions make them: visibility first, then what the caller asks for.
fn query(dice: &mut Dice, world: &World<'_>) -> Query {
    let World { object, rows, .. } = *world;
    let mut all = Vec::new();
    if !dice.one_in(3) {
        all.push(Condition::not_deleted());
    }
    if dice.one_in(3) {
        all.push(Condition::not_archived());
    }
    for _ in 0..dice.below(4) {
        all.push(condition(dice, world, 2));
    }
    let mut sort = Vec::new();
    for _ in 0..dice.below(4) {
        let index = random_field(dice, object);
        if object.placed(index).unwrap().is_sortable() {
            sort.push(SortKey {
                index,
                descending: dice.one_in(2),
            });
            if index == system::ID {
                break;
            }
        }
    }
    if dice.one_in(2) {
        let descending = dice.one_in(2);
        for key in &mut sort {
            key.descending = descending;
        }
    }
    let limit = [0, 1, 2, 3, 5, 10, usize::MAX][dice.below(7)];
    let mut query = Query::new(object, Condition::And(all))
        .sort(sort)
        .limit(limit);
    if !rows.is_empty() && dice.one_in(2) {
        // Behind a row, or behind where one might stand.
        let row = &rows[dice.below(rows.len())];
        let position = query.sort.iter().map(|key| {
            let stays = key.index == system::ID || !dice.one_in(5);
            if stays {
                object.read(&**row, key.index, |value| value.into_owned())
            } else {
                value_or_null(dice, object, key.index)
            }
        });
        query.after = Some(position.collect());
    }
    query
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn answers_are_those_of_a_scan(
        schema: u64,
        seeds in prop::collection::vec(any::<u64>(), 0..80),
        queries in prop::collection::vec(any::<u64>(), 20),
    ) {
        let storage = MemoryStorage::new();
        let scope = tenant(1);
        let (group, thing) = (group(), thing(&mut Dice::new(schema)));
        let note = note(&mut Dice::new(schema));
        let groups: Vec<Row> = (1..=4)
            .map(|id: u128| {
                let name = if id < 3 { "g1" } else { "g2" };
                let group = row(&group, id, vec![name.into(), Value::Null]);
                if id == 2 {
                    // A deleted group, to which rows may still lead.
                    let mut gone = group.meta();
                    gone.deleted_at = Some(moment(1));
                    return group.with_meta(gone);
                }
                group
            })
            .collect();
        commit(&storage, &scope, groups.iter().map(insert).collect()).unwrap();
        let mut rows: Vec<Row> = Vec::new();
        for (number, seed) in seeds.iter().enumerate() {
            let mut dice = Dice::new(*seed);
            // Ids in no order.
            let id = (u128::from(dice.next()) << 64) | number as u128;
            let row = random_row(&mut dice, &thing, id);
            // Some of them are refused: the same unique values, a deleted group.
            if commit(&storage, &scope, vec![insert(&row)]).is_ok() {
                rows.push(row);
            }
        }
        let mut notes: Vec<Row> = Vec::new();
        for (number, seed) in seeds.iter().enumerate() {
            let mut dice = Dice::new(seed.wrapping_mul(31));
            let row = random_note(&mut dice, &note, &rows, 1_000 + number as u128);
            // A note on a deleted thing is refused.
            if commit(&storage, &scope, vec![insert(&row)]).is_ok() {
                notes.push(row);
            }
        }
        let all = |object: &ObjectRef| match object.name() {
            "group" => groups.clone(),
            "note" => notes.clone(),
            _ => rows.clone(),
        };
        let find = |object: &ObjectRef, id: Uuid| all(object).into_iter().find(|row| row.id() == id);
        let related = RelatedBy::new(find, all);
        let described = described(&thing);
        let world = World {
            object: &described,
            group: &group,
            note: &note,
            rows: &rows,
        };
        for seed in queries {
            let query = query(&mut Dice::new(seed), &world);
            let found = pollster::block_on(storage.select(&scope, &query)).unwrap();
            let wanted = scan(&query, rows.clone(), &related);
            let ids = |rows: &[Row]| rows.iter().map(|row| row.id()).collect::<Vec<_>>();
            prop_assert_eq!(ids(&found), ids(&wanted), "{:?} {:?}", thing.indexes(), query);

            let mut aggregate = AggregateQuery::count(&described, query.condition);
            let custom = described.fields().len();
            aggregate.measures.push(Measure::Max(custom + 4));
            aggregate.groups.push(Grouping::Field(custom + seed as usize % 7));
            aggregate.measures.push(Measure::Max(thing.field_index("amount").unwrap()));
            aggregate.groups.push(Grouping::Field(thing.field_index("owner_id").unwrap()));
            let groups = pollster::block_on(storage.aggregate(&scope, &aggregate)).unwrap();
            prop_assert_eq!(groups, scan_aggregate(&aggregate, rows.clone(), &related).unwrap());
        }
    }
}

/// A keyset walk sees every row once, whatever the page size.
#[test]
fn pages_join_without_gaps_or_doubles() {
    let storage = MemoryStorage::new();
    let scope = tenant(1);
    let task = ObjectSchema::builder("task", "tasks")
        .field(FieldSchema::new("owner_id", FieldType::Uuid))
        .field(integer("rank"))
        .index(&["owner_id", "rank"])
        .build();
    let owner = Uuid::from_u128(7);
    let rows: Vec<Row> = (0..500_u128)
        .map(|id| {
            let rank = if id % 7 == 0 {
                Value::Null
            } else {
                Value::Integer((id % 5) as i64)
            };
            let owner = if id % 3 == 0 {
                Uuid::from_u128(8)
            } else {
                owner
            };
            row(&task, id, vec![owner.into(), rank])
        })
        .collect();
    commit(&storage, &scope, rows.iter().map(insert).collect()).unwrap();
    let owner_at = task.field_index("owner_id").unwrap();
    let rank_at = task.field_index("rank").unwrap();
    for descending in [false, true] {
        let all =
            Query::new(&task, Condition::equals(owner_at, owner.into())).sort(vec![SortKey {
                index: rank_at,
                descending,
            }]);
        let wanted = scan(&all, rows.clone(), &NoRelated);
        let mut walked = Vec::new();
        let mut page = all.clone().limit(17);
        loop {
            let found = pollster::block_on(storage.select(&scope, &page)).unwrap();
            let Some(last) = found.last() else { break };
            page.after = Some(
                page.sort
                    .iter()
                    .map(|key| last.value(key.index).into_owned())
                    .collect(),
            );
            walked.extend(found);
        }
        assert_eq!(walked.len(), wanted.len());
        assert!(walked.iter().zip(&wanted).all(|(a, b)| a.id() == b.id()));
    }
}

//! Conditions as text: what is bound, and what stands beside each table.

use chrono::NaiveDate;
use crm_core::Id;
use crm_core::query::AggregateQuery;
use crm_core::query::{CalendarUnit, CustomMember, Grouping, Measure, Query, SortKey};
use crm_core::schema::Entity as _;
use crm_core::storage::Scope;
use crm_core::storage::conformance::{Laboratory, Part, Specimen};
use proptest::prelude::*;
use uuid::Uuid;

use super::super::{aggregate, select};
use super::*;

const HOSTILE: &str = "h\u{F6}stile";

fn tenant() -> Scope {
    Scope::Tenant(Id::new(Uuid::from_u128(42)))
}

fn text_of(object: &ObjectRef, condition: Condition) -> String {
    let tables = Tables::new("crm");
    let table = tables.of(object);
    let mut statement = Statement::scoped(&tenant());
    write(&mut statement, &tables, &table, "c", &condition)
}

fn place(name: &str) -> usize {
    Specimen::schema().field_index(name).unwrap()
}

fn compare(name: &str, op: Comparison, value: impl Into<Value>) -> String {
    let mut field = FieldAt::new(place(name));
    field.ignore_case = Specimen::schema().fields()[field.index].ignore_case;
    let value = value.into();
    text_of(Specimen::schema(), Condition::Compare { field, op, value })
}

#[test]
fn comparisons_have_two_truth_values() {
    assert_eq!(
        compare("origin", Comparison::Ne, "x"),
        "c.\"origin\" IS DISTINCT FROM $2"
    );
    assert_eq!(compare("origin", Comparison::Eq, "x"), "c.\"origin\" = $2");
    let never = Condition::Not(Box::new(Condition::all()));
    assert_eq!(text_of(Specimen::schema(), never), "(true) IS NOT TRUE");
    assert_eq!(
        text_of(Specimen::schema(), Condition::Or(Vec::new())),
        "false"
    );
}

#[test]
fn case_is_ignored_by_the_folded_column_but_not_in_order() {
    assert_eq!(
        compare("code", Comparison::Eq, "x"),
        "c.\"code_folded\" = $2"
    );
    assert_eq!(compare("code", Comparison::Lt, "x"), "c.\"code\" < $2");
}

#[test]
fn whole_numbers_are_compared_with_decimals_by_whole_numbers() {
    let decimal = |text: &str| text.parse::<Decimal>().unwrap();
    for (op, value, sql) in [
        (Comparison::Eq, "1.50", "false"),
        (Comparison::Ne, "1.50", "true"),
        (Comparison::Lt, "1.50", "c.\"quantity\" <= $2"),
        (Comparison::Ge, "-1.50", "c.\"quantity\" > $2"),
        (Comparison::Ge, "2.00", "c.\"quantity\" >= $2"),
        (
            Comparison::Lt,
            "9223372036854775808",
            "c.\"quantity\" IS NOT NULL",
        ),
        (Comparison::Gt, "9223372036854775808", "false"),
    ] {
        assert_eq!(compare("quantity", op, decimal(value)), sql, "{value}");
    }
}

#[test]
fn what_cannot_be_sent_is_compared_by_its_place() {
    assert_eq!(
        compare("origin", Comparison::Lt, "a\0b"),
        "c.\"origin\" <= $2"
    );
    assert_eq!(compare("origin", Comparison::Eq, "a\0b"), "false");
    assert_eq!(compare("origin", Comparison::Ne, "a\0b"), "true");
    assert_eq!(
        compare("made_on", Comparison::Gt, NaiveDate::MIN),
        "c.\"made_on\" IS NOT NULL"
    );
    assert_eq!(compare("made_on", Comparison::Eq, 5_i64), "false");
    assert_eq!(compare("origin", Comparison::Ne, Value::Null), "true");
}

#[test]
fn the_number_of_values_does_not_show() {
    let several = |count: i64| {
        let values = (0..count).map(Value::from).collect();
        let field = FieldAt::new(place("quantity"));
        text_of(Specimen::schema(), Condition::In { field, values })
    };
    assert_eq!(several(0), "false");
    assert_eq!(several(1), "c.\"quantity\" = ANY($2)");
    assert_eq!(several(500), several(1));
}

#[test]
fn related_records_are_live_ones_of_the_same_tenant() {
    let object = Part::schema();
    let condition = Condition::Has {
        field: FieldAt::new(object.field_index("specimen_id").unwrap()),
        object: Specimen::schema().clone(),
        condition: Box::new(Condition::all()),
    };
    assert_eq!(
        text_of(object, condition),
        "EXISTS (SELECT 1 FROM \"crm\".\"specimens\" AS t1 WHERE t1.\"tenant_id\" = $1 \
         AND t1.\"id\" = c.\"specimen_id\" AND t1.\"deleted_at\" IS NULL AND true)"
    );
}

#[test]
fn records_that_lead_here_are_live_ones_of_the_same_tenant() {
    let any = |member: Option<&str>| {
        let field = if member.is_some() {
            "extra"
        } else {
            "parent_id"
        };
        let condition = Condition::Any {
            object: Specimen::schema().clone(),
            field: FieldAt {
                member: member.map(Into::into),
                ..FieldAt::new(place(field))
            },
            condition: Box::new(Condition::all()),
        };
        text_of(Specimen::schema(), condition)
    };
    assert_eq!(
        any(None),
        "EXISTS (SELECT 1 FROM \"crm\".\"specimens\" AS t1 WHERE t1.\"tenant_id\" = $1 \
         AND t1.\"parent_id\" = c.\"id\" AND t1.\"deleted_at\" IS NULL AND true)"
    );
    assert_eq!(
        any(Some("stile")),
        "EXISTS (SELECT 1 FROM \"crm\".\"specimens\" AS t1 WHERE t1.\"tenant_id\" = $1 \
         AND (CASE WHEN jsonb_typeof((t1.\"extra\" -> $2::text)) = 'string' \
         THEN (t1.\"extra\" -> $2::text) #>> '{}' END) = c.\"id\"::text \
         AND t1.\"deleted_at\" IS NULL AND true)"
    );
}

#[test]
fn each_step_of_a_walk_is_in_the_same_tenant() {
    let specimens = Specimen::schema();
    let condition = |part| Condition::InTree {
        field: FieldAt::new(place("parent_id")),
        tree: Tree {
            object: specimens.clone(),
            parent: place("parent_id"),
            part,
            of: Uuid::from_u128(7),
        },
    };
    let walk = |carried: &str, joined: &str| {
        format!(
            "c.\"parent_id\" IN (WITH RECURSIVE w1(id, leads_to) AS (\
             SELECT t1.\"id\", t1.\"{carried}\" FROM \"crm\".\"specimens\" AS t1 \
             WHERE t1.\"tenant_id\" = $1 AND t1.\"id\" = $2 AND t1.\"deleted_at\" IS NULL \
             UNION SELECT n.id, n.leads_to FROM w1 CROSS JOIN LATERAL (\
             SELECT t2.\"id\", t2.\"{carried}\" AS leads_to FROM \"crm\".\"specimens\" AS t2 \
             WHERE t2.\"tenant_id\" = $1 AND t2.\"{joined}\" = w1.leads_to \
             AND t2.\"deleted_at\" IS NULL OFFSET 0) AS n) SELECT w1.id FROM w1)"
        )
    };
    let within = text_of(specimens, condition(TreePart::Within));
    assert_eq!(within, walk("id", "parent_id"));
    let path_to = text_of(specimens, condition(TreePart::PathTo));
    assert_eq!(path_to, walk("parent_id", "id"));
}

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,6}",
        Just("'; DROP TABLE specimens; --\u{0}".to_owned())
    ]
    .prop_map(|text| format!("{text}{HOSTILE}\"'$0)"))
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => hostile().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<u128>().prop_map(|id| Value::from(Uuid::from_u128(id))),
        1 => Just(Value::from(Decimal::MAX)),
        1 => hostile().prop_map(|text| Value::Json(serde_json::json!({ text: 1 }))),
        1 => hostile().prop_map(|text| Value::from(vec![text])),
    ]
}

fn fields() -> impl Strategy<Value = FieldAt> {
    let count = Specimen::schema().fields().len();
    use StorageKind::{Boolean, Date, Integer, Json, List, Text, Timestamp, Uuid as Id};
    let custom = (
        prop::sample::select(vec![
            Text,
            Boolean,
            Integer,
            StorageKind::Decimal,
            Date,
            Timestamp,
            Id,
            List,
            Json,
        ]),
        any::<bool>(),
    )
        .prop_map(|(kind, indexed)| CustomMember {
            field: Uuid::nil(),
            kind,
            indexed,
        });
    let custom = prop::option::of(custom);
    (
        0..count + 1,
        any::<bool>(),
        hostile(),
        custom,
        any::<bool>(),
    )
        .prop_map(|(index, has_member, member, custom, ignore_case)| FieldAt {
            index,
            member: has_member.then(|| member.into()),
            custom: custom.filter(|_| has_member),
            ignore_case,
        })
}

fn conditions() -> impl Strategy<Value = Condition> {
    use Comparison::{Eq, Ge, Gt, Le, Lt, Ne};
    let leaf = prop_oneof![
        (
            fields(),
            prop::sample::select(vec![Eq, Ne, Lt, Le, Gt, Ge]),
            values()
        )
            .prop_map(|(field, op, value)| Condition::Compare { field, op, value }),
        (fields(), prop::collection::vec(values(), 0..4))
            .prop_map(|(field, values)| Condition::In { field, values }),
        (fields(), any::<bool>()).prop_map(|(field, is_null)| Condition::Null { field, is_null }),
        (fields(), any::<bool>(), hostile()).prop_map(|(field, starts, folded)| {
            let op = if starts {
                TextMatch::StartsWith
            } else {
                TextMatch::Contains
            };
            Condition::Text { field, op, folded }
        }),
        (
            any::<bool>(),
            any::<bool>(),
            prop::collection::vec(hostile(), 0..3)
        )
            .prop_map(|(tags, any, values)| Condition::List {
                field: FieldAt::new(place(if tags { "tags" } else { "labels" })),
                op: if any { ListMatch::Any } else { ListMatch::All },
                values,
            }),
        (
            prop::sample::select(vec!["id", "parent_id", "origin"]),
            any::<bool>(),
            any::<u128>()
        )
            .prop_map(|(field, within, of)| Condition::InTree {
                field: FieldAt::new(place(field)),
                tree: Tree {
                    object: Specimen::schema().clone(),
                    parent: place("parent_id"),
                    part: if within {
                        TreePart::Within
                    } else {
                        TreePart::PathTo
                    },
                    of: Uuid::from_u128(of),
                },
            }),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Condition::And),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Condition::Or),
            inner
                .clone()
                .prop_map(|inner| Condition::Not(Box::new(inner))),
            inner.clone().prop_map(|inner| Condition::Has {
                field: FieldAt::new(place("parent_id")),
                object: Specimen::schema().clone(),
                condition: Box::new(inner),
            }),
            (inner, prop::option::of(hostile()), any::<bool>()).prop_map(
                |(inner, member, is_part)| {
                    let of_part = || Part::schema().field_index("specimen_id").unwrap();
                    let index = match (&member, is_part) {
                        (Some(_), _) => place("extra"),
                        (None, true) => of_part(),
                        (None, false) => place("parent_id"),
                    };
                    let object = if is_part && member.is_none() {
                        Part::schema()
                    } else {
                        Specimen::schema()
                    };
                    // The condition is one over specimens: one way or the other.
                    let condition = if object == Specimen::schema() {
                        inner
                    } else {
                        Condition::Has {
                            field: FieldAt::new(index),
                            object: Specimen::schema().clone(),
                            condition: Box::new(inner),
                        }
                    };
                    Condition::Any {
                        object: object.clone(),
                        field: FieldAt {
                            member: member.map(Into::into),
                            ..FieldAt::new(index)
                        },
                        condition: Box::new(condition),
                    }
                },
            ),
        ]
    })
}

/// Every table of the text stands with the tenant's predicate; returns how many there are.
fn check_tenants(text: &str) -> usize {
    let mut count = 0;
    for rest in text.split(" FROM \"crm\".").skip(1) {
        let (_, rest) = rest.split_once(" AS ").unwrap();
        let (alias, rest) = rest.split_once(" WHERE ").unwrap();
        let own = format!("{alias}.\"tenant_id\" = $1 AND ");
        let rest = rest.strip_prefix("scope.is_set AND ").unwrap_or(rest);
        assert!(rest.starts_with(&own), "{text}");
        count += 1;
    }
    assert_eq!(text.matches("\"crm\".\"").count(), count, "{text}");
    count
}

fn check(statement: Statement) {
    let text = statement.text().to_owned();
    // Only what the schema and this module write is in the text.
    assert!(text.is_ascii(), "{text}");
    assert!(!text.contains("stile") && !text.contains("DROP"), "{text}");
    assert!(!text.contains("$0"), "{text}");
    assert!(check_tenants(&text) >= 1);
    statement.finish().unwrap();
}

proptest! {
    #[test]
    fn nothing_of_a_filter_is_in_the_text(
        condition in conditions(),
        sort in prop::collection::vec((0..Specimen::schema().fields().len(), any::<bool>()), 0..4),
        after in prop::collection::vec(prop_oneof![3 => values(), 1 => Just(Value::Null)], 5),
        limit in prop_oneof![1..100_usize, Just(usize::MAX)],
    ) {
        let tables = Tables::new("crm");
        let table = tables.of(Specimen::schema());
        let sort = sort
            .into_iter()
            .map(|(index, descending)| SortKey { index, descending })
            .collect();
        let mut query = Query::new(Specimen::schema(), condition.clone()).sort(sort).limit(limit);
        let statement = select::select(&tables, &table, &tenant(), &query).unwrap();
        check(statement);
        query.after = Some(after);
        if let Some(statement) = select::select(&tables, &table, &tenant(), &query) {
            check(statement);
        }
        let mut query = AggregateQuery::count(Specimen::schema(), condition);
        query.measures.push(Measure::Max(place("token")));
        query.groups = vec![
            Grouping::Field(place("origin")),
            Grouping::Calendar {
                index: place("seen_at"),
                unit: CalendarUnit::Week,
                time_zone: "Europe/Prague".parse().unwrap(),
            },
        ];
        let statement = aggregate::aggregate(&tables, &table, &tenant(), &query).unwrap();
        check(statement);
    }

    #[test]
    fn a_prefix_is_a_range(text in "[a\u{D7FF}\u{E000}\u{10FFFF}]{0,4}", prefix in "[a\u{D7FF}\u{E000}\u{10FFFF}]{0,3}") {
        let is_in_range = match behind_prefix(&prefix) {
            Some(behind) => text >= prefix && text < behind,
            None => text >= prefix,
        };
        if behind_prefix(&prefix).is_some() {
            prop_assert_eq!(is_in_range, text.starts_with(&prefix));
        } else {
            prop_assert!(prefix.chars().all(|last| last == char::MAX));
        }
    }
}

#[test]
fn a_scope_that_sees_nothing_sends_nothing() {
    let tables = Tables::new("crm");
    let specimens = tables.of(Specimen::schema());
    let platform = Scope::Platform;
    let query = Query::new(Specimen::schema(), Condition::all());
    assert!(select::get(&specimens, &platform, &[Uuid::nil()]).is_none());
    assert!(select::select(&tables, &specimens, &platform, &query).is_none());
    let count = AggregateQuery::count(Specimen::schema(), Condition::all());
    assert!(aggregate::aggregate(&tables, &specimens, &platform, &count).is_none());
    let groups = aggregate::decode_groups(&count, &[]).unwrap();
    assert_eq!(groups[0].measures, [Value::Integer(0)]);
    // A tenant sees only itself among the tenants, and no tenant through a platform's scope.
    let laboratories = tables.of(Laboratory::schema());
    let statement = select::get(&laboratories, &tenant(), &[Uuid::nil()]).unwrap();
    assert!(
        statement
            .text()
            .contains("scope.is_set AND c.\"id\" = $1 AND")
    );
    let statement = select::get(&laboratories, &platform, &[Uuid::nil()]).unwrap();
    assert!(statement.text().contains("scope.is_set AND true AND"));
}
